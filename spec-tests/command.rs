//! The command with bare modules: flags, exit statuses, messages.

#![forbid(unsafe_code)]

mod case;

use case::Case;
use std::io::Write;
use std::process::{Command, Stdio};

const WASI: &str = "wasi_snapshot_preview1";

fn exits_with(status: &str) -> String {
    format!(
        "(module (import \"{WASI}\" \"proc_exit\" (func $exit (param i32)))
           (memory (export \"memory\") 1)
           (func (export \"_start\") (call $exit {status}) (unreachable)))"
    )
}

const ADD: &str = "(module
    (func (export \"add\") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export \"pair\") (param i64 f64) (result i64 f64) (local.get 0) (local.get 1))
    (func (export \"_start\")))";

/// Writes the bytes of its memory from 16, as many as the number at 12.
const WRITES: &str = "(module
    (import \"wasi_snapshot_preview1\" \"fd_write\" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export \"memory\") 1)
    (data (i32.const 0) \"\\10\\00\\00\\00\\06\\00\\00\\00\")
    (data (i32.const 16) \"hello\\n\")
    (func (export \"_start\") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))";

const LOOPS: &str = "(module (func (export \"_start\") (loop (br 0))))";

#[test]
fn the_exit_status_is_the_guests() {
    for status in [0, 1, 3, 42, 255] {
        let case = Case::module(&exits_with(&format!("(i32.const {status})")));
        assert_eq!(case.run(&["m.wasm"]).status, Some(status));
        assert_eq!(case.run(&["run", "m.wasm"]).status, Some(status));
    }
    assert_eq!(Case::module(ADD).run(&["m.wasm"]).status, Some(0));
}

#[test]
fn what_a_guest_writes_comes_out() {
    Case::module(WRITES).run(&["m.wasm"]).prints("hello\n");
}

#[test]
fn a_dash_reads_the_module_from_standard_input() {
    let module = wat::parse_str(WRITES).expect("a module");
    Case::new().run_with(&["-"], &[], &module).prints("hello\n");
    Case::new()
        .run_with(&["-"], &[], b"no module")
        .fails(127, &["stdin"]);
}

#[test]
fn arguments_after_the_program_are_the_guests() {
    let count = format!(
        "(module (import \"{WASI}\" \"proc_exit\" (func $exit (param i32)))
           (import \"{WASI}\" \"args_sizes_get\" (func $sizes (param i32 i32) (result i32)))
           (memory (export \"memory\") 1)
           (func (export \"_start\")
             (drop (call $sizes (i32.const 0) (i32.const 4)))
             (call $exit (i32.add (i32.mul (i32.load (i32.const 0)) (i32.const 32)) (i32.load (i32.const 4))))))"
    );
    let case = Case::module(&count);
    // The name and two arguments; `m.wasm` 7 bytes, `--fuel` 7, `x` 2.
    assert_eq!(
        case.run(&["m.wasm", "--fuel", "x"]).status,
        Some(3 * 32 + 16)
    );
    assert_eq!(case.run(&["m.wasm"]).status, Some(32 + 7));
}

#[test]
fn variables_reach_the_guest_only_when_asked() {
    let count = format!(
        "(module (import \"{WASI}\" \"proc_exit\" (func $exit (param i32)))
           (import \"{WASI}\" \"environ_sizes_get\" (func $sizes (param i32 i32) (result i32)))
           (memory (export \"memory\") 1)
           (func (export \"_start\")
             (drop (call $sizes (i32.const 0) (i32.const 4)))
             (call $exit (i32.add (i32.mul (i32.load (i32.const 0)) (i32.const 32)) (i32.load (i32.const 4))))))"
    );
    let case = Case::module(&count);
    let set = [("GIVEN", "12"), ("OTHER", "x")];
    assert_eq!(case.run_with(&["m.wasm"], &set, b"").status, Some(0));
    let flags = ["--env", "A=b", "--env", "GIVEN", "--env", "UNSET", "m.wasm"];
    assert_eq!(
        case.run_with(&flags, &set, b"").status,
        Some(2 * 32 + 4 + 9)
    );
}

#[test]
fn invoke_calls_an_export_with_typed_arguments() {
    let case = Case::module(ADD);
    case.run(&["--invoke", "add", "m.wasm", "2", "3"])
        .prints("5\n");
    case.run(&["--invoke", "add", "m.wasm", "-2", "0xffffffff"])
        .prints("-3\n");
    case.run(&["--invoke", "pair", "m.wasm", "-1", "1.5"])
        .prints("-1\n1.5\n");
}

#[test]
fn a_wrong_invoke_says_what_there_is() {
    let case = Case::module(ADD);
    case.run(&["--invoke", "sub", "m.wasm"])
        .fails(2, &["`sub`", "add", "pair"]);
    case.run(&["--invoke", "add", "m.wasm", "1"])
        .fails(2, &["`add`", "(i32 i32) -> (i32)", "2 arguments"]);
    case.run(&["--invoke", "add", "m.wasm", "1", "2.5"])
        .fails(2, &["`2.5`", "i32"]);
}

#[test]
fn a_trap_is_status_134_with_a_backtrace() {
    let module = "(module (func $inner (unreachable)) (func (export \"_start\") (call $inner)))";
    let done = Case::module(module).run(&["m.wasm"]);
    done.fails(
        134,
        &["unreachable", "backtrace", "m.wasm!inner", "m.wasm!_start"],
    );
    let deep = "(module (func $deep (export \"_start\") (call $deep)))";
    Case::module(deep)
        .run(&["m.wasm"])
        .fails(134, &["call stack exhausted"]);
}

#[test]
fn a_wrong_command_line_is_status_2() {
    let case = Case::module(ADD);
    case.run(&[]).fails(2, &["PROGRAM", "--help"]);
    case.run(&["--wrong", "m.wasm"]).fails(2, &["--wrong"]);
    case.run(&["--timeout", "5", "m.wasm"])
        .fails(2, &["`5`", "100ms"]);
    case.run(&["frobnicate"]).fails(2, &["`frobnicate`"]);
    case.run(&["--dir", "nowhere::/a:ro", "m.wasm"])
        .fails(127, &["nowhere"]);
}

#[test]
fn what_cannot_be_loaded_is_status_127() {
    let case = Case::module(ADD)
        .file("text.wasm", "(module")
        .file("cut.wasm", b"\0asm\x01\0\0\0\x01\x7f");
    case.run(&["missing.wasm"]).fails(127, &["missing.wasm"]);
    case.run(&["missing.toml"]).fails(127, &["missing.toml"]);
    case.run(&["text.wasm"]).fails(127, &["text.wasm"]);
    case.run(&["cut.wasm"]).fails(127, &["cut.wasm"]);
    let module = "(module (import \"env\" \"nobody_has_this\" (func $f (param i32))) (func (export \"_start\") (call $f (i32.const 1))))";
    Case::module(module)
        .run(&["m.wasm"])
        .fails(127, &["nobody_has_this", "i32"]);
    let start = "(module (func (export \"run\")))";
    Case::module(start)
        .run(&["m.wasm"])
        .fails(2, &["_start", "run"]);
}

#[test]
fn fuel_and_time_run_out_with_status_124() {
    let case = Case::module(LOOPS);
    case.run(&["--fuel", "100_000", "m.wasm"])
        .fails(124, &["fuel"]);
    case.run(&["--timeout", "100ms", "m.wasm"])
        .fails(124, &["interrupted"]);
    let case = Case::module(WRITES);
    case.run(&["--fuel", "100_000", "--timeout", "1h", "m.wasm"])
        .prints("hello\n");
}

#[test]
fn the_time_for_a_program_includes_its_validation() {
    // Blocks that take a thousand values, on a stack deeper than the quick check keeps: many seconds of work.
    let number = |value: usize| {
        let low = |shift: usize| (value >> shift) as u8 | 0x80;
        vec![low(0), low(7), low(14), (value >> 21) as u8 & 0x7f]
    };
    let section = |id: u8, items: &[u8]| [vec![id], number(items.len()), items.to_vec()].concat();
    let thousand = [number(1_000), vec![0x7f; 1_000]].concat();
    let body = [
        vec![0],
        [0x41, 0].repeat(5_000),
        [0x02, 0, 0x0b].repeat(1_500_000),
        vec![0x1a; 5_000],
        vec![0x0b],
    ]
    .concat();
    let bytes = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(
            1,
            &[&[2, 0x60], &*thousand, &thousand, &[0x60, 0, 0]].concat(),
        ),
        section(3, &[2, 1, 1]),
        section(5, &[1, 0, 1]),
        section(7, b"\x02\x06memory\x02\0\x06_start\0\x01"),
        section(
            10,
            &[vec![2], number(body.len()), body, vec![2, 0, 0x0b]].concat(),
        ),
    ]
    .concat();
    let case = Case::module("(module)");
    std::fs::write(case.path("m.wasm"), bytes).expect("a file");
    let started = std::time::Instant::now();
    case.run(&["--timeout", "200ms", "m.wasm"])
        .fails(124, &["m.wasm", "interrupted"]);
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

#[test]
fn a_sleeping_guest_is_woken_at_its_deadline() {
    let sleeps = format!(
        "(module (import \"{WASI}\" \"poll_oneoff\" (func $poll (param i32 i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1)
           (data (i32.const 16) \"\\01\")
           (data (i32.const 24) \"\\00\\00\\00\\00\\00\\01\\00\\00\")
           (func (export \"_start\") (loop (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))) (br 0))))"
    );
    let started = std::time::Instant::now();
    Case::module(&sleeps)
        .run(&["--timeout", "100ms", "m.wasm"])
        .fails(124, &["interrupted"]);
    assert!(started.elapsed().as_secs() < 30);
}

#[test]
fn a_guest_that_waits_for_a_reader_is_stopped_at_its_deadline() {
    // Writes 64 KiB again and again; nobody reads.
    let writes = |fd: u32| {
        format!(
            "(module (import \"{WASI}\" \"fd_write\" (func $write (param i32 i32 i32 i32) (result i32)))
               (memory (export \"memory\") 3)
               (data (i32.const 0) \"\\00\\00\\01\\00\\00\\00\\01\\00\")
               (func (export \"_start\")
                 (loop (drop (call $write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 16))) (br 0))))"
        )
    };
    for fd in [1, 2] {
        let case = Case::module(&writes(fd));
        let started = std::time::Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_dynlink"))
            .current_dir(case.folder.path())
            .args(["--timeout", "300ms", "m.wasm"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(if fd == 2 {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .spawn()
            .expect("the command starts");
        if fd == 2 {
            // The command has to say why it ends, so somebody reads in the end.
            std::thread::sleep(std::time::Duration::from_millis(1500));
            let output = child.wait_with_output().expect("the command ends");
            assert_eq!(output.status.code(), Some(124));
            continue;
        }
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break status;
            }
            if started.elapsed().as_secs() > 60 {
                child.kill().expect("the child ends");
                panic!("the guest was not stopped");
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        assert_eq!(status.code(), Some(124));
    }
    // With a reader, all that was written arrives.
    let some = "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export \"memory\") 5)
        (data (i32.const 0) \"\\20\\00\\00\\00\\00\\00\\04\\00\")
        (func (export \"_start\")
          (memory.fill (i32.const 32) (i32.const 65) (i32.const 262144))
          (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
          (if (i32.ne (i32.load (i32.const 16)) (i32.const 262144)) (then unreachable))))";
    Case::module(some)
        .run(&["--timeout", "60s", "m.wasm"])
        .prints(&"A".repeat(262_144));
}

#[test]
fn memory_has_a_limit() {
    let grows = "(module (memory (export \"memory\") 1)
        (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0))))";
    let case = Case::module(grows);
    case.run(&["--max-memory", "1M", "--invoke", "grow", "m.wasm", "15"])
        .prints("1\n");
    case.run(&["--max-memory", "1M", "--invoke", "grow", "m.wasm", "16"])
        .prints("-1\n");
    let large = "(module (memory (export \"memory\") 100) (func (export \"_start\")))";
    Case::module(large)
        .run(&["--max-memory", "1M", "m.wasm"])
        .fails(127, &["memory", "100"]);
}

#[test]
fn guard_pages_are_refused_where_there_are_none_and_else_change_nothing() {
    let text = "(module (memory 1) (func $inner (param i32) (result i32) (i32.load (local.get 0)))
        (func (export \"at\") (param i32) (result i32) (call $inner (local.get 0))))";
    let case = Case::module(text);
    if dynlink::Config::guard_pages_available().is_err() {
        case.run(&["--guard-pages", "m.wasm"])
            .fails(2, &["--guard-pages", "build", "turn them off"]);
        return;
    }
    for address in ["65532", "65533", "-1"] {
        let [with, without] = [&["--guard-pages"][..], &[]].map(|flags| {
            let done = case.run(&[flags, &["--invoke", "at", "m.wasm", address]].concat());
            (done.status, done.stdout, done.stderr)
        });
        assert_eq!(with, without);
        assert_eq!(with.0, Some(if address == "65532" { 0 } else { 134 }));
    }
    // Without the address space there is no memory, and the message has a remedy.
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "ulimit -v 6000000; exec \"$0\" --guard-pages --invoke at m.wasm 0",
        ])
        .arg(env!("CARGO_BIN_EXE_dynlink"))
        .current_dir(case.folder.path())
        .output()
        .expect("the command starts");
    assert_eq!(output.status.code(), Some(127), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("ulimit -v") && told.contains("--guard-pages"),
        "{told}"
    );
}

/// Opens the file `a` below descriptor 3 (relative to what is mounted first) and exits with the errno; 0 is success.
fn opens(rights: &str) -> String {
    format!(
        "(module (import \"{WASI}\" \"proc_exit\" (func $exit (param i32)))
           (import \"{WASI}\" \"path_open\" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
           (memory (export \"memory\") 1)
           (data (i32.const 0) \"a\")
           (func (export \"_start\")
             (call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)
                                     (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 64)))))"
    )
}

#[test]
fn directories_are_shown_to_the_guest() {
    const READ: &str = "2";
    const WRITE: &str = "64";
    let case = Case::module(&opens(READ))
        .file("data/a", "x")
        .and("w.wasm", &opens(WRITE));
    assert_eq!(
        case.run(&["m.wasm"]).status,
        Some(8),
        "nothing is mounted: EBADF"
    );
    assert_eq!(case.run(&["--dir", "data", "m.wasm"]).status, Some(0));
    assert_eq!(
        case.run(&["--dir", "data::/x:ro", "m.wasm"]).status,
        Some(0)
    );
    assert_eq!(case.run(&["--dir", "data", "w.wasm"]).status, Some(0));
    assert_ne!(case.run(&["--dir", "data:ro", "w.wasm"]).status, Some(0));
}

const LIBRARY: &str =
    "(module (@dylink.0 (mem-info)) (func (export \"answer\") (result i32) (i32.const 42)))";
const OTHER: &str =
    "(module (@dylink.0 (mem-info)) (func (export \"answer\") (result i32) (i32.const 7)))";

fn main_with_library() -> String {
    format!(
        "(module (@dylink.0 (mem-info) (needed \"liba.so\"))
           (import \"{WASI}\" \"proc_exit\" (func $exit (param i32)))
           (import \"env\" \"memory\" (memory 1))
           (import \"env\" \"answer\" (func $answer (result i32)))
           (func (export \"_start\") (call $exit (call $answer))))"
    )
}

#[test]
fn libraries_are_found_on_the_library_path() {
    let case = Case::module(&main_with_library())
        .and("lib/liba.so", LIBRARY)
        .and("other/libb.so", OTHER);
    case.run(&["m.wasm"]).fails(127, &["liba.so"]);
    let directories = ["--dir", "lib::/lib", "--dir", "other::/other"];
    let run = |flags: &[&str], variables: &[(&str, &str)]| {
        let arguments = [&directories[..], flags, &["m.wasm"]].concat();
        case.run_with(&arguments, variables, b"").status
    };
    assert_eq!(run(&["--library-path", "/lib"], &[]), Some(42));
    assert_eq!(run(&["--library-path", "/other:/lib"], &[]), Some(42));
    assert_eq!(run(&[], &[("LD_LIBRARY_PATH", "/lib")]), Some(42));
    assert_eq!(run(&["--library-path", "/other"], &[]), Some(127));
    // A library that is loaded first wins.
    assert_eq!(
        run(
            &["--library-path", "/lib", "--preload", "/other/libb.so"],
            &[]
        ),
        Some(7)
    );
}

#[test]
fn the_linker_tells_what_it_does() {
    let case = Case::module(&main_with_library()).and("lib/liba.so", LIBRARY);
    let flags = [
        "--trace",
        "libs,bindings",
        "--dir",
        "lib::/lib",
        "--library-path",
        "/lib",
        "m.wasm",
    ];
    case.run(&flags).fails(42, &["/lib/liba.so", "answer"]);
    let done = case.run(&["--trace", "help", "m.wasm"]);
    assert_eq!(done.status, Some(0));
    assert!(done.stdout.contains("bindings"), "{done:?}");
}

#[test]
fn a_manifest_describes_a_program() {
    let text = "abi = \"wasi\"\nmain = \"m.wasm\"\nlibrary-path = [\"/lib\"]\n\
                [[mount]]\nguest = \"/lib\"\nfolder = \"lib\"\n";
    let case = Case::new()
        .and("app/m.wasm", &main_with_library())
        .and("app/lib/liba.so", LIBRARY)
        .file("app/app.toml", text)
        .file(
            "app/wrong.toml",
            text.replace("library-path", "libary-path"),
        )
        .file("app/fuel.toml", format!("{text}[limits]\nfuel = 1\n"));
    assert_eq!(case.run(&["app/app.toml"]).status, Some(42));
    case.run(&["app/wrong.toml"])
        .fails(127, &["wrong.toml:3:", "`libary-path`"]);
    case.run(&["app/fuel.toml"]).fails(124, &["fuel"]);
    assert_eq!(
        case.run(&["--fuel", "1000000", "app/fuel.toml"]).status,
        Some(42)
    );
}

#[test]
fn a_manifests_entry_can_be_a_library_with_c_arguments() {
    // A main module with an allocator, and a library whose function gives argc and the length of argv[1].
    let main = "(module (memory (export \"memory\") 2) (table (export \"__indirect_function_table\") 1 funcref)
        (global $next (mut i32) (i32.const 4096))
        (func (export \"malloc\") (param i32) (result i32)
          (global.get $next)
          (global.set $next (i32.and (i32.add (global.get $next) (i32.add (local.get 0) (i32.const 7))) (i32.const -8))))
        (func (export \"free\") (param i32)))";
    let library = "(module (@dylink.0 (mem-info)) (import \"env\" \"memory\" (memory 1))
        (func (export \"entry\") (param $count i32) (param $list i32) (result i32) (local $text i32) (local $length i32)
          (local.set $text (i32.load offset=4 (local.get $list)))
          (block (loop
            (br_if 1 (i32.eqz (i32.load8_u (i32.add (local.get $text) (local.get $length)))))
            (local.set $length (i32.add (local.get $length) (i32.const 1)))
            (br 0)))
          (i32.add (i32.mul (local.get $count) (i32.const 16)) (local.get $length))))";
    let text = "abi = \"wasi\"\nmain = \"m.wasm\"\n[entry]\nlibrary = \"/lib/e.so\"\nfunction = \"entry\"\n\
                [[mount]]\nguest = \"/lib\"\nfolder = \".\"\n";
    let case = Case::module(main).and("e.so", library).file("p.toml", text);
    assert_eq!(case.run(&["p.toml", "abcde", "x"]).status, Some(3 * 16 + 5));
    let case = case.file("q.toml", text.replace("\"entry\"", "\"missing\""));
    case.run(&["q.toml", "x"]).fails(127, &["missing"]);
}

#[test]
fn help_and_version_are_printed() {
    let case = Case::new();
    let done = case.run(&["--help"]);
    assert_eq!(done.status, Some(0));
    assert!(done.stdout.contains("Usage:") && done.stdout.contains("Examples:"));
    case.run(&["--version"])
        .prints(&format!("dynlink {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_manifest_mounts_archives_overlays_and_memory() {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    archive.start_file("a", options).expect("an entry");
    archive.write_all(b"x").expect("its contents");
    let archive = archive.finish().expect("an archive").into_inner();
    // Each manifest mounts one thing, which is descriptor 3.
    let manifest = |module: &str, mount: &str| {
        format!("abi = \"wasi\"\nmain = \"{module}\"\n[[mount]]\nguest = \"/d\"\n{mount}\n")
    };
    let case = Case::module(&opens("2"))
        .and("w.wasm", &opens("64"))
        .file("data.zip", archive)
        .file("data/a", "x")
        .file("read.toml", manifest("m.wasm", "archive = \"data.zip\""))
        .file("write.toml", manifest("w.wasm", "archive = \"data.zip\""))
        .file(
            "over.toml",
            manifest("w.wasm", "archive = \"data.zip\"\naccess = \"overlay\""),
        )
        .file("folder.toml", manifest("w.wasm", "folder = \"data\""))
        .file(
            "both.toml",
            manifest("w.wasm", "folder = \"data\"\naccess = \"read-write\""),
        )
        .file("memory.toml", manifest("m.wasm", "memory = true"))
        .file("none.toml", manifest("m.wasm", "archive = \"none.zip\""));
    assert_eq!(case.run(&["read.toml"]).status, Some(0));
    assert_eq!(case.run(&["write.toml"]).status, Some(69), "EROFS");
    assert_eq!(case.run(&["over.toml"]).status, Some(0));
    assert_eq!(case.run(&["folder.toml"]).status, Some(69), "EROFS");
    assert_eq!(case.run(&["both.toml"]).status, Some(0));
    assert_eq!(case.run(&["memory.toml"]).status, Some(44), "ENOENT");
    case.run(&["none.toml"]).fails(127, &["none.zip"]);
}
