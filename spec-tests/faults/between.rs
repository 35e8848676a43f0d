//! Calls between instances with memories of their own, and to the host: direct, indirect and as tail calls,
//! with argument lists that grow and shrink. After each, the caller's memory is the one it had before.

use crate::support::{DISPATCHES, call, engine, trap_code, wasm};
use dynlink::{Caller, Engine, Error, Extern, Instance, Linker, Module, Store, TrapCode, Val};

/// How many parameters the functions of a matrix have.
const COUNTS: [usize; 5] = [0, 1, 2, 5, 20];

/// `(param i32 …)` with this many.
fn params(count: usize) -> String {
    format!("(param {})", "i32 ".repeat(count))
}

/// The weighted sum of the parameters and the byte at address 0 of the function's own memory.
fn weigh(count: usize) -> String {
    let mut sum = "(i32.load8_u (i32.const 0))".to_owned();
    for k in 0..count {
        sum = format!(
            "(i32.add {sum} (i32.mul (local.get {k}) (i32.const {})))",
            k + 3
        );
    }
    sum
}

fn weighed(marker: i32, arguments: &[i32]) -> i32 {
    let weights = arguments.iter().zip(3..);
    marker + weights.map(|(value, weight)| value * weight).sum::<i32>()
}

/// The other instance: marker 2, a function for each count, and one that grows its memory.
fn other() -> String {
    let mut text =
        r#"(module (memory (export "memory") 1 50) (data (i32.const 0) "\02")"#.to_owned();
    for count in COUNTS {
        text += &format!(
            "(func (export \"other{count}\") {} (result i32) {})",
            params(count),
            weigh(count)
        );
    }
    text += r#"(func (export "grow") (result i32)
        (drop (memory.grow (i32.const 1)))
        (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)) (i32.const 9))
        (memory.size)))"#;
    text
}

/// The calling instance: marker 1. For each pair of counts and each target (own function, the other
/// instance's, the host's) a caller in each form of call.
fn caller() -> String {
    let mut text = r#"(module (import "other" "grow" (func $grow (result i32)))"#.to_owned();
    for count in COUNTS {
        for target in ["other", "host"] {
            text += &format!(
                "(import \"{target}\" \"{target}{count}\" (func ${target}{count} {} (result i32)))",
                params(count)
            );
        }
    }
    text += r#"(memory (export "memory") 1 50) (data (i32.const 0) "\01")"#;
    let mut elements = String::new();
    for count in COUNTS {
        text += &format!("(type $t{count} (func {} (result i32)))", params(count));
        text += &format!(
            "(func $own{count} {} (result i32) {})",
            params(count),
            weigh(count)
        );
        elements += &format!(" $own{count} $other{count} $host{count}");
    }
    text += &format!(
        "(table {} funcref) (elem (i32.const 0) func {elements})",
        COUNTS.len() * 3
    );
    for (place, count) in COUNTS.iter().enumerate() {
        for (number, target) in ["own", "other", "host"].iter().enumerate() {
            for from in COUNTS {
                // The last parameters come first, constants stand where there are none.
                let arguments: String = (0..*count)
                    .map(|k| match from.checked_sub(k + 1) {
                        Some(own) => format!("(local.get {own})"),
                        None => format!("(i32.const {})", k + 40),
                    })
                    .collect();
                let index = place * 3 + number;
                let name = format!("{target}_{from}_{count}");
                let parameters = params(from);
                text += &format!(
                    "(func $call_{name} {parameters} (result i32) (call ${target}{count} {arguments}))
                     (func $indirect_{name} {parameters} (result i32)
                       (call_indirect (type $t{count}) {arguments} (i32.const {index})))
                     (func $tail_{name} {parameters} (result i32) (return_call ${target}{count} {arguments}))
                     (func $tail_indirect_{name} {parameters} (result i32)
                       (return_call_indirect (type $t{count}) {arguments} (i32.const {index})))"
                );
                let given: String = (0..from)
                    .map(|k| format!("(i32.const {})", k + 1))
                    .collect();
                for form in ["call", "indirect", "tail", "tail_indirect"] {
                    // The sum is 1000 times the result and the own marker, read after the call.
                    text += &format!(
                        "(func (export \"{form}_{name}\") (result i32)
                           (i32.add (i32.mul (call ${form}_{name} {given}) (i32.const 1000)) (i32.load8_u (i32.const 0))))"
                    );
                }
            }
        }
    }
    text += r#"(func (export "grow_both") (result i32)
        (drop (memory.grow (i32.const 2)))
        (drop (call $grow))
        (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)) (i32.const 7))
        (i32.add (i32.mul (call $grow) (i32.const 1000))
          (i32.load8_u (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1))))))"#;
    text
}

fn configured() -> impl Iterator<Item = Engine> {
    DISPATCHES.into_iter().flat_map(|dispatch| {
        [(false, false), (true, false), (false, true)].map(|(eager, fuel)| {
            engine(|config| {
                config.dispatch = dispatch;
                config.eager_translation = eager;
                config.fuel = fuel;
            })
        })
    })
}

fn instantiate(linker: &Linker<()>, store: &mut Store<()>, text: &str) -> Instance {
    let engine = store.engine().clone();
    let module = Module::new(&engine, &wasm(text)).unwrap_or_else(|error| panic!("{error}"));
    linker
        .instantiate(store, &module)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn store(engine: &Engine) -> Store<()> {
    let mut store = Store::new(engine, ());
    if engine.config().fuel {
        store
            .set_fuel(1 << 40)
            .unwrap_or_else(|error| panic!("{error}"));
    }
    store
}

#[test]
fn every_form_of_call_between_instances_keeps_memories_and_arguments_apart() {
    for engine in configured() {
        let mut store = store(&engine);
        let mut linker = Linker::new(&engine);
        let other = instantiate(&linker, &mut store, &other());
        let defined = linker.instance(&mut store, "other", other).map(drop);
        defined.unwrap_or_else(|error| panic!("{error}"));
        for count in COUNTS {
            let ty =
                dynlink::FuncType::new(vec![dynlink::ValType::I32; count], [dynlink::ValType::I32]);
            let defined = linker.func_new(
                "host",
                &format!("host{count}"),
                ty,
                |_, arguments, results| {
                    let arguments: Vec<i32> = arguments.iter().filter_map(Val::i32).collect();
                    results[0] = Val::I32(weighed(3, &arguments));
                    Ok(())
                },
            );
            defined.map(drop).unwrap_or_else(|error| panic!("{error}"));
        }
        let instance = instantiate(&linker, &mut store, &caller());
        let mut compared = 0;
        for (target, marker) in [("own", 1), ("other", 2), ("host", 3)] {
            for from in COUNTS {
                for count in COUNTS {
                    let arguments: Vec<i32> = (0..count)
                        .map(|k| {
                            from.checked_sub(k + 1)
                                .map_or(k as i32 + 40, |own| own as i32 + 1)
                        })
                        .collect();
                    let expected = weighed(marker, &arguments) * 1000 + 1;
                    for form in ["call", "indirect", "tail", "tail_indirect"] {
                        let name = format!("{form}_{target}_{from}_{count}");
                        let found = call(&mut store, instance, &name, &[]);
                        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
                        assert_eq!(found, expected, "{name}");
                        compared += 1;
                    }
                }
            }
        }
        assert_eq!(compared, 300);
        for (round, pages) in [(0, 3), (1, 5)] {
            let found = call(&mut store, instance, "grow_both", &[]);
            assert_eq!(found.ok(), Some(pages * 1000 + 7), "round {round}");
        }
    }
}

const PING: &str = r#"(module
  (import "other" "table" (table $table 2 funcref))
  (type $t (func (param i32 i32) (result i32)))
  (memory 1) (data (i32.const 0) "\01")
  (elem (table $table) (i32.const 0) func $ping)
  (func $ping (export "ping") (type $t)
    (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
    (return_call_indirect $table (type $t)
      (i32.sub (local.get 0) (i32.const 1))
      (i32.add (local.get 1) (i32.load8_u (i32.const 0)))
      (i32.const 1)))
  (func (export "start") (param i32) (result i32)
    (i32.add (i32.mul (call $ping (local.get 0) (i32.const 0)) (i32.const 10)) (i32.load8_u (i32.const 0)))))"#;

const PONG: &str = r#"(module
  (type $t (func (param i32 i32) (result i32)))
  (table (export "table") 2 funcref)
  (memory 1) (data (i32.const 0) "\02")
  (elem (i32.const 1) func $pong)
  (func $pong (type $t)
    (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
    (return_call_indirect (type $t)
      (i32.sub (local.get 0) (i32.const 1))
      (i32.add (local.get 1) (i32.load8_u (i32.const 0)))
      (i32.const 0))))"#;

#[test]
fn tail_calls_between_instances_do_not_pile_up() {
    for engine in configured() {
        let mut store = store(&engine);
        let mut linker = Linker::new(&engine);
        let pong = instantiate(&linker, &mut store, PONG);
        let defined = linker.instance(&mut store, "other", pong).map(drop);
        defined.unwrap_or_else(|error| panic!("{error}"));
        let ping = instantiate(&linker, &mut store, PING);
        for rounds in [0, 1, 2, 3, 1_000, 10_000_000] {
            let found = call(&mut store, ping, "start", &[Val::I32(rounds)]);
            let found = found.unwrap_or_else(|error| panic!("{rounds} rounds: {error}"));
            let sum = rounds / 2 * 3 + rounds % 2;
            assert_eq!(found, sum.wrapping_mul(10) + 1, "{rounds} rounds");
        }
    }
}

#[test]
fn a_trap_in_another_instance_gives_the_memory_back() {
    for engine in configured() {
        let mut store = store(&engine);
        let mut linker = Linker::new(&engine);
        let text = r#"(module (memory 1) (data (i32.const 0) "\02")
            (func $deep (export "deep") (param i32) (result i32)
              (if (i32.eqz (local.get 0)) (then (unreachable)))
              (i32.add (call $deep (i32.sub (local.get 0) (i32.const 1))) (i32.load8_u (i32.const 0)))))"#;
        let other = instantiate(&linker, &mut store, text);
        let defined = linker.instance(&mut store, "other", other).map(drop);
        defined.unwrap_or_else(|error| panic!("{error}"));
        let retry = |mut caller: Caller<'_, ()>, name: i32| -> Result<i32, Error> {
            // The host catches the trap of a nested run and goes on.
            let export = if name == 0 { "direct" } else { "marker" };
            let func = caller.get_export(export).and_then(Extern::into_func);
            let func = func.ok_or_else(|| Error::msg("no function"))?;
            let mut results = [Val::I32(0)];
            let outcome = func.call(&mut caller, &[], &mut results);
            Ok(match outcome {
                Ok(()) => results[0].i32().unwrap_or(-2),
                Err(_) => -1,
            })
        };
        let defined = linker.func_wrap("host", "retry", retry).map(drop);
        defined.unwrap_or_else(|error| panic!("{error}"));
        let text = r#"(module
            (import "other" "deep" (func $deep (param i32) (result i32)))
            (import "host" "retry" (func $retry (param i32) (result i32)))
            (memory 1) (data (i32.const 0) "\01")
            (func (export "direct") (result i32) (call $deep (i32.const 10)))
            (func (export "marker") (result i32) (i32.load8_u (i32.const 0)))
            (func (export "caught") (result i32)
              (i32.add (i32.mul (call $retry (i32.const 0)) (i32.const 100))
                (i32.add (i32.mul (call $retry (i32.const 1)) (i32.const 10)) (i32.load8_u (i32.const 0))))))"#;
        let instance = instantiate(&linker, &mut store, text);
        for _ in 0..20 {
            let outcome = call(&mut store, instance, "direct", &[]);
            assert_eq!(
                trap_code(&outcome),
                Some(TrapCode::Unreachable),
                "{outcome:?}"
            );
            assert_eq!(call(&mut store, instance, "marker", &[]).ok(), Some(1));
            let caught = call(&mut store, instance, "caught", &[]);
            assert_eq!(
                caught.unwrap_or_else(|error| panic!("{error}")),
                -100 + 10 + 1
            );
        }
    }
}

#[test]
fn references_to_functions_of_other_instances_run_there() {
    for engine in configured() {
        let mut store = store(&engine);
        let mut linker = Linker::new(&engine);
        let text = r#"(module (memory 1) (data (i32.const 0) "\02")
            (func $f (result i32) (i32.load8_u (i32.const 0)))
            (elem declare func $f)
            (global (export "reference") (mut funcref) (ref.func $f))
            (func (export "get") (result funcref) (ref.func $f)))"#;
        let other = instantiate(&linker, &mut store, text);
        let defined = linker.instance(&mut store, "other", other).map(drop);
        defined.unwrap_or_else(|error| panic!("{error}"));
        let text = r#"(module
            (import "other" "reference" (global $reference (mut funcref)))
            (import "other" "get" (func $get (result funcref)))
            (memory 1) (data (i32.const 0) "\01")
            (table $own 4 funcref)
            (func $mine (result i32) (i32.add (i32.load8_u (i32.const 0)) (i32.const 20)))
            (elem declare func $mine)
            (func $run (param funcref) (result i32)
              (table.set $own (i32.const 2) (local.get 0))
              (table.copy $own $own (i32.const 1) (i32.const 2) (i32.const 1))
              (call_indirect $own (result i32) (i32.const 1)))
            (func (export "f") (result i32)
              (i32.add (i32.mul (call $run (global.get $reference)) (i32.const 1000))
                (i32.add (i32.mul (call $run (call $get)) (i32.const 100)) (i32.load8_u (i32.const 0)))))
            (func (export "exchange") (result i32)
              (global.set $reference (ref.func $mine))
              (call $run (global.get $reference)))
            (func (export "null") (result i32) (call $run (ref.null func))))"#;
        let instance = instantiate(&linker, &mut store, text);
        for _ in 0..3 {
            let found = call(&mut store, instance, "f", &[]);
            assert_eq!(
                found.unwrap_or_else(|error| panic!("{error}")),
                2 * 1000 + 2 * 100 + 1
            );
            let outcome = call(&mut store, instance, "null", &[]);
            assert_eq!(
                trap_code(&outcome),
                Some(TrapCode::UninitializedElement),
                "{outcome:?}"
            );
        }
        let found = call(&mut store, instance, "exchange", &[]);
        assert_eq!(found.unwrap_or_else(|error| panic!("{error}")), 21);
    }
}
