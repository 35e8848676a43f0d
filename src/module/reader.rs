//! A bounded reader of the binary format, for the custom sections that this crate decodes itself.
//! It never reads outside its range, never loops longer than the range is long, and reports every
//! fault with its byte offset in the file.
#![forbid(unsafe_code)]

/// Longest accepted name in bytes; the bound that engines agreed on for names of imports and exports.
pub(super) const MAX_NAME_BYTES: usize = 100_000;

/// What is wrong and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Byte offset in the file.
    pub offset: usize,
    pub reason: String,
}

impl Fault {
    #[cold]
    pub(super) fn new(offset: usize, reason: impl Into<String>) -> Fault {
        Fault {
            offset,
            reason: reason.into(),
        }
    }
}

/// Reads from `position` up to `end` of a file; both are offsets in the file.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    file: &'a [u8],
    position: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    /// A reader of a range of the file; what lies outside the file is cut off.
    pub(super) fn new(file: &'a [u8], start: usize, end: usize) -> Reader<'a> {
        let end = end.min(file.len());
        Reader {
            file,
            position: start.min(end),
            end,
        }
    }

    /// Offset of the next byte in the file.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Bytes that are left.
    pub(super) fn remaining(&self) -> usize {
        self.end - self.position
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.position >= self.end
    }

    /// The next byte. `what` names it for messages.
    pub(super) fn byte(&mut self, what: &str) -> Result<u8, Fault> {
        match self.file.get(self.position) {
            Some(byte) if self.position < self.end => {
                self.position += 1;
                Ok(*byte)
            }
            _ => Err(Fault::new(
                self.position,
                format!("{what} expected, found the end"),
            )),
        }
    }

    /// An unsigned LEB128 number of at most 32 bits: at most five bytes, no bits beyond the 32nd.
    pub(super) fn number(&mut self, what: &str) -> Result<u32, Fault> {
        let start = self.position;
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte(what)?;
            let low = u32::from(byte & 0x7f);
            if shift == 28 && byte > 0x0f {
                return Err(Fault::new(
                    start,
                    format!("{what}: LEB128 number is longer than 5 bytes or larger than 32 bits"),
                ));
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(value)
    }

    /// The number of elements that follow. Each element takes at least `least` bytes, so that a
    /// count cannot promise more than the bytes that are left.
    pub(super) fn count(&mut self, what: &str, least: usize) -> Result<u32, Fault> {
        let start = self.position;
        let count = self.number(what)?;
        let possible = self.remaining() / least.max(1);
        match usize::try_from(count) {
            Ok(count) if count <= possible => {}
            _ => {
                return Err(Fault::new(
                    start,
                    format!(
                        "{what} is {count}, but only {} bytes are left",
                        self.remaining()
                    ),
                ));
            }
        }
        Ok(count)
    }

    /// The next `length` bytes as a reader of their own; this one continues behind them.
    pub(super) fn part(&mut self, length: u32, what: &str) -> Result<Reader<'a>, Fault> {
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| self.position.checked_add(length))
            .filter(|end| *end <= self.end);
        let Some(end) = end else {
            return Err(Fault::new(
                self.position,
                format!(
                    "{what} has {length} bytes, but only {} are left",
                    self.remaining()
                ),
            ));
        };
        let part = Reader {
            file: self.file,
            position: self.position,
            end,
        };
        self.position = end;
        Ok(part)
    }

    /// A name: its length and that many bytes of UTF-8.
    pub(super) fn name(&mut self, what: &str) -> Result<&'a str, Fault> {
        let start = self.position;
        let length = self.number(what)?;
        let part = self.part(length, what)?;
        if part.remaining() > MAX_NAME_BYTES {
            return Err(Fault::new(
                start,
                format!("{what} has {length} bytes, {MAX_NAME_BYTES} are allowed"),
            ));
        }
        let bytes = self.file.get(part.position..part.end).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|error| {
            Fault::new(
                part.position.saturating_add(error.valid_up_to()),
                format!("{what} is not UTF-8"),
            )
        })
    }

    /// Nothing may be left.
    pub(super) fn finish(&self, what: &str) -> Result<(), Fault> {
        if self.is_at_end() {
            return Ok(());
        }
        Err(Fault::new(
            self.position,
            format!("{what} has {} bytes too many", self.remaining()),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8]) -> Result<u32, usize> {
        Reader::new(bytes, 0, bytes.len())
            .number("a number")
            .map_err(|fault| fault.offset)
    }

    #[test]
    fn numbers_are_read_up_to_32_bits() {
        assert_eq!(number(&[0]), Ok(0));
        assert_eq!(number(&[0xe5, 0x8e, 0x26]), Ok(624_485));
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
        // Padding is legal as long as five bytes suffice.
        assert_eq!(number(&[0x80, 0x80, 0x80, 0x80, 0x00]), Ok(0));
    }

    #[test]
    fn numbers_that_are_too_long_or_too_large_or_cut_are_faults() {
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(0));
        assert_eq!(number(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), Err(0));
        assert_eq!(number(&[0x80, 0x80]), Err(2));
        assert_eq!(number(&[]), Err(0));
    }

    #[test]
    fn a_count_cannot_promise_more_than_the_bytes_left() {
        let bytes = [3, 0, 0, 0];
        assert_eq!(Reader::new(&bytes, 0, 4).count("count", 1), Ok(3));
        let fault = Reader::new(&bytes, 0, 4).count("count", 2).unwrap_err();
        assert_eq!(fault.offset, 0);
        assert_eq!(fault.reason, "count is 3, but only 3 bytes are left");
    }

    #[test]
    fn a_name_must_be_utf8_and_its_fault_is_at_the_bad_byte() {
        let bytes = [0, 3, b'a', 0xff, b'b'];
        let fault = Reader::new(&bytes, 1, 5).name("name").unwrap_err();
        assert_eq!(fault.offset, 3);
        assert_eq!(
            Reader::new(b"\x02ab", 0, 3).name("name").map(str::len),
            Ok(2)
        );
    }

    #[test]
    fn a_range_outside_the_file_is_empty() {
        let mut reader = Reader::new(&[1, 2], 7, 9);
        assert!(reader.is_at_end());
        assert!(reader.byte("byte").is_err());
        assert!(reader.part(1, "part").is_err());
    }
}
