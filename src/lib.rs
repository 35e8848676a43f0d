//! wasm-dynlink: a WebAssembly interpreter with a dynamic linker built in.
//!
//! Map of the crate, each layer using only those before it:
//! `shown`, `error`, `trap`, `config` ← `module` ← `ir` ← `translate` ← `runtime` ← `exec` ← `link` ← `host` ← `cli`.

// Tests that are shared with other crates name this one as they do.
#[cfg(test)]
extern crate self as dynlink;

pub mod config;
mod error;
mod exec;
#[cfg(feature = "host")]
pub mod host;
mod ir;
pub mod link;
mod module;
mod runtime;
mod shown;
mod translate;
mod trap;
mod watch;

#[cfg(feature = "cli")]
pub mod cli;

#[cfg(feature = "cli")]
pub use cli::program::{Program, ProgramBuilder};
pub use config::{Config, Dispatch, Engine, Limits};
#[doc(hidden)]
pub use exec::{count_op_pairs, globals_read, op_coverage, op_pairs};

pub use error::{Error, ErrorKind, Result};
pub use module::{
    DylinkInfo, DylinkPatch, ExportType, ExternType, FuncType, GlobalType, ImportType, MemoryType,
    Module, OperatorText, RefType, Section, SymbolFlags, TableType, ValType, sections,
};
pub use runtime::{
    AsContext, AsContextMut, Caller, Extern, Func, Global, HostResults, Instance, InterruptHandle,
    IntoFunc, Linker, Memory, Ref, ResourceLimiter, Store, StoreContext, StoreContextMut,
    StoreLimits, Table, TypedFunc, Val, WasmParams, WasmResults, WasmTy,
};
pub use trap::{Backtrace, Frame, Trap, TrapCode};

/// The examples of the README are tests.
#[cfg(all(doctest, feature = "cli"))]
#[doc = include_str!("../README.md")]
pub struct ReadmeExamples;
