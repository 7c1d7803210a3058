//! What a new reading of the catalogue means for the tables that we hold.

use crate::{
    catalog::Catalog,
    types::{ColumnSchema, TableOid, TableSchema},
};

/// A table of either catalogue, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableChange {
    pub table: TableOid,
    pub kind: TableChangeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableChangeKind {
    /// Not mirrored before: copy it.
    Added,
    /// Gone, no longer chosen, or no longer fit to be mirrored.
    Dropped,
    /// Its rows stay as they are; names (its own, its columns', its types'), NOT NULL or enum
    /// labels differ: put the new schema in place.
    Renamed,
    /// As `Renamed`, and the primary's indexes differ: until the table is copied again the old ones
    /// serve, except that a unique one may be so no more.
    Reindexed,
    /// Rows may differ from ours without an event in the stream: copy it again.
    Reshaped,
    Unchanged,
}

/// Compares two readings, in order of OID. When in doubt a table is `Reshaped`.
pub fn changes(old: &Catalog, new: &Catalog) -> Vec<TableChange> {
    let mut tables: Vec<TableOid> = old.tables.keys().chain(new.tables.keys()).copied().collect();
    tables.sort_unstable();
    tables.dedup();
    let kind = |table: &TableOid| match (old.tables.get(table), new.tables.get(table)) {
        (None, _) => TableChangeKind::Added,
        (_, None) => TableChangeKind::Dropped,
        (Some(before), Some(after)) => {
            let stamped = match (old.stamps.get(table), new.stamps.get(table)) {
                (Some(before), Some(after)) => !before.contents_may_differ(after),
                _ => false,
            };
            match stamped && same_shape(before, after) {
                false => TableChangeKind::Reshaped,
                true if before == after => TableChangeKind::Unchanged,
                true if before.indexes == after.indexes => TableChangeKind::Renamed,
                true => TableChangeKind::Reindexed,
            }
        }
    };
    tables.iter().map(|table| TableChange { table: *table, kind: kind(table) }).collect()
}

/// Whether stored rows and their identity mean the same under both schemas. Types are compared by
/// OID: their definitions are in the stamps.
fn same_shape(a: &TableSchema, b: &TableSchema) -> bool {
    let same_column = |a: &ColumnSchema, b: &ColumnSchema| {
        a.attnum == b.attnum
            && a.pg_type.oid == b.pg_type.oid
            && a.pg_type.is_opaque() == b.pg_type.is_opaque()
            && a.typmod == b.typmod
            && a.collation == b.collation
    };
    a.partitioned == b.partitioned
        && a.identity == b.identity
        && a.unmirrored.len() == b.unmirrored.len()
        && a.columns.len() == b.columns.len()
        && a.columns.iter().zip(&b.columns).all(|(a, b)| same_column(a, b))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        catalog::TableStamp,
        types::{AttNum, Collation, IndexKind, IndexSchema, PgType, ReplicaIdentity, TypeKind, TypeOid},
    };

    fn table() -> TableSchema {
        let column = |name: &str, attnum| ColumnSchema {
            name: name.to_string(),
            attnum: AttNum(attnum),
            pg_type: Arc::new(PgType {
                oid: TypeOid(23),
                name: "int4".to_string(),
                len: 4,
                kind: TypeKind::Int4,
            }),
            typmod: -1,
            not_null: true,
            collation: Collation::NONE,
        };
        TableSchema {
            oid: TableOid(7),
            schema: "public".to_string(),
            name: "t".to_string(),
            columns: vec![column("a", 1), column("b", 2)],
            unmirrored: Vec::new(),
            identity: ReplicaIdentity::Key(vec![0]),
            indexes: Vec::new(),
            partitioned: false,
        }
    }

    fn catalog(schema: Option<TableSchema>, stamp: Option<TableStamp>) -> Catalog {
        let mut catalog = Catalog::default();
        if let Some(schema) = schema {
            if let Some(stamp) = stamp {
                catalog.stamps.insert(schema.oid, stamp);
            }
            catalog.tables.insert(schema.oid, Arc::new(schema));
        }
        catalog
    }

    fn change(change: impl FnOnce(&mut TableSchema)) -> TableChangeKind {
        let old = catalog(Some(table()), Some(TableStamp::default()));
        let mut schema = table();
        change(&mut schema);
        only(&old, &catalog(Some(schema), Some(TableStamp::default())))
    }

    fn only(old: &Catalog, new: &Catalog) -> TableChangeKind {
        let changes = changes(old, new);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].table, TableOid(7));
        changes[0].kind
    }

    #[test]
    fn names_keep_rows_and_shapes_do_not() {
        assert_eq!(change(|_| ()), TableChangeKind::Unchanged);
        assert_eq!(change(|t| t.name = "u".to_string()), TableChangeKind::Renamed);
        assert_eq!(change(|t| t.columns[1].name = "c".to_string()), TableChangeKind::Renamed);
        assert_eq!(change(|t| t.columns[1].not_null = false), TableChangeKind::Renamed);
        assert_eq!(change(|t| t.columns[1].attnum = AttNum(3)), TableChangeKind::Reshaped);
        assert_eq!(change(|t| t.columns[1].typmod = 8), TableChangeKind::Reshaped);
        assert_eq!(change(|t| t.columns.truncate(1)), TableChangeKind::Reshaped);
        assert_eq!(change(|t| t.identity = ReplicaIdentity::Full), TableChangeKind::Reshaped);
        assert_eq!(change(|t| t.unmirrored.push("g".to_string())), TableChangeKind::Reshaped);
        assert_eq!(
            change(|t| t.indexes.push(IndexSchema {
                name: "i".to_string(),
                columns: vec![1],
                unique: false,
                kind: IndexKind::Hash,
            })),
            TableChangeKind::Reindexed
        );
    }

    #[test]
    fn tables_come_and_go() {
        let with = catalog(Some(table()), Some(TableStamp::default()));
        let without = catalog(None, None);
        assert_eq!(only(&without, &with), TableChangeKind::Added);
        assert_eq!(only(&with, &without), TableChangeKind::Dropped);
        assert!(changes(&without, &without).is_empty());
    }

    #[test]
    fn without_a_stamp_nothing_is_proven() {
        let stamped = catalog(Some(table()), Some(TableStamp::default()));
        let unstamped = catalog(Some(table()), None);
        assert_eq!(only(&unstamped, &stamped), TableChangeKind::Reshaped);
    }
}
