//! The sections of a file: what they are, where they begin and how long they are. And the exports of a file that nobody
//! has parsed, for tools that look through many files.
#![forbid(unsafe_code)]

use super::reader::{Fault, Reader};
use super::types::{self, ExternType};
use super::{ExportItem, FuncType, Module};
use crate::error::{Error, ErrorKind, Result};
use std::ops::Range;
use wasmparser::{ExternalKind, Parser, Payload, TypeRef};

/// One section of a module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    /// The section's number; 0 is a custom section.
    pub id: u8,
    /// The custom section's own name, else that of the specification.
    pub name: String,
    /// Offset of the first byte behind the section's header.
    pub start: usize,
    /// Bytes of its contents, with the name of a custom section.
    pub size: usize,
    /// Entries, in sections that are a list.
    pub count: Option<u32>,
}

const NAMES: [&str; 14] = [
    "custom",
    "type",
    "import",
    "function",
    "table",
    "memory",
    "global",
    "export",
    "start",
    "element",
    "code",
    "data",
    "data count",
    "tag",
];

/// Lists the sections of a file, without looking into them.
///
/// # Errors
/// The file is no WebAssembly module, or a section is cut off.
pub fn sections(bytes: &[u8]) -> Result<Vec<Section>> {
    super::parse::check_header(bytes)?;
    let fault = |Fault { offset, reason }| Error::new(ErrorKind::Malformed { reason, offset });
    let mut reader = Reader::new(bytes, 8, bytes.len());
    let mut list = Vec::new();
    while !reader.is_at_end() {
        let id = reader.byte("a section").map_err(fault)?;
        let size = reader.number("the section's size").map_err(fault)?;
        let start = reader.position();
        let mut part = reader.part(size, "the section").map_err(fault)?;
        let known = NAMES.get(usize::from(id)).copied();
        let (name, count) = if id == 0 {
            let name = part.name("the section's name").map_err(fault)?;
            (name.to_string(), None)
        } else {
            let is_list = id != 8;
            let count = is_list.then(|| part.number("a count").ok()).flatten();
            (known.unwrap_or("unknown").to_string(), count)
        };
        list.push(Section {
            id,
            name,
            start,
            size: usize::try_from(size).unwrap_or(usize::MAX),
            count,
        });
    }
    Ok(list)
}

impl Module {
    /// The module's binary form.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Byte range of the body of a function; `None` for imported ones.
    pub fn function_body(&self, index: u32) -> Option<Range<usize>> {
        let defined = usize::try_from(index)
            .ok()?
            .checked_sub(self.0.imported_funcs)?;
        self.0.bodies.get(defined).cloned()
    }

    /// The index of the function that is exported under a name. O(1).
    pub fn exported_function(&self, name: &str) -> Option<u32> {
        match self.0.export(name)? {
            ExportItem::Func(index) => Some(index),
            _ => None,
        }
    }

    /// How many functions it has, imported ones first.
    pub fn function_count(&self) -> usize {
        self.0.funcs.len()
    }

    /// The type of a function of the index space.
    pub fn function_type(&self, index: u32) -> Option<&FuncType> {
        self.0.func_type(index)
    }
}

/// Names and types of the exported functions and globals of a file, as far as it can be read. Nothing is validated.
pub(crate) fn exports_of(bytes: &[u8]) -> Vec<(String, ExternType)> {
    let mut found = Exports::default();
    // A fault ends the reading; what stands before it is still good for a suggestion.
    let _ = found.read(bytes);
    found.list
}

#[derive(Default)]
struct Exports {
    types: Vec<Option<FuncType>>,
    functions: Vec<u32>,
    list: Vec<(String, ExternType)>,
}

impl Exports {
    fn read(&mut self, bytes: &[u8]) -> std::result::Result<(), wasmparser::BinaryReaderError> {
        let mut globals = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        for ty in group?.into_types() {
                            self.types.push(types::func(&ty));
                        }
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import?.ty {
                            TypeRef::Func(ty) => self.functions.push(ty),
                            TypeRef::Global(ty) => globals.push(types::global(&ty)),
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    for ty in section {
                        self.functions.push(ty?);
                    }
                }
                Payload::GlobalSection(section) => {
                    for global in section {
                        globals.push(types::global(&global?.ty));
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        let place = usize::try_from(export.index).unwrap_or(usize::MAX);
                        let ty = match export.kind {
                            ExternalKind::Func => self.function(place).map(ExternType::Func),
                            ExternalKind::Global => globals
                                .get(place)
                                .copied()
                                .flatten()
                                .map(ExternType::Global),
                            _ => None,
                        };
                        if let Some(ty) = ty {
                            self.list.push((export.name.to_string(), ty));
                        }
                    }
                    return Ok(());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn function(&self, place: usize) -> Option<FuncType> {
        let ty = usize::try_from(*self.functions.get(place)?).ok()?;
        self.types.get(ty)?.clone()
    }
}
