//! Functions that lead to other functions: deferred ones, which are bound at their first call or before, and
//! trampolines, which call an element of a table.
//!
//! A deferred function is bound once. Chains of deferred functions have no cycle, because [`bind`] refuses the link
//! that would close one.

use super::func::{Func, type_of};
use super::records::{FuncKind, FuncRec};
use super::store::{AsContext, AsContextMut, StoreContextMut, StoreCore, StoreInner};
use super::table::{Table, put};
use crate::error::{Error, Result};
use crate::module::{FuncType, RefType, ValType};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::Arc;

/// What a resolver found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// The deferred function is this one from now on.
    ForGood(Func),
    /// It is this one for one call: the next call asks again.
    Once(Func),
}

impl Func {
    /// A function that is not known yet: the first call resolves it and binds it for good; [`Func::bind`] does so earlier.
    pub(crate) fn deferred<T: 'static>(
        store: impl AsContextMut<Data = T>,
        ty: FuncType,
        resolve: impl Fn(StoreContextMut<'_, T>) -> Result<Func> + Send + Sync + 'static,
    ) -> Func {
        Func::deferred_with(store, ty, move |store| resolve(store).map(Found::ForGood))
    }

    /// As [`Func::deferred`]; the resolver says whether what it found is bound.
    pub(crate) fn deferred_with<T: 'static>(
        mut store: impl AsContextMut<Data = T>,
        ty: FuncType,
        resolve: impl Fn(StoreContextMut<'_, T>) -> Result<Found> + Send + Sync + 'static,
    ) -> Func {
        let core = &mut store.as_context_mut().0.core;
        let resolve = move |store: *mut ()| {
            // SAFETY: it is called with its store, which has data of type `T`, and nothing else uses the store
            // until it returns.
            let inner = unsafe { &mut *store.cast::<StoreInner<T>>() };
            let found = catch_unwind(AssertUnwindSafe(|| resolve(StoreContextMut(inner))))
                .unwrap_or_else(|payload| Err(super::limits::panicked("resolver", &*payload)))?;
            let (func, binds) = match found {
                Found::ForGood(func) => (func, true),
                Found::Once(func) => (func, false),
            };
            Ok((inner.core.find_func(func)?, binds))
        };
        let kind = FuncKind::Deferred {
            target: null_mut(),
            resolve: Some(Arc::new(resolve)),
        };
        core.add_func(&ty, kind)
    }

    /// Binds a deferred function. Later translated calls go straight to the target, and tables that hold the
    /// deferred function hold the target from now on.
    ///
    /// # Errors
    /// Types differ, the function is not deferred or is bound to another one, or the target leads back to the
    /// function itself.
    pub(crate) fn bind(&self, mut store: impl AsContextMut, target: Func) -> Result<()> {
        let core = &mut store.as_context_mut().0.core;
        let (func, target) = (core.find_func(*self)?, core.find_func(target)?);
        // SAFETY: both records are live.
        unsafe { bind(core, func, target) }
    }

    /// The function behind a bound deferred one; else itself.
    pub(crate) fn resolved(&self, store: impl AsContext) -> Func {
        let core = &store.as_context().0.core;
        // SAFETY: the record is live while the store is borrowed.
        unsafe { (*final_target(core.func(*self))).handle(core.id) }
    }

    /// Whether it is a deferred function that leads nowhere yet.
    pub(crate) fn is_deferred(&self, store: impl AsContext) -> bool {
        let core = &store.as_context().0.core;
        // SAFETY: the record is live while the store is borrowed.
        unsafe {
            matches!(
                (*final_target(core.func(*self))).kind,
                FuncKind::Deferred { .. }
            )
        }
    }

    /// A function that calls `table[p]` inside the interpreter loop, `p` being parameter number `pointer`, with the other
    /// parameters in order; a callee with fewer parameters gets the first ones. Traps if the types do not fit otherwise.
    ///
    /// It needs no memory of its own: the callee's is switched to if the caller runs with another one.
    ///
    /// # Panics
    /// If that parameter does not exist or is not an `i32`, the table is not one of functions, or it belongs to another
    /// store.
    pub fn trampoline(
        mut store: impl AsContextMut,
        ty: FuncType,
        table: Table,
        pointer: u16,
    ) -> Func {
        let core = &mut store.as_context_mut().0.core;
        let table = core.table(table);
        assert!(
            ty.params().get(usize::from(pointer)) == Some(&ValType::I32),
            "parameter {pointer} of a trampoline of type {ty} must be an i32"
        );
        // SAFETY: the record is live while the store is borrowed.
        let element = unsafe { (*table).element };
        assert!(
            element == RefType::Func,
            "a trampoline needs a table of functions"
        );
        core.add_func(&ty, FuncKind::Trampoline { table, pointer })
    }
}

/// The end of a chain of bound deferred functions: `func` itself if it is of another kind or not bound.
///
/// # Safety
/// `func` is live.
pub(crate) unsafe fn final_target(mut func: *mut FuncRec) -> *mut FuncRec {
    // SAFETY: `func` is live, and so is what it is bound to; the chain ends because `bind` refuses cycles.
    unsafe {
        while let FuncKind::Deferred { target, .. } = &(*func).kind
            && !target.is_null()
        {
            func = *target;
        }
    }
    func
}

/// Binds a deferred function to a target.
///
/// # Errors
/// As [`Func::bind`].
///
/// # Safety
/// All are live, and the records are of the store of `core`.
pub(crate) unsafe fn bind(
    core: *mut StoreCore,
    func: *mut FuncRec,
    target: *mut FuncRec,
) -> Result<()> {
    // SAFETY: by the contract; references end before hooks are called.
    unsafe {
        let target = final_target(target);
        if (*func).ty != (*target).ty {
            let (expected, found) = (type_of(&*core, func), type_of(&*core, target));
            return Err(Error::usage(format!(
                "a function of another type was found: expected {expected}, found {found}"
            )));
        }
        match &mut (*func).kind {
            FuncKind::Deferred { target: bound, .. } if bound.is_null() => {
                if target == func {
                    return Err(Error::usage("a function was bound to itself"));
                }
                *bound = target;
            }
            FuncKind::Deferred { .. } if final_target(func) == target => return Ok(()),
            FuncKind::Deferred { .. } => {
                return Err(Error::usage("a function was bound a second time"));
            }
            _ => return Err(Error::usage("only a deferred function can be bound")),
        }
        // Table elements that go through the stub become the target at once.
        for (table, index) in std::mem::take(&mut (*func).waiting) {
            put(core, table, u64::from(index), target as u64);
        }
        ((*core).hooks.bound)(core, func, target);
    }
    Ok(())
}

/// What a deferred function stands for; resolves and binds it if that was not done yet. `exec` calls this when a
/// deferred function is called.
///
/// # Errors
/// The resolver's, or as [`Func::bind`].
///
/// # Safety
/// `core` and `func` are live, `store` is the `*mut StoreInner<T>` around `core`, and no references to them exist.
pub(crate) unsafe fn resolve_deferred(
    core: *mut StoreCore,
    store: *mut (),
    func: *mut FuncRec,
) -> Result<*mut FuncRec> {
    // SAFETY: by the contract; the resolver is kept alive by its own count while it runs, and no references are kept
    // meanwhile, because it may create objects and run guest code. It may also have bound the function itself.
    unsafe {
        let found = final_target(func);
        let resolve = match &(*found).kind {
            FuncKind::Deferred { resolve, .. } => resolve.clone(),
            _ => return Ok(found),
        };
        let Some(resolve) = resolve else {
            return Err(Error::usage("a deferred function has no resolver"));
        };
        let (target, binds) = resolve(store)?;
        if final_target(found) != found {
            return Ok(final_target(found));
        }
        if binds {
            bind(core, found, target)?;
            return Ok(final_target(found));
        }
        let target = final_target(target);
        if target == found || (*target).ty != (*found).ty {
            return Err(Error::usage(
                "a resolver found a function that does not fit",
            ));
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::module::TableType;
    use crate::runtime::{Ref, Store, Val};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn number(ty: ValType) -> FuncType {
        FuncType::new([], [ty])
    }

    fn unresolvable(store: &mut Store<()>) -> Func {
        let resolve = |_: StoreContextMut<'_, ()>| Err(Error::msg("no such symbol"));
        Func::deferred(store, number(ValType::I32), resolve)
    }

    fn run(store: &mut Store<()>, func: Func) -> Result<i32> {
        func.typed::<(), i32>(&store)?.call(store, ())
    }

    #[test]
    fn the_first_call_resolves_and_later_calls_do_not() {
        static RESOLVED: AtomicUsize = AtomicUsize::new(0);
        let mut store = testing::store(());
        let seven = Func::wrap(&mut store, || 7);
        let func = Func::deferred(&mut store, number(ValType::I32), move |_| {
            RESOLVED.fetch_add(1, Ordering::Relaxed);
            Ok(seven)
        });
        assert_eq!(func.resolved(&store), func);
        assert_eq!(run(&mut store, func).unwrap(), 7);
        assert_eq!(run(&mut store, func).unwrap(), 7);
        assert_eq!(func.resolved(&store), seven);
        assert_eq!(RESOLVED.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_found_for_one_call_is_not_bound() {
        static RESOLVED: AtomicUsize = AtomicUsize::new(0);
        let mut store = testing::store(());
        let seven = Func::wrap(&mut store, || 7);
        let func = Func::deferred_with(&mut store, number(ValType::I32), move |_| {
            Ok(match RESOLVED.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Found::Once(seven),
                _ => Found::ForGood(seven),
            })
        });
        for asked in [1, 2, 3, 3] {
            assert_eq!(run(&mut store, func).unwrap(), 7);
            assert_eq!(RESOLVED.load(Ordering::Relaxed), asked);
        }
        assert_eq!(func.resolved(&store), seven);
        let long = Func::wrap(&mut store, || 7_i64);
        let func = Func::deferred_with(&mut store, number(ValType::I32), move |_| {
            Ok(Found::Once(long))
        });
        assert!(run(&mut store, func).is_err());
    }

    #[test]
    fn a_resolver_may_fail_and_is_asked_again() {
        let mut store = testing::store(());
        let func = unresolvable(&mut store);
        for _ in 0..2 {
            let error = run(&mut store, func).unwrap_err();
            assert_eq!(error.to_string(), "no such symbol");
        }
        let seven = Func::wrap(&mut store, || 7);
        func.bind(&mut store, seven).unwrap();
        assert_eq!(run(&mut store, func).unwrap(), 7);
    }

    #[test]
    fn a_panicking_resolver_and_one_that_finds_another_type_are_errors() {
        let mut store = testing::store(());
        let func = Func::deferred(&mut store, number(ValType::I32), |_| panic!("a bug"));
        let error = run(&mut store, func).unwrap_err().to_string();
        assert_eq!(error, "resolver panicked: a bug");

        let long = Func::wrap(&mut store, || 7_i64);
        let func = Func::deferred(&mut store, number(ValType::I32), move |_| Ok(long));
        let error = run(&mut store, func).unwrap_err().to_string();
        assert!(
            error.contains("expected () -> (i32), found () -> (i64)"),
            "{error}"
        );
    }

    #[test]
    fn a_resolver_may_bind_the_function_itself() {
        let mut store = testing::store(None);
        let seven = Func::wrap(&mut store, || 7);
        let func = Func::deferred(
            &mut store,
            number(ValType::I32),
            move |mut store: StoreContextMut<'_, Option<Func>>| {
                let own: Option<Func> = *store.data();
                own.ok_or_else(|| Error::msg("unset"))?
                    .bind(&mut store, seven)?;
                Ok(seven)
            },
        );
        *store.data_mut() = Some(func);
        let mut results = [Val::I32(0)];
        func.call(&mut store, &[], &mut results).unwrap();
        assert_eq!(results[0].i32(), Some(7));
    }

    #[test]
    fn bindings_form_no_cycles_and_are_final() {
        let mut store = testing::store(());
        let [a, b, c] = [(); 3].map(|()| unresolvable(&mut store));
        assert!(a.bind(&mut store, a).is_err());
        a.bind(&mut store, b).unwrap();
        b.bind(&mut store, c).unwrap();
        assert!(c.bind(&mut store, a).is_err());
        assert!(c.bind(&mut store, c).is_err());
        let seven = Func::wrap(&mut store, || 7);
        let eight = Func::wrap(&mut store, || 8);
        c.bind(&mut store, seven).unwrap();
        assert_eq!([a, b, c].map(|f| f.resolved(&store)), [seven; 3]);
        a.bind(&mut store, seven).unwrap();
        assert!(a.bind(&mut store, eight).is_err());
        assert!(seven.bind(&mut store, eight).is_err());
        assert_eq!(run(&mut store, a).unwrap(), 7);
    }

    #[test]
    fn tables_hold_the_target_of_a_bound_function() {
        let mut store = testing::store(());
        let ty = TableType {
            element: RefType::Func,
            minimum: 3,
            maximum: None,
        };
        let func = unresolvable(&mut store);
        let table = Table::new(&mut store, ty, func.into()).unwrap();
        let seven = Func::wrap(&mut store, || 7);
        func.bind(&mut store, seven).unwrap();
        let table_ref = |store: &mut Store<()>, index| match table.get(store, index) {
            Some(Ref::Func(func)) => func,
            _ => None,
        };
        assert_eq!(table_ref(&mut store, 2), Some(seven));
        table.set(&mut store, 1, func.into()).unwrap();
        assert_eq!(table_ref(&mut store, 1), Some(seven));
    }
}
