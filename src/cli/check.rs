//! `dynlink check`: a load without effect that lists everything that is wrong with a program at once.

#![forbid(unsafe_code)]

use super::demangle::{demangle, in_text, printable};
use super::ldd;
use super::tool::{self, Flags};
use crate::error::Result;
use crate::link::{DryRun, Near, Problem, ProblemKind};
use crate::shown::{shown, shown_list};
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::ExitCode;

/// The help text of the verb.
pub const HELP: &str = "\
dynlink check - everything that is wrong with a program, at once

Usage: dynlink check [OPTIONS] PROGRAM [LIBRARY...]

Plans the start of PROGRAM, and after it the opening of each LIBRARY as by dlopen, and lists all
missing libraries and all undefined or mismatching symbols: who wants them, who nearly offers them,
where they were looked for, and what to do. No code of the guest runs.

PROGRAM is a manifest (*.toml), a module or library, or `-`. A LIBRARY is a name for the library
path, or a path that the guest sees. A bare module without `--dir` is taken from the host: its own
folder, those of the libraries and the directories of --library-path can be read.

Options:
      --json                    print JSON
      --dir HOST[::GUEST][:ro]  as for `dynlink run`
      --library-path DIRS       directories to search for libraries, separated by `:`
      --preload LIBRARY         load a library before all others
      --offline                 never fetch packages
  -h, --help                    this text

Exit status: 0 if all is well, 1 if something is wrong with the program, 2 if the command line is
wrong, 127 if PROGRAM cannot be read.

Examples:
  dynlink check main.wasm
  dynlink check --library-path lib main.wasm plugin.so
  dynlink check --json fixtures/programs/python311.toml
";

/// Objects that are named in one line.
const MOST_NAMES: usize = 8;

/// Runs the verb with the rest of the command line.
pub fn main(flags: Flags) -> Result<ExitCode> {
    let mut as_json = false;
    let program = flags.read(HELP, |name, _| {
        as_json |= name == "json";
        Ok(name == "json")
    })?;
    let Some((mut options, files)) = program else {
        return Ok(tool::print(HELP));
    };
    let mut files = files.into_iter();
    options.file = tool::first(&mut files, "PROGRAM")?.into();
    let libraries = files.map(tool::text).collect::<Result<Vec<String>>>()?;
    let (program, libraries) = tool::program_with(&options, libraries)?;
    let run = program.dry_run(libraries)?;
    let text = if as_json {
        tool::json(&to_json(&run))
    } else {
        report(&run)
    };
    Ok(tool::finish(&text, run.problems.is_empty()))
}

fn report(run: &DryRun) -> String {
    let name = run.objects.first().map_or("", |object| &object.name);
    if run.problems.is_empty() {
        return format!(
            "{}: {} object{}, {} imports bound, no problems\n",
            shown(name),
            run.objects.len(),
            if run.objects.len() == 1 { "" } else { "s" },
            run.bound
        );
    }
    let mut out = String::new();
    for problem in &run.problems {
        out.push_str(&one(problem));
        out.push('\n');
    }
    if run.more_problems > 0 {
        let _ = writeln!(out, "and {} more\n", run.more_problems);
    }
    let count = run.problems.len() + run.more_problems;
    let _ = writeln!(
        out,
        "{}: {count} {}",
        shown(name),
        if count == 1 { "problem" } else { "problems" }
    );
    out
}

fn one(problem: &Problem) -> String {
    let mut out = format!("{}\n", in_text(&printable(&headline(problem))));
    let mut line = |title: &str, text: String| {
        if !text.is_empty() {
            let _ = writeln!(out, "  {title:<9}  {}", printable(&text));
        }
    };
    let title = if problem.library.is_some() {
        "needed by"
    } else {
        "wanted by"
    };
    line(title, some(&problem.wanted_by));
    if problem.library.is_none() && !problem.needed_by.is_empty() {
        line(
            "needed by",
            problem.needed_by.join(", needed by ").replace('`', ""),
        );
    }
    for near in &problem.near {
        line("near", near_text(near));
    }
    line("searched", some(&problem.searched));
    if problem.only_when_called {
        line(
            "effect",
            "the program starts; a call of the function traps".into(),
        );
    }
    line("help", in_text(&problem.remedy));
    out
}

/// The sentence without who wants it, which has a line of its own.
fn headline(problem: &Problem) -> String {
    let text = &problem.text;
    let cut = match (&problem.library, problem.kind) {
        (Some(_), ProblemKind::MissingLibrary) => text.split(", needed by").next(),
        (Some(_), _) => None,
        _ => text.rsplit_once(", wanted by").map(|(text, _)| text),
    };
    let text = cut.unwrap_or(text);
    text.split(" (looked for in")
        .next()
        .unwrap_or(text)
        .to_owned()
}

fn near_text(near: &Near) -> String {
    let name = match demangle(&near.name) {
        Some(readable) => format!("`{}` = `{readable}`", shown(&near.name)),
        None => format!("`{}`", shown(&near.name)),
    };
    let ty = near
        .ty
        .as_ref()
        .map_or_else(String::new, |ty| format!(": {ty}"));
    format!("{} has {name}{ty}  <- {}", shown(&near.provider), near.why)
}

fn some(names: &[String]) -> String {
    let mut text = shown_list(names.get(..MOST_NAMES).unwrap_or(names));
    if names.len() > MOST_NAMES {
        let _ = write!(text, " and {} more", names.len() - MOST_NAMES);
    }
    text
}

fn to_json(run: &DryRun) -> Value {
    let mut value = ldd::to_json(run);
    let problems: Vec<Value> = run.problems.iter().map(problem_json).collect();
    if let Value::Object(members) = &mut value {
        members.insert("problems".into(), problems.into());
        members.insert("more_problems".into(), run.more_problems.into());
        members.insert("bound".into(), run.bound.into());
    }
    value
}

fn problem_json(problem: &Problem) -> Value {
    let kind = match problem.kind {
        ProblemKind::MissingLibrary => "missing-library",
        ProblemKind::UnusableLibrary => "unusable-library",
        ProblemKind::Undefined => "undefined",
        ProblemKind::SignatureMismatch => "signature-mismatch",
        ProblemKind::KindMismatch => "kind-mismatch",
        ProblemKind::Other => "other",
    };
    let symbol = problem.symbol.as_ref().map(|symbol| {
        json!({
            "module": symbol.module,
            "name": symbol.name,
            "readable": demangle(&symbol.name),
            "kind": symbol.kind.to_string(),
            "type": symbol.ty.as_ref().map(ToString::to_string),
        })
    });
    let near: Vec<Value> = problem
        .near
        .iter()
        .map(|near| {
            json!({
                "provider": near.provider,
                "name": near.name,
                "type": near.ty.as_ref().map(ToString::to_string),
                "why": near.why,
            })
        })
        .collect();
    json!({
        "kind": kind,
        "text": problem.text,
        "symbol": symbol,
        "library": problem.library,
        "wanted_by": problem.wanted_by,
        "needed_by": problem.needed_by,
        "provider": problem.provider,
        "near": near,
        "searched": problem.searched,
        "remedy": problem.remedy,
        "only_when_called": problem.only_when_called,
    })
}
