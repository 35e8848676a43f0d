//! Records of preview 1 in guest memory. Each is built whole and written at once, so that none is left half-written.

#![forbid(unsafe_code)]

use crate::host::errno::{Errno, Result};
use crate::host::fs::{Metadata, Times};
use crate::host::guest::GuestMemory;
use crate::host::kernel::Kernel;

/// A record under construction.
pub(super) struct Record<const N: usize>([u8; N]);

impl<const N: usize> Record<N> {
    pub fn new() -> Record<N> {
        Record([0; N])
    }

    /// Puts the bytes of a field at its offset. Offsets are constants of the layouts.
    #[must_use]
    pub fn field(mut self, offset: usize, bytes: &[u8]) -> Record<N> {
        if let Some(field) = self.0.get_mut(offset..offset + bytes.len()) {
            field.copy_from_slice(bytes);
        } else {
            debug_assert!(false, "field at {offset} leaves the record of {N} bytes");
        }
        self
    }

    pub fn bytes(&self) -> &[u8; N] {
        &self.0
    }

    pub fn write(&self, memory: &mut GuestMemory<'_>, pointer: u32) -> Result<()> {
        memory.write(pointer, &self.0)
    }
}

/// `filestat` of preview 1.
pub(super) fn filestat(metadata: &Metadata) -> Record<64> {
    Record::new()
        .field(0, &metadata.device.to_le_bytes())
        .field(8, &metadata.inode.to_le_bytes())
        .field(16, &[metadata.file_type as u8])
        .field(24, &metadata.links.to_le_bytes())
        .field(32, &metadata.size.to_le_bytes())
        .field(40, &metadata.accessed.to_le_bytes())
        .field(48, &metadata.modified.to_le_bytes())
        .field(56, &metadata.changed.to_le_bytes())
}

/// `filestat` of the version before, whose number of links has 32 bits.
pub(super) fn filestat_unstable(metadata: &Metadata) -> Record<56> {
    let links = u32::try_from(metadata.links).unwrap_or(u32::MAX);
    Record::new()
        .field(0, &metadata.device.to_le_bytes())
        .field(8, &metadata.inode.to_le_bytes())
        .field(16, &[metadata.file_type as u8])
        .field(20, &links.to_le_bytes())
        .field(24, &metadata.size.to_le_bytes())
        .field(32, &metadata.accessed.to_le_bytes())
        .field(40, &metadata.modified.to_le_bytes())
        .field(48, &metadata.changed.to_le_bytes())
}

const ATIM: u32 = 1 << 0;
const ATIM_NOW: u32 = 1 << 1;
const MTIM: u32 = 1 << 2;
const MTIM_NOW: u32 = 1 << 3;

/// New times from `fstflags` and the values that go with them.
///
/// # Errors
/// `Inval` for unknown flags, or a time that is to be both a value and now.
pub(super) fn times(kernel: &Kernel, atim: u64, mtim: u64, flags: u32) -> Result<Times> {
    if flags & !(ATIM | ATIM_NOW | MTIM | MTIM_NOW) != 0 {
        return Err(Errno::Inval);
    }
    let choose = |value_flag, now_flag, value| match (flags & value_flag, flags & now_flag) {
        (0, 0) => Ok(None),
        (_, 0) => Ok(Some(value)),
        (0, _) => Ok(Some(kernel.clock.realtime())),
        _ => Err(Errno::Inval),
    };
    Ok(Times {
        accessed: choose(ATIM, ATIM_NOW, atim)?,
        modified: choose(MTIM, MTIM_NOW, mtim)?,
    })
}
