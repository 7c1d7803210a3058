//! The versioned in-memory tables.
//!
//! One [`Writer`] appends row versions and publishes; any number of [`Snapshot`]s read, each at one
//! version of all tables together. Nothing a reader sees ever changes: rows are written under a
//! version that becomes visible last, by one store, and what is deleted stays until the last
//! snapshot before the delete is gone.

mod chunk;
mod column;
mod generation;
mod index;
mod snapshot;
mod tail;
mod tracker;
mod writer;

#[cfg(test)]
mod tests;

pub use chunk::{Chunk, ChunkBuilder, Row, RowRef};
pub use snapshot::{Snapshot, TableView};
pub use writer::{StoreError, TableImage, TableSize, Writer};

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;

use crate::types::{Lsn, TableOid};
use generation::Generation;
use tracker::Tracker;

/// The tables. Shared by all; changed through its one [`Writer`] only.
#[derive(Debug, Default)]
pub struct Store {
    tables: ArcSwap<HashMap<TableOid, Arc<Table>>>,
    tracker: Tracker,
    /// The writer died in the middle of a change: nothing may be read any more.
    poisoned: AtomicBool,
}

/// A table's generations, oldest first.
#[derive(Debug)]
struct Table {
    generations: ArcSwap<Vec<Arc<Generation>>>,
    /// Whether queries may read it.
    live: AtomicBool,
}

impl Store {
    /// A new store and its writer.
    pub fn new() -> (Arc<Store>, Writer) {
        let store = Arc::new(Store::default());
        let writer = Writer::new(Arc::clone(&store));
        (store, writer)
    }

    /// What is visible now; held until the snapshot is dropped.
    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        Snapshot::open(Arc::clone(self))
    }

    /// Everything that the primary committed up to here is visible.
    pub fn lsn(&self) -> Lsn {
        self.tracker.visible().lsn
    }

    /// Ends all reading: the writer failed within a change and what it holds is not to be trusted.
    pub fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    fn table(&self, oid: TableOid) -> Option<Arc<Table>> {
        self.tables.load().get(&oid).cloned()
    }
}
