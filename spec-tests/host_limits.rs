//! Host functions of WASI under hostile arguments, through the engine's own calls: no panic, and no call makes the host
//! allocate more than a megabyte. The allocator of this program counts.

use dynlink::host::{Clock, Kernel, KernelBuilder, Mount, Pipe, wasi};
use dynlink::{Engine, ErrorKind, Memory, MemoryType, Store, Val, ValType};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Most bytes that one call may hold at once beyond what was held before it.
const MOST_BYTES: usize = 1 << 20;

struct Counting;

thread_local! {
    /// Bytes held, and the most that were held since the counter was reset.
    static HELD: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn count(change: isize) {
    // While a thread ends there is nothing left to count in.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        let now = now.saturating_add_signed(change);
        held.set((now, most.max(now)));
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `pointer` comes from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick(&mut self, from: &[u64]) -> u64 {
        from[(self.next() % from.len() as u64) as usize]
    }
}

/// Name and parameter types (`i` i32, `I` i64) of all 46 functions.
const FUNCTIONS: &str = "args_get ii args_sizes_get ii environ_get ii environ_sizes_get ii clock_res_get ii \
    clock_time_get iIi fd_advise iIIi fd_allocate iII fd_close i fd_datasync i fd_fdstat_get ii fd_fdstat_set_flags ii \
    fd_fdstat_set_rights iII fd_filestat_get ii fd_filestat_set_size iI fd_filestat_set_times iIIi fd_pread iiiIi \
    fd_prestat_get ii fd_prestat_dir_name iii fd_pwrite iiiIi fd_read iiii fd_readdir iiiIi fd_renumber ii fd_seek iIii \
    fd_sync i fd_tell ii fd_write iiii path_create_directory iii path_filestat_get iiiii path_filestat_set_times iiiiIIi \
    path_link iiiiiii path_open iiiiiIIii path_readlink iiiiii path_remove_directory iii path_rename iiiiii \
    path_symlink iiiii path_unlink_file iii poll_oneoff iiii proc_exit i proc_raise i sched_yield - random_get ii \
    sock_accept iii sock_recv iiiiii sock_send iiiii sock_shutdown ii";

const PAGES: u64 = 1;
const END: u64 = PAGES << 16;
const NARROW: [u64; 18] = [
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    64,
    4095,
    4096,
    1 << 15,
    END - 8,
    END - 1,
    END,
    END + 1,
    1 << 28,
    1 << 31,
    0xffff_ffff,
];
const WIDE: [u64; 8] = [0, 1, 2, 4096, 1 << 32, 1 << 63, u64::MAX, i64::MAX as u64];

fn kernel(memory: Memory) -> Kernel {
    let mut kernel = KernelBuilder::new()
        .args(["program", "argument"])
        .env("NAME", "value")
        .stdin(&Pipe::from_bytes("input"))
        .stdout(&Pipe::capture())
        .mount("/memory", Mount::memory_with_quota(1 << 16))
        .mount(
            "/overlay",
            Mount::overlay(Mount::memory().read_only(), 1 << 16),
        )
        .clock(Clock::fixed(0))
        .seed(1)
        .build()
        .unwrap();
    kernel.set_memory(memory);
    kernel
}

#[test]
fn no_call_panics_or_makes_the_host_allocate_more_than_a_megabyte() {
    let engine = Engine::default();
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let words: Vec<_> = FUNCTIONS.split_whitespace().collect();
    assert_eq!(words.len(), 2 * 46);
    let mut calls = 0;
    for pair in words.chunks(2) {
        let (name, types) = (pair[0], pair[1].trim_matches('-'));
        let mut store = Store::new(&engine, None::<Kernel>);
        let ty = MemoryType {
            minimum: PAGES,
            maximum: Some(PAGES),
        };
        let memory = Memory::new(&mut store, ty).unwrap();
        *store.data_mut() = Some(kernel(memory));
        let func = wasi::lookup(&mut store, wasi::PREVIEW1, name, |kernel| {
            kernel.as_mut().unwrap()
        })
        .unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(func.ty(&store).params().len(), types.len(), "{name}");
        for _ in 0..250 {
            for chunk in memory.data_mut(&mut store).chunks_exact_mut(4) {
                chunk.copy_from_slice(&(numbers.pick(&NARROW) as u32).to_le_bytes());
            }
            let arguments: Vec<Val> = func
                .ty(&store)
                .params()
                .iter()
                .map(|ty| match ty {
                    ValType::I32 => Val::I32(numbers.pick(&NARROW) as u32 as i32),
                    _ => Val::I64(numbers.pick(&WIDE) as i64),
                })
                .collect();
            let mut results = vec![Val::I32(-1); func.ty(&store).results().len()];
            let before = HELD.with(|held| {
                let (now, _) = held.get();
                held.set((now, now));
                now
            });
            let outcome = func.call(&mut store, &arguments, &mut results);
            let most = HELD.with(|held| held.get().1);
            calls += 1;
            assert!(
                most - before <= MOST_BYTES,
                "{name}({arguments:?}) allocated {} bytes",
                most - before
            );
            match outcome {
                Ok(()) => assert!(
                    results[0]
                        .i32()
                        .is_some_and(|errno| (0..=76).contains(&errno))
                ),
                Err(error) => assert!(matches!(error.kind(), ErrorKind::Exit(_)), "{error}"),
            }
        }
    }
    assert!(calls >= 10_000, "{calls} calls");
}
