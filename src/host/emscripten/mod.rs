//! emscripten: what its programs import from their JavaScript, without the JavaScript.
//!
//! A program of emscripten is a main module that imports its "system calls" and the services of its JavaScript library
//! from `env`, and some functions from WASI. The types are the importer's: emscripten before version 4 splits every
//! 64-bit integer at this border into two of 32 bits ("legalisation"), later ones do not. Each function here is
//! described once, by its natural type, and both are accepted.
//!
//! | file | concept |
//! |---|---|
//! | `table.rs` | one row a function: module, name, signature, method |
//! | `call.rs` | what a row's method gets, and how parameters and results pass the border |
//! | `generation.rs` | layouts that changed between versions of emscripten |
//! | `files.rs`, `paths.rs`, `stat.rs`, `poll.rs` | the system calls on descriptors, paths, metadata, readiness |
//! | `memory.rs` | heap growth, big copies, mapped files |
//! | `time.rs`, `calendar.rs`, `zone.rs`, `format_time.rs` | clocks, dates, time zones, `strftime` |
//! | `dynamic.rs` | `_dlopen_js`, `_dlsym_js` and the asynchronous `emscripten_dlopen` |
//! | `unwind.rs` | `invoke_*` and `longjmp` |
//! | `process.rs`, `events.rs`, `start.rs` | exits, console, refusals; what happens after `main`; `main` itself |
//!
//! Functions whose body is JavaScript of the program's own (`EM_JS`, `EM_ASM`, a JavaScript library) are refused by name.
//! An embedder that wants to offer them wraps [`EmscriptenSymbols`] in a [`HostSymbols`] of its own.

#![forbid(unsafe_code)]

mod calendar;
mod call;
mod dynamic;
mod events;
mod files;
mod format_time;
mod generation;
mod memory;
mod paths;
mod poll;
mod process;
mod start;
mod stat;
mod table;
#[cfg(test)]
mod tests;
mod time;
mod unwind;
mod zone;

pub use start::call_main;

use self::call::Signature;
use self::generation::Marks;
use super::fs::{Lookup, Mount};
use super::kernel::Kernel;
use super::{KernelHost, wasi};
use crate::error::Result;
use crate::link::{HostSymbols, Process};
use crate::module::{ExternType, FuncType, Module};
use crate::runtime::{Caller, Func, StoreContextMut, Val};
use std::collections::HashMap;

/// What the data of a store must offer for emscripten's functions.
pub trait EmscriptenHost: KernelHost {
    /// The kernel, and the state of emscripten's own functions.
    fn emscripten(&mut self) -> (&mut Kernel, &mut Emscripten);
}

/// State of emscripten's functions in one process.
#[derive(Debug, Default)]
pub struct Emscripten {
    /// The upper half of the last 64-bit result that passed the border in two halves.
    temp_ret0: u32,
    /// Which version's layouts the program uses.
    marks: Marks,
    /// Libraries by the addresses of their `struct dso`. The C library never closes one, so none goes.
    libraries: HashMap<u32, dynamic::Opened>,
    /// Permission bits of files that the guest made or changed, by device and inode: the file systems keep none.
    modes: HashMap<(u64, u64), u32>,
    /// Paths of open directories by their serial number, for `fchdir`.
    directories: HashMap<u64, String>,
    events: events::Events,
    zone: Option<zone::Zone>,
}

/// emscripten's functions for the linker; other functions come from `wasi`.
///
/// ```
/// use dynlink::host::emscripten::EmscriptenSymbols;
/// use dynlink::host::WasiSymbols;
///
/// let symbols = EmscriptenSymbols::new(WasiSymbols);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct EmscriptenSymbols<W> {
    wasi: W,
}

impl<W> EmscriptenSymbols<W> {
    /// emscripten's functions beside those of WASI.
    pub fn new(wasi: W) -> EmscriptenSymbols<W> {
        EmscriptenSymbols { wasi }
    }
}

impl<T: EmscriptenHost, W: HostSymbols<T>> HostSymbols<T> for EmscriptenSymbols<W> {
    fn goes_on_after(&self, error: &crate::Error) -> bool {
        unwind::is_unwinding(error) || events::is_unwound(error)
    }

    fn function(
        &self,
        process: &Process<T>,
        mut store: StoreContextMut<'_, T>,
        module: &str,
        name: &str,
        ty: &FuncType,
    ) -> Option<Func> {
        store.data_mut().emscripten().1.marks.note(name, ty);
        if let Some(row) = table::row::<T>(module, name, ty) {
            return Some(call::define(process, store, row, ty));
        }
        if module == "env" {
            return match name.strip_prefix("invoke_") {
                Some(_) => unwind::invoke(process, store, ty),
                None => self.wasi.function(process, store, module, name, ty),
            };
        }
        let given = self
            .wasi
            .function(process, StoreContextMut(&mut *store.0), module, name, ty);
        given.or_else(|| {
            let natural = wasi::function(module, name)?.ty();
            let split = Signature::of(&natural).split();
            let inner = (split == *ty).then(|| {
                let store = StoreContextMut(&mut *store.0);
                self.wasi.function(process, store, module, name, &natural)
            })??;
            Some(joined(store, inner, natural, ty))
        })
    }

    fn signature(&self, module: &str, name: &str) -> Option<FuncType> {
        table::signature::<T>(module, name).or_else(|| self.wasi.signature(module, name))
    }

    fn hint(&self, module: &str, name: &str) -> Option<String> {
        if module == "a" {
            return Some(
                "the names of this program's imports were shortened: link it with -sMAIN_MODULE=2 or below -O3".into(),
            );
        }
        self.wasi.hint(module, name).or_else(|| {
            (module == "env").then(|| {
                if table::knows::<T>(name) {
                    "the host has a function of this name, but of another type".into()
                } else {
                    "if its body is JavaScript (EM_JS, a JavaScript library), the embedder has to offer it".into()
                }
            })
        })
    }
}

/// A function whose 64-bit parameters come in two halves, and that passes them on whole. Results have 32 bits.
fn joined<T: 'static>(
    store: StoreContextMut<'_, T>,
    inner: Func,
    natural: FuncType,
    ty: &FuncType,
) -> Func {
    let call = move |caller: Caller<'_, T>, arguments: &[Val], results: &mut [Val]| -> Result<()> {
        inner.call(caller, &call::join(&natural, arguments), results)
    };
    Func::new(store, ty.clone(), call)
}

/// Whether a main module is one of emscripten, as far as its imports tell: it imports a system call, the loader, or a
/// function whose name says so.
pub fn is_program(module: &Module) -> bool {
    module.imports().any(|import| {
        let name = import.name;
        import.module == "env"
            && matches!(import.ty, ExternType::Func(_))
            && (name.starts_with("emscripten_")
                || name.starts_with("_emscripten_")
                || name.starts_with("__syscall_")
                || name.starts_with("invoke_")
                || matches!(
                    name,
                    "_dlopen_js"
                        | "_dlsym_js"
                        | "_abort_js"
                        | "_localtime_js"
                        | "_tzset_js"
                        | "_mmap_js"
                        | "setTempRet0"
                        | "getTempRet0"
                ))
    })
}

/// Where libraries are looked for after all other places: the working directory, and where emscripten looks.
pub const LIBRARY_DIRECTORIES: [&str; 4] = [".", "/lib", "/usr/lib", "/usr/local/lib"];

/// A tree in memory like the one that emscripten's JavaScript gives every program: empty but for `/tmp` and
/// `/home/web_user`.
pub fn tree() -> Mount {
    let mount = Mount::memory();
    for path in ["tmp", "home", "home/web_user"] {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = match parent {
            "" => Some(mount.root.clone()),
            parent => match mount.root.lookup(parent) {
                Ok(Lookup::Directory(directory)) => Some(directory),
                _ => None,
            },
        };
        // A new tree has room for three directories.
        let made = directory.map(|directory| directory.create_directory(name));
        debug_assert_eq!(made, Some(Ok(())));
    }
    mount
}

/// The variables that emscripten's JavaScript gives every program, as `NAME`, value pairs.
pub fn default_environment(program: &str) -> [(&'static str, String); 7] {
    [
        ("USER", "web_user".into()),
        ("LOGNAME", "web_user".into()),
        ("PATH", "/".into()),
        ("PWD", "/".into()),
        ("HOME", "/home/web_user".into()),
        ("LANG", "C.UTF-8".into()),
        ("_", program.into()),
    ]
}
