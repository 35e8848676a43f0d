//! Linear memories: the only owner of their bytes.

use super::store::{AsContext, AsContextMut};
use crate::error::Result;
use crate::module::MemoryType;

/// A memory of a store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Memory {
    pub(crate) store: u32,
    pub(crate) group: u32,
    pub(crate) place: u32,
}

impl Memory {
    /// A memory of its minimum size, all zero.
    ///
    /// # Errors
    /// A limit, or the system has no memory.
    pub fn new(_store: impl AsContextMut, _ty: MemoryType) -> Result<Memory> {
        todo!()
    }
    /// The type, with the present size as minimum.
    pub fn ty(&self, _store: impl AsContext) -> MemoryType {
        todo!()
    }
    /// The bytes.
    pub fn data<'a>(&self, _store: &'a impl AsContext) -> &'a [u8] {
        todo!()
    }
    /// The bytes.
    pub fn data_mut<'a>(&self, _store: &'a mut impl AsContextMut) -> &'a mut [u8] {
        todo!()
    }
    /// The bytes and the embedder's data together.
    pub fn data_and_store_mut<'a, C: AsContextMut>(
        &self,
        _store: &'a mut C,
    ) -> (&'a mut [u8], &'a mut C::Data) {
        todo!()
    }
    /// Size in bytes.
    pub fn data_size(&self, _store: impl AsContext) -> usize {
        todo!()
    }
    /// Size in pages of 64 KiB.
    pub fn size(&self, _store: impl AsContext) -> u64 {
        todo!()
    }
    /// Grows by `pages`; gives the size before.
    ///
    /// # Errors
    /// The maximum, a limit, or the system has no memory; nothing changed.
    pub fn grow(&self, _store: impl AsContextMut, _pages: u64) -> Result<u64> {
        todo!()
    }
    /// Copies bytes out.
    ///
    /// # Errors
    /// Out of bounds.
    pub fn read(&self, _store: impl AsContext, _offset: usize, _buffer: &mut [u8]) -> Result<()> {
        todo!()
    }
    /// Copies bytes in.
    ///
    /// # Errors
    /// Out of bounds.
    pub fn write(&self, _store: impl AsContextMut, _offset: usize, _buffer: &[u8]) -> Result<()> {
        todo!()
    }
}
