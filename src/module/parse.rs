//! The walk over a module's sections: every section goes through the validator first and is then
//! turned into the records of [`ModuleInner`]. Nothing is reported out of byte order: function bodies
//! are validated before whatever follows the code section is looked at.
#![forbid(unsafe_code)]

use super::exports::{Added, Exports};
use super::quick::body::Context;
use super::validate::Bodies;
use super::{
    ConstExpr, DataSegment, ElementSegment, ExportItem, ExternKind, GlobalDef, ImportModules,
    ModuleInner, RefType, SegmentMode, TableDef, const_expr, dylink, proposals, quick, types,
};
use crate::config::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::watch::Watch;
use std::ops::Range;
use wasmparser::{
    DataKind, ElementItems, ElementKind, ExternalKind, Parser, Payload, TableInit, TypeRef,
    ValidPayload, Validator, ValidatorResources,
};

/// Most elements of all element segments of a module together.
pub(super) const MAX_ELEMENT_ITEMS: usize = 10_000_000;

/// The first bytes of a module.
const MAGIC: &[u8] = b"\0asm";

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
pub(super) fn parse(
    engine: &Engine,
    bytes: Box<[u8]>,
    name: Option<&str>,
    watch: &Watch,
) -> Result<ModuleInner> {
    let limits = &engine.config().limits;
    check_size(bytes.len(), limits.module_bytes)?;
    check_header(&bytes)?;
    let mut dylink = None;
    if Parser::is_core_wasm(&bytes) {
        dylink = match dylink::parse(&bytes, limits) {
            Ok(dylink) => dylink,
            // What is wrong outside the section is for the validator to say.
            Err(dylink::Problem::Module(_)) => None,
            Err(problem) => return Err(problem.into()),
        };
    }
    let outcome = match quickly(engine, &bytes, name, watch) {
        Some(outcome) => outcome,
        None => thoroughly(engine, &bytes, name, watch),
    };
    let mut module = match outcome {
        Ok(module) => module,
        Err(Failure::Wasm(error)) => return Err(proposals::explain(&bytes, &error)),
        Err(Failure::Other(error)) => return Err(error),
    };
    module.dylink = dylink;
    // Only types of valid modules get an id, because ids are never given back.
    module.type_ids = engine.type_ids(&module.types)?;
    module.bytes = bytes;
    Ok(module)
}

/// Reads a module without the validator as far as the quick check is sure of it; `None` if it is not. Only bodies can
/// then be invalid: the first of them is the error.
pub(super) fn quickly(
    engine: &Engine,
    bytes: &[u8],
    name: Option<&str>,
    watch: &Watch,
) -> Option<Result<ModuleInner, Failure>> {
    let mut module = ModuleInner::empty(engine.clone(), name);
    quick::sections::read(bytes, &mut module)?;
    if !engine.config().lazy_validation {
        let outcome = module.bodies_of(bytes, watch).validate_all();
        return Some(outcome.map(|()| module));
    }
    Some(Ok(module))
}

/// Reads a module behind the validator.
///
/// # Errors
/// The first one of the file.
pub(super) fn thoroughly(
    engine: &Engine,
    bytes: &[u8],
    name: Option<&str>,
    watch: &Watch,
) -> Result<ModuleInner, Failure> {
    let mut walk = Walk {
        bytes,
        module: ModuleInner::empty(engine.clone(), name),
        validator: Validator::new_with_features(proposals::FEATURES),
        unvalidated: false,
        element_items: 0,
        watch,
    };
    walk.sections()?;
    Ok(walk.module)
}

/// What the validator needs to validate a body: what it finds out from the sections before the code.
///
/// # Errors
/// The file is not a valid module, or has no bodies.
pub(super) fn resources(bytes: &[u8]) -> Result<ValidatorResources, Failure> {
    let mut validator = Validator::new_with_features(proposals::FEATURES);
    let mut parser = Parser::new(0);
    parser.set_features(proposals::FEATURES);
    for payload in parser.parse_all(bytes) {
        if let ValidPayload::Func(function, _) = validator.payload(&payload?)? {
            return Ok(function.resources);
        }
    }
    Err(Error::usage("the module defines no functions").into())
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

/// Checks that a file begins as a module does.
///
/// # Errors
/// It is something else; the message says what as far as that is known.
pub(super) fn check_header(bytes: &[u8]) -> Result<()> {
    if Parser::is_component(bytes) {
        return Err(proposals::component());
    }
    if bytes.starts_with(MAGIC) {
        return Ok(());
    }
    let mut reason = "not a WebAssembly module: ".to_owned();
    let found = bytes.get(..MAGIC.len()).unwrap_or(bytes);
    if found.is_empty() {
        reason.push_str("the file is empty");
    } else {
        reason.push_str("the file begins with `");
        reason.extend(found.escape_ascii().map(char::from));
        reason.push_str("`, a module with `\\0asm`");
    }
    let text = bytes.trim_ascii_start();
    if text.starts_with(b"(module") || text.starts_with(b";;") {
        reason.push_str("; the text format needs the feature `wat` of this library");
    }
    Err(Error::new(ErrorKind::Malformed { reason, offset: 0 }))
}

/// Appends without aborting when memory is used up.
pub(super) fn push<T>(list: &mut Vec<T>, item: T) -> Result<()> {
    if list.try_reserve(1).is_err() {
        return Err(out_of_memory(list.len().saturating_add(1)));
    }
    list.push(item);
    Ok(())
}

/// Makes room for as many items as a section has. The validator has counted them before, so there
/// are no more of them than the section has bytes.
pub(super) fn reserve<T>(list: &mut Vec<T>, count: u32) -> Result<()> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    list.try_reserve(count).map_err(|_| out_of_memory(count))
}

#[cold]
fn out_of_memory(needed: usize) -> Error {
    Error::new(ErrorKind::Limit {
        what: "memory of the host for the parts of a module".to_owned(),
        needed: u64::try_from(needed).unwrap_or(u64::MAX),
        allowed: 0,
    })
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
    watch: &'a Watch,
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
            if self.module.resources.set(function.resources).is_ok() {
                self.unvalidated = !self.module.engine.config().lazy_validation;
            }
            push(&mut self.module.bodies, range(&body.range()))?;
            return Ok(());
        }
        match payload {
            Payload::TypeSection(section) => self.types(section),
            Payload::ImportSection(section) => self.imports(section),
            Payload::FunctionSection(section) => {
                reserve(&mut self.module.funcs, section.count())?;
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
            Payload::CodeSectionStart { count, .. } => {
                // The parser has compared it with the number of functions.
                reserve(&mut self.module.bodies, *count)?;
                Ok(())
            }
            Payload::DataCountSection { count, .. } => {
                self.module.data_count = Some(*count);
                Ok(())
            }
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
            // The header and the end carry nothing to keep; sections of proposals were rejected by
            // the validator.
            _ => Ok(()),
        }
    }

    /// Validates the bodies read so far, unless that is done already or is to be done later.
    fn bodies(&mut self) -> Result<(), Failure> {
        if !std::mem::take(&mut self.unvalidated) {
            return Ok(());
        }
        self.module.bodies_of(self.bytes, self.watch).validate_all()
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
        reserve(&mut module.imports, section.count())?;
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
                    let index = u32::try_from(module.tables.len()).unwrap_or(u32::MAX);
                    push(&mut module.tables, TableDef { ty, init: None })?;
                    ExternKind::Table(index)
                }
                TypeRef::Memory(ty) => {
                    let ty = types::memory(&ty);
                    let index = u32::try_from(module.memories.len()).unwrap_or(u32::MAX);
                    push(&mut module.memories, ty)?;
                    ExternKind::Memory(index)
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
            if !module.add_import(import.module, import.name, ty) {
                return Err(out_of_memory(module.imports.len().saturating_add(1)).into());
            }
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
        reserve(&mut self.module.globals, section.count())?;
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
        let count = usize::try_from(section.count()).unwrap_or(usize::MAX);
        if !self.module.exports.reserve(count) {
            return Err(out_of_memory(count).into());
        }
        for export in section.clone().into_iter_with_offsets() {
            let (place, export) = export?;
            let item = match export.kind {
                ExternalKind::Func | ExternalKind::FuncExact => ExportItem::Func(export.index),
                ExternalKind::Table => ExportItem::Table(export.index),
                ExternalKind::Memory => ExportItem::Memory(export.index),
                ExternalKind::Global => ExportItem::Global(export.index),
                ExternalKind::Tag => return Err(foreign("exception-handling", "export", place)),
            };
            // The name is a part of the file.
            let start = export.name.as_ptr() as usize - self.bytes.as_ptr() as usize;
            let name = start..start + export.name.len();
            match self.module.exports.add(self.bytes, name, item) {
                Added::Yes => {}
                // The validator has rejected names that are there twice.
                Added::Twice => return Err(Error::msg("a name is exported twice").into()),
                Added::No => return Err(out_of_memory(count).into()),
            }
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

    /// Makes room for the elements of one segment, within the limit for all of them.
    fn reserve_items(&mut self, items: &mut Vec<ConstExpr>, count: u32) -> Result<()> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.element_items = self.element_items.saturating_add(count);
        if self.element_items > MAX_ELEMENT_ITEMS {
            return Err(Error::new(ErrorKind::Limit {
                what: "elements of all element segments of a module".to_owned(),
                needed: u64::try_from(self.element_items).unwrap_or(u64::MAX),
                allowed: u64::try_from(MAX_ELEMENT_ITEMS).unwrap_or(u64::MAX),
            }));
        }
        let room = items.try_reserve_exact(count);
        room.map_err(|_| out_of_memory(count))
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
            exports: Exports::new(engine.names()),
            engine,
            bytes: Box::default(),
            name: name.map(str::to_owned),
            types: Vec::new(),
            type_ids: Vec::new(),
            imports: Vec::new(),
            import_modules: ImportModules::default(),
            funcs: Vec::new(),
            imported_funcs: 0,
            tables: Vec::new(),
            imported_tables: 0,
            memories: Vec::new(),
            imported_memories: 0,
            globals: Vec::new(),
            imported_globals: 0,
            start: None,
            elements: Vec::new(),
            data: Vec::new(),
            bodies: Vec::new(),
            dylink: None,
            name_section: None,
            names: std::sync::OnceLock::new(),
            libc_functions: std::sync::OnceLock::new(),
            data_count: None,
            context: std::sync::OnceLock::new(),
            resources: std::sync::OnceLock::new(),
        }
    }

    /// The function bodies with what validates them; `bytes` is the file.
    pub(super) fn bodies_of<'a>(&'a self, bytes: &'a [u8], watch: &'a Watch) -> Bodies<'a> {
        Bodies {
            bytes,
            module: self,
            ranges: &self.bodies,
            types: self.funcs.get(self.imported_funcs..).unwrap_or_default(),
            context: self.context.get_or_init(|| Context::new(self)),
            watch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConstOp, Module};
    use super::*;
    use crate::config::Config;

    fn load(text: &str) -> Module {
        Module::new(&Engine::default(), &wat::parse_str(text).unwrap()).unwrap()
    }

    /// A module of one section behind the header.
    fn with_section(id: u8, contents: &[u8]) -> Vec<u8> {
        let mut bytes = b"\0asm\x01\0\0\0".to_vec();
        bytes.push(id);
        bytes.push(u8::try_from(contents.len()).unwrap());
        bytes.extend(contents);
        bytes
    }

    fn rejected(bytes: &[u8]) -> (String, usize) {
        let error = Module::new(&Engine::default(), bytes).unwrap_err();
        match error.kind() {
            ErrorKind::Malformed { reason, offset } => (reason.clone(), *offset),
            _ => panic!("{error}"),
        }
    }

    #[test]
    fn index_spaces_begin_with_the_imports() {
        let module = load(
            r#"(module
                (type $a (func (param i32)))
                (type $b (func (result i64)))
                (import "m" "f" (func (type $b)))
                (import "m" "g0" (global i32))
                (import "m" "m0" (memory 1))
                (import "m" "t0" (table 1 funcref))
                (import "m" "g1" (global i64))
                (func (type $a))
                (func (type $b) i64.const 1)
                (global $own (mut f64) (f64.const 1.5))
                (memory 2 3)
                (table 4 externref)
                (start $s)
                (func $s))"#,
        );
        let m = &module.0;
        assert_eq!(m.funcs, [1, 0, 1, 2]);
        assert_eq!(m.imported_funcs, 1);
        assert_eq!(m.bodies.len(), 3);
        assert_eq!(m.start, Some(3));
        assert_eq!((m.imported_globals, m.globals.len()), (2, 3));
        assert!(m.globals[0].init.is_none() && m.globals[1].init.is_none());
        assert_eq!(m.globals[2].init, Some(ConstExpr::Value(1.5_f64.to_bits())));
        assert_eq!((m.imported_memories, m.memories.len()), (1, 2));
        assert_eq!(m.memories[1].maximum, Some(3));
        assert_eq!((m.imported_tables, m.tables.len()), (1, 2));
        assert_eq!(m.tables[1].ty.element, RefType::Extern);
        assert_eq!(m.func_type(1), m.types.first());
        assert_eq!(m.func_type(4), None);
        // Bodies are the ranges between the size and the end of each function.
        for body in &m.bodies {
            assert_eq!(m.bytes[body.end - 1], 0x0b);
            assert_eq!(m.bytes[body.start], 0);
        }
    }

    #[test]
    fn equal_types_have_equal_ids_across_modules_of_an_engine() {
        let engine = Engine::default();
        let load = |text: &str| Module::new(&engine, &wat::parse_str(text).unwrap()).unwrap();
        let a = load("(module (type (func)) (type (func (param i32))))");
        let b = load("(module (type (func (param i32))) (type (func)) (type (func)))");
        assert_eq!(a.0.type_ids[0], b.0.type_ids[1]);
        assert_eq!(b.0.type_ids[1], b.0.type_ids[2]);
        assert_eq!(a.0.type_ids[1], b.0.type_ids[0]);
        assert_ne!(a.0.type_ids[0], a.0.type_ids[1]);
    }

    #[test]
    fn element_segments_of_indices_and_of_expressions_look_alike() {
        let module = load(
            r#"(module
                (import "m" "base" (global $base i32))
                (import "m" "ref" (global $ref funcref))
                (table $t 10 funcref)
                (table $x 10 externref)
                (func $f)
                (func $g)
                (elem (table $t) (global.get $base) func $g $f)
                (elem funcref (ref.func $f) (ref.null func) (global.get $ref))
                (elem declare func $g)
                (elem (table $x) (i32.const 3) externref (ref.null extern)))"#,
        );
        let elements = &module.0.elements;
        assert_eq!(elements.len(), 4);
        assert_eq!(
            elements[0].items,
            [ConstExpr::RefFunc(1), ConstExpr::RefFunc(0)]
        );
        assert!(matches!(
            elements[0].mode,
            SegmentMode::Active {
                index: 0,
                offset: ConstExpr::GlobalGet(0)
            }
        ));
        assert_eq!(
            elements[1].items,
            [
                ConstExpr::RefFunc(0),
                ConstExpr::Value(0),
                ConstExpr::GlobalGet(1)
            ]
        );
        assert!(matches!(elements[1].mode, SegmentMode::Passive));
        assert!(matches!(elements[2].mode, SegmentMode::Declared));
        assert_eq!(elements[3].ty, RefType::Extern);
        assert!(matches!(
            elements[3].mode,
            SegmentMode::Active {
                index: 1,
                offset: ConstExpr::Value(3)
            }
        ));
    }

    #[test]
    fn data_segments_know_their_bytes_in_the_file() {
        let module = load(
            r#"(module
                (import "m" "base" (global $base i32))
                (memory 1)
                (memory $second 1)
                (data (offset (i32.add (global.get $base) (i32.const 16))) "first")
                (data "passive")
                (data (memory $second) (i32.const 5) ""))"#,
        );
        let m = &module.0;
        let contents: Vec<_> = m.data.iter().map(|d| &m.bytes[d.range.clone()]).collect();
        assert_eq!(contents, [b"first".as_slice(), b"passive", b""]);
        let SegmentMode::Active { index: 0, offset } = &m.data[0].mode else {
            panic!()
        };
        let sum = [ConstOp::GlobalGet(0), ConstOp::Value(16), ConstOp::I32Add];
        assert_eq!(*offset, ConstExpr::Ops(sum.into()));
        assert!(matches!(m.data[1].mode, SegmentMode::Passive));
        assert!(matches!(
            m.data[2].mode,
            SegmentMode::Active {
                index: 1,
                offset: ConstExpr::Value(5)
            }
        ));
    }

    #[test]
    fn an_invalid_module_leaves_no_types_in_the_engine() {
        let engine = Engine::default();
        let text = "(module (type (func (param f32 f32 f32))) (func (result i32)))";
        assert!(Module::new(&engine, &wat::parse_str(text).unwrap()).is_err());
        assert_eq!(engine.type_of(0), None);
    }

    #[test]
    fn the_error_in_a_body_comes_before_an_error_in_a_later_section() {
        // The body `i32.const 0; end` of a function without results is at 0x16, and the data
        // section behind it has an unknown memory.
        let text = "(module (func i32.const 0) (data (i32.const 0) \"x\"))";
        let bytes = wat::parse_str(text).unwrap();
        let (reason, place) = rejected(&bytes);
        assert!(reason.contains("values remaining on stack"), "{reason}");
        assert!((0x16..0x1a).contains(&place), "{place:#x}");
        // Also if the later section cannot be read at all.
        let (again, same_place) = rejected(&bytes[..bytes.len() - 3]);
        assert_eq!((again, same_place), (reason, place));
    }

    #[test]
    fn what_is_no_module_is_malformed_at_its_place() {
        for (bytes, place, part) in [
            (b"".as_slice(), 0, "the file is empty"),
            (b"\0as", 0, r"begins with `\x00as`"),
            (b"<html>", 0, "begins with `<htm`"),
            (b"\x7fELF\x02\x01\x01\0", 0, r"begins with `\x7fELF`"),
            (b"\0asm\x02\0\0\0", 4, "version"),
            (b"\0asm\x01\0\0\0\x01", 9, "unexpected end"),
        ] {
            let (reason, found) = rejected(bytes);
            assert_eq!(found, place, "{bytes:?}: {reason}");
            assert!(reason.contains(part), "{reason}");
        }
        #[cfg(not(feature = "wat"))]
        assert!(rejected(b"  (module)").0.contains("feature `wat`"));
    }

    #[test]
    fn counts_that_promise_too_much_are_refused_without_allocation() {
        // 4,294,967,295 types, functions, ... in six bytes.
        for id in [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12] {
            let bytes = with_section(id, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
            rejected(&bytes);
        }
        // One million types: allowed by number, but they are not there.
        rejected(&with_section(1, &[0xc0, 0x84, 0x3d]));
    }

    #[test]
    fn lazy_validation_accepts_a_bad_body_until_it_is_asked_about_it() {
        let engine = Engine::new(Config {
            lazy_validation: true,
            ..Config::default()
        });
        let text =
            "(module (import \"m\" \"f\" (func)) (func) (func (result i32)) (func unreachable))";
        let bytes = wat::parse_str(text).unwrap();
        assert!(Module::new(&Engine::default(), &bytes).is_err());
        let module = Module::new(&engine, &bytes).unwrap();
        assert!(module.validate_function(0).is_ok());
        let error = module.validate_function(1).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Malformed { .. }),
            "{error}"
        );
        assert!(module.validate_function(2).is_ok());
        for absent in [3, usize::MAX] {
            let error = module.validate_function(absent).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
        }
        assert!(load("(module)").validate_function(0).is_err());
    }

    #[test]
    fn a_module_is_read_with_its_dylink_section_only_if_that_is_the_first_one() {
        let first = load(
            r#"(module
                (@dylink.0 (mem-info (memory 8 2)) (needed "a.so"))
                (memory 1))"#,
        );
        let dylink = first.dylink().unwrap();
        assert_eq!((dylink.memory_size, dylink.memory_align), (8, 2));
        assert_eq!(dylink.needed, ["a.so"]);
        // The same section behind another one is only a custom section, even if it is malformed.
        let mut moved = b"\0asm\x01\0\0\0\0\x02\x01x".to_vec();
        moved.extend(&with_section(0, b"\x08dylink.0\x01\x01\xff")[8..]);
        let module = Module::new(&Engine::default(), &moved).unwrap();
        assert_eq!(module.dylink(), None);
        // In the first place it makes the module unusable, with the section's name.
        let malformed = with_section(0, b"\x08dylink.0\x01\x01\xff");
        let error = Module::new(&Engine::default(), &malformed).unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Section {
                    section: "dylink.0",
                    ..
                }
            ),
            "{error}"
        );
    }
}
