//! Indexes: row ids by key. An entry stands for one row version and lives as long as it does, so an
//! entry that is found always has its key, and a reader only asks whether the row is visible.

mod hash;
mod ordered;

pub(super) use hash::HashIndex;
pub(super) use ordered::{Key, KeyRange, OrderedIndex};

/// A row version's place: chunk id and number in the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RowId(u64);

impl RowId {
    pub(super) fn new(chunk: u32, number: u32) -> RowId {
        RowId(u64::from(chunk) << 16 | u64::from(number))
    }

    pub(super) fn chunk(self) -> u32 {
        (self.0 >> 16) as u32
    }

    pub(super) fn number(self) -> u32 {
        (self.0 & 0xffff) as u32
    }
}
