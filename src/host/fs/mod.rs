//! File systems: what a backend offers, and how mounts make one tree of several.
//!
//! - `mod.rs`: the traits [`Directory`] and [`File`], and [`Mount`], which names a backend
//! - `namespace.rs`: the mounts of a process and the walk along a path
//! - `host.rs`: a directory of the host; `mem.rs`: a tree in memory; `archive.rs`: a zip or tar file;
//!   `overlay.rs`: changes in memory over something read-only
//!
//! Backends see names, never paths with `.` or `..`, and never follow a link out of their own tree. All decisions about
//! links, `..`, mount points and read-only mounts are made once, in the walk and the operations above it.

#![forbid(unsafe_code)]

pub(crate) mod archive;
pub(crate) mod host;
pub(crate) mod mem;
pub(crate) mod namespace;
pub(crate) mod overlay;

use super::clock::Clock;
use super::errno::{Errno, Result};
use std::any::Any;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest name of one entry in bytes (`NAME_MAX` of Linux).
pub const NAME_LIMIT: usize = 255;

/// What an entry of a directory is. The numbers are those of preview 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum FileType {
    /// Something else, such as a pipe.
    #[default]
    Unknown = 0,
    /// A block device.
    BlockDevice = 1,
    /// A character device; of standard streams only terminals.
    CharacterDevice = 2,
    /// A directory.
    Directory = 3,
    /// A regular file.
    RegularFile = 4,
    /// A datagram socket.
    SocketDatagram = 5,
    /// A byte-stream socket.
    SocketStream = 6,
    /// A symbolic link.
    SymbolicLink = 7,
}

/// What is known about a file. Times are nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Metadata {
    /// Number of the file system.
    pub device: u64,
    /// Number of the file, unique in its file system.
    pub inode: u64,
    /// What it is.
    pub file_type: FileType,
    /// Number of names.
    pub links: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last access.
    pub accessed: u64,
    /// Last change of the contents.
    pub modified: u64,
    /// Last change of the contents or the metadata.
    pub changed: u64,
}

/// An entry of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectoryEntry {
    /// Its name.
    pub name: String,
    /// Number of the file.
    pub inode: u64,
    /// What it is.
    pub file_type: FileType,
}

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenOptions {
    /// Bytes will be read.
    pub read: bool,
    /// Bytes will be written.
    pub write: bool,
    /// Make the file if it does not exist.
    pub create: bool,
    /// Fail if it exists.
    pub exclusive: bool,
    /// Make it empty.
    pub truncate: bool,
}

/// New times for a file; `None` leaves a time as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// Last access, in nanoseconds since 1970.
    pub accessed: Option<u64>,
    /// Last change, in nanoseconds since 1970.
    pub modified: Option<u64>,
}

/// What a name stands for.
pub enum Lookup {
    /// A directory.
    Directory(Arc<dyn Directory>),
    /// A symbolic link and what it says.
    Link(String),
    /// Anything else.
    Other,
}

/// What opening a name gave.
pub enum Opened {
    /// A directory.
    Directory(Arc<dyn Directory>),
    /// A file, and what it is.
    File(Arc<dyn File>, FileType),
}

/// An open directory of a backend.
///
/// `name` is one component, except where [`Directory::resolves_paths`] is true: then it may be several joined by `/`,
/// and `follow` tells whether a link at the end is followed. It is never empty and contains no `.` or `..`.
/// Other backends are never asked to follow: `follow` is then false.
pub trait Directory: Send + Sync {
    /// Whether names may be paths, which the backend resolves with its links, but never to something outside of its tree:
    /// for that the error is `Notcapable`, and the walk is done step by step instead.
    fn resolves_paths(&self) -> bool {
        false
    }
    /// Whether nothing in the tree can ever be changed.
    fn is_read_only(&self) -> bool {
        false
    }
    /// What is known about the directory itself.
    ///
    /// # Errors
    /// Errors of the host system.
    fn metadata(&self) -> Result<Metadata>;
    /// What a name stands for.
    ///
    /// # Errors
    /// `Noent` and errors of the host system.
    fn lookup(&self, name: &str) -> Result<Lookup>;
    /// What is known about an entry.
    ///
    /// # Errors
    /// `Noent` and errors of the host system.
    fn entry_metadata(&self, name: &str, follow: bool) -> Result<Metadata>;
    /// Opens a file or directory. A link is `Loop`.
    ///
    /// # Errors
    /// `Noent`, `Exist`, `Loop`, `Isdir` for writing a directory, `Rofs`, and errors of the host system.
    fn open(&self, name: &str, follow: bool, options: OpenOptions) -> Result<Opened>;
    /// All entries but `.` and `..`.
    ///
    /// # Errors
    /// Errors of the host system.
    fn entries(&self) -> Result<Vec<DirectoryEntry>>;
    /// What a symbolic link says.
    ///
    /// # Errors
    /// `Inval` if it is not a link.
    fn read_link(&self, name: &str) -> Result<String>;
    /// Makes a directory.
    ///
    /// # Errors
    /// `Exist`, `Rofs`, `Nospc`.
    fn create_directory(&self, _name: &str) -> Result<()> {
        Err(Errno::Rofs)
    }
    /// Removes an empty directory.
    ///
    /// # Errors
    /// `Noent`, `Notdir`, `Notempty`, `Rofs`.
    fn remove_directory(&self, _name: &str) -> Result<()> {
        Err(Errno::Rofs)
    }
    /// Removes a name of something that is not a directory.
    ///
    /// # Errors
    /// `Noent`, `Isdir`, `Rofs`.
    fn unlink(&self, _name: &str) -> Result<()> {
        Err(Errno::Rofs)
    }
    /// Makes a symbolic link. `absolute_allowed` tells whether the target may start with `/`.
    ///
    /// # Errors
    /// `Exist`, `Rofs`, `Nospc`, `Perm` for an absolute target.
    fn create_link(&self, _target: &str, _name: &str, _absolute_allowed: bool) -> Result<()> {
        Err(Errno::Rofs)
    }
    /// Moves an entry to a directory of the same backend, replacing what is there.
    ///
    /// # Errors
    /// As `rename(2)`; `Xdev` if `to` is a directory of another backend.
    fn rename(&self, _name: &str, _to: &dyn Directory, _new_name: &str) -> Result<()> {
        Err(Errno::Rofs)
    }
    /// Gives a file a second name in a directory of the same backend.
    ///
    /// # Errors
    /// As `link(2)`; `Xdev` if `to` is a directory of another backend.
    fn hard_link(&self, _name: &str, _to: &dyn Directory, _new_name: &str) -> Result<()> {
        Err(Errno::Rofs)
    }
    /// Sets the times of an entry.
    ///
    /// # Errors
    /// `Noent`, `Rofs`.
    fn set_entry_times(&self, _name: &str, _follow: bool, _times: Times) -> Result<()> {
        Err(Errno::Rofs)
    }
    /// Sets the directory's own times.
    ///
    /// # Errors
    /// `Rofs`.
    fn set_times(&self, _times: Times) -> Result<()> {
        Err(Errno::Rofs)
    }
    /// Writes what is cached to the device.
    ///
    /// # Errors
    /// Errors of the host system.
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    /// Times of new files come from this clock, if the backend keeps times itself. The first clock stays.
    fn set_clock(&self, _clock: &Clock) {}
    /// For `rename` and `hard_link`: the directory as its own type.
    fn as_any(&self) -> &dyn Any;
}

/// An open file of a backend. Positions are kept above, so that descriptors can share them.
pub trait File: Send + Sync {
    /// What is known about the file.
    ///
    /// # Errors
    /// Errors of the host system.
    fn metadata(&self) -> Result<Metadata>;
    /// Reads at a position; 0 at the end.
    ///
    /// # Errors
    /// Errors of the host system.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<usize>;
    /// Writes at a position.
    ///
    /// # Errors
    /// `Rofs`, `Nospc`, `Fbig` and errors of the host system.
    fn write_at(&self, _buffer: &[u8], _position: u64) -> Result<usize> {
        Err(Errno::Rofs)
    }
    /// Sets the size.
    ///
    /// # Errors
    /// `Rofs`, `Nospc`, `Fbig` and errors of the host system.
    fn set_size(&self, _size: u64) -> Result<()> {
        Err(Errno::Rofs)
    }
    /// Sets the times.
    ///
    /// # Errors
    /// `Rofs` and errors of the host system.
    fn set_times(&self, _times: Times) -> Result<()> {
        Err(Errno::Rofs)
    }
    /// Writes what is cached to the device.
    ///
    /// # Errors
    /// Errors of the host system.
    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }
}

/// A file system to be mounted. Cheap to clone; clones are the same tree.
#[derive(Clone)]
pub struct Mount {
    pub(crate) root: Arc<dyn Directory>,
    pub(crate) read_only: bool,
}

impl Mount {
    /// A directory of the host.
    ///
    /// # Errors
    /// It does not exist, is not a directory, or may not be opened.
    pub fn host(path: impl AsRef<Path>) -> crate::error::Result<Mount> {
        let path = path.as_ref();
        let root = host::open(path).map_err(|source| {
            crate::error::Error::new(crate::error::ErrorKind::Io {
                path: path.display().to_string(),
                source,
            })
        })?;
        Ok(Mount::directory(Arc::new(root)))
    }

    /// An empty tree in memory for up to 256 MiB.
    pub fn memory() -> Mount {
        Mount::memory_with_quota(mem::DEFAULT_QUOTA)
    }

    /// An empty tree in memory for this many bytes, names and bookkeeping included.
    pub fn memory_with_quota(bytes: u64) -> Mount {
        Mount::directory(mem::tree(bytes))
    }

    /// A zip archive (such as a wheel) or tar archive of the host, read-only.
    ///
    /// # Errors
    /// The file cannot be read, or is neither; see [`Mount::archive_bytes`].
    pub fn archive(path: impl AsRef<Path>) -> crate::error::Result<Mount> {
        Ok(Mount::directory(archive::open(path.as_ref())?))
    }

    /// A zip archive (such as a wheel) or tar archive in memory, read-only.
    ///
    /// # Errors
    /// The bytes are neither, are damaged, or have an entry whose path leads out of the archive.
    pub fn archive_bytes(bytes: impl Into<Arc<[u8]>>) -> crate::error::Result<Mount> {
        Ok(Mount::directory(archive::from_bytes(bytes.into())?))
    }

    /// `lower` as it is, with changes kept in memory: up to this many bytes.
    pub fn overlay(lower: Mount, quota: u64) -> Mount {
        Mount::directory(overlay::tree(lower.root, quota))
    }

    /// A backend of the embedder.
    pub fn directory(root: Arc<dyn Directory>) -> Mount {
        let read_only = root.is_read_only();
        Mount { root, read_only }
    }

    /// The same tree, but guests cannot change it through this mount.
    #[must_use]
    pub fn read_only(mut self) -> Mount {
        self.read_only = true;
        self
    }
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mount")
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

/// A number for a new file system that is not the host's; far from the small numbers that hosts use.
pub(crate) fn new_device() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    (1 << 40) | NEXT.fetch_add(1, Ordering::Relaxed)
}
