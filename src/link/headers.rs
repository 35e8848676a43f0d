//! `dl_iterate_phdr`: the objects of a process as its guests see them, in the layout that musl gives `dl_phdr_info` on a
//! machine of 32 bits (rule D13).
//!
//! WebAssembly has no program headers. What a guest can do something with is made up from the dynamic linking section: one
//! `PT_LOAD` for the object's data, one `PT_TLS` for its block of thread-local data. Functions lie in no memory, so no
//! segment is executable. Segments of a position-independent object are relative to its `dlpi_addr`, those of a main
//! module with fixed addresses are absolute, with a `dlpi_addr` of 0.
#![forbid(unsafe_code)]

use super::object::{ObjectId, Status};
use super::process::Process;
use super::segments;
use super::undo::ends_process;
use crate::error::{Error, Result};
use crate::module::{FuncType, ValType};
use crate::runtime::{AsContextMut, Func, Memory, Ref, StoreContextMut};
use crate::trap::{Trap, TrapCode};

/// Bytes of `struct dl_phdr_info`, which the callback is told.
const INFO_SIZE: u32 = 40;

/// Bytes of an `Elf32_Phdr`.
const HEADER_SIZE: u32 = 32;

/// Most segments of one object.
const MOST_HEADERS: u32 = 2;

/// `p_type` of a segment in memory, and of the thread-local data.
const PT_LOAD: u32 = 1;
const PT_TLS: u32 = 7;

/// `p_flags`: readable and writable.
const PF_RW: u32 = 6;

/// What a guest is told about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Headers {
    pub path: String,
    /// What the segments are relative to.
    pub base: u32,
    /// Data: first address relative to `base`, bytes, log2 of the alignment.
    pub data: Option<(u32, u32, u32)>,
    /// Thread-local data of the only thread: address, bytes.
    pub tls: Option<(u32, u32)>,
}

impl<T: 'static> Process<T> {
    /// What a guest is told about an object; `None` if it is gone or not relocated yet.
    pub(crate) fn headers(&self, id: ObjectId) -> Option<Headers> {
        let state = self.state();
        let object = state
            .object(id)
            .filter(|object| object.status != Status::Loading)?;
        let (base, data) = if object.relocatable {
            let align = object.symbols.module().dylink();
            let align = align.map_or(0, |info| info.memory_align);
            let size = object.memory.size;
            (object.memory.base, (size > 0).then_some((0, size, align)))
        } else {
            let extent = segments::fixed_extent(object);
            (0, extent.map(|(start, size)| (start, size, 4)))
        };
        Some(Headers {
            path: object.path.clone(),
            base,
            data,
            tls: object.tls_base.map(|at| (at, object.tls_memory.size)),
        })
    }

    /// Calls the guest's function at a table index for each object in load order, with an information block, its size and
    /// `data`, until it gives something else than 0, which is the result.
    ///
    /// # Errors
    /// The index is no function of this type, or the function trapped.
    pub(crate) fn guest_iterate_headers(
        &self,
        store: &mut StoreContextMut<'_, T>,
        callback: u32,
        data: u32,
    ) -> Result<u32> {
        let Some(memory) = self.memory() else {
            return Ok(0);
        };
        let callback = self.callback(store, callback)?;
        let ids: Vec<ObjectId> = self.state().objects.keys().copied().collect();
        let size = INFO_SIZE + MOST_HEADERS * HEADER_SIZE;
        let block = self.take_memory(store, size, 3, "what dl_iterate_phdr tells")?;
        let mut result = Ok(0);
        for (place, id) in (1u32..).zip(ids) {
            // A callback may have closed it.
            let Some(headers) = self.headers(id) else {
                continue;
            };
            result = self.tell(store, memory, block.base, (place, id), &headers);
            if let Ok(0) = result {
                result = self.call_i32(store, callback, &[block.base, INFO_SIZE, data]);
            }
            if !matches!(result, Ok(0)) {
                break;
            }
        }
        // A guest that was stopped runs no more code of its own, not even its allocator's.
        let ended = result.as_ref().is_err_and(ends_process);
        let given_back = self.give_back_memory(store, block, ended);
        result.and_then(|value| given_back.map(|()| value))
    }

    /// Writes the information block of an object: its place in the load order, and its number.
    fn tell(
        &self,
        store: &mut StoreContextMut<'_, T>,
        memory: Memory,
        at: u32,
        (place, id): (u32, ObjectId),
        headers: &Headers,
    ) -> Result<u32> {
        let name = self.guest_name(store, memory, id, &headers.path)?;
        let (added, removed) = {
            let state = self.state();
            let loaded = u64::try_from(state.objects.len()).unwrap_or(u64::MAX);
            (loaded.saturating_add(state.unloaded), state.unloaded)
        };
        let mut segments = Vec::new();
        if let Some((start, size, align)) = headers.data {
            let align = 1u32.checked_shl(align).unwrap_or(1);
            segments.push([PT_LOAD, 0, start, start, size, size, PF_RW, align]);
        }
        if let Some((start, size)) = headers.tls {
            let start = start.wrapping_sub(headers.base);
            segments.push([PT_TLS, 0, start, start, size, size, PF_RW, 1]);
        }
        let count = u32::try_from(segments.len()).unwrap_or(0);
        let table = if count == 0 {
            0
        } else {
            at.wrapping_add(INFO_SIZE)
        };
        let mut bytes = Vec::new();
        for word in [headers.base, name, table, count] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for count in [added, removed] {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        let module = headers.tls.map_or(0, |_| place);
        let tls = headers.tls.map_or(0, |(start, _)| start);
        for word in [module, tls]
            .into_iter()
            .chain(segments.into_iter().flatten())
        {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        if self.write_guest(store, memory, at, &bytes) {
            Ok(0)
        } else {
            Err(Error::msg("the memory for dl_iterate_phdr is gone"))
        }
    }

    /// The guest's function at a table index, with the type of a callback; traps as a call through the table does.
    fn callback(&self, store: &mut StoreContextMut<'_, T>, index: u32) -> Result<Func> {
        let pointer = ValType::I32;
        let wanted = FuncType::new([pointer, pointer, pointer], [pointer]);
        let slot = self
            .table()
            .and_then(|table| table.get(&mut store.as_context_mut(), index.into()));
        let code = match slot {
            Some(Ref::Func(Some(func))) if func.ty(&*store) == wanted => return Ok(func),
            Some(Ref::Func(Some(_))) => TrapCode::IndirectCallTypeMismatch,
            Some(_) => TrapCode::UninitializedElement,
            None => TrapCode::UndefinedElement,
        };
        let text =
            format!("the callback of dl_iterate_phdr, {index:#x}, must be a function {wanted}");
        Err(Error::from(Trap::new(code).with_detail(text)))
    }
}
