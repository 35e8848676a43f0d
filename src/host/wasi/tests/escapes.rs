//! Paths that try to leave what was given to the guest.
