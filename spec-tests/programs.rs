//! Whole programs through the command, as a user runs them: CPython 3.11 with its extension modules
//! and numpy. The packages are fetched by the command itself into the user's cache.
//!
//! Expected outputs are those of the reference run (JavaScript host) of the same packages.

#![forbid(unsafe_code)]

use dynlink::ProgramBuilder;
use dynlink::cli::packages::PackageCache;
use dynlink::host::Pipe;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A run of a program in a directory of its own.
struct Run {
    command: Command,
    directory: tempfile::TempDir,
    input: Vec<u8>,
}

fn manifest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/programs")
        .join(name)
}

fn dynlink() -> Run {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dynlink"));
    command.current_dir(directory.path());
    for name in ["LD_LIBRARY_PATH", "LD_PRELOAD", "LD_BIND_NOW", "LD_DEBUG"] {
        command.env_remove(name);
    }
    Run {
        command,
        directory,
        input: Vec::new(),
    }
}

fn python(arguments: &[&str]) -> Run {
    dynlink()
        .arguments(&["run"])
        .argument(manifest("python311.toml"))
        .arguments(arguments)
}

impl Run {
    fn arguments(mut self, arguments: &[&str]) -> Run {
        self.command.args(arguments);
        self
    }

    fn argument(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Run {
        self.command.arg(argument);
        self
    }

    fn input(mut self, input: &str) -> Run {
        self.input = input.into();
        self
    }

    fn file(self, name: &str, contents: impl AsRef<[u8]>) -> Run {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, contents).expect("a file");
        self
    }

    fn finish(mut self) -> (Done, tempfile::TempDir) {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A guest that reads nothing may be gone before the input is written.
        let _ = stdin.write_all(&self.input);
        drop(stdin);
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().expect("the command ends");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (
            Done {
                status: status.code(),
                stdout: text(stdout),
                stderr: text(stderr),
            },
            self.directory,
        )
    }

    fn done(self) -> Done {
        self.finish().0
    }

    /// Runs to a successful end with exactly this output.
    #[track_caller]
    fn prints(self, expected: &str) {
        let done = self.done();
        assert_eq!(done.stdout, expected, "{done:?}");
        assert_eq!(done.status, Some(0), "{done:?}");
        let told: Vec<_> = done
            .stderr
            .lines()
            .filter(|line| !line.starts_with("dynlink: "))
            .collect();
        assert!(told.is_empty(), "{done:?}");
    }
}

#[derive(Debug)]
struct Done {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

#[test]
fn python_prints() {
    python(&["-c", "print(1+1)"]).prints("2\n");
}

#[test]
fn python_tells_its_version() {
    python(&["--version"]).prints("Python 3.11.0\n");
}

#[test]
fn python_has_json() {
    python(&[
        "-c",
        "import json; print(json.dumps({'a':[1,2.5,None,True]}), json.loads('[1,2]'))",
    ])
    .prints("{\"a\": [1, 2.5, null, true]} [1, 2]\n");
}

#[test]
fn python_has_sqlite() {
    python(&[
        "-c",
        "import sqlite3; con=sqlite3.connect(':memory:'); c=con.cursor(); c.execute('create table m(t,y)'); \
         c.execute('insert into m values(1,2)'); print(list(c.execute('select * from m')), sqlite3.sqlite_version)",
    ])
    .prints("[(1, 2)] 3.39.4\n");
}

#[test]
fn python_loads_an_extension_module_written_in_c() {
    dynlink()
        .argument(manifest("python311-hello.toml"))
        .arguments(&[
            "-c",
            "import hello; print(hello.add389(10)); hello.hello('x')",
        ])
        .prints("399\nHello x, from C!\n");
}

#[test]
fn python_loads_an_extension_module_written_in_zig() {
    dynlink()
        .argument(manifest("python311-hello.toml"))
        .arguments(&["-c", "import hellozig; print(hellozig.add389(10))"])
        .prints("399\n");
}

#[test]
fn numpy_sums() {
    python(&["-c", "import numpy; print(numpy.arange(10).sum())"]).prints("45\n");
}

/// What linking decided is constant in translated code: addresses of data and functions, memory and table bases.
#[test]
fn no_code_of_python_and_numpy_reads_a_base_or_a_got_cell() {
    let run = || {
        let cache = PackageCache::of_user()?;
        let program = ProgramBuilder::from_manifest(manifest("python311.toml"), &cache)?;
        let code =
            "import numpy, json, re; print(numpy.linalg.det(numpy.fft.fft(numpy.eye(3)).real))";
        program
            .stdout(&Pipe::capture())
            .op_coverage()
            .build()?
            .run(["-c", code])
    };
    assert_eq!(run().expect("the program runs"), 0);
    let globals = dynlink::globals_read();
    let folded = |name: &str| {
        name.starts_with("GOT.") || name == "env.__memory_base" || name == "env.__table_base"
    };
    let left: Vec<_> = globals.iter().filter(|(name, _)| folded(name)).collect();
    assert!(left.is_empty(), "{left:?}");
    // The stack pointer does change, so it is read: the count sees what it should.
    let stack = globals
        .iter()
        .find(|(name, _)| name == "env.__stack_pointer");
    assert!(stack.is_some_and(|(_, reads)| *reads > 100), "{globals:?}");
    // Nothing else is left but globals that modules write themselves.
    let executed: u64 = dynlink::op_coverage()
        .iter()
        .filter(|(name, _)| name.starts_with("Global"))
        .map(|(_, count)| count)
        .sum();
    println!("{globals:?}; executed {executed}");
}

#[test]
fn native_code_stands_in_for_the_c_library_of_python() {
    // Its kernel has no name section and exports no `memcpy`, only functions that tell where in the table it is.
    let output = Pipe::capture();
    let run = || {
        let cache = PackageCache::of_user()?;
        let program = ProgramBuilder::from_manifest(manifest("python311.toml"), &cache)?;
        program
            .stdout(&output)
            .native_libc(true)
            .op_coverage()
            .build()?
            .run([
                "-c",
                "print((b'ab' * 5000 + b'c').find(b'c'), 'a' * 9 == 'a' * 8 + 'a')",
            ])
    };
    assert_eq!(run().expect("the program runs"), 0);
    assert_eq!(output.take(), b"10000 True\n");
    let executed = dynlink::op_coverage()
        .iter()
        .filter(|(name, _)| name.ends_with("native_libc"))
        .map(|(_, count)| count)
        .sum::<u64>();
    assert!(executed > 10_000, "{executed} calls went to native code");
}

#[test]
fn numpy_has_linear_algebra_fourier_transforms_and_random_numbers() {
    python(&[
        "-c",
        "import numpy as np; a=np.random.default_rng(1).random((50,50)); print(np.__version__, \
         np.linalg.det(a), np.fft.fft(np.arange(8)).real.sum(), np.linalg.inv(a)[0,0])",
    ])
    .prints("1.24.1 594331.8325734239 0.0 0.0039964399718604654\n");
}

#[test]
fn numpy_saves_and_loads_arrays() {
    // `tofile` seeks on a duplicate of the descriptor and expects the original to have moved.
    python(&[
        "-c",
        "import numpy as np; np.save('a.npy', np.arange(5)); print(np.load('a.npy').tolist()); \
         f=open('b','wb'); f.write(b'xy'); np.arange(3,dtype='i1').tofile(f); f.write(b'z'); f.close(); \
         print(open('b','rb').read())",
    ])
    .prints("[0, 1, 2, 3, 4]\nb'xy\\x00\\x01\\x02z'\n");
}

#[test]
fn python_has_temporary_files() {
    python(&[
        "-c",
        "import os, tempfile; d=tempfile.mkdtemp(); p=os.path.join(d,'f'); open(p,'w').write('hi'); \
         print(open(p).read(), os.stat(p).st_size, os.listdir(d)); os.remove(p); os.rmdir(d)",
    ])
    .prints("hi 2 ['f']\n");
}

#[test]
fn python_computes() {
    python(&[
        "-c",
        "f=lambda n: n if n<2 else f(n-1)+f(n-2); print(f(24))",
    ])
    .prints("46368\n");
}

#[test]
fn an_uncaught_exception_gives_a_traceback_and_status_1() {
    let done = python(&["-c", "1/0"]).done();
    assert_eq!(done.status, Some(1), "{done:?}");
    assert!(
        done.stderr.contains("Traceback (most recent call last):"),
        "{done:?}"
    );
    assert!(
        done.stderr.contains("ZeroDivisionError: division by zero"),
        "{done:?}"
    );
    assert_eq!(done.stdout, "");
}

#[test]
fn sys_exit_gives_its_status() {
    let done = python(&["-c", "import sys; print('bye'); sys.exit(3)"]).done();
    assert_eq!((done.status, &*done.stdout), (Some(3), "bye\n"), "{done:?}");
}

#[test]
fn a_script_gets_its_arguments_and_its_directory() {
    python(&["tools/script.py", "one", "--two", "-h"])
        .file("tools/helper.py", "NAME = 'helper'\n")
        .file(
            "tools/script.py",
            "import sys, os, helper\nprint(sys.argv, helper.NAME, sorted(os.listdir('.')))\n",
        )
        .prints("['tools/script.py', 'one', '--two', '-h'] helper ['tools']\n");
}

#[test]
fn a_script_can_be_given_by_its_absolute_path() {
    let run = python(&[]).file("a.py", "print(__file__ == __import__('sys').argv[1])");
    let path = run
        .directory
        .path()
        .canonicalize()
        .expect("a path")
        .join("a.py");
    run.argument(&path).argument(&path).prints("True\n");
}

#[test]
fn python_reads_a_program_from_standard_input() {
    python(&["-"]).input("print(5)\n").prints("5\n");
}

#[test]
fn python_reads_data_from_standard_input() {
    python(&[
        "-c",
        "import sys; print(sum(int(line) for line in sys.stdin))",
    ])
    .input("1\n2\n39\n")
    .prints("42\n");
}

#[test]
fn what_python_writes_to_its_directory_is_there_afterwards() {
    let (done, directory) = python(&[
        "-c",
        "open('out.txt','w').write('kept'); open('/tmp/x','w').write('lost')",
    ])
    .finish();
    assert_eq!(done.status, Some(0), "{done:?}");
    let kept = std::fs::read_to_string(directory.path().join("out.txt"));
    assert_eq!(kept.expect("the file"), "kept");
}

#[test]
fn python_sees_only_what_is_mounted() {
    let run = python(&[
        "-c",
        "import sys\n\
         for path in sys.argv[1:]:\n\
         \ttry: open(path); print('open')\n\
         \texcept OSError as e: print(type(e).__name__)\n",
        "/etc/passwd",
        "../../../../../../../../etc/passwd",
    ]);
    let done = run.done();
    assert_eq!(done.status, Some(0), "{done:?}");
    assert!(
        !done.stdout.contains("open") && done.stdout.lines().count() == 2,
        "{done:?}"
    );
}

#[test]
fn the_bundle_cannot_be_written() {
    let done = python(&["-c", "open('/python/lib/python3.11/os.pyc', 'wb')"]).done();
    assert_eq!(done.status, Some(1), "{done:?}");
    assert!(
        done.stderr.contains("OSError") || done.stderr.contains("PermissionError"),
        "{done:?}"
    );
}

#[test]
fn directories_can_be_added() {
    let other = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(other.path().join("a.txt"), "alpha").expect("a file");
    let flag = format!("{}::/data:ro", other.path().display());
    let code = "print(open('/data/a.txt').read())\ntry: open('/data/b.txt','w')\nexcept OSError: print('read-only')";
    dynlink()
        .arguments(&["run", "--dir", &flag])
        .argument(manifest("python311.toml"))
        .arguments(&["-c", code])
        .prints("alpha\nread-only\n");
    assert!(!other.path().join("b.txt").exists());
}

#[test]
fn variables_are_passed_on_only_when_asked() {
    let code = "import os; print(os.environ.get('A'), os.environ.get('B'), os.environ.get('C'))";
    let mut run = dynlink().arguments(&["--env", "A=1", "--env", "B"]);
    run.command.env("B", "2").env("C", "3");
    run.argument(manifest("python311.toml"))
        .arguments(&["-c", code])
        .prints("1 2 None\n");
}

#[test]
fn recursion_to_pythons_limit_is_an_exception() {
    let code = "import sys\n\
                def f(n): return f(n+1)\n\
                try: f(0)\n\
                except RecursionError as e: print('caught', e)\n\
                print(sys.getrecursionlimit())\n";
    python(&["-c", code]).prints("caught maximum recursion depth exceeded\n700\n");
}

#[test]
fn recursion_through_c_functions_is_an_exception() {
    let code = "class A:\n\
                \tdef __getattr__(self, name): return getattr(self, name + 'x')\n\
                try: A().x\n\
                except RecursionError: print('caught')\n";
    python(&["-c", code]).prints("caught\n");
}

#[test]
fn a_library_that_cannot_be_loaded_is_an_import_error() {
    let code = "try: import _curses_panel\n\
                except ImportError as e: print('ImportError', 'panel' in str(e))\n\
                try: import _curses_panel\n\
                except ImportError as e: print('again')\n\
                import json; print(json.dumps(1))\n";
    python(&["-c", code]).prints("ImportError True\nagain\n1\n");
}

#[test]
fn a_file_that_is_no_library_is_an_import_error() {
    let code = "import sys; sys.path.insert(0, '.')\n\
                try: import broken\n\
                except ImportError as e: print('ImportError')\n\
                print('alive')\n";
    python(&["-c", code])
        .file("broken.so", "this is not a library")
        .prints("ImportError\nalive\n");
}

#[test]
fn python_sleeps_and_knows_the_time() {
    let code = "import time; a=time.monotonic(); time.sleep(0.25); b=time.monotonic(); \
                print(0.25 <= b-a < 5, time.time() > 1.6e9, time.perf_counter() > 0)";
    python(&["-c", code]).prints("True True True\n");
}

#[test]
fn memory_that_is_refused_is_a_memory_error() {
    let code = "try: x = bytearray(512 << 20)\nexcept MemoryError: print('MemoryError')\nprint(len(bytearray(1 << 20)))";
    dynlink()
        .arguments(&["--max-memory", "128M"])
        .argument(manifest("python311.toml"))
        .arguments(&["-c", code])
        .prints("MemoryError\n1048576\n");
}

#[test]
fn an_endless_loop_ends_at_its_deadline() {
    let started = std::time::Instant::now();
    let done = dynlink()
        .arguments(&["--timeout", "3s"])
        .argument(manifest("python311.toml"))
        .arguments(&["-c", "while True: pass"])
        .done();
    assert_eq!(done.status, Some(124), "{done:?}");
    assert!(started.elapsed().as_secs() < 60);
    assert!(done.stderr.contains("interrupted"), "{done:?}");
}

#[test]
fn the_extension_modules_of_the_standard_library_load() {
    let code = "import math, cmath, array, zlib, bz2, lzma, hashlib, datetime, decimal, unicodedata, _csv, struct\n\
                import ctypes, pyexpat, select, socket, readline, mmap, binascii, _ctypes, _sqlite3, _decimal, _bz2\n\
                print(zlib.decompress(zlib.compress(b'x'*50)) == b'x'*50, lzma.decompress(lzma.compress(b'abc')), \
                hashlib.sha256(b'').hexdigest()[:8], decimal.Decimal('0.1')*3, math.factorial(20))\n";
    python(&["-c", code]).prints("True b'abc' e3b0c442 0.3 2432902008176640000\n");
}

#[test]
fn python_runs_modules_and_reads_a_whole_program_without_arguments() {
    python(&["-m", "json.tool", "--compact"])
        .input("{\"a\": 1}")
        .prints("{\"a\":1}\n");
    let done = python(&[])
        .input("import sys\nprint('in')\nsys.exit(3)\n")
        .done();
    assert_eq!((done.status, &*done.stdout), (Some(3), "in\n"), "{done:?}");
}

#[test]
fn an_interactive_session_ends_with_its_status() {
    // C libraries that register anew what was mounted end with 71 here.
    let done = python(&["-i", "-q"])
        .input("print(8)\nimport sys\nsys.exit(3)\n")
        .done();
    assert_eq!((done.status, &*done.stdout), (Some(3), "8\n"), "{done:?}");
}

#[test]
fn an_abort_is_a_trap_with_a_backtrace() {
    let done = python(&["-c", "import os; os.abort()"]).done();
    assert_eq!(done.status, Some(134), "{done:?}");
    assert!(
        done.stderr
            .contains("python3.11.wasm!_PyEval_EvalFrameDefault"),
        "{done:?}"
    );
    let done = python(&["-c", "import os; os._exit(9)"]).done();
    assert_eq!(done.status, Some(9), "{done:?}");
}

#[test]
fn python_recurses_a_hundred_thousand_calls_deep() {
    let code = "import sys; sys.setrecursionlimit(10**6)\n\
                def f(n): return 0 if n == 0 else 1 + f(n-1)\n\
                print(f(100000))";
    python(&["-c", code]).prints("100000\n");
}

#[test]
fn what_the_host_does_not_have_is_an_error_that_python_knows() {
    let code = "import os, socket, subprocess, threading\n\
                for call in (os.fork, socket.socket, lambda: subprocess.run(['ls']), lambda: os.kill(1, 2), \
                lambda: os.chmod('missing', 0)):\n\
                \ttry: call()\n\
                \texcept OSError as e: print(type(e).__name__, e.errno)\n\
                try: threading.Thread(target=print).start()\n\
                except RuntimeError as e: print('RuntimeError')\n\
                r, w = os.pipe(); os.write(w, b'abc'); print(os.read(r, 9))\n\
                print(os.umask(0o77), os.getpid(), socket.gethostname(), os.path.realpath('/tmp/../tmp/.'))\n";
    let done = python(&["-c", code]).done();
    let expected = "OSError 52\nOSError 52\nOSError 52\nOSError 52\nFileNotFoundError 44\nRuntimeError\nb'abc'\n\
                    18 1 localhost /tmp\n";
    assert_eq!(
        (done.status, &*done.stdout),
        (Some(0), expected),
        "{done:?}"
    );
}

#[test]
fn nested_calls_through_c_slots_work_a_few_hundred_deep() {
    // Every level goes through a slot function, a trampoline and the interpreter again.
    let code = "class A:\n\
                \tdef __init__(self, n): self.n = n\n\
                \tdef __len__(self): return 0 if self.n == 0 else 1 + len(A(self.n - 1))\n\
                print(len(A(300)), sorted([3, 1, 2], key=lambda x: len(A(x))))";
    python(&["-c", code]).prints("300 [1, 2, 3]\n");
}

/// A terminal with a session of Python in it.
#[cfg(unix)]
struct Terminal {
    /// The end where a person would sit.
    person: std::fs::File,
    /// The end that the session has, to look at its settings.
    session: std::fs::File,
    child: std::process::Child,
    /// What was shown and not yet looked for.
    shown: String,
}

#[cfg(unix)]
impl Terminal {
    fn new() -> Terminal {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&person).expect("a terminal");
        unlockpt(&person).expect("a terminal");
        let name = ptsname(&person, Vec::new())
            .expect("its name")
            .into_string()
            .expect("text");
        let session = std::fs::File::options()
            .read(true)
            .write(true)
            .open(name)
            .expect("its other end");
        let end = || Stdio::from(session.try_clone().expect("a descriptor"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_dynlink"));
        command
            .arg(manifest("python311.toml"))
            .arg("-q")
            .env("TERM", "xterm");
        command.stdin(end()).stdout(end()).stderr(end());
        assert!(echoes(&session), "a fresh terminal shows what is typed");
        let child = command.spawn().expect("the command starts");
        Terminal {
            person: person.into(),
            session,
            child,
            shown: String::new(),
        }
    }

    fn types(&mut self, keys: &str) {
        self.person.write_all(keys.as_bytes()).expect("keys");
    }

    /// Reads until this text was shown; fails when nothing more comes for a while. What comes behind the text, maybe in
    /// the same piece, is left for the next one.
    fn shows(&mut self, text: &str) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        use std::io::Read;
        let patience = Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        loop {
            if let Some(place) = self.shown.find(text) {
                self.shown.drain(..place + text.len());
                return;
            }
            let mut descriptors = [PollFd::new(&self.person, PollFlags::IN)];
            let ready = poll(&mut descriptors, Some(&patience)).expect("poll");
            assert!(ready > 0, "`{text}` is missing: {:?}", self.shown);
            let mut buffer = [0; 4096];
            let count = self.person.read(&mut buffer).expect("output");
            self.shown += &String::from_utf8_lossy(&buffer[..count]);
        }
    }
}

/// Whether a terminal shows what is typed.
#[cfg(unix)]
fn echoes(terminal: &std::fs::File) -> bool {
    let settings = rustix::termios::tcgetattr(terminal).expect("settings");
    settings
        .local_modes
        .contains(rustix::termios::LocalModes::ECHO)
}

#[cfg(unix)]
#[test]
fn a_session_in_a_terminal_has_line_editing_and_leaves_the_terminal_as_it_was() {
    let mut terminal = Terminal::new();
    terminal.shows(">>> ");
    assert!(
        !echoes(&terminal.session),
        "the line editor shows the keys itself"
    );
    // Two steps to the left, a digit in between; then the same line from the history.
    terminal.types("print(1003)\x1b[D\x1b[D7\r");
    terminal.shows("\n10073\r");
    terminal.shows(">>> ");
    terminal.types("\x1b[A\r");
    terminal.shows("\n10073\r");
    terminal.shows(">>> ");
    terminal.types("import sys; sys.exit(5)\r");
    let status = terminal.child.wait().expect("the end");
    assert_eq!(status.code(), Some(5));
    assert!(echoes(&terminal.session));
}
