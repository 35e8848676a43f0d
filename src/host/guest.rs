//! Guest memory as host functions see it: every access is checked and returns an errno.
//!
//! This is the only way from a host function to the bytes of a guest. A pointer or length of a guest is a `u32`; nothing
//! here panics, wraps around, or allocates by a guest's number.

#![forbid(unsafe_code)]

use super::errno::{Errno, Result};
use smallvec::SmallVec;

/// Most buffers of one scatter or gather call (`IOV_MAX` of Linux).
pub const IOVEC_LIMIT: u32 = 1024;

/// Longest path in bytes, without a terminator (`PATH_MAX` of Linux, less one).
pub const PATH_LIMIT: u32 = 4095;

/// A checked view of the memory of the calling guest.
pub struct GuestMemory<'a> {
    bytes: &'a mut [u8],
}

/// A range of guest memory that was checked when it was made. The view cannot shrink while a host function runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// First byte.
    pub pointer: u32,
    /// Number of bytes.
    pub length: u32,
}

/// Buffers of one scatter or gather call.
pub type Buffers = SmallVec<[Buffer; 8]>;

impl<'a> GuestMemory<'a> {
    /// A view of these bytes.
    pub fn new(bytes: &'a mut [u8]) -> GuestMemory<'a> {
        GuestMemory { bytes }
    }

    /// Size of the memory in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of the guest.
    ///
    /// # Errors
    /// `Fault` if the range leaves the memory.
    pub fn bytes(&self, pointer: u32, length: u32) -> Result<&[u8]> {
        let start = pointer as usize;
        let end = start.checked_add(length as usize).ok_or(Errno::Fault)?;
        self.bytes.get(start..end).ok_or(Errno::Fault)
    }

    /// Bytes of the guest, to be written.
    ///
    /// # Errors
    /// `Fault` if the range leaves the memory.
    pub fn bytes_mut(&mut self, pointer: u32, length: u32) -> Result<&mut [u8]> {
        let start = pointer as usize;
        let end = start.checked_add(length as usize).ok_or(Errno::Fault)?;
        self.bytes.get_mut(start..end).ok_or(Errno::Fault)
    }

    /// Checks that a range lies in the memory.
    ///
    /// # Errors
    /// `Fault` if not.
    pub fn check(&self, pointer: u32, length: u32) -> Result<()> {
        self.bytes(pointer, length).map(|_| ())
    }

    fn array<const N: usize>(&self, pointer: u32) -> Result<[u8; N]> {
        let start = pointer as usize;
        let end = start.checked_add(N).ok_or(Errno::Fault)?;
        let bytes = self.bytes.get(start..end).ok_or(Errno::Fault)?;
        bytes.try_into().map_err(|_| Errno::Fault)
    }

    /// Copies bytes into the guest.
    ///
    /// # Errors
    /// `Fault` if the range leaves the memory; then nothing is written.
    pub fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::Fault)?;
        self.bytes_mut(pointer, length)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Copies bytes within the guest; the two ranges may overlap.
    ///
    /// # Errors
    /// `Fault` if one leaves the memory; then nothing is written.
    pub fn copy_within(&mut self, to: u32, from: u32, length: u32) -> Result<()> {
        self.check(to, length)?;
        self.check(from, length)?;
        let (from, length) = (from as usize, length as usize);
        self.bytes.copy_within(from..from + length, to as usize);
        Ok(())
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// `Fault` outside the memory.
    pub fn read_u8(&self, pointer: u32) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array(pointer)?))
    }

    /// Reads a little-endian number.
    ///
    /// # Errors
    /// `Fault` outside the memory.
    pub fn read_u16(&self, pointer: u32) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(pointer)?))
    }

    /// Reads a little-endian number.
    ///
    /// # Errors
    /// `Fault` outside the memory.
    pub fn read_u32(&self, pointer: u32) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(pointer)?))
    }

    /// Reads a little-endian number.
    ///
    /// # Errors
    /// `Fault` outside the memory.
    pub fn read_u64(&self, pointer: u32) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(pointer)?))
    }

    /// Writes one byte.
    ///
    /// # Errors
    /// `Fault` outside the memory.
    pub fn write_u8(&mut self, pointer: u32, value: u8) -> Result<()> {
        self.write(pointer, &value.to_le_bytes())
    }

    /// Writes a little-endian number.
    ///
    /// # Errors
    /// `Fault` outside the memory.
    pub fn write_u16(&mut self, pointer: u32, value: u16) -> Result<()> {
        self.write(pointer, &value.to_le_bytes())
    }

    /// Writes a little-endian number.
    ///
    /// # Errors
    /// `Fault` outside the memory.
    pub fn write_u32(&mut self, pointer: u32, value: u32) -> Result<()> {
        self.write(pointer, &value.to_le_bytes())
    }

    /// Writes a little-endian number.
    ///
    /// # Errors
    /// `Fault` outside the memory.
    pub fn write_u64(&mut self, pointer: u32, value: u64) -> Result<()> {
        self.write(pointer, &value.to_le_bytes())
    }

    /// A path given by pointer and length.
    ///
    /// # Errors
    /// `Nametoolong` beyond [`PATH_LIMIT`], `Fault` outside the memory, `Ilseq` if it is not UTF-8, `Inval` with a NUL.
    pub fn path(&self, pointer: u32, length: u32) -> Result<&str> {
        let bytes = self.bytes(pointer, length)?;
        if length > PATH_LIMIT {
            return Err(Errno::Nametoolong);
        }
        if bytes.contains(&0) {
            return Err(Errno::Inval);
        }
        std::str::from_utf8(bytes).map_err(|_| Errno::Ilseq)
    }

    /// A string of C: bytes up to a NUL, of which at most `limit` are looked at.
    ///
    /// # Errors
    /// `Fault` if the memory ends before a NUL, `Nametoolong` beyond the limit, `Ilseq` if it is not UTF-8.
    pub fn c_string(&self, pointer: u32, limit: u32) -> Result<&str> {
        let rest = self.bytes.get(pointer as usize..).ok_or(Errno::Fault)?;
        let most = (limit as usize).saturating_add(1).min(rest.len());
        let searched = rest.get(..most).ok_or(Errno::Fault)?;
        match searched.iter().position(|byte| *byte == 0) {
            Some(end) => {
                let text = searched.get(..end).ok_or(Errno::Fault)?;
                std::str::from_utf8(text).map_err(|_| Errno::Ilseq)
            }
            None if most == rest.len() => Err(Errno::Fault),
            None => Err(Errno::Nametoolong),
        }
    }

    /// The buffers of a scatter or gather call: `count` pairs of pointer and length. Each is checked; empty ones are left out;
    /// beyond a total of 2 GiB the list is cut, which a guest sees as a short transfer.
    ///
    /// # Errors
    /// `Inval` beyond [`IOVEC_LIMIT`], `Fault` if the list or a buffer leaves the memory.
    pub fn buffers(&self, list: u32, count: u32) -> Result<Buffers> {
        if count > IOVEC_LIMIT {
            return Err(Errno::Inval);
        }
        let entries = self.bytes(list, count * 8)?;
        let mut buffers = Buffers::new();
        let mut room = i32::MAX as u32;
        for entry in entries.chunks_exact(8) {
            let (pointer, length) = entry.split_at(4);
            let mut buffer = Buffer {
                pointer: u32::from_le_bytes(pointer.try_into().map_err(|_| Errno::Fault)?),
                length: u32::from_le_bytes(length.try_into().map_err(|_| Errno::Fault)?),
            };
            self.check(buffer.pointer, buffer.length)?;
            buffer.length = buffer.length.min(room);
            room -= buffer.length;
            if buffer.length > 0 {
                buffers.push(buffer);
            }
        }
        Ok(buffers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_at_and_over_the_end_fail_without_a_panic() {
        let mut bytes = vec![0; 16];
        let mut memory = GuestMemory::new(&mut bytes);
        assert!(memory.write_u64(8, 7).is_ok());
        assert_eq!(memory.read_u64(8), Ok(7));
        for pointer in [9, 15, 16, 17, 1 << 31, u32::MAX] {
            assert_eq!(memory.read_u64(pointer), Err(Errno::Fault));
            assert_eq!(memory.write_u64(pointer, 1), Err(Errno::Fault));
        }
        assert_eq!(memory.bytes(16, 0), Ok(&[][..]));
        assert_eq!(memory.bytes(17, 0), Err(Errno::Fault));
        assert_eq!(memory.bytes(u32::MAX, u32::MAX), Err(Errno::Fault));
    }

    #[test]
    fn paths_are_checked_for_length_nul_and_encoding() {
        let mut bytes = b"a/b\0\xff".to_vec();
        bytes.resize(8192, b'x');
        let memory = GuestMemory::new(&mut bytes);
        assert_eq!(memory.path(0, 3), Ok("a/b"));
        assert_eq!(memory.path(0, 4), Err(Errno::Inval));
        assert_eq!(memory.path(4, 1), Err(Errno::Ilseq));
        assert_eq!(memory.path(5, 4096), Err(Errno::Nametoolong));
        assert_eq!(memory.path(5, u32::MAX), Err(Errno::Fault));
    }

    #[test]
    fn c_strings_end_at_a_nul_or_fail() {
        let mut bytes = b"abc\0defg".to_vec();
        let memory = GuestMemory::new(&mut bytes);
        assert_eq!(memory.c_string(0, 10), Ok("abc"));
        assert_eq!(memory.c_string(0, 3), Ok("abc"));
        assert_eq!(memory.c_string(0, 2), Err(Errno::Nametoolong));
        assert_eq!(memory.c_string(4, 10), Err(Errno::Fault));
        assert_eq!(memory.c_string(9, 10), Err(Errno::Fault));
    }

    #[test]
    fn buffer_lists_are_capped_and_checked() {
        let mut bytes = vec![0; 64];
        let mut memory = GuestMemory::new(&mut bytes);
        for (at, value) in [(0, 32), (4, 8), (8, 60), (12, 4), (16, 0), (20, 0)] {
            memory.write_u32(at, value).unwrap();
        }
        let buffers = memory.buffers(0, 3).unwrap();
        assert_eq!(buffers.len(), 2);
        assert_eq!(buffers.iter().map(|b| b.length).sum::<u32>(), 12);
        memory.write_u32(12, 5).unwrap();
        assert_eq!(memory.buffers(0, 2), Err(Errno::Fault));
        assert_eq!(memory.buffers(0, 1 << 28), Err(Errno::Inval));
        assert_eq!(memory.buffers(64, 1), Err(Errno::Fault));
    }
}
