//! What the imports of one object are bound with: who imports, where names probably are, which cells there are already.
#![forbid(unsafe_code)]

use super::got::CellKind;
use super::object::ObjectId;
use super::plan::{LoadOptions, PlannedCell};
use super::symbols::{SymbolTable, WeakImports};
use crate::module::{FuncType, Module, ModuleInner, Name, NameTable, Place};
use std::cell::{Cell, OnceCell};
use std::collections::HashMap;

/// Imports between two looks whether the load has to stop.
pub(super) const IMPORTS_AT_ONCE: u32 = 64;

/// What one object's imports are bound with.
pub(super) struct Importer<'a> {
    pub id: ObjectId,
    pub name: String,
    pub symbols: &'a SymbolTable,
    /// The object that is looked into first.
    pub first: Option<(ObjectId, &'a SymbolTable)>,
    pub module: &'a Module,
    pub added_global: &'a [ObjectId],
    pub options: LoadOptions,
    /// Which imports are weak, once somebody asked: a definition that is there counts, whatever the reference says.
    pub weak: OnceCell<WeakImports<'a>>,
    /// The first imported function of each name (module, index of its type), once somebody asked.
    pub called: OnceCell<HashMap<&'a str, (&'a str, u32)>>,
    /// Names that were looked for.
    pub lookups: Cell<u64>,
    /// Somebody wants to know about look-ups.
    pub traced: bool,
}

impl Importer<'_> {
    pub fn count(&self) {
        self.lookups.set(self.lookups.get().saturating_add(1));
    }

    pub fn is_weak(&self, from: &str, name: &str) -> bool {
        self.weak
            .get_or_init(|| WeakImports::new(self.module))
            .contains(from, name)
    }
}

/// What a module name of imports stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Env,
    Cell(CellKind),
    Other,
}

impl Origin {
    pub fn of(module: &str) -> Origin {
        match module {
            "env" => Origin::Env,
            "GOT.mem" => Origin::Cell(CellKind::Data),
            "GOT.func" => Origin::Cell(CellKind::Function),
            _ => Origin::Other,
        }
    }
}

/// The cells of an object so far, one for each kind and name.
#[derive(Default)]
pub(super) struct Cells {
    pub list: Vec<PlannedCell>,
    /// Their places by name.
    pub known: NameTable,
}

impl Cells {
    /// The cell of this kind and name, or else where it belongs.
    pub fn find(
        &mut self,
        module: &ModuleInner,
        kind: CellKind,
        name: Name<'_>,
    ) -> Result<usize, Place> {
        let Cells { list, known } = self;
        // Cells of both kinds can have one name.
        let hash = |kind: CellKind, hash: u64| match kind {
            CellKind::Data => hash,
            CellKind::Function => !hash,
        };
        let cell = |number: u32| {
            let cell: &PlannedCell = list.get(usize::try_from(number).ok()?)?;
            let import = module.imports.get(usize::try_from(cell.import).ok()?)?;
            Some((cell.kind, import.symbol()))
        };
        if !known.has_room() {
            // Without memory for it, imports of one name do not share a cell, which is right, too.
            known.grow(|number| cell(number).map_or(0, |(kind, name)| hash(kind, name.hash)));
        }
        let is = |number: u32| {
            cell(number).is_some_and(|(known, symbol)| known == kind && symbol.text == name.text)
        };
        known
            .find(hash(kind, name.hash), is)
            .map(|cell| usize::try_from(cell).unwrap_or(usize::MAX))
    }

    /// Adds a cell; gives its place.
    pub fn add(&mut self, place: Place, cell: PlannedCell) -> usize {
        let number = self.list.len();
        if let Ok(number) = u32::try_from(number) {
            self.known.insert(place, number);
        }
        self.list.push(cell);
        number
    }
}

/// Where the names of some imports probably are.
pub(super) struct Candidates(pub [u32; IMPORTS_AT_ONCE as usize]);

impl Default for Candidates {
    fn default() -> Candidates {
        Candidates([0; IMPORTS_AT_ONCE as usize])
    }
}

impl Candidates {
    /// The one for the import with this number.
    pub fn of(&self, number: u32) -> u32 {
        let place = usize::try_from(number % IMPORTS_AT_ONCE).unwrap_or(usize::MAX);
        self.0.get(place).copied().unwrap_or(0)
    }
}

/// The type of an imported function, and its canonical id.
#[derive(Clone, Copy)]
pub(super) struct WantedType<'a> {
    pub ty: &'a FuncType,
    pub id: u32,
}
