//! What is copied by which statement: ranges of tables, largest first.

use std::{collections::VecDeque, sync::Arc};

use super::{
    CopyTable,
    slot::{quote_identifier, quote_literal},
};
use crate::types::TableSchema;

/// Pages of one range: 64 MB, some hundred thousand rows. Large enough that a statement of its own costs
/// nothing, small enough that the last one does not keep the others waiting.
const RANGE_PAGES: u64 = 8_192;

/// One COPY statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// Position in the list of tables.
    pub(super) table: usize,
    /// First page, and the page after the last; the last range of a table has no end, because the table
    /// may have grown since its pages were counted.
    pub(super) pages: Option<(u64, Option<u64>)>,
}

/// All ranges of all tables, the largest tables first, and how many ranges each table has.
pub(super) fn ranges(tables: &[CopyTable]) -> (VecDeque<Range>, Vec<usize>) {
    let mut order: Vec<usize> = (0..tables.len()).collect();
    let pages = |&table: &usize| tables.get(table).map_or(0, |t| t.pages);
    order.sort_by_key(|table| std::cmp::Reverse(pages(table)));
    let (mut ranges, mut counts) = (VecDeque::new(), vec![0; tables.len()]);
    for table in order {
        let pages = pages(&table);
        // A partitioned root has no pages of its own, and every partition its own page 0.
        let whole = pages <= RANGE_PAGES || tables.get(table).is_some_and(|t| t.schema.partitioned);
        let before = ranges.len();
        match whole {
            true => ranges.push_back(Range { table, pages: None }),
            false => {
                let starts = (0..pages.div_ceil(RANGE_PAGES)).map(|n| n * RANGE_PAGES);
                ranges.extend(starts.map(|start| {
                    let end = start + RANGE_PAGES;
                    Range { table, pages: Some((start, (end < pages).then_some(end))) }
                }));
            }
        }
        if let Some(count) = counts.get_mut(table) {
            *count = ranges.len() - before;
        }
    }
    (ranges, counts)
}

/// `lock table` for all of them: a root with its partitions, every other table alone.
pub(super) fn lock_statement(tables: &[CopyTable]) -> Option<String> {
    let names: Vec<String> = tables.iter().map(|t| relation(&t.schema)).collect();
    (!names.is_empty()).then(|| format!("lock table {} in access share mode", names.join(", ")))
}

/// The COPY of a range: the schema's columns, in its order. The framing is binary always; `as_text`
/// makes each value its text.
pub(super) fn copy_statement(schema: &Arc<TableSchema>, range: &Range, as_text: bool) -> String {
    let columns: Vec<String> = schema
        .columns
        .iter()
        .map(|column| {
            let name = quote_identifier(&column.name);
            match as_text || column.pg_type.is_opaque() {
                // Its text, by its own output function. `is not distinct from` because a composite of
                // NULLs `is null` without being NULL.
                true => format!(
                    "case when {name} is not distinct from null then null \
                     else pg_catalog.format('%s', {name}) end"
                ),
                false => name,
            }
        })
        .collect();
    let condition = match range.pages {
        None => String::new(),
        Some((start, None)) => format!(" where ctid >= '({start},0)'::pg_catalog.tid"),
        Some((start, Some(end))) => {
            format!(" where ctid >= '({start},0)'::pg_catalog.tid and ctid < '({end},0)'::pg_catalog.tid")
        }
    };
    format!(
        "copy (select {} from {}{condition}) to stdout (format binary)",
        columns.join(", "),
        relation(schema)
    )
}

/// `set transaction snapshot`.
pub(super) fn import_statement(snapshot: &str) -> String {
    format!("set transaction snapshot {}", quote_literal(snapshot))
}

fn relation(schema: &TableSchema) -> String {
    let only = if schema.partitioned { "" } else { "only " };
    format!("{only}{}.{}", quote_identifier(&schema.schema), quote_identifier(&schema.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{
        AttNum, Collation, ColumnSchema, PgType, ReplicaIdentity, TableOid, TypeKind, TypeOid,
    };

    fn table(name: &str, pages: u64, partitioned: bool) -> CopyTable {
        let column = |name: &str, kind| ColumnSchema {
            name: name.into(),
            attnum: AttNum(1),
            pg_type: Arc::new(PgType { oid: TypeOid(23), name: "t".into(), len: -1, kind }),
            typmod: -1,
            not_null: false,
            collation: Collation::NONE,
        };
        let schema = TableSchema {
            oid: TableOid(1),
            schema: "s".into(),
            name: name.into(),
            columns: vec![column("a", TypeKind::Int4), column("b\"", TypeKind::Opaque)],
            unmirrored: Vec::new(),
            identity: ReplicaIdentity::Full,
            indexes: Vec::new(),
            partitioned,
        };
        CopyTable { schema: Arc::new(schema), pages, total_bytes: pages * 8192 }
    }

    #[test]
    fn the_largest_goes_first_and_its_last_range_has_no_end() {
        let tables = [table("small", 3, false), table("large", 20_000, false), table("root", 99_999, true)];
        let (ranges, counts) = ranges(&tables);
        assert_eq!(counts, [1, 3, 1]);
        assert_eq!(ranges[0], Range { table: 2, pages: None });
        let large: Vec<_> = ranges.iter().filter(|r| r.table == 1).map(|r| r.pages.unwrap()).collect();
        assert_eq!(large, [(0, Some(8_192)), (8_192, Some(16_384)), (16_384, None)]);
    }

    #[test]
    fn every_page_is_in_one_range() {
        for pages in [0, 1, 8_191, 8_192, 8_193, 16_384, 16_385, 1_000_000] {
            let (ranges, counts) = ranges(&[table("t", pages, false)]);
            assert_eq!(ranges.len(), counts[0]);
            let mut next = Some(0);
            for range in ranges {
                let (start, end) = range.pages.unwrap_or((0, None));
                assert_eq!(Some(start), next, "{pages}");
                next = end;
            }
            assert_eq!(next, None, "{pages}");
        }
    }

    #[test]
    fn statements_quote_and_leave_children_out() {
        let plain = table("t\"x", 20_000, false);
        assert_eq!(
            copy_statement(&plain.schema, &Range { table: 0, pages: Some((5, Some(9))) }, false),
            "copy (select \"a\", case when \"b\"\"\" is not distinct from null then null else \
             pg_catalog.format('%s', \"b\"\"\") end from only \"s\".\"t\"\"x\" where ctid >= \
             '(5,0)'::pg_catalog.tid and ctid < '(9,0)'::pg_catalog.tid) to stdout (format binary)"
        );
        let root = table("r", 1, true);
        assert!(
            copy_statement(&root.schema, &Range { table: 0, pages: None }, false)
                .contains("from \"s\".\"r\")")
        );
        assert_eq!(
            lock_statement(&[plain, root]).unwrap(),
            "lock table only \"s\".\"t\"\"x\", \"s\".\"r\" in access share mode"
        );
        assert_eq!(lock_statement(&[]), None);
    }
}
