//! Globals: cells shared by reference between instances.

use super::store::{AsContext, AsContextMut};
use super::value::Val;
use crate::error::Result;
use crate::module::GlobalType;

/// A global of a store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Global {
    pub(crate) store: u32,
    pub(crate) group: u32,
    pub(crate) place: u32,
}

impl Global {
    /// A global with a value.
    ///
    /// # Errors
    /// The value has another type.
    pub fn new(_store: impl AsContextMut, _ty: GlobalType, _value: Val) -> Result<Global> {
        todo!()
    }
    /// The type.
    pub fn ty(&self, _store: impl AsContext) -> GlobalType {
        todo!()
    }
    /// The value.
    pub fn get(&self, _store: impl AsContextMut) -> Val {
        todo!()
    }
    /// Sets the value.
    ///
    /// # Errors
    /// The global is immutable or the value has another type.
    pub fn set(&self, _store: impl AsContextMut, _value: Val) -> Result<()> {
        todo!()
    }
}
