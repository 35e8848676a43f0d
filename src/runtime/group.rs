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

/// All groups of a store by number.
///
/// Numbers are never used again, so a process that loads and unloads for days leaves many behind. They are kept in
/// pages, and a page whose groups are all gone costs one word.
#[derive(Default)]
pub(crate) struct Groups {
    pages: Vec<Option<Box<Page>>>,
    next: u32,
}

/// Groups in a page.
const PAGE: u32 = 256;

struct Page {
    groups: [Option<Box<Group>>; PAGE as usize],
    live: u32,
}

impl Groups {
    /// The number that the next group gets.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Adds a group under the next number.
    pub fn push(&mut self, group: Group) {
        assert!(self.next < u32::MAX, "a store had 2^32 groups of objects");
        let (page, place) = ((self.next / PAGE) as usize, (self.next % PAGE) as usize);
        if page == self.pages.len() {
            self.pages.push(None);
        }
        let page = self.pages[page].get_or_insert_with(|| {
            Box::new(Page {
                groups: [const { None }; PAGE as usize],
                live: 0,
            })
        });
        page.groups[place] = Some(Box::new(group));
        page.live += 1;
        self.next += 1;
    }

    /// The group with this number, if it was not taken.
    pub fn get(&self, number: u32) -> Option<&Group> {
        let page = self.pages.get((number / PAGE) as usize)?.as_deref()?;
        page.groups[(number % PAGE) as usize].as_deref()
    }

    /// Takes a group out.
    pub fn take(&mut self, number: u32) -> Option<Box<Group>> {
        let place = self.pages.get_mut((number / PAGE) as usize)?;
        let page = place.as_deref_mut()?;
        let group = page.groups[(number % PAGE) as usize].take()?;
        page.live -= 1;
        // The page that is being filled stays, or it would be made again for every group.
        if page.live == 0 && number / PAGE != self.next / PAGE {
            *place = None;
        }
        Some(group)
    }

    /// All groups with their numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Group)> {
        let pages = (0..).step_by(PAGE as usize).zip(&self.pages);
        pages.flat_map(|(first, page)| {
            let groups = page.iter().flat_map(|page| &page.groups);
            let numbered = (first..).zip(groups);
            numbered.filter_map(|(number, group)| Some((number, group.as_deref()?)))
        })
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
    fn groups_keep_their_numbers_and_pages_without_groups_go() {
        let mut groups = Groups::default();
        for number in 0..1000 {
            assert_eq!(groups.next(), number);
            groups.push(Group::empty());
        }
        for number in 100..900 {
            assert!(groups.take(number).is_some());
            assert!(groups.take(number).is_none());
        }
        let kept: Vec<u32> = groups.iter().map(|(number, _)| number).collect();
        let expected: Vec<u32> = (0..100).chain(900..1000).collect();
        assert_eq!(kept, expected);
        assert_eq!(groups.pages.iter().flatten().count(), 2);
        assert!(groups.get(99).is_some() && groups.get(100).is_none());
        assert!(groups.get(1000).is_none() && groups.get(u32::MAX).is_none());
        groups.push(Group::empty());
        assert!(groups.get(1000).is_some());
    }

    #[test]
    fn impossible_room_is_an_error() {
        assert!(room_for::<u64>(usize::MAX / 8, "tests").is_err());
        assert_eq!(room_for::<u64>(3, "tests").unwrap().capacity(), 3);
    }
}
