//! The instruction set as data; no behaviour.

pub(crate) mod code;
