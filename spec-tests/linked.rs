//! What only the dynamic linker makes the engine do: functions that are bound at their first call,
//! trampolines that call through the table and drop surplus arguments, cells that code holds as constants.
//! Both ways of dispatch give the same.

use dynlink::host::cowasm::{Cowasm, CowasmHost, CowasmSymbols};
use dynlink::host::{Kernel, KernelBuilder, KernelHost, WasiSymbols};
use dynlink::link::{MemoryFiles, OpenFlags, Process, Profile};
use dynlink::{Config, Dispatch, Engine, Error, Instance, Module, Store, Trap, TrapCode, Val};
use libtest_mimic::Trial;

/// A main module with a function that nobody defines yet and calls through a trampoline.
const MAIN: &str = r#"(module
  (@dylink.0 (mem-info (memory 64 3) (table 3 0)))
  (type $four (func (param i32 i32 i32 i32) (result i32)))
  (import "env" "memory" (memory 1))
  (import "env" "__indirect_function_table" (table 0 funcref))
  (import "env" "__memory_base" (global $memory i32))
  (import "env" "__table_base" (global $table i32))
  (import "env" "late" (func $late (param i32) (result i32)))
  (import "env" "descr_get_trampoline_call" (func $trampoline (type $four)))
  (import "GOT.mem" "number" (global $number (mut i32)))
  (global (export "number") i32 (i32.const 16))
  (elem (global.get $table) func $difference $double $add)
  (func $get_number (export "get_number") (param i32) (result i32)
    (i32.add (global.get $number) (local.get 0)))
  (func (export "set_number") (param i32) (result i32)
    (global.set $number (local.get 0)) (call $get_number (i32.const 1)))
  (func $difference (param i32 i32 i32) (result i32)
    (i32.sub (local.get 0) (i32.add (local.get 1) (local.get 2))))
  (func $double (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
  (func $add (param i64 i32) (result i32) (local.get 1))
  (func (export "call_late") (param i32) (result i32) (i32.add (call $late (local.get 0)) (i32.const 1)))
  (func (export "through") (param i32 i32 i32 i32) (result i32)
    (call $trampoline (i32.add (global.get $table) (local.get 0)) (local.get 1) (local.get 2) (local.get 3))))"#;

/// The library that defines the missing function.
const LIBRARY: &str = r#"(module
  (@dylink.0 (mem-info (memory 0 0) (table 0 0)))
  (import "env" "memory" (memory 1))
  (func (export "late") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 10))))"#;

struct Host {
    kernel: Kernel,
    cowasm: Cowasm,
}

impl KernelHost for Host {
    fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }
}

impl CowasmHost for Host {
    fn cowasm(&mut self) -> &mut Cowasm {
        &mut self.cowasm
    }
}

/// One trial for each way of dispatch.
pub fn trials() -> Vec<Trial> {
    let ways = [("tail", Dispatch::TailCall), ("loop", Dispatch::Loop)];
    let trial = |(name, dispatch)| {
        Trial::test(format!("{name}::linked"), move || {
            run(dispatch)
                .and_then(|()| native(dispatch))
                .map_err(|error| error.to_string().into())
        })
    };
    ways.map(trial).into()
}

fn run(dispatch: Dispatch) -> Result<(), Error> {
    let engine = Engine::new(Config {
        dispatch,
        op_coverage: dispatch == Dispatch::Loop,
        ..Config::default()
    });
    let text = |text: &str| wat::parse_str(text).map_err(|error| Error::msg(error.to_string()));
    let module = Module::with_name(&engine, text(MAIN)?, "main.wasm")?;
    let host = Host {
        kernel: KernelBuilder::new().build()?,
        cowasm: Cowasm::default(),
    };
    let mut store = Store::new(&engine, host);
    let mut files = MemoryFiles::new();
    files.insert("/lib/liblate.so", text(LIBRARY)?);
    let process = Process::builder()
        .profile(Profile {
            bind_now: false,
            ..Profile::default()
        })
        .files(files)
        .library_path("/lib")
        .host(CowasmSymbols::new(WasiSymbols))
        .build();
    let instance = process.start(&mut store, &module, "/bin/main.wasm")?;
    let mut call = |name: &str, arguments: &[i32]| -> Result<i32, Error> {
        let func = instance
            .get_func(&mut store, name)
            .ok_or_else(|| Error::msg(format!("no `{name}`")))?;
        let arguments: Vec<Val> = arguments.iter().map(|value| Val::I32(*value)).collect();
        let mut results = [Val::I32(0)];
        func.call(&mut store, &arguments, &mut results)?;
        results[0].i32().ok_or_else(|| Error::msg("not an i32"))
    };
    expect_trap(
        call("call_late", &[1]),
        TrapCode::UnresolvedFunction,
        "late",
    )?;
    expect(call("through", &[0, 10, 3, 4])?, 3)?;
    expect(call("through", &[1, 10, 3, 4])?, 20)?;
    // A function whose parameters are not the first ones of the trampoline's.
    expect_trap(
        call("through", &[2, 1, 2, 3]),
        TrapCode::IndirectCallTypeMismatch,
        "",
    )?;
    expect_trap(
        call("through", &[1_000_000, 1, 2, 3]),
        TrapCode::UndefinedElement,
        "",
    )?;
    // A cell of the GOT that the guest itself changes: code that holds its value as a constant follows.
    let address = call("get_number", &[0])?;
    for round in 0..3 {
        expect(call("get_number", &[round])?, address + round)?;
    }
    for value in [1000, -5, 0] {
        expect(call("set_number", &[value])?, value + 1)?;
        expect(call("get_number", &[7])?, value + 7)?;
    }
    process.dlopen(
        &mut store,
        Some("liblate.so"),
        OpenFlags::NOW | OpenFlags::GLOBAL,
    )?;
    let late = instance.get_typed_func::<i32, i32>(&mut store, "call_late")?;
    for round in 0..3 {
        expect(late.call(&mut store, round)?, round * 10 + 1)?;
    }
    Ok(())
}

/// Native code in place of a function of C's library.
fn native(dispatch: Dispatch) -> Result<(), Error> {
    let engine = Engine::new(Config {
        dispatch,
        op_coverage: dispatch == Dispatch::Loop,
        native_libc: true,
        ..Config::default()
    });
    let text = r#"(module (memory 1) (data (i32.const 8) "abc")
        (func $strlen (export "strlen") (param i32) (result i32) unreachable)
        (func (export "twice") (param i32) (result i32)
            (i32.add (call $strlen (local.get 0)) (call $strlen (local.get 0)))))"#;
    let bytes = wat::parse_str(text).map_err(|error| Error::msg(error.to_string()))?;
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &Module::new(&engine, &bytes)?, &[])?;
    let twice = instance.get_typed_func::<i32, i32>(&mut store, "twice")?;
    expect(twice.call(&mut store, 8)?, 6)?;
    expect(twice.call(&mut store, 10)?, 2)
}

fn expect(found: i32, expected: i32) -> Result<(), Error> {
    if found == expected {
        Ok(())
    } else {
        Err(Error::msg(format!("expected {expected}, got {found}")))
    }
}

fn expect_trap(outcome: Result<i32, Error>, code: TrapCode, named: &str) -> Result<(), Error> {
    match outcome {
        Err(error)
            if error.trap().map(Trap::code) == Some(code) && error.to_string().contains(named) =>
        {
            Ok(())
        }
        other => Err(Error::msg(format!(
            "expected trap {code:?} naming `{named}`, got {other:?}"
        ))),
    }
}
