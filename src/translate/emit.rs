//! The code buffer: instructions as words, displacements that are filled in later, and the note of
//! where instructions start.

use super::Field;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::ops::Op;

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

impl Emitter {
    /// An empty buffer for the code of a body of this many bytes.
    pub fn for_body(bytes: usize) -> Emitter {
        let limit = bytes
            .saturating_mul(WORDS_PER_BYTE)
            .saturating_add(WORDS_BESIDES);
        Emitter {
            limit: limit.min(MOST_WORDS),
            ..Emitter::default()
        }
    }

    /// An error if the code has become longer than a body of its size can need.
    pub fn within_limit(&self) -> Result<()> {
        if self.code.len() <= self.limit {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Limit {
            what: format!(
                "words of translated code of the function at byte {:#x}",
                self.offset
            ),
            needed: self.code.len() as u64,
            allowed: self.limit as u64,
        }))
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
        self.places.push((self.code.len() as u32, self.offset));
        self.emit(op, word)
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
