//! The copy of all tables at one exported snapshot, by several sessions side by side.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    SourceError,
    copy_plan::{lock_statement, ranges},
    copy_report::{REFRESH, Report, TableCopy},
    copy_worker::{Command, Work, Worker, lost},
};
use crate::{primary::Target, telemetry::status::Status, types::TableSchema};

/// A table to copy.
#[derive(Clone, Debug)]
pub struct CopyTable {
    pub schema: Arc<TableSchema>,
    /// `pg_class.relpages` or better; only a hint for cutting it into ranges.
    pub pages: u64,
    /// `pg_table_size`, for the progress report.
    pub total_bytes: u64,
}

/// Who takes the rows.
pub trait CopySink: Send + Sync {
    /// Called for each range of each table, on the thread that copies it; ranges of one table run side
    /// by side.
    fn open(&self, table: &Arc<TableSchema>) -> Box<dyn CopyConsumer>;

    /// Whether all values are to come as text. A copy must be made of what its stream is made of: a few
    /// values (an array that lost its last NULL, a NaN with a sign) have more than one binary form and
    /// one text, and rows are told apart by what is stored.
    fn as_text(&self) -> bool {
        false
    }
}

/// Takes one range of one table: a binary COPY stream of its own, header first, trailer last. Dropped
/// without `finish` when the copy fails.
pub trait CopyConsumer: Send {
    /// The payload of one CopyData message; gives the number of rows in it. The primary sends one row
    /// a message, the header together with the first.
    fn data(&mut self, payload: &[u8]) -> Result<u64, String>;

    /// The range is complete, and the primary counted the same rows.
    fn finish(self: Box<Self>) -> Result<(), String>;
}

/// What a copy brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CopyTotals {
    pub tables: usize,
    pub rows: u64,
    pub bytes: u64,
    pub elapsed: Duration,
}

/// The copying sessions. They hold ACCESS SHARE locks on all tables until the copy ends or this is
/// dropped: nobody can rewrite a table between the snapshot and its copy.
pub struct Copier {
    tables: Vec<CopyTable>,
    workers: Vec<Worker>,
}

impl Copier {
    /// Opens the sessions, and takes all locks in each: a session that took its lock later could wait
    /// behind a rewrite that waits for another session, and then copy nothing.
    ///
    /// `lock_timeout` bounds the wait, so that our request does not stand for long in front of the
    /// application's.
    ///
    /// # Errors
    /// [`SourceError::Lock`] when a table is gone, out of reach or locked for too long.
    pub async fn prepare(
        target: &Target,
        mut tables: Vec<CopyTable>,
        workers: usize,
        lock_timeout: Duration,
    ) -> Result<Copier, SourceError> {
        // One order for all sessions, ours and those of other caches.
        tables.sort_by_key(|t| t.schema.oid);
        let mut begin = vec![
            "begin isolation level repeatable read read only".to_owned(),
            format!("set local lock_timeout = {}", lock_timeout.as_millis().clamp(1, i32::MAX as u128)),
        ];
        begin.extend(lock_statement(&tables));
        let begin: Arc<[String]> = begin.into();
        let wanted = workers.clamp(1, ranges(&tables).0.len().max(1));
        let starts = (0..wanted).map(|n| Worker::start(n, target.clone(), Arc::clone(&begin)));
        let workers = futures_util::future::try_join_all(starts).await?;
        Ok(Copier { tables, workers })
    }

    /// The sessions' backends.
    pub fn process_ids(&self) -> Vec<i32> {
        self.workers.iter().map(|w| w.process_id).collect()
    }

    /// Puts every session on the exported snapshot. After that the replication connection is free.
    ///
    /// # Errors
    /// [`SourceError::SnapshotGone`] when the replication connection said or lost something meanwhile.
    pub async fn import(&mut self, snapshot_name: &str) -> Result<(), SourceError> {
        let mut waiting = Vec::new();
        for worker in &self.workers {
            let (done, imported) = oneshot::channel();
            let command = Command::Import { snapshot: snapshot_name.to_owned(), done };
            worker.commands.send(command).map_err(|_| lost())?;
            waiting.push(imported);
        }
        for imported in waiting {
            imported.await.unwrap_or_else(|_| Err(lost()))?;
        }
        Ok(())
    }

    /// Copies everything; the first failure ends all sessions. Dropping the future does so too.
    pub async fn run(self, sink: Arc<dyn CopySink>, status: Arc<Status>) -> Result<CopyTotals, SourceError> {
        let (ranges, counts) = ranges(&self.tables);
        let tables: Vec<TableCopy> = self
            .tables
            .iter()
            .zip(counts)
            .map(|(t, ranges)| TableCopy::new(Arc::clone(&t.schema), t.total_bytes, ranges))
            .collect();
        let tables = Arc::new(tables);
        let (stop, stopped) = watch::channel(false);
        let work =
            Arc::new(Work { ranges: Mutex::new(ranges), tables: Arc::clone(&tables), sink, stop: stopped });
        let mut report = Report::new(tables, status);
        let (done, mut results) = mpsc::unbounded_channel();
        for worker in &self.workers {
            let command = Command::Copy { work: Arc::clone(&work), done: done.clone() };
            worker.commands.send(command).map_err(|_| lost())?;
        }
        drop((done, work));
        let mut left = self.workers.len();
        let mut tick = tokio::time::interval(REFRESH);
        while left > 0 {
            tokio::select! {
                biased;
                // 1. A session is done, or failed, or is gone.
                result = results.recv() => match result {
                    Some(Ok(())) => left -= 1,
                    Some(Err(error)) => {
                        stop.send_replace(true);
                        return Err(error);
                    }
                    None => return Err(lost()),
                },
                // 2. Show how far it is.
                _ = tick.tick() => report.refresh(),
            }
        }
        let (rows, bytes, elapsed) = report.finish();
        Ok(CopyTotals { tables: self.tables.len(), rows, bytes, elapsed })
    }
}
