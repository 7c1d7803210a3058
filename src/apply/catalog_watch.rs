//! Compares the primary's catalogue with ours, again and again: much of what changes answers there
//! sends nothing through the stream.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::supervisor::SupervisorError;
use crate::{
    catalog::Catalog,
    config::Config,
    primary::{Target, client},
    source::schema,
    telemetry::status::Status,
    types::Lsn,
};

/// What one look has found.
pub(super) struct Look {
    /// Whole, if it is another one than at the last look; the receiver compares.
    pub(super) catalog: Option<Catalog>,
    /// Flushed when the look began: changes of definition up to here were seen.
    pub(super) at: Lsn,
}

/// Runs until nobody listens.
pub(super) async fn watch(
    config: Arc<Config>,
    target: Target,
    status: Arc<Status>,
    slot: String,
    news: mpsc::Sender<Look>,
) {
    let mut known = None;
    let mut ticks = interval(config.replication.catalog_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sql = None;
    while !news.is_closed() {
        ticks.tick().await;
        match look(&config, &target, &status, &slot, &mut sql, &mut known).await {
            Ok(look) => {
                if news.send(look).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // The stream notices a lost primary too, and its reconnect is the remedy.
                tracing::warn!(%error, "cannot compare the primary's catalogue with ours");
                sql = None;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// One look.
async fn look(
    config: &Config,
    target: &Target,
    status: &Status,
    slot: &str,
    connection: &mut Option<tokio_postgres::Client>,
    known: &mut Option<String>,
) -> Result<Look, SupervisorError> {
    let sql = match connection {
        Some(sql) => sql,
        none => none.insert(client(target, "millpond: catalogue").await?),
    };
    let row = sql.query_one(include_str!("../../sql/slot_status.sql"), &[&slot]).await?;
    let flushed: String = row.get(0);
    let retained: Option<i64> = row.get(1);
    let flushed: Lsn =
        flushed.parse().map_err(|_| SupervisorError::Answer("sql/slot_status.sql", flushed))?;
    status.update_replication(|s| {
        s.lag_bytes = flushed.bytes_since(s.watermark_lsn);
        s.retained_wal_bytes = u64::try_from(retained.unwrap_or(0)).unwrap_or(0);
    });
    let fingerprint = schema::fingerprint(sql).await?;
    if known.as_ref() == Some(&fingerprint) {
        return Ok(Look { catalog: None, at: flushed });
    }
    let catalog = schema::load(sql, &config.tables, Some(&config.replication.publication)).await?;
    *known = Some(fingerprint);
    Ok(Look { catalog: Some(catalog), at: flushed })
}
