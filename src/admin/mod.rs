//! Health and metrics over HTTP, on a thread and a runtime of their own: they answer while everything
//! else is busy.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tracing::{info, warn};

use crate::{
    lifecycle::{readiness::Readiness, shutdown::ShutdownToken, tasks::Task},
    telemetry::{
        metrics::Metrics,
        status::{Status, TableState, TableStatus},
    },
};

/// The form of [`Metrics::encode`].
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why the admin port does not answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("admin.listen: {address} cannot be listened on")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("the admin thread cannot be started")]
    Spawn(#[from] io::Error),
}

/// Reserves the port, so that one that is taken is known before anything starts.
///
/// # Errors
/// When the address can't be listened on, naming the key.
pub fn bind(address: SocketAddr) -> Result<TcpListener, AdminError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        // As tokio demands of a listener that it takes over.
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|source| AdminError::Bind { address, source })
}

/// Answers on the listener until `stop` is requested. That is to be the last thing that stops: probes
/// are to see a latch held while the rest drains.
///
/// # Errors
/// When the thread or its runtime can't be made.
pub fn spawn(
    listener: TcpListener,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    stop: ShutdownToken,
) -> Result<JoinHandle<()>, AdminError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shared = Arc::new(Shared { status, metrics, readiness });
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        info!(address = %listener.local_addr()?, "admin port answers");
        tokio::select! {
            served = axum::serve(listener, router(shared)) => served,
            // Open connections are cut: nobody waits for a scrape at the end.
            () = stop.requested() => Ok(()),
        }
    };
    let run = move || {
        if let Err(error) = runtime.block_on(serve) {
            warn!(%error, "admin port has stopped");
        }
    };
    Ok(thread::Builder::new().name(Task::Admin.name().into()).spawn(run)?)
}

/// What stands in the way of readiness, one a line; empty when ready.
///
/// Tables that are served by design from the primary (unsupported ones) don't.
pub fn not_ready(status: &Status, readiness: &Readiness) -> Vec<String> {
    let tables = status.tables();
    readiness.reasons().into_iter().chain(tables.iter().filter_map(table_not_ready)).collect()
}

fn table_not_ready(table: &TableStatus) -> Option<String> {
    let TableStatus { schema, name, state, .. } = table;
    match state {
        TableState::Live | TableState::Unsupported => None,
        TableState::Pending | TableState::Copying | TableState::CatchingUp | TableState::Quarantined => {
            Some(match &table.reason {
                Some(reason) => format!("{schema}.{name}: {state}: {reason}"),
                None => format!("{schema}.{name}: {state}"),
            })
        }
    }
}

#[derive(Debug)]
struct Shared {
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let reasons = not_ready(&shared.status, &shared.readiness);
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    let text = reasons.into_iter().map(|reason| reason.replace('\n', " ") + "\n").collect::<String>();
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, OPENMETRICS)], shared.metrics.encode()).into_response()
}

#[cfg(test)]
mod tests;
