//! How the code that ended a run becomes an error: the frames are walked and named.

use crate::error::{Error, ErrorKind};
use crate::runtime::records::FuncRec;
use crate::runtime::store::StoreCore;
use crate::trap::{Backtrace, Frame, TrapCode};

/// Innermost frames that are named; deeper ones are counted.
const KEPT: usize = 32;

/// The error for a run that ended with `code`.
///
/// # Safety
/// `core` is the running store, its context says where the run stopped.
#[cold]
pub(super) unsafe fn error(core: *mut StoreCore, code: u64) -> Error {
    // SAFETY: the caller's.
    unsafe {
        let ctx = &raw mut (*core).ctx;
        let mut error = match (*ctx).error.take() {
            Some(error) => error,
            None => Error::from(trap_code(code)),
        };
        if let ErrorKind::Trap(trap) = error.kind_mut()
            && trap.backtrace().frames.is_empty()
        {
            let backtrace = walk(core);
            trap.set_backtrace(backtrace);
        }
        error
    }
}

/// The trap code behind a handler's return value.
fn trap_code(code: u64) -> TrapCode {
    use TrapCode::*;
    [
        Unreachable,
        MemoryOutOfBounds,
        TableOutOfBounds,
        UndefinedElement,
        UninitializedElement,
        IndirectCallTypeMismatch,
        IntegerOverflow,
        IntegerDivideByZero,
        BadConversionToInteger,
        StackOverflow,
        OutOfFuel,
        Interrupted,
        NullReference,
        UnresolvedFunction,
    ]
    .into_iter()
    .find(|known| *known as u64 == code)
    .unwrap_or(Host)
}

/// The frames of the run that stopped, innermost first.
unsafe fn walk(core: *mut StoreCore) -> Backtrace {
    // SAFETY: every frame of a run has its return ip and its caller's frame below it; the run's entry
    // cell, which is in no code of the store, ends the walk.
    unsafe {
        let ctx = &raw const (*core).ctx;
        let (mut ip, mut sp) = ((*ctx).ip as usize, (*ctx).sp);
        let mut backtrace = Backtrace::default();
        // The innermost ip is that of an instruction, or of a stub with the frame already made.
        if (*core).code.find(ip).is_none() {
            if sp.is_null() {
                return backtrace;
            }
            (ip, sp) = caller(sp);
        }
        while let Some((code, word)) = (*core).code.find(ip) {
            if !code.record.is_null() {
                if backtrace.frames.len() < KEPT {
                    let func = code.record.cast::<FuncRec>();
                    let module = &(*(*func).instance).module;
                    backtrace.frames.push(Frame {
                        module: module.name().map(str::to_owned),
                        function: module.function_name((*func).index),
                        index: (*func).index,
                        offset: code.place(word),
                    });
                } else {
                    backtrace.omitted += 1;
                }
            }
            (ip, sp) = caller(sp);
        }
        backtrace
    }
}

/// Ip (of the last word of the call) and frame of the caller of the frame `sp`.
unsafe fn caller(sp: *mut u8) -> (usize, *mut u8) {
    // SAFETY: the frame's saved words.
    unsafe {
        let saved = sp.cast::<u64>();
        (
            (*saved.sub(1) as usize).wrapping_sub(8),
            *saved.sub(2) as *mut u8,
        )
    }
}
