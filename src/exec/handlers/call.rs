//! Calls and returns.
//!
//! A callee's frame starts at `new = sp + delta` in the caller's own frame; the caller has written the
//! arguments to the first slots. `new[-8]` is the return ip and `new[-16]` the caller's `sp`: fixed
//! places, because the processor does not predict the virtual ip and sp, and every load on their way counts.
//! A single result comes back in the accumulators, and in the slot of the caller's frame that the call names ([`RESULT`]):
//! a local, an argument of the next call, or a dead slot. Several lie in the first slots of the callee's frame.
//!
//! A call checks that the new frame starts within the stack, no more: behind the limit every frame has [`RED_ZONE`] bytes,
//! and a function that needs more begins with a `Frame` instruction.
//!
//! A call through a table makes all its checks of the table's entry, and then goes to a code cell that it remembers if
//! that is the entry's: `ip` then comes from the instruction, not from the entry, so that what follows starts before index and
//! entry are there if the processor guesses the branch right. What is remembered is never believed, so nothing has to
//! be forgotten when tables change or code is freed.
//!
//! All calls end alike, so that a return and the translation of a callee find what they need at fixed distances below the
//! return ip: delta @-16 (u16, or u32 in far frames), operands @-14 and @-12, the result's slot @-10 (u16), and the
//! callee's code or the table @-8.

use crate::exec::cold;
use crate::exec::dispatch::{DONE, Dispatch, Handler, handler, trap};
use crate::exec::handlers::numeric::Bin;
use crate::exec::value::{Operand, Value, field16, field32, field64};
use crate::ir::REMEMBERED;
use crate::runtime::records::{Ctx, Entry, Floats, FuncKind, FuncRec, RED_ZONE, TableRec};
use crate::trap::TrapCode;

/// Where below the return ip the slot of a call's result is named.
const RESULT: usize = 10;

/// Writes the return ip and the caller's frame below the new frame; the return ip also goes into its register.
///
/// # Safety
/// `new - 16` is in the caller's frame.
#[inline(always)]
unsafe fn link(new: *mut u8, return_ip: *const u8, sp: *mut u8, facc: Floats) -> Floats {
    // SAFETY: the caller's.
    unsafe {
        *new.cast::<u64>().sub(1) = return_ip as u64;
        *new.cast::<u64>().sub(2) = sp as u64;
    }
    facc.linked(return_ip as u64)
}

/// The frame of the caller of the function with the frame `sp`, and the registers with the return ip of that caller.
///
/// # Safety
/// `sp` is the running function's frame.
#[inline(always)]
unsafe fn unlink(sp: *mut u8, facc: Floats) -> (*mut u8, Floats) {
    // SAFETY: below every frame of a run there are two words.
    unsafe {
        let caller = *sp.cast::<u64>().sub(2) as *mut u8;
        (caller, facc.linked(*caller.cast::<u64>().sub(1)))
    }
}

/// Whether a frame at `new` starts behind the limit. If not, [`RED_ZONE`] bytes of it are there.
///
/// # Safety
/// `ctx` is the running thread's state.
#[inline(always)]
unsafe fn overflows(new: *mut u8, ctx: *mut Ctx) -> bool {
    // SAFETY: the caller's.
    unsafe { new as usize > (*ctx).limit as usize }
}

/// Whether `size` bytes at `new` are not all there.
///
/// # Safety
/// `ctx` is the running thread's state.
#[inline(always)]
unsafe fn lacks(new: *mut u8, size: u32, ctx: *mut Ctx) -> bool {
    // SAFETY: the caller's.
    unsafe { new as usize + size as usize > (*ctx).limit as usize + RED_ZONE }
}

/// The rest of a direct call of `$words` words: delta @-16, code @-8.
macro_rules! go {
    ($D:ident, $words:literal; $ip:ident, $sp:ident, $mem:ident, $len:ident, $ctx:ident, $acc:ident, $facc:ident) => {{
        let new = $sp.add(field16($ip, $words * 8 - 16));
        if overflows(new, $ctx) {
            trap!(TrapCode::StackOverflow; $ip, $sp, $ctx)
        }
        let facc = link(new, $ip.add($words * 8), $sp, $facc);
        $D::next(field64($ip, $words * 8 - 8) as *const u8, new, $mem, $len, $ctx, $acc, facc)
    }};
}

handler! {
    /// Calls a function whose code is known.
    [D: Dispatch]
    call(ip, sp, mem, len, ctx, acc, facc) {
        go!(D, 3; ip, sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// The same; the last argument is in an accumulator and goes to slot @10 first.
    [D: Dispatch, const INTEGER: bool]
    call_last(ip, sp, mem, len, ctx, acc, facc) {
        if INTEGER {
            acc.put(sp, field16(ip, 10));
        } else {
            facc.value.put(sp, field16(ip, 10));
        }
        go!(D, 3; ip, sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Calls a function; a slot is its last argument.
    [D: Dispatch]
    call_copy(ip, sp, mem, len, ctx, acc, facc) {
        u64::slot(sp, field16(ip, 8)).put(sp, field16(ip, 18));
        go!(D, 4; ip, sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// The same with two slots.
    [D: Dispatch]
    call_copy_two(ip, sp, mem, len, ctx, acc, facc) {
        u64::slot(sp, field16(ip, 8)).put(sp, field16(ip, 18));
        u64::slot(sp, field16(ip, 10)).put(sp, field16(ip, 20));
        go!(D, 4; ip, sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// The same with a constant.
    [D: Dispatch]
    call_imm(ip, sp, mem, len, ctx, acc, facc) {
        u64::from(field32(ip, 12)).put(sp, field16(ip, 18));
        go!(D, 4; ip, sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// The same with a sum.
    [D: Dispatch]
    call_add(ip, sp, mem, len, ctx, acc, facc) {
        u32::slot(sp, field16(ip, 8)).wrapping_add(field32(ip, 12)).put(sp, field16(ip, 18));
        go!(D, 4; ip, sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Calls from a frame that is larger than u16 offsets reach.
    [D: Dispatch]
    call_far(ip, sp, mem, len, ctx, acc, facc) {
        let new = sp.add(field32(ip, 8) as usize);
        if overflows(new, ctx) {
            trap!(TrapCode::StackOverflow; ip, sp, ctx)
        }
        let facc = link(new, ip.add(24), sp, facc);
        D::next(field64(ip, 16) as *const u8, new, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// First instruction of a function whose frame is larger than the red zone, by @12.
    [D: Dispatch]
    frame(ip, sp, mem, len, ctx, acc, facc) {
        if sp as usize + field32(ip, 12) as usize > (*ctx).limit as usize {
            trap!(TrapCode::StackOverflow; ip, sp, ctx)
        }
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}
/// One of the remembered cells, `$n` words below the return ip: if it is the entry's, the call goes there. The processor
/// guesses so by the branch, and `ip` does not wait for index and entry. Each arm has its own jump, predicted by itself.
macro_rules! if_remembered {
    ($D:ident, $code:ident, $ip:ident, $words:literal, $n:literal, ($($registers:ident),*)) => {
        let mut remembered = field64($ip, ($words - $n) * 8);
        if remembered == $code as u64 {
            // An empty instruction sequence: LLVM does not know the two to be the same, nor the arms.
            core::arch::asm!("/* {0} {1} */", inout(reg) remembered, const $n, options(nomem, nostack, preserves_flags));
            return $D::taken(remembered as *const u8, $($registers),*);
        }
    };
}

/// The rest of a call through a table of `$words` words, whose entries are right for this function's memory: type @8, then
/// remembered code cells, table in the last word.
macro_rules! go_through {
    ($D:ident, $words:literal, $index:expr; $ip:ident, $sp:ident, $mem:ident, $len:ident, $ctx:ident, $acc:ident, $facc:ident) => {{
        let table = field64($ip, $words * 8 - 8) as *const TableRec;
        let index = u64::from($index);
        if index >= (*table).len {
            trap!(TrapCode::UndefinedElement; $ip, $sp, $ctx)
        }
        let entry = (*table).entries.add(index as usize);
        if (*entry).ty != field32($ip, 8) {
            return wrong_entry(entry, $ip, $sp, $ctx);
        }
        let new = $sp.add(field16($ip, $words * 8 - 16));
        if overflows(new, $ctx) {
            trap!(TrapCode::StackOverflow; $ip, $sp, $ctx)
        }
        let code = (*entry).code;
        let facc = link(new, $ip.add($words * 8), $sp, $facc);
        if_remembered!($D, code, $ip, $words, 6, (new, $mem, $len, $ctx, $acc, facc));
        if_remembered!($D, code, $ip, $words, 5, (new, $mem, $len, $ctx, $acc, facc));
        if_remembered!($D, code, $ip, $words, 4, (new, $mem, $len, $ctx, $acc, facc));
        if_remembered!($D, code, $ip, $words, 3, (new, $mem, $len, $ctx, $acc, facc));
        remember::<$D>(code, new, $mem, $len, $ctx, $acc, facc)
    }};
}

handler! {
    /// Goes on to a code cell that the call does not remember; it does from now on, as long as it remembers few. Those of
    /// functions without code are not worth it.
    [D: Dispatch]
    remember(ip, sp, mem, len, ctx, acc, facc) {
        let cells = facc.link().cast_mut().cast::<u64>().sub(2 + REMEMBERED);
        let is_stub = field64(ip, 0) == lazy::<D> as Handler as usize as u64;
        for n in 0..REMEMBERED {
            if is_stub {
                break;
            }
            let cell = cells.add(n);
            if *cell == 0 {
                *cell = ip as u64;
                break;
            }
        }
        D::next(ip, sp, mem, len, ctx, acc, facc)
    }
}

handler! {
    /// Calls through a table; the index is in a slot or in the accumulator.
    [D: Dispatch, X: Operand]
    call_indirect(ip, sp, mem, len, ctx, acc, facc) {
        go_through!(D, 8, X::get::<u32>(ip, sp, acc, facc); ip, sp, mem, len, ctx, acc, facc)
    }
}

/// Where the index of a call through a table comes from that does more than to call.
pub(in crate::exec) trait Index: 'static {
    /// Whether it is loaded, which comes before the copies; a slot may be the target of a copy.
    const LOADED: bool;
    /// The index, or `None` if it is out of memory's bounds.
    ///
    /// # Safety
    /// The instruction at `ip` has this operand; `mem` and `len` are base and length of memory 0.
    unsafe fn get(ip: *const u8, sp: *mut u8, mem: *mut u8, len: usize, acc: u64) -> Option<u32>;
}
/// Slot @12 or accumulator.
pub(in crate::exec) struct Held<X>(std::marker::PhantomData<X>);
/// The four bytes at slot @12 or accumulator, plus @16.
pub(in crate::exec) struct Loaded<X>(std::marker::PhantomData<X>);
/// The four bytes at those four bytes plus @28, as of the entry of an object's table of methods.
pub(in crate::exec) struct LoadedTwice<X>(std::marker::PhantomData<X>);

/// Four bytes of memory 0.
///
/// # Safety
/// `mem` and `len` are base and length of memory 0.
#[inline(always)]
unsafe fn word_at(mem: *mut u8, len: usize, base: u32, offset: u32) -> Option<u32> {
    let ea = base as usize + offset as usize;
    if ea + 4 > len {
        return None;
    }
    // SAFETY: in bounds.
    Some(unsafe { u32::from_le(mem.add(ea).cast::<u32>().read_unaligned()) })
}

impl<X: Operand> Index for Held<X> {
    const LOADED: bool = false;
    #[inline(always)]
    unsafe fn get(ip: *const u8, sp: *mut u8, _: *mut u8, _: usize, acc: u64) -> Option<u32> {
        // SAFETY: the caller's.
        Some(unsafe { X::get::<u32>(ip, sp, acc, Floats::default()) })
    }
}
impl<X: Operand> Index for Loaded<X> {
    const LOADED: bool = true;
    #[inline(always)]
    unsafe fn get(ip: *const u8, sp: *mut u8, mem: *mut u8, len: usize, acc: u64) -> Option<u32> {
        // SAFETY: the caller's.
        unsafe {
            word_at(
                mem,
                len,
                X::get::<u32>(ip, sp, acc, Floats::default()),
                field32(ip, 16),
            )
        }
    }
}
impl<X: Operand> Index for LoadedTwice<X> {
    const LOADED: bool = true;
    #[inline(always)]
    unsafe fn get(ip: *const u8, sp: *mut u8, mem: *mut u8, len: usize, acc: u64) -> Option<u32> {
        // SAFETY: the caller's.
        unsafe {
            let methods = Loaded::<X>::get(ip, sp, mem, len, acc)?;
            word_at(mem, len, methods, field32(ip, 28))
        }
    }
}

/// No argument is copied.
pub(in crate::exec) const NO_COPY: u8 = 0;
/// Slot @14 to slot @66.
pub(in crate::exec) const ONE_COPY: u8 = 1;
/// The same, and slot @24 to slot @68.
pub(in crate::exec) const TWO_COPIES: u8 = 2;
/// Slot @14 plus imm @20 to slot @66.
pub(in crate::exec) const ADDITION: u8 = 3;

handler! {
    /// Calls through a table, after it has loaded the index and then copied the last arguments.
    [D: Dispatch, X: Index, const COPIES: u8]
    call_through(ip, sp, mem, len, ctx, acc, facc) {
        let loaded = if X::LOADED { X::get(ip, sp, mem, len, acc) } else { None };
        if X::LOADED && loaded.is_none() {
            // The second word has the place of the load.
            let load = ip.add(8);
            trap!(TrapCode::MemoryOutOfBounds; load, sp, ctx)
        }
        match COPIES {
            ONE_COPY | TWO_COPIES => u64::slot(sp, field16(ip, 14)).put(sp, field16(ip, 66)),
            ADDITION => u32::slot(sp, field16(ip, 14)).wrapping_add(field32(ip, 20)).put(sp, field16(ip, 66)),
            _ => {}
        }
        if COPIES == TWO_COPIES {
            u64::slot(sp, field16(ip, 24)).put(sp, field16(ip, 68));
        }
        let index = if X::LOADED { loaded } else { X::get(ip, sp, mem, len, acc) };
        go_through!(D, 10, index.unwrap_or_default(); ip, sp, mem, len, ctx, acc, facc)
    }
}

/// Tells a null entry from one of another type.
///
/// # Safety
/// `entry` is a live entry; `ctx` the running thread's state.
#[cold]
#[inline(never)]
unsafe extern "C" fn wrong_entry(
    entry: *const Entry,
    ip: *const u8,
    sp: *mut u8,
    ctx: *mut Ctx,
) -> u64 {
    // SAFETY: the caller's.
    unsafe {
        if (*entry).ty == Entry::NULL_TYPE {
            trap!(TrapCode::UninitializedElement; ip, sp, ctx)
        }
        trap!(TrapCode::IndirectCallTypeMismatch; ip, sp, ctx)
    }
}

handler! {
    /// Calls through any table from any function: the code is chosen for the memory that is in the registers.
    [D: Dispatch, X: Operand]
    call_any(ip, sp, mem, len, ctx, acc, facc) {
        let func = cold::table_function(
            ctx, field64(ip, 24) as *mut TableRec, X::get::<u32>(ip, sp, acc, facc), field32(ip, 8));
        if func.is_null() {
            return cold::stopped(ip, sp, ctx);
        }
        let new = sp.add(field32(ip, 16) as usize);
        if overflows(new, ctx) {
            trap!(TrapCode::StackOverflow; ip, sp, ctx)
        }
        let facc = link(new, ip.add(32), sp, facc);
        D::next(cold::code_for(ctx, func), new, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Replaces this frame by the callee's.
    [D: Dispatch]
    tail_call(ip, sp, mem, len, ctx, acc, facc) {
        let from = sp.add(field32(ip, 8) as usize).cast::<u64>();
        std::ptr::copy(from, sp.cast::<u64>(), field32(ip, 28) as usize);
        D::next(field64(ip, 16) as *const u8, sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// The same through a table.
    [D: Dispatch, X: Operand]
    tail_call_any(ip, sp, mem, len, ctx, acc, facc) {
        let func = cold::table_function(
            ctx, field64(ip, 16) as *mut TableRec, X::get::<u32>(ip, sp, acc, facc), field32(ip, 12));
        if func.is_null() {
            return cold::stopped(ip, sp, ctx);
        }
        if matches!((*func).kind, FuncKind::Host(_)) {
            (*ctx).tail_caller = ip.add(16);
        }
        let from = sp.add(field32(ip, 8) as usize).cast::<u64>();
        std::ptr::copy(from, sp.cast::<u64>(), field32(ip, 28) as usize);
        D::next(cold::code_for(ctx, func), sp, mem, len, ctx, acc, facc)
    }
}

/// Goes back to the caller.
macro_rules! give_back {
    ($D:ident; $sp:ident, $mem:ident, $len:ident, $ctx:ident, $acc:expr, $facc:expr) => {{
        let ip = $facc.link();
        let (sp, facc) = unlink($sp, $facc);
        $D::next(ip, sp, $mem, $len, $ctx, $acc, facc)
    }};
}

/// The same with a result, which goes to the slot that the call names, too.
macro_rules! give_result {
    ($D:ident, $result:expr; $sp:ident, $mem:ident, $len:ident, $ctx:ident, $acc:ident, $facc:ident) => {{
        let result = $result;
        let ip = $facc.link();
        let (sp, facc) = unlink($sp, $facc);
        result.put(sp, field16(ip.sub(RESULT), 0));
        let (acc, facc) = result.spread($acc, facc);
        $D::next(ip, sp, $mem, $len, $ctx, acc, facc)
    }};
}

handler! {
    /// There is no result, or there are several in the first slots.
    [D: Dispatch]
    ret(ip, sp, mem, len, ctx, acc, facc) {
        give_back!(D; sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// The result is in the integer accumulator.
    [D: Dispatch]
    ret_acc(ip, sp, mem, len, ctx, acc, facc) {
        give_result!(D, acc; sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// The result is in the float accumulator.
    [D: Dispatch]
    ret_facc(ip, sp, mem, len, ctx, acc, facc) {
        give_result!(D, facc.value; sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// The result is in slot @10.
    [D: Dispatch]
    ret_slot(ip, sp, mem, len, ctx, acc, facc) {
        give_result!(D, u64::slot(sp, field16(ip, 10)); sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// The result is a float in slot @10.
    [D: Dispatch]
    ret_slot_f(ip, sp, mem, len, ctx, acc, facc) {
        give_result!(D, f64::slot(sp, field16(ip, 10)); sp, mem, len, ctx, acc, facc)
    }
}
/// The stack pointer goes back.
macro_rules! stack_goes_back {
    ($ip:ident, $sp:ident) => {
        let sum = u32::slot($sp, field16($ip, 8)).wrapping_add(field32($ip, 12));
        *(field64($ip, 16) as *mut u64) = u64::from(sum);
    };
}
handler! {
    /// The stack pointer goes back; as `ret`.
    [D: Dispatch]
    ret_sum(ip, sp, mem, len, ctx, acc, facc) {
        stack_goes_back!(ip, sp);
        give_back!(D; sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// The stack pointer goes back; the result is in the integer accumulator.
    [D: Dispatch]
    ret_sum_acc(ip, sp, mem, len, ctx, acc, facc) {
        stack_goes_back!(ip, sp);
        give_result!(D, acc; sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// The stack pointer goes back; the result is in the float accumulator.
    [D: Dispatch]
    ret_sum_facc(ip, sp, mem, len, ctx, acc, facc) {
        stack_goes_back!(ip, sp);
        give_result!(D, facc.value; sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// The stack pointer goes back; the result is in slot @10.
    [D: Dispatch]
    ret_sum_slot(ip, sp, mem, len, ctx, acc, facc) {
        stack_goes_back!(ip, sp);
        give_result!(D, u64::slot(sp, field16(ip, 10)); sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Two operands; the result is the function's.
    [D: Dispatch, O: Bin, X: Operand, Y: Operand]
    ret_bin(ip, sp, mem, len, ctx, acc, facc) {
        match O::eval(X::get(ip, sp, acc, facc), Y::get(ip, sp, acc, facc)) {
            Ok(result) => give_result!(D, result; sp, mem, len, ctx, acc, facc),
            Err(code) => trap!(code; ip, sp, ctx),
        }
    }
}
handler! {
    /// The result is an integer constant.
    [D: Dispatch]
    ret_imm(ip, sp, mem, len, ctx, acc, facc) {
        give_result!(D, i64::from(i32::imm(ip, 12, 12)) as u64; sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// First call of a function: translates it, patches the call that came here, and goes on into it.
    [D: Dispatch]
    lazy(ip, sp, mem, len, ctx, acc, facc) {
        let func = field64(ip, 8) as *mut FuncRec;
        let code = cold::translate(ctx, func, sp);
        if code != DONE {
            return code;
        }
        D::next((*func).code, sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// A call that still goes to the stub of a translated function.
    [D: Dispatch]
    forward(ip, sp, mem, len, ctx, acc, facc) {
        let func = field64(ip, 8) as *mut FuncRec;
        cold::patch_caller(func, sp);
        D::next((*func).code, sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Calls the host and returns for it. The memory may have grown; one result is put in both accumulators.
    [D: Dispatch]
    host_call(ip, sp, mem, len, ctx, acc, facc) {
        let func = field64(ip, 8) as *mut FuncRec;
        if lacks(sp, (*func).frame, ctx) {
            trap!(TrapCode::StackOverflow; ip, sp, ctx)
        }
        let code = cold::call_host(ctx, func, sp);
        if code != DONE {
            return code;
        }
        let (mem, len) = cold::memory_registers(ctx);
        // Without a single result the call names a dead slot.
        let facc = facc.with(f64::slot(sp, 0));
        give_result!(D, u64::slot(sp, 0); sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// A function that is bound later: resolves it and goes there.
    [D: Dispatch]
    deferred(ip, sp, mem, len, ctx, acc, facc) {
        let func = field64(ip, 8) as *mut FuncRec;
        let target = cold::resolve(ctx, func, sp);
        if target.is_null() {
            return cold::stopped(ip, sp, ctx);
        }
        let (mem, len) = cold::memory_registers(ctx);
        D::next(cold::code_for(ctx, target), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Calls `table[p]` in place of this frame: the other parameters move down over the pointer,
    /// surplus ones are dropped.
    [D: Dispatch]
    trampoline(ip, sp, mem, len, ctx, acc, facc) {
        let func = field64(ip, 8) as *mut FuncRec;
        let target = cold::trampoline_target(ctx, func, sp);
        if target.is_null() {
            return cold::stopped(ip, sp, ctx);
        }
        D::next(cold::code_for(ctx, target), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Around a call into another memory: a frame of its own above the arguments, in which the
    /// caller's memory is kept (behind the greater of parameters and results).
    ///
    /// A frame that returns to a `switch_ret` already was tail-called by a function behind such a cell: its
    /// results are of the same types, and the memory that will come back is kept there. A second one
    /// would let tail calls between memories pile up.
    [D: Dispatch]
    switch_call(ip, sp, mem, len, ctx, acc, facc) {
        let func = field64(ip, 16) as *mut FuncRec;
        let return_ip = *sp.cast::<u64>().sub(1) as *const u8;
        if field64(return_ip, 0) == field64(ip, 24) {
            (*ctx).memory = (*func).mem;
            let (mem, len) = cold::memory_registers(ctx);
            return D::next((*func).code, sp, mem, len, ctx, acc, facc);
        }
        let keep = usize::from((*func).params.max((*func).results)) * 8;
        let new = sp.add(keep + 24);
        // The arguments are written before the function can look whether there is room for them.
        if overflows(new, ctx) || lacks(new, u32::from((*func).params) * 8, ctx) {
            trap!(TrapCode::StackOverflow; ip, sp, ctx)
        }
        std::ptr::copy_nonoverlapping(sp.cast::<u64>(), new.cast::<u64>(), usize::from((*func).params));
        ((*ctx).memory as u64).put(sp, keep);
        let facc = link(new, ip.add(24), sp, facc);
        (*ctx).memory = (*func).mem;
        let (mem, len) = cold::memory_registers(ctx);
        D::next((*func).code, new, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Back from another memory. A single result is in slot 0, which is what the cell names.
    [D: Dispatch]
    switch_ret(ip, sp, mem, len, ctx, acc, facc) {
        let func = field64(ip, 8) as *mut FuncRec;
        let keep = usize::from((*func).params.max((*func).results)) * 8;
        (*ctx).memory = u64::slot(sp, keep) as *mut _;
        let (mem, len) = cold::memory_registers(ctx);
        match (*func).results {
            1 => {
                let facc = facc.with(f64::slot(sp, 0));
                return give_result!(D, u64::slot(sp, 0); sp, mem, len, ctx, acc, facc);
            }
            0 => {}
            count => std::ptr::copy(sp.add(keep + 24).cast::<u64>(), sp.cast::<u64>(), usize::from(count)),
        }
        give_back!(D; sp, mem, len, ctx, acc, facc)
    }
}
