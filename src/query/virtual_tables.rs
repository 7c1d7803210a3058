//! `millpond.tables` and `millpond.replication`: our own state as tables, for any role.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use super::scalar::Scalar;
use crate::{
    store::{ChunkBuilder, TableView},
    telemetry::status::Status,
    types::{
        AttNum, Collation, CollationOrder, ColumnSchema, Datum, Lsn, ReplicaIdentity, TableOid, TableSchema,
    },
};

/// From 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const EPOCH: Duration = Duration::from_secs(946_684_800);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VirtualTable {
    Tables,
    Replication,
}

impl VirtualTable {
    pub(crate) fn by_name(name: &str) -> Option<VirtualTable> {
        match name {
            "tables" => Some(VirtualTable::Tables),
            "replication" => Some(VirtualTable::Replication),
            _ => None,
        }
    }
}

pub(crate) fn schema(table: VirtualTable) -> Arc<TableSchema> {
    static TABLES: LazyLock<Arc<TableSchema>> = LazyLock::new(|| {
        make(
            "tables",
            &[
                ("schema", Scalar::Text),
                ("name", Scalar::Text),
                ("mode", Scalar::Text),
                ("state", Scalar::Text),
                ("reason", Scalar::Text),
                ("rows", Scalar::Int8),
                ("bytes", Scalar::Int8),
                ("copied_rows", Scalar::Int8),
                ("copied_bytes", Scalar::Int8),
                ("total_bytes", Scalar::Int8),
                ("lsn", Scalar::PgLsn),
                ("last_change", Scalar::TimestampTz),
                ("last_refresh", Scalar::TimestampTz),
            ],
        )
    });
    static REPLICATION: LazyLock<Arc<TableSchema>> = LazyLock::new(|| {
        make(
            "replication",
            &[
                ("mode", Scalar::Text),
                ("reason", Scalar::Text),
                ("state", Scalar::Text),
                ("slot", Scalar::Text),
                ("publication", Scalar::Text),
                ("system_id", Scalar::Text),
                ("timeline", Scalar::Int8),
                ("received_lsn", Scalar::PgLsn),
                ("applied_lsn", Scalar::PgLsn),
                ("watermark_lsn", Scalar::PgLsn),
                ("flushed_lsn", Scalar::PgLsn),
                ("lag_bytes", Scalar::Int8),
                ("lag_ms", Scalar::Int8),
                ("retained_wal_bytes", Scalar::Int8),
                ("reconnects", Scalar::Int8),
                ("last_error", Scalar::Text),
            ],
        )
    });
    Arc::clone(match table {
        VirtualTable::Tables => &TABLES,
        VirtualTable::Replication => &REPLICATION,
    })
}

/// The rows of this moment.
pub(crate) fn view(table: VirtualTable, status: &Status) -> TableView {
    let schema = schema(table);
    let mut chunk = ChunkBuilder::new(&schema);
    match table {
        VirtualTable::Tables => {
            for table in status.tables() {
                chunk.push(&[
                    text(&table.schema),
                    text(&table.name),
                    text(table.mode),
                    text(&table.state.to_string()),
                    table.reason.as_deref().map_or(Datum::Null, text),
                    int(table.rows),
                    int(table.bytes),
                    int(table.copied_rows),
                    int(table.copied_bytes),
                    int(table.total_bytes),
                    Datum::Bytes(&lsn(table.lsn)),
                    timestamp(table.last_change),
                    timestamp(table.last_refresh),
                ]);
            }
        }
        VirtualTable::Replication => {
            let status = status.replication();
            chunk.push(&[
                text(&status.mode),
                text(&status.reason),
                text(&status.state.to_string()),
                text(&status.slot),
                text(&status.publication),
                text(&status.system_id),
                int(u64::from(status.timeline)),
                Datum::Bytes(&lsn(status.received_lsn)),
                Datum::Bytes(&lsn(status.applied_lsn)),
                Datum::Bytes(&lsn(status.watermark_lsn)),
                Datum::Bytes(&lsn(status.flushed_lsn)),
                int(status.lag_bytes),
                int(status.lag_ms),
                int(status.retained_wal_bytes),
                int(status.reconnects),
                status.last_error.as_deref().map_or(Datum::Null, text),
            ]);
        }
    }
    TableView::of_chunks(schema, vec![Arc::new(chunk.finish())])
}

fn make(name: &str, columns: &[(&str, Scalar)]) -> Arc<TableSchema> {
    /// `pg_collation.oid` of "C".
    const C_COLLATION: u32 = 950;
    let columns = columns
        .iter()
        .zip(1..)
        .map(|((name, scalar), attnum)| ColumnSchema {
            name: (*name).to_owned(),
            attnum: AttNum(attnum),
            pg_type: scalar.pg_type(),
            typmod: -1,
            not_null: false,
            collation: match scalar {
                Scalar::Text => Collation { oid: C_COLLATION, order: CollationOrder::Bytes },
                _ => Collation::NONE,
            },
        })
        .collect();
    Arc::new(TableSchema {
        oid: TableOid(0),
        schema: "millpond".to_owned(),
        name: name.to_owned(),
        columns,
        unmirrored: Vec::new(),
        identity: ReplicaIdentity::Nothing,
        indexes: Vec::new(),
        partitioned: false,
    })
}

fn text(text: &str) -> Datum<'_> {
    Datum::Bytes(text.as_bytes())
}

fn int(value: u64) -> Datum<'static> {
    Datum::Int8(i64::try_from(value).unwrap_or(i64::MAX))
}

fn lsn(lsn: Lsn) -> [u8; 8] {
    lsn.0.to_be_bytes()
}

fn timestamp(time: Option<SystemTime>) -> Datum<'static> {
    let since = time.and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok());
    match since.and_then(|s| s.checked_sub(EPOCH)).and_then(|s| i64::try_from(s.as_micros()).ok()) {
        Some(us) => Datum::Int8(us),
        None => Datum::Null,
    }
}
