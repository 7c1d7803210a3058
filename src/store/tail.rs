//! The mutable end of a table: rows are appended one by one and read without a lock.
//!
//! Slots are `OnceLock`s: the writer sets each once, readers see a row whole or not at all. Rows
//! are kept row-wise here and turned into columns when the chunk is sealed.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

use super::chunk::{CHUNK_ROWS, LIVE};
use crate::types::{Datum, Physical};

/// Slots are allocated in runs of this many, so that a small table costs little.
const RUN_ROWS: usize = 256;

/// Values are written into blocks, which grow from the first size to the second: a row by itself would
/// cost an allocation.
const BLOCK_BYTES_MIN: usize = 1 << 10;
const BLOCK_BYTES_MAX: usize = 64 << 10;

/// [`RUN_ROWS`] slots.
type Run = Box<[OnceLock<TailRow>]>;

#[derive(Debug)]
pub(super) struct Tail {
    runs: Box<[OnceLock<Run>]>,
    len: AtomicU32,
    bytes: AtomicUsize,
    /// The free end of the last block. Only the writer locks it.
    block: Mutex<BytesMut>,
}

#[derive(Debug)]
pub(super) struct TailRow {
    pub(super) begin: u64,
    pub(super) end: AtomicU64,
    /// An end offset for each column (the top bit set for NULL), then the values.
    data: Bytes,
}

const NULL_BIT: u32 = 1 << 31;

impl Tail {
    pub(super) fn new() -> Tail {
        Tail {
            runs: (0..CHUNK_ROWS / RUN_ROWS).map(|_| OnceLock::new()).collect(),
            len: AtomicU32::new(0),
            bytes: AtomicUsize::new(0),
            block: Mutex::default(),
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    /// Heap bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Appends a row that is seen from `begin` on; returns its number. Only the one writer calls
    /// this, and never on a full tail.
    pub(super) fn push(&self, begin: u64, row: &[Datum<'_>]) -> u32 {
        let number = self.len.load(Ordering::Relaxed);
        let mut added = 0;
        let run = self.runs[number as usize / RUN_ROWS].get_or_init(|| {
            added += RUN_ROWS * size_of::<OnceLock<TailRow>>();
            (0..RUN_ROWS).map(|_| OnceLock::new()).collect()
        });
        let data = {
            let mut block = self.block.lock();
            let size = row.iter().map(|d| 4 + width(d)).sum();
            if block.capacity() < size {
                let next = (self.bytes() / 8).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX).max(size);
                *block = BytesMut::with_capacity(next);
                added += next;
            }
            encode(row, &mut block);
            block.split().freeze()
        };
        let fresh =
            run[number as usize % RUN_ROWS].set(TailRow { begin, end: AtomicU64::new(LIVE), data }).is_ok();
        debug_assert!(fresh, "a slot is written once");
        self.bytes.fetch_add(added, Ordering::Relaxed);
        self.len.store(number + 1, Ordering::Release);
        number
    }

    /// The row in a slot below `len`.
    pub(super) fn row(&self, number: u32) -> Option<&TailRow> {
        self.runs.get(number as usize / RUN_ROWS)?.get()?.get(number as usize % RUN_ROWS)?.get()
    }
}

impl TailRow {
    pub(super) fn datum(&self, column: usize, physical: &[Physical]) -> Datum<'_> {
        let offset = |i: usize| {
            let at = i * 4;
            u32::from_ne_bytes([self.data[at], self.data[at + 1], self.data[at + 2], self.data[at + 3]])
        };
        let end = offset(column);
        if end & NULL_BIT != 0 {
            return Datum::Null;
        }
        let start = if column == 0 { 0 } else { offset(column - 1) & !NULL_BIT };
        let values = &self.data[physical.len() * 4..];
        let bytes = &values[start as usize..end as usize];
        decode(physical[column], bytes)
    }
}

fn encode(row: &[Datum<'_>], out: &mut BytesMut) {
    let mut end = 0u32;
    for datum in row {
        end += width(datum) as u32;
        let mark = if datum.is_null() { end | NULL_BIT } else { end };
        out.put_slice(&mark.to_ne_bytes());
    }
    for datum in row {
        match datum {
            Datum::Null => {}
            Datum::Bool(v) => out.put_u8(u8::from(*v)),
            Datum::Int2(v) => out.put_slice(&v.to_ne_bytes()),
            Datum::Int4(v) => out.put_slice(&v.to_ne_bytes()),
            Datum::Int8(v) => out.put_slice(&v.to_ne_bytes()),
            Datum::Oid(v) => out.put_slice(&v.to_ne_bytes()),
            Datum::Float4(v) => out.put_slice(&v.to_ne_bytes()),
            Datum::Float8(v) => out.put_slice(&v.to_ne_bytes()),
            Datum::Uuid(v) => out.put_slice(v),
            Datum::Bytes(v) => out.put_slice(v),
        }
    }
}

fn width(datum: &Datum<'_>) -> usize {
    match datum {
        Datum::Null => 0,
        Datum::Bool(_) => 1,
        Datum::Int2(_) => 2,
        Datum::Int4(_) | Datum::Oid(_) | Datum::Float4(_) => 4,
        Datum::Int8(_) | Datum::Float8(_) => 8,
        Datum::Uuid(_) => 16,
        Datum::Bytes(v) => v.len(),
    }
}

fn decode(physical: Physical, bytes: &[u8]) -> Datum<'_> {
    // The bytes were written by `encode` from a datum of this representation.
    fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().unwrap_or([0; N])
    }
    match physical {
        Physical::Bool => Datum::Bool(bytes == [1]),
        Physical::I16 => Datum::Int2(i16::from_ne_bytes(fixed(bytes))),
        Physical::I32 => Datum::Int4(i32::from_ne_bytes(fixed(bytes))),
        Physical::I64 => Datum::Int8(i64::from_ne_bytes(fixed(bytes))),
        Physical::U32 => Datum::Oid(u32::from_ne_bytes(fixed(bytes))),
        Physical::F32 => Datum::Float4(f32::from_ne_bytes(fixed(bytes))),
        Physical::F64 => Datum::Float8(f64::from_ne_bytes(fixed(bytes))),
        Physical::Fixed16 => Datum::Uuid(fixed(bytes)),
        Physical::Bytes => Datum::Bytes(bytes),
    }
}
