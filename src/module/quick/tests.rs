//! The quick way against the thorough one: on modules that compilers made, and on what only the quick way must know.

use super::super::parse::{quickly, thoroughly};
use super::super::quick::body::{Context, Scratch, accepts};
use super::super::{Module, ModuleInner, SegmentMode};
use crate::config::{Config, Engine};
use crate::watch::Watch;
use std::path::{Path, PathBuf};

/// All that both ways say of a module.
fn parts(module: &mut ModuleInner, bytes: &[u8]) -> String {
    module.bytes = bytes.into();
    let mode = |mode: &SegmentMode| match mode {
        SegmentMode::Active { index, offset } => format!("active {index} {offset:?}"),
        SegmentMode::Passive => "passive".to_owned(),
        SegmentMode::Declared => "declared".to_owned(),
    };
    let imports = module.imports.iter().map(|import| {
        let ty = module.import_type(import.ty);
        format!("{} {} {ty:?}", module.import_module(import), import.name)
    });
    let exports = module.exports().enumerate().map(|(place, export)| {
        let found = module.export(export.name);
        format!("{place} {} {:?} {found:?}", export.name, export.item)
    });
    let tables = module
        .tables
        .iter()
        .map(|t| format!("{:?} {:?}", t.ty, t.init));
    let globals = module
        .globals
        .iter()
        .map(|g| format!("{:?} {:?}", g.ty, g.init));
    let elements = module.elements.iter();
    let elements = elements.map(|e| format!("{:?} {} {:?}", e.ty, mode(&e.mode), e.items));
    let data = module
        .data
        .iter()
        .map(|d| format!("{} {:?}", mode(&d.mode), d.range));
    let lists = [
        imports.collect::<Vec<_>>(),
        exports.collect(),
        tables.collect(),
        globals.collect(),
        elements.collect(),
        data.collect(),
    ];
    format!(
        "{:?}\n{lists:#?}\n{:?} {} {} {} {}\n{:?} {:?} {:?}\n{:?}",
        module.types,
        module.funcs,
        module.imported_funcs,
        module.imported_tables,
        module.imported_memories,
        module.imported_globals,
        module.memories,
        module.start,
        module.name_section,
        module.bodies,
    )
}

fn wasm_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            wasm_files(&path, files);
        } else if path.extension().is_some_and(|name| name == "wasm") {
            files.push(path);
        }
    }
}

#[test]
fn the_quick_way_reads_what_compilers_make_as_the_thorough_one_does() {
    let mut files = Vec::new();
    wasm_files(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"),
        &mut files,
    );
    let engine = Engine::default();
    let mut read = 0;
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let Ok(mut thorough) = thoroughly(&engine, &bytes, None, &Watch::default()) else {
            continue;
        };
        let quick = quickly(&engine, &bytes, None, &Watch::default());
        let Some(Ok(mut quick)) = quick else {
            panic!("{} was declined", file.display());
        };
        let [quick_parts, thorough_parts] = [&mut quick, &mut thorough].map(|m| parts(m, &bytes));
        assert_eq!(quick_parts, thorough_parts, "{}", file.display());
        // No body needed the validator.
        assert!(quick.resources.get().is_none(), "{}", file.display());
        read += 1;
    }
    assert!(read > 100, "{read} files");
}

/// Whether each body of a module is accepted quickly.
fn verdicts(text: &str) -> Vec<bool> {
    let engine = Engine::new(Config {
        lazy_validation: true,
        ..Config::default()
    });
    let module = Module::new(&engine, &wat::parse_str(text).unwrap()).unwrap();
    let inner = &*module.0;
    let context = Context::new(inner);
    let mut scratch = Scratch::default();
    let bodies = inner
        .bodies
        .iter()
        .zip(&inner.funcs[inner.imported_funcs..]);
    let verdict = |(body, ty): (&std::ops::Range<usize>, &u32)| {
        accepts(
            inner,
            &context,
            &inner.bytes[body.clone()],
            *ty,
            &mut scratch,
            &Watch::default(),
        )
    };
    bodies.map(verdict).collect()
}

#[test]
fn every_operator_of_the_instruction_set_is_judged_quickly() {
    let verdicts = verdicts(
        r#"(module
        (type $pair (func (param i32 i64) (result i64 i32)))
        (import "m" "f" (func $f (param f32)))
        (global $g (mut f64) (f64.const 0))
        (memory 1) (memory $second 1)
        (table $t 4 funcref) (table $x 4 externref)
        (elem $e func $f) (elem declare func $f)
        (data $d "abc")
        (func (type $pair) (local.get 0) (local.get 1)
            (block (type $pair) (local.set 1) (local.set 0) (local.get 1) (local.get 0)))
        (func (param i32) (result i32)
            (loop $l (br_if $l (local.get 0)))
            (block $b (block $a (br_table $a $b $a (local.get 0))))
            (if (result i32) (local.get 0) (then (i32.const -2147483648)) (else (return (i32.const 127)))))
        (func (param i32) (if (local.get 0) (then (unreachable))))
        (func (result f32) (local i64) (local.tee 0 (i64.const -9223372036854775808)) (drop) (f32.const 1))
        (func (param i32) (result i64) (call_indirect (param i64) (result i64) (i64.const 5) (local.get 0)))
        (func (param i32) (result i64) (return_call_indirect (param i64) (result i64) (i64.const 5) (local.get 0)))
        (func (return_call $f (f32.const 0)))
        (func (result i32) (select (i32.const 1) (i32.const 2) (i32.const 3)))
        (func (result funcref) (select (result funcref) (ref.func $f) (ref.null func) (i32.const 3)))
        (func (drop (ref.is_null (table.get $t (i32.const 0)))) (table.set $x (i32.const 1) (ref.null extern)))
        (func (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop $e)
            (table.copy $t $t (i32.const 0) (i32.const 0) (i32.const 1))
            (drop (table.grow $x (ref.null extern) (i32.const 1))) (drop (table.size $t))
            (table.fill $t (i32.const 0) (ref.func $f) (i32.const 1)))
        (func (memory.init $second $d (i32.const 0) (i32.const 0) (i32.const 1)) (data.drop $d)
            (memory.copy $second 0 (i32.const 0) (i32.const 0) (i32.const 1))
            (memory.fill (i32.const 0) (i32.const 0) (i32.const 1))
            (drop (memory.grow $second (memory.size))))
        (func (i64.store32 $second offset=70000 align=2 (i32.const 0) (i64.load8_s (i32.const 1))))
        (func (global.set $g (f64.add (global.get $g) (f64.promote_f32 (f32.demote_f64 (f64.const 2))))))
        (func (result i64) (i64.trunc_sat_f64_u (f64.const 1)) (i64.extend8_s))
        (func (unreachable) (i32.add) (drop) (select) (drop))
        (func (block (br 0) (drop) (f32.add) (drop))))"#,
    );
    assert_eq!(verdicts, vec![true; verdicts.len()]);
}

#[test]
fn a_body_that_is_not_valid_is_not_accepted() {
    let verdicts = verdicts(
        r#"(module
        (global $constant i32 (i32.const 0))
        (table $t 4 funcref) (table $x 4 externref) (elem $e funcref) (data $d "")
        (func $f)
        (func (result i32))
        (func (i32.const 0))
        (func (result i32) (i64.const 0))
        (func (drop))
        (func (local.set 0 (i32.const 0)))
        (func (param i32) (local.set 0 (f32.const 0)))
        (func (global.set $constant (i32.const 0)))
        (func (drop (i32.load (i32.const 0))))
        (func (block (result i32) (br 0)) (drop))
        (func (if (result i32) (i32.const 0) (then (i32.const 1))) (drop))
        (func (block (drop)))
        (func (i32.const 0) (block (drop)))
        (func (drop (select (ref.null func) (ref.null func) (i32.const 0))))
        (func (drop (select (i32.const 0) (i64.const 0) (i32.const 0))))
        (func (drop (ref.func $f)))
        (func (table.set $t (i32.const 0) (ref.null extern)))
        (func (table.copy $t $x (i32.const 0) (i32.const 0) (i32.const 0)))
        (func (table.init $x $e (i32.const 0) (i32.const 0) (i32.const 0)))
        (func (call_indirect $x (i32.const 0)))
        (func (result i32) (return_call $f))
        (func (block (block (result i32) (br_table 0 1 (i32.const 0) (i32.const 0))) (drop)))
        (func (unreachable) (f32.const 0) (i32.eqz) (drop))
        (func (br 1)))"#,
    );
    let mut expected = vec![false; verdicts.len()];
    expected[0] = true;
    assert_eq!(verdicts, expected);
}

#[test]
fn numbers_that_are_longer_than_their_type_are_not_accepted() {
    // The body of one function without parameters and results: no locals, then these bytes and an end.
    let module = |operators: &[u8]| {
        let mut bytes = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a".to_vec();
        let length = u8::try_from(operators.len()).unwrap();
        bytes.extend([length + 4, 1, length + 2, 0]);
        bytes.extend(operators);
        bytes.push(0x0b);
        Module::new(&Engine::default(), &bytes).is_ok()
    };
    for (operators, valid) in [
        (&[0x41, 0x80, 0x80, 0x80, 0x80, 0x00, 0x1a][..], true),
        (&[0x41, 0x80, 0x80, 0x80, 0x80, 0x78, 0x1a], true),
        (&[0x41, 0x80, 0x80, 0x80, 0x80, 0x70, 0x1a], false),
        (&[0x41, 0x80, 0x80, 0x80, 0x80, 0x08, 0x1a], false),
        (&[0x41, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 0x1a], false),
        (
            &[
                0x42, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f, 0x1a,
            ],
            true,
        ),
        (
            &[
                0x42, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0x1a,
            ],
            false,
        ),
        (&[0x02, 0x80, 0x80, 0x80, 0x80, 0x00, 0x0b], true),
        (&[0x02, 0x80, 0x80, 0x80, 0x80, 0x10, 0x0b], false),
        (&[0x02, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 0x0b], false),
        (&[0x10, 0x80, 0x80, 0x80, 0x80, 0x00], true),
        (&[0x10, 0x80, 0x80, 0x80, 0x80, 0x10], false),
        (&[0x10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], false),
    ] {
        assert_eq!(module(operators), valid, "{operators:x?}");
    }
}

#[test]
fn long_lists_of_types_are_judged_like_short_ones() {
    // Twelve values at once; of the wrong ones, one of them is another type or missing.
    let many = "i32 i32 i64 i32 f32 i32 i32 i64 i32 i32 f64 i32";
    let consts = |types: &str| {
        let values: Vec<String> = types
            .split(' ')
            .map(|ty| format!("({ty}.const 1)"))
            .collect();
        values.concat()
    };
    let module = |bodies: &[String]| {
        let bodies: Vec<String> = bodies.iter().map(|body| format!("(func {body})")).collect();
        let text = format!(
            "(module (type $many (func (param {many}) (result {many})))
             (func $callee (type $many) (unreachable)) {})",
            bodies.concat()
        );
        verdicts(&text)
    };
    let (all, drops) = (consts(many), "drop ".repeat(12));
    let wrong = consts(&many.replace("f32", "i32"));
    let few = consts(&many[4..]);
    let good = [
        format!("{all} (block (type $many)) {drops}"),
        format!("{all} (loop (type $many)) (call $callee) {drops}"),
        format!("{all} (block (type $many) (br 0)) {drops}"),
        format!("{all} (i32.const 1) (if (type $many) (then) (else (call $callee))) {drops}"),
        format!(
            "{all} (block (type $many) (block (type $many) (br_table 0 1 0 (i32.const 1)))) {drops}"
        ),
        format!("{all} (block (type $many) (br_if 0 (i32.const 1))) {drops}"),
        // What is missing in code that cannot be reached fits.
        format!("(unreachable) {few} (block (type $many)) {drops}"),
        format!("(unreachable) (block (type $many)) {drops}"),
        format!(
            "(unreachable) (select) (i32.const 1) (block (type $many) (br_table 0 0 (i32.const 1))) {drops}"
        ),
    ];
    let verdicts = module(&good);
    assert_eq!(verdicts, vec![true; verdicts.len()]);
    let bad = [
        format!("{wrong} (block (type $many)) {drops}"),
        format!("{few} (block (type $many)) {drops}"),
        format!("{all} (block (type $many) (drop) (f32.const 1)) {drops}"),
        format!("{all} (block (type $many) (drop)) {drops}"),
        format!("{all} (block (type $many) (i32.const 1)) {drops}"),
        format!("{all} (block {drops})"),
        format!("(unreachable) {wrong} (call $callee) {drops}"),
        format!(
            "(unreachable) (i32.const 7) {wrong} (block (type $many) {drops} (br_table 0 0 (i32.const 1))) {drops}"
        ),
        format!(
            "{all} (block (type $many) (drop) (f32.const 1) (br_table 0 0 (i32.const 1))) {drops}"
        ),
        format!("{all} (block (type $many) (drop) (br_table 0 0 (i32.const 1))) {drops}"),
    ];
    let verdicts = module(&bad);
    let mut expected = vec![false; bad.len() + 1];
    expected[0] = true;
    assert_eq!(verdicts, expected);
}
