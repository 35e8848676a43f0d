//! `longjmp`, and what C++ exceptions need to be refused by name.
//!
//! Compiled code that could be unwound calls through `invoke_SIGNATURE(index, arguments…)`. A `longjmp` ends the calls
//! between as an error of the host, which the nearest `invoke_` takes: it restores the C stack, says so with
//! `setThrew(1, 0)`, and returns; the compiled code then looks whether the jump was meant for it.

#![forbid(unsafe_code)]

use super::EmscriptenHost;
use super::call::{Guest, join, split, table_function, to_halves};
use crate::error::{Error, ErrorKind, Result};
use crate::link::Process;
use crate::module::{FuncType, ValType};
use crate::runtime::{Caller, Func, StoreContextMut, Val};
use crate::shown::shown;
use crate::trap::{Trap, TrapCode};

/// Bytes in front of an exception object.
const EXCEPTION_HEADER: u32 = 24;

/// The stack is being unwound to the nearest `invoke_`.
#[derive(Debug)]
struct Unwinding;

impl std::fmt::Display for Unwinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "longjmp was called, but no caller of it can be jumped to: each setjmp has returned",
        )
    }
}

impl std::error::Error for Unwinding {}

/// Whether the error only leads to the nearest `invoke_`.
pub(super) fn is_unwinding(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Host(error) => error.is::<Unwinding>(),
        _ => false,
    }
}

pub(super) fn throw_longjmp<T: EmscriptenHost>(_: &mut Guest<'_, '_, T>) -> Result<()> {
    Err(Error::host(Unwinding))
}

/// `longjmp` of versions where the host did all of it.
pub(super) fn longjmp<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    buffer: u32,
    value: u32,
) -> Result<()> {
    guest.call_symbol("setThrew", &[buffer, value.max(1)])?;
    Err(Error::host(Unwinding))
}

/// An `invoke_` function of the importer's type: a table index and the arguments of what lies there, natural or split.
pub(super) fn invoke<T: EmscriptenHost>(
    process: &Process<T>,
    store: StoreContextMut<'_, T>,
    ty: &FuncType,
) -> Option<Func> {
    if ty.params().first() != Some(&ValType::I32) || ty.results().len() > 1 {
        return None;
    }
    let process = process.clone();
    let wanted = ty.clone();
    let call = move |mut caller: Caller<'_, T>, arguments: &[Val], results: &mut [Val]| {
        let Some((index, arguments)) = arguments.split_first() else {
            return Err(Error::usage("an invoke_ function without a table index"));
        };
        let index = index.i32().unwrap_or(0).cast_unsigned();
        let func = table_function(&process, &mut caller, index)?;
        let stack_pointer = Guest {
            process: &process,
            caller: &mut caller,
        }
        .stack_pointer()?;
        match call_split(func, &mut caller, &wanted, arguments, results) {
            Err(error) if is_unwinding(&error) => {
                let mut guest = Guest {
                    process: &process,
                    caller: &mut caller,
                };
                if let Some(pointer) = stack_pointer {
                    guest.set_stack_pointer(pointer)?;
                }
                guest.call_symbol("setThrew", &[1, 0])?;
                for (result, ty) in results.iter_mut().zip(wanted.results()) {
                    *result = Val::default_for(*ty);
                }
                Ok(())
            }
            end => end,
        }
    };
    Some(Func::new(store, ty.clone(), call))
}

/// Calls a function with the arguments of an `invoke_` function of type `wanted`, whose 64-bit integers may be split.
fn call_split<T: EmscriptenHost>(
    func: Func,
    caller: &mut Caller<'_, T>,
    wanted: &FuncType,
    arguments: &[Val],
    results: &mut [Val],
) -> Result<()> {
    use super::call::Signature;
    let ty = func.ty(&*caller);
    let given = FuncType::new(
        wanted.params().iter().skip(1).copied(),
        wanted.results().iter().copied(),
    );
    if ty == given {
        return func.call(&mut *caller, arguments, results);
    }
    if Signature::of(&ty).split() != given {
        return Err(Trap::new(TrapCode::IndirectCallTypeMismatch)
            .with_detail(format!("expected {given}, found {ty}"))
            .into());
    }
    let mut whole: Vec<Val> = ty
        .results()
        .iter()
        .map(|ty| Val::default_for(*ty))
        .collect();
    func.call(&mut *caller, &join(&ty, arguments), &mut whole)?;
    for (result, value) in results.iter_mut().zip(whole) {
        *result = match value {
            Val::I64(number) => {
                let (low, high) = to_halves(number);
                caller.data_mut().emscripten().1.temp_ret0 = high;
                Val::I32(low.cast_signed())
            }
            value => split(&[value]).pop().unwrap_or(Val::I32(0)),
        };
    }
    Ok(())
}

/// Room for an exception, which can then not be thrown: but what is thrown is constructed first.
pub(super) fn allocate_exception<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    size: u32,
) -> Result<u32> {
    let bytes = size.saturating_add(EXCEPTION_HEADER);
    let base = guest.call_symbol("malloc", &[bytes])?.unwrap_or(0);
    if base == 0 {
        return Err(no_exceptions(
            "an exception was to be made, but there is no memory for it",
        ));
    }
    Ok(base.saturating_add(EXCEPTION_HEADER))
}

pub(super) fn free_exception<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    exception: u32,
) -> Result<()> {
    if let Some(base) = exception.checked_sub(EXCEPTION_HEADER) {
        guest.call_symbol("free", &[base])?;
    }
    Ok(())
}

/// `__cxa_throw`, with the type's name: the second word of a `std::type_info` is its mangled name.
pub(super) fn throw<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    _exception: u32,
    type_info: u32,
    _destructor: u32,
) -> Result<()> {
    const MOST_NAME: u32 = 4096;
    let name = guest.system(|system| {
        let name = type_info
            .checked_add(4)
            .ok_or(crate::host::errno::Errno::Fault)?;
        let name = system.memory.read_u32(name)?;
        super::call::lossy_string(system.memory, name, MOST_NAME)
    });
    let kind = name.map_or_else(
        |_| String::new(),
        |name| format!(" of type `{}`", shown(&name)),
    );
    Err(no_exceptions(&format!("a C++ exception{kind} was thrown")))
}

pub(super) fn rethrow<T: EmscriptenHost>(_: &mut Guest<'_, '_, T>) -> Result<()> {
    Err(no_exceptions("a C++ exception was thrown again"))
}

pub(super) fn resume<T: EmscriptenHost>(_: &mut Guest<'_, '_, T>, _exception: u32) -> Result<()> {
    Err(no_exceptions("a C++ exception was passed on"))
}

fn no_exceptions(what: &str) -> Error {
    Trap::new(TrapCode::Unreachable)
        .with_detail(format!("{what}, but not yet: exceptions"))
        .into()
}
