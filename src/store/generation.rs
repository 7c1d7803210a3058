//! The rows of one table under one schema, from one version on. TRUNCATE and a new copy start the
//! next generation; the one before stays for the readers that still see it.

use std::{
    hash::{BuildHasher, Hasher},
    ops::Bound,
    sync::{Arc, atomic::AtomicI64},
};

use arc_swap::{ArcSwap, Guard};
use hashbrown::DefaultHashBuilder;

use super::{
    chunk::{Chunk, RowRef, physical_columns},
    index::{HashIndex, Key, KeyRange, OrderedIndex, RowId},
};
use crate::types::{Datum, IndexKind, IndexSchema, Physical, TableSchema, order};

#[derive(Debug)]
pub(super) struct Generation {
    pub(super) schema: Arc<TableSchema>,
    pub(super) physical: Arc<[Physical]>,
    /// The first version that sees it.
    pub(super) begin: u64,
    directory: ArcSwap<Directory>,
    /// The structures, and for each index of the schema which of them serves it: an identity index
    /// and a hash index over the same columns are one.
    structures: Vec<Structure>,
    serves: Vec<usize>,
    hasher: DefaultHashBuilder,
    pub(super) live_rows: AtomicI64,
}

/// The chunks of a generation at a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    /// In order of id.
    pub(super) chunks: Vec<Arc<Chunk>>,
    /// The id of the one that is appended to.
    pub(super) tail: Option<u32>,
    /// Chunks whose rows have moved while indexes may still name them: found by id, not scanned.
    pub(super) retired: Vec<Arc<Chunk>>,
}

#[derive(Debug)]
struct Structure {
    columns: Vec<usize>,
    index: Index,
}

#[derive(Debug)]
enum Index {
    Hash(HashIndex),
    Ordered { index: OrderedIndex, integer: bool },
}

impl Directory {
    /// The chunk with this id, unless it is retired.
    pub(super) fn current(&self, id: u32) -> Option<&Arc<Chunk>> {
        self.chunks.get(self.position(id)?)
    }

    pub(super) fn position(&self, id: u32) -> Option<usize> {
        self.chunks.binary_search_by_key(&id, |chunk| chunk.id).ok()
    }

    pub(super) fn tail(&self) -> Option<&Arc<Chunk>> {
        self.current(self.tail?)
    }

    pub(super) fn next_id(&self) -> u32 {
        let last = self.chunks.last().into_iter().chain(&self.retired).map(|chunk| chunk.id).max();
        last.map_or(0, |id| id + 1)
    }

    fn find(&self, id: u32) -> Option<&Arc<Chunk>> {
        self.current(id).or_else(|| self.retired.iter().find(|chunk| chunk.id == id))
    }
}

impl Generation {
    /// A generation of sealed chunks, not seen before its `begin` is set. Indexes are built in bulk.
    pub(super) fn new(schema: Arc<TableSchema>, chunks: Vec<Chunk>) -> Generation {
        let physical = physical_columns(&schema);
        let mut structures: Vec<Structure> = Vec::new();
        let mut serves = Vec::new();
        for index in &schema.indexes {
            let hash = index.kind != IndexKind::Ordered;
            let shared = structures
                .iter()
                .position(|s| matches!(s.index, Index::Hash(_)) == hash && s.columns == index.columns);
            serves.push(shared.unwrap_or_else(|| {
                structures.push(Structure::new(index, &physical));
                structures.len() - 1
            }));
        }
        let chunks: Vec<Arc<Chunk>> = chunks
            .into_iter()
            .enumerate()
            .map(|(id, mut chunk)| {
                chunk.id = id as u32;
                Arc::new(chunk)
            })
            .collect();
        let rows: usize = chunks.iter().map(|chunk| chunk.len() as usize).sum();
        let generation = Generation {
            schema,
            physical,
            begin: u64::MAX,
            directory: ArcSwap::from_pointee(Directory { chunks, ..Directory::default() }),
            structures,
            serves,
            hasher: DefaultHashBuilder::default(),
            live_rows: AtomicI64::new(rows as i64),
        };
        generation.build_indexes(rows);
        generation
    }

    fn build_indexes(&self, rows: usize) {
        let directory = self.directory.load_full();
        for structure in &self.structures {
            match &structure.index {
                Index::Hash(index) => {
                    let mut entries = Vec::with_capacity(rows);
                    let mut key = Vec::new();
                    for row in all_rows(&directory) {
                        let hash = self.hash(&structure.columns, |c| row.datum(c), &mut key);
                        entries.push((hash, row_id(&row)));
                    }
                    index.extend(entries.into_iter());
                }
                Index::Ordered { index, integer } => {
                    let mut entries = Vec::with_capacity(rows);
                    for row in all_rows(&directory) {
                        let key = self.key(&structure.columns, *integer, |c| row.datum(c));
                        entries.push((key, row_id(&row)));
                    }
                    index.fill(entries);
                }
            }
        }
    }

    pub(super) fn directory(&self) -> Guard<Arc<Directory>> {
        self.directory.load()
    }

    pub(super) fn set_directory(&self, directory: Directory) {
        self.directory.store(Arc::new(directory));
    }

    /// Heap bytes held: chunks and indexes.
    pub(super) fn bytes(&self) -> usize {
        let chunks: usize = self.directory.load().chunks.iter().map(|chunk| chunk.bytes()).sum();
        let indexes: usize = self
            .structures
            .iter()
            .map(|s| match &s.index {
                Index::Hash(index) => index.bytes(),
                Index::Ordered { index, .. } => index.bytes(),
            })
            .sum();
        chunks + indexes
    }

    /// Enters a new row version into every index.
    pub(super) fn index_row(&self, id: RowId, row: &[Datum<'_>]) {
        let mut key = Vec::new();
        for structure in &self.structures {
            match &structure.index {
                Index::Hash(index) => {
                    index.insert(self.hash(&structure.columns, |c| row[c], &mut key), id);
                }
                Index::Ordered { index, integer } => {
                    index.insert(self.key(&structure.columns, *integer, |c| row[c]), id);
                }
            }
        }
    }

    /// Takes a row version that nobody can see any more out of every index.
    pub(super) fn unindex_row(&self, row: &RowRef) {
        let id = row_id(row);
        let mut key = Vec::new();
        for structure in &self.structures {
            match &structure.index {
                Index::Hash(index) => {
                    index.remove(self.hash(&structure.columns, |c| row.datum(c), &mut key), id);
                }
                Index::Ordered { index, integer } => {
                    index.remove(self.key(&structure.columns, *integer, |c| row.datum(c)), id);
                }
            }
        }
    }

    /// Tells every index that rows have moved. Each index changes in one step.
    pub(super) fn relocate(&self, moves: &[(RowRef, RowRef)]) {
        let mut key = Vec::new();
        for structure in &self.structures {
            match &structure.index {
                Index::Hash(index) => index.relocate(moves.iter().map(|(from, to)| {
                    let hash = self.hash(&structure.columns, |c| to.datum(c), &mut key);
                    (hash, row_id(from), row_id(to))
                })),
                Index::Ordered { index, integer } => index.relocate(moves.iter().map(|(from, to)| {
                    let key = self.key(&structure.columns, *integer, |c| to.datum(c));
                    (key, row_id(from), row_id(to))
                })),
            }
        }
    }

    /// The row that is live for the writer and whose identity columns are these bits.
    pub(super) fn find_identity(&self, identity: &[Datum<'_>]) -> Option<RowRef> {
        let index = self.schema.identity_index()?;
        let columns = &self.schema.indexes[index].columns;
        let structure = &self.structures[self.serves[index]];
        let Index::Hash(hash_index) = &structure.index else { return None };
        let mut key = Vec::new();
        let mut at = 0;
        let hash = self.hash(
            columns,
            |_| {
                at += 1;
                identity[at - 1]
            },
            &mut key,
        );
        let directory = self.directory.load();
        let reader = hash_index.read();
        reader.find(hash).find_map(|id| {
            // Only the row that is found needs to keep its chunk.
            let moved;
            let chunk = match directory.find(id.chunk()) {
                Some(chunk) => chunk,
                None => {
                    moved = self.resolve(&directory, id)?;
                    &moved.chunk
                }
            };
            let row = chunk.live_row(id.number())?;
            let same = columns.iter().zip(identity).all(|(c, d)| row.datum(*c).identical(d));
            same.then(|| RowRef { chunk: Arc::clone(chunk), number: id.number() })
        })
    }

    /// Row versions whose key columns equal `key`, visible or not, through index `index`.
    pub(super) fn lookup(
        &self,
        index: usize,
        key: &[Datum<'_>],
        visit: &mut dyn FnMut(RowRef) -> std::ops::ControlFlow<()>,
    ) {
        let columns = &self.schema.indexes[index].columns;
        if key.iter().any(Datum::is_null) {
            return;
        }
        let structure = &self.structures[self.serves[index]];
        match &structure.index {
            Index::Hash(hash_index) if key.len() == columns.len() => {
                let mut bytes = Vec::new();
                let mut at = 0;
                let hash = self.hash(
                    columns,
                    |_| {
                        at += 1;
                        key[at - 1]
                    },
                    &mut bytes,
                );
                let directory = self.directory.load();
                let reader = hash_index.read();
                for id in reader.find(hash) {
                    let Some(row) = self.resolve(&directory, id) else { continue };
                    let equal = columns.iter().zip(key).all(|(column, datum)| {
                        let ty = &self.schema.columns[*column].pg_type;
                        let value = row.datum(*column);
                        !value.is_null() && order::compare(ty, &value, datum).is_eq()
                    });
                    if equal && visit(row).is_break() {
                        return;
                    }
                }
            }
            Index::Hash(_) => {}
            Index::Ordered { .. } => {
                let Some((last, prefix)) = key.split_last() else { return };
                self.range(index, prefix, Bound::Included(*last), Bound::Included(*last), false, visit);
            }
        }
    }

    /// Row versions in order of an ordered index, visible or not: see `TableView::range`.
    pub(super) fn range(
        &self,
        index: usize,
        prefix: &[Datum<'_>],
        lower: Bound<Datum<'_>>,
        upper: Bound<Datum<'_>>,
        reverse: bool,
        visit: &mut dyn FnMut(RowRef) -> std::ops::ControlFlow<()>,
    ) {
        let structure = &self.structures[self.serves[index]];
        let Index::Ordered { index, integer } = &structure.index else { return };
        let is_null =
            |b: &Bound<Datum<'_>>| matches!(b, Bound::Included(Datum::Null) | Bound::Excluded(Datum::Null));
        if prefix.iter().any(Datum::is_null) || is_null(&lower) || is_null(&upper) {
            return;
        }
        let range = if *integer {
            let (lower, upper) = match prefix.first() {
                Some(value) => (Bound::Included(*value), Bound::Included(*value)),
                None => (lower, upper),
            };
            let nulls = matches!((&lower, &upper), (Bound::Unbounded, Bound::Unbounded));
            KeyRange::Int { lower: integer_bound(lower), upper: integer_bound(upper), nulls }
        } else {
            self.byte_range(&structure.columns, prefix, lower, upper)
        };
        let directory = self.directory.load();
        let reader = index.read();
        for id in reader.range(&range, reverse) {
            let Some(row) = self.resolve(&directory, id) else { continue };
            if visit(row).is_break() {
                return;
            }
        }
    }

    /// Keys that follow a prefix begin with 1 (a value) or 2 (NULL), so 0xff ends them all.
    fn byte_range(
        &self,
        columns: &[usize],
        prefix: &[Datum<'_>],
        lower: Bound<Datum<'_>>,
        upper: Bound<Datum<'_>>,
    ) -> KeyRange {
        let mut start = Vec::new();
        for (column, datum) in columns.iter().zip(prefix) {
            order::write_key(&self.schema.columns[*column].pg_type, datum, &mut start);
        }
        let bounded = columns.get(prefix.len()).map(|column| &self.schema.columns[*column].pg_type);
        let with = |datum: &Datum<'_>, last: Option<u8>| {
            let mut key = start.clone();
            if let Some(ty) = bounded {
                order::write_key(ty, datum, &mut key);
            }
            key.extend(last);
            key
        };
        let from = match &lower {
            Bound::Included(datum) => with(datum, None),
            Bound::Excluded(datum) => with(datum, Some(0xff)),
            Bound::Unbounded => start.clone(),
        };
        let to = match (&upper, &lower) {
            (Bound::Included(datum), _) => with(datum, Some(0xff)),
            (Bound::Excluded(datum), _) => with(datum, None),
            (Bound::Unbounded, Bound::Unbounded) => [start.as_slice(), &[0xff]].concat(),
            // NULLs sort behind every value and are within no bound.
            (Bound::Unbounded, _) => [start.as_slice(), &[2]].concat(),
        };
        KeyRange::Bytes { from: from.into(), to: to.into() }
    }

    /// Finds the chunk of an index entry. Must be called with that index locked: while it is, the
    /// chunk is in the current directory, at worst as retired (see `Writer::compact`). The caller's
    /// directory is tried first, which is right nearly always.
    fn resolve(&self, directory: &Directory, id: RowId) -> Option<RowRef> {
        let chunk = match directory.find(id.chunk()) {
            Some(chunk) => Arc::clone(chunk),
            None => Arc::clone(self.directory.load().find(id.chunk())?),
        };
        Some(RowRef { chunk, number: id.number() })
    }

    fn hash<'a>(
        &self,
        columns: &[usize],
        mut datum: impl FnMut(usize) -> Datum<'a>,
        key: &mut Vec<u8>,
    ) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        if let [column] = columns {
            // The common case without a detour through bytes.
            let value = datum(*column);
            if let Some(integer) = integer(&value) {
                hasher.write_i64(integer);
                return hasher.finish();
            }
            key.clear();
            order::write_key(&self.schema.columns[*column].pg_type, &value, key);
            hasher.write(key);
            return hasher.finish();
        }
        key.clear();
        for column in columns {
            order::write_key(&self.schema.columns[*column].pg_type, &datum(*column), key);
        }
        hasher.write(key);
        hasher.finish()
    }

    fn key<'a>(&self, columns: &[usize], as_integer: bool, datum: impl Fn(usize) -> Datum<'a>) -> Key {
        if let ([column], true) = (columns, as_integer) {
            return Key::Int(integer(&datum(*column)));
        }
        let mut key = Vec::new();
        for column in columns {
            order::write_key(&self.schema.columns[*column].pg_type, &datum(*column), &mut key);
        }
        Key::Bytes(key.into())
    }
}

impl Structure {
    fn new(index: &IndexSchema, physical: &[Physical]) -> Structure {
        let integer = match index.columns.as_slice() {
            [column] => {
                matches!(physical[*column], Physical::I16 | Physical::I32 | Physical::I64 | Physical::U32)
            }
            _ => false,
        };
        let kind = match index.kind {
            IndexKind::Identity | IndexKind::Hash => Index::Hash(HashIndex::default()),
            IndexKind::Ordered => Index::Ordered { index: OrderedIndex::new(integer), integer },
        };
        Structure { columns: index.columns.clone(), index: kind }
    }
}

fn integer(datum: &Datum<'_>) -> Option<i64> {
    match datum {
        Datum::Int2(v) => Some(i64::from(*v)),
        Datum::Int4(v) => Some(i64::from(*v)),
        Datum::Int8(v) => Some(*v),
        Datum::Oid(v) => Some(i64::from(*v)),
        _ => None,
    }
}

fn integer_bound(bound: Bound<Datum<'_>>) -> Bound<i64> {
    let value = |datum: Datum<'_>| integer(&datum).unwrap_or(0);
    match bound {
        Bound::Included(datum) => Bound::Included(value(datum)),
        Bound::Excluded(datum) => Bound::Excluded(value(datum)),
        Bound::Unbounded => Bound::Unbounded,
    }
}

pub(super) fn row_id(row: &RowRef) -> RowId {
    RowId::new(row.chunk.id, row.number)
}

fn all_rows(directory: &Directory) -> impl Iterator<Item = RowRef> {
    directory
        .chunks
        .iter()
        .flat_map(|chunk| (0..chunk.len()).map(move |number| RowRef { chunk: Arc::clone(chunk), number }))
}
