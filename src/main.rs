//! The `dynlink` command. Everything is in `dynlink::cli`.

fn main() -> std::process::ExitCode {
    dynlink::cli::main()
}
