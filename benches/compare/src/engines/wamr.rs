//! WAMR's fast interpreter: C, compiled by the machine's C compiler. An indirect call goes to a function of the calling
//! module, and instances do not share a table: it cannot link a main and a side module.

use super::{Engine, Program, Session};
use crate::Outcome;
use crate::workloads::Workload;
use wamrx::{Instance, InstanceConfig, Linker, Module, Val};

pub struct Wamr;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

struct Compiled {
    engine: wamrx::Engine,
    bytes: Vec<u8>,
}

struct Running {
    instance: Instance,
}

fn call(instance: &Instance, name: &str, arguments: &[Val], result: Val) -> Outcome<Val> {
    let mut results = [result];
    let function = instance.get_func(name).map_err(text)?;
    let count = function.ty().results().len();
    function
        .call(arguments, &mut results[..count])
        .map_err(text)?;
    Ok(results[0])
}

impl Engine for Wamr {
    fn name(&self) -> &'static str {
        "wamr"
    }
    fn version(&self) -> String {
        "WAMR fast interpreter (wamrx 0.3.0)".to_owned()
    }
    fn compile(&self, modules: &[Vec<u8>]) -> Outcome<Box<dyn Program>> {
        let [module] = modules else {
            return Err("cannot link two modules through a shared memory and table".to_owned());
        };
        let engine = wamrx::Engine::new().map_err(text)?;
        Module::new(&engine, module).map_err(text)?;
        Ok(Box::new(Compiled {
            engine,
            bytes: module.clone(),
        }))
    }
    fn load(&self, bytes: &[u8], _mode: &str) -> Outcome<Box<dyn std::any::Any>> {
        let engine = wamrx::Engine::new().map_err(text)?;
        Ok(Box::new(Module::new(&engine, bytes).map_err(text)?))
    }
    fn load_modes(&self) -> &'static [&'static str] {
        &["eager"]
    }
}

impl Program for Compiled {
    fn start(&self, _workload: &Workload) -> Outcome<Box<dyn Session>> {
        let module = Module::new(&self.engine, &self.bytes).map_err(text)?;
        let mut config = InstanceConfig::new();
        config.exec_stack_size(64 << 20);
        let instance = Linker::new(&self.engine)
            .instantiate_with(module, &config)
            .map_err(text)?;
        if instance.get_func("attach").is_ok() {
            let api = call(&instance, "side_api", &[], Val::I32(0))?;
            call(&instance, "attach", &[api], Val::I32(0))?;
        }
        Ok(Box::new(Running { instance }))
    }
}

impl Session for Running {
    fn run(&mut self, n: i32) -> Outcome<u64> {
        match call(&self.instance, "run", &[Val::I32(n)], Val::I64(0))? {
            Val::I64(value) => Ok(value as u64),
            Val::I32(value) => Ok(u64::from(value as u32)),
            _ => Err("a result of another type".to_owned()),
        }
    }
}
