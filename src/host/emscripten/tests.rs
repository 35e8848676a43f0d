//! The profile as a whole: newer shapes of programs than emcc 3.1.6 makes, and functions that an embedder offers.

use super::{Emscripten, EmscriptenHost, EmscriptenSymbols, call_main, is_program, table};
use crate::config::Engine;
use crate::error::{Error, Result};
use crate::host::{Kernel, KernelBuilder, KernelHost, Mount, Pipe, WasiSymbols};
use crate::link::{HostSymbols, MemoryFiles, Process, Profile};
use crate::module::{FuncType, Module};
use crate::runtime::{Caller, Func, Store, StoreContextMut};

struct Host {
    kernel: Kernel,
    emscripten: Emscripten,
}

impl KernelHost for Host {
    fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }
}

impl EmscriptenHost for Host {
    fn emscripten(&mut self) -> (&mut Kernel, &mut Emscripten) {
        (&mut self.kernel, &mut self.emscripten)
    }
}

/// Runs a program; gives its status or error, and process and store as they are then.
fn run(
    bytes: &[u8],
    kernel: KernelBuilder,
    files: MemoryFiles,
    symbols: impl HostSymbols<Host> + 'static,
) -> (Result<i32>, Process<Host>, Store<Host>) {
    run_with(bytes, kernel.no_preopens().build().unwrap(), files, symbols)
}

fn run_with(
    bytes: &[u8],
    kernel: Kernel,
    files: MemoryFiles,
    symbols: impl HostSymbols<Host> + 'static,
) -> (Result<i32>, Process<Host>, Store<Host>) {
    let engine = Engine::default();
    let module = Module::new(&engine, bytes).unwrap();
    assert!(is_program(&module));
    let host = Host {
        kernel,
        emscripten: Emscripten::default(),
    };
    let mut store = Store::new(&engine, host);
    let process = Process::builder()
        .profile(Profile::emscripten())
        .files(files)
        .library_path("/lib")
        .host(symbols)
        .build();
    let end = process
        .start(&mut store, &module, "/main.wasm")
        .and_then(|_| call_main(&process, &mut store, None));
    (end, process, store)
}

#[test]
fn a_name_with_one_signature_can_have_its_address_taken() {
    let ty = table::signature::<Host>("env", "emscripten_resize_heap").unwrap();
    assert_eq!(ty.params().len(), 1);
    assert!(table::signature::<Host>("env", "_mmap_js").is_none());
    assert!(table::knows::<Host>("_mmap_js"));
}

/// As emscripten makes them since late 2025: fixed addresses, memory and table exported, a subsection 6 in `dylink.0`, the
/// name at offset 36 of `struct dso`, symbols with an index, callbacks with the user's pointer.
const NEWEST: &str = r#"(module
    (@custom "dylink.0" (before first) "\01\04\00\04\02\00\06\06wasm32")
    (import "env" "_dlopen_js" (func $open (param i32) (result i32)))
    (import "env" "_dlsym_js" (func $symbol (param i32 i32 i32) (result i32)))
    (import "env" "_emscripten_dlopen_js" (func $later (param i32 i32 i32 i32)))
    (memory (export "memory") 3)
    (table (export "__indirect_function_table") 2 funcref)
    (elem (i32.const 1) $called_back)
    (global (export "__stack_pointer") (mut i32) (i32.const 65536))
    (global (export "__heap_base") i32 (i32.const 131072))
    (global $next (mut i32) (i32.const 131072))
    (data (i32.const 1028) "\02\00\00\00") (data (i32.const 1060) "side.so\00")
    (data (i32.const 1204) "\02\00\00\00") (data (i32.const 1236) "none%s.so\00")
    (data (i32.const 1300) "add\00nope\00")
    (data (i32.const 1504) "\02\00\00\00") (data (i32.const 1536) "side.so\00")
    (func (export "malloc") (param i32) (result i32)
        (global.get $next)
        (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get 0) (i32.const 31)) (i32.const -16)))))
    (func (export "free") (param i32))
    (func (export "__dl_seterr") (param i32 i32)
        (memory.copy (i32.const 2000) (local.get 0) (i32.const 120))
        (memory.copy (i32.const 2200) (i32.const 2400) (i32.const 120))
        (memory.copy (i32.const 2400) (local.get 0) (i32.const 120)))
    (func $called_back (param i32 i32)
        (i32.store (i32.const 3000) (i32.add (local.get 0) (local.get 1))))
    (type $binary (func (param i32 i32) (result i32)))
    (func (export "__main_argc_argv") (param i32 i32) (result i32)
        (if (i32.ne (call $open (i32.const 1024)) (i32.const 1)) (then (return (i32.const 1))))
        (if (call $open (i32.const 1200)) (then (return (i32.const 2))))
        (if (call $symbol (i32.const 1024) (i32.const 1304) (i32.const 1400)) (then (return (i32.const 3))))
        (call $later (i32.const 1500) (i32.const 1) (i32.const 1) (i32.const 40))
        (if (i32.load (i32.const 3000)) (then (return (i32.const 4))))
        (call_indirect (type $binary) (i32.const 20) (i32.const 22)
            (call $symbol (i32.const 1024) (i32.const 1300) (i32.const 1400)))))"#;

const SIDE: &str = r#"(module
    (@dylink.0 (mem-info (memory 4 2)))
    (import "env" "memory" (memory 0))
    (import "env" "__memory_base" (global i32))
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#;

#[test]
fn a_program_of_the_newest_shape_opens_libraries_now_and_later() {
    let main = wat::parse_str(NEWEST).unwrap();
    let mut files = MemoryFiles::new();
    files.insert("/lib/side.so", wat::parse_str(SIDE).unwrap());
    let symbols = EmscriptenSymbols::new(WasiSymbols);
    let (end, process, mut store) = run(&main, KernelBuilder::new().arg("main"), files, symbols);
    assert_eq!(end.unwrap(), 42);
    let memory = process.memory().unwrap();
    let text = |store: &mut Store<Host>, at: usize| {
        let mut bytes = [0; 120];
        memory.read(store, at, &mut bytes).unwrap();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(bytes[..end].to_vec()).unwrap()
    };
    assert_eq!(
        text(&mut store, 2200),
        "could not load dynamic lib: none%%s.so\nError: ENOENT: no such file or directory, open 'none%%s.so'"
    );
    assert_eq!(
        text(&mut store, 2400),
        "Tried to lookup unknown symbol \"nope\" in dynamic lib: side.so"
    );
    let mut sum = [0; 4];
    memory.read(&mut store, 3000, &mut sum).unwrap();
    assert_eq!(u32::from_le_bytes(sum), 1540);
}

/// A program that opens one library globally, by a description of its version's form, and calls a function of it that
/// `RTLD_DEFAULT` finds. Its status is 42, or which step failed.
fn opens_a_library(description: &[(u32, &str)], asks_with_index: bool) -> Vec<u8> {
    let data: String = description
        .iter()
        .map(|(offset, bytes)| format!("(data (i32.const {}) \"{bytes}\")", 1024 + offset))
        .collect();
    let (ty, index) = match asks_with_index {
        true => ("i32 i32 i32", "(i32.const 1400)"),
        false => ("i32 i32", ""),
    };
    let text = format!(
        r#"(module
        (@custom "dylink.0" (before first) "\01\04\00\04\00\00")
        (import "env" "_dlopen_js" (func $open (param i32) (result i32)))
        (import "env" "_dlsym_js" (func $symbol (param {ty}) (result i32)))
        (memory (export "memory") 3)
        (table (export "__indirect_function_table") 0 funcref)
        (global (export "__stack_pointer") (mut i32) (i32.const 65536))
        (global (export "__heap_base") i32 (i32.const 131072))
        (global $next (mut i32) (i32.const 131072))
        {data}
        (data (i32.const 1300) "add\00nope\00") (data (i32.const 1400) "\ff\ff\ff\ff")
        (func (export "malloc") (param i32) (result i32)
            (global.get $next)
            (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get 0) (i32.const 31)) (i32.const -16)))))
        (func (export "free") (param i32))
        (func (export "__dl_seterr") (param i32 i32)
            (memory.copy (i32.const 2000) (local.get 0) (i32.const 120)))
        (type $binary (func (param i32 i32) (result i32)))
        (func (export "main") (param i32 i32) (result i32)
            (if (i32.ne (call $open (i32.const 1024)) (i32.const 1)) (then (return (i32.const 1))))
            (if (call $symbol (i32.const 0) (i32.const 1304) {index}) (then (return (i32.const 2))))
            (if (i32.eqz (call $symbol (i32.const 1024) (i32.const 1300) {index})) (then (return (i32.const 3))))
            (if (i32.ne (i32.load (i32.const 1400)) (i32.const -1)) (then (return (i32.const 4))))
            (call_indirect (type $binary) (i32.const 20) (i32.const 22)
                (call $symbol (i32.const 0) (i32.const 1300) {index}))))"#
    );
    wat::parse_str(text).unwrap()
}

/// Runs [`opens_a_library`]: status, and the last message for `dlerror`.
fn open_as_described(description: &[(u32, &str)], asks_with_index: bool) -> (i32, String) {
    let library = wat::parse_str(SIDE).unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("lib")).unwrap();
    std::fs::write(directory.path().join("lib/side.so"), &library).unwrap();
    let kernel = KernelBuilder::new()
        .arg("main")
        .mount("/", Mount::host(directory.path()).unwrap());
    let mut files = MemoryFiles::new();
    files.insert("/lib/side.so", library);
    let symbols = EmscriptenSymbols::new(WasiSymbols);
    let main = opens_a_library(description, asks_with_index);
    let (end, process, mut store) = run(&main, kernel, files, symbols);
    let mut bytes = [0; 120];
    let memory = process.memory().unwrap();
    memory.read(&mut store, 2000, &mut bytes).unwrap();
    let text = String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap());
    (end.unwrap(), text.into_owned())
}

#[test]
fn descriptions_of_libraries_are_read_as_every_version_lays_them_out() {
    /// `RTLD_NOW | RTLD_GLOBAL`.
    const FLAGS: &str = "\\02\\01\\00\\00";
    const CALLBACK: &str = "\\07\\00\\00\\00";
    let unknown =
        |place: &str| format!("Tried to lookup unknown symbol \"nope\" in dynamic lib: {place}");
    // To 3.1.28; opened asynchronously there are callbacks. The symbol's number came later.
    let end = (42, unknown("RTLD_DEFAULT"));
    for name in ["side.so", "/lib/side.so", "../lib//side.so"] {
        let description = [(20, FLAGS), (44, name)];
        assert_eq!(open_as_described(&description, false), end, "{name}");
        let description = [(8, CALLBACK), (12, CALLBACK), (20, FLAGS), (44, name)];
        assert_eq!(open_as_described(&description, false), end, "{name}");
        // 3.1.29 to 3.1.31.
        let description = [(8, FLAGS), (32, name)];
        assert_eq!(open_as_described(&description, false), end, "{name}");
    }
    let end = (42, unknown("__main__"));
    for name in ["side.so", "/lib/side.so", "../lib//side.so"] {
        // 3.1.32 to 3.1.38.
        let description = [(4, FLAGS), (28, name)];
        assert_eq!(open_as_described(&description, true), end, "{name}");
        // From 3.1.39 on, where the C library did not find the file.
        let description = [(4, FLAGS), (36, name)];
        assert_eq!(open_as_described(&description, true), end, "{name}");
    }
    // The C library found the file and read it to the address 0x73646973, which as text is `sids`.
    let size = wat::parse_str(SIDE).unwrap().len();
    let size: String = u32::try_from(size)
        .unwrap()
        .to_le_bytes()
        .map(|byte| format!("\\{byte:02x}"))
        .concat();
    let description = [(4, FLAGS), (28, "sids"), (32, &size), (36, "/lib/side.so")];
    assert_eq!(open_as_described(&description, true), end);
    // The same begin of a name that is no file: the older form.
    let (end, text) = open_as_described(&[(4, FLAGS), (28, "sids1234/lib/side.so")], true);
    assert_eq!(end, 1);
    assert!(
        text.starts_with("could not load dynamic lib: sids1234/lib/side.so\n"),
        "{text}"
    );
}

/// Opens `/home` and lets it open, opens and closes `/tmp` 10,000 times, and then goes where the first descriptor leads.
const MANY_DIRECTORIES: &str = r#"(module
    (import "env" "__syscall_openat" (func $open (param i32 i32 i32 i32) (result i32)))
    (import "env" "__syscall_fchdir" (func $enter (param i32) (result i32)))
    (import "env" "__syscall_getcwd" (func $where (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 100) "/home\00/tmp\00")
    (func (export "main") (result i32)
        (local $home i32) (local $other i32) (local $count i32)
        (local.set $home (call $open (i32.const -100) (i32.const 100) (i32.const 0x10000) (i32.const 0)))
        (loop $again
            (local.set $other (call $open (i32.const -100) (i32.const 106) (i32.const 0x10000) (i32.const 0)))
            (if (i32.lt_s (local.get $other) (i32.const 0)) (then (return (i32.const 1))))
            (if (call $close (local.get $other)) (then (return (i32.const 2))))
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $count) (i32.const 10000))))
        (if (call $enter (local.get $home)) (then (return (i32.const 3))))
        (drop (call $where (i32.const 200) (i32.const 100)))
        (i32.const 0)))"#;

#[test]
fn a_directory_that_is_open_is_not_forgotten_however_many_were_opened_since() {
    let main = wat::parse_str(MANY_DIRECTORIES).unwrap();
    let kernel = KernelBuilder::new().arg("main").mount("/", super::tree());
    let symbols = EmscriptenSymbols::new(WasiSymbols);
    let (end, process, mut store) = run(&main, kernel, MemoryFiles::new(), symbols);
    assert_eq!(end.unwrap(), 0);
    let mut bytes = [0; 6];
    let memory = process.memory().unwrap();
    memory.read(&mut store, 200, &mut bytes).unwrap();
    assert_eq!(&bytes, b"/home\0");
    let remembered = store.data_mut().emscripten.directories.len();
    assert!(remembered <= 4, "{remembered} of 2");
}

/// What `EM_JS` and `EM_ASM` of a program would do, offered by the embedder.
struct JavaScript(EmscriptenSymbols<WasiSymbols>);

impl HostSymbols<Host> for JavaScript {
    fn function(
        &self,
        process: &Process<Host>,
        store: StoreContextMut<'_, Host>,
        module: &str,
        name: &str,
        ty: &FuncType,
    ) -> Option<Func> {
        match (module, name) {
            ("env", "add_in_javascript") => Some(Func::wrap(store, |a: i32, b: i32| a + b)),
            ("env", "emscripten_asm_const_int") => {
                let process = process.clone();
                Some(Func::wrap(
                    store,
                    move |caller: Caller<'_, Host>, _code: u32, _types: u32, arguments: u32| {
                        let mut number = [0; 4];
                        let memory = process.memory().ok_or_else(|| Error::msg("no memory"))?;
                        memory.read(&caller, arguments as usize, &mut number)?;
                        Ok(i32::from_le_bytes(number) * 2)
                    },
                ))
            }
            _ => self.0.function(process, store, module, name, ty),
        }
    }
}

#[test]
fn an_embedder_can_offer_what_a_program_has_as_javascript() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/emscripten/javascript/main.wasm"
    );
    let main = std::fs::read(path).unwrap();
    for arguments in [&["main"][..], &["main", "one"]] {
        let output = Pipe::capture();
        let kernel = KernelBuilder::new()
            .args(arguments.iter().copied())
            .stdout(&output);
        let symbols = JavaScript(EmscriptenSymbols::new(WasiSymbols));
        let (end, ..) = run(&main, kernel, MemoryFiles::new(), symbols);
        assert_eq!(end.unwrap(), 0);
        assert_eq!(output.take_text(), "before\n42\n");
    }
}

#[test]
fn inline_javascript_is_refused_with_its_name() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/emscripten/javascript/main.wasm"
    );
    let main = std::fs::read(path).unwrap();
    let kernel = KernelBuilder::new().args(["main", "one"]);
    let symbols = EmscriptenSymbols::new(WasiSymbols);
    let (end, ..) = run(&main, kernel, MemoryFiles::new(), symbols);
    let error = end.unwrap_err().to_string();
    assert!(error.contains("EM_ASM is JavaScript"), "{error}");
}

/// Opens and looks at paths: those of devices from the root, relative to it and to a descriptor of it.
const DEVICES: &str = r#"(module
    (import "env" "__syscall_openat" (func $open (param i32 i32 i32 i32) (result i32)))
    (import "env" "__syscall_stat64" (func $stat (param i32 i32) (result i32)))
    (import "env" "__syscall_newfstatat" (func $stat_at (param i32 i32 i32 i32) (result i32)))
    (import "env" "__syscall_faccessat" (func $access (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (table (export "__indirect_function_table") 1 funcref)
    (global (export "__stack_pointer") (mut i32) (i32.const 65536))
    (data (i32.const 1024) "/dev/null\00")
    (data (i32.const 1056) "dev/null\00")
    (data (i32.const 1088) "tmp/../dev/./null\00")
    (data (i32.const 1120) "dev/fd/1\00")
    (data (i32.const 1152) "dev/nothing\00")
    (data (i32.const 1184) "/\00")
    (func $both (param $path i32) (result i32)
        (if (i32.lt_s (call $open (i32.const -100) (local.get $path) (i32.const 0) (i32.const 0)) (i32.const 0))
            (then (return (i32.const 1))))
        (if (call $stat (local.get $path) (i32.const 4096)) (then (return (i32.const 2))))
        (if (i32.ne (i32.and (i32.load (i32.const 4100)) (i32.const 0xf000)) (i32.const 0x2000))
            (then (return (i32.const 3))))
        (call $access (i32.const -100) (local.get $path) (i32.const 4) (i32.const 0)))
    (func (export "__main_argc_argv") (param i32 i32) (result i32)
        (local $root i32)
        (if (call $both (i32.const 1024)) (then (return (i32.const 1))))
        (if (call $both (i32.const 1056)) (then (return (i32.const 2))))
        (if (call $both (i32.const 1088)) (then (return (i32.const 3))))
        (if (call $both (i32.const 1120)) (then (return (i32.const 4))))
        (if (i32.ne (call $both (i32.const 1152)) (i32.const 1)) (then (return (i32.const 5))))
        (if (i32.ne (call $stat (i32.const 1152) (i32.const 4096)) (i32.const -44)) (then (return (i32.const 6))))
        (local.set $root (call $open (i32.const -100) (i32.const 1184) (i32.const 65536) (i32.const 0)))
        (if (i32.lt_s (call $open (local.get $root) (i32.const 1056) (i32.const 0) (i32.const 0)) (i32.const 0))
            (then (return (i32.const 7))))
        (if (call $stat_at (local.get $root) (i32.const 1056) (i32.const 4096) (i32.const 0))
            (then (return (i32.const 8))))
        (i32.const 42)))"#;

#[test]
fn devices_can_be_looked_at_by_every_path_by_which_they_can_be_opened() {
    let main = wat::parse_str(DEVICES).unwrap();
    let symbols = EmscriptenSymbols::new(WasiSymbols);
    let kernel = KernelBuilder::new().arg("main");
    let (end, ..) = run(&main, kernel, MemoryFiles::new(), symbols);
    assert_eq!(end.unwrap(), 42);
}

/// A function that asks to be called again, at once and for ever.
const ENDLESS: &str = r#"(module
    (import "env" "emscripten_async_call" (func $later (param i32 i32 i32)))
    (memory (export "memory") 1)
    (table (export "__indirect_function_table") 2 funcref)
    (global (export "__stack_pointer") (mut i32) (i32.const 65536))
    (elem (i32.const 1) $again)
    (func $again (param i32)
        (call $later (i32.const 1) (i32.const 0) (i32.const 0)))
    (func (export "__main_argc_argv") (param i32 i32) (result i32)
        (call $again (i32.const 0))
        (i32.const 0)))"#;

#[test]
fn events_that_lead_to_one_another_for_ever_end_at_the_deadline() {
    let main = wat::parse_str(ENDLESS).unwrap();
    let kernel = KernelBuilder::new().arg("main").no_preopens();
    let mut kernel = kernel.build().unwrap();
    let deadline = std::time::Duration::from_millis(50);
    kernel.set_deadline(std::time::Instant::now().checked_add(deadline));
    let symbols = EmscriptenSymbols::new(WasiSymbols);
    let (end, ..) = run_with(&main, kernel, MemoryFiles::new(), symbols);
    let error = end.unwrap_err();
    let code = error.trap().map(|trap| trap.code());
    assert_eq!(code, Some(crate::TrapCode::Interrupted), "{error}");
}
