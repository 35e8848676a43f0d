//! The dynamic linking fixtures: small C libraries and main programs of our own, one folder per behaviour in `fixtures/`.
//!
//! A trial is one case with one style of main module, `case::style`. It runs the committed modules through the linker and
//! the WASI kernel, on a read-only copy of the case's folder, in two configurations of the engine, and compares standard
//! output, exit status or the parts of the error with what `case.toml` and `expected.txt` say.
//!
//! `cargo test --release --test fixtures [-- FILTER]`. `BLESS=1` writes the output of the first style to `expected.txt`; it
//! is for a developer's hand only, because what a case expects comes from its oracle (see `fixtures/README.md`).

#[path = "fixtures/mutated.rs"]
mod mutated;

use dynlink::host::{Kernel, KernelBuilder, KernelFiles, Mount, Pipe, WasiSymbols};
use dynlink::link::{ConstructorTrap, Process, Profile};
use dynlink::{Config, Dispatch, Engine, Module, Store, Val};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Fewer cases mean that some were lost.
const CASES: usize = 170;

/// Fewer libraries with changed bytes mean the same.
const LIBRARIES: u64 = 450;

/// How long a guest may run in the configuration that can be interrupted.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a case says of itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// What it shows, in a sentence.
    about: String,
    /// Numbers of the rules that it tests.
    #[serde(default)]
    rules: Vec<String>,
    /// Who confirmed what is expected: `glibc`, `node` (a loader of our own in JavaScript) or `reasoned: …`.
    oracle: String,
    /// Styles of main module; the file is `main-STYLE.wasm`. `VARIANT/STYLE`: this and the libraries lie in a folder of
    /// that name: the same sources, built by other tools or with other flags, or with exchanged roles (`rev`).
    styles: Vec<String>,
    /// Libraries that the embedder loads at start for mains that cannot name them (those without `dylink.0`).
    #[serde(default)]
    libraries: Vec<String>,
    /// Expected exit status.
    #[serde(default)]
    status: i32,
    /// The run ends in an error whose text has all of these parts.
    #[serde(default)]
    error: Vec<String>,
    /// Environment variables; those that the linker knows reach it.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Whether libraries are looked for in the case's folder. Default: yes.
    search: Option<bool>,
    /// Whether functions that main and its libraries leave undefined are looked for at their first call.
    #[serde(default)]
    lazy: bool,
    /// `fails`: a trap in a constructor is a failed `dlopen`.
    constructor_trap: Option<String>,
    /// Libraries that the user loads before all others.
    #[serde(default)]
    preload: Vec<String>,
    /// Fuel, in both configurations.
    fuel: Option<u64>,
    /// Limit on pages of memory.
    max_memory_pages: Option<u64>,
}

struct Case {
    name: String,
    folder: PathBuf,
    description: Description,
}

/// How a run ended.
struct Outcome {
    output: String,
    end: Result<i32, String>,
    /// Where each object lay at the end: name, first address, first table slot.
    layout: Vec<(String, u32, u32)>,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let mut problems = Vec::new();
    let mut count = 0;
    for folder in case_folders() {
        let name = folder
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        match read_case(&name, folder) {
            Ok(case) => {
                count += 1;
                let case = Arc::new(case);
                trials.push(mutated_trial(case.clone(), count));
                for style in case.description.styles.clone() {
                    let case = case.clone();
                    trials.push(Trial::test(format!("{name}::{style}"), move || {
                        run_trial(&case, &style)
                    }));
                }
            }
            Err(problem) => problems.push(format!("{name}: {problem}")),
        }
    }
    if count < CASES {
        problems.push(format!("{count} cases, expected at least {CASES}"));
    }
    trials.push(Trial::test("every case is complete", move || {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems.join("\n").into())
        }
    }));
    let all = arguments.filter.is_none() && !arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    let (libraries, opened) = (
        mutated::LIBRARIES.load(Ordering::Relaxed),
        mutated::OPENED.load(Ordering::Relaxed),
    );
    if all && conclusion.num_filtered_out == 0 && !conclusion.has_failed() {
        println!(
            "{count} cases; {libraries} libraries were changed, {opened} of them open unchanged"
        );
        if libraries < LIBRARIES || opened < LIBRARIES / 2 {
            eprintln!("expected at least {LIBRARIES} libraries, half of which open");
            return ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}

/// The folders with a `case.toml`, in order of their names.
fn case_folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.join("case.toml").is_file())
        .collect();
    folders.sort();
    folders
}

fn read_case(name: &str, folder: PathBuf) -> Result<Case, String> {
    let text =
        std::fs::read_to_string(folder.join("case.toml")).map_err(|error| error.to_string())?;
    let description: Description = toml::from_str(&text).map_err(|error| error.to_string())?;
    if description.about.is_empty() || description.styles.is_empty() {
        return Err("it says nothing about itself, or has no style".into());
    }
    let known = ["glibc", "node"].contains(&description.oracle.as_str());
    if !known && !description.oracle.starts_with("reasoned: ") {
        return Err(format!("unknown oracle `{}`", description.oracle));
    }
    if let Some(rule) = description
        .rules
        .iter()
        .find(|rule| !rule.starts_with(|c: char| c.is_ascii_uppercase()))
    {
        return Err(format!("`{rule}` is no rule"));
    }
    let styles = description.styles.iter().map(|style| main_file(style));
    for file in ["expected.txt".to_string()].into_iter().chain(styles) {
        if !folder.join(&file).is_file() {
            return Err(format!("`{file}` is missing; see fixtures/build.sh"));
        }
    }
    if !["main.c", "main.cpp"]
        .iter()
        .any(|source| folder.join(source).is_file())
    {
        return Err("there is no main.c or main.cpp".into());
    }
    Ok(Case {
        name: name.to_string(),
        folder,
        description,
    })
}

/// Where the main module of this style lies in its case's folder.
fn main_file(style: &str) -> String {
    match style.split_once('/') {
        Some((variant, style)) => format!("{variant}/main-{style}.wasm"),
        None => format!("main-{style}.wasm"),
    }
}

/// A trial that changes the libraries of a case, with mains of all styles in turn.
fn mutated_trial(case: Arc<Case>, number: usize) -> Trial {
    let styles = ["static", "needed", "pie", "exe"];
    let style = styles[number % styles.len()];
    let main = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/dlopen-missing-file")
        .join(format!("main-{style}.wasm"));
    Trial::test(format!("mutated::{}", case.name), move || {
        mutated::run(&case, &main)
    })
}

fn run_trial(case: &Case, style: &str) -> Result<(), Failed> {
    let configurations = [
        ("default", Config::default()),
        (
            "loop, eager, metered",
            Config {
                dispatch: Dispatch::Loop,
                eager_translation: true,
                fuel: true,
                interruption: true,
                ..Config::default()
            },
        ),
        (
            "guard pages",
            Config {
                guard_pages: true,
                ..Config::default()
            },
        ),
    ];
    let copy = copy_of(case)?;
    let mut layout = None;
    let has_guards = Config::guard_pages_available().is_ok();
    let wanted = |(_, config): &(_, Config)| has_guards || !config.guard_pages;
    for (name, mut config) in configurations.into_iter().filter(wanted) {
        config.fuel |= case.description.fuel.is_some();
        if let Some(pages) = case.description.max_memory_pages {
            config.limits.memory_pages = pages;
        }
        let outcome = run(case, style, config, copy.path())?;
        // Where things lie depends on the program alone (rule L12).
        if *layout.get_or_insert_with(|| outcome.layout.clone()) != outcome.layout {
            return Err(format!(
                "the second run has another layout: {layout:?}, {:?}",
                outcome.layout
            )
            .into());
        }
        let expected_path = case.folder.join("expected.txt");
        if std::env::var_os("BLESS").is_some()
            && case
                .description
                .styles
                .first()
                .is_some_and(|first| first == style)
        {
            std::fs::write(&expected_path, &outcome.output)?;
        }
        let expected = std::fs::read_to_string(&expected_path)?;
        check(case, &expected, &outcome).map_err(|problem| {
            format!(
                "{} ({name}): {problem}\n--- about: {}",
                case.name, case.description.about
            )
        })?;
    }
    Ok(())
}

/// Compares how a run ended with what the case expects.
fn check(case: &Case, expected: &str, outcome: &Outcome) -> Result<(), String> {
    let mut problems = Vec::new();
    if outcome.output != expected {
        problems.push(format!(
            "--- expected output\n{expected}--- output\n{}",
            outcome.output
        ));
    }
    match &outcome.end {
        Ok(_) if !case.description.error.is_empty() => {
            problems.push("it ended without an error".to_string())
        }
        Ok(status) if *status != case.description.status => {
            problems.push(format!(
                "exit status {status}, expected {}",
                case.description.status
            ));
        }
        Ok(_) => {}
        Err(error) if case.description.error.is_empty() => {
            problems.push(format!("it ended with: {error}"))
        }
        Err(error) => {
            for part in case
                .description
                .error
                .iter()
                .filter(|part| !error.contains(part.as_str()))
            {
                problems.push(format!("the error has no `{part}`: {error}"));
            }
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n"))
    }
}

/// The files of a case by their path, with libraries written as text turned into modules.
fn read_files(case: &Case) -> Result<BTreeMap<String, Vec<u8>>, Failed> {
    let mut files = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(case.folder.join(&folder))? {
            let entry = entry?;
            let relative = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(relative);
                continue;
            }
            let (relative, bytes) = if relative
                .extension()
                .is_some_and(|extension| extension == "wat")
            {
                (
                    relative.with_extension("so"),
                    wat::parse_file(entry.path())?,
                )
            } else {
                (relative, std::fs::read(entry.path())?)
            };
            files.insert(relative.to_string_lossy().into_owned(), bytes);
        }
    }
    Ok(files)
}

/// A copy of the case's folder.
fn copy_of(case: &Case) -> Result<tempfile::TempDir, Failed> {
    let copy = tempfile::tempdir()?;
    for (path, bytes) in read_files(case)? {
        let path = copy.path().join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, bytes)?;
    }
    Ok(copy)
}

/// Runs the case's main program of this style; guests see the copy of its folder as `/`.
fn run(case: &Case, style: &str, config: Config, root: &Path) -> Result<Outcome, Failed> {
    let description = &case.description;
    let metered = (config.fuel, config.interruption);
    let engine = Engine::new(config);
    // Guests see the variant's folder as `/`.
    let path = root.join(main_file(style));
    let root = path.parent().unwrap_or(root);
    let file = path
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let module = Module::new(&engine, &std::fs::read(&path)?)?;

    let output = Pipe::capture();
    let mut kernel = KernelBuilder::new()
        .arg(file.clone())
        .stdout(&output)
        .mount("/", Mount::host(root)?.read_only())
        .working_directory("/");
    for (name, value) in &description.env {
        kernel = kernel.env(name, value);
    }
    let mut store = Store::new(&engine, kernel.build()?);
    if metered.0 {
        store.set_fuel(description.fuel.unwrap_or(u64::MAX / 2))?;
    }
    if metered.1 {
        store.set_deadline(Some(DEADLINE))?;
    }

    let bind_now = !description.lazy || description.env.contains_key("LD_BIND_NOW");
    let mut profile = Profile {
        bind_now,
        ..Profile::wasi()
    };
    if description.constructor_trap.as_deref() == Some("fails") {
        profile.constructor_trap = ConstructorTrap::FailsTheLoad;
    }
    let mut builder = Process::builder()
        .profile(profile)
        .files(KernelFiles)
        .host(WasiSymbols);
    if let Some(list) = description.env.get("LD_LIBRARY_PATH") {
        builder = builder.ld_library_path(list);
    } else if description.search != Some(false) {
        builder = builder.library_path(".");
    }
    for library in &description.preload {
        builder = builder.preload(library);
    }
    if module.dylink().is_none() {
        for library in &description.libraries {
            builder = builder.preload(library);
        }
    }
    let process: Process<Kernel> = builder.build();

    let path = format!("/{file}");
    let end = process.start(&mut store, &module, &path).and_then(|_| {
        let entry = process.entry(&mut store, None)?;
        // `_start` gives no result, `main` the status.
        let mut results = vec![Val::I32(0); entry.ty(&store).results().len()];
        entry.call(&mut store, &[], &mut results)?;
        Ok(results.first().and_then(Val::i32).unwrap_or(0))
    });
    let end = end.or_else(|error| error.exit_status().ok_or_else(|| error.to_string()));
    let layout = process.libraries().into_iter();
    Ok(Outcome {
        output: output.take_text(),
        end,
        layout: layout
            .map(|library| (library.name, library.memory_base, library.table_base))
            .collect(),
    })
}
