//! Growth that is refused: by the type, by the configuration, by the embedder's limiter. Nothing changes,
//! the guest sees -1, and the store goes on.

use crate::support::{DISPATCHES, call, engine, instance, wasm};
use dynlink::{
    Engine, Error, ErrorKind, Instance, Memory, MemoryType, Module, Ref, ResourceLimiter, Store,
    StoreLimits, Val,
};

const GROWING: &str = r#"(module
  (memory (export "memory") 1 100)
  (table (export "table") 1 1000 funcref)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "size") (result i32) (memory.size))
  (func (export "grow-table") (param i32) (result i32) (table.grow (ref.null func) (local.get 0)))
  (func (export "size-table") (result i32) (table.size))
  (func (export "touch") (param i32) (result i32)
    (i32.store (local.get 0) (i32.const 77)) (i32.load (local.get 0))))"#;

fn expect(store: &mut Store<()>, instance: Instance, name: &str, argument: i32, expected: i32) {
    let arguments: &[Val] = if name.starts_with("size") {
        &[]
    } else {
        &[Val::I32(argument)]
    };
    let found = call(store, instance, name, arguments);
    let found = found.unwrap_or_else(|error| panic!("{name}({argument}): {error}"));
    assert_eq!(found, expected, "{name}({argument})");
}

#[test]
fn growth_beyond_the_type_gives_minus_one_and_changes_nothing() {
    for dispatch in DISPATCHES {
        let engine = engine(|config| config.dispatch = dispatch);
        let (mut store, instance) = instance(&engine, GROWING);
        let store = &mut store;
        for delta in [100, 65_535, 65_536, i32::MAX, i32::MIN, -1] {
            expect(store, instance, "grow", delta, -1);
            expect(store, instance, "size", 0, 1);
        }
        for delta in [1000, i32::MAX, i32::MIN, -1] {
            expect(store, instance, "grow-table", delta, -1);
            expect(store, instance, "size-table", 0, 1);
        }
        expect(store, instance, "grow", 99, 1);
        expect(store, instance, "grow", 0, 100);
        expect(store, instance, "grow", 1, -1);
        expect(store, instance, "touch", 100 * 65_536 - 4, 77);
        expect(store, instance, "grow-table", 999, 1);
        expect(store, instance, "grow-table", 1, -1);
    }
}

#[test]
fn growth_beyond_the_configured_limits_gives_minus_one() {
    let engine = engine(|config| {
        config.limits.memory_pages = 10;
        config.limits.table_elements = 10;
    });
    let (mut store, instance) = instance(&engine, GROWING);
    let store = &mut store;
    expect(store, instance, "grow", 10, -1);
    expect(store, instance, "grow", 9, 1);
    expect(store, instance, "grow", 1, -1);
    expect(store, instance, "grow-table", 10, -1);
    expect(store, instance, "grow-table", 9, 1);
    expect(store, instance, "size", 0, 10);
}

/// Refuses everything, and fails when asked to grow beyond `fatal`.
struct Strict {
    fatal: usize,
    asked: usize,
}

impl ResourceLimiter for Strict {
    fn memory_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> Result<bool, Error> {
        self.asked += 1;
        if desired > self.fatal {
            return Err(Error::msg("over budget"));
        }
        Ok(desired <= 3 * 65_536)
    }
    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool, Error> {
        self.asked += 1;
        Ok(desired <= 5)
    }
}

#[test]
fn a_limiter_refuses_or_ends_the_guest() {
    let engine = Engine::default();
    let module = Module::new(&engine, &wasm(GROWING)).unwrap_or_else(|error| panic!("{error}"));
    let mut store = Store::new(
        &engine,
        Strict {
            fatal: 10 * 65_536,
            asked: 0,
        },
    );
    store.limiter(|strict| strict);
    let instance =
        Instance::new(&mut store, &module, &[]).unwrap_or_else(|error| panic!("{error}"));
    let mut grow = |name: &str, delta: i32| -> Result<i32, Error> {
        instance
            .get_typed_func::<i32, i32>(&mut store, name)?
            .call(&mut store, delta)
    };
    assert_eq!(grow("grow", 5).ok(), Some(-1));
    assert_eq!(grow("grow", 2).ok(), Some(1));
    assert_eq!(grow("grow", 1).ok(), Some(-1));
    assert_eq!(grow("grow-table", 5).ok(), Some(-1));
    assert_eq!(grow("grow-table", 4).ok(), Some(1));
    let error = grow("grow", 50).err().map(|error| error.to_string());
    assert!(
        error
            .as_deref()
            .is_some_and(|text| text.contains("over budget")),
        "{error:?}"
    );
    assert_eq!(grow("touch", 3 * 65_536 - 4).ok(), Some(77));
    assert!(
        store.data().asked >= 6,
        "the limiter was asked {} times",
        store.data().asked
    );
}

#[test]
fn a_limiter_refuses_an_instance() {
    let engine = Engine::default();
    let module = Module::new(&engine, &wasm("(module (memory 20))"))
        .unwrap_or_else(|error| panic!("{error}"));
    let limits = StoreLimits {
        memory_bytes: Some(65_536),
        table_elements: Some(1),
    };
    let mut store = Store::new(&engine, limits);
    store.limiter(|limits| limits);
    for _ in 0..3 {
        let error = Instance::new(&mut store, &module, &[]).err();
        let error = error.unwrap_or_else(|| panic!("instantiated"));
        assert!(matches!(error.kind(), ErrorKind::Limit { .. }), "{error}");
    }
    let memory = Memory::new(
        &mut store,
        MemoryType {
            minimum: 1,
            maximum: None,
        },
    );
    let memory = memory.unwrap_or_else(|error| panic!("{error}"));
    assert!(memory.grow(&mut store, 1).is_err());
    assert_eq!(memory.size(&store), 1);
}

#[test]
fn growth_by_the_host_is_seen_by_the_guest_and_refused_without_effect() {
    let (mut store, instance) = instance(&Engine::default(), GROWING);
    let memory = instance
        .get_memory(&mut store, "memory")
        .unwrap_or_else(|| panic!("no memory"));
    let table = instance
        .get_table(&mut store, "table")
        .unwrap_or_else(|| panic!("no table"));
    memory
        .write(&mut store, 100, b"kept")
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(memory.grow(&mut store, 4).ok(), Some(1));
    for pages in [96, 1 << 20, 1 << 48, u64::MAX] {
        assert!(memory.grow(&mut store, pages).is_err(), "{pages}");
    }
    for elements in [1000, 1 << 40, u64::MAX] {
        assert!(
            table.grow(&mut store, elements, Ref::Func(None)).is_err(),
            "{elements}"
        );
    }
    assert_eq!(memory.data_size(&store), 5 * 65_536);
    assert_eq!(&memory.data(&store)[100..104], b"kept");
    expect(&mut store, instance, "size", 0, 5);
    expect(&mut store, instance, "touch", 5 * 65_536 - 4, 77);
    let mut buffer = [0; 8];
    for offset in [5 * 65_536 - 7, 5 * 65_536, usize::MAX - 3, usize::MAX] {
        assert!(
            memory.read(&store, offset, &mut buffer).is_err(),
            "{offset}"
        );
        assert!(
            memory.write(&mut store, offset, &buffer).is_err(),
            "{offset}"
        );
    }
}

#[test]
fn growth_during_a_host_call_is_seen_when_the_guest_goes_on() {
    // The guest keeps base and length of its memory in registers: they must be read again.
    for dispatch in DISPATCHES {
        let engine = engine(|config| config.dispatch = dispatch);
        let text = r#"(module
          (import "host" "grow" (func $grow (param i32) (result i32)))
          (memory (export "memory") 1 200)
          (func (export "f") (param i32) (result i32)
            (i32.store (i32.const 16) (i32.const 5))
            (drop (call $grow (local.get 0)))
            (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const 6))
            (i32.add (i32.load (i32.const 16))
                     (i32.load (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4))))))"#;
        let mut linker = dynlink::Linker::new(&engine);
        let grow = |mut caller: dynlink::Caller<'_, ()>, pages: i32| -> Result<i32, Error> {
            let memory = caller
                .get_export("memory")
                .and_then(dynlink::Extern::into_memory);
            let memory = memory.ok_or_else(|| Error::msg("no memory"))?;
            Ok(memory.grow(&mut caller, pages as u64)? as i32)
        };
        linker
            .func_wrap("host", "grow", grow)
            .map(drop)
            .unwrap_or_else(|error| panic!("{error}"));
        let module = Module::new(&engine, &wasm(text)).unwrap_or_else(|error| panic!("{error}"));
        let mut store = Store::new(&engine, ());
        let instance = linker
            .instantiate(&mut store, &module)
            .unwrap_or_else(|error| panic!("{error}"));
        for pages in [0, 1, 10, 100] {
            expect(&mut store, instance, "f", pages, 11);
        }
        let error = call(&mut store, instance, "f", &[Val::I32(10_000)]);
        assert!(error.is_err());
        expect(&mut store, instance, "f", 1, 11);
    }
}
