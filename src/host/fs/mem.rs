//! A tree in memory, with a quota.
//!
//! Nodes are shared by reference counts: a file that was removed lives as long as it is open, as on any Unix. The bytes of
//! a node go back to the quota when the node goes. One lock per tree orders all changes of names; a node's own lock is held
//! only while its fields are read or written, never while another one is taken.

#![forbid(unsafe_code)]

use super::{
    Directory, DirectoryEntry, File, FileType, Lookup, Metadata, OpenOptions, Opened, Times,
    new_device,
};
use crate::host::clock::{Clock, nanoseconds};
use crate::host::errno::{Errno, Result};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

/// Quota of a tree unless told otherwise.
pub(crate) const DEFAULT_QUOTA: u64 = 256 << 20;

/// What a node costs beside its contents, and a name beside its bytes. An estimate that keeps a guest from filling the host
/// with empty files.
const NODE_COST: u64 = 256;

/// What all nodes of a tree share.
struct Tree {
    device: u64,
    next_inode: AtomicU64,
    /// Bytes that may still be used.
    free: AtomicU64,
    clock: OnceLock<Clock>,
    /// Held while names change.
    names: Mutex<()>,
}

struct Node {
    tree: Arc<Tree>,
    inode: u64,
    state: Mutex<State>,
}

struct State {
    body: Body,
    links: u64,
    accessed: u64,
    modified: u64,
    changed: u64,
    /// Bytes charged to the quota.
    charged: u64,
}

enum Body {
    Directory {
        entries: BTreeMap<String, Arc<Node>>,
        parent: Weak<Node>,
        /// No name leads here any more; nothing can be made inside.
        removed: bool,
    },
    File(Vec<u8>),
    Link(String),
}

/// A directory of a tree in memory.
#[derive(Clone)]
pub(crate) struct MemoryDirectory(Arc<Node>);

struct MemoryFile(Arc<Node>);

/// An empty tree.
pub(crate) fn tree(quota: u64) -> Arc<MemoryDirectory> {
    let tree = Arc::new(Tree {
        device: new_device(),
        next_inode: AtomicU64::new(1),
        free: AtomicU64::new(quota),
        clock: OnceLock::new(),
        names: Mutex::new(()),
    });
    Arc::new(MemoryDirectory(Node::build(
        &tree,
        directory(Weak::new()),
        0,
    )))
}

fn directory(parent: Weak<Node>) -> Body {
    Body::Directory {
        entries: BTreeMap::new(),
        parent,
        removed: false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks; if it did, the fields would still be whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tree {
    fn now(&self) -> u64 {
        match self.clock.get() {
            Some(clock) => clock.realtime(),
            None => nanoseconds(SystemTime::now()),
        }
    }

    fn charge(&self, bytes: u64) -> Result<()> {
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                free.checked_sub(bytes)
            })
            .map(|_| ())
            .map_err(|_| Errno::Nospc)
    }

    fn refund(&self, bytes: u64) {
        self.free.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.tree.refund(state.charged);
        // Deep trees must not be dropped by recursion.
        let mut pending = Vec::new();
        if let Body::Directory { entries, .. } = &mut state.body {
            pending.extend(std::mem::take(entries).into_values());
        }
        while let Some(node) = pending.pop() {
            if Arc::strong_count(&node) == 1
                && let Body::Directory { entries, .. } = &mut lock(&node.state).body
            {
                pending.extend(std::mem::take(entries).into_values());
            }
        }
    }
}

impl Node {
    fn build(tree: &Arc<Tree>, body: Body, charged: u64) -> Arc<Node> {
        let now = tree.now();
        let links = match body {
            Body::Directory { .. } => 2,
            _ => 1,
        };
        Arc::new(Node {
            tree: tree.clone(),
            inode: tree.next_inode.fetch_add(1, Ordering::Relaxed),
            state: Mutex::new(State {
                body,
                links,
                accessed: now,
                modified: now,
                changed: now,
                charged,
            }),
        })
    }

    fn metadata(&self) -> Metadata {
        let state = lock(&self.state);
        let (file_type, size) = match &state.body {
            Body::Directory { entries, .. } => (FileType::Directory, entries.len() as u64),
            Body::File(bytes) => (FileType::RegularFile, bytes.len() as u64),
            Body::Link(target) => (FileType::SymbolicLink, target.len() as u64),
        };
        Metadata {
            device: self.tree.device,
            inode: self.inode,
            file_type,
            links: state.links,
            size,
            accessed: state.accessed,
            modified: state.modified,
            changed: state.changed,
        }
    }

    fn file_type(&self) -> FileType {
        match lock(&self.state).body {
            Body::Directory { .. } => FileType::Directory,
            Body::File(_) => FileType::RegularFile,
            Body::Link(_) => FileType::SymbolicLink,
        }
    }

    fn set_times(&self, times: Times) {
        let now = self.tree.now();
        let mut state = lock(&self.state);
        state.accessed = times.accessed.unwrap_or(state.accessed);
        state.modified = times.modified.unwrap_or(state.modified);
        state.changed = now;
    }

    fn change_links(&self, by: i64) {
        let now = self.tree.now();
        let mut state = lock(&self.state);
        state.links = state.links.saturating_add_signed(by);
        state.changed = now;
    }

    fn is_empty_directory(&self) -> bool {
        matches!(&lock(&self.state).body, Body::Directory { entries, .. } if entries.is_empty())
    }

    fn mark_removed(&self) {
        let mut state = lock(&self.state);
        if let Body::Directory { removed, .. } = &mut state.body {
            *removed = true;
        }
        state.links = 0;
    }

    fn set_parent(&self, to: &Arc<Node>) {
        if let Body::Directory { parent, .. } = &mut lock(&self.state).body {
            *parent = Arc::downgrade(to);
        }
    }

    /// Whether `self` is `other` or lies somewhere below it. The tree's lock is held.
    fn is_inside(self: &Arc<Node>, other: &Arc<Node>) -> bool {
        let mut node = self.clone();
        loop {
            if Arc::ptr_eq(&node, other) {
                return true;
            }
            let parent = match &lock(&node.state).body {
                Body::Directory { parent, .. } => parent.upgrade(),
                _ => None,
            };
            match parent {
                Some(parent) => node = parent,
                None => return false,
            }
        }
    }

    fn entry(&self, name: &str) -> Result<Arc<Node>> {
        match &lock(&self.state).body {
            Body::Directory { entries, .. } => entries.get(name).cloned().ok_or(Errno::Noent),
            _ => Err(Errno::Notdir),
        }
    }

    /// Adds or replaces a name. The tree's lock is held.
    fn insert(&self, name: &str, node: Arc<Node>) -> Result<()> {
        let now = self.tree.now();
        let mut state = lock(&self.state);
        let Body::Directory {
            entries, removed, ..
        } = &mut state.body
        else {
            return Err(Errno::Notdir);
        };
        if *removed {
            return Err(Errno::Noent);
        }
        // Names are charged to the directory for as long as it exists, so a rename cannot fail half-way for space.
        if !entries.contains_key(name) {
            let cost = NODE_COST + name.len() as u64;
            self.tree.charge(cost)?;
            entries.insert(name.to_owned(), node);
            state.charged += cost;
        } else {
            entries.insert(name.to_owned(), node);
        }
        state.modified = now;
        state.changed = now;
        Ok(())
    }

    /// Removes a name. The tree's lock is held.
    fn remove(&self, name: &str) {
        let now = self.tree.now();
        let mut state = lock(&self.state);
        let Body::Directory { entries, .. } = &mut state.body else {
            return;
        };
        let removed = entries.remove(name);
        if removed.is_some() {
            let cost = NODE_COST + name.len() as u64;
            state.charged = state.charged.saturating_sub(cost);
            self.tree.refund(cost);
        }
        state.modified = now;
        state.changed = now;
        drop(state);
        // The node may be the last reference to a whole tree: dropped without the lock.
        drop(removed);
    }

    /// Changes the bytes of a file to this length, charging the difference.
    fn resize(tree: &Tree, bytes: &mut Vec<u8>, charged: &mut u64, size: u64) -> Result<()> {
        let length = usize::try_from(size).map_err(|_| Errno::Fbig)?;
        if length > bytes.len() {
            let more = length - bytes.len();
            tree.charge(more as u64)?;
            if bytes.try_reserve(more).is_err() {
                tree.refund(more as u64);
                return Err(Errno::Nospc);
            }
            bytes.resize(length, 0);
            *charged += more as u64;
        } else {
            let less = (bytes.len() - length) as u64;
            bytes.truncate(length);
            if bytes.capacity() / 4 > length {
                bytes.shrink_to(length);
            }
            *charged = charged.saturating_sub(less);
            tree.refund(less);
        }
        Ok(())
    }
}

impl MemoryDirectory {
    /// The directory of that name.
    pub(crate) fn subdirectory(&self, name: &str) -> Result<MemoryDirectory> {
        let node = self.0.entry(name)?;
        if node.file_type() == FileType::Directory {
            Ok(MemoryDirectory(node))
        } else {
            Err(Errno::Notdir)
        }
    }

    fn create(&self, name: &str, body: Body) -> Result<Arc<Node>> {
        let _names = lock(&self.0.tree.names);
        if self.0.entry(name).is_ok() {
            return Err(Errno::Exist);
        }
        let extra = match &body {
            Body::Link(target) => target.len() as u64,
            _ => 0,
        };
        self.0.tree.charge(extra)?;
        let node = Node::build(&self.0.tree, body, extra);
        self.0.insert(name, node.clone())?;
        Ok(node)
    }

    fn same_tree<'a>(&self, other: &'a dyn Directory) -> Result<&'a MemoryDirectory> {
        let other: &MemoryDirectory = other.as_any().downcast_ref().ok_or(Errno::Xdev)?;
        if Arc::ptr_eq(&self.0.tree, &other.0.tree) {
            Ok(other)
        } else {
            Err(Errno::Xdev)
        }
    }
}

impl Directory for MemoryDirectory {
    fn metadata(&self) -> Result<Metadata> {
        Ok(self.0.metadata())
    }

    fn lookup(&self, name: &str) -> Result<Lookup> {
        let node = self.0.entry(name)?;
        let state = lock(&node.state);
        Ok(match &state.body {
            Body::Link(target) => Lookup::Link(target.clone()),
            Body::File(_) => Lookup::Other,
            Body::Directory { .. } => {
                drop(state);
                Lookup::Directory(Arc::new(MemoryDirectory(node)))
            }
        })
    }

    fn entry_metadata(&self, name: &str, _follow: bool) -> Result<Metadata> {
        Ok(self.0.entry(name)?.metadata())
    }

    fn open(&self, name: &str, _follow: bool, options: OpenOptions) -> Result<Opened> {
        let node = match self.0.entry(name) {
            Ok(_) if options.create && options.exclusive => return Err(Errno::Exist),
            Ok(node) => node,
            Err(Errno::Noent) if options.create => {
                match self.create(name, Body::File(Vec::new())) {
                    Ok(node) => node,
                    // Another thread was faster.
                    Err(Errno::Exist) if !options.exclusive => self.0.entry(name)?,
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        match node.file_type() {
            FileType::Directory if options.write || options.truncate || options.create => {
                Err(Errno::Isdir)
            }
            FileType::Directory => Ok(Opened::Directory(Arc::new(MemoryDirectory(node)))),
            FileType::SymbolicLink => Err(Errno::Loop),
            _ => {
                let file = MemoryFile(node);
                if options.truncate {
                    file.set_size(0)?;
                }
                Ok(Opened::File(Arc::new(file), FileType::RegularFile))
            }
        }
    }

    fn entries(&self) -> Result<Vec<DirectoryEntry>> {
        let nodes: Vec<(String, Arc<Node>)> = match &lock(&self.0.state).body {
            Body::Directory { entries, .. } => entries
                .iter()
                .map(|(name, node)| (name.clone(), node.clone()))
                .collect(),
            _ => return Err(Errno::Notdir),
        };
        Ok(nodes
            .into_iter()
            .map(|(name, node)| DirectoryEntry {
                name,
                inode: node.inode,
                file_type: node.file_type(),
            })
            .collect())
    }

    fn read_link(&self, name: &str) -> Result<String> {
        match &lock(&self.0.entry(name)?.state).body {
            Body::Link(target) => Ok(target.clone()),
            _ => Err(Errno::Inval),
        }
    }

    fn create_directory(&self, name: &str) -> Result<()> {
        self.create(name, directory(Arc::downgrade(&self.0)))?;
        Ok(())
    }

    fn remove_directory(&self, name: &str) -> Result<()> {
        let _names = lock(&self.0.tree.names);
        let node = self.0.entry(name)?;
        if node.file_type() != FileType::Directory {
            return Err(Errno::Notdir);
        }
        if !node.is_empty_directory() {
            return Err(Errno::Notempty);
        }
        node.mark_removed();
        self.0.remove(name);
        Ok(())
    }

    fn unlink(&self, name: &str) -> Result<()> {
        let _names = lock(&self.0.tree.names);
        let node = self.0.entry(name)?;
        if node.file_type() == FileType::Directory {
            return Err(Errno::Isdir);
        }
        self.0.remove(name);
        node.change_links(-1);
        Ok(())
    }

    fn create_link(&self, target: &str, name: &str, absolute_allowed: bool) -> Result<()> {
        if target.starts_with('/') && !absolute_allowed {
            return Err(Errno::Perm);
        }
        self.create(name, Body::Link(target.to_owned()))?;
        Ok(())
    }

    fn rename(&self, name: &str, to: &dyn Directory, new_name: &str) -> Result<()> {
        let to = self.same_tree(to)?;
        let _names = lock(&self.0.tree.names);
        let node = self.0.entry(name)?;
        let is_directory = node.file_type() == FileType::Directory;
        if is_directory && to.0.is_inside(&node) {
            return Err(Errno::Inval);
        }
        let replaced = match to.0.entry(new_name) {
            Ok(replaced) => Some(replaced),
            Err(Errno::Noent) => None,
            Err(error) => return Err(error),
        };
        if let Some(replaced) = &replaced {
            if Arc::ptr_eq(replaced, &node) {
                return Ok(());
            }
            let replaces_directory = replaced.file_type() == FileType::Directory;
            match (is_directory, replaces_directory) {
                (true, false) => return Err(Errno::Notdir),
                (false, true) => return Err(Errno::Isdir),
                (true, true) if !replaced.is_empty_directory() => return Err(Errno::Notempty),
                _ => {}
            }
        }
        to.0.insert(new_name, node.clone())?;
        self.0.remove(name);
        node.set_parent(&to.0);
        node.change_links(0);
        if let Some(replaced) = replaced {
            if is_directory {
                replaced.mark_removed();
            } else {
                replaced.change_links(-1);
            }
        }
        Ok(())
    }

    fn hard_link(&self, name: &str, to: &dyn Directory, new_name: &str) -> Result<()> {
        let to = self.same_tree(to)?;
        let _names = lock(&self.0.tree.names);
        let node = self.0.entry(name)?;
        if node.file_type() == FileType::Directory {
            return Err(Errno::Perm);
        }
        if to.0.entry(new_name).is_ok() {
            return Err(Errno::Exist);
        }
        to.0.insert(new_name, node.clone())?;
        node.change_links(1);
        Ok(())
    }

    fn set_entry_times(&self, name: &str, _follow: bool, times: Times) -> Result<()> {
        self.0.entry(name)?.set_times(times);
        Ok(())
    }

    fn set_times(&self, times: Times) -> Result<()> {
        self.0.set_times(times);
        Ok(())
    }

    fn set_clock(&self, clock: &Clock) {
        if self.0.tree.clock.set(clock.clone()).is_ok() {
            let now = clock.realtime();
            let mut state = lock(&self.0.state);
            state.accessed = now;
            state.modified = now;
            state.changed = now;
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl File for MemoryFile {
    fn metadata(&self) -> Result<Metadata> {
        Ok(self.0.metadata())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<usize> {
        let state = lock(&self.0.state);
        let Body::File(bytes) = &state.body else {
            return Err(Errno::Io);
        };
        let rest = usize::try_from(position)
            .ok()
            .and_then(|start| bytes.get(start..))
            .unwrap_or_default();
        let (to, from) = match buffer.get_mut(..rest.len()) {
            Some(to) => (to, rest),
            None => {
                let length = buffer.len();
                (buffer, rest.get(..length).unwrap_or_default())
            }
        };
        to.copy_from_slice(from);
        Ok(from.len())
    }

    fn write_at(&self, buffer: &[u8], position: u64) -> Result<usize> {
        let now = self.0.tree.now();
        let mut state = lock(&self.0.state);
        let State { body, charged, .. } = &mut *state;
        let Body::File(bytes) = body else {
            return Err(Errno::Io);
        };
        let end = position
            .checked_add(buffer.len() as u64)
            .ok_or(Errno::Fbig)?;
        if end > bytes.len() as u64 {
            Node::resize(&self.0.tree, bytes, charged, end)?;
        }
        let start = usize::try_from(position).map_err(|_| Errno::Fbig)?;
        let range = start..start + buffer.len();
        bytes
            .get_mut(range)
            .ok_or(Errno::Fbig)?
            .copy_from_slice(buffer);
        state.modified = now;
        state.changed = now;
        Ok(buffer.len())
    }

    fn set_size(&self, size: u64) -> Result<()> {
        let now = self.0.tree.now();
        let mut state = lock(&self.0.state);
        let State { body, charged, .. } = &mut *state;
        let Body::File(bytes) = body else {
            return Err(Errno::Io);
        };
        Node::resize(&self.0.tree, bytes, charged, size)?;
        state.modified = now;
        state.changed = now;
        Ok(())
    }

    fn set_times(&self, times: Times) -> Result<()> {
        self.0.set_times(times);
        Ok(())
    }
}
