//! Walks the trees of `language` with the operators of `operators`: the independent answer that the
//! engine's is compared with.

use super::language::{Expr, Function, Stmt};
use super::operators::{Load, Store};
use dynlink::TrapCode;

/// Why evaluation left the straight path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    Trap(TrapCode),
    /// A branch to a label, with the value if the label takes one.
    Branch(u32, Option<u64>),
    Return(u64),
    /// The program takes more steps than the evaluator spends.
    TooLong,
}

/// What a module owns besides its functions.
pub struct World<'a> {
    pub functions: &'a [Function],
    pub globals: Vec<u64>,
    pub memory: Vec<u8>,
    /// The second memory, which does not grow.
    pub other: Vec<u8>,
    /// Most pages of the memory.
    pub memory_maximum: usize,
    /// Table: function index per element; beyond it, elements are out of bounds.
    pub table: Vec<u32>,
    pub steps_left: u64,
    pub depth: u32,
}

pub const PAGE: usize = 65_536;

type Eval<T> = Result<T, Stop>;

impl World<'_> {
    /// Calls a function.
    pub fn call(&mut self, index: u32, arguments: &[u64]) -> Eval<u64> {
        if self.depth == 0 {
            return Err(Stop::TooLong);
        }
        self.depth -= 1;
        let function = &self.functions[index as usize];
        let mut locals = arguments.to_vec();
        locals.resize(function.params.len() + function.locals.len(), 0);
        let value = self
            .stmts(&function.body, &mut locals)
            .and_then(|()| self.expr(&function.value, &mut locals));
        self.depth += 1;
        match value {
            // A branch to the outermost label returns.
            Err(Stop::Return(value) | Stop::Branch(_, Some(value))) => Ok(value),
            other => other,
        }
    }

    fn step(&mut self) -> Eval<()> {
        self.steps_left = self.steps_left.checked_sub(1).ok_or(Stop::TooLong)?;
        Ok(())
    }

    fn stmts(&mut self, stmts: &[Stmt], locals: &mut [u64]) -> Eval<()> {
        stmts.iter().try_for_each(|stmt| self.stmt(stmt, locals))
    }

    fn expr(&mut self, expr: &Expr, locals: &mut [u64]) -> Eval<u64> {
        self.step()?;
        Ok(match expr {
            Expr::Const(_, bits) => *bits,
            Expr::Local(local) => locals[*local as usize],
            Expr::Tee(local, value) => {
                let value = self.expr(value, locals)?;
                locals[*local as usize] = value;
                value
            }
            Expr::Global(global) => self.globals[*global as usize],
            Expr::Unary(op, a) => {
                let a = self.expr(a, locals)?;
                (op.apply)(a).map_err(Stop::Trap)?
            }
            Expr::Binary(op, a, b) => {
                let a = self.expr(a, locals)?;
                let b = self.expr(b, locals)?;
                (op.apply)(a, b).map_err(Stop::Trap)?
            }
            Expr::Load(op, offset, address) => {
                let address = self.expr(address, locals)?;
                load(&self.memory, op, address, *offset)?
            }
            Expr::LoadOther(op, offset, address) => {
                let address = self.expr(address, locals)?;
                load(&self.other, op, address, *offset)?
            }
            Expr::Select(a, b, condition) => {
                let a = self.expr(a, locals)?;
                let b = self.expr(b, locals)?;
                if self.expr(condition, locals)? != 0 {
                    a
                } else {
                    b
                }
            }
            Expr::If(_, condition, then, otherwise) => {
                let arm = if self.expr(condition, locals)? != 0 {
                    then
                } else {
                    otherwise
                };
                let value = self.expr(arm, locals);
                catch_value(value)?
            }
            Expr::Block(_, stmts, value) => {
                let value = self
                    .stmts(stmts, locals)
                    .and_then(|()| self.expr(value, locals));
                catch_value(value)?
            }
            Expr::LoopValue(_, stmts, value) => loop {
                self.step()?;
                let value = self
                    .stmts(stmts, locals)
                    .and_then(|()| self.expr(value, locals));
                match value {
                    Err(Stop::Branch(0, _)) => {}
                    Err(Stop::Branch(label, value)) => return Err(Stop::Branch(label - 1, value)),
                    other => break other?,
                }
            },
            Expr::Call(function, arguments) => {
                let arguments = self.arguments(arguments, locals)?;
                self.call(*function, &arguments)?
            }
            Expr::CallIndirect {
                like,
                arguments,
                index,
            } => {
                let arguments = self.arguments(arguments, locals)?;
                let index = self.expr(index, locals)?;
                let function = usize::try_from(index).ok().and_then(|i| self.table.get(i));
                let function = *function.ok_or(Stop::Trap(TrapCode::UndefinedElement))?;
                let expected = &self.functions[*like as usize];
                if !self.functions[function as usize].same_type(expected) {
                    return Err(Stop::Trap(TrapCode::IndirectCallTypeMismatch));
                }
                self.call(function, &arguments)?
            }
            Expr::MemorySize => (self.memory.len() / PAGE) as u64,
            Expr::MemoryGrow(delta) => {
                let delta = self.expr(delta, locals)? as usize;
                let pages = self.memory.len() / PAGE;
                if pages + delta > self.memory_maximum {
                    u64::from(u32::MAX)
                } else {
                    self.memory.resize((pages + delta) * PAGE, 0);
                    pages as u64
                }
            }
        })
    }

    fn arguments(&mut self, arguments: &[Expr], locals: &mut [u64]) -> Eval<Vec<u64>> {
        arguments
            .iter()
            .map(|argument| self.expr(argument, locals))
            .collect()
    }

    fn stmt(&mut self, stmt: &Stmt, locals: &mut [u64]) -> Eval<()> {
        self.step()?;
        match stmt {
            Stmt::Set(local, value) => locals[*local as usize] = self.expr(value, locals)?,
            Stmt::SetGlobal(global, value) => {
                self.globals[*global as usize] = self.expr(value, locals)?;
            }
            Stmt::Store(op, offset, address, value) => {
                let address = self.expr(address, locals)?;
                let value = self.expr(value, locals)?;
                store(&mut self.memory, op, address, *offset, value)?;
            }
            Stmt::StoreOther(op, offset, address, value) => {
                let address = self.expr(address, locals)?;
                let value = self.expr(value, locals)?;
                store(&mut self.other, op, address, *offset, value)?;
            }
            Stmt::Drop(value) => drop(self.expr(value, locals)?),
            Stmt::If(condition, then, otherwise) => {
                let arm = if self.expr(condition, locals)? != 0 {
                    then
                } else {
                    otherwise
                };
                catch(self.stmts(arm, locals))?;
            }
            Stmt::Block(stmts) => catch(self.stmts(stmts, locals))?,
            Stmt::Loop(stmts) => loop {
                self.step()?;
                match self.stmts(stmts, locals) {
                    Err(Stop::Branch(0, _)) => {}
                    other => break catch(other)?,
                }
            },
            Stmt::Br(label) => return Err(Stop::Branch(*label, None)),
            Stmt::BrIf(label, condition) => {
                if self.expr(condition, locals)? != 0 {
                    return Err(Stop::Branch(*label, None));
                }
            }
            Stmt::BrValue(label, value) => {
                let value = self.expr(value, locals)?;
                return Err(Stop::Branch(*label, Some(value)));
            }
            Stmt::BrIfValue(label, value, condition) => {
                let value = self.expr(value, locals)?;
                if self.expr(condition, locals)? != 0 {
                    return Err(Stop::Branch(*label, Some(value)));
                }
            }
            Stmt::BrTable(labels, default, index) => {
                let index = self.expr(index, locals)? as usize;
                return Err(Stop::Branch(*labels.get(index).unwrap_or(default), None));
            }
            Stmt::Return(value) => {
                let value = self.expr(value, locals)?;
                return Err(Stop::Return(value));
            }
            Stmt::MemoryFill(to, byte, count) => {
                let to = self.expr(to, locals)?;
                let byte = self.expr(byte, locals)? as u8;
                let count = self.expr(count, locals)?;
                let range = self.range(to, count)?;
                self.memory[range].fill(byte);
            }
            Stmt::MemoryCopy(to, from, count) => {
                let to = self.expr(to, locals)?;
                let from = self.expr(from, locals)?;
                let count = self.expr(count, locals)?;
                let to = self.range(to, count)?;
                let from = self.range(from, count)?;
                self.memory.copy_within(from, to.start);
            }
            Stmt::Nop => {}
        }
        Ok(())
    }

    fn range(&self, start: u64, count: u64) -> Eval<std::ops::Range<usize>> {
        if start + count > self.memory.len() as u64 {
            return Err(Stop::Trap(TrapCode::MemoryOutOfBounds));
        }
        Ok(start as usize..(start + count) as usize)
    }
}

/// The start of an access of `bytes` bytes, if it is in bounds.
fn place(memory: &[u8], address: u64, offset: u32, bytes: usize) -> Eval<usize> {
    let start = address + u64::from(offset);
    if start + bytes as u64 > memory.len() as u64 {
        return Err(Stop::Trap(TrapCode::MemoryOutOfBounds));
    }
    Ok(start as usize)
}

fn load(memory: &[u8], op: &Load, address: u64, offset: u32) -> Eval<u64> {
    let start = place(memory, address, offset, op.bytes)?;
    let mut bytes = [0; 8];
    bytes[..op.bytes].copy_from_slice(&memory[start..start + op.bytes]);
    Ok((op.widen)(u64::from_le_bytes(bytes)))
}

fn store(memory: &mut [u8], op: &Store, address: u64, offset: u32, value: u64) -> Eval<()> {
    let start = place(memory, address, offset, op.bytes)?;
    memory[start..start + op.bytes].copy_from_slice(&value.to_le_bytes()[..op.bytes]);
    Ok(())
}

/// Ends a branch to the label that was just left; others go on outwards.
fn catch(result: Eval<()>) -> Eval<()> {
    match result {
        Err(Stop::Branch(0, _)) => Ok(()),
        Err(Stop::Branch(label, value)) => Err(Stop::Branch(label - 1, value)),
        other => other,
    }
}

/// Like `catch` for labels with a value.
fn catch_value(result: Eval<u64>) -> Eval<u64> {
    match result {
        Err(Stop::Branch(0, Some(value))) => Ok(value),
        Err(Stop::Branch(label, value)) => Err(Stop::Branch(label.saturating_sub(1), value)),
        other => other,
    }
}
