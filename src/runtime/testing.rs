//! Hooks for tests of the runtime without an interpreter: only host functions and functions bound to them run.

use super::records::{Entry, FuncKind, FuncRec, GlobalRec, Hooks, InstanceRec, TableRec};
use super::store::{Store, StoreCore};
use crate::config::{Config, Engine};
use crate::error::{Error, Result};

pub(crate) static HOOKS: Hooks = Hooks {
    prepare,
    entry,
    call,
    translate_all,
    bound,
    global_changed,
    release,
    guard: || Ok(()),
};

/// There is no code that could hold a global's value.
unsafe fn global_changed(_: *mut StoreCore, _: *mut GlobalRec) {}

/// A store with the default configuration and a small stack.
pub(crate) fn store<T: 'static>(data: T) -> Store<T> {
    let mut config = Config::default();
    config.limits.stack_bytes = 4096;
    Store::with_hooks(&Engine::new(config), data, &HOOKS)
}

fn stub(func: *const FuncRec) -> *const u8 {
    // SAFETY: only the address is taken.
    unsafe { (&raw const (*func).stub).cast() }
}

unsafe fn prepare(_: &StoreCore, func: *mut FuncRec) {
    // SAFETY: hooks get live records.
    unsafe {
        (*func).code = stub(func);
        (*func).frame = 8;
    }
}

unsafe fn entry(_: *mut StoreCore, table: *mut TableRec, func: *mut FuncRec) -> Entry {
    // SAFETY: hooks get live records.
    unsafe {
        let same = (*func).mem.is_null() || (*func).mem == (*table).home;
        Entry {
            code: if same { (*func).code } else { THUNK.as_ptr() },
            ty: (*func).ty,
            unused: 0,
        }
    }
}

/// What entries of functions with another memory than the table's home lead to.
pub(crate) static THUNK: [u8; 1] = [0];

unsafe fn call(
    core: *mut StoreCore,
    store: *mut (),
    func: *mut FuncRec,
    slots: &mut [u64],
) -> Result<()> {
    // SAFETY: hooks get live records; the closure is kept alive while it runs.
    unsafe {
        match &(*func).kind {
            FuncKind::Host(host) => host.clone()(store, slots),
            FuncKind::Deferred { .. } => {
                let target = super::deferred::resolve_deferred(core, store, func)?;
                call(core, store, target, slots)
            }
            _ => Err(Error::msg("test hooks do not run guest code")),
        }
    }
}

unsafe fn translate_all(_: *mut StoreCore, _: *mut InstanceRec) -> Result<()> {
    Ok(())
}

unsafe fn bound(_: *mut StoreCore, _: *mut FuncRec, _: *mut FuncRec) {}

unsafe fn release(_: *mut StoreCore, _: &crate::ir::code::GroupRanges) {}
