//! Validation of function bodies: all of them when the module is loaded, on several threads if that is
//! worth it, or one at a time later.
//!
//! The error reported is always that of the first invalid body in the file, however the work was
//! shared out: bodies are taken in ascending order, and a thread stops only in front of a body that
//! lies behind an error already found.
#![forbid(unsafe_code)]

use super::ModuleInner;
use super::parse::{self, Failure};
use super::proposals::FEATURES;
use super::quick::body;
use crate::error::{Error, ErrorKind};
use crate::watch::Watch;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use wasmparser::{
    BinaryReader, BlockType, FrameKind, FuncToValidate, FuncValidator, FuncValidatorAllocations,
    FunctionBody, Operator, OperatorsReader, ValidatorResources,
};

/// Below this many bytes of bodies a second thread costs more than it brings.
const WORTH_A_THREAD: usize = 256 << 10;

/// What was measured (on two processors); whether more threads gain anything was not.
const MOST_THREADS: usize = 2;

/// Operators between two looks at the watch. One may take and give a thousand values.
const OPERATORS_AT_ONCE: usize = 512;

/// Deepest operand stack of a body. An operator of two bytes may put a thousand values there, and the validator keeps
/// each: without a limit, a file of two megabytes takes gigabytes. Compilers keep dozens.
const MOST_OPERANDS: u32 = 1 << 20;

/// The first byte of a jump table.
const BR_TABLE: u8 = 0x0e;

/// Bodies that a thread takes at once.
const BODIES_AT_ONCE: usize = 32;

/// Bodies of a module and what is needed to validate them.
pub(super) struct Bodies<'a> {
    /// The file.
    pub bytes: &'a [u8],
    /// The module without its bytes.
    pub module: &'a ModuleInner,
    /// Where the bodies are.
    pub ranges: &'a [Range<usize>],
    /// Type index of every defined function.
    pub types: &'a [u32],
    /// What the quick check looks at.
    pub context: &'a body::Context,
    /// When to stop.
    pub watch: &'a Watch,
}

/// Memory that is used again for the next body.
#[derive(Default)]
pub(super) struct Allocations {
    quick: body::Scratch,
    thorough: FuncValidatorAllocations,
}

/// An invalid body: its place among the bodies, and why.
type Invalid = (usize, Failure);

impl Bodies<'_> {
    /// Validates all bodies.
    ///
    /// # Errors
    /// The error of the first body that is invalid.
    pub(super) fn validate_all(&self) -> Result<(), Failure> {
        let bytes = self.ranges.iter().map(Range::len).sum::<usize>();
        let threads = if bytes < WORTH_A_THREAD {
            1
        } else {
            std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS))
        };
        self.validate_on(threads)
    }

    /// Validates all bodies with so many threads, the calling one included.
    pub(super) fn validate_on(&self, threads: usize) -> Result<(), Failure> {
        let work = Work {
            next: AtomicUsize::new(0),
            first_invalid: AtomicUsize::new(usize::MAX),
            invalid: Mutex::new(None),
        };
        let whole = std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..threads)
                .map_while(|_| {
                    // No thread to be had is no error: the calling thread does the work.
                    std::thread::Builder::new()
                        .name("validate".to_owned())
                        .spawn_scoped(scope, || self.take_part(&work))
                        .ok()
                })
                .collect();
            self.take_part(&work);
            // All helpers are joined, also behind one that panicked.
            let mut whole = true;
            for helper in helpers {
                whole &= helper.join().is_ok();
            }
            whole
        });
        let invalid = work
            .invalid
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        match invalid {
            Some((_, failure)) => Err(failure),
            None if !whole => {
                Err(Error::msg("the validator panicked: a defect of this engine").into())
            }
            None => Ok(()),
        }
    }

    fn take_part(&self, work: &Work) {
        let mut allocations = Allocations::default();
        loop {
            let start = work.next.fetch_add(BODIES_AT_ONCE, Ordering::Relaxed);
            let end = start.saturating_add(BODIES_AT_ONCE).min(self.ranges.len());
            if start >= end {
                return;
            }
            if let Err(error) = self.watch.check() {
                // In front of what is known to be invalid.
                work.report((start, error.into()));
                return;
            }
            for place in start..end {
                if place > work.first_invalid.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(failure) = self.validate(place, &mut allocations) {
                    work.report((place, failure));
                    return;
                }
            }
        }
    }

    /// Validates one body by its place among the bodies.
    ///
    /// # Errors
    /// The body is invalid or there is none at this place.
    pub(super) fn validate(
        &self,
        place: usize,
        allocations: &mut Allocations,
    ) -> Result<(), Failure> {
        let absent = || Error::usage(format!("the module has no function body {place}"));
        let range = self.ranges.get(place).ok_or_else(absent)?;
        let ty = self.types.get(place).ok_or_else(absent)?;
        let body = self.bytes.get(range.clone()).ok_or_else(absent)?;
        let scratch = &mut allocations.quick;
        if body::accepts(self.module, self.context, body, *ty, scratch, self.watch) {
            return Ok(());
        }
        self.watch.check()?;
        let start = u64::try_from(range.start).map_err(|_| absent())?;
        let index = self.module.imported_funcs.saturating_add(place);
        let index = u32::try_from(index).map_err(|_| absent())?;
        let body = FunctionBody::new(BinaryReader::new_features(body, start, FEATURES));
        let function = FuncToValidate {
            resources: self.resources()?,
            index,
            ty: *ty,
            features: FEATURES,
        };
        let mut validator = function.into_validator(std::mem::take(&mut allocations.thorough));
        self.validate_thoroughly(&mut validator, &body)?;
        allocations.thorough = validator.into_allocations();
        Ok(())
    }

    /// As `FuncValidator::validate`, with looks at the watch.
    fn validate_thoroughly(
        &self,
        validator: &mut FuncValidator<&ValidatorResources>,
        body: &FunctionBody<'_>,
    ) -> Result<(), Failure> {
        let mut reader = body.get_binary_reader();
        validator.read_locals(&mut reader)?;
        reader.set_features(FEATURES);
        let mut count = 0usize;
        while !reader.eof() {
            count = count.wrapping_add(1);
            if count.is_multiple_of(OPERATORS_AT_ONCE) {
                self.watch.check()?;
                check_operands(validator)?;
            }
            let at = reader.original_position();
            if self.bytes.get(parse::offset(at)) == Some(&BR_TABLE) {
                self.check_table(validator, &reader)?;
            }
            reader.visit_operator(&mut validator.visitor(at))??;
        }
        reader.finish_expression(&validator.visitor(reader.original_position()))?;
        Ok(())
    }

    /// An error if the jump table that comes next has so many targets that take so many values along that checking them
    /// would take long: it is one operator, and the watch is not looked at within it.
    fn check_table(
        &self,
        validator: &FuncValidator<&ValidatorResources>,
        reader: &BinaryReader<'_>,
    ) -> Result<(), Failure> {
        let Operator::BrTable { targets } = OperatorsReader::new(reader.clone()).read()? else {
            return Ok(());
        };
        let frame = usize::try_from(targets.default())
            .ok()
            .and_then(|depth| validator.get_control_frame(depth));
        // A depth or type that does not exist is for the validator to say.
        let arity = match frame.map(|frame| (frame.block_type, frame.kind)) {
            Some((BlockType::FuncType(ty), kind)) => {
                let ty = usize::try_from(ty)
                    .ok()
                    .and_then(|ty| self.module.types.get(ty));
                ty.map_or(0, |ty| match kind {
                    FrameKind::Loop => ty.params().len(),
                    _ => ty.results().len(),
                })
            }
            _ => 1,
        };
        let count = usize::try_from(targets.len()).unwrap_or(usize::MAX);
        let values = count.saturating_mul(arity);
        if arity > 1 && values > body::MOST_TABLE_VALUES {
            return Err(Error::new(ErrorKind::Limit {
                what: format!(
                    "values that the {count} targets of the jump table at byte {:#x} take along",
                    reader.original_position()
                ),
                needed: values as u64,
                allowed: body::MOST_TABLE_VALUES as u64,
            })
            .into());
        }
        Ok(())
    }

    /// What the validator needs for a body. The first caller reads the sections of the file again.
    fn resources(&self) -> Result<&ValidatorResources, Failure> {
        if let Some(resources) = self.module.resources.get() {
            return Ok(resources);
        }
        let resources = parse::resources(self.bytes)?;
        Ok(self.module.resources.get_or_init(|| resources))
    }
}

/// An error if the operand stack is deeper than a body may make it.
fn check_operands(validator: &FuncValidator<&ValidatorResources>) -> Result<(), Failure> {
    let height = validator.operand_stack_height();
    if height <= MOST_OPERANDS {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Limit {
        what: format!("operands on the stack of function {}", validator.index()),
        needed: height.into(),
        allowed: MOST_OPERANDS.into(),
    })
    .into())
}

/// What the threads share.
struct Work {
    /// The next body that nobody has taken.
    next: AtomicUsize,
    /// Place of the first invalid body found so far.
    first_invalid: AtomicUsize,
    invalid: Mutex<Option<Invalid>>,
}

impl Work {
    fn report(&self, found: Invalid) {
        self.first_invalid.fetch_min(found.0, Ordering::Relaxed);
        let mut invalid = self.invalid.lock().unwrap_or_else(PoisonError::into_inner);
        if invalid.as_ref().is_none_or(|(place, _)| found.0 < *place) {
            *invalid = Some(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Engine};
    use crate::error::ErrorKind;
    use crate::module::Module;

    /// A module of `count` functions `() -> (i32)`, those in `invalid` without a result. Big enough
    /// that validation is shared out.
    fn functions(count: usize, invalid: &[usize]) -> Vec<u8> {
        let padding = " nop".repeat(1_000);
        let bodies: String = (0..count)
            .map(|place| {
                let result = if invalid.contains(&place) {
                    "i64.const 1"
                } else {
                    "i32.const 1"
                };
                format!("(func (result i32) {padding} {result})")
            })
            .collect();
        wat::parse_str(format!("(module {bodies})")).unwrap()
    }

    fn unvalidated(bytes: &[u8]) -> Module {
        let engine = Engine::new(Config {
            lazy_validation: true,
            ..Config::default()
        });
        Module::new(&engine, bytes).unwrap()
    }

    #[test]
    fn the_first_error_in_the_file_is_reported_however_many_threads_there_are() {
        let bytes = functions(1_000, &[233, 234, 500, 999]);
        let module = unvalidated(&bytes);
        let watch = Watch::default();
        let bodies = module.0.bodies_of(&module.0.bytes, &watch);
        let expected = &module.0.bodies[233];
        for threads in [1, 2, 3, 8] {
            for _ in 0..25 {
                let Err(Failure::Wasm(error)) = bodies.validate_on(threads) else {
                    panic!("{threads} threads found nothing")
                };
                let place = usize::try_from(error.offset()).unwrap();
                assert!(expected.contains(&place), "{threads} threads: {place:#x}");
                assert!(error.message().contains("type mismatch"), "{error}");
            }
        }
    }

    #[test]
    fn an_error_is_found_wherever_it_is() {
        for invalid in [0, 31, 32, 33, 299] {
            let bytes = functions(300, &[invalid]);
            let module = unvalidated(&bytes);
            assert!(bytes.len() > WORTH_A_THREAD);
            let range = &module.0.bodies[invalid];
            let error = Module::new(&Engine::default(), &bytes).unwrap_err();
            let ErrorKind::Malformed { offset, .. } = error.kind() else {
                panic!("{error}")
            };
            assert!(range.contains(offset), "{invalid}: {offset:#x}");
        }
        assert!(Module::new(&Engine::default(), &functions(300, &[])).is_ok());
    }

    #[test]
    fn a_body_that_keeps_a_thousand_operands_for_each_operator_is_refused() {
        let results = "i32 ".repeat(1_000);
        let text = |calls: usize| {
            let calls = "call 0 ".repeat(calls);
            format!(
                "(module (import \"m\" \"f\" (func (result {results}))) (func {calls} unreachable))"
            )
        };
        let bytes = wat::parse_str(text(100_000)).unwrap();
        let error = Module::new(&Engine::default(), &bytes).unwrap_err();
        let ErrorKind::Limit {
            needed, allowed, ..
        } = error.kind()
        else {
            panic!("{error}")
        };
        // It was noticed before the stack had grown much deeper.
        assert!(needed > allowed && *needed < 2 * allowed, "{error}");
        assert!(error.to_string().contains("function 1"), "{error}");
        assert!(Module::new(&Engine::default(), &wat::parse_str(text(1_000)).unwrap()).is_ok());
    }

    #[test]
    fn every_body_is_validated_exactly_by_its_own_type() {
        // The same body under two types: only the place tells which type it must have.
        let text = "(module
            (import \"m\" \"a\" (func (result i64)))
            (import \"m\" \"b\" (func (result i64)))
            (func (result i32) i32.const 0)
            (func (param i32) (result i32) local.get 0))";
        let module = unvalidated(&wat::parse_str(text).unwrap());
        let watch = Watch::default();
        let bodies = module.0.bodies_of(&module.0.bytes, &watch);
        assert!(bodies.validate_on(1).is_ok());
        let swapped: Vec<u32> = bodies.types.iter().rev().copied().collect();
        let swapped = Bodies {
            types: &swapped,
            ..bodies
        };
        assert!(swapped.validate_on(1).is_err());
    }
}
