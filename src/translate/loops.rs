//! A local that stays in the accumulator from the end of a loop's body to its start.
//!
//! At a label nothing is known of the accumulators, so the first instruction of a loop reads from a slot what the last one
//! wrote there. The processor forwards it, but only after some eight cycles, and a loop that carries a value from one pass
//! to the next waits for them in each. When the loop is complete and all branches back to it leave the same local
//! in the accumulator, the first instruction that reads it takes it from there: its form changes in place. The way into the loop
//! has to bring the local in the accumulator too: it was just computed, or it is copied to its slot right before the
//! loop, and that copy keeps it in the accumulator as well.
//!
//! Arithmetic in front of the reader, such as a step of a counter, is made to leave the accumulator alone; so is the reader if
//! another one follows.

use super::Translator;
use super::access::address;
use super::copies::form;
use super::fuse::{held_form, operands};
use crate::ir::ops::{BRANCH, Family, Op, PAIR_ACC, PAIR_FIRST, PAIR_IMMEDIATE};
use smallvec::SmallVec;

/// What a loop remembers of its start and of the branches back to it.
#[derive(Clone, Copy)]
pub(super) struct Head {
    /// The last two instructions before the loop, the last one first.
    above: [Option<usize>; 2],
    /// The local that the integer accumulator holds there.
    entry: Option<u32>,
    /// The local that it holds on branches back.
    back: Back,
}

#[derive(Clone, Copy, PartialEq)]
enum Back {
    /// No branch yet.
    None,
    /// The same local on all.
    Local(u32),
    /// Different ones, or none that is known.
    Unknown,
}

/// Most instructions at a loop's start that are looked at.
const LOOKED_AT: usize = 6;

impl Head {
    /// A branch goes back with this local in the accumulator.
    pub fn branch(&mut self, local: Option<u32>) {
        self.back = match (self.back, local) {
            (Back::None, Some(local)) => Back::Local(local),
            (Back::Local(known), Some(local)) if known == local => self.back,
            _ => Back::Unknown,
        };
    }

    /// A loop starts inside this one: there the accumulator comes from elsewhere.
    pub fn has_loop(&mut self) {
        self.back = Back::Unknown;
    }
}

impl Translator<'_> {
    /// A loop starts here; everything is settled, and what is known of the accumulators is not forgotten yet.
    pub(super) fn loop_head(&self) -> Head {
        Head {
            above: [self.out.last, self.out.before],
            entry: self.acc_local[0],
            back: Back::None,
        }
    }

    /// The loop that starts at this word is complete.
    pub(super) fn carry_in_accumulator(&mut self, start: usize, head: &Head) {
        let Back::Local(local) = head.back else {
            return;
        };
        if self.far {
            return;
        }
        let slot = u64::from(self.local_slot(local));
        let Some(changes) = self.with_carried(start, slot) else {
            return;
        };
        if head.entry != Some(local) && !self.copy_keeps(head, slot) {
            return;
        }
        for (at, op, word) in changes {
            self.out.code[at] = u64::from(op.0);
            self.out.code[at + 1] = word;
        }
    }

    /// The changes after which the first reader of the slot takes it from the accumulator: those in front of it leave that
    /// alone, and so does the reader itself if the next instruction reads the slot, too.
    fn with_carried(&self, start: usize, slot: u64) -> Option<SmallVec<[(usize, Op, u64); 8]>> {
        let first = self.out.starts.binary_search(&(start as u32)).ok()?;
        let mut changes = SmallVec::new();
        // Something does not leave its result in the accumulator any more.
        let mut keeps = false;
        for n in first..first + LOOKED_AT {
            let at = *self.out.starts.get(n)? as usize;
            let op = self.out.op(at);
            let word = self.out.code[at + 1];
            let writes = |target: u64| target & 0xffff == slot;
            if let Some((taken, word)) = self.with_accumulator(at, slot) {
                let next = self.out.starts.get(n + 1).map(|next| *next as usize);
                let goes_on = next.is_some_and(|next| self.with_accumulator(next, slot).is_some());
                match taken.keeping() {
                    Some(keeping) if goes_on && !writes(word) => {
                        changes.push((at, keeping, word));
                        keeps = true;
                    }
                    _ => {
                        changes.push((at, taken, word));
                        // What follows may want what no longer comes in the accumulator.
                        return (!keeps || taken.makes_integer()).then_some(changes);
                    }
                }
                continue;
            }
            if op.is(Family::Check) {
                continue;
            }
            let passed = if op == Family::AddSlot.form(0) {
                !writes(word)
            } else if let Some(targets) = self.out.copy_targets(at) {
                !targets.iter().any(|target| writes(*target))
            } else if op.form() == operands::SI + 1
                && let Some(keeping) = op.keeping()
            {
                changes.push((at, keeping, word));
                keeps = true;
                !writes(word)
            } else {
                false
            };
            if !passed {
                return None;
            }
        }
        None
    }

    /// The instruction with the accumulator in place of the slot: its operator and its first word. Forms of one size
    /// have their other fields at the same places.
    fn with_accumulator(&self, start: usize, slot: u64) -> Option<(Op, u64)> {
        let op = self.out.op(start);
        let word = self.out.code[start + 1];
        let (d, a, b) = (word & 0xffff, word >> 16 & 0xffff, word >> 32 & 0xffff);
        let kept = op.form() % 2;
        let is_pair = op.is_pair();
        let third = self.out.code.get(start + 2).map_or(0, |word| *word);
        let form = if op.has_operand_forms() || is_pair {
            // Pairs with an immediate third operand, and with one first, have the same forms again.
            let (from, form) = match op.form() - kept {
                form if is_pair && form >= PAIR_ACC => return None,
                form if is_pair && form >= PAIR_FIRST => (form, form - PAIR_FIRST + operands::IS),
                form if is_pair && form >= PAIR_IMMEDIATE => (form, form - PAIR_IMMEDIATE),
                form => (form, form),
            };
            let to = match form {
                operands::SS if a == slot && b == slot => return None,
                operands::SS if a == slot => operands::AS,
                operands::SS if b == slot => operands::SA,
                // Both of its operands are the local.
                operands::SI if is_pair && from == form && a == slot && third == slot => {
                    PAIR_ACC + held_form::AI
                }
                operands::SI if a == slot => operands::AI,
                operands::IS if a == slot => operands::IA,
                _ => return None,
            };
            from - form + to + kept
        } else if op.is_branch_of_comparison() {
            match op.form() - BRANCH {
                0 if d == slot && a == slot => return None,
                0 if d == slot => BRANCH + 1,
                0 if a == slot => BRANCH + 2,
                3 if d == slot => BRANCH + 4,
                _ => return None,
            }
        } else if op.is_unary() && op.form() - kept == 0 && a == slot {
            2 + kept
        } else if op.is_load() && op.form() - kept == address::SLOT && a == slot {
            address::ACC + kept
        } else if op.is_load() && op.form() - kept == address::SLOT_SLOT && a == slot {
            address::ACC_SLOT + kept
        } else if op == Family::Copy.form(form::SLOT) && a == slot {
            form::ACC
        } else if (op.is(Family::BrNz) || op.is(Family::BrZ)) && op.form() == 0 && d == slot {
            1
        } else {
            return None;
        };
        let taken = Op(op.0 - op.form() + form);
        (!taken.is_unused() && !op.takes_floats()).then_some((taken, word))
    }

    /// If one of the last instructions before the loop copies something to the slot, it keeps it in the accumulator too.
    fn copy_keeps(&mut self, head: &Head, slot: u64) -> bool {
        for start in head.above {
            let Some(start) = start else { return false };
            let Some(targets) = self.out.copy_targets(start) else {
                return false;
            };
            // The last one that was copied there is what it holds.
            let place = targets.iter().rposition(|target| target & 0xffff == slot);
            let from = self.out.op(start).form();
            let Some(place) = place else { continue };
            let form = match (from, place) {
                (form::SLOT, _) => form::SLOT_KEPT,
                (form::CONSTANT, _) => form::CONSTANT_KEPT,
                (form::SLOTS, 1) => form::SLOTS_KEPT,
                (form::SLOTS, _) => form::SLOTS_KEPT_FIRST,
                (form::CONSTANTS, 1) => form::CONSTANTS_KEPT,
                (form::CONSTANTS, _) => form::CONSTANTS_KEPT_FIRST,
                (form::THREE_CONSTANTS, _) => {
                    self.out.code[start + 1] |= slot << 48;
                    form::THREE_CONSTANTS_KEPT
                }
                (form::SLOT_CONSTANT, _) => {
                    self.out.code[start + 1] |= slot << 32;
                    form::SLOT_CONSTANT_KEPT
                }
                (form::SLOT_CONSTANTS, _) => {
                    self.out.code[start + 1] |= slot << 32;
                    form::SLOT_CONSTANTS_KEPT
                }
                (form::SLOTS_CONSTANT, _) => {
                    self.out.code[start + 2] |= slot << 16;
                    form::SLOTS_CONSTANT_KEPT
                }
                (form::SLOTS_CONSTANTS, _) => {
                    self.out.code[start + 3] |= slot << 32;
                    form::SLOTS_CONSTANTS_KEPT
                }
                _ => return false,
            };
            self.out.code[start] = u64::from(Family::Copy.form(form).0);
            return true;
        }
        false
    }
}
