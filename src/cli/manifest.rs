//! The program manifest: a TOML file that describes a process. This file is its grammar and nothing else;
//! [`super::program`] makes a program of it.
//!
//! Unknown keys are errors, so that a misspelt key is never silently without effect. Every error names
//! the file and, where the text tells, the line.

#![forbid(unsafe_code)]

use super::packages::{Client, Package};
use super::units::{parse_duration, parse_size};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;

/// Longer files are something else than a manifest.
const MOST_BYTES: u64 = 1 << 20;

/// A manifest as written. Paths and references are not resolved yet.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// What the program is, in a few words.
    #[serde(default)]
    pub description: String,
    /// The conventions between the main module and the host.
    pub abi: Abi,
    /// The main module: a path beside the manifest, or `package:path`.
    pub main: String,
    /// What is called after loading; default: `_start` of the main module.
    #[serde(default)]
    pub entry: Entry,
    /// Libraries loaded before the entry is called: guest paths or names for the library path.
    #[serde(default)]
    pub libraries: Vec<String>,
    /// Guest directories searched for libraries.
    #[serde(default)]
    pub library_path: Vec<String>,
    /// Native code in place of the guest's `memcpy`, `strlen` and their like.
    #[serde(default)]
    pub native_libc: bool,
    /// Validate a function when it is first called, not when its module is loaded.
    #[serde(default)]
    pub lazy_validation: bool,
    /// The guest's directory at the start; default: that of the `current-directory` mount, else `/`.
    pub working_directory: Option<String>,
    /// Variables of the guest.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Variables of ours that are passed on if they are set.
    #[serde(default)]
    pub inherit_environment: Vec<String>,
    /// What the guest may use.
    #[serde(default)]
    pub limits: LimitsTable,
    /// Packages by the name that `package:path` uses.
    #[serde(default)]
    pub packages: BTreeMap<String, Spanned<PackageTable>>,
    /// What the guest sees of files.
    #[serde(default, rename = "mount")]
    pub mounts: Vec<Spanned<MountTable>>,
}

/// The conventions between a main module and the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Abi {
    /// WASI preview 1.
    Wasi,
    /// The kernel of cowasm and what its programs import besides WASI.
    Cowasm,
    /// What emscripten's JavaScript gives its programs, besides WASI.
    Emscripten,
}

/// `[entry]`: what is called after loading.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    /// The library that has the function, as a guest path; default: the main module.
    pub library: Option<String>,
    /// A function with C's `main` parameters (argc, argv).
    pub function: Option<String>,
    /// `argv[0]`; default: the library's or the main module's path.
    pub program_name: Option<String>,
}

/// `[limits]`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LimitsTable {
    /// Largest memory.
    pub memory: Option<Size>,
    /// Largest value stack, which holds the frames of all guest functions.
    pub stack: Option<Size>,
    /// Most table elements.
    pub table_elements: Option<u64>,
    /// Instructions.
    pub fuel: Option<u64>,
    /// Time.
    pub timeout: Option<Span>,
}

/// `[packages.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PackageTable {
    /// The registry's client.
    pub client: Client,
    /// Name in the registry.
    pub name: String,
    /// Exact version.
    pub version: String,
    /// SHA-256 of the archive.
    pub sha256: String,
    /// A tar archive in the package whose files take the place of the package's own.
    pub archive: Option<String>,
    /// Files and folders that are kept; default: all.
    #[serde(default)]
    pub include: Vec<String>,
    /// Files and folders that are left out.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// `[[mount]]`. Exactly one of `folder`, `archive`, `memory` and `current-directory`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MountTable {
    /// Where the guest sees it. Only `current-directory` has a default: its own path.
    pub guest: Option<String>,
    /// A folder beside the manifest, or `package:path`.
    pub folder: Option<String>,
    /// A zip, wheel or tar file beside the manifest, or `package:path`.
    pub archive: Option<String>,
    /// An empty folder in memory.
    #[serde(default)]
    pub memory: bool,
    /// The directory from which the program is started.
    #[serde(default)]
    pub current_directory: bool,
    /// Whether the guest may write.
    pub access: Option<Access>,
}

/// What a guest may do below a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read.
    ReadOnly,
    /// Read and write.
    ReadWrite,
    /// Read and write; what is written is kept in memory and forgotten at the end.
    Overlay,
}

/// A size: a number of bytes or a text such as `"64M"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// A duration: a text such as `"10s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Size;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a size in bytes or a text such as \"64M\"")
            }
            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
                let unexpected = serde::de::Unexpected::Signed(bytes);
                u64::try_from(bytes)
                    .map(Size)
                    .map_err(|_| E::invalid_value(unexpected, &self))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                parse_size(text).map(Size).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text)
            .map(Span)
            .map_err(serde::de::Error::custom)
    }
}

impl Manifest {
    /// Reads a manifest from a file.
    ///
    /// # Errors
    /// The file cannot be read, or as [`Manifest::parse`].
    pub fn read(path: &Path) -> Result<Manifest> {
        let shown = path.display().to_string();
        let failed = |source| {
            Error::new(crate::error::ErrorKind::Io {
                path: shown.clone(),
                source,
            })
        };
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text))
            .map_err(failed)?;
        if text.len() as u64 > MOST_BYTES {
            return Err(Error::usage(format!(
                "`{shown}` is not a manifest: it is longer than {MOST_BYTES} bytes"
            )));
        }
        Manifest::parse(&text, &shown)
    }

    /// Reads a manifest from its text; `name` is the file's name for messages.
    ///
    /// # Errors
    /// Not TOML, an unknown or missing key, or a value that does not fit; with the line.
    pub fn parse(text: &str, name: &str) -> Result<Manifest> {
        let manifest: Manifest = toml::from_str(text).map_err(|error| {
            let at = error.span().map(|span| position(text, span.start));
            Error::msg(format!(
                "{name}{}: {}",
                at.unwrap_or_default(),
                error.message()
            ))
        })?;
        manifest.check(text).map_err(|(offset, error)| {
            Error::msg(format!("{name}{}: {error}", position(text, offset)))
        })?;
        Ok(manifest)
    }

    /// What the types alone do not say. Errors with the place in the text.
    fn check(&self, text: &str) -> Result<(), (usize, String)> {
        for (alias, table) in &self.packages {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            // One letter could be the drive of a Windows path.
            if alias.len() < 2 || !alias.chars().all(plain) {
                let error = format!(
                    "the package name `{alias}` needs two or more letters, digits, `-` or `_`"
                );
                return Err((table.span().start, error));
            }
            table
                .get_ref()
                .package()
                .check()
                .map_err(|error| (table.span().start, error))?;
        }
        let mut seen = BTreeMap::new();
        for table in &self.mounts {
            let mount = table.get_ref();
            let at = table.span().start;
            mount.check().map_err(|error| (at, error))?;
            let place = mount
                .guest
                .clone()
                .unwrap_or_else(|| "the current directory".into());
            if seen.insert(place.clone(), at).is_some() {
                return Err((at, format!("two mounts at {place}")));
            }
        }
        let guest_paths = self.working_directory.iter().chain(&self.library_path);
        for path in guest_paths.chain(&self.entry.library) {
            if !path.starts_with('/') {
                let at = text.find(path.as_str()).unwrap_or(0);
                return Err((
                    at,
                    format!("`{path}` should be an absolute path of the guest"),
                ));
            }
        }
        if self.entry.library.is_some() && self.entry.function.is_none() {
            let at = text.find("[entry]").unwrap_or(0);
            return Err((at, "an entry in a library needs `function`".into()));
        }
        Ok(())
    }
}

impl PackageTable {
    /// The package.
    pub fn package(&self) -> Package {
        Package {
            client: self.client,
            name: self.name.clone(),
            version: self.version.clone(),
            sha256: self.sha256.clone(),
            archive: self.archive.clone(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
        }
    }
}

impl MountTable {
    fn check(&self) -> Result<(), String> {
        let kinds = [
            self.folder.is_some(),
            self.archive.is_some(),
            self.memory,
            self.current_directory,
        ];
        if kinds.iter().filter(|kind| **kind).count() != 1 {
            return Err(
                "a mount needs exactly one of `folder`, `archive`, `memory` and `current-directory`".into()
            );
        }
        match &self.guest {
            Some(guest) if !guest.starts_with('/') => {
                return Err(format!("the mount point `{guest}` should start with `/`"));
            }
            None if !self.current_directory => {
                return Err("a mount needs `guest`, the path where the guest sees it".into());
            }
            _ => {}
        }
        match self.access {
            Some(Access::ReadWrite) if self.archive.is_some() => {
                Err("an archive cannot be written: `access` is `read-only` or `overlay`".into())
            }
            Some(Access::Overlay | Access::ReadOnly) if self.memory => {
                Err("a mount in memory is always `read-write`".into())
            }
            _ => Ok(()),
        }
    }
}

/// `:line:column` of a place in the text, both from 1.
fn position(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    format!(":{line}:{column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn full() -> String {
        format!(
            r#"
description = "A test"
abi = "cowasm"
main = "kernel:dist/kernel.wasm"
libraries = ["/lib/a.so"]
library-path = ["/lib"]
working-directory = "/work"
inherit-environment = ["TERM"]

[entry]
library = "/lib/p.wasm"
function = "main"
program-name = "p"

[environment]
HOME = "/work"

[limits]
memory = "64M"
stack = 1048576
table-elements = 1000
fuel = 5
timeout = "1.5s"

[packages.kernel]
client = "npm"
name = "@x/kernel"
version = "1.0.0"
sha256 = "{SHA}"
archive = "data.tar"
include = ["dist"]
exclude = ["dist/big"]

[[mount]]
guest = "/lib"
folder = "kernel:dist"

[[mount]]
guest = "/data"
archive = "data.zip"
access = "overlay"

[[mount]]
guest = "/tmp"
memory = true

[[mount]]
current-directory = true
access = "read-write"
"#
        )
    }

    fn error(text: &str) -> String {
        Manifest::parse(text, "m.toml").expect_err(text).to_string()
    }

    #[test]
    fn every_key_is_read() {
        let manifest = Manifest::parse(&full(), "m.toml").unwrap();
        assert_eq!(manifest.abi, Abi::Cowasm);
        assert_eq!(manifest.entry.function.as_deref(), Some("main"));
        assert_eq!(manifest.environment["HOME"], "/work");
        assert_eq!(manifest.limits.memory, Some(Size(64 << 20)));
        assert_eq!(manifest.limits.stack, Some(Size(1 << 20)));
        assert_eq!(
            manifest.limits.timeout,
            Some(Span(Duration::from_millis(1500)))
        );
        let package = manifest.packages["kernel"].get_ref().package();
        assert_eq!(
            (package.client, package.archive.as_deref()),
            (Client::Npm, Some("data.tar"))
        );
        assert_eq!(
            (&*package.include[0], &*package.exclude[0]),
            ("dist", "dist/big")
        );
        let mounts: Vec<_> = manifest.mounts.iter().map(Spanned::get_ref).collect();
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[1].access, Some(Access::Overlay));
        assert!(mounts[3].current_directory);
    }

    #[test]
    fn the_smallest_manifest_is_two_lines() {
        let manifest = Manifest::parse("abi = \"wasi\"\nmain = \"main.wasm\"\n", "m.toml").unwrap();
        assert!(manifest.mounts.is_empty() && manifest.entry.function.is_none());
    }

    #[test]
    fn unknown_keys_are_named_with_their_line() {
        for (find, replace, line, key) in [
            ("description", "desciption", 2, "desciption"),
            ("program-name", "argv0", 13, "argv0"),
            ("table-elements", "table_elements", 21, "table_elements"),
            ("exclude", "without", 32, "without"),
            ("archive = \"data.zip", "zip = \"data.zip", 40, "zip"),
        ] {
            let text = full().replacen(find, replace, 1);
            let error = error(&text);
            assert!(error.starts_with(&format!("m.toml:{line}:")), "{error}");
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
    }

    #[test]
    fn missing_keys_and_wrong_values_are_named() {
        assert!(error("abi = \"wasi\"").contains("`main`"));
        assert!(error("abi = \"dos\"\nmain = \"m\"").starts_with("m.toml:1:"));
        assert!(error(&full().replace("64M", "64Q")).contains("`64Q`"));
        assert!(error(&full().replace("1.5s", "1.5")).starts_with("m.toml:23:"));
        assert!(error(&full().replace("1048576", "-1")).starts_with("m.toml:20:"));
        assert!(error("abi = ").starts_with("m.toml:1:"));
    }

    #[test]
    fn packages_are_checked() {
        assert!(error(&full().replace(SHA, "12")).contains("64 lower-case"));
        assert!(error(&full().replace("\"npm\"", "\"curl\"")).contains("npm"));
        assert!(error(&full().replace("@x/kernel", "--flag")).contains("`--flag`"));
        assert!(error(&full().replace("[packages.kernel]", "[packages.k]")).contains("`k`"));
    }

    #[test]
    fn mounts_are_checked() {
        let with = |mount: &str| {
            error(&format!(
                "abi = \"wasi\"\nmain = \"m\"\n[[mount]]\n{mount}\n"
            ))
        };
        assert!(with("guest = \"/a\"").contains("exactly one"));
        assert!(with("guest = \"/a\"\nmemory = true\nfolder = \"x\"").contains("exactly one"));
        assert!(with("memory = true").contains("`guest`"));
        assert!(with("guest = \"a\"\nmemory = true").contains("start with `/`"));
        assert!(
            with("guest = \"/a\"\narchive = \"x\"\naccess = \"read-write\"").contains("archive")
        );
        assert!(with("guest = \"/a\"\nmemory = true\naccess = \"read-only\"").contains("memory"));
        let twice = "guest = \"/a\"\nmemory = true\n[[mount]]\nguest = \"/a\"\nmemory = true";
        assert!(with(twice).starts_with("m.toml:6:"), "{}", with(twice));
    }

    #[test]
    fn guest_paths_are_absolute() {
        assert!(
            error(&full().replace("\"/work\"\ninherit", "\"work\"\ninherit")).contains("`work`")
        );
        assert!(error(&full().replace("/lib/p.wasm", "p.wasm")).contains("`p.wasm`"));
    }

    #[test]
    fn an_entry_in_a_library_needs_a_function() {
        assert!(error(&full().replace("function = \"main\"\n", "")).contains("`function`"));
    }
}
