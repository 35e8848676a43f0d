//! Neighbours that the engine makes one instruction: pairs of operators, comparisons that select, steps, counts in memory,
//! loads that branch, the stack pointer, calls and jumps behind copies, jump tables that end a loop's head.

use super::harness::Group;
use super::language::{Expr, Stmt};
use super::operators::{BINARY, Binary, Ty, load_of, store_of};
use super::shapes::{
    Consumer, Random, address_arguments, arguments, consume, function, global, identity, local,
    param, second,
};

/// Calls of each function: there are many functions.
const FEW: usize = 2;

/// A value in the accumulator, of an operator that is part of no pair.
fn lonely(ty: Ty) -> Expr {
    let name = if ty.is_float() { "div" } else { "rotr" };
    let (a, b) = (Expr::Local(param(ty, 0)), Expr::Local(param(ty, 2)));
    Expr::op(&format!("{}.{name}", ty.name()), a, b)
}

/// A constant that fits the short immediates of pairs.
fn short(random: &mut Random, ty: Ty) -> Expr {
    match ty {
        Ty::I32 => Expr::i32(random.one_of(&[1, 5, 31, -1, -8, 1 << 20])),
        Ty::I64 => Expr::Const(
            ty,
            random.one_of(&[1_i64, 5, 63, -1, -8, i64::from(i32::MIN)]) as u64,
        ),
        Ty::F32 => Expr::Const(ty, u64::from(2.5_f32.to_bits())),
        Ty::F64 => Expr::Const(ty, 2.5_f64.to_bits()),
    }
}

/// Every pair of operators of a type that cannot trap, with all places of the three operands.
pub fn pairs(group: &mut Group, random: &mut Random, ty: Ty) {
    let plain = |op: &&'static Binary| {
        let trapping = ["div", "rem"].iter().any(|part| op.name.contains(part));
        op.operand == ty && op.result == ty && (ty.is_float() || !trapping)
    };
    let operators: Vec<&'static Binary> = BINARY.iter().filter(plain).collect();
    let slot = |k| Expr::Local(param(ty, k));
    for first in &operators {
        for next in &operators {
            for operands in 0..9 {
                let constant = short(random, ty);
                let held = local(ty, 1);
                let (a, b) = match operands {
                    0 => (slot(0), slot(1)),
                    1 => (lonely(ty), slot(1)),
                    2 => (slot(1), lonely(ty)),
                    3 => (slot(0), constant),
                    4 => (lonely(ty), constant),
                    5 => (constant, slot(0)),
                    // A joint of two paths is in a slot, but no local.
                    6 => (
                        Expr::if_else(ty, Expr::Local(param(Ty::I32, 2)), slot(0), slot(1)),
                        constant,
                    ),
                    7 => (constant, lonely(ty)),
                    _ => (Expr::Local(held), constant),
                };
                for third in 0..5 {
                    let inner = Expr::binary(first, a.clone(), b.clone());
                    let pair = match third {
                        0 => Expr::binary(next, inner, slot(2)),
                        1 => Expr::binary(next, inner, short(random, ty)),
                        2 => Expr::binary(next, slot(2), inner),
                        // What was computed right before: a local, or an operand that waits.
                        3 => Expr::binary(next, inner, Expr::Local(held)),
                        _ => Expr::binary(next, lonely(ty), inner),
                    };
                    for consumer in [Consumer::Result, Consumer::Set] {
                        let before = vec![Stmt::Set(held, lonely(ty))];
                        let function = consume(consumer, ty, before, pair.clone());
                        let label = format!("{} then {} {operands} {third}", first.name, next.name);
                        group.test(label, function, arguments(random, FEW, false));
                    }
                }
            }
        }
    }
}

/// Comparisons that select: every integer comparison and bit test with all places of its operands and of the values.
pub fn selects(group: &mut Group, random: &mut Random) {
    for ty in [Ty::I32, Ty::I64] {
        let name = ty.name();
        let comparisons = BINARY
            .iter()
            .filter(|op| op.operand == ty && op.result == Ty::I32);
        let comparisons: Vec<&'static Binary> = comparisons.collect();
        for kind in 0..comparisons.len() + 4 {
            for operands in 0..4 {
                let (a, b) = match operands {
                    0 => (Expr::Local(param(ty, 0)), Expr::Local(param(ty, 1))),
                    1 => (lonely(ty), Expr::Local(param(ty, 1))),
                    2 => (Expr::Local(param(ty, 0)), short(random, ty)),
                    _ => (lonely(ty), short(random, ty)),
                };
                let condition = match comparisons.get(kind) {
                    Some(op) => Expr::binary(op, a, b),
                    // Bit tests: whether a bit that a mask names is set (0) or none (1), and the same of one bit (2, 3).
                    None if kind >= comparisons.len() + 2 => {
                        let shifted = Expr::op(&format!("{name}.shr_u"), a, b);
                        let one = Expr::Const(ty, 1);
                        let bit = Expr::op(&format!("{name}.and"), shifted, one);
                        let eqz = Expr::unary(
                            super::operators::unary(&format!("{name}.eqz")),
                            bit.clone(),
                        );
                        match (ty, kind - comparisons.len()) {
                            (Ty::I32, 2) => bit,
                            (_, 2) => Expr::unary(super::operators::unary("i32.eqz"), eqz),
                            _ => eqz,
                        }
                    }
                    None => {
                        let and = Expr::op(&format!("{name}.and"), a, b);
                        let eqz = super::operators::unary;
                        match (ty, kind - comparisons.len()) {
                            (Ty::I32, 0) => and,
                            (_, 0) => {
                                let none = Expr::unary(eqz("i64.eqz"), and);
                                Expr::unary(eqz("i32.eqz"), none)
                            }
                            _ => Expr::unary(eqz(&format!("{name}.eqz")), and),
                        }
                    }
                };
                for values in 0..5 {
                    let (x, y) = (
                        Expr::Local(param(Ty::I64, 1)),
                        Expr::Local(param(Ty::I64, 2)),
                    );
                    let made = local(Ty::I64, 0);
                    let (x, y) = match values {
                        0 => (x, y),
                        1 => (lonely(Ty::I64), y),
                        2 => (x, lonely(Ty::I64)),
                        3 => (x, Expr::tee(made, lonely(Ty::I64))),
                        _ => (Expr::Const(Ty::I64, 7), Expr::Const(Ty::I64, 9)),
                    };
                    for consumer in [Consumer::Result, Consumer::Set] {
                        let select = Expr::select(x.clone(), y.clone(), condition.clone());
                        let function = consume(consumer, Ty::I64, Vec::new(), select);
                        let label = format!("select {kind} {operands} {values}");
                        group.test(label, function, arguments(random, 4, false));
                    }
                }
            }
        }
    }
}

/// The value of every i32 local, so that a step that went wrong shows.
fn all_locals() -> Expr {
    let locals = (0..3).map(|k| param(Ty::I32, k));
    let locals = locals.chain((0..2).map(|k| local(Ty::I32, k)));
    locals.fold(Expr::i32(1), |sum, local| {
        let sum = Expr::op("i32.mul", sum, Expr::i32(31));
        Expr::op("i32.xor", sum, Expr::Local(local))
    })
}

/// Everything else that becomes one instruction.
pub fn neighbours(group: &mut Group, random: &mut Random) {
    let (a, b, x, y) = (
        param(Ty::I32, 0),
        param(Ty::I32, 1),
        local(Ty::I32, 0),
        local(Ty::I32, 1),
    );
    let get = Expr::Local;
    let add = |local: u32, k: i32| Expr::op("i32.add", get(local), Expr::i32(k));
    let set = Stmt::Set;

    // Two steps; a step of what the first one made; a step behind a sum that was kept as a value.
    for (first, next) in [
        ((a, a), (b, b)),
        ((x, a), (y, x)),
        ((a, b), (b, a)),
        ((x, a), (x, x)),
    ] {
        for (j, k) in [(1, -1), (4, 8), (-16, 1 << 20)] {
            let steps = vec![set(first.0, add(first.1, j)), set(next.0, add(next.1, k))];
            let lists = arguments(random, FEW, false);
            group.test(
                "steps".to_owned(),
                function(Ty::I32, steps.clone(), all_locals()),
                lists,
            );
            let under = Expr::Block(Ty::I32, steps, Box::new(all_locals()));
            let value = Expr::op("i32.sub", add(a, 3), under);
            let lists = arguments(random, FEW, false);
            group.test(
                "steps under a value".to_owned(),
                function(Ty::I32, Vec::new(), value),
                lists,
            );
        }
    }

    // A value with itself, that is in the accumulator.
    for ty in Ty::ALL {
        for name in ["add", "mul"] {
            for consumer in [Consumer::Result, Consumer::Set, Consumer::Left] {
                let local = local(ty, 0);
                let before = vec![set(local, lonely(ty))];
                let square = Expr::op(&format!("{}.{name}", ty.name()), get(local), get(local));
                let function = consume(consumer, ty, before, square);
                group.test(
                    format!("twice {name}"),
                    function,
                    arguments(random, FEW, false),
                );
            }
        }
    }

    // A step by a local that decides a branch.
    let comparisons = BINARY
        .iter()
        .filter(|op| op.operand == Ty::I32 && op.result == Ty::I32 && op.name.as_bytes()[4] < b'r');
    for op in
        comparisons.filter(|op| ["eq", "ne", "lt", "gt", "le", "ge"].contains(&&op.name[4..6]))
    {
        for limit in [get(y), Expr::i32(100)] {
            let step = Expr::tee(x, Expr::op("i32.add", get(x), get(b)));
            let body = vec![
                set(x, get(a)),
                set(y, get(param(Ty::I32, 2))),
                Stmt::Block(vec![
                    Stmt::BrIf(0, Expr::binary(op, step, limit)),
                    set(a, Expr::i32(9)),
                ]),
            ];
            group.test(
                "step by a local".to_owned(),
                function(Ty::I32, body, all_locals()),
                arguments(random, 4, false),
            );
        }
    }

    // Constants in a row, short and long ones.
    for values in [[1_u64, 2], [0, u64::MAX], [u64::MAX, 3], [5, 0xffff_ffff]] {
        let (p, q) = (local(Ty::I64, 0), local(Ty::I64, 1));
        let body = vec![
            set(p, Expr::Const(Ty::I64, values[0])),
            set(q, Expr::Const(Ty::I64, values[1])),
            set(x, Expr::i32(-5)),
        ];
        let sum = Expr::op(
            "i64.xor",
            Expr::op("i64.mul", get(p), Expr::Const(Ty::I64, 31)),
            get(q),
        );
        group.test(
            "constants".to_owned(),
            function(Ty::I64, body, sum),
            arguments(random, 1, false),
        );
    }

    // A count in memory: also where the sum goes into the local that is the address, or the addresses differ.
    let (load, store) = (load_of(Ty::I32), store_of(Ty::I32));
    for offset in [0, 8, 65_532, 0xffff_fff0] {
        for step in [1, -1] {
            for kind in 0..5 {
                let loaded = Expr::load(load, offset, get(a));
                let sum = Expr::op("i32.add", loaded, Expr::i32(step));
                let body = match kind {
                    0 => vec![Stmt::Store(store, offset, get(a), sum)],
                    1 => vec![Stmt::Store(store, offset, get(a), Expr::tee(x, sum))],
                    2 => vec![Stmt::Store(store, offset, get(a), Expr::tee(a, sum))],
                    3 => vec![Stmt::Store(store, offset, get(b), Expr::tee(x, sum))],
                    _ => vec![
                        Stmt::Store(store, offset, get(a), Expr::tee(x, sum)),
                        Stmt::If(
                            get(x),
                            vec![set(y, Expr::i32(3))],
                            vec![set(y, Expr::i32(4))],
                        ),
                    ],
                };
                let again = Expr::load(load, offset, get(b));
                let value = Expr::op("i32.xor", all_locals(), again);
                let mut lists = address_arguments(random, 4);
                for list in &mut lists {
                    list[b as usize] = list[a as usize];
                }
                group.test(
                    format!("count {offset} {kind}"),
                    function(Ty::I32, body, value),
                    lists,
                );
            }
        }
    }

    // Loads through a pointer that is loaded, kept or not.
    for name in ["i32.load", "i32.load8_u", "i32.load16_u", "i64.load"] {
        let Some(next) = super::operators::LOADS
            .iter()
            .find(|load| load.name == name)
        else {
            continue;
        };
        for kept in [false, true] {
            for (offset, constant) in [(0, 0), (8, 0), (0, -4), (0, 12), (4, 4), (0xffff_fff0, 0)] {
                for consumer in [Consumer::Result, Consumer::Set, Consumer::Left] {
                    let mut pointer = Expr::load(load, 4, get(a));
                    let mut before = vec![Stmt::Store(store, 4, get(a), get(b))];
                    if kept {
                        before.push(set(x, pointer));
                        pointer = get(x);
                    }
                    if constant != 0 {
                        pointer = Expr::op("i32.add", pointer, Expr::i32(constant));
                    }
                    let value = Expr::load(next, offset, pointer);
                    let function = consume(consumer, next.result, before, value);
                    let label = format!("through a pointer {name} {kept} {offset} {constant}");
                    group.test(label, function, address_arguments(random, 3));
                }
            }
        }
        // The pointer is kept, and what it points to is counted.
        let pointer = Expr::load(load, 4, get(a));
        let count = Expr::op("i32.add", Expr::load(load, 8, get(x)), Expr::i32(1));
        let body = vec![
            Stmt::Store(store, 4, get(a), get(b)),
            set(x, pointer),
            Stmt::Store(store, 8, get(x), Expr::tee(y, count)),
        ];
        let again = Expr::op("i32.xor", all_locals(), Expr::load(load, 8, get(x)));
        group.test(
            "count through a pointer".to_owned(),
            function(Ty::I32, body, again),
            address_arguments(random, 3),
        );
    }

    // Loads that decide a branch, their value kept or not.
    for name in ["i32.load", "i32.load8_u", "i32.load16_u", "i32.load8_s"] {
        let Some(load) = super::operators::LOADS
            .iter()
            .find(|load| load.name == name)
        else {
            continue;
        };
        let addresses = [
            get(a),
            add(a, 4),
            Expr::op("i32.rotr", get(a), Expr::i32(0)),
            Expr::op("i32.add", get(a), get(b)),
        ];
        for (number, address) in addresses.into_iter().enumerate() {
            for kept in [false, true] {
                for kind in 0..3 {
                    let mut value = Expr::load(load, 1, address.clone());
                    if kept {
                        value = Expr::tee(x, value);
                    }
                    let body = match kind {
                        0 => vec![Stmt::If(
                            value,
                            vec![set(y, Expr::i32(3))],
                            vec![set(y, Expr::i32(4))],
                        )],
                        1 => vec![Stmt::Block(vec![
                            Stmt::BrIf(0, value),
                            set(y, Expr::i32(5)),
                        ])],
                        _ => vec![Stmt::Block(vec![
                            Stmt::BrIf(0, Expr::unary(super::operators::unary("i32.eqz"), value)),
                            set(y, Expr::i32(5)),
                        ])],
                    };
                    let mut lists = address_arguments(random, 3);
                    // Zeroes lie in the second page.
                    lists[0][a as usize] = 65_536 + 64;
                    lists[0][b as usize] = 8;
                    let label = format!("branch on {name} {number} {kept} {kind}");
                    group.test(label, function(Ty::I32, body, all_locals()), lists);
                }
            }
        }
    }

    // The stack pointer goes down and back.
    for k in [-16, 32] {
        let cell = global(Ty::I32);
        for kept in [false, true] {
            let mut sum = Expr::op("i32.add", Expr::Global(cell), Expr::i32(k));
            if kept {
                sum = Expr::tee(x, sum);
            }
            let body = vec![
                Stmt::SetGlobal(cell, sum),
                set(y, Expr::Global(cell)),
                Stmt::SetGlobal(cell, add(y, -k)),
            ];
            let value = Expr::op("i32.sub", all_locals(), Expr::Global(cell));
            group.test(
                "stack pointer".to_owned(),
                function(Ty::I32, body, value),
                arguments(random, FEW, false),
            );
        }
    }

    // A function that gives its part of the stack back and returns: nothing more, a local, an accumulator, a float.
    for kind in 0..4 {
        let (result, value) = match kind {
            0 => (Ty::I32, get(x)),
            1 => (Ty::I32, get(y)),
            2 => (Ty::I64, get(param(Ty::I64, 1))),
            _ => (Ty::F64, get(param(Ty::F64, 1))),
        };
        let cell = global(Ty::I32);
        let body = vec![
            set(x, add(a, -16)),
            Stmt::SetGlobal(cell, get(x)),
            set(y, lonely(Ty::I32)),
            Stmt::SetGlobal(cell, add(x, 16)),
        ];
        group.test(
            "epilogue".to_owned(),
            function(result, body, value),
            arguments(random, FEW, false),
        );
    }

    // The result of a call that is kept and tested.
    for zero in [false, true] {
        let kept = Expr::tee(x, Expr::Call(identity(Ty::I32), vec![get(a)]));
        let kept = if zero {
            Expr::unary(super::operators::unary("i32.eqz"), kept)
        } else {
            kept
        };
        let mut body = vec![Stmt::Block(vec![Stmt::BrIf(0, kept), set(y, Expr::i32(5))])];
        if zero {
            let call = Expr::Call(identity(Ty::I32), vec![get(b)]);
            let arm = |value| vec![set(y, Expr::i32(value))];
            body.push(Stmt::If(Expr::tee(x, call), arm(6), arm(7)));
        }
        let mut lists = arguments(random, 3, false);
        lists[0][a as usize] = 0;
        group.test(
            "branch on a call".to_owned(),
            function(Ty::I32, body, all_locals()),
            lists,
        );
    }

    // Arguments that calls copy: slots, constants, sums.
    for (number, argument) in [get(a), Expr::i32(-3), add(b, 12), Expr::Const(Ty::I32, 7)]
        .into_iter()
        .enumerate()
    {
        for other in [get(b), Expr::i32(9), lonely(Ty::I32)] {
            let once = Expr::Call(identity(Ty::I32), vec![argument.clone()]);
            let both = Expr::Call(second(Ty::I32), vec![other, argument.clone()]);
            let value = Expr::op("i32.sub", once, both);
            group.test(
                format!("call {number}"),
                function(Ty::I32, Vec::new(), value),
                arguments(random, FEW, false),
            );
        }
    }

    // Jumps behind copies: both arms of an `if` set the same locals.
    for kind in 0..4 {
        let then = match kind {
            0 => vec![set(x, get(a))],
            1 => vec![set(x, get(a)), set(y, get(b))],
            2 => vec![set(x, Expr::i32(77))],
            _ => vec![set(x, get(a)), set(y, get(b)), set(a, get(x))],
        };
        let body = vec![Stmt::If(lonely(Ty::I32), then, vec![set(x, add(b, 1))])];
        group.test(
            format!("jump {kind}"),
            function(Ty::I32, body, all_locals()),
            arguments(random, 4, false),
        );
    }

    // A loop whose head leads to a jump table: an interpreter's.
    for computed in [false, true] {
        for steps in [1, 3] {
            let index = set(y, Expr::op("i32.and", get(x), Expr::i32(3)));
            let arm = |k: i32| {
                vec![
                    set(x, add(x, k)),
                    set(a, Expr::op("i32.mul", get(a), Expr::i32(k + 2))),
                ]
            };
            let mut head: Vec<Stmt> = (0..steps)
                .map(|k| set(b, Expr::op("i32.rotr", get(b), Expr::i32(k + 1))))
                .collect();
            // The index is in the accumulator if it was made last.
            head.insert(if computed { head.len() } else { 0 }, index);
            head.push(Stmt::BrTable(vec![0, 1, 2], 4, get(y)));
            // Labels inside: arms 0 to 2, the end; the loop is around.
            let mut inner = head;
            for k in 0..3 {
                inner = vec![Stmt::Block(inner)];
                inner.extend(arm(k + 1));
                inner.push(Stmt::Br(2 - k as u32));
            }
            let body = vec![
                set(x, Expr::op("i32.and", get(b), Expr::i32(1))),
                Stmt::Block(vec![Stmt::Loop(inner)]),
            ];
            group.test(
                "dispatch loop".to_owned(),
                function(Ty::I32, body, all_locals()),
                arguments(random, 4, false),
            );
        }
    }
}
