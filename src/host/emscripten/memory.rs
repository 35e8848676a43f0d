//! The heap's growth, big copies, and files in memory.
//!
//! The end of the memory is the guest's: its `sbrk` takes everything up to there (rule L10). So the linker asks the guest
//! for memory, and only `sbrk` makes the memory larger, through [`resize_heap`].

#![forbid(unsafe_code)]

use super::EmscriptenHost;
use super::call::{Guest, System};
use crate::error::Result;
use crate::host::descriptor::Object;
use crate::host::errno::Errno;

const PAGE: u64 = 65_536;

const WRITE: u32 = 2;
const PRIVATE: u32 = 2;

/// `emscripten_resize_heap`: 1 if the memory now has this many bytes. It grows by a fifth more than asked for, as
/// emscripten's does, so that a heap that grows in small steps does not ask each time.
pub(super) fn resize_heap<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    size: u32,
) -> Result<u32> {
    /// Most bytes beyond what was asked for.
    const MOST_EXTRA: u64 = 96 << 20;
    let Some(memory) = guest.process.memory() else {
        return Ok(0);
    };
    let pages = memory.size(&*guest.caller);
    let most = largest_pages(guest);
    let needed = u64::from(size).div_ceil(PAGE);
    if needed > most {
        return Ok(0);
    }
    if needed <= pages {
        return Ok(1);
    }
    for share in [5, 10, 20] {
        let generous = (pages + pages / share).min(needed + MOST_EXTRA / PAGE);
        let wanted = needed.max(generous).min(most);
        if memory.grow(&mut *guest.caller, wanted - pages).is_ok() {
            return Ok(1);
        }
    }
    let grown = memory.grow(&mut *guest.caller, needed - pages);
    Ok(u32::from(grown.is_ok()))
}

fn largest_pages<T: EmscriptenHost>(guest: &Guest<'_, '_, T>) -> u64 {
    let memory = guest.process.memory();
    memory.map_or(0, |memory| {
        let maximum = memory.ty(&*guest.caller).maximum;
        maximum.unwrap_or(PAGE).min(PAGE)
    })
}

/// `emscripten_get_heap_max`. A full 4 GiB cannot be told in 32 bits; it is told as a page less.
pub(super) fn largest_heap<T: EmscriptenHost>(guest: &mut Guest<'_, '_, T>) -> Result<u32> {
    let bytes = largest_pages(guest) * PAGE;
    Ok(u32::try_from(bytes).unwrap_or(0xffff_0000))
}

/// The engine looks the memory up anew after every call, so there is nothing to do.
pub(super) fn growth_happened(_: &mut System<'_, '_>, _memory: u32) {}

pub(super) fn copy(
    system: &mut System<'_, '_>,
    to: u32,
    from: u32,
    size: u32,
) -> Result<u32, Errno> {
    copy_bytes(system, to, from, size);
    Ok(to)
}

pub(super) fn copy_quietly(system: &mut System<'_, '_>, to: u32, from: u32, size: u32) {
    copy_bytes(system, to, from, size);
}

/// As `memcpy`. Like that of JavaScript it does nothing outside of the memory, where there is nothing to do.
fn copy_bytes(system: &mut System<'_, '_>, to: u32, from: u32, size: u32) {
    let _ = system.memory.copy_within(to, from, size);
}

/// `_mmap_js` with 7 parameters: with an address hint in front up to version 3.1.16, with a place for the address last
/// after that.
#[expect(
    clippy::too_many_arguments,
    reason = "they are those of the system call"
)]
pub(super) fn map_file_32<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    a: u32,
    b: u32,
    c: u32,
    d: u32,
    e: u32,
    f: u32,
    g: u32,
) -> Result<Result<u32, Errno>> {
    use super::generation::Generation;
    if guest.state().marks.generation() == Generation::Time32 {
        let request = Request {
            length: b,
            protection: c,
            flags: d,
            fd: e,
            offset: u64::from(f),
        };
        return map(guest, request, g);
    }
    map_file(guest, a, b, c, d, i64::from(e), f, g)
}

/// `_mmap_js`: 0, with the address where the last parameter says.
#[expect(
    clippy::too_many_arguments,
    reason = "they are those of the system call"
)]
pub(super) fn map_file<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    length: u32,
    protection: u32,
    flags: u32,
    fd: u32,
    offset: i64,
    allocated: u32,
    address: u32,
) -> Result<Result<u32, Errno>> {
    let Ok(offset) = u64::try_from(offset) else {
        return Ok(Err(Errno::Inval));
    };
    let request = Request {
        length,
        protection,
        flags,
        fd,
        offset,
    };
    Ok(match map(guest, request, allocated)? {
        Ok(base) => guest
            .system(|system| system.memory.write_u32(address, base))
            .map(|()| 0),
        Err(errno) => Err(errno),
    })
}

struct Request {
    length: u32,
    protection: u32,
    flags: u32,
    fd: u32,
    offset: u64,
}

/// A copy of a part of a file in memory from the guest's allocator; it is written back when it is unmapped.
fn map<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    request: Request,
    allocated: u32,
) -> Result<Result<u32, Errno>> {
    let allowed = guest.system(|system| {
        system.memory.check(allocated, 4)?;
        let file = system.kernel.descriptors.get(request.fd)?;
        let shared_writes = request.protection & WRITE != 0 && request.flags & PRIVATE == 0;
        match &file.object {
            Object::File(_) if !file.readable => Err(Errno::Acces),
            Object::File(_) if shared_writes && (!file.writable || file.read_only) => {
                Err(Errno::Acces)
            }
            Object::File(_) if request.length == 0 => Err(Errno::Inval),
            Object::File(_) => Ok(()),
            _ => Err(Errno::Nodev),
        }
    });
    if let Err(errno) = allowed {
        return Ok(Err(errno));
    }
    let page = u32::try_from(PAGE).unwrap_or(1 << 16);
    let Some(size) = request.length.checked_next_multiple_of(16) else {
        return Ok(Err(Errno::Nomem));
    };
    let mut base = None;
    for name in ["emscripten_builtin_memalign", "memalign", "aligned_alloc"] {
        base = guest.call_symbol(name, &[page, size])?;
        if base.is_some() {
            break;
        }
    }
    let base = match base {
        Some(0) => return Ok(Err(Errno::Nomem)),
        Some(base) => base,
        None => return Ok(Err(Errno::Nosys)),
    };
    Ok(guest.system(|system| {
        let buffer = system.memory.bytes_mut(base, request.length)?;
        buffer.fill(0);
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let position = request.offset.saturating_add(done as u64);
            match system.kernel.read_at(request.fd, rest, position)? {
                0 => break,
                count => done += count,
            }
        }
        system.memory.write_u32(allocated, 1)?;
        Ok(base)
    }))
}

pub(super) fn unmap_file_32(
    system: &mut System<'_, '_>,
    address: u32,
    length: u32,
    protection: u32,
    flags: u32,
    fd: u32,
    offset: u32,
) -> Result<i32, Errno> {
    unmap_file(
        system,
        address,
        length,
        protection,
        flags,
        fd,
        offset.into(),
    )
}

/// `_munmap_js`: writes a shared mapping back. The guest frees the memory itself.
pub(super) fn unmap_file(
    system: &mut System<'_, '_>,
    address: u32,
    length: u32,
    protection: u32,
    flags: u32,
    fd: u32,
    offset: i64,
) -> Result<i32, Errno> {
    // The descriptor may be closed by now; then the mapping's changes are lost, as with emscripten's JavaScript.
    if protection & WRITE != 0 && system.kernel.descriptors.get(fd).is_ok() {
        write_back(system, address, length, flags, fd, offset)?;
    }
    Ok(0)
}

pub(super) fn sync_mapping_32(
    system: &mut System<'_, '_>,
    address: u32,
    length: u32,
    flags: u32,
    fd: u32,
) -> Result<i32, Errno> {
    write_back(system, address, length, flags, fd, 0)?;
    Ok(0)
}

pub(super) fn sync_mapping(
    system: &mut System<'_, '_>,
    address: u32,
    length: u32,
    protection: u32,
    flags: u32,
    fd: u32,
    offset: i64,
) -> Result<i32, Errno> {
    if protection & WRITE != 0 {
        write_back(system, address, length, flags, fd, offset)?;
    }
    Ok(0)
}

fn write_back(
    system: &mut System<'_, '_>,
    address: u32,
    length: u32,
    flags: u32,
    fd: u32,
    offset: i64,
) -> Result<(), Errno> {
    if flags & PRIVATE != 0 {
        return Ok(());
    }
    let offset = u64::try_from(offset).map_err(|_| Errno::Inval)?;
    // A mapping that is longer than its file does not make the file longer.
    let size = system.kernel.metadata(fd)?.size;
    let inside = u32::try_from(size.saturating_sub(offset)).unwrap_or(u32::MAX);
    let mut bytes = system.memory.bytes(address, length.min(inside))?;
    let mut position = offset;
    while !bytes.is_empty() {
        let count = system.kernel.write_at(fd, bytes, position)?;
        if count == 0 {
            return Err(Errno::Io);
        }
        position = position.saturating_add(count as u64);
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// `__map_file`, with which libc would read time zones: the host does that itself.
pub(super) fn map_by_name(_: &mut System<'_, '_>, _path: u32, _size: u32) -> Result<i32, Errno> {
    Err(Errno::Perm)
}
