//! Where libraries are found: names, search paths, and the files behind them (rules N1 to N5, N8).
//!
//! The linker never opens a file itself. It asks [`Files`], which the embedder chooses: the guest's mounts, named host
//! directories, or files in memory. So a library can come only from where the embedder allows (N8).
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of the longest path that is tried.
const MAX_PATH: usize = 4096;

/// Paths that a message lists.
const MAX_TRIED_SHOWN: usize = 20;

/// A library file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFile {
    /// The path that leads to it, absolute if the working directory can change; its directory is the file's `$ORIGIN`
    /// (N3).
    pub path: String,
    /// What makes the file the same under all its names (canonical path, or device and inode): rule N4.
    pub identity: String,
}

/// Gives the linker library files. `T` is the data of the store, where an embedder may keep its file system.
pub trait Files<T>: Send + Sync {
    /// The regular file at `path`; `None` if there is none.
    ///
    /// # Errors
    /// Errors other than "not found", "not a directory", "permission denied" and "name too long" end the search (N5).
    fn find(&self, data: &mut T, path: &str) -> io::Result<Option<FoundFile>>;

    /// The contents of a file that [`Files::find`] gave; refuses files of more than `limit` bytes.
    ///
    /// # Errors
    /// It cannot be read, or is larger than `limit`.
    fn read(&self, data: &mut T, file: &FoundFile, limit: usize) -> io::Result<Vec<u8>>;

    /// The names of the files in a directory, for tools that look for what would help. Default: none.
    ///
    /// # Errors
    /// It is no directory, or cannot be read.
    fn list(&self, _data: &mut T, _directory: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Names of one directory that are listed.
const MAX_NAMES: usize = 100_000;

/// Library files in host directories that the embedder names; nothing outside of them is ever opened.
#[derive(Clone, Debug, Default)]
pub struct HostFiles {
    directories: Vec<PathBuf>,
}

impl HostFiles {
    /// Files below these directories. Symbolic links that lead out of them are not followed.
    pub fn within(directories: impl IntoIterator<Item = impl AsRef<Path>>) -> HostFiles {
        HostFiles {
            directories: directories
                .into_iter()
                .filter_map(|directory| directory.as_ref().canonicalize().ok())
                .collect(),
        }
    }
}

impl<T> Files<T> for HostFiles {
    fn find(&self, _data: &mut T, path: &str) -> io::Result<Option<FoundFile>> {
        if path.contains('\0') {
            return Ok(None);
        }
        let canonical = Path::new(path).canonicalize()?;
        let allowed = self
            .directories
            .iter()
            .any(|directory| canonical.starts_with(directory));
        if !allowed || !canonical.is_file() {
            return Ok(None);
        }
        Ok(Some(FoundFile {
            path: std::path::absolute(path)?.to_string_lossy().into_owned(),
            identity: canonical.to_string_lossy().into_owned(),
        }))
    }

    fn read(&self, _data: &mut T, file: &FoundFile, limit: usize) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let opened = std::fs::File::open(&file.identity)?;
        let mut bytes = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX);
        opened
            .take(most.saturating_add(1))
            .read_to_end(&mut bytes)?;
        check_size(bytes.len(), limit)?;
        Ok(bytes)
    }

    fn list(&self, _data: &mut T, directory: &str) -> io::Result<Vec<String>> {
        let canonical = Path::new(directory).canonicalize()?;
        if !self
            .directories
            .iter()
            .any(|own| canonical.starts_with(own))
        {
            return Ok(Vec::new());
        }
        std::fs::read_dir(canonical)?
            .take(MAX_NAMES)
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }
}

/// Library files in memory, by path. Paths are compared after `.`, `..` and doubled slashes are removed; a path without
/// a leading slash lies in `/`.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles {
    files: BTreeMap<String, Vec<u8>>,
}

impl MemoryFiles {
    /// No files.
    pub fn new() -> MemoryFiles {
        MemoryFiles::default()
    }

    /// Adds a file or replaces it.
    pub fn insert(&mut self, path: &str, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.files.insert(normal_path(path), bytes.into());
        self
    }
}

impl<T> Files<T> for MemoryFiles {
    fn find(&self, _data: &mut T, path: &str) -> io::Result<Option<FoundFile>> {
        let identity = normal_path(path);
        Ok(self.files.contains_key(&identity).then(|| FoundFile {
            path: path.to_string(),
            identity,
        }))
    }

    fn read(&self, _data: &mut T, file: &FoundFile, limit: usize) -> io::Result<Vec<u8>> {
        let bytes = self
            .files
            .get(&file.identity)
            .ok_or(io::ErrorKind::NotFound)?;
        check_size(bytes.len(), limit)?;
        Ok(bytes.clone())
    }

    fn list(&self, _data: &mut T, directory: &str) -> io::Result<Vec<String>> {
        let directory = normal_path(directory);
        let inside = self.files.keys().filter_map(|path| {
            let name = path.strip_prefix(&directory)?;
            let name = name.strip_prefix('/').unwrap_or(name);
            (!name.contains('/') && path.len() > name.len()).then(|| name.to_string())
        });
        Ok(inside.take(MAX_NAMES).collect())
    }
}

fn check_size(bytes: usize, limit: usize) -> io::Result<()> {
    if bytes > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than the limit of {limit} bytes for one module"),
        ));
    }
    Ok(())
}

/// Removes `.`, `..` and doubled slashes; the result starts with a slash.
pub(crate) fn normal_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut normal = String::with_capacity(path.len() + 1);
    for part in &parts {
        normal.push('/');
        normal.push_str(part);
    }
    if parts.is_empty() {
        normal.push('/');
    }
    normal
}

/// The directories that do not depend on who asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct SearchPath {
    /// The embedder's directories, and those of `LD_LIBRARY_PATH`; before any runtime path (N1).
    pub first: Vec<String>,
    /// The default directories; after any runtime path.
    pub last: Vec<String>,
}

impl SearchPath {
    /// The entries of a `LD_LIBRARY_PATH`: separated by colons or newlines, an empty one is the working directory.
    pub fn split(list: &str) -> Vec<String> {
        entries(list).map(str::to_string).collect()
    }

    /// The directories of the runtime path of an object that was found at `path`, in order. Those that are longer than
    /// any path are left out: the search would go on after them (N5).
    ///
    /// # Errors
    /// There are more than `most`: their number.
    pub fn runtime_directories(
        path: &str,
        runtime_path: &[String],
        most: usize,
    ) -> Result<Vec<String>, usize> {
        let count: usize = runtime_path.iter().map(|list| entries(list).count()).sum();
        if count > most {
            return Err(count);
        }
        let origin = directory(path);
        Ok(runtime_path
            .iter()
            .flat_map(|list| entries(list))
            .filter_map(|entry| replace_origin(entry, origin))
            .collect())
    }

    /// The paths to try for `name`, in order (N1). `directories` are those of the runtime path of the object that asks,
    /// not of the objects that need it (N2).
    pub fn candidates<'a>(
        &'a self,
        name: &'a str,
        directories: &'a [String],
    ) -> impl Iterator<Item = String> + 'a {
        let is_path = name.contains('/');
        let itself = is_path.then(|| name.to_string());
        let directories = [&self.first[..], directories, &self.last[..]];
        let found = directories
            .into_iter()
            .filter(move |_| !is_path)
            .flatten()
            .map(move |directory| join(directory, name));
        itself.into_iter().chain(found)
    }
}

/// Paths that were tried in vain, for messages.
#[derive(Default)]
pub(crate) struct Tried {
    shown: Vec<String>,
    more: usize,
}

impl Tried {
    pub fn add(&mut self, path: String) {
        if self.shown.len() < MAX_TRIED_SHOWN {
            self.shown.push(path);
        } else {
            self.more += 1;
        }
    }

    /// The first of them, and how many more there are.
    pub fn list(mut self) -> Vec<String> {
        if self.more > 0 {
            self.shown.push(format!("{} more places", self.more));
        }
        self.shown
    }
}

/// The entries of a list of directories: an empty one is the working directory, an empty list has none.
fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.split([':', '\n'])
        .filter(move |_| !list.is_empty())
        .map(|entry| if entry.is_empty() { "." } else { entry })
}

/// Whether a search goes on after this error (N5).
pub(crate) fn search_goes_on(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidFilename
    )
}

/// The directory of a path: `$ORIGIN` of the object that was found there.
pub(crate) fn directory(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) => "/",
        Some(slash) => path.get(..slash).unwrap_or("."),
        None => ".",
    }
}

/// The file name of a path.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

pub(crate) fn join(directory: &str, name: &str) -> String {
    if directory.ends_with('/') {
        format!("{directory}{name}")
    } else {
        format!("{directory}/{name}")
    }
}

/// Replaces every `${ORIGIN}`, and `$ORIGIN` where a component ends (N3). `None` if it becomes longer than any path.
fn replace_origin(entry: &str, origin: &str) -> Option<String> {
    if entry.len() > MAX_PATH {
        return None;
    }
    let mut out = String::with_capacity(entry.len());
    let mut rest = entry;
    while let Some(at) = rest.find('$') {
        if out.len() > MAX_PATH {
            return None;
        }
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if let Some(after) = from.strip_prefix("${ORIGIN}") {
            out.push_str(origin);
            rest = after;
        } else if let Some(after) = from
            .strip_prefix("$ORIGIN")
            .filter(|after| after.is_empty() || after.starts_with('/'))
        {
            out.push_str(origin);
            rest = after;
        } else {
            out.push('$');
            rest = from.strip_prefix('$').unwrap_or("");
        }
    }
    out.push_str(rest);
    (out.len() <= MAX_PATH).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> SearchPath {
        SearchPath {
            first: SearchPath::split("/one:/two"),
            last: vec!["/lib".into()],
        }
    }

    fn candidates(name: &str, directories: &[String]) -> Vec<String> {
        path().candidates(name, directories).collect()
    }

    #[test]
    fn a_runtime_path_has_bounds() {
        let lists = ["a:b".to_string(), "c\nd".to_string()];
        let directories = |most| SearchPath::runtime_directories("/x/m", &lists, most);
        assert_eq!(directories(3), Err(4));
        assert_eq!(directories(4).unwrap(), ["a", "b", "c", "d"]);
        // Each `$ORIGIN` is replaced, but no path becomes longer than a path may be.
        let long = [
            format!("{}$ORIGIN", "$ORIGIN/".repeat(3)),
            "$ORIGIN/".repeat(12_000),
            "x".repeat(5000),
            "/ok".to_string(),
        ];
        let found = SearchPath::runtime_directories("/origin/of/m", &long, 100).unwrap();
        let first = "/origin/of/".repeat(3) + "/origin/of";
        assert_eq!(found, [first.as_str(), "/ok"]);
    }

    #[test]
    fn a_name_with_a_slash_is_a_path() {
        assert_eq!(candidates("./a.so", &["/opt".into()]), ["./a.so"]);
    }

    #[test]
    fn the_library_path_comes_before_the_runtime_path_and_that_before_the_defaults() {
        let runtime_path = ["$ORIGIN/sub:/opt".to_string()];
        let directories =
            SearchPath::runtime_directories("/app/main.wasm", &runtime_path, 2).unwrap();
        assert_eq!(
            candidates("a.so", &directories),
            [
                "/one/a.so",
                "/two/a.so",
                "/app/sub/a.so",
                "/opt/a.so",
                "/lib/a.so"
            ]
        );
    }

    #[test]
    fn origin_is_replaced_at_component_boundaries_only() {
        let replace = |entry| replace_origin(entry, "/a").unwrap();
        assert_eq!(replace("$ORIGIN"), "/a");
        assert_eq!(replace("${ORIGIN}x/$ORIGIN/y"), "/ax//a/y");
        assert_eq!(replace("$ORIGINAL/$"), "$ORIGINAL/$");
    }

    #[test]
    fn an_empty_entry_is_the_working_directory() {
        assert_eq!(SearchPath::split("/a::/b\n/c"), ["/a", ".", "/b", "/c"]);
        assert!(SearchPath::split("").is_empty());
    }

    #[test]
    fn the_directory_of_a_path_is_its_origin() {
        assert_eq!(directory("/a/b.so"), "/a");
        assert_eq!(directory("/b.so"), "/");
        assert_eq!(directory("b.so"), ".");
    }

    #[test]
    fn a_file_in_memory_is_one_file_under_all_its_names() {
        let mut files = MemoryFiles::new();
        files.insert("/lib/a.so", vec![1, 2, 3]);
        let by_path = Files::<()>::find(&files, &mut (), "/lib/../lib/./a.so")
            .unwrap()
            .unwrap();
        assert_eq!(by_path.identity, "/lib/a.so");
        assert_eq!(
            Files::<()>::read(&files, &mut (), &by_path, 3).unwrap(),
            [1, 2, 3]
        );
        assert!(Files::<()>::read(&files, &mut (), &by_path, 2).is_err());
        assert!(
            Files::<()>::find(&files, &mut (), "/lib")
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn host_files_outside_the_named_directories_do_not_exist() {
        let inside = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(inside.path().join("a.so"), b"a").unwrap();
        std::fs::write(outside.path().join("b.so"), b"b").unwrap();
        let files = HostFiles::within([inside.path()]);
        let find = |path: PathBuf| Files::<()>::find(&files, &mut (), path.to_str().unwrap());
        assert!(find(inside.path().join("a.so")).unwrap().is_some());
        assert!(find(outside.path().join("b.so")).unwrap().is_none());
        let name = outside.path().file_name().unwrap();
        let escape = inside.path().join("..").join(name).join("b.so");
        assert!(find(escape).unwrap().is_none());
        assert!(find(inside.path().to_path_buf()).unwrap().is_none());
        assert!(search_goes_on(
            &find(inside.path().join("c.so")).unwrap_err()
        ));
    }
}
