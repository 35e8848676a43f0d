//! Objects that exist while a program runs: stores, instances, functions, memories, tables, globals.
//! `runtime` never names `exec`; calls enter through a hook that `exec` installs in the store.

mod func;
mod global;
mod instance;
mod limits;
mod linker;
pub(crate) mod memory;
pub(crate) mod records;
pub(crate) mod store;
pub(crate) mod table;
mod value;

pub use func::{Caller, Func, IntoFunc, TypedFunc, WasmParams, WasmResults, WasmTy};
pub use global::Global;
pub use instance::{Extern, Instance};
pub use limits::{InterruptHandle, ResourceLimiter, StoreLimits};
pub use linker::Linker;
pub use memory::Memory;
pub(crate) use store::Mark;
pub use store::{AsContext, AsContextMut, Store, StoreContext, StoreContextMut};
pub use table::Table;
pub use value::{Ref, Val};
