//! `struct stat` as the versions of emscripten have it.

#![forbid(unsafe_code)]

use super::call::System;
use super::generation::Generation;
use crate::host::errno::Result;
use crate::host::fs::{FileType, Metadata};

/// Most files whose permissions are remembered.
const MOST_MODES: usize = 65_536;

const NANOSECONDS: u64 = 1_000_000_000;

/// A structure under construction.
struct Structure {
    bytes: Vec<u8>,
}

impl Structure {
    fn new(size: usize) -> Structure {
        Structure {
            bytes: vec![0; size],
        }
    }

    /// Puts a field at its offset. Offsets are constants of the layouts.
    fn put(&mut self, offset: usize, field: &[u8]) {
        if let Some(place) = self.bytes.get_mut(offset..offset + field.len()) {
            place.copy_from_slice(field);
        } else {
            debug_assert!(false, "a field at {offset} leaves the structure");
        }
    }

    fn put_u32(&mut self, offset: usize, value: u64) {
        let low = value & u64::from(u32::MAX);
        self.put(offset, &u32::try_from(low).unwrap_or(0).to_le_bytes());
    }

    fn put_u64(&mut self, offset: usize, value: u64) {
        self.put(offset, &value.to_le_bytes());
    }
}

impl System<'_, '_> {
    /// Writes what is known about a file to the guest.
    ///
    /// # Errors
    /// `Fault`.
    pub fn write_status(&mut self, buffer: u32, metadata: &Metadata, mode: u32) -> Result<i32> {
        let generation = self.state.marks.generation();
        let structure = layout(generation, metadata, mode);
        self.memory.write(buffer, &structure.bytes)?;
        Ok(0)
    }

    /// Kind and permissions of a file. File systems here keep no permissions: what the guest set is remembered, and else
    /// everybody may read and write, or read if it lies on a mount that guests may not change.
    pub fn mode(&self, metadata: &Metadata, read_only: bool) -> u32 {
        let kind = match metadata.file_type {
            FileType::Unknown => 0o010_000,
            FileType::BlockDevice => 0o060_000,
            FileType::CharacterDevice => 0o020_000,
            FileType::Directory => 0o040_000,
            FileType::RegularFile => 0o100_000,
            FileType::SocketDatagram | FileType::SocketStream => 0o140_000,
            FileType::SymbolicLink => 0o120_000,
        };
        let known = self
            .state
            .modes
            .get(&(metadata.device, metadata.inode))
            .copied();
        let usual = match metadata.file_type {
            FileType::Directory | FileType::SymbolicLink => 0o777,
            _ => 0o666,
        };
        let bits = known.unwrap_or(usual);
        kind | if read_only { bits & !0o222 } else { bits }
    }

    /// Remembers the permissions of a file.
    pub fn set_mode(&mut self, metadata: &Metadata, mode: u32) {
        let modes = &mut self.state.modes;
        let key = (metadata.device, metadata.inode);
        if modes.len() >= MOST_MODES && !modes.contains_key(&key) {
            modes.clear();
        }
        modes.insert(key, mode & 0o7777);
    }

    /// Forgets the permissions of a file that is gone: its number may be used again.
    pub fn forget_mode(&mut self, metadata: &Metadata) {
        if metadata.links <= 1 || metadata.file_type == FileType::Directory {
            self.state.modes.remove(&(metadata.device, metadata.inode));
        }
    }
}

fn layout(generation: Generation, metadata: &Metadata, mode: u32) -> Structure {
    const BLOCK: u64 = 4096;
    let blocks = metadata.size.div_ceil(512);
    let times = [metadata.accessed, metadata.modified, metadata.changed];
    let seconds = times.map(|time| (time / NANOSECONDS, time % NANOSECONDS));
    let mode = u64::from(mode);
    // Offsets: device, mode, links, size, block size, blocks, inode.
    let put =
        |size: usize, [device, mode_at, links, size_at, block, blocks_at, inode]: [usize; 7]| {
            let mut structure = Structure::new(size);
            structure.put_u32(device, metadata.device);
            structure.put_u32(mode_at, mode);
            structure.put_u32(links, metadata.links);
            structure.put_u64(size_at, metadata.size);
            structure.put_u32(block, BLOCK);
            structure.put_u32(blocks_at, blocks);
            structure.put_u64(inode, metadata.inode);
            structure
        };
    match generation {
        Generation::Time32 => {
            let mut structure = put(88, [0, 12, 16, 40, 48, 52, 80]);
            structure.put_u32(8, metadata.inode);
            for (at, (seconds, rest)) in [56, 64, 72].into_iter().zip(seconds) {
                structure.put_u32(at, seconds);
                structure.put_u32(at + 4, rest);
            }
            structure
        }
        Generation::Padded => {
            let mut structure = put(112, [0, 12, 16, 40, 48, 52, 104]);
            structure.put_u32(8, metadata.inode);
            for (at, (seconds, rest)) in [56, 72, 88].into_iter().zip(seconds) {
                structure.put_u64(at, seconds);
                structure.put_u32(at + 8, rest);
            }
            structure
        }
        Generation::Current => {
            let mut structure = put(96, [0, 4, 8, 24, 32, 36, 88]);
            for (at, (seconds, rest)) in [40, 56, 72].into_iter().zip(seconds) {
                structure.put_u64(at, seconds);
                structure.put_u32(at + 8, rest);
            }
            structure
        }
    }
}
