//! The store: owns every instance, function, memory, table and global, the value stack, and the embedder's data.
//!
//! A store is split in two. [`StoreCore`] does not depend on the type of the embedder's data; records and
//! translated code reach it through raw pointers. [`StoreInner`] adds the data; host functions get its address.
//! While guest code runs, both are reached through pointers that [`call`] derived from the embedder's exclusive
//! borrow, so nothing here may keep a reference across a call.

use super::budget::Budget;
use super::func::Func;
use super::group::{Group, Groups, Records};
use super::limits::{InterruptHandle, Limiter, ResourceLimiter, erase};
use super::records::{
    Ctx, Floats, FuncRec, GlobalRec, Hooks, InstanceRec, MemoryRec, RED_ZONE, TableRec,
};
use super::release::release;
use super::{Global, Instance, Memory, Table};
use crate::config::Engine;
use crate::error::{Error, Result};
use crate::ir::code::{CodeMap, GroupRanges};
use crate::trap::TrapCode;
use crate::watch::Watch;
use std::collections::HashMap;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Owns all objects of a program, and data of type `T` for host functions.
///
/// ```
/// use dynlink::{Caller, Engine, Func, Instance, Module, Store};
///
/// let engine = Engine::default();
/// let module = Module::new(&engine, &wat::parse_str(
///     r#"(module
///         (import "host" "count" (func $count (param i32)))
///         (func (export "run") (call $count (i32.const 3)) (call $count (i32.const 4))))"#,
/// )?)?;
///
/// let mut store = Store::new(&engine, 0);
/// let count = Func::wrap(&mut store, |mut caller: Caller<'_, i32>, n: i32| *caller.data_mut() += n);
/// let instance = Instance::new(&mut store, &module, &[count.into()])?;
/// instance.get_typed_func::<(), ()>(&mut store, "run")?.call(&mut store, ())?;
/// assert_eq!(*store.data(), 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Store<T: 'static> {
    pub(crate) inner: Box<StoreInner<T>>,
}

/// What a `Store` points at; host functions get its address.
pub struct StoreInner<T: 'static> {
    pub(crate) core: StoreCore,
    pub(crate) data: T,
}

// SAFETY: every raw pointer in a store leads to records, code or stack that the store itself owns and that are
// reached only through the store; host functions and the limiter are `Send`.
unsafe impl<T: Send + 'static> Send for StoreInner<T> {}

/// The part of a store that does not depend on `T`.
///
/// `exec` uses `hooks`, `ctx`, `stack`, `code` and `caller`; the other fields are `runtime`'s own.
pub(crate) struct StoreCore {
    pub engine: Engine,
    /// Number of the store, unique in the process; handles carry it.
    pub id: u32,
    pub hooks: &'static Hooks,
    /// State of the running guest code. `ctx.core` and `ctx.store` point back here.
    pub ctx: Ctx,
    /// The value stack: `limits.stack_bytes` of zeroed memory, allocated lazily by the system.
    pub stack: Box<[u64]>,
    /// First free byte of the value stack for the next nested run (offset).
    pub stack_top: usize,
    /// All translated code.
    pub code: CodeMap,
    /// Set by an interrupt handle.
    pub interrupt: Arc<AtomicBool>,
    /// When the guest has to stop.
    pub deadline: Option<Instant>,
    /// The return address of the code that calls a host function. `exec` writes it before each call of a host
    /// function; whose code it is gets looked up only when somebody asks. Null if the embedder calls.
    pub caller: *const u8,
    /// Owners of all records.
    pub groups: Groups,
    /// Groups that were released although something that stays leads to them.
    pub held: Vec<Group>,
    /// Bytes of all memories.
    pub memory_bytes: Budget,
    /// Elements of all tables.
    pub table_elements: Budget,
    /// Asked before anything grows.
    pub limiter: Option<Limiter>,
    /// Host functions of linkers that this store has already, by the address of their closure.
    pub linked: HashMap<usize, Func>,
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
    pub(crate) fn with_hooks(engine: &Engine, data: T, hooks: &'static Hooks) -> Store<T> {
        let limits = &engine.config().limits;
        let words = limits.stack_bytes.saturating_add(RED_ZONE) / size_of::<u64>();
        let core = StoreCore {
            engine: engine.clone(),
            id: new_store_id(),
            hooks,
            ctx: Ctx {
                limit: null_mut(),
                memory: null_mut(),
                acc: 0,
                facc: Floats::default(),
                ip: null(),
                sp: null_mut(),
                loop_mem: null_mut(),
                loop_len: 0,
                fuel: 0,
                poll: 1,
                depth: 0,
                store: null_mut(),
                core: null_mut(),
                tail_caller: null(),
                error: None,
            },
            stack: vec![0; words].into_boxed_slice(),
            stack_top: 0,
            code: CodeMap::default(),
            interrupt: Arc::default(),
            deadline: None,
            caller: null(),
            groups: Groups::default(),
            held: Vec::new(),
            memory_bytes: Budget::new(limits.memory_bytes),
            table_elements: Budget::new(limits.table_elements),
            limiter: None,
            linked: HashMap::new(),
        };
        let mut inner = Box::new(StoreInner { core, data });
        let stack = inner.core.stack.as_mut_ptr_range();
        inner.core.ctx.limit = stack.end.wrapping_sub(RED_ZONE / size_of::<u64>()).cast();
        inner.core.ctx.sp = stack.start.cast();
        inner.core.ctx.core = &raw mut inner.core;
        inner.core.ctx.store = (&raw mut *inner).cast();
        Store { inner }
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
        let StoreInner { core, data } = *self.inner;
        drop(core);
        data
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.inner.core.engine
    }

    /// Asks `limiter` before memories and tables are created or grow.
    pub fn limiter(
        &mut self,
        limiter: impl FnMut(&mut T) -> &mut (dyn ResourceLimiter) + Send + Sync + 'static,
    ) {
        self.inner.core.limiter = Some(erase(limiter));
    }

    /// Sets the fuel.
    ///
    /// # Errors
    /// The engine does not count fuel ([`Config::fuel`](crate::Config)).
    pub fn set_fuel(&mut self, fuel: u64) -> Result<()> {
        self.inner.core.set_fuel(fuel)
    }

    /// The fuel left.
    ///
    /// # Errors
    /// The engine does not count fuel ([`Config::fuel`](crate::Config)).
    pub fn get_fuel(&self) -> Result<u64> {
        self.inner.core.get_fuel()
    }

    /// Guests trap with `Interrupted` this long from now; `None` lets them run on.
    ///
    /// # Errors
    /// The engine does not allow interruption ([`Config::interruption`](crate::Config)).
    pub fn set_deadline(&mut self, after: Option<Duration>) -> Result<()> {
        self.inner.core.set_deadline(after)
    }

    /// A handle with which another thread stops the guest.
    ///
    /// # Errors
    /// The engine does not allow interruption ([`Config::interruption`](crate::Config)).
    pub fn interrupt_handle(&self) -> Result<InterruptHandle> {
        self.inner.core.needs_interruption()?;
        Ok(InterruptHandle(self.inner.core.interrupt.clone()))
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

    /// As [`Store::set_fuel`].
    ///
    /// # Errors
    /// As [`Store::set_fuel`].
    pub fn set_fuel(&mut self, fuel: u64) -> Result<()> {
        self.0.core.set_fuel(fuel)
    }

    /// As [`Store::get_fuel`].
    ///
    /// # Errors
    /// As [`Store::get_fuel`].
    pub fn get_fuel(&self) -> Result<u64> {
        self.0.core.get_fuel()
    }

    /// As [`Store::set_deadline`].
    ///
    /// # Errors
    /// As [`Store::set_deadline`].
    pub fn set_deadline(&mut self, after: Option<Duration>) -> Result<()> {
        self.0.core.set_deadline(after)
    }

    /// Pays for work that the engine does on behalf of guests outside of their code, such as loading a library: looks
    /// whether they are to stop, and, while guest code runs, takes `cost` of its fuel. So a file that makes the engine
    /// work hard is no way around a limit of time or fuel. (What the embedder asks for itself costs no fuel.)
    ///
    /// # Errors
    /// The trap `Interrupted` or `OutOfFuel`.
    pub(crate) fn pay(&mut self, cost: u64) -> Result<()> {
        self.0.core.pay(cost)
    }

    /// As [`pay`](Self::pay), for what the embedder may ask for as well: that neither costs anything nor is interrupted.
    ///
    /// # Errors
    /// As for `pay`.
    pub(crate) fn pay_for_guest(&mut self, cost: u64) -> Result<()> {
        if self.0.core.ctx.depth == 0 {
            return Ok(());
        }
        self.pay(cost)
    }

    /// When work for guests outside of their code has to stop.
    pub(crate) fn watch(&self) -> Watch {
        self.0.core.watch()
    }

    /// Marks the present state: everything created later can be released together.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.0.core.next_group())
    }

    /// Releases every instance, function, memory, table and global created between marks, all ranges together; their
    /// handles become invalid.
    ///
    /// References to released functions are removed from all tables, mutable globals and segments that stay. If
    /// something that stays leads to them otherwise (imports them, or is a deferred function bound to them), they are
    /// kept until the store goes. The caller makes sure that no released function is running.
    pub(crate) fn release_between(&mut self, ranges: &[(Mark, Mark)]) {
        let next = self.0.core.next_group();
        let ranges = ranges.iter().map(|(from, to)| from.0..to.0.min(next));
        let ranges = GroupRanges::new(ranges);
        let core: *mut StoreCore = &mut self.0.core;
        // SAFETY: `core` comes from the exclusive borrow of the store.
        unsafe { release(core, &ranges) }
    }

    /// For each range between marks, whether a function of it may be running, or a reference to one may lie in a frame
    /// of running code. Looks at every word of the live part of the value stack, so it may say yes needlessly, but never
    /// no wrongly.
    pub(crate) fn may_be_running(&self, ranges: &[(Mark, Mark)]) -> Vec<bool> {
        self.0.core.may_be_running(ranges)
    }

    #[cfg(test)]
    pub(crate) fn release_since(&mut self, mark: Mark) {
        self.release_between(&[(mark, self.mark())]);
    }

    #[cfg(test)]
    pub(crate) fn release_group(&mut self, group: u32) {
        self.release_between(&[(Mark(group), Mark(group + 1))]);
    }
}

impl StoreCore {
    /// See [`StoreContextMut::may_be_running`].
    fn may_be_running(&self, ranges: &[(Mark, Mark)]) -> Vec<bool> {
        let mut running = vec![false; ranges.len()];
        if self.ctx.depth == 0 {
            return running;
        }
        // Addresses that mean a range: its code (a return address may be one past the last call) and its functions'
        // records, which hold the cells that calls jump to.
        let mut meanings: Vec<(usize, usize, usize)> = Vec::new();
        // The ranges by their first group: they do not overlap.
        let mut sorted: Vec<(u32, u32, usize)> = ranges
            .iter()
            .enumerate()
            .filter(|(_, (from, to))| from < to)
            .map(|(place, (from, to))| (from.0, to.0, place))
            .collect();
        sorted.sort_unstable();
        for (start, code) in self.code.iter() {
            let behind = sorted.partition_point(|(from, ..)| *from <= code.group);
            let range = behind
                .checked_sub(1)
                .and_then(|place| sorted.get(place))
                .filter(|(_, to, _)| code.group < *to)
                .map(|(.., range)| *range);
            if let Some(range) = range {
                meanings.push((start, start + code.words.len() * 8, range));
            }
        }
        for (place, (from, to)) in ranges.iter().enumerate() {
            for number in from.0..to.0 {
                for func in self
                    .groups
                    .get(number)
                    .into_iter()
                    .flat_map(|g| g.funcs.iter())
                {
                    meanings.push((func.addr(), func.addr() + size_of::<FuncRec>(), place));
                }
            }
        }
        meanings.sort_unstable();
        let used = (self.stack_top / 8).min(self.stack.len());
        for word in &self.stack[..used] {
            let Ok(word) = usize::try_from(*word) else {
                continue;
            };
            let behind = meanings.partition_point(|(start, ..)| *start <= word);
            if let Some((_, end, range)) = behind.checked_sub(1).and_then(|at| meanings.get(at))
                && word <= *end
            {
                running[*range] = true;
            }
        }
        running
    }
}

/// A point in the life of a store, for transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(pub u32);

/// A number that no other store of the process has.
fn new_store_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(
        id < u32::MAX / 2,
        "more than two billion stores were created"
    );
    id
}

/// Calls a function with `slots` holding the parameters and then the results.
///
/// # Errors
/// Guest code trapped or a host function failed.
///
/// # Safety
/// `store` is a live `*mut StoreInner<T>`, `core` its core, `func` a live record of it; the pointers were derived
/// from an exclusive borrow of the store that the caller does not use meanwhile. `slots` is as long as the greater
/// of both counts of `func`, and its references are 0 or live records of the same store.
pub(crate) unsafe fn call(
    core: *mut StoreCore,
    store: *mut (),
    func: *mut FuncRec,
    slots: &mut [u64],
) -> Result<()> {
    // SAFETY: `core` and `store` are live by the contract; no reference outlives its statement. A host function that
    // calls back into the guest comes here with pointers derived from its own borrow, so those of the outer call
    // are put back when it is done.
    unsafe {
        let outer = ((*core).ctx.core, (*core).ctx.store, (*core).caller);
        (*core).ctx.core = core;
        (*core).ctx.store = store;
        (*core).caller = null();
        let result = ((*core).hooks.call)(core, store, func, slots);
        ((*core).ctx.core, (*core).ctx.store, (*core).caller) = outer;
        result
    }
}

impl<T: 'static> StoreInner<T> {
    /// The two pointers that everything that may run guest code works with.
    pub(crate) fn pointers(&mut self) -> (*mut StoreCore, *mut ()) {
        let store: *mut StoreInner<T> = self;
        // SAFETY: `store` comes from a reference, so the place exists.
        let core = unsafe { &raw mut (*store).core };
        (core, store.cast())
    }
}

impl StoreCore {
    fn set_fuel(&mut self, fuel: u64) -> Result<()> {
        self.needs_fuel()?;
        self.ctx.fuel = fuel;
        Ok(())
    }

    fn get_fuel(&self) -> Result<u64> {
        self.needs_fuel()?;
        Ok(self.ctx.fuel)
    }

    fn needs_fuel(&self) -> Result<()> {
        if self.engine.config().fuel {
            Ok(())
        } else {
            Err(Error::usage(
                "the engine does not count fuel: set `Config::fuel` when it is made",
            ))
        }
    }

    fn set_deadline(&mut self, after: Option<Duration>) -> Result<()> {
        self.needs_interruption()?;
        // A deadline beyond what the clock can express never comes.
        self.deadline = after.and_then(|after| Instant::now().checked_add(after));
        self.ctx.poll = 1;
        Ok(())
    }

    fn needs_interruption(&self) -> Result<()> {
        if self.engine.config().interruption {
            Ok(())
        } else {
            Err(Error::usage(
                "the engine does not allow interruption: set `Config::interruption` when it is made",
            ))
        }
    }

    /// See [`StoreContextMut::pay`].
    fn pay(&mut self, cost: u64) -> Result<()> {
        let config = self.engine.config();
        if config.fuel && self.ctx.depth > 0 {
            match self.ctx.fuel.checked_sub(cost) {
                Some(left) => self.ctx.fuel = left,
                None => {
                    self.ctx.fuel = 0;
                    return Err(Error::from(TrapCode::OutOfFuel));
                }
            }
        }
        if config.interruption {
            let interrupted = self.interrupt.swap(false, Ordering::Relaxed);
            let late = self.deadline.is_some_and(|end| Instant::now() >= end);
            if interrupted || late {
                return Err(Error::from(TrapCode::Interrupted));
            }
        }
        Ok(())
    }

    /// When work for guests outside of their code has to stop.
    pub fn watch(&self) -> Watch {
        if self.engine.config().interruption {
            Watch::new(self.deadline, Some(self.interrupt.clone()))
        } else {
            Watch::default()
        }
    }

    /// The number that the next group will have.
    pub fn next_group(&self) -> u32 {
        self.groups.next()
    }

    /// Takes over the records of a group whose number is [`next_group`](Self::next_group).
    pub fn add_group(&mut self, group: Group) {
        self.groups.push(group);
    }

    fn group(&self, store: u32, group: u32) -> Option<&Group> {
        if store != self.id {
            return None;
        }
        self.groups.get(group)
    }
}

/// What a handle of another store or of something released leads to where there is no error to return.
#[cold]
fn wrong_store() -> ! {
    panic!("object used with the wrong store, or after it was released")
}

/// From handles to records.
macro_rules! lookups {
    ($($handle:ident, $list:ident, $record:ident, $get:ident, $find:ident;)*) => {
        impl StoreCore { $(
            /// The record behind a handle; panics if it is not one of this store.
            pub fn $get(&self, handle: $handle) -> *mut $record {
                self.$find(handle).unwrap_or_else(|_| wrong_store())
            }

            /// The record behind a handle.
            ///
            /// # Errors
            /// The handle is of another store, or what it stood for was released.
            pub fn $find(&self, handle: $handle) -> Result<*mut $record> {
                self.group(handle.store, handle.group)
                    .and_then(|group| group.$list.get(handle.place))
                    .ok_or_else(|| foreign(stringify!($handle)))
            }
        )* }
    };
}
lookups! {
    Func, funcs, FuncRec, func, find_func;
    Table, tables, TableRec, table, find_table;
    Memory, memories, MemoryRec, memory, find_memory;
    Global, globals, GlobalRec, global, find_global;
}

impl StoreCore {
    /// The records of globals that were made together.
    ///
    /// # Errors
    /// They are of another store, or were released.
    pub fn records_of(&self, globals: super::Globals) -> Result<&Records<GlobalRec>> {
        self.group(globals.store, globals.group)
            .map(|group| &group.globals)
            .ok_or_else(|| foreign("Global"))
    }

    /// The record behind a handle; panics if it is not one of this store.
    pub fn instance(&self, handle: Instance) -> *mut InstanceRec {
        self.find_instance(handle).unwrap_or_else(|_| wrong_store())
    }

    /// The record behind a handle.
    ///
    /// # Errors
    /// The handle is of another store, or the instance was released.
    pub fn find_instance(&self, handle: Instance) -> Result<*mut InstanceRec> {
        self.group(handle.store, handle.group)
            .and_then(|group| group.instance.get(0))
            .ok_or_else(|| foreign("Instance"))
    }
}

#[cold]
fn foreign(kind: &str) -> Error {
    Error::usage(format!(
        "a {kind} was used with the wrong store, or after it was released"
    ))
}

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
    super::host::Caller<'_, T>, s => s.store, s.store;
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

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::config::Config;
    use crate::module::{FuncType, GlobalType, MemoryType, RefType, TableType, ValType};
    use crate::runtime::{Ref, Val};

    #[test]
    fn a_store_can_be_sent_to_another_thread() {
        fn sendable<S: Send>() {}
        sendable::<Store<String>>();
        sendable::<StoreContextMut<'_, String>>();
        let mut store = testing::store(1);
        let add = Func::wrap(&mut store, |n: i32| n + 1);
        let sum = std::thread::spawn(move || {
            let typed = add.typed::<i32, i32>(&store)?;
            typed.call(&mut store, 2)
        });
        assert_eq!(sum.join().unwrap().unwrap(), 3);
    }

    #[test]
    fn into_data_drops_everything_else_and_gives_the_data_back() {
        let witness = Arc::new(());
        let held = witness.clone();
        let mut store = testing::store("data".to_string());
        Func::wrap(&mut store, move || drop(held.clone()));
        assert_eq!(Arc::strong_count(&witness), 2);
        assert_eq!(store.into_data(), "data");
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[test]
    fn fuel_and_deadlines_need_an_engine_that_was_made_for_them() {
        let mut plain = testing::store(());
        assert!(
            plain
                .set_fuel(1)
                .unwrap_err()
                .to_string()
                .contains("Config::fuel")
        );
        assert!(plain.get_fuel().is_err());
        let error = plain.set_deadline(None).unwrap_err().to_string();
        assert!(error.contains("Config::interruption"), "{error}");
        assert!(plain.interrupt_handle().is_err());

        let config = Config {
            fuel: true,
            interruption: true,
            ..Config::default()
        };
        let mut store = Store::with_hooks(&Engine::new(config), (), &testing::HOOKS);
        assert_eq!(store.get_fuel().unwrap(), 0);
        store.set_fuel(1000).unwrap();
        assert_eq!(store.as_context_mut().get_fuel().unwrap(), 1000);
        store.inner.core.ctx.poll = 500;
        store.set_deadline(Some(Duration::MAX)).unwrap();
        assert!(store.inner.core.deadline.is_none());
        store.set_deadline(Some(Duration::from_secs(1))).unwrap();
        assert!(store.inner.core.deadline.is_some());
        assert_eq!(store.inner.core.ctx.poll, 1);
        store.interrupt_handle().unwrap().interrupt();
        assert!(store.inner.core.interrupt.load(Ordering::Relaxed));
    }

    #[test]
    fn the_context_points_back_at_the_store_while_a_function_runs() {
        let mut store = testing::store(());
        let func = Func::wrap(&mut store, |caller: super::super::Caller<'_, ()>| {
            let core: *const StoreCore = &caller.store.core;
            let inner: *const StoreInner<()> = caller.store;
            assert!(std::ptr::eq(caller.store.core.ctx.core, core));
            assert!(std::ptr::eq(caller.store.core.ctx.store.cast(), inner));
        });
        func.call(&mut store, &[], &mut []).unwrap();
        let mut moved = store;
        func.call(&mut moved, &[], &mut []).unwrap();
    }

    #[test]
    fn what_was_created_since_a_mark_is_released_and_references_to_it_are_removed() {
        let mut store = testing::store(());
        let funcs = TableType {
            element: RefType::Func,
            minimum: 3,
            maximum: None,
        };
        let reference = GlobalType {
            value: ValType::Ref(RefType::Func),
            mutable: true,
        };
        let table = Table::new(&mut store, funcs, Ref::Func(None)).unwrap();
        let global = Global::new(&mut store, reference, Val::FuncRef(None)).unwrap();
        let stays = Func::deferred(&mut store, FuncType::new([], []), |_| {
            Err(Error::msg("not called"))
        });

        let witness = Arc::new(());
        let held = witness.clone();
        let mark = store.as_context_mut().mark();
        let goes = Func::wrap(&mut store, move || drop(held.clone()));
        let pages = MemoryType {
            minimum: 1,
            maximum: None,
        };
        let memory = Memory::new(&mut store, pages).unwrap();
        let later = Table::new(&mut store, funcs, stays.into()).unwrap();
        let (core, _) = store.inner.pointers();
        let (record, home) = (
            store.inner.core.table(table),
            store.inner.core.memory(memory),
        );
        // SAFETY: the records are live.
        unsafe { super::super::table::settle(core, record, home) };
        table.set(&mut store, 0, goes.into()).unwrap();
        table.set(&mut store, 1, stays.into()).unwrap();
        global.set(&mut store, goes.into()).unwrap();

        store.as_context_mut().release_since(mark);
        assert_eq!(Arc::strong_count(&witness), 1);
        assert!(goes.call(&mut store, &[], &mut []).is_err());
        assert!(memory.grow(&mut store, 1).is_err());
        assert!(later.grow(&mut store, 1, Ref::Func(None)).is_err());
        assert!(matches!(global.get(&mut store), Val::FuncRef(None)));
        let elements = [0, 1, 2].map(|index| match table.get(&mut store, index) {
            Some(Ref::Func(func)) => func,
            _ => panic!("the table has three functions"),
        });
        assert_eq!(elements, [None, Some(stays), None]);
        let (core, record) = (&store.inner.core, store.inner.core.func(stays));
        // SAFETY: the records are live.
        unsafe {
            assert!((*core.table(table)).home.is_null());
            let notes: Vec<u32> = (&(*record).waiting).iter().map(|note| note.1).collect();
            assert_eq!(notes, [1]);
        }
        // Numbers are not used again: an old handle does not reach something new.
        let next = Func::wrap(&mut store, || {});
        assert_ne!(next, goes);
        assert!(goes.call(&mut store, &[], &mut []).is_err());
    }

    #[test]
    fn a_single_group_can_be_released() {
        let mut store = testing::store(());
        let [a, b, c] = [(); 3].map(|()| Func::wrap(&mut store, || {}));
        store.as_context_mut().release_group(b.group);
        store.as_context_mut().release_group(b.group);
        let works = [a, b, c].map(|f| f.call(&mut store, &[], &mut []).is_ok());
        assert_eq!(works, [true, false, true]);
    }
}
