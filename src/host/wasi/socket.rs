//! Sockets. Preview 1 cannot make any, and no embedder can give one, so every descriptor that is open is something else.

#![forbid(unsafe_code)]

use crate::host::errno::{Errno, Result};
use crate::host::guest::GuestMemory;
use crate::host::kernel::Kernel;

fn not_a_socket(kernel: &Kernel, fd: u32) -> Result<()> {
    kernel.descriptors.get(fd)?;
    Err(Errno::Notsock)
}

pub(super) fn sock_accept(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    _flags: u32,
    accepted_at: u32,
) -> Result<()> {
    memory.check(accepted_at, 4)?;
    not_a_socket(kernel, fd)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parameters are those of preview 1"
)]
pub(super) fn sock_recv(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    list: u32,
    count: u32,
    _flags: u32,
    received_at: u32,
    flags_at: u32,
) -> Result<()> {
    memory.buffers(list, count)?;
    memory.check(received_at, 4)?;
    memory.check(flags_at, 2)?;
    not_a_socket(kernel, fd)
}

pub(super) fn sock_send(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    fd: u32,
    list: u32,
    count: u32,
    _flags: u32,
    sent_at: u32,
) -> Result<()> {
    memory.buffers(list, count)?;
    memory.check(sent_at, 4)?;
    not_a_socket(kernel, fd)
}

pub(super) fn sock_shutdown(
    kernel: &mut Kernel,
    _memory: &mut GuestMemory<'_>,
    fd: u32,
    _how: u32,
) -> Result<()> {
    not_a_socket(kernel, fd)
}
