//! `dynlink objdump`: what a module consists of.

#![forbid(unsafe_code)]

use super::demangle::{printable, shown};
use super::nm::{flag_words, type_text};
use super::tool::{self, Flags};
use crate::config::Engine;
use crate::error::{Error, Result};
use crate::module::{DylinkInfo, ExternType, Module, Section, SymbolFlags, sections};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The help text of the verb.
pub const HELP: &str = "\
dynlink objdump - what a module consists of

Usage: dynlink objdump [OPTIONS] FILE

Prints the sections with their places and sizes, the dynamic linking information, and imports and
exports by namespace. `-` reads a module from standard input. With options, only what they name.

Options:
  -s, --sections                sections
  -p, --dylink                  dynamic linking information (`dylink.0`, or the older `dylink`)
  -i, --imports                 imports by namespace
  -e, --exports                 exports by kind
  -f, --functions               all functions with their types
  -d, --disassemble FUNCTION    the operators of a function, by name or index
      --ir FUNCTION             what the interpreter makes of it
  -C, --demangle                C++ and Rust names as their sources have them
      --json                    print JSON (sections, dylink, imports and exports)
  -h, --help                    this text

Exit status: 0; 127 if the file is not sound, 2 if the command line is wrong.

Examples:
  dynlink objdump libnumpy.so
  dynlink objdump --dylink main.wasm
  dynlink objdump -d malloc main.wasm
  dynlink objdump --ir 17 main.wasm
";

/// Runs the verb with the rest of the command line.
pub fn main(flags: Flags) -> Result<ExitCode> {
    let mut parts: Vec<char> = Vec::new();
    let mut code: Vec<(char, String)> = Vec::new();
    let (mut readable, mut as_json) = (false, false);
    let read = flags.read(HELP, |name, parser| {
        match name {
            "s" | "sections" => parts.push('s'),
            "p" | "dylink" => parts.push('p'),
            "i" | "imports" => parts.push('i'),
            "e" | "exports" => parts.push('e'),
            "f" | "functions" => parts.push('f'),
            "d" | "disassemble" => code.push(('d', tool::value(parser)?)),
            "ir" => code.push(('r', tool::value(parser)?)),
            "C" | "demangle" => readable = true,
            "json" => as_json = true,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some((_, files)) = read else {
        return Ok(tool::print(HELP));
    };
    let file = PathBuf::from(tool::only(files, "FILE")?);
    let name = tool::name(&file);
    let module = Module::with_name(&Engine::default(), tool::read(&file)?, &name)?;
    let list = sections(module.bytes())?;
    if as_json {
        return Ok(tool::print(&tool::json(&to_json(&name, &module, &list))));
    }
    let mut out = String::new();
    if parts.is_empty() && code.is_empty() {
        parts.extend(['h', 's', 'p', 'i', 'e']);
    }
    for part in parts {
        if !out.is_empty() {
            out.push('\n');
        }
        match part {
            'h' => header(&name, &module, &mut out),
            's' => section_table(&list, &mut out),
            'p' => dylink(module.dylink(), &mut out),
            'i' => imports(&module, readable, &mut out),
            'e' => exports(&module, readable, &mut out),
            _ => functions(&module, readable, &mut out),
        }
    }
    for (form, function) in code {
        let index = find(&module, &function)?;
        let name = module.function_name(index).unwrap_or_default();
        let ty = module
            .function_type(index)
            .map_or_else(String::new, ToString::to_string);
        if !out.is_empty() {
            out.push('\n');
        }
        let _ = writeln!(out, "function {index} {}: {ty}", shown(&name, readable));
        if form == 'r' {
            out.push_str(&module.ir(index)?);
            continue;
        }
        for operator in module.disassemble(index)? {
            let indent = operator.depth * 2;
            let _ = writeln!(
                out,
                "{:>8x}  {:indent$}{}",
                operator.offset, "", operator.text
            );
        }
    }
    Ok(tool::print(&out))
}

/// The function of this index or name.
fn find(module: &Module, function: &str) -> Result<u32> {
    if let Ok(index) = function.parse::<u32>() {
        return Ok(index);
    }
    let exported = module
        .exported_function(function)
        .or_else(|| module.function_named(function));
    exported.ok_or_else(|| {
        let names = module
            .exports()
            .filter(|export| matches!(export.ty, ExternType::Func(_)));
        let similar = super::options::similar(function, names.map(|export| export.name));
        Error::usage(format!(
            "no function is named `{function}`{}",
            similar.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
        ))
    })
}

fn header(name: &str, module: &Module, out: &mut String) {
    let kind = match module.dylink() {
        None => "module without dynamic linking information",
        Some(info) if info.legacy => "module with the legacy section `dylink`",
        Some(_) => "module with `dylink.0`",
    };
    let _ = writeln!(
        out,
        "{}: {kind}, {}",
        printable(name),
        tool::bytes(tool::number(module.bytes().len()))
    );
    let types = module.imports().map(|import| (import.ty, true));
    let types = types.chain(module.exports().map(|export| (export.ty, false)));
    for (ty, imported) in types {
        let what = match ty {
            ExternType::Memory(_) => "memory",
            ExternType::Table(_) => "table",
            _ => continue,
        };
        let how = if imported { "imported" } else { "exported" };
        let _ = writeln!(out, "{what} {how}: {}", type_text(&ty));
    }
    let _ = writeln!(out, "{} functions", module.function_count());
}

fn section_table(list: &[Section], out: &mut String) {
    out.push_str("Sections:\n  id    start     size  count  name\n");
    for section in list {
        let count = section
            .count
            .map_or_else(String::new, |count| count.to_string());
        let _ = writeln!(
            out,
            "  {:>2} {:>8x} {:>8x} {count:>6}  {}",
            section.id,
            section.start,
            section.size,
            printable(&section.name)
        );
    }
}

fn dylink(info: Option<&DylinkInfo>, out: &mut String) {
    let Some(info) = info else {
        out.push_str("Dynamic linking: none\n");
        return;
    };
    let section = if info.legacy { "dylink" } else { "dylink.0" };
    let _ = writeln!(out, "Dynamic linking ({section}):");
    let align = |log: u32| 1u64.checked_shl(log).unwrap_or(0);
    let _ = writeln!(
        out,
        "  memory  {} bytes, aligned to {}\n  table   {} slots, aligned to {}",
        info.memory_size,
        align(info.memory_align),
        info.table_size,
        align(info.table_align)
    );
    for (what, list) in [("needed", &info.needed), ("rpath", &info.runtime_path)] {
        for name in list {
            let _ = writeln!(out, "  {what:<6}  {}", printable(name));
        }
    }
    for (name, flags) in &info.export_info {
        let _ = writeln!(out, "  export  {}: {}", printable(name), words(*flags));
    }
    for (module, name, flags) in &info.import_info {
        let _ = writeln!(
            out,
            "  import  {}.{}: {}",
            printable(module),
            printable(name),
            words(*flags)
        );
    }
}

/// All flags in words, and what has no word as a number.
fn words(flags: SymbolFlags) -> String {
    let mut list: Vec<String> = Vec::new();
    if flags.is_weak() {
        list.push("WEAK".into());
    }
    if flags.contains(SymbolFlags::UNDEFINED) {
        list.push("UNDEFINED".into());
    }
    if flags.contains(SymbolFlags::EXPORTED) {
        list.push("EXPORTED".into());
    }
    if flags.contains(SymbolFlags::EXPLICIT_NAME) {
        list.push("EXPLICIT_NAME".into());
    }
    list.extend(flag_words(flags));
    let unknown = flags.bits() & !0x3f7;
    if unknown != 0 {
        list.push(format!("{unknown:#x}"));
    }
    if list.is_empty() {
        "no flags".into()
    } else {
        list.join(" ")
    }
}

fn imports(module: &Module, readable: bool, out: &mut String) {
    let mut spaces: BTreeMap<&str, Vec<(&str, String)>> = BTreeMap::new();
    for import in module.imports() {
        let line = kind_and_type(&import.ty);
        spaces
            .entry(import.module)
            .or_default()
            .push((import.name, line));
    }
    let _ = writeln!(out, "Imports: {}", module.imports().len());
    for (space, list) in spaces {
        let _ = writeln!(out, "  {} ({})", printable(space), list.len());
        for (name, line) in list {
            let _ = writeln!(out, "    {}: {line}", shown(name, readable));
        }
    }
}

fn exports(module: &Module, readable: bool, out: &mut String) {
    let mut kinds: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for export in module.exports() {
        let line = format!(
            "{}: {}",
            shown(export.name, readable),
            type_text(&export.ty)
        );
        kinds.entry(kind(&export.ty)).or_default().push(line);
    }
    let _ = writeln!(out, "Exports: {}", module.exports().len());
    for (kind, list) in kinds {
        let _ = writeln!(out, "  {kind} ({})", list.len());
        for line in list {
            let _ = writeln!(out, "    {line}");
        }
    }
}

fn functions(module: &Module, readable: bool, out: &mut String) {
    let _ = writeln!(out, "Functions: {}", module.function_count());
    let entries = crate::link::symbols_of(module);
    let mut names: BTreeMap<u32, &str> = BTreeMap::new();
    for entry in entries.iter().rev() {
        if matches!(entry.ty, ExternType::Func(_)) {
            names.insert(entry.index, &entry.name);
        }
    }
    for index in (0u32..).take(module.function_count()) {
        let name = names.get(&index).copied().unwrap_or("");
        let ty = module
            .function_type(index)
            .map_or_else(String::new, ToString::to_string);
        let size = module.function_body(index).map_or_else(
            || "imported".to_owned(),
            |range| format!("{} bytes at {:x}", range.len(), range.start),
        );
        let _ = writeln!(
            out,
            "  {index:>6}  {}: {ty}  ({size})",
            shown(name, readable)
        );
    }
}

fn kind(ty: &ExternType) -> &'static str {
    match ty {
        ExternType::Func(_) => "function",
        ExternType::Global(_) => "global",
        ExternType::Memory(_) => "memory",
        ExternType::Table(_) => "table",
    }
}

fn kind_and_type(ty: &ExternType) -> String {
    match ty {
        ExternType::Func(ty) => ty.to_string(),
        other => format!("{} {}", kind(other), type_text(other)),
    }
}

fn to_json(name: &str, module: &Module, list: &[Section]) -> Value {
    let sections: Vec<Value> = list
        .iter()
        .map(|section| {
            json!({
                "id": section.id,
                "name": section.name,
                "start": section.start,
                "size": section.size,
                "count": section.count,
            })
        })
        .collect();
    let dylink = module.dylink().map(|info| {
        let exports = info.export_info.iter();
        let imports = info.import_info.iter();
        json!({
            "legacy": info.legacy,
            "memory_size": info.memory_size,
            "memory_align": info.memory_align,
            "table_size": info.table_size,
            "table_align": info.table_align,
            "needed": info.needed,
            "runtime_path": info.runtime_path,
            "exports": exports.map(|(name, flags)| json!({ "name": name, "flags": flags.bits() })).collect::<Vec<_>>(),
            "imports": imports.map(|(module, name, flags)| json!({ "module": module, "name": name, "flags": flags.bits() })).collect::<Vec<_>>(),
        })
    });
    let imports: Vec<Value> = module
        .imports()
        .map(|import| json!({ "module": import.module, "name": import.name, "kind": kind(&import.ty), "type": type_text(&import.ty) }))
        .collect();
    let exports: Vec<Value> = module
        .exports()
        .map(|export| json!({ "name": export.name, "kind": kind(&export.ty), "type": type_text(&export.ty) }))
        .collect();
    json!({
        "file": name,
        "bytes": module.bytes().len(),
        "functions": module.function_count(),
        "sections": sections,
        "dylink": dylink,
        "imports": imports,
        "exports": exports,
    })
}
