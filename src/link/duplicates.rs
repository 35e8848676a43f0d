//! Names that several objects define, told to whoever traces bindings: by rule R3 the first definition wins without a
//! word, which is right and still the first thing to look for when a program uses the wrong one.
#![forbid(unsafe_code)]

use super::got::CellTarget;
use super::load::Load;
use super::object::{Definition, ObjectId};
use super::plan::{Binding, NewObject};
use super::profile::SymbolOrder;
use super::state::View;
use super::trace::TraceTopics;
use crate::shown::shown;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A process has one of each (rule R13): with two, a block is freed by the wrong allocator, an error number is read from
/// the wrong variable.
const ONE_PER_PROCESS: &[&str] = &["malloc", "__errno_location"];

impl<T: 'static> Load<'_, T> {
    /// Traces `symbol: using A, also in B` for every name that a new object is bound to and that is defined again later
    /// in its scope, and a warning for the parts of a C library that occur twice.
    pub(super) fn trace_duplicates(&self) {
        let trace = &self.process.0.trace;
        if !trace.wants(TraceTopics::BINDINGS) {
            return;
        }
        let mut lines = BTreeSet::new();
        {
            let state = self.process.state();
            let view = View::loaded(&state);
            let used: HashMap<&str, Definition> = self.new.iter().flat_map(bound).collect();
            for (name, others) in others(&view, self.root, &used) {
                let names = others.iter().map(|id| shown(view.name(*id)).to_string());
                let names: Vec<String> = names.collect();
                if let Some(used) = used.get(name) {
                    lines.insert(format!(
                        "{}: using {}, also in {}",
                        shown(name),
                        shown(view.name(used.object)),
                        names.join(", ")
                    ));
                }
            }
            for name in ONE_PER_PROCESS {
                let defines = |id: ObjectId| view.find_in([id], name).is_some();
                if !self.new.iter().any(|object| defines(object.id)) {
                    continue;
                }
                let defining: Vec<String> = state
                    .objects
                    .keys()
                    .filter(|id| defines(**id))
                    .map(|id| shown(view.name(*id)).to_string())
                    .collect();
                if defining.len() > 1 {
                    lines.insert(format!(
                        "warning: `{name}` is defined by {}: a process has one C library",
                        defining.join(", ")
                    ));
                }
            }
        }
        for line in lines {
            trace.line(TraceTopics::BINDINGS, format_args!("{line}"));
        }
    }
}

/// The names that an object's imports are bound by, with their definitions.
fn bound(object: &NewObject) -> impl Iterator<Item = (&str, Definition)> {
    let imports = &object.symbols.module().0.imports;
    let functions =
        object
            .bindings
            .iter()
            .zip(imports)
            .filter_map(|(binding, import)| match binding {
                Binding::Definition(definition) => Some((&*import.name, *definition)),
                _ => None,
            });
    let cells = object.cells.iter().filter_map(|cell| match cell.target {
        CellTarget::Definition(definition) | CellTarget::ExitRegistration { definition, .. } => {
            Some((object.symbols.import_name(cell.import)?, definition))
        }
        _ => None,
    });
    functions.chain(cells)
}

/// The other objects that define the names used, of those in the scope of the new objects, which is the root's.
fn others<'a>(
    view: &View<'a>,
    root: ObjectId,
    used: &HashMap<&'a str, Definition>,
) -> BTreeMap<&'a str, Vec<ObjectId>> {
    let mut found: BTreeMap<&str, Vec<ObjectId>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for id in view.scope(SymbolOrder::Elf, Some(root)) {
        let Some(symbols) = view.symbols(id).filter(|_| seen.insert(id)) else {
            continue;
        };
        let mut add = |name: &'a str| {
            if used.get(name).is_some_and(|used| used.object != id) {
                found.entry(name).or_default().push(id);
            }
        };
        // Whichever list is the shorter one is gone through.
        if used.len() < symbols.module().0.exports().len() {
            let defined = used.keys().filter(|name| symbols.lookup(name).is_some());
            defined.for_each(|name| add(name));
        } else {
            symbols.names().for_each(|(name, _)| add(name));
        }
    }
    found
}
