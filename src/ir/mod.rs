//! The instruction set as data; no behaviour.
//!
//! `ops` is the table of operators, `code` the container of translated functions.

pub(crate) mod code;
pub(crate) mod display;
pub(crate) mod ops;
