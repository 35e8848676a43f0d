//! `poll` and `select`: which descriptors can be used without waiting.
//!
//! emscripten's JavaScript never waits; here a timeout is kept, because nothing else would run meanwhile.

#![forbid(unsafe_code)]

use super::call::System;
use crate::host::errno::{Errno, Result};
use crate::host::stream::Readiness;

/// Most entries of a list: more than a table of descriptors has.
const MOST_ENTRIES: u32 = 4096;

/// Descriptors that a set of `select` has room for.
const SET_SIZE: u32 = 1024;

const IN: u16 = 0x1;
const OUT: u16 = 0x4;
const HANG_UP: u16 = 0x10;
const INVALID: u16 = 0x20;
const READ_NORMAL: u16 = 0x40;
const WRITE_NORMAL: u16 = 0x100;

/// A descriptor and what is wanted of it.
struct Wish {
    fd: u32,
    events: u16,
}

impl System<'_, '_> {
    /// What each wish finds now.
    fn ready(&self, wishes: &[Wish]) -> Vec<u16> {
        wishes.iter().map(|wish| self.readiness(wish)).collect()
    }

    fn readiness(&self, wish: &Wish) -> u16 {
        if self.kernel.descriptors.get(wish.fd).is_err() {
            return INVALID;
        }
        let mut found = 0;
        match self.kernel.poll_read(wish.fd, 0) {
            Ok(Readiness::Ready(_)) => found |= IN | READ_NORMAL,
            Ok(Readiness::HangUp) => found |= IN | READ_NORMAL | HANG_UP,
            Ok(Readiness::Pending) | Err(_) => {}
        }
        match self.kernel.poll_write(wish.fd) {
            Ok(Readiness::Ready(_)) => found |= OUT | WRITE_NORMAL,
            Ok(Readiness::HangUp) => found |= HANG_UP,
            Ok(Readiness::Pending) | Err(_) => {}
        }
        found & (wish.events | HANG_UP)
    }

    /// Waits until something is found or the time is over; `None`: without end.
    ///
    /// # Errors
    /// `Intr` if the guest has to stop; `Deadlk` if nothing could ever happen.
    fn wait(&mut self, wishes: &[Wish], nanoseconds: Option<u64>) -> Result<Vec<u16>> {
        let deadline = nanoseconds.map(|time| self.kernel.clock.monotonic().saturating_add(time));
        loop {
            let found = self.ready(wishes);
            if found.iter().any(|found| *found != 0) {
                return Ok(found);
            }
            let now = self.kernel.clock.monotonic();
            let rest = deadline.map(|deadline| deadline.saturating_sub(now));
            if rest == Some(0) {
                return Ok(found);
            }
            let input = wishes
                .iter()
                .find(|wish| wish.events & IN != 0 && self.kernel.waits_for_host(wish.fd));
            self.kernel.wait_a_while(rest, input.map(|wish| wish.fd))?;
        }
    }
}

/// `poll`; a negative timeout is none, others are milliseconds.
pub(super) fn poll(
    system: &mut System<'_, '_>,
    list: u32,
    count: u32,
    timeout: i32,
) -> Result<u32> {
    const ENTRY: u32 = 8;
    if count > MOST_ENTRIES {
        return Err(Errno::Inval);
    }
    system.memory.check(list, count * ENTRY)?;
    let mut wishes = Vec::new();
    let mut places = Vec::new();
    for entry in (0..count).map(|number| list + number * ENTRY) {
        let fd = system.memory.read_u32(entry)?;
        system.memory.write_u16(entry + 6, 0)?;
        // Negative descriptors are left out.
        if i32::try_from(fd).is_ok() {
            let events = system.memory.read_u16(entry + 4)?;
            wishes.push(Wish { fd, events });
            places.push(entry + 6);
        }
    }
    let timeout = u64::try_from(timeout).ok();
    let nanoseconds = timeout.map(|milliseconds| milliseconds.saturating_mul(1_000_000));
    let found = system.wait(&wishes, nanoseconds)?;
    let mut ready = 0;
    for (place, found) in places.into_iter().zip(found) {
        ready += u32::from(found != 0);
        system.memory.write_u16(place, found)?;
    }
    Ok(ready)
}

/// `select`; the sets have one bit a descriptor, the timeout is a `struct timeval` or null.
pub(super) fn select(
    system: &mut System<'_, '_>,
    count: u32,
    read: u32,
    write: u32,
    except: u32,
    timeout: u32,
) -> Result<u32> {
    if count > SET_SIZE {
        return Err(Errno::Inval);
    }
    let words = count.div_ceil(32);
    for set in [read, write, except] {
        if set != 0 {
            system.memory.check(set, words * 4)?;
        }
    }
    let has = |system: &System<'_, '_>, set: u32, fd: u32| -> Result<bool> {
        if set == 0 {
            return Ok(false);
        }
        let word = system.memory.read_u32(set + fd / 32 * 4)?;
        Ok(word >> (fd % 32) & 1 != 0)
    };
    let mut wishes = Vec::new();
    for fd in 0..count {
        let mut events = 0;
        if has(system, read, fd)? {
            events |= IN;
        }
        if has(system, write, fd)? {
            events |= OUT;
        }
        if events != 0 || has(system, except, fd)? {
            system.kernel.descriptors.get(fd)?;
            wishes.push(Wish { fd, events });
        }
    }
    let nanoseconds = match timeout {
        0 => None,
        at => Some(read_interval(system, at)?),
    };
    let found = system.wait(&wishes, nanoseconds)?;
    for set in [read, write, except] {
        for word in 0..words {
            if set != 0 {
                system.memory.write_u32(set + word * 4, 0)?;
            }
        }
    }
    let mut total = 0;
    for (wish, found) in wishes.iter().zip(found) {
        for (set, event) in [(read, IN), (write, OUT)] {
            if set != 0 && wish.events & event != 0 && found & (event | HANG_UP) != 0 {
                let place = set + wish.fd / 32 * 4;
                let word = system.memory.read_u32(place)?;
                system.memory.write_u32(place, word | 1 << (wish.fd % 32))?;
                total += 1;
            }
        }
    }
    Ok(total)
}

/// A `struct timeval` in nanoseconds.
fn read_interval(system: &System<'_, '_>, at: u32) -> Result<u64> {
    let half = system.state.marks.generation().timespec_size() / 2;
    let after = at.checked_add(half).ok_or(Errno::Fault)?;
    let (seconds, microseconds) = if half == 4 {
        let seconds = system.memory.read_u32(at)?.cast_signed();
        let microseconds = system.memory.read_u32(after)?.cast_signed();
        (i64::from(seconds), i64::from(microseconds))
    } else {
        let seconds = system.memory.read_u64(at)?.cast_signed();
        let microseconds = system.memory.read_u64(after)?.cast_signed();
        (seconds, microseconds)
    };
    let seconds = u64::try_from(seconds).map_err(|_| Errno::Inval)?;
    let microseconds = u64::try_from(microseconds).map_err(|_| Errno::Inval)?;
    Ok(seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(microseconds.saturating_mul(1000)))
}
