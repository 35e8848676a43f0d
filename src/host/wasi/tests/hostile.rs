//! Pointers that lie.
