//! Tests with generated malformed input: dynamic linking sections, truncated modules, flipped bits.
#![forbid(unsafe_code)]

use super::dylink::tests::{file, leb, list, name, sizes, subsection};
use super::{DylinkInfo, Module};
use crate::config::Engine;
use crate::error::{Error, ErrorKind};

/// A generator of numbers that gives the same ones in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }
}

/// Cases counted, so that a test can tell that it tested something.
#[derive(Default)]
struct Cases {
    refused: usize,
    accepted: usize,
}

impl Cases {
    /// The section must be refused, by both ways to read it, with its name and a place inside the file.
    fn refused(&mut self, section: &str, contents: &[u8]) {
        let bytes = file(section, contents);
        let direct = DylinkInfo::read(&bytes).expect_err("a malformed section");
        self.check(section, &bytes, &direct);
        let module = Module::new(&Engine::default(), &bytes).expect_err("a malformed section");
        assert_eq!(module.to_string(), direct.to_string());
        self.refused += 1;
    }

    /// The section may be either, but a refusal names section and place.
    fn either(&mut self, section: &str, contents: &[u8]) {
        let bytes = file(section, contents);
        match DylinkInfo::read(&bytes) {
            Ok(info) => {
                assert!(info.is_some());
                self.accepted += 1;
            }
            Err(error) => {
                self.check(section, &bytes, &error);
                self.refused += 1;
            }
        }
    }

    fn check(&self, section: &str, bytes: &[u8], error: &Error) {
        let ErrorKind::Section {
            section: named,
            offset,
            reason,
        } = error.kind()
        else {
            panic!("{error}")
        };
        assert_eq!(*named, section);
        assert!((8..=bytes.len()).contains(offset), "{error}");
        assert!(!reason.is_empty());
    }
}

const INTERESTING: [u64; 12] = [
    0,
    1,
    127,
    128,
    255,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - (1 << 16),
    (1 << 32) - 2,
    (1 << 32) - 1,
    10_000_000,
];

/// A well-formed section with every kind of subsection.
fn good_section() -> Vec<u8> {
    let exports = [leb(1), name(b"tls"), leb(0x100)].concat();
    let imports = [leb(2), name(b"env"), name(b"weak"), leb(0x11)].concat();
    let imports = [imports, name(b"env"), name("größe".as_bytes()), leb(0)].concat();
    [
        subsection(1, &sizes(4096, 4, 12, 0)),
        subsection(2, &list(&["liba.so", "libb.so"])),
        subsection(3, &exports),
        subsection(4, &imports),
        subsection(5, &list(&["$ORIGIN", "/lib"])),
        subsection(6, b"unknown"),
    ]
    .concat()
}

#[test]
fn over_five_thousand_malformed_dylink_sections_are_refused_with_section_and_place() {
    let mut cases = Cases::default();
    let good = good_section();
    cases.either("dylink.0", &good);
    assert_eq!(cases.accepted, 1);

    // Alignments, and sizes that do not fit with them.
    for align in 17..=255 {
        for size in INTERESTING {
            cases.refused("dylink.0", &subsection(1, &sizes(size, align, 0, 0)));
            cases.refused("dylink.0", &subsection(1, &sizes(0, 0, size, align)));
            cases.refused("dylink", &[sizes(size, align, 0, 0), leb(0)].concat());
        }
    }
    for align in 0..=16 {
        for table in 10_000_001_u64..10_000_004 {
            cases.refused("dylink.0", &subsection(1, &sizes(0, 0, table, align)));
        }
        for memory in (1_u64 << 32) - (1 << align) + 2..1 << 32 {
            if memory > u64::from(u32::MAX) - 4 {
                cases.refused("dylink.0", &subsection(1, &sizes(memory, align, 0, 0)));
            }
        }
    }
    // Numbers that do not fit 32 bits or take more than five bytes, in every field.
    let long: [&[u8]; 4] = [
        &[0xff, 0xff, 0xff, 0xff, 0x10],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
        &[0xff; 11],
        &[0x80],
    ];
    for number in long {
        for field in 0..4 {
            let mut payload = vec![0; 4];
            payload.splice(field..=field, number.iter().copied());
            cases.refused("dylink.0", &subsection(1, &payload));
            payload.push(0);
            cases.refused("dylink", &payload);
        }
        for kind in 2..=5 {
            cases.refused("dylink.0", &subsection(kind, number));
        }
        cases.refused("dylink.0", &[&[1], number].concat());
        cases.refused("dylink.0", &[&[99], number].concat());
    }
    // Counts that promise more than there is.
    for kind in 2..=5 {
        for count in INTERESTING.iter().skip(1).chain(&[2, 3, 64, 1_000_000]) {
            cases.refused("dylink.0", &subsection(kind, &leb(*count)));
            let one = [leb(*count), name(b"x")].concat();
            if *count > 1 || kind > 2 && kind < 5 {
                cases.refused("dylink.0", &subsection(kind, &one));
            }
        }
    }
    // Names: too long for their subsection, too long at all, not UTF-8.
    let long_name = vec![b'a'; 100_001];
    let bad_names: [&[u8]; 7] = [
        b"\xff",
        b"ok\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"cut \xe2\x82",
        b"\x80",
        &long_name,
    ];
    for text in bad_names {
        for kind in [2, 5] {
            let payload = [leb(2), name(b"good"), name(text)].concat();
            cases.refused("dylink.0", &subsection(kind, &payload));
        }
        cases.refused(
            "dylink.0",
            &subsection(3, &[leb(1), name(text), leb(0)].concat()),
        );
        for (module, field) in [(text, b"x".as_slice()), (b"env", text)] {
            let payload = [leb(1), name(module), name(field), leb(0)].concat();
            cases.refused("dylink.0", &subsection(4, &payload));
        }
        cases.refused("dylink", &[sizes(0, 0, 0, 0), leb(1), name(text)].concat());
    }
    for length in 2..200_u64 {
        let payload = [leb(1), leb(length), b"x".to_vec()].concat();
        cases.refused("dylink.0", &subsection(2, &payload));
    }
    // The same subsection with its length wrong in both directions; reordered and doubled ones.
    let parts = [
        subsection(1, &sizes(8, 2, 1, 0)),
        subsection(2, &list(&["a", "b"])),
        subsection(5, &list(&["/"])),
    ];
    for part in &parts {
        for wrong in [-1_i16, 1, 2, 100] {
            let mut bytes = part.clone();
            bytes[1] = u8::try_from(i16::from(bytes[1]) + wrong).unwrap();
            cases.refused("dylink.0", &bytes);
        }
        cases.refused(
            "dylink.0",
            &[&parts[0], part.as_slice(), &parts[0]].concat(),
        );
        // Trailing bytes inside a known subsection, as a later version of the format might have.
        let mut bytes = part.clone();
        bytes[1] += 1;
        bytes.push(0);
        cases.refused("dylink.0", &bytes);
    }
    // Every truncation that cuts a subsection.
    for end in 0..good.len() {
        cases.either("dylink.0", &good[..end]);
    }
    // Random changes of a good section and random bytes.
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=numbers.below(3) {
            let place = numbers.below(bytes.len());
            bytes[place] = numbers.next().to_le_bytes()[0];
        }
        cases.either("dylink.0", &bytes);
        let random: Vec<u8> = (0..numbers.below(40))
            .map(|_| numbers.next().to_le_bytes()[0] & 0x87)
            .collect();
        cases.either("dylink.0", &random);
        cases.either("dylink", &random);
    }
    assert!(cases.refused > 20_000, "{}", cases.refused);
    assert!(cases.accepted > 100, "{}", cases.accepted);
}

#[test]
fn a_hundred_thousand_small_names_stay_within_the_limits() {
    let limit = 65_536;
    for (count, accepted) in [(limit, true), (limit + 1, false)] {
        let names = vec![0; count];
        let payload = [leb(u64::try_from(count).unwrap()), names].concat();
        let outcome = DylinkInfo::read(&file("dylink.0", &subsection(2, &payload)));
        assert_eq!(outcome.is_ok(), accepted);
        // Also if they come in two parts.
        let half = [leb(40_000), vec![0; 40_000]].concat();
        let both = [subsection(2, &half), subsection(2, &half)].concat();
        assert!(DylinkInfo::read(&file("dylink.0", &both)).is_err());
    }
}

/// A module that has every section, from text.
fn whole_module() -> Vec<u8> {
    wat::parse_str(
        r#"(module $whole
            (@dylink.0 (mem-info (memory 64 3) (table 2 0)) (needed "liba.so"))
            (type $add (func (param i32 i32) (result i32)))
            (import "env" "memory" (memory 1))
            (import "env" "__memory_base" (global $base i32))
            (import "env" "f" (func $f (param i64) (result f64)))
            (table $t 4 8 funcref)
            (table $x 2 externref)
            (memory $second 1 2)
            (global $g (mut i64) (i64.const -5))
            (global $h f64 (f64.const 0.5))
            (global $address i32 (i32.add (global.get $base) (i32.const 16)))
            (export "add" (func $add_function))
            (export "g" (global $g))
            (export "t" (table $t))
            (start $start)
            (elem (table $t) (i32.const 0) func $add_function $start)
            (elem externref (ref.null extern))
            (elem declare func $f)
            (func $add_function (type $add)
                (local i64 f32 f32)
                block $b (result i32)
                    local.get 0
                    local.get 1
                    br_table $b $b 1
                end
                local.get 1
                i32.add)
            (func $start
                (i64.const 3) (call $f) (drop)
                (i32.const 1) (i32.const 2) (i32.const 0)
                (call_indirect $t (type $add)) (drop)
                (ref.func $f) (drop)
                (memory.init $second $passive (i32.const 0) (i32.const 0) (i32.const 1))
                (data.drop $passive)
                loop $l
                    i32.const 0
                    i32.load8_u offset=3
                    br_if $l
                end)
            (data $active (global.get $base) "some data")
            (data $passive "passive"))"#,
    )
    .unwrap()
}

/// Reads everything that the API offers; must not panic whatever was accepted.
fn use_all(module: &Module) {
    assert_eq!(module.imports().count(), module.imports().len());
    for export in module.exports() {
        assert_eq!(module.get_export(export.name), Some(export.ty));
    }
    for index in 0..8 {
        let _ = module.function_name(index);
    }
    let _ = module.name();
    for place in 0..module.0.bodies.len() {
        assert!(module.validate_function(place).is_ok());
        assert!(module.0.bytes.get(module.0.bodies[place].clone()).is_some());
    }
    for data in &module.0.data {
        assert!(module.0.bytes.get(data.range.clone()).is_some());
    }
    assert_eq!(module.0.type_ids.len(), module.0.types.len());
}

/// A rejection must be explained, with a place inside the file.
fn check(error: &Error, length: usize) {
    match error.kind() {
        ErrorKind::Malformed { reason, offset } | ErrorKind::Section { reason, offset, .. } => {
            assert!(*offset <= length, "{error}");
            assert!(!reason.is_empty());
        }
        ErrorKind::Unsupported { detail, .. } => assert!(detail.contains("at byte 0x"), "{error}"),
        _ => panic!("{error}"),
    }
}

#[test]
fn a_module_cut_at_any_byte_is_refused_or_whole() {
    let bytes = whole_module();
    let engine = Engine::default();
    use_all(&Module::new(&engine, &bytes).unwrap());
    let mut accepted = 0;
    for end in 0..bytes.len() {
        match Module::new(&engine, &bytes[..end]) {
            // Cut between two sections in front of the functions or behind the code: still a module.
            Ok(module) => {
                accepted += 1;
                use_all(&module);
            }
            Err(error) => check(&error, end),
        }
        let _ = DylinkInfo::read(&bytes[..end]);
    }
    assert!(accepted > 0 && accepted < 12, "{accepted}");
}

#[test]
fn a_module_with_a_changed_byte_or_bits_is_refused_or_sound() {
    let bytes = whole_module();
    let engine = Engine::default();
    let (mut accepted, mut refused) = (0, 0);
    let mut load = |changed: &[u8]| match Module::new(&engine, changed) {
        Ok(module) => {
            accepted += 1;
            use_all(&module);
        }
        Err(error) => {
            refused += 1;
            check(&error, changed.len());
        }
    };
    let mut changed = bytes.clone();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            changed[place] = bytes[place] ^ (1 << bit);
            load(&changed);
        }
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            changed[place] = byte;
            load(&changed);
        }
        changed[place] = bytes[place];
    }
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for _ in 0..5_000 {
        let mut changed = bytes.clone();
        for _ in 0..=numbers.below(4) {
            let place = numbers.below(changed.len());
            changed[place] = numbers.next().to_le_bytes()[0];
        }
        // Also bytes lost and doubled.
        let cut = numbers.below(changed.len());
        let length = numbers.below(8).min(changed.len() - cut);
        if numbers.below(4) == 0 {
            changed.drain(cut..cut + length);
        } else if numbers.below(4) == 0 {
            let doubled = changed[cut..cut + length].to_vec();
            changed.splice(cut..cut, doubled);
        }
        load(&changed);
    }
    assert!(accepted > 100 && refused > 5_000, "{accepted} {refused}");
}
