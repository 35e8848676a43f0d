//! How a call of a guest reaches the method of a row, and how its result goes back.
//!
//! A 64-bit parameter may come in two halves, the lower one first, and a 64-bit result then goes back as its lower half,
//! with the upper one in "temp ret 0", which the guest fetches with `getTempRet0`. Which of the two a guest wants, its
//! import's type tells.

#![forbid(unsafe_code)]

use super::table::{Action, Row};
use super::{Emscripten, EmscriptenHost};
use crate::error::{Error, Result};
use crate::host::errno::Errno;
use crate::host::guest::GuestMemory;
use crate::host::kernel::Kernel;
use crate::link::Process;
use crate::module::{FuncType, ValType};
use crate::runtime::{Caller, Func, Ref, StoreContextMut, Val};
use crate::trap::{Trap, TrapCode};

/// Types of parameters and results as C has them.
pub(super) struct Signature {
    pub parameters: Vec<ValType>,
    pub results: Vec<ValType>,
}

impl Signature {
    pub fn of(ty: &FuncType) -> Signature {
        Signature {
            parameters: ty.params().to_vec(),
            results: ty.results().to_vec(),
        }
    }

    /// As it is.
    pub fn natural(&self) -> FuncType {
        FuncType::new(
            self.parameters.iter().copied(),
            self.results.iter().copied(),
        )
    }

    /// With 64-bit integers in halves.
    pub fn split(&self) -> FuncType {
        let halves = |ty: &ValType| match ty {
            ValType::I64 => [Some(ValType::I32), Some(ValType::I32)],
            ty => [Some(*ty), None],
        };
        let lower = |ty: &ValType| match ty {
            ValType::I64 => ValType::I32,
            ty => *ty,
        };
        FuncType::new(
            self.parameters.iter().flat_map(halves).flatten(),
            self.results.iter().map(lower),
        )
    }
}

/// Arguments in halves as arguments of this type.
pub(super) fn join(natural: &FuncType, arguments: &[Val]) -> Vec<Val> {
    let mut arguments = arguments.iter().copied();
    let mut next = || arguments.next().unwrap_or(Val::I32(0));
    let whole = |ty: &ValType| match ty {
        ValType::I64 => {
            let (low, high) = (next(), next());
            Val::I64(from_halves(bits(&low), bits(&high)))
        }
        _ => next(),
    };
    natural.params().iter().map(whole).collect()
}

/// Arguments with 64-bit integers in halves.
pub(super) fn split(arguments: &[Val]) -> Vec<Val> {
    let mut halves = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match argument {
            Val::I64(number) => {
                let (low, high) = to_halves(*number);
                halves.extend([Val::I32(low.cast_signed()), Val::I32(high.cast_signed())]);
            }
            other => halves.push(*other),
        }
    }
    halves
}

fn bits(value: &Val) -> u32 {
    value.i32().unwrap_or(0).cast_unsigned()
}

fn from_halves(low: u32, high: u32) -> i64 {
    (u64::from(high) << 32 | u64::from(low)).cast_signed()
}

/// The lower and the upper half.
pub(super) fn to_halves(number: i64) -> (u32, u32) {
    let bits = number.cast_unsigned();
    let low = u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
    let high = u32::try_from(bits >> 32).unwrap_or(0);
    (low, high)
}

/// The arguments of a call, taken one after the other.
pub(super) struct Arguments<'a> {
    values: std::slice::Iter<'a, Val>,
    split: bool,
}

impl Arguments<'_> {
    fn next(&mut self) -> Option<&Val> {
        self.values.next()
    }
}

/// A parameter as the methods want it. The engine has checked the types.
pub(super) trait Parameter: Sized {
    const TYPE: ValType;
    fn take(arguments: &mut Arguments<'_>) -> Self;
}

impl Parameter for i32 {
    const TYPE: ValType = ValType::I32;
    fn take(arguments: &mut Arguments<'_>) -> i32 {
        arguments.next().and_then(Val::i32).unwrap_or(0)
    }
}

impl Parameter for u32 {
    const TYPE: ValType = ValType::I32;
    fn take(arguments: &mut Arguments<'_>) -> u32 {
        i32::take(arguments).cast_unsigned()
    }
}

impl Parameter for i64 {
    const TYPE: ValType = ValType::I64;
    fn take(arguments: &mut Arguments<'_>) -> i64 {
        if arguments.split {
            let (low, high) = (u32::take(arguments), u32::take(arguments));
            return from_halves(low, high);
        }
        arguments.next().and_then(Val::i64).unwrap_or(0)
    }
}

impl Parameter for f64 {
    const TYPE: ValType = ValType::F64;
    fn take(arguments: &mut Arguments<'_>) -> f64 {
        arguments.next().and_then(Val::f64).unwrap_or(0.0)
    }
}

/// What a method gives: a number, nothing, or for a system call an error number, which the guest gets negated.
pub(super) trait Outcome {
    fn value(self) -> Result<Option<Val>, Errno>;
}

impl Outcome for () {
    fn value(self) -> Result<Option<Val>, Errno> {
        Ok(None)
    }
}

impl Outcome for i32 {
    fn value(self) -> Result<Option<Val>, Errno> {
        Ok(Some(Val::I32(self)))
    }
}

impl Outcome for u32 {
    fn value(self) -> Result<Option<Val>, Errno> {
        Ok(Some(Val::I32(self.cast_signed())))
    }
}

impl Outcome for i64 {
    fn value(self) -> Result<Option<Val>, Errno> {
        Ok(Some(Val::I64(self)))
    }
}

impl Outcome for f64 {
    fn value(self) -> Result<Option<Val>, Errno> {
        Ok(Some(Val::from(self)))
    }
}

impl<R: Outcome> Outcome for Result<R, Errno> {
    fn value(self) -> Result<Option<Val>, Errno> {
        self.and_then(R::value)
    }
}

/// What a method gets that neither calls the guest nor changes what is loaded.
pub(super) struct System<'a, 'm> {
    pub kernel: &'a mut Kernel,
    pub state: &'a mut Emscripten,
    pub memory: &'a mut GuestMemory<'m>,
}

/// What a method gets that calls the guest.
pub(super) struct Guest<'a, 'c, T: EmscriptenHost> {
    pub process: &'a Process<T>,
    pub caller: &'a mut Caller<'c, T>,
}

impl<T: EmscriptenHost> Guest<'_, '_, T> {
    /// Works on memory and state, as the simpler methods do.
    ///
    /// # Errors
    /// Those of `work`; the process has no memory yet.
    pub fn system<R>(
        &mut self,
        work: impl FnOnce(&mut System<'_, '_>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let memory = self.process.memory().ok_or(Errno::Fault)?;
        let (bytes, data) = memory.data_and_store_mut(self.caller);
        let (kernel, state) = data.emscripten();
        work(&mut System {
            kernel,
            state,
            memory: &mut GuestMemory::new(bytes),
        })
    }

    pub fn state(&mut self) -> &mut Emscripten {
        self.caller.data_mut().emscripten().1
    }

    /// A string of the guest; what is not UTF-8 is replaced.
    ///
    /// # Errors
    /// `Fault` if it does not end within the memory, `Nametoolong` beyond the limit.
    pub fn text(&mut self, pointer: u32, limit: u32) -> Result<String, Errno> {
        self.system(|system| lossy_string(system.memory, pointer, limit))
    }

    /// Calls a function that the program defines, with 32-bit parameters; `None` if there is none of this type.
    ///
    /// # Errors
    /// What ends the call.
    pub fn call_symbol(&mut self, name: &str, parameters: &[u32]) -> Result<Option<u32>> {
        let Some(func) = self.process.function(&mut *self.caller, name) else {
            return Ok(None);
        };
        let ty = func.ty(&*self.caller);
        if ty.params().iter().any(|ty| *ty != ValType::I32)
            || ty.results().iter().any(|ty| *ty != ValType::I32)
            || ty.results().len() > 1
            || ty.params().len() < parameters.len()
        {
            return Ok(None);
        }
        // JavaScript leaves out the last arguments of functions with variable ones.
        let mut values: Vec<Val> = parameters
            .iter()
            .map(|value| Val::I32(value.cast_signed()))
            .collect();
        values.resize(ty.params().len(), Val::I32(0));
        let mut results = vec![Val::I32(0); ty.results().len()];
        func.call(&mut *self.caller, &values, &mut results)?;
        Ok(Some(results.first().map_or(0, bits)))
    }

    /// Where the C stack ends now: by the global that all share, or by the guest's own function.
    ///
    /// # Errors
    /// What ends the call of that.
    pub fn stack_pointer(&mut self) -> Result<Option<u32>> {
        if let Some(global) = self.process.stack_pointer() {
            return Ok(global.get(&mut *self.caller).i32().map(i32::cast_unsigned));
        }
        for name in ["stackSave", "emscripten_stack_get_current"] {
            if let Some(pointer) = self.call_symbol(name, &[])? {
                return Ok(Some(pointer));
            }
        }
        Ok(None)
    }

    /// Lets the C stack end here.
    ///
    /// # Errors
    /// What ends the call of the guest's own function for that.
    pub fn set_stack_pointer(&mut self, pointer: u32) -> Result<()> {
        if let Some(global) = self.process.stack_pointer() {
            return global.set(&mut *self.caller, Val::I32(pointer.cast_signed()));
        }
        for name in ["stackRestore", "_emscripten_stack_restore"] {
            if self.call_symbol(name, &[pointer])?.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Copies bytes to the C stack and does something with their address. Without a stack, or without room on it, nothing
    /// is done.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn with_stack_copy(
        &mut self,
        bytes: &[u8],
        work: impl FnOnce(&mut Self, u32) -> Result<()>,
    ) -> Result<()> {
        let Some(before) = self.stack_pointer()? else {
            return Ok(());
        };
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Some(place) = before.checked_sub(length).map(|place| place & !15) else {
            return Ok(());
        };
        if self
            .system(|system| system.memory.write(place, bytes))
            .is_err()
        {
            return Ok(());
        }
        self.set_stack_pointer(place)?;
        work(self, place)?;
        self.set_stack_pointer(before)
    }

    /// The function at a table index.
    ///
    /// # Errors
    /// A trap as that of `call_indirect`.
    pub fn table_function(&mut self, index: u32) -> Result<Func> {
        table_function(self.process, &mut *self.caller, index)
    }

    /// Calls the function at a table index with the first of these parameters, as many as it has.
    ///
    /// # Errors
    /// There is none, it has other types, or what ends the call.
    pub fn call_table(&mut self, index: u32, parameters: &[u32]) -> Result<()> {
        let func = self.table_function(index)?;
        call_with_first(func, &mut *self.caller, parameters)
    }
}

/// The function at a table index of the process.
///
/// # Errors
/// A trap as that of `call_indirect`.
pub(super) fn table_function<T: 'static>(
    process: &Process<T>,
    store: impl crate::runtime::AsContextMut<Data = T>,
    index: u32,
) -> Result<Func> {
    let table = process
        .table()
        .ok_or_else(|| Error::from(TrapCode::UndefinedElement))?;
    match table.get(store, u64::from(index)) {
        Some(Ref::Func(Some(func))) => Ok(func),
        Some(_) => Err(Trap::new(TrapCode::UninitializedElement)
            .with_detail(format!("table slot {index}"))
            .into()),
        None => Err(Trap::new(TrapCode::UndefinedElement)
            .with_detail(format!("table slot {index}"))
            .into()),
    }
}

/// Calls a function with as many of these parameters as it has.
///
/// # Errors
/// It has other types, or what ends the call.
pub(super) fn call_with_first<T: 'static>(
    func: Func,
    mut store: impl crate::runtime::AsContextMut<Data = T>,
    parameters: &[u32],
) -> Result<()> {
    let ty = func.ty(&store);
    let fits =
        ty.params().len() <= parameters.len() && ty.params().iter().all(|ty| *ty == ValType::I32);
    if !fits {
        return Err(Trap::new(TrapCode::IndirectCallTypeMismatch)
            .with_detail(format!(
                "a callback of type {ty} was to be called with {} pointers",
                parameters.len()
            ))
            .into());
    }
    let values: Vec<Val> = parameters
        .iter()
        .take(ty.params().len())
        .map(|value| Val::I32(value.cast_signed()))
        .collect();
    let mut results: Vec<Val> = ty
        .results()
        .iter()
        .map(|ty| Val::default_for(*ty))
        .collect();
    func.call(&mut store, &values, &mut results)
}

/// A string of the guest; what is not UTF-8 is replaced, because messages must not fail.
///
/// # Errors
/// `Fault` if it does not end within the memory, `Nametoolong` beyond the limit.
pub(super) fn lossy_string(
    memory: &GuestMemory<'_>,
    pointer: u32,
    limit: u32,
) -> Result<String, Errno> {
    let size = u32::try_from(memory.size()).unwrap_or(u32::MAX);
    let room = size.checked_sub(pointer).ok_or(Errno::Fault)?;
    let bytes = memory.bytes(pointer, room.min(limit))?;
    let end = bytes.iter().position(|byte| *byte == 0);
    let end = end.ok_or(if room <= limit {
        Errno::Fault
    } else {
        Errno::Nametoolong
    })?;
    let text = bytes.get(..end).unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Makes the function of a row with the importer's type, which is the row's or its split form.
pub(super) fn define<T: EmscriptenHost>(
    process: &Process<T>,
    store: StoreContextMut<'_, T>,
    row: &'static Row<T>,
    ty: &FuncType,
) -> Func {
    let process = process.clone();
    let split = row.signature().natural() != *ty;
    let call = move |mut caller: Caller<'_, T>, arguments: &[Val], results: &mut [Val]| {
        let mut arguments = Arguments {
            values: arguments.iter(),
            split,
        };
        let outcome = match row.action {
            Action::System(call) => {
                let memory = process.memory();
                match memory {
                    Some(memory) => {
                        let (bytes, data) = memory.data_and_store_mut(&mut caller);
                        let (kernel, state) = data.emscripten();
                        let mut memory = GuestMemory::new(bytes);
                        call(
                            &mut System {
                                kernel,
                                state,
                                memory: &mut memory,
                            },
                            &mut arguments,
                        )
                    }
                    None => {
                        let (kernel, state) = caller.data_mut().emscripten();
                        call(
                            &mut System {
                                kernel,
                                state,
                                memory: &mut GuestMemory::new(&mut []),
                            },
                            &mut arguments,
                        )
                    }
                }
            }
            Action::Guest(call) => call(
                &mut Guest {
                    process: &process,
                    caller: &mut caller,
                },
                &mut arguments,
            )?,
        };
        let value = match outcome {
            Ok(value) => value,
            // The guest was woken up to be stopped: it gets no chance to go on.
            Err(Errno::Intr) if caller.data_mut().kernel().is_interrupted() => {
                return Err(Error::from(TrapCode::Interrupted));
            }
            Err(errno) if row.plain_errno => Some(Val::I32(i32::from(errno.raw()))),
            Err(errno) => Some(Val::I32(-i32::from(errno.raw()))),
        };
        match (results, value) {
            ([result], Some(Val::I64(number))) if split => {
                let (low, high) = to_halves(number);
                caller.data_mut().emscripten().1.temp_ret0 = high;
                *result = Val::I32(low.cast_signed());
            }
            ([result], Some(value)) => *result = value,
            ([], _) => {}
            (results, None) => {
                return Err(Error::usage(format!(
                    "`{}` gives no {} results",
                    row.name,
                    results.len()
                )));
            }
            (results, Some(_)) => {
                return Err(Error::usage(format!(
                    "`{}` gives one result, not {}",
                    row.name,
                    results.len()
                )));
            }
        }
        Ok(())
    };
    Func::new(store, ty.clone(), call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_64_bits_are_split_and_joined() {
        let ty = FuncType::new([ValType::I32, ValType::I64, ValType::F64], [ValType::I64]);
        let split_type = Signature::of(&ty).split();
        assert_eq!(
            split_type,
            FuncType::new(
                [ValType::I32, ValType::I32, ValType::I32, ValType::F64],
                [ValType::I32]
            )
        );
        for number in [0, -1, 1 << 32, i64::MIN, i64::MAX, 0x1234_5678_9abc_def0] {
            let whole = [Val::I32(7), Val::I64(number), Val::from(1.5)];
            let halves = split(&whole);
            assert_eq!(halves.len(), 4);
            let joined = join(&ty, &halves);
            assert_eq!(joined[1].i64(), Some(number));
            assert_eq!(joined[2].f64(), Some(1.5));
        }
    }
}
