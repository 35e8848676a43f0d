//! Functions on paths.

#![forbid(unsafe_code)]

use super::fd::fd_flags;
use super::layout::{filestat, filestat_unstable, times};
use crate::host::descriptor::Rights;
use crate::host::errno::{Errno, Result};
use crate::host::fs::{Metadata, OpenOptions};
use crate::host::guest::GuestMemory;
use crate::host::kernel::Kernel;
use crate::host::paths::{At, OpenHow};

const CREAT: u32 = 1 << 0;
const DIRECTORY: u32 = 1 << 1;
const EXCL: u32 = 1 << 2;
const TRUNC: u32 = 1 << 3;

/// Whether `lookupflags` ask to follow a link at the end.
fn follows(flags: u32) -> Result<bool> {
    match flags {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::Inval),
    }
}

pub(super) fn path_create_directory(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    path: u32,
    length: u32,
) -> Result<()> {
    kernel.create_directory(At::Descriptor(fd), memory.path(path, length)?)
}

fn stat(
    kernel: &Kernel,
    memory: &GuestMemory<'_>,
    fd: u32,
    flags: u32,
    path: u32,
    length: u32,
) -> Result<Metadata> {
    let path = memory.path(path, length)?;
    kernel.metadata_at(At::Descriptor(fd), path, follows(flags)?)
}

pub(super) fn path_filestat_get(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    flags: u32,
    path: u32,
    length: u32,
    stat_at: u32,
) -> Result<()> {
    let metadata = stat(kernel, memory, fd, flags, path, length)?;
    filestat(&metadata).write(memory, stat_at)
}

pub(super) fn path_filestat_get_unstable(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    flags: u32,
    path: u32,
    length: u32,
    stat_at: u32,
) -> Result<()> {
    let metadata = stat(kernel, memory, fd, flags, path, length)?;
    filestat_unstable(&metadata).write(memory, stat_at)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parameters are those of preview 1"
)]
pub(super) fn path_filestat_set_times(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    flags: u32,
    path: u32,
    length: u32,
    atim: u64,
    mtim: u64,
    fst_flags: u32,
) -> Result<()> {
    let path = memory.path(path, length)?;
    let times = times(kernel, atim, mtim, fst_flags)?;
    kernel.set_times_at(At::Descriptor(fd), path, follows(flags)?, times)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parameters are those of preview 1"
)]
pub(super) fn path_link(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    old_fd: u32,
    old_flags: u32,
    old_path: u32,
    old_length: u32,
    new_fd: u32,
    new_path: u32,
    new_length: u32,
) -> Result<()> {
    let old_path = memory.path(old_path, old_length)?;
    let new_path = memory.path(new_path, new_length)?;
    kernel.hard_link(
        At::Descriptor(old_fd),
        old_path,
        follows(old_flags)?,
        At::Descriptor(new_fd),
        new_path,
    )
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parameters are those of preview 1"
)]
pub(super) fn path_open(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    dirflags: u32,
    path: u32,
    length: u32,
    oflags: u32,
    base: u64,
    _inheriting: u64,
    fdflags: u32,
    opened_at: u32,
) -> Result<()> {
    memory.check(opened_at, 4)?;
    let path = memory.path(path, length)?;
    if oflags & !(CREAT | DIRECTORY | EXCL | TRUNC) != 0 {
        return Err(Errno::Inval);
    }
    // Of the wanted rights only reading and writing count. Some guests ask for all 64 and some for none; a descriptor gets
    // all that go with what it is and that the directory can pass on.
    let rights = Rights::from_bits_truncate(base);
    let how = OpenHow {
        options: OpenOptions {
            read: rights.intersects(Rights::FD_READ),
            write: rights.intersects(Rights::WRITING),
            create: oflags & CREAT != 0,
            exclusive: oflags & EXCL != 0,
            truncate: oflags & TRUNC != 0,
        },
        directory: oflags & DIRECTORY != 0,
        flags: fd_flags(fdflags)?,
    };
    let opened = kernel.open(At::Descriptor(fd), path, follows(dirflags)?, how)?;
    memory.write_u32(opened_at, opened)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parameters are those of preview 1"
)]
pub(super) fn path_readlink(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    path: u32,
    length: u32,
    buffer: u32,
    buffer_length: u32,
    used_at: u32,
) -> Result<()> {
    memory.check(used_at, 4)?;
    memory.check(buffer, buffer_length)?;
    let target = kernel.read_link(At::Descriptor(fd), memory.path(path, length)?)?;
    let count = target.len().min(buffer_length as usize);
    memory.write(buffer, target.as_bytes().get(..count).unwrap_or_default())?;
    memory.write_u32(used_at, u32::try_from(count).map_err(|_| Errno::Overflow)?)
}

pub(super) fn path_remove_directory(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    path: u32,
    length: u32,
) -> Result<()> {
    kernel.remove_directory(At::Descriptor(fd), memory.path(path, length)?)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parameters are those of preview 1"
)]
pub(super) fn path_rename(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    old_path: u32,
    old_length: u32,
    new_fd: u32,
    new_path: u32,
    new_length: u32,
) -> Result<()> {
    let old_path = memory.path(old_path, old_length)?;
    let new_path = memory.path(new_path, new_length)?;
    kernel.rename(
        At::Descriptor(fd),
        old_path,
        At::Descriptor(new_fd),
        new_path,
    )
}

pub(super) fn path_symlink(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    old_path: u32,
    old_length: u32,
    fd: u32,
    new_path: u32,
    new_length: u32,
) -> Result<()> {
    let target = memory.path(old_path, old_length)?;
    let path = memory.path(new_path, new_length)?;
    kernel.create_link(target, At::Descriptor(fd), path)
}

pub(super) fn path_unlink_file(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    path: u32,
    length: u32,
) -> Result<()> {
    kernel.unlink(At::Descriptor(fd), memory.path(path, length)?)
}
