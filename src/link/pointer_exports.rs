//! Symbols that a module tells through functions: cowasm's `__WASM_EXPORT__X`, a function without parameters whose
//! result is the address of `X`.
//!
//! The functions are never called. They are exports of a *command* module, where every call of an export runs all
//! constructors before and all destructors after it. Their bodies say the address plainly (a constant, or a global plus
//! a constant), so they are read instead.
#![forbid(unsafe_code)]

use crate::module::{
    Address, ConstExpr, ExportItem, ExternKind, Module, ModuleInner, POINTER_PREFIX,
    address_function,
};
pub(crate) use crate::module::{has_type, is_empty, operators};
use std::collections::HashMap;

/// Where the address of a symbol comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pointer {
    /// The address itself.
    Absolute(u32),
    /// Relative to the object's memory base.
    MemoryBase(u32),
    /// Relative to the object's table base.
    TableBase(u32),
    /// The value of a GOT cell that the object imports, plus an offset: index of the import.
    Got { import: u32, offset: u32 },
}

/// Reads all symbols that the module tells through functions. Exports with the prefix but another kind of body are
/// handed back by name.
pub(crate) fn read(module: &Module) -> (HashMap<Box<str>, Pointer>, Vec<Box<str>>) {
    let inner = &*module.0;
    let mut pointers = HashMap::new();
    let mut unreadable = Vec::new();
    let mut globals = None;
    for (place, name) in inner.export_names().enumerate() {
        if !name.starts_with(POINTER_PREFIX.as_bytes()) {
            continue;
        }
        let Some(export) = inner.export_at(place) else {
            continue;
        };
        let (Some(name), ExportItem::Func(func)) =
            (export.name.strip_prefix(POINTER_PREFIX), export.item)
        else {
            continue;
        };
        let globals = globals.get_or_insert_with(|| imported_globals(inner));
        match address_function(inner, func).and_then(|body| pointer(inner, globals, body)) {
            Some(pointer) => {
                pointers.insert(name.into(), pointer);
            }
            None => unreadable.push(export.name.into()),
        }
    }
    (pointers, unreadable)
}

/// The places of the imported globals in the list of imports.
pub(crate) fn imported_globals(module: &ModuleInner) -> Vec<u32> {
    module
        .imports
        .iter()
        .zip(0u32..)
        .filter(|(import, _)| matches!(import.ty, ExternKind::Global(_)))
        .map(|(_, place)| place)
        .collect()
}

fn pointer(module: &ModuleInner, globals: &[u32], address: Address) -> Option<Pointer> {
    let (index, offset) = match address {
        Address::Constant(value) => return Some(Pointer::Absolute(value)),
        Address::Global { index, offset } => (usize::try_from(index).ok()?, offset),
    };
    let Some(place) = globals.get(index) else {
        let global = module.globals.get(index)?;
        // A mutable global has no value before the program runs.
        return match (&global.init, global.ty.mutable) {
            (Some(ConstExpr::Value(value)), false) => {
                let value = u32::try_from(value & 0xffff_ffff).ok()?;
                Some(Pointer::Absolute(value.wrapping_add(offset)))
            }
            _ => None,
        };
    };
    let import = module.imports.get(usize::try_from(*place).ok()?)?;
    match (module.import_module(import), &*import.name) {
        ("GOT.mem" | "GOT.func", _) => Some(Pointer::Got {
            import: *place,
            offset,
        }),
        ("env", "__memory_base") => Some(Pointer::MemoryBase(offset)),
        ("env", "__table_base") => Some(Pointer::TableBase(offset)),
        _ => None,
    }
}
