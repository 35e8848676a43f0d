//! The `speed` and `check` subcommands.

use crate::arguments::Arguments;
use crate::clock::{median, thread_time};
use crate::engines::{self, Engine, Program};
use crate::report::{Cell, Report};
use crate::workloads::{self, Workload};
use crate::{Outcome, emit, guarded};
use std::process::Command;

/// One engine on one workload.
enum State {
    Running {
        program: Box<dyn Program>,
        milliseconds: Vec<f64>,
    },
    Failed(String),
}

/// Times all workloads; `false` if a result was wrong.
pub fn speed(arguments: &Arguments, engines: &[Box<dyn Engine>]) -> Outcome<bool> {
    let (report, right) = measure_all(arguments, engines)?;
    emit(arguments, &report.format(arguments.format))?;
    Ok(right)
}

/// The figures of all engines on all workloads; `false` beside them if a result was wrong.
pub fn measure_all(arguments: &Arguments, engines: &[Box<dyn Engine>]) -> Outcome<(Report, bool)> {
    let workloads = workloads::read(arguments.workloads.as_deref())?;
    let mut states = compile(&workloads, engines);
    for round in 1..=arguments.rounds {
        for (workload, states) in workloads.iter().zip(&mut states) {
            for (engine, state) in engines.iter().zip(states.iter_mut()) {
                if let State::Running {
                    program,
                    milliseconds,
                } = state
                {
                    match guarded(|| measure(program.as_ref(), workload)) {
                        Ok(time) => milliseconds.push(time),
                        Err(reason) => {
                            eprintln!("{} on {}: {reason}", engine.name(), workload.name);
                            *state = State::Failed(reason);
                        }
                    }
                }
            }
        }
        eprintln!("round {round} of {}", arguments.rounds);
    }
    let cells: Vec<Vec<Cell>> = states
        .into_iter()
        .map(|row| row.into_iter().map(cell).collect())
        .collect();
    let wrong = cells
        .iter()
        .flatten()
        .any(|cell| matches!(cell, Cell::Missing(reason) if reason.starts_with(WRONG)));
    let report = Report {
        engines: engines
            .iter()
            .map(|engine| (engine.name().to_owned(), engine.version()))
            .collect(),
        workloads: workloads
            .iter()
            .map(|workload| (workload.name.clone(), workload.kind.clone()))
            .collect(),
        rounds: arguments.rounds,
        cells,
    };
    Ok((report, !wrong))
}

/// Runs every workload with its small size; `false` if a result was wrong or an engine could not run one.
pub fn check(arguments: &Arguments, engines: &[Box<dyn Engine>]) -> Outcome<bool> {
    let workloads = workloads::read(arguments.workloads.as_deref())?;
    let (mut right, mut failed) = (0, 0);
    let mut text = String::new();
    for workload in &workloads {
        for engine in engines {
            match attempt(engine.as_ref(), workload) {
                Ok(()) => right += 1,
                Err(reason) => {
                    failed += 1;
                    text.push_str(&format!(
                        "{} on {}: {reason}\n",
                        engine.name(),
                        workload.name
                    ));
                }
            }
        }
    }
    text.push_str(&format!("{right} right, {failed} not run or wrong\n"));
    emit(arguments, &text)?;
    Ok(failed == 0)
}

/// First argument of the child processes that try one workload in one engine.
pub const CHILD: &str = "--try-one-workload";

/// Compiles everything, after a child process has tried it: some engines end the process on some modules.
fn compile(workloads: &[Workload], engines: &[Box<dyn Engine>]) -> Vec<Vec<State>> {
    let one = |workload: &Workload, engine: &dyn Engine| {
        let compiled =
            attempt(engine, workload).and_then(|()| guarded(|| engine.compile(&workload.modules)));
        match compiled {
            Ok(program) => State::Running {
                program,
                milliseconds: Vec::new(),
            },
            Err(reason) => State::Failed(reason),
        }
    };
    let row = |workload: &Workload| {
        let states = engines
            .iter()
            .map(|engine| one(workload, engine.as_ref()))
            .collect();
        eprint!(".");
        states
    };
    let states = workloads.iter().map(row).collect();
    eprintln!();
    states
}

/// Runs a workload's small size in a child process.
fn attempt(engine: &dyn Engine, workload: &Workload) -> Outcome<()> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new(program)
        .args([CHILD, engine.name(), &workload.name])
        .output()
        .map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    // A panic's place is on one line and its message on the next.
    let mut lines = text
        .lines()
        .skip_while(|line| !line.contains("panicked at"));
    Err(match (lines.next(), lines.next()) {
        (Some(_), Some(message)) => format!("panicked: {message}"),
        _ => format!(
            "{}{}",
            text.lines().next().unwrap_or_default(),
            output.status
        ),
    })
}

/// The child: one workload in one engine, twice, because a workload must not depend on what an earlier call left behind.
pub fn child(words: &[String]) -> Outcome<()> {
    let [engine, workload] = words else {
        return Err("a child needs engine and workload".to_owned());
    };
    let engines = engines::all();
    let engine = engines.iter().find(|candidate| candidate.name() == engine);
    let engine = engine.ok_or("no such engine")?;
    let workloads = workloads::read(Some(std::slice::from_ref(workload)))?;
    let workload = workloads.first().ok_or("no such workload")?;
    let program = engine.compile(&workload.modules)?;
    let mut session = program.start(workload)?;
    for _ in 0..2 {
        expect(session.run(workload.quick.0)?, workload.quick)?;
    }
    Ok(())
}

const WRONG: &str = "wrong result";

fn expect(found: u64, (n, expected): (i32, u64)) -> Outcome<()> {
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "{WRONG}: run({n}) is {found:#x}, a native build gives {expected:#x}"
    ))
}

/// CPU milliseconds of `run(n)` in a fresh instance after a short warm-up.
fn measure(program: &dyn Program, workload: &Workload) -> Outcome<f64> {
    let mut session = program.start(workload)?;
    expect(session.run(workload.quick.0)?, workload.quick)?;
    let before = thread_time();
    let result = session.run(workload.full.0)?;
    let time = thread_time() - before;
    expect(result, workload.full)?;
    Ok(time.as_secs_f64() * 1000.0)
}

fn cell(state: State) -> Cell {
    match state {
        State::Running { milliseconds, .. } => Cell::Median {
            median: median(&milliseconds),
            least: milliseconds.iter().copied().fold(f64::INFINITY, f64::min),
            most: milliseconds.iter().copied().fold(0.0, f64::max),
        },
        State::Failed(reason) => Cell::Missing(reason),
    }
}
