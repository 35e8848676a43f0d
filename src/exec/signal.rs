//! The signal that reports an access which the processor refused: a handler for the whole process, which asks
//! [`guard`](super::guard) and else passes the signal on to whoever handled it before.
//!
//! It is installed once, when the first memory with guard pages is made, and stays. Handlers that are installed later
//! must pass on what is not theirs, as this one does; those of wasmtime, of Go's and of Java's runtimes do. Of `std`,
//! which handles the signal for its message about an overflow of the stack, this one is the successor. A predecessor is
//! called with this handler's mask, and stays whatever it asked for once. A dynamic library that holds this code must not be
//! unloaded.
//!
//! The declarations are those of the C library that `std` links anyway; glibc and musl agree on them, and the layout of
//! what a handler gets is the kernel's.

use std::ffi::{c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The signal.
const SIGSEGV: c_int = 11;
/// The page is there and gives no such access.
const SEGV_ACCERR: c_int = 2;
/// The handler gets information.
const SA_SIGINFO: c_int = 4;
/// The handler runs on the thread's stack for signals, if it has one: what is to be passed on may be an overflow of the other one.
const SA_ONSTACK: c_int = 0x0800_0000;
/// In place of a handler: what the system does by itself.
const SIG_DFL: usize = 0;
/// In place of a handler: nothing.
const SIG_IGN: usize = 1;

/// `struct sigaction`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Action {
    handler: usize,
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}

/// The beginning of `siginfo_t` for a fault.
#[repr(C)]
struct Info {
    signal: c_int,
    errno: c_int,
    /// Positive if the kernel found the reason itself, not somebody who sent the signal.
    code: c_int,
    address: u64,
}

/// The beginning of `ucontext_t`.
#[repr(C)]
struct Context {
    flags: u64,
    link: *mut c_void,
    stack: [u64; 3],
    registers: Registers,
}

/// `gregset_t`.
#[repr(C)]
pub(super) struct Registers([u64; 23]);

const R8: usize = 0;
const R9: usize = 1;
const RDI: usize = 8;
const RDX: usize = 12;
const RIP: usize = 16;

impl Registers {
    /// The instruction that the thread was at.
    pub(super) fn rip(&self) -> u64 {
        self.0[RIP]
    }

    pub(super) fn rdx(&self) -> u64 {
        self.0[RDX]
    }

    pub(super) fn rdi(&self) -> u64 {
        self.0[RDI]
    }

    pub(super) fn r8(&self) -> u64 {
        self.0[R8]
    }

    /// The thread goes on here.
    pub(super) fn set_rip(&mut self, value: u64) {
        self.0[RIP] = value;
    }

    pub(super) fn set_rdi(&mut self, value: u64) {
        self.0[RDI] = value;
    }

    pub(super) fn set_r9(&mut self, value: u64) {
        self.0[R9] = value;
    }
}

/// What a handler learns of a fault of its thread.
pub(super) struct Fault<'a> {
    /// Whether there is a page that gives no access; else there is none, or somebody sent the signal.
    pub(super) is_refusal: bool,
    /// The byte that was to be accessed.
    pub(super) address: u64,
    /// What the thread goes on with.
    pub(super) registers: &'a mut Registers,
}

unsafe extern "C" {
    fn sigaction(signal: c_int, action: *const Action, old: *mut Action) -> c_int;
    fn raise(signal: c_int) -> c_int;
}

/// Who handled the signal before; null until the handler is installed.
static PREVIOUS: AtomicPtr<Action> = AtomicPtr::new(null_mut());

/// Installs the handler, once in the life of the process. False: the system does not want it.
pub(super) fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        let handler: extern "C" fn(c_int, *mut Info, *mut Context) = handle;
        let own = Action {
            handler: handler as usize,
            mask: [0; 16],
            flags: SA_SIGINFO | SA_ONSTACK,
            restorer: 0,
        };
        // The handler must know its predecessor from its first signal on, so that is asked for before.
        let (mut before, mut replaced) = (own, own);
        // SAFETY: the pointers are to actions, or null, which asks only.
        if unsafe { sigaction(SIGSEGV, null(), &raw mut before) } != 0 {
            return false;
        }
        PREVIOUS.store(Box::leak(Box::new(before)), Ordering::Release);
        // SAFETY: as above; the handler does what a handler may.
        if unsafe { sigaction(SIGSEGV, &raw const own, &raw mut replaced) } != 0 {
            return false;
        }
        if replaced.handler != before.handler {
            PREVIOUS.store(Box::leak(Box::new(replaced)), Ordering::Release);
        }
        true
    })
}

/// The handler.
extern "C" fn handle(signal: c_int, info: *mut Info, context: *mut Context) {
    // SAFETY: the kernel gives both for this thread, and nobody else refers to them.
    let is_ours = unsafe {
        super::guard::recover(&mut Fault {
            is_refusal: (*info).code == SEGV_ACCERR,
            address: (*info).address,
            registers: &mut (*context).registers,
        })
    };
    if !is_ours {
        // SAFETY: what the kernel gave is handed on as it is.
        unsafe { pass_on(signal, info, context) };
    }
}

/// Gives the signal to who handled it before, or lets the system do what it does by itself.
///
/// # Safety
/// The arguments are those of the handler.
unsafe fn pass_on(signal: c_int, info: *mut Info, context: *mut Context) {
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: it was set before the handler was installed, and is never freed. A handler has one of two types, which the
    // flag tells. Actions of the system are restored: a fault repeats behind the handler, what was sent is sent again.
    unsafe {
        let was_sent = (*info).code <= 0;
        let own: extern "C" fn(c_int, *mut Info, *mut Context) = handle;
        match (*previous).handler {
            SIG_IGN if was_sent => {}
            // Left by a library that was unloaded and lies here again.
            handler if handler == own as usize => {
                let action = Action {
                    handler: SIG_DFL,
                    ..*previous
                };
                sigaction(SIGSEGV, &raw const action, null_mut());
            }
            SIG_DFL | SIG_IGN => {
                sigaction(SIGSEGV, previous, null_mut());
                if was_sent {
                    raise(signal);
                }
            }
            handler if (*previous).flags & SA_SIGINFO != 0 => {
                let handler = std::mem::transmute::<
                    usize,
                    extern "C" fn(c_int, *mut Info, *mut Context),
                >(handler);
                handler(signal, info, context);
            }
            handler => {
                let handler = std::mem::transmute::<usize, extern "C" fn(c_int)>(handler);
                handler(signal);
            }
        }
    }
}
