//! The one thread that changes the store: events in, commits out.
//!
//! ```text
//! source ──frames──> decode ──messages──> transactions ──commits──> tables ──> store, one publish a batch
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::mpsc;

use super::{
    table::{AppliedTable, ApplyError, Life},
    transaction::{Committed, OutOfOrder, Step, Transactions},
};
use crate::{
    catalog::{Catalog, CatalogHandle},
    decode::{DecodeError, Decoder, ReplicationMessage},
    source::{Frame, StreamReader},
    store::{TableImage, Writer},
    telemetry::{
        metrics::Metrics,
        status::{Status, TableState},
        watermark::Watermark,
    },
    types::{Lsn, TableOid, TableSchema},
};

/// How often sizes are measured for the status: measuring visits every chunk.
const SIZE_INTERVAL: Duration = Duration::from_secs(1);

/// What the supervisor tells the applier, in the order in which it takes effect.
pub(super) enum Event {
    /// All tables were copied at one snapshot: they replace what is there, at once.
    Bootstrapped(Box<Bootstrapped>),
    /// The catalogue changed, but no table's shape.
    Catalog(Arc<Catalog>),
    /// The catalogue was found to be the primary's after this position was flushed there.
    Compared(Lsn),
    /// The table is about to be copied (again): keep its changes.
    CopyBegins(Arc<TableSchema>),
    /// Its rows at a snapshot, with the catalogue that describes them.
    Copied { image: Box<TableImage>, at: Lsn },
    /// Nobody may read it until it has been copied again.
    Quarantine { table: TableOid, reason: String },
    /// It is not to be mirrored any more.
    Drop(TableOid),
    /// A new connection begins a new stream, which counts its own progress; what was half received
    /// comes again.
    StreamBegins(StreamReader),
    /// Nobody may read anything until everything has been copied again: it is another primary's.
    Distrust,
}

/// The result of a full copy.
pub(super) struct Bootstrapped {
    pub(super) catalog: Catalog,
    pub(super) images: Vec<TableImage>,
    /// The slot's consistent point: the rows are the primary's state after every commit before it.
    pub(super) at: Lsn,
    /// The primary's position when the copy ended; tables go live once it is reached.
    pub(super) live_at: Lsn,
}

/// What the applier shares with the rest of the program.
pub(super) struct Shared {
    pub(super) catalog: Arc<CatalogHandle>,
    pub(super) status: Arc<Status>,
    pub(super) watermark: Arc<Watermark>,
    pub(super) metrics: Arc<Metrics>,
    /// What has to be copied again. Unbounded: there is at most one request for each table between two
    /// copies of it.
    pub(super) requests: mpsc::UnboundedSender<Request>,
    pub(super) max_transaction_bytes: u64,
}

/// What the applier asks of the supervisor.
#[derive(Debug)]
pub(super) enum Request {
    /// Copy this table again.
    Copy(TableOid),
    /// Copy everything again: the stream cannot be understood any more.
    Bootstrap(StreamError),
}

/// The stream itself is broken: nothing after it can be trusted, everything is copied again.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    OutOfOrder(#[from] OutOfOrder),
}

pub(super) struct Applier {
    writer: Writer,
    shared: Shared,
    tables: BTreeMap<TableOid, AppliedTable>,
    /// What the stream said of relations that are not mirrored, for when they come to be.
    relations: HashMap<TableOid, crate::decode::Relation>,
    decoder: Decoder,
    transactions: Transactions,
    /// Where frames come from, and what may be acknowledged there.
    stream: Option<StreamReader>,
    /// Everything committed up to here is in the store or was before the copy.
    reached: Lsn,
    /// End of the last commit applied: the same commit again is passed over.
    applied: Lsn,
    /// Bootstrapped tables wait for this position before they go live.
    live_at: Option<Lsn>,
    dirty: bool,
    /// The stream could not be understood: what comes is ignored until everything is copied again.
    broken: bool,
    sizes_at: Option<Instant>,
    /// When the stream last brought something.
    heard_at: Option<Instant>,
}

impl Applier {
    pub(super) fn new(writer: Writer, shared: Shared) -> Applier {
        let transactions = Transactions::new(shared.max_transaction_bytes);
        Applier {
            writer,
            shared,
            tables: BTreeMap::new(),
            relations: HashMap::new(),
            decoder: Decoder::default(),
            transactions,
            stream: None,
            reached: Lsn::ZERO,
            applied: Lsn::ZERO,
            live_at: None,
            dirty: false,
            broken: false,
            sizes_at: None,
            heard_at: None,
        }
    }

    /// Runs until the supervisor is gone. A panic in here poisons the store: what it holds may be half
    /// of a commit.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let _poison = PoisonOnPanic(Arc::clone(self.writer.store()));
        let mut frames = Vec::new();
        loop {
            tokio::select! {
                biased;
                // 1. What the supervisor says.
                event = events.recv() => match event {
                    Some(event) => {
                        self.handle(event);
                        self.finish_batch();
                    }
                    None => return,
                },
                // 2. The stream.
                more = next(&mut self.stream, &mut frames) => {
                    // What was said before a change was made at the primary takes effect before the
                    // change does: a copy that begins must see every change after its snapshot.
                    while let Ok(event) = events.try_recv() {
                        if event.replaces_stream() {
                            frames.clear();
                        }
                        self.handle(event);
                    }
                    self.take(&mut frames);
                    if !more {
                        self.stream = None;
                    }
                    self.finish_batch();
                }
            }
        }
    }

    fn take(&mut self, frames: &mut Vec<Frame>) {
        if frames.is_empty() {
            return;
        }
        let now = Instant::now();
        self.heard_at = Some(now);
        for frame in frames.drain(..) {
            if self.broken {
                continue;
            }
            if let Err(error) = self.frame(frame) {
                self.broken = true;
                let _ = self.shared.requests.send(Request::Bootstrap(error));
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Bootstrapped(bootstrapped) => self.bootstrap(*bootstrapped),
            Event::Catalog(catalog) => {
                self.shared.catalog.swap(Catalog::clone(&catalog));
            }
            Event::Compared(at) => self.shared.catalog.set_compared_at(at),
            Event::CopyBegins(schema) => self.copy_begins(schema),
            Event::Copied { image, at } => {
                let oid = image.schema().oid;
                if let Some(table) = self.tables.get_mut(&oid) {
                    table.copied(*image, at);
                    self.shared.status.update_table(oid, |s| s.state = TableState::CatchingUp);
                }
            }
            Event::Quarantine { table, reason } => self.quarantine(table, reason),
            Event::Drop(oid) => {
                self.tables.remove(&oid);
                self.writer.drop_table(oid);
            }
            Event::Distrust => {
                self.stream = None;
                for oid in self.writer.table_oids() {
                    self.writer.set_live(oid, false);
                }
            }
            Event::StreamBegins(stream) => {
                self.stream = Some(stream);
                self.decoder = Decoder::default();
                self.transactions = Transactions::new(self.shared.max_transaction_bytes);
            }
        }
    }

    fn frame(&mut self, frame: Frame) -> Result<(), StreamError> {
        match frame {
            Frame::Change(bytes) => {
                let size = bytes.len();
                let message = self.decoder.decode(bytes)?;
                match self.transactions.take(message, size)? {
                    Step::Nothing => {}
                    Step::Loose(ReplicationMessage::Relation { relation, .. }) => self.describe(relation),
                    Step::Loose(_) => {}
                    Step::Committed(committed) => self.commit(committed),
                }
            }
            // In the middle of a transaction's messages it says nothing about that transaction.
            Frame::Keepalive { wal_end } if !self.transactions.is_open() => {
                self.reached = self.reached.max(wal_end);
            }
            Frame::Keepalive { .. } => {}
        }
        Ok(())
    }

    fn describe(&mut self, relation: crate::decode::Relation) {
        if let Some(table) = self.tables.get_mut(&relation.oid) {
            table.describe(&relation);
        }
        self.relations.insert(relation.oid, relation);
    }

    fn commit(&mut self, committed: Committed) {
        let Committed { commit, changes, overflowed } = committed;
        // Redelivered after a crash of the primary or a lost acknowledgement.
        if commit.end_lsn <= self.applied {
            return;
        }
        let mut rows = 0;
        for (_, change) in changes {
            match change {
                ReplicationMessage::Relation { relation, .. } => self.describe(relation),
                ReplicationMessage::Insert { relation, .. }
                | ReplicationMessage::Update { relation, .. }
                | ReplicationMessage::Delete { relation, .. } => {
                    rows += 1;
                    self.change(relation, &commit, change);
                }
                ReplicationMessage::Truncate { xid, relations } => {
                    for relation in relations {
                        let change = ReplicationMessage::Truncate { xid, relations: vec![relation] };
                        self.change(relation, &commit, change);
                    }
                }
                _ => {}
            }
        }
        for oid in overflowed {
            self.quarantine(
                oid,
                "a transaction on it was larger than replication.max_transaction_bytes".into(),
            );
        }
        self.applied = commit.end_lsn;
        self.reached = self.reached.max(commit.end_lsn);
        self.dirty = true;
        self.shared.metrics.changes.add(rows);
        self.shared.metrics.commits.inc();
    }

    fn change(&mut self, oid: TableOid, commit: &crate::decode::Commit, change: ReplicationMessage) {
        // Tables of the publication that are not ours do not concern us.
        let Some(table) = self.tables.get_mut(&oid) else { return };
        table.changed_at = Some(commit.end_lsn);
        if let Err(error) = table.change(&mut self.writer, commit.commit_lsn, change) {
            self.apply_failed(oid, &error);
        }
    }

    fn apply_failed(&mut self, oid: TableOid, error: &ApplyError) {
        self.quarantine(oid, format!("a change could not be applied: {error}"));
    }

    /// Takes a table away from queries and asks for a new copy. The others go on.
    fn quarantine(&mut self, oid: TableOid, reason: String) {
        let Some(table) = self.tables.get_mut(&oid) else { return };
        tracing::warn!(table = table.name(), %reason, "table quarantined; the primary answers for it");
        table.life = Life::Quarantined;
        self.writer.set_live(oid, false);
        self.shared.status.update_table(oid, |s| {
            s.state = TableState::Quarantined;
            s.reason = Some(reason);
        });
        // The receiver lives as long as the supervisor, without which no copy can be made anyway.
        let _ = self.shared.requests.send(Request::Copy(oid));
    }

    fn copy_begins(&mut self, schema: Arc<TableSchema>) {
        let oid = schema.oid;
        self.writer.set_live(oid, false);
        match self.tables.get_mut(&oid) {
            Some(table) => table.begin_copy(schema),
            None => {
                let mut table = AppliedTable::copying(schema);
                if let Some(relation) = self.relations.get(&oid) {
                    table.describe(relation);
                }
                self.tables.insert(oid, table);
            }
        }
    }

    fn bootstrap(&mut self, bootstrapped: Bootstrapped) {
        let Bootstrapped { catalog, images, at, live_at } = bootstrapped;
        let kept: Vec<TableOid> = images.iter().map(|image| image.schema().oid).collect();
        for oid in self.writer.table_oids() {
            if !kept.contains(&oid) {
                self.writer.drop_table(oid);
            }
        }
        self.stream = None;
        self.tables.clear();
        self.relations.clear();
        self.shared.catalog.swap(catalog);
        for image in images {
            let schema = Arc::clone(image.schema());
            self.tables.insert(schema.oid, AppliedTable::live(schema, at));
            self.writer.load(image);
        }
        self.decoder = Decoder::default();
        self.transactions = Transactions::new(self.shared.max_transaction_bytes);
        self.applied = Lsn::ZERO;
        self.reached = at;
        self.live_at = Some(live_at);
        for oid in kept {
            self.shared.status.update_table(oid, |s| {
                s.state = TableState::CatchingUp;
                s.reason = None;
                s.last_refresh = Some(SystemTime::now());
            });
        }
        self.writer.publish_restart(at);
        self.shared.watermark.set(at);
        self.dirty = false;
        self.broken = false;
    }

    /// Publishes what the batch brought, lets finished copies in, and tells how far we are.
    fn finish_batch(&mut self) {
        if !self.transactions.is_open() {
            self.catch_up();
        }
        if self.dirty {
            self.writer.publish(self.reached);
            self.dirty = false;
        } else {
            self.writer.advance(self.reached);
        }
        if let Some(live_at) = self.live_at
            && self.reached >= live_at
        {
            self.live_at = None;
            let waiting: Vec<TableOid> = self
                .tables
                .values()
                .filter(|t| matches!(t.life, Life::Live))
                .map(AppliedTable::oid)
                .collect();
            for oid in waiting {
                self.go_live(oid);
            }
        }
        let mut positions = None;
        if let Some(stream) = &self.stream {
            let progress = stream.progress();
            // After a copy we can be ahead of what this stream has named so far.
            let received = progress.received();
            let named = self.reached.min(received);
            progress.set_applied(named);
            progress.set_flushed(named);
            positions = Some((received, progress.flushed()));
        }
        self.shared.watermark.set(self.reached);
        let (applied, reached, heard_at) = (self.applied, self.reached, self.heard_at);
        self.shared.status.update_replication(|s| {
            s.applied_lsn = applied;
            s.watermark_lsn = reached;
            s.last_message = heard_at.or(s.last_message);
            if let Some((received, flushed)) = positions {
                s.received_lsn = received;
                s.flushed_lsn = flushed;
            }
        });
        if self.sizes_at.is_none_or(|at| at.elapsed() >= SIZE_INTERVAL) {
            self.measure();
        }
    }

    fn catch_up(&mut self) {
        let reached = self.reached;
        let mut live = Vec::new();
        let mut failed = Vec::new();
        for table in self.tables.values_mut() {
            match table.catch_up(&mut self.writer, reached) {
                Ok(true) => live.push(table.oid()),
                Ok(false) => {}
                Err(error) => failed.push((table.oid(), error)),
            }
        }
        if !live.is_empty() {
            self.writer.publish(reached);
            self.dirty = false;
        }
        for oid in live {
            self.go_live(oid);
        }
        for (oid, error) in failed {
            self.apply_failed(oid, &error);
        }
    }

    fn go_live(&mut self, oid: TableOid) {
        self.writer.set_live(oid, true);
        self.shared.status.update_table(oid, |s| {
            s.state = TableState::Live;
            s.reason = None;
            s.last_refresh = Some(SystemTime::now());
        });
        if let Some(table) = self.tables.get(&oid) {
            tracing::info!(table = table.name(), rows = self.writer.size(oid).rows, "table is live");
        }
        self.sizes_at = None;
    }

    fn measure(&mut self) {
        self.sizes_at = Some(Instant::now());
        for table in self.tables.values_mut() {
            let size = self.writer.size(table.oid());
            let changed = table.changed_at.take();
            self.shared.status.update_table(table.oid(), |s| {
                s.rows = size.rows;
                s.bytes = size.bytes;
                if let Some(lsn) = changed {
                    s.lsn = lsn;
                    s.last_change = Some(SystemTime::now());
                }
            });
        }
    }
}

impl Event {
    /// Whether frames of the stream so far are not to be applied any more.
    fn replaces_stream(&self) -> bool {
        matches!(self, Event::Bootstrapped(_) | Event::StreamBegins(_) | Event::Distrust)
    }
}

/// Waits for frames; pends while there is no stream. Cancel safe.
async fn next(stream: &mut Option<StreamReader>, frames: &mut Vec<Frame>) -> bool {
    match stream {
        Some(stream) => stream.next(frames).await,
        None => std::future::pending().await,
    }
}

/// Ends all reading if the applier dies within a change.
struct PoisonOnPanic(Arc<crate::store::Store>);

impl Drop for PoisonOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison();
        }
    }
}
