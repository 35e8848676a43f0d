//! The functions of the table that do something: one method each.
//!
//! All errors of a guest's making are errnos. An `Err` here ends the guest: a trap, or the failure of a
//! guest function (`malloc`) that was called.

#![forbid(unsafe_code)]

use super::table::{Service, USER};
use super::terminal::{StandardStream, Terminal};
use super::{Cowasm, CowasmHost};
use crate::error::{Error, Result};
use crate::host::descriptor::Object;
use crate::host::errno::Errno;
use crate::host::guest::{GuestMemory, PATH_LIMIT};
use crate::host::kernel::Kernel;
use crate::host::stream::Stream;
use crate::link::Process;
use crate::runtime::{Caller, Val};
use crate::trap::{Trap, TrapCode};

/// Most signal sets that are remembered; libc's type has room for only eight signals, so they are kept here by address.
const MOST_SIGNAL_SETS: usize = 4096;
/// Largest string that a guest may send.
const MOST_STRING_BYTES: u32 = 16 << 20;
const HOST_NAME: &[u8] = b"localhost\0";

/// How a service answers: a number, or an errno, which the caller turns into -1 and `errno`.
type Answer = Result<i32, Errno>;

/// A call of a service.
pub(super) struct Call<'a, 'b, T: CowasmHost> {
    pub process: &'a Process<T>,
    pub caller: &'a mut Caller<'b, T>,
    pub arguments: &'a [Val],
}

impl<T: CowasmHost> Call<'_, '_, T> {
    /// Carries the service out.
    pub fn perform(&mut self, service: Service) -> Result<Answer> {
        Ok(match service {
            Service::GetRandom => self.get_random(),
            Service::GetHostName => self.get_host_name(),
            Service::GetGroups => Ok(0),
            Service::GetGroupList => self.get_group_list(),
            Service::GetResourceIds => self.get_resource_ids(),
            Service::Umask => Ok(self.umask()),
            Service::RealPath => return self.real_path(),
            Service::Dup => self.duplicate(),
            Service::Dup2 => self.duplicate_to(),
            Service::Pipe => self.pipe(),
            Service::CheckDescriptor => self.check_descriptor(),
            Service::CheckPath => return self.check_path(),
            Service::Sync => Ok(0),
            Service::TerminalGet => self.terminal_get(),
            Service::TerminalSet => self.terminal_set(),
            Service::SignalState => Ok(self.cowasm().take_signal()),
            Service::SignalSetEmpty => Ok(self.signal_set(|_| 0)),
            Service::SignalSetFill => Ok(self.signal_set(|_| u64::MAX)),
            Service::SignalSetAdd => self.signal_set_add(),
            Service::SignalSetHas => self.signal_set_has(),
            Service::SignalMask => self.signal_mask(),
            Service::SendString => self.send_string(),
            Service::SetException => {
                self.cowasm().exception = true;
                Ok(0)
            }
            Service::HErrnoLocation => return self.h_errno_location().map(Ok),
            Service::OperatorNew => return self.operator_new().map(Ok),
            Service::OperatorDelete => return self.operator_delete().map(Ok),
            Service::PluralForm { singular } => Ok(self.plural_form(singular)),
        })
    }

    /// A parameter as the bits of an i32; 0 if the importer has fewer parameters or another type.
    fn argument(&self, place: usize) -> u32 {
        self.arguments
            .get(place)
            .and_then(Val::i32)
            .unwrap_or(0)
            .cast_unsigned()
    }

    fn cowasm(&mut self) -> &mut Cowasm {
        self.caller.data_mut().cowasm()
    }

    /// The guest's memory and the host's state together.
    fn with_memory<R>(
        &mut self,
        work: impl FnOnce(&mut GuestMemory<'_>, &mut T) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let memory = self.process.memory().ok_or(Errno::Fault)?;
        let (bytes, data) = memory.data_and_store_mut(self.caller);
        work(&mut GuestMemory::new(bytes), data)
    }

    fn get_random(&mut self) -> Answer {
        let (pointer, length) = (self.argument(0), self.argument(1));
        // As Linux: one call gives at most this much, and the caller asks again.
        let length = length.min(1 << 20);
        self.with_memory(|memory, data| {
            data.kernel().random(memory.bytes_mut(pointer, length)?)?;
            i32::try_from(length).map_err(|_| Errno::Inval)
        })
    }

    fn get_host_name(&mut self) -> Answer {
        let (pointer, length) = (self.argument(0), self.argument(1));
        self.with_memory(|memory, _| {
            if usize::try_from(length).is_ok_and(|length| length < HOST_NAME.len()) {
                return Err(Errno::Nametoolong);
            }
            memory.write(pointer, HOST_NAME)?;
            Ok(0)
        })
    }

    /// `getgrouplist(user, group, groups, &count)`: the one group.
    fn get_group_list(&mut self) -> Answer {
        let (group, list, count) = (self.argument(1), self.argument(2), self.argument(3));
        self.with_memory(|memory, _| {
            let room = memory.read_u32(count)?;
            memory.write_u32(count, 1)?;
            if room < 1 {
                return Ok(-1);
            }
            memory.write_u32(list, group)?;
            Ok(1)
        })
    }

    /// `getresuid(&real, &effective, &saved)` and the same for groups.
    fn get_resource_ids(&mut self) -> Answer {
        let pointers = [self.argument(0), self.argument(1), self.argument(2)];
        self.with_memory(|memory, _| {
            for pointer in pointers {
                memory.write_u32(pointer, USER.cast_unsigned())?;
            }
            Ok(0)
        })
    }

    fn umask(&mut self) -> i32 {
        let mask = self.argument(0);
        self.caller
            .data_mut()
            .kernel()
            .set_umask(mask)
            .cast_signed()
    }

    /// `realpath(path, buffer)`: the path without links, in the buffer or in new memory.
    fn real_path(&mut self) -> Result<Answer> {
        let buffer = self.argument(1);
        let real = match self.path()? {
            Ok(path) => self.caller.data_mut().kernel().real_path(&path),
            Err(errno) => Err(errno),
        };
        let mut bytes = match real {
            Ok(real) => real.into_bytes(),
            Err(errno) => return Ok(Err(errno)),
        };
        bytes.push(0);
        let target = match buffer {
            0 => self.allocate(u32::try_from(bytes.len()).unwrap_or(u32::MAX))?,
            buffer => buffer,
        };
        if target == 0 {
            return Ok(Err(Errno::Nomem));
        }
        Ok(self.with_memory(|memory, _| {
            memory.write(target, &bytes)?;
            Ok(target.cast_signed())
        }))
    }

    fn check_path(&mut self) -> Result<Answer> {
        Ok(match self.path()? {
            Ok(path) if self.caller.data_mut().kernel().exists(&path) => Ok(0),
            Ok(_) => Err(Errno::Noent),
            Err(errno) => Err(errno),
        })
    }

    /// The path in the first parameter, absolute.
    fn path(&mut self) -> Result<Result<String, Errno>> {
        let pointer = self.argument(0);
        let path =
            self.with_memory(|memory, _| memory.c_string(pointer, PATH_LIMIT).map(str::to_owned));
        Ok(match path {
            Ok(path) if path.is_empty() => Err(Errno::Noent),
            Ok(path) if path.starts_with('/') => Ok(path),
            Ok(path) => self
                .working_directory()?
                .map(|directory| format!("{directory}/{path}")),
            Err(errno) => Err(errno),
        })
    }

    /// The guest's directory, which only its C library knows.
    fn working_directory(&mut self) -> Result<Result<String, Errno>> {
        let Some(getcwd) = self.process.function(&mut *self.caller, "getcwd") else {
            return Ok(Ok("/".into()));
        };
        let mut result = [Val::I32(0)];
        getcwd.call(&mut *self.caller, &[Val::I32(0), Val::I32(0)], &mut result)?;
        let [Val::I32(pointer)] = result else {
            return Ok(Err(Errno::Noent));
        };
        if pointer == 0 {
            return Ok(Err(Errno::Noent));
        }
        let pointer = pointer.cast_unsigned();
        let directory =
            self.with_memory(|memory, _| memory.c_string(pointer, PATH_LIMIT).map(str::to_owned));
        self.free(pointer)?;
        Ok(directory)
    }

    fn duplicate(&mut self) -> Answer {
        let fd = self.argument(0);
        let new = self.caller.data_mut().kernel().dup(fd)?;
        i32::try_from(new).map_err(|_| Errno::Mfile)
    }

    fn duplicate_to(&mut self) -> Answer {
        let (fd, to) = (self.argument(0), self.argument(1));
        let new = self.caller.data_mut().kernel().dup2(fd, to)?;
        i32::try_from(new).map_err(|_| Errno::Mfile)
    }

    /// `pipe(&[reader, writer])`.
    fn pipe(&mut self) -> Answer {
        let pointer = self.argument(0);
        self.with_memory(|memory, data| {
            memory.check(pointer, 8)?;
            let (reader, writer) = data.kernel().pipe()?;
            memory.write_u32(pointer, reader)?;
            memory.write_u32(pointer.wrapping_add(4), writer)?;
            Ok(0)
        })
    }

    fn check_descriptor(&mut self) -> Answer {
        let fd = self.argument(0);
        self.caller.data_mut().kernel().metadata(fd)?;
        Ok(0)
    }

    /// `tcgetattr(fd, settings)`: the modes; what follows them in the guest's structure stays as it is.
    fn terminal_get(&mut self) -> Answer {
        let (fd, settings) = (self.argument(0), self.argument(1));
        let stream = self.caller.data_mut().kernel().standard_stream(fd)?;
        let modes = Terminal::get(stream)?;
        self.with_memory(|memory, _| {
            memory.write(settings, modes.map(u32::to_le_bytes).as_flattened())?;
            Ok(0)
        })
    }

    /// `tcsetattr(fd, when, settings)`.
    fn terminal_set(&mut self) -> Answer {
        let (fd, settings) = (self.argument(0), self.argument(2));
        self.with_memory(|memory, data| {
            let mut modes = [0; 4];
            for (mode, place) in modes.iter_mut().zip(0..) {
                *mode = memory.read_u32(settings.wrapping_add(4 * place))?;
            }
            let stream = data.kernel().standard_stream(fd)?;
            data.cowasm().terminal.set(stream, modes)?;
            Ok(0)
        })
    }

    fn signal_set(&mut self, change: impl FnOnce(u64) -> u64) -> i32 {
        let set = self.argument(0);
        let sets = &mut self.cowasm().signal_sets;
        if sets.len() >= MOST_SIGNAL_SETS && !sets.contains_key(&set) {
            // Sets live on C stacks: the old ones are gone from there long ago.
            sets.clear();
        }
        let bits = sets.entry(set).or_default();
        *bits = change(*bits);
        0
    }

    fn signal_bit(&self) -> Result<u64, Errno> {
        match self.argument(1) {
            signal @ 1..=63 => Ok(1 << signal),
            _ => Err(Errno::Inval),
        }
    }

    fn signal_set_add(&mut self) -> Answer {
        let bit = self.signal_bit()?;
        Ok(self.signal_set(|bits| bits | bit))
    }

    fn signal_set_has(&mut self) -> Answer {
        let bit = self.signal_bit()?;
        let set = self.argument(0);
        let bits = self.cowasm().signal_sets.get(&set).copied().unwrap_or(0);
        Ok(i32::from(bits & bit != 0))
    }

    /// `sigprocmask(how, set, old)`, `how` as in wasi-libc: 0 block, 1 unblock, 2 set.
    fn signal_mask(&mut self) -> Answer {
        let (how, set, old) = (self.argument(0), self.argument(1), self.argument(2));
        let cowasm = self.cowasm();
        let before = cowasm.signal_mask;
        if set != 0 {
            let bits = cowasm.signal_sets.get(&set).copied().unwrap_or(0);
            cowasm.signal_mask = match how {
                0 => before | bits,
                1 => before & !bits,
                2 => bits,
                _ => return Err(Errno::Inval),
            };
        }
        if old != 0 && cowasm.signal_sets.len() < MOST_SIGNAL_SETS {
            cowasm.signal_sets.insert(old, before);
        }
        Ok(0)
    }

    /// A text from the guest to the embedder: `cowasm_python_repr` answers so.
    fn send_string(&mut self) -> Answer {
        let (pointer, length) = (self.argument(0), self.argument(1));
        self.with_memory(|memory, data| {
            if length > MOST_STRING_BYTES {
                return Err(Errno::TooBig);
            }
            let text = String::from_utf8_lossy(memory.bytes(pointer, length)?).into_owned();
            data.cowasm().sent = Some(text);
            Ok(0)
        })
    }

    /// The address of the resolver's error number, in guest memory that is allocated once.
    fn h_errno_location(&mut self) -> Result<i32> {
        if self.cowasm().h_errno == 0 {
            let pointer = self.allocate(4)?;
            if pointer != 0 {
                // Errors here cannot be: `malloc` gave the address.
                let _ = self.with_memory(|memory, _| memory.write_u32(pointer, 0));
            }
            self.cowasm().h_errno = pointer;
        }
        Ok(self.cowasm().h_errno.cast_signed())
    }

    fn operator_new(&mut self) -> Result<i32> {
        let size = self.argument(0).max(1);
        match self.allocate(size)? {
            0 => Err(Error::from(Trap::new(TrapCode::Unreachable).with_detail(
                format!(
                    "operator new: no memory for {size} bytes, and no C++ exceptions to say so"
                ),
            ))),
            pointer => Ok(pointer.cast_signed()),
        }
    }

    fn operator_delete(&mut self) -> Result<i32> {
        let pointer = self.argument(0);
        self.free(pointer)?;
        Ok(0)
    }

    /// Without catalogues, a text is its own translation: the singular for one, else the plural.
    fn plural_form(&self, singular: u8) -> i32 {
        let singular = usize::from(singular);
        let one = self.argument(singular + 2) == 1;
        self.argument(if one { singular } else { singular + 1 })
            .cast_signed()
    }

    /// Memory from the guest's own `malloc`; 0 if it has none left.
    fn allocate(&mut self, size: u32) -> Result<u32> {
        let Some(malloc) = self.process.function(&mut *self.caller, "malloc") else {
            return Ok(0);
        };
        let mut result = [Val::I32(0)];
        malloc.call(
            &mut *self.caller,
            &[Val::I32(size.cast_signed())],
            &mut result,
        )?;
        let [result] = result;
        Ok(result.i32().unwrap_or(0).cast_unsigned())
    }

    fn free(&mut self, pointer: u32) -> Result<()> {
        let Some(free) = self.process.function(&mut *self.caller, "free") else {
            return Ok(());
        };
        free.call(
            &mut *self.caller,
            &[Val::I32(pointer.cast_signed())],
            &mut [],
        )
    }
}

impl Kernel {
    /// The standard stream of the host that a descriptor leads to.
    fn standard_stream(&self, fd: u32) -> Result<StandardStream, Errno> {
        match &self.descriptors.get(fd)?.object {
            Object::Stream(Stream::Stdin(_)) => Ok(StandardStream::Input),
            Object::Stream(Stream::Stdout) => Ok(StandardStream::Output),
            Object::Stream(Stream::Stderr) => Ok(StandardStream::Error),
            _ => Err(Errno::Notty),
        }
    }
}
