//! Builds modules from groups of functions, runs them in the engine and compares every result, trap,
//! global and byte of memory with the evaluator's.

use super::evaluate::{PAGE, Stop, World};
use super::language::{Function, print_type};
use super::operators::Ty;
use dynlink::{Engine, Error, Extern, Func, Instance, Module, Store, Trap, TrapCode, Val};
use std::fmt::Write;

/// Most pages of a group's memory.
pub const MEMORY_MAXIMUM: usize = 3;

/// Nested calls that the evaluator follows.
const DEPTH: u32 = 60;

/// Functions that become one module, and what they are called with.
#[derive(Default)]
pub struct Group {
    pub name: String,
    pub functions: Vec<Function>,
    /// Function, what it tests, arguments of each call.
    pub calls: Vec<Call>,
    /// How many of the functions the torture test repeats.
    pub most_repeated: usize,
}

/// Calls of one function.
pub struct Call {
    pub function: u32,
    pub label: String,
    pub arguments: Vec<Vec<u64>>,
}

/// Values of the globals before the first call, one of each type.
pub const GLOBALS: [(Ty, u64); 4] = [
    (Ty::I32, 0x1234_5678),
    (Ty::I64, 0xfedc_ba98_7654_3210),
    (Ty::F32, 0x4049_0fdb),
    (Ty::F64, 0xc005_bf0a_8b14_5769),
];

/// The memory before the first call: every byte differs from its neighbours.
pub fn memory_pattern() -> Vec<u8> {
    (0..PAGE).map(|i| (i ^ (i >> 7) ^ 0x5a) as u8).collect()
}

impl Group {
    pub fn new(name: impl Into<String>) -> Group {
        Group {
            name: name.into(),
            most_repeated: usize::MAX,
            ..Group::default()
        }
    }

    /// Adds a function and calls of it.
    pub fn test(&mut self, label: String, function: Function, arguments: Vec<Vec<u64>>) -> u32 {
        let index = self.functions.len() as u32;
        self.functions.push(function);
        if !arguments.is_empty() {
            self.calls.push(Call {
                function: index,
                label,
                arguments,
            });
        }
        index
    }

    /// The module in the text format.
    pub fn print(&self) -> String {
        let mut text = format!(
            "(module\n(memory (export \"memory\") 1 {MEMORY_MAXIMUM})\n(memory (export \"other\") 1 1)\n"
        );
        for (index, (ty, bits)) in GLOBALS.iter().enumerate() {
            let name = ty.name();
            let constant = match ty {
                Ty::I32 => format!("i32.const {}", *bits as i32),
                Ty::I64 => format!("i64.const {}", *bits as i64),
                Ty::F32 => format!("f32.const {:e}", f32::from_bits(*bits as u32)),
                Ty::F64 => format!("f64.const {:e}", f64::from_bits(*bits)),
            };
            put(
                &mut text,
                format_args!("(global (export \"g{index}\") (mut {name}) ({constant}))\n"),
            );
        }
        for (index, function) in self.functions.iter().enumerate() {
            text += &function.print(&format!("f{index}"), &self.functions);
        }
        let count = self.functions.len();
        put(
            &mut text,
            format_args!(
                "(table (export \"table\") {count} {count} funcref) (elem (i32.const 0) func"
            ),
        );
        for index in 0..count {
            put(&mut text, format_args!(" {index}"));
        }
        text += ")\n";
        for like in self.signatures() {
            self.print_repeater(&mut text, like);
        }
        text += ")\n";
        text
    }

    /// One function of each type that is called.
    fn signatures(&self) -> Vec<u32> {
        let mut found: Vec<u32> = Vec::new();
        for call in &self.calls {
            let function = &self.functions[call.function as usize];
            let known = found
                .iter()
                .any(|like| self.functions[*like as usize].same_type(function));
            if !known {
                found.push(call.function);
            }
        }
        found
    }

    /// A function that calls another one through the table again and again: (index, count, arguments…).
    fn print_repeater(&self, text: &mut String, like: u32) {
        let function = &self.functions[like as usize];
        put(
            text,
            format_args!("(func (export \"repeat{like}\") (param i32 i32)"),
        );
        print_type(text, &function.params, None);
        text.push_str(" (loop (drop (call_indirect");
        print_type(text, &function.params, Some(function.result));
        for index in 0..function.params.len() {
            put(text, format_args!(" (local.get {})", index + 2));
        }
        text.push_str(" (local.get 0)))");
        text.push_str(" (br_if 0 (local.tee 1 (i32.sub (local.get 1) (i32.const 1))))))\n");
    }

    /// The module's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let text = self.print();
        wat::parse_str(&text).map_err(|error| format!("group {}: {error}\n{text}", self.name))
    }

    /// The evaluator's side of a new instance.
    pub fn world(&self) -> World<'_> {
        World {
            functions: &self.functions,
            globals: GLOBALS.iter().map(|(_, bits)| *bits).collect(),
            memory: memory_pattern(),
            other: memory_pattern(),
            memory_maximum: MEMORY_MAXIMUM,
            table: (0..self.functions.len() as u32).collect(),
            steps_left: 0,
            depth: 0,
        }
    }
}

/// `write!` to a string, which cannot fail.
fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).unwrap_or_default();
}

/// A value for the engine.
pub fn to_val(ty: Ty, bits: u64) -> Val {
    match ty {
        Ty::I32 => Val::I32(bits as u32 as i32),
        Ty::I64 => Val::I64(bits as i64),
        Ty::F32 => Val::F32(bits as u32),
        Ty::F64 => Val::F64(bits),
    }
}

/// The pattern of a value from the engine, `None` for references.
pub fn from_val(value: Val) -> Option<u64> {
    Some(match value {
        Val::I32(value) => u64::from(value as u32),
        Val::I64(value) => value as u64,
        Val::F32(bits) => u64::from(bits),
        Val::F64(bits) => bits,
        Val::FuncRef(_) | Val::ExternRef(_) => return None,
    })
}

/// An instance of a group in the engine.
pub struct Running {
    pub store: Store<()>,
    pub instance: Instance,
    pub memory: dynlink::Memory,
    pub other: dynlink::Memory,
}

impl Running {
    pub fn new(engine: &Engine, bytes: &[u8]) -> Result<Running, Error> {
        let module = Module::new(engine, bytes)?;
        let mut store = Store::new(engine, ());
        if engine.config().fuel {
            store.set_fuel(u64::MAX / 2)?;
        }
        let instance = Instance::new(&mut store, &module, &[])?;
        let mut memory = |name: &str| -> Result<dynlink::Memory, Error> {
            let memory = instance.get_memory(&mut store, name);
            let memory = memory.ok_or_else(|| Error::msg("no memory"))?;
            memory.write(&mut store, 0, &memory_pattern())?;
            Ok(memory)
        };
        let (memory, other) = (memory("memory")?, memory("other")?);
        Ok(Running {
            store,
            instance,
            memory,
            other,
        })
    }

    pub fn func(&mut self, name: &str) -> Result<Func, Error> {
        self.instance
            .get_func(&mut self.store, name)
            .ok_or_else(|| Error::msg(format!("no function `{name}`")))
    }

    fn globals(&mut self) -> Vec<u64> {
        (0..GLOBALS.len())
            .map(|index| {
                let global = self
                    .instance
                    .get_export(&mut self.store, &format!("g{index}"));
                global
                    .and_then(Extern::into_global)
                    .and_then(|global| from_val(global.get(&mut self.store)))
                    .unwrap_or_default()
            })
            .collect()
    }
}

/// Number of comparisons made, and the differences found.
#[derive(Default)]
pub struct Report {
    pub compared: usize,
    /// Accesses out of bounds that both engines told of in the same words.
    pub places: usize,
    pub differences: Vec<String>,
}

/// Calls every function of the group with all its arguments and compares; with another engine, also what both say of a
/// trap, which tells its place.
pub fn compare(engine: &Engine, reference: Option<&Engine>, group: &Group, bytes: &[u8]) -> Report {
    let mut report = Report::default();
    let both = Running::new(engine, bytes).and_then(|running| {
        let reference = reference.map(|engine| Running::new(engine, bytes));
        Ok((running, reference.transpose()?))
    });
    let (mut running, mut reference) = match both {
        Ok(both) => both,
        Err(error) => {
            report
                .differences
                .push(format!("{}: cannot instantiate: {error}", group.name));
            return report;
        }
    };
    let mut world = group.world();
    for call in &group.calls {
        let function = &group.functions[call.function as usize];
        let func = match running.func(&format!("f{}", call.function)) {
            Ok(func) => func,
            Err(error) => {
                report.differences.push(format!("{}: {error}", call.label));
                continue;
            }
        };
        for arguments in &call.arguments {
            world.steps_left = 200_000;
            world.depth = DEPTH;
            let before = (
                world.memory.clone(),
                world.other.clone(),
                world.globals.clone(),
            );
            let expected = match world.call(call.function, arguments) {
                Ok(value) => Ok(value),
                Err(Stop::Trap(code)) => Err(code),
                Err(_) => {
                    // Too long to evaluate: as if it had never been called.
                    (world.memory, world.other, world.globals) = before;
                    continue;
                }
            };
            let values: Vec<Val> = function
                .params
                .iter()
                .zip(arguments)
                .map(|(ty, bits)| to_val(*ty, *bits))
                .collect();
            let mut results = [to_val(function.result, 0)];
            let found = func.call(&mut running.store, &values, &mut results);
            report.compared += 1;
            let elsewhere = reference.as_mut().and_then(|reference| {
                let name = format!("f{}", call.function);
                let mut results = [to_val(function.result, 0)];
                let func = reference.func(&name);
                let told =
                    func.and_then(|func| func.call(&mut reference.store, &values, &mut results));
                if expected == Err(TrapCode::MemoryOutOfBounds) {
                    report.places += 1;
                }
                let [here, there] =
                    [&found, &told].map(|told| told.as_ref().map_err(Error::to_string));
                (here != there).then(|| format!("it told {here:?}, the other engine {there:?}"))
            });
            let difference = difference(function.result, expected, found.map(|()| results[0]))
                .or_else(|| state_difference(&mut running, &world))
                .or(elsewhere);
            if let Some(difference) = difference {
                report.differences.push(format!(
                    "{} [{}]: arguments {}: {difference}\n    {}",
                    group.name,
                    call.label,
                    print_arguments(&function.params, arguments),
                    shortened(&function.print("f", &group.functions))
                ));
                if report.differences.len() >= 20 || !resynchronise(&mut running, &world) {
                    report.differences.push(format!("{}: given up", group.name));
                    return report;
                }
            }
        }
    }
    report
}

/// The beginning and the end of a long function.
fn shortened(text: &str) -> String {
    let text = text.trim_end();
    match (
        text.get(..300),
        text.get(text.len().saturating_sub(2_000)..),
    ) {
        (Some(head), Some(tail)) if text.len() > 2_500 => format!("{head} ... {tail}"),
        _ => text.to_owned(),
    }
}

fn print_arguments(types: &[Ty], arguments: &[u64]) -> String {
    let parts: Vec<String> = types
        .iter()
        .zip(arguments)
        .map(|(ty, bits)| format!("{}:{bits:#x}", ty.name()))
        .collect();
    parts.join(" ")
}

fn difference(
    ty: Ty,
    expected: Result<u64, TrapCode>,
    found: Result<Val, Error>,
) -> Option<String> {
    match (expected, found) {
        (Ok(expected), Ok(found)) => match from_val(found) {
            Some(found) if ty.same(expected, found) => None,
            _ => Some(format!("expected {expected:#x}, got {found:x?}")),
        },
        (Err(expected), Err(error)) => match error.trap().map(Trap::code) {
            Some(code) if code == expected => None,
            _ => Some(format!("expected trap {expected:?}, got {error}")),
        },
        (Ok(expected), Err(error)) => Some(format!("expected {expected:#x}, got error {error}")),
        (Err(expected), Ok(found)) => Some(format!("expected trap {expected:?}, got {found:x?}")),
    }
}

fn state_difference(running: &mut Running, world: &World<'_>) -> Option<String> {
    let globals = running.globals();
    let both = [
        (running.memory, &world.memory),
        (running.other, &world.other),
    ];
    for (number, (memory, expected)) in both.into_iter().enumerate() {
        let found = memory.data(&running.store);
        if found.len() != expected.len() {
            let (expected, found) = (expected.len(), found.len());
            return Some(format!(
                "expected {expected} bytes of memory {number}, found {found}"
            ));
        }
        if found != expected.as_slice() {
            let position = found.iter().zip(expected).position(|(a, b)| a != b)?;
            let end = (position + 8).min(found.len());
            return Some(format!(
                "memory {number} differs at {position:#x}: expected {:02x?}, found {:02x?}",
                &expected[position..end],
                &found[position..end]
            ));
        }
    }
    let differs = (0..GLOBALS.len()).find(|index| {
        !GLOBALS[*index]
            .0
            .same(world.globals[*index], globals[*index])
    })?;
    Some(format!(
        "global {differs}: expected {:#x}, found {:#x}",
        world.globals[differs], globals[differs]
    ))
}

/// Gives the engine the evaluator's state after a difference, so that one defect is reported once.
fn resynchronise(running: &mut Running, world: &World<'_>) -> bool {
    for (index, (ty, _)) in GLOBALS.iter().enumerate() {
        let global = running
            .instance
            .get_global(&mut running.store, &format!("g{index}"));
        let value = to_val(*ty, world.globals[index]);
        if global.is_none_or(|global| global.set(&mut running.store, value).is_err()) {
            return false;
        }
    }
    running.memory.data_size(&running.store) == world.memory.len()
        && running
            .memory
            .write(&mut running.store, 0, &world.memory)
            .is_ok()
        && running
            .other
            .write(&mut running.store, 0, &world.other)
            .is_ok()
}

/// Runs every function of the group `count` times inside one run of the engine, so that a handler that
/// leaves something on the native stack exhausts it. Gives how many functions ran to the end.
pub fn torture(engine: &Engine, group: &Group, bytes: &[u8], count: u32) -> Result<usize, String> {
    let mut running = Running::new(engine, bytes).map_err(|error| error.to_string())?;
    let signatures = group.signatures();
    let (mut completed, mut started) = (0, 0);
    for call in group.calls.iter().take(group.most_repeated) {
        let function = &group.functions[call.function as usize];
        let like = signatures
            .iter()
            .find(|like| group.functions[**like as usize].same_type(function))
            .ok_or("a function without a repeater")?;
        let returns = |arguments: &&Vec<u64>| {
            let mut world = group.world();
            (world.steps_left, world.depth) = (2_000, DEPTH);
            world.call(call.function, arguments).is_ok()
        };
        let Some(arguments) = call.arguments.iter().find(returns) else {
            continue;
        };
        let mut values = vec![Val::I32(call.function as i32), Val::I32(count as i32)];
        values.extend(
            function
                .params
                .iter()
                .zip(arguments)
                .map(|(ty, bits)| to_val(*ty, *bits)),
        );
        let repeat = running
            .func(&format!("repeat{like}"))
            .map_err(|error| error.to_string())?;
        started += 1;
        match repeat.call(&mut running.store, &values, &mut []) {
            Ok(()) => completed += 1,
            // Repetition changes memory and globals, so that a later round may divide by zero or
            // call another element.
            Err(error) => match error.trap().map(Trap::code) {
                Some(
                    TrapCode::IntegerDivideByZero
                    | TrapCode::IntegerOverflow
                    | TrapCode::MemoryOutOfBounds
                    | TrapCode::UndefinedElement
                    | TrapCode::IndirectCallTypeMismatch
                    | TrapCode::BadConversionToInteger,
                ) => {}
                _ => return Err(format!("{} [{}]: {error}", group.name, call.label)),
            },
        }
    }
    if completed * 10 < started * 9 {
        return Err(format!(
            "{}: only {completed} of {started} functions ran to the end",
            group.name
        ));
    }
    Ok(completed)
}
