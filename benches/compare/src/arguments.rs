//! The command line.

use crate::Outcome;
use std::path::PathBuf;

pub const USAGE: &str = "\
Usage: compare [SUBCOMMAND] [FLAGS]

  speed (default)   times the workloads in every engine; prints medians, ratios and geometric means
  check             runs the workloads with small sizes in every engine and compares the results with native ones
  load FILE...      times loading modules (parse, validate, ready to be instantiated) and the growth of resident memory
  cold              times whole processes: `dynlink run` against wasmtime's Cranelift only compiling the same main module
  python            times Python benchmarks that are warm, in `dynlink run`, in a native python3 and in those of --also
  publish [FILE...] all of the above (load: python3.11.wasm and the files); writes README's figures and benches/measured.*

  --engines A,B     only these engines
  --workloads A,B   only these workloads (speed, check)
  --rounds N        rounds; the result is the median over them (default 5)
  --quick           2 rounds
  --format F        text (default), markdown or json
  --output FILE     write the result to a file instead of standard output
  --dynlink FILE    the command (cold; default target/release/dynlink)
  --program FILE    the program's manifest (cold; default fixtures/programs/python311.toml)
  --main FILE       the main library that Cranelift compiles (cold; e.g. python.wasm)
  --also NAME=CMD   one more command that runs Python (cold, python; may be repeated)
  --code TEXT       what Python runs (cold; default: numpy's sum)
";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Text,
    Markdown,
    Json,
}

#[derive(Debug)]
pub struct Arguments {
    pub subcommand: String,
    pub files: Vec<String>,
    pub engines: Option<Vec<String>>,
    pub workloads: Option<Vec<String>>,
    pub rounds: usize,
    pub format: Format,
    pub output: Option<PathBuf>,
    pub dynlink: Option<PathBuf>,
    pub program: Option<PathBuf>,
    pub main: Option<PathBuf>,
    pub code: String,
    pub also: Vec<String>,
}

impl Arguments {
    pub fn parse(words: impl IntoIterator<Item = String>) -> Outcome<Arguments> {
        let mut arguments = Arguments {
            subcommand: String::new(),
            files: Vec::new(),
            engines: None,
            workloads: None,
            rounds: 5,
            format: Format::Text,
            output: None,
            dynlink: None,
            program: None,
            main: None,
            also: Vec::new(),
            code: "import numpy; print(numpy.arange(10).sum())".to_owned(),
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
            match word.as_str() {
                "--engines" => arguments.engines = Some(list(value()?)),
                "--workloads" => arguments.workloads = Some(list(value()?)),
                "--rounds" => {
                    let text = value()?;
                    arguments.rounds = text.parse().map_err(|e| format!("--rounds {text}: {e}"))?;
                }
                "--quick" => arguments.rounds = 2,
                "--format" => {
                    arguments.format = match value()?.as_str() {
                        "text" => Format::Text,
                        "markdown" => Format::Markdown,
                        "json" => Format::Json,
                        other => {
                            return Err(format!(
                                "--format {other}: expected text, markdown or json"
                            ));
                        }
                    }
                }
                "--output" => arguments.output = Some(value()?.into()),
                "--dynlink" => arguments.dynlink = Some(value()?.into()),
                "--program" => arguments.program = Some(value()?.into()),
                "--main" => arguments.main = Some(value()?.into()),
                "--also" => arguments.also.push(value()?),
                "--code" => arguments.code = value()?,
                flag if flag.starts_with('-') => {
                    return Err(format!("unknown flag {flag}\n\n{USAGE}"));
                }
                _ if arguments.subcommand.is_empty() => arguments.subcommand = word,
                _ => arguments.files.push(word),
            }
        }
        if arguments.rounds == 0 {
            return Err("--rounds 0: at least one is needed".to_owned());
        }
        if arguments.subcommand.is_empty() {
            arguments.subcommand = "speed".to_owned();
        }
        Ok(arguments)
    }
}
