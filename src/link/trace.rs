//! What the linker does, told line by line as `LD_DEBUG` of an ELF system does. Off costs one test of a flag word: no
//! text is made.
#![forbid(unsafe_code)]

use crate::shown::{escaped_line, shortened_to};
use std::fmt;
use std::sync::Arc;

bitflags::bitflags! {
    /// What is told.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct TraceTopics: u32 {
        /// Where libraries are looked for.
        const LIBS = 1;
        /// Which files are loaded and where they are placed.
        const FILES = 2;
        /// In which objects a symbol is looked for.
        const SYMBOLS = 4;
        /// Which definition an import is bound to.
        const BINDINGS = 8;
        /// Relocation functions that run.
        const RELOC = 16;
        /// Constructors that run.
        const INIT = 32;
        /// Scopes of loaded objects.
        const SCOPES = 64;
        /// Times and counts.
        const STATISTICS = 128;
    }
}

impl TraceTopics {
    /// The names of all topics.
    pub fn names() -> impl Iterator<Item = &'static str> {
        [
            "libs",
            "files",
            "symbols",
            "bindings",
            "reloc",
            "init",
            "scopes",
            "statistics",
            "all",
        ]
        .into_iter()
    }

    /// The topics of a list as `LD_DEBUG` has it: names separated by commas, colons or spaces, or `all`. Unknown names
    /// are handed back.
    pub fn parse(list: &str) -> (TraceTopics, Vec<&str>) {
        let mut topics = TraceTopics::empty();
        let mut unknown = Vec::new();
        for name in list.split([',', ':', ' ']).filter(|name| !name.is_empty()) {
            match name {
                "all" => topics |= TraceTopics::all() - TraceTopics::STATISTICS,
                "libs" => topics |= TraceTopics::LIBS,
                "files" => topics |= TraceTopics::FILES,
                "symbols" => topics |= TraceTopics::SYMBOLS,
                "bindings" => topics |= TraceTopics::BINDINGS,
                "reloc" => topics |= TraceTopics::RELOC,
                "init" => topics |= TraceTopics::INIT,
                "scopes" => topics |= TraceTopics::SCOPES,
                "statistics" => topics |= TraceTopics::STATISTICS,
                // What glibc knows too and what has no counterpart here: symbol versions, libraries without use.
                "versions" | "unused" => {}
                other => unknown.push(other),
            }
        }
        (topics, unknown)
    }
}

/// Takes the lines.
pub type TraceSink = Arc<dyn Fn(TraceTopics, &str) + Send + Sync>;

/// Most characters of a line: enough for a scope of hundreds of libraries.
const MOST_LINE: usize = 16_384;

/// Where the lines go, if anywhere.
#[derive(Clone, Default)]
pub(crate) struct Trace {
    topics: TraceTopics,
    sink: Option<TraceSink>,
}

impl Trace {
    pub fn new(topics: TraceTopics, sink: TraceSink) -> Trace {
        Trace {
            topics,
            sink: Some(sink),
        }
    }

    /// Whether lines of any of these topics are wanted; a test before work that only serves tracing.
    pub fn wants(&self, topic: TraceTopics) -> bool {
        self.topics.intersects(topic)
    }

    /// Tells one line. The text is made only if it is wanted. What guests chose draws no line of its own, commands no
    /// terminal, and is no longer than can be read.
    pub fn line(&self, topic: TraceTopics, line: fmt::Arguments<'_>) {
        if self.wants(topic)
            && let Some(sink) = &self.sink
        {
            let line = line.to_string();
            sink(topic, &escaped_line(&shortened_to(&line, MOST_LINE)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn only_wanted_topics_reach_the_sink() {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = lines.clone();
        let trace = Trace::new(
            TraceTopics::LIBS,
            Arc::new(move |_, line| sink.lock().unwrap().push(line.to_string())),
        );
        trace.line(TraceTopics::LIBS, format_args!("find library={}", "a.so"));
        trace.line(TraceTopics::FILES, format_args!("never"));
        assert_eq!(*lines.lock().unwrap(), ["find library=a.so"]);
    }

    #[test]
    fn the_list_of_topics_is_read_as_ld_so_reads_it() {
        let (topics, unknown) = TraceTopics::parse("libs,bindings:nonsense");
        assert_eq!(topics, TraceTopics::LIBS | TraceTopics::BINDINGS);
        assert_eq!(unknown, ["nonsense"]);
        let all = TraceTopics::parse("all,statistics").0;
        assert_eq!(all, TraceTopics::all());
        // As in glibc, `all` is all but the statistics.
        assert!(
            !TraceTopics::parse("all")
                .0
                .contains(TraceTopics::STATISTICS)
        );
        assert_eq!(TraceTopics::parse("versions unused").1, [""; 0]);
    }
}
