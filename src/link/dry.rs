//! A load that is only planned: what would be loaded from where, where it would be placed, and everything that is wrong.
//!
//! It is the planner of real loads, except that it does not stop at the first kind of problem. Nothing of the process
//! changes and no guest code runs.
#![forbid(unsafe_code)]

use super::dry_layout;
use super::main_module::MainShape;
use super::near;
use super::object::ObjectId;
use super::plan::{About, Binding, LoadOptions, Planner, Undefined, runtime_directories};
use super::problems::{Near, Problem, ProblemKind, Problems, SymbolKind, wanted_symbol};
use super::process::Process;
use super::profile::UndefinedFunctions;
use super::search::{directory, file_name};
use super::state::View;
use super::symbols::Symbol;
use crate::error::{Error, Result};
use crate::module::{ExternType, Module, exports_of};
use crate::runtime::{AsContextMut, StoreContextMut};
use crate::shown::{shortened, shown, shown_list};
use std::collections::{BTreeMap, HashSet};

/// Files of the search path that are looked into for a missing symbol.
const MAX_FILES: usize = 256;

/// Bytes of all those files.
const MAX_FILE_BYTES: usize = 512 << 20;

/// What a load would do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DryRun {
    /// The objects in load order, the main module first.
    pub objects: Vec<DryObject>,
    /// What was asked for: places of the main module and of the libraries opened after it.
    pub roots: Vec<usize>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// Problems that are not in the list, because it is long enough.
    pub more_problems: usize,
    /// Imports that are bound to a definition or to the host.
    pub bound: usize,
}

/// An object that would be loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DryObject {
    /// As it was asked for.
    pub name: String,
    /// Where it was found.
    pub path: String,
    /// What makes the file the same under all its names.
    pub identity: String,
    /// What it needs, in order, duplicates as written.
    pub needed: Vec<DryNeeded>,
    /// Where it wants its own needs to be looked for (`$ORIGIN` not replaced).
    pub runtime_path: Vec<String>,
    /// Bytes of the file.
    pub file_bytes: usize,
    /// Bytes of its data.
    pub memory_size: u32,
    /// log2 of the alignment of its data.
    pub memory_align: u32,
    /// Number of its table slots.
    pub table_size: u32,
    /// log2 of their alignment.
    pub table_align: u32,
    /// Where its data would lie.
    pub memory_base: Base,
    /// Where its table slots would lie.
    pub table_base: Base,
    /// Number of imports.
    pub imports: usize,
    /// Number of exports.
    pub exports: usize,
}

/// An entry of an object's list of needed libraries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DryNeeded {
    /// The name in the list.
    pub name: String,
    /// The object's place in the list of objects; `None` if there is a problem.
    pub object: Option<usize>,
    /// Where it was looked for, if it was not found.
    pub searched: Vec<String>,
}

/// Where something of an object would lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    /// It has nothing to be placed.
    Nothing,
    /// Its addresses are fixed in the file.
    Fixed,
    /// At this address or slot.
    At(u32),
    /// The guest's allocator decides when the program runs.
    Allocator,
    /// It depends on what runs before.
    Unknown,
}

impl<T: 'static> Process<T> {
    /// Plans the start of a process with this main module and then the opening of these libraries (as `dlopen` with
    /// `RTLD_NOW | RTLD_GLOBAL` does), and reports what would happen. The process must not be started; it stays so.
    ///
    /// # Errors
    /// A limit was reached, a file cannot be read, or the process was started. What is wrong with the program is no
    /// error: see [`DryRun::problems`].
    ///
    /// ```
    /// use dynlink::link::{MemoryFiles, Process, ProblemKind};
    /// use dynlink::{Engine, Module, Store};
    ///
    /// let engine = Engine::default();
    /// # let bytes = wat::parse_str(r#"(module (@dylink.0 (mem-info) (needed "liba.so"))
    /// #     (import "env" "memory" (memory 1)) (import "env" "f" (func)))"#).unwrap();
    /// let module = Module::new(&engine, &bytes)?; // needs `liba.so`
    /// let process: Process<()> = Process::builder().files(MemoryFiles::new()).library_path("/lib").build();
    /// let run = process.dry_run(&mut Store::new(&engine, ()), &module, "main.wasm", &[])?;
    /// assert_eq!(run.problems[0].kind, ProblemKind::MissingLibrary);
    /// assert_eq!(run.problems[0].searched, ["/lib/liba.so"]);
    /// # Ok::<(), dynlink::Error>(())
    /// ```
    pub fn dry_run(
        &self,
        mut store: impl AsContextMut<Data = T>,
        module: &Module,
        path: &str,
        libraries: &[String],
    ) -> Result<DryRun> {
        let store = &mut store.as_context_mut();
        if self.state().main.is_some() {
            return Err(Error::usage(
                "this process was started already: a dry run is for a new one",
            ));
        }
        let mut run = Dry {
            planner: self.planner(),
            global: Vec::new(),
            batches: Vec::new(),
            roots: Vec::new(),
            problems: Vec::new(),
        };
        let shape = MainShape::of(module);
        let root = run
            .planner
            .add(module.clone(), path, path, path, Some(shape.clone()), None);
        run.batch(store, root)?;
        for name in libraries {
            run.open(store, name)?;
        }
        run.planner.check_places();
        run.note_problems();
        run.finish(store, &shape)
    }
}

struct Dry<'p, T: 'static> {
    planner: Planner<'p, T>,
    /// Global objects in order.
    global: Vec<ObjectId>,
    /// The first object of each load that follows the main module's.
    batches: Vec<usize>,
    roots: Vec<usize>,
    /// The problems of each load, with the number of global objects at that time.
    problems: Vec<(Problems, usize)>,
}

impl<T: 'static> Dry<'_, T> {
    /// Plans a load whose root is the newest object.
    fn batch(&mut self, store: &mut StoreContextMut<'_, T>, root: ObjectId) -> Result<()> {
        let planner = &mut self.planner;
        let first = planner.new.len() - 1;
        self.roots.push(first);
        let mut next = first;
        while next < planner.new.len() {
            planner.load_needed(store, next)?;
            next += 1;
        }
        let options = LoadOptions {
            global: true,
            bind_now: true,
        };
        let (scope, _, added) = planner.order(root, options);
        let known: HashSet<ObjectId> = self.global.iter().copied().collect();
        self.global
            .extend(added.into_iter().filter(|id| !known.contains(id)));
        for object in planner.new.iter_mut().skip(first) {
            object.scope = scope.clone();
        }
        planner.trace_scope(root, &scope);
        planner.lookup = planner.lookup_of(&self.global, &scope);
        for place in first..planner.new.len() {
            planner.bind(store, place, &self.global, options)?;
        }
        self.note_problems();
        Ok(())
    }

    fn note_problems(&mut self) {
        let problems = std::mem::take(&mut self.planner.problems);
        self.problems.push((problems, self.global.len()));
    }

    /// Plans the opening of a library by name.
    fn open(&mut self, store: &mut StoreContextMut<'_, T>, name: &str) -> Result<()> {
        if let Some(place) = self.place_of(name) {
            self.roots.push(place);
            return Ok(());
        }
        let Some(main) = self.planner.new.first() else {
            return Ok(());
        };
        let (path, runtime_path) = (main.path.clone(), main.info().runtime_path.clone());
        let most = self.planner.process.0.profile.max_runtime_path;
        let directories = runtime_directories(&path, &runtime_path, most)?;
        let file = match self.planner.process.find_file(store, name, &directories)? {
            Ok(file) => file,
            Err(searched) => {
                let places = shown_list(&searched);
                self.planner.problems.add_about(
                    format!(
                        "library not found: `{}` (looked for in: {places})",
                        shown(name)
                    ),
                    About::Library {
                        name: name.to_string(),
                        needed_by: None,
                        searched,
                        missing: true,
                    },
                );
                return Ok(());
            }
        };
        if let Some(id) = self.planner.known(&file.path, Some(&file.identity)) {
            self.roots.extend(self.planner.place(id));
            return Ok(());
        }
        self.planner.check_count()?;
        match self.planner.open(store, &file) {
            Ok(module) => {
                self.batches.push(self.planner.new.len());
                let root = self
                    .planner
                    .add(module, name, &file.path, &file.identity, None, None);
                self.batch(store, root)
            }
            Err(error) => {
                self.planner.problems.add_about(
                    format!("`{}`: {error}", shown(&file.path)),
                    About::Library {
                        name: name.to_string(),
                        needed_by: None,
                        searched: vec![file.path.clone()],
                        missing: false,
                    },
                );
                Ok(())
            }
        }
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.planner
            .known(name, None)
            .and_then(|id| self.planner.place(id))
    }

    fn finish(mut self, store: &mut StoreContextMut<'_, T>, shape: &MainShape) -> Result<DryRun> {
        self.note_traps();
        let mut budget = near::DRY_BUDGET;
        let mut more_problems = 0;
        let mut problems = Vec::new();
        for (collected, global) in std::mem::take(&mut self.problems) {
            let global = self.global.get(..global).unwrap_or_default();
            let (mut list, more) = self.planner.explain_all(collected, global, &mut budget);
            problems.append(&mut list);
            more_problems += more;
        }
        let mut problems = self.merge(problems);
        self.find_files(store, &mut problems);
        self.find_libraries(store, &mut problems);
        let planner = &self.planner;
        let bases = dry_layout::bases(planner.process, &planner.new, shape, &self.batches);
        let objects = planner
            .new
            .iter()
            .zip(bases)
            .map(|(object, (memory_base, table_base))| {
                let module = &*object.symbols.module().0;
                let mut wanted = object.info().needed.clone();
                if object.main.is_some() {
                    wanted.splice(0..0, planner.process.0.preload.iter().cloned());
                }
                DryObject {
                    name: object.name.clone(),
                    path: object.path.clone(),
                    identity: object.identity.clone(),
                    needed: wanted
                        .into_iter()
                        .map(|name| self.needed(name, &object.name, &problems))
                        .collect(),
                    runtime_path: object.info().runtime_path.clone(),
                    file_bytes: module.bytes.len(),
                    memory_size: object.info().memory_size,
                    memory_align: object.info().memory_align,
                    table_size: object.info().table_size,
                    table_align: object.info().table_align,
                    memory_base,
                    table_base,
                    imports: module.imports.len(),
                    exports: module.exports().len(),
                }
            })
            .collect();
        let bound = |binding: &&Binding| !matches!(binding, Binding::Undefined(_));
        Ok(DryRun {
            objects,
            roots: self.roots,
            problems,
            more_problems,
            bound: planner
                .new
                .iter()
                .map(|object| object.bindings.iter().filter(bound).count())
                .sum(),
        })
    }

    fn needed(&self, name: String, by: &str, problems: &[Problem]) -> DryNeeded {
        let by = shortened(by);
        let object = self.place_of(&name);
        let searched = match object {
            Some(_) => Vec::new(),
            None => problems
                .iter()
                .find(|problem| {
                    problem.library.as_deref() == Some(&name)
                        && problem.wanted_by.iter().any(|wants| *wants == by)
                })
                .map_or_else(Vec::new, |problem| problem.searched.clone()),
        };
        DryNeeded {
            name,
            object,
            searched,
        }
    }

    /// Adds what a real load would let pass, because only a call of it fails.
    fn note_traps(&mut self) {
        let mut traps = Vec::new();
        for (place, object) in self.planner.new.iter().enumerate() {
            for (import, binding) in object.bindings.iter().enumerate() {
                let Binding::Undefined(why) = binding else {
                    continue;
                };
                let Some(wanted) = wanted_symbol(object, import) else {
                    continue;
                };
                let text = match (why, wanted.ty) {
                    (Undefined::Weak, _) | (_, None) => continue,
                    (Undefined::Missing, Some(ty)) => {
                        format!("undefined function `{}`: {ty}", shown(&wanted.name))
                    }
                    (Undefined::Mismatch(why), _) => why.to_string(),
                };
                traps.push((
                    format!("{text}, wanted by `{}`", shown(&object.name)),
                    About::Import {
                        object: place,
                        import,
                        only_when_called: true,
                    },
                ));
            }
        }
        if self.planner.process.0.profile.undefined_functions == UndefinedFunctions::Trap {
            for (text, about) in traps {
                self.planner.problems.add_about(text, about);
            }
            self.note_problems();
        }
    }

    /// One problem for each symbol, with everybody who wants it; and without those that a call would not meet, because
    /// a library that is opened later has the function (rule B4).
    fn merge(&self, problems: Vec<Problem>) -> Vec<Problem> {
        let profile = &self.planner.process.0.profile;
        let lazy = !profile.bind_now || profile.undefined_functions == UndefinedFunctions::Trap;
        let mut merged: Vec<Problem> = Vec::new();
        let mut places = BTreeMap::new();
        for mut problem in problems {
            if let Some(wanted) = &problem.symbol {
                if lazy && wanted.kind == SymbolKind::Function {
                    if self.defined_later(&problem) {
                        continue;
                    }
                    problem.only_when_called = true;
                }
                let key = (
                    wanted.module.clone(),
                    wanted.name.clone(),
                    wanted.ty.as_ref().map(ToString::to_string),
                    problem.provider.clone(),
                );
                if let Some(place) = places.get(&key) {
                    let known: Option<&mut Problem> = merged.get_mut(*place);
                    if let Some(known) = known {
                        known.wanted_by.append(&mut problem.wanted_by);
                        known.only_when_called &= problem.only_when_called;
                    }
                    continue;
                }
                places.insert(key, merged.len());
            }
            merged.push(problem);
        }
        merged
    }

    fn defined_later(&self, problem: &Problem) -> bool {
        let Some(wanted) = &problem.symbol else {
            return false;
        };
        let state = self.planner.process.state();
        let view = View {
            state: &state,
            new: &self.planner.new,
            added_global: &self.global,
        };
        problem.kind == ProblemKind::Undefined
            && view
                .find_in(self.global.iter().copied(), &wanted.name)
                .is_some_and(|found| match found.symbol {
                    Symbol::Function { func, .. } => {
                        view.symbols(found.object)
                            .and_then(|symbols| symbols.func_type(func))
                            == wanted.ty.as_ref()
                    }
                    _ => false,
                })
    }

    /// Looks into the files of the search path for symbols that nobody defines.
    fn find_files(&self, store: &mut StoreContextMut<'_, T>, problems: &mut [Problem]) {
        let mut wanted: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, problem) in problems.iter().enumerate() {
            if let (ProblemKind::Undefined, Some(symbol)) = (problem.kind, &problem.symbol) {
                wanted.entry(symbol.name.clone()).or_default().push(place);
            }
        }
        if wanted.is_empty() {
            return;
        }
        let mut bytes_left = MAX_FILE_BYTES;
        let mut seen = HashSet::new();
        for path in self.other_files(store) {
            let shared = &self.planner.process.0;
            let Ok(Some(file)) = shared.files.find(store.data_mut(), &path) else {
                continue;
            };
            let known = self.planner.known(&file.path, Some(&file.identity));
            if known.is_some() || !seen.insert(file.identity.clone()) {
                continue;
            }
            let limit = store.engine().config().limits.module_bytes.min(bytes_left);
            let Ok(bytes) = shared.files.read(store.data_mut(), &file, limit) else {
                continue;
            };
            bytes_left = bytes_left.saturating_sub(bytes.len());
            for (name, ty) in exports_of(&bytes) {
                for place in wanted.get(&name).into_iter().flatten() {
                    if let Some(problem) = problems.get_mut(*place) {
                        offer(problem, &path, &name, &ty);
                    }
                }
            }
        }
    }

    /// Says which missing libraries lie beside the program, where nobody looks, and which symbols they may have.
    fn find_libraries(&self, store: &mut StoreContextMut<'_, T>, problems: &mut [Problem]) {
        let shared = &self.planner.process.0;
        let mut missing = Vec::new();
        for problem in &mut *problems {
            let (ProblemKind::MissingLibrary, Some(name)) = (problem.kind, &problem.library) else {
                continue;
            };
            missing.push(name.clone());
            let beside = self
                .planner
                .new
                .first()
                .map_or("", |main| directory(&main.path));
            let path = super::search::join(beside, file_name(name));
            if let Ok(Some(_)) = shared.files.find(store.data_mut(), &path) {
                problem.remedy = format!("add `{beside}` to the library path");
                problem.near.push(Near {
                    provider: beside.to_string(),
                    name: file_name(name).to_string(),
                    ty: None,
                    why: "it lies beside the program, where it is not looked for".into(),
                });
            }
        }
        if missing.is_empty() {
            return;
        }
        missing.truncate(8);
        for problem in problems {
            if problem.kind == ProblemKind::Undefined && problem.near.is_empty() {
                problem.remedy = format!("it may be in what is missing: {}", shown_list(&missing));
            }
        }
    }

    /// The library files in the directories where libraries are looked for, as far as they can be listed.
    fn other_files(&self, store: &mut StoreContextMut<'_, T>) -> Vec<String> {
        let shared = &self.planner.process.0;
        let mut directories: Vec<String> = shared.search.first.clone();
        for object in &self.planner.new {
            let origin = directory(&object.path);
            let most = shared.profile.max_runtime_path;
            directories.extend(
                runtime_directories(&object.path, &object.info().runtime_path, most)
                    .unwrap_or_default(),
            );
            directories.push(origin.to_string());
        }
        directories.extend(shared.search.last.iter().cloned());
        let mut seen = HashSet::new();
        directories.retain(|directory| seen.insert(directory.clone()));
        let mut files = Vec::new();
        for directory in directories {
            let Ok(mut names) = shared.files.list(store.data_mut(), &directory) else {
                continue;
            };
            names.retain(|name| name.ends_with(".so") || name.ends_with(".wasm"));
            names.sort();
            let room = MAX_FILES.saturating_sub(files.len());
            let names = names.into_iter().take(room);
            files.extend(names.map(|name| super::search::join(&directory, &name)));
        }
        files
    }
}

/// Notes that a file has what is missing.
fn offer(problem: &mut Problem, path: &str, name: &str, ty: &ExternType) {
    let Some(wanted) = &problem.symbol else {
        return;
    };
    let (fits, ty) = match (wanted.kind, ty) {
        (SymbolKind::Function, ExternType::Func(ty)) => {
            (wanted.ty.as_ref() == Some(ty), Some(ty.clone()))
        }
        (SymbolKind::FunctionAddress, ExternType::Func(ty)) => (true, Some(ty.clone())),
        (SymbolKind::Data, ExternType::Global(_)) => (true, None),
        _ => return,
    };
    let why = if fits {
        "a file on the search path that nobody needs".to_string()
    } else {
        near::difference(wanted.ty.as_ref(), ty.as_ref()).unwrap_or_default()
    };
    if fits {
        problem.remedy = format!(
            "load `{}` too: name it among the needed libraries, or open it first",
            shown(file_name(path))
        );
    }
    let near = Near {
        provider: path.to_string(),
        name: shortened(name).into_owned(),
        ty,
        why,
    };
    problem.near.insert(0, near);
    problem.near.truncate(4);
}
