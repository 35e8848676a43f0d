//! What may stop a guest from growing or running on.

use super::store::{StoreCore, StoreInner};
use crate::error::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asked before memories and tables are created or grow.
///
/// ```
/// use dynlink::{Engine, Memory, MemoryType, ResourceLimiter, Result, Store};
///
/// /// Allows one mebibyte in all.
/// struct Budget {
///     left: usize,
/// }
///
/// impl ResourceLimiter for Budget {
///     fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
///         match self.left.checked_sub(desired - current) {
///             Some(left) => {
///                 self.left = left;
///                 Ok(true)
///             }
///             None => Ok(false),
///         }
///     }
///     fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
///         Ok(desired <= 1000)
///     }
/// }
///
/// let mut store = Store::new(&Engine::default(), Budget { left: 1 << 20 });
/// store.limiter(|budget| budget);
/// let ty = MemoryType { minimum: 10, maximum: None };
/// let memory = Memory::new(&mut store, ty)?;
/// assert!(memory.grow(&mut store, 7).is_err());
/// assert_eq!(memory.grow(&mut store, 6)?, 10);
/// # Ok::<(), dynlink::Error>(())
/// ```
pub trait ResourceLimiter: Send {
    /// Whether a memory may grow from `current` to `desired` bytes. `maximum` is the declared one. A new memory
    /// grows from 0.
    ///
    /// # Errors
    /// Ends the guest instead of only refusing.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool>;
    /// Whether a table may grow from `current` to `desired` elements. `maximum` is the declared one. A new table
    /// grows from 0.
    ///
    /// # Errors
    /// Ends the guest instead of only refusing.
    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool>;

    /// The growth of a memory that was just allowed failed with `error`: the memory keeps its size.
    ///
    /// # Errors
    /// Ends the guest, which otherwise learns that its growth was refused. Default: no error.
    fn memory_grow_failed(&mut self, error: Error) -> Result<()> {
        let _ = error;
        Ok(())
    }

    /// The growth of a table that was just allowed failed with `error`: the table keeps its size.
    ///
    /// # Errors
    /// Ends the guest, which otherwise learns that its growth was refused. Default: no error.
    fn table_grow_failed(&mut self, error: Error) -> Result<()> {
        let _ = error;
        Ok(())
    }
}

/// A limiter with fixed bounds.
#[derive(Clone, Debug, Default)]
pub struct StoreLimits {
    /// Most bytes of one memory. `None`: no bound.
    pub memory_bytes: Option<usize>,
    /// Most elements of one table. `None`: no bound.
    pub table_elements: Option<usize>,
}

impl ResourceLimiter for StoreLimits {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(self.memory_bytes.is_none_or(|most| desired <= most))
    }
    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(self.table_elements.is_none_or(|most| desired <= most))
    }
}

/// Stops a guest from another thread.
#[derive(Clone, Debug)]
pub struct InterruptHandle(pub(crate) Arc<AtomicBool>);

impl InterruptHandle {
    /// The guest traps with `Interrupted` at its next check.
    pub fn interrupt(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What is about to grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Growing {
    Memory,
    Table,
}

/// A question to the limiter, in bytes for memories and elements for tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    pub what: Growing,
    pub current: usize,
    pub desired: usize,
    pub maximum: Option<usize>,
}

/// What the limiter hears.
pub(crate) enum Notice {
    /// May this grow?
    Asked(Growth),
    /// It was allowed and failed.
    Failed(Growing, Error),
}

/// The embedder's limiter without the store's type parameter: gets the `*mut StoreInner<T>` of its store.
pub(crate) type Limiter = Box<dyn FnMut(*mut (), Notice) -> Result<bool> + Send + Sync>;

/// Hides the type parameter of a limiter.
pub(crate) fn erase<T: 'static>(
    mut limiter: impl FnMut(&mut T) -> &mut (dyn ResourceLimiter) + Send + Sync + 'static,
) -> Limiter {
    Box::new(move |store, notice| {
        // SAFETY: `tell` passes the store that this limiter was set on, so `T` is right, and only the
        // field `data` is borrowed: the limiter itself lies in `core`.
        let data = unsafe { &mut (*store.cast::<StoreInner<T>>()).data };
        let limiter = limiter(data);
        match notice {
            Notice::Asked(growth) => {
                let (current, desired) = (growth.current, growth.desired);
                match growth.what {
                    Growing::Memory => limiter.memory_growing(current, desired, growth.maximum),
                    Growing::Table => limiter.table_growing(current, desired, growth.maximum),
                }
            }
            Notice::Failed(Growing::Memory, error) => {
                limiter.memory_grow_failed(error).map(|()| false)
            }
            Notice::Failed(Growing::Table, error) => {
                limiter.table_grow_failed(error).map(|()| false)
            }
        }
    })
}

/// Whether the limiter of the store, if there is one, allows this growth.
///
/// # Errors
/// The limiter wants the guest to end.
///
/// # Safety
/// As [`tell`].
pub(crate) unsafe fn allows(core: *mut StoreCore, store: *mut (), growth: Growth) -> Result<bool> {
    // SAFETY: by the contract.
    unsafe { tell(core, store, Notice::Asked(growth)) }
}

/// Tells the limiter of the store, if there is one, that a growth that it allowed failed.
///
/// # Errors
/// The limiter wants the guest to end.
///
/// # Safety
/// As [`tell`].
#[cold]
pub(crate) unsafe fn failed(
    core: *mut StoreCore,
    store: *mut (),
    what: Growing,
    error: Error,
) -> Result<()> {
    // SAFETY: by the contract.
    unsafe { tell(core, store, Notice::Failed(what, error)).map(drop) }
}

/// What the limiter answers; yes if there is none. A panic of the limiter becomes an error, because handlers that
/// call this cannot unwind.
///
/// # Errors
/// The limiter wants the guest to end.
///
/// # Safety
/// `core` is a live store's and `store` is the `*mut StoreInner<T>` around it; no references to
/// `core.limiter` or the embedder's data exist.
unsafe fn tell(core: *mut StoreCore, store: *mut (), notice: Notice) -> Result<bool> {
    // SAFETY: the caller vouches for `core`; the limiter has access to the embedder's data only, so
    // nothing else reaches this field meanwhile.
    let Some(limiter) = (unsafe { (*core).limiter.as_mut() }) else {
        return Ok(true);
    };
    catch_unwind(AssertUnwindSafe(|| limiter(store, notice)))
        .unwrap_or_else(|payload| Err(panicked("resource limiter", &*payload)))
}

/// The error for a panic of the embedder's code that must not unwind into guest frames.
#[cold]
pub(crate) fn panicked(what: &str, payload: &(dyn std::any::Any + Send)) -> Error {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Error::msg(format!("{what} panicked: {message}"))
}
