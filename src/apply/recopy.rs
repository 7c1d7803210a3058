//! One table copied again, or for the first time, while the others go on.
//!
//! A temporary slot is made only for its exported snapshot: the main stream already brings the table's
//! changes, and the applier keeps them until the copy is there.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use super::{
    applier::Event,
    bootstrap::{copy_tables, is_binary, show_tables},
    catalog_sender::CatalogSender,
    fit::LeftOut,
    initial_copy::Images,
    supervisor::SupervisorError,
};
use crate::{
    config::Config,
    primary::{Target, client},
    source::{Copier, ReplicationConnection, SlotWait, publication, schema},
    telemetry::status::{Status, TableState},
    types::TableOid,
};

/// First and longest pause before a table is copied again: a table that cannot be applied must not
/// keep the primary copying.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A table that stayed well this long after its copy starts again without a pause.
const WELL_AFTER: Duration = Duration::from_secs(10);

/// Which tables wait to be copied, one at a time.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: HashMap<TableOid, Instant>,
    histories: HashMap<TableOid, History>,
}

/// How often a table was copied without staying well.
#[derive(Debug, Default)]
struct History {
    attempts: u32,
    copied: Option<Instant>,
}

impl Queue {
    /// Enters a table; asking twice is asking once.
    pub(super) fn push(&mut self, table: TableOid) {
        if self.waiting.contains_key(&table) {
            return;
        }
        let history = self.histories.entry(table).or_default();
        if history.copied.take().is_some_and(|copied| copied.elapsed() > WELL_AFTER) {
            history.attempts = 0;
        }
        let pause = match history.attempts {
            0 => Duration::ZERO,
            attempts => PAUSE_MIN.saturating_mul(1 << (attempts - 1).min(10)).min(PAUSE_MAX),
        };
        history.attempts += 1;
        self.waiting.insert(table, Instant::now() + pause);
    }

    /// The table's copy has succeeded.
    pub(super) fn copied(&mut self, table: TableOid) {
        self.histories.entry(table).or_default().copied = Some(Instant::now());
    }

    pub(super) fn remove(&mut self, table: TableOid) {
        self.waiting.remove(&table);
    }

    /// The next table, when its time has come. Pends while there is none.
    pub(super) async fn next(&mut self) -> TableOid {
        let Some((table, due)) = self.waiting.iter().min_by_key(|(_, due)| **due).map(|(t, d)| (*t, *d))
        else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(due).await;
        self.waiting.remove(&table);
        table
    }
}

/// How a copy of one table ended.
pub(super) enum Outcome {
    /// The applier has it.
    Copied,
    /// The table is gone or cannot be mirrored any more.
    Gone,
    /// With it, the tables would take more memory than allowed.
    DoesNotFit { needed: u64, held: u64 },
    /// It has a type that the running binary stream cannot carry: everything begins again.
    NeedsTextStream,
}

/// Copies one table.
pub(super) async fn recopy(
    table: TableOid,
    config: &Config,
    target: &Target,
    status: &Arc<Status>,
    catalogs: &CatalogSender,
    binary: bool,
    left_out: &LeftOut,
) -> Result<Outcome, SupervisorError> {
    let events = catalogs.events();
    let sql = client(target, "millpond: catalogue").await?;
    let publication_name = config.replication.publication.as_str();
    let mut catalog = schema::load(&sql, &config.tables, Some(publication_name)).await?;
    left_out.apply(&mut catalog);
    let Some(schema) = catalog.tables.get(&table).cloned() else {
        show_tables(status, &catalog);
        send(events, Event::Drop(table)).await?;
        catalogs.send(catalog).await?;
        return Ok(Outcome::Gone);
    };
    if binary && !is_binary(&schema) {
        return Ok(Outcome::NeedsTextStream);
    }
    let schemas = super::bootstrap::sorted_schemas(&catalog);
    let tables = copy_tables(&sql, std::slice::from_ref(&schema)).await?;
    let held: u64 = status.tables().iter().filter(|t| t.oid != table).map(|t| t.bytes).sum();
    let needed = tables.iter().map(|t| t.total_bytes).sum();
    if held.saturating_add(needed) > config.memory.max_bytes {
        return Ok(Outcome::DoesNotFit { needed, held });
    }
    publication::ensure(&sql, publication_name, &schemas).await?;
    show_tables(status, &catalog);
    let mut copier = Copier::prepare(target, tables, 1, config.replication.lock_timeout).await?;
    // Read again under the lock.
    let mut again = schema::load(&sql, &config.tables, Some(publication_name)).await?;
    left_out.apply(&mut again);
    if again.tables.get(&table) != Some(&schema) {
        return Err(SupervisorError::CatalogMoved);
    }
    catalog = again;
    let schema = catalog.tables.get(&table).cloned().ok_or(SupervisorError::CatalogMoved)?;
    // From here on the applier keeps the table's changes: everything that commits after the snapshot
    // that is about to be made.
    catalogs.send(catalog).await?;
    send(events, Event::CopyBegins(Arc::clone(&schema))).await?;
    status.update_table(table, |s| s.state = TableState::Copying);
    let mut connection = ReplicationConnection::connect(target).await?;
    let lock_holders = copier.process_ids();
    let wait = SlotWait {
        timeout: config.replication.slot_timeout,
        lock_holders: &lock_holders,
        status: status.as_ref(),
    };
    let name = temporary_slot_name(&config.replication.slot);
    let exported = connection.create_slot(target, &name, true, wait).await?;
    copier.import(&exported.snapshot_name).await?;
    drop(connection);
    let images = Arc::new(Images::new(binary));
    copier.run(Arc::clone(&images) as _, Arc::clone(status)).await?;
    let built = tokio::task::spawn_blocking(move || images.build(&[schema], 1));
    let built = built.await.map_err(|_| SupervisorError::Panicked("building a table image"))?;
    for image in built {
        send(events, Event::Copied { image: Box::new(image), at: exported.consistent_point }).await?;
    }
    Ok(Outcome::Copied)
}

/// A name that no other process uses: temporary slots share their namespace with all others.
pub(super) fn temporary_slot_name(base: &str) -> String {
    // 63 bytes are the limit of a name.
    let base: String = base.chars().take(50).collect();
    format!("{base}_{:08x}", rand::random::<u32>())
}

pub(super) async fn send(events: &mpsc::Sender<Event>, event: Event) -> Result<(), SupervisorError> {
    events.send(event).await.map_err(|_| SupervisorError::Panicked("the applier"))
}
