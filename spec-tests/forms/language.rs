//! Functions as trees: what the generators build, printed as text for the engine and walked by the
//! evaluator. Labels are numbers as in WebAssembly: 0 is the innermost block, loop or if.

use super::operators::{Binary, Load, Store, Ty, Unary, binary};
use std::fmt::Write;

/// Something that leaves one value.
#[derive(Clone)]
pub enum Expr {
    Const(Ty, u64),
    Local(u32),
    Tee(u32, Box<Expr>),
    Global(u32),
    Unary(&'static Unary, Box<Expr>),
    Binary(&'static Binary, Box<Expr>, Box<Expr>),
    /// A load with its constant offset.
    Load(&'static Load, u32, Box<Expr>),
    /// A load from the second memory.
    LoadOther(&'static Load, u32, Box<Expr>),
    /// `select`: the first if the third is not zero.
    Select(Box<Expr>, Box<Expr>, Box<Expr>),
    If(Ty, Box<Expr>, Box<Expr>, Box<Expr>),
    /// A block with a result: statements, then a value. A branch to it carries a value.
    Block(Ty, Vec<Stmt>, Box<Expr>),
    /// A loop with a result; a branch to it carries nothing.
    LoopValue(Ty, Vec<Stmt>, Box<Expr>),
    /// Direct call of a function of the module.
    Call(u32, Vec<Expr>),
    /// Call through the table; `like` is the function whose type is expected.
    CallIndirect {
        like: u32,
        arguments: Vec<Expr>,
        index: Box<Expr>,
    },
    MemorySize,
    /// `memory.grow`.
    MemoryGrow(Box<Expr>),
}

/// Something that leaves no value.
#[derive(Clone)]
pub enum Stmt {
    Set(u32, Expr),
    SetGlobal(u32, Expr),
    /// A store: offset, address, value.
    Store(&'static Store, u32, Expr, Expr),
    /// A store to the second memory.
    StoreOther(&'static Store, u32, Expr, Expr),
    Drop(Expr),
    If(Expr, Vec<Stmt>, Vec<Stmt>),
    Block(Vec<Stmt>),
    Loop(Vec<Stmt>),
    Br(u32),
    BrIf(u32, Expr),
    /// Leaves a block that has a result.
    BrValue(u32, Expr),
    /// `br_if` with a value, dropped if not taken: label, value, condition.
    BrIfValue(u32, Expr, Expr),
    /// Labels, default label, index.
    BrTable(Vec<u32>, u32, Expr),
    Return(Expr),
    MemoryFill(Expr, Expr, Expr),
    MemoryCopy(Expr, Expr, Expr),
    Nop,
}

/// A function with one result.
#[derive(Clone)]
pub struct Function {
    pub params: Vec<Ty>,
    pub locals: Vec<Ty>,
    pub result: Ty,
    pub body: Vec<Stmt>,
    pub value: Expr,
    /// Ends in a tail call if `value` is a call.
    pub tail: bool,
}

impl Expr {
    pub fn i32(value: i32) -> Expr {
        Expr::Const(Ty::I32, u64::from(value as u32))
    }

    pub fn binary(op: &'static Binary, a: Expr, b: Expr) -> Expr {
        Expr::Binary(op, Box::new(a), Box::new(b))
    }

    /// A binary operator by its name.
    pub fn op(name: &str, a: Expr, b: Expr) -> Expr {
        Expr::binary(binary(name), a, b)
    }

    pub fn unary(op: &'static Unary, a: Expr) -> Expr {
        Expr::Unary(op, Box::new(a))
    }

    pub fn load(op: &'static Load, offset: u32, address: Expr) -> Expr {
        Expr::Load(op, offset, Box::new(address))
    }

    pub fn tee(local: u32, value: Expr) -> Expr {
        Expr::Tee(local, Box::new(value))
    }

    pub fn select(a: Expr, b: Expr, condition: Expr) -> Expr {
        Expr::Select(Box::new(a), Box::new(b), Box::new(condition))
    }

    pub fn if_else(ty: Ty, condition: Expr, then: Expr, otherwise: Expr) -> Expr {
        Expr::If(ty, Box::new(condition), Box::new(then), Box::new(otherwise))
    }
}

impl Expr {
    /// The same expression with other locals.
    fn with_locals(&self, new: &dyn Fn(u32) -> u32) -> Expr {
        let one = |expr: &Expr| Box::new(expr.with_locals(new));
        let all = |list: &[Expr]| list.iter().map(|expr| expr.with_locals(new)).collect();
        match self {
            Expr::Const(..) | Expr::Global(_) | Expr::MemorySize => self.clone(),
            Expr::Local(local) => Expr::Local(new(*local)),
            Expr::Tee(local, value) => Expr::Tee(new(*local), one(value)),
            Expr::Unary(op, a) => Expr::Unary(op, one(a)),
            Expr::Binary(op, a, b) => Expr::Binary(op, one(a), one(b)),
            Expr::Load(op, offset, address) => Expr::Load(op, *offset, one(address)),
            Expr::LoadOther(op, offset, address) => Expr::LoadOther(op, *offset, one(address)),
            Expr::Select(a, b, c) => Expr::Select(one(a), one(b), one(c)),
            Expr::If(ty, a, b, c) => Expr::If(*ty, one(a), one(b), one(c)),
            Expr::Block(ty, stmts, value) => Expr::Block(*ty, with_locals(stmts, new), one(value)),
            Expr::LoopValue(ty, stmts, value) => {
                Expr::LoopValue(*ty, with_locals(stmts, new), one(value))
            }
            Expr::Call(function, list) => Expr::Call(*function, all(list)),
            Expr::CallIndirect {
                like,
                arguments,
                index,
            } => Expr::CallIndirect {
                like: *like,
                arguments: all(arguments),
                index: one(index),
            },
            Expr::MemoryGrow(delta) => Expr::MemoryGrow(one(delta)),
        }
    }
}

fn with_locals(stmts: &[Stmt], new: &dyn Fn(u32) -> u32) -> Vec<Stmt> {
    stmts.iter().map(|stmt| stmt.with_locals(new)).collect()
}

impl Stmt {
    fn with_locals(&self, new: &dyn Fn(u32) -> u32) -> Stmt {
        let one = |expr: &Expr| expr.with_locals(new);
        match self {
            Stmt::Set(local, value) => Stmt::Set(new(*local), one(value)),
            Stmt::SetGlobal(global, value) => Stmt::SetGlobal(*global, one(value)),
            Stmt::Store(op, offset, a, b) => Stmt::Store(op, *offset, one(a), one(b)),
            Stmt::StoreOther(op, offset, a, b) => Stmt::StoreOther(op, *offset, one(a), one(b)),
            Stmt::Drop(value) => Stmt::Drop(one(value)),
            Stmt::If(condition, then, otherwise) => Stmt::If(
                one(condition),
                with_locals(then, new),
                with_locals(otherwise, new),
            ),
            Stmt::Block(stmts) => Stmt::Block(with_locals(stmts, new)),
            Stmt::Loop(stmts) => Stmt::Loop(with_locals(stmts, new)),
            Stmt::Br(label) => Stmt::Br(*label),
            Stmt::BrIf(label, condition) => Stmt::BrIf(*label, one(condition)),
            Stmt::BrValue(label, value) => Stmt::BrValue(*label, one(value)),
            Stmt::BrIfValue(label, value, condition) => {
                Stmt::BrIfValue(*label, one(value), one(condition))
            }
            Stmt::BrTable(labels, default, index) => {
                Stmt::BrTable(labels.clone(), *default, one(index))
            }
            Stmt::Return(value) => Stmt::Return(one(value)),
            Stmt::MemoryFill(a, b, c) => Stmt::MemoryFill(one(a), one(b), one(c)),
            Stmt::MemoryCopy(a, b, c) => Stmt::MemoryCopy(one(a), one(b), one(c)),
            Stmt::Nop => Stmt::Nop,
        }
    }
}

impl Function {
    /// Whether two functions have one type.
    pub fn same_type(&self, other: &Function) -> bool {
        self.params == other.params && self.result == other.result
    }

    /// The same function with its locals moved far away: `distance` unused ones come first, parameters are
    /// copied at the beginning.
    pub fn with_far_locals(&self, distance: u32) -> Function {
        let first = self.params.len() as u32 + distance;
        let moved = |local: u32| first + local;
        let mut locals = vec![Ty::I64; distance as usize];
        locals.extend(self.params.iter().chain(&self.locals));
        let copies = (0..self.params.len() as u32).map(|k| Stmt::Set(moved(k), Expr::Local(k)));
        let mut body: Vec<Stmt> = copies.collect();
        body.extend(self.body.iter().map(|stmt| stmt.with_locals(&moved)));
        Function {
            params: self.params.clone(),
            locals,
            result: self.result,
            body,
            value: self.value.with_locals(&moved),
            tail: self.tail,
        }
    }

    /// The function in the text format.
    pub fn print(&self, name: &str, functions: &[Function]) -> String {
        let mut out = format!("(func (export \"{name}\")");
        print_type(&mut out, &self.params, Some(self.result));
        if !self.locals.is_empty() {
            out.push_str(" (local");
            for local in &self.locals {
                write(&mut out, format_args!(" {}", local.name()));
            }
            out.push(')');
        }
        let mut printer = Printer { out, functions };
        printer.stmts(&self.body);
        if self.tail {
            printer.tail_call(&self.value);
        } else {
            printer.expr(&self.value);
        }
        printer.out.push_str(")\n");
        printer.out
    }
}

/// `write!` to a string, which cannot fail.
fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).unwrap_or_default();
}

/// Appends ` (param …) (result …)`.
pub fn print_type(out: &mut String, params: &[Ty], result: Option<Ty>) {
    if !params.is_empty() {
        out.push_str(" (param");
        for param in params {
            write(out, format_args!(" {}", param.name()));
        }
        out.push(')');
    }
    if let Some(result) = result {
        write(out, format_args!(" (result {})", result.name()));
    }
}

/// A constant as the text format spells it; floats by their bits, so that NaN payloads survive.
fn print_constant(out: &mut String, ty: Ty, bits: u64) {
    match ty {
        Ty::I32 => write(out, format_args!("(i32.const {})", bits as i32)),
        Ty::I64 => write(out, format_args!("(i64.const {})", bits as i64)),
        Ty::F32 => {
            let value = f32::from_bits(bits as u32);
            let sign = if value.is_sign_negative() { "-" } else { "" };
            if value.is_nan() {
                let payload = bits & 0x7f_ffff;
                write(out, format_args!("(f32.const {sign}nan:{payload:#x})"));
            } else if value.is_infinite() {
                write(out, format_args!("(f32.const {sign}inf)"));
            } else {
                write(out, format_args!("(f32.const {value:e})"));
            }
        }
        Ty::F64 => {
            let value = f64::from_bits(bits);
            let sign = if value.is_sign_negative() { "-" } else { "" };
            if value.is_nan() {
                let payload = bits & 0xf_ffff_ffff_ffff;
                write(out, format_args!("(f64.const {sign}nan:{payload:#x})"));
            } else if value.is_infinite() {
                write(out, format_args!("(f64.const {sign}inf)"));
            } else {
                write(out, format_args!("(f64.const {value:e})"));
            }
        }
    }
}

struct Printer<'a> {
    out: String,
    functions: &'a [Function],
}

impl Printer<'_> {
    fn text(&mut self, text: std::fmt::Arguments<'_>) {
        write(&mut self.out, text);
    }

    fn stmts(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            self.stmt(stmt);
        }
    }

    /// ` (name operands…)`.
    fn node(&mut self, head: std::fmt::Arguments<'_>, operands: &[&Expr]) {
        self.text(format_args!(" ({head}"));
        for operand in operands {
            self.expr(operand);
        }
        self.out.push(')');
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Const(ty, bits) => {
                self.out.push(' ');
                print_constant(&mut self.out, *ty, *bits);
            }
            Expr::Local(local) => self.node(format_args!("local.get {local}"), &[]),
            Expr::Tee(local, value) => self.node(format_args!("local.tee {local}"), &[value]),
            Expr::Global(global) => self.node(format_args!("global.get {global}"), &[]),
            Expr::Unary(op, a) => self.node(format_args!("{}", op.name), &[a]),
            Expr::Binary(op, a, b) => self.node(format_args!("{}", op.name), &[a, b]),
            Expr::Load(op, offset, address) => {
                self.node(format_args!("{} offset={offset}", op.name), &[address]);
            }
            Expr::LoadOther(op, offset, address) => {
                self.node(format_args!("{} 1 offset={offset}", op.name), &[address]);
            }
            Expr::Select(a, b, condition) => self.node(format_args!("select"), &[a, b, condition]),
            Expr::If(ty, condition, then, otherwise) => {
                self.text(format_args!(" (if (result {})", ty.name()));
                self.expr(condition);
                self.out.push_str(" (then");
                self.expr(then);
                self.out.push_str(") (else");
                self.expr(otherwise);
                self.out.push_str("))");
            }
            Expr::Block(ty, stmts, value) => {
                self.text(format_args!(" (block (result {})", ty.name()));
                self.stmts(stmts);
                self.expr(value);
                self.out.push(')');
            }
            Expr::LoopValue(ty, stmts, value) => {
                self.text(format_args!(" (loop (result {})", ty.name()));
                self.stmts(stmts);
                self.expr(value);
                self.out.push(')');
            }
            Expr::Call(function, arguments) => {
                let arguments: Vec<&Expr> = arguments.iter().collect();
                self.node(format_args!("call {function}"), &arguments);
            }
            Expr::CallIndirect {
                like,
                arguments,
                index,
            } => {
                let head = self.indirect("call_indirect", *like);
                let operands: Vec<&Expr> = arguments.iter().chain([&**index]).collect();
                self.node(format_args!("{head}"), &operands);
            }
            Expr::MemorySize => self.node(format_args!("memory.size"), &[]),
            Expr::MemoryGrow(delta) => self.node(format_args!("memory.grow"), &[delta]),
        }
    }

    fn indirect(&self, name: &str, like: u32) -> String {
        let mut head = name.to_owned();
        if let Some(function) = self.functions.get(like as usize) {
            print_type(&mut head, &function.params, Some(function.result));
        }
        head
    }

    fn tail_call(&mut self, expr: &Expr) {
        match expr {
            Expr::Call(function, arguments) => {
                let arguments: Vec<&Expr> = arguments.iter().collect();
                self.node(format_args!("return_call {function}"), &arguments);
            }
            Expr::CallIndirect {
                like,
                arguments,
                index,
            } => {
                let head = self.indirect("return_call_indirect", *like);
                let operands: Vec<&Expr> = arguments.iter().chain([&**index]).collect();
                self.node(format_args!("{head}"), &operands);
            }
            other => self.node(format_args!("return"), &[other]),
        }
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Set(local, value) => self.node(format_args!("local.set {local}"), &[value]),
            Stmt::SetGlobal(global, value) => {
                self.node(format_args!("global.set {global}"), &[value]);
            }
            Stmt::Store(op, offset, address, value) => {
                self.node(
                    format_args!("{} offset={offset}", op.name),
                    &[address, value],
                );
            }
            Stmt::StoreOther(op, offset, address, value) => {
                let head = format_args!("{} 1 offset={offset}", op.name);
                self.node(head, &[address, value]);
            }
            Stmt::Drop(value) => self.node(format_args!("drop"), &[value]),
            Stmt::If(condition, then, otherwise) => {
                self.out.push_str(" (if");
                self.expr(condition);
                self.out.push_str(" (then");
                self.stmts(then);
                self.out.push(')');
                if !otherwise.is_empty() {
                    self.out.push_str(" (else");
                    self.stmts(otherwise);
                    self.out.push(')');
                }
                self.out.push(')');
            }
            Stmt::Block(stmts) => {
                self.out.push_str(" (block");
                self.stmts(stmts);
                self.out.push(')');
            }
            Stmt::Loop(stmts) => {
                self.out.push_str(" (loop");
                self.stmts(stmts);
                self.out.push(')');
            }
            Stmt::Br(label) => self.node(format_args!("br {label}"), &[]),
            Stmt::BrIf(label, condition) => self.node(format_args!("br_if {label}"), &[condition]),
            Stmt::BrValue(label, value) => self.node(format_args!("br {label}"), &[value]),
            Stmt::BrIfValue(label, value, condition) => {
                self.out.push_str(" (drop");
                self.node(format_args!("br_if {label}"), &[value, condition]);
                self.out.push(')');
            }
            Stmt::BrTable(labels, default, index) => {
                let mut head = "br_table".to_owned();
                for label in labels.iter().chain([default]) {
                    write(&mut head, format_args!(" {label}"));
                }
                self.node(format_args!("{head}"), &[index]);
            }
            Stmt::Return(value) => self.node(format_args!("return"), &[value]),
            Stmt::MemoryFill(to, byte, count) => {
                self.node(format_args!("memory.fill"), &[to, byte, count]);
            }
            Stmt::MemoryCopy(to, from, count) => {
                self.node(format_args!("memory.copy"), &[to, from, count]);
            }
            Stmt::Nop => self.out.push_str(" nop"),
        }
    }
}
