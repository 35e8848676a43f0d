//! Tables. Tables of functions keep, beside the references, the 16-byte entries that `call_indirect` reads.
//!
//! Three things are kept in step for every element: the reference in `refs`, the entry that translated code
//! reads, and, while the entry holds a function's stub, a note in [`FuncRec::waiting`] so that the entry gets
//! the code once the function is translated. [`put`] is the only place that changes them.

use super::deferred::final_target;
use super::group::{Group, Records};
use super::limits::{Growing, Growth, allows};
use super::memory::limit;
use super::records::{Entry, FuncRec, InstanceRec, MemoryRec, TableRec};
use super::store::{AsContext, AsContextMut, StoreCore};
use super::value::Ref;
use super::{Func, Memory};
use crate::error::{Error, Result};
use crate::module::{RefType, TableType};
use crate::trap::TrapCode;
use std::ptr::null_mut;

/// Most places that a function notes for its entries; more keep the stub, which works too.
const MOST_WAITING: usize = 4;

/// A table of a store.
///
/// ```
/// use dynlink::{Engine, Func, Ref, RefType, Store, Table, TableType};
///
/// let mut store = Store::new(&Engine::default(), ());
/// let ty = TableType { element: RefType::Func, minimum: 2, maximum: None };
/// let table = Table::new(&mut store, ty, Ref::Func(None))?;
/// let double = Func::wrap(&mut store, |n: i32| n * 2);
/// table.set(&mut store, 1, double.into())?;
/// assert!(matches!(table.get(&mut store, 1), Some(Ref::Func(Some(f))) if f == double));
/// assert!(table.get(&mut store, 2).is_none());
/// # Ok::<(), dynlink::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Table {
    pub(crate) store: u32,
    pub(crate) group: u32,
    pub(crate) place: u32,
}

impl Table {
    /// A table of its minimum size, filled with `init`.
    ///
    /// # Errors
    /// A limit, no memory, or a reference of another type.
    pub fn new(mut store: impl AsContextMut, ty: TableType, init: Ref) -> Result<Table> {
        let inner = store.as_context_mut().0;
        let slot = init.slot_for(ty.element, &inner.core)?;
        let (core, pointer) = inner.pointers();
        // SAFETY: both pointers come from the exclusive borrow of the store.
        let mut record = unsafe { create(core, pointer, &ty)? };
        record.group = inner.core.next_group();
        let (handle, len) = (record.handle(inner.core.id), record.len);
        inner.core.add_group(Group {
            tables: Records::new(vec![record]),
            ..Group::empty()
        });
        let (core, table) = (&raw mut inner.core, inner.core.table(handle));
        // SAFETY: the record is live and has its final address; `slot` was checked against its type.
        unsafe { (0..len).for_each(|index| put(core, table, index, slot)) };
        Ok(handle)
    }

    /// The type, with the present size as minimum.
    pub fn ty(&self, store: impl AsContext) -> TableType {
        let table = store.as_context().0.core.table(*self);
        // SAFETY: the record is live while the store is borrowed.
        unsafe { type_of(table) }
    }

    /// Number of elements.
    pub fn size(&self, store: impl AsContext) -> u64 {
        self.ty(store).minimum
    }

    /// An element, `None` out of bounds.
    pub fn get(&self, mut store: impl AsContextMut, index: u64) -> Option<Ref> {
        let core = &store.as_context_mut().0.core;
        let table = core.table(*self);
        // SAFETY: the record is live, and its slots are references of its element type.
        unsafe {
            let slot = table_get(table, index).ok()?;
            Some(Ref::from_slot(slot, (*table).element, core.id))
        }
    }

    /// Sets an element.
    ///
    /// # Errors
    /// Out of bounds or a reference of another type.
    pub fn set(&self, mut store: impl AsContextMut, index: u64, value: Ref) -> Result<()> {
        let core = &mut store.as_context_mut().0.core;
        let table = core.find_table(*self)?;
        // SAFETY: the record is live; the slot was checked against its type.
        unsafe {
            let slot = value.slot_for((*table).element, core)?;
            let size = (*table).len;
            table_set(core, table, index, slot).map_err(|_| {
                Error::usage(format!(
                    "element {index} is out of bounds of a table of {size} elements"
                ))
            })
        }
    }

    /// Grows by `delta` elements that hold `init`; gives the size before.
    ///
    /// # Errors
    /// The maximum, a limit, or the system has no memory; nothing changed.
    pub fn grow(&self, mut store: impl AsContextMut, delta: u64, init: Ref) -> Result<u64> {
        let inner = store.as_context_mut().0;
        let table = inner.core.find_table(*self)?;
        let (core, pointer) = inner.pointers();
        // SAFETY: the record is live, the pointers come from the exclusive borrow, the slot is of the table's type.
        unsafe {
            let slot = init.slot_for((*table).element, &*core)?;
            table_grow(core, pointer, table, delta, slot)?.ok_or_else(|| {
                let needed = (*table).len.saturating_add(delta);
                limit("elements of a table", needed, (*table).maximum)
            })
        }
    }

    /// Makes entries right for callers that run with `memory` if nothing has decided that yet. A dynamic linker
    /// calls it before it fills a table that no instance has imported.
    ///
    /// # Errors
    /// A handle of another store.
    pub(crate) fn set_home(&self, mut store: impl AsContextMut, memory: Memory) -> Result<()> {
        let core = &mut store.as_context_mut().0.core;
        let (table, memory) = (core.find_table(*self)?, core.find_memory(memory)?);
        // SAFETY: both records are live.
        unsafe { settle(core, table, memory) };
        Ok(())
    }
}

impl TableRec {
    /// The handle of this record in the store with this number.
    pub fn handle(&self, store: u32) -> Table {
        Table {
            store,
            group: self.group,
            place: self.place,
        }
    }
}

/// A record for a new table of its minimum size, all null; its group and place are still to be set.
///
/// # Errors
/// A limit, or the system has no memory.
///
/// # Safety
/// `core` is live and `store` is the `*mut StoreInner<T>` around it, both exclusively the caller's.
pub(crate) unsafe fn create(
    core: *mut StoreCore,
    store: *mut (),
    ty: &TableType,
) -> Result<TableRec> {
    // SAFETY: `core` is live; the reference ends with the statement.
    let most = unsafe { (&(*core).engine).config().limits.table_elements }.min(u64::from(u32::MAX));
    let refused = || limit("elements of a table", ty.minimum, most);
    if ty.minimum > most {
        return Err(refused());
    }
    let len = usize::try_from(ty.minimum).map_err(|_| refused())?;
    let growth = Growth {
        what: Growing::Table,
        current: 0,
        desired: len,
        maximum: ty.maximum.and_then(|most| usize::try_from(most).ok()),
    };
    // SAFETY: both pointers are right by the contract.
    if !unsafe { allows(core, store, growth)? } {
        return Err(limit(
            "the resource limiter refused elements of a new table",
            ty.minimum,
            0,
        ));
    }
    let mut table = TableRec {
        entries: null_mut(),
        len: 0,
        refs: Vec::new(),
        storage: Vec::new(),
        element: ty.element,
        maximum: ty.maximum.map_or(most, |declared| declared.min(most)),
        declared_maximum: ty.maximum,
        home: null_mut(),
        group: 0,
        place: 0,
    };
    // SAFETY: the record is a live local.
    if !unsafe { extend(&raw mut table, len) } {
        return Err(limit(
            "memory of the system for a table, in elements",
            ty.minimum,
            0,
        ));
    }
    Ok(table)
}

/// Makes the table `len` elements long, new ones null. Whether there was memory; if not, nothing changed.
///
/// # Safety
/// The table is live, and `len` is not less than its present length.
unsafe fn extend(table: *mut TableRec, len: usize) -> bool {
    // SAFETY: the table is live; the references end before anything else touches it.
    unsafe {
        let refs = &mut (*table).refs;
        let storage = &mut (*table).storage;
        let more = len - refs.len();
        let functions = (*table).element == RefType::Func;
        if refs.try_reserve(more).is_err() || (functions && storage.try_reserve(more).is_err()) {
            return false;
        }
        refs.resize(len, 0);
        if functions {
            storage.resize(len, Entry::NULL);
            (*table).entries = storage.as_mut_ptr();
        }
        (*table).len = len as u64;
    }
    true
}

/// The type, with the present size as minimum.
///
/// # Safety
/// `table` is live.
pub(crate) unsafe fn type_of(table: *const TableRec) -> TableType {
    // SAFETY: by the contract.
    unsafe {
        TableType {
            element: (*table).element,
            minimum: (*table).len,
            maximum: (*table).declared_maximum,
        }
    }
}

/// The slot value at an index.
///
/// # Safety
/// `table` is live and `index` less than its length.
pub(crate) unsafe fn slot_at(table: *const TableRec, index: u64) -> u64 {
    // SAFETY: `refs` is as long as the table; the reference ends with the statement.
    unsafe { *(&(*table).refs).as_ptr().add(index as usize) }
}

/// Puts a reference into the table and keeps entry and notes in step.
///
/// # Safety
/// `table` is a live record of `core`, `index` less than its length, and `slot` a reference of its element type:
/// for functions, 0 or the address of a live record of `core`.
pub(crate) unsafe fn put(core: *mut StoreCore, table: *mut TableRec, index: u64, slot: u64) {
    // SAFETY: everything is live and in bounds by the contract; references end with their statements, and hooks get
    // pointers only.
    unsafe {
        let place = (&mut (*table).refs).as_mut_ptr().add(index as usize);
        if (*table).element == RefType::Extern {
            *place = slot;
            return;
        }
        let position = (table, index as u32);
        let old = *place as *mut FuncRec;
        if !old.is_null() {
            (&mut (*old).waiting).retain(|noted| *noted != position);
        }
        let entry = (*table).entries.add(index as usize);
        if slot == 0 {
            *place = 0;
            *entry = Entry::NULL;
            return;
        }
        let func = final_target(slot as *mut FuncRec);
        *place = func as u64;
        *entry = ((*core).hooks.entry)(core, table, func);
        let stub = (&raw const (*func).stub).cast::<u8>();
        let waiting = &mut (*func).waiting;
        if (*entry).code == stub && waiting.len() < MOST_WAITING {
            waiting.push(position);
        }
    }
}

/// `table.get`.
///
/// # Errors
/// Out of bounds.
///
/// # Safety
/// `table` is live.
pub(crate) unsafe fn table_get(table: *const TableRec, index: u64) -> Result<u64, TrapCode> {
    // SAFETY: the index was checked.
    unsafe {
        if index >= (*table).len {
            return Err(TrapCode::TableOutOfBounds);
        }
        Ok(slot_at(table, index))
    }
}

/// `table.set`.
///
/// # Errors
/// Out of bounds.
///
/// # Safety
/// As [`put`], but any index.
pub(crate) unsafe fn table_set(
    core: *mut StoreCore,
    table: *mut TableRec,
    index: u64,
    slot: u64,
) -> Result<(), TrapCode> {
    // SAFETY: the index was checked; the rest is the caller's contract.
    unsafe {
        if index >= (*table).len {
            return Err(TrapCode::TableOutOfBounds);
        }
        put(core, table, index, slot);
    }
    Ok(())
}

/// `table.grow`: the size before, or `None` if it was refused and nothing changed.
///
/// # Errors
/// The resource limiter wants the guest to end.
///
/// # Safety
/// As [`put`], and `store` is the `*mut StoreInner<T>` around `core`.
pub(crate) unsafe fn table_grow(
    core: *mut StoreCore,
    store: *mut (),
    table: *mut TableRec,
    delta: u64,
    slot: u64,
) -> Result<Option<u64>> {
    // SAFETY: the records and pointers are right by the contract.
    unsafe {
        let (old, most) = ((*table).len, (*table).maximum);
        let new = old.checked_add(delta).filter(|new| *new <= most);
        let (Some(new), Ok(current)) = (new, usize::try_from(old)) else {
            return Ok(None);
        };
        let Ok(desired) = usize::try_from(new) else {
            return Ok(None);
        };
        if delta == 0 {
            return Ok(Some(old));
        }
        let growth = Growth {
            what: Growing::Table,
            current,
            desired,
            maximum: (*table)
                .declared_maximum
                .and_then(|m| usize::try_from(m).ok()),
        };
        if !allows(core, store, growth)? || !extend(table, desired) {
            return Ok(None);
        }
        if slot != 0 {
            (old..new).for_each(|index| put(core, table, index, slot));
        }
        Ok(Some(old))
    }
}

/// Checks that `offset..offset + len` is within `size`.
fn within(offset: u64, len: u64, size: u64) -> Result<(), TrapCode> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(TrapCode::TableOutOfBounds),
    }
}

/// `table.fill`.
///
/// # Errors
/// Out of bounds; nothing was written.
///
/// # Safety
/// As [`put`], but any range.
pub(crate) unsafe fn table_fill(
    core: *mut StoreCore,
    table: *mut TableRec,
    dst: u64,
    slot: u64,
    len: u64,
) -> Result<(), TrapCode> {
    // SAFETY: the range was checked; the rest is the caller's contract.
    unsafe {
        within(dst, len, (*table).len)?;
        (dst..dst + len).for_each(|index| put(core, table, index, slot));
    }
    Ok(())
}

/// `table.copy`, also between two tables.
///
/// # Errors
/// Out of bounds; nothing was written.
///
/// # Safety
/// Both tables are live records of `core` and have the same element type (validation).
pub(crate) unsafe fn table_copy(
    core: *mut StoreCore,
    dst_table: *mut TableRec,
    dst: u64,
    src_table: *const TableRec,
    src: u64,
    len: u64,
) -> Result<(), TrapCode> {
    // SAFETY: the ranges were checked; a slot of one table is right for another of the same type.
    unsafe {
        within(src, len, (*src_table).len)?;
        within(dst, len, (*dst_table).len)?;
        let one = |i: u64| put(core, dst_table, dst + i, slot_at(src_table, src + i));
        // Where the ranges overlap, the end that the other range reaches into is copied first.
        if dst <= src {
            (0..len).for_each(one);
        } else {
            (0..len).rev().for_each(one);
        }
    }
    Ok(())
}

/// `table.init`: copies from element segment `segment` of the instance.
///
/// # Errors
/// Out of bounds of the segment or the table; nothing was written.
///
/// # Safety
/// Instance and table are live records of `core`; `segment` exists and has the table's element type (validation).
pub(crate) unsafe fn table_init(
    core: *mut StoreCore,
    instance: *const InstanceRec,
    segment: u32,
    table: *mut TableRec,
    dst: u64,
    src: u64,
    len: u64,
) -> Result<(), TrapCode> {
    // SAFETY: the ranges were checked; a segment's slots are references of its type. The hook that `put` calls does
    // not touch segments, so their address stays right.
    unsafe {
        let segment = &raw const *(&(*instance).elements)[segment as usize];
        within(src, len, segment.len() as u64)?;
        within(dst, len, (*table).len)?;
        for i in 0..len {
            let slot = *segment.cast::<u64>().add((src + i) as usize);
            put(core, table, dst + i, slot);
        }
    }
    Ok(())
}

/// `elem.drop`.
///
/// # Safety
/// The instance is live and `segment` exists (validation).
pub(crate) unsafe fn elem_drop(instance: *mut InstanceRec, segment: u32) {
    // SAFETY: by the contract; the reference ends with the statement.
    unsafe { (&mut (*instance).elements)[segment as usize] = Box::default() };
}

/// Gives a table of functions its home memory if it has none yet.
///
/// # Safety
/// Both are live records of `core`.
pub(crate) unsafe fn settle(core: *mut StoreCore, table: *mut TableRec, home: *mut MemoryRec) {
    // SAFETY: by the contract.
    unsafe {
        if (*table).element == RefType::Func && (*table).home.is_null() && !home.is_null() {
            rehome(core, table, home);
        }
    }
}

/// Changes the home memory and computes all entries again.
///
/// # Safety
/// `table` is a live record of `core` and so is `home` unless it is null.
pub(crate) unsafe fn rehome(core: *mut StoreCore, table: *mut TableRec, home: *mut MemoryRec) {
    // SAFETY: by the contract; the references that are put back were in the table already.
    unsafe {
        (*table).home = home;
        super::deferred::rehome_trampolines(core, table, home);
        for index in 0..(*table).len {
            let slot = slot_at(table, index);
            if slot != 0 {
                put(core, table, index, slot);
            }
        }
    }
}

/// Removes the notes that functions keep for this table, which is about to be released.
///
/// # Safety
/// `table` is live, and so are all functions in it.
pub(crate) unsafe fn forget_waiting(table: *mut TableRec) {
    // SAFETY: by the contract. A function that has a note for a table is in it, because `put` removes the note
    // when it replaces the function.
    unsafe {
        if (*table).element == RefType::Func {
            for index in 0..(*table).len {
                let func = slot_at(table, index) as *mut FuncRec;
                if !func.is_null() {
                    (&mut (*func).waiting).retain(|noted| noted.0 != table);
                }
            }
        }
    }
}

impl From<Func> for Ref {
    fn from(func: Func) -> Ref {
        Ref::Func(Some(func))
    }
}
