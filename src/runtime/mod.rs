//! Objects that exist while a program runs: stores, instances, functions, memories, tables, globals.
//! `runtime` never names `exec`; calls enter through a hook that `exec` installs in the store.
//!
//! Map: [`records`] is what translated code points at, [`group`] who owns it, [`store`] who owns the
//! groups. [`func`], [`memory`], [`table`], [`global`] and [`instance`] are the handles of the API,
//! with the operations on the record behind each; [`host`] makes functions from closures,
//! [`typed`] and [`value`] carry values in and out, [`deferred`] holds functions that lead to others,
//! [`instantiate`] makes instances of what [`imports`] checked, [`release`] takes them away, [`linker`] finds imports by name,
//! [`budget`] and [`limits`] bound what all of them may use.
#![allow(
    clippy::needless_borrow,
    reason = "references to what a raw pointer leads to are written out: rustc refuses most implicit ones"
)]

mod budget;
pub(crate) mod deferred;
mod func;
mod global;
pub(crate) mod group;
mod host;
mod imports;
mod instance;
mod instantiate;
mod limits;
mod linker;
pub(crate) mod memory;
mod pages;
pub(crate) mod records;
mod release;
pub(crate) mod store;
pub(crate) mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod typed;
mod value;

pub use func::Func;
pub use global::Global;
pub(crate) use global::Globals;
pub use host::{Caller, HostResults, IntoFunc};
pub(crate) use imports::Given;
pub(crate) use instance::translated;
pub use instance::{Extern, Instance};
pub use limits::{InterruptHandle, ResourceLimiter, StoreLimits};
pub use linker::Linker;
pub use memory::Memory;
pub(crate) use store::Mark;
pub use store::{AsContext, AsContextMut, Store, StoreContext, StoreContextMut};
pub use table::Table;
pub use typed::{TypedFunc, WasmParams, WasmResults, WasmTy};
pub use value::{Ref, Val};
