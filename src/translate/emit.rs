//! The code buffer: instructions as words, displacements that are filled in later, and the note of
//! where instructions start.

use super::Field;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::ops::{Family, Op};

/// No instruction.
pub(super) const NONE: usize = usize::MAX;

/// Words of code that a byte of a body may become. Compilers' output stays below 4; only bodies that are made to
/// grow (branches that carry dozens of values) come near.
const WORDS_PER_BYTE: usize = 16;
/// Words that any function may have.
const WORDS_BESIDES: usize = 1 << 16;
/// Most words of a function: displacements, in bytes, and word numbers fit 32 bits by a wide margin (one operator
/// adds a few hundred thousand words at most).
const MOST_WORDS: usize = 1 << 26;

/// Most instructions at a loop's start that are repeated.
const MOST_REPEATED: usize = 4;

/// Code under construction.
#[derive(Default)]
pub(super) struct Emitter {
    pub code: Vec<u64>,
    /// Words at which instructions start, ascending.
    pub starts: Vec<u32>,
    pub jump_entries: Vec<u32>,
    pub places: Vec<(u32, u32)>,
    /// Immediates that are the value of a cell, ascending by word.
    pub relocations: Vec<Field>,
    /// Byte offset in the module of the operator being translated.
    pub offset: u32,
    /// Most words that the function may become.
    pub limit: usize,
    pub budget: Budget,
    /// Until the code is this long, all lists have room.
    roomy_until: usize,
    /// Start of the last instruction, [`NONE`] behind a label: it may be patched or fused.
    pub last: Option<usize>,
    /// Start of the one before, if no label lies between.
    pub before: Option<usize>,
}

/// A displacement or jump table entry that waits for its target.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fixup {
    /// Displacement from the start of the instruction, in its u32 field at this byte.
    Displacement { start: usize, field: usize },
    /// Target word of a jump table.
    Entry { word: usize },
}

/// Most parameters or results of a function, and so values that one operator moves or adds.
pub(super) const MOST_VALUES: usize = 1_000;

/// Words of code that moving one value becomes at most, in a frame so large that its operands have to be brought near.
const WORDS_PER_VALUE: usize = 16;

/// Entries that an operator of usual size adds at most.
const USUAL: usize = 32;

/// The memory that a translation may still take for its lists.
#[derive(Default)]
pub(super) struct Budget {
    allowed: usize,
    left: usize,
    /// Why an entry could not be noted: the translation ends in front of the next operator.
    failed: Option<Error>,
}

impl Budget {
    pub fn new(allowed: usize) -> Budget {
        Budget {
            allowed,
            left: allowed,
            failed: None,
        }
    }

    /// Makes room for what an operator adds at most.
    #[inline]
    pub fn room_in<E>(&mut self, list: &mut Vec<E>, most: usize) -> Result<()> {
        if list.capacity() - list.len() >= most {
            return Ok(());
        }
        self.room_for(list, most.max(USUAL))
    }

    /// Makes room for so many more entries.
    pub fn room_for<E>(&mut self, list: &mut Vec<E>, more: usize) -> Result<()> {
        let before = list.capacity();
        let least = list.len().saturating_add(more);
        if least <= before {
            return Ok(());
        }
        // Vectors double, so that many small steps cost no more than one.
        let after = least.max(before.saturating_mul(2));
        let bytes = (after - before).saturating_mul(size_of::<E>());
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            Error::new(ErrorKind::Limit {
                what: "bytes for the translation of a function (`Limits::translation_bytes`)"
                    .to_owned(),
                needed: (self.allowed - self.left).saturating_add(bytes) as u64,
                allowed: self.allowed as u64,
            })
        })?;
        list.try_reserve_exact(after - list.len())
            .map_err(|_| no_memory(after.saturating_mul(size_of::<E>())))
    }

    /// Adds an entry. Without room for it the translation has failed, and what it is does not matter any more.
    #[inline]
    pub fn push<E>(&mut self, list: &mut Vec<E>, entry: E) {
        if list.len() == list.capacity()
            && let Err(error) = self.room_for(list, 4)
        {
            self.failed.get_or_insert(error);
            return;
        }
        list.push(entry);
    }

    /// Notes that the system had no memory for an entry.
    #[cold]
    pub fn fail_without_memory(&mut self) {
        self.failed.get_or_insert_with(|| no_memory(0));
    }

    /// What went wrong since the last call.
    ///
    /// # Errors
    /// That.
    #[inline]
    pub fn check(&mut self) -> Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

/// Makes room for so many entries in a list that goes again with the operator.
pub(super) fn room_for<E>(list: &mut Vec<E>, more: usize) -> Result<()> {
    list.try_reserve_exact(more)
        .map_err(|_| no_memory(more.saturating_mul(size_of::<E>())))
}

#[cold]
fn no_memory(bytes: usize) -> Error {
    Error::new(ErrorKind::Limit {
        what: "memory of the system for the code of a function".to_owned(),
        needed: bytes as u64,
        allowed: 0,
    })
}

impl Emitter {
    /// An empty buffer for the code of a body of this many bytes.
    pub fn for_body(bytes: usize, budget: usize) -> Emitter {
        let limit = bytes
            .saturating_mul(WORDS_PER_BYTE)
            .saturating_add(WORDS_BESIDES);
        Emitter {
            limit: limit.min(MOST_WORDS),
            budget: Budget::new(budget),
            ..Emitter::default()
        }
    }

    /// An error if the code has become longer than a body of its size can need, or if the system has no memory for
    /// more of it: a huge function must not be the end of the host. Asked before every operator; `values`: how many it
    /// moves at most.
    #[inline]
    pub fn within_limit(&mut self, values: usize) -> Result<()> {
        self.budget.check()?;
        let most = values.min(MOST_VALUES) * WORDS_PER_VALUE + USUAL;
        if self.code.len() + most <= self.roomy_until {
            return Ok(());
        }
        self.make_room(most)
    }

    /// Makes room in all lists for as much code as there is, as a vector grows by itself, and for what comes next.
    #[cold]
    fn make_room(&mut self, most: usize) -> Result<()> {
        let words = self.code.len();
        if words > self.limit {
            return Err(Error::new(ErrorKind::Limit {
                what: format!(
                    "words of translated code of the function at byte {:#x}",
                    self.offset
                ),
                needed: words as u64,
                allowed: self.limit as u64,
            }));
        }
        let more = words.max(most + USUAL);
        self.budget.room_for(&mut self.code, more)?;
        // Each entry of these belongs to another instruction of two words or more.
        self.budget.room_for(&mut self.starts, more / 2)?;
        self.budget.room_for(&mut self.places, more / 2)?;
        // Where the limit ends, so does the room: then every operator asks.
        self.roomy_until = (words + more).min(self.limit + 1);
        Ok(())
    }

    /// Makes room for a jump table.
    pub fn room_for_table(&mut self, entries: usize) -> Result<()> {
        self.budget.room_for(&mut self.code, 2 * entries + USUAL)?;
        self.budget.room_for(&mut self.jump_entries, entries)
    }

    /// Where the next instruction will start.
    pub fn here(&self) -> usize {
        self.code.len()
    }

    /// Emits an instruction of two words; longer ones push the rest.
    pub fn emit(&mut self, op: Op, word: u64) -> usize {
        debug_assert!(!op.is_unused(), "operator {op:?} is said to be unused");
        let start = self.code.len();
        self.code.push(u64::from(op.0));
        self.code.push(word);
        self.starts.push(start as u32);
        self.before = self.last;
        self.last = Some(start);
        start
    }

    /// Like `emit`, for instructions that can trap or call: notes the place in the module.
    pub fn emit_at(&mut self, op: Op, word: u64) -> usize {
        self.budget
            .push(&mut self.places, (self.code.len() as u32, self.offset));
        self.emit(op, word)
    }

    /// Notes the place of the load that the instruction at `start` begins with, in front of its own operator: the load
    /// traps at the instruction's second word, all else at its first or, as the return of a call, behind.
    pub fn note_load_within(&mut self, start: usize, place: u32) {
        let second = start as u32 + 1;
        for noted in [(second, place), (second + 1, self.offset)] {
            self.budget.push(&mut self.places, noted);
        }
    }

    /// Another word of the last instruction.
    pub fn push(&mut self, word: u64) {
        self.code.push(word);
    }

    /// The operator of the instruction at `start`.
    pub fn op(&self, start: usize) -> Op {
        Op(self.code[start] as u16)
    }

    /// Takes the last instruction back; the one before becomes the last.
    pub fn retract(&mut self) {
        if let Some(start) = self.last {
            self.code.truncate(start);
            self.starts.pop();
            while self
                .places
                .last()
                .is_some_and(|(word, _)| *word as usize >= start)
            {
                self.places.pop();
            }
            while self
                .relocations
                .last()
                .is_some_and(|field| field.word >= start)
            {
                self.relocations.pop();
            }
        }
        self.last = self.before.take();
    }

    /// Whether the last instruction, which starts here, holds the value of a cell.
    pub fn is_relocated(&self, start: usize) -> bool {
        self.relocations
            .last()
            .is_some_and(|field| field.word > start)
    }

    /// If the last two instructions each add a constant to a slot and write a slot, they become one.
    pub fn merge_steps(&mut self) {
        let step = Family::I32Add.form(7);
        if let (Some(before), Some(last)) = (self.before, self.last)
            && before + 2 == last
            && self.op(last) == step
            && (self.op(before) == step || self.op(before) == Family::AddSlot.form(0))
            && !self.is_relocated(before)
        {
            self.code[before] = u64::from(Family::AddTwo.form(0).0);
            self.code.remove(last);
            self.starts.pop();
            self.last = Some(before);
            self.before = None;
        }
    }

    /// The place in the module that an instruction came from.
    pub fn place_of(&self, start: usize) -> Option<u32> {
        let found = self
            .places
            .binary_search_by_key(&(start as u32), |(word, _)| *word);
        found
            .ok()
            .and_then(|n| self.places.get(n))
            .map(|(_, place)| *place)
    }

    /// Repeats the few instructions at the start of a loop that lead to a jump table, and the jump through it, if that is all
    /// that there is: in place of a jump to the loop.
    pub fn repeat_loop_head(&mut self, loop_start: usize) -> bool {
        let Ok(first) = self.starts.binary_search(&(loop_start as u32)) else {
            return false;
        };
        let mut end = first;
        loop {
            let Some(start) = self.starts.get(end).map(|start| *start as usize) else {
                return false;
            };
            let op = self.op(start);
            if op.is(Family::BrTable) {
                break;
            }
            if end - first == MOST_REPEATED || !op.is_plain() {
                return false;
            }
            end += 1;
        }
        let table = self.starts[end] as usize;
        // Relocations stand in the order of their words.
        let next = self
            .relocations
            .partition_point(|field| field.word < loop_start);
        let next = self.relocations.get(next);
        if next.is_some_and(|field| field.word < table) {
            return false;
        }
        for n in first..end {
            let (start, behind) = (self.starts[n] as usize, self.starts[n + 1] as usize);
            if let Some(place) = self.place_of(start) {
                self.budget
                    .push(&mut self.places, (self.code.len() as u32, place));
            }
            let op = self.op(start);
            self.emit(op, self.code[start + 1]);
            self.code.extend_from_within(start + 2..behind);
        }
        let form = self.op(table).form() % 2 + 2;
        let start = self.emit(Family::BrTable.form(form), self.code[table + 1]);
        let displacement = (table as i64 + 2 - start as i64) * 8;
        self.push(u64::from(displacement as i32 as u32));
        true
    }

    /// Takes a finished instruction out of the whole. No displacement may lead over it.
    pub fn remove(&mut self, place: usize, words: usize) {
        self.code.drain(place..place + words);
        self.starts.retain(|start| *start as usize != place);
        let moved = |word: u32| {
            word - if word as usize > place {
                words as u32
            } else {
                0
            }
        };
        for start in &mut self.starts {
            *start = moved(*start);
        }
        for entry in &mut self.jump_entries {
            *entry = moved(*entry);
            let target = &mut self.code[*entry as usize];
            *target -= words as u64;
        }
        for (word, _) in &mut self.places {
            *word = moved(*word);
        }
        for field in &mut self.relocations {
            field.word = moved(field.word as u32) as usize;
        }
    }

    /// Puts an instruction of two words, with a 32-bit operand @12, before all others of finished code.
    pub fn begin_with(&mut self, op: Op, operand: u32, place: u32) {
        const WORDS: usize = 2;
        self.code
            .splice(0..0, [u64::from(op.0), u64::from(operand) << 32]);
        for start in &mut self.starts {
            *start += WORDS as u32;
        }
        self.starts.insert(0, 0);
        for entry in &mut self.jump_entries {
            *entry += WORDS as u32;
            self.code[*entry as usize] += WORDS as u64;
        }
        for (word, _) in &mut self.places {
            *word += WORDS as u32;
        }
        self.places.insert(0, (0, place));
        for field in &mut self.relocations {
            field.word += WORDS;
        }
    }

    /// A label is here: nothing before may be patched as "last" or fused with what follows.
    pub fn label(&mut self) -> usize {
        self.last = None;
        self.before = None;
        self.here()
    }

    /// Fills in a target.
    pub fn fix(&mut self, fixup: Fixup, target: usize) {
        match fixup {
            Fixup::Entry { word } => self.code[word] = target as u64,
            Fixup::Displacement { start, field } => {
                let bytes = (target as i64 - start as i64) * 8;
                let word = start + field / 8;
                let shift = (field % 8) * 8;
                let field = u64::from(bytes as i32 as u32) << shift;
                self.code[word] = self.code[word] & !(0xffff_ffff << shift) | field;
            }
        }
    }
}
