//! `dynlink ldd`: the libraries that a program needs, as a tree, as JSON, or as a drawing for Graphviz.

#![forbid(unsafe_code)]

use super::demangle::{in_text, printable};
use super::tool::{self, Flags};
use crate::error::Result;
use crate::link::{Base, DryNeeded, DryObject, DryRun, ProblemKind};
use crate::shown::{shown, shown_list};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fmt::Write;
use std::process::ExitCode;

/// The help text of the verb.
pub const HELP: &str = "\
dynlink ldd - the libraries that a program needs

Usage: dynlink ldd [OPTIONS] PROGRAM

Prints the tree of needed libraries: where each was found, how large the file is, how much memory
and how many table slots it takes, and where they would be placed. A library stands with all that it
needs where it is met first; `(above)` marks it where it is met again. No code of the guest runs.

PROGRAM is a manifest (*.toml), a module or library, or `-`. Libraries are looked for as
`dynlink run` does, among what the options show to the guest. A bare module without `--dir` is
taken from the host: its own folder and the directories of --library-path can be read.

Options:
      --json                    print JSON
      --dot                     print a drawing for Graphviz
      --dir HOST[::GUEST][:ro]  as for `dynlink run`
      --library-path DIRS       directories to search for libraries, separated by `:`
      --preload LIBRARY         load a library before all others
      --offline                 never fetch packages
  -h, --help                    this text

Exit status: 0 if everything was found, 1 if something is missing, 2 if the command line is wrong,
127 if PROGRAM cannot be read.

Examples:
  dynlink ldd main.wasm
  dynlink ldd --library-path lib:plugins main.wasm
  dynlink ldd --dot python311.toml | dot -Tsvg > python.svg
";

/// Levels of the tree that are indented; deeper ones say their depth.
const MOST_LEVELS: usize = 40;

/// What to print.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Form {
    #[default]
    Tree,
    Json,
    Dot,
}

/// Runs the verb with the rest of the command line.
pub fn main(flags: Flags) -> Result<ExitCode> {
    let mut form = Form::default();
    let program = flags.read(HELP, |name, _| {
        form = match name {
            "json" => Form::Json,
            "dot" => Form::Dot,
            _ => return Ok(false),
        };
        Ok(true)
    })?;
    let Some((mut options, files)) = program else {
        return Ok(tool::print(HELP));
    };
    options.file = tool::only(files, "PROGRAM")?.into();
    let run = tool::program(&options)?.dry_run(Vec::<String>::new())?;
    let missing = run.problems.iter().any(|problem| {
        matches!(
            problem.kind,
            ProblemKind::MissingLibrary | ProblemKind::UnusableLibrary
        )
    });
    let text = match form {
        Form::Tree => tree(&run),
        Form::Json => tool::json(&to_json(&run)),
        Form::Dot => dot(&run),
    };
    Ok(tool::finish(&text, !missing))
}

fn tree(run: &DryRun) -> String {
    let mut out = String::new();
    let mut seen = HashSet::new();
    let mut lost: usize = 0;
    for root in &run.roots {
        let Some(object) = run.objects.get(*root) else {
            continue;
        };
        let again = !seen.insert(*root);
        let _ = writeln!(
            out,
            "{}{}",
            shown(&object.name),
            if again {
                "  (above)".into()
            } else {
                details(object)
            }
        );
        if !again {
            lost += branches(run, *root, &mut seen, &mut out);
        }
    }
    for problem in &run.problems {
        let about_library = matches!(
            problem.kind,
            ProblemKind::MissingLibrary | ProblemKind::UnusableLibrary
        );
        if problem.wanted_by.is_empty() && about_library {
            lost += 1;
            let _ = writeln!(out, "{}", in_text(&printable(&problem.text)));
        }
    }
    let total = |of: fn(&DryObject) -> u64| run.objects.iter().map(of).sum::<u64>();
    let _ = writeln!(
        out,
        "\n{} object{}: files {}, memory {}, table {}{}",
        run.objects.len(),
        if run.objects.len() == 1 { "" } else { "s" },
        tool::bytes(total(|object| tool::number(object.file_bytes))),
        tool::bytes(total(|object| object.memory_size.into())),
        total(|object| object.table_size.into()),
        if lost > 0 {
            format!("; {lost} not found or not usable")
        } else {
            String::new()
        }
    );
    out
}

/// What one object needs, and what that needs: without recursion, because a chain is as long as files make it. Gives
/// how many are missing.
fn branches(run: &DryRun, root: usize, seen: &mut HashSet<usize>, out: &mut String) -> usize {
    let needs = |place: usize| {
        run.objects
            .get(place)
            .map_or(&[][..], |object| &object.needed)
    };
    let mut missing = 0;
    // Open objects with their entries that were not printed yet.
    let mut open: Vec<&[DryNeeded]> = vec![needs(root)];
    while let Some(entries) = open.last_mut() {
        let Some((entry, rest)) = entries.split_first() else {
            open.pop();
            continue;
        };
        *entries = rest;
        indent(&open, out);
        let _ = write!(out, "{}", shown(&entry.name));
        let Some(place) = entry.object else {
            missing += 1;
            out.push_str(&not_found(run, entry));
            continue;
        };
        let Some(object) = run.objects.get(place) else {
            continue;
        };
        if !seen.insert(place) {
            out.push_str("  (above)\n");
            continue;
        }
        let _ = writeln!(out, " => {}{}", shown(&object.path), details(object));
        open.push(needs(place));
    }
    missing
}

/// The lines of the tree in front of an entry of the innermost object.
fn indent(open: &[&[DryNeeded]], out: &mut String) {
    let depth = open.len();
    if depth > MOST_LEVELS {
        let _ = write!(out, "[{depth}] ");
    }
    for (level, rest) in open.iter().enumerate().take(MOST_LEVELS) {
        let innermost = level + 1 == depth.min(MOST_LEVELS);
        out.push_str(match (innermost, rest.is_empty()) {
            (true, true) => "└── ",
            (true, false) => "├── ",
            (false, true) => "    ",
            (false, false) => "│   ",
        });
    }
}

fn not_found(run: &DryRun, entry: &DryNeeded) -> String {
    let problem = run
        .problems
        .iter()
        .find(|problem| problem.library.as_deref() == Some(&entry.name));
    match problem {
        Some(problem) if problem.kind == ProblemKind::UnusableLibrary => {
            format!(" => not usable: {}\n", printable(&problem.text))
        }
        _ => {
            let mut text = if entry.searched.is_empty() {
                " => not found (there is no library path)".to_owned()
            } else {
                let searched = shown_list(&entry.searched);
                format!(" => not found (looked for in: {searched})")
            };
            if let Some(near) = problem.and_then(|problem| problem.near.first()) {
                let _ = write!(text, "; one is in {}", shown(&near.provider));
            }
            text.push('\n');
            text
        }
    }
}

fn details(object: &DryObject) -> String {
    let mut text = format!("  (file {}", tool::bytes(tool::number(object.file_bytes)));
    if object.memory_size > 0 {
        let _ = write!(
            text,
            ", memory {}{}",
            tool::bytes(object.memory_size.into()),
            base(object.memory_base, true)
        );
    }
    if object.table_size > 0 {
        let _ = write!(
            text,
            ", table {}{}",
            object.table_size,
            base(object.table_base, false)
        );
    }
    text.push(')');
    text
}

fn base(base: Base, is_address: bool) -> String {
    match base {
        Base::At(at) if is_address => format!(" at {at:#x}"),
        Base::At(at) => format!(" at {at}"),
        Base::Allocator => " from the program's allocator".into(),
        Base::Fixed => " at fixed places".into(),
        Base::Nothing | Base::Unknown => String::new(),
    }
}

/// The objects and problems as JSON; `check` prints the same with more.
pub fn to_json(run: &DryRun) -> Value {
    let objects: Vec<Value> = run.objects.iter().map(object_json).collect();
    let missing: Vec<Value> = run
        .problems
        .iter()
        .filter(|problem| problem.library.is_some())
        .map(|problem| {
            json!({
                "library": problem.library,
                "needed_by": problem.wanted_by,
                "searched": problem.searched,
                "found": problem.kind != ProblemKind::MissingLibrary,
                "text": problem.text,
            })
        })
        .collect();
    json!({ "objects": objects, "roots": run.roots, "missing": missing })
}

fn object_json(object: &DryObject) -> Value {
    let base = |base: Base| match base {
        Base::At(at) => json!(at),
        Base::Nothing => json!("nothing"),
        Base::Fixed => json!("fixed"),
        Base::Allocator => json!("allocator"),
        Base::Unknown => json!("unknown"),
    };
    let needed: Vec<Value> = object
        .needed
        .iter()
        .map(|needed| json!({ "name": needed.name, "object": needed.object, "searched": needed.searched }))
        .collect();
    json!({
        "name": object.name,
        "path": object.path,
        "file_bytes": object.file_bytes,
        "memory": { "size": object.memory_size, "align": 1u64 << object.memory_align, "base": base(object.memory_base) },
        "table": { "size": object.table_size, "align": 1u64 << object.table_align, "base": base(object.table_base) },
        "needed": needed,
        "runtime_path": object.runtime_path,
        "imports": object.imports,
        "exports": object.exports,
    })
}

fn dot(run: &DryRun) -> String {
    let escaped = |name: &str| {
        let name = shown(name).to_string();
        name.replace('\\', "\\\\").replace('"', "\\\"")
    };
    let mut out = String::from("digraph libraries {\n  node [shape=box];\n");
    for (place, object) in run.objects.iter().enumerate() {
        let name = escaped(&object.name);
        let size = tool::bytes(tool::number(object.file_bytes));
        let bold = if run.roots.contains(&place) {
            ", style=bold"
        } else {
            ""
        };
        let _ = writeln!(out, "  o{place} [label=\"{name}\\n{size}\"{bold}];");
    }
    let mut missing = HashSet::new();
    for (place, object) in run.objects.iter().enumerate() {
        let mut drawn = HashSet::new();
        for needed in &object.needed {
            match needed.object {
                Some(to) if drawn.insert(to) => {
                    let _ = writeln!(out, "  o{place} -> o{to};");
                }
                Some(_) => {}
                None => {
                    let name = format!("\"{}\"", escaped(&needed.name));
                    if missing.insert(needed.name.as_str()) {
                        let _ = writeln!(out, "  {name} [color=red, fontcolor=red];");
                    }
                    let _ = writeln!(out, "  o{place} -> {name} [color=red];");
                }
            }
        }
    }
    out.push_str("}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, needed: &[usize]) -> DryObject {
        DryObject {
            name: name.into(),
            path: format!("/lib/{name}"),
            identity: name.into(),
            needed: needed
                .iter()
                .map(|place| DryNeeded {
                    name: format!("lib{place}.so"),
                    object: Some(*place),
                    searched: Vec::new(),
                })
                .collect(),
            runtime_path: Vec::new(),
            file_bytes: 10,
            memory_size: 0,
            memory_align: 0,
            table_size: 0,
            table_align: 0,
            memory_base: Base::Nothing,
            table_base: Base::Nothing,
            imports: 0,
            exports: 0,
        }
    }

    fn run(objects: Vec<DryObject>) -> DryRun {
        DryRun {
            objects,
            roots: vec![0],
            problems: Vec::new(),
            more_problems: 0,
            bound: 0,
        }
    }

    #[test]
    fn a_library_is_expanded_once() {
        let run = run(vec![
            object("main", &[1, 2]),
            object("lib1.so", &[3]),
            object("lib2.so", &[3]),
            object("lib3.so", &[1]),
        ]);
        let expected = "\
main  (file 10 B)
├── lib1.so => /lib/lib1.so  (file 10 B)
│   └── lib3.so => /lib/lib3.so  (file 10 B)
│       └── lib1.so  (above)
└── lib2.so => /lib/lib2.so  (file 10 B)
    └── lib3.so  (above)

4 objects: files 40 B, memory 0 B, table 0
";
        assert_eq!(tree(&run), expected);
    }

    #[test]
    fn a_chain_of_ten_thousand_libraries_is_printed_in_little_space() {
        let count = 10_000;
        let objects = (0..count)
            .map(|place| {
                let next: &[usize] = &[place + 1];
                object("x", if place + 1 < count { next } else { &[] })
            })
            .collect();
        let text = tree(&run(objects));
        assert!(text.len() < 4_000_000, "{}", text.len());
        assert!(text.contains("[9999] "));
    }
}
