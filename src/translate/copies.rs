//! Copies that stand one after the other become one instruction: compilers bring several values along at once where paths
//! meet.

use super::emit::Emitter;
use crate::ir::ops::Family;
use smallvec::SmallVec;

/// Forms of [`Family::Copy`]. A form with slots and constants copies the slots first.
pub(super) mod form {
    pub const SLOT: u16 = 0;
    pub const ACC: u16 = 1;
    pub const FLOAT_ACC: u16 = 2;
    pub const CONSTANT: u16 = 3;
    pub const SLOTS: u16 = 4;
    pub const CONSTANTS: u16 = 5;
    pub const SLOT_KEPT: u16 = 6;
    pub const CONSTANT_KEPT: u16 = 7;
    pub const SLOTS_KEPT: u16 = 8;
    pub const SLOTS_KEPT_FIRST: u16 = 9;
    pub const CONSTANTS_KEPT: u16 = 10;
    pub const CONSTANTS_KEPT_FIRST: u16 = 11;
    pub const THREE_CONSTANTS: u16 = 12;
    pub const FOUR_CONSTANTS: u16 = 13;
    pub const SLOT_CONSTANT: u16 = 14;
    pub const SLOT_CONSTANTS: u16 = 15;
    pub const SLOTS_CONSTANT: u16 = 16;
    pub const SLOTS_CONSTANTS: u16 = 17;
    pub const THREE_CONSTANTS_KEPT: u16 = 18;
    pub const SLOT_CONSTANT_KEPT: u16 = 19;
    pub const SLOT_CONSTANTS_KEPT: u16 = 20;
    pub const SLOTS_CONSTANT_KEPT: u16 = 21;
    pub const SLOTS_CONSTANTS_KEPT: u16 = 22;
}

impl Emitter {
    /// The last instruction, if it is a copy: where it starts and its form.
    fn last_copy(&self) -> Option<(usize, u16)> {
        let last = self.last?;
        let op = self.op(last);
        op.is(Family::Copy).then_some((last, op.form()))
    }

    /// The slots that a copy writes which leaves the integer accumulator alone, in their order; `None` for other instructions.
    pub fn copy_targets(&self, start: usize) -> Option<SmallVec<[u64; 4]>> {
        let op = self.op(start);
        if !op.is(Family::Copy) {
            return None;
        }
        let first = self.code[start + 1];
        let second = self.code.get(start + 2).copied().unwrap_or(0);
        let targets: &[u64] = match op.form() {
            form::SLOT | form::CONSTANT | form::FLOAT_ACC => &[first],
            form::SLOTS => &[first, first >> 32],
            form::CONSTANTS => &[first, first >> 16],
            form::THREE_CONSTANTS => &[first, first >> 16, first >> 32],
            form::FOUR_CONSTANTS => &[first, first >> 16, first >> 32, first >> 48],
            form::SLOT_CONSTANT => &[first, second],
            form::SLOT_CONSTANTS => &[first, second, second >> 16],
            form::SLOTS_CONSTANT => &[first, first >> 32, second],
            form::SLOTS_CONSTANTS => &[first, first >> 32, second, second >> 16],
            _ => return None,
        };
        Some(targets.iter().map(|target| target & 0xffff).collect())
    }

    /// `d = constant` becomes part of the copy before it: gives the word of the constant, and whether it is the upper half.
    pub fn join_constant(&mut self, d: u64, value: u32) -> Option<(usize, bool)> {
        let (last, form) = self.last_copy()?;
        let value = u64::from(value);
        let (joined, place) = match form {
            form::CONSTANT if u32::try_from(self.code[last + 2]).is_ok() => {
                self.code[last + 1] |= d << 16;
                self.code[last + 2] |= value << 32;
                (form::CONSTANTS, (last + 2, true))
            }
            form::CONSTANTS => {
                self.code[last + 1] |= d << 32;
                self.code.push(value);
                (form::THREE_CONSTANTS, (last + 3, false))
            }
            form::THREE_CONSTANTS => {
                self.code[last + 1] |= d << 48;
                self.code[last + 3] |= value << 32;
                (form::FOUR_CONSTANTS, (last + 3, true))
            }
            form::SLOT | form::SLOTS => {
                self.code.push(d | value << 32);
                let joined = if form == form::SLOT {
                    form::SLOT_CONSTANT
                } else {
                    form::SLOTS_CONSTANT
                };
                (joined, (last + 2, true))
            }
            form::SLOT_CONSTANT | form::SLOTS_CONSTANT => {
                self.code[last + 2] |= d << 16;
                self.code.push(value);
                (form + 1, (last + 3, false))
            }
            _ => return None,
        };
        self.code[last] = u64::from(Family::Copy.form(joined).0);
        Some(place)
    }

    /// `d = slot a` becomes part of the copy before it. Slots are copied before constants, so neither may be one that gets a
    /// constant.
    pub fn join_slot(&mut self, d: u64, a: u64) -> bool {
        let Some((last, form)) = self.last_copy() else {
            return false;
        };
        let (first, second) = (
            self.code[last + 1],
            self.code.get(last + 2).copied().unwrap_or(0),
        );
        let is_free = |taken: u64| taken & 0xffff != d && taken & 0xffff != a;
        let slots = d | a << 16;
        let joined = match form {
            form::SLOT => {
                self.code[last + 1] |= slots << 32;
                form::SLOTS
            }
            form::CONSTANT if u32::try_from(second).is_ok() && is_free(first) => {
                self.code[last + 1] = slots;
                self.code[last + 2] = first & 0xffff | second << 32;
                self.constants_moved(last);
                form::SLOT_CONSTANT
            }
            form::CONSTANTS if is_free(first) && is_free(first >> 16) => {
                self.code[last + 1] = slots;
                self.code[last + 2] = first & 0xffff_ffff | second << 32;
                self.code.push(second >> 32);
                self.constants_moved(last);
                form::SLOT_CONSTANTS
            }
            form::SLOT_CONSTANT if is_free(second) => {
                self.code[last + 1] |= slots << 32;
                form::SLOTS_CONSTANT
            }
            form::SLOT_CONSTANTS if is_free(second) && is_free(second >> 16) => {
                self.code[last + 1] |= slots << 32;
                form::SLOTS_CONSTANTS
            }
            _ => return false,
        };
        self.code[last] = u64::from(Family::Copy.form(joined).0);
        true
    }

    /// The constants of the last instruction moved up by half a word; so do the cells among them.
    fn constants_moved(&mut self, last: usize) {
        for field in self
            .relocations
            .iter_mut()
            .rev()
            .take_while(|field| field.word > last)
        {
            field.word += usize::from(field.high);
            field.high = !field.high;
        }
    }
}
