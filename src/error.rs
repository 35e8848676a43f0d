//! The one error type of the library. One word wide, so that `Result` stays cheap on every path.
//!
//! `ErrorKind` carries data, not prose; its `Display` names the thing, where, what was expected and
//! found, and the remedy where there is one.

use crate::shown::shown;
use crate::trap::Trap;
use std::fmt;

/// `Result` with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of loading, linking or running a module. One word wide.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    /// Outermost last.
    context: Vec<String>,
}

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes are not a valid module: reason and byte offset.
    Malformed {
        /// What is wrong.
        reason: String,
        /// Byte offset in the file.
        offset: usize,
    },
    /// A custom section that the linker needs (`dylink.0`, `dylink`) is malformed.
    Section {
        /// Name of the section.
        section: &'static str,
        /// Byte offset in the file.
        offset: usize,
        /// What is wrong.
        reason: String,
    },
    /// The module needs a WebAssembly proposal that this engine does not have.
    Unsupported {
        /// Name of the proposal as the WebAssembly group spells it.
        proposal: &'static str,
        /// Where it was met.
        detail: String,
    },
    /// An import cannot be satisfied or has another type than the definition.
    Import {
        /// Module name of the import.
        module: String,
        /// Field name of the import.
        name: String,
        /// Expected against found.
        reason: String,
    },
    /// A limit of the configuration or of the process was reached.
    Limit {
        /// Which limit.
        what: String,
        /// What was needed.
        needed: u64,
        /// What is allowed.
        allowed: u64,
    },
    /// The dynamic linker could not load a library; the text lists all problems.
    Link(String),
    /// Guest code trapped.
    Trap(Trap),
    /// The guest asked for the end of the process with this status.
    Exit(i32),
    /// A handle or argument of the embedder does not fit (wrong store, wrong type, unknown export).
    Usage(String),
    /// A file could not be read.
    Io {
        /// The path.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// An error of a host function.
    Host(Box<dyn std::error::Error + Send + Sync + 'static>),
    /// Any other message.
    Message(String),
}

impl Error {
    /// An error of this kind.
    #[cold]
    pub fn new(kind: ErrorKind) -> Error {
        Error(Box::new(Inner {
            kind,
            context: Vec::new(),
        }))
    }

    /// An error with a message only.
    #[cold]
    pub fn msg(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Message(message.into()))
    }

    /// Wraps an error of a host function.
    #[cold]
    pub fn host(error: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::new(ErrorKind::Host(Box::new(error)))
    }

    /// A handle or argument of the embedder does not fit.
    #[cold]
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Usage(message.into()))
    }

    /// The guest ends the process with this status.
    #[cold]
    pub fn exit(status: i32) -> Error {
        Error::new(ErrorKind::Exit(status))
    }

    /// Adds what was being done; the newest context is printed first.
    #[must_use]
    #[cold]
    pub fn context(mut self, what: impl Into<String>) -> Error {
        self.0.context.push(what.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The kind, mutable (the engine adds the backtrace of a trap here).
    pub(crate) fn kind_mut(&mut self) -> &mut ErrorKind {
        &mut self.0.kind
    }

    /// The trap, if guest code trapped.
    pub fn trap(&self) -> Option<&Trap> {
        match &self.0.kind {
            ErrorKind::Trap(trap) => Some(trap),
            _ => None,
        }
    }

    /// The exit status, if the guest ended the process.
    pub fn exit_status(&self) -> Option<i32> {
        match &self.0.kind {
            ErrorKind::Exit(status) => Some(*status),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.0.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        write!(f, "{}", self.0.kind)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::Malformed { reason, offset } => {
                write!(f, "invalid module: {reason} (at byte {offset:#x})")
            }
            ErrorKind::Section {
                section,
                offset,
                reason,
            } => write!(
                f,
                "invalid section `{section}`: {reason} (at byte {offset:#x})"
            ),
            ErrorKind::Unsupported { proposal, detail } => write!(
                f,
                "the module needs the WebAssembly proposal `{proposal}`, which this engine does not have: {detail}"
            ),
            ErrorKind::Import {
                module,
                name,
                reason,
            } => write!(f, "import `{}.{}`: {reason}", shown(module), shown(name)),
            ErrorKind::Limit {
                what,
                needed,
                allowed,
            } => write!(
                f,
                "limit reached: {what}: {needed} needed, {allowed} allowed"
            ),
            ErrorKind::Link(text) | ErrorKind::Usage(text) | ErrorKind::Message(text) => {
                f.write_str(text)
            }
            ErrorKind::Trap(trap) => write!(f, "{trap}"),
            ErrorKind::Exit(status) => write!(f, "the guest exited with status {status}"),
            ErrorKind::Io { path, source } => write!(f, "cannot read `{path}`: {source}"),
            ErrorKind::Host(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            ErrorKind::Io { source, .. } => Some(source),
            ErrorKind::Host(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<Trap> for Error {
    fn from(trap: Trap) -> Error {
        Error::new(ErrorKind::Trap(trap))
    }
}

impl From<crate::trap::TrapCode> for Error {
    fn from(code: crate::trap::TrapCode) -> Error {
        Error::from(Trap::new(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn context_is_printed_outermost_first() {
        let error = Error::msg("no such file")
            .context("opening a")
            .context("loading b");
        assert_eq!(error.to_string(), "loading b: opening a: no such file");
    }
}
