//! One arm per WebAssembly operator.

use super::Translator;
use super::stack::{Operand, Place, Popped};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::ops::Family;
use crate::module::{RefType, ValType};
use wasmparser::Operator;

/// Forms of the out-of-line family, in the order of the table.
pub(super) mod cold {
    pub const MEMORY_SIZE: u16 = 0;
    pub const MEMORY_GROW: u16 = 1;
    pub const MEMORY_FILL: u16 = 2;
    pub const MEMORY_COPY: u16 = 3;
    pub const MEMORY_INIT: u16 = 4;
    pub const DATA_DROP: u16 = 5;
    pub const TABLE_GET: u16 = 6;
    pub const TABLE_SET: u16 = 7;
    pub const TABLE_SIZE: u16 = 8;
    pub const TABLE_GROW: u16 = 9;
    pub const TABLE_FILL: u16 = 10;
    pub const TABLE_COPY: u16 = 11;
    pub const TABLE_INIT: u16 = 12;
    pub const ELEM_DROP: u16 = 13;
    pub const CELL_SET: u16 = 14;
    pub const NATIVE_LIBC: u16 = 15;
}

const I32: ValType = ValType::I32;
const I64: ValType = ValType::I64;
const F32: ValType = ValType::F32;
const F64: ValType = ValType::F64;

impl Translator<'_> {
    /// Translates one operator; true at the end of the function.
    pub(super) fn operator(&mut self, operator: Operator<'_>) -> Result<bool> {
        use Family as Op;
        use Operator::*;
        if self.dead && !self.opens_or_closes(&operator) {
            return Ok(false);
        }
        self.out.within_limit(self.stack.len())?;
        let values = super::emit::MOST_VALUES + 8;
        self.out.budget.room_in(&mut self.stack, values)?;
        self.out.budget.room_in(&mut self.blocks, 1)?;
        self.out.budget.room_in(&mut self.loops, 1)?;
        if let Some((_, count)) = self.checks.last_mut() {
            *count = count.saturating_add(1);
        }
        match operator {
            Nop => {}
            Unreachable => {
                self.out.emit_at(Op::Unreachable.form(0), 0);
                self.dead = true;
            }
            Block { blockty } => self.open_block(blockty, false)?,
            Loop { blockty } => self.open_block(blockty, true)?,
            If { blockty } => self.open_if(blockty)?,
            Else => self.open_else(),
            End => return Ok(self.end()),
            Br { relative_depth } => self.branch(relative_depth),
            BrIf { relative_depth } => self.branch_if(relative_depth),
            BrTable { targets } => {
                let count = targets.len() as usize + 1;
                let mut depths = Vec::new();
                super::emit::room_for(&mut depths, count)?;
                self.out.room_for_table(count)?;
                for depth in targets.targets() {
                    depths.push(depth.map_err(super::unreadable)?);
                }
                depths.push(targets.default());
                self.branch_table(depths)?;
            }
            Return => self.return_now(),
            Call { function_index } => self.call(function_index),
            CallIndirect {
                type_index,
                table_index,
            } => self.call_indirect(type_index, table_index),
            ReturnCall { function_index } => self.tail_call(function_index),
            ReturnCallIndirect {
                type_index,
                table_index,
            } => self.tail_call_indirect(type_index, table_index),
            Drop => {
                self.pop();
            }
            Select | TypedSelect { .. } => self.select(),
            LocalGet { local_index } => {
                self.zeroing.read(local_index);
                let ty = self
                    .locals
                    .get(local_index as usize)
                    .copied()
                    .unwrap_or(I32);
                self.push(Place::Local(local_index), ty);
            }
            LocalSet { local_index } => {
                self.local_set(local_index, false);
                self.zeroing.wrote(local_index);
            }
            LocalTee { local_index } => {
                self.local_set(local_index, true);
                self.zeroing.wrote(local_index);
            }
            GlobalGet { global_index } => self.global_get(global_index),
            GlobalSet { global_index } => self.global_set(global_index),
            I32Const { value } => self.push(Place::Const(u64::from(value as u32)), I32),
            I64Const { value } => self.push(Place::Const(value as u64), I64),
            F32Const { value } => self.push(Place::Const(u64::from(value.bits())), F32),
            F64Const { value } => self.push(Place::Const(value.bits()), F64),
            RefNull { hty } => {
                let ty = match super::value_type(wasmparser::ValType::Ref(
                    wasmparser::RefType::new(true, hty).unwrap_or(wasmparser::RefType::FUNCREF),
                )) {
                    Ok(ty) => ty,
                    Err(_) => ValType::Ref(RefType::Func),
                };
                self.push(Place::Const(0), ty);
            }
            RefFunc { function_index } => {
                let value = self.environment.function_reference(function_index);
                self.push(Place::Const(value), ValType::Ref(RefType::Func));
            }
            RefIsNull => self.equals_zero(Op::I64Eq, I64),
            operator => return self.value_operator(operator).map(|()| false),
        }
        Ok(false)
    }

    /// In unreachable code: whether the operator ends it or has to be counted.
    fn opens_or_closes(&mut self, operator: &Operator<'_>) -> bool {
        match operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                self.skipped += 1;
                false
            }
            Operator::End if self.skipped > 0 => {
                self.skipped -= 1;
                false
            }
            Operator::Else => self.skipped == 0,
            Operator::End => true,
            _ => false,
        }
    }

    /// Numbers, memory and tables.
    fn value_operator(&mut self, operator: Operator<'_>) -> Result<()> {
        use Family as Op;
        use Operator::*;
        /// Rows of the same shape.
        macro_rules! rows {
            ($(bin $bin:ident $bt:ident $commutes:literal;)* $(cmp $cmp:ident $ccommutes:literal;)*
             $(un $un:ident $ut:ident;)* $(load $load:ident $lt:ident;)* $(store $store:ident;)*
             rest { $($rest:tt)* }) => {
                match operator {
                    $($bin => self.binary(Op::$bin, $bt, $commutes),)*
                    $($cmp => self.binary(Op::$cmp, I32, $ccommutes),)*
                    $($un => self.unary(Op::$un, $ut),)*
                    $($load { memarg } => self.load(Op::$load, memory_of(memarg.target), memarg.offset, $lt),)*
                    $($store { memarg } => self.store(Op::$store, memory_of(memarg.target), memarg.offset),)*
                    $($rest)*
                }
            };
        }
        rows! {
            bin I32Add I32 true; bin I32Mul I32 true; bin I32And I32 true; bin I32Or I32 true; bin I32Xor I32 true;
            bin I32Shl I32 false; bin I32ShrS I32 false; bin I32ShrU I32 false; bin I32Rotl I32 false; bin I32Rotr I32 false;
            bin I32DivS I32 false; bin I32DivU I32 false; bin I32RemS I32 false; bin I32RemU I32 false;
            bin I64Add I64 true; bin I64Sub I64 false; bin I64Mul I64 true; bin I64And I64 true; bin I64Or I64 true; bin I64Xor I64 true;
            bin I64Shl I64 false; bin I64ShrS I64 false; bin I64ShrU I64 false; bin I64Rotl I64 false; bin I64Rotr I64 false;
            bin I64DivS I64 false; bin I64DivU I64 false; bin I64RemS I64 false; bin I64RemU I64 false;
            bin F32Add F32 true; bin F32Sub F32 false; bin F32Mul F32 true; bin F32Div F32 false;
            bin F32Min F32 true; bin F32Max F32 true; bin F32Copysign F32 false;
            bin F64Add F64 true; bin F64Sub F64 false; bin F64Mul F64 true; bin F64Div F64 false;
            bin F64Min F64 true; bin F64Max F64 true; bin F64Copysign F64 false;
            cmp I32Eq true; cmp I32Ne true; cmp I32LtS false; cmp I32LtU false; cmp I32GtS false;
            cmp I32GtU false; cmp I32LeS false; cmp I32LeU false; cmp I32GeS false; cmp I32GeU false;
            cmp I64Eq true; cmp I64Ne true; cmp I64LtS false; cmp I64LtU false; cmp I64GtS false;
            cmp I64GtU false; cmp I64LeS false; cmp I64LeU false; cmp I64GeS false; cmp I64GeU false;
            cmp F32Eq true; cmp F32Ne true; cmp F32Lt false; cmp F32Gt false; cmp F32Le false; cmp F32Ge false;
            cmp F64Eq true; cmp F64Ne true; cmp F64Lt false; cmp F64Gt false; cmp F64Le false; cmp F64Ge false;
            un I32Clz I32; un I32Ctz I32; un I32Popcnt I32; un I32Extend8S I32; un I32Extend16S I32;
            un I64Clz I64; un I64Ctz I64; un I64Popcnt I64; un I64Extend8S I64; un I64Extend16S I64; un I64Extend32S I64;
            un I32WrapI64 I32; un I64ExtendI32S I64; un I64ExtendI32U I64;
            un F32Abs F32; un F32Neg F32; un F32Ceil F32; un F32Floor F32; un F32Trunc F32; un F32Nearest F32; un F32Sqrt F32;
            un F64Abs F64; un F64Neg F64; un F64Ceil F64; un F64Floor F64; un F64Trunc F64; un F64Nearest F64; un F64Sqrt F64;
            un I32TruncF32S I32; un I32TruncF32U I32; un I32TruncF64S I32; un I32TruncF64U I32;
            un I64TruncF32S I64; un I64TruncF32U I64; un I64TruncF64S I64; un I64TruncF64U I64;
            un I32TruncSatF32S I32; un I32TruncSatF32U I32; un I32TruncSatF64S I32; un I32TruncSatF64U I32;
            un I64TruncSatF32S I64; un I64TruncSatF32U I64; un I64TruncSatF64S I64; un I64TruncSatF64U I64;
            un F32ConvertI32S F32; un F32ConvertI32U F32; un F32ConvertI64S F32; un F32ConvertI64U F32; un F32DemoteF64 F32;
            un F64ConvertI32S F64; un F64ConvertI32U F64; un F64ConvertI64S F64; un F64ConvertI64U F64; un F64PromoteF32 F64;
            un I32ReinterpretF32 I32; un I64ReinterpretF64 I64; un F32ReinterpretI32 F32; un F64ReinterpretI64 F64;
            load I32Load I32; load I32Load8S I32; load I32Load8U I32; load I32Load16S I32; load I32Load16U I32;
            load I64Load I64; load I64Load8S I64; load I64Load8U I64; load I64Load16S I64; load I64Load16U I64;
            load I64Load32S I64; load I64Load32U I64; load F32Load F32; load F64Load F64;
            store I32Store; store I32Store8; store I32Store16; store I64Store; store I64Store8; store I64Store16;
            store I64Store32; store F32Store; store F64Store;
            rest {
                I32Sub => self.subtract(),
                I32Eqz => self.equals_zero(Op::I32Eq, I32),
                I64Eqz => self.equals_zero(Op::I64Eq, I64),
                MemorySize { mem } => self.memory_size(mem),
                MemoryGrow { mem } => {
                    let memory = self.environment.memory(mem);
                    self.cold(cold::MEMORY_GROW, 1, [memory, 0], Some(I32));
                }
                MemoryFill { mem } => {
                    let memory = self.environment.memory(mem);
                    self.cold(cold::MEMORY_FILL, 3, [memory, 0], None);
                }
                MemoryCopy { dst_mem, src_mem } => {
                    let (dst, src) = (self.environment.memory(dst_mem), self.environment.memory(src_mem));
                    self.cold(cold::MEMORY_COPY, 3, [dst, src], None);
                }
                MemoryInit { data_index, mem } => {
                    let words = [pair(data_index, mem), self.environment.instance()];
                    self.cold(cold::MEMORY_INIT, 3, words, None);
                }
                DataDrop { data_index } => {
                    let words = [pair(data_index, 0), self.environment.instance()];
                    self.cold(cold::DATA_DROP, 0, words, None);
                }
                TableGet { table } => {
                    let ty = self.table_type(table);
                    let table = self.environment.table(table).address;
                    self.cold(cold::TABLE_GET, 1, [table, 0], Some(ty));
                }
                TableSet { table } => {
                    let table = self.environment.table(table).address;
                    self.cold(cold::TABLE_SET, 2, [table, 0], None);
                }
                TableSize { table } => {
                    let table = self.environment.table(table).address;
                    self.cold(cold::TABLE_SIZE, 0, [table, 0], Some(I32));
                }
                TableGrow { table } => {
                    let table = self.environment.table(table).address;
                    self.cold(cold::TABLE_GROW, 2, [table, 0], Some(I32));
                }
                TableFill { table } => {
                    let table = self.environment.table(table).address;
                    self.cold(cold::TABLE_FILL, 3, [table, 0], None);
                }
                TableCopy { dst_table, src_table } => {
                    let dst = self.environment.table(dst_table).address;
                    let src = self.environment.table(src_table).address;
                    self.cold(cold::TABLE_COPY, 3, [dst, src], None);
                }
                TableInit { elem_index, table } => {
                    let words = [pair(elem_index, table), self.environment.instance()];
                    self.cold(cold::TABLE_INIT, 3, words, None);
                }
                ElemDrop { elem_index } => {
                    let words = [pair(elem_index, 0), self.environment.instance()];
                    self.cold(cold::ELEM_DROP, 0, words, None);
                }
                operator => {
                    return Err(Error::new(ErrorKind::Unsupported {
                        proposal: "unknown",
                        detail: format!("operator {operator:?}"),
                    }));
                }
            }
        }
        Ok(())
    }

    /// `i32.sub`: of a constant it is an addition, which folds into addresses.
    fn subtract(&mut self) {
        if let Some(top) = self.stack.last_mut()
            && let Place::Const(value) = top.place
        {
            top.place = Place::Const(u64::from((value as u32).wrapping_neg()));
            self.binary(Family::I32Add, I32, false);
        } else {
            self.binary(Family::I32Sub, I32, false);
        }
    }

    fn global_get(&mut self, index: u32) {
        let global = self.environment.global(index);
        let ty = global.ty.value;
        if !global.ty.mutable {
            return self.push(Place::Const(global.value), ty);
        }
        if let Some(cell) = global.cell {
            let next = self.cells.len() as u32;
            if self.cell_numbers.try_reserve(1).is_err() {
                return self.out.budget.fail_without_memory();
            }
            let number = *self.cell_numbers.entry(cell).or_insert(next);
            if number == next {
                self.out
                    .budget
                    .push(&mut self.cells, (cell, global.value as u32));
            }
            let place = Place::Cell {
                cell: number,
                addend: 0,
            };
            return self.push(place, ty);
        }
        self.free_acc(super::class(ty));
        let family = if ty.is_float() {
            Family::GlobalGetF
        } else {
            Family::GlobalGet
        };
        let start = self.out.emit(family.form(0), 0);
        self.out.push(global.address);
        self.result(start, ty);
    }

    fn global_set(&mut self, index: u32) {
        let global = self.environment.global(index);
        if global.cell.is_some() {
            self.settle_cells();
            return self.cold(cold::CELL_SET, 1, [global.address, 0], None);
        }
        let popped = self.pop();
        if let Place::Const(value) = popped.place {
            self.out.emit(Family::GlobalSet.form(3), 0);
            self.out.push(global.address);
            self.out.push(value);
            return;
        }
        if popped.ty == I32 && self.global_sum(&popped, global.address) {
            return;
        }
        let (form, word) = match self.operand(popped, false) {
            Operand::Slot(slot) => (0, slot),
            _ => (1 + super::class(popped.ty) as u16, 0),
        };
        self.out.emit(Family::GlobalSet.form(form), word);
        self.out.push(global.address);
    }

    /// The stack pointer, mostly: a global that becomes itself or a local plus a constant.
    fn global_sum(&mut self, popped: &Popped, address: u64) -> bool {
        if let Place::Sum(local, constant) = popped.place {
            let slot = self.near(self.local_slot(local));
            let word = slot | u64::from(constant) << 32;
            self.out.emit(Family::GlobalSet.form(4), word);
            self.out.push(address);
            return true;
        }
        let (Some(get), Some(add)) = (self.out.before, self.out.last) else {
            return false;
        };
        let op = self.out.op(add);
        // The sum was just made and is the value: on the stack, or in the local that it was put into.
        let is_value = match popped.place {
            Place::Acc { producer } => producer == add,
            Place::Local(local) => self.acc_local[0] == Some(local) && op == Family::I32Add.form(9),
            _ => false,
        };
        let fits = is_value
            && !self.acc_taken(0)
            && (op == Family::I32Add.form(8) || op == Family::I32Add.form(9))
            && self.out.op(get) == Family::GlobalGet.form(0)
            && get + 3 == add
            && self.out.code[get + 2] == address
            && !self.out.is_relocated(get);
        if !fits {
            return false;
        }
        let word = self.out.code[add + 1];
        self.out.retract();
        self.out.retract();
        self.out.emit(Family::GlobalAdd.form(op.form() - 8), word);
        self.out.push(address);
        true
    }

    fn memory_size(&mut self, memory: u32) {
        if memory != 0 {
            let memory = self.environment.memory(memory);
            return self.cold(cold::MEMORY_SIZE, 0, [memory, 0], Some(I32));
        }
        self.free_acc(0);
        let start = self.out.emit(Family::MemorySize.form(0), 0);
        self.result(start, I32);
    }

    fn table_type(&self, table: u32) -> ValType {
        let table = self.module.0.tables.get(table as usize);
        ValType::Ref(table.map_or(RefType::Func, |table| table.ty.element))
    }

    /// An operation out of line: operands in slots, result in the accumulator, which it always overwrites.
    fn cold(&mut self, form: u16, operands: usize, words: [u64; 2], result: Option<ValType>) {
        let mut fields = 0;
        for n in (0..operands).rev() {
            let popped = self.pop();
            fields |= self.slot_operand(popped) << (16 * n);
        }
        self.free_acc(0);
        self.out.emit_at(Family::Cold.form(form), fields);
        self.out.push(words[0]);
        self.out.push(words[1]);
        self.acc_local[0] = None;
        if let Some(ty) = result {
            self.push(
                Place::Acc {
                    producer: super::emit::NONE,
                },
                ty,
            );
        }
    }
}

/// Two indices in a word.
fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Index of the memory that an access goes to.
fn memory_of(target: wasmparser::MemArgTarget) -> u32 {
    match target {
        wasmparser::MemArgTarget::Memory(index) => index,
        // Arrays belong to a proposal that validation refuses.
        _ => 0,
    }
}
