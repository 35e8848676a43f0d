//! Dynamic linking by hand, the same for every engine: a main module that owns memory, table and stack, and a position-independent
//! side module that is placed into them. Peers without a linker get the best case: direct imports, final table slots, no stubs.

use crate::Outcome;
use std::collections::HashMap;
use wasmparser::{Dylink0Subsection, KnownCustom, Parser, Payload, TypeRef};

/// The few operations that linking needs, in terms of one engine.
pub trait World {
    /// Anything that can be imported or exported.
    type Item: Clone;
    /// An instance.
    type Instance;
    /// Instantiates module number `module` of the workload; `imports` in the order of its import section.
    fn instantiate(
        &mut self,
        module: usize,
        imports: &[(String, String, Self::Item)],
    ) -> Outcome<Self::Instance>;
    /// An export.
    fn export(&mut self, instance: &Self::Instance, name: &str) -> Option<Self::Item>;
    /// A new i32 global.
    fn new_global(&mut self, value: i32, mutable: bool) -> Outcome<Self::Item>;
    /// Reads an i32 global.
    fn read_global(&mut self, global: &Self::Item) -> Outcome<i32>;
    /// Sets an i32 global.
    fn write_global(&mut self, global: &Self::Item, value: i32) -> Outcome<()>;
    /// Adds pages to a memory; gives the number of pages before.
    fn grow_memory(&mut self, memory: &Self::Item, pages: u32) -> Outcome<u32>;
    /// Adds null elements to a table; gives the number of elements before.
    fn grow_table(&mut self, table: &Self::Item, elements: u32) -> Outcome<u32>;
    /// Puts a function into a table.
    fn set_table(&mut self, table: &Self::Item, index: u32, function: &Self::Item) -> Outcome<()>;
    /// Calls a function with at most one i32; gives its i32 or i64 result zero-extended, or 0.
    fn call(&mut self, function: &Self::Item, argument: Option<i32>) -> Outcome<u64>;
}

/// What the runner has to know of a side module.
struct Shape {
    memory_size: u32,
    memory_align: u32,
    table_size: u32,
    /// Module, field, whether a mutable global.
    imports: Vec<(String, String, bool)>,
}

fn shape(bytes: &[u8]) -> Outcome<Shape> {
    let mut shape = Shape {
        memory_size: 0,
        memory_align: 0,
        table_size: 0,
        imports: Vec::new(),
    };
    let fail = |e: wasmparser::BinaryReaderError| e.to_string();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(fail)? {
            Payload::CustomSection(section) => {
                if let KnownCustom::Dylink0(parts) = section.as_known() {
                    for part in parts {
                        if let Dylink0Subsection::MemInfo(info) = part.map_err(fail)? {
                            shape.memory_size = info.memory_size;
                            shape.memory_align = info.memory_alignment;
                            shape.table_size = info.table_size;
                        }
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(fail)?;
                    let mutable = matches!(import.ty, TypeRef::Global(ty) if ty.mutable);
                    shape
                        .imports
                        .push((import.module.to_owned(), import.name.to_owned(), mutable));
                }
            }
            _ => {}
        }
    }
    Ok(shape)
}

/// Instantiates a workload and gives its function `run`.
pub fn start<W: World>(world: &mut W, modules: &[Vec<u8>]) -> Outcome<W::Item> {
    let main = world.instantiate(0, &[])?;
    let run = world.export(&main, "run").ok_or("no export run")?;
    let side = match modules.get(1) {
        Some(bytes) => Some(link(world, &main, &shape(bytes)?)?),
        None => None,
    };
    // A main that knows a side module gets its struct of functions; in the one-module build both are the same instance.
    if let Some(attach) = world.export(&main, "attach") {
        let api = world
            .export(side.as_ref().unwrap_or(&main), "side_api")
            .ok_or("no export side_api")?;
        let api = world.call(&api, None)?;
        world.call(&attach, Some(api as i32))?;
    }
    Ok(run)
}

/// Places the side module, resolves its symbols, runs its relocations and constructors.
fn link<W: World>(world: &mut W, main: &W::Instance, shape: &Shape) -> Outcome<W::Instance> {
    fn export<W: World>(world: &mut W, instance: &W::Instance, name: &str) -> Outcome<W::Item> {
        world
            .export(instance, name)
            .ok_or_else(|| format!("main does not export {name}"))
    }
    let memory = export(world, main, "memory")?;
    let table = export(world, main, "__indirect_function_table")?;
    let heap = export(world, main, "__heap_base")?;
    let align = 1_u32 << shape.memory_align.max(4);
    let memory_base = (world.read_global(&heap)? as u32).next_multiple_of(align);
    // The heap is not used by these programs; a page more than needed keeps it simple.
    world.grow_memory(&memory, shape.memory_size.div_ceil(65536) + 1)?;
    let table_base = world.grow_table(&table, shape.table_size)?;

    let mut imports = Vec::new();
    let mut cells: HashMap<(String, String), W::Item> = HashMap::new();
    for (module, name, mutable) in &shape.imports {
        let item = match (module.as_str(), name.as_str()) {
            ("GOT.mem" | "GOT.func", _) => {
                let cell = world.new_global(0, *mutable)?;
                cells.insert((module.clone(), name.clone()), cell.clone());
                cell
            }
            ("env", "__memory_base") => world.new_global(memory_base as i32, *mutable)?,
            ("env", "__table_base") => world.new_global(table_base as i32, *mutable)?,
            _ => export(world, main, name)?,
        };
        imports.push((module.clone(), name.clone(), item));
    }
    let side = world.instantiate(1, &imports)?;

    for ((module, name), cell) in &cells {
        let value = if module == "GOT.func" {
            let function = world
                .export(main, name)
                .or_else(|| world.export(&side, name));
            let function = function.ok_or_else(|| format!("no function {name}"))?;
            let index = world.grow_table(&table, 1)?;
            world.set_table(&table, index, &function)?;
            index
        } else if let Some(address) = world.export(main, name) {
            world.read_global(&address)? as u32
        } else {
            let offset = world
                .export(&side, name)
                .ok_or_else(|| format!("no data {name}"))?;
            (world.read_global(&offset)? as u32).wrapping_add(memory_base)
        };
        world.write_global(cell, value as i32)?;
    }
    for initialiser in ["__wasm_apply_data_relocs", "__wasm_call_ctors"] {
        if let Some(function) = world.export(&side, initialiser) {
            world.call(&function, None)?;
        }
    }
    Ok(side)
}
