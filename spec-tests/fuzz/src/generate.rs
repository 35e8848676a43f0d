//! Random modules of the instruction set that end: wasm-smith with a fuel global, NaNs made canonical.

use crate::Random;
use arbitrary::Unstructured;
use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{Function, Instruction};
use wasm_smith::{Config, Module};

/// Loop rounds and calls after which a generated module traps.
const STEPS: u32 = 3_000;

/// The module of a seed, if the generator makes one of it.
pub fn module(seed: u64) -> Option<Vec<u8>> {
    let mut random = Random(seed);
    let length = 256 + (random.next() % 4096) as usize;
    let mut data = vec![0; length];
    for chunk in data.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
    }
    let mut config = Config::default();
    config.export_everything = true;
    config.min_funcs = 2;
    config.max_funcs = 12;
    config.max_instructions = 60 + (random.next() % 200) as usize;
    config.max_imports = 0;
    config.min_memories = 1;
    config.max_memories = 1 + (random.next() % 2) as usize;
    config.max_tables = 2;
    config.max_globals = 8;
    config.max_memory32_bytes = 4 << 20;
    config.memory_max_size_required = true;
    config.max_table_elements = 1_000;
    config.table_max_size_required = true;
    config.canonicalize_nans = true;
    // Most random functions trap soon; half of the modules are kept from it.
    config.disallow_traps = random.next().is_multiple_of(2);
    config.gc_enabled = false;
    config.exceptions_enabled = false;
    config.compact_imports_enabled = false;
    config.memory64_enabled = false;
    config.simd_enabled = false;
    config.relaxed_simd_enabled = false;
    config.threads_enabled = false;
    config.wide_arithmetic_enabled = false;
    let mut unstructured = Unstructured::new(&data);
    let mut module = Module::new(config, &mut unstructured).ok()?;
    module.ensure_termination(STEPS).ok()?;
    without_i32_eqz(&module.to_bytes())
}

/// The same module with `i32.eqz` spelled as `i64.extend_i32_u` and `i64.eqz`: wasmi 2.0.0 takes the wrong arm
/// of a `select` whose condition is an `i32.eqz`.
fn without_i32_eqz(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut module = wasm_encoder::Module::new();
    let parser = wasmparser::Parser::new(0);
    Rewriter
        .parse_core_module(&mut module, parser, bytes)
        .ok()?;
    Some(module.finish())
}

struct Rewriter;

impl Reencode for Rewriter {
    type Error = std::convert::Infallible;

    fn parse_function_body(
        &mut self,
        code: &mut wasm_encoder::CodeSection,
        body: wasmparser::FunctionBody<'_>,
    ) -> Result<(), Error<Self::Error>> {
        let mut function: Function = self.new_function_with_parsed_locals(&body)?;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            match self.parse_instruction(&mut operators)? {
                Instruction::I32Eqz => {
                    function.instruction(&Instruction::I64ExtendI32U);
                    function.instruction(&Instruction::I64Eqz);
                }
                other => {
                    function.instruction(&other);
                }
            }
        }
        code.function(&function);
        Ok(())
    }
}
