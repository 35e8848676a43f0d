//! Pointers, lengths, descriptors and flags that lie, for every function of the table; and random sequences of calls.

#![forbid(unsafe_code)]

use super::*;
use crate::host::Clock;

/// The same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize]
    }
}

/// A guest with everything that descriptors can be: streams, a directory in memory (3), one of the host (4), a file (5),
/// a read-only file system (6) and a pipe (7, 8). Time is virtual, so that nothing sleeps.
fn guest() -> Guest {
    let directory = tempfile::tempdir().unwrap();
    let builder = KernelBuilder::new()
        .args(["program", "argument"])
        .env("NAME", "value")
        .stdin(&Pipe::from_bytes(vec![1; 1000]))
        .mount("/memory", Mount::memory_with_quota(1 << 20))
        .mount("/host", Mount::host(directory.path()).unwrap())
        .clock(Clock::fixed(1_000_000_000))
        .seed(1)
        .descriptor_limit(32);
    let mut guest = Guest::new(builder);
    guest.directory = Some(directory);
    guest.write_file("file", &[2; 500]);
    guest.mkdir("dir").unwrap();
    guest.symlink("file", "link").unwrap();
    assert_eq!(guest.open("file", 0, READ_WRITE), Ok(5));
    assert_eq!(guest.kernel.dup(3), Ok(6));
    assert_eq!(guest.kernel.pipe(), Ok((7, 8)));
    guest
}

const END: i64 = 1 << 16;
const POINTERS: [i64; 9] = [
    0,
    1,
    4096,
    END - 64,
    END - 1,
    END,
    END + 1,
    1 << 31,
    0xffff_ffff,
];
const LENGTHS: [i64; 7] = [0, 1, 4, 1 << 16, (1 << 16) + 1, 1 << 31, 0xffff_ffff];
const DESCRIPTORS: [i64; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1 << 31, 0xffff_ffff];
const FLAGS: [i64; 7] = [0, 1, 2, 3, 15, 1 << 16, 0xffff_ffff];
const WIDE: [i64; 8] = [0, 1, 5, 1 << 32, i64::MAX, i64::MIN, -1, 0x1fff_ffff];

/// Values that fit a parameter's role, which its name tells.
fn values_for(name: &str, ty: ValType) -> &'static [i64] {
    match name {
        _ if ty == ValType::I64 => &WIDE,
        "fd" | "to" | "old_fd" | "new_fd" => &DESCRIPTORS,
        "iovs_len" | "path_len" | "buf_len" | "nsubscriptions" | "old_path_len"
        | "new_path_len" => &LENGTHS,
        "flags" | "dirflags" | "oflags" | "fdflags" | "fst_flags" | "whence" | "advice" | "how"
        | "id" | "signal" | "old_flags" | "status" => &FLAGS,
        _ => &POINTERS,
    }
}

/// Memory full of things that look like paths, lists of buffers, and subscriptions.
fn fill(memory: &mut [u8], numbers: &mut Numbers) {
    let words: [u32; 12] = [
        0,
        1,
        64,
        4096,
        (END - 1) as u32,
        END as u32,
        (END + 1) as u32,
        1 << 31,
        u32::MAX,
        u32::from_le_bytes(*b"file"),
        u32::from_le_bytes(*b"dir/"),
        u32::from_le_bytes(*b"../x"),
    ];
    for chunk in memory.chunks_exact_mut(4) {
        chunk.copy_from_slice(&numbers.pick(&words).to_le_bytes());
    }
}

#[test]
fn hostile_arguments_give_errors_and_never_a_panic() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut calls = 0;
    let mut faults = 0;
    for module in [PREVIEW1, UNSTABLE] {
        for row in FUNCTIONS {
            let row = function(module, row.name).unwrap();
            let mut guest = guest();
            guest.module = module;
            guest.memory.truncate(END as usize);
            let combinations: u64 = row
                .parameters
                .iter()
                .map(|(name, ty)| values_for(name, *ty).len() as u64)
                .product();
            let rounds = combinations.min(700);
            for round in 0..rounds {
                fill(&mut guest.memory, &mut numbers);
                let mut rest = round;
                let arguments: Vec<i64> = row
                    .parameters
                    .iter()
                    .map(|(name, ty)| {
                        let values = values_for(name, *ty);
                        if combinations <= 700 {
                            // All of them, one after the other.
                            let value = values[(rest % values.len() as u64) as usize];
                            rest /= values.len() as u64;
                            value
                        } else {
                            numbers.pick(values)
                        }
                    })
                    .collect();
                let result = guest.call_raw(row.name, &arguments);
                calls += 1;
                faults += u32::from(result == Err(Refusal::Errno(Errno::Fault)));
                assert_eq!(guest.memory.len(), END as usize);
                if row.name == "fd_renumber" || row.name == "fd_close" {
                    guest = super::hostile::guest();
                    guest.module = module;
                    guest.memory.truncate(END as usize);
                }
            }
        }
    }
    assert!(calls >= 10_000, "{calls} calls");
    assert!(faults >= 1_000, "{faults} faults");
}

#[test]
fn a_result_that_has_no_place_leaves_nothing_behind() {
    let mut guest = guest();
    let end = guest.memory.len() as i64;
    let before = guest.kernel.descriptors.open_numbers().count();
    let path = guest.bytes(b"made");
    for at in [end - 3, end, 0xffff_ffff] {
        let arguments = [3, 0, path.into(), 4, CREAT.into(), -1, -1, 0, at];
        assert_eq!(guest.call("path_open", &arguments), Err(Errno::Fault));
        assert_eq!(guest.stat("made"), Err(Errno::Noent));
        assert_eq!(guest.call("fd_read", &[0, 0, 0, at]), Err(Errno::Fault));
        assert_eq!(guest.call("fd_write", &[5, 0, 0, at]), Err(Errno::Fault));
        assert_eq!(guest.call("fd_seek", &[5, 10, 0, at]), Err(Errno::Fault));
    }
    assert_eq!(guest.kernel.descriptors.open_numbers().count(), before);
    // Standard input was not read, the file's position was not moved.
    assert_eq!(guest.read(0, 5000).unwrap().len(), 1000);
    assert_eq!(guest.seek(5, 0, 1), Ok(0));
}

#[test]
fn overlapping_buffers_and_lists_are_harmless() {
    let mut guest = guest();
    // The buffers lie over the list itself and over each other.
    let at = guest.alloc(64);
    let list: Vec<u8> = [at, 32, at, 16, at + 8, 8, at + 4, 4]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    guest.memory[at as usize..][..32].copy_from_slice(&list);
    let count = guest.alloc(4);
    guest
        .call("fd_read", &[5, at.into(), 4, count.into()])
        .unwrap();
    assert_eq!(guest.u32_at(count), 60);
    // The count lies in a buffer that is read.
    guest.memory[at as usize..][..32].copy_from_slice(&list);
    guest
        .call("fd_read", &[5, at.into(), 1, at.into()])
        .unwrap();
    assert_eq!(guest.u32_at(at), 32);
    let huge = [5, at.into(), 1 << 28, count.into()];
    assert_eq!(guest.call("fd_read", &huge), Err(Errno::Inval));
}

#[test]
fn random_sequences_of_calls_on_a_small_file_system_stay_within_its_quota() {
    let names = [
        "a",
        "b",
        "c",
        "a/b",
        "a/c",
        "b/a",
        "a/b/c",
        "./a/../b",
        "a/",
        "b/.",
        "..",
        "c/..",
        "link",
        "link/a",
        "missing/x",
    ];
    for seed in 1..=8 {
        let mut numbers = Numbers(seed * 0x1234_5678_9abc_def1);
        let lower = Mount::memory();
        let quota = 200_000;
        let mount = if seed % 2 == 0 {
            Mount::memory_with_quota(quota)
        } else {
            let mut filler = Guest::new(KernelBuilder::new().mount("/", lower.clone()));
            filler.mkdir("a").unwrap();
            filler.write_file("a/b", &[1; 3000]);
            filler.write_file("c", &[2; 3000]);
            Mount::overlay(lower.read_only(), quota)
        };
        let builder = KernelBuilder::new().mount("/", mount).descriptor_limit(24);
        let mut guest = Guest::new(builder);
        for _ in 0..4_000 {
            guest.reset();
            let (one, two) = (numbers.pick(&names), numbers.pick(&names));
            let fd = 3 + (numbers.next() % 22) as u32;
            let size = numbers.next() % 100_000;
            match numbers.next() % 16 {
                0 => drop(guest.mkdir(one)),
                1 => drop(guest.rmdir(one)),
                2 => drop(guest.unlink(one)),
                3 => drop(guest.rename(one, two)),
                4 => drop(guest.link(one, two)),
                5 => drop(guest.symlink(one, two)),
                6 | 7 => drop(guest.open(one, (size % 16) as u32, READ_WRITE)),
                8 => drop(guest.open_with(fd, one, FOLLOW, CREAT, READ_WRITE, (size % 2) as u32)),
                9 if fd != ROOT => drop(guest.call("fd_close", &[fd.into()])),
                10 => drop(guest.write(fd, &vec![7; (size % 10_000) as usize])),
                11 => drop(guest.pwrite(fd, b"x", size)),
                12 => drop(guest.call("fd_filestat_set_size", &[fd.into(), size as i64])),
                13 => drop(guest.readdir_once(fd, (size % 500) as u32, size % 4)),
                14 => drop(guest.read(fd, (size % 5_000) as u32)),
                _ => drop(guest.stat_with(fd, two, FOLLOW)),
            }
        }
        // What is listed can be looked up, and what can be looked up is listed.
        let names = guest.names(ROOT);
        for name in &names {
            guest.stat(name).unwrap();
        }
        for name in ["a", "b", "c", "link"] {
            assert_eq!(
                guest.stat(name).is_ok(),
                names.iter().any(|listed| listed == name)
            );
        }
        // The whole quota comes back when everything is removed and closed.
        for fd in 4..24 {
            let _ = guest.call("fd_close", &[fd]);
        }
        clear(&mut guest, ".");
        assert_eq!(guest.names(ROOT), [".", ".."]);
        guest.reset();
        let fd = guest.open("big", CREAT, READ_WRITE).unwrap();
        guest
            .call("fd_filestat_set_size", &[fd.into(), 198_000])
            .unwrap();
        let full = guest.call("fd_filestat_set_size", &[fd.into(), 201_000]);
        assert_eq!(full, Err(Errno::Nospc));
    }
}

/// Removes everything in a directory.
fn clear(guest: &mut Guest, directory: &str) {
    let fd = guest.open(directory, DIRECTORY, READ).unwrap();
    let names = guest.names(fd);
    guest.close(fd);
    for name in names.iter().filter(|name| !name.starts_with('.')) {
        guest.reset();
        let path = format!("{directory}/{name}");
        if guest.unlink(&path) == Err(Errno::Isdir) {
            clear(guest, &path);
            guest.rmdir(&path).unwrap();
        }
    }
}
