//! What guests may call: one kernel, with WASI preview 1, the cowasm and the emscripten profile on it.
//!
//! - `kernel.rs`: the process (arguments, environment, descriptors, mounts, clocks, randomness) and its builder;
//!   `files.rs` and `paths.rs`: its operations on descriptors and paths; `descriptor.rs`: the descriptor table
//! - `fs/`: file systems and the walk along paths
//! - `stream.rs`, `clock.rs`, `random.rs`, `errno.rs`: what their names say
//! - `guest.rs`: checked access to guest memory; `entry.rs`: the call of C's `main`
//! - `wasi/`: WASI preview 1
//! - `cowasm/`: what programs of cowasm import besides
//! - `emscripten/`: what programs of emscripten import
//! - `symbols.rs`: all that as the dynamic linker asks for it

#![forbid(unsafe_code)]

pub(crate) mod clock;
pub mod cowasm;
pub(crate) mod descriptor;
pub mod emscripten;
pub(crate) mod entry;
pub(crate) mod errno;
pub(crate) mod files;
pub mod fs;
pub(crate) mod guest;
pub(crate) mod kernel;
pub(crate) mod paths;
pub(crate) mod random;
pub(crate) mod stream;
mod symbols;
pub mod wasi;

pub use clock::Clock;
pub use errno::Errno;
pub use fs::Mount;
pub use guest::GuestMemory;
pub use kernel::{Kernel, KernelBuilder};
pub use stream::Pipe;
pub use symbols::{KernelFiles, KernelHost, WasiSymbols};
