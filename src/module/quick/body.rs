//! A check of function bodies that accepts or declines: the algorithm of the specification's appendix, with types as
//! bytes. See the module above.
#![forbid(unsafe_code)]

use super::super::{ConstExpr, ConstOp, ExportItem, ModuleInner, RefType, ValType};
use crate::watch::Watch;
use std::ops::Range;
use std::sync::OnceLock;

/// A type of an operand as a byte.
type Type = u8;

/// What code that cannot be reached leaves: fits every type.
const ANY: Type = 0;
const I32: Type = 1;
const I64: Type = 2;
const F32: Type = 3;
const F64: Type = 4;
const FUNC: Type = 5;
const EXTERN: Type = 6;

/// Every type as a list of one.
static ONE: [[Type; 1]; 7] = [[ANY], [I32], [I64], [F32], [F64], [FUNC], [EXTERN]];

/// Operators between two looks at the watch.
const OPERATORS_AT_ONCE: usize = 1 << 14;

/// Most values that the targets of one jump table take along, all together: each is looked at.
pub(in super::super) const MOST_TABLE_VALUES: usize = 1 << 24;

/// Deepest operand stack that is judged here.
const STACK: usize = 1 << 12;

/// Types of a list that are looked at one by one; of longer ones all together.
const FEW: usize = 8;

/// Longest body, most locals: the limits of the validator.
const MOST_BYTES: usize = 7_654_321;
const MOST_LOCALS: u32 = 50_000;

/// The effect of an operator without immediates: so many operands of one type, and a result.
#[derive(Clone, Copy)]
struct Effect {
    operands: u8,
    operand: Type,
    result: Type,
}

/// Effects of the operators 0x45 (`i32.eqz`) to 0xc4 (`i64.extend32_s`).
static EFFECTS: [Effect; 256] = effects();

const fn effects() -> [Effect; 256] {
    const NONE: Effect = Effect {
        operands: 0,
        operand: ANY,
        result: ANY,
    };
    // First and last opcode, operands, their type, the result's.
    const ROWS: &[(usize, usize, u8, Type, Type)] = &[
        (0x45, 0x45, 1, I32, I32),
        (0x46, 0x4f, 2, I32, I32),
        (0x50, 0x50, 1, I64, I32),
        (0x51, 0x5a, 2, I64, I32),
        (0x5b, 0x60, 2, F32, I32),
        (0x61, 0x66, 2, F64, I32),
        (0x67, 0x69, 1, I32, I32),
        (0x6a, 0x78, 2, I32, I32),
        (0x79, 0x7b, 1, I64, I64),
        (0x7c, 0x8a, 2, I64, I64),
        (0x8b, 0x91, 1, F32, F32),
        (0x92, 0x98, 2, F32, F32),
        (0x99, 0x9f, 1, F64, F64),
        (0xa0, 0xa6, 2, F64, F64),
        (0xa7, 0xa7, 1, I64, I32),
        (0xa8, 0xa9, 1, F32, I32),
        (0xaa, 0xab, 1, F64, I32),
        (0xac, 0xad, 1, I32, I64),
        (0xae, 0xaf, 1, F32, I64),
        (0xb0, 0xb1, 1, F64, I64),
        (0xb2, 0xb3, 1, I32, F32),
        (0xb4, 0xb5, 1, I64, F32),
        (0xb6, 0xb6, 1, F64, F32),
        (0xb7, 0xb8, 1, I32, F64),
        (0xb9, 0xba, 1, I64, F64),
        (0xbb, 0xbb, 1, F32, F64),
        (0xbc, 0xbc, 1, F32, I32),
        (0xbd, 0xbd, 1, F64, I64),
        (0xbe, 0xbe, 1, I32, F32),
        (0xbf, 0xbf, 1, I64, F64),
        (0xc0, 0xc1, 1, I32, I32),
        (0xc2, 0xc4, 1, I64, I64),
    ];
    let mut table = [NONE; 256];
    let mut row = 0;
    while row < ROWS.len() {
        let (first, last, operands, operand, result) = ROWS[row];
        let mut opcode = first;
        while opcode <= last {
            table[opcode] = Effect {
                operands,
                operand,
                result,
            };
            opcode += 1;
        }
        row += 1;
    }
    table
}

/// Value type and largest alignment exponent of the loads 0x28 to 0x35 and the stores 0x36 to 0x3e.
static ACCESSES: [(Type, u32); 0x3f - 0x28] = [
    (I32, 2),
    (I64, 3),
    (F32, 2),
    (F64, 3),
    (I32, 0),
    (I32, 0),
    (I32, 1),
    (I32, 1),
    (I64, 0),
    (I64, 0),
    (I64, 1),
    (I64, 1),
    (I64, 2),
    (I64, 2),
    (I32, 2),
    (I64, 3),
    (F32, 2),
    (F64, 3),
    (I32, 0),
    (I32, 1),
    (I64, 0),
    (I64, 1),
    (I64, 2),
];

fn type_of(ty: ValType) -> Type {
    match ty {
        ValType::I32 => I32,
        ValType::I64 => I64,
        ValType::F32 => F32,
        ValType::F64 => F64,
        ValType::Ref(ty) => reference(ty),
    }
}

fn reference(ty: RefType) -> Type {
    match ty {
        RefType::Func => FUNC,
        RefType::Extern => EXTERN,
    }
}

/// The value type with this code in the binary format.
fn value_type(code: u8) -> Option<Type> {
    Some(match code {
        0x7f => I32,
        0x7e => I64,
        0x7d => F32,
        0x7c => F64,
        0x70 => FUNC,
        0x6f => EXTERN,
        _ => return None,
    })
}

/// What bodies refer to, in the form in which it is asked for most often. Made once for a module.
#[derive(Default)]
pub(in super::super) struct Context {
    /// Parameters and results of all types, one after the other.
    types: Vec<Type>,
    /// Where in `types` the parameters of each type are, and its results.
    signatures: Vec<(Range<usize>, Range<usize>)>,
    /// Type of each global, and whether it can be set.
    globals: Vec<(Type, bool)>,
    /// Functions that `ref.func` may name, once somebody asked.
    declared: OnceLock<Vec<bool>>,
}

impl Context {
    pub(in super::super) fn new(module: &ModuleInner) -> Context {
        let mut context = Context::default();
        for ty in &module.types {
            let start = context.types.len();
            context
                .types
                .extend(ty.params().iter().map(|ty| type_of(*ty)));
            let middle = context.types.len();
            context
                .types
                .extend(ty.results().iter().map(|ty| type_of(*ty)));
            let end = context.types.len();
            context.signatures.push((start..middle, middle..end));
        }
        let globals = module.globals.iter();
        context.globals = globals
            .map(|global| (type_of(global.ty.value), global.ty.mutable))
            .collect();
        context
    }

    fn params(&self, ty: u32) -> Option<&[Type]> {
        let (params, _) = self.signatures.get(usize::try_from(ty).ok()?)?;
        self.types.get(params.clone())
    }

    fn results(&self, ty: u32) -> Option<&[Type]> {
        let (_, results) = self.signatures.get(usize::try_from(ty).ok()?)?;
        self.types.get(results.clone())
    }

    /// Whether a function is named outside of bodies, so that `ref.func` may name it.
    fn is_declared(&self, module: &ModuleInner, func: u32) -> bool {
        let declared = self.declared.get_or_init(|| {
            let mut declared = vec![false; module.funcs.len()];
            let mut declare = |func: u32| {
                let place = usize::try_from(func).unwrap_or(usize::MAX);
                if let Some(flag) = declared.get_mut(place) {
                    *flag = true;
                }
            };
            let items = module.elements.iter().flat_map(|segment| &segment.items);
            let globals = module.globals.iter().filter_map(|g| g.init.as_ref());
            let tables = module.tables.iter().filter_map(|t| t.init.as_ref());
            for expression in items.chain(globals).chain(tables) {
                match expression {
                    ConstExpr::RefFunc(func) => declare(*func),
                    ConstExpr::Ops(list) => list.iter().for_each(|operator| {
                        if let ConstOp::RefFunc(func) = operator {
                            declare(*func);
                        }
                    }),
                    ConstExpr::Value(_) | ConstExpr::GlobalGet(_) => {}
                }
            }
            for place in 0..module.exports.len() {
                if let Some(ExportItem::Func(func)) = module.exports.item(place) {
                    declare(func);
                }
            }
            declared
        });
        let place = usize::try_from(func).unwrap_or(usize::MAX);
        declared.get(place).copied().unwrap_or(false)
    }
}

/// The type of a block.
#[derive(Clone, Copy)]
enum Block {
    Empty,
    One(Type),
    Typed(u32),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A block, or the function itself.
    Block,
    Loop,
    If,
    Else,
}

#[derive(Clone, Copy)]
struct Frame {
    kind: Kind,
    block: Block,
    /// Operands below the block's own.
    height: usize,
    /// Whether what follows in the block cannot be reached; of the innermost block, the checker knows it.
    unreachable: bool,
}

/// Memory that is used again for the next body.
pub(in super::super) struct Scratch {
    stack: Box<[Type]>,
    frames: Vec<Frame>,
    locals: Vec<Type>,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch {
            stack: vec![ANY; STACK].into(),
            frames: Vec::new(),
            locals: Vec::new(),
        }
    }
}

/// Whether this body (`range` of the file) of a function of the type `ty` is valid beyond doubt.
pub(in super::super) fn accepts(
    module: &ModuleInner,
    context: &Context,
    body: &[u8],
    ty: u32,
    scratch: &mut Scratch,
    watch: &Watch,
) -> bool {
    if body.len() > MOST_BYTES {
        return false;
    }
    let Ok(stack) = <&mut [Type; STACK]>::try_from(&mut *scratch.stack) else {
        return false;
    };
    scratch.frames.clear();
    scratch.locals.clear();
    let mut checker = Checker {
        module,
        context,
        bytes: body,
        at: 0,
        stack,
        top: 0,
        height: 0,
        unreachable: false,
        frames: &mut scratch.frames,
        locals: &mut scratch.locals,
        ty,
        watch,
    };
    checker.body().is_some()
}

/// The state of one check. Every method gives `None` where the body is declined.
struct Checker<'a> {
    module: &'a ModuleInner,
    context: &'a Context,
    bytes: &'a [u8],
    at: usize,
    stack: &'a mut [Type; STACK],
    /// Operands on the stack.
    top: usize,
    /// Of the innermost block: operands below its own.
    height: usize,
    /// Of the innermost block: what follows cannot be reached.
    unreachable: bool,
    frames: &'a mut Vec<Frame>,
    locals: &'a mut Vec<Type>,
    /// The function's type.
    ty: u32,
    watch: &'a Watch,
}

impl<'a> Checker<'a> {
    fn body(&mut self) -> Option<()> {
        self.locals.extend(self.context.params(self.ty)?);
        let mut count = u32::try_from(self.locals.len()).ok()?;
        for _ in 0..self.number()? {
            let more = self.number()?;
            let ty = value_type(self.byte()?)?;
            count = count.checked_add(more)?;
            if count > MOST_LOCALS {
                return None;
            }
            self.locals.resize(usize::try_from(count).ok()?, ty);
        }
        self.frames.push(Frame {
            kind: Kind::Block,
            block: Block::Typed(self.ty),
            height: 0,
            unreachable: false,
        });
        while !self.frames.is_empty() {
            // The watch is looked at every so many operators, of which none takes long.
            for _ in 0..OPERATORS_AT_ONCE {
                self.operator()?;
                if self.frames.is_empty() {
                    return (self.at == self.bytes.len()).then_some(());
                }
            }
            // Whoever decides on bodies that are declined looks at the watch first.
            self.watch.check().ok()?;
        }
        (self.at == self.bytes.len()).then_some(())
    }

    #[inline(always)]
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// An unsigned LEB128 number of 32 bits.
    #[inline(always)]
    fn number(&mut self) -> Option<u32> {
        let byte = self.byte()?;
        if byte < 0x80 {
            return Some(u32::from(byte));
        }
        self.long_number(byte)
    }

    fn long_number(&mut self, first: u8) -> Option<u32> {
        let mut value = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let byte = self.byte()?;
            if shift == 28 && byte > 0x0f {
                return None;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// An index.
    #[inline(always)]
    fn index(&mut self) -> Option<usize> {
        self.number().map(|number| number as usize)
    }

    /// Skips a signed LEB128 number of at most `most` bytes, of which the last may be one of two forms only.
    #[inline(always)]
    fn signed(&mut self, most: usize, spare: u8) -> Option<()> {
        for place in 1..=most {
            let byte = self.byte()?;
            if byte < 0x80 {
                // In the last byte, the bits beyond the number's must repeat its sign.
                let fits = place < most || byte & spare == 0 || byte & spare == spare;
                return fits.then_some(());
            }
        }
        None
    }

    /// Skips immediate bytes.
    #[inline(always)]
    fn skip(&mut self, count: usize) -> Option<()> {
        self.at += count;
        (self.at <= self.bytes.len()).then_some(())
    }

    #[inline(always)]
    fn push(&mut self, ty: Type) -> Option<()> {
        if self.top >= STACK {
            return None;
        }
        self.stack[self.top] = ty;
        self.top += 1;
        Some(())
    }

    /// Takes an operand of any type.
    #[inline(always)]
    fn pop_any(&mut self) -> Option<Type> {
        if self.top > self.height {
            self.top -= 1;
            return Some(self.stack[self.top % STACK]);
        }
        self.unreachable.then_some(ANY)
    }

    #[inline(always)]
    fn pop(&mut self, expected: Type) -> Option<()> {
        let found = self.pop_any()?;
        (found == expected || found == ANY).then_some(())
    }

    #[inline(always)]
    fn pop_all(&mut self, types: &[Type]) -> Option<()> {
        if types.len() > FEW {
            return self.pop_many(types);
        }
        for ty in types.iter().rev() {
            self.pop(*ty)?;
        }
        Some(())
    }

    /// As [`Checker::pop_all`], all at once where the stack holds just these types: a block may take and give a thousand
    /// values, and there may be as many such blocks as a body has room for.
    #[inline(never)]
    fn pop_many(&mut self, types: &[Type]) -> Option<()> {
        let own = self.top.checked_sub(self.height)?;
        // Of code that cannot be reached, what is not on the stack fits anyway.
        let (missing, here) = types.split_at(types.len().saturating_sub(own));
        if !missing.is_empty() && !self.unreachable {
            return None;
        }
        let below = self.top.checked_sub(here.len())?;
        let found = self.stack.get(below..self.top)?;
        let fits = |(found, ty): (&Type, &Type)| found == ty || *found == ANY;
        (found == here || found.iter().zip(here).all(fits)).then_some(())?;
        self.top = below;
        Some(())
    }

    #[inline(always)]
    fn push_all(&mut self, types: &[Type]) -> Option<()> {
        if types.len() > FEW {
            let top = self.top.checked_add(types.len())?;
            self.stack.get_mut(self.top..top)?.copy_from_slice(types);
            self.top = top;
            return Some(());
        }
        for ty in types {
            self.push(*ty)?;
        }
        Some(())
    }

    fn never(&mut self) {
        self.top = self.height;
        self.unreachable = true;
    }

    fn block_params(&self, block: Block) -> Option<&'a [Type]> {
        match block {
            Block::Empty | Block::One(_) => Some(&[]),
            Block::Typed(ty) => self.context.params(ty),
        }
    }

    fn block_results(&self, block: Block) -> Option<&'a [Type]> {
        match block {
            Block::Empty => Some(&[]),
            Block::One(ty) => ONE.get(usize::from(ty)).map(<[Type; 1]>::as_slice),
            Block::Typed(ty) => self.context.results(ty),
        }
    }

    /// The types that a branch takes along.
    #[inline(always)]
    fn label(&self, depth: u32) -> Option<&'a [Type]> {
        let place = self.frames.len().checked_sub(1)?;
        let frame = self.frames.get(place.checked_sub(depth as usize)?)?;
        match frame.kind {
            Kind::Loop => self.block_params(frame.block),
            Kind::Block | Kind::If | Kind::Else => self.block_results(frame.block),
        }
    }

    fn block_type(&mut self) -> Option<Block> {
        let byte = self.byte()?;
        if byte == 0x40 {
            return Some(Block::Empty);
        }
        if let Some(ty) = value_type(byte) {
            return Some(Block::One(ty));
        }
        // A type index is a positive number of 33 bits with a sign.
        let mut index = u32::from(byte & 0x7f);
        let mut last = byte;
        for shift in [7, 14, 21, 28] {
            if last < 0x80 {
                break;
            }
            last = self.byte()?;
            if shift == 28 && last > 0x0f {
                return None;
            }
            index |= u32::from(last & 0x7f) << shift;
        }
        let is_positive = last & 0x40 == 0;
        let exists = (index as usize) < self.context.signatures.len();
        (last < 0x80 && is_positive && exists).then_some(Block::Typed(index))
    }

    fn enter(&mut self, kind: Kind) -> Option<()> {
        let block = self.block_type()?;
        if kind == Kind::If {
            self.pop(I32)?;
        }
        let params = self.block_params(block)?;
        self.pop_all(params)?;
        if let Some(outer) = self.frames.last_mut() {
            outer.unreachable = self.unreachable;
        }
        self.height = self.top;
        self.unreachable = false;
        self.frames.push(Frame {
            kind,
            block,
            height: self.height,
            unreachable: false,
        });
        self.push_all(params)
    }

    /// Takes the results of the innermost block, which must be all that is left in it.
    #[inline(always)]
    fn leave(&mut self) -> Option<Frame> {
        let frame = *self.frames.last()?;
        let results = self.block_results(frame.block)?;
        self.pop_all(results)?;
        (self.top == self.height).then_some(frame)
    }

    fn otherwise(&mut self) -> Option<()> {
        let frame = self.leave()?;
        if frame.kind != Kind::If {
            return None;
        }
        self.unreachable = false;
        self.frames.last_mut()?.kind = Kind::Else;
        let params = self.block_params(frame.block)?;
        self.push_all(params)
    }

    fn end(&mut self) -> Option<()> {
        let frame = self.leave()?;
        let results = self.block_results(frame.block)?;
        if frame.kind == Kind::If && self.block_params(frame.block)? != results {
            return None;
        }
        self.frames.pop();
        let Some(outer) = self.frames.last() else {
            return Some(());
        };
        self.height = outer.height;
        self.unreachable = outer.unreachable;
        self.push_all(results)
    }

    fn br_table(&mut self) -> Option<()> {
        let count = self.number()?;
        self.pop(I32)?;
        let mut arity = None;
        // The default comes last and is one more.
        for _ in 0..=count {
            let target = self.number()?;
            let types = self.label(target)?;
            if *arity.get_or_insert(types.len()) != types.len() {
                return None;
            }
            if types.len() > FEW {
                if types.len().checked_mul(count as usize)? > MOST_TABLE_VALUES {
                    return None;
                }
                let top = self.top;
                self.pop_many(types)?;
                self.top = top;
                continue;
            }
            for (below, ty) in types.iter().rev().enumerate() {
                if self.top > self.height + below {
                    let found = self.stack[(self.top - 1 - below) % STACK];
                    if found != *ty && found != ANY {
                        return None;
                    }
                } else if !self.unreachable {
                    return None;
                }
            }
        }
        self.never();
        Some(())
    }

    /// The type of a function that is called.
    fn callee(&mut self) -> Option<u32> {
        let func = self.index()?;
        self.module.funcs.get(func).copied()
    }

    /// The type of a function that is called through a table.
    fn indirect_callee(&mut self) -> Option<u32> {
        let ty = self.number()?;
        let table = self.index()?;
        if self.module.tables.get(table)?.ty.element != RefType::Func {
            return None;
        }
        self.pop(I32)?;
        Some(ty)
    }

    fn call(&mut self, ty: u32) -> Option<()> {
        self.pop_all(self.context.params(ty)?)?;
        self.push_all(self.context.results(ty)?)
    }

    fn tail_call(&mut self, ty: u32) -> Option<()> {
        if self.context.results(ty)? != self.context.results(self.ty)? {
            return None;
        }
        self.pop_all(self.context.params(ty)?)?;
        self.never();
        Some(())
    }

    fn select(&mut self) -> Option<()> {
        self.pop(I32)?;
        let (a, b) = (self.pop_any()?, self.pop_any()?);
        let same = a == b || a == ANY || b == ANY;
        // References need the form with a type.
        if !same || a > F64 || b > F64 {
            return None;
        }
        self.push(if a == ANY { b } else { a })
    }

    /// Reads the immediates of an access to memory.
    #[inline(always)]
    fn access(&mut self, most_alignment: u32) -> Option<()> {
        let flags = self.number()?;
        let memory = if flags & 0x40 == 0 { 0 } else { self.index()? };
        if flags & !0x40 > most_alignment {
            return None;
        }
        self.number()?;
        (memory < self.module.memories.len()).then_some(())
    }

    /// Reads the index of a memory.
    fn memory(&mut self) -> Option<()> {
        (self.index()? < self.module.memories.len()).then_some(())
    }

    /// Reads the index of a table; gives the type of its elements.
    fn table(&mut self) -> Option<Type> {
        let table = self.index()?;
        Some(reference(self.module.tables.get(table)?.ty.element))
    }

    /// Reads the index of an element segment; gives the type of its elements.
    fn elements(&mut self) -> Option<Type> {
        let segment = self.index()?;
        Some(reference(self.module.elements.get(segment)?.ty))
    }

    /// Reads the index of a data segment, of which the number must have been said before the code.
    fn data(&mut self) -> Option<()> {
        (self.number()? < self.module.data_count?).then_some(())
    }

    #[inline(always)]
    fn operator(&mut self) -> Option<()> {
        let opcode = self.byte()?;
        match opcode {
            0x00 => self.never(),
            0x01 => {}
            0x02 => self.enter(Kind::Block)?,
            0x03 => self.enter(Kind::Loop)?,
            0x04 => self.enter(Kind::If)?,
            0x05 => self.otherwise()?,
            0x0b => self.end()?,
            0x0c => {
                let depth = self.number()?;
                self.pop_all(self.label(depth)?)?;
                self.never();
            }
            0x0d => {
                let depth = self.number()?;
                self.pop(I32)?;
                let types = self.label(depth)?;
                self.pop_all(types)?;
                self.push_all(types)?;
            }
            0x0e => self.br_table()?,
            0x0f => {
                self.pop_all(self.context.results(self.ty)?)?;
                self.never();
            }
            0x10 => {
                let ty = self.callee()?;
                self.call(ty)?;
            }
            0x11 => {
                let ty = self.indirect_callee()?;
                self.call(ty)?;
            }
            0x12 => {
                let ty = self.callee()?;
                self.tail_call(ty)?;
            }
            0x13 => {
                let ty = self.indirect_callee()?;
                self.tail_call(ty)?;
            }
            0x1a => {
                self.pop_any()?;
            }
            0x1b => self.select()?,
            0x1c => {
                let count = self.byte()?;
                let ty = value_type(self.byte()?)?;
                if count != 1 {
                    return None;
                }
                self.pop_all(&[ty, ty, I32])?;
                self.push(ty)?;
            }
            0x20 => {
                let local = self.index()?;
                self.push(*self.locals.get(local)?)?;
            }
            0x21 => {
                let local = self.index()?;
                self.pop(*self.locals.get(local)?)?;
            }
            0x22 => {
                let local = self.index()?;
                let ty = *self.locals.get(local)?;
                self.pop(ty)?;
                self.push(ty)?;
            }
            0x23 => {
                let global = self.index()?;
                let (ty, _) = *self.context.globals.get(global)?;
                self.push(ty)?;
            }
            0x24 => {
                let global = self.index()?;
                let (ty, is_mutable) = *self.context.globals.get(global)?;
                if !is_mutable {
                    return None;
                }
                self.pop(ty)?;
            }
            0x25 => {
                let ty = self.table()?;
                self.pop(I32)?;
                self.push(ty)?;
            }
            0x26 => {
                let ty = self.table()?;
                self.pop_all(&[I32, ty])?;
            }
            0x28..=0x35 => {
                let (ty, alignment) = ACCESSES[usize::from(opcode - 0x28)];
                self.access(alignment)?;
                self.pop(I32)?;
                self.push(ty)?;
            }
            0x36..=0x3e => {
                let (ty, alignment) = ACCESSES[usize::from(opcode - 0x28)];
                self.access(alignment)?;
                self.pop(ty)?;
                self.pop(I32)?;
            }
            0x3f => {
                self.memory()?;
                self.push(I32)?;
            }
            0x40 => {
                self.memory()?;
                self.pop(I32)?;
                self.push(I32)?;
            }
            0x41 => {
                self.signed(5, 0x78)?;
                self.push(I32)?;
            }
            0x42 => {
                self.signed(10, 0x7f)?;
                self.push(I64)?;
            }
            0x43 => {
                self.skip(4)?;
                self.push(F32)?;
            }
            0x44 => {
                self.skip(8)?;
                self.push(F64)?;
            }
            0x45..=0xc4 => {
                let effect = EFFECTS[usize::from(opcode)];
                if effect.operands == 2 {
                    self.pop(effect.operand)?;
                }
                self.pop(effect.operand)?;
                self.push(effect.result)?;
            }
            0xd0 => {
                let ty = value_type(self.byte()?)?;
                if ty != FUNC && ty != EXTERN {
                    return None;
                }
                self.push(ty)?;
            }
            0xd1 => {
                let ty = self.pop_any()?;
                if ty != FUNC && ty != EXTERN && ty != ANY {
                    return None;
                }
                self.push(I32)?;
            }
            0xd2 => {
                let func = self.number()?;
                if !self.context.is_declared(self.module, func) {
                    return None;
                }
                self.push(FUNC)?;
            }
            0xfc => self.prefixed()?,
            _ => return None,
        }
        Some(())
    }

    /// Operators behind 0xfc: saturating conversions and bulk operations.
    fn prefixed(&mut self) -> Option<()> {
        match self.number()? {
            opcode @ 0..=7 => {
                self.pop(if opcode & 2 == 0 { F32 } else { F64 })?;
                self.push(if opcode < 4 { I32 } else { I64 })
            }
            8 => {
                self.data()?;
                self.memory()?;
                self.pop_all(&[I32; 3])
            }
            9 => self.data(),
            10 => {
                self.memory()?;
                self.memory()?;
                self.pop_all(&[I32; 3])
            }
            11 => {
                self.memory()?;
                self.pop_all(&[I32; 3])
            }
            12 => {
                let elements = self.elements()?;
                let table = self.table()?;
                self.pop_all(&[I32; 3])?;
                (elements == table).then_some(())
            }
            13 => self.elements().map(|_| ()),
            14 => {
                let (to, from) = (self.table()?, self.table()?);
                self.pop_all(&[I32; 3])?;
                (to == from).then_some(())
            }
            15 => {
                let ty = self.table()?;
                self.pop_all(&[ty, I32])?;
                self.push(I32)
            }
            16 => {
                self.table()?;
                self.push(I32)
            }
            17 => {
                let ty = self.table()?;
                self.pop_all(&[I32, ty, I32])
            }
            _ => None,
        }
    }
}
