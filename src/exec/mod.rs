//! Runs translated code: entry into guest code, stubs, thunks, and how a trap becomes an error with a
//! backtrace. The handlers are in `handlers`, the ways to dispatch them in `dispatch`.

mod backtrace;
mod cold;
mod compile;
mod coverage;
mod dispatch;
#[cfg(dynlink_guard_pages)]
mod guard;
mod handlers;
mod native;
mod num;
#[cfg(dynlink_guard_pages)]
mod signal;
mod table;
mod value;

pub use coverage::{count_op_pairs, globals_read, op_coverage, op_pairs};

use crate::config::Engine;
use crate::error::{Error, Result};
use crate::ir::code::{Code, GroupRanges};
use crate::ir::ops::Family;
use crate::runtime::Store;
use crate::runtime::deferred::final_target as resolved;
use crate::runtime::records::{
    Entry, Floats, FuncKind, FuncRec, GlobalRec, Hooks, InstanceRec, MemoryRec, RED_ZONE, TableRec,
};
use crate::runtime::store::StoreCore;
use crate::trap::{Trap, TrapCode};
use dispatch::DONE;

impl<T: 'static> Store<T> {
    /// An empty store.
    pub fn new(engine: &Engine, data: T) -> Store<T> {
        Store::with_hooks(engine, data, &HOOKS)
    }
}

/// What `runtime` needs of `exec`.
static HOOKS: Hooks = Hooks {
    global_changed,
    prepare,
    entry,
    call,
    translate_all,
    bound,
    release,
    guard,
};

/// Builds without guard pages refuse the configuration before.
fn guard() -> Result<()> {
    #[cfg(dynlink_guard_pages)]
    guard::install()?;
    Ok(())
}

/// Writes the stub of a new record; a call goes there until there is code.
unsafe fn prepare(core: &StoreCore, func: *mut FuncRec) {
    // SAFETY: the hook's contract: `func` is a new record at its final address.
    unsafe {
        let op = match &(*func).kind {
            FuncKind::Wasm => Family::Lazy,
            FuncKind::Host(_) => Family::HostCall,
            FuncKind::Deferred { .. } => Family::Deferred,
            FuncKind::Trampoline { .. } => Family::Trampoline,
        }
        .form(0);
        let word = table::words(core.engine.config())[usize::from(op.0)];
        let float = core
            .engine
            .type_of((*func).ty)
            .is_some_and(|ty| ty.results().first().is_some_and(|result| result.is_float()));
        (*func).stub = [word, func as u64, u64::from(float)];
        (*func).code = (*func).stub.as_ptr().cast();
        (*func).frame = u32::from((*func).params.max((*func).results)) * 8 + 32;
    }
}

/// The code cell of a function for callers that run with `memory` in the registers: its own code, or a
/// thunk that switches memories around it.
unsafe fn code_for_memory(
    core: *mut StoreCore,
    func: *mut FuncRec,
    memory: *mut MemoryRec,
) -> *const u8 {
    // SAFETY: `func` is a live record of the store `core`.
    unsafe {
        if (*func).mem.is_null() || (*func).mem == memory {
            return (*func).code;
        }
        if (*func).thunk.is_null() {
            let words = table::words((*core).engine.config());
            let word = |form| words[usize::from(Family::SwitchMemory.form(form).0)];
            // As in a call, the slot of the result is named below the return ip: the first one, or a dead one (that of
            // the return ip), which even a host function without a result may write.
            let keep = u64::from((*func).params.max((*func).results)) * 8;
            let result = if (*func).results == 1 { 0 } else { keep + 16 };
            let code = Code {
                words: Box::new([word(0), result << 48, func as u64, word(1), func as u64]),
                group: (*func).group,
                record: std::ptr::null_mut(),
                places: Box::default(),
            };
            (*func).thunk = (*core).code.insert(code).cast();
        }
        (*func).thunk
    }
}

unsafe fn entry(core: *mut StoreCore, table: *mut TableRec, func: *mut FuncRec) -> Entry {
    // SAFETY: the hook's contract.
    unsafe {
        let func = resolved(func);
        let code = code_for_memory(core, func, (*table).home);
        Entry {
            code,
            ty: (*func).ty,
            unused: 0,
        }
    }
}

unsafe fn translate_all(core: *mut StoreCore, instance: *mut InstanceRec) -> Result<()> {
    // SAFETY: the hook's contract.
    unsafe {
        let module = (*instance).module.clone();
        let imported = module.0.imported_funcs;
        let count = module.0.funcs.len();
        for index in imported..count {
            let func = (&(*instance).funcs)[index];
            if (*func).code == (*func).stub.as_ptr().cast() {
                compile::compile(core, func)?;
            }
        }
    }
    Ok(())
}

/// Nothing to do: the stub of a deferred function reads what it is bound to at each call, and code that is
/// translated from now on goes straight there.
unsafe fn bound(_core: *mut StoreCore, _func: *mut FuncRec, _target: *mut FuncRec) {}

unsafe fn global_changed(core: *mut StoreCore, global: *mut GlobalRec) {
    // SAFETY: the hook's contract; the fields are in live code, because code that is freed takes its
    // relocations along, and each is an aligned immediate that only its instruction reads.
    unsafe {
        let (value, key) = ((*global).value as u32, ((*global).group, (*global).place));
        for relocation in (*core).code.relocations(key) {
            *(relocation.at as *mut u32) = relocation.field(value);
        }
    }
}

unsafe fn release(core: *mut StoreCore, groups: &GroupRanges) {
    // SAFETY: the hook's contract.
    unsafe { (*core).code.release(groups) }
}

/// Enters guest code: a cell with one call and a halt, run on the value stack above what is in use.
unsafe fn call(
    core: *mut StoreCore,
    store: *mut (),
    func: *mut FuncRec,
    slots: &mut [u64],
) -> Result<()> {
    // SAFETY: the hook's contract; frames are checked against the limit of the stack before use, and
    // what a nested run changes of the thread's state is restored.
    unsafe {
        let func = resolved(func);
        let ctx = &raw mut (*core).ctx;
        let config = (*core).engine.config();
        if (*ctx).depth as usize >= config.limits.host_recursion {
            return Err(Error::from(
                Trap::new(TrapCode::StackOverflow)
                    .with_detail("too many nested calls between host and guest"),
            ));
        }
        // No reference to the stack is made: outer runs have frames in it.
        let words = &raw mut *(*core).stack;
        let size = words.len() * 8;
        let stack = words.cast::<u8>();
        // A return reads the return ip of the frame that it goes to: the entry's is a word of no meaning.
        let sp = stack.add((*core).stack_top + 8);
        let counted = usize::from((*func).params.max((*func).results)) * 8;
        (*ctx).limit = stack.add(size - RED_ZONE);
        (*ctx).core = core;
        (*ctx).store = store;
        let new = sp.add(16);
        if new as usize + counted + (*func).frame as usize > (*ctx).limit as usize {
            return Err(Error::from(TrapCode::StackOverflow));
        }
        let words = table::words(config);
        let word = |op: crate::ir::ops::Op| words[usize::from(op.0)];
        let mut cell = [
            word(Family::Call.form(0)),
            // The frame, and a slot for the result that nobody reads: that of the return ip.
            16 | 8 << 48,
            (*func).code as u64,
            word(Family::Halt.form(0)),
            0,
        ];
        std::ptr::copy_nonoverlapping(
            slots.as_ptr(),
            new.cast::<u64>(),
            usize::from((*func).params),
        );

        // Read now: a function that ends in a tail call may be unloaded while what it called still runs.
        let (results, is_float) = ((*func).results, (*func).stub[2] != 0);
        let before = ((*ctx).memory, (*ctx).ip, (*ctx).sp, (*core).caller);
        (*ctx).memory = (*func).mem;
        if (*ctx).poll == 0 {
            (*ctx).poll = 1;
        }
        (*ctx).depth += 1;
        let (mem, len) = cold::memory_registers(ctx);
        // The first call through a stub patches the cell, as any other call.
        let ip = cell.as_mut_ptr().cast_const().cast::<u8>();
        let code = if table::uses_tail_calls(config) {
            let handler = std::mem::transmute::<u64, dispatch::Handler>(*ip.cast::<u64>());
            handler(ip, sp, mem, len, ctx, 0, Floats::default())
        } else if config.op_coverage {
            dispatch::run_loop::<true>(ip, sp, mem, len, ctx)
        } else {
            dispatch::run_loop::<false>(ip, sp, mem, len, ctx)
        };
        (*ctx).depth -= 1;

        let result = if code == DONE {
            match results {
                0 => {}
                1 if is_float => slots[0] = (*ctx).facc.value.to_bits(),
                1 => slots[0] = (*ctx).acc,
                count => std::ptr::copy_nonoverlapping(
                    new.cast::<u64>(),
                    slots.as_mut_ptr(),
                    usize::from(count),
                ),
            }
            Ok(())
        } else {
            Err(backtrace::error(core, code))
        };
        ((*ctx).memory, (*ctx).ip, (*ctx).sp, (*core).caller) = before;
        result
    }
}
