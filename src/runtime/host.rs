//! Host functions: closures of the embedder as functions that guests call.
//!
//! A closure is wrapped once, when it is defined, in one that takes slots; a call then allocates nothing and goes
//! through one indirect jump. The wrapper catches panics, because no unwinding may pass guest frames.

use super::instance::{Extern, Instance};
use super::limits::panicked;
use super::records::{HostFunc, InstanceRec};
use super::store::StoreInner;
use super::typed::{StoreView, WasmParams, WasmResults, WasmTy};
use super::value::Val;
use crate::config::Engine;
use crate::error::Result;
use crate::module::FuncType;
use smallvec::SmallVec;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What a host function sees of its caller: the store, and the calling instance.
///
/// ```
/// use dynlink::{Caller, Engine, Error, Func, Instance, Module, Store};
///
/// let engine = Engine::default();
/// let module = Module::new(&engine, &wat::parse_str(
///     r#"(module
///         (import "host" "print" (func $print (param i32 i32)))
///         (memory (export "memory") 1)
///         (data (i32.const 100) "hello")
///         (func (export "run") (call $print (i32.const 100) (i32.const 5))))"#,
/// )?)?;
/// let mut store = Store::new(&engine, String::new());
/// let print = Func::wrap(&mut store, |mut caller: Caller<'_, String>, start: u32, len: u32| {
///     let memory = caller.get_export("memory").and_then(|item| item.into_memory());
///     let memory = memory.ok_or_else(|| Error::msg("the caller exports no memory"))?;
///     let (bytes, text) = memory.data_and_store_mut(&mut caller);
///     let bytes = bytes.get(start as usize..).and_then(|rest| rest.get(..len as usize));
///     text.push_str(&String::from_utf8_lossy(bytes.ok_or_else(|| Error::msg("out of bounds"))?));
///     Ok(())
/// });
/// let instance = Instance::new(&mut store, &module, &[print.into()])?;
/// instance.get_typed_func::<(), ()>(&mut store, "run")?.call(&mut store, ())?;
/// assert_eq!(store.data(), "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.store.core.engine
    }

    /// The calling instance, if a guest called.
    pub fn instance(&self) -> Option<Instance> {
        self.instance
    }

    /// An export of the calling instance.
    pub fn get_export(&mut self, name: &str) -> Option<Extern> {
        let instance = self.instance?;
        instance.get_export(self, name)
    }
}

/// What a host function may return: nothing, a value, a tuple of up to 4 values, or a `Result` of those.
pub trait HostResults {
    /// The results without the `Result`.
    #[doc(hidden)]
    type Values: WasmResults;

    /// The results, or the error that ends the guest.
    ///
    /// # Errors
    /// The host function's own.
    #[doc(hidden)]
    fn into_values(self) -> Result<Self::Values>;
}

impl<R: WasmResults> HostResults for R {
    type Values = R;
    #[inline(always)]
    fn into_values(self) -> Result<R> {
        Ok(self)
    }
}

impl<R: WasmResults> HostResults for Result<R> {
    type Values = R;
    #[inline(always)]
    fn into_values(self) -> Result<R> {
        self
    }
}

/// A closure that can be a host function: `Fn(Caller<'_, T>, A, B, ..) -> R` or `Fn(A, B, ..) -> R`,
/// `R` being a result type or `Result` of one.
pub trait IntoFunc<T, P, R>: Send + Sync + 'static {
    /// The type and the function that takes slots. Its store must have data of type `T`.
    #[doc(hidden)]
    fn into_host(self) -> (FuncType, ErasedHostFunc);
}

/// A host function without its types. Opaque outside of the crate.
#[doc(hidden)]
pub type ErasedHostFunc = HostFunc;

/// The type of a host function with these parameters and results.
fn type_of<P: WasmParams, R: HostResults>() -> FuncType {
    let (mut params, mut results) = (Vec::new(), Vec::new());
    P::types(&mut params);
    R::Values::types(&mut results);
    FuncType::new(params, results)
}

/// The instance that calls a host function.
fn calling_instance<T: 'static>(store: &StoreInner<T>) -> Option<Instance> {
    let caller: *const InstanceRec = store.core.caller;
    // SAFETY: it is null or the instance whose code is calling, which lives at least as long as its code runs.
    (!caller.is_null()).then(|| Instance {
        store: store.core.id,
        group: unsafe { (*caller).group },
    })
}

/// Converts parameters, calls, converts results.
///
/// # Safety
/// `store` is a `*mut StoreInner<T>` that nothing else uses meanwhile; `slots` holds parameters of the types `P`
/// of that store and has room for the results.
#[inline(always)]
unsafe fn call_typed<T: 'static, P: WasmParams, R: HostResults>(
    store: *mut (),
    slots: &mut [u64],
    call: impl FnOnce(Caller<'_, T>, P) -> R,
) -> Result<()> {
    // SAFETY: by the contract.
    let (inner, params) = unsafe {
        let inner = &mut *store.cast::<StoreInner<T>>();
        let params = P::load(slots, inner.core.id);
        (inner, params)
    };
    let instance = calling_instance(inner);
    let outcome = {
        let caller = Caller {
            store: &mut *inner,
            instance,
        };
        catch_unwind(AssertUnwindSafe(move || call(caller, params).into_values()))
    };
    match outcome {
        Ok(values) => values?.store(slots, StoreView(&inner.core)),
        Err(payload) => Err(panicked("host function", &*payload)),
    }
}

/// A host function with dynamic types.
pub(crate) fn dynamic<T: 'static>(
    ty: FuncType,
    call: impl Fn(Caller<'_, T>, &[Val], &mut [Val]) -> Result<()> + Send + Sync + 'static,
) -> HostFunc {
    Arc::new(move |store: *mut (), slots: &mut [u64]| {
        // SAFETY: a host function is called with its store, which has data of type `T`, and nothing else uses the
        // store until it returns.
        let inner = unsafe { &mut *store.cast::<StoreInner<T>>() };
        let id = inner.core.id;
        let mut params: SmallVec<[Val; 8]> = SmallVec::with_capacity(ty.params().len());
        for (slot, ty) in slots.iter().zip(ty.params()) {
            // SAFETY: the slots hold parameters of the function's type.
            params.push(unsafe { Val::from_slot(*slot, *ty, id) });
        }
        let mut results: SmallVec<[Val; 4]> = ty
            .results()
            .iter()
            .map(|ty| Val::default_for(*ty))
            .collect();
        let instance = calling_instance(inner);
        let caller = Caller {
            store: &mut *inner,
            instance,
        };
        catch_unwind(AssertUnwindSafe(|| call(caller, &params, &mut results)))
            .unwrap_or_else(|payload| Err(panicked("host function", &*payload)))?;
        for (i, ((slot, result), ty)) in
            slots.iter_mut().zip(&results).zip(ty.results()).enumerate()
        {
            *slot = result
                .slot_for(*ty, &inner.core)
                .map_err(|e| e.context(format!("result {i} of a host function")))?;
        }
        Ok(())
    })
}

macro_rules! into_func {
    ($($name:ident)*) => {
        #[expect(non_snake_case, reason = "each parameter is named after its type parameter")]
        const _: () = {
            impl<T: 'static, F, R: HostResults + 'static, $($name: WasmTy),*>
                IntoFunc<T, (Caller<'static, T>, $($name,)*), R> for F
            where
                F: Fn(Caller<'_, T>, $($name),*) -> R + Send + Sync + 'static,
            {
                fn into_host(self) -> (FuncType, HostFunc) {
                    let call = move |store: *mut (), slots: &mut [u64]| {
                        // SAFETY: a host function is called with its store, which has data of type `T`, and with
                        // slots of its type; nothing else uses the store until it returns.
                        unsafe {
                            call_typed::<T, ($($name,)*), R>(store, slots, |caller, ($($name,)*)| {
                                self(caller, $($name),*)
                            })
                        }
                    };
                    (type_of::<($($name,)*), R>(), Arc::new(call))
                }
            }

            impl<T: 'static, F, R: HostResults + 'static, $($name: WasmTy),*>
                IntoFunc<T, ($($name,)*), R> for F
            where
                F: Fn($($name),*) -> R + Send + Sync + 'static,
            {
                fn into_host(self) -> (FuncType, HostFunc) {
                    let call = move |store: *mut (), slots: &mut [u64]| {
                        // SAFETY: as above.
                        unsafe {
                            call_typed::<T, ($($name,)*), R>(store, slots, |_, ($($name,)*)| {
                                self($($name),*)
                            })
                        }
                    };
                    (type_of::<($($name,)*), R>(), Arc::new(call))
                }
            }
        };
    };
}
into_func!();
into_func!(A1);
into_func!(A1 A2);
into_func!(A1 A2 A3);
into_func!(A1 A2 A3 A4);
into_func!(A1 A2 A3 A4 A5);
into_func!(A1 A2 A3 A4 A5 A6);
into_func!(A1 A2 A3 A4 A5 A6 A7);
into_func!(A1 A2 A3 A4 A5 A6 A7 A8);
into_func!(A1 A2 A3 A4 A5 A6 A7 A8 A9);
into_func!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10);
into_func!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11);
into_func!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12);
into_func!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 A13);
into_func!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 A13 A14);
into_func!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 A13 A14 A15);
into_func!(A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 A13 A14 A15 A16);
