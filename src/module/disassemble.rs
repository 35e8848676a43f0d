//! The operators of a function as text, one line each, in the manner of the text format.
#![forbid(unsafe_code)]

use super::{ExternKind, Module, types};
use crate::error::{Error, Result};
use crate::shown::printable;
use std::fmt::Write;
use wasmparser::{BinaryReader, BlockType, FunctionBody, MemArg, Operator, for_each_operator};

/// Operators of one function that are printed.
const MOST_OPERATORS: usize = 1_000_000;

/// Blocks within blocks that are indented.
const MOST_INDENTED: usize = 40;

/// One operator of a function.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OperatorText {
    /// Offset in the file.
    pub offset: u64,
    /// How many blocks it stands in.
    pub depth: usize,
    /// The operator with its operands.
    pub text: String,
}

macro_rules! visitor_names {
    ($( @$proposal:ident $op:ident $({ $($field:ident: $type:ty),* })? => $visit:ident ($($annotation:tt)*) )*) => {
        /// The name of the visitor's method, which is the operator's with underscores.
        fn visitor_name(operator: &Operator<'_>) -> &'static str {
            match operator {
                $( Operator::$op { .. } => stringify!($visit), )*
                _ => "visit_unknown",
            }
        }
    };
}
for_each_operator!(visitor_names);

/// First parts of names that are separated by a dot from the rest.
const PREFIXES: &[&str] = &[
    "i32", "i64", "f32", "f64", "local", "global", "memory", "table", "ref", "data", "elem",
];

impl Module {
    /// The locals and operators of a defined function, for people to read.
    ///
    /// # Errors
    /// There is no such function, it is imported, or its body cannot be read.
    pub fn disassemble(&self, index: u32) -> Result<Vec<OperatorText>> {
        let range = self.function_body(index).ok_or_else(|| {
            Error::usage(format!(
                "function {index} has no body: the functions with bodies are {} to {}",
                self.0.imported_funcs,
                self.0.funcs.len().saturating_sub(1)
            ))
        })?;
        let bytes = self.0.bytes.get(range.clone()).unwrap_or_default();
        let malformed =
            |error: wasmparser::BinaryReaderError| Error::msg(format!("function {index}: {error}"));
        let body = FunctionBody::new(BinaryReader::new(
            bytes,
            u64::try_from(range.start).unwrap_or(u64::MAX),
        ));
        let names = Names::of(self);
        let mut list = Vec::new();
        let locals = body.get_locals_reader().map_err(malformed)?;
        let first = locals.original_position();
        for local in locals {
            let (count, ty) = local.map_err(malformed)?;
            let ty = types::value(ty).map_or_else(|| format!("{ty}"), |ty| ty.to_string());
            list.push(OperatorText {
                offset: first,
                depth: 1,
                text: format!("(local {count} x {ty})"),
            });
        }
        let mut reader = body.get_operators_reader().map_err(malformed)?;
        let mut depth: usize = 1;
        while !reader.eof() {
            let offset = reader.original_position();
            let operator = reader.read().map_err(malformed)?;
            if matches!(operator, Operator::End | Operator::Else) {
                depth = depth.saturating_sub(1);
            }
            if list.len() >= MOST_OPERATORS {
                list.push(OperatorText {
                    offset,
                    depth: 0,
                    text: "...".into(),
                });
                break;
            }
            list.push(OperatorText {
                offset,
                depth: depth.min(MOST_INDENTED),
                text: names.operator_text(&operator),
            });
            if matches!(
                operator,
                Operator::Block { .. }
                    | Operator::Loop { .. }
                    | Operator::If { .. }
                    | Operator::Else
                    | Operator::Try { .. }
                    | Operator::TryTable { .. }
            ) {
                depth = depth.saturating_add(1);
            }
        }
        Ok(list)
    }
}

/// What names the operands.
struct Names<'a> {
    module: &'a Module,
    /// The names of the imported functions.
    functions: Vec<&'a str>,
    /// Module and name of the imported globals.
    globals: Vec<(&'a str, &'a str)>,
}

impl<'a> Names<'a> {
    fn of(module: &'a Module) -> Names<'a> {
        let mut names = Names {
            module,
            functions: Vec::new(),
            globals: Vec::new(),
        };
        for import in &module.0.imports {
            match import.ty {
                ExternKind::Func(_) => names.functions.push(&import.name),
                ExternKind::Global(_) => names
                    .globals
                    .push((module.0.import_module(import), &import.name)),
                ExternKind::Table(_) | ExternKind::Memory(_) => {}
            }
        }
        names
    }

    fn operator_text(&self, operator: &Operator<'_>) -> String {
        let name = mnemonic(visitor_name(operator));
        let operands = self.operands(operator);
        if operands.is_empty() {
            name
        } else {
            format!("{name} {operands}")
        }
    }

    fn operands(&self, operator: &Operator<'_>) -> String {
        match operator {
            Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
                self.block_text(*blockty)
            }
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => {
                relative_depth.to_string()
            }
            Operator::BrTable { targets } => {
                let mut text = String::new();
                for target in targets.targets().flatten() {
                    let _ = write!(text, "{target} ");
                }
                let _ = write!(text, "{}", targets.default());
                text
            }
            Operator::Call { function_index }
            | Operator::ReturnCall { function_index }
            | Operator::RefFunc { function_index } => {
                // Only the name section: looking through all exports for each call would take too long.
                let imported = usize::try_from(*function_index)
                    .ok()
                    .and_then(|place| self.functions.get(place).copied());
                let name = self.module.section_name(*function_index).or(imported);
                name.map_or_else(
                    || function_index.to_string(),
                    |name| format!("{function_index} ;; {}", short(printable(name))),
                )
            }
            Operator::CallIndirect {
                type_index,
                table_index,
            }
            | Operator::ReturnCallIndirect {
                type_index,
                table_index,
            } => {
                let ty = usize::try_from(*type_index)
                    .ok()
                    .and_then(|place| self.module.0.types.get(place));
                let ty = ty.map_or_else(|| type_index.to_string(), |ty| short(ty.to_string()));
                if *table_index == 0 {
                    ty
                } else {
                    format!("{table_index} {ty}")
                }
            }
            Operator::LocalGet { local_index }
            | Operator::LocalSet { local_index }
            | Operator::LocalTee { local_index } => local_index.to_string(),
            Operator::GlobalGet { global_index } | Operator::GlobalSet { global_index } => {
                let place = usize::try_from(*global_index).unwrap_or(usize::MAX);
                match self.globals.get(place) {
                    Some((module, name)) => format!(
                        "{global_index} ;; {}.{}",
                        short(printable(module)),
                        short(printable(name))
                    ),
                    None => global_index.to_string(),
                }
            }
            Operator::I32Const { value } => value.to_string(),
            Operator::I64Const { value } => value.to_string(),
            Operator::F32Const { value } => f32::from_bits(value.bits()).to_string(),
            Operator::F64Const { value } => f64::from_bits(value.bits()).to_string(),
            other => match memory_argument(other) {
                Some(argument) => memory_text(argument),
                None => fields(other),
            },
        }
    }

    fn block_text(&self, ty: BlockType) -> String {
        match ty {
            BlockType::Empty => String::new(),
            BlockType::Type(ty) => format!("(result {ty})"),
            BlockType::FuncType(index) => usize::try_from(index)
                .ok()
                .and_then(|place| self.module.0.types.get(place))
                .map_or_else(|| index.to_string(), |ty| short(ty.to_string())),
        }
    }
}

/// Most characters of a name or a type that stand beside an operator. A guest chooses them, and they are repeated with
/// every operator that leads there.
const MOST_SHOWN: usize = 200;

/// The beginning of a text that may be long.
fn short(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MOST_SHOWN) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// `visit_i32_load8_u` as `i32.load8_u`.
fn mnemonic(visitor: &str) -> String {
    let name = visitor.strip_prefix("visit_").unwrap_or(visitor);
    if name == "typed_select" {
        return "select".into();
    }
    match name.split_once('_') {
        Some((prefix, rest)) if PREFIXES.contains(&prefix) => format!("{prefix}.{rest}"),
        _ => name.to_owned(),
    }
}

macro_rules! memory_arguments {
    ($($op:ident)*) => {
        fn memory_argument(operator: &Operator<'_>) -> Option<MemArg> {
            match operator {
                $( Operator::$op { memarg } => Some(*memarg), )*
                _ => None,
            }
        }
    };
}
memory_arguments!(
    I32Load I64Load F32Load F64Load I32Load8S I32Load8U I32Load16S I32Load16U I64Load8S I64Load8U
    I64Load16S I64Load16U I64Load32S I64Load32U I32Store I64Store F32Store F64Store I32Store8
    I32Store16 I64Store8 I64Store16 I64Store32
);

fn memory_text(argument: MemArg) -> String {
    let mut text = format!("offset={}", argument.offset);
    if argument.align != argument.max_align {
        let _ = write!(
            text,
            " align={}",
            1u64.checked_shl(argument.align.into()).unwrap_or(0)
        );
    }
    text
}

/// The operands of a rare operator: what `Debug` prints between the braces.
fn fields(operator: &Operator<'_>) -> String {
    let text = format!("{operator:?}");
    let inside = text
        .split_once('{')
        .and_then(|(_, rest)| rest.rsplit_once('}'));
    inside.map_or_else(String::new, |(inside, _)| inside.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Engine;

    #[test]
    fn operators_read_as_in_the_text_format() {
        let bytes = wat::parse_str(
            r#"(module
                (import "env" "g" (func $g (param i32)))
                (import "GOT.mem" "datum" (global $datum (mut i32)))
                (memory 1) (table 1 funcref)
                (type $t (func (param i32) (result i64)))
                (func $f (param i32) (result i32) (local i64 i64 f32)
                    (block (result i32)
                        (call $g (i32.load8_u offset=4 (global.get $datum)))
                        (drop (call_indirect (type $t) (i32.const 1) (i32.const 0)))
                        (br_table 0 0 (i32.const -7) (local.get 0)))
                    (f32.store align=1 (i32.const 0) (f32.const 1.5))
                    (memory.grow (i32.wrap_i64 (i64.extend_i32_u (i32.const 0))))
                    drop
                    (drop (i32.trunc_sat_f32_s (f32.const 0)))
                    (return (select (i32.const 1) (i32.const 2) (local.get 0)))))"#,
        )
        .unwrap();
        let module = Module::new(&Engine::default(), &bytes).unwrap();
        let list = module.disassemble(1).unwrap();
        let lines: Vec<String> = list
            .iter()
            .map(|line| format!("{}{}", "  ".repeat(line.depth), line.text))
            .collect();
        let expected = "  (local 2 x i64)
  (local 1 x f32)
  block (result i32)
    global.get 0 ;; GOT.mem.datum
    i32.load8_u offset=4
    call 0 ;; g
    i32.const 1
    i32.const 0
    call_indirect (i32) -> (i64)
    drop
    i32.const -7
    local.get 0
    br_table 0 0
  end
  i32.const 0
  f32.const 1.5
  f32.store offset=0 align=1
  i32.const 0
  i64.extend_i32_u
  i32.wrap_i64
  memory.grow mem: 0
  drop
  f32.const 0
  i32.trunc_sat_f32_s
  drop
  i32.const 1
  i32.const 2
  local.get 0
  select
  return
end";
        assert_eq!(lines.join("\n"), expected);
        assert!(module.disassemble(0).is_err());
        assert!(module.disassemble(9).is_err());
    }
    #[test]
    fn long_names_of_guests_are_not_repeated_in_full_with_every_operator() {
        let long = "n".repeat(50_000);
        let numbers = "i32 ".repeat(900);
        let bytes = wat::parse_str(format!(
            r#"(module
                (import "{long}" "{long}" (global $imported i32))
                (type $wide (func (param {numbers})))
                (table 1 funcref)
                (func ${long} (export "{long}"))
                (func {} (drop (global.get $imported)) (unreachable)
                    (block (type $wide) unreachable)
                    (unreachable) (call_indirect (type $wide))))"#,
            format!("(call ${long})").repeat(2_000)
        ))
        .unwrap();
        let module = Module::new(&Engine::default(), &bytes).unwrap();
        let list = module.disassemble(1).unwrap();
        assert!(list.len() > 2_000);
        for line in &list {
            assert!(line.text.len() < 1_000, "{} characters", line.text.len());
        }
        let call = format!("call 0 ;; {}...", "n".repeat(200));
        assert_eq!(list.iter().filter(|line| line.text == call).count(), 2_000);
    }
}
