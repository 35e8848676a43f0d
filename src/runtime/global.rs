//! Globals: cells shared by reference between instances.

use super::group::{Group, Records};
use super::records::GlobalRec;
use super::store::{AsContext, AsContextMut};
use super::value::Val;
use crate::error::{Error, Result};
use crate::module::{GlobalType, ValType};

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
        let ty = GlobalType {
            value: ValType::I32,
            mutable: true,
        };
        Global::create(store, ty, Val::I32(value), true)
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
            (*global).value = value.slot_for((*global).ty.value, core)?;
            if (*global).is_cell {
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
