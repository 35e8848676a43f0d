//! The handlers, one file per kind. Each is its formula; the calling convention is in `dispatch`.

pub(super) mod call;
pub(super) mod control;
pub(super) mod memory;
pub(super) mod numeric;
pub(super) mod variable;
