//! Where the names of one load are looked for, without looking into every object for every name.
//!
//! All new objects of a load share their scope (rule R2): the global one and the local one of the object that was asked
//! for. Small scopes are searched object by object; a look is one probe of a hash table, because names bring their
//! hashes along. When that has cost as many looks as the scope has symbols, all its symbols are put into one index,
//! after which every name takes one look: the work of a load is proportional to the symbols of its scope and the imports
//! of its files, whatever their number.
#![forbid(unsafe_code)]

use super::object::{Definition, ObjectId};
use super::symbols::SymbolTable;
use crate::module::{Hashed, Name};
use std::cell::{Cell, OnceCell};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Scopes of so many objects are simply searched.
const SMALL: usize = 4;

/// The scope of a load.
#[derive(Default)]
pub(super) struct Lookup {
    /// The objects in order, each once.
    tables: Vec<(ObjectId, Arc<SymbolTable>)>,
    /// The first object that defines a name, by the name's hash; of names with the same hash only one is here.
    index: OnceCell<HashMap<u64, usize, Hashed>>,
    /// Looks into objects so far.
    looks: Cell<usize>,
    /// Symbols that all objects may define.
    symbols: usize,
}

/// A definition, and the symbols of the object that has it.
pub(super) type Found<'a> = (Definition, &'a SymbolTable);

impl Lookup {
    /// Looks in these objects in this order.
    pub fn new(objects: impl IntoIterator<Item = (ObjectId, Arc<SymbolTable>)>) -> Lookup {
        let mut seen = HashSet::new();
        let tables: Vec<_> = objects
            .into_iter()
            .filter(|(id, _)| seen.insert(*id))
            .collect();
        Lookup {
            symbols: tables
                .iter()
                .map(|(_, table)| table.module().0.exports().len())
                .sum(),
            tables,
            ..Lookup::default()
        }
    }

    /// The first definition of a name.
    #[inline]
    pub fn find(&self, name: Name<'_>) -> Option<Found<'_>> {
        if self.tables.len() <= SMALL {
            return self.search(name);
        }
        let index = match self.index.get() {
            Some(index) => index,
            None if self.looks.get() > self.symbols.max(self.tables.len()) => {
                self.index.get_or_init(|| self.make_index())
            }
            None => {
                let looks = self.looks.get().saturating_add(self.tables.len());
                self.looks.set(looks);
                return self.search(name);
            }
        };
        let table = self.tables.get(*index.get(&name.hash)?)?;
        // Another name with this hash may be the one in the index.
        look(table, name).or_else(|| self.search(name))
    }

    /// The object that is looked into first.
    pub fn first(&self) -> Option<(ObjectId, &SymbolTable)> {
        let (object, table) = self.tables.first()?;
        Some((*object, table))
    }

    /// What the next look may cost, in units of a search in one object.
    pub fn next_cost(&self) -> u64 {
        let cost = match self.index.get() {
            Some(_) => 1,
            None => self.tables.len(),
        };
        u64::try_from(cost).unwrap_or(u64::MAX)
    }

    fn search(&self, name: Name<'_>) -> Option<Found<'_>> {
        self.tables.iter().find_map(|table| look(table, name))
    }

    /// All symbols of all objects.
    fn make_index(&self) -> HashMap<u64, usize, Hashed> {
        let mut index = HashMap::with_capacity_and_hasher(self.symbols, Hashed::default());
        for (place, (_, table)) in self.tables.iter().enumerate() {
            for (name, _) in table.definitions() {
                index.entry(name.hash).or_insert(place);
            }
        }
        index
    }
}

fn look<'a>(table: &'a (ObjectId, Arc<SymbolTable>), name: Name<'_>) -> Option<Found<'a>> {
    let definition = Definition {
        object: table.0,
        symbol: table.1.find(name)?,
    };
    Some((definition, &table.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;
    use crate::module::Module;

    fn object(engine: &Engine, number: u32, exports: &[String]) -> (ObjectId, Arc<SymbolTable>) {
        let exports: String = exports
            .iter()
            .map(|name| format!("(func (export \"{name}\"))"))
            .collect();
        let bytes = wat::parse_str(format!("(module {exports})")).unwrap();
        let module = Module::new(engine, &bytes).unwrap();
        (
            ObjectId(number),
            Arc::new(SymbolTable::new(&module, false).0),
        )
    }

    #[test]
    fn the_first_object_wins_before_and_after_the_index_is_made() {
        let engine = Engine::default();
        let objects: Vec<_> = (0..20)
            .map(|number| {
                object(
                    &engine,
                    number,
                    &[format!("own{number}"), format!("pair{}", number / 2)],
                )
            })
            .collect();
        // An object that occurs twice counts at its first place.
        let lookup = Lookup::new(objects.iter().chain(&objects).cloned());
        let find = |name: &str| {
            let name = objects[0].1.name(name);
            lookup.find(name).map(|(definition, _)| definition)
        };
        for round in 0..3 {
            for number in 0..20 {
                let own = find(&format!("own{number}")).unwrap();
                assert_eq!(own.object, ObjectId(number), "round {round}");
                let pair = find(&format!("pair{}", number / 2)).unwrap();
                assert_eq!(pair.object, ObjectId(number / 2 * 2), "round {round}");
                assert!(find(&format!("none{round}{number}")).is_none());
            }
        }
        assert!(lookup.index.get().is_some());
        // 40 symbols and 20 objects: no more looks than symbols and one search.
        assert!(lookup.looks.get() <= 60, "{}", lookup.looks.get());
    }
}
