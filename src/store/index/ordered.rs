//! Order: row ids sorted by key. Single integer-like columns keep their integers; other keys are
//! byte strings whose order is the key's (`types::order::write_key`).

use std::{
    collections::BTreeSet,
    ops::Bound,
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::{RwLock, RwLockReadGuard};

use super::RowId;

#[derive(Debug)]
pub(in crate::store) struct OrderedIndex {
    entries: RwLock<Entries>,
    /// Bytes of the keys on the heap.
    key_bytes: AtomicUsize,
}

#[derive(Debug)]
enum Entries {
    /// Values in order, and the rows whose value is NULL, which sort last.
    Int {
        rows: BTreeSet<(i64, RowId)>,
        nulls: BTreeSet<RowId>,
    },
    Bytes(BTreeSet<(Box<[u8]>, RowId)>),
}

/// A key of one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) enum Key {
    Int(Option<i64>),
    Bytes(Box<[u8]>),
}

/// Which keys to visit.
#[derive(Debug)]
pub(in crate::store) enum KeyRange {
    /// Between two values; `nulls` says whether NULLs belong to it.
    Int { lower: Bound<i64>, upper: Bound<i64>, nulls: bool },
    /// From the first key, inclusive, to the second, exclusive.
    Bytes { from: Box<[u8]>, to: Box<[u8]> },
}

/// The index, locked for reading: while it is held, no row that it names can be moved.
pub(in crate::store) struct OrderedReader<'a> {
    entries: RwLockReadGuard<'a, Entries>,
}

impl OrderedReader<'_> {
    /// The row versions of a range in order of key, ascending or descending.
    pub(in crate::store) fn range(
        &self,
        range: &KeyRange,
        reverse: bool,
    ) -> Box<dyn Iterator<Item = RowId> + '_> {
        match (&*self.entries, range) {
            (Entries::Int { rows, nulls }, KeyRange::Int { lower, upper, nulls: with_nulls }) => {
                let from = match lower {
                    Bound::Included(v) => Bound::Included((*v, RowId(0))),
                    Bound::Excluded(v) => Bound::Excluded((*v, RowId(u64::MAX))),
                    Bound::Unbounded => Bound::Unbounded,
                };
                let to = match upper {
                    Bound::Included(v) => Bound::Included((*v, RowId(u64::MAX))),
                    Bound::Excluded(v) => Bound::Excluded((*v, RowId(0))),
                    Bound::Unbounded => Bound::Unbounded,
                };
                let empty = match (lower, upper) {
                    (Bound::Included(a), Bound::Included(b)) => a > b,
                    (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => {
                        a >= b
                    }
                    _ => false,
                };
                let rows = (!empty).then(|| rows.range((from, to)).map(|(_, row)| *row));
                let nulls = with_nulls.then(|| nulls.iter().copied());
                if reverse {
                    Box::new(nulls.into_iter().flatten().rev().chain(rows.into_iter().flatten().rev()))
                } else {
                    Box::new(rows.into_iter().flatten().chain(nulls.into_iter().flatten()))
                }
            }
            (Entries::Bytes(rows), KeyRange::Bytes { from, to }) if from < to => {
                let rows = rows.range((from.clone(), RowId(0))..(to.clone(), RowId(0))).map(|(_, row)| *row);
                if reverse { Box::new(rows.rev()) } else { Box::new(rows) }
            }
            _ => Box::new(std::iter::empty()),
        }
    }
}

impl OrderedIndex {
    pub(in crate::store) fn new(integers: bool) -> OrderedIndex {
        let entries = if integers {
            Entries::Int { rows: BTreeSet::new(), nulls: BTreeSet::new() }
        } else {
            Entries::Bytes(BTreeSet::new())
        };
        OrderedIndex { entries: RwLock::new(entries), key_bytes: AtomicUsize::new(0) }
    }

    pub(in crate::store) fn read(&self) -> OrderedReader<'_> {
        OrderedReader { entries: self.entries.read() }
    }

    pub(in crate::store) fn insert(&self, key: Key, row: RowId) {
        match (&mut *self.entries.write(), key) {
            (Entries::Int { rows, .. }, Key::Int(Some(value))) => {
                rows.insert((value, row));
            }
            (Entries::Int { nulls, .. }, Key::Int(None)) => {
                nulls.insert(row);
            }
            (Entries::Bytes(rows), Key::Bytes(key)) => {
                self.key_bytes.fetch_add(key.len(), Ordering::Relaxed);
                rows.insert((key, row));
            }
            _ => debug_assert!(false, "a key of another kind than its index"),
        }
    }

    /// Replaces an empty index by these entries, which packs the tree.
    pub(in crate::store) fn fill(&self, keys: Vec<(Key, RowId)>) {
        match &mut *self.entries.write() {
            Entries::Int { rows, nulls } => {
                let mut values = Vec::with_capacity(keys.len());
                for (key, row) in keys {
                    match key {
                        Key::Int(Some(value)) => values.push((value, row)),
                        _ => {
                            nulls.insert(row);
                        }
                    }
                }
                values.sort_unstable();
                *rows = values.into_iter().collect();
            }
            Entries::Bytes(rows) => {
                let mut values = Vec::with_capacity(keys.len());
                let mut bytes = 0;
                for (key, row) in keys {
                    if let Key::Bytes(key) = key {
                        bytes += key.len();
                        values.push((key, row));
                    }
                }
                values.sort_unstable();
                self.key_bytes.store(bytes, Ordering::Relaxed);
                *rows = values.into_iter().collect();
            }
        }
    }

    pub(in crate::store) fn remove(&self, key: Key, row: RowId) {
        match (&mut *self.entries.write(), key) {
            (Entries::Int { rows, .. }, Key::Int(Some(value))) => {
                rows.remove(&(value, row));
            }
            (Entries::Int { nulls, .. }, Key::Int(None)) => {
                nulls.remove(&row);
            }
            (Entries::Bytes(rows), Key::Bytes(key)) => {
                self.key_bytes.fetch_sub(key.len(), Ordering::Relaxed);
                rows.remove(&(key, row));
            }
            _ => {}
        }
    }

    /// Gives rows their new places, all in one step.
    pub(in crate::store) fn relocate(&self, moves: impl Iterator<Item = (Key, RowId, RowId)>) {
        let entries = &mut *self.entries.write();
        for (key, from, to) in moves {
            match (&mut *entries, key) {
                (Entries::Int { rows, .. }, Key::Int(Some(value))) => {
                    rows.remove(&(value, from));
                    rows.insert((value, to));
                }
                (Entries::Int { nulls, .. }, Key::Int(None)) => {
                    nulls.remove(&from);
                    nulls.insert(to);
                }
                (Entries::Bytes(rows), Key::Bytes(key)) => {
                    if let Some((key, _)) = rows.take(&(key, from)) {
                        rows.insert((key, to));
                    }
                }
                _ => {}
            }
        }
    }

    /// Heap bytes held, by the layout of the standard B-tree: eleven entries a node with a parent
    /// pointer and two counters, about nine in ten full after a bulk load.
    pub(in crate::store) fn bytes(&self) -> usize {
        match &*self.entries.read() {
            Entries::Int { rows, nulls } => rows.len() * 20 + nulls.len() * 11,
            // A box's header, the pair, and what the allocator adds to each key.
            Entries::Bytes(rows) => rows.len() * (30 + 16) + self.key_bytes.load(Ordering::Relaxed),
        }
    }
}
