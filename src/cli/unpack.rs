//! Unpacks package archives (npm's `.tgz`, pip's `.whl`) into a new folder.
//!
//! Only plain files and folders with plain relative names are unpacked; an archive with anything
//! else (links, devices, `..`, absolute names) is refused as a whole. The caller gives an empty
//! folder of its own and removes it after an error.

#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

/// Most files and folders of one archive.
const MOST_ENTRIES: usize = 200_000;
/// Most bytes that one archive may unpack to.
const MOST_BYTES: u64 = 4 << 30;

/// What to leave out and whom to tell.
pub struct Unpack<'a> {
    /// Files and folders (with everything in them) that are not unpacked, relative to the package.
    pub exclude: &'a [String],
    /// Called with the number of files so far.
    pub progress: &'a mut dyn FnMut(usize),
}

/// Unpacks a gzip-compressed tar archive, leaving out the first component of every name, as npm does.
///
/// # Errors
/// The archive is malformed, has an entry that is not allowed, or a file cannot be written.
pub fn tar_gz<'a>(archive: &Path, target: &'a Path, unpack: Unpack<'a>) -> Result<()> {
    let file = BufReader::new(open(archive)?);
    let mut writer = Writer::new(target, unpack);
    let mut tar = tar::Archive::new(flate2::bufread::MultiGzDecoder::new(file));
    let broken = |error: io::Error| {
        Error::msg(format!(
            "`{}` is not a sound .tgz archive: {error}",
            archive.display()
        ))
    };
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.into_owned();
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        let mut path = plain_path(&name)?;
        path = path.components().skip(1).collect();
        if kind.is_dir() {
            writer.folder(&path)?;
        } else if kind.is_file() {
            writer.file(&path, &mut entry)?;
        } else {
            return Err(refused(&name, "it is a link or a device"));
        }
    }
    Ok(())
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
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(broken)?;
        let name = PathBuf::from(entry.name().map_err(broken)?.into_owned());
        let path = plain_path(&name)?;
        if entry.is_dir() {
            writer.folder(&path)?;
        } else if entry.is_file() {
            writer.file(&path, &mut entry)?;
        } else {
            return Err(refused(&name, "it is a link"));
        }
    }
    Ok(())
}

fn open(archive: &Path) -> Result<File> {
    File::open(archive).map_err(|source| io_error(archive, source))
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
}

impl<'a> Writer<'a> {
    fn new(target: &'a Path, unpack: Unpack<'a>) -> Writer<'a> {
        Writer {
            target,
            unpack,
            folders: HashSet::new(),
            entries: 0,
            bytes: 0,
        }
    }

    fn folder(&mut self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() || self.excluded(path) || self.folders.contains(path) {
            return Ok(());
        }
        self.count(path)?;
        let full = self.target.join(path);
        fs::create_dir_all(&full).map_err(|source| io_error(&full, source))?;
        self.folders.insert(path.to_owned());
        Ok(())
    }

    fn file(&mut self, path: &Path, contents: &mut impl Read) -> Result<()> {
        if self.excluded(path) {
            return Ok(());
        }
        if path.as_os_str().is_empty() {
            return Err(refused(path, "it has no name inside the package"));
        }
        if let Some(parent) = path.parent() {
            self.folder(parent)?;
        }
        self.count(path)?;
        let full = self.target.join(path);
        // `create_new` also refuses to write through anything that an earlier entry left there.
        let mut file = File::create_new(&full).map_err(|source| io_error(&full, source))?;
        let left = MOST_BYTES - self.bytes;
        let copied = io::copy(&mut contents.take(left + 1), &mut file)
            .map_err(|source| io_error(&full, source))?;
        if copied > left {
            return Err(refused(path, "the archive unpacks to more than 4 GiB"));
        }
        self.bytes += copied;
        Ok(())
    }

    fn excluded(&self, path: &Path) -> bool {
        self.unpack
            .exclude
            .iter()
            .any(|exclude| path.starts_with(exclude))
    }

    fn count(&mut self, path: &Path) -> Result<()> {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return Err(refused(path, "the archive has more than 200,000 entries"));
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
    use std::io::Write;

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
                progress: &mut |_| {},
            },
        );
        (temp, result)
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
        let result = tar_gz(
            &archive,
            &target,
            Unpack {
                exclude: &[],
                progress: &mut |_| {},
            },
        );
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
        zip(
            &archive,
            &target,
            Unpack {
                exclude: &[],
                progress: &mut |_| {},
            },
        )
        .unwrap();
        assert_eq!(
            fs::read_to_string(target.join("pkg/__init__.py")).unwrap(),
            "x = 1"
        );
    }
}
