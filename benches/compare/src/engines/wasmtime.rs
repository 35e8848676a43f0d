//! wasmtime: Cranelift's native code, and the same code generator for the Pulley bytecode interpreter.

use super::{Engine, Program, Session};
use crate::Outcome;
use crate::link::World;
use crate::workloads::Workload;
use wasmtime::{
    Config, Extern, Global, GlobalType, Instance, Module, Mutability, Ref, Store, Val, ValType,
};

/// wasmtime for one target.
pub struct Wasmtime {
    name: &'static str,
    target: Option<&'static str>,
}

impl Wasmtime {
    pub const CRANELIFT: Wasmtime = Wasmtime {
        name: "cranelift",
        target: None,
    };
    pub const PULLEY: Wasmtime = Wasmtime {
        name: "pulley",
        target: Some("pulley64"),
    };

    fn engine(&self) -> Outcome<wasmtime::Engine> {
        let mut config = Config::new();
        if let Some(target) = self.target {
            config.target(target).map_err(text)?;
        }
        wasmtime::Engine::new(&config).map_err(text)
    }
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

struct Compiled {
    engine: wasmtime::Engine,
    modules: Vec<Module>,
}

struct Instances {
    store: Store<()>,
    modules: Vec<Module>,
}

impl Engine for Wasmtime {
    fn name(&self) -> &'static str {
        self.name
    }
    fn version(&self) -> String {
        "wasmtime 48.0.8".to_owned()
    }
    fn compile(&self, modules: &[Vec<u8>]) -> Outcome<Box<dyn Program>> {
        let engine = self.engine()?;
        let modules = modules
            .iter()
            .map(|bytes| Module::new(&engine, bytes).map_err(text))
            .collect::<Outcome<_>>()?;
        Ok(Box::new(Compiled { engine, modules }))
    }
    fn load(&self, bytes: &[u8], _mode: &str) -> Outcome<Box<dyn std::any::Any>> {
        Ok(Box::new(Module::new(&self.engine()?, bytes).map_err(text)?))
    }
    fn load_modes(&self) -> &'static [&'static str] {
        &["compile, one thread"]
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
        let imports: Vec<Extern> = imports.iter().map(|(_, _, item)| item.clone()).collect();
        Instance::new(&mut self.store, &self.modules[module], &imports).map_err(text)
    }
    fn export(&mut self, instance: &Instance, name: &str) -> Option<Extern> {
        instance.get_export(&mut self.store, name)
    }
    fn new_global(&mut self, value: i32, mutable: bool) -> Outcome<Extern> {
        let mutability = if mutable {
            Mutability::Var
        } else {
            Mutability::Const
        };
        let ty = GlobalType::new(ValType::I32, mutability);
        Ok(Global::new(&mut self.store, ty, Val::I32(value))
            .map_err(text)?
            .into())
    }
    fn read_global(&mut self, global: &Extern) -> Outcome<i32> {
        let global = global.clone().into_global().ok_or("not a global")?;
        global
            .get(&mut self.store)
            .i32()
            .ok_or_else(|| "not an i32".to_owned())
    }
    fn write_global(&mut self, global: &Extern, value: i32) -> Outcome<()> {
        let global = global.clone().into_global().ok_or("not a global")?;
        global.set(&mut self.store, Val::I32(value)).map_err(text)
    }
    fn grow_memory(&mut self, memory: &Extern, pages: u32) -> Outcome<u32> {
        let memory = memory.clone().into_memory().ok_or("not a memory")?;
        memory
            .grow(&mut self.store, u64::from(pages))
            .map(|pages| pages as u32)
            .map_err(text)
    }
    fn grow_table(&mut self, table: &Extern, elements: u32) -> Outcome<u32> {
        let table = table.clone().into_table().ok_or("not a table")?;
        table
            .grow(&mut self.store, u64::from(elements), Ref::Func(None))
            .map(|size| size as u32)
            .map_err(text)
    }
    fn set_table(&mut self, table: &Extern, index: u32, function: &Extern) -> Outcome<()> {
        let table = table.clone().into_table().ok_or("not a table")?;
        let function = function.clone().into_func().ok_or("not a function")?;
        table
            .set(&mut self.store, u64::from(index), Ref::Func(Some(function)))
            .map_err(text)
    }
    fn call(&mut self, function: &Extern, argument: Option<i32>) -> Outcome<u64> {
        let function = function.clone().into_func().ok_or("not a function")?;
        let arguments: Vec<Val> = argument.into_iter().map(Val::I32).collect();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
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
