//! Short functions whose effect can be read off their bodies without running them: those that only compute an
//! address, wrappers around them, and those that do nothing.
#![forbid(unsafe_code)]

use super::{ModuleInner, ValType};
use std::collections::HashMap;
use wasmparser::{BinaryReader, FunctionBody, Operator};

/// What the names of exports start with that tell the address of a symbol (cowasm).
pub(crate) const POINTER_PREFIX: &str = "__WASM_EXPORT__";

/// Wrappers of wrappers that are looked through.
const MAX_WRAPPERS: usize = 4;

/// What a function that only computes an address computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    Constant(u32),
    /// The value of a global plus a constant.
    Global {
        index: u32,
        offset: u32,
    },
}

/// Reads a function of type `() -> i32`, looking through wrappers that call `() -> ()` functions around it.
pub(crate) fn address_function(module: &ModuleInner, mut func: u32) -> Option<Address> {
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
