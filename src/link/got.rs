//! The global offset table: cells that hold the addresses of symbols, and the one table index of each function
//! (rules G1 to G8).
//!
//! Each object has its own cells, one for each kind and name. Sharing them between objects that resolve a name alike
//! would be allowed (G1), but then a cell outlives or dies with the wrong object; a cell is 8 bytes and its code is
//! folded into constants anyway.
//!
//! A function has one table index, wherever its address is taken: in an element segment, through a cell, by `dlsym`
//! (G2). [`FunctionIndices`] is that map, in both directions O(1) (the other direction is the table itself).
#![forbid(unsafe_code)]

use super::object::{Definition, ObjectId};
use super::plan::PlannedCell;
use crate::runtime::{Func, Given, Global, Globals};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

/// What unfilled cells hold, so that using one traps instead of looking like a weak undefined symbol (G6).
pub(crate) const POISON: i32 = -1;

/// What a cell is the address of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum CellKind {
    /// Imported from `GOT.mem`.
    Data,
    /// Imported from `GOT.func`.
    Function,
}

/// What a cell is to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CellTarget {
    Definition(Definition),
    /// The table index of what stands for a C library's `atexit` or `__cxa_atexit` (see `exit_handlers.rs`).
    ExitRegistration {
        definition: Definition,
        func: Func,
    },
    /// The table index of a host function.
    Host(Func),
    /// 0: weak and undefined.
    Null,
    /// A number that the linker knows at commit.
    Loader(LoaderValue),
}

/// Addresses that the linker gives to position-independent programs (rule L9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LoaderValue {
    HeapBase,
    HeapEnd,
    StackLow,
    StackHigh,
}

impl LoaderValue {
    pub fn named(name: &str) -> Option<LoaderValue> {
        match name {
            "__heap_base" => Some(LoaderValue::HeapBase),
            "__heap_end" => Some(LoaderValue::HeapEnd),
            "__stack_low" => Some(LoaderValue::StackLow),
            "__stack_high" => Some(LoaderValue::StackHigh),
            _ => None,
        }
    }
}

/// A cell of one object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    /// The import's place in the module; several imports of one name share the cell.
    pub import: u32,
    pub target: CellTarget,
    pub global: Global,
}

/// All cells of one object. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Cells {
    planned: Arc<Vec<PlannedCell>>,
    globals: Globals,
}

impl Cells {
    /// Cells as they were planned, with as many globals in the same order.
    pub fn new(planned: Arc<Vec<PlannedCell>>, globals: Globals) -> Cells {
        Cells { planned, globals }
    }

    pub fn len(&self) -> usize {
        self.planned.len()
    }

    /// The global of a cell.
    pub fn global(&self, place: usize) -> Option<Global> {
        self.globals.get(place)
    }

    /// The global of a cell, for an import.
    pub fn given(&self, place: usize) -> Option<Given> {
        self.globals.given(place)
    }

    pub fn iter(&self) -> impl Iterator<Item = Cell> + '_ {
        let numbered = self.planned.iter().enumerate();
        numbered.filter_map(|(place, planned)| {
            Some(Cell {
                import: planned.import,
                target: planned.target,
                global: self.global(place)?,
            })
        })
    }
}

/// Table index of each function whose address was taken.
#[derive(Default)]
pub(crate) struct FunctionIndices {
    indices: HashMap<Func, u32, FuncHasher>,
    /// How often a function that had an index got another one or lost it.
    changes: u64,
    /// Slots that the linker added for functions, in order, with the function and who defines it.
    added: Vec<AddedSlot>,
}

/// Hashes functions, which are numbers, by one multiplication with a secret key.
#[derive(Clone)]
struct FuncHasher {
    key: u64,
}

impl Default for FuncHasher {
    fn default() -> FuncHasher {
        FuncHasher {
            key: RandomState::new().hash_one(0) | 1,
        }
    }
}

impl BuildHasher for FuncHasher {
    type Hasher = FuncHash;

    fn build_hasher(&self) -> FuncHash {
        FuncHash {
            key: self.key,
            state: self.key,
        }
    }
}

struct FuncHash {
    key: u64,
    state: u64,
}

impl Hasher for FuncHash {
    fn finish(&self) -> u64 {
        let product = u128::from(self.state) * u128::from(self.key);
        let half = |half: u128| u64::try_from(half & u128::from(u64::MAX)).unwrap_or_default();
        half(product) ^ half(product >> 64)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32((*byte).into());
        }
    }

    fn write_u32(&mut self, number: u32) {
        // Store, group, place: the store is the same for all.
        self.state = self.state.rotate_left(32) ^ u64::from(number);
    }
}

/// A slot that the linker filled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddedSlot {
    pub slot: u32,
    pub func: Func,
    /// `None`: a host function.
    pub object: Option<ObjectId>,
}

impl FunctionIndices {
    pub fn get(&self, func: Func) -> Option<u32> {
        self.indices.get(&func).copied()
    }

    /// A function of a new object found in the table, such as one of an element segment; the lowest index counts.
    pub fn seed(&mut self, func: Func, index: u32) {
        let lowest = self.indices.entry(func).or_insert(index);
        if index < *lowest {
            *lowest = index;
            self.changes = self.changes.wrapping_add(1);
        }
    }

    /// The same for a function that was there before: guests may know its index already, so that one stays.
    pub fn seed_old(&mut self, func: Func, index: u32) {
        self.indices.entry(func).or_insert(index);
    }

    /// A slot that the linker filled for a function.
    pub fn add(&mut self, added: AddedSlot) {
        self.indices.insert(added.func, added.slot);
        self.added.push(added);
    }

    /// Makes room for the slots of so many functions.
    pub fn reserve(&mut self, functions: usize) {
        self.indices.reserve(functions);
        self.added.reserve(functions);
    }

    /// How often functions got other indices so far.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Forgets a function whose slot holds something else now.
    pub fn forget(&mut self, func: Func) {
        self.indices.remove(&func);
        self.changes = self.changes.wrapping_add(1);
    }

    /// The slots that were added.
    pub fn added_slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.added.iter().map(|added| added.slot)
    }

    /// All that is known, sorted: the index of each function, and the added slots in order.
    #[cfg(test)]
    pub fn listed(&self) -> (Vec<(Func, u32)>, &[AddedSlot]) {
        let mut indices: Vec<(Func, u32)> = self.indices.iter().map(|(f, i)| (*f, *i)).collect();
        indices.sort_unstable_by_key(|(func, index)| (*index, func.group, func.place));
        (indices, &self.added)
    }

    /// How many slots were added so far: a point to roll back to.
    pub fn added(&self) -> usize {
        self.added.len()
    }

    /// Forgets the added slots that `gone` says, among those added since a point; hands them back.
    pub fn remove_added(
        &mut self,
        since: usize,
        gone: impl Fn(&AddedSlot) -> bool,
    ) -> Vec<AddedSlot> {
        let tail = self.added.split_off(since.min(self.added.len()));
        let (removed, kept): (Vec<_>, Vec<_>) = tail.into_iter().partition(|slot| gone(slot));
        self.added.extend(kept);
        for slot in &removed {
            if self.indices.get(&slot.func) == Some(&slot.slot) {
                self.indices.remove(&slot.func);
            }
        }
        removed
    }

    /// Forgets all functions with an index in these ranges (base and count), which do not overlap.
    pub fn remove_ranges(&mut self, mut ranges: Vec<(u32, u32)>) {
        ranges.retain(|(_, count)| *count > 0);
        ranges.sort_unstable();
        if ranges.is_empty() {
            return;
        }
        self.indices.retain(|_, index| {
            let behind = ranges.partition_point(|(base, _)| base <= index);
            let range = behind.checked_sub(1).and_then(|place| ranges.get(place));
            range.is_none_or(|(base, count)| *index - base >= *count)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn func(place: u32) -> Func {
        Func {
            store: 0,
            group: 1,
            place,
        }
    }

    #[test]
    fn the_lowest_slot_is_a_new_functions_address_and_that_of_an_old_one_stays() {
        let mut indices = FunctionIndices::default();
        indices.seed(func(1), 9);
        indices.seed(func(1), 4);
        indices.seed(func(1), 6);
        assert_eq!(indices.get(func(1)), Some(4));
        indices.seed_old(func(1), 2);
        indices.seed_old(func(2), 7);
        assert_eq!(
            (indices.get(func(1)), indices.get(func(2))),
            (Some(4), Some(7))
        );
    }

    #[test]
    fn rolling_back_forgets_only_what_was_added_since() {
        let mut indices = FunctionIndices::default();
        let slot = |place, object| AddedSlot {
            slot: place + 10,
            func: func(place),
            object,
        };
        indices.add(slot(1, None));
        let point = indices.added();
        indices.add(slot(2, Some(ObjectId(7))));
        indices.add(slot(3, None));
        let removed = indices.remove_added(point, |slot| slot.object == Some(ObjectId(7)));
        assert_eq!(removed.len(), 1);
        assert_eq!(indices.get(func(1)), Some(11));
        assert_eq!(indices.get(func(2)), None);
        assert_eq!(indices.get(func(3)), Some(13));
        indices.remove_ranges(vec![(11, 3), (5, 0), (2, 4)]);
        assert_eq!(indices.get(func(3)), None);
    }
}
