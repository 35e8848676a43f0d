//! A [`Linker`]'s definitions as the host functions of a process.
//!
//! An embedder that needs no more than named functions defines them once in a `Linker`, as for any instance, and gives
//! it to [`ProcessBuilder::host`](super::ProcessBuilder::host). Whatever depends on the process or on the importer's
//! type needs a [`HostSymbols`] of its own.
#![forbid(unsafe_code)]

use super::process::{HostSymbols, Process};
use crate::module::{FuncType, GlobalType};
use crate::runtime::{Extern, Func, Global, Linker, StoreContextMut};

impl<T: 'static> HostSymbols<T> for Linker<T> {
    fn function(
        &self,
        _process: &Process<T>,
        mut store: StoreContextMut<'_, T>,
        module: &str,
        name: &str,
        ty: &FuncType,
    ) -> Option<Func> {
        let func = self.get_func(&mut store, module, name)?;
        (func.ty(&store) == *ty).then_some(func)
    }

    fn signature(&self, module: &str, name: &str) -> Option<FuncType> {
        self.host_function_type(module, name).cloned()
    }

    fn global(
        &self,
        _process: &Process<T>,
        mut store: StoreContextMut<'_, T>,
        module: &str,
        name: &str,
        ty: GlobalType,
    ) -> Option<Global> {
        let global = match self.get(&mut store, module, name)? {
            Extern::Global(global) => global,
            _ => return None,
        };
        (global.ty(&store) == ty).then_some(global)
    }
}
