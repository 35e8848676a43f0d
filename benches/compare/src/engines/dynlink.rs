//! The engine of this project, through its public API. The pair is linked by hand as for the peers, so that the same thing is measured.

use super::{Engine, Program, Session};
use crate::Outcome;
use crate::link::World;
use crate::workloads::Workload;
use dynlink::{Config, Extern, Global, GlobalType, Instance, Module, Ref, Store, Val, ValType};

pub struct Dynlink;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

struct Compiled {
    engine: dynlink::Engine,
    modules: Vec<Module>,
}

struct Instances {
    store: Store<()>,
    modules: Vec<Module>,
}

impl Engine for Dynlink {
    fn name(&self) -> &'static str {
        "dynlink"
    }
    fn version(&self) -> String {
        "this work tree".to_owned()
    }
    fn compile(&self, modules: &[Vec<u8>]) -> Outcome<Box<dyn Program>> {
        let engine = dynlink::Engine::new(Config::default());
        let modules = modules
            .iter()
            .map(|bytes| Module::new(&engine, bytes).map_err(text))
            .collect::<Outcome<_>>()?;
        Ok(Box::new(Compiled { engine, modules }))
    }
    fn load(&self, bytes: &[u8], mode: &str) -> Outcome<Box<dyn std::any::Any>> {
        let config = Config {
            lazy_validation: mode == "lazy",
            ..Config::default()
        };
        Ok(Box::new(
            Module::new(&dynlink::Engine::new(config), bytes).map_err(text)?,
        ))
    }
    fn load_modes(&self) -> &'static [&'static str] {
        &["lazy translation, validated", "lazy"]
    }
}

impl Program for Compiled {
    fn start(&self, workload: &Workload) -> Outcome<Box<dyn Session>> {
        super::start(
            Instances {
                store: Store::new(&self.engine, ()),
                modules: self.modules.clone(),
            },
            workload,
        )
    }
}

impl World for Instances {
    type Item = Extern;
    type Instance = Instance;

    fn instantiate(
        &mut self,
        module: usize,
        imports: &[(String, String, Extern)],
    ) -> Outcome<Instance> {
        let imports: Vec<Extern> = imports.iter().map(|(_, _, item)| *item).collect();
        Instance::new(&mut self.store, &self.modules[module], &imports).map_err(text)
    }
    fn export(&mut self, instance: &Instance, name: &str) -> Option<Extern> {
        instance.get_export(&mut self.store, name)
    }
    fn new_global(&mut self, value: i32, mutable: bool) -> Outcome<Extern> {
        if mutable {
            // An entry of the global offset table: what the engine's own linker makes of those, too.
            return Global::cell(&mut self.store, value)
                .map(Extern::Global)
                .map_err(text);
        }
        let ty = GlobalType {
            value: ValType::I32,
            mutable,
        };
        Global::new(&mut self.store, ty, Val::I32(value))
            .map(Extern::Global)
            .map_err(text)
    }
    fn read_global(&mut self, global: &Extern) -> Outcome<i32> {
        let global = global.into_global().ok_or("not a global")?;
        global
            .get(&mut self.store)
            .i32()
            .ok_or_else(|| "not an i32".to_owned())
    }
    fn write_global(&mut self, global: &Extern, value: i32) -> Outcome<()> {
        let global = global.into_global().ok_or("not a global")?;
        global.set(&mut self.store, Val::I32(value)).map_err(text)
    }
    fn grow_memory(&mut self, memory: &Extern, pages: u32) -> Outcome<u32> {
        let memory = memory.into_memory().ok_or("not a memory")?;
        memory
            .grow(&mut self.store, u64::from(pages))
            .map(|pages| pages as u32)
            .map_err(text)
    }
    fn grow_table(&mut self, table: &Extern, elements: u32) -> Outcome<u32> {
        let table = table.into_table().ok_or("not a table")?;
        table
            .grow(&mut self.store, u64::from(elements), Ref::Func(None))
            .map(|size| size as u32)
            .map_err(text)
    }
    fn set_table(&mut self, table: &Extern, index: u32, function: &Extern) -> Outcome<()> {
        let table = table.into_table().ok_or("not a table")?;
        let function = function.into_func().ok_or("not a function")?;
        table
            .set(&mut self.store, u64::from(index), Ref::Func(Some(function)))
            .map_err(text)
    }
    fn call(&mut self, function: &Extern, argument: Option<i32>) -> Outcome<u64> {
        let function = function.into_func().ok_or("not a function")?;
        let arguments: Vec<Val> = argument.into_iter().map(Val::I32).collect();
        let mut results: Vec<Val> = function
            .ty(&self.store)
            .results()
            .iter()
            .map(|ty| Val::default_for(*ty))
            .collect();
        function
            .call(&mut self.store, &arguments, &mut results)
            .map_err(text)?;
        Ok(match results.first() {
            Some(Val::I32(value)) => u64::from(*value as u32),
            Some(Val::I64(value)) => *value as u64,
            _ => 0,
        })
    }
}
