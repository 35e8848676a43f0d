//! `dlopen` and `dlsym` as emscripten's C library asks for them.
//!
//! The library keeps a `struct dso` for each open library and passes its address; it also keeps `dlerror`'s text, finds
//! libraries that are open already, and never closes one. What is left for the host: to load, to find symbols, and to say
//! what went wrong with `__dl_seterr(format, …)`, in emscripten's words.

#![forbid(unsafe_code)]

use super::EmscriptenHost;
use super::call::{Guest, System};
use super::events::Event;
use super::paths::normal;
use crate::error::{Error, ErrorKind, Result};
use crate::host::errno::Errno;
use crate::host::fs::FileType;
use crate::host::guest::PATH_LIMIT;
use crate::host::paths::At;
use crate::link::{ObjectId, OpenFlags, RTLD_DEFAULT, RTLD_NEXT};
use crate::runtime::{AsContextMut, Instance};
use crate::shown::shown;

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

/// Functions of the C library between a call of `dlsym` and the host: `dlsym` itself and `__dlsym`, and room for more.
const MOST_FRAMES: usize = 8;

/// Offsets of flags and name in a `struct dso` that is about to be opened. The C library has cleared it, but for flags, name
/// and what the comments say; no version tells its number. The name is the end of the structure.
///
/// | version | from the start | flags | then | name |
/// |---|---|---|---|---|
/// | to 3.1.28 | two links; three words, set if the library is opened asynchronously | 20 | five words | 44 |
/// | 3.1.29 to 3.1.31 | two links | 8 | five words | 32 |
/// | 3.1.32 to 3.1.38 | one link | 4 | five words | 28 |
/// | from 3.1.39 | one link | 4 | five words; address and size of the file's contents, if the C library found it | 36 |
fn layout(system: &System<'_, '_>, library: u32) -> Result<(u32, u32), Errno> {
    let word = |offset: u32| {
        let place = library.checked_add(offset).ok_or(Errno::Fault)?;
        system.memory.read_u32(place)
    };
    if word(4)? == 0 {
        // Flags are never zero, memory and table of a library that is not open are.
        return Ok(if word(20)? == 0 { (8, 32) } else { (20, 44) });
    }
    if word(28)? == 0 {
        return Ok((4, 36));
    }
    // Either a name begins here, or the C library has read a file of the name at 36 and of the size at 32.
    let file = || -> Result<u64, Errno> {
        let name = library.checked_add(36).ok_or(Errno::Fault)?;
        let name = super::call::lossy_string(system.memory, name, PATH_LIMIT)?;
        let metadata = system.kernel.metadata_at(At::Root, &name, true)?;
        match metadata.file_type {
            FileType::RegularFile => Ok(metadata.size),
            _ => Err(Errno::Noent),
        }
    };
    let is_read = file().is_ok_and(|size| word(32).is_ok_and(|read| u64::from(read) == size));
    Ok(if is_read { (4, 36) } else { (4, 28) })
}

fn describe<T: EmscriptenHost>(guest: &mut Guest<'_, '_, T>, library: u32) -> Result<Description> {
    let read = guest.system(|system| {
        let (flags, name) = layout(system, library)?;
        let place = |offset: u32| library.checked_add(offset).ok_or(Errno::Fault);
        let flags = system.memory.read_u32(place(flags)?)?;
        let name = super::call::lossy_string(system.memory, place(name)?, PATH_LIMIT)?;
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
            // The letter changed in the second half of 2025, not long before programs got fixed addresses.
            let could = if has_fixed_addresses(guest) {
                "could"
            } else {
                "Could"
            };
            set_error(guest, &format!("{could} {message}"))?;
            Ok(0)
        }
    }
}

/// Whether the program is of the kind that emscripten makes since late 2025: not position independent.
fn has_fixed_addresses<T: EmscriptenHost>(guest: &Guest<'_, '_, T>) -> bool {
    let state = guest.process.state();
    let main = state.main.and_then(|main| state.object(main));
    main.is_some_and(|main| !main.relocatable)
}

/// The object that calls the host. Where the C library is, libraries are looked for: it does not pass on who called it.
fn asking<T: EmscriptenHost>(guest: &Guest<'_, '_, T>) -> Option<ObjectId> {
    let instance = guest.caller.instance()?;
    guest.process.state().instances.get(&instance).copied()
}

/// Opens a library, or gives the message for `dlerror` behind its first word.
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
            "not load dynamic lib: {name}\nError: more than {MOST_LIBRARIES} libraries are open"
        )));
    }
    let name = (name != MAIN).then(|| normal(&name));
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
        return Err(error.context(format!("dlopen of `{}`", shown(&name))));
    }
    let wanted = wanted.unwrap_or_default();
    let mut store = guest.caller.as_context_mut();
    let missing = matches!(process.find_file(&mut store, &wanted, &[]), Ok(Err(_)));
    let cause = if missing {
        format!("Error: ENOENT: no such file or directory, open '{name}'")
    } else {
        format!("Error: {error}")
    };
    Ok(Err(format!("not load dynamic lib: {name}\n{cause}")))
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

/// The object whose call of `dlsym` the C library passes on: what follows it is next.
///
/// The functions of the C library that lie in between are those from the one that called the host to `dlsym`. If `dlsym` is
/// not among them, it became part of the function that called it, which then is one of the program's own.
fn asking_for_symbol<T: EmscriptenHost>(guest: &mut Guest<'_, '_, T>) -> Option<ObjectId> {
    let frames = guest.caller.waiting(MOST_FRAMES);
    let dlsym = guest.process.function(&mut *guest.caller, "dlsym");
    let place = frames.iter().position(|frame| Some(*frame) == dlsym);
    let asking = frames.get(place.map_or(0, |place| place + 1)..)?;
    let state = guest.process.state();
    // A function of the host that passes a call on belongs to no object.
    asking.iter().find_map(|func| {
        let instance = Instance {
            store: func.store,
            group: func.group,
        };
        state.instances.get(&instance).copied()
    })
}

/// `_dlsym_js` up to version 3.1.31: the address of data, the table index of a function, or 0 and a message.
pub(super) fn symbol<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    library: u32,
    name: u32,
) -> Result<u32> {
    find_symbol(guest, library, name, "RTLD_DEFAULT")
}

/// `_dlsym_js` from version 3.1.32 on. If a function gets a place in the table, the host is to tell its number, so that
/// other threads repeat the look-up. There are none, and the C library would remember each call in vain.
pub(super) fn symbol_with_index<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    library: u32,
    name: u32,
    _index: u32,
) -> Result<u32> {
    find_symbol(guest, library, name, MAIN)
}

/// As [`symbol`]; `everything` is what messages call `RTLD_DEFAULT`.
fn find_symbol<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    library: u32,
    name: u32,
    everything: &str,
) -> Result<u32> {
    // Before anything calls the guest.
    let asker = asking_for_symbol(guest);
    let Ok(symbol) = guest.text(name, MOST_NAME) else {
        // All of it was looked at for an end.
        guest.caller.as_context_mut().pay(MOST_NAME.into())?;
        set_error(guest, "dlsym: the name is no string within the memory")?;
        return Ok(0);
    };
    // Reading it costs, whether the symbol is looked for (which costs, too) or not.
    guest.caller.as_context_mut().pay(symbol.len() as u64)?;
    let (handle, place) = match library {
        RTLD_NEXT if asker.is_none() => {
            let message = "dlsym: no library called dlsym, so nothing is next to it";
            set_error(guest, message)?;
            return Ok(0);
        }
        RTLD_DEFAULT => (RTLD_DEFAULT, everything.to_string()),
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

/// `_dlsym_catchup_js`: other threads have nothing to catch up with, because there are none.
pub(super) fn catch_up(_: &mut System<'_, '_>, _library: u32, _index: u32) -> i32 {
    0
}

/// `_emscripten_dlopen_js` up to version 3.1.28: callbacks get the description.
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
            // This one begins with a capital letter in all versions.
            set_error(guest, &format!("Could {message}"))?;
            callbacks.1
        }
    };
    guest.call_table(callback, &[library, user])
}
