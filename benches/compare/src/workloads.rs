//! The workloads: what `benches/workloads/workloads.tsv` lists, with their modules read from disk.

use crate::Outcome;
use std::path::{Path, PathBuf};

/// One program with its measurement sizes and reference results.
pub struct Workload {
    pub name: String,
    /// What it stands for.
    pub kind: String,
    /// One module, or a main module and its side module.
    pub modules: Vec<Vec<u8>>,
    /// `n` of a measurement and the result of `run(n)` in a native build.
    pub full: (i32, u64),
    /// The same for the warm-up and for `--quick`.
    pub quick: (i32, u64),
}

/// The folder with the sources and modules.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads")
}

/// Reads the list; with `wanted`, only those names, in the list's order.
pub fn read(wanted: Option<&[String]>) -> Outcome<Vec<Workload>> {
    let path = folder().join("workloads.tsv");
    let list = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut found = Vec::new();
    for line in list
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let workload = parse(line).map_err(|e| format!("{}: {e} in: {line}", path.display()))?;
        if wanted.is_none_or(|names| names.contains(&workload.name)) {
            found.push(workload);
        }
    }
    if let Some(missing) = wanted.and_then(|names| {
        names
            .iter()
            .find(|name| !found.iter().any(|w| w.name == **name))
    }) {
        return Err(format!(
            "no workload is called {missing}; the names are in {}",
            path.display()
        ));
    }
    Ok(found)
}

fn parse(line: &str) -> Outcome<Workload> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [name, modules, full, quick, kind, full_result, quick_result] = fields[..] else {
        return Err(format!("expected 7 fields, found {}", fields.len()));
    };
    let number = |text: &str| text.parse::<i32>().map_err(|e| format!("{text}: {e}"));
    let result = |text: &str| u64::from_str_radix(text, 16).map_err(|e| format!("{text}: {e}"));
    let mut bytes = Vec::new();
    for file in modules.split('+') {
        let path = folder().join(file);
        bytes.push(std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?);
    }
    Ok(Workload {
        name: name.to_owned(),
        kind: kind.to_owned(),
        modules: bytes,
        full: (number(full)?, result(full_result)?),
        quick: (number(quick)?, result(quick_result)?),
    })
}
