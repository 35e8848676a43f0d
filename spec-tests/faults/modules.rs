//! Files that are not modules, sizes at the limits of the format, and modules that are only just valid.

use crate::support::{SMALL_STACK, call, engine, instance, on_stack, trap_code, wasm};
use dynlink::{
    DylinkInfo, Engine, Error, ErrorKind, Instance, Limits, Module, Store, TrapCode, Val,
};

fn load(bytes: &[u8]) -> Result<Module, Error> {
    Module::new(&Engine::default(), bytes)
}

fn rejected(bytes: &[u8]) -> Error {
    match load(bytes) {
        Ok(_) => panic!("accepted: {:02x?}", &bytes[..bytes.len().min(40)]),
        Err(error) => error,
    }
}

/// An unsigned LEB128 number.
fn leb(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A module of raw sections.
fn module(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    for (id, content) in sections {
        bytes.push(*id);
        bytes.extend(leb(content.len() as u64));
        bytes.extend(content);
    }
    bytes
}

fn custom(name: &str, content: &[u8]) -> (u8, Vec<u8>) {
    let mut bytes = leb(name.len() as u64);
    bytes.extend(name.as_bytes());
    bytes.extend(content);
    (0, bytes)
}

/// A `dylink.0` section with one `mem-info` subsection.
fn mem_info(memory_size: u64, memory_align: u64, table_size: u64, table_align: u64) -> Vec<u8> {
    let mut info = Vec::new();
    for value in [memory_size, memory_align, table_size, table_align] {
        info.extend(leb(value));
    }
    let mut content = vec![1];
    content.extend(leb(info.len() as u64));
    content.extend(info);
    module(&[custom("dylink.0", &content)])
}

#[test]
fn a_file_that_is_no_module_says_what_it_is_not() {
    let files: [(&str, &[u8]); 10] = [
        ("empty", b""),
        ("one byte", b"\0"),
        ("only the magic number", b"\0asm"),
        ("half a version", b"\0asm\x01\0"),
        ("another version", b"\0asm\x02\0\0\0"),
        ("a component", b"\0asm\x0d\0\x01\0"),
        ("text", b"#!/bin/sh\necho hello\n"),
        ("an ELF file", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"),
        ("a ZIP file", b"PK\x03\x04\x14\0\0\0\x08\0"),
        ("zeros", &[0; 4096]),
    ];
    for (what, bytes) in files {
        let error = rejected(bytes);
        let text = error.to_string();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Malformed { .. } | ErrorKind::Unsupported { .. }
            ),
            "{what}: {text}"
        );
        assert!(
            text.len() > 20,
            "{what}: the message says too little: {text}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let engine = Engine::default();
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let missing = folder.path().join("missing.wasm");
    let empty = folder.path().join("empty.wasm");
    std::fs::write(&empty, b"").unwrap_or_else(|error| panic!("{error}"));
    for path in [missing.as_path(), folder.path(), empty.as_path()] {
        let error = match Module::from_file(&engine, path) {
            Ok(_) => panic!("{} was loaded", path.display()),
            Err(error) => error.to_string(),
        };
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        assert!(error.contains(&name), "{error}");
    }
}

#[test]
fn counts_that_no_file_can_hold_are_errors_at_once() {
    for id in 1..=12u8 {
        for count in [1 << 16, 1 << 24, u64::from(u32::MAX)] {
            let bytes = module(&[(id, leb(count))]);
            rejected(&bytes);
        }
    }
    // Names, bodies and segments that are longer than the file.
    rejected(&module(&[(0, leb(u64::from(u32::MAX)))]));
    rejected(&module(&[(2, [leb(1), leb(u64::from(u32::MAX))].concat())]));
    rejected(&module(&[(
        10,
        [leb(1), leb(u64::from(u32::MAX))].concat(),
    )]));
    rejected(&module(&[(
        11,
        [vec![1, 1], leb(u64::from(u32::MAX))].concat(),
    )]));
    // Locals: 2^32 - 1 of one type, and many groups whose sum overflows.
    let locals = [leb(1), leb(u64::from(u32::MAX)), vec![0x7f, 0x0b]].concat();
    let body = [leb(1), leb(locals.len() as u64), locals].concat();
    rejected(&module(&[
        (1, vec![1, 0x60, 0, 0]),
        (3, vec![1, 0]),
        (10, body),
    ]));
    let locals = [
        leb(2),
        leb(0xffff_fff0),
        vec![0x7f],
        leb(0x20),
        vec![0x7e, 0x0b],
    ]
    .concat();
    let body = [leb(1), leb(locals.len() as u64), locals].concat();
    rejected(&module(&[
        (1, vec![1, 0x60, 0, 0]),
        (3, vec![1, 0]),
        (10, body),
    ]));
    // A section that says it is 2^32 - 1 bytes long.
    let mut bytes = b"\0asm\x01\0\0\0\x01".to_vec();
    bytes.extend(leb(u64::from(u32::MAX)));
    rejected(&bytes);
}

#[test]
fn alignments_of_libraries_beyond_the_limit_are_errors_that_name_the_section() {
    for align in (17..=255).chain([256, 1 << 16, 1 << 31, u64::from(u32::MAX)]) {
        for bytes in [mem_info(16, align, 0, 0), mem_info(16, 0, 1, align)] {
            let error = match DylinkInfo::read(&bytes) {
                Ok(info) => panic!("alignment 2^{align} was accepted: {info:?}"),
                Err(error) => error,
            };
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::Section {
                        section: "dylink.0",
                        ..
                    }
                ),
                "alignment 2^{align}: {error}"
            );
            rejected(&bytes);
        }
    }
    for align in 0..=16 {
        let info = DylinkInfo::read(&mem_info(16, align, 1, align.min(4)));
        let info = info.unwrap_or_else(|error| panic!("alignment 2^{align}: {error}"));
        assert_eq!(info.map(|info| u64::from(info.memory_align)), Some(align));
    }
}

#[test]
fn sizes_of_libraries_at_the_limit_are_read_or_rejected_never_wrapped() {
    let all = [
        0,
        1,
        1 << 16,
        1 << 31,
        u64::from(u32::MAX) - 1,
        u64::from(u32::MAX),
    ];
    for memory in all {
        for table in all {
            match DylinkInfo::read(&mem_info(memory, 4, table, 0)) {
                Ok(Some(info)) => {
                    assert_eq!(u64::from(info.memory_size), memory);
                    assert_eq!(u64::from(info.table_size), table);
                }
                Ok(None) => panic!("the section was not found"),
                Err(error) => {
                    let named = matches!(
                        error.kind(),
                        ErrorKind::Section { .. } | ErrorKind::Limit { .. }
                    );
                    assert!(named, "{error}");
                    assert!(
                        memory >= 1 << 31 || table >= 1 << 16,
                        "{memory} {table}: {error}"
                    );
                }
            }
        }
    }
    // Numbers that do not fit 32 bits at all.
    for bytes in [mem_info(1 << 32, 0, 0, 0), mem_info(0, 0, 1 << 40, 0)] {
        assert!(DylinkInfo::read(&bytes).is_err());
        rejected(&bytes);
    }
}

#[test]
fn a_module_longer_than_the_limit_is_refused_before_it_is_read() {
    let engine = engine(|config| config.limits.module_bytes = 64);
    let bytes = wasm(
        r#"(module (memory 1) (data (i32.const 0) "0123456789012345678901234567890123456789012345678901234567890123456789"))"#,
    );
    let error = Module::new(&engine, &bytes)
        .err()
        .unwrap_or_else(|| panic!("accepted"));
    assert!(matches!(error.kind(), ErrorKind::Limit { .. }), "{error}");
}

#[test]
fn memories_and_tables_beyond_the_limits_are_refused_before_they_are_allocated() {
    let engine = engine(|config| {
        config.limits = Limits {
            memory_pages: 10,
            table_elements: 100,
            ..Limits::default()
        };
    });
    for text in [
        "(module (memory 11))",
        "(module (memory 65536))",
        "(module (memory 1) (memory 11))",
        "(module (table 101 funcref))",
        "(module (table 4294967295 funcref))",
        "(module (table 1 funcref) (table 101 externref))",
    ] {
        let outcome = Module::new(&engine, &wasm(text)).and_then(|module| {
            let mut store = Store::new(&engine, ());
            Instance::new(&mut store, &module, &[]).map(drop)
        });
        let error = outcome
            .err()
            .unwrap_or_else(|| panic!("{text} was instantiated"));
        assert!(
            matches!(error.kind(), ErrorKind::Limit { .. }),
            "{text}: {error}"
        );
    }
    // A maximum beyond the limit is allowed: it is a promise not to grow further.
    instance(
        &engine,
        "(module (memory 1 65536) (table 1 4294967295 funcref))",
    );
}

#[test]
fn proposals_that_are_not_supported_are_named() {
    for (text, proposal) in [
        ("(module (func (drop (v128.const i64x2 0 0))))", "simd"),
        ("(module (memory i64 1))", "memory64"),
        ("(module (tag))", "exception"),
        ("(module (type (struct)))", "gc"),
        ("(module (memory 1 1 shared))", "threads"),
    ] {
        let error = rejected(&wasm(text));
        match error.kind() {
            ErrorKind::Unsupported {
                proposal: found, ..
            } => assert!(
                found.to_lowercase().contains(proposal),
                "{text}: expected `{proposal}` to be named: {error}"
            ),
            _ => panic!("{text}: expected an unsupported proposal, got: {error}"),
        }
    }
}

/// A valid module must run, or be refused with a limit: never anything else.
fn runs_or_is_refused(text: &str, expected: i32) {
    let bytes = wasm(text);
    for eager in [false, true] {
        let engine = engine(|config| config.eager_translation = eager);
        let outcome = Module::new(&engine, &bytes).and_then(|module| {
            let mut store = Store::new(&engine, ());
            let instance = Instance::new(&mut store, &module, &[])?;
            call(&mut store, instance, "f", &[])
        });
        match outcome {
            Ok(found) => assert_eq!(found, expected, "{}", &text[..text.len().min(100)]),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Limit { .. }),
                "{}: {error}",
                &text[..text.len().min(100)]
            ),
        }
    }
}

#[test]
fn functions_with_very_many_locals_run_or_are_refused() {
    for count in [100, 4_000, 8_000, 8_190, 8_192, 9_000, 20_000, 49_990] {
        let last = count - 1;
        let locals = "i32 ".repeat(count);
        runs_or_is_refused(
            &format!(
                "(module (func (export \"f\") (result i32) (local {locals})
                   (local.set {last} (i32.const 7))
                   (local.set 0 (i32.add (local.get {last}) (i32.const 1)))
                   (i32.mul (local.get 0) (local.get {last}))))"
            ),
            56,
        );
    }
}

#[test]
fn very_deep_operand_stacks_run_or_are_refused() {
    for depth in [1_000, 8_000, 9_000, 30_000] {
        let text = format!(
            "(module (func $one (result i32) i32.const 1) (func (export \"f\") (result i32) {} {}))",
            "call $one ".repeat(depth),
            "i32.add ".repeat(depth - 1)
        );
        runs_or_is_refused(&text, depth as i32);
    }
}

#[test]
fn very_deep_nesting_runs_or_is_refused_on_a_small_stack() {
    // The text parser recurses, so the bytes are made by hand: `block` n times, `end` n times.
    for depth in [100, 5_000, 100_000] {
        for opcode in [[0x02, 0x40], [0x03, 0x40]] {
            let mut code = vec![0];
            for _ in 0..depth {
                code.extend(opcode);
            }
            code.extend(vec![0x0b; depth]);
            code.extend([0x41, 5, 0x0b]);
            let body = [leb(1), leb(code.len() as u64), code].concat();
            let bytes = module(&[
                (1, vec![1, 0x60, 0, 1, 0x7f]),
                (3, vec![1, 0]),
                (7, vec![1, 1, b'f', 0, 0]),
                (10, body),
            ]);
            let outcome = on_stack(SMALL_STACK, move || {
                let engine = Engine::default();
                let module = Module::new(&engine, &bytes)?;
                let mut store = Store::new(&engine, ());
                let instance = Instance::new(&mut store, &module, &[])?;
                call(&mut store, instance, "f", &[])
            });
            match outcome {
                Ok(found) => assert_eq!(found, 5),
                Err(error) => assert!(matches!(error.kind(), ErrorKind::Limit { .. }), "{error}"),
            }
        }
    }
}

#[test]
fn functions_with_a_thousand_parameters_and_results_work() {
    for count in [17, 100, 1000] {
        let types = "i32 ".repeat(count);
        let gets: String = (0..count).map(|k| format!("(local.get {k})")).collect();
        let pushes: String = (0..count).map(|k| format!("(i32.const {k})")).collect();
        let drops = "drop ".repeat(count - 1);
        let text = format!(
            "(module
               (type $t (func (param {types}) (result {types})))
               (table 1 funcref) (elem (i32.const 0) $same)
               (func $same (type $t) {gets})
               (func $through (type $t) {gets} (return_call $same))
               (func (export \"direct\") (result i32) {pushes} call $same {drops})
               (func (export \"tail\") (result i32) {pushes} call $through {drops})
               (func (export \"f\") (result i32) {pushes} i32.const 0 call_indirect (type $t) {drops}))"
        );
        runs_or_is_refused(&text, 0);
        let engine = Engine::default();
        let (mut store, instance) = instance(&engine, &text);
        for name in ["direct", "tail", "f"] {
            let found = call(&mut store, instance, name, &[]);
            assert_eq!(found.unwrap_or_else(|error| panic!("{name}: {error}")), 0);
        }
    }
}

#[test]
fn a_very_large_br_table_works() {
    for count in [1_000, 100_000] {
        let labels = "0 1 ".repeat(count / 2);
        let text = format!(
            "(module (func (export \"f\") (param i32) (result i32)
               (block (block (block (br_table {labels} 2 (local.get 0))) (return (i32.const 10)))
                 (return (i32.const 11)))
               (i32.const 12)))"
        );
        let (mut store, instance) = instance(&Engine::default(), &text);
        for (index, expected) in [
            (0, 10),
            (1, 11),
            (count as i32 - 1, 11),
            (count as i32, 12),
            (-1, 12),
        ] {
            let found = call(&mut store, instance, "f", &[Val::I32(index)]);
            assert_eq!(
                found.unwrap_or_else(|error| panic!("{error}")),
                expected,
                "index {index}"
            );
        }
    }
}

#[test]
fn a_trap_in_the_start_function_is_an_error_and_the_store_goes_on() {
    let engine = Engine::default();
    let bad = Module::new(&engine, &wasm("(module (func $s unreachable) (start $s))"));
    let bad = bad.unwrap_or_else(|error| panic!("{error}"));
    let (mut store, good) = instance(
        &engine,
        "(module (func (export \"f\") (result i32) (i32.const 9)))",
    );
    for _ in 0..100 {
        let outcome = Instance::new(&mut store, &bad, &[]);
        assert_eq!(trap_code(&outcome), Some(TrapCode::Unreachable));
    }
    assert_eq!(call(&mut store, good, "f", &[]).ok(), Some(9));
}
