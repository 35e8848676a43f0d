//! The entry of a C program: `main` with a list of arguments, or a function without parameters.

#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::module::{FuncType, ValType};
use crate::runtime::{AsContextMut, Func, Val};

/// Whether an entry of this type wants `argc` and `argv`.
///
/// # Errors
/// It wants something else.
pub(crate) fn takes_arguments(ty: &FuncType) -> Result<bool> {
    match ty.params() {
        [] => Ok(false),
        [ValType::I32, ValType::I32] => Ok(true),
        _ => Err(Error::usage(format!(
            "the entry has the type {ty}; expected C's main, (i32 i32) -> (i32), or no parameters"
        ))),
    }
}

/// Calls an entry, with `argc` and `argv` if it [takes](takes_arguments) them; gives its status, 0 if it has none.
///
/// # Errors
/// What ends the guest.
pub(crate) fn call(
    mut store: impl AsContextMut,
    entry: Func,
    arguments: Option<(u32, u32)>,
) -> Result<i32> {
    let ty = entry.ty(&store);
    let parameters = arguments.map(|(count, list)| [count, list]);
    let parameters: Vec<Val> = parameters
        .iter()
        .flatten()
        .map(|word| Val::I32(word.cast_signed()))
        .collect();
    let results = ty.results().iter();
    let mut results: Vec<Val> = results.map(|ty| Val::default_for(*ty)).collect();
    entry.call(&mut store, &parameters, &mut results)?;
    Ok(results.first().and_then(Val::i32).unwrap_or(0))
}
