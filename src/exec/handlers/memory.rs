//! Loads, stores and the size of memory 0.
//!
//! Addresses are 32-bit sums that wrap; the constant offset is added in 64 bits, so
//! `ea + size <= len` cannot overflow. Multi-byte values are little-endian.

use crate::exec::dispatch::{Dispatch, handler, trap};
use crate::exec::value::{Value, field_disp, field16, field32, field64, keep_branch};
use crate::runtime::records::{Ctx, Floats, MemoryRec};
use crate::trap::TrapCode;

/// What a load reads and makes of it.
pub(in crate::exec) trait Load: 'static {
    type R: Value;
    const SIZE: usize;
    /// # Safety
    /// `SIZE` bytes are readable at `at`.
    unsafe fn read(at: *const u8) -> Self::R;
    /// As [`Bounds::read`] without a check: see [`guard`](crate::exec::guard).
    ///
    /// # Safety
    /// As [`Bounds::read`], and the memory is one with guard pages.
    #[cfg(dynlink_guard_pages)]
    unsafe fn read_guarded<const FIELDS: bool>(access: Access) -> (Self::R, *const u8);
}

/// What a store writes.
pub(in crate::exec) trait Store: 'static {
    type V: Value;
    const SIZE: usize;
    /// # Safety
    /// `SIZE` bytes are writable at `at`.
    unsafe fn write(at: *mut u8, value: Self::V);
    /// As [`Bounds::write`] without a check: see [`guard`](crate::exec::guard).
    ///
    /// # Safety
    /// As [`Bounds::write`], and the memory is one with guard pages.
    #[cfg(dynlink_guard_pages)]
    unsafe fn write_guarded(access: Access, value: Self::V) -> *const u8;
}

/// An access to a memory.
#[derive(Clone, Copy)]
pub(in crate::exec) struct Access {
    /// The instruction.
    pub(in crate::exec) ip: *const u8,
    /// The running thread's state.
    #[cfg_attr(not(dynlink_guard_pages), allow(dead_code))]
    pub(in crate::exec) ctx: *mut Ctx,
    /// The memory's first byte.
    pub(in crate::exec) base: *mut u8,
    /// Its bytes.
    pub(in crate::exec) len: usize,
    /// Where in it: the sum of an index and an offset of 32 bits.
    pub(in crate::exec) at: usize,
}

/// What keeps accesses within a memory.
pub(in crate::exec) trait Bounds: 'static {
    /// What is read, and where the handler goes on from, which takes the instruction's place from now on. `None`: it is
    /// out of bounds. With `FIELDS`, the handler reads fields of the instruction from byte 16 on afterwards, or branches.
    ///
    /// # Safety
    /// The instruction accesses a live memory with this base and length, `ctx` is the running thread's state.
    unsafe fn read<L: Load, const FIELDS: bool>(access: Access) -> Option<(L::R, *const u8)>;
    /// Where the handler goes on from after it has written a value. `None`: it is out of bounds, nothing was written.
    ///
    /// # Safety
    /// As `read`.
    unsafe fn write<W: Store>(access: Access, value: W::V) -> Option<*const u8>;
}

/// Every access is compared with the memory's length.
pub(in crate::exec) struct Checked;

impl Bounds for Checked {
    #[inline(always)]
    unsafe fn read<L: Load, const FIELDS: bool>(access: Access) -> Option<(L::R, *const u8)> {
        if access.at + L::SIZE > access.len {
            return None;
        }
        // SAFETY: in bounds.
        Some(unsafe { (L::read(access.base.add(access.at)), access.ip) })
    }

    #[inline(always)]
    unsafe fn write<W: Store>(access: Access, value: W::V) -> Option<*const u8> {
        if access.at + W::SIZE > access.len {
            return None;
        }
        // SAFETY: in bounds.
        unsafe { W::write(access.base.add(access.at), value) };
        Some(access.ip)
    }
}

/// How the address of an access is made. `AT` is the field of a slot operand: loads have theirs at 10,
/// stores at 8.
pub(in crate::exec) trait Address: 'static {
    /// Bytes of the instruction.
    const LEN: usize = 24;
    /// Whether it is another memory than memory 0: its record's address is at byte 16.
    const OTHER: bool = false;
    /// The address without the offset.
    ///
    /// # Safety
    /// The instruction at `ip` has these operands.
    unsafe fn base<const AT: usize>(ip: *const u8, sp: *mut u8, acc: u64) -> u32;
}

/// A slot.
pub(in crate::exec) struct Slot;
/// The accumulator.
pub(in crate::exec) struct Acc;
/// Slot + slot @16.
pub(in crate::exec) struct SlotSlot;
/// Accumulator + slot @16.
pub(in crate::exec) struct AccSlot;
/// The offset alone.
pub(in crate::exec) struct Const;
/// Slot + imm @16.
pub(in crate::exec) struct SlotImm;
/// (slot @20 << k @22) + imm @16.
pub(in crate::exec) struct Scaled;
/// Slot + (slot @20 << k @22) + imm @16.
pub(in crate::exec) struct SlotScaled;
/// Accumulator << k, in the place of the slot.
pub(in crate::exec) struct AccScaled;
/// (Accumulator << k, in the place of the slot) + slot @16.
pub(in crate::exec) struct AccScaledSlot;
/// (Accumulator << k, in the place of the slot) + imm @16.
pub(in crate::exec) struct AccScaledImm;
/// A slot, in another memory.
pub(in crate::exec) struct OtherMemory;

macro_rules! address {
    ($name:ident, $len:literal, |$ip:ident, $sp:ident, $acc:ident, $at:ident| $base:expr) => {
        impl Address for $name {
            const LEN: usize = $len;
            #[inline(always)]
            #[allow(unused_variables, unused_unsafe)]
            unsafe fn base<const $at: usize>($ip: *const u8, $sp: *mut u8, $acc: u64) -> u32 {
                // SAFETY: the caller's.
                unsafe { $base }
            }
        }
    };
}
address!(Slot, 16, |ip, sp, acc, AT| u32::slot(sp, field16(ip, AT)));
address!(Acc, 16, |ip, sp, acc, AT| acc as u32);
address!(SlotSlot, 24, |ip, sp, acc, AT| u32::slot(
    sp,
    field16(ip, AT)
)
.wrapping_add(u32::slot(sp, field16(ip, 16))));
address!(AccSlot, 24, |ip, sp, acc, AT| (acc as u32)
    .wrapping_add(u32::slot(sp, field16(ip, 16))));
address!(AccScaled, 16, |ip, sp, acc, AT| (acc as u32)
    << (field16(ip, AT) & 31));
address!(AccScaledSlot, 24, |ip, sp, acc, AT| ((acc as u32)
    << (field16(ip, AT) & 31))
    .wrapping_add(u32::slot(sp, field16(ip, 16))));
address!(AccScaledImm, 24, |ip, sp, acc, AT| ((acc as u32)
    << (field16(ip, AT) & 31))
    .wrapping_add(field32(ip, 16)));
address!(Const, 16, |ip, sp, acc, AT| 0);
address!(SlotImm, 24, |ip, sp, acc, AT| u32::slot(
    sp,
    field16(ip, AT)
)
.wrapping_add(field32(ip, 16)));
address!(Scaled, 24, |ip, sp, acc, AT| scaled(ip, sp));
address!(SlotScaled, 24, |ip, sp, acc, AT| u32::slot(
    sp,
    field16(ip, AT)
)
.wrapping_add(scaled(ip, sp)));

/// `(slot @20 << k @22) + imm @16`.
///
/// # Safety
/// The instruction has these operands.
#[inline(always)]
unsafe fn scaled(ip: *const u8, sp: *mut u8) -> u32 {
    // SAFETY: the caller's.
    unsafe {
        (u32::slot(sp, field16(ip, 20)) << (field16(ip, 22) & 31)).wrapping_add(field32(ip, 16))
    }
}

impl Address for OtherMemory {
    const OTHER: bool = true;
    #[inline(always)]
    unsafe fn base<const AT: usize>(ip: *const u8, sp: *mut u8, _acc: u64) -> u32 {
        // SAFETY: the caller's.
        unsafe { u32::slot(sp, field16(ip, AT)) }
    }
}

/// Base and length of the memory that the access goes to.
///
/// # Safety
/// The instruction names a live memory if `OTHER`.
#[inline(always)]
unsafe fn memory_of<Ad: Address>(ip: *const u8, mem: *mut u8, len: usize) -> (*mut u8, usize) {
    if Ad::OTHER {
        // SAFETY: the caller's.
        unsafe {
            let memory = field64(ip, 16) as *const MemoryRec;
            ((*memory).base, (*memory).len)
        }
    } else {
        (mem, len)
    }
}

handler! {
    /// A load into the accumulator and, with `STORE`, slot d.
    [D: Dispatch, M: Bounds, L: Load, Ad: Address, const STORE: bool]
    load(ip, sp, mem, len, ctx, acc, facc) {
        let at = Ad::base::<10>(ip, sp, acc) as usize + field32(ip, 12) as usize;
        let (base, length) = memory_of::<Ad>(ip, mem, len);
        let Some((result, ip)) = M::read::<L, false>(Access { ip, ctx, base, len: length, at }) else {
            trap!(TrapCode::MemoryOutOfBounds; ip, sp, ctx)
        };
        if STORE {
            result.put(sp, field16(ip, 8));
        }
        let (acc, facc) = result.spread(acc, facc);
        D::next(ip.add(Ad::LEN), sp, mem, len, ctx, acc, facc)
    }
}

/// Where a store's value comes from: slot @10, accumulator, or immediate.
pub(in crate::exec) trait StoreValue: 'static {
    /// Bytes that the value adds to a 16-byte instruction.
    const IMMEDIATE: bool = false;
    /// # Safety
    /// The instruction has this operand.
    unsafe fn get<V: Value, const WIDE_ADDRESS: bool>(
        ip: *const u8,
        sp: *mut u8,
        acc: u64,
        facc: Floats,
    ) -> V;
}
/// Slot @10.
pub(in crate::exec) struct FromSlot;
/// The accumulator of the value's kind.
pub(in crate::exec) struct FromAcc;
/// An immediate: at 16; behind an address constant an i32 at 20, a float at 24.
pub(in crate::exec) struct FromImm;
impl StoreValue for FromSlot {
    #[inline(always)]
    unsafe fn get<V: Value, const W: bool>(ip: *const u8, sp: *mut u8, _: u64, _: Floats) -> V {
        // SAFETY: the caller's.
        unsafe { V::slot(sp, field16(ip, 10)) }
    }
}
impl StoreValue for FromAcc {
    #[inline(always)]
    unsafe fn get<V: Value, const W: bool>(_: *const u8, _: *mut u8, acc: u64, facc: Floats) -> V {
        V::of(acc, facc)
    }
}
impl StoreValue for FromImm {
    const IMMEDIATE: bool = true;
    #[inline(always)]
    unsafe fn get<V: Value, const W: bool>(ip: *const u8, _: *mut u8, _: u64, _: Floats) -> V {
        // SAFETY: the caller's.
        unsafe { V::imm(ip, if W { 20 } else { 16 }, if W { 24 } else { 16 }) }
    }
}

handler! {
    /// A store.
    [D: Dispatch, M: Bounds, W: Store, Ad: Address, Va: StoreValue]
    store(ip, sp, mem, len, ctx, acc, facc) {
        let at = Ad::base::<8>(ip, sp, acc) as usize + field32(ip, 12) as usize;
        let (base, length) = memory_of::<Ad>(ip, mem, len);
        let value = if Ad::LEN == 24 {
            Va::get::<W::V, true>(ip, sp, acc, facc)
        } else {
            Va::get::<W::V, false>(ip, sp, acc, facc)
        };
        let Some(ip) = M::write::<W>(Access { ip, ctx, base, len: length, at }, value) else {
            trap!(TrapCode::MemoryOutOfBounds; ip, sp, ctx)
        };
        // An immediate makes a 16-byte form longer by a word; behind an address constant an i32 shares its word.
        let size = match (Va::IMMEDIATE, Ad::LEN) {
            (true, 24) if <W::V as Value>::WIDE => 32,
            (true, _) => 24,
            (false, size) => size,
        };
        D::next(ip.add(size), sp, mem, len, ctx, acc, facc)
    }
}

handler! {
    /// Adds to four bytes in memory: a count of references.
    [D: Dispatch, M: Bounds, L: Load<R = u32>, W: Store<V = u32>, const STORE: bool]
    add_memory(ip, sp, mem, len, ctx, acc, facc) {
        let at = u32::slot(sp, field16(ip, 10)) as usize + field32(ip, 12) as usize;
        let access = Access { ip, ctx, base: mem, len, at };
        let Some((value, ip)) = M::read::<L, true>(access) else {
            trap!(TrapCode::MemoryOutOfBounds; ip, sp, ctx)
        };
        let sum = value.wrapping_add(field32(ip, 16));
        // In bounds as before.
        let Some(ip) = M::write::<W>(Access { ip, ..access }, sum) else {
            trap!(TrapCode::MemoryOutOfBounds; ip, sp, ctx)
        };
        if STORE {
            sum.put(sp, field16(ip, 8));
        }
        D::next(ip.add(24), sp, mem, len, ctx, u64::from(sum), facc)
    }
}

handler! {
    /// A load from where a pointer points that is loaded first: its field @12, then one @20 of what it points to.
    [D: Dispatch, M: Bounds, P: Load<R = u32>, L: Load, Ad: Address, const WRAP: bool, const KEEP: bool, const STORE: bool]
    load_two(ip, sp, mem, len, ctx, acc, facc) {
        let at = Ad::base::<10>(ip, sp, acc) as usize + field32(ip, 12) as usize;
        let Some((pointer, ip)) = M::read::<P, true>(Access { ip, ctx, base: mem, len, at }) else {
            trap!(TrapCode::MemoryOutOfBounds; ip, sp, ctx)
        };
        if KEEP {
            pointer.put(sp, field16(ip, 16));
        }
        let at = if WRAP {
            pointer.wrapping_add(field32(ip, 20)) as usize
        } else {
            pointer as usize + field32(ip, 20) as usize
        };
        let Some((result, ip)) = M::read::<L, true>(Access { ip, ctx, base: mem, len, at }) else {
            trap!(TrapCode::MemoryOutOfBounds; ip, sp, ctx)
        };
        if STORE {
            result.put(sp, field16(ip, 8));
        }
        let (acc, facc) = result.spread(acc, facc);
        D::next(ip.add(24), sp, mem, len, ctx, acc, facc)
    }
}

handler! {
    /// A load that decides a branch.
    [D: Dispatch, M: Bounds, L: Load, Ad: Address, const STORE: bool, const NONZERO: bool]
    load_branch(ip, sp, mem, len, ctx, acc, facc) {
        let at = Ad::base::<10>(ip, sp, acc) as usize + field32(ip, 12) as usize;
        let Some((result, ip)) = M::read::<L, true>(Access { ip, ctx, base: mem, len, at }) else {
            trap!(TrapCode::MemoryOutOfBounds; ip, sp, ctx)
        };
        if STORE {
            result.put(sp, field16(ip, 8));
        }
        let (acc, facc) = result.spread(acc, facc);
        if (acc as u32 != 0) == NONZERO {
            keep_branch();
            return D::taken(ip.offset(field_disp(ip, 20)), sp, mem, len, ctx, acc, facc);
        }
        D::next(ip.add(24), sp, mem, len, ctx, acc, facc)
    }
}

handler! {
    /// Pages of memory 0.
    [D: Dispatch, const STORE: bool]
    memory_size(ip, sp, mem, len, ctx, acc, facc) {
        let pages = (len >> 16) as u64;
        if STORE {
            pages.put(sp, field16(ip, 8));
        }
        D::next(ip.add(16), sp, mem, len, ctx, pages, facc)
    }
}
