//! Arguments and handles that do not fit: errors, never undefined behaviour.

use crate::support::{call, instance, wasm};
use dynlink::{
    Engine, Error, ErrorKind, Extern, Func, FuncType, Global, GlobalType, Instance, Linker, Module,
    Store, Val, ValType,
};

const SMALL: &str = r#"(module
  (global (export "fixed") i32 (i32.const 1))
  (global (export "open") (mut i64) (i64.const 1))
  (memory (export "memory") 1)
  (table (export "table") 2 funcref)
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "pair") (param i64) (result i64 i32) (local.get 0) (i32.const 2)))"#;

#[test]
fn wrong_arguments_are_errors() {
    let (mut store, instance) = instance(&Engine::default(), SMALL);
    let add = instance
        .get_func(&mut store, "add")
        .unwrap_or_else(|| panic!("no add"));
    let one = Val::I32(1);
    let bad: [&[Val]; 6] = [
        &[],
        &[one],
        &[one, one, one],
        &[one, Val::I64(1)],
        &[Val::F32(0), one],
        &[one, Val::FuncRef(None)],
    ];
    for arguments in bad {
        let mut results = [Val::I32(0)];
        let outcome = add.call(&mut store, arguments, &mut results);
        assert!(outcome.is_err(), "{arguments:?} were accepted");
    }
    for length in [0, 2] {
        let mut results = vec![Val::I32(0); length];
        assert!(
            add.call(&mut store, &[one, one], &mut results).is_err(),
            "{length} results"
        );
    }
    assert!(add.typed::<(i32, i64), i32>(&store).is_err());
    assert!(add.typed::<(i32, i32), ()>(&store).is_err());
    assert!(add.typed::<i32, i32>(&store).is_err());
    assert!(add.typed::<(i32, i32), i32>(&store).is_ok());
    assert_eq!(call(&mut store, instance, "add", &[one, one]).ok(), Some(2));
}

#[test]
fn handles_of_another_store_are_errors_or_panics_that_say_so() {
    let engine = Engine::default();
    let (mut first, in_first) = instance(&engine, SMALL);
    let (mut second, in_second) = instance(&engine, SMALL);
    let add = in_first
        .get_func(&mut first, "add")
        .unwrap_or_else(|| panic!("no add"));
    let mut results = [Val::I32(0)];
    let outcome = add.call(&mut second, &[Val::I32(1), Val::I32(1)], &mut results);
    assert!(outcome.is_err(), "a function of another store was called");
    let table = in_second
        .get_table(&mut second, "table")
        .unwrap_or_else(|| panic!("no table"));
    let set = table.set(&mut second, 0, dynlink::Ref::Func(Some(add)));
    assert!(
        set.is_err(),
        "a function of another store was put into a table"
    );
    let text = r#"(module (import "m" "f" (func (param i32 i32) (result i32))))"#;
    let module = Module::new(&engine, &wasm(text)).unwrap_or_else(|error| panic!("{error}"));
    assert!(Instance::new(&mut second, &module, &[add.into()]).is_err());
    let argument = r#"(module (func (export "f") (param funcref)))"#;
    let module = Module::new(&engine, &wasm(argument)).unwrap_or_else(|error| panic!("{error}"));
    let instance =
        Instance::new(&mut second, &module, &[]).unwrap_or_else(|error| panic!("{error}"));
    let f = instance
        .get_func(&mut second, "f")
        .unwrap_or_else(|| panic!("no f"));
    assert!(
        f.call(&mut second, &[Val::FuncRef(Some(add))], &mut [])
            .is_err()
    );
}

#[test]
fn modules_of_another_engine_are_errors() {
    let module =
        Module::new(&Engine::default(), &wasm(SMALL)).unwrap_or_else(|error| panic!("{error}"));
    let mut store = Store::new(&Engine::default(), ());
    assert!(Instance::new(&mut store, &module, &[]).is_err());
}

#[test]
fn globals_keep_their_type_and_mutability() {
    let (mut store, instance) = instance(&Engine::default(), SMALL);
    let fixed = instance
        .get_global(&mut store, "fixed")
        .unwrap_or_else(|| panic!("no global"));
    let open = instance
        .get_global(&mut store, "open")
        .unwrap_or_else(|| panic!("no global"));
    assert!(fixed.set(&mut store, Val::I32(2)).is_err());
    assert!(open.set(&mut store, Val::I32(2)).is_err());
    assert!(open.set(&mut store, Val::I64(7)).is_ok());
    assert!(matches!(open.get(&mut store), Val::I64(7)));
    let ty = GlobalType {
        value: ValType::F32,
        mutable: true,
    };
    assert!(Global::new(&mut store, ty, Val::I32(1)).is_err());
}

fn import_error(linker: &Linker<()>, store: &mut Store<()>, engine: &Engine, text: &str) -> String {
    let module = Module::new(engine, &wasm(text)).unwrap_or_else(|error| panic!("{error}"));
    let error = linker.instantiate(store, &module).err();
    let error = error.unwrap_or_else(|| panic!("{text} was instantiated"));
    let fits = matches!(error.kind(), ErrorKind::Import { .. } | ErrorKind::Link(_));
    assert!(fits, "{text}: {error}");
    error.to_string()
}

#[test]
fn imports_that_do_not_fit_are_named_with_expected_and_found() {
    let engine = Engine::default();
    let (mut store, instance) = instance(&engine, SMALL);
    let mut linker = Linker::new(&engine);
    linker
        .instance(&mut store, "m", instance)
        .map(drop)
        .unwrap_or_else(|error| panic!("{error}"));
    let mut error = |text: &str| import_error(&linker, &mut store, &engine, text);
    for text in [
        r#"(module (import "m" "add" (func (param i32) (result i32))))"#,
        r#"(module (import "m" "add" (global i32)))"#,
        r#"(module (import "m" "fixed" (global (mut i32))))"#,
        r#"(module (import "m" "open" (global i64)))"#,
        r#"(module (import "m" "memory" (memory 2)))"#,
        r#"(module (import "m" "memory" (memory 1 1)))"#,
        r#"(module (import "m" "table" (table 3 funcref)))"#,
        r#"(module (import "m" "table" (table 2 externref)))"#,
    ] {
        let message = error(text);
        assert!(message.contains("`m"), "{message}");
    }
    let missing = error(
        r#"(module (import "m" "gone" (func)) (import "n" "away" (func)) (import "m" "add" (func)))"#,
    );
    assert!(
        missing.contains("gone") && missing.contains("away"),
        "not all are listed: {missing}"
    );
}

#[test]
fn too_few_and_too_many_imports_are_errors() {
    let engine = Engine::default();
    let text = r#"(module (import "m" "f" (func)))"#;
    let module = Module::new(&engine, &wasm(text)).unwrap_or_else(|error| panic!("{error}"));
    let mut store = Store::new(&engine, ());
    let f: Extern = Func::new(&mut store, FuncType::new([], []), |_, _, _| Ok(())).into();
    assert!(Instance::new(&mut store, &module, &[]).is_err());
    assert!(Instance::new(&mut store, &module, &[f, f]).is_err());
    assert!(Instance::new(&mut store, &module, &[f]).is_ok());
}

#[test]
fn a_name_that_is_taken_is_an_error() {
    let engine = Engine::default();
    let mut linker: Linker<()> = Linker::new(&engine);
    let define = |linker: &mut Linker<()>| linker.func_wrap("m", "f", || 1i32).map(drop);
    assert!(define(&mut linker).is_ok());
    assert!(define(&mut linker).is_err());
    linker.allow_shadowing(true);
    assert!(define(&mut linker).is_ok());
}

#[test]
fn unknown_imports_become_traps_that_name_them() {
    let engine = Engine::default();
    let text = r#"(module (import "env" "missing_symbol" (func $f)) (func (export "f") (result i32) (call $f) (i32.const 0)))"#;
    let module = Module::new(&engine, &wasm(text)).unwrap_or_else(|error| panic!("{error}"));
    let mut linker = Linker::new(&engine);
    linker
        .define_unknown_imports_as_traps(&module)
        .unwrap_or_else(|error| panic!("{error}"));
    let mut store = Store::new(&engine, ());
    let instance = linker
        .instantiate(&mut store, &module)
        .unwrap_or_else(|error| panic!("{error}"));
    let error: Error = call(&mut store, instance, "f", &[])
        .err()
        .unwrap_or_else(|| panic!("no trap"));
    assert!(error.to_string().contains("missing_symbol"), "{error}");
}
