//! Makes instances: checks everything that can be checked before there is any effect, creates the records in one
//! group, evaluates constant expressions, writes segments, runs the start function.
//!
//! Until the first segment is written to something imported, a failure takes everything back. Later a failure
//! leaves what was written (the specification wants that), and the instance stays alive without a handle if its
//! functions may be referenced from outside.

use super::group::{Group, Records, room_for};
use super::imports::{Given, Spaces, check_imports};
use super::instance::Instance;
use super::records::{FuncKind, FuncRec, GlobalRec, InstanceRec, MemoryRec, TableRec};
use super::release::release;
use super::store::{StoreCore, call};
use super::{memory, table};
use crate::error::{Error, Result};
use crate::ir::code::GroupRanges;
use crate::module::{ConstExpr, ConstOp, Module, SegmentMode};
use crate::trap::TrapCode;
use smallvec::SmallVec;
use std::ptr::null_mut;

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
    imports: impl ExactSizeIterator<Item = Option<Given>>,
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
                    release(core, &GroupRanges::new(std::iter::once(group..group + 1)));
                }
                Err(error)
            }
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
                is_cell: false,
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

#[cfg(test)]
mod tests {
    use super::super::testing;
    use crate::config::{Config, Engine};
    use crate::error::{ErrorKind, Result};
    use crate::module::{GlobalType, MemoryType, Module, RefType, TableType, ValType};
    use crate::runtime::{
        AsContextMut, Extern, Func, Global, Instance, Memory, Ref, Store, StoreLimits, Table, Val,
    };
    use crate::trap::TrapCode;

    fn instantiate<T>(store: &mut Store<T>, text: &str, imports: &[Extern]) -> Result<Instance> {
        let bytes = wat::parse_str(text).unwrap();
        let module = Module::new(store.engine(), &bytes).unwrap();
        Instance::new(store, &module, imports)
    }

    fn global<T>(store: &mut Store<T>, instance: Instance, name: &str) -> Val {
        let global = instance.get_global(&mut *store, name).unwrap();
        global.get(store)
    }

    fn table_func<T>(store: &mut Store<T>, table: Table, index: u64) -> Option<Func> {
        match table.get(store, index) {
            Some(Ref::Func(func)) => func,
            found => panic!("no function at {index}: {found:?}"),
        }
    }

    fn new_table<T>(store: &mut Store<T>, minimum: u64, maximum: Option<u64>) -> Table {
        let ty = TableType {
            element: RefType::Func,
            minimum,
            maximum,
        };
        Table::new(store, ty, Ref::Func(None)).unwrap()
    }

    fn new_memory<T>(store: &mut Store<T>, minimum: u64, maximum: Option<u64>) -> Memory {
        Memory::new(store, MemoryType { minimum, maximum }).unwrap()
    }

    fn groups<T>(store: &Store<T>) -> usize {
        store.inner.core.groups.iter().count()
    }

    #[test]
    fn exports_are_the_objects_themselves_also_when_they_were_imported() {
        let mut store = testing::store(());
        let text = r#"(module
            (import "" "f" (func $f)) (import "" "m" (memory 1))
            (table $t 2 funcref) (global $g (mut i64) (i64.const -1)) (func $own (param i32))
            (export "f" (func $f)) (export "again" (func $f)) (export "own" (func $own))
            (export "m" (memory 0)) (export "t" (table $t)) (export "g" (global $g)))"#;
        let func = Func::wrap(&mut store, || {});
        let memory = new_memory(&mut store, 1, None);
        let instance = instantiate(&mut store, text, &[func.into(), memory.into()]).unwrap();
        assert_eq!(instance.get_func(&mut store, "f"), Some(func));
        assert_eq!(instance.get_func(&mut store, "again"), Some(func));
        assert_eq!(instance.get_memory(&mut store, "m"), Some(memory));
        assert!(instance.get_func(&mut store, "m").is_none());
        assert!(instance.get_export(&mut store, "none").is_none());
        assert_eq!(global(&mut store, instance, "g").i64(), Some(-1));
        let table = instance.get_table(&mut store, "t").unwrap();
        assert_eq!(table.size(&store), 2);
        let own = instance.get_func(&mut store, "own").unwrap();
        assert_eq!(own.ty(&store).to_string(), "(i32) -> ()");
        let names: Vec<String> = instance
            .exports(&mut store)
            .into_iter()
            .map(|e| e.0)
            .collect();
        assert_eq!(names, ["f", "again", "own", "m", "t", "g"]);
        let error = instance
            .get_typed_func::<(), ()>(&mut store, "own")
            .unwrap_err();
        assert!(error.to_string().starts_with("export `own`: "), "{error}");
        let error = instance
            .get_typed_func::<(), ()>(&mut store, "g")
            .unwrap_err();
        assert!(error.to_string().contains("no function `g`"), "{error}");
    }

    #[test]
    fn an_import_of_a_wrong_type_is_named_with_what_was_expected_and_found() {
        let mut store = testing::store(());
        let func: Extern = Func::wrap(&mut store, |_: i32| {}).into();
        let memory: Extern = new_memory(&mut store, 2, Some(5)).into();
        let unbounded: Extern = new_memory(&mut store, 2, None).into();
        let table: Extern = new_table(&mut store, 2, Some(5)).into();
        let mutable = GlobalType {
            value: ValType::I32,
            mutable: true,
        };
        let cell: Extern = Global::new(&mut store, mutable, Val::I32(1))
            .unwrap()
            .into();
        for (wanted, given, fits) in [
            ("(func (param i32))", func, true),
            ("(func)", func, false),
            ("(func (param i32) (result i32))", func, false),
            ("(func (param i32))", memory, false),
            ("(memory 0)", memory, true),
            ("(memory 2 5)", memory, true),
            ("(memory 2 6)", memory, true),
            ("(memory 3)", memory, false),
            ("(memory 1 4)", memory, false),
            ("(memory 1 4)", unbounded, false),
            ("(memory 1)", table, false),
            ("(table 2 5 funcref)", table, true),
            ("(table 3 funcref)", table, false),
            ("(table 2 4 funcref)", table, false),
            ("(table 2 externref)", table, false),
            ("(global (mut i32))", cell, true),
            ("(global i32)", cell, false),
            ("(global (mut i64))", cell, false),
            ("(global (mut i32))", func, false),
        ] {
            let text = format!(r#"(module (import "env" "x" {wanted}))"#);
            let before = groups(&store);
            match instantiate(&mut store, &text, &[given]) {
                Ok(_) => assert!(fits, "{wanted} took {given:?}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!fits, "{wanted} refused {given:?}: {text}");
                    assert!(matches!(error.kind(), ErrorKind::Import { .. }));
                    assert!(
                        text.contains("incompatible import type: expected "),
                        "{text}"
                    );
                    assert_eq!(groups(&store), before);
                }
            }
        }
        let text = r#"(module (import "env" "x" (memory 3 4)))"#;
        let error = instantiate(&mut store, text, &[memory]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "import `env.x`: incompatible import type: expected memory of 3 to 4 pages, found memory of 2 to 5 pages"
        );
        let error = instantiate(&mut store, text, &[]).unwrap_err().to_string();
        assert_eq!(error, "the module has 1 imports, 0 were given");
    }

    #[test]
    fn the_present_size_counts_when_a_grown_object_is_imported() {
        let mut store = testing::store(());
        let memory = new_memory(&mut store, 1, Some(9));
        let table = new_table(&mut store, 1, None);
        let text = r#"(module (import "" "" (memory 4)) (import "" "" (table 4 funcref)))"#;
        let imports = [memory.into(), table.into()];
        assert!(instantiate(&mut store, text, &imports).is_err());
        memory.grow(&mut store, 3).unwrap();
        table.grow(&mut store, 3, Ref::Func(None)).unwrap();
        assert!(instantiate(&mut store, text, &imports).is_ok());
    }

    #[test]
    fn items_of_other_stores_and_modules_of_other_engines_are_refused() {
        let mut store = testing::store(());
        let mut other = testing::store(());
        let foreign = Func::wrap(&mut other, || {});
        let text = r#"(module (import "env" "x" (func)))"#;
        let error = instantiate(&mut store, text, &[foreign.into()]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("import `env.x`: a Func was used with the wrong store")
        );
        let module = Module::new(&Engine::default(), b"\0asm\x01\0\0\0").unwrap();
        let error = Instance::new(&mut store, &module, &[]).unwrap_err();
        assert!(error.to_string().contains("another engine"));
    }

    #[test]
    fn constant_expressions_read_imported_globals_and_compute() {
        let mut store = testing::store(());
        let text = r#"(module
            (import "" "base" (global $base i32)) (import "" "wide" (global $wide i64))
            (global (export "a") i32 (i32.add (global.get $base) (i32.const 0x10)))
            (global (export "b") i32 (i32.mul (i32.const -3) (i32.sub (global.get $base) (i32.const -15))))
            (global (export "c") i64 (i64.sub (i64.mul (global.get $wide) (i64.const 3)) (i64.const 1)))
            (global (export "f") funcref (ref.func $f))
            (global (export "n") externref (ref.null extern))
            (global (export "d") f64 (f64.const 1.5))
            (func $f (export "func")))"#;
        let ty = |value| GlobalType {
            value,
            mutable: false,
        };
        let base = Global::new(&mut store, ty(ValType::I32), Val::I32(-1)).unwrap();
        let wide = Global::new(&mut store, ty(ValType::I64), Val::I64(1 << 40)).unwrap();
        let instance = instantiate(&mut store, text, &[base.into(), wide.into()]).unwrap();
        let mut get = |name| global(&mut store, instance, name);
        assert_eq!(get("a").i32(), Some(15));
        assert_eq!(get("b").i32(), Some(-42));
        assert_eq!(get("c").i64(), Some((3 << 40) - 1));
        assert_eq!(get("d").f64(), Some(1.5));
        assert!(matches!(get("n"), Val::ExternRef(None)));
        let Val::FuncRef(found) = get("f") else {
            panic!("not a function")
        };
        assert_eq!(found, instance.get_func(&mut store, "func"));
    }

    #[test]
    fn active_segments_are_written_and_dropped_and_passive_ones_kept() {
        let mut store = testing::store(());
        let text = r#"(module
            (import "" "at" (global $at i32)) (memory (export "m") 1)
            (data (i32.const 1) "abc") (data (global.get $at) "xyz") (data "passive")
            (table (export "t") 4 funcref) (table (export "u") 3 funcref)
            (elem (i32.const 0) func $f $f $f)
            (elem (table 1) (i32.const 1) func $g)
            (elem (i32.const 2) funcref (ref.null func) (ref.func $g))
            (elem declare func $f) (elem func $f $g)
            (func $f (export "f")) (func $g (export "g")))"#;
        let ty = GlobalType {
            value: ValType::I32,
            mutable: false,
        };
        let at = Global::new(&mut store, ty, Val::I32(3)).unwrap();
        let instance = instantiate(&mut store, text, &[at.into()]).unwrap();
        let memory = instance.get_memory(&mut store, "m").unwrap();
        assert_eq!(&memory.data(&store)[..7], b"\0abxyz\0");
        let [f, g] = ["f", "g"].map(|name| instance.get_func(&mut store, name));
        let t = instance.get_table(&mut store, "t").unwrap();
        let u = instance.get_table(&mut store, "u").unwrap();
        assert_eq!(
            [0, 1, 2, 3].map(|i| table_func(&mut store, t, i)),
            [f, f, None, g]
        );
        assert_eq!(
            [0, 1, 2].map(|i| table_func(&mut store, u, i)),
            [None, g, None]
        );
        let record = store.inner.core.instance(instance);
        // SAFETY: the record is live.
        unsafe {
            let lengths: Vec<usize> = (&(*record).elements).iter().map(|s| s.len()).collect();
            assert_eq!(lengths, [0, 0, 0, 0, 2]);
            let lengths: Vec<usize> = (&(*record).data).iter().map(|s| s.len()).collect();
            assert_eq!(lengths, [0, 0, 7]);
            let home = (*store.inner.core.table(t)).home;
            assert_eq!(home, store.inner.core.memory(memory));
        }
    }

    #[test]
    fn a_segment_out_of_bounds_leaves_earlier_ones_written() {
        let mut store = testing::store(());
        let memory = new_memory(&mut store, 1, None);
        let text = r#"(module (import "" "" (memory 1))
            (data (i32.const 0) "first") (data (i32.const 65530) "too long") (data (i32.const 8) "x"))"#;
        let before = groups(&store);
        let error = instantiate(&mut store, text, &[memory.into()]).unwrap_err();
        assert_eq!(error.trap().unwrap().code(), TrapCode::MemoryOutOfBounds);
        assert!(error.to_string().starts_with("data segment 1: "), "{error}");
        assert_eq!(&memory.data(&store)[..9], b"first\0\0\0\0");
        assert_eq!(&memory.data(&store)[65530..], [0; 6]);
        assert_eq!(groups(&store), before);
    }

    #[test]
    fn an_instance_lives_on_after_a_failure_if_its_functions_are_in_an_imported_table() {
        let mut store = testing::store(());
        let table = new_table(&mut store, 4, None);
        let text = r#"(module (import "" "" (table 4 funcref)) (memory 1)
            (elem (i32.const 1) func $f) (elem (i32.const 3) func $f $f) (func $f (result i64) i64.const 1))"#;
        let before = groups(&store);
        let error = instantiate(&mut store, text, &[table.into()]).unwrap_err();
        assert_eq!(error.trap().unwrap().code(), TrapCode::TableOutOfBounds);
        assert!(
            error.to_string().starts_with("element segment 1: "),
            "{error}"
        );
        assert_eq!(groups(&store), before + 1);
        let func = table_func(&mut store, table, 1).unwrap();
        assert_eq!(func.ty(&store).to_string(), "() -> (i64)");
        assert_eq!(table_func(&mut store, table, 3), None);
    }

    #[test]
    fn a_limit_is_met_before_there_is_any_effect() {
        let mut config = Config::default();
        config.limits.table_elements = 100;
        let limits = StoreLimits {
            memory_bytes: Some(1 << 20),
            table_elements: Some(50),
        };
        let mut store = Store::with_hooks(&Engine::new(config), limits, &testing::HOOKS);
        store.limiter(|limits| limits);
        let memory = new_memory(&mut store, 1, None);
        let before = groups(&store);
        for definition in ["(table 101 funcref)", "(table 51 funcref)", "(memory 17)"] {
            let text = format!(
                r#"(module (import "" "" (memory 1)) {definition} (data (i32.const 0) "a"))"#
            );
            let error = instantiate(&mut store, &text, &[memory.into()]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Limit { .. }), "{error}");
        }
        assert_eq!(groups(&store), before);
        assert_eq!(memory.data(&store)[0], 0);
    }

    #[test]
    fn the_memories_and_tables_that_a_module_defines_are_counted() {
        let mut config = Config::default();
        (config.limits.memories, config.limits.tables) = (2, 3);
        let mut store = Store::with_hooks(&Engine::new(config), (), &testing::HOOKS);
        let memory = new_memory(&mut store, 1, None);
        let before = groups(&store);
        let text = |memories: usize, tables: usize| {
            let own = [
                "(memory 0)".repeat(memories),
                "(table 0 funcref)".repeat(tables),
            ];
            format!(r#"(module (import "" "" (memory 1)) {})"#, own.concat())
        };
        instantiate(&mut store, &text(2, 3), &[memory.into()]).unwrap();
        for (memories, tables, found) in [
            (3, 0, "Limits::memories"),
            (0, 4, "Limits::tables"),
            (0, 2000, "Limits::tables"),
        ] {
            let text = text(memories, tables);
            let error = instantiate(&mut store, &text, &[memory.into()]).unwrap_err();
            assert!(error.to_string().contains(found), "{error}");
        }
        assert_eq!(groups(&store), before + 1);
    }

    #[test]
    fn many_small_objects_get_no_more_than_one_large_one() {
        let mut config = Config::default();
        config.limits.table_elements = 100;
        config.limits.memory_bytes = 4 << 16;
        let mut store = Store::with_hooks(&Engine::new(config), (), &testing::HOOKS);
        let used = |store: &Store<()>| {
            let core = &store.inner.core;
            (core.memory_bytes.used() >> 16, core.table_elements.used())
        };
        let mark = store.as_context_mut().mark();
        let half = r#"(module (memory (export "m") 1) (memory 1)
            (table (export "t") 20 funcref) (table 30 externref))"#;
        let first = instantiate(&mut store, half, &[]).unwrap();
        let second = store.as_context_mut().mark();
        instantiate(&mut store, half, &[]).unwrap();
        assert_eq!(used(&store), (4, 100));
        // What a module got before it failed is given back.
        for definition in [
            "(table 0 funcref) (table 1 funcref)",
            "(memory 0) (memory 1)",
        ] {
            let text = format!("(module {definition})");
            let error = instantiate(&mut store, &text, &[]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Limit { .. }), "{error}");
        }
        assert_eq!(used(&store), (4, 100));
        let memory = first.get_memory(&mut store, "m").unwrap();
        let table = first.get_table(&mut store, "t").unwrap();
        let error = memory.grow(&mut store, 1).unwrap_err().to_string();
        assert!(error.contains("Limits::memory_bytes"), "{error}");
        let error = table.grow(&mut store, 1, Ref::Func(None)).unwrap_err();
        assert!(
            error.to_string().contains("Limits::table_elements"),
            "{error}"
        );

        store.as_context_mut().release_since(second);
        assert_eq!(used(&store), (2, 50));
        assert_eq!(memory.grow(&mut store, 2).unwrap(), 1);
        assert!(memory.grow(&mut store, 1).is_err());
        assert_eq!(table.grow(&mut store, 50, Ref::Func(None)).unwrap(), 20);
        assert!(table.grow(&mut store, 1, Ref::Func(None)).is_err());
        assert_eq!(used(&store), (4, 100));
        store.as_context_mut().release_since(mark);
        assert_eq!(used(&store), (0, 0));
        let error = instantiate(&mut store, "(module (memory 3) (memory 2))", &[]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Limit { .. }), "{error}");
        assert_eq!(used(&store), (0, 0));
    }

    #[test]
    fn a_start_function_runs_and_its_error_is_the_result() {
        let mut store = testing::store(0);
        let text = r#"(module (import "" "" (func $f)) (start $f))"#;
        let count = Func::wrap(&mut store, |mut caller: crate::runtime::Caller<'_, i32>| {
            *caller.data_mut() += 1;
        });
        instantiate(&mut store, text, &[count.into()]).unwrap();
        assert_eq!(*store.data(), 1);
        let exit = Func::wrap(&mut store, || -> Result<()> {
            Err(crate::error::Error::exit(4))
        });
        let error = instantiate(&mut store, text, &[exit.into()]).unwrap_err();
        assert_eq!(error.exit_status(), Some(4));
    }

    #[test]
    fn a_released_instance_leaves_no_references_in_tables_and_segments_that_stay() {
        let mut store = testing::store(());
        let keeper = r#"(module (import "" "" (func $f)) (table (export "t") 2 funcref)
            (elem func $f) (global (export "g") (mut funcref) (ref.null func)))"#;
        let host = Func::wrap(&mut store, || {});
        let instance = instantiate(&mut store, keeper, &[host.into()]).unwrap();
        let table = instance.get_table(&mut store, "t").unwrap();
        let mark = store.as_context_mut().mark();
        let guest =
            r#"(module (import "" "" (table 2 funcref)) (elem (i32.const 0) func $f) (func $f))"#;
        let released = instantiate(&mut store, guest, &[table.into()]).unwrap();
        assert!(table_func(&mut store, table, 0).is_some());
        store.as_context_mut().release_since(mark);
        assert_eq!(table_func(&mut store, table, 0), None);
        let asked = std::panic::AssertUnwindSafe(|| released.module(&store));
        assert!(std::panic::catch_unwind(asked).is_err());
        store.as_context_mut().release_group(host.group);
        let record = store.inner.core.instance(instance);
        // SAFETY: the record is live.
        assert_eq!(unsafe { (&(*record).elements)[0][0] }, 0);
    }

    #[test]
    fn twenty_thousand_functions_are_one_allocation_of_records() {
        let mut store = testing::store(());
        let text = format!(
            "(module (table 20000 funcref) (elem (i32.const 0) func {}) {})",
            (0..20_000)
                .map(|i| i.to_string())
                .collect::<Vec<_>>()
                .join(" "),
            "(func)".repeat(20_000)
        );
        let instance = instantiate(&mut store, &text, &[]).unwrap();
        let record = store.inner.core.instance(instance);
        // SAFETY: the records are live.
        unsafe {
            let funcs = &(*record).funcs;
            assert_eq!(funcs.len(), 20_000);
            assert_eq!(funcs[0].add(19_999), funcs[19_999]);
            assert_eq!((*funcs[19_999]).index, 19_999);
            assert!(std::ptr::eq((*funcs[19_999]).instance, record));
        }
    }
}
