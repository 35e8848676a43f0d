//! Counts executions by operator, for the test that every row of the table is executed.

#![forbid(unsafe_code)]

use crate::ir::ops::{FAMILIES, FORMS, Op};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

/// One counter for each possible operator number.
static COUNTS: [AtomicU64; 1 << 14] = [const { AtomicU64::new(0) }; 1 << 14];

const _: () = assert!(FAMILIES.len() * FORMS <= COUNTS.len());

/// Executions by operator and the one executed before it, if somebody wants to know.
static PAIRS: OnceLock<Mutex<Pairs>> = OnceLock::new();

/// Counted pairs, and the last operator.
#[derive(Default)]
struct Pairs {
    last: u16,
    counts: HashMap<(u16, u16), u64>,
}

/// Notes an execution.
pub(super) fn count(op: u64) {
    if let Some(counter) = COUNTS.get(op as usize) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(pairs) = PAIRS.get()
        && let Ok(mut pairs) = pairs.lock()
    {
        let last = std::mem::replace(&mut pairs.last, op as u16);
        *pairs.counts.entry((last, op as u16)).or_default() += 1;
    }
}

/// From now on pairs of operators are counted too: where instructions could be one.
pub fn count_op_pairs() {
    PAIRS.get_or_init(Mutex::default);
}

/// The pairs of operators that were executed one after the other since [`count_op_pairs`], most frequent first.
pub fn op_pairs() -> Vec<(String, String, u64)> {
    let Some(Ok(pairs)) = PAIRS.get().map(Mutex::lock) else {
        return Vec::new();
    };
    let named = |((first, second), count): (&(u16, u16), &u64)| {
        Some((Op(*first).name()?, Op(*second).name()?, *count))
    };
    let mut list: Vec<_> = pairs.counts.iter().filter_map(named).collect();
    list.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
    list
}

/// Every operator of the instruction set with the number of its executions in runs with
/// [`crate::Config::op_coverage`], in this process.
pub fn op_coverage() -> Vec<(String, u64)> {
    let count = |op: Op| COUNTS[usize::from(op.0)].load(Ordering::Relaxed);
    Op::all()
        .filter_map(|op| Some((op.name()?, count(op))))
        .collect()
}

/// How often translated code reads a global, by the global's name.
static GLOBALS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// Notes an instruction that reads a global.
pub(super) fn reads_global(name: String) {
    if let Ok(mut globals) = GLOBALS.lock() {
        *globals.entry(name).or_default() += 1;
    }
}

/// The globals that code reads which was translated with [`crate::Config::op_coverage`], in this process: `module.name` of
/// an imported one, with the number of such instructions. What is not here became a constant.
pub fn globals_read() -> Vec<(String, u64)> {
    GLOBALS.lock().map_or_else(
        |_| Vec::new(),
        |globals| {
            globals
                .iter()
                .map(|(name, count)| (name.clone(), *count))
                .collect()
        },
    )
}
