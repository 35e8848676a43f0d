//! Functions of C's library that native code can stand in for, known by name and type.
#![forbid(unsafe_code)]

use super::{ExportItem, Module, ValType};

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
/// exported ones, and ones that the name section names so. Imported functions are not the module's own.
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
}
