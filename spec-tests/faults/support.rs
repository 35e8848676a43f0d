//! What the fault tests share.

use dynlink::{
    Config, Dispatch, Engine, Error, Extern, ExternType, Func, Global, Instance, Memory, Module,
    Ref, RefType, Store, Table, Trap, TrapCode, Val,
};

/// Both ways of dispatch.
pub const DISPATCHES: [Dispatch; 2] = [Dispatch::TailCall, Dispatch::Loop];

/// A pseudo-random generator (SplitMix64): the same numbers in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// A module from text.
pub fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

pub fn engine(change: impl FnOnce(&mut Config)) -> Engine {
    let mut config = Config::default();
    change(&mut config);
    Engine::new(config)
}

/// An instance of a module without imports, in a store of its own.
pub fn instance(engine: &Engine, text: &str) -> (Store<()>, Instance) {
    let module = Module::new(engine, &wasm(text)).unwrap_or_else(|error| panic!("{error}"));
    let mut store = Store::new(engine, ());
    if engine.config().fuel {
        store
            .set_fuel(1 << 40)
            .unwrap_or_else(|error| panic!("{error}"));
    }
    let instance =
        Instance::new(&mut store, &module, &[]).unwrap_or_else(|error| panic!("{error}"));
    (store, instance)
}

/// Calls an export without parameters, or with some, and one i32 result.
pub fn call(
    store: &mut Store<()>,
    instance: Instance,
    name: &str,
    arguments: &[Val],
) -> Result<i32, Error> {
    let func = instance
        .get_func(&mut *store, name)
        .unwrap_or_else(|| panic!("no function `{name}`"));
    let mut results = [Val::I32(0)];
    func.call(&mut *store, arguments, &mut results)?;
    results[0].i32().ok_or_else(|| Error::msg("not an i32"))
}

/// The code of the trap that an outcome must be.
pub fn trap_code<T: std::fmt::Debug>(outcome: &Result<T, Error>) -> Option<TrapCode> {
    outcome.as_ref().err().and_then(Error::trap).map(Trap::code)
}

/// Runs on a thread with this much native stack and gives what it gave.
pub fn on_stack<T: Send + 'static>(bytes: usize, run: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(bytes).spawn(run);
    let thread = thread.unwrap_or_else(|error| panic!("cannot start a thread: {error}"));
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The native stack that guests must not exceed, however deep they recurse.
pub const SMALL_STACK: usize = 256 * 1024;

/// Something for every import of a module: functions that give zeros, empty memories and tables.
pub fn stub_imports(store: &mut Store<()>, module: &Module) -> Result<Vec<Extern>, Error> {
    let types: Vec<ExternType> = module.imports().map(|import| import.ty).collect();
    types
        .into_iter()
        .map(|ty| {
            Ok(match ty {
                ExternType::Func(ty) => {
                    let results: Vec<Val> = ty
                        .results()
                        .iter()
                        .map(|ty| Val::default_for(*ty))
                        .collect();
                    Extern::Func(Func::new(&mut *store, ty, move |_, _, found| {
                        found.copy_from_slice(&results);
                        Ok(())
                    }))
                }
                ExternType::Global(ty) => {
                    Extern::Global(Global::new(&mut *store, ty, Val::default_for(ty.value))?)
                }
                ExternType::Memory(ty) => Extern::Memory(Memory::new(&mut *store, ty)?),
                ExternType::Table(ty) => {
                    let null = match ty.element {
                        RefType::Func => Ref::Func(None),
                        RefType::Extern => Ref::Extern(None),
                    };
                    Extern::Table(Table::new(&mut *store, ty, null)?)
                }
            })
        })
        .collect()
}
