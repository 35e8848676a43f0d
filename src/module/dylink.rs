//! The dynamic linking information of a module: the custom section `dylink.0` or the older `dylink`.
//! All sizes are checked here; nothing else reads these sections. Rules P1 to P11.

use crate::error::Result;

/// What `dylink.0` (or the legacy `dylink` section) says about a library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DylinkInfo {
    /// Whether it came from the legacy `dylink` section.
    pub legacy: bool,
    /// Bytes of memory the library needs.
    pub memory_size: u32,
    /// log2 of the alignment of its memory.
    pub memory_align: u32,
    /// Table slots the library needs.
    pub table_size: u32,
    /// log2 of the alignment of its table slots.
    pub table_align: u32,
    /// Libraries it needs, in order; duplicates as written.
    pub needed: Vec<String>,
    /// Flags of exports (name, flags).
    pub export_info: Vec<(String, SymbolFlags)>,
    /// Flags of imports (module, field, flags).
    pub import_info: Vec<(String, String, SymbolFlags)>,
    /// Where the libraries that it needs are searched (`$ORIGIN` not yet replaced).
    pub runtime_path: Vec<String>,
}

bitflags::bitflags! {
    /// Symbol flags of the linking convention.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SymbolFlags: u32 {
        /// Weak binding.
        const WEAK = 0x1;
        /// Local binding.
        const LOCAL = 0x2;
        /// Hidden visibility.
        const HIDDEN = 0x4;
        /// Not defined here.
        const UNDEFINED = 0x10;
        /// Exported by request.
        const EXPORTED = 0x20;
        /// The name in the symbol table differs from the import's.
        const EXPLICIT_NAME = 0x40;
        /// Kept by strip.
        const NO_STRIP = 0x80;
        /// Thread-local: an offset from `__tls_base`.
        const TLS = 0x100;
        /// An absolute value, not relocated.
        const ABSOLUTE = 0x200;
        const _ = !0;
    }
}

impl DylinkInfo {
    /// Reads the information without parsing or validating the rest of the module (rule P10).
    /// `Ok(None)` if the module's first section is not a dynamic linking section (rule P1).
    ///
    /// # Errors
    /// The file is not a WebAssembly module or the section is malformed.
    pub fn read(_bytes: &[u8]) -> Result<Option<DylinkInfo>> {
        todo!()
    }
}
