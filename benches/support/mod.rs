//! What the benches share: the workloads of `benches/workloads`, instances of them, and the main + side pair linked by hand.

// Each bench uses its own part of this module.
#![allow(dead_code)]

use criterion::Criterion;
use dynlink::{
    Config, Engine, Extern, Global, GlobalType, Instance, Module, Ref, Store, TypedFunc, Val,
    ValType,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A line of `workloads.tsv`.
pub struct Workload {
    pub name: String,
    pub modules: Vec<Vec<u8>>,
    /// `n` of a short run, and its result in a native build.
    pub small: (i32, u64),
}

/// A workload that is ready to be called.
pub struct Running {
    pub store: Store<()>,
    pub run: TypedFunc<i32, u64>,
}

/// The folder with the modules.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/workloads")
}

/// Reads one workload.
pub fn workload(name: &str) -> Workload {
    let list = std::fs::read_to_string(folder().join("workloads.tsv"))
        .expect("the list of workloads is readable");
    let line = list
        .lines()
        .find(|line| line.split('\t').next() == Some(name))
        .expect("the workload is listed");
    let fields: Vec<&str> = line.split('\t').collect();
    let modules = fields[1]
        .split('+')
        .map(|file| std::fs::read(folder().join(file)).expect("the module is readable"));
    let small = (
        fields[3].parse().expect("a number"),
        u64::from_str_radix(fields[6], 16).expect("a hexadecimal number"),
    );
    Workload {
        name: name.to_owned(),
        modules: modules.collect(),
        small,
    }
}

/// An engine with the default settings.
pub fn engine() -> Engine {
    Engine::new(Config::default())
}

impl Workload {
    /// Instantiates, links and checks the result of a first, short run, so that everything is translated.
    pub fn start(&self) -> Running {
        let engine = engine();
        let mut store = Store::new(&engine, ());
        let main = Module::new(&engine, &self.modules[0]).expect("the module is valid");
        let main = Instance::new(&mut store, &main, &[]).expect("the module needs nothing");
        let side = self
            .modules
            .get(1)
            .map(|bytes| link_side(&mut store, &engine, &main, bytes));
        if let Some(attach) = main.get_func(&mut store, "attach") {
            let attach = attach
                .typed::<i32, ()>(&store)
                .expect("attach takes an address");
            let owner = side.unwrap_or(main);
            let api = owner
                .get_typed_func::<(), i32>(&mut store, "side_api")
                .expect("the side gives its functions");
            let api = api.call(&mut store, ()).expect("side_api returns");
            attach.call(&mut store, api).expect("attach returns");
        }
        let run = main
            .get_typed_func::<i32, u64>(&mut store, "run")
            .expect("the workload exports run");
        let mut running = Running { store, run };
        assert_eq!(running.call(self.small.0), self.small.1, "{}", self.name);
        running
    }

    /// Adds a benchmark of the short run.
    pub fn bench(&self, criterion: &mut Criterion, group: &str) {
        let mut running = self.start();
        criterion.bench_function(&format!("{group}/{}", self.name), |b| {
            b.iter(|| running.call(self.small.0))
        });
    }
}

impl Running {
    pub fn call(&mut self, n: i32) -> u64 {
        self.run
            .call(&mut self.store, n)
            .expect("the workload returns")
    }
}

/// Places a position-independent module into a main module's memory and table and resolves its symbols.
pub fn link_side(
    store: &mut Store<()>,
    engine: &Engine,
    main: &Instance,
    bytes: &[u8],
) -> Instance {
    let module = Module::new(engine, bytes).expect("the side module is valid");
    let needs = module
        .dylink()
        .expect("a side module has a dylink section")
        .clone();
    let memory = main
        .get_memory(&mut *store, "memory")
        .expect("main owns the memory");
    let table = main
        .get_table(&mut *store, "__indirect_function_table")
        .expect("main owns the table");
    let heap = main
        .get_global(&mut *store, "__heap_base")
        .expect("main tells where its data ends");
    let heap = heap.get(&mut *store).i32().expect("an address") as u32;
    let memory_base = heap.next_multiple_of(1 << needs.memory_align.max(4));
    memory
        .grow(&mut *store, u64::from(needs.memory_size) / 65536 + 2)
        .expect("the memory grows");
    let table_base = table
        .grow(&mut *store, u64::from(needs.table_size), Ref::Func(None))
        .expect("the table grows");

    let mut got = Vec::new();
    let mut imports = Vec::new();
    for import in module.imports() {
        let mut global = |value: i32| {
            let dynlink::ExternType::Global(GlobalType {
                value: ValType::I32,
                mutable,
            }) = import.ty
            else {
                panic!("{} is an i32 global", import.name)
            };
            let ty = GlobalType {
                value: ValType::I32,
                mutable,
            };
            Global::new(&mut *store, ty, Val::I32(value)).expect("the value fits")
        };
        imports.push(match (import.module, import.name) {
            ("GOT.mem" | "GOT.func", name) => {
                let cell = global(0);
                got.push((import.module == "GOT.func", name, cell));
                Extern::Global(cell)
            }
            ("env", "__memory_base") => Extern::Global(global(memory_base as i32)),
            ("env", "__table_base") => Extern::Global(global(table_base as i32)),
            (_, name) => main
                .get_export(&mut *store, name)
                .expect("main has what the side needs"),
        });
    }
    let side = Instance::new(&mut *store, &module, &imports).expect("the side fits");
    for (is_function, name, cell) in got {
        let in_main = main.get_export(&mut *store, name);
        let base = if in_main.is_some() {
            0
        } else {
            memory_base as i32
        };
        let symbol = in_main
            .or_else(|| side.get_export(&mut *store, name))
            .expect("the symbol is defined");
        let value = if is_function {
            let function = Ref::Func(symbol.into_func());
            table
                .grow(&mut *store, 1, function)
                .expect("the table grows") as i32
        } else {
            let address = symbol.into_global().expect("data is exported as a global");
            address.get(&mut *store).i32().expect("an address") + base
        };
        cell.set(&mut *store, Val::I32(value))
            .expect("GOT cells can be set");
    }
    for name in ["__wasm_apply_data_relocs", "__wasm_call_ctors"] {
        if let Some(function) = side.get_func(&mut *store, name) {
            function
                .call(&mut *store, &[], &mut [])
                .expect("initialisation returns");
        }
    }
    side
}

/// Short measurements: the machine is shared, and the comparison crate has the exact figures.
pub fn settings() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .without_plots()
        .configure_from_args()
}
