//! Guests that never end: stopped by fuel, by a deadline and from another thread, in every shape of loop.
//! Afterwards the same instance answers.

use crate::support::{DISPATCHES, call, engine, instance, trap_code, wasm};
use dynlink::{Dispatch, Engine, Func, FuncType, Instance, Module, Store, TrapCode};
use std::time::{Duration, Instant};

/// Bodies of functions that never end. `$self` is the function, type `$t` its type, element 0 itself.
const SHAPES: &[(&str, &str)] = &[
    ("br", "(loop (br 0))"),
    ("br_if on a constant", "(loop (br_if 0 (i32.const 1)))"),
    (
        "br_if on a local",
        "(local.set 0 (i32.const 1)) (loop (br_if 0 (local.get 0)))",
    ),
    ("br_if on eqz", "(loop (br_if 0 (i32.eqz (local.get 0))))"),
    (
        "br_if on a comparison",
        "(loop (br_if 0 (i32.lt_s (local.get 0) (i32.const 5))))",
    ),
    (
        "br_if on a comparison of i64",
        "(loop (br_if 0 (i64.eq (local.get 1) (local.get 1))))",
    ),
    (
        "br_if on a comparison of f64",
        "(loop (br_if 0 (f64.lt (local.get 2) (f64.const 1))))",
    ),
    (
        "counter that wraps",
        "(loop (local.set 0 (i32.add (local.get 0) (i32.const 1))) (br 0))",
    ),
    (
        "fused counter",
        "(loop (br_if 0 (i32.ge_u (local.tee 0 (i32.add (local.get 0) (i32.const 2))) (i32.const 0))))",
    ),
    ("br_table", "(loop (br_table 0 0 0 (local.get 0)))"),
    (
        "br_table default",
        "(loop (block (br_table 0 1 (i32.const 9))))",
    ),
    ("br out of a block", "(loop (block (block (br 2))))"),
    (
        "br out of an if",
        "(loop (if (i32.const 1) (then (br 1)) (else (br 1))))",
    ),
    (
        "nested loops",
        "(loop (loop (loop (br_if 2 (i32.const 1)))))",
    ),
    (
        "inner loop that ends",
        "(loop (local.set 0 (i32.const 3))
        (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))) (br 0))",
    ),
    ("call in a loop", "(loop (drop (call $answer)) (br 0))"),
    (
        "call_indirect in a loop",
        "(loop (drop (call_indirect (result i32) (i32.const 1))) (br 0))",
    ),
    ("host call in a loop", "(loop (call $host) (br 0))"),
    ("tail call of itself", "(return_call $self)"),
    (
        "indirect tail call of itself",
        "(return_call_indirect (type $t) (i32.const 0))",
    ),
    ("tail calls of each other", "(return_call $other)"),
    (
        "loads and stores",
        "(loop (i32.store (i32.const 8) (i32.load (i32.const 4))) (br 0))",
    ),
    (
        "memory.fill",
        "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 16777216)) (br 0))",
    ),
    (
        "memory.copy",
        "(loop (memory.copy (i32.const 0) (i32.const 1) (i32.const 16777000)) (br 0))",
    ),
    (
        "memory.fill of nothing",
        "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 0)) (br 0))",
    ),
    (
        "memory.init",
        "(loop (memory.init $data (i32.const 0) (i32.const 0) (i32.const 4)) (br 0))",
    ),
    (
        "memory.grow by nothing",
        "(loop (drop (memory.grow (i32.const 0))) (br 0))",
    ),
    (
        "table.fill",
        "(loop (table.fill $big (i32.const 0) (ref.null func) (i32.const 100000)) (br 0))",
    ),
    (
        "table.copy",
        "(loop (table.copy $big $big (i32.const 0) (i32.const 1) (i32.const 99999)) (br 0))",
    ),
    (
        "table.set",
        "(loop (table.set $big (i32.const 0) (ref.null func)) (br 0))",
    ),
    (
        "globals",
        "(loop (global.set $g (i32.add (global.get $g) (i32.const 1))) (br 0))",
    ),
    (
        "select",
        "(loop (br_if 0 (select (i32.const 1) (i32.const 2) (local.get 0))))",
    ),
];

fn module(body: &str) -> String {
    format!(
        "(module
           (type $t (func (result i32)))
           (import \"host\" \"f\" (func $host))
           (memory (export \"memory\") 256)
           (data $data \"abcd\")
           (global $g (mut i32) (i32.const 0))
           (table $small 2 funcref) (elem (table $small) (i32.const 0) func $self $answer)
           (table $big 100000 funcref)
           (func $self (export \"forever\") (type $t) (local i32 i64 f64) {body} (unreachable))
           (func $other (result i32) (return_call $self))
           (func $answer (export \"answer\") (result i32) (i32.const 42)))"
    )
}

fn start(engine: &Engine, body: &str) -> (Store<()>, Instance) {
    let module =
        Module::new(engine, &wasm(&module(body))).unwrap_or_else(|error| panic!("{error}"));
    let mut store = Store::new(engine, ());
    let host = Func::new(&mut store, FuncType::new([], []), |_, _, _| Ok(()));
    let instance = Instance::new(&mut store, &module, &[host.into()]);
    let instance = instance.unwrap_or_else(|error| panic!("{error}"));
    (store, instance)
}

/// How late a guest may stop on a machine that is busy with other tests.
const LATE: Duration = Duration::from_secs(10);

#[test]
fn fuel_stops_every_shape_of_loop() {
    for dispatch in DISPATCHES {
        let engine = engine(|config| {
            config.dispatch = dispatch;
            config.fuel = true;
        });
        for (shape, body) in SHAPES {
            let (mut store, instance) = start(&engine, body);
            for fuel in [0, 1, 1000, 300_000] {
                store
                    .set_fuel(fuel)
                    .unwrap_or_else(|error| panic!("{error}"));
                let begin = Instant::now();
                let outcome = call(&mut store, instance, "forever", &[]);
                assert_eq!(
                    trap_code(&outcome),
                    Some(TrapCode::OutOfFuel),
                    "{shape}: {outcome:?}"
                );
                assert!(
                    begin.elapsed() < LATE,
                    "{shape}: {fuel} fuel took {:?}",
                    begin.elapsed()
                );
            }
            store
                .set_fuel(1000)
                .unwrap_or_else(|error| panic!("{error}"));
            let answer = call(&mut store, instance, "answer", &[]);
            assert_eq!(
                answer.ok(),
                Some(42),
                "{shape}: the instance does not go on"
            );
        }
    }
}

#[test]
fn both_dispatchers_use_the_same_fuel() {
    let left = |dispatch: Dispatch| {
        let engine = engine(|config| {
            config.dispatch = dispatch;
            config.fuel = true;
        });
        let text = "(module (memory 1) (func $f (export \"f\") (result i32) (local i32)
            (loop (memory.fill (i32.const 0) (i32.const 7) (i32.const 5000))
                  (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 100))))
            (local.get 0)))";
        let (mut store, instance) = instance(&engine, text);
        store
            .set_fuel(10_000_000)
            .unwrap_or_else(|error| panic!("{error}"));
        let found = call(&mut store, instance, "f", &[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(found, 100);
        store.get_fuel().unwrap_or_else(|error| panic!("{error}"))
    };
    let [tail, again, looped] = [Dispatch::TailCall, Dispatch::TailCall, Dispatch::Loop].map(left);
    assert_eq!(tail, again);
    assert_eq!(tail, looped);
    assert!(tail < 10_000_000, "nothing was charged");
}

#[test]
fn a_deadline_stops_every_shape_of_loop() {
    for dispatch in DISPATCHES {
        let engine = engine(|config| {
            config.dispatch = dispatch;
            config.interruption = true;
        });
        for (shape, body) in SHAPES {
            let (mut store, instance) = start(&engine, body);
            let deadline = store.set_deadline(Some(Duration::from_millis(20)));
            deadline.unwrap_or_else(|error| panic!("{error}"));
            let begin = Instant::now();
            let outcome = call(&mut store, instance, "forever", &[]);
            assert_eq!(
                trap_code(&outcome),
                Some(TrapCode::Interrupted),
                "{shape}: {outcome:?}"
            );
            let time = begin.elapsed();
            assert!(
                time >= Duration::from_millis(15),
                "{shape}: stopped after {time:?} already"
            );
            assert!(time < LATE, "{shape}: stopped after {time:?} only");
            store
                .set_deadline(None)
                .unwrap_or_else(|error| panic!("{error}"));
            let answer = call(&mut store, instance, "answer", &[]);
            assert_eq!(
                answer.ok(),
                Some(42),
                "{shape}: the instance does not go on"
            );
        }
    }
}

#[test]
fn another_thread_stops_a_guest() {
    for dispatch in DISPATCHES {
        let engine = engine(|config| {
            config.dispatch = dispatch;
            config.interruption = true;
        });
        let (mut store, instance) = start(&engine, "(loop (br 0))");
        let handle = store
            .interrupt_handle()
            .unwrap_or_else(|error| panic!("{error}"));
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            handle.interrupt();
        });
        let outcome = call(&mut store, instance, "forever", &[]);
        assert_eq!(
            trap_code(&outcome),
            Some(TrapCode::Interrupted),
            "{outcome:?}"
        );
        assert!(stopper.join().is_ok());
        assert_eq!(call(&mut store, instance, "answer", &[]).ok(), Some(42));
    }
}

#[test]
fn a_deadline_that_has_passed_stops_a_guest_at_once() {
    let engine = engine(|config| config.interruption = true);
    let (mut store, instance) = start(&engine, "(loop (br 0))");
    let deadline = store.set_deadline(Some(Duration::ZERO));
    deadline.unwrap_or_else(|error| panic!("{error}"));
    let outcome = call(&mut store, instance, "forever", &[]);
    assert_eq!(
        trap_code(&outcome),
        Some(TrapCode::Interrupted),
        "{outcome:?}"
    );
}

#[test]
fn metering_that_is_not_configured_is_an_error() {
    let mut store = Store::new(&Engine::default(), ());
    assert!(store.set_fuel(1).is_err());
    assert!(store.get_fuel().is_err());
    assert!(store.set_deadline(Some(Duration::ZERO)).is_err());
    assert!(store.interrupt_handle().is_err());
}

#[test]
fn a_start_function_that_never_ends_is_stopped() {
    let engine = engine(|config| config.fuel = true);
    let bytes = wasm("(module (func $s (loop (br 0))) (start $s))");
    let module = Module::new(&engine, &bytes).unwrap_or_else(|error| panic!("{error}"));
    let mut store = Store::new(&engine, ());
    store
        .set_fuel(10_000)
        .unwrap_or_else(|error| panic!("{error}"));
    let outcome = Instance::new(&mut store, &module, &[]);
    assert_eq!(
        trap_code(&outcome),
        Some(TrapCode::OutOfFuel),
        "{:?}",
        outcome.err()
    );
}

#[test]
fn a_bulk_operation_stopped_by_fuel_leaves_bounds_checks_first() {
    // Out of bounds is a trap before anything is written, whatever the fuel.
    let engine = engine(|config| config.fuel = true);
    let text = "(module (memory (export \"memory\") 1)
        (func (export \"f\") (result i32) (memory.fill (i32.const 1) (i32.const 9) (i32.const 65536)) (i32.const 0)))";
    let (mut store, instance) = instance(&engine, text);
    let outcome = call(&mut store, instance, "f", &[]);
    assert_eq!(
        trap_code(&outcome),
        Some(TrapCode::MemoryOutOfBounds),
        "{outcome:?}"
    );
    let memory = instance
        .get_memory(&mut store, "memory")
        .unwrap_or_else(|| panic!("no memory"));
    assert!(memory.data(&store).iter().all(|byte| *byte == 0));
}
