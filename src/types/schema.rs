//! Tables, columns and indexes as the store holds them.

use std::sync::Arc;

use super::{AttNum, PgType, TableOid};

/// A mirrored table. Rows are slices of [`Datum`](super::Datum) in the order of `columns`.
#[derive(Debug, PartialEq)]
pub struct TableSchema {
    pub oid: TableOid,
    pub schema: String,
    pub name: String,
    /// The published columns, in `attnum` order.
    pub columns: Vec<ColumnSchema>,
    /// Names of live columns that are not mirrored (generated, excluded): a query that needs one,
    /// `*` included, goes to the primary.
    pub unmirrored: Vec<String>,
    pub identity: ReplicaIdentity,
    /// The identity index first (see [`TableSchema::identity_index`]), then what the primary's own
    /// definitions give.
    pub indexes: Vec<IndexSchema>,
    /// A partitioned root, whose partitions' rows are stored here.
    pub partitioned: bool,
}

/// How the stream names the row that an UPDATE or DELETE changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// By these columns (positions in `columns`): the primary key or the chosen unique index.
    Key(Vec<usize>),
    /// By all columns (REPLICA IDENTITY FULL).
    Full,
    /// Not at all: insert-only. Such a table is published for inserts and truncates alone.
    Nothing,
}

#[derive(Debug, PartialEq)]
pub struct ColumnSchema {
    pub name: String,
    pub attnum: AttNum,
    pub pg_type: Arc<PgType>,
    /// `pg_attribute.atttypmod`, -1 for none.
    pub typmod: i32,
    pub not_null: bool,
    pub collation: Collation,
}

/// The collation of a column, as far as answers depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collation {
    /// `pg_attribute.attcollation`, 0 for types without.
    pub oid: u32,
    pub order: CollationOrder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollationOrder {
    /// Not a collatable type.
    None,
    /// `C`, `POSIX`, or a builtin provider's code-point order: bytes in order.
    Bytes,
    /// Equality is identity of bytes, order is the provider's: ordering goes to the primary.
    Deterministic,
    /// Even equality goes to the primary.
    Nondeterministic,
}

impl Collation {
    pub const NONE: Collation = Collation { oid: 0, order: CollationOrder::None };
}

/// An index that the store keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexSchema {
    pub name: String,
    /// Positions in [`TableSchema::columns`].
    pub columns: Vec<usize>,
    pub unique: bool,
    pub kind: IndexKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexKind {
    /// Finds the row that the stream names; NULLs take part, values compare as identical bits.
    /// At most one a table, and the first.
    Identity,
    /// Equality. Rows with a NULL in a key column are not in it.
    Hash,
    /// Equality, ranges and order: ascending, NULLs last. Only over types and collations whose
    /// order we know ([`order::is_orderable`](super::order::is_orderable)).
    Ordered,
}

impl TableSchema {
    /// `schema.name`, unquoted, for logs and status.
    pub fn display_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    pub fn column_position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// Whether rows can be told apart when the stream changes one.
    pub fn identity_index(&self) -> Option<usize> {
        self.indexes.iter().position(|i| i.kind == IndexKind::Identity)
    }
}
