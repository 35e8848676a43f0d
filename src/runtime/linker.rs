//! Imports by name: collects definitions and instantiates modules with them.
//!
//! A host function is defined once, without a store. The store gets a record for it at its first use and remembers
//! it by the address of the closure, which the record keeps alive.

use super::func::Func;
use super::host::{Caller, IntoFunc, dynamic};
use super::instance::{Extern, Instance};
use super::instantiate::{describe, wanted_type};
use super::records::{FuncKind, HostFunc};
use super::store::{AsContext, AsContextMut, StoreCore};
use super::value::Val;
use crate::config::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::module::{ExternKind, FuncType, Module};
use crate::trap::{Trap, TrapCode};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::Arc;

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
    /// The name is taken.
    pub fn func_new(
        &mut self,
        module: &str,
        name: &str,
        ty: FuncType,
        call: impl Fn(Caller<'_, T>, &[Val], &mut [Val]) -> Result<()> + Send + Sync + 'static,
    ) -> Result<&mut Self> {
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
        let (ty, call) = call.into_host();
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

    /// Every function import of `module` without a definition becomes one that traps with its name.
    ///
    /// # Errors
    /// None for functions; imports of other kinds stay undefined.
    pub fn define_unknown_imports_as_traps(&mut self, module: &Module) -> Result<()> {
        for import in &module.0.imports {
            let ExternKind::Func(ty) = import.ty else {
                continue;
            };
            if self.find(&import.module, &import.name).is_some() {
                continue;
            }
            let detail: Box<str> = format!("`{}::{}`", import.module, import.name).into();
            let call = Arc::new(move |_: *mut (), _: &mut [u64]| {
                let trap = Trap::new(TrapCode::UnresolvedFunction);
                Err(Error::from(trap.with_detail(detail.clone())))
            });
            let ty = module.0.types[ty as usize].clone();
            self.insert(&import.module, &import.name, Definition::Host { ty, call })?;
        }
        Ok(())
    }

    /// Instantiates a module with the definitions.
    ///
    /// # Errors
    /// Lists every import without a definition at once; else as [`Instance::new`].
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
            match self.find(&import.module, &import.name) {
                Some(definition) => found.push(definition),
                None => missing.push(import),
            }
        }
        if let Some(first) = missing.first() {
            let reasons: Vec<String> = missing
                .iter()
                .map(|import| {
                    format!(
                        "unknown import: `{}::{}` has not been defined (expected {})",
                        import.module,
                        import.name,
                        describe(&wanted_type(module, &import.ty))
                    )
                })
                .collect();
            return Err(Error::new(ErrorKind::Import {
                module: first.module.to_string(),
                name: first.name.to_string(),
                reason: reasons.join("\n"),
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
            let func = core.add_func(ty, FuncKind::Host(call.clone()), null_mut());
            core.linked.insert(key, func);
            Ok(func.into())
        }
    }
}
