//! What libraries register for their end (`atexit`, `__cxa_atexit`), where the C library cannot take it out of its list
//! again (rules U2, U5).
//!
//! `__cxa_finalize` of musl, and so of wasi-libc and of emscripten, does nothing, because musl never unloads. A handler of
//! a library that is gone would stay in the list, and `exit` would call a null slot. So the imports of libraries that
//! can be unloaded lead here: the linker keeps the handlers, and has the C library call back for each.
//!
//! The C library's list only grows. Its entries are *places* here, in the order of their registration; a handler gets
//! the first place above all handlers that are left. So handlers run in reverse order of their registration, and
//! opening and closing a library over and over takes no more entries. (A place that is used again is older than what
//! the main module registered itself in between.)
//!
//! Addresses of these functions, in GOT cells of such libraries and from `dlsym`, lead here, too. Who calls through an
//! address is not known, so the handler belongs to the library whose `__dso_handle` is given, or that defines the
//! function; what belongs to a library that is never unloaded goes on to the C library. (The main module and libraries
//! that are loaded with it know the C library's function by its own address.)
#![forbid(unsafe_code)]

use super::object::{Definition, ObjectId};
use super::process::Process;
use super::symbols::{Symbol, SymbolTable};
use crate::error::{Error, Result};
use crate::module::{FuncType, ValType};
use crate::runtime::{AsContextMut, Caller, Func, Instance, Ref, StoreContextMut, Val};
use crate::trap::TrapCode;

/// The name of the function that calls back, among the linker's own. No import can have it.
const CALL_BACK: &str = "exit handler";

/// The handlers of the libraries of a process.
#[derive(Default)]
pub(crate) struct ExitHandlers {
    /// Entries of the C library's list that are ours; those without a handler do nothing.
    places: Vec<Option<Handler>>,
    /// The table slot of the function that calls back: it has to stay, whatever becomes of the load that needed it.
    pub slot: Option<u32>,
}

#[derive(Clone, Copy)]
struct Handler {
    /// Who registered it.
    object: ObjectId,
    /// Its table index.
    function: u32,
    /// `__cxa_atexit` has one, `atexit` none.
    argument: Option<u32>,
}

impl ExitHandlers {
    /// The first place above all handlers.
    fn free_place(&self) -> usize {
        let last = self.places.iter().rposition(Option::is_some);
        last.map_or(0, |last| last + 1)
    }

    fn put(&mut self, place: usize, handler: Handler) {
        match self.places.get_mut(place) {
            Some(free) => *free = Some(handler),
            None => self.places.push(Some(handler)),
        }
    }

    /// The handler of a place whose turn has come. The C library has taken its entry off its list, and those above it
    /// before: what is registered from now on needs new ones.
    fn take(&mut self, place: u32) -> Option<Handler> {
        let place = usize::try_from(place).ok()?;
        let handler = self.places.get_mut(place)?.take();
        while self.places.len() > place && matches!(self.places.last(), Some(None)) {
            self.places.pop();
        }
        handler
    }

    /// Takes back a place for which the C library had no room.
    fn withdraw(&mut self, place: usize) {
        if let Some(own) = self.places.get_mut(place) {
            *own = None;
        }
        if place + 1 == self.places.len() {
            self.places.pop();
        }
    }

    /// How many handlers an object has.
    pub fn count_of(&self, object: ObjectId) -> usize {
        let own = |handler: &&Handler| handler.object == object;
        self.places.iter().flatten().filter(own).count()
    }

    /// The last handler that an object registered.
    fn take_last_of(&mut self, object: ObjectId) -> Option<Handler> {
        let own = |handler: &Option<Handler>| handler.is_some_and(|own| own.object == object);
        let place = self.places.iter().rposition(own)?;
        self.places.get_mut(place)?.take()
    }

    /// Forgets the handlers of objects that go.
    pub fn forget(&mut self, gone: impl Fn(ObjectId) -> bool) {
        for place in &mut self.places {
            if place.is_some_and(|handler| gone(handler.object)) {
                *place = None;
            }
        }
    }
}

/// Whether a function of this name registers something for the end.
pub(crate) fn may_register(name: &str) -> bool {
    matches!(name, "atexit" | "__cxa_atexit")
}

/// Whether a function registers something for the end, and has the usual type.
pub(crate) fn is_registration(name: &str, ty: &FuncType) -> bool {
    let count = match name {
        "atexit" => 1,
        "__cxa_atexit" => 3,
        _ => return false,
    };
    *ty == registration_type(count)
}

fn registration_type(params: usize) -> FuncType {
    FuncType::new(
        std::iter::repeat_n(ValType::I32, params),
        std::iter::once(ValType::I32),
    )
}

/// Whether what is registered with a C library can only be taken back at the end of the process.
pub(crate) fn keeps_for_good(libc: &SymbolTable) -> bool {
    let registers = match libc.lookup("__cxa_atexit") {
        Some(Symbol::Function { func, .. }) => libc.func_type(func) == Some(&registration_type(3)),
        _ => false,
    };
    registers
        && match libc.lookup("__cxa_finalize") {
            None => true,
            Some(Symbol::Function { func, .. }) => {
                super::pointer_exports::is_empty(&libc.module().0, func)
            }
            Some(_) => false,
        }
}

impl<T: 'static> Process<T> {
    /// The function that `importer` gets instead of the C library's `registration`.
    pub(crate) fn exit_registration(
        &self,
        store: &mut StoreContextMut<'_, T>,
        importer: ObjectId,
        registration: Definition,
        ty: FuncType,
    ) -> Func {
        let own = self.clone();
        Func::new(
            &mut *store,
            ty,
            move |mut caller: Caller<'_, T>, params: &[Val], results: &mut [Val]| {
                let param = |place: usize| {
                    let value = params.get(place).and_then(Val::i32);
                    value.map(i32::cast_unsigned)
                };
                let handler = Handler {
                    object: importer,
                    function: param(0).unwrap_or(0),
                    argument: param(1),
                };
                let mut store = caller.as_context_mut();
                let result = own.register_exit_handler(&mut store, handler, registration)?;
                if let Some(place) = results.first_mut() {
                    *place = Val::I32(result.cast_signed());
                }
                Ok(())
            },
        )
    }

    /// The address of a definition as `dlsym` gives it to guests.
    pub(crate) fn address_for_guests(
        &self,
        store: &mut StoreContextMut<'_, T>,
        definition: Definition,
        name: &str,
    ) -> Result<Option<u32>> {
        let registers = match (name, definition.symbol) {
            ("atexit" | "__cxa_atexit", Symbol::Function { func, .. }) => {
                let state = self.state();
                state.object(definition.object).and_then(|libc| {
                    let ty = libc.symbols.func_type(func)?.clone();
                    let ours = is_registration(name, &ty) && keeps_for_good(&libc.symbols);
                    ours.then_some(ty)
                })
            }
            _ => None,
        };
        match registers {
            Some(ty) => {
                let func = self.exit_registration_by_address(store, definition, ty);
                self.function_address(store, func, None).map(Some)
            }
            None => self.definition_address(store, definition),
        }
    }

    /// The function that stands for a C library's `atexit` or `__cxa_atexit` where its address is taken: one for all.
    pub(crate) fn exit_registration_by_address(
        &self,
        store: &mut StoreContextMut<'_, T>,
        registration: Definition,
        ty: FuncType,
    ) -> Func {
        // No import can have this name.
        let count = ty.params().len();
        let key = format!("exit registration {count} of {}", registration.object.0);
        let known = self.state().own_functions.get(&key).copied();
        // It is gone if a start function of a load that failed was the first to ask.
        let known = known.filter(|func| store.0.core.find_func(*func).is_ok());
        known.unwrap_or_else(|| {
            let func = self.make_exit_registration(store, registration, ty);
            self.state().own_functions.insert(key, func);
            func
        })
    }

    fn make_exit_registration(
        &self,
        store: &mut StoreContextMut<'_, T>,
        registration: Definition,
        ty: FuncType,
    ) -> Func {
        let own = self.clone();
        Func::new(
            &mut *store,
            ty,
            move |mut caller: Caller<'_, T>, params: &[Val], results: &mut [Val]| {
                let params: Vec<u32> = params
                    .iter()
                    .filter_map(Val::i32)
                    .map(i32::cast_unsigned)
                    .collect();
                let mut store = caller.as_context_mut();
                let function = params.first().copied().unwrap_or(0);
                let owner = own.owner_of_handler(&mut store, function, params.get(2).copied());
                let result = match owner {
                    Some(object) => {
                        let handler = Handler {
                            object,
                            function,
                            argument: params.get(1).copied(),
                        };
                        own.register_exit_handler(&mut store, handler, registration)?
                    }
                    None => {
                        let func = own.definition_func(&mut store, registration)?;
                        let func = func.ok_or_else(no_c_library)?;
                        own.call_i32(&mut store, func, &params)?
                    }
                };
                if let Some(place) = results.first_mut() {
                    *place = Val::I32(result.cast_signed());
                }
                Ok(())
            },
        )
    }

    /// The library that can be unloaded and to which a handler belongs: whose data begins at the handle, as
    /// `__dso_handle` does (rule L13), else whose function it is.
    fn owner_of_handler(
        &self,
        store: &mut StoreContextMut<'_, T>,
        function: u32,
        handle: Option<u32>,
    ) -> Option<ObjectId> {
        let entry = self
            .table()
            .and_then(|table| table.get(&mut *store, function.into()));
        let instance = match entry {
            Some(Ref::Func(Some(func))) => {
                let func = func.resolved(&*store);
                Some(Instance {
                    store: func.store,
                    group: func.group,
                })
            }
            _ => None,
        };
        let state = self.state();
        let by_handle = state
            .objects
            .values()
            .find(|object| object.memory.size > 0 && handle == Some(object.memory.base));
        let by_function = || state.object(*state.instances.get(&instance?)?);
        let owner = by_handle.or_else(by_function)?;
        (!owner.stays).then_some(owner.id)
    }

    /// 0, or what the C library says when it has no more room.
    fn register_exit_handler(
        &self,
        store: &mut StoreContextMut<'_, T>,
        handler: Handler,
        registration: Definition,
    ) -> Result<u32> {
        let (place, is_new) = {
            let mut state = self.state();
            if state.object(handler.object).is_none() {
                // It was closed and is still running (U8): nobody would ask for its handlers any more.
                return Ok(1);
            }
            let place = state.exit_handlers.free_place();
            let is_new = place >= state.exit_handlers.places.len();
            // At once, because the C library's function may lead here again.
            state.exit_handlers.put(place, handler);
            (place, is_new)
        };
        if !is_new {
            return Ok(0);
        }
        let listed = self.list_place(store, place, registration);
        if !matches!(listed, Ok(0)) {
            self.state().exit_handlers.withdraw(place);
        }
        listed
    }

    /// Makes an entry for a place in the C library's list. 0, or what the C library says when it has no more room.
    fn list_place(
        &self,
        store: &mut StoreContextMut<'_, T>,
        place: usize,
        registration: Definition,
    ) -> Result<u32> {
        let number = u32::try_from(place).map_err(|_| Error::msg("too many exit handlers"))?;
        let symbol = {
            let state = self.state();
            let libc = state.object(registration.object);
            libc.and_then(|libc| libc.symbols.lookup("__cxa_atexit"))
        };
        let register = match symbol {
            Some(symbol) => self.definition_func(
                store,
                Definition {
                    object: registration.object,
                    symbol,
                },
            )?,
            None => None,
        };
        let register = register.ok_or_else(no_c_library)?;
        let call_back = self.exit_call_back(store)?;
        // Never unloaded by the C library: it knows no object of this number.
        self.call_i32(store, register, &[call_back, number, 0])
    }

    /// The address of the function that the C library calls with the number of a place.
    fn exit_call_back(&self, store: &mut StoreContextMut<'_, T>) -> Result<u32> {
        let known = self.state().own_functions.get(CALL_BACK).copied();
        let func = match known.filter(|func| store.0.core.find_func(*func).is_ok()) {
            Some(func) => func,
            None => {
                let own = self.clone();
                let func = Func::new(
                    &mut *store,
                    FuncType::new([ValType::I32], []),
                    move |mut caller: Caller<'_, T>, params: &[Val], _: &mut [Val]| {
                        let place = params.first().and_then(Val::i32).unwrap_or(-1);
                        let handler = own.state().exit_handlers.take(place.cast_unsigned());
                        match handler {
                            Some(handler) => {
                                own.call_handler(&mut caller.as_context_mut(), handler)
                            }
                            None => Ok(()),
                        }
                    },
                );
                let name = CALL_BACK.to_string();
                self.state().own_functions.insert(name, func);
                func
            }
        };
        let slot = self.function_address(store, func, None)?;
        self.state().exit_handlers.slot = Some(slot);
        Ok(slot)
    }

    /// Runs what an object registered, the last first.
    pub(crate) fn run_exit_handlers(
        &self,
        store: &mut StoreContextMut<'_, T>,
        object: ObjectId,
    ) -> Result<()> {
        loop {
            // One handler may register another.
            let handler = self.state().exit_handlers.take_last_of(object);
            match handler {
                Some(handler) => self.call_handler(store, handler)?,
                None => return Ok(()),
            }
        }
    }

    fn call_handler(&self, store: &mut StoreContextMut<'_, T>, handler: Handler) -> Result<()> {
        let entry = self
            .table()
            .and_then(|table| table.get(&mut *store, handler.function.into()));
        let func = match entry {
            Some(Ref::Func(Some(func))) => func,
            Some(_) => return Err(TrapCode::UninitializedElement.into()),
            None => return Err(TrapCode::UndefinedElement.into()),
        };
        let params: Vec<ValType> = handler.argument.map(|_| ValType::I32).into_iter().collect();
        if func.ty(&*store) != FuncType::new(params, []) {
            return Err(TrapCode::IndirectCallTypeMismatch.into());
        }
        let params: Vec<u32> = handler.argument.into_iter().collect();
        self.call_i32(store, func, &params).map(drop)
    }
}

fn no_c_library() -> Error {
    Error::msg("the C library with `__cxa_atexit` is not loaded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(object: u32) -> Handler {
        Handler {
            object: ObjectId(object),
            function: object,
            argument: None,
        }
    }

    #[test]
    fn places_are_used_again_only_above_what_is_left() {
        let mut handlers = ExitHandlers::default();
        for object in [1, 2, 3] {
            let place = handlers.free_place();
            handlers.put(place, handler(object));
        }
        assert!(handlers.take_last_of(ObjectId(2)).is_some());
        assert_eq!(handlers.free_place(), 3);
        assert!(handlers.take_last_of(ObjectId(3)).is_some());
        assert_eq!(handlers.free_place(), 1);
        handlers.put(1, handler(4));
        assert_eq!(handlers.places.len(), 3);
        assert_eq!(handlers.take(1).map(|handler| handler.function), Some(4));
        assert!(handlers.take(1).is_none() && handlers.take(7).is_none());
    }

    #[test]
    fn only_the_usual_functions_register() {
        assert!(is_registration("atexit", &registration_type(1)));
        assert!(is_registration("__cxa_atexit", &registration_type(3)));
        assert!(!is_registration("atexit", &registration_type(3)));
        assert!(!is_registration("exit", &registration_type(1)));
    }
}
