//! The `publish` subcommand: measures everything in one run and writes what README shows of it, the plot, and the whole tables.

use crate::arguments::{Arguments, Format};
use crate::engines::Engine;
use crate::report::{Report, Table, table};
use crate::{Outcome, cold, load, plot, python, speed};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What README holds between these lines is written here.
const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// Runs the subcommand; `false` if a result was wrong.
pub fn publish(arguments: &Arguments, engines: &[Box<dyn Engine>]) -> Outcome<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = root.join("README.md");
    let text = read(&readme)?;
    let (before, after) =
        around(&text).ok_or_else(|| format!("README.md has no lines `{BEGIN}` and `{END}`"))?;
    let note = machine();
    let (report, right) = speed::measure_all(arguments, engines)?;
    let mut tables = Vec::new();
    let python_library = cold::main_library(arguments)?.display().to_string();
    for file in std::iter::once(&python_library).chain(&arguments.files) {
        tables.push(load::one_file(arguments, engines, file)?);
    }
    tables.push(cold::measure(arguments)?);
    tables.push(python::measure(arguments)?);

    let series = series(&report)?;
    write(
        &root.join("benches/measured.svg"),
        &plot::svg("Time relative to dynlink, all workloads", &note, &series),
    )?;
    let rest: String = tables
        .iter()
        .map(|one| table(Format::Markdown, one))
        .collect();
    let whole = format!(
        "# Measured\n\n{note}. Written by `compare publish`.\n{}{rest}",
        report.format(Format::Markdown)
    );
    write(&root.join("benches/measured.md"), &whole)?;
    let summary = table(Format::Markdown, &overview(&report, &series));
    let promised = table(Format::Markdown, &report.summary());
    let section = format!(
        "{BEGIN}\n{note}; `benches/measured.md` has every workload.\n\n![time of each engine relative to dynlink](benches/measured.svg)\n{summary}{promised}{rest}{END}"
    );
    write(&readme, &format!("{before}{section}{after}"))?;
    Ok(right)
}

/// The text before and after the marked part.
fn around(text: &str) -> Option<(&str, &str)> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some((before, after))
}

/// Every engine that ran a workload, fastest first.
fn series(report: &Report) -> Outcome<Vec<plot::Series>> {
    let ours = report
        .place("dynlink")
        .ok_or("publish needs the engine dynlink")?;
    let mut series: Vec<plot::Series> = (0..report.engines.len())
        .filter_map(|engine| {
            let (mean, _) = report.mean(engine, ours, |_| true)?;
            Some(plot::Series {
                name: report.engines[engine].0.clone(),
                mean,
                ratios: (0..report.workloads.len())
                    .filter_map(|row| report.ratio(row, engine, ours))
                    .collect(),
                ours: engine == ours,
            })
        })
        .collect();
    series.sort_by(|a, b| a.mean.total_cmp(&b.mean));
    Ok(series)
}

/// One row an engine.
fn overview(report: &Report, series: &[plot::Series]) -> Table {
    let rows = series.iter().map(|one| {
        let version = report
            .engines
            .iter()
            .find(|(name, _)| *name == one.name)
            .map_or(String::new(), |(_, version)| version.clone());
        let least = one.ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = one.ratios.iter().copied().fold(0.0, f64::max);
        vec![
            one.name.clone(),
            version,
            format!("{:.2}", one.mean),
            format!("{least:.2}"),
            format!("{most:.2}"),
            one.ratios.len().to_string(),
        ]
    });
    Table {
        title: format!(
            "Time relative to dynlink (more than 1 is slower), median of {} rounds of CPU time",
            report.rounds
        ),
        head: [
            "engine",
            "version",
            "geometric mean",
            "least",
            "most",
            "workloads run",
        ]
        .map(str::to_owned)
        .into(),
        rows: rows.collect(),
    }
}

/// Date, commit, processor and compiler, as far as the system tells.
fn machine() -> String {
    let first_line = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        Some(text.lines().next()?.trim().to_owned())
    };
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = information
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split(':').nth(1))
        .map_or("unknown processor", str::trim);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let unknown = || "unknown".to_owned();
    format!(
        "Measured on {}, commit {}, {cores} x {processor}, {}",
        first_line("date", &["-u", "+%F"]).unwrap_or_else(unknown),
        first_line("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_else(unknown),
        first_line("rustc", &["--version"]).unwrap_or_else(unknown),
    )
}

fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &PathBuf, text: &str) -> Outcome<()> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb");
        assert_eq!(around(&text), Some(("a\n", "\nb")));
        assert_eq!(around("no markers"), None);
    }
}
