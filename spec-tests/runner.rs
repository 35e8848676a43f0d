//! Runs a `.wast` script against the library's public API.
//!
//! A script is a list of directives: modules to instantiate, calls, and assertions about them. Every
//! assertion is counted; those that only exercise the text parser (the `wast` crate rejects the text
//! before the engine sees a module) are counted apart, so that they cannot pass for engine tests.
//! A panic of the engine is a failure of the directive that caused it and ends the script.

use dynlink::{
    Engine, Error, ErrorKind, Extern, FuncType, Global, GlobalType, Instance, Linker, Memory,
    MemoryType, Module, Ref, RefType, Store, Table, TableType, TrapCode, Val, ValType,
};
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use wast::core::{AbstractHeapType, HeapType, NanPattern, WastArgCore, WastRetCore};
use wast::token::Id;
use wast::{
    QuoteWat, Wast, WastArg, WastDirective, WastExecute, WastInvoke, WastRet, Wat,
    parser::ParseBuffer,
};

/// What running one script gave.
#[derive(Default)]
pub struct Outcome {
    /// Assertions that the engine decided.
    pub assertions: usize,
    /// Assertions that the text parser decided.
    pub text_assertions: usize,
    /// Lines of failed directives with what was expected and found.
    pub failures: Vec<(usize, String)>,
    /// Lines of skipped directives that failed, as expected of them.
    pub skipped: BTreeSet<usize>,
}

/// Why a directive did not hold: expected and found.
type Verdict = Result<(), String>;

/// Runs a script. `skips` are the lines of directives that are known to fail; one that passes is a failure.
pub fn run_script(engine: &Engine, text: &str, skips: &BTreeSet<usize>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut lexer = wast::lexer::Lexer::new(text);
    lexer.allow_confusing_unicode(true);
    let buffer = match ParseBuffer::new_with_lexer(lexer) {
        Ok(buffer) => buffer,
        Err(error) => {
            outcome
                .failures
                .push((0, format!("the script does not lex: {error}")));
            return outcome;
        }
    };
    let script = match wast::parser::parse::<Wast>(&buffer) {
        Ok(script) => script,
        Err(error) => {
            outcome
                .failures
                .push((0, format!("the script does not parse: {error}")));
            return outcome;
        }
    };
    let lines = LineIndex::new(text);
    let mut context = match Context::new(engine) {
        Ok(context) => context,
        Err(error) => {
            outcome
                .failures
                .push((0, format!("the host module `spectest`: {error}")));
            return outcome;
        }
    };
    for directive in script.directives {
        let line = lines.line(directive.span().offset());
        let text_before = context.text_assertions;
        let is_assertion = is_assertion(&directive);
        let verdict = catch_unwind(AssertUnwindSafe(|| context.run(directive)));
        let (verdict, panicked) = match verdict {
            Ok(verdict) => (verdict, false),
            Err(panic) => (Err(format!("panicked: {}", panic_text(&*panic))), true),
        };
        if is_assertion && context.text_assertions == text_before {
            outcome.assertions += 1;
        }
        match (verdict, skips.contains(&line)) {
            (Ok(()), false) => {}
            (Ok(()), true) => outcome.failures.push((
                line,
                "passes, but the skip list says that it fails: remove it there".to_owned(),
            )),
            (Err(_), true) => {
                outcome.skipped.insert(line);
            }
            (Err(why), false) => outcome.failures.push((line, why)),
        }
        if panicked {
            break;
        }
    }
    outcome.text_assertions = context.text_assertions;
    outcome
}

fn is_assertion(directive: &WastDirective<'_>) -> bool {
    !matches!(
        directive,
        WastDirective::Module(_)
            | WastDirective::ModuleDefinition(_)
            | WastDirective::ModuleInstance { .. }
            | WastDirective::Register { .. }
            | WastDirective::Invoke(_)
            | WastDirective::Thread(_)
            | WastDirective::Wait { .. }
    )
}

/// The message of a panic.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "no message".to_owned())
}

/// Byte offsets of line starts, to find the line of a span without reading the text again.
struct LineIndex(Vec<usize>);

impl LineIndex {
    fn new(text: &str) -> LineIndex {
        let starts = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(offset, _)| offset + 1);
        LineIndex(std::iter::once(0).chain(starts).collect())
    }

    /// The line of an offset, counted from 1.
    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

/// What the directives of a script act on.
struct Context {
    engine: Engine,
    store: Store<()>,
    linker: Linker<()>,
    /// Instances by the name that the script gave them.
    instances: HashMap<String, Instance>,
    /// The instance that directives without a name mean.
    current: Option<Instance>,
    /// Modules of `module definition`, by name.
    definitions: HashMap<String, Module>,
    last_definition: Option<Module>,
    text_assertions: usize,
}

impl Context {
    fn new(engine: &Engine) -> Result<Context, Error> {
        let mut store = Store::new(engine, ());
        if engine.config().fuel {
            // Start functions are metered as well.
            store.set_fuel(u64::MAX / 2)?;
        }
        let mut linker = Linker::new(engine);
        linker.allow_shadowing(true);
        define_spectest(&mut store, &mut linker)?;
        Ok(Context {
            engine: engine.clone(),
            store,
            linker,
            instances: HashMap::new(),
            current: None,
            definitions: HashMap::new(),
            last_definition: None,
            text_assertions: 0,
        })
    }

    fn run(&mut self, directive: WastDirective<'_>) -> Verdict {
        match directive {
            WastDirective::Module(mut module) => {
                let name = module.name();
                let module = self.load(&mut module)?;
                self.instantiate(name, &module)
            }
            WastDirective::ModuleDefinition(mut module) => {
                let name = module.name();
                let module = self.load(&mut module)?;
                if let Some(name) = name {
                    self.definitions
                        .insert(name.name().to_owned(), module.clone());
                }
                self.last_definition = Some(module);
                Ok(())
            }
            WastDirective::ModuleInstance {
                instance, module, ..
            } => {
                let module = match module {
                    Some(name) => self.definitions.get(name.name()).cloned(),
                    None => self.last_definition.clone(),
                };
                let module = module.ok_or("no such module definition")?;
                self.instantiate(instance, &module)
            }
            WastDirective::Register { name, module, .. } => {
                let instance = self.instance(module)?;
                self.linker
                    .instance(&mut self.store, name, instance)
                    .map(drop)
                    .map_err(|error| format!("cannot register `{name}`: {error}"))
            }
            WastDirective::Invoke(invoke) => self
                .invoke(&invoke)?
                .map(drop)
                .map_err(|error| format!("expected a normal return, got: {error}")),
            WastDirective::AssertReturn { exec, results, .. } => {
                let values = self
                    .execute(exec)?
                    .map_err(|error| format!("expected a normal return, got: {error}"))?;
                check_results(&values, &results)
            }
            WastDirective::AssertTrap { exec, message, .. } => match self.execute(exec)? {
                Ok(values) => Err(format!("expected trap `{message}`, got {values:?}")),
                Err(error) => check_trap(&error, message),
            },
            WastDirective::AssertExhaustion { call, message, .. } => match self.invoke(&call)? {
                Ok(values) => Err(format!("expected `{message}`, got {values:?}")),
                Err(error) => match error.trap() {
                    Some(trap) if trap.code() == TrapCode::StackOverflow => Ok(()),
                    _ => Err(format!("expected `{message}`, got: {error}")),
                },
            },
            WastDirective::AssertInvalid {
                module, message, ..
            }
            | WastDirective::AssertMalformed {
                module, message, ..
            } => self.expect_rejected(module, message),
            WastDirective::AssertMalformedCustom {
                module, message, ..
            }
            | WastDirective::AssertInvalidCustom {
                module, message, ..
            } => self.expect_rejected_by_text_parser(module, message),
            WastDirective::AssertUnlinkable {
                module, message, ..
            } => self.expect_unlinkable(module, message),
            WastDirective::AssertException { .. } => Err("exceptions are not supported".into()),
            WastDirective::AssertSuspension { .. } => {
                Err("stack switching is not supported".into())
            }
            WastDirective::Thread(_) | WastDirective::Wait { .. } => {
                Err("threads are not supported".into())
            }
        }
    }

    /// Encodes and loads a module that is expected to be valid.
    fn load(&self, module: &mut QuoteWat<'_>) -> Result<Module, String> {
        let bytes = module
            .encode()
            .map_err(|error| format!("the text parser rejects the module: {error}"))?;
        Module::new(&self.engine, &bytes)
            .map_err(|error| format!("expected a valid module, got: {error}"))
    }

    fn instantiate(&mut self, name: Option<Id<'_>>, module: &Module) -> Verdict {
        let instance = self
            .linker
            .instantiate(&mut self.store, module)
            .map_err(|error| format!("expected an instance, got: {error}"))?;
        if let Some(name) = name {
            self.instances.insert(name.name().to_owned(), instance);
        }
        self.current = Some(instance);
        Ok(())
    }

    fn instance(&self, name: Option<Id<'_>>) -> Result<Instance, String> {
        match name {
            Some(name) => self.instances.get(name.name()).copied(),
            None => self.current,
        }
        .ok_or_else(|| "the script names an instance that was not created".to_owned())
    }

    /// Runs something that gives values. The outer error is a defect of the script or the runner.
    fn execute(&mut self, execute: WastExecute<'_>) -> Result<Result<Vec<Val>, Error>, String> {
        match execute {
            WastExecute::Invoke(invoke) => self.invoke(&invoke),
            WastExecute::Wat(module) => {
                let module = self.load(&mut QuoteWat::Wat(module))?;
                let instance = self.linker.instantiate(&mut self.store, &module);
                Ok(instance.map(|_| Vec::new()))
            }
            WastExecute::Get { module, global, .. } => {
                let instance = self.instance(module)?;
                let global = instance
                    .get_global(&mut self.store, global)
                    .ok_or_else(|| format!("no exported global `{global}`"))?;
                Ok(Ok(vec![global.get(&mut self.store)]))
            }
        }
    }

    fn invoke(&mut self, invoke: &WastInvoke<'_>) -> Result<Result<Vec<Val>, Error>, String> {
        let instance = self.instance(invoke.module)?;
        let func = instance
            .get_func(&mut self.store, invoke.name)
            .ok_or_else(|| format!("no exported function `{}`", invoke.name))?;
        let arguments = invoke
            .args
            .iter()
            .map(argument)
            .collect::<Result<Vec<Val>, String>>()?;
        let ty = func.ty(&self.store);
        let mut results: Vec<Val> = ty
            .results()
            .iter()
            .map(|ty| Val::default_for(*ty))
            .collect();
        if self.engine.config().fuel {
            self.store
                .set_fuel(u64::MAX / 2)
                .map_err(|error| format!("cannot set the fuel: {error}"))?;
        }
        let outcome = func.call(&mut self.store, &arguments, &mut results);
        Ok(outcome.map(|()| results))
    }

    fn expect_rejected(&mut self, mut module: QuoteWat<'_>, message: &str) -> Verdict {
        let Ok(bytes) = module.encode() else {
            self.text_assertions += 1;
            return Ok(());
        };
        match Module::new(&self.engine, &bytes) {
            Ok(_) => Err(format!(
                "expected the module to be rejected (`{message}`), but it was accepted"
            )),
            Err(_) => Ok(()),
        }
    }

    /// Annotations exist only in the text format: nothing is left for the engine to reject.
    fn expect_rejected_by_text_parser(
        &mut self,
        mut module: QuoteWat<'_>,
        message: &str,
    ) -> Verdict {
        self.text_assertions += 1;
        match module.encode() {
            Ok(_) => Err(format!(
                "expected the text parser to reject the module (`{message}`)"
            )),
            Err(_) => Ok(()),
        }
    }

    fn expect_unlinkable(&mut self, module: Wat<'_>, message: &str) -> Verdict {
        let module = self.load(&mut QuoteWat::Wat(module))?;
        match self.linker.instantiate(&mut self.store, &module) {
            Ok(_) => Err(format!(
                "expected the module not to link (`{message}`), but it was instantiated"
            )),
            // Since bulk-memory operations a segment out of bounds is a trap of the instantiation.
            Err(error) if message.ends_with("segment does not fit") => match error.trap() {
                Some(trap)
                    if matches!(
                        trap.code(),
                        TrapCode::MemoryOutOfBounds | TrapCode::TableOutOfBounds
                    ) =>
                {
                    Ok(())
                }
                _ => Err(format!("expected `{message}`, got: {error}")),
            },
            Err(error) => match error.kind() {
                ErrorKind::Import { .. } | ErrorKind::Link(_) => Ok(()),
                _ => Err(format!(
                    "expected an import error (`{message}`), got: {error}"
                )),
            },
        }
    }
}

/// Whether an error is a trap whose text begins with `message` or the other way round: some scripts
/// name the element (`uninitialized element 7`), some give only the first words (`out of bounds`).
fn check_trap(error: &Error, message: &str) -> Verdict {
    let Some(trap) = error.trap() else {
        return Err(format!("expected trap `{message}`, got: {error}"));
    };
    let text = trap.code().text();
    if text.starts_with(message) || message.starts_with(text) {
        Ok(())
    } else {
        Err(format!("expected trap `{message}`, got trap `{text}`"))
    }
}

fn argument(argument: &WastArg<'_>) -> Result<Val, String> {
    let WastArg::Core(argument) = argument else {
        return Err("components are not supported".to_owned());
    };
    Ok(match argument {
        WastArgCore::I32(value) => Val::I32(*value),
        WastArgCore::I64(value) => Val::I64(*value),
        WastArgCore::F32(value) => Val::F32(value.bits),
        WastArgCore::F64(value) => Val::F64(value.bits),
        WastArgCore::RefNull(heap) => match reference_type(heap) {
            Some(RefType::Func) => Val::FuncRef(None),
            Some(RefType::Extern) => Val::ExternRef(None),
            None => return Err(format!("references of type {heap:?} are not supported")),
        },
        WastArgCore::RefExtern(number) => Val::ExternRef(Some(*number)),
        other => return Err(format!("arguments such as {other:?} are not supported")),
    })
}

fn reference_type(heap: &HeapType<'_>) -> Option<RefType> {
    match heap {
        HeapType::Abstract { shared: false, ty } => match ty {
            AbstractHeapType::Func | AbstractHeapType::NoFunc => Some(RefType::Func),
            AbstractHeapType::Extern | AbstractHeapType::NoExtern => Some(RefType::Extern),
            _ => None,
        },
        _ => None,
    }
}

fn check_results(values: &[Val], expected: &[WastRet<'_>]) -> Verdict {
    if values.len() != expected.len() {
        return Err(format!(
            "expected {} results, got {values:?}",
            expected.len()
        ));
    }
    for (position, (value, expected)) in values.iter().zip(expected).enumerate() {
        let WastRet::Core(expected) = expected else {
            return Err("components are not supported".to_owned());
        };
        if !matches(value, expected)? {
            return Err(format!(
                "expected result {position} to be {expected:x?}, got {value:x?}"
            ));
        }
    }
    Ok(())
}

fn matches(value: &Val, expected: &WastRetCore<'_>) -> Result<bool, String> {
    Ok(match (expected, value) {
        (WastRetCore::I32(expected), Val::I32(value)) => expected == value,
        (WastRetCore::I64(expected), Val::I64(value)) => expected == value,
        (WastRetCore::F32(expected), Val::F32(bits)) => match expected {
            NanPattern::CanonicalNan => bits & 0x7fff_ffff == 0x7fc0_0000,
            NanPattern::ArithmeticNan => bits & 0x7fc0_0000 == 0x7fc0_0000,
            NanPattern::Value(expected) => expected.bits == *bits,
        },
        (WastRetCore::F64(expected), Val::F64(bits)) => match expected {
            NanPattern::CanonicalNan => bits & 0x7fff_ffff_ffff_ffff == 0x7ff8_0000_0000_0000,
            NanPattern::ArithmeticNan => bits & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
            NanPattern::Value(expected) => expected.bits == *bits,
        },
        (WastRetCore::RefNull(None), Val::FuncRef(None) | Val::ExternRef(None)) => true,
        (WastRetCore::RefNull(Some(heap)), Val::FuncRef(None)) => {
            reference_type(heap) == Some(RefType::Func)
        }
        (WastRetCore::RefNull(Some(heap)), Val::ExternRef(None)) => {
            reference_type(heap) == Some(RefType::Extern)
        }
        (WastRetCore::RefExtern(None), Val::ExternRef(Some(_))) => true,
        (WastRetCore::RefExtern(Some(expected)), Val::ExternRef(Some(number))) => {
            expected == number
        }
        (WastRetCore::RefFunc(None), Val::FuncRef(Some(_))) => true,
        (WastRetCore::Either(cases), _) => {
            for case in cases {
                if matches(value, case)? {
                    return Ok(true);
                }
            }
            false
        }
        (WastRetCore::V128(_) | WastRetCore::RefFunc(Some(_)), _) => {
            return Err(format!("results such as {expected:?} are not supported"));
        }
        _ => false,
    })
}

/// The host module that the scripts import.
fn define_spectest(store: &mut Store<()>, linker: &mut Linker<()>) -> Result<(), Error> {
    use ValType::{F32, F64, I32, I64};
    let functions: [(&str, &[ValType]); 7] = [
        ("print", &[]),
        ("print_i32", &[I32]),
        ("print_i64", &[I64]),
        ("print_f32", &[F32]),
        ("print_f64", &[F64]),
        ("print_i32_f32", &[I32, F32]),
        ("print_f64_f64", &[F64, F64]),
    ];
    for (name, params) in functions {
        let ty = FuncType::new(params.iter().copied(), []);
        let wanted = ty.params().to_vec();
        linker.func_new("spectest", name, ty, move |_, arguments, _| {
            let found: Vec<ValType> = arguments.iter().map(Val::ty).collect();
            if found == wanted {
                Ok(())
            } else {
                Err(Error::msg(format!("got {found:?}, expected {wanted:?}")))
            }
        })?;
    }
    let globals = [
        ("global_i32", Val::I32(666)),
        ("global_i64", Val::I64(666)),
        ("global_f32", Val::from(666.6f32)),
        ("global_f64", Val::from(666.6f64)),
    ];
    for (name, value) in globals {
        let ty = GlobalType {
            value: value.ty(),
            mutable: false,
        };
        let global = Global::new(&mut *store, ty, value)?;
        linker.define(&*store, "spectest", name, Extern::Global(global))?;
    }
    let ty = TableType {
        element: RefType::Func,
        minimum: 10,
        maximum: Some(20),
    };
    let table = Table::new(&mut *store, ty, Ref::Func(None))?;
    linker.define(&*store, "spectest", "table", Extern::Table(table))?;
    let ty = MemoryType {
        minimum: 1,
        maximum: Some(2),
    };
    let memory = Memory::new(&mut *store, ty)?;
    linker.define(&*store, "spectest", "memory", Extern::Memory(memory))?;
    Ok(())
}
