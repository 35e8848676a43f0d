//! The instruction set as one table. Everything about an operator is said once, here: its name, its
//! operand types, its formula. The table generates the operator numbers and names (below), the
//! handlers and the handler table (`exec/table.rs`), and the names of the disassembly and the coverage report.
//!
//! A row is an operator *family*; the *form* says where operands come from and where the result goes:
//!
//! ```text
//!   i32_add . s i _s
//!   |         | |  '-- result also in slot d (without: in the accumulator only)
//!   |         | '----- second operand: immediate   (s = slot, a = accumulator, i = immediate)
//!   |         '------- first operand: slot
//!   '----------------- family
//! ```
//!
//! An operator number is `family * 32 + form`. Forms that write a slot are odd, and one more than the
//! form that does not: the translator patches a producer by adding one to its number.
//!
//! Instruction words (8 bytes each): word 0 is the operator number during translation and the
//! handler's address afterwards; the operands follow. Slots are byte offsets from `sp` (u16).
//!
//! | shape  | forms | operands |
//! |--------|-------|----------|
//! | bin    | ss as sa si ai is ia aa × {-, _s}, ss as sa si ai returning, si ai into the slot only (k) | d @8, a @10, b @12 or i32 @12; immediates of other types @16; is: b @10 |
//! | cmp    | the first five, then branches ss as sa si ai | branch: a @8, b @10, displacement i32 @12, immediate @16 |
//! |        | of integers, then selects (see `SELECT_FORMS`) | d @8, a @10, b @12 or i32 @12, x @16, y @18 |
//! | un     | s a × {-, _s} | d @8, a @10 |
//! | load   | s a ss as i p q r m t v w × {-, _s} | d @8, a @10, offset u32 @12, more @16 (see `Address`) |
//! | store  | see `STORE_FORMS` | a @8, b @10, offset u32 @12, more @16 |
//! | pair   | ss as sa si ai × c {s i}, is ia × c s, ss si is ai × c a; × {-, _s} | d @8, a @10, b @12 or i32 @12, c @16 or i32 @16 |
//! | special| listed | said in the row's formula |

/// Calls a macro with the whole table.
macro_rules! for_each_op { ($callback:ident) => { $callback! {
    bin {
        I32Add(u32, u32) -> u32 "a + b" |x, y| Ok(x.wrapping_add(y));
        I32Sub(u32, u32) -> u32 "a - b" |x, y| Ok(x.wrapping_sub(y));
        I32Mul(u32, u32) -> u32 "a * b" |x, y| Ok(x.wrapping_mul(y));
        I32And(u32, u32) -> u32 "a & b" |x, y| Ok(x & y);
        I32Or(u32, u32) -> u32 "a | b" |x, y| Ok(x | y);
        I32Xor(u32, u32) -> u32 "a ^ b" |x, y| Ok(x ^ y);
        I32Shl(u32, u32) -> u32 "a << (b mod 32)" |x, y| Ok(x.wrapping_shl(y));
        I32ShrS(i32, u32) -> i32 "a >> (b mod 32), signed" |x, y| Ok(x.wrapping_shr(y));
        I32ShrU(u32, u32) -> u32 "a >> (b mod 32)" |x, y| Ok(x.wrapping_shr(y));
        I32Rotl(u32, u32) -> u32 "a rotated left by b" |x, y| Ok(x.rotate_left(y & 31));
        I32Rotr(u32, u32) -> u32 "a rotated right by b" |x, y| Ok(x.rotate_right(y & 31));
        I32DivS(i32, i32) -> i32 "a / b, signed; traps" |x, y| num::i32_div_s(x, y);
        I32DivU(u32, u32) -> u32 "a / b; traps" |x, y| num::i32_div_u(x, y);
        I32RemS(i32, i32) -> i32 "a mod b, signed; traps" |x, y| num::i32_rem_s(x, y);
        I32RemU(u32, u32) -> u32 "a mod b; traps" |x, y| num::i32_rem_u(x, y);
        I64Add(u64, u64) -> u64 "a + b" |x, y| Ok(x.wrapping_add(y));
        I64Sub(u64, u64) -> u64 "a - b" |x, y| Ok(x.wrapping_sub(y));
        I64Mul(u64, u64) -> u64 "a * b" |x, y| Ok(x.wrapping_mul(y));
        I64And(u64, u64) -> u64 "a & b" |x, y| Ok(x & y);
        I64Or(u64, u64) -> u64 "a | b" |x, y| Ok(x | y);
        I64Xor(u64, u64) -> u64 "a ^ b" |x, y| Ok(x ^ y);
        I64Shl(u64, u32) -> u64 "a << (b mod 64)" |x, y| Ok(x.wrapping_shl(y));
        I64ShrS(i64, u32) -> i64 "a >> (b mod 64), signed" |x, y| Ok(x.wrapping_shr(y));
        I64ShrU(u64, u32) -> u64 "a >> (b mod 64)" |x, y| Ok(x.wrapping_shr(y));
        I64Rotl(u64, u32) -> u64 "a rotated left by b" |x, y| Ok(x.rotate_left(y & 63));
        I64Rotr(u64, u32) -> u64 "a rotated right by b" |x, y| Ok(x.rotate_right(y & 63));
        I64DivS(i64, i64) -> i64 "a / b, signed; traps" |x, y| num::i64_div_s(x, y);
        I64DivU(u64, u64) -> u64 "a / b; traps" |x, y| num::i64_div_u(x, y);
        I64RemS(i64, i64) -> i64 "a mod b, signed; traps" |x, y| num::i64_rem_s(x, y);
        I64RemU(u64, u64) -> u64 "a mod b; traps" |x, y| num::i64_rem_u(x, y);
        F32Add(f32, f32) -> f32 "a + b" |x, y| Ok(x + y);
        F32Sub(f32, f32) -> f32 "a - b" |x, y| Ok(x - y);
        F32Mul(f32, f32) -> f32 "a * b" |x, y| Ok(x * y);
        F32Div(f32, f32) -> f32 "a / b" |x, y| Ok(x / y);
        F32Min(f32, f32) -> f32 "the lesser; NaN if either is" |x, y| Ok(num::f32_min(x, y));
        F32Max(f32, f32) -> f32 "the greater; NaN if either is" |x, y| Ok(num::f32_max(x, y));
        F32Copysign(f32, f32) -> f32 "a with the sign of b" |x, y| Ok(num::f32_copysign(x, y));
        F64Add(f64, f64) -> f64 "a + b" |x, y| Ok(x + y);
        F64Sub(f64, f64) -> f64 "a - b" |x, y| Ok(x - y);
        F64Mul(f64, f64) -> f64 "a * b" |x, y| Ok(x * y);
        F64Div(f64, f64) -> f64 "a / b" |x, y| Ok(x / y);
        F64Min(f64, f64) -> f64 "the lesser; NaN if either is" |x, y| Ok(num::f64_min(x, y));
        F64Max(f64, f64) -> f64 "the greater; NaN if either is" |x, y| Ok(num::f64_max(x, y));
        F64Copysign(f64, f64) -> f64 "a with the sign of b" |x, y| Ok(num::f64_copysign(x, y));
    }
    cmp {
        I32Eq(u32) ! I32Ne "a = b" |x, y| x == y;
        I32Ne(u32) ! I32Eq "a ≠ b" |x, y| x != y;
        I32LtS(i32) ! I32GeS "a < b, signed" |x, y| x < y;
        I32LtU(u32) ! I32GeU "a < b" |x, y| x < y;
        I32GtS(i32) ! I32LeS "a > b, signed" |x, y| x > y;
        I32GtU(u32) ! I32LeU "a > b" |x, y| x > y;
        I32LeS(i32) ! I32GtS "a ≤ b, signed" |x, y| x <= y;
        I32LeU(u32) ! I32GtU "a ≤ b" |x, y| x <= y;
        I32GeS(i32) ! I32LtS "a ≥ b, signed" |x, y| x >= y;
        I32GeU(u32) ! I32LtU "a ≥ b" |x, y| x >= y;
        I32Tst(u32) ! I32Ntst "a & b ≠ 0" |x, y| x & y != 0;
        I32Ntst(u32) ! I32Tst "a & b = 0" |x, y| x & y == 0;
        I32Bit(u32) ! I32Nbit "bit b mod 32 of a is 1" |x, y| x.wrapping_shr(y) & 1 != 0;
        I32Nbit(u32) ! I32Bit "bit b mod 32 of a is 0" |x, y| x.wrapping_shr(y) & 1 == 0;
        I64Eq(u64) ! I64Ne "a = b" |x, y| x == y;
        I64Ne(u64) ! I64Eq "a ≠ b" |x, y| x != y;
        I64LtS(i64) ! I64GeS "a < b, signed" |x, y| x < y;
        I64LtU(u64) ! I64GeU "a < b" |x, y| x < y;
        I64GtS(i64) ! I64LeS "a > b, signed" |x, y| x > y;
        I64GtU(u64) ! I64LeU "a > b" |x, y| x > y;
        I64LeS(i64) ! I64GtS "a ≤ b, signed" |x, y| x <= y;
        I64LeU(u64) ! I64GtU "a ≤ b" |x, y| x <= y;
        I64GeS(i64) ! I64LtS "a ≥ b, signed" |x, y| x >= y;
        I64GeU(u64) ! I64LtU "a ≥ b" |x, y| x >= y;
        I64Tst(u64) ! I64Ntst "a & b ≠ 0" |x, y| x & y != 0;
        I64Ntst(u64) ! I64Tst "a & b = 0" |x, y| x & y == 0;
        F32Eq(f32) ! F32Ne "a = b" |x, y| x == y;
        F32Ne(f32) ! F32Eq "a ≠ b" |x, y| x != y;
        F32Lt(f32) ! F32Nlt "a < b" |x, y| x < y;
        F32Gt(f32) ! F32Ngt "a > b" |x, y| x > y;
        F32Le(f32) ! F32Nle "a ≤ b" |x, y| x <= y;
        F32Ge(f32) ! F32Nge "a ≥ b" |x, y| x >= y;
        F32Nlt(f32) ! F32Lt "not a < b" |x, y| num::not(x < y);
        F32Ngt(f32) ! F32Gt "not a > b" |x, y| num::not(x > y);
        F32Nle(f32) ! F32Le "not a ≤ b" |x, y| num::not(x <= y);
        F32Nge(f32) ! F32Ge "not a ≥ b" |x, y| num::not(x >= y);
        F64Eq(f64) ! F64Ne "a = b" |x, y| x == y;
        F64Ne(f64) ! F64Eq "a ≠ b" |x, y| x != y;
        F64Lt(f64) ! F64Nlt "a < b" |x, y| x < y;
        F64Gt(f64) ! F64Ngt "a > b" |x, y| x > y;
        F64Le(f64) ! F64Nle "a ≤ b" |x, y| x <= y;
        F64Ge(f64) ! F64Nge "a ≥ b" |x, y| x >= y;
        F64Nlt(f64) ! F64Lt "not a < b" |x, y| num::not(x < y);
        F64Ngt(f64) ! F64Gt "not a > b" |x, y| num::not(x > y);
        F64Nle(f64) ! F64Le "not a ≤ b" |x, y| num::not(x <= y);
        F64Nge(f64) ! F64Ge "not a ≥ b" |x, y| num::not(x >= y);
    }
    un {
        I32Clz(u32) -> u32 "leading zeros" |x| Ok(x.leading_zeros());
        I32Ctz(u32) -> u32 "trailing zeros" |x| Ok(x.trailing_zeros());
        I32Popcnt(u32) -> u32 "ones" |x| Ok(x.count_ones());
        I32Extend8S(i32) -> i32 "low byte, signed" |x| Ok(i32::from(x as i8));
        I32Extend16S(i32) -> i32 "low half, signed" |x| Ok(i32::from(x as i16));
        I64Clz(u64) -> u64 "leading zeros" |x| Ok(u64::from(x.leading_zeros()));
        I64Ctz(u64) -> u64 "trailing zeros" |x| Ok(u64::from(x.trailing_zeros()));
        I64Popcnt(u64) -> u64 "ones" |x| Ok(u64::from(x.count_ones()));
        I64Extend8S(i64) -> i64 "low byte, signed" |x| Ok(i64::from(x as i8));
        I64Extend16S(i64) -> i64 "low 16 bits, signed" |x| Ok(i64::from(x as i16));
        I64Extend32S(i64) -> i64 "low half, signed" |x| Ok(i64::from(x as i32));
        I32WrapI64(u64) -> u32 "low half" |x| Ok(x as u32);
        I64ExtendI32S(i32) -> i64 "signed" |x| Ok(i64::from(x));
        I64ExtendI32U(u32) -> u64 "unsigned" |x| Ok(u64::from(x));
        F32Abs(f32) -> f32 "|a|" |x| Ok(f32::from_bits(x.to_bits() & 0x7fff_ffff));
        F32Neg(f32) -> f32 "-a" |x| Ok(f32::from_bits(x.to_bits() ^ 0x8000_0000));
        F32Ceil(f32) -> f32 "rounded up" |x| Ok(num::f32_ceil(x));
        F32Floor(f32) -> f32 "rounded down" |x| Ok(num::f32_floor(x));
        F32Trunc(f32) -> f32 "rounded to zero" |x| Ok(num::f32_trunc(x));
        F32Nearest(f32) -> f32 "rounded, ties to even" |x| Ok(num::f32_nearest(x));
        F32Sqrt(f32) -> f32 "√a" |x| Ok(x.sqrt());
        F64Abs(f64) -> f64 "|a|" |x| Ok(f64::from_bits(x.to_bits() & 0x7fff_ffff_ffff_ffff));
        F64Neg(f64) -> f64 "-a" |x| Ok(f64::from_bits(x.to_bits() ^ 0x8000_0000_0000_0000));
        F64Ceil(f64) -> f64 "rounded up" |x| Ok(num::f64_ceil(x));
        F64Floor(f64) -> f64 "rounded down" |x| Ok(num::f64_floor(x));
        F64Trunc(f64) -> f64 "rounded to zero" |x| Ok(num::f64_trunc(x));
        F64Nearest(f64) -> f64 "rounded, ties to even" |x| Ok(num::f64_nearest(x));
        F64Sqrt(f64) -> f64 "√a" |x| Ok(x.sqrt());
        I32TruncF32S(f32) -> i32 "to zero; traps" |x| num::i32_trunc_s(f64::from(x));
        I32TruncF32U(f32) -> u32 "to zero; traps" |x| num::i32_trunc_u(f64::from(x));
        I32TruncF64S(f64) -> i32 "to zero; traps" |x| num::i32_trunc_s(x);
        I32TruncF64U(f64) -> u32 "to zero; traps" |x| num::i32_trunc_u(x);
        I64TruncF32S(f32) -> i64 "to zero; traps" |x| num::i64_trunc_s(f64::from(x));
        I64TruncF32U(f32) -> u64 "to zero; traps" |x| num::i64_trunc_u(f64::from(x));
        I64TruncF64S(f64) -> i64 "to zero; traps" |x| num::i64_trunc_s(x);
        I64TruncF64U(f64) -> u64 "to zero; traps" |x| num::i64_trunc_u(x);
        I32TruncSatF32S(f32) -> i32 "to zero, saturating" |x| Ok(x as i32);
        I32TruncSatF32U(f32) -> u32 "to zero, saturating" |x| Ok(x as u32);
        I32TruncSatF64S(f64) -> i32 "to zero, saturating" |x| Ok(x as i32);
        I32TruncSatF64U(f64) -> u32 "to zero, saturating" |x| Ok(x as u32);
        I64TruncSatF32S(f32) -> i64 "to zero, saturating" |x| Ok(x as i64);
        I64TruncSatF32U(f32) -> u64 "to zero, saturating" |x| Ok(x as u64);
        I64TruncSatF64S(f64) -> i64 "to zero, saturating" |x| Ok(x as i64);
        I64TruncSatF64U(f64) -> u64 "to zero, saturating" |x| Ok(x as u64);
        F32ConvertI32S(i32) -> f32 "nearest" |x| Ok(x as f32);
        F32ConvertI32U(u32) -> f32 "nearest" |x| Ok(x as f32);
        F32ConvertI64S(i64) -> f32 "nearest" |x| Ok(x as f32);
        F32ConvertI64U(u64) -> f32 "nearest" |x| Ok(x as f32);
        F32DemoteF64(f64) -> f32 "nearest" |x| Ok(x as f32);
        F64ConvertI32S(i32) -> f64 "exact" |x| Ok(f64::from(x));
        F64ConvertI32U(u32) -> f64 "exact" |x| Ok(f64::from(x));
        F64ConvertI64S(i64) -> f64 "nearest" |x| Ok(x as f64);
        F64ConvertI64U(u64) -> f64 "nearest" |x| Ok(x as f64);
        F64PromoteF32(f32) -> f64 "exact" |x| Ok(f64::from(x));
        I32ReinterpretF32(f32) -> u32 "bits" |x| Ok(x.to_bits());
        I64ReinterpretF64(f64) -> u64 "bits" |x| Ok(x.to_bits());
        F32ReinterpretI32(u32) -> f32 "bits" |x| Ok(f32::from_bits(x));
        F64ReinterpretI64(u64) -> f64 "bits" |x| Ok(f64::from_bits(x));
    }
    load {
        I32Load(u32 as u32) "4 bytes";
        I32Load8S(i8 as i32) "1 byte, signed";
        I32Load8U(u8 as u32) "1 byte";
        I32Load16S(i16 as i32) "2 bytes, signed";
        I32Load16U(u16 as u32) "2 bytes";
        I64Load(u64 as u64) "8 bytes";
        I64Load8S(i8 as i64) "1 byte, signed";
        I64Load8U(u8 as u64) "1 byte";
        I64Load16S(i16 as i64) "2 bytes, signed";
        I64Load16U(u16 as u64) "2 bytes";
        I64Load32S(i32 as i64) "4 bytes, signed";
        I64Load32U(u32 as u64) "4 bytes";
        F32Load(f32 as f32) "4 bytes";
        F64Load(f64 as f64) "8 bytes";
    }
    store {
        I32Store(u32 as u32) "4 bytes";
        I32Store8(u32 as u8) "1 byte";
        I32Store16(u32 as u16) "2 bytes";
        I64Store(u64 as u64) "8 bytes";
        I64Store8(u64 as u8) "1 byte";
        I64Store16(u64 as u16) "2 bytes";
        I64Store32(u64 as u32) "4 bytes";
        F32Store(f32 as f32) "4 bytes";
        F64Store(f64 as f64) "8 bytes";
    }
    addbr {
        AddBrEq(u32) "d = a + imm | slot @12; branch @16 if d = slot @20 or imm @24" |x, y| x == y;
        AddBrNe(u32) "the same, ≠" |x, y| x != y;
        AddBrLtS(i32) "the same, <, signed" |x, y| x < y;
        AddBrLtU(u32) "the same, <" |x, y| x < y;
        AddBrGtS(i32) "the same, >, signed" |x, y| x > y;
        AddBrGtU(u32) "the same, >" |x, y| x > y;
        AddBrLeS(i32) "the same, ≤, signed" |x, y| x <= y;
        AddBrLeU(u32) "the same, ≤" |x, y| x <= y;
        AddBrGeS(i32) "the same, ≥, signed" |x, y| x >= y;
        AddBrGeU(u32) "the same, ≥" |x, y| x >= y;
    }
    pair {
        I32ShlAdd(I32Shl, I32Add) left "(a << b) + c";
        I32ShlXor(I32Shl, I32Xor) left "(a << b) ^ c";
        I32ShlOr(I32Shl, I32Or) left "(a << b) | c";
        I32ShrUXor(I32ShrU, I32Xor) left "(a >> b) ^ c";
        I32ShrUAnd(I32ShrU, I32And) left "(a >> b) & c";
        I32AndShl(I32And, I32Shl) left "(a & b) << c";
        I32AndShrU(I32And, I32ShrU) left "(a & b) >> c";
        I32AndOr(I32And, I32Or) left "(a & b) | c";
        I32AndAdd(I32And, I32Add) left "(a & b) + c";
        I32AndXor(I32And, I32Xor) left "(a & b) ^ c";
        I32OrAnd(I32Or, I32And) left "(a | b) & c";
        I32OrOr(I32Or, I32Or) left "a | b | c";
        I32XorAnd(I32Xor, I32And) left "(a ^ b) & c";
        I32XorXor(I32Xor, I32Xor) left "a ^ b ^ c";
        I32XorAdd(I32Xor, I32Add) left "(a ^ b) + c";
        I32XorMul(I32Xor, I32Mul) left "(a ^ b) * c";
        I32AddAdd(I32Add, I32Add) left "a + b + c";
        I32AddAnd(I32Add, I32And) left "(a + b) & c";
        I32AddShrU(I32Add, I32ShrU) left "(a + b) >> c";
        I32SubAdd(I32Sub, I32Add) left "a - b + c";
        I32MulAdd(I32Mul, I32Add) left "a * b + c";
        I32RotlXor(I32Rotl, I32Xor) left "rotl(a, b) ^ c";
        I32RotlAdd(I32Rotl, I32Add) left "rotl(a, b) + c";
        I64ShlOr(I64Shl, I64Or) left "(a << b) | c";
        I64OrShl(I64Or, I64Shl) left "(a | b) << c";
        I64ShrUAnd(I64ShrU, I64And) left "(a >> b) & c";
        I64ShrUXor(I64ShrU, I64Xor) left "(a >> b) ^ c";
        I64XorRotl(I64Xor, I64Rotl) left "rotl(a ^ b, c)";
        I64XorAdd(I64Xor, I64Add) left "(a ^ b) + c";
        I64XorMul(I64Xor, I64Mul) left "(a ^ b) * c";
        I64AddAdd(I64Add, I64Add) left "a + b + c";
        I64AddXor(I64Add, I64Xor) left "(a + b) ^ c";
        I64MulAdd(I64Mul, I64Add) left "a * b + c";
        I64RotlXor(I64Rotl, I64Xor) left "rotl(a, b) ^ c";
        I64RotlAdd(I64Rotl, I64Add) left "rotl(a, b) + c";
        F64MulAdd(F64Mul, F64Add) left "a * b + c, rounded twice";
        F64MulSub(F64Mul, F64Sub) left "a * b - c, rounded twice";
        F64MulSubFrom(F64Mul, F64Sub) right "c - a * b, rounded twice";
        F64MulMul(F64Mul, F64Mul) left "a * b * c";
        F64AddAdd(F64Add, F64Add) left "a + b + c";
        F64AddMul(F64Add, F64Mul) left "(a + b) * c";
        F64SubAdd(F64Sub, F64Add) left "a - b + c";
        F64SubMul(F64Sub, F64Mul) left "(a - b) * c";
    }
    special {
        Copy "d @8 = slot @10 | acc | facc | imm @16; two at once: d @8 = @10, @12 = @14; d @8 = u32 @16, d @10 = u32 @20; kept: the last one, or the first, also in acc; imm3, imm4: more at @12, @14 of @24, @28; slots, then d @16 = u32 @20, @18 = @24; kept: acc = the slot in a free field"
            [ss copy_ss::<D>, acc copy_acc::<D>, facc copy_facc::<D>, imm copy_imm::<D>, ss2 copy_ss2::<D>, imm2 copy_imm2::<D>,
             ss_kept copy_kept::<D>, imm_kept copy_imm_kept::<D>, ss2_kept copy_two_kept::<D, true>, ss2_kept_first copy_two_kept::<D, false>,
             imm2_kept copy_imm_two_kept::<D, true>, imm2_kept_first copy_imm_two_kept::<D, false>,
             imm3 copy_imm_more::<D, false, false>, imm4 copy_imm_more::<D, true, false>,
             ss_imm copy_mixed::<D, false, false, false>, ss_imm2 copy_mixed::<D, false, true, false>,
             ss2_imm copy_mixed::<D, true, false, false>, ss2_imm2 copy_mixed::<D, true, true, false>,
             imm3_kept copy_imm_more::<D, false, true>,
             ss_imm_kept copy_mixed::<D, false, false, true>, ss_imm2_kept copy_mixed::<D, false, true, true>,
             ss2_imm_kept copy_mixed::<D, true, false, true>, ss2_imm2_kept copy_mixed::<D, true, true, true>];
        CopyFar "like Copy with u32 offsets: near slot @8 = far @12; far @12 = near @8 | acc | facc"
            [get copy_far_get::<D>, put copy_far_put::<D>, acc copy_far_acc::<D>, facc copy_far_facc::<D>];
        CopyBlock "count @16 slots from offset @12 to offset @8 (u32, bytes); they may overlap"
            [up copy_block::<D>];
        AddSlot "d @8 = slot @10 + imm @12, the accumulator stays"
            [i32 add_slot::<D>];
        AddTwo "acc = d @8 = slot @10 + imm @12, then the same with @16, @18, @20"
            [i32 add_two::<D>];
        AddMemory "acc = 4 bytes at slot @10 + offset @12 += imm @16; also to d @8"
            [acc add_memory::<D, M, formula::I32Load, formula::I32Store, false>, s add_memory::<D, M, formula::I32Load, formula::I32Store, true>];
        LoadTwo "t = 4 bytes at slot @10 (_a: acc) + @12; acc = 4 bytes, or one, at t + @20 (_p: modulo 2^32); kept: t also to d @16"
            [word load_two::<D, M, formula::I32Load, formula::I32Load, Slot, false, false, false>, word_s load_two::<D, M, formula::I32Load, formula::I32Load, Slot, false, false, true>,
             word_kept load_two::<D, M, formula::I32Load, formula::I32Load, Slot, false, true, false>, word_kept_s load_two::<D, M, formula::I32Load, formula::I32Load, Slot, false, true, true>,
             word_a load_two::<D, M, formula::I32Load, formula::I32Load, Acc, false, false, false>, word_a_s load_two::<D, M, formula::I32Load, formula::I32Load, Acc, false, false, true>,
             word_p_kept load_two::<D, M, formula::I32Load, formula::I32Load, Slot, true, true, false>, word_p_kept_s load_two::<D, M, formula::I32Load, formula::I32Load, Slot, true, true, true>,
             byte load_two::<D, M, formula::I32Load, formula::I32Load8U, Slot, false, false, false>, byte_s load_two::<D, M, formula::I32Load, formula::I32Load8U, Slot, false, false, true>,
             byte_kept load_two::<D, M, formula::I32Load, formula::I32Load8U, Slot, false, true, false>, byte_kept_s load_two::<D, M, formula::I32Load, formula::I32Load8U, Slot, false, true, true>,
             byte_a load_two::<D, M, formula::I32Load, formula::I32Load8U, Acc, false, false, false>, byte_a_s load_two::<D, M, formula::I32Load, formula::I32Load8U, Acc, false, false, true>,
             byte_p_kept load_two::<D, M, formula::I32Load, formula::I32Load8U, Slot, true, true, false>, byte_p_kept_s load_two::<D, M, formula::I32Load, formula::I32Load8U, Slot, true, true, true>];
        LoadBr "load, as I32Load.s, with d, .p, and I32Load8U; branch @20 if it is zero | not"
            [z_s load_branch::<D, M, formula::I32Load, Slot, false, false>, nz_s load_branch::<D, M, formula::I32Load, Slot, false, true>,
             z_s_s load_branch::<D, M, formula::I32Load, Slot, true, false>, nz_s_s load_branch::<D, M, formula::I32Load, Slot, true, true>,
             z_p load_branch::<D, M, formula::I32Load, SlotImm, false, false>, nz_p load_branch::<D, M, formula::I32Load, SlotImm, false, true>,
             z_p_s load_branch::<D, M, formula::I32Load, SlotImm, true, false>, nz_p_s load_branch::<D, M, formula::I32Load, SlotImm, true, true>,
             z_a load_branch::<D, M, formula::I32Load, Acc, false, false>, nz_a load_branch::<D, M, formula::I32Load, Acc, false, true>,
             z_a_s load_branch::<D, M, formula::I32Load, Acc, true, false>, nz_a_s load_branch::<D, M, formula::I32Load, Acc, true, true>];
        LoadBr8 "the same of a byte"
            [z_s load_branch::<D, M, formula::I32Load8U, Slot, false, false>, nz_s load_branch::<D, M, formula::I32Load8U, Slot, false, true>,
             z_s_s load_branch::<D, M, formula::I32Load8U, Slot, true, false>, nz_s_s load_branch::<D, M, formula::I32Load8U, Slot, true, true>,
             z_p load_branch::<D, M, formula::I32Load8U, SlotImm, false, false>, nz_p load_branch::<D, M, formula::I32Load8U, SlotImm, false, true>,
             z_p_s load_branch::<D, M, formula::I32Load8U, SlotImm, true, false>, nz_p_s load_branch::<D, M, formula::I32Load8U, SlotImm, true, true>,
             z_a load_branch::<D, M, formula::I32Load8U, Acc, false, false>, nz_a load_branch::<D, M, formula::I32Load8U, Acc, false, true>,
             z_a_s load_branch::<D, M, formula::I32Load8U, Acc, true, false>, nz_a_s load_branch::<D, M, formula::I32Load8U, Acc, true, true>];
        AddBrZ "d @8 = slot @10 + imm @12; branch @16 if d = 0 | d ≠ 0"
            [z add_br_zero::<D, true>, nz add_br_zero::<D, false>];
        Lea "(slot @12 << @14) + imm @16 [+ slot @10]; into acc, slot + acc, slot only"
            [acc lea::<D, false, true, false>, acc_s lea::<D, false, true, true>, slot lea::<D, false, false, true>, unused unused::<D>,
             base_acc lea::<D, true, true, false>, base_acc_s lea::<D, true, true, true>, base_slot lea::<D, true, false, true>];
        Select "cond ≠ 0 ? slot @10 : slot @12, integers and references; cond: slot @14 | acc"
            [s select::<D, false, false>, s_s select::<D, false, true>, a select::<D, true, false>, a_s select::<D, true, true>];
        SelectF "the same for floats, result in facc"
            [s select_f::<D, false, false>, s_s select_f::<D, false, true>, a select_f::<D, true, false>, a_s select_f::<D, true, true>];
        GlobalGet "acc = cell @16"
            [acc global_get::<D, false>, s global_get::<D, true>];
        GlobalGetF "facc = cell @16"
            [facc global_get_f::<D, false>, s global_get_f::<D, true>];
        GlobalSet "cell @16 = slot @8 | acc | facc | imm @24 | u32 slot @8 + imm @12"
            [s global_set::<D, S<8>>, a global_set::<D, A>, f global_set_f::<D>, i global_set_imm::<D>, add global_set_sum::<D>];
        GlobalAdd "acc = u32 cell @16 += imm @12; also to d @8"
            [acc global_add::<D, false>, s global_add::<D, true>];
        Jump "to displacement @12; before it d @8 = slot @10, and @16 = @18, or d @8 = imm @16"
            [always jump::<D>, s jump_copy::<D, false>, s2 jump_copy::<D, true>, i jump_imm::<D>];
        BrNz "if slot @8 | acc ≠ 0; acc also to d @8"
            [s br_test::<D, S<8>, true>, a br_test::<D, A, true>, a_s br_copy::<D, true>];
        BrZ "if slot @8 | acc = 0; acc also to d @8"
            [s br_test::<D, S<8>, false>, a br_test::<D, A, false>, a_s br_copy::<D, false>];
        BrTable "entry min(slot @8 | acc, count @12) of the (handler, ip) pairs @16, or of another one's at displacement @16"
            [s br_table::<D, S<8>>, a br_table::<D, A>, s_far br_table_far::<D, S<8>>, a_far br_table_far::<D, A>];
        Unreachable "traps"
            [trap unreachable::<D>];
        Halt "ends the run"
            [end halt::<D>];
        Enter "zeroes n slots from d @8: 1 2 3 4 6 8 or count @12 (even)"
            [n enter_n::<D>, z1 enter::<D, 1>, z2 enter::<D, 2>, z3 enter::<D, 3>, z4 enter::<D, 4>, z6 enter::<D, 6>, z8 enter::<D, 8>];
        Check "fuel -= @12 | poll | both"
            [fuel check::<D, true, false>, poll check::<D, false, true>, both check::<D, true, true>];
        Frame "traps if sp + @12 is behind the limit: first in functions whose frame is larger than the red zone"
            [check frame::<D>];
        Call "callee frame at sp + @8, result to slot @14, code @16; last argument in acc | facc goes to slot @10 first"
            [plain call::<D>, a call_last::<D, true>, f call_last::<D, false>];
        CallCopy "frame @16, result @22, code @24; before it @18 = slot @8, or two: and @20 = slot @10, or @18 = imm @12, or @18 = u32 slot @8 + imm @12"
            [s call_copy::<D>, s2 call_copy_two::<D>, i call_imm::<D>, add call_add::<D>];
        CallFar "callee frame at sp + u32 @8, result @14, code @16"
            [plain call_far::<D>];
        CallIndirect "type @8, index slot @12 | acc, cells @16, frame @48, result @54, table @56, its home is this function's memory"
            [s call_indirect::<D, S<12>>, a call_indirect::<D, A>];
        CallThrough "type @8; index: slot @12 | acc, or 4 bytes at that + @16, or 4 bytes at those + @28; then arguments: @66 = slot @14, or that and @68 = slot @24, or @66 = u32 slot @14 + imm @20; cells @32, frame @64, result @70, table @72"
            [unused unused::<D>, s_s call_through::<D, Held<S<12>>, ONE_COPY>,
             s_s2 call_through::<D, Held<S<12>>, TWO_COPIES>, s_add call_through::<D, Held<S<12>>, ADDITION>,
             unused unused::<D>, a_s call_through::<D, Held<A>, ONE_COPY>,
             a_s2 call_through::<D, Held<A>, TWO_COPIES>, a_add call_through::<D, Held<A>, ADDITION>,
             ls call_through::<D, Loaded<S<12>>, NO_COPY>, ls_s call_through::<D, Loaded<S<12>>, ONE_COPY>,
             ls_s2 call_through::<D, Loaded<S<12>>, TWO_COPIES>, ls_add call_through::<D, Loaded<S<12>>, ADDITION>,
             la call_through::<D, Loaded<A>, NO_COPY>, la_s call_through::<D, Loaded<A>, ONE_COPY>,
             la_s2 call_through::<D, Loaded<A>, TWO_COPIES>, la_add call_through::<D, Loaded<A>, ADDITION>,
             vs call_through::<D, LoadedTwice<S<12>>, NO_COPY>, vs_s call_through::<D, LoadedTwice<S<12>>, ONE_COPY>,
             vs_s2 call_through::<D, LoadedTwice<S<12>>, TWO_COPIES>, vs_add call_through::<D, LoadedTwice<S<12>>, ADDITION>,
             va call_through::<D, LoadedTwice<A>, NO_COPY>, va_s call_through::<D, LoadedTwice<A>, ONE_COPY>,
             va_s2 call_through::<D, LoadedTwice<A>, TWO_COPIES>, va_add call_through::<D, LoadedTwice<A>, ADDITION>];
        CallAny "type @8, index slot @12 | acc, frame u32 @16, result @22, table @24, any memory"
            [s call_any::<D, S<12>>, a call_any::<D, A>];
        TailCall "arguments from offset @8 (u32) count @28 to the frame's start, code @16"
            [plain tail_call::<D>];
        TailCallAny "the same; index slot @24 | acc, type @12, table @16"
            [s tail_call_any::<D, S<24>>, a tail_call_any::<D, A>];
        Return "to the caller, result also to the slot that its call names; result none, in acc | facc already, from slot @10, from imm @12 (i32, sign-extended); cell @16 = u32 slot @8 + imm @12 before"
            [acc ret_acc::<D>, s ret_slot::<D>, f ret_slot_f::<D>, i ret_imm::<D>, sum_acc ret_sum_acc::<D>, sum_s ret_sum_slot::<D>,
             none ret::<D>, facc ret_facc::<D>, sum_none ret_sum::<D>, sum_facc ret_sum_facc::<D>];
        Lazy "stub of a function without code: translates it, then calls it"
            [stub lazy::<D>];
        Forward "stub of a translated function: goes to its code"
            [stub forward::<D>];
        HostCall "stub of a host function"
            [stub host_call::<D>];
        Deferred "stub of a function bound later: resolves, then goes there"
            [stub deferred::<D>];
        Trampoline "stub that calls through a table, dropping surplus arguments"
            [stub trampoline::<D>];
        SwitchMemory "around a call into another memory: record @16, then the cell to return to: record @8"
            [call switch_call::<D>, ret switch_ret::<D>];
        MemorySize "acc = pages of memory 0"
            [acc memory_size::<D, false>, s memory_size::<D, true>];
        Cold "out of line: operands in slots @8 @10 @12 @14, words @16 @24; result in acc (see exec/cold.rs)"
            [memory_size cold::<D, MemorySizeOf>, memory_grow cold::<D, MemoryGrow>, memory_fill cold::<D, MemoryFill>,
             memory_copy cold::<D, MemoryCopy>, memory_init cold::<D, MemoryInit>, data_drop cold::<D, DataDrop>,
             table_get cold::<D, TableGet>, table_set cold::<D, TableSet>, table_size cold::<D, TableSize>,
             table_grow cold::<D, TableGrow>, table_fill cold::<D, TableFill>, table_copy cold::<D, TableCopy>,
             table_init cold::<D, TableInit>, elem_drop cold::<D, ElemDrop>, cell_set cold::<D, CellSet>,
             native_libc cold::<D, NativeLibc>];
    }
} } }
pub(crate) use for_each_op;

/// Forms of arithmetic with two operands, in order; a result in a slot is form + 1. Those with an immediate first operand
/// are of operators that do not commute, those with the accumulator twice of sums and products. Those that return leave the
/// function with the result.
pub(crate) const BIN_FORMS: [&str; 23] = [
    "ss", "ss_s", "as", "as_s", "sa", "sa_s", "si", "si_s", "ai", "ai_s", "is", "is_s", "ia",
    "ia_s", "aa", "aa_s", "ret_ss", "ret_as", "ret_sa", "ret_si", "ret_ai", "si_k", "ai_k",
];
/// First form of integer arithmetic that leaves the accumulator alone: a result that is only needed in its slot.
pub(crate) const KEEPS: u16 = 21;
/// First form of arithmetic that returns.
pub(crate) const RETURNS: u16 = 16;
/// Forms of comparisons that make a value.
pub(crate) const CMP_FORMS: [&str; 10] = [
    "ss", "ss_s", "as", "as_s", "sa", "sa_s", "si", "si_s", "ai", "ai_s",
];
/// Branch forms of comparisons, from form 10 on.
pub(crate) const BRANCH_FORMS: [&str; 5] = ["br_ss", "br_as", "br_sa", "br_si", "br_ai"];
/// First branch form.
pub(crate) const BRANCH: u16 = 10;
/// Select forms of integer comparisons: the comparison's operands, where x and y are (slots; or one in the accumulator).
pub(crate) const SELECT_FORMS: [&str; 16] = [
    "sel_ss",
    "sel_ss_s",
    "sel_as",
    "sel_as_s",
    "sel_si",
    "sel_si_s",
    "sel_ai",
    "sel_ai_s",
    "selx_ss",
    "selx_ss_s",
    "selx_si",
    "selx_si_s",
    "sely_ss",
    "sely_ss_s",
    "sely_si",
    "sely_si_s",
];
/// First select form: even, because forms that write a slot are odd.
pub(crate) const SELECT: u16 = 16;
/// Forms of value operators with one operand.
pub(crate) const UN_FORMS: [&str; 4] = ["s", "s_s", "a", "a_s"];
/// Forms of loads by address: slot, accumulator, slot + slot, accumulator + slot, constant,
/// slot + constant, (index << k) + constant, slot + (index << k) + constant, another memory,
/// accumulator << k, (accumulator << k) + slot, (accumulator << k) + constant.
pub(crate) const LOAD_FORMS: [&str; 24] = [
    "s", "s_s", "a", "a_s", "ss", "ss_s", "as", "as_s", "i", "i_s", "p", "p_s", "q", "q_s", "r",
    "r_s", "m", "m_s", "t", "t_s", "v", "v_s", "w", "w_s",
];
/// Forms of stores: address as for loads, then the value's place.
pub(crate) const STORE_FORMS: [&str; 18] = [
    "ss", "sa", "as", "si", "aa", "is", "ia", "ii", "ai", "ps", "pa", "pi", "qs", "qa", "rs", "ra",
    "ms", "ma",
];
/// Forms of the add-compare-branch operators: what is compared with; then the same where a slot is added.
pub(crate) const ADDBR_FORMS: [&str; 4] = ["s", "i", "add_s", "add_i"];

/// Forms of two operators in one: the first one's operands, the second one's other operand. Floats have no immediates.
/// Then those with an immediate as the first one's left operand, and those with the accumulator as the second one's operand.
pub(crate) const PAIR_FORMS: [&str; 32] = [
    "ss_s", "ss_s_s", "as_s", "as_s_s", "sa_s", "sa_s_s", "si_s", "si_s_s", "ai_s", "ai_s_s",
    "ss_i", "ss_i_s", "as_i", "as_i_s", "sa_i", "sa_i_s", "si_i", "si_i_s", "ai_i", "ai_i_s",
    "is_s", "is_s_s", "ia_s", "ia_s_s", "ss_a", "ss_a_s", "si_a", "si_a_s", "is_a", "is_a_s",
    "ai_a", "ai_a_s",
];
/// First form of a pair whose third operand is an immediate.
pub(crate) const PAIR_IMMEDIATE: u16 = 10;
/// First form of a pair whose first operand is an immediate.
pub(crate) const PAIR_FIRST: u16 = 20;
/// First form of a pair whose third operand is the accumulator.
pub(crate) const PAIR_ACC: u16 = 24;

/// Forms a family has room for.
pub(crate) const FORMS: usize = 32;

macro_rules! define_families {
    (bin { $($bin:ident($ba:ident, $bb:ident) -> $br:ident $bt:literal |$bx:ident, $by:ident| $be:expr;)* }
     cmp { $($cmp:ident($ca:ident) ! $inv:ident $ct:literal |$cx:ident, $cy:ident| $ce:expr;)* }
     un { $($un:ident($ua:ident) -> $ur:ident $ut:literal |$ux:ident| $ue:expr;)* }
     load { $($load:ident($lm:ident as $lr:ident) $lt:literal;)* }
     store { $($store:ident($sv:ident as $sm:ident) $st:literal;)* }
     addbr { $($ab:ident($at:ident) $ad:literal |$ax:ident, $ay:ident| $ae:expr;)* }
     pair { $($pair:ident($pf:ident, $ps:ident) $side:ident $pd:literal;)* }
     special { $($special:ident $pt:literal [$($form:ident $handler:expr),*];)* }) => {
        /// An operator family: a row of the table.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u16)]
        pub(crate) enum Family { $($bin,)* $($cmp,)* $($un,)* $($load,)* $($store,)* $($ab,)* $($pair,)* $($special,)* }

        /// Name, formula and forms of each family.
        pub(crate) static FAMILIES: &[FamilyInfo] = &[
            $(FamilyInfo { name: stringify!($bin), formula: $bt, forms: &BIN_FORMS, branches: false },)*
            $(FamilyInfo { name: stringify!($cmp), formula: $ct, forms: &CMP_FORMS, branches: true },)*
            $(FamilyInfo { name: stringify!($un), formula: $ut, forms: &UN_FORMS, branches: false },)*
            $(FamilyInfo { name: stringify!($load), formula: $lt, forms: &LOAD_FORMS, branches: false },)*
            $(FamilyInfo { name: stringify!($store), formula: $st, forms: &STORE_FORMS, branches: false },)*
            $(FamilyInfo { name: stringify!($ab), formula: $ad, forms: &ADDBR_FORMS, branches: false },)*
            $(FamilyInfo { name: stringify!($pair), formula: $pd, forms: &PAIR_FORMS, branches: false },)*
            $(FamilyInfo { name: stringify!($special), formula: $pt, forms: &[$(stringify!($form)),*], branches: false },)*
        ];

        /// Every family, in the order of its number.
        static LIST: &[Family] = &[$(Family::$bin,)* $(Family::$cmp,)* $(Family::$un,)* $(Family::$load,)* $(Family::$store,)* $(Family::$ab,)* $(Family::$pair,)* $(Family::$special,)*];

        /// Pairs of operators that are one: the first, the second, on which side of the second the first one's result is.
        const PAIRS: &[(Family, Family, Side, Family)] = &[$((Family::$pf, Family::$ps, Side::$side, Family::$pair),)*];

        impl Family {
            /// The comparison that holds exactly when this one does not.
            pub fn inverse(self) -> Option<Family> {
                match self { $(Family::$cmp => Some(Family::$inv),)* _ => None }
            }
        }
    };
}
for_each_op!(define_families);

/// The side of the second operator of a pair that the first one's result is on.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "spelled as in the table")]
enum Side {
    left,
    right,
}

/// Families with two operands; they come first in the table.
const BINARY: usize = Family::F64Copysign as usize + 1;

/// For a first operator, a second one and a side (1 = right): the number of their pair, or 0.
static PAIR_OF: [[[u16; 2]; BINARY]; BINARY] = {
    let mut table = [[[0; 2]; BINARY]; BINARY];
    let mut row = 0;
    while row < PAIRS.len() {
        let (first, second, side, pair) = PAIRS[row];
        table[first as usize][second as usize][side as usize] = pair as u16;
        row += 1;
    }
    table
};

/// The operator that computes `first` and gives its result to `second` as left or right operand.
pub(crate) fn pair_of(first: Op, second: Family, right: bool) -> Option<Family> {
    let pair = *PAIR_OF
        .get(first.family())?
        .get(second as usize)?
        .get(usize::from(right))?;
    (pair != 0).then(|| LIST.get(usize::from(pair)).copied())?
}

/// What the table says of a family.
pub(crate) struct FamilyInfo {
    pub name: &'static str,
    pub formula: &'static str,
    pub forms: &'static [&'static str],
    /// Whether branch forms follow.
    pub branches: bool,
}

/// An operator: family and form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Op(pub u16);

impl Op {
    /// The family.
    pub fn family(self) -> usize {
        usize::from(self.0) / FORMS
    }

    /// The form within the family.
    pub fn form(self) -> u16 {
        self.0 % FORMS as u16
    }

    /// The comparison, if it is one in a form that only makes a value in the accumulator; its operands' form.
    pub fn comparison(self) -> Option<(Family, u16)> {
        let family = *LIST.get(self.family())?;
        let plain = self.form() < BRANCH && self.form().is_multiple_of(2);
        (plain && family.inverse().is_some()).then_some((family, self.form()))
    }

    /// Whether it is this family.
    pub fn is(self, family: Family) -> bool {
        self.family() == family as usize
    }

    /// Whether the form completes its family's grid without a use: a constant subtrahend is added, an address and an
    /// integer value are never both in the one integer accumulator, operands that commute have no immediate on the
    /// left, and only sums and products of a value with itself are worth a form.
    pub fn is_unused(self) -> bool {
        let family = self.family();
        let Some(name) = LIST.get(family).copied() else {
            return false;
        };
        let form = self.form();
        let subtracts = name == Family::I32Sub && (6..10).contains(&form);
        if family < BINARY {
            return match form {
                10..14 => name.commutes(),
                14..16 => !name.doubles(),
                19..21 => name == Family::I32Sub,
                // `AddSlot` does that.
                21 if name == Family::I32Add => true,
                // A shifted local is an address first.
                22 if name == Family::I32Shl => true,
                21..23 => name as u16 >= Family::F32Add as u16 || name == Family::I32Sub,
                _ => subtracts,
            };
        }
        let pair = family.checked_sub(PAIRS[0].3 as usize);
        if let Some((first, second, _, _)) = pair.and_then(|pair| PAIRS.get(pair)) {
            let floats = *second as u16 >= Family::F32Add as u16;
            if form >= PAIR_ACC {
                return match form - PAIR_ACC {
                    0..2 => false,
                    4..6 => floats || first.commutes(),
                    // A local plus a constant, and a shifted local plus itself, are addresses first.
                    6.. if *first == Family::I32Add => true,
                    6.. if *first == Family::I32Shl && *second == Family::I32Add => true,
                    _ => floats || *first == Family::I32Sub,
                };
            }
            if form >= PAIR_FIRST {
                return floats || first.commutes();
            }
            // The first operator's form, if its own immediate is wanted: floats have none in pairs.
            let first_form = form % PAIR_IMMEDIATE;
            return (floats && (form >= PAIR_IMMEDIATE || first_form >= 6))
                || (*first == Family::I32Sub && first_form >= 6);
        }
        let integer_store =
            (Family::I32Store as usize..=Family::I64Store32 as usize).contains(&family);
        integer_store && STORE_FORMS.get(usize::from(form)) == Some(&"aa")
    }

    /// The operator that computes the same and returns, of arithmetic that only makes a value in the accumulator.
    pub fn returning(self) -> Option<Op> {
        let plain = self.family() < BINARY && self.form() < 10 && self.form().is_multiple_of(2);
        plain.then(|| Op(self.0 - self.form() + RETURNS + self.form() / 2))
    }

    /// The operator that computes the same and leaves the accumulator alone, of arithmetic whose result is in a slot anyway.
    pub fn keeping(self) -> Option<Op> {
        let family = LIST.get(self.family())?;
        let integers = self.family() < BINARY && (*family as u16) < Family::F32Add as u16;
        match self.form() {
            7 if *family == Family::I32Add => Some(Family::AddSlot.form(0)),
            7 if integers => Some(Op(self.0 - 7 + KEEPS)),
            9 if integers => Some(Op(self.0 - 9 + KEEPS + 1)),
            _ => None,
        }
    }

    /// Words of a call; the last but one says where the callee's frame is and, in its upper 16 bits, which slot gets the result.
    pub fn call_words(self) -> Option<usize> {
        match LIST.get(self.family())? {
            Family::Call | Family::CallFar => Some(3),
            Family::CallCopy | Family::CallAny => Some(4),
            Family::CallIndirect => Some(8),
            Family::CallThrough => Some(10),
            _ => None,
        }
    }

    /// Whether it only reads slots, accumulators and memory, writes slots and accumulators, and goes on behind itself.
    pub fn is_plain(self) -> bool {
        let branches = FAMILIES
            .get(self.family())
            .is_none_or(|family| family.branches && (BRANCH..SELECT).contains(&self.form()));
        let returns = self.family() < BINARY && (RETURNS..KEEPS).contains(&self.form());
        (self.family() < Family::I32Store as usize && !branches && !returns)
            || self.is(Family::Copy)
            || self.is(Family::AddSlot)
            || self.is(Family::AddTwo)
            || self.is(Family::Lea)
            || self.is(Family::LoadTwo)
            || PAIRS.iter().any(|(_, _, _, pair)| self.is(*pair))
    }

    /// Whether its forms name the places of two operands, as those of arithmetic do.
    pub fn has_operand_forms(self) -> bool {
        let family = self.family();
        let compares = FAMILIES.get(family).is_some_and(|family| family.branches);
        (family < BINARY && self.form() < RETURNS) || (compares && self.form() < BRANCH)
    }

    /// Whether it is a comparison that branches.
    pub fn is_branch_of_comparison(self) -> bool {
        let compares = FAMILIES
            .get(self.family())
            .is_some_and(|family| family.branches);
        compares && (BRANCH..SELECT).contains(&self.form())
    }

    /// Whether it has one operand of a number type.
    pub fn is_unary(self) -> bool {
        (Family::I32Clz as usize..=Family::F64ReinterpretI64 as usize).contains(&self.family())
    }

    /// Whether it is a load.
    pub fn is_load(self) -> bool {
        (Family::I32Load as usize..=Family::F64Load as usize).contains(&self.family())
    }

    /// Whether it is two operators in one.
    pub fn is_pair(self) -> bool {
        let first = PAIRS[0].3 as usize;
        (first..first + PAIRS.len()).contains(&self.family())
    }

    /// Whether it surely leaves its result in the integer accumulator.
    pub fn makes_integer(self) -> bool {
        let family = self.family();
        let between =
            |first: Family, last: Family| (first as usize..=last as usize).contains(&family);
        let plain = between(Family::I32Clz, Family::I64ExtendI32U)
            || between(Family::I32Load, Family::I64Load32U);
        plain || (!self.takes_floats() && (self.has_operand_forms() || self.is_pair()))
    }

    /// Whether operands that may be in an accumulator are floats.
    pub fn takes_floats(self) -> bool {
        let family = self.family() as u16;
        let between = |first: Family, last: Family| (first as u16..=last as u16).contains(&family);
        let unary_of_floats = between(Family::F32Abs, Family::I64TruncSatF64U)
            || between(Family::F32DemoteF64, Family::F32DemoteF64)
            || between(Family::F64PromoteF32, Family::I64ReinterpretF64);
        let pair = family.checked_sub(PAIRS[0].3 as u16);
        let first = pair
            .and_then(|pair| PAIRS.get(usize::from(pair)))
            .map(|(first, ..)| *first as u16);
        between(Family::F32Add, Family::F64Copysign)
            || between(Family::F32Eq, Family::F64Nge)
            || unary_of_floats
            || first.is_some_and(|first| first >= Family::F32Add as u16)
    }

    /// Whether it leaves its result in an accumulator and in slot d.
    pub fn stores_result(self) -> bool {
        let family = self.family();
        let pairs = PAIRS[0].3 as usize..PAIRS[0].3 as usize + PAIRS.len();
        let value = match FAMILIES.get(family) {
            _ if family < BINARY => self.form() < RETURNS,
            Some(info) if family < Family::I32Store as usize => {
                self.form() < BRANCH || !info.branches
            }
            _ => pairs.contains(&family),
        };
        value && !self.form().is_multiple_of(2)
    }

    /// Name as the disassembly and the coverage report print it, `None` if there is no such operator.
    pub fn name(self) -> Option<String> {
        if self.is_unused() {
            return None;
        }
        let info = FAMILIES.get(self.family())?;
        let form = usize::from(self.form());
        let form = match info.forms.get(form) {
            Some(form) => form,
            None if info.branches => match BRANCH_FORMS.get(form - info.forms.len()) {
                Some(form) => form,
                None if LIST.get(self.family())?.compares_integers() => {
                    SELECT_FORMS.get(form.checked_sub(usize::from(SELECT))?)?
                }
                None => return None,
            },
            None => return None,
        };
        (*form != "unused").then(|| format!("{}.{form}", info.name))
    }

    /// Every operator of the table.
    pub fn all() -> impl Iterator<Item = Op> {
        (0..(FAMILIES.len() * FORMS) as u16)
            .map(Op)
            .filter(|op| op.name().is_some())
    }
}

impl Family {
    /// Whether the operands of a value operator may be exchanged.
    pub fn commutes(self) -> bool {
        use Family::*;
        matches!(
            self,
            I32Add
                | I32Mul
                | I32And
                | I32Or
                | I32Xor
                | I64Add
                | I64Mul
                | I64And
                | I64Or
                | I64Xor
                | F32Add
                | F32Mul
                | F32Min
                | F32Max
                | F64Add
                | F64Mul
                | F64Min
                | F64Max
        )
    }

    /// Whether the operator has forms for one value as both operands.
    pub fn doubles(self) -> bool {
        use Family::*;
        matches!(self, I32Mul | I64Mul | F32Add | F32Mul | F64Add | F64Mul)
    }

    /// Whether it is an operator with two operands of a number type.
    pub fn is_binary(self) -> bool {
        (self as usize) < BINARY
    }

    /// Whether it compares integers.
    pub fn compares_integers(self) -> bool {
        (Family::I32Eq as u16..=Family::I64Ntst as u16).contains(&(self as u16))
    }

    /// The operator of this family in a form.
    pub fn form(self, form: u16) -> Op {
        Op(self as u16 * FORMS as u16 + form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_comparisons_are_inverse_to_each_other() {
        let mut seen = 0;
        for op in Op::all().filter(|op| op.form() == 0 && FAMILIES[op.family()].branches) {
            // The families are numbered in table order, so the info of the inverse names it.
            let name = FAMILIES[op.family()].name;
            let family = ALL_COMPARISONS
                .iter()
                .find(|f| FAMILIES[**f as usize].name == name);
            let inverse = family.and_then(|f| f.inverse()).and_then(Family::inverse);
            assert_eq!(inverse, family.copied(), "{name}");
            seen += 1;
        }
        assert_eq!(seen, ALL_COMPARISONS.len());
    }

    macro_rules! comparisons {
        (bin { $($b:tt)* } cmp { $($cmp:ident($ca:ident) ! $inv:ident $ct:literal |$cx:ident, $cy:ident| $ce:expr;)* } $($rest:tt)*) => {
            const ALL_COMPARISONS: &[Family] = &[$(Family::$cmp),*];
        };
    }
    for_each_op!(comparisons);
}
