//! What the rules say about a random program, in few words and without a look at the linker: which definition each
//! reference is bound to, what is loaded, and what is global.

use super::generate::{Kind, Library, SYMBOLS};
use std::collections::{BTreeMap, BTreeSet};

/// A library as it was loaded once: its number, and which of its loads. Number 0 is the main module.
pub type Copy = (usize, usize);

/// What a reference is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    To(Copy),
    /// Null; a call is a trap for ever.
    Weak,
    /// A call looks again.
    NotYet,
}

/// What the model knows of a loaded library.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub load: usize,
    pub opens: usize,
    pub stays: bool,
    /// What each wanted symbol is bound to.
    pub calls: BTreeMap<usize, Bound>,
    pub pointers: BTreeMap<usize, Bound>,
    pub data: BTreeMap<usize, Bound>,
    /// The root that brought it in, with everything that needs, breadth-first.
    scope: Vec<Copy>,
}

/// How a library is opened.
#[derive(Clone, Copy, Debug)]
pub struct Flags {
    pub global: bool,
    pub lazy: bool,
    pub noload: bool,
    pub nodelete: bool,
}

pub struct Model {
    pub libraries: Vec<Library>,
    pub loaded: BTreeMap<usize, Loaded>,
    pub global: Vec<usize>,
    loads: usize,
}

impl Model {
    /// The program at its start, or `None` if it cannot start. `preloaded` come before what the main module needs.
    pub fn start(libraries: Vec<Library>, preloaded: &[usize], bind_now: bool) -> Option<Model> {
        let mut model = Model {
            libraries,
            loaded: BTreeMap::new(),
            global: Vec::new(),
            loads: 0,
        };
        let mut needed = preloaded.to_vec();
        needed.append(&mut model.libraries[0].needed);
        model.libraries[0].needed = needed;
        let flags = Flags {
            global: true,
            lazy: !bind_now,
            noload: false,
            nodelete: false,
        };
        if !model.load(0, flags) {
            return None;
        }
        for loaded in model.loaded.values_mut() {
            loaded.stays = true;
        }
        Some(model)
    }

    pub fn closure(&self, root: usize) -> Vec<usize> {
        let mut order = vec![root];
        let mut next = 0;
        while next < order.len() {
            for needed in &self.libraries[order[next]].needed {
                if !order.contains(needed) {
                    order.push(*needed);
                }
            }
            next += 1;
        }
        order
    }

    /// The first library of these that defines a symbol, and as what.
    pub fn first(&self, order: &[usize], symbol: usize) -> Option<(usize, Kind)> {
        order
            .iter()
            .find_map(|library| Some((*library, self.libraries[*library].defines[symbol]?)))
    }

    fn copy(&self, library: usize) -> Copy {
        (library, self.loaded[&library].load)
    }

    /// Whether the library can be opened; it is open then.
    pub fn open(&mut self, root: usize, flags: Flags) -> bool {
        if !self.loaded.contains_key(&root) && (flags.noload || !self.load(root, flags)) {
            return false;
        }
        if flags.global {
            for library in self.closure(root) {
                if !self.global.contains(&library) {
                    self.global.push(library);
                }
            }
        }
        let loaded = self.loaded.get_mut(&root).unwrap();
        loaded.opens += 1;
        loaded.stays |= flags.nodelete;
        true
    }

    /// Loads a library with everything that it needs, or nothing.
    fn load(&mut self, root: usize, flags: Flags) -> bool {
        let scope = self.closure(root);
        let new: Vec<usize> = scope
            .iter()
            .copied()
            .filter(|library| !self.loaded.contains_key(library))
            .collect();
        let mut order = self.global.clone();
        order.extend(&scope);
        let first_load = self.loads;
        let load_of = |library: usize| match self.loaded.get(&library) {
            Some(loaded) => loaded.load,
            None => first_load + new.iter().position(|other| *other == library).unwrap(),
        };
        let mut added = BTreeMap::new();
        for library in &new {
            let mut loaded = Loaded {
                load: load_of(*library),
                scope: scope
                    .iter()
                    .map(|other| (*other, load_of(*other)))
                    .collect(),
                ..Loaded::default()
            };
            let wants = &self.libraries[*library];
            for symbol in 0..SYMBOLS {
                let found = self.first(&order, symbol);
                let to = |wanted: Kind| match found {
                    Some((definer, kind)) if kind == wanted => {
                        Some(Ok(Bound::To((definer, load_of(definer)))))
                    }
                    Some(_) => Some(Err(())),
                    None => None,
                };
                if wants.calls[symbol] {
                    let bound = match to(Kind::Function) {
                        Some(Ok(bound)) => bound,
                        None if wants.weak[symbol] => Bound::Weak,
                        _ if flags.lazy => Bound::NotYet,
                        _ => return false,
                    };
                    loaded.calls.insert(symbol, bound);
                }
                for (wanted, kind) in [
                    (wants.pointers[symbol], Kind::Function),
                    (wants.data[symbol], Kind::Data),
                ] {
                    if !wanted {
                        continue;
                    }
                    let bound = match to(kind) {
                        Some(Ok(bound)) => bound,
                        None if wants.weak[symbol] => Bound::Weak,
                        _ => return false,
                    };
                    match kind {
                        Kind::Function => loaded.pointers.insert(symbol, bound),
                        Kind::Data => loaded.data.insert(symbol, bound),
                    };
                }
            }
            added.insert(*library, loaded);
        }
        self.loads += new.len();
        self.loaded.extend(added);
        if flags.global {
            for library in scope {
                if !self.global.contains(&library) {
                    self.global.push(library);
                }
            }
        }
        true
    }

    /// A call of a wanted symbol: what runs, if anything.
    pub fn call(&mut self, library: usize, symbol: usize) -> Option<Copy> {
        match self.loaded[&library].calls[&symbol] {
            Bound::To(copy) => Some(copy),
            Bound::Weak => None,
            Bound::NotYet => {
                let local = self.loaded[&library].scope.iter();
                let alive = local.filter(|(other, load)| {
                    self.loaded
                        .get(other)
                        .is_some_and(|loaded| loaded.load == *load)
                });
                let mut order = self.global.clone();
                order.extend(alive.map(|(other, _)| *other));
                match self.first(&order, symbol) {
                    Some((definer, Kind::Function)) => {
                        let copy = self.copy(definer);
                        let loaded = self.loaded.get_mut(&library).unwrap();
                        loaded.calls.insert(symbol, Bound::To(copy));
                        Some(copy)
                    }
                    _ => None,
                }
            }
        }
    }

    pub fn close(&mut self, root: usize) {
        if root == 0 {
            return;
        }
        let loaded = self.loaded.get_mut(&root).unwrap();
        loaded.opens -= 1;
        if loaded.opens > 0 {
            return;
        }
        let mut kept = BTreeSet::new();
        let mut open: Vec<usize> = self
            .loaded
            .iter()
            .filter(|(_, loaded)| loaded.stays || loaded.opens > 0)
            .map(|(number, _)| *number)
            .collect();
        while let Some(number) = open.pop() {
            if !kept.insert(number) {
                continue;
            }
            open.extend(&self.libraries[number].needed);
            let loaded = &self.loaded[&number];
            let bound = loaded
                .calls
                .values()
                .chain(loaded.pointers.values())
                .chain(loaded.data.values());
            open.extend(bound.filter_map(|bound| match bound {
                Bound::To((definer, _)) => Some(*definer),
                _ => None,
            }));
        }
        self.loaded.retain(|number, _| kept.contains(number));
        self.global.retain(|number| kept.contains(number));
    }
}
