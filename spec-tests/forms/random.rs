//! Random programs: nested expressions and statements over parameters, locals, globals and memory.
//!
//! Every loop is guarded by a counter and calls go only to functions with smaller numbers, so that all
//! programs end; those that take too long for the evaluator are left out.

use super::harness::Group;
use super::language::{Expr, Function, Stmt};
use super::operators::{BINARY, Binary, LOADS, STORES, Ty, UNARY, Unary};
use super::shapes::{
    Random, arguments, group_with_helpers, standard_locals, standard_params, value,
};

/// A group of random functions.
pub fn build(seed: u64) -> Group {
    let random = &mut Random::new(seed);
    let mut group = group_with_helpers(format!("random-{seed}"));
    for _ in 0..60 {
        let result = random.one_of(&Ty::ALL);
        let mut locals = standard_locals();
        // Counters of loops come after the standard locals; one for each nesting level.
        locals.extend([Ty::I32; LOOP_DEPTH as usize]);
        let mut writer = Writer {
            random,
            group: &group,
            loops: 0,
            labels: 0,
        };
        let body = writer.stmts(3);
        let value = writer.expr(result, 4);
        let tail = matches!(value, Expr::Call(..) | Expr::CallIndirect { .. });
        let function = Function {
            params: standard_params(),
            locals,
            result,
            body,
            value,
            tail,
        };
        let arguments = arguments(random, 4, false);
        group.test("random".to_owned(), function, arguments);
    }
    group
}

const LOOP_DEPTH: u32 = 3;
const FIRST_COUNTER: u32 = 20;

struct Writer<'a> {
    random: &'a mut Random,
    group: &'a Group,
    /// Loops around the present place.
    loops: u32,
    /// Labels without a value around the present place.
    labels: u32,
}

impl Writer<'_> {
    /// A local of a type that is not a loop counter.
    fn local(&mut self, ty: Ty) -> u32 {
        let number = self.random.below(5) as u32;
        if number < 3 {
            ty as u32 * 3 + number
        } else {
            12 + ty as u32 * 2 + number - 3
        }
    }

    fn binary(&mut self, result: Ty) -> &'static Binary {
        loop {
            let op = &BINARY[self.random.below(BINARY.len())];
            // The sign of a NaN is not determined: nothing may copy it.
            if op.result == result && !op.name.contains("copysign") {
                return op;
            }
        }
    }

    fn unary(&mut self, result: Ty) -> &'static Unary {
        loop {
            let op = &UNARY[self.random.below(UNARY.len())];
            // The bits of a NaN are not determined: nothing may look at them.
            let shows_bits = op.name.contains("reinterpret_f");
            if op.result == result && !shows_bits {
                return op;
            }
        }
    }

    /// An address that is often in bounds.
    fn address(&mut self, depth: u32) -> Expr {
        if self.random.once_in(8) {
            return self.expr(Ty::I32, depth);
        }
        let mask = self.random.one_of(&[0xff, 0xfff, 0x7fff]);
        let address = self.expr(Ty::I32, depth);
        let masked = Expr::op("i32.and", address, Expr::i32(mask));
        match self.random.below(3) {
            0 => Expr::op("i32.add", masked, Expr::i32(16)),
            1 => {
                let other = Expr::op("i32.and", Expr::Local(self.local(Ty::I32)), Expr::i32(63));
                Expr::op("i32.add", other, masked)
            }
            _ => masked,
        }
    }

    fn expr(&mut self, ty: Ty, depth: u32) -> Expr {
        if depth == 0 {
            return match self.random.below(5) {
                0 => Expr::Const(ty, value(self.random, ty)),
                1 => Expr::Global(ty as u32),
                _ => Expr::Local(self.local(ty)),
            };
        }
        let depth = depth - 1;
        match self.random.below(24) {
            0..=7 => {
                let op = self.binary(ty);
                let a = self.expr(op.operand, depth);
                // Divisors are mostly not zero, or few programs would get far.
                let b = if (op.name.contains("div") || op.name.contains("rem")) && !ty.is_float() {
                    let b = self.expr(op.operand, depth);
                    let one = Expr::Const(op.operand, 1);
                    Expr::op(&format!("{}.or", op.operand.name()), b, one)
                } else {
                    self.expr(op.operand, depth)
                };
                Expr::binary(op, a, b)
            }
            8..=10 => {
                let mut op = self.unary(ty);
                // Most truncations that can trap would.
                while op.name.contains("trunc_f") && !self.random.once_in(10) {
                    op = self.unary(ty);
                }
                let a = self.expr(op.operand, depth);
                Expr::unary(op, a)
            }
            11 | 12 => {
                let list: Vec<_> = LOADS.iter().filter(|op| op.result == ty).collect();
                let op = self.random.one_of(&list);
                let offset = self.random.one_of(&[0, 4, 100, 30_000]);
                let address = self.address(depth);
                Expr::load(op, offset, address)
            }
            13 | 14 => {
                let a = self.expr(ty, depth);
                let b = self.expr(ty, depth);
                let condition = self.expr(Ty::I32, depth);
                Expr::select(a, b, condition)
            }
            15 | 16 => {
                let condition = self.expr(Ty::I32, depth);
                let labels = std::mem::replace(&mut self.labels, 0);
                let then = self.expr(ty, depth);
                let otherwise = self.expr(ty, depth);
                self.labels = labels;
                Expr::if_else(ty, condition, then, otherwise)
            }
            17 | 18 => {
                // Labels around the block are not used from inside: their numbers would shift.
                let labels = std::mem::replace(&mut self.labels, 0);
                let mut stmts = self.stmts(depth.min(2));
                if self.random.once_in(2) {
                    let value = self.expr(ty, depth);
                    let condition = self.expr(Ty::I32, depth);
                    stmts.push(Stmt::BrIfValue(0, value, condition));
                }
                let value = self.expr(ty, depth);
                self.labels = labels;
                Expr::Block(ty, stmts, Box::new(value))
            }
            19 => {
                let local = self.local(ty);
                let value = self.expr(ty, depth);
                Expr::tee(local, value)
            }
            20 | 21 => self.call(ty, depth),
            22 if ty == Ty::I32 => Expr::MemorySize,
            _ => self.expr(ty, 0),
        }
    }

    /// A call of an earlier function with the wanted result.
    fn call(&mut self, ty: Ty, depth: u32) -> Expr {
        let group = self.group;
        let fitting: Vec<usize> = (0..group.functions.len())
            .filter(|index| group.functions[*index].result == ty)
            .collect();
        let callee = self.random.one_of(&fitting);
        let params = &group.functions[callee].params;
        let depth = if params.len() > 3 {
            depth.min(1)
        } else {
            depth
        };
        let arguments = params.iter().map(|ty| self.expr(*ty, depth)).collect();
        if self.random.once_in(3) {
            let like = callee as u32;
            let index = if self.random.once_in(6) {
                Expr::i32(self.random.below(group.functions.len() + 2) as i32)
            } else {
                Expr::i32(callee as i32)
            };
            // An index beyond the earlier functions could lead to recursion; the table ends with the
            // functions of the whole group, and the evaluator bounds the depth.
            Expr::CallIndirect {
                like,
                arguments,
                index: Box::new(index),
            }
        } else {
            Expr::Call(callee as u32, arguments)
        }
    }

    fn stmts(&mut self, depth: u32) -> Vec<Stmt> {
        let count = 1 + self.random.below(4);
        (0..count).map(|_| self.stmt(depth)).collect()
    }

    fn stmt(&mut self, depth: u32) -> Stmt {
        if depth == 0 {
            let ty = self.random.one_of(&Ty::ALL);
            let local = self.local(ty);
            return Stmt::Set(local, self.expr(ty, 1));
        }
        let depth = depth - 1;
        match self.random.below(16) {
            0..=4 => {
                let ty = self.random.one_of(&Ty::ALL);
                let local = self.local(ty);
                Stmt::Set(local, self.expr(ty, depth + 1))
            }
            5 => {
                let ty = self.random.one_of(&Ty::ALL);
                Stmt::SetGlobal(ty as u32, self.expr(ty, depth + 1))
            }
            6 | 7 => {
                // Only integers are stored: the bits of a computed NaN are not determined.
                let list: Vec<_> = STORES.iter().filter(|op| !op.operand.is_float()).collect();
                let op = self.random.one_of(&list);
                let offset = self.random.one_of(&[0, 8, 1000]);
                let address = self.address(depth);
                let value = self.expr(op.operand, depth + 1);
                Stmt::Store(op, offset, address, value)
            }
            8 | 9 => {
                let condition = self.expr(Ty::I32, depth + 1);
                self.labels += 1;
                let then = self.stmts(depth);
                let otherwise = if self.random.once_in(2) {
                    self.stmts(depth)
                } else {
                    Vec::new()
                };
                self.labels -= 1;
                Stmt::If(condition, then, otherwise)
            }
            10 => {
                self.labels += 1;
                let stmts = self.stmts(depth);
                self.labels -= 1;
                Stmt::Block(stmts)
            }
            11 | 12 if self.loops < LOOP_DEPTH => {
                let counter = FIRST_COUNTER + self.loops;
                let rounds = self.random.one_of(&[1, 2, 5, 10]);
                self.loops += 1;
                // The loop's own label would start a round without counting: branches from inside go past it.
                let labels = std::mem::replace(&mut self.labels, 0);
                let mut stmts = self.stmts(depth);
                self.labels = labels;
                self.loops -= 1;
                let counted = Expr::op("i32.add", Expr::Local(counter), Expr::i32(1));
                let again = Expr::op("i32.lt_u", Expr::tee(counter, counted), Expr::i32(rounds));
                stmts.push(Stmt::BrIf(0, again));
                Stmt::Block(vec![Stmt::Set(counter, Expr::i32(0)), Stmt::Loop(stmts)])
            }
            13 if self.labels > 0 => {
                let label = self.random.below(self.labels as usize) as u32;
                Stmt::BrIf(label, self.expr(Ty::I32, depth + 1))
            }
            14 if self.labels > 1 => {
                let labels = self.labels as usize;
                let targets = (0..self.random.below(4))
                    .map(|_| self.random.below(labels) as u32)
                    .collect();
                let default = self.random.below(labels) as u32;
                Stmt::BrTable(targets, default, self.expr(Ty::I32, depth + 1))
            }
            _ => {
                let ty = self.random.one_of(&Ty::ALL);
                Stmt::Drop(self.expr(ty, depth + 1))
            }
        }
    }
}
