//! Arithmetic, comparisons and comparisons that branch. The formulas are in the table (`ir/ops.rs`).

use crate::exec::dispatch::{Dispatch, handler, trap};
use crate::exec::value::{Operand, S, Value, field_disp, field16, field32, keep_branch};
use crate::runtime::records::Ctx;
use crate::trap::TrapCode;

/// An operator with two operands.
pub(in crate::exec) trait Bin: 'static {
    type A: Value;
    type B: Value;
    type R: Value;
    fn eval(a: Self::A, b: Self::B) -> Result<Self::R, TrapCode>;
}

/// An operator with one operand.
pub(in crate::exec) trait Un: 'static {
    type A: Value;
    type R: Value;
    fn eval(a: Self::A) -> Result<Self::R, TrapCode>;
}

/// A comparison.
pub(in crate::exec) trait Cmp: 'static {
    type A: Value;
    fn test(a: Self::A, b: Self::A) -> bool;
}

handler! {
    /// Two operands, result in the accumulator unless `KEEP` leaves that alone, and, with `STORE`, in slot d.
    [D: Dispatch, O: Bin, X: Operand, Y: Operand, const STORE: bool, const KEEP: bool]
    bin(ip, sp, mem, len, ctx, acc, facc) {
        match O::eval(X::get(ip, sp, acc, facc), Y::get(ip, sp, acc, facc)) {
            Ok(result) => {
                if STORE {
                    result.put(sp, field16(ip, 8));
                }
                let (acc, facc) = if KEEP { (acc, facc) } else { result.spread(acc, facc) };
                let wide = (X::IMMEDIATE && <O::A as Value>::WIDE) || (Y::IMMEDIATE && <O::B as Value>::WIDE);
                let size = if wide { 24 } else { 16 };
                D::next(ip.add(size), sp, mem, len, ctx, acc, facc)
            }
            Err(code) => trap!(code; ip, sp, ctx),
        }
    }
}

handler! {
    /// Two operators: the result of the first is the left (or right) operand of the second. Neither can trap.
    [D: Dispatch, O: Bin, P: Bin, X: Operand, Y: Operand, Z: Operand, const RIGHT: bool, const STORE: bool]
    pair(ip, sp, mem, len, ctx, acc, facc) {
        let Ok(first) = O::eval(X::get(ip, sp, acc, facc), Y::get(ip, sp, acc, facc)) else {
            std::hint::unreachable_unchecked()
        };
        let (i, f) = first.spread(0, facc);
        let second = if RIGHT {
            P::eval(Z::get(ip, sp, acc, facc), P::B::of(i, f))
        } else {
            P::eval(P::A::of(i, f), Z::get(ip, sp, acc, facc))
        };
        let Ok(result) = second else {
            std::hint::unreachable_unchecked()
        };
        if STORE {
            result.put(sp, field16(ip, 8));
        }
        let (acc, facc) = result.spread(acc, facc);
        D::next(ip.add(24), sp, mem, len, ctx, acc, facc)
    }
}

handler! {
    /// A comparison as a value.
    [D: Dispatch, O: Cmp, X: Operand, Y: Operand, const STORE: bool]
    cmp(ip, sp, mem, len, ctx, acc, facc) {
        let holds = O::test(X::get(ip, sp, acc, facc), Y::get(ip, sp, acc, facc));
        let result = u32::from(holds);
        if STORE {
            result.put(sp, field16(ip, 8));
        }
        let size = if Y::IMMEDIATE && <O::A as Value>::WIDE { 24 } else { 16 };
        D::next(ip.add(size), sp, mem, len, ctx, u64::from(result), facc)
    }
}

handler! {
    /// A comparison that branches.
    [D: Dispatch, O: Cmp, X: Operand, Y: Operand]
    branch(ip, sp, mem, len, ctx, acc, facc) {
        if O::test(X::get(ip, sp, acc, facc), Y::get(ip, sp, acc, facc)) {
            keep_branch();
            return D::taken(ip.offset(field_disp(ip, 12)), sp, mem, len, ctx, acc, facc);
        }
        let size = if Y::IMMEDIATE { 24 } else { 16 };
        D::next(ip.add(size), sp, mem, len, ctx, acc, facc)
    }
}

handler! {
    /// One operand, result in the accumulator and, with `STORE`, in slot d.
    [D: Dispatch, O: Un, X: Operand, const STORE: bool]
    un(ip, sp, mem, len, ctx, acc, facc) {
        match O::eval(X::get(ip, sp, acc, facc)) {
            Ok(result) => {
                if STORE {
                    result.put(sp, field16(ip, 8));
                }
                let (acc, facc) = result.spread(acc, facc);
                D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
            }
            Err(code) => trap!(code; ip, sp, ctx),
        }
    }
}

handler! {
    /// `d = acc = a + b`, then a branch on the comparison of d with slot @20 or imm @24.
    [D: Dispatch, O: Cmp, Y: Operand, const IMM: bool]
    add_branch(ip, sp, mem, len, ctx, acc, facc) {
        let sum = u32::slot(sp, field16(ip, 10)).wrapping_add(Y::get::<u32>(ip, sp, acc, facc));
        sum.put(sp, field16(ip, 8));
        let (left, _) = sum.spread(0, facc);
        let left = O::A::of(left, facc);
        let right = if IMM { O::A::imm(ip, 24, 24) } else { O::A::slot(sp, field16(ip, 20)) };
        if O::test(left, right) {
            keep_branch();
            return D::next(ip.offset(field_disp(ip, 16)), sp, mem, len, ctx, u64::from(sum), facc);
        }
        D::next(ip.add(if IMM { 32 } else { 24 }), sp, mem, len, ctx, u64::from(sum), facc)
    }
}

handler! {
    /// `d = acc = a + imm`, then a branch if d is zero or not.
    [D: Dispatch, const ZERO: bool]
    add_br_zero(ip, sp, mem, len, ctx, acc, facc) {
        let sum = u32::slot(sp, field16(ip, 10)).wrapping_add(field32(ip, 12));
        sum.put(sp, field16(ip, 8));
        if (sum == 0) == ZERO {
            keep_branch();
            return D::next(ip.offset(field_disp(ip, 16)), sp, mem, len, ctx, u64::from(sum), facc);
        }
        D::next(ip.add(24), sp, mem, len, ctx, u64::from(sum), facc)
    }
}

handler! {
    /// `d = a + imm`; the accumulator stays.
    [D: Dispatch]
    add_slot(ip, sp, mem, len, ctx, acc, facc) {
        u32::slot(sp, field16(ip, 10)).wrapping_add(field32(ip, 12)).put(sp, field16(ip, 8));
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}

handler! {
    /// `d = a + imm` twice, one after the other; the accumulator gets the second.
    [D: Dispatch]
    add_two(ip, sp, mem, len, ctx, acc, facc) {
        u32::slot(sp, field16(ip, 10)).wrapping_add(field32(ip, 12)).put(sp, field16(ip, 8));
        let sum = u32::slot(sp, field16(ip, 18)).wrapping_add(field32(ip, 20));
        sum.put(sp, field16(ip, 16));
        D::next(ip.add(24), sp, mem, len, ctx, u64::from(sum), facc)
    }
}

handler! {
    /// `[base +] (index << k) + imm` into the accumulator, a slot, or both.
    [D: Dispatch, const BASE: bool, const ACC: bool, const SLOT: bool]
    lea(ip, sp, mem, len, ctx, acc, facc) {
        let index = u32::slot(sp, field16(ip, 12)) << (field16(ip, 14) & 31);
        let mut sum = index.wrapping_add(field32(ip, 16));
        if BASE {
            sum = sum.wrapping_add(u32::slot(sp, field16(ip, 10)));
        }
        if SLOT {
            sum.put(sp, field16(ip, 8));
        }
        let acc = if ACC { u64::from(sum) } else { acc };
        D::next(ip.add(24), sp, mem, len, ctx, acc, facc)
    }
}

/// Condition of a select: slot @14 or the accumulator.
type Condition = S<14>;

handler! {
    /// `cond ≠ 0 ? x : y` for integers and references.
    [D: Dispatch, const ACC: bool, const STORE: bool]
    select(ip, sp, mem, len, ctx, acc, facc) {
        let (x, y) = (u64::slot(sp, field16(ip, 10)), u64::slot(sp, field16(ip, 12)));
        let cond = if ACC { acc as u32 } else { Condition::get::<u32>(ip, sp, acc, facc) };
        let value = if cond != 0 { x } else { y };
        if STORE {
            value.put(sp, field16(ip, 8));
        }
        D::next(ip.add(16), sp, mem, len, ctx, value, facc)
    }
}

handler! {
    /// A comparison that selects. Both values are read before they are chosen from, so that the choice is a conditional
    /// move: the one that the last instruction made is often the longer path.
    [D: Dispatch, O: Cmp, X: Operand, Y: Operand, P: Operand, Q: Operand, const STORE: bool]
    select_cmp(ip, sp, mem, len, ctx, acc, facc) {
        let holds = O::test(X::get(ip, sp, acc, facc), Y::get(ip, sp, acc, facc));
        let (x, y) = (P::get::<u64>(ip, sp, acc, facc), Q::get::<u64>(ip, sp, acc, facc));
        let value = std::hint::select_unpredictable(holds, x, y);
        if STORE {
            value.put(sp, field16(ip, 8));
        }
        D::next(ip.add(24), sp, mem, len, ctx, value, facc)
    }
}

handler! {
    /// `cond ≠ 0 ? x : y` for floats.
    [D: Dispatch, const ACC: bool, const STORE: bool]
    select_f(ip, sp, mem, len, ctx, acc, facc) {
        let (x, y) = (u64::slot(sp, field16(ip, 10)), u64::slot(sp, field16(ip, 12)));
        let cond = if ACC { acc as u32 } else { Condition::get::<u32>(ip, sp, acc, facc) };
        let value = if cond != 0 { x } else { y };
        if STORE {
            value.put(sp, field16(ip, 8));
        }
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc.with(f64::from_bits(value)))
    }
}
