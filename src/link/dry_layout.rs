//! Where a load would put its objects, computed without a memory or a table: the arithmetic of `place.rs` and
//! `memory.rs` on sizes alone. What depends on guest code (an allocator) is said to do so.
#![forbid(unsafe_code)]

use super::dry::Base;
use super::layout::{LoaderMemory, NULL_GUARD, PAGE, TableSlots, align_up, range_end};
use super::main_module::{MainShape, Place};
use super::plan::{Binding, NewObject};
use super::process::Process;
use crate::module::{ConstExpr, FuncType, ModuleInner, SegmentMode, ValType};

/// The memory base and table base of each object, in order. `batches` are the places where a new load begins.
pub(super) fn bases<T: 'static>(
    process: &Process<T>,
    objects: &[NewObject],
    shape: &MainShape,
    batches: &[usize],
) -> Vec<(Base, Base)> {
    let mut layout = Layout {
        bases: objects.iter().map(initial).collect(),
        objects,
        memory_known: true,
        table_known: true,
        memory_bytes: 0,
        table_size: 0,
        loader_memory: LoaderMemory::default(),
        slots: TableSlots::default(),
    };
    let stack_bytes = process.0.profile.stack_bytes;
    let first_end = batches.first().copied().unwrap_or(objects.len());
    layout.start(process, shape, first_end);
    let mut from = 0;
    for to in batches.iter().copied().chain([objects.len()]) {
        layout.batch(shape, from..to, stack_bytes);
        from = to;
    }
    layout.bases
}

fn initial(object: &NewObject) -> (Base, Base) {
    let base = |size| match (size, object.relocatable) {
        (0, _) => Base::Nothing,
        (_, false) => Base::Fixed,
        (_, true) => Base::Unknown,
    };
    (
        base(object.info().memory_size),
        base(object.info().table_size),
    )
}

struct Layout<'a> {
    objects: &'a [NewObject],
    bases: Vec<(Base, Base)>,
    /// Whether the next address is known.
    memory_known: bool,
    /// Whether the next slot is known.
    table_known: bool,
    memory_bytes: u64,
    table_size: u64,
    loader_memory: LoaderMemory,
    slots: TableSlots,
}

impl Layout<'_> {
    /// What `create_shared` and `adopt` do.
    fn start<T: 'static>(&mut self, process: &Process<T>, shape: &MainShape, batch_end: usize) {
        let profile = &process.0.profile;
        let Some(main) = self.objects.first() else {
            return;
        };
        let batch = self.objects.get(..batch_end).unwrap_or_default();
        let inner = &*main.symbols.module().0;
        let mut end = Some(NULL_GUARD);
        if shape.relocatable {
            let in_own_memory = matches!(shape.memory, Place::Exported(_));
            if wants_stack(batch) && !in_own_memory {
                end = end
                    .and_then(|end| align_up(end, 4))
                    .and_then(|low| align_up(low + u64::from(profile.stack_bytes), 4));
            }
            let placed = if in_own_memory { 1 } else { batch.len() };
            for (object, base) in batch.iter().zip(&mut self.bases).take(placed) {
                if object.info().memory_size > 0 && object.relocatable {
                    let at = end.and_then(|end| align_up(end, object.info().memory_align));
                    base.0 = at
                        .and_then(|at| u32::try_from(at).ok())
                        .map_or(Base::Unknown, Base::At);
                    end = at.and_then(|at| range_end(at, u64::from(object.info().memory_size)));
                }
            }
        }
        let mut pages = inner.memories.first().map_or(0, |ty| ty.minimum);
        if !matches!(shape.memory, Place::Exported(_)) {
            pages = pages.max(profile.memory_pages);
            if shape.relocatable {
                match end.and_then(|end| align_up(end, 4)) {
                    Some(heap) => pages = pages.max(heap / PAGE + 1),
                    None => self.memory_known = false,
                }
            }
        }
        self.memory_bytes = pages.saturating_mul(PAGE);

        let mut elements = inner.tables.first().map_or(0, |table| table.ty.minimum);
        if matches!(shape.table, Place::Imported | Place::Absent) {
            elements = elements.max(profile.table_elements).max(1);
            if shape.relocatable {
                let sum = batch.iter().try_fold(1u64, |next, object| {
                    let base = align_up(next, object.info().table_align)?;
                    range_end(base, u64::from(object.info().table_size))
                });
                match sum {
                    Some(sum) => elements = elements.max(sum),
                    None => self.table_known = false,
                }
            }
        }
        self.table_size = elements;
        let next = if shape.relocatable {
            1
        } else {
            match end_of_elements(inner) {
                Some(end) => end.max(1),
                None => {
                    self.table_known = false;
                    1
                }
            }
        };
        self.slots.add(next, elements.saturating_sub(next));
    }

    /// What `reserve` and `check_minima` do.
    fn batch(&mut self, shape: &MainShape, range: std::ops::Range<usize>, stack_bytes: u32) {
        let first = range.start == 0;
        let Some(batch) = self.objects.get(range.clone()) else {
            return;
        };
        // The allocator of a main module with fixed addresses works from the start; any other after the first load.
        let with_allocator = if first {
            self.objects.get(..1).filter(|_| !shape.relocatable)
        } else {
            self.objects.get(..range.start)
        };
        let allocator = with_allocator.is_some_and(|objects| objects.iter().any(has_allocator));
        for (place, object) in range.clone().zip(batch) {
            if !object.relocatable {
                continue;
            }
            let Some(mut base) = self.bases.get(place).copied() else {
                continue;
            };
            if base.0 == Base::Unknown {
                base.0 = self.take_memory(
                    u64::from(object.info().memory_size),
                    object.info().memory_align,
                    allocator,
                );
            }
            if base.1 == Base::Unknown {
                base.1 = self.take_slots(
                    u64::from(object.info().table_size),
                    object.info().table_align,
                );
            }
            if let Some(entry) = self.bases.get_mut(place) {
                *entry = base;
            }
        }
        let own_stack = !matches!(shape.stack_pointer, Place::Exported(_)) && !shape.relocatable;
        if own_stack && wants_stack(batch) && !allocator {
            self.take_memory(u64::from(stack_bytes & !15), 4, false);
        }
        for object in batch {
            let module = &*object.symbols.module().0;
            if let Some(ty) = module.imported_memory() {
                let bytes = ty.minimum.saturating_mul(PAGE);
                self.memory_bytes = self.memory_bytes.max(bytes);
            }
            if let Some(ty) = module.imported_table() {
                let missing = ty.minimum.saturating_sub(self.table_size);
                self.slots.add(self.table_size, missing);
                self.table_size = self.table_size.saturating_add(missing);
            }
            // Functions whose addresses are taken may get slots of their own, and constructors may do anything.
            let addresses = module.import_modules.names().any(|name| name == "GOT.func");
            self.table_known &= !addresses;
            self.memory_known &= first && module.start.is_none();
        }
    }

    fn take_memory(&mut self, size: u64, align: u32, allocator: bool) -> Base {
        if allocator {
            return Base::Allocator;
        }
        if !self.memory_known {
            return Base::Unknown;
        }
        if let Some(growth) = self
            .loader_memory
            .growth(size, align, self.memory_bytes)
            .filter(|_| self.loader_memory.clone().take(size, align).is_none())
        {
            let bytes = growth.saturating_mul(PAGE);
            self.loader_memory.add(self.memory_bytes, bytes);
            self.memory_bytes = self.memory_bytes.saturating_add(bytes);
        }
        at(self.loader_memory.take(size, align))
    }

    fn take_slots(&mut self, count: u64, align: u32) -> Base {
        if !self.table_known {
            return Base::Unknown;
        }
        if let Some(base) = self.slots.take(count, align) {
            return at(Some(base));
        }
        let Some(growth) = self.slots.growth(count, align, self.table_size) else {
            return Base::Unknown;
        };
        self.slots.add(self.table_size, growth);
        self.table_size = self.table_size.saturating_add(growth);
        at(self.slots.take(count, align))
    }
}

fn at(base: Option<u64>) -> Base {
    base.and_then(|base| u32::try_from(base).ok())
        .map_or(Base::Unknown, Base::At)
}

fn wants_stack(objects: &[NewObject]) -> bool {
    objects.iter().any(|object| {
        let mut bindings = object.bindings.iter();
        bindings.any(|binding| matches!(binding, Binding::StackPointer))
    })
}

/// Whether the linker would take memory from this object's allocator.
fn has_allocator(object: &NewObject) -> bool {
    let pointer = ValType::I32;
    let aligned = FuncType::new([pointer, pointer], [pointer]);
    let plain = FuncType::new([pointer], [pointer]);
    [
        ("aligned_alloc", &aligned),
        ("memalign", &aligned),
        ("malloc", &plain),
    ]
    .into_iter()
    .any(|(name, ty)| match object.symbols.lookup(name) {
        Some(super::symbols::Symbol::Function { func, .. }) => {
            object.symbols.func_type(func) == Some(ty)
        }
        Some(super::symbols::Symbol::Pointer(_)) => true,
        _ => false,
    })
}

/// One past the last slot that a module's active element segments fill; `None` if it is not known from the file.
fn end_of_elements(module: &ModuleInner) -> Option<u64> {
    let mut end = 0;
    for segment in &module.elements {
        let SegmentMode::Active { index: 0, offset } = &segment.mode else {
            continue;
        };
        let ConstExpr::Value(offset) = offset else {
            return None;
        };
        let filled = u64::try_from(segment.items.len()).ok()?;
        end = end.max((offset & 0xffff_ffff).checked_add(filled)?);
    }
    Some(end)
}
