//! The shapes of main modules.

use super::*;

const SIDE: &str = r#"
  (import "env" "memory" (memory 0))
  (import "env" "__indirect_function_table" (table 0 funcref))
  (import "env" "__memory_base" (global $mb i32))
  (import "env" "__table_base" (global $tb i32))
  (import "env" "__stack_pointer" (global $sp (mut i32)))
  (import "env" "log" (func $log (param i32)))
  (import "env" "from_main" (func $from_main (result i32)))
  (import "GOT.mem" "main_data" (global $main_data (mut i32)))
  (global (export "side_data") i32 (i32.const 4))
  (data (global.get $mb) "\00\00\00\00\0b\00\00\00")
  (func $local (result i32) (i32.const 6))
  (elem (global.get $tb) func $local)
  (func (export "side") (result i32)
    (i32.add (call $from_main) (i32.load (global.get $main_data))))
  (func (export "side_pointer") (result i32) (global.get $tb))
  (func (export "side_stack") (result i32) (global.get $sp))
  (func (export "__wasm_call_ctors") (call $log (i32.const 1)))
"#;

fn side() -> String {
    library("(mem-info (memory 8 2) (table 1 0))", SIDE)
}

const MAIN_BODY: &str = r#"
  (func (export "from_main") (result i32) (i32.const 100))
  (func (export "run") (result i32) (call $side))
  (func (export "read_side") (result i32) (i32.load (global.get $side_data)))
  (func (export "call_pointer") (param i32) (result i32) (call_indirect (result i32) (local.get 0)))
"#;

const MAIN_IMPORTS: &str = r#"
  (import "env" "side" (func $side (result i32)))
  (import "GOT.mem" "side_data" (global $side_data (mut i32)))
"#;

fn check(world: &mut World) {
    assert_eq!(world.call_main("run", &[]).unwrap(), 105);
    assert_eq!(world.call_main("read_side", &[]).unwrap(), 11);
    let pointer = world.symbol(RTLD_DEFAULT, "side_pointer").unwrap();
    let pointer = world.call_slot(pointer, &[]).unwrap();
    assert_eq!(world.call_main("call_pointer", &[pointer]).unwrap(), 6);
    assert_ne!(pointer, 0);
}

#[test]
fn a_main_module_with_fixed_addresses_and_a_library() {
    let main = main_module(
        MAIN_IMPORTS,
        &format!(
            r#"{MAIN_BODY} (global (export "main_data") i32 (i32.const 2048))
            (data (i32.const 2048) "\05\00\00\00")"#
        ),
    )
    .replace("(@dylink.0)", r#"(@dylink.0 (needed "side.so"))"#);
    let side = side();
    let mut world = World::started(&main, &[("/lib/side.so", &side)]);
    check(&mut world);
    assert_eq!(world.log(), [1]);
    let library = &world.process.libraries()[1];
    assert!(library.memory_base >= 66_000, "its memory came from malloc");
    let stack = world.symbol(RTLD_DEFAULT, "side_stack").unwrap();
    assert_eq!(world.call_slot(stack, &[]).unwrap(), 65_536);
}

const PIE: &str = r#"(module
  (@dylink.0 (mem-info (memory 16 4) (table 1 0)) (needed "side.so"))
  (import "env" "memory" (memory 1))
  (import "env" "__indirect_function_table" (table 1 funcref))
  (import "env" "__memory_base" (global $mb i32))
  (import "env" "__table_base" (global $tb i32))
  (import "env" "__stack_pointer" (global $sp (mut i32)))
  (import "env" "log" (func $log (param i32)))
  (import "GOT.mem" "__heap_base" (global $heap_base (mut i32)))
  (import "GOT.mem" "__heap_end" (global $heap_end (mut i32)))
  (import "GOT.mem" "__stack_low" (global $stack_low (mut i32)))
  (import "GOT.mem" "__stack_high" (global $stack_high (mut i32)))
  $IMPORTS
  (global (export "main_data") i32 (i32.const 0))
  (data (global.get $mb) "\05\00\00\00")
  (func $f) (elem (global.get $tb) func $f)
  (func (export "base") (result i32) (global.get $mb))
  (func (export "table_base") (result i32) (global.get $tb))
  (func (export "heap") (result i32 i32) (global.get $heap_base) (global.get $heap_end))
  (func (export "heap_base") (result i32) (global.get $heap_base))
  (func (export "heap_end") (result i32) (global.get $heap_end))
  (func (export "stack_low") (result i32) (global.get $stack_low))
  (func (export "stack_high") (result i32) (global.get $stack_high))
  (func (export "sp") (result i32) (global.get $sp))
  (func (export "__wasm_call_ctors") (call $log (i32.const 2)))
  $BODY)"#;

#[test]
fn a_position_independent_main_module_and_a_library() {
    let main = PIE
        .replace("$IMPORTS", MAIN_IMPORTS)
        .replace("$BODY", MAIN_BODY);
    let side = side();
    let mut world = World::started(&main, &[("/lib/side.so", &side)]);
    check(&mut world);
    assert_eq!(world.log(), [1, 2], "libraries are constructed first");
    let mut get = |name: &str| world.call_main(name, &[]).unwrap() as u32;
    let (base, heap_base, heap_end) = (get("base"), get("heap_base"), get("heap_end"));
    let (low, high, pointer) = (get("stack_low"), get("stack_high"), get("sp"));
    assert!(low >= 1024 && low % 16 == 0, "null is nobody's address");
    assert_eq!(high - low, 1 << 20);
    assert_eq!(pointer, high, "the stack lies first and grows towards null");
    assert!(base >= high && base % 16 == 0);
    assert!(heap_base % 16 == 0 && heap_end > heap_base && heap_end % 65_536 == 0);
    assert_eq!(get("table_base"), 1, "slot 0 stays null");
    for library in world.process.libraries() {
        assert!(library.memory_base + library.memory_size <= heap_base);
    }
    let stack = world.symbol(RTLD_DEFAULT, "side_stack").unwrap();
    assert_eq!(world.call_slot(stack, &[]).unwrap() as u32, pointer);
}

#[test]
fn a_position_independent_main_module_that_brings_its_own_memory() {
    let main = PIE
        .replace(r#"(import "env" "memory" (memory 1))"#, "")
        .replace(
            r#"(import "GOT.mem" "__heap_base" (global $heap_base (mut i32)))"#,
            r#"(global $heap_base (mut i32) (i32.const 0))"#,
        )
        .replace(
            r#"(import "GOT.mem" "__heap_end" (global $heap_end (mut i32)))"#,
            r#"(global $heap_end (mut i32) (i32.const 0))"#,
        )
        .replace(
            r#"(import "GOT.mem" "__stack_low" (global $stack_low (mut i32)))"#,
            r#"(global $stack_low (mut i32) (i32.const 0))"#,
        )
        .replace(
            r#"(import "GOT.mem" "__stack_high" (global $stack_high (mut i32)))"#,
            r#"(global $stack_high (mut i32) (i32.const 0))"#,
        )
        .replace("$IMPORTS", MAIN_IMPORTS)
        .replace(
            "$BODY",
            &format!(r#"(memory (export "memory") 1) {MAIN_BODY}"#),
        );
    // Definitions must follow all imports in the text format.
    let (globals, main): (Vec<&str>, Vec<&str>) = main.lines().partition(|line| {
        line.trim_start().starts_with("(global $heap")
            || line.trim_start().starts_with("(global $stack")
    });
    let main = main.join("\n").replace(
        r#"(global (export "main_data")"#,
        &format!(r#"{} (global (export "main_data")"#, globals.join("\n")),
    );
    let side = side();
    let mut world = World::started(&main, &[("/lib/side.so", &side)]);
    check(&mut world);
    let pointer = world.call_main("sp", &[]).unwrap();
    assert!(
        pointer > 65_536,
        "the stack lies in memory that the linker grew: {pointer}"
    );
    assert_eq!(pointer % 16, 0);
}

#[test]
fn a_static_main_module_without_a_section_and_a_library_opened_later() {
    let main = main_module(
        "",
        r#"(func (export "from_main") (result i32) (i32.const 100))
           (global (export "main_data") i32 (i32.const 2048)) (data (i32.const 2048) "\05\00\00\00")
           (func (export "call_pointer") (param i32) (result i32) (call_indirect (result i32) (local.get 0)))"#,
    )
    .replace("(@dylink.0)", "");
    let side = side();
    let mut world = World::started(&main, &[("/lib/side.so", &side)]);
    let handle = world.open("side.so").unwrap();
    assert_eq!(world.call(handle, "side", &[]).unwrap(), 105);
    let pointer = world.call(handle, "side_pointer", &[]).unwrap();
    assert_eq!(world.call_main("call_pointer", &[pointer]).unwrap(), 6);
}

/// A kernel in the style of cowasm: static, memory and table imported, stack pointer its own, every export wrapped,
/// symbols told by functions.
const KERNEL: &str = r#"(module
  (import "env" "memory" (memory 20))
  (import "env" "__indirect_function_table" (table 6 funcref))
  (import "env" "log" (func $log (param i32)))
  (global $sp (mut i32) (i32.const 1048576))
  (global $offset i32 (i32.const 1048584))
  (global $heap (mut i32) (i32.const 1100000))
  (data (i32.const 1048576) "\07\00\00\00\05\00\00\00\09\00\00\00")
  (elem (i32.const 1) func $malloc $free $from_main)
  (func $ctors (call $log (i32.const 1000)))
  (func $dtors (call $log (i32.const 1001)))
  (func $malloc (param $size i32) (result i32)
    (local $start i32)
    (local.set $start (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
    (global.set $heap (i32.add (local.get $start) (local.get $size)))
    (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1))))))
    (local.get $start))
  (func $free (param i32))
  (func $from_main (result i32) (i32.const 100))
  (func $p_malloc (result i32) (i32.const 1))
  (func $p_free (result i32) (i32.const 2))
  (func $p_from_main (result i32) (i32.const 3))
  (func $p_main_data (result i32) (i32.const 1048580))
  (func $p_other (result i32) (i32.add (global.get $offset) (i32.const 0)))
  (func (export "__WASM_EXPORT__malloc") (result i32) (call $ctors) (call $p_malloc) (call $dtors))
  (func (export "__WASM_EXPORT__free") (result i32) (call $ctors) (call $p_free) (call $dtors))
  (func (export "__WASM_EXPORT__from_main") (result i32) (call $ctors) (call $p_from_main) (call $dtors))
  (func (export "__WASM_EXPORT__main_data") (result i32) (call $ctors) (call $p_main_data) (call $dtors))
  (func (export "__WASM_EXPORT__other") (result i32) (call $ctors) (call $p_other) (call $dtors))
  (func (export "c_malloc") (param i32) (result i32) (call $ctors) (local.get 0) (call $malloc) (call $dtors))
  (func (export "_start") (call $ctors) (call $log (i32.const 5)) (call $dtors)))"#;

#[test]
fn a_kernel_of_cowasm_is_only_called_through_its_table() {
    let side = side();
    let mut world = World::new(Profile::cowasm(), &[("/lib/side.so", &side)]);
    world.start(KERNEL).unwrap();
    assert!(
        world.log().is_empty(),
        "_start runs the constructors, not the linker"
    );
    let start = world.process.entry(&mut world.store, None).unwrap();
    world.call_func(start, &[]).unwrap();
    assert_eq!(world.log(), [1000, 5, 1001]);

    let handle = world.open("/lib/side.so").unwrap();
    assert_eq!(world.call(handle, "side", &[]).unwrap(), 105);
    assert_eq!(world.log(), [1000, 5, 1001, 1], "no wrapper was called");
    assert_eq!(
        world.process.address(&mut world.store, "other"),
        Some(1_048_584)
    );
    assert_eq!(world.symbol(RTLD_DEFAULT, "from_main").unwrap(), 3);
    assert!(
        world
            .process
            .address(&mut world.store, "c_malloc")
            .is_none(),
        "a wrapper is no symbol"
    );
    let library = &world.process.libraries()[1];
    assert_eq!(library.table_base, 4, "behind the kernel's last function");
    assert!(library.memory_base >= 1_100_000);
    let pointer = world.call(handle, "side_stack", &[]).unwrap();
    assert!(pointer > 8 << 20, "a stack of 8 MiB from malloc: {pointer}");
    assert!(world.process.memory().unwrap().size(&world.store) >= 160);
}

#[test]
fn a_library_that_tells_its_symbols_through_its_own_cells() {
    // As python.wasm: the functions read the GOT, which the linker fills.
    let python = library(
        "(mem-info (memory 8 2) (table 1 0))",
        r#"(import "env" "memory" (memory 0))
           (import "env" "__indirect_function_table" (table 0 funcref))
           (import "env" "__memory_base" (global $mb i32))
           (import "env" "__table_base" (global $tb i32))
           (import "GOT.mem" "datum" (global $datum (mut i32)))
           (import "GOT.func" "visible" (global $visible (mut i32)))
           (global (export "datum") i32 (i32.const 4))
           (data (global.get $mb) "\00\00\00\00\21\00\00\00")
           (func (export "visible") (result i32) (i32.const 8))
           (func $hidden (result i32) (i32.const 9))
           (elem (global.get $tb) func $hidden)
           (func (export "__WASM_EXPORT__datum") (result i32) (global.get $datum))
           (func (export "__WASM_EXPORT__alias") (result i32) (global.get $datum))
           (func (export "__WASM_EXPORT__visible") (result i32) (global.get $visible))
           (func (export "__WASM_EXPORT__hidden") (result i32) (i32.add (global.get $tb) (i32.const 0)))
           (func (export "__WASM_EXPORT__unknown") (result i32) (i32.const 1) (i32.const 2) (i32.sub))"#,
    );
    let user = library(
        "",
        r#"(import "env" "memory" (memory 0))
           (import "GOT.mem" "alias" (global $alias (mut i32)))
           (import "env" "hidden" (func $hidden (result i32)))
           (import "env" "visible" (func $visible (result i32)))
           (func (export "sum") (result i32)
             (i32.add (i32.load (global.get $alias)) (i32.add (call $hidden) (call $visible))))"#,
    );
    let both = user.replace("(@dylink.0 )", r#"(@dylink.0 (needed "python.so"))"#);
    let list = [
        ("/lib/python.so", &*python),
        ("/lib/user.so", &*user),
        ("/lib/both.so", &*both),
    ];
    let mut world = World::new(Profile::cowasm(), &list);
    world.start(KERNEL).unwrap();
    world.open("python.so").unwrap();
    let user = world.open("user.so").unwrap();
    assert_eq!(world.call(user, "sum", &[]).unwrap(), 33 + 9 + 8);
    // The same in one load, where the cells are filled after the user was instantiated.
    let mut world = World::new(Profile::cowasm(), &list);
    world.start(KERNEL).unwrap();
    let both = world.open("both.so").unwrap();
    assert_eq!(world.call(both, "sum", &[]).unwrap(), 33 + 9 + 8);
    assert!(world.symbol(both, "unknown").is_err());
}

#[test]
fn a_preloaded_library_is_found_before_those_that_main_needs() {
    let one = library("", r#"(func (export "which") (result i32) (i32.const 1))"#);
    let two = library("", r#"(func (export "which") (result i32) (i32.const 2))"#);
    let main = main_module(
        r#"(import "env" "which" (func $which (result i32)))"#,
        r#"(func (export "run") (result i32) (call $which))"#,
    )
    .replace("(@dylink.0)", r#"(@dylink.0 (needed "1.so"))"#);
    let mut world = World::new(Profile::default(), &[]);
    world.process = Process::builder()
        .files(files(&[("/lib/1.so", &one), ("/lib/2.so", &two)]))
        .ld_library_path("/nowhere:/lib")
        .preload("2.so")
        .build();
    world.start(&main).unwrap();
    assert_eq!(world.call_main("run", &[]).unwrap(), 2);
}

#[test]
fn constructors_of_a_main_module_with_a_c_library_run_first_unless_start_runs_them() {
    let side = library(
        "",
        r#"(import "env" "log" (func $log (param i32))) (func (export "__wasm_call_ctors") (call $log (i32.const 1)))"#,
    );
    let body = r#"(func $ctors (export "__wasm_call_ctors") (call $log (i32.const 2)))"#;
    let log = r#"(import "env" "log" (func $log (param i32)))"#;
    let needed = r#"(@dylink.0 (needed "side.so"))"#;
    let main = main_module(log, body).replace("(@dylink.0)", needed);
    let world = World::started(&main, &[("/lib/side.so", &side)]);
    assert_eq!(world.log(), [2, 1]);
    let start = format!(r#"{body} (func (export "_start") (call $ctors))"#);
    let main = main_module(log, &start).replace("(@dylink.0)", needed);
    let world = World::started(&main, &[("/lib/side.so", &side)]);
    assert_eq!(world.log(), [1], "_start runs main's");
}

#[test]
fn a_private_table_or_memory_is_named_with_the_flag_that_shares_it() {
    let side = side();
    let main = main_module("", "")
        .replace(r#"(export "__indirect_function_table")"#, "")
        .replace(r#"(export "memory")"#, "");
    let mut world = World::started(&main, &[("/lib/side.so", &side)]);
    let text = world.fails_twice("side.so");
    assert!(
        text.contains("--growable-table") && text.contains("--export-memory"),
        "{text}"
    );
}
