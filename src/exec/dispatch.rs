//! How one instruction reaches the next: the calling convention of handlers, written once, and the
//! two ways of dispatch over the same handler bodies.
//!
//! Registers of the machine: `ip` the instruction, `sp` the frame, `mem` and `len` base and length of
//! memory 0, `ctx` the thread's state, `acc` the integer accumulator, `facc` the float accumulator.
//! The return ip of the running function travels beside the float accumulator ([`Floats`]).
//! Six integers and two floats: stable Rust turns a tail-position call into a jump only as long as all
//! arguments are in registers and the handler keeps no address-taken locals or values to drop.
//!
//! A handler returns when the run ends (a code below [`CODES`]) or, in loop dispatch, the next `ip`.

use crate::runtime::records::{Ctx, Floats};
use crate::trap::TrapCode;

/// Returned by the handler that ends a run.
pub(crate) const DONE: u64 = 0;
/// Every return value below this is `DONE` or a trap code; anything else is an address.
pub(crate) const CODES: u64 = 256;

/// A handler.
#[cfg(target_arch = "x86_64")]
pub(crate) type Handler =
    unsafe extern "sysv64" fn(*const u8, *mut u8, *mut u8, usize, *mut Ctx, u64, Floats) -> u64;
/// A handler.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) type Handler =
    unsafe extern "C" fn(*const u8, *mut u8, *mut u8, usize, *mut Ctx, u64, Floats) -> u64;

/// Writes a handler: its generics in brackets, its name, the registers, the body.
macro_rules! handler {
    ($(#[$meta:meta])* [$($generics:tt)*] $name:ident($ip:ident, $sp:ident, $mem:ident, $len:ident, $ctx:ident, $acc:ident, $facc:ident) $body:block) => {
        $(#[$meta])*
        #[cfg(target_arch = "x86_64")]
        #[allow(unused_variables, clippy::too_many_arguments)]
        pub(in crate::exec) unsafe extern "sysv64" fn $name<$($generics)*>(
            $ip: *const u8, $sp: *mut u8, $mem: *mut u8, $len: usize, $ctx: *mut Ctx, $acc: u64, $facc: $crate::runtime::records::Floats,
        ) -> u64 {
            // SAFETY: every handler relies on the same facts, established by translating validated code:
            // `ip` is at an instruction of this handler in live code, `sp` is a frame of the function
            // that the code belongs to, every slot offset of which is on the value stack (the call checked the
            // start, behind the limit lies the red zone, and a function with a larger frame checked that first),
            // `mem` and `len` are base and length of the function's memory 0, `ctx` is the running thread's state,
            // and addresses in operands are those of live records.
            unsafe {
                $crate::exec::dispatch::at_line();
                $body
            }
        }
        $(#[$meta])*
        #[cfg(not(target_arch = "x86_64"))]
        #[allow(unused_variables, clippy::too_many_arguments)]
        pub(in crate::exec) unsafe extern "C" fn $name<$($generics)*>(
            $ip: *const u8, $sp: *mut u8, $mem: *mut u8, $len: usize, $ctx: *mut Ctx, $acc: u64, $facc: $crate::runtime::records::Floats,
        ) -> u64 {
            // SAFETY: as above.
            unsafe {
                $crate::exec::dispatch::at_line();
                $body
            }
        }
    };
}
pub(crate) use handler;

/// Makes the handler that holds this start at a cache line: the assembler aligns a section as its strictest directive
/// asks, and each function has a section. Here it fills one byte at most. With handlers wherever they
/// happened to come to lie, the workloads took 1.13 times as long, and what changed one moved all others.
#[inline(always)]
pub(in crate::exec) fn at_line() {
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    // SAFETY: a directive of the assembler, which stands for at most one instruction that does nothing.
    unsafe {
        core::arch::asm!(".p2align 6,,1", options(nomem, nostack, preserves_flags));
    }
}

/// A way to reach the next instruction.
pub(crate) trait Dispatch: 'static {
    /// Whether jumps through tables are worth many conditional branches: those between handlers are predicted one by one.
    const LADDERS: bool;

    /// Goes to the instruction at `ip`.
    ///
    /// # Safety
    /// The facts of the `handler!` macro hold for the instruction at `ip`.
    unsafe fn next(
        ip: *const u8,
        sp: *mut u8,
        mem: *mut u8,
        len: usize,
        ctx: *mut Ctx,
        acc: u64,
        facc: Floats,
    ) -> u64;

    /// As `next`, for the taken arm of a branch on data: a jump of its own, so that what comes behind the two arms is
    /// predicted apart.
    ///
    /// # Safety
    /// As `next`.
    #[inline(always)]
    unsafe fn taken(
        ip: *const u8,
        sp: *mut u8,
        mem: *mut u8,
        len: usize,
        ctx: *mut Ctx,
        acc: u64,
        facc: Floats,
    ) -> u64 {
        // SAFETY: the caller's.
        unsafe { Self::next(ip, sp, mem, len, ctx, acc, facc) }
    }

    /// Goes to the instruction at `ip`, whose handler word was read already.
    ///
    /// # Safety
    /// As `next`; `word` is the instruction's word 0.
    #[expect(clippy::too_many_arguments, reason = "the machine's registers")]
    unsafe fn enter(
        word: u64,
        ip: *const u8,
        sp: *mut u8,
        mem: *mut u8,
        len: usize,
        ctx: *mut Ctx,
        acc: u64,
        facc: Floats,
    ) -> u64;
}

/// Jumps from handler to handler.
#[cfg(all(dynlink_tail_calls, not(debug_assertions)))]
pub(crate) struct Tail;

#[cfg(all(dynlink_tail_calls, not(debug_assertions)))]
impl Dispatch for Tail {
    const LADDERS: bool = true;

    #[inline(always)]
    unsafe fn taken(
        ip: *const u8,
        sp: *mut u8,
        mem: *mut u8,
        len: usize,
        ctx: *mut Ctx,
        acc: u64,
        facc: Floats,
    ) -> u64 {
        // SAFETY: word 0 of an instruction in finished code is its handler's address. The empty instruction
        // sequence hides the word from LLVM, which would join the two arms' jumps.
        unsafe {
            let mut word = *ip.cast::<u64>();
            core::arch::asm!("/* {0} */", inout(reg) word, options(nomem, nostack, preserves_flags));
            Self::enter(word, ip, sp, mem, len, ctx, acc, facc)
        }
    }

    #[inline(always)]
    unsafe fn next(
        ip: *const u8,
        sp: *mut u8,
        mem: *mut u8,
        len: usize,
        ctx: *mut Ctx,
        acc: u64,
        facc: Floats,
    ) -> u64 {
        // SAFETY: word 0 of an instruction in finished code is its handler's address.
        unsafe {
            let handler = std::mem::transmute::<u64, Handler>(*ip.cast::<u64>());
            handler(ip, sp, mem, len, ctx, acc, facc)
        }
    }

    #[inline(always)]
    unsafe fn enter(
        word: u64,
        ip: *const u8,
        sp: *mut u8,
        mem: *mut u8,
        len: usize,
        ctx: *mut Ctx,
        acc: u64,
        facc: Floats,
    ) -> u64 {
        // SAFETY: the caller read word 0 of the instruction at `ip`.
        unsafe {
            let handler = std::mem::transmute::<u64, Handler>(word);
            handler(ip, sp, mem, len, ctx, acc, facc)
        }
    }
}

/// Returns to a loop between handlers; the registers travel through the context.
pub(crate) struct Loop;

impl Dispatch for Loop {
    const LADDERS: bool = false;

    #[inline(always)]
    unsafe fn next(
        ip: *const u8,
        sp: *mut u8,
        mem: *mut u8,
        len: usize,
        ctx: *mut Ctx,
        acc: u64,
        facc: Floats,
    ) -> u64 {
        // SAFETY: `ctx` is the running thread's state.
        unsafe {
            (*ctx).sp = sp;
            (*ctx).loop_mem = mem;
            (*ctx).loop_len = len;
            (*ctx).acc = acc;
            (*ctx).facc = facc;
        }
        ip as u64
    }

    #[inline(always)]
    unsafe fn enter(
        _word: u64,
        ip: *const u8,
        sp: *mut u8,
        mem: *mut u8,
        len: usize,
        ctx: *mut Ctx,
        acc: u64,
        facc: Floats,
    ) -> u64 {
        // SAFETY: as the caller's.
        unsafe { Loop::next(ip, sp, mem, len, ctx, acc, facc) }
    }
}

/// In coverage runs the upper 16 bits of word 0 are the operator's number (code addresses have 48 bits).
pub(crate) const WORD_BITS: u32 = 48;

/// Runs from `ip` until the run ends: `DONE` or a trap code. With `COUNT`, word 0 carries the operator's number.
///
/// # Safety
/// As for `Dispatch::next`; the code was finished for loop dispatch (with numbers if `COUNT`).
pub(crate) unsafe fn run_loop<const COUNT: bool>(
    mut ip: *const u8,
    sp: *mut u8,
    mem: *mut u8,
    len: usize,
    ctx: *mut Ctx,
) -> u64 {
    // SAFETY: `ctx` is the running thread's state; `next` leaves all registers in it, and a handler
    // that returns an address returns that of the next instruction.
    unsafe {
        Loop::next(ip, sp, mem, len, ctx, 0, Floats::default());
        loop {
            let mut word = *ip.cast::<u64>();
            if COUNT {
                super::coverage::count(word >> WORD_BITS);
                word &= (1 << WORD_BITS) - 1;
            }
            let handler = std::mem::transmute::<u64, Handler>(word);
            let c = &*ctx;
            let (sp, mem, len, acc, facc) = (c.sp, c.loop_mem, c.loop_len, c.acc, c.facc);
            let next = handler(ip, sp, mem, len, ctx, acc, facc);
            if next < CODES {
                return next;
            }
            ip = next as *const u8;
        }
    }
}

/// Ends the run with a trap at `ip`; `acc` is the code. Out of line, so that handlers only jump to it.
macro_rules! trap {
    ($code:expr; $ip:ident, $sp:ident, $ctx:ident) => {
        return $crate::exec::dispatch::trapped($ip, $sp, $ctx, $code)
    };
}
pub(crate) use trap;

/// Notes where the run stopped and gives the code. `extern "C"`, as everything that handlers call out of
/// line: such a function does not unwind, so the handler needs no frame for a landing pad and jumps to it.
///
/// # Safety
/// `ctx` is the running thread's state.
#[cold]
#[inline(never)]
pub(crate) unsafe extern "C" fn trapped(
    ip: *const u8,
    sp: *mut u8,
    ctx: *mut Ctx,
    code: TrapCode,
) -> u64 {
    // SAFETY: the caller's.
    unsafe {
        (*ctx).ip = ip;
        (*ctx).sp = sp;
    }
    code as u64
}
