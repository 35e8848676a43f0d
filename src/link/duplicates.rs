//! Names that several objects define, told to whoever traces bindings: by rule R3 the first definition wins without a
//! word, which is right and still the first thing to look for when a program uses the wrong one.
#![forbid(unsafe_code)]

use super::got::CellTarget;
use super::load::Load;
use super::object::{Definition, ObjectId};
use super::plan::{Binding, NewObject};
use super::state::View;
use super::trace::TraceTopics;
use std::collections::BTreeSet;

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
            for object in &self.new {
                for (name, used) in bound(object) {
                    let others = others(&view, object.id, name, used);
                    if !others.is_empty() {
                        lines.insert(format!(
                            "{name}: using {}, also in {}",
                            view.name(used.object),
                            others.join(", ")
                        ));
                    }
                }
            }
            for name in ONE_PER_PROCESS {
                let defining: Vec<&str> = state
                    .objects
                    .keys()
                    .filter(|id| view.find_in([**id], name).is_some())
                    .map(|id| view.name(*id))
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
        CellTarget::Definition(definition) => {
            Some((object.symbols.import_name(cell.import)?, definition))
        }
        _ => None,
    });
    functions.chain(cells)
}

/// The other objects in the scope of `importer` that define a name.
fn others<'a>(view: &View<'a>, importer: ObjectId, name: &str, used: Definition) -> Vec<&'a str> {
    let mut seen = BTreeSet::from([used.object]);
    view.scope(super::profile::SymbolOrder::Elf, Some(importer))
        .filter(|id| seen.insert(*id) && view.find_in([*id], name).is_some())
        .map(|id| view.name(id))
        .collect()
}
