//! What all memories, or all tables, of a store may have together.
//!
//! Each record holds a [`Share`] of the store's [`Budget`] and gives it back when it dies, in whatever way that
//! happens. So a module with many small objects gets no more than one with a single large one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A total with an upper bound: bytes of memories or elements of tables.
#[derive(Debug)]
pub(crate) struct Budget {
    most: u64,
    used: Arc<AtomicU64>,
}

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(most: u64) -> Budget {
        Budget {
            most,
            used: Arc::default(),
        }
    }

    /// A share of nothing, to be grown.
    pub fn share(&self) -> Share {
        Share {
            most: self.most,
            used: self.used.clone(),
            amount: 0,
        }
    }

    /// What all shares have together.
    #[cfg(test)]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// What one record has of a budget.
#[derive(Debug)]
pub(crate) struct Share {
    most: u64,
    /// Only the thread that has the store changes it: the type is atomic because stores move between threads.
    used: Arc<AtomicU64>,
    amount: u64,
}

impl Share {
    /// The largest amount that this share can have now.
    pub fn most(&self) -> u64 {
        let others = self.used.load(Ordering::Relaxed) - self.amount;
        self.most.saturating_sub(others)
    }

    /// What the store would have in all if this share had `amount`, and what it may have; `None` if it may.
    pub fn excess(&self, amount: u64) -> Option<(u64, u64)> {
        let others = self.used.load(Ordering::Relaxed) - self.amount;
        let needed = others.saturating_add(amount);
        (needed > self.most).then_some((needed, self.most))
    }

    /// Changes the amount, which the caller has checked.
    pub fn set(&mut self, amount: u64) {
        let others = self.used.load(Ordering::Relaxed) - self.amount;
        self.used.store(others + amount, Ordering::Relaxed);
        self.amount = amount;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_no_more_than_the_budget_together_and_give_it_back() {
        let budget = Budget::new(10);
        let [mut one, mut two] = [budget.share(), budget.share()];
        one.set(4);
        assert_eq!((one.most(), two.most()), (10, 6));
        assert_eq!((two.excess(6), two.excess(7)), (None, Some((11, 10))));
        assert_eq!(two.excess(u64::MAX), Some((u64::MAX, 10)));
        two.set(6);
        assert_eq!((one.excess(4), one.excess(5)), (None, Some((11, 10))));
        assert_eq!(budget.used(), 10);
        drop(one);
        assert_eq!((budget.used(), two.most()), (6, 10));
        two.set(2);
        drop(two);
        assert_eq!(budget.used(), 0);
    }
}
