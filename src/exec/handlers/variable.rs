//! Copies between slots and accumulators, globals, and the zeroing of locals at function entry.

use crate::exec::dispatch::{Dispatch, handler};
use crate::exec::value::{Operand, Value, field16, field32, field64, keep_branch};
use crate::runtime::records::Ctx;

handler! {
    /// `d = a`.
    [D: Dispatch]
    copy_ss(ip, sp, mem, len, ctx, acc, facc) {
        u64::slot(sp, field16(ip, 10)).put(sp, field16(ip, 8));
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// `d = a`, then the same for a second pair.
    [D: Dispatch]
    copy_ss2(ip, sp, mem, len, ctx, acc, facc) {
        u64::slot(sp, field16(ip, 10)).put(sp, field16(ip, 8));
        u64::slot(sp, field16(ip, 14)).put(sp, field16(ip, 12));
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// `d = acc`.
    [D: Dispatch]
    copy_acc(ip, sp, mem, len, ctx, acc, facc) {
        acc.put(sp, field16(ip, 8));
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// `d = facc`.
    [D: Dispatch]
    copy_facc(ip, sp, mem, len, ctx, acc, facc) {
        facc.value.put(sp, field16(ip, 8));
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// `d = imm`.
    [D: Dispatch]
    copy_imm(ip, sp, mem, len, ctx, acc, facc) {
        field64(ip, 16).put(sp, field16(ip, 8));
        D::next(ip.add(24), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// `d = imm` twice, 32 bits each.
    [D: Dispatch]
    copy_imm2(ip, sp, mem, len, ctx, acc, facc) {
        u64::from(field32(ip, 16)).put(sp, field16(ip, 8));
        u64::from(field32(ip, 20)).put(sp, field16(ip, 10));
        D::next(ip.add(24), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// `d = acc = a`.
    [D: Dispatch]
    copy_kept(ip, sp, mem, len, ctx, acc, facc) {
        let value = u64::slot(sp, field16(ip, 10));
        value.put(sp, field16(ip, 8));
        D::next(ip.add(16), sp, mem, len, ctx, value, facc)
    }
}
handler! {
    /// `d = acc = imm`.
    [D: Dispatch]
    copy_imm_kept(ip, sp, mem, len, ctx, acc, facc) {
        let value = field64(ip, 16);
        value.put(sp, field16(ip, 8));
        D::next(ip.add(24), sp, mem, len, ctx, value, facc)
    }
}
handler! {
    /// `d = a`, then the same for a second pair; the accumulator gets the second or the first.
    [D: Dispatch, const SECOND: bool]
    copy_two_kept(ip, sp, mem, len, ctx, acc, facc) {
        let first = u64::slot(sp, field16(ip, 10));
        first.put(sp, field16(ip, 8));
        let second = u64::slot(sp, field16(ip, 14));
        second.put(sp, field16(ip, 12));
        D::next(ip.add(16), sp, mem, len, ctx, if SECOND { second } else { first }, facc)
    }
}
handler! {
    /// `d = imm` twice, 32 bits each; the accumulator gets the second or the first.
    [D: Dispatch, const SECOND: bool]
    copy_imm_two_kept(ip, sp, mem, len, ctx, acc, facc) {
        let (first, second) = (u64::from(field32(ip, 16)), u64::from(field32(ip, 20)));
        first.put(sp, field16(ip, 8));
        second.put(sp, field16(ip, 10));
        D::next(ip.add(16 + 8), sp, mem, len, ctx, if SECOND { second } else { first }, facc)
    }
}
handler! {
    /// `d = imm` three times, or four, 32 bits each. `KEEP`: acc = slot @14, one of them.
    [D: Dispatch, const FOUR: bool, const KEEP: bool]
    copy_imm_more(ip, sp, mem, len, ctx, acc, facc) {
        u64::from(field32(ip, 16)).put(sp, field16(ip, 8));
        u64::from(field32(ip, 20)).put(sp, field16(ip, 10));
        u64::from(field32(ip, 24)).put(sp, field16(ip, 12));
        if FOUR {
            u64::from(field32(ip, 28)).put(sp, field16(ip, 14));
        }
        let acc = if KEEP { u64::slot(sp, field16(ip, 14)) } else { acc };
        D::next(ip.add(32), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// `d = a` once, or twice one after the other, then `d = imm` once or twice, 32 bits each. `KEEP`: acc = one of these
    /// slots, which the first free field names.
    [D: Dispatch, const SLOTS: bool, const IMMEDIATES: bool, const KEEP: bool]
    copy_mixed(ip, sp, mem, len, ctx, acc, facc) {
        u64::slot(sp, field16(ip, 10)).put(sp, field16(ip, 8));
        if SLOTS {
            u64::slot(sp, field16(ip, 14)).put(sp, field16(ip, 12));
        }
        u64::from(field32(ip, 20)).put(sp, field16(ip, 16));
        if IMMEDIATES {
            u64::from(field32(ip, 24)).put(sp, field16(ip, 18));
        }
        let acc = match (SLOTS, IMMEDIATES) {
            _ if !KEEP => acc,
            (false, _) => u64::slot(sp, field16(ip, 12)),
            (true, false) => u64::slot(sp, field16(ip, 18)),
            (true, true) => u64::slot(sp, field16(ip, 28)),
        };
        D::next(ip.add(if IMMEDIATES { 32 } else { 24 }), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Near slot = far slot.
    [D: Dispatch]
    copy_far_get(ip, sp, mem, len, ctx, acc, facc) {
        u64::slot(sp, field32(ip, 12) as usize).put(sp, field16(ip, 8));
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Far slot = near slot.
    [D: Dispatch]
    copy_far_put(ip, sp, mem, len, ctx, acc, facc) {
        u64::slot(sp, field16(ip, 8)).put(sp, field32(ip, 12) as usize);
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Far slot = acc.
    [D: Dispatch]
    copy_far_acc(ip, sp, mem, len, ctx, acc, facc) {
        acc.put(sp, field32(ip, 12) as usize);
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Far slot = facc.
    [D: Dispatch]
    copy_far_facc(ip, sp, mem, len, ctx, acc, facc) {
        facc.value.put(sp, field32(ip, 12) as usize);
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Copies a run of slots; the runs may overlap.
    [D: Dispatch]
    copy_block(ip, sp, mem, len, ctx, acc, facc) {
        let count = field32(ip, 16) as usize;
        std::ptr::copy(
            sp.add(field32(ip, 12) as usize).cast::<u64>(),
            sp.add(field32(ip, 8) as usize).cast::<u64>(),
            count,
        );
        D::next(ip.add(24), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// `acc = cell`, and in slot d.
    [D: Dispatch, const STORE: bool]
    global_get(ip, sp, mem, len, ctx, acc, facc) {
        let value = *(field64(ip, 16) as *const u64);
        if STORE {
            value.put(sp, field16(ip, 8));
        }
        D::next(ip.add(24), sp, mem, len, ctx, value, facc)
    }
}
handler! {
    /// `facc = cell`, and in slot d.
    [D: Dispatch, const STORE: bool]
    global_get_f(ip, sp, mem, len, ctx, acc, facc) {
        let value = *(field64(ip, 16) as *const u64);
        if STORE {
            value.put(sp, field16(ip, 8));
        }
        D::next(ip.add(24), sp, mem, len, ctx, acc, facc.with(f64::from_bits(value)))
    }
}
handler! {
    /// `cell = slot | acc`.
    [D: Dispatch, X: Operand]
    global_set(ip, sp, mem, len, ctx, acc, facc) {
        *(field64(ip, 16) as *mut u64) = X::get::<u64>(ip, sp, acc, facc);
        D::next(ip.add(24), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// `cell = facc`.
    [D: Dispatch]
    global_set_f(ip, sp, mem, len, ctx, acc, facc) {
        *(field64(ip, 16) as *mut u64) = facc.value.to_bits();
        D::next(ip.add(24), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// `cell = slot + imm`: the stack pointer goes back.
    [D: Dispatch]
    global_set_sum(ip, sp, mem, len, ctx, acc, facc) {
        let sum = u32::slot(sp, field16(ip, 8)).wrapping_add(field32(ip, 12));
        *(field64(ip, 16) as *mut u64) = u64::from(sum);
        D::next(ip.add(24), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// `acc = cell += imm`, and in slot d: the stack pointer makes room.
    [D: Dispatch, const STORE: bool]
    global_add(ip, sp, mem, len, ctx, acc, facc) {
        let cell = field64(ip, 16) as *mut u64;
        let sum = u64::from((*cell as u32).wrapping_add(field32(ip, 12)));
        *cell = sum;
        if STORE {
            sum.put(sp, field16(ip, 8));
        }
        D::next(ip.add(24), sp, mem, len, ctx, sum, facc)
    }
}
handler! {
    /// `cell = imm`.
    [D: Dispatch]
    global_set_imm(ip, sp, mem, len, ctx, acc, facc) {
        *(field64(ip, 16) as *mut u64) = field64(ip, 24);
        D::next(ip.add(32), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Zeroes `N` slots from d.
    [D: Dispatch, const N: usize]
    enter(ip, sp, mem, len, ctx, acc, facc) {
        let first = sp.add(field16(ip, 8)).cast::<u64>();
        let mut i = 0;
        while i < N {
            *first.add(i) = 0;
            i += 1;
        }
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}
handler! {
    /// Zeroes an even number of slots from d. The barrier keeps LLVM from calling memset.
    [D: Dispatch]
    enter_n(ip, sp, mem, len, ctx, acc, facc) {
        let first = sp.add(field16(ip, 8)).cast::<u64>();
        let count = field32(ip, 12) as usize;
        let mut i = 0;
        while i < count {
            keep_branch();
            *first.add(i) = 0;
            *first.add(i + 1) = 0;
            i += 2;
        }
        D::next(ip.add(16), sp, mem, len, ctx, acc, facc)
    }
}
