//! A process: one memory, one table, one stack pointer, one set of objects. The public face of the linker.
//!
//! A [`Process`] is a cheap handle that host functions keep a clone of. What it knows lies behind a lock that is held
//! only for look-ups and entries, never while guest code runs, a file is read, or the embedder is asked: so guests may
//! call `dlopen` from a constructor that a `dlopen` runs, and embedders may use the process in their host functions.
#![forbid(unsafe_code)]

use super::object::{Object, ObjectId};
use super::profile::Profile;
use super::search::{Files, SearchPath};
use super::state::{State, View};
use super::statistics::Counters;
use super::trace::{Trace, TraceSink, TraceTopics};
use crate::error::{Error, Result};
use crate::module::{FuncType, GlobalType, Module};
use crate::runtime::{
    AsContextMut, Extern, Func, Global, Instance, Memory, StoreContextMut, Table,
};
use crate::shown::shown;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Functions and globals of the host, offered to guests by name. Asked when a library is loaded, and when a call finds
/// a function undefined.
///
/// What it gives belongs to the store for good: a failed load does not take it back, so it may be cached.
pub trait HostSymbols<T: 'static>: Send + Sync {
    /// A function for an import, of exactly the importer's type; `None` if there is none of this name and type.
    fn function(
        &self,
        process: &Process<T>,
        store: StoreContextMut<'_, T>,
        module: &str,
        name: &str,
        ty: &FuncType,
    ) -> Option<Func>;

    /// Whether the host's function is taken even if an object of the process defines one. Asked for imports of `env`;
    /// for other modules the host always comes first. Default: no.
    fn overrides(&self, _module: &str, _name: &str) -> bool {
        false
    }

    /// The type of a function, for programs that take its address without calling it. Default: not known.
    fn signature(&self, _module: &str, _name: &str) -> Option<FuncType> {
        None
    }

    /// A global for an import that is not part of the linking convention. Default: none.
    fn global(
        &self,
        _process: &Process<T>,
        _store: StoreContextMut<'_, T>,
        _module: &str,
        _name: &str,
        _ty: GlobalType,
    ) -> Option<Global> {
        None
    }

    /// Whether the process goes on after this error of a host function of this host: it only unwinds the guest's stack
    /// to a host function that takes it, as `longjmp` does. Default: no, the guest has ended.
    fn goes_on_after(&self, _error: &Error) -> bool {
        false
    }

    /// Anything to add to the message about an undefined function, such as the feature that would define it.
    fn hint(&self, _module: &str, _name: &str) -> Option<String> {
        None
    }
}

/// No host functions.
pub struct NoHostSymbols;

impl<T: 'static> HostSymbols<T> for NoHostSymbols {
    fn function(
        &self,
        _process: &Process<T>,
        _store: StoreContextMut<'_, T>,
        _module: &str,
        _name: &str,
        _ty: &FuncType,
    ) -> Option<Func> {
        None
    }
}

/// A process in a store with data `T`. Cheap to clone; all clones are the same process.
pub struct Process<T: 'static>(pub(crate) Arc<Shared<T>>);

impl<T: 'static> Clone for Process<T> {
    fn clone(&self) -> Self {
        Process(self.0.clone())
    }
}

pub(crate) struct Shared<T: 'static> {
    pub profile: Profile,
    pub search: SearchPath,
    pub preload: Vec<String>,
    pub files: Box<dyn Files<T>>,
    pub host: Box<dyn HostSymbols<T>>,
    pub trace: Trace,
    pub counters: Counters,
    state: Mutex<State>,
    /// Faults that tests make in the middle of a load.
    #[cfg(test)]
    pub faults: Faults,
}

/// Fails a load at one of its steps.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Faults {
    /// Steps so far.
    pub steps: std::sync::atomic::AtomicUsize,
    /// The step that fails, counted from 1; 0: none.
    pub fails_at: std::sync::atomic::AtomicUsize,
}

/// Collects what a [`Process`] is made of.
pub struct ProcessBuilder<T: 'static> {
    profile: Profile,
    search: SearchPath,
    preload: Vec<String>,
    files: Option<Box<dyn Files<T>>>,
    host: Option<Box<dyn HostSymbols<T>>>,
    trace: Trace,
}

impl<T: 'static> ProcessBuilder<T> {
    /// Choices and limits. Default: [`Profile::wasi`].
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Where library files come from. Default: there are none.
    pub fn files(mut self, files: impl Files<T> + 'static) -> Self {
        self.files = Some(Box::new(files));
        self
    }

    /// The host's functions. Default: none.
    pub fn host(mut self, host: impl HostSymbols<T> + 'static) -> Self {
        self.host = Some(Box::new(host));
        self
    }

    /// A directory where libraries are looked for before all others; may be called several times.
    pub fn library_path(mut self, directory: impl Into<String>) -> Self {
        self.search.first.push(directory.into());
        self
    }

    /// Directories as `LD_LIBRARY_PATH` lists them; after those of [`ProcessBuilder::library_path`] so far.
    pub fn ld_library_path(mut self, list: &str) -> Self {
        self.search.first.extend(SearchPath::split(list));
        self
    }

    /// A directory where libraries are looked for after all others; may be called several times.
    pub fn default_path(mut self, directory: impl Into<String>) -> Self {
        self.search.last.push(directory.into());
        self
    }

    /// A library to load at startup before those that the main module needs, as `LD_PRELOAD` does.
    pub fn preload(mut self, name: impl Into<String>) -> Self {
        self.preload.push(name.into());
        self
    }

    /// Tells `sink` what the linker does.
    pub fn trace(mut self, topics: TraceTopics, sink: TraceSink) -> Self {
        self.trace = Trace::new(topics, sink);
        self
    }

    /// The process, empty until [`Process::start`].
    pub fn build(self) -> Process<T> {
        Process(Arc::new(Shared {
            profile: self.profile,
            search: self.search,
            preload: self.preload,
            files: self
                .files
                .unwrap_or_else(|| Box::new(super::search::MemoryFiles::new())),
            host: self.host.unwrap_or_else(|| Box::new(NoHostSymbols)),
            trace: self.trace,
            counters: Counters::default(),
            state: Mutex::default(),
            #[cfg(test)]
            faults: Faults::default(),
        }))
    }
}

/// What an object of the process is, for embedders and tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryInfo {
    /// As it was asked for.
    pub name: String,
    /// Where it was found.
    pub path: String,
    /// Its handle, as `dlopen` gives it.
    pub handle: u32,
    /// Its instance.
    pub instance: Option<Instance>,
    /// First address of its data; 0 if it has none or its addresses are fixed.
    pub memory_base: u32,
    /// Bytes of its data.
    pub memory_size: u32,
    /// First of its table slots; 0 if it has none or its addresses are fixed.
    pub table_base: u32,
    /// Number of its table slots.
    pub table_size: u32,
    /// Names of the objects it needs.
    pub needed: Vec<String>,
    /// Open handles.
    pub opens: u32,
    /// Whether all objects see its symbols.
    pub global: bool,
    /// Whether its constructors have run.
    pub ready: bool,
}

impl<T: 'static> Process<T> {
    /// Collects what a process is made of.
    pub fn builder() -> ProcessBuilder<T> {
        ProcessBuilder {
            profile: Profile::default(),
            search: SearchPath::default(),
            preload: Vec::new(),
            files: None,
            host: None,
            trace: Trace::default(),
        }
    }

    /// What the process knows. Never held while guest code runs or the embedder is asked.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step of a load that could fail. Here tests let it fail, wherever they like; else nothing happens.
    #[inline]
    pub(crate) fn step(&self) -> Result<()> {
        #[cfg(test)]
        {
            use std::sync::atomic::Ordering::Relaxed;
            let faults = &self.0.faults;
            let number = faults.steps.fetch_add(1, Relaxed) + 1;
            if faults.fails_at.load(Relaxed) == number {
                return Err(Error::msg(format!("injected fault at step {number}")));
            }
        }
        Ok(())
    }

    /// Loads the main module and everything that it needs, and runs constructors; `path` is its name in messages, and
    /// its directory is its `$ORIGIN`. The program itself (`_start`) is not run: see [`Process::entry`].
    ///
    /// # Errors
    /// Lists all missing libraries, or all undefined and mismatching symbols, at once; or a limit; or a trap in a
    /// constructor. The process is then as before.
    pub fn start(
        &self,
        mut store: impl AsContextMut<Data = T>,
        module: &Module,
        path: &str,
    ) -> Result<Instance> {
        let mut store = store.as_context_mut();
        if self.state().main.is_some() {
            return Err(Error::usage("this process has a main module already"));
        }
        let plan = self
            .plan_main(&mut store, module, path)
            .map_err(|error| error.context(format!("cannot start `{}`", shown(path))))?;
        let root = self
            .commit(&mut store, plan)
            .map_err(|error| error.context(format!("cannot start `{}`", shown(path))))?;
        self.trace_statistics();
        let trace = &self.0.trace;
        let topics = TraceTopics::INIT | TraceTopics::LIBS;
        trace.line(topics, format_args!(""));
        trace.line(topics, format_args!("transferring control: {path}"));
        trace.line(topics, format_args!(""));
        self.instance_of(root)
            .ok_or_else(|| Error::msg("the main module has no instance"))
    }

    /// The function with which the program starts: the main module's export of this name, else `_start`, else any
    /// object's `main` (rule R12). A main module that also exports `_initialize`, which has run, is not started (S9).
    ///
    /// # Errors
    /// There is none; lists the functions that the main module exports.
    pub fn entry(
        &self,
        mut store: impl AsContextMut<Data = T>,
        name: Option<&str>,
    ) -> Result<Func> {
        let mut store = store.as_context_mut();
        let instance = self
            .main_instance()
            .ok_or_else(|| Error::usage("the process was not started"))?;
        let initialised = name.is_none() && instance.get_func(&mut store, "_initialize").is_some();
        if !initialised && let Some(func) = instance.get_func(&mut store, name.unwrap_or("_start"))
        {
            return Ok(func);
        }
        let others: &[&str] = match name {
            Some("main") | None => &["__main_void", "main", "__main_argc_argv"],
            Some(_) => &[],
        };
        for name in others {
            if let Some(func) = self.function(&mut store, name) {
                return Ok(func);
            }
        }
        let exported: Vec<String> = instance
            .exports(&mut store)
            .into_iter()
            .filter(|(_, item)| matches!(item, Extern::Func(_)))
            .map(|(name, _)| shown(&name).to_string())
            .take(40)
            .collect();
        let why = match name.unwrap_or("_start") {
            "_start" if initialised => {
                "the main module exports `_initialize`, so it is no program that runs once; name the function to call"
                    .to_string()
            }
            name => format!("the main module exports no function `{}`", shown(name)),
        };
        Err(Error::usage(format!(
            "{why}; it exports: {}",
            exported.join(", ")
        )))
    }

    /// A function by its symbol: the main module's, else a global library's. Called through its table slot's function,
    /// never through a wrapper.
    pub fn function(&self, mut store: impl AsContextMut<Data = T>, name: &str) -> Option<Func> {
        let mut store = store.as_context_mut();
        let definition = {
            let state = self.state();
            View::loaded(&state).find(self.0.profile.symbol_order, None, name)?
        };
        self.definition_func(&mut store, definition).ok().flatten()
    }

    /// The address of a symbol of the main module or a global library: of data, or the table index of a function.
    pub fn address(&self, mut store: impl AsContextMut<Data = T>, name: &str) -> Option<u32> {
        let mut store = store.as_context_mut();
        let definition = {
            let state = self.state();
            View::loaded(&state).find(self.0.profile.symbol_order, None, name)?
        };
        self.definition_address(&mut store, definition)
            .ok()
            .flatten()
    }

    /// The memory that all objects share.
    pub fn memory(&self) -> Option<Memory> {
        self.state().memory
    }

    /// The table that all objects share.
    pub fn table(&self) -> Option<Table> {
        self.state().table
    }

    /// The C stack pointer that all objects share.
    pub fn stack_pointer(&self) -> Option<Global> {
        self.state().stack_pointer
    }

    /// The main module's instance.
    pub fn main_instance(&self) -> Option<Instance> {
        let main = self.state().main?;
        self.instance_of(main)
    }

    pub(crate) fn instance_of(&self, id: ObjectId) -> Option<Instance> {
        self.state().object(id)?.instance
    }

    /// The objects of the process in load order, the main module first.
    pub fn libraries(&self) -> Vec<LibraryInfo> {
        let state = self.state();
        let global: HashSet<ObjectId> = state.global.iter().copied().collect();
        let info = |object: &Object| LibraryInfo {
            name: object.name.clone(),
            path: object.path.clone(),
            handle: super::dl::handle_of(object.id),
            instance: object.instance,
            memory_base: object.memory.base,
            memory_size: object.memory.size,
            table_base: object.table.base,
            table_size: object.table.count,
            needed: object
                .needed
                .iter()
                .map(|needed| state.name(*needed).to_string())
                .collect(),
            opens: object.opens,
            global: global.contains(&object.id),
            ready: object.status == super::object::Status::Ready,
        };
        state.objects.values().map(info).collect()
    }

    /// The symbols that an object defines: name and whether it is a function (`None` if only its address is known).
    ///
    /// # Errors
    /// There is no such object.
    pub fn symbols(&self, handle: u32) -> Result<Vec<(String, Option<bool>)>> {
        use super::symbols::Symbol;
        let table = {
            let state = self.state();
            let id = super::dl::object_of(handle);
            let object = id
                .and_then(|id| state.object(id))
                .ok_or_else(|| Error::usage(format!("no object has the handle {handle}")))?;
            object.symbols.clone()
        };
        Ok(table
            .names()
            .map(|(name, symbol)| {
                let function = match symbol {
                    Symbol::Function { .. } => Some(true),
                    Symbol::Data { .. } => Some(false),
                    Symbol::Pointer(_) => None,
                };
                (name.to_string(), function)
            })
            .collect())
    }
}
