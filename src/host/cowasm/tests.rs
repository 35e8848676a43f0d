//! cowasm's functions, called by a small main module that has what the kernel has: an allocator, `errno`, `getcwd`.

use super::*;
use crate::config::Engine;
use crate::host::{Kernel, KernelBuilder, Mount};
use crate::link::{NoHostSymbols, Profile};
use crate::module::Module;
use crate::runtime::Store;

struct Data {
    kernel: Kernel,
    cowasm: Cowasm,
}

impl KernelHost for Data {
    fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }
}

impl CowasmHost for Data {
    fn cowasm(&mut self) -> &mut Cowasm {
        &mut self.cowasm
    }
}

/// Address of `errno` in the main module.
const ERRNO: u32 = 1000;

struct Guest {
    store: Store<Data>,
    process: Process<Data>,
    /// Removed at the end.
    _files: tempfile::TempDir,
}

/// A main module that imports functions (text of their types) and exports each as `call_NAME`.
fn guest(imports: &[(&str, &str)]) -> Guest {
    try_guest(imports, "").expect("the main module loads")
}

fn try_guest(imports: &[(&str, &str)], more: &str) -> Result<Guest> {
    let mut text = String::from("(module\n");
    for (name, ty) in imports {
        text += &format!("(import \"env\" \"{name}\" (func ${name} {ty}))\n");
    }
    for (name, _) in imports {
        text += &format!("(export \"call_{name}\" (func ${name}))\n");
    }
    text += &format!(
        "(memory (export \"memory\") 2)
         (table (export \"__indirect_function_table\") 20 funcref)
         (elem (i32.const 1) $malloc $free $getcwd $one $two)
         (global $next (mut i32) (i32.const 8192))
         (global $freed (export \"freed\") (mut i32) (i32.const 0))
         (data (i32.const 2048) \"/files/sub\\00\")
         (func $malloc (param $size i32) (result i32) (local $pointer i32)
           (local.set $pointer (global.get $next))
           (if (i32.gt_u (local.get $size) (i32.const 65536)) (then (return (i32.const 0))))
           (global.set $next (i32.add (global.get $next) (i32.add (local.get $size) (i32.const 16))))
           (local.get $pointer))
         (func $free (param i32) (global.set $freed (local.get 0)))
         (func $getcwd (param i32 i32) (result i32) (i32.const 2048))
         (func $one (param i32) (result i32) (i32.add (local.get 0) (i32.const 100)))
         (func $two (param i32 i32) (result i32) (i32.sub (local.get 0) (local.get 1)))
         (func (export \"__WASM_EXPORT__errno\") (result i32) (i32.const {ERRNO}))
         (func (export \"__WASM_EXPORT__malloc\") (result i32) (i32.const 1))
         (func (export \"__WASM_EXPORT__free\") (result i32) (i32.const 2))
         (func (export \"__WASM_EXPORT__getcwd\") (result i32) (i32.const 3))
         {more})"
    );
    let files = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(files.path().join("sub")).expect("a folder");
    std::fs::write(files.path().join("sub/a"), "x").expect("a file");
    let kernel = KernelBuilder::new()
        .mount("/files", Mount::host(files.path())?)
        .mount("/tmp", Mount::memory())
        .single_root()
        .build()?;
    let engine = Engine::default();
    let bytes = wat::parse_str(text).map_err(Error::host)?;
    let module = Module::new(&engine, &bytes)?;
    let mut store = Store::new(
        &engine,
        Data {
            kernel,
            cowasm: Cowasm::default(),
        },
    );
    let process = Process::builder()
        .profile(Profile::cowasm())
        .host(CowasmSymbols::new(NoHostSymbols))
        .build();
    process.start(&mut store, &module, "main.wasm")?;
    Ok(Guest {
        store,
        process,
        _files: files,
    })
}

impl Guest {
    fn try_call(&mut self, name: &str, arguments: &[i32]) -> Result<i32> {
        let instance = self.process.main_instance().expect("a main module");
        let func = instance
            .get_func(&mut self.store, &format!("call_{name}"))
            .expect("the function");
        let arguments: Vec<Val> = arguments.iter().map(|number| Val::I32(*number)).collect();
        let mut results = vec![Val::I32(0); func.ty(&self.store).results().len()];
        func.call(&mut self.store, &arguments, &mut results)?;
        Ok(results.first().and_then(Val::i32).unwrap_or(0))
    }

    fn call(&mut self, name: &str, arguments: &[i32]) -> i32 {
        self.try_call(name, arguments).expect(name)
    }

    fn read(&mut self, pointer: u32, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let memory = self.process.memory().expect("a memory");
        memory
            .read(&self.store, pointer as usize, &mut bytes)
            .expect("inside");
        bytes
    }

    fn write(&mut self, pointer: u32, bytes: &[u8]) {
        let memory = self.process.memory().expect("a memory");
        memory
            .write(&mut self.store, pointer as usize, bytes)
            .expect("inside");
    }

    fn number(&mut self, pointer: u32) -> i32 {
        i32::from_le_bytes(self.read(pointer, 4).try_into().expect("four bytes"))
    }

    /// The guest's `errno`, which is then zero.
    fn errno(&mut self) -> i32 {
        let errno = self.number(ERRNO);
        self.write(ERRNO, &[0; 4]);
        errno
    }
}

const ONE: &str = "(param i32) (result i32)";
const TWO: &str = "(param i32 i32) (result i32)";
const THREE: &str = "(param i32 i32 i32) (result i32)";

fn nosys() -> i32 {
    i32::from(Errno::Nosys.raw())
}

#[test]
fn functions_that_only_fail_set_errno_where_it_lies() {
    let mut guest = guest(&[
        ("fork", "(result i32)"),
        ("popen", TWO),
        ("setuid", ONE),
        ("tcgetattr", TWO),
    ]);
    assert_eq!((guest.call("fork", &[]), guest.errno()), (-1, nosys()));
    assert_eq!((guest.call("popen", &[0, 0]), guest.errno()), (0, nosys()));
    assert_eq!(
        (guest.call("setuid", &[0]), guest.errno()),
        (-1, i32::from(Errno::Perm.raw()))
    );
    assert_eq!(
        (guest.call("tcgetattr", &[0, 0]), guest.errno()),
        (-1, i32::from(Errno::Notty.raw()))
    );
}

#[test]
fn functions_that_return_an_error_number_leave_errno_alone() {
    let mut guest = guest(&[(
        "posix_spawn",
        "(param i32 i32 i32 i32 i32 i32) (result i32)",
    )]);
    assert_eq!(
        (guest.call("posix_spawn", &[0; 6]), guest.errno()),
        (nosys(), 0)
    );
}

#[test]
fn functions_may_have_any_number_of_parameters_and_wide_ones() {
    let many = format!("(param {}) (result i32)", "i32 ".repeat(26));
    let mut guest = guest(&[
        ("python_wasm_fork_exec", &many),
        ("lockf", "(param i32 i32 i64) (result i32)"),
        ("sync", ""),
    ]);
    assert_eq!(
        (guest.call("python_wasm_fork_exec", &[0; 26]), guest.errno()),
        (-1, nosys())
    );
    assert_eq!(guest.call("sync", &[]), 0);
    let lockf = guest
        .process
        .main_instance()
        .unwrap()
        .get_func(&mut guest.store, "call_lockf")
        .unwrap();
    let mut result = [Val::I32(0)];
    lockf
        .call(
            &mut guest.store,
            &[Val::I32(0), Val::I32(0), Val::I64(5)],
            &mut result,
        )
        .unwrap();
    assert_eq!(result[0].i32(), Some(-1));
}

#[test]
fn longjmp_traps_with_its_name() {
    let mut guest = guest(&[("longjmp", "(param i32 i32)"), ("setjmp", ONE)]);
    assert_eq!(guest.call("setjmp", &[0]), 0);
    let error = guest.try_call("longjmp", &[0, 1]).unwrap_err();
    assert!(error.trap().is_some());
    assert!(error.to_string().contains("`longjmp`"), "{error}");
}

#[test]
fn a_name_in_no_row_is_undefined() {
    let error = try_guest(&[("new_panel", ONE)], "")
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("new_panel"), "{error}");
}

#[test]
fn the_type_is_the_importers() {
    let mut guest = guest(&[
        ("_Znwm", ONE),
        ("_ZdlPv", "(param i32)"),
        ("__cxa_throw", ""),
    ]);
    let pointer = guest.call("_Znwm", &[32]);
    assert_eq!(pointer, 8192);
    guest.call("_ZdlPv", &[pointer]);
    let freed = guest
        .process
        .main_instance()
        .unwrap()
        .get_global(&mut guest.store, "freed")
        .unwrap();
    assert_eq!(freed.get(&mut guest.store).i32(), Some(pointer));
    assert!(
        guest
            .try_call("_Znwm", &[1 << 20])
            .unwrap_err()
            .to_string()
            .contains("operator new")
    );
    assert!(guest.try_call("__cxa_throw", &[]).is_err());
}

#[test]
fn trampolines_drop_surplus_arguments() {
    let name = "_PyCFunctionWithKeywords_TrampolineCall";
    let four = "(param i32 i32 i32 i32) (result i32)";
    let mut guest = guest(&[
        (name, four),
        ("descr_get_trampoline_call", THREE),
        ("_PyImport_InitFunc_TrampolineCall", ONE),
    ]);
    assert_eq!(guest.call(name, &[4, 7, 8, 9]), 107);
    assert_eq!(guest.call(name, &[5, 7, 9, 1]), -2);
    assert_eq!(guest.call("descr_get_trampoline_call", &[5, 1, 2]), -1);
    // A callee that needs more than there is, an empty slot, and no slot at all.
    assert!(
        guest
            .try_call("_PyImport_InitFunc_TrampolineCall", &[4])
            .unwrap_err()
            .trap()
            .is_some()
    );
    assert!(
        guest
            .try_call(name, &[15, 0, 0, 0])
            .unwrap_err()
            .trap()
            .is_some()
    );
    assert!(
        guest
            .try_call(name, &[-1, 0, 0, 0])
            .unwrap_err()
            .trap()
            .is_some()
    );
}

#[test]
fn getrandom_fills_and_says_how_much() {
    let mut guest = guest(&[("getrandom", THREE)]);
    assert_eq!(guest.call("getrandom", &[4096, 64, 0]), 64);
    assert_ne!(guest.read(4096, 64), [0; 64]);
    assert_eq!(guest.read(4096 + 64, 16), [0; 16]);
}

#[test]
fn pointers_outside_the_memory_are_a_fault_and_no_trap() {
    let mut guest = guest(&[
        ("getrandom", THREE),
        ("gethostname", TWO),
        ("realpath", TWO),
        ("pipe", ONE),
        ("getresuid", THREE),
        ("getgrouplist", "(param i32 i32 i32 i32) (result i32)"),
        ("chmod", TWO),
    ]);
    let fault = i32::from(Errno::Fault.raw());
    assert_eq!(
        (guest.call("getrandom", &[-8, 64, 0]), guest.errno()),
        (-1, fault)
    );
    assert_eq!(
        (guest.call("gethostname", &[-1, 100]), guest.errno()),
        (-1, fault)
    );
    assert_eq!(
        (guest.call("realpath", &[-4, 0]), guest.errno()),
        (0, fault)
    );
    assert_eq!((guest.call("pipe", &[-4]), guest.errno()), (-1, fault));
    assert_eq!(
        (guest.call("getresuid", &[-4, 0, 0]), guest.errno()),
        (-1, fault)
    );
    assert_eq!(
        (guest.call("getgrouplist", &[0, 0, 0, -2]), guest.errno()),
        (-1, fault)
    );
    assert_eq!((guest.call("chmod", &[-1, 0]), guest.errno()), (-1, fault));
}

#[test]
fn realpath_resolves_relative_paths_at_the_guests_own_directory() {
    let mut guest = guest(&[("realpath", TWO), ("chmod", TWO)]);
    guest.write(4096, b"../sub/./a\0");
    assert_eq!(guest.call("realpath", &[4096, 5000]), 5000);
    assert_eq!(guest.read(5000, 13), b"/files/sub/a\0");
    let pointer = guest.call("realpath", &[4096, 0]);
    assert_eq!(guest.read(pointer.cast_unsigned(), 13), b"/files/sub/a\0");
    assert_eq!(guest.call("chmod", &[4096, 0o600]), 0);
    guest.write(4096, b"missing\0");
    let missing = i32::from(Errno::Noent.raw());
    assert_eq!(
        (guest.call("realpath", &[4096, 5000]), guest.errno()),
        (0, missing)
    );
    assert_eq!(
        (guest.call("chmod", &[4096, 0o600]), guest.errno()),
        (-1, missing)
    );
}

#[test]
fn descriptors_are_duplicated_and_checked() {
    let mut guest = guest(&[
        ("dup", ONE),
        ("dup2", TWO),
        ("pipe", ONE),
        ("python_wasm_set_inheritable", TWO),
        ("_fchmod", TWO),
    ]);
    let bad = i32::from(Errno::Badf.raw());
    let copy = guest.call("dup", &[1]);
    assert!(copy > 2);
    assert_eq!(guest.call("dup2", &[1, 20]), 20);
    assert_eq!((guest.call("dup", &[99]), guest.errno()), (-1, bad));
    assert_eq!((guest.call("dup2", &[99, 1]), guest.errno()), (-1, bad));
    assert_eq!(guest.call("python_wasm_set_inheritable", &[copy, 0]), 0);
    assert_eq!((guest.call("_fchmod", &[99, 0]), guest.errno()), (-1, bad));
    assert_eq!(guest.call("pipe", &[4096]), 0);
    let (reader, writer) = (guest.number(4096), guest.number(4100));
    let kernel = &mut guest.store.data_mut().kernel;
    assert_eq!(kernel.write(writer.cast_unsigned(), b"abc"), Ok(3));
    let mut buffer = [0; 8];
    assert_eq!(kernel.read(reader.cast_unsigned(), &mut buffer), Ok(3));
}

#[test]
fn the_mask_of_new_files_is_kept() {
    let mut guest = guest(&[("umask", ONE)]);
    assert_eq!(guest.call("umask", &[0o077]), 0o022);
    assert_eq!(guest.call("umask", &[-1]), 0o077);
    assert_eq!(guest.call("umask", &[0]), 0o777);
}

#[test]
fn signal_sets_hold_more_than_their_guest_type_has_room_for() {
    let mut guest = guest(&[
        ("sigemptyset", ONE),
        ("sigfillset", ONE),
        ("sigaddset", TWO),
        ("sigismember", TWO),
        ("sigprocmask", THREE),
    ]);
    guest.call("sigemptyset", &[4096]);
    assert_eq!(guest.call("sigismember", &[4096, 30]), 0);
    assert_eq!(guest.call("sigaddset", &[4096, 30]), 0);
    assert_eq!(guest.call("sigismember", &[4096, 30]), 1);
    assert_eq!(guest.call("sigprocmask", &[0, 4096, 4104]), 0);
    assert_eq!(guest.call("sigismember", &[4104, 30]), 0);
    assert_eq!(guest.call("sigprocmask", &[2, 0, 4104]), 0);
    assert_eq!(guest.call("sigismember", &[4104, 30]), 1);
    guest.call("sigfillset", &[4112]);
    assert_eq!(guest.call("sigismember", &[4112, 63]), 1);
    let invalid = i32::from(Errno::Inval.raw());
    assert_eq!(
        (guest.call("sigaddset", &[4096, 0]), guest.errno()),
        (-1, invalid)
    );
    assert_eq!(
        (guest.call("sigprocmask", &[9, 4096, 0]), guest.errno()),
        (-1, invalid)
    );
    for set in 0..100_000 {
        guest.call("sigemptyset", &[set]);
    }
    assert!(guest.store.data().cowasm.signal_sets.len() <= 4096);
}

#[test]
fn a_signal_is_seen_once() {
    let mut guest = guest(&[("wasmGetSignalState", "(result i32)")]);
    assert_eq!(guest.call("wasmGetSignalState", &[]), 0);
    let handle = guest.store.data().cowasm.signal_handle();
    std::thread::spawn(move || handle.send(2)).join().unwrap();
    assert_eq!(guest.call("wasmGetSignalState", &[]), 2);
    assert_eq!(guest.call("wasmGetSignalState", &[]), 0);
}

#[test]
fn the_guest_sends_texts_to_the_embedder() {
    let mut guest = guest(&[
        ("wasmSendString", "(param i32 i32)"),
        ("wasmSetException", ""),
    ]);
    guest.write(4096, "7 ü".as_bytes());
    guest.call("wasmSendString", &[4096, 4]);
    assert_eq!(
        guest.store.data_mut().cowasm.take_sent(),
        Some(("7 ü".into(), false))
    );
    guest.call("wasmSetException", &[]);
    guest.call("wasmSendString", &[4096, 1]);
    assert_eq!(
        guest.store.data_mut().cowasm.take_sent(),
        Some(("7".into(), true))
    );
    guest.call("wasmSendString", &[-1, 5]);
    assert_eq!(guest.store.data_mut().cowasm.take_sent(), None);
}

#[test]
fn texts_without_a_catalogue_are_their_own_translation() {
    let four = "(param i32 i32 i32 i32) (result i32)";
    let mut guest = guest(&[("ngettext", THREE), ("dngettext", four)]);
    assert_eq!(guest.call("ngettext", &[10, 20, 1]), 10);
    assert_eq!(guest.call("ngettext", &[10, 20, 2]), 20);
    assert_eq!(guest.call("dngettext", &[5, 10, 20, 1]), 10);
    assert_eq!(guest.call("dngettext", &[5, 10, 20, 0]), 20);
}

#[test]
fn the_resolvers_error_number_has_one_address() {
    let mut guest = guest(&[("__h_errno_location", "(result i32)")]);
    let first = guest.call("__h_errno_location", &[]);
    assert_ne!(first, 0);
    assert_eq!(guest.call("__h_errno_location", &[]), first);
}

#[test]
fn calls_of_functions_that_only_fail_are_told() {
    let mut guest = guest(&[("fork", "(result i32)"), ("getuid", "(result i32)")]);
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = told.clone();
    guest
        .store
        .data_mut()
        .cowasm
        .trace_stubs(move |name| sink.lock().unwrap().push(name.to_owned()));
    guest.call("getuid", &[]);
    guest.call("fork", &[]);
    assert_eq!(*told.lock().unwrap(), ["fork"]);
}
