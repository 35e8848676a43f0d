//! The packages that programs come from: fetched once through their registry's ordinary client,
//! checked against the manifest's checksum, unpacked into a cache.
//!
//! Invariant: a folder `packages/<key>` of the cache is complete. It is unpacked under `tmp/` and
//! renamed when done, so a process that dies leaves nothing that another would take for a package.

#![forbid(unsafe_code)]

use super::unpack::{self, Unpack};
use crate::error::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// The command that fetches a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Client {
    /// `npm pack`: a `.tgz` whose first folder is left out.
    Npm,
    /// `pip download`: a wheel.
    Pip,
}

/// A package of a registry, pinned by version and checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The client that knows the registry.
    pub client: Client,
    /// The name in the registry, such as `@scope/name`.
    pub name: String,
    /// The exact version.
    pub version: String,
    /// SHA-256 of the fetched archive in lower-case hexadecimal.
    pub sha256: String,
    /// A tar archive in the package whose files take the place of the package's own.
    pub archive: Option<String>,
    /// Files and folders of the package that are kept; empty: all. Each has to exist.
    pub include: Vec<String>,
    /// Files and folders of the package that are left out.
    pub exclude: Vec<String>,
}

impl Package {
    /// Checks that the fields can be given to a client and name a folder.
    ///
    /// # Errors
    /// Names the field and what is expected.
    pub fn check(&self) -> Result<(), String> {
        let plain = |text: &str, extra: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '@')
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
                && !text.contains("..")
        };
        if !plain(&self.name, "@/._-") {
            return Err(format!("`{}` is not a package name", self.name));
        }
        if !plain(&self.version, "._-+!") {
            return Err(format!("`{}` is not an exact version", self.version));
        }
        let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if self.sha256.len() != 64 || !self.sha256.chars().all(hexadecimal) {
            return Err(format!(
                "sha256 `{}` should be 64 lower-case hexadecimal digits",
                self.sha256
            ));
        }
        Ok(())
    }

    /// Name of the folder in the cache: readable, and different if anything differs that decides its contents.
    fn key(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.sha256);
        let kept = self.archive.iter().map(|path| (1u8, path));
        let kept = kept.chain(self.include.iter().map(|path| (2, path)));
        for (kind, path) in kept.chain(self.exclude.iter().map(|path| (0, path))) {
            hash.update([kind]);
            hash.update(path);
        }
        let name: String = self
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let digest = hexadecimal(&hash.finalize());
        format!(
            "{}-{}-{}",
            name.trim_matches('-'),
            self.version,
            digest.get(..16).unwrap_or_default()
        )
    }
}

/// Where fetched packages are kept, and whether more may be fetched.
#[derive(Clone, Debug)]
pub struct PackageCache {
    root: PathBuf,
    offline: bool,
    progress: bool,
    /// `PATH` on which clients are searched, if not our own.
    search_path: Option<OsString>,
}

impl PackageCache {
    /// A cache in this folder, which is created when needed.
    pub fn new(root: impl Into<PathBuf>) -> PackageCache {
        PackageCache {
            root: root.into(),
            offline: false,
            progress: false,
            search_path: None,
        }
    }

    /// The user's cache: `$DYNLINK_CACHE`, else `$XDG_CACHE_HOME/dynlink`, else `~/.cache/dynlink`.
    ///
    /// # Errors
    /// None of the variables is set.
    pub fn of_user() -> Result<PackageCache> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(root) = variable("DYNLINK_CACHE") {
            return Ok(PackageCache::new(root));
        }
        if let Some(base) = variable("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
        {
            return Ok(PackageCache::new(base.join("dynlink")));
        }
        match variable("HOME").or_else(|| variable("LOCALAPPDATA")) {
            Some(home) => Ok(PackageCache::new(
                Path::new(&home).join(".cache").join("dynlink"),
            )),
            None => Err(Error::usage(
                "there is no place for fetched packages: set DYNLINK_CACHE to a folder",
            )),
        }
    }

    /// Whether fetching is forbidden.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> PackageCache {
        self.offline = offline;
        self
    }

    /// Whether progress is shown on standard error. Default: no.
    #[must_use]
    pub fn progress(mut self, progress: bool) -> PackageCache {
        self.progress = progress;
        self
    }

    /// The folder with the package's files, fetched first if it is not in the cache. Safe to be
    /// called by several processes at once: one fetches, the others wait for it.
    ///
    /// # Errors
    /// It is not in the cache and fetching is forbidden or failed, the checksum is wrong, the
    /// archive is not sound, or a file cannot be written. The cache is as before.
    pub fn folder(&self, package: &Package) -> Result<PathBuf> {
        let what = || format!("package `{}` {}", package.name, package.version);
        package
            .check()
            .map_err(|error| Error::usage(error).context(what()))?;
        let key = package.key();
        let folder = self.root.join("packages").join(&key);
        if folder.is_dir() {
            return Ok(folder);
        }
        if self.offline {
            return Err(Error::msg(format!(
                "{} is not in the cache `{}` and --offline forbids fetching it: run once without --offline",
                what(),
                self.root.display()
            )));
        }
        self.fetch(package, &key, &folder)
            .map_err(|error| error.context(what()))?;
        Ok(folder)
    }

    fn fetch(&self, package: &Package, key: &str, folder: &Path) -> Result<()> {
        for name in ["packages", "tmp", "locks"] {
            create(&self.root.join(name))?;
        }
        let lock_path = self.root.join("locks").join(key);
        let lock =
            File::create(&lock_path).map_err(|source| failed("create", &lock_path, &source))?;
        // Where the file system has no locks, the rename below still keeps the cache sound.
        let _ = lock.lock();
        if folder.is_dir() {
            return Ok(());
        }
        let mut progress = Progress::new(self.progress, package);
        remove_stale(&self.root.join("tmp"));
        let temporary = TemporaryFolder::new(&self.root.join("tmp"), key)?;
        let download = temporary.path.join("download");
        let unpacked = temporary.path.join("unpacked");
        create(&download)?;
        create(&unpacked)?;

        progress.say("fetching");
        self.run_client(package, &download)?;
        let archive = only_file(&download)?;
        check_sum(package, &archive)?;
        let mut counted = |count: usize| progress.say(&format!("unpacking ({count} files)"));
        let unpack = Unpack {
            archive: package.archive.as_deref(),
            include: &package.include,
            exclude: &package.exclude,
            progress: &mut counted,
            limits: unpack::Limits::default(),
        };
        match package.client {
            Client::Npm => unpack::tar_gz(&archive, &unpacked, unpack)?,
            Client::Pip => unpack::zip(&archive, &unpacked, unpack)?,
        }
        if let Err(source) = fs::rename(&unpacked, folder) {
            // Another process was faster (possible only where locks do not work).
            if !folder.is_dir() {
                return Err(failed("create", folder, &source));
            }
        }
        progress.finish();
        Ok(())
    }

    /// Runs the registry's client so that it leaves one archive in `target`.
    fn run_client(&self, package: &Package, target: &Path) -> Result<()> {
        let (program, help) = match package.client {
            Client::Npm => (
                if cfg!(windows) { "npm.cmd" } else { "npm" },
                "install Node.js with npm",
            ),
            Client::Pip => ("pip", "install Python with pip"),
        };
        let mut command = Command::new(program);
        match package.client {
            Client::Npm => command
                .arg("pack")
                .arg(format!("{}@{}", package.name, package.version))
                .arg("--pack-destination")
                .arg(target)
                .args(["--ignore-scripts", "--no-update-notifier"]),
            Client::Pip => command
                .arg("download")
                .arg(format!("{}=={}", package.name, package.version))
                .arg("--dest")
                .arg(target)
                .args([
                    "--no-deps",
                    "--only-binary=:all:",
                    "--disable-pip-version-check",
                ]),
        };
        // Not the user's folder: a project's own client settings are none of the program's business.
        command.current_dir(target).stdin(Stdio::null());
        if let Some(path) = &self.search_path {
            command.env("PATH", path);
        }
        let output = command.output().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::msg(format!(
                "the command `{program}` is needed to fetch it and was not found: {help}, or fill the cache `{}` on another machine",
                self.root.display()
            )),
            _ => Error::msg(format!("cannot run `{program}`: {source}")),
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let last = lines
            .get(lines.len().saturating_sub(8)..)
            .unwrap_or_default()
            .join("\n  ");
        Err(Error::msg(format!(
            "`{program}` failed with {}:\n  {last}",
            output.status
        )))
    }
}

fn check_sum(package: &Package, archive: &Path) -> Result<()> {
    let mut file = File::open(archive).map_err(|source| failed("read", archive, &source))?;
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash).map_err(|source| failed("read", archive, &source))?;
    let found = hexadecimal(&hash.finalize());
    if found == package.sha256 {
        return Ok(());
    }
    Err(Error::msg(format!(
        "the fetched archive is not the expected one: sha256 is {found}, the manifest says {}",
        package.sha256
    )))
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).map_err(|source| failed("read", folder, &source))?;
    let files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|p| p.is_file())
        .collect();
    match files.as_slice() {
        [file] => Ok(file.clone()),
        files => Err(Error::msg(format!(
            "the client should have left one archive, but left {} files",
            files.len()
        ))),
    }
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|source| failed("create", folder, &source))
}

fn failed(what: &str, path: &Path, source: &io::Error) -> Error {
    if what == "read" {
        let source = io::Error::new(source.kind(), source.to_string());
        return Error::new(ErrorKind::Io {
            path: path.display().to_string(),
            source,
        });
    }
    Error::msg(format!("cannot {what} `{}`: {source}", path.display()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Removes what processes that died left behind, once nobody can still be working on it.
fn remove_stale(folder: &Path) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let changed = entry.metadata().and_then(|data| data.modified());
        let age = changed
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > DAY) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A folder of one fetch, removed at the end whatever happens.
struct TemporaryFolder {
    path: PathBuf,
}

impl TemporaryFolder {
    fn new(parent: &Path, key: &str) -> Result<TemporaryFolder> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let started = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let name = format!(
            "{key}.{}.{number}.{}",
            std::process::id(),
            started.as_nanos()
        );
        let path = parent.join(name);
        fs::create_dir(&path).map_err(|source| failed("create", &path, &source))?;
        Ok(TemporaryFolder { path })
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// One line on standard error: rewritten in place on a terminal, else printed once.
struct Progress {
    shown: bool,
    terminal: bool,
    title: String,
    started: Instant,
    said: bool,
}

impl Progress {
    fn new(shown: bool, package: &Package) -> Progress {
        Progress {
            shown,
            terminal: io::stderr().is_terminal(),
            title: format!("{} {}", package.name, package.version),
            started: Instant::now(),
            said: false,
        }
    }

    fn say(&mut self, what: &str) {
        if !self.shown {
            return;
        }
        let mut stderr = io::stderr();
        if self.terminal {
            let _ = write!(stderr, "\r\x1b[Kdynlink: {what} {} ...", self.title);
            let _ = stderr.flush();
        } else if !self.said {
            let _ = writeln!(stderr, "dynlink: {what} {} ...", self.title);
        }
        self.said = true;
    }

    fn finish(mut self) {
        if self.shown && self.terminal {
            let seconds = self.started.elapsed().as_secs_f64();
            let _ = writeln!(
                io::stderr(),
                "\r\x1b[Kdynlink: fetched {} ({seconds:.1} s)",
                self.title
            );
            self.said = false;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown && self.terminal && self.said {
            let _ = writeln!(io::stderr());
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A folder with a fake `npm`, the archive that it serves, and a log of its calls.
    struct Registry {
        temp: tempfile::TempDir,
        package: Package,
    }

    impl Registry {
        fn new() -> Registry {
            let temp = tempfile::tempdir().unwrap();
            let archive = temp.path().join("served.tgz");
            let gz = flate2::write::GzEncoder::new(
                File::create(&archive).unwrap(),
                flate2::Compression::fast(),
            );
            let mut builder = tar::Builder::new(gz);
            for (name, contents) in [("package/a.txt", "alpha"), ("package/d/b.txt", "beta")] {
                let mut header = tar::Header::new_gnu();
                header.set_size(contents.len() as u64);
                header.set_mode(0o644);
                builder
                    .append_data(&mut header, name, contents.as_bytes())
                    .unwrap();
            }
            builder.into_inner().unwrap().finish().unwrap();
            let sha256 = hexadecimal(&Sha256::digest(fs::read(&archive).unwrap()));
            let registry = Registry {
                package: Package {
                    client: Client::Npm,
                    name: "@scope/thing".into(),
                    version: "1.2.3".into(),
                    sha256,
                    archive: None,
                    include: vec![],
                    exclude: vec![],
                },
                temp,
            };
            registry.client(
                "/bin/sleep 0.1; /bin/cp \"$here/served.tgz\" \"$4/scope-thing-1.2.3.tgz\"",
            );
            registry
        }

        /// Installs a fake `npm` that logs its arguments and does `work`.
        fn client(&self, work: &str) {
            let path = self.temp.path().join("npm");
            let here = self.temp.path().display();
            let text =
                format!("#!/bin/sh\nhere='{here}'\necho \"$@\" >> \"$here/calls\"\n{work}\n");
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }

        fn calls(&self) -> Vec<String> {
            let log = fs::read_to_string(self.temp.path().join("calls")).unwrap_or_default();
            log.lines().map(str::to_owned).collect()
        }

        fn root(&self) -> PathBuf {
            self.temp.path().join("cache")
        }

        fn cache(&self) -> PackageCache {
            let mut cache = PackageCache::new(self.root());
            cache.search_path = Some(self.temp.path().into());
            cache
        }

        fn nothing_is_left(&self) {
            for folder in ["tmp", "packages"] {
                let left = fs::read_dir(self.root().join(folder))
                    .into_iter()
                    .flatten()
                    .count();
                assert_eq!(left, 0, "{folder}");
            }
        }
    }

    #[test]
    fn a_package_is_fetched_once_and_then_taken_from_the_cache() {
        let registry = Registry::new();
        let folder = registry.cache().folder(&registry.package).unwrap();
        assert_eq!(fs::read_to_string(folder.join("d/b.txt")).unwrap(), "beta");
        assert_eq!(registry.cache().folder(&registry.package).unwrap(), folder);
        assert_eq!(
            registry
                .cache()
                .offline(true)
                .folder(&registry.package)
                .unwrap(),
            folder
        );
        let calls = registry.calls();
        assert_eq!(calls.len(), 1);
        assert!(
            calls[0].starts_with("pack @scope/thing@1.2.3 --pack-destination "),
            "{calls:?}"
        );
        assert_eq!(
            fs::read_dir(registry.root().join("tmp")).unwrap().count(),
            0
        );
    }

    #[test]
    fn another_choice_of_files_is_another_folder() {
        let mut registry = Registry::new();
        let whole = registry.cache().folder(&registry.package).unwrap();
        registry.package.exclude = vec!["d/b.txt".into()];
        let part = registry.cache().folder(&registry.package).unwrap();
        assert_ne!(whole, part);
        assert!(!part.join("d/b.txt").exists() && part.join("a.txt").exists());
        registry.package.include = std::mem::take(&mut registry.package.exclude);
        let other = registry.cache().folder(&registry.package).unwrap();
        assert_ne!(part, other);
        assert!(other.join("d/b.txt").exists() && !other.join("a.txt").exists());
    }

    #[test]
    fn offline_forbids_fetching_and_says_so() {
        let registry = Registry::new();
        let error = registry
            .cache()
            .offline(true)
            .folder(&registry.package)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--offline") && error.contains("@scope/thing"),
            "{error}"
        );
        assert!(registry.calls().is_empty());
        assert!(!registry.root().exists());
    }

    #[test]
    fn a_wrong_checksum_leaves_nothing() {
        let mut registry = Registry::new();
        let right = std::mem::replace(&mut registry.package.sha256, "0".repeat(64));
        let error = registry
            .cache()
            .folder(&registry.package)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&right) && error.contains(&"0".repeat(64)),
            "{error}"
        );
        registry.nothing_is_left();
    }

    #[test]
    fn a_failing_client_is_quoted() {
        let registry = Registry::new();
        registry.client("echo 'no such version' >&2; exit 3");
        let error = registry
            .cache()
            .folder(&registry.package)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no such version") && error.contains('3'),
            "{error}"
        );
        registry.nothing_is_left();
    }

    #[test]
    fn a_client_that_leaves_no_archive_is_an_error() {
        let registry = Registry::new();
        registry.client("true");
        let error = registry
            .cache()
            .folder(&registry.package)
            .unwrap_err()
            .to_string();
        assert!(error.contains("one archive"), "{error}");
        registry.nothing_is_left();
    }

    #[test]
    fn a_missing_client_is_named_with_the_remedy() {
        let registry = Registry::new();
        let mut cache = registry.cache();
        cache.search_path = Some(registry.temp.path().join("nowhere").into());
        let error = cache.folder(&registry.package).unwrap_err().to_string();
        assert!(
            error.contains("`npm`") && error.contains("install"),
            "{error}"
        );
        registry.nothing_is_left();
    }

    #[test]
    fn an_unsound_archive_leaves_nothing() {
        let mut registry = Registry::new();
        fs::write(registry.temp.path().join("served.tgz"), "not an archive").unwrap();
        registry.package.sha256 = hexadecimal(&Sha256::digest("not an archive"));
        assert!(registry.cache().folder(&registry.package).is_err());
        registry.nothing_is_left();
    }

    #[test]
    fn several_at_once_fetch_once() {
        let registry = Registry::new();
        let (cache, package) = (registry.cache(), &registry.package);
        std::thread::scope(|scope| {
            let jobs: Vec<_> = (0..6)
                .map(|_| scope.spawn(|| cache.folder(package)))
                .collect();
            for job in jobs {
                assert!(job.join().unwrap().unwrap().join("a.txt").is_file());
            }
        });
        assert_eq!(registry.calls().len(), 1);
    }

    #[test]
    fn wheels_come_from_pip() {
        let mut registry = Registry::new();
        let wheel = registry.temp.path().join("served.whl");
        let mut zip = zip::ZipWriter::new(File::create(&wheel).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file("thing/__init__.py", options).unwrap();
        zip.write_all(b"x = 1").unwrap();
        zip.finish().unwrap();
        let script = registry.temp.path().join("pip");
        let here = registry.temp.path().display();
        let text = format!(
            "#!/bin/sh\necho \"$@\" > {here}/calls\n/bin/cp {here}/served.whl \"$4/thing.whl\"\n"
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        registry.package.client = Client::Pip;
        registry.package.name = "thing".into();
        registry.package.sha256 = hexadecimal(&Sha256::digest(fs::read(&wheel).unwrap()));
        let folder = registry.cache().folder(&registry.package).unwrap();
        assert_eq!(
            fs::read_to_string(folder.join("thing/__init__.py")).unwrap(),
            "x = 1"
        );
        let calls = registry.calls();
        assert!(
            calls[0].starts_with("download thing==1.2.3 --dest "),
            "{calls:?}"
        );
        assert!(
            calls[0].contains("--no-deps") && calls[0].contains("--only-binary=:all:"),
            "{calls:?}"
        );
    }

    #[test]
    fn names_that_are_options_or_paths_are_refused() {
        let registry = Registry::new();
        for (name, version) in [
            ("--help", "1"),
            ("a b", "1"),
            ("a", "file:x"),
            ("../x", "1"),
            ("a", ""),
            ("", "1"),
        ] {
            let package = Package {
                name: name.into(),
                version: version.into(),
                ..registry.package.clone()
            };
            assert!(
                registry.cache().folder(&package).is_err(),
                "{name} {version}"
            );
        }
        let package = Package {
            sha256: "abc".into(),
            ..registry.package.clone()
        };
        assert!(
            registry
                .cache()
                .folder(&package)
                .unwrap_err()
                .to_string()
                .contains("64")
        );
        assert!(registry.calls().is_empty());
    }

    #[test]
    fn only_old_leftovers_are_removed() {
        let temp = tempfile::tempdir().unwrap();
        let (old, new) = (temp.path().join("old"), temp.path().join("new"));
        fs::create_dir(&old).unwrap();
        fs::create_dir(&new).unwrap();
        let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
        File::open(&old)
            .unwrap()
            .set_modified(two_days_ago)
            .unwrap();
        remove_stale(temp.path());
        assert!(!old.exists() && new.exists());
    }
}
