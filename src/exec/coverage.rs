//! Counts executions by operator, for the test that every row of the table is executed.

#![forbid(unsafe_code)]

use crate::ir::ops::{FAMILIES, FORMS, Op};
use std::sync::atomic::{AtomicU64, Ordering};

/// One counter for each possible operator number.
static COUNTS: [AtomicU64; 1 << 13] = [const { AtomicU64::new(0) }; 1 << 13];

const _: () = assert!(FAMILIES.len() * FORMS <= COUNTS.len());

/// Notes an execution.
pub(super) fn count(op: u64) {
    if let Some(counter) = COUNTS.get(op as usize) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Every operator of the instruction set with the number of its executions in runs with
/// [`crate::Config::op_coverage`], in this process.
pub fn op_coverage() -> Vec<(String, u64)> {
    let count = |op: Op| COUNTS[usize::from(op.0)].load(Ordering::Relaxed);
    Op::all()
        .filter_map(|op| Some((op.name()?, count(op))))
        .collect()
}
