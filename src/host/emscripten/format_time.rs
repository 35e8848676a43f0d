//! `strftime` in the C locale, which emscripten up to version 3.1.30 leaves to its JavaScript.

#![forbid(unsafe_code)]

use super::calendar::Date;
use super::call::{System, lossy_string};
use crate::host::errno::{Errno, Result};
use std::fmt::Write;

/// Longest format in bytes.
const MOST_FORMAT: u32 = 64 << 10;

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// What a format is filled with.
struct Fields {
    date: Date,
    /// Seconds east of Greenwich.
    east: i32,
    zone: String,
}

pub(super) fn strftime_l(
    system: &mut System<'_, '_>,
    buffer: u32,
    size: u32,
    format: u32,
    tm: u32,
    _locale: u32,
) -> u32 {
    strftime(system, buffer, size, format, tm)
}

/// `strftime`: the length, or 0 if it does not fit.
pub(super) fn strftime(
    system: &mut System<'_, '_>,
    buffer: u32,
    size: u32,
    format: u32,
    tm: u32,
) -> u32 {
    write(system, buffer, size, format, tm).unwrap_or(0)
}

fn write(system: &mut System<'_, '_>, buffer: u32, size: u32, format: u32, tm: u32) -> Result<u32> {
    const OFFSET: u32 = 36;
    const ZONE: u32 = 40;
    const MOST_ZONE: u32 = 64;
    let format = lossy_string(system.memory, format, MOST_FORMAT)?;
    let date = Date::read(system.memory, tm)?;
    let field = |offset: u32| -> Result<u32> {
        system
            .memory
            .read_u32(tm.checked_add(offset).ok_or(Errno::Fault)?)
    };
    let (east, zone) = (field(OFFSET)?.cast_signed(), field(ZONE)?);
    let zone = match zone {
        0 => String::new(),
        zone => lossy_string(system.memory, zone, MOST_ZONE).unwrap_or_default(),
    };
    let room = usize::try_from(size).unwrap_or(usize::MAX);
    let text = fill(&format, &Fields { date, east, zone }, room);
    let mut bytes = text.into_bytes();
    if bytes.len() >= room {
        return Ok(0);
    }
    let length = u32::try_from(bytes.len()).map_err(|_| Errno::Overflow)?;
    bytes.push(0);
    system.memory.write(buffer, &bytes)?;
    Ok(length)
}

/// Fills a format; what gets longer than `room` is cut off somewhere behind it.
fn fill(format: &str, fields: &Fields, room: usize) -> String {
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(next) = rest.next() {
        if out.len() >= room {
            break;
        }
        if next != '%' {
            out.push(next);
            continue;
        }
        let mut conversion = rest.next();
        // Alternative forms are the same in the C locale.
        if matches!(conversion, Some('E' | 'O')) {
            conversion = rest.next();
        }
        match conversion {
            Some(conversion) => put(&mut out, conversion, fields),
            None => out.push('%'),
        }
    }
    out
}

/// Puts one conversion.
fn put(out: &mut String, conversion: char, fields: &Fields) {
    let date = &fields.date;
    let year = i64::from(date.year) + 1900;
    let name = |names: &[&'static str], number: i32| -> &'static str {
        let place = usize::try_from(number).ok();
        place
            .and_then(|place| names.get(place))
            .copied()
            .unwrap_or("?")
    };
    // Fields are the guest's numbers, so sums of them need more bits.
    let [weekday, day_of_year] = [date.weekday, date.day_of_year].map(i64::from);
    let hour12 = match date.hour % 12 {
        0 => 12,
        hour => hour,
    };
    let parts = |out: &mut String, format: &str| out.push_str(&fill(format, fields, usize::MAX));
    // A `String` takes whatever is written.
    let _ = match conversion {
        'a' => out.write_str(name(&WEEKDAYS, date.weekday).get(..3).unwrap_or("?")),
        'A' => out.write_str(name(&WEEKDAYS, date.weekday)),
        'b' | 'h' => out.write_str(name(&MONTHS, date.month).get(..3).unwrap_or("?")),
        'B' => out.write_str(name(&MONTHS, date.month)),
        'c' => {
            parts(out, "%a %b %e %H:%M:%S %Y");
            Ok(())
        }
        'C' => write!(out, "{:02}", year.div_euclid(100)),
        'd' => write!(out, "{:02}", date.day),
        'D' | 'x' => {
            parts(out, "%m/%d/%y");
            Ok(())
        }
        'e' => write!(out, "{:2}", date.day),
        'F' => {
            parts(out, "%Y-%m-%d");
            Ok(())
        }
        'g' => write!(out, "{:02}", week(date).0.rem_euclid(100)),
        'G' => write!(out, "{}", week(date).0),
        'H' => write!(out, "{:02}", date.hour),
        'I' => write!(out, "{hour12:02}"),
        'j' => write!(out, "{:03}", day_of_year + 1),
        'm' => write!(out, "{:02}", i64::from(date.month) + 1),
        'M' => write!(out, "{:02}", date.minute),
        'n' => out.write_str("\n"),
        'p' => out.write_str(if (0..12).contains(&date.hour) {
            "AM"
        } else {
            "PM"
        }),
        'r' => {
            parts(out, "%I:%M:%S %p");
            Ok(())
        }
        'R' => {
            parts(out, "%H:%M");
            Ok(())
        }
        's' => write!(out, "{}", date.seconds() - i64::from(fields.east)),
        'S' => write!(out, "{:02}", date.second),
        't' => out.write_str("\t"),
        'T' | 'X' => {
            parts(out, "%H:%M:%S");
            Ok(())
        }
        'u' => write!(out, "{}", if date.weekday == 0 { 7 } else { date.weekday }),
        'U' => write!(out, "{:02}", (day_of_year + 7 - weekday) / 7),
        'V' => write!(out, "{:02}", week(date).1),
        'w' => write!(out, "{}", date.weekday),
        'W' => {
            let since_monday = (weekday + 6) % 7;
            write!(out, "{:02}", (day_of_year + 7 - since_monday) / 7)
        }
        'y' => write!(out, "{:02}", year.rem_euclid(100)),
        'Y' => write!(out, "{year}"),
        'z' => {
            let minutes = fields.east.unsigned_abs() / 60;
            let sign = if fields.east < 0 { '-' } else { '+' };
            write!(out, "{sign}{:02}{:02}", minutes / 60, minutes % 60)
        }
        'Z' => out.write_str(&fields.zone),
        '%' => out.write_str("%"),
        other => write!(out, "%{other}"),
    };
}

/// The year and number of the week after ISO 8601: weeks begin on Mondays and belong to the year of their Thursday.
fn week(date: &Date) -> (i64, i64) {
    let since_monday = (i64::from(date.weekday) + 6).rem_euclid(7);
    let year = i64::from(date.year) + 1900;
    let thursday = i64::from(date.day_of_year) - since_monday + 3;
    let length = |year: i64| {
        let next = super::calendar::days_from_date(year + 1, 0, 1);
        next - super::calendar::days_from_date(year, 0, 1)
    };
    if thursday < 0 {
        let day = thursday + length(year - 1);
        (year - 1, day / 7 + 1)
    } else if thursday >= length(year) {
        (year + 1, (thursday - length(year)) / 7 + 1)
    } else {
        (year, thursday / 7 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(seconds: i64, format: &str) -> String {
        let fields = Fields {
            date: Date::of_seconds(seconds),
            east: -12_600,
            zone: "XST".into(),
        };
        fill(format, &fields, usize::MAX)
    }

    #[test]
    fn every_conversion_is_that_of_the_c_locale() {
        // Sunday 2009-02-15 23:01:05, as `date -u -d @1234738865` has it.
        let time = 1_234_738_865;
        for (conversions, expected) in [
            ("%a %A %b %B %h", "Sun Sunday Feb February Feb"),
            ("%c", "Sun Feb 15 23:01:05 2009"),
            ("%C %y %Y %g %G", "20 09 2009 09 2009"),
            ("%d %e %j %m", "15 15 046 02"),
            ("%D|%F|%x", "02/15/09|2009-02-15|02/15/09"),
            ("%H %I %M %S %p", "23 11 01 05 PM"),
            ("%r|%R|%T|%X", "11:01:05 PM|23:01|23:01:05|23:01:05"),
            ("%u %w %U %V %W", "7 0 07 07 06"),
            ("%z %Z %%%n%t", "-0330 XST %\n\t"),
            ("%Ey %Od %Q %", "09 15 %Q %"),
        ] {
            assert_eq!(format(time, conversions), expected, "{conversions}");
        }
    }

    #[test]
    fn no_fields_are_too_large() {
        for extreme in [i32::MIN, i32::MAX] {
            let fields = Fields {
                date: Date {
                    second: extreme,
                    minute: extreme,
                    hour: extreme,
                    day: extreme,
                    month: extreme,
                    year: extreme,
                    weekday: extreme,
                    day_of_year: extreme,
                    summer: extreme,
                },
                east: extreme,
                zone: String::new(),
            };
            let all: String = ('A'..='z')
                .map(|conversion| format!("%{conversion}"))
                .collect();
            assert!(!fill(&all, &fields, usize::MAX).is_empty());
        }
    }

    #[test]
    fn weeks_belong_to_the_year_of_their_thursday() {
        // 2021-01-01 is a Friday, 2018-12-31 a Monday, 2020-12-31 a Thursday.
        assert_eq!(format(1_609_459_200, "%G-%V"), "2020-53");
        assert_eq!(format(1_546_214_400, "%G-%V"), "2019-01");
        assert_eq!(format(1_609_372_800, "%G-%V"), "2020-53");
    }
}
