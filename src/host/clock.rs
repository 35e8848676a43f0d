//! The clocks of a process: those of the system, or a virtual one for runs that must repeat exactly.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Nanoseconds that a virtual clock advances with every reading, so that loops that wait for time to pass end.
const VIRTUAL_TICK: u64 = 1_000;

/// Where a process gets the time from. Cheap to clone; clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System {
        start: Instant,
    },
    Virtual {
        realtime_start: u64,
        elapsed: Arc<AtomicU64>,
    },
}

impl Clock {
    /// The system's clocks.
    pub fn system() -> Clock {
        Clock(Source::System {
            start: Instant::now(),
        })
    }

    /// A clock that starts at this time (nanoseconds since 1970) and moves a microsecond per reading and by each sleep,
    /// which takes no real time.
    pub fn fixed(realtime: u64) -> Clock {
        Clock(Source::Virtual {
            realtime_start: realtime,
            elapsed: Arc::new(AtomicU64::new(0)),
        })
    }

    /// Nanoseconds since 1970.
    pub fn realtime(&self) -> u64 {
        match &self.0 {
            Source::System { .. } => nanoseconds(SystemTime::now()),
            Source::Virtual { realtime_start, .. } => {
                realtime_start.saturating_add(self.monotonic())
            }
        }
    }

    /// Nanoseconds since the clock was made; never goes back.
    pub fn monotonic(&self) -> u64 {
        match &self.0 {
            // Some guests take 0 for "no time"; the offset keeps the first reading away from it.
            Source::System { start } => saturate(start.elapsed()).saturating_add(VIRTUAL_TICK),
            Source::Virtual { elapsed, .. } => advance(elapsed, VIRTUAL_TICK),
        }
    }

    /// Nanoseconds of processor time that this process used; where the system does not tell, the time since the clock was made.
    pub fn processor(&self) -> u64 {
        match &self.0 {
            #[cfg(unix)]
            Source::System { .. } => {
                let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
                let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
                let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
                seconds
                    .saturating_mul(1_000_000_000)
                    .saturating_add(nanoseconds)
            }
            _ => self.monotonic(),
        }
    }

    /// Resolution of the clocks in nanoseconds.
    pub fn resolution(&self) -> u64 {
        match self.0 {
            Source::System { .. } => 1,
            Source::Virtual { .. } => VIRTUAL_TICK,
        }
    }

    /// Whether sleeping only moves the clock.
    pub fn is_virtual(&self) -> bool {
        matches!(self.0, Source::Virtual { .. })
    }

    /// Sleeps for this many nanoseconds, at once on a virtual clock.
    pub fn sleep(&self, nanoseconds: u64) {
        match &self.0 {
            Source::System { .. } => std::thread::sleep(Duration::from_nanos(nanoseconds)),
            Source::Virtual { elapsed, .. } => {
                advance(elapsed, nanoseconds);
            }
        }
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::system()
    }
}

/// Moves a virtual clock and gives its new time. `fetch_add` would wrap around: a guest may sleep for 2^64-1.
fn advance(elapsed: &AtomicU64, by: u64) -> u64 {
    let mut now = elapsed.load(Ordering::Relaxed);
    loop {
        let later = now.saturating_add(by);
        match elapsed.compare_exchange_weak(now, later, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return later,
            Err(changed) => now = changed,
        }
    }
}

/// Nanoseconds since 1970 of a time of the system; 0 before, the largest number after 2554.
pub(crate) fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, saturate)
}

fn saturate(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_moves_with_readings_and_sleeps_only() {
        let clock = Clock::fixed(1_000_000_000);
        assert_eq!(clock.realtime(), 1_000_001_000);
        clock.sleep(5_000_000_000);
        assert_eq!(clock.monotonic(), 5_000_002_000);
        clock.sleep(u64::MAX);
        assert_eq!(clock.monotonic(), u64::MAX);
        assert_eq!(clock.monotonic(), u64::MAX);
    }

    #[test]
    fn the_systems_clocks_move_forward() {
        let clock = Clock::system();
        let before = clock.monotonic();
        clock.sleep(1_000_000);
        assert!(clock.monotonic() >= before + 1_000_000);
        assert!(clock.realtime() > 1_600_000_000_000_000_000);
        let used = clock.processor();
        assert!(clock.processor() >= used);
    }
}
