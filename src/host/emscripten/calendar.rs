//! Dates of the Gregorian calendar and `struct tm`.

#![forbid(unsafe_code)]

use crate::host::errno::{Errno, Result};
use crate::host::guest::GuestMemory;

pub(super) const DAY: i64 = 86_400;

/// `struct tm`, without its zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Date {
    pub second: i32,
    pub minute: i32,
    pub hour: i32,
    /// From 1.
    pub day: i32,
    /// From 0.
    pub month: i32,
    /// Since 1900.
    pub year: i32,
    /// From 0, a Sunday.
    pub weekday: i32,
    /// From 0.
    pub day_of_year: i32,
    /// Positive in summer time, 0 not, negative if not known.
    pub summer: i32,
}

/// Days from 1970-01-01 to a day; months beyond a year count as months of other years.
pub(super) fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    let year = year + month.div_euclid(12);
    let month = month.rem_euclid(12);
    // Years that begin in March have their leap day at the end.
    let year = if month < 2 { year - 1 } else { year };
    let month = (month + 10) % 12;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

impl Date {
    /// The date and time of day of these seconds since 1970, years that do not fit cut off.
    pub fn of_seconds(seconds: i64) -> Date {
        let days = seconds.div_euclid(DAY);
        let rest = seconds.rem_euclid(DAY);
        let shifted = days.saturating_add(719_468);
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = (shifted_month + 2) % 12;
        let year = year_of_era + era * 400 + i64::from(month < 2);
        Date {
            second: small(rest % 60),
            minute: small(rest / 60 % 60),
            hour: small(rest / 3600),
            day: small(day),
            month: small(month),
            year: small(year - 1900),
            weekday: small((days.rem_euclid(7) + 4) % 7),
            day_of_year: small(days - days_from_date(year, 0, 1)),
            summer: 0,
        }
    }

    /// Seconds since 1970 of this date and time of day as they are; fields may be out of their ranges.
    pub fn seconds(&self) -> i64 {
        let days = days_from_date(
            i64::from(self.year) + 1900,
            i64::from(self.month),
            i64::from(self.day),
        );
        days * DAY
            + i64::from(self.hour) * 3600
            + i64::from(self.minute) * 60
            + i64::from(self.second)
    }

    /// Reads a `struct tm`.
    ///
    /// # Errors
    /// `Fault`.
    pub fn read(memory: &GuestMemory<'_>, at: u32) -> Result<Date> {
        let field = |number: u32| -> Result<i32> {
            let at = at.checked_add(number * 4).ok_or(Errno::Fault)?;
            Ok(memory.read_u32(at)?.cast_signed())
        };
        Ok(Date {
            second: field(0)?,
            minute: field(1)?,
            hour: field(2)?,
            day: field(3)?,
            month: field(4)?,
            year: field(5)?,
            weekday: field(6)?,
            day_of_year: field(7)?,
            summer: field(8)?,
        })
    }

    /// Writes the fields of a `struct tm`, its zone left as it is.
    ///
    /// # Errors
    /// `Fault`.
    pub fn write(&self, memory: &mut GuestMemory<'_>, at: u32) -> Result<()> {
        let fields = [
            self.second,
            self.minute,
            self.hour,
            self.day,
            self.month,
            self.year,
            self.weekday,
            self.day_of_year,
            self.summer,
        ];
        memory.write(at, fields.map(i32::to_le_bytes).as_flattened())
    }
}

fn small(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_days_agree_over_centuries() {
        let mut date = Date::of_seconds(days_from_date(1600, 0, 1) * DAY);
        assert_eq!((date.year, date.month, date.day), (-300, 0, 1));
        for day in days_from_date(1600, 0, 1) + 1..days_from_date(2500, 0, 1) {
            let next = Date::of_seconds(day * DAY + 3661);
            assert_eq!(next.seconds(), day * DAY + 3661);
            assert_eq!(next.weekday, (date.weekday + 1) % 7);
            assert!(next.day == date.day + 1 || next.day == 1);
            assert!(next.day_of_year == date.day_of_year + 1 || next.day_of_year == 0);
            date = next;
        }
        assert_eq!(Date::of_seconds(0).weekday, 4);
        assert_eq!(Date::of_seconds(951_782_400).day_of_year, 59);
    }

    #[test]
    fn fields_out_of_their_ranges_are_carried_over() {
        let date = Date {
            second: 61,
            minute: -1,
            hour: 25,
            day: 0,
            month: 14,
            year: 100,
            ..Date::default()
        };
        let normal = Date::of_seconds(date.seconds());
        assert_eq!(
            (
                normal.year,
                normal.month,
                normal.day,
                normal.hour,
                normal.minute,
                normal.second
            ),
            (101, 2, 1, 1, 0, 1)
        );
    }

    #[test]
    fn no_number_of_seconds_panics() {
        for seconds in [i64::MIN, i64::MAX, i64::from(i32::MIN) * 1000 * DAY] {
            let date = Date::of_seconds(seconds);
            let _ = date.seconds();
        }
        let extreme = Date {
            second: i32::MAX,
            minute: i32::MAX,
            hour: i32::MAX,
            day: i32::MAX,
            month: i32::MAX,
            year: i32::MAX,
            ..Date::default()
        };
        assert!(extreme.seconds() > 0);
    }
}
