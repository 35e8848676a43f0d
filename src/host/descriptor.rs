//! The descriptor table: small numbers that lead to open files.
//!
//! Several descriptors can lead to one open file and then share its position and flags, as after `dup`. A new descriptor
//! gets the lowest free number.

#![forbid(unsafe_code)]

use super::errno::{Errno, Result};
use super::fs::namespace::Place;
use super::fs::{File, FileType};
use super::stream::Stream;
use bitflags::bitflags;
use std::sync::Arc;

bitflags! {
    /// Flags of an open file, with the values of preview 1.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct FdFlags: u16 {
        /// Writes go to the end.
        const APPEND = 1 << 0;
        /// Data reach the device before a write returns.
        const DSYNC = 1 << 1;
        /// Do not wait.
        const NONBLOCK = 1 << 2;
        /// Reads see what reached the device.
        const RSYNC = 1 << 3;
        /// Data and metadata reach the device before a write returns.
        const SYNC = 1 << 4;
    }
}

bitflags! {
    /// Rights of a descriptor, with the values of preview 1. Their names are those of the functions that need them.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Rights: u64 {
        const FD_DATASYNC = 1 << 0;
        const FD_READ = 1 << 1;
        const FD_SEEK = 1 << 2;
        const FD_FDSTAT_SET_FLAGS = 1 << 3;
        const FD_SYNC = 1 << 4;
        const FD_TELL = 1 << 5;
        const FD_WRITE = 1 << 6;
        const FD_ADVISE = 1 << 7;
        const FD_ALLOCATE = 1 << 8;
        const PATH_CREATE_DIRECTORY = 1 << 9;
        const PATH_CREATE_FILE = 1 << 10;
        const PATH_LINK_SOURCE = 1 << 11;
        const PATH_LINK_TARGET = 1 << 12;
        const PATH_OPEN = 1 << 13;
        const FD_READDIR = 1 << 14;
        const PATH_READLINK = 1 << 15;
        const PATH_RENAME_SOURCE = 1 << 16;
        const PATH_RENAME_TARGET = 1 << 17;
        const PATH_FILESTAT_GET = 1 << 18;
        const PATH_FILESTAT_SET_SIZE = 1 << 19;
        const PATH_FILESTAT_SET_TIMES = 1 << 20;
        const FD_FILESTAT_GET = 1 << 21;
        const FD_FILESTAT_SET_SIZE = 1 << 22;
        const FD_FILESTAT_SET_TIMES = 1 << 23;
        const PATH_SYMLINK = 1 << 24;
        const PATH_REMOVE_DIRECTORY = 1 << 25;
        const PATH_UNLINK_FILE = 1 << 26;
        const POLL_FD_READWRITE = 1 << 27;
        const SOCK_SHUTDOWN = 1 << 28;
        const SOCK_ACCEPT = 1 << 29;
    }
}

impl Rights {
    /// All that a regular file can have.
    pub const FILE: Rights = Rights::FD_DATASYNC
        .union(Rights::FD_READ)
        .union(Rights::FD_SEEK)
        .union(Rights::FD_FDSTAT_SET_FLAGS)
        .union(Rights::FD_SYNC)
        .union(Rights::FD_TELL)
        .union(Rights::FD_WRITE)
        .union(Rights::FD_ADVISE)
        .union(Rights::FD_ALLOCATE)
        .union(Rights::FD_FILESTAT_GET)
        .union(Rights::FD_FILESTAT_SET_SIZE)
        .union(Rights::FD_FILESTAT_SET_TIMES)
        .union(Rights::POLL_FD_READWRITE);

    /// What a file open for reading only does not have.
    pub const WRITING: Rights = Rights::FD_WRITE
        .union(Rights::FD_ALLOCATE)
        .union(Rights::FD_FILESTAT_SET_SIZE);

    /// All that a directory can have.
    pub const DIRECTORY: Rights = Rights::FD_FDSTAT_SET_FLAGS
        .union(Rights::FD_SYNC)
        .union(Rights::FD_DATASYNC)
        .union(Rights::PATH_CREATE_DIRECTORY)
        .union(Rights::PATH_CREATE_FILE)
        .union(Rights::PATH_LINK_SOURCE)
        .union(Rights::PATH_LINK_TARGET)
        .union(Rights::PATH_OPEN)
        .union(Rights::FD_READDIR)
        .union(Rights::PATH_READLINK)
        .union(Rights::PATH_RENAME_SOURCE)
        .union(Rights::PATH_RENAME_TARGET)
        .union(Rights::PATH_FILESTAT_GET)
        .union(Rights::PATH_FILESTAT_SET_SIZE)
        .union(Rights::PATH_FILESTAT_SET_TIMES)
        .union(Rights::FD_FILESTAT_GET)
        .union(Rights::FD_FILESTAT_SET_TIMES)
        .union(Rights::PATH_SYMLINK)
        .union(Rights::PATH_REMOVE_DIRECTORY)
        .union(Rights::PATH_UNLINK_FILE);

    /// All that a stream can have. No seeking: C libraries take a character device that cannot seek for a terminal.
    pub const STREAM: Rights = Rights::FD_READ
        .union(Rights::FD_FDSTAT_SET_FLAGS)
        .union(Rights::FD_WRITE)
        .union(Rights::FD_FILESTAT_GET)
        .union(Rights::POLL_FD_READWRITE);
}

/// What an open file is.
pub(crate) enum Object {
    /// A directory.
    Directory(Place),
    /// A file with a position.
    File(Arc<dyn File>),
    /// A stream.
    Stream(Stream),
}

/// An open file.
pub(crate) struct OpenFile {
    pub object: Object,
    pub file_type: FileType,
    pub position: u64,
    pub flags: FdFlags,
    /// What the descriptor may be used for.
    pub rights: Rights,
    /// What descriptors opened from it may be used for.
    pub inheriting: Rights,
    /// Opened for reading, for writing.
    pub readable: bool,
    pub writable: bool,
    /// It belongs to a mount that guests may not change.
    pub read_only: bool,
    /// Descriptors that lead here.
    references: usize,
    /// Different for every open file of a process; 0 until it has a descriptor.
    pub serial: u64,
}

impl OpenFile {
    pub fn new(object: Object, file_type: FileType) -> OpenFile {
        let (rights, inheriting, readable, writable) = match &object {
            Object::Directory(_) => (
                Rights::DIRECTORY,
                Rights::DIRECTORY.union(Rights::FILE),
                false,
                false,
            ),
            Object::File(_) => (Rights::FILE, Rights::empty(), true, true),
            Object::Stream(stream) => {
                let mut rights = Rights::STREAM;
                rights.set(Rights::FD_READ, stream.can_read());
                rights.set(Rights::FD_WRITE, stream.can_write());
                (
                    rights,
                    Rights::empty(),
                    stream.can_read(),
                    stream.can_write(),
                )
            }
        };
        OpenFile {
            object,
            file_type,
            position: 0,
            flags: FdFlags::empty(),
            rights,
            inheriting,
            readable,
            writable,
            read_only: false,
            references: 0,
            serial: 0,
        }
    }

    pub fn stream(stream: Stream) -> OpenFile {
        let file_type = stream.file_type();
        OpenFile::new(Object::Stream(stream), file_type)
    }
}

#[derive(Clone)]
struct Descriptor {
    file: usize,
    /// The name under which the directory was given to the guest at its start.
    preopen: Option<Arc<str>>,
}

/// The descriptor table of a process.
pub(crate) struct Descriptors {
    descriptors: Vec<Option<Descriptor>>,
    files: Vec<Option<OpenFile>>,
    free_files: Vec<usize>,
    /// No free number is lower.
    lowest_free: usize,
    limit: usize,
    last_serial: u64,
}

impl Descriptors {
    pub fn new(limit: usize) -> Descriptors {
        Descriptors {
            descriptors: Vec::new(),
            files: Vec::new(),
            free_files: Vec::new(),
            lowest_free: 0,
            limit,
            last_serial: 0,
        }
    }

    /// Gives an open file the lowest free number.
    ///
    /// # Errors
    /// `Mfile` if the table is full.
    pub fn open(&mut self, mut file: OpenFile) -> Result<u32> {
        let number = self.free_number(0)?;
        self.last_serial += 1;
        file.serial = self.last_serial;
        let slot = match self.free_files.pop() {
            Some(slot) => slot,
            None => {
                self.files.push(None);
                self.files.len() - 1
            }
        };
        if let Some(place) = self.files.get_mut(slot) {
            *place = Some(file);
        }
        let descriptor = Descriptor {
            file: slot,
            preopen: None,
        };
        self.set(number, descriptor)
    }

    /// Marks a descriptor as a directory given at the start.
    pub fn set_preopen(&mut self, fd: u32, name: &str) {
        if let Some(Some(descriptor)) = self.descriptors.get_mut(fd as usize) {
            descriptor.preopen = Some(name.into());
        }
    }

    /// The name under which a directory was given at the start.
    ///
    /// # Errors
    /// `Badf` if the descriptor is not one of those. wasi-libc asks for one descriptor after the other and ends the process
    /// at any other error.
    pub fn preopen(&self, fd: u32) -> Result<&str> {
        self.descriptor(fd)?.preopen.as_deref().ok_or(Errno::Badf)
    }

    fn free_number(&self, least: usize) -> Result<usize> {
        let mut number = least.max(self.lowest_free);
        while matches!(self.descriptors.get(number), Some(Some(_))) {
            number += 1;
        }
        if number >= self.limit {
            return Err(Errno::Mfile);
        }
        Ok(number)
    }

    /// Lets a free number lead to a file.
    fn set(&mut self, number: usize, descriptor: Descriptor) -> Result<u32> {
        let fd = u32::try_from(number).map_err(|_| Errno::Mfile)?;
        if let Some(Some(file)) = self.files.get_mut(descriptor.file) {
            file.references += 1;
        }
        if number >= self.descriptors.len() {
            self.descriptors.resize(number + 1, None);
        }
        if let Some(slot) = self.descriptors.get_mut(number) {
            *slot = Some(descriptor);
        }
        if number == self.lowest_free {
            self.lowest_free += 1;
        }
        Ok(fd)
    }

    fn descriptor(&self, fd: u32) -> Result<&Descriptor> {
        match self.descriptors.get(fd as usize) {
            Some(Some(descriptor)) => Ok(descriptor),
            _ => Err(Errno::Badf),
        }
    }

    pub fn get(&self, fd: u32) -> Result<&OpenFile> {
        match self.files.get(self.descriptor(fd)?.file) {
            Some(Some(file)) => Ok(file),
            _ => Err(Errno::Badf),
        }
    }

    pub fn get_mut(&mut self, fd: u32) -> Result<&mut OpenFile> {
        let file = self.descriptor(fd)?.file;
        match self.files.get_mut(file) {
            Some(Some(file)) => Ok(file),
            _ => Err(Errno::Badf),
        }
    }

    /// Closes a descriptor, and the file with its last one.
    ///
    /// # Errors
    /// `Badf`.
    pub fn close(&mut self, fd: u32) -> Result<()> {
        let descriptor = match self.descriptors.get_mut(fd as usize) {
            Some(slot) => slot.take().ok_or(Errno::Badf)?,
            None => return Err(Errno::Badf),
        };
        self.lowest_free = self.lowest_free.min(fd as usize);
        if let Some(slot) = self.files.get_mut(descriptor.file)
            && let Some(file) = slot
        {
            file.references -= 1;
            if file.references == 0 {
                *slot = None;
                self.free_files.push(descriptor.file);
            }
        }
        Ok(())
    }

    /// Another number, at least `least`, for the same open file.
    ///
    /// # Errors
    /// `Badf`; `Mfile` if the table is full.
    pub fn duplicate(&mut self, fd: u32, least: u32) -> Result<u32> {
        let file = self.descriptor(fd)?.file;
        let number = self.free_number(least as usize)?;
        let descriptor = Descriptor {
            file,
            preopen: None,
        };
        self.set(number, descriptor)
    }

    /// Lets `to` lead to the open file of `fd`, closing what it led to.
    ///
    /// # Errors
    /// `Badf` if `fd` is not open or `to` is beyond the limit.
    pub fn duplicate_to(&mut self, fd: u32, to: u32) -> Result<u32> {
        let file = self.descriptor(fd)?.file;
        if to as usize >= self.limit {
            return Err(Errno::Badf);
        }
        if fd == to {
            return Ok(to);
        }
        // The file keeps its other descriptor meanwhile, so it stays open.
        let _ = self.close(to);
        let descriptor = Descriptor {
            file,
            preopen: None,
        };
        self.set(to as usize, descriptor)
    }

    /// Moves a descriptor onto another open one, which is closed.
    ///
    /// # Errors
    /// `Badf` if either is not open.
    pub fn renumber(&mut self, from: u32, to: u32) -> Result<()> {
        let moved = self.descriptor(from)?.clone();
        self.descriptor(to)?;
        if from == to {
            return Ok(());
        }
        self.duplicate_to(from, to)?;
        if let Some(Some(descriptor)) = self.descriptors.get_mut(to as usize) {
            descriptor.preopen = moved.preopen;
        }
        self.close(from)
    }

    /// The serial numbers of all open files.
    pub fn serials(&self) -> impl Iterator<Item = u64> {
        self.files.iter().flatten().map(|file| file.serial)
    }

    /// Every open descriptor, in order.
    #[cfg(test)]
    pub fn open_numbers(&self) -> impl Iterator<Item = u32> {
        self.descriptors
            .iter()
            .zip(0..)
            .filter_map(|(slot, fd)| slot.as_ref().map(|_| fd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> OpenFile {
        OpenFile::stream(Stream::Null)
    }

    #[test]
    fn new_descriptors_get_the_lowest_free_number() {
        let mut table = Descriptors::new(8);
        for expected in 0..8 {
            assert_eq!(table.open(null()), Ok(expected));
        }
        assert_eq!(table.open(null()), Err(Errno::Mfile));
        table.close(5).unwrap();
        table.close(2).unwrap();
        assert_eq!(table.open(null()), Ok(2));
        assert_eq!(table.duplicate(0, 0), Ok(5));
        assert_eq!(table.duplicate(0, 0), Err(Errno::Mfile));
        assert_eq!(table.close(8), Err(Errno::Badf));
        assert_eq!(table.close(u32::MAX), Err(Errno::Badf));
    }

    #[test]
    fn duplicates_share_the_position_until_the_last_is_closed() {
        let mut table = Descriptors::new(8);
        table.open(null()).unwrap();
        table.duplicate(0, 3).unwrap();
        table.get_mut(0).unwrap().position = 7;
        table.close(0).unwrap();
        assert_eq!(table.get(3).unwrap().position, 7);
        table.close(3).unwrap();
        assert_eq!(table.get(3).err(), Some(Errno::Badf));
        assert!(table.files.iter().all(Option::is_none));
    }

    #[test]
    fn renumbering_needs_two_open_descriptors_and_moves_the_preopen() {
        let mut table = Descriptors::new(8);
        table.open(null()).unwrap();
        table.open(null()).unwrap();
        table.set_preopen(0, "/");
        assert_eq!(table.renumber(0, 5), Err(Errno::Badf));
        assert_eq!(table.renumber(5, 0), Err(Errno::Badf));
        assert_eq!(table.renumber(0, 0), Ok(()));
        assert_eq!(table.preopen(0), Ok("/"));
        assert_eq!(table.renumber(0, 1), Ok(()));
        assert_eq!(table.preopen(1), Ok("/"));
        assert_eq!(table.preopen(0), Err(Errno::Badf));
        assert_eq!(table.open(null()), Ok(0));
    }

    #[test]
    fn duplicating_to_a_number_leaves_gaps_that_are_filled_later() {
        let mut table = Descriptors::new(8);
        table.open(null()).unwrap();
        assert_eq!(table.duplicate_to(0, 4), Ok(4));
        assert_eq!(table.duplicate_to(0, 8), Err(Errno::Badf));
        assert_eq!(table.open(null()), Ok(1));
        assert_eq!(table.open_numbers().collect::<Vec<_>>(), [0, 1, 4]);
    }
}
