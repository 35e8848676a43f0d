//! Which locals have to be zeroed at function entry: those that may be read before they are written.
//!
//! Locals of compiled code are nearly always written first, so most functions need no zeroing at all. The translator
//! follows, for the first [`TRACKED`] locals, which ones surely hold a value: what holds at a label holds on every branch
//! to it. A loop needs no second look, because what is written stays written: the branch back brings at least
//! what held at the loop's start.

use super::{SCRATCH_SLOTS, Translator};
use crate::ir::ops::Family;

/// Locals that are followed; the others count as never written.
const TRACKED: u32 = u128::BITS;

/// What a block remembers.
#[derive(Clone, Copy)]
pub(super) struct Assigned {
    /// Locals that hold a value at the block's start.
    start: u128,
    /// Those that do on every branch to its end so far.
    end: u128,
}

/// The state at the place that is being translated.
pub(super) struct Zeroing {
    /// Locals that surely hold a value.
    assigned: u128,
    params: u32,
    /// The first local that needs a zero and the one behind the last.
    needed: Option<(u32, u32)>,
    /// The instruction that zeroes.
    place: Option<usize>,
}

impl Zeroing {
    /// Parameters hold a value from the start.
    pub fn new(params: usize) -> Zeroing {
        let params = params as u32;
        Zeroing {
            assigned: 1_u128.checked_shl(params).map_or(u128::MAX, |bit| bit - 1),
            params,
            needed: None,
            place: None,
        }
    }

    fn bit(local: u32) -> u128 {
        1_u128.checked_shl(local).unwrap_or(0)
    }

    /// A local is read.
    pub fn read(&mut self, local: u32) {
        if local >= self.params && self.assigned & Self::bit(local) == 0 {
            let (first, behind) = self.needed.unwrap_or((local, local + 1));
            self.needed = Some((first.min(local), behind.max(local + 1)));
        }
    }

    /// A local is written.
    pub fn wrote(&mut self, local: u32) {
        self.assigned |= Self::bit(local);
    }

    /// A block opens here.
    pub fn open(&self) -> Assigned {
        Assigned {
            start: self.assigned,
            end: u128::MAX,
        }
    }

    /// A branch goes to the block's end from here.
    pub fn leave(&self, block: &mut Assigned) {
        block.end &= self.assigned;
    }

    /// The second arm of an `if` starts here.
    pub fn restart(&mut self, block: &Assigned) {
        self.assigned = block.start;
    }

    /// The block ends here; control comes from branches, from above if `falls`, and past the only arm of an `if` if `skips`.
    pub fn join(&mut self, block: &Assigned, falls: bool, skips: bool) {
        let above = if falls { self.assigned } else { u128::MAX };
        let past = if skips { block.start } else { u128::MAX };
        self.assigned = block.end & above & past;
    }
}

const _: () = assert!(TRACKED == 128);

impl Translator<'_> {
    /// Zeroes the locals behind the parameters (scratch slots included), as long as it is not known which ones need it.
    pub(super) fn zero_locals(&mut self) {
        let count = self.locals.len() - self.params;
        if count == 0 {
            return;
        }
        // The forms for 6 and 8 and the even count of the loop may zero a slot more: that of the stack's height 0.
        self.max_height = self.max_height.max(3);
        let slots = count + if self.far { SCRATCH_SLOTS } else { 0 };
        let word = zeroed(self.params, slots);
        self.zeroing.place = Some(self.out.emit(Family::Enter.form(0), word));
        self.out.label();
    }

    /// At the end: only what may be read before it is written.
    pub(super) fn zero_what_is_read(&mut self) {
        let Some(place) = self.zeroing.place else {
            return;
        };
        if self.far {
            return;
        }
        match self.zeroing.needed {
            None => self.out.remove(place, 2),
            Some((first, behind)) => {
                let count = (behind - first) as usize;
                let form = match count {
                    1..=4 => count as u16,
                    5 | 6 => 5,
                    7 | 8 => 6,
                    _ => 0,
                };
                self.out.code[place] = u64::from(Family::Enter.form(form).0);
                self.out.code[place + 1] = zeroed(first as usize, count);
            }
        }
    }
}

/// The operands of the zeroing of so many slots.
fn zeroed(first: usize, slots: usize) -> u64 {
    (first as u64 * 8) | ((slots.next_multiple_of(2) as u64) << 32)
}
