//! The tools of the command: exact outputs, JSON that is read back, round trips, and files that are not sound.

#![forbid(unsafe_code)]

mod case;

use case::Case;
use serde_json::Value;
use std::path::Path;

const WASI: &str = "wasi_snapshot_preview1";

/// A main module that needs `libleft.so` and `libright.so`, which both need `libbase.so`.
fn diamond() -> Case {
    let side = |name: &str| {
        format!(
            "(module (@dylink.0 (mem-info (memory 16 2)) (needed \"libbase.so\"))
               (import \"env\" \"memory\" (memory 1))
               (import \"env\" \"__memory_base\" (global i32))
               (import \"env\" \"base\" (func $base (result i32)))
               (func (export \"{name}\") (result i32) (call $base)))"
        )
    };
    Case::module(&format!(
        "(module (@dylink.0 (mem-info) (needed \"libleft.so\" \"libright.so\"))
           (import \"{WASI}\" \"proc_exit\" (func $exit (param i32)))
           (import \"env\" \"memory\" (memory 1))
           (import \"env\" \"__memory_base\" (global i32))
           (import \"env\" \"left\" (func $left (result i32)))
           (import \"env\" \"right\" (func $right (result i32)))
           (func (export \"_start\") (call $exit (i32.add (call $left) (call $right)))))"
    ))
    .and("lib/libleft.so", &side("left"))
    .and("lib/libright.so", &side("right"))
    .and(
        "lib/libbase.so",
        "(module (@dylink.0 (mem-info (memory 4 2) (table 1 0)))
           (import \"env\" \"memory\" (memory 1))
           (import \"env\" \"__indirect_function_table\" (table 1 funcref))
           (import \"env\" \"__memory_base\" (global i32))
           (func (export \"base\") (result i32) (i32.const 21)))",
    )
}

fn size(case: &Case, name: &str) -> u64 {
    std::fs::metadata(case.path(name)).expect("a file").len()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn ldd_prints_the_tree_with_sizes_and_places() {
    let case = diamond();
    let [main, left, right, base] = [
        "m.wasm",
        "lib/libleft.so",
        "lib/libright.so",
        "lib/libbase.so",
    ]
    .map(|name| size(&case, name));
    let here = case.path("").canonicalize().expect("the folder");
    let here = here.display();
    case.run(&["ldd", "--library-path", "lib", "m.wasm"])
        .prints(&format!(
            "m.wasm  (file {main} B)\n\
         ├── libleft.so => {here}/lib/libleft.so  (file {left} B, memory 16 B at 0x400)\n\
         │   └── libbase.so => {here}/lib/libbase.so  (file {base} B, memory 4 B at 0x420, table 1 at 1)\n\
         └── libright.so => {here}/lib/libright.so  (file {right} B, memory 16 B at 0x410)\n    \
             └── libbase.so  (above)\n\
         \n\
         4 objects: files {} B, memory 36 B, table 1\n",
            main + left + right + base
        ));
    // What a run sees is the same, and it runs.
    let shown = ["--dir", "lib::/lib", "--library-path", "/lib", "m.wasm"];
    assert_eq!(case.run(&shown).status, Some(42));
    let done = case.run(&[&["ldd"], &shown[..]].concat());
    assert!(
        done.stdout.contains("libbase.so => /lib/libbase.so"),
        "{done:?}"
    );
    assert_eq!(done.status, Some(0));
}

#[test]
fn ldd_says_where_missing_libraries_were_looked_for_and_where_they_are() {
    let case = diamond();
    std::fs::rename(case.path("lib/libbase.so"), case.path("libbase.so")).expect("moved");
    let done = case.run(&["ldd", "--library-path", "lib:more", "m.wasm"]);
    assert_eq!(done.status, Some(1));
    let line =
        "libbase.so => not found (looked for in: lib/libbase.so, more/libbase.so); one is in .";
    assert_eq!(done.stdout.matches(line).count(), 2, "{done:?}");
    assert!(
        done.stdout.ends_with("; 2 not found or not usable\n"),
        "{done:?}"
    );
    let case = case.file("lib/libbase.so", "no module");
    let done = case.run(&["ldd", "--library-path", "lib", "m.wasm"]);
    assert_eq!(done.status, Some(1));
    assert!(
        done.stdout.contains("libbase.so => not usable: "),
        "{done:?}"
    );
}

#[test]
fn ldd_has_json_and_a_drawing() {
    let case = diamond();
    let done = case.run(&["ldd", "--json", "--library-path=lib", "m.wasm"]);
    assert_eq!(done.status, Some(0), "{done:?}");
    let value = json(&done.stdout);
    let objects = value["objects"].as_array().expect("objects");
    let names: Vec<&str> = objects
        .iter()
        .filter_map(|object| object["name"].as_str())
        .collect();
    assert_eq!(names, ["m.wasm", "libleft.so", "libright.so", "libbase.so"]);
    assert_eq!(objects[3]["memory"]["base"], 0x420);
    assert_eq!(objects[3]["table"]["base"], 1);
    assert_eq!(objects[1]["needed"][0]["object"], 3);
    assert_eq!(value["missing"], Value::Array(Vec::new()));

    let drawn = case
        .run(&["ldd", "--dot", "--library-path=lib", "m.wasm"])
        .stdout;
    assert!(drawn.starts_with("digraph libraries {\n") && drawn.ends_with("}\n"));
    for line in ["o0 -> o1;", "o0 -> o2;", "o1 -> o3;", "o2 -> o3;"] {
        assert!(drawn.contains(line), "{drawn}");
    }
    let drawn = case.run(&["ldd", "--dot", "m.wasm"]);
    assert_eq!(drawn.status, Some(1));
    assert!(
        drawn.stdout.contains("o0 -> \"libleft.so\" [color=red];"),
        "{drawn:?}"
    );
}

#[test]
fn check_lists_everything_at_once_with_what_is_near() {
    let library = "(module (@dylink.0 (mem-info) (needed \"libgone.so\"))
        (func (export \"multiply\") (param i32 i32 f64) (result i32) (i32.const 0))
        (func (export \"_Z5scaled\") (param f64))
        (global (export \"counter\") i32 (i32.const 0)))";
    let main = "(module (@dylink.0 (mem-info) (needed \"liba.so\"))
        (import \"env\" \"multiply\" (func (param i32 i32 i32) (result i32)))
        (import \"env\" \"mutliply\" (func (param i32 i32 f64) (result i32)))
        (import \"env\" \"_Z5scalei\" (func (param i32)))
        (import \"env\" \"counter\" (func))
        (import \"env\" \"elsewhere\" (func (param i64)))
        (import \"GOT.mem\" \"nothing_like_it\" (global (mut i32)))
        (func (export \"_start\")))";
    let other = "(module (@dylink.0 (mem-info)) (func (export \"elsewhere\") (param i64)))";
    let case = Case::module(main)
        .and("lib/liba.so", library)
        .and("lib/other.so", other);
    let done = case.run(&["check", "--library-path", "lib", "m.wasm"]);
    let expected = "\
shared library dependency not found in library path: `libgone.so`
  needed by  liba.so
  searched   lib/libgone.so
  help       add the directory that has `libgone.so` to the library path

signature mismatch for `multiply`: wanted (i32 i32 i32) -> (i32), but `liba.so` exports (i32 i32 f64) -> (i32) (they differ in parameter 3)
  wanted by  m.wasm
  help       build `m.wasm` and `liba.so` with the same declaration of `multiply`

undefined function `mutliply`: (i32 i32 f64) -> (i32)
  wanted by  m.wasm
  near       liba.so has `multiply`: (i32 i32 f64) -> (i32)  <- one letter differs
  searched   m.wasm, liba.so
  help       link the object file that defines `mutliply`, or load the library that has it

undefined function `_Z5scalei` = `scale(int)`: (i32) -> ()
  wanted by  m.wasm
  near       liba.so has `_Z5scaled` = `scale(double)`: (f64) -> ()  <- the C++ parameters differ
  searched   m.wasm, liba.so
  help       build both sides with the same declaration of `_Z5scalei` = `scale(int)`

symbol `counter` is wanted as a function, but is data in `liba.so`
  wanted by  m.wasm
  help       `counter` has to be the same in both, a function or data: rename one of them

undefined function `elsewhere`: (i64) -> ()
  wanted by  m.wasm
  near       lib/other.so has `elsewhere`: (i64) -> ()  <- a file on the search path that nobody needs
  searched   m.wasm, liba.so
  help       load `other.so` too: name it among the needed libraries, or open it first

undefined data symbol `nothing_like_it`
  wanted by  m.wasm
  searched   m.wasm, liba.so
  help       it may be in what is missing: libgone.so

m.wasm: 7 problems
";
    assert_eq!((done.status, &*done.stderr), (Some(1), ""), "{done:?}");
    assert_eq!(done.stdout, expected);

    let done = case.run(&["check", "--json", "--library-path", "lib", "m.wasm"]);
    assert_eq!(done.status, Some(1));
    let value = json(&done.stdout);
    let problems = value["problems"].as_array().expect("problems");
    let kinds: Vec<&str> = problems
        .iter()
        .filter_map(|problem| problem["kind"].as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "missing-library",
            "signature-mismatch",
            "undefined",
            "undefined",
            "kind-mismatch",
            "undefined",
            "undefined"
        ]
    );
    assert_eq!(problems[3]["symbol"]["readable"], "scale(int)");
    assert_eq!(problems[1]["symbol"]["type"], "(i32 i32 i32) -> (i32)");
    assert_eq!(problems[5]["near"][0]["provider"], "lib/other.so");
    assert_eq!(problems[6]["symbol"]["kind"], "data");
}

#[test]
fn check_knows_hidden_and_unexported_functions_and_c_linkage() {
    let library = "(module (@dylink.0 (mem-info) (export-info \"secret\" visibility-hidden))
        (func $inside (param i32)) (func (export \"secret\")) (func (export \"plain\")))";
    let main = format!(
        "(module (@dylink.0 (mem-info) (needed \"liba.so\"))
           (import \"env\" \"inside\" (func (param i32)))
           (import \"env\" \"secret\" (func))
           (import \"env\" \"_Z5plainv\" (func))
           (import \"{WASI}\" \"fd_close\" (func (param i64) (result i32)))
           (func (export \"_start\")))"
    );
    let case = Case::module(&main).and("liba.so", library);
    let done = case.run(&["check", "--library-path", ".", "m.wasm"]);
    assert_eq!(done.status, Some(1));
    for part in [
        "near       liba.so has `inside`: (i32) -> ()  <- it is defined there, but not exported\n",
        "link `liba.so` with `--export=inside`",
        "near       liba.so has `secret`  <- it is hidden, or only imported there\n",
        "near       liba.so has `plain`: () -> ()  <- one of the two is a C++ name\n",
        "declare the function `extern \"C\"`",
        "near       the host has `fd_close`: (i32) -> (i32)  <- the signature differs in parameter 1\n",
    ] {
        assert!(
            done.stdout.contains(part),
            "`{part}` is missing:\n{}",
            done.stdout
        );
    }
}

#[test]
fn check_opens_further_libraries_as_dlopen_would() {
    let plugin = "(module (@dylink.0 (mem-info)) (import \"env\" \"base\" (func (result i32)))
        (import \"env\" \"unknown\" (func)) (func (export \"plugin\")))";
    let case = diamond().and("plugin.so", plugin);
    case.run(&["check", "--library-path", "lib", "m.wasm"])
        .prints("m.wasm: 4 objects, 14 imports bound, no problems\n");
    let done = case.run(&["check", "--library-path", "lib", "m.wasm", "plugin.so"]);
    assert_eq!(done.status, Some(1));
    assert!(
        done.stdout
            .starts_with("undefined function `unknown`: () -> ()\n  wanted by  ./plugin.so\n")
    );
    assert!(done.stdout.ends_with("m.wasm: 1 problem\n"), "{done:?}");
    let done = case.run(&["check", "--library-path", "lib", "m.wasm", "nowhere.so"]);
    assert!(
        done.stdout.contains("library not found: `nowhere.so`"),
        "{done:?}"
    );
    assert_eq!(done.status, Some(1));
}

/// A case of the fixtures, whose modules clang made.
fn fixture(name: &str) -> Case {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name);
    let mut case = Case::new();
    for entry in std::fs::read_dir(folder).expect("the case").flatten() {
        let name = entry.file_name().into_string().expect("a name");
        if name.ends_with(".wasm") || name.ends_with(".so") {
            case = case.file(&name, std::fs::read(entry.path()).expect("a file"));
        }
    }
    case
}

#[test]
fn check_finds_what_is_wrong_in_real_programs() {
    for (name, parts) in [
        (
            "undefined-function-at-start",
            vec!["undefined function `nowhere_defined`: (i32) -> (i32)"],
        ),
        (
            "signature-mismatch",
            vec![
                "signature mismatch for `f`",
                "(they differ in the number of parameters)",
            ],
        ),
        (
            "missing-library-at-start",
            vec![
                "`libgone.so`",
                "`libalso.so`",
                "it may be in what is missing: libgone.so, libalso.so",
            ],
        ),
    ] {
        let case = fixture(name);
        for style in ["needed", "pie", "exe"] {
            let main = format!("main-{style}.wasm");
            let done = case.run(&["check", "--library-path", ".", &main]);
            assert_eq!(done.status, Some(1), "{name}: {done:?}");
            for part in &parts {
                assert!(
                    done.stdout.contains(part),
                    "{name}: `{part}` is missing: {done:?}"
                );
            }
        }
    }
    let clean = fixture("needed-diamond").run(&["check", "--library-path", ".", "main-pie.wasm"]);
    assert_eq!(clean.status, Some(0), "{clean:?}");
}

#[test]
fn nm_prints_symbols_as_nm_does() {
    let library = "(module (@dylink.0 (mem-info (memory 16 2)) (export-info \"thread\" tls)
            (import-info \"env\" \"maybe\" binding-weak undefined))
        (import \"env\" \"memory\" (memory 1))
        (import \"env\" \"__memory_base\" (global $base i32))
        (import \"env\" \"maybe\" (func (param i32)))
        (import \"env\" \"_Z3addii\" (func (param i32 i32) (result i32)))
        (import \"GOT.func\" \"taken\" (global (mut i32)))
        (func (export \"f\") (param f32))
        (func $local)
        (global (export \"set\") i32 (i32.const 4))
        (global (export \"zero\") i32 (i32.const 12))
        (global (export \"thread\") i32 (i32.const 8))
        (data (global.get $base) \"12345678\"))";
    let case = Case::new().and("a.so", library);
    case.run(&["nm", "a.so"]).prints(
        "         U _Z3addii
         U __memory_base [global]
00000002 T f
00000003 t local
         w maybe
         U memory [memory]
00000004 D set
         U taken [GOT.func]
00000008 D thread [TLS]
0000000c B zero
",
    );
    case.run(&["nm", "-C", "--undefined-only", "-t", "a.so"])
        .prints(
            "         U add(int, int): (i32 i32) -> (i32)
         U __memory_base: i32 [global]
         w maybe: (i32) -> ()
         U memory: 1 pages [memory]
         U taken: mut i32 [GOT.func]
",
        );
    case.run(&["nm", "-DUn", "a.so"]).prints(
        "00000002 T f
00000004 D set
00000008 D thread [TLS]
0000000c B zero
",
    );
    let both = case.run(&["nm", "-U", "-A", "a.so", "a.so"]);
    assert_eq!(
        both.stdout.matches("a.so: 00000002 T f\n").count(),
        2,
        "{both:?}"
    );
    let value = json(&case.run(&["nm", "--json", "a.so"]).stdout);
    let symbols = value[0]["symbols"].as_array().expect("symbols");
    assert_eq!(symbols.len(), 10);
    assert_eq!(symbols[0]["readable"], "add(int, int)");
    assert_eq!(symbols[4]["weak"], true);
}

#[test]
fn objdump_prints_what_a_module_consists_of() {
    let library = "(module (@dylink.0 (mem-info (memory 16 2) (table 1 0)) (needed \"libb.so\") (runtime-path \"$ORIGIN\")
            (export-info \"t\" tls) (import-info \"env\" \"maybe\" binding-weak undefined))
        (import \"env\" \"maybe\" (func $maybe (param i32)))
        (import \"GOT.mem\" \"datum\" (global (mut i32)))
        (func $f (export \"f\") (param i32) (call $maybe (i32.add (local.get 0) (i32.const 1)))))";
    let case = Case::new().and("a.so", library);
    let dump = case.run(&["objdump", "--dylink", "--imports", "--exports", "a.so"]);
    dump.prints(
        "Dynamic linking (dylink.0):
  memory  16 bytes, aligned to 4
  table   1 slots, aligned to 1
  needed  libb.so
  rpath   $ORIGIN
  export  t: TLS
  import  env.maybe: WEAK UNDEFINED

Imports: 2
  GOT.mem (1)
    datum: global mut i32
  env (1)
    maybe: (i32) -> ()

Exports: 1
  function (1)
    f: (i32) -> ()
",
    );
    let sections = case.run(&["objdump", "-s", "a.so"]).stdout;
    for name in [
        "dylink.0", "type", "import", "function", "export", "code", "name",
    ] {
        assert!(sections.contains(&format!("  {name}\n")), "{sections}");
    }
    let code = case.run(&["objdump", "-d", "f", "a.so"]).stdout;
    let lines: Vec<&str> = code
        .lines()
        .map(|line| line.get(10..).unwrap_or("").trim())
        .collect();
    assert_eq!(
        lines[1..],
        [
            "local.get 0",
            "i32.const 1",
            "i32.add",
            "call 0 ;; maybe",
            "end"
        ]
    );
    let ir = case.run(&["objdump", "--ir", "1", "a.so"]).stdout;
    assert!(ir.starts_with("function 1 f: (i32) -> ()\nframe "), "{ir}");
    assert!(ir.contains("Call") && ir.contains("0xf0000000"), "{ir}");
    case.run(&["objdump", "-d", "0", "a.so"])
        .fails(2, &["function 0 has no body"]);
    case.run(&["objdump", "-d", "g", "a.so"])
        .fails(2, &["no function is named `g`"]);
    let value = json(&case.run(&["objdump", "--json", "a.so"]).stdout);
    assert_eq!(value["dylink"]["needed"], json("[\"libb.so\"]"));
    assert_eq!(value["dylink"]["imports"][0]["flags"], 0x11);
}

#[test]
fn a_patched_file_loads_what_it_needs_now() {
    let library =
        "(module (@dylink.0 (mem-info)) (func (export \"answer\") (result i32) (i32.const 42)))";
    let main = format!(
        "(module (@dylink.0 (mem-info))
           (import \"{WASI}\" \"proc_exit\" (func $exit (param i32)))
           (import \"env\" \"memory\" (memory 1))
           (import \"env\" \"answer\" (func $answer (result i32)))
           (func (export \"_start\") (call $exit (call $answer))))"
    );
    let case = Case::module(&main).and("lib/liba.so", library);
    let before = std::fs::read(case.path("m.wasm")).expect("the module");
    let run = |name: &str| case.run(&["--dir", ".::/", name]).status;
    assert_eq!(run("m.wasm"), Some(127));
    let patch = [
        "patch",
        "--add-needed",
        "libx.so",
        "--set-rpath",
        "/lib",
        "m.wasm",
    ];
    let done = case.run(
        &[
            &patch[..],
            &["-o", "new.wasm", "--print-needed", "--print-rpath"],
        ]
        .concat(),
    );
    done.prints("libx.so\n/lib\n");
    assert_eq!(
        std::fs::read(case.path("m.wasm")).expect("unchanged"),
        before
    );
    assert_eq!(run("new.wasm"), Some(127));
    let replace = [
        "patch",
        "--replace-needed",
        "libx.so",
        "liba.so",
        "new.wasm",
        "-o",
        "new.wasm",
    ];
    case.run(&replace).prints("");
    assert_eq!(run("new.wasm"), Some(42));
    // Taking both back gives the first file, byte by byte.
    let back = [
        "patch",
        "--remove-needed",
        "liba.so",
        "--remove-rpath",
        "new.wasm",
        "-o",
        "old.wasm",
    ];
    case.run(&back).prints("");
    assert_eq!(
        std::fs::read(case.path("old.wasm")).expect("a file"),
        before
    );
    let left: Vec<_> = std::fs::read_dir(case.path("."))
        .expect("the folder")
        .collect();
    assert_eq!(left.len(), 4, "no temporary file is left: {left:?}");
}

#[test]
fn patch_refuses_what_it_cannot_do_and_writes_nothing() {
    let case = Case::module("(module (@dylink.0 (mem-info) (needed \"liba.so\")))")
        .file("text", "no module")
        .file("cut.wasm", b"\0asm\x01\0\0\0\0\x7f");
    let output = ["-o", "out.wasm"];
    let run = |line: &[&str]| case.run(&[&["patch"], line, &output].concat());
    run(&["--remove-needed", "libz.so", "m.wasm"])
        .fails(127, &["`libz.so` is not needed", "liba.so"]);
    run(&["--add-needed", "x", "text"]).fails(127, &["text", "not a WebAssembly module"]);
    run(&["--add-needed", "x", "cut.wasm"]).fails(127, &["cut.wasm"]);
    run(&["--add-needed", "", "m.wasm"]).fails(2, &["empty"]);
    run(&["m.wasm"]).fails(2, &["nothing to do"]);
    case.run(&["patch", "--add-needed", "x", "m.wasm"])
        .fails(2, &["-o OUTPUT"]);
    case.run(&[
        "patch",
        "--add-needed",
        "x",
        "m.wasm",
        "-o",
        "no/such/folder.wasm",
    ])
    .fails(127, &["cannot write `no/such/folder.wasm`"]);
    assert!(!case.path("out.wasm").exists());
}

#[test]
fn verbs_and_options_that_do_not_exist_get_a_suggestion() {
    let case = diamond();
    case.run(&["ldd", "--jsn", "m.wasm"]).fails(
        2,
        &["`--jsn`", "did you mean `--json`?", "dynlink ldd --help"],
    );
    case.run(&["nm", "--undefined", "m.wasm"])
        .fails(2, &["`--undefined`"]);
    case.run(&["chekc", "m.wasm"])
        .fails(2, &["did you mean `dynlink check`?"]);
    case.run(&["help", "objdmp"])
        .fails(2, &["did you mean `objdump`?"]);
    case.run(&["ldd"]).fails(2, &["no PROGRAM"]);
    case.run(&["ldd", "m.wasm", "other.wasm"])
        .fails(2, &["other.wasm"]);
    case.run(&["nm"]).fails(2, &["no FILE"]);
    for verb in ["ldd", "check", "nm", "objdump", "patch"] {
        let help = case.run(&["help", verb]);
        assert_eq!(help.status, Some(0));
        assert!(help.stdout.contains("Examples:"), "{help:?}");
        assert_eq!(case.run(&[verb, "--help"]).stdout, help.stdout);
        assert!(
            help.stdout.lines().all(|line| line.chars().count() <= 100),
            "{verb}"
        );
    }
}

#[test]
fn tools_read_standard_input() {
    let module = wat::parse_str("(module (func (export \"f\")))").expect("a module");
    Case::new()
        .run_with(&["nm", "-"], &[], &module)
        .prints("00000000 T f\n");
    let done = Case::new().run_with(&["ldd", "-"], &[], &module);
    assert!(
        done.status == Some(0) && done.stdout.starts_with("stdin  (file "),
        "{done:?}"
    );
}

/// Every tool on files that are cut off or have a changed bit: an answer or a clear error, never a panic.
#[test]
fn files_that_are_not_sound_are_told_about() {
    let case = diamond();
    let whole = std::fs::read(case.path("lib/libleft.so")).expect("a module");
    let mut seen = [0; 3];
    for step in 0..60 {
        let mut bytes = whole.clone();
        if step % 2 == 0 {
            bytes.truncate(whole.len() * step / 60);
        } else {
            let bit = whole.len() * 8 * step / 60;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        std::fs::write(case.path("lib/libleft.so"), &bytes).expect("written");
        for line in [
            &["ldd", "--library-path", "lib", "m.wasm"][..],
            &["check", "--library-path", "lib", "m.wasm"],
            &["check", "lib/libleft.so"],
            &["nm", "-C", "lib/libleft.so"],
            &["objdump", "-spief", "lib/libleft.so"],
            &["objdump", "-d", "1", "lib/libleft.so"],
            &["objdump", "--ir", "1", "lib/libleft.so"],
            &[
                "patch",
                "--add-needed",
                "x",
                "lib/libleft.so",
                "-o",
                "out.so",
            ],
        ] {
            let done = case.run(line);
            match done.status {
                Some(0) => seen[0] += 1,
                Some(1) => seen[1] += 1,
                Some(2 | 127) if done.stderr.starts_with("dynlink") => seen[2] += 1,
                _ => panic!("{line:?}: {done:?}"),
            }
            assert!(!done.stderr.contains("panicked"), "{line:?}: {done:?}");
        }
    }
    assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
}

/// A module that imports and needs what nobody has, and a program with a library that traps, all with this name.
fn named(name: &str) -> Case {
    let undefined = format!(
        "(module (@dylink.0 (mem-info) (needed \"{name}.so\"))
           (import \"env\" \"{name}\" (func)) (import \"GOT.mem\" \"{name}\" (global (mut i32)))
           (import \"{name}\" \"{name}\" (func))
           (func (export \"_start\")))"
    );
    let program = format!(
        "(module (@dylink.0 (mem-info) (needed \"liba.so\"))
           (import \"env\" \"memory\" (memory 1))
           (import \"env\" \"{name}\" (func)) (func (export \"_start\") (call 0)))"
    );
    let library = format!(
        "(module (@dylink.0 (mem-info)) (import \"GOT.func\" \"{name}\" (global (mut i32)))
           (func (export \"{name}\") unreachable))"
    );
    Case::module(&program)
        .and("undefined.wasm", &undefined)
        .and("lib/liba.so", &library)
}

const TRACED: &[&str] = &[
    "--trace",
    "all,statistics",
    "--dir",
    "lib::/lib",
    "--library-path",
    "/lib",
    "m.wasm",
];

#[test]
fn names_of_guests_draw_no_lines_and_command_no_terminal() {
    let case = named("e\\1b[31m\\0afake: line\\0d`\\0afake: line\\07");
    let path = ["--library-path", "lib"];
    let mut escaped = 0;
    for (line, status) in [
        (TRACED, 134),
        (&["undefined.wasm"], 127),
        (&["ldd", "undefined.wasm"], 1),
        (&["ldd", "--dot", "undefined.wasm"], 1),
        (&["ldd", path[0], path[1], "m.wasm"], 0),
        (&["check", "undefined.wasm"], 1),
        (&["check", path[0], path[1], "undefined.wasm"], 1),
        (&["nm", "-tAC", "undefined.wasm", "lib/liba.so"], 0),
        (&["objdump", "-spief", "undefined.wasm"], 0),
        (&["objdump", "-d", "1", "--ir", "1", "m.wasm"], 0),
    ] {
        let done = case.run(line);
        assert_eq!(done.status, Some(status), "{line:?}: {done:?}");
        for text in [&done.stdout, &done.stderr] {
            let commands = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
            assert!(!text.contains(commands), "{line:?}: {text}");
            assert!(!text.contains("\nfake"), "{line:?}: {text}");
            escaped += usize::from(text.contains("e\\u{1b}[31m\\nfake: line\\r"));
        }
    }
    // `ldd` of a program whose libraries have other names says none, and a drawing escapes the escapes.
    assert_eq!(escaped, 8);
    // A backtick in a name ends no name in a message.
    case.run(&["undefined.wasm"])
        .fails(127, &["line\\r\\u{60}\\nfake", "\n  help       add"]);
    let symbols = json(&case.run(&["nm", "--json", "lib/liba.so"]).stdout);
    let name = "e\u{1b}[31m\nfake: line\r`\nfake: line\u{7}";
    assert_eq!(symbols[0]["symbols"][0]["name"], name);
}

#[test]
fn very_long_names_are_shortened_in_messages_but_not_in_json() {
    // Modules may have no longer ones.
    let name = format!("first{}last", "x".repeat(99_990 - ".so".len()));
    let case = named(&name);
    let mut told = 0;
    for (line, status) in [
        (TRACED, 134),
        (&["undefined.wasm"], 127),
        (&["ldd", "undefined.wasm"], 1),
        (&["check", "undefined.wasm"], 1),
        (&["check", "--library-path", "lib", "undefined.wasm"], 1),
    ] {
        let done = case.run(line);
        assert_eq!(done.status, Some(status), "{line:?}");
        let text = done.stdout + &done.stderr;
        assert!(text.len() < 30_000, "{line:?}: {} bytes", text.len());
        let shortened = text.contains("firstxxx") && text.contains("xxxlast");
        told += usize::from(shortened && text.contains(" characters left out ...]"));
    }
    assert_eq!(told, 5);
    let run = json(&case.run(&["check", "--json", "undefined.wasm"]).stdout);
    let problems = run["problems"].as_array().expect("a list");
    assert!(
        problems
            .iter()
            .any(|problem| problem["symbol"]["name"] == *name),
        "no problem has the exact name"
    );
}

/// The lines of the linker without the process's number.
fn traced(stderr: &str) -> Vec<&str> {
    let number = |line: &str| {
        let (number, _) = line.split_once(":\t").expect("a number");
        number.trim().parse::<u32>().expect("a number");
    };
    stderr
        .lines()
        .map(|line| {
            number(line);
            line.split_once(":\t").expect("a line").1
        })
        .collect()
}

#[test]
fn the_trace_has_the_words_of_ld_so() {
    let case = diamond();
    let run = |topic: &str| {
        let shown = ["--dir", "lib::/lib", "--library-path", "/lib", "m.wasm"];
        let done = case.run(&[&["--trace", topic], &shown[..]].concat());
        assert_eq!(done.status, Some(42), "{done:?}");
        done.stderr
    };
    let libs = run("libs");
    let expected = [
        "find library=libleft.so [0]; searching",
        " search path=/lib\t\t(LD_LIBRARY_PATH)",
        "  trying file=/lib/libleft.so",
        "",
    ];
    assert_eq!(traced(&libs)[..4], expected);
    assert!(
        libs.ends_with(":\ttransferring control: m.wasm\n")
            || libs.contains("transferring control: m.wasm")
    );
    let files = run("files");
    for line in [
        "file=libleft.so [0];  needed by m.wasm [0]",
        "file=libbase.so [0];  generating link map",
        "  memory: 0x00000420   size: 0x00000004",
        "   table:          1  slots:          1",
    ] {
        assert!(
            traced(&files).contains(&line),
            "`{line}` is missing: {files}"
        );
    }
    let bindings = run("bindings");
    for line in [
        "binding file libleft.so [0] to libbase.so [0]: normal symbol `base'",
        "binding file m.wasm [0] to the host [0]: normal symbol `proc_exit'",
    ] {
        assert!(
            traced(&bindings).contains(&line),
            "`{line}` is missing: {bindings}"
        );
    }
    let symbols = run("symbols");
    assert_eq!(
        traced(&symbols)[..3],
        [
            "symbol=left;  lookup in file=m.wasm [0]",
            "symbol=left;  lookup in file=libleft.so [0]",
            "symbol=right;  lookup in file=m.wasm [0]",
        ]
    );
    let scopes = run("scopes");
    assert_eq!(
        traced(&scopes),
        [
            "object=m.wasm [0]",
            " scope 0: m.wasm libleft.so libright.so libbase.so",
            ""
        ]
    );
    let statistics = run("statistics");
    let lines = traced(&statistics);
    assert_eq!(lines[1], "runtime linker statistics:");
    assert!(lines[2].starts_with("  total startup time in dynamic loader: "));
    assert!(lines[3].starts_with("            time needed for relocation: "));
    assert_eq!(lines[4], "                 number of relocations: 14");
    assert!(
        lines.contains(&"           final number of relocations: 14"),
        "{lines:?}"
    );
    // As in glibc, `all` does not tell statistics.
    assert!(!run("all").contains("statistics"));
}

#[test]
fn the_trace_goes_to_a_file_and_unknown_topics_are_warned_about() {
    let case = diamond();
    let shown = ["--dir", "lib::/lib", "--library-path", "/lib", "m.wasm"];
    let line = [&["--trace", "scopes"], &shown[..]].concat();
    let done = case.run_with(&line, &[("LD_DEBUG_OUTPUT", "trace")], b"");
    assert_eq!((done.status, &*done.stderr), (Some(42), ""));
    let files: Vec<_> = std::fs::read_dir(case.path("."))
        .expect("the folder")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("trace."))
        .collect();
    assert_eq!(files.len(), 1);
    let text = std::fs::read_to_string(files[0].path()).expect("a trace");
    assert!(text.contains(" scope 0: m.wasm libleft.so"), "{text}");

    let done = case.run_with(&shown, &[("LD_DEBUG", "nonsense")], b"");
    done.fails(
        42,
        &["warning: debug option `nonsense' unknown; try LD_DEBUG=help"],
    );
    case.run(&["--trace", "bindngs", "m.wasm"]).fails(
        2,
        &["unknown category `bindngs`", "did you mean `bindings`?"],
    );
    let help = case.run(&["--trace", "help", "m.wasm"]).stdout;
    assert!(
        help.contains("  libs        display library search paths\n"),
        "{help}"
    );
}

#[test]
fn a_map_says_who_lies_where() {
    let case = diamond();
    let shown = ["--dir", "lib::/lib", "--library-path", "/lib", "m.wasm"];
    let done = case.run(&[&["--map"], &shown[..]].concat());
    assert_eq!(done.status, Some(42));
    for line in [
        "0x00000000  0x00000400        1024  guard\n",
        "0x00000400  0x00000410          16  data              libleft.so\n",
        "0x00000410  0x00000420          16  data              libright.so\n",
        "0x00000420  0x00000424           4  data              libbase.so\n",
        "0x00000430  0x00010000       64464  heap\n",
        "         1          1           1  slots             libbase.so\n",
    ] {
        assert!(
            done.stderr.contains(line),
            "`{line}` is missing:\n{}",
            done.stderr
        );
    }
    let done = case.run(&[&["--map=map.json"], &shown[..]].concat());
    assert_eq!((done.status, &*done.stderr), (Some(42), ""));
    let text = std::fs::read_to_string(case.path("map.json")).expect("a map");
    let map = json(&text);
    assert_eq!(map["memory_bytes"], 65_536);
    let objects = map["objects"].as_array().expect("objects");
    assert_eq!(objects.len(), 4);
    // `_start`, `left` and `right` were called, and `base`: each once translated.
    for object in objects {
        assert_eq!(object["translated"], 1, "{object}");
        assert!(object["code_bytes"].as_u64() > Some(0));
    }
    let ranges = map["memory"].as_array().expect("ranges");
    let ends: Vec<_> = ranges
        .iter()
        .map(|range| (range["start"].as_u64(), range["end"].as_u64()))
        .collect();
    assert!(
        ends.windows(2).all(|pair| pair[0].1 <= pair[1].0),
        "{ends:?}"
    );
    // A longer map that was there is replaced.
    std::fs::write(case.path("map.json"), text.repeat(2)).expect("a file");
    case.run(&[&["--map=map.json"], &shown[..]].concat());
    let again = std::fs::read_to_string(case.path("map.json")).expect("a map");
    assert_eq!(again.len(), text.len());
    // A program that traps leaves a map, too.
    let trap = "(module (memory (export \"memory\") 1) (func (export \"_start\") unreachable))";
    let done = Case::module(trap).run(&["--map", "m.wasm"]);
    done.fails(134, &["memory: 65536 bytes", "unreachable"]);
}

#[test]
fn a_map_that_cannot_be_written_is_told_before_the_program_runs() {
    let says = r#"(module
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\08\00\00\00\03\00\00\00ran")
        (func (export "_start")
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
            (call $exit (i32.const 3))))"#;
    let case = Case::module(says);
    let done = case.run(&["--map=no/such/map.json", "m.wasm"]);
    assert_eq!(done.stdout, "", "it ran");
    done.fails(127, &["cannot write the map `no/such/map.json`"]);
    // What is noticed too late does not replace the program's own status.
    let done = case.run(&["--map=/dev/full", "m.wasm"]);
    assert_eq!((&*done.stdout, done.status), ("ran", Some(3)));
    assert!(
        done.stderr.contains("cannot write the map `/dev/full`"),
        "{}",
        done.stderr
    );
    // A file that is there keeps its contents if there is no map.
    std::fs::write(case.path("kept"), "kept").expect("a file");
    let done = case.run(&["--map=kept", "missing.wasm"]);
    done.fails(127, &["missing.wasm"]);
    assert_eq!(
        std::fs::read_to_string(case.path("kept")).expect("a file"),
        "kept"
    );
}
