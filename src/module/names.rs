//! Names of functions for backtraces, from the custom section `name`. The section is only looked at
//! when the first name is asked for, and a malformed one gives the names before the fault: it never
//! makes a module invalid.
#![forbid(unsafe_code)]

use super::reader::{Fault, Reader};
use std::ops::Range;

const SUBSECTION_MODULE: u8 = 0;
const SUBSECTION_FUNCTION: u8 = 1;

/// Where the names are in the module's bytes.
#[derive(Debug, Default)]
pub(super) struct Names {
    module: Option<Range<usize>>,
    /// (function index, start, length), ascending by index.
    functions: Vec<(u32, u32, u32)>,
}

impl Names {
    /// Reads the contents of a `name` section.
    pub(super) fn parse(file: &[u8], section: &Range<usize>) -> Names {
        let mut names = Names::default();
        // A fault ends the reading; the names before it are still good for a backtrace.
        let _ = names.read(Reader::new(file, section.start, section.end));
        // The section has to be sorted, but nobody enforces it. The first name of a function wins.
        names.functions.sort_by_key(|(index, ..)| *index);
        names.functions.dedup_by_key(|(index, ..)| *index);
        names
    }

    fn read(&mut self, mut reader: Reader<'_>) -> Result<(), Fault> {
        while !reader.is_at_end() {
            let kind = reader.byte("a subsection")?;
            let length = reader.number("the subsection's length")?;
            let mut part = reader.part(length, "the subsection")?;
            match kind {
                SUBSECTION_MODULE => {
                    let name = part.name("the module's name")?;
                    let end = part.position();
                    self.module = Some(end - name.len()..end);
                }
                SUBSECTION_FUNCTION => self.read_functions(part)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_functions(&mut self, mut reader: Reader<'_>) -> Result<(), Fault> {
        let count = reader.count("the number of names", 2)?;
        for _ in 0..count {
            let index = reader.number("a function index")?;
            let name = reader.name("a function's name")?;
            let start = reader.position() - name.len();
            let (Ok(start), Ok(length)) = (u32::try_from(start), u32::try_from(name.len())) else {
                return Ok(());
            };
            if self.functions.try_reserve(1).is_err() {
                return Ok(());
            }
            self.functions.push((index, start, length));
        }
        Ok(())
    }

    /// The name of the module.
    pub(super) fn module<'a>(&self, file: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(file.get(self.module.clone()?)?).ok()
    }

    /// All functions with a name.
    pub(super) fn functions<'a>(&'a self, file: &'a [u8]) -> impl Iterator<Item = (u32, &'a str)> {
        let indices = self.functions.iter().map(|(index, ..)| *index);
        indices.filter_map(|index| Some((index, self.function(file, index)?)))
    }

    /// The name of a function. O(log n).
    pub(super) fn function<'a>(&self, file: &'a [u8], index: u32) -> Option<&'a str> {
        let place = self
            .functions
            .binary_search_by_key(&index, |(index, ..)| *index)
            .ok()?;
        let (_, start, length) = self.functions.get(place)?;
        let start = usize::try_from(*start).ok()?;
        let end = start.checked_add(usize::try_from(*length).ok()?)?;
        std::str::from_utf8(file.get(start..end)?).ok()
    }

    /// The first function with this name.
    pub(super) fn function_named(&self, file: &[u8], name: &str) -> Option<u32> {
        let wanted = name.as_bytes();
        self.functions.iter().find_map(|(index, start, length)| {
            let start = usize::try_from(*start).ok()?;
            let end = start.checked_add(usize::try_from(*length).ok()?)?;
            (file.get(start..end)? == wanted).then_some(*index)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Names {
        Names::parse(bytes, &(0..bytes.len()))
    }

    #[test]
    fn names_are_found_also_when_the_section_is_not_sorted() {
        let section = b"\x00\x02\x01m\x02\x01\x00\x01\x0a\x03\x05\x01b\x02\x01a\x05\x01c";
        let names = parse(section);
        assert_eq!(names.module(section), Some("m"));
        assert_eq!(names.function(section, 2), Some("a"));
        assert_eq!(names.function(section, 5), Some("b"));
        assert_eq!(names.function(section, 3), None);
    }

    #[test]
    fn a_fault_keeps_the_names_before_it() {
        // The second name promises more bytes than there are.
        let section = b"\x01\x07\x02\x00\x01a\x01\x09b";
        let names = parse(section);
        assert_eq!(names.function(section, 0), Some("a"));
        assert_eq!(names.function(section, 1), None);
    }

    #[test]
    fn a_count_of_four_billion_names_costs_nothing() {
        let names = parse(b"\x01\x05\xff\xff\xff\xff\x0f");
        assert!(names.functions.is_empty());
        assert_eq!(names.functions.capacity(), 0);
    }
}
