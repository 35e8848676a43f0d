//! A whole program: main module, libraries, files, environment and limits, ready to be run.
//!
//! `Program` is the top of the Rust API. It is a plain description; every run has an engine, a store
//! and a process of its own, so a program can be run again and again.

#![forbid(unsafe_code)]

use super::manifest::{Abi, Access, Manifest, MountTable};
use super::options::DirectoryFlag;
use super::packages::PackageCache;
use crate::error::{Error, Result};
use crate::host::{Mount, Pipe};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes that a guest may write to an overlay of a manifest.
const OVERLAY_QUOTA: u64 = 256 << 20;

/// A program that can be run.
#[derive(Clone, Debug)]
pub struct Program {
    pub(super) description: ProgramBuilder,
}

/// Describes a program.
#[derive(Clone, Debug)]
#[must_use]
pub struct ProgramBuilder {
    pub(super) main: Option<Main>,
    /// `None`: what the main module's imports say.
    pub(super) abi: Option<Abi>,
    pub(super) libraries: Vec<String>,
    pub(super) library_path: Vec<String>,
    pub(super) preload: Vec<String>,
    pub(super) bind_now: bool,
    pub(super) native_libc: bool,
    pub(super) lazy_validation: bool,
    pub(super) guard_pages: bool,
    pub(super) trace: String,
    /// The file for it, without the process's number.
    pub(super) trace_output: Option<PathBuf>,
    /// Whether a map is written at the end, and the file for it; standard error if there is none.
    pub(super) map: Option<Option<PathBuf>>,
    pub(super) entry_library: Option<String>,
    pub(super) entry_function: Option<String>,
    pub(super) program_name: Option<String>,
    /// By guest path, normalised; a later mount replaces an earlier one at the same path.
    pub(super) mounts: BTreeMap<String, Mount>,
    pub(super) working_directory: String,
    pub(super) environment: BTreeMap<String, String>,
    /// Standard input, output and error; `None`: ours.
    pub(super) streams: [Option<Pipe>; 3],
    pub(super) memory_limit: Option<u64>,
    pub(super) stack_limit: Option<u64>,
    pub(super) table_limit: Option<u64>,
    pub(super) fuel: Option<u64>,
    pub(super) timeout: Option<Duration>,
    pub(super) op_coverage: bool,
}

/// Where the main module comes from.
#[derive(Clone, Debug)]
pub(super) enum Main {
    File(PathBuf),
    Bytes { name: String, bytes: Vec<u8> },
}

impl Program {
    /// An empty description.
    pub fn builder() -> ProgramBuilder {
        ProgramBuilder {
            main: None,
            abi: None,
            libraries: Vec::new(),
            library_path: Vec::new(),
            preload: Vec::new(),
            bind_now: false,
            native_libc: false,
            lazy_validation: false,
            guard_pages: false,
            trace: String::new(),
            trace_output: None,
            map: None,
            entry_library: None,
            entry_function: None,
            program_name: None,
            mounts: BTreeMap::new(),
            working_directory: "/".into(),
            environment: BTreeMap::new(),
            streams: [None, None, None],
            memory_limit: None,
            stack_limit: None,
            table_limit: None,
            fuel: None,
            timeout: None,
            op_coverage: false,
        }
    }

    /// The program of a manifest. Packages come from the user's cache or are fetched into it.
    ///
    /// # Errors
    /// As [`ProgramBuilder::from_manifest`].
    pub fn from_manifest(path: impl AsRef<Path>) -> Result<Program> {
        ProgramBuilder::from_manifest(path, &PackageCache::of_user()?)?.build()
    }
}

impl ProgramBuilder {
    /// The description in a manifest, with packages from this cache.
    ///
    /// # Errors
    /// The manifest is wrong, a package is not to be had, or a folder or archive cannot be mounted.
    pub fn from_manifest(path: impl AsRef<Path>, cache: &PackageCache) -> Result<ProgramBuilder> {
        let path = path.as_ref();
        let manifest = Manifest::read(path)?;
        let mut folders = BTreeMap::new();
        for (alias, table) in &manifest.packages {
            let folder = cache.folder(&table.get_ref().package());
            let folder = folder.map_err(|error| error.context(path.display().to_string()))?;
            folders.insert(alias.as_str(), folder);
        }
        let beside = path.parent().unwrap_or(Path::new(""));
        Places { folders, beside }
            .builder(&manifest)
            .map_err(|error| error.context(path.display().to_string()))
    }

    /// The file with the main module.
    pub fn main_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.main = Some(Main::File(path.into()));
        self
    }

    /// The bytes of the main module, and its name for messages.
    pub fn main_bytes(mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.main = Some(Main::Bytes {
            name: name.into(),
            bytes: bytes.into(),
        });
        self
    }

    /// The conventions between main module and host. Default: emscripten's if the main module imports what only
    /// emscripten's programs do, else WASI.
    pub fn abi(mut self, abi: Abi) -> Self {
        self.abi = Some(abi);
        self
    }

    /// A library to load before the entry is called: a guest path, or a name for the library path.
    pub fn library(mut self, name: impl Into<String>) -> Self {
        self.libraries.push(name.into());
        self
    }

    /// A guest directory to search for libraries, after those that were added before.
    pub fn library_path(mut self, directory: impl Into<String>) -> Self {
        self.library_path.push(directory.into());
        self
    }

    /// A library to load before all others, so that its symbols win.
    pub fn preload(mut self, name: impl Into<String>) -> Self {
        self.preload.push(name.into());
        self
    }

    /// Whether every function is resolved when a library is loaded. Default: no.
    pub fn bind_now(mut self, bind_now: bool) -> Self {
        self.bind_now = bind_now;
        self
    }

    /// Whether native code runs in place of the guest's `memcpy`, `strlen` and their like: see
    /// [`Config::native_libc`](crate::Config). Default: no.
    pub fn native_libc(mut self, native_libc: bool) -> Self {
        self.native_libc = native_libc;
        self
    }

    /// Whether a function is validated when it is first called instead of when its module is loaded. Default: no.
    pub fn lazy_validation(mut self, lazy_validation: bool) -> Self {
        self.lazy_validation = lazy_validation;
        self
    }

    /// Whether the processor finds accesses that are out of bounds: see [`Config::guard_pages`](crate::Config). Default: no.
    pub fn guard_pages(mut self, guard_pages: bool) -> Self {
        self.guard_pages = guard_pages;
        self
    }

    /// What the linker tells on standard error: topics as in `LD_DEBUG`. Default: nothing.
    pub fn trace(mut self, topics: impl Into<String>) -> Self {
        self.trace = topics.into();
        self
    }

    /// Write a map of the process when the program has ended: to this file (as JSON if its name ends in `.json`), or
    /// to standard error. Default: none.
    pub fn map(mut self, file: Option<PathBuf>) -> Self {
        self.map = Some(file);
        self
    }

    /// The function to call instead of `_start`, with C's `main` parameters; in a library, or else in
    /// the main module.
    pub fn entry(mut self, library: Option<&str>, function: impl Into<String>) -> Self {
        self.entry_library = library.map(str::to_owned);
        self.entry_function = Some(function.into());
        self
    }

    /// `argv[0]`. Default: the path of the entry's library or the main module's file name.
    pub fn program_name(mut self, name: impl Into<String>) -> Self {
        self.program_name = Some(name.into());
        self
    }

    /// Shows a file system to the guest; a path that is not absolute lies below the working directory.
    /// A later mount at the same path replaces an earlier one.
    pub fn mount(mut self, guest: &str, mount: Mount) -> Self {
        self.mounts
            .insert(absolute(&self.working_directory, guest), mount);
        self
    }

    /// The guest's directory at the start. Default: `/`.
    pub fn working_directory(mut self, guest: &str) -> Self {
        self.working_directory = absolute("/", guest);
        self
    }

    /// A variable of the guest.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Standard input comes from this pipe. Default: our own.
    pub fn stdin(mut self, pipe: &Pipe) -> Self {
        self.streams[0] = Some(pipe.clone());
        self
    }

    /// Standard output goes to this pipe. Default: our own.
    ///
    /// ```
    /// use dynlink::Program;
    /// use dynlink::host::Pipe;
    ///
    /// # let wasm = wat::parse_str(r#"(module
    /// #   (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
    /// #   (memory (export "memory") 1)
    /// #   (data (i32.const 0) "\10\00\00\00\05\00\00\00") (data (i32.const 16) "hello")
    /// #   (func (export "_start") (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#).unwrap();
    /// let output = Pipe::capture();
    /// let program = Program::builder().main_bytes("hello", wasm).stdout(&output).build()?;
    /// assert_eq!(program.run(["argument"])?, 0);
    /// assert_eq!(output.take_text(), "hello");
    /// # Ok::<(), dynlink::Error>(())
    /// ```
    pub fn stdout(mut self, pipe: &Pipe) -> Self {
        self.streams[1] = Some(pipe.clone());
        self
    }

    /// Standard error goes to this pipe. Default: our own.
    pub fn stderr(mut self, pipe: &Pipe) -> Self {
        self.streams[2] = Some(pipe.clone());
        self
    }

    /// Most bytes of all memories together.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Largest value stack in bytes. It holds the frames of all guest functions.
    pub fn stack_limit(mut self, bytes: u64) -> Self {
        self.stack_limit = Some(bytes);
        self
    }

    /// Most elements of all tables together.
    pub fn table_limit(mut self, elements: u64) -> Self {
        self.table_limit = Some(elements);
        self
    }

    /// The guest traps when it has used up this many units, about one an instruction.
    pub fn fuel(mut self, fuel: u64) -> Self {
        self.fuel = Some(fuel);
        self
    }

    /// The guest traps this long after its start.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Counts the operators that are executed and the globals that code reads, for the engine's own tests.
    #[doc(hidden)]
    pub fn op_coverage(mut self) -> Self {
        self.op_coverage = true;
        self
    }

    /// The program.
    ///
    /// # Errors
    /// There is no main module, or a variable or path has a zero byte.
    pub fn build(self) -> Result<Program> {
        if self.main.is_none() {
            return Err(Error::usage("a program needs a main module"));
        }
        for (name, value) in &self.environment {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(Error::usage(format!(
                    "`{name}` cannot be a variable of the guest"
                )));
            }
        }
        if let Some(path) = self.mounts.keys().find(|path| path.contains('\0')) {
            return Err(Error::usage(format!(
                "`{path}` cannot be a path of the guest"
            )));
        }
        Ok(Program { description: self })
    }

    /// Adds the directory of a `--dir` flag.
    pub(super) fn directory(self, flag: &DirectoryFlag) -> Result<Self> {
        let mut mount = Mount::host(&flag.host).map_err(|error| error.context("--dir"))?;
        if flag.read_only {
            mount = mount.read_only();
        }
        let guest = match (&flag.guest, flag.host.to_str()) {
            (Some(guest), _) => guest.clone(),
            (None, Some(host)) => host.to_owned(),
            (None, None) => {
                return Err(Error::usage(format!(
                    "--dir: the name of `{}` is not UTF-8; say where the guest sees it: --dir HOST::GUEST",
                    flag.host.display()
                )));
            }
        };
        Ok(self.mount(&guest, mount))
    }
}

/// Where the references of a manifest lead.
struct Places<'a> {
    /// Package folders by their names in the manifest.
    folders: BTreeMap<&'a str, PathBuf>,
    /// The manifest's folder.
    beside: &'a Path,
}

impl Places<'_> {
    fn builder(&self, manifest: &Manifest) -> Result<ProgramBuilder> {
        let mut builder = Program::builder()
            .abi(manifest.abi)
            .main_file(self.resolve(&manifest.main)?);
        builder.libraries.clone_from(&manifest.libraries);
        builder.library_path.clone_from(&manifest.library_path);
        builder.entry_library.clone_from(&manifest.entry.library);
        builder.entry_function.clone_from(&manifest.entry.function);
        builder
            .program_name
            .clone_from(&manifest.entry.program_name);
        builder.native_libc = manifest.native_libc;
        builder.lazy_validation = manifest.lazy_validation;
        builder.memory_limit = manifest.limits.memory.map(|size| size.0);
        builder.stack_limit = manifest.limits.stack.map(|size| size.0);
        builder.table_limit = manifest.limits.table_elements;
        builder.fuel = manifest.limits.fuel;
        builder.timeout = manifest.limits.timeout.map(|span| span.0);

        for name in &manifest.inherit_environment {
            if let Ok(value) = std::env::var(name) {
                builder.environment.insert(name.clone(), value);
            }
        }
        builder.environment.extend(manifest.environment.clone());

        for table in &manifest.mounts {
            let table = table.get_ref();
            if !table.current_directory {
                let mount = self.mount(table)?;
                builder = builder.mount(table.guest.as_deref().unwrap_or("/"), mount);
            }
        }
        for table in manifest.mounts.iter().map(|table| table.get_ref()) {
            if table.current_directory {
                builder = current_directory(builder, table, manifest)?;
            }
        }
        if let Some(directory) = &manifest.working_directory {
            builder = builder.working_directory(directory);
        }
        Ok(builder)
    }

    /// The host path of `package:path` or of a path beside the manifest.
    fn resolve(&self, reference: &str) -> Result<PathBuf> {
        let Some((alias, path)) = reference
            .split_once(':')
            .filter(|(alias, _)| alias.len() > 1)
        else {
            return Ok(self.beside.join(reference));
        };
        let Some(folder) = self.folders.get(alias) else {
            return Err(Error::msg(format!(
                "`{reference}`: there is no [packages.{alias}]"
            )));
        };
        let inside = |part| {
            matches!(
                part,
                std::path::Component::Normal(_) | std::path::Component::CurDir
            )
        };
        if !Path::new(path).components().all(inside) {
            return Err(Error::msg(format!(
                "`{reference}` leads out of the package"
            )));
        }
        Ok(folder.join(path))
    }

    fn mount(&self, table: &MountTable) -> Result<Mount> {
        let mount = if let Some(folder) = &table.folder {
            Mount::host(self.resolve(folder)?)?
        } else if let Some(archive) = &table.archive {
            Mount::archive(self.resolve(archive)?)?
        } else {
            return Ok(Mount::memory());
        };
        Ok(with_access(mount, table.access))
    }
}

/// Mounts the directory from which the program is started and makes it the working directory.
fn current_directory(
    builder: ProgramBuilder,
    table: &MountTable,
    manifest: &Manifest,
) -> Result<ProgramBuilder> {
    let host = std::env::current_dir().map_err(|source| {
        Error::msg(format!("the current directory is not to be had: {source}"))
    })?;
    let own_path = host.to_str().filter(|path| path.starts_with('/'));
    // A path that a guest cannot name (not UTF-8, a drive letter) gets a name.
    let guest = table.guest.as_deref().or(own_path).unwrap_or("/work");
    let guest = absolute("/", guest);
    // It may replace an empty folder in memory (a program started in `/tmp`), not the program's own files.
    let taken = manifest
        .mounts
        .iter()
        .map(|table| table.get_ref())
        .any(|other| {
            let path = other.guest.as_deref().map(|path| absolute("/", path));
            !other.current_directory && !other.memory && path.as_deref() == Some(&*guest)
        });
    if taken {
        return Err(Error::msg(format!(
            "the current directory `{guest}` has the path of one of the program's own folders: start it elsewhere"
        )));
    }
    let mount = with_access(Mount::host(&host)?, table.access);
    Ok(builder.mount(&guest, mount).working_directory(&guest))
}

fn with_access(mount: Mount, access: Option<Access>) -> Mount {
    match access {
        None | Some(Access::ReadOnly) => mount.read_only(),
        Some(Access::ReadWrite) => mount,
        Some(Access::Overlay) => Mount::overlay(mount.read_only(), OVERLAY_QUOTA),
    }
}

/// `path` as an absolute path without `.`, `..` and doubled slashes; a relative one lies below `directory`.
fn absolute(directory: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{directory}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("package/lib")).unwrap();
        fs::write(folder.path().join("package/main.wasm"), b"\0asm\x01\0\0\0").unwrap();
        folder
    }

    fn describe(folder: &Path, text: &str) -> Result<ProgramBuilder> {
        let manifest = Manifest::parse(&format!("abi = \"wasi\"\n{text}"), "m.toml")?;
        let folders = BTreeMap::from([("pack", folder.join("package"))]);
        Places {
            folders,
            beside: folder,
        }
        .builder(&manifest)
    }

    #[test]
    fn guest_paths_are_made_absolute_and_plain() {
        assert_eq!(absolute("/", "."), "/");
        assert_eq!(absolute("/work", "data"), "/work/data");
        assert_eq!(absolute("/work", "../a//b/./c/"), "/a/b/c");
        assert_eq!(absolute("/work", "/../.."), "/");
    }

    #[test]
    fn references_lead_into_packages_or_beside_the_manifest() {
        let folder = folder();
        let main = |reference: &str| -> Result<PathBuf> {
            let text = format!("main = \"{reference}\"");
            match describe(folder.path(), &text)?.main {
                Some(Main::File(path)) => Ok(path),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            main("pack:main.wasm").unwrap(),
            folder.path().join("package/main.wasm")
        );
        assert_eq!(
            main("x/main.wasm").unwrap(),
            folder.path().join("x/main.wasm")
        );
        for (wrong, part) in [
            ("other:main.wasm", "[packages.other]"),
            ("pack:../x", "leads out"),
            ("pack:/etc/x", "leads out"),
        ] {
            let error = main(wrong).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn mounts_are_read_only_unless_they_say_otherwise() {
        let folder = folder();
        let text = "main = \"m\"\n\
                    [[mount]]\nguest = \"/a\"\nfolder = \"pack:lib\"\n\
                    [[mount]]\nguest = \"/b\"\nfolder = \"package\"\naccess = \"read-write\"\n\
                    [[mount]]\nguest = \"/c/\"\nmemory = true\n";
        let builder = describe(folder.path(), text).unwrap();
        let read_only: Vec<_> = builder
            .mounts
            .iter()
            .map(|(path, mount)| (path.as_str(), mount.read_only))
            .collect();
        assert_eq!(read_only, [("/a", true), ("/b", false), ("/c", false)]);
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let folder = folder();
        let text = "main = \"m\"\n[[mount]]\nguest = \"/a\"\nfolder = \"pack:nowhere\"";
        let error = describe(folder.path(), text)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains("nowhere"), "{error}");
    }

    #[test]
    fn the_current_directory_has_its_own_path_and_is_where_the_guest_starts() {
        let folder = folder();
        let here = std::env::current_dir().unwrap();
        let here = here.to_str().unwrap();
        let text = "main = \"m\"\n[[mount]]\ncurrent-directory = true\naccess = \"read-write\"";
        let builder = describe(folder.path(), text).unwrap();
        assert_eq!(builder.working_directory, here);
        assert!(builder.mounts.contains_key(here));
        let flag = DirectoryFlag {
            host: "src".into(),
            guest: None,
            read_only: true,
        };
        let builder = builder.directory(&flag).unwrap();
        assert!(builder.mounts[&format!("{here}/src")].read_only);
    }

    #[test]
    fn the_current_directory_may_hide_memory_but_not_the_programs_files() {
        let folder = folder();
        let here = std::env::current_dir().unwrap();
        let here = here.display();
        let with = |other: &str| {
            let text = format!(
                "main = \"m\"\n[[mount]]\nguest = \"{here}\"\n{other}\n[[mount]]\ncurrent-directory = true"
            );
            describe(folder.path(), &text).map(|_| ())
        };
        assert!(with("memory = true").is_ok());
        assert!(
            with("folder = \"package\"")
                .unwrap_err()
                .to_string()
                .contains("elsewhere")
        );
    }

    #[test]
    fn a_program_needs_a_main_module_and_sound_variables() {
        assert!(Program::builder().build().is_err());
        let builder = || Program::builder().main_file("m");
        assert!(builder().build().is_ok());
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0")] {
            assert!(
                builder().env(name, value).build().is_err(),
                "{name:?} {value:?}"
            );
        }
        assert!(builder().mount("/a\0", Mount::memory()).build().is_err());
    }
}
