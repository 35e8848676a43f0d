//! The translated code of a function of a module that is not linked, for people who work on the translator.

#![forbid(unsafe_code)]

use super::{Callee, Environment, GlobalCell, TableRef, translate};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::ir::display::Listing;
use crate::module::{ConstExpr, GlobalType, Module, ValType};
use crate::watch::Watch;

/// Stands for the addresses that linking would give: recognisable, never used.
struct Unlinked<'a>(&'a Module);

/// Distance of the made-up addresses of two globals, functions, and so on.
const STEP: u64 = 16;

impl Environment for Unlinked<'_> {
    fn callee(&self, index: u32) -> Callee {
        let imported = self.0.0.imported_funcs;
        Callee {
            code: 0xf000_0000 + u64::from(index) * STEP,
            is_host: usize::try_from(index).is_ok_and(|index| index < imported),
        }
    }

    fn function_reference(&self, index: u32) -> u64 {
        0xf000_0000 + u64::from(index) * STEP
    }

    fn global(&self, index: u32) -> GlobalCell {
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        let global = self.0.0.globals.get(place);
        let value = match global.and_then(|global| global.init.as_ref()) {
            Some(ConstExpr::Value(value)) => *value,
            _ => 0,
        };
        GlobalCell {
            address: 0xa000_0000 + u64::from(index) * STEP,
            value,
            ty: global.map_or(
                GlobalType {
                    value: ValType::I32,
                    mutable: true,
                },
                |global| global.ty,
            ),
            cell: None,
        }
    }

    fn table(&self, index: u32) -> TableRef {
        TableRef {
            address: 0xb000_0000 + u64::from(index) * STEP,
            direct: index == 0,
        }
    }

    fn memory(&self, index: u32) -> u64 {
        0xc000_0000 + u64::from(index) * STEP
    }

    fn instance(&self) -> u64 {
        0xd000_0000
    }
}

impl Module {
    /// The translated code of a function, one line an instruction: place, name, operands, formula. The module is not
    /// linked: the memory base and the like are 0, functions are called at `0xf0000000` + 16 times their index, globals
    /// lie at `0xa0000000` + 16 times theirs.
    ///
    /// # Errors
    /// There is no such function, or it is imported.
    pub fn ir(&self, index: u32) -> Result<String> {
        let defined = usize::try_from(index)
            .ok()
            .and_then(|index| index.checked_sub(self.0.imported_funcs))
            .filter(|defined| *defined < self.0.bodies.len())
            .ok_or_else(|| Error::usage(format!("function {index} has no body")))?;
        let config: &Config = self.engine().config();
        if config.lazy_validation {
            self.validate_function(defined)?;
        }
        let translation = translate(self, defined, config, &Unlinked(self), &Watch::default())?;
        let listing = Listing {
            code: &translation.code,
            starts: &translation.starts,
        };
        Ok(format!("frame {} bytes\n{listing}", translation.frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Engine;

    #[test]
    fn a_listing_needs_no_instance() {
        let bytes = wat::parse_str(
            r#"(module
                (import "env" "__memory_base" (global $base i32))
                (import "env" "f" (func $f (param i32) (result i32)))
                (import "env" "memory" (memory 1))
                (table 1 funcref)
                (func (export "g") (param i32) (result i32)
                    (i32.add
                        (call $f (i32.load (global.get $base)))
                        (call_indirect (param i32) (result i32) (local.get 0) (i32.const 0)))))"#,
        )
        .unwrap();
        let module = Module::new(&Engine::default(), &bytes).unwrap();
        let text = module.ir(1).unwrap();
        assert!(text.starts_with("frame "), "{text}");
        assert!(text.contains("Call"), "{text}");
        assert!(module.ir(0).is_err() && module.ir(2).is_err());
    }
}
