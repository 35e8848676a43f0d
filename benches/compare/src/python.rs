//! The `python` subcommand: benchmarks that run inside Python, timed by Python itself once they are warm. `dynlink run` of a
//! program is compared with a native Python and with any other command that runs one, such as node on the same files.

use crate::arguments::Arguments;
use crate::clock::{geometric_mean, median};
use crate::report::{Table, table};
use crate::{Outcome, cold, emit};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The benchmarks in `benches/python`; `benches/README.md` says what each stands for.
const BENCHMARKS: [&str; 5] = ["fannkuch", "json", "nbody", "regex", "tasks"];

/// Rounds inside one process; the process is started once a round of ours.
const INNER_ROUNDS: &str = "3";

/// Where a guest sees the folder of the benchmarks.
const GUEST_FOLDER: &str = "/benchmarks";

/// A Python: its name, the words of its command, and where it sees the benchmarks.
struct Python {
    name: String,
    words: Vec<String>,
    folder: PathBuf,
}

/// Runs the subcommand.
pub fn python(arguments: &Arguments) -> Outcome<()> {
    let measured = measure(arguments)?;
    emit(arguments, &table(arguments.format, &measured))
}

/// The figures as a table.
pub fn measure(arguments: &Arguments) -> Outcome<Table> {
    let pythons = pythons(arguments)?;
    let mut rows = Vec::new();
    let mut ratios: Vec<Vec<f64>> = vec![Vec::new(); pythons.len()];
    for benchmark in BENCHMARKS {
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); pythons.len()];
        let mut result: Option<String> = None;
        for _ in 0..arguments.rounds {
            for (python, times) in pythons.iter().zip(&mut times) {
                let (rounds, found) = run(python, benchmark)?;
                match &result {
                    Some(expected) if *expected != found => {
                        return Err(format!(
                            "wrong result: {benchmark} in {} gives `{found}`, in {} `{expected}`",
                            python.name, pythons[0].name
                        ));
                    }
                    _ => result = Some(found),
                }
                times.extend(rounds);
            }
        }
        let medians: Vec<f64> = times.iter().map(|times| median(times)).collect();
        let mut row = vec![benchmark.to_owned()];
        for (place, time) in medians.iter().enumerate() {
            ratios[place].push(medians[0] / time);
            row.push(format!("{time:.1}"));
        }
        rows.push(row);
    }
    let means = ratios
        .into_iter()
        .map(|ratios| geometric_mean(ratios).map_or("n/a".to_owned(), |mean| format!("{mean:.2}")));
    rows.push(
        std::iter::once("dynlink's time over this one's, geomean".to_owned())
            .chain(means)
            .collect(),
    );
    let head = std::iter::once("benchmark".to_owned())
        .chain(pythons.iter().map(|python| python.name.clone()))
        .collect();
    Ok(Table {
        title: format!(
            "Python, warm: milliseconds of processor time of one run, medians of {} processes of {INNER_ROUNDS} runs",
            arguments.rounds
        ),
        head,
        rows,
    })
}

fn pythons(arguments: &Arguments) -> Outcome<Vec<Python>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python");
    let (dynlink, program) = cold::command_and_program(arguments)?;
    let words = [
        dynlink.display().to_string(),
        "run".to_owned(),
        "--dir".to_owned(),
        format!("{}::{GUEST_FOLDER}:ro", folder.display()),
        program.display().to_string(),
    ];
    let mut pythons = vec![Python {
        name: "dynlink".to_owned(),
        words: words.into(),
        folder: GUEST_FOLDER.into(),
    }];
    let native = Python {
        name: "native".to_owned(),
        words: vec!["python3".to_owned()],
        folder: folder.clone(),
    };
    if Command::new("python3").arg("--version").output().is_ok() {
        pythons.push(native);
    }
    for also in &arguments.also {
        let (name, command) = also
            .split_once('=')
            .ok_or_else(|| format!("--also {also}: expected NAME=COMMAND"))?;
        pythons.push(Python {
            name: name.to_owned(),
            words: command.split_whitespace().map(str::to_owned).collect(),
            folder: folder.clone(),
        });
    }
    Ok(pythons)
}

/// Milliseconds of each round, and what the benchmark computed.
fn run(python: &Python, benchmark: &str) -> Outcome<(Vec<f64>, String)> {
    let [program, words @ ..] = &python.words[..] else {
        return Err(format!("--also {}: no command", python.name));
    };
    let output = Command::new(program)
        .args(words)
        .arg(python.folder.join("measure.py"))
        .args([&format!("bench_{benchmark}"), INNER_ROUNDS])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    let failed = || {
        format!(
            "{benchmark} in {} failed: {}",
            python.name,
            String::from_utf8_lossy(&output.stderr)
        )
    };
    if !output.status.success() {
        return Err(failed());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let of = |key: &'static str| {
        text.lines()
            .filter_map(move |line| line.strip_prefix(key)?.strip_prefix(' '))
    };
    let times: Vec<f64> = of("ms").filter_map(|text| text.parse().ok()).collect();
    match of("result").next() {
        Some(result) if !times.is_empty() => Ok((times, result.to_owned())),
        _ => Err(failed()),
    }
}
