//! The choices that differ between the worlds that programs come from, and the limits of a process.
#![forbid(unsafe_code)]

/// Whose definition wins when several objects define a symbol (rule R2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SymbolOrder {
    /// As ELF: the main module, then the global scope in load order, then the importer's local scope.
    #[default]
    Elf,
    /// The importer's own definition, then as ELF. cowasm's libraries rely on it for their data.
    OwnFirst,
}

/// What happens to functions that nobody defines (rules R9, B3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UndefinedFunctions {
    /// `RTLD_NOW` fails and lists them all; under `RTLD_LAZY` a call looks again and traps if there is still none.
    #[default]
    ByFlags,
    /// A call looks again and traps if there is still none, whatever the flags say (emscripten).
    Trap,
}

/// What a trap in a constructor is (rule D15). The state of the process is as before the load in both cases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConstructorTrap {
    /// A trap of the code that called `dlopen`.
    #[default]
    Propagates,
    /// A failed `dlopen`: the guest gets NULL and a text. Interruption, used-up fuel and exits still propagate.
    FailsTheLoad,
}

/// Choices and limits of one process.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Whose definition wins.
    pub symbol_order: SymbolOrder,
    /// What happens to functions that nobody defines.
    pub undefined_functions: UndefinedFunctions,
    /// The address of a function that nobody defines is null instead of an error (emscripten).
    pub undefined_addresses_are_null: bool,
    /// What a trap in a constructor is.
    pub constructor_trap: ConstructorTrap,
    /// At startup, undefined functions are errors (as with `LD_BIND_NOW`); else calls of them trap.
    pub bind_now: bool,
    /// Every library is visible to all others, whatever the flags of `dlopen` say (cowasm).
    pub all_global: bool,
    /// Guests may import `env.dlopen`, `dlsym`, `dlclose`, `dlerror` and `dladdr`.
    pub dl_functions: bool,
    /// Bytes of the C stack where the linker allocates it: for position-independent main modules, and for the libraries
    /// of a main module that keeps its own stack pointer to itself. Default: 1 MiB.
    pub stack_bytes: u32,
    /// Least number of pages of a memory that the linker creates. Default: 0, only what the modules ask for.
    pub memory_pages: u64,
    /// Least number of elements of a table that the linker creates. Default: 0.
    pub table_elements: u64,
    /// Most libraries in one process, counting those that failed or were closed after their code had run. Default:
    /// 20,000.
    pub max_libraries: usize,
    /// Most entries of one library's list of needed ones. Default: 10,000.
    pub max_needed: usize,
    /// Most directories in one library's runtime path. Default: 256.
    pub max_runtime_path: usize,
    /// Functions of the host that libraries may have been bound to before another one is refused; each is made once and
    /// stays. Default: 100,000.
    pub max_host_functions: usize,
    /// Most paths at which one load looks for needed libraries. Default: 250,000.
    pub max_searched: usize,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            symbol_order: SymbolOrder::Elf,
            undefined_functions: UndefinedFunctions::ByFlags,
            undefined_addresses_are_null: false,
            constructor_trap: ConstructorTrap::Propagates,
            bind_now: true,
            all_global: false,
            dl_functions: true,
            stack_bytes: 1 << 20,
            memory_pages: 0,
            table_elements: 0,
            max_libraries: 20_000,
            max_needed: 10_000,
            max_runtime_path: 256,
            max_host_functions: 100_000,
            max_searched: 250_000,
        }
    }
}

impl Profile {
    /// WASI and other standalone programs: ELF's rules.
    pub fn wasi() -> Profile {
        Profile::default()
    }

    /// The main module and libraries of cowasm: own definitions win, all libraries see each other, one stack of 8 MiB
    /// for all libraries.
    pub fn cowasm() -> Profile {
        Profile {
            symbol_order: SymbolOrder::OwnFirst,
            all_global: true,
            stack_bytes: 8 << 20,
            memory_pages: 160,
            table_elements: 10_000,
            constructor_trap: ConstructorTrap::FailsTheLoad,
            ..Profile::default()
        }
    }

    /// Programs of emscripten: undefined functions trap when called, undefined addresses are null; 5 MiB of C stack, as
    /// version 3.1.6 has.
    pub fn emscripten() -> Profile {
        Profile {
            stack_bytes: 5 << 20,
            undefined_functions: UndefinedFunctions::Trap,
            undefined_addresses_are_null: true,
            bind_now: false,
            ..Profile::default()
        }
    }
}
