//! The handler table: for every operator the address of its handler, for each way of dispatch.
//! Generated from the one table in `ir/ops.rs`.

use super::cold::*;
use super::dispatch::{Dispatch, Handler, Loop, handler, trap};
#[cfg(dynlink_guard_pages)]
use super::guard;
use super::handlers::call::*;
use super::handlers::control::*;
use super::handlers::memory::{self, *};
use super::handlers::numeric::*;
use super::handlers::variable::*;
use super::native::NativeLibc;
use super::num;
use super::value::{A, I, S, Short, Value};
use crate::config::{self, Config};
use crate::ir::ops::{FAMILIES, FORMS, for_each_op};
use crate::runtime::records::Ctx;
use crate::trap::TrapCode;
use std::sync::OnceLock;

handler! {
    /// A number that is no operator. Its code is not that of `unreachable`, or the optimiser would make them one.
    [D: Dispatch]
    unused(ip, sp, mem, len, ctx, acc, facc) {
        trap!(TrapCode::UnresolvedFunction; ip, sp, ctx)
    }
}

handler! {
    /// An operation out of line; memory may have grown.
    [D: Dispatch, O: ColdOp]
    cold(ip, sp, mem, len, ctx, acc, facc) {
        let code = O::run(ctx, ip, sp);
        if code != super::dispatch::DONE {
            (*ctx).acc = code;
            return stopped(ip, sp, ctx);
        }
        let (mem, len) = memory_registers(ctx);
        D::next(ip.add(32), sp, mem, len, ctx, (*ctx).acc, facc)
    }
}

/// Bytes of a little-endian value in memory.
macro_rules! read_le {
    (f32, $at:ident) => {
        f32::from_bits(u32::from_le($at.cast::<u32>().read_unaligned()))
    };
    (f64, $at:ident) => {
        f64::from_bits(u64::from_le($at.cast::<u64>().read_unaligned()))
    };
    ($ty:ident, $at:ident) => {
        $ty::from_le($at.cast::<$ty>().read_unaligned())
    };
}
macro_rules! write_le {
    (f32, $at:ident, $value:ident) => {
        $at.cast::<u32>().write_unaligned($value.to_bits().to_le())
    };
    (f64, $at:ident, $value:ident) => {
        $at.cast::<u64>().write_unaligned($value.to_bits().to_le())
    };
    ($ty:ident, $at:ident, $value:ident) => {
        $at.cast::<$ty>().write_unaligned(($value as $ty).to_le())
    };
}

macro_rules! define_handlers {
    (bin { $($bin:ident($ba:ident, $bb:ident) -> $br:ident $bt:literal |$bx:ident, $by:ident| $be:expr;)* }
     cmp { $($cmp:ident($ca:ident) ! $inv:ident $ct:literal |$cx:ident, $cy:ident| $ce:expr;)* }
     un { $($un:ident($ua:ident) -> $ur:ident $ut:literal |$ux:ident| $ue:expr;)* }
     load { $($load:ident($lm:ident as $lr:ident) $lt:literal;)* }
     store { $($store:ident($sv:ident as $sm:ident) $st:literal;)* }
     addbr { $($ab:ident($at:ident) $ad:literal |$ax:ident, $ay:ident| $ae:expr;)* }
     pair { $($pair:ident($pf:ident, $ps:ident) $side:ident $pd:literal;)* }
     special { $($special:ident $pt:literal [$($form:ident $handler:expr),*];)* }) => {
        /// The formulas of the table as types.
        mod formula {
            use super::*;
            $(pub(super) struct $bin;
            impl Bin for $bin {
                type A = $ba; type B = $bb; type R = $br;
                #[inline(always)]
                fn eval($bx: $ba, $by: $bb) -> Result<$br, TrapCode> { $be }
            })*
            $(pub(super) struct $cmp;
            impl Cmp for $cmp {
                type A = $ca;
                #[inline(always)]
                fn test($cx: $ca, $cy: $ca) -> bool { $ce }
            })*
            $(pub(super) struct $un;
            impl Un for $un {
                type A = $ua; type R = $ur;
                #[inline(always)]
                fn eval($ux: $ua) -> Result<$ur, TrapCode> { $ue }
            })*
            $(pub(super) struct $load;
            impl Load for $load {
                type R = $lr;
                const SIZE: usize = size_of::<$lm>();
                #[inline(always)]
                unsafe fn read(at: *const u8) -> $lr {
                    // SAFETY: the handler checked the bounds.
                    unsafe { (read_le!($lm, at)) as $lr }
                }
                #[cfg(dynlink_guard_pages)]
                #[inline(always)]
                unsafe fn read_guarded<const FIELDS: bool>(access: Access) -> ($lr, *const u8) {
                    // SAFETY: the caller's.
                    unsafe { <$lm as guard::Read<$lr>>::read::<FIELDS>(access) }
                }
            })*
            $(pub(super) struct $store;
            impl memory::Store for $store {
                type V = $sv;
                const SIZE: usize = size_of::<$sm>();
                #[inline(always)]
                unsafe fn write(at: *mut u8, value: $sv) {
                    // SAFETY: the handler checked the bounds.
                    unsafe { write_le!($sm, at, value) }
                }
                #[cfg(dynlink_guard_pages)]
                #[inline(always)]
                unsafe fn write_guarded(access: Access, value: $sv) -> *const u8 {
                    // SAFETY: the caller's.
                    unsafe { guard::Write::write(value as $sm, access) }
                }
            })*
            $(pub(super) struct $ab;
            impl Cmp for $ab {
                type A = $at;
                #[inline(always)]
                fn test($ax: $at, $ay: $at) -> bool { $ae }
            })*
        }

        /// The handlers of every family, form by form.
        fn families<D: Dispatch, M: Bounds>() -> Vec<Vec<Handler>> {
            vec![
                $(bin_forms::<D, formula::$bin>(),)*
                $(cmp_forms::<D, formula::$cmp>(),)*
                $(un_forms::<D, formula::$un>(),)*
                $(load_forms::<D, M, formula::$load>(),)*
                $(store_forms::<D, M, formula::$store>(),)*
                $(add_branch_forms::<D, formula::$ab>(),)*
                $(pair_forms::<D, formula::$pf, formula::$ps, { is_right!($side) }>(),)*
                $(vec![$($handler as Handler),*],)*
            ]
        }
    };
}

for_each_op!(define_handlers);

/// Slot a and slot b of value operators.
type Sa = S<10>;
type Sb = S<12>;
/// Immediate of value operators.
type Im = I<12, 16>;
/// The other operand of a pair's second operator, and short immediates of pairs.
type Sc = S<16>;
type Ib = Short<12>;
type Ic = Short<16>;
/// Values of a select that compares.
type Sx = S<16>;
type Sy = S<18>;
/// Slots and immediate of branches.
type Ba = S<8>;
type Bb = S<10>;
type Bi = I<16, 16>;

fn bin_forms<D: Dispatch, O: Bin>() -> Vec<Handler> {
    vec![
        bin::<D, O, Sa, Sb, false, false>,
        bin::<D, O, Sa, Sb, true, false>,
        bin::<D, O, A, Sb, false, false>,
        bin::<D, O, A, Sb, true, false>,
        bin::<D, O, Sa, A, false, false>,
        bin::<D, O, Sa, A, true, false>,
        bin::<D, O, Sa, Im, false, false>,
        bin::<D, O, Sa, Im, true, false>,
        bin::<D, O, A, Im, false, false>,
        bin::<D, O, A, Im, true, false>,
        bin::<D, O, Im, Sa, false, false>,
        bin::<D, O, Im, Sa, true, false>,
        bin::<D, O, Im, A, false, false>,
        bin::<D, O, Im, A, true, false>,
        bin::<D, O, A, A, false, false>,
        bin::<D, O, A, A, true, false>,
        ret_bin::<D, O, Sa, Sb>,
        ret_bin::<D, O, A, Sb>,
        ret_bin::<D, O, Sa, A>,
        ret_bin::<D, O, Sa, Im>,
        ret_bin::<D, O, A, Im>,
        if <O::R as Value>::FLOAT {
            unused::<D>
        } else {
            bin::<D, O, Sa, Im, true, true>
        },
        if <O::R as Value>::FLOAT {
            unused::<D>
        } else {
            bin::<D, O, A, Im, true, true>
        },
    ]
}

/// Whether the first operator's result is the right operand of the second.
macro_rules! is_right {
    (left) => {
        false
    };
    (right) => {
        true
    };
}
use is_right;

fn pair_forms<D: Dispatch, O: Bin, P: Bin, const RIGHT: bool>() -> Vec<Handler> {
    let slots: [Handler; 6] = [
        pair::<D, O, P, Sa, Sb, Sc, RIGHT, false>,
        pair::<D, O, P, Sa, Sb, Sc, RIGHT, true>,
        pair::<D, O, P, A, Sb, Sc, RIGHT, false>,
        pair::<D, O, P, A, Sb, Sc, RIGHT, true>,
        pair::<D, O, P, Sa, A, Sc, RIGHT, false>,
        pair::<D, O, P, Sa, A, Sc, RIGHT, true>,
    ];
    if <O::R as Value>::FLOAT {
        let unused: [Handler; 18] = [unused::<D>; 18];
        let accumulator: [Handler; 2] = [
            pair::<D, O, P, Sa, Sb, A, RIGHT, false>,
            pair::<D, O, P, Sa, Sb, A, RIGHT, true>,
        ];
        return [slots.as_slice(), &unused, &accumulator].concat();
    }
    let immediates: [Handler; 26] = [
        pair::<D, O, P, Sa, Ib, Sc, RIGHT, false>,
        pair::<D, O, P, Sa, Ib, Sc, RIGHT, true>,
        pair::<D, O, P, A, Ib, Sc, RIGHT, false>,
        pair::<D, O, P, A, Ib, Sc, RIGHT, true>,
        pair::<D, O, P, Sa, Sb, Ic, RIGHT, false>,
        pair::<D, O, P, Sa, Sb, Ic, RIGHT, true>,
        pair::<D, O, P, A, Sb, Ic, RIGHT, false>,
        pair::<D, O, P, A, Sb, Ic, RIGHT, true>,
        pair::<D, O, P, Sa, A, Ic, RIGHT, false>,
        pair::<D, O, P, Sa, A, Ic, RIGHT, true>,
        pair::<D, O, P, Sa, Ib, Ic, RIGHT, false>,
        pair::<D, O, P, Sa, Ib, Ic, RIGHT, true>,
        pair::<D, O, P, A, Ib, Ic, RIGHT, false>,
        pair::<D, O, P, A, Ib, Ic, RIGHT, true>,
        pair::<D, O, P, Ib, Sa, Sc, RIGHT, false>,
        pair::<D, O, P, Ib, Sa, Sc, RIGHT, true>,
        pair::<D, O, P, Ib, A, Sc, RIGHT, false>,
        pair::<D, O, P, Ib, A, Sc, RIGHT, true>,
        pair::<D, O, P, Sa, Sb, A, RIGHT, false>,
        pair::<D, O, P, Sa, Sb, A, RIGHT, true>,
        pair::<D, O, P, Sa, Ib, A, RIGHT, false>,
        pair::<D, O, P, Sa, Ib, A, RIGHT, true>,
        pair::<D, O, P, Ib, Sa, A, RIGHT, false>,
        pair::<D, O, P, Ib, Sa, A, RIGHT, true>,
        pair::<D, O, P, A, Ib, A, RIGHT, false>,
        pair::<D, O, P, A, Ib, A, RIGHT, true>,
    ];
    [slots.as_slice(), &immediates].concat()
}

fn cmp_forms<D: Dispatch, O: Cmp>() -> Vec<Handler> {
    let mut forms: Vec<Handler> = vec![
        cmp::<D, O, Sa, Sb, false>,
        cmp::<D, O, Sa, Sb, true>,
        cmp::<D, O, A, Sb, false>,
        cmp::<D, O, A, Sb, true>,
        cmp::<D, O, Sa, A, false>,
        cmp::<D, O, Sa, A, true>,
        cmp::<D, O, Sa, Im, false>,
        cmp::<D, O, Sa, Im, true>,
        cmp::<D, O, A, Im, false>,
        cmp::<D, O, A, Im, true>,
        branch::<D, O, Ba, Bb>,
        branch::<D, O, A, Bb>,
        branch::<D, O, Ba, A>,
        branch::<D, O, Ba, Bi>,
        branch::<D, O, A, Bi>,
    ];
    if !<O::A as Value>::FLOAT {
        forms.push(unused::<D>);
        forms.extend(select_forms::<D, O>());
    }
    forms
}

fn select_forms<D: Dispatch, O: Cmp>() -> Vec<Handler> {
    vec![
        select_cmp::<D, O, Sa, Sb, Sx, Sy, false>,
        select_cmp::<D, O, Sa, Sb, Sx, Sy, true>,
        select_cmp::<D, O, A, Sb, Sx, Sy, false>,
        select_cmp::<D, O, A, Sb, Sx, Sy, true>,
        select_cmp::<D, O, Sa, Ib, Sx, Sy, false>,
        select_cmp::<D, O, Sa, Ib, Sx, Sy, true>,
        select_cmp::<D, O, A, Ib, Sx, Sy, false>,
        select_cmp::<D, O, A, Ib, Sx, Sy, true>,
        select_cmp::<D, O, Sa, Sb, A, Sy, false>,
        select_cmp::<D, O, Sa, Sb, A, Sy, true>,
        select_cmp::<D, O, Sa, Ib, A, Sy, false>,
        select_cmp::<D, O, Sa, Ib, A, Sy, true>,
        select_cmp::<D, O, Sa, Sb, Sx, A, false>,
        select_cmp::<D, O, Sa, Sb, Sx, A, true>,
        select_cmp::<D, O, Sa, Ib, Sx, A, false>,
        select_cmp::<D, O, Sa, Ib, Sx, A, true>,
    ]
}

fn add_branch_forms<D: Dispatch, O: Cmp>() -> Vec<Handler> {
    vec![
        add_branch::<D, O, Ib, false>,
        add_branch::<D, O, Ib, true>,
        add_branch::<D, O, Sb, false>,
        add_branch::<D, O, Sb, true>,
    ]
}

fn un_forms<D: Dispatch, O: Un>() -> Vec<Handler> {
    vec![
        un::<D, O, Sa, false>,
        un::<D, O, Sa, true>,
        un::<D, O, A, false>,
        un::<D, O, A, true>,
    ]
}

fn load_forms<D: Dispatch, M: Bounds, L: Load>() -> Vec<Handler> {
    vec![
        load::<D, M, L, Slot, false>,
        load::<D, M, L, Slot, true>,
        load::<D, M, L, Acc, false>,
        load::<D, M, L, Acc, true>,
        load::<D, M, L, SlotSlot, false>,
        load::<D, M, L, SlotSlot, true>,
        load::<D, M, L, AccSlot, false>,
        load::<D, M, L, AccSlot, true>,
        load::<D, M, L, Const, false>,
        load::<D, M, L, Const, true>,
        load::<D, M, L, SlotImm, false>,
        load::<D, M, L, SlotImm, true>,
        load::<D, M, L, Scaled, false>,
        load::<D, M, L, Scaled, true>,
        load::<D, M, L, SlotScaled, false>,
        load::<D, M, L, SlotScaled, true>,
        load::<D, M, L, OtherMemory, false>,
        load::<D, M, L, OtherMemory, true>,
        load::<D, M, L, AccScaled, false>,
        load::<D, M, L, AccScaled, true>,
        load::<D, M, L, AccScaledSlot, false>,
        load::<D, M, L, AccScaledSlot, true>,
        load::<D, M, L, AccScaledImm, false>,
        load::<D, M, L, AccScaledImm, true>,
    ]
}

fn store_forms<D: Dispatch, M: Bounds, W: memory::Store>() -> Vec<Handler> {
    vec![
        store::<D, M, W, Slot, FromSlot>,
        store::<D, M, W, Slot, FromAcc>,
        store::<D, M, W, Acc, FromSlot>,
        store::<D, M, W, Slot, FromImm>,
        store::<D, M, W, Acc, FromAcc>,
        store::<D, M, W, Const, FromSlot>,
        store::<D, M, W, Const, FromAcc>,
        store::<D, M, W, Const, FromImm>,
        store::<D, M, W, Acc, FromImm>,
        store::<D, M, W, SlotImm, FromSlot>,
        store::<D, M, W, SlotImm, FromAcc>,
        store::<D, M, W, SlotImm, FromImm>,
        store::<D, M, W, Scaled, FromSlot>,
        store::<D, M, W, Scaled, FromAcc>,
        store::<D, M, W, SlotScaled, FromSlot>,
        store::<D, M, W, SlotScaled, FromAcc>,
        store::<D, M, W, OtherMemory, FromSlot>,
        store::<D, M, W, OtherMemory, FromAcc>,
    ]
}

/// Word 0 of every operator: the handler's address; with `counted` the operator's number above it.
fn build<D: Dispatch, M: Bounds>(counted: bool) -> Box<[u64]> {
    let mut words = vec![unused::<D> as Handler as usize as u64; FAMILIES.len() * FORMS];
    for (family, handlers) in families::<D, M>().into_iter().enumerate() {
        for (form, handler) in handlers.into_iter().enumerate() {
            let op = family * FORMS + form;
            words[op] = handler as usize as u64;
            if counted {
                words[op] |= (op as u64) << super::dispatch::WORD_BITS;
            }
        }
    }
    words.into()
}

/// Whether runs of this configuration jump from handler to handler.
pub(super) fn uses_tail_calls(config: &Config) -> bool {
    cfg!(all(dynlink_tail_calls, not(debug_assertions)))
        && !config.op_coverage
        && !matches!(config.dispatch, config::Dispatch::Loop)
}

/// Word 0 of every operator for this configuration. What counts operators checks bounds also where there are guard pages.
pub(super) fn words(config: &Config) -> &'static [u64] {
    #[cfg(dynlink_guard_pages)]
    if config.guard_pages && !config.op_coverage {
        return guarded_words(config);
    }
    #[cfg(all(dynlink_tail_calls, not(debug_assertions)))]
    if uses_tail_calls(config) {
        static TAIL: OnceLock<Box<[u64]>> = OnceLock::new();
        return TAIL.get_or_init(|| build::<super::dispatch::Tail, Checked>(false));
    }
    static LOOP: OnceLock<Box<[u64]>> = OnceLock::new();
    static COUNTED: OnceLock<Box<[u64]>> = OnceLock::new();
    if config.op_coverage {
        COUNTED.get_or_init(|| build::<Loop, Checked>(true))
    } else {
        LOOP.get_or_init(|| build::<Loop, Checked>(false))
    }
}

/// The same, with accesses to memory that rely on guard pages.
#[cfg(dynlink_guard_pages)]
fn guarded_words(config: &Config) -> &'static [u64] {
    #[cfg(all(dynlink_tail_calls, not(debug_assertions)))]
    if uses_tail_calls(config) {
        static TAIL: OnceLock<Box<[u64]>> = OnceLock::new();
        return TAIL.get_or_init(|| build::<super::dispatch::Tail, guard::Guarded>(false));
    }
    static LOOP: OnceLock<Box<[u64]>> = OnceLock::new();
    // Only what jumps from handler to handler looks at the configuration.
    let _ = config;
    LOOP.get_or_init(|| build::<Loop, guard::Guarded>(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::ops::Op;

    #[test]
    fn every_operator_has_a_handler_and_no_other_number_has_one() {
        let words = build::<Loop, Checked>(true);
        let gap = unused::<Loop> as Handler as usize as u64;
        for number in 0..(FAMILIES.len() * FORMS) as u16 {
            let has_handler = words[usize::from(number)] & ((1 << 48) - 1) != gap;
            let op = Op(number);
            // Forms without a use may have a handler, as their family's grid has one for each.
            assert!(
                has_handler == op.name().is_some() || op.is_unused(),
                "{:?}",
                op.name()
            );
        }
    }
}
