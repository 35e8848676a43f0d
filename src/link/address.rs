//! From definitions to what guests see: functions, addresses of data, and the one table index of each function
//! (rules R6, G2).
#![forbid(unsafe_code)]

use super::got::AddedSlot;
use super::object::{Definition, ObjectId};
use super::pointer_exports::Pointer;
use super::process::Process;
use super::symbols::Symbol;
use crate::error::{Error, ErrorKind, Result};
use crate::module::SymbolFlags;
use crate::runtime::{AsContextMut, Func, Instance, Ref, StoreContextMut, Table, Val};

/// Slots that the table grows by when one more function pointer is wanted.
pub(super) const SLOTS_AT_ONCE: u64 = 64;

impl<T: 'static> Process<T> {
    /// The function behind a definition; `None` if its object has no instance yet or the address is no function.
    pub(crate) fn definition_func(
        &self,
        store: &mut StoreContextMut<'_, T>,
        definition: Definition,
    ) -> Result<Option<Func>> {
        let func = match definition.symbol {
            Symbol::Data { .. } => None,
            Symbol::Function { func, .. } => {
                let instance = self.instance_of(definition.object);
                return Ok(instance.and_then(|instance| instance.resolved_func(&*store, func)));
            }
            Symbol::Pointer(pointer) => {
                let address = self.pointer_address(store, definition.object, pointer)?;
                match (address, self.table()) {
                    (Some(address), Some(table)) if address != 0 => {
                        match table.get(&mut *store, u64::from(address)) {
                            Some(Ref::Func(func)) => func,
                            _ => None,
                        }
                    }
                    _ => None,
                }
            }
        };
        Ok(func.map(|func| func.resolved(&*store)))
    }

    /// The address of a definition: of data, or the table index of a function, which gets one if it has none.
    /// `None` if its object is not far enough loaded to tell.
    pub(crate) fn definition_address(
        &self,
        store: &mut StoreContextMut<'_, T>,
        definition: Definition,
    ) -> Result<Option<u32>> {
        match definition.symbol {
            Symbol::Function { .. } => match self.definition_func(store, definition)? {
                Some(func) => self
                    .function_address(store, func, Some(definition.object))
                    .map(Some),
                None => Ok(None),
            },
            Symbol::Data { export, global } => {
                self.data_address(store, definition.object, export, global)
            }
            Symbol::Pointer(pointer) => self.pointer_address(store, definition.object, pointer),
        }
    }

    fn data_address(
        &self,
        store: &mut StoreContextMut<'_, T>,
        object: ObjectId,
        export: u32,
        global: u32,
    ) -> Result<Option<u32>> {
        let (symbols, instance, base, tls_base, flags) = {
            let state = self.state();
            let Some(object) = state.object(object) else {
                return Ok(None);
            };
            if let Some(address) = object.constant_address(export, global) {
                return Ok(Some(address));
            }
            (
                object.symbols.clone(),
                object.instance,
                object.data_base(),
                object.tls_base,
                object.symbols.flags(export),
            )
        };
        let value = match (symbols.constant(global), instance) {
            (Some(value), _) => Some(value),
            (_, Some(instance)) => instance
                .get_global(&mut *store, symbols.export_name(export))
                .and_then(|global| global.get(&mut *store).i32())
                .map(i32::cast_unsigned),
            _ => None,
        };
        let Some(value) = value else {
            return Ok(None);
        };
        Ok(if flags.contains(SymbolFlags::ABSOLUTE) {
            Some(value)
        } else if flags.contains(SymbolFlags::TLS) {
            // Without a block of its own, the object says itself where its thread-local data lies.
            let mut own = || {
                instance?
                    .get_global(&mut *store, "__tls_base")?
                    .get(&mut *store)
                    .i32()
            };
            tls_base
                .or_else(|| own().map(i32::cast_unsigned))
                .map(|base| base.wrapping_add(value))
        } else {
            Some(base.wrapping_add(value))
        })
    }

    fn pointer_address(
        &self,
        store: &mut StoreContextMut<'_, T>,
        object: ObjectId,
        pointer: Pointer,
    ) -> Result<Option<u32>> {
        let (import, offset) = match pointer {
            Pointer::Absolute(address) => return Ok(Some(address)),
            Pointer::MemoryBase(offset) => {
                let base = self.state().object(object).map(|object| object.memory.base);
                return Ok(base.map(|base| base.wrapping_add(offset)));
            }
            Pointer::TableBase(offset) => {
                let base = self.state().object(object).map(|object| object.table.base);
                return Ok(base.map(|base| base.wrapping_add(offset)));
            }
            Pointer::Got { import, offset } => (import, offset),
        };
        let cell = self.state().cell(object, import);
        let value = cell.and_then(|cell| cell.get(&mut *store).i32());
        Ok(value
            .filter(|value| *value != super::got::POISON)
            .map(|value| value.cast_unsigned().wrapping_add(offset)))
    }

    /// The table index of a function; `object` defines it (`None`: the host).
    pub(crate) fn function_address(
        &self,
        store: &mut StoreContextMut<'_, T>,
        func: Func,
        object: Option<ObjectId>,
    ) -> Result<u32> {
        let func = func.resolved(&*store);
        let table = self.table().ok_or_else(|| {
            Error::msg("the process has no table of functions, so functions have no addresses")
        })?;
        let known = self.state().indices.get(func);
        if let Some(index) = known {
            // The guest may have overwritten the slot.
            if slot_holds(store, table, index, func) {
                return Ok(index);
            }
            self.state().indices.forget(func);
        }
        self.step()?;
        let slot = self.take_slots(store, 1, 0)?;
        table.set(&mut *store, u64::from(slot), Ref::Func(Some(func)))?;
        self.state().indices.add(AddedSlot { slot, func, object });
        Ok(slot)
    }

    /// Learns the addresses of the functions in these slots, such as those of an element segment. Functions of objects
    /// before `first` keep the address that they have; `starts`: so do those of the host, unless the program starts.
    pub(crate) fn seed_indices(
        &self,
        store: &mut StoreContextMut<'_, T>,
        (base, count): (u64, u64),
        first: ObjectId,
        starts: bool,
    ) {
        let Some(table) = self.table() else {
            return;
        };
        let end = base.saturating_add(count).min(table.size(&*store));
        for slot in base..end {
            let Ok(index) = u32::try_from(slot) else {
                return;
            };
            if let Some(Ref::Func(Some(func))) = table.get(&mut *store, slot) {
                let func = func.resolved(&*store);
                if func.is_deferred(&*store) {
                    // It is learnt when its definition is there.
                    continue;
                }
                let known = self.state().indices.get(func);
                // The guest may have overwritten the slot that was known.
                if known.is_some_and(|known| !slot_holds(store, table, known, func)) {
                    self.state().indices.forget(func);
                }
                let mut state = self.state();
                let instance = Instance {
                    store: func.store,
                    group: func.group,
                };
                match state.instances.get(&instance) {
                    Some(owner) if *owner >= first => state.indices.seed(func, index),
                    None if starts => state.indices.seed(func, index),
                    _ => state.indices.seed_old(func, index),
                }
            }
        }
    }

    /// Takes consecutive table slots; the table grows if it must (rules L4 to L6).
    pub(crate) fn take_slots(
        &self,
        store: &mut StoreContextMut<'_, T>,
        count: u32,
        align: u32,
    ) -> Result<u32> {
        let table = self
            .table()
            .ok_or_else(|| Error::msg("the process has no table of functions"))?;
        let count = u64::from(count);
        loop {
            let size = table.size(&*store);
            let growth = {
                let mut state = self.state();
                if let Some(base) = state.slots.take(count, align) {
                    return u32::try_from(base)
                        .map_err(|_| table_limit(count, size, "2^32 table slots"));
                }
                state
                    .slots
                    .growth(count, align, size)
                    .filter(|growth| *growth > 0)
                    .ok_or_else(|| table_limit(count, size, "2^32 table slots"))?
            };
            self.step()?;
            let wanted = growth.max(SLOTS_AT_ONCE);
            let mut grown = wanted;
            let mut result = table.grow(&mut *store, wanted, Ref::Func(None));
            if result.is_err() && growth < wanted {
                grown = growth;
                result = table.grow(&mut *store, growth, Ref::Func(None));
            }
            let before = result.map_err(|error| {
                let maximum = table.ty(&*store).maximum.unwrap_or(size);
                Error::new(ErrorKind::Limit {
                    what: format!(
                        "table of functions (if the main module fixes it, link it with `--growable-table`): {error}"
                    ),
                    needed: size.saturating_add(growth),
                    allowed: maximum.max(size),
                })
            })?;
            self.state().slots.add(before, grown);
        }
    }

    /// Makes slots null, as far as they exist.
    pub(crate) fn clear_slots(&self, store: &mut StoreContextMut<'_, T>, base: u32, count: u32) {
        let Some(table) = self.table() else {
            return;
        };
        let end = (u64::from(base) + u64::from(count)).min(table.size(&*store));
        for slot in u64::from(base)..end {
            // In bounds and of the table's type, so it cannot fail.
            let _ = table.set(&mut *store, slot, Ref::Func(None));
        }
    }

    /// Calls a guest function of i32 parameters and at most one i32 result.
    pub(crate) fn call_i32(
        &self,
        store: &mut StoreContextMut<'_, T>,
        func: Func,
        params: &[u32],
    ) -> Result<u32> {
        let params: Vec<Val> = params
            .iter()
            .map(|value| Val::I32(value.cast_signed()))
            .collect();
        let mut results = [Val::I32(0)];
        let count = func.ty(&*store).results().len();
        let results = results.get_mut(..count).ok_or_else(|| {
            Error::usage("a function of the guest's C library has more than one result")
        })?;
        func.call(store.as_context_mut(), &params, results)?;
        Ok(results
            .first()
            .and_then(Val::i32)
            .map_or(0, i32::cast_unsigned))
    }
}

/// Whether a slot of the table holds a function.
pub(super) fn slot_holds<T: 'static>(
    store: &mut StoreContextMut<'_, T>,
    table: Table,
    slot: u32,
    func: Func,
) -> bool {
    match table.get(&mut *store, u64::from(slot)) {
        Some(Ref::Func(Some(found))) => found.resolved(&*store) == func,
        _ => false,
    }
}

fn table_limit(count: u64, size: u64, what: &str) -> Error {
    Error::new(ErrorKind::Limit {
        what: what.to_string(),
        needed: size.saturating_add(count),
        allowed: u64::from(u32::MAX),
    })
}
