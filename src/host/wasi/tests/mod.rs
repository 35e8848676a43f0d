//! Direct tests of the 46 functions: a guest without an engine, whose memory is a vector.
//!
//! - `mod.rs`: the guest, and the test that no function is left out
//! - `descriptors.rs`, `paths.rs`, `process.rs`: what the functions do, on each kind of writable file system
//! - `escapes.rs`: paths that try to leave what was given; `hostile.rs`: pointers that lie

#![forbid(unsafe_code)]

mod descriptors;
mod escapes;
mod hostile;
mod paths;
mod process;

use super::{FUNCTIONS, PREVIEW1, Refusal, UNSTABLE, function};
use crate::host::descriptor::Rights;
use crate::host::errno::Errno;
use crate::host::guest::GuestMemory;
use crate::host::kernel::{Kernel, KernelBuilder};
use crate::host::{Mount, Pipe};
use crate::module::ValType;
use crate::runtime::Val;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Functions that a test has called with success or a well-defined error, for `every_function_has_a_direct_test`.
static CALLED: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

/// The descriptor of the first mount.
pub const ROOT: u32 = 3;
pub const FOLLOW: u32 = 1;
pub const CREAT: u32 = 1;
pub const DIRECTORY: u32 = 2;
pub const EXCL: u32 = 4;
pub const TRUNC: u32 = 8;
pub const READ: Rights = Rights::FD_READ;
pub const WRITE: Rights = Rights::FD_WRITE;
pub const READ_WRITE: Rights = Rights::FD_READ.union(Rights::FD_WRITE);

/// A guest without an engine.
pub struct Guest {
    pub kernel: Kernel,
    pub memory: Vec<u8>,
    next: u32,
    pub module: &'static str,
    /// Keeps a host directory as long as the guest.
    pub directory: Option<tempfile::TempDir>,
}

/// What is known about a file, as the guest sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    pub device: u64,
    pub inode: u64,
    pub file_type: u8,
    pub links: u64,
    pub size: u64,
    pub accessed: u64,
    pub modified: u64,
    pub changed: u64,
}

/// An entry of a listing, as the guest sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub next: u64,
    pub inode: u64,
    pub file_type: u8,
    pub name: String,
}

pub fn unwrap_errno(result: Result<(), Refusal>) -> Result<(), Errno> {
    match result {
        Ok(()) => Ok(()),
        Err(Refusal::Errno(errno)) => Err(errno),
        Err(Refusal::Exit(status)) => panic!("exit with {status}"),
    }
}

impl Guest {
    pub fn new(builder: KernelBuilder) -> Guest {
        Guest {
            kernel: builder.build().unwrap(),
            memory: vec![0; 1 << 20],
            next: 64,
            module: PREVIEW1,
            directory: None,
        }
    }

    /// A guest for each kind of file system that can be written, mounted at `/sandbox` with descriptor 3.
    pub fn on_each_file_system() -> Vec<(&'static str, Guest)> {
        let directory = tempfile::tempdir().unwrap();
        let host = Mount::host(directory.path()).unwrap();
        let mut on_host = Guest::new(KernelBuilder::new().mount("/sandbox", host));
        on_host.directory = Some(directory);
        let lower = Mount::memory().read_only();
        vec![
            (
                "memory",
                Guest::new(KernelBuilder::new().mount("/sandbox", Mount::memory())),
            ),
            ("host", on_host),
            (
                "overlay",
                Guest::new(KernelBuilder::new().mount("/sandbox", Mount::overlay(lower, 1 << 24))),
            ),
        ]
    }

    /// Memory for this many bytes.
    pub fn alloc(&mut self, length: usize) -> u32 {
        let at = self.next;
        self.next += u32::try_from(length).unwrap().next_multiple_of(8) + 8;
        assert!((self.next as usize) < self.memory.len());
        at
    }

    /// Forgets everything in memory.
    pub fn reset(&mut self) {
        self.next = 64;
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> u32 {
        let at = self.alloc(bytes.len());
        self.memory[at as usize..][..bytes.len()].copy_from_slice(bytes);
        at
    }

    pub fn u32_at(&self, at: u32) -> u32 {
        u32::from_le_bytes(self.memory[at as usize..][..4].try_into().unwrap())
    }

    pub fn u64_at(&self, at: u32) -> u64 {
        u64::from_le_bytes(self.memory[at as usize..][..8].try_into().unwrap())
    }

    /// Calls a function; the numbers become what the table says.
    pub fn call_raw(&mut self, name: &str, arguments: &[i64]) -> Result<(), Refusal> {
        let function = function(self.module, name).unwrap();
        assert_eq!(function.parameters.len(), arguments.len(), "{name}");
        let values: Vec<Val> = function
            .parameters
            .iter()
            .zip(arguments)
            .map(|((_, ty), value)| match ty {
                ValType::I32 => Val::I32(*value as i32),
                _ => Val::I64(*value),
            })
            .collect();
        CALLED.lock().unwrap().insert(function.name);
        (function.call)(
            &mut self.kernel,
            &mut GuestMemory::new(&mut self.memory),
            &values,
        )
    }

    pub fn call(&mut self, name: &str, arguments: &[i64]) -> Result<(), Errno> {
        unwrap_errno(self.call_raw(name, arguments))
    }

    /// Calls a function whose path comes where `PATH` stands.
    pub fn call_path(&mut self, name: &str, path: &str, arguments: &[i64]) -> Result<(), Errno> {
        let saved = self.next;
        let at = self.bytes(path.as_bytes());
        let mut complete = Vec::new();
        for argument in arguments {
            if *argument == PATH {
                complete.extend([i64::from(at), path.len() as i64]);
            } else {
                complete.push(*argument);
            }
        }
        let result = self.call(name, &complete);
        self.next = saved;
        result
    }

    pub fn open_with(
        &mut self,
        fd: u32,
        path: &str,
        dirflags: u32,
        oflags: u32,
        rights: Rights,
        fdflags: u32,
    ) -> Result<u32, Errno> {
        let result = self.alloc(4);
        self.call_path(
            "path_open",
            path,
            &[
                fd.into(),
                dirflags.into(),
                PATH,
                oflags.into(),
                rights.bits() as i64,
                rights.bits() as i64,
                fdflags.into(),
                result.into(),
            ],
        )?;
        Ok(self.u32_at(result))
    }

    /// Opens below the first mount without following a link at the end.
    pub fn open(&mut self, path: &str, oflags: u32, rights: Rights) -> Result<u32, Errno> {
        self.open_with(ROOT, path, 0, oflags, rights, 0)
    }

    pub fn close(&mut self, fd: u32) {
        self.call("fd_close", &[fd.into()]).unwrap();
    }

    pub fn write_file(&mut self, path: &str, contents: &[u8]) {
        let fd = self.open(path, CREAT | TRUNC, READ_WRITE).unwrap();
        assert_eq!(self.write(fd, contents), Ok(contents.len() as u32));
        self.close(fd);
    }

    pub fn read_file(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        let fd = self.open_with(ROOT, path, FOLLOW, 0, READ, 0)?;
        let contents = self.read(fd, 4096);
        self.close(fd);
        contents
    }

    fn iovec(&mut self, at: u32, length: u32) -> u32 {
        let mut list = at.to_le_bytes().to_vec();
        list.extend(length.to_le_bytes());
        self.bytes(&list)
    }

    pub fn read(&mut self, fd: u32, length: u32) -> Result<Vec<u8>, Errno> {
        self.transfer_in("fd_read", fd, length, None)
    }

    pub fn pread(&mut self, fd: u32, length: u32, offset: u64) -> Result<Vec<u8>, Errno> {
        self.transfer_in("fd_pread", fd, length, Some(offset))
    }

    fn transfer_in(
        &mut self,
        name: &str,
        fd: u32,
        length: u32,
        offset: Option<u64>,
    ) -> Result<Vec<u8>, Errno> {
        let saved = self.next;
        let at = self.alloc(length as usize);
        let list = self.iovec(at, length);
        let count = self.alloc(4);
        let mut arguments = vec![fd.into(), list.into(), 1];
        arguments.extend(offset.map(|offset| offset as i64));
        arguments.push(count.into());
        let result = self.call(name, &arguments);
        self.next = saved;
        result?;
        Ok(self.memory[at as usize..][..self.u32_at(count) as usize].to_vec())
    }

    pub fn write(&mut self, fd: u32, contents: &[u8]) -> Result<u32, Errno> {
        self.transfer_out("fd_write", fd, contents, None)
    }

    pub fn pwrite(&mut self, fd: u32, contents: &[u8], offset: u64) -> Result<u32, Errno> {
        self.transfer_out("fd_pwrite", fd, contents, Some(offset))
    }

    fn transfer_out(
        &mut self,
        name: &str,
        fd: u32,
        contents: &[u8],
        offset: Option<u64>,
    ) -> Result<u32, Errno> {
        let saved = self.next;
        let at = self.bytes(contents);
        let list = self.iovec(at, contents.len() as u32);
        let count = self.alloc(4);
        let mut arguments = vec![fd.into(), list.into(), 1];
        arguments.extend(offset.map(|offset| offset as i64));
        arguments.push(count.into());
        let result = self.call(name, &arguments);
        self.next = saved;
        result?;
        Ok(self.u32_at(count))
    }

    pub fn seek(&mut self, fd: u32, offset: i64, whence: u32) -> Result<u64, Errno> {
        let at = self.alloc(8);
        self.call("fd_seek", &[fd.into(), offset, whence.into(), at.into()])?;
        Ok(self.u64_at(at))
    }

    fn stat_at(&self, at: u32) -> Stat {
        Stat {
            device: self.u64_at(at),
            inode: self.u64_at(at + 8),
            file_type: self.memory[at as usize + 16],
            links: self.u64_at(at + 24),
            size: self.u64_at(at + 32),
            accessed: self.u64_at(at + 40),
            modified: self.u64_at(at + 48),
            changed: self.u64_at(at + 56),
        }
    }

    pub fn fd_stat(&mut self, fd: u32) -> Result<Stat, Errno> {
        let at = self.alloc(64);
        self.call("fd_filestat_get", &[fd.into(), at.into()])?;
        Ok(self.stat_at(at))
    }

    pub fn stat_with(&mut self, fd: u32, path: &str, flags: u32) -> Result<Stat, Errno> {
        let at = self.alloc(64);
        self.call_path(
            "path_filestat_get",
            path,
            &[fd.into(), flags.into(), PATH, at.into()],
        )?;
        Ok(self.stat_at(at))
    }

    pub fn stat(&mut self, path: &str) -> Result<Stat, Errno> {
        self.stat_with(ROOT, path, 0)
    }

    pub fn mkdir(&mut self, path: &str) -> Result<(), Errno> {
        self.call_path("path_create_directory", path, &[ROOT.into(), PATH])
    }

    pub fn rmdir(&mut self, path: &str) -> Result<(), Errno> {
        self.call_path("path_remove_directory", path, &[ROOT.into(), PATH])
    }

    pub fn unlink(&mut self, path: &str) -> Result<(), Errno> {
        self.call_path("path_unlink_file", path, &[ROOT.into(), PATH])
    }

    pub fn symlink_at(&mut self, target: &str, fd: u32, path: &str) -> Result<(), Errno> {
        let at = self.bytes(target.as_bytes());
        let length = target.len() as i64;
        self.call_path("path_symlink", path, &[at.into(), length, fd.into(), PATH])
    }

    pub fn symlink(&mut self, target: &str, path: &str) -> Result<(), Errno> {
        self.symlink_at(target, ROOT, path)
    }

    pub fn rename_between(
        &mut self,
        fd: u32,
        from: &str,
        to_fd: u32,
        to: &str,
    ) -> Result<(), Errno> {
        let at = self.bytes(from.as_bytes());
        let length = from.len() as i64;
        self.call_path(
            "path_rename",
            to,
            &[fd.into(), at.into(), length, to_fd.into(), PATH],
        )
    }

    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), Errno> {
        self.rename_between(ROOT, from, ROOT, to)
    }

    pub fn link_between(
        &mut self,
        fd: u32,
        flags: u32,
        from: &str,
        to_fd: u32,
        to: &str,
    ) -> Result<(), Errno> {
        let at = self.bytes(from.as_bytes());
        let length = from.len() as i64;
        self.call_path(
            "path_link",
            to,
            &[
                fd.into(),
                flags.into(),
                at.into(),
                length,
                to_fd.into(),
                PATH,
            ],
        )
    }

    pub fn link(&mut self, from: &str, to: &str) -> Result<(), Errno> {
        self.link_between(ROOT, 0, from, ROOT, to)
    }

    pub fn readlink_at(&mut self, fd: u32, path: &str, length: u32) -> Result<String, Errno> {
        let buffer = self.alloc(length as usize);
        let used = self.alloc(4);
        self.call_path(
            "path_readlink",
            path,
            &[fd.into(), PATH, buffer.into(), length.into(), used.into()],
        )?;
        let length = self.u32_at(used) as usize;
        Ok(String::from_utf8(self.memory[buffer as usize..][..length].to_vec()).unwrap())
    }

    pub fn readlink(&mut self, path: &str) -> Result<String, Errno> {
        self.readlink_at(ROOT, path, 4096)
    }

    /// One call of `fd_readdir`: complete entries, and whether the buffer was filled.
    pub fn readdir_once(
        &mut self,
        fd: u32,
        length: u32,
        cookie: u64,
    ) -> Result<(Vec<Entry>, bool), Errno> {
        let saved = self.next;
        let buffer = self.alloc(length as usize);
        let used = self.alloc(4);
        let result = self.call(
            "fd_readdir",
            &[
                fd.into(),
                buffer.into(),
                length.into(),
                cookie as i64,
                used.into(),
            ],
        );
        self.next = saved;
        result?;
        let end = buffer + self.u32_at(used);
        assert!(end - buffer <= length);
        let mut entries = Vec::new();
        let mut at = buffer;
        while end - at >= 24 {
            let name_length = self.u32_at(at + 16);
            if end - at - 24 < name_length {
                break;
            }
            let name = &self.memory[at as usize + 24..][..name_length as usize];
            entries.push(Entry {
                next: self.u64_at(at),
                inode: self.u64_at(at + 8),
                file_type: self.memory[at as usize + 20],
                name: String::from_utf8(name.to_vec()).unwrap(),
            });
            at += 24 + name_length;
        }
        Ok((entries, end - buffer == length))
    }

    /// All names of a directory, sorted.
    pub fn names(&mut self, fd: u32) -> Vec<String> {
        let mut names = Vec::new();
        let mut cookie = 0;
        loop {
            let (entries, more) = self.readdir_once(fd, 300, cookie).unwrap();
            if let Some(last) = entries.last() {
                cookie = last.next;
            }
            names.extend(entries.into_iter().map(|entry| entry.name));
            if !more {
                names.sort();
                return names;
            }
        }
    }
}

/// Stands for the pointer and length of a path in `call_path`.
pub const PATH: i64 = i64::MIN;

#[test]
fn the_table_has_the_46_functions_of_preview_1() {
    assert_eq!(FUNCTIONS.len(), 46);
    let names: BTreeSet<_> = FUNCTIONS.iter().map(|function| function.name).collect();
    assert_eq!(names.len(), 46);
    for function in FUNCTIONS {
        assert_eq!(function.returns, function.name != "proc_exit");
    }
    assert!(function("env", "fd_read").is_none());
    assert!(function(PREVIEW1, "fd_missing").is_none());
    assert!(function(UNSTABLE, "fd_seek").is_some());
}

/// The signatures as `wasi_snapshot_preview1` fixes them, written once more by hand: `i` is i32, `I` is i64.
#[test]
fn the_signatures_are_those_of_preview_1() {
    let expected = "args_get ii args_sizes_get ii environ_get ii environ_sizes_get ii clock_res_get ii clock_time_get iIi \
        fd_advise iIIi fd_allocate iII fd_close i fd_datasync i fd_fdstat_get ii fd_fdstat_set_flags ii fd_fdstat_set_rights iII \
        fd_filestat_get ii fd_filestat_set_size iI fd_filestat_set_times iIIi fd_pread iiiIi fd_prestat_get ii \
        fd_prestat_dir_name iii fd_pwrite iiiIi fd_read iiii fd_readdir iiiIi fd_renumber ii fd_seek iIii fd_sync i fd_tell ii \
        fd_write iiii path_create_directory iii path_filestat_get iiiii path_filestat_set_times iiiiIIi path_link iiiiiii \
        path_open iiiiiIIii path_readlink iiiiii path_remove_directory iii path_rename iiiiii path_symlink iiiii \
        path_unlink_file iii poll_oneoff iiii proc_exit i proc_raise i sched_yield - random_get ii sock_accept iii \
        sock_recv iiiiii sock_send iiiii sock_shutdown ii";
    let words: Vec<_> = expected.split_whitespace().collect();
    assert_eq!(words.len(), 2 * 46);
    for pair in words.chunks(2) {
        let row = function(PREVIEW1, pair[0]).unwrap_or_else(|| panic!("{} is missing", pair[0]));
        let types: String = row
            .parameters
            .iter()
            .map(|(_, ty)| if *ty == ValType::I32 { 'i' } else { 'I' })
            .collect();
        assert_eq!(types, pair[1].trim_matches('-'), "{}", pair[0]);
    }
}

/// Runs all direct tests once more in one thread, then looks which functions they called.
#[test]
fn every_function_has_a_direct_test() {
    descriptors::all();
    paths::all();
    process::all();
    let called = CALLED.lock().unwrap();
    for function in FUNCTIONS {
        assert!(
            called.contains(function.name),
            "{} is not tested",
            function.name
        );
    }
}
