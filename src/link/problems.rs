//! What is wrong with a load: all of it at once, each with who wants what, who nearly offers it, and what to do.
//!
//! While a load is planned, [`Problems`] only collects sentences and places. They become [`Problem`]s when the plan is
//! given up or reported: what is near is looked for then, for the first few problems only and within a budget, because
//! what is searched comes from files that may be hostile.
#![forbid(unsafe_code)]

use super::near;
use super::object::ObjectId;
use super::plan::{NewObject, Planner};
use super::state::View;
use super::symbols::Symbol;
use crate::error::{Error, ErrorKind, Result};
use crate::module::{ExternKind, FuncType};
use crate::runtime::StoreContextMut;
use crate::shown::{printable, shortened, shown, shown_list};
use std::collections::HashSet;
use std::fmt::{self, Write};

/// Problems that are listed; the rest is counted.
const MAX_LISTED: usize = 1000;

/// Bytes of text after which problems are only counted.
const MAX_TEXT: usize = 1 << 20;

/// Problems of a failed load for which something near is looked for.
const MAX_EXPLAINED: usize = 8;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A library is nowhere to be found.
    MissingLibrary,
    /// A library was found, but is malformed or no library.
    UnusableLibrary,
    /// Nobody defines a symbol.
    Undefined,
    /// A function is defined with another signature.
    SignatureMismatch,
    /// A symbol is a function here and data there.
    KindMismatch,
    /// Anything else: memory, tables, limits of a module.
    Other,
}

/// What a symbol is wanted as.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SymbolKind {
    /// A function that is called.
    Function,
    /// The address of a function (`GOT.func`).
    FunctionAddress,
    /// The address of data (`GOT.mem`).
    Data,
    /// A global that is not part of the convention.
    Global,
    /// A memory.
    Memory,
    /// A table.
    Table,
}

impl fmt::Display for SymbolKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SymbolKind::Function => "function",
            SymbolKind::FunctionAddress => "address of a function",
            SymbolKind::Data => "data",
            SymbolKind::Global => "global",
            SymbolKind::Memory => "memory",
            SymbolKind::Table => "table",
        })
    }
}

/// A symbol as an object imports it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WantedSymbol {
    /// The import's module: `env`, `GOT.func`, `GOT.mem`, or another.
    pub module: String,
    /// The symbol's name, as the linker knows it (not demangled).
    pub name: String,
    /// What it is wanted as.
    pub kind: SymbolKind,
    /// The signature it is called with.
    pub ty: Option<FuncType>,
}

/// Something that is nearly what is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Near {
    /// The object or file that has it.
    pub provider: String,
    /// Its name there.
    pub name: String,
    /// Its signature, if it is a function.
    pub ty: Option<FuncType>,
    /// In what it is not what is wanted.
    pub why: String,
}

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` has `{}`", shown(&self.provider), shown(&self.name))?;
        if let Some(ty) = &self.ty {
            write!(f, ": {ty}")?;
        }
        write!(f, "  <- {}", self.why)
    }
}

/// One thing that is wrong with a load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// What kind of thing.
    pub kind: ProblemKind,
    /// What is wrong and who is concerned, in one sentence.
    pub text: String,
    /// The symbol, if it is about one.
    pub symbol: Option<WantedSymbol>,
    /// The library's name, if it is about one.
    pub library: Option<String>,
    /// The objects that want the symbol or need the library.
    pub wanted_by: Vec<String>,
    /// Who needs the first of those objects, who needs that one, and so on up to what was asked for; each with its place
    /// in the list of what is needed.
    pub needed_by: Vec<String>,
    /// The object that defines the symbol, but not as it is wanted.
    pub provider: Option<String>,
    /// What is nearly it, best first.
    pub near: Vec<Near>,
    /// Where it was looked for: files for a library, objects for a symbol.
    pub searched: Vec<String>,
    /// What to do.
    pub remedy: String,
    /// The program starts all the same: only a call of the function fails.
    pub only_when_called: bool,
}

impl fmt::Display for Problem {
    /// The sentence, and below it who needs the object that wants it, what is near, where it was looked for, and what
    /// to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        // The sentence about a library says who needs it.
        if self.library.is_none() && !self.needed_by.is_empty() {
            write!(
                f,
                "\n  needed by  {}",
                printable(&self.needed_by.join(", needed by "))
            )?;
        }
        for near in &self.near {
            write!(f, "\n  near       {near}")?;
        }
        if self.library.is_none() && !self.searched.is_empty() {
            write!(f, "\n  searched   {}", shown_list(&self.searched))?;
        }
        if !self.remedy.is_empty() {
            write!(f, "\n  help       {}", self.remedy)?;
        }
        Ok(())
    }
}

/// What a problem is about, as far as the planner knows.
pub(crate) enum About {
    Other,
    /// An import of an object: places of both.
    Import {
        object: usize,
        import: usize,
        only_when_called: bool,
    },
    /// A library, and the place of the object that needs it.
    Library {
        name: String,
        needed_by: Option<usize>,
        searched: Vec<String>,
        missing: bool,
    },
}

/// All problems of a plan.
#[derive(Default)]
pub(crate) struct Problems {
    entries: Vec<(String, About)>,
    bytes: usize,
    more: usize,
    seen: HashSet<String>,
}

impl Problems {
    /// A problem that is only a sentence.
    pub fn add(&mut self, line: String) {
        self.add_about(line, About::Other);
    }

    pub fn add_about(&mut self, line: String, about: About) {
        if self.is_full() {
            self.more += 1;
        } else if self.seen.insert(line.clone()) {
            self.bytes = self.bytes.saturating_add(line.len());
            self.entries.push((line, about));
        }
    }

    /// Whether more problems are only counted.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= MAX_LISTED || self.bytes >= MAX_TEXT
    }

    /// An error that lists the sentences.
    pub fn result(self) -> Result<()> {
        let lines = self.entries.into_iter().map(|(line, _)| line);
        error_of(lines.collect(), self.more)
    }
}

fn error_of(parts: Vec<String>, more: usize) -> Result<()> {
    if parts.is_empty() {
        return Ok(());
    }
    let mut text = parts.join("\n");
    if more > 0 {
        let _ = write!(text, "\nand {more} more problems");
    }
    Err(Error::new(ErrorKind::Link(text)))
}

impl<T: 'static> Planner<'_, T> {
    /// An error that lists all problems so far, the first ones with what is near.
    ///
    /// # Errors
    /// Always one if there are problems; and the guest's fuel or time is used up.
    pub(super) fn give_up(
        &mut self,
        store: &mut StoreContextMut<'_, T>,
        added_global: &[ObjectId],
    ) -> Result<()> {
        let problems = std::mem::take(&mut self.problems);
        if problems.entries.is_empty() {
            return Ok(());
        }
        let more = problems.more;
        let mut entries = problems.entries.into_iter();
        let mut budget = near::BUDGET;
        let mut parts = Vec::new();
        for (line, about) in entries.by_ref().take(MAX_EXPLAINED) {
            let problem = self.explain(line, about, added_global, &mut budget);
            parts.push(problem.to_string());
        }
        let looked_at = u64::try_from(near::BUDGET - budget).unwrap_or(u64::MAX);
        store.pay(looked_at)?;
        parts.extend(entries.map(|(line, _)| line));
        error_of(parts, more)
    }

    /// What was collected, in full, and how many more there are. `added_global`: the global objects of that moment.
    pub(super) fn explain_all(
        &self,
        problems: Problems,
        added_global: &[ObjectId],
        budget: &mut usize,
    ) -> (Vec<Problem>, usize) {
        let explain = |(line, about)| self.explain(line, about, added_global, budget);
        let list = problems.entries.into_iter().map(explain).collect();
        (list, problems.more)
    }

    fn explain(
        &self,
        text: String,
        about: About,
        added_global: &[ObjectId],
        budget: &mut usize,
    ) -> Problem {
        let plain = |kind| Problem {
            kind,
            text: text.clone(),
            symbol: None,
            library: None,
            wanted_by: Vec::new(),
            needed_by: Vec::new(),
            provider: None,
            near: Vec::new(),
            searched: Vec::new(),
            remedy: String::new(),
            only_when_called: false,
        };
        match about {
            About::Other => plain(ProblemKind::Other),
            About::Library {
                name,
                needed_by,
                searched,
                missing,
            } => {
                let needed_by = needed_by.and_then(|place| self.new.get(place));
                Problem {
                    wanted_by: needed_by
                        .iter()
                        .map(|object| shortened(&object.name).into_owned())
                        .collect(),
                    needed_by: needed_by.map_or_else(Vec::new, |object| self.needed_by(object)),
                    remedy: if !missing {
                        "replace the file by a library that is linked with `wasm-ld -shared`".into()
                    } else if searched.is_empty() || !name.contains('/') {
                        format!(
                            "add the directory that has `{}` to the library path",
                            shown(&name)
                        )
                    } else {
                        format!("put the library where `{}` leads to", shown(&name))
                    },
                    library: Some(name),
                    searched,
                    ..plain(if missing {
                        ProblemKind::MissingLibrary
                    } else {
                        ProblemKind::UnusableLibrary
                    })
                }
            }
            About::Import {
                object,
                import,
                only_when_called,
            } => {
                let wanted = self
                    .new
                    .get(object)
                    .and_then(|object| Some((object, wanted_symbol(object, import)?)));
                let Some((importer, wanted)) = wanted else {
                    return plain(ProblemKind::Other);
                };
                Problem {
                    only_when_called,
                    ..self.explain_symbol(plain, importer, wanted, added_global, budget)
                }
            }
        }
    }

    fn explain_symbol(
        &self,
        plain: impl Fn(ProblemKind) -> Problem,
        importer: &NewObject,
        wanted: WantedSymbol,
        added_global: &[ObjectId],
        budget: &mut usize,
    ) -> Problem {
        // The embedder is asked before what the process knows is borrowed.
        let host = &self.process.0.host;
        let offers = host.signature(&wanted.module, &wanted.name);
        let module = importer.symbols.module();
        let known = self
            .process
            .remedy_for_function(Some(module), &wanted.module, &wanted.name);
        let state = self.process.state();
        let view = View {
            state: &state,
            new: &self.new,
            added_global,
        };
        let order = self.process.0.profile.symbol_order;
        let is_symbol = matches!(wanted.module.as_str(), "env" | "GOT.mem" | "GOT.func")
            && !matches!(wanted.kind, SymbolKind::Memory | SymbolKind::Table);
        let found = is_symbol
            .then(|| view.find(order, Some(importer.id), &wanted.name))
            .flatten();
        let mut problem = Problem {
            wanted_by: vec![shortened(&importer.name).into_owned()],
            needed_by: self.needed_by(importer),
            ..plain(match found.map(|found| (found.symbol, wanted.kind)) {
                Some((Symbol::Function { .. }, SymbolKind::Function)) => {
                    ProblemKind::SignatureMismatch
                }
                Some(_) => ProblemKind::KindMismatch,
                None if matches!(wanted.kind, SymbolKind::Memory | SymbolKind::Table) => {
                    ProblemKind::Other
                }
                None => ProblemKind::Undefined,
            })
        };
        match (found, problem.kind) {
            (Some(found), kind) => {
                let provider = view.name(found.object);
                problem.remedy = if kind == ProblemKind::SignatureMismatch {
                    format!(
                        "build `{}` and `{}` with the same declaration of `{}`",
                        shown(&importer.name),
                        shown(provider),
                        shown(&wanted.name)
                    )
                } else {
                    format!(
                        "`{}` has to be the same in both, a function or data: rename one of them",
                        shown(&wanted.name)
                    )
                };
                problem.provider = Some(shortened(provider).into_owned());
            }
            (None, ProblemKind::Undefined) => {
                let mut last = HashSet::new();
                problem.searched = view
                    .scope(order, Some(importer.id))
                    .filter(|object| last.insert(*object))
                    .take(MAX_SEARCHED)
                    .map(|object| shortened(view.name(object)).into_owned())
                    .collect();
                let nearness = near::search(&view, importer.id, &wanted, offers, budget);
                problem.near = nearness.list;
                problem.remedy = match (nearness.remedy, known) {
                    (Some(near), _) => near,
                    (None, Some(known)) => {
                        // Where there is no place for it, the sentence says it in brackets.
                        problem.text = problem.text.replacen(&format!(" ({known})"), "", 1);
                        known
                    }
                    (None, None) => format!(
                        "link the object file that defines `{}`, or load the library that has it",
                        shown(&wanted.name)
                    ),
                };
            }
            _ => {}
        }
        problem.symbol = Some(wanted);
        problem
    }
}

/// Objects that are listed as searched.
const MAX_SEARCHED: usize = 16;

/// Objects of the chain from an object to what was asked for.
const MAX_CHAIN: usize = 8;

impl<T: 'static> Planner<'_, T> {
    /// Who needs an object, up to what was asked for (rule N7).
    fn needed_by(&self, object: &NewObject) -> Vec<String> {
        let mut chain = Vec::new();
        let mut object = object;
        while let Some(by) = object
            .brought_by
            .and_then(|id| self.place(id))
            .and_then(|place| self.new.get(place))
        {
            if chain.len() == MAX_CHAIN {
                chain.push("...".to_string());
                break;
            }
            let place = by
                .info()
                .needed
                .iter()
                .position(|name| *name == object.name);
            let place = place.map_or_else(
                || "preloaded".to_string(),
                |place| format!("needed #{}", place + 1),
            );
            chain.push(format!("`{}` ({place})", shown(&by.name)));
            object = by;
        }
        chain
    }
}

/// What an object imports at a place.
pub(super) fn wanted_symbol(object: &NewObject, import: usize) -> Option<WantedSymbol> {
    let module = &*object.symbols.module().0;
    let import = module.imports.get(import)?;
    let (kind, ty) = match &import.ty {
        ExternKind::Func(ty) => (
            SymbolKind::Function,
            module.types.get(usize::try_from(*ty).ok()?).cloned(),
        ),
        ExternKind::Global(_) => (
            match module.import_module(import) {
                "GOT.mem" => SymbolKind::Data,
                "GOT.func" => SymbolKind::FunctionAddress,
                _ => SymbolKind::Global,
            },
            None,
        ),
        ExternKind::Memory(_) => (SymbolKind::Memory, None),
        ExternKind::Table(_) => (SymbolKind::Table, None),
    };
    Some(WantedSymbol {
        module: module.import_module(import).to_string(),
        name: import.name.to_string(),
        kind,
        ty,
    })
}
