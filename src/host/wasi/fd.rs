//! Functions on descriptors.

#![forbid(unsafe_code)]

use super::layout::{Record, filestat, filestat_unstable, times};
use crate::host::descriptor::{FdFlags, Object, Rights};
use crate::host::errno::{Errno, Result};
use crate::host::files::Whence;
use crate::host::guest::{Buffers, GuestMemory};
use crate::host::kernel::Kernel;
use crate::host::stream::Readiness;

pub(super) fn fd_advise(
    kernel: &mut Kernel,
    _memory: &mut GuestMemory<'_>,
    fd: u32,
    offset: u64,
    length: u64,
    advice: u32,
) -> Result<()> {
    const LAST_ADVICE: u32 = 5;
    match kernel.descriptors.get(fd)?.object {
        Object::Directory(_) => return Err(Errno::Badf),
        Object::Stream(_) => return Err(Errno::Spipe),
        Object::File(_) => {}
    }
    if advice > LAST_ADVICE || offset.checked_add(length).is_none() {
        return Err(Errno::Inval);
    }
    // Advice may be ignored, and is: the host's cache needs none from here.
    Ok(())
}

pub(super) fn fd_allocate(
    kernel: &mut Kernel,
    _memory: &mut GuestMemory<'_>,
    fd: u32,
    offset: u64,
    length: u64,
) -> Result<()> {
    kernel.allocate(fd, offset, length)
}

pub(super) fn fd_close(kernel: &mut Kernel, _memory: &mut GuestMemory<'_>, fd: u32) -> Result<()> {
    kernel.close(fd)
}

pub(super) fn fd_datasync(
    kernel: &mut Kernel,
    _memory: &mut GuestMemory<'_>,
    fd: u32,
) -> Result<()> {
    kernel.sync(fd, true)
}

pub(super) fn fd_sync(kernel: &mut Kernel, _memory: &mut GuestMemory<'_>, fd: u32) -> Result<()> {
    kernel.sync(fd, false)
}

pub(super) fn fd_fdstat_get(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    stat: u32,
) -> Result<()> {
    let open = kernel.descriptors.get(fd)?;
    Record::<24>::new()
        .field(0, &[open.file_type as u8])
        .field(2, &open.flags.bits().to_le_bytes())
        .field(8, &open.rights.bits().to_le_bytes())
        .field(16, &open.inheriting.bits().to_le_bytes())
        .write(memory, stat)
}

pub(super) fn fd_fdstat_set_flags(
    kernel: &mut Kernel,
    _memory: &mut GuestMemory<'_>,
    fd: u32,
    flags: u32,
) -> Result<()> {
    let open = kernel.descriptors.get_mut(fd)?;
    open.flags = fd_flags(flags)?;
    Ok(())
}

/// # Errors
/// `Inval` for unknown flags.
pub(super) fn fd_flags(flags: u32) -> Result<FdFlags> {
    u16::try_from(flags)
        .ok()
        .and_then(FdFlags::from_bits)
        .ok_or(Errno::Inval)
}

pub(super) fn fd_fdstat_set_rights(
    kernel: &mut Kernel,
    _memory: &mut GuestMemory<'_>,
    fd: u32,
    base: u64,
    inheriting: u64,
) -> Result<()> {
    let open = kernel.descriptors.get_mut(fd)?;
    let base = Rights::from_bits_retain(base);
    let inheriting = Rights::from_bits_retain(inheriting);
    // Rights can only be given up.
    if !open.rights.contains(base) || !open.inheriting.contains(inheriting) {
        return Err(Errno::Notcapable);
    }
    open.rights = base;
    open.inheriting = inheriting;
    Ok(())
}

pub(super) fn fd_filestat_get(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    stat: u32,
) -> Result<()> {
    filestat(&kernel.metadata(fd)?).write(memory, stat)
}

pub(super) fn fd_filestat_get_unstable(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    stat: u32,
) -> Result<()> {
    filestat_unstable(&kernel.metadata(fd)?).write(memory, stat)
}

pub(super) fn fd_filestat_set_size(
    kernel: &mut Kernel,
    _memory: &mut GuestMemory<'_>,
    fd: u32,
    size: u64,
) -> Result<()> {
    kernel.set_size(fd, size)
}

pub(super) fn fd_filestat_set_times(
    kernel: &mut Kernel,
    _memory: &mut GuestMemory<'_>,
    fd: u32,
    atim: u64,
    mtim: u64,
    flags: u32,
) -> Result<()> {
    kernel.descriptors.get(fd)?;
    let times = times(kernel, atim, mtim, flags)?;
    kernel.set_times(fd, times)
}

/// Fills the buffers in order until one is not filled. An error after the first bytes is left for the next call to meet.
fn read_buffers(
    memory: &mut GuestMemory<'_>,
    buffers: &Buffers,
    mut read: impl FnMut(&mut [u8], u64) -> Result<usize>,
) -> Result<u32> {
    if buffers.is_empty() {
        read(&mut [], 0)?;
    }
    let mut total = 0;
    for buffer in buffers {
        let bytes = memory.bytes_mut(buffer.pointer, buffer.length)?;
        let count = match read(bytes, u64::from(total)) {
            Ok(count) => u32::try_from(count).unwrap_or(u32::MAX),
            Err(_) if total > 0 => break,
            Err(error) => return Err(error),
        };
        total += count;
        if count < buffer.length {
            break;
        }
    }
    Ok(total)
}

/// Writes the buffers in order until one is not taken whole.
fn write_buffers(
    memory: &GuestMemory<'_>,
    buffers: &Buffers,
    mut write: impl FnMut(&[u8], u64) -> Result<usize>,
) -> Result<u32> {
    if buffers.is_empty() {
        write(&[], 0)?;
    }
    let mut total = 0;
    for buffer in buffers {
        let bytes = memory.bytes(buffer.pointer, buffer.length)?;
        let count = match write(bytes, u64::from(total)) {
            Ok(count) => u32::try_from(count).unwrap_or(u32::MAX),
            Err(_) if total > 0 => break,
            Err(error) => return Err(error),
        };
        total += count;
        if count < buffer.length {
            break;
        }
    }
    Ok(total)
}

pub(super) fn fd_read(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    list: u32,
    count: u32,
    read_at: u32,
) -> Result<()> {
    let buffers = memory.buffers(list, count)?;
    memory.check(read_at, 4)?;
    let is_stream = matches!(kernel.descriptors.get(fd)?.object, Object::Stream(_));
    let total = read_buffers(memory, &buffers, |bytes, done| {
        // A stream that gave something must not be waited for.
        if is_stream && done > 0 && !matches!(kernel.poll_read(fd, 0), Ok(Readiness::Ready(_))) {
            return Ok(0);
        }
        kernel.read(fd, bytes)
    })?;
    memory.write_u32(read_at, total)
}

pub(super) fn fd_pread(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    list: u32,
    count: u32,
    offset: u64,
    read_at: u32,
) -> Result<()> {
    let buffers = memory.buffers(list, count)?;
    memory.check(read_at, 4)?;
    let total = read_buffers(memory, &buffers, |bytes, done| {
        kernel.read_at(fd, bytes, offset.saturating_add(done))
    })?;
    memory.write_u32(read_at, total)
}

pub(super) fn fd_write(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    list: u32,
    count: u32,
    written_at: u32,
) -> Result<()> {
    let buffers = memory.buffers(list, count)?;
    memory.check(written_at, 4)?;
    let total = write_buffers(memory, &buffers, |bytes, _| kernel.write(fd, bytes))?;
    memory.write_u32(written_at, total)
}

pub(super) fn fd_pwrite(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    list: u32,
    count: u32,
    offset: u64,
    written_at: u32,
) -> Result<()> {
    let buffers = memory.buffers(list, count)?;
    memory.check(written_at, 4)?;
    let total = write_buffers(memory, &buffers, |bytes, done| {
        kernel.write_at(fd, bytes, offset.saturating_add(done))
    })?;
    memory.write_u32(written_at, total)
}

pub(super) fn fd_prestat_get(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    prestat: u32,
) -> Result<()> {
    const DIRECTORY: u8 = 0;
    let name = kernel.descriptors.preopen(fd)?;
    let length = u32::try_from(name.len()).map_err(|_| Errno::Overflow)?;
    Record::<8>::new()
        .field(0, &[DIRECTORY])
        .field(4, &length.to_le_bytes())
        .write(memory, prestat)
}

pub(super) fn fd_prestat_dir_name(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    path: u32,
    length: u32,
) -> Result<()> {
    let name = kernel.descriptors.preopen(fd)?;
    if name.len() > length as usize {
        return Err(Errno::Nametoolong);
    }
    memory.write(path, name.as_bytes())
}

pub(super) fn fd_readdir(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    buffer: u32,
    length: u32,
    cookie: u64,
    used_at: u32,
) -> Result<()> {
    memory.check(used_at, 4)?;
    memory.check(buffer, length)?;
    let listing = kernel.listing(fd, cookie == 0)?;
    let start = usize::try_from(cookie).unwrap_or(usize::MAX);
    let mut rest = memory.bytes_mut(buffer, length)?;
    // What does not fit is cut off, in the middle of an entry if need be: a full buffer tells the guest to ask again.
    let mut put = |bytes: &[u8]| {
        let count = bytes.len().min(rest.len());
        let (now, later) = std::mem::take(&mut rest).split_at_mut(count);
        now.copy_from_slice(bytes.get(..count).unwrap_or_default());
        rest = later;
        !rest.is_empty()
    };
    for (index, entry) in listing.iter().enumerate().skip(start) {
        let name_length = u32::try_from(entry.name.len()).map_err(|_| Errno::Overflow)?;
        let record = Record::<24>::new()
            .field(0, &(index as u64 + 1).to_le_bytes())
            .field(8, &entry.inode.to_le_bytes())
            .field(16, &name_length.to_le_bytes())
            .field(20, &[entry.file_type as u8]);
        if !(put(record.bytes()) && put(entry.name.as_bytes())) {
            break;
        }
    }
    let left = u32::try_from(rest.len()).map_err(|_| Errno::Overflow)?;
    memory.write_u32(used_at, length - left)
}

pub(super) fn fd_renumber(
    kernel: &mut Kernel,
    _memory: &mut GuestMemory<'_>,
    fd: u32,
    to: u32,
) -> Result<()> {
    kernel.descriptors.renumber(fd, to)
}

fn seek(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    offset: i64,
    whence: Option<Whence>,
    position_at: u32,
) -> Result<()> {
    memory.check(position_at, 8)?;
    kernel.descriptors.get(fd)?;
    let position = kernel.seek(fd, offset, whence.ok_or(Errno::Inval)?)?;
    memory.write_u64(position_at, position)
}

pub(super) fn fd_seek(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    offset: i64,
    whence: u32,
    position_at: u32,
) -> Result<()> {
    let whence = match whence {
        0 => Some(Whence::Start),
        1 => Some(Whence::Current),
        2 => Some(Whence::End),
        _ => None,
    };
    seek(kernel, memory, fd, offset, whence, position_at)
}

pub(super) fn fd_seek_unstable(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    offset: i64,
    whence: u32,
    position_at: u32,
) -> Result<()> {
    let whence = match whence {
        0 => Some(Whence::Current),
        1 => Some(Whence::End),
        2 => Some(Whence::Start),
        _ => None,
    };
    seek(kernel, memory, fd, offset, whence, position_at)
}

pub(super) fn fd_tell(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    position_at: u32,
) -> Result<()> {
    seek(kernel, memory, fd, 0, Some(Whence::Current), position_at)
}
