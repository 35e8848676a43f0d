//! What every engine must be able to do, and the list of engines.

#[cfg(feature = "dynlink")]
mod dynlink;
#[cfg(feature = "silverfir")]
mod silverfir;
#[cfg(feature = "stitch")]
mod stitch;
#[cfg(feature = "tinywasm")]
mod tinywasm;
#[cfg(feature = "wamr")]
mod wamr;
#[cfg(feature = "wasm3")]
mod wasm3;
#[cfg(feature = "wasmi")]
mod wasmi;
#[cfg(feature = "wasmtime")]
mod wasmtime;

use crate::Outcome;
use crate::link::World;
use crate::workloads::Workload;

/// An engine with fixed settings.
pub trait Engine {
    /// Name in tables and for `--engines`.
    fn name(&self) -> &'static str;
    /// Version of the engine that is measured.
    fn version(&self) -> String;
    /// Parses, validates and, where the engine does so ahead of time, compiles.
    fn compile(&self, modules: &[Vec<u8>]) -> Outcome<Box<dyn Program>>;
    /// Loads one module until it is ready to be instantiated, in one of the engine's `load_modes`; gives it back so that it stays in memory.
    fn load(&self, bytes: &[u8], mode: &str) -> Outcome<Box<dyn std::any::Any>>;
    /// Ways of loading a module, for the `load` subcommand. The first one is the engine's default.
    fn load_modes(&self) -> &'static [&'static str];
}

/// A compiled workload.
pub trait Program {
    /// A fresh instance, linked and initialised.
    fn start(&self, workload: &Workload) -> Outcome<Box<dyn Session>>;
}

/// A running workload.
pub trait Session {
    /// Calls the export `run`.
    fn run(&mut self, n: i32) -> Outcome<u64>;
}

/// A `World` with its entry function.
struct Running<W: World> {
    world: W,
    run: W::Item,
}

impl<W: World> Session for Running<W> {
    fn run(&mut self, n: i32) -> Outcome<u64> {
        self.world.call(&self.run, Some(n))
    }
}

/// Starts a workload in an empty world.
fn start<W: World + 'static>(mut world: W, workload: &Workload) -> Outcome<Box<dyn Session>> {
    let run = crate::link::start(&mut world, &workload.modules)?;
    Ok(Box::new(Running { world, run }))
}

/// All engines of this build: ours first, then the references.
pub fn all() -> Vec<Box<dyn Engine>> {
    let mut engines: Vec<Box<dyn Engine>> = Vec::new();
    #[cfg(feature = "dynlink")]
    engines.push(Box::new(dynlink::Dynlink));
    #[cfg(feature = "wasmtime")]
    {
        engines.push(Box::new(wasmtime::Wasmtime::CRANELIFT));
        engines.push(Box::new(wasmtime::Wasmtime::PULLEY));
    }
    #[cfg(feature = "wasmi")]
    engines.push(Box::new(wasmi::Wasmi));
    #[cfg(feature = "silverfir")]
    engines.push(Box::new(silverfir::Silverfir));
    #[cfg(feature = "stitch")]
    engines.push(Box::new(stitch::Stitch));
    #[cfg(feature = "wasm3")]
    engines.push(Box::new(wasm3::Wasm3));
    #[cfg(feature = "wamr")]
    engines.push(Box::new(wamr::Wamr));
    #[cfg(feature = "tinywasm")]
    engines.push(Box::new(tinywasm::Tinywasm));
    engines
}
