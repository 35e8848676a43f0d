//! What kind of main module a file is (rules S1 to S9).
//!
//! | shape | bases | memory, table | stack pointer |
//! |---|---|---|---|
//! | position-independent (`-pie`) | imported | imported, or memory exported | imported |
//! | fixed addresses, `dylink.0` | not imported | exported | exported if libraries need it |
//! | static, no dynamic linking section | not imported | exported | exported if libraries need it |
//! | static, as cowasm's kernel | not imported | imported, although its addresses are absolute | its own |
//!
//! So two questions decide, each on its own: are the bases imported, and where is each of memory, table and stack
//! pointer? The section (`dylink.0`, the older `dylink`, or none) does not matter to the answer.
#![forbid(unsafe_code)]

use super::pointer_exports::{has_type, operators};
use crate::module::{ExportItem, ExternKind, Module, ModuleInner, ValType};
use wasmparser::Operator;

/// Operators read of a function before it is taken for more than a wrapper or `_start`.
const MAX_OPERATORS: usize = 256;

/// Where a module has something that the process has once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// It imports it.
    Imported,
    /// It defines it and exports it under this name.
    Exported(String),
    /// It defines it for itself.
    Private,
    /// It has none.
    Absent,
}

/// What kind of main module a file is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MainShape {
    /// It imports a memory or table base, so the linker decides where it lives.
    pub relocatable: bool,
    pub memory: Place,
    pub table: Place,
    pub stack_pointer: Place,
    /// Every exported function runs constructors before and destructors after itself, so none may be called but
    /// `_start` (rule S8).
    pub wrapped_exports: bool,
    /// `_start` runs the constructors, so the linker must not (rule I5).
    pub start_runs_constructors: bool,
}

impl MainShape {
    pub fn of(module: &Module) -> MainShape {
        let inner = &*module.0;
        let start = exported_function(inner, "_start");
        let initialize = exported_function(inner, "_initialize");
        let constructors = exported_function(inner, "__wasm_call_ctors");
        MainShape {
            relocatable: is_relocatable(module),
            memory: memory_place(inner),
            table: table_place(inner),
            stack_pointer: stack_pointer_place(inner),
            wrapped_exports: start.is_some() && has_wrapped_exports(inner),
            start_runs_constructors: match (start, constructors) {
                (None, _) => false,
                // It is to be initialised and then called, not run (rule S9).
                _ if initialize.is_some() => false,
                (Some(_), None) => true,
                (Some(start), Some(constructors)) => calls(inner, start, constructors),
            },
        }
    }
}

/// Whether a module imports a memory or table base (rule S1).
pub(crate) fn is_relocatable(module: &Module) -> bool {
    module.0.imported_globals > 0
        && module.0.imports.iter().any(|import| {
            matches!(import.ty, ExternKind::Global(_))
                && matches!(
                    (module.0.import_module(import), &*import.name),
                    (
                        "env",
                        "__memory_base" | "__table_base" | "__table_base32" | "__memory_base32"
                    )
                )
        })
}

/// The index of an exported function.
pub(crate) fn exported_function(module: &ModuleInner, name: &str) -> Option<u32> {
    match module.export(name)? {
        ExportItem::Func(func) => Some(func),
        _ => None,
    }
}

fn exported(module: &ModuleInner, usual: &str, is: impl Fn(ExportItem) -> bool) -> Option<String> {
    let usual = module
        .export_place(usual)
        .and_then(|place| module.export_at(place))
        .filter(|export| is(export.item));
    usual
        .or_else(|| module.exports().find(|export| is(export.item)))
        .map(|export| export.name.to_string())
}

fn memory_place(module: &ModuleInner) -> Place {
    if module.imported_memories > 0 {
        Place::Imported
    } else if module.memories.is_empty() {
        Place::Absent
    } else {
        exported(module, "memory", |item| item == ExportItem::Memory(0))
            .map_or(Place::Private, Place::Exported)
    }
}

fn table_place(module: &ModuleInner) -> Place {
    if module.imported_tables > 0 {
        Place::Imported
    } else if module.tables.is_empty() {
        Place::Absent
    } else {
        exported(module, "__indirect_function_table", |item| {
            item == ExportItem::Table(0)
        })
        .map_or(Place::Private, Place::Exported)
    }
}

fn stack_pointer_place(module: &ModuleInner) -> Place {
    let imported = module.imports.iter().any(|import| {
        matches!(import.ty, ExternKind::Global(_))
            && (module.import_module(import), &*import.name) == ("env", "__stack_pointer")
    });
    let exported = module
        .export("__stack_pointer")
        .and_then(|item| match item {
            ExportItem::Global(global) => module.globals.get(usize::try_from(global).ok()?),
            _ => None,
        })
        .is_some_and(|global| global.ty.mutable && global.ty.value == ValType::I32);
    match (imported, exported) {
        (true, _) => Place::Imported,
        (false, true) => Place::Exported("__stack_pointer".to_string()),
        (false, false) => Place::Absent,
    }
}

/// Whether all exported functions but `_start` begin or end with a call of one and the same function, as wasm-ld wraps
/// the exports of a command. (Without destructors there is only the call before.)
fn has_wrapped_exports(module: &ModuleInner) -> bool {
    let mut common: Option<Wrapper> = None;
    let mut count = 0;
    for export in module.exports() {
        let ExportItem::Func(func) = export.item else {
            continue;
        };
        if export.name == "_start" {
            continue;
        }
        let Some(wrapper) = wrapper(module, func) else {
            return false;
        };
        let same = common.map_or(wrapper, |common| Wrapper {
            first: common.first.filter(|first| wrapper.first == Some(*first)),
            last: common.last.filter(|last| wrapper.last == Some(*last)),
        });
        if same.first.is_none() && same.last.is_none() {
            return false;
        }
        common = Some(same);
        count += 1;
    }
    count > 1
}

/// What a wrapper calls before and after the function that it wraps.
#[derive(Clone, Copy)]
struct Wrapper {
    first: Option<u32>,
    last: Option<u32>,
}

/// A function whose body only passes parameters on and makes at least two calls.
fn wrapper(module: &ModuleInner, func: u32) -> Option<Wrapper> {
    let mut operators = operators(module, func)?;
    let plain = |func: &u32| has_type(module, *func, false);
    let mut calls = 0;
    let mut first = None;
    let mut last = None;
    for place in 0..MAX_OPERATORS {
        match operators.read().ok()? {
            Operator::LocalGet { .. } => last = None,
            Operator::Call { function_index } => {
                calls += 1;
                last = Some(function_index);
                if place == 0 {
                    first = last;
                }
            }
            Operator::End => {
                return (calls > 1).then_some(Wrapper {
                    first: first.filter(plain),
                    last: last.filter(plain),
                });
            }
            _ => return None,
        }
    }
    None
}

/// Whether `caller` calls `callee`, itself or through one of the functions that it calls.
fn calls(module: &ModuleInner, caller: u32, callee: u32) -> bool {
    let direct = called(module, caller);
    direct.contains(&callee)
        || direct
            .iter()
            .any(|function| called(module, *function).contains(&callee))
}

fn called(module: &ModuleInner, func: u32) -> Vec<u32> {
    let mut called = Vec::new();
    if let Some(mut operators) = operators(module, func) {
        for _ in 0..MAX_OPERATORS {
            match operators.read() {
                Ok(Operator::Call { function_index }) => called.push(function_index),
                Ok(_) if !operators.eof() => {}
                _ => break,
            }
        }
    }
    called
}
