//! Globals: cells shared by reference between instances.

use super::group::{Group, Records, room_for};
use super::imports::Given;
use super::records::GlobalRec;
use super::store::{AsContext, AsContextMut};
use super::value::Val;
use crate::error::{Error, Result};
use crate::module::{GlobalType, ValType};

/// The type of a cell for an address.
const CELL: GlobalType = GlobalType {
    value: ValType::I32,
    mutable: true,
};

/// A global of a store.
///
/// ```
/// use dynlink::{Engine, Global, GlobalType, Store, Val, ValType};
///
/// let mut store = Store::new(&Engine::default(), ());
/// let ty = GlobalType { value: ValType::I32, mutable: true };
/// let global = Global::new(&mut store, ty, Val::I32(-1))?;
/// global.set(&mut store, Val::I32(7))?;
/// assert_eq!(global.get(&mut store).i32(), Some(7));
/// assert!(global.set(&mut store, Val::I64(7)).is_err());
/// # Ok::<(), dynlink::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Global {
    pub(crate) store: u32,
    pub(crate) group: u32,
    pub(crate) place: u32,
}

/// Globals that were made together, as [`Global::cells`] does.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Globals {
    pub(super) store: u32,
    pub(super) group: u32,
    count: u32,
}

impl Globals {
    /// One of them, for an import.
    pub fn given(self, place: usize) -> Option<Given> {
        let place = u32::try_from(place).ok()?;
        (place < self.count).then_some(Given::Cell {
            globals: self,
            place,
        })
    }

    /// One of them.
    pub fn get(self, place: usize) -> Option<Global> {
        let place = u32::try_from(place).ok();
        let place = place.filter(|place| *place < self.count)?;
        Some(Global {
            store: self.store,
            group: self.group,
            place,
        })
    }
}

impl Global {
    /// A global with a value.
    ///
    /// # Errors
    /// The value has another type.
    pub fn new(store: impl AsContextMut, ty: GlobalType, value: Val) -> Result<Global> {
        Global::create(store, ty, value, false)
    }

    /// A mutable i32 global for an address that a linker fills in, as the entries of a global offset table: code that
    /// imports it holds its value as constants. Reading it costs nothing; every change, by the host or by a guest,
    /// patches the code, also code that is running.
    ///
    /// # Errors
    /// None at present.
    pub fn cell(store: impl AsContextMut, value: i32) -> Result<Global> {
        Global::create(store, CELL, Val::I32(value), true)
    }

    /// As [`Global::cell`], many that live and die together.
    ///
    /// # Errors
    /// The system has no memory.
    pub(crate) fn cells(
        mut store: impl AsContextMut,
        values: impl ExactSizeIterator<Item = i32>,
    ) -> Result<Globals> {
        let core = &mut store.as_context_mut().0.core;
        let (store, group) = (core.id, core.next_group());
        let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
        let mut records = room_for(values.len(), "cells")?;
        for (value, place) in values.zip(0..count) {
            records.push(GlobalRec {
                value: u64::from(value.cast_unsigned()),
                ty: CELL,
                is_cell: true,
                group,
                place,
            });
        }
        if !records.is_empty() {
            core.add_group(Group {
                globals: Records::new(records),
                ..Group::empty()
            });
        }
        Ok(Globals {
            store,
            group,
            count,
        })
    }

    fn create(
        mut store: impl AsContextMut,
        ty: GlobalType,
        value: Val,
        is_cell: bool,
    ) -> Result<Global> {
        let core = &mut store.as_context_mut().0.core;
        let record = GlobalRec {
            value: value.slot_for(ty.value, core)?,
            ty,
            is_cell,
            group: core.next_group(),
            place: 0,
        };
        let handle = record.handle(core.id);
        core.add_group(Group {
            globals: Records::new(vec![record]),
            ..Group::empty()
        });
        Ok(handle)
    }

    /// The type.
    pub fn ty(&self, store: impl AsContext) -> GlobalType {
        let global = store.as_context().0.core.global(*self);
        // SAFETY: the record is live while the store is borrowed.
        unsafe { (*global).ty }
    }

    /// The value.
    pub fn get(&self, mut store: impl AsContextMut) -> Val {
        let core = &store.as_context_mut().0.core;
        let global = core.global(*self);
        // SAFETY: the record is live, and its slot is a value of its type.
        unsafe { Val::from_slot((*global).value, (*global).ty.value, core.id) }
    }

    /// Sets the value.
    ///
    /// # Errors
    /// The global is immutable or the value has another type.
    pub fn set(&self, mut store: impl AsContextMut, value: Val) -> Result<()> {
        let core = &mut store.as_context_mut().0.core;
        let global = core.find_global(*self)?;
        // SAFETY: the record is live, and no reference to it exists; the value was checked against its type; the hook
        // gets pointers only.
        unsafe {
            if !(*global).ty.mutable {
                return Err(Error::usage("an immutable global cannot be set"));
            }
            let slot = value.slot_for((*global).ty.value, core)?;
            let changed = std::mem::replace(&mut (*global).value, slot) != slot;
            if changed && (*global).is_cell {
                (core.hooks.global_changed)(core, global);
            }
        }
        Ok(())
    }
}

impl GlobalRec {
    /// The handle of this record in the store with this number.
    pub fn handle(&self, store: u32) -> Global {
        Global {
            store,
            group: self.group,
            place: self.place,
        }
    }
}
