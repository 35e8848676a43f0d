//! Groups: the owners of records.
//!
//! Everything that one instance defined, or one object that the host made, is one [`Group`]. Its
//! records are allocated once and keep their addresses until the group is released, because
//! translated code holds those addresses. Nothing outside ever owns a record, so releasing a group
//! is the only way in which a record dies. Numbers of groups are never used again, which is why a
//! handle to something released is recognised instead of reaching something else.

use super::records::{FuncRec, GlobalRec, InstanceRec, MemoryRec, TableRec};
use crate::error::{Error, ErrorKind, Result};
use std::ptr::NonNull;

/// A list of records at addresses that never change. Hands out raw pointers only.
pub(crate) struct Records<R> {
    first: NonNull<R>,
    len: usize,
}

impl<R> Records<R> {
    /// Moves the records to their final place.
    pub fn new(records: Vec<R>) -> Records<R> {
        let records = Box::into_raw(records.into_boxed_slice());
        Records {
            len: records.len(),
            // SAFETY: a pointer that comes from a box is not null.
            first: unsafe { NonNull::new_unchecked(records.cast::<R>()) },
        }
    }

    /// No records.
    pub fn none() -> Records<R> {
        Records::new(Vec::new())
    }

    /// The record at this place.
    pub fn get(&self, place: u32) -> Option<*mut R> {
        let place = usize::try_from(place).ok()?;
        // SAFETY: the offset is within the `len` records that `first` points at.
        (place < self.len).then(|| unsafe { self.first.as_ptr().add(place) })
    }

    /// All records in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = *mut R> + use<R> {
        let first = self.first.as_ptr();
        // SAFETY: the offsets are within the `len` records that `first` points at.
        (0..self.len).map(move |place| unsafe { first.add(place) })
    }
}

impl<R> Drop for Records<R> {
    fn drop(&mut self) {
        let records = std::ptr::slice_from_raw_parts_mut(self.first.as_ptr(), self.len);
        // SAFETY: this is the boxed slice that `new` took apart, and nothing else frees it.
        drop(unsafe { Box::from_raw(records) });
    }
}

/// The records that one instance or one host object defined.
pub(crate) struct Group {
    pub funcs: Records<FuncRec>,
    pub tables: Records<TableRec>,
    pub memories: Records<MemoryRec>,
    pub globals: Records<GlobalRec>,
    /// One record if the group is that of an instance, else none.
    pub instance: Records<InstanceRec>,
}

impl Group {
    /// A group without records.
    pub fn empty() -> Group {
        Group {
            funcs: Records::none(),
            tables: Records::none(),
            memories: Records::none(),
            globals: Records::none(),
            instance: Records::none(),
        }
    }
}

/// An empty vector with room for exactly `count` records.
///
/// # Errors
/// The system has no memory.
pub(crate) fn room_for<R>(count: usize, what: &str) -> Result<Vec<R>> {
    let mut records = Vec::new();
    if records.try_reserve_exact(count).is_err() {
        return Err(Error::new(ErrorKind::Limit {
            what: format!("memory of the system for {what}"),
            needed: u64::try_from(count.saturating_mul(size_of::<R>())).unwrap_or(u64::MAX),
            allowed: 0,
        }));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn records_keep_their_addresses_and_are_dropped_once() {
        let witness = Rc::new(());
        let records = Records::new(vec![witness.clone(), witness.clone()]);
        let first = records.get(0).unwrap();
        let moved = records;
        assert_eq!(moved.get(0), Some(first));
        assert_eq!(moved.iter().count(), 2);
        assert_eq!(moved.get(2), None);
        assert_eq!(Rc::strong_count(&witness), 3);
        drop(moved);
        assert_eq!(Rc::strong_count(&witness), 1);
    }

    #[test]
    fn impossible_room_is_an_error() {
        assert!(room_for::<u64>(usize::MAX / 8, "tests").is_err());
        assert_eq!(room_for::<u64>(3, "tests").unwrap().capacity(), 3);
    }
}
