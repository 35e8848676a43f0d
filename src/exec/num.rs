//! Numeric semantics that are longer than a formula: pure, safe, no state.

#![forbid(unsafe_code)]

use crate::trap::TrapCode;

macro_rules! division {
    ($signed:ty, $unsigned:ty, $div_s:ident, $div_u:ident, $rem_s:ident, $rem_u:ident) => {
        /// Signed division; traps on zero and on overflow.
        #[inline(always)]
        pub(super) fn $div_s(x: $signed, y: $signed) -> Result<$signed, TrapCode> {
            match x.checked_div(y) {
                Some(quotient) => Ok(quotient),
                None if y == 0 => Err(TrapCode::IntegerDivideByZero),
                None => Err(TrapCode::IntegerOverflow),
            }
        }
        /// Unsigned division; traps on zero.
        #[inline(always)]
        pub(super) fn $div_u(x: $unsigned, y: $unsigned) -> Result<$unsigned, TrapCode> {
            x.checked_div(y).ok_or(TrapCode::IntegerDivideByZero)
        }
        /// Signed remainder; traps on zero; the least number mod -1 is 0.
        #[inline(always)]
        pub(super) fn $rem_s(x: $signed, y: $signed) -> Result<$signed, TrapCode> {
            if y == 0 {
                Err(TrapCode::IntegerDivideByZero)
            } else {
                Ok(x.wrapping_rem(y))
            }
        }
        /// Unsigned remainder; traps on zero.
        #[inline(always)]
        pub(super) fn $rem_u(x: $unsigned, y: $unsigned) -> Result<$unsigned, TrapCode> {
            x.checked_rem(y).ok_or(TrapCode::IntegerDivideByZero)
        }
    };
}
division!(i32, u32, i32_div_s, i32_div_u, i32_rem_s, i32_rem_u);
division!(i64, u64, i64_div_s, i64_div_u, i64_rem_s, i64_rem_u);

macro_rules! floats {
    ($float:ty, $min:ident, $max:ident, $copysign:ident, $sign:literal,
     $ceil:ident, $floor:ident, $trunc:ident, $nearest:ident) => {
        /// The lesser; -0 is less than +0; a quiet NaN if either is NaN.
        #[inline(always)]
        pub(super) fn $min(x: $float, y: $float) -> $float {
            if x < y {
                x
            } else if y < x {
                y
            } else if x == y {
                <$float>::from_bits(x.to_bits() | y.to_bits())
            } else {
                x + y
            }
        }
        /// The greater; +0 is greater than -0; a quiet NaN if either is NaN.
        #[inline(always)]
        pub(super) fn $max(x: $float, y: $float) -> $float {
            if x > y {
                x
            } else if y > x {
                y
            } else if x == y {
                <$float>::from_bits(x.to_bits() & y.to_bits())
            } else {
                x + y
            }
        }
        /// `x` with the sign of `y`, also for NaN.
        #[inline(always)]
        pub(super) fn $copysign(x: $float, y: $float) -> $float {
            <$float>::from_bits(x.to_bits() & !$sign | y.to_bits() & $sign)
        }
        /// Rounded up; NaN becomes quiet.
        #[inline(always)]
        pub(super) fn $ceil(x: $float) -> $float {
            if x.is_nan() { x + x } else { x.ceil() }
        }
        /// Rounded down; NaN becomes quiet.
        #[inline(always)]
        pub(super) fn $floor(x: $float) -> $float {
            if x.is_nan() { x + x } else { x.floor() }
        }
        /// Rounded to zero; NaN becomes quiet.
        #[inline(always)]
        pub(super) fn $trunc(x: $float) -> $float {
            if x.is_nan() { x + x } else { x.trunc() }
        }
        /// Rounded to the nearest, ties to even; NaN becomes quiet.
        #[inline(always)]
        pub(super) fn $nearest(x: $float) -> $float {
            if x.is_nan() {
                x + x
            } else {
                x.round_ties_even()
            }
        }
    };
}
floats!(
    f32,
    f32_min,
    f32_max,
    f32_copysign,
    0x8000_0000,
    f32_ceil,
    f32_floor,
    f32_trunc,
    f32_nearest
);
floats!(
    f64,
    f64_min,
    f64_max,
    f64_copysign,
    0x8000_0000_0000_0000,
    f64_ceil,
    f64_floor,
    f64_trunc,
    f64_nearest
);

macro_rules! truncation {
    ($name:ident, $int:ty, $low:literal, $high:literal) => {
        /// To zero; traps on NaN and out of range. The bounds are the nearest floats outside.
        #[inline(always)]
        pub(super) fn $name(x: f64) -> Result<$int, TrapCode> {
            if x > $low && x < $high {
                Ok(x as $int)
            } else if x.is_nan() {
                Err(TrapCode::BadConversionToInteger)
            } else {
                Err(TrapCode::IntegerOverflow)
            }
        }
    };
}
truncation!(i32_trunc_s, i32, -2147483649.0, 2147483648.0);
truncation!(i32_trunc_u, u32, -1.0, 4294967296.0);
truncation!(i64_trunc_u, u64, -1.0, 18446744073709551616.0);

/// To zero; traps on NaN and out of range. -2^63 itself is a float, so the lower bound is inclusive.
#[inline(always)]
pub(super) fn i64_trunc_s(x: f64) -> Result<i64, TrapCode> {
    if (-9223372036854775808.0..9223372036854775808.0).contains(&x) {
        Ok(x as i64)
    } else if x.is_nan() {
        Err(TrapCode::BadConversionToInteger)
    } else {
        Err(TrapCode::IntegerOverflow)
    }
}

/// Negation of a comparison: unlike the opposite comparison it holds for NaN.
#[inline(always)]
pub(super) fn not(holds: bool) -> bool {
    !holds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_and_max_order_the_zeros_and_quieten_nan() {
        assert_eq!(f64_min(0.0, -0.0).to_bits(), (-0.0f64).to_bits());
        assert_eq!(f64_max(-0.0, 0.0).to_bits(), 0.0f64.to_bits());
        let signalling = f32::from_bits(0x7fa0_0000);
        assert_eq!(
            f32_min(signalling, 1.0).to_bits() & 0x0040_0000,
            0x0040_0000
        );
    }

    #[test]
    fn truncation_traps_just_outside_the_range() {
        assert_eq!(i32_trunc_s(-2147483648.9), Ok(i32::MIN));
        assert_eq!(i32_trunc_s(2147483648.0), Err(TrapCode::IntegerOverflow));
        assert_eq!(i64_trunc_s(-9223372036854775808.0), Ok(i64::MIN));
        assert_eq!(i64_trunc_u(-0.9), Ok(0));
        assert_eq!(i32_trunc_u(f64::NAN), Err(TrapCode::BadConversionToInteger));
    }

    #[test]
    fn division_tells_zero_from_overflow() {
        assert_eq!(i32_div_s(i32::MIN, -1), Err(TrapCode::IntegerOverflow));
        assert_eq!(i64_div_s(1, 0), Err(TrapCode::IntegerDivideByZero));
        assert_eq!(i64_rem_s(i64::MIN, -1), Ok(0));
    }
}
