//! `Config::native_libc`: native code against the guest's own functions, which go byte by byte.

#[path = "faults/support.rs"]
#[allow(dead_code)]
mod support;

use dynlink::{Config, Dispatch, Engine, Instance, Memory, Module, Store, TrapCode, Val};
use support::Random;

const LIBC: &[u8] = include_bytes!("native/libc.wasm");

/// Bytes of the module's memory.
const SIZE: usize = 65_536;

/// Each function with what its parameters are: a place, a byte, a length.
const FUNCTIONS: [(&str, &str); 12] = [
    ("memcpy", "ppl"),
    ("memmove", "ppl"),
    ("memset", "pbl"),
    ("memcmp", "ppl"),
    ("memchr", "pbl"),
    ("strlen", "p"),
    ("strnlen", "pl"),
    ("strcmp", "pp"),
    ("strncmp", "ppl"),
    ("strchr", "pb"),
    ("strrchr", "pb"),
    ("strcpy", "pp"),
];

struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl Guest {
    fn new(change: impl FnOnce(&mut Config)) -> Guest {
        let mut config = Config::default();
        change(&mut config);
        let engine = Engine::new(config);
        let module = Module::new(&engine, LIBC).unwrap();
        let mut store = Store::new(&engine, ());
        if engine.config().fuel {
            store.set_fuel(1 << 40).unwrap();
        }
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        Guest {
            store,
            instance,
            memory,
        }
    }

    fn call(&mut self, name: &str, arguments: &[u32]) -> Result<i32, TrapCode> {
        let func = self.instance.get_func(&mut self.store, name).unwrap();
        let arguments: Vec<Val> = arguments
            .iter()
            .map(|argument| Val::I32(argument.cast_signed()))
            .collect();
        let mut results = [Val::I32(0)];
        match func.call(&mut self.store, &arguments, &mut results) {
            Ok(()) => Ok(results[0].i32().unwrap()),
            Err(error) => Err(error.trap().unwrap_or_else(|| panic!("{error}")).code()),
        }
    }
}

/// A memory of few different bytes, so that comparisons go on for a while, with strings of all lengths.
fn contents(random: &mut Random) -> Vec<u8> {
    let zeros = [3, 40, 5_000][random.below(3)];
    let high = random.below(2) == 0;
    (0..SIZE)
        .map(|_| match random.below(zeros) {
            0 => 0,
            _ if high => 0x7f + random.below(3) as u8,
            _ => b'a',
        })
        .collect()
}

fn place(random: &mut Random) -> u32 {
    let size = SIZE as u32;
    match random.below(8) {
        0 => size - random.below(40) as u32,
        1 => [0, size, size + 1, u32::MAX, u32::MAX - 3][random.below(5)],
        2 => 1_000 + random.below(64) as u32,
        _ => random.below(SIZE) as u32,
    }
}

fn length(random: &mut Random) -> u32 {
    match random.below(8) {
        0 => 0,
        1 => [SIZE as u32, SIZE as u32 + 1, u32::MAX][random.below(3)],
        2 => random.below(SIZE) as u32,
        _ => random.below(70) as u32,
    }
}

fn compare(dispatch: Dispatch, metered: bool, seed: u64, calls: usize) {
    let mut random = Random(seed);
    let mut own = Guest::new(|_| {});
    let mut native = Guest::new(|config| {
        config.native_libc = true;
        config.dispatch = dispatch;
        config.fuel = metered;
        config.interruption = metered;
    });
    let (mut traps, mut results) = (0, 0);
    for number in 0..calls {
        let (name, parameters) = FUNCTIONS[number % FUNCTIONS.len()];
        let mut arguments: Vec<u32> = parameters
            .chars()
            .map(|kind| match kind {
                'p' => place(&mut random),
                'l' => length(&mut random),
                _ => [0, 1, 0x61, 0x80, 0x161, u32::MAX][random.below(6)],
            })
            .collect();
        // Near each other: that is where ranges overlap.
        if parameters.starts_with("pp") && random.below(3) == 0 {
            arguments[1] = arguments[0]
                .wrapping_add(random.below(40) as u32)
                .wrapping_sub(20);
        }
        let [a, b] = [0, 1].map(|n| u64::from(*arguments.get(n).unwrap_or(&0)));
        let bytes = contents(&mut random);
        if matches!(name, "memcpy" | "strcpy") {
            // C does not say what comes of ranges that overlap.
            let length = match name {
                "memcpy" => u64::from(arguments[2]),
                _ => bytes
                    .get(b as usize..)
                    .and_then(|string| string.iter().position(|byte| *byte == 0))
                    .map_or(u64::MAX >> 1, |end| end as u64 + 1),
            };
            if a < b.saturating_add(length) && b < a.saturating_add(length) {
                continue;
            }
        }
        own.memory.write(&mut own.store, 0, &bytes).unwrap();
        native.memory.write(&mut native.store, 0, &bytes).unwrap();
        let expected = own.call(name, &arguments);
        let found = native.call(name, &arguments);
        assert_eq!(found, expected, "{name}{arguments:x?}");
        match found {
            Ok(_) => {
                results += 1;
                let same = own.memory.data(&own.store) == native.memory.data(&native.store);
                assert!(same, "{name}{arguments:x?}: other bytes");
            }
            Err(code) => {
                traps += 1;
                assert_eq!(code, TrapCode::MemoryOutOfBounds);
                // Nothing was written before the trap.
                let untouched = native.memory.data(&native.store) == bytes;
                assert!(untouched, "{name}{arguments:x?}: trapped after it wrote");
            }
        }
    }
    assert!(
        traps > calls / 50 && results > calls / 3,
        "{traps} {results}"
    );
}

#[test]
fn native_functions_do_what_the_guests_own_do() {
    compare(Dispatch::TailCall, false, 1, 6_000);
    compare(Dispatch::Loop, false, 2, 3_000);
    compare(Dispatch::TailCall, true, 3, 3_000);
}

#[test]
fn a_trap_in_native_code_names_the_guests_function() {
    let mut guest = Guest::new(|config| config.native_libc = true);
    let func = guest.instance.get_func(&mut guest.store, "memset").unwrap();
    let arguments = [Val::I32(65_530), Val::I32(0), Val::I32(7)];
    let error = func
        .call(&mut guest.store, &arguments, &mut [Val::I32(0)])
        .unwrap_err();
    assert!(error.to_string().contains("out of bounds"), "{error}");
    assert!(format!("{error:?}{error}").contains("memset"), "{error}");
}

#[test]
fn native_code_pays_for_what_it_does() {
    let fuel_for = |name: &str, arguments: &[u32]| {
        let mut guest = Guest::new(|config| {
            config.native_libc = true;
            config.fuel = true;
        });
        guest.store.set_fuel(1_000_000).unwrap();
        guest.call(name, arguments).unwrap();
        1_000_000 - guest.store.get_fuel().unwrap()
    };
    let short = fuel_for("memset", &[0, 1, 64]);
    let long = fuel_for("memset", &[0, 1, 65_536]);
    assert_eq!(long - short, 1023);
    assert!(fuel_for("memcmp", &[0, 100, 60_000]) > 900);
    // Memory that is too large for the fuel left stays as it is.
    let mut guest = Guest::new(|config| {
        config.native_libc = true;
        config.fuel = true;
    });
    guest.store.set_fuel(100).unwrap();
    assert_eq!(
        guest.call("memset", &[0, 1, 65_536]),
        Err(TrapCode::OutOfFuel)
    );
    assert!(
        guest
            .memory
            .data(&guest.store)
            .iter()
            .all(|byte| *byte == 0)
    );
}

/// A memory larger than the pieces that native code works in.
const LARGE: &str = r#"(module (memory (export "memory") 4097)
    (func (export "memset") (param i32 i32 i32) (result i32) unreachable)
    (func (export "memmove") (param i32 i32 i32) (result i32) unreachable)
    (func (export "strcpy") (param i32 i32) (result i32) unreachable)
    (func (export "fill") (param i32 i32 i32) (result i32)
        (memory.fill (local.get 0) (local.get 1) (local.get 2)) (local.get 0))
    (func (export "copy") (param i32 i32 i32) (result i32)
        (memory.copy (local.get 0) (local.get 1) (local.get 2)) (local.get 0)))"#;

/// Bytes of a piece.
const PIECE: usize = 8 << 20;

fn large(change: impl FnOnce(&mut Config)) -> Guest {
    let mut config = Config {
        native_libc: true,
        ..Config::default()
    };
    change(&mut config);
    let engine = Engine::new(config);
    let module = Module::new(&engine, &wat::parse_str(LARGE).unwrap()).unwrap();
    let mut store = Store::new(&engine, ());
    if engine.config().fuel {
        store.set_fuel(1_000).unwrap();
    }
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    Guest {
        store,
        instance,
        memory,
    }
}

#[test]
fn what_there_is_not_enough_fuel_for_writes_nothing() {
    let mut guest = large(|config| config.fuel = true);
    // Enough for two pieces of three, so the first two could be written before the fuel is short.
    let piece = PIECE as u32;
    let two = 2 * PIECE as u64 / 64 + 1_000;
    let string = vec![b'a'; 3 * PIECE];
    guest.memory.write(&mut guest.store, 0, &string).unwrap();
    let before = guest.memory.data(&guest.store).to_vec();
    // The string is also looked at, for its end.
    for (name, arguments, fuel) in [
        ("memset", &[0, 1, 3 * piece][..], two),
        ("memmove", &[piece, 0, 3 * piece], two),
        ("memmove", &[0, 3, 3 * piece], two),
        ("strcpy", &[4 * piece, 0], two * 2),
        ("fill", &[0, 1, 3 * piece], two),
        ("copy", &[piece, 0, 3 * piece], two),
    ] {
        guest.store.set_fuel(fuel).unwrap();
        let outcome = guest.call(name, arguments);
        assert_eq!(outcome, Err(TrapCode::OutOfFuel), "{name}");
        let untouched = guest.memory.data(&guest.store) == before;
        assert!(untouched, "{name} wrote what there was no fuel for");
        guest.store.set_fuel(fuel * 2).unwrap();
        assert_eq!(guest.call(name, arguments), Ok(arguments[0].cast_signed()));
        guest.memory.write(&mut guest.store, 0, &before).unwrap();
    }
}

#[test]
fn interruption_leaves_whole_pieces_from_the_end_where_the_copy_began() {
    let mut guest = large(|config| config.interruption = true);
    let count = 31;
    let length = (count * PIECE) as u32;
    for (name, backwards) in [
        ("memset", false),
        ("fill", false),
        ("memmove", true),
        ("copy", true),
    ] {
        let size = guest.memory.data(&guest.store).len();
        let blank = vec![0; size];
        guest.memory.write(&mut guest.store, 0, &blank).unwrap();
        let arguments = if backwards {
            for (piece, mark) in (0..=count).zip(1..) {
                guest
                    .memory
                    .write(&mut guest.store, piece * PIECE, &[mark])
                    .unwrap();
            }
            [PIECE as u32, 0, length]
        } else {
            [0, 7, length]
        };
        // Moving 248 MiB takes longer, wherever this runs.
        let deadline = std::time::Duration::from_millis(3);
        guest.store.set_deadline(Some(deadline)).unwrap();
        let outcome = guest.call(name, &arguments);
        assert_eq!(outcome, Err(TrapCode::Interrupted), "{name}");
        guest.store.set_deadline(None).unwrap();
        let memory = guest.memory.data(&guest.store);
        if backwards {
            // A piece that was copied begins with the mark of the one below it.
            let copied = |piece: &usize| usize::from(memory[piece * PIECE]) == *piece;
            let kept = (0..=count).take_while(|piece| !copied(piece)).count();
            assert!(kept > 1, "{name} came to its end");
            assert!((kept..=count).all(|piece| copied(&piece)), "{name} {kept}");
            assert!(
                memory[kept * PIECE + 1..]
                    .iter()
                    .step_by(PIECE)
                    .all(|byte| *byte == 0)
            );
        } else {
            let end = memory.iter().position(|byte| *byte == 0).unwrap();
            assert!(end % PIECE == 0 && end < count * PIECE, "{name} {end}");
            assert!(memory[end..].iter().all(|byte| *byte == 0), "{name}");
        }
    }
}

#[test]
fn functions_are_the_guests_own_unless_it_is_asked_for() {
    // A function that only goes by the name.
    let text =
        r#"(module (memory 1) (func (export "strlen") (param i32) (result i32) i32.const -7))"#;
    for (native, expected) in [(false, -7), (true, 0)] {
        let engine = Engine::new(Config {
            native_libc: native,
            ..Config::default()
        });
        let module = Module::new(&engine, &wat::parse_str(text).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let strlen = instance
            .get_typed_func::<i32, i32>(&mut store, "strlen")
            .unwrap();
        assert_eq!(strlen.call(&mut store, 5).unwrap(), expected);
    }
}
