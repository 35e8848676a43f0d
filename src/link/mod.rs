//! The dynamic linker: a main module and its side modules in one process.
