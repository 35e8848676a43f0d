//! Operations of the kernel on descriptors: read, write, seek, sizes, times, listings, readiness.

#![forbid(unsafe_code)]

use super::descriptor::{FdFlags, Object, OpenFile, Rights};
use super::errno::{Errno, Result};
use super::fs::{DirectoryEntry, FileType, Metadata, Times};
use super::kernel::Kernel;
use super::stream::{Pipe, Readiness, Stream};
use std::sync::Arc;

/// What a new position is relative to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whence {
    Start,
    Current,
    End,
}

/// Most entries of listings that are kept for directories being read (beside the latest one, which is kept at any size).
const LISTED_ENTRIES: usize = 1 << 17;

/// The largest position: C libraries keep it in a signed number.
const POSITION_LIMIT: u64 = i64::MAX as u64;

impl OpenFile {
    /// # Errors
    /// `Isdir`; `Badf` if it was not opened for reading; `Notcapable` if the right was given up.
    fn check_read(&self) -> Result<()> {
        match self.object {
            Object::Directory(_) => Err(Errno::Isdir),
            _ if !self.readable => Err(Errno::Badf),
            _ => self.check(Rights::FD_READ),
        }
    }

    /// # Errors
    /// `Isdir`; `Badf` if it was not opened for writing; `Rofs`; `Notcapable` if the right was given up.
    fn check_write(&self) -> Result<()> {
        match self.object {
            Object::Directory(_) => Err(Errno::Isdir),
            _ if !self.writable => Err(Errno::Badf),
            _ if self.read_only => Err(Errno::Rofs),
            _ => self.check(Rights::FD_WRITE),
        }
    }

    fn check(&self, right: Rights) -> Result<()> {
        if self.rights.contains(right) {
            Ok(())
        } else {
            Err(Errno::Notcapable)
        }
    }

    /// Whether what is written has to reach the device at once.
    fn sync_after_write(&self) -> Result<()> {
        if let Object::File(file) = &self.object
            && self.flags.intersects(FdFlags::SYNC | FdFlags::DSYNC)
        {
            file.sync(!self.flags.contains(FdFlags::SYNC))?;
        }
        Ok(())
    }
}

impl Kernel {
    /// Reads at the position and moves it.
    ///
    /// # Errors
    /// `Intr` if the guest has to stop while it waits for standard input; else as `read(2)`.
    pub(crate) fn read(&mut self, fd: u32, buffer: &mut [u8]) -> Result<usize> {
        self.descriptors.get(fd)?.check_read()?;
        if self.can_be_interrupted() && self.waits_for_host(fd) && !buffer.is_empty() {
            while self.poll_read(fd, self.wait_slice())? == Readiness::Pending {
                if self.is_interrupted() {
                    return Err(Errno::Intr);
                }
            }
        }
        let open = self.descriptors.get_mut(fd)?;
        match &open.object {
            Object::Stream(Stream::Random) => {
                self.random(buffer)?;
                Ok(buffer.len())
            }
            Object::Stream(stream) => stream.read(buffer),
            Object::File(file) => {
                let count = file.read_at(buffer, open.position)?;
                open.position = open.position.saturating_add(count as u64);
                Ok(count)
            }
            Object::Directory(_) => Err(Errno::Isdir),
        }
    }

    /// Writes at the position, or at the end of a file opened for appending, and moves the position behind it.
    ///
    /// # Errors
    /// `Intr` if the guest has to stop while it waits for a reader of the host; else as `write(2)`.
    pub(crate) fn write(&mut self, fd: u32, bytes: &[u8]) -> Result<usize> {
        self.descriptors.get(fd)?.check_write()?;
        if self.can_be_interrupted() {
            let open = self.descriptors.get(fd)?;
            if let Object::Stream(stream) = &open.object
                && let Some(piece) = stream.unblocked_piece()
            {
                return self.write_pieces(stream, bytes, piece);
            }
        }
        let open = self.descriptors.get_mut(fd)?;
        match &open.object {
            Object::Stream(stream) => stream.write(bytes),
            Object::File(file) => {
                if open.flags.contains(FdFlags::APPEND) {
                    open.position = file.metadata()?.size;
                }
                let room = POSITION_LIMIT.saturating_sub(open.position);
                if (bytes.len() as u64) > room {
                    return Err(Errno::Fbig);
                }
                let count = file.write_at(bytes, open.position)?;
                open.position = open.position.saturating_add(count as u64);
                open.sync_after_write()?;
                Ok(count)
            }
            Object::Directory(_) => Err(Errno::Isdir),
        }
    }

    /// Writes to a stream of the host that may be full, so that a guest that has to stop does not wait for a reader:
    /// each piece is written when there is room for it.
    fn write_pieces(&self, stream: &Stream, bytes: &[u8], piece: usize) -> Result<usize> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            while !stream.wait_for_room(self.wait_slice()) {
                if self.is_interrupted() {
                    return Err(Errno::Intr);
                }
            }
            match stream.write(rest.get(..piece).unwrap_or(rest)) {
                Ok(count) => written += count,
                // What went before has been written.
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Reads at a position, leaving that of the descriptor.
    pub(crate) fn read_at(&self, fd: u32, buffer: &mut [u8], position: u64) -> Result<usize> {
        let open = self.descriptors.get(fd)?;
        open.check_read()?;
        match &open.object {
            Object::File(_) if position > POSITION_LIMIT => Err(Errno::Inval),
            Object::File(file) => file.read_at(buffer, position),
            Object::Stream(_) => Err(Errno::Spipe),
            Object::Directory(_) => Err(Errno::Isdir),
        }
    }

    /// Writes at a position, leaving that of the descriptor.
    pub(crate) fn write_at(&self, fd: u32, bytes: &[u8], position: u64) -> Result<usize> {
        let open = self.descriptors.get(fd)?;
        open.check_write()?;
        match &open.object {
            Object::File(_) if position > POSITION_LIMIT => Err(Errno::Inval),
            Object::File(_) if bytes.len() as u64 > POSITION_LIMIT - position => Err(Errno::Fbig),
            Object::File(file) => {
                let count = file.write_at(bytes, position)?;
                open.sync_after_write()?;
                Ok(count)
            }
            Object::Stream(_) => Err(Errno::Spipe),
            Object::Directory(_) => Err(Errno::Isdir),
        }
    }

    /// Moves the position; gives the new one.
    pub(crate) fn seek(&mut self, fd: u32, offset: i64, whence: Whence) -> Result<u64> {
        let open = self.descriptors.get_mut(fd)?;
        let Object::File(file) = &open.object else {
            return Err(match open.object {
                Object::Stream(_) => Errno::Spipe,
                _ => Errno::Badf,
            });
        };
        if matches!(
            open.file_type,
            FileType::Unknown | FileType::CharacterDevice
        ) {
            return Err(Errno::Spipe);
        }
        let base = match whence {
            Whence::Start => 0,
            Whence::Current => open.position,
            Whence::End => file.metadata()?.size,
        };
        let position = base.checked_add_signed(offset).ok_or(Errno::Inval)?;
        if position > POSITION_LIMIT {
            return Err(Errno::Inval);
        }
        open.position = position;
        Ok(position)
    }

    /// What is known about an open file.
    pub(crate) fn metadata(&self, fd: u32) -> Result<Metadata> {
        let open = self.descriptors.get(fd)?;
        match &open.object {
            Object::Directory(place) => place.directory.metadata(),
            Object::File(file) => file.metadata(),
            Object::Stream(_) => Ok(Metadata {
                file_type: open.file_type,
                links: 1,
                ..Metadata::default()
            }),
        }
    }

    /// Sets the size of a file.
    pub(crate) fn set_size(&mut self, fd: u32, size: u64) -> Result<()> {
        let open = self.descriptors.get(fd)?;
        match &open.object {
            Object::File(_) if !open.writable => Err(Errno::Inval),
            Object::File(_) if open.read_only => Err(Errno::Rofs),
            Object::File(_) if size > POSITION_LIMIT => Err(Errno::Inval),
            Object::File(file) => {
                open.check(Rights::FD_FILESTAT_SET_SIZE)?;
                file.set_size(size)
            }
            _ => Err(Errno::Inval),
        }
    }

    /// Makes sure that a range of a file exists.
    pub(crate) fn allocate(&mut self, fd: u32, offset: u64, length: u64) -> Result<()> {
        let open = self.descriptors.get(fd)?;
        let Object::File(file) = &open.object else {
            return Err(match open.object {
                Object::Stream(_) => Errno::Spipe,
                _ => Errno::Badf,
            });
        };
        if !open.writable {
            return Err(Errno::Badf);
        }
        if open.read_only {
            return Err(Errno::Rofs);
        }
        open.check(Rights::FD_ALLOCATE)?;
        if length == 0 {
            return Err(Errno::Inval);
        }
        let end = offset.checked_add(length).ok_or(Errno::Fbig)?;
        if end > POSITION_LIMIT {
            return Err(Errno::Fbig);
        }
        if end > file.metadata()?.size {
            file.set_size(end)?;
        }
        Ok(())
    }

    /// Sets the times of an open file.
    pub(crate) fn set_times(&mut self, fd: u32, times: Times) -> Result<()> {
        let open = self.descriptors.get(fd)?;
        match &open.object {
            Object::Stream(_) => Err(Errno::Badf),
            _ if open.read_only => Err(Errno::Rofs),
            Object::Directory(place) => place.directory.set_times(times),
            Object::File(file) => file.set_times(times),
        }
    }

    /// Writes what is cached to the device.
    pub(crate) fn sync(&self, fd: u32, data_only: bool) -> Result<()> {
        match &self.descriptors.get(fd)?.object {
            Object::Directory(place) => place.directory.sync(),
            Object::File(file) => file.sync(data_only),
            Object::Stream(_) => Err(Errno::Inval),
        }
    }

    /// Closes a descriptor.
    pub(crate) fn close(&mut self, fd: u32) -> Result<()> {
        self.descriptors.close(fd)
    }

    /// Another descriptor for the same open file: position and flags are shared.
    pub(crate) fn dup(&mut self, fd: u32) -> Result<u32> {
        self.descriptors.duplicate(fd, 0)
    }

    /// Lets `to` be a descriptor of the same open file, closing what it was.
    pub(crate) fn dup2(&mut self, fd: u32, to: u32) -> Result<u32> {
        self.descriptors.duplicate_to(fd, to)
    }

    /// A pipe: a descriptor to read, and one to write.
    pub(crate) fn pipe(&mut self) -> Result<(u32, u32)> {
        let (reader, writer) = Pipe::between_descriptors();
        let reader = self.descriptors.open(OpenFile::stream(reader))?;
        match self.descriptors.open(OpenFile::stream(writer)) {
            Ok(writer) => Ok((reader, writer)),
            Err(error) => {
                self.descriptors.close(reader)?;
                Err(error)
            }
        }
    }

    /// The listing of a directory with `.` and `..`. It is read anew when `from_start`; until then it stays as it is, so that
    /// an index into it is a stable cookie. Only if a guest reads many large directories at the same time, old ones are forgotten
    /// and read again.
    pub(crate) fn listing(&mut self, fd: u32, from_start: bool) -> Result<Arc<[DirectoryEntry]>> {
        let open = self.descriptors.get(fd)?;
        let Object::Directory(place) = &open.object else {
            return Err(Errno::Notdir);
        };
        open.check(Rights::FD_READDIR)?;
        let serial = open.serial;
        let known = self.listings.iter().position(|(owner, _)| *owner == serial);
        if let Some((_, listing)) = known.and_then(|index| self.listings.get(index))
            && !from_start
        {
            return Ok(listing.clone());
        }
        let inode = place.directory.metadata()?.inode;
        let own = [".", ".."].map(|name| DirectoryEntry {
            name: name.to_owned(),
            inode,
            file_type: FileType::Directory,
        });
        let entries = self.namespace.entries(place)?;
        let fresh: Arc<[DirectoryEntry]> = own.into_iter().chain(entries).collect();
        known.and_then(|index| self.listings.remove(index));
        let mut total = fresh.len();
        self.listings.push_front((serial, fresh.clone()));
        // The newest listings stay, as many as fit.
        let fitting = self.listings.iter().skip(1).take_while(|(_, listing)| {
            total += listing.len();
            total <= LISTED_ENTRIES
        });
        let kept = 1 + fitting.count();
        self.listings.truncate(kept);
        Ok(fresh)
    }

    /// Whether a descriptor can be read without waiting; waits up to this many nanoseconds where the host can tell.
    pub(crate) fn poll_read(&self, fd: u32, nanoseconds: u64) -> Result<Readiness> {
        let open = self.descriptors.get(fd)?;
        match &open.object {
            Object::Stream(_) if !open.readable => Err(Errno::Badf),
            Object::Stream(stream) => Ok(stream.poll_read(nanoseconds)),
            Object::File(file) => {
                let size = file.metadata()?.size;
                Ok(Readiness::Ready(size.saturating_sub(open.position)))
            }
            Object::Directory(_) => Ok(Readiness::Ready(0)),
        }
    }

    /// Whether something outside of the guest can make a descriptor ready.
    pub(crate) fn waits_for_host(&self, fd: u32) -> bool {
        self.descriptors
            .get(fd)
            .is_ok_and(|open| matches!(open.object, Object::Stream(Stream::Stdin(_))))
    }

    /// Whether a descriptor can be written without waiting.
    pub(crate) fn poll_write(&self, fd: u32) -> Result<Readiness> {
        let open = self.descriptors.get(fd)?;
        match &open.object {
            Object::Stream(_) if !open.writable => Err(Errno::Badf),
            Object::Stream(stream) => Ok(stream.poll_write()),
            _ => Ok(Readiness::Ready(1)),
        }
    }
}
