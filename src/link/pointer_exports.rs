//! Symbols that a module tells through functions: cowasm's `__WASM_EXPORT__X`, a function without parameters whose
//! result is the address of `X`.
//!
//! The functions are never called. They are exports of a *command* module, where every call of an export runs all
//! constructors before and all destructors after it. Their bodies say the address plainly (a constant, or a global plus
//! a constant), so they are read instead.
#![forbid(unsafe_code)]

use crate::module::{ConstExpr, ExportItem, ExternKind, Module, ModuleInner, ValType};
use std::collections::HashMap;
use wasmparser::{BinaryReader, FunctionBody, Operator};

/// What the names of such exports start with.
const PREFIX: &str = "__WASM_EXPORT__";

/// Wrappers of wrappers that are looked through.
const MAX_WRAPPERS: usize = 4;

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
        if !name.starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let Some(export) = inner.export_at(place) else {
            continue;
        };
        let (Some(name), ExportItem::Func(func)) = (export.name.strip_prefix(PREFIX), export.item)
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

/// What a function that only computes an address computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Address {
    Constant(u32),
    Global { index: u32, offset: u32 },
}

/// Reads a function of type `() -> i32`, looking through wrappers that call `() -> ()` functions around it.
fn address_function(module: &ModuleInner, mut func: u32) -> Option<Address> {
    for _ in 0..MAX_WRAPPERS {
        match read_body(module, func)? {
            Body::Address(address) => return Some(address),
            Body::Wrapper(inner) => func = inner,
        }
    }
    None
}

enum Body {
    Address(Address),
    Wrapper(u32),
}

/// Operators of a function that only computes an address: a few, even unoptimised.
const MAX_OPERATORS: usize = 64;

/// Computes what a function without branches and effects computes. Unoptimised code keeps the address in a local.
fn read_body(module: &ModuleInner, func: u32) -> Option<Body> {
    if !has_type(module, func, true) {
        return None;
    }
    let mut operators = operators(module, func)?;
    let mut stack: Vec<Address> = Vec::new();
    let mut locals: HashMap<u32, Address> = HashMap::new();
    let mut wrapped = None;
    for _ in 0..MAX_OPERATORS {
        match operators.read().ok()? {
            Operator::I32Const { value } => stack.push(Address::Constant(value.cast_unsigned())),
            Operator::GlobalGet { global_index } => stack.push(Address::Global {
                index: global_index,
                offset: 0,
            }),
            Operator::LocalGet { local_index } => {
                // A local that was never set is zero.
                let zero = Address::Constant(0);
                stack.push(locals.get(&local_index).copied().unwrap_or(zero));
            }
            Operator::LocalSet { local_index } => {
                locals.insert(local_index, stack.pop()?);
            }
            Operator::LocalTee { local_index } => {
                locals.insert(local_index, *stack.last()?);
            }
            Operator::I32Add => {
                let sum = add(stack.pop()?, stack.pop()?)?;
                stack.push(sum);
            }
            Operator::Call { function_index } if stack.is_empty() => {
                if has_type(module, function_index, true) && wrapped.is_none() {
                    wrapped = Some(function_index);
                } else if !has_type(module, function_index, false) {
                    return None;
                }
            }
            Operator::Nop => {}
            // The function has no branches, so nothing after a `return` counts.
            Operator::Return | Operator::End => {
                return match (stack.pop(), wrapped) {
                    (Some(address), None) if stack.is_empty() => Some(Body::Address(address)),
                    (None, Some(inner)) => Some(Body::Wrapper(inner)),
                    _ => None,
                };
            }
            _ => return None,
        }
    }
    None
}

fn add(one: Address, other: Address) -> Option<Address> {
    match (one, other) {
        (Address::Constant(one), Address::Constant(other)) => {
            Some(Address::Constant(one.wrapping_add(other)))
        }
        (Address::Global { index, offset }, Address::Constant(constant))
        | (Address::Constant(constant), Address::Global { index, offset }) => {
            let offset = offset.wrapping_add(constant);
            Some(Address::Global { index, offset })
        }
        (Address::Global { .. }, Address::Global { .. }) => None,
    }
}

/// Declarations of locals that such functions and wrappers have at most: compilers write one for each type.
const MAX_LOCALS: u32 = 16;

/// The operators of a function that the module defines; none if it declares so many locals that it must be a longer
/// one. (A hostile file may export one function very often, so a look at it has to be short.)
pub(crate) fn operators(
    module: &ModuleInner,
    func: u32,
) -> Option<wasmparser::OperatorsReader<'_>> {
    let body = usize::try_from(func)
        .ok()?
        .checked_sub(module.imported_funcs)?;
    let range = module.bodies.get(body)?.clone();
    let start = range.start;
    let bytes = module.bytes.get(range)?;
    let body = FunctionBody::new(BinaryReader::new(bytes, u64::try_from(start).ok()?));
    if body.get_locals_reader().ok()?.get_count() > MAX_LOCALS {
        return None;
    }
    body.get_operators_reader().ok()
}

/// Whether a function that the module defines does nothing.
pub(crate) fn is_empty(module: &ModuleInner, func: u32) -> bool {
    let first = operators(module, func).and_then(|mut operators| operators.read().ok());
    matches!(first, Some(wasmparser::Operator::End))
}

/// Whether a function has no parameters and, as `gives` says, one i32 result or none.
pub(crate) fn has_type(module: &ModuleInner, func: u32, gives: bool) -> bool {
    let ty = usize::try_from(func)
        .ok()
        .and_then(|func| module.funcs.get(func))
        .and_then(|ty| module.types.get(usize::try_from(*ty).ok()?));
    let results: &[ValType] = if gives { &[ValType::I32] } else { &[] };
    ty.is_some_and(|ty| ty.params().is_empty() && ty.results() == results)
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
