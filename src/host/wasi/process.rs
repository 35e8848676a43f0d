//! The process itself: exit, signals, the processor, randomness.

#![forbid(unsafe_code)]

use super::Refusal;
use crate::host::errno::{Errno, Result};
use crate::host::guest::GuestMemory;
use crate::host::kernel::Kernel;

pub(super) fn proc_exit(
    kernel: &mut Kernel,
    _memory: &mut GuestMemory<'_>,
    status: u32,
) -> Result<(), Refusal> {
    let status = status.cast_signed();
    kernel.exit(status);
    Err(Refusal::Exit(status))
}

/// Guests cannot install handlers in preview 1, so a signal does what it does by default: most end the process, with the
/// status that shells give for it.
pub(super) fn proc_raise(
    kernel: &mut Kernel,
    _memory: &mut GuestMemory<'_>,
    signal: u32,
) -> Result<(), Refusal> {
    const NONE: u32 = 0;
    const CHILD: u32 = 16;
    const CONTINUE: u32 = 17;
    const STOP: u32 = 18;
    const TERMINAL_OUTPUT: u32 = 21;
    const URGENT: u32 = 22;
    const WINDOW: u32 = 27;
    const LAST: u32 = 30;
    match signal {
        NONE | CHILD | CONTINUE | URGENT | WINDOW => Ok(()),
        // A process that stops could never be continued.
        STOP..=TERMINAL_OUTPUT => Err(Errno::Nosys.into()),
        1..=LAST => {
            let status = 128 + signal.cast_signed();
            kernel.exit(status);
            Err(Refusal::Exit(status))
        }
        _ => Err(Errno::Inval.into()),
    }
}

pub(super) fn sched_yield(_kernel: &mut Kernel, _memory: &mut GuestMemory<'_>) -> Result<()> {
    std::thread::yield_now();
    Ok(())
}

pub(super) fn random_get(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    buffer: u32,
    length: u32,
) -> Result<()> {
    kernel.random(memory.bytes_mut(buffer, length)?)
}
