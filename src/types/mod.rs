//! The words of the program: log positions, identifiers, types, values and schemas. Pure.

mod datum;
mod ids;
mod lsn;
pub mod order;
mod pg_type;
mod schema;

pub use datum::Datum;
pub use ids::{AttNum, CommitVersion, RoleOid, TableOid, TypeOid, Xid};
pub use lsn::{Lsn, ParseLsnError};
pub use pg_type::{PgType, Physical, Setting, TypeKind};
pub use schema::{
    Collation, CollationOrder, ColumnSchema, IndexKind, IndexSchema, ReplicaIdentity, TableSchema,
};
