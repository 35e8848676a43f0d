//! Translated code of one function, and the map from addresses back to functions.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

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

/// All code of a store by address.
#[derive(Default)]
pub(crate) struct CodeMap {
    /// Start address to code.
    map: BTreeMap<usize, Code>,
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

    /// Frees all code of a group.
    pub fn release(&mut self, group: u32) {
        self.map.retain(|_, code| code.group != group);
    }
}
