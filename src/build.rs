//! Build script: tells the crate whether the optimiser turns tail-position calls into jumps.
//!
//! Without optimisation (opt-level 0) a tail-position call stays a call and the native stack
//! would grow with every guest instruction; then only loop dispatch is compiled in.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(dynlink_tail_calls)");
    let opt = std::env::var("OPT_LEVEL").unwrap_or_default();
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    if opt != "0" && matches!(arch.as_str(), "x86_64" | "aarch64") {
        println!("cargo::rustc-cfg=dynlink_tail_calls");
    }
    println!("cargo::rerun-if-changed=src/build.rs");
}
