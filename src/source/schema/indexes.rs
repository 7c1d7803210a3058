//! The indexes that the store keeps, from those that the primary has.

use tokio_postgres::{Client, Error, Row};

use crate::types::{ColumnSchema, IndexKind, IndexSchema, ReplicaIdentity, order};

/// A row of `sql/indexes.sql`.
#[derive(Clone, Debug)]
pub(super) struct IndexRow {
    pub(super) table: u32,
    pub(super) name: String,
    /// `pg_am.amname`.
    pub(super) method: String,
    pub(super) primary: bool,
    pub(super) unique: bool,
    /// Chosen by REPLICA IDENTITY USING INDEX.
    pub(super) chosen: bool,
    pub(super) immediate: bool,
    pub(super) usable: bool,
    /// Over some rows only, or over expressions.
    pub(super) partial: bool,
    /// `attnum` of the key columns, included columns left out.
    pub(super) keys: Vec<i16>,
}

impl IndexRow {
    fn read(row: &Row) -> Result<IndexRow, Error> {
        Ok(IndexRow {
            table: row.try_get("table")?,
            name: row.try_get("name")?,
            method: row.try_get("method")?,
            primary: row.try_get("primary")?,
            unique: row.try_get("unique")?,
            chosen: row.try_get("chosen")?,
            immediate: row.try_get("immediate")?,
            usable: row.try_get("usable")?,
            partial: row.try_get("partial")?,
            keys: row.try_get("keys")?,
        })
    }

    /// The positions of the key columns, when all of them are mirrored.
    pub(super) fn positions(&self, columns: &[ColumnSchema]) -> Option<Vec<usize>> {
        self.keys.iter().map(|key| columns.iter().position(|c| c.attnum.0 == *key)).collect()
    }
}

pub(super) async fn read(client: &Client, tables: &[u32]) -> Result<Vec<IndexRow>, Error> {
    let rows = client.query(include_str!("../../../sql/indexes.sql"), &[&tables]).await?;
    rows.iter().map(IndexRow::read).collect()
}

/// The identity first; then one index for each of the primary's that we can keep, a hash beside the
/// ordered one for the primary key; equal ones once.
pub(super) fn build(
    identity: &ReplicaIdentity,
    columns: &[ColumnSchema],
    rows: &[&IndexRow],
) -> Vec<IndexSchema> {
    let mut indexes = Vec::new();
    match identity {
        ReplicaIdentity::Key(positions) => indexes.push(IndexSchema {
            name: "identity".to_string(),
            columns: positions.clone(),
            unique: true,
            kind: IndexKind::Identity,
        }),
        ReplicaIdentity::Full => indexes.push(IndexSchema {
            name: "identity".to_string(),
            columns: (0..columns.len()).collect(),
            unique: false,
            kind: IndexKind::Identity,
        }),
        ReplicaIdentity::Nothing => {}
    }
    for row in rows.iter().filter(|row| row.usable && !row.partial) {
        let Some(positions) = row.positions(columns) else { continue };
        let all = |known: fn(&ColumnSchema) -> bool| {
            positions.iter().all(|&position| columns.get(position).is_some_and(known))
        };
        let orderable = all(|c| order::is_orderable(&c.pg_type, c.collation));
        let comparable = all(|c| order::is_comparable(&c.pg_type, c.collation));
        let ordered = row.method == "btree" && orderable;
        let hash = match row.method.as_str() {
            "btree" => comparable && (row.primary || !orderable),
            "hash" => comparable,
            _ => false,
        };
        for kind in [ordered.then_some(IndexKind::Ordered), hash.then_some(IndexKind::Hash)] {
            let Some(kind) = kind else { continue };
            match indexes.iter_mut().find(|i| i.kind == kind && i.columns == positions) {
                Some(same) => same.unique |= row.unique,
                None => indexes.push(IndexSchema {
                    name: row.name.clone(),
                    columns: positions.clone(),
                    unique: row.unique,
                    kind,
                }),
            }
        }
    }
    indexes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::{AttNum, Collation, CollationOrder, PgType, TypeKind, TypeOid};

    fn column(attnum: i16, kind: TypeKind, order: CollationOrder) -> ColumnSchema {
        ColumnSchema {
            name: format!("c{attnum}"),
            attnum: AttNum(attnum),
            pg_type: Arc::new(PgType { oid: TypeOid(1), name: String::new(), len: -1, kind }),
            typmod: -1,
            not_null: false,
            collation: Collation { oid: 1, order },
        }
    }

    fn index(name: &str, method: &str, unique: bool, keys: &[i16]) -> IndexRow {
        IndexRow {
            table: 1,
            name: name.to_string(),
            method: method.to_string(),
            primary: name == "pk",
            unique,
            chosen: false,
            immediate: true,
            usable: true,
            partial: false,
            keys: keys.to_vec(),
        }
    }

    #[test]
    fn the_primarys_indexes_become_ours_where_we_know_the_order() {
        let columns = [
            column(1, TypeKind::Int4, CollationOrder::None),
            column(3, TypeKind::Text, CollationOrder::Deterministic),
            column(4, TypeKind::Text, CollationOrder::Nondeterministic),
            column(5, TypeKind::Text, CollationOrder::Bytes),
        ];
        let rows = [
            index("pk", "btree", true, &[1]),
            index("again", "btree", false, &[1]),
            index("words", "btree", true, &[3, 1]),
            index("loose", "btree", false, &[4]),
            index("bytes", "btree", false, &[5, 1]),
            index("hashed", "hash", false, &[5]),
            index("gone", "btree", false, &[2]),
            index("tree", "gist", false, &[1]),
            IndexRow { partial: true, ..index("some", "btree", false, &[5]) },
            IndexRow { usable: false, ..index("broken", "btree", false, &[5]) },
        ];
        let built = build(&ReplicaIdentity::Key(vec![0]), &columns, &rows.iter().collect::<Vec<_>>());
        let built: Vec<_> =
            built.iter().map(|i| (i.name.as_str(), i.kind, i.columns.as_slice(), i.unique)).collect();
        assert_eq!(
            built,
            [
                ("identity", IndexKind::Identity, &[0][..], true),
                ("pk", IndexKind::Ordered, &[0], true),
                ("pk", IndexKind::Hash, &[0], true),
                ("words", IndexKind::Hash, &[1, 0], true),
                ("bytes", IndexKind::Ordered, &[3, 0], false),
                ("hashed", IndexKind::Hash, &[3], false),
            ]
        );
    }

    #[test]
    fn without_a_key_the_whole_row_is_the_identity() {
        let columns = [
            column(1, TypeKind::Int4, CollationOrder::None),
            column(2, TypeKind::Json, CollationOrder::None),
        ];
        let built = build(&ReplicaIdentity::Full, &columns, &[]);
        assert_eq!(built.len(), 1);
        assert_eq!((built[0].columns.as_slice(), built[0].unique), (&[0, 1][..], false));
    }
}
