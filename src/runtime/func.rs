//! Functions: handles, host functions from closures, typed calls.

use super::instance::{Extern, Instance};
use super::store::{AsContext, AsContextMut, StoreContextMut, StoreInner};
use super::table::Table;
use super::value::Val;
use crate::error::Result;
use crate::module::{FuncType, ValType};

/// A function of a store. Equal handles are the same function.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Func {
    pub(crate) store: u32,
    pub(crate) group: u32,
    pub(crate) place: u32,
}

/// What a host function sees of its caller.
pub struct Caller<'a, T: 'static> {
    pub(crate) store: &'a mut StoreInner<T>,
    pub(crate) instance: Option<Instance>,
}

impl<T: 'static> Caller<'_, T> {
    /// The embedder's data.
    pub fn data(&self) -> &T {
        &self.store.data
    }
    /// The embedder's data.
    pub fn data_mut(&mut self) -> &mut T {
        &mut self.store.data
    }
    /// The calling instance, if a guest called.
    pub fn instance(&self) -> Option<Instance> {
        self.instance
    }
    /// An export of the calling instance.
    pub fn get_export(&mut self, _name: &str) -> Option<Extern> {
        todo!()
    }
}

impl Func {
    /// A host function with dynamic types: parameters in, results out.
    pub fn new<T: 'static>(
        _store: impl AsContextMut<Data = T>,
        _ty: FuncType,
        _call: impl Fn(Caller<'_, T>, &[Val], &mut [Val]) -> Result<()> + Send + Sync + 'static,
    ) -> Func {
        todo!()
    }
    /// A host function from a closure with up to 16 parameters; the types come from its signature.
    pub fn wrap<T: 'static, P, R>(
        _store: impl AsContextMut<Data = T>,
        _call: impl IntoFunc<T, P, R>,
    ) -> Func {
        todo!()
    }
    /// A function that is not known yet: the first call resolves it and binds it for good; [`Func::bind`] does so earlier.
    pub(crate) fn deferred<T: 'static>(
        _store: impl AsContextMut<Data = T>,
        _ty: FuncType,
        _resolve: impl Fn(StoreContextMut<'_, T>) -> Result<Func> + Send + Sync + 'static,
    ) -> Func {
        todo!()
    }
    /// Binds a deferred function. Later translated calls go straight to the target.
    ///
    /// # Errors
    /// Types differ, or the target leads back to the function itself.
    pub(crate) fn bind(&self, _store: impl AsContextMut, _target: Func) -> Result<()> {
        todo!()
    }
    /// The function behind a bound deferred one; else itself.
    pub(crate) fn resolved(&self, _store: impl AsContext) -> Func {
        todo!()
    }
    /// A function that calls `table[p]` inside the interpreter loop, `p` being parameter number `pointer`, with the other
    /// parameters in order; a callee with fewer parameters gets the first ones. Traps if the types do not fit otherwise.
    pub(crate) fn trampoline(
        _store: impl AsContextMut,
        _ty: FuncType,
        _table: Table,
        _pointer: u16,
    ) -> Func {
        todo!()
    }
    /// The function's type.
    pub fn ty(&self, _store: impl AsContext) -> FuncType {
        todo!()
    }
    /// Calls the function.
    ///
    /// # Errors
    /// Wrong arguments, a trap, or an error of a host function.
    pub fn call(
        &self,
        _store: impl AsContextMut,
        _params: &[Val],
        _results: &mut [Val],
    ) -> Result<()> {
        todo!()
    }
    /// A typed handle.
    ///
    /// # Errors
    /// The function has another type.
    pub fn typed<P: WasmParams, R: WasmResults>(
        &self,
        _store: impl AsContext,
    ) -> Result<TypedFunc<P, R>> {
        todo!()
    }
}

/// A function whose types are known at compile time.
pub struct TypedFunc<P, R> {
    func: Func,
    _types: std::marker::PhantomData<fn(P) -> R>,
}

impl<P, R> Clone for TypedFunc<P, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P, R> Copy for TypedFunc<P, R> {}

impl<P: WasmParams, R: WasmResults> TypedFunc<P, R> {
    /// Calls the function.
    ///
    /// # Errors
    /// A trap, or an error of a host function.
    pub fn call(&self, _store: impl AsContextMut, _params: P) -> Result<R> {
        todo!()
    }
    /// The untyped handle.
    pub fn func(&self) -> Func {
        self.func
    }
}

/// A Rust type that is a WebAssembly value: `i32 u32 i64 u64 f32 f64 Option<Func>`.
pub trait WasmTy: Copy + Send + Sync + 'static {
    /// The type.
    const TYPE: ValType;
}
/// Parameters: `()`, one value, or a tuple.
pub trait WasmParams: 'static {}
/// Results: `()`, one value, or a tuple.
pub trait WasmResults: 'static {}
/// A closure that can be a host function: `Fn(Caller<'_, T>, A, B, ..) -> R` or `Fn(A, B, ..) -> R`,
/// `R` being a result type or `Result` of one.
pub trait IntoFunc<T, P, R>: Send + Sync + 'static {}
