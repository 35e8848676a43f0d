//! Accesses to memory without bounds checks, if [`Config::guard_pages`](crate::Config) asks for it.
//!
//! Every memory of such an engine lies in a reservation of [`GUARDED`](crate::runtime::memory::GUARDED) bytes: whatever
//! index and offset a guest adds up, the access begins and ends in it, and all of it behind the memory's length, which is
//! a whole number of the system's pages, gives no access. So an access is out of bounds exactly if the processor refuses
//! it. The handlers are those of other configurations; only the access itself is another one ([`Guarded`] instead of
//! `Checked`), a single instruction that is written here by hand. One that is refused in part does nothing at all: the
//! processor looks at both pages first.
//!
//! The system reports the refused instruction with a signal. Its address is in a table that the assembler made of all the
//! accesses here ([`Access`], section `dynlink_faults`), so the signal's handler knows that it is ours, and what is in
//! which register, because the operands are in fixed ones: the thread's state, the memory's base, and the address of the
//! guest's instruction, which is an output, too. It notes that address as where the run stopped, puts that of
//! [`LANDING`] in its place, and lets execution go on behind the access. The handler ends as it always does, and the "next
//! instruction" is one that traps.
//!
//! So nothing is unwound and no frame is skipped, whatever the compiler made of a handler: for it, an access is some code
//! that gives a value and the address to go on from. What happens between access and next instruction must be harmless
//! with a value that was not read and with the fields of `LANDING` in place of the instruction's. It is: a result goes to
//! slot 0 of a frame that ends with the trap, a second access reads what is there or is refused again, a second one that
//! writes goes to where the first one was refused, and a branch goes to `LANDING` either way.
//!
//! Everything here happens on the thread that runs the guest, by means of its own registers. Calls through tables that
//! load the index, bulk operations, native code of C's library and the host check bounds themselves, as always.

use super::dispatch::{Handler, handler, trap};
use super::handlers::memory::{self, Bounds, Load, Store};
use super::signal::{self, Fault};
use crate::error::{Error, Result};
use crate::runtime::memory::GUARDED;
use crate::runtime::records::Ctx;
use crate::trap::TrapCode;

/// An access is refused by the processor.
pub(super) struct Guarded;

impl Bounds for Guarded {
    #[inline(always)]
    unsafe fn read<L: Load, const FIELDS: bool>(
        access: memory::Access,
    ) -> Option<(L::R, *const u8)> {
        // SAFETY: the caller's; the memory is one with guard pages, because this engine has no other ones.
        Some(unsafe { L::read_guarded::<FIELDS>(access) })
    }

    #[inline(always)]
    unsafe fn write<W: Store>(access: memory::Access, value: W::V) -> Option<*const u8> {
        // SAFETY: as above.
        Some(unsafe { W::write_guarded(access, value) })
    }
}

/// The instruction has an entry in the table: where it is, its length, what is to be done with registers.
macro_rules! access {
    ($instruction:literal) => {
        concat!(
            "2: ",
            $instruction,
            "\n",
            "3:\n",
            // "R": no linker drops the section although nothing refers to it but by its bounds.
            ".pushsection dynlink_faults, \"aR\", @progbits\n",
            ".long 2b - .\n",
            ".long {landing} - .\n",
            ".byte 3b - 2b\n",
            ".byte {flags}\n",
            ".short 0\n",
            ".popsection"
        )
    };
}

/// The accumulator becomes 0, as if it had been read.
const CLEAR: u8 = 1;
/// The handler reads fields behind byte 16 of the instruction afterwards, and the instruction has 24 bytes.
const FIELDS_FOLLOW: u8 = 2;

/// A value in memory that is read as an `R`.
pub(super) trait Read<R> {
    /// The value, and where to go on from: at the instruction, or at [`LANDING`]. `FIELDS` as in [`Bounds::read`].
    ///
    /// # Safety
    /// As [`Bounds::read`], and the memory is one with guard pages.
    unsafe fn read<const FIELDS: bool>(access: memory::Access) -> (R, *const u8);
}

macro_rules! read_integer {
    ($ty:ty as $result:ty: $instruction:literal) => {
        impl Read<$result> for $ty {
            #[inline(always)]
            unsafe fn read<const FIELDS: bool>(access: memory::Access) -> ($result, *const u8) {
                let (value, next): (u64, *const u8);
                // SAFETY: one instruction, which reads memory of the guest or is refused; then what the handler of
                // the signal changes are outputs, or the context, which this may write as any code that gets it. The
                // upper half of a value with 32 bits is zero: the instruction made it so, or the handler.
                unsafe {
                    core::arch::asm!(
                        access!($instruction),
                        at = in(reg) access.at,
                        flags = const CLEAR + if FIELDS { FIELDS_FOLLOW } else { 0 },
                        landing = sym LANDING,
                        in("rdx") access.base,
                        in("r8") access.ctx,
                        inout("rdi") access.ip => next,
                        lateout("r9") value,
                        options(nostack, preserves_flags)
                    );
                    if size_of::<$result>() == 4 {
                        core::hint::assert_unchecked(value >> 32 == 0);
                    }
                }
                (value as $result, next)
            }
        }
    };
}
read_integer!(u8 as u32: "movzx r9d, byte ptr [rdx + {at}]");
read_integer!(u8 as u64: "movzx r9d, byte ptr [rdx + {at}]");
read_integer!(i8 as i32: "movsx r9d, byte ptr [rdx + {at}]");
read_integer!(i8 as i64: "movsx r9, byte ptr [rdx + {at}]");
read_integer!(u16 as u32: "movzx r9d, word ptr [rdx + {at}]");
read_integer!(u16 as u64: "movzx r9d, word ptr [rdx + {at}]");
read_integer!(i16 as i32: "movsx r9d, word ptr [rdx + {at}]");
read_integer!(i16 as i64: "movsx r9, word ptr [rdx + {at}]");
read_integer!(u32 as u32: "mov r9d, dword ptr [rdx + {at}]");
read_integer!(u32 as u64: "mov r9d, dword ptr [rdx + {at}]");
read_integer!(i32 as i64: "movsxd r9, dword ptr [rdx + {at}]");
read_integer!(u64 as u64: "mov r9, qword ptr [rdx + {at}]");

macro_rules! read_float {
    ($ty:ty: $instruction:literal) => {
        impl Read<$ty> for $ty {
            #[inline(always)]
            unsafe fn read<const FIELDS: bool>(access: memory::Access) -> ($ty, *const u8) {
                let (value, next): ($ty, *const u8);
                // SAFETY: as for integers. A value that was not read is whatever is in the register.
                unsafe {
                    core::arch::asm!(
                        access!($instruction),
                        at = in(reg) access.at,
                        flags = const if FIELDS { FIELDS_FOLLOW } else { 0 },
                        value = lateout(xmm_reg) value,
                        landing = sym LANDING,
                        in("rdx") access.base,
                        in("r8") access.ctx,
                        inout("rdi") access.ip => next,
                        options(nostack, preserves_flags)
                    );
                }
                (value, next)
            }
        }
    };
}
read_float!(f32: "movss {value}, dword ptr [rdx + {at}]");
read_float!(f64: "movsd {value}, qword ptr [rdx + {at}]");

/// A value that is written to memory.
pub(super) trait Write {
    /// Where to go on from: behind the instruction, or at [`LANDING`].
    ///
    /// # Safety
    /// As [`Bounds::write`], and the memory is one with guard pages.
    unsafe fn write(self, access: memory::Access) -> *const u8;
}

macro_rules! write_value {
    ($ty:ident in $class:ident: $instruction:literal) => {
        impl Write for $ty {
            #[inline(always)]
            unsafe fn write(self, access: memory::Access) -> *const u8 {
                let next: *const u8;
                // SAFETY: one instruction, which writes memory of the guest or is refused; then what the handler of
                // the signal changes is an output, or the context, which this may write as any code that gets it.
                unsafe {
                    core::arch::asm!(
                        access!($instruction),
                        at = in(reg) access.at,
                        value = in($class) self,
                        flags = const 0,
                        landing = sym LANDING,
                        in("rdx") access.base,
                        in("r8") access.ctx,
                        inout("rdi") access.ip => next,
                        options(nostack, preserves_flags)
                    );
                }
                next
            }
        }
    };
}
write_value!(u8 in reg_byte: "mov byte ptr [rdx + {at}], {value}");
write_value!(u16 in reg: "mov word ptr [rdx + {at}], {value:x}");
write_value!(u32 in reg: "mov dword ptr [rdx + {at}], {value:e}");
write_value!(u64 in reg: "mov qword ptr [rdx + {at}], {value}");
write_value!(f32 in xmm_reg: "movss dword ptr [rdx + {at}], {value}");
write_value!(f64 in xmm_reg: "movsd qword ptr [rdx + {at}], {value}");

handler! {
    /// What comes next after a refused access. Where that was, the signal's handler noted.
    []
    refused(ip, sp, mem, len, ctx, acc, facc) {
        let ip = (*ctx).ip;
        trap!(TrapCode::MemoryOutOfBounds; ip, sp, ctx)
    }
}

/// Instructions that trap, where handlers go after a refused access: those that read fields from byte 16 on from
/// `branch` by 0 or 24 bytes, all others from the first word of `fields` by 16, 24 or 32. The fields are zero: slot 0,
/// offset 0, displacement 0. `refused` is the same for both ways of dispatch, because it goes nowhere.
#[repr(C)]
struct Landing {
    branch: Handler,
    fields: [u64; 2],
    next: [Handler; 3],
}

static LANDING: Landing = Landing {
    branch: refused,
    fields: [0; 2],
    next: [refused; 3],
};

const _: () = {
    let base = std::mem::offset_of!(Landing, fields);
    assert!(std::mem::offset_of!(Landing, branch) == 0);
    assert!(std::mem::offset_of!(Landing, next) == 24);
    assert!(
        base + 16 == std::mem::offset_of!(Landing, next) && base + 32 + 8 == size_of::<Landing>()
    );
};

/// An entry of the table of all accesses, as [`access!`] writes it.
#[repr(C)]
struct Access {
    /// Where the instruction is, from here.
    distance: i32,
    /// Where the [`LANDING`] of its handler is, from here: a program may be linked of two versions of this crate, whose
    /// tables become one.
    landing: i32,
    /// Its bytes.
    length: u8,
    /// [`CLEAR`], [`FIELDS_FOLLOW`].
    flags: u8,
    unused: u16,
}

impl Access {
    /// The instruction's address.
    fn instruction(&self) -> u64 {
        (&raw const self.distance as u64).wrapping_add_signed(i64::from(self.distance))
    }

    /// Whether it is one of this version of the crate.
    fn is_own(&self) -> bool {
        let landing = (&raw const self.landing as u64).wrapping_add_signed(i64::from(self.landing));
        landing == &raw const LANDING as u64
    }
}

unsafe extern "C" {
    // The linker's names for the bounds of the section.
    static __start_dynlink_faults: Access;
    static __stop_dynlink_faults: Access;
}

/// The table of all accesses.
fn accesses() -> &'static [Access] {
    let (start, stop) = (
        &raw const __start_dynlink_faults,
        &raw const __stop_dynlink_faults,
    );
    let count = (stop as usize - start as usize) / size_of::<Access>();
    // SAFETY: the section consists of entries, one behind the other, and is never written.
    unsafe { std::slice::from_raw_parts(start, count) }
}

/// Whether the fault was a refused access to a memory; then the thread goes on as described above.
///
/// # Safety
/// The fault is that of this thread, which goes on with these registers. Called by the handler of a signal: nothing here
/// allocates, waits, or calls what does.
pub(super) unsafe fn recover(fault: &mut Fault<'_>) -> bool {
    let place = fault.registers.rip();
    let Some(access) = accesses()
        .iter()
        .find(|access| access.instruction() == place && access.is_own())
    else {
        return false;
    };
    // Any other reason would be a defect of the engine or of the machine, which must not look like one of the guest.
    let base = fault.registers.rdx();
    if !fault.is_refusal || fault.address.wrapping_sub(base) >= GUARDED {
        return false;
    }
    let landing = &raw const LANDING as u64;
    let ip = fault.registers.rdi();
    // The second refused access of an instruction goes on from here already.
    if ip.wrapping_sub(landing) >= size_of::<Landing>() as u64 {
        let ctx = fault.registers.r8() as *mut Ctx;
        // SAFETY: the access has the running thread's state in this register, and counts as code that may write it.
        unsafe { (*ctx).ip = ip as *const u8 };
    }
    let fields = access.flags & FIELDS_FOLLOW != 0;
    let from = if fields {
        0
    } else {
        std::mem::offset_of!(Landing, fields) as u64
    };
    fault.registers.set_rdi(landing + from);
    if access.flags & CLEAR != 0 {
        fault.registers.set_r9(0);
    }
    fault.registers.set_rip(place + u64::from(access.length));
    true
}

/// Makes the process ready for memories with guard pages.
///
/// # Errors
/// The system does not let us handle the signal.
pub(super) fn install() -> Result<()> {
    if signal::install() {
        return Ok(());
    }
    Err(Error::usage(
        "guard pages: the system refuses a handler of SIGSEGV; turn them off (Config::guard_pages, or run without \
         --guard-pages)",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_access_has_an_entry_with_one_instruction() {
        let accesses = accesses();
        // Loads and stores of all types, in all forms of address.
        assert!(accesses.len() > 400, "{}", accesses.len());
        for access in accesses {
            assert!((3..=9).contains(&access.length), "{}", access.length);
            assert!(access.flags <= CLEAR | FIELDS_FOLLOW);
            assert_eq!(access.unused, 0);
            assert!(access.is_own());
        }
        let mut places: Vec<u64> = accesses.iter().map(Access::instruction).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), accesses.len());
    }
}
