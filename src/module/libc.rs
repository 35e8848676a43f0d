//! Functions of C's library that native code can stand in for, known by name and type.
#![forbid(unsafe_code)]

use super::plain::{Address, POINTER_PREFIX, address_function};
use super::{ConstExpr, ConstOp, ExportItem, Module, ModuleInner, SegmentMode, ValType};

/// A leaf function of `<string.h>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum LibcFunction {
    Memcpy,
    Memmove,
    Memset,
    Memcmp,
    Memchr,
    Strlen,
    Strnlen,
    Strcmp,
    Strncmp,
    Strchr,
    Strrchr,
    Strcpy,
}

/// Each function with its name and number of parameters; all are i32, and so is the result.
const FUNCTIONS: [(LibcFunction, &str, usize); 12] = [
    (LibcFunction::Memcpy, "memcpy", 3),
    (LibcFunction::Memmove, "memmove", 3),
    (LibcFunction::Memset, "memset", 3),
    (LibcFunction::Memcmp, "memcmp", 3),
    (LibcFunction::Memchr, "memchr", 3),
    (LibcFunction::Strlen, "strlen", 1),
    (LibcFunction::Strnlen, "strnlen", 2),
    (LibcFunction::Strcmp, "strcmp", 2),
    (LibcFunction::Strncmp, "strncmp", 3),
    (LibcFunction::Strchr, "strchr", 2),
    (LibcFunction::Strrchr, "strrchr", 2),
    (LibcFunction::Strcpy, "strcpy", 2),
];

impl LibcFunction {
    /// The function with this number.
    pub(crate) fn of(number: u64) -> Option<LibcFunction> {
        let place = usize::try_from(number).ok()?;
        FUNCTIONS.get(place).map(|(function, ..)| *function)
    }

    /// The number of parameters.
    pub(crate) fn parameters(self) -> usize {
        FUNCTIONS
            .iter()
            .find(|(function, ..)| *function == self)
            .map_or(0, |(_, _, parameters)| *parameters)
    }
}

/// The functions of a module that go by a name of C's library and have its type, by their indices in ascending order:
/// exported ones, ones whose place in the table an export tells (cowasm's `__WASM_EXPORT__memcpy`), and ones that the
/// name section names so. Imported functions are not the module's own.
pub(super) fn find(module: &Module) -> Vec<(u32, LibcFunction)> {
    let inner = &*module.0;
    if inner.memories.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut add = |index: u32, function: LibcFunction| {
        let is_own = usize::try_from(index).is_ok_and(|index| index >= inner.imported_funcs);
        let has_type = inner.func_type(index).is_some_and(|ty| {
            ty.results() == [ValType::I32]
                && ty.params().len() == function.parameters()
                && ty.params().iter().all(|ty| *ty == ValType::I32)
        });
        if is_own && has_type {
            found.push((index, function));
        }
    };
    for (function, name, _) in FUNCTIONS {
        if let Some(ExportItem::Func(index)) = inner.export(name) {
            add(index, function);
        }
        if let Some(ExportItem::Func(teller)) = inner.export(&format!("{POINTER_PREFIX}{name}"))
            && let Some(index) = address_function(inner, teller).and_then(|at| in_table(inner, at))
        {
            add(index, function);
        }
    }
    if let Some(names) = module.names() {
        for (index, name) in names.functions(&inner.bytes) {
            if let Some((function, ..)) = FUNCTIONS.iter().find(|(_, known, _)| *known == name) {
                add(index, *function);
            }
        }
    }
    found.sort_by_key(|(index, _)| *index);
    found.dedup_by_key(|(index, _)| *index);
    found
}

/// The function that the module's element segments put at an address of table 0: the last one that covers it. None if
/// one of them goes to a place that cannot be compared with the address before the module is linked.
fn in_table(module: &ModuleInner, address: Address) -> Option<u32> {
    let (base, place) = match address {
        Address::Constant(value) => (None, u64::from(value)),
        Address::Global { index, offset } => based(module, index, u64::from(offset))?,
    };
    let mut found = None;
    for segment in &module.elements {
        let SegmentMode::Active { index: 0, offset } = &segment.mode else {
            continue;
        };
        let (own_base, start) = segment_start(module, offset)?;
        if own_base != base {
            return None;
        }
        let item = place
            .checked_sub(start)
            .and_then(|item| segment.items.get(usize::try_from(item).ok()?));
        match item {
            Some(ConstExpr::RefFunc(index)) => found = Some(*index),
            Some(_) => found = None,
            None => {}
        }
    }
    found
}

/// A place that is relative to an imported global or, without one, to 0.
type Place = (Option<u32>, u64);

/// The value of a global plus an offset.
fn based(module: &ModuleInner, global: u32, offset: u64) -> Option<Place> {
    let place = usize::try_from(global).ok()?;
    let definition = module.globals.get(place)?;
    if definition.ty.mutable {
        return None;
    }
    match &definition.init {
        None => Some((Some(global), offset)),
        // A place that wraps around lies in no segment.
        Some(ConstExpr::Value(value)) => Some((None, value.checked_add(offset)?)),
        Some(_) => None,
    }
}

fn segment_start(module: &ModuleInner, offset: &ConstExpr) -> Option<Place> {
    match offset {
        ConstExpr::Value(value) => Some((None, *value)),
        ConstExpr::GlobalGet(global) => based(module, *global, 0),
        ConstExpr::Ops(operators) => match **operators {
            [
                ConstOp::GlobalGet(global),
                ConstOp::Value(value),
                ConstOp::I32Add,
            ]
            | [
                ConstOp::Value(value),
                ConstOp::GlobalGet(global),
                ConstOp::I32Add,
            ] => based(module, global, value),
            _ => None,
        },
        ConstExpr::RefFunc(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_function_is_its_place() {
        for (place, (function, ..)) in (0..).zip(FUNCTIONS) {
            assert_eq!(function as u64, place);
            assert_eq!(LibcFunction::of(place), Some(function));
        }
        assert_eq!(LibcFunction::of(12), None);
    }

    #[test]
    fn functions_are_known_by_export_or_name_and_only_with_their_type() {
        let module = super::super::tests::module(
            r#"(module
            (import "env" "strcpy" (func $strcpy (param i32 i32) (result i32)))
            (memory 1)
            (func (export "strlen") (param i32) (result i32) i32.const 0)
            (func $memcpy (param i32 i32 i32) (result i32) i32.const 0)
            (func (export "memset") (param i32 i32 i64) (result i32) i32.const 0)
            (func $strchr (export "strcmp") (param i32 i32) (result i32) i32.const 0)
            (func $other (param i32 i32 i32) (result i32) i32.const 0))"#,
        );
        let found = find(&module);
        let expected = [
            (1, LibcFunction::Strlen),
            (2, LibcFunction::Memcpy),
            (4, LibcFunction::Strcmp),
        ];
        assert_eq!(found, expected);
        assert_eq!(module.libc_function(2), Some(LibcFunction::Memcpy));
        assert_eq!(module.libc_function(5), None);
        let without_memory = super::super::tests::module(
            r#"(module (func (export "strlen") (param i32) (result i32) i32.const 0))"#,
        );
        assert_eq!(find(&without_memory), []);
    }
    #[test]
    fn functions_are_known_by_exports_that_tell_their_places_in_the_table() {
        let body = "(param i32 i32 i32) (result i32) i32.const 0";
        let text = |tellers: &str, segments: &str| {
            let text = format!(
                r#"(module
                (import "env" "__table_base" (global $base i32))
                (import "env" "other" (global $other i32))
                (memory 1)
                (table 20 funcref)
                (global $ten i32 (i32.const 10))
                (global $variable (mut i32) (i32.const 10))
                (func $a {body}) (func $b {body}) (func $c {body})
                (func $ctors)
                {tellers}
                {segments})"#
            );
            find(&super::super::tests::module(&text))
        };
        let tells = |address: &str| {
            format!(r#"(func (export "__WASM_EXPORT__memcpy") (result i32) {address})"#)
        };
        let plain = tells("i32.const 11");
        let segment = "(elem (i32.const 10) $a $b $c)";
        let memcpy = |index| vec![(index, LibcFunction::Memcpy)];
        assert_eq!(text(&plain, segment), memcpy(1));
        // As a command module's exports are: constructors before, destructors after.
        let wrapped = format!(
            "(func $tell (result i32) i32.const 11) {}",
            tells("call $ctors call $tell call $ctors")
        );
        assert_eq!(text(&wrapped, segment), memcpy(1));
        assert_eq!(text(&tells("global.get $ten"), segment), memcpy(0));
        // The last segment that covers the place is the one that counts, and so does a null in it.
        let covered = format!("{segment} (elem (i32.const 11) $c)");
        assert_eq!(text(&plain, &covered), memcpy(2));
        let cleared = format!("{segment} (elem (i32.const 11) funcref (ref.null func))");
        assert_eq!(text(&plain, &cleared), []);
        // Relative to the same imported global, whatever it is.
        let relative = tells("global.get $base i32.const 2 i32.add");
        let based = "(elem (global.get $base) $a $b $c)";
        assert_eq!(text(&relative, based), memcpy(2));
        let shifted = "(elem (i32.add (global.get $base) (i32.const 2)) $b)";
        assert_eq!(text(&relative, shifted), memcpy(1));
        // Places that cannot be compared, or lie outside.
        let unknown = "(elem (global.get $other) $a $b $c)";
        for (teller, segments) in [
            (&*relative, unknown.to_owned()),
            (&plain, based.to_owned()),
            (&plain, format!("{segment} {unknown}")),
            (&tells("i32.const 13"), segment.to_owned()),
            (&tells("i32.const 9"), segment.to_owned()),
            (&tells("i32.const -1"), segment.to_owned()),
            (&tells("global.get $variable"), segment.to_owned()),
            (
                &tells("global.get $ten i32.const -9 i32.add"),
                segment.to_owned(),
            ),
            (&tells("i32.const 11 i32.load"), segment.to_owned()),
            (&plain, "(elem funcref (ref.func $a))".to_owned()),
            (&plain, "(elem declare func $a)".to_owned()),
        ] {
            assert_eq!(text(teller, &segments), [], "{teller} {segments}");
        }
        // The type counts here too.
        let mistyped = r#"(func (export "__WASM_EXPORT__strlen") (result i32) i32.const 11)"#;
        assert_eq!(text(mistyped, segment), []);
    }
}
