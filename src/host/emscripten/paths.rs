//! System calls on paths: status, directories, links, names, permissions, times.

#![forbid(unsafe_code)]

use super::call::System;
use super::generation::Generation;
use crate::host::descriptor::Object;
use crate::host::errno::{Errno, Result};
use crate::host::fs::{FileType, Metadata, OpenOptions, Times};
use crate::host::guest::PATH_LIMIT;
use crate::host::paths::{At, OpenHow};
use std::collections::HashSet;

/// The working directory in place of a descriptor.
pub(super) const AT_FDCWD: i32 = -100;

const NO_FOLLOW: u32 = 0x100;
const REMOVE_DIRECTORY: u32 = 0x200;
const FOLLOW: u32 = 0x400;
const EMPTY_PATH: u32 = 0x1000;

impl System<'_, '_> {
    /// A path of the guest; a null pointer is an empty one.
    ///
    /// # Errors
    /// `Fault`, `Nametoolong`, `Ilseq`.
    pub fn path(&self, pointer: u32) -> Result<String> {
        match pointer {
            0 => Ok(String::new()),
            pointer => self.memory.c_string(pointer, PATH_LIMIT).map(str::to_owned),
        }
    }

    /// Remembers where an open directory is, for `fchdir`.
    pub fn remember_directory(&mut self, serial: u64, path: String) {
        let directories = &mut self.state.directories;
        // Those that were closed are forgotten each time their number has doubled.
        if directories.len().is_power_of_two() {
            let open: HashSet<u64> = self.kernel.descriptors.serials().collect();
            directories.retain(|serial, _| open.contains(serial));
        }
        directories.insert(serial, path);
    }

    /// Metadata and mode of what lies at a path.
    fn look(&self, at: At, path: &str, follow: bool) -> Result<(Metadata, u32)> {
        let metadata = self.kernel.metadata_at(at, path, follow)?;
        let read_only = self.kernel.is_read_only_at(at, path);
        let mode = self.mode(&metadata, read_only);
        Ok((metadata, mode))
    }
}

/// Where a path begins, and the path from there.
///
/// # Errors
/// `Noent` for an empty path, `Badf`.
pub(super) fn resolve(
    system: &System<'_, '_>,
    directory: i32,
    path: String,
) -> Result<(At, String)> {
    if path.is_empty() {
        return Err(Errno::Noent);
    }
    if directory == AT_FDCWD || path.starts_with('/') {
        return Ok((At::Root, path));
    }
    let fd = directory.cast_unsigned();
    let file = system.kernel.descriptors.get(fd)?;
    if !matches!(file.object, Object::Directory(_)) {
        return Err(Errno::Notdir);
    }
    // A walk from a descriptor cannot leave it; one from the directory's path can.
    match system.state.directories.get(&file.serial) {
        Some(whole) if path.split('/').any(|step| step == "..") => {
            Ok((At::Root, format!("{whole}/{path}")))
        }
        _ => Ok((At::Descriptor(fd), path)),
    }
}

/// The absolute path without links.
///
/// # Errors
/// As `resolve`; parts of it do not exist.
pub(super) fn real(system: &System<'_, '_>, directory: i32, path: &str) -> Result<String> {
    if directory == AT_FDCWD || path.starts_with('/') {
        return system.kernel.real_path(path);
    }
    let file = system.kernel.descriptors.get(directory.cast_unsigned())?;
    let base = system.state.directories.get(&file.serial);
    let base = base.ok_or(Errno::Noent)?;
    system.kernel.real_path(&format!("{base}/{path}"))
}

/// A path without doubled slashes, `.` and `..`, as far as text alone tells; never empty.
pub(super) fn normal(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut steps: Vec<&str> = Vec::new();
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => {
                if steps.last().is_some_and(|last| *last != "..") {
                    steps.pop();
                } else if !absolute {
                    steps.push("..");
                }
            }
            step => steps.push(step),
        }
    }
    let joined = steps.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_string(),
        (false, false) => joined,
    }
}

pub(super) fn status(system: &mut System<'_, '_>, path: u32, buffer: u32) -> Result<i32> {
    status_at(system, AT_FDCWD, path, buffer, 0)
}

pub(super) fn link_status(system: &mut System<'_, '_>, path: u32, buffer: u32) -> Result<i32> {
    status_at(system, AT_FDCWD, path, buffer, NO_FOLLOW)
}

pub(super) fn descriptor_status(system: &mut System<'_, '_>, fd: u32, buffer: u32) -> Result<i32> {
    let mut metadata = system.kernel.metadata(fd)?;
    if super::files::is_terminal(system, fd)? {
        metadata.file_type = FileType::CharacterDevice;
    }
    let read_only = system.kernel.descriptors.get(fd)?.read_only;
    let mode = system.mode(&metadata, read_only);
    system.write_status(buffer, &metadata, mode)
}

pub(super) fn status_at(
    system: &mut System<'_, '_>,
    directory: i32,
    path: u32,
    buffer: u32,
    flags: u32,
) -> Result<i32> {
    let path = system.path(path)?;
    if path.is_empty() && flags & EMPTY_PATH != 0 {
        if directory != AT_FDCWD {
            return descriptor_status(system, directory.cast_unsigned(), buffer);
        }
        let (metadata, mode) = system.look(At::Root, ".", true)?;
        return system.write_status(buffer, &metadata, mode);
    }
    if let Some(metadata) = device_status(system, directory, &path) {
        let mode = system.mode(&metadata, false);
        return system.write_status(buffer, &metadata, mode);
    }
    let (at, path) = resolve(system, directory, path)?;
    let (metadata, mode) = system.look(at, &path, flags & NO_FOLLOW == 0)?;
    system.write_status(buffer, &metadata, mode)
}

/// What `stat` says of the devices that no file system has.
fn device_status(system: &System<'_, '_>, directory: i32, path: &str) -> Option<Metadata> {
    super::files::device(system, directory, path).map(|_| Metadata {
        file_type: FileType::CharacterDevice,
        links: 1,
        ..Metadata::default()
    })
}

pub(super) fn make_directory(system: &mut System<'_, '_>, path: u32, mode: u32) -> Result<i32> {
    make_directory_at(system, AT_FDCWD, path, mode)
}

pub(super) fn make_directory_at(
    system: &mut System<'_, '_>,
    directory: i32,
    path: u32,
    mode: u32,
) -> Result<i32> {
    let path = system.path(path)?;
    let (at, path) = resolve(system, directory, path)?;
    system.kernel.create_directory(at, &path)?;
    if let Ok(metadata) = system.kernel.metadata_at(at, &path, false) {
        let mode = mode & !system.kernel.umask;
        system.set_mode(&metadata, mode);
    }
    Ok(0)
}

pub(super) fn make_node(
    system: &mut System<'_, '_>,
    path: u32,
    mode: u32,
    device: u32,
) -> Result<i32> {
    make_node_at(system, AT_FDCWD, path, mode, device)
}

/// `mknod`: regular files only; no mount has devices or pipes with names.
pub(super) fn make_node_at(
    system: &mut System<'_, '_>,
    directory: i32,
    path: u32,
    mode: u32,
    _device: u32,
) -> Result<i32> {
    match mode & 0o170_000 {
        0 | 0o100_000 => {}
        0o010_000 | 0o020_000 | 0o060_000 | 0o140_000 => return Err(Errno::Perm),
        _ => return Err(Errno::Inval),
    }
    let path = system.path(path)?;
    let (at, path) = resolve(system, directory, path)?;
    let how = OpenHow::new(OpenOptions {
        write: true,
        create: true,
        exclusive: true,
        ..OpenOptions::default()
    });
    let fd = system.kernel.open(at, &path, false, how)?;
    let metadata = system.kernel.metadata(fd)?;
    let mode = mode & 0o777 & !system.kernel.umask;
    system.set_mode(&metadata, mode);
    system.kernel.close(fd)?;
    Ok(0)
}

pub(super) fn remove_directory(system: &mut System<'_, '_>, path: u32) -> Result<i32> {
    unlink_at(system, AT_FDCWD, path, REMOVE_DIRECTORY)
}

pub(super) fn unlink(system: &mut System<'_, '_>, path: u32) -> Result<i32> {
    unlink_at(system, AT_FDCWD, path, 0)
}

pub(super) fn unlink_at(
    system: &mut System<'_, '_>,
    directory: i32,
    path: u32,
    flags: u32,
) -> Result<i32> {
    if flags & !REMOVE_DIRECTORY != 0 {
        return Err(Errno::Inval);
    }
    let path = system.path(path)?;
    let (at, path) = resolve(system, directory, path)?;
    let metadata = system.kernel.metadata_at(at, &path, false);
    if flags & REMOVE_DIRECTORY != 0 {
        system.kernel.remove_directory(at, &path)?;
    } else {
        system.kernel.unlink(at, &path)?;
    }
    if let Ok(metadata) = metadata {
        system.forget_mode(&metadata);
    }
    Ok(0)
}

pub(super) fn rename(system: &mut System<'_, '_>, from: u32, to: u32) -> Result<i32> {
    rename_at(system, AT_FDCWD, from, AT_FDCWD, to)
}

pub(super) fn rename_at(
    system: &mut System<'_, '_>,
    from_directory: i32,
    from: u32,
    to_directory: i32,
    to: u32,
) -> Result<i32> {
    let (from, to) = (system.path(from)?, system.path(to)?);
    let (at, from) = resolve(system, from_directory, from)?;
    let (to_at, to) = resolve(system, to_directory, to)?;
    let replaced = system.kernel.metadata_at(to_at, &to, false);
    let moved = system.kernel.metadata_at(at, &from, false);
    system.kernel.rename(at, &from, to_at, &to)?;
    if let (Ok(replaced), Ok(moved)) = (replaced, moved)
        && (replaced.device, replaced.inode) != (moved.device, moved.inode)
    {
        system.forget_mode(&replaced);
    }
    Ok(0)
}

pub(super) fn link_at(
    system: &mut System<'_, '_>,
    from_directory: i32,
    from: u32,
    to_directory: i32,
    to: u32,
    flags: u32,
) -> Result<i32> {
    let (from, to) = (system.path(from)?, system.path(to)?);
    let (at, from) = resolve(system, from_directory, from)?;
    let (to_at, to) = resolve(system, to_directory, to)?;
    system
        .kernel
        .hard_link(at, &from, flags & FOLLOW != 0, to_at, &to)?;
    Ok(0)
}

pub(super) fn make_link(system: &mut System<'_, '_>, target: u32, path: u32) -> Result<i32> {
    make_link_at(system, target, AT_FDCWD, path)
}

pub(super) fn make_link_at(
    system: &mut System<'_, '_>,
    target: u32,
    directory: i32,
    path: u32,
) -> Result<i32> {
    let (target, path) = (system.path(target)?, system.path(path)?);
    let (at, path) = resolve(system, directory, path)?;
    system.kernel.create_link(&target, at, &path)?;
    Ok(0)
}

pub(super) fn read_link(
    system: &mut System<'_, '_>,
    path: u32,
    buffer: u32,
    size: i32,
) -> Result<u32> {
    read_link_at(system, AT_FDCWD, path, buffer, size)
}

pub(super) fn read_link_at(
    system: &mut System<'_, '_>,
    directory: i32,
    path: u32,
    buffer: u32,
    size: i32,
) -> Result<u32> {
    let size = usize::try_from(size).map_err(|_| Errno::Inval)?;
    if size == 0 {
        return Err(Errno::Inval);
    }
    let path = system.path(path)?;
    let (at, path) = resolve(system, directory, path)?;
    let target = system.kernel.read_link(at, &path)?;
    let bytes = target.as_bytes();
    let bytes = bytes.get(..bytes.len().min(size)).unwrap_or(bytes);
    system.memory.write(buffer, bytes)?;
    u32::try_from(bytes.len()).map_err(|_| Errno::Overflow)
}

pub(super) fn working_directory(
    system: &mut System<'_, '_>,
    buffer: u32,
    size: u32,
) -> Result<u32> {
    if size == 0 {
        return Err(Errno::Inval);
    }
    let mut bytes = system.kernel.working_directory().as_bytes().to_vec();
    bytes.push(0);
    let length = u32::try_from(bytes.len()).map_err(|_| Errno::Range)?;
    if length > size {
        return Err(Errno::Range);
    }
    system.memory.write(buffer, &bytes)?;
    Ok(length)
}

pub(super) fn change_directory(system: &mut System<'_, '_>, path: u32) -> Result<i32> {
    let path = system.path(path)?;
    system.kernel.set_working_directory(&path)?;
    Ok(0)
}

pub(super) fn change_to_descriptor(system: &mut System<'_, '_>, fd: u32) -> Result<i32> {
    let file = system.kernel.descriptors.get(fd)?;
    if !matches!(file.object, Object::Directory(_)) {
        return Err(Errno::Notdir);
    }
    let path = system.state.directories.get(&file.serial);
    let path = path.cloned().ok_or(Errno::Noent)?;
    system.kernel.set_working_directory(&path)?;
    Ok(0)
}

pub(super) fn access_at(
    system: &mut System<'_, '_>,
    directory: i32,
    path: u32,
    wanted: u32,
    flags: u32,
) -> Result<i32> {
    const EXECUTE: u32 = 1;
    const WRITE: u32 = 2;
    const READ: u32 = 4;
    if wanted & !(EXECUTE | WRITE | READ) != 0 {
        return Err(Errno::Inval);
    }
    let path = system.path(path)?;
    if device_status(system, directory, &path).is_some() {
        return if wanted & EXECUTE == 0 {
            Ok(0)
        } else {
            Err(Errno::Acces)
        };
    }
    let (at, path) = resolve(system, directory, path)?;
    let (_, mode) = system.look(at, &path, flags & NO_FOLLOW == 0)?;
    if wanted & WRITE != 0 && system.kernel.is_read_only_at(at, &path) {
        return Err(Errno::Rofs);
    }
    // As the owner.
    if wanted & !(mode >> 6) & 7 != 0 {
        return Err(Errno::Acces);
    }
    Ok(0)
}

pub(super) fn truncate(system: &mut System<'_, '_>, path: u32, size: i64) -> Result<i32> {
    let path = system.path(path)?;
    let (at, path) = resolve(system, AT_FDCWD, path)?;
    let how = OpenHow::new(OpenOptions {
        write: true,
        ..OpenOptions::default()
    });
    let fd = system.kernel.open(at, &path, true, how)?;
    let result = super::files::truncate(system, fd, size);
    system.kernel.close(fd)?;
    result
}

pub(super) fn change_mode(system: &mut System<'_, '_>, path: u32, mode: u32) -> Result<i32> {
    change_mode_at(system, AT_FDCWD, path, mode, 0)
}

pub(super) fn change_mode_of_descriptor(
    system: &mut System<'_, '_>,
    fd: u32,
    mode: u32,
) -> Result<i32> {
    let metadata = system.kernel.metadata(fd)?;
    if system.kernel.descriptors.get(fd)?.read_only {
        return Err(Errno::Rofs);
    }
    system.set_mode(&metadata, mode);
    Ok(0)
}

/// `fchmodat`; what comes last are flags, or where the variable arguments lie, which have no effect here.
pub(super) fn change_mode_at(
    system: &mut System<'_, '_>,
    directory: i32,
    path: u32,
    mode: u32,
    _flags: u32,
) -> Result<i32> {
    let path = system.path(path)?;
    let (at, path) = resolve(system, directory, path)?;
    let metadata = system.kernel.metadata_at(at, &path, true)?;
    if system.kernel.is_read_only_at(at, &path) {
        return Err(Errno::Rofs);
    }
    system.set_mode(&metadata, mode);
    Ok(0)
}

/// Files have no owners: changing them succeeds if there is a file.
pub(super) fn change_owner(
    system: &mut System<'_, '_>,
    path: u32,
    owner: u32,
    group: u32,
) -> Result<i32> {
    change_owner_at(system, AT_FDCWD, path, owner, group, 0)
}

pub(super) fn change_owner_of_link(
    system: &mut System<'_, '_>,
    path: u32,
    owner: u32,
    group: u32,
) -> Result<i32> {
    change_owner_at(system, AT_FDCWD, path, owner, group, NO_FOLLOW)
}

pub(super) fn change_owner_of_descriptor(
    system: &mut System<'_, '_>,
    fd: u32,
    _owner: u32,
    _group: u32,
) -> Result<i32> {
    system.kernel.metadata(fd)?;
    Ok(0)
}

pub(super) fn change_owner_at(
    system: &mut System<'_, '_>,
    directory: i32,
    path: u32,
    owner: u32,
    group: u32,
    flags: u32,
) -> Result<i32> {
    let path = system.path(path)?;
    if path.is_empty() && flags & EMPTY_PATH != 0 {
        return change_owner_of_descriptor(system, directory.cast_unsigned(), owner, group);
    }
    let (at, path) = resolve(system, directory, path)?;
    system
        .kernel
        .metadata_at(at, &path, flags & NO_FOLLOW == 0)?;
    Ok(0)
}

pub(super) fn set_times(
    system: &mut System<'_, '_>,
    directory: i32,
    path: u32,
    times: u32,
    flags: u32,
) -> Result<i32> {
    let path = system.path(path)?;
    let now = system.kernel.clock.realtime();
    let times = match times {
        0 => Times {
            accessed: Some(now),
            modified: Some(now),
        },
        times => {
            let size = system.state.marks.generation().timespec_size();
            let second = times.checked_add(size).ok_or(Errno::Fault)?;
            Times {
                accessed: read_time(system, times, now)?,
                modified: read_time(system, second, now)?,
            }
        }
    };
    if path.is_empty() && directory != AT_FDCWD {
        system.kernel.set_times(directory.cast_unsigned(), times)?;
        return Ok(0);
    }
    let (at, path) = resolve(system, directory, path)?;
    system
        .kernel
        .set_times_at(at, &path, flags & NO_FOLLOW == 0, times)?;
    Ok(0)
}

/// A `struct timespec` for `utimensat`, in nanoseconds; `None` to leave a time as it is.
fn read_time(system: &System<'_, '_>, at: u32, now: u64) -> Result<Option<u64>> {
    const NOW: u32 = 0x3fff_ffff;
    const OMIT: u32 = 0x3fff_fffe;
    let (seconds, nanoseconds) = match system.state.marks.generation() {
        Generation::Time32 => {
            let seconds = system.memory.read_u32(at)?.cast_signed();
            let after = at.checked_add(4).ok_or(Errno::Fault)?;
            (i64::from(seconds), system.memory.read_u32(after)?)
        }
        Generation::Padded | Generation::Current => {
            let seconds = system.memory.read_u64(at)?.cast_signed();
            let after = at.checked_add(8).ok_or(Errno::Fault)?;
            (seconds, system.memory.read_u32(after)?)
        }
    };
    match nanoseconds {
        NOW => Ok(Some(now)),
        OMIT => Ok(None),
        0..1_000_000_000 => {
            // Times before 1970 become 1970: file systems here begin there.
            let seconds = u64::try_from(seconds).unwrap_or(0);
            let time = seconds.checked_mul(1_000_000_000).ok_or(Errno::Inval)?;
            Ok(Some(time.saturating_add(u64::from(nanoseconds))))
        }
        _ => Err(Errno::Inval),
    }
}

pub(super) fn file_system(
    system: &mut System<'_, '_>,
    path: u32,
    size: u32,
    buffer: u32,
) -> Result<i32> {
    let path = system.path(path)?;
    let (at, path) = resolve(system, AT_FDCWD, path)?;
    system.kernel.metadata_at(at, &path, true)?;
    write_file_system(system, size, buffer)
}

pub(super) fn file_system_of_descriptor(
    system: &mut System<'_, '_>,
    fd: u32,
    size: u32,
    buffer: u32,
) -> Result<i32> {
    system.kernel.descriptors.get(fd)?;
    write_file_system(system, size, buffer)
}

/// A file system of sane size: mounts do not tell theirs, and emscripten's JavaScript says the same numbers.
fn write_file_system(system: &mut System<'_, '_>, size: u32, buffer: u32) -> Result<i32> {
    const SIZE: u32 = 64;
    if size < SIZE {
        return Err(Errno::Inval);
    }
    // Type, block size, blocks, free blocks (for root and for others), files, free ones, two words of an identifier,
    // longest name, fragment size, flags (no set-user-id).
    let words: [u32; 16] = [
        0, 4096, 1_000_000, 500_000, 500_000, 1_000_000, 1_000_000, 42, 0, 255, 4096, 2, 0, 0, 0, 0,
    ];
    system
        .memory
        .write(buffer, words.map(u32::to_le_bytes).as_flattened())?;
    Ok(0)
}

pub(super) fn umask(system: &mut System<'_, '_>, mask: u32) -> u32 {
    system.kernel.set_umask(mask)
}
