//! The instruction set as data; no behaviour.
//!
//! `ops` is the table of operators, `code` the container of translated functions.

pub(crate) mod code;
pub(crate) mod display;
pub(crate) mod ops;

/// Bytes that every frame may use without a check: a call only looks whether the frame starts within the stack, and a
/// function that needs more than this begins with a check of its own.
pub(crate) const RED_ZONE: usize = 1024;

/// How many code cells a call through a table remembers, below its last two words.
pub(crate) const REMEMBERED: usize = 4;
