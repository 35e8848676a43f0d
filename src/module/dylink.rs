//! The dynamic linking information of a module: the custom section `dylink.0` or the older `dylink`.
//! All sizes are checked here; nothing else reads these sections. Rules P1 to P11.
//!
//! A section that is not the first one of the file is an ordinary custom section (P1). Unknown
//! subsections are skipped by their length (P2), known ones must be consumed exactly (P3), lists that
//! come twice are joined, and memory information that comes twice is an error (P5).
#![forbid(unsafe_code)]

use super::reader::{Fault, Reader};
use crate::config::Limits;
use crate::error::{Error, ErrorKind, Result};

/// What `dylink.0` (or the legacy `dylink` section) says about a library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DylinkInfo {
    /// Whether it came from the legacy `dylink` section.
    pub legacy: bool,
    /// Bytes of memory the library needs.
    pub memory_size: u32,
    /// log2 of the alignment of its memory.
    pub memory_align: u32,
    /// Table slots the library needs.
    pub table_size: u32,
    /// log2 of the alignment of its table slots.
    pub table_align: u32,
    /// Libraries it needs, in order; duplicates as written.
    pub needed: Vec<String>,
    /// Flags of exports (name, flags), in order. Linkers write only those of thread-local symbols (P8).
    pub export_info: Vec<(String, SymbolFlags)>,
    /// Flags of imports (module, field, flags), in order. The module is `env` for all C symbols, also for
    /// those that the import section takes from `GOT.mem` or `GOT.func` (P9).
    pub import_info: Vec<(String, String, SymbolFlags)>,
    /// Where the libraries that it needs are searched (`$ORIGIN` not yet replaced).
    pub runtime_path: Vec<String>,
}

bitflags::bitflags! {
    /// Symbol flags of the linking convention.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SymbolFlags: u32 {
        /// Weak binding.
        const WEAK = 0x1;
        /// Local binding.
        const LOCAL = 0x2;
        /// Hidden visibility.
        const HIDDEN = 0x4;
        /// Not defined here.
        const UNDEFINED = 0x10;
        /// Exported by request.
        const EXPORTED = 0x20;
        /// The name in the symbol table differs from the import's.
        const EXPLICIT_NAME = 0x40;
        /// Kept by strip.
        const NO_STRIP = 0x80;
        /// Thread-local: an offset from `__tls_base`.
        const TLS = 0x100;
        /// An absolute value, not relocated.
        const ABSOLUTE = 0x200;
        const _ = !0;
    }
}

impl SymbolFlags {
    /// Whether the symbol is weak: the binding is a field of two bits, not a single one (P7).
    pub fn is_weak(self) -> bool {
        (self & (SymbolFlags::WEAK | SymbolFlags::LOCAL)) == SymbolFlags::WEAK
    }
}

/// Name of today's section.
pub(super) const DYLINK_0: &str = "dylink.0";
/// Name of the section before 2021, with one fixed record and no subsections (P11).
pub(super) const DYLINK: &str = "dylink";

/// Numbers of the subsections.
pub(super) mod subsection {
    pub const MEM_INFO: u8 = 1;
    pub const NEEDED: u8 = 2;
    pub const EXPORT_INFO: u8 = 3;
    pub const IMPORT_INFO: u8 = 4;
    pub const RUNTIME_PATH: u8 = 5;
}
use subsection::{EXPORT_INFO, IMPORT_INFO, MEM_INFO, NEEDED, RUNTIME_PATH};

/// Largest log2 of an alignment, of memory and of table slots. The largest seen in real libraries is 7.
const MAX_ALIGNMENT: u32 = 16;
/// Most libraries that one may need, and most search directories.
const MAX_LIBRARIES: usize = 65_536;
/// Most symbols with flags, as many as a module may have imports or exports.
const MAX_SYMBOLS: usize = 1_000_000;
/// Bytes that 32-bit addresses reach.
const ADDRESSABLE: u64 = 1 << 32;
const PAGE: u64 = 1 << 16;

/// Bytes of the header in front of the first section.
pub(super) const HEADER: usize = 8;

/// Why there is no information.
pub(super) enum Problem {
    /// The file has no readable first section: not this section's fault.
    Module(Fault),
    /// The section is malformed.
    Section(&'static str, Fault),
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Error {
        Error::new(match problem {
            Problem::Module(Fault { offset, reason }) => ErrorKind::Malformed { reason, offset },
            Problem::Section(section, Fault { offset, reason }) => ErrorKind::Section {
                section,
                offset,
                reason,
            },
        })
    }
}

impl DylinkInfo {
    /// Reads the information without parsing or validating the rest of the module (rule P10).
    /// `Ok(None)` if the module's first section is not a dynamic linking section (rule P1).
    /// Sizes are held against the default [`Limits`].
    ///
    /// # Errors
    /// The file is not a WebAssembly module or the section is malformed.
    pub fn read(bytes: &[u8]) -> Result<Option<DylinkInfo>> {
        super::parse::check_header(bytes)?;
        Ok(parse(bytes, &Limits::default())?)
    }
}

/// Reads the section from a file that begins with a module's header.
pub(super) fn parse(file: &[u8], limits: &Limits) -> Result<Option<DylinkInfo>, Problem> {
    let Some((section, reader)) = find(file)? else {
        return Ok(None);
    };
    let mut parsing = Parsing {
        info: DylinkInfo {
            legacy: section == DYLINK,
            ..DylinkInfo::default()
        },
        limits,
        has_sizes: false,
    };
    let outcome = if section == DYLINK {
        parsing.legacy(reader)
    } else {
        parsing.subsections(reader)
    };
    match outcome {
        Ok(()) => Ok(Some(parsing.info)),
        Err(fault) => Err(Problem::Section(section, fault)),
    }
}

/// The contents of the first section if it is a dynamic linking section, and its name.
fn find(file: &[u8]) -> Result<Option<(&'static str, Reader<'_>)>, Problem> {
    let mut reader = Reader::new(file, HEADER, file.len());
    if file.len() < HEADER {
        return Err(Problem::Module(Fault::new(
            file.len(),
            "the file ends within the module's header",
        )));
    }
    // A module without sections is valid, and any section but a custom one (0) is not ours.
    if reader.is_at_end() || !matches!(reader.byte("a section"), Ok(0)) {
        return Ok(None);
    }
    let size = reader
        .number("the section's size")
        .map_err(Problem::Module)?;
    let start = reader.position();
    // The name is read before the size is judged, so that a section that is cut off can be named.
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let end = start.saturating_add(size);
    let mut contents = Reader::new(file, start, end);
    let section = match contents
        .name("the section's name")
        .map_err(Problem::Module)?
    {
        DYLINK_0 => DYLINK_0,
        DYLINK => DYLINK,
        _ => return Ok(None),
    };
    if end > file.len() {
        return Err(Problem::Section(
            section,
            Fault::new(
                start,
                format!(
                    "the section has {size} bytes, but only {} are left",
                    file.len().saturating_sub(start)
                ),
            ),
        ));
    }
    Ok(Some((section, contents)))
}

struct Parsing<'a> {
    info: DylinkInfo,
    limits: &'a Limits,
    /// Whether memory information was seen.
    has_sizes: bool,
}

impl Parsing<'_> {
    /// The contents of `dylink.0`.
    fn subsections(&mut self, mut reader: Reader<'_>) -> Result<(), Fault> {
        while !reader.is_at_end() {
            let start = reader.position();
            let kind = reader.byte("a subsection")?;
            let length = reader.number("the subsection's length")?;
            let what = match kind {
                MEM_INFO => "the subsection MEM_INFO",
                NEEDED => "the subsection NEEDED",
                EXPORT_INFO => "the subsection EXPORT_INFO",
                IMPORT_INFO => "the subsection IMPORT_INFO",
                RUNTIME_PATH => "the subsection RUNTIME_PATH",
                _ => {
                    reader.part(length, &format!("the subsection {kind}"))?;
                    continue;
                }
            };
            let mut part = reader.part(length, what)?;
            match kind {
                MEM_INFO if self.has_sizes => {
                    return Err(Fault::new(start, "MEM_INFO occurs twice"));
                }
                MEM_INFO => self.sizes(&mut part)?,
                NEEDED => libraries(&mut part, &mut self.info.needed, "needed library")?,
                EXPORT_INFO => self.export_info(&mut part)?,
                IMPORT_INFO => self.import_info(&mut part)?,
                _ => libraries(&mut part, &mut self.info.runtime_path, "runtime path")?,
            }
            part.finish(what)?;
        }
        Ok(())
    }

    /// The contents of the legacy `dylink`.
    fn legacy(&mut self, mut reader: Reader<'_>) -> Result<(), Fault> {
        self.sizes(&mut reader)?;
        libraries(&mut reader, &mut self.info.needed, "needed library")?;
        reader.finish("the section")
    }

    /// Sizes and alignments of memory and table slots, checked so that nobody has to do it again.
    fn sizes(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        let memory = self
            .limits
            .memory_pages
            .saturating_mul(PAGE)
            .min(ADDRESSABLE);
        let table = self.limits.table_elements.min(ADDRESSABLE - 1);
        let info = &mut self.info;
        (info.memory_size, info.memory_align) = extent(reader, "memory", "bytes", memory)?;
        (info.table_size, info.table_align) = extent(reader, "table", "elements", table)?;
        self.has_sizes = true;
        Ok(())
    }

    fn export_info(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        let start = reader.position();
        // A name's length and the flags take a byte each.
        let count = reader.count("the number of exports", 2)?;
        for _ in 0..count {
            let name = reader.name("an export's name")?.to_owned();
            let flags = flags(reader)?;
            let exports = &mut self.info.export_info;
            push(exports, (name, flags), MAX_SYMBOLS, "export flags", start)?;
        }
        Ok(())
    }

    fn import_info(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        let start = reader.position();
        let count = reader.count("the number of imports", 3)?;
        for _ in 0..count {
            let module = reader.name("an import's module")?.to_owned();
            let name = reader.name("an import's name")?.to_owned();
            let import = (module, name, flags(reader)?);
            let imports = &mut self.info.import_info;
            push(imports, import, MAX_SYMBOLS, "import flags", start)?;
        }
        Ok(())
    }
}

fn flags(reader: &mut Reader<'_>) -> Result<SymbolFlags, Fault> {
    Ok(SymbolFlags::from_bits_retain(
        reader.number("symbol flags")?,
    ))
}

/// A size and the log2 of its alignment, which must fit within `limit` wherever it is placed.
fn extent(
    reader: &mut Reader<'_>,
    what: &str,
    unit: &str,
    limit: u64,
) -> Result<(u32, u32), Fault> {
    let start = reader.position();
    let size = reader.number(&format!("the {what} size"))?;
    let align_start = reader.position();
    let align = reader.number(&format!("the {what} alignment"))?;
    if align > MAX_ALIGNMENT {
        return Err(Fault::new(
            align_start,
            format!("the {what} alignment is 2^{align}, the largest allowed is 2^{MAX_ALIGNMENT}"),
        ));
    }
    let padding = (1_u64 << align) - 1;
    let needed = u64::from(size) + padding;
    if needed > limit {
        return Err(Fault::new(
            start,
            format!(
                "{size} {unit} of {what} aligned to 2^{align} take up to {needed}, the limit is {limit}"
            ),
        ));
    }
    Ok((size, align))
}

/// A list of names, appended to `list`.
fn libraries(reader: &mut Reader<'_>, list: &mut Vec<String>, what: &str) -> Result<(), Fault> {
    let start = reader.position();
    let count = reader.count(&format!("the number of entries ({what})"), 1)?;
    for _ in 0..count {
        let name = reader.name(what)?.to_owned();
        push(list, name, MAX_LIBRARIES, what, start)?;
    }
    Ok(())
}

/// Appends within a limit and without aborting when memory is used up.
fn push<T>(
    list: &mut Vec<T>,
    item: T,
    limit: usize,
    what: &str,
    offset: usize,
) -> Result<(), Fault> {
    if list.len() >= limit {
        return Err(Fault::new(
            offset,
            format!("more than {limit} entries ({what})"),
        ));
    }
    if list.try_reserve(1).is_err() {
        return Err(Fault::new(
            offset,
            format!("no memory for more than {} entries ({what})", list.len()),
        ));
    }
    list.push(item);
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A number as LEB128.
    pub(in super::super) fn leb(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let low = u8::try_from(value & 0x7f).unwrap();
            value >>= 7;
            if value == 0 {
                bytes.push(low);
                return bytes;
            }
            bytes.push(low | 0x80);
        }
    }

    pub(in super::super) fn name(text: &[u8]) -> Vec<u8> {
        [leb(u64::try_from(text.len()).unwrap()), text.to_vec()].concat()
    }

    pub(in super::super) fn subsection(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = leb(u64::try_from(payload.len()).unwrap());
        [&[kind], length.as_slice(), payload].concat()
    }

    /// A file with this custom section in the first place.
    pub(in super::super) fn file(section: &str, contents: &[u8]) -> Vec<u8> {
        let contents = [name(section.as_bytes()), contents.to_vec()].concat();
        [b"\0asm\x01\0\0\0".as_slice(), &subsection(0, &contents)].concat()
    }

    pub(in super::super) fn sizes(
        memory: u64,
        align: u64,
        table: u64,
        table_align: u64,
    ) -> Vec<u8> {
        [leb(memory), leb(align), leb(table), leb(table_align)].concat()
    }

    pub(in super::super) fn list(names: &[&str]) -> Vec<u8> {
        let mut bytes = leb(u64::try_from(names.len()).unwrap());
        bytes.extend(names.iter().flat_map(|text| name(text.as_bytes())));
        bytes
    }

    fn read(contents: &[&[u8]]) -> Result<DylinkInfo> {
        Ok(DylinkInfo::read(&file(DYLINK_0, &contents.concat()))?.expect("a section"))
    }

    fn fault(outcome: Result<DylinkInfo>) -> (usize, String) {
        let error = outcome.unwrap_err();
        match error.kind() {
            ErrorKind::Section {
                section: DYLINK_0 | DYLINK,
                offset,
                reason,
            } => (*offset, reason.clone()),
            _ => panic!("{error}"),
        }
    }

    /// Offset of the first byte behind the section's name.
    const CONTENTS: usize = 8 + 2 + 9;

    #[test]
    fn everything_that_a_linker_writes_is_read() {
        let bytes = wat::parse_str(
            r#"(module
                (@dylink.0
                    (mem-info (memory 1024 4) (table 3 0))
                    (needed "liba.so" "libb.so" "liba.so")
                    (export-info "tls_variable" tls)
                    (import-info "env" "weak_function" binding-weak undefined)
                    (runtime-path "$ORIGIN/../lib" "/usr/lib")))"#,
        )
        .unwrap();
        let expected = DylinkInfo {
            legacy: false,
            memory_size: 1024,
            memory_align: 4,
            table_size: 3,
            table_align: 0,
            needed: vec!["liba.so".into(), "libb.so".into(), "liba.so".into()],
            export_info: vec![("tls_variable".into(), SymbolFlags::TLS)],
            import_info: vec![(
                "env".into(),
                "weak_function".into(),
                SymbolFlags::WEAK | SymbolFlags::UNDEFINED,
            )],
            runtime_path: vec!["$ORIGIN/../lib".into(), "/usr/lib".into()],
        };
        assert_eq!(DylinkInfo::read(&bytes).unwrap(), Some(expected));
    }

    #[test]
    fn the_legacy_section_is_read() {
        let contents = [sizes(16, 2, 1, 0), list(&["a.so", "b.so"])].concat();
        let info = DylinkInfo::read(&file(DYLINK, &contents)).unwrap().unwrap();
        assert!(info.legacy);
        assert_eq!((info.memory_size, info.memory_align), (16, 2));
        assert_eq!((info.table_size, info.table_align), (1, 0));
        assert_eq!(info.needed, ["a.so", "b.so"]);
        let longer = [contents, vec![0]].concat();
        let outcome = DylinkInfo::read(&file(DYLINK, &longer)).map(Option::unwrap);
        assert_eq!(fault(outcome).1, "the section has 1 bytes too many");
    }

    #[test]
    fn only_the_first_section_counts() {
        let header = b"\0asm\x01\0\0\0".as_slice();
        let section = &file(DYLINK_0, &subsection(MEM_INFO, &sizes(8, 0, 0, 0)))[8..];
        let custom = subsection(0, &name(b"other"));
        let empty_types = subsection(1, &[0]);
        for (file, found) in [
            (vec![header], false),
            (vec![header, section], true),
            (vec![header, section, &custom], true),
            (vec![header, &custom, section], false),
            (vec![header, &empty_types, section], false),
        ] {
            let info = DylinkInfo::read(&file.concat()).unwrap();
            assert_eq!(info.is_some(), found, "{file:?}");
        }
    }

    #[test]
    fn what_stands_behind_the_section_is_not_looked_at() {
        let mut bytes = file(DYLINK_0, &subsection(NEEDED, &list(&["a.so"])));
        bytes.extend(b"\xff garbage");
        assert_eq!(DylinkInfo::read(&bytes).unwrap().unwrap().needed, ["a.so"]);
        assert!(crate::Module::new(&crate::Engine::default(), &bytes).is_err());
    }

    #[test]
    fn files_that_are_no_modules_are_refused() {
        for bytes in [b"".as_slice(), b"\0as", b"<html>", b"\0asm", b"\0asm\x01\0"] {
            let error = DylinkInfo::read(bytes).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Malformed { .. }),
                "{error}"
            );
        }
        let error = DylinkInfo::read(&wat::parse_str("(component)").unwrap()).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Unsupported { .. }),
            "{error}"
        );
    }

    #[test]
    fn subsections_are_optional_and_repeated_lists_are_joined() {
        assert_eq!(read(&[]).unwrap(), DylinkInfo::default());
        let info = read(&[
            &subsection(NEEDED, &list(&["a"])),
            &subsection(RUNTIME_PATH, &list(&["/x"])),
            &subsection(MEM_INFO, &sizes(1, 0, 0, 0)),
            &subsection(NEEDED, &list(&["b", "a"])),
            &subsection(RUNTIME_PATH, &list(&["/y"])),
        ])
        .unwrap();
        assert_eq!(info.needed, ["a", "b", "a"]);
        assert_eq!(info.runtime_path, ["/x", "/y"]);
        assert_eq!(info.memory_size, 1);
    }

    #[test]
    fn memory_information_twice_is_an_error_even_if_the_first_is_all_zeros() {
        let first = subsection(MEM_INFO, &sizes(0, 0, 0, 0));
        let second = subsection(MEM_INFO, &sizes(8, 0, 0, 0));
        let (offset, reason) = fault(read(&[&first, &second]));
        assert_eq!(reason, "MEM_INFO occurs twice");
        assert_eq!(offset, CONTENTS + first.len());
    }

    #[test]
    fn unknown_subsections_are_skipped_by_their_length() {
        for kind in (0..=255_u8).filter(|kind| !(MEM_INFO..=RUNTIME_PATH).contains(kind)) {
            let info = read(&[
                &subsection(kind, b"\xff\xff\xff\xff\xff anything"),
                &subsection(NEEDED, &list(&["a"])),
            ])
            .unwrap();
            assert_eq!(info.needed, ["a"]);
            // But not beyond the end of the section.
            let (_, reason) = fault(read(&[&[kind, 5, 0]]));
            assert!(reason.contains("only 1 are left"), "{reason}");
        }
    }

    #[test]
    fn alignments_above_64_kib_and_sizes_beyond_the_limits_are_refused() {
        for align in 0..=255 {
            let accepted = align <= u64::from(MAX_ALIGNMENT);
            let memory = read(&[&subsection(MEM_INFO, &sizes(8, align, 0, 0))]);
            let table = read(&[&subsection(MEM_INFO, &sizes(0, 0, 8, align))]);
            assert_eq!(memory.is_ok(), accepted, "{align}");
            assert_eq!(table.is_ok(), accepted, "{align}");
            if !accepted {
                assert!(fault(memory).1.contains(&format!("2^{align}")));
                assert!(fault(table).1.contains(&format!("2^{align}")));
            }
        }
        let most = u64::from(u32::MAX);
        for (memory, align, table, table_align, accepted) in [
            (most, 0, 0, 0, true),
            // 4 GiB exactly with the padding, then one byte more.
            (most, 1, 0, 0, true),
            (most - 1, 1, 0, 0, true),
            (most, 2, 0, 0, false),
            (most, 16, 0, 0, false),
            ((1 << 32) - (1 << 16), 16, 0, 0, true),
            ((1 << 32) - (1 << 16) + 2, 16, 0, 0, false),
            (1 << 31, 16, 0, 0, true),
            (0, 0, 10_000_000, 0, true),
            (0, 0, 10_000_001, 0, false),
            (0, 0, 10_000_000, 1, false),
            (0, 0, 1 << 31, 0, false),
            (0, 0, most, 16, false),
            (most, 16, most, 16, false),
        ] {
            let contents = sizes(memory, align, table, table_align);
            let outcome = read(&[&subsection(MEM_INFO, &contents)]);
            assert_eq!(outcome.is_ok(), accepted, "{memory} {align} {table}");
        }
    }

    #[test]
    fn the_limits_of_the_engine_hold_for_modules() {
        let engine = crate::Engine::new(crate::Config {
            limits: Limits {
                memory_pages: 1,
                table_elements: 4,
                ..Limits::default()
            },
            ..crate::Config::default()
        });
        for (memory, table, accepted) in [(65_536, 4, true), (65_537, 4, false), (65_536, 5, false)]
        {
            let bytes = file(DYLINK_0, &subsection(MEM_INFO, &sizes(memory, 0, table, 0)));
            let outcome = crate::Module::new(&engine, &bytes);
            assert_eq!(outcome.is_ok(), accepted, "{memory} {table}");
        }
    }

    #[test]
    fn a_section_that_is_cut_off_is_named_with_what_is_missing() {
        let bytes = file(DYLINK_0, &subsection(NEEDED, &list(&["a.so"])));
        let outcome = DylinkInfo::read(&bytes[..bytes.len() - 2]).map(Option::unwrap);
        let (offset, reason) = fault(outcome);
        assert_eq!(offset, 10);
        assert_eq!(reason, "the section has 17 bytes, but only 15 are left");
    }

    #[test]
    fn weakness_is_a_field_of_two_bits() {
        assert!(SymbolFlags::WEAK.is_weak());
        assert!((SymbolFlags::WEAK | SymbolFlags::UNDEFINED).is_weak());
        assert!(!(SymbolFlags::WEAK | SymbolFlags::LOCAL).is_weak());
        assert!(!SymbolFlags::empty().is_weak());
        // Bits that nobody has defined yet are kept.
        let payload = [list(&[]), vec![]].concat();
        assert!(read(&[&subsection(EXPORT_INFO, &payload)]).is_ok());
        let payload = [vec![1], name(b"x"), leb(0x8000_0100)].concat();
        let info = read(&[&subsection(EXPORT_INFO, &payload)]).unwrap();
        assert_eq!(info.export_info[0].1.bits(), 0x8000_0100);
    }
}
