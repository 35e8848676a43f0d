//! Validated WebAssembly to ir: one pass over a function body, at its first call.
//!
//! The translator keeps a virtual operand stack (`stack`). `local.get` and constants emit nothing; a
//! result stays in the accumulator until something else needs the accumulator; `local.set` and
//! settling patch the producer so that it also writes a slot; comparisons fold into branches (`fuse`);
//! additions and shifts fold into addresses. At labels everything lies in slots: the slot of stack
//! height `h` is fixed, so all paths agree. The work per operator is bounded: only the topmost
//! [`stack::LAZY`] entries may be unsettled, so nothing scans a deep stack.
//!
//! Everything that linking decided is baked: callee code, addresses of globals, tables, memories and
//! the values of immutable globals (memory and table bases among them).

#![forbid(unsafe_code)]

mod access;
mod control;
mod copies;
mod emit;
mod fuse;
mod listing;
mod locals;
mod loops;
mod stack;
mod visit;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::ops::Family;
use crate::module::{FuncType, GlobalType, LibcFunction, Module, ValType};
use crate::watch::Watch;
use emit::Emitter;
use stack::Item;
use std::collections::HashMap;
use wasmparser::{BinaryReader, FunctionBody};

/// What linking decided, as translation needs it.
pub(crate) trait Environment {
    /// Code and frame size of a function of the index space.
    fn callee(&self, index: u32) -> Callee;
    /// A function as a slot value.
    fn function_reference(&self, index: u32) -> u64;
    /// A global.
    fn global(&self, index: u32) -> GlobalCell;
    /// A table.
    fn table(&self, index: u32) -> TableRef;
    /// Address of a memory's record.
    fn memory(&self, index: u32) -> u64;
    /// Address of the instance's record.
    fn instance(&self) -> u64;
}

/// Where a direct call goes.
pub(crate) struct Callee {
    /// Address of the code cell.
    pub code: u64,
    /// Whether it is a function of the host.
    pub is_host: bool,
}

/// A global's cell.
pub(crate) struct GlobalCell {
    pub address: u64,
    /// Present value; final if the global is immutable.
    pub value: u64,
    pub ty: GlobalType,
    /// Group and place, if it is a cell whose value code holds as constants.
    pub cell: Option<(u32, u32)>,
}

/// A table.
pub(crate) struct TableRef {
    /// Address of the record.
    pub address: u64,
    /// Whether its entries are right for this instance's memory, so that `call_indirect` may use them.
    pub direct: bool,
}

/// Translated code before it is finished for a way of dispatch: word 0 of every instruction is its operator's number.
pub(crate) struct Translation {
    pub code: Vec<u64>,
    /// Words at which instructions start.
    pub starts: Vec<u32>,
    /// Words that hold a target (as a word index) of a jump table; the word before wants the target's handler.
    pub jump_entries: Vec<u32>,
    /// (word, byte offset in the module) of instructions that can trap or call.
    pub places: Vec<(u32, u32)>,
    /// Fields that hold the value of a cell.
    pub relocations: Vec<Field>,
    /// Bytes of the frame.
    pub frame: u32,
}

/// A 32-bit immediate that is the value of a global plus constants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// Word of the code.
    pub word: usize,
    /// Whether it is the upper half of the word.
    pub high: bool,
    /// Group and place of the global.
    pub global: (u32, u32),
    /// Added to the value, modulo 2^32.
    pub addend: u32,
    /// Added to that without wrapping.
    pub offset: u32,
}

/// Translates the body of a defined function.
///
/// # Errors
/// The body cannot be read (only if it was not validated).
pub(crate) fn translate(
    module: &Module,
    defined: usize,
    config: &Config,
    environment: &dyn Environment,
    watch: &Watch,
) -> Result<Translation> {
    match Translator::run(module, defined, config, environment, watch, false)? {
        Some(translation) => Ok(translation),
        // The frame is larger than 16-bit slot offsets reach: once more, with far slots.
        None => Translator::run(module, defined, config, environment, watch, true)?
            .ok_or_else(|| Error::msg("internal error: a far frame does not fit")),
    }
}

/// The code of a function that native code stands in for: its parameters, which are where they are in every function, are
/// the operands of one instruction, whose result is returned.
pub(crate) fn native(
    module: &Module,
    defined: usize,
    function: LibcFunction,
    environment: &dyn Environment,
) -> Translation {
    let mut out = Emitter::default();
    let body = module.0.bodies.get(defined);
    out.offset = body.map_or(0, |body| u32::try_from(body.start).unwrap_or(u32::MAX));
    // Slots 0, 1 and 2; a function of fewer parameters does not look at the others, but its frame has them.
    let operands = 8 << 16 | 16 << 32;
    out.emit_at(Family::Cold.form(visit::cold::NATIVE_LIBC), operands);
    out.push(environment.memory(0));
    out.push(function as u64);
    out.emit(Family::Return.form(0), 0);
    out.emit(Family::Unreachable.form(0), 0);
    Translation {
        code: out.code,
        starts: out.starts,
        jump_entries: out.jump_entries,
        places: out.places,
        relocations: out.relocations,
        frame: 64,
    }
}

/// The state of one translation.
struct Translator<'a> {
    module: &'a Module,
    config: &'a Config,
    environment: &'a dyn Environment,
    out: Emitter,
    /// The virtual operand stack.
    stack: Vec<Item>,
    /// Entries below this height lie in their slots.
    settled: usize,
    /// Greatest height used, saved words of calls included.
    max_height: usize,
    locals: Vec<ValType>,
    params: usize,
    blocks: Vec<control::Block>,
    /// Places of the loops among the open blocks.
    loops: Vec<usize>,
    /// The local that the accumulator of each class holds.
    acc_local: [Option<u32>; 2],
    /// The instruction that made the last result, and the local that the accumulator held before it.
    before_result: Option<(usize, u32)>,
    /// The code being translated cannot be reached.
    dead: bool,
    /// Blocks opened inside unreachable code.
    skipped: u32,
    /// The frame may be larger than u16 offsets reach.
    far: bool,
    /// Next scratch slot for far operands.
    scratch: u32,
    /// Open fuel checks: (instruction, operators counted for it).
    checks: Vec<(usize, u32)>,
    /// Cells that the function reads: the global and its present value.
    cells: Vec<((u32, u32), u32)>,
    cell_numbers: HashMap<(u32, u32), u32>,
    zeroing: locals::Zeroing,
    /// Byte offset of the body in the module.
    start: u32,
}

/// Operators between two looks at the watch. One may move a thousand values.
const OPERATORS_AT_ONCE: usize = 1024;

/// Slots between parameters and other locals that bring far operands near: an instruction has at most four
/// operands, and each takes up to four on its way (base, index, their sum, the sum again).
const SCRATCH_SLOTS: usize = 16;
/// Bytes of a frame that are there without a check of its own.
const RED_ZONE: u32 = crate::ir::RED_ZONE as u32;
/// Greatest slot offset in a u16 field.
const NEAR: u32 = 0xfff8;

impl<'a> Translator<'a> {
    /// `None`: the frame needs far slots.
    fn run(
        module: &'a Module,
        defined: usize,
        config: &'a Config,
        environment: &'a dyn Environment,
        watch: &Watch,
        far: bool,
    ) -> Result<Option<Translation>> {
        let inner = &module.0;
        let missing = || Error::usage(format!("no function body {defined}"));
        let range = inner.bodies.get(defined).ok_or_else(missing)?.clone();
        let bytes = inner.bytes.get(range.clone()).ok_or_else(missing)?;
        let ty = inner
            .funcs
            .get(inner.imported_funcs + defined)
            .and_then(|index| inner.types.get(*index as usize))
            .ok_or_else(missing)?;
        let body = FunctionBody::new(BinaryReader::new(bytes, range.start as u64));
        let mut locals: Vec<ValType> = ty.params().to_vec();
        let params = locals.len();
        for group in body.get_locals_reader().map_err(unreadable)? {
            let (count, ty) = group.map_err(unreadable)?;
            let ty = value_type(ty)?;
            emit::room_for(&mut locals, count as usize)?;
            locals.resize(locals.len() + count as usize, ty);
        }
        let mut translator = Translator {
            module,
            config,
            environment,
            out: Emitter::for_body(bytes.len(), config.limits.translation_bytes),
            stack: Vec::new(),
            settled: 0,
            max_height: 0,
            locals,
            params,
            blocks: Vec::new(),
            loops: Vec::new(),
            acc_local: [None; 2],
            before_result: None,
            dead: false,
            skipped: 0,
            far,
            scratch: 0,
            checks: Vec::new(),
            cells: Vec::new(),
            cell_numbers: HashMap::new(),
            zeroing: locals::Zeroing::new(params),
            start: u32::try_from(range.start).unwrap_or(u32::MAX),
        };
        translator.enter(ty);
        let mut reader = body.get_operators_reader().map_err(unreadable)?;
        let mut count = 0usize;
        while !reader.eof() {
            count = count.wrapping_add(1);
            if count.is_multiple_of(OPERATORS_AT_ONCE) {
                watch.check()?;
            }
            let (operator, offset) = reader.read_with_offset().map_err(unreadable)?;
            translator.out.offset = u32::try_from(offset).unwrap_or(u32::MAX);
            if translator.operator(operator)? {
                break;
            }
        }
        translator.finish(ty)
    }

    /// Function entry: the check for fuel and interruption, then zeroed locals.
    fn enter(&mut self, ty: &FuncType) {
        self.check();
        self.zero_locals();
        self.open_function(ty);
    }

    fn finish(mut self, ty: &FuncType) -> Result<Option<Translation>> {
        self.close_checks(0);
        self.out.within_limit(0)?;
        self.zero_what_is_read();
        // Code cells never end inside an instruction that is read ahead.
        self.out.emit(Family::Unreachable.form(0), 0);
        let scratch = if self.far { SCRATCH_SLOTS } else { 0 };
        let slots = self.locals.len() + scratch + 1 + self.max_height + 4;
        let slots = slots.max(ty.results().len());
        let frame = u32::try_from(slots * 8)
            .map_err(|_| Error::msg("a function's frame is larger than 4 GiB"))?;
        if frame > NEAR && !self.far {
            return Ok(None);
        }
        if let Some(more) = frame.checked_sub(RED_ZONE).filter(|more| *more > 0) {
            self.out.begin_with(Family::Frame.form(0), more, self.start);
        }
        let Emitter {
            code,
            starts,
            jump_entries,
            places,
            relocations,
            ..
        } = self.out;
        Ok(Some(Translation {
            code,
            starts,
            jump_entries,
            places,
            relocations,
            frame,
        }))
    }
}

/// The class of a type's accumulator: 0 integers and references, 1 floats.
fn class(ty: ValType) -> usize {
    usize::from(ty.is_float())
}

/// A type of the parser as ours.
fn value_type(ty: wasmparser::ValType) -> Result<ValType> {
    crate::module::value_type(ty).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported {
            proposal: "unknown",
            detail: format!("values of type {ty}"),
        })
    })
}

/// A body that cannot be read: it was not validated.
fn unreadable(error: wasmparser::BinaryReaderError) -> Error {
    Error::new(ErrorKind::Malformed {
        reason: error.message().to_string(),
        offset: usize::try_from(error.offset()).unwrap_or(usize::MAX),
    })
}
