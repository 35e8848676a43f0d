//! Libraries that cannot be loaded. Each failure names what is wrong, leaves the process as it was, and
//! happens in the same way again; afterwards a good library still loads.

use crate::support::{engine, trap_code, wasm};
use dynlink::link::{MemoryFiles, OpenFlags, Process, Profile};
use dynlink::{Engine, Error, Instance, Module, Ref, Store, TrapCode, Val};

const MAIN: &str = r#"(module
  (@dylink.0 (mem-info (memory 64 3) (table 1 0)))
  (import "env" "memory" (memory 1))
  (import "env" "__indirect_function_table" (table 0 funcref))
  (import "env" "__memory_base" (global $memory i32))
  (import "env" "__table_base" (global $table i32))
  (elem (global.get $table) func $twice)
  (func $twice (export "twice") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
  (global (export "number") i32 (i32.const 16)))"#;

const GOOD: &str = r#"(module
  (@dylink.0 (mem-info (memory 8 3) (table 1 0)))
  (import "env" "memory" (memory 1))
  (import "env" "__indirect_function_table" (table 0 funcref))
  (import "env" "__memory_base" (global $memory i32))
  (import "env" "__table_base" (global $table i32))
  (import "env" "twice" (func $twice (param i32) (result i32)))
  (elem (global.get $table) func $f)
  (func $f (export "f") (result i32) (call $twice (i32.load (global.get $memory))))
  (func (export "__wasm_call_ctors") (i32.store (global.get $memory) (i32.const 21))))"#;

/// The beginning of a library without memory of its own.
const HEAD: &str = r#"(@dylink.0 (mem-info (memory 0 0) (table 0 0)))"#;

struct World {
    store: Store<()>,
    process: Process<()>,
}

/// A started process whose libraries are these files, and `good.so`.
fn world(engine: &Engine, profile: Profile, libraries: &[(&str, Vec<u8>)]) -> World {
    let mut files = MemoryFiles::new();
    files.insert("/lib/good.so", wasm(GOOD));
    for (name, bytes) in libraries {
        files.insert(&format!("/lib/{name}"), bytes.clone());
    }
    let process = Process::builder()
        .profile(profile)
        .files(files)
        .library_path("/lib")
        .build();
    let mut store = Store::new(engine, ());
    if engine.config().fuel {
        store
            .set_fuel(10_000_000)
            .unwrap_or_else(|error| panic!("{error}"));
    }
    let main = Module::with_name(engine, wasm(MAIN), "main.wasm");
    let main = main.unwrap_or_else(|error| panic!("{error}"));
    process
        .start(&mut store, &main, "/bin/main.wasm")
        .unwrap_or_else(|error| panic!("{error}"));
    World { store, process }
}

/// What a failed load must not change.
#[derive(PartialEq, Debug)]
struct State {
    libraries: Vec<dynlink::link::LibraryInfo>,
    memory: Vec<u8>,
    functions: Vec<bool>,
    symbol: Option<u32>,
}

impl World {
    fn open(&mut self, name: &str, flags: OpenFlags) -> Result<u32, Error> {
        self.process.dlopen(&mut self.store, Some(name), flags)
    }

    fn state(&mut self) -> State {
        let memory = self.process.memory().unwrap_or_else(|| panic!("no memory"));
        let table = self.process.table().unwrap_or_else(|| panic!("no table"));
        let size = table.size(&self.store);
        let functions = (0..size)
            .map(|index| {
                !matches!(
                    table.get(&mut self.store, index),
                    None | Some(Ref::Func(None))
                )
            })
            .collect::<Vec<bool>>();
        // Room that was added and given back may stay, empty.
        let used = functions
            .iter()
            .rposition(|used| *used)
            .map_or(0, |last| last + 1);
        let bytes = memory.data(&self.store);
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        State {
            libraries: self.process.libraries(),
            memory: bytes[..end].to_vec(),
            functions: functions[..used].to_vec(),
            symbol: self.process.address(&mut self.store, "number"),
        }
    }

    /// Opens a library that must fail twice in the same way without a trace; gives the error.
    fn fails(&mut self, name: &str) -> Error {
        let before = self.state();
        let first = self.open(name, OpenFlags::NOW | OpenFlags::GLOBAL);
        let first = first.err().unwrap_or_else(|| panic!("{name} was loaded"));
        assert_eq!(self.state(), before, "{name} left something: {first}");
        let second = self.open(name, OpenFlags::NOW | OpenFlags::GLOBAL);
        let second = second
            .err()
            .unwrap_or_else(|| panic!("{name} was loaded the second time"));
        assert_eq!(first.to_string(), second.to_string());
        assert_eq!(
            self.state(),
            before,
            "{name} left something the second time"
        );
        first
    }

    /// A good library loads and works.
    fn still_works(&mut self) {
        let handle = self.open("good.so", OpenFlags::NOW | OpenFlags::GLOBAL);
        handle.unwrap_or_else(|error| panic!("the process does not go on: {error}"));
        let f = self
            .process
            .function(&mut self.store, "f")
            .unwrap_or_else(|| panic!("no f"));
        let mut results = [Val::I32(0)];
        f.call(&mut self.store, &[], &mut results)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(results[0].i32(), Some(42));
    }
}

/// A library that fails, in a process of its own; the error must contain all these words.
fn fails(name: &str, bytes: Vec<u8>, words: &[&str]) -> Error {
    let engine = Engine::default();
    let mut world = world(&engine, Profile::default(), &[(name, bytes)]);
    let error = world.fails(name);
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{name}: `{word}` is not in: {text}");
    }
    world.still_works();
    error
}

fn library(body: &str) -> Vec<u8> {
    wasm(&format!("(module {HEAD} {body})"))
}

#[test]
fn missing_libraries_are_named_with_who_needs_them() {
    let engine = Engine::default();
    let needs = |name: &str| {
        wasm(&format!(
            r#"(module (@dylink.0 (mem-info (memory 0 0) (table 0 0)) (needed "{name}")))"#
        ))
    };
    let libraries = [("a.so", needs("b.so")), ("b.so", needs("gone.so"))];
    let mut world = world(&engine, Profile::default(), &libraries);
    let error = world.fails("nowhere.so").to_string();
    assert!(
        error.contains("nowhere.so") && error.contains("/lib"),
        "{error}"
    );
    let error = world.fails("b.so").to_string();
    assert!(
        error.contains("gone.so") && error.contains("b.so"),
        "{error}"
    );
    let error = world.fails("a.so").to_string();
    assert!(
        error.contains("gone.so") && error.contains("b.so"),
        "{error}"
    );
    for name in [
        "GOOD.SO",
        "good.so/",
        "",
        "/lib",
        "/lib/",
        "../lib/nothing.so",
    ] {
        world.fails(name);
    }
    world.still_works();
}

#[test]
fn files_that_are_no_libraries_are_errors() {
    for (name, bytes) in [
        ("empty.so", b"".to_vec()),
        ("text.so", b"#!/bin/sh\n".to_vec()),
        ("elf.so", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec()),
        ("component.so", b"\0asm\x0d\0\x01\0".to_vec()),
        ("cut.so", wasm(GOOD)[..100].to_vec()),
        ("plain.so", wasm("(module (func))")),
        (
            "invalid.so",
            wasm("(module (@dylink.0 (mem-info (memory 0 0) (table 0 0))) (func (result i32)))"),
        ),
        ("simd.so", library("(func (drop (v128.const i64x2 0 0)))")),
    ] {
        fails(name, bytes, &[name]);
    }
}

#[test]
fn undefined_symbols_are_all_listed_with_the_library() {
    let body = r#"(import "env" "nowhere" (func (param i32)))
        (import "env" "away" (func))
        (import "GOT.mem" "no_data" (global (mut i32)))
        (import "GOT.func" "no_function" (global (mut i32)))"#;
    fails(
        "undefined.so",
        library(body),
        &["undefined.so", "nowhere", "away", "no_data", "no_function"],
    );
}

#[test]
fn a_wrong_signature_is_named_with_both_types() {
    let body = r#"(import "env" "twice" (func (param i64) (result i32)))"#;
    fails(
        "wrong.so",
        library(body),
        &["twice", "i64", "(i32) -> (i32)"],
    );
}

#[test]
fn a_function_where_data_is_meant_is_an_error() {
    // `number` is data of the main module.
    let body = r#"(import "env" "number" (func (param i32)))"#;
    fails("kinds.so", library(body), &["number"]);
}

#[test]
fn alignments_and_sizes_at_the_limits_are_errors() {
    for (name, info) in [
        ("align255.so", "(memory 16 255) (table 0 0)"),
        ("align32.so", "(memory 16 32) (table 0 0)"),
        ("align31.so", "(memory 16 31) (table 0 0)"),
        ("table-align.so", "(memory 0 0) (table 1 255)"),
        ("size.so", "(memory 4294967295 0) (table 0 0)"),
        ("size-aligned.so", "(memory 4294967295 16) (table 0 0)"),
        ("table-size.so", "(memory 0 0) (table 4294967295 0)"),
        ("both.so", "(memory 4294967295 16) (table 4294967295 16)"),
    ] {
        let text = format!(
            r#"(module (@dylink.0 (mem-info {info}))
                (import "env" "memory" (memory 1))
                (import "env" "__indirect_function_table" (table 0 funcref))
                (import "env" "__memory_base" (global i32))
                (import "env" "__table_base" (global i32)))"#
        );
        fails(name, wasm(&text), &[name]);
    }
}

#[test]
fn limits_of_memory_and_table_that_are_hit_while_loading_are_errors() {
    let engine = engine(|config| {
        config.limits.memory_pages = 40;
        config.limits.table_elements = 100;
    });
    let big = |info: &str| {
        wasm(&format!(
            r#"(module (@dylink.0 (mem-info {info}))
                (import "env" "memory" (memory 1))
                (import "env" "__indirect_function_table" (table 0 funcref))
                (import "env" "__memory_base" (global i32))
                (import "env" "__table_base" (global i32)))"#
        ))
    };
    let libraries = [
        ("memory.so", big("(memory 3000000 4) (table 0 0)")),
        ("table.so", big("(memory 0 0) (table 200 0)")),
    ];
    let mut world = world(&engine, Profile::default(), &libraries);
    for name in ["memory.so", "table.so"] {
        let error = world.fails(name).to_string();
        assert!(error.contains(name), "{error}");
    }
    world.still_works();
}

#[test]
fn segments_that_do_not_fit_undo_the_load() {
    let body = r#"(import "env" "memory" (memory 1)) (data (i32.const -1) "x")"#;
    fails("data.so", library(body), &["data.so"]);
    let body = r#"(import "env" "__indirect_function_table" (table 0 funcref)) (elem (i32.const 100000) func $f) (func $f)"#;
    fails("elements.so", library(body), &["elements.so"]);
}

#[test]
fn a_constructor_that_traps_undoes_the_load() {
    let body = r#"(import "env" "memory" (memory 1))
        (func (export "f") (result i32) (i32.const 1))
        (func (export "__wasm_call_ctors") (drop (i32.div_s (i32.const 1) (i32.const 0))))"#;
    let error = fails("ctor.so", library(body), &["ctor.so"]);
    assert_eq!(
        trap_code(&Err::<(), _>(error)),
        Some(TrapCode::IntegerDivideByZero)
    );
    let start = "(func $s unreachable) (start $s)";
    let error = fails("start.so", library(start), &["start.so"]);
    assert_eq!(trap_code(&Err::<(), _>(error)), Some(TrapCode::Unreachable));
}

#[test]
fn a_constructor_that_never_ends_is_stopped_and_the_load_undone() {
    let engine = engine(|config| config.fuel = true);
    let libraries = [(
        "forever.so",
        library(r#"(func (export "__wasm_call_ctors") (loop (br 0)))"#),
    )];
    let mut world = world(&engine, Profile::default(), &libraries);
    let before = world.state();
    for _ in 0..2 {
        world
            .store
            .set_fuel(10_000)
            .unwrap_or_else(|error| panic!("{error}"));
        let outcome = world.open("forever.so", OpenFlags::NOW);
        assert_eq!(
            trap_code(&outcome),
            Some(TrapCode::OutOfFuel),
            "{outcome:?}"
        );
        assert_eq!(world.state(), before);
    }
    world
        .store
        .set_fuel(1_000_000)
        .unwrap_or_else(|error| panic!("{error}"));
    world.still_works();
}

#[test]
fn a_library_that_fails_late_takes_those_before_it_along() {
    // a needs b and c; b loads, c's constructor traps: b must be gone as well.
    let engine = Engine::default();
    let libraries = [
        (
            "a.so",
            wasm(
                r#"(module (@dylink.0 (mem-info (memory 0 0) (table 0 0)) (needed "b.so" "c.so")))"#,
            ),
        ),
        (
            "b.so",
            library(r#"(func (export "from_b") (result i32) (i32.const 1))"#),
        ),
        (
            "c.so",
            library(r#"(func (export "__wasm_call_ctors") unreachable)"#),
        ),
    ];
    let mut world = world(&engine, Profile::default(), &libraries);
    world.fails("a.so");
    assert!(world.process.function(&mut world.store, "from_b").is_none());
    world.still_works();
    let b = world.open("b.so", OpenFlags::NOW | OpenFlags::GLOBAL);
    assert!(b.is_ok());
    assert!(world.process.function(&mut world.store, "from_b").is_some());
}

#[test]
fn cycles_of_needed_libraries_load() {
    for length in [1, 2, 3, 50] {
        let engine = Engine::default();
        let names: Vec<String> = (0..length).map(|k| format!("l{k}.so")).collect();
        let libraries: Vec<(&str, Vec<u8>)> = (0..length)
            .map(|k| {
                let next = &names[(k + 1) % length];
                let text = format!(
                    r#"(module (@dylink.0 (mem-info (memory 0 0) (table 0 0)) (needed "{next}"))
                        (func (export "f{k}") (result i32) (i32.const {k})))"#
                );
                (names[k].as_str(), wasm(&text))
            })
            .collect();
        let mut world = world(&engine, Profile::default(), &libraries);
        let handle = world.open("l0.so", OpenFlags::NOW | OpenFlags::GLOBAL);
        handle.unwrap_or_else(|error| panic!("cycle of {length}: {error}"));
        for k in 0..length {
            assert!(
                world
                    .process
                    .function(&mut world.store, &format!("f{k}"))
                    .is_some(),
                "f{k}"
            );
        }
        world.still_works();
    }
}

#[test]
fn a_chain_of_ten_thousand_libraries_needs_no_native_stack() {
    crate::support::on_stack(crate::support::SMALL_STACK, || {
        let engine = Engine::default();
        let count = 10_000;
        let mut files = MemoryFiles::new();
        for k in 0..count {
            // `needed` as bytes: the section holds one subsection with one name.
            let name = format!("c{}.so", k + 1);
            let mut needed = vec![1, name.len() as u8];
            needed.extend(name.as_bytes());
            let mut content = vec![8];
            content.extend(b"dylink.0");
            content.extend([2, needed.len() as u8]);
            if k + 1 < count {
                content.extend(needed);
            } else {
                content.truncate(9);
            }
            let mut bytes = b"\0asm\x01\0\0\0\0".to_vec();
            bytes.push(content.len() as u8);
            bytes.extend(content);
            files.insert(&format!("/lib/c{k}.so"), bytes);
        }
        let process = Process::builder().files(files).library_path("/lib").build();
        let mut store = Store::new(&engine, ());
        let main = Module::with_name(&engine, wasm(MAIN), "main.wasm")
            .unwrap_or_else(|error| panic!("{error}"));
        let started: Result<Instance, Error> = process.start(&mut store, &main, "/bin/main.wasm");
        started.unwrap_or_else(|error| panic!("{error}"));
        let opened = process.dlopen(&mut store, Some("c0.so"), OpenFlags::NOW);
        opened.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(process.libraries().len(), count + 1);
    });
}

#[test]
fn too_many_libraries_are_a_limit() {
    let engine = Engine::default();
    let names: Vec<String> = (0..20).map(|k| format!("l{k}.so")).collect();
    let libraries: Vec<(&str, Vec<u8>)> = names
        .iter()
        .map(|name| (name.as_str(), library("")))
        .collect();
    let profile = Profile {
        max_libraries: 5,
        ..Profile::default()
    };
    let mut world = world(&engine, profile, &libraries);
    let mut failed = 0;
    for name in &names {
        if let Err(error) = world.open(name, OpenFlags::NOW) {
            assert!(error.to_string().contains("limit"), "{error}");
            failed += 1;
        }
    }
    assert!(failed >= 15, "{failed} of 20 failed");
}

#[test]
fn a_call_of_a_function_that_nobody_defines_names_it_and_who_asked() {
    let engine = Engine::default();
    let body = r#"(import "env" "nowhere" (func $nowhere)) (func (export "f") (call $nowhere))"#;
    let mut world = world(&engine, Profile::default(), &[("lazy.so", library(body))]);
    let opened = world.open("lazy.so", OpenFlags::LAZY | OpenFlags::GLOBAL);
    opened.unwrap_or_else(|error| panic!("{error}"));
    let f = world
        .process
        .function(&mut world.store, "f")
        .unwrap_or_else(|| panic!("no f"));
    for _ in 0..2 {
        let error = f.call(&mut world.store, &[], &mut []).err();
        let error = error.unwrap_or_else(|| panic!("no trap"));
        let text = error.to_string();
        assert_eq!(
            trap_code(&Err::<(), _>(error)),
            Some(TrapCode::UnresolvedFunction),
            "{text}"
        );
        assert!(
            text.contains("nowhere") && text.contains("lazy.so"),
            "{text}"
        );
    }
}
