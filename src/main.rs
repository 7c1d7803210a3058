//! `millpond`: see [`millpond::cli`] for the commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    millpond::cli::run(std::env::args_os()).into()
}
