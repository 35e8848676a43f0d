//! The systematic groups: which operators stand between which producers and consumers.

use super::harness::Group;
use super::language::{Expr, Function, Stmt};
use super::operators::{BINARY, Binary, LOADS, STORES, Ty, UNARY, binary, unary};
use super::shapes::{
    Consumer, I32_CONSUMERS, MAIN_PRODUCERS, PRODUCERS, Producer, Random, VALUE_CONSUMERS,
    arguments, comparison, consume, function, global, group_with_helpers, identity, local, param,
    produce, second, standard_params,
};

/// Calls of each function.
const CALLS: usize = 5;

/// Names of all groups, each built by [`build`].
pub fn names() -> Vec<String> {
    let mut names = Vec::new();
    for ty in Ty::ALL {
        for family in [
            "binary", "unary", "load", "store", "select", "calls", "frames",
        ] {
            names.push(format!("{family}-{}", ty.name()));
        }
    }
    for family in ["counted-loops", "bulk", "br-table", "blocks", "fused"] {
        names.push(family.to_owned());
    }
    names
}

/// Builds a group by its name.
pub fn build(name: &str) -> Group {
    let (family, ty) = match name.rsplit_once('-') {
        Some((family, ty)) => match Ty::ALL.into_iter().find(|t| t.name() == ty) {
            Some(ty) => (family, ty),
            None => (name, Ty::I32),
        },
        None => (name, Ty::I32),
    };
    let mut random = Random::new(name.bytes().fold(7, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    }));
    let random = &mut random;
    let mut group = group_with_helpers(name);
    match family {
        "binary" => binary_operators(&mut group, random, ty),
        "unary" => unary_operators(&mut group, random, ty),
        "load" => loads(&mut group, random, ty),
        "store" => stores(&mut group, random, ty),
        "select" => selects(&mut group, random, ty),
        "calls" => calls(&mut group, random, ty),
        "frames" => frames(&mut group, random, ty),
        "counted-loops" => counted_loops(&mut group, random),
        "bulk" => bulk(&mut group, random),
        "br-table" => br_tables(&mut group, random),
        "blocks" => blocks(&mut group, random),
        "fused" => fused(&mut group, random),
        other => panic!("no family `{other}`"),
    }
    group
}

/// Every pair of producers with the result used at once and with the result set to a local; the other
/// consumers with the producers that differ most.
fn binary_operators(group: &mut Group, random: &mut Random, ty: Ty) {
    for op in BINARY.iter().filter(|op| op.operand == ty) {
        for left in PRODUCERS {
            for right in PRODUCERS {
                for consumer in [Consumer::Result, Consumer::Set] {
                    add_binary(group, random, op, [*left, *right], consumer);
                }
            }
        }
        let consumers = VALUE_CONSUMERS.iter().chain(I32_CONSUMERS);
        for consumer in consumers {
            for left in MAIN_PRODUCERS {
                for right in MAIN_PRODUCERS {
                    add_binary(group, random, op, [*left, *right], *consumer);
                }
            }
        }
    }
}

fn add_binary(
    group: &mut Group,
    random: &mut Random,
    op: &'static Binary,
    kinds: [Producer; 2],
    consumer: Consumer,
) {
    if I32_CONSUMERS.contains(&consumer) && op.result != Ty::I32 {
        return;
    }
    let undetermined = consumer.shows_bits() && op.operand.is_float();
    if undetermined && kinds.contains(&Producer::Const) {
        return;
    }
    let (Some((mut before, a)), Some((more, b))) = (
        produce(random, kinds[0], op.operand, 0),
        produce(random, kinds[1], op.operand, 1),
    ) else {
        return;
    };
    before.extend(more);
    let function = consume(consumer, op.result, before, Expr::binary(op, a, b));
    let arguments = arguments(random, CALLS, undetermined);
    let label = format!("{} {:?} {:?} -> {consumer:?}", op.name, kinds[0], kinds[1]);
    group.test(label, function, arguments);
}

fn unary_operators(group: &mut Group, random: &mut Random, ty: Ty) {
    for op in UNARY.iter().filter(|op| op.operand == ty) {
        for producer in PRODUCERS {
            for consumer in VALUE_CONSUMERS.iter().chain(I32_CONSUMERS) {
                if I32_CONSUMERS.contains(consumer) && op.result != Ty::I32 {
                    continue;
                }
                let undetermined = consumer.shows_bits() && (ty.is_float() || op.result.is_float());
                if undetermined && !matches!(producer, Producer::Param | Producer::Computed) {
                    continue;
                }
                let Some((before, a)) = produce(random, *producer, ty, 0) else {
                    continue;
                };
                let function = consume(*consumer, op.result, before, Expr::unary(op, a));
                let tame = undetermined || op.name.contains("reinterpret");
                let arguments = arguments(random, CALLS, tame);
                group.test(
                    format!("{} {producer:?} -> {consumer:?}", op.name),
                    function,
                    arguments,
                );
            }
        }
    }
}

/// Addresses beyond those that `produce` makes: sums in which one side is in the accumulator.
fn addresses(random: &mut Random) -> Vec<(String, Vec<Stmt>, Expr)> {
    let mut list = Vec::new();
    for producer in PRODUCERS {
        if let Some((before, address)) = produce(random, *producer, Ty::I32, 0) {
            list.push((format!("{producer:?}"), before, address));
        }
    }
    let a = || Expr::Local(param(Ty::I32, 0));
    let b = || Expr::Local(param(Ty::I32, 1));
    let c = || Expr::Local(param(Ty::I32, 2));
    let computed = || Expr::op("i32.xor", a(), c());
    let sums = [
        ("local + local", Expr::op("i32.add", a(), b())),
        ("acc + local", Expr::op("i32.add", computed(), b())),
        ("local + acc", Expr::op("i32.add", b(), computed())),
        (
            "acc + const",
            Expr::op("i32.add", computed(), Expr::i32(24)),
        ),
        (
            "const + acc",
            Expr::op("i32.add", Expr::i32(24), computed()),
        ),
        (
            "acc + acc",
            Expr::op("i32.add", computed(), Expr::op("i32.and", b(), c())),
        ),
        (
            "acc << const",
            Expr::op("i32.shl", computed(), Expr::i32(2)),
        ),
        (
            "local + (acc << const)",
            Expr::op(
                "i32.add",
                a(),
                Expr::op("i32.shl", Expr::op("i32.and", b(), c()), Expr::i32(3)),
            ),
        ),
        (
            "local + (local << const) + const",
            Expr::op(
                "i32.add",
                Expr::op("i32.add", a(), Expr::op("i32.shl", b(), Expr::i32(2))),
                Expr::i32(12),
            ),
        ),
        (
            "(local << const) + const",
            Expr::op(
                "i32.add",
                Expr::op("i32.shl", b(), Expr::i32(2)),
                Expr::i32(-4),
            ),
        ),
        ("local + const", Expr::op("i32.add", a(), Expr::i32(40))),
        ("local - const", Expr::op("i32.sub", a(), Expr::i32(4))),
        (
            "set sum",
            Expr::tee(local(Ty::I32, 0), Expr::op("i32.add", a(), b())),
        ),
    ];
    list.extend(sums.map(|(label, address)| (label.to_owned(), Vec::new(), address)));
    list
}

/// Arguments with which addresses are mostly in bounds: small i32 values, but for some.
fn address_arguments(random: &mut Random, count: usize) -> Vec<Vec<u64>> {
    let mut lists = arguments(random, count, true);
    for (number, list) in lists.iter_mut().enumerate() {
        for k in 0..3 {
            let small = [0, 1, 2, 4, 8, 17, 100, 255, 1000, 4096];
            let edge = [
                65_527,
                65_528,
                65_532,
                65_535,
                65_536,
                0x7fff_ffff,
                0xffff_fff8,
                0xffff_ffff,
            ];
            let value = if number + 1 == count {
                random.one_of(&edge)
            } else {
                random.one_of(&small)
            };
            list[param(Ty::I32, k) as usize] = value;
        }
    }
    lists
}

const OFFSETS: &[u32] = &[0, 8, 1000, 65_528, 65_535, 65_536, 0xffff_fff8, 0xffff_ffff];

fn loads(group: &mut Group, random: &mut Random, ty: Ty) {
    for op in LOADS.iter().filter(|op| op.result == ty) {
        let consumers = [
            Consumer::Result,
            Consumer::Set,
            Consumer::SetParam,
            Consumer::Left,
            Consumer::Right,
            Consumer::LastArgument,
            Consumer::Tee,
        ];
        for consumer in consumers {
            for (label, before, address) in addresses(random) {
                for offset in [0, random.one_of(OFFSETS)] {
                    let load = Expr::load(op, offset, address.clone());
                    let function = consume(consumer, ty, before.clone(), load);
                    let arguments = address_arguments(random, CALLS);
                    let label = format!("{} {offset} {label} -> {consumer:?}", op.name);
                    group.test(label, function, arguments);
                }
            }
        }
    }
}

fn stores(group: &mut Group, random: &mut Random, ty: Ty) {
    for op in STORES.iter().filter(|op| op.operand == ty) {
        for producer in PRODUCERS {
            // A converted float may be a NaN, whose bits are not determined; all others are.
            for (label, before, address) in addresses(random) {
                let Some((more, value)) = produce(random, *producer, ty, 1) else {
                    continue;
                };
                let offset = if random.once_in(2) {
                    0
                } else {
                    random.one_of(OFFSETS)
                };
                let mut body = before;
                body.extend(more);
                body.push(Stmt::Store(op, offset, address, value));
                let function = function(Ty::I32, body, Expr::MemorySize);
                let arguments = address_arguments(random, CALLS);
                let label = format!("{} {offset} {label} <- {producer:?}", op.name);
                group.test(label, function, arguments);
            }
        }
    }
}

fn selects(group: &mut Group, random: &mut Random, ty: Ty) {
    let conditions = [
        Producer::Param,
        Producer::Computed,
        Producer::Compare,
        Producer::Eqz,
        Producer::Const,
    ];
    for a in PRODUCERS {
        for b in PRODUCERS {
            for condition in conditions {
                let (Some((mut before, a_expr)), Some((more, b_expr))) =
                    (produce(random, *a, ty, 0), produce(random, *b, ty, 1))
                else {
                    continue;
                };
                before.extend(more);
                let Some((more, condition_expr)) = produce(random, condition, Ty::I32, 0) else {
                    continue;
                };
                before.extend(more);
                let select = Expr::select(a_expr, b_expr, condition_expr);
                let consumer = random.one_of(&[
                    Consumer::Result,
                    Consumer::Set,
                    Consumer::Left,
                    Consumer::Right,
                ]);
                let function = consume(consumer, ty, before, select);
                let arguments = arguments(random, CALLS, false);
                group.test(
                    format!("select {a:?} {b:?} {condition:?} -> {consumer:?}"),
                    function,
                    arguments,
                );
            }
        }
    }
    // Comparisons of every type and kind as conditions.
    for operand in Ty::ALL {
        for left in MAIN_PRODUCERS {
            for right in MAIN_PRODUCERS {
                for _ in 0..6 {
                    let op = comparison(random, operand);
                    let (Some((mut before, l)), Some((more, r))) = (
                        produce(random, *left, operand, 0),
                        produce(random, *right, operand, 1),
                    ) else {
                        continue;
                    };
                    before.extend(more);
                    let a = Expr::Local(param(ty, 0));
                    let b = Expr::Local(param(ty, 1));
                    let select = Expr::select(a, b, Expr::binary(op, l, r));
                    let consumer = random.one_of(&[Consumer::Result, Consumer::Set]);
                    let function = consume(consumer, ty, before, select);
                    let arguments = arguments(random, CALLS, false);
                    group.test(
                        format!("select by {} {left:?} {right:?}", op.name),
                        function,
                        arguments,
                    );
                }
            }
        }
    }
}

/// Calls with arguments of every kind in every place, direct, indirect and as tail calls; recursion.
fn calls(group: &mut Group, random: &mut Random, ty: Ty) {
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

/// Functions with every number of locals from 0 to 20 and up to 20 parameters: all locals begin as zero,
/// also after a call that used the same stack.
fn frames(group: &mut Group, random: &mut Random, ty: Ty) {
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
fn counted_loops(group: &mut Group, random: &mut Random) {
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
                                _ => Expr::Const(ty, u64::MAX & mask(ty)),
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

/// `memory.fill`, `memory.copy`, `memory.grow` and `memory.size` with operands of all kinds.
fn bulk(group: &mut Group, random: &mut Random) {
    for first in PRODUCERS {
        for second in MAIN_PRODUCERS {
            for third in MAIN_PRODUCERS {
                for copy in [false, true] {
                    let Some((mut body, a)) = produce(random, *first, Ty::I32, 0) else {
                        continue;
                    };
                    let Some((more, b)) = produce(random, *second, Ty::I32, 1) else {
                        continue;
                    };
                    body.extend(more);
                    let Some((more, c)) = produce(random, *third, Ty::I32, 0) else {
                        continue;
                    };
                    body.extend(more);
                    body.push(if copy {
                        Stmt::MemoryCopy(a, b, c)
                    } else {
                        Stmt::MemoryFill(a, b, c)
                    });
                    let function = function(Ty::I32, body, Expr::MemorySize);
                    let arguments = address_arguments(random, CALLS);
                    group.test(
                        format!("bulk {first:?} {second:?} {third:?} {copy}"),
                        function,
                        arguments,
                    );
                }
            }
        }
    }
    for producer in PRODUCERS {
        let Some((body, delta)) = produce(random, *producer, Ty::I32, 0) else {
            continue;
        };
        for consumer in VALUE_CONSUMERS.iter().chain(I32_CONSUMERS) {
            let delta = Expr::op("i32.shr_u", delta.clone(), Expr::i32(1));
            let grow = Expr::MemoryGrow(Box::new(delta));
            let function = consume(*consumer, Ty::I32, body.clone(), grow);
            group.test(
                format!("memory.grow {producer:?}"),
                function,
                address_arguments(random, 2),
            );
            let function = consume(*consumer, Ty::I32, body.clone(), Expr::MemorySize);
            group.test(
                "memory.size".to_owned(),
                function,
                address_arguments(random, 1),
            );
        }
        let grow = Expr::MemoryGrow(Box::new(delta));
        group.test(
            format!("memory.grow {producer:?}"),
            function(Ty::I32, body, grow),
            address_arguments(random, 2),
        );
    }
}

fn br_tables(group: &mut Group, random: &mut Random) {
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
fn blocks(group: &mut Group, random: &mut Random) {
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

/// Neighbours that engines like to fuse: copies in a row, increments, sets of globals, comparisons of sums.
fn fused(group: &mut Group, random: &mut Random) {
    for ty in Ty::ALL {
        let name = ty.name();
        let (a, b, c) = (param(ty, 0), param(ty, 1), param(ty, 2));
        let (x, y) = (local(ty, 0), local(ty, 1));
        let sub = |p: u32, q: u32| Expr::op(&format!("{name}.sub"), Expr::Local(p), Expr::Local(q));
        let bodies: Vec<Vec<Stmt>> = vec![
            vec![Stmt::Set(x, Expr::Local(a)), Stmt::Set(y, Expr::Local(b))],
            vec![
                Stmt::Set(x, Expr::Local(a)),
                Stmt::Set(a, Expr::Local(b)),
                Stmt::Set(b, Expr::Local(x)),
            ],
            vec![
                Stmt::Set(x, Expr::Local(a)),
                Stmt::Set(y, Expr::Local(x)),
                Stmt::Set(a, Expr::Local(y)),
            ],
            vec![
                Stmt::Set(a, Expr::Local(b)),
                Stmt::Set(b, Expr::Local(c)),
                Stmt::Set(c, Expr::Local(a)),
                Stmt::Set(y, Expr::Local(b)),
            ],
            vec![
                Stmt::Set(x, Expr::Const(ty, 0)),
                Stmt::Set(y, Expr::Local(a)),
            ],
            vec![Stmt::Set(a, Expr::tee(b, Expr::Local(c)))],
            vec![Stmt::Set(a, Expr::tee(b, sub(a, b)))],
            vec![Stmt::Set(x, sub(a, b)), Stmt::Set(y, sub(b, a))],
            vec![Stmt::SetGlobal(global(ty), Expr::Local(a))],
            vec![Stmt::SetGlobal(global(ty), Expr::Const(ty, 0x40))],
            vec![Stmt::SetGlobal(global(ty), sub(a, b))],
            vec![
                Stmt::Set(x, Expr::Global(global(ty))),
                Stmt::SetGlobal(global(ty), Expr::Local(x)),
            ],
            vec![Stmt::SetGlobal(
                global(ty),
                Expr::op(
                    &format!("{name}.add"),
                    Expr::Global(global(ty)),
                    Expr::Const(ty, 0),
                ),
            )],
            vec![Stmt::Drop(Expr::Local(a)), Stmt::Drop(sub(a, b)), Stmt::Nop],
        ];
        for body in bodies {
            // The old value of a local is on the operand stack while the local changes.
            let sum = Expr::op(&format!("{name}.add"), sub(x, y), sub(a, b));
            let plain = function(ty, body.clone(), sum.clone());
            let calls = arguments(random, CALLS, false);
            group.test("copies".to_owned(), plain, calls);
            let changed = Expr::Block(ty, body, Box::new(sum));
            let around = Expr::op(&format!("{name}.sub"), Expr::Local(a), changed);
            let calls = arguments(random, CALLS, false);
            group.test(
                "copies under a value".to_owned(),
                function(ty, Vec::new(), around),
                calls,
            );
        }
    }
    // Negated comparisons of floats are not the opposite comparisons: NaN.
    for ty in [Ty::F32, Ty::F64] {
        for op in BINARY
            .iter()
            .filter(|op| op.operand == ty && op.result == Ty::I32)
        {
            for consumer in I32_CONSUMERS.iter().chain(VALUE_CONSUMERS) {
                for left in MAIN_PRODUCERS {
                    for right in MAIN_PRODUCERS {
                        let (Some((mut before, l)), Some((more, r))) = (
                            produce(random, *left, ty, 0),
                            produce(random, *right, ty, 1),
                        ) else {
                            continue;
                        };
                        before.extend(more);
                        let not = Expr::unary(unary("i32.eqz"), Expr::binary(op, l, r));
                        let function = consume(*consumer, Ty::I32, before, not);
                        let arguments = arguments(random, CALLS, false);
                        group.test(
                            format!("not {} -> {consumer:?}", op.name),
                            function,
                            arguments,
                        );
                    }
                }
            }
        }
    }
    // Bit tests, with the operands in both orders.
    for ty in [Ty::I32, Ty::I64] {
        let and = binary(&format!("{}.and", ty.name()));
        let eqz = unary(&format!("{}.eqz", ty.name()));
        for consumer in I32_CONSUMERS {
            for left in PRODUCERS {
                for right in MAIN_PRODUCERS {
                    let (Some((mut before, l)), Some((more, r))) = (
                        produce(random, *left, ty, 0),
                        produce(random, *right, ty, 1),
                    ) else {
                        continue;
                    };
                    before.extend(more);
                    let test = Expr::unary(eqz, Expr::binary(and, l, r));
                    let function = consume(*consumer, Ty::I32, before, test);
                    let arguments = arguments(random, CALLS, false);
                    group.test(format!("bit test -> {consumer:?}"), function, arguments);
                }
            }
        }
    }
}
