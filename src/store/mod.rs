//! Versioned in-memory tables (stand-in with the store's signatures).

use std::{
    collections::HashMap,
    ops::{Bound, ControlFlow},
    sync::{Arc, RwLock},
};

use crate::types::{CommitVersion, Datum, IndexKind, Lsn, TableOid, TableSchema, order};

#[derive(Clone)]
enum Cell {
    Null,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    Oid(u32),
    Float4(f32),
    Float8(f64),
    Uuid([u8; 16]),
    Bytes(Box<[u8]>),
}

impl Cell {
    fn new(d: &Datum<'_>) -> Cell {
        match d {
            Datum::Null => Cell::Null,
            Datum::Bool(v) => Cell::Bool(*v),
            Datum::Int2(v) => Cell::Int2(*v),
            Datum::Int4(v) => Cell::Int4(*v),
            Datum::Int8(v) => Cell::Int8(*v),
            Datum::Oid(v) => Cell::Oid(*v),
            Datum::Float4(v) => Cell::Float4(*v),
            Datum::Float8(v) => Cell::Float8(*v),
            Datum::Uuid(v) => Cell::Uuid(*v),
            Datum::Bytes(v) => Cell::Bytes((*v).into()),
        }
    }
    fn datum(&self) -> Datum<'_> {
        match self {
            Cell::Null => Datum::Null,
            Cell::Bool(v) => Datum::Bool(*v),
            Cell::Int2(v) => Datum::Int2(*v),
            Cell::Int4(v) => Datum::Int4(*v),
            Cell::Int8(v) => Datum::Int8(*v),
            Cell::Oid(v) => Datum::Oid(*v),
            Cell::Float4(v) => Datum::Float4(*v),
            Cell::Float8(v) => Datum::Float8(*v),
            Cell::Uuid(v) => Datum::Uuid(*v),
            Cell::Bytes(v) => Datum::Bytes(v),
        }
    }
}

#[derive(Default)]
pub struct Store {
    tables: RwLock<HashMap<TableOid, TableView>>,
}

pub struct Writer {
    store: Arc<Store>,
}

impl Store {
    pub fn new() -> (Arc<Store>, Writer) {
        let store = Arc::new(Store::default());
        (Arc::clone(&store), Writer { store })
    }
    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        Snapshot { tables: self.tables.read().map(|t| t.clone()).unwrap_or_default() }
    }
}

impl Writer {
    pub fn load(&self, schema: &Arc<TableSchema>, chunk: Chunk) {
        let view = TableView::of_chunks(Arc::clone(schema), vec![Arc::new(chunk)]);
        if let Ok(mut tables) = self.store.tables.write() {
            tables.insert(schema.oid, view);
        }
    }
}

pub struct Snapshot {
    tables: HashMap<TableOid, TableView>,
}

impl Snapshot {
    pub fn version(&self) -> CommitVersion {
        CommitVersion(1)
    }
    pub fn lsn(&self) -> Lsn {
        Lsn(1)
    }
    pub fn table(&self, oid: TableOid) -> Option<TableView> {
        self.tables.get(&oid).cloned()
    }
}

#[derive(Clone)]
pub struct TableView {
    schema: Arc<TableSchema>,
    chunks: Vec<Arc<Chunk>>,
}

impl TableView {
    pub fn of_chunks(schema: Arc<TableSchema>, chunks: Vec<Arc<Chunk>>) -> TableView {
        TableView { schema, chunks }
    }
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }
    pub fn row_estimate(&self) -> usize {
        self.chunks.iter().map(|c| c.len() as usize).sum()
    }
    pub fn chunks(&self) -> Vec<Arc<Chunk>> {
        self.chunks.clone()
    }
    pub fn version(&self) -> CommitVersion {
        CommitVersion(1)
    }
    pub fn lookup(&self, index: usize, key: &[Datum<'_>], visit: &mut dyn FnMut(RowRef) -> ControlFlow<()>) {
        let index = &self.schema.indexes[index];
        assert!(index.kind != IndexKind::Identity);
        assert!(index.kind == IndexKind::Ordered || key.len() == index.columns.len());
        if key.iter().any(Datum::is_null) {
            return;
        }
        for chunk in &self.chunks {
            for i in 0..chunk.len() {
                let row = RowRef::new(Arc::clone(chunk), i);
                let equal = index.columns.iter().zip(key).all(|(&c, k)| {
                    let d = row.datum(c);
                    !d.is_null() && order::compare(&self.schema.columns[c].pg_type, &d, k).is_eq()
                });
                if equal && visit(row).is_break() {
                    return;
                }
            }
        }
    }
    pub fn range(
        &self,
        index: usize,
        prefix: &[Datum<'_>],
        lower: Bound<Datum<'_>>,
        upper: Bound<Datum<'_>>,
        reverse: bool,
        visit: &mut dyn FnMut(RowRef) -> ControlFlow<()>,
    ) {
        let index = &self.schema.indexes[index];
        assert!(index.kind == IndexKind::Ordered);
        let ty = |c: usize| &self.schema.columns[c].pg_type;
        let mut rows = Vec::new();
        for chunk in &self.chunks {
            for i in 0..chunk.len() {
                let row = RowRef::new(Arc::clone(chunk), i);
                let equal = index.columns.iter().zip(prefix).all(|(&c, k)| {
                    let d = row.datum(c);
                    !d.is_null() && order::compare(ty(c), &d, k).is_eq()
                });
                let within = index.columns.get(prefix.len()).is_none_or(|&c| {
                    let d = row.datum(c);
                    let bounded = !matches!(lower, Bound::Unbounded) || !matches!(upper, Bound::Unbounded);
                    if d.is_null() {
                        return !bounded;
                    }
                    (match &lower {
                        Bound::Included(b) => order::compare(ty(c), &d, b).is_ge(),
                        Bound::Excluded(b) => order::compare(ty(c), &d, b).is_gt(),
                        Bound::Unbounded => true,
                    }) && (match &upper {
                        Bound::Included(b) => order::compare(ty(c), &d, b).is_le(),
                        Bound::Excluded(b) => order::compare(ty(c), &d, b).is_lt(),
                        Bound::Unbounded => true,
                    })
                });
                if equal && within {
                    rows.push(row);
                }
            }
        }
        rows.sort_by(|a, b| {
            index
                .columns
                .iter()
                .map(|&c| order::compare(ty(c), &a.datum(c), &b.datum(c)))
                .find(|o| o.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        if reverse {
            rows.reverse();
        }
        for row in rows {
            if visit(row).is_break() {
                return;
            }
        }
    }
}

pub struct Chunk {
    rows: Vec<Vec<Cell>>,
}

impl Chunk {
    pub fn rows(&self, version: CommitVersion) -> impl Iterator<Item = Row<'_>> {
        let _ = version;
        self.rows.iter().map(|cells| Row { cells })
    }
    pub fn len(&self) -> u32 {
        self.rows.len() as u32
    }
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
    pub fn row(&self, _version: CommitVersion, i: u32) -> Option<Row<'_>> {
        self.rows.get(i as usize).map(|cells| Row { cells })
    }
}

#[derive(Clone, Copy)]
pub struct Row<'a> {
    cells: &'a [Cell],
}

impl<'a> Row<'a> {
    pub fn datum(&self, column: usize) -> Datum<'a> {
        self.cells[column].datum()
    }
}

#[derive(Clone)]
pub struct RowRef {
    chunk: Arc<Chunk>,
    row: u32,
}

impl RowRef {
    pub fn new(chunk: Arc<Chunk>, row: u32) -> RowRef {
        RowRef { chunk, row }
    }
    pub fn row(&self) -> Row<'_> {
        Row { cells: &self.chunk.rows[self.row as usize] }
    }
    pub fn datum(&self, column: usize) -> Datum<'_> {
        self.row().datum(column)
    }
}

pub struct ChunkBuilder {
    rows: Vec<Vec<Cell>>,
}

impl ChunkBuilder {
    pub fn new(_schema: &Arc<TableSchema>) -> Self {
        ChunkBuilder { rows: Vec::new() }
    }
    pub fn push(&mut self, row: &[Datum<'_>]) {
        self.rows.push(row.iter().map(Cell::new).collect());
    }
    pub fn len(&self) -> usize {
        self.rows.len()
    }
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
    pub fn finish(self) -> Chunk {
        Chunk { rows: self.rows }
    }
}
