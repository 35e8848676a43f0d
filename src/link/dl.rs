//! `dlopen`, `dlsym`, `dlclose`, `dladdr`, `dlerror`: their rules for host and guest alike (D1 to D16).
//!
//! The functions here are what an embedder calls. Guests reach them through `abi.rs`, which adds the calling object, the
//! texts of `dlerror`, and null instead of errors.
#![forbid(unsafe_code)]

use super::abi;
use super::graph;
use super::object::{Definition, Object, ObjectId};
use super::plan::{LoadOptions, runtime_directories};
use super::process::Process;
use super::state::View;
use super::symbols::Symbol;
use super::trace::TraceTopics;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::{AsContextMut, Func, Instance, Ref, StoreContextMut};
use crate::shown::{shown, shown_list};

bitflags::bitflags! {
    /// Flags of `dlopen`, with the values of musl. Without [`OpenFlags::GLOBAL`], symbols stay local (`RTLD_LOCAL`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct OpenFlags: u32 {
        /// Undefined functions are looked for when they are called.
        const LAZY = 1;
        /// Undefined functions are an error.
        const NOW = 2;
        /// Only a handle of what is loaded already.
        const NOLOAD = 4;
        /// All objects see the library's symbols, and those of what it needs.
        const GLOBAL = 256;
        /// Never unloaded.
        const NODELETE = 4096;
    }
}

/// The handle that stands for the global scope.
pub const RTLD_DEFAULT: u32 = 0;

/// The handle that stands for the objects after the calling one.
pub const RTLD_NEXT: u32 = u32::MAX;

/// What `dladdr` finds about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressInfo {
    /// The object's path.
    pub path: String,
    /// Where the object's data begins.
    pub base: u32,
    /// The nearest symbol at or below the address, and its address.
    pub symbol: Option<(String, u32)>,
}

pub(crate) fn handle_of(id: ObjectId) -> u32 {
    id.0.saturating_add(1)
}

pub(crate) fn object_of(handle: u32) -> Option<ObjectId> {
    handle.checked_sub(1).map(ObjectId)
}

impl<T: 'static> Process<T> {
    /// Opens a library, or the process itself (`None`); gives a handle. Opening a library again gives the same handle.
    ///
    /// # Errors
    /// The library or one that it needs is missing or malformed, symbols are undefined or do not fit, a limit, or a trap
    /// in a constructor. The process is then as before, and the same call gives the same error.
    pub fn dlopen(
        &self,
        mut store: impl AsContextMut<Data = T>,
        name: Option<&str>,
        flags: OpenFlags,
    ) -> Result<u32> {
        self.open(&mut store.as_context_mut(), name, flags, None)
            .map_err(|error| match name {
                Some(name) => error.context(format!("cannot load `{}`", shown(name))),
                None => error,
            })
    }

    /// Like [`Process::dlopen`]; `caller` is the object that asks, whose runtime path counts (rule N2).
    pub(crate) fn open(
        &self,
        store: &mut StoreContextMut<'_, T>,
        name: Option<&str>,
        flags: OpenFlags,
        caller: Option<ObjectId>,
    ) -> Result<u32> {
        if !flags.intersects(OpenFlags::LAZY | OpenFlags::NOW) {
            return Err(Error::msg(
                "invalid mode for dlopen(): Either RTLD_LAZY or RTLD_NOW is required",
            ));
        }
        self.release_retired(store, Vec::new());
        store.pay_for_guest(abi::cost(name.map_or(0, str::len)))?;
        let Some(name) = name else {
            let main = self.state().main;
            return main
                .map(handle_of)
                .ok_or_else(|| Error::usage("the process was not started"));
        };
        let known = self.state().loaded(name, None);
        if let Some(id) = known {
            return self.reopen(id, flags);
        }
        let requester = {
            let state = self.state();
            caller.or(state.main).and_then(|id| {
                let object = state.object(id)?;
                let runtime_path = object
                    .symbols
                    .module()
                    .dylink()
                    .map_or_else(Vec::new, |info| info.runtime_path.clone());
                Some((object.path.clone(), runtime_path))
            })
        };
        let directories = match requester {
            Some((path, list)) => {
                runtime_directories(&path, &list, self.0.profile.max_runtime_path)?
            }
            None => Vec::new(),
        };
        let file = match self.find_file(store, name, &directories)? {
            Ok(file) => file,
            Err(tried) => {
                return Err(Error::new(ErrorKind::Link(format!(
                    "file not found; looked for in: {}",
                    if tried.is_empty() {
                        "nowhere (there is no library path)".to_string()
                    } else {
                        shown_list(&tried)
                    }
                ))));
            }
        };
        let known = self.state().loaded(&file.path, Some(&file.identity));
        if let Some(id) = known {
            self.state().add_alias(name, id);
            return self.reopen(id, flags);
        }
        if flags.contains(OpenFlags::NOLOAD) {
            return Err(Error::msg("the library is not loaded (RTLD_NOLOAD)"));
        }
        if self.state().main.is_none() {
            return Err(Error::usage(
                "the process was not started, so there is nothing to load a library into",
            ));
        }
        let options = LoadOptions {
            global: flags.contains(OpenFlags::GLOBAL),
            bind_now: flags.contains(OpenFlags::NOW),
        };
        let plan = self.plan_library(store, name, &file, options)?;
        let id = self.commit(store, plan)?;
        self.reopen(id, flags)
    }

    /// One more handle of a loaded object; flags add to those it has (rules D3, D4).
    fn reopen(&self, id: ObjectId, flags: OpenFlags) -> Result<u32> {
        let mut state = self.state();
        if flags.contains(OpenFlags::GLOBAL) || self.0.profile.all_global {
            let closure = {
                let view = View::loaded(&state);
                graph::breadth_first([id], |id| view.needed(id))
            };
            state.promote(&closure);
        }
        let object = state
            .objects
            .get_mut(&id)
            .ok_or_else(|| Error::msg("the library is gone"))?;
        object.opens = object.opens.saturating_add(1);
        object.stays |= flags.contains(OpenFlags::NODELETE);
        self.0.trace.line(
            TraceTopics::FILES,
            format_args!(
                "opening file={} [0]; direct_opencount={}",
                object.path, object.opens
            ),
        );
        self.0.trace.line(TraceTopics::FILES, format_args!(""));
        Ok(handle_of(id))
    }

    /// The address of a symbol: of data, or the table index of a function. `handle` is one of [`Process::dlopen`], whose
    /// object and what it needs are searched breadth-first, or [`RTLD_DEFAULT`].
    ///
    /// # Errors
    /// No such handle or symbol.
    pub fn dlsym(
        &self,
        mut store: impl AsContextMut<Data = T>,
        handle: u32,
        name: &str,
    ) -> Result<u32> {
        self.find_symbol(&mut store.as_context_mut(), handle, name, None)
    }

    /// The function behind a symbol, to be called by the host; else as [`Process::dlsym`].
    ///
    /// # Errors
    /// No such handle or symbol, or it is no function.
    pub fn dlsym_function(
        &self,
        mut store: impl AsContextMut<Data = T>,
        handle: u32,
        name: &str,
    ) -> Result<Func> {
        let mut store = store.as_context_mut();
        let found = self.find_definition(handle, name, None)?;
        let missing = || unknown_symbol(name, &self.searched(handle, None));
        let definition = found.ok_or_else(missing)?;
        self.definition_func(&mut store, definition)?
            .ok_or_else(|| {
                Error::new(ErrorKind::Link(format!(
                    "symbol `{}` is no function",
                    shown(name)
                )))
            })
    }

    pub(crate) fn find_symbol(
        &self,
        store: &mut StoreContextMut<'_, T>,
        handle: u32,
        name: &str,
        caller: Option<ObjectId>,
    ) -> Result<u32> {
        let objects = self.state().objects.len();
        store.pay_for_guest(abi::cost(name.len().saturating_add(objects)))?;
        let missing = || unknown_symbol(name, &self.searched(handle, caller));
        match self.find_definition(handle, name, caller)? {
            Some(definition) => self
                .address_for_guests(store, definition, name)?
                .ok_or_else(missing),
            // The host comes after all objects (rule R2), so also after the calling one.
            None if handle == RTLD_NEXT || self.is_everything(handle) => {
                self.host_symbol(store, name)?.ok_or_else(missing)
            }
            None => Err(missing()),
        }
    }

    /// Whether a handle stands for the global scope.
    fn is_everything(&self, handle: u32) -> bool {
        handle == RTLD_DEFAULT || self.state().main.map(handle_of) == Some(handle)
    }

    /// The definition that a handle leads to.
    fn find_definition(
        &self,
        handle: u32,
        name: &str,
        caller: Option<ObjectId>,
    ) -> Result<Option<Definition>> {
        let state = self.state();
        let view = View::loaded(&state);
        if handle == RTLD_DEFAULT || state.main.map(handle_of) == Some(handle) {
            Ok(view.find(self.0.profile.symbol_order, None, name))
        } else if handle == RTLD_NEXT {
            let caller = caller.ok_or_else(|| {
                Error::msg("RTLD_NEXT needs a calling library, but the host called")
            })?;
            Ok(view.find_in(view.behind(caller), name))
        } else {
            let id = self.opened(&state, handle)?.id;
            let closure = graph::breadth_first([id], |id| view.needed(id));
            Ok(view.find_in(closure, name))
        }
    }

    /// Where the definition that a handle leads to was looked for.
    fn searched(&self, handle: u32, caller: Option<ObjectId>) -> String {
        if self.is_everything(handle) {
            return "the global scope".to_string();
        }
        let state = self.state();
        match (handle, object_of(handle), caller) {
            (RTLD_NEXT, _, Some(caller)) => {
                format!("the libraries after {}", shown(state.name(caller)))
            }
            (_, Some(id), _) => shown(state.name(id)).to_string(),
            _ => "?".to_string(),
        }
    }

    /// The address of a host function whose type is known.
    fn host_symbol(&self, store: &mut StoreContextMut<'_, T>, name: &str) -> Result<Option<u32>> {
        let ty = self
            .0
            .host
            .signature("env", name)
            .or_else(|| abi::signature(name).filter(|_| self.0.profile.dl_functions));
        let symbol = store.engine().names().name(name);
        match ty.and_then(|ty| self.host_function(store, "env", symbol, &ty)) {
            Some(func) => self.function_address(store, func, None).map(Some),
            None => Ok(None),
        }
    }

    fn opened<'a>(&self, state: &'a super::state::State, handle: u32) -> Result<&'a Object> {
        object_of(handle)
            .and_then(|id| state.object(id))
            .filter(|object| object.opens > 0 || Some(object.id) == state.main)
            .ok_or_else(|| invalid_handle(handle))
    }

    /// Closes a handle. When the last one of an object is closed and no other object depends on it, its destructors run
    /// and it is unloaded: its names are free, its table slots are null, its memory is given back.
    ///
    /// # Errors
    /// No such handle, or a trap in a destructor.
    pub fn dlclose(&self, mut store: impl AsContextMut<Data = T>, handle: u32) -> Result<()> {
        {
            let mut state = self.state();
            let id = self.opened(&state, handle)?.id;
            if state.main == Some(id) {
                return Ok(());
            }
            let Some(object) = state.objects.get_mut(&id) else {
                return Err(invalid_handle(handle));
            };
            object.opens = object.opens.saturating_sub(1);
            self.0.trace.line(TraceTopics::FILES, format_args!(""));
            self.0.trace.line(
                TraceTopics::FILES,
                format_args!(
                    "closing file={}; direct_opencount={}",
                    object.path, object.opens
                ),
            );
            if object.opens > 0 {
                return Ok(());
            }
        }
        self.collect(&mut store.as_context_mut())
    }

    /// What lies at an address: data of an object, or a function at that table index.
    pub fn dladdr(
        &self,
        mut store: impl AsContextMut<Data = T>,
        address: u32,
    ) -> Option<AddressInfo> {
        self.what_is_at(&mut store.as_context_mut(), address)
            .map(|(_, info)| info)
    }

    /// As [`Process::dladdr`], with the object.
    pub(crate) fn what_is_at(
        &self,
        store: &mut StoreContextMut<'_, T>,
        address: u32,
    ) -> Option<(ObjectId, AddressInfo)> {
        // Low numbers can be both: table indices are more likely asked for than data of a main module with fixed
        // addresses.
        self.data_at(store, address, |object| {
            Some((object.memory.base, object.memory.size))
        })
        .or_else(|| self.function_at(store, address))
        .or_else(|| {
            self.data_at(store, address, |object| {
                super::segments::fixed_extent(object).filter(|_| !object.relocatable)
            })
        })
    }

    /// The object whose data, as `extent` tells its first address and size, contains the address.
    fn data_at(
        &self,
        store: &mut StoreContextMut<'_, T>,
        address: u32,
        extent: impl Fn(&Object) -> Option<(u32, u32)>,
    ) -> Option<(ObjectId, AddressInfo)> {
        let (id, path, base, symbols) = {
            let state = self.state();
            let object = state.objects.values().find(|object| {
                extent(object).is_some_and(|(base, size)| {
                    address
                        .checked_sub(base)
                        .is_some_and(|offset| offset < size)
                })
            })?;
            (
                object.id,
                object.path.clone(),
                object.memory.base,
                object.symbols.clone(),
            )
        };
        let mut nearest: Option<(&str, u32)> = None;
        for (name, symbol) in symbols.names() {
            if !matches!(symbol, Symbol::Data { .. }) {
                continue;
            }
            let definition = Definition { object: id, symbol };
            if let Ok(Some(at)) = self.definition_address(store, definition) {
                let nearer = nearest.as_ref().is_none_or(|(_, best)| at > *best);
                if at <= address && at >= base && nearer {
                    nearest = Some((name, at));
                }
            }
        }
        let info = AddressInfo {
            path,
            base,
            symbol: nearest.map(|(name, at)| (name.to_string(), at)),
        };
        Some((id, info))
    }

    fn function_at(
        &self,
        store: &mut StoreContextMut<'_, T>,
        index: u32,
    ) -> Option<(ObjectId, AddressInfo)> {
        let table = self.table()?;
        let Some(Ref::Func(Some(func))) = table.get(&mut *store, u64::from(index)) else {
            return None;
        };
        let func = func.resolved(&*store);
        let instance = Instance {
            store: func.store,
            group: func.group,
        };
        let (id, path, base, symbols) = {
            let state = self.state();
            let object = state.object(*state.instances.get(&instance)?)?;
            (
                object.id,
                object.path.clone(),
                object.memory.base,
                object.symbols.clone(),
            )
        };
        let mut symbol = None;
        for (name, defined) in symbols.names() {
            if matches!(defined, Symbol::Function { .. })
                && instance
                    .get_func(&mut *store, name)
                    .is_some_and(|found| found.resolved(&*store) == func)
            {
                symbol = Some((name.to_string(), index));
                break;
            }
        }
        Some((id, AddressInfo { path, base, symbol }))
    }

    /// The text of the last error of a guest's call, once.
    pub fn dlerror(&self) -> Option<String> {
        self.state().error.take()
    }

    pub(crate) fn set_error(&self, text: String) {
        self.state().error = Some(text);
    }
}

fn unknown_symbol(name: &str, place: &str) -> Error {
    Error::new(ErrorKind::Link(format!(
        "Tried to lookup unknown symbol \"{}\" in dynamic lib: {place}",
        shown(name)
    )))
}

pub(crate) fn invalid_handle(handle: u32) -> Error {
    Error::new(ErrorKind::Link(format!(
        "Invalid library handle {handle:#x}"
    )))
}
