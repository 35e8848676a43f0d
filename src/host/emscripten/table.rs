//! The functions: one row each, with module, name, signature and method.
//!
//! A name has several rows where versions of emscripten disagree about its signature. The verb says what the method gets:
//! `system` the kernel and the memory, `guest` also the right to call the guest. 64-bit integers may be split (`call.rs`).
//! Functions that the JavaScript has but that make no sense without a browser are not here; calls of them end with a
//! message that names them.

#![forbid(unsafe_code)]

use super::call::{Arguments, Guest, Outcome, Parameter, Signature, System};
use super::{
    EmscriptenHost, dynamic, events, files, format_time, memory, paths, poll, process, time, unwind,
};
use crate::error::Result;
use crate::host::errno::Errno;
use crate::module::{FuncType, ValType};
use crate::runtime::Val;
use std::marker::PhantomData;

/// What a method gives.
pub(super) type Given = Result<Option<Val>, Errno>;

/// How a row's method is called.
pub(super) enum Action<T: EmscriptenHost> {
    System(fn(&mut System<'_, '_>, &mut Arguments<'_>) -> Given),
    Guest(fn(&mut Guest<'_, '_, T>, &mut Arguments<'_>) -> Result<Given>),
}

/// A row of the table.
pub(super) struct Row<T: EmscriptenHost> {
    pub module: &'static str,
    pub name: &'static str,
    pub parameters: &'static [ValType],
    pub result: Option<ValType>,
    /// Errors are given as they are (WASI), not negated (system calls).
    pub plain_errno: bool,
    pub action: Action<T>,
}

impl<T: EmscriptenHost> Row<T> {
    pub fn signature(&self) -> Signature {
        Signature {
            parameters: self.parameters.to_vec(),
            results: self.result.into_iter().collect(),
        }
    }
}

/// The row that an import of this type means.
pub(super) fn row<T: EmscriptenHost>(
    module: &str,
    name: &str,
    ty: &FuncType,
) -> Option<&'static Row<T>> {
    let fits = |row: &&'static Row<T>| {
        let signature = row.signature();
        signature.natural() == *ty || signature.split() == *ty
    };
    named(module, name).find(fits)
}

/// The natural type of a function of `env` that has one signature only.
pub(super) fn signature<T: EmscriptenHost>(module: &str, name: &str) -> Option<FuncType> {
    let mut rows = named::<T>(module, name);
    let row = rows.next()?;
    rows.next().is_none().then(|| row.signature().natural())
}

/// Whether `env` has a function of this name.
pub(super) fn knows<T: EmscriptenHost>(name: &str) -> bool {
    named::<T>("env", name).next().is_some()
}

fn named<T: EmscriptenHost>(module: &str, name: &str) -> impl Iterator<Item = &'static Row<T>> {
    Rows::<T>::ALL
        .iter()
        .filter(move |row| row.name == name && row.module == module)
}

struct Rows<T>(PhantomData<T>);

macro_rules! rows {
    ($($action:ident $family:ident::$method:ident as $module:ident.$name:ident
        ($($parameter:ident: $type:ty),*) $(-> $result:ident)?;)*) => {
        impl<T: EmscriptenHost> Rows<T> {
            const ALL: &'static [Row<T>] = &[$(
                Row {
                    module: rows!(@module $module),
                    name: stringify!($name),
                    parameters: &[$(<$type as Parameter>::TYPE),*],
                    result: rows!(@result $($result)?),
                    plain_errno: rows!(@plain $module),
                    action: rows!(@action $action $family $method ($($parameter: $type),*)),
                },
            )*];
        }
    };
    (@module env) => { "env" };
    (@module wasi) => { crate::host::wasi::PREVIEW1 };
    (@plain env) => { false };
    (@plain wasi) => { true };
    (@result) => { None };
    (@result i32) => { Some(ValType::I32) };
    (@result i64) => { Some(ValType::I64) };
    (@result f64) => { Some(ValType::F64) };
    (@action system $family:ident $method:ident ($($parameter:ident: $type:ty),*)) => {
        Action::System(|system, arguments| {
            let _ = &arguments;
            $(let $parameter = <$type as Parameter>::take(arguments);)*
            $family::$method(system $(, $parameter)*).value()
        })
    };
    (@action guest $family:ident $method:ident ($($parameter:ident: $type:ty),*)) => {
        Action::Guest(|guest, arguments| {
            let _ = &arguments;
            $(let $parameter = <$type as Parameter>::take(arguments);)*
            Ok($family::$method(guest $(, $parameter)*)?.value())
        })
    };
}

rows! {
    // Descriptors.
    system files::open as env.__syscall_open(path: u32, flags: u32, rest: u32) -> i32;
    system files::open_at as env.__syscall_openat(directory: i32, path: u32, flags: u32, rest: u32) -> i32;
    system files::duplicate as env.__syscall_dup(fd: u32) -> i32;
    system files::duplicate_to as env.__syscall_dup3(fd: u32, to: u32, flags: u32) -> i32;
    system files::pipe as env.__syscall_pipe(descriptors: u32) -> i32;
    system files::pipe2 as env.__syscall_pipe2(descriptors: u32, flags: u32) -> i32;
    system files::control as env.__syscall_fcntl64(fd: u32, command: u32, rest: u32) -> i32;
    system files::device_control as env.__syscall_ioctl(fd: u32, operation: u32, rest: u32) -> i32;
    system files::truncate as env.__syscall_ftruncate64(fd: u32, size: i64) -> i32;
    system files::allocate as env.__syscall_fallocate(fd: u32, mode: u32, offset: i64, length: i64) -> i32;
    system files::advise as env.__syscall_fadvise64(fd: u32, offset: i64, length: i64, advice: u32) -> i32;
    system files::advise as env.__syscall_fadvise64_64(fd: u32, offset: i64, length: i64, advice: u32) -> i32;
    system files::sync_data as env.__syscall_fdatasync(fd: u32) -> i32;
    system files::list as env.__syscall_getdents64(fd: u32, entries: u32, size: u32) -> i32;
    system files::seek as wasi.fd_seek(fd: u32, offset: i64, whence: u32, position: u32) -> i32;
    system poll::poll as env.__syscall_poll(list: u32, count: u32, timeout: i32) -> i32;
    system poll::select as env.__syscall__newselect(count: u32, read: u32, write: u32, except: u32, timeout: u32) -> i32;

    // Paths.
    system paths::status as env.__syscall_stat64(path: u32, buffer: u32) -> i32;
    system paths::link_status as env.__syscall_lstat64(path: u32, buffer: u32) -> i32;
    system paths::descriptor_status as env.__syscall_fstat64(fd: u32, buffer: u32) -> i32;
    system paths::status_at as env.__syscall_fstatat64(directory: i32, path: u32, buffer: u32, flags: u32) -> i32;
    system paths::status_at as env.__syscall_newfstatat(directory: i32, path: u32, buffer: u32, flags: u32) -> i32;
    system paths::make_directory as env.__syscall_mkdir(path: u32, mode: u32) -> i32;
    system paths::make_directory_at as env.__syscall_mkdirat(directory: i32, path: u32, mode: u32) -> i32;
    system paths::make_node as env.__syscall_mknod(path: u32, mode: u32, device: u32) -> i32;
    system paths::make_node_at as env.__syscall_mknodat(directory: i32, path: u32, mode: u32, device: u32) -> i32;
    system paths::remove_directory as env.__syscall_rmdir(path: u32) -> i32;
    system paths::unlink as env.__syscall_unlink(path: u32) -> i32;
    system paths::unlink_at as env.__syscall_unlinkat(directory: i32, path: u32, flags: u32) -> i32;
    system paths::rename as env.__syscall_rename(from: u32, to: u32) -> i32;
    system paths::rename_at as env.__syscall_renameat(from_directory: i32, from: u32, to_directory: i32, to: u32) -> i32;
    system paths::link_at as env.__syscall_linkat(
        from_directory: i32, from: u32, to_directory: i32, to: u32, flags: u32) -> i32;
    system paths::make_link as env.__syscall_symlink(target: u32, path: u32) -> i32;
    system paths::make_link_at as env.__syscall_symlinkat(target: u32, directory: i32, path: u32) -> i32;
    system paths::read_link as env.__syscall_readlink(path: u32, buffer: u32, size: i32) -> i32;
    system paths::read_link_at as env.__syscall_readlinkat(directory: i32, path: u32, buffer: u32, size: i32) -> i32;
    system paths::working_directory as env.__syscall_getcwd(buffer: u32, size: u32) -> i32;
    system paths::change_directory as env.__syscall_chdir(path: u32) -> i32;
    system paths::change_to_descriptor as env.__syscall_fchdir(fd: u32) -> i32;
    system paths::access_at as env.__syscall_faccessat(directory: i32, path: u32, mode: u32, flags: u32) -> i32;
    system paths::truncate as env.__syscall_truncate64(path: u32, size: i64) -> i32;
    system paths::change_mode as env.__syscall_chmod(path: u32, mode: u32) -> i32;
    system paths::change_mode_of_descriptor as env.__syscall_fchmod(fd: u32, mode: u32) -> i32;
    system paths::change_mode_at as env.__syscall_fchmodat(directory: i32, path: u32, mode: u32, rest: u32) -> i32;
    system paths::change_mode_at as env.__syscall_fchmodat2(directory: i32, path: u32, mode: u32, flags: u32) -> i32;
    system paths::change_owner as env.__syscall_chown32(path: u32, owner: u32, group: u32) -> i32;
    system paths::change_owner_of_link as env.__syscall_lchown32(path: u32, owner: u32, group: u32) -> i32;
    system paths::change_owner_of_descriptor as env.__syscall_fchown32(fd: u32, owner: u32, group: u32) -> i32;
    system paths::change_owner_at as env.__syscall_fchownat(
        directory: i32, path: u32, owner: u32, group: u32, flags: u32) -> i32;
    system paths::set_times as env.__syscall_utimensat(directory: i32, path: u32, times: u32, flags: u32) -> i32;
    system paths::file_system as env.__syscall_statfs64(path: u32, size: u32, buffer: u32) -> i32;
    system paths::file_system_of_descriptor as env.__syscall_fstatfs64(fd: u32, size: u32, buffer: u32) -> i32;
    system paths::umask as env.__syscall_umask(mask: u32) -> i32;
    system paths::umask as env.__syscall_umask_js(mask: u32) -> i32;

    // The user and group are root's, as emscripten's JavaScript says; there is nobody else.
    system process::zero as env.__syscall_getuid32() -> i32;
    system process::zero as env.__syscall_geteuid32() -> i32;
    system process::zero as env.__syscall_getgid32() -> i32;
    system process::zero as env.__syscall_getegid32() -> i32;
    system process::zero as env.__syscall_getuid32_js() -> i32;

    // There is no network.
    system process::no_socket as env.__syscall_socket(family: u32, kind: u32, protocol: u32, _a: u32, _b: u32, _c: u32) -> i32;
    system process::not_a_socket as env.__syscall_bind(fd: u32, _a: u32, _b: u32, _c: u32, _d: u32, _e: u32) -> i32;
    system process::not_a_socket as env.__syscall_connect(fd: u32, _a: u32, _b: u32, _c: u32, _d: u32, _e: u32) -> i32;
    system process::not_a_socket as env.__syscall_listen(fd: u32, _a: u32, _b: u32, _c: u32, _d: u32, _e: u32) -> i32;
    system process::not_a_socket as env.__syscall_accept4(fd: u32, _a: u32, _b: u32, _c: u32, _d: u32, _e: u32) -> i32;
    system process::not_a_socket as env.__syscall_getsockname(fd: u32, _a: u32, _b: u32, _c: u32, _d: u32, _e: u32) -> i32;
    system process::not_a_socket as env.__syscall_getpeername(fd: u32, _a: u32, _b: u32, _c: u32, _d: u32, _e: u32) -> i32;
    system process::not_a_socket as env.__syscall_getsockopt(fd: u32, _a: u32, _b: u32, _c: u32, _d: u32, _e: u32) -> i32;
    system process::not_a_socket as env.__syscall_recvfrom(fd: u32, _a: u32, _b: u32, _c: u32, _d: u32, _e: u32) -> i32;
    system process::not_a_socket as env.__syscall_recvmsg(fd: u32, _a: u32, _b: u32, _c: u32, _d: u32, _e: u32) -> i32;
    system process::not_a_socket as env.__syscall_sendto(fd: u32, _a: u32, _b: u32, _c: u32, _d: u32, _e: u32) -> i32;
    system process::not_a_socket as env.__syscall_sendmsg(fd: u32, _a: u32, _b: u32, _c: u32, _d: u32, _e: u32) -> i32;
    system process::no_address as env.getaddrinfo(_node: u32, _service: u32, _hints: u32, _result: u32) -> i32;
    system process::no_name as env.getnameinfo(
        _address: u32, _size: u32, _node: u32, _node_size: u32, _service: u32, _service_size: u32, _flags: u32) -> i32;
    system process::null as env.gethostbyname(_name: u32) -> i32;
    system process::null as env.getprotobyname(_name: u32) -> i32;

    // Memory.
    guest memory::resize_heap as env.emscripten_resize_heap(size: u32) -> i32;
    guest memory::largest_heap as env.emscripten_get_heap_max() -> i32;
    system memory::growth_happened as env.emscripten_notify_memory_growth(_memory: u32);
    system memory::copy as env.emscripten_memcpy_big(to: u32, from: u32, size: u32) -> i32;
    system memory::copy_quietly as env.emscripten_memcpy_big(to: u32, from: u32, size: u32);
    system memory::copy_quietly as env.emscripten_memcpy_js(to: u32, from: u32, size: u32);
    system memory::copy_quietly as env._emscripten_memcpy_js(to: u32, from: u32, size: u32);
    guest memory::map_file_32 as env._mmap_js(a: u32, b: u32, c: u32, d: u32, e: u32, f: u32, g: u32) -> i32;
    guest memory::map_file as env._mmap_js(
        length: u32, protection: u32, flags: u32, fd: u32, offset: i64, allocated: u32, address: u32) -> i32;
    system memory::unmap_file_32 as env._munmap_js(
        address: u32, length: u32, protection: u32, flags: u32, fd: u32, offset: u32) -> i32;
    system memory::unmap_file as env._munmap_js(
        address: u32, length: u32, protection: u32, flags: u32, fd: u32, offset: i64) -> i32;
    system memory::sync_mapping_32 as env._msync_js(address: u32, length: u32, flags: u32, fd: u32) -> i32;
    system memory::sync_mapping as env._msync_js(
        address: u32, length: u32, protection: u32, flags: u32, fd: u32, offset: i64) -> i32;
    system memory::map_by_name as env.__map_file(_path: u32, _size: u32) -> i32;

    // Time.
    system time::now as env.emscripten_get_now() -> f64;
    system time::resolution as env.emscripten_get_now_res() -> f64;
    system time::is_monotonic as env._emscripten_get_now_is_monotonic() -> i32;
    system time::is_monotonic as env.emscripten_get_now_is_monotonic() -> i32;
    system time::date_now as env.emscripten_date_now() -> f64;
    system time::time as env.time(out: u32) -> i32;
    system time::processor_time as env.clock() -> i32;
    system time::clock_time as env.clock_gettime(clock: u32, out: u32) -> i32;
    system time::clock_time as env.__clock_gettime(clock: u32, out: u32) -> i32;
    system time::clock_resolution as env.clock_getres(clock: u32, out: u32) -> i32;
    system time::time_of_day as env.gettimeofday(out: u32, _zone: u32) -> i32;
    system time::difference as env.difftime(end: i32, start: i32) -> f64;
    system time::set_zone as env._tzset_js(timezone: u32, daylight: u32, standard: u32, summer: u32);
    guest time::set_zone_32 as env._tzset_js(timezone: u32, daylight: u32, names: u32);
    system time::utc_at as env._gmtime_js(time: u32, tm: u32);
    system time::utc as env._gmtime_js(time: i64, tm: u32);
    system time::local_at as env._localtime_js(time: u32, tm: u32);
    system time::local as env._localtime_js(time: i64, tm: u32);
    system time::from_local as env._mktime_js(tm: u32) -> i32;
    system time::from_local_64 as env._mktime_js(tm: u32) -> i64;
    system time::from_utc as env._timegm_js(tm: u32) -> i32;
    system time::from_utc_64 as env._timegm_js(tm: u32) -> i64;
    system format_time::strftime as env.strftime(buffer: u32, size: u32, format: u32, tm: u32) -> i32;
    system format_time::strftime_l as env.strftime_l(buffer: u32, size: u32, format: u32, tm: u32, _locale: u32) -> i32;

    // Dynamic linking.
    guest dynamic::start as env._dlinit(main: u32);
    guest dynamic::open as env._dlopen_js(library: u32) -> i32;
    guest dynamic::symbol as env._dlsym_js(library: u32, name: u32) -> i32;
    guest dynamic::symbol_with_index as env._dlsym_js(library: u32, name: u32, index: u32) -> i32;
    system dynamic::catch_up as env._dlsym_catchup_js(_library: u32, _index: u32) -> i32;
    guest dynamic::open_later_3 as env._emscripten_dlopen_js(library: u32, success: u32, failure: u32);
    guest dynamic::open_later as env._emscripten_dlopen_js(library: u32, success: u32, failure: u32, user: u32);

    // Unwinding.
    guest unwind::throw_longjmp as env._emscripten_throw_longjmp();
    guest unwind::longjmp as env.emscripten_longjmp(buffer: u32, value: u32);
    system process::set_temp_ret0 as env.setTempRet0(value: u32);
    system process::temp_ret0 as env.getTempRet0() -> i32;

    // The process.
    guest process::exit as env.exit(status: i32);
    guest process::exit as env._exit(status: i32);
    guest process::force_exit as env.emscripten_force_exit(status: i32);
    guest process::abort as env.abort();
    guest process::abort as env._abort_js();
    guest process::assertion_failed as env.__assert_fail(condition: u32, file: u32, line: u32, function: u32);
    guest process::stack_overflow as env.__handle_stack_overflow(_stack_pointer: u32);
    guest process::call_signal_handler as env.__call_sighandler(handler: u32, signal: u32);
    system process::random as env.getentropy(buffer: u32, size: u32) -> i32;
    system process::program_name as env._emscripten_get_progname(buffer: u32, size: u32);
    system process::run_command as env._emscripten_system(command: u32) -> i32;
    system process::run_command as env.system(command: u32) -> i32;
    system process::print as env._emscripten_out(text: u32);
    system process::print as env.emscripten_out(text: u32);
    system process::print as env.emscripten_console_log(text: u32);
    system process::print_error as env._emscripten_err(text: u32);
    system process::print_error as env.emscripten_err(text: u32);
    system process::print_error as env.emscripten_console_warn(text: u32);
    system process::print_error as env.emscripten_console_error(text: u32);
    system process::nothing as env.emscripten_debugger();

    // What happens after `main`.
    guest events::exit_with_live_runtime as env.emscripten_exit_with_live_runtime();
    system events::keepalive_push as env.emscripten_runtime_keepalive_push();
    system events::keepalive_pop as env.emscripten_runtime_keepalive_pop();
    system events::keepalive_clear as env._emscripten_runtime_keepalive_clear();
    system events::keepalive_check as env.emscripten_runtime_keepalive_check() -> i32;
    system events::call_later as env.emscripten_async_call(function: u32, argument: u32, milliseconds: i32);
    system events::set_timeout as env.emscripten_set_timeout(function: u32, milliseconds: f64, argument: u32) -> i32;
    system events::clear as env.emscripten_clear_timeout(id: i32);
    system events::set_interval as env.emscripten_set_interval(function: u32, milliseconds: f64, argument: u32) -> i32;
    system events::clear as env.emscripten_clear_interval(id: i32);
    system events::set_immediate as env.emscripten_set_immediate(function: u32, argument: u32) -> i32;
    system events::clear as env.emscripten_clear_immediate(id: i32);
    guest events::set_main_loop as env.emscripten_set_main_loop(function: u32, rate: i32, forever: i32);
    guest events::set_main_loop_with_argument as env.emscripten_set_main_loop_arg(
        function: u32, argument: u32, rate: i32, forever: i32);
    system events::cancel_main_loop as env.emscripten_cancel_main_loop();

    // JavaScript of the program's own.
    guest process::inline_script as env.emscripten_asm_const_int(code: u32, types: u32, arguments: u32) -> i32;
    guest process::inline_script_f64 as env.emscripten_asm_const_double(code: u32, types: u32, arguments: u32) -> f64;
    guest process::inline_script as env.emscripten_asm_const_ptr(code: u32, types: u32, arguments: u32) -> i32;
    guest process::inline_script as env.emscripten_asm_const_int_sync_on_main_thread(
        code: u32, types: u32, arguments: u32) -> i32;
    guest process::inline_script_f64 as env.emscripten_asm_const_double_sync_on_main_thread(
        code: u32, types: u32, arguments: u32) -> f64;
    guest process::inline_script_void as env.emscripten_asm_const_async_on_main_thread(
        code: u32, types: u32, arguments: u32);
    guest process::run_script_void as env.emscripten_run_script(script: u32);
    guest process::run_script as env.emscripten_run_script_int(script: u32) -> i32;
    guest process::run_script as env.emscripten_run_script_string(script: u32) -> i32;

    // C++ exceptions by JavaScript.
    guest unwind::allocate_exception as env.__cxa_allocate_exception(size: u32) -> i32;
    guest unwind::free_exception as env.__cxa_free_exception(exception: u32);
    guest unwind::throw as env.__cxa_throw(_exception: u32, type_info: u32, _destructor: u32);
    guest unwind::rethrow as env.__cxa_rethrow();
    guest unwind::resume as env.__resumeException(_exception: u32);
    system process::zero as env.__cxa_uncaught_exceptions() -> i32;
    system process::zero as env.__cxa_uncaught_exception() -> i32;
}
