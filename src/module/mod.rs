//! Bytes to a validated `Module`. Only this layer uses wasmparser for whole modules.
//!
//! Map: `quick` reads and checks ordinary modules; for what it declines, `parse` walks the sections behind
//! wasmparser's validator and fills [`ModuleInner`] with the help of `types` and `const_expr`.
//! `validate` shares out the validation of function bodies; `proposals` holds the accepted features and explains
//! rejections; `dylink` and `names` decode their custom sections with the bounded `reader`. `name` hashes names of
//! symbols. For tools, `sections` lists
//! what a file consists of, `disassemble` prints code, and `patch` changes the dynamic linking section.
//!
//! Invariant: what a [`Module`] holds has been validated, so indices in it are within their index
//! spaces and byte ranges within the file. Only function bodies may be unvalidated, if
//! [`Config::lazy_validation`](crate::Config) is set; then [`Module::validate_function`] comes before
//! any other use of a body.
#![forbid(unsafe_code)]

mod const_expr;
mod constant_tls;
mod disassemble;
mod dylink;
mod exports;
mod libc;
#[cfg(test)]
mod malformed;
mod name;
mod names;
mod parse;
mod patch;
mod plain;
mod proposals;
mod quick;
mod reader;
mod sections;
mod types;
mod validate;

pub use disassemble::OperatorText;
pub use dylink::{DylinkInfo, SymbolFlags};
pub(crate) use exports::Export;
pub(crate) use libc::LibcFunction;
pub(crate) use name::{Hashed, Name, NameHasher, NameTable, Place};
pub use patch::DylinkPatch;
pub(crate) use plain::{Address, POINTER_PREFIX, address_function, has_type, is_empty, operators};
pub(crate) use sections::exports_of;
pub use sections::{Section, sections};
pub(crate) use types::value as value_type;
pub use types::{
    ExportType, ExternType, FuncType, GlobalType, ImportType, MemoryType, RefType, TableType,
    ValType,
};

use crate::config::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::watch::Watch;
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// A parsed and validated module. Cheap to clone.
///
/// ```
/// use dynlink::{Engine, Module};
///
/// let bytes = b"\0asm\x01\0\0\0\x05\x03\x01\0\x02\x07\x07\x01\x03mem\x02\0";
/// let module = Module::new(&Engine::default(), bytes)?;
/// assert!(module.get_export("mem").is_some());
///
/// let error = Module::new(&Engine::default(), b"#!/bin/sh").unwrap_err();
/// assert!(error.to_string().contains("not a WebAssembly module"));
/// # Ok::<(), dynlink::Error>(())
/// ```
#[derive(Clone)]
pub struct Module(pub(crate) Arc<ModuleInner>);

/// The parts of a module; index spaces as in the specification, imports first.
pub(crate) struct ModuleInner {
    pub engine: Engine,
    /// The file.
    pub bytes: Box<[u8]>,
    /// File name or other name for messages and backtraces.
    pub name: Option<String>,
    /// The type section.
    pub types: Vec<FuncType>,
    /// Canonical id of each entry of `types`.
    pub type_ids: Vec<u32>,
    pub imports: Vec<Import>,
    /// The module names of imports.
    pub import_modules: ImportModules,
    /// Type index of every function, imported ones first.
    pub funcs: Vec<u32>,
    pub imported_funcs: usize,
    pub tables: Vec<TableDef>,
    pub imported_tables: usize,
    pub memories: Vec<MemoryType>,
    pub imported_memories: usize,
    pub globals: Vec<GlobalDef>,
    pub imported_globals: usize,
    /// In the order of the section.
    exports: exports::Exports,
    pub start: Option<u32>,
    pub elements: Vec<ElementSegment>,
    pub data: Vec<DataSegment>,
    /// Byte ranges in `bytes` of the function bodies (as wasmparser's `FunctionBody::range`), defined functions only.
    pub bodies: Vec<Range<usize>>,
    pub dylink: Option<DylinkInfo>,
    /// Byte range of the contents of the `name` section.
    pub name_section: Option<Range<usize>>,
    /// Where the names of the `name` section are, once somebody asked.
    names: OnceLock<names::Names>,
    /// Functions of C's library among the module's, once somebody asked.
    libc_functions: OnceLock<Vec<(u32, LibcFunction)>>,
    /// The number of data segments that the file says before the code.
    data_count: Option<u32>,
    /// What the quick check of bodies looks at, once a body was checked.
    context: OnceLock<quick::body::Context>,
    /// What the validator needs for a body that the quick check declined, once there was one.
    resources: OnceLock<wasmparser::ValidatorResources>,
}

/// An import. There may be a million, so it is small, and its name is hashed here, once for all that look it up.
pub(crate) struct Import {
    pub name: Box<str>,
    /// The hash of the name, as [`Name`] has it.
    hash: u64,
    /// The module name: its place in [`ModuleInner::import_modules`].
    pub module: u32,
    pub ty: ExternKind,
}

impl Import {
    /// The name with its hash.
    pub fn symbol(&self) -> Name<'_> {
        Name {
            text: &self.name,
            hash: self.hash,
        }
    }
}

/// What is imported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ExternKind {
    /// A function, by index of its type in the type section.
    Func(u32),
    /// A table, by index in the index space of tables.
    Table(u32),
    /// A memory, by index in the index space of memories.
    Memory(u32),
    Global(GlobalType),
}

/// The module names of a module's imports. There are few, and neighbours mostly have the same.
#[derive(Default)]
pub(crate) struct ImportModules(Vec<Box<str>>);

impl ImportModules {
    /// Most names among which one is looked for before it is entered again.
    const MOST_SEARCHED: usize = 16;

    /// The place of a name, which gets one if it has none; `None`: there is no memory for it. `last` is the place of the
    /// import before.
    #[inline]
    fn place(&mut self, name: &str, last: Option<u32>) -> Option<u32> {
        if let Some(last) = last
            && self.0.get(size(last)).is_some_and(|known| **known == *name)
        {
            return Some(last);
        }
        let searched = self.0.iter().take(Self::MOST_SEARCHED);
        let place = match searched.into_iter().position(|known| **known == *name) {
            Some(place) => place,
            None => {
                self.0.try_reserve(1).ok()?;
                self.0.push(name.into());
                self.0.len() - 1
            }
        };
        u32::try_from(place).ok()
    }

    /// All names; one may be there twice.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What is exported, as an index into its index space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ExportItem {
    Func(u32),
    Table(u32),
    Memory(u32),
    Global(u32),
}

pub(crate) struct TableDef {
    pub ty: TableType,
    /// `None`: null.
    pub init: Option<ConstExpr>,
}

pub(crate) struct GlobalDef {
    pub ty: GlobalType,
    /// `None`: imported.
    pub init: Option<ConstExpr>,
}

pub(crate) struct ElementSegment {
    pub ty: RefType,
    pub mode: SegmentMode,
    pub items: Vec<ConstExpr>,
}

pub(crate) struct DataSegment {
    pub mode: SegmentMode,
    /// Byte range in the module's bytes.
    pub range: Range<usize>,
}

pub(crate) enum SegmentMode {
    Active {
        index: u32,
        offset: ConstExpr,
    },
    Passive,
    /// Elements only: dropped at instantiation.
    Declared,
}

/// A constant expression. The common forms are decoded; the rest is a list of operators in postfix order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ConstExpr {
    /// A number or null reference as its 64-bit slot value.
    Value(u64),
    RefFunc(u32),
    GlobalGet(u32),
    /// Extended constant expressions.
    Ops(Box<[ConstOp]>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ConstOp {
    Value(u64),
    RefFunc(u32),
    GlobalGet(u32),
    I32Add,
    I32Sub,
    I32Mul,
    I64Add,
    I64Sub,
    I64Mul,
}

impl Module {
    /// Parses and validates a module (with feature `wat`, also text).
    ///
    /// # Errors
    /// The bytes are malformed, invalid, need an unsupported proposal, or exceed a limit of the engine.
    pub fn new(engine: &Engine, bytes: &[u8]) -> Result<Module> {
        parse::check_size(bytes.len(), engine.config().limits.module_bytes)?;
        Module::load(engine, bytes.into(), None, &Watch::default())
    }

    /// Like [`Module::new`] with a name for messages and backtraces.
    ///
    /// # Errors
    /// As [`Module::new`]; the message begins with the name.
    pub fn with_name(engine: &Engine, bytes: Vec<u8>, name: &str) -> Result<Module> {
        Module::watched(engine, bytes, name, &Watch::default())
    }

    /// As [`Module::with_name`], for as long as the watch allows.
    pub(crate) fn watched(
        engine: &Engine,
        bytes: Vec<u8>,
        name: &str,
        watch: &Watch,
    ) -> Result<Module> {
        Module::load(engine, bytes.into(), Some(name), watch)
            .map_err(|error| error.context(format!("`{name}`")))
    }

    /// Reads a module from a file (with feature `wat`, also text). Its name is the path's last part.
    ///
    /// # Errors
    /// The file cannot be read, or as [`Module::new`]; the message begins with the path.
    pub fn from_file(engine: &Engine, path: impl AsRef<Path>) -> Result<Module> {
        Module::watched_file(engine, path.as_ref(), &Watch::default())
    }

    /// As [`Module::from_file`], for as long as the watch allows.
    pub(crate) fn watched_file(engine: &Engine, path: &Path, watch: &Watch) -> Result<Module> {
        let bytes = read_file(path, engine.config().limits.module_bytes)?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        Module::load(engine, bytes.into(), Some(&name.to_string_lossy()), watch)
            .map_err(|error| error.context(format!("`{}`", path.display())))
    }

    fn load(
        engine: &Engine,
        bytes: Box<[u8]>,
        name: Option<&str>,
        watch: &Watch,
    ) -> Result<Module> {
        #[cfg(feature = "wat")]
        let bytes = text_to_binary(bytes)?;
        parse::parse(engine, bytes, name, watch).map(|inner| Module(Arc::new(inner)))
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The name given at loading, else the one of the name section.
    pub fn name(&self) -> Option<&str> {
        self.0
            .name
            .as_deref()
            .or_else(|| self.names()?.module(&self.0.bytes))
    }

    /// The imports in order.
    pub fn imports(&self) -> impl ExactSizeIterator<Item = ImportType<'_>> {
        self.0.imports.iter().map(|import| ImportType {
            module: self.0.import_module(import),
            name: &import.name,
            ty: self.0.import_type(import.ty),
        })
    }

    /// The exports in order.
    pub fn exports(&self) -> impl ExactSizeIterator<Item = ExportType<'_>> {
        self.0.exports().map(|export| ExportType {
            name: export.name,
            ty: self.0.item_type(export.item),
        })
    }

    /// The type of an export. O(1).
    pub fn get_export(&self, name: &str) -> Option<ExternType> {
        self.0.export(name).map(|item| self.0.item_type(item))
    }

    /// The dynamic linking section, if the module has one.
    pub fn dylink(&self) -> Option<&DylinkInfo> {
        self.0.dylink.as_ref()
    }

    /// The name of a function for backtraces: from the name section, else of its first export, else
    /// as it is imported. Guests choose names; print them with control characters escaped.
    pub fn function_name(&self, index: u32) -> Option<String> {
        if let Some(name) = self.names().and_then(|n| n.function(&self.0.bytes, index)) {
            return Some(name.to_owned());
        }
        let item = ExportItem::Func(index);
        if let Some(export) = self.0.exports().find(|export| export.item == item) {
            return Some(export.name.to_string());
        }
        self.0
            .imports
            .iter()
            .filter(|import| matches!(import.ty, ExternKind::Func(_)))
            .nth(usize::try_from(index).ok()?)
            .map(|import| format!("{}.{}", self.0.import_module(import), import.name))
    }

    /// The name that the name section gives a function. O(log n).
    pub(crate) fn section_name(&self, index: u32) -> Option<&str> {
        self.names()?.function(&self.0.bytes, index)
    }

    /// The first function that the name section gives this name. Linear in the number of names.
    pub fn function_named(&self, name: &str) -> Option<u32> {
        self.names()?.function_named(&self.0.bytes, name)
    }

    /// Validates the body of a defined function by its place among the defined functions. Only of
    /// use with [`Config::lazy_validation`](crate::Config): else all bodies have been validated.
    ///
    /// # Errors
    /// The body is invalid, needs an unsupported proposal, or does not exist.
    pub fn validate_function(&self, defined_index: usize) -> Result<()> {
        self.validate_watched(defined_index, &Watch::default())
    }

    /// As [`Module::validate_function`], for as long as the watch allows.
    pub(crate) fn validate_watched(&self, defined_index: usize, watch: &Watch) -> Result<()> {
        let bodies = self.0.bodies_of(&self.0.bytes, watch);
        match bodies.validate(defined_index, &mut validate::Allocations::default()) {
            Ok(()) => Ok(()),
            Err(parse::Failure::Wasm(error)) => {
                Err(proposals::explain_briefly(&self.0.bytes, &error))
            }
            Err(parse::Failure::Other(error)) => Err(error),
        }
    }

    /// Which function of C's library one of the module's own functions says to be by its name and type.
    pub(crate) fn libc_function(&self, index: u32) -> Option<LibcFunction> {
        let functions = self.0.libc_functions.get_or_init(|| libc::find(self));
        let place = functions.binary_search_by_key(&index, |(index, _)| *index);
        functions.get(place.ok()?).map(|(_, function)| *function)
    }

    fn names(&self) -> Option<&names::Names> {
        let section = self.0.name_section.as_ref()?;
        Some(
            self.0
                .names
                .get_or_init(|| names::Names::parse(&self.0.bytes, section)),
        )
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("name", &self.name())
            .field("bytes", &self.0.bytes.len())
            .field("functions", &self.0.funcs.len())
            .finish_non_exhaustive()
    }
}

impl ModuleInner {
    /// What is exported under a name. O(1).
    pub(crate) fn export(&self, name: &str) -> Option<ExportItem> {
        self.exports.item(self.export_place(name)?)
    }

    /// The exports in order.
    pub(crate) fn exports(&self) -> impl ExactSizeIterator<Item = Export<'_>> {
        (0..self.exports.len()).map(|place| valid(self.export_at(place)))
    }

    /// The place of an export among all of them. O(1).
    pub(crate) fn export_place(&self, name: &str) -> Option<usize> {
        self.place_of(self.engine.names().name(name))
    }

    /// The place of an export of this name. O(1).
    pub(crate) fn place_of(&self, name: Name<'_>) -> Option<usize> {
        self.exports.place(&self.bytes, name)
    }

    /// For each hash of a name the export that probably has it: its place plus one, or 0. What looking for the names
    /// reads is fetched.
    pub(crate) fn export_candidates(&self, hashes: &[u64], places: &mut [u32]) {
        self.exports.candidates(&self.bytes, hashes, places);
    }

    /// Whether the export at a place has this name.
    pub(crate) fn is_export_named(&self, place: usize, name: &str) -> bool {
        self.exports.is_named(&self.bytes, place, name.as_bytes())
    }

    /// The names of the exports in order, as bytes.
    pub(crate) fn export_names(&self) -> impl Iterator<Item = &[u8]> {
        self.exports.names(&self.bytes)
    }

    /// The item of the export at a place.
    pub(crate) fn export_item(&self, place: usize) -> Option<ExportItem> {
        self.exports.item(place)
    }

    /// The module name of an import of this module.
    pub(crate) fn import_module(&self, import: &Import) -> &str {
        self.import_modules
            .0
            .get(size(import.module))
            .map_or("", |name| name)
    }

    /// The type of the memory that it imports, which a library has once.
    pub(crate) fn imported_memory(&self) -> Option<MemoryType> {
        self.memories.get(..self.imported_memories)?.last().copied()
    }

    /// The type of the table that it imports, which a library has once.
    pub(crate) fn imported_table(&self) -> Option<TableType> {
        let imported = self.tables.get(..self.imported_tables)?;
        imported.last().map(|table| table.ty)
    }

    /// Adds an import behind the others. False: there is no memory for it.
    fn add_import(&mut self, module: &str, name: &str, ty: ExternKind) -> bool {
        let last = self.imports.last().map(|import| import.module);
        let Some(module) = self.import_modules.place(module, last) else {
            return false;
        };
        if self.imports.try_reserve(1).is_err() {
            return false;
        }
        self.imports.push(Import {
            hash: self.engine.names().hash(name.as_bytes()),
            name: name.into(),
            module,
            ty,
        });
        true
    }

    /// The export at a place.
    pub(crate) fn export_at(&self, place: usize) -> Option<Export<'_>> {
        self.exports.get(&self.bytes, place)
    }

    /// The type of a function of the index space.
    pub(crate) fn func_type(&self, index: u32) -> Option<&FuncType> {
        entry(&self.types, *entry(&self.funcs, index)?)
    }

    /// The type of what is imported.
    pub(crate) fn import_type(&self, kind: ExternKind) -> ExternType {
        match kind {
            ExternKind::Func(ty) => ExternType::Func(valid(entry(&self.types, ty)).clone()),
            ExternKind::Table(index) => ExternType::Table(valid(entry(&self.tables, index)).ty),
            ExternKind::Memory(index) => ExternType::Memory(*valid(entry(&self.memories, index))),
            ExternKind::Global(ty) => ExternType::Global(ty),
        }
    }

    /// The type of what is exported.
    fn item_type(&self, item: ExportItem) -> ExternType {
        match item {
            ExportItem::Func(index) => ExternType::Func(valid(self.func_type(index)).clone()),
            ExportItem::Table(index) => ExternType::Table(valid(entry(&self.tables, index)).ty),
            ExportItem::Memory(index) => ExternType::Memory(*valid(entry(&self.memories, index))),
            ExportItem::Global(index) => ExternType::Global(valid(entry(&self.globals, index)).ty),
        }
    }
}

fn entry<T>(list: &[T], index: u32) -> Option<&T> {
    list.get(usize::try_from(index).ok()?)
}

/// Something that validation has proved to exist.
fn valid<T>(item: Option<T>) -> T {
    item.unwrap_or_else(|| unreachable!("an index of a validated module is within its index space"))
}

/// Reads a file that may not be longer than `most` bytes; devices and growing files are cut off there.
fn read_file(path: &Path, most: usize) -> Result<Vec<u8>> {
    let failed = |source| {
        Error::new(ErrorKind::Io {
            path: path.display().to_string(),
            source,
        })
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let too_long = |length| {
        parse::check_size(length, most).map_err(|e| e.context(format!("`{}`", path.display())))
    };
    too_long(length)?;
    let mut bytes = Vec::new();
    // One byte more than is allowed tells whether the file goes on.
    let read_most = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let reserved = bytes.try_reserve_exact(length.saturating_add(1));
    reserved
        .map_err(|error| failed(std::io::Error::new(std::io::ErrorKind::OutOfMemory, error)))?;
    file.take(read_most)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    too_long(bytes.len())?;
    Ok(bytes)
}

/// Translates the text format; binary modules are passed through.
#[cfg(feature = "wat")]
fn text_to_binary(bytes: Box<[u8]>) -> Result<Box<[u8]>> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if !matches!(first, Some(b'(' | b';')) {
        return Ok(bytes);
    }
    match wat::parse_bytes(&bytes) {
        Ok(binary) => Ok(binary.into_owned().into()),
        Err(error) => Err(Error::msg(format!("invalid text module: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Limits};

    pub(super) fn module(text: &str) -> Module {
        let bytes = wat::parse_str(text).unwrap();
        Module::new(&Engine::default(), &bytes).unwrap()
    }

    #[test]
    fn imports_and_exports_come_in_order_with_their_types() {
        let module = module(
            r#"(module
                (import "env" "f" (func (param i32 f64) (result i64)))
                (import "env" "t" (table 1 2 externref))
                (import "env" "m" (memory 3))
                (import "env" "g" (global (mut f32)))
                (func (export "h") (param externref))
                (export "f again" (func 0))
                (export "t" (table 0))
                (export "m" (memory 0))
                (export "g" (global 0)))"#,
        );
        let imports: Vec<_> = module.imports().collect();
        assert_eq!(module.imports().len(), 4);
        assert!(imports.iter().all(|import| import.module == "env"));
        let names: Vec<_> = imports.iter().map(|import| import.name).collect();
        assert_eq!(names, ["f", "t", "m", "g"]);
        let f = ExternType::Func(FuncType::new([ValType::I32, ValType::F64], [ValType::I64]));
        let t = ExternType::Table(TableType {
            element: RefType::Extern,
            minimum: 1,
            maximum: Some(2),
        });
        let m = ExternType::Memory(MemoryType {
            minimum: 3,
            maximum: None,
        });
        let g = ExternType::Global(GlobalType {
            value: ValType::F32,
            mutable: true,
        });
        let types: Vec<_> = imports.into_iter().map(|import| import.ty).collect();
        assert_eq!(types, [f.clone(), t.clone(), m.clone(), g.clone()]);

        let h = ExternType::Func(FuncType::new([ValType::Ref(RefType::Extern)], []));
        let exports: Vec<_> = module.exports().map(|e| (e.name, e.ty)).collect();
        let expected = [
            ("h", h.clone()),
            ("f again", f),
            ("t", t),
            ("m", m),
            ("g", g),
        ];
        assert_eq!(exports, expected);
        assert_eq!(module.get_export("h"), Some(h));
        assert_eq!(module.get_export("x"), None);
    }

    #[test]
    fn function_names_come_from_the_name_section_then_exports_then_imports() {
        let module = module(
            r#"(module $the_module
                (import "env" "imported" (func))
                (func $named (export "e0"))
                (func (export "e1"))
                (func))"#,
        );
        assert_eq!(module.name(), Some("the_module"));
        assert_eq!(module.function_name(0).as_deref(), Some("env.imported"));
        assert_eq!(module.function_name(1).as_deref(), Some("named"));
        assert_eq!(module.function_name(2).as_deref(), Some("e1"));
        assert_eq!(module.function_name(3), None);
        assert_eq!(module.function_name(u32::MAX), None);
    }

    #[test]
    fn the_name_given_at_loading_is_preferred_and_begins_messages() {
        let bytes = wat::parse_str("(module $inside)").unwrap();
        let engine = Engine::default();
        let module = Module::with_name(&engine, bytes, "outside").unwrap();
        assert_eq!(module.name(), Some("outside"));
        let error = Module::with_name(&engine, b"\0asm".to_vec(), "outside").unwrap_err();
        assert!(
            error.to_string().starts_with("`outside`: invalid module: "),
            "{error}"
        );
    }

    #[test]
    fn a_file_is_named_in_messages_and_by_its_last_part() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let good = folder.path().join("good.wasm");
        std::fs::write(&good, b"\0asm\x01\0\0\0").unwrap();
        let module = Module::from_file(&engine, &good).unwrap();
        assert_eq!(module.name(), Some("good.wasm"));

        let bad = folder.path().join("bad.wasm");
        std::fs::write(&bad, b"not wasm").unwrap();
        let error = Module::from_file(&engine, &bad).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Malformed { offset: 0, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("bad.wasm"), "{error}");

        for unreadable in [folder.path().join("absent.wasm"), folder.path().into()] {
            let error = Module::from_file(&engine, &unreadable).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error}");
        }
    }

    #[test]
    fn a_file_longer_than_the_limit_is_refused_before_it_is_read() {
        let engine = Engine::new(Config {
            limits: Limits {
                module_bytes: 8,
                ..Limits::default()
            },
            ..Config::default()
        });
        assert!(Module::new(&engine, b"\0asm\x01\0\0\0").is_ok());
        let too_long = b"\0asm\x01\0\0\0\0\x02\x01a";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long.wasm");
        std::fs::write(&path, too_long).unwrap();
        for outcome in [
            Module::new(&engine, too_long),
            Module::with_name(&engine, too_long.to_vec(), "long"),
            Module::from_file(&engine, &path),
        ] {
            let error = outcome.unwrap_err();
            let ErrorKind::Limit {
                needed, allowed, ..
            } = error.kind()
            else {
                panic!("{error}")
            };
            assert_eq!((*needed, *allowed), (12, 8));
        }
    }

    #[cfg(feature = "wat")]
    #[test]
    fn text_is_accepted_and_binary_is_never_taken_for_text() {
        let engine = Engine::default();
        let text = b"\n;; a comment\n(module (func (export \"f\")))";
        let module = Module::new(&engine, text).unwrap();
        assert!(module.get_export("f").is_some());
        assert!(Module::new(&engine, b"(module (func (unknown)))").is_err());
        for binary in [b"".as_slice(), b" ", b"asm\0"] {
            let error = Module::new(&engine, binary).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Malformed { .. }));
        }
    }
}
