//! `millpond serve` and `millpond check`: configuration, logs, runtime, daemon, exit code.

use std::{fmt::Display, future::Future, io::Write};

use crate::{
    cli::{args::ConfigArgs, exit::Exit},
    config::Config,
    daemon::{self, ServeError},
    telemetry::logging,
};

/// The daemon's parts have threads and runtimes of their own; this one joins them.
const WORKER_THREADS: usize = 2;

pub(super) fn serve(args: ConfigArgs) -> Exit {
    match with_config(args, daemon::serve) {
        Ok(()) => Exit::Done,
        Err(exit) => exit,
    }
}

/// Prints one line and one remedy for each thing that is missing.
pub(super) fn check(args: ConfigArgs) -> Exit {
    let findings = match with_config(args, daemon::check) {
        Ok(findings) => findings,
        Err(exit) => return exit,
    };
    let mut out = std::io::stdout().lock();
    let printed = match findings.as_slice() {
        [] => writeln!(out, "ok: nothing is missing"),
        _ => findings.iter().try_for_each(|finding| {
            writeln!(out, "missing: {}\n     do: {}", finding.missing, finding.remedy)
        }),
    };
    match (printed, findings.is_empty()) {
        (Err(error), _) => failed(error, Exit::Internal),
        (Ok(()), true) => Exit::Done,
        (Ok(()), false) => Exit::CheckFailed,
    }
}

fn with_config<T, F>(args: ConfigArgs, run: impl FnOnce(Config) -> F) -> Result<T, Exit>
where
    F: Future<Output = Result<T, ServeError>>,
{
    let config = Config::load(&args.into_sources()).map_err(|errors| failed(errors, Exit::Configuration))?;
    logging::init(&config.log).map_err(|error| failed(error, Exit::Internal))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(|error| failed(error, Exit::Internal))?;
    runtime.block_on(run(config)).map_err(|error| {
        let exit = exit_of(&error);
        failed(error, exit)
    })
}

fn exit_of(error: &ServeError) -> Exit {
    match error {
        // A port that is taken is mended in the configuration.
        ServeError::Admin(_) => Exit::Configuration,
        ServeError::Signals(_) | ServeError::Shutdown(_) => Exit::Internal,
    }
}

fn failed(error: impl Display, exit: Exit) -> Exit {
    eprintln!("millpond: {error}");
    exit
}
