//! Arguments and environment.

#![forbid(unsafe_code)]

use crate::host::errno::{Errno, Result};
use crate::host::guest::GuestMemory;
use crate::host::kernel::Kernel;

/// Writes the strings one after the other, each with a NUL, and the array of pointers to them.
fn write_strings(
    memory: &mut GuestMemory<'_>,
    strings: &[String],
    mut pointers: u32,
    mut buffer: u32,
) -> Result<()> {
    let (count, size) = sizes(strings)?;
    memory.check(pointers, count.checked_mul(4).ok_or(Errno::Overflow)?)?;
    memory.check(buffer, size)?;
    for string in strings {
        memory.write_u32(pointers, buffer)?;
        memory.write(buffer, string.as_bytes())?;
        let length = u32::try_from(string.len()).map_err(|_| Errno::Overflow)?;
        buffer = buffer.checked_add(length).ok_or(Errno::Fault)?;
        memory.write_u8(buffer, 0)?;
        // The last string may end at the last byte of a memory of 4 GiB; nothing is written after it.
        buffer = buffer.wrapping_add(1);
        pointers = pointers.wrapping_add(4);
    }
    Ok(())
}

fn sizes(strings: &[String]) -> Result<(u32, u32)> {
    let size: usize = strings.iter().map(|string| string.len() + 1).sum();
    let count = u32::try_from(strings.len()).map_err(|_| Errno::Overflow)?;
    let size = u32::try_from(size).map_err(|_| Errno::Overflow)?;
    Ok((count, size))
}

fn write_sizes(
    memory: &mut GuestMemory<'_>,
    strings: &[String],
    count_at: u32,
    size_at: u32,
) -> Result<()> {
    let (count, size) = sizes(strings)?;
    memory.check(count_at, 4)?;
    memory.write_u32(size_at, size)?;
    memory.write_u32(count_at, count)
}

pub(super) fn args_get(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    argv: u32,
    buffer: u32,
) -> Result<()> {
    write_strings(memory, &kernel.arguments, argv, buffer)
}

pub(super) fn args_sizes_get(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    count: u32,
    size: u32,
) -> Result<()> {
    write_sizes(memory, &kernel.arguments, count, size)
}

pub(super) fn environ_get(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    environ: u32,
    buffer: u32,
) -> Result<()> {
    write_strings(memory, &kernel.environment, environ, buffer)
}

pub(super) fn environ_sizes_get(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    count: u32,
    size: u32,
) -> Result<()> {
    write_sizes(memory, &kernel.environment, count, size)
}
