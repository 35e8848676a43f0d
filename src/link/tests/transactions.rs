//! A load that fails at any step leaves the process as it was, fails the same way again, and succeeds when the cause is
//! gone (rule D14).
//!
//! A fault is made at every step of a load in turn (`Process::step`), then every growth is refused in turn, every
//! amount of fuel tried, tables and memories bounded. What must be equal before and after is written down by
//! `picture_of`: everything the linker knows, and everything in the store that guests can see or run.

use super::undone::CXA;
use super::*;
use crate::trap::TrapCode;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

/// A main module with an allocator that starts over when everything was given back; `settle` makes what is allocated
/// count as the program's own.
const MAIN: &str = r#"(module
  (@dylink.0)
  (import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))
  $IMPORTS
  (memory (export "memory") 2 $PAGES)
  (table (export "__indirect_function_table") 4 $SLOTS funcref)
  (global (export "__stack_pointer") (mut i32) (i32.const 65536))
  (global $heap (mut i32) (i32.const 66000))
  (global $floor (mut i32) (i32.const 66000))
  (global $live (mut i32) (i32.const 0))
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
    (global.set $live (i32.add (global.get $live) (i32.const 1)))
    (local.get $start))
  (func (export "free") (param i32)
    (global.set $live (i32.sub (global.get $live) (i32.const 1)))
    (if (i32.eqz (global.get $live)) (then (global.set $heap (global.get $floor)))))
  (func (export "settle")
    (global.set $floor (global.get $heap)) (global.set $live (i32.const 0)))
  (func (export "live") (result i32) (global.get $live))
  (global (export "datum") i32 (i32.const 2048))
  (data (i32.const 1024) "new.so\00")
  (data (i32.const 2048) "\2a\00\00\00")
  (func $three (export "three") (result i32) (i32.const 3))
  (elem (i32.const 1) $three)
  (func (export "load") (param i32) (result i32) (call $dlopen (i32.const 1024) (local.get 0)))
  $BODY)"#;

fn main_with(body: &str) -> String {
    MAIN.replace("$IMPORTS", "")
        .replace("$PAGES", "")
        .replace("$SLOTS", "")
        .replace("$BODY", &format!("{CXA} {body}"))
}

/// Everything that a failed load must leave as it was.
fn picture_of(world: &mut World) -> Vec<String> {
    let mut lines = Vec::new();
    let mut globals = Vec::new();
    {
        let state = world.process.state();
        for object in state.objects.values() {
            lines.push(format!(
                "{:?} {} {} instance {:?} memory {:?} table {:?} tls {:?} {:?} needed {:?} captured {:?} scope {:?} pending {} aliases {} strings {} opens {} stays {} {:?} constructed {} {} promoted {} created {:?}",
                object.id, object.name, object.path, object.instance, object.memory, object.table,
                object.tls_base, object.tls_memory, object.needed, object.captured, object.scope,
                object.pending.len(), object.aliases, object.guest_names.len(), object.opens,
                object.stays, object.status, object.began, object.constructed, object.promoted,
                object.created,
            ));
            for cell in object.cells.iter() {
                globals.push((object.id, cell.import, cell.target, cell.global));
            }
        }
        let mut names: Vec<_> = state.names.iter().chain(&state.identities).collect();
        names.sort();
        let mut instances: Vec<_> = state.instances.values().copied().collect();
        instances.sort_unstable();
        lines.push(format!("names {names:?} instances {instances:?}"));
        lines.push(format!(
            "main {:?} global {:?} stack {:?} {} heap {:?} busy {} loading {:?} error {:?} {:?} retired {:?} spent {} next {} counters {} {}",
            state.main, state.global, state.stack, state.owns_stack_pointer, state.heap, state.busy,
            state.loading, state.error, state.error_buffer, state.retired.len(), state.spent, state.next,
            state.constructed, state.promotions,
        ));
        lines.push(format!("indices {:?}", state.indices.listed()));
        let core = &world.store.inner.core;
        lines.push(format!(
            "tables' budget {}, held groups {}",
            core.table_elements.used() - state.table.map_or(0, |table| table.size(&world.store)),
            core.held.len()
        ));
    }
    for (id, import, target, global) in globals {
        let value = global.get(&mut world.store);
        let fields = world
            .store
            .inner
            .core
            .code
            .relocations((global.group, global.place));
        lines.push(format!(
            "cell of {id:?} for import {import}: {target:?} {global:?} = {value:?}, folded into {fields:?}"
        ));
    }
    if let Some(table) = world.process.table() {
        for slot in 0..table.size(&world.store) {
            let held = table.get(&mut world.store, slot);
            let available = world.process.state().slots.is_available(slot);
            if !matches!(held, Some(crate::runtime::Ref::Func(None))) || !available {
                lines.push(format!("slot {slot}: {held:?}, available: {available}"));
            }
        }
    }
    if let Some(memory) = world.process.memory() {
        let free = world.process.state().loader_memory.total();
        lines.push(format!(
            "memory in use: {}",
            (memory.size(&world.store) << 16) - free
        ));
        let low = memory
            .data(&world.store)
            .get(1024..60_000)
            .unwrap_or_default();
        lines.push(format!(
            "low memory {}",
            hash(low.iter().map(|byte| u64::from(*byte)))
        ));
    }
    if let Some(pointer) = world.process.stack_pointer() {
        lines.push(format!("stack pointer {:?}", pointer.get(&mut world.store)));
    }
    if world.process.main_instance().is_some() {
        lines.push(format!(
            "live blocks {}",
            world.call_main("live", &[]).unwrap_or(-1)
        ));
    }
    let core = &world.store.inner.core;
    let groups: Vec<u32> = core.groups.iter().map(|(number, _)| number).collect();
    lines.push(format!("groups {groups:?}"));
    for (start, code) in core.code.iter() {
        lines.push(format!(
            "code at {start:#x} of {}: {:#x}",
            code.group,
            hash(code.words.iter().copied())
        ));
    }
    lines
}

fn hash(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(5)
    })
}

#[track_caller]
fn same(before: &[String], after: &[String], what: &str) {
    let mut text = String::new();
    for line in before.iter().filter(|line| !after.contains(line)) {
        let _ = writeln!(text, "- {line}");
    }
    for line in after.iter().filter(|line| !before.contains(line)) {
        let _ = writeln!(text, "+ {line}");
    }
    assert!(
        before == after,
        "{what}: the failed load left a trace\n{text}"
    );
}

fn fail_at(world: &World, step: usize) {
    let faults = &world.process.0.faults;
    faults.steps.store(0, Relaxed);
    faults.fails_at.store(step, Relaxed);
}

fn steps(world: &World) -> usize {
    world.process.0.faults.steps.load(Relaxed)
}

/// A load that is made to fail, in a world that is ready for it.
struct Scenario<'a> {
    name: &'a str,
    prepare: &'a dyn Fn() -> World,
    load: &'a dyn Fn(&mut World) -> Result<()>,
    /// What the program does after a load that succeeded.
    check: &'a dyn Fn(&mut World),
}

impl Scenario<'_> {
    /// A world in which the same load has failed at these steps before: whatever old code that runs is translated, the
    /// memory has grown, host functions exist.
    fn ready(&self, failed_at: &[usize]) -> World {
        let mut world = (self.prepare)();
        for step in failed_at {
            fail_at(&world, *step);
            (self.load)(&mut world).unwrap_err();
        }
        world.process.dlerror();
        fail_at(&world, 0);
        world
    }

    /// Steps of the load in such a world.
    fn count(&self, failed_at: &[usize]) -> usize {
        let mut world = self.ready(failed_at);
        (self.load)(&mut world).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let count = steps(&world);
        (self.check)(&mut world);
        count
    }

    /// Fails the load at every step; gives the number of faults.
    fn inject(&self) -> usize {
        // The first load may take more steps than later ones, because it grows the table.
        let mut late = Vec::new();
        for _ in 0..4 {
            late.push(self.count(&late));
        }
        let last = self.count(&late);
        for step in 1..=last {
            let what = format!("{}, step {step} of {last}", self.name);
            let mut world = self.ready(&late);
            let before = picture_of(&mut world);
            let mut texts = Vec::new();
            for _ in 0..2 {
                fail_at(&world, step);
                let result = (self.load)(&mut world);
                if result.is_ok() && texts.len() == 1 && steps(&world) < step {
                    // What the first failure freed was used instead of growing the table again.
                    continue;
                }
                let Err(error) = result else {
                    panic!("{what}: the load did not fail");
                };
                texts.push(error.to_string());
                world.process.dlerror();
                same(&before, &picture_of(&mut world), &what);
                assert_eq!(texts[0], error.to_string(), "{what}");
            }
            assert!(
                texts[0].contains(&format!("injected fault at step {step}")),
                "{what}: {}",
                texts[0]
            );
            fail_at(&world, 0);
            (self.load)(&mut world)
                .unwrap_or_else(|error| panic!("{what}, without the fault: {error}"));
            (self.check)(&mut world);
        }
        eprintln!("{}: {last} steps", self.name);
        last
    }

    /// Refuses every growth of memory and table in turn; gives the number of refusals that failed the load.
    fn refuse(&self) -> usize {
        let mut world = (self.prepare)();
        world.store.limiter(|data| data);
        (self.load)(&mut world).unwrap();
        let last = world.store.data().asked;
        let mut failed = 0;
        for number in 1..=last {
            let what = format!("{}, growth {number} of {last} refused", self.name);
            let mut world = (self.prepare)();
            world.store.limiter(|data| data);
            let load = |world: &mut World| {
                world.store.data_mut().asked = 0;
                world.store.data_mut().refused = number;
                let result = (self.load)(world);
                world.process.dlerror();
                result
            };
            let Err(first) = load(&mut world) else {
                // The guest's allocator or the linker asked for less and went on.
                continue;
            };
            failed += 1;
            assert!(
                first.to_string().contains("limit reached"),
                "{what}: {first}"
            );
            // The first failure may have translated old code and grown what it could.
            let before = picture_of(&mut world);
            if let Err(second) = load(&mut world) {
                same(&before, &picture_of(&mut world), &what);
                assert!(
                    second.to_string().contains("limit reached"),
                    "{what}: {second}"
                );
            }
            let mut world = (self.prepare)();
            world.store.limiter(|data| data);
            load(&mut world).unwrap_err();
            world.store.data_mut().refused = 0;
            (self.load)(&mut world)
                .unwrap_or_else(|error| panic!("{what}, allowed again: {error}"));
            (self.check)(&mut world);
        }
        failed
    }
}

fn open(world: &mut World) -> Result<()> {
    world.open("new.so").map(drop)
}

fn open_global(world: &mut World) -> Result<()> {
    world
        .open_with("new.so", OpenFlags::NOW | OpenFlags::GLOBAL)
        .map(drop)
}

/// Lets the guest open it.
fn guest_opens(world: &mut World) -> Result<()> {
    match world.call_main("load", &[258])? {
        0 => Err(Error::msg(world.process.dlerror().unwrap_or_default())),
        _ => Ok(()),
    }
}

/// The result of a function of `new.so`.
fn gives(world: &mut World, name: &str, expected: i32) {
    let handle = world.open("new.so").unwrap();
    assert_eq!(world.call(handle, name, &[]).unwrap(), expected);
}

/// A library with data, slots, cells, imports and registered destructors; `value` returns 42 + 3 + 5.
const PLAIN: &str = r#"
  (import "env" "log" (func $log (param i32)))
  (import "env" "three" (func $three (result i32)))
  (import "env" "__cxa_atexit" (func $atexit (param i32 i32 i32) (result i32)))
  (import "GOT.mem" "datum" (global $datum (mut i32)))
  (import "GOT.func" "three" (global $address (mut i32)))
  (import "GOT.func" "malloc" (global $malloc (mut i32)))
  (import "GOT.func" "own" (global $own_address (mut i32)))
  (import "GOT.mem" "own_datum" (global $own_datum (mut i32)))
  (global (export "own_datum") i32 (i32.const 8))
  (type $get (func (result i32)))
  (data (global.get $mb) "01234567\05\00\00\00")
  (func $own (export "own") (result i32) (i32.load (global.get $own_datum)))
  (func $destructor (param i32))
  (elem (global.get $tb) func $own $destructor)
  (func (export "value") (result i32)
    (i32.add (i32.load (global.get $datum))
      (i32.add (call_indirect (type $get) (global.get $address)) (call_indirect (type $get) (global.get $own_address)))))
  (func (export "__wasm_apply_data_relocs") (i32.store (global.get $mb) (global.get $malloc)))
  (func (export "__wasm_call_ctors")
    (drop (call $atexit (i32.add (global.get $tb) (i32.const 1)) (i32.const 1) (global.get $mb)))
    (call $log (i32.const 1)))
"#;

fn plain(needed: &str) -> String {
    library(
        &format!("(mem-info (memory 64 4) (table 2 0)) {needed}"),
        &format!("{BASES} {PLAIN}"),
    )
}

fn started(main: &str, list: &[(&str, &str)], old: &[(&str, OpenFlags)]) -> World {
    let mut world = World::started(main, list);
    for (name, flags) in old {
        world.open_with(name, *flags).unwrap();
    }
    world.call_main("settle", &[]).unwrap();
    world
}

const NOW: OpenFlags = OpenFlags::NOW;
const GLOBAL: OpenFlags = OpenFlags::NOW.union(OpenFlags::GLOBAL);

/// Runs all scenarios; gives what `run` gives for each.
fn every_scenario(run: impl Fn(&Scenario<'_>) -> usize) -> usize {
    let main = main_with("");
    let mut total = 0;
    let nothing = |_: &mut World| {};

    let new = plain("");
    total += run(&Scenario {
        name: "a plain library",
        prepare: &|| started(&main, &[("/lib/new.so", &new)], &[]),
        load: &open,
        check: &|world| gives(world, "value", 50),
    });

    // A chain with a cycle, a library that is there already, and one that two others need.
    let new = plain(r#"(needed "b.so" "c.so")"#);
    let b = library(
        r#"(mem-info (memory 16 2) (table 1 0)) (needed "c.so" "old.so")"#,
        &format!(
            r#"{BASES} (import "env" "c" (func $c (result i32))) (import "env" "own" (func $own (result i32)))
            (import "GOT.func" "own" (global $own_address (mut i32)))
            (elem (global.get $tb) func $own)
            (func (export "b") (result i32) (i32.add (call $c) (call $own)))"#
        ),
    );
    let c = library(
        r#"(mem-info (memory 16 2)) (needed "new.so")"#,
        &format!(
            r#"{BASES} (import "env" "old" (func $old (result i32)))
            (func (export "c") (result i32) (call $old))
            (func (export "__wasm_call_ctors") (drop (call $old)))"#
        ),
    );
    let old = library(
        "(mem-info (memory 16 2))",
        &format!(r#"{BASES} (func (export "old") (result i32) (i32.const 7))"#),
    );
    let list = [
        ("/lib/new.so", &*new),
        ("/lib/b.so", &*b),
        ("/lib/c.so", &*c),
        ("/lib/old.so", &*old),
    ];
    total += run(&Scenario {
        name: "needed libraries in a cycle, one of them loaded before",
        prepare: &|| started(&main, &list, &[("old.so", NOW)]),
        load: &open,
        check: &|world| {
            gives(world, "value", 50);
            gives(world, "b", 12);
        },
    });
    total += run(&Scenario {
        name: "a local library that becomes global with the one that needs it",
        prepare: &|| started(&main, &list, &[("old.so", NOW), ("old.so", NOW)]),
        load: &open_global,
        check: &|world| assert!(world.symbol(RTLD_DEFAULT, "old").is_ok()),
    });

    // Code that is running holds the values of cells as constants.
    let reader = library(
        "(mem-info (memory 16 2)) (import-info \"env\" \"maybe\" binding-weak undefined)",
        &format!(
            r#"{BASES} (import "GOT.mem" "datum" (global $datum (mut i32)))
            (import "GOT.func" "three" (global $three (mut i32)))
            (import "GOT.mem" "maybe" (global $maybe (mut i32)))
            (import "env" "load" (func $load (param i32) (result i32)))
            (type $get (func (result i32)))
            (func $look (export "look") (result i32)
              (i32.add (i32.load (global.get $datum))
                (i32.add (global.get $maybe) (call_indirect (type $get) (global.get $three)))))
            (func (export "go") (result i32)
              (local $before i32) (local $handle i32)
              (local.set $before (call $look))
              (local.set $handle (call $load (i32.const 258)))
              (if (i32.ne (local.get $before) (call $look)) (then unreachable))
              (local.get $handle))"#
        ),
    );
    let new = plain("").replace(
        r#"(func (export "value")"#,
        r#"(global (export "maybe") i32 (i32.const 4)) (func (export "value")"#,
    );
    let list = [("/lib/new.so", &*new), ("/lib/reader.so", &*reader)];
    total += run(&Scenario {
        name: "opened by running code that holds cells as constants",
        prepare: &|| started(&main, &list, &[("reader.so", GLOBAL)]),
        load: &|world| {
            let go = world.symbol(RTLD_DEFAULT, "go").unwrap();
            match world.call_slot(go, &[])? {
                0 => Err(Error::msg(world.process.dlerror().unwrap_or_default())),
                _ => Ok(()),
            }
        },
        check: &|world| {
            let look = world.symbol(RTLD_DEFAULT, "look").unwrap();
            assert_eq!(world.call_slot(look, &[]).unwrap(), 45);
        },
    });

    let new = library(
        "(mem-info (memory 16 2))",
        &format!(
            r#"{BASES} (global $tls (mut i32) (i32.const 0))
            (global (export "__tls_size") i32 (i32.const 24)) (global (export "__tls_align") i32 (i32.const 8))
            (func (export "__wasm_init_tls") (param i32) (global.set $tls (local.get 0)) (i32.store (local.get 0) (i32.const 9)))
            (func (export "__wasm_call_ctors") (i32.store offset=4 (global.get $tls) (i32.const 1)))
            (func (export "value") (result i32) (i32.load (global.get $tls)))"#
        ),
    );
    total += run(&Scenario {
        name: "thread-local data",
        prepare: &|| started(&main, &[("/lib/new.so", &new)], &[]),
        load: &open,
        check: &|world| gives(world, "value", 9),
    });

    // A weak definition of its own, overridden by an older one; a call to it waits for the instance.
    let new = library(
        r#"(mem-info (memory 16 2) (table 1 0)) (needed "other.so")"#,
        &format!(
            r#"{BASES} (import "env" "weak" (func $weak (result i32))) (import "env" "mine" (func $mine (result i32)))
            (import "GOT.func" "weak" (global $a (mut i32))) (import "GOT.func" "mine" (global $b (mut i32)))
            (func (export "weak") (result i32) (i32.const 1)) (func (export "mine") (result i32) (i32.const 2))
            (elem (global.get $tb) func $mine)
            (func (export "value") (result i32) (i32.add (i32.mul (i32.const 10) (call $weak)) (call $mine)))"#
        ),
    );
    let other = library(
        r#"(needed "new.so")"#,
        r#"(import "env" "mine" (func $mine (result i32))) (func (export "other") (result i32) (call $mine))"#,
    );
    let old = library("", r#"(func (export "weak") (result i32) (i32.const 4))"#);
    let list = [
        ("/lib/new.so", &*new),
        ("/lib/other.so", &*other),
        ("/lib/old.so", &*old),
    ];
    total += run(&Scenario {
        name: "weak definitions, one of them overridden",
        prepare: &|| started(&main, &list, &[("old.so", GLOBAL)]),
        load: &open_global,
        check: &|world| gives(world, "value", 42),
    });

    // Constructors that open others: one that stands alone and is closed again, one that depends on the outer library.
    let new = library(
        "(mem-info (memory 64 2) (table 1 0))",
        &format!(
            r#"{BASES} (import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))
            (import "env" "dlclose" (func $dlclose (param i32) (result i32)))
            (data (global.get $mb) "alone.so\00dependent.so\00")
            (func $base (export "base") (result i32) (i32.const 6))
            (elem (global.get $tb) func $base)
            (func (export "__wasm_call_ctors")
              (local $alone i32) (local $dependent i32)
              (local.set $alone (call $dlopen (global.get $mb) (i32.const 258)))
              (local.set $dependent (call $dlopen (i32.add (global.get $mb) (i32.const 9)) (i32.const 258)))
              ;; What finished on its own would stay, as it should, so it goes in any case.
              (if (local.get $alone) (then (drop (call $dlclose (local.get $alone)))))
              (if (i32.eqz (local.get $alone)) (then unreachable))
              (if (i32.eqz (local.get $dependent)) (then unreachable)))"#
        ),
    );
    let alone = plain("");
    let dependent = library(
        "(mem-info (memory 16 2))",
        &format!(
            r#"{BASES} (import "env" "base" (func $base (result i32))) (import "GOT.func" "base" (global $b (mut i32)))
            (func (export "value") (result i32) (call $base))
            (func (export "__wasm_call_ctors") (drop (call $base)))"#
        ),
    );
    let list = [
        ("/lib/new.so", &*new),
        ("/lib/alone.so", &*alone),
        ("/lib/dependent.so", &*dependent),
    ];
    let nested = Profile {
        constructor_trap: ConstructorTrap::FailsTheLoad,
        ..Profile::default()
    };
    total += run(&Scenario {
        name: "constructors that open and close libraries",
        prepare: &|| {
            let mut world = World::new(nested.clone(), &list);
            world.start(&main).unwrap();
            world.call_main("settle", &[]).unwrap();
            world
        },
        load: &|world| {
            let result = open_global(world);
            let inner = world.process.dlerror();
            result.map_err(|error| match inner {
                // The constructor saw the error of its own `dlopen` and trapped.
                Some(inner) => Error::msg(format!("{error}: {inner}")),
                None => error,
            })
        },
        check: &|world| {
            let value = world.symbol(RTLD_DEFAULT, "value").unwrap();
            assert_eq!(world.call_slot(value, &[]).unwrap(), 6);
        },
    });

    // An old library calls a function that only the new one defines, while the new one is constructed.
    let lazy = library(
        "(mem-info (memory 16 2) (table 1 0))",
        &format!(
            r#"{BASES} (import "env" "later" (func $later (result i32)))
            (elem (global.get $tb) func $later)
            (func (export "use_later") (result i32) (call $later))"#
        ),
    );
    let new = library(
        "(mem-info (memory 16 2))",
        &format!(
            r#"{BASES} (import "env" "use_later" (func $use (result i32)))
            (func (export "later") (result i32) (i32.const 8))
            (func (export "__wasm_call_ctors") (if (i32.ne (call $use) (i32.const 8)) (then unreachable)))"#
        ),
    );
    let list = [("/lib/new.so", &*new), ("/lib/lazy.so", &*lazy)];
    total += run(&Scenario {
        name: "an old library with a function that is not bound yet",
        prepare: &|| {
            started(
                &main,
                &list,
                &[("lazy.so", OpenFlags::LAZY | OpenFlags::GLOBAL)],
            )
        },
        load: &open_global,
        check: &|world| {
            let lazy = world.symbol(RTLD_DEFAULT, "use_later").unwrap();
            assert_eq!(world.call_slot(lazy, &[]).unwrap(), 8);
        },
    });

    let new = plain("").replace("(table 2 0)", "(table 300 3)");
    total += run(&Scenario {
        name: "a table that grows, opened by the guest",
        prepare: &|| started(&main, &[("/lib/new.so", &new)], &[]),
        load: &guest_opens,
        check: &|world| gives(world, "value", 50),
    });

    let bare = main
        .replace("(export \"malloc\")", "(export \"other_malloc\")")
        .replace(
            "(global (export \"__stack_pointer\")",
            "(global $own_stack_pointer",
        );
    let new = library(
        "(mem-info (memory 100000 4) (table 1 0))",
        &format!(
            r#"{BASES} (import "env" "__stack_pointer" (global $sp (mut i32)))
            (func $f (export "value") (result i32) (global.set $sp (i32.sub (global.get $sp) (i32.const 16))) (i32.load (global.get $mb)))
            (elem (global.get $tb) func $f)
            (func (export "__wasm_call_ctors")
              (global.set $sp (i32.sub (global.get $sp) (i32.const 16)))
              (i32.store (global.get $mb) (i32.const 5)))"#
        ),
    );
    let small_stack = Profile {
        stack_bytes: 4096,
        ..Profile::default()
    };
    total += run(&Scenario {
        name: "memory and a stack that the linker provides",
        prepare: &|| {
            let mut world = World::new(small_stack.clone(), &[("/lib/new.so", &new)]);
            world.start(&bare).unwrap();
            world
        },
        load: &open,
        check: &|world| gives(world, "value", 5),
    });

    // The start of a position-independent program with its libraries.
    let position_independent = r#"(module (@dylink.0 (mem-info (memory 64 4) (table 1 0)) (needed "new.so"))
        (import "env" "memory" (memory 1)) (import "env" "__indirect_function_table" (table 1 funcref))
        (import "env" "__memory_base" (global $mb i32)) (import "env" "__table_base" (global $tb i32))
        (import "env" "__stack_pointer" (global $sp (mut i32)))
        (import "env" "value" (func $value (result i32))) (import "GOT.func" "value" (global $v (mut i32)))
        (import "GOT.mem" "__heap_base" (global $heap (mut i32)))
        (func $three (export "three") (result i32) (i32.const 3)) (elem (global.get $tb) func $three)
        (func (export "live") (result i32) (i32.const 0))
        (func (export "__wasm_call_ctors") (drop (call $value)) (drop (global.get $heap))))"#;
    let new = library(
        "(mem-info (memory 32 2) (table 1 0))",
        &format!(
            r#"{BASES} (import "env" "three" (func $three (result i32)))
            (func $f (export "value") (result i32) (call $three)) (elem (global.get $tb) func $f)
            (func (export "__wasm_call_ctors") (drop (call $three)))"#
        ),
    );
    total += run(&Scenario {
        name: "the start of a position-independent program",
        prepare: &|| World::new(Profile::default(), &[("/lib/new.so", &new)]),
        load: &|world| world.start(position_independent),
        check: &nothing,
    });
    let fixed = main.replace("(@dylink.0)", r#"(@dylink.0 (needed "new.so"))"#);
    let fixed = fixed.replace(
        r#"(import "env" "dlopen""#,
        r#"(import "env" "value" (func $value (result i32))) (import "env" "dlopen""#,
    );
    let fixed = fixed.replace(
        "(elem (i32.const 1) $three)",
        "(elem (i32.const 1) $three $value)",
    );
    total += run(&Scenario {
        name: "the start of a program with fixed addresses and a library's function in its table",
        prepare: &|| World::new(Profile::default(), &[("/lib/new.so", &new)]),
        load: &|world| world.start(&fixed),
        check: &|world| assert_eq!(world.call_slot(2, &[]).unwrap(), 3),
    });
    total
}

#[test]
fn a_fault_at_any_step_of_any_load_leaves_no_trace() {
    let faults = every_scenario(|scenario| scenario.inject());
    eprintln!("{faults} steps at which a load failed twice");
    assert!(faults >= 300, "{faults}");
}

#[test]
fn growth_that_is_refused_at_any_point_of_any_load_leaves_no_trace() {
    let refusals = every_scenario(|scenario| scenario.refuse());
    eprintln!("{refusals} refusals of growth");
    assert!(refusals >= 5, "{refusals}");
}

#[test]
fn fuel_that_ends_at_any_point_of_a_load_leaves_no_trace_but_memory_that_the_linker_keeps() {
    let new = plain(r#"(needed "b.so")"#);
    let b = plain("")
        .replace("\"own", "\"other")
        .replace("own\"", "other\"");
    let prepare = || {
        let config = Config {
            fuel: true,
            ..Config::default()
        };
        let list = files(&[("/lib/new.so", &new), ("/lib/b.so", &b)]);
        let mut world = World::with_config(config, Profile::default(), list);
        world.store.set_fuel(u64::MAX).unwrap();
        world.start(&main_with("")).unwrap();
        world.call_main("settle", &[]).unwrap();
        world
    };
    let total = {
        let mut world = prepare();
        let before = world.store.get_fuel().unwrap();
        guest_opens(&mut world).unwrap();
        before - world.store.get_fuel().unwrap()
    };
    // Nothing of the guest runs after the stop, so what its allocator gave stays with the linker.
    let without_memory = |world: &mut World| -> Vec<String> {
        world.store.set_fuel(u64::MAX).unwrap();
        let mut lines = picture_of(world);
        lines.retain(|line| {
            !["memory in use", "live blocks", "low memory"]
                .iter()
                .any(|start| line.starts_with(start))
        });
        lines
    };
    let mut world = prepare();
    for fuel in [total - 1, total - 2, total / 2] {
        world.store.set_fuel(fuel).unwrap();
        guest_opens(&mut world).unwrap_err();
    }
    let before = without_memory(&mut world);
    let mut stops = 0;
    let mut fuel = 1;
    while fuel < total {
        world.store.set_fuel(fuel).unwrap();
        let error = guest_opens(&mut world).unwrap_err();
        let code = error.trap().map(|trap| trap.code());
        assert_eq!(
            code,
            Some(TrapCode::OutOfFuel),
            "{fuel} of {total}: {error}"
        );
        assert_eq!(world.process.dlerror(), None);
        same(
            &before,
            &without_memory(&mut world),
            &format!("fuel {fuel} of {total}"),
        );
        stops += 1;
        // Where guest code runs, every unit counts; a search for a file costs a thousand.
        fuel += if total - fuel < 600 { 1 } else { 97 };
    }
    eprintln!("{stops} amounts of fuel that did not suffice");
    assert!(stops >= 100, "{stops}");
    world.store.set_fuel(u64::MAX).unwrap();
    guest_opens(&mut world).unwrap();
    gives(&mut world, "value", 50);
}

#[test]
fn tables_and_memories_with_any_maximum_hold_the_library_or_are_left_as_they_were() {
    let new = plain(r#"(needed "big.so")"#);
    let big = library("(mem-info (memory 150000 4) (table 40 2))", BASES);
    let list = [("/lib/new.so", &*new), ("/lib/big.so", &*big)];
    let (mut failed, mut loaded) = (0, 0);
    let bounds = (4..60)
        .map(|slots| (slots, 100))
        .chain((2..8).map(|pages| (1000, pages)));
    for (slots, pages) in bounds {
        let main = MAIN
            .replace("$SLOTS", &slots.to_string())
            .replace("$PAGES", &pages.to_string())
            .replace("$IMPORTS", "")
            .replace("$BODY", CXA);
        let mut world = started(&main, &list, &[]);
        let _ = open(&mut world);
        if world.names().len() > 1 {
            // There may be no slot left for the address of one more function.
            let handle = world.open("new.so").unwrap();
            match world.symbol(handle, "value") {
                Ok(slot) => assert_eq!(world.call_slot(slot, &[]).unwrap(), 50),
                Err(error) => assert!(error.to_string().contains("limit reached"), "{error}"),
            }
            loaded += 1;
            continue;
        }
        let before = picture_of(&mut world);
        let first = open(&mut world).unwrap_err().to_string();
        same(
            &before,
            &picture_of(&mut world),
            &format!("{slots} slots, {pages} pages"),
        );
        let second = open(&mut world).unwrap_err().to_string();
        assert_eq!(first, second);
        assert!(first.contains("limit reached"), "{first}");
        failed += 1;
    }
    assert!(failed >= 30 && loaded >= 10, "{failed} {loaded}");
}
