//! Names of symbols with their hashes, and tables of names.
//!
//! A linker compares names all day: every import of every library with the exports of every object in its scope. So
//! each name is hashed once, when its module is parsed, with keys that all modules of an engine share; from then on a
//! look into any table of names is one probe, and only names whose hashes agree are compared as text.
#![forbid(unsafe_code)]

use std::hash::{BuildHasher, Hasher, RandomState};

/// A name with the hash that all modules of its engine know it by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name<'a> {
    pub text: &'a str,
    pub hash: u64,
}

/// Hashes names with secret keys: guests choose names, and must not be able to choose some that collide.
///
/// It folds 128-bit products, as wyhash and its kin do: a few nanoseconds for any name, where the hash of the standard
/// library takes one for each byte or two. It withstands guests that do not see hashes, and none does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameHasher {
    keys: [u64; 4],
}

impl Default for NameHasher {
    fn default() -> NameHasher {
        let random = RandomState::new();
        NameHasher {
            keys: [0, 1, 2, 3].map(|number: u64| random.hash_one(number)),
        }
    }
}

impl NameHasher {
    /// The hash of a name.
    #[inline]
    pub fn hash(&self, name: &[u8]) -> u64 {
        let [first, second, third, fourth] = self.keys;
        let mut state = first;
        let (blocks, rest) = name.as_chunks::<16>();
        for block in blocks {
            state = fold(low(block) ^ state, high(block) ^ second);
        }
        if !rest.is_empty() {
            // What is left is read from the end, together with bytes that were read already if there are any.
            let (a, b) = match name.last_chunk::<16>() {
                Some(last) => (low(last), high(last)),
                None => short(name),
            };
            state = fold(a ^ state, b ^ second);
        }
        // The length last, where no byte of a name can make up for it.
        let length = u64::try_from(name.len()).unwrap_or(u64::MAX);
        fold(state ^ third, fourth ^ length)
    }

    /// A name with its hash.
    #[inline]
    pub fn name<'a>(&self, text: &'a str) -> Name<'a> {
        Name {
            text,
            hash: self.hash(text.as_bytes()),
        }
    }
}

/// All bytes of a name of less than 16, in two words; different ones for different names of one length.
fn short(name: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        (u64::from(first), u64::from(last))
    } else {
        let bytes = name
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte));
        (bytes, 0)
    }
}

fn low(block: &[u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *block;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn high(block: &[u8; 16]) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *block;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Both halves of a product, folded into one word.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// For maps whose keys are such hashes, or numbers that were hashed already: takes the word that is written as it is.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

impl BuildHasher for Hashed {
    type Hasher = Hashed;

    fn build_hasher(&self) -> Hashed {
        Hashed(0)
    }
}

/// A hash table of numbered names with open addressing. The names themselves are kept elsewhere: whoever asks says
/// whether a number is that of the name that is looked for.
#[derive(Default)]
pub(crate) struct NameTable {
    /// The number plus one (0: empty), and the upper half of the name's hash. As many as a power of two, at least
    /// twice as many as there are names.
    slots: Vec<(u32, u32)>,
    len: usize,
}

impl NameTable {
    /// Makes room for so many names in an empty table. False: there is no memory for them, or they are too many.
    pub fn reserve(&mut self, names: usize) -> bool {
        debug_assert!(self.len == 0, "names are not entered again");
        let slots = names
            .checked_mul(2)
            .and_then(usize::checked_next_power_of_two);
        let Some(slots) = slots.filter(|_| u32::try_from(names).is_ok()) else {
            return false;
        };
        if slots <= self.slots.len() {
            return true;
        }
        self.slots = Vec::new();
        if self.slots.try_reserve_exact(slots).is_err() {
            return false;
        }
        self.slots.resize(slots, (0, 0));
        true
    }

    /// Makes room for twice as many names; `hash` tells that of a number. False: there is no memory for them.
    pub fn grow(&mut self, hash: impl Fn(u32) -> u64) -> bool {
        let mut larger = NameTable::default();
        if !larger.reserve(self.len.saturating_mul(2).max(LEAST_GROWTH)) {
            return false;
        }
        for (number, _) in &self.slots {
            let Some(number) = number.checked_sub(1) else {
                continue;
            };
            let entered = match larger.find(hash(number), |_| false) {
                Err(place) => larger.insert(place, number),
                Ok(_) => false,
            };
            if !entered {
                return false;
            }
        }
        *self = larger;
        true
    }

    /// Whether there is room for one more name.
    pub fn has_room(&self) -> bool {
        self.slots.len() / 2 > self.len
    }

    /// The number of a name, or else where it belongs.
    #[inline]
    pub fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Result<u32, Place> {
        let mask = self.slots.len().wrapping_sub(1);
        let tag = (hash >> 32) as u32;
        let mut place = hash as usize & mask;
        while let Some((number, found)) = self.slots.get(place) {
            let Some(number) = number.checked_sub(1) else {
                break;
            };
            if *found == tag && is(number) {
                return Ok(number);
            }
            // At least half of the slots are empty.
            place = (place + 1) & mask;
        }
        Err(Place { place, tag })
    }

    /// The first number that [`NameTable::find`] would ask about, plus one, if the upper half of the hash agrees; else 0.
    #[inline]
    pub fn first(&self, hash: u64) -> u32 {
        let mask = self.slots.len().wrapping_sub(1);
        match self.slots.get(hash as usize & mask) {
            Some((number, tag)) if *tag == (hash >> 32) as u32 => *number,
            _ => 0,
        }
    }

    /// Enters a name that was not found, where there is room. False: there is none.
    pub fn insert(&mut self, place: Place, number: u32) -> bool {
        if !self.has_room() {
            return false;
        }
        let (Some(slot), Some(number)) = (self.slots.get_mut(place.place), number.checked_add(1))
        else {
            return false;
        };
        *slot = (number, place.tag);
        self.len += 1;
        true
    }
}

/// Names that a table has room for when it has grown first.
const LEAST_GROWTH: usize = 64;

/// Where a name belongs in a [`NameTable`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    place: usize,
    tag: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_byte_and_the_length_of_a_name_count() {
        let hasher = NameHasher::default();
        let mut seen = HashSet::new();
        for length in 0..70 {
            let mut name = vec![0; length];
            assert!(seen.insert(hasher.hash(&name)), "{length} zeros");
            for place in 0..length {
                for value in [1, 0x80, 0xff] {
                    if let Some(byte) = name.get_mut(place) {
                        *byte = value;
                    }
                    assert!(
                        seen.insert(hasher.hash(&name)),
                        "{value} at {place} of {length}"
                    );
                }
                if let Some(byte) = name.get_mut(place) {
                    *byte = 0;
                }
            }
        }
        assert_eq!(hasher.hash(b"a name"), hasher.name("a name").hash);
    }

    #[test]
    fn hashes_of_similar_names_are_spread_evenly_under_any_keys() {
        for _ in 0..8 {
            let hasher = NameHasher::default();
            for suffix in ["", "_of_a_library_with_a_rather_long_name"] {
                let (mut low, mut high) = (vec![0_u32; 256], vec![0_u32; 256]);
                for number in 0..25_600 {
                    let hash = hasher.hash(format!("symbol{number}{suffix}").as_bytes());
                    low[hash as usize & 255] += 1;
                    high[(hash >> 56) as usize] += 1;
                }
                // 100 in each; the standard deviation is 10.
                for counts in [low, high] {
                    assert!(
                        counts.iter().all(|count| (30..200).contains(count)),
                        "{counts:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn engines_hash_differently() {
        let hashes = [(); 2].map(|()| NameHasher::default().hash(b"malloc"));
        assert_ne!(hashes[0], hashes[1]);
    }

    #[test]
    fn numbers_are_found_by_their_names_also_if_hashes_collide() {
        let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let mut table = NameTable::default();
        assert!(table.find(7, |_| true).is_err());
        assert!(table.reserve(100));
        // All have the same hash.
        let is = |text: &str| {
            let names = &names;
            let text = text.to_string();
            move |number: u32| names[number as usize] == text
        };
        for (number, name) in (0..).zip(&names) {
            let place = table.find(u64::MAX, is(name)).unwrap_err();
            assert!(table.insert(place, number));
        }
        for (number, name) in (0..).zip(&names) {
            assert_eq!(table.find(u64::MAX, is(name)).unwrap(), number);
        }
        assert!(table.find(u64::MAX, is("100")).is_err());
        assert!(table.find(0, |_| true).is_err());
    }

    #[test]
    fn a_table_that_grew_knows_all_names() {
        let hasher = NameHasher::default();
        let hash = |number: u32| hasher.hash(&number.to_le_bytes());
        let mut table = NameTable::default();
        for number in 0..1000 {
            if !table.has_room() {
                assert!(table.grow(hash));
            }
            let place = table.find(hash(number), |known| known == number);
            assert!(table.insert(place.unwrap_err(), number));
        }
        for number in 0..1000 {
            let found = table.find(hash(number), |known| known == number);
            assert_eq!(found.unwrap(), number);
        }
        assert!(table.find(hash(1000), |known| known == 1000).is_err());
    }

    #[test]
    fn a_full_table_takes_nothing_more() {
        let mut table = NameTable::default();
        let nowhere = Place { place: 0, tag: 0 };
        assert!(!table.has_room() && !table.insert(nowhere, 1));
        assert!(table.reserve(2));
        for number in 0..2 {
            let place = table.find(number, |_| false).unwrap_err();
            assert!(table.insert(place, number as u32));
        }
        let place = table.find(9, |_| false).unwrap_err();
        assert!(!table.insert(place, 9));
        assert!(!NameTable::default().reserve(usize::MAX / 4));
    }
}
