//! Dispatch and instruction selection: loops over integers, floats, bytes and words, hashing, a `br_table` interpreter, a mix.

mod support;

fn main() {
    let mut criterion = support::settings();
    for name in [
        "intloop",
        "nbody",
        "mandelbrot",
        "fft",
        "utf8",
        "crc32",
        "lz",
        "strings",
        "sieve",
        "matrix_int",
        "matrix_f64",
        "sha256",
        "blake2b",
        "siphash",
        "bytecode",
        "queens",
        "trees",
        "coremix",
    ] {
        support::workload(name).bench(&mut criterion, "dispatch");
    }
    criterion.final_summary();
}
