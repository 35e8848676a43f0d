//! Rules of the book that no other test shows; `rules.md` says which.

use super::*;

/// A library with one function that gives a number.
fn gives(name: &str, number: i32) -> String {
    library(
        "",
        &format!(r#"(func (export "{name}") (result i32) (i32.const {number}))"#),
    )
}

/// The text of the error with which a library of these bytes is refused.
fn refused(bytes: Vec<u8>) -> String {
    let mut list = MemoryFiles::new();
    list.insert("/lib/x.so", bytes);
    let mut world = World::with_files(Profile::default(), list);
    world.start(&main_module("", "")).unwrap();
    world.fails_twice("x.so")
}

fn refused_text(fields: &str) -> String {
    refused(wat::parse_str(library("", fields)).unwrap())
}

#[test]
fn proposals_that_are_missing_are_named_with_the_library() {
    for (fields, proposal) in [
        (r#"(import "env" "memory" (memory i64 0))"#, "memory64"),
        (r#"(import "env" "memory" (memory 1 2 shared))"#, "threads"),
        (
            r#"(import "env" "__indirect_function_table" (table i64 0 funcref))"#,
            "memory64",
        ),
        (
            r#"(import "env" "__cpp_exception" (tag (param i32)))"#,
            "exception-handling",
        ),
        (
            r#"(import "env" "__c_longjmp" (tag (param i32)))"#,
            "exception-handling",
        ),
    ] {
        let text = refused_text(fields);
        assert!(text.contains("x.so") && text.contains(proposal), "{text}");
    }
}

#[test]
fn compact_imports_are_refused_by_name() {
    // One type () -> (), then the imports env.a and env.b in one group: an empty field name and 0x7f.
    let mut bytes = wat::parse_str(library("", "(type (func))")).unwrap();
    bytes.extend_from_slice(b"\x02\x10\x01\x03env\x00\x7f\x02\x01a\x00\x00\x01b\x00\x00");
    let text = refused(bytes);
    assert!(text.contains("compact-import-section"), "{text}");
}

#[test]
fn parts_of_other_abis_and_of_the_compilers_runtime_are_refused_with_the_cure() {
    for (import, cure) in [
        (
            r#"(import "env" "__wasm_get_stack_pointer" (func (result i32)))"#,
            "cooperative threads",
        ),
        (
            r#"(import "GOT.mem" "__wasm_program_tls_info" (global (mut i32)))"#,
            "cooperative threads",
        ),
        (
            r#"(import "env" "memcpy" (func (param i32 i32 i32) (result i32)))"#,
            "main module must export it",
        ),
        (
            r#"(import "env" "__multi3" (func (param i32 i64 i64 i64 i64)))"#,
            "libclang_rt.builtins",
        ),
    ] {
        let text = refused_text(import);
        let help = text.lines().find(|line| line.starts_with("  help "));
        assert!(help.is_some_and(|help| help.contains(cure)), "{text}");
        // One cure, told once.
        assert_eq!(text.matches(cure).count(), 1, "{text}");
        assert!(!text.contains("link the object file"), "{text}");
    }
}

#[test]
fn the_program_may_live_in_a_library_under_either_name() {
    for name in ["main", "__main_argc_argv", "__main_void"] {
        let parameters = if name == "__main_void" {
            ""
        } else {
            "(param i32 i32)"
        };
        let program = library(
            "",
            &format!(r#"(func (export "{name}") {parameters} (result i32) (i32.const 33))"#),
        );
        let main = main_module("", "").replace("(@dylink.0)", r#"(@dylink.0 (needed "p.so"))"#);
        let mut world = World::started(&main, &[("/lib/p.so", &program)]);
        let entry = world.process.entry(&mut world.store, None).unwrap();
        let count = entry.ty(&world.store).params().len();
        assert_eq!(world.call_func(entry, &vec![0; count]).unwrap(), 33);
    }
}

#[test]
fn a_main_module_with_initialize_and_start_is_initialised_and_not_started() {
    let main = main_module(
        r#"(import "env" "log" (func $log (param i32)))"#,
        r#"(func (export "_initialize") (call $log (i32.const 1)))
           (func (export "_start") (call $log (i32.const 2)))
           (func (export "__wasm_call_ctors") (call $log (i32.const 3)))
           (func (export "work") (result i32) (i32.const 5))"#,
    );
    let mut world = World::started(&main, &[]);
    assert_eq!(world.log(), [1]);
    let error = world.process.entry(&mut world.store, None).unwrap_err();
    assert!(error.to_string().contains("`_initialize`"), "{error}");
    assert!(error.to_string().contains("work"), "{error}");
    let work = world.process.entry(&mut world.store, Some("work")).unwrap();
    assert_eq!(world.call_func(work, &[]).unwrap(), 5);
}

#[test]
fn initialize_is_not_called_again_when_its_library_is_opened_again() {
    let libc = library(
        "",
        r#"(global $called (mut i32) (i32.const 0))
           (func (export "_initialize")
             (if (global.get $called) (then unreachable))
             (global.set $called (i32.const 1)))
           (func (export "f") (result i32) (global.get $called))"#,
    );
    let user = library(r#"(needed "libc.so")"#, "");
    let list = [("/lib/libc.so", &*libc), ("/lib/user.so", &*user)];
    let mut world = World::started(&main_module("", ""), &list);
    world.open("user.so").unwrap();
    let handle = world.open("libc.so").unwrap();
    let flags = OpenFlags::NOW | OpenFlags::GLOBAL;
    assert_eq!(world.open_with("./lib/libc.so", flags).unwrap(), handle);
    assert_eq!(world.call(handle, "f", &[]).unwrap(), 1);
}

#[test]
fn a_cell_that_cannot_be_filled_yet_holds_no_address() {
    // The start function reads a cell for a function of its own module, which has no address before it is instantiated.
    let early = library(
        "(mem-info (memory 8 2))",
        &format!(
            r#"{BASES}
            (import "GOT.func" "own" (global $own (mut i32)))
            (func (export "own") (result i32) (i32.const 7))
            (func $start (i32.store (global.get $mb) (global.get $own)))
            (start $start)
            (func (export "seen") (result i32) (i32.load (global.get $mb)))
            (func (export "filled") (result i32) (global.get $own))"#
        ),
    );
    let mut world = World::started(&main_module("", ""), &[("/lib/early.so", &early)]);
    let handle = world.open("early.so").unwrap();
    let seen = world.call(handle, "seen", &[]).unwrap();
    assert_eq!(
        seen,
        super::super::got::POISON,
        "neither null nor a function"
    );
    let filled = world.call(handle, "filled", &[]).unwrap();
    assert_eq!(world.symbol(handle, "own").unwrap() as i32, filled);
    assert_eq!(world.call_slot(filled as u32, &[]).unwrap(), 7);
}

#[test]
fn a_function_whose_slot_the_guest_overwrote_gets_another_address() {
    let lib = gives("f", 1);
    let main = main_module(
        "",
        r#"(func $other (result i32) (i32.const 2)) (elem declare func $other)
           (func (export "overwrite") (param i32)
             (table.set 0 (local.get 0) (ref.func $other)))"#,
    );
    let mut world = World::started(&main, &[("/lib/f.so", &lib)]);
    let handle = world.open("f.so").unwrap();
    let first = world.symbol(handle, "f").unwrap();
    assert_eq!(world.symbol(handle, "f").unwrap(), first);
    world.call_main("overwrite", &[first as i32]).unwrap();
    let second = world.symbol(handle, "f").unwrap();
    assert_ne!(first, second);
    assert_eq!(world.call_slot(second, &[]).unwrap(), 1);
    assert_eq!(world.call_slot(first, &[]).unwrap(), 2);
}

#[test]
fn libraries_opened_by_constructors_have_places_of_their_own() {
    let body = |log: &str| {
        format!(
            r#"{BASES}
            (import "env" "log" (func $log (param i32)))
            (func $f (result i32) (i32.const 1)) (elem (global.get $tb) func $f $f $f)
            (data (global.get $mb) "\01\02\03\04")
            (func (export "__wasm_call_ctors") {log})"#
        )
    };
    let inner = library(
        "(mem-info (memory 100 4) (table 3 0))",
        &body("(call $log (i32.const 1))"),
    );
    let outer = library(
        "(mem-info (memory 100 4) (table 3 0))",
        &body(
            r#"(drop (call $dlopen (i32.const 1024) (i32.const 2)))
               (call $log (i32.load (global.get $mb)))"#,
        )
        .replace(
            r#"(import "env" "log""#,
            r#"(import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))
               (import "env" "log""#,
        ),
    );
    let main = main_module("", r#"(data (i32.const 1024) "inner.so\00")"#);
    let list = [("/lib/inner.so", &*inner), ("/lib/outer.so", &*outer)];
    let mut world = World::started(&main, &list);
    world.open("outer.so").unwrap();
    assert_eq!(world.log(), [1, 0x0403_0201]);
    let all = world.process.libraries();
    let (outer, inner) = (&all[1], &all[2]);
    assert_eq!((outer.table_size, inner.table_size), (3, 3));
    assert!(outer.table_base + 3 <= inner.table_base || inner.table_base + 3 <= outer.table_base);
    let (a, b) = (outer.memory_base, inner.memory_base);
    assert!(a.abs_diff(b) >= 100, "{a} {b}");
}

#[test]
fn a_library_without_data_or_functions_takes_no_room() {
    let empty = library("", r#"(import "env" "__memory_base" (global i32))"#);
    let mut world = World::started(&main_module("", ""), &[("/lib/e.so", &empty)]);
    let table = world.process.table().unwrap();
    let before = (world.read(66_000), table.size(&world.store));
    world.open("e.so").unwrap();
    let library = world.process.libraries().pop().unwrap();
    assert_eq!((library.memory_size, library.table_size), (0, 0));
    assert_eq!(before, (world.read(66_000), table.size(&world.store)));
}

/// Files of which one directory cannot be read.
struct Broken(MemoryFiles, std::io::ErrorKind);

impl Files<Data> for Broken {
    fn find(&self, data: &mut Data, path: &str) -> std::io::Result<Option<FoundFile>> {
        if path.starts_with("/broken/") {
            return Err(self.1.into());
        }
        self.0.find(data, path)
    }

    fn read(&self, data: &mut Data, file: &FoundFile, limit: usize) -> std::io::Result<Vec<u8>> {
        self.0.read(data, file, limit)
    }
}

#[test]
fn a_search_goes_on_behind_what_is_not_there_and_ends_at_other_errors() {
    use std::io::ErrorKind;
    for (kind, found) in [
        (ErrorKind::NotFound, true),
        (ErrorKind::NotADirectory, true),
        (ErrorKind::PermissionDenied, true),
        (ErrorKind::InvalidFilename, true),
        (ErrorKind::StorageFull, false),
        (ErrorKind::Other, false),
    ] {
        let lib = gives("f", 1);
        let mut world = World::new(Profile::default(), &[]);
        world.process = Process::builder()
            .files(Broken(files(&[("/lib/f.so", &lib)]), kind))
            .library_path("/broken")
            .library_path("/lib")
            .build();
        world.start(&main_module("", "")).unwrap();
        let outcome = world.open("f.so");
        assert_eq!(outcome.is_ok(), found, "{kind:?}: {outcome:?}");
        if let Err(error) = outcome {
            assert!(error.to_string().contains("/broken/f.so"), "{error}");
        }
    }
}

#[test]
fn a_file_beyond_the_limit_is_refused_before_it_is_parsed() {
    let mut config = Config::default();
    config.limits.module_bytes = 400;
    let long = library(
        "",
        &format!(
            r#"(func (export "{}") (result i32) (i32.const 1))"#,
            "f".repeat(400)
        ),
    );
    let mut world = World::new(Profile::default(), &[("/lib/long.so", &long)]);
    world.store = Store::new(&Engine::new(config), Data::default());
    world
        .start(r#"(module (memory (export "memory") 1))"#)
        .unwrap();
    let text = world.fails_twice("long.so");
    assert!(text.contains("long.so") && text.contains("400"), "{text}");
}

#[test]
fn functions_of_the_convention_with_other_types_are_errors() {
    for fields in [
        r#"(func (export "__wasm_call_ctors") (param i32))"#,
        r#"(func (export "_initialize") (result i32) (i32.const 0))"#,
        r#"(func (export "__wasm_apply_data_relocs") (param i64))"#,
        r#"(func (export "__wasm_init_tls")) (global (export "__tls_size") i32 (i32.const 8))"#,
        r#"(func (export "__wasm_init_tls") (param i64)) (global (export "__tls_size") i32 (i32.const 8))"#,
    ] {
        let text = refused_text(fields);
        assert!(text.contains("x.so"), "{text}");
    }
}

#[test]
fn a_trace_of_bindings_tells_names_that_are_defined_twice() {
    let (first, second) = (gives("f", 1), gives("f", 2));
    let user = library(
        r#"(needed "first.so" "second.so")"#,
        r#"(import "env" "f" (func $f (result i32)))
           (func (export "malloc") (param i32) (result i32) (i32.const 0))"#,
    );
    let list = [
        ("/lib/first.so", &*first),
        ("/lib/second.so", &*second),
        ("/lib/user.so", &*user),
    ];
    let mut world = World::started_telling_bindings(&main_module("", ""), &list);
    world.open("user.so").unwrap();
    let lines = world.lines.lock().unwrap().clone();
    let wanted = [
        "f: using first.so, also in second.so",
        "warning: `malloc` is defined by /app/main.wasm, user.so: a process has one C library",
    ];
    for line in wanted {
        assert!(lines.iter().any(|found| found == line), "{line}: {lines:?}");
    }
}

#[test]
fn next_and_the_handle_of_main_reach_the_host_behind_all_objects() {
    let wrap = library(
        "(mem-info (memory 16 0))",
        r#"(import "env" "memory" (memory 0))
           (import "env" "__memory_base" (global $mb i32))
           (import "env" "__indirect_function_table" (table 0 funcref))
           (import "env" "dlsym" (func $dlsym (param i32 i32) (result i32)))
           (type $get (func (result i32)))
           (data (global.get $mb) "host_only\00")
           (func (export "host_only") (result i32)
             (i32.add (i32.const 1000)
               (call_indirect (type $get) (call $dlsym (i32.const -1) (global.get $mb)))))"#,
    );
    let mut world = World::started(&main_module("", ""), &[("/lib/wrap.so", &wrap)]);
    let main = world
        .process
        .dlopen(&mut world.store, None, OpenFlags::NOW)
        .unwrap();
    assert_eq!(world.call(main, "host_only", &[]).unwrap(), 77);
    let flags = OpenFlags::NOW | OpenFlags::GLOBAL;
    let handle = world.open_with("wrap.so", flags).unwrap();
    assert_eq!(world.call(handle, "host_only", &[]).unwrap(), 1077);
}

#[test]
fn a_handle_is_not_that_of_another_library_after_failures_and_closings() {
    let (a, b) = (gives("f", 1), gives("f", 2));
    let bad = library("", r#"(import "env" "nowhere" (func))"#);
    let list = [
        ("/lib/a.so", &*a),
        ("/lib/b.so", &*b),
        ("/lib/bad.so", &*bad),
    ];
    let mut world = World::started(&main_module("", ""), &list);
    let first = world.open("a.so").unwrap();
    world.open("bad.so").unwrap_err();
    let second = world.open("b.so").unwrap();
    assert_ne!(first, second);
    world.process.dlclose(&mut world.store, first).unwrap();
    let third = world.open("a.so").unwrap();
    assert!(third != second && third != first);
    assert!(world.symbol(first, "f").is_err(), "it was closed");
    assert_eq!(world.call(second, "f", &[]).unwrap(), 2);
}

#[test]
fn headers_are_told_until_the_callback_stops_and_never_through_a_wrong_callback() {
    let lib = library(
        "(mem-info (memory 100 4))",
        r#"(import "env" "__memory_base" (global i32))"#,
    );
    let main = main_module(
        r#"(import "env" "dl_iterate_phdr" (func $iterate (param i32 i32) (result i32)))
           (import "env" "dlclose" (func $dlclose (param i32) (result i32)))
           (import "env" "log" (func $log (param i32)))"#,
        r#"(global $stop (mut i32) (i32.const 99))
           (global $count (mut i32) (i32.const 0))
           (func $callback (param $info i32) (param $size i32) (param $data i32) (result i32)
             (global.set $count (i32.add (global.get $count) (i32.const 1)))
             (if (i32.ne (local.get $size) (i32.const 40)) (then unreachable))
             (call $log (i32.load (local.get $info)))
             (call $log (i32.load16_u offset=12 (local.get $info)))
             (if (local.get $data) (then (drop (call $dlclose (local.get $data)))))
             (i32.mul (i32.const 5) (i32.eq (global.get $count) (global.get $stop))))
           (func $wrong (param i32))
           (elem (i32.const 1) $callback $wrong)
           (func (export "go") (param $callback i32) (param $stop i32) (param $data i32) (result i32)
             (global.set $count (i32.const 0))
             (global.set $stop (local.get $stop))
             (call $iterate (local.get $callback) (local.get $data)))"#,
    );
    let mut world = World::started(&main, &[("/lib/a.so", &lib), ("/lib/b.so", &lib)]);
    // One file under two paths is two files here.
    let a = world.open("a.so").unwrap();
    world.open("b.so").unwrap();
    let bases: Vec<i32> = world
        .process
        .libraries()
        .iter()
        .map(|library| library.memory_base as i32)
        .collect();
    assert_eq!(world.call_main("go", &[1, 99, 0]).unwrap(), 0);
    assert_eq!(world.log(), [0, 0, bases[1], 1, bases[2], 1]);
    assert_eq!(world.call_main("go", &[1, 2, 0]).unwrap(), 5);
    assert_eq!(world.log().len(), 6 + 4);
    // The callback closes the library that would come next.
    assert_eq!(world.call_main("go", &[1, 99, a as i32]).unwrap(), 0);
    assert_eq!(world.log()[10..], [0, 0, bases[2], 1]);
    for (callback, text) in [
        (2, "indirect call type mismatch"),
        (0, "uninitialized element"),
        (-1, "undefined element"),
    ] {
        let error = world.call_main("go", &[callback, 99, 0]).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}
