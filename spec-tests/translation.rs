//! What translation must withstand: bodies made to grow, deep nests of wide types, and calls whose
//! caller is not the one that the return address names.

use dynlink::{
    Caller, Config, Engine, ErrorKind, Func, FuncType, Instance, Module, Store, Trap, TrapCode,
    Val, ValType,
};
use std::fmt::Write;

/// A type with a thousand parameters and results.
fn wide() -> String {
    let list = "i32 ".repeat(1000);
    format!("(type $wide (func (param {list}) (result {list})))")
}

fn instance(wat: &str) -> (Store<()>, Instance) {
    let engine = Engine::default();
    let module = Module::new(&engine, &wat::parse_str(wat).unwrap()).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    (store, instance)
}

fn call(store: &mut Store<()>, instance: Instance, name: &str) -> dynlink::Result<Option<i32>> {
    let func = instance.get_func(&mut *store, name).unwrap();
    let mut results = vec![Val::I32(0); func.ty(&*store).results().len()];
    func.call(store, &[], &mut results)?;
    Ok(results.first().and_then(Val::i32))
}

#[test]
fn ten_thousand_calls_with_a_thousand_arguments_are_short_code() {
    let mut wat = format!("(module {} (func $same (type $wide)", wide());
    (0..1000).for_each(|i| write!(wat, "(local.get {i})").unwrap());
    wat.push_str(") (func (export \"run\") (result i32) (local i32)");
    (0..1000).for_each(|i| write!(wat, "(i32.const {i})").unwrap());
    wat.push_str("(loop (type $wide)");
    (0..10_000).for_each(|_| wat.push_str(" call $same"));
    wat.push_str(
        "(local.set 0 (i32.add (local.get 0) (i32.const 1)))
         (br_if 0 (i32.lt_u (local.get 0) (i32.const 2))))",
    );
    (0..999).for_each(|_| wat.push_str(" drop"));
    wat.push_str("(i32.add (i32.const 42))))");
    let (mut store, instance) = instance(&wat);
    assert_eq!(call(&mut store, instance, "run").unwrap(), Some(42));
}

#[test]
fn a_body_that_is_made_to_grow_ends_in_a_limit() {
    // Each branch brings 31 long constants along, which become 31 copies: about a hundred words for four bytes.
    let results = "i64 ".repeat(31);
    let mut wat = format!("(module (func (export \"run\") (local i32) (block (result {results})");
    (0..31).for_each(|i| write!(wat, "(i64.const -{})", i + 1).unwrap());
    (0..60_000).for_each(|_| wat.push_str(" local.get 0 br_if 0"));
    wat.push(')');
    (0..31).for_each(|_| wat.push_str(" drop"));
    wat.push_str("))");
    let (mut store, instance) = instance(&wat);
    let error = call(&mut store, instance, "run").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Limit { .. }), "{error}");
}

#[test]
fn a_jump_table_whose_targets_need_code_of_their_own_stays_within_the_limit() {
    // Each target moves 31 values, in a piece of code of its own: there is room for the table, but not for these.
    let results = "i64 ".repeat(31);
    let mut wat = format!(
        "(module (func (export \"run\") (local i32) (block (result {results}) (i64.const 7) (block (result {results})"
    );
    (0..31).for_each(|i| write!(wat, "(i64.const -{})", i + 1).unwrap());
    write!(wat, "local.get 0 br_table {} 0)", "1 ".repeat(300_000)).unwrap();
    wat.push_str(" return)");
    (0..31).for_each(|_| wat.push_str(" drop"));
    wat.push_str("))");
    for (megabytes, fits) in [(8, false), (64, true)] {
        let mut config = Config::default();
        config.limits.translation_bytes = megabytes << 20;
        let engine = Engine::new(config);
        let module = Module::new(&engine, &wat::parse_str(&wat).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        match call(&mut store, instance, "run") {
            Ok(_) => assert!(fits, "{megabytes} MiB"),
            Err(error) => {
                assert!(!fits, "{error}");
                assert!(error.to_string().contains("translation_bytes"), "{error}");
            }
        }
    }
}

#[test]
fn a_deep_nest_of_wide_blocks_costs_no_more_than_one_of_narrow_ones() {
    let mut wat = format!("(module {} (func (export \"run\") (result i32)", wide());
    (0..1000).for_each(|_| wat.push_str("(i32.const 5)"));
    (0..20_000).for_each(|_| wat.push_str(" block (type $wide)"));
    (0..20_000).for_each(|_| wat.push_str(" end"));
    (0..999).for_each(|_| wat.push_str(" drop"));
    wat.push_str("))");
    let (mut store, instance) = instance(&wat);
    assert_eq!(call(&mut store, instance, "run").unwrap(), Some(5));
}

/// A host function that gives the first byte of its caller's memory, tail-called in both ways.
const TAIL: &str = r#"
(module
  (import "e" "first" (func $first (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\2a")
  (table 1 funcref)
  (elem (i32.const 0) $first)
  (func (export "direct") (result i32) (return_call $first))
  (func (export "indirect") (result i32) (return_call_indirect (result i32) (i32.const 0))))
"#;

#[test]
fn a_tail_called_host_function_sees_the_function_that_called_it() {
    let engine = Engine::new(Config::default());
    let module = Module::new(&engine, &wat::parse_str(TAIL).unwrap()).unwrap();
    let mut store = Store::new(&engine, ());
    let first = Func::wrap(&mut store, |mut caller: Caller<'_, ()>| {
        let memory = caller
            .get_export("memory")
            .and_then(dynlink::Extern::into_memory);
        memory.map_or(-1, |memory| i32::from(memory.data(&caller)[0]))
    });
    let instance = Instance::new(&mut store, &module, &[first.into()]).unwrap();
    for name in ["direct", "indirect"] {
        assert_eq!(
            call(&mut store, instance, name).unwrap(),
            Some(42),
            "{name}"
        );
    }
}

#[test]
fn a_trap_of_a_host_function_names_each_guest_frame_once() {
    let wat = r#"(module (import "e" "fail" (func $fail))
        (func $inner (call $fail)) (func $outer (export "run") (call $inner)))"#;
    let engine = Engine::default();
    let module = Module::new(&engine, &wat::parse_str(wat).unwrap()).unwrap();
    let mut store = Store::new(&engine, ());
    let ty = FuncType::new(std::iter::empty::<ValType>(), []);
    let fail = Func::new(&mut store, ty, |_: Caller<'_, ()>, _, _| {
        Err(Trap::new(TrapCode::Unreachable).into())
    });
    let instance = Instance::new(&mut store, &module, &[fail.into()]).unwrap();
    let error = call(&mut store, instance, "run").unwrap_err();
    let frames = &error.trap().unwrap().backtrace().frames;
    let names: Vec<_> = frames
        .iter()
        .map(|frame| frame.function.as_deref())
        .collect();
    assert_eq!(names, [Some("inner"), Some("outer")]);
}

/// Functions whose locals may be read before they are written, on the path that the parameter chooses. `$dirty` leaves
/// other values where their frames will lie.
fn readers() -> String {
    let many = "i32 ".repeat(200);
    let mut wat = String::from(
        r#"(module
  (func $dirty (param i32) (local i32 i32 i32 i32 i32 i32 i32 i32)
    (local.set 1 (i32.const -1)) (local.set 2 (i32.const -2)) (local.set 3 (i32.const -3)) (local.set 4 (i32.const -4))
    (local.set 5 (i32.const -5)) (local.set 6 (i32.const -6)) (local.set 7 (i32.const -7)) (local.set 8 (i32.const -8))
    (if (local.get 0) (then (call $dirty (i32.sub (local.get 0) (i32.const 1))))))
  (func $at_once (param i32) (result i32) (local i32) (local.get 1))
  (func $one_arm (param i32) (result i32) (local i32 i32)
    (if (local.get 0) (then (local.set 2 (i32.const 7))))
    (local.get 2))
  (func $both_arms (param i32) (result i32) (local i32)
    (if (local.get 0) (then (local.set 1 (i32.const 7))) (else (local.set 1 (i32.const 0))))
    (local.get 1))
  (func $other_arm (param i32) (result i32) (local i32)
    (if (local.get 0) (then (local.set 1 (i32.const 7))) (else (nop)))
    (local.get 1))
  (func $left_before (param i32) (result i32) (local i32)
    (block (br_if 0 (i32.eqz (local.get 0))) (local.set 1 (i32.const 7)))
    (local.get 1))
  (func $left_by_table (param i32) (result i32) (local i32 i32)
    (block (block (br_table 1 0 (local.get 0))) (local.set 2 (i32.const 7)))
    (local.get 2))
  (func $left_with_a_value (param i32) (result i32) (local i32)
    (drop (block (result i32)
      (drop (br_if 0 (i32.const 1) (i32.eqz (local.get 0))))
      (local.set 1 (i32.const 7)) (i32.const 2)))
    (local.get 1))
  (func $after_dead_code (param i32) (result i32) (local i32)
    (block (br 0) (local.set 1 (i32.const 7)))
    (i32.or (local.get 1) (i32.mul (local.get 0) (i32.const 7))))
  (func $returns_in_one_arm (param i32) (result i32) (local i32)
    (if (local.get 0) (then (local.set 1 (i32.const 7)) (return (local.get 1))))
    (local.get 1))
  (func $first_round (param i32) (result i32) (local i32 i32 i32)
    (loop
      (local.set 3 (i32.add (local.get 3) (local.get 2)))
      (local.set 2 (i32.const 7))
      (local.set 1 (i32.add (local.get 1) (i32.const 1)))
      (br_if 0 (i32.le_u (local.get 1) (local.get 0))))
    (local.get 3))
  (func $left_the_loop (param i32) (result i32) (local i32)
    (block (loop (br_if 1 (i32.eqz (local.get 0))) (local.set 1 (i32.const 7))))
    (local.get 1))
"#,
    );
    write!(
        wat,
        "(func $beyond_those_followed (param i32) (result i32) (local {many})
           (if (local.get 0) (then (local.set 180 (i32.const 7))))
           (i32.add (local.get 180) (local.get 120)))"
    )
    .unwrap();
    for name in READERS {
        write!(
            wat,
            r#"(func (export "{name}") (param i32) (result i32) (call $dirty (i32.const 60)) (call ${name} (local.get 0)))"#
        )
        .unwrap();
    }
    wat.push(')');
    wat
}

const READERS: [&str; 12] = [
    "one_arm",
    "both_arms",
    "other_arm",
    "left_before",
    "left_by_table",
    "left_with_a_value",
    "after_dead_code",
    "returns_in_one_arm",
    "first_round",
    "left_the_loop",
    "beyond_those_followed",
    "at_once",
];

#[test]
fn a_local_that_was_not_written_is_zero_on_every_path() {
    let (mut store, instance) = instance(&readers());
    for name in READERS {
        for (argument, expected) in [(0, 0), (1, 7)] {
            let expected = if name == "at_once" { 0 } else { expected };
            let func = instance.get_func(&mut store, name).unwrap();
            let mut results = [Val::I32(-1)];
            func.call(&mut store, &[Val::I32(argument)], &mut results)
                .unwrap();
            assert_eq!(results[0].i32(), Some(expected), "{name}({argument})");
        }
    }
}
