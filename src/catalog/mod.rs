//! The primary's catalogue as of one moment: immutable, swapped whole.
//!
//! `source` reads it from the primary, `apply` puts it in place, `query` resolves names against it.

mod privileges;
mod stamp;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;

pub use privileges::Privileges;
pub use stamp::TableStamp;

use crate::types::{Lsn, PgType, TableOid, TableSchema, TypeOid};

/// What the program knows of the primary. Every reader holds one `Arc<Catalog>` for a statement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    /// Counts up with every swap; plans made under another version are void.
    pub version: u64,
    pub database: String,
    /// `server_version_num`, such as 150020.
    pub server_version_num: u32,
    /// `lc_monetary` of the database; sessions that differ get money text from the primary.
    pub lc_monetary: String,
    pub types: HashMap<TypeOid, Arc<PgType>>,
    /// What a column of a domain shows as its typmod: the one that the domain gives its base type.
    pub domain_typmods: HashMap<TypeOid, i32>,
    /// Every relation of the database that an unqualified name could mean, temporary ones
    /// excepted: schema -> name -> relation.
    pub relations: HashMap<String, HashMap<String, Relation>>,
    /// The chosen tables that can be mirrored.
    pub tables: HashMap<TableOid, Arc<TableSchema>>,
    /// The chosen tables that cannot be mirrored, with the reason.
    pub unsupported: Vec<UnsupportedTable>,
    pub privileges: Privileges,
    /// Somebody has defined an operator, aggregate or cast that could be meant where we mean
    /// `pg_catalog`'s: nothing is computed here then.
    pub overloaded: bool,
    /// For each table in `tables`, what tells a change that its schema alone does not show.
    pub stamps: HashMap<TableOid, TableStamp>,
    /// What the rules name and the primary does not have, one sentence each.
    pub warnings: Vec<String>,
}

/// A row of `pg_class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation {
    pub oid: TableOid,
    /// `pg_class.relkind`.
    pub kind: u8,
}

/// A chosen table that goes to the primary, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedTable {
    pub oid: TableOid,
    pub schema: String,
    pub name: String,
    /// What is missing and the command that mends it.
    pub reason: String,
}

impl Catalog {
    pub fn relation(&self, schema: &str, name: &str) -> Option<Relation> {
        self.relations.get(schema)?.get(name).copied()
    }

    /// Resolves an unqualified name along a search path as `RelnameGetRelid` does: the first schema
    /// that has a relation of that name. `path` is `current_schemas(true)` of the session.
    pub fn resolve<'a>(&self, path: impl IntoIterator<Item = &'a str>, name: &str) -> Option<Relation> {
        path.into_iter().find_map(|schema| self.relation(schema, name))
    }
}

/// The current catalogue: one writer (`apply`), any number of readers.
#[derive(Debug, Default)]
pub struct CatalogHandle {
    current: ArcSwap<Catalog>,
    /// An [`Lsn`].
    compared_at: AtomicU64,
}

impl CatalogHandle {
    pub fn new(catalog: Catalog) -> CatalogHandle {
        CatalogHandle { current: ArcSwap::from_pointee(catalog), compared_at: AtomicU64::new(0) }
    }

    pub fn load(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// The current catalogue has every change of definition that the primary had flushed up to here.
    /// Most such changes send nothing through the stream, so the store's position says nothing of them.
    pub fn compared_at(&self) -> Lsn {
        Lsn(self.compared_at.load(Ordering::Acquire))
    }

    /// The current catalogue was compared with the primary's, or read from it, after `lsn` was flushed.
    pub fn set_compared_at(&self, lsn: Lsn) {
        self.compared_at.fetch_max(lsn.0, Ordering::AcqRel);
    }

    /// Puts a new catalogue in place under the next version.
    pub fn swap(&self, mut catalog: Catalog) -> Arc<Catalog> {
        catalog.version = self.current.load().version + 1;
        let catalog = Arc::new(catalog);
        self.current.store(Arc::clone(&catalog));
        catalog
    }
}
