//! The second half of a load: carries a plan out, or leaves no trace of it (rules I1 to I7, D14).
//!
//! The steps, in order: reserve memory and table slots of all new objects, instantiate them (dependencies first; a main
//! module with fixed addresses before everything, because its allocator gives the libraries their memory), fill all GOT
//! cells, run the relocation functions of all, set up thread-local data, and only then run constructors.
//!
//! Until constructors run, the process is *busy*: a load that guest code begins then (from a start function or a
//! relocation function) is refused. While constructors run it is not, so they may call `dlopen`.
//!
//! When a step fails, `undo.rs` takes everything back.
#![forbid(unsafe_code)]

use super::got::{CellTarget, Cells};
use super::main_module::Place;
use super::object::{Definition, MemoryPlace, Object, ObjectId, Status, TablePlace};
use super::plan::{Binding, NewObject, Plan, Undefined};
use super::process::Process;
use super::statistics::Clock;
use super::symbols::Symbol;
use super::trace::TraceTopics;
use super::undo::ends_process;
use crate::error::{Error, Result};
use crate::module::{ExternKind, GlobalType, ValType};
use crate::runtime::{Extern, Func, Given, Global, Instance, Mark, StoreContextMut, Val};
use crate::shown::shown;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Imports or cells between two looks whether the load has to stop.
pub(super) const AT_ONCE: usize = 64;

/// What they cost in fuel.
pub(super) const AT_ONCE_COST: u64 = 256;

/// A load that is being carried out.
pub(super) struct Load<'p, T: 'static> {
    pub process: &'p Process<T>,
    pub new: Vec<NewObject>,
    pub root: ObjectId,
    pub init_order: Vec<ObjectId>,
    pub added_global: Vec<ObjectId>,
    /// What the load created in the store beside its objects, as ranges between marks.
    pub created: Vec<(Mark, Mark)>,
    /// Slots for functions before the load.
    pub added_slots: usize,
    /// Constructors and promotions before the load.
    pub counters_before: (u64, u64),
    pub stack_pointer_before: Option<Val>,
    /// Memory of the C stack, if this load provided it.
    pub stack_memory: MemoryPlace,
    /// Which cells have their values for good.
    pub settled: Vec<Settled>,
    /// Code of the new objects may have run, so guests may hold function pointers of theirs.
    pub guest_ran: bool,
}

/// Which cells of a new object have their values already, unless functions get other addresses than those they had.
pub(super) struct Settled {
    pub object: ObjectId,
    pub cells: Vec<bool>,
    /// How often that had happened by then ([`FunctionIndices::changes`](super::got::FunctionIndices::changes)).
    pub changes: u64,
}

impl<T: 'static> Process<T> {
    /// Carries a plan out; gives the object that was asked for.
    pub(crate) fn commit(
        &self,
        store: &mut StoreContextMut<'_, T>,
        plan: Plan,
    ) -> Result<ObjectId> {
        let (added_slots, stack_pointer, counters_before) = {
            let mut state = self.state();
            if state.busy {
                return Err(Error::msg(
                    "libraries cannot be loaded from a start function or a relocation function",
                ));
            }
            state.busy = true;
            let counters = (state.constructed, state.promotions);
            let first = plan.new.first().map_or(plan.root, |object| object.id);
            state.loading.push(first);
            (state.indices.added(), state.stack_pointer, counters)
        };
        let stack_pointer_before = stack_pointer.map(|global| global.get(&mut *store));
        let mut load = Load {
            process: self,
            new: plan.new,
            root: plan.root,
            init_order: plan.init_order,
            added_global: plan.added_global,
            created: Vec::new(),
            added_slots,
            counters_before,
            stack_pointer_before,
            stack_memory: MemoryPlace::default(),
            settled: Vec::new(),
            guest_ran: false,
        };
        let result = match load.run(store) {
            Ok(()) => Ok(load.root),
            Err(error) => {
                // What ends the process while the load is undone is what the caller has to know.
                let ends = ends_process(&error) && !self.0.host.goes_on_after(&error);
                let ended = load.undo(store, ends);
                Err(ended.err().unwrap_or(error))
            }
        };
        self.state().loading.pop();
        result
    }
}

impl<T: 'static> Load<'_, T> {
    fn run(&mut self, store: &mut StoreContextMut<'_, T>) -> Result<()> {
        let whole = Clock::new(&self.process.0.counters.time);
        self.enter();
        self.process.step()?;
        self.trace_duplicates();
        let main = self.new.iter().position(|object| object.main.is_some());
        if let Some((place, shape)) =
            main.and_then(|place| Some((place, self.new.get(place)?.main.clone()?)))
        {
            let before = store.mark();
            let created = self.create_shared(store, place, &shape);
            self.created.push((before, store.mark()));
            created?;
            self.process.step()?;
            let owns_memory = matches!(shape.memory, Place::Exported(_));
            if !shape.relocatable || owns_memory {
                self.instantiate(store, place)?;
            }
            self.adopt(store, place, &shape)?;
            self.seed(store, place);
            self.process.step()?;
        }
        self.reserve(store)?;
        self.process.step()?;
        self.check_minima(store)?;
        self.process.step()?;
        self.check_segments()?;
        self.process.step()?;
        let mut waiting = self.waiting_slots(store, main);
        for id in self.init_order.clone() {
            if let Some(place) = self.place(id)
                && self.process.instance_of(id).is_none()
            {
                self.instantiate(store, place)?;
                self.process.step()?;
                self.settle_segments(store, &mut waiting, id)?;
                self.seed(store, place);
                self.process.step()?;
            }
        }
        self.bind_pending(store)?;
        self.process.step()?;
        // Functions in segments that had to wait for their definition.
        for place in 0..self.new.len() {
            self.seed(store, place);
        }
        self.process.step()?;
        self.reserve_tls(store)?;
        self.process.step()?;
        let relocation = Clock::new(&self.process.0.counters.relocation);
        self.fill_cells(store)?;
        self.process.step()?;
        self.relocate(store)?;
        drop(relocation);
        drop(whole);
        self.process.step()?;
        self.construct(store)?;
        self.process.step()
    }

    pub(super) fn place(&self, id: ObjectId) -> Option<usize> {
        let first = self.new.first()?.id.0;
        usize::try_from(id.0.checked_sub(first)?).ok()
    }

    pub(super) fn name(&self, place: usize) -> String {
        self.new
            .get(place)
            .map_or_else(String::new, |object| object.name.clone())
    }

    /// Enters the new objects into the process, so that their symbols are found.
    fn enter(&mut self) {
        let mut state = self.process.state();
        for new in &self.new {
            let startup = self.new.first().is_some_and(|first| first.main.is_some());
            state.objects.insert(
                new.id,
                Object {
                    id: new.id,
                    name: new.name.clone(),
                    path: new.path.clone(),
                    symbols: new.symbols.clone(),
                    relocatable: new.relocatable,
                    instance: None,
                    memory: MemoryPlace::default(),
                    table: TablePlace::default(),
                    tls_base: None,
                    tls_memory: MemoryPlace::default(),
                    needed: new.needed.clone(),
                    captured: captured(new),
                    scope: new.scope.clone(),
                    cells: Cells::default(),
                    cell_places: cell_places(new),
                    pending: Vec::new(),
                    guest_names: HashMap::new(),
                    aliases: 0,
                    opens: 0,
                    stays: startup,
                    created: Vec::new(),
                    status: Status::Loading,
                    began: 0,
                    constructed: 0,
                    promoted: 0,
                },
            );
            state.names.entry(new.name.clone()).or_insert(new.id);
            state.names.entry(new.path.clone()).or_insert(new.id);
            state
                .identities
                .entry(new.identity.clone())
                .or_insert(new.id);
            state.next = state.next.max(new.id.0.saturating_add(1));
            if new.main.is_some() {
                state.main = Some(new.id);
            }
        }
        let added = self.added_global.clone();
        state.global.extend(added);
    }

    /// Instantiates one object.
    fn instantiate(&mut self, store: &mut StoreContextMut<'_, T>, place: usize) -> Result<()> {
        let Some(object) = self.new.get(place) else {
            return Ok(());
        };
        let (id, name) = (object.id, object.name.clone());
        let module = object.symbols.module().clone();
        store.pay(AT_ONCE_COST)?;
        self.process.0.trace.line(
            TraceTopics::FILES,
            format_args!("file={name} [0];  instantiating"),
        );
        let before = store.mark();
        let imports = self
            .make_cells(store, place)
            .and_then(|()| self.imports(store, place));
        let prepared = store.mark();
        if let Some(object) = self.process.state().objects.get_mut(&id) {
            object.created.push((before, prepared));
        }
        let (others, cells) = imports?;
        self.process.step()?;
        self.guest_ran |= module.0.start.is_some();
        let bindings = self
            .new
            .get(place)
            .map_or(&[][..], |object| &object.bindings);
        let mut others = others.into_iter();
        let mut providers = Providers::new(self.process);
        let imports = bindings.iter().map(|binding| match binding {
            Binding::Cell(cell) => cells.given(*cell),
            binding => providers.given(binding).or_else(|| others.next()),
        });
        let instance = Instance::linked(&mut *store, &module, imports);
        // A start function may have made the host create something of its own; the instance itself came first.
        let created = match module.0.start {
            Some(_) => (
                prepared,
                Mark(prepared.0.saturating_add(1)).min(store.mark()),
            ),
            None => (prepared, store.mark()),
        };
        let mut state = self.process.state();
        if let Some(object) = state.objects.get_mut(&id) {
            object.created.push(created);
            object.instance = instance.as_ref().ok().copied();
        }
        let instance = instance
            .map_err(|error| error.context(format!("cannot instantiate `{}`", shown(&name))))?;
        state.instances.insert(instance, id);
        Ok(())
    }

    fn make_cells(&mut self, store: &mut StoreContextMut<'_, T>, place: usize) -> Result<()> {
        let Some(object) = self.new.get(place) else {
            return Ok(());
        };
        let id = object.id;
        let values = self.process.first_values(store, &object.cells)?;
        let globals = Global::cells(&mut *store, values.iter().map(|first| first.value))?;
        let mut state = self.process.state();
        self.settled.push(Settled {
            object: id,
            cells: values.into_iter().map(|first| first.settled).collect(),
            changes: state.indices.changes(),
        });
        if let Some(loaded) = state.objects.get_mut(&id) {
            loaded.cells = Cells::new(object.cells.clone(), globals);
        }
        Ok(())
    }

    /// What one object is given for its imports, in order, besides its cells, which are given too, and functions of
    /// instances. Functions of objects that have no instance yet become deferred functions.
    fn imports(
        &mut self,
        store: &mut StoreContextMut<'_, T>,
        place: usize,
    ) -> Result<(Vec<Given>, Cells)> {
        let Some(object) = self.new.get(place) else {
            return Ok((Vec::new(), Cells::default()));
        };
        let id = object.id;
        let module = object.symbols.module().clone();
        let (memory_base, table_base, cells) = {
            let state = self.process.state();
            let object = state.object(id);
            (
                object.map_or(0, |object| object.memory.base),
                object.map_or(0, |object| object.table.base),
                object.map_or_else(Cells::default, |object| object.cells.clone()),
            )
        };
        let missing = |what: &str| {
            Error::msg(format!(
                "`{}` imports {what}, which the process does not have",
                shown(&object.name)
            ))
        };
        let mut others = Vec::new();
        let mut pending = Vec::new();
        let mut providers = Providers::new(self.process);
        for (number, (binding, import)) in object.bindings.iter().zip(&module.0.imports).enumerate()
        {
            if number % AT_ONCE == 0 {
                store.pay(AT_ONCE_COST)?;
            }
            self.process.step()?;
            let item = match binding {
                Binding::Memory => {
                    Extern::Memory(self.process.memory().ok_or_else(|| missing("a memory"))?)
                }
                Binding::Table => {
                    Extern::Table(self.process.table().ok_or_else(|| missing("a table"))?)
                }
                Binding::StackPointer => Extern::Global(
                    self.process
                        .stack_pointer()
                        .ok_or_else(|| missing("a stack pointer"))?,
                ),
                Binding::MemoryBase => Extern::Global(constant(store, memory_base)?),
                Binding::TableBase => Extern::Global(constant(store, table_base)?),
                Binding::Loader(value) => {
                    let value = self
                        .process
                        .loader_value(*value)
                        .ok_or_else(|| missing(&format!("`{}`", shown(&import.name))))?;
                    Extern::Global(constant(store, value)?)
                }
                Binding::Cell(_) => continue,
                Binding::Host(func) => Extern::Func(*func),
                Binding::HostGlobal(global) => Extern::Global(*global),
                Binding::Definition(definition) => {
                    if providers.given(binding).is_some() {
                        continue;
                    }
                    let ready = self.process.definition_func(store, *definition)?;
                    let func = match ready {
                        Some(func) => func,
                        None => {
                            let func =
                                self.defer_definition(store, &module, import.ty, *definition);
                            pending.push((func, *definition));
                            func
                        }
                    };
                    Extern::Func(func)
                }
                Binding::ExitRegistration(definition) => {
                    let ty = func_type(&module, import.ty);
                    Extern::Func(self.process.exit_registration(store, id, *definition, ty))
                }
                Binding::Undefined(why) => {
                    let ty = func_type(&module, import.ty);
                    Extern::Func(self.process.defer_undefined(
                        store,
                        id,
                        (module.0.import_module(import), &import.name),
                        ty,
                        why.clone(),
                    ))
                }
            };
            others.push(Given::Item(item));
        }
        if let Some(object) = self.process.state().objects.get_mut(&id) {
            object.pending = pending;
        }
        Ok((others, cells))
    }

    /// A function of an object that has no instance yet (a cycle, or a module's own weak definition: rule R4).
    fn defer_definition(
        &self,
        store: &mut StoreContextMut<'_, T>,
        module: &crate::module::Module,
        kind: ExternKind,
        definition: Definition,
    ) -> Func {
        let process = self.process.clone();
        Func::deferred(
            &mut *store,
            func_type(module, kind),
            move |mut store: StoreContextMut<'_, T>| {
                let found = process.definition_func(&mut store, definition)?;
                found.ok_or_else(|| {
                    let name = shown(process.state().name(definition.object)).to_string();
                    Error::msg(format!(
                        "a function of `{name}` was called before that library was instantiated"
                    ))
                })
            },
        )
    }

    /// Learns the table indices of the functions that a new object put into the table (rule G2). At once, before cells
    /// of the objects after it ask for an address: code with fixed addresses has these indices as constants.
    fn seed(&mut self, store: &mut StoreContextMut<'_, T>, place: usize) {
        let Some(new) = self.new.get(place) else {
            return;
        };
        let (relocatable, table) = {
            let state = self.process.state();
            match state
                .object(new.id)
                .filter(|object| object.instance.is_some())
            {
                Some(object) => (object.relocatable, object.table),
                None => return,
            }
        };
        let first = self.new.first().map_or(self.root, |object| object.id);
        let starts = self.new.iter().any(|object| object.main.is_some());
        let slots = if relocatable {
            (table.base.into(), table.count.into())
        } else if new.main.is_some() {
            (1, u64::from(u32::MAX))
        } else {
            return;
        };
        self.process.seed_indices(store, slots, first, starts);
    }
}

/// The instances that functions come from. Those of one object mostly come one after the other.
struct Providers<'p, T: 'static> {
    process: &'p Process<T>,
    last: Option<(ObjectId, Option<Instance>)>,
}

impl<'p, T: 'static> Providers<'p, T> {
    fn new(process: &'p Process<T>) -> Providers<'p, T> {
        Providers {
            process,
            last: None,
        }
    }

    /// The function of an instance that an import is bound to; `None`: it is bound to something else.
    #[inline]
    fn given(&mut self, binding: &Binding) -> Option<Given> {
        let Binding::Definition(Definition { object, symbol }) = binding else {
            return None;
        };
        let Symbol::Function { func: index, .. } = *symbol else {
            return None;
        };
        let instance = match self.last {
            Some((last, instance)) if last == *object => instance,
            _ => self.process.instance_of(*object),
        };
        self.last = Some((*object, instance));
        let instance = instance?;
        Some(Given::Function { instance, index })
    }
}

/// The cell of each import that has one, for objects that tell addresses by their cells.
fn cell_places(new: &NewObject) -> Arc<HashMap<u32, usize>> {
    if !new.symbols.has_pointers() {
        return Arc::default();
    }
    let places = (0u32..).zip(&new.bindings);
    let cells = places.filter_map(|(import, binding)| match binding {
        Binding::Cell(cell) => Some((import, *cell)),
        _ => None,
    });
    Arc::new(cells.collect())
}

/// The objects that the bindings and cells of a new object lead to.
fn captured(new: &NewObject) -> BTreeSet<ObjectId> {
    let bindings = new.bindings.iter().filter_map(|binding| match binding {
        Binding::Definition(definition) | Binding::ExitRegistration(definition) => {
            Some(definition.object)
        }
        _ => None,
    });
    let cells = new.cells.iter().filter_map(|cell| match cell.target {
        CellTarget::Definition(definition) | CellTarget::ExitRegistration { definition, .. } => {
            Some(definition.object)
        }
        _ => None,
    });
    bindings
        .chain(cells)
        .filter(|object| *object != new.id)
        // Most lead to where the one before led.
        .scan(None, |last, object| {
            Some((last.replace(object) != Some(object)).then_some(object))
        })
        .flatten()
        .collect()
}

fn func_type(module: &crate::module::Module, kind: ExternKind) -> crate::module::FuncType {
    match kind {
        ExternKind::Func(ty) => usize::try_from(ty)
            .ok()
            .and_then(|ty| module.0.types.get(ty))
            .cloned(),
        _ => None,
    }
    .unwrap_or_else(|| crate::module::FuncType::new([], []))
}

pub(super) fn constant<T: 'static>(
    store: &mut StoreContextMut<'_, T>,
    value: u32,
) -> Result<Global> {
    Global::new(
        &mut *store,
        GlobalType {
            value: ValType::I32,
            mutable: false,
        },
        Val::I32(value.cast_signed()),
    )
}

/// Objects of a load, for look-ups by number.
pub(super) fn ids(new: &[NewObject]) -> HashSet<ObjectId> {
    new.iter().map(|object| object.id).collect()
}

impl<T: 'static> Process<T> {
    /// A function that nobody defines, or with another type: looked for again at its first call (rule B4), and a trap if
    /// there is still none.
    fn defer_undefined(
        &self,
        store: &mut StoreContextMut<'_, T>,
        importer: ObjectId,
        import: (&str, &str),
        ty: crate::module::FuncType,
        why: Undefined,
    ) -> Func {
        let process = self.clone();
        let (from, name): (Arc<str>, Arc<str>) = (import.0.into(), import.1.into());
        let wanted = ty.clone();
        Func::deferred_with(&mut *store, ty, move |mut store: StoreContextMut<'_, T>| {
            process.resolve_late(&mut store, importer, (&from, &name), &wanted, &why)
        })
    }
}
