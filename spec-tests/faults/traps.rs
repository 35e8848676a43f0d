//! What a trap tells: its code, the names of the frames, the host's own error; and that the process goes on.

use crate::support::{DISPATCHES, call, engine, instance, trap_code, wasm};
use dynlink::{
    Config, Engine, Error, Func, FuncType, Instance, Linker, Module, Store, Trap, TrapCode, Val,
};

const TRAPPING: &str = r#"(module $lib
  (type $i (func (result i32)))
  (memory 1)
  (table 3 funcref) (elem (i32.const 0) $answer) (elem (i32.const 1) $nothing)
  (func $nothing)
  (func $answer (export "answer") (result i32) (i32.const 42))
  (func $unreachable (export "unreachable") (result i32) unreachable)
  (func $middle (result i32) (i32.add (i32.const 1) (call $unreachable)))
  (func $outer (export "nested") (result i32) (i32.add (i32.const 1) (call $middle)))
  (func (export "indirect") (result i32) (call_indirect (type $i) (i32.const 0)) (drop)
    (call_indirect (type $i) (i32.const 2)))
  (func (export "mismatch") (result i32) (call_indirect (type $i) (i32.const 1)))
  (func (export "beyond") (result i32) (call_indirect (type $i) (i32.const 3)))
  (func (export "far-beyond") (result i32) (call_indirect (type $i) (i32.const -1)))
  (func (export "load") (result i32) (i32.load (i32.const 65533)))
  (func (export "load-offset") (result i32) (i32.load offset=4294967295 (i32.const -1)))
  (func (export "store") (result i32) (i64.store (i32.const 65529) (i64.const 1)) (i32.const 0))
  (func (export "divide") (result i32) (i32.div_s (i32.const 1) (i32.const 0)))
  (func (export "overflow") (result i32) (i32.div_s (i32.const 0x80000000) (i32.const -1)))
  (func (export "convert") (result i32) (i32.trunc_f64_s (f64.const nan)))
  (func (export "convert-overflow") (result i32) (i32.trunc_f64_u (f64.const -1)))
  (func (export "table-get") (result i32) (ref.is_null (table.get (i32.const 3))))
  (func (export "fill") (result i32) (memory.fill (i32.const 65000) (i32.const 0) (i32.const 1000)) (i32.const 0)))"#;

#[test]
fn every_trap_has_its_code_and_the_instance_goes_on() {
    let cases = [
        ("unreachable", TrapCode::Unreachable),
        ("nested", TrapCode::Unreachable),
        ("indirect", TrapCode::UninitializedElement),
        ("mismatch", TrapCode::IndirectCallTypeMismatch),
        ("beyond", TrapCode::UndefinedElement),
        ("far-beyond", TrapCode::UndefinedElement),
        ("load", TrapCode::MemoryOutOfBounds),
        ("load-offset", TrapCode::MemoryOutOfBounds),
        ("store", TrapCode::MemoryOutOfBounds),
        ("divide", TrapCode::IntegerDivideByZero),
        ("overflow", TrapCode::IntegerOverflow),
        ("convert", TrapCode::BadConversionToInteger),
        ("convert-overflow", TrapCode::IntegerOverflow),
        ("table-get", TrapCode::TableOutOfBounds),
        ("fill", TrapCode::MemoryOutOfBounds),
    ];
    for dispatch in DISPATCHES {
        let engine = engine(|config| config.dispatch = dispatch);
        let (mut store, instance) = instance(&engine, TRAPPING);
        for _ in 0..50 {
            for (name, code) in cases {
                let outcome = call(&mut store, instance, name, &[]);
                assert_eq!(trap_code(&outcome), Some(code), "{name}: {outcome:?}");
            }
            assert_eq!(call(&mut store, instance, "answer", &[]).ok(), Some(42));
        }
    }
}

fn trap_of(error: &Error) -> &Trap {
    error
        .trap()
        .unwrap_or_else(|| panic!("not a trap: {error}"))
}

#[test]
fn a_backtrace_names_library_and_functions() {
    for dispatch in DISPATCHES {
        let engine = engine(|config| config.dispatch = dispatch);
        let module = Module::with_name(&engine, wasm(TRAPPING), "libtrap.so");
        let module = module.unwrap_or_else(|error| panic!("{error}"));
        let mut store = Store::new(&engine, ());
        let instance =
            Instance::new(&mut store, &module, &[]).unwrap_or_else(|error| panic!("{error}"));
        let error = call(&mut store, instance, "nested", &[]).err();
        let error = error.unwrap_or_else(|| panic!("no trap"));
        let frames = &trap_of(&error).backtrace().frames;
        let names: Vec<Option<&str>> = frames
            .iter()
            .map(|frame| frame.function.as_deref())
            .collect();
        assert_eq!(names, [Some("unreachable"), Some("middle"), Some("outer")]);
        assert!(
            frames
                .iter()
                .all(|frame| frame.module.as_deref() == Some("libtrap.so")),
            "{frames:?}"
        );
        assert!(
            frames.iter().all(|frame| frame.offset.is_some()),
            "{frames:?}"
        );
        let text = error.to_string();
        assert!(text.contains("libtrap.so!middle"), "{text}");
    }
}

#[test]
fn a_backtrace_of_a_deep_recursion_is_short() {
    let text =
        r#"(module (func $deep (export "f") (result i32) (i32.add (call $deep) (i32.const 1))))"#;
    let (mut store, instance) = instance(&Engine::default(), text);
    let error = call(&mut store, instance, "f", &[])
        .err()
        .unwrap_or_else(|| panic!("no trap"));
    let trace = trap_of(&error).backtrace();
    assert!(
        !trace.frames.is_empty() && trace.frames.len() < 1000,
        "{} frames",
        trace.frames.len()
    );
    assert!(trace.omitted > 10_000, "{} frames omitted", trace.omitted);
    assert!(error.to_string().len() < 20_000);
}

#[test]
fn a_host_error_comes_back_as_it_was() {
    for dispatch in DISPATCHES {
        let engine = engine(|config| config.dispatch = dispatch);
        let text = r#"(module
          (import "host" "fail" (func $fail (param i32) (result i32)))
          (func $inner (param i32) (result i32) (i32.add (call $fail (local.get 0)) (i32.const 1)))
          (func (export "f") (param i32) (result i32) (i32.add (call $inner (local.get 0)) (i32.const 1)))
          (func (export "tail") (param i32) (result i32) (return_call $fail (local.get 0))))"#;
        let mut linker = Linker::new(&engine);
        let fail = |kind: i32| -> Result<i32, Error> {
            match kind {
                0 => Ok(40),
                1 => Err(Error::msg("boom")),
                2 => Err(Error::exit(3)),
                3 => Err(Error::host(std::io::Error::other("disk on fire"))),
                _ => Err(Trap::new(TrapCode::Unreachable)
                    .with_detail("by the host")
                    .into()),
            }
        };
        linker
            .func_wrap("host", "fail", fail)
            .map(drop)
            .unwrap_or_else(|error| panic!("{error}"));
        let module = Module::new(&engine, &wasm(text)).unwrap_or_else(|error| panic!("{error}"));
        let mut store = Store::new(&engine, ());
        let instance = linker
            .instantiate(&mut store, &module)
            .unwrap_or_else(|error| panic!("{error}"));
        for (name, fine) in [("f", 42), ("tail", 40)] {
            for _ in 0..3 {
                let mut fail = |kind: i32| call(&mut store, instance, name, &[Val::I32(kind)]);
                assert_eq!(
                    fail(0).unwrap_or_else(|error| panic!("{name}: {error}")),
                    fine
                );
                let boom = fail(1)
                    .err()
                    .map(|error| error.to_string())
                    .unwrap_or_default();
                assert!(boom.contains("boom"), "{boom}");
                let exit = fail(2).err().unwrap_or_else(|| panic!("no error"));
                assert_eq!(exit.exit_status(), Some(3), "{exit}");
                let disk = fail(3)
                    .err()
                    .map(|error| error.to_string())
                    .unwrap_or_default();
                assert!(disk.contains("disk on fire"), "{disk}");
                let trap = fail(4);
                assert_eq!(trap_code(&trap), Some(TrapCode::Unreachable), "{trap:?}");
            }
        }
    }
}

#[test]
fn a_host_function_that_panics_does_not_take_the_store_along() {
    // A panic of the embedder's own code passes through the interpreter to the embedder.
    let engine = Engine::new(Config::default());
    let mut store = Store::new(&engine, ());
    let ty = FuncType::new([], []);
    let host = Func::new(&mut store, ty, |_, _, _| panic!("in the host"));
    let text = r#"(module (import "host" "f" (func $f)) (func (export "f") (result i32) (call $f) (i32.const 1))
        (func (export "answer") (result i32) (i32.const 42)))"#;
    let module = Module::new(&engine, &wasm(text)).unwrap_or_else(|error| panic!("{error}"));
    let instance = Instance::new(&mut store, &module, &[host.into()]);
    let instance = instance.unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..3 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            call(&mut store, instance, "f", &[])
        }));
        // Passed on as a panic, or turned into an error: never lost, never an abort.
        assert!(outcome.is_err() || outcome.is_ok_and(|outcome| outcome.is_err()));
        assert_eq!(call(&mut store, instance, "answer", &[]).ok(), Some(42));
    }
}
