//! Loads that fail: all problems at once, no trace, and the same again.

use super::*;

#[test]
fn a_missing_library_is_named_with_who_needs_it_and_where_it_was_looked_for() {
    let a = library(r#"(needed "b.so") (runtime-path "$ORIGIN/sub")"#, "");
    let b = library(r#"(needed "none.so" "also-none.so")"#, "");
    let mut world = World::started(
        &main_module("", ""),
        &[("/lib/a.so", &a), ("/lib/sub/b.so", &b)],
    );
    let text = world.fails_twice("a.so");
    assert!(text.starts_with("cannot load `a.so`: "), "{text}");
    for name in ["none.so", "also-none.so"] {
        let expected = format!(
            "shared library dependency not found in library path: `{name}`, needed by `b.so`, needed by `a.so` (looked for in: /lib/{name})"
        );
        assert!(text.contains(&expected), "{text}");
    }
}

#[test]
fn all_undefined_and_mismatching_symbols_are_listed_at_once() {
    let lib = library(
        "",
        r#"(import "env" "one" (func (param i32) (result i32)))
           (import "GOT.mem" "two" (global (mut i32)))
           (import "GOT.func" "three" (global (mut i32)))
           (import "env" "malloc" (func (param i64) (result i32)))
           (import "env" "free" (func))
           (import "other" "four" (func))
           (import "env" "five" (global i32))"#,
    );
    let mut world = World::started(&main_module("", ""), &[("/lib/l.so", &lib)]);
    let text = world.fails_twice("l.so");
    for expected in [
        "undefined function `one`: (i32) -> (i32), wanted by `l.so`",
        "undefined data symbol `two`",
        "undefined function `three` (its address is taken)",
        "signature mismatch for `malloc`: wanted (i64) -> (i32), but `/app/main.wasm` exports (i32) -> (i32) (they differ in parameter 1)",
        "they differ in the number of parameters",
        "import `other.four`: undefined function `four`",
        "undefined global `five`: an immutable i32",
    ] {
        assert!(text.contains(expected), "{expected}\n---\n{text}");
    }
}

#[test]
fn a_trapping_constructor_leaves_no_trace() {
    let good = library(
        "(mem-info (memory 16 2) (table 2 0))",
        &format!(
            r#"{BASES} (import "env" "log" (func $log (param i32)))
            (func $f (export "f") (result i32) (i32.const 1)) (elem (global.get $tb) func $f $f)
            (func (export "__wasm_call_ctors") (call $log (i32.const 1)))"#
        ),
    );
    let bad = library(
        r#"(mem-info (memory 16 2) (table 2 0)) (needed "good.so")"#,
        &format!(
            r#"{BASES} (import "env" "__stack_pointer" (global $sp (mut i32)))
            (import "GOT.func" "malloc" (global $malloc (mut i32)))
            (func $g (export "g")) (elem (global.get $tb) func $g $g)
            (func (export "__wasm_call_ctors")
              (global.set $sp (i32.sub (global.get $sp) (i32.const 64)))
              (table.set (i32.add (global.get $tb) (i32.const 1)) (ref.func $g))
              unreachable)"#
        ),
    );
    let mut world = World::started(
        &main_module("", ""),
        &[("/lib/good.so", &good), ("/lib/bad.so", &bad)],
    );
    let text = world.fails_twice("bad.so");
    assert!(
        text.contains("constructor of `bad.so` (__wasm_call_ctors): wasm trap: unreachable"),
        "{text}"
    );
    assert_eq!(world.log(), [1, 1]);
    assert_eq!(world.call_main("count_freed", &[]).unwrap(), 4);
    let good = world.open("good.so").unwrap();
    assert_eq!(world.call(good, "f", &[]).unwrap(), 1);
}

#[test]
fn a_trapping_start_function_or_relocation_leaves_no_trace() {
    let start = library(
        "(mem-info (memory 16 2) (table 1 0))",
        &format!("{BASES} (func $s unreachable) (start $s)"),
    );
    let relocation = library(
        "(mem-info (memory 16 2) (table 1 0))",
        &format!(r#"{BASES} (func (export "__wasm_apply_data_relocs") unreachable)"#),
    );
    let mut world = World::started(
        &main_module("", ""),
        &[("/lib/start.so", &start), ("/lib/reloc.so", &relocation)],
    );
    let text = world.fails_twice("start.so");
    assert!(
        text.contains("cannot instantiate `start.so`: wasm trap: unreachable"),
        "{text}"
    );
    let text = world.fails_twice("reloc.so");
    assert!(
        text.contains("relocating `reloc.so` (__wasm_apply_data_relocs): wasm trap: unreachable"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_no_library_is_refused() {
    let mut list = files(&[
        ("/lib/plain.so", "(module)"),
        ("/lib/main.so", &main_module("", "")),
    ]);
    list.insert("/lib/text.so", b"hello".to_vec());
    list.insert("/lib/empty.so", Vec::new());
    let mut world = World::with_files(Profile::default(), list);
    world.start(&main_module("", "")).unwrap();
    let text = world.fails_twice("plain.so");
    assert!(text.contains("not a dynamic library"), "{text}");
    let text = world.fails_twice("main.so");
    assert!(text.contains("a memory of its own"), "{text}");
    world.fails_twice("text.so");
    world.fails_twice("empty.so");
}

#[test]
fn a_table_that_cannot_grow_is_a_limit_and_leaves_no_trace() {
    let lib = library(
        "(mem-info (memory 16 2) (table 100 0))",
        &format!("{BASES} (func)"),
    );
    let main = main_module("", "").replace("4 funcref", "4 10 funcref");
    let mut world = World::started(&main, &[("/lib/l.so", &lib)]);
    let text = world.fails_twice("l.so");
    assert!(
        text.contains("--growable-table") && text.contains("10 allowed"),
        "{text}"
    );
    assert_eq!(world.call_main("count_freed", &[]).unwrap(), 2);
}

#[test]
fn a_memory_limit_is_an_error_and_leaves_no_trace() {
    let lib = library("(mem-info (memory 1000000 2))", BASES);
    for main in [
        main_module("", ""),
        r#"(module (memory (export "memory") 2)
             (table (export "__indirect_function_table") 4 funcref))"#
            .to_string(),
    ] {
        let mut world = World::started(&main, &[("/lib/l.so", &lib)]);
        world.store.data_mut().limits.memory_bytes = Some(4 << 16);
        world.store.limiter(|data| &mut data.limits);
        let text = world.fails_twice("l.so");
        assert!(text.contains("limit reached: memory for `l.so`"), "{text}");
    }
}

#[test]
fn hostile_sizes_and_alignments_are_errors() {
    let files: Vec<(String, String)> = [
        "(mem-info (memory 4294967295 0))",
        "(mem-info (memory 4294967295 16))",
        "(mem-info (memory 1 255))",
        "(mem-info (memory 1 31))",
        "(mem-info (table 4294967295 0))",
        "(mem-info (table 1 255))",
        "(mem-info (table 4294967295 16))",
    ]
    .iter()
    .enumerate()
    .map(|(number, info)| (format!("/lib/{number}.so"), library(info, BASES)))
    .collect();
    let list: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    for main in [
        main_module("", ""),
        r#"(module (memory (export "memory") 2)
             (table (export "__indirect_function_table") 4 funcref))"#
            .to_string(),
    ] {
        let mut world = World::started(&main, &list);
        for (path, text) in &list {
            let library = path.trim_start_matches("/lib/");
            if text.contains("(memory 1 31)") {
                continue;
            }
            world.fails_twice(library);
        }
    }
}

#[test]
fn a_segment_outside_of_the_reservation_is_refused_before_it_is_copied() {
    let data = library(
        "(mem-info (memory 4 0) (table 1 0))",
        &format!(r#"{BASES} (data (i32.const 2048) "\01")"#),
    );
    let long = library(
        "(mem-info (memory 4 0) (table 1 0))",
        &format!(r#"{BASES} (data (global.get $mb) "12345")"#),
    );
    let element = library(
        "(mem-info (memory 4 0) (table 1 0))",
        &format!("{BASES} (func $f) (elem (i32.const 0) func $f)"),
    );
    let mut world = World::started(
        &main_module("", ""),
        &[
            ("/lib/d.so", &data),
            ("/lib/l.so", &long),
            ("/lib/e.so", &element),
        ],
    );
    for name in ["d.so", "l.so"] {
        let text = world.fails_twice(name);
        assert!(
            text.contains("data segment 0 lies outside of the 4 bytes"),
            "{text}"
        );
    }
    assert_eq!(world.read(2048), 0);
    let text = world.fails_twice("e.so");
    assert!(text.contains("element segment 0 lies outside"), "{text}");
}

#[test]
fn a_failed_load_takes_what_it_brought_in_with_it_but_not_what_finished_on_its_own() {
    let independent = library("", r#"(func (export "i") (result i32) (i32.const 1))"#);
    let dependent = library(
        "",
        r#"(import "env" "outer" (func $o (result i32))) (func (export "d") (result i32) (call $o))"#,
    );
    let outer = library(
        "(mem-info (memory 64 0))",
        r#"(import "env" "memory" (memory 0)) (import "env" "__memory_base" (global $mb i32))
           (import "env" "log" (func $log (param i32)))
           (import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))
           (data (global.get $mb) "independent.so\00dependent.so\00")
           (func (export "outer") (result i32) (i32.const 2))
           (func (export "__wasm_call_ctors")
             (call $log (i32.ne (i32.const 0) (call $dlopen (global.get $mb) (i32.const 2))))
             (call $log (i32.ne (i32.const 0)
               (call $dlopen (i32.add (global.get $mb) (i32.const 15)) (i32.const 2))))
             unreachable)"#,
    );
    let mut world = World::started(
        &main_module("", ""),
        &[
            ("/lib/independent.so", &independent),
            ("/lib/dependent.so", &dependent),
            ("/lib/outer.so", &outer),
        ],
    );
    let flags = OpenFlags::NOW | OpenFlags::GLOBAL;
    let first = world.open_with("outer.so", flags).unwrap_err().to_string();
    assert_eq!(world.log(), [1, 1]);
    assert_eq!(world.names(), ["/app/main.wasm", "independent.so"]);
    let second = world.open_with("outer.so", flags).unwrap_err().to_string();
    assert_eq!(first, second);
    assert_eq!(world.names(), ["/app/main.wasm", "independent.so"]);
    let handle = world.open("independent.so").unwrap();
    assert_eq!(world.call(handle, "i", &[]).unwrap(), 1);
    assert!(world.symbol(RTLD_DEFAULT, "outer").is_err());
}

#[test]
fn a_start_function_cannot_load_libraries() {
    let lib = library(
        "(mem-info (memory 8 0))",
        r#"(import "env" "memory" (memory 0)) (import "env" "__memory_base" (global $mb i32))
           (import "env" "log" (func $log (param i32)))
           (import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))
           (data (global.get $mb) "x.so\00")
           (func $s (call $log (call $dlopen (global.get $mb) (i32.const 2))))
           (start $s)"#,
    );
    let other = library("", "");
    let mut world = World::started(
        &main_module("", ""),
        &[("/lib/l.so", &lib), ("/lib/x.so", &other)],
    );
    world.open("l.so").unwrap();
    assert_eq!(world.log(), [0]);
    assert!(world.process.dlerror().unwrap().contains("start function"));
    world.open("x.so").unwrap();
}

#[test]
fn a_chain_of_ten_thousand_libraries_loads_in_order() {
    let count = 10_000;
    let mut list = MemoryFiles::new();
    for number in 0..count {
        let needed = if number + 1 < count {
            format!("(needed \"{}.so\")", number + 1)
        } else {
            String::new()
        };
        let text = library(&needed, r#"(func (export "f"))"#);
        list.insert(&format!("/lib/{number}.so"), wat::parse_str(&text).unwrap());
    }
    let mut world = World::with_files(Profile::default(), list);
    world.start(&main_module("", "")).unwrap();
    world.open("0.so").unwrap();
    assert_eq!(world.process.libraries().len(), count + 1);
}

#[test]
fn a_library_that_needs_five_thousand_loads_them_or_says_the_limit() {
    let count = 5_000;
    let mut list = MemoryFiles::new();
    let mut needed = String::new();
    for number in 0..count {
        needed += &format!(" \"{number}.so\"");
        let text = library("", &format!(r#"(func (export "f{number}"))"#));
        list.insert(&format!("/lib/{number}.so"), wat::parse_str(&text).unwrap());
    }
    let text = library(
        &format!("(needed {needed})"),
        r#"(import "env" "f4999" (func))"#,
    );
    list.insert("/lib/fan.so", wat::parse_str(&text).unwrap());
    let mut world = World::with_files(Profile::default(), list.clone());
    world.start(&main_module("", "")).unwrap();
    world.open("fan.so").unwrap();
    assert_eq!(world.process.libraries().len(), count + 2);

    let profile = Profile {
        max_libraries: 100,
        ..Profile::default()
    };
    let mut world = World::with_files(profile, list);
    world.start(&main_module("", "")).unwrap();
    let text = world.fails_twice("fan.so");
    assert!(
        text.contains("limit reached: libraries in one process"),
        "{text}"
    );
}

#[test]
fn a_main_module_whose_library_fails_leaves_an_empty_process() {
    let lib = library("", "(func $s unreachable) (start $s)");
    let main = main_module("", "").replace("(@dylink.0)", r#"(@dylink.0 (needed "l.so"))"#);
    let mut world = World::new(Profile::default(), &[("/lib/l.so", &lib)]);
    let first = world.start(&main).unwrap_err().to_string();
    let second = world.start(&main).unwrap_err().to_string();
    assert_eq!(first, second);
    assert!(world.process.memory().is_none());
    assert!(world.names().is_empty());
    world.start(&main_module("", "")).unwrap();
}
