//! Imports by name: collects definitions and instantiates modules with them.

use super::func::{Caller, Func, IntoFunc};
use super::instance::{Extern, Instance};
use super::store::{AsContext, AsContextMut};
use super::value::Val;
use crate::config::Engine;
use crate::error::Result;
use crate::module::{FuncType, Module};

/// Definitions by module and field name, for stores with data `T`.
pub struct Linker<T: 'static> {
    _data: std::marker::PhantomData<fn() -> T>,
}

impl<T: 'static> Linker<T> {
    /// No definitions.
    pub fn new(_engine: &Engine) -> Linker<T> {
        todo!()
    }
    /// Whether a later definition replaces an earlier one instead of being an error. Default: no.
    pub fn allow_shadowing(&mut self, _allow: bool) -> &mut Self {
        todo!()
    }
    /// Defines an item of a store.
    ///
    /// # Errors
    /// The name is taken.
    pub fn define(
        &mut self,
        _store: impl AsContext<Data = T>,
        _module: &str,
        _name: &str,
        _item: impl Into<Extern>,
    ) -> Result<&mut Self> {
        todo!()
    }
    /// Defines a host function with dynamic types.
    ///
    /// # Errors
    /// The name is taken.
    pub fn func_new(
        &mut self,
        _module: &str,
        _name: &str,
        _ty: FuncType,
        _call: impl Fn(Caller<'_, T>, &[Val], &mut [Val]) -> Result<()> + Send + Sync + 'static,
    ) -> Result<&mut Self> {
        todo!()
    }
    /// Defines a host function from a closure.
    ///
    /// # Errors
    /// The name is taken.
    pub fn func_wrap<P, R>(
        &mut self,
        _module: &str,
        _name: &str,
        _call: impl IntoFunc<T, P, R>,
    ) -> Result<&mut Self> {
        todo!()
    }
    /// Defines all exports of an instance under a module name.
    ///
    /// # Errors
    /// A name is taken.
    pub fn instance(
        &mut self,
        _store: impl AsContextMut<Data = T>,
        _module: &str,
        _instance: Instance,
    ) -> Result<&mut Self> {
        todo!()
    }
    /// A definition; host functions are made in the store at their first use.
    pub fn get(
        &self,
        _store: impl AsContextMut<Data = T>,
        _module: &str,
        _name: &str,
    ) -> Option<Extern> {
        todo!()
    }
    /// Every function import of `module` without a definition becomes one that traps with its name.
    ///
    /// # Errors
    /// None for functions; imports of other kinds stay undefined.
    pub fn define_unknown_imports_as_traps(&mut self, _module: &Module) -> Result<()> {
        todo!()
    }
    /// Instantiates a module with the definitions.
    ///
    /// # Errors
    /// Lists every import without a definition at once; else as [`Instance::new`].
    pub fn instantiate(
        &self,
        _store: impl AsContextMut<Data = T>,
        _module: &Module,
    ) -> Result<Instance> {
        todo!()
    }
    /// Like `get`, only functions.
    pub fn get_func(
        &self,
        store: impl AsContextMut<Data = T>,
        module: &str,
        name: &str,
    ) -> Option<Func> {
        self.get(store, module, name)?.into_func()
    }
}
