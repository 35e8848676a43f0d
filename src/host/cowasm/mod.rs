//! cowasm: a kernel of C library functions in WebAssembly, on which CPython and others run as side modules.
//!
//! - `mod.rs`: the functions as the linker asks for them, and their state
//! - `table.rs`: one row a function: name and kind
//! - `services.rs`: those that do something
//! - `terminal.rs`: the settings of a terminal
//!
//! The type of a function is always the importer's: cowasm's kernel declares C++ functions without
//! parameters that its C++ libraries call with some. Nothing is ever called through the kernel's exports
//! but `_start`, because every other export runs all constructors before and all destructors after itself;
//! `malloc`, `free`, `getcwd` are called through their table slots and `errno` is written where it lies.

#![forbid(unsafe_code)]

mod services;
mod table;
mod terminal;
#[cfg(test)]
mod tests;

use self::services::Call;
use self::table::Kind;
use super::KernelHost;
use super::errno::Errno;
use crate::error::{Error, Result};
use crate::link::{HostSymbols, Process};
use crate::module::{FuncType, ValType};
use crate::runtime::{Caller, Func, StoreContextMut, Val};
use crate::trap::{Trap, TrapCode};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// What the data of a store must offer for cowasm's functions.
pub trait CowasmHost: KernelHost {
    /// The state of cowasm's own functions.
    fn cowasm(&mut self) -> &mut Cowasm;
}

/// State of cowasm's functions in one process.
#[derive(Debug, Default)]
pub struct Cowasm {
    /// Signal sets by their addresses, one bit a signal.
    signal_sets: HashMap<u32, u64>,
    signal_mask: u64,
    signal: SignalHandle,
    /// What the guest sent last with `wasmSendString`.
    sent: Option<String>,
    exception: bool,
    /// Address of the resolver's error number; 0 until it is asked for.
    h_errno: u32,
    /// Gives the terminal its settings back at the end.
    terminal: terminal::Terminal,
    /// Told when a function that only fails is called.
    trace: Option<StubTrace>,
}

/// Gets the name of a function that only fails, when it is called.
#[derive(Clone)]
pub struct StubTrace(Arc<dyn Fn(&str) + Send + Sync>);

impl std::fmt::Debug for StubTrace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StubTrace")
    }
}

/// Sends a signal to a guest from another thread. Clones lead to the same guest.
#[derive(Clone, Debug, Default)]
pub struct SignalHandle(Arc<AtomicI32>);

impl SignalHandle {
    /// The guest sees this signal at its next look, as Python does between instructions: 2 is an interrupt.
    pub fn send(&self, signal: i32) {
        self.0.store(signal, Ordering::Relaxed);
    }
}

impl Cowasm {
    /// A handle with which another thread sends signals to the guest.
    pub fn signal_handle(&self) -> SignalHandle {
        self.signal.clone()
    }

    /// What the guest sent last, and whether it said that this is an exception.
    pub fn take_sent(&mut self) -> Option<(String, bool)> {
        let exception = std::mem::take(&mut self.exception);
        self.sent.take().map(|text| (text, exception))
    }

    /// Calls of functions that only fail are told to `sink`, by name.
    pub fn trace_stubs(&mut self, sink: impl Fn(&str) + Send + Sync + 'static) {
        self.trace = Some(StubTrace(Arc::new(sink)));
    }

    fn take_signal(&mut self) -> i32 {
        self.signal.0.swap(0, Ordering::Relaxed)
    }
}

/// cowasm's functions for the linker; functions of other import modules come from `wasi`.
pub struct CowasmSymbols<W> {
    wasi: W,
}

impl<W> CowasmSymbols<W> {
    /// cowasm's functions beside those of WASI.
    pub fn new(wasi: W) -> CowasmSymbols<W> {
        CowasmSymbols { wasi }
    }
}

impl<T: CowasmHost, W: HostSymbols<T>> HostSymbols<T> for CowasmSymbols<W> {
    fn function(
        &self,
        process: &Process<T>,
        store: StoreContextMut<'_, T>,
        module: &str,
        name: &str,
        ty: &FuncType,
    ) -> Option<Func> {
        if module != "env" {
            return self.wasi.function(process, store, module, name, ty);
        }
        let row = table::TABLE.get(table::place(name)?)?;
        define(process, store, row.name, row.kind, ty)
    }

    /// The host's function is the better one wherever there are two, and the only one of the right type for C++.
    fn overrides(&self, module: &str, name: &str) -> bool {
        module == "env" && table::place(name).is_some()
    }

    fn signature(&self, module: &str, name: &str) -> Option<FuncType> {
        self.wasi.signature(module, name)
    }

    fn hint(&self, module: &str, name: &str) -> Option<String> {
        self.wasi.hint(module, name)
    }
}

/// Makes the function of a row with the importer's type.
fn define<T: CowasmHost>(
    process: &Process<T>,
    store: StoreContextMut<'_, T>,
    name: &'static str,
    kind: Kind,
    ty: &FuncType,
) -> Option<Func> {
    if kind == Kind::Trampoline {
        return trampoline(process, store, ty);
    }
    let process = process.clone();
    let result_type = ty.results().first().copied();
    let call = move |mut caller: Caller<'_, T>, arguments: &[Val], results: &mut [Val]| {
        let answer = answer(&process, &mut caller, name, kind, arguments)?;
        match (results, result_type) {
            ([result], Some(ty)) => *result = number(ty, answer),
            ([], None) => {}
            (results, _) => {
                return Err(Error::usage(format!(
                    "`{name}` has no {} results",
                    results.len()
                )));
            }
        }
        Ok(())
    };
    Some(Func::new(store, ty.clone(), call))
}

/// A function that calls the table's function of its first parameter, inside the interpreter loop.
fn trampoline<T: CowasmHost>(
    process: &Process<T>,
    store: StoreContextMut<'_, T>,
    ty: &FuncType,
) -> Option<Func> {
    if ty.params().first() != Some(&ValType::I32) {
        return None;
    }
    if let Some(table) = process.table() {
        return Some(Func::trampoline(store, ty.clone(), table, 0));
    }
    // A main module that brings the table itself has none yet.
    let (process, wanted) = (process.clone(), ty.clone());
    let resolve = move |store: StoreContextMut<'_, T>| match process.table() {
        Some(table) => Ok(Func::trampoline(store, wanted.clone(), table, 0)),
        None => Err(Error::msg("the process has no table of functions")),
    };
    Some(Func::deferred(store, ty.clone(), resolve))
}

fn answer<T: CowasmHost>(
    process: &Process<T>,
    caller: &mut Caller<'_, T>,
    name: &'static str,
    kind: Kind,
    arguments: &[Val],
) -> Result<i32> {
    let (errno, value) = match kind {
        Kind::Gives(value) => return Ok(value),
        Kind::Does(service) => {
            match (Call {
                process,
                caller,
                arguments,
            })
            .perform(service)?
            {
                Ok(value) => return Ok(value),
                Err(errno) => (errno, service.failure()),
            }
        }
        Kind::Fails(errno) => (errno, -1),
        Kind::FailsNull(errno) => (errno, 0),
        Kind::FailsWith(errno) => (errno, i32::from(errno.raw())),
        Kind::Traps(why) => {
            let trap = Trap::new(TrapCode::Unreachable);
            return Err(trap
                .with_detail(format!("`{name}` was called, but {why}"))
                .into());
        }
        // Not called through here.
        Kind::Trampoline => (Errno::Nosys, 0),
    };
    if !matches!(kind, Kind::Does(_))
        && let Some(StubTrace(sink)) = caller.data_mut().cowasm().trace.clone()
    {
        sink(name);
    }
    if !matches!(kind, Kind::FailsWith(_)) {
        set_errno(process, caller, errno);
    }
    Ok(value)
}

/// Writes the guest's `errno`. A guest without one (it is told by the kernel's symbols) only sees the result.
fn set_errno<T: CowasmHost>(process: &Process<T>, caller: &mut Caller<'_, T>, errno: Errno) {
    let address = process.address(&mut *caller, "errno");
    if let (Some(address), Some(memory)) = (address, process.memory()) {
        let bytes = i32::from(errno.raw()).to_le_bytes();
        if let Ok(address) = usize::try_from(address) {
            // Outside the memory there is no errno to write.
            let _ = memory.write(caller, address, &bytes);
        }
    }
}

fn number(ty: ValType, value: i32) -> Val {
    match ty {
        ValType::I32 => Val::I32(value),
        ValType::I64 => Val::I64(i64::from(value)),
        ty => Val::default_for(ty),
    }
}
