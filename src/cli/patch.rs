//! `dynlink patch`: changes which libraries a file needs and where they are looked for.

#![forbid(unsafe_code)]

use super::demangle::printable;
use super::tool::{self, Flags};
use crate::config::Engine;
use crate::error::{Error, Result};
use crate::module::{DylinkInfo, DylinkPatch, Module};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The help text of the verb.
pub const HELP: &str = "\
dynlink patch - change which libraries a file needs, and where they are looked for

Usage: dynlink patch [OPTIONS] FILE [-o OUTPUT]

Writes FILE with another dynamic linking section; everything else stays as it is, byte by byte. The
changes are made in the order in which they are given. The result is read and validated before it
is written, and it replaces OUTPUT in one step. A main module without such a section gets one.

Changes:
      --add-needed LIBRARY          need a library, after the others
      --remove-needed LIBRARY       no longer need it
      --replace-needed OLD NEW      need another library in its place
      --set-rpath DIRS              look in these directories, separated by `:`; `$ORIGIN` is the
                                    folder of the file itself
      --remove-rpath                no such directories
Output:
  -o, --output OUTPUT               where to write (it may be FILE itself); `-` is standard output
      --print-needed                print the needed libraries (after the changes), a line each
      --print-rpath                 print the directories (after the changes)
  -h, --help                        this text

Exit status: 0; 2 if the command line is wrong; 127 if FILE is not sound or OUTPUT not writable.

Examples:
  dynlink patch --print-needed main.wasm
  dynlink patch --add-needed libm.so --set-rpath '$ORIGIN/lib' main.wasm -o main2.wasm
  dynlink patch --replace-needed libz.so libz-ng.so plugin.so -o plugin.so
";

/// One change.
enum Change {
    Add(String),
    Remove(String),
    Replace(String, String),
    RuntimePath(Vec<String>),
}

/// Runs the verb with the rest of the command line.
pub fn main(flags: Flags) -> Result<ExitCode> {
    let mut changes = Vec::new();
    let mut output = None;
    let (mut print_needed, mut print_path) = (false, false);
    let read = flags.read(HELP, |name, parser| {
        match name {
            "add-needed" => changes.push(Change::Add(library(parser)?)),
            "remove-needed" => changes.push(Change::Remove(library(parser)?)),
            "replace-needed" => {
                let old = library(parser)?;
                changes.push(Change::Replace(old, library(parser)?));
            }
            "set-rpath" => {
                let path = tool::value(parser)?;
                let entries = super::options::split_list(&path, &[':']);
                changes.push(Change::RuntimePath(entries));
            }
            "remove-rpath" => changes.push(Change::RuntimePath(Vec::new())),
            "o" | "output" => {
                let value = parser.value().map_err(|error| error.to_string())?;
                output = Some(PathBuf::from(value));
            }
            "print-needed" => print_needed = true,
            "print-rpath" => print_path = true,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some((_, files)) = read else {
        return Ok(tool::print(HELP));
    };
    let file = PathBuf::from(tool::only(files, "FILE")?);
    if !print_needed && !print_path && changes.is_empty() {
        return Err(tool::usage("nothing to do: no change and nothing to print"));
    }
    if !changes.is_empty() && output.is_none() && !print_needed && !print_path {
        return Err(tool::usage("no OUTPUT was given: -o OUTPUT"));
    }
    let name = tool::name(&file);
    let named = |error: Error| error.context(format!("`{name}`"));
    let bytes = binary(tool::read(&file)?).map_err(named)?;
    let patched = changed(&bytes, changes).map_err(named)?;
    let info = DylinkInfo::read(&patched)
        .map_err(named)?
        .unwrap_or_default();
    if let Some(output) = output {
        // A file that was sound stays so; one that was not is told about before anything is written.
        Module::with_name(&Engine::default(), patched.clone(), &name)?;
        write(&output, &patched)?;
    }
    let mut text = String::new();
    let lists = [(print_needed, info.needed), (print_path, info.runtime_path)];
    for entry in lists
        .into_iter()
        .filter(|(print, _)| *print)
        .flat_map(|(_, list)| list)
    {
        text.push_str(&printable(&entry));
        text.push('\n');
    }
    Ok(tool::print(&text))
}

fn library(parser: &mut lexopt::Parser) -> Result<String, String> {
    let name = tool::value(parser)?;
    if name.is_empty() {
        return Err("the name of a library is empty".into());
    }
    Ok(name)
}

/// The module as a binary, which text is translated to.
#[cfg(feature = "wat")]
fn binary(bytes: Vec<u8>) -> Result<Vec<u8>> {
    if bytes.starts_with(b"\0asm") {
        return Ok(bytes);
    }
    Ok(Module::new(&Engine::default(), &bytes)?.bytes().to_vec())
}

#[cfg(not(feature = "wat"))]
fn binary(bytes: Vec<u8>) -> Result<Vec<u8>> {
    Ok(bytes)
}

fn changed(bytes: &[u8], changes: Vec<Change>) -> Result<Vec<u8>> {
    let mut info = DylinkInfo::read(bytes)?.unwrap_or_default();
    let mut patch = DylinkPatch::new();
    for change in changes {
        let missing = |name: &str| {
            Error::msg(format!(
                "`{name}` is not needed; needed are: {}",
                if info.needed.is_empty() {
                    "none".into()
                } else {
                    info.needed.join(", ")
                }
            ))
        };
        match change {
            Change::Add(name) => {
                if !info.needed.contains(&name) {
                    info.needed.push(name);
                }
            }
            Change::Remove(name) => {
                if !info.needed.contains(&name) {
                    return Err(missing(&name));
                }
                info.needed.retain(|needed| *needed != name);
            }
            Change::Replace(old, new) => {
                if !info.needed.contains(&old) {
                    return Err(missing(&old));
                }
                for needed in info.needed.iter_mut().filter(|needed| **needed == old) {
                    needed.clone_from(&new);
                }
            }
            Change::RuntimePath(entries) => {
                patch = patch.runtime_path(entries);
                continue;
            }
        }
        patch = patch.needed(info.needed.clone());
    }
    patch.apply(bytes)
}

/// Writes a new file beside the old one and puts it in its place, so that nobody ever sees half of it.
fn write(output: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source: std::io::Error| {
        Error::msg(format!("cannot write `{}`: {source}", output.display()))
    };
    if output.as_os_str() == "-" {
        return std::io::stdout().write_all(bytes).map_err(failed);
    }
    // A link stays a link: what it leads to is replaced.
    let target = output.canonicalize().unwrap_or_else(|_| output.to_owned());
    let permissions = std::fs::metadata(&target).ok().map(|old| old.permissions());
    let name = target
        .file_name()
        .ok_or_else(|| failed(std::io::ErrorKind::IsADirectory.into()))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = target.with_file_name(temporary);
    let written = std::fs::File::create_new(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        if let Some(permissions) = permissions {
            file.set_permissions(permissions)?;
        }
        file.sync_all()?;
        std::fs::rename(&temporary, &target)
    });
    written.map_err(|source| {
        if source.kind() != std::io::ErrorKind::AlreadyExists {
            let _ = std::fs::remove_file(&temporary);
        }
        failed(source)
    })
}
