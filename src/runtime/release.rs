//! Takes groups away: what a failed load created, or a library that was closed.
//!
//! Records are reached through raw pointers, so before they die nothing that stays may lead to them. References that
//! guests can see (in tables, mutable globals and element segments) become null. What code has baked in or may have
//! (imports, bindings of deferred functions, tables of trampolines, immutable globals) cannot be taken back: if
//! something that stays has such a reference, the records stay as well, out of reach of handles, until the store goes.

use super::group::Group;
use super::records::{FuncKind, FuncRec, GlobalRec, InstanceRec, TableRec};
use super::store::StoreCore;
use super::table::{forget_waiting, put, rehome, slot_at};
use crate::ir::code::GroupRanges;
use crate::module::{RefType, ValType};
use std::ptr::null_mut;

/// Releases the groups with these numbers; handles to them become invalid.
///
/// # Safety
/// `core` is live and exclusively the caller's. No function of these groups is running, and no frame of running code
/// holds a reference to one.
pub(crate) unsafe fn release(core: *mut StoreCore, released: &GroupRanges) {
    // SAFETY: all groups are still alive until the last loop, so every record and every reference that is looked at
    // leads to a live record. References made here end with their statements, hooks get pointers only. A group is
    // taken out before its records die, so nothing finds them any more.
    unsafe {
        let staying: Vec<*const Group> = (&(*core).groups)
            .iter()
            .filter(|(number, _)| !released.contains(*number))
            .map(|(_, group)| &raw const *group)
            .chain((&(*core).held).iter().map(|group| &raw const *group))
            .collect();
        let held = staying.iter().any(|group| holds(*group, released));
        for group in staying {
            for table in (*group).tables.iter() {
                let home = (*table).home;
                // A home that stays for other reasons stays the home of its tables: code that relies on it stays too.
                // Groups that an earlier release held are no longer among the others.
                if !held
                    && !home.is_null()
                    && released.contains((*home).group)
                    && (&(*core).groups).get((*home).group).is_some()
                {
                    rehome(core, table, null_mut());
                }
                clear_table(core, table, released);
            }
            for global in (*group).globals.iter().filter(|global| is_funcref(*global)) {
                if (*global).ty.mutable && leads_to((*global).value, released) {
                    (*global).value = 0;
                }
            }
            if let Some(instance) = (*group).instance.get(0) {
                clear_segments(instance, released);
            }
        }
        for number in released.numbers() {
            if let Some(group) = (&(*core).groups).get(number) {
                for table in group.tables.iter() {
                    forget_waiting(table);
                }
            }
        }
        if !held {
            ((*core).hooks.release)(core, released);
        }
        for number in released.numbers() {
            if let Some(group) = (&mut (*core).groups).take(number)
                && held
            {
                (&mut (*core).held).push(*group);
            }
        }
    }
}

/// Whether a function reference leads to a released group.
///
/// # Safety
/// The slot is 0 or the address of a live record.
unsafe fn leads_to(slot: u64, released: &GroupRanges) -> bool {
    let func = slot as *const FuncRec;
    // SAFETY: by the contract.
    !func.is_null() && released.contains(unsafe { (*func).group })
}

/// Whether a global holds a function reference.
///
/// # Safety
/// The record is live.
unsafe fn is_funcref(global: *const GlobalRec) -> bool {
    // SAFETY: by the contract.
    unsafe { (*global).ty.value == ValType::Ref(RefType::Func) }
}

/// Whether a group that stays has references into released groups that cannot be taken back.
///
/// # Safety
/// The group is live and so are all records that it leads to.
unsafe fn holds(group: *const Group, released: &GroupRanges) -> bool {
    // SAFETY: by the contract; an instance imports as many of each kind as its module says.
    unsafe {
        let by_function = |func: *mut FuncRec| match &(*func).kind {
            FuncKind::Wasm | FuncKind::Host(_) => false,
            FuncKind::Deferred { target, .. } => leads_to(*target as u64, released),
            FuncKind::Trampoline { table, .. } => released.contains((**table).group),
        };
        // Only groups of host objects have such functions.
        let functions = match (*group).instance.get(0) {
            Some(_) => false,
            None => (*group).funcs.iter().any(by_function),
        };
        let globals = (*group).globals.iter().any(|global| {
            is_funcref(global) && !(*global).ty.mutable && leads_to((*global).value, released)
        });
        functions
            || globals
            || (*group).instance.iter().any(|instance| {
                let instance = &*instance;
                let module = &instance.module.0;
                instance.funcs[..module.imported_funcs]
                    .iter()
                    .map(|func| (**func).group)
                    .chain(instance.tables.iter().map(|table| (**table).group))
                    .chain(instance.memories.iter().map(|memory| (**memory).group))
                    .chain(instance.globals.iter().map(|global| (**global).group))
                    .any(|group| released.contains(group))
            })
    }
}

/// Removes references to released functions from a table.
///
/// # Safety
/// The table is a live record of `core` and so is everything that it refers to.
unsafe fn clear_table(core: *mut StoreCore, table: *mut TableRec, released: &GroupRanges) {
    // SAFETY: by the contract.
    unsafe {
        if (*table).element != RefType::Func {
            return;
        }
        for index in 0..(*table).len {
            if leads_to(slot_at(table, index), released) {
                put(core, table, index, 0);
            }
        }
    }
}

/// Removes references to released functions from the element segments of an instance.
///
/// # Safety
/// The instance is live and so is everything that its segments refer to.
unsafe fn clear_segments(instance: *mut InstanceRec, released: &GroupRanges) {
    // SAFETY: by the contract; the references end with the function, which calls nothing that looks at segments.
    unsafe {
        let module = (&(*instance).module).clone();
        let segments = (&mut (*instance).elements).iter_mut();
        for (segment, definition) in segments.zip(&module.0.elements) {
            if definition.ty == RefType::Func {
                for slot in segment.iter_mut().filter(|slot| leads_to(**slot, released)) {
                    *slot = 0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::module::{FuncType, GlobalType, MemoryType, Module, TableType};
    use crate::runtime::{AsContextMut, Func, Global, Instance, Memory, Ref, Store, Table, Val};
    use std::sync::Arc;

    /// A host function and a witness that tells whether it is alive.
    fn witnessed(store: &mut Store<()>) -> (Func, Arc<()>) {
        let witness = Arc::new(());
        let held = witness.clone();
        let func = Func::wrap(store, move || {
            let _ = &held;
        });
        (func, witness)
    }

    fn alive(witness: &Arc<()>) -> bool {
        Arc::strong_count(witness) > 1
    }

    #[test]
    fn what_a_staying_instance_imports_outlives_its_release() {
        let mut store = testing::store(());
        let (func, witness) = witnessed(&mut store);
        let text = r#"(module (import "" "" (func $f)) (table 1 funcref) (elem (i32.const 0) $f))"#;
        let module = Module::new(store.engine(), &wat::parse_str(text).unwrap()).unwrap();
        let instance = Instance::new(&mut store, &module, &[func.into()]).unwrap();
        store.as_context_mut().release_group(func.group);
        assert!(alive(&witness));
        assert!(func.call(&mut store, &[], &mut []).is_err());
        let record = store.inner.core.instance(instance);
        // SAFETY: the record is live.
        unsafe { assert_eq!(slot_at((&(*record).tables)[0], 0), 0) };
        drop(store);
        assert!(!alive(&witness));
    }

    #[test]
    fn the_target_of_a_staying_deferred_function_outlives_its_release() {
        let mut store = testing::store(());
        let ty = FuncType::new([], []);
        let deferred = Func::deferred(&mut store, ty, |_| Err(crate::Error::msg("unused")));
        let (func, witness) = witnessed(&mut store);
        deferred.bind(&mut store, func).unwrap();
        store.as_context_mut().release_group(func.group);
        deferred.call(&mut store, &[], &mut []).unwrap();
        assert!(alive(&witness));
        // Both together go at once, if nothing else holds the target.
        let (other, witness) = witnessed(&mut store);
        let mark = store.as_context_mut().mark();
        let ty = FuncType::new([], []);
        let later = Func::deferred(&mut store, ty, |_| Err(crate::Error::msg("unused")));
        later.bind(&mut store, other).unwrap();
        store.as_context_mut().release_since(mark);
        store.as_context_mut().release_group(other.group);
        assert!(!alive(&witness));
    }

    #[test]
    fn immutable_globals_hold_and_mutable_ones_let_go() {
        for mutable in [false, true] {
            let mut store = testing::store(());
            let (func, witness) = witnessed(&mut store);
            let ty = GlobalType {
                value: ValType::Ref(RefType::Func),
                mutable,
            };
            Global::new(&mut store, ty, Val::FuncRef(Some(func))).unwrap();
            store.as_context_mut().release_group(func.group);
            assert_eq!(alive(&witness), !mutable);
        }
    }

    #[test]
    fn what_is_held_holds_what_it_imports() {
        let mut store = testing::store(());
        let (func, witness) = witnessed(&mut store);
        let inner =
            r#"(module (import "" "" (func $f)) (func (export "g")) (export "f" (func $f)))"#;
        let outer = r#"(module (import "" "" (func)))"#;
        let [inner, outer] = [inner, outer]
            .map(|text| Module::new(store.engine(), &wat::parse_str(text).unwrap()).unwrap());
        let inner = Instance::new(&mut store, &inner, &[func.into()]).unwrap();
        let g = inner.get_func(&mut store, "g").unwrap();
        Instance::new(&mut store, &outer, &[g.into()]).unwrap();
        store.as_context_mut().release_group(inner.group);
        store.as_context_mut().release_group(func.group);
        assert!(alive(&witness));
        assert_eq!(store.inner.core.held.len(), 2);
    }

    #[test]
    fn a_table_keeps_its_home_as_long_as_that_lives() {
        for held in [true, false] {
            let mut store = testing::store(());
            let ty = TableType {
                element: RefType::Func,
                minimum: 1,
                maximum: None,
            };
            let table = Table::new(&mut store, ty, Ref::Func(None)).unwrap();
            let pages = MemoryType {
                minimum: 1,
                maximum: None,
            };
            let memory = Memory::new(&mut store, pages).unwrap();
            let record = store.inner.core.table(table);
            let home = store.inner.core.memory(memory);
            let (core, _) = store.inner.pointers();
            // SAFETY: the records are live.
            unsafe { super::super::table::settle(core, record, home) };
            if held {
                let text = r#"(module (import "" "" (memory 1)))"#;
                let module = Module::new(store.engine(), &wat::parse_str(text).unwrap()).unwrap();
                Instance::new(&mut store, &module, &[memory.into()]).unwrap();
            }
            // The second release has nothing left to do, whatever became of the group.
            for _ in 0..2 {
                store.as_context_mut().release_group(memory.group);
                // SAFETY: the table's record is live.
                let found = unsafe { (*store.inner.core.table(table)).home };
                assert_eq!(found, if held { home } else { null_mut() });
            }
            assert_eq!(store.inner.core.held.len(), usize::from(held));
        }
    }

    #[test]
    fn a_table_that_a_staying_trampoline_uses_is_held() {
        let mut store = testing::store(());
        let ty = TableType {
            element: RefType::Func,
            minimum: 1,
            maximum: None,
        };
        let table = Table::new(&mut store, ty, Ref::Func(None)).unwrap();
        let ty = FuncType::new([ValType::I32], []);
        Func::trampoline(&mut store, ty, table, 0);
        store.as_context_mut().release_group(table.group);
        assert_eq!(store.inner.core.held.len(), 1);
    }
}
