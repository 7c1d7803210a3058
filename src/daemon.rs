//! Assembly: makes every component in order, starts them, waits for a signal, stops them in order.

use std::{io, net::SocketAddr, sync::Arc, thread, time::Duration};

use tokio::sync::oneshot;

use crate::{
    admin::{self, AdminError},
    apply::{ApplyParts, Supervisor, SupervisorError},
    catalog::CatalogHandle,
    config::Config,
    lifecycle::{
        readiness::{Latch, Readiness},
        shutdown::{GRACE_PERIOD, Shutdown, ShutdownTimeout},
        tasks::Task,
    },
    primary::{PrimaryError, Target, client},
    query::{Engine, Route},
    source::preflight::{self, Level},
    store::{Store, Writer},
    telemetry::{
        metrics::{Metrics, RouteKind},
        status::{ReplicationState, Status},
        watermark::Watermark,
    },
    wire::{self, ListenError},
};

/// Why the daemon could not start, or did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("signals cannot be caught")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Shutdown(#[from] ShutdownTimeout),
    /// The URL is wrong.
    #[error("primary.url: {0}")]
    Target(#[source] PrimaryError),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error(transparent)]
    Mirror(#[from] SupervisorError),
    #[error("{0} has panicked; its message is above")]
    Panicked(Task),
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
    let daemon = Daemon::start(config, shutdown)?;
    let stopped = daemon.shutdown.token();
    tokio::select! {
        () = daemon.ready() => {
            // Whoever asked may have gone.
            let _ = ready.map(|ready| ready.send(()));
        }
        () = stopped.requested() => {}
    }
    daemon.finished().await
}

/// All components, running.
pub struct Daemon {
    pub store: Arc<Store>,
    pub status: Arc<Status>,
    readiness: Readiness,
    /// Held while the program starts and while it stops.
    running: Latch,
    copied: Latch,
    shutdown: Shutdown,
    /// The admin port answers until everything else has stopped.
    admin: Option<thread::JoinHandle<()>>,
    admin_stop: Shutdown,
    mirror: Mirror,
    address: SocketAddr,
    serving: thread::JoinHandle<Result<(), ListenError>>,
}

impl Daemon {
    /// Makes every component and starts it. Must be called within a runtime.
    ///
    /// # Errors
    /// When a port is taken, the URL is wrong, or a thread cannot be started.
    pub fn start(config: Config, shutdown: Shutdown) -> Result<Daemon, ServeError> {
        let target = Target::parse(&config.primary).map_err(ServeError::Target)?;
        let status = Arc::new(Status::default());
        let metrics = Arc::new(Metrics::new(Arc::clone(&status)));
        metrics.memory_limit_bytes.set(i64::try_from(config.memory.max_bytes).unwrap_or(i64::MAX));
        let readiness = Readiness::default();
        let running = readiness.latch("daemon", "starting");
        let copied = readiness.latch("source", "the tables have not been copied");
        let admin_stop = Shutdown::new();
        // Ports first: one that is taken is known before anything is done to the primary.
        let port = wire::bind(&config.listen)?;
        let address = port.local_addr().map_err(ServeError::Thread)?;
        let listener = config.admin.listen.map(admin::bind).transpose()?;
        let admin = listener
            .map(|listener| {
                let (status, metrics) = (Arc::clone(&status), Arc::clone(&metrics));
                admin::spawn(listener, status, metrics, readiness.clone(), admin_stop.token())
            })
            .transpose()?;
        let (store, writer) = Store::new();
        let parts = ApplyParts {
            config: Arc::new(config),
            target,
            catalog: Arc::new(CatalogHandle::default()),
            status: Arc::clone(&status),
            watermark: Arc::new(Watermark::default()),
            metrics: Arc::clone(&metrics),
        };
        let engine = Engine::new(
            Arc::clone(&store),
            Arc::clone(&parts.catalog),
            Arc::clone(&status),
            parts.config.cache.enabled,
        );
        let shared = wire::Shared::new(
            Arc::new(engine),
            Arc::clone(&store),
            parts.target.clone(),
            Arc::clone(&parts.config),
            Arc::clone(&parts.watermark),
            Arc::new(Counting(metrics)),
        );
        let mirror = Mirror::start(parts, writer, &shutdown)?;
        let (registration, stop) = (shutdown.register(Task::Accept.name()), shutdown.clone());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)?;
        let serving = thread::Builder::new()
            .name(Task::Accept.name().into())
            .spawn(move || {
                let served = runtime.block_on(wire::serve(port, shared, registration, SESSION_GRACE));
                if let Err(error) = &served {
                    stop.request(error.to_string());
                }
                served
            })
            .map_err(ServeError::Thread)?;
        running.release();
        Ok(Daemon {
            store,
            status,
            readiness,
            running,
            copied,
            shutdown,
            admin,
            admin_stop,
            mirror,
            address,
            serving,
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until everything is copied and `/readyz` says so.
    pub async fn ready(&self) {
        // For people and probes who wait; no answer depends on it.
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        while self.status.replication().state != ReplicationState::Streaming {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.copied.release();
        while !admin::not_ready(&self.status, &self.readiness).is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for shutdown and then for everything to end, in order.
    ///
    /// # Errors
    /// What has ended the program, or who did not end within the grace period.
    pub async fn finished(self) -> Result<(), ServeError> {
        self.shutdown.token().requested().await;
        self.running.hold("shutting down");
        let completed = self.shutdown.completed(GRACE_PERIOD).await;
        let mirrored = self.mirror.end().await;
        let serving = self.serving;
        let served = tokio::task::spawn_blocking(move || serving.join()).await;
        self.admin_stop.request("everything else has stopped");
        if let Some(admin) = self.admin {
            // It ends by itself once asked; a panic there was printed when it happened.
            let _ = tokio::task::spawn_blocking(move || admin.join()).await;
        }
        mirrored?;
        match served {
            Ok(Ok(result)) => result?,
            Ok(Err(_)) | Err(_) => return Err(ServeError::Panicked(Task::Accept)),
        }
        Ok(completed?)
    }
}

/// How long sessions get to come to an idle point: less than the whole program gets.
const SESSION_GRACE: Duration = Duration::from_secs(20);

/// Counts what sessions do.
struct Counting(Arc<Metrics>);

impl wire::Observer for Counting {
    fn answered(&self, route: Route, rows: u64, elapsed: Duration) {
        let kind = match route {
            Route::Point => RouteKind::Point,
            Route::Index => RouteKind::Index,
            Route::Scan => RouteKind::Engine,
            Route::Primary(reason) => return self.0.observe_primary(reason.code(), elapsed),
        };
        self.0.observe_local(kind, elapsed, rows);
    }

    fn opened(&self) {
        self.0.sessions.inc();
        self.0.sessions_open.inc();
    }

    fn closed(&self) {
        self.0.sessions_open.dec();
    }
}

/// The threads that copy, follow and apply.
struct Mirror {
    source: thread::JoinHandle<Result<(), SupervisorError>>,
    apply: thread::JoinHandle<()>,
}

impl Mirror {
    fn start(parts: ApplyParts, writer: Writer, shutdown: &Shutdown) -> Result<Mirror, ServeError> {
        let registration = shutdown.register(Task::Source.name());
        let (supervisor, apply) =
            Supervisor::start(parts, writer, shutdown.token()).map_err(ServeError::Thread)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)?;
        let stop = shutdown.clone();
        let source = thread::Builder::new().name(Task::Source.name().into()).spawn(move || {
            let result = runtime.block_on(supervisor.run());
            // Without it nothing new arrives: the program ends, and says why.
            if let Err(error) = &result {
                stop.request(error.to_string());
            }
            drop(registration);
            result
        });
        Ok(Mirror { source: source.map_err(ServeError::Thread)?, apply })
    }

    /// Waits for both threads, which shutdown has ended.
    async fn end(self) -> Result<(), ServeError> {
        let joined = tokio::task::spawn_blocking(move || (self.source.join(), self.apply.join())).await;
        match joined {
            Ok((_, Err(_))) => Err(ServeError::Panicked(Task::Apply)),
            Ok((Ok(result), Ok(()))) => Ok(result?),
            Ok((Err(_), _)) | Err(_) => Err(ServeError::Panicked(Task::Source)),
        }
    }
}

/// What stands in the way of `serve`.
///
/// # Errors
/// When that can't be found out.
pub async fn check(config: Config) -> Result<Vec<Finding>, ServeError> {
    let target = Target::parse(&config.primary).map_err(ServeError::Target)?;
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
    let sql = client(&target, "millpond: check").await.map_err(SupervisorError::Primary)?;
    let preflight = preflight::check(&sql, &config).await;
    findings.extend(
        preflight.findings.into_iter().filter(|found| found.level >= Level::Missing).map(|found| Finding {
            missing: found.what,
            remedy: found.remedy.unwrap_or_else(|| "none".into()),
        }),
    );
    Ok(findings)
}
