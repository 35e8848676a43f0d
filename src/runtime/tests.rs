//! The objects of the runtime together with running guest code, in every way in which code is dispatched and
//! translated.

use super::*;
use crate::config::{Config, Dispatch, Engine};
use crate::error::{Error, Result};
use crate::module::{FuncType, MemoryType, Module, RefType, TableType, ValType};
use crate::trap::TrapCode;
use std::time::{Duration, Instant};

/// Runs a test in all four configurations.
fn everywhere(test: impl Fn(&Engine)) {
    for dispatch in [Dispatch::Auto, Dispatch::Loop] {
        for eager_translation in [false, true] {
            let mut config = Config {
                dispatch,
                eager_translation,
                ..Config::default()
            };
            config.limits.stack_bytes = 1 << 20;
            test(&Engine::new(config));
        }
    }
}

fn module(engine: &Engine, text: &str) -> Module {
    let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    Module::new(engine, &bytes).unwrap()
}

fn instance<T>(store: &mut Store<T>, text: &str, imports: &[Extern]) -> Instance {
    let module = module(store.engine(), text);
    Instance::new(store, &module, imports).unwrap()
}

fn run<P: WasmParams, R: WasmResults, T>(
    store: &mut Store<T>,
    instance: Instance,
    name: &str,
    params: P,
) -> Result<R> {
    instance
        .get_typed_func::<P, R>(&mut *store, name)?
        .call(store, params)
}

fn code(error: &Error) -> Option<TrapCode> {
    error.trap().map(crate::trap::Trap::code)
}

fn new_table<T>(store: &mut Store<T>, minimum: u64) -> Table {
    let ty = TableType {
        element: RefType::Func,
        minimum,
        maximum: None,
    };
    Table::new(store, ty, Ref::Func(None)).unwrap()
}

fn new_memory<T>(store: &mut Store<T>, minimum: u64, maximum: Option<u64>) -> Memory {
    Memory::new(store, MemoryType { minimum, maximum }).unwrap()
}

#[test]
fn a_memory_that_grows_in_a_host_call_is_seen_by_the_caller() {
    everywhere(|engine| {
        let mut store = Store::new(engine, ());
        let grow = Func::wrap(&mut store, |mut caller: Caller<'_, ()>| -> Result<()> {
            let memory = caller.get_export("memory").and_then(Extern::into_memory);
            let memory = memory.ok_or_else(|| Error::msg("no memory"))?;
            memory.grow(&mut caller, 40)?;
            memory.write(&mut caller, 40 * 65536, &[42])
        });
        let text = r#"(module (import "" "" (func $grow)) (memory (export "memory") 1)
            (func (export "run") (result i32) (local i32)
                (i32.store (i32.const 8) (i32.const 7))
                (call $grow)
                (i32.add (i32.load (i32.const 8)) (i32.load8_u (i32.const 2621440)))))"#;
        let guest = instance(&mut store, text, &[grow.into()]);
        assert_eq!(run::<_, i32, _>(&mut store, guest, "run", ()).unwrap(), 49);
    });
}

#[test]
fn a_limiter_refuses_growth_of_the_guest_or_ends_it() {
    struct Budget {
        pages: usize,
        deadly: bool,
    }
    impl ResourceLimiter for Budget {
        fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
            match desired <= self.pages * 65536 {
                false if self.deadly => Err(Error::msg("over budget")),
                fits => Ok(fits),
            }
        }
        fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
            Ok(desired <= 10)
        }
    }
    everywhere(|engine| {
        let budget = Budget {
            pages: 3,
            deadly: false,
        };
        let mut store = Store::new(engine, budget);
        store.limiter(|budget| budget);
        let text = r#"(module (memory 1) (table 1 funcref)
            (func (export "memory") (param i32) (result i32) (memory.grow (local.get 0)))
            (func (export "table") (param i32) (result i32) (table.grow (ref.null func) (local.get 0))))"#;
        let guest = instance(&mut store, text, &[]);
        let grow =
            |store: &mut Store<Budget>, name, by: i32| run::<_, i32, _>(store, guest, name, by);
        assert_eq!(grow(&mut store, "memory", 2).unwrap(), 1);
        assert_eq!(grow(&mut store, "memory", 1).unwrap(), -1);
        assert_eq!(grow(&mut store, "memory", 0).unwrap(), 3);
        assert_eq!(grow(&mut store, "memory", -1).unwrap(), -1);
        assert_eq!(grow(&mut store, "table", 9).unwrap(), 1);
        assert_eq!(grow(&mut store, "table", 1).unwrap(), -1);
        store.data_mut().deadly = true;
        let error = grow(&mut store, "memory", 1).unwrap_err().to_string();
        assert!(error.starts_with("over budget"), "{error}");
        store.data_mut().pages = 4;
        assert_eq!(grow(&mut store, "memory", 1).unwrap(), 3);
    });
}

#[test]
fn table_elements_go_to_translated_code_and_to_host_functions_alike() {
    everywhere(|engine| {
        let mut store = Store::new(engine, ());
        let text = r#"(module (memory 1) (table (export "t") 8 funcref) (type $f (func (param i32) (result i32)))
            (elem (i32.const 0) $add $add $add $add $add $add)
            (func $add (export "add") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
            (func (export "run") (param i32 i32) (result i32)
                (call_indirect (type $f) (local.get 1) (local.get 0))))"#;
        let guest = instance(&mut store, text, &[]);
        let table = guest.get_table(&mut store, "t").unwrap();
        let call =
            |store: &mut Store<()>, index: u32| run::<_, i32, _>(store, guest, "run", (index, 10));
        // Element 5 is beyond the places that the function notes, so its entry stays the stub.
        for index in [5, 0, 5, 3] {
            assert_eq!(call(&mut store, index).unwrap(), 11);
        }
        let double = Func::wrap(&mut store, |n: i32| n * 2);
        table.set(&mut store, 0, double.into()).unwrap();
        assert_eq!(call(&mut store, 0).unwrap(), 20);
        let other = Func::wrap(&mut store, |n: i64| n);
        table.set(&mut store, 1, other.into()).unwrap();
        let error = call(&mut store, 1).unwrap_err();
        assert_eq!(code(&error), Some(TrapCode::IndirectCallTypeMismatch));
        let error = call(&mut store, 6).unwrap_err();
        assert_eq!(code(&error), Some(TrapCode::UninitializedElement));
        let error = call(&mut store, 8).unwrap_err();
        assert_eq!(code(&error), Some(TrapCode::UndefinedElement));
        assert_eq!(table.grow(&mut store, 100, double.into()).unwrap(), 8);
        assert_eq!(call(&mut store, 107).unwrap(), 20);
        assert_eq!(call(&mut store, 2).unwrap(), 11);
    });
}

/// A module with a memory of its own whose functions read and write that memory.
const CELL: &str = r#"(module (import "" "t" (table 4 funcref)) (import "" "at" (global $at i32))
    (memory (export "memory") 1) (type $get (func (result i32)))
    (elem (global.get $at) $get)
    (func $get (export "get") (result i32) (i32.load (i32.const 0)))
    (func (export "set") (param i32) (i32.store (i32.const 0) (local.get 0)))
    (func (export "through") (param i32) (result i32)
        (i32.add
            (i32.mul (call_indirect (type $get) (local.get 0)) (i32.const 1000))
            (i32.load (i32.const 0)))))"#;

#[test]
fn functions_in_a_shared_table_run_with_their_own_memory() {
    everywhere(|engine| {
        let mut store = Store::new(engine, ());
        let table = new_table(&mut store, 4);
        let cell = |store: &mut Store<()>, at: i32| {
            let ty = crate::module::GlobalType {
                value: ValType::I32,
                mutable: false,
            };
            let at = Global::new(&mut *store, ty, Val::I32(at)).unwrap();
            instance(store, CELL, &[table.into(), at.into()])
        };
        let [one, two] = [cell(&mut store, 0), cell(&mut store, 1)];
        run::<_, (), _>(&mut store, one, "set", 11).unwrap();
        run::<_, (), _>(&mut store, two, "set", 22).unwrap();
        for _ in 0..2 {
            for (from, index, expected) in [
                (one, 0, 11_011),
                (one, 1, 22_011),
                (two, 0, 11_022),
                (two, 1, 22_022),
            ] {
                let found: i32 = run(&mut store, from, "through", index).unwrap();
                assert_eq!(found, expected);
            }
        }
        // An instance without a memory calls both.
        let caller = r#"(module (import "" "t" (table 4 funcref)) (type $get (func (result i32)))
            (func (export "call") (param i32) (result i32) (call_indirect (type $get) (local.get 0))))"#;
        let none = instance(&mut store, caller, &[table.into()]);
        assert_eq!(run::<_, i32, _>(&mut store, none, "call", 0).unwrap(), 11);
        assert_eq!(run::<_, i32, _>(&mut store, none, "call", 1).unwrap(), 22);
    });
}

#[test]
fn a_table_may_get_its_home_after_code_that_uses_it_was_translated() {
    everywhere(|engine| {
        let mut store = Store::new(engine, ());
        let table = new_table(&mut store, 4);
        let caller = r#"(module (import "" "t" (table 4 funcref)) (type $get (func (result i32)))
            (func (export "call") (param i32) (result i32) (call_indirect (type $get) (local.get 0))))"#;
        let none = instance(&mut store, caller, &[table.into()]);
        let seven = Func::wrap(&mut store, || 7);
        table.set(&mut store, 3, seven.into()).unwrap();
        assert_eq!(run::<_, i32, _>(&mut store, none, "call", 3).unwrap(), 7);
        let ty = crate::module::GlobalType {
            value: ValType::I32,
            mutable: false,
        };
        let at = Global::new(&mut store, ty, Val::I32(2)).unwrap();
        let cell = instance(&mut store, CELL, &[table.into(), at.into()]);
        run::<_, (), _>(&mut store, cell, "set", 5).unwrap();
        assert_eq!(run::<_, i32, _>(&mut store, none, "call", 2).unwrap(), 5);
        assert_eq!(run::<_, i32, _>(&mut store, none, "call", 3).unwrap(), 7);
    });
}

#[test]
fn guests_resolve_deferred_functions_at_their_first_call() {
    everywhere(|engine| {
        let mut store = Store::new(engine, 0);
        let ty = FuncType::new([ValType::I32], [ValType::I32]);
        let library = r#"(module (func (export "f") (param i32) (result i32)
            (i32.mul (local.get 0) (i32.const 3))))"#;
        let library = module(engine, library);
        let resolve = move |mut store: StoreContextMut<'_, i32>| {
            *store.data_mut() += 1;
            if *store.data() == 1 {
                return Err(Error::msg("symbol f is not defined"));
            }
            let instance = Instance::new(&mut store, &library, &[])?;
            let found = instance.get_func(&mut store, "f");
            found.ok_or_else(|| Error::msg("no f"))
        };
        let func = Func::deferred(&mut store, ty, resolve);
        let table = new_table(&mut store, 1);
        table.set(&mut store, 0, func.into()).unwrap();
        let text = r#"(module (import "" "f" (func $f (param i32) (result i32)))
            (import "" "t" (table 1 funcref)) (type $f (func (param i32) (result i32)))
            (func (export "run") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))
            (func (export "indirect") (param i32) (result i32)
                (call_indirect (type $f) (local.get 0) (i32.const 0))))"#;
        let guest = instance(&mut store, text, &[func.into(), table.into()]);
        let error = run::<_, i32, _>(&mut store, guest, "run", 2).unwrap_err();
        assert!(
            error.to_string().starts_with("symbol f is not defined"),
            "{error}"
        );
        for _ in 0..2 {
            assert_eq!(run::<_, i32, _>(&mut store, guest, "run", 2).unwrap(), 7);
            assert_eq!(
                run::<_, i32, _>(&mut store, guest, "indirect", 2).unwrap(),
                6
            );
        }
        assert_eq!(*store.data(), 2);
        let target = func.resolved(&store);
        assert_ne!(target, func);
        assert!(matches!(table.get(&mut store, 0), Some(Ref::Func(Some(f))) if f == target));
    });
}

#[test]
fn trampolines_drop_surplus_arguments_and_nest_deeply() {
    everywhere(|engine| {
        let mut store = Store::new(engine, ());
        let table = new_table(&mut store, 4);
        let ty = FuncType::new([ValType::I32; 4], [ValType::I32]);
        let middle = Func::trampoline(&mut store, ty.clone(), table, 1);
        let text = r#"(module
            (import "" "t" (table 4 funcref)) (import "" "call" (func $call (param i32 i32 i32 i32) (result i32)))
            (memory 1) (elem (i32.const 0) $none $one $three $recurse)
            (func $none (result i32) (i32.const 5))
            (func $one (param i32) (result i32) (local.get 0))
            (func $three (param i32 i32 i32) (result i32)
                (i32.add (i32.mul (local.get 0) (i32.const 100))
                    (i32.add (i32.mul (local.get 1) (i32.const 10)) (local.get 2))))
            (func $recurse (param i32 i32) (result i32)
                (if (result i32) (i32.eqz (local.get 0))
                    (then (local.get 1))
                    (else (call $call (i32.sub (local.get 0) (i32.const 1)) (i32.const 3)
                        (i32.add (local.get 1) (i32.const 2)) (i32.const 99)))))
            (func (export "run") (param i32 i32 i32 i32) (result i32)
                (call $call (local.get 0) (local.get 1) (local.get 2) (local.get 3))))"#;
        let guest = instance(&mut store, text, &[table.into(), middle.into()]);
        let call = |store: &mut Store<()>, params: (i32, i32, i32, i32)| {
            run::<_, i32, _>(store, guest, "run", params)
        };
        assert_eq!(call(&mut store, (1, 0, 2, 3)).unwrap(), 5);
        assert_eq!(call(&mut store, (1, 1, 2, 3)).unwrap(), 1);
        assert_eq!(call(&mut store, (1, 2, 2, 3)).unwrap(), 123);
        // Deeper than the limit of nested host calls: trampolines use no native stack.
        assert_eq!(call(&mut store, (2000, 3, 0, 0)).unwrap(), 4000);
        let error = call(&mut store, (1, 4, 2, 3)).unwrap_err();
        assert_eq!(code(&error), Some(TrapCode::UndefinedElement));
        let wrong = Func::wrap(&mut store, |_: i64| 0);
        table.set(&mut store, 0, wrong.into()).unwrap();
        let error = call(&mut store, (1, 0, 2, 3)).unwrap_err();
        assert_eq!(code(&error), Some(TrapCode::IndirectCallTypeMismatch));
        let host = Func::wrap(&mut store, |a: i32, b: i32| a * 7 + b);
        table.set(&mut store, 0, host.into()).unwrap();
        assert_eq!(call(&mut store, (3, 0, 2, 9)).unwrap(), 23);
    });
}

#[test]
fn a_released_library_leaves_a_store_that_works() {
    everywhere(|engine| {
        let mut store = Store::new(engine, ());
        let main = r#"(module (memory (export "memory") 1) (table (export "t") 4 funcref)
            (elem (i32.const 0) $f) (func $f (result i32) (i32.const 1))
            (func (export "call") (param i32) (result i32) (call_indirect (result i32) (local.get 0))))"#;
        let main = instance(&mut store, main, &[]);
        let memory = main.get_memory(&mut store, "memory").unwrap();
        let table = main.get_table(&mut store, "t").unwrap();
        let side = r#"(module (import "" "m" (memory 1)) (import "" "t" (table 4 funcref))
            (elem (i32.const 1) $g) (func $g (result i32) (i32.load (i32.const 0)))
            (data (i32.const 0) "\02"))"#;
        let side = module(engine, side);
        for _ in 0..3 {
            let mark = store.as_context_mut().mark();
            Instance::new(&mut store, &side, &[memory.into(), table.into()]).unwrap();
            assert_eq!(run::<_, i32, _>(&mut store, main, "call", 1).unwrap(), 2);
            store.as_context_mut().release_since(mark);
            let error = run::<_, i32, _>(&mut store, main, "call", 1).unwrap_err();
            assert_eq!(code(&error), Some(TrapCode::UninitializedElement));
            assert_eq!(run::<_, i32, _>(&mut store, main, "call", 0).unwrap(), 1);
        }
    });
}

#[test]
fn functions_travel_between_guest_host_and_tables() {
    everywhere(|engine| {
        let mut store = Store::new(engine, None);
        let keep = Func::wrap(
            &mut store,
            |mut caller: Caller<'_, Option<Func>>, func: Option<Func>| {
                caller.data_mut().replace(func?);
                func
            },
        );
        let text = r#"(module (import "" "" (func $keep (param funcref) (result funcref)))
            (table $t 1 funcref) (elem declare func $f)
            (func $f (export "f") (param i32) (result i32) (i32.sub (i32.const 0) (local.get 0)))
            (func (export "run") (param i32) (result i32)
                (table.set $t (i32.const 0) (call $keep (ref.func $f)))
                (call_indirect $t (param i32) (result i32) (local.get 0) (i32.const 0)))
            (func (export "null") (result i32) (ref.is_null (call $keep (ref.null func)))))"#;
        let guest = instance(&mut store, text, &[keep.into()]);
        assert_eq!(run::<_, i32, _>(&mut store, guest, "null", ()).unwrap(), 1);
        assert_eq!(run::<_, i32, _>(&mut store, guest, "run", 6).unwrap(), -6);
        let kept = store.data().unwrap();
        assert_eq!(guest.get_func(&mut store, "f"), Some(kept));
        let kept = kept.typed::<i32, i32>(&store).unwrap();
        assert_eq!(kept.call(&mut store, 8).unwrap(), -8);
    });
}

#[test]
fn values_of_all_types_go_through_guest_and_host_in_tuples() {
    everywhere(|engine| {
        let mut store = Store::new(engine, ());
        let turn = |a: i32, b: i64, c: f32, d: f64| (d, c, b, a);
        let turn = Func::wrap(&mut store, turn);
        let text = r#"(module (import "" "" (func $turn (param i32 i64 f32 f64) (result f64 f32 i64 i32)))
            (func (export "run") (param i32 i64 f32 f64) (result f64 f32 i64 i32)
                (call $turn (local.get 0) (local.get 1) (local.get 2) (local.get 3)))
            (func (export "low") (param i64) (result i32) (i32.wrap_i64 (local.get 0)))
            (func (export "swap") (param f32 i32) (result i32 f32) (local.get 1) (local.get 0)))"#;
        let guest = instance(&mut store, text, &[turn.into()]);
        let all: (f64, f32, i64, i32) =
            run(&mut store, guest, "run", (-1, i64::MIN, 0.5_f32, -0.25)).unwrap();
        assert_eq!(all, (-0.25, 0.5, i64::MIN, -1));
        let low: u32 = run(&mut store, guest, "low", 0x1234_5678_9abc_def0_i64).unwrap();
        assert_eq!(low, 0x9abc_def0);
        let swapped: (i32, f32) = run(&mut store, guest, "swap", (1.5_f32, -2)).unwrap();
        assert_eq!(swapped, (-2, 1.5));
        let func = guest.get_func(&mut store, "low").unwrap();
        let mut result = [Val::I32(0)];
        func.call(&mut store, &[Val::I64(-1)], &mut result).unwrap();
        assert_eq!(result[0].i32(), Some(-1));
    });
}

#[test]
fn a_host_function_with_many_parameters_is_called_by_a_guest() {
    everywhere(|engine| {
        let mut store = Store::new(engine, ());
        let ty = FuncType::new([ValType::I32; 26], [ValType::I64; 3]);
        let func = Func::new(&mut store, ty, |_, params, results| {
            let sum = params
                .iter()
                .filter_map(Val::i32)
                .map(i64::from)
                .sum::<i64>();
            (results[0], results[1]) = (Val::I64(sum), Val::I64(-1));
            Ok(())
        });
        let text = format!(
            r#"(module (import "" "" (func $f (param {}) (result i64 i64 i64)))
                (func (export "run") (result i64 i64 i64) (call $f {})))"#,
            "i32 ".repeat(26),
            (1..=26)
                .map(|n| format!("(i32.const {n})"))
                .collect::<String>()
        );
        let guest = instance(&mut store, &text, &[func.into()]);
        let sums: (i64, i64, i64) = run(&mut store, guest, "run", ()).unwrap();
        assert_eq!(sums, (351, -1, 0));
    });
}

#[test]
fn errors_and_panics_of_host_functions_end_the_guest_and_leave_the_store_usable() {
    everywhere(|engine| {
        let mut store = Store::new(engine, ());
        let fail = Func::wrap(&mut store, |how: i32| -> Result<i32> {
            match how {
                0 => Err(Error::msg("the host's own words")),
                1 => panic!("a bug of the host"),
                2 => Err(Error::exit(7)),
                n => Ok(n),
            }
        });
        let text = r#"(module (import "" "" (func $fail (param i32) (result i32))) (memory (export "m") 1)
            (func (export "run") (param i32) (result i32)
                (i32.store (i32.const 0) (i32.const 1))
                (i32.add (call $fail (local.get 0)) (i32.load (i32.const 0)))))"#;
        let guest = instance(&mut store, text, &[fail.into()]);
        let mut call = |how: i32| run::<_, i32, _>(&mut store, guest, "run", how);
        let error = call(0).unwrap_err().to_string();
        assert!(error.contains("the host's own words"), "{error}");
        let error = call(1).unwrap_err().to_string();
        assert!(
            error.contains("host function panicked: a bug of the host"),
            "{error}"
        );
        assert_eq!(call(2).unwrap_err().exit_status(), Some(7));
        assert_eq!(call(41).unwrap(), 42);
    });
}

#[test]
fn recursion_through_the_host_is_bounded_and_the_caller_is_right_at_every_depth() {
    everywhere(|engine| {
        let mut store = Store::new(engine, Vec::new());
        let again = Func::wrap(
            &mut store,
            |mut caller: Caller<'_, Vec<Instance>>, n: i32| {
                let Some(instance) = caller.instance() else {
                    return Err(Error::msg("no caller"));
                };
                caller.data_mut().push(instance);
                let run = instance.get_typed_func::<i32, i32>(&mut caller, "run")?;
                let result = run.call(&mut caller, n)?;
                match caller.instance() == Some(instance) {
                    true => Ok(result + 1),
                    false => Err(Error::msg("another caller")),
                }
            },
        );
        let text = r#"(module (import "" "" (func $again (param i32) (result i32)))
            (func (export "run") (param i32) (result i32)
                (if (result i32) (local.get 0)
                    (then (call $again (i32.sub (local.get 0) (i32.const 1))))
                    (else (i32.const 0)))))"#;
        let guest = instance(&mut store, text, &[again.into()]);
        assert_eq!(run::<_, i32, _>(&mut store, guest, "run", 50).unwrap(), 50);
        assert!(store.data().iter().all(|caller| *caller == guest));
        let error = run::<_, i32, _>(&mut store, guest, "run", 1000).unwrap_err();
        assert_eq!(code(&error), Some(TrapCode::StackOverflow), "{error}");
        assert_eq!(run::<_, i32, _>(&mut store, guest, "run", 50).unwrap(), 50);
        assert!(
            again
                .call(&mut store, &[Val::I32(1)], &mut [Val::I32(0)])
                .is_err()
        );
    });
}

#[test]
fn a_mutable_global_is_one_cell_for_everybody() {
    everywhere(|engine| {
        let mut store = Store::new(engine, ());
        let ty = crate::module::GlobalType {
            value: ValType::I64,
            mutable: true,
        };
        let global = Global::new(&mut store, ty, Val::I64(1)).unwrap();
        let text = r#"(module (import "" "" (global $g (mut i64)))
            (func (export "add") (param i64) (result i64)
                (global.set $g (i64.add (global.get $g) (local.get 0))) (global.get $g)))"#;
        let one = instance(&mut store, text, &[global.into()]);
        let two = instance(&mut store, text, &[global.into()]);
        assert_eq!(
            run::<_, i64, _>(&mut store, one, "add", 10_i64).unwrap(),
            11
        );
        assert_eq!(
            run::<_, i64, _>(&mut store, two, "add", 100_i64).unwrap(),
            111
        );
        global.set(&mut store, Val::I64(-5)).unwrap();
        assert_eq!(run::<_, i64, _>(&mut store, one, "add", 0_i64).unwrap(), -5);
        assert_eq!(global.get(&mut store).i64(), Some(-5));
    });
}

const ENDLESS: &str = r#"(module (func (export "run") (loop br 0)))"#;

#[test]
fn fuel_runs_out_and_can_be_refilled() {
    let config = Config {
        fuel: true,
        ..Config::default()
    };
    let mut store = Store::new(&Engine::new(config), ());
    let guest = instance(&mut store, ENDLESS, &[]);
    for _ in 0..2 {
        store.set_fuel(10_000).unwrap();
        let error = run::<_, (), _>(&mut store, guest, "run", ()).unwrap_err();
        assert_eq!(code(&error), Some(TrapCode::OutOfFuel));
        assert_eq!(store.get_fuel().unwrap(), 0);
    }
}

#[test]
fn deadlines_and_interrupts_end_an_endless_loop_soon() {
    let config = Config {
        interruption: true,
        ..Config::default()
    };
    let mut store = Store::new(&Engine::new(config), ());
    let guest = instance(&mut store, ENDLESS, &[]);
    let before = Instant::now();
    store.set_deadline(Some(Duration::from_millis(20))).unwrap();
    let error = run::<_, (), _>(&mut store, guest, "run", ()).unwrap_err();
    assert_eq!(code(&error), Some(TrapCode::Interrupted));
    assert!(before.elapsed() >= Duration::from_millis(20));
    store.set_deadline(None).unwrap();

    let handle = store.interrupt_handle().unwrap();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        handle.interrupt();
    });
    let error = run::<_, (), _>(&mut store, guest, "run", ()).unwrap_err();
    assert_eq!(code(&error), Some(TrapCode::Interrupted));
    thread.join().unwrap();
}

#[test]
fn a_store_runs_on_one_thread_after_another() {
    everywhere(|engine| {
        let mut store = Store::new(engine, 0);
        let text = r#"(module (memory 1) (func (export "run") (result i32)
            (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
            (i32.load (i32.const 0))))"#;
        let guest = instance(&mut store, text, &[]);
        for expected in 1..4 {
            let thread = std::thread::spawn(move || {
                let count: i32 = run(&mut store, guest, "run", ()).unwrap();
                (store, count)
            });
            let count;
            (store, count) = thread.join().unwrap();
            assert_eq!(count, expected);
        }
    });
}

#[test]
fn unknown_imports_as_traps_run_until_they_are_called() {
    everywhere(|engine| {
        let mut linker = Linker::new(engine);
        let text = r#"(module (import "env" "missing" (func $missing)) (import "env" "known" (func $known (result i32)))
            (func (export "good") (result i32) (call $known)) (func (export "bad") (call $missing)))"#;
        let module = module(engine, text);
        linker.func_wrap("env", "known", || 3).unwrap();
        linker.define_unknown_imports_as_traps(&module).unwrap();
        let mut store = Store::new(engine, ());
        let guest = linker.instantiate(&mut store, &module).unwrap();
        assert_eq!(run::<_, i32, _>(&mut store, guest, "good", ()).unwrap(), 3);
        let error = run::<_, (), _>(&mut store, guest, "bad", ()).unwrap_err();
        assert_eq!(code(&error), Some(TrapCode::UnresolvedFunction));
        assert!(error.to_string().contains("`env::missing`"), "{error}");
    });
}

#[test]
fn instances_are_linked_by_name_through_a_linker() {
    everywhere(|engine| {
        let mut linker = Linker::new(engine);
        let mut store = Store::new(engine, ());
        let library = r#"(module (memory (export "memory") 1) (global (export "base") i32 (i32.const 64))
            (func (export "get") (param i32) (result i32) (i32.load (local.get 0))))"#;
        let library = instance(&mut store, library, &[]);
        linker.instance(&mut store, "library", library).unwrap();
        let text = r#"(module (import "library" "get" (func $get (param i32) (result i32)))
            (import "library" "base" (global $base i32)) (import "library" "memory" (memory 1))
            (data (global.get $base) "\07")
            (func (export "run") (result i32)
                (i32.store8 (i32.const 1) (i32.const 1))
                (i32.add (call $get (global.get $base)) (call $get (i32.const 0)))))"#;
        let guest = linker
            .instantiate(&mut store, &module(engine, text))
            .unwrap();
        assert_eq!(run::<_, i32, _>(&mut store, guest, "run", ()).unwrap(), 263);
    });
}

#[test]
fn a_failing_start_function_reports_its_trap_and_effects_stay() {
    everywhere(|engine| {
        let mut store = Store::new(engine, ());
        let memory = new_memory(&mut store, 1, None);
        let table = new_table(&mut store, 1);
        let text = r#"(module (import "" "" (memory 1)) (import "" "" (table 1 funcref))
            (elem declare func $f) (func $f (export "f") (result i32) (i32.const 9))
            (func $start (i32.store8 (i32.const 0) (i32.const 1))
                (table.set (i32.const 0) (ref.func $f)) unreachable)
            (start $start))"#;
        let module = module(engine, text);
        let error = Instance::new(&mut store, &module, &[memory.into(), table.into()]).unwrap_err();
        assert_eq!(code(&error), Some(TrapCode::Unreachable));
        assert_eq!(memory.data(&store)[0], 1);
        let Some(Ref::Func(Some(func))) = table.get(&mut store, 0) else {
            panic!("the start function put a function into the table")
        };
        let func = func.typed::<(), i32>(&store).unwrap();
        assert_eq!(func.call(&mut store, ()).unwrap(), 9);
    });
}

#[test]
fn a_load_that_became_part_of_a_call_traps_at_its_own_place_and_the_call_at_its() {
    everywhere(|engine| {
        let mut store = Store::new(engine, ());
        let text = |address: &str| {
            format!(
                r#"(module
                    (type $unary (func (param i32) (result i32)))
                    (memory 1) (data (i32.const 4) "\01\00\00\00\07\00\00\00\08\00\00\00")
                    (table 3 funcref) (elem (i32.const 0) $unreachable)
                    (func $unreachable (param i32) (result i32) unreachable)
                    (func (export "go") (param i32 i32) (result i32)
                      (call_indirect (type $unary) (local.get 1) (i32.load {address}))))"#
            )
        };
        // The index is loaded, or loaded from where a pointer points. A null pointer leads to index 0.
        for (address, cases) in [
            (
                "(local.get 0)",
                [
                    (0, "", TrapCode::Unreachable),
                    (4, "call_indirect", TrapCode::UninitializedElement),
                    (8, "call_indirect", TrapCode::UndefinedElement),
                    (65_533, "i32.load", TrapCode::MemoryOutOfBounds),
                ],
            ),
            (
                "offset=65528 (i32.load (local.get 0))",
                [
                    (0, "", TrapCode::Unreachable),
                    (4, "", TrapCode::Unreachable),
                    (8, "i32.load", TrapCode::MemoryOutOfBounds),
                    (65_533, "i32.load", TrapCode::MemoryOutOfBounds),
                ],
            ),
        ] {
            let module = module(engine, &text(address));
            assert!(module.ir(1).unwrap().contains("CallThrough.l") || address.len() > 20);
            assert!(module.ir(1).unwrap().contains("CallThrough.v") || address.len() < 20);
            let operators = module.disassemble(1).unwrap();
            let place_of = |name: &str| {
                let operator = operators.iter().find(|found| found.text.starts_with(name));
                usize::try_from(operator.unwrap().offset).unwrap()
            };
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            for (at, place, expected) in cases {
                let error = run::<_, i32, _>(&mut store, instance, "go", (at, 5)).unwrap_err();
                assert_eq!(code(&error), Some(expected), "{address} {at}");
                let frames = &error.trap().unwrap().backtrace().frames;
                let (frame, place) = match place {
                    // The function that was called stopped: its caller waits at the call.
                    "" => (1, place_of("call_indirect")),
                    place => (0, place_of(place)),
                };
                assert_eq!(frames[frame].offset, Some(place), "{address} {at}: {error}");
            }
        }
    });
}
