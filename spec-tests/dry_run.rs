//! Dry runs against real loads: for every main module of the fixtures, what a dry run predicts is what a start does.

#![forbid(unsafe_code)]

use dynlink::host::{Kernel, KernelBuilder, KernelFiles, Mount, WasiSymbols};
use dynlink::link::{Base, DryRun, Process, ProcessBuilder};
use dynlink::{Engine, Error, ErrorKind, Module, Store};
use std::path::{Path, PathBuf};

/// Fewer mains mean that the fixtures were not found.
const MAINS: usize = 400;

/// Fewer predicted bases mean that nothing is predicted any more.
const BASES: usize = 200;

fn mains() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut found = Vec::new();
    for folder in std::fs::read_dir(root).expect("the fixtures").flatten() {
        for style in ["static", "needed", "pie", "exe"] {
            let main = folder.path().join(format!("main-{style}.wasm"));
            if main.is_file() && folder.path().join("case.toml").is_file() {
                found.push(main);
            }
        }
    }
    found.sort();
    found
}

fn process(folder: &Path) -> (ProcessBuilder<Kernel>, Kernel) {
    let mount = Mount::host(folder).expect("the case's folder").read_only();
    let kernel = KernelBuilder::new()
        .mount("/case", mount)
        .build()
        .expect("a kernel");
    let builder = Process::builder()
        .files(KernelFiles)
        .host(WasiSymbols)
        .library_path("/case");
    (builder, kernel)
}

fn dry(engine: &Engine, main: &Path, module: &Module) -> DryRun {
    let (builder, kernel) = process(main.parent().expect("a folder"));
    let mut store = Store::new(engine, kernel);
    let process = builder.build();
    let run = process
        .dry_run(&mut store, module, "/case/main.wasm", &[])
        .unwrap_or_else(|error| panic!("{}: {error}", main.display()));
    assert!(process.libraries().is_empty() && process.memory().is_none());
    run
}

#[test]
fn a_dry_run_predicts_whether_a_program_links_and_where_its_objects_lie() {
    let engine = Engine::default();
    let mains = mains();
    assert!(mains.len() >= MAINS, "{}", mains.len());
    let mut bases = 0;
    let mut failures = 0;
    for main in &mains {
        let module = Module::from_file(&engine, main).expect("a module");
        let run = dry(&engine, main, &module);

        let (builder, kernel) = process(main.parent().expect("a folder"));
        let mut store = Store::new(&engine, kernel);
        let process = builder.build();
        let started = process.start(&mut store, &module, "/case/main.wasm");
        let name = main.display();
        match started.as_ref().map_err(Error::kind) {
            Ok(_) => assert!(run.problems.is_empty(), "{name}: {:?}", run.problems),
            Err(ErrorKind::Link(text)) => {
                failures += 1;
                assert!(!run.problems.is_empty(), "{name}: {text}");
                for problem in &run.problems {
                    let known = text.contains(&problem.text);
                    // After a missing library, a start does not look for symbols.
                    assert!(
                        known || text.contains("not found"),
                        "{name}: {problem:?}\n{text}"
                    );
                }
            }
            // Constructors that trap, exhausted limits: not what a dry run tells.
            Err(_) => {}
        }
        if started.is_err() {
            continue;
        }
        let loaded = process.libraries();
        for (planned, object) in run.objects.iter().zip(&loaded) {
            assert_eq!(planned.name, object.name, "{name}");
            if let Base::At(base) = planned.memory_base {
                assert_eq!(
                    base, object.memory_base,
                    "{name}: memory of {}",
                    object.name
                );
                bases += 1;
            }
            if let Base::At(base) = planned.table_base {
                assert_eq!(base, object.table_base, "{name}: table of {}", object.name);
                bases += 1;
            }
            let expected = if planned.memory_base == Base::Fixed {
                0
            } else {
                planned.memory_size
            };
            assert_eq!(expected, object.memory_size, "{name}: {}", object.name);
        }
    }
    assert!(failures >= 8, "{failures} programs do not link");
    assert!(bases >= BASES, "{bases} bases were predicted");
}

#[test]
fn a_dry_run_twice_says_the_same() {
    let engine = Engine::default();
    for main in mains().iter().step_by(7) {
        let module = Module::from_file(&engine, main).expect("a module");
        let (builder, kernel) = process(main.parent().expect("a folder"));
        let mut store = Store::new(&engine, kernel);
        let process = builder.build();
        let mut run = || process.dry_run(&mut store, &module, "/case/main.wasm", &[]);
        assert_eq!(run().unwrap(), run().unwrap());
    }
}
