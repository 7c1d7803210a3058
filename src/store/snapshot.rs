//! A reader's view: all tables at one version.

use std::{
    ops::{Bound, ControlFlow},
    sync::{Arc, atomic::Ordering},
};

use super::{
    Store,
    chunk::{Chunk, RowRef},
    generation::Generation,
};
use crate::types::{CommitVersion, Datum, Lsn, TableOid, TableSchema};

/// All tables at one version. Its drop lets older row versions go.
#[derive(Debug)]
pub struct Snapshot {
    store: Arc<Store>,
    version: CommitVersion,
    lsn: Lsn,
}

impl Snapshot {
    pub(super) fn open(store: Arc<Store>) -> Snapshot {
        let visible = store.tracker.open();
        Snapshot { store, version: visible.version, lsn: visible.lsn }
    }

    pub fn version(&self) -> CommitVersion {
        self.version
    }

    /// The snapshot is the primary's state after every commit up to here, and none after.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// A table, unless it is unknown here or may not be read (loading, quarantined).
    pub fn table(&self, oid: TableOid) -> Option<TableView> {
        if self.store.poisoned.load(Ordering::Acquire) {
            return None;
        }
        let table = self.store.table(oid)?;
        if !table.live.load(Ordering::Acquire) {
            return None;
        }
        let generations = table.generations.load();
        let generation = generations.iter().rev().find(|g| g.begin <= self.version.0)?;
        Some(TableView {
            schema: Arc::clone(&generation.schema),
            version: self.version,
            rows: Rows::Stored(Arc::clone(generation)),
        })
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.store.tracker.close(self.version);
    }
}

/// One table at a snapshot's version; valid while the snapshot lives.
#[derive(Clone, Debug)]
pub struct TableView {
    schema: Arc<TableSchema>,
    version: CommitVersion,
    rows: Rows,
}

#[derive(Clone, Debug)]
enum Rows {
    Stored(Arc<Generation>),
    Built(Vec<Arc<Chunk>>),
}

impl TableView {
    /// A table made of chunks on the spot, without indexes: all rows are visible.
    pub fn of_chunks(schema: Arc<TableSchema>, chunks: Vec<Arc<Chunk>>) -> TableView {
        TableView { schema, version: CommitVersion(0), rows: Rows::Built(chunks) }
    }

    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    pub fn version(&self) -> CommitVersion {
        self.version
    }

    /// About how many rows there are.
    pub fn row_estimate(&self) -> usize {
        match &self.rows {
            Rows::Stored(generation) => {
                usize::try_from(generation.live_rows.load(Ordering::Relaxed)).unwrap_or(0)
            }
            Rows::Built(chunks) => chunks.iter().map(|c| c.len() as usize).sum(),
        }
    }

    /// The chunks to scan; the rows to see are `chunk.rows(view.version())`.
    pub fn chunks(&self) -> Vec<Arc<Chunk>> {
        match &self.rows {
            Rows::Stored(generation) => generation.directory().chunks.clone(),
            Rows::Built(chunks) => chunks.clone(),
        }
    }

    /// Visits the rows whose columns of index `index` (a position in `schema().indexes`) equal
    /// `key`: all columns of a hash index, a prefix of an ordered one. NULL equals nothing.
    pub fn lookup(&self, index: usize, key: &[Datum<'_>], visit: &mut dyn FnMut(RowRef) -> ControlFlow<()>) {
        if let Rows::Stored(generation) = &self.rows {
            generation.lookup(index, key, &mut |row| self.visit_visible(row, visit));
        }
    }

    /// Visits the rows of an ordered index whose first columns equal `prefix` and whose next column
    /// is within the bounds: ascending with NULLs last, or, `reverse`, descending with NULLs first.
    /// NULLs are within no bound, and included where both are unbounded.
    pub fn range(
        &self,
        index: usize,
        prefix: &[Datum<'_>],
        lower: Bound<Datum<'_>>,
        upper: Bound<Datum<'_>>,
        reverse: bool,
        visit: &mut dyn FnMut(RowRef) -> ControlFlow<()>,
    ) {
        if let Rows::Stored(generation) = &self.rows {
            generation.range(index, prefix, lower, upper, reverse, &mut |row| self.visit_visible(row, visit));
        }
    }

    fn visit_visible(
        &self,
        row: RowRef,
        visit: &mut dyn FnMut(RowRef) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if row.chunk.row(self.version, row.number).is_some() { visit(row) } else { ControlFlow::Continue(()) }
    }
}
