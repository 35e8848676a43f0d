//! The `cold` subcommand: whole processes, from the first byte of the command to its exit. `dynlink run` of a Python program is
//! compared with a process in which wasmtime's Cranelift only compiles the interpreter's main library, and with any other command
//! that runs Python (`--also`), such as node on the same files.

use crate::arguments::Arguments;
use crate::clock::{children_time, median};
use crate::report::{Table, table};
use crate::{Outcome, emit, load};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Runs the subcommand.
pub fn cold(arguments: &Arguments) -> Outcome<()> {
    let measured = measure(arguments)?;
    emit(arguments, &table(arguments.format, &measured))
}

/// The command to time and the manifest of the program, or their defaults.
pub fn command_and_program(arguments: &Arguments) -> Outcome<(PathBuf, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let or =
        |path: &Option<PathBuf>, default: &str| path.clone().unwrap_or_else(|| root.join(default));
    let dynlink = or(&arguments.dynlink, "target/release/dynlink");
    if !dynlink.exists() {
        return Err(format!(
            "{} does not exist; build it with `cargo build --release`, or give --dynlink",
            dynlink.display()
        ));
    }
    let program = or(&arguments.program, "fixtures/programs/python311.toml");
    Ok((dynlink, program))
}

/// The figures as a table.
pub fn measure(arguments: &Arguments) -> Outcome<Table> {
    let (dynlink, program) = command_and_program(arguments)?;
    let ours = || {
        let mut command = Command::new(&dynlink);
        command
            .arg("run")
            .arg(&program)
            .args(["-c", &arguments.code]);
        command
    };
    // The first run fetches packages and fills the caches of the system.
    let output = ours()
        .output()
        .map_err(|e| format!("{}: {e}", dynlink.display()))?;
    if !output.status.success() {
        return Err(format!(
            "`dynlink run` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let main = main_library(arguments)?;
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let cranelift = || {
        let mut command = Command::new(&own);
        command
            .args([load::CHILD, "cranelift", "compile, one thread"])
            .arg(&main);
        command
    };
    let also = arguments
        .also
        .iter()
        .map(|also| other(also))
        .collect::<Outcome<Vec<_>>>()?;
    let mut times = vec![Vec::new(); 2 + also.len()];
    for round in 0..arguments.rounds {
        times[0].push(time(ours())?);
        // Seconds of compiling vary little.
        if round < 3 {
            times[1].push(time(cranelift())?);
        }
        for ((_, words), times) in also.iter().zip(&mut times[2..]) {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).args(["-c", &arguments.code]);
            times.push(time(command)?);
        }
    }
    let column = |which: usize, part: usize| {
        median(
            &times[which]
                .iter()
                .map(|pair: &[f64; 2]| pair[part])
                .collect::<Vec<_>>(),
        )
    };
    let row = |name: String, which: usize| {
        vec![
            name,
            format!("{:.1}", column(which, 0)),
            format!("{:.1}", column(which, 1)),
        ]
    };
    let mut rows = vec![
        row(
            format!("dynlink run -c '{}' (prints {printed})", arguments.code),
            0,
        ),
        row(
            format!(
                "Cranelift only compiles {}",
                main.file_name().unwrap_or_default().to_string_lossy()
            ),
            1,
        ),
        vec![
            "ratio".to_owned(),
            format!("{:.3}", column(0, 0) / column(1, 0)),
            format!("{:.3}", column(0, 1) / column(1, 1)),
        ],
    ];
    for (place, (name, _)) in also.iter().enumerate() {
        rows.push(row(name.clone(), 2 + place));
        rows.push(vec![
            format!("ratio to {name}"),
            format!("{:.3}", column(0, 0) / column(2 + place, 0)),
            format!("{:.3}", column(0, 1) / column(2 + place, 1)),
        ]);
    }
    Ok(Table {
        title: format!(
            "Cold start, whole process, medians of {} rounds",
            arguments.rounds
        ),
        head: ["process", "wall, ms", "CPU, ms"].map(str::to_owned).into(),
        rows,
    })
}

/// Name and words of a command of `--also`.
fn other(also: &str) -> Outcome<(String, Vec<String>)> {
    let (name, command) = also
        .split_once('=')
        .ok_or_else(|| format!("--also {also}: expected NAME=COMMAND"))?;
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if words.is_empty() {
        return Err(format!("--also {name}: no command"));
    }
    Ok((name.to_owned(), words))
}

/// Wall and CPU milliseconds of a process.
fn time(mut command: Command) -> Outcome<[f64; 2]> {
    let (wall, cpu) = (Instant::now(), children_time());
    let output = command.output().map_err(|e| e.to_string())?;
    let times = [wall.elapsed(), children_time() - cpu].map(|time| time.as_secs_f64() * 1000.0);
    if !output.status.success() {
        return Err(format!(
            "{command:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(times)
}

/// `--main`, or `python3.11.wasm` in the cache that `dynlink run` fills.
pub fn main_library(arguments: &Arguments) -> Outcome<PathBuf> {
    if let Some(path) = &arguments.main {
        return Ok(path.clone());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache =
        cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let cache = cache.ok_or("no cache folder is known; give --main PATH")?;
    find(&cache.join("dynlink"), "python3.11.wasm", 8).ok_or_else(|| {
        format!(
            "no python3.11.wasm below {}; give --main PATH",
            cache.display()
        )
    })
}

fn find(folder: &Path, name: &str, depth: u32) -> Option<PathBuf> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            folders.push(path);
        } else if path.file_name().is_some_and(|file| file == name) {
            return Some(path);
        }
    }
    (depth > 0).then(|| {
        folders
            .iter()
            .find_map(|folder| find(folder, name, depth - 1))
    })?
}
