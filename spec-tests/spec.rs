//! The specification tests, the operator forms and the torture test, each in every configuration.
//!
//! One trial is one script (or one group of forms) in one configuration. When nothing was filtered, the
//! run ends with a summary per configuration, and fails if fewer assertions were made than recorded, if
//! the skip list names something that does not exist, or if an instruction of the engine was never
//! executed.
//!
//! `cargo test --release --test spec [-- FILTER]`; a trial is named `configuration::suite/file.wast`.

mod forms;
mod linked;
mod runner;
mod suites;

use dynlink::{Config, Dispatch, Engine};
use libtest_mimic::{Arguments, FormatSetting, Trial};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use suites::{Script, Skips};

/// Assertions that the engine decides, in each configuration. Fewer mean that some were lost.
const ENGINE_ASSERTIONS: usize = 63_625;

/// Accesses out of bounds that a configuration with guard pages tells of in the same words as one without.
const GUARDED_PLACES: usize = 41_541;

/// Random programs are grouped by seed; this many groups run in each configuration.
const RANDOM_GROUPS: u64 = 12;

/// Rounds of each function in the torture test. A handler that left only 16 bytes on the native stack in
/// each round would need more than the whole stack.
const TORTURE_ROUNDS: u32 = 20_000;

/// Native stack of the torture test.
const TORTURE_STACK: usize = 256 * 1024;

/// Which groups of forms a configuration runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forms {
    None,
    Random,
    All,
}

/// A way to run the engine.
#[derive(Clone)]
struct Configuration {
    name: &'static str,
    config: Config,
    /// Whether the scripts are run.
    scripts: bool,
    forms: Forms,
}

/// The four configurations of the specification tests, the metered variants of the translation, and those with guard pages
/// where there are any.
fn configurations() -> Vec<Configuration> {
    let make =
        |name, dispatch, eager_translation, (fuel, interruption), scripts, forms| Configuration {
            name,
            config: Config {
                dispatch,
                eager_translation,
                fuel,
                interruption,
                op_coverage: dispatch == Dispatch::Loop,
                ..Config::default()
            },
            scripts,
            forms,
        };
    use Dispatch::{Loop, TailCall};
    let (off, both) = ((false, false), (true, true));
    let mut configurations = vec![
        make("tail-eager", TailCall, true, off, true, Forms::None),
        make("tail-lazy", TailCall, false, off, true, Forms::All),
        make("loop-eager", Loop, true, off, true, Forms::All),
        make("loop-lazy", Loop, false, off, true, Forms::None),
        make("tail-metered", TailCall, false, both, true, Forms::None),
        make("loop-metered", Loop, true, both, true, Forms::All),
        make("loop-fuel", Loop, true, (true, false), false, Forms::Random),
        make(
            "loop-deadline",
            Loop,
            true,
            (false, true),
            false,
            Forms::Random,
        ),
        make(
            "tail-fuel",
            TailCall,
            false,
            (true, false),
            false,
            Forms::All,
        ),
    ];
    if Config::guard_pages_available().is_ok() {
        for (name, dispatch) in [("tail-guarded", TailCall), ("loop-guarded", Loop)] {
            let mut guarded = make(name, dispatch, false, off, true, Forms::All);
            guarded.config.guard_pages = true;
            // What counts operators checks bounds.
            guarded.config.op_coverage = false;
            configurations.push(guarded);
        }
    }
    configurations
}

/// What all trials of one configuration did.
#[derive(Clone, Copy, Default)]
struct Totals {
    scripts: usize,
    assertions: usize,
    text_assertions: usize,
    skipped: usize,
    comparisons: usize,
    places: usize,
}

type Summary = Arc<Mutex<BTreeMap<&'static str, Totals>>>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
    if whole && arguments.format.is_none() {
        arguments.format = Some(FormatSetting::Terse);
    }
    let skips = match Skips::read(include_str!("skips.txt")) {
        Ok(skips) => Arc::new(skips),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let scripts: Vec<Arc<Script>> = suites::scripts().into_iter().map(Arc::new).collect();
    for name in skips.scripts() {
        if !scripts.iter().any(|script| script.name == name) {
            eprintln!("skip list: there is no script `{name}`");
            return ExitCode::FAILURE;
        }
    }
    let groups = form_groups();
    let summary = Summary::default();
    let mut trials = Vec::new();
    for configuration in configurations() {
        let engine = Engine::new(configuration.config.clone());
        for script in scripts.iter().filter(|_| configuration.scripts) {
            trials.push(script_trial(
                &configuration,
                &engine,
                script,
                &skips,
                &summary,
            ));
        }
        for group in &groups {
            let wanted = match configuration.forms {
                Forms::None => false,
                Forms::Random => group.name.starts_with("random"),
                Forms::All => true,
            };
            if wanted {
                trials.push(form_trial(&configuration, &engine, group, &summary));
            }
        }
    }
    for group in &groups {
        trials.push(torture_trial(group, false));
        if Config::guard_pages_available().is_ok() {
            trials.push(torture_trial(group, true));
        }
    }
    trials.extend(linked::trials());
    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut failed = conclusion.has_failed();
    if whole {
        failed |= !check_summary(&summary, scripts.len());
        if !conclusion.has_failed() {
            failed |= !check_coverage();
        }
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn script_trial(
    configuration: &Configuration,
    engine: &Engine,
    script: &Arc<Script>,
    skips: &Arc<Skips>,
    summary: &Summary,
) -> Trial {
    let name = configuration.name;
    let (engine, script, skips, summary) = (
        engine.clone(),
        script.clone(),
        skips.clone(),
        summary.clone(),
    );
    Trial::test(format!("{name}::{}", script.name), move || {
        let lines = skips.lines(&script.name);
        let outcome = runner::run_script(&engine, script.text, &lines);
        {
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            let totals = summary.entry(name).or_default();
            totals.scripts += 1;
            totals.assertions += outcome.assertions;
            totals.text_assertions += outcome.text_assertions;
            totals.skipped += outcome.skipped.len();
        }
        let mut failures: Vec<String> = outcome
            .failures
            .iter()
            .map(|(line, why)| format!("{}:{line}: {why}", script.name))
            .collect();
        // A skipped line that failed is in `skipped`, one that passed is a failure already.
        for line in lines.difference(&outcome.skipped) {
            if !outcome.failures.iter().any(|(failed, _)| failed == line) {
                failures.push(format!(
                    "{}:{line}: the skip list names a line without a directive",
                    script.name
                ));
            }
        }
        verdict(failures)
    })
}

/// A group of forms with its module, which is made when it is first needed.
struct FormGroup {
    name: String,
    build: Box<dyn Fn() -> forms::harness::Group + Send + Sync>,
    built: OnceLock<Result<(forms::harness::Group, Vec<u8>), String>>,
}

impl FormGroup {
    fn get(&self) -> Result<&(forms::harness::Group, Vec<u8>), String> {
        let built = self.built.get_or_init(|| {
            let group = (self.build)();
            let bytes = group.encode()?;
            Ok((group, bytes))
        });
        built.as_ref().map_err(Clone::clone)
    }
}

fn form_groups() -> Vec<Arc<FormGroup>> {
    let mut groups = Vec::new();
    for name in forms::families::names() {
        let own = name.clone();
        groups.push(Arc::new(FormGroup {
            name,
            build: Box::new(move || forms::families::build(&own)),
            built: OnceLock::new(),
        }));
    }
    for seed in 0..RANDOM_GROUPS {
        groups.push(Arc::new(FormGroup {
            name: format!("random-{seed}"),
            build: Box::new(move || forms::random::build(seed)),
            built: OnceLock::new(),
        }));
    }
    groups
}

fn form_trial(
    configuration: &Configuration,
    engine: &Engine,
    group: &Arc<FormGroup>,
    summary: &Summary,
) -> Trial {
    let name = configuration.name;
    let (engine, group, summary) = (engine.clone(), group.clone(), summary.clone());
    Trial::test(format!("{name}::forms/{}", group.name), move || {
        // The evaluator walks trees by recursion.
        let report = on_stack(64 << 20, move || {
            let (group, bytes) = group.get()?;
            let mut config = engine.config().clone();
            config.guard_pages = false;
            let checked = engine.config().guard_pages.then(|| Engine::new(config));
            Ok(forms::harness::compare(
                &engine,
                checked.as_ref(),
                group,
                bytes,
            ))
        })?;
        if report.compared == 0 {
            return Err("nothing was compared".into());
        }
        {
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            let totals = summary.entry(name).or_default();
            totals.comparisons += report.compared;
            totals.places += report.places;
        }
        verdict(report.differences)
    })
}

fn torture_trial(group: &Arc<FormGroup>, guard_pages: bool) -> Trial {
    let group = group.clone();
    let name = if guard_pages {
        "torture-guarded"
    } else {
        "torture"
    };
    Trial::test(format!("{name}::forms/{}", group.name), move || {
        // Trees are built and printed by recursion: not on the small stack.
        let building = group.clone();
        on_stack(64 << 20, move || building.get().map(drop))?;
        let engine = Engine::new(Config {
            dispatch: Dispatch::TailCall,
            guard_pages,
            ..Config::default()
        });
        on_stack(TORTURE_STACK, move || {
            let (group, bytes) = group.get()?;
            forms::harness::torture(&engine, group, bytes, TORTURE_ROUNDS).map(drop)
        })
        .map_err(Into::into)
    })
}

/// Runs something on a thread with this much native stack.
fn on_stack<T: Send + 'static>(
    bytes: usize,
    run: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let thread = std::thread::Builder::new()
        .stack_size(bytes)
        .spawn(run)
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    thread
        .join()
        .unwrap_or_else(|panic| Err(format!("panicked: {}", runner::panic_text(&*panic))))
}

fn verdict(failures: Vec<String>) -> Result<(), libtest_mimic::Failed> {
    const SHOWN: usize = 25;
    if failures.is_empty() {
        return Ok(());
    }
    let mut text = format!("{} failures\n", failures.len());
    for failure in failures.iter().take(SHOWN) {
        text += &format!("  {failure}\n");
    }
    if failures.len() > SHOWN {
        text += &format!("  ... {} more\n", failures.len() - SHOWN);
    }
    Err(text.into())
}

/// Prints what every configuration did and checks it against the recorded figures.
fn check_summary(summary: &Summary, scripts: usize) -> bool {
    let summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
    let mut fine = true;
    println!("configuration   scripts  assertions  text-only  skipped  forms compared");
    for configuration in configurations() {
        let totals = summary.get(configuration.name).copied().unwrap_or_default();
        println!(
            "{:<14} {:>8} {:>11} {:>10} {:>8} {:>15}",
            configuration.name,
            totals.scripts,
            totals.assertions,
            totals.text_assertions,
            totals.skipped,
            totals.comparisons
        );
        if configuration.config.guard_pages {
            println!("  {} places of traps", totals.places);
            if totals.places < GUARDED_PLACES {
                println!("  FAILED: expected {GUARDED_PLACES}");
                fine = false;
            }
        }
        if !configuration.scripts {
            continue;
        }
        if totals.assertions < ENGINE_ASSERTIONS || totals.scripts != scripts {
            println!(
                "  FAILED: {} assertions in {} scripts, expected {ENGINE_ASSERTIONS} in {scripts}",
                totals.assertions, totals.scripts
            );
            fine = false;
        }
    }
    fine
}

/// Every instruction of the engine must have been executed by the configurations with loop dispatch.
fn check_coverage() -> bool {
    let operators = dynlink::op_coverage();
    let missing: Vec<&str> = operators
        .iter()
        .filter(|(_, executions)| *executions == 0)
        .map(|(name, _)| name.as_str())
        .collect();
    println!(
        "instructions executed: {} of {}",
        operators.len() - missing.len(),
        operators.len()
    );
    if !missing.is_empty() {
        println!("  FAILED: never executed: {}", missing.join(" "));
    }
    missing.is_empty() && !operators.is_empty()
}
