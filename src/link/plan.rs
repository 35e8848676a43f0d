//! The first half of a load: everything that can go wrong without an effect on the process.
//!
//! A plan finds and parses all files, orders the graph, checks limits, and binds every import of every new object to a
//! definition. It collects all problems and reports them at once. A process whose plan failed is untouched.
#![forbid(unsafe_code)]

use super::lookup::Lookup;
use super::main_module::{MainShape, Place, is_relocatable};
use super::object::{Definition, ObjectId};
pub(crate) use super::problems::{About, Problems};
use super::process::Process;
use super::search::{FoundFile, SearchPath, Tried, file_name, search_goes_on};
use super::state::View;
use super::statistics::Clock;
use super::symbols::SymbolTable;
use super::trace::TraceTopics;
use super::undo::ends_process;
use super::{got::CellKind, got::CellTarget, got::LoaderValue, graph};
use crate::error::{Error, ErrorKind, Result};
use crate::module::{DylinkInfo, Module};
use crate::runtime::{Func, Global, StoreContextMut};
use crate::shown::{shown, shown_list};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock};

/// What looking for a file costs in fuel, besides what its length costs.
const FILE_COST: u64 = 1000;

/// What 64 bytes of a file cost in fuel when it is parsed.
const PARSE_COST: u64 = 16;

/// Objects named in the chain from a missing library to the main module.
const MAX_CHAIN: usize = 8;

/// What an import gets.
#[derive(Clone, Debug)]
pub(crate) enum Binding {
    Memory,
    Table,
    StackPointer,
    MemoryBase,
    TableBase,
    /// An address that the linker gives, as an immutable global.
    Loader(LoaderValue),
    /// A cell of the object: place in its cells.
    Cell(usize),
    Definition(Definition),
    /// `atexit` or `__cxa_atexit` of a C library that never forgets: the linker's own function before it.
    ExitRegistration(Definition),
    Host(Func),
    HostGlobal(Global),
    /// A function that nobody defines, or defines with another type: found at the first call, or a trap.
    Undefined(Undefined),
}

/// Why a function is not bound.
#[derive(Clone, Debug)]
pub(crate) enum Undefined {
    /// A weak reference: a call is a trap (rule R7).
    Weak,
    /// Nobody defines it yet (rule B4).
    Missing,
    /// There is a definition that does not fit: what is wrong.
    Mismatch(Box<str>),
}

/// A cell to make.
#[derive(Clone, Debug)]
pub(crate) struct PlannedCell {
    pub import: u32,
    pub kind: CellKind,
    pub target: CellTarget,
}

/// An object to load.
pub(crate) struct NewObject {
    pub id: ObjectId,
    pub name: String,
    pub path: String,
    pub identity: String,
    pub symbols: Arc<SymbolTable>,
    pub relocatable: bool,
    /// What kind of main module it is; `None` for libraries.
    pub main: Option<MainShape>,
    pub needed: Arc<[ObjectId]>,
    pub scope: Arc<[ObjectId]>,
    pub bindings: Vec<Binding>,
    pub cells: Arc<Vec<PlannedCell>>,
    /// The object of the plan that first asked for it.
    pub brought_by: Option<ObjectId>,
}

impl NewObject {
    /// What its dynamic linking section says.
    pub fn info(&self) -> &DylinkInfo {
        static NOTHING: LazyLock<DylinkInfo> = LazyLock::new(DylinkInfo::default);
        self.symbols.module().dylink().unwrap_or(&NOTHING)
    }
}

/// A load that can be committed.
pub(crate) struct Plan {
    /// In load order, breadth-first.
    pub new: Vec<NewObject>,
    /// The object that was asked for.
    pub root: ObjectId,
    /// The new objects, each after those it needs.
    pub init_order: Vec<ObjectId>,
    /// Objects, new and old, that become global.
    pub added_global: Vec<ObjectId>,
}

/// How to load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadOptions {
    pub global: bool,
    /// Undefined functions are errors.
    pub bind_now: bool,
}

/// A plan that grows.
pub(crate) struct Planner<'p, T: 'static> {
    pub process: &'p Process<T>,
    pub(super) first: u32,
    pub new: Vec<NewObject>,
    names: HashMap<String, ObjectId>,
    identities: HashMap<String, ObjectId>,
    pub problems: Problems,
    /// Where symbols are looked for.
    pub(super) lookup: Lookup,
    /// Paths that were tried so far.
    tried: usize,
}

impl<T: 'static> Process<T> {
    /// Plans the start of the process.
    pub(crate) fn plan_main(
        &self,
        store: &mut StoreContextMut<'_, T>,
        module: &Module,
        path: &str,
    ) -> Result<Plan> {
        if !module.engine().same(store.engine()) {
            return Err(Error::usage(
                "the module was made with another engine than the store",
            ));
        }
        let mut planner = self.planner();
        let shape = MainShape::of(module);
        let root = planner.add(module.clone(), path, path, path, Some(shape), None);
        planner.finish(
            store,
            root,
            LoadOptions {
                global: true,
                bind_now: self.0.profile.bind_now,
            },
        )
    }

    /// Plans the loading of a library that was found.
    pub(crate) fn plan_library(
        &self,
        store: &mut StoreContextMut<'_, T>,
        name: &str,
        file: &FoundFile,
        options: LoadOptions,
    ) -> Result<Plan> {
        let mut planner = self.planner();
        planner.check_count()?;
        let module = planner.open(store, file)?;
        let root = planner.add(module, name, &file.path, &file.identity, None, None);
        planner.finish(store, root, options)
    }

    pub(super) fn planner(&self) -> Planner<'_, T> {
        Planner {
            process: self,
            first: self.state().next,
            new: Vec::new(),
            names: HashMap::new(),
            identities: HashMap::new(),
            problems: Problems::default(),
            lookup: Lookup::default(),
            tried: 0,
        }
    }

    /// The file of a library (rule N1), or where it was looked for. `directories` are those of the runtime path of the object
    /// that asks for it.
    pub(crate) fn find_file(
        &self,
        store: &mut StoreContextMut<'_, T>,
        name: &str,
        directories: &[String],
    ) -> Result<Result<FoundFile, Vec<String>>> {
        let trace = &self.0.trace;
        let libs = TraceTopics::LIBS;
        if trace.wants(libs) && !name.contains('/') {
            trace.line(libs, format_args!("find library={name} [0]; searching"));
            let search = &self.0.search;
            for (list, from) in [
                (&search.first[..], "LD_LIBRARY_PATH"),
                (directories, "RUNPATH"),
                (&search.last[..], "system search path"),
            ] {
                if !list.is_empty() {
                    trace.line(
                        libs,
                        format_args!(" search path={}\t\t({from})", list.join(":")),
                    );
                }
            }
        }
        let mut tried = Tried::default();
        for path in self.0.search.candidates(name, directories) {
            store.pay(FILE_COST)?;
            trace.line(TraceTopics::LIBS, format_args!("  trying file={path}"));
            match self.0.files.find(store.data_mut(), &path) {
                Ok(Some(found)) => {
                    trace.line(libs, format_args!(""));
                    return Ok(Ok(found));
                }
                Ok(None) => {}
                Err(error) if search_goes_on(&error) => {}
                Err(source) => {
                    return Err(Error::new(ErrorKind::Io { path, source }));
                }
            }
            tried.add(path);
        }
        trace.line(libs, format_args!(""));
        Ok(Err(tried.list()))
    }
}

impl<T: 'static> Process<T> {
    /// Whether a name is that of the library with the functions of `<dlfcn.h>`, and the linker serves them. wasi-libc's
    /// has only stubs that fail, for programs that are linked without a dynamic linker.
    fn serves_libdl(&self, name: &str) -> bool {
        self.0.profile.dl_functions && file_name(name) == "libdl.so"
    }
}

impl<T: 'static> Planner<'_, T> {
    /// Reads and parses a library.
    pub(super) fn open(
        &self,
        store: &mut StoreContextMut<'_, T>,
        file: &FoundFile,
    ) -> Result<Module> {
        let engine = store.engine().clone();
        let limit = engine.config().limits.module_bytes;
        store.pay(0)?;
        let bytes = self
            .process
            .0
            .files
            .read(store.data_mut(), file, limit)
            .map_err(|source| {
                Error::new(ErrorKind::Io {
                    path: file.path.clone(),
                    source,
                })
            })?;
        let cost = u64::try_from(bytes.len() / 64).unwrap_or(u64::MAX);
        store.pay(cost.saturating_mul(PARSE_COST))?;
        let module = Module::watched(&engine, bytes, file_name(&file.path), &store.watch())?;
        let inner = &*module.0;
        if module.dylink().is_none() {
            return Err(Error::msg(
                "not a dynamic library: its first section is neither `dylink.0` nor `dylink` (link it with `wasm-ld -shared`)",
            ));
        }
        if inner.memories.len() > inner.imported_memories {
            return Err(Error::msg(
                "it defines a memory of its own, so it is a main module and not a library",
            ));
        }
        if let Some(base) = inner.constant_tls_base() {
            return Err(Error::msg(format!(
                "its thread-local data has no place: `__tls_base` is the constant {base}, so thread-local variables would lie at address {base} (LLVM makes that of code for threads which is linked without `--shared-memory`; compile it without `-matomics`, then thread-local data is ordinary data)"
            )));
        }
        Ok(module)
    }

    /// Adds an object to the plan.
    pub(super) fn add(
        &mut self,
        module: Module,
        name: &str,
        path: &str,
        identity: &str,
        main: Option<MainShape>,
        brought_by: Option<ObjectId>,
    ) -> ObjectId {
        let count = u32::try_from(self.new.len()).unwrap_or(u32::MAX);
        let id = ObjectId(self.first.saturating_add(count));
        let wrapped = main.as_ref().is_some_and(|shape| shape.wrapped_exports);
        let (symbols, unreadable) = SymbolTable::new(&module, wrapped);
        let symbols = match &main {
            None if self.process.serves_libdl(path) => symbols.without_dl_functions(),
            _ => symbols,
        };
        let trace = &self.process.0.trace;
        for name in unreadable {
            trace.line(
                TraceTopics::SYMBOLS,
                format_args!(
                    "{path}: the body of `{}` does not tell an address; ignored",
                    shown(&name)
                ),
            );
        }
        if wrapped {
            trace.line(
                TraceTopics::SYMBOLS,
                format_args!("{path}: exported functions run constructors and destructors around each call; not used as symbols"),
            );
        }
        self.new.push(NewObject {
            id,
            name: name.to_string(),
            path: path.to_string(),
            identity: identity.to_string(),
            relocatable: main
                .as_ref()
                .map_or_else(|| is_relocatable(&module), |shape| shape.relocatable),
            symbols: Arc::new(symbols),
            main,
            needed: Arc::new([]),
            scope: Arc::new([]),
            bindings: Vec::new(),
            cells: Arc::default(),
            brought_by,
        });
        self.names.insert(name.to_string(), id);
        self.names.insert(path.to_string(), id);
        self.identities.insert(identity.to_string(), id);
        id
    }

    pub(super) fn place(&self, id: ObjectId) -> Option<usize> {
        usize::try_from(id.0.checked_sub(self.first)?).ok()
    }

    /// Loads what is needed, orders, binds, and reports all problems.
    fn finish(
        mut self,
        store: &mut StoreContextMut<'_, T>,
        root: ObjectId,
        options: LoadOptions,
    ) -> Result<Plan> {
        let counters = &self.process.0.counters;
        counters.loads.fetch_add(1, Relaxed);
        let whole = Clock::new(&counters.time);
        let loading = Clock::new(&counters.loading);
        let mut next = 0;
        while next < self.new.len() {
            self.load_needed(store, next)?;
            next += 1;
        }
        drop(loading);
        // Undefined symbols of an incomplete graph would only repeat what is missing.
        self.give_up(store, &[])?;

        let (scope, init_order, added_global) = self.order(root, options);
        for object in &mut self.new {
            object.scope = scope.clone();
        }
        self.trace_scope(root, &scope);
        self.check_places();
        let relocation = Clock::new(&counters.relocation);
        self.lookup = self.lookup_of(&added_global, &scope);
        for place in 0..self.new.len() {
            self.bind(store, place, &added_global, options)?;
        }
        drop(relocation);
        drop(whole);
        self.give_up(store, &added_global)?;
        Ok(Plan {
            new: self.new,
            root,
            init_order,
            added_global,
        })
    }

    /// Finds what one object of the plan needs, and adds what is not loaded.
    pub(super) fn load_needed(
        &mut self,
        store: &mut StoreContextMut<'_, T>,
        place: usize,
    ) -> Result<()> {
        let profile = &self.process.0.profile;
        let Some(object) = self.new.get(place) else {
            return Ok(());
        };
        let id = object.id;
        let path = object.path.clone();
        let mut wanted = object.info().needed.clone();
        let runtime_path = object.info().runtime_path.clone();
        if object.main.is_some() {
            wanted.splice(0..0, self.process.0.preload.iter().cloned());
        }
        if wanted.len() > profile.max_needed {
            return Err(limit(
                format!("libraries needed by `{}`", shown(&path)),
                wanted.len(),
                profile.max_needed,
            ));
        }
        let directories = runtime_directories(&path, &runtime_path, profile.max_runtime_path)?;
        let mut needed = Vec::new();
        let mut seen = HashSet::new();
        for name in &wanted {
            let Some(found) = self.one_needed(store, id, &directories, name)? else {
                continue;
            };
            if seen.insert(found) {
                needed.push(found);
            }
        }
        if let Some(object) = self.new.get_mut(place) {
            object.needed = needed.into();
        }
        Ok(())
    }

    fn one_needed(
        &mut self,
        store: &mut StoreContextMut<'_, T>,
        id: ObjectId,
        directories: &[String],
        name: &str,
    ) -> Result<Option<ObjectId>> {
        if let Some(known) = self.known(name, None) {
            return Ok(Some(known));
        }
        let trace = &self.process.0.trace;
        trace.line(TraceTopics::FILES, format_args!(""));
        trace.line(
            TraceTopics::FILES,
            format_args!("file={name} [0];  needed by {} [0]", self.name_of(id)),
        );
        let search = &self.process.0.search;
        self.tried = self
            .tried
            .saturating_add(search.candidates(name, directories).count());
        let most = self.process.0.profile.max_searched;
        if self.tried > most {
            return Err(limit(
                "paths to look for needed libraries at, in one load".into(),
                self.tried,
                most,
            ));
        }
        let file = match self.process.find_file(store, name, directories)? {
            Ok(file) => file,
            Err(_) if self.problems.is_full() => {
                self.problems.add(String::new());
                return Ok(None);
            }
            Err(_) if self.process.serves_libdl(name) => {
                self.process.0.trace.line(
                    TraceTopics::LIBS,
                    format_args!("  `{name}` is the linker itself"),
                );
                return Ok(None);
            }
            Err(tried) => {
                let chain = self.chain(id);
                let places = if tried.is_empty() {
                    "nowhere: there is no library path".to_string()
                } else {
                    shown_list(&tried)
                };
                self.problems.add_about(
                    format!(
                        "shared library dependency not found in library path: `{}`, needed by {chain} (looked for in: {places})",
                        shown(name)
                    ),
                    self.about_library(name, id, tried, true),
                );
                return Ok(None);
            }
        };
        if let Some(known) = self.known(&file.path, Some(&file.identity)) {
            self.names.insert(name.to_string(), known);
            return Ok(Some(known));
        }
        self.check_count()?;
        match self.open(store, &file) {
            Ok(module) => Ok(Some(self.add(
                module,
                name,
                &file.path,
                &file.identity,
                None,
                Some(id),
            ))),
            Err(error) if ends_process(&error) => Err(error),
            Err(error) => {
                let chain = self.chain(id);
                self.problems.add_about(
                    format!("`{}`, needed by {chain}: {error}", shown(&file.path)),
                    self.about_library(name, id, vec![file.path.clone()], false),
                );
                Ok(None)
            }
        }
    }

    fn about_library(
        &self,
        name: &str,
        needed_by: ObjectId,
        searched: Vec<String>,
        missing: bool,
    ) -> About {
        About::Library {
            name: name.to_string(),
            needed_by: self.place(needed_by),
            searched,
            missing,
        }
    }

    fn name_of(&self, id: ObjectId) -> &str {
        let object = self.place(id).and_then(|place| self.new.get(place));
        object.map_or("?", |object| &object.name)
    }

    /// Whether the process may have one more library.
    pub(super) fn check_count(&self) -> Result<()> {
        let (loaded, host_functions) = {
            let state = self.process.state();
            let loaded = state.objects.len().saturating_add(state.spent);
            (loaded, state.host_functions.len())
        };
        let most = self.process.0.profile.max_host_functions;
        if host_functions > most {
            return Err(limit(
                "functions of the host that libraries of one process were bound to".into(),
                host_functions,
                most,
            ));
        }
        let most = self.process.0.profile.max_libraries;
        let count = loaded.saturating_add(self.new.len()).saturating_add(1);
        if count > most {
            return Err(limit("libraries in one process".into(), count, most));
        }
        Ok(())
    }

    /// An object of the process or the plan with this name or of this file (rule N4).
    pub(super) fn known(&self, name: &str, identity: Option<&str>) -> Option<ObjectId> {
        let loaded = self.process.state().loaded(name, identity);
        loaded
            .or_else(|| self.names.get(name).copied())
            .or_else(|| self.identities.get(identity?).copied())
    }

    /// Who needs an object, up to what was asked for (rule N7).
    fn chain(&self, id: ObjectId) -> String {
        let mut text = String::new();
        let mut next = Some(id);
        for depth in 0.. {
            let Some(object) = next
                .and_then(|id| self.place(id))
                .and_then(|place| self.new.get(place))
            else {
                break;
            };
            if depth > 0 {
                text.push_str(", needed by ");
            }
            if depth == MAX_CHAIN {
                text.push_str("...");
                break;
            }
            let _ = write!(text, "`{}`", shown(&object.name));
            next = object.brought_by;
        }
        text
    }

    /// The local scope of the root, the order of constructors, and what becomes global.
    pub(super) fn order(
        &self,
        root: ObjectId,
        options: LoadOptions,
    ) -> (Arc<[ObjectId]>, Vec<ObjectId>, Vec<ObjectId>) {
        let state = self.process.state();
        let view = View {
            state: &state,
            new: &self.new,
            added_global: &[],
        };
        let needed = |id| view.needed(id);
        let scope = graph::breadth_first([root], needed);
        let init_order = graph::dependencies_first([root], needed)
            .into_iter()
            .filter(|id| id.0 >= self.first)
            .collect();
        let added_global = if options.global || self.process.0.profile.all_global {
            let present: HashSet<ObjectId> = state.global.iter().copied().collect();
            scope
                .iter()
                .copied()
                .filter(|id| !present.contains(id))
                .collect()
        } else {
            Vec::new()
        };
        (scope.into(), init_order, added_global)
    }

    /// The scope of the new objects.
    pub(super) fn lookup_of(&self, added_global: &[ObjectId], scope: &[ObjectId]) -> Lookup {
        let state = self.process.state();
        let order = state.global.iter().chain(added_global).chain(scope);
        Lookup::new(order.filter_map(|id| {
            let symbols = match self.place(*id).and_then(|place| self.new.get(place)) {
                Some(new) => &new.symbols,
                None => &state.object(*id)?.symbols,
            };
            Some((*id, symbols.clone()))
        }))
    }

    pub(super) fn trace_scope(&self, root: ObjectId, scope: &[ObjectId]) {
        let trace = &self.process.0.trace;
        if !trace.wants(TraceTopics::SCOPES) {
            return;
        }
        let state = self.process.state();
        let view = View {
            state: &state,
            new: &self.new,
            added_global: &[],
        };
        let names: Vec<&str> = scope.iter().map(|id| view.name(*id)).collect();
        trace.line(
            TraceTopics::SCOPES,
            format_args!("object={} [0]", view.name(root)),
        );
        trace.line(
            TraceTopics::SCOPES,
            format_args!(" scope 0: {}", names.join(" ")),
        );
        trace.line(TraceTopics::SCOPES, format_args!(""));
    }

    /// Whether libraries can share the memory and table of the main module (rules S2, L6).
    pub(super) fn check_places(&mut self) {
        let needs = |object: &NewObject, table: bool| {
            let inner = &*object.symbols.module().0;
            if table {
                inner.imported_tables > 0 || object.info().table_size > 0
            } else {
                inner.imported_memories > 0 || object.info().memory_size > 0
            }
        };
        let state = self.process.state();
        let main = self
            .new
            .iter()
            .find_map(|object| Some((object.name.clone(), object.main.clone()?)));
        let (name, shape) = match main {
            Some(main) => main,
            None => match state.main.and_then(|main| state.object(main)) {
                Some(main) => (main.name.clone(), MainShape::of(main.symbols.module())),
                None => return,
            },
        };
        drop(state);
        let mut missing = Vec::new();
        let libraries = || self.new.iter().filter(|object| object.main.is_none());
        if shape.memory == Place::Private && libraries().any(|object| needs(object, false)) {
            missing.push("its memory (link it with `--export-memory`, or with `--import-memory`)");
        }
        if shape.table == Place::Private && libraries().any(|object| needs(object, true)) {
            missing.push("its table of functions (link it with `--export-table --growable-table`)");
        }
        for what in missing {
            self.problems.add(format!(
                "`{}` does not share {what}, which libraries need",
                shown(&name)
            ));
        }
    }
}

/// The directories of an object's runtime path.
///
/// # Errors
/// There are too many.
pub(crate) fn runtime_directories(
    path: &str,
    runtime_path: &[String],
    most: usize,
) -> Result<Vec<String>> {
    SearchPath::runtime_directories(path, runtime_path, most).map_err(|count| {
        limit(
            format!("directories in the runtime path of `{}`", shown(path)),
            count,
            most,
        )
    })
}

pub(crate) fn limit(what: String, needed: usize, allowed: usize) -> Error {
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    Error::new(ErrorKind::Limit {
        what,
        needed: number(needed),
        allowed: number(allowed),
    })
}
