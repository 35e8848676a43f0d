//! What handlers do out of line: translating, calling the host, growing, bulk operations, interruption.
//!
//! No function here returns a value wider than a register: a result in memory would be an
//! address-taken local of the handler, and then its tail call would no longer be a jump. A value or
//! the trap code travels in `ctx.acc`.

use super::dispatch::DONE;
use super::table;
use super::value::{Value, field16, field64};
use crate::error::Error;
use crate::ir::ops::{FORMS, Family, Op};
use crate::runtime::records::{
    Ctx, FuncKind, FuncRec, GlobalRec, InstanceRec, MemoryRec, TableRec,
};
use crate::runtime::{deferred, memory, table as tables};
use crate::trap::TrapCode;
use std::sync::atomic::Ordering;

/// Checks (function entries and loop heads) between two looks at the clock and the interrupt flag.
const POLL_INTERVAL: u32 = 1024;

/// Notes a trap code for a handler that got null, see [`stopped`].
unsafe fn refuse<T>(ctx: *mut Ctx, code: TrapCode) -> *mut T {
    // SAFETY: `ctx` is the running thread's state.
    unsafe { (*ctx).acc = code as u64 };
    std::ptr::null_mut()
}

/// Keeps an error of the host and gives the code that ends the run with it.
unsafe fn fail(ctx: *mut Ctx, error: Error) -> u64 {
    // SAFETY: `ctx` is the running thread's state.
    unsafe { (*ctx).error = Some(error) };
    TrapCode::Host as u64
}

/// Ends the run with the code that a function here left in `ctx.acc`.
///
/// # Safety
/// `ctx` is the running thread's state.
#[cold]
#[inline(never)]
pub(super) unsafe extern "C" fn stopped(ip: *const u8, sp: *mut u8, ctx: *mut Ctx) -> u64 {
    // SAFETY: the caller's.
    unsafe {
        (*ctx).ip = ip;
        (*ctx).sp = sp;
        (*ctx).acc
    }
}

/// Base and length of the memory that the running function has in its registers.
///
/// # Safety
/// `ctx` is the running thread's state.
#[inline(always)]
pub(super) unsafe fn memory_registers(ctx: *mut Ctx) -> (*mut u8, usize) {
    // SAFETY: the caller's; a memory in the context is live while code that uses it runs.
    unsafe {
        let memory = (*ctx).memory;
        if memory.is_null() {
            (std::ptr::null_mut(), 0)
        } else {
            ((*memory).base, (*memory).len)
        }
    }
}

/// Whether the embedder wants the guest to stop. Called when the poll count has run down.
///
/// # Safety
/// `ctx` is the running thread's state.
#[cold]
#[inline(never)]
pub(super) unsafe extern "C" fn must_stop(ctx: *mut Ctx) -> bool {
    // SAFETY: the caller's.
    unsafe {
        (*ctx).poll = POLL_INTERVAL;
        let core = (*ctx).core;
        if (*core).interrupt.swap(false, Ordering::Relaxed) {
            return true;
        }
        (*core)
            .deadline
            .is_some_and(|deadline| std::time::Instant::now() >= deadline)
    }
}

/// Translates a function whose stub was called with the frame `sp`: `DONE` or the code that ends the run.
///
/// # Safety
/// `ctx` is the running thread's state, `func` a live record of a module's function, `sp` its new frame.
#[cold]
#[inline(never)]
pub(super) unsafe extern "C" fn translate(ctx: *mut Ctx, func: *mut FuncRec, sp: *mut u8) -> u64 {
    // SAFETY: the caller's.
    unsafe {
        (*ctx).ip = (*func).stub.as_ptr().cast();
        (*ctx).sp = sp;
        if let Err(error) = super::compile::compile((*ctx).core, func) {
            return fail(ctx, error);
        }
        patch_caller(func, sp);
    }
    DONE
}

/// If the call that made the frame `sp` is a direct one to the stub of `func`, makes it go to its code.
///
/// # Safety
/// `func` is a live, translated record; `sp` is its frame, with the return ip below.
#[inline(always)]
pub(super) unsafe fn patch_caller(func: *mut FuncRec, sp: *mut u8) {
    // SAFETY: a return ip lies behind a call, which is at least 24 bytes long, or behind the entry cell of a run. The
    // word 8 bytes before it is only written if it is the address of this function's stub, which only calls to it
    // contain, as their code; and such a call that is not one of 24 bytes is one of 32.
    unsafe {
        let return_ip = *sp.cast::<*mut u8>().sub(1);
        let code = return_ip.sub(8).cast::<u64>();
        let stub = (*func).stub.as_ptr() as u64;
        let calls = |length, ops: &[Op]| is_one_of(func, *return_ip.sub(length).cast::<u64>(), ops);
        if *code == stub && (calls(24, &CALLS) || calls(32, &LONG_CALLS)) {
            *code = (*func).code as u64;
        }
    }
}

/// Direct calls of 24 bytes.
const CALLS: [Op; 4] = [
    Op(Family::Call as u16 * FORMS as u16),
    Op(Family::Call as u16 * FORMS as u16 + 1),
    Op(Family::Call as u16 * FORMS as u16 + 2),
    Op(Family::CallFar as u16 * FORMS as u16),
];
/// Direct calls of 32 bytes.
const LONG_CALLS: [Op; 4] = [
    Op(Family::CallCopy as u16 * FORMS as u16),
    Op(Family::CallCopy as u16 * FORMS as u16 + 1),
    Op(Family::CallCopy as u16 * FORMS as u16 + 2),
    Op(Family::CallCopy as u16 * FORMS as u16 + 3),
];

/// Whether word 0 of an instruction is that of one of these operators.
unsafe fn is_one_of(func: *mut FuncRec, word: u64, ops: &[Op]) -> bool {
    // SAFETY: a function with code belongs to an instance.
    let words = unsafe { table::words((*(*func).instance).module.engine().config()) };
    ops.iter().any(|op| words[usize::from(op.0)] == word)
}

/// The code cell of `func` for callers that run with the memory in the registers.
///
/// # Safety
/// `ctx` is the running thread's state, `func` a live record.
#[inline(never)]
pub(super) unsafe extern "C" fn code_for(ctx: *mut Ctx, func: *mut FuncRec) -> *const u8 {
    // SAFETY: the caller's.
    unsafe { super::code_for_memory((*ctx).core, func, (*ctx).memory) }
}

/// The function at an index of a table, if it has the type; else null.
///
/// # Safety
/// `ctx` is the running thread's state, `table` a live table of functions.
#[inline(never)]
pub(super) unsafe extern "C" fn table_function(
    ctx: *mut Ctx,
    table: *mut TableRec,
    index: u32,
    ty: u32,
) -> *mut FuncRec {
    // SAFETY: the caller's; `refs` holds addresses of live records or 0.
    unsafe {
        let refs = &(*table).refs;
        let Some(slot) = refs.get(index as usize) else {
            return refuse(ctx, TrapCode::UndefinedElement);
        };
        let func = *slot as *mut FuncRec;
        if func.is_null() {
            return refuse(ctx, TrapCode::UninitializedElement);
        }
        if (*func).ty != ty {
            return refuse(ctx, TrapCode::IndirectCallTypeMismatch);
        }
        func
    }
}

/// Calls the host function `func` with the frame `sp`: `DONE` or the code that ends the run.
///
/// # Safety
/// `ctx` is the running thread's state, `func` a live record of a host function, `sp` its new frame.
#[inline(never)]
pub(super) unsafe extern "C" fn call_host(ctx: *mut Ctx, func: *mut FuncRec, sp: *mut u8) -> u64 {
    // SAFETY: the frame has room for parameters and results (`FuncRec::frame`); nested runs start above it.
    unsafe {
        let core = (*ctx).core;
        let FuncKind::Host(host) = &(*func).kind else {
            return TrapCode::Host as u64;
        };
        let count = usize::from((*func).params.max((*func).results));
        let slots = std::slice::from_raw_parts_mut(sp.cast::<u64>(), count);
        let return_ip = *sp.cast::<*const u8>().sub(1);
        (*ctx).ip = return_ip;
        (*ctx).sp = sp;
        // A tail call left the return address of its own caller.
        let tail_caller = std::mem::replace(&mut (*ctx).tail_caller, std::ptr::null());
        (*core).caller = if tail_caller.is_null() {
            return_ip
        } else {
            tail_caller
        };
        let top = (*core).stack_top;
        (*core).stack_top = sp as usize + count * 8 + 32 - (*core).stack.as_ptr() as usize;
        let memory = (*ctx).memory;
        let result = host((*ctx).store, slots);
        (*core).stack_top = top;
        (*ctx).memory = memory;
        (*ctx).sp = sp;
        match result {
            Ok(()) => DONE,
            Err(error) => {
                // The innermost frame is the host's; its stub is in no code of the store.
                (*ctx).ip = (*func).stub.as_ptr().cast();
                fail(ctx, error)
            }
        }
    }
}

/// The function that a deferred one stands for, or null.
///
/// # Safety
/// `ctx` is the running thread's state, `func` a live deferred record, `sp` its new frame.
#[inline(never)]
pub(super) unsafe extern "C" fn resolve(
    ctx: *mut Ctx,
    func: *mut FuncRec,
    sp: *mut u8,
) -> *mut FuncRec {
    // SAFETY: the caller's. The resolver runs like a host function: nested runs start above the frame.
    unsafe {
        let core = (*ctx).core;
        let bound = super::resolved(func);
        if bound != func {
            return bound;
        }
        let return_ip = *sp.cast::<*const u8>().sub(1);
        (*ctx).ip = return_ip;
        (*ctx).sp = sp;
        (*core).caller = return_ip;
        let top = (*core).stack_top;
        let frame = usize::from((*func).params.max((*func).results)) * 8 + 32;
        (*core).stack_top = sp as usize + frame - (*core).stack.as_ptr() as usize;
        let memory = (*ctx).memory;
        let result = deferred::resolve_deferred(core, (*ctx).store, func);
        (*core).stack_top = top;
        (*ctx).memory = memory;
        match result {
            Ok(target) => target,
            Err(error) => {
                (*ctx).acc = fail(ctx, error);
                std::ptr::null_mut()
            }
        }
    }
}

/// The function that a trampoline calls, its arguments moved down to the frame's start; or null.
///
/// # Safety
/// `ctx` is the running thread's state, `func` a live trampoline, `sp` its new frame.
#[inline(never)]
pub(super) unsafe extern "C" fn trampoline_target(
    ctx: *mut Ctx,
    func: *mut FuncRec,
    sp: *mut u8,
) -> *mut FuncRec {
    // SAFETY: the caller's; the frame holds all parameters of the trampoline.
    unsafe {
        let FuncKind::Trampoline { table, pointer } = &(*func).kind else {
            return refuse(ctx, TrapCode::UnresolvedFunction);
        };
        let pointer = usize::from(*pointer);
        let index = u32::slot(sp, pointer * 8);
        let refs = &(**table).refs;
        let Some(slot) = refs.get(index as usize) else {
            return refuse(ctx, TrapCode::UndefinedElement);
        };
        let target = *slot as *mut FuncRec;
        if target.is_null() {
            return refuse(ctx, TrapCode::UninitializedElement);
        }
        if !trampoline_fits(ctx, func, pointer, target) {
            return refuse(ctx, TrapCode::IndirectCallTypeMismatch);
        }
        let rest = usize::from((*func).params) - pointer - 1;
        let from = sp.cast::<u64>().add(pointer + 1);
        std::ptr::copy(from, sp.cast::<u64>().add(pointer), rest);
        target
    }
}

/// Whether the trampoline's other parameters begin with the target's, and the results are equal.
unsafe fn trampoline_fits(
    ctx: *mut Ctx,
    func: *mut FuncRec,
    pointer: usize,
    target: *mut FuncRec,
) -> bool {
    // SAFETY: both records are live.
    unsafe {
        let engine = &(*(*ctx).core).engine;
        engine.with_types((*func).ty, (*target).ty, |outer, inner| {
            let params = outer.params();
            let mut offered = params[..pointer]
                .iter()
                .chain(params.get(pointer + 1..).unwrap_or(&[]));
            outer.results() == inner.results()
                && inner
                    .params()
                    .iter()
                    .all(|wanted| offered.next() == Some(wanted))
        })
    }
}

/// An operation out of line: operands in the slots at fields 8, 10, 12, 14, words at 16 and 24.
/// Gives `DONE` with the result in `ctx.acc`, or the code that ends the run.
pub(super) trait ColdOp: 'static {
    /// # Safety
    /// The instruction at `ip` is this operation's, `sp` its frame, `ctx` the running thread's state.
    unsafe fn run(ctx: *mut Ctx, ip: *const u8, sp: *mut u8) -> u64;
}

/// The value of the slot operand at field `8 + 2 * n`.
pub(super) unsafe fn operand<V: Value>(ip: *const u8, sp: *mut u8, n: usize) -> V {
    // SAFETY: the instruction has this operand.
    unsafe { V::slot(sp, field16(ip, 8 + 2 * n)) }
}

macro_rules! cold_op {
    ($(#[$meta:meta])* $name:ident($ctx:ident, $ip:ident, $sp:ident) $body:block) => {
        $(#[$meta])*
        pub(super) struct $name;
        impl ColdOp for $name {
            #[inline(never)]
            #[allow(unused_variables)]
            unsafe fn run($ctx: *mut Ctx, $ip: *const u8, $sp: *mut u8) -> u64 {
                // SAFETY: operands are slots of the frame and addresses of live records, baked by translation.
                unsafe { $body }
            }
        }
    };
}

/// `DONE`, or the trap's code.
pub(super) fn done(result: Result<(), TrapCode>) -> u64 {
    match result {
        Ok(()) => DONE,
        Err(code) => code as u64,
    }
}

/// Bytes of a bulk operation between two looks at the interrupt flag and the clock: about a millisecond.
pub(super) const CHUNK: u64 = 8 << 20;
/// What an element of a table costs in bytes of a bulk operation.
const ELEMENT: u64 = 64;

/// Pays for `bytes` of a bulk operation before they are moved: fuel, and a share of the time to the next look at the
/// interrupt flag and the clock.
unsafe fn charge(ctx: *mut Ctx, bytes: u64) -> Result<(), TrapCode> {
    // SAFETY: `ctx` is the running thread's state.
    unsafe {
        charge_fuel(ctx, bytes)?;
        charge_time(ctx, bytes)
    }
}

/// Takes the fuel that `bytes` of a bulk operation cost; none if there is not enough.
pub(super) unsafe fn charge_fuel(ctx: *mut Ctx, bytes: u64) -> Result<(), TrapCode> {
    // SAFETY: `ctx` is the running thread's state.
    unsafe {
        if (*(*ctx).core).engine.config().fuel {
            let left = (*ctx).fuel.checked_sub(fuel_for(bytes));
            (*ctx).fuel = left.ok_or(TrapCode::OutOfFuel)?;
        }
    }
    Ok(())
}

/// Looks at the interrupt flag and the clock if the time that `bytes` of a bulk operation take says so.
pub(super) unsafe fn charge_time(ctx: *mut Ctx, bytes: u64) -> Result<(), TrapCode> {
    // SAFETY: `ctx` is the running thread's state.
    unsafe {
        if (*(*ctx).core).engine.config().interruption {
            let left = u64::from((*ctx).poll).saturating_sub(fuel_for(bytes) + 1);
            (*ctx).poll = u32::try_from(left).unwrap_or(u32::MAX).max(1);
            if left == 0 && must_stop(ctx) {
                return Err(TrapCode::Interrupted);
            }
        }
    }
    Ok(())
}

/// What `bytes` of a bulk operation cost, as if they were this many instructions.
fn fuel_for(bytes: u64) -> u64 {
    bytes / 64
}

/// Runs a bulk operation of `len` bytes piece by piece: `piece(start, length)` from the first to the last or, with
/// `down`, the other way round. The whole was checked against the bounds before, and its fuel is paid before the first
/// piece; interruption is looked at before each of them.
unsafe fn in_chunks(
    ctx: *mut Ctx,
    len: u64,
    down: bool,
    piece: impl Fn(u64, u64) -> Result<(), TrapCode>,
) -> Result<(), TrapCode> {
    // SAFETY: `ctx` is the running thread's state.
    unsafe { charge_fuel(ctx, len)? };
    let count = len.div_ceil(CHUNK);
    for i in 0..count {
        let start = CHUNK * if down { count - 1 - i } else { i };
        let length = CHUNK.min(len - start);
        // SAFETY: `ctx` is the running thread's state.
        unsafe { charge_time(ctx, length)? };
        piece(start, length)?;
    }
    Ok(())
}

/// Whether `len` bytes at `at` are in the memory.
unsafe fn in_bounds(memory: *const MemoryRec, at: u64, len: u64) -> Result<(), TrapCode> {
    // SAFETY: the memory is live.
    let size = unsafe { (*memory).len as u64 };
    if at + len <= size {
        Ok(())
    } else {
        Err(TrapCode::MemoryOutOfBounds)
    }
}

cold_op! {
    /// Pages of the memory @16.
    MemorySizeOf(ctx, ip, sp) {
        (*ctx).acc = ((*(field64(ip, 16) as *const MemoryRec)).len >> 16) as u64;
        DONE
    }
}
cold_op! {
    /// Grows the memory @16 by operand 0 pages; the size before, or -1.
    MemoryGrow(ctx, ip, sp) {
        let memory = field64(ip, 16) as *mut MemoryRec;
        let pages = u64::from(operand::<u32>(ip, sp, 0));
        match memory::memory_grow((*ctx).core, (*ctx).store, memory, pages) {
            Ok(before) => {
                (*ctx).acc = before.unwrap_or(u64::from(u32::MAX));
                DONE
            }
            Err(error) => fail(ctx, error),
        }
    }
}
cold_op! {
    /// Fills operand 2 bytes at operand 0 with operand 1 in the memory @16.
    MemoryFill(ctx, ip, sp) {
        let len = u64::from(operand::<u32>(ip, sp, 2));
        let (dst, byte) = (u64::from(operand::<u32>(ip, sp, 0)), operand::<u32>(ip, sp, 1) as u8);
        let memory = field64(ip, 16) as *mut MemoryRec;
        done(in_bounds(memory, dst, len).and_then(|()| {
            in_chunks(ctx, len, false, |start, len| memory::memory_fill(memory, dst + start, byte, len))
        }))
    }
}
cold_op! {
    /// Copies operand 2 bytes from operand 1 in the memory @24 to operand 0 in the memory @16.
    MemoryCopy(ctx, ip, sp) {
        let len = u64::from(operand::<u32>(ip, sp, 2));
        let (dst, src) = (u64::from(operand::<u32>(ip, sp, 0)), u64::from(operand::<u32>(ip, sp, 1)));
        let (to, from) = (field64(ip, 16) as *mut MemoryRec, field64(ip, 24) as *mut MemoryRec);
        // Where the ranges overlap, the end that the target reaches into is copied first.
        done(in_bounds(to, dst, len).and_then(|()| in_bounds(from, src, len)).and_then(|()| {
            in_chunks(ctx, len, dst > src, |start, len| {
                memory::memory_copy(to, dst + start, from, src + start, len)
            })
        }))
    }
}
cold_op! {
    /// Copies operand 2 bytes from operand 1 of a data segment to operand 0 of a memory; both indices @16.
    MemoryInit(ctx, ip, sp) {
        let (len, src) = (operand::<u32>(ip, sp, 2), operand::<u32>(ip, sp, 1));
        let dst = operand::<u32>(ip, sp, 0);
        let instance = field64(ip, 24) as *mut InstanceRec;
        let (segment, memory) = indices(ip);
        let memory = (&(*instance).memories)[memory as usize];
        // A segment is at most as long as a module, so it is one piece.
        done(charge(ctx, u64::from(len)).and_then(|()| {
            memory::memory_init(instance, segment, memory, u64::from(dst), u64::from(src), u64::from(len))
        }))
    }
}
cold_op! {
    /// Drops a data segment.
    DataDrop(ctx, ip, sp) {
        memory::data_drop(field64(ip, 24) as *mut InstanceRec, indices(ip).0);
        DONE
    }
}
cold_op! {
    /// The reference at operand 0 of the table @16.
    TableGet(ctx, ip, sp) {
        let refs = &(*(field64(ip, 16) as *const TableRec)).refs;
        match refs.get(operand::<u32>(ip, sp, 0) as usize) {
            Some(slot) => {
                (*ctx).acc = *slot;
                DONE
            }
            None => TrapCode::TableOutOfBounds as u64,
        }
    }
}
cold_op! {
    /// Sets the reference at operand 0 of the table @16 to operand 1.
    TableSet(ctx, ip, sp) {
        let (index, slot) = (operand::<u32>(ip, sp, 0), operand::<u64>(ip, sp, 1));
        done(tables::table_set((*ctx).core, field64(ip, 16) as *mut TableRec, u64::from(index), slot))
    }
}
cold_op! {
    /// Elements of the table @16.
    TableSize(ctx, ip, sp) {
        (*ctx).acc = (*(field64(ip, 16) as *const TableRec)).len;
        DONE
    }
}
cold_op! {
    /// Grows the table @16 by operand 1 elements of value operand 0; the size before, or -1.
    TableGrow(ctx, ip, sp) {
        let (slot, delta) = (operand::<u64>(ip, sp, 0), operand::<u32>(ip, sp, 1));
        let table = field64(ip, 16) as *mut TableRec;
        match tables::table_grow((*ctx).core, (*ctx).store, table, u64::from(delta), slot) {
            Ok(before) => {
                (*ctx).acc = before.unwrap_or(u64::from(u32::MAX));
                DONE
            }
            Err(error) => fail(ctx, error),
        }
    }
}
cold_op! {
    /// Fills operand 2 elements at operand 0 of the table @16 with operand 1.
    TableFill(ctx, ip, sp) {
        let (index, len) = (operand::<u32>(ip, sp, 0), operand::<u32>(ip, sp, 2));
        let (slot, table) = (operand::<u64>(ip, sp, 1), field64(ip, 16) as *mut TableRec);
        done(charge(ctx, u64::from(len) * ELEMENT).and_then(|()| {
            tables::table_fill((*ctx).core, table, u64::from(index), slot, u64::from(len))
        }))
    }
}
cold_op! {
    /// Copies operand 2 elements from operand 1 of the table @24 to operand 0 of the table @16.
    TableCopy(ctx, ip, sp) {
        let len = operand::<u32>(ip, sp, 2);
        let (dst, src) = (operand::<u32>(ip, sp, 0), operand::<u32>(ip, sp, 1));
        let (to, from) = (field64(ip, 16) as *mut TableRec, field64(ip, 24) as *mut TableRec);
        done(charge(ctx, u64::from(len) * ELEMENT).and_then(|()| {
            tables::table_copy((*ctx).core, to, u64::from(dst), from, u64::from(src), u64::from(len))
        }))
    }
}
cold_op! {
    /// Copies operand 2 elements from operand 1 of an element segment to operand 0 of a table; both indices @16.
    TableInit(ctx, ip, sp) {
        let (len, src) = (operand::<u32>(ip, sp, 2), operand::<u32>(ip, sp, 1));
        let dst = operand::<u32>(ip, sp, 0);
        let instance = field64(ip, 24) as *mut InstanceRec;
        let (segment, table) = indices(ip);
        let table = (&(*instance).tables)[table as usize];
        done(charge(ctx, u64::from(len) * ELEMENT).and_then(|()| {
            tables::table_init((*ctx).core, instance, segment, table, u64::from(dst), u64::from(src), u64::from(len))
        }))
    }
}
cold_op! {
    /// Drops an element segment.
    ElemDrop(ctx, ip, sp) {
        tables::elem_drop(field64(ip, 24) as *mut InstanceRec, indices(ip).0);
        DONE
    }
}

cold_op! {
    /// Sets the cell @16, whose value code holds as constants, to operand 0.
    CellSet(ctx, ip, sp) {
        let cell = field64(ip, 16) as *mut GlobalRec;
        (*cell).value = u64::from(operand::<u32>(ip, sp, 0));
        let core = (*ctx).core;
        ((*core).hooks.global_changed)(core, cell);
        DONE
    }
}

/// Segment and memory or table index of the word @16.
unsafe fn indices(ip: *const u8) -> (u32, u32) {
    // SAFETY: the instruction has this word.
    let word = unsafe { field64(ip, 16) };
    (word as u32, (word >> 32) as u32)
}
