//! What linking cost: times and counts of a process, as `LD_DEBUG=statistics` shows them.
#![forbid(unsafe_code)]

use super::process::Process;
use super::trace::TraceTopics;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Counters that grow while a process links. Times are in nanoseconds.
#[derive(Default)]
pub(crate) struct Counters {
    pub loads: AtomicU64,
    pub time: AtomicU64,
    pub loading: AtomicU64,
    pub relocation: AtomicU64,
    pub relocations: AtomicU64,
    pub lookups: AtomicU64,
    pub late: AtomicU64,
}

/// Adds the time from its making to its end to a counter.
pub(crate) struct Clock<'a> {
    started: Instant,
    counter: &'a AtomicU64,
}

impl<'a> Clock<'a> {
    pub fn new(counter: &'a AtomicU64) -> Clock<'a> {
        Clock {
            started: Instant::now(),
            counter,
        }
    }
}

impl Drop for Clock<'_> {
    fn drop(&mut self) {
        let time = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counter.fetch_add(time, Relaxed);
    }
}

/// What linking cost so far: the start of the process, and everything that was loaded since.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkStatistics {
    /// Loads that were planned: the start, and each opening of a library that was not loaded.
    pub loads: u64,
    /// Time in the linker, without constructors.
    pub time: Duration,
    /// Of that, time for finding, reading and parsing files.
    pub loading_time: Duration,
    /// Of that, time for binding imports, filling GOT cells, and running relocation functions.
    pub relocation_time: Duration,
    /// Imports that were bound.
    pub relocations: u64,
    /// Names that were looked for.
    pub lookups: u64,
    /// Functions that were bound at their first call.
    pub late_bindings: u64,
}

impl<T: 'static> Process<T> {
    /// What linking cost so far.
    pub fn statistics(&self) -> LinkStatistics {
        let counters = &self.0.counters;
        let time = |counter: &AtomicU64| Duration::from_nanos(counter.load(Relaxed));
        LinkStatistics {
            loads: counters.loads.load(Relaxed),
            time: time(&counters.time),
            loading_time: time(&counters.loading),
            relocation_time: time(&counters.relocation),
            relocations: counters.relocations.load(Relaxed),
            lookups: counters.lookups.load(Relaxed),
            late_bindings: counters.late.load(Relaxed),
        }
    }

    /// Tells the statistics of the start, if `statistics` is traced.
    pub(crate) fn trace_statistics(&self) {
        let trace = &self.0.trace;
        let tell = |line: String| trace.line(TraceTopics::STATISTICS, format_args!("{line}"));
        if !trace.wants(TraceTopics::STATISTICS) {
            return;
        }
        let all = self.statistics();
        let micros = |time: Duration| time.as_micros();
        let share = |part: Duration| {
            let whole = all.time.as_nanos().max(1);
            let permille = part.as_nanos() * 1000 / whole;
            format!("{} us ({}.{}%)", micros(part), permille / 10, permille % 10)
        };
        tell(String::new());
        tell("runtime linker statistics:".into());
        tell(format!(
            "  total startup time in dynamic loader: {} us",
            micros(all.time)
        ));
        tell(format!(
            "            time needed for relocation: {}",
            share(all.relocation_time)
        ));
        tell(format!(
            "                 number of relocations: {}",
            all.relocations
        ));
        tell(format!(
            "              number of symbol lookups: {}",
            all.lookups
        ));
        tell(format!(
            "                   number of GOT cells: {}",
            self.cell_count()
        ));
        tell(format!(
            "           time needed to load objects: {}",
            share(all.loading_time)
        ));
    }

    /// Tells the statistics of the whole run, if `statistics` is traced. To be called when the program has ended.
    pub fn trace_final_statistics(&self) {
        let trace = &self.0.trace;
        let tell = |line: String| trace.line(TraceTopics::STATISTICS, format_args!("{line}"));
        if !trace.wants(TraceTopics::STATISTICS) {
            return;
        }
        let all = self.statistics();
        tell(String::new());
        tell("runtime linker statistics:".into());
        tell(format!(
            "           final number of relocations: {}",
            all.relocations
        ));
        tell(format!(
            "        final number of symbol lookups: {}",
            all.lookups
        ));
        tell(format!(
            "            bindings at the first call: {}",
            all.late_bindings
        ));
        tell(format!(
            "                 final number of loads: {}",
            all.loads
        ));
    }

    fn cell_count(&self) -> usize {
        let state = self.state();
        state
            .objects
            .values()
            .map(|object| object.cells.len())
            .sum()
    }
}
