//! One loaded object: the main module or a library, and everything the process holds on its behalf.
#![forbid(unsafe_code)]

use super::got::Cells;
use super::symbols::{Symbol, SymbolTable};
use crate::module::SymbolFlags;
use crate::runtime::{Func, Instance, Mark};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Names an object for as long as the process lives; never used again for another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct ObjectId(pub u32);

/// A definition of a symbol by an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Definition {
    pub object: ObjectId,
    pub symbol: Symbol,
}

/// Where an object stands in its load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    /// Being instantiated and relocated: nobody may use it yet.
    Loading,
    /// Relocated; its constructors have not run or are running.
    Initialising,
    /// Its constructors have run.
    Ready,
}

/// Memory of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct MemoryPlace {
    pub base: u32,
    pub size: u32,
    pub owner: MemoryOwner,
}

/// Who has to be told when an object's memory is free again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum MemoryOwner {
    /// There is none, or it lives as long as the process.
    #[default]
    Nobody,
    /// The linker.
    Loader,
    /// The guest's allocator, which gave this pointer.
    Guest { pointer: u32 },
}

/// Consecutive table slots of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TablePlace {
    pub base: u32,
    pub count: u32,
}

pub(crate) struct Object {
    pub id: ObjectId,
    /// As it was asked for.
    pub name: String,
    /// Where it was found; its directory is `$ORIGIN`.
    pub path: String,
    pub symbols: Arc<SymbolTable>,
    /// Its addresses are relative to its bases.
    pub relocatable: bool,
    pub instance: Option<Instance>,
    pub memory: MemoryPlace,
    pub table: TablePlace,
    /// Address of its block of thread-local data.
    pub tls_base: Option<u32>,
    /// Where that block came from.
    pub tls_memory: MemoryPlace,
    /// What it needs, in order.
    pub needed: Arc<[ObjectId]>,
    /// Objects that its imports and GOT cells are bound to (rule U1).
    pub captured: BTreeSet<ObjectId>,
    /// The object whose opening brought it in, with everything that needs, breadth-first: its local scope.
    pub scope: Arc<[ObjectId]>,
    pub cells: Cells,
    /// The cell of each import that has one: places in `cells`.
    pub cell_places: Arc<HashMap<u32, usize>>,
    /// Imports that became deferred functions, with the definition they wait for.
    pub pending: Vec<(Func, Definition)>,
    /// Strings that `dladdr` put into the guest's memory about it, by text.
    pub guest_names: HashMap<String, MemoryPlace>,
    /// Names that were added since it was loaded.
    pub aliases: u32,
    /// Open handles.
    pub opens: u32,
    /// Loaded at startup, or opened with `RTLD_NODELETE`: never unloaded.
    pub stays: bool,
    pub status: Status,
    /// When its constructor began; 0 if it did not.
    pub began: u64,
    /// Its place in the order in which constructors ended; destructors run in reverse (rule U2).
    pub constructed: u64,
    /// When a call that succeeded made it global; 0: none did.
    pub promoted: u64,
    /// What was created in the store for it alone: its instance, cells, constants and deferred functions.
    pub created: Vec<(Mark, Mark)>,
}

impl Object {
    /// What addresses of its data are relative to.
    pub fn data_base(&self) -> u32 {
        match self.relocatable {
            true => self.memory.base,
            false => 0,
        }
    }

    /// The address of data that the file tells, given the object's place; `None`: it takes more than that.
    pub fn constant_address(&self, export: u32, global: u32) -> Option<u32> {
        let flags = self.symbols.flags(export);
        if flags.contains(SymbolFlags::TLS) && !flags.contains(SymbolFlags::ABSOLUTE) {
            return None;
        }
        let value = self.symbols.constant(global)?;
        Some(match flags.contains(SymbolFlags::ABSOLUTE) {
            true => value,
            false => self.data_base().wrapping_add(value),
        })
    }
}

/// What an object that is gone left in the store.
#[derive(Debug)]
pub(crate) struct Remains {
    pub id: ObjectId,
    /// The objects that it needed or was bound to: what remains of them goes with it or later.
    pub on: Vec<ObjectId>,
    pub created: Vec<(Mark, Mark)>,
}

impl Remains {
    pub fn of(object: Object) -> Remains {
        Remains {
            id: object.id,
            on: object
                .needed
                .iter()
                .chain(&object.captured)
                .copied()
                .collect(),
            created: object.created,
        }
    }
}
