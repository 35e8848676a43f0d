//! Clocks, and dates in UTC and in the guest's time zone.

#![forbid(unsafe_code)]

use super::EmscriptenHost;
use super::calendar::Date;
use super::call::{Guest, System};
use super::generation::Generation;
use super::zone::Zone;
use crate::error::Result;
use crate::host::errno::Errno;

/// Most bytes of a zone's name, its end included, where the guest gives the room (version 3.1.60 and later).
const NAME_ROOM: usize = 17;

/// Nanoseconds as milliseconds with fractions.
fn milliseconds(nanoseconds: u64) -> f64 {
    std::time::Duration::from_nanos(nanoseconds).as_secs_f64() * 1000.0
}

impl System<'_, '_> {
    /// The guest's time zone.
    fn zone(&mut self) -> &Zone {
        let environment = self.kernel.environment();
        self.state
            .zone
            .get_or_insert_with(|| Zone::of_environment(environment))
    }

    fn real_seconds(&self) -> i64 {
        let seconds = self.kernel.clock.realtime() / 1_000_000_000;
        i64::try_from(seconds).unwrap_or(i64::MAX)
    }

    /// Writes a `struct timespec`.
    fn write_timespec(&mut self, at: u32, nanoseconds: u64) -> Result<(), Errno> {
        let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
        let rest = u32::try_from(rest).unwrap_or(0);
        match self.state.marks.generation() {
            Generation::Time32 => {
                let seconds = u32::try_from(seconds).unwrap_or(u32::MAX >> 1);
                let after = at.checked_add(4).ok_or(Errno::Fault)?;
                self.memory.check(at, 8)?;
                self.memory.write_u32(at, seconds)?;
                self.memory.write_u32(after, rest)
            }
            Generation::Padded | Generation::Current => {
                let after = at.checked_add(8).ok_or(Errno::Fault)?;
                self.memory.check(at, 16)?;
                self.memory.write_u64(at, seconds)?;
                self.memory.write_u32(after, rest)
            }
        }
    }
}

/// Milliseconds since some time, never going back.
pub(super) fn now(system: &mut System<'_, '_>) -> f64 {
    milliseconds(system.kernel.clock.monotonic())
}

pub(super) fn resolution(system: &mut System<'_, '_>) -> f64 {
    milliseconds(system.kernel.clock.resolution())
}

pub(super) fn is_monotonic(_: &mut System<'_, '_>) -> i32 {
    1
}

/// Milliseconds since 1970.
pub(super) fn date_now(system: &mut System<'_, '_>) -> f64 {
    milliseconds(system.kernel.clock.realtime()).floor()
}

/// `time` of version 3.1.6: 32 bits.
pub(super) fn time(system: &mut System<'_, '_>, out: u32) -> Result<i32, Errno> {
    let seconds = low_bits(system.real_seconds());
    if out != 0 {
        system.memory.write_u32(out, seconds.cast_unsigned())?;
    }
    Ok(seconds)
}

/// As JavaScript's `| 0`: the lower 32 bits.
fn low_bits(seconds: i64) -> i32 {
    super::call::to_halves(seconds).0.cast_signed()
}

/// `clock`, in microseconds.
pub(super) fn processor_time(system: &mut System<'_, '_>) -> i32 {
    let microseconds = system.kernel.clock.processor() / 1000;
    low_bits(i64::try_from(microseconds).unwrap_or(i64::MAX))
}

/// `clock_gettime`; of C, so it gives -1 for what is no clock.
pub(super) fn clock_time(system: &mut System<'_, '_>, clock: u32, out: u32) -> Result<i32, Errno> {
    let time = match clock {
        // CLOCK_REALTIME and its coarse kin.
        0 | 5 => system.kernel.clock.realtime(),
        // CLOCK_MONOTONIC, raw, coarse, since the boot.
        1 | 4 | 6 | 7 => system.kernel.clock.monotonic(),
        // Of the process and its only thread.
        2 | 3 => system.kernel.clock.processor(),
        _ => return Err(Errno::Inval),
    };
    system.write_timespec(out, time)?;
    Ok(0)
}

pub(super) fn clock_resolution(
    system: &mut System<'_, '_>,
    clock: u32,
    out: u32,
) -> Result<i32, Errno> {
    if clock > 7 {
        return Err(Errno::Inval);
    }
    if out != 0 {
        let resolution = system.kernel.clock.resolution();
        system.write_timespec(out, resolution)?;
    }
    Ok(0)
}

/// `gettimeofday` of version 3.1.6: two words.
pub(super) fn time_of_day(system: &mut System<'_, '_>, out: u32, _zone: u32) -> Result<i32, Errno> {
    let time = system.kernel.clock.realtime();
    let microseconds = time / 1000 % 1_000_000;
    let seconds = low_bits(i64::try_from(time / 1_000_000_000).unwrap_or(i64::MAX));
    let after = out.checked_add(4).ok_or(Errno::Fault)?;
    system.memory.write_u32(out, seconds.cast_unsigned())?;
    system
        .memory
        .write_u32(after, u32::try_from(microseconds).unwrap_or(0))?;
    Ok(0)
}

pub(super) fn difference(_: &mut System<'_, '_>, end: i32, start: i32) -> f64 {
    f64::from(end) - f64::from(start)
}

/// Offset west of Greenwich in seconds, whether there is summer time, and the names of both.
struct Summary {
    west: i32,
    has_summer: bool,
    names: [String; 2],
}

fn summary(system: &mut System<'_, '_>) -> Summary {
    let year = i64::from(Date::of_seconds(system.real_seconds()).year) + 1900;
    let (standard, summer) = system.zone().of_year(year);
    Summary {
        west: i32::try_from(-standard.seconds).unwrap_or(0),
        has_summer: standard.seconds != summer.seconds,
        names: [standard.name, summer.name],
    }
}

fn write_summary(
    system: &mut System<'_, '_>,
    summary: &Summary,
    timezone: u32,
    daylight: u32,
) -> Result<(), Errno> {
    system
        .memory
        .write_u32(timezone, summary.west.cast_unsigned())?;
    system
        .memory
        .write_u32(daylight, u32::from(summary.has_summer))
}

/// `_tzset_js` with room for the names.
pub(super) fn set_zone(
    system: &mut System<'_, '_>,
    timezone: u32,
    daylight: u32,
    standard: u32,
    summer: u32,
) {
    let summary = summary(system);
    // The places are the C library's own variables; outside of the memory there are none.
    let _ = write_summary(system, &summary, timezone, daylight);
    for (place, name) in [standard, summer].into_iter().zip(&summary.names) {
        let mut bytes = name.as_bytes().to_vec();
        bytes.truncate(NAME_ROOM - 1);
        bytes.push(0);
        let _ = system.memory.write(place, &bytes);
    }
}

/// `_tzset_js` of older versions: the names are in memory from the guest's allocator, once for the whole run.
pub(super) fn set_zone_32<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    timezone: u32,
    daylight: u32,
    names: u32,
) -> Result<()> {
    let done = guest.system(|system| Ok(system.memory.read_u32(names)? != 0));
    if done != Ok(false) {
        return Ok(());
    }
    let summary = guest.system(|system| {
        let summary = summary(system);
        write_summary(system, &summary, timezone, daylight)?;
        Ok(summary)
    });
    let Ok(summary) = summary else { return Ok(()) };
    for (number, name) in (0u32..).zip(&summary.names) {
        let mut bytes = name.as_bytes().to_vec();
        bytes.push(0);
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Some(place) = guest
            .call_symbol("malloc", &[size])?
            .filter(|place| *place != 0)
        else {
            return Ok(());
        };
        let _ = guest.system(|system| {
            system.memory.write(place, &bytes)?;
            let at = names.checked_add(number * 4).ok_or(Errno::Fault)?;
            system.memory.write_u32(at, place)
        });
    }
    Ok(())
}

/// The time at a pointer, of the program's size.
fn read_time(system: &System<'_, '_>, at: u32) -> Result<i64, Errno> {
    Ok(match system.state.marks.generation() {
        Generation::Time32 => i64::from(system.memory.read_u32(at)?.cast_signed()),
        Generation::Padded | Generation::Current => system.memory.read_u64(at)?.cast_signed(),
    })
}

pub(super) fn utc_at(system: &mut System<'_, '_>, time: u32, tm: u32) {
    if let Ok(seconds) = read_time(system, time) {
        utc(system, seconds, tm);
    }
}

/// `_gmtime_js`. It has no way to tell an error: outside of the memory nothing is written.
pub(super) fn utc(system: &mut System<'_, '_>, seconds: i64, tm: u32) {
    let _ = Date::of_seconds(seconds).write(system.memory, tm);
}

pub(super) fn local_at(system: &mut System<'_, '_>, time: u32, tm: u32) {
    if let Ok(seconds) = read_time(system, time) {
        local(system, seconds, tm);
    }
}

/// `_localtime_js`: also the offset from UTC, behind the other fields.
pub(super) fn local(system: &mut System<'_, '_>, seconds: i64, tm: u32) {
    const OFFSET: u32 = 36;
    let offset = system.zone().offset(seconds);
    let mut date = Date::of_seconds(seconds.saturating_add(offset.seconds));
    date.summer = i32::from(offset.summer);
    let east = i32::try_from(offset.seconds).unwrap_or(0);
    let _ = date.write(system.memory, tm).and_then(|()| {
        let at = tm.checked_add(OFFSET).ok_or(Errno::Fault)?;
        system.memory.write_u32(at, east.cast_unsigned())
    });
}

pub(super) fn from_local(system: &mut System<'_, '_>, tm: u32) -> Result<i32, Errno> {
    from_local_64(system, tm).map(low_bits)
}

/// `_mktime_js`: the fields are brought into their ranges.
pub(super) fn from_local_64(system: &mut System<'_, '_>, tm: u32) -> Result<i64, Errno> {
    let date = Date::read(system.memory, tm)?;
    let seconds = system.zone().seconds_of(&date);
    let offset = system.zone().offset(seconds);
    let mut normal = Date::of_seconds(seconds.saturating_add(offset.seconds));
    normal.summer = i32::from(offset.summer);
    normal.write(system.memory, tm)?;
    Ok(seconds)
}

pub(super) fn from_utc(system: &mut System<'_, '_>, tm: u32) -> Result<i32, Errno> {
    from_utc_64(system, tm).map(low_bits)
}

/// `_timegm_js`: the fields are brought into their ranges, as C wants it.
pub(super) fn from_utc_64(system: &mut System<'_, '_>, tm: u32) -> Result<i64, Errno> {
    let seconds = Date::read(system.memory, tm)?.seconds();
    Date::of_seconds(seconds).write(system.memory, tm)?;
    Ok(seconds)
}
