//! This engine, with either dispatcher, and with guard pages.

use crate::{Outcome, Random, Running, State, Value, argument, hash};
use dynlink::{
    Config, Dispatch, Engine, Error, ErrorKind, Extern, Instance, Module, Store, Trap, TrapCode,
    Val, ValType,
};
use std::sync::LazyLock;

struct Ours {
    store: Store<()>,
    instance: Instance,
}

/// Where there are no guard pages, bounds are checked.
fn engine(dispatch: Dispatch, guard_pages: bool) -> Engine {
    Engine::new(Config {
        dispatch,
        guard_pages: guard_pages && Config::guard_pages_available().is_ok(),
        ..Config::default()
    })
}

pub fn start_tail(bytes: &[u8]) -> Result<Box<dyn Running>, Outcome> {
    static TAIL: LazyLock<Engine> = LazyLock::new(|| engine(Dispatch::TailCall, false));
    start(&TAIL, bytes)
}

pub fn start_loop(bytes: &[u8]) -> Result<Box<dyn Running>, Outcome> {
    static LOOP: LazyLock<Engine> = LazyLock::new(|| engine(Dispatch::Loop, false));
    start(&LOOP, bytes)
}

pub fn start_tail_guarded(bytes: &[u8]) -> Result<Box<dyn Running>, Outcome> {
    static TAIL: LazyLock<Engine> = LazyLock::new(|| engine(Dispatch::TailCall, true));
    start(&TAIL, bytes)
}

pub fn start_loop_guarded(bytes: &[u8]) -> Result<Box<dyn Running>, Outcome> {
    static LOOP: LazyLock<Engine> = LazyLock::new(|| engine(Dispatch::Loop, true));
    start(&LOOP, bytes)
}

fn start(engine: &Engine, bytes: &[u8]) -> Result<Box<dyn Running>, Outcome> {
    let module =
        Module::new(engine, bytes).map_err(|error| Outcome::Rejected(error.to_string()))?;
    let mut store = Store::new(engine, ());
    let instance = Instance::new(&mut store, &module, &[]).map_err(|error| outcome(&error))?;
    Ok(Box::new(Ours { store, instance }))
}

fn outcome(error: &Error) -> Outcome {
    match error.trap().map(Trap::code) {
        Some(TrapCode::Unreachable) => Outcome::Trap("unreachable"),
        Some(TrapCode::MemoryOutOfBounds) => Outcome::Trap("memory"),
        // wasmi has one code for both.
        Some(TrapCode::TableOutOfBounds | TrapCode::UndefinedElement) => Outcome::Trap("table"),
        Some(TrapCode::UninitializedElement) => Outcome::Trap("null"),
        Some(TrapCode::IndirectCallTypeMismatch) => Outcome::Trap("signature"),
        Some(TrapCode::IntegerOverflow) => Outcome::Trap("overflow"),
        Some(TrapCode::IntegerDivideByZero) => Outcome::Trap("division"),
        Some(TrapCode::BadConversionToInteger) => Outcome::Trap("conversion"),
        Some(TrapCode::StackOverflow) => Outcome::Limit,
        _ if matches!(error.kind(), ErrorKind::Limit { .. }) => Outcome::Limit,
        _ => Outcome::Rejected(error.to_string()),
    }
}

fn value(value: Val) -> Value {
    match value {
        Val::I32(value) => Value::Number(u64::from(value as u32)),
        Val::I64(value) => Value::Number(value as u64),
        Val::F32(bits) => Value::Number(u64::from(bits)),
        Val::F64(bits) => Value::Number(bits),
        Val::FuncRef(func) => Value::Null(func.is_none()),
        Val::ExternRef(number) => Value::Null(number.is_none()),
    }
}

impl Running for Ours {
    fn functions(&mut self) -> Vec<String> {
        let exports = self.instance.exports(&mut self.store);
        let functions = exports
            .into_iter()
            .filter(|(_, item)| matches!(item, Extern::Func(_)));
        let mut names: Vec<String> = functions.map(|(name, _)| name).collect();
        names.sort();
        names
    }

    fn call(&mut self, name: &str, seed: u64) -> Outcome {
        let Some(func) = self.instance.get_func(&mut self.store, name) else {
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
                ValType::F32 => Val::F32(argument(&mut random, 32) as u32),
                ValType::F64 => Val::F64(argument(&mut random, 64)),
                reference => Val::default_for(*reference),
            })
            .collect();
        let mut results: Vec<Val> = ty
            .results()
            .iter()
            .map(|ty| Val::default_for(*ty))
            .collect();
        match func.call(&mut self.store, &arguments, &mut results) {
            Ok(()) => Outcome::Values(results.into_iter().map(value).collect()),
            Err(error) => outcome(&error),
        }
    }

    fn state(&mut self) -> State {
        let mut state = State::default();
        let mut exports = self.instance.exports(&mut self.store);
        exports.sort_by(|a, b| a.0.cmp(&b.0));
        for (_, item) in exports {
            match item {
                Extern::Global(global) => state.globals.push(value(global.get(&mut self.store))),
                Extern::Memory(memory) => state.memories.push(hash(memory.data(&self.store))),
                Extern::Table(table) => state.tables.push(table.size(&self.store)),
                Extern::Func(_) => {}
            }
        }
        state
    }
}
