//! Readable names of C++ and Rust symbols. Names come from files, so their length and that of the result are bounded.

#![forbid(unsafe_code)]

use std::fmt::{self, Write};

/// Longer names stay as they are.
const MOST_BYTES: usize = 2_000;

/// Longer readable names are not used: short names can stand for enormous ones.
const MOST_READABLE: usize = 4_000;

/// A text that does not grow beyond [`MOST_READABLE`].
#[derive(Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MOST_READABLE {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// The name as its source has it, if it is a C++ or Rust symbol.
pub fn demangle(name: &str) -> Option<String> {
    if name.len() > MOST_BYTES {
        return None;
    }
    let mut readable = Bounded::default();
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        write!(readable, "{rust:#}").ok()?;
        return Some(readable.0);
    }
    if !name.starts_with("_Z") {
        return None;
    }
    let symbol = cpp_demangle::Symbol::new(name).ok()?;
    let options = cpp_demangle::DemangleOptions::default();
    symbol.structured_demangle(&mut readable, &options).ok()?;
    Some(readable.0)
}

/// The name, readable if that is wanted and possible, without control characters.
pub fn shown(name: &str, readable: bool) -> String {
    let name = readable
        .then(|| demangle(name))
        .flatten()
        .unwrap_or_else(|| name.to_owned());
    printable(&name)
}

pub(super) use crate::shown::printable;

/// A message in which symbols between backticks are followed by their readable names. Names are the guest's: what they hold
/// besides text is written as escapes, so that no name draws lines or commands the terminal.
pub fn in_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (number, part) in text.split('`').enumerate() {
        if number > 0 {
            out.push('`');
        }
        if number % 2 == 1 {
            out.push_str(&printable(part));
            if let Some(name) = demangle(part) {
                let _ = write!(out, "` = `{}", printable(&name));
            }
            continue;
        }
        // A name with a backtick ends up here, too.
        for (line, text) in part.split('\n').enumerate() {
            if line > 0 {
                out.push('\n');
            }
            out.push_str(&printable(text));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_messages_command_no_terminal() {
        let text = in_text(
            "undefined function `a\u{1b}[31m\nfake: line`, wanted by `b\r.so`:\n  at \u{1b}x",
        );
        assert!(!text.contains(['\u{1b}', '\r']), "{text:?}");
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(text.contains("fake: line`, wanted by `b"), "{text:?}");
    }

    #[test]
    fn cpp_and_rust_names_become_readable() {
        assert_eq!(demangle("_Z3addii").as_deref(), Some("add(int, int)"));
        assert_eq!(
            demangle("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE").as_deref(),
            Some("core::fmt::Formatter::pad")
        );
        assert_eq!(demangle("malloc"), None);
        assert_eq!(demangle("_Zwhatever"), None);
    }

    #[test]
    fn a_name_that_stands_for_an_enormous_one_stays_as_it_is() {
        let mut name = String::from("_Z1f1AIiiE");
        for number in 0..30 {
            let _ = write!(name, "1BIS{}_S{}_E", base36(number), base36(number));
        }
        let started = std::time::Instant::now();
        let _ = demangle(&name);
        assert!(started.elapsed().as_secs() < 5);
        assert_eq!(demangle(&format!("_Z1f{}", "P".repeat(3000))), None);
    }

    fn base36(number: u32) -> String {
        match number.checked_sub(1) {
            None => String::new(),
            Some(rest) if rest < 10 => rest.to_string(),
            Some(rest) => char::from_digit(rest, 36)
                .unwrap()
                .to_ascii_uppercase()
                .to_string(),
        }
    }

    #[test]
    fn names_in_messages_are_followed_by_readable_ones() {
        assert_eq!(
            in_text("undefined function `_Z1fv`: () -> (), wanted by `a.so`"),
            "undefined function `_Z1fv` = `f()`: () -> (), wanted by `a.so`"
        );
        assert_eq!(in_text("no `names` at all"), "no `names` at all");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\x1b[31m\n"), "a\\u{1b}[31m\\n");
    }
}
