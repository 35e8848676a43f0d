//! The symbols of a file, as `nm` lists them: what it defines, what it wants, what it keeps to itself.
#![forbid(unsafe_code)]

use super::symbols::{WeakImports, is_internal};
use crate::module::{
    ConstExpr, ConstOp, ExportItem, ExternKind, ExternType, Module, ModuleInner, SegmentMode,
    SymbolFlags, ValType,
};
use std::ops::Range;

/// What a symbol is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SymbolClass {
    /// A function; as an import one that is called.
    Function,
    /// The address of a function, imported from `GOT.func`.
    FunctionAddress,
    /// Data, as a global with its address.
    Data,
    /// The address of data, imported from `GOT.mem`.
    DataAddress,
    /// A number that is not moved with the library.
    Absolute,
    /// A global that is no address: mutable, or not an i32.
    Global,
    /// A memory.
    Memory,
    /// A table.
    Table,
}

/// One symbol of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SymbolEntry {
    /// Its name.
    pub name: String,
    /// What it is.
    pub class: SymbolClass,
    /// The letter that `nm` would print, see [`SymbolEntry::letter`].
    pub letter: char,
    /// The module that it is imported from; `None` for what the file defines.
    pub from: Option<String>,
    /// For data its address, relative to the library's own if the library is position-independent.
    pub address: Option<u32>,
    /// Its index among functions, globals, memories or tables.
    pub index: u32,
    /// Its type.
    pub ty: ExternType,
    /// Flags of the dynamic linking section.
    pub flags: SymbolFlags,
    /// It is exported or imported; a function with only a name is local.
    pub dynamic: bool,
    /// It belongs to the convention itself (`__memory_base`, `__wasm_call_ctors`, …), not to the program.
    pub internal: bool,
}

impl SymbolEntry {
    /// The letter, in the manner of `nm`:
    ///
    /// | letter | meaning |
    /// |---|---|
    /// | `T` `t` | a function; `t` is not exported |
    /// | `D` `B` | data with initial values; data that is zero at first |
    /// | `A` | an absolute number |
    /// | `W` `V` | weak: a function, data |
    /// | `U` | undefined: imported |
    /// | `w` `v` | undefined and weak: a function, data |
    /// | `G` `M` `E` | a global that is no address, a memory, a table of elements |
    fn letter(&self, initialised: bool) -> char {
        let is_function = matches!(
            self.class,
            SymbolClass::Function | SymbolClass::FunctionAddress
        );
        let weak = self.flags.is_weak();
        match (self.from.is_some(), weak) {
            (true, true) => return if is_function { 'w' } else { 'v' },
            (true, false) => return 'U',
            (false, true) => return if is_function { 'W' } else { 'V' },
            (false, false) => {}
        }
        match self.class {
            SymbolClass::Function | SymbolClass::FunctionAddress if self.dynamic => 'T',
            SymbolClass::Function | SymbolClass::FunctionAddress => 't',
            SymbolClass::Data | SymbolClass::DataAddress if initialised => 'D',
            SymbolClass::Data | SymbolClass::DataAddress => 'B',
            SymbolClass::Absolute => 'A',
            SymbolClass::Global => 'G',
            SymbolClass::Memory => 'M',
            SymbolClass::Table => 'E',
        }
    }
}

/// The symbols of a module: exports, then imports, then functions that only have a name.
///
/// ```
/// use dynlink::{Engine, Module};
/// use dynlink::link::symbols_of;
///
/// # let bytes = wat::parse_str(r#"(module (import "env" "g" (func)) (func (export "f")))"#).unwrap();
/// let module = Module::new(&Engine::default(), &bytes)?;
/// let list = symbols_of(&module);
/// assert_eq!((list[0].name.as_str(), list[0].letter), ("f", 'T'));
/// assert_eq!((list[1].name.as_str(), list[1].letter), ("g", 'U'));
/// # Ok::<(), dynlink::Error>(())
/// ```
pub fn symbols_of(module: &Module) -> Vec<SymbolEntry> {
    let inner = &*module.0;
    let segments = initialised(inner);
    let weak = WeakImports::new(module);
    let export_flags: std::collections::HashMap<&str, SymbolFlags> = inner
        .dylink
        .iter()
        .flat_map(|info| &info.export_info)
        .map(|(name, flags)| (name.as_str(), *flags))
        .collect();
    let mut named = vec![false; inner.funcs.len()];
    let mut list = Vec::new();
    for (export, typed) in inner.exports().zip(module.exports()) {
        let flags = export_flags
            .get(export.name)
            .copied()
            .unwrap_or(SymbolFlags::empty());
        let (class, index, address) = match export.item {
            ExportItem::Func(index) => {
                if let Some(named) = place(&mut named, index) {
                    *named = true;
                }
                (SymbolClass::Function, index, None)
            }
            ExportItem::Global(index) => {
                let (class, address) = global_class(inner, index, flags);
                (class, index, address)
            }
            ExportItem::Memory(index) => (SymbolClass::Memory, index, None),
            ExportItem::Table(index) => (SymbolClass::Table, index, None),
        };
        let in_segment = address.is_some_and(|address| {
            segments
                .iter()
                .any(|range| range.contains(&u64::from(address)))
        });
        let mut entry = SymbolEntry {
            name: export.name.to_string(),
            class,
            letter: '?',
            from: None,
            address,
            index,
            ty: typed.ty,
            flags,
            dynamic: true,
            internal: is_internal(export.name),
        };
        entry.letter = entry.letter(in_segment || flags.contains(SymbolFlags::TLS));
        list.push(entry);
    }
    let mut counts = [0u32; 4];
    for (import, typed) in inner.imports.iter().zip(module.imports()) {
        let (class, space) = match (&import.ty, inner.import_module(import)) {
            (ExternKind::Func(_), _) => (SymbolClass::Function, 0),
            (ExternKind::Global(_), "GOT.func") => (SymbolClass::FunctionAddress, 1),
            (ExternKind::Global(_), "GOT.mem") => (SymbolClass::DataAddress, 1),
            (ExternKind::Global(_), _) => (SymbolClass::Global, 1),
            (ExternKind::Memory(_), _) => (SymbolClass::Memory, 2),
            (ExternKind::Table(_), _) => (SymbolClass::Table, 3),
        };
        let index = counts.get_mut(space).map_or(0, |count| {
            *count += 1;
            *count - 1
        });
        let is_weak = weak.contains(inner.import_module(import), &import.name);
        let mut entry = SymbolEntry {
            name: import.name.to_string(),
            class,
            letter: '?',
            from: Some(inner.import_module(import).to_string()),
            address: None,
            index,
            ty: typed.ty,
            flags: if is_weak {
                SymbolFlags::WEAK | SymbolFlags::UNDEFINED
            } else {
                SymbolFlags::UNDEFINED
            },
            dynamic: true,
            internal: is_internal(&import.name),
        };
        entry.letter = entry.letter(false);
        list.push(entry);
    }
    for (index, _) in (0u32..)
        .zip(&named)
        .skip(inner.imported_funcs)
        .filter(|(_, named)| !**named)
    {
        let (Some(name), Some(ty)) = (module.section_name(index), inner.func_type(index)) else {
            continue;
        };
        list.push(SymbolEntry {
            name: name.to_string(),
            internal: is_internal(name),
            class: SymbolClass::Function,
            letter: 't',
            from: None,
            address: None,
            index,
            ty: ExternType::Func(ty.clone()),
            flags: SymbolFlags::empty(),
            dynamic: false,
        });
    }
    list
}

fn place(list: &mut [bool], index: u32) -> Option<&mut bool> {
    list.get_mut(usize::try_from(index).ok()?)
}

/// What an exported global is, and the address that it tells.
fn global_class(
    module: &ModuleInner,
    index: u32,
    flags: SymbolFlags,
) -> (SymbolClass, Option<u32>) {
    let global = usize::try_from(index)
        .ok()
        .and_then(|index| module.globals.get(index));
    let Some(global) =
        global.filter(|global| !global.ty.mutable && global.ty.value == ValType::I32)
    else {
        return (SymbolClass::Global, None);
    };
    let value = match &global.init {
        Some(ConstExpr::Value(value)) => u32::try_from(value & 0xffff_ffff).ok(),
        _ => None,
    };
    if flags.contains(SymbolFlags::ABSOLUTE) {
        (SymbolClass::Absolute, value)
    } else {
        (SymbolClass::Data, value)
    }
}

/// The addresses that active data segments fill, relative to the memory base if there is one.
fn initialised(module: &ModuleInner) -> Vec<Range<u64>> {
    let start = |offset: &ConstExpr| match offset {
        ConstExpr::Value(value) => Some(value & 0xffff_ffff),
        ConstExpr::GlobalGet(_) => Some(0),
        ConstExpr::Ops(ops) => match &**ops {
            [
                ConstOp::GlobalGet(_),
                ConstOp::Value(value),
                ConstOp::I32Add,
            ]
            | [
                ConstOp::Value(value),
                ConstOp::GlobalGet(_),
                ConstOp::I32Add,
            ] => Some(value & 0xffff_ffff),
            _ => None,
        },
        ConstExpr::RefFunc(_) => None,
    };
    module
        .data
        .iter()
        .filter_map(|segment| match &segment.mode {
            SegmentMode::Active { offset, .. } => {
                let start = start(offset)?;
                let length = u64::try_from(segment.range.len()).ok()?;
                Some(start..start.checked_add(length)?)
            }
            SegmentMode::Passive | SegmentMode::Declared => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Engine;

    fn letters(text: &str) -> Vec<(String, char)> {
        let bytes = wat::parse_str(text).unwrap();
        let module = Module::new(&Engine::default(), &bytes).unwrap();
        let entry = |entry: SymbolEntry| (entry.name, entry.letter);
        symbols_of(&module).into_iter().map(entry).collect()
    }

    #[test]
    fn every_kind_of_symbol_has_its_letter() {
        let list = letters(
            r#"(module
                (@dylink.0 (mem-info (memory 32 0))
                    (export-info "thread" tls) (export-info "fixed" 0x200) (export-info "weak" binding-weak)
                    (import-info "env" "maybe" binding-weak undefined)
                    (import-info "env" "maybe_data" binding-weak undefined))
                (import "env" "called" (func))
                (import "env" "maybe" (func))
                (import "GOT.func" "taken" (global (mut i32)))
                (import "GOT.mem" "data" (global (mut i32)))
                (import "GOT.mem" "maybe_data" (global (mut i32)))
                (import "env" "__memory_base" (global $base i32))
                (import "env" "memory" (memory 1))
                (func (export "f"))
                (func (export "weak"))
                (func $local)
                (global (export "set") i32 (i32.const 4))
                (global (export "zero") i32 (i32.const 16))
                (global (export "thread") i32 (i32.const 0))
                (global (export "fixed") i32 (i32.const 7))
                (global (export "changes") (mut i32) (i32.const 7))
                (table (export "table") 1 funcref)
                (data (global.get $base) "\01\02\03\04\05\06\07\08"))"#,
        );
        let list: Vec<(&str, char)> = list.iter().map(|(name, l)| (name.as_str(), *l)).collect();
        assert_eq!(
            list,
            [
                ("f", 'T'),
                ("weak", 'W'),
                ("set", 'D'),
                ("zero", 'B'),
                ("thread", 'D'),
                ("fixed", 'A'),
                ("changes", 'G'),
                ("table", 'E'),
                ("called", 'U'),
                ("maybe", 'w'),
                ("taken", 'U'),
                ("data", 'U'),
                ("maybe_data", 'v'),
                ("__memory_base", 'U'),
                ("memory", 'U'),
                ("local", 't'),
            ]
        );
    }
}
