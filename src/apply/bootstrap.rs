//! The full copy: all tables at the exported snapshot of a new slot.

use std::sync::Arc;

use super::{applier::Bootstrapped, fit::LeftOut, initial_copy::Images, supervisor::SupervisorError};
use crate::{
    catalog::Catalog,
    config::Config,
    primary::{Target, client},
    source::{Copier, CopyTable, ReplicationConnection, SlotWait, SystemIdentity, publication, schema},
    telemetry::status::{ReplicationState, Status, TableState},
    types::{Lsn, TableSchema},
};

/// A copy and the connection whose stream goes on where it ends.
pub(super) struct Ready {
    pub(super) bootstrapped: Bootstrapped,
    pub(super) connection: ReplicationConnection,
    pub(super) slot: String,
    /// Values can be streamed in binary: every type has a binary form that we know.
    pub(super) binary: bool,
    /// What does not fit into memory.
    pub(super) left_out: LeftOut,
}

/// Copies everything. The order of the steps is the hand-over rule (`source`'s documentation).
pub(super) async fn bootstrap(
    config: &Config,
    target: &Target,
    status: &Arc<Status>,
    mut connection: ReplicationConnection,
    identity: &SystemIdentity,
    slot: String,
) -> Result<Ready, SupervisorError> {
    let sql = client(target, "millpond: catalogue").await?;
    let publication_name = config.replication.publication.as_str();
    let mut first = schema::load(&sql, &config.tables, Some(publication_name)).await?;
    let chosen = copy_tables(&sql, &sorted_schemas(&first)).await?;
    let left_out = LeftOut::choose(&chosen, config.memory.max_bytes);
    left_out.apply(&mut first);
    let schemas = sorted_schemas(&first);
    publication::ensure(&sql, publication_name, &schemas).await?;
    show_tables(status, &first);
    for warning in &first.warnings {
        tracing::warn!("{warning}");
    }
    status.update_replication(|s| {
        s.state = ReplicationState::Copying;
        s.slot.clone_from(&slot);
        s.publication = publication_name.into();
        s.system_id.clone_from(&identity.system_id);
        s.timeline = identity.timeline;
    });
    let tables = copy_tables(&sql, &schemas).await?;
    let workers = config.replication.copy_workers;
    let mut copier = Copier::prepare(target, tables, workers, config.replication.lock_timeout).await?;
    // Read again under the locks: what is copied has the shape that we think it has.
    let mut catalog = schema::load(&sql, &config.tables, Some(publication_name)).await?;
    left_out.apply(&mut catalog);
    if sorted_schemas(&catalog) != schemas {
        return Err(SupervisorError::CatalogMoved);
    }
    let permanent = config.replication.checkpoint_dir.is_some();
    let lock_holders = copier.process_ids();
    let wait = SlotWait {
        timeout: config.replication.slot_timeout,
        lock_holders: &lock_holders,
        status: status.as_ref(),
    };
    let exported = connection.create_slot(target, &slot, !permanent, wait).await?;
    copier.import(&exported.snapshot_name).await?;
    let binary = schemas.iter().all(|schema| is_binary(schema));
    let images = Arc::new(Images::new(binary));
    let totals = copier.run(Arc::clone(&images) as _, Arc::clone(status)).await?;
    let built = tokio::task::spawn_blocking({
        let schemas = schemas.clone();
        move || images.build(&schemas, workers)
    })
    .await
    .map_err(|_| SupervisorError::Panicked("building table images"))?;
    let live_at = flush_lsn(&sql).await?;
    tracing::info!(
        tables = totals.tables,
        rows = totals.rows,
        bytes = totals.bytes,
        elapsed_ms = totals.elapsed.as_millis() as u64,
        lsn = %exported.consistent_point,
        "all tables copied"
    );
    Ok(Ready {
        bootstrapped: Bootstrapped { catalog, images: built, at: exported.consistent_point, live_at },
        connection,
        slot: exported.slot,
        binary,
        left_out,
    })
}

/// Whether a table's changes can be streamed in binary.
pub(super) fn is_binary(schema: &TableSchema) -> bool {
    schema.columns.iter().all(|column| !column.pg_type.is_opaque())
}

pub(super) fn sorted_schemas(catalog: &Catalog) -> Vec<Arc<TableSchema>> {
    let mut schemas: Vec<Arc<TableSchema>> = catalog.tables.values().cloned().collect();
    schemas.sort_by_key(|schema| schema.oid);
    schemas
}

/// What the copy needs to know of the tables' sizes.
pub(super) async fn copy_tables(
    sql: &tokio_postgres::Client,
    schemas: &[Arc<TableSchema>],
) -> Result<Vec<CopyTable>, SupervisorError> {
    let oids: Vec<u32> = schemas.iter().map(|schema| schema.oid.0).collect();
    let rows = sql.query(include_str!("../../sql/table_sizes.sql"), &[&oids]).await?;
    Ok(schemas
        .iter()
        .map(|schema| {
            let row = rows.iter().find(|row| row.get::<_, u32>(0) == schema.oid.0);
            let size = |column: usize| {
                let value: Option<i64> = row.map(|row| row.get(column));
                u64::try_from(value.unwrap_or(0)).unwrap_or(0)
            };
            CopyTable { schema: Arc::clone(schema), pages: size(1), total_bytes: size(2) }
        })
        .collect())
}

/// The end of the log that has reached the primary's disk, which is as far as a stream can come.
pub(super) async fn flush_lsn(sql: &tokio_postgres::Client) -> Result<Lsn, SupervisorError> {
    let row = sql.query_one("select pg_catalog.pg_current_wal_flush_lsn()::text", &[]).await?;
    let text: String = row.get(0);
    text.parse().map_err(|_| SupervisorError::Answer("pg_current_wal_flush_lsn", text))
}

/// Enters the chosen tables into the status: those to copy, and those that the primary answers.
pub(super) fn show_tables(status: &Status, catalog: &Catalog) {
    for table in status.tables() {
        let chosen = catalog.tables.contains_key(&table.oid);
        if !chosen && !catalog.unsupported.iter().any(|u| u.oid == table.oid) {
            status.remove_table(table.oid);
        }
    }
    for schema in catalog.tables.values() {
        status.update_table(schema.oid, |s| {
            s.schema.clone_from(&schema.schema);
            s.name.clone_from(&schema.name);
            if s.state == TableState::Unsupported {
                s.state = TableState::Pending;
                s.reason = None;
            }
        });
    }
    for table in &catalog.unsupported {
        let known = status.table(table.oid).is_some_and(|s| s.state == TableState::Unsupported);
        if !known {
            tracing::warn!(
                table = format!("{}.{}", table.schema, table.name),
                reason = table.reason,
                "table is not mirrored; the primary answers for it"
            );
        }
        status.update_table(table.oid, |s| {
            s.schema.clone_from(&table.schema);
            s.name.clone_from(&table.name);
            s.state = TableState::Unsupported;
            s.reason = Some(table.reason.clone());
        });
    }
}
