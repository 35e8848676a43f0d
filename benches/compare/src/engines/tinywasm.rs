//! tinywasm: safe Rust, a match loop.

use super::{Engine, Program, Session};
use crate::Outcome;
use crate::link::World;
use crate::workloads::Workload;
use tinywasm::engine::Config;
use tinywasm::types::{ExternVal, FuncRef, GlobalType, WasmType, WasmValue};
use tinywasm::{Extern, ExternItem, Global, Imports, Module, ModuleInstance, StackConfig, Store};

pub struct Tinywasm;

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

struct Compiled(Vec<Module>);

struct Instances {
    store: Store,
    modules: Vec<Module>,
}

/// An item, and for functions the store's number, which a table entry needs.
#[derive(Clone)]
pub struct Item(Extern, Option<u32>);

impl Engine for Tinywasm {
    fn name(&self) -> &'static str {
        "tinywasm"
    }
    fn version(&self) -> String {
        "tinywasm 0.10.0".to_owned()
    }
    fn compile(&self, modules: &[Vec<u8>]) -> Outcome<Box<dyn Program>> {
        let modules = modules
            .iter()
            .map(|bytes| tinywasm::parse_bytes(bytes).map_err(text))
            .collect::<Outcome<_>>()?;
        Ok(Box::new(Compiled(modules)))
    }
    fn load(&self, bytes: &[u8], _mode: &str) -> Outcome<Box<dyn std::any::Any>> {
        Ok(Box::new(tinywasm::parse_bytes(bytes).map_err(text)?))
    }
    fn load_modes(&self) -> &'static [&'static str] {
        &["eager, all threads"]
    }
}

impl Program for Compiled {
    fn start(&self, workload: &Workload) -> Outcome<Box<dyn Session>> {
        // Deep recursion is part of the workloads; the default limit is 1,024 frames.
        let stack = StackConfig::dynamic(65_536, 16 << 20);
        let config = Config::new()
            .with_call_stack(StackConfig::dynamic(1024, 1 << 20))
            .with_value_stack(stack);
        let store = Store::new(tinywasm::Engine::new(config));
        super::start(
            Instances {
                store,
                modules: self.0.clone(),
            },
            workload,
        )
    }
}

impl World for Instances {
    type Item = Item;
    type Instance = ModuleInstance;

    fn instantiate(
        &mut self,
        module: usize,
        imports: &[(String, String, Item)],
    ) -> Outcome<ModuleInstance> {
        let mut definitions = Imports::new();
        for (module, name, item) in imports {
            definitions.define(module, name, item.0.clone());
        }
        ModuleInstance::instantiate(&mut self.store, &self.modules[module], Some(definitions))
            .map_err(text)
    }
    fn export(&mut self, instance: &ModuleInstance, name: &str) -> Option<Item> {
        let number = match instance.export_addr(name)? {
            ExternVal::Func(number) => Some(number),
            _ => None,
        };
        let item = match instance.extern_item(name).ok()? {
            ExternItem::Func(_) => instance.func_untyped(&self.store, name).ok()?.into(),
            ExternItem::Memory(memory) => memory.into(),
            ExternItem::Table(table) => table.into(),
            ExternItem::Global(global) => global.into(),
        };
        Some(Item(item, number))
    }
    fn new_global(&mut self, value: i32, mutable: bool) -> Outcome<Item> {
        let ty = GlobalType::default()
            .with_ty(WasmType::I32)
            .with_mutable(mutable);
        let global = Global::new(&mut self.store, ty, WasmValue::I32(value)).map_err(text)?;
        Ok(Item(global.into(), None))
    }
    fn read_global(&mut self, global: &Item) -> Outcome<i32> {
        match &global.0 {
            Extern::Global(global) => match global.get(&self.store).map_err(text)? {
                WasmValue::I32(value) => Ok(value),
                other => Err(format!("not an i32: {other:?}")),
            },
            _ => Err("not a global".to_owned()),
        }
    }
    fn write_global(&mut self, global: &Item, value: i32) -> Outcome<()> {
        match &global.0 {
            Extern::Global(global) => global
                .set(&mut self.store, WasmValue::I32(value))
                .map_err(text),
            _ => Err("not a global".to_owned()),
        }
    }
    fn grow_memory(&mut self, memory: &Item, pages: u32) -> Outcome<u32> {
        match &memory.0 {
            Extern::Memory(memory) => {
                let before = memory
                    .grow(&mut self.store, i64::from(pages))
                    .map_err(text)?;
                before
                    .map(|pages| pages as u32)
                    .ok_or_else(|| "memory cannot grow".to_owned())
            }
            _ => Err("not a memory".to_owned()),
        }
    }
    fn grow_table(&mut self, table: &Item, elements: u32) -> Outcome<u32> {
        match &table.0 {
            Extern::Table(table) => {
                let before = table.size(&self.store).map_err(text)?;
                table
                    .grow(
                        &mut self.store,
                        elements as i32,
                        WasmValue::RefFunc(FuncRef::null()),
                    )
                    .map_err(text)?;
                Ok(before as u32)
            }
            _ => Err("not a table".to_owned()),
        }
    }
    fn set_table(&mut self, table: &Item, index: u32, function: &Item) -> Outcome<()> {
        let number = function.1.ok_or("not a function")?;
        match &table.0 {
            Extern::Table(table) => table
                .set(
                    &mut self.store,
                    index,
                    WasmValue::RefFunc(FuncRef::new(Some(number))),
                )
                .map_err(text),
            _ => Err("not a table".to_owned()),
        }
    }
    fn call(&mut self, function: &Item, argument: Option<i32>) -> Outcome<u64> {
        let Extern::Function(function) = &function.0 else {
            return Err("not a function".to_owned());
        };
        let arguments: Vec<WasmValue> = argument.into_iter().map(WasmValue::I32).collect();
        let results = function.call(&mut self.store, &arguments).map_err(text)?;
        Ok(match results.first() {
            Some(WasmValue::I32(value)) => u64::from(*value as u32),
            Some(WasmValue::I64(value)) => *value as u64,
            _ => 0,
        })
    }
}
