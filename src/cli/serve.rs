//! The commands that need a runtime: configuration, logs, runtime, daemon, exit code.

use std::{error::Error, future::Future, io, io::Write};

use tokio::runtime::Runtime;

use crate::{
    cli::{
        args::{ConfigArgs, DemoArgs},
        demo::{self, Service},
        exit::Exit,
    },
    config::Config,
    daemon::{self, ServeError},
    lifecycle::shutdown::Shutdown,
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
        (Err(error), _) => failed(&error, Exit::Internal),
        (Ok(()), true) => Exit::Done,
        (Ok(()), false) => Exit::CheckFailed,
    }
}

pub(super) fn demo(args: DemoArgs) -> Exit {
    let run = || {
        runtime()?
            .block_on(demo::run(args.into(), serve_demo))
            .map_err(|error| failed(&error, Exit::Internal))
    };
    run().map_or_else(|exit| exit, |()| Exit::Done)
}

async fn serve_demo(service: Service) -> Result<(), Box<dyn Error + Send + Sync>> {
    let config = Config::from_toml(&service.config_toml)?;
    logging::init(&config.log)?;
    let shutdown = Shutdown::new();
    let mut asked = service.shutdown;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        // An error means that the demo is gone, and with it the primary.
        let _ = asked.wait_for(|asked| *asked).await;
        stop.request("the demo ends");
    });
    Ok(daemon::run(config, shutdown, Some(service.ready)).await?)
}

fn with_config<T, F>(args: ConfigArgs, run: impl FnOnce(Config) -> F) -> Result<T, Exit>
where
    F: Future<Output = Result<T, ServeError>>,
{
    let config = Config::load(&args.into_sources()).map_err(|errors| failed(&errors, Exit::Configuration))?;
    logging::init(&config.log).map_err(|error| failed(&error, Exit::Internal))?;
    runtime()?.block_on(run(config)).map_err(|error| failed(&error, exit_of(&error)))
}

fn runtime() -> Result<Runtime, Exit> {
    let runtime: io::Result<Runtime> =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build();
    runtime.map_err(|error| failed(&error, Exit::Internal))
}

fn exit_of(error: &ServeError) -> Exit {
    match error {
        // A port that is taken is mended in the configuration, and so is a URL.
        ServeError::Admin(_) | ServeError::Listen(_) | ServeError::Target(_) => Exit::Configuration,
        ServeError::Mirror(error) if error.is_unreachable() => Exit::PrimaryUnreachable,
        ServeError::Mirror(error) if error.is_internal() => Exit::Internal,
        // The primary refuses what the configuration asks for.
        ServeError::Mirror(_) => Exit::Configuration,
        ServeError::Signals(_)
        | ServeError::Shutdown(_)
        | ServeError::Thread(_)
        | ServeError::Panicked(_) => Exit::Internal,
    }
}

/// Says what failed, with all causes that it does not name itself.
fn failed(error: &dyn Error, exit: Exit) -> Exit {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let named = error.to_string();
        if !text.contains(&named) {
            text = format!("{text}: {named}");
        }
        cause = error.source();
    }
    eprintln!("millpond: {text}");
    exit
}
