//! wasmi: the reference among portable interpreters.

use super::{Engine, Program, Session};
use crate::Outcome;
use crate::link::World;
use crate::workloads::Workload;
use wasmi::{
    CompilationMode, Config, Extern, Global, Instance, Linker, Module, Mutability, Nullable, Ref,
    Store, Val,
};

pub struct Wasmi;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

struct Compiled {
    engine: wasmi::Engine,
    modules: Vec<Module>,
}

struct Instances {
    store: Store<()>,
    modules: Vec<Module>,
}

impl Engine for Wasmi {
    fn name(&self) -> &'static str {
        "wasmi"
    }
    fn version(&self) -> String {
        "wasmi 2.0.0".to_owned()
    }
    fn compile(&self, modules: &[Vec<u8>]) -> Outcome<Box<dyn Program>> {
        // Deep recursion is part of the workloads; the default limit is 1,000 frames.
        let mut config = Config::default();
        config
            .set_max_recursion_depth(1_000_000)
            .set_max_stack_height(64 << 20);
        let engine = wasmi::Engine::new(&config);
        let modules = modules
            .iter()
            .map(|bytes| Module::new(&engine, bytes).map_err(text))
            .collect::<Outcome<_>>()?;
        Ok(Box::new(Compiled { engine, modules }))
    }
    fn load(&self, bytes: &[u8], mode: &str) -> Outcome<Box<dyn std::any::Any>> {
        let mut config = Config::default();
        config.compilation_mode(match mode {
            "eager" => CompilationMode::Eager,
            "lazy" => CompilationMode::Lazy,
            _ => CompilationMode::LazyTranslation,
        });
        let engine = wasmi::Engine::new(&config);
        Ok(Box::new(Module::new(&engine, bytes).map_err(text)?))
    }
    fn load_modes(&self) -> &'static [&'static str] {
        &["lazy translation, validated", "eager", "lazy"]
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
        let mut linker = Linker::new(self.store.engine());
        for (module, name, item) in imports {
            linker.define(module, name, *item).map_err(text)?;
        }
        linker
            .instantiate_and_start(&mut self.store, &self.modules[module])
            .map_err(text)
    }
    fn export(&mut self, instance: &Instance, name: &str) -> Option<Extern> {
        instance.get_export(&self.store, name)
    }
    fn new_global(&mut self, value: i32, mutable: bool) -> Outcome<Extern> {
        let mutability = if mutable {
            Mutability::Var
        } else {
            Mutability::Const
        };
        Ok(Extern::Global(Global::new(
            &mut self.store,
            Val::I32(value),
            mutability,
        )))
    }
    fn read_global(&mut self, global: &Extern) -> Outcome<i32> {
        let global = global.clone().into_global().ok_or("not a global")?;
        global
            .get(&self.store)
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
            .grow(
                &mut self.store,
                u64::from(elements),
                Ref::Func(Nullable::Null),
            )
            .map(|size| size as u32)
            .map_err(text)
    }
    fn set_table(&mut self, table: &Extern, index: u32, function: &Extern) -> Outcome<()> {
        let table = table.clone().into_table().ok_or("not a table")?;
        let function = function.clone().into_func().ok_or("not a function")?;
        table
            .set(
                &mut self.store,
                u64::from(index),
                Ref::Func(Nullable::Val(function)),
            )
            .map_err(text)
    }
    fn call(&mut self, function: &Extern, argument: Option<i32>) -> Outcome<u64> {
        let function = function.clone().into_func().ok_or("not a function")?;
        let arguments: Vec<Val> = argument.into_iter().map(Val::I32).collect();
        let mut results: Vec<Val> = function
            .ty(&self.store)
            .results()
            .iter()
            .map(|ty| Val::default_for_ty(*ty))
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
