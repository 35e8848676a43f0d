//! Functions that were undefined when their importer was loaded: looked for at their first call, in the scope of that
//! moment (rules B2, B4, R7, R9).
#![forbid(unsafe_code)]

use super::bind::signature_mismatch;
use super::object::{Definition, ObjectId};
use super::plan::Undefined;
use super::process::Process;
use super::state::View;
use super::symbols::Symbol;
use super::trace::TraceTopics;
use crate::error::{Error, Result};
use crate::module::FuncType;
use crate::runtime::StoreContextMut;
use crate::runtime::deferred::Found;
use crate::shown::shown;
use crate::trap::{Trap, TrapCode};
use std::sync::atomic::Ordering::Relaxed;

impl<T: 'static> Process<T> {
    /// The function that `importer` wants now, or a trap that says what is missing and who asked.
    pub(crate) fn resolve_late(
        &self,
        store: &mut StoreContextMut<'_, T>,
        importer: ObjectId,
        import: (&str, &str),
        ty: &FuncType,
        why: &Undefined,
    ) -> Result<Found> {
        let (from, name) = import;
        let (found, asker) = {
            let state = self.state();
            let view = View::loaded(&state);
            let found = match why {
                Undefined::Weak => None,
                Undefined::Missing | Undefined::Mismatch(_) => {
                    view.find(self.0.profile.symbol_order, Some(importer), name)
                }
            };
            // The form of the definition that has the importer's type.
            let found = found.map(|found| {
                let fits = |symbol| match (symbol, view.symbols(found.object)) {
                    (Symbol::Function { func, .. }, Some(symbols)) => {
                        symbols.func_type(func) == Some(ty)
                    }
                    _ => false,
                };
                let split = view
                    .symbols(found.object)
                    .and_then(|symbols| symbols.split_form(name));
                match split {
                    Some(symbol) if !fits(found.symbol) && fits(symbol) => {
                        Definition { symbol, ..found }
                    }
                    _ => found,
                }
            });
            let provider = found.map(|found| (found, shown(view.name(found.object)).to_string()));
            (provider, shown(view.name(importer)).to_string())
        };
        let trap = |text: String| {
            Err(Error::from(
                Trap::new(TrapCode::UnresolvedFunction).with_detail(text),
            ))
        };
        if matches!(why, Undefined::Weak) {
            return trap(format!(
                "call of unresolved weak symbol `{}`: {ty}, called by `{asker}`",
                shown(name)
            ));
        }
        if let Some((found, provider)) = found {
            match self.definition_func(store, found)? {
                Some(func) if func.ty(&*store) == *ty => {
                    self.0.counters.late.fetch_add(1, Relaxed);
                    self.0.trace.line(
                        TraceTopics::BINDINGS,
                        format_args!(
                            "binding file {asker} [0] to {provider} [0]: normal symbol `{}' (at its first call)",
                            shown(name)
                        ),
                    );
                    let mut state = self.state();
                    // A load that may still fail takes its objects away again, and then nothing may be bound to them.
                    if !state.is_settled(found.object) {
                        return Ok(Found::Once(func));
                    }
                    if let Some(object) = state.objects.get_mut(&importer) {
                        object.captured.insert(found.object);
                    }
                    return Ok(Found::ForGood(func));
                }
                Some(func) => {
                    let defined = func.ty(&*store);
                    let text = signature_mismatch(name, ty, &provider, &defined);
                    return trap(format!("{text}, called by `{asker}`"));
                }
                None => {
                    return trap(format!(
                        "symbol `{}` is called as a function by `{asker}`, but is {} in `{provider}`",
                        shown(name),
                        found.symbol.kind()
                    ));
                }
            }
        }
        let symbol = store.engine().names().name(name);
        if let Some(func) = self.host_function(store, from, symbol, ty) {
            return Ok(Found::ForGood(func));
        }
        let symbol = if from == "env" {
            shown(name).to_string()
        } else {
            format!("{}.{}", shown(from), shown(name))
        };
        let module = {
            let state = self.state();
            let object = state.object(importer);
            object.map(|object| object.symbols.module().clone())
        };
        let hint = self
            .remedy_for_function(module.as_ref(), from, name)
            .map_or_else(String::new, |hint| format!(" ({hint})"));
        trap(format!(
            "external symbol '{symbol}' is missing. perhaps a side module was not linked in? It is wanted as {ty} and called by `{asker}`{hint}"
        ))
    }
}
