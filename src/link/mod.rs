//! The dynamic linker: a main module and its libraries as one process.
//!
//! A [`Process`] is one memory, one table, one C stack pointer and a set of *objects*: the main module and libraries with
//! a `dylink.0` (or older `dylink`) section. [`Process::start`] loads the main module and all that it needs;
//! [`Process::dlopen`] and the guest's own `dlopen` load more.
//!
//! # A load
//!
//! A load is a *plan* and then a *commit*. The plan (`plan.rs`, `bind.rs`) finds files, parses, orders, checks limits and
//! binds every import to a definition, without any effect; it reports all problems at once. The commit (`load.rs`)
//! reserves, instantiates, fills the GOT, relocates, and runs constructors. Whatever fails, `undo.rs` brings the process
//! back to where it was, and the same load fails the same way again.
//!
//! What the process knows is plain data behind a lock (`state.rs`) that is never held while guest code runs, so that a
//! constructor may call `dlopen` itself.
//!
//! # Map
//!
//! | file | concept |
//! |---|---|
//! | `process.rs` | the handle, its builder, host symbols, information for embedders |
//! | `host_linker.rs`, `host_functions.rs` | a `Linker` as the host symbols of a process; functions of the host in use |
//! | `profile.rs` | choices and limits |
//! | `search.rs` | names, search paths, files |
//! | `graph.rs` | walks over NEEDED without recursion |
//! | `main_module.rs` | the shapes of main modules |
//! | `symbols.rs`, `pointer_exports.rs` | what an object defines |
//! | `plan.rs`, `bind.rs`, `importer.rs`, `lookup.rs` | the plan of a load |
//! | `problems.rs`, `near.rs` | what is wrong with a load, and what is nearly right |
//! | `dry.rs`, `dry_layout.rs` | a load that is only planned |
//! | `load.rs`, `place.rs`, `relocate.rs`, `segments.rs`, `memory.rs`, `layout.rs` | carrying it out |
//! | `got.rs`, `cells.rs`, `address.rs` | cells, their values, addresses, one table index for each function |
//! | `waiting_slots.rs` | functions of libraries in the main module's element segments |
//! | `late.rs` | functions that are found at their first call |
//! | `exit_handlers.rs` | what libraries register with `atexit` |
//! | `undo.rs` | failed loads, destructors, unloading |
//! | `dl.rs`, `abi.rs`, `headers.rs` | `dlopen` and its family, for embedders and guests |
//! | `remedy.rs` | what to do about names that nobody defines |
//! | `trace.rs`, `duplicates.rs`, `statistics.rs` | `LD_DEBUG` |
//! | `map.rs` | who lies where, for tools |
//! | `symbol_list.rs` | the symbols of a file, for tools |
#![doc = ""]
#![doc = include_str!("rules.md")]
#![forbid(unsafe_code)]

mod abi;
mod address;
mod bind;
mod cells;
mod dl;
mod dry;
mod dry_layout;
mod duplicates;
mod exit_handlers;
mod got;
mod graph;
mod headers;
mod host_functions;
mod host_linker;
mod importer;
mod late;
mod layout;
mod load;
mod lookup;
mod main_module;
mod map;
mod memory;
mod near;
mod object;
mod place;
mod plan;
mod pointer_exports;
mod problems;
mod process;
mod profile;
mod relocate;
mod remedy;
mod search;
mod segments;
mod state;
mod statistics;
mod symbol_list;
mod symbols;
mod trace;
mod undo;
mod waiting_slots;

#[cfg(test)]
mod tests;

pub use dl::{AddressInfo, OpenFlags, RTLD_DEFAULT, RTLD_NEXT};
pub use dry::{Base, DryNeeded, DryObject, DryRun};
pub use map::{MapObject, MapRange, ProcessMap, Purpose};
#[cfg(feature = "cli")]
pub(crate) use near::edit_distance;
#[cfg(feature = "host")]
pub(crate) use object::ObjectId;
pub use problems::{Near, Problem, ProblemKind, SymbolKind, WantedSymbol};
pub use process::{HostSymbols, LibraryInfo, NoHostSymbols, Process, ProcessBuilder};
pub use profile::{ConstructorTrap, Profile, SymbolOrder, UndefinedFunctions};
pub use search::{Files, FoundFile, HostFiles, MemoryFiles};
pub use statistics::LinkStatistics;
pub use symbol_list::{SymbolClass, SymbolEntry, symbols_of};
pub use trace::{TraceSink, TraceTopics};
