//! The process: its end, its messages, and what is refused by name.

#![forbid(unsafe_code)]

use super::EmscriptenHost;
use super::call::{Guest, System, lossy_string};
use crate::error::{Error, Result};
use crate::host::errno::Errno;
use crate::shown::shown;
use crate::trap::{Trap, TrapCode};

/// Longest text of a message in bytes.
const MOST_TEXT: u32 = 64 << 10;

/// Most bytes that `getentropy` gives (POSIX).
const MOST_ENTROPY: u32 = 256;

/// `exit`: what was registered with `atexit`, the buffers of open streams, and the end.
pub(super) fn exit<T: EmscriptenHost>(guest: &mut Guest<'_, '_, T>, status: i32) -> Result<()> {
    run_exit_handlers(guest)?;
    Err(Error::exit(status))
}

/// `emscripten_force_exit`: the same, whatever keeps the program alive.
pub(super) fn force_exit<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    status: i32,
) -> Result<()> {
    guest.state().events.clear();
    exit(guest, status)
}

/// Calls what the program was linked with for its end: nothing if it was linked without.
///
/// # Errors
/// What ends these calls.
pub(super) fn run_exit_handlers<T: EmscriptenHost>(guest: &mut Guest<'_, '_, T>) -> Result<()> {
    guest.call_symbol("__funcs_on_exit", &[])?;
    if guest.call_symbol("__stdio_exit", &[])?.is_none() {
        guest.call_symbol("fflush", &[0])?;
    }
    Ok(())
}

pub(super) fn abort<T: EmscriptenHost>(_: &mut Guest<'_, '_, T>) -> Result<()> {
    Err(aborted("the program called abort()"))
}

fn aborted(why: &str) -> Error {
    Trap::new(TrapCode::Unreachable)
        .with_detail(format!("Aborted({why})"))
        .into()
}

pub(super) fn assertion_failed<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    condition: u32,
    file: u32,
    line: u32,
    function: u32,
) -> Result<()> {
    let mut text = |pointer: u32, otherwise: &str| match pointer {
        0 => otherwise.to_string(),
        pointer => guest
            .text(pointer, MOST_TEXT)
            .unwrap_or_else(|_| otherwise.to_string()),
    };
    let condition = text(condition, "?");
    let file = text(file, "unknown filename");
    let function = text(function, "unknown function");
    Err(aborted(&format!(
        "Assertion failed: {condition}, at: {file},{line},{function}"
    )))
}

pub(super) fn stack_overflow<T: EmscriptenHost>(
    _: &mut Guest<'_, '_, T>,
    _stack_pointer: u32,
) -> Result<()> {
    Err(Trap::new(TrapCode::StackOverflow)
        .with_detail("the program's own check of its C stack failed")
        .into())
}

/// A signal handler, whatever its exact type.
pub(super) fn call_signal_handler<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    handler: u32,
    signal: u32,
) -> Result<()> {
    guest.call_table(handler, &[signal])
}

pub(super) fn random(system: &mut System<'_, '_>, buffer: u32, size: u32) -> Result<i32, Errno> {
    if size > MOST_ENTROPY {
        return Ok(-1);
    }
    let bytes = system.memory.bytes_mut(buffer, size)?;
    system.kernel.random(bytes)?;
    Ok(0)
}

/// The program's name, cut to the buffer.
pub(super) fn program_name(system: &mut System<'_, '_>, buffer: u32, size: u32) {
    let name = system.kernel.arguments().first().cloned();
    let mut bytes = name.unwrap_or_default().into_bytes();
    let Some(room) = size
        .checked_sub(1)
        .and_then(|room| usize::try_from(room).ok())
    else {
        return;
    };
    bytes.truncate(room);
    bytes.push(0);
    // Outside of the memory there is no buffer to fill.
    let _ = system.memory.write(buffer, &bytes);
}

/// `system`: there is no shell.
pub(super) fn run_command(_: &mut System<'_, '_>, command: u32) -> Result<i32, Errno> {
    match command {
        0 => Ok(0),
        _ => Err(Errno::Nosys),
    }
}

pub(super) fn print(system: &mut System<'_, '_>, text: u32) {
    print_line(system, 1, text);
}

pub(super) fn print_error(system: &mut System<'_, '_>, text: u32) {
    print_line(system, 2, text);
}

/// A line of a console; what cannot be written is lost, as with a console.
fn print_line(system: &mut System<'_, '_>, fd: u32, text: u32) {
    let text = lossy_string(system.memory, text, MOST_TEXT).unwrap_or_default();
    let line = format!("{text}\n");
    let mut bytes = line.as_bytes();
    while !bytes.is_empty() {
        match system.kernel.write(fd, bytes) {
            Ok(count) if count > 0 => bytes = bytes.get(count..).unwrap_or_default(),
            _ => return,
        }
    }
}

pub(super) fn nothing(_: &mut System<'_, '_>) {}

pub(super) fn zero(_: &mut System<'_, '_>) -> i32 {
    0
}

pub(super) fn null(_: &mut System<'_, '_>, _: u32) -> i32 {
    0
}

pub(super) fn no_socket(
    _: &mut System<'_, '_>,
    _family: u32,
    _kind: u32,
    _protocol: u32,
    _a: u32,
    _b: u32,
    _c: u32,
) -> Result<i32, Errno> {
    Err(Errno::Afnosupport)
}

pub(super) fn not_a_socket(
    system: &mut System<'_, '_>,
    fd: u32,
    _a: u32,
    _b: u32,
    _c: u32,
    _d: u32,
    _e: u32,
) -> Result<i32, Errno> {
    system.kernel.descriptors.get(fd)?;
    Err(Errno::Notsock)
}

/// `getaddrinfo` without a resolver: `EAI_NONAME`.
pub(super) fn no_address(
    _: &mut System<'_, '_>,
    _node: u32,
    _service: u32,
    _hints: u32,
    _result: u32,
) -> i32 {
    -2
}

/// `getnameinfo` without address families: `EAI_FAMILY`.
#[expect(
    clippy::too_many_arguments,
    reason = "they are those of the C function"
)]
pub(super) fn no_name(
    _: &mut System<'_, '_>,
    _address: u32,
    _size: u32,
    _node: u32,
    _node_size: u32,
    _service: u32,
    _service_size: u32,
    _flags: u32,
) -> i32 {
    -6
}

pub(super) fn set_temp_ret0(system: &mut System<'_, '_>, value: u32) {
    system.state.temp_ret0 = value;
}

pub(super) fn temp_ret0(system: &mut System<'_, '_>) -> u32 {
    system.state.temp_ret0
}

/// `EM_ASM`: its code is JavaScript, which the guest's data often still has.
pub(super) fn inline_script<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    code: u32,
    _types: u32,
    _arguments: u32,
) -> Result<i32> {
    Err(refused(guest, "EM_ASM", code))
}

pub(super) fn inline_script_f64<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    code: u32,
    _types: u32,
    _arguments: u32,
) -> Result<f64> {
    Err(refused(guest, "EM_ASM", code))
}

pub(super) fn inline_script_void<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    code: u32,
    _types: u32,
    _arguments: u32,
) -> Result<()> {
    Err(refused(guest, "EM_ASM", code))
}

pub(super) fn run_script<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    script: u32,
) -> Result<i32> {
    Err(refused(guest, "emscripten_run_script", script))
}

pub(super) fn run_script_void<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    script: u32,
) -> Result<()> {
    Err(refused(guest, "emscripten_run_script", script))
}

/// The refusal of JavaScript, with its beginning.
fn refused<T: EmscriptenHost>(guest: &mut Guest<'_, '_, T>, what: &str, code: u32) -> Error {
    const MOST_SHOWN: usize = 80;
    let text = guest.text(code, MOST_TEXT).unwrap_or_default();
    let beginning: String = text.chars().take(MOST_SHOWN).collect();
    let code = match beginning.trim() {
        "" => String::new(),
        code => format!(": `{}`", shown(code)),
    };
    Trap::new(TrapCode::UnresolvedFunction)
        .with_detail(format!(
            "{what} is JavaScript, which this host does not run{code}; the embedder can offer the function in its place"
        ))
        .into()
}
