//! Names that files choose, in texts for people. A name may be a megabyte long or hold commands for a terminal; what is
//! shown of it is neither.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Most characters of a name. Readable names of C++ templates are as long as this, hardly ever longer.
const MOST_CHARACTERS: usize = 500;

/// A name as messages have it: shortened, control characters escaped, and backticks, because messages put names between
/// them.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a>(&'a str);

/// The name as messages have it.
pub(crate) fn shown(name: &str) -> Shown<'_> {
    Shown(name)
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(&shortened(self.0), Some('`'), f)
    }
}

/// Names as messages have them, one after the other.
pub(crate) fn shown_list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| shown(name).to_string()).collect();
    names.join(", ")
}

/// The name without what lies between its beginning and its end, if it is very long; else as it is.
pub(crate) fn shortened(name: &str) -> Cow<'_, str> {
    shortened_to(name, MOST_CHARACTERS)
}

/// The same of a text of at most so many characters, which are a hundred at least.
pub(crate) fn shortened_to(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let count = text.chars().count();
    if count <= most {
        return Cow::Borrowed(text);
    }
    // Both ends and the words between them are no longer than what is allowed, so that it is not shortened again.
    let (head, tail) = (most / 2, most / 4);
    let at = |place: usize| {
        let found = text.char_indices().nth(place);
        found.map_or(text.len(), |(at, _)| at)
    };
    let left_out = count.saturating_sub(head).saturating_sub(tail);
    let begin = text.get(..at(head)).unwrap_or_default();
    let end = text
        .get(at(count.saturating_sub(tail))..)
        .unwrap_or_default();
    Cow::Owned(format!(
        "{begin}[... {left_out} characters left out ...]{end}"
    ))
}

/// The whole text for a terminal: control characters are escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    // Writing to a string does not fail.
    let _ = escape(text, None, &mut plain);
    plain
}

/// As [`printable`], of a line that may have tabs.
pub(crate) fn escaped_line(line: &str) -> String {
    let columns: Vec<String> = line.split('\t').map(printable).collect();
    columns.join("\t")
}

/// Writes the text with escapes for control characters and this one.
fn escape(text: &str, quote: Option<char>, out: &mut impl Write) -> fmt::Result {
    for character in text.chars() {
        if character.is_control() {
            write!(out, "{}", character.escape_default())?;
        } else if Some(character) == quote {
            write!(out, "{}", character.escape_unicode())?;
        } else {
            out.write_char(character)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_megabyte_is_shown_with_its_ends_and_the_count_of_the_rest() {
        let name = format!("first{}last", "é".repeat(1_000_000));
        let text = shown(&name).to_string();
        assert!(text.chars().count() <= MOST_CHARACTERS, "{text}");
        assert!(
            text.starts_with("firsté") && text.ends_with("élast"),
            "{text}"
        );
        assert!(
            text.contains("é[... 999634 characters left out ...]é"),
            "{text}"
        );
        assert_eq!(shown(&text).to_string(), text);
    }

    #[test]
    fn a_name_of_usual_length_is_shown_as_it_is() {
        let name = "é".repeat(MOST_CHARACTERS);
        assert_eq!(shown(&name).to_string(), name);
        assert!(matches!(shortened(&name), Cow::Borrowed(_)));
    }

    #[test]
    fn what_commands_a_terminal_is_escaped() {
        assert_eq!(
            shown("a\u{1b}[31m`\nfake: line\r").to_string(),
            "a\\u{1b}[31m\\u{60}\\nfake: line\\r"
        );
        assert_eq!(printable("tab\tbell\u{7}"), "tab\\tbell\\u{7}");
    }
}
