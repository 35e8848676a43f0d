//! What the tools share: reading flags, the program that a command line names, and how results are printed.

#![forbid(unsafe_code)]

use super::options::{self, RunOptions};
use super::program::{Program, ProgramBuilder};
use crate::error::{Error, ErrorKind, Result};
use crate::host::Mount;
use lexopt::prelude::*;
use serde_json::Value as Json;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The rest of a command line behind a verb.
pub struct Flags {
    /// What is left.
    pub parser: lexopt::Parser,
    /// What was given before the verb.
    pub options: RunOptions,
    /// Whether the options of `run` that say what the guest sees belong to the verb, too.
    pub with_program: bool,
}

impl Flags {
    /// Reads everything. `own` takes the verb's own options by name (short ones are one letter) and says whether it knows
    /// them. `None`: the help text is wanted.
    ///
    /// # Errors
    /// The command line is wrong; the message names the option and, if there is one, a similar one.
    pub fn read(
        mut self,
        help: &str,
        mut own: impl FnMut(&str, &mut lexopt::Parser) -> Result<bool, String>,
    ) -> Result<Option<(RunOptions, Vec<OsString>)>> {
        let mut files = Vec::new();
        loop {
            let argument = self.parser.next().map_err(usage)?;
            let (shown, name) = match argument {
                None => return Ok(Some((self.options, files))),
                Some(Short('h') | Long("help")) => return Ok(None),
                Some(Value(value)) => {
                    files.push(value);
                    continue;
                }
                Some(Short(letter)) => (format!("-{letter}"), letter.to_string()),
                Some(Long(name)) => (format!("--{name}"), name.to_owned()),
            };
            if own(&name, &mut self.parser).map_err(usage)? {
                continue;
            }
            let known = name.len() > 1
                && self.with_program
                && options::program_flag(&mut self.options, &name, &mut self.parser)
                    .map_err(usage)?;
            if !known {
                return Err(Error::usage(options::unknown(&shown, help)));
            }
        }
    }
}

/// A wrong command line.
pub fn usage(error: impl std::fmt::Display) -> Error {
    Error::usage(error.to_string())
}

/// The value of an option.
///
/// # Errors
/// There is none, or it is not UTF-8.
pub fn value(parser: &mut lexopt::Parser) -> Result<String, String> {
    let value = parser.value().map_err(|error| error.to_string())?;
    value.string().map_err(|error| error.to_string())
}

/// The first of several files.
///
/// # Errors
/// There is none.
pub fn first(files: &mut impl Iterator<Item = OsString>, what: &str) -> Result<OsString> {
    files
        .next()
        .filter(|file| !file.is_empty())
        .ok_or_else(|| Error::usage(format!("no {what} was given")))
}

/// The only file.
///
/// # Errors
/// There is none, or there are more.
pub fn only(files: Vec<OsString>, what: &str) -> Result<OsString> {
    let mut files = files.into_iter();
    let file = first(&mut files, what)?;
    match files.next() {
        None => Ok(file),
        Some(other) => Err(Error::usage(format!(
            "one {what} is enough, but there is also `{}`",
            other.display()
        ))),
    }
}

/// An argument that has to be text.
///
/// # Errors
/// It is not UTF-8.
pub fn text(value: OsString) -> Result<String> {
    value
        .into_string()
        .map_err(|value| Error::usage(format!("`{}` is not UTF-8", value.display())))
}

/// The program that the options describe.
///
/// # Errors
/// As [`ProgramBuilder::build`]; a file or folder is not there.
pub fn program(options: &RunOptions) -> Result<Program> {
    program_with(options, Vec::new()).map(|(program, _)| program)
}

/// The program, and libraries as it sees them. A bare module for which no directory is shown comes with its own folder
/// and those of the library path and the libraries, under their own names.
///
/// # Errors
/// As [`program`].
pub fn program_with(
    options: &RunOptions,
    libraries: Vec<String>,
) -> Result<(Program, Vec<String>)> {
    let mut builder = super::described(options)?;
    let is_manifest = options.file.extension().is_some_and(|end| end == "toml");
    if is_manifest || !options.directories.is_empty() {
        return Ok((builder.build()?, libraries));
    }
    let mut folders = Vec::new();
    let mut folder_of = |name: &str| -> Result<()> {
        if Path::new(name).is_file() {
            folders.push(place(Path::new(name))?.0);
        }
        Ok(())
    };
    // A file that is there is meant, also if its name has no slash.
    let mut libraries = libraries;
    for name in libraries.iter_mut().chain(&mut builder.preload) {
        folder_of(name)?;
        if !name.contains('/') && Path::new(name).is_file() {
            name.insert_str(0, "./");
        }
    }
    for directory in &builder.library_path {
        folders.extend(Path::new(directory).canonicalize());
    }
    if options.file.as_os_str() != "-" {
        folders.push(place(&options.file)?.0);
    }
    // Where everything lies below the current directory, names stay as they were written.
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let inside = |here: &PathBuf| folders.iter().all(|folder| folder.starts_with(here));
    match here.ok().filter(|here| !folders.is_empty() && inside(here)) {
        Some(here) => builder = builder.working_directory(utf8(&here)?),
        None => {
            let names = libraries.iter_mut().chain(&mut builder.preload);
            for name in names.filter(|name| name.contains('/')) {
                if let Ok((_, path)) = place(Path::new(name.as_str())) {
                    utf8(&path)?.clone_into(name);
                }
            }
            for directory in &mut builder.library_path {
                if let Ok(folder) = Path::new(directory.as_str()).canonicalize() {
                    utf8(&folder)?.clone_into(directory);
                }
            }
            if options.file.as_os_str() != "-" {
                builder = builder.main_file(place(&options.file)?.1);
            }
        }
    }
    for folder in folders {
        builder = show(builder, &folder)?;
    }
    Ok((builder.build()?, libraries))
}

/// The folder of a file, and the file in it, as absolute paths.
fn place(file: &Path) -> Result<(PathBuf, PathBuf)> {
    let failed = |source| {
        Error::new(ErrorKind::Io {
            path: file.display().to_string(),
            source,
        })
    };
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(failed)?;
    let name = file
        .file_name()
        .ok_or_else(|| failed(io::ErrorKind::IsADirectory.into()))?;
    let path = folder.join(name);
    Ok((folder, path))
}

fn show(builder: ProgramBuilder, folder: &Path) -> Result<ProgramBuilder> {
    if !folder.is_dir() {
        return Ok(builder);
    }
    let guest = utf8(folder)?;
    Ok(builder.mount(guest, Mount::host(folder)?.read_only()))
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::usage(format!(
            "`{}` is not UTF-8: show it under another name with --dir HOST::GUEST",
            path.display()
        ))
    })
}

/// The bytes of a file or of standard input, no more than a module may have.
///
/// # Errors
/// It cannot be read.
pub fn read(file: &Path) -> Result<Vec<u8>> {
    let most = crate::config::Limits::default().module_bytes;
    let most = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let (path, result) = if file.as_os_str() == "-" {
        let read = io::stdin().lock().take(most).read_to_end(&mut bytes);
        ("standard input".to_owned(), read)
    } else {
        let read =
            std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes));
        (file.display().to_string(), read)
    };
    match result {
        Ok(_) => Ok(bytes),
        Err(source) => Err(Error::new(ErrorKind::Io { path, source })),
    }
}

/// A name of a file for messages.
pub fn name(file: &Path) -> String {
    if file.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    }
}

/// Prints a text; a reader that has gone away is no error of ours.
pub fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// Prints a text; status 1 if not all is well.
pub fn finish(text: &str, well: bool) -> ExitCode {
    let printed = print(text);
    if well { printed } else { ExitCode::FAILURE }
}

/// JSON as text, with a newline.
pub fn json(value: &Json) -> String {
    // The alternate form of `Display` is indented.
    format!("{value:#}\n")
}

/// Bytes as people read them.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = "B";
    let (mut whole, mut tenth) = (count, 0);
    for next in UNITS {
        if whole < 10_000 {
            break;
        }
        tenth = whole % 1024 * 10 / 1024;
        whole /= 1024;
        unit = next;
    }
    if unit == "B" || whole >= 100 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{tenth} {unit}")
    }
}

/// A count for sums.
pub fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short_and_exact_where_that_matters() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(9_999), "9999 B");
        assert_eq!(bytes(10_240), "10.0 KiB");
        assert_eq!(bytes(1_500_000), "1464 KiB");
        assert_eq!(bytes(15_000_000), "14.3 MiB");
        assert_eq!(bytes(u64::MAX), "16777215 TiB");
    }
}
