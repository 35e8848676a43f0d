//! wasmi, the independent engine.

use crate::{Outcome, Random, Running, State, Value, argument, hash};
use std::sync::LazyLock;
use wasmi::errors::ErrorKind;
use wasmi::{
    Config, Engine, Error, Extern, F32, F64, Instance, Module, Nullable, Store, TrapCode, Val,
    ValType,
};

struct Theirs {
    store: Store<()>,
    instance: Instance,
}

fn engine() -> Engine {
    let mut config = Config::default();
    config.set_max_recursion_depth(100_000);
    config.set_max_stack_height(64 << 20);
    config.wasm_memory64(false);
    config.wasm_custom_page_sizes(false);
    config.wasm_wide_arithmetic(false);
    Engine::new(&config)
}

pub fn start(bytes: &[u8]) -> Result<Box<dyn Running>, Outcome> {
    static ENGINE: LazyLock<Engine> = LazyLock::new(engine);
    let module =
        Module::new(&ENGINE, bytes).map_err(|error| Outcome::Rejected(error.to_string()))?;
    let mut store = Store::new(&ENGINE, ());
    let instance = Instance::new(&mut store, &module, &[]).map_err(|error| outcome(&error))?;
    Ok(Box::new(Theirs { store, instance }))
}

fn outcome(error: &Error) -> Outcome {
    match error.as_trap_code() {
        Some(TrapCode::UnreachableCodeReached) => Outcome::Trap("unreachable"),
        Some(TrapCode::MemoryOutOfBounds) => Outcome::Trap("memory"),
        Some(TrapCode::TableOutOfBounds) => Outcome::Trap("table"),
        Some(TrapCode::IndirectCallToNull) => Outcome::Trap("null"),
        Some(TrapCode::BadSignature) => Outcome::Trap("signature"),
        Some(TrapCode::IntegerOverflow) => Outcome::Trap("overflow"),
        Some(TrapCode::IntegerDivisionByZero) => Outcome::Trap("division"),
        Some(TrapCode::BadConversionToInteger) => Outcome::Trap("conversion"),
        Some(_) => Outcome::Limit,
        None => match error.kind() {
            ErrorKind::Memory(_) => Outcome::Trap("memory"),
            ErrorKind::Table(_) => Outcome::Trap("table"),
            ErrorKind::Instantiation(_) => Outcome::Trap("table"),
            _ => Outcome::Rejected(error.to_string()),
        },
    }
}

fn value(value: &Val) -> Value {
    match value {
        Val::I32(value) => Value::Number(u64::from(*value as u32)),
        Val::I64(value) => Value::Number(*value as u64),
        Val::F32(value) => Value::Number(u64::from(value.to_bits())),
        Val::F64(value) => Value::Number(value.to_bits()),
        Val::FuncRef(func) => Value::Null(func.is_null()),
        Val::ExternRef(reference) => Value::Null(reference.is_null()),
        Val::V128(_) => Value::Null(false),
    }
}

fn default(ty: ValType) -> Val {
    match ty {
        ValType::I32 => Val::I32(0),
        ValType::I64 => Val::I64(0),
        ValType::F32 => Val::F32(F32::from_bits(0)),
        ValType::F64 => Val::F64(F64::from_bits(0)),
        ValType::ExternRef => Val::ExternRef(Nullable::Null),
        _ => Val::FuncRef(Nullable::Null),
    }
}

impl Theirs {
    fn exports(&self) -> Vec<(String, Extern)> {
        let exports = self.instance.exports(&self.store);
        exports
            .map(|export| (export.name().to_owned(), export.into_extern()))
            .collect()
    }
}

impl Running for Theirs {
    fn functions(&mut self) -> Vec<String> {
        let mut names: Vec<String> = self
            .exports()
            .into_iter()
            .filter(|(_, item)| matches!(item, Extern::Func(_)))
            .map(|(name, _)| name)
            .collect();
        names.sort();
        names
    }

    fn call(&mut self, name: &str, seed: u64) -> Outcome {
        let Some(func) = self.instance.get_func(&self.store, name) else {
            return Outcome::Rejected(format!("no function `{name}`"));
        };
        let ty = func.ty(&self.store);
        let mut random = Random(seed);
        let arguments: Vec<Val> = ty
            .params()
            .iter()
            .map(|ty| match ty {
                ValType::I32 => Val::I32(argument(&mut random, 32) as i32),
                ValType::I64 => Val::I64(argument(&mut random, 64) as i64),
                ValType::F32 => Val::F32(F32::from_bits(argument(&mut random, 32) as u32)),
                ValType::F64 => Val::F64(F64::from_bits(argument(&mut random, 64))),
                reference => default(*reference),
            })
            .collect();
        let mut results: Vec<Val> = ty.results().iter().map(|ty| default(*ty)).collect();
        match func.call(&mut self.store, &arguments, &mut results) {
            Ok(()) => Outcome::Values(results.iter().map(value).collect()),
            Err(error) => outcome(&error),
        }
    }

    fn state(&mut self) -> State {
        let mut state = State::default();
        let mut exports = self.exports();
        exports.sort_by(|a, b| a.0.cmp(&b.0));
        for (_, item) in exports {
            match item {
                Extern::Global(global) => state.globals.push(value(&global.get(&self.store))),
                Extern::Memory(memory) => state.memories.push(hash(memory.data(&self.store))),
                Extern::Table(table) => state.tables.push(table.size(&self.store)),
                Extern::Func(_) => {}
            }
        }
        state
    }
}
