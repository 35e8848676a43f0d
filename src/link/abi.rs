//! The functions of `<dlfcn.h>` as guests import them from `env`: `dlopen`, `dlsym`, `dlclose`, `dlerror`, `dladdr`,
//! `dl_iterate_phdr` (rule D18, musl's names and values).
//!
//! Errors become null or -1 and a text for `dlerror`, never a trap, unless the error ends the process: an exit, used-up
//! fuel, an interruption, or a trap in a constructor where the profile says so (rule D15).
#![forbid(unsafe_code)]

use super::dl::OpenFlags;
use super::object::ObjectId;
use super::process::Process;
use super::profile::ConstructorTrap;
use super::undo::ends_process;
use crate::error::{Error, Result};
use crate::module::{FuncType, ValType};
use crate::runtime::{AsContextMut, Caller, Func, Memory, StoreContextMut, Val};

/// Longest name or path that a guest may pass, in bytes.
const MAX_STRING: usize = 1 << 16;

/// The type of one of these functions.
pub(crate) fn signature(name: &str) -> Option<FuncType> {
    let (params, results) = match name {
        "dlopen" | "dlsym" | "dladdr" | "dl_iterate_phdr" => (2, 1),
        "dlclose" => (1, 1),
        "dlerror" => (0, 1),
        _ => return None,
    };
    Some(FuncType::new(
        std::iter::repeat_n(ValType::I32, params),
        std::iter::repeat_n(ValType::I32, results),
    ))
}

/// One of these functions, if the name is one and the importer's type is right. Each exists once, so that its address
/// is the same for all.
pub(crate) fn function<T: 'static>(
    process: &Process<T>,
    store: &mut StoreContextMut<'_, T>,
    name: &str,
    ty: &FuncType,
) -> Option<Func> {
    if signature(name)? != *ty {
        return None;
    }
    let known = process.state().own_functions.get(name).copied();
    if known.is_some() {
        return known;
    }
    let own = process.clone();
    let which = name.to_string();
    let func = Func::new(
        &mut *store,
        ty.clone(),
        move |mut caller: Caller<'_, T>, params: &[Val], results: &mut [Val]| {
            let param = |place: usize| {
                params
                    .get(place)
                    .and_then(Val::i32)
                    .map_or(0, i32::cast_unsigned)
            };
            let asker = caller
                .instance()
                .and_then(|instance| own.state().instances.get(&instance).copied());
            let mut store = caller.as_context_mut();
            let result = match which.as_str() {
                "dlopen" => own.guest_dlopen(&mut store, param(0), param(1), asker)?,
                "dlsym" => own.guest_dlsym(&mut store, param(0), param(1), asker)?,
                "dlclose" => own.guest_dlclose(&mut store, param(0))?,
                "dlerror" => own.guest_dlerror(&mut store)?,
                "dladdr" => own.guest_dladdr(&mut store, param(0), param(1))?,
                _ => own.guest_iterate_headers(&mut store, param(0), param(1))?,
            };
            if let Some(place) = results.first_mut() {
                *place = Val::I32(result.cast_signed());
            }
            Ok(())
        },
    );
    process.state().own_functions.insert(name.to_string(), func);
    Some(func)
}

/// What the host's work for a guest costs in fuel: one for each byte of a name that is read, and for each symbol or
/// object that is asked.
pub(super) fn cost(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl<T: 'static> Process<T> {
    fn guest_dlopen(
        &self,
        store: &mut StoreContextMut<'_, T>,
        name: u32,
        flags: u32,
        caller: Option<ObjectId>,
    ) -> Result<u32> {
        let name = match name {
            0 => None,
            name => match self.guest_string(store, name)? {
                Some(name) => Some(name),
                None => {
                    self.set_error("dlopen: the name is no string within the memory".to_string());
                    return Ok(0);
                }
            },
        };
        let flags = OpenFlags::from_bits_truncate(flags);
        match self.open(store, name.as_deref(), flags, caller) {
            Ok(handle) => Ok(handle),
            Err(error) if ends_process(&error) => Err(error),
            Err(error)
                if error.trap().is_some()
                    && self.0.profile.constructor_trap == ConstructorTrap::Propagates =>
            {
                Err(error)
            }
            Err(error) => {
                let needs_prefix =
                    name.is_some() && flags.intersects(OpenFlags::LAZY | OpenFlags::NOW);
                self.set_error(match name {
                    Some(name) if needs_prefix => {
                        format!("could not load dynamic lib: {name}\n{error}")
                    }
                    _ => error.to_string(),
                });
                Ok(0)
            }
        }
    }

    fn guest_dlsym(
        &self,
        store: &mut StoreContextMut<'_, T>,
        handle: u32,
        name: u32,
        caller: Option<ObjectId>,
    ) -> Result<u32> {
        let Some(name) = self.guest_string(store, name)? else {
            self.set_error("dlsym: the name is no string within the memory".to_string());
            return Ok(0);
        };
        match self.find_symbol(store, handle, &name, caller) {
            Ok(address) => Ok(address),
            Err(error) if ends_process(&error) => Err(error),
            Err(error) => {
                self.set_error(error.to_string());
                Ok(0)
            }
        }
    }

    fn guest_dlclose(&self, store: &mut StoreContextMut<'_, T>, handle: u32) -> Result<u32> {
        match self.dlclose(&mut *store, handle) {
            Ok(()) => Ok(0),
            // A destructor's trap is no error of `dlclose`.
            Err(error) if ends_process(&error) || error.trap().is_some() => Err(error),
            Err(error) => {
                self.set_error(error.to_string());
                Ok(u32::MAX)
            }
        }
    }

    /// The text of the last error in a buffer of the guest, or null. The buffer is the process's and is used again.
    fn guest_dlerror(&self, store: &mut StoreContextMut<'_, T>) -> Result<u32> {
        let Some(text) = self.dlerror() else {
            return Ok(0);
        };
        let Some(memory) = self.memory() else {
            return Ok(0);
        };
        let mut bytes: Vec<u8> = text
            .into_bytes()
            .into_iter()
            .filter(|byte| *byte != 0)
            .take(MAX_STRING - 1)
            .collect();
        bytes.push(0);
        store.pay(cost(bytes.len()))?;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let buffer = self.state().error_buffer;
        let place = match buffer {
            Some(place) if place.size >= length => place,
            old => {
                let place = self.take_memory(store, length.max(1024), 0, "the text of dlerror");
                let place = match place {
                    Ok(place) => place,
                    Err(error) if ends_process(&error) || error.trap().is_some() => {
                        return Err(error);
                    }
                    // There is an error, but no memory to tell it.
                    Err(_) => return Ok(0),
                };
                self.state().error_buffer = Some(place);
                if let Some(old) = old {
                    self.give_back_memory(store, old, false)?;
                }
                place
            }
        };
        Ok(if self.write_guest(store, memory, place.base, &bytes) {
            place.base
        } else {
            0
        })
    }

    /// Fills a `Dl_info` (path, base, symbol's name, symbol's address); 0 and no change if nothing is known (rule D13).
    fn guest_dladdr(
        &self,
        store: &mut StoreContextMut<'_, T>,
        address: u32,
        out: u32,
    ) -> Result<u32> {
        let objects = self.state().objects.len();
        store.pay(cost(objects))?;
        let found = self.what_is_at(store, address);
        // All symbols of an object are gone through for the nearest one; the objects before it were only asked for
        // their places.
        let symbols = found.as_ref().and_then(|(id, _)| {
            let state = self.state();
            Some(state.object(*id)?.symbols.module().exports().len())
        });
        store.pay(cost(symbols.unwrap_or(0)))?;
        let (Some(memory), Some((id, info))) = (self.memory(), found) else {
            return Ok(0);
        };
        let path = self.guest_name(store, memory, id, &info.path)?;
        let (symbol, at) = match &info.symbol {
            Some((name, at)) => (self.guest_name(store, memory, id, name)?, *at),
            None => (0, 0),
        };
        let mut bytes = Vec::with_capacity(16);
        for word in [path, info.base, symbol, at] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        Ok(u32::from(self.write_guest(store, memory, out, &bytes)))
    }

    /// A name of an object as a string in the guest's memory; each exists once, and as long as the object.
    pub(super) fn guest_name(
        &self,
        store: &mut StoreContextMut<'_, T>,
        memory: Memory,
        id: ObjectId,
        name: &str,
    ) -> Result<u32> {
        let known = {
            let state = self.state();
            let object = state.object(id);
            object.and_then(|object| object.guest_names.get(name).copied())
        };
        if let Some(known) = known {
            return Ok(known.base);
        }
        let mut bytes = name.as_bytes().to_vec();
        bytes.push(0);
        let length = u32::try_from(bytes.len()).map_err(|_| Error::msg("a name of 4 GiB"))?;
        let place = self.take_memory(store, length, 0, "a name for dladdr")?;
        let written = self.write_guest(store, memory, place.base, &bytes);
        let mut state = self.state();
        match state.objects.get_mut(&id).filter(|_| written) {
            Some(object) => {
                object.guest_names.insert(name.to_string(), place);
                Ok(place.base)
            }
            None => {
                drop(state);
                self.give_back_memory(store, place, false)?;
                Ok(0)
            }
        }
    }

    pub(super) fn write_guest(
        &self,
        store: &mut StoreContextMut<'_, T>,
        memory: Memory,
        at: u32,
        bytes: &[u8],
    ) -> bool {
        usize::try_from(at)
            .ok()
            .is_some_and(|at| memory.write(&mut *store, at, bytes).is_ok())
    }

    /// A string of the guest that ends with a zero byte and is not too long. Each byte that is looked at costs fuel.
    ///
    /// # Errors
    /// The guest's fuel or time is used up.
    fn guest_string(&self, store: &mut StoreContextMut<'_, T>, at: u32) -> Result<Option<String>> {
        let Some(memory) = self.memory() else {
            return Ok(None);
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let rest = memory.data(&*store).get(at..).unwrap_or_default();
        let looked_at = rest.get(..MAX_STRING).unwrap_or(rest);
        let length = looked_at.iter().position(|byte| *byte == 0);
        let read = length.unwrap_or(looked_at.len());
        let text = length
            .and_then(|length| looked_at.get(..length))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .map(str::to_owned);
        store.pay(cost(read))?;
        Ok(text)
    }
}
