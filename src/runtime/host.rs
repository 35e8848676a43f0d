//! Host functions: closures of the embedder as functions that guests call.
//!
//! A closure is wrapped once, when it is defined, in one that takes slots; a call then allocates nothing and goes
//! through one indirect jump. The wrapper catches panics, because no unwinding may pass guest frames.

use super::func::Func;
use super::instance::{Extern, Instance};
use super::limits::panicked;
use super::records::{FuncRec, HostFunc};
use super::store::StoreInner;
use super::typed::{Sealed, StoreView, WasmParams, WasmResults, WasmTy};
use super::value::Val;
use crate::config::Engine;
use crate::error::Result;
use crate::module::FuncType;
use conversion::{Erased, IntoHost, Permit};
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
    /// Where the call returns to; null if the embedder called.
    return_address: *const u8,
    /// The frame of the host function.
    frame: *const u64,
}

// SAFETY: the store can be sent; the address is only compared with those of the store's code, and the frame is one of the
// store's own stack.
unsafe impl<T: Send + 'static> Send for Caller<'_, T> {}

impl<'a, T: 'static> Caller<'a, T> {
    /// The caller of the host function that is about to run.
    fn new(store: &'a mut StoreInner<T>) -> Caller<'a, T> {
        Caller {
            return_address: store.core.caller,
            frame: store.core.ctx.sp.cast(),
            store,
        }
    }

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
        let core = &self.store.core;
        // The word before the place that a call returns to is one of the call itself.
        let address = self.return_address.addr().checked_sub(size_of::<u64>())?;
        let record: *const FuncRec = core.code.find(address)?.0.record.cast();
        // SAFETY: code belongs to a live record, or to none (then this is null), and lives as long as that. The code
        // of a function of a module has an instance.
        let instance = unsafe { record.as_ref()?.instance.as_ref()? };
        Some(Instance {
            store: core.id,
            group: instance.group,
        })
    }

    /// The guests' functions that wait for this call, innermost first, as far as they run in one piece: the list ends where
    /// a host function called in between, and after `most` frames.
    pub(crate) fn waiting(&self, most: usize) -> Vec<Func> {
        let core = &self.store.core;
        let mut found = Vec::new();
        if self.return_address.is_null() {
            return found;
        }
        let mut frame = self.frame;
        for _ in 0..most {
            // SAFETY: below each frame of a run are its return address and its caller's frame; the host function's is one
            // until it returns, which `self` does not outlive. The address of a run's entry, which has no caller, is in no
            // code of the store, so the walk stops there.
            let (return_address, caller) = unsafe { (*frame.sub(1), *frame.sub(2) as *const u64) };
            let call = usize::try_from(return_address).unwrap_or(0);
            let Some((code, _)) = core.code.find(call.wrapping_sub(size_of::<u64>())) else {
                break;
            };
            let record: *const FuncRec = code.record.cast();
            // SAFETY: code belongs to a live record, or to none (then this is null), and lives as long as that.
            if let Some(record) = unsafe { record.as_ref() } {
                found.push(Func {
                    store: core.id,
                    group: record.group,
                    place: record.place,
                });
            }
            frame = caller;
        }
        found
    }

    /// An export of the calling instance.
    pub fn get_export(&mut self, name: &str) -> Option<Extern> {
        let instance = self.instance()?;
        instance.get_export(self, name)
    }
}

/// What a host function may return: nothing, a value, a tuple of up to 4 values, or a `Result` of those.
///
/// The trait cannot be implemented elsewhere.
pub trait HostResults: Sealed {
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

impl<R: WasmResults> Sealed for Result<R> {}
impl<R: WasmResults> HostResults for Result<R> {
    type Values = R;
    #[inline(always)]
    fn into_values(self) -> Result<R> {
        self
    }
}

/// A closure that can be a host function: `Fn(Caller<'_, T>, A, B, ..) -> R` or `Fn(A, B, ..) -> R`,
/// `R` being a result type or `Result` of one.
///
/// The trait cannot be implemented elsewhere, nor its conversion be called: what comes out of it takes any pointer for
/// a store.
///
/// ```compile_fail
/// struct Forged;
/// impl dynlink::IntoFunc<(), (), ()> for Forged {}
/// ```
///
/// ```compile_fail
/// fn convert<F: dynlink::IntoFunc<(), (i32,), i32>>(closure: F) {
///     closure.into_host();
/// }
/// convert(|n: i32| n);
/// ```
pub trait IntoFunc<T, P, R>: conversion::IntoHost<T, P, R> {}
impl<T, P, R, F: conversion::IntoHost<T, P, R>> IntoFunc<T, P, R> for F {}

/// The conversion behind [`IntoFunc`]. Nothing here can be named outside of the crate.
pub(crate) mod conversion {
    use super::{FuncType, HostFunc};

    /// A host function without its types: only the engine can look inside.
    pub struct Erased {
        pub(crate) ty: FuncType,
        /// The function that takes slots. Its store must have data of type `T`.
        pub(crate) call: HostFunc,
    }

    /// What only the crate can make, so that only the crate can convert.
    pub struct Permit(pub(super) ());

    /// A closure as a function that takes slots.
    pub trait IntoHost<T, P, R>: Send + Sync + 'static {
        /// The type and the function.
        #[doc(hidden)]
        fn into_host(self, permit: Permit) -> Erased;
    }
}

/// The type of a closure and the function that takes slots. Its store must have data of type `T`.
pub(crate) fn typed<T: 'static, P, R>(closure: impl IntoFunc<T, P, R>) -> (FuncType, HostFunc) {
    let Erased { ty, call } = closure.into_host(Permit(()));
    (ty, call)
}

/// The type of a host function with these parameters and results.
fn type_of<P: WasmParams, R: HostResults>() -> FuncType {
    let (mut params, mut results) = (Vec::new(), Vec::new());
    P::types(&mut params);
    R::Values::types(&mut results);
    FuncType::new(params, results)
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
    let outcome = {
        let caller = Caller::new(inner);
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
        let caller = Caller::new(inner);
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
        #[allow(non_snake_case, reason = "each parameter is named after its type parameter")]
        const _: () = {
            impl<T: 'static, F, R: HostResults + 'static, $($name: WasmTy),*>
                IntoHost<T, (Caller<'static, T>, $($name,)*), R> for F
            where
                F: Fn(Caller<'_, T>, $($name),*) -> R + Send + Sync + 'static,
            {
                fn into_host(self, _: Permit) -> Erased {
                    let call = move |store: *mut (), slots: &mut [u64]| {
                        // SAFETY: a host function is called with its store, which has data of type `T`, and with
                        // slots of its type; nothing else uses the store until it returns.
                        unsafe {
                            call_typed::<T, ($($name,)*), R>(store, slots, |caller, ($($name,)*)| {
                                self(caller, $($name),*)
                            })
                        }
                    };
                    Erased { ty: type_of::<($($name,)*), R>(), call: Arc::new(call) }
                }
            }

            impl<T: 'static, F, R: HostResults + 'static, $($name: WasmTy),*>
                IntoHost<T, ($($name,)*), R> for F
            where
                F: Fn($($name),*) -> R + Send + Sync + 'static,
            {
                fn into_host(self, _: Permit) -> Erased {
                    let call = move |store: *mut (), slots: &mut [u64]| {
                        // SAFETY: as above.
                        unsafe {
                            call_typed::<T, ($($name,)*), R>(store, slots, |_, ($($name,)*)| {
                                self($($name),*)
                            })
                        }
                    };
                    Erased { ty: type_of::<($($name,)*), R>(), call: Arc::new(call) }
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

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::error::Error;
    use crate::module::ValType;
    use crate::runtime::{Store, WasmTy};

    fn message<R>(result: Result<R>) -> String {
        match result {
            Ok(_) => "no error".to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn sixteen_parameters_of_all_types_arrive_in_order() {
        let mut store = testing::store(Vec::new());
        let func = Func::wrap(
            &mut store,
            |mut caller: Caller<'_, Vec<f64>>,
             a: i32,
             b: u32,
             c: i64,
             d: u64,
             e: f32,
             f: f64,
             g: Option<Func>,
             h: i32,
             i: i32,
             j: i32,
             k: i32,
             l: i32,
             m: i32,
             n: i32,
             o: i32,
             p: f32| {
                let all = [
                    a.into(),
                    b.into(),
                    c as f64,
                    d as f64,
                    e.into(),
                    f,
                    f64::from(u8::from(g.is_some())),
                ];
                let rest = [h, i, j, k, l, m, n, o].map(f64::from);
                *caller.data_mut() = [&all[..], &rest, &[p.into()]].concat();
            },
        );
        assert_eq!(func.ty(&store).params().len(), 16);
        type Params = (
            i32,
            u32,
            i64,
            u64,
            f32,
            f64,
            Option<Func>,
            i32,
            i32,
            i32,
            i32,
            i32,
            i32,
            i32,
            i32,
            f32,
        );
        let typed = func.typed::<Params, ()>(&store).unwrap();
        let some = Some(func);
        let params = (
            -1, 2, -3, 4, 5.5, 6.5, some, 7, 8, 9, 10, 11, 12, 13, 14, 0.25,
        );
        typed.call(&mut store, params).unwrap();
        let expected = [
            -1.0, 2.0, -3.0, 4.0, 5.5, 6.5, 1.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 0.25,
        ];
        assert_eq!(store.data()[..], expected);
    }

    fn round_trip<V: WasmTy + PartialEq + std::fmt::Debug>(values: &[V]) {
        let mut store = testing::store(());
        let func = Func::wrap(&mut store, |value: V| value);
        let typed = func.typed::<V, V>(&store).unwrap();
        for value in values {
            assert_eq!(typed.call(&mut store, *value).unwrap(), *value);
        }
    }

    #[test]
    fn extreme_values_go_in_and_out_unchanged() {
        round_trip(&[0, -1, i32::MIN, i32::MAX]);
        round_trip(&[0, u32::MAX]);
        round_trip(&[0, -1, i64::MIN, i64::MAX]);
        round_trip(&[0, u64::MAX]);
        round_trip(&[0.0, -0.0, f32::INFINITY, f32::MIN_POSITIVE]);
        round_trip(&[0.0, -0.0, f64::NEG_INFINITY, f64::MIN_POSITIVE]);
        let mut store = testing::store(());
        let func = Func::wrap(&mut store, |value: f32| value);
        let nan = f32::from_bits(0x7fa0_1234);
        let typed = func.typed::<f32, f32>(&store).unwrap();
        assert_eq!(
            typed.call(&mut store, nan).unwrap().to_bits(),
            nan.to_bits()
        );
    }

    #[test]
    fn results_are_nothing_a_value_a_tuple_or_a_result_of_those() {
        let mut store = testing::store(());
        let none = Func::wrap(&mut store, || {});
        let four = Func::wrap(&mut store, || (1_i32, 2_i64, 3_f32, 4_f64));
        let pair = Func::wrap(&mut store, |ok: i32| match ok {
            0 => Err(Error::exit(3)),
            n => Ok((n, u64::MAX)),
        });
        none.typed::<(), ()>(&store)
            .unwrap()
            .call(&mut store, ())
            .unwrap();
        let four = four.typed::<(), (i32, i64, f32, f64)>(&store).unwrap();
        assert_eq!(four.call(&mut store, ()).unwrap(), (1, 2, 3.0, 4.0));
        let pair = pair.typed::<i32, (i32, u64)>(&store).unwrap();
        assert_eq!(pair.call(&mut store, 5).unwrap(), (5, u64::MAX));
        assert_eq!(pair.call(&mut store, 0).unwrap_err().exit_status(), Some(3));
    }

    #[test]
    fn a_panic_of_a_host_function_is_an_error_and_the_store_stays_usable() {
        let mut store = testing::store(0);
        let func = Func::wrap(&mut store, |mut caller: Caller<'_, i32>, n: i32| {
            *caller.data_mut() += 1;
            assert!(n != 13, "unlucky {n}");
            n
        });
        let dynamic = Func::new(&mut store, FuncType::new([], []), |_, _, _| {
            panic!("static")
        });
        let typed = func.typed::<i32, i32>(&store).unwrap();
        let error = message(typed.call(&mut store, 13));
        assert_eq!(error, "host function panicked: unlucky 13");
        assert_eq!(typed.call(&mut store, 14).unwrap(), 14);
        let error = message(dynamic.call(&mut store, &[], &mut []));
        assert_eq!(error, "host function panicked: static");
        assert_eq!(*store.data(), 2);
    }

    #[test]
    fn a_dynamic_function_takes_any_number_of_parameters() {
        let mut store = testing::store(());
        let ty = FuncType::new([ValType::I32; 26], [ValType::I64, ValType::I32]);
        let func = Func::new(&mut store, ty, |_, params, results| {
            assert_eq!(results[0].ty(), ValType::I64);
            results[0] = params
                .iter()
                .filter_map(Val::i32)
                .map(i64::from)
                .sum::<i64>()
                .into();
            results[1] = params[25];
            Ok(())
        });
        let params: Vec<Val> = (1..=26).map(Val::I32).collect();
        let mut results = [Val::I32(0); 2];
        func.call(&mut store, &params, &mut results).unwrap();
        assert_eq!((results[0].i64(), results[1].i32()), (Some(351), Some(26)));
    }

    #[test]
    fn wrong_arguments_and_wrong_results_are_errors() {
        let mut store = testing::store(());
        let ty = FuncType::new([ValType::I32], [ValType::I32]);
        let func = Func::new(&mut store, ty, |_, _, results| {
            results[0] = Val::F32(0);
            Ok(())
        });
        let mut one = [Val::I32(0)];
        let error = message(func.call(&mut store, &[], &mut one));
        assert!(error.contains("has 1 parameters and 1 results, the call has 0 and 1"));
        let error = message(func.call(&mut store, &[Val::I64(1)], &mut one));
        assert_eq!(
            error,
            "parameter 0: a value of type i32 is needed, found one of type i64"
        );
        let error = message(func.call(&mut store, &[Val::I32(1)], &mut one));
        assert!(
            error.starts_with("result 0 of a host function: a value of type i32"),
            "{error}"
        );
        let error = message(func.typed::<i32, ()>(&store));
        assert!(
            error.contains("expected (i32) -> (), found (i32) -> (i32)"),
            "{error}"
        );
    }

    #[test]
    fn functions_of_other_stores_are_refused_everywhere() {
        let mut store = testing::store(());
        let mut other = testing::store(());
        let foreign = Func::wrap(&mut other, || {});
        let typed = foreign.typed::<(), ()>(&other).unwrap();
        let identity = Func::wrap(&mut store, |func: Option<Func>| func);
        let returns = Func::wrap(&mut store, move || Some(foreign));
        assert!(foreign.call(&mut store, &[], &mut []).is_err());
        assert!(foreign.typed::<(), ()>(&store).is_err());
        assert!(typed.call(&mut store, ()).is_err());
        let mut result = [Val::FuncRef(None)];
        assert!(
            identity
                .call(&mut store, &[foreign.into()], &mut result)
                .is_err()
        );
        assert!(returns.call(&mut store, &[], &mut result).is_err());
        identity
            .call(&mut store, &[identity.into()], &mut result)
            .unwrap();
        assert!(matches!(result[0], Val::FuncRef(Some(func)) if func == identity));
    }

    #[test]
    #[should_panic(expected = "object used with the wrong store")]
    fn a_handle_of_another_store_panics_where_no_error_can_be_returned() {
        let store = testing::store(());
        let mut other = testing::store(());
        let foreign = Func::wrap(&mut other, || {});
        foreign.ty(&store);
    }

    #[test]
    fn host_functions_call_functions_of_the_store_again() {
        fn countdown(store: &mut Store<Option<Func>>) -> Func {
            Func::wrap(store, |mut caller: Caller<'_, Option<Func>>, n: i32| {
                assert!(caller.instance().is_none());
                let Some(own) = *caller.data() else {
                    return Err(Error::msg("unset"));
                };
                let own = own.typed::<i32, i32>(&caller)?;
                if n == 0 {
                    Ok(0)
                } else {
                    Ok(1 + own.call(&mut caller, n - 1)?)
                }
            })
        }
        let mut store = testing::store(None);
        let func = countdown(&mut store);
        *store.data_mut() = Some(func);
        let typed = func.typed::<i32, i32>(&store).unwrap();
        assert_eq!(typed.call(&mut store, 50).unwrap(), 50);
    }
}
