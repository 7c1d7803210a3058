//! Replication and COPY bytes to changes: sans-IO, and total on any bytes.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod copy;
mod cursor;
mod pgoutput;
mod row;

pub use copy::{CopyDecoder, CopyTuple};
pub use pgoutput::{
    Begin, Commit, Decoder, OldTuple, Relation, RelationColumn, ReplicaIdentityKind, ReplicationMessage,
    Tuple, TupleValue,
};
pub use row::RowDecoder;

/// Bytes from the primary that are not what the protocol says. Whatever they belong to must be
/// copied again: guessing is how a cache goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{what} ends before its {wanted} more bytes")]
    Short { what: &'static str, wanted: usize },
    #[error("{what} has {extra} bytes too many")]
    Trailing { what: &'static str, extra: usize },
    #[error("unknown {what} {byte:#04x}")]
    Unknown { what: &'static str, byte: u8 },
    #[error("{what} is not valid UTF-8")]
    Utf8 { what: &'static str },
    #[error("{what}: {count} columns where {expected} were expected")]
    Columns { what: &'static str, count: usize, expected: usize },
    #[error("column {column}: {source}")]
    Value { column: String, source: crate::codec::CodecError },
    #[error("column {column} is marked unchanged, but there is no old row to take it from")]
    UnchangedWithoutOld { column: String },
}
