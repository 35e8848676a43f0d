//! What libraries register for their end with a C library that only ever adds to its list, as musl's.

use super::*;

/// A C library in the main module: pairs of function and argument from 1024 on, their number at 1020. `exit` calls the
/// last first. `atexit` is never reached by libraries that can be unloaded.
const LIBC: &str = r#"
  (type $handler (func (param i32)))
  (func $register (export "__cxa_atexit") (param $function i32) (param $argument i32) (param i32) (result i32)
    (local $at i32)
    (local.set $at (i32.add (i32.const 1024) (i32.mul (i32.load (i32.const 1020)) (i32.const 8))))
    (i32.store (local.get $at) (local.get $function))
    (i32.store offset=4 (local.get $at) (local.get $argument))
    (i32.store (i32.const 1020) (i32.add (i32.load (i32.const 1020)) (i32.const 1)))
    (i32.const 0))
  (func (export "atexit") (param i32) (result i32) unreachable)
  (func (export "exit")
    (local $at i32)
    (loop $next
      (if (i32.load (i32.const 1020)) (then
        (i32.store (i32.const 1020) (i32.sub (i32.load (i32.const 1020)) (i32.const 1)))
        (local.set $at (i32.add (i32.const 1024) (i32.mul (i32.load (i32.const 1020)) (i32.const 8))))
        (call_indirect (type $handler) (i32.load offset=4 (local.get $at)) (i32.load (local.get $at)))
        (br $next)))))
  (func $own (param i32) (call $log (local.get 0)))
  (elem (i32.const 1) $own)
  (func (export "register_own") (param i32)
    (drop (call $register (i32.const 1) (local.get 0) (i32.const 0))))
"#;

/// An empty one, as musl's.
const FORGETFUL: &str = r#"(func (export "__cxa_finalize") (param i32))"#;

fn main_with(finalize: &str) -> String {
    main_module(
        r#"(import "env" "log" (func $log (param i32)))"#,
        &format!("{LIBC} {finalize}"),
    )
}

/// As [`registering`], but by the addresses of the functions: from GOT cells, or asked for with `dlsym`.
fn registering_by_address(first: i32, second: i32, asks: bool) -> String {
    let (imports, [cxa_atexit, atexit]) = if asks {
        (
            r#"(import "env" "dlsym" (func $dlsym (param i32 i32) (result i32)))"#,
            [0, 16].map(|offset| {
                format!(
                    "(call $dlsym (i32.const 0) (i32.add (global.get $mb) (i32.const {offset})))"
                )
            }),
        )
    } else {
        (
            r#"(import "GOT.func" "__cxa_atexit" (global $cxa_atexit (mut i32)))
               (import "GOT.func" "atexit" (global $atexit (mut i32)))"#,
            ["(global.get $cxa_atexit)", "(global.get $atexit)"].map(String::from),
        )
    };
    library(
        "(mem-info (memory 32 2) (table 2 0))",
        &format!(
            r#"{BASES}
  (import "env" "log" (func $log (param i32)))
  {imports}
  (type $three (func (param i32 i32 i32) (result i32)))
  (type $one (func (param i32) (result i32)))
  (data (global.get $mb) "__cxa_atexit\00\00\00\00atexit\00")
  (func $with (param i32) (call $log (local.get 0)))
  (func $without (call $log (i32.const {second})))
  (elem (global.get $tb) $with $without)
  (func (export "address") (result i32) {cxa_atexit})
  (func (export "__wasm_call_ctors")
    (drop (call_indirect (type $three) (global.get $tb) (i32.const {first}) (global.get $mb) {cxa_atexit}))
    (drop (call_indirect (type $one) (i32.add (global.get $tb) (i32.const 1)) {atexit})))"#
        ),
    )
}

/// A library whose constructor registers functions that log `first` (through `__cxa_atexit`) and `second` (`atexit`).
fn registering(first: i32, second: i32, after: &str) -> String {
    library(
        "(mem-info (memory 4 2) (table 2 0))",
        &format!(
            r#"{BASES}
  (import "env" "log" (func $log (param i32)))
  (import "env" "__cxa_atexit" (func $cxa_atexit (param i32 i32 i32) (result i32)))
  (import "env" "atexit" (func $atexit (param i32) (result i32)))
  (func $with (param i32) (call $log (local.get 0)))
  (func $without (call $log (i32.const {second})))
  (elem (global.get $tb) $with $without)
  (func (export "__wasm_call_ctors")
    (drop (call $cxa_atexit (global.get $tb) (i32.const {first}) (global.get $mb)))
    (drop (call $atexit (i32.add (global.get $tb) (i32.const 1))))
    {after})"#
        ),
    )
}

#[test]
fn handlers_registered_by_address_run_when_their_library_is_closed_and_never_again() {
    for start in [World::started, World::started_telling_bindings] {
        handlers_registered_by_address(start);
    }
}

fn handlers_registered_by_address(start: fn(&str, &[(&str, &str)]) -> World) {
    let (cells, asks) = (
        registering_by_address(1, 2, false),
        registering_by_address(3, 4, true),
    );
    let main = main_with(FORGETFUL);
    let list = [("/lib/a.so", &*cells), ("/lib/b.so", &*asks)];
    let mut world = start(&main, &list);
    for round in 0..3 {
        for (name, handlers) in [("a.so", [2, 1]), ("b.so", [4, 3])] {
            let handle = world.open(name).unwrap();
            assert!(world.log().is_empty(), "{name}");
            world
                .process
                .dlclose(&mut world.store, handle)
                .expect("closed");
            assert_eq!(world.log(), handlers, "{name} {round}");
            world.store.data_mut().log.clear();
        }
    }
    let handles = ["a.so", "b.so"].map(|name| world.open(name).unwrap());
    // The address is one for all who ask, and main's handlers go to the C library as they are.
    let addresses = handles.map(|handle| world.call(handle, "address", &[]).unwrap());
    assert_eq!(addresses[0], addresses[1]);
    let address = world
        .symbol(super::super::RTLD_DEFAULT, "__cxa_atexit")
        .unwrap();
    assert_eq!(address.cast_signed(), addresses[0]);
    let before = entries(&world);
    assert_eq!(world.call_slot(address, &[1, 60, 0]).unwrap(), 0);
    assert_eq!(entries(&world), before + 1);
    world.call_main("exit", &[]).unwrap();
    assert_eq!(world.log(), [60, 4, 3, 2, 1]);
}

fn entries(world: &World) -> i32 {
    world.read(1020)
}

#[test]
fn handlers_of_a_closed_library_run_when_it_is_closed_and_never_again() {
    let library = registering(1, 2, "");
    let mut world = World::started(&main_with(FORGETFUL), &[("/lib/a.so", &library)]);
    for _ in 0..100 {
        let handle = world.open("a.so").unwrap();
        assert!(world.log().is_empty());
        world
            .process
            .dlclose(&mut world.store, handle)
            .expect("closed");
        assert_eq!(world.log(), [2, 1]);
        world.store.data_mut().log.clear();
        assert_eq!(entries(&world), 2, "the C library's list does not grow");
    }
    world.call_main("exit", &[]).unwrap();
    assert!(world.log().is_empty());
}

#[test]
fn handlers_of_open_libraries_run_at_the_end_in_reverse_order() {
    let (a, b, c) = (
        registering(1, 2, ""),
        registering(3, 4, ""),
        registering(5, 6, ""),
    );
    let list = [("/lib/a.so", &*a), ("/lib/b.so", &*b), ("/lib/c.so", &*c)];
    let mut world = World::started(&main_with(FORGETFUL), &list);
    world.open("a.so").unwrap();
    world.call_main("register_own", &[70]).unwrap();
    let closed = world.open("b.so").unwrap();
    world.call_main("register_own", &[80]).unwrap();
    world.open("c.so").unwrap();
    world
        .process
        .dlclose(&mut world.store, closed)
        .expect("closed");
    world.call_main("exit", &[]).unwrap();
    assert_eq!(world.log(), [4, 3, 6, 5, 80, 70, 2, 1]);
}

#[test]
fn what_a_handler_registers_at_the_end_runs_next() {
    let library = registering(1, 2, "").replace(
        "(func $without (call $log",
        "(func $without
            (drop (call $cxa_atexit (global.get $tb) (i32.const 77) (global.get $mb)))
            (call $log",
    );
    let mut world = World::started(&main_with(FORGETFUL), &[("/lib/a.so", &library)]);
    world.open("a.so").unwrap();
    world.call_main("exit", &[]).unwrap();
    assert_eq!(world.log(), [2, 77, 1]);
    assert_eq!(entries(&world), 0);
}

#[test]
fn a_c_library_that_can_forget_is_left_alone() {
    let library = registering(1, 2, "");
    let library = library.replace(
        "(drop (call $atexit (i32.add (global.get $tb) (i32.const 1))))",
        "",
    );
    let finalize = r#"(func (export "__cxa_finalize") (param i32) (call $log (i32.const 99)))"#;
    let mut world = World::started(&main_with(finalize), &[("/lib/a.so", &library)]);
    let handle = world.open("a.so").unwrap();
    world
        .process
        .dlclose(&mut world.store, handle)
        .expect("closed");
    assert_eq!(world.log(), [99]);
    assert_eq!(entries(&world), 1);
}

#[test]
fn what_a_failed_load_registered_runs_when_it_is_taken_back_and_never_again() {
    let library = registering(1, 2, "unreachable");
    let good = registering(3, 4, "");
    let list = [("/lib/a.so", &*library), ("/lib/b.so", &*good)];
    let mut world = World::started(&main_with(FORGETFUL), &list);
    for _ in 0..3 {
        world.open("a.so").unwrap_err();
        assert_eq!(world.log(), [2, 1]);
        world.store.data_mut().log.clear();
    }
    assert_eq!(entries(&world), 2);
    world.open("b.so").unwrap();
    world.call_main("exit", &[]).unwrap();
    assert_eq!(world.log(), [4, 3], "and never again");
}

#[test]
fn a_load_that_is_unwound_runs_handlers_and_one_that_ends_the_process_does_not() {
    for (host, expected) in [("unwind", &[2, 1][..]), ("end", &[])] {
        let library = registering(1, 2, &format!("(call ${host})")).replace(
            r#"(import "env" "log""#,
            &format!(r#"(import "env" "{host}" (func ${host})) (import "env" "log""#),
        );
        let mut world = World::started(&main_with(FORGETFUL), &[("/lib/a.so", &library)]);
        world.open("a.so").unwrap_err();
        assert_eq!(world.log(), expected, "{host}");
        assert!(!world.names().contains(&"a.so".to_string()));
    }
}

#[test]
fn a_handler_that_registers_itself_again_and_fails_does_not_keep_a_failed_load_for_ever() {
    let library = registering(1, 2, "unreachable").replace(
        "(func $without (call $log",
        "(func $without
            (drop (call $atexit (i32.add (global.get $tb) (i32.const 1))))
            (call $log (i32.const 5))
            unreachable
            (call $log",
    );
    let mut world = World::started(&main_with(FORGETFUL), &[("/lib/a.so", &library)]);
    world.open("a.so").unwrap_err();
    let log = world.log();
    assert!(log.contains(&5) && log.len() < 10, "{log:?}");
    assert!(!world.names().contains(&"a.so".to_string()));
}

#[test]
fn a_handler_that_fails_is_told_and_the_library_stays() {
    let library = registering(1, 2, "");
    let library = library.replace(
        "(func $without (call $log",
        "(func $without unreachable (call $log",
    );
    let mut world = World::started(&main_with(FORGETFUL), &[("/lib/a.so", &library)]);
    let handle = world.open("a.so").unwrap();
    let error = world
        .process
        .dlclose(&mut world.store, handle)
        .expect_err("a trap");
    assert!(
        error.to_string().contains("destructors of `a.so`"),
        "{error}"
    );
    assert!(world.names().contains(&"a.so".to_string()));
}
