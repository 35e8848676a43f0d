//! Random graphs of 1 to 8 libraries: started, opened and closed at random, every reference compared with an independent
//! model of symbol resolution after each step.
//!
//! A program has a main module that may need libraries and preload some; libraries define functions and data under a few
//! names that all share, and want them to call, by address, and as data, weakly or not. They are opened `RTLD_NOW` or
//! `RTLD_LAZY`, local or global, with `RTLD_NOLOAD` and `RTLD_NODELETE`; opened again; closed; symbols are looked for by
//! handle and in the global scope. A load that fails must leave no trace and fail again in the same words.

pub mod generate;
pub mod model;

use dynlink::link::{LibraryInfo, MemoryFiles, OpenFlags, Process, Profile, RTLD_DEFAULT};
use dynlink::{Engine, Instance, Module, Ref, Store, Val};
use generate::{Kind, Library, Random};
use model::{Bound, Copy, Flags, Model};
use std::collections::BTreeMap;

/// What happened in all programs together.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub programs: u64,
    pub not_started: u64,
    pub opened: u64,
    pub refused: u64,
    pub closed: u64,
    pub compared: u64,
    /// Functions that were found at a call.
    pub late: u64,
}

/// Steps of one program.
const STEPS: usize = 12;

struct Program {
    store: Store<()>,
    process: Process<()>,
    model: Model,
    /// Open handles and what they are of.
    handles: Vec<(usize, u32)>,
}

/// Runs the program of a seed.
///
/// # Panics
/// The linker and the model differ.
pub fn run(seed: u64, counts: &mut Counts) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let count = 1 + random.below(8);
    let mut libraries: Vec<Library> = (0..=count)
        .map(|_| Library::random(&mut random, count))
        .collect();
    if !random.one_in(3) {
        // Most programs start alone, so that there is something to open.
        let main = &mut libraries[0];
        main.needed.clear();
        (main.calls, main.pointers, main.data) = Default::default();
    }
    let preloaded: Vec<usize> = match random.one_in(6) {
        true => vec![1 + random.below(count)],
        false => Vec::new(),
    };
    let bind_now = !random.one_in(4);
    let mut files = MemoryFiles::new();
    for (number, library) in libraries.iter().enumerate().skip(1) {
        files.insert(&format!("/lib/{number}.so"), library.bytes(number));
    }
    let mut builder = Process::builder()
        .profile(Profile {
            bind_now,
            ..Profile::default()
        })
        .files(files)
        .library_path("/lib");
    for library in &preloaded {
        builder = builder.preload(format!("{library}.so"));
    }
    let process = builder.build();
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let main = Module::new(&engine, &libraries[0].bytes(0)).expect("the main module is valid");
    let started = process.start(&mut store, &main, "/0.so");
    counts.programs += 1;
    let Some(model) = Model::start(libraries, &preloaded, bind_now) else {
        assert!(started.is_err(), "the program started, but must not");
        assert!(process.libraries().is_empty());
        counts.not_started += 1;
        return;
    };
    started.expect("the program starts");
    let mut program = Program {
        store,
        process,
        model,
        handles: Vec::new(),
    };
    program.compare(counts);
    for _ in 0..STEPS {
        program.step(&mut random, count, counts);
        program.compare(counts);
    }
}

impl Program {
    fn step(&mut self, random: &mut Random, count: usize, counts: &mut Counts) {
        if !self.handles.is_empty() && random.one_in(3) {
            let place = random.below(self.handles.len());
            let (library, handle) = self.handles.swap_remove(place);
            self.process
                .dlclose(&mut self.store, handle)
                .expect("an open handle can be closed");
            self.model.close(library);
            counts.closed += 1;
            return;
        }
        let library = 1 + random.below(count);
        let flags = Flags {
            global: random.one_in(3),
            lazy: !random.one_in(3),
            noload: random.one_in(10),
            nodelete: random.one_in(30),
        };
        let mut given = if flags.lazy {
            OpenFlags::LAZY
        } else {
            OpenFlags::NOW
        };
        given.set(OpenFlags::GLOBAL, flags.global);
        given.set(OpenFlags::NOLOAD, flags.noload);
        given.set(OpenFlags::NODELETE, flags.nodelete);
        let name = format!("{library}.so");
        let before = self.libraries();
        let opened = self.process.dlopen(&mut self.store, Some(&name), given);
        match (opened, self.model.open(library, flags)) {
            (Ok(handle), true) => {
                self.handles.push((library, handle));
                counts.opened += 1;
            }
            (Err(error), false) => {
                assert_eq!(self.libraries(), before, "library {library}: {error}");
                let again = self.process.dlopen(&mut self.store, Some(&name), given);
                let again = again.expect_err("the same load fails again");
                assert_eq!(again.to_string(), error.to_string());
                assert_eq!(self.libraries(), before);
                counts.refused += 1;
            }
            (Ok(_), false) => {
                panic!("library {library} was opened with {flags:?}, but must not be")
            }
            (Err(error), true) => panic!("library {library}, {flags:?}: {error}"),
        }
    }

    fn libraries(&self) -> Vec<LibraryInfo> {
        self.process.libraries()
    }

    fn call(&mut self, instance: Instance, name: &str) -> Option<i32> {
        let func = instance
            .get_func(&mut self.store, name)
            .unwrap_or_else(|| panic!("no function {name}"));
        let mut results = [Val::I32(0)];
        func.call(&mut self.store, &[], &mut results).ok()?;
        results[0].i32()
    }

    fn call_slot(&mut self, slot: i32) -> Option<i32> {
        let table = self.process.table().expect("there is a table");
        let Some(Ref::Func(Some(func))) = table.get(&mut self.store, slot as u32 as u64) else {
            return None;
        };
        let mut results = [Val::I32(0)];
        func.call(&mut self.store, &[], &mut results).ok()?;
        results[0].i32()
    }

    fn read(&self, address: i32) -> i32 {
        let mut bytes = [0; 4];
        let memory = self.process.memory().expect("there is a memory");
        memory
            .read(&self.store, address as u32 as usize, &mut bytes)
            .expect("data lies within the memory");
        i32::from_le_bytes(bytes)
    }

    /// Compares every binding of every library, and every symbol by handle and in the global scope, with the model's.
    fn compare(&mut self, counts: &mut Counts) {
        let libraries = self.libraries();
        let mut numbers: Vec<usize> = libraries.iter().map(number_of).collect();
        numbers.sort_unstable();
        let expected: Vec<usize> = self.model.loaded.keys().copied().collect();
        assert_eq!(numbers, expected, "what is loaded");
        let mut addresses: BTreeMap<(Copy, usize), i32> = BTreeMap::new();
        let mut one_address = |copy: Copy, symbol: usize, address: i32| {
            let known = *addresses.entry((copy, symbol)).or_insert(address);
            assert_eq!(
                address, known,
                "one address for symbol {symbol} of {copy:?}"
            );
        };
        for library in &libraries {
            let number = number_of(library);
            let loaded = self.model.loaded[&number].clone();
            assert_eq!(library.opens as usize, loaded.opens, "handles of {number}");
            let global = self.model.global.contains(&number);
            assert_eq!(library.global, global, "whether {number} is global");
            let instance = library.instance.expect("a loaded library is an instance");
            for (symbol, bound) in &loaded.calls {
                let definer = self.model.call(number, *symbol);
                counts.late += u64::from(*bound == Bound::NotYet && definer.is_some());
                let expected = definer.map(|(definer, _)| value(definer, *symbol));
                let found = self.call(instance, &format!("call{symbol}"));
                assert_eq!(found, expected, "what {number} calls as symbol {symbol}");
            }
            for (symbol, bound) in &loaded.pointers {
                let pointer = self
                    .call(instance, &format!("pointer{symbol}"))
                    .expect("no trap");
                let Bound::To(copy) = bound else {
                    assert_eq!(pointer, 0);
                    continue;
                };
                let found = self.call_slot(pointer);
                assert_eq!(
                    found,
                    Some(value(copy.0, *symbol)),
                    "where {number} points as symbol {symbol}"
                );
                one_address(*copy, *symbol, pointer);
            }
            for (symbol, bound) in &loaded.data {
                let address = self
                    .call(instance, &format!("data{symbol}"))
                    .expect("no trap");
                let Bound::To(copy) = bound else {
                    assert_eq!(address, 0);
                    continue;
                };
                let found = self.read(address);
                assert_eq!(
                    found,
                    value(copy.0, *symbol),
                    "data of {number}, symbol {symbol}"
                );
                one_address(*copy, *symbol, address);
            }
            counts.compared +=
                (loaded.calls.len() + loaded.pointers.len() + loaded.data.len()) as u64;
        }
        let scopes = self
            .handles
            .iter()
            .map(|(library, handle)| (self.model.closure(*library), *handle));
        let scopes: Vec<_> = scopes
            .chain([(self.model.global.clone(), RTLD_DEFAULT)])
            .collect();
        for (order, handle) in scopes {
            for symbol in 0..generate::SYMBOLS {
                let found = self
                    .process
                    .dlsym(&mut self.store, handle, &format!("s{symbol}"));
                let found = found.ok().map(|address| address as i32);
                let Some((definer, kind)) = self.model.first(&order, symbol) else {
                    assert_eq!(found, None, "symbol {symbol} of handle {handle}");
                    continue;
                };
                let address = found
                    .unwrap_or_else(|| panic!("symbol {symbol} of handle {handle} is missing"));
                let holds = match kind {
                    Kind::Function => self.call_slot(address),
                    Kind::Data => Some(self.read(address)),
                };
                assert_eq!(
                    holds,
                    Some(value(definer, symbol)),
                    "symbol {symbol} of handle {handle}"
                );
                one_address((definer, self.model.loaded[&definer].load), symbol, address);
                counts.compared += 1;
            }
        }
    }
}

fn value(library: usize, symbol: usize) -> i32 {
    (100 * library + symbol) as i32
}

fn number_of(library: &LibraryInfo) -> usize {
    let name = library.path.rsplit('/').next().unwrap_or_default();
    name.trim_end_matches(".so").parse().expect("a number")
}
