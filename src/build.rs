//! Build script: tells the crate whether the optimiser turns tail-position calls into jumps.
//!
//! Without optimisation a tail-position call stays a call, and the native stack would grow with every
//! guest instruction; then only loop dispatch is compiled in. At opt-level 1, and with debug
//! assertions (the crate checks that itself), some handlers keep a frame: measured on Rust 1.95.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(dynlink_tail_calls)");
    let opt = std::env::var("OPT_LEVEL").unwrap_or_default();
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    if matches!(opt.as_str(), "2" | "3" | "s") && matches!(arch.as_str(), "x86_64" | "aarch64") {
        println!("cargo::rustc-cfg=dynlink_tail_calls");
    }
    println!("cargo::rerun-if-changed=src/build.rs");
}
