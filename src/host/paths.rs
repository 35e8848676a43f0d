//! Operations of the kernel on paths: open, stat, make, remove, rename, links, times.
//!
//! Each walks its path once, checks the mount that it arrived at, and asks the backend. Only if the backend says that a link
//! leads out of it, the walk is repeated step by step (see `fs/namespace.rs`).

#![forbid(unsafe_code)]

use super::descriptor::{FdFlags, Object, OpenFile, Rights};
use super::errno::{Errno, Result};
use super::fs::namespace::{Follow, Place, Target};
use super::fs::{DirectoryEntry, FileType, Metadata, OpenOptions, Opened, Times};
use super::guest::PATH_LIMIT;
use super::kernel::Kernel;
use std::collections::VecDeque;

/// Where a path begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum At {
    /// At an open directory. The path must be relative and cannot lead out of it.
    Descriptor(u32),
    /// At `/`, or at the working directory if it is relative.
    Root,
}

/// How to open a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenHow {
    pub options: OpenOptions,
    /// Only a directory will do.
    pub directory: bool,
    pub flags: FdFlags,
}

impl OpenHow {
    /// Opens anything with these options.
    pub fn new(options: OpenOptions) -> OpenHow {
        OpenHow {
            options,
            directory: false,
            flags: FdFlags::empty(),
        }
    }
}

impl Kernel {
    /// The directory where a walk begins, and the path from there.
    fn base<'a>(&self, at: At, path: &'a str) -> Result<(Place, std::borrow::Cow<'a, str>)> {
        match at {
            At::Descriptor(fd) => match &self.descriptors.get(fd)?.object {
                Object::Directory(place) => Ok((place.clone(), path.into())),
                _ => Err(Errno::Notdir),
            },
            At::Root if path.is_empty() => Err(Errno::Noent),
            At::Root => {
                let path = match path.strip_prefix('/') {
                    Some(rest) => rest.trim_start_matches('/').into(),
                    None => {
                        let directory = self.working_directory.trim_start_matches('/');
                        format!("{directory}/{path}").into()
                    }
                };
                let path: std::borrow::Cow<'a, str> = path;
                let path = match path.strip_prefix('/') {
                    Some(rest) => rest.to_owned().into(),
                    None if path.is_empty() => ".".into(),
                    None => path,
                };
                Ok((self.namespace.root(), path))
            }
        }
    }

    /// Walks to a path and does something there.
    fn at<R>(
        &self,
        base: &Place,
        path: &str,
        follow: Follow,
        mut operation: impl FnMut(&Target) -> Result<R>,
    ) -> Result<R> {
        let mut walk = |hand_over| {
            let target = self.namespace.walk(base, path, follow, hand_over)?;
            operation(&target)
        };
        match walk(true) {
            Err(Errno::Notcapable) => walk(false).map_err(escape),
            result => result,
        }
    }

    /// Walks to two paths and does something there. Both are handed over or neither.
    fn at_two<R>(
        &self,
        (from, from_path, follow): (&Place, &str, Follow),
        (to, to_path): (&Place, &str),
        operation: impl Fn(&Target, &Target) -> Result<R>,
    ) -> Result<R> {
        let walk = |hand_over| {
            let from = self.namespace.walk(from, from_path, follow, hand_over)?;
            let to = self.namespace.walk(to, to_path, Follow::Never, hand_over)?;
            operation(&from, &to)
        };
        match walk(true) {
            Err(Errno::Notcapable) => walk(false).map_err(escape),
            result => result,
        }
    }

    /// `Rofs` if guests may not change what lies in this directory, but the error of `exists` first.
    fn check_writable(&self, place: &Place, exists: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.namespace.is_read_only(place) {
            exists()?;
            return Err(Errno::Rofs);
        }
        Ok(())
    }

    /// Opens a path without making a descriptor.
    pub(crate) fn open_object(
        &self,
        at: At,
        path: &str,
        follow: bool,
        how: OpenHow,
    ) -> Result<(Opened, Place)> {
        let OpenOptions {
            write,
            create,
            exclusive,
            truncate,
            ..
        } = how.options;
        let changes = write || create || truncate;
        if how.directory && (create || truncate) {
            return Err(Errno::Inval);
        }
        let (base, path) = self.base(at, path)?;
        // A file that must be new is never reached through a link.
        let follow = if follow && !(create && exclusive) {
            Follow::Yes
        } else {
            Follow::No
        };
        self.at(&base, &path, follow, |target| match target {
            Target::Directory { .. } if create && exclusive => Err(Errno::Exist),
            Target::Directory { .. } if changes => Err(Errno::Isdir),
            Target::Directory { place, .. } => {
                Ok((Opened::Directory(place.directory.clone()), place.clone()))
            }
            Target::Entry {
                parent,
                name,
                follow,
                trailing_slash,
            } => {
                let directory = &parent.directory;
                if (how.directory || *trailing_slash) && changes {
                    // Checked before opening, because opening would already truncate.
                    let metadata = directory.entry_metadata(name, *follow);
                    return Err(match metadata.map(|metadata| metadata.file_type) {
                        Ok(FileType::Directory) => Errno::Isdir,
                        Ok(_) => Errno::Notdir,
                        Err(Errno::Noent) if create => Errno::Isdir,
                        Err(error) => error,
                    });
                }
                let mut options = how.options;
                let read_only = self.namespace.is_read_only(parent);
                if read_only && (write || truncate) {
                    match directory.entry_metadata(name, *follow) {
                        Ok(found) if found.file_type == FileType::Directory => {
                            return Err(Errno::Isdir);
                        }
                        Err(Errno::Noent) if create => return Err(Errno::Rofs),
                        result => result?,
                    };
                    return Err(if create && exclusive {
                        Errno::Exist
                    } else {
                        Errno::Rofs
                    });
                }
                options.create = create && !read_only;
                let opened = match directory.open(name, *follow, options) {
                    Err(Errno::Noent) if create && read_only => return Err(Errno::Rofs),
                    Ok(_) if create && exclusive && read_only => return Err(Errno::Exist),
                    result => result?,
                };
                match opened {
                    Opened::File(..) if how.directory || *trailing_slash => Err(Errno::Notdir),
                    Opened::Directory(_) if create => Err(Errno::Isdir),
                    Opened::Directory(directory) => {
                        let place = parent.inside(directory.clone());
                        Ok((Opened::Directory(directory), place))
                    }
                    Opened::File(..) => Ok((opened, parent.clone())),
                }
            }
        })
    }

    /// Opens a path: gives a descriptor.
    pub(crate) fn open(&mut self, at: At, path: &str, follow: bool, how: OpenHow) -> Result<u32> {
        let inherited = match at {
            At::Descriptor(fd) => {
                let directory = self.descriptors.get(fd)?;
                let needed = if how.options.truncate {
                    Rights::PATH_FILESTAT_SET_SIZE
                } else {
                    Rights::empty()
                };
                if matches!(directory.object, Object::Directory(_))
                    && !directory.rights.contains(needed)
                {
                    return Err(Errno::Notcapable);
                }
                directory.inheriting
            }
            At::Root => Rights::all(),
        };
        let (opened, place) = self.open_object(at, path, follow, how)?;
        let read_only = self.namespace.is_read_only(&place);
        let mut file = match opened {
            Opened::Directory(_) => OpenFile::new(Object::Directory(place), FileType::Directory),
            Opened::File(file, file_type) => OpenFile::new(Object::File(file), file_type),
        };
        if !matches!(file.object, Object::Directory(_)) {
            file.readable = how.options.read;
            file.writable = how.options.write;
            file.rights.set(Rights::FD_READ, file.readable);
            if !file.writable {
                file.rights.remove(Rights::WRITING);
            }
            file.flags = how.flags;
        }
        file.rights &= inherited;
        file.inheriting &= inherited;
        file.read_only = read_only;
        self.descriptors.open(file)
    }

    /// What is known about a path.
    pub(crate) fn metadata_at(&self, at: At, path: &str, follow: bool) -> Result<Metadata> {
        let (base, path) = self.base(at, path)?;
        self.at(&base, &path, follow_if(follow), |target| match target {
            Target::Directory { place, .. } => place.directory.metadata(),
            Target::Entry {
                parent,
                name,
                follow,
                trailing_slash,
            } => {
                let metadata = parent.directory.entry_metadata(name, *follow)?;
                check_slash(*trailing_slash, &metadata)?;
                Ok(metadata)
            }
        })
    }

    /// Whether guests may not change what lies at a path.
    pub(crate) fn is_read_only_at(&self, at: At, path: &str) -> bool {
        let read_only = self.base(at, path).and_then(|(base, path)| {
            self.at(&base, &path, Follow::Yes, |target| {
                Ok(match target {
                    Target::Directory { place, .. } => self.namespace.is_read_only(place),
                    Target::Entry { parent, .. } => self.namespace.is_read_only(parent),
                })
            })
        });
        read_only.unwrap_or(false)
    }

    /// Sets the times of a path.
    pub(crate) fn set_times_at(
        &mut self,
        at: At,
        path: &str,
        follow: bool,
        times: Times,
    ) -> Result<()> {
        let (base, path) = self.base(at, path)?;
        self.at(&base, &path, follow_if(follow), |target| match target {
            Target::Directory { place, .. } => {
                self.check_writable(place, || Ok(()))?;
                place.directory.set_times(times)
            }
            Target::Entry {
                parent,
                name,
                follow,
                trailing_slash,
            } => {
                let directory = &parent.directory;
                self.check_writable(parent, || {
                    directory.entry_metadata(name, *follow).map(|_| ())
                })?;
                if *trailing_slash {
                    check_slash(true, &directory.entry_metadata(name, *follow)?)?;
                }
                directory.set_entry_times(name, *follow, times)
            }
        })
    }

    /// Makes a directory.
    pub(crate) fn create_directory(&mut self, at: At, path: &str) -> Result<()> {
        let (base, path) = self.base(at, path)?;
        self.at(&base, &path, Follow::Never, |target| match target {
            Target::Directory { .. } => Err(Errno::Exist),
            Target::Entry { parent, name, .. } => {
                self.check_writable(parent, || must_be_missing(parent, name))?;
                parent.directory.create_directory(name)
            }
        })
    }

    /// Removes an empty directory.
    pub(crate) fn remove_directory(&mut self, at: At, path: &str) -> Result<()> {
        let (base, path) = self.base(at, path)?;
        self.at(&base, &path, Follow::Never, |target| match target {
            Target::Directory { dot: true, .. } => Err(Errno::Inval),
            Target::Directory { dot: false, .. } => Err(Errno::Busy),
            Target::Entry { parent, name, .. } => {
                self.check_writable(parent, || must_exist(parent, name))?;
                parent.directory.remove_directory(name)
            }
        })
    }

    /// Removes a name of something that is not a directory.
    pub(crate) fn unlink(&mut self, at: At, path: &str) -> Result<()> {
        let (base, path) = self.base(at, path)?;
        self.at(&base, &path, Follow::Never, |target| match target {
            Target::Directory { .. } => Err(Errno::Isdir),
            Target::Entry {
                parent,
                name,
                trailing_slash,
                ..
            } => {
                self.check_writable(parent, || must_exist(parent, name))?;
                if *trailing_slash {
                    let metadata = parent.directory.entry_metadata(name, false)?;
                    check_slash(true, &metadata)?;
                    return Err(Errno::Isdir);
                }
                parent.directory.unlink(name)
            }
        })
    }

    /// Makes a symbolic link at `path` that says `target`.
    pub(crate) fn create_link(&mut self, target: &str, at: At, path: &str) -> Result<()> {
        if target.is_empty() {
            return Err(Errno::Noent);
        }
        if target.len() > PATH_LIMIT as usize {
            return Err(Errno::Nametoolong);
        }
        if target.contains('\0') {
            return Err(Errno::Inval);
        }
        let (base, path) = self.base(at, path)?;
        let absolute_allowed = self.namespace.is_root(&base);
        self.at(&base, &path, Follow::Never, |place| match place {
            Target::Directory { .. } => Err(Errno::Exist),
            Target::Entry {
                parent,
                name,
                trailing_slash,
                ..
            } => {
                if *trailing_slash {
                    must_be_missing(parent, name)?;
                    return Err(Errno::Noent);
                }
                self.check_writable(parent, || must_be_missing(parent, name))?;
                parent.directory.create_link(target, name, absolute_allowed)
            }
        })
    }

    /// What a symbolic link says. One that is absolute is shown only where it can be followed.
    pub(crate) fn read_link(&self, at: At, path: &str) -> Result<String> {
        let (base, path) = self.base(at, path)?;
        let target = self.at(&base, &path, Follow::No, |target| match target {
            Target::Directory { .. } => Err(Errno::Inval),
            Target::Entry {
                parent,
                name,
                follow,
                trailing_slash,
            } => {
                if *trailing_slash {
                    check_slash(true, &parent.directory.entry_metadata(name, *follow)?)?;
                    return Err(Errno::Inval);
                }
                parent.directory.read_link(name)
            }
        })?;
        if target.starts_with('/') && !self.namespace.is_root(&base) {
            return Err(Errno::Perm);
        }
        Ok(target)
    }

    /// Moves a name, replacing what is there. Never across mounts.
    pub(crate) fn rename(&mut self, at: At, path: &str, to: At, to_path: &str) -> Result<()> {
        let (base, path) = self.base(at, path)?;
        let (to_base, to_path) = self.base(to, to_path)?;
        self.at_two(
            (&base, &path, Follow::Never),
            (&to_base, &to_path),
            |from, to| {
                let (
                    Target::Entry {
                        parent,
                        name,
                        trailing_slash,
                        ..
                    },
                    Target::Entry {
                        parent: to_parent,
                        name: to_name,
                        trailing_slash: to_slash,
                        ..
                    },
                ) = (from, to)
                else {
                    return Err(Errno::Busy);
                };
                if !self.namespace.same_mount(parent, to_parent) {
                    must_exist(parent, name)?;
                    return Err(Errno::Xdev);
                }
                self.check_writable(parent, || must_exist(parent, name))?;
                if *trailing_slash || *to_slash {
                    check_slash(true, &parent.directory.entry_metadata(name, false)?)?;
                }
                parent
                    .directory
                    .rename(name, &*to_parent.directory, to_name)
            },
        )
    }

    /// Gives a file a second name. Never across mounts.
    pub(crate) fn hard_link(
        &mut self,
        at: At,
        path: &str,
        follow: bool,
        to: At,
        to_path: &str,
    ) -> Result<()> {
        let (base, path) = self.base(at, path)?;
        let (to_base, to_path) = self.base(to, to_path)?;
        let follow_from = if follow { Follow::Yes } else { Follow::Never };
        let operation = |from: &Target, to: &Target| {
            let Target::Entry {
                parent: to_parent,
                name: to_name,
                trailing_slash: to_slash,
                ..
            } = to
            else {
                return Err(Errno::Exist);
            };
            let Target::Entry {
                parent,
                name,
                follow: handed_over,
                trailing_slash,
            } = from
            else {
                return Err(Errno::Perm);
            };
            if *handed_over {
                // No backend links to what a link leads to: find that first, step by step.
                return Err(Errno::Notcapable);
            }
            let metadata = parent.directory.entry_metadata(name, false)?;
            check_slash(*trailing_slash, &metadata)?;
            if *to_slash {
                must_be_missing(to_parent, to_name)?;
                return Err(Errno::Noent);
            }
            if !self.namespace.same_mount(parent, to_parent) {
                return Err(Errno::Xdev);
            }
            self.check_writable(to_parent, || must_be_missing(to_parent, to_name))?;
            if metadata.file_type == FileType::Directory {
                return Err(Errno::Perm);
            }
            parent
                .directory
                .hard_link(name, &*to_parent.directory, to_name)
        };
        self.at_two((&base, &path, follow_from), (&to_base, &to_path), operation)
    }

    /// The absolute path without `.`, `..` and links; everything in it must exist.
    pub(crate) fn real_path(&self, path: &str) -> Result<String> {
        if path.is_empty() {
            return Err(Errno::Noent);
        }
        let start = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", self.working_directory)
        };
        let steps = |path: &str| -> Vec<String> {
            let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
            names.map(str::to_owned).collect()
        };
        let mut pending: VecDeque<String> = steps(&start).into();
        let mut real = String::new();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name == ".." {
                real.truncate(real.rfind('/').unwrap_or(0));
                continue;
            }
            let next = format!("{real}/{name}");
            let metadata = self.metadata_at(At::Root, &next, false)?;
            if metadata.file_type != FileType::SymbolicLink {
                if metadata.file_type != FileType::Directory && !pending.is_empty() {
                    return Err(Errno::Notdir);
                }
                real = next;
                continue;
            }
            links += 1;
            if links > 40 || pending.len() > PATH_LIMIT as usize {
                return Err(Errno::Loop);
            }
            let target = self.read_link(At::Root, &next)?;
            if target.starts_with('/') {
                real.clear();
            }
            for name in steps(&target).into_iter().rev() {
                pending.push_front(name);
            }
        }
        if real.is_empty() {
            real.push('/');
        }
        Ok(real)
    }

    /// Changes where relative paths begin.
    pub(crate) fn set_working_directory(&mut self, path: &str) -> Result<()> {
        let path = self.real_path(path)?;
        if self.metadata_at(At::Root, &path, true)?.file_type != FileType::Directory {
            return Err(Errno::Notdir);
        }
        self.working_directory = path;
        Ok(())
    }

    /// What is in a directory of the guest's tree.
    ///
    /// # Errors
    /// `Notdir`, and errors of opening and reading.
    pub(crate) fn list_directory(&self, path: &str) -> Result<Vec<DirectoryEntry>> {
        let mut how = OpenHow::new(OpenOptions {
            read: true,
            ..OpenOptions::default()
        });
        how.directory = true;
        let (_, place) = self.open_object(At::Root, path, true, how)?;
        self.namespace.entries(&place)
    }

    /// All bytes of a file of the guest's tree, such as a library that it wants to load.
    ///
    /// # Errors
    /// `Fbig` beyond `limit` bytes, and errors of opening and reading.
    pub fn read_file(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        let how = OpenHow::new(OpenOptions {
            read: true,
            ..OpenOptions::default()
        });
        let (Opened::File(file, _), _) = self.open_object(At::Root, path, true, how)? else {
            return Err(Errno::Isdir);
        };
        let size = file.metadata()?.size;
        if size > limit {
            return Err(Errno::Fbig);
        }
        let length = usize::try_from(size).map_err(|_| Errno::Fbig)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| Errno::Nomem)?;
        bytes.resize(length, 0);
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..)
            && !rest.is_empty()
        {
            match file.read_at(rest, done as u64)? {
                0 => break,
                count => done += count,
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    /// Whether a path of the guest's tree leads to something.
    pub fn exists(&self, path: &str) -> bool {
        self.metadata_at(At::Root, path, true).is_ok()
    }
}

fn follow_if(follow: bool) -> Follow {
    if follow { Follow::Yes } else { Follow::No }
}

/// What a guest sees if even the walk step by step led out.
fn escape(error: Errno) -> Errno {
    match error {
        Errno::Notcapable => Errno::Perm,
        error => error,
    }
}

fn check_slash(trailing_slash: bool, metadata: &Metadata) -> Result<()> {
    if trailing_slash && metadata.file_type != FileType::Directory {
        return Err(Errno::Notdir);
    }
    Ok(())
}

fn must_exist(parent: &Place, name: &str) -> Result<()> {
    parent.directory.entry_metadata(name, false).map(|_| ())
}

fn must_be_missing(parent: &Place, name: &str) -> Result<()> {
    match parent.directory.entry_metadata(name, false) {
        Ok(_) => Err(Errno::Exist),
        Err(Errno::Noent) => Ok(()),
        Err(error) => Err(error),
    }
}
