//! A map of a process: who lies where in its memory and table, and what its code takes.
#![forbid(unsafe_code)]

use super::layout::NULL_GUARD;
use super::memory::memory_bytes;
use super::object::{MemoryOwner, Object, Status};
use super::process::Process;
use super::segments::fixed_extent;
use crate::runtime::AsContext;
use std::fmt;

/// Who lies where in a process, and what it takes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProcessMap {
    /// The objects in load order, the main module first.
    pub objects: Vec<MapObject>,
    /// Bytes of the memory.
    pub memory_bytes: u64,
    /// Ranges of the memory, by their first address. What lies between them is the program's own.
    pub memory: Vec<MapRange>,
    /// Elements of the table.
    pub table_elements: u64,
    /// Ranges of the table, by their first slot. What lies between them is free or the program's own.
    pub table: Vec<MapRange>,
    /// Libraries that were unloaded so far.
    pub unloaded: u64,
}

/// An object of a map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapObject {
    /// As it was asked for.
    pub name: String,
    /// Where it was found.
    pub path: String,
    /// Open handles.
    pub opens: u32,
    /// Whether its constructors have run.
    pub ready: bool,
    /// GOT cells with addresses of data and of functions.
    pub cells: usize,
    /// Functions with bodies.
    pub functions: usize,
    /// Functions that have been called, so that they are translated.
    pub translated: usize,
    /// Bytes of translated code.
    pub code_bytes: usize,
    /// Bytes of the file.
    pub file_bytes: usize,
}

/// A range of addresses or slots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapRange {
    /// The first.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// What it is for.
    pub purpose: Purpose,
    /// Whose it is: the object's place in the map.
    pub object: Option<usize>,
}

/// What a range is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Purpose {
    /// Nobody's, so that a null pointer is nobody's address.
    Guard,
    /// The C stack.
    Stack,
    /// Where the allocator takes its memory from.
    Heap,
    /// Data of an object, in memory that the linker gave it.
    Data,
    /// Data of an object, in memory from the program's allocator.
    AllocatedData,
    /// Data at addresses that are fixed in the file.
    FixedData,
    /// Thread-local data of an object.
    ThreadLocal,
    /// Table slots of an object.
    Slots,
    /// Table slots that the linker added for functions whose addresses were taken.
    AddedSlots,
}

impl Purpose {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Purpose::Guard => "guard",
            Purpose::Stack => "stack",
            Purpose::Heap => "heap",
            Purpose::Data => "data",
            Purpose::AllocatedData => "data (allocated)",
            Purpose::FixedData => "data (fixed)",
            Purpose::ThreadLocal => "thread-local",
            Purpose::Slots => "slots",
            Purpose::AddedSlots => "added slots",
        }
    }
}

impl<T: 'static> Process<T> {
    /// Who lies where, now.
    pub fn map(&self, store: impl AsContext<Data = T>) -> ProcessMap {
        let store = store.as_context();
        let translated = crate::runtime::translated(&store);
        let mut map = ProcessMap {
            memory_bytes: self
                .memory()
                .map_or(0, |memory| memory_bytes(&store, memory)),
            table_elements: self.table().map_or(0, |table| table.size(&store)),
            ..ProcessMap::default()
        };
        let state = self.state();
        map.unloaded = state.unloaded;
        let relocatable_main = state
            .main
            .and_then(|main| state.object(main))
            .is_some_and(|main| main.relocatable);
        let add = |list: &mut Vec<MapRange>, start: u64, end: u64, purpose, object| {
            if start < end {
                list.push(MapRange {
                    start,
                    end,
                    purpose,
                    object,
                });
            }
        };
        if relocatable_main {
            let end = NULL_GUARD.min(map.memory_bytes);
            add(&mut map.memory, 0, end, Purpose::Guard, None);
        }
        if let Some((low, high)) = state.stack {
            add(
                &mut map.memory,
                low.into(),
                high.into(),
                Purpose::Stack,
                None,
            );
        }
        if let Some((base, _)) = state.heap {
            let end = map.memory_bytes;
            add(&mut map.memory, base.into(), end, Purpose::Heap, None);
        }
        for (place, object) in state.objects.values().enumerate() {
            let (start, size, purpose) = data_of(object);
            let end = start.saturating_add(size);
            add(&mut map.memory, start, end, purpose, Some(place));
            let (start, size) = (u64::from(object.tls_memory.base), object.tls_memory.size);
            let end = start.saturating_add(u64::from(size));
            add(
                &mut map.memory,
                start,
                end,
                Purpose::ThreadLocal,
                Some(place),
            );
            let start = u64::from(object.table.base);
            let end = start.saturating_add(u64::from(object.table.count));
            add(&mut map.table, start, end, Purpose::Slots, Some(place));
            let inner = &*object.symbols.module().0;
            let code = object
                .instance
                .and_then(|instance| translated.get(&instance.group));
            let (count, code_bytes) = code.copied().unwrap_or((0, 0));
            map.objects.push(MapObject {
                name: object.name.clone(),
                path: object.path.clone(),
                opens: object.opens,
                ready: object.status == Status::Ready,
                cells: object.cells.len(),
                functions: inner.bodies.len(),
                translated: count,
                code_bytes,
                file_bytes: inner.bytes.len(),
            });
        }
        let mut added: Vec<u32> = state.indices.added_slots().collect();
        added.sort_unstable();
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for slot in added.into_iter().map(u64::from) {
            match runs.last_mut() {
                Some((_, end)) if *end == slot => *end += 1,
                _ => runs.push((slot, slot + 1)),
            }
        }
        for (start, end) in runs {
            add(&mut map.table, start, end, Purpose::AddedSlots, None);
        }
        map.memory.sort_by_key(|range| (range.start, range.end));
        map.table.sort_by_key(|range| (range.start, range.end));
        map
    }
}

/// Where an object's data lies.
fn data_of(object: &Object) -> (u64, u64, Purpose) {
    if !object.relocatable {
        let (start, size) = fixed_extent(object).unwrap_or((0, 0));
        return (start.into(), size.into(), Purpose::FixedData);
    }
    let purpose = match object.memory.owner {
        MemoryOwner::Guest { .. } => Purpose::AllocatedData,
        MemoryOwner::Nobody | MemoryOwner::Loader => Purpose::Data,
    };
    (
        object.memory.base.into(),
        object.memory.size.into(),
        purpose,
    )
}

impl fmt::Display for ProcessMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "memory: {} bytes, table: {} elements, {} objects",
            self.memory_bytes,
            self.table_elements,
            self.objects.len()
        )?;
        writeln!(f, "\n     start         end       bytes  use")?;
        for range in &self.memory {
            let bytes = range.end - range.start;
            write!(
                f,
                "{:#010x}  {:#010x}  {bytes:>10}  ",
                range.start, range.end
            )?;
            self.purpose(f, range)?;
        }
        writeln!(f, "\n     first       last       slots  use")?;
        for range in &self.table {
            let slots = range.end - range.start;
            write!(
                f,
                "{:>10}  {:>9}  {slots:>10}  ",
                range.start,
                range.end - 1
            )?;
            self.purpose(f, range)?;
        }
        writeln!(
            f,
            "\n      file  functions  translated        code  cells  opens  object"
        )?;
        for object in &self.objects {
            writeln!(
                f,
                "{:>10}  {:>9}  {:>10}  {:>10}  {:>5}  {:>5}  {}{}",
                object.file_bytes,
                object.functions,
                object.translated,
                object.code_bytes,
                object.cells,
                object.opens,
                crate::shown::printable(&object.path),
                if object.ready {
                    ""
                } else {
                    " (being constructed)"
                }
            )?;
        }
        Ok(())
    }
}

impl ProcessMap {
    fn purpose(&self, f: &mut fmt::Formatter<'_>, range: &MapRange) -> fmt::Result {
        let object = range.object.and_then(|place| self.objects.get(place));
        match object {
            Some(object) => writeln!(
                f,
                "{:<16}  {}",
                range.purpose.text(),
                crate::shown::printable(&object.name)
            ),
            None => writeln!(f, "{}", range.purpose.text()),
        }
    }
}
