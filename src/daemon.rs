//! Assembly: makes every component in order, starts them, waits for a signal, stops them in order.

use std::{io, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    admin::{self, AdminError},
    config::Config,
    lifecycle::{
        readiness::Readiness,
        shutdown::{GRACE_PERIOD, Shutdown, ShutdownTimeout},
    },
    telemetry::{metrics::Metrics, status::Status},
};

/// Why the daemon could not start, or did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("signals cannot be caught")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Shutdown(#[from] ShutdownTimeout),
}

/// One thing that is missing, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub missing: String,
    pub remedy: String,
}

/// Runs until a signal asks to stop; a second one exits at once.
///
/// # Errors
/// As [`run`].
pub async fn serve(config: Config) -> Result<(), ServeError> {
    let shutdown = Shutdown::new();
    let signals = shutdown.on_signals(|code| std::process::exit(code)).map_err(ServeError::Signals)?;
    tokio::spawn(signals);
    run(config, shutdown, None).await
}

/// Runs until shutdown is requested. `ready` is told when `/readyz` would say so for the first time.
///
/// # Errors
/// When something can't be started, or doesn't stop within the grace period.
pub async fn run(
    config: Config,
    shutdown: Shutdown,
    ready: Option<oneshot::Sender<()>>,
) -> Result<(), ServeError> {
    let status = Arc::new(Status::default());
    let metrics = Arc::new(Metrics::new(Arc::clone(&status)));
    let readiness = Readiness::default();
    let draining = readiness.latch("daemon", "starting");
    let admin_stop = Shutdown::new();
    // Ports first: one that is taken is known before anything is done to the primary.
    let listener = config.admin.listen.map(admin::bind).transpose()?;
    let admin = listener
        .map(|listener| {
            let (status, metrics) = (Arc::clone(&status), Arc::clone(&metrics));
            admin::spawn(listener, status, metrics, readiness.clone(), admin_stop.token())
        })
        .transpose()?;

    draining.release();
    let stopped = shutdown.token();
    tokio::select! {
        () = tell_when_ready(&status, &readiness, ready) => {}
        () = stopped.requested() => {}
    }
    draining.hold("shutting down");
    let completed = shutdown.completed(GRACE_PERIOD).await;
    admin_stop.request("everything else has stopped");
    if let Some(admin) = admin {
        // It ends by itself once asked; a panic there was printed when it happened.
        let _ = tokio::task::spawn_blocking(move || admin.join()).await;
    }
    Ok(completed?)
}

/// Never ends: what there is to tell is told once.
async fn tell_when_ready(status: &Status, readiness: &Readiness, ready: Option<oneshot::Sender<()>>) {
    // For people who wait; nothing depends on it.
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    if let Some(ready) = ready {
        while !admin::not_ready(status, readiness).is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // Whoever asked may have gone.
        let _ = ready.send(());
    }
    std::future::pending().await
}

/// What stands in the way of `serve`.
///
/// # Errors
/// When that can't be found out.
pub async fn check(config: Config) -> Result<Vec<Finding>, ServeError> {
    let ports = [("listen.address", Some(config.listen.address)), ("admin.listen", config.admin.listen)];
    let mut findings = Vec::new();
    for (key, address) in ports {
        if let Some(address) = address
            && let Err(error) = std::net::TcpListener::bind(address)
        {
            findings.push(Finding {
                missing: format!("{key}: {address} cannot be listened on: {error}"),
                remedy: format!("end the program that listens there, or set {key} to another port"),
            });
        }
    }
    Ok(findings)
}
