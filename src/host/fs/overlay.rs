//! Changes in memory over a tree that stays as it is.
//!
//! Each directory of the overlay knows its lower directory, if it has one, its upper one in memory, once something
//! was changed in it, and the names of the lower one that are hidden because they were removed. What is in the upper directory wins.
//! Files are copied up when they are opened for writing; one that is open for reading only keeps showing the lower bytes.
//! A directory that exists below cannot be renamed (`Xdev`, as overlayfs of Linux has it): the guest copies it instead.

#![forbid(unsafe_code)]

use super::mem::{self, MemoryDirectory};
use super::{
    Directory, DirectoryEntry, File, FileType, Lookup, Metadata, OpenOptions, Opened, Times,
    new_device,
};
use crate::host::clock::Clock;
use crate::host::errno::{Errno, Result};
use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Bytes copied at once from a lower file.
const COPY_CHUNK: usize = 64 * 1024;

/// Set in the numbers of upper files, so that they differ from those of lower ones.
const UPPER_INODE: u64 = 1 << 62;

/// What all directories of an overlay share.
struct Overlay {
    device: u64,
    /// Held while names change, and while a directory is given its upper one.
    names: Mutex<()>,
}

/// A directory of the overlay. There is one node for each directory that was ever entered.
struct Node {
    overlay: Arc<Overlay>,
    lower: Option<Arc<dyn Directory>>,
    state: Mutex<State>,
}

struct State {
    upper: Option<Arc<MemoryDirectory>>,
    /// Names of the lower directory that are not seen.
    hidden: BTreeSet<String>,
    children: HashMap<String, Arc<Node>>,
    /// Where an upper directory is made for this one; `None` for the root and for what was removed.
    parent: Option<(Weak<Node>, String)>,
    removed: bool,
}

/// A handle to a directory.
struct OverlayDirectory(Arc<Node>);

/// An overlay over `lower`.
pub(crate) fn tree(lower: Arc<dyn Directory>, quota: u64) -> Arc<dyn Directory> {
    let overlay = Arc::new(Overlay {
        device: new_device(),
        names: Mutex::new(()),
    });
    let upper = mem::tree(quota);
    Arc::new(OverlayDirectory(Node::new(
        &overlay,
        Some(lower),
        Some(upper),
        None,
    )))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a name of a directory lives.
enum Found {
    Upper(Arc<MemoryDirectory>, FileType),
    Lower(Arc<dyn Directory>, FileType),
}

impl Found {
    fn file_type(&self) -> FileType {
        match self {
            Found::Upper(_, file_type) | Found::Lower(_, file_type) => *file_type,
        }
    }
}

impl Node {
    fn new(
        overlay: &Arc<Overlay>,
        lower: Option<Arc<dyn Directory>>,
        upper: Option<Arc<MemoryDirectory>>,
        parent: Option<(Weak<Node>, String)>,
    ) -> Arc<Node> {
        Arc::new(Node {
            overlay: overlay.clone(),
            lower,
            state: Mutex::new(State {
                upper,
                hidden: BTreeSet::new(),
                children: HashMap::new(),
                parent,
                removed: false,
            }),
        })
    }

    fn upper(&self) -> Option<Arc<MemoryDirectory>> {
        lock(&self.state).upper.clone()
    }

    /// The lower directory, if it has this name and the name is not hidden.
    fn visible_lower(&self, name: &str) -> Option<&Arc<dyn Directory>> {
        let lower = self.lower.as_ref()?;
        (!lock(&self.state).hidden.contains(name)).then_some(lower)
    }

    fn find(&self, name: &str) -> Result<Found> {
        if let Some(upper) = self.upper() {
            match upper.entry_metadata(name, false) {
                Ok(metadata) => return Ok(Found::Upper(upper, metadata.file_type)),
                Err(Errno::Noent) => {}
                Err(error) => return Err(error),
            }
        }
        let lower = self.visible_lower(name).ok_or(Errno::Noent)?;
        let metadata = lower.entry_metadata(name, false)?;
        Ok(Found::Lower(lower.clone(), metadata.file_type))
    }

    /// Whether the lower directory has a name, hidden or not.
    fn lower_has(&self, name: &str) -> bool {
        let lower = self.lower.as_ref();
        lower.is_some_and(|lower| lower.entry_metadata(name, false).is_ok())
    }

    /// The node of a subdirectory.
    fn child(self: &Arc<Node>, name: &str) -> Result<Arc<Node>> {
        if let Some(child) = lock(&self.state).children.get(name) {
            return Ok(child.clone());
        }
        let upper = match self.upper().map(|upper| upper.subdirectory(name)) {
            Some(Ok(upper)) => Some(Arc::new(upper)),
            Some(Err(Errno::Noent)) | None => None,
            Some(Err(error)) => return Err(error),
        };
        let lower = match self.visible_lower(name).map(|lower| lower.lookup(name)) {
            Some(Ok(Lookup::Directory(lower))) => Some(lower),
            Some(Ok(_)) if upper.is_none() => return Err(Errno::Notdir),
            Some(Err(error)) if upper.is_none() => return Err(error),
            _ => None,
        };
        if upper.is_none() && lower.is_none() {
            return Err(Errno::Noent);
        }
        let parent = Some((Arc::downgrade(self), name.to_owned()));
        let child = Node::new(&self.overlay, lower, upper, parent);
        let mut state = lock(&self.state);
        Ok(state
            .children
            .entry(name.to_owned())
            .or_insert(child)
            .clone())
    }

    /// The upper directory, made if there is none. The overlay's lock is held.
    fn ensure_upper(self: &Arc<Node>) -> Result<Arc<MemoryDirectory>> {
        // The directories on the way up that have none; the loop replaces recursion, since trees may be deep.
        let mut missing = Vec::new();
        let mut node = self.clone();
        let mut upper = loop {
            let (upper, parent) = {
                let state = lock(&node.state);
                if state.removed {
                    return Err(Errno::Noent);
                }
                (state.upper.clone(), state.parent.clone())
            };
            if let Some(upper) = upper {
                break upper;
            }
            let (parent, name) = parent.ok_or(Errno::Noent)?;
            missing.push((node, name));
            node = parent.upgrade().ok_or(Errno::Noent)?;
        };
        for (node, name) in missing.into_iter().rev() {
            match upper.create_directory(&name) {
                Ok(()) | Err(Errno::Exist) => {}
                Err(error) => return Err(error),
            }
            let made = Arc::new(upper.subdirectory(&name)?);
            if let Some(lower) = &node.lower
                && let Ok(metadata) = lower.metadata()
            {
                made.set_times(times_of(&metadata))?;
            }
            lock(&node.state).upper = Some(made.clone());
            upper = made;
        }
        Ok(upper)
    }

    /// Hides a name if the lower directory has it. The overlay's lock is held.
    fn hide(&self, name: &str) {
        if self.lower_has(name) {
            lock(&self.state).hidden.insert(name.to_owned());
        }
    }

    /// Copies a file or link from below, unless it is above already. The overlay's lock is held.
    fn copy_up(self: &Arc<Node>, name: &str, with_contents: bool) -> Result<Arc<MemoryDirectory>> {
        let (lower, file_type) = match self.find(name)? {
            Found::Upper(upper, _) => return Ok(upper),
            Found::Lower(lower, file_type) => (lower, file_type),
        };
        let upper = self.ensure_upper()?;
        let metadata = lower.entry_metadata(name, false)?;
        match file_type {
            FileType::Directory => return Err(Errno::Isdir),
            FileType::SymbolicLink => upper.create_link(&lower.read_link(name)?, name, true)?,
            FileType::RegularFile => {
                let copied = copy(&*lower, &*upper, name, with_contents);
                if let Err(error) = copied {
                    let _ = upper.unlink(name);
                    return Err(error);
                }
            }
            _ => return Err(Errno::Notsup),
        }
        upper.set_entry_times(name, false, times_of(&metadata))?;
        Ok(upper)
    }

    fn entries(&self) -> Result<Vec<DirectoryEntry>> {
        let mut entries = match self.upper() {
            Some(upper) => upper.entries()?,
            None => Vec::new(),
        };
        for entry in &mut entries {
            entry.inode |= UPPER_INODE;
        }
        let above: BTreeSet<String> = entries.iter().map(|entry| entry.name.clone()).collect();
        if let Some(lower) = &self.lower {
            let hidden = lock(&self.state).hidden.clone();
            let below = lower.entries()?.into_iter();
            entries.extend(
                below.filter(|entry| !above.contains(&entry.name) && !hidden.contains(&entry.name)),
            );
            // A directory that is above and below has the number that it had before.
            for entry in &mut entries {
                if entry.file_type == FileType::Directory
                    && above.contains(&entry.name)
                    && !hidden.contains(&entry.name)
                    && let Ok(metadata) = lower.entry_metadata(&entry.name, false)
                    && metadata.file_type == FileType::Directory
                {
                    entry.inode = metadata.inode;
                }
            }
        }
        Ok(entries)
    }

    fn metadata(&self) -> Result<Metadata> {
        let upper = self.upper();
        let (mut metadata, inode) = match (&upper, &self.lower) {
            (Some(upper), lower) => {
                let metadata = upper.metadata()?;
                let inode = match lower {
                    Some(lower) => lower.metadata()?.inode,
                    None => metadata.inode | UPPER_INODE,
                };
                (metadata, inode)
            }
            (None, Some(lower)) => {
                let metadata = lower.metadata()?;
                (metadata, metadata.inode)
            }
            (None, None) => return Err(Errno::Noent),
        };
        metadata.device = self.overlay.device;
        metadata.inode = inode;
        Ok(metadata)
    }

    /// Metadata of a name that is not a directory.
    fn entry_metadata(self: &Arc<Node>, name: &str) -> Result<Metadata> {
        let mut metadata = match self.find(name)? {
            found if found.file_type() == FileType::Directory => {
                return self.child(name)?.metadata();
            }
            Found::Upper(upper, _) => {
                let mut metadata = upper.entry_metadata(name, false)?;
                metadata.inode |= UPPER_INODE;
                metadata
            }
            Found::Lower(lower, _) => lower.entry_metadata(name, false)?,
        };
        metadata.device = self.overlay.device;
        Ok(metadata)
    }

    fn check_missing(&self, name: &str) -> Result<()> {
        match self.find(name) {
            Ok(_) => Err(Errno::Exist),
            Err(Errno::Noent) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn times_of(metadata: &Metadata) -> Times {
    Times {
        accessed: Some(metadata.accessed),
        modified: Some(metadata.modified),
    }
}

fn open_file(directory: &dyn Directory, name: &str, options: OpenOptions) -> Result<Arc<dyn File>> {
    match directory.open(name, false, options)? {
        Opened::File(file, _) => Ok(file),
        Opened::Directory(_) => Err(Errno::Isdir),
    }
}

fn copy(from: &dyn Directory, to: &dyn Directory, name: &str, with_contents: bool) -> Result<()> {
    let new = OpenOptions {
        write: true,
        create: true,
        exclusive: true,
        ..OpenOptions::default()
    };
    let target = open_file(to, name, new)?;
    if !with_contents {
        return Ok(());
    }
    let read = OpenOptions {
        read: true,
        ..OpenOptions::default()
    };
    let source = open_file(from, name, read)?;
    let mut buffer = vec![0; COPY_CHUNK];
    let mut position = 0;
    loop {
        let count = source.read_at(&mut buffer, position)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        target.write_at(bytes, position)?;
        position += count as u64;
    }
}

/// A file of the overlay: the file itself, with the numbers that the overlay shows.
struct OverlayFile {
    file: Arc<dyn File>,
    device: u64,
    upper: bool,
}

impl OverlayDirectory {
    fn same_overlay<'a>(&self, other: &'a dyn Directory) -> Result<&'a Arc<Node>> {
        let other: &OverlayDirectory = other.as_any().downcast_ref().ok_or(Errno::Xdev)?;
        if Arc::ptr_eq(&self.0.overlay, &other.0.overlay) {
            Ok(&other.0)
        } else {
            Err(Errno::Xdev)
        }
    }

    fn opened(&self, opened: Opened, upper: bool) -> Result<Opened> {
        match opened {
            Opened::File(file, file_type) => {
                let file = OverlayFile {
                    file,
                    device: self.0.overlay.device,
                    upper,
                };
                Ok(Opened::File(Arc::new(file), file_type))
            }
            Opened::Directory(_) => Err(Errno::Isdir),
        }
    }

    /// Makes something in the upper directory.
    fn create(&self, name: &str, make: impl FnOnce(&MemoryDirectory) -> Result<()>) -> Result<()> {
        let _names = lock(&self.0.overlay.names);
        self.0.check_missing(name)?;
        make(&*self.0.ensure_upper()?)
    }
}

impl Directory for OverlayDirectory {
    fn metadata(&self) -> Result<Metadata> {
        self.0.metadata()
    }

    fn lookup(&self, name: &str) -> Result<Lookup> {
        let found = self.0.find(name)?;
        Ok(match (found.file_type(), found) {
            (FileType::Directory, _) => {
                Lookup::Directory(Arc::new(OverlayDirectory(self.0.child(name)?)))
            }
            (FileType::SymbolicLink, Found::Upper(upper, _)) => {
                Lookup::Link(upper.read_link(name)?)
            }
            (FileType::SymbolicLink, Found::Lower(lower, _)) => {
                Lookup::Link(lower.read_link(name)?)
            }
            _ => Lookup::Other,
        })
    }

    fn entry_metadata(&self, name: &str, _follow: bool) -> Result<Metadata> {
        self.0.entry_metadata(name)
    }

    fn open(&self, name: &str, _follow: bool, options: OpenOptions) -> Result<Opened> {
        let changes = options.write || options.truncate;
        let found = match self.0.find(name) {
            Err(Errno::Noent) if options.create => {
                let _names = lock(&self.0.overlay.names);
                let upper = self.0.ensure_upper()?;
                return self.opened(upper.open(name, false, options)?, true);
            }
            found => found?,
        };
        if options.create && options.exclusive {
            return Err(Errno::Exist);
        }
        match (found.file_type(), found) {
            (FileType::Directory, _) if changes || options.create => Err(Errno::Isdir),
            (FileType::Directory, _) => Ok(Opened::Directory(Arc::new(OverlayDirectory(
                self.0.child(name)?,
            )))),
            (FileType::SymbolicLink, _) => Err(Errno::Loop),
            (_, Found::Lower(lower, _)) if !changes => {
                let options = OpenOptions {
                    create: false,
                    ..options
                };
                self.opened(lower.open(name, false, options)?, false)
            }
            _ => {
                let _names = lock(&self.0.overlay.names);
                let upper = if changes {
                    self.0.copy_up(name, !options.truncate)?
                } else {
                    self.0.ensure_upper()?
                };
                self.opened(upper.open(name, false, options)?, true)
            }
        }
    }

    fn entries(&self) -> Result<Vec<DirectoryEntry>> {
        self.0.entries()
    }

    fn read_link(&self, name: &str) -> Result<String> {
        match self.0.find(name)? {
            Found::Upper(upper, _) => upper.read_link(name),
            Found::Lower(lower, _) => lower.read_link(name),
        }
    }

    fn create_directory(&self, name: &str) -> Result<()> {
        // A lower directory of this name can only be hidden, and stays so: the new one is empty.
        self.create(name, |upper| upper.create_directory(name))
    }

    fn remove_directory(&self, name: &str) -> Result<()> {
        let _names = lock(&self.0.overlay.names);
        if self.0.find(name)?.file_type() != FileType::Directory {
            return Err(Errno::Notdir);
        }
        let child = self.0.child(name)?;
        if !child.entries()?.is_empty() {
            return Err(Errno::Notempty);
        }
        // To hide a name, this directory must not disappear itself: it exists above from now on.
        let upper = self.0.ensure_upper()?;
        match upper.remove_directory(name) {
            Ok(()) | Err(Errno::Noent) => {}
            Err(error) => return Err(error),
        }
        self.0.hide(name);
        lock(&self.0.state).children.remove(name);
        let mut state = lock(&child.state);
        state.removed = true;
        state.parent = None;
        Ok(())
    }

    fn unlink(&self, name: &str) -> Result<()> {
        let _names = lock(&self.0.overlay.names);
        match self.0.find(name)? {
            found if found.file_type() == FileType::Directory => return Err(Errno::Isdir),
            Found::Upper(upper, _) => upper.unlink(name)?,
            Found::Lower(..) => {
                self.0.ensure_upper()?;
            }
        }
        self.0.hide(name);
        Ok(())
    }

    fn create_link(&self, target: &str, name: &str, absolute_allowed: bool) -> Result<()> {
        self.create(name, |upper| {
            upper.create_link(target, name, absolute_allowed)
        })
    }

    fn rename(&self, name: &str, to: &dyn Directory, new_name: &str) -> Result<()> {
        let to = self.same_overlay(to)?;
        let _names = lock(&self.0.overlay.names);
        let from_type = self.0.find(name)?.file_type();
        let to_type = match to.find(new_name) {
            Ok(found) => Some(found.file_type()),
            Err(Errno::Noent) => None,
            Err(error) => return Err(error),
        };
        let is_directory = from_type == FileType::Directory;
        match to_type {
            Some(FileType::Directory) if !is_directory => return Err(Errno::Isdir),
            Some(other) if is_directory && other != FileType::Directory => {
                return Err(Errno::Notdir);
            }
            _ => {}
        }
        let same_place = Arc::ptr_eq(&self.0, to) && name == new_name;
        if same_place {
            return Ok(());
        }
        let upper = if is_directory {
            let child = self.0.child(name)?;
            let mut above = Some(to.clone());
            while let Some(node) = above {
                if Arc::ptr_eq(&node, &child) {
                    return Err(Errno::Inval);
                }
                let parent = lock(&node.state).parent.clone();
                above = parent.and_then(|(parent, _)| parent.upgrade());
            }
            if child.lower.is_some() {
                return Err(Errno::Xdev);
            }
            if to_type.is_some() && !to.child(new_name)?.entries()?.is_empty() {
                return Err(Errno::Notempty);
            }
            self.0.ensure_upper()?
        } else {
            self.0.copy_up(name, true)?
        };
        let to_upper = to.ensure_upper()?;
        upper.rename(name, &*to_upper, new_name)?;
        let moved = lock(&self.0.state).children.remove(name);
        let replaced = {
            let mut state = lock(&to.state);
            let replaced = state.children.remove(new_name);
            if let Some(moved) = &moved {
                state.children.insert(new_name.to_owned(), moved.clone());
            }
            replaced
        };
        if let Some(moved) = moved {
            lock(&moved.state).parent = Some((Arc::downgrade(to), new_name.to_owned()));
        }
        if let Some(replaced) = replaced {
            let mut state = lock(&replaced.state);
            state.removed = true;
            state.parent = None;
        }
        self.0.hide(name);
        if is_directory {
            // What was below the target's name must not show through.
            to.hide(new_name);
        }
        Ok(())
    }

    fn hard_link(&self, name: &str, to: &dyn Directory, new_name: &str) -> Result<()> {
        let to = self.same_overlay(to)?;
        let _names = lock(&self.0.overlay.names);
        if self.0.find(name)?.file_type() == FileType::Directory {
            return Err(Errno::Perm);
        }
        to.check_missing(new_name)?;
        let upper = self.0.copy_up(name, true)?;
        let to_upper = to.ensure_upper()?;
        upper.hard_link(name, &*to_upper, new_name)
    }

    fn set_entry_times(&self, name: &str, _follow: bool, times: Times) -> Result<()> {
        let _names = lock(&self.0.overlay.names);
        if self.0.find(name)?.file_type() == FileType::Directory {
            return self.0.child(name)?.ensure_upper()?.set_times(times);
        }
        let upper = self.0.copy_up(name, true)?;
        upper.set_entry_times(name, false, times)
    }

    fn set_times(&self, times: Times) -> Result<()> {
        let _names = lock(&self.0.overlay.names);
        self.0.ensure_upper()?.set_times(times)
    }

    fn set_clock(&self, clock: &Clock) {
        if let Some(upper) = self.0.upper() {
            upper.set_clock(clock);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl File for OverlayFile {
    fn metadata(&self) -> Result<Metadata> {
        let mut metadata = self.file.metadata()?;
        metadata.device = self.device;
        if self.upper {
            metadata.inode |= UPPER_INODE;
        }
        Ok(metadata)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, buffer: &[u8], position: u64) -> Result<usize> {
        if self.upper {
            self.file.write_at(buffer, position)
        } else {
            Err(Errno::Rofs)
        }
    }

    fn set_size(&self, size: u64) -> Result<()> {
        if self.upper {
            self.file.set_size(size)
        } else {
            Err(Errno::Rofs)
        }
    }

    fn set_times(&self, times: Times) -> Result<()> {
        if self.upper {
            self.file.set_times(times)
        } else {
            Err(Errno::Rofs)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fs::Mount;

    const READ: OpenOptions = OpenOptions {
        read: true,
        write: false,
        create: false,
        exclusive: false,
        truncate: false,
    };
    const CREATE: OpenOptions = OpenOptions {
        read: true,
        write: true,
        create: true,
        exclusive: false,
        truncate: false,
    };

    fn put(directory: &dyn Directory, name: &str, contents: &[u8]) {
        let options = OpenOptions {
            truncate: true,
            ..CREATE
        };
        let file = open_file(directory, name, options).unwrap();
        assert_eq!(file.write_at(contents, 0), Ok(contents.len()));
    }

    fn get(directory: &dyn Directory, name: &str) -> Result<Vec<u8>> {
        let mut buffer = vec![0; 1000];
        let count = open_file(directory, name, READ)?.read_at(&mut buffer, 0)?;
        buffer.truncate(count);
        Ok(buffer)
    }

    fn enter(directory: &dyn Directory, name: &str) -> Arc<dyn Directory> {
        match directory.lookup(name) {
            Ok(Lookup::Directory(directory)) => directory,
            _ => panic!("{name} is no directory"),
        }
    }

    fn names(directory: &dyn Directory) -> Vec<String> {
        let mut names: Vec<_> = directory
            .entries()
            .unwrap()
            .into_iter()
            .map(|e| e.name)
            .collect();
        names.sort();
        names
    }

    /// A lower tree with `dir/inner/deep`, `dir/file`, `file` and `link`, and an overlay on it.
    fn overlay() -> (Arc<dyn Directory>, Arc<dyn Directory>) {
        let lower = Mount::memory().root;
        lower.create_directory("dir").unwrap();
        let dir = enter(&*lower, "dir");
        dir.create_directory("inner").unwrap();
        put(&*enter(&*dir, "inner"), "deep", b"deep");
        put(&*dir, "file", b"in dir");
        put(&*lower, "file", b"lower");
        lower.create_link("file", "link", false).unwrap();
        let upper = tree(lower.clone(), 1 << 20);
        (lower, upper)
    }

    #[test]
    fn changes_are_seen_above_and_never_below() {
        let (lower, upper) = overlay();
        let before = upper.entry_metadata("file", false).unwrap();
        put(&*upper, "file", b"upper");
        put(&*upper, "new", b"new");
        let dir = enter(&*upper, "dir");
        let inner = enter(&*dir, "inner");
        let file = open_file(&*inner, "deep", CREATE).unwrap();
        assert_eq!(file.write_at(b"E", 1), Ok(1));
        upper.rename("link", &*dir, "moved").unwrap();
        dir.unlink("file").unwrap();
        assert_eq!(get(&*upper, "file").unwrap(), b"upper");
        assert_eq!(get(&*inner, "deep").unwrap(), b"dEep");
        assert_eq!(names(&*upper), ["dir", "file", "new"]);
        assert_eq!(names(&*dir), ["inner", "moved"]);
        assert_eq!(dir.read_link("moved").unwrap(), "file");
        assert_eq!(
            upper.entry_metadata("file", false).unwrap().device,
            before.device
        );
        assert_eq!(names(&*lower), ["dir", "file", "link"]);
        assert_eq!(get(&*lower, "file").unwrap(), b"lower");
        let below = enter(&*lower, "dir");
        assert_eq!(names(&*below), ["file", "inner"]);
        assert_eq!(get(&*enter(&*below, "inner"), "deep").unwrap(), b"deep");
    }

    #[test]
    fn a_removed_name_stays_removed_and_a_new_directory_is_empty() {
        let (_, upper) = overlay();
        let dir = enter(&*upper, "dir");
        assert_eq!(upper.remove_directory("dir"), Err(Errno::Notempty));
        dir.unlink("file").unwrap();
        assert_eq!(dir.unlink("file"), Err(Errno::Noent));
        enter(&*dir, "inner").unlink("deep").unwrap();
        dir.remove_directory("inner").unwrap();
        upper.remove_directory("dir").unwrap();
        assert_eq!(names(&*upper), ["file", "link"]);
        assert!(matches!(upper.lookup("dir"), Err(Errno::Noent)));
        // Nothing can be made through the old handle.
        assert_eq!(dir.create_directory("late"), Err(Errno::Noent));
        upper.create_directory("dir").unwrap();
        assert_eq!(names(&*enter(&*upper, "dir")), Vec::<String>::new());
        upper.unlink("file").unwrap();
        put(&*upper, "file", b"again");
        upper.unlink("file").unwrap();
        assert_eq!(get(&*upper, "file"), Err(Errno::Noent));
    }

    #[test]
    fn a_file_is_copied_with_its_bytes_and_times_when_it_is_written() {
        let (lower, upper) = overlay();
        let times = Times {
            accessed: Some(1_000),
            modified: Some(2_000),
        };
        lower.set_entry_times("file", false, times).unwrap();
        let reader = open_file(&*upper, "file", READ).unwrap();
        upper.hard_link("file", &*upper, "second").unwrap();
        let second = upper.entry_metadata("second", false).unwrap();
        assert_eq!((second.modified, second.links, second.size), (2_000, 2, 5));
        let metadata = upper.entry_metadata("file", false).unwrap();
        assert_eq!(metadata, second);
        // A handle from before the copy cannot write, and shows the old bytes.
        assert_eq!(reader.write_at(b"x", 0), Err(Errno::Rofs));
        put(&*upper, "second", b"changed");
        let mut buffer = [0; 10];
        assert_eq!(reader.read_at(&mut buffer, 0), Ok(5));
        assert_eq!(get(&*upper, "file").unwrap(), b"changed");
    }

    #[test]
    fn directories_from_below_are_not_renamed_but_new_ones_are() {
        let (_, upper) = overlay();
        assert_eq!(upper.rename("dir", &*upper, "x"), Err(Errno::Xdev));
        upper.create_directory("new").unwrap();
        let new = enter(&*upper, "new");
        put(&*new, "file", b"here");
        assert_eq!(upper.rename("new", &*new, "inside"), Err(Errno::Inval));
        let dir = enter(&*upper, "dir");
        upper.rename("new", &*dir, "moved").unwrap();
        put(&*new, "later", b"");
        assert_eq!(names(&*enter(&*dir, "moved")), ["file", "later"]);
        assert_eq!(upper.rename("file", &*dir, "moved"), Err(Errno::Isdir));
        assert_eq!(dir.rename("moved", &*upper, "file"), Err(Errno::Notdir));
        assert_eq!(dir.rename("moved", &*dir, "inner"), Err(Errno::Notempty));
        // Over an emptied directory from below: what was there stays hidden.
        let inner = enter(&*dir, "inner");
        inner.unlink("deep").unwrap();
        dir.rename("moved", &*dir, "inner").unwrap();
        assert_eq!(names(&*enter(&*dir, "inner")), ["file", "later"]);
        assert_eq!(names(&*dir), ["file", "inner"]);
    }

    #[test]
    fn a_full_quota_leaves_the_lower_file_visible() {
        let lower = Mount::memory().root;
        put(&*lower, "big", &[1; 5000]);
        let upper = tree(lower, 2000);
        assert_eq!(open_file(&*upper, "big", CREATE).err(), Some(Errno::Nospc));
        assert_eq!(upper.entry_metadata("big", false).unwrap().size, 5000);
        let mut buffer = [0; 8];
        assert_eq!(
            open_file(&*upper, "big", READ)
                .unwrap()
                .read_at(&mut buffer, 0),
            Ok(8)
        );
    }
}
