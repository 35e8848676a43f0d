//! The records that translated code points at. Their addresses are baked into instructions, so a
//! record never moves from its creation until its group is released, and all access goes through
//! raw pointers.
//!
//! Who owns what: a [`Group`](super::group::Group) owns the records that one instance (or one host object)
//! defined; an [`InstanceRec`] is the index spaces of one instance, that is pointers into its own
//! group and into the groups it imported from.

use super::budget::Share;
use super::pages::Reservation;
use crate::error::{Error, ErrorKind, Result};
pub(crate) use crate::ir::RED_ZONE;
use crate::ir::code::GroupRanges;
use crate::module::{FuncType, GlobalType, Module, RefType};
use smallvec::SmallVec;
use std::sync::Arc;

/// An entry of a table of functions: 16 bytes, all that `call_indirect` reads.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Code cell to jump to, right for callers that run with the table's home memory.
    pub code: *const u8,
    /// Canonical type id; [`Entry::NULL_TYPE`] if the entry is null.
    pub ty: u32,
    /// Makes the entry 16 bytes.
    pub unused: u32,
}

impl Entry {
    /// A type id that matches no function.
    pub const NULL_TYPE: u32 = u32::MAX;
    /// The null entry.
    pub const NULL: Entry = Entry {
        code: std::ptr::null(),
        ty: Entry::NULL_TYPE,
        unused: 0,
    };
}

/// A function: of a module, of the host, or one that is not bound yet.
#[repr(C)]
pub(crate) struct FuncRec {
    /// The code cell that a call jumps to: translated code, or `stub` until there is some.
    pub code: *const u8,
    /// Bytes of stack needed above the callee's frame start (saved words excluded).
    pub frame: u32,
    /// Canonical type id.
    pub ty: u32,
    /// The memory that must be in the memory registers while it runs; null if it needs none.
    pub mem: *mut MemoryRec,
    /// A code cell of the function's own: {handler, address of this record, unused}. Written by `exec`.
    pub stub: [u64; 3],
    /// Code cell that switches to `mem` around the call; null until one is needed. Owned by `exec`'s code list.
    pub thunk: *const u8,
    pub kind: FuncKind,
    /// The instance that defined it; null for host functions.
    pub instance: *mut InstanceRec,
    /// Index in the defining module's function index space, 0 for host functions.
    pub index: u32,
    /// Where its handle is found: group and place in the group.
    pub group: u32,
    pub place: u32,
    /// Places in tables that hold `stub` and want the code once it is translated: (table, index).
    pub waiting: SmallVec<[(*mut TableRec, u32); 1]>,
    /// Number of parameters and results in slots, from the type.
    pub params: u16,
    pub results: u16,
}

/// What a function is made of.
pub(crate) enum FuncKind {
    /// A body of the defining instance's module, translated at the first call.
    Wasm,
    /// A host function.
    Host(HostFunc),
    /// Bound to another function later, or resolved at the first call.
    Deferred {
        target: *mut FuncRec,
        resolve: Option<HostResolve>,
    },
    /// Calls `table[p]`, `p` being parameter number `pointer`, with the other parameters, dropping surplus
    /// ones, inside the interpreter loop.
    Trampoline { table: *mut TableRec, pointer: u16 },
}

/// A host function: gets the store (a `*mut StoreInner<T>` of the right `T`) and the slots, parameters
/// in, results out; `slots.len()` is the greater of both counts. Shared, so that a [`Linker`](super::Linker)
/// can put one closure into many stores.
pub(crate) type HostFunc = Arc<dyn Fn(*mut (), &mut [u64]) -> Result<()> + Send + Sync>;

/// Finds the function that a deferred one stands for: gets the store as [`HostFunc`] does. Says whether the deferred
/// function is bound to it for good, or only calls it this time.
pub(crate) type HostResolve = Arc<dyn Fn(*mut ()) -> Result<(*mut FuncRec, bool)> + Send + Sync>;

/// A linear memory. `base` and `len` are what the handlers load into their registers.
#[repr(C)]
pub(crate) struct MemoryRec {
    /// First byte. Valid for `len` bytes; never null (dangling if `len` is 0).
    pub base: *mut u8,
    /// Bytes in use: pages × 64 KiB.
    pub len: usize,
    /// Bytes that are there at `base`, zero beyond `len`.
    pub capacity: usize,
    /// The address space that `base` is the beginning of; `None`: the allocator gave it.
    pub pages: Option<Reservation>,
    /// Most pages by type and limits.
    pub maximum: u64,
    /// The declared maximum.
    pub declared_maximum: Option<u64>,
    pub group: u32,
    pub place: u32,
    /// Its bytes in the store's budget.
    pub share: Share,
}

/// A table.
#[repr(C)]
pub(crate) struct TableRec {
    /// For tables of functions, the entries; null for tables of externref.
    pub entries: *mut Entry,
    /// Number of elements.
    pub len: u64,
    /// The references as slot values (function: address of its record; extern: handle + 1; 0 = null). Same length.
    pub refs: Vec<u64>,
    /// Storage of `entries`.
    pub storage: Vec<Entry>,
    pub element: RefType,
    pub maximum: u64,
    pub declared_maximum: Option<u64>,
    /// Entries are right for callers that run with this memory: that of the first instance with a
    /// memory that defined or imported the table; null until then.
    pub home: *mut MemoryRec,
    pub group: u32,
    pub place: u32,
    /// Its elements in the store's budget.
    pub share: Share,
}

/// A global: the cell that instructions address, and its type.
#[repr(C)]
pub(crate) struct GlobalRec {
    /// Slot value: i32 in the low half, f32 as bits, references as in tables.
    pub value: u64,
    pub ty: GlobalType,
    /// Code holds the value as constants, which every change patches; see [`Global::cell`](super::Global::cell).
    pub is_cell: bool,
    pub group: u32,
    pub place: u32,
}

/// The index spaces of one instance and what only instructions of that instance use.
pub(crate) struct InstanceRec {
    pub module: Module,
    pub funcs: Box<[*mut FuncRec]>,
    pub tables: Box<[*mut TableRec]>,
    pub memories: Box<[*mut MemoryRec]>,
    pub globals: Box<[*mut GlobalRec]>,
    /// Element segments as slot values; empty once dropped.
    pub elements: Vec<Box<[u64]>>,
    /// Data segments as byte ranges of the module; empty once dropped.
    pub data: Vec<std::ops::Range<usize>>,
    pub group: u32,
}

impl InstanceRec {
    /// Memory 0 or null.
    pub fn memory0(&self) -> *mut MemoryRec {
        self.memories
            .first()
            .copied()
            .unwrap_or(std::ptr::null_mut())
    }
}

/// What handlers carry in float registers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Floats {
    /// The float accumulator.
    pub value: f64,
    /// The return ip of the running function, as bits; it is in the frame, too. A return takes it from here, because on its
    /// way through memory it would wait for the address of the frame; an integer register is not to be had.
    link: f64,
}

impl Floats {
    /// With another value.
    #[inline(always)]
    pub fn with(self, value: f64) -> Floats {
        Floats { value, ..self }
    }

    /// The return ip.
    #[inline(always)]
    pub fn link(self) -> *const u8 {
        self.link.to_bits() as *const u8
    }

    /// With another return ip.
    #[inline(always)]
    pub fn linked(self, link: u64) -> Floats {
        Floats {
            link: f64::from_bits(link),
            ..self
        }
    }
}

/// State of a running thread of guest code that handlers reach through one pointer.
#[repr(C)]
pub(crate) struct Ctx {
    /// Greatest address at which a frame may start: there are [`RED_ZONE`] bytes of the value stack above it.
    pub limit: *mut u8,
    /// The memory whose base and length are in the registers; null if none.
    pub memory: *mut MemoryRec,
    /// Accumulators at the end of a run.
    pub acc: u64,
    pub facc: Floats,
    /// Where the run stopped: instruction and frame.
    pub ip: *const u8,
    pub sp: *mut u8,
    /// Registers of the loop dispatcher between two handlers: memory base and length.
    pub loop_mem: *mut u8,
    pub loop_len: usize,
    /// Fuel left.
    pub fuel: u64,
    /// Countdown to the next look at the clock and the interrupt flag.
    pub poll: u32,
    /// Nested runs on the native stack.
    pub depth: u32,
    /// The store: `*mut StoreInner<T>`.
    pub store: *mut (),
    /// The part of the store that does not depend on `T`.
    pub core: *mut super::store::StoreCore,
    /// Set by a tail call of a host function: an address in the calling code, which no return address tells.
    pub tail_caller: *const u8,
    /// The error of a host function that ended the run.
    pub error: Option<crate::error::Error>,
}

/// Most parameters, and most results, of a function: what a valid module may have, too.
pub(crate) const MOST_SLOTS: usize = 1000;

/// Parameter and result counts in slots.
///
/// # Errors
/// There are more than [`MOST_SLOTS`].
pub(crate) fn slots(ty: &FuncType) -> Result<(u16, u16)> {
    let count = |what: &str, n: usize| match u16::try_from(n) {
        Ok(count) if n <= MOST_SLOTS => Ok(count),
        _ => Err(Error::new(ErrorKind::Limit {
            what: format!("{what} of a function"),
            needed: n as u64,
            allowed: MOST_SLOTS as u64,
        })),
    };
    let params = count("parameters", ty.params().len())?;
    Ok((params, count("results", ty.results().len())?))
}

/// What `exec` does for `runtime`. The store keeps a reference to it; `Store::new` sits in `exec`.
///
/// Every function here is unsafe for the same reason: the pointers must be to live records of the
/// store that `core` belongs to.
pub(crate) struct Hooks {
    /// Writes `stub`, `code` and `frame` of a new record according to its kind. Called once, when the
    /// record has its final address and all its other fields.
    pub prepare: unsafe fn(core: &super::store::StoreCore, func: *mut FuncRec),
    /// The entry for `func` in `table`: its code, or a thunk if its memory is not the table's home.
    pub entry: unsafe fn(
        core: *mut super::store::StoreCore,
        table: *mut TableRec,
        func: *mut FuncRec,
    ) -> Entry,
    /// Calls `func`: `slots` holds the parameters and then the results (its length is the greater of both counts).
    /// `store` is the `*mut StoreInner<T>` that host functions get.
    pub call: unsafe fn(
        core: *mut super::store::StoreCore,
        store: *mut (),
        func: *mut FuncRec,
        slots: &mut [u64],
    ) -> Result<()>,
    /// Translates every function of the instance now (`Config::eager_translation`).
    pub translate_all:
        unsafe fn(core: *mut super::store::StoreCore, instance: *mut InstanceRec) -> Result<()>,
    /// The record `target` is now what the deferred `func` stands for: later calls go there.
    pub bound:
        unsafe fn(core: *mut super::store::StoreCore, func: *mut FuncRec, target: *mut FuncRec),
    /// The value of a cell has changed: patches the constants that code made of it.
    pub global_changed: unsafe fn(core: *mut super::store::StoreCore, global: *mut GlobalRec),
    /// Frees the code of all functions of the groups with these numbers, which are released.
    pub release: unsafe fn(core: *mut super::store::StoreCore, groups: &GroupRanges),
    /// Makes the process ready for memories with guard pages, which the first one needs.
    pub guard: fn() -> Result<()>,
}
