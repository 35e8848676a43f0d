//! Makes instances: checks everything that can be checked before there is any effect, creates the records in one
//! group, evaluates constant expressions, writes segments, runs the start function.
//!
//! Until the first segment is written to something imported, a failure takes everything back. Later a failure
//! leaves what was written (the specification wants that), and the instance stays alive without a handle if its
//! functions may be referenced from outside.

use super::group::{Group, Records, room_for};
use super::instance::{Extern, Instance};
use super::records::{FuncKind, FuncRec, GlobalRec, InstanceRec, MemoryRec, TableRec};
use super::store::{StoreCore, call, release};
use super::{func, memory, table};
use crate::error::{Error, ErrorKind, Result};
use crate::module::{
    ConstExpr, ConstOp, ExternKind, ExternType, GlobalType, Import, MemoryType, Module,
    SegmentMode, TableType, ValType,
};
use crate::trap::TrapCode;
use smallvec::SmallVec;
use std::ptr::null_mut;

/// The index spaces of the instance, imports first.
#[derive(Default)]
struct Spaces {
    funcs: Vec<*mut FuncRec>,
    tables: Vec<*mut TableRec>,
    memories: Vec<*mut MemoryRec>,
    globals: Vec<*mut GlobalRec>,
}

/// Instantiates a module.
///
/// # Errors
/// As [`Instance::new`].
///
/// # Safety
/// `core` is live and `store` is the `*mut StoreInner<T>` around it; both come from an exclusive borrow that the
/// caller does not use meanwhile.
pub(crate) unsafe fn instantiate(
    core: *mut StoreCore,
    store: *mut (),
    module: &Module,
    imports: &[Extern],
) -> Result<Instance> {
    // SAFETY: by the contract; each callee says what it needs, and gets it from the one before.
    unsafe {
        let spaces = check_imports(&*core, module, imports)?;
        let group = (*core).next_group();
        let instance = create(core, store, module, spaces)?;
        let mut escaped = false;
        match run(core, store, instance, &mut escaped) {
            Ok(()) => Ok(Instance {
                store: (*core).id,
                group,
            }),
            Err(error) => {
                if !escaped {
                    release(core, group..group + 1);
                }
                Err(error)
            }
        }
    }
}

/// Checks the imports and puts them into the index spaces. No effect.
///
/// # Errors
/// The module is of another engine, a wrong number of imports, an import of another store or of a wrong type.
fn check_imports(core: &StoreCore, module: &Module, imports: &[Extern]) -> Result<Spaces> {
    let inner = &module.0;
    if !inner.engine.same(&core.engine) {
        return Err(Error::usage(
            "the module was made with another engine than the store",
        ));
    }
    if inner.imports.len() != imports.len() {
        return Err(Error::usage(format!(
            "the module has {} imports, {} were given",
            inner.imports.len(),
            imports.len()
        )));
    }
    let mut spaces = Spaces {
        funcs: room_for(inner.funcs.len(), "an instance's functions")?,
        tables: room_for(inner.tables.len(), "an instance's tables")?,
        memories: room_for(inner.memories.len(), "an instance's memories")?,
        globals: room_for(inner.globals.len(), "an instance's globals")?,
    };
    for (import, given) in inner.imports.iter().zip(imports) {
        check_import(core, module, import, *given, &mut spaces)?;
    }
    Ok(spaces)
}

/// Checks one import and adds it to its index space.
///
/// # Errors
/// It is of another store or has a wrong type.
fn check_import(
    core: &StoreCore,
    module: &Module,
    import: &Import,
    given: Extern,
    spaces: &mut Spaces,
) -> Result<()> {
    let named = |error: Error| error.context(format!("import `{}.{}`", import.module, import.name));
    // SAFETY: lookups give live records, and the references to them end with their statements.
    let fits = unsafe {
        match (&import.ty, given) {
            (ExternKind::Func(ty), Extern::Func(handle)) => {
                let record = core.find_func(handle).map_err(named)?;
                spaces.funcs.push(record);
                (*record).ty == module.0.type_ids[*ty as usize]
            }
            (ExternKind::Table(wanted), Extern::Table(handle)) => {
                let record = core.find_table(handle).map_err(named)?;
                spaces.tables.push(record);
                let found = table::type_of(record);
                wanted.element == found.element
                    && limits_fit(
                        (wanted.minimum, wanted.maximum),
                        (found.minimum, found.maximum),
                    )
            }
            (ExternKind::Memory(wanted), Extern::Memory(handle)) => {
                let record = core.find_memory(handle).map_err(named)?;
                spaces.memories.push(record);
                let found = memory::type_of(record);
                limits_fit(
                    (wanted.minimum, wanted.maximum),
                    (found.minimum, found.maximum),
                )
            }
            (ExternKind::Global(wanted), Extern::Global(handle)) => {
                let record = core.find_global(handle).map_err(named)?;
                spaces.globals.push(record);
                (*record).ty == *wanted
            }
            _ => false,
        }
    };
    if fits {
        return Ok(());
    }
    let found = found_type(core, given).map_err(named)?;
    Err(Error::new(ErrorKind::Import {
        module: import.module.to_string(),
        name: import.name.to_string(),
        reason: format!(
            "incompatible import type: expected {}, found {}",
            describe(&wanted_type(module, &import.ty)),
            describe(&found)
        ),
    }))
}

/// Whether an object with the limits `found` (its size and maximum) can be imported as `wanted`.
fn limits_fit(wanted: (u64, Option<u64>), found: (u64, Option<u64>)) -> bool {
    let maximum_fits = match (wanted.1, found.1) {
        (None, _) => true,
        (Some(wanted), Some(found)) => found <= wanted,
        (Some(_), None) => false,
    };
    found.0 >= wanted.0 && maximum_fits
}

/// The type of what was given for an import.
///
/// # Errors
/// It is of another store.
fn found_type(core: &StoreCore, given: Extern) -> Result<ExternType> {
    // SAFETY: lookups give live records.
    unsafe {
        Ok(match given {
            Extern::Func(handle) => ExternType::Func(func::type_of(core, core.find_func(handle)?)),
            Extern::Global(handle) => ExternType::Global((*core.find_global(handle)?).ty),
            Extern::Table(handle) => ExternType::Table(table::type_of(core.find_table(handle)?)),
            Extern::Memory(handle) => {
                ExternType::Memory(memory::type_of(core.find_memory(handle)?))
            }
        })
    }
}

/// The type that an import wants.
pub(crate) fn wanted_type(module: &Module, kind: &ExternKind) -> ExternType {
    match kind {
        ExternKind::Func(ty) => ExternType::Func(module.0.types[*ty as usize].clone()),
        ExternKind::Table(ty) => ExternType::Table(*ty),
        ExternKind::Memory(ty) => ExternType::Memory(*ty),
        ExternKind::Global(ty) => ExternType::Global(*ty),
    }
}

/// A type in words.
pub(crate) fn describe(ty: &ExternType) -> String {
    let bounds = |minimum: u64, maximum: Option<u64>| match maximum {
        Some(maximum) => format!("{minimum} to {maximum}"),
        None => format!("at least {minimum}"),
    };
    match ty {
        ExternType::Func(ty) => format!("function {ty}"),
        ExternType::Global(GlobalType { value, mutable }) => {
            let word = if *mutable { "mutable" } else { "immutable" };
            format!("{word} global of type {value}")
        }
        ExternType::Table(TableType {
            element,
            minimum,
            maximum,
        }) => format!(
            "table of {} elements of type {}",
            bounds(*minimum, *maximum),
            ValType::Ref(*element)
        ),
        ExternType::Memory(MemoryType { minimum, maximum }) => {
            format!("memory of {} pages", bounds(*minimum, *maximum))
        }
    }
}

/// Creates the records of the instance in a new group: everything that needs no constant expression. If it fails,
/// there is no group.
///
/// # Errors
/// A limit, or the system has no memory.
///
/// # Safety
/// As [`instantiate`]; `spaces` holds the imports.
unsafe fn create(
    core: *mut StoreCore,
    store: *mut (),
    module: &Module,
    mut spaces: Spaces,
) -> Result<*mut InstanceRec> {
    let inner = &module.0;
    // SAFETY: the pointers are right by the contract. References to `core` end with their statements.
    unsafe {
        let group = (*core).next_group();
        let mut memories = room_for(inner.memories.len() - inner.imported_memories, "memories")?;
        for (ty, place) in inner.memories[inner.imported_memories..].iter().zip(0..) {
            let mut record = memory::create(core, store, ty)?;
            (record.group, record.place) = (group, place);
            memories.push(record);
        }
        let memories = Records::new(memories);
        spaces.memories.extend(memories.iter());

        let mut tables = room_for(inner.tables.len() - inner.imported_tables, "tables")?;
        for (definition, place) in inner.tables[inner.imported_tables..].iter().zip(0..) {
            let mut record = table::create(core, store, &definition.ty)?;
            (record.group, record.place) = (group, place);
            tables.push(record);
        }
        let tables = Records::new(tables);
        spaces.tables.extend(tables.iter());

        let mut globals = room_for(inner.globals.len() - inner.imported_globals, "globals")?;
        for (definition, place) in inner.globals[inner.imported_globals..].iter().zip(0..) {
            globals.push(GlobalRec {
                value: 0,
                ty: definition.ty,
                group,
                place,
            });
        }
        let globals = Records::new(globals);
        spaces.globals.extend(globals.iter());

        let mut funcs = room_for(inner.funcs.len() - inner.imported_funcs, "functions")?;
        let mem = spaces.memories.first().copied().unwrap_or(null_mut());
        for (ty, place) in inner.funcs[inner.imported_funcs..].iter().zip(0..) {
            let (ty, id) = (&inner.types[*ty as usize], inner.type_ids[*ty as usize]);
            let mut record = FuncRec::new(ty, id, FuncKind::Wasm, mem);
            record.index = inner.imported_funcs as u32 + place;
            (record.group, record.place) = (group, place);
            funcs.push(record);
        }
        let funcs = Records::new(funcs);
        spaces.funcs.extend(funcs.iter());

        let record = InstanceRec {
            module: module.clone(),
            funcs: spaces.funcs.into_boxed_slice(),
            tables: spaces.tables.into_boxed_slice(),
            memories: spaces.memories.into_boxed_slice(),
            globals: spaces.globals.into_boxed_slice(),
            elements: inner.elements.iter().map(|_| Box::default()).collect(),
            data: inner
                .data
                .iter()
                .map(|segment| segment.range.clone())
                .collect(),
            group,
        };
        let instance = Records::new(vec![record]);
        let address = instance
            .get(0)
            .unwrap_or_else(|| unreachable!("there is one record"));
        let functions = funcs.iter();
        (*core).add_group(Group {
            funcs,
            tables,
            memories,
            globals,
            instance,
        });
        for func in functions {
            (*func).instance = address;
            ((*core).hooks.prepare)(&*core, func);
        }
        Ok(address)
    }
}

/// Evaluates what the module defines by constant expressions, writes the active segments, runs the start function.
///
/// # Errors
/// A segment is out of bounds, a function does not translate, or the start function traps. `escaped` tells whether
/// something outside may refer to the instance by then.
///
/// # Safety
/// As [`instantiate`]; `instance` was just created.
unsafe fn run(
    core: *mut StoreCore,
    store: *mut (),
    instance: *mut InstanceRec,
    escaped: &mut bool,
) -> Result<()> {
    // SAFETY: the records are live; index spaces have fixed addresses, so pointers to them stay right; references
    // to fields end with their statements, hooks get pointers only. Indices are valid (validation).
    unsafe {
        let module = (&(*instance).module).clone();
        let inner = &*module.0;
        let (tables, memories) = (
            &raw const *(*instance).tables,
            &raw const *(*instance).memories,
        );
        let table_at = |index: usize| *tables.cast::<*mut TableRec>().add(index);

        let home = (*instance).memory0();
        for index in 0..inner.tables.len() {
            table::settle(core, table_at(index), home);
        }
        for (index, definition) in inner.globals.iter().enumerate() {
            if let Some(init) = &definition.init {
                let value = evaluate(instance, init);
                (*(&(*instance).globals)[index]).value = value;
            }
        }
        for (index, definition) in inner.tables.iter().enumerate() {
            if let Some(init) = &definition.init {
                let slot = evaluate(instance, init);
                let table = table_at(index);
                table::table_fill(core, table, 0, slot, (*table).len)?;
            }
        }
        for (index, segment) in inner.elements.iter().enumerate() {
            // A declared segment is dropped already: it is only there to allow `ref.func`.
            if !matches!(segment.mode, SegmentMode::Declared) {
                let mut slots = room_for(segment.items.len(), "an element segment")?;
                slots.extend(segment.items.iter().map(|item| evaluate(instance, item)));
                (&mut (*instance).elements)[index] = slots.into_boxed_slice();
            }
        }
        if (&(*core).engine).config().eager_translation {
            ((*core).hooks.translate_all)(core, instance)?;
        }

        for (number, segment) in inner.elements.iter().enumerate() {
            if let SegmentMode::Active { index, offset } = &segment.mode {
                let (index, number) = (*index as usize, number as u32);
                let (dst, len) = (
                    address(evaluate(instance, offset)),
                    segment.items.len() as u64,
                );
                let table = table_at(index);
                table::table_init(core, instance, number, table, dst, 0, len)
                    .map_err(|trap| segment_error(trap, "element", number))?;
                *escaped |= len > 0 && index < inner.imported_tables;
                table::elem_drop(instance, number);
            }
        }
        for (number, segment) in inner.data.iter().enumerate() {
            if let SegmentMode::Active { index, offset } = &segment.mode {
                let (dst, len) = (
                    address(evaluate(instance, offset)),
                    segment.range.len() as u64,
                );
                let memory = *memories.cast::<*mut MemoryRec>().add(*index as usize);
                let number = number as u32;
                memory::memory_init(instance, number, memory, dst, 0, len)
                    .map_err(|trap| segment_error(trap, "data", number))?;
                memory::data_drop(instance, number);
            }
        }
        if let Some(start) = inner.start {
            *escaped = true;
            let start = (&(*instance).funcs)[start as usize];
            call(core, store, start, &mut [])?;
        }
    }
    Ok(())
}

/// The error for a segment that is out of bounds.
#[cold]
fn segment_error(trap: TrapCode, kind: &str, number: u32) -> Error {
    Error::from(trap).context(format!("{kind} segment {number}"))
}

/// The 32-bit address or index in a slot.
fn address(slot: u64) -> u64 {
    u64::from(slot as u32)
}

/// The value of a constant expression as a slot.
///
/// # Safety
/// `instance` is live, its functions exist, and the globals that the expression reads have their values.
unsafe fn evaluate(instance: *const InstanceRec, expression: &ConstExpr) -> u64 {
    // SAFETY: the index spaces hold live records, and validation checked the indices.
    let func = |index: u32| unsafe { (&(*instance).funcs)[index as usize] as u64 };
    // SAFETY: as above.
    let global = |index: u32| unsafe { (*(&(*instance).globals)[index as usize]).value };
    match expression {
        ConstExpr::Value(value) => *value,
        ConstExpr::RefFunc(index) => func(*index),
        ConstExpr::GlobalGet(index) => global(*index),
        ConstExpr::Ops(ops) => {
            let mut stack = SmallVec::<[u64; 8]>::new();
            for op in ops {
                let value = match op {
                    ConstOp::Value(value) => *value,
                    ConstOp::RefFunc(index) => func(*index),
                    ConstOp::GlobalGet(index) => global(*index),
                    ConstOp::I32Add => binary32(&mut stack, u32::wrapping_add),
                    ConstOp::I32Sub => binary32(&mut stack, u32::wrapping_sub),
                    ConstOp::I32Mul => binary32(&mut stack, u32::wrapping_mul),
                    ConstOp::I64Add => binary64(&mut stack, u64::wrapping_add),
                    ConstOp::I64Sub => binary64(&mut stack, u64::wrapping_sub),
                    ConstOp::I64Mul => binary64(&mut stack, u64::wrapping_mul),
                };
                stack.push(value);
            }
            stack.pop().unwrap_or_default()
        }
    }
}

/// Pops two operands; validation made sure that they are there.
fn binary64(stack: &mut SmallVec<[u64; 8]>, op: fn(u64, u64) -> u64) -> u64 {
    let rhs = stack.pop().unwrap_or_default();
    let lhs = stack.pop().unwrap_or_default();
    op(lhs, rhs)
}

fn binary32(stack: &mut SmallVec<[u64; 8]>, op: fn(u32, u32) -> u32) -> u64 {
    let rhs = stack.pop().unwrap_or_default();
    let lhs = stack.pop().unwrap_or_default();
    u64::from(op(lhs as u32, rhs as u32))
}
