//! The systematic groups of control: calls, frames, loops, tables of branches, blocks.

use super::harness::Group;
use super::language::{Expr, Function, Stmt};
use super::operators::{BINARY, Ty, load_of, store_of, unary};
use super::shapes::{
    CALLS, Consumer, MAIN_PRODUCERS, PRODUCERS, Producer, Random, address_arguments, arguments,
    consume, function, identity, local, param, produce, second, standard_params,
};

/// Calls with arguments of every kind in every place, direct, indirect and as tail calls; recursion.
pub fn calls(group: &mut Group, random: &mut Random, ty: Ty) {
    let name = ty.name();
    let add = |a: Expr, b: Expr| Expr::op(&format!("{name}.add"), a, b);
    // A callee that mixes all its parameters of the type, weighted so that their order matters.
    let half = Expr::op(
        &format!("{name}.sub"),
        Expr::Local(param(ty, 0)),
        Expr::Local(param(ty, 1)),
    );
    let callee = group.test(
        "callee".to_owned(),
        function(ty, Vec::new(), add(half, Expr::Local(param(ty, 2)))),
        arguments(random, CALLS, false),
    );
    for round in 0..200 {
        let mut body = Vec::new();
        let mut list = Vec::new();
        for (position, param_ty) in standard_params().into_iter().enumerate() {
            let kind = random.one_of(PRODUCERS);
            let kind = if position % 3 == 2 && round % 2 == 0 {
                Producer::Computed
            } else {
                kind
            };
            match produce(random, kind, param_ty, position as u32 % 2) {
                // A statement before the call would be executed before all arguments: keep those apart.
                Some((before, argument)) if before.is_empty() => list.push(argument),
                Some((before, _)) => {
                    body.extend(before);
                    list.push(Expr::Local(local(param_ty, position as u32 % 2)));
                }
                None => list.push(Expr::Local(param(param_ty, 1))),
            }
        }
        let index = match round % 3 {
            0 => Expr::i32(callee as i32),
            1 => Expr::op(
                "i32.add",
                Expr::op("i32.and", Expr::Local(param(Ty::I32, 1)), Expr::i32(0)),
                Expr::i32(callee as i32),
            ),
            _ => Expr::select(
                Expr::i32(callee as i32),
                Expr::i32(i32::MAX),
                Expr::Local(param(Ty::I32, 2)),
            ),
        };
        let call = if round % 2 == 0 {
            Expr::Call(callee, list)
        } else {
            Expr::CallIndirect {
                like: callee,
                arguments: list,
                index: Box::new(index),
            }
        };
        let tail = round % 4 >= 2;
        let function = if tail {
            Function {
                tail,
                ..function(ty, body, call)
            }
        } else {
            let consumer = random.one_of(&[
                Consumer::Result,
                Consumer::Set,
                Consumer::Left,
                Consumer::Right,
                Consumer::RightOfComputed,
            ]);
            consume(consumer, ty, body, call)
        };
        let arguments = arguments(random, CALLS, false);
        group.test(format!("call {round}"), function, arguments);
    }
    // Few arguments: the last one in the accumulator, and more arguments than the caller has locals.
    for kinds in [1, 2] {
        for a in PRODUCERS {
            for b in MAIN_PRODUCERS {
                let (Some((mut body, a_expr)), Some((more, b_expr))) =
                    (produce(random, *a, ty, 0), produce(random, *b, ty, 1))
                else {
                    continue;
                };
                body.extend(more);
                let call = if kinds == 1 {
                    Expr::Call(identity(ty), vec![a_expr])
                } else {
                    Expr::Call(second(ty), vec![b_expr, a_expr])
                };
                let tail = random.once_in(2);
                let function = Function {
                    tail,
                    ..function(ty, body, call)
                };
                let arguments = arguments(random, CALLS, false);
                group.test(
                    format!("call of {kinds} {a:?} {b:?} tail {tail}"),
                    function,
                    arguments,
                );
            }
        }
    }
    recursion(group, ty);
}

/// f(n) = n < 2 ? 1 : f(n - 1) + f(n - 2) over a masked counter, and a sum by tail recursion.
fn recursion(group: &mut Group, ty: Ty) {
    let me = group.functions.len() as u32;
    let n = || Expr::Local(0);
    let one = match ty {
        Ty::I32 | Ty::I64 => 1,
        Ty::F32 => u64::from(1f32.to_bits()),
        Ty::F64 => 1f64.to_bits(),
    };
    let minus = |by: i32| Expr::op("i32.sub", n(), Expr::i32(by));
    let sum = Expr::op(
        &format!("{}.add", ty.name()),
        Expr::Call(me, vec![minus(1)]),
        Expr::Call(me, vec![minus(2)]),
    );
    let small = Stmt::If(
        Expr::op("i32.lt_s", n(), Expr::i32(2)),
        vec![Stmt::Return(Expr::Const(ty, one))],
        Vec::new(),
    );
    let fibonacci = Function {
        params: vec![Ty::I32],
        locals: Vec::new(),
        result: ty,
        body: vec![small],
        value: sum,
        tail: false,
    };
    group.test("fibonacci".to_owned(), fibonacci, vec![vec![3], vec![11]]);
    for indirect in [false, true] {
        let me = group.functions.len() as u32;
        let done = Stmt::If(
            Expr::unary(unary("i32.eqz"), n()),
            vec![Stmt::Return(Expr::Local(1))],
            Vec::new(),
        );
        let next = vec![
            Expr::op("i32.sub", n(), Expr::i32(1)),
            Expr::op(
                &format!("{}.add", ty.name()),
                Expr::Local(1),
                Expr::Const(ty, one),
            ),
        ];
        let value = if indirect {
            Expr::CallIndirect {
                like: me,
                arguments: next,
                index: Box::new(Expr::i32(me as i32)),
            }
        } else {
            Expr::Call(me, next)
        };
        let count = Function {
            params: vec![Ty::I32, ty],
            locals: vec![ty; 5],
            result: ty,
            body: vec![done],
            value,
            tail: true,
        };
        group.test(
            "tail recursion".to_owned(),
            count,
            vec![vec![0, one], vec![40, one]],
        );
    }
}

/// Calls through the table whose index is in a local, was just computed, or was just loaded, once or through a pointer, with no,
/// one or two arguments that are locals, or one that is a local plus a constant.
pub fn through(group: &mut Group, ty: Ty) {
    let name = ty.name();
    let parameters = [
        Vec::new(),
        vec![Ty::I32],
        vec![Ty::I32, Ty::I32],
        vec![Ty::I32],
    ];
    let word = load_of(Ty::I32);
    let own = || Expr::Local(0);
    let computed = || Expr::op("i32.mul", own(), Expr::i32(1));
    for (list, params) in parameters.iter().enumerate() {
        let mut value = Expr::Const(ty, 0);
        for (k, weight) in (0..params.len() as u32).zip([3, 5]) {
            let argument = Expr::op("i32.mul", Expr::Local(k), Expr::i32(weight));
            let argument = match ty {
                Ty::I32 => argument,
                _ => Expr::unary(
                    unary(match ty {
                        Ty::I64 => "i64.extend_i32_u",
                        Ty::F32 => "f32.convert_i32_s",
                        _ => "f64.convert_i32_s",
                    }),
                    argument,
                ),
            };
            value = Expr::op(&format!("{name}.add"), value, argument);
        }
        let callee = Function {
            params: params.clone(),
            locals: Vec::new(),
            result: ty,
            body: Vec::new(),
            value,
            tail: false,
        };
        let target = group.test(format!("target {list}"), callee, Vec::new());
        let arguments = || match list {
            1 => vec![Expr::Local(1)],
            2 => vec![Expr::Local(1), Expr::Local(0)],
            3 => vec![Expr::op("i32.add", Expr::Local(1), Expr::i32(24))],
            _ => Vec::new(),
        };
        let target = i32::try_from(target).unwrap_or(0);
        let indices = [
            ("local", Expr::Local(2)),
            (
                "computed",
                Expr::op("i32.mul", Expr::Local(2), Expr::i32(1)),
            ),
            ("loaded", Expr::load(word, 8, own())),
            ("loaded, computed", Expr::load(word, 8, computed())),
            (
                "through a pointer",
                Expr::load(word, 4, Expr::load(word, 12, own())),
            ),
            (
                "through a computed pointer",
                Expr::load(word, 4, Expr::load(word, 12, computed())),
            ),
        ];
        for (kind, index) in indices {
            // The index at 8, a pointer at 12, and the index 4 bytes behind where that points.
            let at = |address: i32, offset: u32, value: i32| {
                Stmt::Store(
                    store_of(Ty::I32),
                    offset,
                    Expr::i32(address),
                    Expr::i32(value),
                )
            };
            let caller = Function {
                params: vec![Ty::I32, Ty::I32],
                locals: vec![Ty::I32, ty],
                result: ty,
                body: vec![
                    // First, so that it does not join the copies of the arguments.
                    Stmt::Set(2, Expr::i32(target)),
                    at(64, 8, target),
                    at(64, 12, 256),
                    at(256, 4, target),
                ],
                value: Expr::CallIndirect {
                    like: target as u32,
                    arguments: arguments(),
                    index: Box::new(index),
                },
                tail: false,
            };
            group.test(
                format!("call {list} with an index that is {kind}"),
                caller,
                // An address out of bounds, too: only where the index is loaded does it trap.
                vec![vec![64, 7], vec![64, 1 << 31], vec![0x7fff_ffff, 7]],
            );
        }
    }
}

/// Functions with every number of locals from 0 to 20 and up to 20 parameters: all locals begin as zero,
/// also after a call that used the same stack.
pub fn frames(group: &mut Group, random: &mut Random, ty: Ty) {
    let name = ty.name();
    for count in 0..=20u32 {
        let locals: Vec<Ty> = (0..count)
            .map(|k| Ty::ALL[(k as usize + ty as usize) % 4])
            .collect();
        let mut value = Expr::Local(0);
        for (k, local_ty) in locals.iter().enumerate() {
            if *local_ty == ty {
                value = Expr::op(&format!("{name}.add"), value, Expr::Local(k as u32 + 2));
            }
        }
        // Every local gets a value after it was read, for the next call to find on the stack.
        let mut body = vec![Stmt::Set(1, value)];
        for (k, local_ty) in locals.iter().enumerate() {
            body.push(Stmt::Set(
                k as u32 + 2,
                Expr::Const(*local_ty, 0x3f80_0000_3f80_0001 & mask(*local_ty)),
            ));
        }
        let dirty = Function {
            params: vec![ty, ty],
            locals: locals.clone(),
            result: ty,
            body,
            value: Expr::Local(1),
            tail: false,
        };
        let args: Vec<Vec<u64>> = arguments(random, 3, true)
            .into_iter()
            .map(|list| vec![list[param(ty, 0) as usize], list[param(ty, 1) as usize]])
            .collect();
        let index = group.test(format!("{count} locals"), dirty, args.clone());
        let twice = Function {
            params: vec![ty, ty],
            locals,
            result: ty,
            body: vec![Stmt::Set(
                0,
                Expr::Call(index, vec![Expr::Local(0), Expr::Local(1)]),
            )],
            value: Expr::Call(index, vec![Expr::Local(0), Expr::Local(1)]),
            tail: count % 2 == 1,
        };
        group.test(format!("{count} locals twice"), twice, args);
    }
    for count in 1..=20u32 {
        let mut value = Expr::Local(0);
        for k in 1..count {
            value = Expr::op(&format!("{name}.sub"), value, Expr::Local(k));
        }
        let many = Function {
            params: vec![ty; count as usize],
            locals: Vec::new(),
            result: ty,
            body: Vec::new(),
            value,
            tail: false,
        };
        let args = arguments(random, 2, true)
            .into_iter()
            .map(|list| {
                (0..count)
                    .map(|k| list[param(ty, k % 3) as usize])
                    .collect()
            })
            .collect();
        let index = group.test(format!("{count} parameters"), many, args);
        let own = (0..count)
            .map(|k| Expr::Local((k * 7 + 1) % count))
            .collect();
        let permuted = Function {
            params: vec![ty; count as usize],
            locals: Vec::new(),
            result: ty,
            body: Vec::new(),
            value: Expr::Call(index, own),
            tail: true,
        };
        let args = arguments(random, 2, true)
            .into_iter()
            .map(|list| {
                (0..count)
                    .map(|k| list[param(ty, k % 3) as usize])
                    .collect()
            })
            .collect();
        group.test(
            format!("{count} parameters permuted in a tail call"),
            permuted,
            args,
        );
    }
}

fn mask(ty: Ty) -> u64 {
    match ty {
        Ty::I32 | Ty::F32 => 0xffff_ffff,
        Ty::I64 | Ty::F64 => u64::MAX,
    }
}

/// Loops that step a counter and compare it with a bound: the engine fuses step, comparison and branch.
pub fn counted_loops(group: &mut Group, random: &mut Random) {
    for ty in [Ty::I32, Ty::I64] {
        let name = ty.name();
        for op in BINARY
            .iter()
            .filter(|op| op.operand == ty && op.result == Ty::I32)
        {
            if !["eq", "ne", "lt_", "gt_", "le_", "ge_"]
                .iter()
                .any(|n| op.name.contains(n))
            {
                continue;
            }
            for step in [1i64, -1, 4, 100_000] {
                for verb in ["add", "sub"] {
                    for bound in 0..3 {
                        for form in 0..4 {
                            let counter = param(ty, 0);
                            let step = Expr::Const(ty, step as u64 & mask(ty));
                            let stepped =
                                Expr::op(&format!("{name}.{verb}"), Expr::Local(counter), step);
                            let bound = match bound {
                                0 => Expr::Local(param(ty, 1)),
                                1 => Expr::Const(ty, 50),
                                _ => Expr::Const(ty, mask(ty)),
                            };
                            let (set, own) = match form {
                                0 | 2 => (Some(Stmt::Set(counter, stepped)), Expr::Local(counter)),
                                _ => (None, Expr::tee(counter, stepped)),
                            };
                            let again = if form < 2 {
                                Expr::binary(op, own, bound)
                            } else {
                                Expr::unary(unary("i32.eqz"), Expr::binary(op, own, bound))
                            };
                            let function = guarded_loop(ty, set, again);
                            let arguments = arguments(random, CALLS, false);
                            group.test(
                                format!("loop {} {verb} form {form}", op.name),
                                function,
                                arguments,
                            );
                        }
                    }
                }
            }
        }
        for inverted in [false, true] {
            for by_tee in [false, true] {
                let counter = param(Ty::I32, 0);
                let stepped = Expr::op("i32.add", Expr::Local(counter), Expr::i32(-1));
                let (set, own) = if by_tee {
                    (None, Expr::tee(counter, stepped))
                } else {
                    (Some(Stmt::Set(counter, stepped)), Expr::Local(counter))
                };
                let again = if inverted {
                    Expr::unary(unary("i32.eqz"), own)
                } else {
                    own
                };
                let function = guarded_loop(ty, set, again);
                let arguments = arguments(random, 2 * CALLS, false);
                group.test("loop to zero".to_owned(), function, arguments);
            }
        }
    }
}

/// A loop of at most 40 rounds: a guard, `set`, then back if `again`. The result mixes rounds and counter.
fn guarded_loop(ty: Ty, set: Option<Stmt>, again: Expr) -> Function {
    let rounds = local(Ty::I32, 1);
    let counted = Expr::op("i32.add", Expr::Local(rounds), Expr::i32(1));
    let guard = Expr::op("i32.ge_u", Expr::tee(rounds, counted), Expr::i32(40));
    let mut inside = vec![Stmt::BrIf(1, guard)];
    inside.extend(set);
    inside.push(Stmt::BrIf(0, again));
    let counter = Expr::Local(param(ty, 0));
    let counter = if ty == Ty::I64 {
        Expr::unary(unary("i32.wrap_i64"), counter)
    } else {
        counter
    };
    let value = Expr::op(
        "i32.xor",
        counter,
        Expr::op("i32.shl", Expr::Local(rounds), Expr::i32(16)),
    );
    function(Ty::I32, vec![Stmt::Block(vec![Stmt::Loop(inside)])], value)
}

pub fn br_tables(group: &mut Group, random: &mut Random) {
    for producer in PRODUCERS {
        for targets in 0..6u32 {
            let Some((mut body, index)) = produce(random, *producer, Ty::I32, 0) else {
                continue;
            };
            let labels: Vec<u32> = (0..targets)
                .map(|_| random.below(targets as usize + 1) as u32)
                .collect();
            let flag = local(Ty::I32, 1);
            let add = |weight: i32| {
                Stmt::Set(
                    flag,
                    Expr::op("i32.add", Expr::Local(flag), Expr::i32(weight)),
                )
            };
            let mut nested = Stmt::Block(vec![Stmt::BrTable(labels, targets, index)]);
            for depth in 0..targets {
                nested = Stmt::Block(vec![nested, add(1 << depth)]);
            }
            body.push(nested);
            let function = function(Ty::I32, body, Expr::Local(flag));
            group.test(
                format!("br_table of {targets} {producer:?}"),
                function,
                address_arguments(random, 8),
            );
        }
        // In a loop, with an index that changes: a small machine.
        let Some((mut body, start)) = produce(random, *producer, Ty::I32, 0) else {
            continue;
        };
        let (state, rounds) = (local(Ty::I32, 0), local(Ty::I32, 1));
        body.push(Stmt::Set(state, Expr::op("i32.and", start, Expr::i32(3))));
        let next = |k: i32| {
            Stmt::Set(
                state,
                Expr::op(
                    "i32.and",
                    Expr::op("i32.add", Expr::Local(state), Expr::i32(k)),
                    Expr::i32(3),
                ),
            )
        };
        let counted = Expr::op("i32.add", Expr::Local(rounds), Expr::i32(1));
        let guard = Expr::op("i32.gt_u", Expr::tee(rounds, counted), Expr::i32(30));
        let dispatch = Stmt::Block(vec![Stmt::BrTable(vec![0, 1, 2], 3, Expr::Local(state))]);
        let one = Stmt::Block(vec![dispatch, next(3), Stmt::Br(2)]);
        let two = Stmt::Block(vec![one, next(2), Stmt::Br(1)]);
        let machine = Stmt::Loop(vec![Stmt::BrIf(1, guard), two, next(5), Stmt::Br(0)]);
        body.push(Stmt::Block(vec![machine]));
        let value = Expr::op(
            "i32.add",
            Expr::op("i32.mul", Expr::Local(rounds), Expr::i32(8)),
            Expr::Local(state),
        );
        group.test(
            "machine".to_owned(),
            function(Ty::I32, body, value),
            address_arguments(random, 4),
        );
    }
}

/// Blocks, ifs and loops with values, nested, with branches out of the middle of expressions.
pub fn blocks(group: &mut Group, random: &mut Random) {
    for ty in Ty::ALL {
        for a in PRODUCERS {
            for b in PRODUCERS {
                let (Some((mut before, a_expr)), Some((more, b_expr))) =
                    (produce(random, *a, ty, 0), produce(random, *b, ty, 1))
                else {
                    continue;
                };
                before.extend(more);
                let Some((_, condition)) = produce(random, Producer::Compare, Ty::I32, 0) else {
                    continue;
                };
                let form = random.below(5);
                let value = match form {
                    0 => Expr::if_else(ty, condition, a_expr, b_expr),
                    1 => Expr::Block(
                        ty,
                        vec![Stmt::BrIfValue(0, a_expr, condition)],
                        Box::new(b_expr),
                    ),
                    2 => {
                        // Leaves the outer block from within an operand of the inner expression.
                        let inner = Expr::Block(
                            ty,
                            vec![Stmt::BrIfValue(1, a_expr, condition)],
                            Box::new(b_expr),
                        );
                        let sum = Expr::op(
                            &format!("{}.add", ty.name()),
                            Expr::Local(param(ty, 2)),
                            inner,
                        );
                        Expr::Block(ty, Vec::new(), Box::new(sum))
                    }
                    3 => {
                        let rounds = local(Ty::I32, 1);
                        let counted = Expr::op("i32.add", Expr::Local(rounds), Expr::i32(1));
                        let again = Expr::op("i32.lt_u", Expr::tee(rounds, counted), Expr::i32(3));
                        let swap = Stmt::Set(param(ty, 0), b_expr);
                        Expr::LoopValue(ty, vec![swap, Stmt::BrIf(0, again)], Box::new(a_expr))
                    }
                    _ => {
                        let then = Expr::Block(ty, vec![Stmt::Nop], Box::new(a_expr));
                        let otherwise = Expr::if_else(
                            ty,
                            Expr::Local(param(Ty::I32, 2)),
                            b_expr,
                            Expr::Local(param(ty, 2)),
                        );
                        Expr::if_else(ty, condition, then, otherwise)
                    }
                };
                for consumer in [
                    Consumer::Result,
                    Consumer::Set,
                    Consumer::RightOfComputed,
                    Consumer::LastArgument,
                ] {
                    let function = consume(consumer, ty, before.clone(), value.clone());
                    let arguments = arguments(random, CALLS, false);
                    group.test(
                        format!("block form {form} {a:?} {b:?} -> {consumer:?}"),
                        function,
                        arguments,
                    );
                }
            }
        }
    }
}
