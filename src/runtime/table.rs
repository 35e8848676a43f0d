//! Tables. Tables of functions keep, beside the references, the 16-byte entries that `call_indirect` reads.
//!
//! Three things are kept in step for every element: the reference in `refs`, the entry that translated code
//! reads, and, while the entry holds a function's stub, a note in [`FuncRec::waiting`] so that the entry gets
//! the code once the function is translated. [`put`] is the only place that changes them.

use super::Func;
use super::deferred::final_target;
use super::group::{Group, Records};
use super::limits::{Growing, Growth, allows, failed};
use super::memory::limit;
use super::records::{Entry, FuncKind, FuncRec, InstanceRec, MemoryRec, TableRec};
use super::store::{AsContext, AsContextMut, StoreCore};
use super::value::Ref;
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
                match (&(*table).share).excess(needed) {
                    Some(excess) if needed <= (*table).maximum => too_many_elements(excess),
                    _ => limit("elements of a table", needed, (*table).maximum),
                }
            })
        }
    }
}

/// The error for tables that have more than the store's budget together.
#[cold]
fn too_many_elements((needed, allowed): (u64, u64)) -> Error {
    let what = "elements of all tables of a store (Limits::table_elements)";
    limit(what, needed, allowed)
}

/// The error for elements that the system has no memory for.
#[cold]
fn out_of_memory(elements: u64) -> Error {
    let what = "memory of the system for a table, in elements";
    limit(what, elements, 0)
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
    // SAFETY: `core` is live; the references end with their statements.
    let most = unsafe { (&(*core).engine).config().limits.table_elements }.min(u64::from(u32::MAX));
    // SAFETY: as above.
    let share = unsafe { (&(*core).table_elements).share() };
    let refused = || limit("elements of a table", ty.minimum, most);
    if ty.minimum > most {
        return Err(refused());
    }
    if let Some(excess) = share.excess(ty.minimum) {
        return Err(too_many_elements(excess));
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
        share,
    };
    // SAFETY: the record is a live local.
    if !unsafe { extend(&raw mut table, len) } {
        // SAFETY: both pointers are right by the contract.
        unsafe { failed(core, store, Growing::Table, out_of_memory(ty.minimum))? };
        return Err(out_of_memory(ty.minimum));
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
        #[cfg(test)]
        if tests::FAIL.get() {
            return false;
        }
        if refs.try_reserve(more).is_err() || (functions && storage.try_reserve(more).is_err()) {
            return false;
        }
        refs.resize(len, 0);
        if functions {
            storage.resize(len, Entry::NULL);
            (*table).entries = storage.as_mut_ptr();
        }
        (*table).len = len as u64;
        (&mut (*table).share).set(len as u64);
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
        // The stubs of other kinds are their code for good.
        let changes = matches!((*func).kind, FuncKind::Wasm | FuncKind::Deferred { .. });
        if changes && (*entry).code == stub && waiting.len() < MOST_WAITING {
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
        if (&(*table).share).excess(new).is_some() || !allows(core, store, growth)? {
            return Ok(None);
        }
        if !extend(table, desired) {
            failed(core, store, Growing::Table, out_of_memory(new))?;
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

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::module::{FuncType, MemoryType};
    use crate::runtime::{Memory, ResourceLimiter, Store, StoreLimits};

    fn ty(element: RefType, minimum: u64, maximum: Option<u64>) -> TableType {
        TableType {
            element,
            minimum,
            maximum,
        }
    }

    fn functions<T>(store: &mut Store<T>, minimum: u64) -> Table {
        Table::new(store, ty(RefType::Func, minimum, None), Ref::Func(None)).unwrap()
    }

    /// A function whose code changes later.
    fn waiting_func(store: &mut Store<()>) -> Func {
        let ty = FuncType::new([], []);
        Func::deferred(store, ty, |_| Err(Error::msg("not called in this test")))
    }

    fn pointers(store: &mut Store<()>, table: Table) -> (*mut StoreCore, *mut (), *mut TableRec) {
        let record = store.inner.core.table(table);
        let (core, pointer) = store.inner.pointers();
        (core, pointer, record)
    }

    /// Checks that entries are what the references call for, and gives the references.
    fn contents(store: &mut Store<()>, table: Table) -> Vec<Option<Func>> {
        let (core, _, record) = pointers(store, table);
        let mut all = Vec::new();
        // SAFETY: the records are live.
        unsafe {
            assert_eq!((&(*record).refs).len() as u64, (*record).len);
            for index in 0..(*record).len {
                let slot = slot_at(record, index);
                let entry = *(*record).entries.add(index as usize);
                let func = slot as *mut FuncRec;
                if func.is_null() {
                    assert_eq!(entry.ty, Entry::NULL_TYPE);
                    assert!(entry.code.is_null());
                    all.push(None);
                } else {
                    let right = ((*core).hooks.entry)(core, record, func);
                    assert_eq!((entry.code, entry.ty), (right.code, right.ty));
                    all.push(Some((*func).handle((*core).id)));
                }
            }
        }
        all
    }

    fn notes(store: &mut Store<()>, func: Func) -> Vec<u32> {
        let func = store.inner.core.func(func);
        // SAFETY: the record is live.
        unsafe { (&(*func).waiting).iter().map(|note| note.1).collect() }
    }

    #[test]
    fn a_table_grows_to_its_maximum_with_the_given_element() {
        let mut store = testing::store(());
        let f = Func::wrap(&mut store, || {});
        let g = Func::wrap(&mut store, |_: i32| {});
        let table = Table::new(&mut store, ty(RefType::Func, 1, Some(3)), f.into()).unwrap();
        assert_eq!(table.grow(&mut store, 2, g.into()).unwrap(), 1);
        assert_eq!(contents(&mut store, table), [Some(f), Some(g), Some(g)]);
        assert!(table.grow(&mut store, 1, g.into()).is_err());
        assert!(table.grow(&mut store, u64::MAX, g.into()).is_err());
        assert_eq!(table.grow(&mut store, 0, g.into()).unwrap(), 3);
        assert_eq!(table.ty(&store), ty(RefType::Func, 3, Some(3)));
    }

    #[test]
    fn elements_are_checked_for_bounds_type_and_store() {
        let mut store = testing::store(());
        let mut other = testing::store(());
        let f = Func::wrap(&mut store, || {});
        let foreign = Func::wrap(&mut other, || {});
        let table = functions(&mut store, 2);
        table.set(&mut store, 1, f.into()).unwrap();
        assert!(table.set(&mut store, 2, f.into()).is_err());
        assert!(table.set(&mut store, 0, Ref::Extern(Some(1))).is_err());
        assert!(table.set(&mut store, 0, foreign.into()).is_err());
        assert!(table.grow(&mut store, 1, foreign.into()).is_err());
        assert!(table.set(&mut other, 0, foreign.into()).is_err());
        assert_eq!(contents(&mut store, table), [None, Some(f)]);
        assert!(table.get(&mut store, 2).is_none());
        assert!(table.get(&mut store, u64::MAX).is_none());
    }

    #[test]
    fn a_table_of_host_references_holds_every_number() {
        let mut store = testing::store(());
        let table = Table::new(&mut store, ty(RefType::Extern, 2, None), Ref::Extern(None));
        let table = table.unwrap();
        for number in [0, 1, u32::MAX] {
            table.set(&mut store, 1, Ref::Extern(Some(number))).unwrap();
            assert!(matches!(table.get(&mut store, 1), Some(Ref::Extern(Some(n))) if n == number));
        }
        assert!(matches!(table.get(&mut store, 0), Some(Ref::Extern(None))));
        assert!(table.set(&mut store, 0, Ref::Func(None)).is_err());
        assert_eq!(table.grow(&mut store, 5, Ref::Extern(Some(9))).unwrap(), 2);
        assert!(matches!(
            table.get(&mut store, 6),
            Some(Ref::Extern(Some(9)))
        ));
    }

    thread_local! {
        /// Makes [`extend`] fail, as if the system had no memory.
        pub(super) static FAIL: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }

    #[test]
    fn the_limiter_hears_that_a_growth_that_it_allowed_failed() {
        #[derive(Default)]
        struct Listener {
            heard: Vec<String>,
            fatal: bool,
        }
        impl ResourceLimiter for Listener {
            fn memory_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool> {
                Ok(true)
            }
            fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool> {
                Ok(true)
            }
            fn table_grow_failed(&mut self, error: Error) -> Result<()> {
                self.heard.push(error.to_string());
                assert!(self.heard.len() < 4, "the limiter's bug");
                if self.fatal { Err(error) } else { Ok(()) }
            }
        }
        let mut store = testing::store(Listener::default());
        store.limiter(|listener| listener);
        let three = ty(RefType::Func, 3, None);
        let table = Table::new(&mut store, three, Ref::Func(None)).unwrap();
        FAIL.set(true);
        assert!(table.grow(&mut store, 1, Ref::Func(None)).is_err());
        assert!(Table::new(&mut store, three, Ref::Func(None)).is_err());
        store.data_mut().fatal = true;
        let errors = [(); 2].map(|()| table.grow(&mut store, 1, Ref::Func(None)).unwrap_err());
        FAIL.set(false);
        let heard = &store.data().heard;
        assert!(
            heard
                .iter()
                .all(|text| text.contains("memory of the system")),
            "{heard:?}"
        );
        assert_eq!(errors[0].to_string(), heard[2]);
        let panicked = "resource limiter panicked: the limiter's bug";
        assert_eq!(errors[1].to_string(), panicked);
        assert_eq!(table.size(&store), 3);
        assert_eq!(store.inner.core.table_elements.used(), 3);
    }

    #[test]
    fn limits_bound_creation_and_growth() {
        let mut store = testing::store(StoreLimits {
            memory_bytes: None,
            table_elements: Some(10),
        });
        store.limiter(|limits| limits);
        let wide = ty(RefType::Func, 11, None);
        assert!(Table::new(&mut store, wide, Ref::Func(None)).is_err());
        let huge = ty(RefType::Func, 1 << 40, None);
        let error = Table::new(&mut store, huge, Ref::Func(None)).unwrap_err();
        assert!(error.to_string().contains("10000000 allowed"), "{error}");
        let table = functions(&mut store, 9);
        assert!(table.grow(&mut store, 2, Ref::Func(None)).is_err());
        assert_eq!(table.grow(&mut store, 1, Ref::Func(None)).unwrap(), 9);
    }

    #[test]
    fn bulk_operations_keep_entries_in_step_and_check_before_they_write() {
        let mut store = testing::store(());
        let funcs: Vec<Func> = (0..4).map(|_| waiting_func(&mut store)).collect();
        let table = functions(&mut store, 6);
        let (core, pointer, record) = pointers(&mut store, table);
        let slots: Vec<u64> = funcs
            .iter()
            .map(|f| store.inner.core.func(*f) as u64)
            .collect();
        let [f, g, h, i] = [0, 1, 2, 3].map(|n| Some(funcs[n]));
        let out = Err(TrapCode::TableOutOfBounds);
        // SAFETY: the records are live and the slots are theirs.
        unsafe {
            for (index, slot) in slots.iter().enumerate() {
                table_set(core, record, index as u64, *slot).unwrap();
            }
            assert_eq!(table_copy(core, record, 1, record, 0, 4), Ok(()));
            assert_eq!(contents(&mut store, table), [f, f, g, h, i, None]);
            let (core, _, record) = pointers(&mut store, table);
            assert_eq!(table_copy(core, record, 0, record, 1, 5), Ok(()));
            assert_eq!(contents(&mut store, table), [f, g, h, i, None, None]);
            let (core, _, record) = pointers(&mut store, table);
            assert_eq!(table_copy(core, record, 2, record, 0, 5), out);
            assert_eq!(table_copy(core, record, 0, record, 2, 5), out);
            assert_eq!(table_copy(core, record, 6, record, 6, 0), Ok(()));
            assert_eq!(table_copy(core, record, 7, record, 0, 0), out);
            assert_eq!(table_fill(core, record, 4, slots[0], 3), out);
            assert_eq!(table_fill(core, record, 4, slots[0], u64::MAX), out);
            assert_eq!(table_fill(core, record, 3, slots[0], 3), Ok(()));
            assert_eq!(table_get(record, 6), out.map(|()| 0));
            assert_eq!(contents(&mut store, table), [f, g, h, f, f, f]);
            let (core, _, record) = pointers(&mut store, table);
            assert_eq!(
                table_grow(core, pointer, record, 1, slots[1]).unwrap(),
                Some(6)
            );
        }
        assert_eq!(contents(&mut store, table), [f, g, h, f, f, f, g]);
        assert_eq!(notes(&mut store, funcs[0]), [0, 3, 4, 5]);
        assert_eq!(notes(&mut store, funcs[1]), [1, 6]);
        assert!(notes(&mut store, funcs[3]).is_empty());
    }

    #[test]
    fn a_function_notes_a_bounded_number_of_places_and_forgets_replaced_ones() {
        let mut store = testing::store(());
        let f = waiting_func(&mut store);
        let table = functions(&mut store, 100);
        for index in 0..100 {
            table.set(&mut store, index, f.into()).unwrap();
        }
        assert_eq!(notes(&mut store, f), [0, 1, 2, 3]);
        table.set(&mut store, 2, Ref::Func(None)).unwrap();
        table.set(&mut store, 50, f.into()).unwrap();
        assert_eq!(notes(&mut store, f), [0, 1, 3, 50]);
    }

    #[test]
    fn entries_are_computed_again_when_a_table_gets_its_home() {
        let mut store = testing::store(());
        let small = MemoryType {
            minimum: 0,
            maximum: None,
        };
        let memories = [(); 2].map(|()| Memory::new(&mut store, small).unwrap());
        let records = memories.map(|memory| store.inner.core.memory(memory));
        let table = functions(&mut store, 2);
        let code = |store: &mut Store<()>, index: usize| {
            let (_, _, record) = pointers(store, table);
            // SAFETY: the record is live and has two entries.
            unsafe { (*(*record).entries.add(index)).code }
        };
        for (index, memory) in (0..).zip(records) {
            let func = waiting_func(&mut store);
            // SAFETY: the record is live.
            unsafe { (*store.inner.core.func(func)).mem = memory };
            table.set(&mut store, index, func.into()).unwrap();
            assert_eq!(code(&mut store, index as usize), testing::THUNK.as_ptr());
            assert!(notes(&mut store, func).is_empty());
        }
        let (core, _, record) = pointers(&mut store, table);
        // SAFETY: the records are live.
        unsafe { settle(core, record, records[0]) };
        assert_ne!(code(&mut store, 0), testing::THUNK.as_ptr());
        assert_eq!(code(&mut store, 1), testing::THUNK.as_ptr());
        let (core, _, record) = pointers(&mut store, table);
        // SAFETY: the records are live.
        unsafe { settle(core, record, records[1]) };
        assert_eq!(code(&mut store, 1), testing::THUNK.as_ptr());
        contents(&mut store, table);
    }
}
