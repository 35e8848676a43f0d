//! The store: owns every instance, function, memory, table and global, the value stack, and the embedder's data.

use super::limits::{InterruptHandle, ResourceLimiter};
use crate::config::Engine;
use crate::error::Result;
use std::time::Duration;

/// Owns all objects of a program, and data of type `T` for host functions.
pub struct Store<T: 'static> {
    pub(crate) inner: Box<StoreInner<T>>,
}

/// What a `Store` points at; host functions get its address.
pub struct StoreInner<T: 'static> {
    pub(crate) core: StoreCore,
    pub(crate) data: T,
}

/// The part of a store that does not depend on `T`.
///
/// `exec` uses `hooks`, `ctx`, `stack`, `code`; the other fields are `runtime`'s own.
pub(crate) struct StoreCore {
    pub engine: Engine,
    /// Number of the store, unique in the process; handles carry it.
    pub id: u32,
    pub hooks: &'static super::records::Hooks,
    /// State of the running guest code. `ctx.core` and `ctx.store` point back here.
    pub ctx: super::records::Ctx,
    /// The value stack: `limits.stack_bytes` of zeroed memory, allocated lazily by the system.
    pub stack: Box<[u64]>,
    /// First free byte of the value stack for the next nested run (offset).
    pub stack_top: usize,
    /// All translated code.
    pub code: crate::ir::code::CodeMap,
    /// Set by an interrupt handle.
    pub interrupt: std::sync::Arc<std::sync::atomic::AtomicBool>,
    /// When the guest has to stop.
    pub deadline: Option<std::time::Instant>,
}

/// Shared access to a store.
pub struct StoreContext<'a, T: 'static>(pub(crate) &'a StoreInner<T>);

/// Exclusive access to a store.
pub struct StoreContextMut<'a, T: 'static>(pub(crate) &'a mut StoreInner<T>);

/// Anything that gives shared access to a store.
pub trait AsContext {
    /// The embedder's data.
    type Data: 'static;
    /// The access.
    fn as_context(&self) -> StoreContext<'_, Self::Data>;
}

/// Anything that gives exclusive access to a store.
pub trait AsContextMut: AsContext {
    /// The access.
    fn as_context_mut(&mut self) -> StoreContextMut<'_, Self::Data>;
}

impl<T: 'static> Store<T> {
    /// An empty store whose code is run by `hooks`. (`Store::new` sits in `exec`.)
    pub(crate) fn with_hooks(
        _engine: &Engine,
        _data: T,
        _hooks: &'static super::records::Hooks,
    ) -> Store<T> {
        todo!()
    }
    /// The embedder's data.
    pub fn data(&self) -> &T {
        &self.inner.data
    }
    /// The embedder's data.
    pub fn data_mut(&mut self) -> &mut T {
        &mut self.inner.data
    }
    /// Gives the data back and drops everything else.
    pub fn into_data(self) -> T {
        todo!()
    }
    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.inner.core.engine
    }
    /// Asks `limiter` before memories and tables are created or grow.
    pub fn limiter(
        &mut self,
        _limiter: impl FnMut(&mut T) -> &mut (dyn ResourceLimiter) + Send + Sync + 'static,
    ) {
        todo!()
    }
    /// Sets the fuel. Error if the engine does not count fuel.
    pub fn set_fuel(&mut self, _fuel: u64) -> Result<()> {
        todo!()
    }
    /// The fuel left. Error if the engine does not count fuel.
    pub fn get_fuel(&self) -> Result<u64> {
        todo!()
    }
    /// Guests trap with `Interrupted` this long from now. Error if the engine does not allow interruption.
    pub fn set_deadline(&mut self, _after: Option<Duration>) -> Result<()> {
        todo!()
    }
    /// A handle with which another thread stops the guest. Error if the engine does not allow interruption.
    pub fn interrupt_handle(&self) -> Result<InterruptHandle> {
        todo!()
    }
}

impl<'a, T: 'static> StoreContext<'a, T> {
    /// The embedder's data.
    pub fn data(&self) -> &'a T {
        &self.0.data
    }
    /// The engine.
    pub fn engine(&self) -> &'a Engine {
        &self.0.core.engine
    }
}

impl<T: 'static> StoreContextMut<'_, T> {
    /// The embedder's data.
    pub fn data(&self) -> &T {
        &self.0.data
    }
    /// The embedder's data.
    pub fn data_mut(&mut self) -> &mut T {
        &mut self.0.data
    }
    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.0.core.engine
    }
    /// Marks the present state: everything created later can be released together.
    pub(crate) fn mark(&self) -> Mark {
        todo!()
    }
    /// Releases every instance, function, memory, table and global created since `mark`; their handles become invalid.
    /// The caller has removed all references to them from tables and globals that stay.
    pub(crate) fn release_since(&mut self, _mark: Mark) {
        todo!()
    }
}

/// A point in the life of a store, for transactions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(pub u32);

macro_rules! contexts {
    ($($ty:ty, $self:ident => $shared:expr, $exclusive:expr;)*) => { $(
        impl<T: 'static> AsContext for $ty {
            type Data = T;
            fn as_context(&self) -> StoreContext<'_, T> {
                let $self = self;
                StoreContext($shared)
            }
        }
        impl<T: 'static> AsContextMut for $ty {
            fn as_context_mut(&mut self) -> StoreContextMut<'_, T> {
                let $self = self;
                StoreContextMut($exclusive)
            }
        }
    )* };
}
contexts! {
    Store<T>, s => &s.inner, &mut s.inner;
    StoreContextMut<'_, T>, s => s.0, s.0;
    super::func::Caller<'_, T>, s => s.store, s.store;
}

impl<T: 'static> AsContext for StoreContext<'_, T> {
    type Data = T;
    fn as_context(&self) -> StoreContext<'_, T> {
        StoreContext(self.0)
    }
}

impl<C: AsContext> AsContext for &C {
    type Data = C::Data;
    fn as_context(&self) -> StoreContext<'_, C::Data> {
        C::as_context(self)
    }
}
impl<C: AsContext> AsContext for &mut C {
    type Data = C::Data;
    fn as_context(&self) -> StoreContext<'_, C::Data> {
        C::as_context(self)
    }
}
impl<C: AsContextMut> AsContextMut for &mut C {
    fn as_context_mut(&mut self) -> StoreContextMut<'_, C::Data> {
        C::as_context_mut(self)
    }
}
