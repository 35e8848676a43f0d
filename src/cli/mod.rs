//! The command: verbs, flags, manifests.

/// Runs the command with the process's arguments.
pub fn main() -> std::process::ExitCode {
    todo!()
}
