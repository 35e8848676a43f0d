//! What programs of cowasm import besides WASI: one row a function, name and kind.
//!
//! The kinds say everything about a function but its type, which is always the importer's. Names that
//! are in no row (curses' panel functions) are not offered: a library that needs them fails to load
//! with their names, as it should. Nor are the few socket functions that the kernel has itself.

#![forbid(unsafe_code)]

use crate::host::errno::Errno;

/// How a function behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Does its work; see `services`.
    Does(Service),
    /// Gives this number and has no effect.
    Gives(i32),
    /// Fails as POSIX calls do: -1, with this error in `errno`.
    Fails(Errno),
    /// Fails with a null pointer and this error in `errno`.
    FailsNull(Errno),
    /// Fails by giving the error's number, as the `posix_spawn` and `get..._r` families do.
    FailsWith(Errno),
    /// Calls the table's function of the first parameter with the other parameters, surplus ones dropped.
    Trampoline,
    /// Cannot be done without exceptions or stack switching: traps, saying why.
    Traps(&'static str),
}

/// The functions that do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    GetRandom,
    GetHostName,
    GetGroups,
    GetGroupList,
    GetResourceIds,
    Umask,
    RealPath,
    Dup,
    Dup2,
    Pipe,
    /// Succeeds if the descriptor is open: there are no owners, permissions and other processes that could change.
    CheckDescriptor,
    /// Succeeds if the path leads to something: files have no owners and permissions that could change.
    CheckPath,
    Sync,
    TerminalGet,
    TerminalSet,
    SignalState,
    SignalSetEmpty,
    SignalSetFill,
    SignalSetAdd,
    SignalSetHas,
    SignalMask,
    SendString,
    SetException,
    HErrnoLocation,
    OperatorNew,
    OperatorDelete,
    /// Gives its parameter of this number: what `gettext` does without a catalogue for one form.
    PluralForm {
        singular: u8,
    },
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub name: &'static str,
    pub kind: Kind,
}

/// The place of a function's row.
pub(crate) fn place(name: &str) -> Option<usize> {
    TABLE.binary_search_by(|row| row.name.cmp(name)).ok()
}

impl Service {
    /// What is given when the service fails, besides `errno`.
    pub(crate) fn failure(self) -> i32 {
        match self {
            Service::RealPath => 0,
            _ => -1,
        }
    }
}

const NO_EXCEPTIONS: &str = "this build of the guest has no C++ exceptions";
const NO_LONGJMP: &str =
    "this build of the guest has no stack unwinding, so a longjmp cannot be carried out";

const fn does(name: &'static str, service: Service) -> Row {
    Row {
        name,
        kind: Kind::Does(service),
    }
}
const fn gives(name: &'static str, value: i32) -> Row {
    Row {
        name,
        kind: Kind::Gives(value),
    }
}
const fn fails(name: &'static str) -> Row {
    Row {
        name,
        kind: Kind::Fails(Errno::Nosys),
    }
}
const fn fails_as(name: &'static str, errno: Errno) -> Row {
    Row {
        name,
        kind: Kind::Fails(errno),
    }
}
const fn null(name: &'static str) -> Row {
    Row {
        name,
        kind: Kind::FailsNull(Errno::Nosys),
    }
}
const fn fails_with(name: &'static str, errno: Errno) -> Row {
    Row {
        name,
        kind: Kind::FailsWith(errno),
    }
}
const fn traps(name: &'static str, why: &'static str) -> Row {
    Row {
        name,
        kind: Kind::Traps(why),
    }
}
const fn trampoline(name: &'static str) -> Row {
    Row {
        name,
        kind: Kind::Trampoline,
    }
}

/// User and group of the guest, as in a container of its own.
pub(crate) const USER: i32 = 1000;
/// Process of the guest: the only one.
const PROCESS: i32 = 1;
/// `EAI_SYSTEM` would send the caller to `errno`; `EAI_FAIL` says "non-recoverable failure in name resolution".
const EAI_FAIL: i32 = -4;

/// Sorted by name.
#[rustfmt::skip]
pub(crate) const TABLE: &[Row] = &[
    trampoline("_PyCFunctionWithKeywords_TrampolineCall"),
    trampoline("_PyImport_InitFunc_TrampolineCall"),
    gives("_Py_emscripten_runtime", 0),
    traps("_ZNSt20bad_array_new_lengthC1Ev", NO_EXCEPTIONS),
    traps("_ZNSt20bad_array_new_lengthD1Ev", NO_EXCEPTIONS),
    traps("_ZTISt20bad_array_new_length", NO_EXCEPTIONS),
    does("_ZdlPv", Service::OperatorDelete),
    does("_Znwm", Service::OperatorNew),
    traps("__cxa_allocate_exception", NO_EXCEPTIONS),
    traps("__cxa_throw", NO_EXCEPTIONS),
    does("__h_errno_location", Service::HErrnoLocation),
    does("_fchmod", Service::CheckDescriptor),
    does("_fchown", Service::CheckDescriptor),
    gives("_geteuid", USER),
    fails("accept"),
    gives("alarm", 0),
    fails("bind"),
    does("chmod", Service::CheckPath),
    does("chown", Service::CheckPath),
    fails_as("clock_settime", Errno::Perm),
    fails("connect"),
    fails("cowasm_vforkexec"),
    null("ctermid"),
    does("dcngettext", Service::PluralForm { singular: 1 }),
    trampoline("descr_get_trampoline_call"),
    trampoline("descr_set_trampoline_call"),
    does("dngettext", Service::PluralForm { singular: 1 }),
    does("dup", Service::Dup),
    does("dup2", Service::Dup2),
    fails("execlp"),
    fails("execv"),
    fails("execve"),
    fails("fchdir"),
    fails("fchmodat"),
    fails("fexecve"),
    fails("fork"),
    fails("forkpty"),
    fails("fstatvfs"),
    null("gai_strerror"),
    gives("getaddrinfo", EAI_FAIL),
    gives("getegid", USER),
    gives("getgid", USER),
    does("getgrouplist", Service::GetGroupList),
    does("getgroups", Service::GetGroups),
    null("gethostbyaddr"),
    null("gethostbyname"),
    does("gethostname", Service::GetHostName),
    fails("getloadavg"),
    null("getlogin"),
    gives("getnameinfo", EAI_FAIL),
    fails("getpeername"),
    gives("getpgid", PROCESS),
    gives("getpgrp", PROCESS),
    gives("getpid", PROCESS),
    gives("getppid", 0),
    gives("getpriority", 0),
    null("getprotobyname"),
    fails_with("getpwnam_r", Errno::Nosys),
    null("getpwuid"),
    fails_with("getpwuid_r", Errno::Nosys),
    does("getrandom", Service::GetRandom),
    does("getresgid", Service::GetResourceIds),
    does("getresuid", Service::GetResourceIds),
    null("getservbyname"),
    null("getservbyport"),
    gives("getsid", PROCESS),
    fails("getsockname"),
    gives("getuid", USER),
    null("hstrerror"),
    gives("if_freenameindex", 0),
    null("if_indextoname"),
    null("if_nameindex"),
    null("if_nametoindex"),
    fails_as("initgroups", Errno::Perm),
    fails("kill"),
    fails("killpg"),
    does("lchmod", Service::CheckPath),
    does("lchown", Service::CheckPath),
    fails("listen"),
    fails("lockf"),
    fails("login_tty"),
    traps("longjmp", NO_LONGJMP),
    fails("madvise"),
    gives("main", 0),
    fails("mremap"),
    fails("msync"),
    does("ngettext", Service::PluralForm { singular: 0 }),
    fails("nice"),
    gives("openlog", 0),
    fails("pause"),
    fails("pclose"),
    does("pipe", Service::Pipe),
    null("popen"),
    fails_with("posix_spawn", Errno::Nosys),
    fails_with("posix_spawn_file_actions_addclose", Errno::Nosys),
    fails_with("posix_spawn_file_actions_adddup2", Errno::Nosys),
    fails_with("posix_spawn_file_actions_addopen", Errno::Nosys),
    fails_with("posix_spawn_file_actions_destroy", Errno::Nosys),
    fails_with("posix_spawn_file_actions_init", Errno::Nosys),
    fails_with("posix_spawnattr_destroy", Errno::Nosys),
    fails_with("posix_spawnattr_init", Errno::Nosys),
    fails_with("posix_spawnattr_setflags", Errno::Nosys),
    fails_with("posix_spawnattr_setpgroup", Errno::Nosys),
    fails_with("posix_spawnattr_setschedparam", Errno::Nosys),
    fails_with("posix_spawnattr_setschedpolicy", Errno::Nosys),
    fails_with("posix_spawnp", Errno::Nosys),
    fails("python_wasm_fork_exec"),
    does("python_wasm_set_inheritable", Service::CheckDescriptor),
    fails("raise"),
    does("realpath", Service::RealPath),
    fails("recvfrom"),
    fails("sched_get_priority_max"),
    fails("sched_get_priority_min"),
    fails("sched_getparam"),
    fails("sched_getscheduler"),
    fails("sched_rr_get_interval"),
    fails("sched_setparam"),
    fails("sched_setscheduler"),
    fails("sendto"),
    fails_as("setegid", Errno::Perm),
    fails_as("seteuid", Errno::Perm),
    fails_as("setgid", Errno::Perm),
    fails_as("setgroups", Errno::Perm),
    fails_as("sethostname", Errno::Perm),
    gives("setjmp", 0),
    fails("setpgid"),
    fails("setpgrp"),
    fails_as("setpriority", Errno::Perm),
    fails_as("setregid", Errno::Perm),
    fails_as("setresgid", Errno::Perm),
    fails_as("setresuid", Errno::Perm),
    fails_as("setreuid", Errno::Perm),
    fails_as("setsid", Errno::Perm),
    fails("setsockopt"),
    fails_as("setuid", Errno::Perm),
    does("sigaddset", Service::SignalSetAdd),
    does("sigemptyset", Service::SignalSetEmpty),
    does("sigfillset", Service::SignalSetFill),
    does("sigismember", Service::SignalSetHas),
    traps("siglongjmp", NO_LONGJMP),
    does("sigprocmask", Service::SignalMask),
    gives("sigsetjmp", 0),
    fails("socket"),
    fails("statvfs"),
    does("sync", Service::Sync),
    fails("system"),
    fails_as("tcdrain", Errno::Notty),
    fails_as("tcflow", Errno::Notty),
    fails_as("tcflush", Errno::Notty),
    does("tcgetattr", Service::TerminalGet),
    fails_as("tcgetpgrp", Errno::Notty),
    fails_as("tcsendbreak", Errno::Notty),
    does("tcsetattr", Service::TerminalSet),
    fails_as("tcsetpgrp", Errno::Notty),
    null("tmpfile"),
    null("tmpnam"),
    fails_with("ttyname_r", Errno::Notty),
    does("umask", Service::Umask),
    fails_as("wait", Errno::Child),
    fails_as("waitid", Errno::Child),
    fails_as("waitpid", Errno::Child),
    does("wasmGetSignalState", Service::SignalState),
    does("wasmSendString", Service::SendString),
    does("wasmSetException", Service::SetException),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str) -> Option<Kind> {
        place(name).map(|place| TABLE[place].kind)
    }

    #[test]
    fn the_table_is_sorted_so_that_every_row_is_found() {
        for pair in TABLE.windows(2) {
            assert!(
                pair[0].name < pair[1].name,
                "{} {}",
                pair[0].name,
                pair[1].name
            );
        }
        for row in TABLE {
            assert_eq!(find(row.name), Some(row.kind));
        }
        assert_eq!(find("new_panel"), None);
    }

    #[test]
    fn functions_that_return_pointers_never_return_minus_one() {
        for name in [
            "ctermid",
            "gai_strerror",
            "gethostbyaddr",
            "gethostbyname",
            "getlogin",
            "getprotobyname",
            "getpwuid",
            "getservbyname",
            "getservbyport",
            "hstrerror",
            "if_nameindex",
            "popen",
            "tmpfile",
            "tmpnam",
        ] {
            assert!(matches!(find(name), Some(Kind::FailsNull(_))), "{name}");
        }
    }

    #[test]
    fn the_trampolines_are_four() {
        let count = TABLE
            .iter()
            .filter(|row| row.kind == Kind::Trampoline)
            .count();
        assert_eq!(count, 4);
    }
}
