//! Calls: direct, recursive, indirect, virtual, through a comparator, from the guest to the host and from the host to the guest.

mod support;

use criterion::Criterion;
use dynlink::{Extern, Func, Instance, Module, Store};

/// Calls the import n times and adds up what it gives.
const CALLS_IMPORT: &str = r#"(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "run") (param $n i32) (result i32) (local $sum i32)
    (loop
      (local.set $sum (i32.add (local.get $sum) (call $f (local.get $n))))
      (br_if 0 (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $sum)))"#;

fn host(criterion: &mut Criterion) {
    let engine = support::engine();
    let mut store = Store::new(&engine, ());
    let bytes = wat::parse_str(CALLS_IMPORT).expect("the text is well-formed");
    let module = Module::new(&engine, &bytes).expect("the module is valid");
    let double = Func::wrap(&mut store, |value: i32| value.wrapping_mul(2));
    let instance =
        Instance::new(&mut store, &module, &[Extern::Func(double)]).expect("the import fits");
    let run = instance
        .get_typed_func::<i32, i32>(&mut store, "run")
        .expect("run is exported");
    assert_eq!(run.call(&mut store, 10).expect("run returns"), 110);
    criterion.bench_function("calls/guest to host, 1000", |b| {
        b.iter(|| run.call(&mut store, 1000).expect("run returns"))
    });
    criterion.bench_function("calls/host to guest", |b| {
        b.iter(|| run.call(&mut store, 1).expect("run returns"))
    });
}

fn main() {
    let mut criterion = support::settings();
    for name in [
        "fib",
        "tak",
        "calls_direct",
        "calls_indirect",
        "vtable",
        "sort",
    ] {
        support::workload(name).bench(&mut criterion, "calls");
    }
    host(&mut criterion);
    criterion.final_summary();
}
