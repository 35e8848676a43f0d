//! The `load` subcommand: time and memory from bytes to a module that is ready to be instantiated. Every measurement is a process of
//! its own, so that no engine profits from memory that another one has left, and growth of resident memory means something.

use crate::arguments::Arguments;
use crate::clock::{median, process_time, resident_bytes};
use crate::engines::{self, Engine};
use crate::report::{Table, table};
use crate::{Outcome, emit, guarded};
use std::process::Command;
use std::time::Instant;

/// What a child measures: CPU and wall time of the first load, the same of later loads, memory.
const FIGURES: usize = 5;

/// First argument of the child processes that measure.
pub const CHILD: &str = "--measure-one-load";

/// Loads after the first one in a child; their median is the figure without the system's work for fresh memory.
const WARM_LOADS: usize = 4;

/// Longer loads are not repeated in the child: what fresh memory costs does not matter in them.
const LONG_SECONDS: f64 = 1.0;

pub fn load(arguments: &Arguments, engines: &[Box<dyn Engine>]) -> Outcome<()> {
    if arguments.files.is_empty() {
        return Err("load needs the path of at least one module".to_owned());
    }
    let mut text = String::new();
    for file in &arguments.files {
        text.push_str(&table(
            arguments.format,
            &one_file(arguments, engines, file)?,
        ));
    }
    emit(arguments, &text)
}

/// The figures of all engines on one module.
pub fn one_file(arguments: &Arguments, engines: &[Box<dyn Engine>], file: &str) -> Outcome<Table> {
    let bytes = std::fs::metadata(file)
        .map_err(|e| format!("{file}: {e}"))?
        .len();
    let modes: Vec<(&str, &str)> = engines
        .iter()
        .flat_map(|engine| {
            let modes = engine.load_modes().iter();
            modes.map(|mode| (engine.name(), *mode))
        })
        .collect();
    let mut results: Vec<Outcome<Vec<[f64; FIGURES]>>> =
        modes.iter().map(|_| Ok(Vec::new())).collect();
    for _ in 0..arguments.rounds {
        for ((engine, mode), result) in modes.iter().zip(&mut results) {
            let Ok(figures) = result else { continue };
            // A compiler of seconds does not need many rounds.
            if figures.len() >= 2 && figures[0][0] > 1000.0 * LONG_SECONDS {
                continue;
            }
            match measure(engine, mode, file) {
                Ok(found) => figures.push(found),
                Err(reason) => *result = Err(reason),
            }
        }
    }
    let rows = modes.iter().zip(&results).map(|((engine, mode), result)| {
        let mut row = vec![(*engine).to_owned(), (*mode).to_owned()];
        match result {
            Ok(figures) => {
                row.extend((0..FIGURES).map(|i| {
                    let column: Vec<f64> = figures.iter().map(|figure| figure[i]).collect();
                    format!("{:.2}", median(&column))
                }));
            }
            Err(reason) => {
                row.extend((1..FIGURES).map(|_| "n/a".to_owned()));
                row.push(reason.lines().next().unwrap_or_default().to_owned());
            }
        }
        row
    });
    let name = std::path::Path::new(file).file_name().unwrap_or_default();
    Ok(Table {
        title: format!(
            "Load {} ({:.2} MB), medians of {} processes",
            name.to_string_lossy(),
            bytes as f64 / 1e6,
            arguments.rounds
        ),
        rows: rows.collect(),
        head: [
            "engine",
            "mode",
            "first, CPU ms",
            "wall ms",
            "again, CPU ms",
            "wall ms",
            "memory, MiB",
        ]
        .map(str::to_owned)
        .into(),
    })
}

/// CPU and wall milliseconds of the first load and of later ones, growth of resident memory in MiB.
fn measure(engine: &str, mode: &str, file: &str) -> Outcome<[f64; FIGURES]> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new(program)
        .args([CHILD, engine, mode, file])
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(message
            .lines()
            .next()
            .unwrap_or("the process died")
            .to_owned());
    }
    let figures: Vec<f64> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    <[f64; FIGURES]>::try_from(figures).map_err(|_| format!("unexpected output of a child: {text}"))
}

/// The child: loads one module in one way and prints the figures.
pub fn child(words: &[String]) -> Outcome<()> {
    let [engine, mode, file] = words else {
        return Err("a child needs engine, mode and file".to_owned());
    };
    let engines = engines::all();
    let engine = engines
        .iter()
        .find(|candidate| candidate.name() == engine)
        .ok_or("no such engine")?;
    let bytes = std::fs::read(file).map_err(|e| format!("{file}: {e}"))?;
    let timed = || {
        let (cpu, wall) = (process_time(), Instant::now());
        let module = guarded(|| engine.load(&bytes, mode))?;
        let times = [process_time() - cpu, wall.elapsed()];
        Outcome::Ok((times.map(|time| time.as_secs_f64() * 1000.0), module))
    };
    let resident = resident_bytes();
    let (first, module) = timed()?;
    let growth = resident_bytes().saturating_sub(resident) as f64 / f64::from(1 << 20);
    drop(module);
    let mut warm = Vec::new();
    while warm.len() < WARM_LOADS && first[1] < 1000.0 * LONG_SECONDS {
        warm.push(timed()?.0);
    }
    if warm.is_empty() {
        warm.push(first);
    }
    let again =
        [0, 1].map(|part| median(&warm.iter().map(|times| times[part]).collect::<Vec<_>>()));
    println!(
        "{} {} {} {} {growth}",
        first[0], first[1], again[0], again[1]
    );
    Ok(())
}
