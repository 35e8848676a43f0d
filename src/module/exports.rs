//! The exports of a module: places of their names in the file, and an index of them. Big modules export tens of
//! thousands of functions under long names, so no name is copied.
#![forbid(unsafe_code)]

use super::ExportItem;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

/// An export.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Export<'a> {
    pub name: &'a str,
    pub item: ExportItem,
}

/// Exports in the order of their section. The file, in which the names are, is given with each question.
#[derive(Default)]
pub(super) struct Exports {
    list: Vec<Entry>,
    /// A hash table with open addressing: places in the list plus one; 0 is empty. Its length is a power of two
    /// and at least twice that of the list.
    slots: Vec<u32>,
    /// With keys of its own, so that a guest cannot choose names that collide.
    hasher: RandomState,
}

struct Entry {
    start: u32,
    end: u32,
    item: ExportItem,
}

/// What became of a new export.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Added {
    Yes,
    /// There is one of that name already.
    Twice,
    /// There is no memory for it, or its name lies beyond 4 GiB.
    No,
}

impl Exports {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Makes room for so many more. False: there is no memory for them.
    pub(super) fn reserve(&mut self, more: usize) -> bool {
        let count = self.list.len().saturating_add(more);
        let Some(slots) = count
            .checked_mul(2)
            .and_then(usize::checked_next_power_of_two)
        else {
            return false;
        };
        if self.list.try_reserve_exact(more).is_err() {
            return false;
        }
        if slots <= self.slots.len() {
            return true;
        }
        self.slots = Vec::new();
        if self.slots.try_reserve_exact(slots).is_err() {
            return false;
        }
        self.slots.resize(slots, 0);
        // A module has one section of exports, so there is nothing to enter again.
        debug_assert!(self.list.is_empty());
        true
    }

    /// Adds an export whose name is this range of the file. Room for it was made before.
    pub(super) fn add(&mut self, file: &[u8], name: Range<usize>, item: ExportItem) -> Added {
        let (Ok(start), Ok(end)) = (u32::try_from(name.start), u32::try_from(name.end)) else {
            return Added::No;
        };
        let Some(text) = file.get(name) else {
            return Added::No;
        };
        if self.slots.len() < (self.list.len() + 1).saturating_mul(2) && !self.reserve(1) {
            return Added::No;
        }
        let slot = match self.find(file, text) {
            Ok(_) => return Added::Twice,
            Err(slot) => slot,
        };
        let number = u32::try_from(self.list.len() + 1).ok();
        let (Some(slot), Some(number)) = (self.slots.get_mut(slot), number) else {
            return Added::No;
        };
        *slot = number;
        self.list.push(Entry { start, end, item });
        Added::Yes
    }

    /// The place of a name in the list, or else the slot where it belongs.
    fn find(&self, file: &[u8], name: &[u8]) -> Result<usize, usize> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut slot = self.hasher.hash_one(name) as usize & mask;
        while let Some(number) = self.slots.get(slot) {
            let Some(place) = (*number as usize).checked_sub(1) else {
                return Err(slot);
            };
            if self.name(file, place) == Some(name) {
                return Ok(place);
            }
            // At least half of the slots are empty.
            slot = (slot + 1) & mask;
        }
        Err(slot)
    }

    fn name<'a>(&self, file: &'a [u8], place: usize) -> Option<&'a [u8]> {
        let entry = self.list.get(place)?;
        file.get(entry.start as usize..entry.end as usize)
    }

    /// The place of a name in the list. O(1).
    pub(super) fn place(&self, file: &[u8], name: &str) -> Option<usize> {
        self.find(file, name.as_bytes()).ok()
    }

    /// The item at a place of the list.
    pub(super) fn item(&self, place: usize) -> Option<ExportItem> {
        self.list.get(place).map(|entry| entry.item)
    }

    /// The export at a place of the list.
    pub(super) fn get<'a>(&self, file: &'a [u8], place: usize) -> Option<Export<'a>> {
        Some(Export {
            name: std::str::from_utf8(self.name(file, place)?).ok()?,
            item: self.item(place)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_none_is_taken_twice() {
        let file: String = (0..5_000).map(|n| format!("{n:05}")).collect();
        let file = file.as_bytes();
        let mut exports = Exports::default();
        assert_eq!(exports.place(file, "00000"), None);
        assert!(exports.reserve(4_000));
        for n in 0..4_000_u32 {
            let start = n as usize * 5;
            let item = ExportItem::Func(n);
            assert_eq!(exports.add(file, start..start + 5, item), Added::Yes);
        }
        assert_eq!(exports.len(), 4_000);
        for n in 0..4_000 {
            let name = format!("{n:05}");
            let place = exports.place(file, &name).unwrap();
            let export = exports.get(file, place).unwrap();
            assert_eq!((place, export.name), (n as usize, &*name));
            assert_eq!(export.item, ExportItem::Func(n));
        }
        assert_eq!(exports.place(file, "04000"), None);
        assert_eq!(exports.add(file, 10..15, ExportItem::Func(9)), Added::Twice);
        let outside = file.len() - 1..file.len() + 1;
        assert_eq!(exports.add(file, outside, ExportItem::Func(9)), Added::No);
        assert_eq!(exports.len(), 4_000);
    }
}
