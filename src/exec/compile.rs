//! From a function without code to one with code: translates it with the addresses of its instance,
//! finishes the instructions for the dispatch in use, and publishes the code.

use super::table;
use crate::error::{Error, Result};
use crate::ir::code::{Code, Relocation};
use crate::ir::display::Listing;
use crate::ir::ops::{Family, Op};
use crate::module::{ExternKind, Import};
use crate::runtime::records::{FuncKind, FuncRec, InstanceRec, MemoryRec};
use crate::runtime::store::StoreCore;
use crate::translate::{self, Callee, Environment, GlobalCell, TableRef, Translation};

/// Translates `func` and makes calls go to its code. A function that has code already is left alone.
///
/// # Safety
/// `func` is a live record of the store `core`, of a function of a module.
pub(super) unsafe fn compile(core: *mut StoreCore, func: *mut FuncRec) -> Result<()> {
    // SAFETY: the caller's; the instance and all it refers to live as long as the function.
    unsafe {
        if !matches!((*func).kind, FuncKind::Wasm) || (*func).code != (*func).stub.as_ptr().cast() {
            return Ok(());
        }
        let instance = (*func).instance;
        let module = (*instance).module.clone();
        let config = (*core).engine.config();
        let watch = (*core).watch();
        let defined = ((*func).index as usize)
            .checked_sub(module.0.imported_funcs)
            .ok_or_else(|| Error::usage("an imported function has no body"))?;
        if config.lazy_validation {
            module.validate_watched(defined, &watch)?;
        }
        let environment = InstanceEnvironment { core, instance };
        let native = config
            .native_libc
            .then(|| module.libc_function((*func).index))
            .flatten();
        let mut translation = match native {
            Some(function) => translate::native(&module, defined, function, &environment),
            None => translate::translate(&module, defined, config, &environment, &watch)?,
        };
        let frame = translation.frame;
        if config.print_code {
            let name = module.function_name((*func).index).unwrap_or_default();
            let listing = Listing {
                code: &translation.code,
                starts: &translation.starts,
            };
            eprintln!(
                "function {} {name}, frame {frame}:\n{listing}",
                (*func).index
            );
        }
        if config.op_coverage {
            note_globals(&translation, &*instance);
        }
        let relocations = std::mem::take(&mut translation.relocations);
        let (words, places) = finish(translation, table::words(config));
        let group = (*func).group;
        let base = words.as_ptr() as usize;
        let fields = relocations.iter().map(|field| {
            let relocation = Relocation {
                at: base + field.word * 8 + if field.high { 4 } else { 0 },
                addend: field.addend,
                offset: field.offset,
                group,
            };
            (field.global, relocation)
        });
        (*core).code.relocate(fields)?;
        let code = Code {
            words,
            group: (*func).group,
            record: func.cast(),
            places,
        };
        (*func).code = (*core).code.insert(code).cast();
        (*func).frame = frame;
        (*func).stub[0] = table::words(config)[usize::from(Family::Forward.form(0).0)];
        for (table, index) in std::mem::take(&mut (*func).waiting) {
            crate::runtime::table::put(core, table, u64::from(index), func as u64);
        }
        Ok(())
    }
}

/// Notes the globals that the code reads.
fn note_globals(translation: &Translation, instance: &InstanceRec) {
    let reads = [Family::GlobalGet, Family::GlobalGetF, Family::GlobalAdd];
    for start in &translation.starts {
        let start = *start as usize;
        let (Some(op), Some(address)) =
            (translation.code.get(start), translation.code.get(start + 2))
        else {
            continue;
        };
        if !reads.iter().any(|family| Op(*op as u16).is(*family)) {
            continue;
        }
        let index = instance.globals.iter().position(|global| {
            // SAFETY: the instance's global space holds live records; the address is only compared.
            unsafe { &raw const (**global).value as u64 == *address }
        });
        let is_global = |import: &&Import| matches!(import.ty, ExternKind::Global(_));
        let imports = instance.module.0.imports.iter().filter(is_global);
        let import = index.and_then(|index| imports.clone().nth(index));
        super::coverage::reads_global(match import {
            Some(import) => format!(
                "{}.{}",
                instance.module.0.import_module(import),
                import.name
            ),
            None => "a global of the module itself".to_owned(),
        });
    }
}

/// Finished words, and the places in the module that they came from.
type Finished = (Box<[u64]>, Box<[(u32, u32)]>);

/// Replaces operator numbers by handlers and writes the entries of jump tables.
fn finish(translation: Translation, words: &[u64]) -> Finished {
    let Translation {
        code,
        starts,
        jump_entries,
        places,
        ..
    } = translation;
    let mut code = code.into_boxed_slice();
    let base = code.as_ptr() as u64;
    for start in starts {
        let place = start as usize;
        code[place] = words[code[place] as usize];
    }
    for entry in jump_entries {
        let target = code[entry as usize];
        code[entry as usize - 1] = code[target as usize];
        code[entry as usize] = base + target * 8;
    }
    (code, places.into_boxed_slice())
}

/// What translation sees of a linked instance.
struct InstanceEnvironment {
    core: *mut StoreCore,
    instance: *mut InstanceRec,
}

impl InstanceEnvironment {
    fn memory(&self) -> *mut MemoryRec {
        // SAFETY: the instance is live while one of its functions is translated.
        unsafe { (*self.instance).memory0() }
    }
}

impl Environment for InstanceEnvironment {
    fn callee(&self, index: u32) -> Callee {
        // SAFETY: the instance's function space holds live records.
        unsafe {
            let func = super::resolved((&(*self.instance).funcs)[index as usize]);
            Callee {
                code: super::code_for_memory(self.core, func, self.memory()) as u64,
                is_host: matches!((*func).kind, FuncKind::Host(_)),
            }
        }
    }

    fn function_reference(&self, index: u32) -> u64 {
        // SAFETY: as above.
        unsafe { (&(*self.instance).funcs)[index as usize] as u64 }
    }

    fn global(&self, index: u32) -> GlobalCell {
        // SAFETY: the instance's global space holds live records.
        unsafe {
            let global = (&(*self.instance).globals)[index as usize];
            GlobalCell {
                address: &raw const (*global).value as u64,
                value: (*global).value,
                ty: (*global).ty,
                cell: (*global)
                    .is_cell
                    .then_some(((*global).group, (*global).place)),
            }
        }
    }

    fn table(&self, index: u32) -> TableRef {
        // SAFETY: the instance's table space holds live records.
        unsafe {
            let table = (&(*self.instance).tables)[index as usize];
            let memory = self.memory();
            TableRef {
                address: table as u64,
                direct: !memory.is_null() && (*table).home == memory,
            }
        }
    }

    fn memory(&self, index: u32) -> u64 {
        // SAFETY: the instance's memory space holds live records.
        unsafe { (&(*self.instance).memories)[index as usize] as u64 }
    }

    fn instance(&self) -> u64 {
        self.instance as u64
    }
}
