//! When work that the engine does for a guest, but not in guest code, has to stop: reading a file, validating it,
//! translating a function.
#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::trap::TrapCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A deadline and a flag that another thread sets. May be looked at from several threads: once it has said to stop, it
/// goes on saying so.
#[derive(Default)]
pub(crate) struct Watch {
    deadline: Option<Instant>,
    /// Taken back by whoever sees it.
    interrupt: Option<Arc<AtomicBool>>,
    stopped: AtomicBool,
}

impl Watch {
    pub fn new(deadline: Option<Instant>, interrupt: Option<Arc<AtomicBool>>) -> Watch {
        Watch {
            deadline,
            interrupt,
            stopped: AtomicBool::new(false),
        }
    }

    /// Nothing has to stop.
    ///
    /// # Errors
    /// The trap `Interrupted`.
    pub fn check(&self) -> Result<()> {
        let interrupted = || {
            let flag = self.interrupt.as_ref();
            flag.is_some_and(|flag| flag.swap(false, Ordering::Relaxed))
        };
        let late = || self.deadline.is_some_and(|end| Instant::now() >= end);
        if self.stopped.load(Ordering::Relaxed) || interrupted() || late() {
            self.stopped.store(true, Ordering::Relaxed);
            return Err(Error::from(TrapCode::Interrupted));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_was_interrupted_stays_so_and_takes_the_flag_back() {
        assert!(Watch::default().check().is_ok());
        let flag = Arc::new(AtomicBool::new(false));
        let watch = Watch::new(None, Some(flag.clone()));
        assert!(watch.check().is_ok());
        flag.store(true, Ordering::Relaxed);
        assert!(watch.check().is_err() && watch.check().is_err());
        assert!(!flag.load(Ordering::Relaxed));
        let late = Watch::new(Some(Instant::now()), None);
        let error = late.check().unwrap_err();
        let code = error.trap().map(|trap| trap.code());
        assert_eq!(code, Some(TrapCode::Interrupted));
    }
}
