//! Exit codes, in the numbers of BSD's `sysexits.h` where it has one.

use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// `millpond check`: something is missing.
    CheckFailed,
    /// Wrong arguments or a wrong configuration.
    Configuration,
    /// The primary could not be reached within `primary.start_timeout`.
    PrimaryUnreachable,
    /// Anything else.
    Internal,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::CheckFailed => 1,
            Exit::Configuration => 64,
            Exit::PrimaryUnreachable => 69,
            Exit::Internal => 70,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
