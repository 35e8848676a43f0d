//! Loads and stores: which form names the address, and what becomes one instruction with them.

use super::fuse::operands;
use super::stack::{Operand, Place, Popped};
use super::{Field, Translator, class};
use crate::ir::ops::{Family, PAIR_IMMEDIATE};
use crate::module::ValType;

/// Address forms of loads (result in the accumulator).
pub(super) mod address {
    pub const SLOT: u16 = 0;
    pub const ACC: u16 = 2;
    pub const SLOT_SLOT: u16 = 4;
    pub const ACC_SLOT: u16 = 6;
    pub const CONST: u16 = 8;
    pub const SLOT_IMM: u16 = 10;
    pub const SCALED: u16 = 12;
    pub const SLOT_SCALED: u16 = 14;
    pub const OTHER_MEMORY: u16 = 16;
    pub const ACC_SCALED: u16 = 18;
    pub const ACC_SCALED_SLOT: u16 = 20;
    pub const ACC_SCALED_IMM: u16 = 22;
}

/// Forms of the load through a pointer that is at slot + offset, and of that at accumulator + offset.
pub(super) const LOAD_TWO_SLOT: u16 = 0;
pub(super) const LOAD_TWO_ACC: u16 = 4;

/// An address as the fields of a load or store.
struct Address {
    form: u16,
    /// The slot in the base field.
    base: u64,
    /// Word @16, if the form has one.
    more: Option<u64>,
    offset: u64,
    /// The cell that the offset field holds, and what is added to it.
    cell: Option<((u32, u32), u32)>,
}

/// No word @16.
const NO_WORD: u64 = u64::MAX;

impl Translator<'_> {
    /// How an access names its address.
    fn address(&mut self, family: Family, popped: Popped, offset: u64) -> Address {
        let mut address = Address {
            form: address::CONST,
            base: 0,
            more: None,
            offset,
            cell: None,
        };
        match popped.place {
            Place::Scaled {
                base,
                index,
                shift,
                offset: add,
            } => {
                let index = self.near(self.local_slot(index)) << 32;
                address.more = Some(index | u64::from(add) | u64::from(shift) << 48);
                address.form = match base {
                    Some(base) => {
                        address.base = self.near(self.local_slot(base));
                        address::SLOT_SCALED
                    }
                    None => address::SCALED,
                };
            }
            Place::Sum(local, add) => {
                address.base = self.near(self.local_slot(local));
                address.more = Some(u64::from(add));
                address.form = address::SLOT_IMM;
            }
            // The sum of a constant address and the offset is a 32-bit field, or it is out of bounds for good.
            Place::Const(at) if (at & 0xffff_ffff) + offset <= u64::from(u32::MAX) => {
                address.offset += at & 0xffff_ffff;
            }
            Place::Cell { cell, addend }
                // A later value that overflows becomes the greatest address, where only single bytes can be.
                if self.cell_value(cell, addend) + offset <= u64::from(u32::MAX)
                    && (offset == 0 || !accesses_one_byte(family)) =>
            {
                address.offset += self.cell_value(cell, addend);
                address.cell = Some(((cell, addend), offset as u32));
            }
            _ => match self.operand(popped, false) {
                Operand::Slot(base) => {
                    address.base = base;
                    address.form = address::SLOT;
                }
                _ => address.form = address::ACC,
            },
        }
        address
    }

    /// A load.
    pub(super) fn load(&mut self, family: Family, memory: u32, offset: u64, result: ValType) {
        let popped = self.pop();
        self.free_acc(class(result));
        if memory != 0 {
            let base = self.slot_operand(popped);
            let start = self.out.emit_at(
                family.form(address::OTHER_MEMORY),
                base << 16 | offset << 32,
            );
            self.out.push(self.environment.memory(memory));
            return self.result(start, result);
        }
        if self.load_through_pointer(family, popped, offset, result) {
            return;
        }
        let made = self
            .scaled_accumulator(popped)
            .or_else(|| self.take_address_add(popped));
        if let Some((form, a, b, cell)) = made {
            let start = self.out.emit_at(family.form(form), a << 16 | offset << 32);
            if b != NO_WORD {
                self.out.push(b);
            }
            if let Some(field) = cell {
                self.out.relocations.push(Field {
                    word: start + 2,
                    high: false,
                    ..field
                });
            }
            return self.result(start, result);
        }
        let Address {
            form,
            base,
            more,
            offset,
            cell,
        } = self.address(family, popped, offset);
        let start = self
            .out
            .emit_at(family.form(form), base << 16 | offset << 32);
        if let Some(more) = more {
            self.out.push(more);
        }
        if let Some((cell, offset)) = cell {
            self.relocate(start + 1, true, cell, offset);
        }
        self.result(start, result);
    }

    /// If the address is a pointer that was just loaded: both loads become one instruction.
    fn load_through_pointer(
        &mut self,
        family: Family,
        popped: Popped,
        offset: u64,
        result: ValType,
    ) -> bool {
        let (Some(last), false) = (self.out.last, self.far) else {
            return false;
        };
        let op = self.out.op(last);
        let held = |local: u32| {
            op == Family::I32Load.form(address::SLOT + 1) && self.acc_local[0] == Some(local)
        };
        let (wraps, offset) = match popped.place {
            Place::Acc { producer }
                if producer == last && op == Family::I32Load.form(address::SLOT) =>
            {
                (0, offset)
            }
            Place::Acc { producer }
                if producer == last && op == Family::I32Load.form(address::ACC) =>
            {
                (LOAD_TWO_ACC, offset)
            }
            Place::Local(local) if held(local) => (0, offset),
            Place::Sum(local, constant) if held(local) && offset == 0 => (4, u64::from(constant)),
            _ => return false,
        };
        let family = match family {
            Family::I32Load => 0,
            Family::I32Load8U => 8,
            _ => return false,
        };
        let kept = op.form() % 2;
        let word = self.out.code[last + 1];
        self.out.code[last] = u64::from(Family::LoadTwo.form(family + wraps + kept * 2).0);
        self.out.code[last + 1] = word & !0xffff;
        self.out.push(word & 0xffff | offset << 32);
        self.result(last, result);
        true
    }

    /// If the index of the address is a local that the accumulator holds too: form and fields as for [`Self::take_address_add`].
    /// An index that was just computed would have to come back from its slot.
    fn scaled_accumulator(&self, popped: Popped) -> Option<(u16, u64, u64, Option<Field>)> {
        let Place::Scaled {
            base,
            index,
            shift,
            offset,
        } = popped.place
        else {
            return None;
        };
        if self.far || self.acc_local[0] != Some(index) {
            return None;
        }
        let shift = u64::from(shift);
        Some(match (base, offset) {
            (None, 0) => (address::ACC_SCALED, shift, NO_WORD, None),
            (None, offset) => (address::ACC_SCALED_IMM, shift, u64::from(offset), None),
            (Some(base), 0) => {
                let base = u64::from(self.local_slot(base));
                (address::ACC_SCALED_SLOT, shift, base, None)
            }
            _ => return None,
        })
    }

    /// If the address was just made by an `i32.add` of slots, accumulator or constant, by a shift of the accumulator, or by both:
    /// takes that back and gives the form, the field @10, the word @16, and the cell whose value that is.
    fn take_address_add(&mut self, popped: Popped) -> Option<(u16, u64, u64, Option<Field>)> {
        let Place::Acc { producer } = popped.place else {
            return None;
        };
        if self.out.last != Some(producer) {
            return None;
        }
        let op = self.out.op(producer);
        let word = self.out.code[producer + 1];
        let (a, b) = (word >> 16 & 0xffff, word >> 32 & 0xffff);
        let (shift, third) = (word >> 32 & 31, self.out.code.get(producer + 2).copied());
        let (form, field, word) = if op == Family::I32Add.form(operands::SS) {
            (address::SLOT_SLOT, a, b)
        } else if op == Family::I32Add.form(operands::AS) {
            (address::ACC_SLOT, 0, b)
        } else if op == Family::I32Add.form(operands::SA) {
            (address::ACC_SLOT, 0, a)
        } else if op == Family::I32Add.form(operands::AI) {
            (address::ACC_SCALED_IMM, 0, word >> 32)
        } else if op == Family::I32Shl.form(operands::AI) {
            (address::ACC_SCALED, shift, NO_WORD)
        } else if op == Family::I32ShlAdd.form(operands::AI) {
            (address::ACC_SCALED_SLOT, shift, third?)
        } else if op == Family::I32ShlAdd.form(PAIR_IMMEDIATE + operands::AI) {
            (address::ACC_SCALED_IMM, shift, third? & 0xffff_ffff)
        } else {
            return None;
        };
        let cell = self.out.relocations.last().copied();
        let cell = cell.filter(|field| field.word > producer);
        self.out.retract();
        Some((form, field, word, cell))
    }

    /// A store.
    pub(super) fn store(&mut self, family: Family, memory: u32, offset: u64) {
        let value = self.pop();
        let mut base = self.pop();
        self.max_height = self.max_height.max(self.stack.len() + 4);
        if memory != 0 {
            let base = self.slot_operand(base);
            let (form, word) = match self.operand(value, false) {
                Operand::Slot(slot) => (store_form("ms"), slot << 16),
                _ => (store_form("ma"), 0),
            };
            self.out
                .emit_at(family.form(form), base | word | offset << 32);
            self.out.push(self.environment.memory(memory));
            return;
        }
        if family == Family::I32Store && self.add_to_memory(base, value, offset) {
            return;
        }
        let mut source = self.operand(value, true);
        let scaled = matches!(base.place, Place::Scaled { .. });
        if let (Operand::Imm(..), true) = (source, scaled) {
            // There is no form with a scaled address and an immediate.
            let slot = self.height_slot(base.height);
            self.scaled_to(base.place, slot);
            base.place = Place::Slot;
        }
        // Address and value of the same class cannot both be in the accumulator, unless both are one local.
        if source == Operand::Acc && !value.is_acc() && base.place == value.place {
            source = Operand::Slot(self.slot_operand(value));
        }
        let Address {
            form,
            base,
            more,
            offset,
            cell,
        } = self.address(family, base, offset);
        let name = match (form, source) {
            (address::SLOT, Operand::Slot(_)) => "ss",
            (address::SLOT, Operand::Acc) => "sa",
            (address::SLOT, Operand::Imm(..)) => "si",
            (address::ACC, Operand::Slot(_)) => "as",
            (address::ACC, Operand::Acc) => "aa",
            (address::ACC, Operand::Imm(..)) => "ai",
            (address::CONST, Operand::Slot(_)) => "is",
            (address::CONST, Operand::Acc) => "ia",
            (address::CONST, Operand::Imm(..)) => "ii",
            (address::SLOT_IMM, Operand::Slot(_)) => "ps",
            (address::SLOT_IMM, Operand::Acc) => "pa",
            (address::SLOT_IMM, Operand::Imm(..)) => "pi",
            (address::SCALED, Operand::Slot(_)) => "qs",
            (address::SCALED, _) => "qa",
            (_, Operand::Slot(_)) => "rs",
            _ => "ra",
        };
        let slot = if let Operand::Slot(slot) = source {
            slot << 16
        } else {
            0
        };
        let start = self
            .out
            .emit_at(family.form(store_form(name)), base | slot | offset << 32);
        if let Some((cell, offset)) = cell {
            self.relocate(start + 1, true, cell, offset);
        }
        if let Operand::Imm(_, Some(cell)) = source {
            self.relocate(start + 2, more.is_some(), cell, 0);
        }
        match (source, more) {
            (Operand::Imm(imm, _), Some(more)) if value.ty != ValType::I32 => {
                self.out.push(more);
                self.out.push(imm);
            }
            (Operand::Imm(imm, _), Some(more)) => self.out.push(more | u64::from(imm as u32) << 32),
            (Operand::Imm(imm, _), None) => self.out.push(imm),
            (_, Some(more)) => self.out.push(more),
            (_, None) => {}
        }
    }

    /// A constant added to what was loaded from the same address: one instruction.
    fn add_to_memory(&mut self, base: Popped, value: Popped, offset: u64) -> bool {
        let (Place::Local(local), Some(load), Some(add)) =
            (base.place, self.out.before, self.out.last)
        else {
            return false;
        };
        let op = self.out.op(add);
        let is_value = match value.place {
            Place::Acc { producer } => producer == add,
            Place::Local(local) => {
                self.acc_local[0] == Some(local) && op == Family::I32Add.form(operands::AI + 1)
            }
            _ => false,
        };
        let loaded = u64::from(self.local_slot(local)) << 16 | offset << 32;
        let fits = is_value
            && !self.far
            && u32::try_from(offset).is_ok()
            && !self.acc_taken(0)
            && (op == Family::I32Add.form(operands::AI)
                || op == Family::I32Add.form(operands::AI + 1))
            && self.loads_from(load, add, local, offset)
            && !self.out.is_relocated(load);
        // The sum may not have gone into the local that is the address.
        let target = self.out.code[add + 1] & 0xffff;
        if !fits || (op.form() == operands::AI + 1 && target == u64::from(self.local_slot(local))) {
            return false;
        }
        let constant = self.out.code[add + 1] >> 32;
        let place = self.out.place_of(load);
        self.out.retract();
        if self.out.op(load) == Family::I32Load.form(address::SLOT) {
            self.out.retract();
        } else {
            // Only the pointer is loaded.
            let kept = self.out.code[load + 2] & 0xffff;
            self.out.code[load] = u64::from(Family::I32Load.form(address::SLOT + 1).0);
            self.out.code[load + 1] |= kept;
            self.out.code.truncate(load + 2);
        }
        if let Some(place) = place {
            let here = self.out.here() as u32;
            self.out.budget.push(&mut self.out.places, (here, place));
        }
        self.out.emit(
            Family::AddMemory.form(op.form() - operands::AI),
            target | loaded,
        );
        self.out.push(constant);
        true
    }

    /// Whether the instruction before the addition loads an i32 from the local plus the offset, and that only into the
    /// accumulator: a plain load, or the second one of a load through a pointer that is kept in the local.
    fn loads_from(&self, load: usize, add: usize, local: u32, offset: u64) -> bool {
        let slot = u64::from(self.local_slot(local));
        let op = self.out.op(load);
        if op == Family::I32Load.form(address::SLOT) {
            let loaded = slot << 16 | offset << 32;
            return load + 2 == add && self.out.code[load + 1] & !0xffff == loaded;
        }
        op == Family::LoadTwo.form(2)
            && load + 3 == add
            && self.out.code[load + 2] == slot | offset << 32
    }
}

/// Whether a load or store is of a single byte.
fn accesses_one_byte(family: Family) -> bool {
    use Family::*;
    matches!(
        family,
        I32Load8S | I32Load8U | I64Load8S | I64Load8U | I32Store8 | I64Store8
    )
}

/// The number of a store form.
fn store_form(name: &str) -> u16 {
    crate::ir::ops::STORE_FORMS
        .iter()
        .position(|form| *form == name)
        .unwrap_or(0) as u16
}
