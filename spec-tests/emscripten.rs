//! The fixtures of emscripten: unmodified main modules and side modules of emcc, below `fixtures/emscripten/`.
//!
//! A trial is one program. Those with a `case.toml` are cases of their own, about what emscripten adds; the others are cases
//! of `fixtures/` in one more generation of tools, with the sources and the expected output of that case. Where emscripten's
//! design gives another output than ELF's, the folder has an `expected.txt` of its own and `differs.toml` says why.
//!
//! `cargo test --release --test emscripten [-- FILTER]`; `BLESS=1` writes the output of cases of their own.
//! `fixtures/build-emcc.sh` rebuilds them, and with `--oracle` runs them with emscripten's own JavaScript in node and notes
//! in `fixtures/emscripten/oracle.txt` what that gave. Each program is either equal there, and then what it expects still is
//! what node gave, or it differs for a reason, which its `node.txt` says in front of what node printed.

use dynlink::host::emscripten::{self, Emscripten, EmscriptenHost, EmscriptenSymbols};
use dynlink::host::{Kernel, KernelBuilder, KernelFiles, KernelHost, Mount, Pipe, WasiSymbols};
use dynlink::link::{Process, Profile};
use dynlink::{Config, Dispatch, Engine, Module, Store};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Fewer programs mean that some were lost.
const PROGRAMS: usize = 125;

/// Bytes that a program may write.
const QUOTA: u64 = 64 << 20;

/// How long a guest may run in the configuration that can be interrupted.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a case of its own says of itself.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Description {
    /// What it shows, in a sentence.
    about: String,
    /// Numbers of the rules that it tests.
    #[serde(default)]
    rules: Vec<String>,
    /// `node`, or `reasoned: …`.
    oracle: String,
    /// Expected exit status.
    #[serde(default)]
    status: i32,
    /// The run ends in an error whose text has all of these parts.
    #[serde(default)]
    error: Vec<String>,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// How a case of `fixtures/` differs in this generation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    /// Why.
    reason: String,
    status: Option<i32>,
    error: Option<Vec<String>>,
}

/// What the description of a case in `fixtures/` says that matters here.
#[derive(Deserialize)]
struct Borrowed {
    about: String,
    #[serde(default)]
    status: i32,
    #[serde(default)]
    error: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    lazy: bool,
    #[serde(default)]
    preload: Vec<String>,
    search: Option<bool>,
}

struct Program {
    name: String,
    folder: PathBuf,
    description: Description,
    expected: String,
    preload: Vec<String>,
    bind_now: bool,
}

struct Host {
    kernel: Kernel,
    emscripten: Emscripten,
}

impl KernelHost for Host {
    fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }
}

impl EmscriptenHost for Host {
    fn emscripten(&mut self) -> (&mut Kernel, &mut Emscripten) {
        (&mut self.kernel, &mut self.emscripten)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let mut problems = Vec::new();
    let mut unlike_node = Vec::new();
    let mut oracle = Oracle::read();
    for folder in folders() {
        let name = folder
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        match read(&name, folder) {
            Ok(program) => {
                if let Err(problem) = oracle.check(&program) {
                    unlike_node.push(format!("{name}: {problem}"));
                }
                trials.push(Trial::test(name, move || run_trial(&program)));
            }
            Err(problem) => problems.push(format!("{name}: {problem}")),
        }
    }
    unlike_node.extend(oracle.problems());
    problems.extend(cases_nowhere());
    if trials.len() < PROGRAMS {
        problems.push(format!(
            "{} programs, expected at least {PROGRAMS}",
            trials.len()
        ));
    }
    trials.push(Trial::test("every program is complete", move || {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems.join("\n").into())
        }
    }));
    let compared = "every program is equal in node or has a reason";
    trials.push(Trial::test(compared, move || {
        if unlike_node.is_empty() {
            Ok(())
        } else {
            Err(unlike_node.join("\n").into())
        }
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What node gave: the lines of `oracle.txt` by program, which are `PROGRAM equal|differs DIGEST END`. The digest is the
/// begin of the SHA-256 of the output; the end is `exit STATUS`, or `error` and a text.
struct Oracle {
    notes: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Oracle {
    fn read() -> Oracle {
        let mut oracle = Oracle {
            notes: BTreeMap::new(),
            problems: Vec::new(),
        };
        match text(&root().join("emscripten/oracle.txt")) {
            Err(problem) => oracle.problems.push(problem),
            Ok(lines) => {
                for line in lines.lines().filter(|line| !line.starts_with('#')) {
                    match line.split_once(' ') {
                        Some((name, note)) => {
                            oracle.notes.insert(name.into(), note.into());
                        }
                        None => oracle.problems.push(format!("oracle.txt: {line}")),
                    }
                }
            }
        }
        oracle
    }

    /// Takes the note of a program and compares it with what the program expects.
    fn check(&mut self, program: &Program) -> Result<(), String> {
        let note = self.notes.remove(&program.name);
        let note = note.ok_or("node was not asked: `fixtures/build-emcc.sh --oracle`")?;
        let mut words = note.splitn(3, ' ');
        let mut word = || words.next().ok_or("its line in oracle.txt is too short");
        let (outcome, digest, end) = (word()?, word()?, word()?);
        let description = &program.description;
        let same_end = if description.error.is_empty() {
            end == format!("exit {}", description.status)
        } else {
            end.starts_with("error ")
        };
        let same = same_end && digest == digest_of(&program.expected);
        let node = program.folder.join("node.txt");
        match outcome {
            "equal" if !same => {
                Err("node gave something else than what is expected now: ask it again".into())
            }
            "equal" if node.exists() => Err("it is equal, but has a node.txt".into()),
            "equal" => Ok(()),
            "differs" if same => Err("it differs, but what is expected is what node gave".into()),
            "differs" => {
                let node = text(&node)?;
                let (reason, output) = node.split_once('\n').unwrap_or((&node, ""));
                if reason.trim().is_empty() {
                    return Err("node.txt gives no reason".into());
                }
                match digest_of(output) == digest {
                    true => Ok(()),
                    false => Err("node.txt is not what oracle.txt says".into()),
                }
            }
            other => Err(format!("`{other}` is no outcome")),
        }
    }

    /// What is wrong with the notes as a whole, after all programs were checked.
    fn problems(self) -> Vec<String> {
        let left = self.notes.into_keys();
        let left = left.map(|name| format!("oracle.txt: {name} is no program"));
        self.problems.into_iter().chain(left).collect()
    }
}

/// The first 16 digits of the SHA-256 of a text.
fn digest_of(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let digits = digest.iter().take(8).map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// Cases of `fixtures/` that are neither built with emcc nor left out for a reason, or both.
fn cases_nowhere() -> Vec<String> {
    let root = root();
    let (table, left_out) = match (
        text(&root.join("build-table.sh")),
        text(&root.join("emscripten/left-out.sh")),
    ) {
        (Ok(table), Ok(left_out)) => (table, left_out),
        (Err(problem), _) | (_, Err(problem)) => return vec![problem],
    };
    let left_out: Vec<&str> = left_out
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .collect();
    let cases = table
        .lines()
        .filter_map(|line| line.strip_prefix("fixture "));
    cases
        .filter(|case| root.join("emscripten").join(case).is_dir() == left_out.contains(case))
        .map(|case| format!("{case}: it has to be built with fixtures/build-emcc.sh, or be left out with a reason, and not both"))
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The folders below `fixtures/emscripten`, in order of their names.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root().join("emscripten"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

fn text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn read(name: &str, folder: PathBuf) -> Result<Program, String> {
    if !folder.join("main.wasm").is_file() {
        return Err("`main.wasm` is missing; see fixtures/build-emcc.sh".into());
    }
    let own = folder.join("case.toml");
    if own.is_file() {
        let description: Description =
            toml::from_str(&text(&own)?).map_err(|error| error.to_string())?;
        if description.about.is_empty()
            || (description.oracle != "node" && !description.oracle.starts_with("reasoned: "))
        {
            return Err("it says nothing about itself, or has no oracle".into());
        }
        if description
            .rules
            .iter()
            .any(|rule| !rule.starts_with(|c: char| c.is_ascii_uppercase()))
        {
            return Err("one of its rules is none".into());
        }
        return Ok(Program {
            name: name.into(),
            expected: text(&folder.join("expected.txt"))?,
            folder,
            description,
            preload: Vec::new(),
            bind_now: false,
        });
    }
    let lender = root().join(name);
    let borrowed: Borrowed =
        toml::from_str(&text(&lender.join("case.toml"))?).map_err(|error| error.to_string())?;
    let mut env = borrowed.env;
    if borrowed.search == Some(false) {
        env.entry("LD_LIBRARY_PATH".into()).or_default();
    }
    let mut description = Description {
        about: borrowed.about,
        status: borrowed.status,
        error: borrowed.error,
        env,
        ..Description::default()
    };
    let difference = folder.join("differs.toml");
    let expected = if difference.is_file() {
        let difference: Difference =
            toml::from_str(&text(&difference)?).map_err(|error| error.to_string())?;
        if difference.reason.is_empty() {
            return Err("it differs without a reason".into());
        }
        description.status = difference.status.unwrap_or(description.status);
        description.error = difference.error.unwrap_or(description.error);
        text(&folder.join("expected.txt"))?
    } else {
        text(&lender.join("expected.txt"))?
    };
    Ok(Program {
        name: name.into(),
        folder,
        bind_now: description.env.contains_key("LD_BIND_NOW") && !borrowed.lazy,
        description,
        expected,
        preload: borrowed.preload,
    })
}

fn run_trial(program: &Program) -> Result<(), Failed> {
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
    ];
    for (name, config) in configurations {
        let (output, end) = run(program, config)?;
        // For a developer's hand only: what a case expects comes from its oracle.
        if std::env::var_os("BLESS").is_some() && program.folder.join("case.toml").is_file() {
            std::fs::write(program.folder.join("expected.txt"), &output)?;
            continue;
        }
        check(program, &output, &end).map_err(|problem| {
            format!(
                "{} ({name}): {problem}\n--- about: {}",
                program.name, program.description.about
            )
        })?;
    }
    Ok(())
}

fn check(program: &Program, output: &str, end: &Result<i32, String>) -> Result<(), String> {
    let description = &program.description;
    let mut problems = Vec::new();
    if output != program.expected {
        problems.push(format!(
            "--- expected output\n{}--- output\n{output}",
            program.expected
        ));
    }
    match end {
        Ok(_) if !description.error.is_empty() => problems.push("it ended without an error".into()),
        Ok(status) if *status != description.status => problems.push(format!(
            "exit status {status}, expected {}",
            description.status
        )),
        Ok(_) => {}
        Err(error) if description.error.is_empty() => {
            problems.push(format!("it ended with: {error}"));
        }
        Err(error) => {
            for part in description
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

/// Runs a program; it sees its folder as `/`, with changes that are lost.
fn run(program: &Program, config: Config) -> Result<(String, Result<i32, String>), Failed> {
    let description = &program.description;
    let metered = (config.fuel, config.interruption);
    let engine = Engine::new(config);
    let module = Module::new(&engine, &std::fs::read(program.folder.join("main.wasm"))?)?;
    let output = Pipe::capture();
    let mut kernel = KernelBuilder::new()
        .arg("main.wasm")
        .args(description.arguments.iter().cloned())
        .stdout(&output)
        .mount(
            "/",
            Mount::overlay(Mount::host(&program.folder)?.read_only(), QUOTA),
        )
        .mount("/tmp", Mount::memory())
        .no_preopens();
    let input = program.folder.join("input.txt");
    if input.is_file() {
        kernel = kernel.stdin(&Pipe::from_bytes(std::fs::read(input)?));
    }
    for (name, value) in emscripten::default_environment("main.wasm") {
        kernel = kernel.env(name, value);
    }
    for (name, value) in &description.env {
        kernel = kernel.env(name, value);
    }
    let host = Host {
        kernel: kernel.build()?,
        emscripten: Emscripten::default(),
    };
    let mut store = Store::new(&engine, host);
    if metered.0 {
        store.set_fuel(u64::MAX / 2)?;
    }
    if metered.1 {
        store.set_deadline(Some(DEADLINE))?;
    }
    let mut profile = Profile::emscripten();
    profile.bind_now |= program.bind_now;
    let mut builder = Process::builder()
        .profile(profile)
        .files(KernelFiles)
        .host(EmscriptenSymbols::new(WasiSymbols));
    if let Some(list) = description.env.get("LD_LIBRARY_PATH") {
        builder = builder.ld_library_path(list);
    }
    for directory in emscripten::LIBRARY_DIRECTORIES {
        builder = builder.default_path(directory);
    }
    for library in &program.preload {
        builder = builder.preload(library);
    }
    let process: Process<Host> = builder.build();
    let end = process
        .start(&mut store, &module, "/main.wasm")
        .and_then(|_| emscripten::call_main(&process, &mut store, None));
    let end = end.or_else(|error| error.exit_status().ok_or_else(|| error.to_string()));
    Ok((output.take_text(), end))
}
