//! The commands.

pub mod args;
pub mod demo;
pub mod exit;
mod serve;

use std::ffi::OsString;

use clap::Parser;

use args::{Args, Command};
use exit::Exit;

/// Runs the command that the arguments, the program's name first, ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            // To standard error for a mistake, to standard output for what --help and --version asked for.
            let exit = if error.use_stderr() { Exit::Configuration } else { Exit::Done };
            return error.print().map_or(Exit::Internal, |()| exit);
        }
    };
    match args.command {
        Command::Serve(args) => serve::serve(args),
        Command::Check(args) => serve::check(args),
        Command::Demo(args) => serve::demo(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Exit {
        super::run(["millpond"].iter().chain(arguments).map(OsString::from))
    }

    #[test]
    fn a_wrong_command_line_and_a_wrong_configuration_exit_alike() {
        for arguments in [
            &[][..],
            &["sevre"],
            &["serve", "--lisen", "127.0.0.1:1"],
            &["serve", "--listen"],
            &["demo", "--rate", "fast"],
            &["serve", "--config", "/does/not/exist"],
            &["serve", "--primary-url", "mysql://db", "--tables", "a"],
            &["check", "--primary-url", "postgres://db/app", "--tables", "a", "--writes", "perhaps"],
        ] {
            assert_eq!(run(arguments), Exit::Configuration, "{arguments:?}");
        }
    }

    #[test]
    fn help_and_version_are_no_mistakes() {
        for arguments in [&["--help"][..], &["--version"], &["serve", "--help"], &["help", "check"]] {
            assert_eq!(run(arguments), Exit::Done, "{arguments:?}");
        }
    }
}
