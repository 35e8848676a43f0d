//! `Config::guard_pages`: accesses that the processor checks, against those that are compared with the memory's length.
//!
//! The specification's suite, all forms of operators and the fixtures of dynamic linking run with it in their own tests;
//! here is what they do not reach: every byte around the end of a memory, growth, several memories and instances, hosts
//! between guests, many traps and threads; and, in `signals`, what a process does with faults that are not ours.

#![cfg(all(
    target_os = "linux",
    target_arch = "x86_64",
    target_pointer_width = "64"
))]

#[path = "guard/signals.rs"]
mod signals;

use dynlink::{
    Caller, Config, Dispatch, Engine, Error, Extern, Func, Instance, Memory, MemoryType, Module,
    Store, Trap, TrapCode, Val,
};
use std::sync::Barrier;

/// An engine with guard pages, or one without.
fn engine(dispatch: Dispatch, guard_pages: bool) -> Engine {
    Engine::new(Config {
        dispatch,
        guard_pages,
        ..Config::default()
    })
}

/// Both ways of dispatch with guard pages.
fn guarded() -> [Engine; 2] {
    [Dispatch::TailCall, Dispatch::Loop].map(|dispatch| engine(dispatch, true))
}

fn module(engine: &Engine, name: &str, text: &str) -> Module {
    let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Module::with_name(engine, bytes, name).unwrap_or_else(|error| panic!("{error}"))
}

fn instance(store: &mut Store<()>, name: &str, text: &str, imports: &[Extern]) -> Instance {
    let module = module(&store.engine().clone(), name, text);
    Instance::new(&mut *store, &module, imports).unwrap_or_else(|error| panic!("{error}"))
}

/// Calls an export with i32 parameters and one i32 result, or none.
fn call(
    store: &mut Store<()>,
    instance: Instance,
    name: &str,
    arguments: &[i32],
) -> Result<i32, Error> {
    let func = instance.get_func(&mut *store, name);
    let func = func.unwrap_or_else(|| panic!("no function `{name}`"));
    let arguments: Vec<Val> = arguments.iter().map(|value| Val::I32(*value)).collect();
    let mut results = vec![Val::I32(0); func.ty(&*store).results().len()];
    func.call(&mut *store, &arguments, &mut results)?;
    Ok(results.first().and_then(Val::i32).unwrap_or(0))
}

#[track_caller]
fn is_out_of_bounds(outcome: &Result<i32, Error>) {
    let code = outcome.as_ref().err().and_then(Error::trap).map(Trap::code);
    assert_eq!(code, Some(TrapCode::MemoryOutOfBounds), "{outcome:?}");
}

/// A guest that reads and writes where it is told.
const PEEK: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "poke") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;

/// Loads, with the bytes that they read.
const LOADS: [(&str, u32); 14] = [
    ("i32.load", 4),
    ("i32.load8_s", 1),
    ("i32.load8_u", 1),
    ("i32.load16_s", 2),
    ("i32.load16_u", 2),
    ("i64.load", 8),
    ("i64.load8_s", 1),
    ("i64.load8_u", 1),
    ("i64.load16_s", 2),
    ("i64.load16_u", 2),
    ("i64.load32_s", 4),
    ("i64.load32_u", 4),
    ("f32.load", 4),
    ("f64.load", 8),
];

/// Stores, with the bytes that they write.
const STORES: [(&str, u32); 9] = [
    ("i32.store", 4),
    ("i32.store8", 1),
    ("i32.store16", 2),
    ("i64.store", 8),
    ("i64.store8", 1),
    ("i64.store16", 2),
    ("i64.store32", 4),
    ("f32.store", 4),
    ("f64.store", 8),
];

/// Ways to make the address of an access: text around parameter 0.
const ADDRESSES: [&str; 4] = [
    "(local.get 0)",
    "(i32.add (local.get 0) (local.get 1))",
    "(i32.add (i32.shl (local.get 1) (i32.const 2)) (local.get 0))",
    "(i32.mul (local.get 0) (i32.const 1))",
];

/// Functions with every access, offset and address; in memory 0 and in memory 1.
fn accesses() -> (String, Vec<String>) {
    let mut text = String::from(
        "(module (memory (export \"memory\") 1) (memory (export \"other\") 1)\n\
         (data (memory 0) (i32.const 65520) \"0123456789abcdef\")\n\
         (data (memory 1) (i32.const 65520) \"ghijklmnopqrstuv\")\n",
    );
    let mut names = Vec::new();
    for memory in ["", "1 "] {
        for offset in ["", "offset=7 ", "offset=4294967295 "] {
            for (form, address) in ADDRESSES.iter().enumerate() {
                for (access, _) in LOADS.iter().chain(&STORES) {
                    let name = format!("{access} {memory}{offset}{form}");
                    let ty = &access[..3];
                    let body = if access.contains("load") {
                        format!("(drop ({access} {memory}{offset}{address}))")
                    } else {
                        format!("({access} {memory}{offset}{address} ({ty}.const 1))")
                    };
                    text += &format!("(func (export \"{name}\") (param i32 i32) {body})\n");
                    names.push(name);
                }
            }
        }
    }
    // Two accesses of one instruction, the first or the second of which is refused; a load that decides a branch; a count
    // of references; an index of a call.
    for (name, body) in [
        ("two", "(drop (i32.load offset=4 (i32.load (local.get 0))))"),
        (
            "two bytes",
            "(drop (i32.load8_u offset=4 (i32.load (local.get 0))))",
        ),
        (
            "branch",
            "(if (i32.load (local.get 0)) (then (global.set $g (i32.const 1))))",
        ),
        (
            "branch 8",
            "(block (br_if 0 (i32.eqz (i32.load8_u (local.get 0)))) (global.set $g (i32.const 1)))",
        ),
        (
            "count",
            "(i32.store (local.get 0) (i32.add (i32.load (local.get 0)) (i32.const 1)))",
        ),
        (
            "through",
            "(call_indirect (type $v) (i32.load (local.get 0)))",
        ),
    ] {
        text += &format!("(func (export \"{name}\") (param i32 i32) {body})\n");
        names.push(name.to_owned());
    }
    text += "(type $v (func)) (func $nothing) (table 1 funcref) (elem (i32.const 0) $nothing)\n\
             (global $g (export \"g\") (mut i32) (i32.const 0)))";
    (text, names)
}

#[test]
fn every_access_around_the_end_of_a_memory_does_what_a_checked_one_does() {
    let (text, names) = accesses();
    for dispatch in [Dispatch::TailCall, Dispatch::Loop] {
        let mut sides = [true, false].map(|guard_pages| {
            let mut store = Store::new(&engine(dispatch, guard_pages), ());
            let instance = instance(&mut store, "accesses", &text, &[]);
            (store, instance)
        });
        let (mut refused, mut done) = (0, 0);
        for name in &names {
            let around = (65_536 - 8 - 8..=65_536 + 1).chain([0, 1, 65_536 * 2, 1 << 30, -1, -9]);
            for address in around {
                for index in [0, 1, -1] {
                    let told = sides.each_mut().map(|(store, instance)| {
                        call(store, *instance, name, &[address, index])
                            .map_err(|error| error.to_string())
                    });
                    assert_eq!(told[0], told[1], "{name} at {address}, {index}");
                    match &told[0] {
                        Ok(_) => done += 1,
                        Err(_) => refused += 1,
                    }
                }
            }
            let bytes = sides.each_mut().map(|(store, instance)| {
                ["memory", "other"].map(|name| {
                    let memory = instance.get_memory(&mut *store, name).expect("a memory");
                    memory.data(&*store).to_vec()
                })
            });
            assert!(bytes[0] == bytes[1], "after {name} the memories differ");
        }
        assert!(refused > 10_000 && done > 5_000, "{refused}, {done}");
    }
}

#[test]
fn a_memory_grows_in_its_place_up_to_the_whole_address_space() {
    for engine in guarded() {
        let mut store = Store::new(&engine, ());
        let instance = instance(&mut store, "peek", PEEK, &[]);
        let memory = instance.get_memory(&mut store, "memory").expect("a memory");
        let place = memory.data(&store).as_ptr();
        let mut pages = 1;
        for more in [1, 3, 100, 65_536 - 105] {
            let end = pages * 65_536;
            is_out_of_bounds(&call(&mut store, instance, "peek", &[end]));
            is_out_of_bounds(&call(&mut store, instance, "poke", &[end - 3, -1]));
            assert_eq!(
                call(&mut store, instance, "grow", &[more]).ok(),
                Some(pages)
            );
            assert_eq!(call(&mut store, instance, "peek", &[end]).ok(), Some(0));
            call(&mut store, instance, "poke", &[end - 3, -1]).expect("there are pages now");
            assert_eq!(call(&mut store, instance, "peek", &[end]).ok(), Some(255));
            pages += more;
            assert_eq!(memory.data(&store).as_ptr(), place);
        }
        assert_eq!(call(&mut store, instance, "peek", &[-1]).ok(), Some(0));
        is_out_of_bounds(&call(&mut store, instance, "poke", &[-3, 1]));
        assert_eq!(call(&mut store, instance, "grow", &[1]).ok(), Some(-1));
    }
}

#[test]
fn a_function_that_grows_memory_sees_the_new_pages_at_once() {
    let text = r#"(module (memory 0 3)
      (func (export "fill") (result i32) (local i32)
        (loop
          (drop (memory.grow (i32.const 1)))
          (i32.store (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 4)) (memory.size))
          (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 3))))
        (i32.add (i32.load (i32.const 65532)) (i32.load (i32.const 196604))))
      (func (export "beyond") (result i32) (drop (memory.grow (i32.const 1))) (i32.load (i32.const 196605))))"#;
    for engine in guarded() {
        let mut store = Store::new(&engine, ());
        let instance = instance(&mut store, "fill", text, &[]);
        assert_eq!(call(&mut store, instance, "fill", &[]).ok(), Some(4));
        is_out_of_bounds(&call(&mut store, instance, "beyond", &[]));
    }
}

#[test]
fn an_empty_memory_refuses_everything_and_none_is_none() {
    let text =
        r#"(module (memory 0) (func (export "load") (result i32) (i32.load8_u (i32.const 0))))"#;
    for engine in guarded() {
        let mut store = Store::new(&engine, ());
        let empty = instance(&mut store, "empty", text, &[]);
        is_out_of_bounds(&call(&mut store, empty, "load", &[]));
        let none = r#"(module (func (export "one") (result i32) (i32.const 1)))"#;
        let none = instance(&mut store, "none", none, &[]);
        assert_eq!(call(&mut store, none, "one", &[]).ok(), Some(1));
    }
}

/// An instance with a memory of its own that calls one with the shared memory, which is grown by a third.
#[test]
fn modules_share_memories_and_traps_name_the_frames_of_all() {
    let owner = r#"(module (memory (export "memory") 1)
      (func (export "peek") (param i32) (result i32) (i32.load (local.get 0))))"#;
    let user = r#"(module (import "o" "memory" (memory 1))
      (func (export "poke") (param i32) (i32.store (local.get 0) (i32.const 7)))
      (func (export "grow") (result i32) (memory.grow (i32.const 1))))"#;
    let other = r#"(module (import "o" "peek" (func $peek (param i32) (result i32)))
      (memory 2) (data (i32.const 131068) "\09\00\00\00")
      (func (export "both") (param i32) (result i32)
        (i32.add (call $peek (local.get 0)) (i32.load (local.get 0)))))"#;
    for dispatch in [Dispatch::TailCall, Dispatch::Loop] {
        let told = [true, false].map(|guard_pages| {
            let mut store = Store::new(&engine(dispatch, guard_pages), ());
            let owner = instance(&mut store, "owner", owner, &[]);
            let memory = owner.get_export(&mut store, "memory").expect("a memory");
            let peek = owner.get_export(&mut store, "peek").expect("a function");
            let user = instance(&mut store, "user", user, &[memory]);
            let other = instance(&mut store, "other", other, &[peek]);
            let mut told = Vec::new();
            for name in ["before", "after"] {
                for address in [0, 65_532, 65_533, 131_068, 131_069, -1] {
                    let poked = call(&mut store, user, "poke", &[address]);
                    let both = call(&mut store, other, "both", &[address]);
                    told.push((
                        name,
                        address,
                        [poked, both].map(|told| told.map_err(|e| e.to_string())),
                    ));
                }
                assert_eq!(
                    call(&mut store, user, "grow", &[]).ok(),
                    Some(told.len() as i32 / 6)
                );
            }
            told
        });
        assert_eq!(told[0], told[1]);
        // 7 in the grown memory, 9 in the other one.
        assert_eq!(told[0][9].2[1], Ok(16));
        let (_, _, [_, refused]) = &told[0][3];
        let refused = refused.as_ref().expect_err("the memory had one page");
        assert!(
            refused.contains("owner!peek") && refused.contains("other!both"),
            "{refused}"
        );
    }
}

#[test]
fn a_trap_in_a_guest_below_a_host_leaves_the_guest_above_it_running() {
    let text = r#"(module (import "h" "again" (func $again (param i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "down") (param i32) (result i32) (local i32)
        (if (i32.eqz (local.get 0)) (then (return (i32.load (i32.const 65535)))))
        (local.set 1 (call $again (i32.sub (local.get 0) (i32.const 1))))
        (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (local.get 1)))
        (i32.load (i32.const 16)))
      (func (export "beyond") (param i32) (result i32)
        (drop (call $again (local.get 0))) (i32.load offset=65533 (i32.const 0))))"#;
    for engine in guarded() {
        let module = module(&engine, "nested", text);
        let mut store = Store::new(&engine, None::<Instance>);
        // What traps below gives 1000, what does not one more than its result.
        let again = Func::wrap(
            &mut store,
            |mut caller: Caller<'_, Option<Instance>>, n: i32| {
                let instance = (*caller.data()).expect("the instance");
                let down = instance
                    .get_typed_func::<i32, i32>(&mut caller, "down")
                    .expect("a function");
                match down.call(&mut caller, n) {
                    Ok(value) => value + 1,
                    Err(error) => {
                        let code = error.trap().map(Trap::code);
                        assert_eq!(code, Some(TrapCode::MemoryOutOfBounds), "{error}");
                        1000
                    }
                }
            },
        );
        let instance = Instance::new(&mut store, &module, &[again.into()]).expect("an instance");
        *store.data_mut() = Some(instance);
        let down = instance
            .get_typed_func::<i32, i32>(&mut store, "down")
            .expect("a function");
        let memory = instance.get_memory(&mut store, "memory").expect("a memory");
        for _ in 0..50 {
            memory.write(&mut store, 16, &[0; 4]).expect("in bounds");
            // 1000; then twice that and 1; then twice that and 1.
            assert_eq!(down.call(&mut store, 3).ok(), Some(4003));
            let beyond = instance
                .get_typed_func::<i32, i32>(&mut store, "beyond")
                .expect("a function");
            let error = beyond.call(&mut store, 2).expect_err("a trap");
            let frames = &error.trap().expect("a trap").backtrace().frames;
            let names: Vec<_> = frames
                .iter()
                .map(|frame| frame.function.as_deref())
                .collect();
            assert_eq!(names, [Some("beyond")]);
        }
    }
}

#[test]
fn a_hundred_thousand_traps_in_a_row_cost_nothing_that_lasts() {
    for engine in guarded() {
        let mut store = Store::new(&engine, ());
        let instance = instance(&mut store, "peek", PEEK, &[]);
        let peek = instance
            .get_typed_func::<i32, i32>(&mut store, "peek")
            .expect("a function");
        for round in 0..100_000 {
            let error = peek.call(&mut store, 65_536 + round);
            assert!(error.is_err(), "round {round}");
        }
        assert_eq!(peek.call(&mut store, 65_535).ok(), Some(0));
    }
}

#[test]
fn threads_trap_at_once_each_on_its_own() {
    const THREADS: i32 = 8;
    for engine in guarded() {
        let barrier = Barrier::new(THREADS as usize);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (engine, barrier) = (&engine, &barrier);
                scope.spawn(move || {
                    let mut store = Store::new(engine, ());
                    let instance = instance(&mut store, "peek", PEEK, &[]);
                    call(&mut store, instance, "poke", &[thread * 4, thread + 1])
                        .expect("in bounds");
                    barrier.wait();
                    for round in 0..3_000 {
                        is_out_of_bounds(&call(&mut store, instance, "peek", &[-round - 1]));
                        is_out_of_bounds(&call(&mut store, instance, "poke", &[65_533, round]));
                        let found = call(&mut store, instance, "peek", &[thread * 4]);
                        assert_eq!(found.ok(), Some(thread + 1));
                    }
                });
            }
        });
    }
}

#[test]
fn limits_and_budgets_count_what_a_memory_has_and_not_what_it_reserves() {
    for dispatch in [Dispatch::TailCall, Dispatch::Loop] {
        let mut config = engine(dispatch, true).config().clone();
        config.limits.memory_bytes = 3 << 16;
        let mut store = Store::new(&Engine::new(config), ());
        let ty = |minimum| MemoryType {
            minimum,
            maximum: None,
        };
        let first = Memory::new(&mut store, ty(1)).expect("within the budget");
        let second = Memory::new(&mut store, ty(1)).expect("within the budget");
        assert!(Memory::new(&mut store, ty(2)).is_err());
        assert_eq!(first.grow(&mut store, 1).ok(), Some(1));
        assert!(second.grow(&mut store, 1).is_err());
    }
}
