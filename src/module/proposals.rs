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

    /// The one proposal that moves the first error further on, for errors that name none.
    fn unlocking(&mut self, error: &wasmparser::Error) -> WasmFeatures {
        let all = PROPOSALS
            .iter()
            .fold(FEATURES, |all, (feature, _)| all.union(*feature));
        let moves_on = |outcome: Option<Result<(), wasmparser::Error>>| match outcome {
            Some(Ok(())) => true,
            Some(Err(next)) => next.offset() > error.offset(),
            None => false,
        };
        if !moves_on(self.validate(all)) {
            return WasmFeatures::empty();
        }
        for (feature, _) in PROPOSALS.iter().rev() {
            if moves_on(self.validate(FEATURES.union(*feature))) {
                return *feature;
            }
        }
        WasmFeatures::empty()
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
