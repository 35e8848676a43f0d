//! System calls on descriptors: open, duplicate, control, sizes, listings.
//!
//! Standard output and error count as terminals, whatever they lead to, because emscripten's JavaScript says so and C
//! libraries then write line by line: many programs are linked without what would write the rest at their end. Standard
//! input is a terminal only if it is one, because programs decide by that whether to prompt.

#![forbid(unsafe_code)]

use super::call::System;
use super::paths::{AT_FDCWD, normal, resolve};
use crate::host::descriptor::{FdFlags, Object, OpenFile};
use crate::host::errno::{Errno, Result};
use crate::host::files::Whence;
use crate::host::fs::{FileType, OpenOptions};
use crate::host::paths::OpenHow;
use crate::host::stream::{Readiness, Stream};
use bitflags::bitflags;

bitflags! {
    /// Flags of `open`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct OpenFlags: u32 {
        const WRITE_ONLY = 1;
        const READ_WRITE = 2;
        const CREATE = 0o100;
        const EXCLUSIVE = 0o200;
        const TRUNCATE = 0o1000;
        const APPEND = 0o2000;
        const NONBLOCK = 0o4000;
        const DATA_SYNC = 0o10000;
        const DIRECTORY = 0o200_000;
        const NO_FOLLOW = 0o400_000;
        const SYNC = 0o4_000_000;
        const PATH_ONLY = 0o10_000_000;
    }
}

/// Bytes of a `struct dirent`.
const DIRENT_SIZE: u32 = 280;

pub(super) fn open(system: &mut System<'_, '_>, path: u32, flags: u32, rest: u32) -> Result<u32> {
    open_at(system, AT_FDCWD, path, flags, rest)
}

pub(super) fn open_at(
    system: &mut System<'_, '_>,
    directory: i32,
    path: u32,
    flags: u32,
    rest: u32,
) -> Result<u32> {
    let flags = OpenFlags::from_bits_truncate(flags);
    let mode = match rest {
        0 => 0,
        rest => system.memory.read_u32(rest)?,
    };
    let path = system.path(path)?;
    if path.is_empty() {
        return Err(Errno::Noent);
    }
    if let Some(stream) = device(system, directory, &path) {
        return open_device(system, stream, flags);
    }
    let write = flags.intersects(OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE);
    let mut how = OpenHow::new(OpenOptions {
        read: !flags.contains(OpenFlags::WRITE_ONLY),
        write,
        create: flags.contains(OpenFlags::CREATE),
        exclusive: flags.contains(OpenFlags::EXCLUSIVE),
        truncate: flags.contains(OpenFlags::TRUNCATE) && write,
    });
    how.directory = flags.contains(OpenFlags::DIRECTORY);
    how.flags = descriptor_flags(flags);
    let follow = !flags.contains(OpenFlags::NO_FOLLOW);
    let (at, path) = resolve(system, directory, path)?;
    let is_new =
        how.options.create && system.kernel.metadata_at(at, &path, follow) == Err(Errno::Noent);
    let fd = system.kernel.open(at, &path, follow, how)?;
    let metadata = system.kernel.metadata(fd)?;
    if metadata.file_type == FileType::Directory {
        let serial = system.kernel.descriptors.get(fd)?.serial;
        if let Ok(real) = super::paths::real(system, directory, &path) {
            system.remember_directory(serial, real);
        }
    } else if is_new {
        let mode = mode & 0o777 & !system.kernel.umask;
        system.set_mode(&metadata, mode);
    }
    Ok(fd)
}

fn descriptor_flags(flags: OpenFlags) -> FdFlags {
    let mut descriptor = FdFlags::empty();
    descriptor.set(FdFlags::APPEND, flags.contains(OpenFlags::APPEND));
    descriptor.set(FdFlags::NONBLOCK, flags.contains(OpenFlags::NONBLOCK));
    descriptor.set(FdFlags::DSYNC, flags.contains(OpenFlags::DATA_SYNC));
    descriptor.set(FdFlags::SYNC, flags.contains(OpenFlags::SYNC));
    descriptor
}

/// What a path below `/dev` stands for that no file system has.
pub(super) enum Device {
    /// A new stream.
    Stream(Stream),
    /// A descriptor that is open.
    Descriptor(u32),
}

/// The device of a path, unless the guest's own tree has something there.
pub(super) fn device(system: &System<'_, '_>, directory: i32, path: &str) -> Option<Device> {
    let whole = if path.starts_with('/') {
        normal(path)
    } else if !["dev/", "fd/", "null", "zero", "random", "std", "tty"]
        .iter()
        .any(|part| path.contains(part))
    {
        // Most paths are not worth a look at where they begin.
        return None;
    } else if directory == AT_FDCWD {
        normal(&format!("{}/{path}", system.kernel.working_directory()))
    } else {
        let file = system.kernel.descriptors.get(directory.cast_unsigned());
        let folder = system.state.directories.get(&file.ok()?.serial)?;
        normal(&format!("{folder}/{path}"))
    };
    let device = match whole.as_str() {
        "/dev/null" => Device::Stream(Stream::Null),
        "/dev/zero" => Device::Stream(Stream::Zero),
        "/dev/urandom" | "/dev/random" => Device::Stream(Stream::Random),
        "/dev/stdin" | "/dev/fd/0" | "/proc/self/fd/0" => Device::Descriptor(0),
        "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" | "/dev/tty" => Device::Descriptor(1),
        "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" | "/dev/tty1" => Device::Descriptor(2),
        _ => return None,
    };
    (!system.kernel.exists(&whole)).then_some(device)
}

fn open_device(system: &mut System<'_, '_>, device: Device, flags: OpenFlags) -> Result<u32> {
    if flags.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE) {
        return Err(Errno::Exist);
    }
    if flags.contains(OpenFlags::DIRECTORY) {
        return Err(Errno::Notdir);
    }
    match device {
        Device::Descriptor(fd) => system.kernel.dup(fd),
        Device::Stream(stream) => {
            let mut file = OpenFile::stream(stream);
            let access = flags & (OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE);
            file.file_type = FileType::CharacterDevice;
            file.readable &= !access.contains(OpenFlags::WRITE_ONLY);
            file.writable &= !access.is_empty();
            system.kernel.descriptors.open(file)
        }
    }
}

pub(super) fn duplicate(system: &mut System<'_, '_>, fd: u32) -> Result<u32> {
    system.kernel.dup(fd)
}

pub(super) fn duplicate_to(
    system: &mut System<'_, '_>,
    fd: u32,
    to: u32,
    _flags: u32,
) -> Result<u32> {
    if fd == to {
        return Err(Errno::Inval);
    }
    system.kernel.dup2(fd, to)
}

pub(super) fn pipe(system: &mut System<'_, '_>, descriptors: u32) -> Result<u32> {
    pipe2(system, descriptors, 0)
}

pub(super) fn pipe2(system: &mut System<'_, '_>, descriptors: u32, flags: u32) -> Result<u32> {
    let second = descriptors.checked_add(4).ok_or(Errno::Fault)?;
    system.memory.check(descriptors, 8)?;
    let (reader, writer) = system.kernel.pipe()?;
    let flags = descriptor_flags(OpenFlags::from_bits_truncate(flags));
    for fd in [reader, writer] {
        system.kernel.descriptors.get_mut(fd)?.flags = flags;
    }
    system.memory.write_u32(descriptors, reader)?;
    system.memory.write_u32(second, writer)?;
    Ok(0)
}

/// `fcntl`. Locks are always granted: there is no other process.
pub(super) fn control(
    system: &mut System<'_, '_>,
    fd: u32,
    command: u32,
    rest: u32,
) -> Result<u32> {
    const DUPLICATE: u32 = 0;
    const GET_DESCRIPTOR_FLAGS: u32 = 1;
    const SET_DESCRIPTOR_FLAGS: u32 = 2;
    const GET_FLAGS: u32 = 3;
    const SET_FLAGS: u32 = 4;
    const GET_OWNER: u32 = 9;
    const DUPLICATE_CLOSE_ON_EXEC: u32 = 1030;
    const UNLOCKED: u16 = 2;
    system.kernel.descriptors.get(fd)?;
    match command {
        DUPLICATE | DUPLICATE_CLOSE_ON_EXEC => {
            let least = system.memory.read_u32(rest)?;
            if i32::try_from(least).is_err() {
                return Err(Errno::Inval);
            }
            system.kernel.descriptors.duplicate(fd, least)
        }
        GET_DESCRIPTOR_FLAGS | SET_DESCRIPTOR_FLAGS => Ok(0),
        GET_FLAGS => {
            let file = system.kernel.descriptors.get(fd)?;
            let mut flags = match (file.readable, file.writable) {
                (true, true) => OpenFlags::READ_WRITE,
                (false, true) => OpenFlags::WRITE_ONLY,
                _ => OpenFlags::empty(),
            };
            flags.set(OpenFlags::APPEND, file.flags.contains(FdFlags::APPEND));
            flags.set(OpenFlags::NONBLOCK, file.flags.contains(FdFlags::NONBLOCK));
            flags.set(OpenFlags::DATA_SYNC, file.flags.contains(FdFlags::DSYNC));
            flags.set(OpenFlags::SYNC, file.flags.contains(FdFlags::SYNC));
            Ok(flags.bits())
        }
        SET_FLAGS => {
            let flags = OpenFlags::from_bits_truncate(system.memory.read_u32(rest)?);
            let file = system.kernel.descriptors.get_mut(fd)?;
            let changed = FdFlags::APPEND | FdFlags::NONBLOCK;
            file.flags = (file.flags - changed) | (descriptor_flags(flags) & changed);
            Ok(0)
        }
        // F_GETLK, of the versions with 32-bit and 64-bit time.
        5 | 12 => {
            let lock = system.memory.read_u32(rest)?;
            system.memory.write(lock, &UNLOCKED.to_le_bytes())?;
            Ok(0)
        }
        // F_SETLK, F_SETLKW.
        6 | 7 | 13 | 14 => Ok(0),
        GET_OWNER => Err(Errno::Inval),
        _ => Err(Errno::Inval),
    }
}

/// `ioctl`.
pub(super) fn device_control(
    system: &mut System<'_, '_>,
    fd: u32,
    operation: u32,
    rest: u32,
) -> Result<u32> {
    const GET_SETTINGS: u32 = 0x5401;
    const GET_GROUP: u32 = 0x540f;
    const SET_GROUP: u32 = 0x5410;
    const GET_SIZE: u32 = 0x5413;
    const SET_SIZE: u32 = 0x5414;
    const BYTES_TO_READ: u32 = 0x541b;
    const NON_BLOCKING: u32 = 0x5421;
    let terminal = is_terminal(system, fd)?;
    let only_terminals = if terminal { Ok(()) } else { Err(Errno::Notty) };
    let argument = |system: &System<'_, '_>| system.memory.read_u32(rest);
    match operation {
        GET_SETTINGS => {
            only_terminals?;
            // Modes of an ordinary terminal; what follows them stays as it is.
            let modes: [u32; 4] = [0x6d02, 0x5, 0x4bf, 0x8a3b];
            let settings = argument(system)?;
            system
                .memory
                .write(settings, modes.map(u32::to_le_bytes).as_flattened())?;
            Ok(0)
        }
        // The other ways to get and set them.
        0x5402..=0x5408 | SET_SIZE => only_terminals.map(|()| 0),
        GET_GROUP => {
            only_terminals?;
            let out = argument(system)?;
            system.memory.write_u32(out, 0)?;
            Ok(0)
        }
        SET_GROUP => only_terminals.and(Err(Errno::Inval)),
        GET_SIZE => {
            only_terminals?;
            let out = argument(system)?;
            let (rows, columns) = (24_u32, 80_u32);
            system.memory.write_u32(out, columns << 16 | rows)?;
            Ok(0)
        }
        BYTES_TO_READ => {
            let out = argument(system)?;
            let bytes = match system.kernel.poll_read(fd, 0)? {
                Readiness::Ready(bytes) => bytes,
                Readiness::HangUp | Readiness::Pending => 0,
            };
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX >> 1);
            system.memory.write_u32(out, bytes)?;
            Ok(0)
        }
        NON_BLOCKING => {
            let on = argument(system)?;
            let on = system.memory.read_u32(on)? != 0;
            let file = system.kernel.descriptors.get_mut(fd)?;
            file.flags.set(FdFlags::NONBLOCK, on);
            Ok(0)
        }
        _ if terminal => Err(Errno::Inval),
        _ => Err(Errno::Notty),
    }
}

/// Whether a descriptor counts as a terminal (see above).
pub(super) fn is_terminal(system: &System<'_, '_>, fd: u32) -> Result<bool> {
    // The first three open files of a process are its standard streams.
    const OUTPUT: u64 = 2;
    const ERRORS: u64 = 3;
    let file = system.kernel.descriptors.get(fd)?;
    Ok(match &file.object {
        Object::Stream(Stream::Null | Stream::Zero | Stream::Random) => {
            matches!(file.serial, OUTPUT | ERRORS)
        }
        Object::Stream(_) => {
            matches!(file.serial, OUTPUT | ERRORS) || file.file_type == FileType::CharacterDevice
        }
        _ => false,
    })
}

pub(super) fn truncate(system: &mut System<'_, '_>, fd: u32, size: i64) -> Result<i32> {
    let size = u64::try_from(size).map_err(|_| Errno::Inval)?;
    system.kernel.set_size(fd, size)?;
    Ok(0)
}

pub(super) fn allocate(
    system: &mut System<'_, '_>,
    fd: u32,
    mode: u32,
    offset: i64,
    length: i64,
) -> Result<i32> {
    if mode != 0 {
        return Err(Errno::Notsup);
    }
    let offset = u64::try_from(offset).map_err(|_| Errno::Inval)?;
    let length = u64::try_from(length).map_err(|_| Errno::Inval)?;
    system.kernel.allocate(fd, offset, length)?;
    Ok(0)
}

/// Advice is heard and not followed.
pub(super) fn advise(
    system: &mut System<'_, '_>,
    fd: u32,
    _offset: i64,
    _length: i64,
    _advice: u32,
) -> Result<i32> {
    system.kernel.descriptors.get(fd)?;
    Ok(0)
}

pub(super) fn sync_data(system: &mut System<'_, '_>, fd: u32) -> Result<i32> {
    system.kernel.sync(fd, true)?;
    Ok(0)
}

/// `getdents64`: entries of one size, so that a directory's position tells which one is next.
pub(super) fn list(system: &mut System<'_, '_>, fd: u32, entries: u32, size: u32) -> Result<u32> {
    system.memory.check(entries, size)?;
    let position = system.kernel.descriptors.get(fd)?.position;
    let first = position / u64::from(DIRENT_SIZE);
    let listing = system.kernel.listing(fd, first == 0)?;
    let mut written: u32 = 0;
    let mut next = first;
    for entry in listing
        .iter()
        .skip(usize::try_from(first).unwrap_or(usize::MAX))
    {
        if size - written < DIRENT_SIZE {
            break;
        }
        next += 1;
        let mut record = [0u8; DIRENT_SIZE as usize];
        let kind: u8 = match entry.file_type {
            FileType::Unknown => 0,
            FileType::BlockDevice => 6,
            FileType::CharacterDevice => 2,
            FileType::Directory => 4,
            FileType::RegularFile => 8,
            FileType::SocketDatagram | FileType::SocketStream => 12,
            FileType::SymbolicLink => 10,
        };
        let offset = next * u64::from(DIRENT_SIZE);
        let name = entry.name.as_bytes();
        let name = name.get(..name.len().min(255)).unwrap_or(name);
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = record.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(0, &entry.inode.to_le_bytes());
        put(8, &offset.to_le_bytes());
        put(16, &(DIRENT_SIZE as u16).to_le_bytes());
        put(18, &[kind]);
        put(19, name);
        let at = entries.checked_add(written).ok_or(Errno::Fault)?;
        system.memory.write(at, &record)?;
        written += DIRENT_SIZE;
    }
    if written == 0 && size < DIRENT_SIZE {
        return Err(Errno::Inval);
    }
    system.kernel.descriptors.get_mut(fd)?.position = next * u64::from(DIRENT_SIZE);
    Ok(written)
}

/// `fd_seek` of WASI, and `seekdir`.
pub(super) fn seek(
    system: &mut System<'_, '_>,
    fd: u32,
    offset: i64,
    whence: u32,
    position_at: u32,
) -> Result<u32> {
    system.memory.check(position_at, 8)?;
    let whence = match whence {
        0 => Whence::Start,
        1 => Whence::Current,
        2 => Whence::End,
        _ => return Err(Errno::Inval),
    };
    let file = system.kernel.descriptors.get_mut(fd)?;
    let position = if matches!(file.object, Object::Directory(_)) {
        let base = match whence {
            Whence::Start => 0,
            Whence::Current => file.position,
            Whence::End => return Err(Errno::Inval),
        };
        file.position = base.checked_add_signed(offset).ok_or(Errno::Inval)?;
        file.position
    } else {
        system.kernel.seek(fd, offset, whence)?
    };
    system.memory.write_u64(position_at, position)?;
    Ok(0)
}
