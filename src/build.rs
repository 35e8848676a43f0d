//! Build script: tells the crate whether the optimiser turns tail-position calls into jumps, and whether
//! accesses to memory may rely on guard pages.
//!
//! Without optimisation a tail-position call stays a call, and the native stack would grow with every
//! guest instruction; then only loop dispatch is compiled in. At opt-level 1, and with debug
//! assertions (the crate checks that itself), some handlers keep a frame: measured on Rust 1.95.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(dynlink_tail_calls, dynlink_guard_pages)");
    let opt = std::env::var("OPT_LEVEL").unwrap_or_default();
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    if matches!(opt.as_str(), "2" | "3" | "s") && matches!(arch.as_str(), "x86_64" | "aarch64") {
        println!("cargo::rustc-cfg=dynlink_tail_calls");
    }
    if guard_pages(&arch) {
        println!("cargo::rustc-cfg=dynlink_guard_pages");
    }
    println!("cargo::rerun-if-changed=src/build.rs");
}

/// Whether feature `guard-pages` is on and this is the platform that it is written for (see `src/exec/guard.rs`). Miri has
/// neither the instructions nor the signal.
fn guard_pages(arch: &str) -> bool {
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    std::env::var_os("CARGO_FEATURE_GUARD_PAGES").is_some()
        && std::env::var_os("CARGO_CFG_MIRI").is_none()
        && arch == "x86_64"
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_POINTER_WIDTH", "64")
}
