//! wasm3: C, compiled by the machine's C compiler. One module a store: it cannot link a main and a side module.

use super::{Engine, Program, Session};
use crate::Outcome;
use crate::workloads::Workload;
use wasm3x::{CompilationMode, Config, Instance, Linker, Module, Store, TypedFunc};

pub struct Wasm3;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

struct Compiled {
    engine: wasm3x::Engine,
    module: Module,
}

struct Running {
    store: Store<()>,
    run: TypedFunc<i32, i64>,
}

fn engine(mode: CompilationMode) -> wasm3x::Engine {
    let mut config = Config::new();
    config.stack_size(8 << 20).compilation_mode(mode);
    wasm3x::Engine::new(&config)
}

impl Engine for Wasm3 {
    fn name(&self) -> &'static str {
        "wasm3"
    }
    fn version(&self) -> String {
        "wasm3 0.9.0 (wasm3x 0.2.1)".to_owned()
    }
    fn compile(&self, modules: &[Vec<u8>]) -> Outcome<Box<dyn Program>> {
        let [module] = modules else {
            return Err("cannot link two modules through a shared memory and table".to_owned());
        };
        let engine = engine(CompilationMode::Lazy);
        let module = Module::new(&engine, module).map_err(text)?;
        Ok(Box::new(Compiled { engine, module }))
    }
    fn load(&self, bytes: &[u8], _mode: &str) -> Outcome<Box<dyn std::any::Any>> {
        Ok(Box::new(
            Module::new(&engine(CompilationMode::Lazy), bytes).map_err(text)?,
        ))
    }
    fn load_modes(&self) -> &'static [&'static str] {
        &["parse only, not validated"]
    }
}

impl Program for Compiled {
    fn start(&self, _workload: &Workload) -> Outcome<Box<dyn Session>> {
        let mut store = Store::new(&self.engine, ());
        let linker = Linker::<()>::new(&self.engine);
        let instance: Instance = linker
            .instantiate_and_start(&mut store, &self.module)
            .map_err(text)?;
        if let Some(attach) = instance.get_func(&store, "attach") {
            let api = instance
                .get_typed_func::<(), i32>(&store, "side_api")
                .map_err(text)?;
            let api = api.call(&mut store, ()).map_err(text)?;
            let attach = attach.typed::<i32, ()>(&store).map_err(text)?;
            attach.call(&mut store, api).map_err(text)?;
        }
        let run = instance
            .get_typed_func::<i32, i64>(&store, "run")
            .map_err(text)?;
        Ok(Box::new(Running { store, run }))
    }
}

impl Session for Running {
    fn run(&mut self, n: i32) -> Outcome<u64> {
        self.run
            .call(&mut self.store, n)
            .map(|value| value as u64)
            .map_err(text)
    }
}
