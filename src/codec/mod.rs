//! PostgreSQL values, text and binary, both ways; total on any bytes, pure.
//!
//! The text forms are those of the output functions under DateStyle ISO, IntervalStyle postgres,
//! TimeZone UTC, `extra_float_digits` of at least 1, `bytea_output` hex and an `lc_monetary` of C,
//! POSIX or en_US, in a UTF-8 database. The binary forms are those of the send functions. Both
//! directions agree: a value read from the server's text is the same, bit for bit, as one read from
//! its binary form.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod array;
mod binary;
mod bits;
mod bytea;
mod composite;
mod cursor;
mod datetime;
mod float;
mod geometry;
mod integer;
mod interval;
mod money;
mod network;
mod numeric;
mod quoting;
mod range;
mod ryu;
mod system;
mod text;
mod tsquery;
mod tsvector;

pub use binary::{read_binary, reads_binary, write_binary};
pub use text::{read_text, reads_text, write_text};

/// How deep types may nest (arrays of composites of ranges ..) before we refuse them.
const MAX_DEPTH: usize = 32;

/// Why bytes are not a value, or a value cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not what the type's functions write; the text says what was expected.
    #[error("malformed value: {0}")]
    Malformed(&'static str),
    /// The value is not in the representation that its type is stored in.
    #[error("the value is not stored as its type is")]
    Representation,
    /// The type is known by its text only.
    #[error("the type has no binary form that is known")]
    NoBinary,
    /// The type's text does not determine its value.
    #[error("the type cannot be read from its text")]
    NoText,
    /// The type nests deeper than the codec follows.
    #[error("the type nests too deeply")]
    TooDeep,
}

type Result<T> = std::result::Result<T, CodecError>;

/// The depth of a part of a value at `depth`.
fn deeper(depth: usize) -> Result<usize> {
    if depth >= MAX_DEPTH { Err(CodecError::TooDeep) } else { Ok(depth + 1) }
}
