//! Linear memories: the only owner of their bytes.
//!
//! A memory's bytes may move when it grows, so whoever keeps `base` and `len` elsewhere (the registers of running code)
//! loads them again after everything that may grow it. Where the system has address space to reserve (`pages`), a memory
//! that grows moves at most once; elsewhere its capacity doubles.
//! Bytes between `len` and `capacity` are always zero.
//!
//! With [`Config::guard_pages`] every memory has a reservation of [`GUARDED`] bytes from the beginning: it never moves, and
//! what is behind `len` gives no access.

use super::budget::Share;
use super::group::{Group, Records};
use super::limits::{Growing, Growth, allows, failed};
use super::pages::Reservation;
use super::records::{InstanceRec, MemoryRec};
use super::store::{AsContext, AsContextMut, StoreCore};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::module::MemoryType;
use crate::trap::TrapCode;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Bytes of a page.
pub(crate) const PAGE: usize = 64 << 10;

/// Memories that begin with so many bytes lie in a reservation from the beginning; smaller ones, once they grow.
const RESERVED_FROM: usize = 1 << 20;

/// Bytes of the reservation of a memory with guard pages: whatever index and offset of 32 bits add up to, an access is in it.
pub(crate) const GUARDED: u64 = (8 << 30) + PAGE as u64;

/// Most pages that a memory with 32-bit addresses can have.
const MOST_PAGES: u64 = 1 << 16;

/// A memory of a store.
///
/// ```
/// use dynlink::{Engine, Memory, MemoryType, Store};
///
/// let mut store = Store::new(&Engine::default(), ());
/// let memory = Memory::new(&mut store, MemoryType { minimum: 1, maximum: Some(2) })?;
/// memory.write(&mut store, 65_532, b"last")?;
/// assert!(memory.write(&mut store, 65_533, b"last").is_err());
///
/// assert_eq!(memory.grow(&mut store, 1)?, 1);
/// assert!(memory.grow(&mut store, 1).is_err());
/// assert_eq!(&memory.data(&store)[65_532..65_537], b"last\0");
/// # Ok::<(), dynlink::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Memory {
    pub(crate) store: u32,
    pub(crate) group: u32,
    pub(crate) place: u32,
}

impl Memory {
    /// A memory of its minimum size, all zero.
    ///
    /// # Errors
    /// A limit, or the system has no memory.
    pub fn new(mut store: impl AsContextMut, ty: MemoryType) -> Result<Memory> {
        let inner = store.as_context_mut().0;
        let (core, pointer) = inner.pointers();
        // SAFETY: both pointers come from the exclusive borrow of the store.
        let mut record = unsafe { create(core, pointer, &ty)? };
        record.group = inner.core.next_group();
        let handle = record.handle(inner.core.id);
        inner.core.add_group(Group {
            memories: Records::new(vec![record]),
            ..Group::empty()
        });
        Ok(handle)
    }

    /// The type, with the present size as minimum.
    pub fn ty(&self, store: impl AsContext) -> MemoryType {
        let memory = store.as_context().0.core.memory(*self);
        // SAFETY: the record is live while the store is borrowed.
        unsafe { type_of(memory) }
    }

    /// The bytes.
    pub fn data<'a>(&self, store: &'a impl AsContext) -> &'a [u8] {
        let memory = store.as_context().0.core.memory(*self);
        // SAFETY: `base` is valid for `len` bytes, and nothing writes to or frees them while the store is borrowed.
        unsafe { std::slice::from_raw_parts((*memory).base, (*memory).len) }
    }

    /// The bytes.
    pub fn data_mut<'a>(&self, store: &'a mut impl AsContextMut) -> &'a mut [u8] {
        self.data_and_store_mut(store).0
    }

    /// The bytes and the embedder's data together.
    pub fn data_and_store_mut<'a, C: AsContextMut>(
        &self,
        store: &'a mut C,
    ) -> (&'a mut [u8], &'a mut C::Data) {
        let inner = store.as_context_mut().0;
        let memory = inner.core.memory(*self);
        let data = &raw mut inner.data;
        // SAFETY: `base` is valid for `len` bytes, which lie outside of the store and its data; the exclusive
        // borrow of the store, which lasts as long as both references, keeps everybody else away from both.
        unsafe {
            let bytes = std::slice::from_raw_parts_mut((*memory).base, (*memory).len);
            (bytes, &mut *data)
        }
    }

    /// Size in bytes.
    pub fn data_size(&self, store: impl AsContext) -> usize {
        let memory = store.as_context().0.core.memory(*self);
        // SAFETY: the record is live while the store is borrowed.
        unsafe { (*memory).len }
    }

    /// Size in pages of 64 KiB.
    pub fn size(&self, store: impl AsContext) -> u64 {
        self.ty(store).minimum
    }

    /// Grows by `pages`; gives the size before, in pages.
    ///
    /// # Errors
    /// The maximum, a limit, or the system has no memory; nothing changed.
    pub fn grow(&self, mut store: impl AsContextMut, pages: u64) -> Result<u64> {
        let inner = store.as_context_mut().0;
        let memory = inner.core.find_memory(*self)?;
        let (core, pointer) = inner.pointers();
        // SAFETY: the record is live, and the pointers come from the exclusive borrow of the store.
        unsafe {
            memory_grow(core, pointer, memory, pages)?.ok_or_else(|| {
                let needed = type_of(memory).minimum.saturating_add(pages);
                let bytes = needed.saturating_mul(PAGE as u64);
                match (&(*memory).share).excess(bytes) {
                    Some(excess) if needed <= (*memory).maximum => too_many_bytes(excess),
                    _ => limit("pages of a memory", needed, (*memory).maximum),
                }
            })
        }
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// Out of bounds.
    pub fn read(&self, store: impl AsContext, offset: usize, buffer: &mut [u8]) -> Result<()> {
        let store = store.as_context();
        let data = self.data(&store);
        let bytes = range(offset, buffer.len())
            .and_then(|range| data.get(range))
            .ok_or_else(|| out_of_bounds("read", offset, buffer.len(), data.len()))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// Out of bounds.
    pub fn write(&self, mut store: impl AsContextMut, offset: usize, buffer: &[u8]) -> Result<()> {
        let mut store = store.as_context_mut();
        let data = self.data_mut(&mut store);
        let size = data.len();
        range(offset, buffer.len())
            .and_then(|range| data.get_mut(range))
            .ok_or_else(|| out_of_bounds("write", offset, buffer.len(), size))?
            .copy_from_slice(buffer);
        Ok(())
    }
}

fn range(offset: usize, len: usize) -> Option<std::ops::Range<usize>> {
    Some(offset..offset.checked_add(len)?)
}

#[cold]
fn out_of_bounds(what: &str, offset: usize, len: usize, size: usize) -> Error {
    Error::usage(format!(
        "{what} of {len} bytes at {offset:#x} is out of bounds of a memory of {size:#x} bytes"
    ))
}

/// An error for a limit.
#[cold]
pub(crate) fn limit(what: &str, needed: u64, allowed: u64) -> Error {
    Error::new(ErrorKind::Limit {
        what: what.to_string(),
        needed,
        allowed,
    })
}

/// The error for memories that have more than the store's budget together.
#[cold]
fn too_many_bytes((needed, allowed): (u64, u64)) -> Error {
    let what = "bytes of all memories of a store (Limits::memory_bytes)";
    limit(what, needed, allowed)
}

/// The error for bytes that the system does not have.
#[cold]
fn out_of_memory(bytes: usize) -> Error {
    let what = "memory of the system for a linear memory, in bytes";
    limit(what, bytes as u64, 0)
}

/// The error for a memory with guard pages that there is no place for.
#[cold]
fn no_space(_: usize) -> Error {
    let what = "address space for a memory with guard pages, in bytes (raise the limit, see `ulimit -v`, or turn guard \
                pages off: Config::guard_pages, the command's --guard-pages)";
    limit(what, GUARDED, 0)
}

impl MemoryRec {
    /// The handle of this record in the store with this number.
    pub fn handle(&self, store: u32) -> Memory {
        Memory {
            store,
            group: self.group,
            place: self.place,
        }
    }
}

impl Drop for MemoryRec {
    fn drop(&mut self) {
        if self.pages.is_none() {
            // SAFETY: `base` was allocated with `capacity` bytes and is freed nowhere else.
            unsafe { free(self.base, self.capacity) }
        }
    }
}

/// The layout of this many bytes. The alignment is one that the allocator gives anyway: a larger one
/// would make it clear the bytes by hand instead of taking untouched pages from the system.
fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes, 16).ok()
}

#[cfg(test)]
thread_local! {
    /// Makes [`allocate`] fail, as if the system had no memory.
    static FAIL: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Zeroed bytes; `None` if the system has no memory.
fn allocate(bytes: usize) -> Option<*mut u8> {
    #[cfg(test)]
    if FAIL.get() {
        return None;
    }
    let layout = layout(bytes)?;
    if bytes == 0 {
        return Some(NonNull::<u128>::dangling().as_ptr().cast());
    }
    // SAFETY: the layout is not empty.
    let base = unsafe { alloc_zeroed(layout) };
    (!base.is_null()).then_some(base)
}

/// Frees what [`allocate`] gave.
///
/// # Safety
/// `base` came from `allocate(bytes)` and is not used again.
unsafe fn free(base: *mut u8, bytes: usize) {
    if let (Some(layout), true) = (layout(bytes), bytes > 0) {
        // SAFETY: allocated with the same layout by the contract.
        unsafe { dealloc(base, layout) };
    }
}

/// Address space for `most` bytes of which `len` are there; `None` if the system has none to reserve.
fn reserve(len: usize, most: usize) -> Option<Reservation> {
    #[cfg(test)]
    if FAIL.get() {
        return None;
    }
    let mut pages = Reservation::new(most)?;
    pages.commit(len).then_some(pages)
}

/// Where a memory lies: the reservation if it is in one, its first byte.
type Place = (Option<Reservation>, *mut u8);

/// A place for a new memory of `len` bytes, `useful` ones later on.
///
/// # Errors
/// What to say of this length.
fn place(len: usize, useful: usize, guarded: bool) -> Result<Place, fn(usize) -> Error> {
    if guarded {
        let pages = usize::try_from(GUARDED).ok().and_then(Reservation::new);
        let mut pages = pages.ok_or(no_space as fn(usize) -> Error)?;
        return match pages.commit(len) {
            true => {
                let base = pages.base();
                Ok((Some(pages), base))
            }
            false => Err(out_of_memory),
        };
    }
    // A small memory, which may never grow, is cheaper from the allocator; a large one would cost a copy.
    let pages = (len >= RESERVED_FROM && useful > len)
        .then(|| reserve(len, useful))
        .flatten();
    let base = pages.as_ref().map(Reservation::base);
    let base = base.or_else(|| allocate(len));
    Ok((pages, base.ok_or(out_of_memory as fn(usize) -> Error)?))
}

/// Bytes of this many pages, if the host can address them.
fn bytes_of(pages: u64) -> Option<usize> {
    usize::try_from(pages).ok()?.checked_mul(PAGE)
}

/// A record for a new memory of its minimum size; its group and place are still to be set.
///
/// # Errors
/// A limit, or the system has no memory.
///
/// # Safety
/// `core` is live and `store` is the `*mut StoreInner<T>` around it, both exclusively the caller's.
pub(crate) unsafe fn create(
    core: *mut StoreCore,
    store: *mut (),
    ty: &MemoryType,
) -> Result<MemoryRec> {
    // SAFETY: `core` is live; the references end with their statements.
    let most = unsafe { (&(*core).engine).config().limits.memory_pages }.min(MOST_PAGES);
    // SAFETY: as above.
    let mut share = unsafe { (&(*core).memory_bytes).share() };
    let refused = || limit("pages of a memory", ty.minimum, most);
    if ty.minimum > most {
        return Err(refused());
    }
    let len = bytes_of(ty.minimum).ok_or_else(refused)?;
    if let Some(excess) = share.excess(len as u64) {
        return Err(too_many_bytes(excess));
    }
    let growth = Growth {
        what: Growing::Memory,
        current: 0,
        desired: len,
        maximum: ty.maximum.and_then(bytes_of),
    };
    // SAFETY: both pointers are right by the contract.
    if !unsafe { allows(core, store, growth)? } {
        return Err(limit(
            "the resource limiter refused bytes of a new memory",
            len as u64,
            0,
        ));
    }
    let maximum = ty.maximum.map_or(most, |declared| declared.min(most));
    // SAFETY: `core` is live; the reference ends with the statement.
    let guarded = unsafe { (&(*core).engine).config().guard_pages };
    if guarded {
        Config::guard_pages_available()?;
        // SAFETY: `core` is live; the hook does not touch it.
        unsafe { ((*core).hooks.guard)()? };
    }
    let useful = most_bytes(maximum, &share).unwrap_or(len);
    let (pages, base) = match place(len, useful, guarded) {
        Ok(place) => place,
        Err(why) => {
            // SAFETY: both pointers are right by the contract.
            unsafe { failed(core, store, Growing::Memory, why(len))? };
            return Err(why(len));
        }
    };
    share.set(len as u64);
    Ok(MemoryRec {
        base,
        len,
        capacity: len,
        pages,
        maximum,
        declared_maximum: ty.maximum,
        group: 0,
        place: 0,
        share,
    })
}

/// The type, with the present size as minimum.
///
/// # Safety
/// `memory` is live.
pub(crate) unsafe fn type_of(memory: *const MemoryRec) -> MemoryType {
    // SAFETY: by the contract.
    let (len, maximum) = unsafe { ((*memory).len, (*memory).declared_maximum) };
    MemoryType {
        minimum: (len / PAGE) as u64,
        maximum,
    }
}

/// `memory.grow`: the size before in pages, or `None` if it was refused and nothing changed.
///
/// # Errors
/// The resource limiter wants the guest to end.
///
/// # Safety
/// `memory` is a live record of `core`, `store` is the `*mut StoreInner<T>` around `core`, and no references to
/// any of them or to the memory's bytes exist.
pub(crate) unsafe fn memory_grow(
    core: *mut StoreCore,
    store: *mut (),
    memory: *mut MemoryRec,
    pages: u64,
) -> Result<Option<u64>> {
    // SAFETY: `memory` is live.
    let (old, most) = unsafe { (type_of(memory), (*memory).maximum) };
    let Some(new) = old.minimum.checked_add(pages).filter(|new| *new <= most) else {
        return Ok(None);
    };
    if pages == 0 {
        return Ok(Some(old.minimum));
    }
    let Some(desired) = bytes_of(new) else {
        return Ok(None);
    };
    // SAFETY: the pointers are right by the contract. `base` is valid for `len` bytes and was allocated with
    // `capacity` bytes, the new one is larger, and the record is set before anything else can see it. References to
    // the share end with their statements.
    unsafe {
        if (&(*memory).share).excess(desired as u64).is_some() {
            return Ok(None);
        }
        let growth = Growth {
            what: Growing::Memory,
            current: (*memory).len,
            desired,
            maximum: old.maximum.and_then(bytes_of),
        };
        if !allows(core, store, growth)? {
            return Ok(None);
        }
        if desired > (*memory).capacity {
            let useful = most_bytes(most, &(*memory).share).unwrap_or(desired);
            if !extend(memory, desired, useful.max(desired)) {
                failed(core, store, Growing::Memory, out_of_memory(desired))?;
                return Ok(None);
            }
        }
        (*memory).len = desired;
        (&mut (*memory).share).set(desired as u64);
    }
    Ok(Some(old.minimum))
}

/// Most bytes that a memory of so many pages at most can have within its store's budget, if the host can address them.
fn most_bytes(pages: u64, share: &Share) -> Option<usize> {
    let budget = usize::try_from(share.most()).unwrap_or(usize::MAX);
    // Reservations are of whole pages.
    Some(bytes_of(pages)?.min(budget / PAGE * PAGE))
}

/// Makes the capacity at least `desired` bytes, with a view to `useful` bytes later on. False: the system has no memory,
/// and nothing changed.
///
/// # Safety
/// `memory` is live, nobody refers to its bytes, and `desired` is more than its capacity.
unsafe fn extend(memory: *mut MemoryRec, desired: usize, useful: usize) -> bool {
    // SAFETY: `memory` is live; references end with their statements. `base` is valid for `len` bytes, which are fewer
    // than the new ones have; what `free` gets came from `allocate`, because there was no reservation.
    unsafe {
        if let Some(pages) = &mut (*memory).pages
            && desired <= pages.bytes()
        {
            #[cfg(test)]
            if FAIL.get() {
                return false;
            }
            let committed = pages.commit(desired);
            if committed {
                (*memory).capacity = desired;
            }
            return committed;
        }
        let pages = reserve(desired, useful);
        let larger = match &pages {
            Some(pages) => Some((pages.base(), desired)),
            None => {
                // Doubling makes the cost of copying a constant per byte however small the steps of the guest are.
                let doubled = (*memory).capacity.saturating_mul(2);
                let wanted = doubled.min(useful).max(desired);
                allocate(wanted)
                    .map(|base| (base, wanted))
                    .or_else(|| allocate(desired).map(|base| (base, desired)))
            }
        };
        let Some((base, capacity)) = larger else {
            return false;
        };
        std::ptr::copy_nonoverlapping((*memory).base, base, (*memory).len);
        if (*memory).pages.is_none() {
            free((*memory).base, (*memory).capacity);
        }
        // The old reservation, if there was one, ends here.
        (*memory).pages = pages;
        (*memory).base = base;
        (*memory).capacity = capacity;
        true
    }
}

/// Checks that `offset..offset + len` is within `size` and gives both as host sizes.
fn within(offset: u64, len: u64, size: usize) -> Option<(usize, usize)> {
    let end = offset.checked_add(len)?;
    (end <= size as u64).then_some((offset as usize, len as usize))
}

/// `memory.fill`.
///
/// # Errors
/// Out of bounds; nothing was written.
///
/// # Safety
/// `memory` is live and no references to its bytes exist.
pub(crate) unsafe fn memory_fill(
    memory: *mut MemoryRec,
    dst: u64,
    value: u8,
    len: u64,
) -> Result<(), TrapCode> {
    // SAFETY: `base` is valid for `len` bytes, and the range was checked against it.
    unsafe {
        let (dst, len) = within(dst, len, (*memory).len).ok_or(TrapCode::MemoryOutOfBounds)?;
        (*memory).base.add(dst).write_bytes(value, len);
    }
    Ok(())
}

/// `memory.copy`, also between two memories.
///
/// # Errors
/// Out of bounds; nothing was written.
///
/// # Safety
/// Both memories are live and no references to their bytes exist.
pub(crate) unsafe fn memory_copy(
    dst_memory: *mut MemoryRec,
    dst: u64,
    src_memory: *const MemoryRec,
    src: u64,
    len: u64,
) -> Result<(), TrapCode> {
    // SAFETY: each `base` is valid for its `len` bytes, and both ranges were checked; they may overlap.
    unsafe {
        let out = TrapCode::MemoryOutOfBounds;
        let (src, _) = within(src, len, (*src_memory).len).ok_or(out)?;
        let (dst, len) = within(dst, len, (*dst_memory).len).ok_or(out)?;
        let (src, dst) = ((*src_memory).base.add(src), (*dst_memory).base.add(dst));
        std::ptr::copy(src, dst, len);
    }
    Ok(())
}

/// `memory.init`: copies from data segment `segment` of the instance.
///
/// # Errors
/// Out of bounds of the segment or the memory; nothing was written.
///
/// # Safety
/// Instance and memory are live, `segment` exists (validation), no references to the memory's bytes exist.
pub(crate) unsafe fn memory_init(
    instance: *const InstanceRec,
    segment: u32,
    memory: *mut MemoryRec,
    dst: u64,
    src: u64,
    len: u64,
) -> Result<(), TrapCode> {
    let out = TrapCode::MemoryOutOfBounds;
    // SAFETY: the records are live; the segment lies in the module's bytes, which are no memory's; the destination
    // was checked against `len`, for which `base` is valid.
    unsafe {
        let range = (&(*instance).data)[segment as usize].clone();
        let bytes = (&(*instance).module).0.bytes.get(range).unwrap_or(&[]);
        let (src, _) = within(src, len, bytes.len()).ok_or(out)?;
        let (dst, len) = within(dst, len, (*memory).len).ok_or(out)?;
        let src = bytes[src..src + len].as_ptr();
        std::ptr::copy_nonoverlapping(src, (*memory).base.add(dst), len);
    }
    Ok(())
}

/// `data.drop`.
///
/// # Safety
/// The instance is live and `segment` exists (validation).
pub(crate) unsafe fn data_drop(instance: *mut InstanceRec, segment: u32) {
    // SAFETY: by the contract; the reference ends with the statement.
    unsafe { (&mut (*instance).data)[segment as usize] = 0..0 };
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::config::{Config, Engine};
    use crate::runtime::{ResourceLimiter, Store, StoreLimits};

    fn ty(minimum: u64, maximum: Option<u64>) -> MemoryType {
        MemoryType { minimum, maximum }
    }

    /// The record behind a handle, with the pointers that operations need.
    fn record<T>(
        store: &mut Store<T>,
        memory: Memory,
    ) -> (*mut StoreCore, *mut (), *mut MemoryRec) {
        let record = store.inner.core.memory(memory);
        let (core, pointer) = store.inner.pointers();
        (core, pointer, record)
    }

    #[test]
    fn a_memory_grows_to_its_maximum_and_keeps_its_bytes() {
        let mut store = testing::store(());
        let memory = Memory::new(&mut store, ty(1, Some(4))).unwrap();
        memory.write(&mut store, PAGE - 2, b"ab").unwrap();
        assert_eq!(memory.grow(&mut store, 1).unwrap(), 1);
        assert_eq!(memory.grow(&mut store, 0).unwrap(), 2);
        assert_eq!(memory.grow(&mut store, 2).unwrap(), 2);
        let error = memory.grow(&mut store, 1).unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Limit {
                    needed: 5,
                    allowed: 4,
                    ..
                }
            ),
            "{error}"
        );
        assert!(memory.grow(&mut store, u64::MAX).is_err());
        assert_eq!(memory.ty(&store), ty(4, Some(4)));
        assert_eq!(&memory.data(&store)[PAGE - 2..PAGE + 2], b"ab\0\0");
        assert!(memory.data(&store)[PAGE..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn growing_in_small_steps_moves_the_bytes_rarely() {
        let mut store = testing::store(());
        let memory = Memory::new(&mut store, ty(1, None)).unwrap();
        let (core, pointer, record) = record(&mut store, memory);
        let mut moves = 0;
        for _ in 0..200 {
            // SAFETY: the record is live and the pointers come from the store.
            unsafe {
                let base = (*record).base;
                memory_grow(core, pointer, record, 1).unwrap().unwrap();
                moves += usize::from(base != (*record).base);
                assert!((*record).capacity >= (*record).len);
            }
        }
        assert!(moves <= 8, "{moves} moves");
    }

    #[test]
    fn the_limit_of_the_engine_bounds_creation_and_growth() {
        let mut config = Config::default();
        config.limits.memory_pages = 3;
        let mut store = Store::with_hooks(&Engine::new(config), (), &testing::HOOKS);
        let error = Memory::new(&mut store, ty(4, None)).unwrap_err();
        assert!(matches!(
            error.kind(),
            ErrorKind::Limit {
                needed: 4,
                allowed: 3,
                ..
            }
        ));
        let memory = Memory::new(&mut store, ty(2, Some(100))).unwrap();
        assert!(memory.grow(&mut store, 2).is_err());
        assert_eq!(memory.grow(&mut store, 1).unwrap(), 2);
        assert_eq!(memory.ty(&store), ty(3, Some(100)));
    }

    #[test]
    fn the_limiter_is_asked_and_its_refusal_changes_nothing() {
        let mut store = testing::store(StoreLimits {
            memory_bytes: Some(2 * PAGE),
            table_elements: None,
        });
        store.limiter(|limits| limits);
        assert!(Memory::new(&mut store, ty(3, None)).is_err());
        let memory = Memory::new(&mut store, ty(1, None)).unwrap();
        assert!(memory.grow(&mut store, 2).is_err());
        assert_eq!(memory.size(&store), 1);
        assert_eq!(memory.grow(&mut store, 1).unwrap(), 1);
    }

    #[test]
    fn a_limiter_may_end_the_guest_and_its_panic_is_an_error() {
        struct Angry(bool);
        impl ResourceLimiter for Angry {
            fn memory_growing(
                &mut self,
                current: usize,
                _: usize,
                maximum: Option<usize>,
            ) -> Result<bool> {
                assert!(!self.0, "the limiter's bug");
                assert_eq!(maximum, Some(9 * PAGE));
                match current {
                    0 => Ok(true),
                    _ => Err(Error::msg("enough")),
                }
            }
            fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool> {
                Ok(false)
            }
        }
        let mut store = testing::store(Angry(false));
        store.limiter(|angry| angry);
        let memory = Memory::new(&mut store, ty(1, Some(9))).unwrap();
        let error = memory.grow(&mut store, 1).unwrap_err();
        assert_eq!(error.to_string(), "enough");
        store.data_mut().0 = true;
        let error = memory.grow(&mut store, 1).unwrap_err().to_string();
        assert_eq!(error, "resource limiter panicked: the limiter's bug");
        assert_eq!(memory.size(&store), 1);
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
            fn memory_grow_failed(&mut self, error: Error) -> Result<()> {
                self.heard.push(error.to_string());
                if self.fatal { Err(error) } else { Ok(()) }
            }
        }
        let mut store = testing::store(Listener::default());
        store.limiter(|listener| listener);
        let memory = Memory::new(&mut store, ty(1, None)).unwrap();
        // Growth that no limit forbids fails if the system has no memory, which `FAIL` stands for.
        FAIL.set(true);
        assert!(memory.grow(&mut store, 1).is_err());
        assert!(Memory::new(&mut store, ty(1, None)).is_err());
        store.data_mut().fatal = true;
        let error = memory.grow(&mut store, 1).unwrap_err();
        FAIL.set(false);
        let heard = std::mem::take(&mut store.data_mut().heard);
        assert_eq!(heard.len(), 3);
        assert!(
            heard
                .iter()
                .all(|text| text.contains("memory of the system")),
            "{heard:?}"
        );
        assert_eq!(error.to_string(), heard[2]);
        assert_eq!(memory.size(&store), 1);
        assert_eq!(store.inner.core.memory_bytes.used(), PAGE as u64);
        assert_eq!(memory.grow(&mut store, 1).unwrap(), 1);
        assert!(store.data().heard.is_empty());
    }

    #[test]
    fn reads_and_writes_are_checked_at_both_ends() {
        let mut store = testing::store(());
        let memory = Memory::new(&mut store, ty(1, None)).unwrap();
        let mut two = [0; 2];
        assert!(memory.read(&store, PAGE - 2, &mut two).is_ok());
        assert!(memory.read(&store, PAGE - 1, &mut two).is_err());
        assert!(memory.read(&store, usize::MAX, &mut two).is_err());
        assert!(memory.read(&store, PAGE, &mut []).is_ok());
        assert!(memory.write(&mut store, PAGE + 1, &[]).is_err());
        let error = memory.write(&mut store, PAGE - 1, &two).unwrap_err();
        assert_eq!(
            error.to_string(),
            "write of 2 bytes at 0xffff is out of bounds of a memory of 0x10000 bytes"
        );
    }

    #[test]
    fn bulk_operations_check_bounds_before_they_write() {
        let mut store = testing::store(());
        let first = Memory::new(&mut store, ty(1, None)).unwrap();
        let second = Memory::new(&mut store, ty(1, None)).unwrap();
        let empty = Memory::new(&mut store, ty(0, None)).unwrap();
        let (_, _, one) = record(&mut store, first);
        let (_, _, two) = record(&mut store, second);
        let (_, _, none) = record(&mut store, empty);
        let out = Err(TrapCode::MemoryOutOfBounds);
        let page = PAGE as u64;
        // SAFETY: the records are live.
        unsafe {
            assert_eq!(memory_fill(one, page - 4, 7, 4), Ok(()));
            assert_eq!(memory_fill(one, page - 3, 9, 4), out);
            assert_eq!(memory_fill(one, u64::MAX, 9, 2), out);
            assert_eq!(memory_fill(one, page, 9, 0), Ok(()));
            assert_eq!(memory_fill(one, page + 1, 9, 0), out);
            assert_eq!(memory_fill(none, 0, 9, 0), Ok(()));
            assert_eq!(memory_fill(none, 0, 9, 1), out);
            assert_eq!(memory_copy(two, 0, one, page - 4, 4), Ok(()));
            assert_eq!(memory_copy(two, 0, one, page - 3, 4), out);
            assert_eq!(memory_copy(two, page - 3, one, 0, 4), out);
            assert_eq!(memory_copy(one, page - 3, one, page - 4, 3), Ok(()));
        }
        assert_eq!(&first.data(&store)[PAGE - 4..], [7; 4]);
        assert_eq!(&second.data(&store)[..5], [7, 7, 7, 7, 0]);
    }

    #[test]
    fn overlapping_copies_move_bytes_as_if_through_a_buffer() {
        let mut store = testing::store(());
        let memory = Memory::new(&mut store, ty(1, None)).unwrap();
        memory.write(&mut store, 0, b"abcdef").unwrap();
        let (_, _, one) = record(&mut store, memory);
        // SAFETY: the record is live.
        unsafe { memory_copy(one, 2, one, 0, 4).unwrap() };
        assert_eq!(&memory.data(&store)[..6], b"ababcd");
        // SAFETY: the record is live.
        unsafe { memory_copy(one, 0, one, 1, 5).unwrap() };
        assert_eq!(&memory.data(&store)[..6], b"babcdd");
    }
}
