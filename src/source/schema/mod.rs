//! Reads the primary's catalogue: which tables can be mirrored and what they are made of.

mod builtin;
mod changes;
mod collation;
mod indexes;
mod quote;
mod rules;
mod tables;
mod types;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use thiserror::Error;
use tokio_postgres::{Client, Error as PgError, SimpleQueryMessage};

pub use changes::{TableChange, TableChangeKind, changes};
pub(crate) use quote::{quote, quote_table};

use self::{
    builtin::Primary,
    collation::{Collations, Locale},
    rules::Candidate,
    tables::{Reason, Surroundings, TableRow},
};
use super::publication::PublicationState;
use crate::{
    catalog::{Catalog, Privileges, Relation, TableStamp, UnsupportedTable},
    config::TableRule,
    primary::in_words,
    types::{TableOid, TableSchema},
};

/// Why the catalogue could not be read.
#[derive(Debug, Error)]
pub enum SchemaError {
    #[error("reading {what} from the primary: {}", in_words(source))]
    Query { what: &'static str, source: PgError },
    #[error("database {database:?} is encoded in {encoding}; only UTF8 databases can be mirrored")]
    Encoding { database: String, encoding: String },
}

/// A chosen table that can't be mirrored: the reason and the remedy apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub oid: TableOid,
    pub schema: String,
    pub name: String,
    pub what: String,
    /// The command, or the setting, that would let it be mirrored.
    pub remedy: Option<String>,
}

/// Reads the whole catalogue in one snapshot: in the caller's transaction when there is one (which
/// must then be REPEATABLE READ), else in a transaction of its own.
///
/// With `publication`, tables and columns are those that it delivers once
/// [`ensure`](super::publication::ensure) has run: if it belongs to someone else, what is missing
/// in it is not mirrored.
pub async fn load(
    client: &Client,
    rules: &[TableRule],
    publication: Option<&str>,
) -> Result<Catalog, SchemaError> {
    load_with_refusals(client, rules, publication).await.map(|(catalog, _)| catalog)
}

/// As [`load`], and every refusal with its remedy, in order of name.
pub async fn load_with_refusals(
    client: &Client,
    rules: &[TableRule],
    publication: Option<&str>,
) -> Result<(Catalog, Vec<Refusal>), SchemaError> {
    if in_transaction(client).await.map_err(query("the transaction state"))? {
        return read(client, rules, publication).await;
    }
    let begin = "begin isolation level repeatable read read only; set local search_path = pg_catalog";
    client.batch_execute(begin).await.map_err(query("a snapshot"))?;
    let result = read(client, rules, publication).await;
    // Nothing was written: how it ends is of no consequence, and an error of the reading counts more.
    let ended = client.batch_execute("commit").await.map_err(query("a snapshot"));
    result.and_then(|catalog| ended.map(|()| catalog))
}

/// One cheap query whose answer changes whenever [`load`] could find something else.
pub async fn fingerprint(client: &Client) -> Result<String, SchemaError> {
    let messages = client
        .simple_query(include_str!("../../../sql/catalog_fingerprint.sql"))
        .await
        .map_err(query("the catalogue's fingerprint"))?;
    let text = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(text.unwrap_or_default().to_string())
}

fn query(what: &'static str) -> impl FnOnce(PgError) -> SchemaError {
    move |source| SchemaError::Query { what, source }
}

/// A transaction that began before the statement is one that somebody opened.
async fn in_transaction(client: &Client) -> Result<bool, PgError> {
    let messages = client.simple_query("select now() < statement_timestamp()").await?;
    Ok(messages.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0) == Some("t"),
        _ => false,
    }))
}

/// A row of `sql/server.sql`.
struct Server {
    version_num: u32,
    database: String,
    role: String,
    encoding: String,
    lc_monetary: String,
    locale: Locale,
}

async fn read_server(client: &Client) -> Result<Server, PgError> {
    let row = client.query_one(include_str!("../../../sql/server.sql"), &[]).await?;
    let provider: String = row.try_get("provider")?;
    Ok(Server {
        version_num: row.try_get::<_, i32>("version_num")?.unsigned_abs(),
        database: row.try_get("database")?,
        role: row.try_get("role")?,
        encoding: row.try_get("encoding")?,
        lc_monetary: row.try_get("lc_monetary")?,
        locale: Locale {
            provider: provider.bytes().next().unwrap_or(b'c'),
            collate: row.try_get("collate")?,
            name: row.try_get("locale")?,
            deterministic: true,
        },
    })
}

async fn read_relations(client: &Client) -> Result<Vec<Candidate>, PgError> {
    let rows = client.query(include_str!("../../../sql/relations.sql"), &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Candidate {
            oid: TableOid(row.try_get("oid")?),
            schema: row.try_get("schema")?,
            name: row.try_get("name")?,
            kind: row.try_get::<_, i8>("kind")? as u8,
        })
    };
    rows.iter().map(read).collect()
}

async fn read_privileges(client: &Client, tables: &[u32]) -> Result<Privileges, PgError> {
    let mut privileges = Privileges::default();
    for row in client.query(include_str!("../../../sql/privileges.sql"), &[&tables]).await? {
        let tables: Vec<u32> = row.try_get("tables")?;
        privileges.readable.insert(row.try_get("role")?, tables.into_iter().map(TableOid).collect());
    }
    Ok(privileges)
}

async fn read(
    client: &Client,
    rules: &[TableRule],
    publication: Option<&str>,
) -> Result<(Catalog, Vec<Refusal>), SchemaError> {
    let server = read_server(client).await.map_err(query("the server's properties"))?;
    if server.encoding != "UTF8" {
        return Err(SchemaError::Encoding { database: server.database, encoding: server.encoding });
    }
    let candidates = read_relations(client).await.map_err(query("pg_class"))?;
    let publication = match publication {
        Some(name) => PublicationState::read(client, name).await.map_err(query("pg_publication"))?,
        None => None,
    };
    let selection = rules::select(rules, &candidates);
    let oids: Vec<u32> = selection.chosen.keys().map(|oid| oid.0).collect();
    let table_rows = tables::read(client, &oids).await.map_err(query("the chosen tables"))?;
    let mut warnings = selection.warnings;
    let mut refusals = Vec::new();
    let table_rows = keep_mirrorable(table_rows, &server.role, &mut refusals);
    let oids: Vec<u32> = table_rows.iter().map(|t| t.oid.0).collect();
    let roots: Vec<u32> = table_rows.iter().filter(|t| t.kind == b'p').map(|t| t.oid.0).collect();
    let columns = tables::read_columns(client, &oids).await.map_err(query("pg_attribute"))?;
    let index_rows = indexes::read(client, &oids).await.map_err(query("pg_index"))?;
    let partitions = tables::read_partitions(client, &roots).await.map_err(query("partitions"))?;
    let type_oids: BTreeSet<u32> = columns.iter().map(|c| c.type_oid).collect();
    let printing = Primary { version_num: server.version_num, lc_monetary: &server.lc_monetary };
    let types = types::read(client, &type_oids, printing).await.map_err(query("pg_type"))?;
    let collation_oids: BTreeSet<u32> = columns.iter().map(|c| c.collation).collect();
    let collations =
        Collations::read(client, &collation_oids, &server.locale).await.map_err(query("pg_collation"))?;
    let around = Surroundings { version_num: server.version_num, types: &types, collations: &collations };

    let columns = group(&columns, |c| c.table);
    let index_rows = group(&index_rows, |i| i.table);
    let partitions = group(&partitions, |p| p.root);
    warnings.extend(unused_exclusions(rules, &selection.chosen, &table_rows, &columns));
    let mut mirrored = HashMap::new();
    let mut stamps = HashMap::new();
    for table in &table_rows {
        let columns = columns.get(&table.oid.0).map_or(&[][..], Vec::as_slice);
        let partitions = partitions.get(&table.oid.0).map_or(&[][..], Vec::as_slice);
        let excluded = |column: &str| {
            selection.chosen.get(&table.oid).into_iter().flatten().any(|rule| {
                rule.exclude_columns
                    .iter()
                    .any(|e| rules::excludes_column(e, &table.schema, &table.name, column))
            })
        };
        let mut left_out: HashSet<&str> =
            columns.iter().filter(|c| !c.generated && excluded(&c.name)).map(|c| c.name.as_str()).collect();
        let built = match &publication {
            Some(p) if !p.owned => undelivered(p, table, &mut left_out, columns),
            _ => Ok(()),
        }
        .and_then(|()| {
            let index_rows = index_rows.get(&table.oid.0).map_or(&[][..], Vec::as_slice);
            tables::build(table, columns, index_rows, partitions, &left_out, &around)
        });
        match built {
            Ok(schema) => {
                let stamp = stamp(table, &schema, columns, partitions, &types, publication.as_ref());
                stamps.insert(table.oid, stamp);
                mirrored.insert(table.oid, Arc::new(schema));
            }
            Err(reason) => refusals.push(refusal(table, reason)),
        }
    }
    refusals.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));

    let oids: Vec<u32> = mirrored.keys().map(|oid| oid.0).collect();
    let privileges = read_privileges(client, &oids).await.map_err(query("privileges"))?;
    let overloaded = client.query_one(include_str!("../../../sql/overloads.sql"), &[]).await;
    let overloaded = overloaded.and_then(|row| row.try_get(0)).map_err(query("pg_operator"))?;
    let mut relations: HashMap<String, HashMap<String, Relation>> = HashMap::new();
    for candidate in candidates {
        relations
            .entry(candidate.schema)
            .or_default()
            .insert(candidate.name, Relation { oid: candidate.oid, kind: candidate.kind });
    }
    let catalog = Catalog {
        version: 0,
        database: server.database,
        server_version_num: server.version_num,
        lc_monetary: server.lc_monetary,
        domain_typmods: types.domain_typmods(),
        types: types.by_oid,
        relations,
        tables: mirrored,
        unsupported: refusals.iter().map(unsupported).collect(),
        privileges,
        overloaded,
        stamps,
        warnings,
    };
    Ok((catalog, refusals))
}

/// Leaves out what is no table that we could mirror, and partitions, whose rows come through their
/// root.
fn keep_mirrorable(rows: Vec<TableRow>, role: &str, refusals: &mut Vec<Refusal>) -> Vec<TableRow> {
    let chosen: HashSet<TableOid> = rows.iter().map(|row| row.oid).collect();
    let mut kept = Vec::new();
    for row in rows {
        match row.root {
            Some(root) if root != row.oid => {
                if !chosen.contains(&root) {
                    let what = "a partition: its root is mirrored, or nothing".to_string();
                    let remedy = Some("choose the partitioned table itself".to_string());
                    refusals.push(refusal(&row, Reason { what, remedy }));
                }
            }
            _ => match tables::check_relation(&row, role) {
                Ok(()) => kept.push(row),
                Err(reason) => refusals.push(refusal(&row, reason)),
            },
        }
    }
    kept
}

/// Takes note of the columns that somebody else's publication leaves out.
fn undelivered<'a>(
    publication: &PublicationState,
    table: &TableRow,
    left_out: &mut HashSet<&'a str>,
    columns: &[&'a tables::ColumnRow],
) -> Result<(), Reason> {
    let name = quote_table(&table.schema, &table.name);
    match publication.delivers(table.oid) {
        Ok(member) => {
            let published = member.published();
            left_out.extend(
                columns
                    .iter()
                    .filter(|c| !c.generated && !published.contains(c.name.as_str()))
                    .map(|c| c.name.as_str()),
            );
            Ok(())
        }
        Err(what) => Err(Reason {
            what: format!("{what} in publication {}", quote(&publication.name)),
            remedy: Some(format!("alter publication {} add table only {name}", quote(&publication.name))),
        }),
    }
}

fn stamp(
    table: &TableRow,
    schema: &TableSchema,
    columns: &[&tables::ColumnRow],
    partitions: &[&tables::PartitionRow],
    types: &types::Types,
    publication: Option<&PublicationState>,
) -> TableStamp {
    let mut definitions = BTreeSet::new();
    for column in &schema.columns {
        types.definitions(column.pg_type.oid.0, &mut definitions);
    }
    let columns: Vec<String> =
        columns.iter().filter(|c| !c.generated).map(|c| format!("{}:{}", c.number, c.stamp)).collect();
    let partitions: Vec<&str> = partitions.iter().map(|p| p.stamp.as_str()).collect();
    TableStamp {
        filenode: table.filenode,
        columns: columns.join(" "),
        partitions: partitions.join(" "),
        types: definitions,
        publication: publication.map(|p| p.stamp_of(table.oid)).unwrap_or_default(),
    }
}

/// `exclude_columns` entries that name no column of any chosen table: a misspelt secret.
fn unused_exclusions(
    rules: &[TableRule],
    chosen: &BTreeMap<TableOid, Vec<&TableRule>>,
    tables: &[TableRow],
    columns: &HashMap<u32, Vec<&tables::ColumnRow>>,
) -> Vec<String> {
    let used = |rule: &TableRule, pattern: &str| {
        tables
            .iter()
            .filter(|t| chosen.get(&t.oid).is_some_and(|by| by.iter().any(|r| std::ptr::eq(*r, rule))))
            .any(|t| {
                columns
                    .get(&t.oid.0)
                    .into_iter()
                    .flatten()
                    .any(|c| rules::excludes_column(pattern, &t.schema, &t.name, &c.name))
            })
    };
    rules
        .iter()
        .flat_map(|rule| rule.exclude_columns.iter().map(move |pattern| (rule, pattern)))
        .filter(|(rule, pattern)| !used(rule, pattern))
        .map(|(_, pattern)| format!("exclude_columns: {pattern:?} is no column of a chosen table"))
        .collect()
}

fn group<T>(rows: &[T], table: impl Fn(&T) -> u32) -> HashMap<u32, Vec<&T>> {
    let mut groups: HashMap<u32, Vec<&T>> = HashMap::new();
    for row in rows {
        groups.entry(table(row)).or_default().push(row);
    }
    groups
}

fn refusal(table: &TableRow, reason: Reason) -> Refusal {
    Refusal {
        oid: table.oid,
        schema: table.schema.clone(),
        name: table.name.clone(),
        what: reason.what,
        remedy: reason.remedy,
    }
}

fn unsupported(refusal: &Refusal) -> UnsupportedTable {
    UnsupportedTable {
        oid: refusal.oid,
        schema: refusal.schema.clone(),
        name: refusal.name.clone(),
        reason: match &refusal.remedy {
            Some(remedy) => format!("{}; remedy: {remedy}", refusal.what),
            None => refusal.what.clone(),
        },
    }
}
