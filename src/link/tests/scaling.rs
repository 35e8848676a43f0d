//! How the time of a load grows with what a hostile file can make large: twice as much of anything takes twice as long,
//! not four times.

use super::*;
use std::time::Duration;

/// A number as LEB128.
fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

fn name(text: &str) -> Vec<u8> {
    [leb(text.len()), text.into()].concat()
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [leb(items.len()), items.concat()].concat()
}

fn section(id: u8, contents: Vec<u8>) -> Vec<u8> {
    [vec![id], leb(contents.len()), contents].concat()
}

/// A library as bytes, because the text format takes much longer to read than anything here.
#[derive(Default)]
struct Made {
    needed: Vec<String>,
    runtime_path: Vec<String>,
    weak: Vec<String>,
    memory: usize,
    slots: usize,
    /// Module, name, and what follows them.
    imports: Vec<(&'static str, String, Vec<u8>)>,
    /// Exported functions without parameters and results.
    functions: Vec<String>,
    /// Exported data: every four bytes.
    data: Vec<String>,
    /// Functions that tell the value of the imported global of this number.
    told: Vec<(String, usize)>,
    /// The constructor traps.
    traps: bool,
}

/// Types: `() -> ()` and `() -> i32`.
const FUNC: [u8; 2] = [0, 0];
const CELL: [u8; 3] = [3, 0x7f, 1];

impl Made {
    fn bytes(&self) -> Vec<u8> {
        let names =
            |list_of: &[String]| list(&list_of.iter().map(|text| name(text)).collect::<Vec<_>>());
        let info = [leb(self.memory), vec![2], leb(self.slots), vec![0]].concat();
        let mut dylink = [name("dylink.0"), section(1, info)].concat();
        dylink.extend(section(2, names(&self.needed)));
        let weak: Vec<Vec<u8>> = self
            .weak
            .iter()
            .map(|field| [name("env"), name(field), leb(0x11)].concat())
            .collect();
        dylink.extend(section(4, list(&weak)));
        dylink.extend(section(5, names(&self.runtime_path)));
        let mut imports = vec![
            [name("env"), name("memory"), vec![2, 0, 0]].concat(),
            [name("env"), name("__memory_base"), vec![3, 0x7f, 0]].concat(),
            [
                name("env"),
                name("__indirect_function_table"),
                vec![1, 0x70, 0, 0],
            ]
            .concat(),
        ];
        for (module, field, kind) in &self.imports {
            imports.push([name(module), name(field), kind.clone()].concat());
        }
        let imported_functions = self
            .imports
            .iter()
            .filter(|import| import.2[0] == 0)
            .count();
        let imported_globals = 1 + self
            .imports
            .iter()
            .filter(|import| import.2[0] == 3)
            .count();
        let mut exports = Vec::new();
        let mut types = Vec::new();
        let mut bodies = Vec::new();
        let body = |code: &[u8]| [leb(code.len()), code.to_vec()].concat();
        let mut function = |exported: &str, ty: u8, code: &[u8]| {
            exports.push(
                [
                    name(exported),
                    vec![0],
                    leb(imported_functions + bodies.len()),
                ]
                .concat(),
            );
            types.push(vec![ty]);
            bodies.push(body(code));
        };
        for exported in &self.functions {
            function(exported, 0, &[0, 0x0b]);
        }
        for (exported, global) in &self.told {
            let code = [vec![0, 0x23], leb(global + 1), vec![0x0b]].concat();
            function(&format!("__WASM_EXPORT__{exported}"), 1, &code);
        }
        let constructor: &[u8] = if self.traps {
            &[0, 0, 0x0b]
        } else {
            &[0, 0x0b]
        };
        function("__wasm_call_ctors", 0, constructor);
        let mut globals = Vec::new();
        for (number, exported) in self.data.iter().enumerate() {
            exports.push([name(exported), vec![3], leb(imported_globals + number)].concat());
            // Signed LEB128 of a number below 2^13 and more: padded to five bytes.
            let mut offset = Vec::new();
            let address = 4 * number;
            for shift in [0, 7, 14, 21] {
                offset.push(((address >> shift) & 0x7f) as u8 | 0x80);
            }
            offset.push(((address >> 28) & 0xf) as u8);
            globals.push([vec![0x7f, 0, 0x41], offset, vec![0x0b]].concat());
        }
        let mut bytes = b"\0asm\x01\0\0\0".to_vec();
        bytes.extend(section(0, dylink));
        bytes.extend(section(
            1,
            list(&[vec![0x60, 0, 0], vec![0x60, 0, 1, 0x7f]]),
        ));
        bytes.extend(section(2, list(&imports)));
        bytes.extend(section(3, list(&types)));
        bytes.extend(section(6, list(&globals)));
        bytes.extend(section(7, list(&exports)));
        bytes.extend(section(10, list(&bodies)));
        bytes
    }
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{prefix}{number}"))
        .collect()
}

fn wants(
    module: &'static str,
    prefix: &str,
    count: usize,
    kind: &[u8],
) -> Vec<(&'static str, String, Vec<u8>)> {
    numbered(prefix, count)
        .into_iter()
        .map(|field| (module, field, kind.to_vec()))
        .collect()
}

/// A world with these libraries, whose main module has an allocator of its own.
fn made(profile: Profile, libraries: Vec<(String, Made)>) -> World {
    let mut files = MemoryFiles::new();
    for (path, library) in libraries {
        files.insert(&path, library.bytes());
    }
    let mut world = World::with_files(profile, files);
    world.start(&main_module("", "")).unwrap();
    world
}

/// Processor time of this thread, which other work on the machine does not change much.
fn thread_time() -> Duration {
    #[cfg(all(feature = "host", unix))]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
    #[cfg(not(all(feature = "host", unix)))]
    {
        use std::sync::OnceLock;
        static START: OnceLock<std::time::Instant> = OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
}

/// The time of one size: the least of a few runs. `prepare` is not counted.
fn least<W>(runs: usize, prepare: impl Fn() -> W, run: impl Fn(&mut W)) -> Duration {
    (0..runs)
        .map(|_| {
            let mut world = prepare();
            let start = thread_time();
            run(&mut world);
            thread_time() - start
        })
        .min()
        .unwrap()
}

/// Four times the size may take more than four times as long (caches); quadratic work takes sixteen times.
fn grows_in_proportion<W>(
    what: &str,
    size: usize,
    prepare: impl Fn(usize) -> W,
    run: impl Fn(&mut W),
) {
    let small = least(3, || prepare(size), &run);
    let large = least(2, || prepare(4 * size), &run);
    eprintln!("{what}: {size} in {small:?}, {} in {large:?}", 4 * size);
    assert!(
        large < small * 10 + Duration::from_millis(2),
        "{what}: {size} in {small:?}, {} in {large:?}",
        4 * size
    );
}

fn opened(world: &mut World) {
    world.open("l.so").unwrap();
}

fn refused(world: &mut World) {
    world.open("l.so").unwrap_err();
}

#[test]
fn imports_of_every_kind_are_bound_in_time_in_proportion() {
    let library = |library: Made| vec![("/lib/l.so".to_string(), library)];
    let defined = |n: usize| Made {
        memory: 4 * n,
        functions: numbered("function", n),
        data: numbered("datum", n),
        ..Made::default()
    };
    grows_in_proportion(
        "functions, cells of functions and cells of data that another library defines",
        2500,
        |n| {
            let imports = [
                wants("env", "function", n, &FUNC),
                wants("GOT.func", "function", n, &CELL),
                wants("GOT.mem", "datum", n, &CELL),
            ];
            made(
                Profile::default(),
                vec![
                    ("/lib/definer.so".into(), defined(n)),
                    (
                        "/lib/l.so".into(),
                        Made {
                            needed: vec!["definer.so".into()],
                            imports: imports.concat(),
                            ..Made::default()
                        },
                    ),
                ],
            )
        },
        opened,
    );
    grows_in_proportion(
        "weak imports that nobody defines",
        5000,
        |n| {
            let imports = [
                wants("env", "function", n, &FUNC),
                wants("GOT.func", "function", n, &CELL),
            ];
            made(
                Profile::default(),
                library(Made {
                    weak: numbered("function", n),
                    imports: imports.concat(),
                    ..Made::default()
                }),
            )
        },
        opened,
    );
    grows_in_proportion(
        "addresses of functions that nobody defines, for emscripten",
        5000,
        |n| {
            let imports = [
                wants("env", "called", n, &FUNC),
                wants("GOT.func", "function", n, &CELL),
            ];
            made(
                Profile::emscripten(),
                library(Made {
                    imports: imports.concat(),
                    ..Made::default()
                }),
            )
        },
        opened,
    );
    grows_in_proportion(
        "imports that nobody defines: all are problems",
        10_000,
        |n| {
            let imports = [
                wants("env", "function", n, &FUNC),
                wants("GOT.mem", "datum", n, &CELL),
                wants("env", "strange_global", n, &[3, 0x7e, 0]),
            ];
            made(
                Profile::default(),
                library(Made {
                    imports: imports.concat(),
                    ..Made::default()
                }),
            )
        },
        refused,
    );
    grows_in_proportion(
        "addresses that functions tell by cells",
        2500,
        |n| {
            let told = (0..n).map(|number| (format!("told{number}"), number));
            made(
                Profile::cowasm(),
                vec![
                    (
                        "/lib/teller.so".into(),
                        Made {
                            imports: wants("GOT.mem", "datum", n, &CELL),
                            told: told.collect(),
                            needed: vec!["definer.so".into()],
                            ..Made::default()
                        },
                    ),
                    ("/lib/definer.so".into(), defined(n)),
                    (
                        "/lib/l.so".into(),
                        Made {
                            imports: wants("GOT.mem", "told", n, &CELL),
                            needed: vec!["teller.so".into()],
                            ..Made::default()
                        },
                    ),
                ],
            )
        },
        opened,
    );
}

#[test]
fn a_load_that_fails_at_its_end_is_undone_in_time_in_proportion() {
    grows_in_proportion(
        "a trapping constructor after many cells and lazy functions",
        5000,
        |n| {
            let imports = [
                wants("env", "function", n, &FUNC),
                wants("GOT.mem", "datum", n, &CELL),
                wants("GOT.func", "own", n, &CELL),
            ];
            made(
                Profile::default(),
                vec![(
                    "/lib/l.so".into(),
                    Made {
                        weak: [numbered("function", n), numbered("datum", n)].concat(),
                        imports: imports.concat(),
                        functions: numbered("own", n),
                        traps: true,
                        ..Made::default()
                    },
                )],
            )
        },
        refused,
    );
}

/// A library that needs `count` others, each of which defines and wants symbols of others.
fn fan(count: usize, chain: bool) -> Vec<(String, Made)> {
    let mut libraries: Vec<(String, Made)> = (0..count)
        .map(|number| {
            let wanted = |step: usize| format!("f{}", (number + step) % count);
            (
                format!("/lib/{number}.so"),
                Made {
                    memory: 16,
                    functions: vec![format!("f{number}"), "shared".into()],
                    imports: [wanted(1), wanted(count / 2), "shared".to_string()]
                        .map(|field| ("env", field, FUNC.to_vec()))
                        .to_vec(),
                    needed: match number + 1 {
                        next if chain && next < count => vec![format!("{next}.so")],
                        _ => Vec::new(),
                    },
                    ..Made::default()
                },
            )
        })
        .collect();
    let needed = match chain {
        true => vec!["0.so".to_string()],
        false => (0..count).map(|number| format!("{number}.so")).collect(),
    };
    libraries.push((
        "/lib/l.so".into(),
        Made {
            needed,
            ..Made::default()
        },
    ));
    libraries
}

#[test]
fn graphs_of_libraries_load_and_unload_in_time_in_proportion() {
    for chain in [false, true] {
        let shape = if chain { "chain" } else { "fan" };
        grows_in_proportion(
            &format!("a {shape} of libraries that use each other, opened"),
            400,
            |n| made(Profile::default(), fan(n, chain)),
            opened,
        );
        grows_in_proportion(
            &format!("a {shape} of libraries, closed"),
            400,
            |n| {
                let mut world = made(Profile::default(), fan(n, chain));
                let handle = world.open("l.so").unwrap();
                (world, handle)
            },
            |(world, handle)| {
                world.process.dlclose(&mut world.store, *handle).unwrap();
                assert_eq!(world.names().len(), 1);
            },
        );
    }
    grows_in_proportion(
        "needed libraries that are missing everywhere",
        400,
        |n| {
            made(
                Profile::default(),
                vec![(
                    "/lib/l.so".into(),
                    Made {
                        needed: numbered("missing", n),
                        runtime_path: numbered("/directory", 100),
                        ..Made::default()
                    },
                )],
            )
        },
        refused,
    );
}

#[test]
fn symbols_are_found_by_name_in_the_same_time_however_many_there_are() {
    let prepare = |n: usize| {
        let library = Made {
            memory: 4 * n,
            functions: numbered("function", n),
            data: numbered("datum", n),
            ..Made::default()
        };
        let mut world = made(Profile::default(), vec![("/lib/l.so".into(), library)]);
        let handle = world.open("l.so").unwrap();
        // Addresses of functions are given out at the first question.
        for number in 0..1000 {
            world.symbol(handle, &format!("function{number}")).unwrap();
        }
        (world, handle)
    };
    let run = |(world, handle): &mut (World, u32)| {
        for number in 0..1000 {
            world.symbol(*handle, &format!("function{number}")).unwrap();
            world.symbol(*handle, &format!("datum{number}")).unwrap();
            world.symbol(*handle, "missing").unwrap_err();
        }
    };
    let small = least(3, || prepare(1000), run);
    let large = least(3, || prepare(64_000), run);
    eprintln!("3,000 symbols of 2,000 in {small:?}, of 128,000 in {large:?}");
    assert!(
        large < small * 4 + Duration::from_millis(1),
        "{small:?} {large:?}"
    );
}

#[test]
fn runtime_paths_and_searches_have_limits() {
    let open = |library: Made, profile: Profile| {
        let mut world = made(profile, vec![("/lib/l.so".into(), library)]);
        world.fails_twice("l.so")
    };
    let many = Made {
        runtime_path: vec!["a:".repeat(300)],
        ..Made::default()
    };
    let text = open(many, Profile::default());
    assert!(
        text.contains("directories in the runtime path of `/lib/l.so`: 301 needed, 256 allowed"),
        "{text}"
    );
    let searched = || Made {
        needed: numbered("missing", 100),
        runtime_path: numbered("/directory", 99),
        ..Made::default()
    };
    let profile = |max_searched| Profile {
        max_searched,
        ..Profile::default()
    };
    let text = open(searched(), profile(9999));
    assert!(
        text.contains(
            "paths to look for needed libraries at, in one load: 10000 needed, 9999 allowed"
        ),
        "{text}"
    );
    let text = open(searched(), profile(10_000));
    assert!(text.contains("`missing99`"), "{text}");
    // Of a hundred places the message shows a few.
    assert!(
        text.contains("/directory18/missing7, 80 more places"),
        "{text}"
    );
    assert!(text.len() < 100_000);
}

#[test]
fn repeated_loop_heads_take_time_in_proportion_to_their_number() {
    // Each loop begins with a look at a GOT cell, which the jump back repeats.
    let time = |count: usize| {
        let body = "(block (loop (br_if 1 (i32.load (global.get $cell))) (br 0)))".repeat(count);
        let lib = library(
            "(mem-info (memory 4 2) (table 0 0))",
            &format!(
                r#"{BASES}
                (import "GOT.mem" "datum" (global $cell (mut i32)))
                (global (export "datum") i32 (i32.const 0))
                (data (global.get $mb) "\01")
                (func (export "run") (result i32) {body} (i32.const 42))"#
            ),
        );
        let mut world = World::started(&main_module("", ""), &[("/lib/loops.so", &lib)]);
        let handle = world.open("loops.so").unwrap();
        let start = std::time::Instant::now();
        assert_eq!(world.call(handle, "run", &[]).unwrap(), 42);
        start.elapsed()
    };
    time(1_000);
    let [few, many] = [10_000, 120_000].map(time);
    assert!(many < few * 60, "{few:?} and {many:?}");
}
