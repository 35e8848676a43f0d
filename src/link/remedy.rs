//! What to do about names that programs do not define themselves, so that who links one needs no guesses.
#![forbid(unsafe_code)]

use super::process::Process;
use super::symbols::javascript_hint;
use crate::module::Module;

/// Parts of the ABI for cooperative threads (rule T8).
const COOPERATIVE_THREADS: &[&str] = &[
    "__init_stack_pointer",
    "__init_tls_base",
    "__wasm_get_stack_pointer",
    "__wasm_get_tls_base",
    "__wasm_library_tls_info",
    "__wasm_program_tls_info",
    "__wasm_set_stack_pointer",
    "__wasm_set_tls_base",
];

/// What compilers call without being asked to, beside the compiler runtime's arithmetic.
const CALLED_BY_COMPILERS: &[&str] = &[
    "__stack_chk_fail",
    "__stack_chk_guard",
    "abort",
    "memcmp",
    "memcpy",
    "memmove",
    "memset",
];

impl<T: 'static> Process<T> {
    /// The remedy for a function that nobody defines, if its name tells one to the module that imports it, to the host or
    /// to the linker (rules C7, R11, T8).
    pub(super) fn remedy_for_function(
        &self,
        importer: Option<&Module>,
        from: &str,
        name: &str,
    ) -> Option<String> {
        importer
            .and_then(|module| javascript_hint(module, name))
            .or_else(|| self.0.host.hint(from, name))
            .or_else(|| remedy(name).map(String::from))
    }
}

/// The remedy for an undefined symbol, if the name alone tells one (rules C7, T8).
pub(crate) fn remedy(name: &str) -> Option<&'static str> {
    if COOPERATIVE_THREADS.contains(&name) {
        return Some(
            "it belongs to the ABI for cooperative threads, which is not supported: build the module without it",
        );
    }
    if CALLED_BY_COMPILERS.contains(&name) {
        return Some(
            "compilers call it without being asked to: the main module must export it (wasm-ld: `--export=NAME`, or `--export-all` with its C library)",
        );
    }
    is_arithmetic(name).then_some(
        "it belongs to the compiler's runtime library: link the library with `libclang_rt.builtins`, or let the main module export it",
    )
}

/// Whether a name follows the pattern of the compiler runtime's arithmetic: `__`, an operation, one or two machine modes
/// (`__addtf3`, `__multi3`, `__floatsitf`).
fn is_arithmetic(name: &str) -> bool {
    const OPERATIONS: &[&str] = &[
        "add", "sub", "mul", "div", "mod", "udiv", "umod", "divmod", "udivmod", "neg", "ashl",
        "ashr", "lshr", "cmp", "ucmp", "eq", "ne", "lt", "le", "gt", "ge", "unord", "fix",
        "fixuns", "float", "floatun", "extend", "trunc", "powi", "clz", "ctz", "popcount",
        "parity", "bswap", "ffs",
    ];
    const MODES: &[&str] = &[
        "si", "di", "ti", "hf", "sf", "df", "tf", "xf", "sc", "dc", "tc",
    ];
    let Some(rest) = name.strip_prefix("__") else {
        return false;
    };
    let rest = rest.trim_end_matches(|digit: char| digit.is_ascii_digit());
    OPERATIONS.iter().any(|operation| {
        rest.strip_prefix(operation).is_some_and(|modes| {
            let pair = modes.split_at_checked(2);
            MODES.contains(&modes)
                || pair.is_some_and(|(from, to)| MODES.contains(&from) && MODES.contains(&to))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_of_the_compiler_runtime_is_recognised_by_its_names() {
        for name in [
            "__multi3",
            "__addtf3",
            "__udivmodti4",
            "__floatsitf",
            "__extendhfsf2",
            "__lttf2",
            "__powisf2",
        ] {
            assert!(is_arithmetic(name), "{name}");
        }
        for name in [
            "multi3",
            "__add",
            "__addxx3",
            "__main_void",
            "__mulé",
            "__muléé",
            "",
        ] {
            assert!(!is_arithmetic(name), "{name}");
        }
    }
}
