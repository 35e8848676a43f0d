//! Binds the imports of a planned object: each to the linker's own things, a cell, a definition, or the host
//! (rules R1 to R10).
#![forbid(unsafe_code)]

use super::exit_handlers::{is_registration, keeps_for_good};
use super::got::{CellKind, CellTarget, LoaderValue};
use super::object::{Definition, ObjectId};
use super::plan::{About, Binding, LoadOptions, PlannedCell, Planner, Undefined};
use super::profile::{SymbolOrder, UndefinedFunctions};
use super::remedy::remedy;
use super::state::View;
use super::symbols::{Symbol, WeakImports, javascript_hint};
use super::trace::TraceTopics;
use crate::error::Result;
use crate::module::{
    ExternKind, FuncType, GlobalType, MemoryType, Module, RefType, TableType, ValType,
};
use crate::runtime::StoreContextMut;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

/// What one object's imports are bound with.
struct Importer<'a> {
    id: ObjectId,
    name: String,
    module: &'a Module,
    weak: WeakImports<'a>,
    added_global: &'a [ObjectId],
    options: LoadOptions,
    /// The first imported function of each name (module, index of its type), once somebody asked.
    called: OnceCell<HashMap<&'a str, (&'a str, u32)>>,
}

/// Imports between two looks whether the load has to stop.
const IMPORTS_AT_ONCE: u32 = 64;

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
        let importer = Importer {
            id: object.id,
            name: object.name.clone(),
            module,
            weak: WeakImports::new(module),
            added_global,
            options,
            called: OnceCell::new(),
        };
        let trace = &self.process.0.trace;
        let lazy = if options.bind_now { "" } else { " (lazy)" };
        trace.line(TraceTopics::RELOC, format_args!(""));
        trace.line(
            TraceTopics::RELOC,
            format_args!("relocation processing: {}{lazy}", importer.name),
        );
        let mut bindings = Vec::with_capacity(module.0.imports.len());
        let mut cells: Vec<PlannedCell> = Vec::new();
        let mut known: HashMap<(CellKind, &str), usize> = HashMap::new();
        let mut seen_memory = false;
        let mut seen_table = false;
        for (number, import) in (0u32..).zip(&module.0.imports) {
            let (from, name) = (&*import.module, &*import.name);
            if number % IMPORTS_AT_ONCE == 0 {
                let each = self.lookup.borrow().next_cost();
                store.pay(each.saturating_mul(u64::from(IMPORTS_AT_ONCE)))?;
            }
            let bound = match &import.ty {
                ExternKind::Func(ty) => {
                    let ty = usize::try_from(*ty)
                        .ok()
                        .and_then(|ty| module.0.types.get(ty))
                        .cloned()
                        .unwrap_or_else(|| FuncType::new([], []));
                    self.bind_function(store, &importer, from, name, &ty)?
                }
                ExternKind::Memory(ty) => {
                    let first = !std::mem::replace(&mut seen_memory, true);
                    self.bind_memory(store, *ty, first)
                        .map(|()| Binding::Memory)
                }
                ExternKind::Table(ty) => {
                    let first = !std::mem::replace(&mut seen_table, true);
                    self.bind_table(store, (from, name), *ty, first)
                        .map(|()| Binding::Table)
                }
                ExternKind::Global(ty) => {
                    let kind = match from {
                        "GOT.mem" => Some(CellKind::Data),
                        "GOT.func" => Some(CellKind::Function),
                        _ => None,
                    };
                    match kind {
                        None => self.bind_global(store, from, name, *ty),
                        Some(_) if *ty != CELL_TYPE => Err(format!(
                            "a GOT cell must be a mutable i32, not {}",
                            global_text(*ty)
                        )),
                        Some(kind) => match known.get(&(kind, name)) {
                            Some(cell) => Ok(Binding::Cell(*cell)),
                            None => self
                                .cell_target(store, &importer, kind, name)
                                .map(|target| {
                                    known.insert((kind, name), cells.len());
                                    cells.push(PlannedCell {
                                        import: number,
                                        target,
                                    });
                                    Binding::Cell(cells.len() - 1)
                                }),
                        },
                    }
                }
            };
            match bound {
                Ok(binding) => {
                    if matches!(binding, Binding::Host(_)) {
                        self.process.0.trace.line(
                            TraceTopics::BINDINGS,
                            format_args!(
                                "binding file {} [0] to the host [0]: normal symbol `{name}'",
                                importer.name
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
                            "{}: error: symbol lookup error: undefined symbol: {name} (fatal)",
                            importer.name
                        ),
                    );
                    let text = match from {
                        "env" | "GOT.mem" | "GOT.func" if problem.contains(name) => problem,
                        _ => format!("import `{from}.{name}`: {problem}"),
                    };
                    self.problems.add_about(
                        format!("{text}, wanted by `{}`", importer.name),
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
        if let Some(object) = self.new.get_mut(place) {
            object.bindings = bindings;
            object.cells = cells;
        }
        Ok(())
    }

    fn find(&self, importer: &Importer<'_>, name: &str) -> Option<Definition> {
        let state = self.process.state();
        let view = View {
            state: &state,
            new: &self.new,
            added_global: importer.added_global,
        };
        let order = self.process.0.profile.symbol_order;
        let trace = &self.process.0.trace;
        if trace.wants(TraceTopics::SYMBOLS) {
            let mut last = None;
            for object in view.scope(order, Some(importer.id)) {
                if last != Some(object) {
                    trace.line(
                        TraceTopics::SYMBOLS,
                        format_args!("symbol={name};  lookup in file={} [0]", view.name(object)),
                    );
                }
                last = Some(object);
                if view.find_in([object], name).is_some() {
                    break;
                }
            }
        }
        self.process.0.counters.lookups.fetch_add(1, Relaxed);
        let own = match order {
            SymbolOrder::OwnFirst => view.find_in([importer.id], name),
            SymbolOrder::Elf => None,
        };
        let found = own.or_else(|| self.lookup.borrow_mut().find(name))?;
        trace.line(
            TraceTopics::BINDINGS,
            format_args!(
                "binding file {} [0] to {} [0]: normal symbol `{name}'",
                importer.name,
                view.name(found.object)
            ),
        );
        Some(found)
    }

    fn bind_function(
        &self,
        store: &mut StoreContextMut<'_, T>,
        importer: &Importer<'_>,
        from: &str,
        name: &str,
        ty: &FuncType,
    ) -> Result<Result<Binding, String>> {
        let shared = &self.process.0;
        let host_first = from != "env" || shared.host.overrides(from, name);
        if host_first && let Some(func) = self.process.host_function(store, from, name, ty) {
            return Ok(Ok(Binding::Host(func)));
        }
        let mut undefined = Undefined::Missing;
        if let Some(found) = self.find(importer, name) {
            match self.function_fits(store, found, name, ty)? {
                Ok(()) if self.forgets_nothing(importer, found, name, ty) => {
                    return Ok(Ok(Binding::ExitRegistration(found)));
                }
                Ok(()) => return Ok(Ok(Binding::Definition(found))),
                Err(why) => undefined = Undefined::Mismatch(why),
            }
            if let Some(split) = self.split_form(found, name)
                && self.function_fits(store, split, name, ty)?.is_ok()
            {
                return Ok(Ok(Binding::Definition(split)));
            }
        }
        // A definition that does not fit still hides the host's: whoever wrote it meant it.
        if matches!(undefined, Undefined::Missing)
            && !host_first
            && let Some(func) = self.process.host_function(store, from, name, ty)
        {
            return Ok(Ok(Binding::Host(func)));
        }
        let trap = match undefined {
            Undefined::Missing if importer.weak.contains(from, name) => {
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
            Undefined::Mismatch(why) => why,
            _ => {
                let hint = self
                    .wrapped_hint(name)
                    .or_else(|| javascript_hint(importer.module, name))
                    .or_else(|| shared.host.hint(from, name))
                    .or_else(|| remedy(name).map(String::from))
                    .map_or_else(String::new, |hint| format!(" ({hint})"));
                format!("undefined function `{name}`: {ty}{hint}")
            }
        }))
    }

    /// Whether a library that can be unloaded is about to register with a C library that cannot take it back (rule U5).
    fn forgets_nothing(
        &self,
        importer: &Importer<'_>,
        found: Definition,
        name: &str,
        ty: &FuncType,
    ) -> bool {
        let startup = self.new.first().is_some_and(|first| first.main.is_some());
        if startup || found.object == importer.id || !is_registration(name, ty) {
            return false;
        }
        let state = self.process.state();
        let view = View {
            state: &state,
            new: &self.new,
            added_global: &[],
        };
        view.symbols(found.object).is_some_and(keeps_for_good)
    }

    /// What stands for a definition whose address is taken, if [`Planner::forgets_nothing`] of it.
    fn exit_registration(
        &self,
        store: &mut StoreContextMut<'_, T>,
        importer: &Importer<'_>,
        found: Definition,
        name: &str,
    ) -> Option<CellTarget> {
        let ty = match found.symbol {
            Symbol::Function { func, .. } => {
                let state = self.process.state();
                let view = View {
                    state: &state,
                    new: &self.new,
                    added_global: &[],
                };
                view.symbols(found.object)?.func_type(func)?.clone()
            }
            _ => return None,
        };
        self.forgets_nothing(importer, found, name, &ty).then(|| {
            let func = self.process.exit_registration_by_address(store, found, ty);
            CellTarget::ExitRegistration {
                definition: found,
                func,
            }
        })
    }

    /// The same definition for importers whose 64-bit integers are split.
    fn split_form(&self, found: Definition, name: &str) -> Option<Definition> {
        let state = self.process.state();
        let view = View {
            state: &state,
            new: &self.new,
            added_global: &[],
        };
        let symbol = view.symbols(found.object)?.split_form(name)?;
        Some(Definition { symbol, ..found })
    }

    /// What to do about a function that the main module exports but that nobody may call (rule S8).
    fn wrapped_hint(&self, name: &str) -> Option<String> {
        let state = self.process.state();
        let view = View {
            state: &state,
            new: &self.new,
            added_global: &[],
        };
        let main = state.main.or_else(|| Some(self.new.first()?.id))?;
        view.symbols(main)?.is_wrapped(name).then(|| {
            format!(
                "`{}` exports it, but every export of that module runs its constructors and destructors: link it with a `_start` that calls `__wasm_call_ctors`, or with `--export=__wasm_call_ctors`",
                view.name(main)
            )
        })
    }

    /// Whether a definition is a function of this type (rules R5, R10).
    fn function_fits(
        &self,
        store: &mut StoreContextMut<'_, T>,
        found: Definition,
        name: &str,
        ty: &FuncType,
    ) -> Result<Result<(), String>> {
        let (defined, provider, loaded) = {
            let state = self.process.state();
            let view = View {
                state: &state,
                new: &self.new,
                added_global: &[],
            };
            let defined = match found.symbol {
                Symbol::Function { func, .. } => view
                    .symbols(found.object)
                    .and_then(|symbols| symbols.func_type(func)),
                _ => None,
            };
            if defined.is_some_and(|defined| defined == ty) {
                return Ok(Ok(()));
            }
            let loaded = state.object(found.object).is_some();
            let provider = view.name(found.object).to_string();
            (defined.cloned(), provider, loaded)
        };
        let defined = match found.symbol {
            Symbol::Function { .. } => defined,
            Symbol::Data { .. } => {
                return Ok(Err(format!(
                    "symbol `{name}` is wanted as a function, but is data in `{provider}`"
                )));
            }
            // Checked when the address is known.
            Symbol::Pointer(_) if !loaded => return Ok(Ok(())),
            Symbol::Pointer(_) => match self.process.definition_func(store, found)? {
                Some(func) => Some(func.ty(&*store)),
                None => {
                    return Ok(Err(format!(
                        "symbol `{name}` is wanted as a function, but its address in `{provider}` is no function"
                    )));
                }
            },
        };
        Ok(match defined {
            Some(defined) if defined == *ty => Ok(()),
            Some(defined) => Err(signature_mismatch(name, ty, &provider, &defined)),
            None => Err(format!("symbol `{name}` of `{provider}` has no type")),
        })
    }

    fn cell_target(
        &self,
        store: &mut StoreContextMut<'_, T>,
        importer: &Importer<'_>,
        kind: CellKind,
        name: &str,
    ) -> Result<CellTarget, String> {
        let shared = &self.process.0;
        if kind == CellKind::Function
            && shared.host.overrides("env", name)
            && let Some(target) = self.host_address(store, importer, name)
        {
            return Ok(target);
        }
        if let Some(found) = self.find(importer, name) {
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
                    let view = View {
                        state: &state,
                        new: &self.new,
                        added_global: &[],
                    };
                    Err(format!(
                        "symbol `{name}` is wanted as {wanted}, but is {} in `{}`",
                        found.symbol.kind(),
                        view.name(found.object)
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
                if let Some(target) = self.host_address(store, importer, name) {
                    return Ok(target);
                }
            }
        }
        let from = match kind {
            CellKind::Data => "GOT.mem",
            CellKind::Function => "GOT.func",
        };
        let null = importer.weak.contains(from, name)
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
                Some(hint) => format!("undefined data symbol `{name}` ({hint})"),
                None => format!("undefined data symbol `{name}`"),
            },
            CellKind::Function => {
                format!("undefined function `{name}` (its address is taken{hint})")
            }
        })
    }

    /// The host function behind a name whose address is taken: of the type that the host says, or that the importer
    /// also calls it with (rule G3).
    fn host_address(
        &self,
        store: &mut StoreContextMut<'_, T>,
        importer: &Importer<'_>,
        name: &str,
    ) -> Option<CellTarget> {
        let module = &*importer.module.0;
        let called = importer.called.get_or_init(|| {
            let mut called = HashMap::new();
            for import in &module.imports {
                if let ExternKind::Func(ty) = import.ty {
                    called.entry(&*import.name).or_insert((&*import.module, ty));
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
        let func = self.process.host_function(store, from, name, &ty)?;
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
                    "global `{name}` is {}, but must be {}",
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
            .ok_or_else(|| format!("undefined global `{name}`: {}", global_text(ty)))
    }
}

/// The type of a GOT cell.
pub(crate) const CELL_TYPE: GlobalType = GlobalType {
    value: ValType::I32,
    mutable: true,
};

fn global_text(ty: GlobalType) -> String {
    let mutable = if ty.mutable { "mutable" } else { "immutable" };
    format!("a {mutable} {}", ty.value)
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
        "signature mismatch for `{name}`: wanted {wanted}, but `{provider}` exports {defined} (they differ {place})"
    )
}
