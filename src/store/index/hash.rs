//! Equality: a hash table of row ids, twelve bytes an entry.

use hashbrown::HashTable;
use parking_lot::{RwLock, RwLockReadGuard};

use super::RowId;

#[derive(Debug, Default)]
pub(in crate::store) struct HashIndex {
    entries: RwLock<HashTable<Entry>>,
}

/// The hash is kept so that growing never has to look at rows.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    chunk: u32,
    number: u16,
}

impl Entry {
    fn row(self) -> RowId {
        RowId::new(self.chunk, u32::from(self.number))
    }
}

/// Spreads the kept 32 bits over 64: the table takes its buckets from the low bits and its tags
/// from the high ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn short(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The index, locked for reading: while it is held, no row that it names can be moved.
pub(in crate::store) struct HashReader<'a> {
    entries: RwLockReadGuard<'a, HashTable<Entry>>,
}

impl HashReader<'_> {
    /// Row versions whose key has this hash: the caller compares keys.
    pub(in crate::store) fn find(&self, hash: u64) -> impl Iterator<Item = RowId> {
        let hash = short(hash);
        self.entries.iter_hash(spread(hash)).filter(move |entry| entry.hash == hash).map(|entry| entry.row())
    }
}

impl HashIndex {
    pub(in crate::store) fn read(&self) -> HashReader<'_> {
        HashReader { entries: self.entries.read() }
    }

    pub(in crate::store) fn insert(&self, hash: u64, row: RowId) {
        let entry = Entry { hash: short(hash), chunk: row.chunk(), number: row.number() as u16 };
        self.entries.write().insert_unique(spread(entry.hash), entry, |e| spread(e.hash));
    }

    /// Inserts many entries at once, sizing the table for them.
    pub(in crate::store) fn extend(&self, rows: impl ExactSizeIterator<Item = (u64, RowId)>) {
        let mut entries = self.entries.write();
        entries.reserve(rows.len(), |e| spread(e.hash));
        for (hash, row) in rows {
            let entry = Entry { hash: short(hash), chunk: row.chunk(), number: row.number() as u16 };
            entries.insert_unique(spread(entry.hash), entry, |e| spread(e.hash));
        }
    }

    pub(in crate::store) fn remove(&self, hash: u64, row: RowId) {
        let mut entries = self.entries.write();
        if let Ok(entry) = entries.find_entry(spread(short(hash)), |e| e.row() == row) {
            entry.remove();
        }
    }

    /// Gives rows their new places, all in one step.
    pub(in crate::store) fn relocate(&self, moves: impl Iterator<Item = (u64, RowId, RowId)>) {
        let mut entries = self.entries.write();
        for (hash, from, to) in moves {
            if let Some(entry) = entries.find_mut(spread(short(hash)), |e| e.row() == from) {
                entry.chunk = to.chunk();
                entry.number = to.number() as u16;
            }
        }
    }

    /// Heap bytes held: an entry and a control byte for each bucket.
    pub(in crate::store) fn bytes(&self) -> usize {
        let buckets = (self.entries.read().capacity() * 8 / 7).next_power_of_two();
        if buckets <= 1 { 0 } else { buckets * (size_of::<Entry>() + 1) }
    }
}
