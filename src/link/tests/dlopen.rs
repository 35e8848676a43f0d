//! Opening, symbols by handle, closing, and the same through the guest's own calls.

use super::*;

const COUNTER: &str = r#"
  (import "env" "memory" (memory 0))
  (import "env" "__memory_base" (global $mb i32))
  (import "env" "log" (func $log (param i32)))
  (global (export "value") i32 (i32.const 4))
  (data (global.get $mb) "\00\00\00\00\2a\00\00\00")
  (func (export "bump") (result i32)
    (i32.store (global.get $mb) (i32.add (i32.load (global.get $mb)) (i32.const 1)))
    (i32.load (global.get $mb)))
  (func (export "__wasm_call_ctors") (call $log (i32.const 1)))
"#;

fn counter() -> String {
    library("(mem-info (memory 8 2))", COUNTER)
}

#[test]
fn a_library_opened_again_is_the_same_and_is_constructed_once() {
    let counter = counter();
    let mut world = World::started(&main_module("", ""), &[("/lib/c.so", &counter)]);
    let first = world.open("c.so").unwrap();
    let second = world.open("/lib/c.so").unwrap();
    let third = world.open("/lib/../lib/./c.so").unwrap();
    assert_eq!((first, first), (second, third));
    assert_eq!(world.log(), [1]);
    assert_eq!(world.call(first, "bump", &[]).unwrap(), 1);
    assert_eq!(world.call(first, "bump", &[]).unwrap(), 2);
    let value = world.symbol(first, "value").unwrap();
    assert_eq!(world.read(value), 42);
    assert_eq!(world.symbol(first, "value").unwrap(), value);
    assert_eq!(
        world.symbol(first, "bump").unwrap(),
        world.symbol(second, "bump").unwrap()
    );
}

#[test]
fn local_symbols_are_not_in_the_global_scope_until_the_library_is_promoted() {
    let counter = counter();
    let mut world = World::started(&main_module("", ""), &[("/lib/c.so", &counter)]);
    let handle = world.open("c.so").unwrap();
    let error = world.symbol(RTLD_DEFAULT, "bump").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("Tried to lookup unknown symbol \"bump\" in dynamic lib: "),
        "{error}"
    );
    let again = world
        .open_with(
            "c.so",
            OpenFlags::NOW | OpenFlags::NOLOAD | OpenFlags::GLOBAL,
        )
        .unwrap();
    assert_eq!(again, handle);
    assert_eq!(
        world.symbol(RTLD_DEFAULT, "bump").unwrap(),
        world.symbol(handle, "bump").unwrap()
    );
}

#[test]
fn noload_gives_no_handle_of_what_is_not_loaded() {
    let counter = counter();
    let mut world = World::started(&main_module("", ""), &[("/lib/c.so", &counter)]);
    let error = world
        .open_with("c.so", OpenFlags::NOW | OpenFlags::NOLOAD)
        .unwrap_err();
    assert!(error.to_string().contains("not loaded"), "{error}");
    assert!(world.log().is_empty());
}

#[test]
fn flags_without_lazy_or_now_are_an_error() {
    let mut world = World::started(&main_module("", ""), &[]);
    let error = world.open_with("c.so", OpenFlags::GLOBAL).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("invalid mode for dlopen(): Either RTLD_LAZY or RTLD_NOW is required"),
        "{error}"
    );
}

#[test]
fn the_process_itself_can_be_opened_and_closed_any_number_of_times() {
    let mut world = World::started(&main_module("", ""), &[]);
    let handle = world
        .process
        .dlopen(&mut world.store, None, OpenFlags::NOW)
        .unwrap();
    assert_ne!(handle, 0);
    world.process.dlclose(&mut world.store, handle).unwrap();
    world.process.dlclose(&mut world.store, handle).unwrap();
    let malloc = world.symbol(handle, "malloc").unwrap();
    assert_eq!(world.symbol(RTLD_DEFAULT, "malloc").unwrap(), malloc);
}

#[test]
fn a_closed_library_is_gone_and_comes_back_fresh() {
    let counter = counter();
    let mut world = World::started(&main_module("", ""), &[("/lib/c.so", &counter)]);
    let handle = world.open("c.so").unwrap();
    let slot = world.symbol(handle, "bump").unwrap();
    world.call_slot(slot, &[]).unwrap();
    world.open("c.so").unwrap();
    world.process.dlclose(&mut world.store, handle).unwrap();
    assert_eq!(world.names().len(), 2, "one handle is still open");
    world.process.dlclose(&mut world.store, handle).unwrap();
    assert_eq!(world.names().len(), 1);
    assert!(
        world.call_slot(slot, &[]).is_err(),
        "the stale slot is null"
    );
    let error = world.process.dlclose(&mut world.store, handle).unwrap_err();
    assert!(
        error.to_string().starts_with("Invalid library handle"),
        "{error}"
    );
    assert!(world.symbol(handle, "bump").is_err());
    assert_eq!(world.call_main("count_freed", &[]).unwrap(), 1);

    let fresh = world.open("c.so").unwrap();
    assert_ne!(fresh, handle);
    assert_eq!(world.call(fresh, "bump", &[]).unwrap(), 1);
    assert_eq!(world.log(), [1, 1]);
}

#[test]
fn opening_and_closing_ten_thousand_times_keeps_table_and_memory_flat() {
    let counter = counter();
    let mut world = World::started(
        r#"(module
          (memory (export "memory") 2)
          (table (export "__indirect_function_table") 4 funcref)
          (global (export "__stack_pointer") (mut i32) (i32.const 65536)))"#,
        &[("/lib/c.so", &counter)],
    );
    let mut sizes = Vec::new();
    for round in 0..10_000 {
        let handle = world.open("c.so").unwrap();
        world.symbol(handle, "bump").unwrap();
        world.process.dlclose(&mut world.store, handle).unwrap();
        if round == 5000 || round == 9999 {
            let memory = world.process.memory().unwrap().size(&world.store);
            let table = world.process.table().unwrap().size(&world.store);
            sizes.push((memory, table));
        }
    }
    assert_eq!(sizes[0], sizes[1]);
    assert_eq!(world.process.state().spent, 0);
}

#[test]
fn a_library_that_another_one_needs_or_is_bound_to_stays() {
    let counter = counter();
    let user = library(
        r#"(needed "c.so")"#,
        r#"(import "env" "bump" (func $bump (result i32)))
           (func (export "twice") (result i32) (drop (call $bump)) (call $bump))"#,
    );
    let bound = library(
        "",
        r#"(import "env" "bump" (func $bump (result i32)))
           (func (export "once") (result i32) (call $bump))"#,
    );
    let mut world = World::started(
        &main_module("", ""),
        &[
            ("/lib/c.so", &counter),
            ("/lib/user.so", &user),
            ("/lib/bound.so", &bound),
        ],
    );
    let user = world
        .open_with("user.so", OpenFlags::NOW | OpenFlags::GLOBAL)
        .unwrap();
    let counter = world.open("c.so").unwrap();
    world.process.dlclose(&mut world.store, counter).unwrap();
    assert_eq!(world.call(user, "twice", &[]).unwrap(), 2);
    let bound = world.open("bound.so").unwrap();
    world.process.dlclose(&mut world.store, user).unwrap();
    assert_eq!(world.names(), ["/app/main.wasm", "c.so", "bound.so"]);
    assert_eq!(world.call(bound, "once", &[]).unwrap(), 3);
    world.process.dlclose(&mut world.store, bound).unwrap();
    assert_eq!(world.names(), ["/app/main.wasm"]);
}

#[test]
fn nodelete_keeps_a_library_for_ever() {
    let counter = counter();
    let mut world = World::started(&main_module("", ""), &[("/lib/c.so", &counter)]);
    let handle = world
        .open_with("c.so", OpenFlags::NOW | OpenFlags::NODELETE)
        .unwrap();
    world.process.dlclose(&mut world.store, handle).unwrap();
    assert_eq!(world.names().len(), 2);
    assert_eq!(world.open("c.so").unwrap(), handle);
}

/// A main module that calls the `dl` functions itself; names lie at 1024 and every 64 bytes behind.
fn guest_main(names: &[&str]) -> String {
    let mut data = String::new();
    for (place, name) in names.iter().enumerate() {
        data += &format!("(data (i32.const {}) \"{name}\\00\")\n", 1024 + 64 * place);
    }
    main_module(
        r#"(import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))
           (import "env" "dlsym" (func $dlsym (param i32 i32) (result i32)))
           (import "env" "dlclose" (func $dlclose (param i32) (result i32)))
           (import "env" "dlerror" (func $dlerror (result i32)))
           (import "env" "dladdr" (func $dladdr (param i32 i32) (result i32)))"#,
        &format!(
            r#"{data}
            (type $get (func (result i32)))
            (func (export "open") (param i32 i32) (result i32) (call $dlopen (local.get 0) (local.get 1)))
            (func (export "sym") (param i32 i32) (result i32) (call $dlsym (local.get 0) (local.get 1)))
            (func (export "close") (param i32) (result i32) (call $dlclose (local.get 0)))
            (func (export "error") (result i32) (call $dlerror))
            (func (export "addr") (param i32 i32) (result i32) (call $dladdr (local.get 0) (local.get 1)))
            (func (export "get") (param i32) (result i32) (call_indirect (type $get) (local.get 0)))"#
        ),
    )
}

fn guest_text(world: &World, address: i32) -> String {
    let memory = world.process.memory().unwrap();
    let bytes = &memory.data(&world.store)[address as usize..];
    let end = bytes.iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(bytes[..end].to_vec()).unwrap()
}

#[test]
fn a_guest_opens_calls_closes_and_reads_errors() {
    let counter = counter();
    let main = guest_main(&["c.so", "bump", "missing.so", "nothing", "value"]);
    let mut world = World::started(&main, &[("/lib/c.so", &counter)]);
    let handle = world.call_main("open", &[1024, 2]).unwrap();
    assert_ne!(handle, 0);
    let bump = world.call_main("sym", &[handle, 1088]).unwrap();
    assert_eq!(world.call_main("get", &[bump]).unwrap(), 1);
    assert_eq!(world.call_main("error", &[]).unwrap(), 0);

    assert_eq!(world.call_main("open", &[1024 + 128, 2]).unwrap(), 0);
    let text = world.call_main("error", &[]).unwrap();
    let first = guest_text(&world, text);
    assert!(
        first.starts_with("could not load dynamic lib: missing.so\n"),
        "{first}"
    );
    assert_eq!(
        world.call_main("error", &[]).unwrap(),
        0,
        "an error is told once"
    );
    assert_eq!(world.call_main("open", &[1024 + 128, 2]).unwrap(), 0);
    let text = world.call_main("error", &[]).unwrap();
    assert_eq!(guest_text(&world, text), first);

    assert_eq!(world.call_main("sym", &[handle, 1024 + 192]).unwrap(), 0);
    let text = world.call_main("error", &[]).unwrap();
    assert_eq!(
        guest_text(&world, text),
        "Tried to lookup unknown symbol \"nothing\" in dynamic lib: c.so"
    );

    assert_eq!(world.call_main("open", &[1024, 0]).unwrap(), 0);
    let text = world.call_main("error", &[]).unwrap();
    assert_eq!(
        guest_text(&world, text),
        "invalid mode for dlopen(): Either RTLD_LAZY or RTLD_NOW is required"
    );

    assert_eq!(world.call_main("close", &[handle]).unwrap(), 0);
    assert_eq!(world.call_main("close", &[handle]).unwrap(), -1);
    let text = world.call_main("error", &[]).unwrap();
    assert!(guest_text(&world, text).starts_with("Invalid library handle"));
    assert!(world.call_main("get", &[bump]).is_err(), "the slot is null");
}

#[test]
fn a_guest_learns_what_lies_at_an_address_and_nothing_changes_if_nothing_does() {
    let counter = counter();
    let main = guest_main(&["c.so", "bump", "value"]);
    let mut world = World::started(&main, &[("/lib/c.so", &counter)]);
    let handle = world.call_main("open", &[1024, 2]).unwrap();
    let value = world.call_main("sym", &[handle, 1024 + 128]).unwrap();
    assert_eq!(world.call_main("addr", &[value + 2, 2048]).unwrap(), 1);
    assert_eq!(guest_text(&world, world.read(2048)), "/lib/c.so");
    assert_eq!(world.read(2052), value - 4);
    assert_eq!(guest_text(&world, world.read(2056)), "value");
    assert_eq!(world.read(2060), value);
    let bump = world.call_main("sym", &[handle, 1088]).unwrap();
    assert_eq!(world.call_main("addr", &[bump, 2048]).unwrap(), 1);
    assert_eq!(guest_text(&world, world.read(2056)), "bump");
    assert_eq!(world.read(2060), bump);
    let before = world.read(2048);
    assert_eq!(world.call_main("addr", &[-64, 2048]).unwrap(), 0);
    assert_eq!(world.read(2048), before);
}

#[test]
fn hostile_pointers_are_errors_of_dlopen_and_dlsym() {
    let main = guest_main(&[]);
    let mut world = World::started(&main, &[]);
    for pointer in [-1, -65536, i32::MAX, 131_071, 131_072] {
        assert_eq!(world.call_main("open", &[pointer, 2]).unwrap(), 0);
        assert_eq!(world.call_main("sym", &[0, pointer]).unwrap(), 0);
        assert_ne!(world.call_main("error", &[]).unwrap(), 0);
        assert_eq!(world.call_main("addr", &[1, pointer]).unwrap(), 0);
    }
}

#[test]
fn a_constructor_may_open_another_library() {
    let inner = counter();
    let outer = library(
        "(mem-info (memory 8 0))",
        r#"(import "env" "memory" (memory 0))
           (import "env" "__memory_base" (global $mb i32))
           (import "env" "log" (func $log (param i32)))
           (import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))
           (data (global.get $mb) "c.so\00")
           (func (export "__wasm_call_ctors")
             (call $log (i32.const 100))
             (call $log (i32.ne (i32.const 0) (call $dlopen (global.get $mb) (i32.const 2))))
             (call $log (i32.const 101)))"#,
    );
    let mut world = World::started(
        &main_module("", ""),
        &[("/lib/c.so", &inner), ("/lib/outer.so", &outer)],
    );
    world.open("outer.so").unwrap();
    assert_eq!(world.log(), [100, 1, 1, 101]);
    assert_eq!(world.names(), ["/app/main.wasm", "outer.so", "c.so"]);
}

#[test]
fn next_finds_the_definition_behind_the_caller() {
    let first = library(
        "(mem-info (memory 8 0))",
        r#"(import "env" "memory" (memory 0))
           (import "env" "__memory_base" (global $mb i32))
           (import "env" "dlsym" (func $dlsym (param i32 i32) (result i32)))
           (data (global.get $mb) "which\00")
           (func (export "which") (result i32) (i32.const 1))
           (func (export "next") (result i32) (call $dlsym (i32.const -1) (global.get $mb)))"#,
    );
    let second = library("", r#"(func (export "which") (result i32) (i32.const 2))"#);
    let mut world = World::started(
        &main_module("", ""),
        &[("/lib/first.so", &first), ("/lib/second.so", &second)],
    );
    let flags = OpenFlags::NOW | OpenFlags::GLOBAL;
    let first = world.open_with("first.so", flags).unwrap();
    let second = world.open_with("second.so", flags).unwrap();
    let next = world.call(first, "next", &[]).unwrap();
    assert_eq!(next, world.symbol(second, "which").unwrap() as i32);
    assert_eq!(
        world.symbol(RTLD_DEFAULT, "which").unwrap(),
        world.symbol(first, "which").unwrap()
    );
}

#[test]
fn a_host_function_whose_type_is_known_has_an_address() {
    let mut world = World::started(&main_module("", ""), &[]);
    let slot = world.symbol(RTLD_DEFAULT, "host_only").unwrap();
    assert_eq!(world.call_slot(slot, &[]).unwrap(), 77);
    assert!(
        world.symbol(RTLD_DEFAULT, "log").is_err(),
        "its type is not known"
    );
}

#[test]
fn a_guest_that_opens_and_closes_for_ever_leaves_nothing_behind() {
    let counter = counter();
    let main = guest_main(&["c.so", "bump"]).replace(
        "(func (export \"open\")",
        r#"(func (export "rounds") (param $count i32) (result i32)
             (local $handle i32) (local $sum i32)
             (loop $next
               (local.set $handle (call $dlopen (i32.const 1024) (i32.const 2)))
               (if (i32.eqz (local.get $handle)) (then unreachable))
               (local.set $sum (i32.add (local.get $sum)
                 (call_indirect (type $get) (call $dlsym (local.get $handle) (i32.const 1088)))))
               (if (call $dlclose (local.get $handle)) (then unreachable))
               (br_if $next (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
             (local.get $sum))
           (func (export "open")"#,
    );
    let mut world = World::started(&main, &[("/lib/c.so", &counter)]);
    let mark = |world: &mut World| {
        let state = world.process.state();
        (state.spent, state.retired.len(), state.names.len())
    };
    let before = mark(&mut world);
    assert_eq!(world.call_main("rounds", &[2000]).unwrap(), 2000);
    assert_eq!(mark(&mut world), before);
}

#[test]
fn a_library_that_closes_itself_returns_before_it_is_released() {
    let own = library(
        "(mem-info (memory 16 0))",
        r#"(import "env" "memory" (memory 0)) (import "env" "__memory_base" (global $mb i32))
           (import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))
           (import "env" "dlclose" (func $dlclose (param i32) (result i32)))
           (data (global.get $mb) "other.so\00")
           (func (export "close") (param i32) (result i32)
             (local $result i32)
             (local.set $result (call $dlclose (local.get 0)))
             ;; A later load tries to release what the first call left.
             (drop (call $dlopen (i32.const 1024) (i32.const 2)))
             (i32.add (local.get $result) (i32.const 40)))
           (func (export "tail") (param i32) (result i32) (return_call $dlclose (local.get 0)))"#,
    );
    let other = library("", r#"(func (export "f"))"#);
    let main = guest_main(&["other.so"]);
    let mut world = World::started(&main, &[("/lib/own.so", &own), ("/lib/other.so", &other)]);
    let handle = world.open("own.so").unwrap();
    assert_eq!(world.call(handle, "close", &[handle as i32]).unwrap(), 40);
    assert_eq!(
        world.process.state().retired.len(),
        1,
        "it was on the call stack"
    );
    assert_eq!(world.names(), ["/app/main.wasm", "other.so"]);

    let handle = world.open("own.so").unwrap();
    assert_eq!(world.process.state().retired.len(), 0, "now it is released");
    let tail = world.symbol(handle, "tail").unwrap();
    assert_eq!(world.call_slot(tail, &[handle as i32]).unwrap(), 0);
    assert!(world.call_slot(tail, &[handle as i32]).is_err());
    world.open("other.so").unwrap();
    assert_eq!(world.process.state().spent, 0);
}

#[test]
fn the_trace_tells_bindings_and_constructors() {
    let counter = counter();
    let user = library(
        r#"(needed "c.so")"#,
        r#"(import "env" "bump" (func (result i32)))"#,
    );
    let mut world = World::started_telling_bindings(
        &main_module("", ""),
        &[("/lib/c.so", &counter), ("/lib/user.so", &user)],
    );
    world.lines.lock().unwrap().clear();
    world.open("user.so").unwrap();
    assert_eq!(
        *world.lines.lock().unwrap(),
        [
            "binding file user.so [0] to c.so [0]: normal symbol `bump'",
            "binding file c.so [0] to the host [0]: normal symbol `log'",
            "",
            "calling init: c.so",
            ""
        ]
    );
}
