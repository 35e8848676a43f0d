//! Loops whose first instruction reads what the last one made: the value stays in the accumulator over the branch back.

use super::harness::Group;
use super::language::{Expr, Function, Stmt};
use super::operators::{BINARY, LOADS, Ty, UNARY, unary};
use super::shapes::{CALLS, Random, address_arguments, arguments, function, local, param, value};

/// How the carried local gets its first value, right before the loop.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Initial {
    Copied,
    Constant,
    Computed,
    CopiedSecond,
    CopiedFirst,
    ConstantSecond,
    ConstantFirst,
    ConstantBetween,
    /// Slots and constants mixed: how many of each, constants first if `true`, and which of them is the local.
    Mixed(u32, u32, bool, u32),
    /// Before something else is computed, so that the accumulator has another value.
    Early,
}

const INITIALS: [Initial; 19] = [
    Initial::Copied,
    Initial::Constant,
    Initial::Computed,
    Initial::CopiedSecond,
    Initial::CopiedFirst,
    Initial::ConstantSecond,
    Initial::ConstantFirst,
    Initial::ConstantBetween,
    Initial::Early,
    Initial::Mixed(0, 3, false, 0),
    Initial::Mixed(0, 3, false, 2),
    Initial::Mixed(0, 4, false, 1),
    Initial::Mixed(1, 1, false, 0),
    Initial::Mixed(1, 2, true, 0),
    Initial::Mixed(1, 2, true, 2),
    Initial::Mixed(2, 1, true, 1),
    Initial::Mixed(2, 1, false, 2),
    Initial::Mixed(2, 2, true, 0),
    Initial::Mixed(2, 2, false, 3),
];

/// What stands between the loop's start and the reader.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Between {
    Nothing,
    /// A step of the counter, which no instruction needs in the accumulator.
    Step,
    /// A step whose result the reader's block uses afterwards.
    UsedStep,
    /// A step of the carried local itself.
    OwnStep,
    /// A constant and a copy.
    Copies,
    /// Arithmetic whose result is needed later.
    Arithmetic,
}

const BETWEENS: [Between; 6] = [
    Between::Nothing,
    Between::Step,
    Between::UsedStep,
    Between::OwnStep,
    Between::Copies,
    Between::Arithmetic,
];

/// Readers of every kind and operator in every surrounding, and every first value.
pub fn carried(group: &mut Group, random: &mut Random, ty: Ty) {
    let mut turn = 0;
    let mut add =
        |group: &mut Group, random: &mut Random, label: &str, reader: Vec<Stmt>, all: bool| {
            let firsts = if all {
                &INITIALS[..]
            } else {
                &INITIALS[turn % INITIALS.len()..][..1]
            };
            for first in firsts {
                for between in BETWEENS {
                    if !all && between as usize != turn % 2 && between as usize != 2 + turn % 4 {
                        continue;
                    }
                    let made = carrying(random, ty, *first, between, reader.clone());
                    let arguments = if label.starts_with("load") {
                        address_arguments(random, CALLS)
                    } else {
                        arguments(random, CALLS, false)
                    };
                    group.test(format!("{label} {first:?} {between:?}"), made, arguments);
                }
                turn += 1;
            }
        };
    let carried = || Expr::Local(local(ty, 0));
    let other = || Expr::Local(param(ty, 1));
    let target = |op_result: Ty| match op_result {
        result if result == ty => local(ty, 1),
        result => param(result, 2),
    };
    for op in BINARY.iter().filter(|op| op.operand == ty) {
        let constant = Expr::Const(ty, value(random, ty));
        let operands = [
            (carried(), other()),
            (other(), carried()),
            (carried(), constant.clone()),
            (constant, carried()),
            (carried(), carried()),
        ];
        for (place, (a, b)) in operands.into_iter().enumerate() {
            let made = Expr::binary(op, a, b);
            let all = op.name.ends_with(".xor") || op.name.ends_with(".lt_s");
            add(
                group,
                random,
                op.name,
                vec![Stmt::Set(target(op.result), made.clone())],
                all,
            );
            if op.result == ty {
                // Part of a pair.
                let pair = Expr::op(&format!("{}.add", ty.name()), made.clone(), other());
                add(
                    group,
                    random,
                    "pair",
                    vec![Stmt::Set(local(ty, 1), pair)],
                    place == 0,
                );
                // One whose both operands are the local.
                let mixed = Expr::op(&format!("{}.xor", ty.name()), made.clone(), carried());
                let mixed = vec![Stmt::Set(local(ty, 1), mixed)];
                add(group, random, "mixed", mixed, place == 2);
                // Two readers, the first of which need not have its result in the accumulator.
                let kept = if ty == Ty::I32 {
                    param(ty, 0)
                } else {
                    param(ty, 2)
                };
                let again = Expr::op(&format!("{}.mul", ty.name()), carried(), other());
                let readers = vec![
                    Stmt::Set(kept, made.clone()),
                    Stmt::Set(local(ty, 1), again),
                ];
                add(group, random, "two readers", readers, place == 2);
            } else {
                add(
                    group,
                    random,
                    "branch",
                    vec![Stmt::BrIf(1, made)],
                    place == 0,
                );
            }
        }
    }
    for op in UNARY.iter().filter(|op| op.operand == ty) {
        let made = Expr::unary(op, carried());
        add(
            group,
            random,
            op.name,
            vec![Stmt::Set(target(op.result), made)],
            op.name.ends_with("z"),
        );
    }
    add(
        group,
        random,
        "copy",
        vec![Stmt::Set(local(ty, 1), carried())],
        true,
    );
    if ty == Ty::I32 {
        add(group, random, "br_if", vec![Stmt::BrIf(1, carried())], true);
        for load in LOADS {
            let plain = Expr::load(load, 4, carried());
            let sum = Expr::op("i32.add", carried(), other());
            for address in [plain, Expr::load(load, 0, sum)] {
                let set = Stmt::Set(target(load.result), address);
                add(
                    group,
                    random,
                    load.name,
                    vec![set],
                    load.name == "f64.load" || load.name == "i32.load",
                );
            }
        }
    }
}

/// The loop: what stands before it, the reader, a way out, and the branch back with the local in the accumulator.
fn carrying(
    random: &mut Random,
    ty: Ty,
    first: Initial,
    between: Between,
    reader: Vec<Stmt>,
) -> Function {
    let name = ty.name();
    let (carried, second) = (local(ty, 0), local(ty, 1));
    let rounds = local(Ty::I32, 1);
    let rounds = if ty == Ty::I32 {
        param(Ty::I32, 2)
    } else {
        rounds
    };
    let constant = |value: u64| Expr::Const(ty, value);
    let op = |verb: &str, a: Expr, b: Expr| Expr::op(&format!("{name}.{verb}"), a, b);
    let mut body = vec![Stmt::Set(rounds, Expr::i32(0))];
    if random.once_in(2) {
        body.push(Stmt::Set(
            second,
            op("xor", Expr::Local(param(ty, 1)), constant(5)),
        ));
    }
    let from = || Expr::Local(param(ty, 0));
    let mixed = |slots: u32, constants: u32, constants_first: bool, place: u32| {
        let target = |number: u32| match number {
            number if number == place => carried,
            0 => second,
            number => param(ty, number % 3),
        };
        let copies = (0..slots).map(|number| (number, Expr::Local(param(ty, (number + 1) % 2))));
        let constants =
            (slots..slots + constants).map(|number| (number, constant(u64::from(number) + 3)));
        let set = |(number, value)| Stmt::Set(target(number), value);
        if constants_first {
            constants.chain(copies).map(set).collect()
        } else {
            copies.chain(constants).map(set).collect::<Vec<_>>()
        }
    };
    if matches!(first, Initial::Mixed(..)) {
        // Nothing before joins in.
        body.push(Stmt::Set(second, op("mul", from(), constant(3))));
    }
    body.extend(match first {
        Initial::Mixed(slots, constants, constants_first, place) => {
            mixed(slots, constants, constants_first, place)
        }
        Initial::Copied => vec![Stmt::Set(carried, from())],
        Initial::Constant => vec![Stmt::Set(carried, constant(9))],
        Initial::Computed => vec![Stmt::Set(carried, op("add", from(), constant(3)))],
        Initial::CopiedSecond => vec![
            Stmt::Set(second, from()),
            Stmt::Set(carried, Expr::Local(param(ty, 1))),
        ],
        Initial::CopiedFirst => vec![
            Stmt::Set(carried, from()),
            Stmt::Set(second, Expr::Local(param(ty, 1))),
        ],
        Initial::ConstantSecond => vec![
            Stmt::Set(second, constant(1)),
            Stmt::Set(carried, constant(2)),
        ],
        Initial::ConstantFirst => vec![
            Stmt::Set(carried, constant(3)),
            Stmt::Set(second, constant(4)),
        ],
        Initial::ConstantBetween => vec![
            Stmt::Set(carried, constant(u64::from(u32::MAX))),
            Stmt::Set(second, from()),
        ],
        Initial::Early => vec![
            Stmt::Set(carried, from()),
            Stmt::Set(second, op("mul", from(), constant(7))),
        ],
    });
    let step = Stmt::Set(
        rounds,
        Expr::op("i32.add", Expr::Local(rounds), Expr::i32(1)),
    );
    let mut inside = match between {
        Between::Nothing => Vec::new(),
        Between::Step | Between::UsedStep => vec![step.clone()],
        Between::OwnStep => vec![Stmt::Set(
            carried,
            op("add", Expr::Local(carried), constant(1)),
        )],
        Between::Copies => vec![
            Stmt::Set(param(Ty::I64, 2), Expr::Const(Ty::I64, 1 << 40)),
            Stmt::Set(second, Expr::Local(param(ty, 1))),
        ],
        Between::Arithmetic => vec![Stmt::Set(
            second,
            op("shl", Expr::Local(param(ty, 1)), constant(3)),
        )],
    };
    inside.extend(reader);
    if !matches!(between, Between::Step | Between::UsedStep) {
        inside.push(step);
    }
    if between == Between::UsedStep {
        // Right behind the reader.
        let sum = Expr::op(
            "i32.add",
            Expr::Local(rounds),
            Expr::Local(param(Ty::I32, 0)),
        );
        inside.push(Stmt::Set(param(Ty::I32, 0), sum));
    }
    inside.push(Stmt::BrIf(
        1,
        Expr::op("i32.ge_u", Expr::Local(rounds), Expr::i32(6)),
    ));
    // Another value each time; it ends by itself now and then.
    let next = op(
        "rotl",
        op("xor", Expr::Local(carried), Expr::Local(second)),
        constant(5),
    );
    inside.push(Stmt::Set(carried, next));
    let again = if random.once_in(3) {
        Expr::unary(unary(&format!("{name}.eqz")), Expr::Local(carried))
    } else {
        op("ne", Expr::Local(carried), constant(1))
    };
    inside.push(Stmt::BrIf(0, again));
    body.push(Stmt::Block(vec![Stmt::Loop(inside)]));
    let wide = |number: u32| {
        if ty == Ty::I64 {
            Expr::Local(number)
        } else {
            Expr::unary(unary("i64.extend_i32_u"), Expr::Local(number))
        }
    };
    let narrow = [rounds, param(Ty::I32, 0), param(Ty::I32, 2)];
    let parts = [carried, second].into_iter().map(wide);
    let parts = parts
        .chain(narrow.map(|number| Expr::unary(unary("i64.extend_i32_u"), Expr::Local(number))));
    let floats = [
        Expr::unary(
            unary("i64.extend_i32_u"),
            Expr::unary(unary("i32.reinterpret_f32"), Expr::Local(param(Ty::F32, 2))),
        ),
        Expr::unary(unary("i64.reinterpret_f64"), Expr::Local(param(Ty::F64, 2))),
        Expr::Local(param(Ty::I64, 2)),
    ];
    let value = parts
        .chain(floats)
        .fold(Expr::Const(Ty::I64, 1), |sum, part| {
            let sum = Expr::op("i64.mul", sum, Expr::Const(Ty::I64, 31));
            Expr::op("i64.xor", sum, part)
        });
    function(Ty::I64, body, value)
}
