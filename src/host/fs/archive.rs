//! A zip or tar archive as a read-only tree. A wheel is a zip; a tar may be compressed with gzip.
//!
//! All entries are read once, when the archive is mounted, into a tree of names; nothing is ever unpacked to the host. Bytes stay
//! in the archive until a file is read: stored ones are read where they lie, compressed ones are unpacked whole at the first
//! read and shared by all who have the file open.
//!
//! Archives may be hostile, too: the number of entries and the sizes are limited, a path with `..` is an error, and a file
//! that unpacks to another size than it declares cannot be read.

#![forbid(unsafe_code)]

use super::namespace::components;
use super::{
    Directory, DirectoryEntry, File, FileType, Lookup, Metadata, NAME_LIMIT, OpenOptions, Opened,
    new_device,
};
use crate::error::{Error, ErrorKind, Result as LibraryResult};
use crate::host::errno::{Errno, Result};
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use zip::ZipArchive;

/// Most entries of an archive.
const ENTRY_LIMIT: usize = 1 << 20;

/// Most directories below each other.
const DEPTH_LIMIT: usize = 128;

/// Most bytes of a compressed file, and of a tar compressed as a whole.
const UNPACKED_LIMIT: u64 = 1 << 30;

/// Longest symbolic link.
const LINK_LIMIT: u64 = 4096;

/// An archive and its index.
struct Archive {
    device: u64,
    source: Arc<Source>,
    /// Node 0 is the root.
    nodes: Vec<Node>,
    /// Unpacks compressed entries of a zip.
    zip: Option<Mutex<ZipArchive<Reader>>>,
    /// Unpacked files that are open.
    unpacked: Mutex<HashMap<usize, Weak<Vec<u8>>>>,
}

struct Node {
    body: Body,
    /// Nanoseconds since 1970.
    modified: u64,
    links: u64,
}

enum Body {
    Directory(BTreeMap<String, usize>),
    File { size: u64, place: Place },
    Link(String),
}

/// Where the bytes of a file are.
#[derive(Clone, Copy)]
enum Place {
    /// As they are, at this offset of the archive.
    Stored(u64),
    /// Compressed, as this entry of a zip.
    Compressed(usize),
}

/// The bytes of an archive.
enum Source {
    Memory(Arc<[u8]>),
    File { file: std::fs::File, length: u64 },
}

impl Source {
    fn length(&self) -> u64 {
        match self {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File { length, .. } => *length,
        }
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match self {
            Source::Memory(bytes) => {
                let start = usize::try_from(position).unwrap_or(usize::MAX);
                bytes.get(start..).unwrap_or_default().read(buffer)
            }
            #[cfg(unix)]
            Source::File { file, .. } => {
                std::os::unix::fs::FileExt::read_at(file, buffer, position)
            }
            #[cfg(not(unix))]
            Source::File { file, .. } => {
                let mut file = file;
                file.seek(SeekFrom::Start(position))?;
                file.read(buffer)
            }
        }
    }
}

/// A source with a position, for the crates that parse archives.
struct Reader {
    source: Arc<Source>,
    position: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.source.length().checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// Mounts an archive of the host.
pub(crate) fn open(path: &Path) -> LibraryResult<Arc<dyn Directory>> {
    let failed = |source| {
        Error::new(ErrorKind::Io {
            path: path.display().to_string(),
            source,
        })
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    mount(Source::File { file, length })
        .map_err(|error| error.context(format!("mounting the archive `{}`", path.display())))
}

/// Mounts an archive in memory.
pub(crate) fn from_bytes(bytes: Arc<[u8]>) -> LibraryResult<Arc<dyn Directory>> {
    mount(Source::Memory(bytes)).map_err(|error| error.context("mounting an archive"))
}

fn mount(source: Source) -> LibraryResult<Arc<dyn Directory>> {
    let mut start = [0; 262];
    let mut filled = 0;
    while let Some(rest) = start.get_mut(filled..) {
        match source.read_at(rest, filled as u64).map_err(Error::host)? {
            0 => break,
            count => filled += count,
        }
    }
    let archive = match start {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => index_zip(Arc::new(source))?,
        [0x1f, 0x8b, ..] => index_tar(Arc::new(gunzip(source)?))?,
        _ if start.ends_with(b"ustar") => index_tar(Arc::new(source))?,
        _ => {
            return Err(Error::msg(
                "the file is neither a zip archive nor a tar archive (nor one compressed with gzip)",
            ));
        }
    };
    let archive = Arc::new(archive);
    Ok(Arc::new(ArchiveDirectory { archive, node: 0 }))
}

fn gunzip(source: Source) -> LibraryResult<Source> {
    let reader = Reader {
        source: Arc::new(source),
        position: 0,
    };
    let mut bytes = Vec::new();
    flate2::read::MultiGzDecoder::new(io::BufReader::new(reader))
        .take(UNPACKED_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::host)?;
    if bytes.len() as u64 > UNPACKED_LIMIT {
        return Err(limit(
            "bytes of the unpacked tar archive",
            UNPACKED_LIMIT + 1,
            UNPACKED_LIMIT,
        ));
    }
    Ok(Source::Memory(bytes.into()))
}

fn limit(what: &str, needed: u64, allowed: u64) -> Error {
    Error::new(ErrorKind::Limit {
        what: what.to_owned(),
        needed,
        allowed,
    })
}

/// The tree under construction.
struct Index {
    nodes: Vec<Node>,
}

impl Index {
    fn new() -> Index {
        Index {
            nodes: vec![Node {
                body: Body::Directory(BTreeMap::new()),
                modified: 0,
                links: 2,
            }],
        }
    }

    fn push(&mut self, body: Body, modified: u64) -> LibraryResult<usize> {
        if self.nodes.len() >= ENTRY_LIMIT {
            let limit_of = ENTRY_LIMIT as u64;
            return Err(limit("entries of an archive", limit_of + 1, limit_of));
        }
        self.nodes.push(Node {
            body,
            modified,
            links: 1,
        });
        Ok(self.nodes.len() - 1)
    }

    fn children(&mut self, node: usize) -> Option<&mut BTreeMap<String, usize>> {
        match self.nodes.get_mut(node).map(|node| &mut node.body) {
            Some(Body::Directory(children)) => Some(children),
            _ => None,
        }
    }

    /// The directory of a path and the last name in it, making what is missing. `None` if the path is the root.
    fn parent<'a>(&mut self, path: &'a str) -> LibraryResult<Option<(usize, &'a str)>> {
        let escapes = path.split('/').any(|name| name == "..");
        let too_long = path.split('/').any(|name| name.len() > NAME_LIMIT);
        if escapes || too_long || path.contains('\0') {
            let reason = if escapes {
                "leads out of the archive"
            } else {
                "is not a path that a file system can have"
            };
            return Err(Error::msg(format!("the entry {path:?} {reason}")));
        }
        let names: Vec<_> = components(path).collect();
        if names.len() > DEPTH_LIMIT {
            return Err(limit(
                "directories below each other in an archive",
                names.len() as u64,
                DEPTH_LIMIT as u64,
            ));
        }
        let Some((last, directories)) = names.split_last() else {
            return Ok(None);
        };
        let mut node = 0;
        for name in directories {
            node = self.directory(node, name, path)?;
        }
        Ok(Some((node, last)))
    }

    fn directory(&mut self, parent: usize, name: &str, path: &str) -> LibraryResult<usize> {
        let found = self
            .children(parent)
            .and_then(|children| children.get(name).copied());
        if let Some(found) = found {
            if self.children(found).is_some() {
                return Ok(found);
            }
            return Err(Error::msg(format!(
                "the entry {path:?} lies in `{name}`, which is a file of the same archive"
            )));
        }
        let new = self.push(Body::Directory(BTreeMap::new()), 0)?;
        if let Some(children) = self.children(parent) {
            children.insert(name.to_owned(), new);
        }
        Ok(new)
    }

    /// Adds an entry. As unpacking would, a later entry replaces an earlier one of that path; directories are joined.
    fn add(&mut self, path: &str, body: Body, modified: u64) -> LibraryResult<()> {
        let Some((parent, name)) = self.parent(path)? else {
            if let Some(root) = self.nodes.first_mut() {
                root.modified = modified;
            }
            return Ok(());
        };
        if let Body::Directory(_) = body {
            let node = self.directory(parent, name, path)?;
            if let Some(node) = self.nodes.get_mut(node) {
                node.modified = modified;
            }
            return Ok(());
        }
        let new = self.push(body, modified)?;
        self.place(parent, name, new, path)
    }

    /// Gives an entry a second name.
    fn link(&mut self, path: &str, target: &str) -> LibraryResult<()> {
        let mut found = Some(0);
        for name in components(target) {
            found = found
                .and_then(|node| self.children(node))
                .and_then(|children| children.get(name).copied());
        }
        let Some(node) = found.filter(|node| self.children(*node).is_none()) else {
            return Err(Error::msg(format!(
                "the entry {path:?} is a hard link to {target:?}, which is no file before it"
            )));
        };
        let Some((parent, name)) = self.parent(path)? else {
            return Ok(());
        };
        self.place(parent, name, node, path)?;
        if let Some(node) = self.nodes.get_mut(node) {
            node.links += 1;
        }
        Ok(())
    }

    fn place(&mut self, parent: usize, name: &str, node: usize, path: &str) -> LibraryResult<()> {
        let replaced = match self.children(parent) {
            Some(children) => children.insert(name.to_owned(), node),
            None => None,
        };
        if replaced.is_some_and(|replaced| self.children(replaced).is_some()) {
            return Err(Error::msg(format!(
                "the entry {path:?} is a file and a directory in one archive"
            )));
        }
        Ok(())
    }

    fn finish(self, source: Arc<Source>, zip: Option<ZipArchive<Reader>>) -> Archive {
        Archive {
            device: new_device(),
            source,
            nodes: self.nodes,
            zip: zip.map(Mutex::new),
            unpacked: Mutex::default(),
        }
    }
}

fn index_zip(source: Arc<Source>) -> LibraryResult<Archive> {
    let reader = Reader {
        source: source.clone(),
        position: 0,
    };
    let mut zip = ZipArchive::new(reader).map_err(Error::host)?;
    if zip.len() > ENTRY_LIMIT {
        return Err(limit(
            "entries of an archive",
            zip.len() as u64,
            ENTRY_LIMIT as u64,
        ));
    }
    let mut index = Index::new();
    for number in 0..zip.len() {
        let mut entry = zip.by_index_raw(number).map_err(Error::host)?;
        let name = std::str::from_utf8(entry.name_raw())
            .map_err(|_| Error::msg(format!("the name of entry {number} is not UTF-8")))?
            .to_owned();
        let modified = entry.last_modified().map_or(0, |time| {
            let date = [time.year().into(), time.month().into(), time.day().into()];
            let clock = [
                time.hour().into(),
                time.minute().into(),
                time.second().into(),
            ];
            nanoseconds_of(date, clock)
        });
        let size = entry.size();
        if entry.is_symlink() {
            drop(entry);
            let mut target = String::new();
            let entry = zip.by_index(number).map_err(Error::host)?;
            entry
                .take(LINK_LIMIT)
                .read_to_string(&mut target)
                .map_err(Error::host)?;
            index.add(&name, Body::Link(target), modified)?;
            continue;
        }
        let body = if entry.is_dir() {
            Body::Directory(BTreeMap::new())
        } else if entry.encrypted() {
            return Err(Error::msg(format!("the entry {name:?} is encrypted")));
        } else if entry.compression() == zip::CompressionMethod::Stored
            && let Some(start) = entry.data_start()
            && start
                .checked_add(size)
                .is_some_and(|end| end <= source.length())
            && entry.compressed_size() == size
        {
            Body::File {
                size,
                place: Place::Stored(start),
            }
        } else {
            Body::File {
                size,
                place: Place::Compressed(number),
            }
        };
        let _ = entry.read(&mut []);
        drop(entry);
        index.add(&name, body, modified)?;
    }
    Ok(index.finish(source, Some(zip)))
}

fn index_tar(source: Arc<Source>) -> LibraryResult<Archive> {
    let reader = Reader {
        source: source.clone(),
        position: 0,
    };
    let mut index = Index::new();
    let mut tar = tar::Archive::new(reader);
    let text = |bytes: &[u8]| {
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| Error::msg("the name of an entry is not UTF-8"))
    };
    for (number, entry) in tar.entries_with_seek().map_err(Error::host)?.enumerate() {
        if number >= ENTRY_LIMIT {
            return Err(limit(
                "entries of an archive",
                number as u64,
                ENTRY_LIMIT as u64,
            ));
        }
        let entry = entry.map_err(Error::host)?;
        let name = text(&entry.path_bytes())?;
        let seconds = entry.header().mtime().unwrap_or(0);
        let modified = seconds.saturating_mul(1_000_000_000);
        let target = entry.link_name_bytes();
        let target = target.map(|bytes| text(&bytes)).transpose()?;
        let body = match (entry.header().entry_type(), target) {
            (tar::EntryType::Directory, _) => Body::Directory(BTreeMap::new()),
            (tar::EntryType::Symlink, Some(target)) => Body::Link(target),
            (tar::EntryType::Link, Some(target)) => {
                index.link(&name, &target)?;
                continue;
            }
            (tar::EntryType::Regular | tar::EntryType::Continuous, _) => {
                let (start, size) = (entry.raw_file_position(), entry.size());
                if start
                    .checked_add(size)
                    .is_none_or(|end| end > source.length())
                {
                    return Err(Error::msg(format!(
                        "the archive ends before the entry {name:?} does: it was cut off"
                    )));
                }
                Body::File {
                    size,
                    place: Place::Stored(start),
                }
            }
            (tar::EntryType::GNUSparse, _) => {
                return Err(Error::msg(format!(
                    "the entry {name:?} is a sparse file, which is not supported: make the archive without --sparse"
                )));
            }
            // Devices and pipes have no place here.
            _ => continue,
        };
        index.add(&name, body, modified)?;
    }
    Ok(index.finish(source, None))
}

/// Nanoseconds since 1970 of a date and time, taken as UTC, because zip archives do not say.
fn nanoseconds_of([year, month, day]: [u64; 3], [hour, minute, second]: [u64; 3]) -> u64 {
    // Days of the civil calendar, counted from March, so that leap days come last.
    let (year, month) = match month {
        0..=2 => (year.saturating_sub(1), month + 9),
        _ => (year, month - 3),
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    /// Days from March 1 of the year 0 to January 1, 1970, plus one for days counted from 1.
    const EPOCH: u64 = 719_469;
    let seconds = days.saturating_sub(EPOCH) * 86_400 + hour * 3600 + minute * 60 + second;
    seconds.saturating_mul(1_000_000_000)
}

/// A directory of an archive.
struct ArchiveDirectory {
    archive: Arc<Archive>,
    node: usize,
}

struct ArchiveFile {
    archive: Arc<Archive>,
    node: usize,
    /// The unpacked bytes, if they had to be unpacked.
    bytes: OnceLock<Result<Arc<Vec<u8>>>>,
}

impl Archive {
    fn node(&self, node: usize) -> Result<&Node> {
        self.nodes.get(node).ok_or(Errno::Noent)
    }

    fn metadata(&self, node: usize) -> Result<Metadata> {
        let Node {
            body,
            modified,
            links,
        } = self.node(node)?;
        let (file_type, size) = match body {
            Body::Directory(children) => (FileType::Directory, children.len() as u64),
            Body::File { size, .. } => (FileType::RegularFile, *size),
            Body::Link(target) => (FileType::SymbolicLink, target.len() as u64),
        };
        Ok(Metadata {
            device: self.device,
            inode: node as u64 + 1,
            file_type,
            links: *links,
            size,
            accessed: *modified,
            modified: *modified,
            changed: *modified,
        })
    }

    /// All bytes of a compressed entry.
    fn unpack(&self, number: usize, size: u64) -> Result<Arc<Vec<u8>>> {
        fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
            mutex.lock().unwrap_or_else(PoisonError::into_inner)
        }
        if let Some(bytes) = lock(&self.unpacked).get(&number).and_then(Weak::upgrade) {
            return Ok(bytes);
        }
        if size > UNPACKED_LIMIT {
            return Err(Errno::Fbig);
        }
        let zip = self.zip.as_ref().ok_or(Errno::Io)?;
        let mut zip = lock(zip);
        let entry = zip.by_index(number).map_err(|_| Errno::Io)?;
        let mut bytes = Vec::new();
        // The size is only declared: memory grows with what is really there.
        let likely = usize::try_from(size.min(16 << 20)).unwrap_or(0);
        bytes.try_reserve(likely).map_err(|_| Errno::Nomem)?;
        let count = entry.take(size + 1).read_to_end(&mut bytes);
        if count.map_err(|_| Errno::Io)? as u64 != size {
            return Err(Errno::Io);
        }
        let bytes = Arc::new(bytes);
        let mut unpacked = lock(&self.unpacked);
        unpacked.retain(|_, bytes| bytes.strong_count() > 0);
        unpacked.insert(number, Arc::downgrade(&bytes));
        Ok(bytes)
    }
}

impl ArchiveDirectory {
    fn child(&self, name: &str) -> Result<usize> {
        match &self.archive.node(self.node)?.body {
            Body::Directory(children) => children.get(name).copied().ok_or(Errno::Noent),
            _ => Err(Errno::Notdir),
        }
    }

    fn at(&self, node: usize) -> Arc<ArchiveDirectory> {
        Arc::new(ArchiveDirectory {
            archive: self.archive.clone(),
            node,
        })
    }
}

impl Directory for ArchiveDirectory {
    fn is_read_only(&self) -> bool {
        true
    }

    fn metadata(&self) -> Result<Metadata> {
        self.archive.metadata(self.node)
    }

    fn lookup(&self, name: &str) -> Result<Lookup> {
        let child = self.child(name)?;
        Ok(match &self.archive.node(child)?.body {
            Body::Directory(_) => Lookup::Directory(self.at(child)),
            Body::File { .. } => Lookup::Other,
            Body::Link(target) => Lookup::Link(target.clone()),
        })
    }

    fn entry_metadata(&self, name: &str, _follow: bool) -> Result<Metadata> {
        self.archive.metadata(self.child(name)?)
    }

    fn open(&self, name: &str, _follow: bool, options: OpenOptions) -> Result<Opened> {
        let child = match self.child(name) {
            Err(Errno::Noent) if options.create => return Err(Errno::Rofs),
            child => child?,
        };
        if options.create && options.exclusive {
            return Err(Errno::Exist);
        }
        match &self.archive.node(child)?.body {
            Body::Directory(_) if options.write || options.truncate => Err(Errno::Isdir),
            Body::Directory(_) => Ok(Opened::Directory(self.at(child))),
            Body::Link(_) => Err(Errno::Loop),
            Body::File { .. } if options.write || options.truncate => Err(Errno::Rofs),
            Body::File { .. } => {
                let file = ArchiveFile {
                    archive: self.archive.clone(),
                    node: child,
                    bytes: OnceLock::new(),
                };
                Ok(Opened::File(Arc::new(file), FileType::RegularFile))
            }
        }
    }

    fn entries(&self) -> Result<Vec<DirectoryEntry>> {
        let Body::Directory(children) = &self.archive.node(self.node)?.body else {
            return Err(Errno::Notdir);
        };
        children
            .iter()
            .map(|(name, node)| {
                let metadata = self.archive.metadata(*node)?;
                Ok(DirectoryEntry {
                    name: name.clone(),
                    inode: metadata.inode,
                    file_type: metadata.file_type,
                })
            })
            .collect()
    }

    fn read_link(&self, name: &str) -> Result<String> {
        match &self.archive.node(self.child(name)?)?.body {
            Body::Link(target) => Ok(target.clone()),
            _ => Err(Errno::Inval),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl File for ArchiveFile {
    fn metadata(&self) -> Result<Metadata> {
        self.archive.metadata(self.node)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<usize> {
        let Body::File { size, place } = self.archive.node(self.node)?.body else {
            return Err(Errno::Io);
        };
        let rest = size.saturating_sub(position);
        let count = buffer
            .len()
            .min(usize::try_from(rest).unwrap_or(usize::MAX));
        let Some(buffer) = buffer.get_mut(..count).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        match place {
            Place::Stored(start) => Ok(self.archive.source.read_at(buffer, start + position)?),
            Place::Compressed(number) => {
                let unpack = || self.archive.unpack(number, size);
                let bytes = self.bytes.get_or_init(unpack).as_ref().map_err(|e| *e)?;
                let start = usize::try_from(position).map_err(|_| Errno::Fbig)?;
                Ok(bytes.get(start..).unwrap_or_default().read(buffer)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (index, (name, contents)) in entries.iter().enumerate() {
            let method = [
                zip::CompressionMethod::Deflated,
                zip::CompressionMethod::Stored,
            ][index % 2];
            let time = zip::DateTime::from_date_and_time(2024, 2, 29, 12, 30, 8).unwrap();
            let options = zip::write::SimpleFileOptions::default()
                .compression_method(method)
                .last_modified_time(time);
            writer.start_file(*name, options).unwrap();
            writer.write_all(contents).unwrap();
        }
        let options = zip::write::SimpleFileOptions::default();
        writer.add_symlink("link", "dir/one", options).unwrap();
        writer.finish().unwrap().into_inner()
    }

    fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, contents) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(contents.len() as u64);
            header.set_mtime(1_709_209_808);
            header.set_mode(0o644);
            // Names with `..` are refused by the builder, so they are put in raw.
            if name.len() < 100 {
                header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_cksum();
                builder.append(&header, *contents).unwrap();
            } else {
                builder.append_data(&mut header, name, *contents).unwrap();
            }
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Symlink);
        builder.append_link(&mut header, "link", "dir/one").unwrap();
        builder.into_inner().unwrap()
    }

    fn read(directory: &dyn Directory, name: &str) -> Result<Vec<u8>> {
        let options = OpenOptions {
            read: true,
            ..OpenOptions::default()
        };
        let Opened::File(file, _) = directory.open(name, false, options)? else {
            return Err(Errno::Isdir);
        };
        let mut bytes = vec![0; 100_000];
        let mut done = 0;
        loop {
            match file.read_at(&mut bytes[done..], done as u64)? {
                0 => break,
                count => done += count,
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    fn subdirectory(directory: &dyn Directory, name: &str) -> Arc<dyn Directory> {
        match directory.lookup(name) {
            Ok(Lookup::Directory(directory)) => directory,
            _ => panic!("{name} is no directory"),
        }
    }

    fn gzip_of(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn zip_and_tar_archives_show_the_same_tree() {
        let long = format!("dir/{}/{}", "a".repeat(90), "b".repeat(90));
        let big = vec![b'x'; 50_000];
        let entries: [(&str, &[u8]); 4] = [
            ("./dir/one", b"first"),
            ("dir/two", &big),
            ("/absolute", b"third"),
            (&long, b""),
        ];
        let tar = tar_of(&entries);
        for bytes in [zip_of(&entries), gzip_of(&tar), tar] {
            let root = from_bytes(bytes.into()).unwrap();
            let names: Vec<_> = root
                .entries()
                .unwrap()
                .into_iter()
                .map(|e| e.name)
                .collect();
            assert_eq!(names, ["absolute", "dir", "link"]);
            assert_eq!(read(&*root, "absolute").unwrap(), b"third");
            let dir = subdirectory(&*root, "dir");
            assert_eq!(read(&*dir, "one").unwrap(), b"first");
            assert_eq!(read(&*dir, "two").unwrap(), big);
            let metadata = dir.entry_metadata("two", false).unwrap();
            assert_eq!(
                (metadata.size, metadata.file_type),
                (50_000, FileType::RegularFile)
            );
            assert_eq!(metadata.modified, 1_709_209_808_000_000_000);
            assert_eq!(root.read_link("link").unwrap(), "dir/one");
            let deep = subdirectory(&*dir, &"a".repeat(90));
            assert_eq!(deep.entries().unwrap().len(), 1);
            assert_eq!(root.unlink("absolute"), Err(Errno::Rofs));
            let create = OpenOptions {
                create: true,
                ..OpenOptions::default()
            };
            assert_eq!(root.open("new", false, create).err(), Some(Errno::Rofs));
        }
    }

    #[test]
    fn hostile_archives_are_refused() {
        for path in ["../evil", "a/../../evil", "dir/.."] {
            let error = from_bytes(tar_of(&[(path, b"")]).into()).err().unwrap();
            assert!(error.to_string().contains("leads out"), "{error}");
        }
        let error = from_bytes(tar_of(&[("file", b""), ("file/inside", b"")]).into());
        assert!(error.err().unwrap().to_string().contains("is a file"));
        let deep = "d/".repeat(200) + "f";
        assert!(from_bytes(tar_of(&[(&deep, b"")]).into()).is_err());
        assert!(from_bytes(Arc::from(&b"neither"[..])).is_err());
        assert!(from_bytes(Arc::from(&[][..])).is_err());
        // A tar that ends in the middle of an entry, and archives cut anywhere.
        let tar = tar_of(&[("file", &[7; 2000])]);
        assert!(from_bytes(tar[..1024].into()).is_err());
        let zip = zip_of(&[("file", &[7; 2000]), ("other", b"x")]);
        for archive in [tar, zip] {
            for end in 0..archive.len() {
                let _ = from_bytes(archive[..end].into());
            }
        }
    }

    #[test]
    fn damaged_bytes_give_an_error_or_other_bytes_but_no_panic() {
        let zip = zip_of(&[("a", &[7; 300]), ("b", b"stored"), ("c", &[9; 300])]);
        let tar = tar_of(&[("a", &[7; 300]), ("b", b"stored"), ("c", &[9; 300])]);
        for archive in [zip, tar] {
            for at in 0..archive.len() {
                for flip in [0x01, 0x80, 0xff] {
                    let mut damaged = archive.clone();
                    damaged[at] ^= flip;
                    if let Ok(root) = from_bytes(damaged.into()) {
                        for name in ["a", "b", "c", "link"] {
                            let _ = read(&*root, name);
                            let _ = root.read_link(name);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn hard_links_in_a_tar_are_second_names() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        builder
            .append_data(&mut header, "one", &b"same"[..])
            .unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Link);
        builder.append_link(&mut header, "dir/two", "one").unwrap();
        let root = from_bytes(builder.into_inner().unwrap().into()).unwrap();
        let dir = subdirectory(&*root, "dir");
        assert_eq!(read(&*dir, "two").unwrap(), b"same");
        let metadata = dir.entry_metadata("two", false).unwrap();
        assert_eq!(metadata, root.entry_metadata("one", false).unwrap());
        assert_eq!(metadata.links, 2);
    }

    #[test]
    fn dates_become_nanoseconds() {
        assert_eq!(nanoseconds_of([1970, 1, 1], [0, 0, 0]), 0);
        let time = nanoseconds_of([2024, 2, 29], [12, 30, 8]);
        assert_eq!(time, 1_709_209_808_000_000_000);
        assert_eq!(nanoseconds_of([1969, 1, 1], [0, 0, 0]), 0);
    }
}
