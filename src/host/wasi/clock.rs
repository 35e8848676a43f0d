//! Clocks.

#![forbid(unsafe_code)]

use crate::host::errno::{Errno, Result};
use crate::host::guest::GuestMemory;
use crate::host::kernel::Kernel;

pub(super) const REALTIME: u32 = 0;
pub(super) const MONOTONIC: u32 = 1;
const PROCESS_CPUTIME: u32 = 2;
/// Guests have one thread, so this is the clock of the process.
const THREAD_CPUTIME: u32 = 3;

pub(super) fn clock_res_get(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    id: u32,
    resolution: u32,
) -> Result<()> {
    if id > THREAD_CPUTIME {
        return Err(Errno::Inval);
    }
    memory.write_u64(resolution, kernel.clock.resolution())
}

pub(super) fn clock_time_get(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    id: u32,
    _precision: u64,
    time: u32,
) -> Result<()> {
    let now = match id {
        REALTIME => kernel.clock.realtime(),
        MONOTONIC => kernel.clock.monotonic(),
        PROCESS_CPUTIME | THREAD_CPUTIME => kernel.clock.processor(),
        _ => return Err(Errno::Inval),
    };
    memory.write_u64(time, now)
}
