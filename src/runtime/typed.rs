//! Typed calls: Rust types that are WebAssembly values, and functions whose types are known at compile time.

use super::func::Func;
use super::store::{AsContextMut, StoreCore, call};
use super::value::{func_of_slot, func_slot};
use crate::error::{Error, Result};
use crate::module::{FuncType, RefType, ValType};
use smallvec::{SmallVec, smallvec};
use std::marker::PhantomData;

/// A function whose types are known at compile time.
///
/// ```
/// use dynlink::{Engine, Instance, Module, Store};
///
/// let engine = Engine::default();
/// let module = Module::new(&engine, &wat::parse_str(
///     r#"(module (func (export "divide") (param i32 i32) (result i32 i32)
///         (i32.div_u (local.get 0) (local.get 1))
///         (i32.rem_u (local.get 0) (local.get 1))))"#,
/// )?)?;
/// let mut store = Store::new(&engine, ());
/// let instance = Instance::new(&mut store, &module, &[])?;
/// let divide = instance.get_typed_func::<(u32, u32), (u32, u32)>(&mut store, "divide")?;
/// assert_eq!(divide.call(&mut store, (17, 5))?, (3, 2));
/// assert!(divide.call(&mut store, (17, 0)).unwrap_err().trap().is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TypedFunc<P, R> {
    func: Func,
    types: PhantomData<fn(P) -> R>,
}

impl<P, R> Clone for TypedFunc<P, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P, R> Copy for TypedFunc<P, R> {}

impl<P, R> std::fmt::Debug for TypedFunc<P, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TypedFunc").field(&self.func).finish()
    }
}

impl<P: WasmParams, R: WasmResults> TypedFunc<P, R> {
    /// A typed handle of a function of type `found`.
    ///
    /// # Errors
    /// `P` and `R` are another type.
    pub(crate) fn new(func: Func, found: &FuncType) -> Result<TypedFunc<P, R>> {
        if P::matches(found.params()) && R::matches(found.results()) {
            return Ok(TypedFunc {
                func,
                types: PhantomData,
            });
        }
        let (mut params, mut results) = (Vec::new(), Vec::new());
        P::types(&mut params);
        R::types(&mut results);
        Err(Error::usage(format!(
            "the function has another type: expected {}, found {found}",
            FuncType::new(params, results)
        )))
    }

    /// Calls the function.
    ///
    /// # Errors
    /// A trap, an error of a host function, or a handle of another store.
    pub fn call(&self, mut store: impl AsContextMut, params: P) -> Result<R> {
        let inner = store.as_context_mut().0;
        let func = inner.core.find_func(self.func)?;
        let mut slots: SmallVec<[u64; 8]> = smallvec![0; P::COUNT.max(R::COUNT)];
        params.store(&mut slots, StoreView(&inner.core))?;
        let (core, pointer) = inner.pointers();
        // SAFETY: the record is live, the pointers come from the exclusive borrow, and `P` and `R` are the types of
        // the function: `new` checked them, and a record never changes its type.
        unsafe {
            call(core, pointer, func, &mut slots)?;
            Ok(R::load(&slots, self.func.store))
        }
    }

    /// The untyped handle.
    pub fn func(&self) -> Func {
        self.func
    }
}

/// What conversions see of a store. Opaque outside of the crate.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct StoreView<'a>(pub(crate) &'a StoreCore);

/// Keeps the traits of this file from being implemented elsewhere: the engine relies on them.
mod sealed {
    pub trait Sealed {}
}
pub(crate) use sealed::Sealed;

/// A Rust type that is a WebAssembly value: `i32 u32 i64 u64 f32 f64 Option<Func>`.
pub trait WasmTy: Sealed + Copy + Send + Sync + 'static {
    /// The type.
    const TYPE: ValType;

    /// The value as a slot.
    ///
    /// # Errors
    /// A function of another store.
    #[doc(hidden)]
    fn into_slot(self, store: StoreView<'_>) -> Result<u64>;

    /// The value in a slot.
    ///
    /// # Safety
    /// The slot holds a value of this type of the store with this number.
    #[doc(hidden)]
    unsafe fn from_slot(slot: u64, store: u32) -> Self;
}

macro_rules! numbers {
    ($($ty:ty = $wasm:ident, $value:ident => $into:expr, $slot:ident => $from:expr;)*) => { $(
        impl Sealed for $ty {}
        impl WasmTy for $ty {
            const TYPE: ValType = ValType::$wasm;
            #[inline(always)]
            fn into_slot(self, _: StoreView<'_>) -> Result<u64> {
                let $value = self;
                Ok($into)
            }
            #[inline(always)]
            unsafe fn from_slot($slot: u64, _: u32) -> Self {
                $from
            }
        }
    )* };
}
// The upper half of a 32-bit value's slot is written as zero and ignored when read.
numbers! {
    i32 = I32, v => u64::from(v.cast_unsigned()), slot => slot as i32;
    u32 = I32, v => u64::from(v), slot => slot as u32;
    i64 = I64, v => v.cast_unsigned(), slot => slot.cast_signed();
    u64 = I64, v => v, slot => slot;
    f32 = F32, v => u64::from(v.to_bits()), slot => f32::from_bits(slot as u32);
    f64 = F64, v => v.to_bits(), slot => f64::from_bits(slot);
}

impl Sealed for Option<Func> {}
impl WasmTy for Option<Func> {
    const TYPE: ValType = ValType::Ref(RefType::Func);
    fn into_slot(self, store: StoreView<'_>) -> Result<u64> {
        func_slot(self, store.0)
    }
    unsafe fn from_slot(slot: u64, store: u32) -> Self {
        // SAFETY: by the contract.
        unsafe { func_of_slot(slot, store) }
    }
}

/// A list of values of fixed types.
macro_rules! value_list {
    ($(#[$doc:meta])* $trait:ident) => {
        $(#[$doc])*
        ///
        /// The trait cannot be implemented elsewhere.
        pub trait $trait: Sealed + 'static + Sized {
            /// Number of values.
            #[doc(hidden)]
            const COUNT: usize;

            /// Adds the types to a list.
            #[doc(hidden)]
            fn types(list: &mut Vec<ValType>);

            /// Whether these are the types.
            #[doc(hidden)]
            fn matches(types: &[ValType]) -> bool;

            /// Puts the values into slots, of which there are enough.
            ///
            /// # Errors
            /// A function of another store.
            #[doc(hidden)]
            fn store(self, slots: &mut [u64], store: StoreView<'_>) -> Result<()>;

            /// Takes the values out of slots.
            ///
            /// # Safety
            /// The first slots hold values of these types of the store with this number.
            #[doc(hidden)]
            unsafe fn load(slots: &[u64], store: u32) -> Self;
        }

        impl<A: WasmTy> $trait for A {
            const COUNT: usize = 1;
            fn types(list: &mut Vec<ValType>) {
                list.push(A::TYPE);
            }
            fn matches(types: &[ValType]) -> bool {
                types == [A::TYPE]
            }
            #[inline]
            fn store(self, slots: &mut [u64], store: StoreView<'_>) -> Result<()> {
                slots[0] = self.into_slot(store)?;
                Ok(())
            }
            #[inline]
            unsafe fn load(slots: &[u64], store: u32) -> Self {
                // SAFETY: by the contract.
                unsafe { A::from_slot(slots[0], store) }
            }
        }
    };
}
value_list! {
    /// Parameters: `()`, one value, or a tuple of up to 16.
    WasmParams
}
value_list! {
    /// Results: `()`, one value, or a tuple of up to 4.
    WasmResults
}

macro_rules! tuple {
    ($trait:ident: $count:literal $($name:ident $place:literal)*) => {
        impl<$($name: WasmTy),*> $trait for ($($name,)*) {
            const COUNT: usize = $count;
            fn types(_list: &mut Vec<ValType>) {
                $(_list.push($name::TYPE);)*
            }
            fn matches(types: &[ValType]) -> bool {
                let own: [ValType; $count] = [$($name::TYPE),*];
                types == own
            }
            #[inline]
            fn store(self, slots: &mut [u64], _store: StoreView<'_>) -> Result<()> {
                #[expect(non_snake_case, reason = "each value is named after its type parameter")]
                let ($($name,)*) = self;
                let _slots = &mut slots[..$count];
                $(_slots[$place] = $name.into_slot(_store)?;)*
                Ok(())
            }
            #[inline]
            unsafe fn load(slots: &[u64], _store: u32) -> Self {
                let _slots = &slots[..$count];
                // SAFETY: by the contract.
                unsafe { ($($name::from_slot(_slots[$place], _store),)*) }
            }
        }
    };
}
macro_rules! tuples {
    ($trait:ident) => {
        tuple!($trait: 1 A 0);
        tuple!($trait: 2 A 0 B 1);
        tuple!($trait: 3 A 0 B 1 C 2);
        tuple!($trait: 4 A 0 B 1 C 2 D 3);
    };
}
macro_rules! no_values {
    ($($trait:ident)*) => { $(
        impl $trait for () {
            const COUNT: usize = 0;
            fn types(_: &mut Vec<ValType>) {}
            fn matches(types: &[ValType]) -> bool {
                types.is_empty()
            }
            #[inline]
            fn store(self, _: &mut [u64], _: StoreView<'_>) -> Result<()> {
                Ok(())
            }
            #[inline]
            unsafe fn load(_: &[u64], _: u32) -> Self {}
        }
    )* };
}
no_values!(WasmParams WasmResults);
tuples!(WasmResults);
tuples!(WasmParams);

impl Sealed for () {}
macro_rules! seal {
    () => {};
    ($first:ident $($rest:ident)*) => {
        impl<$first: WasmTy, $($rest: WasmTy),*> Sealed for ($first, $($rest,)*) {}
        seal!($($rest)*);
    };
}
seal!(A B C D E F G H I J K L M N O P);

tuple!(WasmParams: 5 A 0 B 1 C 2 D 3 E 4);
tuple!(WasmParams: 6 A 0 B 1 C 2 D 3 E 4 F 5);
tuple!(WasmParams: 7 A 0 B 1 C 2 D 3 E 4 F 5 G 6);
tuple!(WasmParams: 8 A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7);
tuple!(WasmParams: 9 A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8);
tuple!(WasmParams: 10 A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9);
tuple!(WasmParams: 11 A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10);
tuple!(WasmParams: 12 A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10 L 11);
tuple!(WasmParams: 13 A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10 L 11 M 12);
tuple!(WasmParams: 14 A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10 L 11 M 12 N 13);
tuple!(WasmParams: 15 A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10 L 11 M 12 N 13 O 14);
tuple!(WasmParams: 16 A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10 L 11 M 12 N 13 O 14 P 15);
