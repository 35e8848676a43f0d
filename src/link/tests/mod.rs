//! Programs in the text format that show the rules at work, through the public face of the linker.

mod dlopen;
mod exit_handlers;
mod failures;
mod mains;
mod random;
mod rules;
mod scaling;
mod symbols;
mod transactions;
mod undone;

use super::*;
use crate::error::{Error, Result};
use crate::module::{FuncType, Module, ValType};
use crate::runtime::{Caller, Func, ResourceLimiter, Store, StoreContextMut, StoreLimits, Val};
use crate::{Config, Engine};
use std::sync::{Arc, Mutex};

/// What guests told the host through `env.log`.
#[derive(Default)]
struct Data {
    log: Vec<i32>,
    limits: StoreLimits,
    /// Growth that was asked for, and which of it is refused (counted from 1; 0: none).
    asked: usize,
    refused: usize,
}

impl ResourceLimiter for Data {
    fn memory_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool> {
        self.asked += 1;
        Ok(self.asked != self.refused)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool> {
        self.asked += 1;
        Ok(self.asked != self.refused)
    }
}

/// An error of the host: whether it only unwinds the guest's stack, as `longjmp` does, or ends the process.
#[derive(Debug, PartialEq)]
struct Unwinds(bool);

impl std::fmt::Display for Unwinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the stack is unwound")
    }
}

impl std::error::Error for Unwinds {}

/// `env.log(i32)`, and `env.host_only() -> i32`, whose type the host knows.
struct TestHost;

impl HostSymbols<Data> for TestHost {
    fn function(
        &self,
        _process: &Process<Data>,
        mut store: StoreContextMut<'_, Data>,
        module: &str,
        name: &str,
        ty: &FuncType,
    ) -> Option<Func> {
        let func = match (module, name) {
            ("env", "log") => Func::wrap(&mut store, |mut caller: Caller<'_, Data>, value: i32| {
                caller.data_mut().log.push(value);
            }),
            ("env", "host_only") => Func::wrap(&mut store, || 77i32),
            ("env", "unwind") => {
                Func::wrap(&mut store, || Err::<(), _>(Error::host(Unwinds(true))))
            }
            ("env", "end") => Func::wrap(&mut store, || Err::<(), _>(Error::host(Unwinds(false)))),
            // One for each type, as stubs of an ABI are.
            ("env", "any") => Func::new(&mut store, ty.clone(), |_, _, _| Ok(())),
            _ => return None,
        };
        (func.ty(&store) == *ty).then_some(func)
    }

    fn goes_on_after(&self, error: &Error) -> bool {
        match error.kind() {
            crate::ErrorKind::Host(error) => error.downcast_ref() == Some(&Unwinds(true)),
            _ => false,
        }
    }

    fn signature(&self, _module: &str, name: &str) -> Option<FuncType> {
        (name == "host_only").then(|| FuncType::new([], [ValType::I32]))
    }
}

/// A main module with fixed addresses that exports its memory, table, stack pointer and an allocator; `$BODY` is added.
const MAIN: &str = r#"(module
  (@dylink.0)
  $IMPORTS
  (memory (export "memory") 2)
  (table (export "__indirect_function_table") 4 funcref)
  (global (export "__stack_pointer") (mut i32) (i32.const 65536))
  (global $heap (mut i32) (i32.const 66000))
  (global $freed (mut i32) (i32.const 0))
  (func (export "malloc") (param $size i32) (result i32)
    (local $start i32)
    (local.set $start (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
    (global.set $heap (i32.add (local.get $start) (local.get $size)))
    (block $enough
      (br_if $enough (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $enough (i32.ne (i32.const -1) (memory.grow
        (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1)))))
      (global.set $heap (local.get $start))
      (return (i32.const 0)))
    (local.get $start))
  (func (export "free") (param i32) (global.set $freed (i32.add (global.get $freed) (i32.const 1))))
  (func (export "count_freed") (result i32) (global.get $freed))
  $BODY)"#;

fn main_module(imports: &str, body: &str) -> String {
    MAIN.replace("$IMPORTS", imports).replace("$BODY", body)
}

/// A library; `dylink` are the subsections, `body` the fields.
fn library(dylink: &str, body: &str) -> String {
    format!("(module (@dylink.0 {dylink}) {body})")
}

/// The imports that most libraries have.
const BASES: &str = r#"
  (import "env" "memory" (memory 0))
  (import "env" "__indirect_function_table" (table 0 funcref))
  (import "env" "__memory_base" (global $mb i32))
  (import "env" "__table_base" (global $tb i32))
"#;

struct World {
    store: Store<Data>,
    process: Process<Data>,
    /// What the linker traced.
    lines: Arc<Mutex<Vec<String>>>,
}

impl Drop for World {
    /// A test that fails shows what the linker did.
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(lines) = self.lines.lock()
        {
            for line in lines.iter() {
                eprintln!("{line}");
            }
        }
    }
}

fn files(list: &[(&str, &str)]) -> MemoryFiles {
    let mut files = MemoryFiles::new();
    for (path, text) in list {
        let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        files.insert(path, bytes);
    }
    files
}

impl World {
    /// A world whose libraries lie in `/lib`.
    fn new(profile: Profile, list: &[(&str, &str)]) -> World {
        World::with_files(profile, files(list))
    }

    fn with_files(profile: Profile, files: MemoryFiles) -> World {
        World::with_config(Config::default(), profile, files)
    }

    fn with_config(config: Config, profile: Profile, files: MemoryFiles) -> World {
        World::telling(TraceTopics::INIT, config, profile, files)
    }

    /// A world that tells these topics. Bindings that are told take another way than those that are not.
    fn telling(topics: TraceTopics, config: Config, profile: Profile, files: MemoryFiles) -> World {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = lines.clone();
        World {
            store: Store::new(&Engine::new(config), Data::default()),
            process: Process::builder()
                .profile(profile)
                .files(files)
                .host(TestHost)
                .library_path("/lib")
                .trace(
                    topics,
                    Arc::new(move |_, line| sink.lock().unwrap().push(line.to_string())),
                )
                .build(),
            lines,
        }
    }

    fn start(&mut self, main: &str) -> Result<()> {
        let bytes = wat::parse_str(main).unwrap_or_else(|error| panic!("main: {error}"));
        let module = Module::with_name(self.store.engine(), bytes, "main.wasm")?;
        self.process
            .start(&mut self.store, &module, "/app/main.wasm")
            .map(|_| ())
    }

    /// A started world.
    fn started(main: &str, list: &[(&str, &str)]) -> World {
        let mut world = World::new(Profile::default(), list);
        world.start(main).unwrap();
        world
    }

    /// The same; it tells bindings, too.
    fn started_telling_bindings(main: &str, list: &[(&str, &str)]) -> World {
        let topics = TraceTopics::INIT | TraceTopics::BINDINGS;
        let mut world = World::telling(topics, Config::default(), Profile::default(), files(list));
        world.start(main).unwrap();
        world
    }

    fn open(&mut self, name: &str) -> Result<u32> {
        self.process
            .dlopen(&mut self.store, Some(name), OpenFlags::NOW)
    }

    fn open_with(&mut self, name: &str, flags: OpenFlags) -> Result<u32> {
        self.process.dlopen(&mut self.store, Some(name), flags)
    }

    fn symbol(&mut self, handle: u32, name: &str) -> Result<u32> {
        self.process.dlsym(&mut self.store, handle, name)
    }

    /// Calls a function through its table slot.
    fn call_slot(&mut self, slot: u32, params: &[i32]) -> Result<i32> {
        let table = self.process.table().unwrap();
        let func = match table.get(&mut self.store, slot.into()) {
            Some(crate::runtime::Ref::Func(Some(func))) => func,
            other => return Err(Error::msg(format!("slot {slot} holds {other:?}"))),
        };
        self.call_func(func, params)
    }

    fn call_func(&mut self, func: Func, params: &[i32]) -> Result<i32> {
        let params: Vec<Val> = params.iter().map(|value| Val::I32(*value)).collect();
        let mut results = vec![Val::I32(0); func.ty(&self.store).results().len()];
        func.call(&mut self.store, &params, &mut results)?;
        Ok(results.first().and_then(Val::i32).unwrap_or(0))
    }

    /// Calls a function of a library by name.
    fn call(&mut self, handle: u32, name: &str, params: &[i32]) -> Result<i32> {
        let slot = self.symbol(handle, name)?;
        self.call_slot(slot, params)
    }

    /// Calls an export of the main module.
    fn call_main(&mut self, name: &str, params: &[i32]) -> Result<i32> {
        let main = self.process.main_instance().unwrap();
        let func = main
            .get_func(&mut self.store, name)
            .unwrap_or_else(|| panic!("main exports no {name}"));
        self.call_func(func, params)
    }

    fn read(&self, address: u32) -> i32 {
        let mut bytes = [0; 4];
        let memory = self.process.memory().unwrap();
        memory
            .read(&self.store, address as usize, &mut bytes)
            .unwrap();
        i32::from_le_bytes(bytes)
    }

    fn log(&self) -> &[i32] {
        &self.store.data().log
    }

    fn names(&self) -> Vec<String> {
        self.process
            .libraries()
            .into_iter()
            .map(|library| library.name)
            .collect()
    }

    /// All that a failed load must leave as it was, as text.
    fn picture(&mut self) -> String {
        use std::fmt::Write;
        let mut text = format!("{:#?}\n", self.process.libraries());
        if let Some(table) = self.process.table() {
            for slot in 0..table.size(&self.store) {
                if let Some(crate::runtime::Ref::Func(Some(func))) =
                    table.get(&mut self.store, slot)
                {
                    let _ = writeln!(text, "slot {slot}: {func:?}");
                }
            }
        }
        if let Some(pointer) = self.process.stack_pointer() {
            let _ = writeln!(text, "stack pointer {:?}", pointer.get(&mut self.store));
        }
        let state = self.process.state();
        let mut names: Vec<_> = state.names.iter().collect();
        names.sort();
        let _ = writeln!(
            text,
            "{names:?} {:?} next {} busy {} spent {}",
            state.global, state.next, state.busy, state.spent
        );
        text
    }

    /// Whether the same load fails twice with the same text, which is given, and leaves no trace.
    fn fails_twice(&mut self, name: &str) -> String {
        let before = self.picture();
        let first = self.open(name).unwrap_err().to_string();
        assert_eq!(self.picture(), before, "the first failure left a trace");
        let second = self.open(name).unwrap_err().to_string();
        assert_eq!(self.picture(), before, "the second failure left a trace");
        assert_eq!(first, second);
        first
    }
}
