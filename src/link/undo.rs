//! Taking objects out of a process: after a failed load (rule D14), and when the last handle is closed (rules U1 to U4).
//!
//! Objects that go leave no name, no scope entry, no slot and no memory behind. What they are in the store (instances,
//! cells, code) is released at once after a failed load: none of their functions can be running then. After a `dlclose`
//! one may be (U8): then it is released by a later `dlopen` or `dlclose`; until then such objects are counted, and the
//! count is limited.
#![forbid(unsafe_code)]

use super::address::slot_holds;
use super::got::AddedSlot;
use super::load::{Load, ids};
use super::object::{Object, ObjectId, Remains, Status};
use super::process::Process;
use super::state::State;
use super::trace::TraceTopics;
use crate::error::{Error, ErrorKind, Result};
use crate::module::{FuncType, ValType};
use crate::runtime::{Mark, StoreContextMut};
use crate::shown::shown;
use crate::trap::TrapCode;
use std::collections::{HashMap, HashSet};

impl<T: 'static> Load<'_, T> {
    /// Brings the process back to the state before the load. Loads that constructors of this one began and finished
    /// stay, unless they depend on what goes.
    ///
    /// # Errors
    /// Code of the guest that had to run (destructors, `free`) ended the process; all is undone nevertheless.
    pub(super) fn undo(
        &mut self,
        store: &mut StoreContextMut<'_, T>,
        process_ends: bool,
    ) -> Result<()> {
        let process = self.process;
        let mut result = Ok(());
        let own = ids(&self.new);
        let (gone, nested_stay, constructed) = {
            let state = process.state();
            let first = self.new.first().map_or(u32::MAX, |object| object.id.0);
            let gone = match state.main {
                Some(main) if own.contains(&main) => state.objects.keys().copied().collect(),
                _ => state.with_dependents(&own, |id| id.0 >= first),
            };
            let nested_stay = state
                .objects
                .keys()
                .any(|id| id.0 >= first && !gone.contains(id));
            let mut constructed: Vec<ObjectId> = gone
                .iter()
                .copied()
                .filter(|id| {
                    state
                        .object(*id)
                        .is_some_and(|object| object.began > 0 || object.constructed > 0)
                })
                .collect();
            state.sort_for_end(&mut constructed);
            (gone, nested_stay, constructed)
        };
        self.restore_stack_pointer(store);
        // What their constructors registered must not be called once they are gone, nor what a constructor registered
        // before it failed. Guests that were stopped, or that have ended the process, run no more code of theirs.
        if !process_ends {
            result = process.finalize(store, &constructed, true);
            self.restore_stack_pointer(store);
        }
        let ended = process_ends || result.is_err();

        let main_goes = {
            let state = process.state();
            state.main.is_some_and(|main| gone.contains(&main))
        };
        let added = {
            let mut state = process.state();
            let stays = state.exit_handlers.slot;
            state.demote(&self.added_global);
            state.indices.remove_added(self.added_slots, |slot| {
                let goes = !nested_stay || slot.object.is_some_and(|object| gone.contains(&object));
                goes && stays != Some(slot.slot)
            })
        };
        for added in added {
            process.drop_added(store, added, self.guest_ran);
        }
        let (remains, given_back) = process.remove(store, &gone, self.guest_ran, ended);
        result = result.and(given_back);
        let mut created: Vec<(Mark, Mark)> = remains
            .into_iter()
            .flat_map(|object| object.created)
            .collect();
        if !nested_stay {
            created.append(&mut self.created);
        }
        if self.stack_memory.size > 0 && !main_goes && !nested_stay {
            // The stack pointer was made by this load, and nobody else has it.
            let mut state = process.state();
            state.stack_pointer = None;
            state.stack = None;
            state.owns_stack_pointer = false;
            drop(state);
            let ended = process_ends || result.is_err();
            result = result.and(process.give_back_memory(store, self.stack_memory, ended));
        }
        let mut state = process.state();
        if main_goes {
            *state = State {
                next: state.next,
                spent: state.spent,
                retired: std::mem::take(&mut state.retired),
                error: state.error.take(),
                loading: std::mem::take(&mut state.loading),
                // They belong to the store for good: the next start uses them again.
                host_functions: std::mem::take(&mut state.host_functions),
                own_functions: std::mem::take(&mut state.own_functions),
                ..State::default()
            };
        }
        // Nothing that stays refers to what goes: old objects are bound only to objects whose load has succeeded (see
        // `late.rs`), and what was bound since depends on what goes, so it goes too.
        drop(state);
        process.release_retired(store, created);
        let mut state = process.state();
        if !nested_stay {
            state.next = self.new.first().map_or(state.next, |object| object.id.0);
            (state.constructed, state.promotions) = self.counters_before;
        }
        state.busy = false;
        result
    }

    fn restore_stack_pointer(&self, store: &mut StoreContextMut<'_, T>) {
        let global = self.process.stack_pointer();
        if let (Some(value), Some(global)) = (self.stack_pointer_before, global) {
            // The global took this value before.
            let _ = global.set(&mut *store, value);
        }
    }
}

impl<T: 'static> Process<T> {
    /// Hands slots in again; `used`: a guest may hold them as function pointers.
    fn free_slots(&self, base: u32, count: u32, used: bool) {
        let mut state = self.state();
        if used {
            state.slots.retire(base.into(), count.into());
        } else {
            state.slots.add(base.into(), count.into());
        }
    }

    /// Clears and frees a slot that was added for a function, unless the guest has put something else into it.
    fn drop_added(&self, store: &mut StoreContextMut<'_, T>, added: AddedSlot, used: bool) {
        let ours = self
            .table()
            .is_some_and(|table| slot_holds(store, table, added.slot, added.func));
        if ours {
            self.clear_slots(store, added.slot, 1);
            self.free_slots(added.slot, 1, used);
        }
    }

    /// Takes objects out of the process: names, scopes, slots, memory. `used`: their code has run; `ended`: no code of
    /// guests may run any more. Gives what is left of them in the store, and whether the guest's allocator ended the
    /// process.
    fn remove(
        &self,
        store: &mut StoreContextMut<'_, T>,
        gone: &HashSet<ObjectId>,
        used: bool,
        ended: bool,
    ) -> (Vec<Remains>, Result<()>) {
        let removed: Vec<Object> = {
            let mut state = self.state();
            state.names.retain(|_, id| !gone.contains(id));
            state.identities.retain(|_, id| !gone.contains(id));
            state.instances.retain(|_, id| !gone.contains(id));
            state.global.retain(|id| !gone.contains(id));
            state.exit_handlers.forget(|id| gone.contains(&id));
            let mut sorted: Vec<ObjectId> = gone.iter().copied().collect();
            sorted.sort_unstable();
            sorted
                .into_iter()
                .filter_map(|id| state.objects.remove(&id))
                .collect()
        };
        let extra = {
            let mut state = self.state();
            let ranges = removed.iter().map(|object| &object.table);
            state
                .indices
                .remove_ranges(ranges.map(|table| (table.base, table.count)).collect());
            state
                .indices
                .remove_added(0, |slot| slot.object.is_some_and(|id| gone.contains(&id)))
        };
        for object in &removed {
            self.0.trace.line(
                TraceTopics::FILES,
                format_args!("file={} [0];  destroying link map", object.name),
            );
            self.clear_slots(store, object.table.base, object.table.count);
            if object.table.count > 0 {
                self.free_slots(object.table.base, object.table.count, used);
            }
        }
        for added in extra {
            self.drop_added(store, added, used);
        }
        let mut result = Ok(());
        for object in &removed {
            let names = object.guest_names.values().copied();
            for place in [object.tls_memory, object.memory].into_iter().chain(names) {
                let ended = ended || result.is_err();
                let given_back = self.give_back_memory(store, place, ended);
                result = result.and(given_back);
            }
        }
        let remains = removed.into_iter().map(Remains::of).collect();
        (remains, result)
    }

    /// Releases what unloaded objects left in the store, except those whose functions may be on the call stack
    /// (rule U8) and those that such objects lead to; and `created` in any case, of which nothing is running. All
    /// together, because they may lead to each other.
    pub(crate) fn release_retired(
        &self,
        store: &mut StoreContextMut<'_, T>,
        mut created: Vec<(Mark, Mark)>,
    ) {
        let retired = std::mem::take(&mut self.state().retired);
        let ranges: Vec<(Mark, Mark)> = retired
            .iter()
            .flat_map(|object| object.created.iter().copied())
            .collect();
        let mut running = store.may_be_running(&ranges).into_iter();
        let mut open: Vec<usize> = Vec::new();
        for (place, object) in retired.iter().enumerate() {
            let mut held = running.by_ref().take(object.created.len());
            if held.any(|held| held) {
                open.push(place);
            }
            held.for_each(drop);
        }
        let places: HashMap<ObjectId, usize> = retired
            .iter()
            .enumerate()
            .map(|(place, object)| (object.id, place))
            .collect();
        let mut kept: HashSet<usize> = HashSet::new();
        while let Some(place) = open.pop() {
            if let Some(object) = retired.get(place).filter(|_| kept.insert(place)) {
                open.extend(object.on.iter().filter_map(|id| places.get(id)));
            }
        }
        {
            let mut state = self.state();
            for (place, object) in retired.into_iter().enumerate() {
                if kept.contains(&place) {
                    state.retired.push(object);
                } else {
                    state.spent = state.spent.saturating_sub(1);
                    created.extend(object.created);
                }
            }
        }
        if !created.is_empty() {
            store.release_between(&created);
        }
    }

    /// Runs what objects registered for their end, in this order: the destructors registered with an object's
    /// `__dso_handle`, then its own termination function if its constructor ended (rule U2). `all`: a trap of one does
    /// not keep the others from running.
    ///
    /// # Errors
    /// Guest code trapped or ended the process. With `all`, only the latter.
    pub(crate) fn finalize(
        &self,
        store: &mut StoreContextMut<'_, T>,
        objects: &[ObjectId],
        all: bool,
    ) -> Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        let by_handle = FuncType::new([ValType::I32], []);
        let finalizer = self
            .function(&mut *store, "__cxa_finalize")
            .filter(|func| func.ty(&*store) == by_handle);
        for id in objects {
            let (instance, base, name) = {
                let state = self.state();
                match state.object(*id) {
                    Some(object) => (
                        object.instance.filter(|_| object.status == Status::Ready),
                        object.memory.base,
                        object.name.clone(),
                    ),
                    None => continue,
                }
            };
            let topics = TraceTopics::INIT | TraceTopics::LIBS;
            self.0.trace.line(topics, format_args!(""));
            self.0
                .trace
                .line(topics, format_args!("calling fini: {name} [0]"));
            self.0.trace.line(topics, format_args!(""));
            // Each turn takes a handler off the list; one that fails may have registered another.
            let most = self.state().exit_handlers.count_of(*id);
            for _ in 0..=most {
                match self.run_exit_handlers(store, *id) {
                    Err(error) if !all || ends_process(&error) => {
                        return Err(error.context(format!("destructors of `{}`", shown(&name))));
                    }
                    Err(_) => {}
                    Ok(()) => break,
                }
            }
            let own =
                instance.and_then(|instance| instance.get_func(&mut *store, "__wasm_call_dtors"));
            let own = own.filter(|func| func.ty(&*store) == FuncType::new([], []));
            let by_handle = finalizer.filter(|_| base != 0);
            let steps = [(by_handle, &[base][..]), (own, &[])];
            for (func, params) in steps {
                let Some(func) = func else { continue };
                match self.call_i32(store, func, params) {
                    Err(error) if !all || ends_process(&error) => {
                        return Err(error.context(format!("destructors of `{}`", shown(&name))));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Unloads the objects that nothing keeps any more.
    ///
    /// # Errors
    /// A destructor trapped or ended the process; nothing was unloaded then. Or the guest's allocator ended it.
    pub(crate) fn collect(&self, store: &mut StoreContextMut<'_, T>) -> Result<()> {
        let mut gone = {
            let state = self.state();
            if state.busy {
                return Ok(());
            }
            state.unreachable()
        };
        // Objects that are just being constructed are kept by the load that constructs them.
        {
            let state = self.state();
            gone.retain(|id| {
                state
                    .object(*id)
                    .is_some_and(|object| object.status == Status::Ready)
            });
        }
        self.state().sort_for_end(&mut gone);
        self.finalize(store, &gone, false)?;
        let gone: HashSet<ObjectId> = gone.into_iter().collect();
        let (mut remains, given_back) = self.remove(store, &gone, true, false);
        {
            let mut state = self.state();
            state.spent = state.spent.saturating_add(remains.len());
            let unloaded = u64::try_from(remains.len()).unwrap_or(u64::MAX);
            state.unloaded = state.unloaded.saturating_add(unloaded);
            state.retired.append(&mut remains);
        }
        self.release_retired(store, Vec::new());
        given_back
    }
}

/// Whether an error ends the whole process, whatever the code that called `dlopen` would like.
pub(crate) fn ends_process(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Exit(_) | ErrorKind::Host(_) => true,
        ErrorKind::Trap(trap) => matches!(
            trap.code(),
            TrapCode::OutOfFuel | TrapCode::Interrupted | TrapCode::Host
        ),
        _ => false,
    }
}
