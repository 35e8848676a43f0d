//! The virtual operand stack: where each value is, and how it gets into a slot or an operand.

use super::emit::NONE;
use super::{Field, NEAR, SCRATCH_SLOTS, Translator, class};
use crate::ir::ops::Family;
use crate::module::ValType;

/// Entries at the top of the stack that may be unsettled. Compilers keep fewer than ten; the bound
/// keeps the scans of `local.set` constant on hostile input.
pub(super) const LAZY: usize = 32;

/// Where a value of the stack is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Place {
    /// A constant, as a slot value.
    Const(u64),
    /// The value of the linker's cell with this number plus a constant.
    Cell { cell: u32, addend: u32 },
    /// What the local holds now.
    Local(u32),
    /// An i32 local plus a constant.
    Sum(u32, u32),
    /// `[base +] (index << shift) + offset`, i32.
    Scaled {
        base: Option<u32>,
        index: u32,
        shift: u8,
        offset: u32,
    },
    /// The slot of its height.
    Slot,
    /// The accumulator of its class. `producer` is the instruction whose form + 1 also writes slot d,
    /// or `NONE`.
    Acc { producer: usize },
}

/// A value of the stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub place: Place,
    pub ty: ValType,
}

/// An operand as instructions take it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Operand {
    /// A slot offset, near.
    Slot(u64),
    Acc,
    /// A constant as a slot value; of a cell, its number and the constant added to it.
    Imm(u64, Option<(u32, u32)>),
}

/// A value taken from the stack, with the height it had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Popped {
    pub place: Place,
    pub ty: ValType,
    pub height: usize,
}

impl Popped {
    pub fn is_acc(&self) -> bool {
        matches!(self.place, Place::Acc { .. })
    }
}

impl Translator<'_> {
    /// Slot offset of a local. Parameters come first, then the scratch slots of a far frame.
    pub fn local_slot(&self, local: u32) -> u32 {
        let scratch = if self.far && local as usize >= self.params {
            SCRATCH_SLOTS as u32
        } else {
            0
        };
        (local + scratch) * 8
    }

    /// Slot offset of a stack height.
    pub fn height_slot(&self, height: usize) -> u32 {
        let scratch = if self.far { SCRATCH_SLOTS } else { 0 };
        ((self.locals.len() + scratch + 1 + height) * 8) as u32
    }

    /// A slot that nobody reads, for the results of calls that are only wanted in the accumulator: the one below the operand
    /// stack, or a scratch slot.
    pub fn dead_slot(&self) -> u64 {
        let slot = self.height_slot(0) - 8;
        u64::from(if slot > NEAR {
            self.params as u32 * 8
        } else {
            slot
        })
    }

    pub fn push(&mut self, place: Place, ty: ValType) {
        self.stack.push(Item { place, ty });
        self.max_height = self.max_height.max(self.stack.len() + 2);
        if self.stack.len() > self.settled + LAZY {
            self.settle(self.settled);
            self.settled += 1;
        }
    }

    /// Validated code never pops an empty stack; a default keeps the translator total.
    pub fn pop(&mut self) -> Popped {
        let item = self.stack.pop().unwrap_or(Item {
            place: Place::Const(0),
            ty: ValType::I32,
        });
        self.settled = self.settled.min(self.stack.len());
        Popped {
            place: item.place,
            ty: item.ty,
            height: self.stack.len(),
        }
    }

    /// Drops entries above a height.
    pub fn truncate(&mut self, height: usize) {
        self.stack.truncate(height);
        self.settled = self.settled.min(height);
    }

    /// A slot that instructions can read: far ones are copied to a scratch slot first.
    pub fn near(&mut self, offset: u32) -> u64 {
        if offset <= NEAR || !self.far {
            return u64::from(offset) & 0xffff;
        }
        let scratch = self.next_scratch();
        self.out
            .emit(Family::CopyFar.form(0), scratch | u64::from(offset) << 32);
        scratch
    }

    /// Offset of the next scratch slot; none is used again before the instruction that needs it is emitted.
    pub fn next_scratch(&mut self) -> u64 {
        let slot = self.params as u64 + u64::from(self.scratch);
        self.scratch = (self.scratch + 1) % SCRATCH_SLOTS as u32;
        slot * 8
    }

    /// A near slot to write for `offset`; `written` brings it to its place.
    pub fn target(&mut self, offset: u32) -> u64 {
        if offset <= NEAR || !self.far {
            u64::from(offset) & 0xffff
        } else {
            self.next_scratch()
        }
    }

    /// What was written to `target(offset)` goes to its place.
    pub fn written(&mut self, target: u64, offset: u32) {
        if offset > NEAR && self.far {
            self.out
                .emit(Family::CopyFar.form(1), target | u64::from(offset) << 32);
        }
    }

    /// `dst = src`, both slots.
    pub fn copy(&mut self, dst: u32, src: u32) {
        if dst == src {
            return;
        }
        if self.far && (dst > NEAR || src > NEAR) {
            let near = self.near(src);
            if dst > NEAR {
                self.out
                    .emit(Family::CopyFar.form(1), near | u64::from(dst) << 32);
            } else {
                self.out
                    .emit(Family::Copy.form(0), u64::from(dst) | near << 16);
            }
            return;
        }
        let (dst, src) = (u64::from(dst) & 0xffff, u64::from(src) & 0xffff);
        if !self.out.join_slot(dst, src) {
            self.out.emit(Family::Copy.form(0), dst | src << 16);
        }
    }

    /// `dst = constant`.
    pub fn copy_const(&mut self, dst: u32, value: u64) {
        let target = self.target(dst);
        if !(self.far && dst > NEAR)
            && let Ok(value) = u32::try_from(value)
            && self.out.join_constant(target, value).is_some()
        {
            return;
        }
        self.out.emit(Family::Copy.form(3), target);
        self.out.push(value);
        self.written(target, dst);
    }

    /// `dst = cell + addend`.
    fn copy_cell(&mut self, dst: u32, cell: u32, addend: u32) {
        let target = self.target(dst);
        let value = self.cell_value(cell, addend);
        if !(self.far && dst > NEAR)
            && let Some((word, high)) = self.out.join_constant(target, value as u32)
        {
            return self.relocate(word, high, (cell, addend), 0);
        }
        let start = self.out.emit(Family::Copy.form(3), target);
        self.out.push(value);
        self.relocate(start + 2, false, (cell, addend), 0);
        self.written(target, dst);
    }

    /// What a cell plus a constant is at present.
    pub fn cell_value(&self, cell: u32, addend: u32) -> u64 {
        let value = self.cells.get(cell as usize).map_or(0, |cell| cell.1);
        u64::from(value.wrapping_add(addend))
    }

    /// The u32 at this half of a word is the cell's value plus a constant, plus an offset that does not wrap.
    pub fn relocate(&mut self, word: usize, high: bool, cell: (u32, u32), offset: u32) {
        if let Some((global, _)) = self.cells.get(cell.0 as usize).copied() {
            let field = Field {
                word,
                high,
                global,
                addend: cell.1,
                offset,
            };
            self.out.budget.push(&mut self.out.relocations, field);
        }
    }

    /// Something may change cells: values that were read before stay what they were.
    pub fn settle_cells(&mut self) {
        for height in self.lazy_from()..self.stack.len() {
            if matches!(self.stack[height].place, Place::Cell { .. }) {
                self.settle(height);
            }
        }
    }

    /// `dst = accumulator of the class`.
    pub fn copy_acc(&mut self, dst: u32, class: usize) {
        if self.far && dst > NEAR {
            self.out
                .emit(Family::CopyFar.form(2 + class as u16), u64::from(dst) << 32);
        } else {
            self.out
                .emit(Family::Copy.form(1 + class as u16), u64::from(dst) & 0xffff);
        }
    }

    /// Makes the producer also write a slot; false if it cannot.
    fn patch(&mut self, producer: usize, dst: u32) -> bool {
        if producer == NONE || (self.far && dst > NEAR) {
            return false;
        }
        if let Some(words) = self.out.op(producer).call_words() {
            return self.name_result(producer + words - 2, dst);
        }
        if !self.out.op(producer).form().is_multiple_of(2) {
            // It writes a slot already (the entry was settled on a path that was left): only that one.
            return self.out.code[producer + 1] & 0xffff == u64::from(dst) & 0xffff;
        }
        self.out.code[producer] += 1;
        let word = &mut self.out.code[producer + 1];
        *word = *word & !0xffff | u64::from(dst) & 0xffff;
        true
    }

    /// Makes the call whose frame is described in this word put its result into a slot, as the return does that ends it;
    /// false if it puts it into another one already.
    fn name_result(&mut self, word: usize, dst: u32) -> bool {
        let dead_slot = self.dead_slot();
        let word = &mut self.out.code[word];
        let (named, dst) = (*word >> 48, u64::from(dst) & 0xffff);
        let dead = named == dead_slot;
        if dead {
            *word = *word & !(0xffff << 48) | dst << 48;
        }
        dead || named == dst
    }

    /// Brings the entry at a height into its slot.
    pub fn settle(&mut self, height: usize) {
        if self.stack[height].place != Place::Slot {
            self.settle_to(height, self.height_slot(height));
            self.stack[height].place = Place::Slot;
        }
    }

    /// Brings the entry's value into any slot. The entry itself stays as it is.
    pub fn settle_to(&mut self, height: usize, dst: u32) {
        let Item { place, ty } = self.stack[height];
        self.place_to(place, ty, height, dst);
    }

    /// Brings a value into any slot.
    pub fn place_to(&mut self, place: Place, ty: ValType, height: usize, dst: u32) {
        match place {
            Place::Slot => self.copy(dst, self.height_slot(height)),
            Place::Const(value) => self.copy_const(dst, value),
            Place::Cell { cell, addend } => self.copy_cell(dst, cell, addend),
            Place::Local(local) => self.copy(dst, self.local_slot(local)),
            Place::Sum(local, constant) => self.add_to(dst, local, constant),
            Place::Scaled { .. } => self.scaled_to(place, dst),
            Place::Acc { producer } => {
                // The entry's own slot has no other use since the producer ran; any other place may have
                // had one, so there the producer must be the last instruction.
                let own = dst == self.height_slot(height) || self.out.last == Some(producer);
                if !(own && self.patch(producer, dst)) {
                    self.copy_acc(dst, class(ty));
                }
            }
        }
    }

    /// `dst = local + constant`, the accumulator stays.
    pub fn add_to(&mut self, dst: u32, local: u32, constant: u32) {
        let source = self.near(self.local_slot(local));
        let target = self.target(dst);
        self.out.emit(
            Family::AddSlot.form(0),
            target | source << 16 | u64::from(constant) << 32,
        );
        self.written(target, dst);
    }

    /// `dst = scaled address`, the accumulator stays.
    pub fn scaled_to(&mut self, place: Place, dst: u32) {
        let target = self.target(dst);
        self.lea(place, 2, target);
        self.written(target, dst);
    }

    /// Emits a scaled address: form 0 accumulator, 1 slot and accumulator, 2 slot. Forms with a base are 4 higher.
    fn lea(&mut self, place: Place, form: u16, target: u64) -> usize {
        let Place::Scaled {
            base,
            index,
            shift,
            offset,
        } = place
        else {
            return NONE;
        };
        let index = self.near(self.local_slot(index));
        let (form, base) = match base {
            Some(base) => (form + 4, self.near(self.local_slot(base))),
            None => (form, 0),
        };
        let start = self.out.emit(
            Family::Lea.form(form),
            target | base << 16 | index << 32 | u64::from(shift) << 48,
        );
        self.out.push(u64::from(offset));
        start
    }

    /// A sum or scaled address into the integer accumulator, which no other entry occupies.
    pub fn force(&mut self, popped: Popped) -> Popped {
        let producer = match popped.place {
            Place::Scaled { .. } => self.lea(popped.place, 0, 0),
            Place::Sum(local, constant) => {
                let source = self.near(self.local_slot(local));
                self.out.emit(
                    Family::I32Add.form(6),
                    source << 16 | u64::from(constant) << 32,
                )
            }
            _ => return popped,
        };
        self.acc_local[0] = None;
        Popped {
            place: Place::Acc { producer },
            ..popped
        }
    }

    /// The lowest height that may be unsettled.
    pub fn lazy_from(&self) -> usize {
        self.settled
    }

    /// Frees the accumulator of a class: an entry in it goes to its slot.
    pub fn free_acc(&mut self, class_wanted: usize) {
        for height in self.lazy_from()..self.stack.len() {
            let item = self.stack[height];
            if matches!(item.place, Place::Acc { .. }) && class(item.ty) == class_wanted {
                self.settle(height);
            }
        }
    }

    /// Brings everything into slots.
    pub fn settle_all(&mut self) {
        for height in self.lazy_from()..self.stack.len() {
            self.settle(height);
        }
        self.settled = self.stack.len();
    }

    /// Whether an entry of the class is in the accumulator.
    pub fn acc_taken(&self, class_wanted: usize) -> bool {
        self.stack[self.lazy_from()..]
            .iter()
            .any(|item| matches!(item.place, Place::Acc { .. }) && class(item.ty) == class_wanted)
    }

    /// A value as an operand. With `immediate`, constants become immediates; otherwise they go to the slot
    /// of the value's height.
    pub fn operand(&mut self, popped: Popped, immediate: bool) -> Operand {
        match popped.place {
            Place::Acc { .. } => Operand::Acc,
            Place::Slot => Operand::Slot(self.near(self.height_slot(popped.height))),
            Place::Local(local) => {
                let class = class(popped.ty);
                if self.acc_local[class] == Some(local) && !self.acc_taken(class) {
                    Operand::Acc
                } else {
                    Operand::Slot(self.near(self.local_slot(local)))
                }
            }
            Place::Const(value) if immediate => Operand::Imm(value, None),
            Place::Cell { cell, addend } if immediate => {
                Operand::Imm(self.cell_value(cell, addend), Some((cell, addend)))
            }
            place => {
                let slot = self.height_slot(popped.height);
                self.max_height = self.max_height.max(popped.height + 3);
                self.place_to(place, popped.ty, popped.height, slot);
                Operand::Slot(self.near(slot))
            }
        }
    }

    /// The accumulator in place of the slot of a local that it held before the last instruction, if that one's result is in
    /// a slot too: then it need not overwrite the accumulator, and the local does not have to come back from its slot.
    pub fn regain(&mut self, popped: Popped, operand: Operand) -> Operand {
        let (Place::Local(local), Operand::Slot(slot), Some(last)) =
            (popped.place, operand, self.out.last)
        else {
            return operand;
        };
        let fits = self.before_result == Some((last, local))
            && !self.far
            && class(popped.ty) == 0
            && self.out.code[last + 1] & 0xffff != slot
            && !self.acc_taken(0);
        match self.out.op(last).keeping() {
            Some(op) if fits => {
                self.out.code[last] = u64::from(op.0);
                self.acc_local[0] = Some(local);
                self.before_result = None;
                Operand::Acc
            }
            _ => operand,
        }
    }

    /// A value as a slot operand: never the accumulator.
    pub fn slot_operand(&mut self, popped: Popped) -> u64 {
        match popped.place {
            Place::Local(local) => self.near(self.local_slot(local)),
            Place::Slot => self.near(self.height_slot(popped.height)),
            place => {
                let slot = self.height_slot(popped.height);
                self.max_height = self.max_height.max(popped.height + 3);
                self.place_to(place, popped.ty, popped.height, slot);
                self.near(slot)
            }
        }
    }

    /// The result of the instruction at `producer` (its form + 1 also writes slot d).
    pub fn result(&mut self, producer: usize, ty: ValType) {
        let before = self.acc_local[class(ty)].take();
        self.before_result = before.map(|local| (producer, local));
        self.push(Place::Acc { producer }, ty);
    }

    /// Nothing is known of the accumulators: a label, or a call.
    pub fn forget_accumulators(&mut self) {
        self.acc_local = [None; 2];
    }

    /// `local.set` and, with `tee`, `local.tee`.
    pub fn local_set(&mut self, local: u32, tee: bool) {
        let popped = self.pop();
        // Entries that stand for the local's old value get it now.
        for height in self.lazy_from()..self.stack.len() {
            let uses = match self.stack[height].place {
                Place::Local(other) | Place::Sum(other, _) => other == local,
                Place::Scaled { base, index, .. } => index == local || base == Some(local),
                _ => false,
            };
            if uses {
                self.settle(height);
            }
        }
        let class = class(popped.ty);
        let dst = self.local_slot(local);
        let mut value = popped;
        if matches!(value.place, Place::Sum(..) | Place::Scaled { .. }) && !self.acc_taken(0) {
            value = self.force(value);
        }
        match value.place {
            // The same value: nothing to do.
            Place::Local(other) if other == local => {}
            Place::Acc { producer }
                if self.out.last == Some(producer) && self.patch(producer, dst) =>
            {
                self.acc_local[class] = Some(local);
                self.out.merge_steps();
            }
            Place::Acc { .. } => {
                self.copy_acc(dst, class);
                self.acc_local[class] = Some(local);
            }
            place => {
                self.place_to(place, value.ty, value.height, dst);
                if self.acc_local[class] == Some(local) {
                    self.acc_local[class] = None;
                }
            }
        }
        if tee {
            self.push(Place::Local(local), popped.ty);
        }
    }
}
