//! Cells (`Global::cell`): code holds their values as constants, and a change is seen by all code,
//! also by code that is running, while values that were read before stay what they were.

use dynlink::{Caller, Config, Dispatch, Engine, Func, Global, Instance, Module, Store, Val};

/// Every way in which translation uses a cell's value.
const GUEST: &str = r#"
(module
  (import "e" "cell" (global $cell (mut i32)))
  (import "e" "plain" (global $plain (mut i32)))
  (import "e" "change" (func $change (param i32)))
  (memory 1)
  (func (export "read") (result i32) (global.get $cell))
  (func (export "sum") (param i32) (result i32)
    (i32.add (i32.add (global.get $cell) (i32.const 100)) (local.get 0)))
  (func (export "difference") (param i32) (result i32)
    (i32.sub (global.get $cell) (local.get 0)))
  (func (export "is") (param i32) (result i32)
    (if (result i32) (i32.eq (local.get 0) (global.get $cell))
      (then (i32.const 1)) (else (i32.const 0))))
  (func (export "count_to") (result i32) (local i32)
    (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (global.get $cell))))
    (local.get 0))
  (func (export "load") (result i32) (i32.load offset=4 (global.get $cell)))
  (func (export "store") (param i32) (i32.store offset=4 (global.get $cell) (local.get 0)))
  (func (export "store_value") (param i32) (i32.store (local.get 0) (global.get $cell)))
  (func (export "store_value_behind") (param i32)
    (i32.store (i32.add (local.get 0) (i32.const 8)) (global.get $cell)))
  (func (export "at") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "set") (param i32) (global.set $cell (local.get 0)))
  ;; old value * 10000 + new value: what was read before the change stays
  (func (export "across") (param i32) (result i32)
    (i32.mul (global.get $cell) (i32.const 10000))
    (global.get $cell)
    (call $change (local.get 0))
    (drop)
    (i32.add (global.get $cell)))
  (func (export "kept") (param i32) (result i32)
    (global.get $cell)
    (call $change (local.get 0)))
  (func (export "kept_over_set") (param i32) (result i32)
    (global.get $cell)
    (global.set $cell (local.get 0)))
  ;; the loop runs while the host changes the cell under it
  (func (export "running") (result i32) (local i32 i32)
    (loop
      (local.set 1 (i32.add (i32.mul (local.get 1) (i32.const 10)) (global.get $cell)))
      (call $change (i32.add (global.get $cell) (i32.const 1)))
      (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 5))))
    (local.get 1)))
"#;

struct Guest {
    store: Store<Option<Global>>,
    instance: Instance,
    cell: Global,
}

impl Guest {
    fn new(config: Config) -> Guest {
        let engine = Engine::new(config);
        let module = Module::new(&engine, &wat::parse_str(GUEST).unwrap()).unwrap();
        let mut store = Store::new(&engine, None);
        let cell = Global::cell(&mut store, 7).unwrap();
        let ty = cell.ty(&store);
        let plain = Global::new(&mut store, ty, Val::I32(7)).unwrap();
        *store.data_mut() = Some(cell);
        let change = Func::wrap(
            &mut store,
            |mut caller: Caller<'_, Option<Global>>, to: i32| {
                let cell = caller.data().unwrap();
                cell.set(&mut caller, Val::I32(to)).unwrap();
            },
        );
        let imports = [cell.into(), plain.into(), change.into()];
        let instance = Instance::new(&mut store, &module, &imports).unwrap();
        Guest {
            store,
            instance,
            cell,
        }
    }

    fn call(&mut self, name: &str, params: &[i32]) -> i32 {
        let func = self.instance.get_func(&mut self.store, name).unwrap();
        let params: Vec<Val> = params.iter().map(|p| Val::I32(*p)).collect();
        let mut results = vec![Val::I32(0); func.ty(&self.store).results().len()];
        func.call(&mut self.store, &params, &mut results).unwrap();
        results.first().and_then(Val::i32).unwrap_or(0)
    }

    fn set(&mut self, value: i32) {
        self.cell.set(&mut self.store, Val::I32(value)).unwrap();
    }
}

fn configurations() -> impl Iterator<Item = Config> {
    [Dispatch::TailCall, Dispatch::Loop]
        .into_iter()
        .map(|dispatch| Config {
            dispatch,
            ..Config::default()
        })
}

#[test]
fn every_use_of_a_cell_follows_its_value() {
    for config in configurations() {
        let mut guest = Guest::new(config);
        // The first round translates with the first value, the others see patched code.
        for value in [7, 64, 3, 1000] {
            guest.set(value);
            assert_eq!(guest.call("read", &[]), value);
            assert_eq!(guest.call("sum", &[1]), value + 101);
            assert_eq!(guest.call("difference", &[2]), value - 2);
            assert_eq!(guest.call("is", &[value]), 1);
            assert_eq!(guest.call("is", &[value + 1]), 0);
            assert_eq!(guest.call("count_to", &[]), value);
            guest.call("store", &[value * 3]);
            assert_eq!(guest.call("load", &[]), value * 3);
            assert_eq!(guest.call("at", &[value + 4]), value * 3);
            guest.call("store_value", &[4096]);
            assert_eq!(guest.call("at", &[4096]), value);
            guest.call("store_value_behind", &[4096]);
            assert_eq!(guest.call("at", &[4104]), value);
        }
    }
}

#[test]
fn a_guest_that_writes_to_a_cell_is_seen_by_all_code() {
    for config in configurations() {
        let mut guest = Guest::new(config);
        assert_eq!(guest.call("read", &[]), 7);
        assert_eq!(guest.call("sum", &[0]), 107);
        guest.call("set", &[50]);
        assert_eq!(guest.call("read", &[]), 50);
        assert_eq!(guest.call("sum", &[0]), 150);
        assert_eq!(guest.cell.get(&mut guest.store).i32(), Some(50));
    }
}

#[test]
fn a_value_that_was_read_stays_and_running_code_sees_the_new_one() {
    for config in configurations() {
        let mut guest = Guest::new(config);
        guest.set(12);
        assert_eq!(guest.call("across", &[34]), 120_034);
        assert_eq!(guest.call("kept", &[99]), 34);
        assert_eq!(guest.call("kept_over_set", &[5]), 99);
        guest.set(1);
        assert_eq!(guest.call("running", &[]), 12_345);
    }
}

#[test]
fn an_address_beyond_the_memory_traps_after_a_change() {
    for config in configurations() {
        let mut guest = Guest::new(config);
        assert_eq!(guest.call("load", &[]), 0);
        for value in [65_533, -1, -4, i32::MIN] {
            guest.set(value);
            let load = guest.instance.get_func(&mut guest.store, "load").unwrap();
            let error = load
                .call(&mut guest.store, &[], &mut [Val::I32(0)])
                .unwrap_err();
            let code = error.trap().unwrap().code();
            assert_eq!(code, dynlink::TrapCode::MemoryOutOfBounds, "{value}");
        }
    }
}
