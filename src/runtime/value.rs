//! Values as the embedder sees them, and as the 64-bit slots that guest code works with.
//!
//! Slots: i32 in the low half (the API writes the upper half as zero and ignores it when it reads, because guest
//! code leaves anything there), f32 as bits in the low half, i64 and f64 as bits, a function as the address of its
//! record, a host reference as its number + 1, null as 0.

use super::func::Func;
use super::records::FuncRec;
use super::store::StoreCore;
use crate::error::{Error, Result};
use crate::module::{RefType, ValType};

/// A value of any type.
#[derive(Clone, Copy, Debug)]
pub enum Val {
    /// 32-bit integer.
    I32(i32),
    /// 64-bit integer.
    I64(i64),
    /// 32-bit float as its bits.
    F32(u32),
    /// 64-bit float as its bits.
    F64(u64),
    /// A function or null.
    FuncRef(Option<Func>),
    /// A number that the host gave to the guest as an opaque reference, or null.
    ExternRef(Option<u32>),
}

/// A reference as tables hold it.
#[derive(Clone, Copy, Debug)]
pub enum Ref {
    /// A function or null.
    Func(Option<Func>),
    /// A number of the host or null.
    Extern(Option<u32>),
}

impl Val {
    /// The value's type.
    pub fn ty(&self) -> ValType {
        match self {
            Val::I32(_) => ValType::I32,
            Val::I64(_) => ValType::I64,
            Val::F32(_) => ValType::F32,
            Val::F64(_) => ValType::F64,
            Val::FuncRef(_) => ValType::Ref(RefType::Func),
            Val::ExternRef(_) => ValType::Ref(RefType::Extern),
        }
    }

    /// The i32, if it is one.
    pub fn i32(&self) -> Option<i32> {
        match self {
            Val::I32(v) => Some(*v),
            _ => None,
        }
    }

    /// The i64, if it is one.
    pub fn i64(&self) -> Option<i64> {
        match self {
            Val::I64(v) => Some(*v),
            _ => None,
        }
    }

    /// The f32, if it is one.
    pub fn f32(&self) -> Option<f32> {
        match self {
            Val::F32(v) => Some(f32::from_bits(*v)),
            _ => None,
        }
    }

    /// The f64, if it is one.
    pub fn f64(&self) -> Option<f64> {
        match self {
            Val::F64(v) => Some(f64::from_bits(*v)),
            _ => None,
        }
    }

    /// Zero or null of this type.
    pub fn default_for(ty: ValType) -> Val {
        match ty {
            ValType::I32 => Val::I32(0),
            ValType::I64 => Val::I64(0),
            ValType::F32 => Val::F32(0),
            ValType::F64 => Val::F64(0),
            ValType::Ref(RefType::Func) => Val::FuncRef(None),
            ValType::Ref(RefType::Extern) => Val::ExternRef(None),
        }
    }
}

impl Val {
    /// The slot of this value if it has type `ty`.
    ///
    /// # Errors
    /// Another type, or a function of another store.
    pub(crate) fn slot_for(&self, ty: ValType, core: &StoreCore) -> Result<u64> {
        if self.ty() != ty {
            return Err(Error::usage(format!(
                "a value of type {ty} is needed, found one of type {}",
                self.ty()
            )));
        }
        match self {
            Val::I32(v) => Ok(u64::from(v.cast_unsigned())),
            Val::I64(v) => Ok(v.cast_unsigned()),
            Val::F32(bits) => Ok(u64::from(*bits)),
            Val::F64(bits) => Ok(*bits),
            Val::FuncRef(func) => func_slot(*func, core),
            Val::ExternRef(number) => Ok(extern_slot(*number)),
        }
    }

    /// The value in a slot.
    ///
    /// # Safety
    /// The slot is a value of type `ty` of the store with this number.
    pub(crate) unsafe fn from_slot(slot: u64, ty: ValType, store: u32) -> Val {
        match ty {
            ValType::I32 => Val::I32((slot as u32).cast_signed()),
            ValType::I64 => Val::I64(slot.cast_signed()),
            ValType::F32 => Val::F32(slot as u32),
            ValType::F64 => Val::F64(slot),
            // SAFETY: by the contract.
            ValType::Ref(RefType::Func) => Val::FuncRef(unsafe { func_of_slot(slot, store) }),
            ValType::Ref(RefType::Extern) => Val::ExternRef(extern_of_slot(slot)),
        }
    }
}

impl Ref {
    /// Null of this type.
    pub fn null(ty: RefType) -> Ref {
        match ty {
            RefType::Func => Ref::Func(None),
            RefType::Extern => Ref::Extern(None),
        }
    }

    /// The reference's type.
    pub fn ty(&self) -> RefType {
        match self {
            Ref::Func(_) => RefType::Func,
            Ref::Extern(_) => RefType::Extern,
        }
    }

    /// The slot of this reference if it has type `ty`.
    ///
    /// # Errors
    /// Another type, or a function of another store.
    pub(crate) fn slot_for(&self, ty: RefType, core: &StoreCore) -> Result<u64> {
        let value = match self {
            Ref::Func(func) => Val::FuncRef(*func),
            Ref::Extern(number) => Val::ExternRef(*number),
        };
        value.slot_for(ValType::Ref(ty), core)
    }

    /// The reference in a slot.
    ///
    /// # Safety
    /// The slot is a reference of type `ty` of the store with this number.
    pub(crate) unsafe fn from_slot(slot: u64, ty: RefType, store: u32) -> Ref {
        match ty {
            // SAFETY: by the contract.
            RefType::Func => Ref::Func(unsafe { func_of_slot(slot, store) }),
            RefType::Extern => Ref::Extern(extern_of_slot(slot)),
        }
    }
}

/// The slot of a function reference.
///
/// # Errors
/// A function of another store.
pub(crate) fn func_slot(func: Option<Func>, core: &StoreCore) -> Result<u64> {
    match func {
        Some(func) => Ok(core.find_func(func)? as u64),
        None => Ok(0),
    }
}

/// The function in a slot.
///
/// # Safety
/// The slot is 0 or the address of a live record of the store with this number.
pub(crate) unsafe fn func_of_slot(slot: u64, store: u32) -> Option<Func> {
    let func = slot as *const FuncRec;
    // SAFETY: by the contract.
    (!func.is_null()).then(|| unsafe { (*func).handle(store) })
}

fn extern_slot(number: Option<u32>) -> u64 {
    number.map_or(0, |number| u64::from(number) + 1)
}

fn extern_of_slot(slot: u64) -> Option<u32> {
    slot.checked_sub(1).map(|number| number as u32)
}

impl From<i32> for Val {
    fn from(v: i32) -> Val {
        Val::I32(v)
    }
}
impl From<i64> for Val {
    fn from(v: i64) -> Val {
        Val::I64(v)
    }
}
impl From<f32> for Val {
    fn from(v: f32) -> Val {
        Val::F32(v.to_bits())
    }
}
impl From<f64> for Val {
    fn from(v: f64) -> Val {
        Val::F64(v.to_bits())
    }
}
impl From<Func> for Val {
    fn from(func: Func) -> Val {
        Val::FuncRef(Some(func))
    }
}
