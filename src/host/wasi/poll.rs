//! Waiting: for a time, or for a descriptor to become ready.
//!
//! Files are always ready. Standard input of the host is waited for; pipes in memory tell at once.

#![forbid(unsafe_code)]

use super::clock::{MONOTONIC, REALTIME};
use super::layout::Record;
use crate::host::errno::{Errno, Result};
use crate::host::guest::GuestMemory;
use crate::host::kernel::Kernel;
use crate::host::stream::Readiness;

/// Most subscriptions of one call: two for each of a full table of descriptors, and then some.
const SUBSCRIPTION_LIMIT: u32 = 4096;

const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

/// The flag of a clock subscription whose time is a point, not a length.
const ABSTIME: u16 = 1;
/// The flag of an event for a stream whose other end is gone.
const HANGUP: u16 = 1;

struct Subscription {
    userdata: u64,
    tag: u8,
    wish: Wish,
}

enum Wish {
    /// A clock and the time that it has to reach.
    Time {
        clock: u32,
        at: u64,
    },
    Read {
        fd: u32,
    },
    Write {
        fd: u32,
    },
    /// It cannot be fulfilled.
    Wrong(Errno),
}

struct Event {
    userdata: u64,
    tag: u8,
    errno: Errno,
    bytes: u64,
    flags: u16,
}

/// Offsets in a subscription.
struct Layout {
    size: u32,
    clock_id: u32,
    timeout: u32,
    clock_flags: u32,
}

const PREVIEW1: Layout = Layout {
    size: 48,
    clock_id: 16,
    timeout: 24,
    clock_flags: 40,
};

/// Clocks had an identifier of 64 bits in front.
const UNSTABLE: Layout = Layout {
    size: 56,
    clock_id: 24,
    timeout: 32,
    clock_flags: 48,
};

pub(super) fn poll_oneoff(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    subscriptions: u32,
    events: u32,
    count: u32,
    events_at: u32,
) -> Result<()> {
    poll(
        kernel,
        memory,
        &PREVIEW1,
        subscriptions,
        events,
        count,
        events_at,
    )
}

pub(super) fn poll_oneoff_unstable(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    subscriptions: u32,
    events: u32,
    count: u32,
    events_at: u32,
) -> Result<()> {
    poll(
        kernel,
        memory,
        &UNSTABLE,
        subscriptions,
        events,
        count,
        events_at,
    )
}

fn poll(
    kernel: &mut Kernel,
    memory: &mut GuestMemory<'_>,
    layout: &Layout,
    list: u32,
    events_list: u32,
    count: u32,
    count_at: u32,
) -> Result<()> {
    const EVENT_SIZE: u32 = 32;
    if count == 0 || count > SUBSCRIPTION_LIMIT {
        return Err(Errno::Inval);
    }
    memory.check(list, count * layout.size)?;
    memory.check(events_list, count * EVENT_SIZE)?;
    memory.check(count_at, 4)?;
    let subscriptions = (0..count)
        .map(|index| read_subscription(kernel, memory, layout, list + index * layout.size))
        .collect::<Result<Vec<_>>>()?;
    let events = wait(kernel, &subscriptions)?;
    let mut written = 0;
    for event in &events {
        Record::<32>::new()
            .field(0, &event.userdata.to_le_bytes())
            .field(8, &event.errno.raw().to_le_bytes())
            .field(10, &[event.tag])
            .field(16, &event.bytes.to_le_bytes())
            .field(24, &event.flags.to_le_bytes())
            .write(memory, events_list + written * EVENT_SIZE)?;
        written += 1;
    }
    memory.write_u32(count_at, written)
}

fn read_subscription(
    kernel: &Kernel,
    memory: &GuestMemory<'_>,
    layout: &Layout,
    at: u32,
) -> Result<Subscription> {
    // The list lies in the memory, so no offset in it overflows.
    let userdata = memory.read_u64(at)?;
    let tag = memory.read_u8(at + 8)?;
    let wish = match tag {
        CLOCK => {
            let clock = memory.read_u32(at + layout.clock_id)?;
            let timeout = memory.read_u64(at + layout.timeout)?;
            match memory.read_u16(at + layout.clock_flags)? {
                _ if clock > 3 => Wish::Wrong(Errno::Inval),
                _ if clock != REALTIME && clock != MONOTONIC => Wish::Wrong(Errno::Notsup),
                0 => Wish::Time {
                    clock,
                    at: now(kernel, clock).saturating_add(timeout),
                },
                ABSTIME => Wish::Time { clock, at: timeout },
                _ => Wish::Wrong(Errno::Inval),
            }
        }
        FD_READ => Wish::Read {
            fd: memory.read_u32(at + 16)?,
        },
        FD_WRITE => Wish::Write {
            fd: memory.read_u32(at + 16)?,
        },
        _ => return Err(Errno::Inval),
    };
    Ok(Subscription {
        userdata,
        tag,
        wish,
    })
}

fn now(kernel: &Kernel, clock: u32) -> u64 {
    match clock {
        REALTIME => kernel.clock.realtime(),
        _ => kernel.clock.monotonic(),
    }
}

/// Waits until at least one subscription has something to tell.
fn wait(kernel: &mut Kernel, subscriptions: &[Subscription]) -> Result<Vec<Event>> {
    loop {
        let mut events = Vec::new();
        // Nanoseconds until the first clock is there.
        let mut rest: Option<u64> = None;
        let mut waiting_for_input = None;
        for subscription in subscriptions {
            let outcome = match subscription.wish {
                Wish::Wrong(errno) => Err(errno),
                Wish::Time { clock, at } => match at.saturating_sub(now(kernel, clock)) {
                    0 => Ok(Readiness::Ready(0)),
                    left => {
                        rest = Some(rest.map_or(left, |rest| rest.min(left)));
                        Ok(Readiness::Pending)
                    }
                },
                Wish::Read { fd } => {
                    let readiness = kernel.poll_read(fd, 0);
                    if readiness == Ok(Readiness::Pending) && kernel.waits_for_host(fd) {
                        waiting_for_input = Some(fd);
                    }
                    readiness
                }
                Wish::Write { fd } => kernel.poll_write(fd),
            };
            let (errno, bytes, flags) = match outcome {
                Ok(Readiness::Pending) => continue,
                Ok(Readiness::Ready(bytes)) => (Errno::Success, bytes, 0),
                Ok(Readiness::HangUp) => (Errno::Success, 0, HANGUP),
                Err(errno) => (errno, 0, 0),
            };
            events.push(Event {
                userdata: subscription.userdata,
                tag: subscription.tag,
                errno,
                bytes,
                flags,
            });
        }
        if !events.is_empty() {
            return Ok(events);
        }
        kernel.wait_a_while(rest, waiting_for_input)?;
    }
}
