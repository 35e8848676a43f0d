//! The functions as imports of instances.

#![forbid(unsafe_code)]

use super::{FUNCTIONS, Function, PREVIEW1, Refusal, UNSTABLE, function};
use crate::error::{Error, Result};
use crate::host::errno::Errno;
use crate::host::guest::GuestMemory;
use crate::host::kernel::Kernel;
use crate::module::FuncType;
use crate::runtime::{AsContextMut, Caller, Extern, Func, Linker, Val};
use crate::trap::TrapCode;

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

/// The type of a function of WASI.
pub(crate) fn signature(module: &str, name: &str) -> Option<FuncType> {
    function(module, name).map(|row| row.ty())
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
            // The guest was woken up to be stopped: it gets no chance to go on.
            Err(Refusal::Errno(Errno::Intr)) if get(caller.data_mut()).is_interrupted() => {
                return Err(Error::from(TrapCode::Interrupted));
            }
            Err(Refusal::Errno(errno)) => errno,
            Err(Refusal::Exit(status)) => return Err(Error::exit(status)),
        };
        if let Some(result) = results.first_mut() {
            *result = Val::I32(i32::from(errno.raw()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Engine;
    use crate::host::{KernelBuilder, Mount, Pipe};
    use crate::module::{MemoryType, Module};
    use crate::runtime::{Memory, Store};
    use std::time::{Duration, Instant};

    /// Writes a greeting, opens a file, and ends with a status.
    const GREETING: &str = r#"
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_unstable" "proc_exit" (func $exit (param i32)))
        (func (export "_start")
            (i32.store (i32.const 0) (i32.const 32))
            (i32.store (i32.const 4) (i32.const 6))
            (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
            (if (i32.ne (i32.load (i32.const 8)) (i32.const 6)) (then unreachable))
            (if (call $open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 5) (i32.const 1)
                    (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 12)) (then unreachable))
            (call $exit (i32.load (i32.const 12))))
    "#;

    fn kernel(output: &Pipe) -> Kernel {
        let builder = KernelBuilder::new()
            .stdout(output)
            .mount("/", Mount::memory());
        builder.build().unwrap()
    }

    fn module(engine: &Engine, memory: &str) -> Module {
        let text = format!("(module {GREETING} {memory} (data (i32.const 32) \"hello\\n\"))");
        // Imports come first in a module's text.
        let text = if memory.starts_with("(import") {
            format!("(module {memory} {GREETING} (data (i32.const 32) \"hello\\n\"))")
        } else {
            text
        };
        Module::new(engine, &wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn a_module_runs_with_its_own_memory() {
        let engine = Engine::default();
        let output = Pipe::capture();
        let mut store = Store::new(&engine, kernel(&output));
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker, |kernel| kernel).unwrap();
        let module = module(&engine, "(memory (export \"memory\") 1)");
        let instance = linker.instantiate(&mut store, &module).unwrap();
        let start = instance
            .get_typed_func::<(), ()>(&mut store, "_start")
            .unwrap();
        let error = start.call(&mut store, ()).unwrap_err();
        assert_eq!(error.exit_status(), Some(4), "{error}");
        assert_eq!(output.take_text(), "hello\n");
        assert_eq!(store.data().exit_status(), Some(4));
        assert!(store.data().exists("/hello"));
    }

    #[test]
    fn a_sleeper_whose_time_is_up_traps() {
        let engine = Engine::default();
        let mut store = Store::new(&engine, kernel(&Pipe::capture()));
        let deadline = Instant::now() + Duration::from_millis(10);
        store.data_mut().set_deadline(Some(deadline));
        let text = r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "sleep")
                (i32.store (i32.const 16) (i32.const 1))
                (i64.store (i32.const 24) (i64.const 60000000000))
                (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;
        let module = Module::new(&engine, &wat::parse_str(text).unwrap()).unwrap();
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker, |kernel| kernel).unwrap();
        let instance = linker.instantiate(&mut store, &module).unwrap();
        let sleep = instance.get_func(&mut store, "sleep").unwrap();
        let start = Instant::now();
        let error = sleep.call(&mut store, &[], &mut []).unwrap_err();
        assert_eq!(error.trap().unwrap().code(), TrapCode::Interrupted);
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_library_works_on_the_memory_of_the_process() {
        let engine = Engine::default();
        let output = Pipe::capture();
        let mut store = Store::new(&engine, kernel(&output));
        let ty = MemoryType {
            minimum: 1,
            maximum: None,
        };
        let memory = Memory::new(&mut store, ty).unwrap();
        store.data_mut().set_memory(memory);
        let module = module(&engine, "(import \"env\" \"memory\" (memory 1))");
        let imports: Vec<Extern> = module
            .imports()
            .map(|import| match import.name {
                "memory" => Extern::Memory(memory),
                name => lookup(&mut store, import.module, name, |kernel| kernel)
                    .map(Extern::Func)
                    .unwrap(),
            })
            .collect();
        let instance = crate::runtime::Instance::new(&mut store, &module, &imports).unwrap();
        let start = instance.get_func(&mut store, "_start").unwrap();
        let error = start.call(&mut store, &[], &mut []).unwrap_err();
        assert_eq!(error.exit_status(), Some(4), "{error}");
        assert_eq!(output.take_text(), "hello\n");
        assert!(
            lookup(
                &mut store,
                "wasi_snapshot_preview1",
                "fd_missing",
                |kernel| kernel
            )
            .is_none()
        );
        assert!(lookup(&mut store, "env", "fd_write", |kernel| kernel).is_none());
    }
}
