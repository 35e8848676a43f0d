//! Changes to the dynamic linking section of a file: what it needs and where that is looked for. Everything else stays
//! as it is, byte by byte.
//!
//! Subsections that do not change are copied as they are, also unknown ones. What comes out is read again before it is
//! handed out.
#![forbid(unsafe_code)]

use super::dylink::{self, DylinkInfo, subsection};
use super::reader::{Fault, Reader};
use crate::error::{Error, ErrorKind, Result};
use std::ops::Range;

/// New lists for the dynamic linking section of a file.
///
/// ```
/// use dynlink::{DylinkInfo, DylinkPatch};
///
/// # let library = wat::parse_str(r#"(module (@dylink.0 (needed "liba.so")))"#).unwrap();
/// let patched = DylinkPatch::new()
///     .needed(["liba.so", "libb.so"])
///     .runtime_path(["$ORIGIN"])
///     .apply(&library)?;
/// let info = DylinkInfo::read(&patched)?.expect("a section");
/// assert_eq!(info.needed, ["liba.so", "libb.so"]);
/// assert_eq!(info.runtime_path, ["$ORIGIN"]);
/// # Ok::<(), dynlink::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DylinkPatch {
    needed: Option<Vec<String>>,
    runtime_path: Option<Vec<String>>,
}

impl DylinkPatch {
    /// No change.
    pub fn new() -> DylinkPatch {
        DylinkPatch::default()
    }

    /// The libraries that the file shall need, in order.
    #[must_use]
    pub fn needed<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> DylinkPatch {
        self.needed = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Where they shall be looked for; none removes the list.
    #[must_use]
    pub fn runtime_path<S: Into<String>>(
        mut self,
        entries: impl IntoIterator<Item = S>,
    ) -> DylinkPatch {
        self.runtime_path = Some(entries.into_iter().map(Into::into).collect());
        self
    }

    /// The file with the changes. A file without a dynamic linking section gets one, in front of everything.
    ///
    /// # Errors
    /// The file is no module; its section is malformed; a name is too long; or the section is the legacy `dylink`, which
    /// has no place for a runtime path.
    pub fn apply(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let info = DylinkInfo::read(bytes)?;
        let Some(info) = info else {
            let mut contents = Vec::new();
            self.write_list(&mut contents, subsection::NEEDED)?;
            self.write_list(&mut contents, subsection::RUNTIME_PATH)?;
            let (header, rest) = split(bytes, dylink::HEADER)?;
            return self.checked([header, &section(dylink::DYLINK_0, &contents)?, rest].concat());
        };
        let (whole, name_end) = extent(bytes)?;
        let contents = bytes.get(name_end..whole.end).unwrap_or_default();
        let new = if info.legacy {
            self.legacy(contents)?
        } else {
            self.subsections(bytes, name_end..whole.end)?
        };
        if new == contents {
            return Ok(bytes.to_vec());
        }
        let name = if info.legacy {
            dylink::DYLINK
        } else {
            dylink::DYLINK_0
        };
        let before = bytes.get(..whole.start).unwrap_or_default();
        let after = bytes.get(whole.end..).unwrap_or_default();
        self.checked([before, &section(name, &new)?, after].concat())
    }

    /// The contents of a `dylink.0` section with the new lists where the first old ones were, else at the end.
    fn subsections(&self, file: &[u8], range: Range<usize>) -> Result<Vec<u8>> {
        let mut reader = Reader::new(file, range.start, range.end);
        let mut out = Vec::new();
        let mut written = [false; 2];
        while !reader.is_at_end() {
            let start = reader.position();
            let kind = reader.byte("a subsection").map_err(malformed)?;
            let length = reader.number("its length").map_err(malformed)?;
            reader.part(length, "the subsection").map_err(malformed)?;
            let place = match kind {
                subsection::NEEDED if self.needed.is_some() => Some(0),
                subsection::RUNTIME_PATH if self.runtime_path.is_some() => Some(1),
                _ => None,
            };
            match place.and_then(|place| written.get_mut(place)) {
                None => {
                    out.extend_from_slice(file.get(start..reader.position()).unwrap_or_default());
                }
                Some(written) if !*written => {
                    *written = true;
                    self.write_list(&mut out, kind)?;
                }
                Some(_) => {}
            }
        }
        for (kind, written) in [subsection::NEEDED, subsection::RUNTIME_PATH]
            .into_iter()
            .zip(written)
        {
            if !written {
                self.write_list(&mut out, kind)?;
            }
        }
        Ok(out)
    }

    /// The contents of a legacy section: four numbers, and the list.
    fn legacy(&self, contents: &[u8]) -> Result<Vec<u8>> {
        if self
            .runtime_path
            .as_ref()
            .is_some_and(|path| !path.is_empty())
        {
            return Err(Error::msg(
                "the legacy section `dylink` has no place for a runtime path; link the library again with a newer linker",
            ));
        }
        let Some(names) = &self.needed else {
            return Ok(contents.to_vec());
        };
        let mut reader = Reader::new(contents, 0, contents.len());
        for what in ["memory size", "alignment", "table size", "alignment"] {
            reader.number(what).map_err(malformed)?;
        }
        let numbers = contents.get(..reader.position()).unwrap_or_default();
        Ok([numbers, &list(names)?].concat())
    }

    /// Writes a subsection if its list is to change and not empty.
    fn write_list(&self, out: &mut Vec<u8>, kind: u8) -> Result<()> {
        let names = match kind {
            subsection::NEEDED => &self.needed,
            _ => &self.runtime_path,
        };
        if let Some(names) = names.as_ref().filter(|names| !names.is_empty()) {
            let payload = list(names)?;
            out.push(kind);
            number(out, payload.len())?;
            out.extend(payload);
        }
        Ok(())
    }

    /// The new file, if reading it gives what was asked for.
    fn checked(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let info = DylinkInfo::read(&bytes)
            .map_err(|error| error.context("the changed section would be wrong"))?
            .unwrap_or_default();
        let as_wanted = |wanted: &Option<Vec<String>>, found: &[String]| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        if as_wanted(&self.needed, &info.needed)
            && as_wanted(&self.runtime_path, &info.runtime_path)
        {
            Ok(bytes)
        } else {
            Err(Error::msg(
                "the changed section does not read back as it was written",
            ))
        }
    }
}

/// The range of the first section with its header, and where its name ends.
fn extent(file: &[u8]) -> Result<(Range<usize>, usize)> {
    let mut reader = Reader::new(file, dylink::HEADER, file.len());
    reader.byte("a section").map_err(malformed)?;
    let size = reader.number("the section's size").map_err(malformed)?;
    let mut contents = reader.part(size, "the section").map_err(malformed)?;
    contents.name("the section's name").map_err(malformed)?;
    Ok((dylink::HEADER..reader.position(), contents.position()))
}

fn section(name: &str, contents: &[u8]) -> Result<Vec<u8>> {
    let mut inner = Vec::new();
    number(&mut inner, name.len())?;
    inner.extend_from_slice(name.as_bytes());
    inner.extend_from_slice(contents);
    let mut out = vec![0];
    number(&mut out, inner.len())?;
    out.extend(inner);
    Ok(out)
}

fn list(names: &[String]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    number(&mut out, names.len())?;
    for name in names {
        number(&mut out, name.len())?;
        out.extend_from_slice(name.as_bytes());
    }
    Ok(out)
}

/// A number as LEB128.
fn number(out: &mut Vec<u8>, value: usize) -> Result<()> {
    let mut value =
        u32::try_from(value).map_err(|_| Error::msg("the section would be too long"))?;
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            out.push(low);
            return Ok(());
        }
        out.push(low | 0x80);
    }
}

fn split(bytes: &[u8], at: usize) -> Result<(&[u8], &[u8])> {
    bytes
        .split_at_checked(at)
        .ok_or_else(|| Error::msg("the file ends within the module's header"))
}

fn malformed(Fault { offset, reason }: Fault) -> Error {
    Error::new(ErrorKind::Malformed { reason, offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"(module (@dylink.0 (mem-info (memory 8 2)) (needed "liba.so" "libb.so")
        (export-info "t" tls) (runtime-path "/one"))
        (func (export "f")) (@custom "other" "bytes"))"#;

    fn file(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    fn info(bytes: &[u8]) -> DylinkInfo {
        DylinkInfo::read(bytes).unwrap().unwrap_or_default()
    }

    #[test]
    fn no_change_changes_no_byte() {
        for bytes in [file(FULL), file("(module)")] {
            let same = info(&bytes);
            let patch = DylinkPatch::new().needed(same.needed.clone());
            if same.needed.is_empty() {
                continue;
            }
            assert_eq!(DylinkPatch::new().apply(&bytes).unwrap(), bytes);
            assert_eq!(patch.apply(&bytes).unwrap(), bytes);
        }
    }

    #[test]
    fn only_the_lists_change() {
        let bytes = file(FULL);
        let patched = DylinkPatch::new()
            .needed(["libc.so"])
            .apply(&bytes)
            .unwrap();
        let expected = DylinkInfo {
            needed: vec!["libc.so".into()],
            ..info(&bytes)
        };
        assert_eq!(info(&patched), expected);
        let rest = |bytes: &[u8]| {
            let end = extent(bytes).unwrap().0.end;
            bytes[end..].to_vec()
        };
        assert_eq!(rest(&patched), rest(&bytes));
        // And back again.
        let back = DylinkPatch::new().needed(["liba.so", "libb.so"]);
        assert_eq!(back.apply(&patched).unwrap(), bytes);
    }

    #[test]
    fn lists_that_come_twice_become_one_and_unknown_subsections_stay() {
        use super::super::dylink::tests as parts;
        let contents = [
            parts::subsection(2, &parts::list(&["a"])),
            parts::subsection(77, b"unknown"),
            parts::subsection(2, &parts::list(&["b"])),
        ];
        let bytes = parts::file(dylink::DYLINK_0, &contents.concat());
        let patched = DylinkPatch::new()
            .needed(["c"])
            .runtime_path(["/d"])
            .apply(&bytes)
            .unwrap();
        let expected = [
            parts::subsection(2, &parts::list(&["c"])),
            parts::subsection(77, b"unknown"),
            parts::subsection(5, &parts::list(&["/d"])),
        ];
        assert_eq!(patched, parts::file(dylink::DYLINK_0, &expected.concat()));
    }

    #[test]
    fn a_legacy_section_has_needs_but_no_runtime_path() {
        use super::super::dylink::tests as parts;
        let contents = [parts::sizes(100, 4, 2, 0), parts::list(&["a"])].concat();
        let bytes = parts::file(dylink::DYLINK, &contents);
        let patched = DylinkPatch::new().needed(["b", "c"]).apply(&bytes).unwrap();
        let expected = DylinkInfo {
            needed: vec!["b".into(), "c".into()],
            ..info(&bytes)
        };
        assert_eq!(info(&patched), expected);
        let error = DylinkPatch::new()
            .runtime_path(["/x"])
            .apply(&bytes)
            .unwrap_err();
        assert!(error.to_string().contains("runtime path"), "{error}");
        assert!(
            DylinkPatch::new()
                .runtime_path([""; 0])
                .apply(&bytes)
                .is_ok()
        );
    }

    #[test]
    fn a_file_without_the_section_gets_one_in_front() {
        let bytes = file("(module (func (export \"f\")))");
        let patched = DylinkPatch::new().needed(["a"]).apply(&bytes).unwrap();
        assert_eq!(info(&patched).needed, ["a"]);
        assert!(patched.ends_with(&bytes[8..]));
    }

    #[test]
    fn what_could_not_be_read_again_is_refused() {
        let bytes = file(FULL);
        let error = DylinkPatch::new()
            .needed(["x".repeat(200_000)])
            .apply(&bytes)
            .unwrap_err();
        assert!(error.to_string().contains("100000"), "{error}");
        assert!(DylinkPatch::new().apply(b"\0asm").is_err());
        assert!(DylinkPatch::new().apply(b"#!/bin/sh\n").is_err());
    }

    #[test]
    fn cut_and_changed_files_are_errors_or_change_as_asked() {
        let bytes = file(FULL);
        let patch = DylinkPatch::new().needed(["c"]).runtime_path(["/d"]);
        for end in 0..bytes.len() {
            let _ = patch.apply(&bytes[..end]);
        }
        for place in 8..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                if let Ok(patched) = patch.apply(&changed) {
                    assert_eq!(info(&patched).needed, ["c"]);
                }
            }
        }
    }
}
