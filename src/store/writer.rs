//! The one writer: changes under the next version, publishes, and clears away.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use hashbrown::DefaultHashBuilder;

use super::{
    Store, Table,
    chunk::{Chunk, LIVE, RowRef, Sealing},
    generation::{Directory, Generation, row_id},
};
use crate::types::{CommitVersion, Datum, Lsn, TableOid, TableSchema};

/// A sealed chunk is rewritten when this share of its rows is dead: half, so that each dead row moves one
/// live one. Under even updates a table then holds about a quarter more than its rows; at four in ten,
/// with a fifth more, moving index entries cost half as much again.
const COMPACT_DEAD_TENTHS: u32 = 5;

/// Rows that are cleared away after one publish, so that a burst of deletes cannot hold up the
/// commits behind it. About 10 ms of work.
const CLEAR_ROWS_MAX: usize = 20_000;

/// A change that the store cannot take: the copy and the stream do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("table {0} is not in the store")]
    NoTable(TableOid),
    #[error("the row to change is not in table {0}")]
    NoRow(TableOid),
    #[error("table {table} has {expected} columns, the row has {found}")]
    Columns { table: TableOid, expected: usize, found: usize },
}

/// Rows and heap bytes of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSize {
    pub rows: u64,
    pub bytes: u64,
}

/// A whole table, copied and indexed, on its way into the store. Building it is most of the work, and
/// any thread may do it.
#[derive(Debug)]
pub struct TableImage {
    generation: Generation,
}

impl TableImage {
    pub fn build(schema: Arc<TableSchema>, chunks: Vec<Chunk>) -> TableImage {
        TableImage { generation: Generation::new(schema, chunks) }
    }

    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.generation.schema
    }
}

/// Changes the store. There is one, and it is not cloned.
#[derive(Debug)]
pub struct Writer {
    store: Arc<Store>,
    /// What each table's changes go to: the last of its generations.
    current: HashMap<TableOid, Arc<Generation>, DefaultHashBuilder>,
    /// The version that the next publish makes visible; changes are written under it.
    next: u64,
    /// Row versions that have an end, in order of it.
    dying: VecDeque<Dying>,
    /// Chunks with many dead rows.
    to_compact: Vec<(Arc<Generation>, u32)>,
}

#[derive(Debug)]
struct Dying {
    end: u64,
    generation: Arc<Generation>,
    chunk: u32,
    number: u32,
}

impl Writer {
    pub(super) fn new(store: Arc<Store>) -> Writer {
        Writer { store, current: HashMap::default(), next: 1, dying: VecDeque::new(), to_compact: Vec::new() }
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Puts copied rows in place as a table's next generation, seen from the next publish on. A new
    /// table is not read before [`Writer::set_live`].
    pub fn load(&mut self, image: TableImage) {
        self.add_generation(image.generation);
    }

    /// Lets queries read a table, or stops them.
    pub fn set_live(&mut self, oid: TableOid, live: bool) {
        if let Some(table) = self.store.table(oid) {
            table.live.store(live, Ordering::Release);
        }
    }

    pub fn drop_table(&mut self, oid: TableOid) {
        let mut tables = HashMap::clone(&self.store.tables.load());
        tables.remove(&oid);
        self.store.tables.store(Arc::new(tables));
        self.current.remove(&oid);
    }

    /// The schema that a table's rows are written under now.
    pub fn schema(&self, oid: TableOid) -> Option<Arc<TableSchema>> {
        Some(Arc::clone(&self.generation(oid).ok()?.schema))
    }

    pub fn table_oids(&self) -> Vec<TableOid> {
        self.store.tables.load().keys().copied().collect()
    }

    pub fn size(&self, oid: TableOid) -> TableSize {
        self.generation(oid).map_or(TableSize::default(), |generation| TableSize {
            rows: u64::try_from(generation.live_rows.load(Ordering::Relaxed)).unwrap_or(0),
            bytes: generation.bytes() as u64,
        })
    }

    pub fn insert(&mut self, oid: TableOid, row: &[Datum<'_>]) -> Result<(), StoreError> {
        let generation = self.generation(oid)?;
        self.insert_into(oid, &generation, row)
    }

    /// The live row whose identity columns (`TableSchema::identity_index`) are exactly these.
    pub fn find(&self, oid: TableOid, identity: &[Datum<'_>]) -> Result<RowRef, StoreError> {
        self.generation(oid)?.find_identity(identity).ok_or(StoreError::NoRow(oid))
    }

    /// Ends a row that [`Writer::find`] gave.
    pub fn delete(&mut self, oid: TableOid, row: &RowRef) -> Result<(), StoreError> {
        let generation = self.generation(oid)?;
        self.delete_from(&generation, row);
        Ok(())
    }

    /// Replaces a row that [`Writer::find`] gave. `new` may borrow from the old one.
    pub fn update(&mut self, oid: TableOid, old: &RowRef, new: &[Datum<'_>]) -> Result<(), StoreError> {
        let generation = self.generation(oid)?;
        self.delete_from(&generation, old);
        self.insert_into(oid, &generation, new)
    }

    /// Empties a table.
    pub fn truncate(&mut self, oid: TableOid) -> Result<(), StoreError> {
        let schema = Arc::clone(&self.generation(oid)?.schema);
        self.add_generation(Generation::new(schema, Vec::new()));
        Ok(())
    }

    /// Makes everything written since the last publish visible at once, as the primary's state at
    /// `lsn`, and clears away what nobody can see any more.
    pub fn publish(&mut self, lsn: Lsn) -> CommitVersion {
        let version = CommitVersion(self.next);
        self.store.tracker.publish(version, lsn);
        self.next += 1;
        self.clear();
        version
    }

    /// As [`Writer::publish`], at a place in the log that may be behind the one before: the tables
    /// were copied anew from another history.
    pub fn publish_restart(&mut self, lsn: Lsn) -> CommitVersion {
        let version = CommitVersion(self.next);
        self.store.tracker.restart(version, lsn);
        self.next += 1;
        self.clear();
        version
    }

    /// Nothing more was committed up to here: the same version stands for a later place in the log.
    pub fn advance(&mut self, lsn: Lsn) {
        let visible = self.store.tracker.visible();
        self.store.tracker.publish(visible.version, lsn);
        if !self.dying.is_empty() || !self.to_compact.is_empty() {
            self.clear();
        }
    }

    fn generation(&self, oid: TableOid) -> Result<Arc<Generation>, StoreError> {
        self.current.get(&oid).cloned().ok_or(StoreError::NoTable(oid))
    }

    fn insert_into(
        &mut self,
        oid: TableOid,
        generation: &Arc<Generation>,
        row: &[Datum<'_>],
    ) -> Result<(), StoreError> {
        if row.len() != generation.physical.len() {
            let (expected, found) = (generation.physical.len(), row.len());
            return Err(StoreError::Columns { table: oid, expected, found });
        }
        let chunk = self.tail(generation);
        let number = chunk.push(self.next, row);
        generation.index_row(row_id(&RowRef { chunk, number }), row);
        generation.live_rows.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn delete_from(&mut self, generation: &Arc<Generation>, row: &RowRef) {
        row.chunk.end_row(row.number, self.next);
        row.chunk.dying.fetch_add(1, Ordering::Relaxed);
        generation.live_rows.fetch_sub(1, Ordering::Relaxed);
        self.dying.push_back(Dying {
            end: self.next,
            generation: Arc::clone(generation),
            chunk: row.chunk.id,
            number: row.number,
        });
    }

    /// The chunk to append to; seals the one that is full.
    fn tail(&mut self, generation: &Arc<Generation>) -> Arc<Chunk> {
        let directory = generation.directory();
        let full = match directory.tail() {
            Some(tail) if !tail.is_full() => return Arc::clone(tail),
            full => full,
        };
        let mut directory = Directory::clone(&directory);
        if let Some(full) = full {
            let sealed = Arc::new(full.seal(self.store.tracker.oldest().0));
            self.consider_compaction(generation, &sealed);
            if let Some(at) = directory.position(sealed.id) {
                directory.chunks[at] = sealed;
            }
        }
        let tail = Arc::new(Chunk::tail(directory.next_id(), &generation.physical));
        directory.tail = Some(tail.id);
        directory.chunks.push(Arc::clone(&tail));
        generation.set_directory(directory);
        tail
    }

    fn add_generation(&mut self, mut generation: Generation) {
        generation.begin = self.next;
        let oid = generation.schema.oid;
        let generation = Arc::new(generation);
        self.current.insert(oid, Arc::clone(&generation));
        match self.store.table(oid) {
            Some(table) => {
                let mut generations = Vec::clone(&table.generations.load());
                // One that nobody has seen yet is replaced.
                generations.retain(|g| g.begin < generation.begin);
                generations.push(generation);
                table.generations.store(Arc::new(generations));
            }
            None => {
                let table = Table {
                    generations: ArcSwap::from_pointee(vec![generation]),
                    live: AtomicBool::new(false),
                };
                let mut tables = HashMap::clone(&self.store.tables.load());
                tables.insert(oid, Arc::new(table));
                self.store.tables.store(Arc::new(tables));
            }
        }
    }

    /// Clears away what no reader can see.
    fn clear(&mut self) {
        let oldest = self.store.tracker.oldest().0;
        for _ in 0..CLEAR_ROWS_MAX {
            match self.dying.front() {
                Some(dying) if dying.end <= oldest => {}
                _ => break,
            }
            let Some(dying) = self.dying.pop_front() else { break };
            let Some(chunk) = dying.generation.directory().current(dying.chunk).cloned() else { continue };
            let row = RowRef { chunk, number: dying.number };
            dying.generation.unindex_row(&row);
            let chunk = &row.chunk;
            chunk.dying.fetch_sub(1, Ordering::Relaxed);
            chunk.dead.fetch_add(1, Ordering::Relaxed);
            self.consider_compaction(&dying.generation, chunk);
        }
        self.compact(oldest);
        self.drop_generations(oldest);
    }

    fn consider_compaction(&mut self, generation: &Arc<Generation>, chunk: &Arc<Chunk>) {
        let dead = chunk.dead.load(Ordering::Relaxed);
        if chunk.is_tail() || dead * 10 < chunk.len() * COMPACT_DEAD_TENTHS || dead == 0 {
            return;
        }
        let known = self.to_compact.iter().any(|(g, id)| Arc::ptr_eq(g, generation) && *id == chunk.id);
        if !known {
            self.to_compact.push((Arc::clone(generation), chunk.id));
        }
    }

    /// Rewrites chunks with many dead rows. Rows move in three steps, which is what
    /// `Generation::resolve` relies on: the new directory names the old chunks as retired, then every
    /// index is changed, then the retired ones go.
    fn compact(&mut self, oldest: u64) {
        let mut later = Vec::new();
        for (generation, id) in std::mem::take(&mut self.to_compact) {
            let directory = generation.directory();
            let Some(at) = directory.position(id) else { continue };
            let old = Arc::clone(&directory.chunks[at]);
            // A row that a reader still sees would have to be followed in `dying`: wait for it.
            if old.dying.load(Ordering::Relaxed) > 0 {
                later.push((generation, id));
                continue;
            }
            let next_id = directory.next_id();
            let mut directory = Directory::clone(&directory);
            directory.chunks.remove(at);
            let mut sealing = Sealing::new(next_id, &generation.physical, oldest);
            let mut moved = Vec::new();
            for number in 0..old.len() {
                if old.lifetime(number).is_some_and(|(_, end)| end == LIVE) {
                    moved.push((number, sealing.len() as u32));
                    sealing.push(&old, number);
                }
            }
            if moved.is_empty() {
                generation.set_directory(directory);
                continue;
            }
            let new = Arc::new(sealing.finish());
            directory.retired.push(Arc::clone(&old));
            directory.chunks.push(Arc::clone(&new));
            generation.set_directory(directory.clone());
            let place = |(from, to)| (RowRef::new(Arc::clone(&old), from), RowRef::new(Arc::clone(&new), to));
            let moves: Vec<(RowRef, RowRef)> = moved.into_iter().map(place).collect();
            generation.relocate(&moves);
            directory.retired.clear();
            generation.set_directory(directory);
        }
        self.to_compact = later;
    }

    /// Lets go of generations that the oldest reader is past.
    fn drop_generations(&mut self, oldest: u64) {
        for table in self.store.tables.load().values() {
            let generations = table.generations.load();
            if generations.len() < 2 {
                continue;
            }
            let Some(current) = generations.iter().rposition(|g| g.begin <= oldest) else { continue };
            if current > 0 {
                table.generations.store(Arc::new(generations[current..].to_vec()));
            }
        }
    }
}
