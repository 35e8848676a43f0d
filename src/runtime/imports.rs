//! What an instance is given for its imports: checks it and puts it into the index spaces.

use super::deferred::final_target;
use super::global::Globals;
use super::group::{Records, room_for};
use super::instance::{Extern, Instance};
use super::records::{FuncRec, GlobalRec, InstanceRec, MemoryRec, TableRec};
use super::store::StoreCore;
use super::{func, memory, table};
use crate::error::{Error, ErrorKind, Result};
use crate::module::{
    ExternKind, ExternType, GlobalType, Import, MemoryType, Module, TableType, ValType,
};
use crate::shown::shown;

/// Something for an import.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Given {
    Item(Extern),
    /// The function with this index in an instance's index space of functions; if it leads to another one, that one.
    /// A linker binds tens of thousands, so this spares the way over a handle and back.
    Function {
        instance: Instance,
        index: u32,
    },
    /// One of the cells that were made for the instance ([`Global::cells`](super::Global)).
    Cell {
        globals: Globals,
        place: u32,
    },
}

/// The index spaces of the instance, imports first.
#[derive(Default)]
pub(super) struct Spaces {
    pub funcs: Vec<*mut FuncRec>,
    pub tables: Vec<*mut TableRec>,
    pub memories: Vec<*mut MemoryRec>,
    pub globals: Vec<*mut GlobalRec>,
}

/// Checks the imports and puts them into the index spaces. No effect.
///
/// # Errors
/// The module is of another engine, a wrong number of imports, an import of another store or of a wrong type.
pub(super) fn check_imports(
    core: &StoreCore,
    module: &Module,
    imports: impl ExactSizeIterator<Item = Option<Given>>,
) -> Result<Spaces> {
    let inner = &module.0;
    if !inner.engine.same(&core.engine) {
        return Err(Error::usage(
            "the module was made with another engine than the store",
        ));
    }
    if inner.imports.len() != imports.len() {
        return Err(Error::usage(format!(
            "the module has {} imports, {} were given",
            inner.imports.len(),
            imports.len()
        )));
    }
    check_counts(core, module)?;
    let mut spaces = Spaces {
        funcs: room_for(inner.funcs.len(), "an instance's functions")?,
        tables: room_for(inner.tables.len(), "an instance's tables")?,
        memories: room_for(inner.memories.len(), "an instance's memories")?,
        globals: room_for(inner.globals.len(), "an instance's globals")?,
    };
    // Functions of one instance mostly come one after the other.
    let mut last: Option<(Instance, *mut InstanceRec)> = None;
    let mut cells: Option<(Globals, &Records<GlobalRec>)> = None;
    for (import, given) in inner.imports.iter().zip(imports) {
        let given = given.ok_or_else(|| Error::usage("an import was not given"))?;
        let (instance, index) = match given {
            Given::Item(item) => {
                check_import(core, module, import, item, &mut spaces)?;
                continue;
            }
            Given::Cell { globals, place } => {
                let records = match cells {
                    Some((known, records)) if known == globals => records,
                    _ => core.records_of(globals)?,
                };
                cells = Some((globals, records));
                let record = records.get(place);
                let record = record.ok_or_else(|| Error::usage("there is no such cell"))?;
                // SAFETY: the record is live, and the reference to it ends with the statement.
                let handle = unsafe {
                    if import.ty == ExternKind::Global((*record).ty) {
                        spaces.globals.push(record);
                        continue;
                    }
                    (*record).handle(core.id)
                };
                check_import(core, module, import, handle.into(), &mut spaces)?;
                continue;
            }
            Given::Function { instance, index } => (instance, index),
        };
        let provider = match last {
            Some((handle, record)) if handle == instance => record,
            _ => core.find_instance(instance)?,
        };
        last = Some((instance, provider));
        // SAFETY: the record is live, and nothing changes it meanwhile.
        let found = unsafe { function(provider, index) };
        match (import.ty, found) {
            (ExternKind::Func(ty), Some((record, found)))
                if found == inner.type_ids[ty as usize] =>
            {
                spaces.funcs.push(record);
            }
            // SAFETY: index spaces hold live records.
            (_, Some((record, _))) => unsafe {
                let item = (*record).handle(core.id).into();
                check_import(core, module, import, item, &mut spaces)?;
            },
            (_, None) => {
                return Err(Error::usage(format!("an instance has no function {index}")));
            }
        }
    }
    Ok(spaces)
}

/// A function of an instance, or what it leads to, and the canonical id of its type.
///
/// # Safety
/// The instance is live and does not change.
unsafe fn function(instance: *const InstanceRec, index: u32) -> Option<(*mut FuncRec, u32)> {
    // SAFETY: by the contract; index spaces hold live records.
    unsafe {
        let inner = &*(&(*instance).module).0;
        let place = index as usize;
        let record = *(&(*instance).funcs).get(place)?;
        if place >= inner.imported_funcs {
            // What the module itself defines is told by the module: records are large, and most are cold.
            return Some((record, inner.type_ids[inner.funcs[place] as usize]));
        }
        let record = final_target(record);
        Some((record, (*record).ty))
    }
}

/// Checks how many memories and tables the module defines.
///
/// # Errors
/// More than the engine allows.
fn check_counts(core: &StoreCore, module: &Module) -> Result<()> {
    let (inner, limits) = (&module.0, &core.engine.config().limits);
    let memories = inner.memories.len() - inner.imported_memories;
    let tables = inner.tables.len() - inner.imported_tables;
    for (what, needed, allowed) in [
        (
            "memories of a module (Limits::memories)",
            memories,
            limits.memories,
        ),
        ("tables of a module (Limits::tables)", tables, limits.tables),
    ] {
        if needed > allowed {
            return Err(memory::limit(what, needed as u64, allowed as u64));
        }
    }
    Ok(())
}

/// Checks one import and adds it to its index space.
///
/// # Errors
/// It is of another store or has a wrong type.
fn check_import(
    core: &StoreCore,
    module: &Module,
    import: &Import,
    given: Extern,
    spaces: &mut Spaces,
) -> Result<()> {
    let inner = &*module.0;
    let named = |error: Error| {
        error.context(format!(
            "import `{}.{}`",
            shown(inner.import_module(import)),
            shown(&import.name)
        ))
    };
    // SAFETY: lookups give live records, and the references to them end with their statements.
    let fits = unsafe {
        match (import.ty, given) {
            (ExternKind::Func(ty), Extern::Func(handle)) => {
                let record = core.find_func(handle).map_err(named)?;
                spaces.funcs.push(record);
                (*record).ty == inner.type_ids[ty as usize]
            }
            (ExternKind::Table(wanted), Extern::Table(handle)) => {
                let record = core.find_table(handle).map_err(named)?;
                spaces.tables.push(record);
                let found = table::type_of(record);
                let wanted = &inner.tables[wanted as usize].ty;
                wanted.element == found.element
                    && limits_fit(
                        (wanted.minimum, wanted.maximum),
                        (found.minimum, found.maximum),
                    )
            }
            (ExternKind::Memory(wanted), Extern::Memory(handle)) => {
                let record = core.find_memory(handle).map_err(named)?;
                spaces.memories.push(record);
                let found = memory::type_of(record);
                let wanted = &inner.memories[wanted as usize];
                limits_fit(
                    (wanted.minimum, wanted.maximum),
                    (found.minimum, found.maximum),
                )
            }
            (ExternKind::Global(wanted), Extern::Global(handle)) => {
                let record = core.find_global(handle).map_err(named)?;
                spaces.globals.push(record);
                (*record).ty == wanted
            }
            _ => false,
        }
    };
    if fits {
        return Ok(());
    }
    let found = found_type(core, given).map_err(named)?;
    Err(Error::new(ErrorKind::Import {
        module: inner.import_module(import).to_string(),
        name: import.name.to_string(),
        reason: format!(
            "incompatible import type: expected {}, found {}",
            describe(&inner.import_type(import.ty)),
            describe(&found)
        ),
    }))
}

/// Whether an object with the limits `found` (its size and maximum) can be imported as `wanted`.
fn limits_fit(wanted: (u64, Option<u64>), found: (u64, Option<u64>)) -> bool {
    let maximum_fits = match (wanted.1, found.1) {
        (None, _) => true,
        (Some(wanted), Some(found)) => found <= wanted,
        (Some(_), None) => false,
    };
    found.0 >= wanted.0 && maximum_fits
}

/// The type of what was given for an import.
///
/// # Errors
/// It is of another store.
fn found_type(core: &StoreCore, given: Extern) -> Result<ExternType> {
    // SAFETY: lookups give live records.
    unsafe {
        Ok(match given {
            Extern::Func(handle) => ExternType::Func(func::type_of(core, core.find_func(handle)?)),
            Extern::Global(handle) => ExternType::Global((*core.find_global(handle)?).ty),
            Extern::Table(handle) => ExternType::Table(table::type_of(core.find_table(handle)?)),
            Extern::Memory(handle) => {
                ExternType::Memory(memory::type_of(core.find_memory(handle)?))
            }
        })
    }
}

/// A type in words.
pub(crate) fn describe(ty: &ExternType) -> String {
    let bounds = |minimum: u64, maximum: Option<u64>| match maximum {
        Some(maximum) => format!("{minimum} to {maximum}"),
        None => format!("at least {minimum}"),
    };
    match ty {
        ExternType::Func(ty) => format!("function {ty}"),
        ExternType::Global(GlobalType { value, mutable }) => {
            let word = if *mutable { "mutable" } else { "immutable" };
            format!("{word} global of type {value}")
        }
        ExternType::Table(TableType {
            element,
            minimum,
            maximum,
        }) => format!(
            "table of {} elements of type {}",
            bounds(*minimum, *maximum),
            ValType::Ref(*element)
        ),
        ExternType::Memory(MemoryType { minimum, maximum }) => {
            format!("memory of {} pages", bounds(*minimum, *maximum))
        }
    }
}
