//! How handlers read operands and write results: fields of an instruction, slots, accumulators.
//!
//! Fields are loaded one by one with narrow loads: with six integer arguments only three scratch
//! registers are left, and a handler that unpacks one word needs more and pushes.

use crate::runtime::records::Floats;

/// A u16 field at byte `at` of the instruction.
///
/// # Safety
/// The instruction at `ip` has such a field.
#[inline(always)]
pub(super) unsafe fn field16(ip: *const u8, at: usize) -> usize {
    // SAFETY: the caller's; instructions are 8-byte aligned and fields aligned in them.
    unsafe { usize::from(*ip.add(at).cast::<u16>()) }
}

/// A u32 field at byte `at` of the instruction.
///
/// # Safety
/// As [`field16`].
#[inline(always)]
pub(super) unsafe fn field32(ip: *const u8, at: usize) -> u32 {
    // SAFETY: the caller's.
    unsafe { *ip.add(at).cast::<u32>() }
}

/// A signed displacement field at byte `at` of the instruction.
///
/// # Safety
/// As [`field16`].
#[inline(always)]
pub(super) unsafe fn field_disp(ip: *const u8, at: usize) -> isize {
    // SAFETY: the caller's.
    unsafe { *ip.add(at).cast::<i32>() as isize }
}

/// A u64 field at byte `at` of the instruction.
///
/// # Safety
/// As [`field16`].
#[inline(always)]
pub(super) unsafe fn field64(ip: *const u8, at: usize) -> u64 {
    // SAFETY: the caller's.
    unsafe { *ip.add(at).cast::<u64>() }
}

/// A value type: where it lives in a slot and in the accumulators (integers in `acc`, floats in `facc`).
/// The upper half of a 32-bit value's slot is undefined, so there is no invariant to keep.
pub(super) trait Value: Copy {
    /// Whether immediates are a word of their own.
    const WIDE: bool;
    /// Whether it lives in the float accumulator.
    const FLOAT: bool = false;
    /// From the slot at `sp + offset`.
    ///
    /// # Safety
    /// The slot is in the frame.
    unsafe fn slot(sp: *mut u8, offset: usize) -> Self;
    /// Into the slot at `sp + offset`.
    ///
    /// # Safety
    /// The slot is in the frame.
    unsafe fn put(self, sp: *mut u8, offset: usize);
    /// From the accumulators.
    fn of(acc: u64, facc: Floats) -> Self;
    /// Into the accumulators.
    fn spread(self, acc: u64, facc: Floats) -> (u64, Floats);
    /// From an immediate: 32 bits at `narrow`, or a word at `wide`.
    ///
    /// # Safety
    /// The instruction at `ip` has this immediate.
    unsafe fn imm(ip: *const u8, narrow: usize, wide: usize) -> Self;
    /// From 32 bits at `at`, sign-extended; floats have no such immediates.
    ///
    /// # Safety
    /// The instruction at `ip` has this immediate.
    unsafe fn short(ip: *const u8, at: usize) -> Self;
}

macro_rules! integer {
    ($ty:ty, $through:ty, $wide:literal) => {
        impl Value for $ty {
            const WIDE: bool = $wide;
            #[inline(always)]
            unsafe fn slot(sp: *mut u8, offset: usize) -> Self {
                // SAFETY: the caller's; slots are 8-byte aligned.
                unsafe { *sp.add(offset).cast::<$ty>() }
            }
            #[inline(always)]
            unsafe fn put(self, sp: *mut u8, offset: usize) {
                // SAFETY: the caller's.
                unsafe { *sp.add(offset).cast::<u64>() = self as $through as u64 }
            }
            #[inline(always)]
            fn of(acc: u64, _facc: Floats) -> Self {
                acc as $ty
            }
            #[inline(always)]
            fn spread(self, _acc: u64, facc: Floats) -> (u64, Floats) {
                (self as $through as u64, facc)
            }
            #[inline(always)]
            unsafe fn imm(ip: *const u8, narrow: usize, wide: usize) -> Self {
                // SAFETY: the caller's.
                unsafe {
                    if $wide {
                        *ip.add(wide).cast::<u64>() as $ty
                    } else {
                        *ip.add(narrow).cast::<i32>() as $ty
                    }
                }
            }
            #[inline(always)]
            unsafe fn short(ip: *const u8, at: usize) -> Self {
                // SAFETY: the caller's.
                unsafe { *ip.add(at).cast::<i32>() as $ty }
            }
        }
    };
}
integer!(u32, u32, false);
integer!(i32, u32, false);
integer!(u64, u64, true);
integer!(i64, u64, true);

impl Value for f64 {
    const WIDE: bool = true;
    const FLOAT: bool = true;
    #[inline(always)]
    unsafe fn slot(sp: *mut u8, offset: usize) -> Self {
        // SAFETY: the caller's.
        unsafe { *sp.add(offset).cast::<f64>() }
    }
    #[inline(always)]
    unsafe fn put(self, sp: *mut u8, offset: usize) {
        // SAFETY: the caller's.
        unsafe { *sp.add(offset).cast::<f64>() = self }
    }
    #[inline(always)]
    fn of(_acc: u64, facc: Floats) -> Self {
        facc.value
    }
    #[inline(always)]
    fn spread(self, acc: u64, facc: Floats) -> (u64, Floats) {
        (acc, facc.with(self))
    }
    #[inline(always)]
    unsafe fn imm(ip: *const u8, _narrow: usize, wide: usize) -> Self {
        // SAFETY: the caller's.
        unsafe { *ip.add(wide).cast::<f64>() }
    }
    #[inline(always)]
    unsafe fn short(_ip: *const u8, _at: usize) -> Self {
        0.0
    }
}

impl Value for f32 {
    const WIDE: bool = true;
    const FLOAT: bool = true;
    #[inline(always)]
    unsafe fn slot(sp: *mut u8, offset: usize) -> Self {
        // SAFETY: the caller's.
        unsafe { *sp.add(offset).cast::<f32>() }
    }
    #[inline(always)]
    unsafe fn put(self, sp: *mut u8, offset: usize) {
        // SAFETY: the caller's.
        unsafe { *sp.add(offset).cast::<u64>() = u64::from(self.to_bits()) }
    }
    #[inline(always)]
    fn of(_acc: u64, facc: Floats) -> Self {
        f32::from_bits(facc.value.to_bits() as u32)
    }
    #[inline(always)]
    fn spread(self, acc: u64, facc: Floats) -> (u64, Floats) {
        (acc, facc.with(f64::from_bits(u64::from(self.to_bits()))))
    }
    #[inline(always)]
    unsafe fn imm(ip: *const u8, _narrow: usize, wide: usize) -> Self {
        // SAFETY: the caller's.
        unsafe { *ip.add(wide).cast::<f32>() }
    }
    #[inline(always)]
    unsafe fn short(_ip: *const u8, _at: usize) -> Self {
        0.0
    }
}

/// Where an operand comes from.
pub(super) trait Operand: 'static {
    /// Whether it is an immediate.
    const IMMEDIATE: bool = false;
    /// The operand's value.
    ///
    /// # Safety
    /// The instruction at `ip` has this operand.
    unsafe fn get<V: Value>(ip: *const u8, sp: *mut u8, acc: u64, facc: Floats) -> V;
}

/// The slot whose offset is the u16 field at byte `AT`.
pub(super) struct S<const AT: usize>;
/// The accumulator.
pub(super) struct A;
/// An immediate: i32 at byte `NARROW` or a word at byte `WIDE`.
pub(super) struct I<const NARROW: usize, const WIDE: usize>;
/// An immediate of 32 bits at byte `AT`, sign-extended.
pub(super) struct Short<const AT: usize>;

impl<const AT: usize> Operand for Short<AT> {
    const IMMEDIATE: bool = true;
    #[inline(always)]
    unsafe fn get<V: Value>(ip: *const u8, _sp: *mut u8, _acc: u64, _facc: Floats) -> V {
        // SAFETY: the caller's.
        unsafe { V::short(ip, AT) }
    }
}
impl<const AT: usize> Operand for S<AT> {
    #[inline(always)]
    unsafe fn get<V: Value>(ip: *const u8, sp: *mut u8, _acc: u64, _facc: Floats) -> V {
        // SAFETY: the caller's.
        unsafe { V::slot(sp, field16(ip, AT)) }
    }
}
impl Operand for A {
    #[inline(always)]
    unsafe fn get<V: Value>(_ip: *const u8, _sp: *mut u8, acc: u64, facc: Floats) -> V {
        V::of(acc, facc)
    }
}
impl<const NARROW: usize, const WIDE: usize> Operand for I<NARROW, WIDE> {
    const IMMEDIATE: bool = true;
    #[inline(always)]
    unsafe fn get<V: Value>(ip: *const u8, _sp: *mut u8, _acc: u64, _facc: Floats) -> V {
        // SAFETY: the caller's.
        unsafe { V::imm(ip, NARROW, WIDE) }
    }
}

/// Keeps a conditional branch a branch: LLVM would turn two tails that differ in `ip` into a
/// conditional move, and then the compared data would be on the path to the next instruction.
#[inline(always)]
pub(super) fn keep_branch() {
    // SAFETY: an empty instruction sequence that touches nothing.
    unsafe { core::arch::asm!("", options(nomem, nostack, preserves_flags)) }
}
