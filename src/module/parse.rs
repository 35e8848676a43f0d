//! The walk over a module's sections: every section goes through the validator first and is then
//! turned into the records of [`ModuleInner`]. Nothing is reported out of byte order: function bodies
//! are validated before whatever follows the code section is looked at.
#![forbid(unsafe_code)]

use super::validate::Bodies;
use super::{
    ConstExpr, DataSegment, ElementSegment, Export, ExportItem, ExternKind, GlobalDef, Import,
    ModuleInner, RefType, SegmentMode, TableDef, const_expr, dylink, proposals, types,
};
use crate::config::Engine;
use crate::error::{Error, ErrorKind, Result};
use std::ops::Range;
use wasmparser::{
    DataKind, ElementItems, ElementKind, ExternalKind, Parser, Payload, TableInit, TypeRef,
    ValidPayload, Validator,
};

/// Most elements of all element segments of a module together.
const MAX_ELEMENT_ITEMS: usize = 10_000_000;

/// Why the walk ended early.
pub(super) enum Failure {
    /// The validator's or the section reader's error; still to be explained.
    Wasm(wasmparser::Error),
    Other(Error),
}

impl From<wasmparser::Error> for Failure {
    fn from(error: wasmparser::Error) -> Failure {
        Failure::Wasm(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Other(error)
    }
}

/// Parses and validates a module.
///
/// # Errors
/// The bytes are malformed, invalid, need an unsupported proposal, or exceed a limit of the engine.
pub(super) fn parse(engine: &Engine, bytes: Box<[u8]>, name: Option<&str>) -> Result<ModuleInner> {
    let limits = &engine.config().limits;
    check_size(bytes.len(), limits.module_bytes)?;
    if Parser::is_component(&bytes) {
        return Err(proposals::component());
    }
    let mut walk = Walk {
        bytes: &bytes,
        module: ModuleInner::empty(engine.clone(), name),
        validator: Validator::new_with_features(proposals::FEATURES),
        unvalidated: false,
        element_items: 0,
    };
    if Parser::is_core_wasm(&bytes) {
        walk.module.dylink = match dylink::parse(&bytes, limits) {
            Ok(dylink) => dylink,
            // What is wrong outside the section is for the validator to say.
            Err(dylink::Problem::Module(_)) => None,
            Err(problem) => return Err(problem.into()),
        };
    }
    match walk.sections() {
        Ok(()) => {}
        Err(Failure::Wasm(error)) => return Err(proposals::explain(&bytes, &error)),
        Err(Failure::Other(error)) => return Err(error),
    }
    let mut module = walk.module;
    // Only types of valid modules get an id, because ids are never given back.
    module.type_ids = module.types.iter().map(|ty| engine.type_id(ty)).collect();
    module.bytes = bytes;
    Ok(module)
}

/// Checks the length of a file against the engine's limit.
///
/// # Errors
/// The file is longer.
pub(super) fn check_size(bytes: usize, allowed: usize) -> Result<()> {
    if bytes <= allowed {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Limit {
        what: "bytes of a module file (Limits::module_bytes)".to_owned(),
        needed: u64::try_from(bytes).unwrap_or(u64::MAX),
        allowed: u64::try_from(allowed).unwrap_or(u64::MAX),
    }))
}

/// Appends without aborting when memory is used up.
pub(super) fn push<T>(list: &mut Vec<T>, item: T) -> Result<()> {
    if list.try_reserve(1).is_err() {
        return Err(Error::new(ErrorKind::Limit {
            what: "memory for the parts of a module".to_owned(),
            needed: u64::try_from(list.len())
                .unwrap_or(u64::MAX)
                .saturating_add(1),
            allowed: u64::try_from(list.len()).unwrap_or(u64::MAX),
        }));
    }
    list.push(item);
    Ok(())
}

/// A byte offset of the validator as a place in a slice.
pub(super) fn offset(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn range(range: &Range<u64>) -> Range<usize> {
    offset(range.start)..offset(range.end)
}

struct Walk<'a> {
    bytes: &'a [u8],
    module: ModuleInner,
    validator: Validator,
    /// Whether there are bodies that were not validated and are to be.
    unvalidated: bool,
    /// Elements of all element segments so far.
    element_items: usize,
}

impl Walk<'_> {
    fn sections(&mut self) -> Result<(), Failure> {
        let mut parser = Parser::new(0);
        parser.set_features(proposals::FEATURES);
        for payload in parser.parse_all(self.bytes) {
            let outcome = payload
                .map_err(Failure::from)
                .and_then(|payload| self.payload(&payload));
            if let Err(failure) = outcome {
                // An error in a body stands in front of this one.
                self.bodies()?;
                return Err(failure);
            }
        }
        Ok(())
    }

    fn payload(&mut self, payload: &Payload<'_>) -> Result<(), Failure> {
        if !matches!(payload, Payload::CodeSectionEntry(_)) {
            self.bodies()?;
        }
        if let ValidPayload::Func(function, body) = self.validator.payload(payload)? {
            if self.module.resources.is_none() {
                self.module.resources = Some(function.resources);
                self.unvalidated = !self.module.engine.config().lazy_validation;
            }
            push(&mut self.module.bodies, range(&body.range()))?;
            return Ok(());
        }
        match payload {
            Payload::TypeSection(section) => self.types(section),
            Payload::ImportSection(section) => self.imports(section),
            Payload::FunctionSection(section) => {
                for ty in section.clone() {
                    push(&mut self.module.funcs, ty?)?;
                }
                Ok(())
            }
            Payload::TableSection(section) => self.tables(section),
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    push(&mut self.module.memories, types::memory(&memory?))?;
                }
                Ok(())
            }
            Payload::GlobalSection(section) => self.globals(section),
            Payload::ExportSection(section) => self.exports(section),
            Payload::StartSection { func, .. } => {
                self.module.start = Some(*func);
                Ok(())
            }
            Payload::ElementSection(section) => self.elements(section),
            Payload::DataSection(section) => self.data(section),
            Payload::CustomSection(section) => {
                // Of several sections the first one counts.
                if section.name() == "name" && self.module.name_section.is_none() {
                    let end = offset(section.range().end);
                    let start = end.saturating_sub(section.data().len());
                    self.module.name_section = Some(start..end);
                }
                Ok(())
            }
            // The header, the data count, the start of the code section and the end carry nothing to
            // keep; sections of proposals were rejected by the validator.
            _ => Ok(()),
        }
    }

    /// Validates the bodies read so far, unless that is done already or is to be done later.
    fn bodies(&mut self) -> Result<(), Failure> {
        if !std::mem::take(&mut self.unvalidated) {
            return Ok(());
        }
        match self.module.bodies_of(self.bytes) {
            Some(bodies) => bodies.validate_all(),
            None => Ok(()),
        }
    }

    fn types(&mut self, section: &wasmparser::TypeSectionReader<'_>) -> Result<(), Failure> {
        for group in section.clone() {
            for (place, ty) in group?.into_types_and_offsets() {
                let ty = types::func(&ty).ok_or_else(|| foreign("gc", "type", place))?;
                push(&mut self.module.types, ty)?;
            }
        }
        Ok(())
    }

    fn imports(&mut self, section: &wasmparser::ImportSectionReader<'_>) -> Result<(), Failure> {
        let module = &mut self.module;
        for import in section.clone().into_imports_with_offsets() {
            let (place, import) = import?;
            let foreign_type = || foreign("function-references", "import", place);
            let ty = match import.ty {
                TypeRef::Func(ty) => {
                    push(&mut module.funcs, ty)?;
                    ExternKind::Func(ty)
                }
                TypeRef::Table(ty) => {
                    let ty = types::table(&ty).ok_or_else(foreign_type)?;
                    push(&mut module.tables, TableDef { ty, init: None })?;
                    ExternKind::Table(ty)
                }
                TypeRef::Memory(ty) => {
                    let ty = types::memory(&ty);
                    push(&mut module.memories, ty)?;
                    ExternKind::Memory(ty)
                }
                TypeRef::Global(ty) => {
                    let ty = types::global(&ty).ok_or_else(foreign_type)?;
                    push(&mut module.globals, GlobalDef { ty, init: None })?;
                    ExternKind::Global(ty)
                }
                TypeRef::Tag(_) => return Err(foreign("exception-handling", "import", place)),
                TypeRef::FuncExact(_) => {
                    return Err(foreign("custom-descriptors", "import", place));
                }
            };
            let import = Import {
                module: import.module.into(),
                name: import.name.into(),
                ty,
            };
            push(&mut module.imports, import)?;
        }
        module.imported_funcs = module.funcs.len();
        module.imported_tables = module.tables.len();
        module.imported_memories = module.memories.len();
        module.imported_globals = module.globals.len();
        Ok(())
    }

    fn tables(&mut self, section: &wasmparser::TableSectionReader<'_>) -> Result<(), Failure> {
        for table in section.clone().into_iter_with_offsets() {
            let (place, table) = table?;
            let ty = types::table(&table.ty)
                .ok_or_else(|| foreign("function-references", "table", place))?;
            let init = match table.init {
                TableInit::RefNull => None,
                TableInit::Expr(expr) => Some(const_expr::decode(&expr)?),
            };
            push(&mut self.module.tables, TableDef { ty, init })?;
        }
        Ok(())
    }

    fn globals(&mut self, section: &wasmparser::GlobalSectionReader<'_>) -> Result<(), Failure> {
        for global in section.clone().into_iter_with_offsets() {
            let (place, global) = global?;
            let ty = types::global(&global.ty)
                .ok_or_else(|| foreign("function-references", "global", place))?;
            let init = Some(const_expr::decode(&global.init_expr)?);
            push(&mut self.module.globals, GlobalDef { ty, init })?;
        }
        Ok(())
    }

    fn exports(&mut self, section: &wasmparser::ExportSectionReader<'_>) -> Result<(), Failure> {
        for export in section.clone().into_iter_with_offsets() {
            let (place, export) = export?;
            let item = match export.kind {
                ExternalKind::Func | ExternalKind::FuncExact => ExportItem::Func(export.index),
                ExternalKind::Table => ExportItem::Table(export.index),
                ExternalKind::Memory => ExportItem::Memory(export.index),
                ExternalKind::Global => ExportItem::Global(export.index),
                ExternalKind::Tag => return Err(foreign("exception-handling", "export", place)),
            };
            let name: Box<str> = export.name.into();
            let index = self.module.exports.len();
            self.module.export_index.insert(name.clone(), index);
            push(&mut self.module.exports, Export { name, item })?;
        }
        Ok(())
    }

    fn elements(&mut self, section: &wasmparser::ElementSectionReader<'_>) -> Result<(), Failure> {
        for element in section.clone().into_iter_with_offsets() {
            let (place, element) = element?;
            let mode = match element.kind {
                ElementKind::Passive => SegmentMode::Passive,
                ElementKind::Declared => SegmentMode::Declared,
                ElementKind::Active {
                    table_index,
                    offset_expr,
                } => SegmentMode::Active {
                    index: table_index.unwrap_or(0),
                    offset: const_expr::decode(&offset_expr)?,
                },
            };
            let mut items = Vec::new();
            let ty = match element.items {
                ElementItems::Functions(functions) => {
                    self.reserve_items(&mut items, functions.count())?;
                    for function in functions {
                        push(&mut items, ConstExpr::RefFunc(function?))?;
                    }
                    RefType::Func
                }
                ElementItems::Expressions(ty, expressions) => {
                    self.reserve_items(&mut items, expressions.count())?;
                    for expr in expressions {
                        push(&mut items, const_expr::decode(&expr?)?)?;
                    }
                    types::reference(ty)
                        .ok_or_else(|| foreign("function-references", "element segment", place))?
                }
            };
            push(
                &mut self.module.elements,
                ElementSegment { ty, mode, items },
            )?;
        }
        Ok(())
    }

    /// Makes room for the elements of one segment, which the validator has counted; `count` is
    /// therefore no larger than the file.
    fn reserve_items(&mut self, items: &mut Vec<ConstExpr>, count: u32) -> Result<()> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.element_items = self.element_items.saturating_add(count);
        if self.element_items > MAX_ELEMENT_ITEMS || items.try_reserve_exact(count).is_err() {
            return Err(Error::new(ErrorKind::Limit {
                what: "elements of all element segments of a module".to_owned(),
                needed: u64::try_from(self.element_items).unwrap_or(u64::MAX),
                allowed: u64::try_from(MAX_ELEMENT_ITEMS).unwrap_or(u64::MAX),
            }));
        }
        Ok(())
    }

    fn data(&mut self, section: &wasmparser::DataSectionReader<'_>) -> Result<(), Failure> {
        for data in section.clone() {
            let data = data?;
            let mode = match data.kind {
                DataKind::Passive => SegmentMode::Passive,
                DataKind::Active {
                    memory_index,
                    offset_expr,
                } => SegmentMode::Active {
                    index: memory_index,
                    offset: const_expr::decode(&offset_expr)?,
                },
            };
            // The bytes are the end of the segment.
            let end = offset(data.range.end);
            let range = end.saturating_sub(data.data.len())..end;
            push(&mut self.module.data, DataSegment { mode, range })?;
        }
        Ok(())
    }
}

/// Something of a proposal that the validator should have rejected.
#[cold]
fn foreign(proposal: &'static str, what: &str, place: u64) -> Failure {
    Failure::Other(Error::new(ErrorKind::Unsupported {
        proposal,
        detail: format!("{what} (at byte {:#x})", offset(place)),
    }))
}

impl ModuleInner {
    fn empty(engine: Engine, name: Option<&str>) -> ModuleInner {
        ModuleInner {
            engine,
            bytes: Box::default(),
            name: name.map(str::to_owned),
            types: Vec::new(),
            type_ids: Vec::new(),
            imports: Vec::new(),
            funcs: Vec::new(),
            imported_funcs: 0,
            tables: Vec::new(),
            imported_tables: 0,
            memories: Vec::new(),
            imported_memories: 0,
            globals: Vec::new(),
            imported_globals: 0,
            exports: Vec::new(),
            export_index: std::collections::HashMap::new(),
            start: None,
            elements: Vec::new(),
            data: Vec::new(),
            bodies: Vec::new(),
            dylink: None,
            name_section: None,
            names: std::sync::OnceLock::new(),
            resources: None,
        }
    }

    /// The function bodies with what validates them; `bytes` is the file. `None` if there are none.
    pub(super) fn bodies_of<'a>(&'a self, bytes: &'a [u8]) -> Option<Bodies<'a>> {
        Some(Bodies {
            bytes,
            ranges: &self.bodies,
            types: self.funcs.get(self.imported_funcs..)?,
            first_index: self.imported_funcs,
            resources: self.resources.as_ref()?,
        })
    }
}
