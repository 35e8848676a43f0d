//! WASI preview 1: one row per function, methods by family, and their binding to an engine.
//!
//! - `mod.rs`: the table of all 46 functions and how their parameters are taken
//! - `layout.rs`: records in guest memory
//! - `args.rs`, `clock.rs`, `fd.rs`, `path.rs`, `poll.rs`, `process.rs`, `socket.rs`: the functions
//! - `bind.rs`: as imports of instances
//!
//! A function checks where its results go before it has any effect. Its own work is to translate; what happens is decided in
//! `kernel.rs`, `files.rs` and `paths.rs`.

#![forbid(unsafe_code)]

mod args;
mod bind;
mod clock;
mod fd;
mod layout;
mod path;
mod poll;
mod process;
mod socket;
#[cfg(test)]
mod tests;

pub(crate) use bind::signature;
pub use bind::{add_to_linker, lookup};

use super::errno::Errno;
use super::guest::GuestMemory;
use super::kernel::Kernel;
use crate::module::{FuncType, ValType};
use crate::runtime::Val;

/// The module name of preview 1.
pub const PREVIEW1: &str = "wasi_snapshot_preview1";

/// The module name of the version before, in which four functions have other layouts.
pub const UNSTABLE: &str = "wasi_unstable";

/// Why a function does not return 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// It returns this error.
    Errno(Errno),
    /// It does not return: the process ends with this status.
    Exit(i32),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal::Errno(errno)
    }
}

type Call = fn(&mut Kernel, &mut GuestMemory<'_>, &[Val]) -> Result<(), Refusal>;

/// A row of the table: a function of preview 1.
pub(crate) struct Function {
    pub name: &'static str,
    /// Names and types of the parameters, in order.
    pub parameters: &'static [(&'static str, ValType)],
    /// Whether it returns an error number; only `proc_exit` does not.
    pub returns: bool,
    pub call: Call,
}

impl Function {
    /// The function's type.
    pub fn ty(&self) -> FuncType {
        FuncType::new(
            self.parameters.iter().map(|(_, ty)| *ty),
            self.returns.then_some(ValType::I32),
        )
    }
}

/// A parameter as the functions want it.
trait Parameter: Sized {
    const TYPE: ValType;
    fn take(value: Option<&Val>) -> Result<Self, Errno>;
}

impl Parameter for u32 {
    const TYPE: ValType = ValType::I32;
    fn take(value: Option<&Val>) -> Result<u32, Errno> {
        // The engine has checked the types; the error is for callers inside the crate.
        value
            .and_then(Val::i32)
            .map(i32::cast_unsigned)
            .ok_or(Errno::Inval)
    }
}

impl Parameter for u64 {
    const TYPE: ValType = ValType::I64;
    fn take(value: Option<&Val>) -> Result<u64, Errno> {
        value
            .and_then(Val::i64)
            .map(i64::cast_unsigned)
            .ok_or(Errno::Inval)
    }
}

impl Parameter for i64 {
    const TYPE: ValType = ValType::I64;
    fn take(value: Option<&Val>) -> Result<i64, Errno> {
        value.and_then(Val::i64).ok_or(Errno::Inval)
    }
}

macro_rules! functions {
    ($table:ident: $($family:ident::$method:ident as $name:ident
        ($($parameter:ident: $type:ty),*) $(-> $errno:ident)?;)*) => {
        pub(crate) static $table: &[Function] = &[$(
            Function {
                name: stringify!($name),
                parameters: &[$((stringify!($parameter), <$type as Parameter>::TYPE)),*],
                returns: functions!(@returns $($errno)?),
                call: |kernel, memory, values| {
                    let mut values = values.iter();
                    let _ = &mut values;
                    $(let $parameter = <$type as Parameter>::take(values.next())?;)*
                    $family::$method(kernel, memory $(, $parameter)*).map_err(Refusal::from)
                },
            },
        )*];
    };
    (@returns) => { false };
    (@returns errno) => { true };
}

functions! { FUNCTIONS:
    args::args_get as args_get(argv: u32, argv_buf: u32) -> errno;
    args::args_sizes_get as args_sizes_get(argc: u32, argv_buf_size: u32) -> errno;
    args::environ_get as environ_get(environ: u32, environ_buf: u32) -> errno;
    args::environ_sizes_get as environ_sizes_get(count: u32, buf_size: u32) -> errno;
    clock::clock_res_get as clock_res_get(id: u32, resolution: u32) -> errno;
    clock::clock_time_get as clock_time_get(id: u32, precision: u64, time: u32) -> errno;
    fd::fd_advise as fd_advise(fd: u32, offset: u64, len: u64, advice: u32) -> errno;
    fd::fd_allocate as fd_allocate(fd: u32, offset: u64, len: u64) -> errno;
    fd::fd_close as fd_close(fd: u32) -> errno;
    fd::fd_datasync as fd_datasync(fd: u32) -> errno;
    fd::fd_fdstat_get as fd_fdstat_get(fd: u32, stat: u32) -> errno;
    fd::fd_fdstat_set_flags as fd_fdstat_set_flags(fd: u32, flags: u32) -> errno;
    fd::fd_fdstat_set_rights as fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64) -> errno;
    fd::fd_filestat_get as fd_filestat_get(fd: u32, stat: u32) -> errno;
    fd::fd_filestat_set_size as fd_filestat_set_size(fd: u32, size: u64) -> errno;
    fd::fd_filestat_set_times as fd_filestat_set_times(fd: u32, atim: u64, mtim: u64, flags: u32) -> errno;
    fd::fd_pread as fd_pread(fd: u32, iovs: u32, iovs_len: u32, offset: u64, nread: u32) -> errno;
    fd::fd_prestat_dir_name as fd_prestat_dir_name(fd: u32, path: u32, path_len: u32) -> errno;
    fd::fd_prestat_get as fd_prestat_get(fd: u32, prestat: u32) -> errno;
    fd::fd_pwrite as fd_pwrite(fd: u32, iovs: u32, iovs_len: u32, offset: u64, nwritten: u32) -> errno;
    fd::fd_read as fd_read(fd: u32, iovs: u32, iovs_len: u32, nread: u32) -> errno;
    fd::fd_readdir as fd_readdir(fd: u32, buf: u32, buf_len: u32, cookie: u64, bufused: u32) -> errno;
    fd::fd_renumber as fd_renumber(fd: u32, to: u32) -> errno;
    fd::fd_seek as fd_seek(fd: u32, offset: i64, whence: u32, newoffset: u32) -> errno;
    fd::fd_sync as fd_sync(fd: u32) -> errno;
    fd::fd_tell as fd_tell(fd: u32, offset: u32) -> errno;
    fd::fd_write as fd_write(fd: u32, iovs: u32, iovs_len: u32, nwritten: u32) -> errno;
    path::path_create_directory as path_create_directory(fd: u32, path: u32, path_len: u32) -> errno;
    path::path_filestat_get as path_filestat_get(fd: u32, flags: u32, path: u32, path_len: u32, stat: u32) -> errno;
    path::path_filestat_set_times as path_filestat_set_times(
        fd: u32, flags: u32, path: u32, path_len: u32, atim: u64, mtim: u64, fst_flags: u32) -> errno;
    path::path_link as path_link(
        old_fd: u32, old_flags: u32, old_path: u32, old_path_len: u32, new_fd: u32, new_path: u32, new_path_len: u32) -> errno;
    path::path_open as path_open(
        fd: u32, dirflags: u32, path: u32, path_len: u32, oflags: u32, base: u64, inheriting: u64, fdflags: u32, opened: u32) -> errno;
    path::path_readlink as path_readlink(fd: u32, path: u32, path_len: u32, buf: u32, buf_len: u32, bufused: u32) -> errno;
    path::path_remove_directory as path_remove_directory(fd: u32, path: u32, path_len: u32) -> errno;
    path::path_rename as path_rename(
        fd: u32, old_path: u32, old_path_len: u32, new_fd: u32, new_path: u32, new_path_len: u32) -> errno;
    path::path_symlink as path_symlink(old_path: u32, old_path_len: u32, fd: u32, new_path: u32, new_path_len: u32) -> errno;
    path::path_unlink_file as path_unlink_file(fd: u32, path: u32, path_len: u32) -> errno;
    poll::poll_oneoff as poll_oneoff(subscriptions: u32, events: u32, nsubscriptions: u32, nevents: u32) -> errno;
    process::proc_exit as proc_exit(status: u32);
    process::proc_raise as proc_raise(signal: u32) -> errno;
    process::random_get as random_get(buf: u32, buf_len: u32) -> errno;
    process::sched_yield as sched_yield() -> errno;
    socket::sock_accept as sock_accept(fd: u32, flags: u32, accepted: u32) -> errno;
    socket::sock_recv as sock_recv(fd: u32, iovs: u32, iovs_len: u32, flags: u32, nread: u32, ro_flags: u32) -> errno;
    socket::sock_send as sock_send(fd: u32, iovs: u32, iovs_len: u32, flags: u32, nwritten: u32) -> errno;
    socket::sock_shutdown as sock_shutdown(fd: u32, how: u32) -> errno;
}

// The functions whose records or constants changed between `wasi_unstable` and preview 1.
functions! { CHANGED_SINCE_UNSTABLE:
    fd::fd_filestat_get_unstable as fd_filestat_get(fd: u32, stat: u32) -> errno;
    fd::fd_seek_unstable as fd_seek(fd: u32, offset: i64, whence: u32, newoffset: u32) -> errno;
    path::path_filestat_get_unstable as path_filestat_get(fd: u32, flags: u32, path: u32, path_len: u32, stat: u32) -> errno;
    poll::poll_oneoff_unstable as poll_oneoff(subscriptions: u32, events: u32, nsubscriptions: u32, nevents: u32) -> errno;
}

/// The function of that name, if the module is one of the two that we have.
pub(crate) fn function(module: &str, name: &str) -> Option<&'static Function> {
    let find = |table: &'static [Function]| table.iter().find(|function| function.name == name);
    match module {
        PREVIEW1 => find(FUNCTIONS),
        UNSTABLE => find(CHANGED_SINCE_UNSTABLE).or_else(|| find(FUNCTIONS)),
        _ => None,
    }
}
