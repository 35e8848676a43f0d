//! Functions of libraries in the element segments of a main module (rule G2).
//!
//! A main module with fixed addresses is instantiated before its libraries, so where its segments name a library's
//! function, the table gets a deferred one. The slot is that function's address all the same: it is learnt as soon as the
//! library is an instance, before the cells of the objects after it ask for the address.
#![forbid(unsafe_code)]

use super::load::Load;
use super::object::{Definition, ObjectId};
use crate::error::Result;
use crate::runtime::{Func, Ref, StoreContextMut};
use std::collections::HashMap;

/// Slots of the main module's element segments that hold a library's function.
pub(super) struct WaitingSlots {
    deferred: Func,
    slots: Vec<u32>,
    definition: Definition,
}

impl<T: 'static> Load<'_, T> {
    /// Table slots that the main module's element segments filled with functions of libraries, which have no instance
    /// yet: the slots of each deferred function.
    pub(super) fn waiting_slots(
        &self,
        store: &mut StoreContextMut<'_, T>,
        main: Option<usize>,
    ) -> HashMap<ObjectId, Vec<WaitingSlots>> {
        let mut waiting: HashMap<ObjectId, Vec<WaitingSlots>> = HashMap::new();
        let pending: Vec<(Func, Definition)> = {
            let state = self.process.state();
            main.and_then(|place| state.object(self.new.get(place)?.id))
                .map_or_else(Vec::new, |object| object.pending.clone())
        };
        let Some(table) = self.process.table().filter(|_| !pending.is_empty()) else {
            return waiting;
        };
        let mut slots: HashMap<Func, Vec<u32>> = HashMap::new();
        for slot in (1..table.size(&*store)).map_while(|slot| u32::try_from(slot).ok()) {
            if let Some(Ref::Func(Some(func))) = table.get(&mut *store, slot.into()) {
                slots.entry(func).or_default().push(slot);
            }
        }
        for (deferred, definition) in pending {
            if let Some(slots) = slots.remove(&deferred) {
                waiting
                    .entry(definition.object)
                    .or_default()
                    .push(WaitingSlots {
                        deferred,
                        slots,
                        definition,
                    });
            }
        }
        waiting
    }

    /// The slots of the main module's segments are the addresses of the functions of this object, which is an instance
    /// now; cells of the objects after it ask for them (rule G2).
    pub(super) fn settle_segments(
        &self,
        store: &mut StoreContextMut<'_, T>,
        waiting: &mut HashMap<ObjectId, Vec<WaitingSlots>>,
        id: ObjectId,
    ) -> Result<()> {
        let (Some(table), Some(waiting)) = (self.process.table(), waiting.remove(&id)) else {
            return Ok(());
        };
        for WaitingSlots {
            deferred,
            slots,
            definition,
        } in waiting
        {
            if let Some(func) = self.process.definition_func(store, definition)? {
                // One of another type stays deferred, and is reported with all other problems.
                let fits = func.ty(&*store) == deferred.ty(&*store);
                for slot in slots.into_iter().filter(|_| fits) {
                    table.set(&mut *store, slot.into(), Ref::Func(Some(func)))?;
                    self.process.state().indices.seed(func, slot);
                }
            }
        }
        Ok(())
    }
}
