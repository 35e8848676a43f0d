//! Where each object's data and functions live: free ranges of addresses and table slots, and the arithmetic of
//! reserving them (rules L1 to L6, U3).
//!
//! Nothing here touches a memory or table. A reservation is first found or its growth computed, then the caller grows,
//! then the new room is handed in. All sums are checked: sizes and alignments come from files.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};

/// Bytes of a page.
pub(crate) const PAGE: u64 = 1 << 16;

/// One past the last address of a 32-bit memory.
const ADDRESS_SPACE: u64 = 1 << 32;

/// One past the last slot that can be used as a function pointer.
pub(crate) const SLOT_SPACE: u64 = 1 << 32;

/// Addresses below this are never given out, so that a null pointer is nobody's address (rule L3).
pub(crate) const NULL_GUARD: u64 = 1024;

/// Slots that were used and freed rest until this many others were freed after them, so that a stale function pointer
/// more likely traps than calls another function (rule U3).
const RESTING_SLOTS: u64 = 4096;

/// `address` rounded up to a multiple of `2^align`, if there is one below 2^32.
pub(crate) fn align_up(address: u64, align: u32) -> Option<u64> {
    let mask = 1u64.checked_shl(align).filter(|_| align < 32)? - 1;
    let aligned = address.checked_add(mask)? & !mask;
    (aligned <= ADDRESS_SPACE).then_some(aligned)
}

/// The end of a range, if it lies below 2^32.
pub(crate) fn range_end(base: u64, size: u64) -> Option<u64> {
    base.checked_add(size).filter(|end| *end <= ADDRESS_SPACE)
}

/// Disjoint free ranges; neighbours are one range.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
struct FreeRanges(BTreeMap<u64, u64>);

impl FreeRanges {
    fn add(&mut self, base: u64, size: u64) {
        if size == 0 {
            return;
        }
        let (mut start, mut length) = (base, size);
        if let Some((before, size_before)) = self.0.range(..base).next_back()
            && before + size_before == base
        {
            start = *before;
            length += size_before;
        }
        if let Some(size_after) = self.0.remove(&(base + size)) {
            length += size_after;
        }
        self.0.insert(start, length);
    }

    /// Takes the first range that fits.
    fn take(&mut self, size: u64, align: u32) -> Option<u64> {
        let (start, length, base) = self.0.iter().find_map(|(start, length)| {
            let base = align_up(*start, align)?;
            (base.checked_add(size)? <= start + length).then_some((*start, *length, base))
        })?;
        self.0.remove(&start);
        self.add(start, base - start);
        self.add(base + size, start + length - base - size);
        Some(base)
    }

    #[cfg(test)]
    fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Start of the range that ends at `end`, else `end`.
    fn start_of_range_ending_at(&self, end: u64) -> u64 {
        match self.0.range(..end).next_back() {
            Some((start, size)) if start + size == end => *start,
            _ => end,
        }
    }
}

/// Memory that belongs to the linker: pages that it grew itself.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoaderMemory(FreeRanges);

impl LoaderMemory {
    /// Takes `size` bytes from memory that the linker owns.
    pub fn take(&mut self, size: u64, align: u32) -> Option<u64> {
        self.0.take(size, align)
    }

    /// Free bytes.
    #[cfg(test)]
    pub fn total(&self) -> u64 {
        self.0.total()
    }

    /// How many pages the memory must grow before `take` succeeds; `None` if no 32-bit memory has that much.
    pub fn growth(&self, size: u64, align: u32, memory_bytes: u64) -> Option<u64> {
        let base = align_up(self.0.start_of_range_ending_at(memory_bytes), align)?;
        let end = range_end(base, size)?;
        Some(end.saturating_sub(memory_bytes).div_ceil(PAGE))
    }

    /// Hands in memory, grown or released.
    pub fn add(&mut self, base: u64, size: u64) {
        self.0.add(base, size);
    }
}

/// The slots of the table that the linker may give out.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableSlots {
    free: FreeRanges,
    resting: VecDeque<(u64, u64)>,
    resting_count: u64,
}

impl TableSlots {
    /// Takes consecutive slots.
    pub fn take(&mut self, count: u64, align: u32) -> Option<u64> {
        self.free.take(count, align)
    }

    /// Whether the slot can be given out, now or when it has rested.
    #[cfg(test)]
    pub fn is_available(&self, slot: u64) -> bool {
        let within = |base: u64, count: u64| (base..base + count).contains(&slot);
        self.free
            .0
            .iter()
            .any(|(base, count)| within(*base, *count))
            || self
                .resting
                .iter()
                .any(|(base, count)| within(*base, *count))
    }

    /// How many elements the table must grow before `take` succeeds; `None` if there are not that many function
    /// pointers.
    pub fn growth(&self, count: u64, align: u32, table_size: u64) -> Option<u64> {
        let start = self.free.start_of_range_ending_at(table_size).max(1);
        let base = align_up(start, align)?;
        let end = base.checked_add(count).filter(|end| *end < SLOT_SPACE)?;
        Some(end.saturating_sub(table_size))
    }

    /// Takes the first run of free slots, whatever its length: base and count.
    pub fn take_run(&mut self) -> Option<(u64, u64)> {
        self.free.0.pop_first()
    }

    /// Hands in slots that nobody ever used. Slot 0, which a table may begin without, is no address but the null pointer.
    pub fn add(&mut self, base: u64, count: u64) {
        let null = u64::from(base == 0);
        self.free.add(base + null, count.saturating_sub(null));
    }

    /// Hands back slots that guests may still hold as function pointers.
    pub fn retire(&mut self, base: u64, count: u64) {
        if count == 0 {
            return;
        }
        self.resting.push_back((base, count));
        self.resting_count = self.resting_count.saturating_add(count);
        while self.resting_count > RESTING_SLOTS {
            let Some((base, count)) = self.resting.pop_front() else {
                break;
            };
            self.resting_count -= count;
            self.free.add(base, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment_is_checked_before_it_is_shifted() {
        assert_eq!(align_up(5, 4), Some(16));
        assert_eq!(align_up(5, 31), Some(1 << 31));
        assert_eq!(align_up(5, 32), None);
        assert_eq!(align_up(5, 255), None);
        assert_eq!(align_up(u64::from(u32::MAX), 4), Some(1 << 32));
        assert_eq!(align_up(u64::MAX, 4), None);
    }

    #[test]
    fn no_function_gets_the_null_pointer_as_its_address() {
        let mut slots = TableSlots::default();
        assert_eq!(slots.growth(1, 0, 0), Some(2));
        slots.add(0, 2);
        assert_eq!(slots.take(1, 0), Some(1));
        assert_eq!(slots.take(1, 0), None);
        slots.add(0, 0);
        assert_eq!(slots.take(1, 0), None);
    }

    #[test]
    fn hostile_sizes_are_refused_not_wrapped() {
        let memory = LoaderMemory::default();
        assert_eq!(memory.growth(u64::from(u32::MAX), 0, PAGE), None);
        assert_eq!(
            memory.growth(u64::from(u32::MAX) - PAGE, 0, PAGE),
            Some(65_535)
        );
        assert_eq!(memory.growth(1, 255, PAGE), None);
        let slots = TableSlots::default();
        assert_eq!(slots.growth(u64::from(u32::MAX), 0, 1), None);
        assert_eq!(slots.growth(10, 0, 1), Some(10));
    }

    #[test]
    fn grown_memory_is_used_up_before_more_is_grown() {
        let mut memory = LoaderMemory::default();
        assert_eq!(memory.growth(100, 4, 2 * PAGE), Some(1));
        memory.add(2 * PAGE, PAGE);
        assert_eq!(memory.take(100, 4), Some(2 * PAGE));
        assert_eq!(memory.take(100, 10), Some(2 * PAGE + 1024));
        // The free end of the last page counts for the next growth.
        assert_eq!(memory.growth(PAGE, 0, 3 * PAGE), Some(1));
        // The gap that alignment left is used.
        assert_eq!(memory.take(900, 0), Some(2 * PAGE + 100));
    }

    #[test]
    fn released_neighbours_become_one_range() {
        let mut memory = LoaderMemory::default();
        memory.add(0, 10);
        memory.add(20, 10);
        memory.add(10, 10);
        assert_eq!(memory.take(30, 0), Some(0));
        assert_eq!(memory.take(1, 0), None);
    }

    #[test]
    fn freed_slots_rest_before_they_are_used_again() {
        let mut slots = TableSlots::default();
        slots.add(1, 10);
        assert_eq!(slots.take(10, 0), Some(1));
        slots.retire(1, 10);
        assert_eq!(slots.take(10, 0), None);
        slots.retire(100, RESTING_SLOTS);
        assert_eq!(slots.take(10, 0), Some(1));
    }
}
