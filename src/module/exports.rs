//! The exports of a module: places of their names in the file, and an index of them. Big modules export tens of
//! thousands of functions under long names, so no name is copied.
#![forbid(unsafe_code)]

use super::ExportItem;
use super::name::{Name, NameHasher, NameTable};
use std::ops::Range;

/// An export.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Export<'a> {
    pub name: &'a str,
    pub item: ExportItem,
}

/// Exports in the order of their section. The file, in which the names are, is given with each question.
pub(super) struct Exports {
    list: Vec<Entry>,
    /// Their places in the list, by name.
    places: NameTable,
    hasher: NameHasher,
}

struct Entry {
    start: u32,
    end: u32,
    item: ExportItem,
}

/// Names whose bytes are fetched side by side.
const AT_ONCE: usize = 64;

/// What became of a new export.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Added {
    Yes,
    /// There is one of that name already.
    Twice,
    /// There is no memory for it, or its name lies beyond 4 GiB.
    No,
}

impl Exports {
    /// None; their names will be hashed so.
    pub(super) fn new(hasher: NameHasher) -> Exports {
        Exports {
            list: Vec::new(),
            places: NameTable::default(),
            hasher,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Makes room for all exports of the module, once. False: there is no memory for them.
    pub(super) fn reserve(&mut self, count: usize) -> bool {
        self.list.try_reserve_exact(count).is_ok() && self.places.reserve(count)
    }

    /// Adds an export whose name is this range of the file. Room for it was made before.
    pub(super) fn add(&mut self, file: &[u8], name: Range<usize>, item: ExportItem) -> Added {
        let (Ok(start), Ok(end)) = (u32::try_from(name.start), u32::try_from(name.end)) else {
            return Added::No;
        };
        let Some(text) = file.get(name) else {
            return Added::No;
        };
        let place = match self.find(file, text, self.hasher.hash(text)) {
            Ok(_) => return Added::Twice,
            Err(place) => place,
        };
        let Ok(number) = u32::try_from(self.list.len()) else {
            return Added::No;
        };
        if !self.places.insert(place, number) {
            return Added::No;
        }
        self.list.push(Entry { start, end, item });
        Added::Yes
    }

    /// The place of a name in the list, or else where it belongs.
    fn find(&self, file: &[u8], name: &[u8], hash: u64) -> Result<u32, super::name::Place> {
        self.places
            .find(hash, |number| self.is_named(file, number as usize, name))
    }

    /// For each hash the only export that may have a name with it, if another one was not in its way: its place plus
    /// one, or 0. It is for [`Exports::is_named`] to say whether it has the name.
    ///
    /// A table of many names does not fit into the processor's caches, so a look at it waits for slot, entry and name,
    /// each in turn. Here they are read for all hashes before the next kind is, so that they are fetched side by side.
    pub(super) fn candidates(&self, file: &[u8], hashes: &[u64], places: &mut [u32]) {
        for (place, hash) in places.iter_mut().zip(hashes) {
            *place = self.places.first(*hash);
        }
        let mut starts = [0; AT_ONCE];
        let mut bytes = 0;
        for places in places.chunks(AT_ONCE) {
            for (start, place) in starts.iter_mut().zip(places) {
                let entry = (*place as usize).checked_sub(1);
                let entry = entry.and_then(|place| self.list.get(place));
                *start = entry.map_or(0, |entry| entry.start as usize);
            }
            for start in starts.iter().take(places.len()) {
                bytes ^= file.get(*start).copied().unwrap_or(0);
            }
        }
        std::hint::black_box(bytes);
    }

    /// Whether the export at a place has this name.
    #[inline]
    pub(super) fn is_named(&self, file: &[u8], place: usize, name: &[u8]) -> bool {
        self.name(file, place)
            .is_some_and(|found| same(found, name))
    }

    fn name<'a>(&self, file: &'a [u8], place: usize) -> Option<&'a [u8]> {
        let entry = self.list.get(place)?;
        file.get(entry.start as usize..entry.end as usize)
    }

    /// The place of a name in the list. O(1).
    pub(super) fn place(&self, file: &[u8], name: Name<'_>) -> Option<usize> {
        let place = self.find(file, name.text.as_bytes(), name.hash).ok()?;
        usize::try_from(place).ok()
    }

    /// The item at a place of the list.
    pub(super) fn item(&self, place: usize) -> Option<ExportItem> {
        self.list.get(place).map(|entry| entry.item)
    }

    /// The export at a place of the list.
    pub(super) fn get<'a>(&self, file: &'a [u8], place: usize) -> Option<Export<'a>> {
        Some(Export {
            name: std::str::from_utf8(self.name(file, place)?).ok()?,
            item: self.item(place)?,
        })
    }

    /// The bytes of the names in order.
    pub(super) fn names<'a>(&'a self, file: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        (0..self.list.len()).map(|place| self.name(file, place).unwrap_or_default())
    }
}

/// Whether two names are the same. (They are short: what a call of the system's `memcmp` costs is more than this.)
#[inline]
fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let (ones, rest) = one.as_chunks::<8>();
    let (others, other_rest) = other.as_chunks::<8>();
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    ones.iter()
        .zip(others)
        .all(|(one, other)| word(one) == word(other))
        && match (one.last_chunk::<8>(), other.last_chunk::<8>()) {
            (Some(one), Some(other)) => word(one) == word(other),
            _ => rest == other_rest,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_if_all_their_bytes_are() {
        for length in 0..40 {
            let one: Vec<u8> = (0..length).collect();
            assert!(same(&one, &one.clone()));
            for place in 0..one.len() {
                let mut other = one.clone();
                other[place] ^= 0x80;
                assert!(!same(&one, &other), "{place} of {length}");
            }
            let longer: Vec<u8> = (0..=length).collect();
            assert!(!same(&one, &longer));
        }
    }

    #[test]
    fn names_are_found_and_none_is_taken_twice() {
        let file: String = (0..5_000).map(|n| format!("{n:05}")).collect();
        let file = file.as_bytes();
        let hasher = NameHasher::default();
        let mut exports = Exports::new(hasher);
        assert_eq!(exports.place(file, hasher.name("00000")), None);
        assert!(exports.reserve(4_000));
        for n in 0..4_000_u32 {
            let start = n as usize * 5;
            let item = ExportItem::Func(n);
            assert_eq!(exports.add(file, start..start + 5, item), Added::Yes);
        }
        assert_eq!(exports.len(), 4_000);
        for n in 0..4_000 {
            let name = format!("{n:05}");
            let place = exports.place(file, hasher.name(&name)).unwrap();
            let export = exports.get(file, place).unwrap();
            assert_eq!((place, export.name), (n as usize, &*name));
            assert_eq!(export.item, ExportItem::Func(n));
        }
        let hashes = [7, 3_999, 4_000].map(|n| hasher.hash(format!("{n:05}").as_bytes()));
        let mut places = [9; 3];
        exports.candidates(file, &hashes, &mut places);
        for (place, n) in places.into_iter().zip([7, 3_999, 4_000]) {
            // Another name may be in its slot, but no other name is taken for it.
            let found = (place as usize).checked_sub(1);
            let name = format!("{n:05}");
            let is = found.is_some_and(|found| exports.is_named(file, found, name.as_bytes()));
            assert!(!is || found == Some(n), "{n} at {found:?}");
        }
        assert_eq!(exports.place(file, hasher.name("04000")), None);
        assert_eq!(exports.add(file, 10..15, ExportItem::Func(9)), Added::Twice);
        let outside = file.len() - 1..file.len() + 1;
        assert_eq!(exports.add(file, outside, ExportItem::Func(9)), Added::No);
        assert_eq!(exports.len(), 4_000);
    }
}
