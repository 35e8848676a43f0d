//! Error numbers of WASI preview 1, and what errors of the host system become of them.
//!
//! The whole kernel speaks these numbers; other ABIs (emscripten, cowasm's libc, both musl) use the same values,
//! because wasi-libc took them from here.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;

/// Result of a kernel operation.
pub type Result<T, E = Errno> = std::result::Result<T, E>;

macro_rules! errnos {
    ($($number:literal $name:ident $text:literal)*) => {
        /// An error number of WASI preview 1.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u16)]
        pub enum Errno {
            $(
                #[doc = $text]
                $name = $number,
            )*
        }

        impl Errno {
            /// Every error number, in order.
            pub const ALL: &'static [Errno] = &[$(Errno::$name),*];

            /// What the error means.
            pub fn text(self) -> &'static str {
                match self {
                    $(Errno::$name => $text,)*
                }
            }
        }
    };
}

errnos! {
    0 Success "success"
    1 TooBig "argument list too long"
    2 Acces "permission denied"
    3 Addrinuse "address in use"
    4 Addrnotavail "address not available"
    5 Afnosupport "address family not supported"
    6 Again "resource unavailable, try again"
    7 Already "connection already in progress"
    8 Badf "bad file descriptor"
    9 Badmsg "bad message"
    10 Busy "device or resource busy"
    11 Canceled "operation canceled"
    12 Child "no child processes"
    13 Connaborted "connection aborted"
    14 Connrefused "connection refused"
    15 Connreset "connection reset"
    16 Deadlk "resource deadlock would occur"
    17 Destaddrreq "destination address required"
    18 Dom "argument out of the domain of the function"
    19 Dquot "disk quota exceeded"
    20 Exist "file exists"
    21 Fault "bad address"
    22 Fbig "file too large"
    23 Hostunreach "host is unreachable"
    24 Idrm "identifier removed"
    25 Ilseq "illegal byte sequence"
    26 Inprogress "operation in progress"
    27 Intr "interrupted function"
    28 Inval "invalid argument"
    29 Io "input or output error"
    30 Isconn "socket is connected"
    31 Isdir "is a directory"
    32 Loop "too many levels of symbolic links"
    33 Mfile "too many open files of the process"
    34 Mlink "too many links"
    35 Msgsize "message too large"
    36 Multihop "multihop attempted"
    37 Nametoolong "file name too long"
    38 Netdown "network is down"
    39 Netreset "connection aborted by network"
    40 Netunreach "network unreachable"
    41 Nfile "too many open files in the system"
    42 Nobufs "no buffer space available"
    43 Nodev "no such device"
    44 Noent "no such file or directory"
    45 Noexec "executable file format error"
    46 Nolck "no locks available"
    47 Nolink "link has been severed"
    48 Nomem "not enough space"
    49 Nomsg "no message of the desired type"
    50 Noprotoopt "protocol not available"
    51 Nospc "no space left on device"
    52 Nosys "function not supported"
    53 Notconn "socket is not connected"
    54 Notdir "not a directory"
    55 Notempty "directory not empty"
    56 Notrecoverable "state not recoverable"
    57 Notsock "not a socket"
    58 Notsup "not supported"
    59 Notty "inappropriate control operation"
    60 Nxio "no such device or address"
    61 Overflow "value too large for the data type"
    62 Ownerdead "previous owner died"
    63 Perm "operation not permitted"
    64 Pipe "broken pipe"
    65 Proto "protocol error"
    66 Protonosupport "protocol not supported"
    67 Prototype "protocol wrong type for socket"
    68 Range "result too large"
    69 Rofs "read-only file system"
    70 Spipe "invalid seek"
    71 Srch "no such process"
    72 Stale "stale file handle"
    73 Timedout "connection timed out"
    74 Txtbsy "text file busy"
    75 Xdev "cross-device link"
    76 Notcapable "the descriptor's capabilities do not allow it"
}

impl Errno {
    /// The number as guests see it.
    pub fn raw(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Errno {}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Errno {
        from_system(&error).unwrap_or_else(|| from_kind(&error))
    }
}

/// The codes whose `ErrorKind` is too coarse or unstable.
#[cfg(unix)]
fn from_system(error: &io::Error) -> Option<Errno> {
    use rustix::io::Errno as System;
    let code = System::from_raw_os_error(error.raw_os_error()?);
    Some(match code {
        System::PERM => Errno::Perm,
        System::ACCESS => Errno::Acces,
        System::LOOP => Errno::Loop,
        System::NAMETOOLONG => Errno::Nametoolong,
        System::MFILE => Errno::Mfile,
        System::NFILE => Errno::Nfile,
        System::NXIO => Errno::Nxio,
        System::NODEV => Errno::Nodev,
        System::BADF => Errno::Badf,
        System::IO => Errno::Io,
        System::DQUOT => Errno::Dquot,
        System::NOTEMPTY => Errno::Notempty,
        System::EXIST => Errno::Exist,
        System::SPIPE => Errno::Spipe,
        System::OVERFLOW => Errno::Overflow,
        System::OPNOTSUPP => Errno::Notsup,
        System::NOSYS => Errno::Nosys,
        System::NOTTY => Errno::Notty,
        System::FAULT => Errno::Fault,
        System::NOLCK => Errno::Nolck,
        System::STALE => Errno::Stale,
        System::AGAIN => Errno::Again,
        System::INVAL => Errno::Inval,
        _ => return None,
    })
}

#[cfg(not(unix))]
fn from_system(_: &io::Error) -> Option<Errno> {
    None
}

fn from_kind(error: &io::Error) -> Errno {
    match error.kind() {
        io::ErrorKind::NotFound => Errno::Noent,
        // cap-std reports paths that lead out of a directory without a code of the system.
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => Errno::Notcapable,
        io::ErrorKind::PermissionDenied => Errno::Acces,
        io::ErrorKind::AlreadyExists => Errno::Exist,
        io::ErrorKind::WouldBlock => Errno::Again,
        io::ErrorKind::InvalidInput => Errno::Inval,
        io::ErrorKind::InvalidData => Errno::Ilseq,
        io::ErrorKind::TimedOut => Errno::Timedout,
        io::ErrorKind::WriteZero => Errno::Nospc,
        io::ErrorKind::Interrupted => Errno::Intr,
        io::ErrorKind::Unsupported => Errno::Notsup,
        io::ErrorKind::OutOfMemory => Errno::Nomem,
        io::ErrorKind::BrokenPipe => Errno::Pipe,
        io::ErrorKind::NotADirectory => Errno::Notdir,
        io::ErrorKind::IsADirectory => Errno::Isdir,
        io::ErrorKind::DirectoryNotEmpty => Errno::Notempty,
        io::ErrorKind::ReadOnlyFilesystem => Errno::Rofs,
        io::ErrorKind::StaleNetworkFileHandle => Errno::Stale,
        io::ErrorKind::StorageFull => Errno::Nospc,
        io::ErrorKind::NotSeekable => Errno::Spipe,
        io::ErrorKind::QuotaExceeded => Errno::Dquot,
        io::ErrorKind::FileTooLarge => Errno::Fbig,
        io::ErrorKind::ResourceBusy => Errno::Busy,
        io::ErrorKind::ExecutableFileBusy => Errno::Txtbsy,
        io::ErrorKind::Deadlock => Errno::Deadlk,
        io::ErrorKind::CrossesDevices => Errno::Xdev,
        io::ErrorKind::TooManyLinks => Errno::Mlink,
        io::ErrorKind::InvalidFilename => Errno::Inval,
        io::ErrorKind::ArgumentListTooLong => Errno::TooBig,
        io::ErrorKind::ConnectionRefused => Errno::Connrefused,
        io::ErrorKind::ConnectionReset => Errno::Connreset,
        io::ErrorKind::ConnectionAborted => Errno::Connaborted,
        io::ErrorKind::NotConnected => Errno::Notconn,
        _ => Errno::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_77_numbers_in_order() {
        assert_eq!(Errno::ALL.len(), 77);
        for (index, errno) in Errno::ALL.iter().enumerate() {
            assert_eq!(usize::from(errno.raw()), index);
            assert!(!errno.text().is_empty());
        }
    }

    #[test]
    #[cfg(unix)]
    fn codes_of_the_system_keep_their_meaning() {
        let of = |code: rustix::io::Errno| Errno::from(io::Error::from(code));
        assert_eq!(of(rustix::io::Errno::PERM), Errno::Perm);
        assert_eq!(of(rustix::io::Errno::ACCESS), Errno::Acces);
        assert_eq!(of(rustix::io::Errno::LOOP), Errno::Loop);
        assert_eq!(of(rustix::io::Errno::NOENT), Errno::Noent);
        assert_eq!(of(rustix::io::Errno::NOTEMPTY), Errno::Notempty);
        assert_eq!(of(rustix::io::Errno::XDEV), Errno::Xdev);
        assert_eq!(of(rustix::io::Errno::ROFS), Errno::Rofs);
        assert_eq!(of(rustix::io::Errno::NOSPC), Errno::Nospc);
    }
}
