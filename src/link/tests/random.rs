//! Random graphs of libraries, opened and closed at random, against an independent model of symbol resolution. The
//! programs and the model are those of the fuzz target (`spec-tests/fuzz`, `--graphs`).
//!
//! `DYNLINK_RANDOM_PROGRAMS=200000` runs more of them.

#[path = "../../../spec-tests/fuzz/src/graphs/mod.rs"]
mod graphs;

#[test]
fn random_programs_resolve_every_symbol_as_an_independent_model_does() {
    let programs = std::env::var("DYNLINK_RANDOM_PROGRAMS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(1000);
    let mut counts = graphs::Counts::default();
    for seed in 1..=programs {
        let run = std::panic::AssertUnwindSafe(|| graphs::run(seed, &mut counts));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("the program with seed {seed} failed");
            std::panic::resume_unwind(panic);
        }
    }
    eprintln!("{counts:?}");
    // Every kind of thing happened often.
    assert_eq!(counts.programs, programs);
    for (what, count, least) in [
        ("not started", counts.not_started, programs / 20),
        ("opened", counts.opened, programs),
        ("refused", counts.refused, programs),
        ("closed", counts.closed, programs / 2),
        ("found at a call", counts.late, programs / 60),
        ("compared", counts.compared, 20 * programs),
    ] {
        assert!(count > least, "{what}: {counts:?}");
    }
}
