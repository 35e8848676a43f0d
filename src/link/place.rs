//! Where a load puts things: the memory, table and stack that all objects share, the range of each new object, and
//! the checks that what it needs fits (rules L1 to L10, S2 to S5).
#![forbid(unsafe_code)]

use super::bind::CELL_TYPE;
use super::layout::{NULL_GUARD, PAGE, align_up, range_end};
use super::load::Load;
use super::main_module::{MainShape, Place};
use super::memory::memory_bytes;
use super::object::{MemoryOwner, MemoryPlace, Object, TablePlace};
use super::plan::{Binding, NewObject, Problems};
use super::process::Process;
use super::trace::TraceTopics;
use crate::error::{Error, ErrorKind, Result};
use crate::module::{MemoryType, RefType, TableType};
use crate::runtime::{Global, Memory, Ref, StoreContextMut, Table, Val};
use crate::shown::shown;

impl<T: 'static> Load<'_, T> {
    /// Makes the memory, table and stack pointer that the main module does not bring along, and places the objects of a
    /// position-independent program (rules S3, L3, L7, L9).
    pub(super) fn create_shared(
        &mut self,
        store: &mut StoreContextMut<'_, T>,
        main: usize,
        shape: &MainShape,
    ) -> Result<()> {
        let profile = self.process.0.profile.clone();
        let (memory_type, table_type) = self.imported_types(main);
        let imports_stack_pointer = self.new.iter().any(|object| {
            object
                .bindings
                .iter()
                .any(|binding| matches!(binding, Binding::StackPointer))
        });

        let mut stack = None;
        let mut end = NULL_GUARD;
        if shape.relocatable && !matches!(shape.memory, Place::Exported(_)) {
            if imports_stack_pointer {
                // A memory that cannot grow is not for the stack alone.
                let half = memory_type
                    .maximum
                    .map_or(u64::MAX, |pages| pages.saturating_mul(PAGE / 2));
                let bytes = u64::from(profile.stack_bytes).min(half);
                let low = align_up(end, 4);
                let high = low.and_then(|low| align_up(low.checked_add(bytes)?, 4));
                let (low, high) = low
                    .zip(high)
                    .and_then(|(low, high)| {
                        Some((u32::try_from(low).ok()?, u32::try_from(high).ok()?))
                    })
                    .ok_or_else(|| memory_limit("the C stack", u64::from(profile.stack_bytes)))?;
                stack = Some((low, high));
                end = u64::from(high);
            }
            for object in &self.new {
                end = place_at(self.process, object, end)?;
            }
        } else if shape.relocatable {
            // Its data has to lie in the memory that it brings along before anything can grow it.
            if let Some(object) = self.new.get(main) {
                let inner = &*object.symbols.module().0;
                let own = inner.memories.first().map_or(0, |ty| ty.minimum);
                end = place_at(self.process, object, end)?;
                if end > own.saturating_mul(PAGE) {
                    return Err(Error::msg(format!(
                        "`{}` defines its own memory of {own} pages, which has no room for its {} bytes of data behind address {NULL_GUARD}; link it with `--import-memory`",
                        shown(&object.name),
                        object.info().memory_size
                    )));
                }
            }
        }

        let heap_base = align_up(end, 4).unwrap_or(end);
        let libraries_need_memory = self.new.iter().any(|object| {
            object.symbols.module().0.imported_memories > 0 || object.info().memory_size > 0
        });
        if shape.memory == Place::Imported
            || (shape.memory == Place::Absent && libraries_need_memory)
        {
            let mut pages = memory_type.minimum.max(profile.memory_pages);
            if shape.relocatable {
                pages = pages.max(heap_base / PAGE + 1);
            }
            if let Some(maximum) = memory_type.maximum.filter(|maximum| *maximum < pages) {
                return Err(Error::new(ErrorKind::Limit {
                    what: format!(
                        "memory that `{}` allows itself, in pages of 64 KiB; it has to hold the stack and the data of all libraries",
                        shown(&self.name(main))
                    ),
                    needed: pages,
                    allowed: maximum,
                }));
            }
            let memory = Memory::new(
                &mut *store,
                MemoryType {
                    minimum: pages,
                    ..memory_type
                },
            )?;
            let bytes = memory_bytes(&*store, memory);
            let mut state = self.process.state();
            state.memory = Some(memory);
            if shape.relocatable {
                let heap = u32::try_from(heap_base).ok().zip(
                    u32::try_from(bytes)
                        .ok()
                        .or((bytes == 1 << 32).then_some(0xffff_0000)),
                );
                state.heap = heap;
            }
        }

        // A main module without a table may still open libraries that need one.
        if matches!(shape.table, Place::Imported | Place::Absent) {
            let mut elements = table_type.minimum.max(profile.table_elements).max(1);
            if shape.relocatable {
                let sum = self
                    .new
                    .iter()
                    .try_fold(1u64, |next, object| {
                        let base = align_up(next, object.info().table_align)?;
                        range_end(base, u64::from(object.info().table_size))
                    })
                    .ok_or_else(|| memory_limit("the table slots of all objects", 0))?;
                elements = elements.max(sum);
            }
            let table = Table::new(
                &mut *store,
                TableType {
                    minimum: elements,
                    ..table_type
                },
                Ref::Func(None),
            )?;
            let mut state = self.process.state();
            state.table = Some(table);
            if shape.relocatable {
                state.slots.add(1, elements.saturating_sub(1));
            }
        }

        if imports_stack_pointer
            && !matches!(shape.stack_pointer, Place::Exported(_))
            && shape.relocatable
        {
            let top = stack.map_or(0, |(_, high)| high);
            let global = Global::new(&mut *store, CELL_TYPE, Val::I32(top.cast_signed()))?;
            let mut state = self.process.state();
            state.stack_pointer = Some(global);
            state.owns_stack_pointer = true;
            state.stack = stack;
        }
        Ok(())
    }

    /// The types of memory and table as the main module imports them.
    pub(super) fn imported_types(&self, main: usize) -> (MemoryType, TableType) {
        let mut memory = MemoryType {
            minimum: 0,
            maximum: None,
        };
        let mut table = TableType {
            element: RefType::Func,
            minimum: 0,
            maximum: None,
        };
        if let Some(object) = self.new.get(main) {
            let inner = &*object.symbols.module().0;
            memory = inner.imported_memory().unwrap_or(memory);
            table = inner.imported_table().unwrap_or(table);
        }
        (memory, table)
    }

    /// Takes over what the main module exports (rule S2), and makes room for the libraries' stack where it keeps its
    /// stack pointer to itself.
    pub(super) fn adopt(
        &mut self,
        store: &mut StoreContextMut<'_, T>,
        main: usize,
        shape: &MainShape,
    ) -> Result<()> {
        let Some(instance) = self
            .new
            .get(main)
            .and_then(|object| self.process.instance_of(object.id))
        else {
            return Ok(());
        };
        if let Place::Exported(name) = &shape.memory {
            let memory = instance.get_memory(&mut *store, name);
            self.process.state().memory = memory;
        }
        if let Place::Exported(name) = &shape.table {
            let table = instance.get_table(&mut *store, name);
            self.process.state().table = table;
        }
        if let Place::Exported(name) = &shape.stack_pointer {
            let global = instance.get_global(&mut *store, name);
            self.process.state().stack_pointer = global;
        }
        if !shape.relocatable {
            // Everything behind the main module's last function is free (all of it lies in its element segments).
            if let Some(table) = self.process.table() {
                let size = table.size(&*store);
                let mut next = size;
                while next > 1 && is_null(table.get(&mut *store, next - 1)) {
                    next -= 1;
                }
                let next = next.max(1);
                self.process
                    .state()
                    .slots
                    .add(next, size.saturating_sub(next));
            }
        }
        Ok(())
    }

    /// Gives every new object that has none yet its memory, slots and stack.
    pub(super) fn reserve(&mut self, store: &mut StoreContextMut<'_, T>) -> Result<()> {
        for place in 0..self.new.len() {
            store.pay(1)?;
            let Some(object) = self.new.get(place) else {
                continue;
            };
            if !object.relocatable {
                continue;
            }
            let (id, name) = (object.id, object.name.clone());
            let (size, align) = (object.info().memory_size, object.info().memory_align);
            let (count, table_align) = (object.info().table_size, object.info().table_align);
            let has_memory = self
                .process
                .state()
                .object(id)
                .is_some_and(|object| object.memory.size > 0);
            if !has_memory {
                let memory =
                    self.process
                        .take_memory(store, size, align, &format!("`{}`", shown(&name)))?;
                if let Some(object) = self.process.state().objects.get_mut(&id) {
                    object.memory = memory;
                }
                self.process.step()?;
            }
            let has_slots = self
                .process
                .state()
                .object(id)
                .is_some_and(|object| object.table.count > 0);
            if count > 0 && !has_slots {
                let base = self
                    .process
                    .take_slots(store, count, table_align)
                    .map_err(|error| error.context(format!("`{}`", shown(&name))))?;
                if let Some(object) = self.process.state().objects.get_mut(&id) {
                    object.table = TablePlace { base, count };
                }
                self.process.step()?;
            }
            if let Some(object) = self.process.state().object(id) {
                let trace = &self.process.0.trace;
                let files = TraceTopics::FILES;
                let (memory, table) = (object.memory, object.table);
                trace.line(files, format_args!("file={name} [0];  generating link map"));
                trace.line(
                    files,
                    format_args!(
                        "  memory: {:#010x}   size: {:#010x}",
                        memory.base, memory.size
                    ),
                );
                trace.line(
                    files,
                    format_args!("   table: {:>10}  slots: {:>10}", table.base, table.count),
                );
                trace.line(files, format_args!(""));
            }
        }
        self.reserve_stack(store)
    }

    /// One stack for all libraries of a main module that keeps its stack pointer to itself (rule L8).
    pub(super) fn reserve_stack(&mut self, store: &mut StoreContextMut<'_, T>) -> Result<()> {
        let wanted = self.new.iter().any(|object| {
            object
                .bindings
                .iter()
                .any(|binding| matches!(binding, Binding::StackPointer))
        });
        let (global, stack_is_there) = {
            let state = self.process.state();
            let there = state.stack.is_some() || !state.owns_stack_pointer;
            (state.stack_pointer, there)
        };
        if !wanted || (global.is_some() && stack_is_there) {
            return Ok(());
        }
        let bytes = self.process.0.profile.stack_bytes & !15;
        let place =
            self.process
                .take_memory(store, bytes, 4, "the C stack that the linker provides")?;
        let high = place.base.saturating_add(bytes);
        let before = store.mark();
        let global = match global {
            Some(global) => global
                .set(&mut *store, Val::I32(high.cast_signed()))
                .map(|()| global),
            None => Global::new(&mut *store, CELL_TYPE, Val::I32(high.cast_signed())),
        };
        self.created.push((before, store.mark()));
        self.stack_memory = place;
        let global = global?;
        let mut state = self.process.state();
        state.stack_pointer = Some(global);
        state.owns_stack_pointer = true;
        state.stack = Some((place.base, high));
        Ok(())
    }

    /// Grows memory and table to what the new objects declare as their minimum (rule S5).
    pub(super) fn check_minima(&mut self, store: &mut StoreContextMut<'_, T>) -> Result<()> {
        let (memory, table) = (self.process.memory(), self.process.table());
        for object in &self.new {
            let inner = &*object.symbols.module().0;
            if let Some((ty, memory)) = inner.imported_memory().zip(memory) {
                let missing = ty.minimum.saturating_sub(memory.size(&*store));
                if missing > 0 {
                    memory.grow(&mut *store, missing).map_err(|error| {
                        error.context(format!(
                            "`{}` needs a memory of {} pages",
                            shown(&object.name),
                            ty.minimum
                        ))
                    })?;
                }
            }
            if let Some((ty, table)) = inner.imported_table().zip(table) {
                let size = table.size(&*store);
                let missing = ty.minimum.saturating_sub(size);
                if missing > 0 {
                    table
                        .grow(&mut *store, missing, Ref::Func(None))
                        .map_err(|error| {
                            error.context(format!(
                                "`{}` needs a table of {} elements",
                                shown(&object.name),
                                ty.minimum
                            ))
                        })?;
                    self.process.state().slots.add(size, missing);
                }
            }
        }
        Ok(())
    }

    /// Whether the segments of position-independent objects lie in their own places, so that no library can overwrite
    /// another one while it is instantiated.
    pub(super) fn check_segments(&self) -> Result<()> {
        let mut problems = Problems::default();
        let state = self.process.state();
        for new in &self.new {
            // A library without bases has no places of its own, so it may have no segments either.
            let checked = |object: &&Object| object.relocatable || new.main.is_none();
            if let Some(object) = state.object(new.id).filter(checked) {
                super::segments::check(object, &mut problems);
            }
        }
        problems.result()
    }
}

/// Places the data of one object at or behind `end` (the layout of a program at its start); gives the new end.
fn place_at<T: 'static>(process: &Process<T>, object: &NewObject, end: u64) -> Result<u64> {
    let size = object.info().memory_size;
    if size == 0 || !object.relocatable {
        return Ok(end);
    }
    let what = format!("`{}`", shown(&object.name));
    let too_much = || memory_limit(&what, u64::from(size));
    let base = align_up(end, object.info().memory_align).ok_or_else(too_much)?;
    let end = range_end(base, u64::from(size)).ok_or_else(too_much)?;
    let base = u32::try_from(base).map_err(|_| too_much())?;
    if let Some(object) = process.state().objects.get_mut(&object.id) {
        object.memory = MemoryPlace {
            base,
            size,
            owner: MemoryOwner::Nobody,
        };
    }
    Ok(end)
}

fn memory_limit(what: &str, needed: u64) -> Error {
    Error::new(ErrorKind::Limit {
        what: format!("32-bit addresses for {what}"),
        needed,
        allowed: u64::from(u32::MAX),
    })
}

fn is_null(reference: Option<Ref>) -> bool {
    matches!(reference, None | Some(Ref::Func(None)))
}
