//! The command line as data: our options before the file, the guest's arguments after it.
//!
//! Parsing has no effect and reads no environment; [`super::run`] does the work. The other verbs read their options
//! themselves ([`super::tool::Flags`]).

#![forbid(unsafe_code)]

use super::Verb;
use super::units::{parse_duration, parse_size};
use crate::config::Config;
use crate::link::TraceTopics;
use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What the command line asks for.
pub enum Command {
    /// Run a program.
    Run(Box<RunOptions>),
    /// Another verb.
    Tool(Box<Tool>),
    /// Print a help text.
    Help(&'static str),
    /// Print the version.
    Version,
}

/// A verb other than `run`, with the rest of the command line.
pub struct Tool {
    /// Which one.
    pub verb: &'static Verb,
    /// What was given before it.
    pub options: RunOptions,
    /// What follows.
    pub rest: lexopt::Parser,
}

/// The options of `dynlink run`.
#[derive(Debug, Default, PartialEq)]
pub struct RunOptions {
    /// The manifest or module; `-` reads a module from standard input.
    pub file: PathBuf,
    /// What the guest gets after its own name.
    pub arguments: Vec<OsString>,
    /// `--dir`: host directories to show to the guest.
    pub directories: Vec<DirectoryFlag>,
    /// `--env`: variables in order.
    pub environment: Vec<EnvironmentFlag>,
    /// `--invoke`: the exported function to call instead of the program's entry.
    pub invoke: Option<String>,
    /// `--library-path`: guest directories searched for libraries, first one first.
    pub library_path: Vec<String>,
    /// `--preload`: libraries loaded before the others.
    pub preload: Vec<String>,
    /// `--bind-now`: resolve every function when a library is loaded.
    pub bind_now: bool,
    /// `--native-libc`: native code in place of the guest's `memcpy`, `strlen` and their like.
    pub native_libc: bool,
    /// `--lazy-validation`: validate a function when it is first called.
    pub lazy_validation: bool,
    /// `--guard-pages`: no bounds checks before accesses to memory.
    pub guard_pages: bool,
    /// `--trace`: categories of linker messages, as in `LD_DEBUG`.
    pub trace: Option<String>,
    /// `--map[=FILE]`.
    pub map: Option<Option<PathBuf>>,
    /// `--fuel`.
    pub fuel: Option<u64>,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--max-memory`, in bytes.
    pub max_memory: Option<u64>,
    /// `--offline`: use only packages that are in the cache.
    pub offline: bool,
}

/// `--dir HOST[::GUEST][:ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryFlag {
    /// The directory on the host.
    pub host: PathBuf,
    /// Where the guest sees it; `None`: under the host's name.
    pub guest: Option<String>,
    /// Whether the guest may not change it.
    pub read_only: bool,
}

/// `--env NAME[=VALUE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentFlag {
    /// The variable's name.
    pub name: OsString,
    /// Its value; `None`: that of our own environment.
    pub value: Option<OsString>,
}

/// The help text. It lives here and nowhere else.
pub const HELP: &str = "\
dynlink - run a WebAssembly program with its dynamically linked libraries

Usage: dynlink [run] [OPTIONS] PROGRAM [ARGUMENTS...]
       dynlink ldd|check|nm|objdump|patch [OPTIONS] FILE...

PROGRAM is a program manifest (*.toml), a module (*.wasm, with feature `wat` also *.wat)
or `-` for a module on standard input. Everything after it belongs to the guest.

Files and environment:
      --dir HOST[::GUEST][:ro]  show a host directory to the guest, `:ro` for reading only
      --env NAME[=VALUE]        set a variable of the guest; without a value, pass ours on
Linking:
      --library-path DIRS       guest directories to search for libraries, separated by `:`
      --preload LIBRARY         load a library before all others, so that its symbols win
      --bind-now                resolve every function when a library is loaded
      --trace CATEGORIES        what the linker does, on standard error; `help` lists the categories
      --map[=FILE]              at the end, say who lay where in memory and table, what it took
Running:
      --invoke FUNCTION         call this export with the arguments and print its results
      --fuel N                  stop after about N instructions
      --timeout DURATION        stop after this time, such as 1s or 100ms
      --max-memory SIZE         most memory of the guest, such as 64M
      --native-libc             run native code in place of the guest's memcpy, strlen and their like
      --lazy-validation         check a function when it is first called, not when it is loaded
      --guard-pages             let the processor check the bounds of memory (Linux on x86-64)
Packages:
      --offline                 never fetch; use the packages that are in the cache
Other:
  -h, --help                    this text
      --version                 the version

Tools (`dynlink help TOOL` tells more):
  ldd      the libraries that a program needs: where each is found, its size, its place
  check    everything that is wrong with a program: missing libraries, undefined symbols
  nm       the symbols of modules and libraries
  objdump  what a module consists of: sections, dynamic linking information, imports, code
  patch    change which libraries a file needs, and where they are looked for

Environment: LD_LIBRARY_PATH, LD_PRELOAD, LD_BIND_NOW and LD_DEBUG work as for ld.so, with guest
paths. DYNLINK_CACHE is the folder of fetched packages (default: $XDG_CACHE_HOME/dynlink or
~/.cache/dynlink).

Exit status: the guest's own; 134 if it trapped; 124 if its time or fuel ran out; 127 if the
program could not be loaded; 2 if the command line is wrong.

Examples:
  dynlink fixtures/programs/python311.toml -c 'print(1+1)'
  dynlink run --dir data::/data:ro --env LANG=C main.wasm --verbose
  dynlink --invoke add sum.wasm 2 3
  dynlink --timeout 1s --max-memory 64M - < untrusted.wasm
";

/// Reads a command line (without the command's own name).
///
/// # Errors
/// A text that names the option and what is expected.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut options = RunOptions::default();
    let mut verb_seen = false;
    loop {
        let Some(argument) = parser.next().map_err(text)? else {
            return Err("no PROGRAM was given".into());
        };
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help(HELP)),
            Short('V') | Long("version") => return Ok(Command::Version),
            Long("invoke") => options.invoke = Some(string(&mut parser)?),
            Long("bind-now") => options.bind_now = true,
            Long("native-libc") => options.native_libc = true,
            Long("lazy-validation") => options.lazy_validation = true,
            Long("guard-pages") => {
                Config::guard_pages_available()
                    .map_err(|error| format!("--guard-pages: {error}"))?;
                options.guard_pages = true;
            }
            Long("trace") => {
                let value = string(&mut parser)?;
                let (_, unknown) = TraceTopics::parse(&value);
                if let Some(name) = unknown
                    .iter()
                    .find(|name| !matches!(**name, "help" | "calls"))
                {
                    let similar = similar(name, TraceTopics::names());
                    return Err(format!(
                        "--trace: unknown category `{name}`; {}`help` lists them",
                        similar.map_or_else(String::new, |name| format!("did you mean `{name}`? "))
                    ));
                }
                options.trace = Some(value);
            }
            Long("map") => options.map = Some(parser.optional_value().map(PathBuf::from)),
            Long("fuel") => {
                let value = string(&mut parser)?;
                let number = value.replace('_', "").parse();
                options.fuel = Some(number.map_err(|_| {
                    format!("--fuel: `{value}` is not a whole number of instructions")
                })?);
            }
            Long("timeout") => {
                let value = parse_duration(&string(&mut parser)?);
                options.timeout = Some(value.map_err(|error| format!("--timeout: {error}"))?);
            }
            Long("max-memory") => {
                let value = parse_size(&string(&mut parser)?);
                options.max_memory = Some(value.map_err(|error| format!("--max-memory: {error}"))?);
            }
            Value(value) if value == "run" && !verb_seen => verb_seen = true,
            Value(value) if value == "help" && !verb_seen => {
                return Ok(match parser.next().map_err(text)? {
                    Some(Value(name)) if name != "run" => match verb(&name) {
                        Some(verb) => Command::Help(verb.help),
                        None => return Err(no_verb(&name)),
                    },
                    _ => Command::Help(HELP),
                });
            }
            Value(value) if !verb_seen && verb(&value).is_some() => {
                let Some(verb) = verb(&value) else {
                    return Err(no_verb(&value));
                };
                return Ok(Command::Tool(Box::new(Tool {
                    verb,
                    options,
                    rest: parser,
                })));
            }
            Value(value) => {
                if value.is_empty() {
                    return Err("PROGRAM is empty".into());
                }
                options.file = value.into();
                options.arguments = parser.raw_args().map_err(text)?.collect();
                return Ok(Command::Run(Box::new(options)));
            }
            Long(name) => {
                let name = name.to_owned();
                if !program_flag(&mut options, &name, &mut parser)? {
                    return Err(unknown(&format!("--{name}"), HELP));
                }
            }
            Short(letter) => return Err(unknown(&format!("-{letter}"), HELP)),
        }
    }
}

/// Takes the options that say what a program consists of, which several verbs have; whether the name is one of them.
///
/// # Errors
/// The value is missing or wrong.
pub fn program_flag(
    options: &mut RunOptions,
    name: &str,
    parser: &mut lexopt::Parser,
) -> Result<bool, String> {
    match name {
        "dir" => {
            let value = parser.value().map_err(text)?;
            options.directories.push(parse_directory(value)?);
        }
        "env" => {
            let value = parser.value().map_err(text)?;
            options.environment.push(parse_environment(value)?);
        }
        "library-path" => {
            let value = string(parser)?;
            options.library_path.extend(split_list(&value, &[':', ';']));
        }
        "preload" => {
            let value = string(parser)?;
            options.preload.extend(split_list(&value, &[':', ' ']));
        }
        "offline" => options.offline = true,
        _ => return Ok(false),
    }
    Ok(true)
}

fn verb(name: &std::ffi::OsStr) -> Option<&'static Verb> {
    super::VERBS.iter().find(|verb| name == verb.name)
}

/// The names of all verbs.
pub fn verbs() -> impl Iterator<Item = &'static str> {
    ["run", "help"]
        .into_iter()
        .chain(super::VERBS.iter().map(|verb| verb.name))
}

fn no_verb(name: &std::ffi::OsStr) -> String {
    let name = name.to_string_lossy();
    let similar = similar(&name, verbs());
    format!(
        "there is no command `{name}`{}",
        similar.map_or_else(String::new, |verb| format!("; did you mean `{verb}`?"))
    )
}

/// The message about an option that a verb does not have; the options are those of its help text.
pub fn unknown(option: &str, help: &str) -> String {
    let known = help
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| word.starts_with('-') && word.len() > 1);
    let similar = similar(option, known);
    format!(
        "there is no option `{option}`{}",
        similar.map_or_else(String::new, |known| format!("; did you mean `{known}`?"))
    )
}

/// The word that is most like another one, if any is.
pub fn similar<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.trim_start_matches('-').len() / 2).min(3);
    let distance =
        |known: &&str| crate::link::edit_distance(word.as_bytes(), known.as_bytes(), most);
    known
        .filter(|known| distance(known).is_some())
        .min_by_key(distance)
}

/// Splits a list as ld.so does: empty parts are left out.
pub fn split_list(list: &str, separators: &[char]) -> Vec<String> {
    list.split(separators)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

fn parse_directory(value: OsString) -> Result<DirectoryFlag, String> {
    // A guest path is text; so is a flag that names one. A host path alone may be any bytes.
    let Some(text) = value.to_str() else {
        return Ok(DirectoryFlag {
            host: value.into(),
            guest: None,
            read_only: false,
        });
    };
    let (text, read_only) = match text.strip_suffix(":ro") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (host, guest) = match text.split_once("::") {
        Some((host, guest)) => (host, Some(guest)),
        None => (text, None),
    };
    if host.is_empty() || guest.is_some_and(str::is_empty) {
        return Err(format!(
            "--dir: `{text}` should be HOST[::GUEST][:ro], such as data::/data:ro"
        ));
    }
    Ok(DirectoryFlag {
        host: host.into(),
        guest: guest.map(str::to_owned),
        read_only,
    })
}

fn parse_environment(value: OsString) -> Result<EnvironmentFlag, String> {
    let bytes = value.as_encoded_bytes();
    let flag = match bytes.iter().position(|byte| *byte == b'=') {
        None => EnvironmentFlag {
            name: value,
            value: None,
        },
        Some(at) => match value.to_str().and_then(|text| text.split_once('=')) {
            Some((name, value)) => EnvironmentFlag {
                name: name.into(),
                value: Some(value.into()),
            },
            None => {
                return Err(format!(
                    "--env: the value of `{}` is not UTF-8; pass it on with --env NAME instead",
                    String::from_utf8_lossy(bytes.get(..at).unwrap_or_default())
                ));
            }
        },
    };
    if flag.name.is_empty() {
        return Err("--env: expected NAME or NAME=VALUE".into());
    }
    Ok(flag)
}

fn string(parser: &mut lexopt::Parser) -> Result<String, String> {
    parser.value().map_err(text)?.string().map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &[&str]) -> RunOptions {
        match parse(line.iter().map(OsString::from)) {
            Ok(Command::Run(options)) => *options,
            Ok(_) => panic!("another command"),
            Err(error) => panic!("{error}"),
        }
    }

    fn wrong(line: &[&str]) -> String {
        match parse(line.iter().map(OsString::from)) {
            Ok(_) => panic!("{line:?} is valid"),
            Err(error) => error,
        }
    }

    #[test]
    fn no_verb_means_run() {
        assert_eq!(run(&["run", "a.wasm", "x"]), run(&["a.wasm", "x"]));
    }

    #[test]
    fn a_second_run_is_the_program() {
        assert_eq!(run(&["run", "run", "x"]).file, PathBuf::from("run"));
    }

    #[test]
    fn options_after_the_program_belong_to_the_guest() {
        let options = run(&[
            "--fuel", "5", "a.wasm", "--fuel", "6", "--", "-h", "--dir=x",
        ]);
        assert_eq!(options.fuel, Some(5));
        assert_eq!(options.arguments, ["--fuel", "6", "--", "-h", "--dir=x"]);
        assert!(options.directories.is_empty());
    }

    #[test]
    fn a_dash_is_standard_input() {
        assert_eq!(run(&["-", "x"]).file, PathBuf::from("-"));
    }

    #[test]
    fn options_stand_before_or_after_the_verb() {
        assert!(run(&["--offline", "run", "a.toml"]).offline);
        assert!(run(&["run", "--offline", "a.toml"]).offline);
    }

    #[test]
    fn directories_have_a_guest_path_and_an_access_mode() {
        let options = run(&[
            "--dir=data",
            "--dir",
            "a::/b",
            "--dir",
            "c::/d:ro",
            "--dir",
            "e:ro",
            "m",
        ]);
        let flags: Vec<_> = options
            .directories
            .iter()
            .map(|d| (d.host.to_str().unwrap(), d.guest.as_deref(), d.read_only))
            .collect();
        assert_eq!(
            flags,
            [
                ("data", None, false),
                ("a", Some("/b"), false),
                ("c", Some("/d"), true),
                ("e", None, true)
            ]
        );
        assert!(wrong(&["--dir", "::/x", "m"]).contains("--dir"));
        assert!(wrong(&["--dir", "x::", "m"]).contains("HOST[::GUEST]"));
    }

    #[test]
    fn a_variable_without_value_is_passed_on() {
        let options = run(&["--env", "A=1=2", "--env", "B", "--env", "C=", "m"]);
        let pairs: Vec<_> = options
            .environment
            .iter()
            .map(|e| {
                (
                    e.name.to_str().unwrap(),
                    e.value.as_ref().map(|v| v.to_str().unwrap()),
                )
            })
            .collect();
        assert_eq!(pairs, [("A", Some("1=2")), ("B", None), ("C", Some(""))]);
        assert!(wrong(&["--env", "=x", "m"]).contains("NAME"));
    }

    #[test]
    fn lists_are_split_as_ld_so_does() {
        let options = run(&["--library-path", "/a::/b", "--preload", "x.so y.so", "m"]);
        assert_eq!(options.library_path, ["/a", "/b"]);
        assert_eq!(options.preload, ["x.so", "y.so"]);
    }

    #[test]
    fn limits_are_read_with_their_units() {
        let options = run(&[
            "--timeout",
            "100ms",
            "--max-memory=64M",
            "--fuel=1_000",
            "m",
        ]);
        assert_eq!(options.timeout, Some(Duration::from_millis(100)));
        assert_eq!(options.max_memory, Some(64 << 20));
        assert_eq!(options.fuel, Some(1000));
        assert!(wrong(&["--timeout", "5", "m"]).starts_with("--timeout: `5`"));
        assert!(wrong(&["--max-memory", "lots", "m"]).starts_with("--max-memory: `lots`"));
        assert!(wrong(&["--fuel", "x", "m"]).starts_with("--fuel: `x`"));
    }

    #[test]
    fn wrong_command_lines_are_refused_with_the_reason() {
        assert!(wrong(&[]).contains("PROGRAM"));
        assert!(wrong(&["run"]).contains("PROGRAM"));
        assert!(wrong(&["--frobnicate", "m"]).contains("--frobnicate"));
        assert!(wrong(&["--dir"]).contains("--dir"));
        assert!(wrong(&["--offline=yes", "m"]).contains("--offline"));
    }

    #[test]
    fn help_and_version_need_no_program() {
        let help = |line: &[&str]| match parse(line.iter().map(OsString::from)) {
            Ok(Command::Help(text)) => text,
            _ => panic!("{line:?}"),
        };
        assert_eq!(help(&["-h"]), HELP);
        assert_eq!(help(&["run", "--help"]), HELP);
        assert_eq!(help(&["help"]), HELP);
        assert_eq!(help(&["help", "run"]), HELP);
        assert!(help(&["help", "ldd"]).starts_with("dynlink ldd"));
        assert!(matches!(parse(["--version".into()]), Ok(Command::Version)));
    }

    #[test]
    fn what_is_misspelt_gets_a_suggestion() {
        assert!(wrong(&["--of-line", "m"]).ends_with("did you mean `--offline`?"));
        assert!(wrong(&["help", "chek"]).ends_with("did you mean `check`?"));
        assert_eq!(wrong(&["-z", "m"]), "there is no option `-z`");
    }

    #[test]
    fn every_option_is_in_the_help_text() {
        let source = include_str!("options.rs");
        let body = source.split("#[cfg(test)]").next().unwrap();
        let mut count = 0;
        let names = body
            .split("Long(\"")
            .skip(1)
            .chain(body.split("        \"").skip(1));
        let names = names.filter_map(|part| part.split('"').next());
        for name in names.filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')) {
            assert!(
                HELP.contains(&format!("--{name}")),
                "--{name} is not in the help text"
            );
            count += 1;
        }
        assert!(count > 10);
    }
}
