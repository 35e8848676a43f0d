//! Programs whose C library is a shared library, as wasi-sdk makes them: a position-independent main module, libraries of
//! its own, and the `libc.so` of a sysroot (`fixtures/programs/wasi-libs.toml`, sources in `wasi-libs/`).
//!
//! The sysroot's package is fetched into the user's cache. Expected outputs follow from the sources; where order is
//! shown, it is that of C (constructors of what is needed first, everything at the end in reverse).

#![forbid(unsafe_code)]

use dynlink::cli::packages::PackageCache;
use dynlink::host::{Mount, Pipe};
use dynlink::{Error, ProgramBuilder, Result};
use std::path::{Path, PathBuf};

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/programs")
}

/// The program of the manifest, with another main module if one is named.
fn program(main: Option<&str>) -> ProgramBuilder {
    let cache = PackageCache::of_user().expect("a place for packages");
    let builder = ProgramBuilder::from_manifest(programs().join("wasi-libs.toml"), &cache);
    let builder = builder.expect("the manifest");
    match main {
        Some(main) => builder.main_file(programs().join("wasi-libs").join(main)),
        None => builder,
    }
}

struct Done {
    status: Result<i32>,
    output: String,
}

fn run(builder: ProgramBuilder, arguments: &[&str]) -> Done {
    let output = Pipe::capture();
    let program = builder.stdout(&output).build().expect("a program");
    let status = program.run(arguments.iter().copied());
    Done {
        status,
        output: output.take_text(),
    }
}

#[track_caller]
fn prints(arguments: &[&str], expected: &str) {
    prints_with(program(None), arguments, expected);
}

#[track_caller]
fn prints_with(builder: ProgramBuilder, arguments: &[&str], expected: &str) {
    let done = run(builder, arguments);
    match done.status {
        Ok(0) => assert_eq!(done.output, expected),
        other => panic!("{other:?} after: {}", done.output),
    }
}

#[track_caller]
fn fails(builder: ProgramBuilder, arguments: &[&str]) -> Error {
    let done = run(builder, arguments);
    match done.status {
        Err(error) => error,
        Ok(status) => panic!("status {status} after: {}", done.output),
    }
}

#[test]
fn arguments_and_formats_reach_main_through_libc() {
    prints(
        &["hello", "one", "two words", ""],
        "hello from main.wasm: <one> <two words> <>\n\
         -7 3.142 1.000000e+100 1.41421 text     r|l    | c beef 1099511627776\n",
    );
}

#[test]
fn the_exit_status_is_mains_or_that_of_exit_wherever_it_is_called() {
    for (arguments, expected) in [
        (&["status", "7"][..], 7),
        (&["library-status", "8"], 8),
        (&["what is this"], 2),
    ] {
        let done = run(program(None).stderr(&Pipe::capture()), arguments);
        assert_eq!(done.status.expect("an exit"), expected, "{arguments:?}");
    }
}

#[test]
fn streams_of_main_are_streams_of_its_libraries() {
    prints(
        &["files"],
        "15 bytes\nmain 1\nlibrary\nat 5: 1, position 6\nmoved.txt\n0 0 -1\n",
    );
}

#[test]
fn standard_input_is_read_through_libc() {
    let input = Pipe::from_bytes("some text\nand more\n");
    prints_with(program(None).stdin(&input), &["input"], "19 characters\n");
}

#[test]
fn errno_is_one_variable() {
    prints(&["errors"], "-1 1 No such file or directory\n1 1\n");
}

#[test]
fn the_environment_is_one() {
    prints_with(
        program(None).env("GIVEN", "by the host"),
        &["environment"],
        "GIVEN=by the host\nOWN=set by main\nOWN=set by the library\n",
    );
}

#[test]
fn the_heap_is_one_and_does_not_touch_libraries() {
    prints(
        &["memory"],
        "0 wrong bytes, library's data intact\naligned: 0\n",
    );
}

#[test]
fn functions_have_one_address_everywhere() {
    prints(&["callbacks"], "9 6 5 4 3 2 1 1 1 1 2 3 4 5 6 9 1 1\n");
}

#[test]
fn text_numbers_and_dates_are_libcs() {
    prints(
        &["text"],
        "7 wide w\n25.00 xyz 127\n3 12 words 32\n1970-01-02 Fri\n",
    );
}

#[test]
fn constructors_run_once_and_in_order_and_everything_ends_in_reverse() {
    prints(
        &["order"],
        "libbase: constructor\nlibwork: constructor\nmain: constructor\nconstructed 1 time(s)\nmain: main\n\
         main: atexit, second\nlibwork: atexit\nmain: atexit, first\n\
         main: destructor\nlibwork: destructor\nlibbase: destructor\n",
    );
}

/// What `plugins` shows.
const PLUGINS: &str = "plugin: constructor\ncount 1 2 3, same handle 1\nloaded: 1\nmissing: 0\nits error names it\n\
     main: closing\nplugin: destructor\nplugin: atexit\nmain: closed\nloaded: 0\n\
     plugin: constructor\nfresh: 1\n0 1 0\n\
     plugin: destructor\nplugin: atexit\nmain: destructor\nlibwork: destructor\nlibbase: destructor\n";

#[test]
fn plugins_are_opened_counted_closed_and_opened_afresh() {
    // The program was linked with the sysroot's libdl.so, whose functions only fail.
    prints(&["plugins"], PLUGINS);
}

#[test]
fn the_library_with_dlopen_need_not_be_there() {
    // The same libraries without libdl.so.
    let cache = PackageCache::of_user().expect("a place for packages");
    let folder = tempfile::tempdir().expect("a folder");
    let libc = sysroot(&cache).join("libc.so");
    std::fs::copy(libc, folder.path().join("libc.so")).expect("a copy");
    let only_libc = Mount::host(folder.path()).expect("a mount").read_only();
    prints_with(
        program(None).mount("/sysroot", only_libc),
        &["plugins"],
        PLUGINS,
    );
}

/// The folder with the sysroot's libraries.
fn sysroot(cache: &PackageCache) -> PathBuf {
    let text = std::fs::read_to_string(programs().join("wasi-libs.toml")).expect("the manifest");
    let manifest =
        dynlink::cli::manifest::Manifest::parse(&text, "wasi-libs.toml").expect("parsed");
    let package = manifest.packages["sysroot"].get_ref().package();
    let folder = cache.folder(&package).expect("the package");
    folder.join("lib/wasm32-wasip1")
}

#[test]
fn a_plugin_that_stays_open_ends_between_mains_handlers() {
    prints(
        &["keep-open"],
        "plugin: constructor\nmain: atexit, second\nplugin: destructor\nplugin: atexit\nmain: atexit, first\n\
         main: destructor\nlibwork: destructor\nlibbase: destructor\n",
    );
}

#[test]
fn opening_and_closing_a_plugin_thousands_of_times_takes_no_memory() {
    let few = run(program(None), &["cycles", "100"]);
    let many = run(program(None), &["cycles", "3000"]);
    assert_eq!((few.status.ok(), many.status.ok()), (Some(0), Some(0)));
    assert!(few.output.ends_with(" pages\n"), "{}", few.output);
    assert_eq!(few.output, many.output);
}

#[test]
fn libc_is_not_initialised_again_when_it_is_opened() {
    // Its `_initialize` traps at a second call.
    prints(&["reopen-libc"], "1 1\n1 1\n1 1\n0 0\n");
}

#[test]
fn libraries_of_the_sysroot_can_be_opened_by_programs_that_were_not_linked_with_them() {
    prints(
        &["emulated"],
        "pid 42\nclock 1\nmapped 1 0\nsignal 15\nraise 0\n",
    );
}

#[test]
fn a_preloaded_library_replaces_functions_that_libc_itself_calls() {
    prints(&["hidden"], "shown.txt: made\nhidden.txt: made\n");
    prints_with(
        program(None).preload("libpaths.so"),
        &["hidden"],
        "shown.txt: made\nhidden.txt: No such file or directory\n",
    );
}

#[test]
fn an_abort_in_a_library_is_a_trap_with_all_of_them_in_its_backtrace() {
    let error = fails(program(None), &["abort"]);
    let text = format!("{error}\n{error:?}");
    for part in [
        "libc.so!abort",
        "libwork.so!abort_in_library",
        "libc.so!__main_void",
        "main.wasm!_start",
    ] {
        assert!(text.contains(part), "no {part}: {text}");
    }
}

#[test]
fn a_missing_libc_is_named_with_all_who_need_it() {
    let empty = program(None).mount("/sysroot", Mount::memory());
    let error = fails(empty, &["hello"]).to_string();
    assert!(error.contains("`libc.so`, needed by"), "{error}");
    // Not libdl.so: that is the linker.
    assert!(!error.contains("libdl.so"), "{error}");
}

#[test]
fn classes_of_cpp_work_across_libraries() {
    prints_with(
        program(Some("cpp.wasm")),
        &[],
        "libshapes: a global object is made\nmain: a global object is made\nmain: a local static object is made\n\
         circle 0.785\ncircle 3.142\nsquare 4.000\n3 shapes, library sees 3\n0 shapes, total 10\n\
         main: a local static object is gone\nmain: a global object is gone\nlibshapes: a global object is gone\n",
    );
}

#[test]
fn a_program_without_main_is_initialised_before_its_functions_are_called() {
    let program = program(Some("reactor.wasm")).build().expect("a program");
    let results = program.invoke("add", ["2", "40"]).expect("a sum");
    assert_eq!(results, ["42"]);
}

#[test]
fn the_command_runs_the_manifest() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_dynlink"))
        .args(["run", "--env", "GIVEN=1"])
        .arg(programs().join("wasi-libs.toml"))
        .arg("environment")
        .output()
        .expect("the command");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(text.starts_with("GIVEN=1\n"), "{text}");
}
