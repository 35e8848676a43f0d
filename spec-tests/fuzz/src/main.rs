//! Differential fuzzing: random valid modules that end run in this engine (tail-call and loop dispatch)
//! and in wasmi; results, kinds of traps, globals, memories and table sizes must be the same.
//!
//! `cargo run --release -- --seconds 120 --seed 1` ends with a summary, or with status 1 at the first
//! difference, after writing the module to `target/found-<seed>-<number>.wasm`.
//!
//! `cargo run --release -- --programs 200000` links random programs instead (see `graphs`) and compares every binding
//! with a model; the unit test `random_programs` of the library runs the same ones.

mod generate;
mod graphs;
mod ours;
mod theirs;

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A value that can be compared: references only by whether they are null.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Number(u64),
    Null(bool),
}

/// What a call or an instantiation gave. Traps are compared by kind; some kinds are one in wasmi.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    Values(Vec<Value>),
    Trap(&'static str),
    /// A limit of the engine: nothing after it can be compared.
    Limit,
    /// The module is not accepted.
    Rejected(String),
}

/// The visible state of an instance: globals, then memories, then sizes of tables, by the names of the exports.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct State {
    pub globals: Vec<Value>,
    pub memories: Vec<u64>,
    pub tables: Vec<u64>,
}

/// A running instance of one engine.
pub trait Running {
    /// Names of the exported functions, sorted.
    fn functions(&mut self) -> Vec<String>;
    /// Calls a function with arguments made from the seed.
    fn call(&mut self, name: &str, seed: u64) -> Outcome;
    fn state(&mut self) -> State;
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A number for an argument: often a corner case. `bits` is the width of the type.
pub fn argument(random: &mut Random, bits: u32) -> u64 {
    const CORNERS: [u64; 12] = [
        0,
        1,
        2,
        7,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        1 << 63,
        u64::MAX,
        0x3ff0_0000_0000_0000,
        0x4049_0fdb,
        65_536,
    ];
    let pick = random.next();
    let value = if pick % 2 == 0 {
        CORNERS[(pick / 2) as usize % CORNERS.len()]
    } else {
        random.next() >> (pick / 2 % 60)
    };
    if bits == 32 {
        value & 0xffff_ffff
    } else {
        value
    }
}

/// A hash of bytes (FNV-1a over 8-byte words).
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x0100_0000_01b3);
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

#[derive(Default)]
struct Counts {
    modules: u64,
    rejected: u64,
    calls: u64,
    traps: u64,
    limits: u64,
}

fn main() -> ExitCode {
    let (mut seconds, mut seed, mut one, mut programs) = (60, 1, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().and_then(|text| text.parse::<u64>().ok());
        match (flag.as_str(), value) {
            ("--seconds", Some(value)) => seconds = value,
            ("--seed", Some(value)) => seed = value,
            // Repeats one module of a seed.
            ("--only", Some(value)) => one = Some(value),
            ("--programs", Some(value)) => programs = Some(value),
            _ => {
                eprintln!(
                    "usage: wasm-dynlink-fuzz [--seconds N] [--seed N] [--only NUMBER]\n       wasm-dynlink-fuzz --programs N [--seed N]"
                );
                return ExitCode::FAILURE;
            }
        }
    }
    if let Some(programs) = programs {
        return link_programs(seed, programs);
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut counts = Counts::default();
    let mut number = one.unwrap_or(0);
    while Instant::now() < end {
        let module_seed = seed.wrapping_mul(0x1_0000_0001).wrapping_add(number);
        if let Some(bytes) = generate::module(module_seed)
            && let Err(difference) = compare(&bytes, module_seed, &mut counts)
        {
            let path = format!(
                "{}/target/found-{seed}-{number}.wasm",
                env!("CARGO_MANIFEST_DIR")
            );
            let written = std::fs::write(&path, &bytes);
            eprintln!("seed {seed}, module {number}: {difference}\nmodule in {path}: {written:?}");
            return ExitCode::FAILURE;
        }
        if one.is_some() {
            break;
        }
        number += 1;
    }
    println!(
        "{} modules compared ({} not accepted by wasmi, {} ended by a limit), {} calls, {} of them trapped: no difference",
        counts.modules, counts.rejected, counts.limits, counts.calls, counts.traps
    );
    ExitCode::SUCCESS
}

/// Links so many random programs; the first difference from the model ends it with the program's seed.
fn link_programs(seed: u64, programs: u64) -> ExitCode {
    let mut counts = graphs::Counts::default();
    for seed in seed..seed.saturating_add(programs) {
        let run = std::panic::AssertUnwindSafe(|| graphs::run(seed, &mut counts));
        if std::panic::catch_unwind(run).is_err() {
            eprintln!("the program differs: `--programs 1 --seed {seed}` repeats it");
            return ExitCode::FAILURE;
        }
    }
    println!("{counts:?}: no difference");
    ExitCode::SUCCESS
}

/// Runs a module in all engines; gives the first difference.
fn compare(bytes: &[u8], seed: u64, counts: &mut Counts) -> Result<(), String> {
    let mut engines: Vec<(&str, Box<dyn Running>)> = Vec::new();
    let mut outcomes = Vec::new();
    let starts: [(&str, fn(&[u8]) -> Result<Box<dyn Running>, Outcome>); 5] = [
        ("wasmi", theirs::start),
        ("tail", ours::start_tail),
        ("loop", ours::start_loop),
        ("tail, guard pages", ours::start_tail_guarded),
        ("loop, guard pages", ours::start_loop_guarded),
    ];
    for (name, start) in starts {
        match start(bytes) {
            Ok(running) => {
                engines.push((name, running));
                outcomes.push((name, Outcome::Values(Vec::new())));
            }
            Err(outcome) => outcomes.push((name, outcome)),
        }
    }
    if matches!(outcomes[0].1, Outcome::Rejected(_)) {
        counts.rejected += 1;
        return Ok(());
    }
    counts.modules += 1;
    if outcomes
        .iter()
        .any(|(_, outcome)| *outcome == Outcome::Limit)
    {
        counts.limits += 1;
        return Ok(());
    }
    same("instantiation", &outcomes)?;
    if engines.len() < starts.len() {
        return Ok(());
    }
    let functions = engines[0].1.functions();
    let mut random = Random(seed);
    for round in 0..3 {
        for name in &functions {
            let arguments = random.next();
            let outcomes: Vec<(&str, Outcome)> = engines
                .iter_mut()
                .map(|(engine, running)| (*engine, running.call(name, arguments)))
                .collect();
            counts.calls += 1;
            if outcomes
                .iter()
                .any(|(_, outcome)| *outcome == Outcome::Limit)
            {
                counts.limits += 1;
                return Ok(());
            }
            if matches!(outcomes[0].1, Outcome::Trap(_)) {
                counts.traps += 1;
            }
            let place =
                format!("call of `{name}` with argument seed {arguments:#x}, round {round}");
            same(&place, &outcomes)?;
            let states: Vec<(&str, State)> = engines
                .iter_mut()
                .map(|(engine, running)| (*engine, running.state()))
                .collect();
            same(&format!("state after {place}"), &states)?;
        }
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(place: &str, found: &[(&str, T)]) -> Result<(), String> {
    match found.iter().all(|(_, other)| *other == found[0].1) {
        true => Ok(()),
        false => Err(format!("{place}: {found:#x?}")),
    }
}
