//! The values of GOT cells (rules G1 to G8): their first ones, when the object that imports them is made an instance, for
//! all its cells together.
//!
//! A library may have tens of thousands. So their records are one group of the store, slots of the table are taken by
//! runs, and most values are not computed again when all objects of the load have their places: they are *settled*.
#![forbid(unsafe_code)]

use super::address::{SLOTS_AT_ONCE, slot_holds};
use super::got::{AddedSlot, CellTarget, LoaderValue, POISON};
use super::layout::SLOT_SPACE;
use super::load::{AT_ONCE, AT_ONCE_COST};
use super::object::Definition;
use super::plan::PlannedCell;
use super::process::Process;
use super::state::State;
use super::symbols::Symbol;
use crate::error::Result;
use crate::runtime::{Ref, StoreContextMut, Table};

/// What a cell holds first.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstValue {
    pub value: i32,
    /// The value stays, unless a function gets another address: its object is an instance already.
    pub settled: bool,
}

/// What is told of a cell at a glance.
enum Glance {
    Known(FirstValue),
    /// The table has no slot left for the function.
    Full,
    /// It takes more than a glance.
    Other,
}

/// A run of free table slots that was taken.
#[derive(Default)]
struct Run {
    base: u64,
    left: u64,
}

impl<T: 'static> Process<T> {
    /// The first values of the cells of one object. What is known already is filled in now: relocation functions that run
    /// as start functions (LLVM 14 and before) read it (rule G4).
    pub(super) fn first_values(
        &self,
        store: &mut StoreContextMut<'_, T>,
        cells: &[PlannedCell],
    ) -> Result<Vec<FirstValue>> {
        let mut run = Run::default();
        let values = self.values_with(store, cells, &mut run);
        self.state().slots.add(run.base, run.left);
        values
    }

    fn values_with(
        &self,
        store: &mut StoreContextMut<'_, T>,
        cells: &[PlannedCell],
        run: &mut Run,
    ) -> Result<Vec<FirstValue>> {
        let mut values = Vec::with_capacity(cells.len());
        let table = self.table();
        // Whether there is room for all functions, as far as that can be said.
        let mut made_room = false;
        for at_once in cells.chunks(AT_ONCE) {
            store.pay(AT_ONCE_COST)?;
            let mut state = self.state();
            for cell in at_once {
                self.step()?;
                let mut seen = glance(&mut state, store, table, cell.target, run)?;
                if let (Glance::Full, Some(table), false) = (&seen, table, made_room) {
                    made_room = true;
                    let rest = cells.get(values.len()..).unwrap_or_default();
                    let wanted = without_index(&state, rest);
                    state.indices.reserve(wanted);
                    drop(state);
                    self.make_room(store, table, wanted)?;
                    state = self.state();
                    seen = glance(&mut state, store, Some(table), cell.target, run)?;
                }
                let first = match seen {
                    Glance::Known(first) => first,
                    Glance::Full | Glance::Other => {
                        // Who asks for a slot must see those that are left of the run.
                        let Run { base, left } = std::mem::take(run);
                        state.slots.add(base, left);
                        drop(state);
                        let value = self.cell_value(store, cell.target)?;
                        state = self.state();
                        FirstValue {
                            value: value.unwrap_or(POISON),
                            settled: false,
                        }
                    }
                };
                values.push(first);
            }
        }
        Ok(values)
    }

    /// Grows the table for so many functions. If it cannot grow that far, each function will ask for its own slot.
    fn make_room(
        &self,
        store: &mut StoreContextMut<'_, T>,
        table: Table,
        functions: usize,
    ) -> Result<()> {
        self.step()?;
        let slots = u64::try_from(functions).unwrap_or(u64::MAX);
        let size = table.size(&*store);
        if slots > SLOTS_AT_ONCE
            && size.saturating_add(slots) <= SLOT_SPACE
            && let Ok(before) = table.grow(&mut *store, slots, Ref::Func(None))
        {
            self.state().slots.add(before, slots);
        }
        Ok(())
    }

    /// What a cell is to hold now; `None`: it cannot be told yet.
    pub(super) fn cell_value(
        &self,
        store: &mut StoreContextMut<'_, T>,
        target: CellTarget,
    ) -> Result<Option<i32>> {
        Ok(match target {
            CellTarget::Null => Some(0),
            CellTarget::Host(func) | CellTarget::ExitRegistration { func, .. } => {
                if self.table().is_none() {
                    None
                } else {
                    Some(self.function_address(store, func, None)?.cast_signed())
                }
            }
            CellTarget::Loader(value) => self.loader_value(value).map(u32::cast_signed),
            CellTarget::Definition(definition) => self
                .definition_address(store, definition)?
                .map(u32::cast_signed),
        })
    }

    /// An address that the linker gives; `None`: the process has none.
    pub(super) fn loader_value(&self, value: LoaderValue) -> Option<u32> {
        let state = self.state();
        match value {
            LoaderValue::HeapBase => state.heap.map(|heap| heap.0),
            LoaderValue::HeapEnd => state.heap.map(|heap| heap.1),
            LoaderValue::StackLow => state.stack.map(|stack| stack.0),
            LoaderValue::StackHigh => state.stack.map(|stack| stack.1),
        }
    }
}

/// The value of a cell for which plain data of the process is enough.
///
/// # Errors
/// None at present: the slot is in bounds, and the function of the same store.
fn glance<T: 'static>(
    state: &mut State,
    store: &mut StoreContextMut<'_, T>,
    table: Option<Table>,
    target: CellTarget,
    run: &mut Run,
) -> Result<Glance> {
    let settled = |value: u32, settled: bool| {
        Ok(Glance::Known(FirstValue {
            value: value.cast_signed(),
            settled,
        }))
    };
    let CellTarget::Definition(Definition { object: id, symbol }) = target else {
        return match target {
            CellTarget::Null => settled(0, true),
            _ => Ok(Glance::Other),
        };
    };
    let Some(object) = state.objects.get(&id) else {
        return Ok(Glance::Other);
    };
    match symbol {
        Symbol::Data { export, global } => match object.constant_address(export, global) {
            // Without an instance, it may not have its place yet.
            Some(address) => settled(address, object.instance.is_some()),
            None => Ok(Glance::Other),
        },
        Symbol::Function { func: index, .. } => {
            let (Some(instance), Some(table)) = (object.instance, table) else {
                return Ok(Glance::Other);
            };
            // A function that is only imported there may be one that is found later.
            let Some(func) = instance.own_func(object.symbols.module(), index) else {
                return Ok(Glance::Other);
            };
            if let Some(slot) = state.indices.get(func) {
                return match slot_holds(store, table, slot, func) {
                    true => settled(slot, true),
                    // The guest has overwritten the slot.
                    false => Ok(Glance::Other),
                };
            }
            if run.left == 0 {
                let Some((base, left)) = state.slots.take_run() else {
                    return Ok(Glance::Full);
                };
                *run = Run { base, left };
            }
            let Ok(slot) = u32::try_from(run.base) else {
                return Ok(Glance::Other);
            };
            table.set(&mut *store, run.base, Ref::Func(Some(func)))?;
            run.base += 1;
            run.left -= 1;
            let object = Some(id);
            state.indices.add(AddedSlot { slot, func, object });
            settled(slot, true)
        }
        Symbol::Pointer(_) => Ok(Glance::Other),
    }
}

/// How many of these cells want the address of a function that has none yet.
fn without_index(state: &State, cells: &[PlannedCell]) -> usize {
    let function = |cell: &PlannedCell| {
        let CellTarget::Definition(Definition { object, symbol }) = cell.target else {
            return None;
        };
        let Symbol::Function { func, .. } = symbol else {
            return None;
        };
        let object = state.object(object)?;
        let func = object.instance?.own_func(object.symbols.module(), func)?;
        state.indices.get(func).is_none().then_some(func)
    };
    cells.iter().filter_map(function).count()
}
