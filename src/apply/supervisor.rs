//! Keeps the applier fed: copies, streams, reconnects.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    applier::{Applier, Event, Request, Shared, StreamError},
    bootstrap::{self, Ready, bootstrap},
    catalog_sender::CatalogSender,
    catalog_watch,
    fit::LeftOut,
    recopy::{self, Outcome, recopy, send, temporary_slot_name},
};
use crate::{
    catalog::{Catalog, CatalogHandle},
    config::Config,
    lifecycle::shutdown::ShutdownToken,
    primary::{PrimaryError, Target, client, in_words},
    source::{
        ReplicationConnection, SourceError, SourceErrorKind, Stream, StreamOptions,
        preflight::{self, Preflight},
        publication::PublicationError,
        schema::{self, SchemaError, TableChangeKind},
    },
    store::Writer,
    telemetry::{
        metrics::Metrics,
        status::{ReplicationState, Status},
        watermark::Watermark,
    },
    types::{Lsn, TableOid},
};

/// Events on their way to the applier: few come at all, and whoever sends one may as well wait.
const EVENTS_MAX: usize = 8;
/// Reconnect pauses: doubled from the first to the longest, with jitter.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Why nothing can be mirrored (any more).
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    #[error(transparent)]
    Primary(#[from] PrimaryError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Publication(#[from] PublicationError),
    #[error("the replication stream is not what it should be: {0}")]
    Stream(#[from] StreamError),
    #[error("asking the primary: {}", in_words(.0))]
    Sql(#[from] tokio_postgres::Error),
    #[error("the primary does not permit it:\n{0}")]
    Preflight(Preflight),
    #[error("the catalogue changed while the copy was being prepared")]
    CatalogMoved,
    #[error("{0} answered {1:?}")]
    Answer(&'static str, String),
    #[error("{0} ended unexpectedly")]
    Panicked(&'static str),
    #[error("the primary could not be reached for {} s: {source}", after.as_secs())]
    Unreachable { after: Duration, source: Box<SupervisorError> },
    #[error("a table to be added has a type without a known binary form; the stream begins again in text")]
    NeedsTextStream,
}

/// What is to be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Connect again; a permanent slot goes on where it was.
    Reconnect,
    /// Copy everything again.
    Bootstrap,
    /// At start: give up. Later: keep what there is and try again slowly.
    GiveUp,
    /// Our own failure: the program ends.
    Internal,
}

impl SupervisorError {
    fn remedy(&self) -> Remedy {
        match self {
            SupervisorError::Primary(error) => match error.kind() {
                crate::primary::ErrorKind::Transient => Remedy::Reconnect,
                _ => Remedy::GiveUp,
            },
            SupervisorError::Source(error) => match error.kind() {
                SourceErrorKind::Reconnect => Remedy::Reconnect,
                SourceErrorKind::Bootstrap => Remedy::Bootstrap,
                SourceErrorKind::Fatal => Remedy::GiveUp,
            },
            // A query on the catalogue fails when its connection does, or when something changes
            // under it.
            SupervisorError::Sql(_) | SupervisorError::CatalogMoved | SupervisorError::Answer(..) => {
                Remedy::Bootstrap
            }
            SupervisorError::NeedsTextStream | SupervisorError::Stream(_) => Remedy::Bootstrap,
            SupervisorError::Schema(SchemaError::Query { .. }) => Remedy::Bootstrap,
            SupervisorError::Schema(_) | SupervisorError::Publication(_) | SupervisorError::Preflight(_) => {
                Remedy::GiveUp
            }
            SupervisorError::Panicked(_) => Remedy::Internal,
            SupervisorError::Unreachable { .. } => Remedy::GiveUp,
        }
    }

    /// Whether the primary could not be reached, as against refusing what we need.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, SupervisorError::Unreachable { .. })
    }

    /// Whether the program itself failed.
    pub fn is_internal(&self) -> bool {
        self.remedy() == Remedy::Internal
    }
}

/// What the supervisor shares with the rest of the program.
#[derive(Clone)]
pub struct ApplyParts {
    pub config: Arc<Config>,
    pub target: Target,
    pub catalog: Arc<CatalogHandle>,
    pub status: Arc<Status>,
    pub watermark: Arc<Watermark>,
    pub metrics: Arc<Metrics>,
}

/// Runs on the replication thread's runtime until shutdown.
pub struct Supervisor {
    parts: ApplyParts,
    events: mpsc::Sender<Event>,
    requests: mpsc::UnboundedReceiver<Request>,
    shutdown: ShutdownToken,
    /// The primary that the store's contents came from.
    system_id: Option<String>,
    /// The slot of the running stream, and whether its values are binary.
    resumable: Option<(String, bool)>,
    /// Tables that do not fit into memory.
    left_out: LeftOut,
    catalogs: Arc<CatalogSender>,
}

impl Supervisor {
    /// Starts the applier's thread. It ends when the supervisor is dropped, and its handle says how.
    pub fn start(
        parts: ApplyParts,
        writer: Writer,
        shutdown: ShutdownToken,
    ) -> std::io::Result<(Supervisor, std::thread::JoinHandle<()>)> {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let (sender, requests) = mpsc::unbounded_channel();
        let catalogs = Arc::new(CatalogSender::new(events.clone()));
        let shared = Shared {
            catalog: Arc::clone(&parts.catalog),
            status: Arc::clone(&parts.status),
            watermark: Arc::clone(&parts.watermark),
            metrics: Arc::clone(&parts.metrics),
            requests: sender,
            max_transaction_bytes: parts.config.replication.max_transaction_bytes,
        };
        let applier = Applier::new(writer, shared);
        // It waits for the stream and for the supervisor; it needs neither sockets nor timers.
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let thread = std::thread::Builder::new()
            .name("apply".into())
            .spawn(move || runtime.block_on(applier.run(receiver)))?;
        Ok((
            Supervisor {
                parts,
                events,
                requests,
                shutdown,
                system_id: None,
                resumable: None,
                left_out: LeftOut::default(),
                catalogs,
            },
            thread,
        ))
    }

    /// Copies, follows, reconnects, until shutdown is requested.
    ///
    /// # Errors
    /// When the primary cannot be reached within `primary.start_timeout` of the start or refuses what
    /// we need then, and when the program itself has failed. Once everything has been copied for the
    /// first time, only the latter.
    pub async fn run(mut self) -> Result<(), SupervisorError> {
        let started = Instant::now();
        let mut pause = PAUSE_MIN;
        let mut was_ready = false;
        let shutdown = self.shutdown.clone();
        loop {
            let session = self.session(&mut was_ready, &mut pause);
            let error = tokio::select! {
                biased;
                // 1. Shutdown ends the session, and with it every connection and the temporary slot.
                () = shutdown.requested() => {
                    self.parts.status.update_replication(|s| s.state = ReplicationState::Stopped);
                    self.drop_permanent_slot().await;
                    return Ok(());
                }
                // 2. The session.
                result = session => match result {
                    Ok(never) => match never {},
                    Err(error) => error,
                },
            };
            self.parts.status.update_replication(|s| {
                s.state = ReplicationState::Disconnected;
                s.last_error = Some(error.to_string());
            });
            match error.remedy() {
                Remedy::Internal => return Err(error),
                Remedy::GiveUp if !was_ready => return Err(error),
                Remedy::Reconnect => {}
                Remedy::GiveUp | Remedy::Bootstrap => self.forget_slot().await,
            }
            let start_timeout = self.parts.config.primary.start_timeout;
            if !was_ready && started.elapsed() >= start_timeout {
                return Err(SupervisorError::Unreachable { after: start_timeout, source: Box::new(error) });
            }
            tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "replication interrupted; trying again");
            self.parts.status.update_replication(|s| s.reconnects += 1);
            let jitter = 0.5 + rand::random::<f64>() / 2.0;
            tokio::select! {
                biased;
                () = shutdown.requested() => {}
                () = sleep(pause.mul_f64(jitter)) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One connection's life: it ends with an error only.
    async fn session(
        &mut self,
        was_ready: &mut bool,
        pause: &mut Duration,
    ) -> Result<std::convert::Infallible, SupervisorError> {
        let ApplyParts { config, target, status, .. } = &self.parts;
        let (config, target, status) = (Arc::clone(config), target.clone(), Arc::clone(status));
        status.update_replication(|s| s.state = ReplicationState::Connecting);
        let sql = client(&target, "millpond: preflight").await?;
        if self.resumable.is_none() {
            // Before anything else: what it finds comes with its remedy.
            let preflight = preflight::check(&sql, &config).await;
            if preflight.is_fatal() {
                return Err(SupervisorError::Preflight(preflight));
            }
        }
        let mut connection = ReplicationConnection::connect(&target).await?;
        let identity = connection.identify_system().await?;
        if self.system_id.as_ref().is_some_and(|known| *known != identity.system_id) {
            tracing::warn!(
                system_id = identity.system_id,
                "another primary answers: copying everything again"
            );
            send(&self.events, Event::Distrust).await?;
            self.resumable = None;
        }
        if let Some((slot, _)) = &self.resumable
            && !self.slot_fits(&sql, slot).await?
        {
            tracing::warn!(slot, "the slot is gone or ahead of what we hold: copying everything again");
            self.resumable = None;
        }
        let (slot, binary, stream_from) = match self.resumable.clone() {
            Some((slot, binary)) => (slot, binary, connection),
            None => {
                let slot = self.prepare_slot(&sql, &mut connection).await?;
                let ready = bootstrap(&config, &target, &status, connection, &identity, slot).await?;
                let Ready { bootstrapped, connection, slot, binary, left_out } = ready;
                self.left_out = left_out;
                self.catalogs.bootstrapped(&bootstrapped.catalog);
                send(&self.events, Event::Bootstrapped(Box::new(bootstrapped))).await?;
                (slot, binary, connection)
            }
        };
        drop(sql);
        let options = StreamOptions {
            publication: config.replication.publication.clone(),
            binary,
            streaming: true,
            messages: true,
            status_interval: config.replication.status_interval,
        };
        let stream = stream_from.start(&slot, Lsn::ZERO, &options).await?;
        self.system_id = Some(identity.system_id);
        if config.replication.checkpoint_dir.is_some() {
            self.resumable = Some((slot.clone(), binary));
        }
        send(&self.events, Event::StreamBegins(stream.reader())).await?;
        status.update_replication(|s| {
            s.mode = "logical".into();
            s.reason = "the primary permits logical replication".into();
            s.state = ReplicationState::Streaming;
            s.last_error = None;
        });
        *was_ready = true;
        *pause = PAUSE_MIN;
        self.follow(stream, slot, binary).await
    }

    /// Keeps the stream, which the applier reads, and sees to tables that have to be copied and to the
    /// catalogue.
    async fn follow(
        &mut self,
        stream: Stream,
        slot: String,
        binary: bool,
    ) -> Result<std::convert::Infallible, SupervisorError> {
        let ApplyParts { config, target, status, watermark, .. } = self.parts.clone();
        let progress = Arc::clone(stream.progress());
        let (news_sender, mut news) = mpsc::channel(1);
        let watch =
            catalog_watch::watch(Arc::clone(&config), target.clone(), Arc::clone(&status), slot, news_sender);
        let _watch = AbortOnDrop(tokio::spawn(watch));
        let mut queue = recopy::Queue::default();
        let mut running: Option<(TableOid, AbortOnDrop<Result<Outcome, SupervisorError>>)> = None;
        loop {
            tokio::select! {
                biased;
                // 1. The stream's end.
                error = stream.ended() => return Err(error.into()),
                // 2. Somebody waits for a position.
                () = watermark.asked() => progress.ask(),
                // 3. The catalogue was looked at.
                Some(look) = news.recv() => {
                    if let Some(catalog) = look.catalog {
                        self.catalog_changed(catalog, &mut queue).await?;
                    }
                    send(&self.events, Event::Compared(look.at)).await?;
                }
                // 4. A table's copy has ended.
                ended = join(&mut running) => {
                    let (table, result) = ended;
                    running = None;
                    match result {
                        Ok(Outcome::Copied) => queue.copied(table),
                        Ok(Outcome::Gone) => queue.remove(table),
                        Ok(Outcome::DoesNotFit { needed, held }) => {
                            let reason = format!(
                                "its {needed} bytes do not fit beside {held} bytes of other tables into memory.max_bytes"
                            );
                            self.left_out.add(table, reason);
                            send(&self.events, Event::Drop(table)).await?;
                            let mut catalog = Catalog::clone(&self.catalogs.last());
                            self.left_out.apply(&mut catalog);
                            bootstrap::show_tables(&status, &catalog);
                            self.catalogs.send(catalog).await?;
                        }
                        Ok(Outcome::NeedsTextStream) => return Err(SupervisorError::NeedsTextStream),
                        Err(error) => {
                            let reason = format!("its copy failed: {error}");
                            send(&self.events, Event::Quarantine { table, reason }).await?;
                            queue.push(table);
                        }
                    }
                }
                // 5. Something has to be copied.
                Some(request) = self.requests.recv() => match request {
                    Request::Copy(table) => queue.push(table),
                    Request::Bootstrap(error) => return Err(error.into()),
                },
                // 6. Its turn has come.
                table = queue.next(), if running.is_none() => {
                    let (config, target, status) = (Arc::clone(&config), target.clone(), Arc::clone(&status));
                    let (catalogs, left_out) = (Arc::clone(&self.catalogs), self.left_out.clone());
                    let task = tokio::spawn(async move {
                        recopy(table, &config, &target, &status, &catalogs, binary, &left_out).await
                    });
                    running = Some((table, AbortOnDrop(task)));
                }
            }
        }
    }

    /// Takes a new reading of the catalogue: tables whose rows may differ are copied again.
    async fn catalog_changed(
        &self,
        mut catalog: Catalog,
        queue: &mut recopy::Queue,
    ) -> Result<(), SupervisorError> {
        self.left_out.apply(&mut catalog);
        for change in schema::changes(&self.catalogs.last(), &catalog) {
            match change.kind {
                TableChangeKind::Unchanged => {}
                TableChangeKind::Dropped => {
                    send(&self.events, Event::Drop(change.table)).await?;
                    queue.remove(change.table);
                }
                TableChangeKind::Added => queue.push(change.table),
                TableChangeKind::Renamed | TableChangeKind::Reindexed | TableChangeKind::Reshaped => {
                    let reason = "its definition has changed on the primary".into();
                    send(&self.events, Event::Quarantine { table: change.table, reason }).await?;
                }
            }
        }
        bootstrap::show_tables(&self.parts.status, &catalog);
        self.catalogs.send(catalog).await
    }

    /// The slot's name; one of an earlier run of ours that is in the way is dropped, because without a
    /// checkpoint to go on from only a new copy can follow.
    async fn prepare_slot(
        &self,
        sql: &tokio_postgres::Client,
        connection: &mut ReplicationConnection,
    ) -> Result<String, SupervisorError> {
        let config = &self.parts.config.replication;
        if config.checkpoint_dir.is_none() {
            return Ok(temporary_slot_name(&config.slot));
        }
        let exists =
            "select 1 from pg_catalog.pg_replication_slots where slot_name = $1::text and not active";
        if sql.query_opt(exists, &[&config.slot]).await?.is_some() {
            connection.drop_slot(&config.slot).await?;
        }
        Ok(config.slot.clone())
    }

    /// Whether a permanent slot still has everything after what we hold. One that somebody has advanced,
    /// or dropped and made anew, would leave a gap without a word.
    async fn slot_fits(&self, sql: &tokio_postgres::Client, slot: &str) -> Result<bool, SupervisorError> {
        let query = include_str!("../../sql/slot_position.sql");
        let Some(row) = sql.query_opt(query, &[&slot]).await? else { return Ok(false) };
        let confirmed: Option<String> = row.get(0);
        let Some(confirmed) = confirmed else { return Ok(false) };
        match confirmed.parse::<Lsn>() {
            Ok(confirmed) => Ok(confirmed <= self.parts.watermark.get()),
            Err(_) => Err(SupervisorError::Answer("sql/slot_position.sql", confirmed)),
        }
    }

    /// After an error that a reconnect does not mend, the slot is of no more use.
    async fn forget_slot(&mut self) {
        if self.resumable.take().is_some() {
            self.drop_permanent_slot().await;
        }
    }

    /// Leaves no slot behind. A primary that cannot be reached keeps it: the next start drops it.
    async fn drop_permanent_slot(&self) {
        let replication = &self.parts.config.replication;
        if replication.checkpoint_dir.is_none() {
            return;
        }
        let dropped = async {
            let mut connection = ReplicationConnection::connect(&self.parts.target).await?;
            connection.drop_slot(&replication.slot).await
        };
        if let Err(error) = dropped.await {
            tracing::warn!(%error, slot = replication.slot, "the replication slot was not dropped");
        }
    }
}

/// Waits for the running copy; pends while there is none.
async fn join(
    running: &mut Option<(TableOid, AbortOnDrop<Result<Outcome, SupervisorError>>)>,
) -> (TableOid, Result<Outcome, SupervisorError>) {
    match running {
        Some((table, task)) => {
            let result = (&mut task.0).await.unwrap_or(Err(SupervisorError::Panicked("the copy of a table")));
            (*table, result)
        }
        None => std::future::pending().await,
    }
}

/// A task that ends with its owner.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
