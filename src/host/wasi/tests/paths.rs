//! Functions on paths.

#![forbid(unsafe_code)]

use super::descriptors::direct_tests;

direct_tests! {
    opening_creates_truncates_and_excludes
    opening_tells_files_from_directories
    interesting_paths_lead_where_unix_says
    metadata_follow_links_when_asked
    times_of_paths_can_be_set
    directories_are_made_and_removed
    files_are_unlinked_and_directories_are_not
    renaming_replaces_what_it_may
    renaming_with_slashes_needs_directories
    hard_links_share_a_file
    symbolic_links_are_made_and_read
    links_are_not_followed_unless_asked
    dangling_links_and_loops_are_errors
    creating_through_a_link_makes_its_target
    long_names_are_refused
    a_directory_descriptor_survives_a_rename
    invalid_flags_are_refused
}

mod cases {
    use super::super::*;

    pub fn opening_creates_truncates_and_excludes() {
        for (_, mut guest) in Guest::on_each_file_system() {
            assert_eq!(guest.open("file", 0, READ), Err(Errno::Noent));
            assert_eq!(guest.open("missing/file", CREAT, READ), Err(Errno::Noent));
            // Creating needs no right to write.
            let fd = guest.open("file", CREAT | EXCL, Rights::empty()).unwrap();
            assert_eq!(guest.write(fd, b"x"), Err(Errno::Badf));
            guest.write_file("file", b"contents");
            assert_eq!(guest.open("file", CREAT | EXCL, READ), Err(Errno::Exist));
            guest.open("file", CREAT, READ).unwrap();
            assert_eq!(guest.read_file("file").unwrap(), b"contents");
            guest.open("file", TRUNC, Rights::empty()).unwrap();
            assert_eq!(guest.read_file("file").unwrap(), b"");
            assert_eq!(
                guest.open_with(0, "file", 0, 0, READ, 0),
                Err(Errno::Notdir)
            );
            let file = guest.open("file", 0, READ).unwrap();
            assert_eq!(
                guest.open_with(file, "file", 0, 0, READ, 0),
                Err(Errno::Notdir)
            );
            assert_eq!(guest.open_with(99, "file", 0, 0, READ, 0), Err(Errno::Badf));
        }
    }

    pub fn opening_tells_files_from_directories() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.mkdir("dir").unwrap();
            guest.write_file("file", b"contents");
            assert_eq!(guest.open("file", DIRECTORY, READ), Err(Errno::Notdir));
            assert_eq!(guest.open("file/", 0, READ), Err(Errno::Notdir));
            assert_eq!(guest.open("file/", TRUNC, WRITE), Err(Errno::Notdir));
            assert_eq!(
                guest.open("file", DIRECTORY | TRUNC, WRITE),
                Err(Errno::Inval)
            );
            assert_eq!(guest.read_file("file").unwrap(), b"contents");
            assert_eq!(guest.open("file/x", 0, READ), Err(Errno::Notdir));
            assert_eq!(guest.open("dir", 0, READ_WRITE), Err(Errno::Isdir));
            assert_eq!(guest.open("dir", DIRECTORY, READ_WRITE), Err(Errno::Isdir));
            assert_eq!(guest.open(".", DIRECTORY, READ_WRITE), Err(Errno::Isdir));
            assert_eq!(guest.open("dir", CREAT, READ), Err(Errno::Isdir));
            assert_eq!(guest.open("dir/", CREAT, READ), Err(Errno::Isdir));
            assert_eq!(guest.open("new/", CREAT, READ), Err(Errno::Isdir));
            assert_eq!(guest.open("dir", CREAT | EXCL, READ), Err(Errno::Exist));
            for path in ["dir", "dir/", "dir///", "dir/.", "./dir", "dir/../dir"] {
                let fd = guest.open(path, DIRECTORY, READ).unwrap();
                assert_eq!(guest.fd_stat(fd).unwrap().file_type, 3, "{path}");
                let fd = guest.open(path, 0, Rights::empty()).unwrap();
                assert_eq!(guest.fd_stat(fd).unwrap().file_type, 3, "{path}");
            }
        }
    }

    pub fn interesting_paths_lead_where_unix_says() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.mkdir("dir").unwrap();
            guest.mkdir("dir/nested").unwrap();
            guest.write_file("dir/nested/file", b"");
            for path in [
                "dir/nested/file",
                "dir/.//nested/../../dir/nested/../nested///./file",
                "./dir/nested/file",
            ] {
                assert_eq!(guest.stat(path).unwrap().file_type, 4, "{path}");
            }
            assert_eq!(guest.stat("/dir/nested/file"), Err(Errno::Perm));
            assert_eq!(guest.stat("dir/nested/file\0"), Err(Errno::Inval));
            assert_eq!(guest.stat(""), Err(Errno::Noent));
            assert_eq!(guest.stat("dir/nested/../../.."), Err(Errno::Perm));
            assert_eq!(
                guest.stat("dir/nested/../../../sandbox/dir"),
                Err(Errno::Perm)
            );
            assert_eq!(guest.stat("dir/nested/file/"), Err(Errno::Notdir));
            assert_eq!(guest.stat("dir/nested/file/.."), Err(Errno::Notdir));
            assert_eq!(guest.stat("dir/missing/.."), Err(Errno::Noent));
        }
    }

    pub fn metadata_follow_links_when_asked() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.write_file("file", b"12345");
            guest.symlink("file", "link").unwrap();
            let file = guest.stat("file").unwrap();
            assert_eq!((file.file_type, file.size, file.links), (4, 5, 1));
            let link = guest.stat("link").unwrap();
            assert_eq!((link.file_type, link.size), (7, 4));
            assert_eq!(guest.stat_with(ROOT, "link", FOLLOW), Ok(file));
            assert_eq!(guest.stat("link/"), Err(Errno::Notdir));
            let root = guest.stat(".").unwrap();
            assert_eq!(root.file_type, 3);
            assert_eq!(guest.fd_stat(ROOT), Ok(root));
            assert_eq!(root.device, file.device);
            assert_eq!(guest.stat_with(9, "file", 0), Err(Errno::Badf));
        }
    }

    pub fn times_of_paths_can_be_set() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.write_file("file", b"");
            guest.symlink("file", "link").unwrap();
            let set = |guest: &mut Guest, path: &str, follow: u32, flags: i64| {
                let arguments = [
                    ROOT.into(),
                    follow.into(),
                    PATH,
                    3_000_000_000,
                    4_000_000_000,
                    flags,
                ];
                guest.call_path("path_filestat_set_times", path, &arguments)
            };
            set(&mut guest, "link", 0, 5).unwrap();
            let link = guest.stat("link").unwrap();
            assert_eq!(
                (link.accessed, link.modified),
                (3_000_000_000, 4_000_000_000)
            );
            assert_ne!(guest.stat("file").unwrap().modified, 4_000_000_000);
            set(&mut guest, "link", FOLLOW, 4).unwrap();
            assert_eq!(guest.stat("file").unwrap().modified, 4_000_000_000);
            set(&mut guest, "file", 0, 10).unwrap();
            assert!(guest.stat("file").unwrap().modified > 1_600_000_000_000_000_000);
            set(&mut guest, ".", 0, 4).unwrap();
            assert_eq!(guest.stat(".").unwrap().modified, 4_000_000_000);
            assert_eq!(set(&mut guest, "file", 0, 12), Err(Errno::Inval));
            assert_eq!(set(&mut guest, "file", 2, 4), Err(Errno::Inval));
            assert_eq!(set(&mut guest, "file/", 0, 4), Err(Errno::Notdir));
            assert_eq!(set(&mut guest, "missing", 0, 4), Err(Errno::Noent));
        }
    }

    pub fn directories_are_made_and_removed() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.mkdir("dir").unwrap();
            guest.mkdir("dir/inner/").unwrap();
            for path in ["dir", "dir/", ".", "..", "dir/inner/..", "dir/."] {
                assert!(
                    matches!(guest.mkdir(path), Err(Errno::Exist | Errno::Perm)),
                    "{path}"
                );
            }
            assert_eq!(guest.mkdir("missing/dir"), Err(Errno::Noent));
            guest.write_file("file", b"");
            assert_eq!(guest.mkdir("file"), Err(Errno::Exist));
            assert_eq!(guest.mkdir("file/dir"), Err(Errno::Notdir));
            assert_eq!(guest.rmdir("dir"), Err(Errno::Notempty));
            assert_eq!(guest.rmdir("file"), Err(Errno::Notdir));
            assert_eq!(guest.rmdir("file/"), Err(Errno::Notdir));
            assert_eq!(guest.rmdir("dir/."), Err(Errno::Inval));
            assert_eq!(guest.rmdir("."), Err(Errno::Inval));
            guest.symlink("dir", "link").unwrap();
            assert_eq!(guest.rmdir("link"), Err(Errno::Notdir));
            assert_eq!(guest.rmdir("link/"), Err(Errno::Notdir));
            let inside = guest.open("dir/inner", DIRECTORY, READ).unwrap();
            guest.rmdir("dir/inner/").unwrap();
            guest.rmdir("dir").unwrap();
            assert_eq!(guest.rmdir("dir"), Err(Errno::Noent));
            // Nothing can be made in a directory that is gone.
            let made = guest.open_with(inside, "file", 0, CREAT, WRITE, 0);
            assert_eq!(made, Err(Errno::Noent));
        }
    }

    pub fn files_are_unlinked_and_directories_are_not() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.mkdir("dir").unwrap();
            guest.write_file("dir/file", b"");
            assert_eq!(guest.unlink("dir"), Err(Errno::Isdir));
            assert_eq!(guest.unlink("dir/"), Err(Errno::Isdir));
            assert_eq!(guest.unlink("."), Err(Errno::Isdir));
            assert_eq!(guest.unlink("dir/file/"), Err(Errno::Notdir));
            assert_eq!(guest.unlink("dir/missing"), Err(Errno::Noent));
            guest.unlink("dir/file").unwrap();
            assert_eq!(guest.stat("dir/file"), Err(Errno::Noent));
            guest.symlink("dir", "link").unwrap();
            guest.unlink("link").unwrap();
            assert_eq!(guest.stat("dir").unwrap().file_type, 3);
        }
    }

    pub fn renaming_replaces_what_it_may() {
        for (name, mut guest) in Guest::on_each_file_system() {
            guest.write_file("one", b"1");
            guest.write_file("two", b"2");
            guest.mkdir("dir").unwrap();
            guest.mkdir("empty").unwrap();
            guest.rename("one", "two").unwrap();
            assert_eq!(guest.stat("one"), Err(Errno::Noent));
            assert_eq!(guest.read_file("two").unwrap(), b"1");
            assert_eq!(guest.rename("two", "empty"), Err(Errno::Isdir));
            assert_eq!(guest.rename("empty", "two"), Err(Errno::Notdir));
            guest.rename("two", "dir/file").unwrap();
            guest.rename("dir/file", "dir/file").unwrap();
            assert_eq!(guest.rename("empty", "dir"), Err(Errno::Notempty));
            assert_eq!(
                guest.rename("dir", "dir/inside"),
                Err(Errno::Inval),
                "{name}"
            );
            assert_eq!(guest.rename("missing", "x"), Err(Errno::Noent));
            assert_eq!(guest.rename("dir", "missing/x"), Err(Errno::Noent));
            guest.rename("dir", "empty").unwrap();
            assert_eq!(guest.read_file("empty/file").unwrap(), b"1");
            assert!(matches!(
                guest.rename(".", "x"),
                Err(Errno::Busy | Errno::Inval)
            ));
            assert!(matches!(
                guest.rename("empty", ".."),
                Err(Errno::Busy | Errno::Perm)
            ));
            // Between two directories that are open.
            guest.mkdir("other").unwrap();
            let from = guest.open("empty", DIRECTORY, READ).unwrap();
            let to = guest.open("other", DIRECTORY, READ).unwrap();
            guest.rename_between(from, "file", to, "file").unwrap();
            assert_eq!(guest.read_file("other/file").unwrap(), b"1");
            assert_eq!(guest.rename_between(1, "a", to, "b"), Err(Errno::Notdir));
            assert_eq!(guest.rename_between(from, "a", 88, "b"), Err(Errno::Badf));
        }
    }

    pub fn renaming_with_slashes_needs_directories() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.mkdir("source").unwrap();
            guest.rename("source/", "target").unwrap();
            guest.rename("target", "source/").unwrap();
            guest.rename("source/", "target/").unwrap();
            guest.write_file("file", b"");
            assert_eq!(guest.rename("file/", "x"), Err(Errno::Notdir));
            assert_eq!(guest.rename("file", "x/"), Err(Errno::Notdir));
            assert_eq!(guest.stat("file").unwrap().file_type, 4);
            // A link to a directory is no directory, even with a slash.
            guest.symlink("target", "link").unwrap();
            assert_eq!(guest.rename("link/", "x"), Err(Errno::Notdir));
            guest.rename("link", "moved").unwrap();
            assert_eq!(guest.readlink("moved").unwrap(), "target");
        }
    }

    pub fn hard_links_share_a_file() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.mkdir("dir").unwrap();
            guest.write_file("file", b"shared");
            guest.link("file", "dir/link").unwrap();
            let (file, link) = (guest.stat("file").unwrap(), guest.stat("dir/link").unwrap());
            assert_eq!(file, link);
            assert_eq!(file.links, 2);
            guest.unlink("file").unwrap();
            assert_eq!(guest.read_file("dir/link").unwrap(), b"shared");
            guest.write_file("file", b"");
            assert_eq!(guest.link("file", "dir/link"), Err(Errno::Exist));
            assert_eq!(guest.link("file", "file"), Err(Errno::Exist));
            assert_eq!(guest.link("file", "dir"), Err(Errno::Exist));
            assert!(matches!(
                guest.link("dir", "x"),
                Err(Errno::Perm | Errno::Acces)
            ));
            assert_eq!(guest.link("file", "x/"), Err(Errno::Noent));
            assert_eq!(guest.link("file/", "x"), Err(Errno::Notdir));
            assert_eq!(guest.link("missing", "x"), Err(Errno::Noent));
            // A link to a symbolic link is one, unless it is followed.
            guest.symlink("file", "symlink").unwrap();
            guest.link("symlink", "same").unwrap();
            assert_eq!(guest.stat("same").unwrap().file_type, 7);
            guest
                .link_between(ROOT, FOLLOW, "symlink", ROOT, "followed")
                .unwrap();
            assert_eq!(guest.stat("followed").unwrap().file_type, 4);
            guest.symlink("nowhere", "dangling").unwrap();
            guest.link("dangling", "also").unwrap();
            let followed = guest.link_between(ROOT, FOLLOW, "dangling", ROOT, "y");
            assert_eq!(followed, Err(Errno::Noent));
            assert_eq!(guest.link("file", "dangling"), Err(Errno::Exist));
        }
    }

    pub fn symbolic_links_are_made_and_read() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.symlink("target", "link").unwrap();
            assert_eq!(guest.readlink("link").unwrap(), "target");
            assert_eq!(guest.readlink_at(ROOT, "link", 4).unwrap(), "targ");
            assert_eq!(guest.readlink_at(ROOT, "link", 0).unwrap(), "");
            assert_eq!(guest.symlink("target", "link"), Err(Errno::Exist));
            assert_eq!(guest.symlink("target", "new/"), Err(Errno::Noent));
            assert_eq!(guest.symlink("", "new"), Err(Errno::Noent));
            assert_eq!(guest.symlink("/etc", "new"), Err(Errno::Perm));
            guest.mkdir("dir").unwrap();
            assert_eq!(guest.symlink("target", "dir"), Err(Errno::Exist));
            assert_eq!(guest.symlink("target", "dir/"), Err(Errno::Exist));
            assert_eq!(guest.symlink("target", "."), Err(Errno::Exist));
            guest.write_file("file", b"");
            assert_eq!(guest.readlink("file"), Err(Errno::Inval));
            assert_eq!(guest.readlink("dir"), Err(Errno::Inval));
            assert_eq!(guest.readlink("."), Err(Errno::Inval));
            assert_eq!(guest.readlink("missing"), Err(Errno::Noent));
        }
    }

    pub fn links_are_not_followed_unless_asked() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.mkdir("dir").unwrap();
            guest.write_file("dir/file", b"found");
            guest.symlink("dir", "to_dir").unwrap();
            guest.symlink("dir/file", "to_file").unwrap();
            let refused = guest.open("to_dir", DIRECTORY, READ);
            assert!(matches!(refused, Err(Errno::Loop | Errno::Notdir)));
            assert_eq!(guest.open("to_dir", 0, READ), Err(Errno::Loop));
            assert_eq!(guest.open("to_file", 0, READ), Err(Errno::Loop));
            let fd = guest
                .open_with(ROOT, "to_dir", FOLLOW, DIRECTORY, READ, 0)
                .unwrap();
            assert_eq!(guest.fd_stat(fd).unwrap().file_type, 3);
            assert_eq!(
                guest.open_with(ROOT, "to_file", FOLLOW, DIRECTORY, READ, 0),
                Err(Errno::Notdir)
            );
            assert_eq!(guest.read_file("to_file").unwrap(), b"found");
            assert_eq!(guest.read_file("to_dir/file").unwrap(), b"found");
            // A link on the way is always followed, `..` goes to the parent of what it leads to.
            guest.mkdir("dir/inner").unwrap();
            guest.symlink("dir/inner", "deep").unwrap();
            assert_eq!(guest.read_file("deep/../file").unwrap(), b"found");
        }
    }

    pub fn dangling_links_and_loops_are_errors() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.symlink("nowhere", "dangling").unwrap();
            let refused = guest.open("dangling", DIRECTORY, READ);
            assert!(matches!(refused, Err(Errno::Loop | Errno::Notdir)));
            assert_eq!(guest.open("dangling", 0, READ), Err(Errno::Loop));
            assert_eq!(guest.read_file("dangling"), Err(Errno::Noent));
            guest.symlink("loop", "loop").unwrap();
            assert_eq!(guest.open("loop", 0, READ), Err(Errno::Loop));
            assert_eq!(guest.read_file("loop"), Err(Errno::Loop));
            assert_eq!(guest.stat("loop/x"), Err(Errno::Loop));
            guest.symlink("pong", "ping").unwrap();
            guest.symlink("ping", "pong").unwrap();
            assert_eq!(guest.stat_with(ROOT, "ping", FOLLOW), Err(Errno::Loop));
        }
    }

    pub fn creating_through_a_link_makes_its_target() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.mkdir("dir").unwrap();
            guest.symlink("dir/made", "link").unwrap();
            assert_eq!(guest.open("link", CREAT, WRITE), Err(Errno::Loop));
            let fd = guest
                .open_with(ROOT, "link", FOLLOW, CREAT, WRITE, 0)
                .unwrap();
            guest.write(fd, b"here").unwrap();
            assert_eq!(guest.read_file("dir/made").unwrap(), b"here");
            guest.symlink("dir/other", "second").unwrap();
            let exclusive = guest.open_with(ROOT, "second", FOLLOW, CREAT | EXCL, WRITE, 0);
            assert_eq!(exclusive, Err(Errno::Exist));
            assert_eq!(guest.stat("dir/other"), Err(Errno::Noent));
        }
    }

    pub fn long_names_are_refused() {
        for (_, mut guest) in Guest::on_each_file_system() {
            let longest = "n".repeat(255);
            guest.write_file(&longest, b"");
            let too_long = "n".repeat(256);
            assert_eq!(guest.stat(&too_long), Err(Errno::Nametoolong));
            assert_eq!(guest.mkdir(&too_long), Err(Errno::Nametoolong));
            assert_eq!(
                guest.stat(&format!("{too_long}/x")),
                Err(Errno::Nametoolong)
            );
            assert_eq!(guest.stat(&"./".repeat(2048)), Err(Errno::Nametoolong));
            assert_eq!(
                guest.symlink(&"x".repeat(4096), "link"),
                Err(Errno::Nametoolong)
            );
            assert_eq!(guest.stat(&"./".repeat(2047)).unwrap().file_type, 3);
        }
    }

    pub fn a_directory_descriptor_survives_a_rename() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.mkdir("before").unwrap();
            guest.write_file("before/file", b"");
            let fd = guest.open("before", DIRECTORY, READ).unwrap();
            guest.rename("before", "after").unwrap();
            assert_eq!(guest.stat_with(fd, "file", 0).unwrap().file_type, 4);
            let new = guest.open_with(fd, "new", 0, CREAT, WRITE, 0).unwrap();
            guest.close(new);
            assert_eq!(guest.stat("after/new").unwrap().file_type, 4);
        }
    }

    pub fn invalid_flags_are_refused() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.write_file("file", b"");
            assert_eq!(guest.open("file", 16, READ), Err(Errno::Inval));
            assert_eq!(
                guest.open_with(ROOT, "file", 2, 0, READ, 0),
                Err(Errno::Inval)
            );
            assert_eq!(
                guest.open_with(ROOT, "file", 0, 0, READ, 32),
                Err(Errno::Inval)
            );
            assert_eq!(
                guest.open_with(ROOT, "file", 0, 0, READ, 1 << 16),
                Err(Errno::Inval)
            );
            assert_eq!(guest.stat_with(ROOT, "file", 4), Err(Errno::Inval));
            assert_eq!(
                guest.link_between(ROOT, 2, "file", ROOT, "x"),
                Err(Errno::Inval)
            );
        }
    }
}
