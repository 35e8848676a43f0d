//! Memory for libraries: from the guest's own allocator if the process has one, else from pages that the linker grows
//! (rules L1, L10, U4).
//!
//! The guest's allocator comes first because it must not be surprised: several C libraries take all memory up to
//! `memory.size` for their own, so a page that the linker grew would become part of their heap.
#![forbid(unsafe_code)]

use super::layout::{PAGE, align_up, range_end};
use super::object::{MemoryOwner, MemoryPlace, Status};
use super::process::Process;
use super::state::View;
use super::undo::ends_process;
use crate::error::{Error, ErrorKind, Result};
use crate::module::{FuncType, ValType};
use crate::runtime::{AsContext, Func, Memory, StoreContextMut};

/// How a guest's allocator is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    /// `aligned_alloc(alignment, size)`, also `memalign`.
    Aligned,
    /// `malloc(size)`.
    Plain,
}

/// The alignment that every `malloc` gives.
const MALLOC_ALIGN: u32 = 3;

impl<T: 'static> Process<T> {
    /// Takes zeroed memory for a library. `what` says for what, in messages.
    pub(crate) fn take_memory(
        &self,
        store: &mut StoreContextMut<'_, T>,
        size: u32,
        align: u32,
        what: &str,
    ) -> Result<MemoryPlace> {
        if size == 0 {
            return Ok(MemoryPlace::default());
        }
        let memory = self
            .memory()
            .ok_or_else(|| Error::msg(format!("{what} needs memory, but the process has none")))?;
        self.step()?;
        let (place, used) = match self.allocator(store) {
            Some((call, func)) => (
                self.allocate(store, call, func, size, align, what)?,
                u64::MAX,
            ),
            None => {
                // Pages that are new are zero; a huge library must not touch them.
                let before = memory_bytes(&*store, memory);
                (self.take_pages(store, memory, size, align, what)?, before)
            }
        };
        if !fill_zero(store, memory, place, used) {
            self.give_back_memory(store, place, false)?;
            return Err(Error::msg(format!(
                "the guest's allocator gave {:#x} as the address of {size} bytes, which is outside of the memory",
                place.base
            )));
        }
        Ok(place)
    }

    /// A function of the guest's C library that can be called now: its object has fixed addresses, or is relocated
    /// (rule L11).
    fn libc_function(&self, store: &mut StoreContextMut<'_, T>, name: &str) -> Option<Func> {
        let definition = {
            let state = self.state();
            let definition = View::loaded(&state).find(self.0.profile.symbol_order, None, name)?;
            let object = state.object(definition.object)?;
            if object.relocatable && object.status == Status::Loading {
                return None;
            }
            definition
        };
        self.definition_func(store, definition).ok().flatten()
    }

    /// The guest's allocator, if one can be called.
    fn allocator(&self, store: &mut StoreContextMut<'_, T>) -> Option<(Call, Func)> {
        let pointer = ValType::I32;
        let aligned = FuncType::new([pointer, pointer], [pointer]);
        let plain = FuncType::new([pointer], [pointer]);
        for (name, call, ty) in [
            ("aligned_alloc", Call::Aligned, &aligned),
            ("memalign", Call::Aligned, &aligned),
            ("malloc", Call::Plain, &plain),
        ] {
            if let Some(func) = self.libc_function(store, name)
                && func.ty(&*store) == *ty
            {
                return Some((call, func));
            }
        }
        None
    }

    fn allocate(
        &self,
        store: &mut StoreContextMut<'_, T>,
        call: Call,
        func: Func,
        size: u32,
        align: u32,
        what: &str,
    ) -> Result<MemoryPlace> {
        let align = align.max(MALLOC_ALIGN);
        // Room to round up to the alignment, whatever the allocator gives; `aligned_alloc` wants a multiple of it.
        let slack = match call {
            Call::Aligned => align_up(u64::from(size), align),
            Call::Plain if align == MALLOC_ALIGN => Some(u64::from(size)),
            Call::Plain => 1u64
                .checked_shl(align)
                .and_then(|alignment| alignment.checked_add(u64::from(size))),
        };
        let exhausted = |needed: u64| {
            Error::new(ErrorKind::Limit {
                what: format!("memory for {what}: the guest's allocator gave none"),
                needed,
                allowed: 0,
            })
        };
        let bytes = slack
            .and_then(|bytes| u32::try_from(bytes).ok())
            .ok_or_else(|| exhausted(u64::from(size)))?;
        let pointer = match call {
            Call::Aligned => {
                let alignment = 1u32
                    .checked_shl(align)
                    .ok_or_else(|| exhausted(u64::from(bytes)))?;
                self.call_i32(store, func, &[alignment, bytes])?
            }
            Call::Plain => self.call_i32(store, func, &[bytes])?,
        };
        if pointer == 0 {
            return Err(exhausted(u64::from(bytes)));
        }
        let base = align_up(u64::from(pointer), align)
            .and_then(|base| u32::try_from(base).ok())
            .ok_or_else(|| exhausted(u64::from(bytes)))?;
        Ok(MemoryPlace {
            base,
            size,
            owner: MemoryOwner::Guest { pointer },
        })
    }

    fn take_pages(
        &self,
        store: &mut StoreContextMut<'_, T>,
        memory: Memory,
        size: u32,
        align: u32,
        what: &str,
    ) -> Result<MemoryPlace> {
        loop {
            let pages_before = memory.size(&*store);
            let bytes_before = pages_before.saturating_mul(PAGE);
            let maximum = memory.ty(&*store).maximum.unwrap_or(65_536);
            let too_much = |growth: u64, cause: String| {
                Error::new(ErrorKind::Limit {
                    what: format!("memory for {what}{cause}, in pages of 64 KiB"),
                    needed: pages_before.saturating_add(growth),
                    allowed: maximum.max(pages_before),
                })
            };
            let growth = {
                let mut state = self.state();
                if let Some(base) = state.loader_memory.take(u64::from(size), align) {
                    return u32::try_from(base)
                        .map(|base| MemoryPlace {
                            base,
                            size,
                            owner: MemoryOwner::Loader,
                        })
                        .map_err(|_| too_much(0, String::new()));
                }
                state
                    .loader_memory
                    .growth(u64::from(size), align, bytes_before)
                    .filter(|growth| *growth > 0)
                    .ok_or_else(|| too_much(u64::from(size).div_ceil(PAGE), String::new()))?
            };
            let result = memory.grow(&mut *store, growth);
            let before = match result {
                Ok(before) => before,
                Err(error) => return Err(too_much(growth, format!(" ({error})"))),
            };
            self.state()
                .loader_memory
                .add(before.saturating_mul(PAGE), growth.saturating_mul(PAGE));
        }
    }

    /// Gives memory back to whom it came from. What the guest's allocator does not take back, the linker keeps: all of
    /// it, if the process has ended (`ended`), because then no code of guests runs any more.
    ///
    /// # Errors
    /// The guest's allocator ended the process; the memory is given back all the same.
    pub(crate) fn give_back_memory(
        &self,
        store: &mut StoreContextMut<'_, T>,
        place: MemoryPlace,
        ended: bool,
    ) -> Result<()> {
        let mut result = Ok(());
        match place.owner {
            MemoryOwner::Nobody => return Ok(()),
            MemoryOwner::Loader => {}
            MemoryOwner::Guest { .. } if ended => {}
            MemoryOwner::Guest { pointer } => {
                let free = self
                    .libc_function(store, "free")
                    .filter(|free| free.ty(&*store) == FuncType::new([ValType::I32], []));
                match free.map(|free| self.call_i32(store, free, &[pointer])) {
                    Some(Ok(_)) => return Ok(()),
                    Some(Err(error)) if ends_process(&error) => result = Err(error),
                    Some(Err(_)) | None => {}
                }
            }
        }
        self.state()
            .loader_memory
            .add(u64::from(place.base), u64::from(place.size));
        result
    }
}

/// Zeroes the part of a place below this address; says no if the place is not all within the memory.
fn fill_zero(
    store: &mut impl crate::runtime::AsContextMut,
    memory: Memory,
    place: MemoryPlace,
    used: u64,
) -> bool {
    let end = range_end(u64::from(place.base), u64::from(place.size));
    let range = usize::try_from(place.base)
        .ok()
        .zip(end.and_then(|end| usize::try_from(end).ok()));
    match range.and_then(|(start, end)| memory.data_mut(store).get_mut(start..end)) {
        Some(bytes) => {
            let used = used.saturating_sub(u64::from(place.base));
            let used = usize::try_from(used).unwrap_or(usize::MAX).min(bytes.len());
            if let Some(bytes) = bytes.get_mut(..used) {
                bytes.fill(0);
            }
            true
        }
        None => false,
    }
}

/// Bytes of a memory.
pub(crate) fn memory_bytes(store: impl AsContext, memory: Memory) -> u64 {
    memory.size(store).saturating_mul(PAGE)
}
