//! The functions as imports of instances.

#![forbid(unsafe_code)]

use super::{FUNCTIONS, Function, PREVIEW1, Refusal, UNSTABLE, function};
use crate::error::{Error, Result};
use crate::host::errno::Errno;
use crate::host::guest::GuestMemory;
use crate::host::kernel::Kernel;
use crate::runtime::{AsContextMut, Caller, Extern, Func, Linker, Val};

/// Defines all functions of `wasi_snapshot_preview1` and `wasi_unstable`. `get` finds the kernel in the store's data.
///
/// The functions work on the memory that the kernel was told to use ([`Kernel::set_memory`]), else on the export `memory` of
/// the instance that calls.
///
/// # Errors
/// A name is taken.
pub fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    get: impl Fn(&mut T) -> &mut Kernel + Clone + Send + Sync + 'static,
) -> Result<()> {
    for module in [PREVIEW1, UNSTABLE] {
        for row in FUNCTIONS {
            if let Some(row) = function(module, row.name) {
                linker.func_new(module, row.name, row.ty(), call(row, get.clone()))?;
            }
        }
    }
    Ok(())
}

/// One function by module and name, as a function of the store; `None` if there is no such function.
pub fn lookup<T: 'static>(
    store: impl AsContextMut<Data = T>,
    module: &str,
    name: &str,
    get: impl Fn(&mut T) -> &mut Kernel + Clone + Send + Sync + 'static,
) -> Option<Func> {
    let row = function(module, name)?;
    Some(Func::new(store, row.ty(), call(row, get)))
}

fn call<T: 'static>(
    function: &'static Function,
    get: impl Fn(&mut T) -> &mut Kernel + Clone + Send + Sync + 'static,
) -> impl Fn(Caller<'_, T>, &[Val], &mut [Val]) -> Result<()> + Send + Sync + 'static {
    move |mut caller, arguments, results| {
        let own = get(caller.data_mut()).memory();
        let memory = own.or_else(|| caller.get_export("memory").and_then(Extern::into_memory));
        let outcome = match memory {
            Some(memory) => {
                let (bytes, data) = memory.data_and_store_mut(&mut caller);
                (function.call)(get(data), &mut GuestMemory::new(bytes), arguments)
            }
            // Functions without pointers work; the others find no byte to read.
            None => {
                let kernel = get(caller.data_mut());
                (function.call)(kernel, &mut GuestMemory::new(&mut []), arguments)
            }
        };
        let errno = match outcome {
            Ok(()) => Errno::Success,
            Err(Refusal::Errno(errno)) => errno,
            Err(Refusal::Exit(status)) => return Err(Error::exit(status)),
        };
        if let Some(result) = results.first_mut() {
            *result = Val::I32(i32::from(errno.raw()));
        }
        Ok(())
    }
}
