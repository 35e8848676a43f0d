//! Validated WebAssembly to ir.
