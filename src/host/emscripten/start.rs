//! `main`: its arguments, what happens after it, and the end.

#![forbid(unsafe_code)]

use super::call::Guest;
use super::{EmscriptenHost, events, process};
use crate::error::{Error, Result};
use crate::host::entry;
use crate::link::Process;
use crate::module::{FuncType, ValType};
use crate::runtime::{AsContextMut, Caller, Func, Val};

/// Runs the program of a started process to its end: `_start`, `main` or the function of this name with the kernel's
/// arguments, then all callbacks that wait, then what the program registered for its exit. Gives its status.
///
/// # Errors
/// There is no such function, or the guest trapped. An exit is a status, not an error.
pub fn call_main<T: EmscriptenHost>(
    process: &Process<T>,
    mut store: impl AsContextMut<Data = T>,
    entry: Option<&str>,
) -> Result<i32> {
    let entry = process.entry(&mut store, entry)?;
    // As a host function, so that everything here sees its caller in the usual way.
    let own = process.clone();
    let status = FuncType::new([], [ValType::I32]);
    let run = Func::new(
        &mut store,
        status,
        move |mut caller: Caller<'_, T>, _: &[Val], results: &mut [Val]| {
            let mut guest = Guest {
                process: &own,
                caller: &mut caller,
            };
            let status = run(&mut guest, entry)?;
            if let Some(result) = results.first_mut() {
                *result = Val::I32(status);
            }
            Ok(())
        },
    );
    let mut result = [Val::I32(0)];
    match run.call(&mut store, &[], &mut result) {
        Ok(()) => Ok(result.first().and_then(Val::i32).unwrap_or(0)),
        Err(error) => error.exit_status().ok_or(error),
    }
}

fn run<T: EmscriptenHost>(guest: &mut Guest<'_, '_, T>, entry: Func) -> Result<i32> {
    let status = match call_entry(guest, entry) {
        Err(error) if events::is_unwound(&error) => 0,
        result => result?,
    };
    while events::run_next(guest)? {}
    if !guest.state().events.is_kept_alive() {
        process::run_exit_handlers(guest)?;
    }
    Ok(status)
}

fn call_entry<T: EmscriptenHost>(guest: &mut Guest<'_, '_, T>, entry: Func) -> Result<i32> {
    let arguments = match entry::takes_arguments(&entry.ty(&*guest.caller))? {
        true => {
            let arguments = guest.caller.data_mut().kernel().arguments().to_vec();
            Some(arguments_on_stack(guest, &arguments)?)
        }
        false => None,
    };
    entry::call(&mut *guest.caller, entry, arguments)
}

/// `argc` and `argv`, at the bottom of the C stack, where they stay.
fn arguments_on_stack<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    arguments: &[String],
) -> Result<(u32, u32)> {
    let too_long = || Error::usage("the arguments do not fit on the program's C stack");
    let mut texts = Vec::new();
    let mut offsets = Vec::new();
    for argument in arguments {
        offsets.push(u32::try_from(texts.len()).map_err(|_| too_long())?);
        texts.extend(argument.bytes());
        texts.push(0);
    }
    let count = u32::try_from(arguments.len()).map_err(|_| too_long())?;
    let length = u32::try_from(texts.len()).map_err(|_| too_long())?;
    let list_size = count
        .checked_add(1)
        .and_then(|count| count.checked_mul(4))
        .ok_or_else(too_long)?;
    let stack = guest.stack_pointer()?.ok_or_else(|| {
        Error::usage("the program tells nobody where its C stack is, so it cannot get arguments")
    })?;
    let base = stack.checked_sub(length).ok_or_else(too_long)?;
    let list = base.checked_sub(list_size).ok_or_else(too_long)? & !15;
    let mut pointers = Vec::new();
    for offset in offsets {
        pointers.extend(base.saturating_add(offset).to_le_bytes());
    }
    pointers.extend([0; 4]);
    guest
        .system(|system| {
            system.memory.write(base, &texts)?;
            system.memory.write(list, &pointers)
        })
        .map_err(|_| too_long())?;
    guest.set_stack_pointer(list)?;
    Ok((count, list))
}
