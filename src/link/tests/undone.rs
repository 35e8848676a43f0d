//! What a failed load leaves behind in corners: bindings, promotions, registered destructors, names, host objects; and
//! that a stopped guest runs no more code.

use super::*;
use crate::trap::TrapCode;
use std::time::Duration;

/// `__cxa_atexit` and `__cxa_finalize` as a C library has them: entries of (function, argument, handle) at 3000.
pub const CXA: &str = r#"
  (type $destructor (func (param i32)))
  (global $registered (mut i32) (i32.const 0))
  (func (export "__cxa_atexit") (param i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.add (i32.const 3000) (i32.mul (global.get $registered) (i32.const 12))))
    (i32.store (local.get $at) (local.get 0))
    (i32.store offset=4 (local.get $at) (local.get 1))
    (i32.store offset=8 (local.get $at) (local.get 2))
    (global.set $registered (i32.add (global.get $registered) (i32.const 1)))
    (i32.const 0))
  (func (export "__cxa_finalize") (param $handle i32)
    (local $number i32) (local $at i32) (local $function i32)
    (local.set $number (global.get $registered))
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $number)))
      (local.set $number (i32.sub (local.get $number) (i32.const 1)))
      (local.set $at (i32.add (i32.const 3000) (i32.mul (local.get $number) (i32.const 12))))
      (local.set $function (i32.load (local.get $at)))
      (br_if $next (i32.eqz (local.get $function)))
      (br_if $next (i32.and (i32.ne (local.get $handle) (i32.const 0))
        (i32.ne (local.get $handle) (i32.load offset=8 (local.get $at)))))
      (i32.store (local.get $at) (i32.const 0))
      (call_indirect (type $destructor) (i32.load offset=4 (local.get $at)) (local.get $function))
      (br $next)))
    (block $done (loop $next
      (br_if $done (i32.eqz (global.get $registered)))
      (local.set $at (i32.add (i32.const 2988) (i32.mul (global.get $registered) (i32.const 12))))
      (br_if $done (i32.load (local.get $at)))
      (memory.fill (local.get $at) (i32.const 0) (i32.const 12))
      (global.set $registered (i32.sub (global.get $registered) (i32.const 1)))
      (br $next))))
"#;

/// A library whose constructor registers two destructors that log 2 and 1, and then does `then`.
fn registering(then: &str) -> String {
    library(
        "(mem-info (memory 16 2) (table 1 0))",
        &format!(
            r#"{BASES} (import "env" "log" (func $log (param i32)))
            (import "env" "__cxa_atexit" (func $atexit (param i32 i32 i32) (result i32)))
            (func $destructor (param i32) (call $log (local.get 0)))
            (elem (global.get $tb) func $destructor)
            (func (export "__wasm_call_ctors")
              (drop (call $atexit (global.get $tb) (i32.const 1) (global.get $mb)))
              (drop (call $atexit (global.get $tb) (i32.const 2) (global.get $mb)))
              {then})"#
        ),
    )
}

#[test]
fn destructors_that_a_trapping_constructor_registered_run_and_are_forgotten() {
    let bad = registering("unreachable");
    let good = registering("");
    let mut world = World::started(
        &main_module("", CXA),
        &[("/lib/bad.so", &bad), ("/lib/good.so", &good)],
    );
    world.open("bad.so").unwrap_err();
    assert_eq!(world.log(), [2, 1]);
    let handle = world.open("good.so").unwrap();
    world.open("bad.so").unwrap_err();
    assert_eq!(world.log(), [2, 1, 2, 1]);
    world.process.dlclose(&mut world.store, handle).unwrap();
    assert_eq!(world.log(), [2, 1, 2, 1, 2, 1]);
    // What is left for the end of the program leads to no library that is gone.
    world.call_main("__cxa_finalize", &[0]).unwrap();
    assert_eq!(world.log().len(), 6);
}

#[test]
fn a_trapping_destructor_of_a_failed_load_does_not_keep_the_others_from_running() {
    let one = library(
        "(mem-info (memory 16 2) (table 1 0))",
        &format!(
            r#"{BASES}
            (import "env" "__cxa_atexit" (func $atexit (param i32 i32 i32) (result i32)))
            (func $destructor (param i32) unreachable)
            (elem (global.get $tb) func $destructor)
            (func (export "__wasm_call_ctors")
              (drop (call $atexit (global.get $tb) (i32.const 1) (global.get $mb))))"#
        ),
    );
    let two = registering("");
    let root = library(
        r#"(needed "two.so" "one.so")"#,
        r#"(func (export "__wasm_call_ctors") unreachable)"#,
    );
    let mut world = World::started(
        &main_module("", CXA),
        &[
            ("/lib/one.so", &one),
            ("/lib/two.so", &two),
            ("/lib/root.so", &root),
        ],
    );
    world.fails_twice("root.so");
    assert_eq!(world.log(), [2, 1, 2, 1]);
}

fn interruptible(main: &str, list: &[(&str, &str)]) -> World {
    let config = Config {
        interruption: true,
        fuel: true,
        ..Config::default()
    };
    let mut world = World::with_config(config, Profile::default(), files(list));
    world.store.set_fuel(1_000_000_000).unwrap();
    world.start(main).unwrap();
    world
}

fn is_trap(error: &Error, code: TrapCode) -> bool {
    error.trap().is_some_and(|trap| trap.code() == code)
}

#[test]
fn a_deadline_ends_the_validation_of_a_library() {
    // Blocks that take a thousand values, on a stack deeper than the quick check keeps: seconds of work.
    let numbers = "i32 ".repeat(1_000);
    let library = library(
        "(mem-info (memory 0 0) (table 0 0))",
        &format!(
            "{BASES} (type $wide (func (param {numbers}) (result {numbers}))) (func {} {} {})",
            "i32.const 0 ".repeat(5_000),
            "block (type $wide) end ".repeat(300_000),
            "drop ".repeat(5_000)
        ),
    );
    let mut world = interruptible(&main_module("", CXA), &[("/lib/slow.so", &library)]);
    let before = world.picture();
    let deadline = Duration::from_millis(100);
    world.store.set_deadline(Some(deadline)).unwrap();
    let start = std::time::Instant::now();
    let error = world.open("slow.so").unwrap_err();
    assert!(is_trap(&error, TrapCode::Interrupted), "{error}");
    let time = start.elapsed();
    assert!(time < Duration::from_millis(1_500), "{time:?}");
    world.store.set_deadline(None).unwrap();
    assert_eq!(world.picture(), before);
}

#[test]
fn a_stopped_guest_runs_neither_destructors_nor_its_allocator() {
    let endless = registering("(loop $l (br $l))");
    let good = registering("");
    let mut world = interruptible(
        &main_module("", CXA),
        &[("/lib/endless.so", &endless), ("/lib/good.so", &good)],
    );
    for stop in 0..3 {
        match stop {
            0 => world
                .store
                .set_deadline(Some(Duration::from_millis(20)))
                .unwrap(),
            1 => world.store.interrupt_handle().unwrap().interrupt(),
            _ => world.store.set_fuel(100_000).unwrap(),
        }
        let before = world.picture();
        let error = world.open("endless.so").unwrap_err();
        let code = match stop {
            0 | 1 => TrapCode::Interrupted,
            _ => TrapCode::OutOfFuel,
        };
        assert!(is_trap(&error, code), "{error}");
        world.store.set_deadline(None).unwrap();
        world.store.set_fuel(1_000_000_000).unwrap();
        assert_eq!(world.picture(), before);
        assert!(world.log().is_empty(), "a destructor ran");
        assert_eq!(world.call_main("count_freed", &[]).unwrap(), 0);
    }
    // The linker keeps the memory that it could not give back, and goes on.
    let handle = world.open("good.so").unwrap();
    world.process.dlclose(&mut world.store, handle).unwrap();
    assert_eq!(world.log(), [2, 1]);
    assert_eq!(world.call_main("count_freed", &[]).unwrap(), 1);
}

#[test]
fn an_allocator_that_is_stopped_while_memory_is_given_back_stops_the_guest() {
    let main = main_module("", "").replace(
        r#"(func (export "free") (param i32) "#,
        r#"(func (export "free") (param i32) (loop $l (br_if $l (global.get $hangs))) "#,
    );
    let main = main.replace(
        "(memory (export",
        r#"(global $hangs (mut i32) (i32.const 0)) (func (export "hang") (global.set $hangs (i32.const 1))) (memory (export"#,
    );
    let lib = library("(mem-info (memory 16 2))", BASES);
    let bad = library(
        "(mem-info (memory 16 2))",
        &format!(r#"{BASES} (func (export "__wasm_call_ctors") unreachable)"#),
    );
    let mut world = interruptible(&main, &[("/lib/l.so", &lib), ("/lib/bad.so", &bad)]);
    let handle = world.open("l.so").unwrap();
    world.call_main("hang", &[]).unwrap();
    // An interruption that nobody hears would be lost.
    world.store.set_fuel(100_000).unwrap();
    let error = world.process.dlclose(&mut world.store, handle).unwrap_err();
    assert!(is_trap(&error, TrapCode::OutOfFuel), "{error}");
    assert_eq!(world.names().len(), 1);
    world.store.set_fuel(100_000).unwrap();
    let error = world.open("bad.so").unwrap_err();
    assert!(is_trap(&error, TrapCode::OutOfFuel), "{error}");
    assert_eq!(world.names().len(), 1);
}

#[test]
fn a_hostile_graph_does_not_outlive_its_deadline() {
    let mut list = MemoryFiles::new();
    let mut needed = String::new();
    for number in 0..2000 {
        needed += &format!(" \"{number}.so\"");
        let text = library("(mem-info (memory 16 2))", BASES);
        list.insert(&format!("/lib/{number}.so"), wat::parse_str(&text).unwrap());
    }
    let text = library(&format!("(needed {needed})"), "");
    list.insert("/lib/fan.so", wat::parse_str(&text).unwrap());
    let config = Config {
        interruption: true,
        ..Config::default()
    };
    let mut world = World::with_config(config, Profile::default(), list);
    world.start(&main_module("", "")).unwrap();
    let before = world.picture();
    world
        .store
        .set_deadline(Some(Duration::from_millis(1)))
        .unwrap();
    let error = world.open("fan.so").unwrap_err();
    assert!(is_trap(&error, TrapCode::Interrupted), "{error}");
    world.store.set_deadline(None).unwrap();
    assert_eq!(world.picture(), before);
    world.open("fan.so").unwrap();
}

#[test]
fn a_load_that_a_guest_asks_for_takes_its_fuel_and_one_of_the_embedder_does_not() {
    let lib = library("(mem-info (memory 16 2))", BASES);
    let main = main_module(
        r#"(import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))"#,
        r#"(data (i32.const 1024) "l.so\00")
           (func (export "load") (result i32) (call $dlopen (i32.const 1024) (i32.const 2)))"#,
    );
    let mut world = interruptible(&main, &[("/lib/l.so", &lib)]);
    world.store.set_fuel(2000).unwrap();
    let error = world.call_main("load", &[]).unwrap_err();
    assert!(is_trap(&error, TrapCode::OutOfFuel), "{error}");
    assert_eq!(world.names().len(), 1);
    world.store.set_fuel(100_000).unwrap();
    assert_ne!(world.call_main("load", &[]).unwrap(), 0);
    let left = world.store.get_fuel().unwrap();
    assert!(left < 100_000 - 2000, "{left}");
}

#[test]
fn what_guests_ask_the_linker_costs_fuel_by_the_length_of_what_is_read() {
    let main = main_module(
        r#"(import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))
           (import "env" "dlsym" (func $dlsym (param i32 i32) (result i32)))
           (import "env" "dladdr" (func $dladdr (param i32 i32) (result i32)))
           (import "env" "dlerror" (func $dlerror (result i32)))"#,
        r#"(func $fill (export "fill") (param i32 i32) (memory.fill (i32.const 131072) (local.get 0) (local.get 1)))
           (func (export "make_room") (drop (memory.grow (i32.const 4))))
           (func (export "open") (result i32) (call $dlopen (i32.const 131072) (i32.const 6)))
           (func (export "find") (result i32) (call $dlsym (i32.const 0) (i32.const 131072)))
           (func (export "tell") (result i32) (call $dlerror))
           (func (export "locate") (result i32) (call $dladdr (i32.const 1) (i32.const 1024)))
           (elem (i32.const 1) func $fill)"#,
    );
    let mut world = interruptible(&main, &[]);
    world.call_main("make_room", &[]).unwrap();
    let cost = |world: &mut World, function: &str| {
        world.store.set_fuel(10_000_000).unwrap();
        world.call_main(function, &[]).unwrap();
        10_000_000 - world.store.get_fuel().unwrap()
    };
    // Short names, then names of 60,000 bytes, then bytes without an end within the longest name.
    for (length, function, least) in [
        (60_000, "find", 60_000),
        (60_000, "open", 60_000),
        (70_000, "find", 65_536),
        (70_000, "open", 65_536),
    ] {
        world.store.set_fuel(10_000_000).unwrap();
        world.call_main("fill", &[0, 100_000]).unwrap();
        world.call_main("fill", &[i32::from(b'x'), 3]).unwrap();
        let short = cost(&mut world, function);
        world.call_main("fill", &[i32::from(b'x'), length]).unwrap();
        let long = cost(&mut world, function);
        assert!(long >= least, "{function}: {long}");
        assert!(short < 2_000, "{function}: {short}");
        world.store.set_fuel(least - 200).unwrap();
        let error = world.call_main(function, &[]).unwrap_err();
        assert!(is_trap(&error, TrapCode::OutOfFuel), "{error}");
    }
    // The text of an error that repeats a long name, and a search through all symbols of an object.
    world.store.set_fuel(10_000_000).unwrap();
    world.call_main("fill", &[0, 100_000]).unwrap();
    cost(&mut world, "find");
    let told = cost(&mut world, "tell");
    let nothing_to_tell = cost(&mut world, "tell");
    assert!(told > nothing_to_tell + 20, "{told}, {nothing_to_tell}");
    let symbols = 12;
    assert!(cost(&mut world, "locate") >= nothing_to_tell + symbols);
}

#[test]
fn an_old_library_is_not_bound_to_one_whose_load_fails() {
    let old = library(
        "",
        r#"(import "env" "later" (func $later (result i32)))
           (func (export "use_later") (result i32) (call $later))"#,
    );
    let new = |value: i32, then: &str| {
        library(
            "",
            &format!(
                r#"(import "env" "use_later" (func $use (result i32)))
                (import "env" "log" (func $log (param i32)))
                (func (export "later") (result i32) (i32.const {value}))
                (func (export "__wasm_call_ctors") (call $log (call $use)) (call $log (call $use)) {then})"#
            ),
        )
    };
    let (bad, good) = (new(1, "unreachable"), new(2, ""));
    let mut world = World::started(
        &main_module("", ""),
        &[
            ("/lib/old.so", &old),
            ("/lib/bad.so", &bad),
            ("/lib/good.so", &good),
        ],
    );
    let old = world
        .open_with("old.so", OpenFlags::LAZY | OpenFlags::GLOBAL)
        .unwrap();
    let flags = OpenFlags::NOW | OpenFlags::GLOBAL;
    for round in 1..=2 {
        world.open_with("bad.so", flags).unwrap_err();
        assert_eq!(world.log(), vec![1; 2 * round]);
        let error = world.call(old, "use_later", &[]).unwrap_err().to_string();
        assert!(
            error.contains("external symbol 'later' is missing"),
            "{error}"
        );
    }
    let good = world.open_with("good.so", flags).unwrap();
    assert_eq!(world.log()[4..], [2, 2]);
    assert_eq!(world.call(old, "use_later", &[]).unwrap(), 2);
    // Bound now, so it stays as long as the old one does.
    world.process.dlclose(&mut world.store, good).unwrap();
    assert_eq!(world.names(), ["/app/main.wasm", "old.so", "good.so"]);
    assert_eq!(world.call(old, "use_later", &[]).unwrap(), 2);
}

#[test]
fn what_a_nested_dlopen_made_global_stays_global_when_the_outer_load_fails() {
    let leaf = |name: &str, value: i32| {
        library(
            "",
            &format!(
                r#"(func (export "{name}") (result i32) (i32.const {value}))
                (func (export "both") (result i32) (i32.const {value}))"#
            ),
        )
    };
    let (x, y, z) = (leaf("x", 1), leaf("y", 2), leaf("z", 3));
    let outer = library(
        r#"(mem-info (memory 64 0)) (needed "x.so" "y.so")"#,
        r#"(import "env" "memory" (memory 0)) (import "env" "__memory_base" (global $mb i32))
           (import "env" "log" (func $log (param i32)))
           (import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))
           (data (global.get $mb) "z.so\00x.so\00")
           (func $open (param i32 i32)
             (call $log (i32.ne (i32.const 0) (call $dlopen (i32.add (global.get $mb) (local.get 0)) (local.get 1)))))
           (func (export "__wasm_call_ctors")
             (call $open (i32.const 0) (i32.const 258))
             (call $open (i32.const 5) (i32.const 262))
             unreachable)"#,
    );
    let mut world = World::started(
        &main_module("", ""),
        &[
            ("/lib/x.so", &x),
            ("/lib/y.so", &y),
            ("/lib/z.so", &z),
            ("/lib/outer.so", &outer),
        ],
    );
    world.open("x.so").unwrap();
    world.open("y.so").unwrap();
    let flags = OpenFlags::NOW | OpenFlags::GLOBAL;
    for _ in 0..2 {
        world.open_with("outer.so", flags).unwrap_err();
        assert!(world.symbol(RTLD_DEFAULT, "x").is_ok());
        assert!(world.symbol(RTLD_DEFAULT, "y").is_err());
        // In the order of the nested calls: `z.so` was opened before `x.so` was promoted.
        let both = world.symbol(RTLD_DEFAULT, "both").unwrap();
        assert_eq!(world.call_slot(both, &[]).unwrap(), 3);
    }
    assert_eq!(world.log(), [1, 1, 1, 1]);
}

#[test]
fn a_library_opened_by_a_thousand_paths_has_a_few_names() {
    let lib = library("", "");
    let mut world = World::started(&main_module("", ""), &[("/lib/l.so", &lib)]);
    let handle = world.open("l.so").unwrap();
    for number in 0..1000 {
        let path = format!("/lib/{}l.so", "./".repeat(number));
        assert_eq!(world.open(&path).unwrap(), handle);
    }
    assert!(world.process.state().names.len() < 20);
}

#[test]
fn strings_of_dladdr_go_with_their_library() {
    let lib = library(
        "(mem-info (memory 8 2))",
        &format!(r#"{BASES} (global (export "value") i32 (i32.const 4))"#),
    );
    let main = main_module(
        r#"(import "env" "dladdr" (func $dladdr (param i32 i32) (result i32)))"#,
        r#"(func (export "addr") (param i32) (result i32) (call $dladdr (local.get 0) (i32.const 2048)))"#,
    );
    let mut world = World::started(&main, &[("/lib/l.so", &lib)]);
    for round in 1..=3 {
        let handle = world.open("l.so").unwrap();
        let value = world.symbol(handle, "value").unwrap();
        for _ in 0..3 {
            assert_eq!(world.call_main("addr", &[value as i32]).unwrap(), 1);
        }
        world.process.dlclose(&mut world.store, handle).unwrap();
        // Its data, its path and the symbol's name.
        assert_eq!(world.call_main("count_freed", &[]).unwrap(), 3 * round);
    }
}

/// How much the process and its store hold of everything.
fn sizes(world: &World) -> Vec<(&'static str, usize)> {
    let core = &world.store.inner.core;
    let state = world.process.state();
    vec![
        ("groups", core.groups.iter().count()),
        ("held groups", core.held.len()),
        ("pieces of code", core.code.iter().count()),
        ("objects", state.objects.len()),
        ("names", state.names.len() + state.identities.len()),
        ("instances", state.instances.len()),
        (
            "host functions",
            state.host_functions.len() + state.own_functions.len(),
        ),
        ("scopes", state.global.len()),
        ("retired", state.retired.len() + state.spent),
        ("loads", state.loading.len()),
    ]
}

#[test]
fn a_thousand_failing_loads_leave_nothing_in_the_store() {
    let cases = [
        (
            "undefined.so",
            r#"(import "env" "log" (func (param i32))) (import "env" "nobody" (func))"#,
        ),
        (
            "cells.so",
            r#"(import "GOT.func" "host_only" (global (mut i32))) (import "GOT.func" "malloc" (global (mut i32)))
               (import "env" "host_only" (func (result i32)))
               (func (export "__wasm_call_ctors") unreachable)"#,
        ),
        (
            "start.so",
            r#"(import "env" "log" (func $log (param i32)))
               (func $s (call $log (i32.const 1)) unreachable) (start $s)"#,
        ),
        (
            "relocation.so",
            r#"(import "env" "dlopen" (func (param i32 i32) (result i32)))
               (func (export "__wasm_apply_data_relocs") unreachable)"#,
        ),
        (
            "lazy.so",
            r#"(import "env" "nobody" (func $f))
               (func (export "__wasm_call_ctors") (call $f))"#,
        ),
    ];
    let mut list: Vec<(String, String)> = cases
        .iter()
        .map(|(name, body)| {
            let info = r#"(mem-info (memory 64 2) (table 2 0)) (needed "leaf.so")"#;
            let body = format!("{body} (func $own) (export \"own\" (func $own))");
            (
                format!("/lib/{name}"),
                library(info, &format!("{BASES} {body}")),
            )
        })
        .collect();
    list.push((
        "/lib/leaf.so".into(),
        library(
            "(mem-info (memory 64 2) (table 1 0))",
            &format!(
                r#"{BASES} (import "env" "log" (func $log (param i32)))
                   (func $f (export "leaf")) (elem (global.get $tb) func $f)
                   (func (export "__wasm_call_ctors") (call $log (i32.const 2)))"#
            ),
        ),
    ));
    list.push((
        "/lib/missing.so".into(),
        library(r#"(needed "leaf.so" "missing-too.so")"#, ""),
    ));
    let list: Vec<(&str, &str)> = list
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let mut world = World::started(&main_module("", ""), &list);
    let names = cases.map(|(name, _)| name);
    let round = |world: &mut World| {
        for name in names.iter().chain(&["missing.so", "nowhere.so"]) {
            let flags = match *name {
                "lazy.so" => OpenFlags::LAZY,
                _ => OpenFlags::NOW | OpenFlags::GLOBAL,
            };
            world.open_with(name, flags).unwrap_err();
        }
    };
    round(&mut world);
    let before = sizes(&world);
    let table = world.process.table().unwrap().size(&world.store);
    for _ in 0..150 {
        round(&mut world);
    }
    assert_eq!(sizes(&world), before);
    assert!(world.process.table().unwrap().size(&world.store) <= table + 4096 + 64);
}

#[test]
fn libraries_cannot_make_the_host_keep_functions_without_end() {
    let mut list = MemoryFiles::new();
    for number in 0..20 {
        // Another type each time, so another function of the host.
        let params = "i32 ".repeat(number + 2);
        let text = library(
            "",
            &format!(r#"(import "env" "any" (func (param {params})))"#),
        );
        list.insert(&format!("/lib/{number}.so"), wat::parse_str(&text).unwrap());
    }
    let profile = Profile {
        max_host_functions: 10,
        ..Profile::default()
    };
    let mut world = World::with_files(profile, list);
    world.start(&main_module("", "")).unwrap();
    let mut opened = 0;
    let error = loop {
        match world.open(&format!("{opened}.so")) {
            Ok(handle) => world.process.dlclose(&mut world.store, handle).unwrap(),
            Err(error) => break error.to_string(),
        }
        opened += 1;
    };
    assert_eq!(opened, 11);
    assert!(error.contains("bound to: 11 needed, 10 allowed"), "{error}");
    // What is loaded already still opens.
    assert_eq!(world.names().len(), 1);
}

#[test]
fn what_the_embedder_asks_the_linker_is_not_stopped_by_a_deadline_of_guests() {
    let main = main_module("", r#"(func (export "cleanup"))"#);
    let mut world = interruptible(&main, &[]);
    world.store.set_deadline(Some(Duration::ZERO)).unwrap();
    let (process, store) = (&world.process, &mut world.store);
    let handle = process.dlopen(&mut *store, None, OpenFlags::NOW).unwrap();
    process.dlsym(&mut *store, handle, "cleanup").unwrap();
    let error = world.call_main("cleanup", &[]).unwrap_err();
    assert!(is_trap(&error, TrapCode::Interrupted), "{error}");
}
