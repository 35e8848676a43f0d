//! Binds the imports of a planned object: each to the linker's own things, a cell, a definition, or the host
//! (rules R1 to R10).
#![forbid(unsafe_code)]

use super::exit_handlers::{is_registration, keeps_for_good, may_register};
use super::got::{CellKind, CellTarget, LoaderValue};
use super::importer::{Candidates, Cells, IMPORTS_AT_ONCE, Importer, Origin, WantedType};
use super::lookup::Found;
use super::object::{Definition, ObjectId};
use super::plan::{About, Binding, LoadOptions, PlannedCell, Planner, Undefined};
use super::profile::{SymbolOrder, UndefinedFunctions};
use super::remedy::remedy;
use super::state::{State, View};
use super::symbols::{Symbol, SymbolTable};
use super::trace::TraceTopics;
use crate::error::Result;
use crate::module::{
    ExternKind, ExternType, FuncType, GlobalType, MemoryType, Name, RefType, TableType, ValType,
};
use crate::runtime::StoreContextMut;
use crate::shown::shown;
use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

impl<T: 'static> Planner<'_, T> {
    /// Binds all imports of the object at this place of the plan; problems are collected.
    pub(super) fn bind(
        &mut self,
        store: &mut StoreContextMut<'_, T>,
        place: usize,
        added_global: &[ObjectId],
        options: LoadOptions,
    ) -> Result<()> {
        let Some(object) = self.new.get(place) else {
            return Ok(());
        };
        let symbols = object.symbols.clone();
        let module = symbols.module();
        let inner = &*module.0;
        let importer = Importer {
            id: object.id,
            name: object.name.clone(),
            symbols: &symbols,
            first: match self.process.0.profile.symbol_order {
                SymbolOrder::OwnFirst => Some((object.id, &*symbols)),
                SymbolOrder::Elf => self.lookup.first(),
            },
            module,
            added_global,
            options,
            weak: OnceCell::new(),
            called: OnceCell::new(),
            lookups: Cell::new(0),
            traced: self
                .process
                .0
                .trace
                .wants(TraceTopics::SYMBOLS | TraceTopics::BINDINGS),
        };
        let trace = &self.process.0.trace;
        let lazy = if options.bind_now { "" } else { " (lazy)" };
        trace.line(TraceTopics::RELOC, format_args!(""));
        trace.line(
            TraceTopics::RELOC,
            format_args!("relocation processing: {}{lazy}", importer.name),
        );
        let origins: Vec<(&str, Origin)> = inner
            .import_modules
            .names()
            .map(|name| (name, Origin::of(name)))
            .collect();
        let mut bindings = Vec::with_capacity(inner.imports.len());
        let mut cells = Cells::default();
        if origins
            .iter()
            .any(|(_, origin)| matches!(origin, Origin::Cell(_)))
        {
            // As a rule each has a name of its own. Without memory for them, it is tried again when there are some.
            cells.known.reserve(inner.imported_globals);
        }
        let mut candidates = Candidates::default();
        let mut seen_memory = false;
        let mut seen_table = false;
        for (number, import) in (0u32..).zip(&inner.imports) {
            if number % IMPORTS_AT_ONCE == 0 {
                let each = self.lookup.next_cost();
                store.pay(each.saturating_mul(u64::from(IMPORTS_AT_ONCE)))?;
                candidates = self.candidates(&importer, number);
            }
            let (from, origin) = usize::try_from(import.module)
                .ok()
                .and_then(|place| origins.get(place).copied())
                .unwrap_or(("", Origin::Other));
            let symbol = import.symbol();
            let name = symbol.text;
            let candidate = candidates.of(number);
            let bound = match import.ty {
                ExternKind::Func(ty) => {
                    let place = usize::try_from(ty).unwrap_or(usize::MAX);
                    let wanted = inner.types.get(place).zip(inner.type_ids.get(place));
                    match wanted {
                        Some((ty, id)) => {
                            if origin == Origin::Env
                                && let Some(definition) =
                                    self.plain(&importer, candidate, symbol, *id)
                            {
                                bindings.push(Binding::Definition(definition));
                                continue;
                            }
                            let wanted = WantedType { ty, id: *id };
                            self.bind_function(
                                store,
                                &importer,
                                (from, origin),
                                (symbol, candidate),
                                wanted,
                            )?
                        }
                        None => Err(format!("function `{}` has no type", shown(name))),
                    }
                }
                ExternKind::Memory(_) => {
                    let first = !std::mem::replace(&mut seen_memory, true);
                    match inner.import_type(import.ty) {
                        ExternType::Memory(ty) => {
                            self.bind_memory(store, ty, first).map(|()| Binding::Memory)
                        }
                        _ => Err("it is no memory".to_string()),
                    }
                }
                ExternKind::Table(_) => {
                    let first = !std::mem::replace(&mut seen_table, true);
                    match inner.import_type(import.ty) {
                        ExternType::Table(ty) => self
                            .bind_table(store, (from, name), ty, first)
                            .map(|()| Binding::Table),
                        _ => Err("it is no table".to_string()),
                    }
                }
                ExternKind::Global(ty) => match origin {
                    Origin::Env | Origin::Other => self.bind_global(store, from, name, ty),
                    Origin::Cell(_) if ty != CELL_TYPE => Err(format!(
                        "a GOT cell must be a mutable i32, not {}",
                        global_text(ty)
                    )),
                    Origin::Cell(kind) => match cells.find(inner, kind, symbol) {
                        Ok(cell) => Ok(Binding::Cell(cell)),
                        Err(place) => {
                            let target = match self.plain_cell(&importer, candidate, kind, symbol) {
                                Some(target) => Ok(target),
                                None => {
                                    self.cell_target(store, &importer, kind, (symbol, candidate))
                                }
                            };
                            target.map(|target| {
                                let cell = PlannedCell {
                                    import: number,
                                    kind,
                                    target,
                                };
                                Binding::Cell(cells.add(place, cell))
                            })
                        }
                    },
                },
            };
            match bound {
                Ok(binding) => {
                    if matches!(binding, Binding::Host(_)) {
                        self.process.0.trace.line(
                            TraceTopics::BINDINGS,
                            format_args!(
                                "binding file {} [0] to the host [0]: normal symbol `{}'",
                                shown(&importer.name),
                                shown(name)
                            ),
                        );
                    }
                    bindings.push(binding);
                }
                Err(_) if self.problems.is_full() => {
                    self.problems.add(String::new());
                    bindings.push(Binding::Undefined(Undefined::Missing));
                }
                Err(problem) => {
                    self.process.0.trace.line(
                        TraceTopics::SYMBOLS | TraceTopics::BINDINGS,
                        format_args!(
                            "{}: error: symbol lookup error: undefined symbol: {} (fatal)",
                            shown(&importer.name),
                            shown(name)
                        ),
                    );
                    let text = match from {
                        "env" | "GOT.mem" | "GOT.func"
                            if problem.contains(&shown(name).to_string()) =>
                        {
                            problem
                        }
                        _ => format!("import `{}.{}`: {problem}", shown(from), shown(name)),
                    };
                    self.problems.add_about(
                        format!("{text}, wanted by `{}`", shown(&importer.name)),
                        About::Import {
                            object: place,
                            import: bindings.len(),
                            only_when_called: false,
                        },
                    );
                    bindings.push(Binding::Undefined(Undefined::Missing));
                }
            }
        }
        let bound = u64::try_from(bindings.len()).unwrap_or(u64::MAX);
        self.process
            .0
            .counters
            .relocations
            .fetch_add(bound, Relaxed);
        self.process
            .0
            .counters
            .lookups
            .fetch_add(importer.lookups.get(), Relaxed);
        if let Some(object) = self.new.get_mut(place) {
            object.bindings = bindings;
            object.cells = cells.list.into();
        }
        Ok(())
    }

    /// Where the object that is looked into first probably has the names of the next imports
    /// (see [`SymbolTable::candidates`]).
    fn candidates(&self, importer: &Importer<'_>, first: u32) -> Candidates {
        let mut hashes = [0; IMPORTS_AT_ONCE as usize];
        let mut places = Candidates::default();
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let next = importer.module.0.imports.get(first..).unwrap_or_default();
        for (hash, import) in hashes.iter_mut().zip(next) {
            *hash = import.symbol().hash;
        }
        if let Some((_, table)) = importer.first {
            let hashes = hashes.get(..next.len()).unwrap_or(&hashes);
            table.candidates(hashes, &mut places.0);
        }
        places
    }

    /// The definition that a function of `env` is bound to if there is nothing to consider: the usual case, in short.
    #[inline]
    fn plain(
        &self,
        importer: &Importer<'_>,
        candidate: u32,
        name: Name<'_>,
        ty: u32,
    ) -> Option<Definition> {
        if importer.traced
            || may_register(name.text)
            || self.process.0.host.overrides("env", name.text)
        {
            return None;
        }
        let (found, provider) = self.look(importer, candidate, name)?;
        match found.symbol {
            Symbol::Function { func, .. } if provider.type_id(func) == Some(ty) => {
                importer.count();
                Some(found)
            }
            _ => None,
        }
    }

    /// What a cell is to hold if there is nothing to consider.
    #[inline]
    fn plain_cell(
        &self,
        importer: &Importer<'_>,
        candidate: u32,
        kind: CellKind,
        name: Name<'_>,
    ) -> Option<CellTarget> {
        let is_function = kind == CellKind::Function;
        if importer.traced
            || (is_function
                && (may_register(name.text) || self.process.0.host.overrides("env", name.text)))
        {
            return None;
        }
        let (found, _) = self.look(importer, candidate, name)?;
        match (kind, found.symbol) {
            (CellKind::Data, Symbol::Data { .. })
            | (CellKind::Function, Symbol::Function { .. }) => {
                importer.count();
                Some(CellTarget::Definition(found))
            }
            _ => None,
        }
    }

    /// The definition of a name, and the symbols of the object that has it.
    #[inline]
    fn look<'a>(
        &'a self,
        importer: &'a Importer<'_>,
        candidate: u32,
        name: Name<'_>,
    ) -> Option<Found<'a>> {
        if let Some((object, table)) = importer.first
            && let Some(symbol) = table.at(candidate, name)
        {
            return Some((Definition { object, symbol }, table));
        }
        let own = match self.process.0.profile.symbol_order {
            SymbolOrder::OwnFirst => importer.symbols.find(name).map(|symbol| {
                let object = importer.id;
                (Definition { object, symbol }, importer.symbols)
            }),
            SymbolOrder::Elf => None,
        };
        own.or_else(|| self.lookup.find(name))
    }

    /// The same for whoever traces and counts.
    fn find<'a>(
        &'a self,
        importer: &'a Importer<'_>,
        candidate: u32,
        name: Name<'_>,
    ) -> Option<Found<'a>> {
        importer.count();
        if importer.traced {
            self.trace_search(importer, name);
        }
        let found = self.look(importer, candidate, name)?;
        if importer.traced {
            self.trace_found(importer, name, found.0);
        }
        Some(found)
    }

    #[cold]
    fn trace_search(&self, importer: &Importer<'_>, name: Name<'_>) {
        let trace = &self.process.0.trace;
        if !trace.wants(TraceTopics::SYMBOLS) {
            return;
        }
        let state = self.process.state();
        let view = self.view(&state, importer.added_global);
        let order = self.process.0.profile.symbol_order;
        let mut last = None;
        for object in view.scope(order, Some(importer.id)) {
            if last != Some(object) {
                trace.line(
                    TraceTopics::SYMBOLS,
                    format_args!(
                        "symbol={};  lookup in file={} [0]",
                        shown(name.text),
                        shown(view.name(object))
                    ),
                );
            }
            last = Some(object);
            if view.find_in([object], name.text).is_some() {
                break;
            }
        }
    }

    #[cold]
    fn trace_found(&self, importer: &Importer<'_>, name: Name<'_>, found: Definition) {
        let state = self.process.state();
        self.process.0.trace.line(
            TraceTopics::BINDINGS,
            format_args!(
                "binding file {} [0] to {} [0]: normal symbol `{}'",
                shown(&importer.name),
                shown(self.view(&state, &[]).name(found.object)),
                shown(name.text)
            ),
        );
    }

    /// The objects of the process and of the plan.
    fn view<'a>(&'a self, state: &'a State, added_global: &'a [ObjectId]) -> View<'a> {
        View {
            state,
            new: &self.new,
            added_global,
        }
    }

    fn bind_function(
        &self,
        store: &mut StoreContextMut<'_, T>,
        importer: &Importer<'_>,
        (from, origin): (&str, Origin),
        (symbol, candidate): (Name<'_>, u32),
        wanted: WantedType<'_>,
    ) -> Result<Result<Binding, String>> {
        let shared = &self.process.0;
        let (name, ty) = (symbol.text, wanted.ty);
        let host_first = origin != Origin::Env || shared.host.overrides(from, name);
        if host_first && let Some(func) = self.process.host_function(store, from, symbol, ty) {
            return Ok(Ok(Binding::Host(func)));
        }
        let mut undefined = Undefined::Missing;
        if let Some((found, provider)) = self.find(importer, candidate, symbol) {
            match self.function_fits(store, found, provider, name, wanted)? {
                Ok(()) if self.forgets_nothing(importer, found, provider, name, ty) => {
                    return Ok(Ok(Binding::ExitRegistration(found)));
                }
                Ok(()) => return Ok(Ok(Binding::Definition(found))),
                Err(why) => undefined = Undefined::Mismatch(why.into()),
            }
            let split = provider.split_form(name);
            if let Some(split) = split.map(|symbol| Definition { symbol, ..found })
                && self
                    .function_fits(store, split, provider, name, wanted)?
                    .is_ok()
            {
                return Ok(Ok(Binding::Definition(split)));
            }
        }
        // A definition that does not fit still hides the host's: whoever wrote it meant it.
        if matches!(undefined, Undefined::Missing)
            && !host_first
            && let Some(func) = self.process.host_function(store, from, symbol, ty)
        {
            return Ok(Ok(Binding::Host(func)));
        }
        let trap = match undefined {
            Undefined::Missing if importer.is_weak(from, name) => {
                undefined = Undefined::Weak;
                true
            }
            _ => {
                !importer.options.bind_now
                    || shared.profile.undefined_functions == UndefinedFunctions::Trap
            }
        };
        if trap {
            return Ok(Ok(Binding::Undefined(undefined)));
        }
        Ok(Err(match undefined {
            Undefined::Mismatch(why) => why.into(),
            _ => {
                let hint = self
                    .wrapped_hint(name)
                    .or_else(|| {
                        self.process
                            .remedy_for_function(Some(importer.module), from, name)
                    })
                    .map_or_else(String::new, |hint| format!(" ({hint})"));
                format!("undefined function `{}`: {ty}{hint}", shown(name))
            }
        }))
    }

    /// Whether a library that can be unloaded is about to register with a C library that cannot take it back (rule U5).
    fn forgets_nothing(
        &self,
        importer: &Importer<'_>,
        found: Definition,
        provider: &SymbolTable,
        name: &str,
        ty: &FuncType,
    ) -> bool {
        if found.object == importer.id || !is_registration(name, ty) {
            return false;
        }
        keeps_for_good(provider)
    }

    /// What stands for a definition whose address is taken, if [`Planner::forgets_nothing`] of it.
    fn exit_registration(
        &self,
        store: &mut StoreContextMut<'_, T>,
        importer: &Importer<'_>,
        found: Definition,
        name: &str,
    ) -> Option<CellTarget> {
        let Symbol::Function { func, .. } = found.symbol else {
            return None;
        };
        if !may_register(name) {
            return None;
        }
        let ty = {
            let state = self.process.state();
            let view = self.view(&state, &[]);
            let provider = view.symbols(found.object)?;
            let ty = provider.func_type(func)?;
            if !self.forgets_nothing(importer, found, provider, name, ty) {
                return None;
            }
            ty.clone()
        };
        let func = self.process.exit_registration_by_address(store, found, ty);
        Some(CellTarget::ExitRegistration {
            definition: found,
            func,
        })
    }

    /// What to do about a function that the main module exports but that nobody may call (rule S8).
    fn wrapped_hint(&self, name: &str) -> Option<String> {
        let state = self.process.state();
        let view = self.view(&state, &[]);
        let main = state.main.or_else(|| Some(self.new.first()?.id))?;
        view.symbols(main)?.is_wrapped(name).then(|| {
            format!(
                "`{}` exports it, but every export of that module runs its constructors and destructors: link it with a `_start` that calls `__wasm_call_ctors`, or with `--export=__wasm_call_ctors`",
                shown(view.name(main))
            )
        })
    }

    /// Whether a definition is a function of this type (rules R5, R10).
    #[inline]
    fn function_fits(
        &self,
        store: &mut StoreContextMut<'_, T>,
        found: Definition,
        provider: &SymbolTable,
        name: &str,
        wanted: WantedType<'_>,
    ) -> Result<Result<(), String>> {
        match found.symbol {
            Symbol::Function { func, .. } if provider.type_id(func) == Some(wanted.id) => {
                Ok(Ok(()))
            }
            _ => self.other_fits(store, found, name, wanted.ty),
        }
    }

    /// The same of a definition that is not just a function of this type.
    fn other_fits(
        &self,
        store: &mut StoreContextMut<'_, T>,
        found: Definition,
        name: &str,
        ty: &FuncType,
    ) -> Result<Result<(), String>> {
        let (defined, provider, loaded) = {
            let state = self.process.state();
            let view = self.view(&state, &[]);
            let defined = match found.symbol {
                Symbol::Function { func, .. } => view
                    .symbols(found.object)
                    .and_then(|symbols| symbols.func_type(func)),
                _ => None,
            };
            let loaded = state.object(found.object).is_some();
            let provider = shown(view.name(found.object)).to_string();
            (defined.cloned(), provider, loaded)
        };
        let defined = match found.symbol {
            Symbol::Function { .. } => defined,
            Symbol::Data { .. } => {
                return Ok(Err(format!(
                    "symbol `{}` is wanted as a function, but is data in `{provider}`",
                    shown(name)
                )));
            }
            // Checked when the address is known.
            Symbol::Pointer(_) if !loaded => return Ok(Ok(())),
            Symbol::Pointer(_) => match self.process.definition_func(store, found)? {
                Some(func) => Some(func.ty(&*store)),
                None => {
                    return Ok(Err(format!(
                        "symbol `{}` is wanted as a function, but its address in `{provider}` is no function",
                        shown(name)
                    )));
                }
            },
        };
        Ok(match defined {
            Some(defined) if defined == *ty => Ok(()),
            Some(defined) => Err(signature_mismatch(name, ty, &provider, &defined)),
            None => Err(format!(
                "symbol `{}` of `{provider}` has no type",
                shown(name)
            )),
        })
    }

    fn cell_target(
        &self,
        store: &mut StoreContextMut<'_, T>,
        importer: &Importer<'_>,
        kind: CellKind,
        (symbol, candidate): (Name<'_>, u32),
    ) -> Result<CellTarget, String> {
        let shared = &self.process.0;
        let name = symbol.text;
        if kind == CellKind::Function
            && shared.host.overrides("env", name)
            && let Some(target) = self.host_address(store, importer, symbol)
        {
            return Ok(target);
        }
        if let Some((found, _)) = self.find(importer, candidate, symbol) {
            let wrong = match (kind, found.symbol) {
                (CellKind::Data, Symbol::Function { .. }) => Some("data"),
                (CellKind::Function, Symbol::Data { .. }) => Some("a function"),
                _ => None,
            };
            return match wrong {
                None => Ok(self
                    .exit_registration(store, importer, found, name)
                    .unwrap_or(CellTarget::Definition(found))),
                Some(wanted) => {
                    let state = self.process.state();
                    let view = self.view(&state, &[]);
                    Err(format!(
                        "symbol `{}` is wanted as {wanted}, but is {} in `{}`",
                        shown(name),
                        found.symbol.kind(),
                        shown(view.name(found.object))
                    ))
                }
            };
        }
        match kind {
            CellKind::Data => {
                if let Some(value) = LoaderValue::named(name) {
                    return Ok(CellTarget::Loader(value));
                }
            }
            CellKind::Function => {
                if let Some(target) = self.host_address(store, importer, symbol) {
                    return Ok(target);
                }
            }
        }
        let from = match kind {
            CellKind::Data => "GOT.mem",
            CellKind::Function => "GOT.func",
        };
        let null = importer.is_weak(from, name)
            || (kind == CellKind::Function && shared.profile.undefined_addresses_are_null);
        if null {
            return Ok(CellTarget::Null);
        }
        let hint = self
            .wrapped_hint(name)
            .or_else(|| remedy(name).map(String::from))
            .map_or_else(String::new, |hint| format!("; {hint}"));
        Err(match kind {
            CellKind::Data => match remedy(name) {
                Some(hint) => format!("undefined data symbol `{}` ({hint})", shown(name)),
                None => format!("undefined data symbol `{}`", shown(name)),
            },
            CellKind::Function => format!(
                "undefined function `{}` (its address is taken{hint})",
                shown(name)
            ),
        })
    }

    /// The host function behind a name whose address is taken: of the type that the host says, or that the importer
    /// also calls it with (rule G3).
    fn host_address(
        &self,
        store: &mut StoreContextMut<'_, T>,
        importer: &Importer<'_>,
        symbol: Name<'_>,
    ) -> Option<CellTarget> {
        let module = &*importer.module.0;
        let name = symbol.text;
        let called = importer.called.get_or_init(|| {
            let mut called = HashMap::new();
            for import in &module.imports {
                if let ExternKind::Func(ty) = import.ty {
                    let from = module.import_module(import);
                    called.entry(&*import.name).or_insert((from, ty));
                }
            }
            called
        });
        let called = called.get(name).and_then(|(from, ty)| {
            let ty = module.types.get(usize::try_from(*ty).ok()?)?;
            Some((*from, ty.clone()))
        });
        let (from, ty) = match called {
            Some(called) => called,
            None => (
                "env",
                self.process
                    .0
                    .host
                    .signature("env", name)
                    .or_else(|| super::abi::signature(name))?,
            ),
        };
        let func = self.process.host_function(store, from, symbol, &ty)?;
        Some(CellTarget::Host(func))
    }

    fn bind_memory(
        &self,
        store: &mut StoreContextMut<'_, T>,
        ty: MemoryType,
        first: bool,
    ) -> Result<(), String> {
        if !first {
            return Err("a second imported memory: a process has one".to_string());
        }
        let Some(memory) = self.process.memory() else {
            return Ok(());
        };
        match (ty.maximum, memory.ty(&*store).maximum) {
            (Some(wanted), Some(actual)) if actual > wanted => Err(format!(
                "the memory may grow to {actual} pages, but at most {wanted} are allowed"
            )),
            (Some(wanted), None) => Err(format!(
                "the memory may grow without a maximum, but at most {wanted} pages are allowed"
            )),
            _ => Ok(()),
        }
    }

    fn bind_table(
        &self,
        store: &mut StoreContextMut<'_, T>,
        import: (&str, &str),
        ty: TableType,
        first: bool,
    ) -> Result<(), String> {
        let ours = import == ("env", "__indirect_function_table");
        if !ours || !first || ty.element != RefType::Func {
            return Err(
                "the only table that can be imported is the table of functions".to_string(),
            );
        }
        let Some(table) = self.process.table() else {
            return Ok(());
        };
        match (ty.maximum, table.ty(&*store).maximum) {
            (Some(wanted), Some(actual)) if actual > wanted => Err(format!(
                "the table may grow to {actual} elements, but at most {wanted} are allowed"
            )),
            (Some(wanted), None) => Err(format!(
                "the table may grow without a maximum, but at most {wanted} elements are allowed"
            )),
            _ => Ok(()),
        }
    }

    fn bind_global(
        &self,
        store: &mut StoreContextMut<'_, T>,
        from: &str,
        name: &str,
        ty: GlobalType,
    ) -> Result<Binding, String> {
        let ours = match (from, name) {
            ("env", "__stack_pointer") => Some((Binding::StackPointer, true)),
            ("env", "__memory_base" | "__memory_base32") => Some((Binding::MemoryBase, false)),
            ("env", "__table_base" | "__table_base32") => Some((Binding::TableBase, false)),
            ("env", _) => LoaderValue::named(name).map(|value| (Binding::Loader(value), false)),
            _ => None,
        };
        if let Some((binding, mutable)) = ours {
            let expected = GlobalType {
                value: ValType::I32,
                mutable,
            };
            return if ty == expected {
                Ok(binding)
            } else {
                Err(format!(
                    "global `{}` is {}, but must be {}",
                    shown(name),
                    global_text(ty),
                    global_text(expected)
                ))
            };
        }
        let process = self.process;
        process
            .0
            .host
            .global(process, StoreContextMut(&mut *store.0), from, name, ty)
            .map(Binding::HostGlobal)
            .ok_or_else(|| format!("undefined global `{}`: {}", shown(name), global_text(ty)))
    }
}

/// The type of a GOT cell.
pub(crate) const CELL_TYPE: GlobalType = GlobalType {
    value: ValType::I32,
    mutable: true,
};

fn global_text(ty: GlobalType) -> String {
    let mutable = if ty.mutable {
        "a mutable"
    } else {
        "an immutable"
    };
    format!("{mutable} {}", ty.value)
}

/// Both signatures and where they differ (rule R10).
pub(crate) fn signature_mismatch(
    name: &str,
    wanted: &FuncType,
    provider: &str,
    defined: &FuncType,
) -> String {
    let differs = wanted
        .params()
        .iter()
        .zip(defined.params())
        .position(|(a, b)| a != b);
    let place = match differs {
        Some(place) => format!("in parameter {}", place + 1),
        None if wanted.params().len() != defined.params().len() => {
            "in the number of parameters".to_string()
        }
        None => "in the result".to_string(),
    };
    format!(
        "signature mismatch for `{}`: wanted {wanted}, but `{provider}` exports {defined} (they differ {place})",
        shown(name)
    )
}
