//! One table: from its catalogue rows to its schema, or to the reason why it can't be mirrored.

use std::collections::HashSet;

use tokio_postgres::{Client, Error, Row};

use super::{collation::Collations, indexes, indexes::IndexRow, quote, quote_table, types::Types};
use crate::types::{AttNum, ColumnSchema, ReplicaIdentity, TableOid, TableSchema};

/// A row of `sql/tables.sql`.
#[derive(Clone, Debug)]
pub(super) struct TableRow {
    pub(super) oid: TableOid,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: u8,
    pub(super) persistence: u8,
    pub(super) identity: u8,
    pub(super) filenode: u32,
    pub(super) heap: bool,
    /// Of a partition: the root above it.
    pub(super) root: Option<TableOid>,
    pub(super) inherits: bool,
    /// Row security hides rows from us.
    pub(super) filtered: bool,
    pub(super) usage: bool,
    pub(super) readable: bool,
}

pub(super) async fn read(client: &Client, oids: &[u32]) -> Result<Vec<TableRow>, Error> {
    let read = |row: &Row| {
        Ok(TableRow {
            oid: TableOid(row.try_get("oid")?),
            schema: row.try_get("schema")?,
            name: row.try_get("name")?,
            kind: row.try_get::<_, i8>("kind")? as u8,
            persistence: row.try_get::<_, i8>("persistence")? as u8,
            identity: row.try_get::<_, i8>("identity")? as u8,
            filenode: row.try_get("filenode")?,
            heap: row.try_get("heap")?,
            root: row.try_get::<_, Option<u32>>("root")?.map(TableOid),
            inherits: row.try_get("inherits")?,
            filtered: row.try_get("filtered")?,
            usage: row.try_get("usage")?,
            readable: row.try_get("readable")?,
        })
    };
    client.query(include_str!("../../../sql/tables.sql"), &[&oids]).await?.iter().map(read).collect()
}

/// A row of `sql/columns.sql`.
#[derive(Clone, Debug)]
pub(super) struct ColumnRow {
    pub(super) table: u32,
    pub(super) number: i16,
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) typmod: i32,
    pub(super) not_null: bool,
    pub(super) collation: u32,
    pub(super) generated: bool,
    /// `xmin` of the catalogue row.
    pub(super) stamp: String,
}

pub(super) async fn read_columns(client: &Client, oids: &[u32]) -> Result<Vec<ColumnRow>, Error> {
    let read = |row: &Row| {
        Ok(ColumnRow {
            table: row.try_get("table")?,
            number: row.try_get("number")?,
            name: row.try_get("name")?,
            type_oid: row.try_get("type")?,
            typmod: row.try_get("typmod")?,
            not_null: row.try_get("not_null")?,
            collation: row.try_get("collation")?,
            generated: row.try_get("generated")?,
            stamp: row.try_get("stamp")?,
        })
    };
    client.query(include_str!("../../../sql/columns.sql"), &[&oids]).await?.iter().map(read).collect()
}

/// A row of `sql/partitions.sql`.
#[derive(Clone, Debug)]
pub(super) struct PartitionRow {
    pub(super) root: u32,
    /// Holds rows itself.
    pub(super) leaf: bool,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: u8,
    pub(super) persistence: u8,
    pub(super) identity: u8,
    pub(super) heap: bool,
    /// Names of the columns that name its rows in the stream, sorted.
    pub(super) key: Vec<String>,
    pub(super) stamp: String,
}

pub(super) async fn read_partitions(client: &Client, roots: &[u32]) -> Result<Vec<PartitionRow>, Error> {
    let read = |row: &Row| {
        Ok(PartitionRow {
            root: row.try_get("root")?,
            leaf: row.try_get("leaf")?,
            schema: row.try_get("schema")?,
            name: row.try_get("name")?,
            kind: row.try_get::<_, i8>("kind")? as u8,
            persistence: row.try_get::<_, i8>("persistence")? as u8,
            identity: row.try_get::<_, i8>("identity")? as u8,
            heap: row.try_get("heap")?,
            key: row.try_get("key")?,
            stamp: row.try_get("stamp")?,
        })
    };
    client.query(include_str!("../../../sql/partitions.sql"), &[&roots]).await?.iter().map(read).collect()
}

/// Why a table can't be mirrored, and what would change that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) what: String,
    pub(super) remedy: Option<String>,
}

impl Reason {
    fn plain(what: impl Into<String>) -> Reason {
        Reason { what: what.into(), remedy: None }
    }

    fn with(what: impl Into<String>, remedy: impl Into<String>) -> Reason {
        Reason { what: what.into(), remedy: Some(remedy.into()) }
    }
}

/// What a table is judged by besides its own rows.
pub(super) struct Surroundings<'a> {
    pub(super) version_num: u32,
    pub(super) types: &'a Types,
    pub(super) collations: &'a Collations,
}

/// What can be said before columns are looked at: the kind of relation, and what we may do with it.
pub(super) fn check_relation(table: &TableRow, role: &str) -> Result<(), Reason> {
    let name = quote_table(&table.schema, &table.name);
    if table.schema.starts_with("pg_") || table.schema == "information_schema" {
        return Err(Reason::plain("system catalogues are answered by the primary"));
    }
    match table.kind {
        b'r' | b'p' => {}
        b'v' => return Err(Reason::plain("a view: it has no rows of its own")),
        b'm' => return Err(Reason::plain("a materialized view: its refresh is not in the stream")),
        b'f' => return Err(Reason::plain("a foreign table: its changes are not in the stream")),
        b'S' => return Err(Reason::plain("a sequence: its changes are not in the stream")),
        _ => return Err(Reason::plain("not a table")),
    }
    if table.persistence == b'u' {
        return Err(Reason::with(
            "unlogged: its changes are not in the stream",
            format!("alter table {name} set logged"),
        ));
    }
    if !table.heap {
        return Err(Reason::plain("its table access method is not heap"));
    }
    if table.inherits {
        return Err(Reason::plain("part of an inheritance tree, which is not supported"));
    }
    if !table.usage {
        return Err(Reason::with(
            format!("role {} has no USAGE on its schema", quote(role)),
            format!("grant usage on schema {} to {}", quote(&table.schema), quote(role)),
        ));
    }
    if !table.readable {
        return Err(Reason::with(
            format!("role {} may not SELECT from it", quote(role)),
            format!("grant select on table {name} to {}", quote(role)),
        ));
    }
    if table.filtered {
        return Err(Reason::with(
            format!("row security hides rows from role {}", quote(role)),
            format!("alter role {} bypassrls", quote(role)),
        ));
    }
    Ok(())
}

/// Puts a table together. `left_out` names the columns that are not to be, or not, published.
pub(super) fn build(
    table: &TableRow,
    columns: &[&ColumnRow],
    index_rows: &[&IndexRow],
    partitions: &[&PartitionRow],
    left_out: &HashSet<&str>,
    around: &Surroundings<'_>,
) -> Result<TableSchema, Reason> {
    let display = format!("{}.{}", table.schema, table.name);
    if columns.is_empty() {
        return Err(Reason::plain("a table without columns"));
    }
    if !left_out.is_empty() && around.version_num < 150_000 {
        return Err(Reason::plain("columns can be kept back from PostgreSQL 15 on only"));
    }
    let mut mirrored = Vec::new();
    let mut unmirrored = Vec::new();
    for column in columns {
        if column.generated || left_out.contains(column.name.as_str()) {
            unmirrored.push(column.name.clone());
            continue;
        }
        if around.types.refers_to_catalog(column.type_oid) {
            return Err(Reason::with(
                format!("the text of column {} depends on other catalogue entries", quote(&column.name)),
                format!("exclude_columns = [\"{display}.{}\"]", column.name),
            ));
        }
        let Some(pg_type) = around.types.get(column.type_oid) else {
            return Err(Reason::plain(format!("the type of column {} is unknown", quote(&column.name))));
        };
        mirrored.push(ColumnSchema {
            name: column.name.clone(),
            attnum: AttNum(column.number),
            pg_type: pg_type.clone(),
            typmod: column.typmod,
            not_null: column.not_null,
            collation: around.collations.get(column.collation),
        });
    }
    if mirrored.is_empty() {
        return Err(Reason::plain("none of its columns is published"));
    }
    let identity = identity(table, &mirrored, index_rows, left_out)?;
    let generated = columns.iter().find(|c| c.generated);
    if let (ReplicaIdentity::Full, Some(column)) = (&identity, generated)
        && around.version_num >= 180_000
    {
        // 18 refuses UPDATE and DELETE on such a table once it is published
        // (pub_contains_invalid_column in publicationcmds.c).
        return Err(Reason::with(
            format!("REPLICA IDENTITY FULL includes generated column {}", quote(&column.name)),
            format!("add a primary key and alter table {} replica identity default", quote_full(table)),
        ));
    }
    for partition in partitions.iter().filter(|p| p.leaf) {
        check_partition(partition, table, &identity, &mirrored)?;
    }
    let indexes = indexes::build(&identity, &mirrored, index_rows);
    Ok(TableSchema {
        oid: table.oid,
        schema: table.schema.clone(),
        name: table.name.clone(),
        columns: mirrored,
        unmirrored,
        identity,
        indexes,
        partitioned: table.kind == b'p',
    })
}

fn quote_full(table: &TableRow) -> String {
    quote_table(&table.schema, &table.name)
}

/// How the stream will name changed rows. A published table without a usable identity would make
/// the application's own UPDATE and DELETE fail (`CheckCmdReplicaIdentity` in execReplication.c).
fn identity(
    table: &TableRow,
    columns: &[ColumnSchema],
    index_rows: &[&IndexRow],
    left_out: &HashSet<&str>,
) -> Result<ReplicaIdentity, Reason> {
    let name = quote_full(table);
    let full = format!("alter table {name} replica identity full");
    let index = match table.identity {
        b'f' if left_out.is_empty() => return Ok(ReplicaIdentity::Full),
        b'f' => {
            return Err(Reason::with(
                "REPLICA IDENTITY FULL publishes every column, excluded ones too",
                format!("add a primary key and alter table {name} replica identity default"),
            ));
        }
        b'd' => match index_rows.iter().find(|i| i.primary) {
            Some(i) if !i.immediate => {
                return Err(Reason::with("its primary key is deferrable and cannot name rows", full));
            }
            found => found,
        },
        b'i' => index_rows.iter().find(|i| i.chosen && i.immediate),
        _ => return Err(Reason::with("its replica identity is NOTHING", full)),
    };
    let Some(index) = index.filter(|i| i.usable) else {
        return Err(match table.identity {
            b'd' => Reason::with("no primary key", format!("add a primary key, or {full}")),
            _ => Reason::with("its replica identity index is gone", full),
        });
    };
    match index.positions(columns) {
        Some(positions) => Ok(ReplicaIdentity::Key(positions)),
        None => Err(Reason::with(
            format!("index {} names its rows and has a column that is not published", quote(&index.name)),
            format!("publish that column, or {full}"),
        )),
    }
}

/// The stream writes a partition's old rows as the partition's identity logged them, under the
/// root's name and description: the two must agree (`logicalrep_write_update` in proto.c).
fn check_partition(
    partition: &PartitionRow,
    root: &TableRow,
    identity: &ReplicaIdentity,
    columns: &[ColumnSchema],
) -> Result<(), Reason> {
    let name = quote_table(&partition.schema, &partition.name);
    if partition.kind != b'r' {
        return Err(Reason::plain(format!("partition {name} is a foreign table")));
    }
    if partition.persistence != b'p' {
        return Err(Reason::with(
            format!("partition {name} is unlogged"),
            format!("alter table {name} set logged"),
        ));
    }
    if !partition.heap {
        return Err(Reason::plain(format!("the table access method of partition {name} is not heap")));
    }
    let (agrees, remedy) = match identity {
        ReplicaIdentity::Key(positions) => {
            let mut key: Vec<&str> =
                positions.iter().filter_map(|&p| columns.get(p)).map(|c| c.name.as_str()).collect();
            key.sort_unstable();
            let mut theirs: Vec<&str> = partition.key.iter().map(String::as_str).collect();
            theirs.sort_unstable();
            let remedy = match root.identity {
                b'd' => format!("alter table {name} replica identity default"),
                _ => format!("alter table {name} replica identity using the same index"),
            };
            (partition.identity != b'f' && theirs == key, remedy)
        }
        _ => (partition.identity == b'f', format!("alter table {name} replica identity full")),
    };
    if agrees {
        Ok(())
    } else {
        Err(Reason::with(
            format!("partition {name} has another replica identity than {}", quote_full(root)),
            remedy,
        ))
    }
}
