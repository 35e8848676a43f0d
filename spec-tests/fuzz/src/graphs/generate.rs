//! Random libraries, and their bytes.

/// A small generator of numbers: the same ones in each run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// Names that libraries define and want.
pub const SYMBOLS: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Function,
    Data,
}

/// What one library is: number 0 is the main module.
#[derive(Clone, Default, Debug)]
pub struct Library {
    pub needed: Vec<usize>,
    pub defines: [Option<Kind>; SYMBOLS],
    /// Wanted as a function to call, as the address of a function, and as data.
    pub calls: [bool; SYMBOLS],
    pub pointers: [bool; SYMBOLS],
    pub data: [bool; SYMBOLS],
    /// References to the name are weak.
    pub weak: [bool; SYMBOLS],
}

impl Library {
    /// A library of a program with `count` others besides the main module. Symbols with even numbers are mostly
    /// functions, the others data.
    pub fn random(random: &mut Random, count: usize) -> Library {
        let mut library = Library::default();
        for _ in 0..random.below(3) {
            library.needed.push(1 + random.below(count));
        }
        for symbol in 0..SYMBOLS {
            let usual = !random.one_in(40);
            let kind = if (symbol % 2 == 0) == usual {
                Kind::Function
            } else {
                Kind::Data
            };
            library.defines[symbol] = random.one_in(4).then_some(kind);
            let wants_function = (symbol % 2 == 0) != random.one_in(60);
            if wants_function {
                library.calls[symbol] = random.one_in(2);
                library.pointers[symbol] = random.one_in(4);
            } else {
                library.data[symbol] = random.one_in(3);
            }
            // What is only called can be found later, if it is not weak.
            let only_called = library.calls[symbol] && !library.pointers[symbol];
            library.weak[symbol] = random.one_in(4) != only_called;
            library.weak[symbol] |= !only_called && random.one_in(2);
        }
        library
    }

    /// The module. Every function of library `number` gives `100 * number + symbol`; its data holds the same. For each
    /// wanted symbol it exports a function that calls it (`call0`), or gives its address (`pointer0`, `data0`).
    pub fn bytes(&self, number: usize) -> Vec<u8> {
        let is_main = number == 0;
        let mut imports = Vec::new();
        let (mut imported_functions, mut imported_globals) = (0, 0);
        if !is_main {
            imports.push([name("env"), name("memory"), vec![2, 0, 0]].concat());
            imports.push([name("env"), name("__memory_base"), vec![3, 0x7f, 0]].concat());
            imports.push(
                [
                    name("env"),
                    name("__indirect_function_table"),
                    vec![1, 0x70, 0, 0],
                ]
                .concat(),
            );
            imported_globals = 1;
        }
        let mut asked = Vec::new();
        for symbol in 0..SYMBOLS {
            let field = name(&format!("s{symbol}"));
            if self.calls[symbol] {
                imports.push([name("env"), field.clone(), vec![0, 0]].concat());
                asked.push((format!("call{symbol}"), 0x10, imported_functions));
                imported_functions += 1;
            }
            let cells = [
                ("GOT.func", "pointer", self.pointers[symbol]),
                ("GOT.mem", "data", self.data[symbol]),
            ];
            for (module, export, _) in cells.into_iter().filter(|(.., wanted)| *wanted) {
                imports.push([name(module), field.clone(), vec![3, 0x7f, 1]].concat());
                asked.push((format!("{export}{symbol}"), 0x23, imported_globals));
                imported_globals += 1;
            }
        }
        let mut exports = Vec::new();
        let mut bodies = Vec::new();
        let mut function = |exported: &str, code: Vec<u8>| {
            exports.push(
                [
                    name(exported),
                    vec![0],
                    leb(imported_functions + bodies.len()),
                ]
                .concat(),
            );
            let body = [vec![0], code, vec![0x0b]].concat();
            bodies.push([leb(body.len()), body].concat());
        };
        for (exported, operator, index) in asked {
            function(&exported, [vec![operator], leb(index)].concat());
        }
        for (symbol, kind) in self.defines.iter().enumerate() {
            if *kind == Some(Kind::Function) {
                function(&format!("s{symbol}"), constant(100 * number + symbol));
            }
        }
        let first = if is_main { MAIN_DATA } else { 0 };
        let mut globals = Vec::new();
        for (symbol, kind) in self.defines.iter().enumerate() {
            if *kind == Some(Kind::Data) {
                let index = imported_globals + globals.len();
                exports.push([name(&format!("s{symbol}")), vec![3], leb(index)].concat());
                globals.push([vec![0x7f, 0], constant(first + 4 * symbol), vec![0x0b]].concat());
            }
        }
        let mut bytes = b"\0asm\x01\0\0\0".to_vec();
        bytes.extend(section(0, self.dylink(is_main)));
        bytes.extend(section(1, list(&[vec![0x60, 0, 1, 0x7f]])));
        bytes.extend(section(2, list(&imports)));
        bytes.extend(section(3, list(&vec![vec![0]; bodies.len()])));
        if is_main {
            bytes.extend(section(4, vec![1, 0x70, 0, 4]));
            bytes.extend(section(5, vec![1, 0, 2]));
            exports.push([name("memory"), vec![2, 0]].concat());
            exports.push([name("__indirect_function_table"), vec![1, 0]].concat());
        }
        bytes.extend(section(6, list(&globals)));
        bytes.extend(section(7, list(&exports)));
        bytes.extend(section(10, list(&bodies)));
        let place = if is_main {
            constant(MAIN_DATA)
        } else {
            vec![0x23, 0]
        };
        let values: Vec<u8> = (0..SYMBOLS)
            .flat_map(|symbol| ((100 * number + symbol) as u32).to_le_bytes())
            .collect();
        let segment = [vec![0], place, vec![0x0b], leb(values.len()), values].concat();
        bytes.extend(section(11, list(&[segment])));
        bytes
    }

    fn dylink(&self, is_main: bool) -> Vec<u8> {
        let size = if is_main { 0 } else { 4 * SYMBOLS };
        let needed: Vec<Vec<u8>> = self
            .needed
            .iter()
            .map(|needed| name(&format!("{needed}.so")))
            .collect();
        let weak: Vec<Vec<u8>> = (0..SYMBOLS)
            .filter(|symbol| self.weak[*symbol])
            .map(|symbol| [name("env"), name(&format!("s{symbol}")), vec![0x11]].concat())
            .collect();
        [
            name("dylink.0"),
            section(1, [leb(size), vec![2, 0, 0]].concat()),
            section(2, list(&needed)),
            section(4, list(&weak)),
        ]
        .concat()
    }
}

/// Where the main module's data lies.
const MAIN_DATA: usize = 2048;

/// A number as LEB128.
fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// `i32.const`, whose number is signed: three bytes are enough for all numbers here.
fn constant(value: usize) -> Vec<u8> {
    let byte = |shift: usize| ((value >> shift) & 0x7f) as u8;
    vec![0x41, byte(0) | 0x80, byte(7) | 0x80, byte(14)]
}

fn name(text: &str) -> Vec<u8> {
    [leb(text.len()), text.into()].concat()
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [leb(items.len()), items.concat()].concat()
}

fn section(id: u8, contents: Vec<u8>) -> Vec<u8> {
    [vec![id], leb(contents.len()), contents].concat()
}
