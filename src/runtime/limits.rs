//! What may stop a guest from growing or running on.

use crate::error::Result;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Asked before memories and tables are created or grow.
pub trait ResourceLimiter: Send {
    /// Whether a memory may grow from `current` to `desired` bytes.
    ///
    /// # Errors
    /// Ends the guest instead of only refusing.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool>;
    /// Whether a table may grow from `current` to `desired` elements.
    ///
    /// # Errors
    /// Ends the guest instead of only refusing.
    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool>;
}

/// A limiter with fixed bounds.
#[derive(Clone, Debug, Default)]
pub struct StoreLimits {
    /// Most bytes of one memory.
    pub memory_bytes: Option<usize>,
    /// Most elements of one table.
    pub table_elements: Option<usize>,
}

impl ResourceLimiter for StoreLimits {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(self.memory_bytes.is_none_or(|most| desired <= most))
    }
    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(self.table_elements.is_none_or(|most| desired <= most))
    }
}

/// Stops a guest from another thread.
#[derive(Clone, Debug)]
pub struct InterruptHandle(pub(crate) Arc<AtomicBool>);

impl InterruptHandle {
    /// The guest traps with `Interrupted` at its next check.
    pub fn interrupt(&self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
