//! Traps: the codes with the specification's texts, and the backtrace as a plain value.

use crate::shown::shown;
use std::fmt;

/// Why guest code trapped. The texts are those of the specification's tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum TrapCode {
    /// `unreachable` was executed.
    Unreachable = 1,
    /// A memory access out of bounds.
    MemoryOutOfBounds,
    /// A table access out of bounds.
    TableOutOfBounds,
    /// `call_indirect` with an index beyond the table.
    UndefinedElement,
    /// `call_indirect` of a null entry.
    UninitializedElement,
    /// `call_indirect` of a function of another type.
    IndirectCallTypeMismatch,
    /// Signed division overflow.
    IntegerOverflow,
    /// Integer division by zero.
    IntegerDivideByZero,
    /// Conversion of NaN or out-of-range float to an integer.
    BadConversionToInteger,
    /// The value stack's limit or the limit of nested host calls was reached.
    StackOverflow,
    /// The fuel is used up.
    OutOfFuel,
    /// The deadline passed or the embedder interrupted the guest.
    Interrupted,
    /// A null reference was used.
    NullReference,
    /// A function that was never bound to a definition was called.
    UnresolvedFunction,
    /// A host function failed; the error itself is kept beside the trap.
    Host,
}

impl TrapCode {
    /// The text of the specification's tests for this trap.
    pub fn text(self) -> &'static str {
        match self {
            TrapCode::Unreachable => "unreachable",
            TrapCode::MemoryOutOfBounds => "out of bounds memory access",
            TrapCode::TableOutOfBounds => "out of bounds table access",
            TrapCode::UndefinedElement => "undefined element",
            TrapCode::UninitializedElement => "uninitialized element",
            TrapCode::IndirectCallTypeMismatch => "indirect call type mismatch",
            TrapCode::IntegerOverflow => "integer overflow",
            TrapCode::IntegerDivideByZero => "integer divide by zero",
            TrapCode::BadConversionToInteger => "invalid conversion to integer",
            TrapCode::StackOverflow => "call stack exhausted",
            TrapCode::OutOfFuel => "all fuel consumed",
            TrapCode::Interrupted => "interrupted",
            TrapCode::NullReference => "null reference",
            TrapCode::UnresolvedFunction => "unresolved function called",
            TrapCode::Host => "host function failed",
        }
    }
}

/// A trap: why, a detail in words where the code alone does not tell, and where.
#[derive(Clone, Debug)]
pub struct Trap {
    code: TrapCode,
    detail: Option<Box<str>>,
    backtrace: Backtrace,
}

impl Trap {
    /// A trap without a place; the engine adds the backtrace.
    pub fn new(code: TrapCode) -> Trap {
        Trap {
            code,
            detail: None,
            backtrace: Backtrace::default(),
        }
    }

    /// Adds a detail in words, such as the name of an unresolved function.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Box<str>>) -> Trap {
        self.detail = Some(detail.into());
        self
    }

    /// Why guest code trapped.
    pub fn code(&self) -> TrapCode {
        self.code
    }

    /// The detail in words.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The guest frames at the trap, innermost first.
    pub fn backtrace(&self) -> &Backtrace {
        &self.backtrace
    }

    pub(crate) fn set_backtrace(&mut self, backtrace: Backtrace) {
        self.backtrace = backtrace;
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wasm trap: {}", self.code.text())?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        if !self.backtrace.frames.is_empty() {
            write!(f, "\n{}", self.backtrace)?;
        }
        Ok(())
    }
}

/// Guest frames, innermost first; frames beyond the first and last few are counted, not kept.
#[derive(Clone, Debug, Default)]
pub struct Backtrace {
    /// The frames that were kept.
    pub frames: Vec<Frame>,
    /// How many frames were left out after `frames`.
    pub omitted: usize,
}

/// One guest frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Name of the library or module (`python.wasm`), if known.
    pub module: Option<String>,
    /// Name of the function from the name section or the exports, if known.
    pub function: Option<String>,
    /// Index of the function in its module.
    pub index: u32,
    /// Byte offset of the instruction in the module, if known.
    pub offset: Option<usize>,
}

impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("backtrace:")?;
        for (depth, frame) in self.frames.iter().enumerate() {
            write!(f, "\n  {depth:>3}: {frame}")?;
        }
        if self.omitted > 0 {
            write!(f, "\n       ... {} more frames", self.omitted)?;
        }
        Ok(())
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(module) = &self.module {
            write!(f, "{}!", shown(module))?;
        }
        match &self.function {
            Some(name) => write!(f, "{}", shown(name))?,
            None => write!(f, "func[{}]", self.index)?,
        }
        if let Some(offset) = self.offset {
            write!(f, " + {offset:#x}")?;
        }
        Ok(())
    }
}
