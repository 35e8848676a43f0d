//! The kernel of a process: what its host functions share, whatever ABI the guest speaks.
//!
//! Arguments, environment, descriptors, mounts, clocks, randomness, working directory and exit status. Operations on
//! descriptors are in `files.rs`, those on paths in `paths.rs`; `wasi/` and `cowasm/` only translate between a guest's memory and
//! these. A guest sees nothing that was not given to the [`KernelBuilder`].

#![forbid(unsafe_code)]

use super::clock::Clock;
use super::descriptor::{Descriptors, Object, OpenFile};
use super::errno::{Errno, Result};
use super::fs::namespace::Namespace;
use super::fs::{DirectoryEntry, FileType, Mount};
use super::random::{CHUNK, Random};
use super::stream::{Pipe, Stdin, Stream};
use crate::error::{Error, Result as LibraryResult};
use crate::runtime::{InterruptHandle, Memory};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Descriptors of a process unless told otherwise (as on Linux).
const DESCRIPTOR_LIMIT: usize = 1024;

/// A sleeping guest looks this often whether it was interrupted, in nanoseconds.
const SLEEP_SLICE: u64 = 5_000_000;

/// What the host functions of a process share.
pub struct Kernel {
    pub(crate) arguments: Vec<String>,
    /// `NAME=value`.
    pub(crate) environment: Vec<String>,
    pub(crate) descriptors: Descriptors,
    pub(crate) namespace: Namespace,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    /// Absolute, without `.`, `..` and links.
    pub(crate) working_directory: String,
    pub(crate) umask: u32,
    exit_status: Option<i32>,
    memory: Option<Memory>,
    interrupt: Option<InterruptHandle>,
    deadline: Option<Instant>,
    /// Listings of directories that are being read, by the serial number of the open directory, newest first.
    pub(crate) listings: VecDeque<(u64, Arc<[DirectoryEntry]>)>,
}

/// Collects what a process gets. See [`Kernel`].
///
/// ```
/// use dynlink::host::{KernelBuilder, Mount, Pipe};
///
/// let output = Pipe::capture();
/// let kernel = KernelBuilder::new()
///     .arg("hello")
///     .env("HOME", "/")
///     .stdout(&output)
///     .mount("/tmp", Mount::memory())
///     .build()?;
/// # Ok::<(), dynlink::Error>(())
/// ```
#[derive(Default)]
pub struct KernelBuilder {
    arguments: Vec<String>,
    environment: Vec<String>,
    stdin: Endpoint,
    stdout: Endpoint,
    stderr: Endpoint,
    mounts: Vec<(String, Mount)>,
    single_root: bool,
    no_preopens: bool,
    working_directory: Option<String>,
    clock: Clock,
    random: Random,
    descriptor_limit: Option<usize>,
}

/// Where a standard stream leads.
#[derive(Default)]
enum Endpoint {
    #[default]
    Null,
    Inherit,
    Pipe(Pipe),
}

impl KernelBuilder {
    /// No arguments, environment or files; standard streams that lead nowhere; the system's clocks and randomness.
    pub fn new() -> KernelBuilder {
        KernelBuilder::default()
    }

    /// Adds an argument. The first one is the name of the program.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable; a later value replaces an earlier one.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let prefix = format!("{}=", name.as_ref());
        self.environment
            .retain(|variable| !variable.starts_with(&prefix));
        self.environment.push(prefix + value.as_ref());
        self
    }

    /// Standard input, output and error are those of the host.
    #[must_use]
    pub fn inherit_stdio(mut self) -> Self {
        self.stdin = Endpoint::Inherit;
        self.stdout = Endpoint::Inherit;
        self.stderr = Endpoint::Inherit;
        self
    }

    /// Standard input reads from a pipe.
    #[must_use]
    pub fn stdin(mut self, pipe: &Pipe) -> Self {
        self.stdin = Endpoint::Pipe(pipe.clone());
        self
    }

    /// Standard output goes to a pipe.
    #[must_use]
    pub fn stdout(mut self, pipe: &Pipe) -> Self {
        self.stdout = Endpoint::Pipe(pipe.clone());
        self
    }

    /// Standard error goes to a pipe.
    #[must_use]
    pub fn stderr(mut self, pipe: &Pipe) -> Self {
        self.stderr = Endpoint::Pipe(pipe.clone());
        self
    }

    /// Mounts a file system. Guests get a descriptor for it, 3 and up in this order, under the path as it is written here;
    /// the path itself is taken as absolute (`.` is `/`).
    #[must_use]
    pub fn mount(mut self, path: impl Into<String>, mount: Mount) -> Self {
        self.mounts.push((path.into(), mount));
        self
    }

    /// Guests get one descriptor, 3, for `/`, under which all mounts lie, instead of one for each mount. Links may then lead
    /// from mount to mount.
    #[must_use]
    pub fn single_root(mut self) -> Self {
        self.single_root = true;
        self
    }

    /// Guests get no descriptor for a mount: they open everything by its path, as with ABIs that know a working directory.
    #[must_use]
    pub fn no_preopens(mut self) -> Self {
        self.no_preopens = true;
        self
    }

    /// Where relative paths begin, for ABIs that know a working directory. Default: `/`.
    #[must_use]
    pub fn working_directory(mut self, path: impl Into<String>) -> Self {
        self.working_directory = Some(path.into());
        self
    }

    /// Random bytes follow from this seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.random = Random::seeded(seed);
        self
    }

    /// The time comes from this clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Most open descriptors. Default: 1024.
    #[must_use]
    pub fn descriptor_limit(mut self, limit: usize) -> Self {
        self.descriptor_limit = Some(limit);
        self
    }

    /// Makes the kernel.
    ///
    /// # Errors
    /// An argument, variable or mount path contains a NUL, two mounts have one path, the working directory does not exist, or
    /// the limit of descriptors is too low for the mounts.
    pub fn build(self) -> LibraryResult<Kernel> {
        for text in self.arguments.iter().chain(&self.environment) {
            if text.contains('\0') {
                return Err(Error::usage(format!(
                    "the argument or environment variable {text:?} contains a NUL byte, which guests cannot represent"
                )));
            }
        }
        if let Some((path, _)) = self.mounts.iter().find(|(path, _)| path.contains('\0')) {
            return Err(Error::usage(format!(
                "the guest path {path:?} of a mount contains a NUL byte, which no path can"
            )));
        }
        let limit = self.descriptor_limit.unwrap_or(DESCRIPTOR_LIMIT);
        let mut kernel = Kernel {
            arguments: self.arguments,
            environment: self.environment,
            descriptors: Descriptors::new(limit),
            namespace: Namespace::new(),
            clock: self.clock,
            random: self.random,
            working_directory: String::from("/"),
            umask: 0o022,
            exit_status: None,
            memory: None,
            interrupt: None,
            deadline: None,
            listings: VecDeque::new(),
        };
        let full = |_| {
            Error::usage(format!(
                "the limit of {limit} descriptors is too low for the standard streams and mounts"
            ))
        };
        let stdin = match self.stdin {
            Endpoint::Null => Stream::Null,
            Endpoint::Inherit => Stream::Stdin(Stdin::new()),
            Endpoint::Pipe(pipe) => Stream::Reader(pipe),
        };
        kernel
            .descriptors
            .open(OpenFile::stream(stdin))
            .map_err(full)?;
        for (endpoint, inherited) in [(self.stdout, Stream::Stdout), (self.stderr, Stream::Stderr)]
        {
            let stream = match endpoint {
                Endpoint::Null => Stream::Null,
                Endpoint::Inherit => inherited,
                Endpoint::Pipe(pipe) => Stream::Writer(pipe.writer()),
            };
            let mut file = OpenFile::stream(stream);
            file.readable = false;
            kernel.descriptors.open(file).map_err(full)?;
        }
        let mut preopens = Vec::new();
        for (path, mount) in &self.mounts {
            mount.root.set_clock(&kernel.clock);
            let place = kernel.namespace.mount(path, mount).ok_or_else(|| {
                Error::usage(format!(
                    "two file systems are mounted at the guest path `{path}`: give each mount a path of its own"
                ))
            })?;
            preopens.push((path.as_str(), place));
        }
        if self.single_root {
            preopens = vec![("/", kernel.namespace.root())];
        }
        if self.no_preopens {
            preopens.clear();
        }
        for (name, place) in preopens {
            let read_only = kernel.namespace.is_read_only(&place);
            let mut file = OpenFile::new(Object::Directory(place), FileType::Directory);
            file.read_only = read_only;
            let fd = kernel.descriptors.open(file).map_err(full)?;
            kernel.descriptors.set_preopen(fd, name);
        }
        if let Some(path) = self.working_directory {
            kernel.set_working_directory(&path).map_err(|errno| {
                Error::usage(format!("the working directory `{path}`: {errno}"))
            })?;
        }
        Ok(kernel)
    }
}

impl Kernel {
    /// The arguments.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// The environment as `NAME=value`.
    pub fn environment(&self) -> &[String] {
        &self.environment
    }

    /// The status with which the guest ended the process, if it did.
    pub fn exit_status(&self) -> Option<i32> {
        self.exit_status
    }

    /// Notes that the guest ended the process.
    pub(crate) fn exit(&mut self, status: i32) {
        self.exit_status = Some(status);
    }

    /// The memory that host functions use, instead of the `memory` export of the instance that calls: a process of several
    /// libraries has one memory, which the libraries import.
    pub fn set_memory(&mut self, memory: Memory) {
        self.memory = Some(memory);
    }

    /// The memory that was set.
    pub fn memory(&self) -> Option<Memory> {
        self.memory
    }

    /// Sleeping guests wake up when this is used; the engine then stops them.
    pub fn set_interrupt(&mut self, handle: InterruptHandle) {
        self.interrupt = Some(handle);
    }

    /// Sleeping guests wake up at this time; the engine then stops them.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// The permission bits that new files lack, and new ones for it. File systems here keep no permissions; guests see their own mask.
    pub(crate) fn set_umask(&mut self, mask: u32) -> u32 {
        std::mem::replace(&mut self.umask, mask & 0o777)
    }

    /// Where relative paths begin, for ABIs that know a working directory.
    pub fn working_directory(&self) -> &str {
        &self.working_directory
    }

    /// Whether anything could stop the guest.
    pub(crate) fn can_be_interrupted(&self) -> bool {
        self.interrupt.is_some() || self.deadline.is_some()
    }

    /// Whether the guest should stop.
    pub(crate) fn is_interrupted(&self) -> bool {
        let interrupted = self
            .interrupt
            .as_ref()
            .is_some_and(|handle| handle.0.load(std::sync::atomic::Ordering::Relaxed));
        interrupted
            || self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Longest time in nanoseconds that may pass before [`Kernel::is_interrupted`] has to be asked again.
    pub(crate) fn wait_slice(&self) -> u64 {
        let slice = match self.interrupt {
            Some(_) => SLEEP_SLICE,
            None => u64::MAX,
        };
        match self.deadline {
            Some(deadline) => {
                let rest = deadline.saturating_duration_since(Instant::now());
                let rest = rest.max(Duration::from_micros(50));
                slice.min(u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX))
            }
            None => slice,
        }
    }

    /// Sleeps for this many nanoseconds.
    ///
    /// # Errors
    /// `Intr` if the guest has to stop.
    pub(crate) fn sleep(&mut self, nanoseconds: u64) -> Result<()> {
        let mut rest = nanoseconds;
        while rest > 0 && !self.clock.is_virtual() {
            if self.is_interrupted() {
                return Err(Errno::Intr);
            }
            let slice = rest.min(self.wait_slice());
            self.clock.sleep(slice);
            rest -= slice;
        }
        self.clock.sleep(rest);
        if self.is_interrupted() {
            return Err(Errno::Intr);
        }
        Ok(())
    }

    /// Waits a while for what a guest polls for: until this time is over (`None`: there is no end), or until `input`, a
    /// descriptor that the host may make ready, is that. Whoever waits looks again then, and so on.
    ///
    /// # Errors
    /// `Intr` if the guest has to stop; `Deadlk` if nothing could ever happen, because only the guest could make it happen.
    pub(crate) fn wait_a_while(&mut self, rest: Option<u64>, input: Option<u32>) -> Result<()> {
        match (rest, input) {
            // On a virtual clock time passes for those who sleep only.
            (Some(rest), Some(_)) if self.clock.is_virtual() => self.sleep(rest),
            (rest, Some(fd)) => {
                if self.is_interrupted() {
                    return Err(Errno::Intr);
                }
                let slice = rest.unwrap_or(u64::MAX).min(self.wait_slice());
                self.poll_read(fd, slice).map(|_| ())
            }
            (Some(rest), None) => self.sleep(rest),
            (None, None) => Err(Errno::Deadlk),
        }
    }

    /// Fills a buffer with random bytes.
    ///
    /// # Errors
    /// `Intr` if the guest has to stop, `Io` without entropy.
    pub(crate) fn random(&mut self, buffer: &mut [u8]) -> Result<()> {
        for chunk in buffer.chunks_mut(CHUNK) {
            self.random.fill(chunk)?;
            if self.is_interrupted() {
                return Err(Errno::Intr);
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("arguments", &self.arguments)
            .field("working_directory", &self.working_directory)
            .field("exit_status", &self.exit_status)
            .finish_non_exhaustive()
    }
}
