//! About 8,192 rows of one table: sealed columns, or the tail that is being appended to.
//!
//! Every row carries the version from which it is seen and the version from which it is seen no
//! more. Both are written by the one writer under versions that no reader holds yet, so a reader
//! never sees a row change.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::{
    column::{Column, ColumnBuilder},
    tail::Tail,
};
use crate::types::{CommitVersion, Datum, Physical, TableSchema};

/// Rows of a full chunk: large enough that scans run along columns, small enough that sealing and
/// compacting one takes about a millisecond.
pub(super) const CHUNK_ROWS: usize = 8192;

/// A chunk is full before it has [`CHUNK_ROWS`] rows when they hold this much, so that offsets
/// stay within 32 bits and compaction moves bounded memory.
pub(super) const CHUNK_BYTES: usize = 64 << 20;

/// The end of a row that nobody has deleted.
pub(super) const LIVE: u64 = u64::MAX;

#[derive(Debug)]
pub struct Chunk {
    /// Counts up within a table; never used again, so that a reader with an old directory cannot
    /// mistake one chunk for another.
    pub(super) id: u32,
    physical: Arc<[Physical]>,
    body: Body,
    /// Rows whose end no reader is before, counted by the writer.
    pub(super) dead: AtomicU32,
    /// Rows that have an end, but one that a reader may still be before.
    pub(super) dying: AtomicU32,
}

#[derive(Debug)]
enum Body {
    Tail(Tail),
    Sealed {
        columns: Vec<Column>,
        len: u32,
        begin: Begin,
        /// Allocated with the first delete.
        ends: OnceLock<Box<[AtomicU64]>>,
    },
}

#[derive(Debug)]
enum Begin {
    All(u64),
    PerRow(Box<[u64]>),
}

/// A row of a chunk, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    chunk: &'a Chunk,
    number: u32,
}

impl<'a> Row<'a> {
    /// The value of a column, by its position in the table's schema.
    pub fn datum(&self, column: usize) -> Datum<'a> {
        match &self.chunk.body {
            Body::Sealed { columns, .. } => columns[column].datum(self.number as usize),
            Body::Tail(tail) => match tail.row(self.number) {
                Some(row) => row.datum(column, &self.chunk.physical),
                None => Datum::Null,
            },
        }
    }

    /// The row's number in its chunk.
    pub fn number(&self) -> u32 {
        self.number
    }
}

/// A row that keeps its chunk alive.
#[derive(Clone, Debug)]
pub struct RowRef {
    pub(super) chunk: Arc<Chunk>,
    pub(super) number: u32,
}

impl RowRef {
    pub fn new(chunk: Arc<Chunk>, number: u32) -> RowRef {
        RowRef { chunk, number }
    }

    pub fn row(&self) -> Row<'_> {
        Row { chunk: &self.chunk, number: self.number }
    }

    pub fn datum(&self, column: usize) -> Datum<'_> {
        self.row().datum(column)
    }
}

impl Chunk {
    pub(super) fn tail(id: u32, physical: &Arc<[Physical]>) -> Chunk {
        Chunk {
            id,
            physical: Arc::clone(physical),
            body: Body::Tail(Tail::new()),
            dead: AtomicU32::new(0),
            dying: AtomicU32::new(0),
        }
    }

    /// Rows ever written to it, visible or not.
    pub fn len(&self) -> u32 {
        match &self.body {
            Body::Sealed { len, .. } => *len,
            Body::Tail(tail) => tail.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows seen at a version.
    pub fn rows(&self, version: CommitVersion) -> impl Iterator<Item = Row<'_>> {
        (0..self.len()).filter_map(move |number| self.row(version, number))
    }

    /// The row with this number, if it is seen at the version.
    pub fn row(&self, version: CommitVersion, number: u32) -> Option<Row<'_>> {
        let (begin, end) = self.lifetime(number)?;
        (begin <= version.0 && version.0 < end).then_some(Row { chunk: self, number })
    }

    /// The row with this number, unless the writer has ended it.
    pub(super) fn live_row(&self, number: u32) -> Option<Row<'_>> {
        let (_, end) = self.lifetime(number)?;
        (end == LIVE).then_some(Row { chunk: self, number })
    }

    pub(super) fn is_tail(&self) -> bool {
        matches!(self.body, Body::Tail(_))
    }

    /// Whether the tail must be sealed before another row.
    pub(super) fn is_full(&self) -> bool {
        match &self.body {
            Body::Tail(tail) => tail.len() as usize >= CHUNK_ROWS || tail.bytes() >= CHUNK_BYTES,
            Body::Sealed { .. } => true,
        }
    }

    /// Heap bytes held.
    pub(super) fn bytes(&self) -> usize {
        match &self.body {
            Body::Tail(tail) => tail.bytes(),
            Body::Sealed { columns, begin, ends, .. } => {
                let begin = match begin {
                    Begin::All(_) => 0,
                    Begin::PerRow(begins) => begins.len() * 8,
                };
                let ends = ends.get().map_or(0, |ends| ends.len() * 8);
                columns.iter().map(Column::bytes).sum::<usize>() + begin + ends
            }
        }
    }

    pub(super) fn lifetime(&self, number: u32) -> Option<(u64, u64)> {
        match &self.body {
            Body::Sealed { len, begin, ends, .. } => {
                if number >= *len {
                    return None;
                }
                let begin = match begin {
                    Begin::All(version) => *version,
                    Begin::PerRow(begins) => begins[number as usize],
                };
                let end = ends.get().map_or(LIVE, |ends| ends[number as usize].load(Ordering::Acquire));
                Some((begin, end))
            }
            Body::Tail(tail) => {
                let row = tail.row(number)?;
                Some((row.begin, row.end.load(Ordering::Acquire)))
            }
        }
    }

    /// Appends to the tail; only the writer calls this.
    pub(super) fn push(&self, begin: u64, row: &[Datum<'_>]) -> u32 {
        match &self.body {
            Body::Tail(tail) => tail.push(begin, row),
            Body::Sealed { .. } => unreachable!("rows are appended to tails alone"),
        }
    }

    /// Ends a row at a version; only the writer calls this.
    pub(super) fn end_row(&self, number: u32, version: u64) {
        match &self.body {
            Body::Tail(tail) => {
                if let Some(row) = tail.row(number) {
                    row.end.store(version, Ordering::Release);
                }
            }
            Body::Sealed { len, ends, .. } => {
                let ends = ends.get_or_init(|| (0..*len).map(|_| AtomicU64::new(LIVE)).collect());
                ends[number as usize].store(version, Ordering::Release);
            }
        }
    }

    /// A sealed chunk of the same id and row numbers.
    pub(super) fn seal(&self, oldest_reader: u64) -> Chunk {
        let mut sealing = Sealing::new(self.id, &self.physical, oldest_reader);
        for number in 0..self.len() {
            sealing.push(self, number);
        }
        let chunk = sealing.finish();
        chunk.dead.store(self.dead.load(Ordering::Relaxed), Ordering::Relaxed);
        chunk.dying.store(self.dying.load(Ordering::Relaxed), Ordering::Relaxed);
        chunk
    }
}

/// Turns rows of other chunks into one sealed chunk.
pub(super) struct Sealing {
    builder: ChunkBuilder,
    id: u32,
    oldest_reader: u64,
    begins: Vec<u64>,
    ends: Vec<u64>,
}

impl Sealing {
    /// Rows that began at or before `oldest_reader` are seen by everyone, so their begins need not
    /// be kept.
    pub(super) fn new(id: u32, physical: &Arc<[Physical]>, oldest_reader: u64) -> Sealing {
        Sealing {
            builder: ChunkBuilder::of(Arc::clone(physical)),
            id,
            oldest_reader,
            begins: Vec::new(),
            ends: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.builder.len()
    }

    pub(super) fn push(&mut self, chunk: &Chunk, number: u32) {
        let (begin, end) = chunk.lifetime(number).unwrap_or((LIVE, 0));
        let row = Row { chunk, number };
        for (column, builder) in self.builder.columns.iter_mut().enumerate() {
            builder.push(&row.datum(column));
        }
        self.builder.rows += 1;
        self.begins.push(begin);
        self.ends.push(end);
    }

    pub(super) fn finish(self) -> Chunk {
        let begin = if self.begins.iter().all(|begin| *begin <= self.oldest_reader) {
            Begin::All(0)
        } else {
            Begin::PerRow(self.begins.into())
        };
        let ends = OnceLock::new();
        if self.ends.iter().any(|end| *end != LIVE) {
            let filled = ends.set(self.ends.into_iter().map(AtomicU64::new).collect());
            debug_assert!(filled.is_ok(), "the cell is new");
        }
        let mut chunk = self.builder.finish();
        chunk.id = self.id;
        if let Body::Sealed { begin: b, ends: e, .. } = &mut chunk.body {
            *b = begin;
            *e = ends;
        }
        chunk
    }
}

/// Builds a sealed chunk from rows; all of them are seen at every version.
#[derive(Debug)]
pub struct ChunkBuilder {
    physical: Arc<[Physical]>,
    columns: Vec<ColumnBuilder>,
    rows: u32,
    bytes: usize,
}

impl ChunkBuilder {
    pub fn new(schema: &TableSchema) -> ChunkBuilder {
        ChunkBuilder::of(physical_columns(schema))
    }

    fn of(physical: Arc<[Physical]>) -> ChunkBuilder {
        let columns = physical.iter().map(|p| ColumnBuilder::new(*p)).collect();
        ChunkBuilder { physical, columns, rows: 0, bytes: 0 }
    }

    /// Appends a row: one datum for each column of the schema, in its representation.
    pub fn push(&mut self, row: &[Datum<'_>]) {
        debug_assert_eq!(row.len(), self.columns.len());
        for (column, datum) in row.iter().enumerate() {
            self.push_value(column, datum);
        }
        self.end_row();
    }

    /// Appends to one column the value of the row that [`ChunkBuilder::end_row`] ends. Each column gets
    /// one before that.
    #[inline]
    pub fn push_value(&mut self, column: usize, datum: &Datum<'_>) {
        if let Datum::Bytes(bytes) = datum {
            self.bytes += bytes.len();
        }
        self.columns[column].push(datum);
    }

    pub fn end_row(&mut self) {
        self.rows += 1;
        debug_assert!(
            self.columns.iter().all(|column| column.len() == self.len()),
            "a value for each column"
        );
    }

    pub fn len(&self) -> usize {
        self.rows as usize
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Whether the chunk has reached its size.
    pub fn is_full(&self) -> bool {
        self.rows as usize >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES
    }

    pub fn finish(self) -> Chunk {
        Chunk {
            id: 0,
            physical: self.physical,
            body: Body::Sealed {
                columns: self.columns.into_iter().map(ColumnBuilder::finish).collect(),
                len: self.rows,
                begin: Begin::All(0),
                ends: OnceLock::new(),
            },
            dead: AtomicU32::new(0),
            dying: AtomicU32::new(0),
        }
    }
}

pub(super) fn physical_columns(schema: &TableSchema) -> Arc<[Physical]> {
    schema.columns.iter().map(|c| c.pg_type.physical()).collect()
}
