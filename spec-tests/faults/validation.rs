//! The engine's quick check of modules held against wasmparser's validator: whatever is done to a module, the engine
//! accepts nothing that the validator rejects.
//!
//! `DYNLINK_MUTATIONS=5000000 cargo test --release --test faults validation` for a long run.

use crate::mutated::{corpus, hex};
use crate::support::Random;
use dynlink::{Config, Engine, ErrorKind, Instance, Module, Store, TrapCode};
use std::time::{Duration, Instant};
use wasmparser::{Validator, WasmFeatures};

/// Changed modules in the run without `DYNLINK_MUTATIONS`.
const MUTATIONS: usize = 60_000;

/// What the engine executes.
const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::GC_TYPES);

/// Bytes that mean much in a module: operators, types, numbers at the ends of their encodings.
const TELLING: &[u8] = &[
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x07, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12, 0x13,
    0x1a, 0x1b, 0x1c, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x28, 0x2b, 0x36, 0x39, 0x3f, 0x40,
    0x41, 0x42, 0x43, 0x44, 0x45, 0x6a, 0x7c, 0x7d, 0x7e, 0x7f, 0x60, 0x6f, 0x70, 0x80, 0x8a, 0xa7,
    0xc0, 0xc4, 0xc5, 0xd0, 0xd1, 0xd2, 0xfc, 0xff,
];

/// One to three changes: a byte anywhere, a telling byte, a bit, a byte more or less, a part copied over another.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = 8 + random.below(bytes.len().max(10) - 8);
        if at >= bytes.len() {
            return;
        }
        match random.below(8) {
            0 => bytes[at] = random.next() as u8,
            1..=3 => bytes[at] = TELLING[random.below(TELLING.len())],
            4 => bytes[at] ^= 1 << random.below(8),
            5 => {
                // An operator more, at the cost of the byte behind it.
                bytes.insert(at, TELLING[random.below(TELLING.len())]);
                let behind = (at + 1 + random.below(6)).min(bytes.len() - 1);
                bytes.remove(behind);
            }
            6 => bytes[at] = bytes[at].wrapping_add(1),
            _ => {
                let from = 8 + random.below(bytes.len() - 8);
                let length = random.below(12).min(bytes.len() - at.max(from));
                bytes.copy_within(from..from + length, at);
            }
        }
    }
}

#[test]
fn nothing_is_accepted_that_the_validator_rejects() {
    let mutations = std::env::var("DYNLINK_MUTATIONS").ok();
    let mutations = mutations.map_or(MUTATIONS, |text| text.parse().unwrap());
    let seed = std::env::var("DYNLINK_SEED").map_or(1, |text| text.parse().unwrap());
    let engine = Engine::default();
    let modules = corpus(1 << 12);
    assert!(modules.len() > 500, "{} modules", modules.len());
    let mut random = Random(seed);
    let mut valid = 0;
    for number in 0..mutations {
        // The largest number of functions for each byte is in the sink.
        let (name, module) = match number % 8 {
            0 => &modules[0],
            _ => &modules[random.below(modules.len())],
        };
        let mut bytes = module.clone();
        mutate(&mut bytes, &mut random);
        let rejection = Validator::new_with_features(FEATURES).validate_all(&bytes);
        match (Module::new(&engine, &bytes), rejection) {
            (Ok(_), Ok(_)) => valid += 1,
            (Ok(_), Err(rejection)) => {
                panic!(
                    "{name}, mutation {number}, was accepted: {rejection}\n{}",
                    hex(&bytes)
                )
            }
            // What stays valid is accepted, but for the limits of the engine and its own sections.
            (Err(error), Ok(_)) => assert!(
                !error.to_string().contains("invalid module"),
                "{name}, mutation {number}: {error}\n{}",
                hex(&bytes)
            ),
            (Err(_), Err(_)) => {}
        }
    }
    assert!(valid > mutations / 20, "only {valid} stayed valid");
}

fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = value as u8 & 0x7f;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// A module whose type 0 takes and gives a thousand numbers, with the function `f` of this body (without its end).
pub fn wide(body: &[u8]) -> Vec<u8> {
    let section = |id: u8, items: &[u8]| [vec![id], number(items.len()), items.to_vec()].concat();
    let thousand = [number(1_000), vec![0x7f; 1_000]].concat();
    let body = [&[0], body, &[0x0b]].concat();
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(
            1,
            &[&[2, 0x60], &*thousand, &thousand, &[0x60, 0, 0]].concat(),
        ),
        section(3, &[1, 1]),
        section(7, b"\x01\x01f\0\0"),
        section(10, &[vec![1], number(body.len()), body].concat()),
    ]
    .concat()
}

/// So many values, blocks of type `ty` that do nothing, and the values dropped.
pub fn blocks(values: usize, ty: u8, count: usize) -> Vec<u8> {
    let blocks = [0x02, ty, 0x0b].repeat(count);
    [[0x41, 0].repeat(values), blocks, vec![0x1a; values]].concat()
}

#[test]
fn blocks_that_take_a_thousand_values_are_validated_nearly_as_fast_as_others() {
    let time = |ty: u8| {
        let bytes = wide(&blocks(1_000, ty, 500_000));
        let engine = Engine::default();
        let times = (0..3).map(|_| {
            let start = Instant::now();
            Module::new(&engine, &bytes).unwrap_or_else(|error| panic!("{error}"));
            start.elapsed()
        });
        times.min().unwrap_or_default()
    };
    let (none, thousand) = (time(0x40), time(0));
    assert!(thousand < none * 60, "{thousand:?} and {none:?}");
}

#[test]
fn a_jump_table_that_takes_too_many_values_along_is_a_limit() {
    let table = |targets: usize| {
        let table = [vec![0x0e], number(targets), vec![0; targets + 1]].concat();
        // More values than the quick check keeps, so that the validator sees the table, too.
        let body = [
            [0x41, 0].repeat(5_000),
            vec![0x02, 0, 0x41, 0],
            table,
            vec![0x0b],
        ];
        wide(&[body.concat(), vec![0x1a; 5_000]].concat())
    };
    let engine = Engine::default();
    assert!(Module::new(&engine, &table(10_000)).is_ok());
    let start = Instant::now();
    let error = Module::new(&engine, &table(6_000_000)).expect_err("a limit");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    let ErrorKind::Limit { needed, .. } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(*needed, 6_000_000_000);
}

#[test]
fn a_deadline_ends_translation_and_lazy_validation() {
    // Deep stacks are for the thorough validator, at seconds for each megabyte of such blocks.
    for (values, lazy_validation) in [(1_000, false), (5_000, true)] {
        let engine = Engine::new(Config {
            interruption: true,
            lazy_validation,
            ..Config::default()
        });
        let bytes = wide(&blocks(values, 0, 500_000));
        let module = Module::new(&engine, &bytes).unwrap_or_else(|error| panic!("{error}"));
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let f = instance.get_func(&mut store, "f").unwrap();
        store.set_deadline(Some(Duration::from_millis(50))).unwrap();
        let start = Instant::now();
        let error = f.call(&mut store, &[], &mut []).expect_err("late");
        let code = error.trap().map(|trap| trap.code());
        assert_eq!(code, Some(TrapCode::Interrupted), "{error}");
        let time = start.elapsed();
        assert!(time < Duration::from_millis(1_500), "{time:?}");
    }
}
