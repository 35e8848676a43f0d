//! The command `dynlink`, and [`Program`](program::Program), the top of the Rust API.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod.rs` | the command: from the command line to an exit status |
//! | `options` | the command line of `run` as data, and its help text |
//! | `tool` | what the other verbs share |
//! | `ldd`, `check`, `nm`, `objdump`, `patch` | the verbs of these names |
//! | `map` | `run --map` |
//! | `demangle` | readable names of symbols |
//! | `program` | what a program is made of; `run` what happens when it runs |
//! | `manifest` | the grammar of program manifests |
//! | `packages` | fetching, checking and caching registry packages |
//! | `unpack` | package archives to folders |
//! | `units` | sizes and durations as people write them |

#![forbid(unsafe_code)]

mod check;
mod demangle;
mod ldd;
pub mod manifest;
mod map;
mod nm;
mod objdump;
pub mod options;
pub mod packages;
mod patch;
pub mod program;
mod run;
mod tool;
mod units;
mod unpack;

use self::options::{Command, EnvironmentFlag, RunOptions, Tool, split_list};
use self::packages::PackageCache;
use self::program::{Program, ProgramBuilder};
use self::tool::{Flags, print};
use crate::error::{Error, ErrorKind, Result};
use crate::link::TraceTopics;
use crate::trap::TrapCode;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The command line is wrong.
const STATUS_USAGE: u8 = 2;
/// The guest's time or fuel ran out, as `timeout` has it.
const STATUS_TIMEOUT: u8 = 124;
/// Something could not be loaded, as `ld.so` and shells have it.
const STATUS_NOT_LOADED: u8 = 127;
/// The guest trapped: the status of a process that was aborted.
const STATUS_TRAP: u8 = 134;

/// Runs the command with the process's arguments.
pub fn main() -> ExitCode {
    let command = match options::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("dynlink: {error}\nTry `dynlink --help`.");
            return ExitCode::from(STATUS_USAGE);
        }
    };
    match command {
        Command::Help(text) => print(text),
        Command::Version => print(concat!("dynlink ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Run(options) => match run(&options) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("dynlink: {}", demangle::in_text(&error.to_string()));
                if let (ErrorKind::Link(_), Some(file)) = (error.kind(), options.file.to_str()) {
                    let file = demangle::printable(file);
                    eprintln!(
                        "Run `dynlink check {file}` to see everything that is wrong at once."
                    );
                }
                ExitCode::from(failure_status(&error))
            }
        },
        Command::Tool(tool) => tool_main(*tool),
    }
}

fn tool_main(tool: Tool) -> ExitCode {
    let verb = tool.verb;
    let flags = Flags {
        parser: tool.rest,
        options: tool.options,
        with_program: verb.with_program,
    };
    match (verb.main)(flags) {
        Ok(code) => code,
        Err(error) => {
            eprintln!(
                "dynlink {}: {}",
                verb.name,
                demangle::in_text(&error.to_string())
            );
            if matches!(error.kind(), ErrorKind::Usage(_)) {
                eprintln!("Try `dynlink {} --help`.", verb.name);
            }
            ExitCode::from(failure_status(&error))
        }
    }
}

/// A verb other than `run`.
pub struct Verb {
    /// As it is written.
    pub name: &'static str,
    /// Its help text.
    pub help: &'static str,
    /// Whether the options that say what the guest sees belong to it.
    with_program: bool,
    main: fn(Flags) -> Result<ExitCode>,
}

/// The verbs other than `run`.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "ldd",
        help: ldd::HELP,
        with_program: true,
        main: ldd::main,
    },
    Verb {
        name: "check",
        help: check::HELP,
        with_program: true,
        main: check::main,
    },
    Verb {
        name: "nm",
        help: nm::HELP,
        with_program: false,
        main: nm::main,
    },
    Verb {
        name: "objdump",
        help: objdump::HELP,
        with_program: false,
        main: objdump::main,
    },
    Verb {
        name: "patch",
        help: patch::HELP,
        with_program: false,
        main: patch::main,
    },
];

fn failure_status(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Trap(trap) => match trap.code() {
            TrapCode::Interrupted | TrapCode::OutOfFuel => STATUS_TIMEOUT,
            _ => STATUS_TRAP,
        },
        ErrorKind::Usage(_) => STATUS_USAGE,
        _ => STATUS_NOT_LOADED,
    }
}

fn run(options: &RunOptions) -> Result<ExitCode> {
    let trace = options.trace.clone().or(LinkerVariables::read().debug);
    if split_list(trace.as_deref().unwrap_or_default(), &[',', ':', ' '])
        .iter()
        .any(|topic| topic == "help")
    {
        return Ok(print(run::TRACE_HELP));
    }
    let (_, unknown) = TraceTopics::parse(trace.as_deref().unwrap_or_default());
    for topic in unknown.iter().filter(|topic| **topic != "calls") {
        eprintln!("warning: debug option `{topic}' unknown; try LD_DEBUG=help");
    }
    let builder = described(options)?;
    let program = builder.build()?;
    let arguments = options
        .arguments
        .iter()
        .map(text)
        .collect::<Result<Vec<_>>>()?;
    match &options.invoke {
        None => Ok(exit_code(program.run(arguments)?)),
        Some(function) => {
            let results = program.invoke(function, arguments)?;
            let lines: String = results.iter().map(|value| format!("{value}\n")).collect();
            Ok(print(&lines))
        }
    }
}

/// The program of a command line.
fn described(options: &RunOptions) -> Result<ProgramBuilder> {
    let linker = LinkerVariables::read();
    let mut builder = describe(options)?;
    builder.trace = options.trace.clone().or(linker.debug).unwrap_or_default();
    builder.trace_output = linker.debug_output;
    builder.map.clone_from(&options.map);
    builder.bind_now |= options.bind_now || linker.bind_now;
    builder.native_libc |= options.native_libc;
    builder.lazy_validation |= options.lazy_validation;
    builder.guard_pages |= options.guard_pages;
    // The flags come first, then the variables, then what the manifest says.
    for (target, flag, variable) in [
        (
            &mut builder.library_path,
            &options.library_path,
            linker.library_path,
        ),
        (&mut builder.preload, &options.preload, linker.preload),
    ] {
        let manifest = std::mem::take(target);
        target.extend(flag.iter().cloned().chain(variable).chain(manifest));
    }
    for flag in &options.directories {
        builder = builder.directory(flag)?;
    }
    for flag in &options.environment {
        builder = variable(builder, flag)?;
    }
    builder.memory_limit = options.max_memory.or(builder.memory_limit);
    builder.fuel = options.fuel.or(builder.fuel);
    builder.timeout = options.timeout.or(builder.timeout);
    Ok(builder)
}

/// A process's status has eight bits; the others are lost, as everywhere.
fn exit_code(status: i32) -> ExitCode {
    ExitCode::from((status & 0xff).unsigned_abs().to_le_bytes()[0])
}

/// The program of the file that the command line names.
fn describe(options: &RunOptions) -> Result<ProgramBuilder> {
    let file = &options.file;
    if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        // One byte more than a module may have is enough to be refused for its size.
        let most = crate::config::Limits::default().module_bytes;
        io::stdin()
            .lock()
            .take(u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|source| {
                Error::new(ErrorKind::Io {
                    path: "standard input".into(),
                    source,
                })
            })?;
        return Ok(Program::builder().main_bytes("stdin", bytes));
    }
    if file
        .extension()
        .is_some_and(|extension| extension == "toml")
    {
        let cache = PackageCache::of_user()?
            .offline(options.offline)
            .progress(true);
        return ProgramBuilder::from_manifest(file, &cache);
    }
    if !Path::new(file).exists() && file.extension().is_none() {
        let similar = options::similar(&file.to_string_lossy(), options::verbs());
        return Err(Error::usage(format!(
            "there is no command or file `{}`: {}PROGRAM is a manifest (*.toml) or a module (*.wasm)",
            file.display(),
            similar.map_or_else(String::new, |verb| format!(
                "did you mean `dynlink {verb}`? Else "
            ))
        )));
    }
    Ok(Program::builder().main_file(file))
}

fn variable(builder: ProgramBuilder, flag: &EnvironmentFlag) -> Result<ProgramBuilder> {
    let name = text(&flag.name)?;
    match &flag.value {
        Some(value) => Ok(builder.env(name, text(value)?)),
        // As wasmtime does: a variable that is not set stays so.
        None => match std::env::var_os(&flag.name) {
            Some(value) => Ok(builder.env(name, text(&value)?)),
            None => Ok(builder),
        },
    }
}

fn text(value: &OsString) -> Result<String> {
    value.to_str().map(str::to_owned).ok_or_else(|| {
        Error::usage(format!(
            "`{}` is not UTF-8, which guests need",
            value.to_string_lossy()
        ))
    })
}

/// The variables that steer ELF's dynamic linker, with the same meaning here.
struct LinkerVariables {
    library_path: Vec<String>,
    preload: Vec<String>,
    bind_now: bool,
    debug: Option<String>,
    debug_output: Option<PathBuf>,
}

impl LinkerVariables {
    fn read() -> LinkerVariables {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let list = |name, separators: &[char]| {
            variable(name)
                .map(|value| split_list(&value, separators))
                .unwrap_or_default()
        };
        LinkerVariables {
            library_path: list("LD_LIBRARY_PATH", &[':', ';']),
            preload: list("LD_PRELOAD", &[':', ' ']),
            bind_now: variable("LD_BIND_NOW").is_some(),
            debug: variable("LD_DEBUG"),
            debug_output: variable("LD_DEBUG_OUTPUT").map(PathBuf::from),
        }
    }
}
