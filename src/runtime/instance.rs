//! Instances: the handle and the exports behind it.

use super::deferred::final_target;
use super::func::Func;
use super::global::Global;
use super::imports::Given;
use super::instantiate::instantiate;
use super::memory::Memory;
use super::records::InstanceRec;
use super::store::{AsContext, AsContextMut};
use super::table::Table;
use super::typed::{TypedFunc, WasmParams, WasmResults};
use crate::error::{Error, Result};
use crate::module::{ExportItem, ExternType, Module};

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

macro_rules! externs {
    ($($kind:ident, $into:ident, $doc:literal;)*) => {
        impl Extern { $(
            #[doc = $doc]
            pub fn $into(self) -> Option<$kind> {
                match self {
                    Extern::$kind(item) => Some(item),
                    _ => None,
                }
            }
        )* }
        $(
            impl From<$kind> for Extern {
                fn from(item: $kind) -> Extern {
                    Extern::$kind(item)
                }
            }
        )*
    };
}
externs! {
    Func, into_func, "The function, if it is one.";
    Global, into_global, "The global, if it is one.";
    Table, into_table, "The table, if it is one.";
    Memory, into_memory, "The memory, if it is one.";
}

impl Extern {
    /// Its type (memories and tables with their present size as minimum).
    pub fn ty(&self, store: impl AsContext) -> ExternType {
        match self {
            Extern::Func(func) => ExternType::Func(func.ty(store)),
            Extern::Global(global) => ExternType::Global(global.ty(store)),
            Extern::Table(table) => ExternType::Table(table.ty(store)),
            Extern::Memory(memory) => ExternType::Memory(memory.ty(store)),
        }
    }
}

impl Instance {
    /// Instantiates a module: `imports` in the order of the module's imports. Runs the start function.
    ///
    /// # Errors
    /// An import of a wrong type, a limit, a segment out of bounds, or a trap in the start function. As the specification says,
    /// segments that were copied before a later one failed stay copied.
    pub fn new(
        mut store: impl AsContextMut,
        module: &Module,
        imports: &[Extern],
    ) -> Result<Instance> {
        let given = imports.iter().map(|item| Some(Given::Item(*item)));
        Instance::linked(&mut store, module, given)
    }

    /// As [`Instance::new`], for a linker.
    ///
    /// # Errors
    /// As [`Instance::new`], or something is not given.
    pub(crate) fn linked(
        mut store: impl AsContextMut,
        module: &Module,
        imports: impl ExactSizeIterator<Item = Option<Given>>,
    ) -> Result<Instance> {
        let (core, pointer) = store.as_context_mut().0.pointers();
        // SAFETY: both pointers come from the exclusive borrow of the store, which lasts for the call.
        unsafe { instantiate(core, pointer, module, imports) }
    }

    /// The module.
    pub fn module(&self, store: impl AsContext) -> Module {
        let instance = store.as_context().0.core.instance(*self);
        // SAFETY: the record is live while the store is borrowed.
        unsafe { (&(*instance).module).clone() }
    }

    /// An export by name. O(1).
    pub fn get_export(&self, mut store: impl AsContextMut, name: &str) -> Option<Extern> {
        let instance = store.as_context_mut().0.core.instance(*self);
        // SAFETY: the record is live while the store is borrowed, and export indices are valid.
        unsafe {
            let module = &(&(*instance).module).0;
            Some(item(instance, self.store, module.export(name)?))
        }
    }

    /// All exports in order.
    pub fn exports(&self, mut store: impl AsContextMut) -> Vec<(String, Extern)> {
        let instance = store.as_context_mut().0.core.instance(*self);
        // SAFETY: the record is live while the store is borrowed, and export indices are valid.
        unsafe {
            let exports = (&(*instance).module).0.exports();
            exports
                .map(|export| {
                    (
                        export.name.to_string(),
                        item(instance, self.store, export.item),
                    )
                })
                .collect()
        }
    }

    /// The function with this index in the index space of the instance's module; if it leads to another function, that
    /// one.
    pub(crate) fn resolved_func(&self, store: impl AsContext, index: u32) -> Option<Func> {
        let core = &store.as_context().0.core;
        let instance = core.instance(*self);
        // SAFETY: the record is live while the store is borrowed; index spaces hold live records.
        unsafe {
            let module = &(*instance).module;
            if let Some(own) = self.own_func(module, index) {
                return Some(own);
            }
            let record = *(&(*instance).funcs).get(usize::try_from(index).ok()?)?;
            Some((*final_target(record)).handle(self.store))
        }
    }

    /// The function with this index if the instance's module, which the caller knows, defines it itself: its handle
    /// follows from that.
    #[inline]
    pub(crate) fn own_func(&self, module: &Module, index: u32) -> Option<Func> {
        let index = usize::try_from(index).ok()?;
        let place = index.checked_sub(module.0.imported_funcs)?;
        (index < module.0.funcs.len()).then_some(Func {
            store: self.store,
            group: self.group,
            place: u32::try_from(place).ok()?,
        })
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
        mut store: impl AsContextMut,
        name: &str,
    ) -> Result<TypedFunc<P, R>> {
        let mut store = store.as_context_mut();
        let func = self
            .get_func(&mut store, name)
            .ok_or_else(|| Error::usage(format!("the instance exports no function `{name}`")))?;
        func.typed(&store)
            .map_err(|error| error.context(format!("export `{name}`")))
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

/// How many functions of each instance (by its group) are translated, and the bytes of their code.
pub(crate) fn translated<T: 'static>(
    store: &super::store::StoreContext<'_, T>,
) -> std::collections::HashMap<u32, (usize, usize)> {
    let mut sizes = std::collections::HashMap::new();
    for (_, code) in store.0.core.code.iter() {
        let (functions, bytes): &mut (usize, usize) = sizes.entry(code.group).or_default();
        *functions += usize::from(!code.record.is_null());
        *bytes += size_of_val(&*code.words) + size_of_val(&*code.places);
    }
    sizes
}

/// The handle of something in an instance's index spaces.
///
/// # Safety
/// `instance` is a live record of the store with this number, and the index is valid for its module.
unsafe fn item(instance: *const InstanceRec, store: u32, item: ExportItem) -> Extern {
    // SAFETY: by the contract; index spaces hold live records.
    unsafe {
        match item {
            ExportItem::Func(i) => (*(&(*instance).funcs)[i as usize]).handle(store).into(),
            ExportItem::Table(i) => (*(&(*instance).tables)[i as usize]).handle(store).into(),
            ExportItem::Memory(i) => (*(&(*instance).memories)[i as usize]).handle(store).into(),
            ExportItem::Global(i) => (*(&(*instance).globals)[i as usize]).handle(store).into(),
        }
    }
}
