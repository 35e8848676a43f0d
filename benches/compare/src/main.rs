//! Compares dynlink with other WebAssembly engines on one machine, in one run: speed of the workloads, load times, cold start.
//!
//! Every figure is a median of CPU times over interleaved rounds, so that a slow moment of the machine hits all engines; results are
//! compared with those of a native build, so that no engine gains by being wrong.

mod arguments;
mod clock;
mod cold;
mod engines;
mod link;
mod load;
mod plot;
mod publish;
mod python;
mod report;
mod speed;
mod workloads;

use arguments::Arguments;
use engines::Engine;

/// What went wrong, in words.
pub type Outcome<T> = Result<T, String>;

fn main() {
    // Engines that recurse on the native stack, wasm3 among them, need a large one.
    let work = || run(std::env::args().skip(1));
    let thread = std::thread::Builder::new()
        .stack_size(512 << 20)
        .spawn(work);
    let status = match thread
        .map_err(|e| e.to_string())
        .and_then(|thread| thread.join().map_err(|_| "panicked".to_owned()))
    {
        Ok(Ok(true)) => 0,
        Ok(Ok(false)) => 1,
        Ok(Err(message)) | Err(message) => {
            eprintln!("compare: {message}");
            2
        }
    };
    std::process::exit(status);
}

/// Runs a subcommand; `false` if an engine gave a wrong result.
fn run(words: impl IntoIterator<Item = String>) -> Outcome<bool> {
    let words: Vec<String> = words.into_iter().collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{}", arguments::USAGE);
        return Ok(true);
    }
    if words.first().is_some_and(|word| word == load::CHILD) {
        return load::child(&words[1..]).map(|()| true);
    }
    if words.first().is_some_and(|word| word == speed::CHILD) {
        return speed::child(&words[1..]).map(|()| true);
    }
    let arguments = Arguments::parse(words)?;
    let engines = select(arguments.engines.as_deref())?;
    match arguments.subcommand.as_str() {
        "speed" => speed::speed(&arguments, &engines),
        "check" => speed::check(&arguments, &engines),
        "load" => load::load(&arguments, &engines).map(|()| true),
        "cold" => cold::cold(&arguments).map(|()| true),
        "python" => python::python(&arguments).map(|()| true),
        "publish" => publish::publish(&arguments, &engines),
        other => Err(format!(
            "unknown subcommand {other}\n\n{}",
            arguments::USAGE
        )),
    }
}

/// The engines of this build, or those of `--engines` in that order.
fn select(wanted: Option<&[String]>) -> Outcome<Vec<Box<dyn Engine>>> {
    let mut engines = engines::all();
    let Some(wanted) = wanted else {
        return Ok(engines);
    };
    let mut selected = Vec::new();
    for name in wanted {
        let Some(place) = engines.iter().position(|engine| engine.name() == name) else {
            let names: Vec<_> = engines::all().iter().map(|engine| engine.name()).collect();
            return Err(format!(
                "no engine is called {name}; this build has {}",
                names.join(", ")
            ));
        };
        selected.push(engines.remove(place));
    }
    Ok(selected)
}

/// Writes a result where `--output` says.
pub fn emit(arguments: &Arguments, text: &str) -> Outcome<()> {
    match &arguments.output {
        Some(path) => std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display())),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}

/// Calls `work`; a panic of an engine becomes an error.
pub fn guarded<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let old = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    std::panic::set_hook(old);
    result.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| {
            payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
        });
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}
