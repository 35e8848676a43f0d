//! Paths that try to leave what was given to the guest, on the host's own directories and across mounts.

#![forbid(unsafe_code)]

use super::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const SECRET: &[u8] = b"nobody may read this";

/// A host directory `outer/sandbox` that is mounted, beside `outer/secret` and `outer/private/`, which are not.
struct Jail {
    guest: Guest,
    outer: tempfile::TempDir,
}

impl Jail {
    #[cfg(unix)]
    fn new() -> Jail {
        use std::os::unix::fs::symlink;
        let outer = tempfile::tempdir().unwrap();
        let path = |name: &str| outer.path().join(name);
        std::fs::write(path("secret"), SECRET).unwrap();
        std::fs::create_dir_all(path("private/inner")).unwrap();
        std::fs::write(path("private/inner/key"), SECRET).unwrap();
        std::fs::create_dir_all(path("sandbox/dir/inner")).unwrap();
        std::fs::write(path("sandbox/dir/file"), b"inside").unwrap();
        // Links that only the host could make: absolute ones, and ones that lead out.
        for (target, name) in [
            ("..", "up"),
            ("../..", "dir/up2"),
            ("../secret", "out"),
            ("dir/../../secret", "around"),
            ("/", "root"),
            ("/proc/self/root", "proc"),
            ("/proc/self/cwd", "cwd"),
            (".", "self"),
            ("dir", "link"),
            ("up", "up_again"),
            ("self/self/up/secret", "long_way"),
            ("dir/up2/../secret", "zigzag"),
        ] {
            symlink(target, path("sandbox").join(name)).unwrap();
        }
        symlink(path("secret"), path("sandbox/absolute")).unwrap();
        symlink(path("private"), path("sandbox/absolute_dir")).unwrap();
        symlink(path("sandbox/dir"), path("sandbox/absolute_inside")).unwrap();
        let host = Mount::host(path("sandbox")).unwrap();
        let guest = Guest::new(KernelBuilder::new().mount("/sandbox", host));
        Jail { guest, outer }
    }

    /// Everything outside of the sandbox: paths and contents.
    fn outside(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        fn walk(directory: &Path, found: &mut BTreeMap<String, Option<Vec<u8>>>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.ends_with("sandbox") {
                    continue;
                }
                let name = path.display().to_string();
                if path.is_dir() {
                    found.insert(name, None);
                    walk(&path, found);
                } else {
                    found.insert(name, Some(std::fs::read(&path).unwrap()));
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(self.outer.path(), &mut found);
        found
    }
}

/// Paths that lead out if they are followed without care.
fn escaping_paths(outer: &Path) -> BTreeSet<String> {
    let outer = outer.display().to_string();
    let starts = [
        "",
        "./",
        ".//",
        "dir/../",
        "dir/inner/../../",
        "link/../",
        "self/",
        "self/self/",
        "dir/./inner/.././../",
        "absolute_inside/../",
    ];
    let ways = [
        "..",
        "../..",
        "../../..",
        "up",
        "up/.",
        "up_again",
        "dir/up2/..",
        "dir/up2",
        "root",
        "proc",
        "cwd",
        "absolute_dir/..",
        "absolute_dir",
        "../sandbox/..",
        "up/sandbox/up",
        "root/..",
    ];
    let ends = [
        "/secret",
        "//secret",
        "/private/inner/key",
        "/private/../secret",
        "/./private/inner/",
        "/etc/passwd",
        "",
        "/",
    ];
    let mut paths = BTreeSet::new();
    for start in starts {
        for way in ways {
            for end in ends {
                paths.insert(format!("{start}{way}{end}"));
            }
        }
        for link in [
            "out",
            "around",
            "absolute",
            "long_way",
            "zigzag",
            "root/etc/hostname",
        ] {
            paths.insert(format!("{start}{link}"));
            paths.insert(format!("{start}{link}/"));
        }
    }
    for path in [
        "/",
        "//",
        "/secret",
        "/..",
        "/.",
        "/sandbox/../secret",
        "/proc/self/environ",
        "/etc/passwd",
    ] {
        paths.insert(path.to_owned());
    }
    paths.insert(format!("{outer}/secret"));
    paths.insert(format!("/..{outer}/secret"));
    paths.insert(format!("..{}secret", "/../".repeat(500)));
    paths.insert(format!("{}secret", "../".repeat(1300)));
    paths.insert(format!("{}secret", "../".repeat(1400)));
    paths.insert(format!("dir/{}", "x".repeat(4096)));
    paths.insert("..\0/secret".to_owned());
    paths.insert("../secret\0".to_owned());
    paths
}

#[test]
#[cfg(unix)]
fn no_path_leads_out_of_a_host_directory() {
    let mut jail = Jail::new();
    let before = jail.outside();
    let paths = escaping_paths(jail.outer.path());
    assert!(paths.len() >= 250, "{} paths", paths.len());
    let mut tried = 0;
    for path in &paths {
        jail.guest.reset();
        let guest = &mut jail.guest;
        // `cwd` and `root` with nothing behind may name a link of the sandbox itself.
        let is_own_link =
            !path.ends_with('/') && guest.stat(path).is_ok_and(|stat| stat.file_type == 7);
        for follow in [0, FOLLOW] {
            let refused = guest.stat_with(ROOT, path, follow);
            assert!(
                refused.is_err() || (is_own_link && follow == 0),
                "stat {path}: {refused:?}"
            );
            for (oflags, rights) in [
                (0, READ),
                (DIRECTORY, READ),
                (CREAT, READ_WRITE),
                (TRUNC, WRITE),
                (CREAT | EXCL, WRITE),
            ] {
                let opened = guest.open_with(ROOT, path, follow, oflags, rights, 0);
                assert!(opened.is_err(), "open {path} with {oflags}");
                tried += 1;
            }
            let times = [ROOT.into(), follow.into(), PATH, 0, 0, 5];
            let changed = guest.call_path("path_filestat_set_times", path, &times);
            assert!(
                changed.is_err() || (is_own_link && follow == 0),
                "times {path}"
            );
            let linked = guest.link_between(ROOT, follow, path, ROOT, "stolen");
            assert!(
                linked.is_err() || (is_own_link && follow == 0),
                "link {path}"
            );
            let _ = guest.unlink("stolen");
        }
        let _ = guest.readlink(path);
        assert!(guest.mkdir(path).is_err(), "mkdir {path}");
        assert!(guest.rmdir(path).is_err(), "rmdir {path}");
        assert!(guest.symlink("dir", path).is_err(), "symlink {path}");
        assert!(guest.link("dir/file", path).is_err(), "link to {path}");
        if !is_own_link {
            assert!(guest.unlink(path).is_err(), "unlink {path}");
            assert!(guest.rename("dir/file", path).is_err(), "rename to {path}");
            assert!(guest.rename(path, "stolen").is_err(), "rename {path}");
        }
        tried += 12;
    }
    assert!(tried > 5000);
    assert_eq!(jail.outside(), before);
    assert_eq!(jail.guest.read_file("dir/file").unwrap(), b"inside");
}

#[test]
#[cfg(unix)]
fn links_made_by_the_guest_lead_nowhere_either() {
    let mut jail = Jail::new();
    let before = jail.outside();
    let paths = escaping_paths(jail.outer.path());
    for path in &paths {
        jail.guest.reset();
        let guest = &mut jail.guest;
        if path.starts_with('/') {
            assert!(guest.symlink(path, "trap").is_err(), "{path}");
            continue;
        }
        if guest.symlink(path, "trap").is_err() {
            continue;
        }
        assert!(guest.read_file("trap").is_err(), "{path}");
        assert!(guest.stat_with(ROOT, "trap", FOLLOW).is_err(), "{path}");
        for oflags in [CREAT, TRUNC, CREAT | TRUNC, DIRECTORY] {
            assert!(
                guest
                    .open_with(ROOT, "trap", FOLLOW, oflags, READ, 0)
                    .is_err(),
                "{path}"
            );
        }
        assert!(guest.open("trap/new", CREAT, WRITE).is_err(), "{path}");
        guest.unlink("trap").unwrap();
    }
    assert_eq!(jail.outside(), before);
}

#[test]
#[cfg(unix)]
fn a_directory_that_was_opened_is_a_jail_of_its_own() {
    let mut jail = Jail::new();
    let guest = &mut jail.guest;
    let inner = guest.open("dir/inner", DIRECTORY, READ).unwrap();
    for path in ["..", "../file", "../../dir/inner", "./../inner", "up"] {
        assert!(guest.stat_with(inner, path, FOLLOW).is_err(), "{path}");
        assert!(
            guest
                .open_with(inner, path, FOLLOW, CREAT, WRITE, 0)
                .is_err()
                || path == "up"
        );
    }
    assert_eq!(guest.read_file("dir/file").unwrap(), b"inside");
}

#[test]
#[cfg(unix)]
fn names_that_are_not_utf8_are_not_seen() {
    use std::os::unix::ffi::OsStrExt;
    let mut jail = Jail::new();
    let name = std::ffi::OsStr::from_bytes(b"dir/\xff\xfe");
    std::fs::write(jail.outer.path().join("sandbox").join(name), b"").unwrap();
    let guest = &mut jail.guest;
    let fd = guest.open("dir", DIRECTORY, READ).unwrap();
    assert_eq!(guest.names(fd), [".", "..", "file", "inner", "up2"]);
    let at = guest.bytes(b"dir/\xff\xfe");
    let stat = guest.alloc(64);
    let arguments = [ROOT.into(), 0, at.into(), 6, stat.into()];
    assert_eq!(
        guest.call("path_filestat_get", &arguments),
        Err(Errno::Ilseq)
    );
}

/// A directory is replaced by a link that leads out, again and again, while the guest goes through it.
#[test]
#[cfg(unix)]
fn a_race_with_links_gives_errors_but_never_the_secret() {
    let mut jail = Jail::new();
    let before = jail.outside();
    let sandbox = jail.outer.path().join("sandbox");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let swap = |from: &str, to: &str| {
                std::fs::rename(sandbox.join(from), sandbox.join(to)).unwrap();
            };
            std::fs::create_dir_all(sandbox.join("swap/inner")).unwrap();
            std::os::unix::fs::symlink("../private", sandbox.join("trap")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                swap("swap", "aside");
                swap("trap", "swap");
                swap("swap", "trap");
                swap("aside", "swap");
            }
        });
        let start = std::time::Instant::now();
        let guest = &mut jail.guest;
        let mut opened = 0;
        while start.elapsed() < std::time::Duration::from_millis(1500) {
            guest.reset();
            for path in [
                "swap/inner/key",
                "swap/../swap/inner/key",
                "self/swap/./inner/key",
            ] {
                if let Ok(contents) = guest.read_file(path) {
                    assert_ne!(contents, SECRET);
                }
                if let Ok(fd) = guest.open(path, CREAT, WRITE) {
                    opened += 1;
                    guest.close(fd);
                }
                let _ = guest.mkdir("swap/inner/made");
                let _ = guest.unlink(path);
                let _ = guest.rename("dir/file", "swap/inner/moved");
                let _ = guest.rename("swap/inner/moved", "dir/file");
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(opened > 0, "the guest never got through");
    });
    assert_eq!(jail.outside(), before);
}

#[test]
fn forty_links_are_followed_and_no_more() {
    for (name, mut guest) in Guest::on_each_file_system() {
        guest.write_file("link0", b"end");
        for index in 1..=41 {
            guest
                .symlink(&format!("link{}", index - 1), &format!("link{index}"))
                .unwrap();
        }
        assert_eq!(guest.read_file("link40").unwrap(), b"end", "{name}");
        assert_eq!(guest.read_file("link41"), Err(Errno::Loop), "{name}");
        assert_eq!(guest.stat("link41").unwrap().file_type, 7);
        // Each link twice as long as the one before: counted, not expanded.
        guest.mkdir("d").unwrap();
        guest.symlink(".", "d/0").unwrap();
        for index in 1..=40 {
            let before = index - 1;
            guest
                .symlink(&format!("{before}/{before}"), &format!("d/{index}"))
                .unwrap();
        }
        assert_eq!(guest.stat("d/40/x"), Err(Errno::Loop));
        assert_eq!(guest.stat("d/3/x"), Err(Errno::Noent));
    }
}

/// `/ro` read-only with descriptor 3, `/rw` writable with descriptor 4, both with `dir/` and `file`.
fn read_only_and_writable(read_only: Mount, writable: Mount) -> Guest {
    let mut filler = Guest::new(KernelBuilder::new().mount("/", read_only.clone()));
    filler.mkdir("dir").unwrap();
    filler.write_file("file", b"old");
    filler.symlink("file", "link").unwrap();
    let mut filler = Guest::new(KernelBuilder::new().mount("/", writable.clone()));
    filler.mkdir("dir").unwrap();
    filler.write_file("file", b"new");
    let builder = KernelBuilder::new()
        .mount("/ro", read_only.read_only())
        .mount("/rw", writable);
    Guest::new(builder)
}

#[test]
fn read_only_mounts_are_never_changed() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = |directory: &tempfile::TempDir| Mount::host(directory.path()).unwrap();
    for mut guest in [
        read_only_and_writable(Mount::memory(), Mount::memory()),
        read_only_and_writable(host(&one), host(&two)),
        read_only_and_writable(
            Mount::overlay(Mount::memory(), 1 << 20),
            host(&tempfile::tempdir().unwrap()),
        ),
    ] {
        let (ro, rw) = (3, 4);
        let open = |guest: &mut Guest, path: &str, oflags, rights| {
            guest.open_with(ro, path, FOLLOW, oflags, rights, 0)
        };
        assert_eq!(open(&mut guest, "new", CREAT, READ), Err(Errno::Rofs));
        assert_eq!(
            open(&mut guest, "new", CREAT | EXCL, WRITE),
            Err(Errno::Rofs)
        );
        assert_eq!(
            open(&mut guest, "file", CREAT | EXCL, READ),
            Err(Errno::Exist)
        );
        assert_eq!(open(&mut guest, "file", TRUNC, READ), Err(Errno::Rofs));
        assert_eq!(open(&mut guest, "link", TRUNC, READ), Err(Errno::Rofs));
        assert_eq!(
            open(&mut guest, "file", CREAT | TRUNC, WRITE),
            Err(Errno::Rofs)
        );
        assert_eq!(open(&mut guest, "file", 0, READ_WRITE), Err(Errno::Rofs));
        assert_eq!(
            open(&mut guest, "file", 0, Rights::FD_ALLOCATE),
            Err(Errno::Rofs)
        );
        assert_eq!(open(&mut guest, "missing", TRUNC, WRITE), Err(Errno::Noent));
        assert_eq!(open(&mut guest, "dir", 0, READ_WRITE), Err(Errno::Isdir));
        // A file that exists may be opened with CREAT for reading.
        let fd = open(&mut guest, "file", CREAT, READ).unwrap();
        assert_eq!(guest.read(fd, 10).unwrap(), b"old");
        assert_eq!(guest.write(fd, b"x"), Err(Errno::Badf));
        assert_eq!(
            guest.call("fd_filestat_set_times", &[fd.into(), 0, 0, 5]),
            Err(Errno::Rofs)
        );
        assert!(guest.call("fd_filestat_set_size", &[fd.into(), 0]).is_err());
        assert!(guest.call("fd_allocate", &[fd.into(), 0, 100]).is_err());
        assert_eq!(
            guest.call("fd_filestat_set_times", &[ro.into(), 0, 0, 5]),
            Err(Errno::Rofs)
        );
        let on = |guest: &mut Guest, name: &str, path: &str| {
            guest.call_path(name, path, &[ro.into(), PATH])
        };
        assert_eq!(
            on(&mut guest, "path_create_directory", "new"),
            Err(Errno::Rofs)
        );
        assert_eq!(
            on(&mut guest, "path_create_directory", "dir"),
            Err(Errno::Exist)
        );
        assert_eq!(
            on(&mut guest, "path_remove_directory", "dir"),
            Err(Errno::Rofs)
        );
        assert_eq!(on(&mut guest, "path_unlink_file", "file"), Err(Errno::Rofs));
        assert_eq!(
            on(&mut guest, "path_unlink_file", "missing"),
            Err(Errno::Noent)
        );
        let times = [ro.into(), 1, PATH, 0, 0, 5];
        assert_eq!(
            guest.call_path("path_filestat_set_times", "file", &times),
            Err(Errno::Rofs)
        );
        assert_eq!(
            guest.call_path("path_filestat_set_times", "dir/", &times),
            Err(Errno::Rofs)
        );
        assert_eq!(guest.symlink_at("file", ro, "new"), Err(Errno::Rofs));
        assert_eq!(
            guest.rename_between(ro, "file", ro, "new"),
            Err(Errno::Rofs)
        );
        assert_eq!(
            guest.link_between(ro, 0, "file", ro, "new"),
            Err(Errno::Rofs)
        );
        // Nothing goes from one mount to the other, in either direction.
        for (from, to) in [(ro, rw), (rw, ro)] {
            for new in ["new", "file", "dir/file"] {
                assert_eq!(
                    guest.rename_between(from, "file", to, new),
                    Err(Errno::Xdev)
                );
            }
            assert_eq!(
                guest.link_between(from, 0, "file", to, "new"),
                Err(Errno::Xdev)
            );
            assert_eq!(
                guest.link_between(from, FOLLOW, "file", to, "new"),
                Err(Errno::Xdev)
            );
        }
        // Directories opened below are read-only, too.
        let dir = open(&mut guest, "dir", DIRECTORY, READ).unwrap();
        assert_eq!(
            guest.open_with(dir, "new", 0, CREAT, WRITE, 0),
            Err(Errno::Rofs)
        );
        let fd = open(&mut guest, "file", 0, READ).unwrap();
        assert_eq!(guest.read(fd, 10).unwrap(), b"old");
        assert_eq!(guest.names(ro), [".", "..", "dir", "file", "link"]);
    }
}

/// `/` in memory, `/data` a host directory with `deep/mount` in memory inside it, all under one root.
fn nested() -> Guest {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("deep/below")).unwrap();
    std::fs::write(directory.path().join("deep/below/file"), b"host").unwrap();
    let builder = KernelBuilder::new()
        .single_root()
        .mount("/", Mount::memory())
        .mount("/data", Mount::host(directory.path()).unwrap())
        .mount("/data/deep/mount", Mount::memory())
        .mount("/made/up/place", Mount::memory());
    let mut guest = Guest::new(builder);
    guest.directory = Some(directory);
    guest
}

#[test]
fn mounts_form_one_tree_under_a_single_root() {
    let mut guest = nested();
    assert_eq!(guest.names(ROOT), [".", "..", "data", "made"]);
    for (path, expected) in [
        ("data", &[".", "..", "deep"][..]),
        ("data/deep", &[".", "..", "below", "mount"]),
        ("made", &[".", "..", "up"]),
        ("made/up", &[".", "..", "place"]),
        ("made/up/place", &[".", ".."]),
    ] {
        let fd = guest.open(path, DIRECTORY, READ).unwrap();
        assert_eq!(guest.names(fd), expected, "{path}");
    }
    guest.write_file("data/deep/mount/file", b"mounted");
    assert_eq!(
        guest.read_file("data/deep/mount/../below/file").unwrap(),
        b"host"
    );
    assert_eq!(
        guest.read_file("data/deep/below/../mount/file").unwrap(),
        b"mounted"
    );
    guest.write_file("made/up/place/file", b"placed");
    // Above the root is the root.
    assert_eq!(
        guest
            .read_file("../../made/up/place/../../../../data/deep/mount/file")
            .unwrap(),
        b"mounted"
    );
    // Nothing can be made where only mount points are.
    assert_eq!(guest.mkdir("made/new"), Err(Errno::Rofs));
    assert_eq!(guest.open("made/up/new", CREAT, WRITE), Err(Errno::Rofs));
    // Mount points stay.
    for path in [
        "data",
        "made",
        "made/up",
        "data/deep",
        "data/deep/mount",
        "data/deep/mount/",
    ] {
        assert_eq!(guest.rmdir(path), Err(Errno::Busy), "{path}");
        assert_eq!(guest.unlink(path), Err(Errno::Isdir));
        assert_eq!(guest.rename(path, "elsewhere"), Err(Errno::Busy));
        assert_eq!(guest.mkdir(path), Err(Errno::Exist));
    }
    assert_eq!(
        guest.rename("data/deep/mount/file", "data/deep/file"),
        Err(Errno::Xdev)
    );
    assert_eq!(
        guest.link("data/deep/mount/file", "data/deep/file"),
        Err(Errno::Xdev)
    );
    // The mounts are different devices.
    let devices: BTreeSet<_> = [".", "data", "data/deep/mount", "made/up/place", "made"]
        .into_iter()
        .map(|path| guest.stat(path).unwrap().device)
        .collect();
    assert_eq!(devices.len(), 5);
}

#[test]
#[cfg(unix)]
fn links_lead_from_mount_to_mount_under_a_single_root() {
    let mut guest = nested();
    guest.write_file("made/up/place/file", b"placed");
    // Relative and absolute, in memory and on the host, through mount points that lie in the host directory.
    guest.symlink("made/up/place/file", "relative").unwrap();
    guest.symlink("/made/up/place/file", "absolute").unwrap();
    let host = guest.directory.as_ref().unwrap().path().to_owned();
    for (target, name) in [
        ("../made/up/place/file", "relative"),
        ("/made/up/place/file", "absolute"),
        ("deep/mount", "to_mount"),
    ] {
        std::os::unix::fs::symlink(target, host.join(name)).unwrap();
    }
    for path in ["relative", "absolute", "data/relative", "data/absolute"] {
        assert_eq!(guest.read_file(path).unwrap(), b"placed", "{path}");
    }
    guest.write_file("data/to_mount/file", b"mounted");
    assert_eq!(guest.read_file("data/deep/mount/file").unwrap(), b"mounted");
    assert!(!host.join("deep/mount").exists());
    assert_eq!(
        guest.readlink("data/absolute").unwrap(),
        "/made/up/place/file"
    );
    // An absolute link of the host means the guest's root, never the host's.
    std::os::unix::fs::symlink("/etc/passwd", host.join("passwd")).unwrap();
    assert_eq!(guest.read_file("data/passwd"), Err(Errno::Noent));
    std::os::unix::fs::symlink("../../../../../../etc/passwd", host.join("passwd2")).unwrap();
    assert_eq!(guest.read_file("data/passwd2"), Err(Errno::Noent));
    // From a directory below, nothing above can be reached.
    let data = guest.open("data", DIRECTORY, READ).unwrap();
    for path in ["relative", "absolute", "passwd", "../made"] {
        assert_eq!(
            guest.stat_with(data, path, FOLLOW),
            Err(Errno::Perm),
            "{path}"
        );
    }
    assert_eq!(guest.readlink_at(data, "absolute", 100), Err(Errno::Perm));
    assert_eq!(guest.symlink_at("/x", data, "y"), Err(Errno::Perm));
}

#[test]
fn the_kernel_resolves_paths_for_other_abis() {
    let mut guest = nested();
    guest.symlink("data/deep/../deep/below", "way").unwrap();
    let kernel = &mut guest.kernel;
    assert_eq!(
        kernel.real_path("/way/./file").unwrap(),
        "/data/deep/below/file"
    );
    assert_eq!(kernel.real_path("/../../..").unwrap(), "/");
    assert_eq!(kernel.real_path("/missing"), Err(Errno::Noent));
    assert_eq!(kernel.real_path("/way/file/x"), Err(Errno::Notdir));
    assert_eq!(kernel.real_path(""), Err(Errno::Noent));
    kernel.set_working_directory("/way").unwrap();
    assert_eq!(kernel.working_directory(), "/data/deep/below");
    assert_eq!(kernel.read_file("file", 100).unwrap(), b"host");
    assert_eq!(kernel.read_file("../below//file", 100).unwrap(), b"host");
    assert_eq!(kernel.read_file("file", 3), Err(Errno::Fbig));
    assert_eq!(kernel.read_file("/data", 3), Err(Errno::Isdir));
    assert!(kernel.exists(".") && kernel.exists("/") && !kernel.exists("nothing"));
    assert_eq!(kernel.set_working_directory("file"), Err(Errno::Notdir));
}

#[test]
#[cfg(target_os = "linux")]
fn links_of_proc_that_jump_are_refused() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    let path = secret.path().display().to_string();
    let held = std::fs::File::open(secret.path()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&held);
    let builder = KernelBuilder::new()
        .single_root()
        .mount("/", Mount::memory())
        .mount("/proc", Mount::host("/proc").unwrap());
    let mut guest = Guest::new(builder);
    // These links are no texts: the system would jump. It is told not to.
    for path in [
        format!("proc/self/root{path}"),
        format!("proc/self/fd/{number}"),
        "proc/self/cwd/src".to_owned(),
        "proc/self/root/".to_owned(),
    ] {
        assert_eq!(guest.stat_with(ROOT, &path, FOLLOW), Err(Errno::Loop));
        assert_eq!(guest.read_file(&path), Err(Errno::Loop), "{path}");
    }
    assert!(guest.stat("proc/self/status").is_ok());
}

#[test]
fn two_mounts_at_one_place_are_an_error() {
    let builder = KernelBuilder::new()
        .mount("/a/b", Mount::memory())
        .mount("a//b/", Mount::memory());
    let error = builder.build().unwrap_err().to_string();
    assert!(error.contains("a//b/"), "{error}");
}
