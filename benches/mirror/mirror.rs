//! Millpond's own following of the primary, in this process: supervisor, stream and applier as the
//! daemon starts them, without its ports.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use millpond::{
    apply::{ApplyParts, Supervisor, SupervisorError},
    catalog::CatalogHandle,
    config::Config,
    lifecycle::shutdown::Shutdown,
    primary::Target,
    store::Store,
    telemetry::{
        metrics::Metrics,
        status::{Status, TableState, TableStatus},
        watermark::Watermark,
    },
    types::Lsn,
};

use crate::{Result, process::own_cpu};

const LOOK_EVERY: Duration = Duration::from_millis(1);
const DEADLINE: Duration = Duration::from_secs(600);

pub(crate) struct Mirror {
    started: Instant,
    shutdown: Shutdown,
    status: Arc<Status>,
    watermark: Arc<Watermark>,
    supervisor: JoinHandle<std::result::Result<(), SupervisorError>>,
    apply: JoinHandle<()>,
}

/// How a copy went.
pub(crate) struct CopyTimes {
    /// Connecting, catalogue, locks and slot.
    pub(crate) prepared_s: f64,
    /// From the first copied row to the last: without connecting, locks, slot and indexes.
    pub(crate) copied_s: f64,
    /// This process's CPU time in it.
    pub(crate) copied_cpu: Duration,
    /// From nothing to all tables live, with their indexes.
    pub(crate) live_s: f64,
}

impl Mirror {
    pub(crate) fn start(url: &str, copy_workers: usize) -> Result<Mirror> {
        let toml = format!(
            "[primary]\nurl = \"{url}\"\n[[tables]]\nmatch = [\"public.*\"]\n\
             [replication]\ncopy_workers = {copy_workers}\n"
        );
        let config = Config::from_toml(&toml)?;
        let status = Arc::new(Status::default());
        let watermark = Arc::new(Watermark::default());
        let (_store, writer) = Store::new();
        let parts = ApplyParts {
            target: Target::parse(&config.primary)?,
            config: Arc::new(config),
            catalog: Arc::new(CatalogHandle::default()),
            status: Arc::clone(&status),
            watermark: Arc::clone(&watermark),
            metrics: Arc::new(Metrics::new(Arc::clone(&status))),
        };
        let shutdown = Shutdown::new();
        let started = Instant::now();
        let (supervisor, apply) = Supervisor::start(parts, writer, shutdown.token())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let supervisor =
            thread::Builder::new().name("source".into()).spawn(move || runtime.block_on(supervisor.run()))?;
        Ok(Mirror { started, shutdown, status, watermark, supervisor, apply })
    }

    /// Follows the copy to its end.
    pub(crate) fn wait_until_live(&self) -> Result<CopyTimes> {
        let every = |states: &[TableState]| {
            let tables = self.status.tables();
            !tables.is_empty() && tables.iter().all(|table| states.contains(&table.state))
        };
        let any = |state| self.status.tables().iter().any(|table| table.state == state);
        use TableState::{CatchingUp, Copying, Live};
        let first = self.wait("the copy begins", || any(Copying))?;
        let cpu = own_cpu()?;
        let copied = self.wait("all tables are copied", || every(&[CatchingUp, Live]))?;
        let copied_cpu = own_cpu()? - cpu;
        let live = self.wait("all tables are live", || every(&[Live]))?;
        Ok(CopyTimes {
            prepared_s: (first - self.started).as_secs_f64(),
            copied_s: (copied - first).as_secs_f64(),
            copied_cpu,
            live_s: (live - self.started).as_secs_f64(),
        })
    }

    /// Waits until everything up to this position is applied.
    pub(crate) fn wait_for(&self, lsn: Lsn) -> Result<()> {
        self.wait("the changes are applied", || self.watermark.get() >= lsn).map(|_| ())
    }

    pub(crate) fn table(&self, name: &str) -> Result<TableStatus> {
        // Sizes are measured once a second at most, and when a table goes live.
        self.wait("the table's size is known", || {
            self.status.tables().iter().any(|t| t.name == name && t.bytes > 0)
        })?;
        let tables = self.status.tables();
        tables.into_iter().find(|table| table.name == name).ok_or_else(|| format!("no table {name}").into())
    }

    pub(crate) fn end(self) -> Result<()> {
        self.shutdown.request("the bench is done");
        self.supervisor.join().map_err(|_| "the supervisor panicked")??;
        self.apply.join().map_err(|_| "the applier panicked")?;
        Ok(())
    }

    fn wait(&self, what: &str, condition: impl Fn() -> bool) -> Result<Instant> {
        let end = Instant::now() + DEADLINE;
        while !condition() {
            if self.supervisor.is_finished() || Instant::now() > end {
                return Err(format!("waited in vain until {what}: {:?}", self.status.replication()).into());
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(Instant::now())
    }
}
