//! The fast way from bytes to a validated module: it accepts what it is sure of and declines the rest.
//!
//! Nearly all modules are valid and made of WebAssembly 2.0. For those, `sections` reads and checks everything but the
//! bodies of functions in one pass, straight into [`ModuleInner`](super::ModuleInner), and `body` type-checks bodies with
//! types as bytes and tables in place of visitors. Neither ever says that something is *invalid*: what they do not know
//! or do not accept, they decline, and wasmparser's validator (`parse`, `validate`) decides and words the error. So they
//! only have to be right when they accept, and a proposal that they have never heard of costs speed, not correctness.
//! The tests hold both against the validator.
#![forbid(unsafe_code)]

pub(super) mod body;
pub(super) mod sections;
#[cfg(test)]
mod tests;
