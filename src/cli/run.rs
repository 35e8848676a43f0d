//! What happens when a program runs: engine, store and process are made, libraries loaded, the entry
//! called, and its end becomes a status.

#![forbid(unsafe_code)]

use super::manifest::Abi;
use super::program::{Main, Program};
use crate::config::{Config, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::host::cowasm::{Cowasm, CowasmHost, CowasmSymbols};
use crate::host::emscripten::{self, Emscripten, EmscriptenHost, EmscriptenSymbols};
use crate::host::entry;
use crate::host::{Kernel, KernelBuilder, KernelFiles, KernelHost, WasiSymbols};
use crate::link::{DryRun, OpenFlags, Process, ProcessBuilder, Profile, TraceTopics};
use crate::module::{Module, ValType};
use crate::runtime::{Func, Memory, Store, Val};
use crate::watch::Watch;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

/// The topics of `--trace` and `LD_DEBUG`, in the words of `LD_DEBUG=help` where glibc knows the topic.
pub(super) const TRACE_HELP: &str = "\
Valid options for the LD_DEBUG environment variable and for --trace are:

  libs        display library search paths
  reloc       display relocation processing
  files       display progress for input file
  symbols     display symbol table processing
  bindings    display information about symbol binding
  scopes      display scope information
  init        display constructors and destructors (libs does, too)
  calls       display calls of host functions that only fail
  all         all previous options combined
  statistics  display relocation statistics
  help        display this help message and exit

To direct the debugging output into a file instead of standard error
a filename can be specified using the LD_DEBUG_OUTPUT environment variable.
";

/// Bytes of one page of memory.
const PAGE: u64 = 65_536;

/// The data of a program's store.
struct Host {
    kernel: Kernel,
    cowasm: Cowasm,
    emscripten: Emscripten,
}

/// Largest value stack of a manifest. Its pages are only taken when guests use them, but the system may refuse to
/// reserve more.
const MOST_STACK: u64 = 16 << 30;

impl KernelHost for Host {
    fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }
}

impl CowasmHost for Host {
    fn cowasm(&mut self) -> &mut Cowasm {
        &mut self.cowasm
    }
}

impl EmscriptenHost for Host {
    fn emscripten(&mut self) -> (&mut Kernel, &mut Emscripten) {
        (&mut self.kernel, &mut self.emscripten)
    }
}

/// A program that is being run.
struct Running {
    abi: Abi,
    store: Store<Host>,
    process: Process<Host>,
    /// `argv`, the program's name first.
    arguments: Vec<String>,
}

impl Program {
    /// Runs the program to its end with these arguments (without the program's name).
    ///
    /// # Errors
    /// Something cannot be loaded, or the guest trapped. An exit is a status, not an error.
    pub fn run<S: Into<String>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<i32> {
        let arguments = arguments.into_iter().map(Into::into).collect();
        let map = self.map_output()?;
        let end = self.load(arguments).and_then(|mut running| {
            let end = running.run(self);
            running.tell_end(map);
            end
        });
        status(end)
    }

    /// Loads the program and calls an exported function with arguments written as text.
    ///
    /// # Errors
    /// As [`Program::run`]; there is no such function (the exported ones are listed), or the arguments do
    /// not fit. An exit of the guest is an error here.
    pub fn invoke<S: Into<String>>(
        &self,
        function: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Vec<String>> {
        let arguments: Vec<String> = arguments.into_iter().map(Into::into).collect();
        let map = self.map_output()?;
        let mut running = self.load(arguments.clone())?;
        let func = running.prepare(self, Some(function))?;
        let results = running.invoke(function, func, &arguments);
        running.tell_end(map);
        results
    }

    /// Where the map goes that is wanted at the end, if one is.
    fn map_output(&self) -> Result<Option<super::map::Output>> {
        let file = self.description.map.as_ref();
        file.map(|file| super::map::Output::open(file.as_deref()))
            .transpose()
    }

    /// Plans what running the program would load, and these libraries after its own, without running anything: what
    /// is loaded from where, and everything that is wrong.
    ///
    /// # Errors
    /// The main module cannot be read, or as [`Process::dry_run`].
    pub fn dry_run<S: Into<String>>(
        &self,
        libraries: impl IntoIterator<Item = S>,
    ) -> Result<DryRun> {
        let engine = Engine::new(self.config()?);
        let (module, path) = self.module(&engine, &Watch::default())?;
        let abi = self.abi(&module);
        let host = self.host(abi, &[self.program_name(&path)])?;
        let mut store = Store::new(&engine, host);
        let description = &self.description;
        let own = description
            .libraries
            .iter()
            .chain(&description.entry_library);
        let all: Vec<String> = own
            .cloned()
            .chain(libraries.into_iter().map(Into::into))
            .collect();
        self.process(abi).dry_run(&mut store, &module, &path, &all)
    }

    fn load(&self, arguments: Vec<String>) -> Result<Running> {
        let timeout = self.description.timeout;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let engine = Engine::new(self.config()?);
        let (module, path) = self.module(&engine, &Watch::new(deadline, None))?;
        let mut argv = vec![self.program_name(&path)];
        argv.extend(arguments);
        let abi = self.abi(&module);
        let mut store = Store::new(&engine, self.host(abi, &argv)?);
        if let Some(fuel) = self.description.fuel {
            store.set_fuel(fuel)?;
        }
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            store.set_deadline(Some(left))?;
            store.data_mut().kernel.set_deadline(Some(deadline));
        }
        let process = self.process(abi);
        process.start(&mut store, &module, &path)?;
        if let Some(memory) = process.memory() {
            store.data_mut().kernel.set_memory(memory);
        }
        Ok(Running {
            abi,
            store,
            process,
            arguments: argv,
        })
    }

    /// The functions that the main module expects of its host: as described, or as its imports show.
    fn abi(&self, module: &Module) -> Abi {
        self.description.abi.unwrap_or_else(|| {
            if emscripten::is_program(module) {
                Abi::Emscripten
            } else {
                Abi::Wasi
            }
        })
    }

    fn host(&self, abi: Abi, argv: &[String]) -> Result<Host> {
        Ok(Host {
            kernel: self.kernel(abi, argv)?,
            cowasm: self.cowasm(),
            emscripten: Emscripten::default(),
        })
    }

    fn config(&self) -> Result<Config> {
        let description = &self.description;
        let mut config = Config {
            fuel: description.fuel.is_some(),
            interruption: description.timeout.is_some(),
            op_coverage: description.op_coverage,
            native_libc: description.native_libc,
            lazy_validation: description.lazy_validation,
            guard_pages: description.guard_pages,
            ..Config::default()
        };
        if let Some(bytes) = description.memory_limit {
            config.limits.memory_pages = bytes / PAGE;
            config.limits.memory_bytes = bytes;
        }
        if let Some(bytes) = description.stack_limit {
            let size = usize::try_from(bytes).ok().filter(|_| bytes <= MOST_STACK);
            config.limits.stack_bytes = size.ok_or_else(|| {
                Error::usage(format!(
                    "a stack of {bytes} bytes is too large: at most {MOST_STACK}"
                ))
            })?;
        }
        if let Some(elements) = description.table_limit {
            config.limits.table_elements = elements;
        }
        Ok(config)
    }

    fn module(&self, engine: &Engine, watch: &Watch) -> Result<(Module, String)> {
        match &self.description.main {
            Some(Main::File(file)) => Ok((
                Module::watched_file(engine, file, watch)?,
                file.display().to_string(),
            )),
            Some(Main::Bytes { name, bytes }) => {
                let module = Module::watched(engine, bytes.clone(), name, watch)?;
                Ok((module, name.clone()))
            }
            None => Err(Error::usage("a program needs a main module")),
        }
    }

    fn program_name(&self, path: &str) -> String {
        let description = &self.description;
        let name = description
            .program_name
            .clone()
            .or_else(|| description.entry_library.clone());
        name.unwrap_or_else(|| {
            let last = path.rsplit(['/', '\\']).next();
            last.unwrap_or(path).to_owned()
        })
    }

    fn kernel(&self, abi: Abi, argv: &[String]) -> Result<Kernel> {
        let description = &self.description;
        let mut builder = KernelBuilder::new()
            .args(argv.iter().cloned())
            .inherit_stdio();
        if abi == Abi::Emscripten {
            let program = argv.first().map_or("", String::as_str);
            for (name, value) in emscripten::default_environment(program) {
                builder = builder.env(name, value);
            }
        }
        let [stdin, stdout, stderr] = &description.streams;
        if let Some(pipe) = stdin {
            builder = builder.stdin(pipe);
        }
        if let Some(pipe) = stdout {
            builder = builder.stdout(pipe);
        }
        if let Some(pipe) = stderr {
            builder = builder.stderr(pipe);
        }
        for (name, value) in &description.environment {
            builder = builder.env(name, value);
        }
        for (guest, mount) in &description.mounts {
            builder = builder.mount(guest, mount.clone());
        }
        let root = description.mounts.contains_key("/");
        match (abi, description.mounts.get(&description.working_directory)) {
            // emscripten's open by path; without files of ours, they have a tree of their own in memory.
            (Abi::Emscripten, _) if root => builder = builder.no_preopens(),
            (Abi::Emscripten, _) => builder = builder.no_preopens().mount("/", emscripten::tree()),
            // cowasm's C library changes directories: all mounts are one tree below `/` for it.
            (Abi::Cowasm, _) => builder = builder.single_root(),
            // Others get a descriptor for each mount. They know no working directory; what they open by a
            // relative path, they look for in `/`.
            (Abi::Wasi, Some(mount)) if !root => builder = builder.mount("/", mount.clone()),
            (Abi::Wasi, _) => {}
        }
        builder
            .working_directory(&description.working_directory)
            .build()
    }

    fn cowasm(&self) -> Cowasm {
        let mut cowasm = Cowasm::default();
        let topics = self.description.trace.split([',', ':', ' ']);
        if topics
            .into_iter()
            .any(|topic| matches!(topic, "calls" | "all"))
        {
            let sink = self.trace_sink();
            cowasm.trace_stubs(move |name| {
                sink(&format!(
                    "host function `{name}` is not provided: it failed"
                ))
            });
        }
        cowasm
    }

    fn process(&self, abi: Abi) -> Process<Host> {
        let description = &self.description;
        let (topics, _) = TraceTopics::parse(&description.trace);
        let mut builder: ProcessBuilder<Host> = Process::builder().files(KernelFiles);
        let mut profile = match abi {
            Abi::Emscripten => {
                builder = builder.host(EmscriptenSymbols::new(WasiSymbols));
                for directory in emscripten::LIBRARY_DIRECTORIES {
                    builder = builder.default_path(directory);
                }
                Profile::emscripten()
            }
            Abi::Wasi => {
                builder = builder.host(WasiSymbols);
                Profile::wasi()
            }
            Abi::Cowasm => {
                builder = builder.host(CowasmSymbols::new(WasiSymbols));
                Profile::cowasm()
            }
        };
        profile.bind_now |= description.bind_now;
        builder = builder.profile(profile);
        for directory in &description.library_path {
            builder = builder.library_path(directory);
        }
        if abi == Abi::Emscripten
            && let Some(list) = description.environment.get("LD_LIBRARY_PATH")
        {
            builder = builder.ld_library_path(list);
        }
        for library in &description.preload {
            builder = builder.preload(library);
        }
        if !topics.is_empty() {
            let sink = self.trace_sink();
            builder = builder.trace(topics, Arc::new(move |_, line: &str| sink(line)));
        }
        builder.build()
    }

    /// Takes the linker's lines: with the process's number as `ld.so` has it, to standard error or to a file whose
    /// name ends in that number.
    fn trace_sink(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let process = std::process::id();
        let file = self.description.trace_output.as_ref().and_then(|path| {
            let mut name = path.clone().into_os_string();
            name.push(format!(".{process}"));
            // As in ld.so: a file that cannot be written is no reason not to run.
            let file = std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(name);
            file.ok()
        });
        move |line: &str| {
            let line = format!("{process:>10}:\t{line}\n");
            let _ = match &file {
                Some(file) => (&mut &*file).write_all(line.as_bytes()),
                None => std::io::stderr().write_all(line.as_bytes()),
            };
        }
    }
}

/// An exit is a way to end, not an error.
fn status(end: Result<i32>) -> Result<i32> {
    match end {
        Err(error) => match error.exit_status() {
            Some(status) => Ok(status),
            None => Err(error),
        },
        end => end,
    }
}

impl Running {
    /// What is told when the program has ended: statistics and a map, where they are wanted.
    fn tell_end(&self, map: Option<super::map::Output>) {
        self.process.trace_final_statistics();
        if let Some(map) = map {
            map.write(&self.process.map(&self.store));
        }
    }

    fn run(&mut self, program: &Program) -> Result<i32> {
        let description = &program.description;
        let func = self.prepare(program, description.entry_function.as_deref())?;
        if self.abi == Abi::Emscripten && description.entry_library.is_none() {
            let entry = description.entry_function.as_deref();
            return emscripten::call_main(&self.process, &mut self.store, entry);
        }
        let plain_start = description.entry_function.is_none();
        let status = self.call_main(func)?;
        if plain_start {
            return Ok(status);
        }
        // C's `exit` runs what was registered with `atexit` and writes what is still in buffers.
        if let Some(exit) = self.process.function(&mut self.store, "exit") {
            exit.call(&mut self.store, &[Val::I32(status)], &mut [])?;
        }
        Ok(status)
    }

    /// Does everything up to the entry, and gives the function to call.
    fn prepare(&mut self, program: &Program, function: Option<&str>) -> Result<Func> {
        let description = &program.description;
        if self.abi == Abi::Cowasm {
            // Constructors, `main` (which the host answers with 0), destructors: then the kernel is ready to serve.
            let start = self.process.entry(&mut self.store, Some("_start"))?;
            start.call(&mut self.store, &[], &mut [])?;
            self.change_directory(&description.working_directory)?;
        }
        for library in &description.libraries {
            self.open(library)?;
        }
        let Some(library) = &description.entry_library else {
            return self.process.entry(&mut self.store, function);
        };
        let handle = self.open(library)?;
        let function = function.unwrap_or("main");
        self.process
            .dlsym_function(&mut self.store, handle, function)
            .map_err(|error| error.context(format!("the entry in `{library}`")))
    }

    fn open(&mut self, library: &str) -> Result<u32> {
        self.process.dlopen(
            &mut self.store,
            Some(library),
            OpenFlags::NOW | OpenFlags::GLOBAL,
        )
    }

    /// Calls a function with C's `main` parameters, or with none.
    fn call_main(&mut self, func: Func) -> Result<i32> {
        let arguments = match entry::takes_arguments(&func.ty(&self.store))? {
            true => {
                let arguments = self.arguments.clone();
                Some(self.argument_list(&arguments)?)
            }
            false => None,
        };
        entry::call(&mut self.store, func, arguments)
    }

    /// Calls an exported function with arguments written as text.
    fn invoke(&mut self, name: &str, func: Func, arguments: &[String]) -> Result<Vec<String>> {
        let ty = func.ty(&self.store);
        if arguments.len() != ty.params().len() {
            return Err(Error::usage(format!(
                "`{name}` has the type {ty}: {} arguments are needed, {} were given",
                ty.params().len(),
                arguments.len()
            )));
        }
        let parameters = ty.params().iter().zip(arguments).map(|(ty, text)| {
            value(*ty, text).ok_or_else(|| {
                Error::usage(format!("`{text}` is no {ty}, which `{name}` needs here"))
            })
        });
        let parameters = parameters.collect::<Result<Vec<_>>>()?;
        let mut results: Vec<Val> = ty
            .results()
            .iter()
            .map(|ty| Val::default_for(*ty))
            .collect();
        func.call(&mut self.store, &parameters, &mut results)?;
        Ok(results.iter().map(shown).collect())
    }

    /// Enters a directory in the guest, whose C library alone knows where it is.
    fn change_directory(&mut self, directory: &str) -> Result<()> {
        if directory == "/" {
            return Ok(());
        }
        let chdir = self.process.function(&mut self.store, "chdir");
        let chdir = chdir.ok_or_else(|| {
            Error::msg(format!(
                "the program cannot start in `{directory}`: it has no chdir"
            ))
        })?;
        let path = self.string(directory)?;
        let mut result = [Val::I32(-1)];
        chdir.call(&mut self.store, &[Val::I32(path)], &mut result)?;
        self.free(path)?;
        match result {
            [Val::I32(0)] => Ok(()),
            _ => Err(Error::msg(format!(
                "the program cannot start in `{directory}`: its chdir failed"
            ))),
        }
    }

    /// `argc` and `argv` in the guest's memory.
    fn argument_list(&mut self, arguments: &[String]) -> Result<(u32, u32)> {
        let count = u32::try_from(arguments.len()).map_err(|_| too_long())?;
        let mut pointers = Vec::new();
        for argument in arguments {
            pointers.extend(self.string(argument)?.to_le_bytes());
        }
        pointers.extend([0; 4]);
        let list = self.copy(&pointers)?;
        Ok((count, list.cast_unsigned()))
    }

    fn string(&mut self, text: &str) -> Result<i32> {
        if text.contains('\0') {
            return Err(Error::usage(format!(
                "the argument {text:?} has a zero byte"
            )));
        }
        self.copy(&[text.as_bytes(), &[0]].concat())
    }

    /// Copies bytes to memory from the guest's `malloc`.
    fn copy(&mut self, bytes: &[u8]) -> Result<i32> {
        let size = i32::try_from(bytes.len()).map_err(|_| too_long())?;
        let malloc = self.process.function(&mut self.store, "malloc");
        let malloc = malloc.ok_or_else(|| {
            Error::msg("the program has no `malloc`, which passing arguments needs")
        })?;
        let mut result = [Val::I32(0)];
        malloc.call(&mut self.store, &[Val::I32(size)], &mut result)?;
        match result {
            [Val::I32(0)] => Err(Error::new(ErrorKind::Limit {
                what: "memory for the arguments".into(),
                needed: u64::from(size.unsigned_abs()),
                allowed: 0,
            })),
            [Val::I32(pointer)] => {
                let place = usize::try_from(pointer.cast_unsigned()).map_err(|_| too_long())?;
                self.memory()?.write(&mut self.store, place, bytes)?;
                Ok(pointer)
            }
            _ => Err(Error::msg("the program's `malloc` is not C's")),
        }
    }

    fn free(&mut self, pointer: i32) -> Result<()> {
        match self.process.function(&mut self.store, "free") {
            Some(free) => free.call(&mut self.store, &[Val::I32(pointer)], &mut []),
            None => Ok(()),
        }
    }

    fn memory(&self) -> Result<Memory> {
        self.process
            .memory()
            .ok_or_else(|| Error::msg("the program has no memory"))
    }
}

fn too_long() -> Error {
    Error::usage("the arguments are too long")
}

/// A value of this type written as text: decimal or `0x` integers, signed or not; floats as Rust has them.
fn value(ty: ValType, text: &str) -> Option<Val> {
    let integer = || -> Option<i128> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let number = match digits.strip_prefix("0x") {
            Some(digits) => i128::from(u64::from_str_radix(digits, 16).ok()?),
            None => i128::from(digits.parse::<u64>().ok()?),
        };
        Some(if negative { -number } else { number })
    };
    match ty {
        ValType::I32 => {
            let number = integer()?;
            let bits = i32::try_from(number).ok();
            bits.or_else(|| u32::try_from(number).ok().map(u32::cast_signed))
                .map(Val::I32)
        }
        ValType::I64 => {
            let number = integer()?;
            let bits = i64::try_from(number).ok();
            bits.or_else(|| u64::try_from(number).ok().map(u64::cast_signed))
                .map(Val::I64)
        }
        ValType::F32 => text.parse::<f32>().ok().map(Val::from),
        ValType::F64 => text.parse::<f64>().ok().map(Val::from),
        ValType::Ref(_) => (text == "null").then(|| Val::default_for(ty)),
    }
}

fn shown(value: &Val) -> String {
    match value {
        Val::I32(number) => number.to_string(),
        Val::I64(number) => number.to_string(),
        Val::F32(bits) => f32::from_bits(*bits).to_string(),
        Val::F64(bits) => f64::from_bits(*bits).to_string(),
        Val::FuncRef(None) | Val::ExternRef(None) => "null".into(),
        Val::FuncRef(Some(_)) => "a function".into(),
        Val::ExternRef(Some(number)) => format!("reference {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_their_type() {
        let read = |ty, text| value(ty, text).map(|value| shown(&value));
        assert_eq!(read(ValType::I32, "-5").as_deref(), Some("-5"));
        assert_eq!(read(ValType::I32, "0xffffffff").as_deref(), Some("-1"));
        assert_eq!(read(ValType::I32, "4294967295").as_deref(), Some("-1"));
        assert_eq!(read(ValType::I32, "4294967296"), None);
        assert_eq!(read(ValType::I32, "-2147483649"), None);
        assert_eq!(read(ValType::I32, "1.5"), None);
        assert_eq!(
            read(ValType::I64, "-9223372036854775808").as_deref(),
            Some("-9223372036854775808")
        );
        assert_eq!(
            read(ValType::I64, "18446744073709551615").as_deref(),
            Some("-1")
        );
        assert_eq!(read(ValType::F64, "1.5").as_deref(), Some("1.5"));
        assert_eq!(read(ValType::F32, "nan").as_deref(), Some("NaN"));
        assert_eq!(
            read(ValType::Ref(crate::module::RefType::Func), "null").as_deref(),
            Some("null")
        );
        assert_eq!(read(ValType::I32, "- 5"), None);
        assert_eq!(read(ValType::I32, "--5"), None);
    }
}
