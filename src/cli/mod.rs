//! The command `dynlink`, and [`Program`](program::Program), the top of the Rust API.
//!
//! | file | what it holds |
//! |---|---|
//! | `options` | the command line as data, and the help text |
//! | `units` | sizes and durations as people write them |
//! | `manifest` | the grammar of program manifests |
//! | `packages` | fetching, checking and caching registry packages |
//! | `unpack` | package archives to folders |

#![forbid(unsafe_code)]

pub mod manifest;
pub mod options;
pub mod packages;
mod units;
mod unpack;

/// Runs the command with the process's arguments.
pub fn main() -> std::process::ExitCode {
    todo!()
}
