//! Start-up: parsing and validating, instantiating, the first call with its translation. `DYNLINK_BENCH_MODULE` names a larger
//! module to load, for example a Python interpreter.

mod support;

use dynlink::{Config, Engine, Instance, Module, Store};

fn main() {
    let mut criterion = support::settings();
    let workload = support::workload("coremix");
    let engine = support::engine();
    let module = Module::new(&engine, &workload.modules[0]).expect("the module is valid");
    criterion.bench_function("startup/store", |b| b.iter(|| Store::new(&engine, ())));
    criterion.bench_function("startup/load coremix", |b| {
        b.iter(|| Module::new(&engine, &workload.modules[0]).expect("the module is valid"));
    });
    criterion.bench_function("startup/instantiate coremix", |b| {
        b.iter(|| {
            let mut store = Store::new(&engine, ());
            Instance::new(&mut store, &module, &[]).expect("the module needs nothing")
        });
    });
    criterion.bench_function("startup/first call of coremix", |b| {
        b.iter(|| {
            let mut store = Store::new(&engine, ());
            let instance =
                Instance::new(&mut store, &module, &[]).expect("the module needs nothing");
            let run = instance
                .get_typed_func::<i32, u64>(&mut store, "run")
                .expect("run is exported");
            run.call(&mut store, 0).expect("run returns")
        });
    });
    if let Some(path) = std::env::var_os("DYNLINK_BENCH_MODULE") {
        let bytes = std::fs::read(&path).expect("DYNLINK_BENCH_MODULE names a readable file");
        for lazy_validation in [false, true] {
            let engine = Engine::new(Config {
                lazy_validation,
                ..Config::default()
            });
            let name = format!(
                "startup/load {}, validated {}",
                path.to_string_lossy(),
                if lazy_validation { "lazily" } else { "at once" }
            );
            criterion.bench_function(&name, |b| {
                b.iter(|| Module::new(&engine, &bytes).expect("the module is valid"))
            });
        }
    }
    criterion.final_summary();
}
