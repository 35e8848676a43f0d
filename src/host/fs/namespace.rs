//! The mounts of a process as one tree, and the walk along a path.
//!
//! A walk starts at a directory and keeps the directories that it passed on a stack. `..` goes back on that stack, so it
//! can never leave the place where the walk began; a link is replaced by what it says and walked like any path. No
//! backend ever sees `..`, and no string is compared to decide what lies where.
//!
//! Where a backend resolves paths itself (a host directory, by one system call) and nothing is mounted inside it, the rest
//! of the path is handed over as it is. If a link in it leads out of the backend, the answer is `Notcapable`, and the
//! walk is repeated step by step: then links lead to other mounts, as on any Unix, or nowhere.

#![forbid(unsafe_code)]

use super::{
    Directory, DirectoryEntry, FileType, Lookup, Metadata, Mount, NAME_LIMIT, OpenOptions, Opened,
};
use crate::host::errno::{Errno, Result};
use crate::host::guest::PATH_LIMIT;
use smallvec::SmallVec;
use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Most symbolic links of one walk (`MAXSYMLINKS` of Linux).
const LINK_LIMIT: u32 = 40;

/// Most directories below each other in one walk; longer ones exist in no path that fits in [`PATH_LIMIT`],
/// but links could pile them up.
const DEPTH_LIMIT: usize = 1024;

/// The mounts of a process.
pub(crate) struct Namespace {
    /// Node 0 is `/`. Nodes lie on the way to a mount point or are one.
    nodes: Vec<Node>,
    mounts: Vec<MountPoint>,
}

#[derive(Default)]
struct Node {
    children: BTreeMap<String, usize>,
    mount: Option<usize>,
    /// The directory on which the way to the mount points leads, once it was found. Like the system's, it is held as long as
    /// they are mounted, so the way is not looked up again and again.
    held: OnceLock<Arc<dyn Directory>>,
}

struct MountPoint {
    root: Arc<dyn Directory>,
    read_only: bool,
    /// Another mount lies inside.
    has_mounts_inside: bool,
}

/// A directory and where it lies.
#[derive(Clone)]
pub(crate) struct Place {
    pub directory: Arc<dyn Directory>,
    /// Number of its mount; `None` for directories that exist only because something is mounted below.
    mount: Option<usize>,
    /// Its node, if mount points lie here or below.
    node: Option<usize>,
}

/// What to do with a link at the end of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Follow {
    /// Follow it.
    Yes,
    /// Take the link itself, unless a `/` at the end asks for what it leads to.
    No,
    /// Take the link itself: for operations on names, such as removing one.
    Never,
}

/// Where a path leads.
pub(crate) enum Target {
    /// A directory that is known: the path ended in `.` or `..`, at a mount point, or passed through it.
    Directory {
        place: Place,
        /// The last component was `.` or `..`, or the path was `/`.
        dot: bool,
    },
    /// A name in a directory. It may not exist.
    Entry {
        parent: Place,
        name: String,
        /// The backend follows a link at the end.
        follow: bool,
        /// The path ended in `/`: only a directory is meant.
        trailing_slash: bool,
    },
}

enum Step<'a> {
    Current,
    Parent,
    Name(Cow<'a, str>),
}

impl<'a> Step<'a> {
    /// The steps of a path, last first.
    fn of(path: &'a str) -> impl Iterator<Item = Step<'a>> {
        path.rsplit('/').filter_map(|name| match name {
            "" => None,
            "." => Some(Step::Current),
            ".." => Some(Step::Parent),
            _ => Some(Step::Name(Cow::Borrowed(name))),
        })
    }

    fn owned<'b>(self) -> Step<'b> {
        match self {
            Step::Current => Step::Current,
            Step::Parent => Step::Parent,
            Step::Name(name) => Step::Name(Cow::Owned(name.into_owned())),
        }
    }
}

impl Namespace {
    pub fn new() -> Namespace {
        Namespace {
            nodes: vec![Node::default()],
            mounts: Vec::new(),
        }
    }

    /// Adds a mount at a path, which is taken as absolute. `None` if something is mounted there.
    pub fn mount(&mut self, path: &str, mount: &Mount) -> Option<Place> {
        let mut node = 0;
        for name in components(path) {
            let next = self.nodes.len();
            let entry = self.nodes.get_mut(node)?.children.entry(name.to_owned());
            let found = *entry.or_insert(next);
            if found == next {
                self.nodes.push(Node::default());
            }
            node = found;
        }
        let number = self.mounts.len();
        let slot = &mut self.nodes.get_mut(node)?.mount;
        if slot.is_some() {
            return None;
        }
        *slot = Some(number);
        self.mounts.push(MountPoint {
            root: mount.root.clone(),
            read_only: mount.read_only,
            has_mounts_inside: false,
        });
        self.note_mounts_inside(0, None);
        Some(Place {
            directory: mount.root.clone(),
            mount: Some(number),
            node: Some(node),
        })
    }

    fn note_mounts_inside(&mut self, node: usize, outer: Option<usize>) {
        let mut open = vec![(node, outer)];
        while let Some((node, outer)) = open.pop() {
            let Some(Node {
                children, mount, ..
            }) = self.nodes.get(node)
            else {
                continue;
            };
            if let (Some(_), Some(outer)) = (mount, outer)
                && let Some(outer) = self.mounts.get_mut(outer)
            {
                outer.has_mounts_inside = true;
            }
            let outer = mount.or(outer);
            open.extend(children.values().map(|child| (*child, outer)));
        }
    }

    /// The directory `/`: what is mounted there, or one that holds only mount points.
    pub fn root(&self) -> Place {
        self.node_place(0, None)
            .unwrap_or_else(|| Place::synthetic(0))
    }

    /// Whether walks that begin here may restart at `/`: only then absolute links can be followed, and `..` stays.
    pub fn is_root(&self, place: &Place) -> bool {
        place.node == Some(0)
    }

    /// Whether guests may not change what lies in this directory.
    pub fn is_read_only(&self, place: &Place) -> bool {
        match place.mount {
            Some(mount) => self.mounts.get(mount).is_none_or(|mount| mount.read_only),
            None => true,
        }
    }

    /// Whether two directories belong to the same mount.
    pub fn same_mount(&self, one: &Place, other: &Place) -> bool {
        one.mount.is_some() && one.mount == other.mount
    }

    /// All entries of a directory but `.` and `..`, mount points included.
    pub fn entries(&self, place: &Place) -> Result<Vec<DirectoryEntry>> {
        let mut entries = place.directory.entries()?;
        let Some(node) = place.node.and_then(|node| self.nodes.get(node)) else {
            return Ok(entries);
        };
        if node.children.is_empty() {
            return Ok(entries);
        }
        entries.retain(|entry| !node.children.contains_key(&entry.name));
        for (name, child) in &node.children {
            let place = self.node_place(*child, Some((place, name)));
            let inode = place.and_then(|place| place.directory.metadata().ok());
            entries.push(DirectoryEntry {
                name: name.clone(),
                inode: inode.map_or(0, |metadata| metadata.inode),
                file_type: FileType::Directory,
            });
        }
        Ok(entries)
    }

    fn child_node(&self, parent: &Place, name: &str) -> Option<usize> {
        let node = self.nodes.get(parent.node?)?;
        node.children.get(name).copied()
    }

    /// The place of a node: its mount, else the directory that its parent has under that name, else one made up.
    fn node_place(&self, node: usize, parent: Option<(&Place, &str)>) -> Option<Place> {
        let Node { mount, held, .. } = self.nodes.get(node)?;
        if let Some(number) = mount {
            return Some(Place {
                directory: self.mounts.get(*number)?.root.clone(),
                mount: Some(*number),
                node: Some(node),
            });
        }
        let Some((parent, name)) = parent else {
            return Some(Place::synthetic(node));
        };
        if held.get().is_none()
            && let Ok(Lookup::Directory(directory)) = parent.directory.lookup(name)
        {
            let _ = held.set(directory);
        }
        Some(match held.get() {
            Some(directory) => Place {
                directory: directory.clone(),
                mount: parent.mount,
                node: Some(node),
            },
            None => Place::synthetic(node),
        })
    }

    fn may_hand_over(&self, place: &Place) -> bool {
        place.directory.resolves_paths()
            && place
                .mount
                .and_then(|mount| self.mounts.get(mount))
                .is_some_and(|mount| !mount.has_mounts_inside)
    }

    /// Walks from `base` along `path`. `hand_over`: leave paths to backends that resolve them.
    pub fn walk(
        &self,
        base: &Place,
        path: &str,
        follow: Follow,
        hand_over: bool,
    ) -> Result<Target> {
        if path.is_empty() {
            return Err(Errno::Noent);
        }
        if path.len() > PATH_LIMIT as usize {
            return Err(Errno::Nametoolong);
        }
        if path.starts_with('/') {
            return Err(Errno::Perm);
        }
        if path.contains('\0') {
            return Err(Errno::Inval);
        }
        let trailing_slash = path.ends_with('/');
        let follow = match follow {
            Follow::Yes => true,
            Follow::No => trailing_slash,
            Follow::Never => false,
        };

        if hand_over
            && self.may_hand_over(base)
            && let Some(name) = plain_path(path)?
        {
            return Ok(Target::Entry {
                parent: base.clone(),
                name,
                follow,
                trailing_slash,
            });
        }

        // The steps to come, the next one last.
        let mut pending: SmallVec<[Step; 16]> = Step::of(path).collect();
        let mut passed: SmallVec<[Place; 8]> = SmallVec::new();
        let mut current = base.clone();
        let mut links = 0;
        let mut dot = true;
        while let Some(step) = pending.pop() {
            let name = match step {
                Step::Current => {
                    dot = true;
                    continue;
                }
                Step::Parent => {
                    dot = true;
                    match passed.pop() {
                        Some(parent) => current = parent,
                        None if self.is_root(base) => {}
                        None => return Err(Errno::Perm),
                    }
                    continue;
                }
                Step::Name(name) => name,
            };
            dot = false;
            check_name(&name)?;
            if passed.len() >= DEPTH_LIMIT {
                return Err(Errno::Nametoolong);
            }
            if let Some(node) = self.child_node(&current, &name) {
                let place = self
                    .node_place(node, Some((&current, &name)))
                    .ok_or(Errno::Noent)?;
                passed.push(std::mem::replace(&mut current, place));
                continue;
            }
            if hand_over && self.may_hand_over(&current) && is_plain(&pending) {
                let mut rest = name.into_owned();
                while let Some(step) = pending.pop() {
                    if let Step::Name(name) = step {
                        check_name(&name)?;
                        rest.push('/');
                        rest.push_str(&name);
                    }
                }
                return Ok(Target::Entry {
                    parent: current,
                    name: rest,
                    follow,
                    trailing_slash,
                });
            }
            let last = pending.is_empty();
            if last && !follow {
                return Ok(Target::Entry {
                    parent: current,
                    name: name.into_owned(),
                    follow: false,
                    trailing_slash,
                });
            }
            match current.directory.lookup(&name) {
                Ok(Lookup::Directory(directory)) => {
                    let place = Place {
                        directory,
                        mount: current.mount,
                        node: None,
                    };
                    passed.push(std::mem::replace(&mut current, place));
                }
                Ok(Lookup::Link(target)) => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(Errno::Loop);
                    }
                    if target.is_empty() {
                        return Err(Errno::Noent);
                    }
                    if target.starts_with('/') {
                        if !self.is_root(base) {
                            return Err(Errno::Perm);
                        }
                        passed.clear();
                        current = self.root();
                        dot = true;
                    }
                    if pending.len() > PATH_LIMIT as usize {
                        return Err(Errno::Nametoolong);
                    }
                    pending.extend(Step::of(&target).map(Step::owned));
                }
                Ok(Lookup::Other) if !last => return Err(Errno::Notdir),
                Ok(Lookup::Other) => {
                    return Ok(Target::Entry {
                        parent: current,
                        name: name.into_owned(),
                        follow: false,
                        trailing_slash,
                    });
                }
                Err(Errno::Noent) if last => {
                    return Ok(Target::Entry {
                        parent: current,
                        name: name.into_owned(),
                        follow: false,
                        trailing_slash,
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Target::Directory {
            place: current,
            dot,
        })
    }
}

impl Place {
    fn synthetic(node: usize) -> Place {
        Place {
            directory: Arc::new(MountPointDirectory { node }),
            mount: None,
            node: Some(node),
        }
    }

    /// A directory that was opened by name in this place's mount.
    pub fn inside(&self, directory: Arc<dyn Directory>) -> Place {
        Place {
            directory,
            mount: self.mount,
            node: None,
        }
    }
}

/// The names of a path, without `.`, `..` and empty ones. For paths of the embedder, such as mount points.
pub(crate) fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter(|name| !matches!(*name, "" | "." | ".."))
}

/// Whether the steps (the last one first) only go down, and do not end in `.`, which has a meaning of its own.
fn is_plain(steps: &[Step<'_>]) -> bool {
    !matches!(steps.first(), Some(Step::Current))
        && !steps.iter().any(|step| matches!(step, Step::Parent))
}

fn check_name(name: &str) -> Result<()> {
    if name.len() > NAME_LIMIT {
        return Err(Errno::Nametoolong);
    }
    Ok(())
}

/// The path without `.` and empty components, if it has no `..` and is not empty then.
fn plain_path(path: &str) -> Result<Option<String>> {
    let mut plain = String::with_capacity(path.len());
    for name in path.split('/') {
        match name {
            "" | "." => continue,
            ".." => return Ok(None),
            _ => check_name(name)?,
        }
        if !plain.is_empty() {
            plain.push('/');
        }
        plain.push_str(name);
    }
    let ends_in_dot = path.trim_end_matches('/').rsplit('/').next() == Some(".");
    Ok((!plain.is_empty() && !ends_in_dot).then_some(plain))
}

/// A directory that exists only because something is mounted below it.
struct MountPointDirectory {
    node: usize,
}

impl Directory for MountPointDirectory {
    fn metadata(&self) -> Result<Metadata> {
        Ok(Metadata {
            inode: self.node as u64 + 1,
            file_type: FileType::Directory,
            links: 1,
            ..Metadata::default()
        })
    }
    fn lookup(&self, _: &str) -> Result<Lookup> {
        Err(Errno::Noent)
    }
    fn entry_metadata(&self, _: &str, _: bool) -> Result<Metadata> {
        Err(Errno::Noent)
    }
    fn open(&self, _: &str, _: bool, options: OpenOptions) -> Result<Opened> {
        Err(if options.create {
            Errno::Rofs
        } else {
            Errno::Noent
        })
    }
    fn entries(&self) -> Result<Vec<DirectoryEntry>> {
        Ok(Vec::new())
    }
    fn read_link(&self, _: &str) -> Result<String> {
        Err(Errno::Noent)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
