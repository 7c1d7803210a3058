//! Progress and states as plain data: written by `source` and `apply`, read by the `millpond.*`
//! views, the metrics and the readiness check.

use std::{collections::BTreeMap, fmt, time::SystemTime};

use parking_lot::RwLock;

use crate::types::{Lsn, TableOid};

/// Everything that is shown of the running program. Locks are held for the time of a copy only.
#[derive(Debug, Default)]
pub struct Status {
    tables: RwLock<BTreeMap<TableOid, TableStatus>>,
    replication: RwLock<ReplicationStatus>,
}

impl Status {
    /// All tables, in order of OID.
    pub fn tables(&self) -> Vec<TableStatus> {
        self.tables.read().values().cloned().collect()
    }

    pub fn table(&self, oid: TableOid) -> Option<TableStatus> {
        self.tables.read().get(&oid).cloned()
    }

    /// Changes one table's status, creating it first where it is new.
    pub fn update_table(&self, oid: TableOid, change: impl FnOnce(&mut TableStatus)) {
        change(self.tables.write().entry(oid).or_insert_with(|| TableStatus::new(oid)));
    }

    pub fn remove_table(&self, oid: TableOid) {
        self.tables.write().remove(&oid);
    }

    /// The lag in time is that of now: how long ago the primary last proved our position.
    pub fn replication(&self) -> ReplicationStatus {
        let mut replication = self.replication.read().clone();
        if let Some(last) = replication.last_message {
            replication.lag_ms = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
        }
        replication
    }

    pub fn update_replication(&self, change: impl FnOnce(&mut ReplicationStatus)) {
        change(&mut self.replication.write());
    }
}

/// A row of `millpond.tables`.
#[derive(Clone, Debug)]
pub struct TableStatus {
    pub oid: TableOid,
    pub schema: String,
    pub name: String,
    pub mode: &'static str,
    pub state: TableState,
    /// Why it is quarantined or unsupported.
    pub reason: Option<String>,
    pub rows: u64,
    pub bytes: u64,
    pub copied_rows: u64,
    pub copied_bytes: u64,
    /// The primary's estimate (`pg_table_size`) before the copy.
    pub total_bytes: u64,
    /// The commit that last changed it here.
    pub lsn: Lsn,
    pub last_change: Option<SystemTime>,
    pub last_refresh: Option<SystemTime>,
}

impl TableStatus {
    fn new(oid: TableOid) -> TableStatus {
        TableStatus {
            oid,
            schema: String::new(),
            name: String::new(),
            mode: "mirror",
            state: TableState::Pending,
            reason: None,
            rows: 0,
            bytes: 0,
            copied_rows: 0,
            copied_bytes: 0,
            total_bytes: 0,
            lsn: Lsn::ZERO,
            last_change: None,
            last_refresh: None,
        }
    }
}

/// The life of a mirrored table. Queries are answered from memory in `Live` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableState {
    /// Chosen; set when the catalogue is read. Waits for its copy.
    Pending,
    /// Rows are being copied at the exported snapshot; set by the copy, which waits for its end.
    Copying,
    /// Copied; set at the end of the copy. Waits for the stream to reach where the primary was then.
    CatchingUp,
    /// Complete at every commit from here on; set by `apply`.
    Live,
    /// A change could not be applied; set by `apply`. Waits to be copied again.
    Quarantined,
    /// Cannot be mirrored, see the reason; set by preflight. Waits for nobody.
    Unsupported,
}

impl fmt::Display for TableState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TableState::Pending => "pending",
            TableState::Copying => "copying",
            TableState::CatchingUp => "catching_up",
            TableState::Live => "live",
            TableState::Quarantined => "quarantined",
            TableState::Unsupported => "unsupported",
        })
    }
}

/// The row of `millpond.replication`.
#[derive(Clone, Debug, Default)]
pub struct ReplicationStatus {
    pub mode: String,
    /// Why this mode.
    pub reason: String,
    pub state: ReplicationState,
    pub slot: String,
    pub publication: String,
    pub system_id: String,
    pub timeline: u32,
    /// End of the last message read from the stream.
    pub received_lsn: Lsn,
    /// End of the last commit published here.
    pub applied_lsn: Lsn,
    /// Everything committed up to here is here.
    pub watermark_lsn: Lsn,
    /// What we acknowledged.
    pub flushed_lsn: Lsn,
    /// Age of the last message that proved progress, `None` before the first.
    pub last_message: Option<std::time::Instant>,
    pub lag_bytes: u64,
    pub lag_ms: u64,
    pub retained_wal_bytes: u64,
    pub reconnects: u64,
    pub last_error: Option<String>,
}

/// Where the change source is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplicationState {
    /// Reaching the primary.
    #[default]
    Connecting,
    /// Copying tables.
    Copying,
    /// Following the stream.
    Streaming,
    /// Lost the primary; reconnecting with back-off.
    Disconnected,
    /// Shutting down.
    Stopped,
}

impl fmt::Display for ReplicationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplicationState::Connecting => "connecting",
            ReplicationState::Copying => "copying",
            ReplicationState::Streaming => "streaming",
            ReplicationState::Disconnected => "disconnected",
            ReplicationState::Stopped => "stopped",
        })
    }
}
