//! Native code in place of a guest's functions of C's library, if [`Config::native_libc`](crate::Config) asks for it.
//!
//! The result is that of musl for every call that C defines; comparisons give the difference of the first bytes that
//! differ. What C leaves open is defined here: `memcpy` is `memmove`. A function that would touch a byte outside of the
//! memory traps before it has written anything, and only if it reaches that byte: a search that ends before the end of
//! memory, and anything of length zero, does not trap.
//!
//! Fuel and interruption count as for bulk operations. All fuel for what a call writes is paid before its first byte, so
//! a call without enough of it leaves the memory as it was. Interruption is looked at before each piece of 8 MiB: a call
//! that it ends has written a whole number of pieces, those from the start or, where `memmove` goes backwards, from the
//! end.

use super::cold::{CHUNK, ColdOp, charge_fuel, charge_time, done, operand};
use super::value::field64;
use crate::module::LibcFunction;
use crate::runtime::records::{Ctx, MemoryRec};
use crate::trap::TrapCode;
use std::ops::Range;

/// A function of C's library: its arguments in slots, the memory @16, which function @24.
pub(super) struct NativeLibc;

impl ColdOp for NativeLibc {
    #[inline(never)]
    unsafe fn run(ctx: *mut Ctx, ip: *const u8, sp: *mut u8) -> u64 {
        // SAFETY: operands are slots of the frame and the address of a live record, baked by translation. Nothing else
        // refers to the memory's bytes while this function runs.
        unsafe {
            let memory = field64(ip, 16) as *const MemoryRec;
            let bytes = std::slice::from_raw_parts_mut((*memory).base, (*memory).len);
            let argument = |n: usize| operand::<u32>(ip, sp, n);
            let meter = Meter { ctx };
            let Some(function) = LibcFunction::of(field64(ip, 24)) else {
                return TrapCode::Unreachable as u64;
            };
            let result = call(function, bytes, argument, &meter);
            done(result.map(|result| (*ctx).acc = u64::from(result)))
        }
    }
}

const OUT: TrapCode = TrapCode::MemoryOutOfBounds;

type Outcome = Result<u32, TrapCode>;

/// What a call pays for its bytes before it looks at them or writes them.
struct Meter {
    /// The running thread's state: whoever makes a meter sees to it that it outlives the meter.
    ctx: *mut Ctx,
}

impl Meter {
    fn fuel(&self, bytes: usize) -> Result<(), TrapCode> {
        // SAFETY: `ctx` is the running thread's state.
        unsafe { charge_fuel(self.ctx, bytes as u64) }
    }

    fn time(&self, bytes: usize) -> Result<(), TrapCode> {
        // SAFETY: `ctx` is the running thread's state.
        unsafe { charge_time(self.ctx, bytes as u64) }
    }

    /// For bytes that are only looked at.
    fn pay(&self, bytes: usize) -> Result<(), TrapCode> {
        self.fuel(bytes)?;
        self.time(bytes)
    }
}

/// Calls a function.
fn call(
    function: LibcFunction,
    memory: &mut [u8],
    argument: impl Fn(usize) -> u32,
    meter: &Meter,
) -> Outcome {
    use LibcFunction as F;
    let place = |n: usize| argument(n) as usize;
    let byte = |n: usize| argument(n) as u8;
    match function {
        F::Memcpy | F::Memmove => {
            move_bytes(memory, place(0), place(1), place(2), meter)?;
            Ok(argument(0))
        }
        F::Memset => {
            within(place(0), place(2), memory.len())?;
            meter.fuel(place(2))?;
            for piece in pieces(place(0), place(2)) {
                meter.time(piece.len())?;
                memory[piece].fill(byte(1));
            }
            Ok(argument(0))
        }
        F::Memcmp => compare(memory, place(0), place(1), place(2), false, meter),
        F::Strcmp => compare(memory, place(0), place(1), usize::MAX, true, meter),
        F::Strncmp => compare(memory, place(0), place(1), place(2), true, meter),
        F::Memchr => {
            let found = search(memory, place(0), place(2), meter, |part| {
                find(part, byte(1))
            })?;
            Ok(found.map_or(0, |found| found as u32))
        }
        F::Strlen => Ok((end(memory, place(0), meter)? - place(0)) as u32),
        F::Strnlen => {
            let found = search(memory, place(0), place(1), meter, |part| find(part, 0))?;
            Ok(found.map_or(argument(1), |found| (found - place(0)) as u32))
        }
        F::Strchr => {
            let wanted = byte(1);
            let stop = |part: &[u8]| part.iter().position(|byte| *byte == wanted || *byte == 0);
            let found = search(memory, place(0), usize::MAX, meter, stop)?.ok_or(OUT)?;
            Ok(if memory[found] == wanted {
                found as u32
            } else {
                0
            })
        }
        F::Strrchr => {
            let end = end(memory, place(0), meter)?;
            let string = &memory[place(0)..=end];
            let found = string.iter().rposition(|found| *found == byte(1));
            Ok(found.map_or(0, |found| (place(0) + found) as u32))
        }
        F::Strcpy => {
            let length = end(memory, place(1), meter)? - place(1) + 1;
            move_bytes(memory, place(0), place(1), length, meter)?;
            Ok(argument(0))
        }
    }
}

/// A trap unless `start..start + length` lies in the memory. Nothing lies anywhere.
fn within(start: usize, length: usize, size: usize) -> Result<(), TrapCode> {
    if length > 0 && start.checked_add(length).is_none_or(|end| end > size) {
        return Err(OUT);
    }
    Ok(())
}

/// `start..start + length`, which lies in the memory, in pieces between which interruption is looked at.
fn pieces(start: usize, length: usize) -> impl DoubleEndedIterator<Item = Range<usize>> {
    let chunk = CHUNK as usize;
    (0..length.div_ceil(chunk)).map(move |number| {
        let begin = number * chunk;
        start + begin..start + length.min(begin + chunk)
    })
}

/// Copies bytes as if through a buffer.
fn move_bytes(
    memory: &mut [u8],
    to: usize,
    from: usize,
    length: usize,
    meter: &Meter,
) -> Result<(), TrapCode> {
    within(from, length, memory.len())?;
    within(to, length, memory.len())?;
    meter.fuel(length)?;
    let mut copy = |piece: Range<usize>| {
        meter.time(piece.len())?;
        let target = to + (piece.start - from);
        memory.copy_within(piece, target);
        Ok(())
    };
    // Where the ranges overlap, the end that the target reaches into is copied first.
    if to > from {
        pieces(from, length).rev().try_for_each(&mut copy)
    } else {
        pieces(from, length).try_for_each(&mut copy)
    }
}

/// The first place at which `stop` stops within `length` bytes from `start`; a trap if the memory ends before.
fn search(
    memory: &[u8],
    start: usize,
    length: usize,
    meter: &Meter,
    stop: impl Fn(&[u8]) -> Option<usize>,
) -> Result<Option<usize>, TrapCode> {
    if length == 0 {
        return Ok(None);
    }
    let rest = memory.get(start..).unwrap_or_default();
    let part = rest.get(..length.min(rest.len())).unwrap_or_default();
    let mut place = start;
    for chunk in part.chunks(CHUNK as usize) {
        let found = stop(chunk);
        meter.pay(found.map_or(chunk.len(), |found| found + 1))?;
        if let Some(found) = found {
            return Ok(Some(place + found));
        }
        place += chunk.len();
    }
    if length > rest.len() {
        return Err(OUT);
    }
    Ok(None)
}

/// The place of the zero behind a string.
fn end(memory: &[u8], start: usize, meter: &Meter) -> Result<usize, TrapCode> {
    search(memory, start, usize::MAX, meter, |part| find(part, 0))?.ok_or(OUT)
}

/// The difference of the first bytes that differ, within `length` bytes and, in strings, up to the end of both.
fn compare(
    memory: &[u8],
    a: usize,
    b: usize,
    length: usize,
    strings: bool,
    meter: &Meter,
) -> Outcome {
    if length == 0 {
        return Ok(0);
    }
    let [a, b] = [a, b].map(|start| memory.get(start..).unwrap_or_default());
    let common = a.len().min(b.len()).min(length);
    let (a, b) = (&a[..common], &b[..common]);
    let chunk = CHUNK as usize;
    for (a, b) in a.chunks(chunk).zip(b.chunks(chunk)) {
        let differs = a
            .iter()
            .zip(b)
            .position(|(x, y)| x != y || (strings && *x == 0));
        meter.pay(differs.map_or(a.len(), |place| place + 1))?;
        if let Some(place) = differs {
            return Ok((i32::from(a[place]) - i32::from(b[place])).cast_unsigned());
        }
    }
    if common < length { Err(OUT) } else { Ok(0) }
}

/// The place of a byte, eight at a time.
fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    const LOW: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    let pattern = u64::from_le_bytes([wanted; 8]);
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        // Bytes that are wanted become zero, and the lowest zero byte is the lowest with a high bit here.
        let word = u64::from_le_bytes(*word) ^ pattern;
        let zeros = word.wrapping_sub(LOW) & !word & HIGH;
        if zeros != 0 {
            return Some(number * 8 + zeros.trailing_zeros() as usize / 8);
        }
    }
    let place = rest.iter().position(|byte| *byte == wanted)?;
    Some(words.len() * 8 + place)
}
