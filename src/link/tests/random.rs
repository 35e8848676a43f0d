//! Random graphs of libraries, opened and closed at random, against an independent model of symbol resolution.
//!
//! `DYNLINK_RANDOM_PROGRAMS=200000` runs more of them.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// A small generator of numbers: the same ones in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

const SYMBOLS: usize = 4;

/// What one library is: number 0 is the main module.
#[derive(Clone, Default, Debug)]
struct Library {
    needed: Vec<usize>,
    defines_function: [bool; SYMBOLS],
    defines_data: [bool; SYMBOLS],
    /// `Some(weak)`.
    wants_function: [Option<bool>; SYMBOLS],
    wants_data: [Option<bool>; SYMBOLS],
}

impl Library {
    fn random(random: &mut Random, count: usize) -> Library {
        let mut library = Library::default();
        for _ in 0..random.below(3) {
            library.needed.push(1 + random.below(count));
        }
        for symbol in 0..SYMBOLS {
            library.defines_function[symbol] = random.one_in(3);
            library.defines_data[symbol] = random.one_in(3);
            library.wants_function[symbol] = random.one_in(2).then(|| !random.one_in(4));
            library.wants_data[symbol] = random.one_in(2).then(|| !random.one_in(4));
        }
        library
    }

    /// Every function of library `l` returns `100 * l + symbol`; its data holds the same.
    fn text(&self, number: usize) -> String {
        let mut info = format!("(mem-info (memory {} 2))", 4 * SYMBOLS);
        if !self.needed.is_empty() {
            let needed: Vec<String> = self
                .needed
                .iter()
                .map(|needed| format!("\"{needed}.so\""))
                .collect();
            info += &format!("(needed {})", needed.join(" "));
        }
        let mut imports = String::new();
        let mut body = String::new();
        for symbol in 0..SYMBOLS {
            let value = 100 * number + symbol;
            if let Some(weak) = self.wants_function[symbol] {
                if weak {
                    info += &format!("(import-info \"env\" \"f{symbol}\" binding-weak undefined)");
                }
                imports += &format!(
                    r#"(import "env" "f{symbol}" (func $f{symbol} (result i32)))
                       (import "GOT.func" "f{symbol}" (global $p{symbol} (mut i32)))"#
                );
                body += &format!(
                    r#"(func (export "call{symbol}") (result i32) (call $f{symbol}))
                       (func (export "pointer{symbol}") (result i32) (global.get $p{symbol}))"#
                );
            }
            if let Some(weak) = self.wants_data[symbol] {
                if weak {
                    info += &format!("(import-info \"env\" \"d{symbol}\" binding-weak undefined)");
                }
                imports +=
                    &format!(r#"(import "GOT.mem" "d{symbol}" (global $d{symbol} (mut i32)))"#);
                body += &format!(
                    r#"(func (export "data{symbol}") (result i32) (global.get $d{symbol}))"#
                );
            }
            if self.defines_function[symbol] {
                body += &format!(r#"(func (export "f{symbol}") (result i32) (i32.const {value}))"#);
            }
            if self.defines_data[symbol] {
                let low = value & 0xff;
                let high = value >> 8;
                body += &format!(
                    r#"(global (export "d{symbol}") i32 (i32.const {}))
                       (data (i32.add (global.get $mb) (i32.const {})) "\{low:02x}\{high:02x}\00\00")"#,
                    4 * symbol,
                    4 * symbol
                );
            }
        }
        if number == 0 {
            let body = body.replace("(global.get $mb)", "(i32.const 2048)");
            let body = (0..SYMBOLS).fold(body, |body, symbol| {
                body.replace(
                    &format!(
                        r#"(global (export "d{symbol}") i32 (i32.const {})"#,
                        4 * symbol
                    ),
                    &format!(
                        r#"(global (export "d{symbol}") i32 (i32.const {})"#,
                        2048 + 4 * symbol
                    ),
                )
            });
            return main_module("", &body);
        }
        let bases =
            r#"(import "env" "memory" (memory 0)) (import "env" "__memory_base" (global $mb i32))"#;
        library(&info, &format!("{bases} {imports} {body}"))
    }
}

/// What the model knows of a loaded library.
#[derive(Clone, Debug, Default)]
struct Loaded {
    /// Definer of each wanted function and datum; `None`: weak and undefined.
    functions: BTreeMap<usize, Option<usize>>,
    data: BTreeMap<usize, Option<usize>>,
    opens: usize,
    needed: Vec<usize>,
}

/// The rules in few words, written without a look at the linker.
struct Model {
    libraries: Vec<Library>,
    loaded: BTreeMap<usize, Loaded>,
    global: Vec<usize>,
}

impl Model {
    fn closure(&self, root: usize) -> Vec<usize> {
        let mut order = vec![root];
        let mut next = 0;
        while next < order.len() {
            for needed in &self.libraries[order[next]].needed {
                if !order.contains(needed) {
                    order.push(*needed);
                }
            }
            next += 1;
        }
        order
    }

    /// Whether the library can be opened.
    fn open(&mut self, root: usize, global: bool) -> bool {
        let scope = self.closure(root);
        let new: Vec<usize> = match self.loaded.contains_key(&root) {
            true => Vec::new(),
            false => scope
                .iter()
                .copied()
                .filter(|library| !self.loaded.contains_key(library))
                .collect(),
        };
        let mut order = self.global.clone();
        if global {
            order.extend(&scope);
        }
        order.extend(&scope);
        let mut added = BTreeMap::new();
        for library in &new {
            let wants = &self.libraries[*library];
            let mut loaded = Loaded {
                needed: wants.needed.clone(),
                ..Loaded::default()
            };
            for symbol in 0..SYMBOLS {
                let function = order
                    .iter()
                    .copied()
                    .find(|other| self.libraries[*other].defines_function[symbol]);
                let data = order
                    .iter()
                    .copied()
                    .find(|other| self.libraries[*other].defines_data[symbol]);
                if let Some(weak) = wants.wants_function[symbol] {
                    if function.is_none() && !weak {
                        return false;
                    }
                    loaded.functions.insert(symbol, function);
                }
                if let Some(weak) = wants.wants_data[symbol] {
                    if data.is_none() && !weak {
                        return false;
                    }
                    loaded.data.insert(symbol, data);
                }
            }
            added.insert(*library, loaded);
        }
        self.loaded.extend(added);
        if global {
            for library in scope {
                if !self.global.contains(&library) {
                    self.global.push(library);
                }
            }
        }
        self.loaded.get_mut(&root).unwrap().opens += 1;
        true
    }

    fn close(&mut self, root: usize) {
        self.loaded.get_mut(&root).unwrap().opens -= 1;
        let mut kept = BTreeSet::new();
        let mut open: Vec<usize> = self
            .loaded
            .iter()
            .filter(|(number, loaded)| **number == 0 || loaded.opens > 0)
            .map(|(number, _)| *number)
            .collect();
        while let Some(number) = open.pop() {
            if kept.insert(number) {
                let loaded = &self.loaded[&number];
                open.extend(&loaded.needed);
                open.extend(loaded.functions.values().flatten());
                open.extend(loaded.data.values().flatten());
            }
        }
        self.loaded.retain(|number, _| kept.contains(number));
        self.global.retain(|number| kept.contains(number));
    }
}

fn number_of(name: &str) -> usize {
    name.trim_end_matches(".so").parse().unwrap_or(0)
}

/// Compares every binding of every library with the model's.
fn compare(world: &mut World, model: &Model) {
    let libraries = world.process.libraries();
    let names: BTreeSet<usize> = libraries
        .iter()
        .map(|library| number_of(&library.name))
        .collect();
    assert_eq!(names, model.loaded.keys().copied().collect());
    let mut addresses: BTreeMap<(usize, usize), i32> = BTreeMap::new();
    for library in &libraries {
        let number = number_of(&library.name);
        let loaded = &model.loaded[&number];
        assert_eq!(library.opens as usize, loaded.opens, "handles of {number}");
        assert_eq!(
            library.global,
            model.global.contains(&number),
            "scope of {number}"
        );
        let instance = library.instance.unwrap();
        let call = |world: &mut World, name: String| {
            let func = instance.get_func(&mut world.store, &name).unwrap();
            world.call_func(func, &[])
        };
        for (symbol, definer) in &loaded.functions {
            let pointer = call(world, format!("pointer{symbol}")).unwrap();
            match definer {
                Some(definer) => {
                    let expected = (100 * definer + symbol) as i32;
                    assert_eq!(call(world, format!("call{symbol}")).unwrap(), expected);
                    assert_eq!(world.call_slot(pointer as u32, &[]).unwrap(), expected);
                    let known = *addresses.entry((*definer, *symbol)).or_insert(pointer);
                    assert_eq!(pointer, known, "one address for each function");
                }
                None => {
                    assert_eq!(pointer, 0);
                    assert!(call(world, format!("call{symbol}")).is_err());
                }
            }
        }
        for (symbol, definer) in &loaded.data {
            let address = call(world, format!("data{symbol}")).unwrap();
            match definer {
                Some(definer) => {
                    assert_eq!(world.read(address as u32), (100 * definer + symbol) as i32);
                }
                None => assert_eq!(address, 0),
            }
        }
    }
}

fn run_program(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let count = 1 + random.below(8);
    let mut libraries = vec![Library::random(&mut random, count)];
    libraries[0].needed.clear();
    libraries[0].wants_function = Default::default();
    libraries[0].wants_data = Default::default();
    for _ in 0..count {
        libraries.push(Library::random(&mut random, count));
    }
    let texts: Vec<(String, String)> = libraries
        .iter()
        .enumerate()
        .skip(1)
        .map(|(number, library)| (format!("/lib/{number}.so"), library.text(number)))
        .collect();
    let list: Vec<(&str, &str)> = texts
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let mut world = World::started(&libraries[0].text(0), &list);
    let mut model = Model {
        loaded: BTreeMap::from([(0, Loaded::default())]),
        global: vec![0],
        libraries,
    };
    let mut handles: Vec<(usize, u32)> = Vec::new();
    for _ in 0..12 {
        if !handles.is_empty() && random.one_in(3) {
            let (library, handle) = handles.swap_remove(random.below(handles.len()));
            world.process.dlclose(&mut world.store, handle).unwrap();
            model.close(library);
        } else {
            let library = 1 + random.below(count);
            let global = random.one_in(3);
            let mut flags = OpenFlags::NOW;
            flags.set(OpenFlags::GLOBAL, global);
            let before = world.picture();
            let opened = world.open_with(&format!("{library}.so"), flags);
            let expected = model.open(library, global);
            match opened {
                Ok(handle) => {
                    assert!(expected, "library {library} was opened, but must not be");
                    handles.push((library, handle));
                }
                Err(error) => {
                    assert!(!expected, "library {library}: {error}");
                    assert_eq!(world.picture(), before);
                }
            }
        }
        compare(&mut world, &model);
    }
}

#[test]
fn random_programs_resolve_every_symbol_as_an_independent_model_does() {
    let programs = std::env::var("DYNLINK_RANDOM_PROGRAMS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(400);
    for seed in 1..=programs {
        if let Err(panic) = std::panic::catch_unwind(|| run_program(seed)) {
            eprintln!("the program with seed {seed} failed");
            std::panic::resume_unwind(panic);
        }
    }
}
