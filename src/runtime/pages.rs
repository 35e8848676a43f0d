//! Address space for memories that may grow: reserved at once, given pages as the guest asks for them.
//!
//! A memory that lies in a reservation grows without moving, so growing costs no copy, never needs room for the old
//! and the new bytes together, and what the guest does not touch takes no memory of the host. Only Linux on the usual 64-bit
//! architectures; other systems, and processes whose address space is limited, get memory from the allocator instead.

use std::ptr::NonNull;

/// Address space of the process, no page of which is accessible before it is committed.
#[derive(Debug)]
pub(crate) struct Reservation {
    base: NonNull<u8>,
    bytes: usize,
}

impl Reservation {
    /// Reserves so many bytes, a multiple of the size of a guest's page. `None`: the system does not have them.
    pub(super) fn new(bytes: usize) -> Option<Reservation> {
        let base = system::reserve(bytes)?;
        Some(Reservation { base, bytes })
    }

    /// The first byte.
    pub(super) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Bytes reserved.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the first `bytes` bytes accessible, those that were not so before as zeros. False, and nothing changed: the
    /// system has no memory for them, or they are more than are reserved.
    pub(super) fn commit(&mut self, bytes: usize) -> bool {
        // SAFETY: the range is the beginning of the reservation, which nobody else gives rights to.
        bytes <= self.bytes && unsafe { system::commit(self.base, bytes) }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the range was reserved by `new` and is given back here only; its owner uses it no longer.
        unsafe { system::release(self.base, self.bytes) }
    }
}

#[cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    ),
    not(miri)
))]
mod system {
    //! The three system calls, by the C library that std links anyway. These architectures share their numbers.
    use std::ffi::{c_int, c_void};
    use std::ptr::NonNull;

    const PROT_NONE: c_int = 0;
    const PROT_READ_WRITE: c_int = 1 | 2;
    const MAP_PRIVATE: c_int = 2;
    const MAP_ANONYMOUS: c_int = 0x20;
    const MAP_NORESERVE: c_int = 0x4000;

    unsafe extern "C" {
        fn mmap(
            address: *mut c_void,
            length: usize,
            protection: c_int,
            flags: c_int,
            file: c_int,
            offset: i64,
        ) -> *mut c_void;
        fn mprotect(address: *mut c_void, length: usize, protection: c_int) -> c_int;
        fn munmap(address: *mut c_void, length: usize) -> c_int;
    }

    pub(super) fn reserve(bytes: usize) -> Option<NonNull<u8>> {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        // SAFETY: a mapping of its own at an address that the system chooses touches no other memory.
        let base = unsafe { mmap(std::ptr::null_mut(), bytes, PROT_NONE, flags, -1, 0) };
        // A failure is the address -1.
        if base.addr() == usize::MAX {
            return None;
        }
        NonNull::new(base.cast())
    }

    /// # Safety
    /// The range begins a reservation and lies in it.
    pub(super) unsafe fn commit(base: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: by the contract only pages of the reservation get other rights.
        unsafe { mprotect(base.as_ptr().cast(), bytes, PROT_READ_WRITE) == 0 }
    }

    /// # Safety
    /// The range is a reservation that nothing uses any more.
    pub(super) unsafe fn release(base: NonNull<u8>, bytes: usize) {
        // SAFETY: by the contract. It fails only for ranges that are none.
        unsafe { munmap(base.as_ptr().cast(), bytes) };
    }
}

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    ),
    not(miri)
)))]
mod system {
    //! No reservations: memory comes from the allocator.
    use std::ptr::NonNull;

    pub(super) fn reserve(_: usize) -> Option<NonNull<u8>> {
        None
    }

    /// # Safety
    /// None is needed: there are no reservations.
    pub(super) unsafe fn commit(_: NonNull<u8>, _: usize) -> bool {
        false
    }

    /// # Safety
    /// None is needed: there are no reservations.
    pub(super) unsafe fn release(_: NonNull<u8>, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zero_when_they_come_and_stay_where_they_are() {
        let size = 4 << 30;
        let Some(mut pages) = Reservation::new(size) else {
            // A system without reservations, or without that much address space.
            return;
        };
        assert_eq!(pages.bytes(), size);
        assert!(pages.commit(1 << 16));
        // SAFETY: the bytes are committed.
        unsafe {
            assert_eq!(pages.base().add((1 << 16) - 1).read(), 0);
            pages.base().write(7);
        }
        assert!(pages.commit(1 << 24));
        // SAFETY: the bytes are committed.
        unsafe {
            assert_eq!(pages.base().read(), 7);
            assert_eq!(pages.base().add((1 << 24) - 1).read(), 0);
        }
        assert!(!pages.commit(size + 1));
    }

    #[test]
    fn more_than_there_is_cannot_be_reserved() {
        assert!(Reservation::new(usize::MAX >> 1).is_none());
    }
}
