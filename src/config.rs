//! Every knob of the engine, its default and its cost; and the `Engine` that holds them.

use crate::error::{Error, ErrorKind, Result};
use crate::module::{FuncType, NameHasher};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How instructions reach the next one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dispatch {
    /// Tail calls where the build supports them, else the loop. The default.
    #[default]
    Auto,
    /// Each handler ends in a jump to the next one. Falls back to `Loop` where the build has no tail calls.
    TailCall,
    /// A loop calls handlers one by one: any target, any optimisation level, about half the speed.
    Loop,
}

/// Limits on what a module may ask for, checked before anything is allocated.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one module file. Default: 1 GiB.
    pub module_bytes: usize,
    /// Bytes of the value stack, which holds all guest frames. Default: 64 MiB.
    pub stack_bytes: usize,
    /// Nested calls guest → host → guest on the native stack. Default: 100.
    pub host_recursion: usize,
    /// 64 KiB pages of one memory. Default: 65,536 (4 GiB).
    pub memory_pages: u64,
    /// Bytes of all memories of one store together. Default: 8 GiB.
    pub memory_bytes: u64,
    /// Elements of all tables of one store together, at 24 bytes each. Default: 10,000,000.
    pub table_elements: u64,
    /// Memories that one module defines. Default: 100.
    pub memories: usize,
    /// Tables that one module defines. Default: 100.
    pub tables: usize,
    /// Bytes that translating one function takes while it lasts: its code and what the translator notes, such as open
    /// blocks, which nest as deep as a body is long. Default: 1 GiB.
    pub translation_bytes: usize,
    /// Distinct function types of all modules of an engine, which are kept as long as the engine is.
    /// Default: 4,000,000.
    pub function_types: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            module_bytes: 1 << 30,
            stack_bytes: 64 << 20,
            host_recursion: 100,
            memory_pages: 65_536,
            memory_bytes: 8 << 30,
            table_elements: 10_000_000,
            memories: 100,
            tables: 100,
            translation_bytes: 1 << 30,
            function_types: 4_000_000,
        }
    }
}

/// Settings of an [`Engine`].
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// How instructions reach the next one.
    pub dispatch: Dispatch,
    /// Translate every function when its module is instantiated instead of at its first call. Default: off.
    pub eager_translation: bool,
    /// Validate a function at its first call instead of when the module is loaded. Default: off.
    pub lazy_validation: bool,
    /// Run native code in place of a module's own `memcpy`, `memmove`, `memset`, `memcmp`, `memchr`, `strlen`, `strnlen`,
    /// `strcmp`, `strncmp`, `strchr`, `strrchr` and `strcpy`, which are known by their names (exports, cowasm's exports
    /// that tell an address, or name section) and types. Results are those of musl for all calls that C defines; what is
    /// out of bounds, or what there is not enough fuel for, traps before anything is written. A guest that means something else by such a name breaks. Default: off.
    pub native_libc: bool,
    /// Let the processor find accesses that are out of a memory's bounds, instead of a comparison before each: every memory
    /// takes 8 GiB of address space (and no more memory than else), and the process gets a handler for `SIGSEGV`, which
    /// passes on what is not its own; whoever installs one later must do so, too, and threads that run guests must not
    /// block the signal. Traps are the same. Needs feature
    /// `guard-pages` and Linux on x86-64, see [`Config::guard_pages_available`]; elsewhere it is an error to make a memory.
    /// Default: off.
    pub guard_pages: bool,
    /// Count fuel: guests trap when the store's fuel is used up. Costs a check at function entry and loops. Default: off.
    pub fuel: bool,
    /// Allow deadlines and interruption. Costs a check at function entry and loops. Default: off.
    pub interruption: bool,
    /// Keep a record of every instruction that was executed (loop dispatch only; slow, for tests). Default: off.
    pub op_coverage: bool,
    /// Print the code of every function to stderr when it is translated, for engine developers. Default: off.
    pub print_code: bool,
    /// Limits on what a module may ask for.
    pub limits: Limits,
}

impl Config {
    /// Whether this build can do what [`Config::guard_pages`] asks for.
    ///
    /// # Errors
    /// It cannot; why, and what to do.
    pub fn guard_pages_available() -> Result<()> {
        if cfg!(dynlink_guard_pages) {
            return Ok(());
        }
        Err(Error::usage(if cfg!(feature = "guard-pages") {
            "guard pages: only Linux on x86-64 has them; turn them off, bounds are then checked by comparisons"
        } else {
            "guard pages: this build has none; build with the feature `guard-pages`, or turn them off"
        }))
    }
}

/// Holds the configuration and what all stores share: the canonical function types, and the keys with which names of
/// symbols are hashed. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<EngineInner>);

struct EngineInner {
    config: Config,
    types: Mutex<TypeTable>,
    names: NameHasher,
}

#[derive(Default)]
struct TypeTable {
    ids: HashMap<FuncType, u32>,
    types: Vec<FuncType>,
}

/// Most ids, all less than the one that stands for no type (`u32::MAX`).
const MOST_TYPES: usize = u32::MAX as usize;

impl TypeTable {
    /// The id of a type, which gets a new one if there are less than `most` yet.
    fn id(&mut self, ty: &FuncType, most: usize) -> Option<u32> {
        if let Some(id) = self.ids.get(ty) {
            return Some(*id);
        }
        if self.types.len() >= most {
            return None;
        }
        let id = u32::try_from(self.types.len()).ok()?;
        self.types.push(ty.clone());
        self.ids.insert(ty.clone(), id);
        Some(id)
    }
}

impl Engine {
    /// An engine with these settings.
    pub fn new(config: Config) -> Engine {
        Engine(Arc::new(EngineInner {
            config,
            types: Mutex::default(),
            names: NameHasher::default(),
        }))
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Whether two handles are the same engine.
    pub fn same(&self, other: &Engine) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// How all its modules hash the names of symbols.
    pub(crate) fn names(&self) -> NameHasher {
        self.0.names
    }

    /// The canonical id of a function type of the host: equal types, equal ids, engine-wide.
    pub(crate) fn type_id(&self, ty: &FuncType) -> u32 {
        let mut table = self.0.types.lock().unwrap_or_else(PoisonError::into_inner);
        // The limit is for what modules ask for: their types must not keep the host from having its own.
        table
            .id(ty, MOST_TYPES)
            .unwrap_or_else(|| panic!("an engine had {MOST_TYPES} types of functions"))
    }

    /// The canonical ids of the function types of a module.
    ///
    /// # Errors
    /// The modules of this engine have more distinct types than [`Limits::function_types`].
    pub(crate) fn type_ids(&self, types: &[FuncType]) -> Result<Vec<u32>> {
        let most = self.config().limits.function_types.min(MOST_TYPES);
        let mut table = self.0.types.lock().unwrap_or_else(PoisonError::into_inner);
        types
            .iter()
            .map(|ty| {
                table.id(ty, most).ok_or_else(|| {
                    Error::new(ErrorKind::Limit {
                        what: "function types of all modules of an engine \
                               (Limits::function_types; a new engine starts without any)"
                            .to_owned(),
                        needed: most as u64 + 1,
                        allowed: most as u64,
                    })
                })
            })
            .collect()
    }

    /// What `f` says of the types behind two canonical ids; false for ids that this engine does not have.
    pub(crate) fn with_types(
        &self,
        a: u32,
        b: u32,
        f: impl FnOnce(&FuncType, &FuncType) -> bool,
    ) -> bool {
        let table = self.0.types.lock().unwrap_or_else(PoisonError::into_inner);
        match (table.types.get(a as usize), table.types.get(b as usize)) {
            (Some(a), Some(b)) => f(a, b),
            _ => false,
        }
    }

    /// The type behind a canonical id.
    pub(crate) fn type_of(&self, id: u32) -> Option<FuncType> {
        let table = self.0.types.lock().unwrap_or_else(PoisonError::into_inner);
        table.types.get(id as usize).cloned()
    }
}

impl Default for Engine {
    fn default() -> Engine {
        Engine::new(Config::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::{Module, ValType};

    #[test]
    fn the_types_of_all_modules_of_an_engine_are_limited_and_those_of_the_host_are_not() {
        let mut config = Config::default();
        config.limits.function_types = 2;
        let engine = Engine::new(config);
        let module = |text: &str| {
            let bytes = wat::parse_str(text).unwrap();
            Module::new(&engine, &bytes).map(drop)
        };
        module("(module (type (func)) (type (func (param i32))))").unwrap();
        module("(module (type (func (param i32))) (type (func)) (type (func)))").unwrap();
        let error = module("(module (type (func)) (type (func (param i64))))").unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Limit {
                    needed: 3,
                    allowed: 2,
                    ..
                }
            ),
            "{error}"
        );
        let own = FuncType::new([ValType::I64], []);
        let id = engine.type_id(&own);
        assert_eq!(engine.type_of(id), Some(own));
        // A type that there is already costs nothing.
        module("(module (type (func (param i64))))").unwrap();
    }
}
