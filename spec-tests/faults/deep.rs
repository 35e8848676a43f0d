//! Recursion: guests go hundreds of thousands of frames deep without native stack, too deep is a trap, and
//! guests and hosts that call each other are limited.

use crate::support::{DISPATCHES, SMALL_STACK, call, engine, instance, on_stack, trap_code, wasm};
use dynlink::{Caller, Engine, Error, Instance, Linker, Module, Store, TrapCode, Val};

const RECURSIVE: &str = r#"(module
  (type $t (func (param i32) (result i32)))
  (table 4 funcref) (elem (i32.const 0) $direct $indirect $even $odd)
  (func $direct (export "direct") (type $t)
    (if (result i32) (local.get 0)
      (then (i32.add (i32.const 1) (call $direct (i32.sub (local.get 0) (i32.const 1)))))
      (else (i32.const 0))))
  (func $indirect (export "indirect") (type $t)
    (if (result i32) (local.get 0)
      (then (i32.add (i32.const 1)
        (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 1))))
      (else (i32.const 0))))
  (func $even (export "mutual") (type $t) (local i64 i64 f64)
    (if (result i32) (local.get 0)
      (then (i32.add (i32.const 1) (call $odd (i32.sub (local.get 0) (i32.const 1)))))
      (else (i32.const 0))))
  (func $odd (type $t) (local f32)
    (if (result i32) (local.get 0)
      (then (i32.add (i32.const 1)
        (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 2))))
      (else (i32.const 0))))
  (func $endless (export "endless") (result i32) (i32.add (call $endless) (i32.const 1)))
  (func $wide (export "endless-wide") (result i32) (local i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)
    (i32.add (call $wide) (i32.const 1)))
  (func $a (export "endless-mutual") (result i32) (i32.add (call $b) (i32.const 1)))
  (func $b (result i32) (i32.add (call $a) (i32.const 1)))
  (func (export "endless-indirect") (param i32) (result i32)
    (i32.add (call_indirect (type $t) (i32.const -1) (i32.const 0)) (i32.const 1)))
  (func (export "tail") (param i32) (result i32)
    (return_call $count (local.get 0) (i32.const 0)))
  (func $count (param i32 i32) (result i32)
    (if (result i32) (local.get 0)
      (then (return_call $count (i32.sub (local.get 0) (i32.const 1)) (i32.add (local.get 1) (i32.const 1))))
      (else (local.get 1))))
  (func (export "answer") (result i32) (i32.const 42)))"#;

#[test]
fn a_hundred_thousand_frames_need_no_native_stack() {
    for dispatch in DISPATCHES {
        on_stack(SMALL_STACK, move || {
            let engine = engine(|config| config.dispatch = dispatch);
            let (mut store, instance) = instance(&engine, RECURSIVE);
            for name in ["direct", "indirect", "mutual"] {
                let found = call(&mut store, instance, name, &[Val::I32(100_000)]);
                let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(found, 100_000, "{name}");
            }
            let found = call(&mut store, instance, "tail", &[Val::I32(10_000_000)]);
            assert_eq!(found.unwrap_or_else(|error| panic!("{error}")), 10_000_000);
        });
    }
}

#[test]
fn too_deep_is_a_trap_and_the_instance_goes_on() {
    for dispatch in DISPATCHES {
        for metered in [false, true] {
            on_stack(SMALL_STACK, move || {
                let engine = engine(|config| {
                    config.dispatch = dispatch;
                    config.fuel = metered;
                    config.limits.stack_bytes = 4 << 20;
                });
                let (mut store, instance) = instance(&engine, RECURSIVE);
                for name in [
                    "endless",
                    "endless-wide",
                    "endless-mutual",
                    "endless-indirect",
                ] {
                    let arguments: &[Val] = if name == "endless-indirect" {
                        &[Val::I32(0)]
                    } else {
                        &[]
                    };
                    for _ in 0..3 {
                        let outcome = call(&mut store, instance, name, arguments);
                        let code = trap_code(&outcome);
                        assert_eq!(code, Some(TrapCode::StackOverflow), "{name}: {outcome:?}");
                        let answer = call(&mut store, instance, "answer", &[]);
                        assert_eq!(answer.ok(), Some(42), "{name}: the instance does not go on");
                    }
                }
            });
        }
    }
}

#[test]
fn the_limit_of_the_value_stack_is_kept() {
    // With more stack the same recursion gets deeper: the limit is what stops it.
    let deepest = |stack_bytes: usize| {
        let engine = engine(|config| config.limits.stack_bytes = stack_bytes);
        let (mut store, instance) = instance(&engine, RECURSIVE);
        let (mut low, mut high) = (0, 1 << 24);
        while low + 1 < high {
            let middle = (low + high) / 2;
            match call(&mut store, instance, "direct", &[Val::I32(middle)]) {
                Ok(found) => {
                    assert_eq!(found, middle);
                    low = middle;
                }
                Err(_) => high = middle,
            }
        }
        low
    };
    let (small, large) = (deepest(64 << 10), deepest(1 << 20));
    assert!(small > 100, "only {small} frames in 64 KiB");
    assert!(
        large > small * 10,
        "{small} frames in 64 KiB, {large} in 1 MiB"
    );
    assert!(
        (large as usize) < (1 << 20) / 8,
        "{large} frames cannot fit 1 MiB"
    );
}

/// A guest whose `down(n)` calls the host, which calls `down(n - 1)`.
const BOUNCING: &str = r#"(module
  (import "host" "up" (func $up (param i32) (result i32)))
  (func (export "down") (param i32) (result i32)
    (if (result i32) (local.get 0)
      (then (i32.add (i32.const 1) (call $up (i32.sub (local.get 0) (i32.const 1)))))
      (else (i32.const 0))))
  (func (export "answer") (result i32) (i32.const 42)))"#;

fn bouncing(engine: &Engine) -> (Store<()>, Instance) {
    let mut linker = Linker::new(engine);
    let up = |mut caller: Caller<'_, ()>, n: i32| -> Result<i32, Error> {
        let down = caller
            .get_export("down")
            .and_then(dynlink::Extern::into_func);
        let down = down.ok_or_else(|| Error::msg("no `down`"))?;
        let mut results = [Val::I32(0)];
        down.call(&mut caller, &[Val::I32(n)], &mut results)?;
        results[0].i32().ok_or_else(|| Error::msg("not an i32"))
    };
    linker
        .func_wrap("host", "up", up)
        .map(drop)
        .unwrap_or_else(|error| panic!("{error}"));
    let module = Module::new(engine, &wasm(BOUNCING)).unwrap_or_else(|error| panic!("{error}"));
    let mut store = Store::new(engine, ());
    let instance = linker.instantiate(&mut store, &module);
    (store, instance.unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn guests_and_hosts_that_call_each_other_are_limited() {
    for dispatch in DISPATCHES {
        let engine = engine(|config| config.dispatch = dispatch);
        let (mut store, instance) = bouncing(&engine);
        let fine = call(&mut store, instance, "down", &[Val::I32(90)]);
        assert_eq!(fine.unwrap_or_else(|error| panic!("{error}")), 90);
        for depth in [200, 100_000, -1] {
            let outcome = call(&mut store, instance, "down", &[Val::I32(depth)]);
            assert_eq!(
                trap_code(&outcome),
                Some(TrapCode::StackOverflow),
                "{outcome:?}"
            );
            assert_eq!(call(&mut store, instance, "answer", &[]).ok(), Some(42));
        }
        let again = call(&mut store, instance, "down", &[Val::I32(90)]);
        assert_eq!(again.unwrap_or_else(|error| panic!("{error}")), 90);
    }
}

#[test]
fn the_limit_of_host_recursion_can_be_lowered_for_small_native_stacks() {
    on_stack(SMALL_STACK, || {
        let engine = engine(|config| config.limits.host_recursion = 20);
        let (mut store, instance) = bouncing(&engine);
        let fine = call(&mut store, instance, "down", &[Val::I32(15)]);
        assert_eq!(fine.unwrap_or_else(|error| panic!("{error}")), 15);
        let outcome = call(&mut store, instance, "down", &[Val::I32(25)]);
        assert_eq!(
            trap_code(&outcome),
            Some(TrapCode::StackOverflow),
            "{outcome:?}"
        );
    });
}
