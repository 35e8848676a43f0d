//! `dlopen` and `dlsym` as emscripten's C library asks for them.
//!
//! The library keeps a `struct dso` for each open library and passes its address; it also keeps `dlerror`'s text, finds
//! libraries that are open already, and never closes one. What is left for the host: to load, to find symbols, and to say
//! what went wrong with `__dl_seterr(format, …)`, in emscripten's words.

#![forbid(unsafe_code)]

use super::EmscriptenHost;
use super::call::{Guest, System};
use super::events::Event;
use super::generation::Generation;
use super::paths::normal;
use crate::error::{Error, ErrorKind, Result};
use crate::host::guest::PATH_LIMIT;
use crate::link::{ObjectId, OpenFlags, RTLD_DEFAULT, RTLD_NEXT};
use crate::runtime::AsContextMut;

/// Longest name of a symbol in bytes.
const MOST_NAME: u32 = 1 << 16;

/// Longest message in bytes: it passes over the C stack.
const MOST_MESSAGE: usize = 4096;

/// Most descriptions of libraries that the guest may have.
const MOST_LIBRARIES: usize = 65_536;

/// The name of the main program.
const MAIN: &str = "__main__";

/// A library that the guest has open.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    handle: u32,
    name: String,
}

/// What a `struct dso` says.
struct Description {
    name: String,
    flags: OpenFlags,
}

/// Offsets of flags and name in the versions of `struct dso`, newest first. The name is the end of the structure; what
/// precedes it is zero when the library is to be opened, so the first of these places that is not empty has it.
const LAYOUTS: [(u32, u32); 3] = [(4, 36), (8, 40), (20, 44)];

fn describe<T: EmscriptenHost>(guest: &mut Guest<'_, '_, T>, library: u32) -> Result<Description> {
    let read = guest.system(|system| {
        let place = |offset: u32| {
            library
                .checked_add(offset)
                .ok_or(crate::host::errno::Errno::Fault)
        };
        let oldest = system.state.marks.generation() == Generation::Time32;
        let mut found = LAYOUTS[2];
        for (flags, name) in LAYOUTS {
            if !oldest && system.memory.read_u8(place(name)?)? != 0 {
                found = (flags, name);
                break;
            }
        }
        let flags = system.memory.read_u32(place(found.0)?)?;
        let name = super::call::lossy_string(system.memory, place(found.1)?, PATH_LIMIT)?;
        Ok(Description {
            name,
            flags: OpenFlags::from_bits_truncate(flags),
        })
    });
    read.map_err(|errno| {
        Error::msg(format!(
            "dlopen: the library's description at {library:#x}: {errno}"
        ))
    })
}

/// `_dlinit`: the main program's description.
pub(super) fn start<T: EmscriptenHost>(guest: &mut Guest<'_, '_, T>, main: u32) -> Result<()> {
    let handle = guest
        .process
        .dlopen(&mut *guest.caller, None, OpenFlags::NOW)?;
    let opened = Opened {
        handle,
        name: MAIN.into(),
    };
    guest.state().libraries.insert(main, opened);
    Ok(())
}

/// `_dlopen_js`: 1, or 0 and a message for `dlerror`.
pub(super) fn open<T: EmscriptenHost>(guest: &mut Guest<'_, '_, T>, library: u32) -> Result<i32> {
    match load(guest, library)? {
        Ok(()) => Ok(1),
        Err(message) => {
            set_error(guest, &message)?;
            Ok(0)
        }
    }
}

/// The object that asks: its runtime path counts, and what follows it is next.
fn asking<T: EmscriptenHost>(guest: &Guest<'_, '_, T>) -> Option<ObjectId> {
    let instance = guest.caller.instance()?;
    guest.process.state().instances.get(&instance).copied()
}

/// Opens a library, or gives the message for `dlerror`.
///
/// # Errors
/// What ends the process: a trap or exit in a constructor.
fn load<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    library: u32,
) -> Result<Result<(), String>> {
    let Description { name, flags } = describe(guest, library)?;
    let known = &guest.state().libraries;
    if known.len() >= MOST_LIBRARIES && !known.contains_key(&library) {
        return Ok(Err(format!(
            "more than {MOST_LIBRARIES} libraries are open"
        )));
    }
    let (name, oldest) = if name == MAIN {
        (None, false)
    } else {
        let oldest = guest.state().marks.generation() == Generation::Time32;
        (Some(normal(&name)), oldest)
    };
    // A file of this name in the working directory comes before all search paths.
    let wanted = name.as_ref().map(|name| {
        let here = !name.contains('/') && guest.caller.data_mut().kernel().exists(name);
        if here {
            format!("./{name}")
        } else {
            name.clone()
        }
    });
    let flags = if flags.intersects(OpenFlags::LAZY | OpenFlags::NOW) {
        flags
    } else {
        flags | OpenFlags::LAZY
    };
    let asker = asking(guest);
    let process = guest.process;
    let mut store = guest.caller.as_context_mut();
    let result = process.open(&mut store, wanted.as_deref(), flags, asker);
    let error = match result {
        Ok(handle) => {
            let name = name.unwrap_or_else(|| MAIN.into());
            guest
                .state()
                .libraries
                .insert(library, Opened { handle, name });
            return Ok(Ok(()));
        }
        Err(error) => error,
    };
    let fatal = error.exit_status().is_some()
        || error.trap().is_some()
        || matches!(error.kind(), ErrorKind::Host(_));
    let name = name.unwrap_or_else(|| MAIN.into());
    if fatal {
        return Err(error.context(format!("dlopen of `{name}`")));
    }
    let wanted = wanted.unwrap_or_default();
    let mut store = guest.caller.as_context_mut();
    let missing = matches!(process.find_file(&mut store, &wanted, &[]), Ok(Err(_)));
    let cause = if missing {
        format!("Error: ENOENT: no such file or directory, open '{name}'")
    } else {
        format!("Error: {error}")
    };
    let could_not = if oldest { "Could not" } else { "could not" };
    Ok(Err(format!(
        "{could_not} load dynamic lib: {name}\n{cause}"
    )))
}

/// Tells the guest's C library what `dlerror` says next.
fn set_error<T: EmscriptenHost>(guest: &mut Guest<'_, '_, T>, message: &str) -> Result<()> {
    // The message is a format string there.
    let mut bytes: Vec<u8> = Vec::new();
    for byte in message.bytes().filter(|byte| *byte != 0) {
        if bytes.len() + 2 > MOST_MESSAGE {
            break;
        }
        if byte == b'%' {
            bytes.push(b'%');
        }
        bytes.push(byte);
    }
    bytes.push(0);
    guest.with_stack_copy(&bytes, |guest, text| {
        guest.call_symbol("__dl_seterr", &[text, 0]).map(|_| ())
    })
}

/// `_dlsym_js`: the address of data, the table index of a function, or 0 and a message.
pub(super) fn symbol<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    library: u32,
    name: u32,
) -> Result<u32> {
    let Ok(symbol) = guest.text(name, MOST_NAME) else {
        set_error(guest, "dlsym: the name is no string within the memory")?;
        return Ok(0);
    };
    let (handle, place) = match library {
        // The C library calls in everybody's name, so nobody knows what comes next.
        RTLD_NEXT if asking(guest) == guest.process.state().main => {
            let message = "dlsym: which library asks for RTLD_NEXT is not known here: emscripten's libc asks for it";
            set_error(guest, message)?;
            return Ok(0);
        }
        RTLD_DEFAULT => (RTLD_DEFAULT, "RTLD_DEFAULT".to_string()),
        RTLD_NEXT => (RTLD_NEXT, "RTLD_NEXT".to_string()),
        library => match guest.state().libraries.get(&library).cloned() {
            Some(opened) => (opened.handle, opened.name),
            None => {
                set_error(
                    guest,
                    &format!("Tried to dlsym() from an unopened handle: {library}"),
                )?;
                return Ok(0);
            }
        },
    };
    let asker = asking(guest);
    let mut store = guest.caller.as_context_mut();
    match guest
        .process
        .find_symbol(&mut store, handle, &symbol, asker)
    {
        Ok(address) => Ok(address),
        Err(error) if error.exit_status().is_some() || error.trap().is_some() => Err(error),
        Err(_) => {
            let message =
                format!("Tried to lookup unknown symbol \"{symbol}\" in dynamic lib: {place}");
            set_error(guest, &message)?;
            Ok(0)
        }
    }
}

/// `_dlsym_js` of versions with threads in mind, which want the symbol's number to repeat the look-up elsewhere. There is
/// no elsewhere, so any number will do.
pub(super) fn symbol_with_index<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    library: u32,
    name: u32,
    index: u32,
) -> Result<u32> {
    let address = symbol(guest, library, name)?;
    // A bad pointer is the C library's own mistake; there is nobody to tell.
    let _ = guest.system(|system| system.memory.write_u32(index, 0));
    Ok(address)
}

/// `_dlsym_catchup_js`: other threads have nothing to catch up with, because there are none.
pub(super) fn catch_up(_: &mut System<'_, '_>, _library: u32, _index: u32) -> i32 {
    0
}

/// `_emscripten_dlopen_js` up to version 3.1.16: callbacks get the description.
pub(super) fn open_later_3<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    library: u32,
    success: u32,
    failure: u32,
) -> Result<()> {
    open_later(guest, library, success, failure, 0)
}

/// `_emscripten_dlopen_js`: the library is opened after the running function has returned to the host, and then one of
/// two callbacks is called with the description and the user's pointer, as far as it has parameters.
pub(super) fn open_later<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    library: u32,
    success: u32,
    failure: u32,
    user: u32,
) -> Result<()> {
    guest.state().events.add(Event::Open {
        library,
        success,
        failure,
        user,
    })
}

/// Carries out what [`open_later`] promised.
///
/// # Errors
/// What ends the process.
pub(super) fn finish<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    library: u32,
    callbacks: (u32, u32),
    user: u32,
) -> Result<()> {
    let callback = match load(guest, library)? {
        Ok(()) => callbacks.0,
        Err(message) => {
            set_error(guest, &message)?;
            callbacks.1
        }
    };
    guest.call_table(callback, &[library, user])
}
