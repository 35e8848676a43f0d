//! Faults that are none of a guest's accesses: they end the process as they would without us, or reach whoever handled
//! them before. Each case is a process of its own, which is this test's program again with the name of one case.

use super::{PEEK, call, guarded, instance, is_out_of_bounds};
use dynlink::{Instance, Store};
use std::ffi::{c_int, c_void};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Set in the processes that are cases.
const CASE: &str = "DYNLINK_GUARD_CASE";

const SIGABRT: c_int = 6;
const SIGSEGV: c_int = 11;
const SA_SIGINFO: c_int = 4;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;

/// `struct sigaction` of glibc and musl.
#[repr(C)]
struct Action {
    handler: usize,
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}

unsafe extern "C" {
    fn sigaction(signal: c_int, action: *const Action, old: *mut Action) -> c_int;
    fn raise(signal: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
}

/// Installs a handler; gives the address of the one before.
fn install(handler: usize, flags: c_int) -> usize {
    let action = |handler, flags| Action {
        handler,
        mask: [0; 16],
        flags,
        restorer: 0,
    };
    let mut old = action(0, 0);
    // SAFETY: both pointers are to actions; the handlers here do only what handlers may.
    let done = unsafe { sigaction(SIGSEGV, &action(handler, flags), &mut old) };
    assert_eq!(done, 0);
    old.handler
}

/// Runs a case as a process.
fn run(name: &str) -> Output {
    let program = std::env::current_exe().expect("the test's program");
    let output = Command::new(program)
        .args([
            "--exact",
            &format!("signals::{name}"),
            "--ignored",
            "--nocapture",
        ])
        .env(CASE, "1")
        .output();
    output.expect("the case starts")
}

/// Whether this process is a case; `cargo test -- --include-ignored` runs the cases' functions, too.
fn is_case() -> bool {
    std::env::var_os(CASE).is_some()
}

/// A guest that has trapped already: our handler is installed and does its work.
fn trapped() -> (Store<()>, Instance) {
    let [engine, _] = guarded();
    let mut store = Store::new(&engine, ());
    let instance = instance(&mut store, "peek", PEEK, &[]);
    is_out_of_bounds(&call(&mut store, instance, "peek", &[-1]));
    (store, instance)
}

/// Reads a byte that is not there.
fn fault(address: usize) -> u8 {
    // SAFETY: none; this is the fault that is asked for.
    unsafe { std::hint::black_box(address as *const u8).read_volatile() }
}

/// An address that nothing is mapped at.
const NOWHERE: usize = 0x40;

#[track_caller]
fn died_of(signal: c_int, output: &Output) {
    assert_eq!(output.status.signal(), Some(signal), "{output:?}");
}

#[test]
fn a_fault_elsewhere_ends_the_process() {
    died_of(SIGSEGV, &run("case_elsewhere"));
}

#[test]
#[ignore = "a process of its own: run by the test above"]
fn case_elsewhere() {
    if is_case() {
        let _guest = trapped();
        fault(NOWHERE);
    }
}

#[test]
fn a_fault_of_the_host_behind_a_memory_ends_the_process() {
    died_of(SIGSEGV, &run("case_host_behind_memory"));
}

#[test]
#[ignore = "a process of its own: run by the test above"]
fn case_host_behind_memory() {
    if is_case() {
        let (mut store, instance) = trapped();
        let memory = instance.get_memory(&mut store, "memory").expect("a memory");
        let data = memory.data(&store);
        fault(data.as_ptr() as usize + data.len());
    }
}

#[test]
fn a_handler_that_was_there_before_gets_the_faults_that_are_not_ours() {
    assert_eq!(run("case_handler_with_information").status.code(), Some(42));
    assert_eq!(
        run("case_handler_without_information").status.code(),
        Some(43)
    );
}

extern "C" fn with_information(signal: c_int, info: *const c_void, context: *const c_void) {
    // SAFETY: the address of the fault is 16 bytes behind the start of what a handler gets.
    let address = unsafe { info.cast::<u8>().add(16).cast::<usize>().read() };
    let right = signal == SIGSEGV && address == NOWHERE && !context.is_null();
    // SAFETY: always allowed.
    unsafe { _exit(if right { 42 } else { 1 }) }
}

extern "C" fn without_information(signal: c_int) {
    // SAFETY: always allowed.
    unsafe { _exit(if signal == SIGSEGV { 43 } else { 1 }) }
}

#[test]
#[ignore = "a process of its own: run by the test above"]
fn case_handler_with_information() {
    if is_case() {
        let handler: extern "C" fn(c_int, *const c_void, *const c_void) = with_information;
        install(handler as usize, SA_SIGINFO);
        let _guest = trapped();
        fault(NOWHERE);
    }
}

#[test]
#[ignore = "a process of its own: run by the test above"]
fn case_handler_without_information() {
    if is_case() {
        let handler: extern "C" fn(c_int) = without_information;
        install(handler as usize, 0);
        let _guest = trapped();
        fault(NOWHERE);
    }
}

#[test]
fn a_signal_that_was_sent_does_what_it_did_before() {
    died_of(SIGSEGV, &run("case_sent_by_default"));
    // One that was ignored stays so; a fault cannot be ignored.
    let output = run("case_sent_and_ignored");
    died_of(SIGSEGV, &output);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("ignored"),
        "{output:?}"
    );
}

#[test]
#[ignore = "a process of its own: run by the test above"]
fn case_sent_by_default() {
    if is_case() {
        install(SIG_DFL, 0);
        let _guest = trapped();
        // SAFETY: sends a signal to this thread.
        unsafe { raise(SIGSEGV) };
    }
}

#[test]
#[ignore = "a process of its own: run by the test above"]
fn case_sent_and_ignored() {
    if is_case() {
        install(SIG_IGN, 0);
        let (mut store, instance) = trapped();
        // SAFETY: sends a signal to this thread.
        unsafe { raise(SIGSEGV) };
        is_out_of_bounds(&call(&mut store, instance, "peek", &[65_536]));
        eprintln!("ignored");
        fault(NOWHERE);
    }
}

#[test]
fn an_overflow_of_the_native_stack_is_still_told_by_the_standard_library() {
    let output = run("case_overflow");
    died_of(SIGABRT, &output);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("has overflowed its stack"), "{told}");
}

/// Recursion that no compiler turns into a loop.
fn deep(n: usize) -> usize {
    let frame = std::hint::black_box([n; 64]);
    if frame[0] == usize::MAX {
        return 0;
    }
    deep(n + 1) + frame[n % 64]
}

#[test]
#[ignore = "a process of its own: run by the test above"]
fn case_overflow() {
    if is_case() {
        let _guest = trapped();
        std::hint::black_box(deep(0));
    }
}

/// The handler that a later one passes faults on to.
static PASSED_ON_TO: AtomicUsize = AtomicUsize::new(0);
/// How many it passed on.
static PASSED_ON: AtomicUsize = AtomicUsize::new(0);

extern "C" fn later(signal: c_int, info: *const c_void, context: *const c_void) {
    PASSED_ON.fetch_add(1, Ordering::Relaxed);
    let handler = PASSED_ON_TO.load(Ordering::Relaxed);
    // SAFETY: it is the handler that was installed before, which has this type.
    unsafe {
        let handler: extern "C" fn(c_int, *const c_void, *const c_void) =
            std::mem::transmute(handler);
        handler(signal, info, context);
    }
}

#[test]
fn a_handler_that_is_installed_later_and_passes_on_changes_nothing() {
    let output = run("case_later_handler");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("passed on 100 times"), "{output:?}");
}

#[test]
#[ignore = "a process of its own: run by the test above"]
fn case_later_handler() {
    if is_case() {
        let (mut store, instance) = trapped();
        let handler: extern "C" fn(c_int, *const c_void, *const c_void) = later;
        PASSED_ON_TO.store(install(handler as usize, SA_SIGINFO), Ordering::Relaxed);
        for round in 1..=100 {
            is_out_of_bounds(&call(&mut store, instance, "peek", &[-round]));
        }
        assert_eq!(PASSED_ON.load(Ordering::Relaxed), 100);
        println!("passed on 100 times");
    }
}
