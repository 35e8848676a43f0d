//! Tables. Tables of functions keep, beside the references, the 16-byte entries that `call_indirect` reads.

use super::store::{AsContext, AsContextMut};
use super::value::Ref;
use crate::error::Result;
use crate::module::TableType;

/// A table of a store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Table {
    pub(crate) store: u32,
    pub(crate) group: u32,
    pub(crate) place: u32,
}

impl Table {
    /// A table of its minimum size.
    ///
    /// # Errors
    /// A limit, no memory, or a reference of another type.
    pub fn new(_store: impl AsContextMut, _ty: TableType, _init: Ref) -> Result<Table> {
        todo!()
    }
    /// The type, with the present size as minimum.
    pub fn ty(&self, _store: impl AsContext) -> TableType {
        todo!()
    }
    /// Number of elements.
    pub fn size(&self, _store: impl AsContext) -> u64 {
        todo!()
    }
    /// An element, `None` out of bounds.
    pub fn get(&self, _store: impl AsContextMut, _index: u64) -> Option<Ref> {
        todo!()
    }
    /// Sets an element.
    ///
    /// # Errors
    /// Out of bounds or a reference of another type.
    pub fn set(&self, _store: impl AsContextMut, _index: u64, _value: Ref) -> Result<()> {
        todo!()
    }
    /// Grows by `delta`; gives the size before.
    ///
    /// # Errors
    /// The maximum, a limit, or the system has no memory; nothing changed.
    pub fn grow(&self, _store: impl AsContextMut, _delta: u64, _init: Ref) -> Result<u64> {
        todo!()
    }
}
