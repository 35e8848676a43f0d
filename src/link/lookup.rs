//! Where the names of one load are looked for, without looking into every object for every name.
//!
//! All new objects of a load share their scope (rule R2): the global one and the local one of the object that was asked
//! for. So a name is looked for once for all of them. Small scopes are searched object by object. When that has cost
//! as many looks as the scope has symbols, all its symbols are put into one index, after which every name takes one
//! look: the work of a load is proportional to the symbols of its scope and the imports of its files, whatever their
//! number.
#![forbid(unsafe_code)]

use super::object::{Definition, ObjectId};
use super::symbols::SymbolTable;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Scopes of so many objects are simply searched.
const SMALL: usize = 4;

/// The scope of a load.
#[derive(Default)]
pub(super) struct Lookup {
    /// The objects in order, each once.
    tables: Vec<(ObjectId, Arc<SymbolTable>)>,
    /// What was found before; everything there is, once `complete`.
    known: HashMap<Box<str>, Option<Definition>>,
    complete: bool,
    /// Looks into objects so far.
    looks: usize,
    /// Symbols that all objects may define.
    symbols: usize,
}

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
    pub fn find(&mut self, name: &str) -> Option<Definition> {
        if self.tables.len() <= SMALL {
            return self.search(name);
        }
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        if self.complete {
            return None;
        }
        if self.looks > self.symbols.max(self.tables.len()) {
            self.index();
            return self.known.get(name).copied().flatten();
        }
        self.looks = self.looks.saturating_add(self.tables.len());
        let found = self.search(name);
        self.known.insert(name.into(), found);
        found
    }

    /// What the next look may cost, in units of a search in one object.
    pub fn next_cost(&self) -> u64 {
        let cost = match self.complete {
            true => 1,
            false => self.tables.len(),
        };
        u64::try_from(cost).unwrap_or(u64::MAX)
    }

    fn search(&self, name: &str) -> Option<Definition> {
        self.tables.iter().find_map(|(object, table)| {
            Some(Definition {
                object: *object,
                symbol: table.lookup(name)?,
            })
        })
    }

    /// Puts all symbols of all objects into `known`.
    fn index(&mut self) {
        for (object, table) in &self.tables {
            for (name, symbol) in table.names() {
                let definition = Definition {
                    object: *object,
                    symbol,
                };
                if !self.known.contains_key(name) {
                    self.known.insert(name.into(), Some(definition));
                }
            }
        }
        self.complete = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;
    use crate::module::Module;

    fn object(number: u32, exports: &[String]) -> (ObjectId, Arc<SymbolTable>) {
        let exports: String = exports
            .iter()
            .map(|name| format!("(func (export \"{name}\"))"))
            .collect();
        let bytes = wat::parse_str(format!("(module {exports})")).unwrap();
        let module = Module::new(&Engine::default(), &bytes).unwrap();
        (
            ObjectId(number),
            Arc::new(SymbolTable::new(&module, false).0),
        )
    }

    #[test]
    fn the_first_object_wins_before_and_after_the_index_is_made() {
        let objects: Vec<_> = (0..20)
            .map(|number| {
                object(
                    number,
                    &[format!("own{number}"), format!("pair{}", number / 2)],
                )
            })
            .collect();
        // An object that occurs twice counts at its first place.
        let mut lookup = Lookup::new(objects.iter().chain(&objects).cloned());
        for round in 0..3 {
            for number in 0..20 {
                let own = lookup.find(&format!("own{number}")).unwrap();
                assert_eq!(own.object, ObjectId(number), "round {round}");
                let pair = lookup.find(&format!("pair{}", number / 2)).unwrap();
                assert_eq!(pair.object, ObjectId(number / 2 * 2), "round {round}");
                assert!(lookup.find(&format!("none{round}{number}")).is_none());
            }
        }
        assert!(lookup.complete);
        // 40 symbols and 20 objects: no more looks than symbols and one search.
        assert!(lookup.looks <= 60, "{}", lookup.looks);
    }
}
