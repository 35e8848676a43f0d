//! makepad-stitch, as published. Its compiler panics on some ordinary modules; the runner reports that as the reason.

use super::{Engine, Program, Session};
use crate::Outcome;
use crate::link::World;
use crate::workloads::Workload;
use makepad_stitch::{
    ExternVal, FuncRef, Global, GlobalType, Instance, Linker, Module, Mut, Ref, Store, Val, ValType,
};
use std::sync::Arc;

pub struct Stitch;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

struct Compiled {
    engine: makepad_stitch::Engine,
    modules: Arc<Vec<Module>>,
}

struct Instances {
    store: Store,
    modules: Arc<Vec<Module>>,
}

impl Engine for Stitch {
    fn name(&self) -> &'static str {
        "stitch"
    }
    fn version(&self) -> String {
        "makepad-stitch 0.1.0".to_owned()
    }
    fn compile(&self, modules: &[Vec<u8>]) -> Outcome<Box<dyn Program>> {
        let engine = makepad_stitch::Engine::new();
        let modules = modules
            .iter()
            .map(|bytes| Module::new(&engine, bytes).map_err(text))
            .collect::<Outcome<_>>()?;
        Ok(Box::new(Compiled {
            engine,
            modules: Arc::new(modules),
        }))
    }
    fn load(&self, bytes: &[u8], _mode: &str) -> Outcome<Box<dyn std::any::Any>> {
        Ok(Box::new(
            Module::new(&makepad_stitch::Engine::new(), bytes).map_err(text)?,
        ))
    }
    fn load_modes(&self) -> &'static [&'static str] {
        &["lazy translation, validated"]
    }
}

impl Program for Compiled {
    fn start(&self, workload: &Workload) -> Outcome<Box<dyn Session>> {
        super::start(
            Instances {
                store: Store::new(self.engine.clone()),
                modules: self.modules.clone(),
            },
            workload,
        )
    }
}

impl World for Instances {
    type Item = ExternVal;
    type Instance = Instance;

    fn instantiate(
        &mut self,
        module: usize,
        imports: &[(String, String, ExternVal)],
    ) -> Outcome<Instance> {
        let mut linker = Linker::new();
        for (module, name, item) in imports {
            linker.define(module, name, *item);
        }
        linker
            .instantiate(&mut self.store, &self.modules[module])
            .map_err(text)
    }
    fn export(&mut self, instance: &Instance, name: &str) -> Option<ExternVal> {
        instance.exported_val(name)
    }
    fn new_global(&mut self, value: i32, mutable: bool) -> Outcome<ExternVal> {
        let ty = GlobalType {
            mut_: if mutable { Mut::Var } else { Mut::Const },
            val: ValType::I32,
        };
        Global::new(&mut self.store, ty, Val::I32(value))
            .map(ExternVal::Global)
            .map_err(text)
    }
    fn read_global(&mut self, global: &ExternVal) -> Outcome<i32> {
        let global = global.to_global().ok_or("not a global")?;
        global
            .get(&self.store)
            .to_i32()
            .ok_or_else(|| "not an i32".to_owned())
    }
    fn write_global(&mut self, global: &ExternVal, value: i32) -> Outcome<()> {
        let global = global.to_global().ok_or("not a global")?;
        global.set(&mut self.store, Val::I32(value)).map_err(text)
    }
    fn grow_memory(&mut self, memory: &ExternVal, pages: u32) -> Outcome<u32> {
        let memory = memory.to_mem().ok_or("not a memory")?;
        memory.grow(&mut self.store, pages).map_err(text)
    }
    fn grow_table(&mut self, table: &ExternVal, elements: u32) -> Outcome<u32> {
        let table = table.to_table().ok_or("not a table")?;
        let before = table.size(&self.store);
        table
            .grow(&mut self.store, Ref::FuncRef(FuncRef::null()), elements)
            .map_err(text)?;
        Ok(before)
    }
    fn set_table(&mut self, table: &ExternVal, index: u32, function: &ExternVal) -> Outcome<()> {
        let table = table.to_table().ok_or("not a table")?;
        let function = function.to_func().ok_or("not a function")?;
        table
            .set(&mut self.store, index, Ref::FuncRef(FuncRef::new(function)))
            .map_err(text)
    }
    fn call(&mut self, function: &ExternVal, argument: Option<i32>) -> Outcome<u64> {
        let function = function.to_func().ok_or("not a function")?;
        let arguments: Vec<Val> = argument.into_iter().map(Val::I32).collect();
        let mut results: Vec<Val> = function
            .type_(&self.store)
            .results()
            .iter()
            .map(|ty| Val::default(*ty))
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
