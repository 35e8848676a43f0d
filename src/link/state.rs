//! Everything a process knows about its objects. Plain data: no guest code runs and nothing of the store is touched
//! while it is borrowed, so that `dlopen` may be called from a constructor that `dlopen` called.
#![forbid(unsafe_code)]

use super::exit_handlers::ExitHandlers;
use super::got::FunctionIndices;
use super::host_functions::HostFunctions;
use super::layout::{LoaderMemory, TableSlots};
use super::object::{Definition, MemoryPlace, Object, ObjectId, Remains};
use super::plan::NewObject;
use super::profile::SymbolOrder;
use super::symbols::SymbolTable;
use crate::runtime::{Func, Global, Instance, Memory, Table};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Names of one object that are kept besides those of its load.
const MAX_ALIASES: u32 = 8;

/// Bytes of the longest of them.
const MAX_ALIAS: usize = 256;

#[derive(Default)]
pub(crate) struct State {
    pub objects: BTreeMap<ObjectId, Object>,
    /// Number of the next object.
    pub next: u32,
    /// Names under which objects were asked for, and paths where they were found.
    pub names: HashMap<String, ObjectId>,
    pub identities: HashMap<String, ObjectId>,
    pub instances: HashMap<Instance, ObjectId>,
    /// Functions of the host that imports were bound to.
    pub host_functions: HostFunctions,
    pub main: Option<ObjectId>,
    /// Objects whose symbols everybody sees, in load order; the main module is the first.
    pub global: Vec<ObjectId>,
    pub memory: Option<Memory>,
    pub table: Option<Table>,
    pub stack_pointer: Option<Global>,
    /// The C stack that the linker allocated: lowest address and one past the highest.
    pub stack: Option<(u32, u32)>,
    /// The linker made the stack pointer, not the main module.
    pub owns_stack_pointer: bool,
    /// Where the heap of a position-independent program begins and ends at its start.
    pub heap: Option<(u32, u32)>,
    pub loader_memory: LoaderMemory,
    pub slots: TableSlots,
    pub indices: FunctionIndices,
    /// Libraries are being instantiated and relocated: the process is no state in which another load may begin.
    pub busy: bool,
    /// The first new object of each load that is being carried out, the outermost first.
    pub loading: Vec<ObjectId>,
    /// How often objects became global for good.
    pub promotions: u64,
    /// The text that `dlerror` gives next.
    pub error: Option<String>,
    /// The guest's buffer for that text.
    pub error_buffer: Option<MemoryPlace>,
    /// The linker's own functions for guests, by name.
    pub own_functions: HashMap<String, Func>,
    /// What libraries registered for their end.
    pub exit_handlers: ExitHandlers,
    /// What unloaded objects left in the store, for each object, to be released when none of its functions is on the
    /// call stack (rule U8).
    pub retired: Vec<Remains>,
    /// How many objects were unloaded again after they had been loaded.
    pub unloaded: u64,
    /// How many constructors have begun or ended so far.
    pub constructed: u64,
    /// Objects that are gone but whose code and cells are still in the store.
    pub spent: usize,
}

impl State {
    pub fn object(&self, id: ObjectId) -> Option<&Object> {
        self.objects.get(&id)
    }

    /// The object loaded under this name or from this file.
    pub fn loaded(&self, name: &str, identity: Option<&str>) -> Option<ObjectId> {
        self.names
            .get(name)
            .or_else(|| self.identities.get(identity?))
            .copied()
    }

    /// One more name of a loaded object. Only a few are kept, because a path can be written in any number of ways; by
    /// the others the object is found through its file.
    pub fn add_alias(&mut self, name: &str, id: ObjectId) {
        if let Some(object) = self.objects.get_mut(&id)
            && object.aliases < MAX_ALIASES
            && name.len() <= MAX_ALIAS
        {
            object.aliases += 1;
            self.names.insert(name.to_string(), id);
        }
    }

    /// Whether no failing load can take the object away any more.
    pub fn is_settled(&self, id: ObjectId) -> bool {
        self.loading.first().is_none_or(|first| id < *first)
    }

    /// Makes objects global for good, those that are not yet at the end (rule D3).
    pub fn promote(&mut self, objects: &[ObjectId]) {
        let present: HashSet<ObjectId> = self.global.iter().copied().collect();
        for id in objects {
            if let Some(object) = self.objects.get_mut(id)
                && object.promoted == 0
            {
                self.promotions = self.promotions.saturating_add(1);
                object.promoted = self.promotions;
            }
            if !present.contains(id) {
                self.global.push(*id);
            }
        }
    }

    /// Takes back what a failed load made global, except what another call made global meanwhile: that has the place
    /// which it would have had without the load.
    pub fn demote(&mut self, added: &[ObjectId]) {
        let added: HashSet<ObjectId> = added.iter().copied().collect();
        let promoted =
            |state: &State, id: &ObjectId| state.object(*id).map_or(0, |object| object.promoted);
        let (taken, mut global): (Vec<ObjectId>, Vec<ObjectId>) = std::mem::take(&mut self.global)
            .into_iter()
            .partition(|id| added.contains(id));
        let stays = taken.into_iter().filter(|id| promoted(self, id) > 0);
        for id in stays.collect::<Vec<_>>() {
            let when = promoted(self, &id);
            let place = global
                .iter()
                .position(|other| promoted(self, other) > when)
                .unwrap_or(global.len());
            global.insert(place, id);
        }
        self.global = global;
    }

    /// The name of an object for messages.
    pub fn name(&self, id: ObjectId) -> &str {
        self.object(id).map_or("?", |object| &object.name)
    }
}

/// The objects of the process together with those of a plan.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub state: &'a State,
    pub new: &'a [NewObject],
    /// Objects of the plan that will be global.
    pub added_global: &'a [ObjectId],
}

impl<'a> View<'a> {
    pub fn loaded(state: &'a State) -> View<'a> {
        View {
            state,
            new: &[],
            added_global: &[],
        }
    }

    fn planned(&self, id: ObjectId) -> Option<&'a NewObject> {
        let first = self.new.first()?.id.0;
        self.new
            .get(usize::try_from(id.0.checked_sub(first)?).ok()?)
    }

    pub fn symbols(&self, id: ObjectId) -> Option<&'a SymbolTable> {
        match self.planned(id) {
            Some(new) => Some(&new.symbols),
            None => Some(&self.state.object(id)?.symbols),
        }
    }

    /// All objects, those of the process first.
    pub fn objects(&self) -> impl Iterator<Item = ObjectId> + 'a {
        let loaded = self.state.objects.keys().copied();
        loaded.chain(self.new.iter().map(|object| object.id))
    }

    pub fn name(&self, id: ObjectId) -> &'a str {
        match self.planned(id) {
            Some(new) => &new.name,
            None => self.state.name(id),
        }
    }

    pub fn needed(&self, id: ObjectId) -> &'a [ObjectId] {
        match self.planned(id) {
            Some(new) => &new.needed,
            None => self.state.object(id).map_or(&[], |object| &object.needed),
        }
    }

    fn local_scope(&self, id: ObjectId) -> &'a [ObjectId] {
        match self.planned(id) {
            Some(new) => &new.scope,
            None => self.state.object(id).map_or(&[], |object| &object.scope),
        }
    }

    /// The objects in which a name wanted by `importer` is looked for, in order (rule R2). An object may occur twice.
    pub fn scope(
        self,
        order: SymbolOrder,
        importer: Option<ObjectId>,
    ) -> impl Iterator<Item = ObjectId> + 'a {
        let own = importer.filter(|_| order == SymbolOrder::OwnFirst);
        let local = importer.map_or(&[][..], |importer| self.local_scope(importer));
        own.into_iter()
            .chain(self.state.global.iter().copied())
            .chain(self.added_global.iter().copied())
            .chain(local.iter().copied())
            .chain(importer)
    }

    /// The objects behind `caller`, where `RTLD_NEXT` looks (rule D8): in the scope of the root that brought it in, as
    /// ld.so does, so that a wrapper finds what it needs although that was global before; then in the global scope.
    pub fn behind(&self, caller: ObjectId) -> impl Iterator<Item = ObjectId> + 'a {
        let local = self.local_scope(caller);
        let of_main = local.first().copied() == self.state.main;
        let behind = move |list: &'a [ObjectId]| {
            let from = list.iter().skip_while(move |id| **id != caller);
            from.copied().filter(move |id| *id != caller)
        };
        behind(if of_main { &[] } else { local }).chain(behind(&self.state.global))
    }

    /// The first definition of a name in these objects (rule R3).
    pub fn find_in(
        &self,
        objects: impl IntoIterator<Item = ObjectId>,
        name: &str,
    ) -> Option<Definition> {
        // All objects hash names alike, so once will do.
        let mut hashed = None;
        objects.into_iter().find_map(|object| {
            let symbols = self.symbols(object)?;
            let name = *hashed.get_or_insert_with(|| symbols.name(name));
            let symbol = symbols.find(name)?;
            Some(Definition { object, symbol })
        })
    }

    /// The definition that a reference of `importer` is bound to.
    pub fn find(
        &self,
        order: SymbolOrder,
        importer: Option<ObjectId>,
        name: &str,
    ) -> Option<Definition> {
        self.find_in(self.scope(order, importer), name)
    }
}

impl State {
    /// The GOT cell of an object for one of its imports.
    pub fn cell(&self, object: ObjectId, import: u32) -> Option<Global> {
        let object = self.object(object)?;
        let place = *object.cell_places.get(&import)?;
        object.cells.global(place)
    }

    /// The objects that only `gone` keeps: everything among `among` that needs an object of `gone` or is bound to one,
    /// directly or not (rule U1). Gives `gone` and them.
    pub fn with_dependents(
        &self,
        gone: &HashSet<ObjectId>,
        among: impl Fn(ObjectId) -> bool,
    ) -> HashSet<ObjectId> {
        let mut dependents: HashMap<ObjectId, Vec<ObjectId>> = HashMap::new();
        for object in self.objects.values().filter(|object| among(object.id)) {
            for on in object.needed.iter().chain(&object.captured) {
                dependents.entry(*on).or_default().push(object.id);
            }
        }
        let mut all = gone.clone();
        let mut open: Vec<ObjectId> = gone.iter().copied().collect();
        while let Some(id) = open.pop() {
            for dependent in dependents.remove(&id).unwrap_or_default() {
                if all.insert(dependent) {
                    open.push(dependent);
                }
            }
        }
        all
    }

    /// Sorts objects into the order in which they end: reverse to that in which their constructors ended (rule U2).
    /// Constructors that did not end come first, the one that began last before the others.
    pub fn sort_for_end(&self, objects: &mut [ObjectId]) {
        let place = |id: &ObjectId| match self.object(*id) {
            Some(object) if object.constructed > 0 => (0, object.constructed),
            Some(object) => (1, object.began),
            None => (0, 0),
        };
        objects.sort_by_key(|id| std::cmp::Reverse(place(id)));
    }

    /// The objects that nothing keeps: not opened, not kept for ever, and neither needed by nor bound to from an object
    /// that is kept (rule U1).
    pub fn unreachable(&self) -> Vec<ObjectId> {
        let mut kept: HashSet<ObjectId> = HashSet::new();
        let mut open: Vec<ObjectId> = self
            .objects
            .values()
            .filter(|object| object.stays || object.opens > 0 || Some(object.id) == self.main)
            .map(|object| object.id)
            .collect();
        while let Some(id) = open.pop() {
            if !kept.insert(id) {
                continue;
            }
            if let Some(object) = self.object(id) {
                open.extend(object.needed.iter().copied());
                open.extend(object.captured.iter().copied());
            }
        }
        self.objects
            .keys()
            .copied()
            .filter(|id| !kept.contains(id))
            .collect()
    }
}
