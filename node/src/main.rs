//! The program `longshore`.

use std::process::ExitCode;

fn main() -> ExitCode {
    longshore::cli::main()
}
