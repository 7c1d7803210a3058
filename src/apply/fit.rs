//! Which tables fit into memory: decided before anything is copied, so that a copy never ends in an
//! exhausted machine.

use std::collections::HashMap;

use crate::{
    catalog::{Catalog, UnsupportedTable},
    source::CopyTable,
    types::TableOid,
};

/// The tables that were left out, and the reason that their rows in `millpond.tables` show.
#[derive(Clone, Debug, Default)]
pub(super) struct LeftOut {
    tables: HashMap<TableOid, String>,
}

impl LeftOut {
    /// Leaves out tables, the largest first, until the rest is estimated to fit. What a table takes
    /// here is close to what it takes on the primary's disk, indexes left aside there and added here.
    pub(super) fn choose(tables: &[CopyTable], max_bytes: u64) -> LeftOut {
        let mut by_size: Vec<&CopyTable> = tables.iter().collect();
        by_size.sort_by_key(|table| std::cmp::Reverse(table.total_bytes));
        let mut total: u64 = by_size.iter().map(|table| table.total_bytes).sum();
        let mut left_out = LeftOut::default();
        for table in by_size {
            if total <= max_bytes {
                break;
            }
            total -= table.total_bytes;
            let reason = format!(
                "its {} bytes do not fit with the other tables into memory.max_bytes = {max_bytes}: raise that, or exclude tables",
                table.total_bytes
            );
            left_out.tables.insert(table.schema.oid, reason);
        }
        left_out
    }

    /// Leaves out one more.
    pub(super) fn add(&mut self, table: TableOid, reason: String) {
        self.tables.insert(table, reason);
    }

    /// Makes them unsupported in a catalogue.
    pub(super) fn apply(&self, catalog: &mut Catalog) {
        for (oid, reason) in &self.tables {
            if let Some(schema) = catalog.tables.remove(oid) {
                catalog.unsupported.push(UnsupportedTable {
                    oid: *oid,
                    schema: schema.schema.clone(),
                    name: schema.name.clone(),
                    reason: reason.clone(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::{ReplicaIdentity, TableSchema};

    fn table(oid: u32, total_bytes: u64) -> CopyTable {
        let schema = TableSchema {
            oid: TableOid(oid),
            schema: "public".into(),
            name: format!("t{oid}"),
            columns: Vec::new(),
            unmirrored: Vec::new(),
            identity: ReplicaIdentity::Nothing,
            indexes: Vec::new(),
            partitioned: false,
        };
        CopyTable { schema: Arc::new(schema), pages: 0, total_bytes }
    }

    #[test]
    fn the_largest_tables_are_left_out_until_the_rest_fits() {
        let tables = [table(1, 50), table(2, 500), table(3, 200), table(4, 10)];
        let left_out = |max| {
            let mut oids: Vec<u32> = LeftOut::choose(&tables, max).tables.keys().map(|oid| oid.0).collect();
            oids.sort_unstable();
            oids
        };
        assert_eq!(left_out(1000), [0u32; 0]);
        assert_eq!(left_out(759), [2]);
        assert_eq!(left_out(100), [2, 3]);
        assert_eq!(left_out(0), [1, 2, 3, 4]);
        let mut catalog = Catalog::default();
        for table in &tables {
            catalog.tables.insert(table.schema.oid, Arc::clone(&table.schema));
        }
        LeftOut::choose(&tables, 300).apply(&mut catalog);
        assert_eq!(catalog.tables.len(), 3);
        assert!(catalog.unsupported[0].reason.contains("memory.max_bytes = 300"));
    }
}
