//! Imports by name: collects definitions and instantiates modules with them.
//!
//! A host function is defined once, without a store. The store gets a record for it at its first use and remembers
//! it by the address of the closure, which the record keeps alive.

use super::func::Func;
use super::host::{Caller, IntoFunc, dynamic, typed};
use super::imports::describe;
use super::instance::{Extern, Instance};
use super::records::{FuncKind, HostFunc, slots};
use super::store::{AsContext, AsContextMut, StoreCore};
use super::value::Val;
use crate::config::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::module::{ExternKind, FuncType, Module};
use crate::shown::shown;
use crate::trap::{Trap, TrapCode};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

/// An error lists no further missing imports once its text has this many bytes: names may be many and long.
const MOST_TEXT: usize = 64 << 10;

/// Definitions by module and field name, for stores with data `T`.
///
/// ```
/// use dynlink::{Engine, Linker, Module, Store};
///
/// let engine = Engine::default();
/// let module = Module::new(&engine, &wat::parse_str(
///     r#"(module
///         (import "math" "square" (func $square (param i32) (result i32)))
///         (func (export "cube") (param i32) (result i32)
///             (i32.mul (local.get 0) (call $square (local.get 0)))))"#,
/// )?)?;
///
/// let mut linker = Linker::new(&engine);
/// let mut store = Store::new(&engine, ());
/// let error = linker.instantiate(&mut store, &module).unwrap_err();
/// assert!(error.to_string().contains("unknown import: `math::square` has not been defined"));
///
/// linker.func_wrap("math", "square", |n: i32| n * n)?;
/// let instance = linker.instantiate(&mut store, &module)?;
/// let cube = instance.get_typed_func::<i32, i32>(&mut store, "cube")?;
/// assert_eq!(cube.call(&mut store, 3)?, 27);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Linker<T: 'static> {
    engine: Engine,
    shadowing: bool,
    /// By module name, then by field name.
    definitions: HashMap<Box<str>, HashMap<Box<str>, Definition>>,
    data: PhantomData<fn() -> T>,
}

#[derive(Clone)]
enum Definition {
    /// Something in a store.
    Item(Extern),
    /// A host function for any store with data of type `T`.
    Host { ty: FuncType, call: HostFunc },
}

impl<T: 'static> Clone for Linker<T> {
    fn clone(&self) -> Linker<T> {
        Linker {
            engine: self.engine.clone(),
            shadowing: self.shadowing,
            definitions: self.definitions.clone(),
            data: PhantomData,
        }
    }
}

impl<T: 'static> Linker<T> {
    /// No definitions.
    pub fn new(engine: &Engine) -> Linker<T> {
        Linker {
            engine: engine.clone(),
            shadowing: false,
            definitions: HashMap::new(),
            data: PhantomData,
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether a later definition replaces an earlier one instead of being an error. Default: no.
    pub fn allow_shadowing(&mut self, allow: bool) -> &mut Self {
        self.shadowing = allow;
        self
    }

    /// Defines an item of a store.
    ///
    /// # Errors
    /// The name is taken, or the item is of another store.
    pub fn define(
        &mut self,
        store: impl AsContext<Data = T>,
        module: &str,
        name: &str,
        item: impl Into<Extern>,
    ) -> Result<&mut Self> {
        let item = item.into();
        check_store(&store.as_context().0.core, item)?;
        self.insert(module, name, Definition::Item(item))
    }

    /// Defines a host function with dynamic types.
    ///
    /// # Errors
    /// The name is taken, or the type has more than 1000 parameters or results.
    pub fn func_new(
        &mut self,
        module: &str,
        name: &str,
        ty: FuncType,
        call: impl Fn(Caller<'_, T>, &[Val], &mut [Val]) -> Result<()> + Send + Sync + 'static,
    ) -> Result<&mut Self> {
        slots(&ty)?;
        let call = dynamic(ty.clone(), call);
        self.insert(module, name, Definition::Host { ty, call })
    }

    /// Defines a host function from a closure, as [`Func::wrap`] does.
    ///
    /// # Errors
    /// The name is taken.
    pub fn func_wrap<P, R>(
        &mut self,
        module: &str,
        name: &str,
        call: impl IntoFunc<T, P, R>,
    ) -> Result<&mut Self> {
        let (ty, call) = typed(call);
        self.insert(module, name, Definition::Host { ty, call })
    }

    /// Defines all exports of an instance under a module name.
    ///
    /// # Errors
    /// A name is taken.
    pub fn instance(
        &mut self,
        store: impl AsContextMut<Data = T>,
        module: &str,
        instance: Instance,
    ) -> Result<&mut Self> {
        for (name, item) in instance.exports(store) {
            self.insert(module, &name, Definition::Item(item))?;
        }
        Ok(self)
    }

    /// A definition; host functions are made in the store at their first use. `None` also for an item of another
    /// store.
    pub fn get(
        &self,
        mut store: impl AsContextMut<Data = T>,
        module: &str,
        name: &str,
    ) -> Option<Extern> {
        let core = &mut store.as_context_mut().0.core;
        let definition = self.definitions.get(module)?.get(name)?;
        realize(core, definition).ok()
    }

    /// Like `get`, only functions.
    pub fn get_func(
        &self,
        store: impl AsContextMut<Data = T>,
        module: &str,
        name: &str,
    ) -> Option<Func> {
        self.get(store, module, name)?.into_func()
    }

    /// The type of a host function; `None` if nothing or something else has this name.
    pub(crate) fn host_function_type(&self, module: &str, name: &str) -> Option<&FuncType> {
        match self.definitions.get(module)?.get(name)? {
            Definition::Host { ty, .. } => Some(ty),
            Definition::Item(_) => None,
        }
    }

    /// Every function import of `module` without a definition becomes one that traps with its name.
    ///
    /// # Errors
    /// None for functions; imports of other kinds stay undefined.
    pub fn define_unknown_imports_as_traps(&mut self, module: &Module) -> Result<()> {
        for import in &module.0.imports {
            let ExternKind::Func(ty) = import.ty else {
                continue;
            };
            let from = module.0.import_module(import);
            if self.find(from, &import.name).is_some() {
                continue;
            }
            let detail: Box<str> = format!("`{}::{}`", shown(from), shown(&import.name)).into();
            let call = Arc::new(move |_: *mut (), _: &mut [u64]| {
                let trap = Trap::new(TrapCode::UnresolvedFunction);
                Err(Error::from(trap.with_detail(detail.clone())))
            });
            let ty = module.0.types[ty as usize].clone();
            self.insert(from, &import.name, Definition::Host { ty, call })?;
        }
        Ok(())
    }

    /// Instantiates a module with the definitions.
    ///
    /// # Errors
    /// Lists the imports without a definition at once, as many as fit into 64 KiB; else as [`Instance::new`].
    pub fn instantiate(
        &self,
        mut store: impl AsContextMut<Data = T>,
        module: &Module,
    ) -> Result<Instance> {
        let store = store.as_context_mut();
        let imports = &module.0.imports;
        let mut found = Vec::with_capacity(imports.len());
        let mut missing = Vec::new();
        for import in imports {
            match self.find(module.0.import_module(import), &import.name) {
                Some(definition) => found.push(definition),
                None => missing.push(import),
            }
        }
        if let Some(first) = missing.first() {
            let mut reason = String::new();
            for (number, import) in missing.iter().enumerate() {
                if number > 0 {
                    reason.push('\n');
                }
                if reason.len() >= MOST_TEXT {
                    let more = missing.len() - number;
                    reason.push_str(&format!("and {more} more unknown imports"));
                    break;
                }
                reason.push_str(&format!(
                    "unknown import: `{}::{}` has not been defined (expected {})",
                    shown(module.0.import_module(import)),
                    shown(&import.name),
                    describe(&module.0.import_type(import.ty))
                ));
            }
            return Err(Error::new(ErrorKind::Import {
                module: module.0.import_module(first).to_string(),
                name: first.name.to_string(),
                reason,
            }));
        }
        let core = &mut store.0.core;
        let found = found
            .into_iter()
            .map(|definition| realize(core, definition))
            .collect::<Result<Vec<Extern>>>()?;
        Instance::new(store, module, &found)
    }

    fn find(&self, module: &str, name: &str) -> Option<&Definition> {
        self.definitions.get(module)?.get(name)
    }

    fn insert(&mut self, module: &str, name: &str, definition: Definition) -> Result<&mut Self> {
        if !self.shadowing && self.find(module, name).is_some() {
            return Err(Error::usage(format!(
                "`{module}::{name}` is defined twice; `allow_shadowing` makes the later definition count"
            )));
        }
        let fields = match self.definitions.get_mut(module) {
            Some(fields) => fields,
            None => self.definitions.entry(module.into()).or_default(),
        };
        fields.insert(name.into(), definition);
        Ok(self)
    }
}

/// Checks that an item is a live one of a store.
///
/// # Errors
/// It is of another store, or was released.
fn check_store(core: &StoreCore, item: Extern) -> Result<()> {
    match item {
        Extern::Func(func) => core.find_func(func).map(drop),
        Extern::Global(global) => core.find_global(global).map(drop),
        Extern::Table(table) => core.find_table(table).map(drop),
        Extern::Memory(memory) => core.find_memory(memory).map(drop),
    }
}

/// The definition as an item of this store.
///
/// # Errors
/// It is an item of another store.
fn realize(core: &mut StoreCore, definition: &Definition) -> Result<Extern> {
    match definition {
        Definition::Item(item) => {
            check_store(core, *item)?;
            Ok(*item)
        }
        Definition::Host { ty, call } => {
            let key = Arc::as_ptr(call).cast::<()>().addr();
            if let Some(func) = core.linked.get(&key)
                // The record keeps its closure alive, so as long as there is the record, no other closure has this
                // address.
                && core.find_func(*func).is_ok()
            {
                return Ok((*func).into());
            }
            let func = core.add_func(ty, FuncKind::Host(call.clone()));
            core.linked.insert(key, func);
            Ok(func.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::module::{GlobalType, ValType};
    use crate::runtime::{Global, Store};

    fn store(engine: &Engine) -> Store<i32> {
        Store::with_hooks(engine, 0, &testing::HOOKS)
    }

    #[test]
    fn a_name_is_defined_once_unless_shadowing_is_allowed() {
        let engine = Engine::default();
        let mut linker = Linker::<i32>::new(&engine);
        linker.func_wrap("env", "f", || 1).unwrap();
        let error = linker.func_wrap("env", "f", || 2).err().unwrap();
        assert!(error.to_string().contains("`env::f` is defined twice"));
        linker.func_wrap("env", "g", || 1).unwrap();
        linker.func_wrap("other", "f", || 1).unwrap();
        linker
            .allow_shadowing(true)
            .func_wrap("env", "f", || 2)
            .unwrap();
        let mut store = store(&engine);
        let func = linker.get_func(&mut store, "env", "f").unwrap();
        let typed = func.typed::<(), i32>(&store).unwrap();
        assert_eq!(typed.call(&mut store, ()).unwrap(), 2);
        assert!(linker.get(&mut store, "env", "h").is_none());
        assert!(linker.get(&mut store, "none", "f").is_none());
    }

    #[test]
    fn a_host_function_is_made_once_per_store_and_shared_by_clones_of_the_linker() {
        let engine = Engine::default();
        let mut linker = Linker::<i32>::new(&engine);
        let count = |mut caller: Caller<'_, i32>| *caller.data_mut() += 1;
        linker.func_wrap("env", "count", count).unwrap();
        let clone = linker.clone();
        let [mut one, mut two] = [store(&engine), store(&engine)];
        let func = linker.get_func(&mut one, "env", "count").unwrap();
        assert_eq!(clone.get_func(&mut one, "env", "count"), Some(func));
        let other = linker.get_func(&mut two, "env", "count").unwrap();
        assert_ne!(func, other);
        drop((linker, clone));
        func.call(&mut one, &[], &mut []).unwrap();
        assert_eq!((*one.data(), *two.data()), (1, 0));
        other.call(&mut two, &[], &mut []).unwrap();
        assert_eq!((*one.data(), *two.data()), (1, 1));
    }

    #[test]
    fn a_released_host_function_is_made_again() {
        let engine = Engine::default();
        let mut linker = Linker::<i32>::new(&engine);
        linker.func_wrap("env", "f", || 1).unwrap();
        let mut store = store(&engine);
        let mark = store.as_context_mut().mark();
        let first = linker.get_func(&mut store, "env", "f").unwrap();
        store.as_context_mut().release_since(mark);
        let second = linker.get_func(&mut store, "env", "f").unwrap();
        assert_ne!(first, second);
        assert!(second.call(&mut store, &[], &mut [Val::I32(0)]).is_ok());
    }

    #[test]
    fn items_belong_to_their_store() {
        let engine = Engine::default();
        let mut linker = Linker::<i32>::new(&engine);
        let [mut one, mut two] = [store(&engine), store(&engine)];
        let ty = GlobalType {
            value: ValType::I32,
            mutable: false,
        };
        let global = Global::new(&mut one, ty, Val::I32(5)).unwrap();
        assert!(linker.define(&two, "env", "g", global).is_err());
        linker.define(&one, "env", "g", global).unwrap();
        assert_eq!(linker.get(&mut one, "env", "g"), Some(global.into()));
        assert_eq!(linker.get(&mut two, "env", "g"), None);
    }

    #[test]
    fn the_text_about_missing_imports_is_bounded() {
        let engine = Engine::default();
        let linker = Linker::<i32>::new(&engine);
        let mut store = store(&engine);
        for (count, name) in [(5000, ""), (200, &*"n".repeat(10_000))] {
            let imports: String = (0..count)
                .map(|n| format!(r#"(import "env" "{name}{n}" (func))"#))
                .collect();
            let text = format!("(module {imports})");
            let module = Module::new(&engine, &wat::parse_str(text).unwrap()).unwrap();
            let error = linker.instantiate(&mut store, &module).unwrap_err();
            let text = error.to_string();
            assert!(text.len() < MOST_TEXT + 25_000, "{} bytes", text.len());
            let listed = text.matches("unknown import: `").count();
            assert!(listed > 5 && listed < count, "{listed} of {count}");
            let rest = format!("and {} more unknown imports", count - listed);
            assert!(text.contains(&rest), "{}", &text[text.len() - 80..]);
        }
    }

    #[test]
    fn a_function_type_with_too_many_parameters_or_results_is_refused() {
        let engine = Engine::default();
        let mut linker = Linker::<i32>::new(&engine);
        let types = |count: usize| vec![ValType::I32; count];
        for (params, results) in [(1001, 0), (0, 1001), (65_536, 1), (70_000, 70_000)] {
            let ty = FuncType::new(types(params), types(results));
            let error = linker.func_new("env", "f", ty.clone(), |_, _, _| Ok(()));
            let error = error.map(drop).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Limit { .. }), "{error}");
            let made = std::panic::catch_unwind(|| {
                Func::new(&mut self::store(&engine), ty, |_, _, _| Ok(()));
            });
            assert!(made.is_err());
        }
        let ty = FuncType::new(types(1000), types(1000));
        let last = |_: Caller<'_, i32>, params: &[Val], results: &mut [Val]| {
            results[999] = params[999];
            Ok(())
        };
        linker.func_new("env", "f", ty, last).unwrap();
        let mut store = store(&engine);
        let func = linker.get_func(&mut store, "env", "f").unwrap();
        let params: Vec<Val> = (0..1000).map(Val::I32).collect();
        let mut results = vec![Val::I32(0); 1000];
        func.call(&mut store, &params, &mut results).unwrap();
        assert_eq!(results[999].i32(), Some(999));
    }

    #[test]
    fn all_missing_imports_are_listed_at_once() {
        let engine = Engine::default();
        let text = r#"(module
            (import "env" "f" (func (param i32) (result i64)))
            (import "env" "known" (func))
            (import "env" "g" (global (mut f32)))
            (import "env" "memory" (memory 1 2))
            (import "env" "table" (table 3 funcref)))"#;
        let module = Module::new(&engine, &wat::parse_str(text).unwrap()).unwrap();
        let mut linker = Linker::<i32>::new(&engine);
        linker.func_wrap("env", "known", || {}).unwrap();
        let mut store = store(&engine);
        let error = linker.instantiate(&mut store, &module).unwrap_err();
        let text = error.to_string();
        for line in [
            "unknown import: `env::f` has not been defined (expected function (i32) -> (i64))",
            "unknown import: `env::g` has not been defined (expected mutable global of type f32)",
            "unknown import: `env::memory` has not been defined (expected memory of 1 to 2 pages)",
            "unknown import: `env::table` has not been defined (expected table of at least 3 elements of type funcref)",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("known` has"), "{text}");

        linker.define_unknown_imports_as_traps(&module).unwrap();
        linker.define_unknown_imports_as_traps(&module).unwrap();
        let func = linker.get_func(&mut store, "env", "f").unwrap();
        let error = func.call(&mut store, &[Val::I32(1)], &mut [Val::I64(0)]);
        let error = error.unwrap_err();
        let trap = error.trap().unwrap();
        assert_eq!(trap.code(), TrapCode::UnresolvedFunction);
        assert_eq!(trap.detail(), Some("`env::f`"));
        assert!(linker.get(&mut store, "env", "g").is_none());
    }
}
