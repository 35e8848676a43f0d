//! Quantities as people write them: sizes (`64M`) and durations (`1s`, `100ms`), for flags and manifests.

#![forbid(unsafe_code)]

use std::time::Duration;

/// Reads a size in bytes: a whole number with an optional binary unit `K`, `M`, `G` or `T`
/// (also `KiB`, `KB` and so on, all of 1,024).
///
/// # Errors
/// A text that says what is expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "`{text}` is not a size: write a whole number of bytes with an optional K, M, G or T, such as 64M"
        )
    };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("`{text}` is too large: sizes end at 16 EiB"))
}

/// Reads a duration: a number with a unit `us`, `ms`, `s`, `m` or `h`; decimals allowed (`1.5s`).
///
/// # Errors
/// A text that says what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "`{text}` is not a duration: write a number with its unit us, ms, s, m or h, such as 1s or 100ms"
        )
    };
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let digits = text.len() - text.trim_start_matches(is_number).len();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("`{text}` is too long a duration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_with_binary_units() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("65536"), Ok(65_536));
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        assert_eq!(parse_size("3kb"), Ok(3 << 10));
    }

    #[test]
    fn a_wrong_size_says_what_is_expected() {
        for text in ["", "M", "64X", "-1", "1.5G", "6 4", "99999999999999999999"] {
            let error = parse_size(text).expect_err(text);
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
        assert!(
            parse_size("18446744073709551615T")
                .expect_err("overflow")
                .contains("too large")
        );
    }

    #[test]
    fn durations_need_a_unit_and_may_have_decimals() {
        assert_eq!(parse_duration("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(parse_duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
    }

    #[test]
    fn a_wrong_duration_says_what_is_expected() {
        for text in ["", "5", "s", "1..2s", "1 s", "-1s", "1d", "é"] {
            assert!(
                parse_duration(text)
                    .expect_err(text)
                    .contains("not a duration"),
                "{text}"
            );
        }
        assert!(
            parse_duration("99999999999999999999999h")
                .expect_err("long")
                .contains("too long")
        );
    }
}
