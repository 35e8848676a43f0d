//! Instances: creation with all checks before any effect, and their exports.

use super::func::Func;
use super::func::{TypedFunc, WasmParams, WasmResults};
use super::global::Global;
use super::memory::Memory;
use super::store::{AsContext, AsContextMut};
use super::table::Table;
use crate::error::Result;
use crate::module::{ExternType, Module};

/// An instance of a module in a store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Instance {
    pub(crate) store: u32,
    pub(crate) group: u32,
}

/// Something that can be imported or exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extern {
    /// A function.
    Func(Func),
    /// A global.
    Global(Global),
    /// A table.
    Table(Table),
    /// A memory.
    Memory(Memory),
}

impl Extern {
    /// The function, if it is one.
    pub fn into_func(self) -> Option<Func> {
        if let Extern::Func(f) = self {
            Some(f)
        } else {
            None
        }
    }
    /// The global, if it is one.
    pub fn into_global(self) -> Option<Global> {
        if let Extern::Global(g) = self {
            Some(g)
        } else {
            None
        }
    }
    /// The table, if it is one.
    pub fn into_table(self) -> Option<Table> {
        if let Extern::Table(t) = self {
            Some(t)
        } else {
            None
        }
    }
    /// The memory, if it is one.
    pub fn into_memory(self) -> Option<Memory> {
        if let Extern::Memory(m) = self {
            Some(m)
        } else {
            None
        }
    }
    /// Its type (memories and tables with their present size as minimum).
    pub fn ty(&self, _store: impl AsContext) -> ExternType {
        todo!()
    }
}

impl Instance {
    /// Instantiates a module: `imports` in the order of the module's imports. Runs the start function.
    ///
    /// # Errors
    /// An import of a wrong type, a limit, a segment out of bounds, or a trap in the start function. As the specification says,
    /// segments that were copied before a later one failed stay copied.
    pub fn new(
        _store: impl AsContextMut,
        _module: &Module,
        _imports: &[Extern],
    ) -> Result<Instance> {
        todo!()
    }
    /// The module.
    pub fn module(&self, _store: impl AsContext) -> Module {
        todo!()
    }
    /// An export by name. O(1).
    pub fn get_export(&self, _store: impl AsContextMut, _name: &str) -> Option<Extern> {
        todo!()
    }
    /// All exports in order.
    pub fn exports(&self, _store: impl AsContextMut) -> Vec<(String, Extern)> {
        todo!()
    }
    /// An exported function.
    pub fn get_func(&self, store: impl AsContextMut, name: &str) -> Option<Func> {
        self.get_export(store, name)?.into_func()
    }
    /// An exported function with its types checked.
    ///
    /// # Errors
    /// No such function, or another type.
    pub fn get_typed_func<P: WasmParams, R: WasmResults>(
        &self,
        _store: impl AsContextMut,
        _name: &str,
    ) -> Result<TypedFunc<P, R>> {
        todo!()
    }
    /// An exported memory.
    pub fn get_memory(&self, store: impl AsContextMut, name: &str) -> Option<Memory> {
        self.get_export(store, name)?.into_memory()
    }
    /// An exported table.
    pub fn get_table(&self, store: impl AsContextMut, name: &str) -> Option<Table> {
        self.get_export(store, name)?.into_table()
    }
    /// An exported global.
    pub fn get_global(&self, store: impl AsContextMut, name: &str) -> Option<Global> {
        self.get_export(store, name)?.into_global()
    }
}
