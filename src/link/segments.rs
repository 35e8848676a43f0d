//! Whether an object's active segments stay in its own places. `wasm-ld` writes nothing else for position-independent
//! objects; a file that does would overwrite other libraries while it is instantiated, where no transaction can take
//! it back.
#![forbid(unsafe_code)]

use super::object::Object;
use super::plan::Problems;
use super::symbols::Symbol;
use crate::module::{ConstExpr, ConstOp, ModuleInner, SegmentMode};
use crate::shown::shown;

/// Adds a problem for every active segment that leaves the object's memory or slots.
pub(crate) fn check(object: &Object, problems: &mut Problems) {
    let inner = &*object.symbols.module().0;
    if inner.data.is_empty() && inner.elements.is_empty() {
        return;
    }
    let imported = super::pointer_exports::imported_globals(inner);
    let global = |index: u32| global_value(inner, &imported, object, index);
    for (number, segment) in inner.data.iter().enumerate() {
        if let SegmentMode::Active { index: 0, offset } = &segment.mode {
            let start = evaluate(offset, &global);
            let inside = start.is_some_and(|start| {
                within(
                    start,
                    segment.range.len(),
                    object.memory.base,
                    object.memory.size,
                )
            });
            if !inside {
                problems.add(format!(
                    "`{}`: data segment {number} lies outside of the {} bytes of memory that the library reserves",
                    shown(&object.name),
                    object.memory.size
                ));
            }
        }
    }
    // A table of its own is nobody else's business.
    let shared = inner.imported_tables > 0;
    for (number, segment) in inner.elements.iter().enumerate().filter(|_| shared) {
        if let SegmentMode::Active { index: 0, offset } = &segment.mode {
            let start = evaluate(offset, &global);
            let inside = start.is_some_and(|start| {
                within(
                    start,
                    segment.items.len(),
                    object.table.base,
                    object.table.count,
                )
            });
            if !inside {
                problems.add(format!(
                    "`{}`: element segment {number} lies outside of the {} table slots that the library reserves",
                    shown(&object.name),
                    object.table.count
                ));
            }
        }
    }
}

/// First address and length of the data of an object with fixed addresses: from its first active segment to the end that
/// it exports (`__data_end`, else `__heap_base`), else to the end of its last one. `None`: it has no data.
pub(crate) fn fixed_extent(object: &Object) -> Option<(u32, u32)> {
    let inner = &*object.symbols.module().0;
    let constant = |index: u32| match inner.globals.get(usize::try_from(index).ok()?)?.init {
        Some(ConstExpr::Value(value)) => u32::try_from(value & 0xffff_ffff).ok(),
        _ => None,
    };
    let (mut first, mut end) = (u32::MAX, 0);
    for segment in &inner.data {
        if let SegmentMode::Active { index: 0, offset } = &segment.mode
            && let Some(start) = evaluate(offset, &constant)
        {
            let length = u32::try_from(segment.range.len()).unwrap_or(u32::MAX);
            first = first.min(start);
            end = end.max(start.saturating_add(length));
        }
    }
    let told = ["__data_end", "__heap_base"].into_iter().find_map(|name| {
        match object.symbols.lookup(name)? {
            Symbol::Data { global, .. } => constant(global),
            _ => None,
        }
    });
    end = end.max(told.unwrap_or(0));
    (first < end).then(|| (first, end - first))
}

fn within(start: u32, length: usize, base: u32, size: u32) -> bool {
    let Ok(length) = u64::try_from(length) else {
        return false;
    };
    if length == 0 {
        return true;
    }
    let (start, base, size) = (u64::from(start), u64::from(base), u64::from(size));
    start >= base && start.saturating_add(length) <= base + size
}

/// The value of an imported immutable global that the linker gives.
fn global_value(
    module: &ModuleInner,
    imported: &[u32],
    object: &Object,
    index: u32,
) -> Option<u32> {
    let index = usize::try_from(index).ok()?;
    if let Some(ConstExpr::Value(value)) = module.globals.get(index)?.init {
        return u32::try_from(value & 0xffff_ffff).ok();
    }
    let import = usize::try_from(*imported.get(index)?).ok()?;
    let import = module.imports.get(import)?;
    match (module.import_module(import), &*import.name) {
        ("env", "__memory_base" | "__memory_base32") => Some(object.memory.base),
        ("env", "__table_base" | "__table_base32") => Some(object.table.base),
        _ => None,
    }
}

/// The value of an offset expression, as a number of 32 bits.
fn evaluate(expression: &ConstExpr, global: &impl Fn(u32) -> Option<u32>) -> Option<u32> {
    let low = |value: u64| u32::try_from(value & 0xffff_ffff).ok();
    let operators = match expression {
        ConstExpr::Value(value) => return low(*value),
        ConstExpr::GlobalGet(index) => return global(*index),
        ConstExpr::RefFunc(_) => return None,
        ConstExpr::Ops(operators) => operators,
    };
    let mut stack: Vec<u32> = Vec::new();
    for operator in operators {
        let value = match operator {
            ConstOp::Value(value) => low(*value)?,
            ConstOp::GlobalGet(index) => global(*index)?,
            ConstOp::I32Add | ConstOp::I32Sub | ConstOp::I32Mul => {
                let right = stack.pop()?;
                let left = stack.pop()?;
                match operator {
                    ConstOp::I32Add => left.wrapping_add(right),
                    ConstOp::I32Sub => left.wrapping_sub(right),
                    _ => left.wrapping_mul(right),
                }
            }
            _ => return None,
        };
        stack.push(value);
    }
    stack.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_evaluated_with_the_objects_bases() {
        let global = |index| (index == 3).then_some(1000);
        let ops = [
            ConstOp::GlobalGet(3),
            ConstOp::Value(0xffff_ffff_0000_0010),
            ConstOp::I32Add,
        ];
        assert_eq!(evaluate(&ConstExpr::Ops(ops.into()), &global), Some(1016));
        assert_eq!(evaluate(&ConstExpr::GlobalGet(3), &global), Some(1000));
        assert_eq!(evaluate(&ConstExpr::GlobalGet(2), &global), None);
        let broken = [ConstOp::I32Add];
        assert_eq!(evaluate(&ConstExpr::Ops(broken.into()), &global), None);
    }

    #[test]
    fn a_segment_must_lie_within_the_reservation() {
        assert!(within(100, 10, 100, 10));
        assert!(!within(100, 11, 100, 10));
        assert!(!within(99, 1, 100, 10));
        assert!(!within(u32::MAX, usize::MAX, 0, u32::MAX));
        assert!(within(7, 0, 100, 10));
    }
}
