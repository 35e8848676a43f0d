//! The disassembly of translated code, for engine developers: one line an instruction, with the
//! operator's name, its operand words and the family's formula. It reads code that still carries operator numbers.

#![forbid(unsafe_code)]

use super::ops::{FAMILIES, Op};
use std::fmt;

/// Code with operator numbers, and where its instructions start.
pub(crate) struct Listing<'a> {
    pub code: &'a [u64],
    pub starts: &'a [u32],
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, start) in self.starts.iter().enumerate() {
            let start = *start as usize;
            let end = self
                .starts
                .get(i + 1)
                .map_or(self.code.len(), |next| *next as usize);
            let Some(words) = self.code.get(start..end) else {
                continue;
            };
            let Some((op, operands)) = words.split_first() else {
                continue;
            };
            let name = u16::try_from(*op).ok().and_then(|op| Op(op).name());
            write!(f, "{start:>6}  {:<24}", name.as_deref().unwrap_or("?"))?;
            fields(f, operands)?;
            let family = u16::try_from(*op)
                .ok()
                .and_then(|op| FAMILIES.get(Op(op).family()));
            writeln!(f, "  ; {}", family.map_or("", |family| family.formula))?;
        }
        Ok(())
    }
}

/// The first word as its four u16 fields, the others in hexadecimal.
fn fields(f: &mut fmt::Formatter<'_>, operands: &[u64]) -> fmt::Result {
    let Some((first, more)) = operands.split_first() else {
        return Ok(());
    };
    for n in 0..4 {
        write!(f, " {}", first >> (16 * n) & 0xffff)?;
    }
    for word in more {
        write!(f, " {word:#x}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::ops::Family;

    #[test]
    fn a_listing_names_the_operator_and_its_fields() {
        let code = [u64::from(Family::I32Add.form(1).0), 8 | 16 << 16 | 24 << 32];
        let text = Listing {
            code: &code,
            starts: &[0],
        }
        .to_string();
        assert!(text.contains("I32Add.ss_s"), "{text}");
        assert!(text.ends_with(" 8 16 24 0  ; a + b\n"), "{text}");
    }
}
