//! Translated code of one function, and the map from addresses back to functions.

#![forbid(unsafe_code)]

use crate::error::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Numbers of groups as ranges, to be released together.
pub(crate) struct GroupRanges(Vec<Range<u32>>);

impl GroupRanges {
    /// These ranges, which do not overlap.
    pub fn new(ranges: impl IntoIterator<Item = Range<u32>>) -> GroupRanges {
        let mut ranges: Vec<Range<u32>> = ranges
            .into_iter()
            .filter(|range| range.start < range.end)
            .collect();
        ranges.sort_unstable_by_key(|range| range.start);
        GroupRanges(ranges)
    }

    /// Whether a number lies in one of them.
    pub fn contains(&self, number: u32) -> bool {
        let behind = self.0.partition_point(|range| range.start <= number);
        let range = behind.checked_sub(1).and_then(|place| self.0.get(place));
        range.is_some_and(|range| number < range.end)
    }

    /// All numbers, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().cloned().flatten()
    }
}

/// The code of one function. Instructions hold addresses into it, so it never moves.
pub(crate) struct Code {
    /// Instructions.
    pub words: Box<[u64]>,
    /// Group that it belongs to.
    pub group: u32,
    /// The function's record (`*mut FuncRec`, opaque here); null for thunks.
    pub record: *mut (),
    /// (word, byte offset in the module) of instructions that can trap or call, ascending.
    pub places: Box<[(u32, u32)]>,
}

impl Code {
    /// Byte offset in the module of the operator that the instruction at or before `word` came from.
    pub fn place(&self, word: usize) -> Option<usize> {
        let after = self
            .places
            .partition_point(|(start, _)| *start as usize <= word);
        let (_, offset) = self.places.get(after.checked_sub(1)?)?;
        Some(*offset as usize)
    }
}

/// A 32-bit field of an instruction that holds the value of a global plus a constant. Object files
/// call this a relocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relocation {
    /// Address of the field.
    pub at: usize,
    /// Added to the value, modulo 2^32.
    pub addend: u32,
    /// Added to that without wrapping, for addresses of more than a byte; the greatest address, where none of
    /// those can be, if it would wrap.
    pub offset: u32,
    /// Group of the code.
    pub group: u32,
}

impl Relocation {
    /// What the field holds for this value of the global.
    pub fn field(&self, value: u32) -> u32 {
        value.wrapping_add(self.addend).saturating_add(self.offset)
    }
}

/// All code of a store by address.
#[derive(Default)]
pub(crate) struct CodeMap {
    /// Start address to code.
    map: BTreeMap<usize, Code>,
    /// Fields to patch when a global (group and place) changes.
    relocations: HashMap<(u32, u32), Vec<Relocation>>,
}

impl CodeMap {
    /// Takes code in and gives its address, which stays valid until it is released.
    pub fn insert(&mut self, code: Code) -> *const u64 {
        let address = code.words.as_ptr();
        self.map.insert(address as usize, code);
        address
    }

    /// The code that contains an address, and the word in it.
    pub fn find(&self, address: usize) -> Option<(&Code, usize)> {
        let (start, code) = self.map.range(..=address).next_back()?;
        let offset = address - start;
        (offset < code.words.len() * 8).then_some((code, offset / 8))
    }

    /// All code with its start address.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Code)> {
        self.map.iter().map(|(start, code)| (*start, code))
    }

    /// Notes fields that hold the value of a global, all or, if the system has no memory for that, none.
    pub fn relocate(
        &mut self,
        fields: impl Iterator<Item = ((u32, u32), Relocation)> + Clone,
    ) -> Result<()> {
        for (number, (global, relocation)) in fields.clone().enumerate() {
            let room = self.relocations.try_reserve(1).is_ok();
            let list = room.then(|| self.relocations.entry(global).or_default());
            let list = list.and_then(|list| list.try_reserve(1).ok().map(|()| list));
            match list {
                Some(list) => list.push(relocation),
                None => {
                    // Each stands at the end of its list.
                    for (global, _) in fields.clone().take(number) {
                        self.relocations.get_mut(&global).map(Vec::pop);
                    }
                    return Err(Error::new(ErrorKind::Limit {
                        what: "memory of the system for the addresses in a function's code"
                            .to_owned(),
                        needed: fields.count() as u64,
                        allowed: 0,
                    }));
                }
            }
        }
        Ok(())
    }

    /// The fields that hold the value of a global.
    pub fn relocations(&self, global: (u32, u32)) -> &[Relocation] {
        self.relocations.get(&global).map_or(&[], Vec::as_slice)
    }

    /// Frees all code of these groups, and forgets its fields and their globals.
    pub fn release(&mut self, groups: &GroupRanges) {
        self.map.retain(|_, code| !groups.contains(code.group));
        self.relocations.retain(|global, fields| {
            fields.retain(|field| !groups.contains(field.group));
            !groups.contains(global.0) && !fields.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_in_their_ranges() {
        let ranges = GroupRanges::new([7..9, 2..3, 5..5]);
        let inside: Vec<u32> = (0..12).filter(|number| ranges.contains(*number)).collect();
        assert_eq!(inside, [2, 7, 8]);
        assert!(ranges.numbers().eq(inside));
    }
}
