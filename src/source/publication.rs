//! Our publication at the primary: exactly the mirrored tables, every kind of change, under their
//! roots. Somebody else's is used as it is, if it delivers all that.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use thiserror::Error;
use tokio_postgres::{Client, Error as PgError, error::SqlState};

use super::schema::{quote, quote_table};
use crate::{
    primary::in_words,
    types::{TableOid, TableSchema},
};

const PUBLISH: &str = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true";

/// Why the publication can't be as it must.
#[derive(Debug, Error)]
pub enum PublicationError {
    #[error("publication {name}: {}", in_words(source))]
    Query { name: String, source: PgError },
    /// We may not create or change it.
    #[error("publication {name}: {}; let its owner run sql/setup.sql, or: {sql}", in_words(source))]
    NotPermitted { name: String, sql: String, source: PgError },
    /// It is not ours, and not enough.
    #[error("publication {name} belongs to another role and {}; its owner has to run: {sql}", problems.join(", "))]
    Incomplete { name: String, problems: Vec<String>, sql: String },
}

/// Makes the publication deliver these tables and nothing else. Call it before the slot is created
/// (a slot knows no publication younger than itself), not inside a transaction, and read the
/// catalogue again afterwards: the stamps in it name the publication as it then is.
///
/// A publication that belongs to another role is not touched; it is an error when it falls short.
pub async fn ensure(
    client: &Client,
    name: &str,
    tables: &[Arc<TableSchema>],
) -> Result<(), PublicationError> {
    let failed = |source| PublicationError::Query { name: name.to_string(), source };
    let plan = plan(client, name, tables).await.map_err(failed)?;
    let sql = plan.sql();
    if plan.statements.is_empty() {
        return Ok(());
    }
    if plan.foreign {
        return Err(PublicationError::Incomplete { name: name.to_string(), problems: plan.problems, sql });
    }
    // One transaction, so that no reader of the stream meets a publication half changed. Adding a
    // table takes SHARE UPDATE EXCLUSIVE, which waits for DDL and for nothing that an application does.
    let script = format!("begin; set local lock_timeout = '30s'; {sql}; commit");
    match client.batch_execute(&script).await {
        Ok(()) => Ok(()),
        Err(source) => {
            // The first error is the one to tell; a connection that is gone has rolled back itself.
            let rolled_back = client.batch_execute("rollback").await;
            if let Err(error) = rolled_back {
                tracing::debug!(%error, "rolling back a change of the publication");
            }
            Err(match source.code() {
                Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                    PublicationError::NotPermitted { name: name.to_string(), sql, source }
                }
                _ => failed(source),
            })
        }
    }
}

/// What would have to be done for the publication to be as it must.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// It exists and belongs to another role: the statements are for its owner.
    pub foreign: bool,
    /// We own the database object or may create it, and own every table that is to be added.
    pub permitted: bool,
    /// What is wrong, in words, such as `lacks table public.a`.
    pub problems: Vec<String>,
    /// What mends it; empty when nothing is wrong.
    pub statements: Vec<String>,
}

impl Plan {
    pub fn sql(&self) -> String {
        self.statements.join("; ")
    }
}

/// Compares the publication with what is needed, and changes nothing.
pub async fn plan(client: &Client, name: &str, tables: &[Arc<TableSchema>]) -> Result<Plan, PgError> {
    let state = PublicationState::read(client, name).await?;
    let rights = Rights::read(client, tables).await?;
    Ok(compare(name, state.as_ref(), &rights, tables))
}

/// A publication as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct PublicationState {
    pub(super) name: String,
    /// Its owner is us, or a role that we are a member of.
    pub(super) owned: bool,
    stamp: String,
    all_tables: bool,
    all_changes: bool,
    via_root: bool,
    /// Generated columns are published too (18).
    generated: bool,
    members: BTreeMap<TableOid, Member>,
}

/// A table in a publication.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    schema: String,
    name: String,
    /// In what the publication delivers; a partition under a published root is not.
    delivered: bool,
    filtered: bool,
    /// The published columns; `None`: all of them.
    columns: Option<Vec<String>>,
    /// All columns that are not generated.
    ordinary: Vec<String>,
    /// Named by itself, not as part of a schema.
    named: bool,
    stamp: String,
}

impl Member {
    /// Names of the published columns, generated ones left out.
    pub(super) fn published(&self) -> BTreeSet<&str> {
        let ordinary = self.ordinary.iter().map(String::as_str);
        match &self.columns {
            None => ordinary.collect(),
            Some(columns) => ordinary.filter(|name| columns.iter().any(|c| c == name)).collect(),
        }
    }
}

impl PublicationState {
    /// `None` when there is no such publication.
    pub(super) async fn read(client: &Client, name: &str) -> Result<Option<PublicationState>, PgError> {
        let Some(row) = client.query_opt(include_str!("../../sql/publication.sql"), &[&name]).await? else {
            return Ok(None);
        };
        let mut state = PublicationState {
            name: name.to_string(),
            owned: row.try_get("owned")?,
            stamp: row.try_get("stamp")?,
            all_tables: row.try_get("all_tables")?,
            all_changes: row.try_get("all_changes")?,
            via_root: row.try_get("via_root")?,
            generated: row.try_get("generated")?,
            members: BTreeMap::new(),
        };
        for row in client.query(include_str!("../../sql/publication_tables.sql"), &[&name]).await? {
            let member = Member {
                schema: row.try_get("schema")?,
                name: row.try_get("name")?,
                delivered: row.try_get("delivered")?,
                filtered: row.try_get("filtered")?,
                columns: row.try_get("columns")?,
                ordinary: row.try_get("ordinary")?,
                named: row.try_get("named")?,
                stamp: row.try_get("stamp")?,
            };
            state.members.insert(TableOid(row.try_get("oid")?), member);
        }
        Ok(Some(state))
    }

    /// The table's entry when all of its rows are delivered, else what is wrong with it. Tables that
    /// come with their schema do not count: nothing would tell us when the schema is taken out.
    pub(super) fn delivers(&self, table: TableOid) -> Result<&Member, &'static str> {
        match self.members.get(&table) {
            Some(m) if m.delivered && m.filtered => Err("its rows are filtered"),
            Some(m) if m.delivered && (m.named || self.all_tables) => Ok(m),
            _ => Err("it is not"),
        }
    }

    /// What [`crate::catalog::TableStamp`] keeps of a table's place here.
    pub(super) fn stamp_of(&self, table: TableOid) -> String {
        let member = self.members.get(&table).filter(|m| m.delivered).map(|m| m.stamp.as_str());
        format!("{} {}", self.stamp, member.unwrap_or("none"))
    }
}

/// What we own.
#[derive(Clone, Debug, Default)]
struct Rights {
    may_create: bool,
    owned: HashSet<TableOid>,
    /// Columns that are not generated, in order.
    ordinary: HashMap<TableOid, Vec<String>>,
}

impl Rights {
    async fn read(client: &Client, tables: &[Arc<TableSchema>]) -> Result<Rights, PgError> {
        let oids: Vec<u32> = tables.iter().map(|t| t.oid.0).collect();
        let mut rights = Rights::default();
        for row in client.query(include_str!("../../sql/publication_rights.sql"), &[&oids]).await? {
            let oid = TableOid(row.try_get("oid")?);
            rights.may_create = row.try_get("may_create")?;
            if row.try_get("owned")? {
                rights.owned.insert(oid);
            }
            rights.ordinary.insert(oid, row.try_get("ordinary")?);
        }
        Ok(rights)
    }

    /// `schema.table`, with a column list where a column is kept back.
    fn member(&self, table: &TableSchema) -> String {
        let name = quote_table(&table.schema, &table.name);
        let complete = self
            .ordinary
            .get(&table.oid)
            .is_none_or(|all| all.iter().all(|c| table.column_position(c).is_some()));
        if complete {
            return name;
        }
        let columns: Vec<String> = table.columns.iter().map(|c| quote(&c.name)).collect();
        format!("{name} ({})", columns.join(", "))
    }
}

fn compare(
    name: &str,
    state: Option<&PublicationState>,
    rights: &Rights,
    tables: &[Arc<TableSchema>],
) -> Plan {
    let list = |tables: &[&Arc<TableSchema>]| {
        tables.iter().map(|t| format!("only {}", rights.member(t))).collect::<Vec<_>>().join(", ")
    };
    let mut plan = Plan::default();
    let quoted = quote(name);
    let Some(state) = state else {
        let all: Vec<_> = tables.iter().collect();
        let tables = if all.is_empty() { String::new() } else { format!(" for table {}", list(&all)) };
        plan.permitted = rights.may_create && all.iter().all(|t| rights.owned.contains(&t.oid));
        plan.problems.push("does not exist".to_string());
        plan.statements.push(format!("create publication {quoted}{tables} with ({PUBLISH})"));
        return plan;
    };
    plan.foreign = !state.owned;
    if !state.all_changes || !state.via_root {
        plan.problems.push("does not publish every change under the root of each partitioned table".into());
        plan.statements.push(format!("alter publication {quoted} set ({PUBLISH})"));
    }
    if state.generated {
        plan.problems.push("publishes generated columns".to_string());
        plan.statements.push(format!("alter publication {quoted} set (publish_generated_columns = none)"));
    }
    let mut add = Vec::new();
    let mut drop = Vec::new();
    for table in tables {
        let display = table.display_name();
        match state.delivers(table.oid) {
            Ok(member) => {
                let wanted: BTreeSet<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
                if member.published() == wanted {
                    continue;
                }
                plan.problems.push(format!("publishes other columns of {display} than are mirrored"));
            }
            Err("its rows are filtered") => plan.problems.push(format!("filters the rows of {display}")),
            Err(_) => plan.problems.push(format!("lacks table {display}")),
        }
        if state.members.get(&table.oid).is_some_and(|m| m.named) {
            drop.push((table.schema.as_str(), table.name.as_str()));
        }
        add.push(table);
    }
    // Tables that nobody mirrors any more cost the primary decoding and, worse, may fail the
    // application's updates. Those of somebody else's publication are not our business.
    if state.owned {
        let wanted: HashSet<TableOid> = tables.iter().map(|t| t.oid).collect();
        for member in state.members.iter().filter(|(oid, m)| m.named && !wanted.contains(oid)).map(|(_, m)| m)
        {
            plan.problems.push(format!("has table {}.{}, which is not mirrored", member.schema, member.name));
            drop.push((&member.schema, &member.name));
        }
    }
    if !drop.is_empty() {
        let drop: Vec<String> =
            drop.into_iter().map(|(schema, table)| format!("only {}", quote_table(schema, table))).collect();
        plan.statements.push(format!("alter publication {quoted} drop table {}", drop.join(", ")));
    }
    if !add.is_empty() {
        plan.statements.push(format!("alter publication {quoted} add table {}", list(&add)));
    }
    plan.permitted = state.owned && !state.all_tables && add.iter().all(|t| rights.owned.contains(&t.oid));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{AttNum, Collation, ColumnSchema, PgType, ReplicaIdentity, TypeKind, TypeOid};

    fn table(oid: u32, columns: &[&str]) -> Arc<TableSchema> {
        let column = |name: &&str| ColumnSchema {
            name: name.to_string(),
            attnum: AttNum(1),
            pg_type: Arc::new(PgType {
                oid: TypeOid(23),
                name: "int4".to_string(),
                len: 4,
                kind: TypeKind::Int4,
            }),
            typmod: -1,
            not_null: false,
            collation: Collation::NONE,
        };
        Arc::new(TableSchema {
            oid: TableOid(oid),
            schema: "public".to_string(),
            name: format!("t{oid}"),
            columns: columns.iter().map(column).collect(),
            unmirrored: Vec::new(),
            identity: ReplicaIdentity::Key(vec![0]),
            indexes: Vec::new(),
            partitioned: false,
        })
    }

    fn rights() -> Rights {
        let ordinary = |oid| (TableOid(oid), vec!["a".to_string(), "b".to_string()]);
        Rights {
            may_create: true,
            owned: HashSet::from([TableOid(1), TableOid(2)]),
            ordinary: HashMap::from([ordinary(1), ordinary(2)]),
        }
    }

    fn member(oid: u32) -> (TableOid, Member) {
        let member = Member {
            schema: "public".to_string(),
            name: format!("t{oid}"),
            delivered: true,
            ordinary: vec!["a".to_string(), "b".to_string()],
            named: true,
            ..Member::default()
        };
        (TableOid(oid), member)
    }

    fn state(members: &[u32]) -> PublicationState {
        PublicationState {
            name: "p".to_string(),
            owned: true,
            all_changes: true,
            via_root: true,
            members: members.iter().map(|oid| member(*oid)).collect(),
            ..PublicationState::default()
        }
    }

    #[test]
    fn what_is_missing_is_created() {
        let plan = compare("p", None, &rights(), &[table(1, &["a", "b"]), table(2, &["a"])]);
        assert!(plan.permitted && !plan.foreign);
        assert_eq!(
            plan.sql(),
            format!("create publication p for table only public.t1, only public.t2 (a) with ({PUBLISH})")
        );
        assert_eq!(
            compare("p", None, &rights(), &[]).sql(),
            format!("create publication p with ({PUBLISH})")
        );
        assert!(!compare("p", None, &Rights::default(), &[table(1, &["a"])]).permitted);
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let plan = compare("p", Some(&state(&[1])), &rights(), &[table(1, &["a", "b"])]);
        assert_eq!((plan.statements, plan.problems), (vec![], vec![]));
    }

    #[test]
    fn ours_is_brought_into_line() {
        let mut state = state(&[1, 3]);
        state.via_root = false;
        let plan = compare("p", Some(&state), &rights(), &[table(1, &["a"]), table(2, &["a", "b"])]);
        assert_eq!(
            plan.statements,
            [
                format!("alter publication p set ({PUBLISH})"),
                "alter publication p drop table only public.t1, only public.t3".to_string(),
                "alter publication p add table only public.t1 (a), only public.t2".to_string(),
            ]
        );
        assert!(plan.permitted);
    }

    #[test]
    fn others_are_told_what_they_lack() {
        let mut state = state(&[1, 3]);
        state.owned = false;
        let plan = compare("p", Some(&state), &rights(), &[table(1, &["a", "b"]), table(2, &["a", "b"])]);
        assert_eq!(plan.problems, ["lacks table public.t2"]);
        assert_eq!(plan.statements, ["alter publication p add table only public.t2"]);
        assert!(plan.foreign && !plan.permitted);
    }

    #[test]
    fn a_filter_or_a_schema_is_not_delivery() {
        let mut state = state(&[1]);
        if let Some(member) = state.members.get_mut(&TableOid(1)) {
            member.filtered = true;
        }
        assert_eq!(state.delivers(TableOid(1)).err(), Some("its rows are filtered"));
        if let Some(member) = state.members.get_mut(&TableOid(1)) {
            member.filtered = false;
            member.named = false;
        }
        assert_eq!(state.delivers(TableOid(1)).err(), Some("it is not"));
        state.all_tables = true;
        assert!(state.delivers(TableOid(1)).is_ok());
    }
}
