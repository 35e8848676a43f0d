//! Functions on descriptors.

#![forbid(unsafe_code)]

macro_rules! direct_tests {
    ($($name:ident)*) => {
        /// For `every_function_has_a_direct_test`.
        pub fn all() {
            $(cases::$name();)*
        }
        mod run {
            $(#[test] fn $name() { super::cases::$name(); })*
        }
    };
}
pub(super) use direct_tests;

direct_tests! {
    reads_and_writes_move_a_shared_position
    scattered_buffers_are_filled_in_order
    positional_transfers_leave_the_position
    appending_writes_at_the_end_until_the_flag_is_cleared
    seeking_checks_its_result
    directories_and_streams_do_not_seek
    sizes_can_be_set_and_allocated
    times_of_files_can_be_set
    descriptor_status_tells_type_flags_and_rights
    rights_can_only_be_given_up
    listings_have_stable_cookies_and_inodes
    a_listing_of_a_thousand_files_comes_in_pieces
    many_large_listings_are_not_all_kept
    advice_and_sync_are_accepted_for_files
    only_preopens_have_a_prestat
    renumbering_replaces_an_open_descriptor
    streams_are_read_and_written
    reading_a_directory_is_refused
    descriptors_run_out
    a_removed_file_lives_as_long_as_it_is_open
    old_layouts_serve_wasi_unstable
}

mod cases {
    use super::super::*;

    pub fn reads_and_writes_move_a_shared_position() {
        for (_, mut guest) in Guest::on_each_file_system() {
            let fd = guest.open("file", CREAT, READ_WRITE).unwrap();
            assert_eq!(guest.write(fd, b"hello world"), Ok(11));
            assert_eq!(guest.seek(fd, 0, 0), Ok(0));
            assert_eq!(guest.read(fd, 5).unwrap(), b"hello");
            let same = guest.kernel.dup(fd).unwrap();
            assert_eq!(guest.read(same, 100).unwrap(), b" world");
            assert_eq!(guest.read(fd, 100).unwrap(), b"");
            assert_eq!(guest.seek(fd, 6, 0), Ok(6));
            guest.close(fd);
            assert_eq!(guest.read(same, 100).unwrap(), b"world");
            assert_eq!(guest.read(fd, 1), Err(Errno::Badf));
            let read_only = guest.open("file", 0, READ).unwrap();
            assert_eq!(guest.write(read_only, b"x"), Err(Errno::Badf));
            let write_only = guest.open("file", 0, WRITE).unwrap();
            assert_eq!(guest.read(write_only, 1), Err(Errno::Badf));
        }
    }

    pub fn scattered_buffers_are_filled_in_order() {
        for (_, mut guest) in Guest::on_each_file_system() {
            let fd = guest.open("file", CREAT, READ_WRITE).unwrap();
            let first = guest.bytes(b"abc");
            let second = guest.bytes(b"defgh");
            let mut list = Vec::new();
            for number in [first, 3, 0, 0, second, 5] {
                list.extend(number.to_le_bytes());
            }
            let list = guest.bytes(&list);
            let count = guest.alloc(4);
            let arguments = [fd.into(), list.into(), 3, count.into()];
            guest.call("fd_write", &arguments).unwrap();
            assert_eq!(guest.u32_at(count), 8);
            guest.seek(fd, 1, 0).unwrap();
            guest.call("fd_read", &arguments).unwrap();
            assert_eq!(guest.u32_at(count), 7);
            assert_eq!(&guest.memory[first as usize..][..3], b"bcd");
            assert_eq!(&guest.memory[second as usize..][..5], b"efghh");
            // An empty list still asks whether the descriptor can be used.
            assert_eq!(
                guest.call("fd_read", &[fd.into(), list.into(), 0, count.into()]),
                Ok(())
            );
            assert_eq!(guest.u32_at(count), 0);
            let closed = [99, list.into(), 0, count.into()];
            assert_eq!(guest.call("fd_read", &closed), Err(Errno::Badf));
            assert_eq!(guest.call("fd_write", &closed), Err(Errno::Badf));
        }
    }

    pub fn positional_transfers_leave_the_position() {
        for (_, mut guest) in Guest::on_each_file_system() {
            let fd = guest.open("file", CREAT, READ_WRITE).unwrap();
            assert_eq!(guest.pwrite(fd, b"abcdef", 4), Ok(6));
            assert_eq!(guest.pread(fd, 20, 2).unwrap(), b"\0\0abcdef");
            assert_eq!(guest.pread(fd, 20, 100).unwrap(), b"");
            assert_eq!(guest.read(fd, 1).unwrap(), b"\0");
            assert_eq!(guest.pread(fd, 1, u64::MAX), Err(Errno::Inval));
            assert_eq!(guest.pwrite(fd, b"x", u64::MAX), Err(Errno::Inval));
            assert!(guest.pwrite(fd, b"x", i64::MAX as u64).is_err());
            assert_eq!(guest.pread(1, 1, 0), Err(Errno::Badf));
            assert_eq!(guest.pread(0, 1, 0), Err(Errno::Spipe));
        }
    }

    pub fn appending_writes_at_the_end_until_the_flag_is_cleared() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.write_file("file", b"12345");
            let fd = guest.open_with(ROOT, "file", 0, 0, READ_WRITE, 1).unwrap();
            assert_eq!(guest.write(fd, b"67"), Ok(2));
            assert_eq!(guest.seek(fd, 0, 1), Ok(7));
            guest.seek(fd, 0, 0).unwrap();
            assert_eq!(guest.write(fd, b"8"), Ok(1));
            guest.call("fd_fdstat_set_flags", &[fd.into(), 0]).unwrap();
            guest.seek(fd, 0, 0).unwrap();
            assert_eq!(guest.write(fd, b"x"), Ok(1));
            assert_eq!(guest.read_file("file").unwrap(), b"x2345678");
            assert_eq!(
                guest.call("fd_fdstat_set_flags", &[fd.into(), 32]),
                Err(Errno::Inval)
            );
            assert_eq!(
                guest.call("fd_fdstat_set_flags", &[77, 0]),
                Err(Errno::Badf)
            );
        }
    }

    pub fn seeking_checks_its_result() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.write_file("file", b"12345");
            let fd = guest.open("file", 0, READ).unwrap();
            assert_eq!(guest.seek(fd, -2, 2), Ok(3));
            assert_eq!(guest.seek(fd, -1, 1), Ok(2));
            assert_eq!(guest.seek(fd, 1000, 1), Ok(1002));
            assert_eq!(guest.seek(fd, -1, 0), Err(Errno::Inval));
            assert_eq!(guest.seek(fd, i64::MIN, 2), Err(Errno::Inval));
            assert_eq!(guest.seek(fd, i64::MAX, 1), Err(Errno::Inval));
            assert_eq!(guest.seek(fd, 0, 3), Err(Errno::Inval));
            let at = guest.alloc(8);
            guest.call("fd_tell", &[fd.into(), at.into()]).unwrap();
            assert_eq!(guest.u64_at(at), 1002);
        }
    }

    pub fn directories_and_streams_do_not_seek() {
        for (_, mut guest) in Guest::on_each_file_system() {
            assert_eq!(guest.seek(ROOT, 0, 1), Err(Errno::Badf));
            assert_eq!(guest.seek(0, 0, 1), Err(Errno::Spipe));
            let at = guest.alloc(8);
            assert_eq!(
                guest.call("fd_tell", &[ROOT.into(), at.into()]),
                Err(Errno::Badf)
            );
            assert_eq!(guest.call("fd_tell", &[1, at.into()]), Err(Errno::Spipe));
            assert_eq!(guest.seek(50, 0, 0), Err(Errno::Badf));
        }
    }

    pub fn sizes_can_be_set_and_allocated() {
        for (_, mut guest) in Guest::on_each_file_system() {
            let fd = guest.open("file", CREAT, READ_WRITE).unwrap();
            guest.write(fd, b"0123456789").unwrap();
            let set_size = |guest: &mut Guest, size: i64| {
                guest.call("fd_filestat_set_size", &[fd.into(), size])
            };
            set_size(&mut guest, 4).unwrap();
            assert_eq!(guest.fd_stat(fd).unwrap().size, 4);
            set_size(&mut guest, 6).unwrap();
            assert_eq!(guest.pread(fd, 10, 0).unwrap(), b"0123\0\0");
            assert_eq!(set_size(&mut guest, -1), Err(Errno::Inval));
            let allocate = |guest: &mut Guest, offset: i64, length: i64| {
                guest.call("fd_allocate", &[fd.into(), offset, length])
            };
            allocate(&mut guest, 2, 2).unwrap();
            assert_eq!(guest.fd_stat(fd).unwrap().size, 6);
            allocate(&mut guest, 90, 20).unwrap();
            assert_eq!(guest.fd_stat(fd).unwrap().size, 110);
            assert_eq!(allocate(&mut guest, 0, 0), Err(Errno::Inval));
            assert_eq!(allocate(&mut guest, -1, 5), Err(Errno::Fbig));
            assert_eq!(
                guest.call("fd_allocate", &[ROOT.into(), 0, 1]),
                Err(Errno::Badf)
            );
            assert_eq!(
                guest.call("fd_filestat_set_size", &[ROOT.into(), 1]),
                Err(Errno::Inval)
            );
            let read_only = guest.open("file", 0, READ).unwrap();
            let arguments = [read_only.into(), 1];
            assert_eq!(
                guest.call("fd_filestat_set_size", &arguments),
                Err(Errno::Inval)
            );
        }
    }

    pub fn times_of_files_can_be_set() {
        for (name, mut guest) in Guest::on_each_file_system() {
            let fd = guest.open("file", CREAT, READ_WRITE).unwrap();
            let before = guest.fd_stat(fd).unwrap();
            assert!(before.modified > 1_600_000_000_000_000_000, "{name}");
            let new = before.modified as i64 - 1_000_000_100;
            let set = |guest: &mut Guest, flags: i64| {
                guest.call(
                    "fd_filestat_set_times",
                    &[fd.into(), 5_000_000_000, new, flags],
                )
            };
            set(&mut guest, 4).unwrap();
            let after = guest.fd_stat(fd).unwrap();
            assert_eq!(after.modified, new as u64);
            assert_eq!(after.accessed, before.accessed);
            set(&mut guest, 1 | 8).unwrap();
            let after = guest.fd_stat(fd).unwrap();
            assert_eq!(after.accessed, 5_000_000_000);
            assert!(after.modified >= before.modified);
            assert_eq!(set(&mut guest, 3), Err(Errno::Inval));
            assert_eq!(set(&mut guest, 12), Err(Errno::Inval));
            assert_eq!(set(&mut guest, 16), Err(Errno::Inval));
            // Directories have times, too.
            let arguments = [ROOT.into(), 7_000_000_000, 8_000_000_000, 5];
            guest.call("fd_filestat_set_times", &arguments).unwrap();
            let root = guest.fd_stat(ROOT).unwrap();
            assert_eq!(
                (root.accessed, root.modified),
                (7_000_000_000, 8_000_000_000)
            );
        }
    }

    pub fn descriptor_status_tells_type_flags_and_rights() {
        for (_, mut guest) in Guest::on_each_file_system() {
            let status = |guest: &mut Guest, fd: u32| {
                let at = guest.alloc(24);
                guest.call("fd_fdstat_get", &[fd.into(), at.into()])?;
                let flags =
                    u16::from_le_bytes(guest.memory[at as usize + 2..][..2].try_into().unwrap());
                Ok((
                    guest.memory[at as usize],
                    flags,
                    guest.u64_at(at + 8),
                    guest.u64_at(at + 16),
                ))
            };
            let (file_type, flags, rights, inheriting) = status(&mut guest, ROOT).unwrap();
            assert_eq!((file_type, flags), (3, 0));
            assert_eq!(
                rights & (Rights::FD_SEEK | Rights::FD_FILESTAT_SET_SIZE).bits(),
                0
            );
            assert_ne!(rights & Rights::PATH_OPEN.bits(), 0);
            assert_ne!(inheriting & Rights::FD_WRITE.bits(), 0);
            // APPEND and SYNC.
            let fd = guest
                .open_with(ROOT, "file", 0, CREAT, READ, 1 | 16)
                .unwrap();
            let (file_type, flags, rights, _) = status(&mut guest, fd).unwrap();
            assert_eq!((file_type, flags), (4, 17));
            assert_ne!(rights & Rights::FD_READ.bits(), 0);
            assert_eq!(rights & Rights::FD_WRITE.bits(), 0);
            // A stream that is no terminal must not look like one.
            let (file_type, _, rights, _) = status(&mut guest, 1).unwrap();
            assert_eq!(file_type, 0);
            assert_eq!(
                rights & (Rights::FD_SEEK | Rights::FD_READ).bits(),
                Rights::FD_READ.bits() & rights
            );
            assert_eq!(status(&mut guest, 44), Err(Errno::Badf));
        }
    }

    pub fn rights_can_only_be_given_up() {
        for (_, mut guest) in Guest::on_each_file_system() {
            let fd = guest.open("file", CREAT, READ_WRITE).unwrap();
            let kept = (Rights::FD_SEEK | Rights::FD_TELL).bits() as i64;
            guest
                .call("fd_fdstat_set_rights", &[fd.into(), kept, 0])
                .unwrap();
            assert_eq!(guest.read(fd, 1), Err(Errno::Notcapable));
            assert_eq!(guest.write(fd, b"x"), Err(Errno::Notcapable));
            let more = kept | Rights::FD_READ.bits() as i64;
            assert_eq!(
                guest.call("fd_fdstat_set_rights", &[fd.into(), more, 0]),
                Err(Errno::Notcapable)
            );
            assert_eq!(
                guest.call("fd_fdstat_set_rights", &[fd.into(), -1, -1]),
                Err(Errno::Notcapable)
            );
            // Without the right to set sizes by path, files cannot be truncated.
            let base = Rights::DIRECTORY
                .difference(Rights::PATH_FILESTAT_SET_SIZE)
                .bits() as i64;
            guest
                .call("fd_fdstat_set_rights", &[ROOT.into(), base, 0])
                .unwrap();
            assert_eq!(
                guest.open("file", TRUNC, Rights::empty()),
                Err(Errno::Notcapable)
            );
            assert_eq!(
                guest.call("fd_fdstat_set_rights", &[55, 0, 0]),
                Err(Errno::Badf)
            );
        }
    }

    pub fn listings_have_stable_cookies_and_inodes() {
        for (name, mut guest) in Guest::on_each_file_system() {
            guest.mkdir("empty").unwrap();
            let fd = guest.open("empty", DIRECTORY, READ).unwrap();
            let (entries, more) = guest.readdir_once(fd, 512, 0).unwrap();
            assert!(!more, "{name}");
            assert_eq!(entries.len(), 2);
            assert_eq!(
                (entries[0].name.as_str(), entries[1].name.as_str()),
                (".", "..")
            );
            assert_eq!(entries[0].inode, guest.fd_stat(fd).unwrap().inode);
            assert!(entries.iter().all(|entry| entry.file_type == 3));
            guest.write_file("empty/file", b"");
            guest.symlink("file", "empty/link").unwrap();
            // The listing stays as it was until it is read from its start again.
            assert_eq!(guest.readdir_once(fd, 512, 2).unwrap().0, []);
            let (entries, _) = guest.readdir_once(fd, 512, 0).unwrap();
            assert_eq!(entries.len(), 4);
            for entry in &entries[2..] {
                let stat = guest.stat(&format!("empty/{}", entry.name)).unwrap();
                assert_eq!(entry.inode, stat.inode, "{name}");
                assert_eq!(entry.file_type, stat.file_type);
            }
            for entry in &entries[..3] {
                let (rest, _) = guest.readdir_once(fd, 512, entry.next).unwrap();
                assert_eq!(rest, entries[entry.next as usize..]);
            }
            assert_eq!(guest.readdir_once(fd, 512, u64::MAX).unwrap().0, []);
            assert_eq!(guest.readdir_once(fd, 0, 0).unwrap(), (vec![], true));
            assert_eq!(guest.readdir_once(1, 64, 0), Err(Errno::Notdir));
            assert_eq!(guest.readdir_once(66, 64, 0), Err(Errno::Badf));
        }
    }

    pub fn a_listing_of_a_thousand_files_comes_in_pieces() {
        for (_, mut guest) in Guest::on_each_file_system() {
            for index in 0..1000 {
                let fd = guest.open(&format!("file.{index}"), CREAT, WRITE).unwrap();
                guest.close(fd);
                guest.reset();
            }
            let names = guest.names(ROOT);
            assert_eq!(names.len(), 1002);
            assert!((0..1000).all(|index| names.contains(&format!("file.{index}"))));
        }
    }

    pub fn many_large_listings_are_not_all_kept() {
        let mut guest = Guest::new(KernelBuilder::new().mount("/", Mount::memory()));
        guest.mkdir("d").unwrap();
        guest.write_file("file", b"");
        for index in 0..20_000 {
            guest.link("file", &format!("d/{index}")).unwrap();
            guest.reset();
        }
        let directories: Vec<u32> = (0..20)
            .map(|_| guest.open("d", DIRECTORY, READ).unwrap())
            .collect();
        let mut expected = None;
        for fd in &directories {
            let (entries, _) = guest.readdir_once(*fd, 512, 0).unwrap();
            assert_eq!(*expected.get_or_insert(entries.clone()), entries);
        }
        let kept: usize = guest
            .kernel
            .listings
            .iter()
            .map(|(_, list)| list.len())
            .sum();
        assert!(kept <= 1 << 17, "{kept} entries are kept");
        assert!(guest.kernel.listings.len() > 1);
        // One that was forgotten goes on where it was.
        let cookie = expected.unwrap()[4].next;
        let (next, _) = guest.readdir_once(directories[0], 512, cookie).unwrap();
        let (same, _) = guest.readdir_once(directories[19], 512, cookie).unwrap();
        assert_eq!(next, same);
    }

    pub fn advice_and_sync_are_accepted_for_files() {
        for (_, mut guest) in Guest::on_each_file_system() {
            let fd = i64::from(guest.open("file", CREAT, READ_WRITE).unwrap());
            assert_eq!(guest.call("fd_advise", &[fd, 0, 100, 3]), Ok(()));
            assert_eq!(guest.call("fd_advise", &[fd, 0, 100, 6]), Err(Errno::Inval));
            assert_eq!(
                guest.call("fd_advise", &[fd, -1, 100, 0]),
                Err(Errno::Inval)
            );
            assert_eq!(guest.call("fd_advise", &[1, 0, 0, 0]), Err(Errno::Spipe));
            assert_eq!(
                guest.call("fd_advise", &[ROOT.into(), 0, 0, 0]),
                Err(Errno::Badf)
            );
            assert_eq!(guest.call("fd_sync", &[fd]), Ok(()));
            assert_eq!(guest.call("fd_datasync", &[fd]), Ok(()));
            assert_eq!(guest.call("fd_sync", &[ROOT.into()]), Ok(()));
            assert_eq!(guest.call("fd_sync", &[1]), Err(Errno::Inval));
            assert_eq!(guest.call("fd_datasync", &[45]), Err(Errno::Badf));
        }
    }

    pub fn only_preopens_have_a_prestat() {
        for (_, mut guest) in Guest::on_each_file_system() {
            let at = guest.alloc(8);
            guest
                .call("fd_prestat_get", &[ROOT.into(), at.into()])
                .unwrap();
            assert_eq!(guest.memory[at as usize], 0);
            let length = guest.u32_at(at + 4);
            assert_eq!(length, 8);
            let name = guest.alloc(16);
            let arguments = [ROOT.into(), name.into(), i64::from(length) + 1];
            guest.call("fd_prestat_dir_name", &arguments).unwrap();
            assert_eq!(&guest.memory[name as usize..][..9], b"/sandbox\0");
            let arguments = [ROOT.into(), name.into(), 7];
            assert_eq!(
                guest.call("fd_prestat_dir_name", &arguments),
                Err(Errno::Nametoolong)
            );
            // wasi-libc ends the process at any other error than this one.
            let directory = guest.open(".", DIRECTORY, READ).unwrap();
            for fd in [0, 1, 2, directory.into(), 1000, -1] {
                assert_eq!(
                    guest.call("fd_prestat_get", &[fd, at.into()]),
                    Err(Errno::Badf)
                );
                let arguments = [fd, name.into(), 16];
                assert_eq!(
                    guest.call("fd_prestat_dir_name", &arguments),
                    Err(Errno::Badf)
                );
            }
        }
    }

    pub fn renumbering_replaces_an_open_descriptor() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.write_file("one", b"1");
            guest.write_file("two", b"2");
            let one = guest.open("one", 0, READ).unwrap();
            let two = guest.open("two", 0, READ).unwrap();
            guest
                .call("fd_renumber", &[one.into(), two.into()])
                .unwrap();
            assert_eq!(guest.read(two, 1).unwrap(), b"1");
            assert_eq!(guest.call("fd_close", &[one.into()]), Err(Errno::Badf));
            assert_eq!(
                guest.call("fd_renumber", &[two.into(), one.into()]),
                Err(Errno::Badf)
            );
            assert_eq!(
                guest.call("fd_renumber", &[one.into(), two.into()]),
                Err(Errno::Badf)
            );
            assert_eq!(
                guest.call("fd_renumber", &[two.into(), -1]),
                Err(Errno::Badf)
            );
            // Over a preopen: it is closed.
            let directory = guest.open(".", DIRECTORY, READ).unwrap();
            guest
                .call("fd_renumber", &[directory.into(), ROOT.into()])
                .unwrap();
            let at = guest.alloc(8);
            assert_eq!(
                guest.call("fd_prestat_get", &[ROOT.into(), at.into()]),
                Err(Errno::Badf)
            );
            assert_eq!(guest.read_file("two").unwrap(), b"2");
            // Over standard output.
            guest.call("fd_renumber", &[1, two.into()]).unwrap();
            assert_eq!(guest.open("one", 0, READ), Ok(1));
        }
    }

    pub fn streams_are_read_and_written() {
        let (input, output, errors) = (Pipe::from_bytes("input"), Pipe::capture(), Pipe::capture());
        let builder = KernelBuilder::new()
            .stdin(&input)
            .stdout(&output)
            .stderr(&errors);
        let mut guest = Guest::new(builder);
        assert_eq!(guest.read(0, 3).unwrap(), b"inp");
        assert_eq!(guest.read(0, 10).unwrap(), b"ut");
        assert_eq!(guest.read(0, 10).unwrap(), b"");
        assert_eq!(guest.write(1, b"out"), Ok(3));
        assert_eq!(guest.write(2, b"err"), Ok(3));
        assert_eq!(guest.write(0, b"x"), Err(Errno::Badf));
        assert_eq!(guest.read(1, 1), Err(Errno::Badf));
        assert_eq!(
            (output.take_text(), errors.take_text()),
            ("out".into(), "err".into())
        );
        assert_eq!(guest.fd_stat(1).unwrap().file_type, 0);
        // Unless told otherwise, standard streams lead nowhere.
        let mut guest = Guest::new(KernelBuilder::new());
        assert_eq!(guest.read(0, 3).unwrap(), b"");
        assert_eq!(guest.write(1, b"lost"), Ok(4));
        let (reader, writer) = guest.kernel.pipe().unwrap();
        guest.write(writer, b"through").unwrap();
        assert_eq!(guest.read(reader, 100).unwrap(), b"through");
        assert_eq!(guest.read(reader, 100), Err(Errno::Again));
        guest.close(writer);
        assert_eq!(guest.read(reader, 100).unwrap(), b"");
    }

    pub fn reading_a_directory_is_refused() {
        for (_, mut guest) in Guest::on_each_file_system() {
            assert_eq!(guest.read(ROOT, 1), Err(Errno::Isdir));
            assert_eq!(guest.write(ROOT, b"x"), Err(Errno::Isdir));
            assert_eq!(guest.pread(ROOT, 1, 0), Err(Errno::Isdir));
            assert_eq!(guest.pwrite(ROOT, b"x", 0), Err(Errno::Isdir));
        }
    }

    pub fn descriptors_run_out() {
        let builder = KernelBuilder::new()
            .mount("/", Mount::memory())
            .descriptor_limit(8);
        let mut guest = Guest::new(builder);
        guest.write_file("file", b"");
        for expected in 4..8 {
            assert_eq!(guest.open("file", 0, READ), Ok(expected));
        }
        assert_eq!(guest.open("file", 0, READ), Err(Errno::Mfile));
        guest.close(5);
        assert_eq!(guest.open("file", 0, READ), Ok(5));
    }

    pub fn a_removed_file_lives_as_long_as_it_is_open() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.write_file("file", b"still here");
            let fd = guest.open("file", 0, READ_WRITE).unwrap();
            guest.unlink("file").unwrap();
            assert_eq!(guest.stat("file"), Err(Errno::Noent));
            assert_eq!(guest.read(fd, 100).unwrap(), b"still here");
            assert_eq!(guest.write(fd, b"!"), Ok(1));
            assert_eq!(guest.fd_stat(fd).unwrap().links, 0);
        }
    }

    pub fn old_layouts_serve_wasi_unstable() {
        for (_, mut guest) in Guest::on_each_file_system() {
            guest.write_file("file", b"12345");
            let fd = guest.open("file", 0, READ).unwrap();
            guest.module = UNSTABLE;
            let at = guest.alloc(56);
            guest
                .call("fd_filestat_get", &[fd.into(), at.into()])
                .unwrap();
            assert_eq!(
                (guest.memory[at as usize + 16], guest.u32_at(at + 20)),
                (4, 1)
            );
            assert_eq!(guest.u64_at(at + 24), 5);
            let arguments = [ROOT.into(), 0, PATH, at.into()];
            guest
                .call_path("path_filestat_get", "file", &arguments)
                .unwrap();
            assert_eq!(guest.u64_at(at + 24), 5);
            // CUR, END, SET were 0, 1, 2.
            assert_eq!(guest.seek(fd, -1, 1), Ok(4));
            assert_eq!(guest.seek(fd, -1, 0), Ok(3));
            assert_eq!(guest.seek(fd, 2, 2), Ok(2));
            assert_eq!(guest.seek(fd, 2, 3), Err(Errno::Inval));
        }
    }
}
