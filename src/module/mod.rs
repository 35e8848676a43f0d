//! Bytes to a validated `Module`. Only this layer uses wasmparser for whole modules.

mod dylink;
mod types;

pub use dylink::{DylinkInfo, SymbolFlags};
pub use types::{
    ExportType, ExternType, FuncType, GlobalType, ImportType, MemoryType, RefType, TableType,
    ValType,
};

use crate::config::Engine;
use crate::error::Result;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// A parsed and validated module. Cheap to clone.
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
    pub exports: Vec<Export>,
    /// Name to place in `exports`.
    pub export_index: HashMap<Box<str>, usize>,
    pub start: Option<u32>,
    pub elements: Vec<ElementSegment>,
    pub data: Vec<DataSegment>,
    /// Byte ranges in `bytes` of the function bodies (as wasmparser's `FunctionBody::range`), defined functions only.
    pub bodies: Vec<Range<usize>>,
    pub dylink: Option<DylinkInfo>,
    /// Byte range of the contents of the `name` section.
    pub name_section: Option<Range<usize>>,
}

pub(crate) struct Import {
    pub module: Box<str>,
    pub name: Box<str>,
    pub ty: ExternKind,
}

/// What is imported: indices into the type section, or a type.
pub(crate) enum ExternKind {
    Func(u32),
    Table(TableType),
    Memory(MemoryType),
    Global(GlobalType),
}

pub(crate) struct Export {
    pub name: Box<str>,
    pub item: ExportItem,
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
    /// Parses and validates a module.
    ///
    /// # Errors
    /// The bytes are malformed, invalid, need an unsupported proposal, or exceed a limit of the engine.
    pub fn new(_engine: &Engine, _bytes: &[u8]) -> Result<Module> {
        todo!()
    }

    /// Like [`Module::new`] with a name for messages and backtraces.
    ///
    /// # Errors
    /// As [`Module::new`].
    pub fn with_name(_engine: &Engine, _bytes: Vec<u8>, _name: &str) -> Result<Module> {
        todo!()
    }

    /// Reads a module from a file (with feature `wat`, also text).
    ///
    /// # Errors
    /// The file cannot be read, or as [`Module::new`].
    pub fn from_file(_engine: &Engine, _path: impl AsRef<std::path::Path>) -> Result<Module> {
        todo!()
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The name given at loading, else the one of the name section.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The imports in order.
    pub fn imports(&self) -> impl ExactSizeIterator<Item = ImportType<'_>> {
        self.0.imports.iter().map(|_| -> ImportType<'_> { todo!() })
    }

    /// The exports in order.
    pub fn exports(&self) -> impl ExactSizeIterator<Item = ExportType<'_>> {
        self.0.exports.iter().map(|_| -> ExportType<'_> { todo!() })
    }

    /// The type of an export. O(1).
    pub fn get_export(&self, _name: &str) -> Option<ExternType> {
        todo!()
    }

    /// The dynamic linking section, if the module has one.
    pub fn dylink(&self) -> Option<&DylinkInfo> {
        self.0.dylink.as_ref()
    }

    /// The name of a function from the name section, else an export's. For backtraces; the section is parsed at each call.
    pub fn function_name(&self, _index: u32) -> Option<String> {
        todo!()
    }
}
