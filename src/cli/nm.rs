//! `dynlink nm`: the symbols of modules and libraries.

#![forbid(unsafe_code)]

use super::demangle::{demangle, printable, shown};
use super::tool::{self, Flags};
use crate::config::Engine;
use crate::error::Result;
use crate::link::{SymbolClass, SymbolEntry, symbols_of};
use crate::module::{ExternType, Module, SymbolFlags};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// The help text of the verb.
pub const HELP: &str = "\
dynlink nm - the symbols of modules and libraries

Usage: dynlink nm [OPTIONS] FILE...

Prints a line for each symbol: for data its address (relative to the library's own), for functions
their index; a letter; the name; and in brackets what the letter does not tell. `-` reads a module
from standard input.

  T t   a function; `t` is not exported          U     undefined: imported
  D B   data with values; data that is zero      w v   undefined and weak: function, data
  W V   weak function, weak data                 A     an absolute number
  G M E a global that is no address, a memory, a table

Options:
  -C, --demangle                C++ and Rust names as their sources have them
  -D, --dynamic                 only exports and imports, not local functions
  -u, --undefined-only          only what is imported
  -U, --defined-only            only what the file defines
  -n, --numeric-sort            sort by address or index instead of by name
  -p, --no-sort                 in the order of the file
  -A, --print-file-name         begin each line with the file's name
  -t, --types                   print types, too
      --json                    print JSON
  -h, --help                    this text

Exit status: 0; 127 if a file cannot be read, 2 if the command line is wrong.

Examples:
  dynlink nm -CD libnumpy.so
  dynlink nm --undefined-only main.wasm
  dynlink nm -A lib/*.so | grep ' T malloc'
";

/// What to print, and how.
#[derive(Default)]
struct Choice {
    readable: bool,
    dynamic: bool,
    undefined: bool,
    defined: bool,
    numeric: bool,
    unsorted: bool,
    file_name: bool,
    types: bool,
    json: bool,
}

/// Runs the verb with the rest of the command line.
pub fn main(flags: Flags) -> Result<ExitCode> {
    let mut choice = Choice::default();
    let read = flags.read(HELP, |name, _| {
        let flag = match name {
            "C" | "demangle" => &mut choice.readable,
            "D" | "dynamic" => &mut choice.dynamic,
            "u" | "undefined-only" => &mut choice.undefined,
            "U" | "defined-only" => &mut choice.defined,
            "n" | "numeric-sort" => &mut choice.numeric,
            "p" | "no-sort" => &mut choice.unsorted,
            "A" | "print-file-name" => &mut choice.file_name,
            "t" | "types" => &mut choice.types,
            "json" => &mut choice.json,
            _ => return Ok(false),
        };
        *flag = true;
        Ok(true)
    })?;
    let Some((_, files)) = read else {
        return Ok(tool::print(HELP));
    };
    if files.is_empty() {
        return Err(tool::usage("no FILE was given"));
    }
    let engine = Engine::default();
    let mut out = String::new();
    let mut all = Vec::new();
    for file in &files {
        let path = Path::new(file);
        let name = tool::name(path);
        let module = Module::with_name(&engine, tool::read(path)?, &name)?;
        let list = chosen(&module, &choice);
        if choice.json {
            let symbols: Vec<Value> = list.iter().map(entry_json).collect();
            all.push(json!({ "file": name, "symbols": symbols }));
            continue;
        }
        if files.len() > 1 && !choice.file_name {
            let _ = writeln!(out, "\n{}:", printable(&name));
        }
        for entry in &list {
            if choice.file_name {
                let _ = write!(out, "{}: ", printable(&name));
            }
            line(entry, &choice, &mut out);
        }
    }
    if choice.json {
        out = tool::json(&all.into());
    }
    Ok(tool::print(&out))
}

fn chosen(module: &Module, choice: &Choice) -> Vec<SymbolEntry> {
    let mut list = symbols_of(module);
    list.retain(|entry| {
        let imported = entry.from.is_some();
        (entry.dynamic || !choice.dynamic)
            && (imported || !choice.undefined)
            && (!imported || !choice.defined)
    });
    if choice.numeric {
        let key = |entry: &SymbolEntry| {
            let number = entry
                .address
                .or((entry.from.is_none()).then_some(entry.index));
            (number, entry.name.clone())
        };
        list.sort_by_cached_key(key);
    } else if !choice.unsorted {
        list.sort_by(|a, b| a.name.cmp(&b.name));
    }
    list
}

fn line(entry: &SymbolEntry, choice: &Choice, out: &mut String) {
    match (entry.address, &entry.from) {
        (Some(address), _) => {
            let _ = write!(out, "{address:08x}");
        }
        (None, None) => {
            let _ = write!(out, "{:08x}", entry.index);
        }
        (None, Some(_)) => out.push_str("        "),
    }
    let _ = write!(
        out,
        " {} {}",
        entry.letter,
        shown(&entry.name, choice.readable)
    );
    if choice.types {
        let _ = write!(out, ": {}", type_text(&entry.ty));
    }
    for note in notes(entry) {
        let _ = write!(out, " [{}]", shown(&note, false));
    }
    out.push('\n');
}

/// What the letter does not tell.
fn notes(entry: &SymbolEntry) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(from) = entry.from.as_ref().filter(|from| *from != "env") {
        notes.push(from.clone());
    }
    let is_import = entry.from.is_some();
    match entry.class {
        SymbolClass::Global if is_import => notes.push("global".into()),
        SymbolClass::Memory if is_import => notes.push("memory".into()),
        SymbolClass::Table if is_import => notes.push("table".into()),
        _ => {}
    }
    notes.extend(flag_words(entry.flags));
    notes
}

/// Flags in words, but not those that a letter tells or that say nothing here.
pub fn flag_words(flags: SymbolFlags) -> Vec<String> {
    [
        (SymbolFlags::TLS, "TLS"),
        (SymbolFlags::HIDDEN, "HIDDEN"),
        (SymbolFlags::LOCAL, "LOCAL"),
        (SymbolFlags::ABSOLUTE, "ABSOLUTE"),
        (SymbolFlags::NO_STRIP, "NO_STRIP"),
    ]
    .into_iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .map(|(_, word)| word.to_owned())
    .collect()
}

/// A type as the text format has it, more or less.
pub fn type_text(ty: &ExternType) -> String {
    let most =
        |maximum: Option<u64>| maximum.map_or_else(String::new, |most| format!(" to {most}"));
    match ty {
        ExternType::Func(ty) => ty.to_string(),
        ExternType::Global(ty) if ty.mutable => format!("mut {}", ty.value),
        ExternType::Global(ty) => ty.value.to_string(),
        ExternType::Memory(ty) => format!("{}{} pages", ty.minimum, most(ty.maximum)),
        ExternType::Table(ty) => format!("{}{} elements", ty.minimum, most(ty.maximum)),
    }
}

fn entry_json(entry: &SymbolEntry) -> Value {
    let class = match entry.class {
        SymbolClass::Function => "function",
        SymbolClass::FunctionAddress => "function-address",
        SymbolClass::Data => "data",
        SymbolClass::DataAddress => "data-address",
        SymbolClass::Absolute => "absolute",
        SymbolClass::Global => "global",
        SymbolClass::Memory => "memory",
        SymbolClass::Table => "table",
    };
    json!({
        "name": entry.name,
        "readable": demangle(&entry.name),
        "letter": entry.letter,
        "class": class,
        "from": entry.from,
        "address": entry.address,
        "index": entry.index,
        "type": type_text(&entry.ty),
        "flags": flag_words(entry.flags),
        "weak": entry.flags.is_weak(),
        "dynamic": entry.dynamic,
        "internal": entry.internal,
    })
}
