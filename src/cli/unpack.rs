//! Unpacks package archives (npm's `.tgz`, pip's `.whl`) into a new folder.
//!
//! Only plain files and folders with plain relative names are unpacked; an archive with anything
//! else (links, devices, `..`, absolute names) is refused as a whole. The caller gives an empty
//! folder of its own and removes it after an error.
//!
//! Some packages are a wrapping around one tar archive. Then that archive's files can take the place of the
//! package's: they are unpacked as they are read, and the archive itself is never written.

#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

/// What one archive may hold, wanted or not: what is left out has to be read, too.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Files and folders.
    pub entries: usize,
    /// Bytes that it unpacks to, and that an archive in it unpacks to.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            entries: 200_000,
            bytes: 4 << 30,
        }
    }
}

/// The headers of a tar archive, and what fills its blocks up, for each entry (long names have entries of their own).
const HEADERS: u64 = 8 << 10;

/// What to unpack and whom to tell.
pub struct Unpack<'a> {
    /// A tar archive (`.tar`, `.tar.gz`, `.tgz`) in the package whose files take the place of the package's.
    pub archive: Option<&'a str>,
    /// Files and folders (with everything in them) that are unpacked; empty: all. Each has to exist.
    pub include: &'a [String],
    /// Files and folders (with everything in them) that are not unpacked, relative to the package.
    pub exclude: &'a [String],
    /// Called with the number of files so far.
    pub progress: &'a mut dyn FnMut(usize),
    pub limits: Limits,
}

/// Unpacks a gzip-compressed tar archive, leaving out the first component of every name, as npm does.
///
/// # Errors
/// The archive is malformed, has an entry that is not allowed, or a file cannot be written.
pub fn tar_gz<'a>(archive: &Path, target: &'a Path, unpack: Unpack<'a>) -> Result<()> {
    let file = BufReader::new(open(archive)?);
    let shown = archive.display().to_string();
    let mut writer = Writer::new(target, unpack);
    let contents = bounded(
        flate2::bufread::MultiGzDecoder::new(file),
        writer.unpack.limits,
    );
    match writer.unpack.archive {
        None => tar_entries(contents, &shown, 1, &mut |path, entry| {
            writer.entry(path, entry)
        })?,
        Some(inner) => {
            let mut found = false;
            tar_entries(contents, &shown, 1, &mut |path, entry| match entry {
                Entry::File(contents) if path == Path::new(inner) => {
                    found = true;
                    writer.inner_archive(inner, contents)
                }
                _ => writer.count(path),
            })?;
            check_inner(found, inner)?;
        }
    }
    writer.finish()
}

/// Unpacks a zip archive, such as a wheel.
///
/// # Errors
/// As [`tar_gz`].
pub fn zip<'a>(archive: &Path, target: &'a Path, unpack: Unpack<'a>) -> Result<()> {
    let mut writer = Writer::new(target, unpack);
    let broken = |error: zip::result::ZipError| {
        Error::msg(format!(
            "`{}` is not a sound zip archive: {error}",
            archive.display()
        ))
    };
    let mut zip = zip::ZipArchive::new(BufReader::new(open(archive)?)).map_err(broken)?;
    let mut found = false;
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(broken)?;
        let name = PathBuf::from(entry.name().map_err(broken)?.into_owned());
        let path = plain_path(&name)?;
        match writer.unpack.archive {
            Some(inner) if path == Path::new(inner) && entry.is_file() => {
                found = true;
                writer.inner_archive(inner, &mut entry)?;
            }
            Some(_) => writer.count(&path)?,
            None if entry.is_dir() => writer.folder(&path)?,
            None if entry.is_file() => writer.file(&path, &mut entry)?,
            None => return Err(refused(&name, "it is a link")),
        }
    }
    if let Some(inner) = writer.unpack.archive {
        check_inner(found, inner)?;
    }
    writer.finish()
}

/// The bytes of a tar archive, of which there may be only so many: also those of entries that nobody wants.
fn bounded(contents: impl Read, limits: Limits) -> impl Read {
    let entries = u64::try_from(limits.entries).unwrap_or(u64::MAX);
    let most = limits.bytes.saturating_add(entries.saturating_mul(HEADERS));
    Bounded {
        contents,
        left: most,
        limits,
    }
}

struct Bounded<R> {
    contents: R,
    left: u64,
    limits: Limits,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.contents.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(too_long(self.limits))),
        }
        Ok(read)
    }
}

fn too_long(limits: Limits) -> String {
    format!("the archive unpacks to more than {} bytes", limits.bytes)
}

/// What an archive has under a name.
enum Entry<'a> {
    Folder,
    File(&'a mut dyn Read),
}

/// Reads a tar archive and hands each entry on, without the first components of its name.
fn tar_entries(
    contents: impl Read,
    shown: &str,
    left_out: usize,
    each: &mut dyn FnMut(&Path, Entry<'_>) -> Result<()>,
) -> Result<()> {
    let mut tar = tar::Archive::new(contents);
    let broken =
        |error: io::Error| Error::msg(format!("`{shown}` is not a sound tar archive: {error}"));
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.into_owned();
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        let path: PathBuf = plain_path(&name)?.components().skip(left_out).collect();
        if kind.is_dir() {
            each(&path, Entry::Folder)?;
        } else if kind.is_file() {
            each(&path, Entry::File(&mut entry))?;
        } else {
            return Err(refused(&name, "it is a link or a device"));
        }
    }
    Ok(())
}

fn check_inner(found: bool, inner: &str) -> Result<()> {
    if found {
        return Ok(());
    }
    Err(Error::msg(format!(
        "the package has no file `{inner}`, the archive whose files are wanted"
    )))
}

fn open(archive: &Path) -> Result<File> {
    File::open(archive)
        .map_err(|source| Error::msg(format!("cannot open `{}`: {source}", archive.display())))
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::msg(format!("cannot write `{}`: {source}", path.display()))
}

fn refused(name: &Path, why: &str) -> Error {
    Error::msg(format!(
        "the archive's entry `{}` is refused: {why}",
        name.display()
    ))
}

/// The name without `.` components, if it is relative and never goes up.
fn plain_path(name: &Path) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) if part.to_string_lossy().contains(['\\', '\0']) => {
                return Err(refused(name, "its name has a backslash or a zero byte"));
            }
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return Err(refused(name, "its name leads out of the archive")),
        }
    }
    Ok(path)
}

struct Writer<'a> {
    target: &'a Path,
    unpack: Unpack<'a>,
    /// Folders known to exist, so that each is created once.
    folders: HashSet<PathBuf>,
    entries: usize,
    bytes: u64,
    /// Which of the names to include were found.
    included: Vec<bool>,
}

impl<'a> Writer<'a> {
    fn new(target: &'a Path, unpack: Unpack<'a>) -> Writer<'a> {
        Writer {
            target,
            included: vec![false; unpack.include.len()],
            unpack,
            folders: HashSet::new(),
            entries: 0,
            bytes: 0,
        }
    }

    fn entry(&mut self, path: &Path, entry: Entry<'_>) -> Result<()> {
        match entry {
            Entry::Folder => self.folder(path),
            Entry::File(contents) => self.file(path, contents),
        }
    }

    /// Unpacks an archive that is a file of the package; its names are taken as they are.
    fn inner_archive(&mut self, name: &str, contents: &mut dyn Read) -> Result<()> {
        let compressed = name.ends_with(".gz") || name.ends_with(".tgz");
        let contents: Box<dyn Read> = if compressed {
            Box::new(flate2::read::MultiGzDecoder::new(contents))
        } else {
            Box::new(contents)
        };
        let contents = bounded(contents, self.unpack.limits);
        tar_entries(contents, name, 0, &mut |path, entry| {
            self.entry(path, entry)
        })
    }

    fn folder(&mut self, path: &Path) -> Result<()> {
        if self.wanted(path) {
            self.create_folder(path)
        } else {
            self.count(path)
        }
    }

    fn create_folder(&mut self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() || self.folders.contains(path) {
            return Ok(());
        }
        self.count(path)?;
        let full = self.target.join(path);
        fs::create_dir_all(&full).map_err(|source| io_error(&full, source))?;
        self.folders.insert(path.to_owned());
        Ok(())
    }

    fn file(&mut self, path: &Path, contents: &mut dyn Read) -> Result<()> {
        if !self.wanted(path) {
            return self.count(path);
        }
        if path.as_os_str().is_empty() {
            return Err(refused(path, "it has no name inside the package"));
        }
        if let Some(parent) = path.parent() {
            self.create_folder(parent)?;
        }
        self.count(path)?;
        let full = self.target.join(path);
        // `create_new` also refuses to write through anything that an earlier entry left there.
        let mut file = File::create_new(&full).map_err(|source| io_error(&full, source))?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = match contents.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(source) if source.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(Error::msg(format!(
                        "the archive's entry `{}` cannot be read: {source}",
                        path.display()
                    )));
                }
            };
            self.bytes = self.bytes.saturating_add(read as u64);
            if self.bytes > self.unpack.limits.bytes {
                return Err(refused(path, &too_long(self.unpack.limits)));
            }
            let part = buffer.get(..read).unwrap_or_default();
            file.write_all(part)
                .map_err(|source| io_error(&full, source))?;
        }
    }

    /// Whether a file or folder is to be unpacked.
    fn wanted(&mut self, path: &Path) -> bool {
        let mut included = self.unpack.include.is_empty();
        for (name, found) in self.unpack.include.iter().zip(&mut self.included) {
            if path.starts_with(name) {
                *found = true;
                included = true;
            }
        }
        let excluded = self
            .unpack
            .exclude
            .iter()
            .any(|exclude| path.starts_with(exclude));
        included && !excluded
    }

    /// Checks at the end that everything that was asked for was there.
    fn finish(self) -> Result<()> {
        let missing: Vec<&str> = self
            .unpack
            .include
            .iter()
            .zip(&self.included)
            .filter(|(_, found)| !**found)
            .map(|(name, _)| name.as_str())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::msg(format!(
            "the package has no `{}`, which the manifest includes",
            missing.join("`, `")
        )))
    }

    fn count(&mut self, path: &Path) -> Result<()> {
        self.entries += 1;
        let most = self.unpack.limits.entries;
        if self.entries > most {
            let why = format!("the archive has more than {most} entries");
            return Err(refused(path, &why));
        }
        if self.entries.is_multiple_of(64) {
            (self.unpack.progress)(self.entries);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `.tgz` of (name, kind, contents); names are written without any check.
    fn tgz(path: &Path, entries: &[(&str, tar::EntryType, &str)]) {
        let gz =
            flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast());
        let mut builder = tar::Builder::new(gz);
        for (name, kind, contents) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(if kind.is_file() {
                contents.len() as u64
            } else {
                0
            });
            header.set_mode(0o644);
            if kind.is_symlink() || kind.is_hard_link() {
                header.set_link_name(contents).unwrap();
            }
            header.set_cksum();
            let contents = if kind.is_file() {
                contents.as_bytes()
            } else {
                b""
            };
            builder.append(&header, contents).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap();
    }

    fn unpack(
        entries: &[(&str, tar::EntryType, &str)],
        exclude: &[&str],
    ) -> (tempfile::TempDir, Result<()>) {
        let temp = tempfile::tempdir().unwrap();
        let archive = temp.path().join("a.tgz");
        tgz(&archive, entries);
        let target = temp.path().join("out");
        fs::create_dir(&target).unwrap();
        let exclude: Vec<String> = exclude.iter().map(|s| (*s).to_owned()).collect();
        let result = tar_gz(
            &archive,
            &target,
            Unpack {
                exclude: &exclude,
                ..everything(&mut |_| {})
            },
        );
        (temp, result)
    }

    fn everything(progress: &mut dyn FnMut(usize)) -> Unpack<'_> {
        Unpack {
            archive: None,
            include: &[],
            exclude: &[],
            progress,
            limits: Limits::default(),
        }
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;

    #[test]
    fn the_first_component_is_left_out_and_exclusions_are_kept_out() {
        let (temp, result) = unpack(
            &[
                ("package/a/b.txt", FILE, "hello"),
                ("package/a/c.txt", FILE, "no"),
                ("package/a/c.txt.x", FILE, "yes"),
                ("package/d/e/f.txt", FILE, "no"),
                ("other/g.txt", FILE, "yes"),
            ],
            &["a/c.txt", "d"],
        );
        result.unwrap();
        let out = temp.path().join("out");
        assert_eq!(fs::read_to_string(out.join("a/b.txt")).unwrap(), "hello");
        assert!(!out.join("a/c.txt").exists());
        assert!(out.join("a/c.txt.x").exists());
        assert!(!out.join("d").exists());
        assert!(out.join("g.txt").exists());
    }

    #[test]
    fn what_is_left_out_counts_against_the_limits() {
        let many: Vec<_> = (0..40).map(|n| format!("package/no/{n}")).collect();
        let entries: Vec<_> = many.iter().map(|name| (&**name, FILE, "x")).collect();
        let large = "x".repeat(1 << 20);
        let large = [("package/no/large", FILE, &*large)];
        let exclude = ["no".to_owned()];
        let limits = |entries, bytes| Limits { entries, bytes };
        for (entries, limits, expected) in [
            (&entries[..], limits(39, 1 << 30), "more than 39 entries"),
            (&entries, limits(40, 1 << 30), ""),
            (
                &large,
                limits(1, 1 << 19),
                "unpacks to more than 524288 bytes",
            ),
            (&large, limits(1, 1 << 20), ""),
        ] {
            let temp = tempfile::tempdir().unwrap();
            let inside = temp.path().join("inside.tar.gz");
            tgz(&inside, entries);
            let target = temp.path().join("out");
            fs::create_dir(&target).unwrap();
            let result = tar_gz(
                &inside,
                &target,
                Unpack {
                    exclude: &exclude,
                    limits,
                    ..everything(&mut |_| {})
                },
            );
            match expected {
                "" => result.unwrap(),
                expected => {
                    let error = result.unwrap_err().to_string();
                    assert!(error.contains(expected), "{error}");
                }
            }
        }
    }

    #[test]
    fn an_archive_that_cannot_be_opened_or_read_is_not_said_to_be_unwritable() {
        let temp = tempfile::tempdir().unwrap();
        let error = tar_gz(
            &temp.path().join("none.tgz"),
            temp.path(),
            everything(&mut |_| {}),
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("cannot open") && error.contains("none.tgz"),
            "{error}"
        );
        // Cut off in the middle of a file.
        let archive = temp.path().join("a.tgz");
        let noise: String = (0..40_000u32)
            .map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 20) as u8 % 26))
            .collect();
        tgz(&archive, &[("package/a", FILE, &noise)]);
        let bytes = fs::read(&archive).unwrap();
        fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
        let target = temp.path().join("out");
        fs::create_dir(&target).unwrap();
        let error = tar_gz(&archive, &target, everything(&mut |_| {}));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("`a` cannot be read"), "{error}");
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in [
            "package/../../evil",
            "/etc/evil",
            "../evil",
            "package/a\\..\\b",
        ] {
            let (temp, result) = unpack(&[(name, FILE, "x")], &[]);
            let error = result.expect_err(name).to_string();
            assert!(error.contains("refused"), "{error}");
            assert!(!temp.path().join("evil").exists());
        }
    }

    #[test]
    fn links_and_devices_are_refused() {
        for kind in [
            tar::EntryType::Symlink,
            tar::EntryType::Link,
            tar::EntryType::Fifo,
            tar::EntryType::Char,
        ] {
            let (_temp, result) = unpack(&[("package/x", kind, "/etc/passwd")], &[]);
            assert!(
                result
                    .expect_err("refused")
                    .to_string()
                    .contains("link or a device")
            );
        }
    }

    #[test]
    fn a_file_given_twice_is_refused() {
        let (_temp, result) = unpack(&[("p/x", FILE, "1"), ("p/x", FILE, "2")], &[]);
        assert!(result.is_err());
    }

    #[test]
    fn a_truncated_archive_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let archive = temp.path().join("a.tgz");
        tgz(&archive, &[("p/x", FILE, &"text ".repeat(10_000))]);
        let bytes = fs::read(&archive).unwrap();
        fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
        let target = temp.path().join("out");
        fs::create_dir(&target).unwrap();
        let result = tar_gz(&archive, &target, everything(&mut |_| {}));
        assert!(result.is_err());
    }

    #[test]
    fn wheels_are_unpacked_whole() {
        let temp = tempfile::tempdir().unwrap();
        let archive = temp.path().join("a.whl");
        let mut zip_file = zip::ZipWriter::new(File::create(&archive).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        zip_file.start_file("pkg/__init__.py", options).unwrap();
        zip_file.write_all(b"x = 1").unwrap();
        zip_file.finish().unwrap();
        let target = temp.path().join("out");
        fs::create_dir(&target).unwrap();
        zip(&archive, &target, everything(&mut |_| {})).unwrap();
        assert_eq!(
            fs::read_to_string(target.join("pkg/__init__.py")).unwrap(),
            "x = 1"
        );
    }

    /// Unpacks a `.tgz` made of these entries into `out` of a new folder.
    fn selected(
        entries: &[(&str, tar::EntryType, &str)],
        archive: Option<&str>,
        include: &[&str],
    ) -> (tempfile::TempDir, Result<()>) {
        let temp = tempfile::tempdir().unwrap();
        let package = temp.path().join("a.tgz");
        tgz(&package, entries);
        let target = temp.path().join("out");
        fs::create_dir(&target).unwrap();
        let include: Vec<String> = include.iter().map(|s| (*s).to_owned()).collect();
        let result = tar_gz(
            &package,
            &target,
            Unpack {
                archive,
                include: &include,
                ..everything(&mut |_| {})
            },
        );
        (temp, result)
    }

    #[test]
    fn only_what_is_included_is_unpacked() {
        let entries = [
            ("p/a/b.txt", FILE, "yes"),
            ("p/a/c.txt", FILE, "no"),
            ("p/d/e/f.txt", FILE, "yes"),
            ("p/d.txt", FILE, "no"),
        ];
        let (temp, result) = selected(&entries, None, &["a/b.txt", "d"]);
        result.unwrap();
        let out = temp.path().join("out");
        assert!(out.join("a/b.txt").exists() && out.join("d/e/f.txt").exists());
        assert!(!out.join("a/c.txt").exists() && !out.join("d.txt").exists());
        let (_temp, result) = selected(&entries, None, &["a", "a/d.txt", "x"]);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("no `a/d.txt`, `x`"), "{error}");
    }

    #[test]
    fn the_files_of_an_archive_inside_can_take_the_place_of_the_packages() {
        let inner = |compressed: bool| {
            let mut header = tar::Header::new_gnu();
            header.set_size(5);
            header.set_mode(0o644);
            let mut builder = tar::Builder::new(Vec::new());
            builder
                .append_data(&mut header, "lib/x.so", &b"hello"[..])
                .unwrap();
            let bytes = builder.into_inner().unwrap();
            if !compressed {
                return bytes;
            }
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(&bytes).unwrap();
            gz.finish().unwrap()
        };
        for (name, compressed) in [("gen/in.tar", false), ("gen/in.tgz", true)] {
            let temp = tempfile::tempdir().unwrap();
            let bytes = inner(compressed);
            // Once in a tar archive, once in a zip archive.
            let package = temp.path().join("a.tgz");
            let gz = flate2::write::GzEncoder::new(
                File::create(&package).unwrap(),
                flate2::Compression::fast(),
            );
            let mut builder = tar::Builder::new(gz);
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder
                .append_data(&mut header, format!("package/{name}"), bytes.as_slice())
                .unwrap();
            builder.into_inner().unwrap().finish().unwrap();
            let wheel = temp.path().join("a.whl");
            let mut zip_file = zip::ZipWriter::new(File::create(&wheel).unwrap());
            let options = zip::write::SimpleFileOptions::default();
            zip_file.start_file(name, options).unwrap();
            zip_file.write_all(&bytes).unwrap();
            zip_file.finish().unwrap();
            for (target, is_zip) in [("tar", false), ("zip", true)] {
                let target = temp.path().join(target);
                fs::create_dir(&target).unwrap();
                let include = ["lib/x.so".to_owned()];
                let mut nobody = |_| {};
                let unpack = Unpack {
                    archive: Some(name),
                    include: &include,
                    ..everything(&mut nobody)
                };
                if is_zip {
                    zip(&wheel, &target, unpack).unwrap();
                } else {
                    tar_gz(&package, &target, unpack).unwrap();
                }
                assert_eq!(
                    fs::read_to_string(target.join("lib/x.so")).unwrap(),
                    "hello"
                );
                assert!(!target.join("gen").exists());
            }
        }
    }

    #[test]
    fn an_archive_inside_that_is_missing_or_no_archive_is_an_error() {
        let entries = [("p/a.tar", FILE, "this is no archive at all")];
        let (_temp, result) = selected(&entries, Some("b.tar"), &[]);
        assert!(result.unwrap_err().to_string().contains("no file `b.tar`"));
        let (_temp, result) = selected(&entries, Some("a.tar"), &[]);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("`a.tar` is not a sound tar"), "{error}");
    }
}
