//! The numeric operators of WebAssembly with their meaning, written from the specification and sharing
//! nothing with the engine. Values are 64-bit patterns: i32 zero-extended, floats as their bits.

use dynlink::TrapCode;

/// Number types.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Ty {
    I32,
    I64,
    F32,
    F64,
}

impl Ty {
    pub const ALL: [Ty; 4] = [Ty::I32, Ty::I64, Ty::F32, Ty::F64];

    /// The type's keyword.
    pub fn name(self) -> &'static str {
        match self {
            Ty::I32 => "i32",
            Ty::I64 => "i64",
            Ty::F32 => "f32",
            Ty::F64 => "f64",
        }
    }

    pub fn is_float(self) -> bool {
        matches!(self, Ty::F32 | Ty::F64)
    }

    /// Whether two results are the same as far as the specification says: the sign and payload of a
    /// NaN that arithmetic made are not determined.
    pub fn same(self, a: u64, b: u64) -> bool {
        let both_nan = match self {
            Ty::F32 => f32_of(a).is_nan() && f32_of(b).is_nan(),
            Ty::F64 => f64_of(a).is_nan() && f64_of(b).is_nan(),
            Ty::I32 | Ty::I64 => false,
        };
        a == b || both_nan
    }
}

/// An operator with one operand.
pub struct Unary {
    pub name: &'static str,
    pub operand: Ty,
    pub result: Ty,
    pub apply: fn(u64) -> Result<u64, TrapCode>,
}

/// An operator with two operands of one type.
pub struct Binary {
    pub name: &'static str,
    pub operand: Ty,
    pub result: Ty,
    pub apply: fn(u64, u64) -> Result<u64, TrapCode>,
}

/// A load: `bytes` bytes, then `widen`.
pub struct Load {
    pub name: &'static str,
    pub result: Ty,
    pub bytes: usize,
    pub widen: fn(u64) -> u64,
}

/// A store of the low `bytes` bytes.
pub struct Store {
    pub name: &'static str,
    pub operand: Ty,
    pub bytes: usize,
}

fn f32_of(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}
fn f64_of(bits: u64) -> f64 {
    f64::from_bits(bits)
}
fn of_f32(value: f32) -> u64 {
    u64::from(value.to_bits())
}
fn of_f64(value: f64) -> u64 {
    value.to_bits()
}
fn of_bool(value: bool) -> u64 {
    u64::from(value)
}

macro_rules! binary {
    ($($name:literal $operand:ident $result:ident |$a:ident, $b:ident| $apply:expr;)*) => {
        &[$(Binary {
            name: $name,
            operand: Ty::$operand,
            result: Ty::$result,
            apply: |$a, $b| $apply,
        }),*]
    };
}

fn divide_i32_s(a: u64, b: u64) -> Result<u64, TrapCode> {
    let (a, b) = (i64::from(a as i32), i64::from(b as i32));
    if b == 0 {
        return Err(TrapCode::IntegerDivideByZero);
    }
    let quotient = a / b;
    if quotient > i64::from(i32::MAX) {
        return Err(TrapCode::IntegerOverflow);
    }
    Ok(u64::from(quotient as u32))
}

fn divide_i64_s(a: u64, b: u64) -> Result<u64, TrapCode> {
    let (a, b) = (i128::from(a as i64), i128::from(b as i64));
    if b == 0 {
        return Err(TrapCode::IntegerDivideByZero);
    }
    let quotient = a / b;
    if quotient > i128::from(i64::MAX) {
        return Err(TrapCode::IntegerOverflow);
    }
    Ok(quotient as u64)
}

fn nonzero(b: u64) -> Result<u64, TrapCode> {
    if b == 0 {
        Err(TrapCode::IntegerDivideByZero)
    } else {
        Ok(b)
    }
}

fn remainder_i64_s(a: u64, b: u64) -> Result<u64, TrapCode> {
    let (a, b) = (i128::from(a as i64), i128::from(nonzero(b)? as i64));
    Ok((a % b) as u64)
}

fn remainder_i32_s(a: u64, b: u64) -> Result<u64, TrapCode> {
    let (a, b) = (i64::from(a as i32), i64::from(nonzero(b)? as i32));
    Ok(u64::from((a % b) as u32))
}

/// Rotates a `width`-bit number to the left, bit by bit as the specification's `irotl` reads.
fn rotate_left(a: u64, by: u64, width: u32) -> u64 {
    let by = (by % u64::from(width)) as u32;
    if by == 0 {
        return a;
    }
    let mask = if width == 64 {
        u64::MAX
    } else {
        (1 << width) - 1
    };
    ((a << by) | (a >> (width - by))) & mask
}

macro_rules! minimum_maximum {
    ($minimum:ident $maximum:ident $float:ident) => {
        fn $minimum(a: $float, b: $float) -> $float {
            if a.is_nan() || b.is_nan() {
                $float::NAN
            } else if a == b {
                // Zeros of both signs are equal; the negative one is the smaller.
                if a.is_sign_negative() { a } else { b }
            } else if a < b {
                a
            } else {
                b
            }
        }
        fn $maximum(a: $float, b: $float) -> $float {
            if a.is_nan() || b.is_nan() {
                $float::NAN
            } else if a == b {
                if a.is_sign_positive() { a } else { b }
            } else if a > b {
                a
            } else {
                b
            }
        }
    };
}
minimum_maximum!(minimum_f32 maximum_f32 f32);
minimum_maximum!(minimum_f64 maximum_f64 f64);

/// All binary operators.
pub static BINARY: &[Binary] = binary! {
    "i32.add" I32 I32 |a, b| Ok((a + b) & 0xffff_ffff);
    "i32.sub" I32 I32 |a, b| Ok(a.wrapping_sub(b) & 0xffff_ffff);
    "i32.mul" I32 I32 |a, b| Ok(a.wrapping_mul(b) & 0xffff_ffff);
    "i32.div_s" I32 I32 |a, b| divide_i32_s(a, b);
    "i32.div_u" I32 I32 |a, b| Ok(a / nonzero(b)?);
    "i32.rem_s" I32 I32 |a, b| remainder_i32_s(a, b);
    "i32.rem_u" I32 I32 |a, b| Ok(a % nonzero(b)?);
    "i32.and" I32 I32 |a, b| Ok(a & b);
    "i32.or" I32 I32 |a, b| Ok(a | b);
    "i32.xor" I32 I32 |a, b| Ok(a ^ b);
    "i32.shl" I32 I32 |a, b| Ok((a << (b % 32)) & 0xffff_ffff);
    "i32.shr_s" I32 I32 |a, b| Ok(u64::from((i64::from(a as i32) >> (b % 32)) as u32));
    "i32.shr_u" I32 I32 |a, b| Ok(a >> (b % 32));
    "i32.rotl" I32 I32 |a, b| Ok(rotate_left(a, b, 32));
    "i32.rotr" I32 I32 |a, b| Ok(rotate_left(a, 32 - b % 32, 32));
    "i32.eq" I32 I32 |a, b| Ok(of_bool(a == b));
    "i32.ne" I32 I32 |a, b| Ok(of_bool(a != b));
    "i32.lt_s" I32 I32 |a, b| Ok(of_bool((a as i32) < b as i32));
    "i32.lt_u" I32 I32 |a, b| Ok(of_bool(a < b));
    "i32.gt_s" I32 I32 |a, b| Ok(of_bool(a as i32 > b as i32));
    "i32.gt_u" I32 I32 |a, b| Ok(of_bool(a > b));
    "i32.le_s" I32 I32 |a, b| Ok(of_bool(a as i32 <= b as i32));
    "i32.le_u" I32 I32 |a, b| Ok(of_bool(a <= b));
    "i32.ge_s" I32 I32 |a, b| Ok(of_bool(a as i32 >= b as i32));
    "i32.ge_u" I32 I32 |a, b| Ok(of_bool(a >= b));
    "i64.add" I64 I64 |a, b| Ok(a.wrapping_add(b));
    "i64.sub" I64 I64 |a, b| Ok(a.wrapping_sub(b));
    "i64.mul" I64 I64 |a, b| Ok(a.wrapping_mul(b));
    "i64.div_s" I64 I64 |a, b| divide_i64_s(a, b);
    "i64.div_u" I64 I64 |a, b| Ok(a / nonzero(b)?);
    "i64.rem_s" I64 I64 |a, b| remainder_i64_s(a, b);
    "i64.rem_u" I64 I64 |a, b| Ok(a % nonzero(b)?);
    "i64.and" I64 I64 |a, b| Ok(a & b);
    "i64.or" I64 I64 |a, b| Ok(a | b);
    "i64.xor" I64 I64 |a, b| Ok(a ^ b);
    "i64.shl" I64 I64 |a, b| Ok(a << (b % 64));
    "i64.shr_s" I64 I64 |a, b| Ok((i128::from(a as i64) >> (b % 64)) as u64);
    "i64.shr_u" I64 I64 |a, b| Ok(a >> (b % 64));
    "i64.rotl" I64 I64 |a, b| Ok(rotate_left(a, b, 64));
    "i64.rotr" I64 I64 |a, b| Ok(rotate_left(a, 64 - b % 64, 64));
    "i64.eq" I64 I32 |a, b| Ok(of_bool(a == b));
    "i64.ne" I64 I32 |a, b| Ok(of_bool(a != b));
    "i64.lt_s" I64 I32 |a, b| Ok(of_bool((a as i64) < b as i64));
    "i64.lt_u" I64 I32 |a, b| Ok(of_bool(a < b));
    "i64.gt_s" I64 I32 |a, b| Ok(of_bool(a as i64 > b as i64));
    "i64.gt_u" I64 I32 |a, b| Ok(of_bool(a > b));
    "i64.le_s" I64 I32 |a, b| Ok(of_bool(a as i64 <= b as i64));
    "i64.le_u" I64 I32 |a, b| Ok(of_bool(a <= b));
    "i64.ge_s" I64 I32 |a, b| Ok(of_bool(a as i64 >= b as i64));
    "i64.ge_u" I64 I32 |a, b| Ok(of_bool(a >= b));
    "f32.add" F32 F32 |a, b| Ok(of_f32(f32_of(a) + f32_of(b)));
    "f32.sub" F32 F32 |a, b| Ok(of_f32(f32_of(a) - f32_of(b)));
    "f32.mul" F32 F32 |a, b| Ok(of_f32(f32_of(a) * f32_of(b)));
    "f32.div" F32 F32 |a, b| Ok(of_f32(f32_of(a) / f32_of(b)));
    "f32.min" F32 F32 |a, b| Ok(of_f32(minimum_f32(f32_of(a), f32_of(b))));
    "f32.max" F32 F32 |a, b| Ok(of_f32(maximum_f32(f32_of(a), f32_of(b))));
    "f32.copysign" F32 F32 |a, b| Ok((a & 0x7fff_ffff) | (b & 0x8000_0000));
    "f32.eq" F32 I32 |a, b| Ok(of_bool(f32_of(a) == f32_of(b)));
    "f32.ne" F32 I32 |a, b| Ok(of_bool(f32_of(a) != f32_of(b)));
    "f32.lt" F32 I32 |a, b| Ok(of_bool(f32_of(a) < f32_of(b)));
    "f32.gt" F32 I32 |a, b| Ok(of_bool(f32_of(a) > f32_of(b)));
    "f32.le" F32 I32 |a, b| Ok(of_bool(f32_of(a) <= f32_of(b)));
    "f32.ge" F32 I32 |a, b| Ok(of_bool(f32_of(a) >= f32_of(b)));
    "f64.add" F64 F64 |a, b| Ok(of_f64(f64_of(a) + f64_of(b)));
    "f64.sub" F64 F64 |a, b| Ok(of_f64(f64_of(a) - f64_of(b)));
    "f64.mul" F64 F64 |a, b| Ok(of_f64(f64_of(a) * f64_of(b)));
    "f64.div" F64 F64 |a, b| Ok(of_f64(f64_of(a) / f64_of(b)));
    "f64.min" F64 F64 |a, b| Ok(of_f64(minimum_f64(f64_of(a), f64_of(b))));
    "f64.max" F64 F64 |a, b| Ok(of_f64(maximum_f64(f64_of(a), f64_of(b))));
    "f64.copysign" F64 F64 |a, b| Ok((a & (u64::MAX >> 1)) | (b & (1 << 63)));
    "f64.eq" F64 I32 |a, b| Ok(of_bool(f64_of(a) == f64_of(b)));
    "f64.ne" F64 I32 |a, b| Ok(of_bool(f64_of(a) != f64_of(b)));
    "f64.lt" F64 I32 |a, b| Ok(of_bool(f64_of(a) < f64_of(b)));
    "f64.gt" F64 I32 |a, b| Ok(of_bool(f64_of(a) > f64_of(b)));
    "f64.le" F64 I32 |a, b| Ok(of_bool(f64_of(a) <= f64_of(b)));
    "f64.ge" F64 I32 |a, b| Ok(of_bool(f64_of(a) >= f64_of(b)));
};

/// The whole part of a float as an integer in `[low, high)`, or the trap of the truncation.
fn truncate(value: f64, low: f64, high: f64) -> Result<i128, TrapCode> {
    if value.is_nan() {
        return Err(TrapCode::BadConversionToInteger);
    }
    let whole = value.trunc();
    if whole < low || whole >= high {
        return Err(TrapCode::IntegerOverflow);
    }
    Ok(whole as i128)
}

/// The whole part of a float clamped to `[low, high]`; NaN gives 0.
fn saturate(value: f64, low: i128, high: i128) -> i128 {
    // i128 holds every bound of the four target types, and the conversion itself saturates.
    (value as i128).clamp(low, high)
}

const P31: f64 = 2_147_483_648.0;
const P32: f64 = 4_294_967_296.0;
const P63: f64 = 9_223_372_036_854_775_808.0;
const P64: f64 = 18_446_744_073_709_551_616.0;

fn low32(value: i128) -> u64 {
    u64::from(value as u32)
}

macro_rules! unary {
    ($($name:literal $operand:ident $result:ident |$a:ident| $apply:expr;)*) => {
        &[$(Unary {
            name: $name,
            operand: Ty::$operand,
            result: Ty::$result,
            apply: |$a| $apply,
        }),*]
    };
}

/// All unary operators: arithmetic, tests, conversions.
pub static UNARY: &[Unary] = unary! {
    "i32.clz" I32 I32 |a| Ok(u64::from((a as u32).leading_zeros()));
    "i32.ctz" I32 I32 |a| Ok(u64::from((a as u32).trailing_zeros()));
    "i32.popcnt" I32 I32 |a| Ok(u64::from(a.count_ones()));
    "i32.eqz" I32 I32 |a| Ok(of_bool(a == 0));
    "i32.extend8_s" I32 I32 |a| Ok(u64::from(i32::from(a as i8) as u32));
    "i32.extend16_s" I32 I32 |a| Ok(u64::from(i32::from(a as i16) as u32));
    "i64.clz" I64 I64 |a| Ok(u64::from(a.leading_zeros()));
    "i64.ctz" I64 I64 |a| Ok(u64::from(a.trailing_zeros()));
    "i64.popcnt" I64 I64 |a| Ok(u64::from(a.count_ones()));
    "i64.eqz" I64 I32 |a| Ok(of_bool(a == 0));
    "i64.extend8_s" I64 I64 |a| Ok(i64::from(a as i8) as u64);
    "i64.extend16_s" I64 I64 |a| Ok(i64::from(a as i16) as u64);
    "i64.extend32_s" I64 I64 |a| Ok(i64::from(a as i32) as u64);
    "i32.wrap_i64" I64 I32 |a| Ok(a & 0xffff_ffff);
    "i64.extend_i32_s" I32 I64 |a| Ok(i64::from(a as i32) as u64);
    "i64.extend_i32_u" I32 I64 |a| Ok(a);
    "f32.abs" F32 F32 |a| Ok(a & 0x7fff_ffff);
    "f32.neg" F32 F32 |a| Ok(a ^ 0x8000_0000);
    "f32.ceil" F32 F32 |a| Ok(of_f32(f32_of(a).ceil()));
    "f32.floor" F32 F32 |a| Ok(of_f32(f32_of(a).floor()));
    "f32.trunc" F32 F32 |a| Ok(of_f32(f32_of(a).trunc()));
    "f32.nearest" F32 F32 |a| Ok(of_f32(f32_of(a).round_ties_even()));
    "f32.sqrt" F32 F32 |a| Ok(of_f32(f32_of(a).sqrt()));
    "f64.abs" F64 F64 |a| Ok(a & (u64::MAX >> 1));
    "f64.neg" F64 F64 |a| Ok(a ^ (1 << 63));
    "f64.ceil" F64 F64 |a| Ok(of_f64(f64_of(a).ceil()));
    "f64.floor" F64 F64 |a| Ok(of_f64(f64_of(a).floor()));
    "f64.trunc" F64 F64 |a| Ok(of_f64(f64_of(a).trunc()));
    "f64.nearest" F64 F64 |a| Ok(of_f64(f64_of(a).round_ties_even()));
    "f64.sqrt" F64 F64 |a| Ok(of_f64(f64_of(a).sqrt()));
    "i32.trunc_f32_s" F32 I32 |a| Ok(low32(truncate(f64::from(f32_of(a)), -P31, P31)?));
    "i32.trunc_f32_u" F32 I32 |a| Ok(low32(truncate(f64::from(f32_of(a)), 0.0, P32)?));
    "i32.trunc_f64_s" F64 I32 |a| Ok(low32(truncate(f64_of(a), -P31, P31)?));
    "i32.trunc_f64_u" F64 I32 |a| Ok(low32(truncate(f64_of(a), 0.0, P32)?));
    "i64.trunc_f32_s" F32 I64 |a| Ok(truncate(f64::from(f32_of(a)), -P63, P63)? as u64);
    "i64.trunc_f32_u" F32 I64 |a| Ok(truncate(f64::from(f32_of(a)), 0.0, P64)? as u64);
    "i64.trunc_f64_s" F64 I64 |a| Ok(truncate(f64_of(a), -P63, P63)? as u64);
    "i64.trunc_f64_u" F64 I64 |a| Ok(truncate(f64_of(a), 0.0, P64)? as u64);
    "i32.trunc_sat_f32_s" F32 I32 |a| Ok(low32(saturate(f64::from(f32_of(a)), i128::from(i32::MIN), i128::from(i32::MAX))));
    "i32.trunc_sat_f32_u" F32 I32 |a| Ok(low32(saturate(f64::from(f32_of(a)), 0, i128::from(u32::MAX))));
    "i32.trunc_sat_f64_s" F64 I32 |a| Ok(low32(saturate(f64_of(a), i128::from(i32::MIN), i128::from(i32::MAX))));
    "i32.trunc_sat_f64_u" F64 I32 |a| Ok(low32(saturate(f64_of(a), 0, i128::from(u32::MAX))));
    "i64.trunc_sat_f32_s" F32 I64 |a| Ok(saturate(f64::from(f32_of(a)), i128::from(i64::MIN), i128::from(i64::MAX)) as u64);
    "i64.trunc_sat_f32_u" F32 I64 |a| Ok(saturate(f64::from(f32_of(a)), 0, i128::from(u64::MAX)) as u64);
    "i64.trunc_sat_f64_s" F64 I64 |a| Ok(saturate(f64_of(a), i128::from(i64::MIN), i128::from(i64::MAX)) as u64);
    "i64.trunc_sat_f64_u" F64 I64 |a| Ok(saturate(f64_of(a), 0, i128::from(u64::MAX)) as u64);
    "f32.convert_i32_s" I32 F32 |a| Ok(of_f32(a as i32 as f32));
    "f32.convert_i32_u" I32 F32 |a| Ok(of_f32(a as u32 as f32));
    "f32.convert_i64_s" I64 F32 |a| Ok(of_f32(a as i64 as f32));
    "f32.convert_i64_u" I64 F32 |a| Ok(of_f32(a as f32));
    "f64.convert_i32_s" I32 F64 |a| Ok(of_f64(f64::from(a as i32)));
    "f64.convert_i32_u" I32 F64 |a| Ok(of_f64(f64::from(a as u32)));
    "f64.convert_i64_s" I64 F64 |a| Ok(of_f64(a as i64 as f64));
    "f64.convert_i64_u" I64 F64 |a| Ok(of_f64(a as f64));
    "f32.demote_f64" F64 F32 |a| Ok(of_f32(f64_of(a) as f32));
    "f64.promote_f32" F32 F64 |a| Ok(of_f64(f64::from(f32_of(a))));
    "i32.reinterpret_f32" F32 I32 |a| Ok(a);
    "i64.reinterpret_f64" F64 I64 |a| Ok(a);
    "f32.reinterpret_i32" I32 F32 |a| Ok(a);
    "f64.reinterpret_i64" I64 F64 |a| Ok(a);
};

macro_rules! loads {
    ($($name:literal $result:ident $bytes:literal |$a:ident| $widen:expr;)*) => {
        &[$(Load { name: $name, result: Ty::$result, bytes: $bytes, widen: |$a| $widen }),*]
    };
}

/// All loads.
pub static LOADS: &[Load] = loads! {
    "i32.load" I32 4 |a| a;
    "i32.load8_s" I32 1 |a| u64::from(i32::from(a as i8) as u32);
    "i32.load8_u" I32 1 |a| a;
    "i32.load16_s" I32 2 |a| u64::from(i32::from(a as i16) as u32);
    "i32.load16_u" I32 2 |a| a;
    "i64.load" I64 8 |a| a;
    "i64.load8_s" I64 1 |a| i64::from(a as i8) as u64;
    "i64.load8_u" I64 1 |a| a;
    "i64.load16_s" I64 2 |a| i64::from(a as i16) as u64;
    "i64.load16_u" I64 2 |a| a;
    "i64.load32_s" I64 4 |a| i64::from(a as i32) as u64;
    "i64.load32_u" I64 4 |a| a;
    "f32.load" F32 4 |a| a;
    "f64.load" F64 8 |a| a;
};

/// All stores.
pub static STORES: &[Store] = &[
    Store {
        name: "i32.store",
        operand: Ty::I32,
        bytes: 4,
    },
    Store {
        name: "i32.store8",
        operand: Ty::I32,
        bytes: 1,
    },
    Store {
        name: "i32.store16",
        operand: Ty::I32,
        bytes: 2,
    },
    Store {
        name: "i64.store",
        operand: Ty::I64,
        bytes: 8,
    },
    Store {
        name: "i64.store8",
        operand: Ty::I64,
        bytes: 1,
    },
    Store {
        name: "i64.store16",
        operand: Ty::I64,
        bytes: 2,
    },
    Store {
        name: "i64.store32",
        operand: Ty::I64,
        bytes: 4,
    },
    Store {
        name: "f32.store",
        operand: Ty::F32,
        bytes: 4,
    },
    Store {
        name: "f64.store",
        operand: Ty::F64,
        bytes: 8,
    },
];

/// A binary operator by name; the tables above hold every name that the generators use.
pub fn binary(name: &str) -> &'static Binary {
    let found = BINARY.iter().find(|op| op.name == name);
    found.unwrap_or_else(|| panic!("no binary operator `{name}`"))
}

/// A unary operator by name.
pub fn unary(name: &str) -> &'static Unary {
    let found = UNARY.iter().find(|op| op.name == name);
    found.unwrap_or_else(|| panic!("no unary operator `{name}`"))
}

/// The full-width load of a type.
pub fn load_of(ty: Ty) -> &'static Load {
    let name = format!("{}.load", ty.name());
    let found = LOADS.iter().find(|op| op.name == name);
    found.unwrap_or_else(|| panic!("no load of {}", ty.name()))
}

/// The full-width store of a type.
pub fn store_of(ty: Ty) -> &'static Store {
    let name = format!("{}.store", ty.name());
    let found = STORES.iter().find(|op| op.name == name);
    found.unwrap_or_else(|| panic!("no store of {}", ty.name()))
}
