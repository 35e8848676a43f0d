//! Jumps, branches on a value, jump tables, and the checks for fuel and interruption.

use crate::exec::cold;
use crate::exec::dispatch::{DONE, Dispatch, handler, trap};
use crate::exec::value::{Operand, Value, field_disp, field16, field32, field64, keep_branch};
use crate::runtime::records::Ctx;
use crate::trap::TrapCode;

handler! {
    /// Always jumps.
    [D: Dispatch]
    jump(ip, sp, mem, len, ctx, acc, facc) {
        D::next(ip.offset(field_disp(ip, 12)), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Copies one slot, or two, and jumps.
    [D: Dispatch, const TWO: bool]
    jump_copy(ip, sp, mem, len, ctx, acc, facc) {
        u64::slot(sp, field16(ip, 10)).put(sp, field16(ip, 8));
        if TWO {
            u64::slot(sp, field16(ip, 18)).put(sp, field16(ip, 16));
        }
        D::next(ip.offset(field_disp(ip, 12)), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Sets a slot and jumps.
    [D: Dispatch]
    jump_imm(ip, sp, mem, len, ctx, acc, facc) {
        field64(ip, 16).put(sp, field16(ip, 8));
        D::next(ip.offset(field_disp(ip, 12)), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Branches if the operand is not zero, or is zero.
    [D: Dispatch, X: Operand, const NONZERO: bool]
    br_test(ip, sp, mem, len, ctx, acc, facc) {
        if (X::get::<u32>(ip, sp, acc, facc) != 0) == NONZERO {
            keep_branch();
            return D::taken(ip.offset(field_disp(ip, 12)), sp, mem, len, ctx, acc, facc);
        }
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// The same of the accumulator, which also goes to slot d: the result of a call that is kept and tested.
    [D: Dispatch, const NONZERO: bool]
    br_copy(ip, sp, mem, len, ctx, acc, facc) {
        acc.put(sp, field16(ip, 8));
        if (acc as u32 != 0) == NONZERO {
            keep_branch();
            return D::taken(ip.offset(field_disp(ip, 12)), sp, mem, len, ctx, acc, facc);
        }
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}
/// Goes on at entry `BASE + bits of index` of a jump table: a conditional branch for each bit that is left, and behind them,
/// for each entry, code of its own that reads its pair at a constant place.
macro_rules! ladder {
    ($D:ident, $table:ident, $index:ident, $registers:tt; $base:expr;) => {{
        let mut word = *$table.add(2 * ($base));
        // SAFETY: an empty instruction sequence; its text differs, so LLVM does not make one of all entries' code.
        core::arch::asm!("/* {0} {1} */", inout(reg) word, const $base, options(nomem, nostack, preserves_flags));
        ladder!($D, word, *$table.add(2 * ($base) + 1) as *const u8, $registers)
    }};
    ($D:ident, $table:ident, $index:ident, $registers:tt; $base:expr; $bit:literal $($bits:literal)*) => {
        if $index & $bit != 0 {
            ladder!($D, $table, $index, $registers; $base + $bit; $($bits)*)
        } else {
            ladder!($D, $table, $index, $registers; $base; $($bits)*)
        }
    };
    ($D:ident, $word:expr, $ip:expr, ($($registers:ident),*)) => {
        $D::enter($word, $ip, $($registers),*)
    };
}

/// Goes on at the entry of a jump table that the index names, through branches that depend on the index: the processor
/// predicts them as it predicts the branches of any program, and `ip` does not wait for the index. An indirect jump with
/// many targets is predicted worse, and an `ip` that is read at a place made of the index is known only when the index is:
/// an interpreter in the guest has both on its longest path.
macro_rules! through_table {
    ($D:ident, $table:expr, $index:expr, $registers:tt) => {{
        let table: *const u64 = $table;
        let index: u32 = $index;
        if $D::LADDERS && index < 32 {
            ladder!($D, table, index, $registers; 0; 16 8 4 2 1)
        } else if $D::LADDERS && index < 256 {
            ladder!($D, table, index, $registers; 0; 128 64 32 16 8 4 2 1)
        } else {
            let entry = table.add(2 * index as usize);
            ladder!($D, *entry, *entry.add(1) as *const u8, $registers)
        }
    }};
}

handler! {
    /// Jumps through a table of (handler, ip).
    [D: Dispatch, X: Operand]
    br_table(ip, sp, mem, len, ctx, acc, facc) {
        let index = X::get::<u32>(ip, sp, acc, facc).min(field32(ip, 12));
        through_table!(D, ip.add(16).cast::<u64>(), index, (sp, mem, len, ctx, acc, facc))
    }
}
handler! {
    /// The same with the pairs of another jump table.
    [D: Dispatch, X: Operand]
    br_table_far(ip, sp, mem, len, ctx, acc, facc) {
        let index = X::get::<u32>(ip, sp, acc, facc).min(field32(ip, 12));
        let table = ip.offset(field_disp(ip, 16)).cast::<u64>();
        through_table!(D, table, index, (sp, mem, len, ctx, acc, facc))
    }
}
handler! {
    /// Traps.
    [D: Dispatch]
    unreachable(ip, sp, mem, len, ctx, acc, facc) {
        trap!(TrapCode::Unreachable; ip, sp, ctx)
    }
}
handler! {
    /// Ends the run; the results are in the accumulators or in the callee's frame.
    [D: Dispatch]
    halt(ip, sp, mem, len, ctx, acc, facc) {
        (*ctx).acc = acc;
        (*ctx).facc = facc;
        DONE
    }
}
handler! {
    /// Pays fuel, or looks from time to time whether the guest has to stop.
    [D: Dispatch, const FUEL: bool, const POLL: bool]
    check(ip, sp, mem, len, ctx, acc, facc) {
        if FUEL {
            let cost = u64::from(field32(ip, 12));
            match (*ctx).fuel.checked_sub(cost) {
                Some(left) => (*ctx).fuel = left,
                None => trap!(TrapCode::OutOfFuel; ip, sp, ctx),
            }
        }
        if POLL {
            let poll = (*ctx).poll.wrapping_sub(1);
            (*ctx).poll = poll;
            if poll == 0 && cold::must_stop(ctx) {
                trap!(TrapCode::Interrupted; ip, sp, ctx)
            }
        }
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}
