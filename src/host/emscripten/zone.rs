//! The guest's time zone: what its variable `TZ` names, else UTC.
//!
//! A zone is a rule as POSIX writes it (`CET-1CEST,M3.5.0,M10.5.0/3`) or a name of the host's time zone database. Files
//! that a path names (`:/etc/localtime`) are not read: they would be the host's.

#![forbid(unsafe_code)]

use super::calendar::Date;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A time zone.
#[derive(Clone, Debug)]
pub(super) struct Zone(TimeZone);

/// What holds at some time.
pub(super) struct Offset {
    /// Seconds east of Greenwich.
    pub seconds: i64,
    pub summer: bool,
    pub name: String,
}

impl Zone {
    /// The zone of a process with this environment.
    pub fn of_environment(environment: &[String]) -> Zone {
        let name = environment
            .iter()
            .find_map(|variable| variable.strip_prefix("TZ="))
            .unwrap_or_default();
        let name = name.strip_prefix(':').unwrap_or(name);
        let named = || {
            let plain = !name.is_empty() && !name.starts_with('/') && !name.contains("..");
            plain.then(|| TimeZone::get(name).ok()).flatten()
        };
        let zone = TimeZone::posix(name).ok().or_else(named);
        Zone(zone.unwrap_or(TimeZone::UTC))
    }

    /// What holds at these seconds since 1970; times out of range are taken as the nearest one within.
    pub fn offset(&self, seconds: i64) -> Offset {
        let range = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
        let within = seconds.clamp(*range.start(), *range.end());
        let time = Timestamp::from_second(within).unwrap_or_default();
        let info = self.0.to_offset_info(time);
        Offset {
            seconds: i64::from(info.offset().seconds()),
            summer: info.dst().is_dst(),
            name: info.abbreviation().to_string(),
        }
    }

    /// Standard and summer offset of a year: those of its first January and first July day, as emscripten has it. Which is
    /// which, their sizes tell.
    pub fn of_year(&self, year: i64) -> (Offset, Offset) {
        let at = |month| {
            let seconds = super::calendar::days_from_date(year, month, 1) * super::calendar::DAY;
            self.offset(seconds)
        };
        let (january, july) = (at(0), at(6));
        if july.seconds < january.seconds {
            (july, january)
        } else {
            (january, july)
        }
    }

    /// Seconds since 1970 of a local date. In an hour that there is twice, the date's own word about summer time decides,
    /// else the first of the two is taken; in one that there is not, the time before the change holds on.
    pub fn seconds_of(&self, date: &Date) -> i64 {
        let local = date.seconds();
        let (standard, summer) = self.of_year(i64::from(date.year) + 1900);
        let early = local - summer.seconds;
        let late = local - standard.seconds;
        if standard.seconds == summer.seconds {
            return local - self.offset(late).seconds;
        }
        match date.summer {
            0 => late,
            1.. => early,
            // Whichever of the two times really has its offset.
            _ if self.offset(early).seconds == summer.seconds => early,
            _ => late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(text: &str) -> Zone {
        Zone::of_environment(&["A=B".into(), format!("TZ={text}")])
    }

    fn date(summer: i32, month: i32, day: i32, hour: i32) -> Date {
        Date {
            year: 124,
            month,
            day,
            hour,
            minute: 30,
            summer,
            ..Date::default()
        }
    }

    #[test]
    fn a_posix_rule_gives_offsets_and_names() {
        let zone = zone("CET-1CEST,M3.5.0,M10.5.0/3");
        let winter = zone.offset(1_704_067_200);
        assert_eq!(
            (winter.seconds, winter.summer, winter.name.as_str()),
            (3600, false, "CET")
        );
        let summer = zone.offset(1_719_792_000);
        assert_eq!(
            (summer.seconds, summer.summer, summer.name.as_str()),
            (7200, true, "CEST")
        );
    }

    #[test]
    fn local_dates_become_seconds_and_the_word_about_summer_time_decides_the_hour_that_is_twice() {
        let zone = zone("CET-1CEST,M3.5.0,M10.5.0/3");
        let noon = zone.seconds_of(&date(-1, 6, 1, 12));
        assert_eq!(noon, 1_719_829_800);
        assert_eq!(zone.seconds_of(&date(-1, 0, 1, 12)), 1_704_108_600);
        // 2024-10-27 02:30 is first summer time, then an hour later standard time.
        let (first, second) = (1_729_989_000, 1_729_992_600);
        assert_eq!(zone.seconds_of(&date(1, 9, 27, 2)), first);
        assert_eq!(zone.seconds_of(&date(0, 9, 27, 2)), second);
        assert_eq!(zone.seconds_of(&date(-1, 9, 27, 2)), first);
    }

    #[test]
    fn without_a_zone_or_with_a_bad_one_it_is_utc() {
        for text in ["", "No/Where", "/etc/passwd", ":../../etc/passwd", "\u{1}"] {
            assert_eq!(zone(text).offset(1_719_792_000).seconds, 0, "{text:?}");
        }
        assert_eq!(zone("UTC").offset(i64::MAX).seconds, 0);
        assert_eq!(zone("UTC").offset(i64::MIN).seconds, 0);
    }
}
