//! A directory of the host, through cap-std: a handle to the directory, below which all names are resolved by the system
//! (`openat2` on Linux), which refuses to leave it.
//!
//! Nothing here builds a host path from strings of a guest. Names that are not UTF-8 are invisible to guests.

#![forbid(unsafe_code)]

use super::{
    Directory, DirectoryEntry, File, FileType, Lookup, Metadata, OpenOptions, Opened, Times,
};
use crate::host::clock::nanoseconds;
use crate::host::errno::{Errno, Result};
use cap_fs_ext::{
    DirExt, FileTypeExt, FollowSymlinks, MetadataExt, OpenOptionsFollowExt, OpenOptionsMaybeDirExt,
    OpenOptionsSyncExt, SystemTimeSpec,
};
use cap_std::fs as cap;
use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A directory of the host.
pub(crate) struct HostDirectory {
    dir: cap::Dir,
}

/// A file of the host. It is the system's own handle; nothing of cap-std is needed once it is open.
struct HostFile {
    file: std::fs::File,
}

/// Opens the root of a mount: the only place where a host path is used, and it comes from the embedder.
pub(crate) fn open(path: &Path) -> io::Result<HostDirectory> {
    let dir = cap::Dir::open_ambient_dir(path, cap_std::ambient_authority())?;
    Ok(HostDirectory { dir })
}

fn follow_links(follow: bool) -> FollowSymlinks {
    if follow {
        FollowSymlinks::Yes
    } else {
        FollowSymlinks::No
    }
}

fn other(directory: &dyn Directory) -> Result<&HostDirectory> {
    directory.as_any().downcast_ref().ok_or(Errno::Xdev)
}

fn wrap(file: cap::File, metadata: &cap::Metadata) -> Opened {
    let file = file.into_std();
    if metadata.is_dir() {
        let dir = cap::Dir::from_std_file(file);
        Opened::Directory(Arc::new(HostDirectory { dir }))
    } else {
        let file_type = file_type_of(metadata.file_type());
        Opened::File(Arc::new(HostFile { file }), file_type)
    }
}

impl HostDirectory {
    fn open_once(&self, name: &str, follow: bool, options: OpenOptions) -> Result<Opened> {
        let mut how = cap::OpenOptions::new();
        // Creating and truncating need the right to write at the host, even if the guest will not write.
        let write = options.write || options.create || options.truncate;
        how.read(options.read || !write)
            .write(write)
            .create(options.create && !options.exclusive)
            .create_new(options.create && options.exclusive)
            .truncate(options.truncate)
            .maybe_dir(true)
            .follow(follow_links(follow))
            // Opening a pipe must not wait for its other end.
            .nonblock(true);
        let file = self.dir.open_with(name, &how)?;
        let metadata = file.metadata()?;
        Ok(wrap(file, &metadata))
    }
}

impl Directory for HostDirectory {
    fn resolves_paths(&self) -> bool {
        true
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(metadata_of(&self.dir.dir_metadata()?))
    }

    fn lookup(&self, name: &str) -> Result<Lookup> {
        // Most names are looked up because a path ends in them, and are files.
        let kind = self.dir.symlink_metadata(name)?.file_type();
        if kind.is_symlink() {
            Ok(Lookup::Link(self.read_link(name)?))
        } else if kind.is_dir() {
            let dir = self.dir.open_dir_nofollow(name)?;
            Ok(Lookup::Directory(Arc::new(HostDirectory { dir })))
        } else {
            Ok(Lookup::Other)
        }
    }

    fn entry_metadata(&self, name: &str, follow: bool) -> Result<Metadata> {
        let metadata = if follow {
            self.dir.metadata(name)?
        } else {
            self.dir.symlink_metadata(name)?
        };
        Ok(metadata_of(&metadata))
    }

    fn open(&self, name: &str, follow: bool, options: OpenOptions) -> Result<Opened> {
        let only_if_missing = options.create && !options.exclusive && !options.truncate;
        if only_if_missing && !options.write {
            // A file that exists is opened for reading even where it may not be written.
            let plain = OpenOptions {
                create: false,
                ..options
            };
            match self.open_once(name, follow, plain) {
                Err(Errno::Noent) => {}
                result => return result,
            }
        }
        self.open_once(name, follow, options)
    }

    fn entries(&self) -> Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in self.dir.entries()? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let file_type = entry.file_type().map_or(FileType::Unknown, file_type_of);
            let inode = inode_of(&entry);
            entries.push(DirectoryEntry {
                name,
                inode,
                file_type,
            });
        }
        Ok(entries)
    }

    fn read_link(&self, name: &str) -> Result<String> {
        let target = self.dir.read_link_contents(name)?;
        target
            .into_os_string()
            .into_string()
            .map_err(|_| Errno::Ilseq)
    }

    fn create_directory(&self, name: &str) -> Result<()> {
        Ok(self.dir.create_dir(name)?)
    }

    fn remove_directory(&self, name: &str) -> Result<()> {
        Ok(self.dir.remove_dir(name)?)
    }

    fn unlink(&self, name: &str) -> Result<()> {
        Ok(self.dir.remove_file_or_symlink(name)?)
    }

    fn create_link(&self, target: &str, name: &str, _absolute_allowed: bool) -> Result<()> {
        // An absolute link would lead other programs of the host wherever the guest likes.
        if target.starts_with('/') {
            return Err(Errno::Perm);
        }
        Ok(DirExt::symlink(&self.dir, target, name)?)
    }

    fn rename(&self, name: &str, to: &dyn Directory, new_name: &str) -> Result<()> {
        Ok(self.dir.rename(name, &other(to)?.dir, new_name)?)
    }

    fn hard_link(&self, name: &str, to: &dyn Directory, new_name: &str) -> Result<()> {
        Ok(self.dir.hard_link(name, &other(to)?.dir, new_name)?)
    }

    fn set_entry_times(&self, name: &str, follow: bool, times: Times) -> Result<()> {
        let accessed = times.accessed.map(time_spec);
        let modified = times.modified.map(time_spec);
        if follow {
            DirExt::set_times(&self.dir, name, accessed, modified)?;
        } else {
            self.dir.set_symlink_times(name, accessed, modified)?;
        }
        Ok(())
    }

    fn set_times(&self, times: Times) -> Result<()> {
        // The handle may be one that only names the directory (`O_PATH`); its times are set by name.
        let accessed = times.accessed.map(time_spec);
        let modified = times.modified.map(time_spec);
        Ok(DirExt::set_times(&self.dir, ".", accessed, modified)?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.dir.open(".")?.sync_all()?)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl File for HostFile {
    fn metadata(&self) -> Result<Metadata> {
        Ok(metadata_of(&cap::Metadata::from_file(&self.file)?))
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<usize> {
        retry(|| position::read(&self.file, buffer, position))
    }

    fn write_at(&self, buffer: &[u8], position: u64) -> Result<usize> {
        retry(|| position::write(&self.file, buffer, position))
    }

    fn set_size(&self, size: u64) -> Result<()> {
        Ok(self.file.set_len(size)?)
    }

    fn set_times(&self, times: Times) -> Result<()> {
        set_file_times(&self.file, times)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        if data_only {
            self.file.sync_data()?;
        } else {
            self.file.sync_all()?;
        }
        Ok(())
    }
}

/// Positional reads and writes. Pipes and terminals have no positions; they are read as they come.
mod position {
    use std::fs::File;
    use std::io;

    #[cfg(unix)]
    pub fn read(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        match file.read_at(buffer, position) {
            Err(error) if error.kind() == io::ErrorKind::NotSeekable => {
                io::Read::read(&mut &*file, buffer)
            }
            result => result,
        }
    }

    #[cfg(unix)]
    pub fn write(file: &File, buffer: &[u8], position: u64) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        match file.write_at(buffer, position) {
            Err(error) if error.kind() == io::ErrorKind::NotSeekable => {
                io::Write::write(&mut &*file, buffer)
            }
            result => result,
        }
    }

    #[cfg(not(unix))]
    pub fn read(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = file;
        file.seek(SeekFrom::Start(position))?;
        file.read(buffer)
    }

    #[cfg(not(unix))]
    pub fn write(file: &File, buffer: &[u8], position: u64) -> io::Result<usize> {
        use std::io::{Seek, SeekFrom, Write};
        let mut file = file;
        file.seek(SeekFrom::Start(position))?;
        file.write(buffer)
    }
}

fn retry(mut operation: impl FnMut() -> io::Result<usize>) -> Result<usize> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return Ok(result?),
        }
    }
}

fn set_file_times(file: &std::fs::File, times: Times) -> Result<()> {
    let mut new = std::fs::FileTimes::new();
    if let Some(accessed) = times.accessed {
        new = new.set_accessed(system_time(accessed));
    }
    if let Some(modified) = times.modified {
        new = new.set_modified(system_time(modified));
    }
    Ok(file.set_times(new)?)
}

fn system_time(nanoseconds: u64) -> SystemTime {
    // 2^64 nanoseconds end in the year 2554, which every system can represent.
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

fn time_spec(nanoseconds: u64) -> SystemTimeSpec {
    SystemTimeSpec::Absolute(cap_std::time::SystemTime::from_std(system_time(
        nanoseconds,
    )))
}

fn metadata_of(metadata: &cap::Metadata) -> Metadata {
    let time = |time: io::Result<cap_std::time::SystemTime>| {
        time.map_or(0, |time| nanoseconds(time.into_std()))
    };
    let modified = time(metadata.modified());
    Metadata {
        device: MetadataExt::dev(metadata),
        inode: MetadataExt::ino(metadata),
        file_type: file_type_of(metadata.file_type()),
        links: MetadataExt::nlink(metadata),
        size: metadata.len(),
        accessed: time(metadata.accessed()),
        modified,
        changed: changed(metadata).unwrap_or(modified),
    }
}

#[cfg(unix)]
fn changed(metadata: &cap::Metadata) -> Option<u64> {
    use cap_std::fs::MetadataExt;
    let seconds = u64::try_from(metadata.ctime()).ok()?;
    let nanoseconds = u64::try_from(metadata.ctime_nsec()).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

#[cfg(not(unix))]
fn changed(_: &cap::Metadata) -> Option<u64> {
    None
}

#[cfg(unix)]
fn inode_of(entry: &cap::DirEntry) -> u64 {
    use std::os::unix::fs::DirEntryExt;
    entry.ino()
}

#[cfg(not(unix))]
fn inode_of(_: &cap::DirEntry) -> u64 {
    0
}

fn file_type_of(file_type: cap::FileType) -> FileType {
    if file_type.is_dir() {
        FileType::Directory
    } else if file_type.is_file() {
        FileType::RegularFile
    } else if file_type.is_symlink() {
        FileType::SymbolicLink
    } else if file_type.is_char_device() {
        FileType::CharacterDevice
    } else if file_type.is_block_device() {
        FileType::BlockDevice
    } else if file_type.is_socket() {
        FileType::SocketStream
    } else {
        FileType::Unknown
    }
}
