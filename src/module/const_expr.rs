//! Constant expressions: from validated operators to [`ConstExpr`]. Which operators are constant is
//! decided by the validator; here they only change their form.
#![forbid(unsafe_code)]

use super::parse::{Failure, offset, push};
use super::{ConstExpr, ConstOp};
use crate::error::{Error, ErrorKind};
use wasmparser::Operator;

/// Decodes a constant expression that the validator has accepted.
///
/// # Errors
/// The expression does not decode, or has an operator that is not known here: the validator was
/// then given features that this function does not handle.
pub(super) fn decode(expr: &wasmparser::ConstExpr<'_>) -> Result<ConstExpr, Failure> {
    let mut reader = expr.get_operators_reader();
    // Nearly every expression is one operator, which needs no list.
    let mut single = None;
    let mut list = Vec::new();
    loop {
        let (next, place) = reader.read_with_offset()?;
        let next = match next {
            Operator::End => break,
            next => operator(&next).ok_or_else(|| {
                Failure::Other(Error::new(ErrorKind::Malformed {
                    reason: format!("operator {next:?} in a constant expression"),
                    offset: offset(place),
                }))
            })?,
        };
        match (single, list.is_empty()) {
            (None, true) => single = Some(next),
            (Some(first), _) => {
                push(&mut list, first)?;
                push(&mut list, next)?;
                single = None;
            }
            (None, false) => push(&mut list, next)?,
        }
    }
    Ok(match single {
        Some(ConstOp::Value(value)) => ConstExpr::Value(value),
        Some(ConstOp::RefFunc(index)) => ConstExpr::RefFunc(index),
        Some(ConstOp::GlobalGet(index)) => ConstExpr::GlobalGet(index),
        // A lone operator of arithmetic or an empty list is not valid, but keeps its form.
        Some(other) => ConstExpr::Ops([other].into()),
        None => ConstExpr::Ops(list.into()),
    })
}

/// One operator. i32 values lie in the low half of their slot, null is 0.
fn operator(operator: &Operator<'_>) -> Option<ConstOp> {
    Some(match *operator {
        Operator::I32Const { value } => ConstOp::Value(u64::from(value.cast_unsigned())),
        Operator::I64Const { value } => ConstOp::Value(value.cast_unsigned()),
        Operator::F32Const { value } => ConstOp::Value(u64::from(value.bits())),
        Operator::F64Const { value } => ConstOp::Value(value.bits()),
        Operator::RefNull { .. } => ConstOp::Value(0),
        Operator::RefFunc { function_index } => ConstOp::RefFunc(function_index),
        Operator::GlobalGet { global_index } => ConstOp::GlobalGet(global_index),
        Operator::I32Add => ConstOp::I32Add,
        Operator::I32Sub => ConstOp::I32Sub,
        Operator::I32Mul => ConstOp::I32Mul,
        Operator::I64Add => ConstOp::I64Add,
        Operator::I64Sub => ConstOp::I64Sub,
        Operator::I64Mul => ConstOp::I64Mul,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::BinaryReader;

    fn decoded(bytes: &[u8]) -> ConstExpr {
        decode(&wasmparser::ConstExpr::new(BinaryReader::new(bytes, 0)))
            .unwrap_or_else(|_| panic!("{bytes:?}"))
    }

    #[test]
    fn single_operators_have_their_own_form() {
        // i32.const -1 is zero-extended, as slots are.
        assert_eq!(
            decoded(&[0x41, 0x7f, 0x0b]),
            ConstExpr::Value(u64::from(u32::MAX))
        );
        assert_eq!(decoded(&[0x42, 0x7f, 0x0b]), ConstExpr::Value(u64::MAX));
        assert_eq!(
            decoded(&[0x43, 0, 0, 0x80, 0x3f, 0x0b]),
            ConstExpr::Value(u64::from(1.0_f32.to_bits()))
        );
        assert_eq!(
            decoded(&[0x44, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x0b]),
            ConstExpr::Value(1.0_f64.to_bits())
        );
        assert_eq!(decoded(&[0xd0, 0x70, 0x0b]), ConstExpr::Value(0));
        assert_eq!(decoded(&[0xd2, 0x07, 0x0b]), ConstExpr::RefFunc(7));
        assert_eq!(decoded(&[0x23, 0x03, 0x0b]), ConstExpr::GlobalGet(3));
    }

    #[test]
    fn extended_expressions_keep_their_postfix_order() {
        assert_eq!(
            decoded(&[0x23, 0x00, 0x41, 0x08, 0x6a, 0x0b]),
            ConstExpr::Ops([ConstOp::GlobalGet(0), ConstOp::Value(8), ConstOp::I32Add].into())
        );
    }
}
