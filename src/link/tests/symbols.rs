//! Which definition a reference gets, and that a function has one address.

use super::*;

fn value_of(value: i32) -> String {
    format!(
        r#"(import "env" "memory" (memory 0)) (import "env" "__memory_base" (global $mb i32))
           (global (export "y") i32 (i32.const 0))
           (data (global.get $mb) "\{:02x}\00\00\00")
           (func (export "which") (result i32) (i32.const {value}))"#,
        value
    )
}

const READS_Y: &str = r#"
  (import "GOT.mem" "y" (global $y (mut i32)))
  (import "env" "which" (func $which (result i32)))
  (func (export "read_y") (result i32) (i32.load (global.get $y)))
  (func (export "call_which") (result i32) (call $which))
"#;

#[test]
fn two_libraries_that_need_each_other_load_and_call_each_other() {
    let a = library(
        r#"(needed "b.so")"#,
        r#"(import "env" "b" (func $b (param i32) (result i32)))
           (import "env" "log" (func $log (param i32)))
           (func (export "a") (param i32) (result i32)
             (if (result i32) (local.get 0)
               (then (i32.add (i32.const 10) (call $b (i32.sub (local.get 0) (i32.const 1)))))
               (else (i32.const 0))))
           (func (export "__wasm_call_ctors") (call $log (call $b (i32.const 1))))"#,
    );
    let b = library(
        r#"(needed "a.so")"#,
        r#"(import "env" "a" (func $a (param i32) (result i32)))
           (import "env" "log" (func $log (param i32)))
           (func (export "b") (param i32) (result i32)
             (if (result i32) (local.get 0)
               (then (i32.add (i32.const 1) (call $a (i32.sub (local.get 0) (i32.const 1)))))
               (else (i32.const 0))))
           (func (export "__wasm_call_ctors") (call $log (call $a (i32.const 2))))"#,
    );
    let mut world = World::started(
        &main_module("", ""),
        &[("/lib/a.so", &a), ("/lib/b.so", &b)],
    );
    let handle = world.open("a.so").unwrap();
    assert_eq!(world.log(), [11, 1], "b is constructed before a");
    assert_eq!(world.call(handle, "a", &[3]).unwrap(), 21);
    world.process.dlclose(&mut world.store, handle).unwrap();
    assert_eq!(world.names().len(), 1, "a cycle is unloaded too");
}

#[test]
fn a_function_has_one_address_by_element_segment_cell_and_dlsym_in_three_modules() {
    let provider = library(
        "(mem-info (table 1 0))",
        &format!(
            r#"{BASES}
            (func $f (export "f") (result i32) (i32.const 7))
            (elem (global.get $tb) func $f)
            (func (export "of_segment") (result i32) (global.get $tb))"#
        ),
    );
    let user = |name: &str| {
        library(
            r#"(needed "provider.so")"#,
            &format!(
                r#"(import "GOT.func" "f" (global $f (mut i32)))
                   (func (export "{name}") (result i32) (global.get $f))"#
            ),
        )
    };
    let (one, two) = (user("of_one"), user("of_two"));
    let main = main_module(
        r#"(import "GOT.func" "f" (global $f (mut i32)))"#,
        r#"(func (export "of_main") (result i32) (global.get $f))"#,
    )
    .replace("(@dylink.0)", r#"(@dylink.0 (needed "provider.so"))"#);
    let mut world = World::started(
        &main,
        &[
            ("/lib/provider.so", &provider),
            ("/lib/one.so", &one),
            ("/lib/two.so", &two),
        ],
    );
    let address = world.call_main("of_main", &[]).unwrap();
    assert_ne!(address, 0);
    for (library, function) in [
        ("one.so", "of_one"),
        ("two.so", "of_two"),
        ("provider.so", "of_segment"),
    ] {
        let handle = world.open(library).unwrap();
        assert_eq!(
            world.call(handle, function, &[]).unwrap(),
            address,
            "{library}"
        );
        assert_eq!(
            world.symbol(handle, "f").unwrap() as i32,
            address,
            "{library}"
        );
    }
    assert_eq!(world.symbol(RTLD_DEFAULT, "f").unwrap() as i32, address);
    assert_eq!(world.call_slot(address as u32, &[]).unwrap(), 7);
}

#[test]
fn the_address_of_a_host_function_is_the_same_for_all() {
    let user = |name: &str| {
        library(
            "",
            &format!(
                r#"(import "env" "log" (func (param i32)))
                   (import "GOT.func" "dlsym" (global $f (mut i32)))
                   (func (export "{name}") (result i32) (global.get $f))"#
            ),
        )
    };
    let (one, two) = (user("one"), user("two"));
    let mut world = World::started(
        &main_module("", ""),
        &[("/lib/1.so", &one), ("/lib/2.so", &two)],
    );
    let first = world.open("1.so").unwrap();
    let second = world.open("2.so").unwrap();
    let address = world.call(first, "one", &[]).unwrap();
    assert_ne!(address, 0);
    assert_eq!(world.call(second, "two", &[]).unwrap(), address);
    assert_eq!(world.symbol(RTLD_DEFAULT, "dlsym").unwrap() as i32, address);
}

#[test]
fn the_main_modules_data_wins_unless_the_profile_says_own_first() {
    let lib = library(
        "(mem-info (memory 4 2))",
        &format!("{}{}", value_of(1).replace("(func", "(func (;own;)"), ""),
    );
    let reader = lib.replace(
        "(import \"env\" \"memory\"",
        &format!(
            "{} (import \"env\" \"memory\"",
            READS_Y.split("(func (export").next().unwrap()
        ),
    );
    let reader = reader.trim_end().strip_suffix(')').unwrap().to_string()
        + r#"(func (export "read_y") (result i32) (i32.load (global.get $y)))
             (func (export "call_which") (result i32) (call $which)))"#;
    let main = main_module(
        "",
        r#"(global (export "y") i32 (i32.const 2048)) (data (i32.const 2048) "\7b\00\00\00")
           (func (export "which") (result i32) (i32.const 123))"#,
    );
    for (order, expected) in [(SymbolOrder::Elf, 123), (SymbolOrder::OwnFirst, 1)] {
        let profile = Profile {
            symbol_order: order,
            ..Profile::default()
        };
        let mut world = World::new(profile, &[("/lib/l.so", &reader)]);
        world.start(&main).unwrap();
        let handle = world.open("l.so").unwrap();
        assert_eq!(
            world.call(handle, "read_y", &[]).unwrap(),
            expected,
            "{order:?}"
        );
        assert_eq!(
            world.call(handle, "call_which", &[]).unwrap(),
            expected,
            "{order:?}"
        );
    }
}

#[test]
fn the_first_global_library_wins_and_later_ones_do_not_change_it() {
    let one = library("(mem-info (memory 4 0))", &value_of(1));
    let two = library("(mem-info (memory 4 0))", &value_of(2));
    let reader = library(
        "",
        &format!(r#"(import "env" "memory" (memory 0)) {READS_Y}"#),
    );
    let mut world = World::started(
        &main_module("", ""),
        &[
            ("/lib/1.so", &one),
            ("/lib/2.so", &two),
            ("/lib/r.so", &reader),
        ],
    );
    let flags = OpenFlags::NOW | OpenFlags::GLOBAL;
    world.open_with("2.so", flags).unwrap();
    world.open_with("1.so", flags).unwrap();
    let reader = world.open("r.so").unwrap();
    assert_eq!(world.call(reader, "read_y", &[]).unwrap(), 2);
    assert_eq!(world.call(reader, "call_which", &[]).unwrap(), 2);
}

#[test]
fn two_local_roots_see_their_own_needed_library_each() {
    let one = library("(mem-info (memory 4 0))", &value_of(1));
    let two = library("(mem-info (memory 4 0))", &value_of(2));
    let root = |needed: &str| {
        library(
            &format!("(needed \"{needed}\")"),
            &format!(r#"(import "env" "memory" (memory 0)) {READS_Y}"#),
        )
    };
    let (a, b) = (root("1.so"), root("2.so"));
    let mut world = World::started(
        &main_module("", ""),
        &[
            ("/lib/1.so", &one),
            ("/lib/2.so", &two),
            ("/lib/a.so", &a),
            ("/lib/b.so", &b),
        ],
    );
    let a = world.open("a.so").unwrap();
    let b = world.open("b.so").unwrap();
    assert_eq!(world.call(a, "read_y", &[]).unwrap(), 1);
    assert_eq!(world.call(b, "read_y", &[]).unwrap(), 2);
    assert_eq!(
        world.call(b, "which", &[]).unwrap(),
        2,
        "dlsym searches what the root needs"
    );
    assert!(world.symbol(RTLD_DEFAULT, "which").is_err());
}

#[test]
fn weak_undefined_symbols_are_null_and_calls_of_them_trap() {
    let lib = library(
        r#"(import-info "env" "wf" binding-weak undefined) (import-info "env" "wd" binding-weak undefined)"#,
        r#"(import "GOT.func" "wf" (global $wf (mut i32)))
           (import "GOT.mem" "wd" (global $wd (mut i32)))
           (import "env" "wf" (func $call (result i32)))
           (func (export "addresses") (result i32) (i32.or (global.get $wf) (global.get $wd)))
           (func (export "call") (result i32) (call $call))"#,
    );
    let mut world = World::started(&main_module("", ""), &[("/lib/w.so", &lib)]);
    let handle = world.open("w.so").unwrap();
    assert_eq!(world.call(handle, "addresses", &[]).unwrap(), 0);
    let error = world.call(handle, "call", &[]).unwrap_err().to_string();
    assert!(
        error.contains("unresolved weak symbol `wf`: () -> (i32), called by `w.so`"),
        "{error}"
    );
}

#[test]
fn a_weak_definition_of_its_own_is_used_unless_an_earlier_one_exists() {
    let lib = library(
        "(mem-info (table 1 0))",
        &format!(
            r#"{BASES}
            (import "env" "foo" (func $foo (result i32)))
            (import "GOT.func" "foo" (global $p (mut i32)))
            (type $get (func (result i32)))
            (func (export "foo") (result i32) (i32.const 5))
            (func (export "direct") (result i32) (call $foo))
            (func (export "indirect") (result i32) (call_indirect (type $get) (global.get $p)))"#
        ),
    );
    let mut world = World::started(&main_module("", ""), &[("/lib/w.so", &lib)]);
    let handle = world.open("w.so").unwrap();
    assert_eq!(world.call(handle, "direct", &[]).unwrap(), 5);
    assert_eq!(world.call(handle, "indirect", &[]).unwrap(), 5);
    let main = main_module("", r#"(func (export "foo") (result i32) (i32.const 42))"#);
    let mut world = World::started(&main, &[("/lib/w.so", &lib)]);
    let handle = world.open("w.so").unwrap();
    assert_eq!(world.call(handle, "direct", &[]).unwrap(), 42);
    assert_eq!(world.call(handle, "indirect", &[]).unwrap(), 42);
}

#[test]
fn an_import_that_is_exported_again_is_no_definition() {
    let again = library(
        "",
        r#"(import "env" "f" (func $f (result i32))) (export "f" (func $f))
           (func (export "call") (result i32) (call $f))"#,
    );
    let mut world = World::started(&main_module("", ""), &[("/lib/again.so", &again)]);
    let text = world.fails_twice("again.so");
    assert!(
        text.contains("undefined function `f`: () -> (i32), wanted by `again.so`"),
        "{text}"
    );
    let main = main_module("", r#"(func (export "f") (result i32) (i32.const 3))"#);
    let mut world = World::started(&main, &[("/lib/again.so", &again)]);
    let handle = world.open("again.so").unwrap();
    assert_eq!(world.call(handle, "call", &[]).unwrap(), 3);
}

#[test]
fn a_lazily_bound_function_is_found_when_a_later_library_defines_it() {
    let user = library(
        "",
        r#"(import "env" "late" (func $late (result i32)))
           (func (export "call") (result i32) (call $late))"#,
    );
    let provider = library("", r#"(func (export "late") (result i32) (i32.const 9))"#);
    let mut world = World::started(
        &main_module("", ""),
        &[("/lib/u.so", &user), ("/lib/p.so", &provider)],
    );
    assert!(world.open("u.so").is_err());
    let user = world.open_with("u.so", OpenFlags::LAZY).unwrap();
    let error = world.call(user, "call", &[]).unwrap_err().to_string();
    assert!(
        error.contains(
            "external symbol 'late' is missing. perhaps a side module was not linked in?"
        ) && error.contains("() -> (i32)")
            && error.contains("`u.so`"),
        "{error}"
    );
    let provider = world
        .open_with("p.so", OpenFlags::NOW | OpenFlags::GLOBAL)
        .unwrap();
    assert_eq!(world.call(user, "call", &[]).unwrap(), 9);
    world.process.dlclose(&mut world.store, provider).unwrap();
    assert_eq!(
        world.names().len(),
        3,
        "the bound library keeps its provider"
    );
    assert_eq!(world.call(user, "call", &[]).unwrap(), 9);
}

#[test]
fn a_symbol_of_the_wrong_kind_is_an_error_and_never_skipped() {
    let lib = library(
        "",
        r#"(import "GOT.mem" "malloc" (global (mut i32)))
           (import "GOT.func" "datum" (global (mut i32)))
           (import "env" "datum" (func))"#,
    );
    let main = main_module("", r#"(global (export "datum") i32 (i32.const 2048))"#);
    let mut world = World::started(&main, &[("/lib/k.so", &lib)]);
    let text = world.fails_twice("k.so");
    assert!(
        text.contains("symbol `malloc` is wanted as data, but is a function in `/app/main.wasm`"),
        "{text}"
    );
    assert!(
        text.contains("symbol `datum` is wanted as a function, but is data in `/app/main.wasm`"),
        "{text}"
    );
}

#[test]
fn names_of_the_convention_are_no_symbols() {
    let lib = library(
        "",
        r#"(func (export "__wasm_call_ctors")) (func (export "_initialize")) (func (export "real"))"#,
    );
    let mut world = World::started(&main_module("", ""), &[("/lib/l.so", &lib)]);
    let handle = world.open("l.so").unwrap();
    assert!(world.symbol(handle, "real").is_ok());
    for name in ["__wasm_call_ctors", "_initialize"] {
        assert!(world.symbol(handle, name).is_err(), "{name}");
    }
    assert!(world.symbol(RTLD_DEFAULT, "memory").is_err());
    assert!(world.symbol(RTLD_DEFAULT, "__stack_pointer").is_err());
}

#[test]
fn initialize_replaces_the_constructors() {
    let lib = library(
        "",
        r#"(import "env" "log" (func $log (param i32)))
           (func (export "__wasm_call_ctors") (call $log (i32.const 1)))
           (func (export "_initialize") (call $log (i32.const 2)))"#,
    );
    let mut world = World::started(&main_module("", ""), &[("/lib/l.so", &lib)]);
    world.open("l.so").unwrap();
    assert_eq!(world.log(), [2]);
}

#[test]
fn relocations_of_all_libraries_come_before_any_constructor() {
    let lib = |name: &str, needed: &str, other: &str, number: i32| {
        library(
            &format!("(mem-info (memory 4 2)) {needed}"),
            &format!(
                r#"(import "env" "memory" (memory 0)) (import "env" "__memory_base" (global $mb i32))
                   (import "env" "log" (func $log (param i32)))
                   (import "GOT.mem" "{other}" (global $other (mut i32)))
                   (global (export "{name}") i32 (i32.const 0))
                   (func (export "__wasm_apply_data_relocs") (i32.store (global.get $mb) (i32.const {number})))
                   (func (export "__wasm_call_ctors") (call $log (i32.load (global.get $other))))"#
            ),
        )
    };
    let a = lib("a", r#"(needed "b.so")"#, "b", 1);
    let b = lib("b", r#"(needed "a.so")"#, "a", 2);
    let mut world = World::started(
        &main_module("", ""),
        &[("/lib/a.so", &a), ("/lib/b.so", &b)],
    );
    world.open("a.so").unwrap();
    assert_eq!(world.log(), [1, 2]);
}

#[test]
fn memory_of_a_library_is_zero_and_aligned_although_the_guest_used_it_before() {
    let lib = library(
        "(mem-info (memory 4096 10))",
        r#"(import "env" "memory" (memory 0)) (import "env" "__memory_base" (global $mb i32))
           (func (export "sum") (result i32)
             (local $i i32) (local $sum i32)
             (loop $next
               (local.set $sum (i32.or (local.get $sum) (i32.load (i32.add (global.get $mb) (local.get $i)))))
               (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 4))) (i32.const 4096))))
             (local.get $sum))
           (func (export "base") (result i32) (global.get $mb))"#,
    );
    let main = main_module(
        "",
        r#"(func (export "dirty") (memory.fill (i32.const 66000) (i32.const 255) (i32.const 65000)))"#,
    );
    let mut world = World::started(&main, &[("/lib/z.so", &lib)]);
    world.call_main("dirty", &[]).unwrap();
    let handle = world.open("z.so").unwrap();
    assert_eq!(world.call(handle, "sum", &[]).unwrap(), 0);
    assert_eq!(world.call(handle, "base", &[]).unwrap() % 1024, 0);
}

#[test]
fn thread_local_data_gets_a_block_before_the_constructors() {
    let lib = library(
        r#"(mem-info (memory 0 0)) (export-info "tv" tls)"#,
        r#"(import "env" "memory" (memory 0)) (import "env" "log" (func $log (param i32)))
           (import "GOT.mem" "tv" (global $tv (mut i32)))
           (global $base (mut i32) (i32.const 0))
           (global (export "__tls_base") (mut i32) (i32.const 0))
           (global (export "__tls_size") i32 (i32.const 8))
           (global (export "__tls_align") i32 (i32.const 4))
           (global (export "tv") i32 (i32.const 4))
           (func (export "__wasm_init_tls") (param i32)
             (global.set $base (local.get 0))
             (i32.store offset=4 (local.get 0) (i32.const 15)))
           (func (export "__wasm_call_ctors")
             (call $log (i32.load (global.get $tv)))
             (call $log (i32.sub (global.get $tv) (global.get $base))))"#,
    );
    let mut world = World::started(&main_module("", ""), &[("/lib/t.so", &lib)]);
    world.open("t.so").unwrap();
    assert_eq!(world.log(), [15, 4]);
}

#[test]
fn a_library_whose_thread_local_data_would_lie_at_address_0_is_refused() {
    const THREAD_LOCAL: &str = r#"(global (export "seen") i32 (i32.const 4))"#;
    const SET_UP: &str = r#"(global (export "seen") i32 (i32.const 4)) (func (export "__wasm_init_tls") (param i32))"#;
    // What clang and wasm-ld 22 make of `-matomics` without `--shared-memory`, with and without names.
    let features = |features: &str| format!("(@custom \"target_features\" \"{features}\")");
    let text = |name: &str, mutable: &str, features: &str| {
        library(
            "(mem-info (memory 8 2))",
            &format!(
                r#"(import "env" "memory" (memory 0)) (import "env" "__memory_base" (global i32))
                   (global {name} {mutable} (i32.const 0))
                   (data (global.get 0) "\07\00\00\00\00\00\00\00")
                   (func (export "where") (result i32) (i32.add (global.get 1) (i32.const 4)))
                   {features}"#
            ),
        )
    };
    let (atomics, none) = (features("\\01+\\07atomics"), features("\\01+\\08sign-ext"));
    for (name, mutable, features, refused) in [
        ("$__tls_base", "i32", &*atomics, true),
        ("$__tls_base", "i32", "", true),
        ("", "i32", &atomics, true),
        // The loader sets it.
        ("$__tls_base", "(mut i32)", &atomics, false),
        ("$other", "i32", &atomics, false),
        ("", "i32", &none, false),
        ("", "i32", "", false),
        (r#"(export "table_size")"#, "i32", &atomics, false),
        // Stripped of names and features, with `--export-all`.
        (r#"(export "__tls_base")"#, "i32", "", true),
        (r#"(export "__tls_base")"#, "(mut i32)", "", false),
        // Stripped, with a thread-local symbol that other libraries see; and with the function that sets it up.
        ("", "i32", THREAD_LOCAL, true),
        ("", "i32", SET_UP, false),
        ("", "(mut i32)", THREAD_LOCAL, false),
    ] {
        let mut library = text(name, mutable, features);
        if features.contains("seen") {
            library = library.replace(
                "(mem-info (memory 8 2))",
                r#"(mem-info (memory 8 2)) (export-info "seen" tls)"#,
            );
        }
        let mut world = World::started(&main_module("", ""), &[("/lib/t.so", &library)]);
        match world.open("t.so") {
            Ok(_) => assert!(!refused, "{name} {mutable} {features}"),
            Err(error) => {
                assert!(refused, "{error}");
                let text = error.to_string();
                for part in ["t.so", "`__tls_base` is the constant 0", "-matomics"] {
                    assert!(text.contains(part), "{text}");
                }
            }
        }
    }
}
