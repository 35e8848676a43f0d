//! The symbols of one object: which of its exports are definitions that others may bind to, and of what kind.
//!
//! Names are hashed once, when their module is parsed, and a table answers in O(1). What is *not* a symbol: names of the convention itself (rule
//! R1), hidden and local ones, mutable globals (R6), and an import that is exported again under its own name (R4: such
//! an export is a reference, not a definition).
#![forbid(unsafe_code)]

use super::pointer_exports::{self, Pointer};
use crate::module::{ConstExpr, ExportItem, ExternKind, FuncType, Module, Name, SymbolFlags};
use std::collections::HashMap;
use std::sync::OnceLock;

/// A definition within one object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Symbol {
    /// A function: place among the exports, and index.
    Function { export: u32, func: u32 },
    /// Data, as a global that holds its address: place among the exports, and index.
    Data { export: u32, global: u32 },
    /// An address told by a function (cowasm): data or a function, whatever the importer takes it for.
    Pointer(Pointer),
}

impl Symbol {
    /// The kind in words.
    pub fn kind(self) -> &'static str {
        match self {
            Symbol::Function { .. } => "a function",
            Symbol::Data { .. } => "data",
            Symbol::Pointer(_) => "an address",
        }
    }
}

/// The symbols of one object.
pub(crate) struct SymbolTable {
    module: Module,
    pointers: HashMap<Box<str>, Pointer>,
    /// Flags of the exports by their places; empty if the object gives none.
    flags: Vec<SymbolFlags>,
    /// Places of the imported functions, and of the imported globals, in the list of imports; once somebody asked.
    imported: OnceLock<[Vec<u32>; 2]>,
    /// Exports with [`ORIGINAL`] before their name, by the rest of it.
    originals: HashMap<Box<str>, usize>,
    /// Exported functions are not to be called by others: only addresses told by functions count.
    pointers_only: bool,
    /// It stands for the linker itself, which serves the functions of `<dlfcn.h>`.
    is_libdl: bool,
}

impl SymbolTable {
    /// Reads the symbols of a module. `wrapped_exports`: its exported functions run constructors and destructors around
    /// each call, so only the addresses that it tells are symbols (rule S8). Exports that should tell an address but
    /// cannot be read are handed back.
    pub fn new(module: &Module, wrapped_exports: bool) -> (SymbolTable, Vec<Box<str>>) {
        let (pointers, unreadable) = pointer_exports::read(module);
        let inner = &*module.0;
        let originals: HashMap<Box<str>, usize> = inner
            .export_names()
            .enumerate()
            .filter(|(_, name)| name.starts_with(ORIGINAL.as_bytes()))
            .filter_map(|(place, _)| {
                let export = inner.export_at(place)?;
                let name = export.name.strip_prefix(ORIGINAL)?;
                matches!(export.item, ExportItem::Func(_)).then(|| (name.into(), place))
            })
            .collect();
        let mut flags = Vec::new();
        for (name, said) in inner.dylink.iter().flat_map(|info| &info.export_info) {
            let places = [inner.export_place(name), originals.get(&**name).copied()];
            for place in places.into_iter().flatten() {
                flags.resize(inner.exports().len(), SymbolFlags::empty());
                if let Some(flags) = flags.get_mut(place) {
                    *flags = *said;
                }
            }
        }
        let table = SymbolTable {
            originals,
            imported: OnceLock::new(),
            module: module.clone(),
            flags,
            pointers_only: wrapped_exports,
            is_libdl: false,
            pointers,
        };
        (table, unreadable)
    }

    /// Leaves the functions of `<dlfcn.h>` to the linker: for wasi-libc's `libdl.so`, whose functions only fail.
    pub fn without_dl_functions(mut self) -> SymbolTable {
        self.is_libdl = true;
        self
    }

    /// The module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// A name with its hash.
    pub fn name<'n>(&self, text: &'n str) -> Name<'n> {
        self.module.engine().names().name(text)
    }

    /// The definition of a name. O(1).
    pub fn lookup(&self, name: &str) -> Option<Symbol> {
        self.find(self.name(name))
    }

    /// The definition of a name that was hashed before. O(1).
    #[inline]
    pub fn find(&self, name: Name<'_>) -> Option<Symbol> {
        let exported = self
            .place(name)
            .and_then(|place| self.exported(place, name.text));
        let found = match exported {
            Some(symbol) => symbol,
            None if self.pointers.is_empty() => return None,
            None => self.told(name.text)?,
        };
        let hidden =
            is_internal(name.text) || (self.is_libdl && super::abi::signature(name.text).is_some());
        (!hidden).then_some(found)
    }

    /// Where names with these hashes probably are: to be given to [`SymbolTable::at`]. Whatever looking for them reads is
    /// fetched now, side by side: tables of many symbols do not fit into the processor's caches.
    pub fn candidates(&self, hashes: &[u64], places: &mut [u32]) {
        self.module.0.export_candidates(hashes, places);
    }

    /// The definition of a name if it is where it probably is; else it has to be looked for.
    #[inline]
    pub fn at(&self, candidate: u32, name: Name<'_>) -> Option<Symbol> {
        let place = usize::try_from(candidate).ok()?.checked_sub(1)?;
        let plain = self.originals.is_empty() && !self.is_libdl;
        if !plain || !self.module.0.is_export_named(place, name.text) || is_internal(name.text) {
            return None;
        }
        self.exported(place, name.text)
    }

    /// The export that defines a name, if it is a definition.
    fn place(&self, name: Name<'_>) -> Option<usize> {
        match self.originals.is_empty() {
            true => self.module.0.place_of(name),
            false => {
                let original = self.originals.get(name.text).copied();
                original.or_else(|| self.module.0.place_of(name))
            }
        }
    }

    /// The address that a function tells for a name.
    fn told(&self, name: &str) -> Option<Symbol> {
        let pointer = *self.pointers.get(name)?;
        // The address of a GOT cell of the same name is what this search is to find.
        match pointer {
            Pointer::Got { import, .. } if self.import_name(import) == Some(name) => None,
            pointer => Some(Symbol::Pointer(pointer)),
        }
    }

    fn exported(&self, place: usize, name: &str) -> Option<Symbol> {
        let flags = self.flags.get(place).copied();
        let hides = |flags: SymbolFlags| flags.intersects(SymbolFlags::LOCAL | SymbolFlags::HIDDEN);
        if flags.is_some_and(hides) {
            return None;
        }
        self.export(place, name)
    }

    /// The function behind a definition whose 64-bit integers are split: emscripten's `f` beside `orig$f` (rule R10).
    pub fn split_form(&self, name: &str) -> Option<Symbol> {
        self.originals.get(name)?;
        self.export(self.module.0.export_place(name)?, name)
            .filter(|symbol| matches!(symbol, Symbol::Function { .. }))
    }

    /// The definition of a symbol by the export at this place.
    fn export(&self, place: usize, name: &str) -> Option<Symbol> {
        let inner = &*self.module.0;
        let export = u32::try_from(place).ok()?;
        match inner.export_item(place)? {
            ExportItem::Func(func) => {
                let again = || self.is_import(FUNCS, func, inner.imported_funcs, name);
                (!self.pointers_only && !again()).then_some(Symbol::Function { export, func })
            }
            ExportItem::Global(global) => {
                let again = || self.is_import(GLOBALS, global, inner.imported_globals, name);
                let ty = inner.globals.get(usize::try_from(global).ok()?)?.ty;
                let address = !ty.mutable && ty.value == crate::module::ValType::I32;
                (address && !again()).then_some(Symbol::Data { export, global })
            }
            ExportItem::Table(_) | ExportItem::Memory(_) => None,
        }
    }

    /// Whether what has this index is imported under this name.
    fn is_import(&self, kind: usize, index: u32, imported: usize, name: &str) -> bool {
        let Some(index) = usize::try_from(index)
            .ok()
            .filter(|index| *index < imported)
        else {
            return false;
        };
        let places = self.imported.get_or_init(|| {
            let mut places = [Vec::new(), Vec::new()];
            let [funcs, globals] = &mut places;
            for (import, place) in self.module.0.imports.iter().zip(0u32..) {
                match import.ty {
                    ExternKind::Func(_) => funcs.push(place),
                    ExternKind::Global(_) => globals.push(place),
                    ExternKind::Table(_) | ExternKind::Memory(_) => {}
                }
            }
            places
        });
        let place = places.get(kind).and_then(|places| places.get(index));
        place.is_some_and(|import| self.import_name(*import) == Some(name))
    }

    /// Whether the name is that of an exported function that must not be called because it is wrapped (rule S8).
    pub fn is_wrapped(&self, name: &str) -> bool {
        let inner = &*self.module.0;
        self.pointers_only && matches!(inner.export(name), Some(ExportItem::Func(_)))
    }

    /// Whether some symbols are addresses that functions tell.
    pub fn has_pointers(&self) -> bool {
        !self.pointers.is_empty()
    }

    /// The field name of an import.
    pub fn import_name(&self, import: u32) -> Option<&str> {
        let import = self.module.0.imports.get(usize::try_from(import).ok()?)?;
        Some(&import.name)
    }

    /// The name of an export.
    pub fn export_name(&self, export: u32) -> &str {
        usize::try_from(export)
            .ok()
            .and_then(|export| self.module.0.export_at(export))
            .map_or("", |export| export.name)
    }

    /// The type of a function.
    pub fn func_type(&self, func: u32) -> Option<&FuncType> {
        let inner = &*self.module.0;
        let ty = *inner.funcs.get(usize::try_from(func).ok()?)?;
        inner.types.get(usize::try_from(ty).ok()?)
    }

    /// The canonical id of the type of a function.
    #[inline]
    pub fn type_id(&self, func: u32) -> Option<u32> {
        let inner = &*self.module.0;
        let ty = *inner.funcs.get(usize::try_from(func).ok()?)?;
        inner.type_ids.get(usize::try_from(ty).ok()?).copied()
    }

    /// The value that the file gives a global, as an address.
    pub fn constant(&self, global: u32) -> Option<u32> {
        let global = self.module.0.globals.get(usize::try_from(global).ok()?)?;
        match global.init {
            Some(ConstExpr::Value(value)) => u32::try_from(value & 0xffff_ffff).ok(),
            _ => None,
        }
    }

    /// Flags of the export at a place; none if the object says nothing about it.
    pub fn flags(&self, export: u32) -> SymbolFlags {
        usize::try_from(export)
            .ok()
            .and_then(|place| self.flags.get(place).copied())
            .unwrap_or(SymbolFlags::empty())
    }

    /// All names that [`SymbolTable::lookup`] finds, in the order of the exports, those told by functions after them.
    pub fn names(&self) -> impl Iterator<Item = (&str, Symbol)> {
        self.definitions().map(|(name, symbol)| (name.text, symbol))
    }

    /// As [`SymbolTable::names`], with the hashes of the names.
    pub fn definitions(&self) -> impl Iterator<Item = (Name<'_>, Symbol)> {
        let inner = &*self.module.0;
        let told = inner
            .exports()
            .filter_map(|export| export.name.strip_prefix(pointer_prefix()));
        inner
            .exports()
            .map(|export| export.name)
            .filter(|name| !name.starts_with(ORIGINAL))
            .chain(told.filter(|name| inner.export_place(name).is_none()))
            .filter_map(|name| {
                let name = self.name(name);
                Some((name, self.find(name)?))
            })
    }
}

/// Kinds of imports, as places in [`SymbolTable::imported`].
const FUNCS: usize = 0;
const GLOBALS: usize = 1;

/// What emscripten up to version 3 puts before the name of an exported function that has 64-bit integers: the export of
/// the plain name is a stub for JavaScript, which splits them.
const ORIGINAL: &str = "orig$";

/// What to say when nobody defines a function that this module brings along as JavaScript (emscripten's `EM_JS`: the
/// export `__em_js__NAME` leads to its text).
pub(crate) fn javascript_hint(module: &Module, name: &str) -> Option<String> {
    let text = format!("__em_js__{name}");
    module
        .0
        .export_place(&text)
        .map(|_| "it is JavaScript (EM_JS): the embedder has to offer it".to_string())
}

/// Which imports of an object are weak (rules P7 to P9).
#[derive(Default)]
pub(crate) struct WeakImports<'a>(HashMap<&'a str, &'a str>);

impl<'a> WeakImports<'a> {
    /// From the import information of a module.
    pub fn new(module: &'a Module) -> WeakImports<'a> {
        WeakImports(
            module
                .dylink()
                .into_iter()
                .flat_map(|info| &info.import_info)
                .filter(|(_, _, flags)| {
                    flags.contains(SymbolFlags::WEAK) && !flags.contains(SymbolFlags::LOCAL)
                })
                .map(|(module, field, _)| (field.as_str(), module.as_str()))
                .collect(),
        )
    }

    /// Whether the import is weak. The information names the module `env` for every C symbol, wherever it is imported
    /// from.
    pub fn contains(&self, module: &str, field: &str) -> bool {
        self.0
            .get(field)
            .is_some_and(|said| matches!(*said, "env" | "GOT.func" | "GOT.mem") || *said == module)
    }
}

/// Whether a name belongs to the convention and never to a program (rule R1).
#[inline]
pub(crate) fn is_internal(name: &str) -> bool {
    // Most names are ruled out by their first letters.
    match name.as_bytes() {
        [b'_', b'_' | b'e' | b'i' | b's', ..] | [b'm' | b'e', ..] => is_of_convention(name),
        _ => false,
    }
}

fn is_of_convention(name: &str) -> bool {
    matches!(
        name,
        "memory"
            | "__indirect_function_table"
            | "__stack_pointer"
            | "__memory_base"
            | "__memory_base32"
            | "__table_base"
            | "__table_base32"
            | "__dso_handle"
            | "__cpp_exception"
            | "__c_longjmp"
            | "__tls_base"
            | "__tls_size"
            | "__tls_align"
            | "__wasm_init_tls"
            | "_emscripten_tls_init"
            | "emscripten_tls_init"
            | "__set_stack_limits"
            | "__wasm_call_ctors"
            | "__wasm_apply_data_relocs"
            | "__wasm_apply_global_relocs"
            | "__wasm_apply_tls_relocs"
            | "__wasm_init_memory"
            | "__wasm_get_stack_pointer"
            | "__wasm_set_stack_pointer"
            | "__wasm_get_tls_base"
            | "__wasm_set_tls_base"
            | "__init_stack_pointer"
            | "__init_tls_base"
            | "_initialize"
            | "_start"
    ) || name.starts_with("__em_js__")
        || name.starts_with("__start_em_")
        || name.starts_with("__stop_em_")
        || name.starts_with(pointer_prefix())
}

fn pointer_prefix() -> &'static str {
    "__WASM_EXPORT__"
}
