//! From instances to a program that runs: deferred functions are bound, GOT cells filled, data relocated, thread-local
//! data set up, constructors run, in this order for all new objects together (rules G4, I1 to I5, T1).
#![forbid(unsafe_code)]

use super::bind::signature_mismatch;
use super::got::CellTarget;
use super::load::{AT_ONCE, AT_ONCE_COST, Load};
use super::object::{Definition, ObjectId, Status};
use super::plan::Problems;
use super::pointer_exports::Pointer;
use super::process::Process;
use super::symbols::Symbol;
use super::trace::TraceTopics;
use crate::error::Result;
use crate::runtime::{AsContextMut, StoreContextMut, Val};
use crate::shown::shown;

/// Passes over cells that are filled from other cells; each pass resolves one more link of such a chain.
const MAX_ALIAS_PASSES: usize = 8;

impl<T: 'static> Load<'_, T> {
    /// Binds the functions that had to wait for their definition.
    pub(super) fn bind_pending(&mut self, store: &mut StoreContextMut<'_, T>) -> Result<()> {
        let mut problems = Problems::default();
        for object in &self.new {
            let pending = {
                let mut state = self.process.state();
                match state.objects.get_mut(&object.id) {
                    Some(object) => std::mem::take(&mut object.pending),
                    None => continue,
                }
            };
            let mut later = Vec::new();
            store.pay(AT_ONCE_COST)?;
            for (func, definition) in pending {
                self.process.step()?;
                let Some(target) = self.process.definition_func(store, definition)? else {
                    later.push((func, definition));
                    continue;
                };
                let (wanted, defined) = (func.ty(&*store), target.ty(&*store));
                let provider = || {
                    let state = self.process.state();
                    shown(state.name(definition.object)).to_string()
                };
                if wanted != defined {
                    let provider = provider();
                    let text = signature_mismatch(
                        &symbol_name(self.process, definition),
                        &wanted,
                        &provider,
                        &defined,
                    );
                    problems.add(format!("{text}, wanted by `{}`", shown(&object.name)));
                } else if func.bind(&mut *store, target).is_err() {
                    let provider = provider();
                    problems.add(format!(
                        "function `{}` of `{provider}` is only an import that is exported again and leads back to itself, wanted by `{}`",
                        shown(&symbol_name(self.process, definition)), shown(&object.name)
                    ));
                }
            }
            // Addresses that cells tell are known after the cells are filled.
            if let Some(object) = self.process.state().objects.get_mut(&object.id) {
                object.pending = later;
            }
        }
        problems.result()
    }

    /// Gives every new object with thread-local data its block (rules T1, T3).
    pub(super) fn reserve_tls(&mut self, store: &mut StoreContextMut<'_, T>) -> Result<()> {
        for object in &self.new {
            let Some(instance) = self.process.instance_of(object.id) else {
                continue;
            };
            if instance.get_func(&mut *store, "__wasm_init_tls").is_none() {
                continue;
            }
            let mut scalar = |name: &str| {
                instance
                    .get_global(&mut *store, name)
                    .and_then(|global| global.get(&mut *store).i32())
                    .map_or(0, i32::cast_unsigned)
            };
            let size = scalar("__tls_size");
            let align = scalar("__tls_align").max(1).trailing_zeros();
            if size == 0 {
                continue;
            }
            let what = format!("thread-local data of `{}`", shown(&object.name));
            let block = self.process.take_memory(store, size, align, &what)?;
            if let Some(object) = self.process.state().objects.get_mut(&object.id) {
                object.tls_base = Some(block.base);
                object.tls_memory = block;
            }
        }
        Ok(())
    }

    /// Fills all GOT cells of the new objects (rules G4, G5).
    pub(super) fn fill_cells(&mut self, store: &mut StoreContextMut<'_, T>) -> Result<()> {
        let mut open = Vec::new();
        {
            let state = self.process.state();
            for settled in &self.settled {
                let Some(object) = state.object(settled.object) else {
                    continue;
                };
                // Guests that ran meanwhile may have written to cells or put other functions into slots.
                let same = !self.guest_ran && settled.changes == state.indices.changes();
                let cells = object.cells.iter().zip(&settled.cells);
                let cells = cells.filter(|(_, settled)| !(same && **settled));
                open.extend(cells.map(|(cell, _)| (object.id, cell)));
            }
        }
        for _ in 0..MAX_ALIAS_PASSES {
            let mut later = Vec::new();
            for (number, (id, cell)) in open.into_iter().enumerate() {
                if number % AT_ONCE == 0 {
                    store.pay(AT_ONCE_COST)?;
                }
                self.process.step()?;
                match self.process.cell_value(store, cell.target)? {
                    Some(value) => cell.global.set(&mut *store, Val::I32(value))?,
                    None => later.push((id, cell)),
                }
            }
            open = later;
            if open.is_empty() {
                break;
            }
        }
        let mut problems = Problems::default();
        for (id, cell) in &open {
            let state = self.process.state();
            let Some(object) = state.object(*id) else {
                continue;
            };
            let name = object.symbols.import_name(cell.import).unwrap_or("?");
            let value = match cell.target {
                CellTarget::Loader(_) => "the process has no such address",
                _ => "its definition does not lead to an address",
            };
            problems.add(format!(
                "symbol `{}`: {value}, wanted by `{}`",
                shown(name),
                shown(&object.name)
            ));
        }
        problems.result()?;
        // Functions whose addresses are told by cells are known now.
        self.bind_pending(store)?;
        let mut problems = Problems::default();
        let mut state = self.process.state();
        for object in &self.new {
            let Some(loaded) = state.objects.get_mut(&object.id) else {
                continue;
            };
            for (_, definition) in std::mem::take(&mut loaded.pending) {
                let name = match definition.symbol {
                    Symbol::Function { export, .. } => {
                        shown(object.symbols.export_name(export)).to_string()
                    }
                    _ => "an address".to_string(),
                };
                problems.add(format!(
                    "function `{name}` is not in the table at its address, wanted by `{}`",
                    shown(&object.name)
                ));
            }
        }
        drop(state);
        problems.result()
    }

    /// Runs the relocation functions of all new objects, then their thread-local set-up (rules I1, I2).
    pub(super) fn relocate(&mut self, store: &mut StoreContextMut<'_, T>) -> Result<()> {
        for step in ["__wasm_apply_data_relocs", "__wasm_init_tls"] {
            for id in self.init_order.clone() {
                store.pay(1)?;
                let Some(instance) = self.process.instance_of(id) else {
                    continue;
                };
                let (name, tls_base) = {
                    let state = self.process.state();
                    (
                        shown(state.name(id)).to_string(),
                        state.object(id).and_then(|object| object.tls_base),
                    )
                };
                let params = match (step, tls_base) {
                    ("__wasm_init_tls", Some(base)) => vec![base],
                    ("__wasm_init_tls", None) => continue,
                    _ => Vec::new(),
                };
                if let Some(func) = instance.get_func(&mut *store, step) {
                    self.process.0.trace.line(
                        TraceTopics::RELOC,
                        format_args!("calling relocation function: {name} ({step})"),
                    );
                    self.guest_ran = true;
                    self.process
                        .call_i32(store, func, &params)
                        .map_err(|error| error.context(format!("relocating `{name}` ({step})")))?;
                    self.process.step()?;
                }
            }
        }
        Ok(())
    }

    /// Runs the constructors (rules I3 to I6).
    pub(super) fn construct(&mut self, store: &mut StoreContextMut<'_, T>) -> Result<()> {
        {
            let mut state = self.process.state();
            state.busy = false;
            for object in &self.new {
                if let Some(object) = state.objects.get_mut(&object.id) {
                    object.status = Status::Initialising;
                }
            }
        }
        let mut order = self.init_order.clone();
        // A main module with a C library of its own comes first, if its constructors are not `_start`'s business: the
        // libraries' constructors may use that library (rule I5).
        let main = self.new.iter().find(|object| {
            object
                .main
                .as_ref()
                .is_some_and(|shape| !shape.start_runs_constructors)
        });
        if let Some(main) = main.filter(|main| main.symbols.lookup("malloc").is_some()) {
            let id = main.id;
            order.retain(|other| *other != id);
            order.insert(0, id);
        }
        for id in order {
            store.pay(1)?;
            self.process.step()?;
            self.construct_one(store, id)?;
        }
        Ok(())
    }

    pub(super) fn construct_one(
        &mut self,
        store: &mut StoreContextMut<'_, T>,
        id: ObjectId,
    ) -> Result<()> {
        let skip = self
            .place(id)
            .and_then(|place| self.new.get(place)?.main.as_ref())
            .is_some_and(|shape| shape.start_runs_constructors);
        if let Some(instance) = self.process.instance_of(id).filter(|_| !skip) {
            let constructor = ["_initialize", "__wasm_call_ctors"]
                .into_iter()
                .find_map(|name| Some((name, instance.get_func(&mut *store, name)?)));
            if let Some((step, func)) = constructor {
                let name = shown(self.process.state().name(id)).to_string();
                let trace = &self.process.0.trace;
                let topics = TraceTopics::INIT | TraceTopics::LIBS;
                trace.line(topics, format_args!(""));
                trace.line(topics, format_args!("calling init: {name}"));
                trace.line(topics, format_args!(""));
                self.guest_ran = true;
                {
                    let mut state = self.process.state();
                    state.constructed = state.constructed.saturating_add(1);
                    let began = state.constructed;
                    if let Some(object) = state.objects.get_mut(&id) {
                        object.began = began;
                    }
                }
                func.call(store.as_context_mut(), &[], &mut [])
                    .map_err(|error| error.context(format!("constructor of `{name}` ({step})")))?;
                self.process.step()?;
            }
        }
        let mut state = self.process.state();
        state.constructed = state.constructed.saturating_add(1);
        let constructed = state.constructed;
        if let Some(object) = state.objects.get_mut(&id) {
            object.status = Status::Ready;
            object.constructed = constructed;
        }
        Ok(())
    }
}

fn symbol_name<T: 'static>(process: &Process<T>, definition: Definition) -> String {
    let state = process.state();
    let Some(object) = state.object(definition.object) else {
        return String::new();
    };
    match definition.symbol {
        Symbol::Function { export, .. } | Symbol::Data { export, .. } => {
            object.symbols.export_name(export).to_string()
        }
        Symbol::Pointer(Pointer::Got { import, .. }) => object
            .symbols
            .import_name(import)
            .unwrap_or_default()
            .to_string(),
        Symbol::Pointer(_) => "an address".to_string(),
    }
}
