//! Dynamic linking: linked code against the same sources as one module, what placing and resolving a side module costs,
//! and what many imports cost: parsing the library, and loading it (which parses it, too).

mod support;

use criterion::BatchSize;
use dynlink::link::{MemoryFiles, OpenFlags, Process};
use dynlink::{Instance, Module, Store};
use std::fmt::Write;

/// Functions that the main module of the second part exports.
const EXPORTS: usize = 10_000;

/// Imports of its library.
const IMPORTS: usize = 50_000;

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

    let main = Module::new(&engine, &many_exports()).expect("the module is valid");
    let library = many_imports();
    criterion.bench_function("link/parse 50,000 imports", |b| {
        b.iter(|| Module::new(&engine, &library).expect("the module is valid"));
    });
    criterion.bench_function("link/load 50,000 imports against 10,000 exports", |b| {
        b.iter_batched(
            || {
                let mut files = MemoryFiles::new();
                files.insert("/lib/l.so", library.clone());
                let process = Process::builder().files(files).library_path("/lib").build();
                let mut store = Store::new(&engine, ());
                process
                    .start(&mut store, &main, "/main.wasm")
                    .expect("the main module needs nothing");
                (process, store)
            },
            |(process, mut store)| {
                let handle = process.dlopen(&mut store, Some("l.so"), OpenFlags::NOW);
                handle.expect("main defines everything");
                // Dropping the store is no part of the load.
                (process, store)
            },
            BatchSize::PerIteration,
        );
    });
    criterion.final_summary();
}

/// A main module with many functions.
fn many_exports() -> Vec<u8> {
    let mut text = String::from(r#"(module (memory (export "memory") 1)"#);
    for number in 0..EXPORTS {
        let _ = write!(
            text,
            r#"(func (export "function_number_{number}") (result i32) (i32.const {number}))"#
        );
    }
    wat::parse_str(text + ")").expect("the text is valid")
}

/// A library that imports each of them several times.
fn many_imports() -> Vec<u8> {
    let mut text = String::from("(module (@dylink.0)");
    for number in 0..IMPORTS {
        let name = number % EXPORTS;
        let _ = write!(
            text,
            r#"(import "env" "function_number_{name}" (func (result i32)))"#
        );
    }
    wat::parse_str(text + ")").expect("the text is valid")
}
