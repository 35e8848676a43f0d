//! What can stand before an operator (producers of its operands) and after it (consumers of its result).
//!
//! All functions of the systematic groups have the same parameters, three of each type, and two further
//! locals of each type, so that one caller can repeat any of them.

use super::harness::Group;
use super::language::{Expr, Function, Stmt};
use super::operators::{Ty, binary, load_of, store_of, unary};

/// Calls of each function.
pub const CALLS: usize = 5;

/// A small generator of pseudo-random numbers (SplitMix64): the same numbers in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// True once in `count` times.
    pub fn once_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

const I32_VALUES: &[u32] = &[
    0,
    1,
    2,
    3,
    5,
    7,
    8,
    31,
    32,
    33,
    100,
    127,
    128,
    255,
    256,
    0x7fff,
    0x8000,
    0xffff,
    65_528,
    65_536,
    0x1234_5678,
    0x7fff_fffe,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xdead_beef,
    0xffff_ff80,
    0xffff_fffe,
    0xffff_ffff,
];

const I64_VALUES: &[u64] = &[
    0,
    1,
    2,
    3,
    7,
    31,
    32,
    33,
    63,
    64,
    65,
    127,
    128,
    255,
    0x8000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1234_5678_9abc_def0,
    0x7fff_ffff_ffff_fffe,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0x8000_0000_0000_0001,
    0xffff_ffff_7fff_ffff,
    0xffff_ffff_8000_0000,
    0xffff_ffff_ffff_ff80,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
];

const F32_VALUES: &[f32] = &[
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    1.234_567_9,
    1e10,
    -1e10,
    1e-10,
    1e38,
    -1e38,
    1e-45,
    2_147_483_520.0,
    2_147_483_648.0,
    -2_147_483_648.0,
    4_294_967_040.0,
    4_294_967_296.0,
    9.223_372e18,
    1.844_674_4e19,
    f32::MAX,
    f32::MIN_POSITIVE,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

const F64_VALUES: &[f64] = &[
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    0.999_999,
    1.5,
    2.5,
    -2.5,
    1.234_567_890_123,
    1e10,
    -1e10,
    1e-10,
    1e300,
    -1e300,
    5e-324,
    2_147_483_647.0,
    2_147_483_648.0,
    -2_147_483_648.9,
    -2_147_483_649.0,
    4_294_967_295.9,
    4_294_967_296.0,
    9.223_372_036_854_775e18,
    9.223_372_036_854_776e18,
    1.844_674_407_370_955e19,
    1.844_674_407_370_955_2e19,
    f64::MAX,
    f64::MIN_POSITIVE,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

/// A value of a type that is likely to be a corner case.
pub fn value(random: &mut Random, ty: Ty) -> u64 {
    if random.once_in(6) {
        let bits = random.next() >> random.below(60);
        return match ty {
            Ty::I32 | Ty::F32 => bits & 0xffff_ffff,
            Ty::I64 | Ty::F64 => bits,
        };
    }
    match ty {
        Ty::I32 => u64::from(random.one_of(I32_VALUES)),
        Ty::I64 => random.one_of(I64_VALUES),
        Ty::F32 => u64::from(random.one_of(F32_VALUES).to_bits()),
        Ty::F64 => random.one_of(F64_VALUES).to_bits(),
    }
}

/// A value of which no operator makes a NaN: for results whose bits can be seen.
pub fn tame_value(random: &mut Random, ty: Ty) -> u64 {
    match ty {
        Ty::I32 | Ty::I64 => value(random, ty),
        Ty::F32 => u64::from(
            random
                .one_of(&[0.25f32, 1.0, 1.5, 2.0, 3.25, 100.0, 1e9])
                .to_bits(),
        ),
        Ty::F64 => random
            .one_of(&[0.25f64, 1.0, 1.5, 2.0, 3.25, 100.0, 1e9])
            .to_bits(),
    }
}

/// Three parameters of each type.
pub fn standard_params() -> Vec<Ty> {
    Ty::ALL.iter().flat_map(|ty| [*ty; 3]).collect()
}

/// Two further locals of each type.
pub fn standard_locals() -> Vec<Ty> {
    Ty::ALL.iter().flat_map(|ty| [*ty; 2]).collect()
}

/// Parameter number `k` (0 to 2) of a type.
pub fn param(ty: Ty, k: u32) -> u32 {
    ty as u32 * 3 + k
}

/// Further local number `k` (0 to 1) of a type.
pub fn local(ty: Ty, k: u32) -> u32 {
    12 + ty as u32 * 2 + k
}

/// The global of a type.
pub fn global(ty: Ty) -> u32 {
    ty as u32
}

/// A function with the standard parameters and locals.
pub fn function(result: Ty, body: Vec<Stmt>, value: Expr) -> Function {
    Function {
        params: standard_params(),
        locals: standard_locals(),
        result,
        body,
        value,
        tail: false,
    }
}

/// Argument lists for standard functions. Now and then two parameters of a type are equal.
pub fn arguments(random: &mut Random, count: usize, tame: bool) -> Vec<Vec<u64>> {
    let pick = if tame { tame_value } else { value };
    (0..count)
        .map(|_| {
            let mut list = Vec::new();
            for ty in Ty::ALL {
                let (a, b, c) = (pick(random, ty), pick(random, ty), pick(random, ty));
                list.extend([a, if random.once_in(4) { a } else { b }, c]);
            }
            list
        })
        .collect()
}

/// Helper functions that every systematic group begins with: for each type the second of two parameters
/// (functions 0 to 3) and the identity (functions 4 to 7).
pub fn group_with_helpers(name: impl Into<String>) -> Group {
    let mut group = Group::new(name);
    for count in [2u32, 1] {
        for ty in Ty::ALL {
            let helper = Function {
                params: vec![ty; count as usize],
                locals: Vec::new(),
                result: ty,
                body: Vec::new(),
                value: Expr::Local(count - 1),
                tail: false,
            };
            group.test("helper".to_owned(), helper, Vec::new());
        }
    }
    group
}

/// The helper that gives its second parameter.
pub fn second(ty: Ty) -> u32 {
    ty as u32
}

/// The helper that gives its only parameter.
pub fn identity(ty: Ty) -> u32 {
    4 + ty as u32
}

/// Kinds of producers. Not every kind exists for every type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Producer {
    /// A parameter: a slot.
    Param,
    /// A constant: an immediate, if it fits.
    Const,
    /// The result of an operator with bits that are determined: an accumulator.
    Computed,
    /// As `Computed` with an immediate.
    ComputedConst,
    Global,
    Load,
    /// `local.tee` of a computed value.
    Tee,
    /// A local that was set to a computed value just before.
    JustSet,
    /// The value of an `if`: a joint of two paths.
    Joint,
    /// The result of a call.
    Call,
    /// Local plus constant.
    Sum,
    /// Local shifted by a constant.
    Scaled,
    /// Base plus scaled index.
    Indexed,
    /// Base plus scaled index plus constant.
    IndexedSum,
    /// The result of a comparison.
    Compare,
    /// `eqz` of a local.
    Eqz,
    /// A conversion from another type.
    Converted,
}

pub const PRODUCERS: &[Producer] = &[
    Producer::Param,
    Producer::Const,
    Producer::Computed,
    Producer::ComputedConst,
    Producer::Global,
    Producer::Load,
    Producer::Tee,
    Producer::JustSet,
    Producer::Joint,
    Producer::Call,
    Producer::Sum,
    Producer::Scaled,
    Producer::Indexed,
    Producer::IndexedSum,
    Producer::Compare,
    Producer::Eqz,
    Producer::Converted,
];

/// The producers that differ most for the engine.
pub const MAIN_PRODUCERS: &[Producer] = &[Producer::Param, Producer::Const, Producer::Computed];

/// Statements to execute before, and the operand itself. `side` (0 or 1) selects the parameters.
pub fn produce(
    random: &mut Random,
    kind: Producer,
    ty: Ty,
    side: u32,
) -> Option<(Vec<Stmt>, Expr)> {
    let own = Expr::Local(param(ty, side));
    let third = Expr::Local(param(ty, 2));
    let name = ty.name();
    let computed = if ty.is_float() {
        Expr::op(&format!("{name}.copysign"), own.clone(), third.clone())
    } else {
        Expr::op(&format!("{name}.xor"), own.clone(), third.clone())
    };
    let constant = |random: &mut Random| Expr::Const(ty, value(random, ty));
    let small = |random: &mut Random| Expr::i32(random.one_of(&[1, 2, 3, 5]));
    let is_i32 = ty == Ty::I32;
    let expr = match kind {
        Producer::Param => own,
        Producer::Const => constant(random),
        Producer::Computed => computed,
        Producer::ComputedConst if ty.is_float() => {
            Expr::op(&format!("{name}.copysign"), own, constant(random))
        }
        Producer::ComputedConst => Expr::op(&format!("{name}.or"), own, constant(random)),
        Producer::Global => Expr::Global(global(ty)),
        Producer::Load => Expr::load(load_of(ty), 16, Expr::i32(random.one_of(&[0, 8, 40, 1000]))),
        Producer::Tee => Expr::tee(local(ty, side), computed),
        Producer::JustSet => {
            let local = local(ty, side);
            return Some((vec![Stmt::Set(local, computed)], Expr::Local(local)));
        }
        Producer::Joint => Expr::if_else(
            ty,
            Expr::Local(param(Ty::I32, 2)),
            computed,
            constant(random),
        ),
        Producer::Call => Expr::Call(identity(ty), vec![own]),
        Producer::Sum if is_i32 => {
            let constant = constant(random);
            if random.once_in(2) {
                Expr::op("i32.add", own, constant)
            } else {
                Expr::op("i32.sub", own, constant)
            }
        }
        Producer::Scaled if is_i32 => Expr::op("i32.shl", own, small(random)),
        Producer::Indexed if is_i32 => {
            let scaled = Expr::op("i32.shl", third, small(random));
            if random.once_in(2) {
                Expr::op("i32.add", own, scaled)
            } else {
                Expr::op("i32.add", scaled, own)
            }
        }
        Producer::IndexedSum if is_i32 => {
            let scaled = Expr::op("i32.shl", third, small(random));
            let sum = Expr::op("i32.add", own, Expr::i32(random.one_of(&[4, 16, -8, 1000])));
            if random.once_in(2) {
                Expr::op("i32.add", sum, scaled)
            } else {
                Expr::op("i32.add", scaled, sum)
            }
        }
        Producer::Compare if is_i32 => {
            let operand = random.one_of(&Ty::ALL);
            let name = if operand.is_float() { "lt" } else { "lt_s" };
            Expr::op(
                &format!("{}.{name}", operand.name()),
                Expr::Local(param(operand, side)),
                Expr::Local(param(operand, 2)),
            )
        }
        Producer::Eqz if is_i32 => {
            let (name, operand) = random.one_of(&[("i32.eqz", Ty::I32), ("i64.eqz", Ty::I64)]);
            Expr::unary(unary(name), Expr::Local(param(operand, side)))
        }
        Producer::Converted => {
            let (name, operand) = match ty {
                Ty::I32 => ("i32.wrap_i64", Ty::I64),
                Ty::I64 => {
                    random.one_of(&[("i64.extend_i32_u", Ty::I32), ("i64.extend_i32_s", Ty::I32)])
                }
                Ty::F32 => ("f32.convert_i32_s", Ty::I32),
                Ty::F64 => ("f64.convert_i32_u", Ty::I32),
            };
            Expr::unary(unary(name), Expr::Local(param(operand, side)))
        }
        _ => return None,
    };
    Some((Vec::new(), expr))
}

/// Kinds of consumers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consumer {
    /// The function's result.
    Result,
    /// `local.set`, then the local is the result.
    Set,
    /// `local.set` of a parameter that may be an operand.
    SetParam,
    /// `local.tee`, then value and local are combined.
    Tee,
    /// Left operand of the next operator.
    Left,
    /// Right operand of the next operator, whose left one is a local.
    Right,
    /// Right operand of the next operator, whose left one was computed before.
    RightOfComputed,
    Global,
    Store,
    FirstArgument,
    LastArgument,
    Return,
    /// Value of a branch out of a block.
    Branch,
    /// Value of a conditional branch out of a block.
    BranchIf,
    Drop,
    /// One arm of a select.
    SelectArm,
    // From here on only for i32: conditions, indices, addresses.
    If,
    IfWithoutElse,
    IfValue,
    BrIf,
    BrIfEqz,
    BrIfEqzEqz,
    LoopBack,
    LoopBackEqz,
    SelectCondition,
    SelectConditionEqz,
    BrTable,
    Address,
    StoreAddress,
    CallIndirectIndex,
}

pub const VALUE_CONSUMERS: &[Consumer] = &[
    Consumer::Result,
    Consumer::Set,
    Consumer::SetParam,
    Consumer::Tee,
    Consumer::Left,
    Consumer::Right,
    Consumer::RightOfComputed,
    Consumer::Global,
    Consumer::Store,
    Consumer::FirstArgument,
    Consumer::LastArgument,
    Consumer::Return,
    Consumer::Branch,
    Consumer::BranchIf,
    Consumer::Drop,
    Consumer::SelectArm,
];

pub const I32_CONSUMERS: &[Consumer] = &[
    Consumer::If,
    Consumer::IfWithoutElse,
    Consumer::IfValue,
    Consumer::BrIf,
    Consumer::BrIfEqz,
    Consumer::BrIfEqzEqz,
    Consumer::LoopBack,
    Consumer::LoopBackEqz,
    Consumer::SelectCondition,
    Consumer::SelectConditionEqz,
    Consumer::BrTable,
    Consumer::Address,
    Consumer::StoreAddress,
    Consumer::CallIndirectIndex,
];

impl Consumer {
    /// Whether the bits of the value can be seen, so that it must not be a NaN of arithmetic.
    pub fn shows_bits(self) -> bool {
        matches!(self, Consumer::Store | Consumer::Global)
    }
}

/// A function that executes `before` and gives `expr`, a value of type `ty`, to the consumer.
pub fn consume(kind: Consumer, ty: Ty, before: Vec<Stmt>, expr: Expr) -> Function {
    let mut body = before;
    let name = ty.name();
    let combine = |a: Expr, b: Expr| Expr::op(&format!("{name}.add"), a, b);
    let other = Expr::Local(param(ty, 1));
    let spare = local(ty, 1);
    let eqz = |expr: Expr| Expr::unary(unary("i32.eqz"), expr);
    let (ten, twenty) = (Expr::i32(10), Expr::i32(20));
    let flag = local(Ty::I32, 1);
    let flagged = Expr::Local(flag);
    let value = match kind {
        Consumer::Result => expr,
        Consumer::Set => {
            body.push(Stmt::Set(spare, expr));
            Expr::Local(spare)
        }
        Consumer::SetParam => {
            body.push(Stmt::Set(param(ty, 0), expr));
            Expr::Local(param(ty, 0))
        }
        Consumer::Tee => combine(Expr::tee(spare, expr), Expr::Local(spare)),
        Consumer::Left => combine(expr, other),
        Consumer::Right => combine(other, expr),
        Consumer::RightOfComputed => {
            let computed = combine(Expr::Local(param(ty, 0)), Expr::Local(param(ty, 2)));
            combine(computed, expr)
        }
        Consumer::Global => {
            body.push(Stmt::SetGlobal(global(ty), expr));
            Expr::Global(global(ty))
        }
        Consumer::Store => {
            body.push(Stmt::Store(store_of(ty), 0, Expr::i32(64), expr));
            Expr::load(load_of(ty), 32, Expr::i32(32))
        }
        Consumer::FirstArgument => Expr::Call(second(ty), vec![expr, other]),
        Consumer::LastArgument => Expr::Call(second(ty), vec![other, expr]),
        Consumer::Return => {
            body.push(Stmt::Return(expr));
            Expr::Const(ty, 0)
        }
        Consumer::Branch => Expr::Block(
            ty,
            vec![Stmt::BrValue(0, expr)],
            Box::new(Expr::Const(ty, 0)),
        ),
        Consumer::BranchIf => {
            let branch = Stmt::BrIfValue(0, expr, Expr::Local(param(Ty::I32, 1)));
            Expr::Block(ty, vec![branch], Box::new(other))
        }
        Consumer::Drop => {
            body.push(Stmt::Drop(expr));
            other
        }
        Consumer::SelectArm => Expr::select(expr, other, Expr::Local(param(Ty::I32, 2))),
        Consumer::If => {
            body.push(Stmt::If(
                expr,
                vec![Stmt::Set(flag, ten)],
                vec![Stmt::Set(flag, twenty)],
            ));
            flagged
        }
        Consumer::IfWithoutElse => {
            body.push(Stmt::If(expr, vec![Stmt::Set(flag, ten)], Vec::new()));
            flagged
        }
        Consumer::IfValue => Expr::if_else(Ty::I32, expr, ten, twenty),
        Consumer::BrIf | Consumer::BrIfEqz | Consumer::BrIfEqzEqz => {
            let condition = match kind {
                Consumer::BrIf => expr,
                Consumer::BrIfEqz => eqz(expr),
                _ => eqz(eqz(expr)),
            };
            let block = vec![Stmt::BrIf(0, condition), Stmt::Set(flag, ten)];
            body.push(Stmt::Block(block));
            flagged
        }
        Consumer::LoopBack | Consumer::LoopBackEqz => {
            let again = if kind == Consumer::LoopBack {
                expr
            } else {
                eqz(expr)
            };
            let counter = local(Ty::I64, 1);
            let counted = Expr::op("i64.add", Expr::Local(counter), Expr::Const(Ty::I64, 1));
            let guard = Expr::op(
                "i64.ge_u",
                Expr::tee(counter, counted),
                Expr::Const(Ty::I64, 4),
            );
            let around = vec![Stmt::BrIf(1, guard), Stmt::BrIf(0, again)];
            body.push(Stmt::Block(vec![Stmt::Loop(around)]));
            Expr::unary(unary("i32.wrap_i64"), Expr::Local(counter))
        }
        Consumer::SelectCondition => Expr::select(ten, twenty, expr),
        Consumer::SelectConditionEqz => Expr::select(
            Expr::Local(param(Ty::I32, 0)),
            Expr::Local(param(Ty::I32, 1)),
            eqz(expr),
        ),
        Consumer::BrTable => {
            let inner = Stmt::Block(vec![Stmt::BrTable(vec![0, 1], 2, expr)]);
            let middle = Stmt::Block(vec![inner, Stmt::Set(flag, ten), Stmt::Br(1)]);
            body.push(Stmt::Block(vec![middle, Stmt::Set(flag, twenty)]));
            flagged
        }
        Consumer::Address => Expr::load(load_of(Ty::I32), 4, expr),
        Consumer::StoreAddress => {
            body.push(Stmt::Store(
                store_of(Ty::I32),
                4,
                expr,
                Expr::Local(param(Ty::I32, 2)),
            ));
            Expr::Local(param(Ty::I32, 1))
        }
        Consumer::CallIndirectIndex => {
            // Elements 0 and 1 are helpers of two types: the second one is a type mismatch.
            Expr::CallIndirect {
                like: second(Ty::I32),
                arguments: vec![
                    Expr::Local(param(Ty::I32, 0)),
                    Expr::Local(param(Ty::I32, 1)),
                ],
                index: Box::new(expr),
            }
        }
    };
    let result = match kind {
        _ if VALUE_CONSUMERS.contains(&kind) => ty,
        _ => Ty::I32,
    };
    function(result, body, value)
}

/// A comparison operator of a type, for the generators.
pub fn comparison(random: &mut Random, ty: Ty) -> &'static super::operators::Binary {
    let names: &[&str] = if ty.is_float() {
        &["eq", "ne", "lt", "gt", "le", "ge"]
    } else {
        &[
            "eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u",
        ]
    };
    binary(&format!("{}.{}", ty.name(), random.one_of(names)))
}

/// Arguments with which addresses are mostly in bounds: small i32 values, but for some.
pub fn address_arguments(random: &mut Random, count: usize) -> Vec<Vec<u64>> {
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
