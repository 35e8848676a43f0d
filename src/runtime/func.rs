//! Functions: the handle, its type, and calls with dynamic types.

use super::group::{Group, Records};
use super::host::{Caller, IntoFunc, dynamic, typed};
use super::records::{FuncKind, FuncRec, MemoryRec, slots};
use super::store::{AsContext, AsContextMut, StoreCore, call};
use super::typed::{TypedFunc, WasmParams, WasmResults};
use super::value::Val;
use crate::error::{Error, Result};
use crate::module::FuncType;
use smallvec::{SmallVec, smallvec};
use std::ptr::null_mut;

/// A function of a store. Equal handles are the same function.
///
/// ```
/// use dynlink::{Engine, Func, Store, Val};
///
/// let mut store = Store::new(&Engine::default(), ());
/// let add = Func::wrap(&mut store, |a: i32, b: i32| a + b);
///
/// let mut results = [Val::I32(0)];
/// add.call(&mut store, &[Val::I32(2), Val::I32(3)], &mut results)?;
/// assert_eq!(results[0].i32(), Some(5));
///
/// let add = add.typed::<(i32, i32), i32>(&store)?;
/// assert_eq!(add.call(&mut store, (2, 3))?, 5);
/// # Ok::<(), dynlink::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Func {
    pub(crate) store: u32,
    pub(crate) group: u32,
    pub(crate) place: u32,
}

impl Func {
    /// A host function with dynamic types: parameters in, results out.
    ///
    /// Results are zero or null when `call` gets them. A panic of `call` becomes an error, because it must not unwind
    /// through guest frames.
    ///
    /// # Panics
    /// The type has more than 1000 parameters or results. No module can have such a function.
    ///
    /// ```
    /// use dynlink::{Engine, Func, FuncType, Store, Val, ValType};
    ///
    /// let mut store = Store::new(&Engine::default(), ());
    /// let ty = FuncType::new([ValType::I64; 20], [ValType::I64]);
    /// let sum = Func::new(&mut store, ty, |_caller, params, results| {
    ///     results[0] = params.iter().filter_map(Val::i64).sum::<i64>().into();
    ///     Ok(())
    /// });
    /// let mut results = [Val::I64(0)];
    /// sum.call(&mut store, &[Val::I64(2); 20], &mut results)?;
    /// assert_eq!(results[0].i64(), Some(40));
    /// # Ok::<(), dynlink::Error>(())
    /// ```
    pub fn new<T: 'static>(
        mut store: impl AsContextMut<Data = T>,
        ty: FuncType,
        call: impl Fn(Caller<'_, T>, &[Val], &mut [Val]) -> Result<()> + Send + Sync + 'static,
    ) -> Func {
        let core = &mut store.as_context_mut().0.core;
        let host = dynamic(ty.clone(), call);
        core.add_func(&ty, FuncKind::Host(host))
    }

    /// A host function from a closure with up to 16 parameters; the types come from its signature.
    ///
    /// The first parameter may be a [`Caller`]; the result may be a `Result`, whose error ends the guest. A panic of
    /// the closure becomes an error too, because it must not unwind through guest frames.
    ///
    /// ```
    /// use dynlink::{Caller, Engine, Error, Func, Store};
    ///
    /// let mut store = Store::new(&Engine::default(), vec![10, 20]);
    /// let nth = Func::wrap(&mut store, |caller: Caller<'_, Vec<i32>>, n: u32| {
    ///     let value = caller.data().get(n as usize).copied();
    ///     value.ok_or_else(|| Error::msg(format!("no value {n}")))
    /// });
    /// let nth = nth.typed::<u32, i32>(&store)?;
    /// assert_eq!(nth.call(&mut store, 1)?, 20);
    /// assert!(nth.call(&mut store, 2).is_err());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn wrap<T: 'static, P, R>(
        mut store: impl AsContextMut<Data = T>,
        call: impl IntoFunc<T, P, R>,
    ) -> Func {
        let core = &mut store.as_context_mut().0.core;
        let (ty, host) = typed(call);
        core.add_func(&ty, FuncKind::Host(host))
    }

    /// The function's type.
    pub fn ty(&self, store: impl AsContext) -> FuncType {
        let core = &store.as_context().0.core;
        let func = core.func(*self);
        // SAFETY: the record is live while the store is borrowed.
        unsafe { type_of(core, func) }
    }

    /// Calls the function.
    ///
    /// # Errors
    /// Wrong arguments, a trap, or an error of a host function.
    pub fn call(
        &self,
        mut store: impl AsContextMut,
        params: &[Val],
        results: &mut [Val],
    ) -> Result<()> {
        let inner = store.as_context_mut().0;
        let func = inner.core.find_func(*self)?;
        // SAFETY: the record is live while the store is borrowed.
        let ty = unsafe { type_of(&inner.core, func) };
        check_counts(&ty, params.len(), results.len())?;
        let mut slots: SmallVec<[u64; 16]> = smallvec![0; params.len().max(results.len())];
        for (i, (param, ty)) in params.iter().zip(ty.params()).enumerate() {
            slots[i] = param
                .slot_for(*ty, &inner.core)
                .map_err(|e| e.context(format!("parameter {i}")))?;
        }
        let (core, pointer) = inner.pointers();
        // SAFETY: the record is live, the pointers come from the exclusive borrow, the parameters have the types of
        // the function, and there is room for its results.
        unsafe { call(core, pointer, func, &mut slots)? };
        for ((result, slot), ty) in results.iter_mut().zip(slots).zip(ty.results()) {
            // SAFETY: a function leaves values of its result types.
            *result = unsafe { Val::from_slot(slot, *ty, self.store) };
        }
        Ok(())
    }

    /// A typed handle, which checks types once instead of at every call.
    ///
    /// # Errors
    /// The function has another type.
    pub fn typed<P: WasmParams, R: WasmResults>(
        &self,
        store: impl AsContext,
    ) -> Result<TypedFunc<P, R>> {
        let core = &store.as_context().0.core;
        let func = core.find_func(*self)?;
        // SAFETY: the record is live while the store is borrowed.
        let found = unsafe { type_of(core, func) };
        TypedFunc::new(*self, &found)
    }
}

/// Checks how many parameters and results a call has.
///
/// # Errors
/// Other counts than those of the type.
fn check_counts(ty: &FuncType, params: usize, results: usize) -> Result<()> {
    let (needed, given) = ((ty.params().len(), ty.results().len()), (params, results));
    if needed == given {
        return Ok(());
    }
    Err(Error::usage(format!(
        "a function of type {ty} has {} parameters and {} results, the call has {} and {}",
        needed.0, needed.1, given.0, given.1
    )))
}

/// The type of a function.
///
/// # Safety
/// `func` is a live record of `core`.
pub(crate) unsafe fn type_of(core: &StoreCore, func: *const FuncRec) -> FuncType {
    // SAFETY: by the contract.
    let id = unsafe { (*func).ty };
    core.engine
        .type_of(id)
        .unwrap_or_else(|| unreachable!("every record has a type id of its engine"))
}

impl FuncRec {
    /// A record whose code `exec` still has to prepare. Type, code and place are still to be set by the caller
    /// where they are not parameters.
    ///
    /// Panics if the type has more parameters or results than a valid module can have, which only a type that the
    /// host made up has.
    pub fn new(ty: &FuncType, id: u32, kind: FuncKind, mem: *mut MemoryRec) -> FuncRec {
        let (params, results) = slots(ty).unwrap_or_else(|error| panic!("{error}"));
        FuncRec {
            code: std::ptr::null(),
            frame: 0,
            ty: id,
            mem,
            stub: [0; 3],
            thunk: std::ptr::null(),
            kind,
            instance: null_mut(),
            index: 0,
            group: 0,
            place: 0,
            waiting: SmallVec::new(),
            params,
            results,
        }
    }

    /// The handle of this record in the store with this number.
    pub fn handle(&self, store: u32) -> Func {
        Func {
            store,
            group: self.group,
            place: self.place,
        }
    }
}

impl StoreCore {
    /// Adds a function that no module defined, in a group of its own. It needs no memory in the registers.
    pub fn add_func(&mut self, ty: &FuncType, kind: FuncKind) -> Func {
        let mut record = FuncRec::new(ty, self.engine.type_id(ty), kind, null_mut());
        record.group = self.next_group();
        let handle = record.handle(self.id);
        self.add_group(Group {
            funcs: Records::new(vec![record]),
            ..Group::empty()
        });
        // SAFETY: the record has its final address and is complete.
        unsafe { (self.hooks.prepare)(self, self.func(handle)) };
        handle
    }
}
