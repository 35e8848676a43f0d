//! Memory of the host: libraries that come and go leave none behind, and a system that has none left is an error of the
//! guest, not the end of the host. The allocator of this program counts, and fails when it is told to.

use dynlink::link::{MemoryFiles, OpenFlags, Process, Profile};
use dynlink::{
    Config, Engine, Error, ErrorKind, Instance, Memory, MemoryType, Module, Ref, RefType, Store,
    Table, TableType, Val,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Watched;

thread_local! {
    /// Bytes that this thread holds.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// Allocations of at least so many bytes count.
    static LARGE: Cell<usize> = const { Cell::new(usize::MAX) };
    /// Large allocations that succeed before one fails.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn count(change: isize) {
    // While a thread ends there is nothing left to count in.
    let _ = HELD.try_with(|held| held.set(held.get() + change));
}

/// Whether an allocation of this size is to fail.
fn fails(size: usize) -> bool {
    let large = LARGE.try_with(|large| size >= large.get()).unwrap_or(false);
    large
        && LEFT
            .try_with(|left| match left.get() {
                0 => true,
                more => {
                    left.set(more - 1);
                    false
                }
            })
            .unwrap_or(false)
}

// SAFETY: what does not fail goes to the system's allocator unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails(layout.size()) {
            return std::ptr::null_mut();
        }
        count(layout.size() as isize);
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if fails(layout.size()) {
            return std::ptr::null_mut();
        }
        count(layout.size() as isize);
        // SAFETY: the caller keeps the rules of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // A system does not fail to make a block smaller.
        if size > layout.size() && fails(size) {
            return std::ptr::null_mut();
        }
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller keeps the rules of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `pointer` comes from this allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

fn held() -> isize {
    HELD.with(Cell::get)
}

const BASES: &str = r#"
  (import "env" "memory" (memory 0))
  (import "env" "__indirect_function_table" (table 0 funcref))
  (import "env" "__memory_base" (global $mb i32))
  (import "env" "__table_base" (global $tb i32))
"#;

fn library(info: &str, body: &str) -> Vec<u8> {
    let text = format!("(module (@dylink.0 {info}) {BASES} {body})");
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Two programs: one with an allocator, one without, where the linker grows the memory itself.
fn mains() -> [Vec<u8>; 2] {
    let start = r#"(module (@dylink.0)
      (memory (export "memory") 2)
      (table (export "__indirect_function_table") 4 funcref)
      (global (export "__stack_pointer") (mut i32) (i32.const 65536))
      (global (export "datum") i32 (i32.const 2048))
      (func (export "twice") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))"#;
    let allocator = r#"
      (global $heap (mut i32) (i32.const 70000)) (global $live (mut i32) (i32.const 0))
      (func (export "malloc") (param $size i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
        (global.set $heap (i32.add (local.get $at) (local.get $size)))
        (global.set $live (i32.add (global.get $live) (i32.const 1)))
        (local.get $at))
      (func (export "free") (param i32)
        (global.set $live (i32.sub (global.get $live) (i32.const 1)))
        (if (i32.eqz (global.get $live)) (then (global.set $heap (i32.const 70000)))))"#;
    [format!("{start} {allocator})"), format!("{start})")].map(|text| wat::parse_str(text).unwrap())
}

/// Libraries of several kinds, and names of those that can be opened and of those that cannot.
fn shelf() -> (MemoryFiles, Vec<&'static str>, Vec<&'static str>) {
    let mut files = MemoryFiles::new();
    let plain = |number: usize| {
        format!(
            r#"(import "GOT.mem" "datum" (global $datum (mut i32))) (import "GOT.func" "twice" (global $twice (mut i32)))
            (import "GOT.func" "own{number}" (global $own (mut i32)))
            (import "env" "twice" (func $call_twice (param i32) (result i32)))
            (type $unary (func (param i32) (result i32)))
            (data (global.get $mb) "some data")
            (func $f (export "own{number}") (param i32) (result i32)
              (i32.add (i32.load (global.get $datum)) (call $call_twice (local.get 0))))
            (elem (global.get $tb) func $f)
            (func (export "run") (result i32)
              (call_indirect (type $unary) (i32.const {number}) (global.get $own)))
            (func (export "__wasm_call_ctors") (drop (call $call_twice (i32.const 1))))"#
        )
    };
    for number in 0..4 {
        let size = 32 << number;
        let info = format!(
            "(mem-info (memory {size} {number}) (table {} 0))",
            number + 1
        );
        files.insert(
            &format!("/lib/plain{number}.so"),
            library(&info, &plain(number)),
        );
    }
    let pair = library(
        r#"(mem-info (memory 64 2) (table 1 0)) (needed "plain0.so" "plain1.so")"#,
        &plain(9),
    );
    files.insert("/lib/pair.so", pair);
    let tls = r#"(global $tls (mut i32) (i32.const 0)) (global (export "__tls_size") i32 (i32.const 24))
        (global (export "__tls_align") i32 (i32.const 8))
        (func (export "__wasm_init_tls") (param i32) (global.set $tls (local.get 0)))
        (func (export "run") (result i32) (i32.load (global.get $tls)))"#;
    files.insert("/lib/tls.so", library("(mem-info (memory 16 2))", tls));
    let lazy = r#"(import "env" "nobody" (func $nobody)) (func (export "run") (result i32) (call $nobody) (i32.const 1))"#;
    files.insert("/lib/lazy.so", library("(mem-info (memory 16 2))", lazy));
    let traps = format!("{} (func (export \"_initialize\") unreachable)", plain(5));
    files.insert(
        "/lib/traps.so",
        library(
            r#"(mem-info (memory 64 2) (table 1 0)) (needed "plain2.so")"#,
            &traps,
        ),
    );
    let undefined = r#"(import "GOT.mem" "nobody" (global (mut i32)))"#;
    files.insert(
        "/lib/undefined.so",
        library(r#"(needed "plain3.so")"#, undefined),
    );
    files.insert(
        "/lib/needs.so",
        library(r#"(needed "plain3.so" "nowhere.so")"#, ""),
    );
    files.insert(
        "/lib/broken.so",
        b"\0asm\x01\0\0\0\x00\x0a\x08dylink.0\x07".to_vec(),
    );
    let good = vec![
        "plain0.so",
        "plain1.so",
        "plain2.so",
        "plain3.so",
        "pair.so",
        "tls.so",
        "lazy.so",
    ];
    let bad = vec![
        "traps.so",
        "undefined.so",
        "needs.so",
        "broken.so",
        "nowhere.so",
    ];
    (files, good, bad)
}

#[test]
fn ten_thousand_libraries_that_come_and_go_leave_no_memory_behind() {
    for main in mains() {
        let (files, good, bad) = shelf();
        let engine = Engine::default();
        let main = Module::new(&engine, &main).unwrap();
        let process = Process::builder()
            .profile(Profile::default())
            .files(files)
            .library_path("/lib")
            .build();
        let mut store = Store::new(&engine, ());
        process.start(&mut store, &main, "/main.wasm").unwrap();
        let mut figures = Vec::new();
        let mut opened = 0;
        for round in 0..1500 {
            for (place, name) in good.iter().enumerate() {
                let mut flags = match place % 2 {
                    0 => OpenFlags::LAZY,
                    _ => OpenFlags::NOW,
                };
                if *name == "lazy.so" {
                    flags = OpenFlags::LAZY;
                }
                flags.set(OpenFlags::GLOBAL, round % 3 == 0);
                let handle = process.dlopen(&mut store, Some(name), flags).unwrap();
                opened += 1;
                let run = process.dlsym(&mut store, handle, "run").unwrap();
                let table = process.table().unwrap();
                let Some(Ref::Func(Some(run))) = table.get(&mut store, run.into()) else {
                    panic!("no function in its slot");
                };
                let result = run.call(&mut store, &[], &mut [Val::I32(0)]);
                assert_eq!(result.is_ok(), *name != "lazy.so");
                if round % 2 == 0 {
                    let failing = bad[(round / 2 + place) % bad.len()];
                    process
                        .dlopen(&mut store, Some(failing), OpenFlags::NOW)
                        .unwrap_err();
                }
                process.dlclose(&mut store, handle).unwrap();
                assert_eq!(process.libraries().len(), 1);
            }
            // After the quarantine of slots is full, all rounds are alike.
            if [700, 1000, 1250, 1499].contains(&round) {
                let memory = process.memory().unwrap().size(&store);
                let table = process.table().unwrap().size(&store);
                figures.push((memory, table, held()));
            }
        }
        assert!(opened > 10_000);
        eprintln!("pages, slots, bytes of the host: {figures:?}");
        let (memory, table, bytes) = figures[0];
        for (later_memory, later_table, later_bytes) in &figures {
            assert_eq!((memory, table), (*later_memory, *later_table));
            // Numbers of groups are not used again, which costs a word for 256 of them.
            assert!((later_bytes - bytes).abs() < 16 << 10, "{figures:?}");
        }
    }
}

/// Runs something again and again, failing another large allocation each time, until none fails; gives how often.
fn fail_each(large: usize, run: impl Fn() -> Result<(), Error>) -> usize {
    for number in 0.. {
        LEFT.with(|left| left.set(number));
        LARGE.with(|size| size.set(large));
        let result = run();
        LARGE.with(|size| size.set(usize::MAX));
        let failed = LEFT.with(|left| left.replace(usize::MAX)) == 0;
        match result {
            Ok(()) => {
                // The last allocation may have succeeded with nothing left.
                if !failed || number > 10_000 {
                    return number;
                }
            }
            Err(error) => {
                assert!(failed, "{error}");
                assert!(
                    matches!(error.kind(), ErrorKind::Limit { .. }) || error.trap().is_some(),
                    "{error}"
                );
            }
        }
    }
    0
}

#[test]
fn memories_and_tables_that_find_no_memory_are_errors() {
    let engine = Engine::default();
    let memory_type = MemoryType {
        minimum: 3,
        maximum: None,
    };
    let table_type = TableType {
        element: RefType::Func,
        minimum: 10_000,
        maximum: None,
    };
    let failures = fail_each(64 << 10, || {
        let large = LARGE.with(|size| size.replace(usize::MAX));
        let mut store = Store::new(&engine, ());
        LARGE.with(|size| size.set(large));
        let memory = Memory::new(&mut store, memory_type)?;
        let table = Table::new(&mut store, table_type, Ref::Func(None))?;
        for _ in 0..3 {
            memory.grow(&mut store, 20)?;
            table.grow(&mut store, 30_000, Ref::Func(None))?;
        }
        Ok(())
    });
    eprintln!("{failures} allocations of memories and tables failed");
    assert!(failures >= 4, "{failures}");
}

/// Bodies that make each list of a translation long: branches to one place, nested loops, open blocks, jump tables,
/// operators that move a thousand values.
fn long_bodies() -> String {
    let numbers = "i32 ".repeat(1_000);
    let gets: String = (0..1_000).map(|n| format!("local.get {n} ")).collect();
    format!(
        r#"(module
        (type $wide (func (param {numbers}) (result {numbers})))
        (memory 1)
        (func $same (type $wide) {gets})
        (func (export "branches") (param i32) (block {branches}))
        (func (export "loops") {loops} {ends})
        (func (export "blocks") {blocks} {ends})
        (func (export "table") (param i32) (block (br_table {zeros} (local.get 0))))
        (func (export "wide") (param i32)
            {consts} call $same (block (type $wide) local.get 0 br_if 0 call $same) call $same {drops})
        (func (export "carried") (param i32)
            (block (type $wide_result) {consts} {carries}) {drops})
        (type $wide_result (func (result {numbers})))
        (func (export "stores") (param i32) {stores}))"#,
        branches = "(br_if 0 (local.get 0))".repeat(3_000),
        // The parser notes a byte for each, and has no error for that.
        loops = "loop ".repeat(500),
        blocks = "block ".repeat(500),
        ends = "end ".repeat(500),
        zeros = "0 ".repeat(5_000),
        consts = "i32.const 70000 ".repeat(1_000),
        carries = "local.get 0 br_if 0 ".repeat(20),
        drops = "drop ".repeat(1_000),
        stores = "(i32.store (local.get 0) (i32.const 7))".repeat(3_000),
    )
}

#[test]
fn translation_that_finds_no_memory_is_an_error() {
    let engine = Engine::new(Config {
        fuel: true,
        interruption: true,
        ..Config::default()
    });
    let module = Module::new(&engine, &wat::parse_str(long_bodies()).unwrap()).unwrap();
    for name in [
        "branches", "loops", "blocks", "table", "wide", "carried", "stores",
    ] {
        let failures = fail_each(1 << 10, || {
            let large = LARGE.with(|size| size.replace(usize::MAX));
            let mut store = Store::new(&engine, ());
            store.set_fuel(1 << 30)?;
            let instance = Instance::new(&mut store, &module, &[])?;
            let func = instance.get_func(&mut store, name).unwrap();
            let parameters: Vec<_> = func
                .ty(&store)
                .params()
                .iter()
                .map(|_| Val::I32(1))
                .collect();
            LARGE.with(|size| size.set(large));
            let outcome = func.call(&mut store, &parameters, &mut []);
            LARGE.with(|size| size.set(usize::MAX));
            // Nothing is left half done.
            func.call(&mut store, &parameters, &mut [])?;
            outcome
        });
        eprintln!("{name}: {failures} allocations of translation failed");
        assert!(failures >= 3, "{name}: {failures}");
    }
}

#[test]
fn translation_stays_within_the_configured_limit() {
    let mut config = Config::default();
    config.limits.translation_bytes = 64 << 10;
    let engine = Engine::new(config);
    let module = Module::new(&engine, &wat::parse_str(long_bodies()).unwrap()).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    for name in ["branches", "blocks", "table", "wide", "carried", "stores"] {
        let func = instance.get_func(&mut store, name).unwrap();
        let parameters: Vec<_> = func
            .ty(&store)
            .params()
            .iter()
            .map(|_| Val::I32(1))
            .collect();
        let error = func.call(&mut store, &parameters, &mut []).unwrap_err();
        assert!(
            error.to_string().contains("translation_bytes"),
            "{name}: {error}"
        );
        assert!(matches!(error.kind(), ErrorKind::Limit { .. }));
    }
}
