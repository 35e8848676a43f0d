//! Source texts of any length, made from small grammars with a fixed seed: the same text on every machine.
//!
//! A grammar is a list of lines `symbol = alternative | alternative …`. In an alternative, `<symbol>` stands for one of
//! that symbol's alternatives; `<name>`, `<number>` and `<word>` are made up; `<nl>` is a new line with the present
//! indentation, `<in>` and `<out>` change it, `<line>` is one without, `<or>` is a bar. The first alternative of a symbol ends the nesting: it
//! is taken where the text is deep enough.

use std::collections::HashMap;
use std::fmt::Write;

/// Nesting from which on only first alternatives are taken.
const DEPTH: usize = 8;

/// A text of at least this many bytes: as many `statement`s as that takes, between `begin` and `end`.
pub fn text(grammar: &str, bytes: usize) -> String {
    let mut generator = Generator {
        rules: rules(grammar),
        state: 0x9E37_79B9_7F4A_7C15,
        indentation: 0,
        text: String::new(),
    };
    generator.expand("begin", 0);
    // The separators of a list stand before all elements but the first.
    generator.expand("statement", 0);
    while generator.text.len() < bytes {
        generator.expand("separator", 0);
        generator.expand("statement", 0);
    }
    generator.expand("end", 0);
    generator.text
}

fn rules(grammar: &str) -> HashMap<&str, Vec<&str>> {
    let lines = grammar.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (symbol, alternatives) = line.split_once(" = ").expect("a rule has ` = `");
            (symbol.trim(), alternatives.split(" | ").collect())
        })
        .collect()
}

struct Generator<'a> {
    rules: HashMap<&'a str, Vec<&'a str>>,
    state: u64,
    indentation: usize,
    text: String,
}

impl<'a> Generator<'a> {
    fn expand(&mut self, symbol: &str, depth: usize) {
        let random = self.random();
        let Some(alternatives) = self.rules.get(symbol) else {
            panic!("there is no rule for `{symbol}`");
        };
        let place = if depth >= DEPTH {
            0
        } else {
            (random % alternatives.len() as u64) as usize
        };
        let mut rest: &'a str = alternatives[place];
        while let Some((before, behind)) = rest.split_once('<') {
            self.text.push_str(before);
            // A `<` that begins no symbol is one of the text.
            let end = behind.find('>').filter(|end| {
                *end > 0 && behind[..*end].bytes().all(|byte| byte.is_ascii_lowercase())
            });
            let Some(end) = end else {
                self.text.push('<');
                rest = behind;
                continue;
            };
            self.special(&behind[..end], depth + 1);
            rest = &behind[end + 1..];
        }
        self.text.push_str(rest);
    }

    fn special(&mut self, symbol: &str, depth: usize) {
        let random = self.random();
        match symbol {
            "name" => {
                let letter = char::from(b'a' + (random % 26) as u8);
                let _ = write!(self.text, "{letter}_{}", random % 97);
            }
            "number" => {
                let _ = write!(self.text, "{}", random % 10_000);
            }
            "word" => {
                let words = ["alpha", "beta", "größe", "ключ", "𝄞 and ∞", "x y z"];
                self.text.push_str(words[(random % 6) as usize]);
            }
            "nl" => {
                let indentation = " ".repeat(self.indentation);
                let _ = write!(self.text, "\n{indentation}");
            }
            "line" => self.text.push('\n'),
            "in" => self.indentation += 4,
            "out" => self.indentation -= 4,
            "or" => self.text.push('|'),
            symbol => self.expand(symbol, depth),
        }
    }

    /// The next number of a linear congruential generator (Knuth's constants), without its weak low bits.
    fn random(&mut self) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.state >> 33
    }
}

pub const JSON: &str = r#"
begin = [
separator = ,<nl>
end = ]
statement = {"<name>": <value>, "<name>": <value>, "id": <number>}
value = <number> | "<word>" | -<number>.5e-3 | true | null | [<value>, <value>] | {"<name>": <value>, "<word>": <value>} | [] | "\u00e9\n"
"#;

pub const JAVASCRIPT: &str = r#"
begin = 'use strict';<nl>
separator = <nl>
end = <nl>
statement = <name> = <e>; | let <name> = <e>, <name> = <e>; | if (<e>) <block> else <statement> | for (const <name> of <e>) <block> | while (<e>) <block> | function <name>(<name>, { <name> = <e> }, ...<name>) <block> | class <name> extends <name> {<in><nl>static #<name> = <e>;<nl>get <name>() <block><out><nl>} | try <block> catch (<name>) <block> | switch (<e>) { case <e>: <statement> default: break; } | return <e>; | // <word><nl>;
block = {} | {<in><nl><statement><nl><statement><out><nl>}
e = <name> | <number> | '<word>' | `<word> ${<e>} <word>` | <e> + <e> | (<e>) => <e> | <name>(<e>, <e>) | <name>?.<name>[<e>] | [<e>, ...<e>] | { <name>: <e>, [<e>]: <e>, <name> } | <e> ?? <e> ** 2 | !<e> && <e> | /<name>+\/[^a]/gi | async (<name>) => { await <e>; } | new <name>(<e>) | <e> ? <e> : <e> | typeof <e>
"#;

pub const C: &str = r#"
begin = #include <stdio.h><nl>typedef int number;<nl>
separator = <nl><nl>
end = <nl>
statement = static int <name>; | int <name>(int <name>, const char *<name>) <block> | struct <name> { int <name>; unsigned long <name>[<number>]; union { float <name>; } <name>; }; | #define <name>(<name>) ((<name>) + <number>)<nl>#if defined(<name>) && <number> > 2<nl>int <name>;<nl>#endif | enum <name> { A_<name> = <number>, B_<name> }; | /* <word> */ static const int <name>[] = { <e>, [<number>] = <e> }; | int (*<name>)(int, ...) = &<name>;
block = { return 0; } | {<in><nl><s><nl><s><out><nl>}
s = <name> = <e>; | number <name> = <e>; | if (<e>) <block> else <s> | for (int <name> = 0; <e>; ++<name>) <block> | while (<e>) <block> | do <block> while (<e>); | switch (<e>) { case <number>: <s> break; default: <s> } | return <e>; | <name>(<e>, <e>); | goto <name>;
e = <name> | <number> | '\n' | "<word>" | <e> + <e> | <e> << 2 & ~<e> | <name>[<e>] | <name>-><name>.<name> | (<e>) | sizeof(int[<e>]) | !<e> && <e> | <e> ? <e> : <e> | (unsigned char)<name> | *<name> | &<name> | <name>(<e>) | 0x<number>UL
"#;

pub const PYTHON: &str = r#"
begin = import os.path as path<nl>
separator = <nl>
end = <nl>
statement = <name> = <e> | def <name>(<name>, *<name>, <name>: int = <e>, **<name>) -> <name>:<block> | class <name>(<name>):<block> | if <e>:<block><nl>elif <e>:<block><nl>else:<block> | for <name>, <name> in <e>:<block> | while <e>:<block> | with <e> as <name>:<block> | try:<block><nl>except (<name>, <name>) as <name>:<block><nl>finally:<block> | <name> += <e> | assert <e>, "<word>" | @<name>(<e>)<nl>async def <name>():<block> | # <word> | match <e>:<in><nl>case [<number>, *<name>] if <e>:<block><nl>case _:<block><out> | return <e> | global <name>
block = <in><nl>pass<out> | <in><nl><statement><nl><statement><out>
e = <name> | <number> | "<word>" | f"<word> {<name>!r:>{<name>}} {<number>}" | <e> + <e> | <name>(<e>, *<name>, <name>=<e>) | [<e> for <name> in <e> if <e>] | {<e>: <e>, **<name>} | <e> if <e> else <e> | lambda <name>, *, <name>=<e>: <e> | not <e> and <e> | <name>[<e>:<e>] | (<name> := <e>) | (<e>, <e>) | <e> <= <e> != <e> | '''<word><nl><word>''' | -<e> ** 2 | <name>.<name> | 0x<number>
"#;

pub const RUST: &str = r##"
begin = //! <word><nl>use std::collections::{self, HashMap};<nl>
separator = <nl><nl>
end = <nl>
statement = static <name>: u32 = <e>; | #[inline]<nl>pub fn <name><'a, T: Copy>(<name>: &'a T, mut <name>: u8) -> Option<T> <block> | struct <name><T>(pub T, [u8; <number>]); | enum <name> { A(<name>), B { <name>: <type> }, C = <number> } | impl<T> <name> for <name><T> where T: Clone { fn <name>(&self) <block> } | /// <word><nl>const <name>: <type> = <e>; | mod <name> { use super::*; } | macro_rules! <name> { ($x:expr) => { $x + <number> }; }
block = {} | {<in><nl><s><nl><s><nl><e><out><nl>}
type = u32 | &'static str | Vec<<type>> | (<type>, <type>) | Box<dyn Fn(<type>) -> <type>> | [<type>; <number>]
s = let <name> = <e>; | let mut <name>: <type> = <e>; | if <name> == 1 <block> else <block> | for <name> in <e> <block> | while let Some(<name>) = <name>() <block> | loop <block> | match <name> { Some(<name>) if <e> => <e>, 1..=5 <or> 7 => <block> _ => <e>, } | return <e>; | <name>!(<e>, "<word> {}"); | // <word>
e = <name> | <number> | "<word>" | <e> + <e> | <name>(<e>, <e>) | <name>.<name>(<e>)? | &mut <name> | (<e>) | [<e>, <e>] | !<e> && <e> | move <or><name><or> <e> | <name> as u64 | <name>::<name>::<u8>(<e>) | r#"<word>"# | b'x' | -<e> | <name>[<e>] | unsafe { <e> } | <name>.await
"##;

pub const BASH: &str = r#"
begin = #!/bin/bash<nl>set -e<nl>
separator = <nl>
end = <nl>
statement = echo <a> <a> | <name>=<a> | if [[ <a> == <a> && -n <a> ]]; then<block><nl>elif [ <a> -gt <number> ]; then<block><nl>else<block><nl>fi | for <name> in <a> "${<name>[@]}" *.txt; do<block><nl>done | while read -r <name>; do<block><nl>done < <(sort <a>) | case <a> in<in><nl>*.txt <or> a?) <statement><nl>;;<nl>*) <statement><nl>;;<out><nl>esac | <name>() {<block><nl>} | <name> <a> <or> <name> -x <a> > /dev/null 2>&1 | cat <<< "<word> $<name>" | local <name>=$((<number> + <name> * 2)) | : # <word> | (cd <a> && <name>) || true | declare -A <name>=([<name>]=<a>) | until (( <name> < <number> )); do<block><nl>done
block = <in><nl>:<out> | <in><nl><statement><nl><statement><out>
a = <name> | <number> | "$<name>" | "${<name>:-<word>}" | '<word>' | $(<name> <a>) | "<word> $<name> $((<number> - 1))" | ${<name>//a/b} | $'\t<name>' | "${#<name>}" | --<name>=<a>
"#;
