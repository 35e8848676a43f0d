//! Operators with operands in their places: which form is emitted, and which neighbours become one
//! instruction. Each fusion looks only at the last one or two instructions.

use super::access::address;
use super::emit::Fixup;
use super::stack::{Operand, Place, Popped};
use super::{Field, Translator, class};
use crate::ir::ops::{BRANCH, Family, Op, PAIR_ACC, PAIR_FIRST, PAIR_IMMEDIATE, SELECT, pair_of};
use crate::module::ValType;

/// Forms of value operators, by operands.
pub(super) mod operands {
    pub const SS: u16 = 0;
    pub const AS: u16 = 2;
    pub const SA: u16 = 4;
    pub const SI: u16 = 6;
    pub const AI: u16 = 8;
    pub const IS: u16 = 10;
    pub const IA: u16 = 12;
    pub const AA: u16 = 14;
}

/// Forms of pairs with the accumulator as the third operand, by the first operator's operands.
pub(super) mod held_form {
    pub const SS: u16 = 0;
    pub const SI: u16 = 2;
    pub const IS: u16 = 4;
    /// The accumulator and an immediate.
    pub const AI: u16 = 6;
}

impl Translator<'_> {
    /// `i32.add` of values that become an address: gives the value if nothing has to be emitted.
    fn fold_add(x: Place, y: Place) -> Option<Place> {
        use Place::{Cell, Const, Local, Scaled, Sum};
        Some(match (x, y) {
            (Cell { cell, addend }, Const(k)) | (Const(k), Cell { cell, addend }) => Cell {
                cell,
                addend: addend.wrapping_add(k as u32),
            },
            (Const(a), Const(b)) => Const(u64::from((a as u32).wrapping_add(b as u32))),
            (Local(local), Const(k)) | (Const(k), Local(local)) => Sum(local, k as u32),
            (Sum(local, j), Const(k)) | (Const(k), Sum(local, j)) => {
                Sum(local, j.wrapping_add(k as u32))
            }
            (
                Scaled {
                    base,
                    index,
                    shift,
                    offset,
                },
                Const(k),
            )
            | (
                Const(k),
                Scaled {
                    base,
                    index,
                    shift,
                    offset,
                },
            ) => Scaled {
                base,
                index,
                shift,
                offset: offset.wrapping_add(k as u32),
            },
            (
                Scaled {
                    base: None,
                    index,
                    shift,
                    offset,
                },
                Local(local),
            )
            | (
                Local(local),
                Scaled {
                    base: None,
                    index,
                    shift,
                    offset,
                },
            ) => Scaled {
                base: Some(local),
                index,
                shift,
                offset,
            },
            (
                Scaled {
                    base: None,
                    index,
                    shift,
                    offset,
                },
                Sum(local, k),
            )
            | (
                Sum(local, k),
                Scaled {
                    base: None,
                    index,
                    shift,
                    offset,
                },
            ) => Scaled {
                base: Some(local),
                index,
                shift,
                offset: offset.wrapping_add(k),
            },
            _ => return None,
        })
    }

    /// An operator with two operands.
    pub(super) fn binary(&mut self, family: Family, result: ValType, commutes: bool) {
        let mut y = self.pop();
        let mut x = self.pop();
        self.max_height = self.max_height.max(self.stack.len() + 4);
        if family == Family::I32Add
            && let Some(place) = Self::fold_add(x.place, y.place)
        {
            return self.push(place, result);
        }
        if family == Family::I32Shl
            && let (Place::Local(index), Place::Const(shift)) = (x.place, y.place)
        {
            let shift = (shift & 31) as u8;
            return self.push(
                Place::Scaled {
                    base: None,
                    index,
                    shift,
                    offset: 0,
                },
                result,
            );
        }
        let constant =
            |popped: Popped| matches!(popped.place, Place::Const(_) | Place::Cell { .. });
        if commutes && constant(x) && !constant(y) {
            std::mem::swap(&mut x, &mut y);
        }
        if self.bit_of(family, x, y) {
            return self.push(x.place, result);
        }
        self.free_acc(class(result));
        if self.shift_and(family, x, y, result) {
            return;
        }
        let address =
            |popped: Popped| matches!(popped.place, Place::Sum(..) | Place::Scaled { .. });
        if class(result) == 0 {
            if address(y) && !x.is_acc() {
                y = self.force(y);
            }
            if address(x) && !y.is_acc() {
                x = self.force(x);
            }
        }
        let constant_first = family.is_binary()
            && !family.commutes()
            && matches!(x.place, Place::Const(_))
            && !constant(y);
        let mut left = self.operand(x, constant_first);
        let mut right = self.operand(y, true);
        if left == Operand::Acc && right == Operand::Acc && !family.doubles() {
            // Both are the local that the accumulator holds.
            left = Operand::Slot(self.slot_operand(if x.is_acc() { y } else { x }));
        }
        if left != Operand::Acc && right != Operand::Acc {
            left = self.regain(x, left);
            if left != Operand::Acc {
                right = self.regain(y, right);
            }
        }
        if self.pair(family, x, y, left, right, result) {
            return;
        }
        self.emit_binary(family, left, right, y.ty, result);
    }

    /// The lowest bit of what was just shifted to the right: the shift becomes a test of one bit, which a branch, a
    /// `select` or an `eqz` takes over.
    fn bit_of(&mut self, family: Family, x: Popped, y: Popped) -> bool {
        let Place::Acc { producer } = x.place else {
            return false;
        };
        if self.out.last != Some(producer) {
            return false;
        }
        let shift = self.out.op(producer);
        let fits = family == Family::I32And
            && matches!(y.place, Place::Const(1))
            && shift.is(Family::I32ShrU)
            && shift.form() < operands::IS
            && shift.form().is_multiple_of(2);
        if fits {
            self.out.code[producer] = u64::from(Family::I32Bit.form(shift.form()).0);
        }
        fits
    }

    /// A shifted local that is no address: the pair of shift and operator, if there is one.
    fn shift_and(&mut self, family: Family, x: Popped, y: Popped, result: ValType) -> bool {
        let plain = |popped: Popped| match popped.place {
            Place::Scaled {
                base: None,
                index,
                shift,
                offset: 0,
            } => Some((index, shift)),
            _ => None,
        };
        let (scaled, other, is_right) = match (plain(x), plain(y)) {
            (Some(scaled), None) => (scaled, y, false),
            (None, Some(scaled)) => (scaled, x, !family.commutes()),
            _ => return false,
        };
        let Some(pair) = pair_of(Family::I32Shl.form(operands::SI), family, is_right) else {
            return false;
        };
        let index = self.near(self.local_slot(scaled.0));
        let held = |place: Place| match place {
            Place::Acc { .. } => true,
            Place::Local(local) => self.acc_local[0] == Some(local),
            _ => false,
        };
        let form = match other.place {
            Place::Const(_) => PAIR_IMMEDIATE + operands::SI,
            place if self.far || !held(place) => operands::SI,
            Place::Local(local) if local == scaled.0 => PAIR_ACC + held_form::AI,
            _ => PAIR_ACC + held_form::SI,
        };
        let third = match other.place {
            Place::Const(value) => u64::from(value as u32),
            Place::Acc { .. } if form >= PAIR_ACC => 0,
            _ => self.slot_operand(other),
        };
        let start = self
            .out
            .emit(pair.form(form), index << 16 | u64::from(scaled.1) << 32);
        self.out.push(third);
        self.result(start, result);
        true
    }

    /// If one operand was just made by an operator that the table pairs with this one: both become one instruction.
    fn pair(
        &mut self,
        family: Family,
        x: Popped,
        y: Popped,
        left: Operand,
        right: Operand,
        result: ValType,
    ) -> bool {
        let (popped, other, other_popped, is_right) = match (left, right) {
            (Operand::Acc, other) => (x, other, y, false),
            (other, Operand::Acc) => (y, other, x, true),
            _ => return false,
        };
        let Place::Acc { producer } = popped.place else {
            return false;
        };
        if self.out.last != Some(producer) {
            return false;
        }
        let first = self.out.op(producer);
        if first.form() >= operands::AA || !first.form().is_multiple_of(2) {
            return false;
        }
        let swapped = is_right && family.commutes();
        let Some(pair) = pair_of(first, family, is_right && !swapped) else {
            return false;
        };
        let (third, immediate) = match other {
            Operand::Slot(slot) => (slot, false),
            Operand::Imm(value, None) if !result.is_float() && is_short(family, value) => {
                (u64::from(value as u32), true)
            }
            _ => return false,
        };
        // An immediate of the first operator becomes a short one.
        let mut word = self.out.code[producer + 1];
        if first.form() >= operands::SI {
            if self
                .out
                .relocations
                .last()
                .is_some_and(|field| field.word > producer)
            {
                return false;
            }
            match self.out.code.get(producer + 2) {
                None => {}
                Some(_) if result.is_float() => return false,
                Some(value) if i32::try_from(*value as i64).is_ok() => {
                    word |= u64::from(*value as u32) << 32;
                }
                Some(_) => return false,
            }
        }
        let held = match first.form() {
            _ if immediate => None,
            operands::SS => Some(held_form::SS),
            operands::SI => Some(held_form::SI),
            operands::IS => Some(held_form::IS),
            operands::AI => Some(held_form::AI),
            _ => None,
        };
        let held = held.filter(|_| {
            self.out
                .before
                .is_some_and(|before| self.makes(before, other_popped))
        });
        let form = match (first.form(), immediate, held) {
            (_, _, Some(held)) => PAIR_ACC + held,
            (form, false, None) if form >= operands::IS => PAIR_FIRST + form - operands::IS,
            (form, true, None) if form >= operands::IS => return false,
            (form, true, None) => PAIR_IMMEDIATE + form,
            (form, false, None) => form,
        };
        self.out.retract();
        if let (Some(before), true, Place::Slot) =
            (self.out.last, held.is_some(), other_popped.place)
        {
            // Nobody else reads what had to make room for the first operator's result.
            self.out.code[before] -= 1;
        }
        let start = self.out.emit(pair.form(form), word);
        self.out.push(third);
        self.result(start, result);
        true
    }

    fn emit_binary(
        &mut self,
        family: Family,
        left: Operand,
        right: Operand,
        operand_type: ValType,
        result: ValType,
    ) {
        let (form, word, immediate) = match (left, right) {
            (Operand::Slot(a), Operand::Slot(b)) => (operands::SS, a << 16 | b << 32, None),
            (Operand::Acc, Operand::Slot(b)) => (operands::AS, b << 32, None),
            (Operand::Slot(a), Operand::Imm(value, _)) => (operands::SI, a << 16, Some(value)),
            (Operand::Acc, Operand::Imm(value, _)) => (operands::AI, 0, Some(value)),
            (Operand::Slot(a), _) => (operands::SA, a << 16, None),
            (Operand::Imm(value, _), Operand::Slot(b)) => (operands::IS, b << 16, Some(value)),
            (Operand::Imm(value, _), _) => (operands::IA, 0, Some(value)),
            (Operand::Acc, Operand::Acc) => (operands::AA, 0, None),
        };
        let counts = counts_bits(family) && form < operands::IS;
        let wide = operand_type != ValType::I32 && !counts;
        let word = match immediate {
            Some(value) if !wide => word | u64::from(value as u32) << 32,
            _ => word,
        };
        let start = self.emit_operator(family, form, word);
        if let Operand::Imm(_, Some(cell)) = right {
            self.relocate(start + 1, true, cell, 0);
        }
        if let (Some(value), true) = (immediate, wide) {
            self.out.push(value);
        }
        self.result(start, result);
    }

    /// Emits a value operator; notes its place if it can trap.
    fn emit_operator(&mut self, family: Family, form: u16, word: u64) -> usize {
        use Family::*;
        let between =
            |first: Family, last: Family| (first as u16..=last as u16).contains(&(family as u16));
        let traps = between(I32DivS, I32RemU)
            || between(I64DivS, I64RemU)
            || between(I32TruncF32S, I64TruncF64U);
        if traps {
            self.out.emit_at(family.form(form), word)
        } else {
            self.out.emit(family.form(form), word)
        }
    }

    /// An operator with one operand.
    pub(super) fn unary(&mut self, family: Family, result: ValType) {
        let mut x = self.pop();
        self.free_acc(class(result));
        if class(result) == 0 {
            x = self.force(x);
        }
        let operand = self.operand(x, false);
        let start = match self.regain(x, operand) {
            Operand::Slot(a) => self.emit_operator(family, 0, a << 16),
            _ => self.emit_operator(family, 2, 0),
        };
        self.result(start, result);
    }

    /// `eqz`: inverts the comparison or test that made the value, or compares with zero.
    pub(super) fn equals_zero(&mut self, family: Family, ty: ValType) {
        if let Some(top) = self.stack.last()
            && let Place::Acc { producer } = top.place
            && self.out.last == Some(producer)
            && top.ty == ty
        {
            let op = self.out.op(producer);
            let plain = op.form().is_multiple_of(2);
            let inverse = match op.comparison() {
                Some((comparison, form)) => comparison.inverse().map(|inverse| inverse.form(form)),
                None if plain && op.is(Family::I32And) => Some(Family::I32Ntst.form(op.form())),
                None if plain && op.is(Family::I64And) => Some(Family::I64Ntst.form(op.form())),
                None => None,
            };
            if let Some(inverse) = inverse {
                self.out.code[producer] = u64::from(inverse.0);
                if let Some(top) = self.stack.last_mut() {
                    top.ty = ValType::I32;
                }
                return;
            }
        }
        self.push(Place::Const(0), ty);
        self.binary(family, ValType::I32, true);
    }

    /// `select`.
    pub(super) fn select(&mut self) {
        let condition = self.pop();
        let y = self.pop();
        let x = self.pop();
        self.max_height = self.max_height.max(self.stack.len() + 5);
        let ty = y.ty;
        if !ty.is_float() && self.select_by_comparison(condition, x, y) {
            return;
        }
        let condition_in_acc = condition.is_acc();
        let x_slot = self.slot_operand(x);
        let y_slot = self.slot_operand(y);
        self.free_acc(class(ty));
        let condition = if condition_in_acc {
            Operand::Acc
        } else {
            self.operand(condition, false)
        };
        let family = if ty.is_float() {
            Family::SelectF
        } else {
            Family::Select
        };
        let word = x_slot << 16 | y_slot << 32;
        let start = match condition {
            Operand::Slot(slot) => self.out.emit(family.form(0), word | slot << 48),
            _ => self.out.emit(family.form(2), word),
        };
        self.result(start, ty);
    }

    /// If an integer comparison was just made for the select: one instruction. A value that the instruction before made
    /// stays in the accumulator.
    fn select_by_comparison(&mut self, condition: Popped, x: Popped, y: Popped) -> bool {
        let Place::Acc { producer } = condition.place else {
            return false;
        };
        if self.out.last != Some(producer) {
            return false;
        }
        let op = self.out.op(producer);
        let (family, form) = match op.comparison() {
            Some((family, form)) if family.compares_integers() => (family, form),
            None if op.is(Family::I32And)
                && op.form() < operands::IS
                && op.form().is_multiple_of(2) =>
            {
                (Family::I32Tst, op.form())
            }
            _ => return false,
        };
        let relocated = self
            .out
            .relocations
            .last()
            .is_some_and(|field| field.word > producer);
        let mut word = self.out.code[producer + 1];
        // The operands' places as the select forms have them: ss as si ai.
        let (form, word_of_b) = match form {
            operands::SS => (0, word >> 32 & 0xffff),
            operands::AS => (2, word >> 32 & 0xffff),
            operands::SI => (4, word >> 32),
            operands::AI => (6, word >> 32),
            _ => return false,
        };
        word = word & 0xffff_0000 | word_of_b << 32;
        match self.out.code.get(producer + 2) {
            _ if relocated => return false,
            None => {}
            Some(value) if i32::try_from(*value as i64).is_ok() => {
                word |= u64::from(*value as u32) << 32;
            }
            Some(_) => return false,
        }
        // With an operand in the accumulator the values are in slots.
        let before = self.out.before.filter(|_| form == 0 || form == 4);
        let (x_in_acc, y_in_acc) = match before {
            Some(before) if self.makes(before, y) => (false, true),
            Some(before) if self.makes(before, x) => (true, false),
            _ => (false, false),
        };
        self.out.retract();
        let mut more = 0;
        if !x_in_acc {
            more |= self.slot_operand(x);
        }
        if !y_in_acc {
            more |= self.slot_operand(y) << 16;
        }
        let form = match (x_in_acc, y_in_acc, form) {
            (true, _, form) => 8 + form / 2,
            (_, true, form) => 12 + form / 2,
            (_, _, form) => form,
        };
        let start = self.out.emit(family.form(SELECT + form), word);
        self.out.push(more);
        self.result(start, y.ty);
        true
    }

    /// Whether the instruction leaves the value in the accumulator as well as in its slot.
    fn makes(&self, instruction: usize, popped: Popped) -> bool {
        let slot = match popped.place {
            Place::Slot => self.height_slot(popped.height),
            Place::Local(local) => self.local_slot(local),
            _ => return false,
        };
        !self.far
            && self.out.op(instruction).stores_result()
            && self.out.code[instruction + 1] & 0xffff == u64::from(slot)
    }

    /// A branch that is taken if the popped value is not zero (or is zero); its displacement is still open.
    pub(super) fn branch_on(&mut self, nonzero: bool) -> Fixup {
        let popped = self.pop();
        if let Place::Acc { producer } = popped.place
            && self.out.last == Some(producer)
            && let Some(fixup) = self.branch_on_comparison(producer, nonzero)
        {
            return fixup;
        }
        if let Some(fixup) = self.branch_on_load(popped, nonzero) {
            return fixup;
        }
        let popped = if self.acc_taken(0) {
            popped
        } else {
            self.force(popped)
        };
        if let Place::Local(local) = popped.place
            && let Some(fixup) = self.branch_on_update(local, nonzero)
        {
            return fixup;
        }
        let family = if nonzero { Family::BrNz } else { Family::BrZ };
        let start = match self.operand(popped, false) {
            Operand::Slot(slot) => self.out.emit(family.form(0), slot),
            _ => match self.out.last {
                // The accumulator was just kept in a slot.
                Some(last) if self.out.op(last) == Family::Copy.form(1) => {
                    self.out.code[last] = u64::from(family.form(2).0);
                    last
                }
                _ => self.out.emit(family.form(1), 0),
            },
        };
        Fixup::Displacement { start, field: 12 }
    }

    /// The load that was the last instruction decides the branch: one instruction.
    fn branch_on_load(&mut self, popped: Popped, nonzero: bool) -> Option<Fixup> {
        let last = self.out.last?;
        let op = self.out.op(last);
        let family = match () {
            () if op.is(Family::I32Load) => Family::LoadBr,
            () if op.is(Family::I32Load8U) => Family::LoadBr8,
            () => return None,
        };
        let stores = op.form() % 2;
        let is_value = match popped.place {
            Place::Acc { producer } => producer == last,
            Place::Local(local) => stores == 1 && self.acc_local[0] == Some(local),
            _ => false,
        };
        let (address, constant) = match op.form() - stores {
            address::SLOT => (0, 0),
            address::SLOT_IMM => (4, *self.out.code.get(last + 2)?),
            address::ACC => (8, 0),
            _ => return None,
        };
        if !is_value || self.out.is_relocated(last) {
            return None;
        }
        let form = address + stores * 2 + u16::from(nonzero);
        self.out.code[last] = u64::from(family.form(form).0);
        self.out.code.truncate(last + 2);
        self.out.push(constant & 0xffff_ffff);
        Some(Fixup::Displacement {
            start: last,
            field: 20,
        })
    }

    /// `local += constant` was the last instruction and decides the branch: one instruction.
    fn branch_on_update(&mut self, local: u32, nonzero: bool) -> Option<Fixup> {
        let last = self.out.last?;
        let slot = u64::from(self.local_slot(local));
        let fits = self.acc_local[0] == Some(local)
            && self.out.op(last) == Family::I32Add.form(operands::SI + 1)
            && self.out.code[last + 1] & 0xffff == slot;
        if !fits {
            return None;
        }
        self.out.code[last] = u64::from(Family::AddBrZ.form(u16::from(nonzero)).0);
        self.out.push(0);
        Some(Fixup::Displacement {
            start: last,
            field: 16,
        })
    }

    /// The comparison at `producer` (or a bit test) becomes the branch.
    fn branch_on_comparison(&mut self, producer: usize, nonzero: bool) -> Option<Fixup> {
        let op = self.out.op(producer);
        let (family, form) = match op.comparison() {
            Some(comparison) => comparison,
            None if op.is(Family::I32And) && op.form().is_multiple_of(2) => {
                (Family::I32Tst, op.form())
            }
            None => return None,
        };
        let family = if nonzero { family } else { family.inverse()? };
        let word = self.out.code[producer + 1];
        let wide = self.out.code.get(producer + 2).copied();
        let before = self.out.before;
        // The immediate moves to another word; so does the relocation of a cell's value.
        let cell = self
            .out
            .relocations
            .last()
            .copied()
            .filter(|field| field.word > producer);
        self.out.retract();
        self.acc_local[0] = self.before_result.take().map(|(_, local)| local);
        if let Some(fixup) = self.branch_after_update(family, form, word, producer, before) {
            if let (Some(field), Fixup::Displacement { start, .. }) = (cell, fixup) {
                let field = Field {
                    word: start + 3,
                    high: false,
                    ..field
                };
                self.out.budget.push(&mut self.out.relocations, field);
            }
            return Some(fixup);
        }
        let (a, b) = (word >> 16 & 0xffff, word >> 32 & 0xffff);
        let immediate = matches!(form, operands::SI | operands::AI);
        if immediate
            && cell.is_none()
            && word >> 32 == 0
            && matches!(family, Family::I32Eq | Family::I32Ne)
        {
            let test = if family == Family::I32Eq {
                Family::BrZ
            } else {
                Family::BrNz
            };
            let start = match form {
                operands::SI => self.out.emit(test.form(0), a),
                _ => self.out.emit(test.form(1), 0),
            };
            return Some(Fixup::Displacement { start, field: 12 });
        }
        let fields = match form {
            operands::SS => a | b << 16,
            operands::AS => b << 16,
            operands::SA | operands::SI => a,
            _ => 0,
        };
        let start = self.out.emit(family.form(BRANCH + form / 2), fields);
        if immediate {
            // Only 32-bit integers have their immediate inside word 1.
            let immediate = if compares_i32(family) { None } else { wide };
            self.out.push(immediate.unwrap_or(word >> 32));
            if let Some(field) = cell {
                let field = Field {
                    word: start + 2,
                    high: false,
                    ..field
                };
                self.out.budget.push(&mut self.out.relocations, field);
            }
        }
        Some(Fixup::Displacement { start, field: 12 })
    }

    /// The compared accumulator was just made by `local += constant`: update, comparison and branch in one.
    fn branch_after_update(
        &mut self,
        family: Family,
        form: u16,
        word: u64,
        producer: usize,
        before: Option<usize>,
    ) -> Option<Fixup> {
        let update = before?;
        let kind = (family as u16).checked_sub(Family::I32Eq as u16)?;
        let fits = kind <= Family::I32GeU as u16 - Family::I32Eq as u16
            && matches!(form, operands::AS | operands::AI)
            && update + 2 == producer;
        let adds_slot = if self.out.op(update) == Family::I32Add.form(operands::SI + 1) {
            0
        } else if self.out.op(update) == Family::I32Add.form(operands::SS + 1) {
            2
        } else {
            return None;
        };
        if !fits {
            return None;
        }
        let immediate = form == operands::AI;
        let form = adds_slot + u16::from(immediate);
        let op = Op((Family::AddBrEq as u16 + kind) * crate::ir::ops::FORMS as u16 + form);
        self.out.code[update] = u64::from(op.0);
        if immediate {
            self.out.push(0);
            self.out.push(word >> 32);
        } else {
            self.out.push((word >> 32 & 0xffff) << 32);
        }
        Some(Fixup::Displacement {
            start: update,
            field: 16,
        })
    }
}

/// Whether a constant is what 32 bits become when they are sign-extended to the operator's type.
fn is_short(family: Family, value: u64) -> bool {
    (family as u16) < Family::I64Add as u16
        || counts_bits(family)
        || i32::try_from(value as i64).is_ok()
}

/// Whether a comparison compares 32-bit integers.
fn compares_i32(family: Family) -> bool {
    (Family::I32Eq as u16..=Family::I32Nbit as u16).contains(&(family as u16))
}

/// Whether the second operand of an i64 operator is a number of bits, which 32 bits hold.
fn counts_bits(family: Family) -> bool {
    (Family::I64Shl as u16..=Family::I64Rotr as u16).contains(&(family as u16))
}
