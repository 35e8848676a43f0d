//! Translated code of one function, and the map from addresses back to functions.

use std::collections::BTreeMap;

/// The code of one function. Instructions hold addresses into it, so it never moves.
pub(crate) struct Code {
    /// Instructions. Owned.
    pub words: Box<[u64]>,
    /// Group and function index that it belongs to.
    pub group: u32,
    pub func: u32,
    /// The function's record (`*mut FuncRec`, opaque here).
    pub record: *mut (),
    /// (word, byte offset in the module) of instructions that can trap or call, ascending.
    pub places: Box<[(u32, u32)]>,
}

/// All code of a store by address.
#[derive(Default)]
pub(crate) struct CodeMap {
    /// Start address to code.
    pub map: BTreeMap<usize, Code>,
}

impl CodeMap {
    /// The code that contains an address.
    pub fn find(&self, address: usize) -> Option<(&Code, usize)> {
        let (start, code) = self.map.range(..=address).next_back()?;
        let offset = address - start;
        (offset < code.words.len() * 8).then_some((code, offset / 8))
    }
}
