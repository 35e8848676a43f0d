//! The systematic groups: which operators stand between which producers and consumers. Those of calls and
//! control flow are in `control`.

use super::harness::Group;
use super::language::{Expr, Function, Stmt};
use super::operators::{BINARY, Binary, LOADS, STORES, Ty, UNARY, binary, load_of, unary};
use super::shapes::{
    CALLS, Consumer, I32_CONSUMERS, MAIN_PRODUCERS, PRODUCERS, Producer, Random, VALUE_CONSUMERS,
    address_arguments, arguments, comparison, consume, function, global, group_with_helpers, local,
    param, produce, second,
};
use super::{control, loops, pairs};

/// Names of all groups, each built by [`build`].
pub fn names() -> Vec<String> {
    let mut names = Vec::new();
    for ty in Ty::ALL {
        for family in [
            "binary", "unary", "load", "store", "select", "calls", "through", "frames", "pairs",
        ] {
            names.push(format!("{family}-{}", ty.name()));
        }
    }
    for ty in [Ty::I32, Ty::I64] {
        names.push(format!("carried-{}", ty.name()));
    }
    for family in [
        "counted-loops",
        "bulk",
        "br-table",
        "blocks",
        "fused",
        "selects",
        "neighbours",
        "other-memory",
        "far",
    ] {
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
        "calls" => control::calls(&mut group, random, ty),
        "through" => control::through(&mut group, ty),
        "frames" => control::frames(&mut group, random, ty),
        "counted-loops" => control::counted_loops(&mut group, random),
        "bulk" => bulk(&mut group, random),
        "br-table" => control::br_tables(&mut group, random),
        "blocks" => control::blocks(&mut group, random),
        "fused" => fused(&mut group, random),
        "carried" => loops::carried(&mut group, random, ty),
        "pairs" => pairs::pairs(&mut group, random, ty),
        "selects" => pairs::selects(&mut group, random),
        "neighbours" => pairs::neighbours(&mut group, random),
        "other-memory" => other_memory(&mut group, random),
        "far" => far(&mut group, random),
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
            "local + (computed << const)",
            Expr::op(
                "i32.add",
                b(),
                Expr::op("i32.shl", computed(), Expr::i32(2)),
            ),
        ),
        (
            "(computed << const) + const",
            Expr::op(
                "i32.add",
                Expr::op("i32.shl", computed(), Expr::i32(3)),
                Expr::i32(20),
            ),
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
    // One bit, which is or is not set.
    for (consumer, negated) in I32_CONSUMERS
        .iter()
        .chain(VALUE_CONSUMERS)
        .flat_map(|consumer| [(consumer, false), (consumer, true)])
    {
        for left in PRODUCERS {
            for right in PRODUCERS {
                let (Some((mut before, l)), Some((more, r))) = (
                    produce(random, *left, Ty::I32, 0),
                    produce(random, *right, Ty::I32, 1),
                ) else {
                    continue;
                };
                before.extend(more);
                let shifted = Expr::op("i32.shr_u", l, r);
                let mut bit = Expr::op("i32.and", shifted, Expr::i32(1));
                if negated {
                    bit = Expr::unary(unary("i32.eqz"), bit);
                }
                let function = consume(*consumer, Ty::I32, before, bit);
                let arguments = arguments(random, CALLS, false);
                group.test(format!("bit -> {consumer:?}"), function, arguments);
            }
        }
    }
    // Tests of masks as conditions and as values, and twice negated.
    for ty in [Ty::I32, Ty::I64] {
        let and = binary(&format!("{}.and", ty.name()));
        let eqz = unary(&format!("{}.eqz", ty.name()));
        let consumers = I32_CONSUMERS.iter().chain(VALUE_CONSUMERS);
        for (consumer, twice) in
            consumers.flat_map(|consumer| [(consumer, false), (consumer, true)])
        {
            for left in PRODUCERS {
                for right in MAIN_PRODUCERS {
                    let (Some((mut before, l)), Some((more, r))) = (
                        produce(random, *left, ty, 0),
                        produce(random, *right, ty, 1),
                    ) else {
                        continue;
                    };
                    before.extend(more);
                    let mut test = Expr::unary(eqz, Expr::binary(and, l, r));
                    if twice {
                        test = Expr::unary(unary("i32.eqz"), test);
                    }
                    let function = consume(*consumer, Ty::I32, before, test);
                    let arguments = arguments(random, CALLS, false);
                    group.test(format!("mask test -> {consumer:?}"), function, arguments);
                }
            }
        }
    }
    // A counter that is stepped and tested by an `if`.
    for step in [1, -1, 8] {
        for by_tee in [false, true] {
            let counter = param(Ty::I32, 0);
            let stepped = Expr::op("i32.add", Expr::Local(counter), Expr::i32(step));
            let (mut body, condition) = if by_tee {
                (Vec::new(), Expr::tee(counter, stepped))
            } else {
                (vec![Stmt::Set(counter, stepped)], Expr::Local(counter))
            };
            let flag = local(Ty::I32, 1);
            let (ten, twenty) = (Expr::i32(10), Expr::i32(20));
            body.push(Stmt::If(
                condition,
                vec![Stmt::Set(flag, ten)],
                vec![Stmt::Set(flag, twenty)],
            ));
            let value = Expr::op("i32.xor", Expr::Local(flag), Expr::Local(counter));
            let mut lists = arguments(random, CALLS, false);
            lists[0][counter as usize] = u64::from(step.wrapping_neg() as u32);
            group.test(
                "if of a step".to_owned(),
                function(Ty::I32, body, value),
                lists,
            );
        }
    }
}

/// Loads and stores of the second memory.
fn other_memory(group: &mut Group, random: &mut Random) {
    for op in LOADS {
        for consumer in [
            Consumer::Result,
            Consumer::Set,
            Consumer::Left,
            Consumer::Right,
        ] {
            for (label, before, address) in addresses(random) {
                let offset = if random.once_in(2) {
                    0
                } else {
                    random.one_of(OFFSETS)
                };
                let load = Expr::LoadOther(op, offset, Box::new(address));
                let function = consume(consumer, op.result, before, load);
                let arguments = address_arguments(random, CALLS);
                group.test(
                    format!("other {} {offset} {label} -> {consumer:?}", op.name),
                    function,
                    arguments,
                );
            }
        }
    }
    for op in STORES {
        for producer in PRODUCERS {
            for (label, before, address) in addresses(random) {
                let Some((more, value)) = produce(random, *producer, op.operand, 1) else {
                    continue;
                };
                let offset = if random.once_in(2) {
                    0
                } else {
                    random.one_of(OFFSETS)
                };
                let mut body = before;
                body.extend(more);
                body.push(Stmt::StoreOther(op, offset, address, value));
                // The first memory must not be touched, nor its registers lost.
                let function =
                    function(Ty::I32, body, Expr::load(load_of(Ty::I32), 0, Expr::i32(8)));
                let arguments = address_arguments(random, CALLS);
                group.test(
                    format!("other {} {offset} {label} <- {producer:?}", op.name),
                    function,
                    arguments,
                );
            }
        }
    }
}

/// More slots than 16-bit offsets reach lie before the locals.
const FAR: u32 = 8_300;

/// A sample of the other groups with locals beyond the reach of 16-bit slot offsets.
fn far(group: &mut Group, random: &mut Random) {
    // The sample's frames are large: repeating all of them would only measure how fast memory is zeroed.
    group.most_repeated = 30;
    let families = [
        "binary-i32",
        "binary-i64",
        "binary-f32",
        "binary-f64",
        "unary-i32",
        "unary-f64",
        "load-i32",
        "load-f64",
        "store-i32",
        "store-f32",
        "store-f64",
        "select-i64",
        "select-f32",
        "counted-loops",
        "br-table",
        "blocks",
        "bulk",
        "fused",
        "other-memory",
    ];
    for family in families {
        let source = build(family);
        for _ in 0..20 {
            let call = &source.calls[random.below(source.calls.len())];
            let near = &source.functions[call.function as usize];
            let label = format!("far {family} {}", call.label);
            group.test(label, near.with_far_locals(FAR), call.arguments.clone());
        }
    }
    // Calls from far frames, direct, indirect and as tail calls, with arguments of all kinds.
    for ty in Ty::ALL {
        for (number, producer) in PRODUCERS.iter().enumerate() {
            let (Some((mut body, a)), Some((more, b))) = (
                produce(random, *producer, ty, 0),
                produce(random, Producer::Computed, ty, 1),
            ) else {
                continue;
            };
            body.extend(more);
            let list = vec![a, b];
            let index = match number % 3 {
                0 => Expr::i32(second(ty) as i32),
                1 => Expr::op("i32.and", Expr::Local(param(Ty::I32, 0)), Expr::i32(3)),
                _ => Expr::Local(param(Ty::I32, 1)),
            };
            for form in 0..4 {
                let call = if form < 2 {
                    Expr::Call(second(ty), list.clone())
                } else {
                    Expr::CallIndirect {
                        like: second(ty),
                        arguments: list.clone(),
                        index: Box::new(index.clone()),
                    }
                };
                let near = Function {
                    tail: form % 2 == 1,
                    ..function(ty, body.clone(), call)
                };
                let mut lists = arguments(random, CALLS, false);
                lists[0][param(Ty::I32, 0) as usize] = u64::from(second(ty));
                lists[1][param(Ty::I32, 1) as usize] = u64::from(second(ty));
                group.test(
                    format!("far call {producer:?} {form}"),
                    near.with_far_locals(FAR),
                    lists,
                );
            }
        }
    }
}
