//! Dynamic linking: linked code against the same sources as one module, and what placing and resolving a side module costs.

mod support;

use dynlink::{Instance, Module, Store};

fn main() {
    let mut criterion = support::settings();
    let (one, pair) = (support::workload("dlmono"), support::workload("dlpair"));
    one.bench(&mut criterion, "link/run, one module");
    pair.bench(&mut criterion, "link/run, main + side");

    let engine = support::engine();
    let main = Module::new(&engine, &pair.modules[0]).expect("the module is valid");
    criterion.bench_function("link/instantiate main and link side", |b| {
        b.iter(|| {
            let mut store = Store::new(&engine, ());
            let instance =
                Instance::new(&mut store, &main, &[]).expect("the main module needs nothing");
            support::link_side(&mut store, &engine, &instance, &pair.modules[1])
        });
    });
    criterion.final_summary();
}
