//! Libraries whose thread-local data has no place: LLVM's linker makes `__tls_base` a constant where code for threads
//! (`-matomics`) is linked without `--shared-memory`. In a program with fixed addresses that constant is right; in a
//! library it is only the offset in its data, and thread-local variables would lie near address 0 (rules T1, T3).
//!
//! A library that was stripped of names and features and that exports neither `__tls_base` nor a thread-local symbol
//! cannot be told from one that has a constant of its own, and is loaded.
#![forbid(unsafe_code)]

use super::{ConstExpr, ExportItem, ExternKind, ModuleInner, SymbolFlags, ValType};
use std::collections::HashSet;
use wasmparser::{BinaryReader, Name, NameSectionReader, Parser, Payload};

impl ModuleInner {
    /// The address at which a library takes its thread-local data to begin, if that is a constant.
    pub(crate) fn constant_tls_base(&self) -> Option<u64> {
        let relocatable = self.imports.iter().any(|import| {
            matches!(import.ty, ExternKind::Global(_)) && &*import.name == "__memory_base"
        });
        if !relocatable {
            return None;
        }
        // The linker writes no other constant that stays inside.
        let constants: Vec<(u32, u64)> = (0u32..)
            .zip(&self.globals)
            .filter(|(_, global)| !global.ty.mutable && global.ty.value == ValType::I32)
            .filter_map(|(index, global)| match global.init {
                Some(ConstExpr::Value(value)) => Some((index, value)),
                _ => None,
            })
            .collect();
        if constants.is_empty() {
            return None;
        }
        if let Some(named) = self.named_tls_base() {
            let base = constants.iter().find(|(index, _)| Some(*index) == named);
            return base.map(|(_, value)| *value);
        }
        // Without names, it may be exported: `--export-all` does.
        let mut exported = HashSet::new();
        for export in self.exports() {
            if let ExportItem::Global(index) = export.item {
                let constant = || constants.binary_search_by_key(&index, |(index, _)| *index);
                if export.name == "__tls_base"
                    && let Ok(place) = constant()
                {
                    return constants.get(place).map(|(_, value)| *value);
                }
                exported.insert(index);
            }
        }
        // Else the features tell that the code is for threads, or, where they were stripped with the names, a
        // thread-local symbol that nothing sets up.
        let inside = |(index, _): &&(u32, u64)| !exported.contains(index);
        let base = constants.iter().find(inside)?;
        (self.is_for_threads() || self.has_thread_local_exports_without_setup()).then_some(base.1)
    }

    /// Whether the dynamic linking information calls an export thread-local although there is no function that gives
    /// thread-local data its values.
    fn has_thread_local_exports_without_setup(&self) -> bool {
        let info = self.dylink.as_ref();
        let mut flags = info.into_iter().flat_map(|info| &info.export_info);
        flags.any(|(_, flags)| {
            flags.contains(SymbolFlags::TLS) && !flags.contains(SymbolFlags::ABSOLUTE)
        }) && !self
            .exports()
            .any(|export| export.name == "__wasm_init_tls")
    }

    /// The global that the name section calls `__tls_base`. `None`: it names no globals at all.
    fn named_tls_base(&self) -> Option<Option<u32>> {
        let range = self.name_section.clone()?;
        let bytes = self.bytes.get(range)?;
        for subsection in NameSectionReader::new(BinaryReader::new(bytes, 0)) {
            let Ok(Name::Global(names)) = subsection else {
                continue;
            };
            let mut names = names.into_iter().flatten();
            return Some(
                names
                    .find(|name| name.name == "__tls_base")
                    .map(|name| name.index),
            );
        }
        None
    }

    /// Whether the compiler says that it made use of atomic instructions.
    fn is_for_threads(&self) -> bool {
        for payload in Parser::new(0).parse_all(&self.bytes) {
            let Ok(payload) = payload else {
                return false;
            };
            let Payload::CustomSection(section) = payload else {
                continue;
            };
            if section.name() != "target_features" {
                continue;
            }
            let mut reader = BinaryReader::new(section.data(), 0);
            let count = reader.read_var_u32().unwrap_or(0);
            for _ in 0..count {
                let (Ok(prefix), Ok(name)) = (reader.read_u8(), reader.read_string()) else {
                    return false;
                };
                if prefix == b'+' && name == "atomics" {
                    return true;
                }
            }
        }
        false
    }
}
