//! Arguments, environment, clocks, waiting, exit, signals, randomness, sockets.

#![forbid(unsafe_code)]

use super::descriptors::direct_tests;

direct_tests! {
    arguments_and_environment_are_copied_in
    clocks_tell_the_time
    waiting_ends_with_the_first_clock
    descriptors_become_ready
    waiting_for_what_never_comes_is_an_error
    an_interruption_ends_a_sleep
    exit_keeps_the_status
    signals_do_what_they_do_by_default
    random_bytes_fill_the_buffer
    sockets_do_not_exist
}

mod cases {
    use super::super::*;
    use crate::host::Clock;
    use crate::runtime::InterruptHandle;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    pub fn arguments_and_environment_are_copied_in() {
        let builder = KernelBuilder::new()
            .arg("program")
            .args(["", "ärger"])
            .env("A", "1")
            .env("B", "x=y")
            .env("A", "2");
        let mut guest = Guest::new(builder);
        let (count, size) = (guest.alloc(4), guest.alloc(4));
        for (name, expected) in [
            ("args", &["program", "", "ärger"][..]),
            ("environ", &["B=x=y", "A=2"][..]),
        ] {
            let arguments = [count.into(), size.into()];
            guest
                .call(&format!("{name}_sizes_get"), &arguments)
                .unwrap();
            let bytes = guest.u32_at(size);
            assert_eq!(guest.u32_at(count) as usize, expected.len());
            let total: usize = expected.iter().map(|text| text.len() + 1).sum();
            assert_eq!(bytes as usize, total);
            let (pointers, buffer) = (guest.alloc(4 * expected.len()), guest.alloc(total));
            let arguments = [pointers.into(), buffer.into()];
            guest.call(&format!("{name}_get"), &arguments).unwrap();
            for (index, text) in (0..).zip(expected) {
                let at = guest.u32_at(pointers + 4 * index) as usize;
                assert_eq!(&guest.memory[at..][..text.len()], text.as_bytes());
                assert_eq!(guest.memory[at + text.len()], 0);
            }
        }
        assert!(KernelBuilder::new().arg("a\0b").build().is_err());
    }

    pub fn clocks_tell_the_time() {
        let mut guest = Guest::new(KernelBuilder::new());
        let at = guest.alloc(8);
        for id in 0..4 {
            guest.call("clock_res_get", &[id, at.into()]).unwrap();
            assert!(guest.u64_at(at) > 0);
            guest.call("clock_time_get", &[id, 1, at.into()]).unwrap();
            let before = guest.u64_at(at);
            guest.call("clock_time_get", &[id, 1, at.into()]).unwrap();
            assert!(guest.u64_at(at) >= before);
        }
        assert_eq!(
            guest.call("clock_res_get", &[4, at.into()]),
            Err(Errno::Inval)
        );
        assert_eq!(
            guest.call("clock_time_get", &[-1, 0, at.into()]),
            Err(Errno::Inval)
        );
        // The same clock, the same times.
        let clock = Clock::fixed(1_700_000_000_000_000_000);
        let mut guest = Guest::new(
            KernelBuilder::new()
                .clock(clock)
                .mount("/", Mount::memory()),
        );
        let at = guest.alloc(8);
        guest.call("clock_time_get", &[0, 1, at.into()]).unwrap();
        assert_eq!(guest.u64_at(at) / 1_000_000, 1_700_000_000_000);
        guest.write_file("file", b"");
        assert_eq!(
            guest.stat("file").unwrap().modified / 1_000_000,
            1_700_000_000_000
        );
    }

    /// A subscription of preview 1, or of the version before.
    fn subscription(guest: &Guest, userdata: u64, tag: u8, fields: [u64; 3]) -> Vec<u8> {
        let mut bytes = userdata.to_le_bytes().to_vec();
        bytes.extend([tag, 0, 0, 0, 0, 0, 0, 0]);
        if guest.module == UNSTABLE {
            bytes.extend(if tag == 0 { 77_u64 } else { fields[0] }.to_le_bytes());
        }
        bytes.extend(fields[0].to_le_bytes());
        bytes.extend(fields[1].to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.truncate(bytes.len() - 8);
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(fields[2].to_le_bytes());
        bytes
    }

    /// Userdata, error, type, bytes, flags.
    type Event = (u64, u16, u8, u64, u16);

    fn poll(guest: &mut Guest, list: &[Vec<u8>]) -> Result<Vec<Event>, Errno> {
        let bytes = list.concat();
        let at = guest.bytes(&bytes);
        let events = guest.alloc(32 * list.len());
        let count = guest.alloc(4);
        let arguments = [at.into(), events.into(), list.len() as i64, count.into()];
        guest.call("poll_oneoff", &arguments)?;
        let u16_at =
            |at: u32| u16::from_le_bytes(guest.memory[at as usize..][..2].try_into().unwrap());
        Ok((0..guest.u32_at(count))
            .map(|index| {
                let at = events + 32 * index;
                let tag = guest.memory[at as usize + 10];
                (
                    guest.u64_at(at),
                    u16_at(at + 8),
                    tag,
                    guest.u64_at(at + 16),
                    u16_at(at + 24),
                )
            })
            .collect())
    }

    pub fn waiting_ends_with_the_first_clock() {
        for module in [PREVIEW1, UNSTABLE] {
            let mut guest = Guest::new(KernelBuilder::new());
            guest.module = module;
            let long = subscription(&guest, 1, 0, [1, 60_000_000_000, 0]);
            let short = subscription(&guest, 2, 0, [0, 20_000_000, 0]);
            let start = Instant::now();
            assert_eq!(poll(&mut guest, &[long, short]), Ok(vec![(2, 0, 0, 0, 0)]));
            assert!(start.elapsed() >= Duration::from_millis(20));
            assert!(start.elapsed() < Duration::from_secs(10));
            // A time that has passed.
            let past = subscription(&guest, 3, 0, [0, 5, 1]);
            assert_eq!(poll(&mut guest, &[past]), Ok(vec![(3, 0, 0, 0, 0)]));
            // Clocks that cannot be waited for are told in events.
            let wrong = subscription(&guest, 4, 0, [9, 5, 0]);
            let processor = subscription(&guest, 5, 0, [2, 5, 0]);
            let (inval, notsup) = (Errno::Inval.raw(), Errno::Notsup.raw());
            assert_eq!(
                poll(&mut guest, &[wrong, processor]),
                Ok(vec![(4, inval, 0, 0, 0), (5, notsup, 0, 0, 0)])
            );
        }
        // A virtual clock does not wait for an hour, or for 500 years.
        let mut guest = Guest::new(KernelBuilder::new().clock(Clock::fixed(0)));
        for time in [3_600_000_000_000, u64::MAX] {
            let list = [subscription(&guest, 1, 0, [1, time, 0])];
            assert_eq!(poll(&mut guest, &list), Ok(vec![(1, 0, 0, 0, 0)]));
        }
    }

    pub fn descriptors_become_ready() {
        let input = Pipe::from_bytes("12345");
        let mut guest = Guest::new(
            KernelBuilder::new()
                .stdin(&input)
                .mount("/", Mount::memory()),
        );
        guest.write_file("file", b"123");
        let fd = u64::from(guest.open("file", 0, READ_WRITE).unwrap());
        let list = [
            subscription(&guest, 10, 1, [0, 0, 0]),
            subscription(&guest, 11, 2, [1, 0, 0]),
            subscription(&guest, 12, 1, [fd, 0, 0]),
            subscription(&guest, 13, 2, [fd, 0, 0]),
            subscription(&guest, 14, 1, [99, 0, 0]),
            subscription(&guest, 15, 2, [0, 0, 0]),
            subscription(&guest, 16, 0, [1, 60_000_000_000, 0]),
        ];
        let badf = Errno::Badf.raw();
        let events = poll(&mut guest, &list).unwrap();
        assert_eq!(
            events,
            [
                (10, 0, 1, 5, 0),
                (11, 0, 2, 1, 0),
                (12, 0, 1, 3, 0),
                (13, 0, 2, 1, 0),
                (14, badf, 1, 0, 0),
                (15, badf, 2, 0, 0),
            ]
        );
        guest.read(0, 10).unwrap();
        let list = [subscription(&guest, 1, 1, [0, 0, 0])];
        assert_eq!(poll(&mut guest, &list), Ok(vec![(1, 0, 1, 0, 1)]));
    }

    pub fn waiting_for_what_never_comes_is_an_error() {
        let mut guest = Guest::new(KernelBuilder::new());
        assert_eq!(poll(&mut guest, &[]), Err(Errno::Inval));
        let list = [subscription(&guest, 1, 3, [0, 0, 0])];
        assert_eq!(poll(&mut guest, &list), Err(Errno::Inval));
        let (reader, writer) = guest.kernel.pipe().unwrap();
        let list = [subscription(&guest, 1, 1, [reader.into(), 0, 0])];
        assert_eq!(poll(&mut guest, &list), Err(Errno::Deadlk));
        // With a clock it ends.
        let list = [
            subscription(&guest, 1, 1, [reader.into(), 0, 0]),
            subscription(&guest, 2, 0, [1, 1_000_000, 0]),
        ];
        assert_eq!(poll(&mut guest, &list), Ok(vec![(2, 0, 0, 0, 0)]));
        guest.write(writer, b"abc").unwrap();
        assert_eq!(poll(&mut guest, &list), Ok(vec![(1, 0, 1, 3, 0)]));
        let many = vec![list[1].clone(); 5000];
        assert_eq!(poll(&mut guest, &many), Err(Errno::Inval));
    }

    pub fn an_interruption_ends_a_sleep() {
        let mut guest = Guest::new(KernelBuilder::new());
        let flag = Arc::new(AtomicBool::new(false));
        guest.kernel.set_interrupt(InterruptHandle(flag.clone()));
        let list = [subscription(&guest, 1, 0, [1, 60_000_000_000, 0])];
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                InterruptHandle(flag).interrupt();
            });
            assert_eq!(poll(&mut guest, &list), Err(Errno::Intr));
        });
        assert!(start.elapsed() < Duration::from_secs(10));
        let mut guest = Guest::new(KernelBuilder::new());
        guest
            .kernel
            .set_deadline(Some(Instant::now() + Duration::from_millis(20)));
        let start = Instant::now();
        assert_eq!(poll(&mut guest, &list), Err(Errno::Intr));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    pub fn exit_keeps_the_status() {
        let mut guest = Guest::new(KernelBuilder::new());
        assert_eq!(guest.kernel.exit_status(), None);
        assert_eq!(guest.call_raw("proc_exit", &[3]), Err(Refusal::Exit(3)));
        assert_eq!(guest.kernel.exit_status(), Some(3));
        assert_eq!(guest.call("sched_yield", &[]), Ok(()));
    }

    pub fn signals_do_what_they_do_by_default() {
        let mut guest = Guest::new(KernelBuilder::new());
        assert_eq!(guest.call("proc_raise", &[0]), Ok(()));
        assert_eq!(guest.call("proc_raise", &[16]), Ok(()));
        assert_eq!(guest.call("proc_raise", &[19]), Err(Errno::Nosys));
        assert_eq!(guest.call("proc_raise", &[31]), Err(Errno::Inval));
        assert_eq!(guest.call("proc_raise", &[-1]), Err(Errno::Inval));
        assert_eq!(guest.call_raw("proc_raise", &[6]), Err(Refusal::Exit(134)));
        assert_eq!(guest.call_raw("proc_raise", &[15]), Err(Refusal::Exit(143)));
    }

    pub fn random_bytes_fill_the_buffer() {
        let mut guest = Guest::new(KernelBuilder::new());
        let length = 200_000;
        let at = guest.alloc(length);
        guest
            .call("random_get", &[at.into(), length as i64])
            .unwrap();
        let bytes = &guest.memory[at as usize..][..length];
        // Each quarter has many different bytes.
        for quarter in bytes.chunks(length / 4) {
            assert!(quarter.iter().collect::<BTreeSet<_>>().len() > 200);
        }
        assert_eq!(guest.call("random_get", &[0, 0]), Ok(()));
        let mut outputs = Vec::new();
        for _ in 0..2 {
            let mut guest = Guest::new(KernelBuilder::new().seed(5));
            guest.call("random_get", &[64, 64]).unwrap();
            outputs.push(guest.memory);
        }
        assert_eq!(outputs[0], outputs[1]);
    }

    pub fn sockets_do_not_exist() {
        let mut guest = Guest::new(KernelBuilder::new().mount("/", Mount::memory()));
        let at = i64::from(guest.alloc(16));
        for fd in [1, i64::from(ROOT)] {
            assert_eq!(guest.call("sock_accept", &[fd, 0, at]), Err(Errno::Notsock));
            assert_eq!(
                guest.call("sock_recv", &[fd, at, 0, 0, at, at]),
                Err(Errno::Notsock)
            );
            assert_eq!(
                guest.call("sock_send", &[fd, at, 0, 0, at]),
                Err(Errno::Notsock)
            );
            assert_eq!(guest.call("sock_shutdown", &[fd, 1]), Err(Errno::Notsock));
        }
        assert_eq!(guest.call("sock_shutdown", &[99, 1]), Err(Errno::Badf));
    }
}
