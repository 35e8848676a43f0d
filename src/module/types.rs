//! The types of the language as the API shows them: values, functions, memories, tables, globals.

#![forbid(unsafe_code)]

use std::fmt;

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ValType {
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// A nullable reference.
    Ref(RefType),
}

/// The type of a reference.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RefType {
    /// A function or null.
    Func,
    /// A value of the host or null.
    Extern,
}

impl ValType {
    /// Whether values of this type live in the float accumulator.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, ValType::F32 | ValType::F64)
    }
}

impl fmt::Display for ValType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValType::I32 => "i32",
            ValType::I64 => "i64",
            ValType::F32 => "f32",
            ValType::F64 => "f64",
            ValType::Ref(RefType::Func) => "funcref",
            ValType::Ref(RefType::Extern) => "externref",
        })
    }
}

/// The type of a function. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FuncType {
    /// Parameters, then results.
    types: std::sync::Arc<[ValType]>,
    params: usize,
}

impl FuncType {
    /// A type from its parameters and results.
    pub fn new(
        params: impl IntoIterator<Item = ValType>,
        results: impl IntoIterator<Item = ValType>,
    ) -> FuncType {
        let mut types: Vec<ValType> = params.into_iter().collect();
        let params = types.len();
        types.extend(results);
        FuncType {
            types: types.into(),
            params,
        }
    }

    /// A type from its parameters and results in one list.
    pub(super) fn from_parts(types: &[ValType], params: usize) -> FuncType {
        FuncType {
            types: types.into(),
            params: params.min(types.len()),
        }
    }

    /// The parameters.
    pub fn params(&self) -> &[ValType] {
        &self.types[..self.params]
    }

    /// The results.
    pub fn results(&self) -> &[ValType] {
        &self.types[self.params..]
    }
}

impl fmt::Display for FuncType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, types: &[ValType]| {
            f.write_str("(")?;
            for (i, ty) in types.iter().enumerate() {
                write!(f, "{}{ty}", if i > 0 { " " } else { "" })?;
            }
            f.write_str(")")
        };
        list(f, self.params())?;
        f.write_str(" -> ")?;
        list(f, self.results())
    }
}

impl fmt::Debug for FuncType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The type of a memory, in pages of 64 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryType {
    /// Least number of pages.
    pub minimum: u64,
    /// Most pages, if bounded.
    pub maximum: Option<u64>,
}

/// The type of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableType {
    /// What the table holds.
    pub element: RefType,
    /// Least number of elements.
    pub minimum: u64,
    /// Most elements, if bounded.
    pub maximum: Option<u64>,
}

/// The type of a global.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GlobalType {
    /// What the global holds.
    pub value: ValType,
    /// Whether it can be set.
    pub mutable: bool,
}

/// The type of an import or export.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExternType {
    /// A function.
    Func(FuncType),
    /// A global.
    Global(GlobalType),
    /// A table.
    Table(TableType),
    /// A memory.
    Memory(MemoryType),
}

/// An import of a module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportType<'a> {
    /// Module name.
    pub module: &'a str,
    /// Field name.
    pub name: &'a str,
    /// What is wanted.
    pub ty: ExternType,
}

/// An export of a module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportType<'a> {
    /// Name.
    pub name: &'a str,
    /// What is offered.
    pub ty: ExternType,
}

/// A function type of the validator; `None` for types of other proposals.
pub(super) fn func(ty: &wasmparser::SubType) -> Option<FuncType> {
    let wasmparser::CompositeInnerType::Func(ty) = &ty.composite_type.inner else {
        return None;
    };
    let types = ty
        .params()
        .iter()
        .chain(ty.results())
        .map(|ty| value(*ty))
        .collect::<Option<std::sync::Arc<[ValType]>>>()?;
    Some(FuncType {
        types,
        params: ty.params().len(),
    })
}

/// A value type of the validator; `None` for types of other proposals.
pub(crate) fn value(ty: wasmparser::ValType) -> Option<ValType> {
    Some(match ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::Ref(ty) => ValType::Ref(reference(ty)?),
        wasmparser::ValType::V128 => return None,
    })
}

/// A reference type of the validator; `None` for types of other proposals.
pub(super) fn reference(ty: wasmparser::RefType) -> Option<RefType> {
    if ty == wasmparser::RefType::FUNCREF {
        Some(RefType::Func)
    } else if ty == wasmparser::RefType::EXTERNREF {
        Some(RefType::Extern)
    } else {
        None
    }
}

/// A table type of the validator; `None` for types of other proposals.
pub(super) fn table(ty: &wasmparser::TableType) -> Option<TableType> {
    Some(TableType {
        element: reference(ty.element_type)?,
        minimum: ty.initial,
        maximum: ty.maximum,
    })
}

/// A memory type of the validator.
pub(super) fn memory(ty: &wasmparser::MemoryType) -> MemoryType {
    MemoryType {
        minimum: ty.initial,
        maximum: ty.maximum,
    }
}

/// A global type of the validator; `None` for types of other proposals.
pub(super) fn global(ty: &wasmparser::GlobalType) -> Option<GlobalType> {
    Some(GlobalType {
        value: value(ty.content_type)?,
        mutable: ty.mutable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_type_keeps_parameters_and_results_apart() {
        let ty = FuncType::new([ValType::I32, ValType::F64], [ValType::I64]);
        assert_eq!(ty.params(), [ValType::I32, ValType::F64]);
        assert_eq!(ty.results(), [ValType::I64]);
        assert_eq!(ty.to_string(), "(i32 f64) -> (i64)");
        assert_ne!(
            ty,
            FuncType::new([ValType::I32], [ValType::F64, ValType::I64])
        );
    }

    #[test]
    fn types_of_other_proposals_have_no_counterpart() {
        use wasmparser::{HeapType, RefType as Parsed};
        assert_eq!(reference(Parsed::FUNCREF), Some(RefType::Func));
        assert_eq!(reference(Parsed::EXTERNREF), Some(RefType::Extern));
        assert_eq!(reference(Parsed::ANYREF), None);
        assert_eq!(Parsed::new(false, HeapType::FUNC).and_then(reference), None);
        assert_eq!(value(wasmparser::ValType::V128), None);
    }
}
