//! Blocks, branches, calls and returns.
//!
//! A label's values lie in the slots of the block's height. Code behind an unconditional branch is
//! skipped up to the end or `else` of its block.

use super::access::{LOAD_TWO_ACC, LOAD_TWO_SLOT, address};
use super::emit::{Fixup, NONE};
use super::locals::Assigned;
use super::loops::Head;
use super::stack::{Operand, Place, Popped};
use super::{Callee, NEAR, Translator};
use crate::error::Result;
use crate::ir::REMEMBERED;
use crate::ir::ops::Family;
use crate::module::{FuncType, ValType};
use wasmparser::BlockType;

/// Forms of returns: where the result is, and the same with the stack pointer going back.
mod returns {
    pub const ACC: u16 = 0;
    pub const SLOT: u16 = 1;
    pub const SLOT_F: u16 = 2;
    pub const IMM: u16 = 3;
    pub const SUM_ACC: u16 = 4;
    pub const SUM_SLOT: u16 = 5;
    pub const NONE: u16 = 6;
    pub const FACC: u16 = 7;
    pub const SUM_NONE: u16 = 8;
    pub const SUM_FACC: u16 = 9;
}

/// Forms of calls through a table that do more than to call: where the index comes from. The copies are added.
mod through {
    pub const SLOT: u16 = 0;
    pub const ACC: u16 = 4;
    pub const LOADED_SLOT: u16 = 8;
    pub const LOADED_ACC: u16 = 12;
    pub const TWICE_SLOT: u16 = 16;
    pub const TWICE_ACC: u16 = 20;
}

/// Arguments that a call copies: how (0: none), from where, to where, and what is added.
#[derive(Default)]
struct Copies {
    form: u16,
    targets: [u64; 2],
    sources: [u64; 2],
    constant: u64,
}

/// An open block.
pub(super) struct Block {
    /// Stack height below the block's parameters.
    height: usize,
    /// Where a branch to a loop goes.
    loop_start: Option<usize>,
    /// What a loop remembers of the accumulator.
    head: Option<Head>,
    ty: Signature,
    /// Branches to the end.
    fixups: Vec<Fixup>,
    /// The branch over the first arm of an `if`, until `else`.
    else_fixup: Option<Fixup>,
    /// It has a fuel check of its own.
    checked: bool,
    /// Locals that surely hold a value at its start, and on all branches to its end.
    assigned: Assigned,
}

/// The type of a block. Cheap to clone: blocks nest millions deep, and a type may have a thousand results.
#[derive(Clone)]
enum Signature {
    Empty,
    Result(ValType),
    Function(FuncType),
}

impl Signature {
    fn params(&self) -> &[ValType] {
        match self {
            Signature::Function(ty) => ty.params(),
            _ => &[],
        }
    }

    fn results(&self) -> &[ValType] {
        match self {
            Signature::Empty => &[],
            Signature::Result(ty) => std::slice::from_ref(ty),
            Signature::Function(ty) => ty.results(),
        }
    }
}

impl Translator<'_> {
    /// The check at function entry and loop heads, if the configuration wants one.
    pub(super) fn check(&mut self) -> bool {
        let form = match (self.config.fuel, self.config.interruption) {
            (false, false) => return false,
            (true, false) => 0,
            (false, true) => 1,
            (true, true) => 2,
        };
        let start = self.out.emit_at(Family::Check.form(form), 0);
        self.out.label();
        self.out.budget.push(&mut self.checks, (start, 0));
        true
    }

    /// Writes the costs of all checks above `keep`.
    pub(super) fn close_checks(&mut self, keep: usize) {
        while self.checks.len() > keep {
            if let Some((start, count)) = self.checks.pop() {
                self.out.code[start + 1] |= u64::from(count) << 32;
            }
        }
    }

    pub(super) fn open_function(&mut self, ty: &FuncType) {
        self.blocks.push(Block {
            height: 0,
            loop_start: None,
            head: None,
            ty: Signature::Function(FuncType::new([], ty.results().iter().copied())),
            fixups: Vec::new(),
            else_fixup: None,
            checked: false,
            assigned: self.zeroing.open(),
        });
    }

    fn block_type(&self, ty: BlockType) -> Result<Signature> {
        Ok(match ty {
            BlockType::Empty => Signature::Empty,
            BlockType::Type(ty) => Signature::Result(super::value_type(ty)?),
            BlockType::FuncType(index) => match self.module.0.types.get(index as usize) {
                Some(ty) => Signature::Function(ty.clone()),
                None => Signature::Empty,
            },
        })
    }

    pub(super) fn open_block(&mut self, ty: BlockType, is_loop: bool) -> Result<()> {
        let ty = self.block_type(ty)?;
        self.settle_all();
        let mut checked = false;
        let head = is_loop.then(|| self.loop_head());
        if is_loop {
            let outer = self
                .loops
                .last()
                .and_then(|outer| self.blocks.get_mut(*outer));
            if let Some(head) = outer.and_then(|outer| outer.head.as_mut()) {
                head.has_loop();
            }
            self.loops.push(self.blocks.len());
        }
        let loop_start = is_loop.then(|| {
            self.forget_accumulators();
            let start = self.out.label();
            checked = self.check();
            start
        });
        let height = self.stack.len().saturating_sub(ty.params().len());
        self.blocks.push(Block {
            height,
            loop_start,
            head,
            ty,
            fixups: Vec::new(),
            else_fixup: None,
            checked,
            assigned: self.zeroing.open(),
        });
        Ok(())
    }

    pub(super) fn open_if(&mut self, ty: BlockType) -> Result<()> {
        let ty = self.block_type(ty)?;
        // Everything below the condition goes to slots; that leaves the accumulator alone.
        let condition = self.stack.pop();
        self.settled = self.settled.min(self.stack.len());
        self.settle_all();
        self.stack.extend(condition);
        let fixup = self.branch_on(false);
        self.out.label();
        let height = self.stack.len().saturating_sub(ty.params().len());
        self.blocks.push(Block {
            height,
            loop_start: None,
            head: None,
            ty,
            fixups: Vec::new(),
            else_fixup: Some(fixup),
            checked: false,
            assigned: self.zeroing.open(),
        });
        Ok(())
    }

    pub(super) fn open_else(&mut self) {
        let Some(mut block) = self.blocks.pop() else {
            return;
        };
        if !self.dead {
            self.settle_from(block.height);
            let fixup = self.jump();
            self.out.budget.push(&mut block.fixups, fixup);
            self.zeroing.leave(&mut block.assigned);
        }
        self.zeroing.restart(&block.assigned);
        self.truncate(block.height);
        self.forget_accumulators();
        let here = self.out.label();
        if let Some(fixup) = block.else_fixup.take() {
            self.out.fix(fixup, here);
        }
        self.push_slots(block.ty.params());
        self.dead = false;
        self.blocks.push(block);
    }

    /// The end of a block; true at the end of the function.
    pub(super) fn end(&mut self) -> bool {
        let Some(block) = self.blocks.pop() else {
            return true;
        };
        if self.blocks.is_empty() {
            self.end_function(block);
            return true;
        }
        if let (Some(start), Some(head)) = (block.loop_start, &block.head) {
            self.loops.pop();
            self.carry_in_accumulator(start, head);
        }
        if !self.dead {
            self.settle_from(block.height);
        }
        let joined = !block.fixups.is_empty() || block.else_fixup.is_some();
        self.zeroing
            .join(&block.assigned, !self.dead, block.else_fixup.is_some());
        if joined || self.dead {
            self.forget_accumulators();
            let here = self.out.label();
            for fixup in block.fixups.into_iter().chain(block.else_fixup) {
                self.out.fix(fixup, here);
            }
        }
        if block.checked {
            let keep = self.checks.len() - 1;
            self.close_checks(keep);
        }
        self.truncate(block.height);
        self.push_slots(block.ty.results());
        // The rest is reachable if this end is, from above or by a branch; only code that
        // could be reached opens blocks.
        self.dead = self.dead && !joined;
        false
    }

    fn end_function(&mut self, block: Block) {
        if block.fixups.is_empty() {
            if !self.dead {
                self.return_values(block.ty.results());
            }
            return;
        }
        if !self.dead {
            self.settle_from(0);
        }
        self.forget_accumulators();
        let here = self.out.label();
        for fixup in block.fixups {
            self.out.fix(fixup, here);
        }
        self.truncate(0);
        self.push_slots(block.ty.results());
        self.return_values(block.ty.results());
    }

    /// Entries that lie in their slots.
    fn push_slots(&mut self, types: &[ValType]) {
        for ty in types {
            self.push(Place::Slot, *ty);
        }
    }

    fn settle_from(&mut self, height: usize) {
        for at in height.max(self.lazy_from())..self.stack.len() {
            self.settle(at);
        }
    }

    /// Values that a branch to the label carries.
    fn arity(&self, depth: u32) -> usize {
        self.blocks
            .len()
            .checked_sub(1 + depth as usize)
            .and_then(|index| self.blocks.get(index))
            .map_or(0, |block| match block.loop_start {
                Some(_) => block.ty.params().len(),
                None => block.ty.results().len(),
            })
    }

    /// Height at which the label expects its values.
    fn label_height(&self, depth: u32) -> usize {
        let index = self.blocks.len().saturating_sub(1 + depth as usize);
        self.blocks.get(index).map_or(0, |block| block.height)
    }

    /// Connects a branch with the label.
    fn link(&mut self, depth: u32, fixup: Fixup) {
        let index = self.blocks.len().saturating_sub(1 + depth as usize);
        if let Some(block) = self.blocks.get_mut(index) {
            match block.loop_start {
                Some(start) => {
                    if let Some(head) = &mut block.head {
                        head.branch(self.acc_local[0]);
                    }
                    self.out.fix(fixup, start);
                }
                None => {
                    self.out.budget.push(&mut block.fixups, fixup);
                    self.zeroing.leave(&mut block.assigned);
                }
            }
        }
    }

    /// Brings the values of a branch into the label's slots.
    fn carry(&mut self, depth: u32) {
        let count = self.arity(depth);
        let from = self.stack.len() - count.min(self.stack.len());
        let to = self.label_height(depth);
        if count == 1 && from != to {
            // A single value goes straight to the label's slot.
            let dst = self.height_slot(to);
            self.settle_to(from, dst);
            return;
        }
        // Several: first each to its own slot, so that none overwrites another's source; then down.
        self.settle_from(from);
        self.move_down(from, to, count);
    }

    /// Copies `count` settled values from one height to a lower one.
    fn move_down(&mut self, from: usize, to: usize, count: usize) {
        if from == to || count == 0 {
            return;
        }
        if count <= 2 {
            for i in 0..count {
                let (dst, src) = (self.height_slot(to + i), self.height_slot(from + i));
                self.copy(dst, src);
            }
        } else {
            self.copy_block(self.height_slot(to), self.height_slot(from), count);
        }
    }

    /// Copies a run of slots.
    fn copy_block(&mut self, dst: u32, src: u32, count: usize) {
        self.out.emit(
            Family::CopyBlock.form(0),
            u64::from(dst) | u64::from(src) << 32,
        );
        self.out.push(count as u64);
    }

    fn jump_to(&mut self, depth: u32) {
        let index = self.blocks.len().saturating_sub(1 + depth as usize);
        if let Some(start) = self.blocks.get(index).and_then(|block| block.loop_start)
            && self.out.repeat_loop_head(start)
        {
            return;
        }
        let fixup = self.jump();
        self.link(depth, fixup);
    }

    /// A jump; a copy that was emitted last is done by it.
    fn jump(&mut self) -> Fixup {
        let copy = self.out.last.map(|last| (last, self.out.op(last)));
        let start = match copy {
            Some((last, op)) if op == Family::Copy.form(0) || op == Family::Copy.form(4) => {
                let word = self.out.code[last + 1];
                self.out.retract();
                let form = if op == Family::Copy.form(0) { 1 } else { 2 };
                let start = self.out.emit(Family::Jump.form(form), word & 0xffff_ffff);
                if form == 2 {
                    self.out.push(word >> 32);
                }
                start
            }
            Some((last, op)) if op == Family::Copy.form(3) && !self.out.is_relocated(last) => {
                let (word, value) = (self.out.code[last + 1], self.out.code[last + 2]);
                self.out.retract();
                let start = self.out.emit(Family::Jump.form(3), word);
                self.out.push(value);
                start
            }
            _ => self.out.emit(Family::Jump.form(0), 0),
        };
        Fixup::Displacement { start, field: 12 }
    }

    pub(super) fn branch(&mut self, depth: u32) {
        if depth as usize + 1 == self.blocks.len() {
            return self.return_now();
        }
        self.carry(depth);
        self.jump_to(depth);
        self.dead = true;
    }

    pub(super) fn branch_if(&mut self, depth: u32) {
        if self.arity(depth) == 0 {
            let fixup = self.branch_on(true);
            self.link(depth, fixup);
            return;
        }
        // Over the code that brings the values along. What it settles is not settled on the other path.
        let over = self.branch_on(false);
        self.out.label();
        let lazy = self.lazy_from();
        let mut unsettled = Vec::new();
        if super::emit::room_for(&mut unsettled, self.stack.len() - lazy).is_err() {
            return self.out.budget.fail_without_memory();
        }
        unsettled.extend_from_slice(&self.stack[lazy..]);
        self.carry(depth);
        self.jump_to(depth);
        self.stack.truncate(lazy);
        self.stack.extend(unsettled);
        let here = self.out.label();
        self.out.fix(over, here);
    }

    pub(super) fn branch_table(&mut self, targets: Vec<u32>) -> Result<()> {
        let index = self.pop();
        let count = targets.last().map_or(0, |depth| self.arity(*depth));
        let from = self.stack.len() - count.min(self.stack.len());
        if count > 0 {
            self.settle_from(from);
        }
        let (form, word) = match self.operand(index, false) {
            Operand::Slot(slot) => (0, slot),
            _ => (1, 0),
        };
        let last = targets.len() - 1;
        let start = self
            .out
            .emit(Family::BrTable.form(form), word | (last as u64) << 32);
        for _ in 0..targets.len() * 2 {
            self.out.push(0);
        }
        self.out.label();
        for (i, depth) in targets.into_iter().enumerate() {
            let word = start + 2 + 2 * i + 1;
            self.out.jump_entries.push(word as u32);
            let entry = Fixup::Entry { word };
            let is_return = depth as usize + 1 == self.blocks.len();
            if count == 0 || (!is_return && self.label_height(depth) == from) {
                self.link(depth, entry);
                continue;
            }
            // The values have to move: a piece of code of the entry's own. There can be millions of them.
            self.out.within_limit(count)?;
            let here = self.out.label();
            self.out.fix(entry, here);
            self.move_down(from, self.label_height(depth), count);
            self.jump_to(depth);
        }
        self.dead = true;
        Ok(())
    }

    /// `return`, or a branch to the function's label.
    pub(super) fn return_now(&mut self) {
        let ty = self
            .blocks
            .first()
            .map_or(Signature::Empty, |block| block.ty.clone());
        self.return_values(ty.results());
        self.dead = true;
    }

    /// Leaves the function with the values on top of the stack.
    fn return_values(&mut self, results: &[ValType]) {
        match results {
            [] => {
                if !self.return_behind_sum(returns::SUM_NONE, 0) {
                    self.out.emit(Family::Return.form(returns::NONE), 0);
                }
            }
            [ty] => {
                let popped = self.pop();
                if self.return_of_operator(popped) {
                    return;
                }
                // The immediate of a return is 32 bits wide.
                let narrow = match popped.place {
                    Place::Const(value) => {
                        *ty == ValType::I32 || i32::try_from(value as i64).is_ok()
                    }
                    _ => false,
                };
                let operand = self.operand(popped, narrow && !ty.is_float());
                let returned = match operand {
                    Operand::Acc if ty.is_float() => self.return_behind_sum(returns::SUM_FACC, 0),
                    Operand::Acc => self.return_behind_sum(returns::SUM_ACC, 0),
                    Operand::Slot(slot) if !ty.is_float() => {
                        self.return_behind_sum(returns::SUM_SLOT, slot)
                    }
                    _ => false,
                };
                if returned {
                    return;
                }
                let (form, word) = match operand {
                    Operand::Acc if ty.is_float() => (returns::FACC, 0),
                    Operand::Acc => (returns::ACC, 0),
                    Operand::Slot(slot) if ty.is_float() => (returns::SLOT_F, slot << 16),
                    Operand::Slot(slot) => (returns::SLOT, slot << 16),
                    Operand::Imm(value, _) => (returns::IMM, u64::from(value as u32) << 32),
                };
                self.out.emit(Family::Return.form(form), word);
            }
            _ => {
                let from = self.stack.len() - results.len().min(self.stack.len());
                self.settle_from(from);
                self.copy_block(0, self.height_slot(from), results.len());
                self.out.emit(Family::Return.form(returns::NONE), 0);
            }
        }
    }

    /// The operator that was the last instruction makes the function's only result: it returns.
    fn return_of_operator(&mut self, popped: Popped) -> bool {
        let Place::Acc { producer } = popped.place else {
            return false;
        };
        if self.out.last != Some(producer) {
            return false;
        }
        let op = self.out.op(producer);
        match op.returning() {
            Some(op) => self.out.code[producer] = u64::from(op.0),
            None => return false,
        }
        true
    }

    /// The last instruction put a sum into a global, as functions do that give their part of the stack back: it returns, in
    /// this form, with the result in this slot or in an accumulator.
    fn return_behind_sum(&mut self, form: u16, slot: u64) -> bool {
        let Some(last) = self.out.last else {
            return false;
        };
        if self.out.op(last) != Family::GlobalSet.form(4) {
            return false;
        }
        self.out.code[last] = u64::from(Family::Return.form(form).0);
        self.out.code[last + 1] |= slot << 16;
        true
    }

    /// Brings the arguments of a call to the first slots of the callee's frame, two slots above their own
    /// places (the return ip and the caller's frame lie between); gives the height below them.
    fn arguments(&mut self, count: usize) -> usize {
        let base = self.stack.len() - count.min(self.stack.len());
        for height in self.lazy_from()..base {
            // The callee uses the accumulators, and it may change cells.
            if matches!(
                self.stack[height].place,
                Place::Acc { .. } | Place::Cell { .. }
            ) {
                self.settle(height);
            }
        }
        self.max_height = self.max_height.max(self.stack.len() + 4);
        // Values in slots first, from the last one down: each goes up by two and must not meet one that
        // still waits. Then those that are elsewhere.
        let in_slots = self.settled.clamp(base, self.stack.len());
        for height in (in_slots..self.stack.len()).rev() {
            if self.stack[height].place == Place::Slot {
                let dst = self.height_slot(height + 2);
                self.settle_to(height, dst);
            }
        }
        if in_slots - base > 4 {
            // A long run goes up in one instruction.
            let (dst, src) = (self.height_slot(base + 2), self.height_slot(base));
            self.copy_block(dst, src, in_slots - base);
        } else {
            for height in (base..in_slots).rev() {
                let dst = self.height_slot(height + 2);
                self.settle_to(height, dst);
            }
        }
        for height in in_slots..self.stack.len() {
            if self.stack[height].place != Place::Slot {
                let dst = self.height_slot(height + 2);
                self.settle_to(height, dst);
            }
        }
        base
    }

    /// Takes the arguments off and puts the results on: a single one is in an accumulator, and the call can put it into a
    /// slot, too.
    fn called(&mut self, base: usize, results: &[ValType]) {
        self.truncate(base);
        self.forget_accumulators();
        let producer = self.out.last.unwrap_or(NONE);
        match results {
            [] => {}
            [ty] => self.push(Place::Acc { producer }, *ty),
            _ => {
                self.max_height = self.max_height.max(base + 2 + results.len());
                let (dst, src) = (self.height_slot(base), self.height_slot(base + 2));
                self.copy_block(dst, src, results.len());
                self.push_slots(results);
            }
        }
    }

    fn function_type(&self, index: u32) -> Option<FuncType> {
        let ty = self.module.0.funcs.get(index as usize)?;
        self.module.0.types.get(*ty as usize).cloned()
    }

    pub(super) fn call(&mut self, index: u32) {
        let Some(ty) = self.function_type(index) else {
            return;
        };
        let callee = self.environment.callee(index);
        let base = self.arguments(ty.params().len());
        let delta = self.height_slot(base + 2);
        if self.far && delta > NEAR {
            let word = self.callee_frame(delta);
            self.out.emit_at(Family::CallFar.form(0), word);
        } else if self.call_with_copy(delta, &callee) {
            return self.called(base, ty.results());
        } else {
            let last = self.take_last_argument();
            let word = self.callee_frame(delta);
            match last {
                Some((class, slot)) => self
                    .out
                    .emit_at(Family::Call.form(1 + class), word | slot << 16),
                None => self.out.emit_at(Family::Call.form(0), word),
            };
        }
        self.out.push(callee.code);
        self.called(base, ty.results());
    }

    /// The word of a call that says where the callee's frame is and which slot gets the result: for the time being one that
    /// nobody reads; see [`Self::name_result`](Translator::name_result).
    fn callee_frame(&self, delta: u32) -> u64 {
        u64::from(delta) | self.dead_slot() << 48
    }

    /// If the last instruction makes arguments of slots or a constant: it becomes part of the call.
    fn call_with_copy(&mut self, delta: u32, callee: &Callee) -> bool {
        let Some(last) = self.out.last else {
            return false;
        };
        let op = self.out.op(last);
        let word = self.out.code[last + 1];
        let (dst, src) = (word & 0xffff, word >> 16 & 0xffff);
        let (form, sources, second) = if op == Family::Copy.form(0) {
            (0, src, 0)
        } else if op == Family::Copy.form(4) {
            (1, src | word >> 48 << 16, word >> 32 & 0xffff)
        } else if op == Family::Copy.form(3)
            && !self.out.is_relocated(last)
            && u32::try_from(self.out.code[last + 2]).is_ok()
        {
            (2, self.out.code[last + 2] << 32, 0)
        } else if op == Family::AddSlot.form(0) {
            (3, src | word >> 32 << 32, 0)
        } else {
            return false;
        };
        self.out.retract();
        let frame = self.callee_frame(delta);
        self.out.emit_at(Family::CallCopy.form(form), sources);
        self.out.push(frame | dst << 16 | second << 32);
        self.out.push(callee.code);
        true
    }

    /// If the last instruction puts an accumulator into a slot: takes it back, gives class and slot.
    fn take_last_argument(&mut self) -> Option<(u16, u64)> {
        let last = self.out.last?;
        let op = self.out.op(last);
        let class = [Family::Copy.form(1), Family::Copy.form(2)]
            .iter()
            .position(|copy| *copy == op)?;
        let slot = self.out.code[last + 1] & 0xffff;
        self.out.retract();
        Some((class as u16, slot))
    }

    pub(super) fn call_indirect(&mut self, type_index: u32, table_index: u32) {
        let inner = &self.module.0;
        let Some(ty) = inner.types.get(type_index as usize).cloned() else {
            return;
        };
        let id = u64::from(
            inner
                .type_ids
                .get(type_index as usize)
                .copied()
                .unwrap_or(u32::MAX - 1),
        );
        let index = self.pop();
        let table = self.environment.table(table_index);
        // An index in its slot lies where an argument goes; its new place is above the arguments.
        let height = index.height + 2;
        self.max_height = self.max_height.max(height + 3);
        if index.place == Place::Slot {
            self.copy(self.height_slot(height), self.height_slot(index.height));
        }
        let base = self.arguments(ty.params().len());
        let operand = self.operand(Popped { height, ..index }, false);
        let delta = self.height_slot(base + 2);
        let direct = table.direct && !(self.far && delta > NEAR);
        if direct && self.call_through(index.place, operand, id, delta) {
            self.out.push(table.address);
            return self.called(base, ty.results());
        }
        let family = if direct {
            Family::CallIndirect
        } else {
            Family::CallAny
        };
        let (form, slot) = match operand {
            Operand::Slot(slot) => (0, slot),
            _ => (1, 0),
        };
        self.out.emit_at(family.form(form), id | slot << 32);
        if direct {
            self.remembered();
        }
        self.out.push(self.callee_frame(delta));
        self.out.push(table.address);
        self.called(base, ty.results());
    }

    /// If the last instructions load the index, or make arguments of slots, or first one and then the other: they become
    /// part of the call.
    fn call_through(&mut self, index: Place, operand: Operand, id: u64, delta: u32) -> bool {
        let copies = self.take_arguments();
        let mut loaded_at = None;
        let (source, slot, first, second) = match (index, operand) {
            (_, Operand::Slot(slot)) => (through::SLOT, slot, 0, 0),
            (Place::Acc { producer }, _) => {
                loaded_at = self.out.place_of(producer);
                self.take_index(producer)
            }
            _ => (through::ACC, 0, 0, 0),
        };
        if copies.form == 0 && source < through::LOADED_SLOT {
            return false;
        }
        let (sources, targets) = (copies.sources, copies.targets);
        let start = self.out.emit_at(
            Family::CallThrough.form(source + copies.form),
            id | slot << 32 | sources[0] << 48,
        );
        if let Some(place) = loaded_at.filter(|_| source >= through::LOADED_SLOT) {
            self.out.note_load_within(start, place);
        }
        self.out.push(first | copies.constant << 32);
        self.out.push(sources[1] | second << 32);
        self.remembered();
        let frame = self.callee_frame(delta);
        self.out.push(frame | targets[0] << 16 | targets[1] << 32);
        true
    }

    /// Room for the code cells that a call through a table remembers.
    fn remembered(&mut self) {
        for _ in 0..REMEMBERED {
            self.out.push(0);
        }
    }

    /// If the last instruction makes arguments of slots: takes it back.
    fn take_arguments(&mut self) -> Copies {
        let none = Copies::default();
        let Some(last) = self.out.last else {
            return none;
        };
        let op = self.out.op(last);
        let word = self.out.code[last + 1];
        let field = |n: u32| word >> (16 * n) & 0xffff;
        let copies = if op == Family::Copy.form(0) {
            Copies {
                form: 1,
                targets: [field(0), 0],
                sources: [field(1), 0],
                constant: 0,
            }
        } else if op == Family::Copy.form(4) {
            Copies {
                form: 2,
                targets: [field(0), field(2)],
                sources: [field(1), field(3)],
                constant: 0,
            }
        } else if op == Family::AddSlot.form(0) {
            Copies {
                form: 3,
                targets: [field(0), 0],
                sources: [field(1), 0],
                constant: word >> 32,
            }
        } else {
            return none;
        };
        self.out.retract();
        copies
    }

    /// If the last instruction is the load that made the index in the accumulator: takes it back. Gives where the index comes
    /// from: form, slot, and the offsets of the loads.
    fn take_index(&mut self, producer: usize) -> (u16, u64, u64, u64) {
        let held = (through::ACC, 0, 0, 0);
        if self.out.last != Some(producer) {
            return held;
        }
        let op = self.out.op(producer);
        let word = self.out.code[producer + 1];
        let (slot, offset) = (word >> 16 & 0xffff, word >> 32);
        let second = |code: &[u64]| code.get(producer + 2).map_or(0, |word| word >> 32);
        let taken = if op == Family::I32Load.form(address::SLOT) {
            (through::LOADED_SLOT, slot, offset, 0)
        } else if op == Family::I32Load.form(address::ACC) {
            (through::LOADED_ACC, 0, offset, 0)
        } else if op == Family::LoadTwo.form(LOAD_TWO_SLOT) {
            (through::TWICE_SLOT, slot, offset, second(&self.out.code))
        } else if op == Family::LoadTwo.form(LOAD_TWO_ACC) {
            (through::TWICE_ACC, 0, offset, second(&self.out.code))
        } else {
            return held;
        };
        self.out.retract();
        taken
    }

    pub(super) fn tail_call(&mut self, index: u32) {
        let Some(ty) = self.function_type(index) else {
            return;
        };
        let callee = self.environment.callee(index);
        if callee.is_host {
            // A host function wants to know its caller, and it adds no frame that would pile up.
            self.call(index);
            self.return_values(ty.results());
            self.dead = true;
            return;
        }
        let count = ty.params().len();
        let from = self.stack.len() - count.min(self.stack.len());
        self.settle_from(from);
        self.out
            .emit_at(Family::TailCall.form(0), u64::from(self.height_slot(from)));
        self.out.push(callee.code);
        self.out.push((count as u64) << 32);
        self.dead = true;
    }

    pub(super) fn tail_call_indirect(&mut self, type_index: u32, table_index: u32) {
        let inner = &self.module.0;
        let Some(ty) = inner.types.get(type_index as usize).cloned() else {
            return;
        };
        let id = u64::from(
            inner
                .type_ids
                .get(type_index as usize)
                .copied()
                .unwrap_or(u32::MAX - 1),
        );
        let index = self.pop();
        let table = self.environment.table(table_index);
        let count = ty.params().len();
        let from = self.stack.len() - count.min(self.stack.len());
        self.settle_from(from);
        let (form, slot) = match self.operand(index, false) {
            Operand::Slot(slot) => (0, slot),
            _ => (1, 0),
        };
        self.out.emit_at(
            Family::TailCallAny.form(form),
            u64::from(self.height_slot(from)) | id << 32,
        );
        self.out.push(table.address);
        self.out.push(slot | (count as u64) << 32);
        self.dead = true;
    }
}
