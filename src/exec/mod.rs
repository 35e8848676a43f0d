//! Runs translated code.

use crate::config::Engine;
use crate::runtime::Store;

impl<T: 'static> Store<T> {
    /// An empty store.
    pub fn new(_engine: &Engine, _data: T) -> Store<T> {
        todo!()
    }
}
