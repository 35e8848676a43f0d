//! Everything of a module but the bodies of its functions, read and checked in one pass. `None` means: not judged here.
//! See the module above.
#![forbid(unsafe_code)]

use super::super::exports::Added;
use super::super::parse::{MAX_ELEMENT_ITEMS, reserve};
use super::super::reader::Reader;
use super::super::{
    ConstExpr, ConstOp, DataSegment, ElementSegment, ExportItem, ExternKind, FuncType, GlobalDef,
    GlobalType, MemoryType, ModuleInner, RefType, SegmentMode, TableDef, TableType, ValType,
};

/// The header of a module of version 1.
const HEADER: &[u8] = b"\0asm\x01\0\0\0";

/// Limits of the validator.
const MOST_TYPES: usize = 1_000_000;
const MOST_PARAMS: usize = 1_000;
const MOST_IMPORTS: usize = 1_000_000;
const MOST_FUNCS: usize = 1_000_000;
const MOST_TABLES: usize = 100_000;
const MOST_TABLE_ENTRIES: u64 = 10_000_000;
const MOST_MEMORIES: usize = 100;
const MOST_PAGES: u64 = 65_536;
const MOST_GLOBALS: usize = 1_000_000;
const MOST_EXPORTS: usize = 1_000_000;
const MOST_SEGMENTS: usize = 100_000;

/// Reads the sections of a file into an empty module; gives the number of elements of its element segments.
pub(in super::super) fn read(bytes: &[u8], module: &mut ModuleInner) -> Option<()> {
    if !bytes.starts_with(HEADER) {
        return None;
    }
    let mut reader = Reader::new(bytes, HEADER.len(), bytes.len());
    let mut sections = Sections {
        bytes,
        module,
        element_items: 0,
    };
    let mut last = 0;
    while !reader.is_at_end() {
        let id = reader.byte("a section").ok()?;
        let length = reader.number("the section's length").ok()?;
        let mut part = reader.part(length, "the section").ok()?;
        if id == 0 {
            sections.custom(&mut part)?;
            continue;
        }
        let place = place(id)?;
        if place <= last {
            return None;
        }
        last = place;
        sections.section(id, &mut part)?;
        part.finish("the section").ok()?;
    }
    let module = &*sections.module;
    let defined = module.funcs.len().checked_sub(module.imported_funcs)?;
    let data = module.data_count.map_or(module.data.len(), size);
    (module.bodies.len() == defined && module.data.len() == data).then_some(())
}

/// Where a section stands in the order of sections.
fn place(id: u8) -> Option<u8> {
    Some(match id {
        1..=9 => id,
        // The number of data segments stands before the code, which stands before the data.
        12 => 10,
        10 => 11,
        11 => 12,
        _ => return None,
    })
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The value type with this code.
fn value_type(code: u8) -> Option<ValType> {
    Some(match code {
        0x7f => ValType::I32,
        0x7e => ValType::I64,
        0x7d => ValType::F32,
        0x7c => ValType::F64,
        _ => ValType::Ref(reference_type(code)?),
    })
}

fn reference_type(code: u8) -> Option<RefType> {
    match code {
        0x70 => Some(RefType::Func),
        0x6f => Some(RefType::Extern),
        _ => None,
    }
}

/// A signed LEB128 number of this many bits: no longer than needed for them, its spare bits repeating the sign.
fn signed(part: &mut Reader<'_>, bits: u32) -> Option<i64> {
    let mut value = 0_i64;
    let mut shift = 0;
    loop {
        let byte = part.byte("a number").ok()?;
        let low = i64::from(byte & 0x7f);
        if shift + 7 > bits {
            // The last byte: what the number has no place for repeats its sign.
            let sign_and_spare = low >> (bits - shift - 1);
            if byte >= 0x80 || (sign_and_spare != 0 && sign_and_spare != 0x7f >> (bits - shift - 1))
            {
                return None;
            }
        }
        value |= low << shift;
        shift += 7;
        if byte < 0x80 {
            if shift < 64 && byte & 0x40 != 0 {
                value |= -1 << shift;
            }
            return Some(value);
        }
    }
}

struct Sections<'a> {
    /// The file.
    bytes: &'a [u8],
    module: &'a mut ModuleInner,
    /// Elements of all element segments so far.
    element_items: usize,
}

impl Sections<'_> {
    fn custom(&mut self, part: &mut Reader<'_>) -> Option<()> {
        let name = part.name("the section's name").ok()?;
        // Of several sections the first one counts.
        if name == "name" && self.module.name_section.is_none() {
            let start = part.position();
            self.module.name_section = Some(start..start + part.remaining());
        }
        Some(())
    }

    fn section(&mut self, id: u8, part: &mut Reader<'_>) -> Option<()> {
        match id {
            1 => self.types(part),
            2 => self.imports(part),
            3 => self.functions(part),
            4 => self.tables(part),
            5 => self.memories(part),
            6 => self.globals(part),
            7 => self.exports(part),
            8 => self.start(part),
            9 => self.elements(part),
            10 => self.code(part),
            11 => self.data(part),
            12 => {
                self.module.data_count = Some(part.number("a count").ok()?);
                Some(())
            }
            _ => None,
        }
    }

    /// The number of items of a section, with room for them; each takes at least `least` bytes.
    fn count<T>(
        part: &mut Reader<'_>,
        least: usize,
        most: usize,
        list: &mut Vec<T>,
    ) -> Option<u32> {
        let count = part.count("a count", least).ok()?;
        if list.len().checked_add(size(count))? > most {
            return None;
        }
        reserve(list, count).ok()?;
        Some(count)
    }

    fn types(&mut self, part: &mut Reader<'_>) -> Option<()> {
        let mut list = Vec::new();
        for _ in 0..Self::count(part, 3, MOST_TYPES, &mut self.module.types)? {
            if part.byte("a type").ok()? != 0x60 {
                return None;
            }
            list.clear();
            let mut ends = [0; 2];
            for end in &mut ends {
                let count = part.count("a count", 1).ok()?;
                if size(count) > MOST_PARAMS {
                    return None;
                }
                for _ in 0..count {
                    list.push(value_type(part.byte("a type").ok()?)?);
                }
                *end = list.len();
            }
            let ty = FuncType::from_parts(&list, ends[0]);
            self.module.types.push(ty);
        }
        Some(())
    }

    fn imports(&mut self, part: &mut Reader<'_>) -> Option<()> {
        for _ in 0..Self::count(part, 4, MOST_IMPORTS, &mut self.module.imports)? {
            let module = part.name("a name").ok()?;
            let name = part.name("a name").ok()?;
            let ty = match part.byte("a kind").ok()? {
                0 => {
                    let ty = self.type_index(part)?;
                    self.module.funcs.push(ty);
                    ExternKind::Func(ty)
                }
                1 => {
                    let ty = table_type(part)?;
                    let index = u32::try_from(self.module.tables.len()).ok()?;
                    self.module.tables.push(TableDef { ty, init: None });
                    ExternKind::Table(index)
                }
                2 => {
                    let ty = memory_type(part)?;
                    let index = u32::try_from(self.module.memories.len()).ok()?;
                    self.module.memories.push(ty);
                    ExternKind::Memory(index)
                }
                3 => {
                    let ty = global_type(part)?;
                    self.module.globals.push(GlobalDef { ty, init: None });
                    ExternKind::Global(ty)
                }
                _ => return None,
            };
            if !self.module.add_import(module, name, ty) {
                return None;
            }
        }
        let module = &mut *self.module;
        module.imported_funcs = module.funcs.len();
        module.imported_tables = module.tables.len();
        module.imported_memories = module.memories.len();
        module.imported_globals = module.globals.len();
        let fit = module.tables.len() <= MOST_TABLES && module.memories.len() <= MOST_MEMORIES;
        fit.then_some(())
    }

    fn type_index(&self, part: &mut Reader<'_>) -> Option<u32> {
        let ty = part.number("a type").ok()?;
        (size(ty) < self.module.types.len()).then_some(ty)
    }

    fn functions(&mut self, part: &mut Reader<'_>) -> Option<()> {
        for _ in 0..Self::count(part, 1, MOST_FUNCS, &mut self.module.funcs)? {
            let ty = self.type_index(part)?;
            self.module.funcs.push(ty);
        }
        Some(())
    }

    fn tables(&mut self, part: &mut Reader<'_>) -> Option<()> {
        for _ in 0..Self::count(part, 3, MOST_TABLES, &mut self.module.tables)? {
            let ty = table_type(part)?;
            self.module.tables.push(TableDef { ty, init: None });
        }
        Some(())
    }

    fn memories(&mut self, part: &mut Reader<'_>) -> Option<()> {
        for _ in 0..Self::count(part, 2, MOST_MEMORIES, &mut self.module.memories)? {
            self.module.memories.push(memory_type(part)?);
        }
        Some(())
    }

    fn globals(&mut self, part: &mut Reader<'_>) -> Option<()> {
        for _ in 0..Self::count(part, 4, MOST_GLOBALS, &mut self.module.globals)? {
            let ty = global_type(part)?;
            let init = Some(self.constant(part, ty.value)?);
            self.module.globals.push(GlobalDef { ty, init });
        }
        Some(())
    }

    fn exports(&mut self, part: &mut Reader<'_>) -> Option<()> {
        let count = part.count("a count", 3).ok()?;
        if size(count) > MOST_EXPORTS || !self.module.exports.reserve(size(count)) {
            return None;
        }
        for _ in 0..count {
            let length = part.name("a name").ok()?.len();
            let end = part.position();
            let kind = part.byte("a kind").ok()?;
            let index = part.number("an index").ok()?;
            let module = &mut *self.module;
            let (item, items) = match kind {
                0 => (ExportItem::Func(index), module.funcs.len()),
                1 => (ExportItem::Table(index), module.tables.len()),
                2 => (ExportItem::Memory(index), module.memories.len()),
                3 => (ExportItem::Global(index), module.globals.len()),
                _ => return None,
            };
            if size(index) >= items {
                return None;
            }
            if module.exports.add(self.bytes, end - length..end, item) != Added::Yes {
                return None;
            }
        }
        Some(())
    }

    fn start(&mut self, part: &mut Reader<'_>) -> Option<()> {
        let func = part.number("a function").ok()?;
        let ty = self.module.func_type(func)?;
        if !ty.params().is_empty() || !ty.results().is_empty() {
            return None;
        }
        self.module.start = Some(func);
        Some(())
    }

    fn elements(&mut self, part: &mut Reader<'_>) -> Option<()> {
        for _ in 0..Self::count(part, 3, MOST_SEGMENTS, &mut self.module.elements)? {
            let flags = part.number("flags").ok()?;
            if flags > 7 {
                return None;
            }
            // Bit 0: not active. Bit 1: an explicit table or, of those not active, declared. Bit 2: expressions.
            let mode = if flags & 1 == 0 {
                let index = match flags & 2 {
                    0 => 0,
                    _ => part.number("a table").ok()?,
                };
                let offset = self.constant(part, ValType::I32)?;
                SegmentMode::Active { index, offset }
            } else if flags & 2 == 0 {
                SegmentMode::Passive
            } else {
                SegmentMode::Declared
            };
            let ty = match (flags & 3, flags & 4) {
                (0, _) => RefType::Func,
                (_, 0) if part.byte("a kind").ok()? == 0 => RefType::Func,
                (_, 0) => return None,
                _ => reference_type(part.byte("a type").ok()?)?,
            };
            if let SegmentMode::Active { index, .. } = &mode
                && self.module.tables.get(size(*index))?.ty.element != ty
            {
                return None;
            }
            let count = part.count("a count", 1).ok()?;
            self.element_items = self.element_items.checked_add(size(count))?;
            if self.element_items > MAX_ELEMENT_ITEMS {
                return None;
            }
            let mut items = Vec::new();
            items.try_reserve_exact(size(count)).ok()?;
            for _ in 0..count {
                items.push(if flags & 4 == 0 {
                    ConstExpr::RefFunc(self.function_index(part)?)
                } else {
                    self.constant(part, ValType::Ref(ty))?
                });
            }
            let segment = ElementSegment { ty, mode, items };
            self.module.elements.push(segment);
        }
        Some(())
    }

    fn function_index(&self, part: &mut Reader<'_>) -> Option<u32> {
        let func = part.number("a function").ok()?;
        (size(func) < self.module.funcs.len()).then_some(func)
    }

    fn code(&mut self, part: &mut Reader<'_>) -> Option<()> {
        for _ in 0..Self::count(part, 1, MOST_FUNCS, &mut self.module.bodies)? {
            let length = part.number("a length").ok()?;
            let start = part.position();
            let body = part.part(length, "a body").ok()?;
            self.module.bodies.push(start..start + body.remaining());
        }
        Some(())
    }

    fn data(&mut self, part: &mut Reader<'_>) -> Option<()> {
        for _ in 0..Self::count(part, 2, MOST_SEGMENTS, &mut self.module.data)? {
            let mode = match part.number("flags").ok()? {
                1 => SegmentMode::Passive,
                flags @ (0 | 2) => {
                    let index = match flags {
                        0 => 0,
                        _ => part.number("a memory").ok()?,
                    };
                    if size(index) >= self.module.memories.len() {
                        return None;
                    }
                    let offset = self.constant(part, ValType::I32)?;
                    SegmentMode::Active { index, offset }
                }
                _ => return None,
            };
            let length = part.number("a length").ok()?;
            let start = part.position();
            let bytes = part.part(length, "the bytes").ok()?;
            let range = start..start + bytes.remaining();
            self.module.data.push(DataSegment { mode, range });
        }
        Some(())
    }

    /// A constant expression of this type.
    fn constant(&self, part: &mut Reader<'_>, expected: ValType) -> Option<ConstExpr> {
        let (ty, first) = self.constant_operator(part)?;
        let mut code = part.byte("an operator").ok()?;
        if code == 0x0b {
            return match first {
                _ if ty != expected => None,
                ConstOp::Value(value) => Some(ConstExpr::Value(value)),
                ConstOp::RefFunc(func) => Some(ConstExpr::RefFunc(func)),
                ConstOp::GlobalGet(global) => Some(ConstExpr::GlobalGet(global)),
                _ => None,
            };
        }
        let mut types = vec![ty];
        let mut list = vec![first];
        while code != 0x0b {
            let operator = match code {
                0x6a => ConstOp::I32Add,
                0x6b => ConstOp::I32Sub,
                0x6c => ConstOp::I32Mul,
                0x7c => ConstOp::I64Add,
                0x7d => ConstOp::I64Sub,
                0x7e => ConstOp::I64Mul,
                _ => {
                    let (ty, operator) = self.leaf(code, part)?;
                    types.push(ty);
                    list.push(operator);
                    code = part.byte("an operator").ok()?;
                    continue;
                }
            };
            let ty = if code < 0x7c {
                ValType::I32
            } else {
                ValType::I64
            };
            let right = types.pop()?;
            if right != ty || *types.last()? != ty {
                return None;
            }
            list.push(operator);
            code = part.byte("an operator").ok()?;
        }
        (types == [expected]).then(|| ConstExpr::Ops(list.into()))
    }

    fn constant_operator(&self, part: &mut Reader<'_>) -> Option<(ValType, ConstOp)> {
        let code = part.byte("an operator").ok()?;
        self.leaf(code, part)
    }

    /// An operator without operands, and the type of its result.
    fn leaf(&self, code: u8, part: &mut Reader<'_>) -> Option<(ValType, ConstOp)> {
        Some(match code {
            0x41 => {
                let value = i32::try_from(signed(part, 32)?).ok()?;
                let value = u64::from(value.cast_unsigned());
                (ValType::I32, ConstOp::Value(value))
            }
            0x42 => {
                let value = signed(part, 64)?.cast_unsigned();
                (ValType::I64, ConstOp::Value(value))
            }
            0x43 => (ValType::F32, ConstOp::Value(little_endian(part, 4)?)),
            0x44 => (ValType::F64, ConstOp::Value(little_endian(part, 8)?)),
            0x23 => {
                let index = part.number("a global").ok()?;
                let global = self.module.globals.get(size(index))?;
                if size(index) >= self.module.imported_globals || global.ty.mutable {
                    return None;
                }
                (global.ty.value, ConstOp::GlobalGet(index))
            }
            0xd0 => {
                let ty = reference_type(part.byte("a type").ok()?)?;
                (ValType::Ref(ty), ConstOp::Value(0))
            }
            0xd2 => {
                let func = self.function_index(part)?;
                (ValType::Ref(RefType::Func), ConstOp::RefFunc(func))
            }
            _ => return None,
        })
    }
}

fn little_endian(part: &mut Reader<'_>, bytes: u32) -> Option<u64> {
    let mut value = 0;
    for place in 0..bytes {
        value |= u64::from(part.byte("a number").ok()?) << (8 * place);
    }
    Some(value)
}

/// Least and greatest size.
fn limits(part: &mut Reader<'_>) -> Option<(u64, Option<u64>)> {
    let flags = part.byte("flags").ok()?;
    let minimum = part.number("a size").ok()?;
    let maximum = match flags {
        0 => None,
        1 => Some(part.number("a size").ok()?),
        _ => return None,
    };
    if maximum.is_some_and(|maximum| maximum < minimum) {
        return None;
    }
    Some((u64::from(minimum), maximum.map(u64::from)))
}

fn table_type(part: &mut Reader<'_>) -> Option<TableType> {
    let element = reference_type(part.byte("a type").ok()?)?;
    let (minimum, maximum) = limits(part)?;
    (minimum <= MOST_TABLE_ENTRIES).then_some(TableType {
        element,
        minimum,
        maximum,
    })
}

fn memory_type(part: &mut Reader<'_>) -> Option<MemoryType> {
    let (minimum, maximum) = limits(part)?;
    let fits = minimum <= MOST_PAGES && maximum.is_none_or(|maximum| maximum <= MOST_PAGES);
    fits.then_some(MemoryType { minimum, maximum })
}

fn global_type(part: &mut Reader<'_>) -> Option<GlobalType> {
    let value = value_type(part.byte("a type").ok()?)?;
    let mutable = match part.byte("a flag").ok()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(GlobalType { value, mutable })
}
