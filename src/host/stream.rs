//! Byte streams without a position: the standard streams of the host, and pipes in memory.
//!
//! Pipes serve tests and embedders (to give a guest its input and to capture its output) and guests that call `pipe`.

#![forbid(unsafe_code)]

use super::errno::{Errno, Result};
use super::fs::FileType;
use std::collections::VecDeque;
#[cfg(not(unix))]
use std::io::Write;
use std::io::{self, IsTerminal, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most bytes that a captured output keeps.
const CAPTURE_LIMIT: usize = 256 << 20;

/// Bytes that a pipe between two descriptors of a guest holds (as on Linux).
const PIPE_CAPACITY: usize = 64 << 10;

/// Bytes that a pipe, terminal or socket takes without waiting once it has room at all: `PIPE_BUF` of Linux.
#[cfg(unix)]
const PIPE_PIECE: usize = 4096;

/// Whether a stream can be used without waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Readiness {
    /// This many bytes can be read (0 if unknown) or written.
    Ready(u64),
    /// The other end is gone: reading gives the end, writing an error.
    HangUp,
    /// Not now, but another process may change that.
    Pending,
}

/// A stream that a descriptor leads to.
pub(crate) enum Stream {
    /// Standard input of the host.
    Stdin(Stdin),
    /// Standard output of the host.
    Stdout,
    /// Standard error of the host.
    Stderr,
    /// The end of a pipe that reads.
    Reader(Pipe),
    /// The end of a pipe that writes.
    Writer(PipeWriter),
    /// Nothing to read; what is written is lost.
    Null,
    /// Zeros to read; what is written is lost.
    Zero,
    /// Random bytes to read, which the kernel gives; what is written is lost.
    Random,
}

/// Bytes in memory between a writer and a reader. Clones are the same pipe.
#[derive(Clone, Debug)]
pub struct Pipe(Arc<Mutex<PipeState>>);

#[derive(Debug)]
struct PipeState {
    bytes: VecDeque<u8>,
    limit: usize,
    /// Ends that may still write.
    writers: usize,
    /// When full: an error instead of "try again".
    fails_when_full: bool,
}

/// The end of a pipe that writes; the pipe ends when the last one is dropped.
#[derive(Debug)]
pub(crate) struct PipeWriter(Pipe);

impl Pipe {
    fn with(bytes: VecDeque<u8>, limit: usize, fails_when_full: bool) -> Pipe {
        Pipe(Arc::new(Mutex::new(PipeState {
            bytes,
            limit,
            writers: 0,
            fails_when_full,
        })))
    }

    /// A pipe that gives these bytes, then the end.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Pipe {
        let bytes = VecDeque::from(bytes.into());
        let limit = bytes.len();
        Pipe::with(bytes, limit, true)
    }

    /// An empty pipe that keeps up to 256 MiB of output.
    pub fn capture() -> Pipe {
        Pipe::with(VecDeque::new(), CAPTURE_LIMIT, true)
    }

    /// A pipe between two descriptors of a guest.
    pub(crate) fn between_descriptors() -> (Stream, Stream) {
        let pipe = Pipe::with(VecDeque::new(), PIPE_CAPACITY, false);
        let writer = pipe.writer();
        (Stream::Reader(pipe), Stream::Writer(writer))
    }

    pub(crate) fn writer(&self) -> PipeWriter {
        self.state().writers += 1;
        PipeWriter(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, PipeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out all bytes that were written.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.state().bytes).into()
    }

    /// Takes out all bytes that were written, as text; what is not UTF-8 is replaced.
    pub fn take_text(&self) -> String {
        String::from_utf8_lossy(&self.take()).into_owned()
    }

    fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        let mut state = self.state();
        if state.bytes.is_empty() && state.writers > 0 && !buffer.is_empty() {
            return Err(Errno::Again);
        }
        // A `VecDeque` is a ring: the bytes come in up to two pieces.
        let first = state.bytes.read(buffer)?;
        let rest = buffer.get_mut(first..).unwrap_or_default();
        Ok(first + state.bytes.read(rest)?)
    }

    fn write(&self, bytes: &[u8]) -> Result<usize> {
        let mut state = self.state();
        let room = state.limit.saturating_sub(state.bytes.len());
        if room == 0 && !bytes.is_empty() {
            return Err(if state.fails_when_full {
                Errno::Nospc
            } else {
                Errno::Again
            });
        }
        let written = bytes.get(..room).unwrap_or(bytes);
        state
            .bytes
            .try_reserve(written.len())
            .map_err(|_| Errno::Nospc)?;
        state.bytes.extend(written);
        Ok(written.len())
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.0.state().writers -= 1;
    }
}

/// Standard input of the host, read without a buffer of ours, so that waiting for it and reading it agree.
pub(crate) struct Stdin {
    #[cfg(unix)]
    file: Option<std::fs::File>,
}

impl Stdin {
    pub fn new() -> Stdin {
        Stdin {
            #[cfg(unix)]
            file: {
                use std::os::fd::AsFd;
                let owned = io::stdin().as_fd().try_clone_to_owned();
                owned.ok().map(std::fs::File::from)
            },
        }
    }

    #[cfg(unix)]
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.file {
            Some(file) => Read::read(&mut &*file, buffer),
            None => Ok(0),
        }
    }

    #[cfg(not(unix))]
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        io::stdin().read(buffer)
    }

    /// Waits up to this many nanoseconds for input.
    #[cfg(unix)]
    fn wait(&self, nanoseconds: u64) -> Readiness {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let Some(file) = &self.file else {
            return Readiness::HangUp;
        };
        let timeout = Timespec {
            tv_sec: i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (nanoseconds % 1_000_000_000) as _,
        };
        let mut descriptors = [PollFd::new(file, PollFlags::IN)];
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Readiness::Pending,
            _ => Readiness::Ready(0),
        }
    }

    #[cfg(not(unix))]
    fn wait(&self, _: u64) -> Readiness {
        Readiness::Ready(0)
    }
}

impl Stream {
    /// What the stream is: only terminals are character devices, because that is how C libraries ask for a terminal.
    pub fn file_type(&self) -> FileType {
        let is_terminal = match self {
            Stream::Stdin(_) => io::stdin().is_terminal(),
            Stream::Stdout => io::stdout().is_terminal(),
            Stream::Stderr => io::stderr().is_terminal(),
            Stream::Reader(_) | Stream::Writer(_) => false,
            Stream::Null | Stream::Zero | Stream::Random => false,
        };
        if is_terminal {
            FileType::CharacterDevice
        } else {
            FileType::Unknown
        }
    }

    pub fn can_read(&self) -> bool {
        matches!(
            self,
            Stream::Stdin(_) | Stream::Reader(_) | Stream::Null | Stream::Zero | Stream::Random
        )
    }

    pub fn can_write(&self) -> bool {
        !matches!(self, Stream::Stdin(_) | Stream::Reader(_))
    }

    pub fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Stream::Stdin(stdin) => loop {
                match stdin.read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => return Ok(result?),
                }
            },
            Stream::Reader(pipe) => pipe.read(buffer),
            Stream::Null => Ok(0),
            Stream::Zero => {
                buffer.fill(0);
                Ok(buffer.len())
            }
            // The kernel has the source of randomness.
            Stream::Random => Err(Errno::Io),
            Stream::Stdout | Stream::Stderr | Stream::Writer(_) => Err(Errno::Badf),
        }
    }

    pub fn write(&self, bytes: &[u8]) -> Result<usize> {
        match self {
            Stream::Stdout => write_once(io::stdout(), bytes),
            Stream::Stderr => write_once(io::stderr(), bytes),
            Stream::Writer(writer) => writer.0.write(bytes),
            Stream::Null | Stream::Zero | Stream::Random => Ok(bytes.len()),
            Stream::Stdin(_) | Stream::Reader(_) => Err(Errno::Badf),
        }
    }

    /// Whether reading gives something, waiting up to this many nanoseconds where the host can tell.
    pub fn poll_read(&self, nanoseconds: u64) -> Readiness {
        match self {
            Stream::Stdin(stdin) => stdin.wait(nanoseconds),
            Stream::Reader(pipe) => {
                let state = pipe.state();
                match (state.bytes.len(), state.writers) {
                    (0, 0) => Readiness::HangUp,
                    (0, _) => Readiness::Pending,
                    (length, _) => Readiness::Ready(length as u64),
                }
            }
            Stream::Null => Readiness::HangUp,
            Stream::Zero | Stream::Random => Readiness::Ready(1),
            Stream::Stdout | Stream::Stderr | Stream::Writer(_) => Readiness::Ready(0),
        }
    }

    /// How many bytes can be written without waiting once [`Stream::wait_for_room`] says that there is room; `None` if
    /// writing never waits.
    pub fn unblocked_piece(&self) -> Option<usize> {
        #[cfg(unix)]
        {
            let waits = |stream: &dyn std::os::fd::AsFd| {
                let status = rustix::fs::fstat(stream.as_fd());
                !status.is_ok_and(|status| {
                    rustix::fs::FileType::from_raw_mode(status.st_mode).is_file()
                })
            };
            match self {
                Stream::Stdout if waits(&io::stdout()) => Some(PIPE_PIECE),
                Stream::Stderr if waits(&io::stderr()) => Some(PIPE_PIECE),
                _ => None,
            }
        }
        #[cfg(not(unix))]
        None
    }

    /// Waits up to this many nanoseconds until something can be written; says whether it can (or is an error).
    pub fn wait_for_room(&self, nanoseconds: u64) -> bool {
        #[cfg(unix)]
        {
            use rustix::event::{PollFlags, Timespec, poll};
            let timeout = Timespec {
                tv_sec: i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: (nanoseconds % 1_000_000_000) as _,
            };
            let ready = |stream: &dyn std::os::fd::AsFd| {
                let descriptor =
                    rustix::event::PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::OUT);
                !matches!(
                    poll(&mut [descriptor], Some(&timeout)),
                    Ok(0) | Err(rustix::io::Errno::INTR)
                )
            };
            match self {
                Stream::Stdout => ready(&io::stdout()),
                Stream::Stderr => ready(&io::stderr()),
                _ => true,
            }
        }
        #[cfg(not(unix))]
        {
            let _ = nanoseconds;
            true
        }
    }

    /// Whether writing is possible.
    pub fn poll_write(&self) -> Readiness {
        match self {
            Stream::Writer(writer) => {
                let state = writer.0.state();
                match state.limit.saturating_sub(state.bytes.len()) {
                    0 => Readiness::Pending,
                    room => Readiness::Ready(room as u64),
                }
            }
            _ => Readiness::Ready(1),
        }
    }
}

/// One write of the system: what it took, so that a guest on a non-blocking descriptor neither loses nor repeats bytes.
#[cfg(unix)]
fn write_once(stream: impl std::os::fd::AsFd, bytes: &[u8]) -> Result<usize> {
    loop {
        match rustix::io::write(&stream, bytes) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
            Ok(written) => return Ok(written),
        }
    }
}

/// One write, behind the standard library's buffer.
#[cfg(not(unix))]
fn write_once(mut stream: impl Write, bytes: &[u8]) -> Result<usize> {
    stream.write_all(bytes)?;
    stream.flush()?;
    Ok(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_of_bytes_ends() {
        let stream = Stream::Reader(Pipe::from_bytes("abc"));
        let mut buffer = [0; 2];
        assert_eq!(stream.poll_read(0), Readiness::Ready(3));
        assert_eq!(stream.read(&mut buffer), Ok(2));
        assert_eq!(stream.read(&mut buffer), Ok(1));
        assert_eq!(stream.read(&mut buffer), Ok(0));
        assert_eq!(stream.poll_read(0), Readiness::HangUp);
        assert_eq!(stream.write(b"x"), Err(Errno::Badf));
    }

    #[test]
    fn a_pipe_between_descriptors_waits_and_ends_with_its_writer() {
        let (reader, writer) = Pipe::between_descriptors();
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer), Err(Errno::Again));
        assert_eq!(reader.poll_read(0), Readiness::Pending);
        assert_eq!(writer.write(&vec![1; 100_000]), Ok(PIPE_CAPACITY));
        assert_eq!(writer.write(b"x"), Err(Errno::Again));
        assert_eq!(writer.poll_write(), Readiness::Pending);
        assert_eq!(reader.read(&mut buffer), Ok(8));
        assert_eq!(writer.write(&[2; 100]), Ok(8));
        drop(writer);
        let mut rest = vec![0; PIPE_CAPACITY + 1];
        assert_eq!(reader.read(&mut rest), Ok(PIPE_CAPACITY));
        assert_eq!(reader.read(&mut rest), Ok(0));
    }

    #[test]
    fn captured_output_is_taken_once() {
        let pipe = Pipe::capture();
        let stream = Stream::Writer(pipe.writer());
        assert_eq!(stream.write(b"hello"), Ok(5));
        assert_eq!(pipe.take_text(), "hello");
        assert_eq!(pipe.take_text(), "");
    }
}
