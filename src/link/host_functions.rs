//! Functions of the host that imports were bound to: one for each name and type, so that all objects share it and
//! loading again makes no more.
#![forbid(unsafe_code)]

use super::process::Process;
use crate::module::{FuncType, Name};
use crate::runtime::{Func, StoreContextMut};
use std::collections::HashMap;

/// The functions so far.
#[derive(Default)]
pub(crate) struct HostFunctions {
    /// By the hash of the name and the type: guests choose how many types they want one name with.
    by_name: HashMap<(u64, FuncType), Vec<HostFunction>>,
    len: usize,
}

struct HostFunction {
    from: Box<str>,
    name: Box<str>,
    func: Func,
}

impl HostFunctions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The function of this name and type.
    pub fn get(&self, from: &str, name: Name<'_>, ty: &FuncType) -> Option<Func> {
        let list = self.by_name.get(&(name.hash, ty.clone()))?;
        let known = list.iter().find(|known| known.is(from, name))?;
        Some(known.func)
    }

    /// Enters a function, in place of the one that is there.
    fn insert(&mut self, from: &str, name: Name<'_>, ty: &FuncType, func: Func) {
        let list = self.by_name.entry((name.hash, ty.clone())).or_default();
        match list.iter_mut().find(|known| known.is(from, name)) {
            Some(known) => known.func = func,
            None => {
                self.len += 1;
                list.push(HostFunction {
                    from: from.into(),
                    name: name.text.into(),
                    func,
                });
            }
        }
    }
}

impl HostFunction {
    fn is(&self, from: &str, name: Name<'_>) -> bool {
        *self.name == *name.text && *self.from == *from
    }
}

impl<T: 'static> Process<T> {
    /// A function of the host: the embedder's, else one of the linker's own.
    pub(crate) fn host_function(
        &self,
        store: &mut StoreContextMut<'_, T>,
        from: &str,
        name: Name<'_>,
        ty: &FuncType,
    ) -> Option<Func> {
        let known = self.state().host_functions.get(from, name, ty);
        if let Some(func) = known.filter(|func| store.0.core.find_func(*func).is_ok()) {
            return Some(func);
        }
        let text = name.text;
        let given = self
            .0
            .host
            .function(self, StoreContextMut(&mut *store.0), from, text, ty);
        let func = given.filter(|func| func.ty(&*store) == *ty).or_else(|| {
            (from == "env" && self.0.profile.dl_functions)
                .then(|| super::abi::function(self, store, text, ty))
                .flatten()
        })?;
        self.state().host_functions.insert(from, name, ty, func);
        Some(func)
    }
}
