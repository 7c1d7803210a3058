//! FROM: one mirrored table, or one of our own views.

use std::sync::Arc;

use sqlparser::ast;

use super::name;
use crate::{
    catalog::Catalog,
    query::{
        Reason,
        scan::Leaf,
        session::SessionFacts,
        virtual_tables::{self, VirtualTable},
    },
    types::TableSchema,
};

/// The range-table entry of a statement.
pub(super) struct Table {
    pub(super) schema: Arc<TableSchema>,
    pub(super) virtual_table: Option<VirtualTable>,
    alias: Option<String>,
}

impl Table {
    /// Whether `qualifier`, the names before a column or a star, means this table. An alias hides
    /// the table's own name.
    pub(super) fn is_meant_by(&self, qualifier: &[String]) -> bool {
        match (&self.alias, qualifier) {
            (Some(alias), [table]) => alias == table,
            (None, [table]) => self.schema.name == *table,
            (None, [schema, table]) => self.schema.name == *table && self.schema.schema == *schema,
            _ => false,
        }
    }
}

pub(super) fn bind(
    from: &ast::TableWithJoins,
    catalog: &Catalog,
    session: &SessionFacts,
    forbidden: Option<Reason>,
    leaves: &mut Vec<Leaf>,
) -> Result<Table, Reason> {
    let ast::TableWithJoins { relation, joins } = from;
    let ast::TableFactor::Table {
        name: table_name,
        alias,
        args: None,
        with_hints,
        version: None,
        with_ordinality: false,
        partitions,
        json_path: None,
        sample: None,
        index_hints,
    } = relation
    else {
        return Err(Reason::Unsupported);
    };
    if !(joins.is_empty() && with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty()) {
        return Err(Reason::Unsupported);
    }
    let mut path = Vec::with_capacity(2);
    for part in &table_name.0 {
        match part {
            ast::ObjectNamePart::Identifier(ident) => path.push(name(ident, leaves)?),
            ast::ObjectNamePart::Function(_) => return Err(Reason::Unsupported),
        }
    }
    let alias = match alias {
        None => None,
        Some(ast::TableAlias { explicit: _, name: alias, columns, at: None }) if columns.is_empty() => {
            Some(name(alias, leaves)?)
        }
        Some(_) => return Err(Reason::Unsupported),
    };
    let (schema, virtual_table) = resolve(&path, catalog, session, forbidden)?;
    Ok(Table { schema, virtual_table, alias })
}

fn resolve(
    path: &[String],
    catalog: &Catalog,
    session: &SessionFacts,
    forbidden: Option<Reason>,
) -> Result<(Arc<TableSchema>, Option<VirtualTable>), Reason> {
    let relation = match path {
        [schema, table] => {
            let relation = catalog.relation(schema, table);
            if relation.is_none()
                && schema == "millpond"
                && let Some(found) = VirtualTable::by_name(table)
            {
                return Ok((virtual_tables::schema(found), Some(found)));
            }
            relation
        }
        [table] => {
            if session.search_path.iter().any(|schema| schema.starts_with("pg_temp")) {
                return Err(forbidden.unwrap_or(Reason::Temporary));
            }
            catalog.resolve(session.search_path.iter().map(String::as_str), table)
        }
        _ => return Err(forbidden.unwrap_or(Reason::Unsupported)),
    };
    if let Some(reason) = forbidden {
        return Err(reason);
    }
    let oid = relation.ok_or(Reason::NotCached)?.oid;
    let schema = catalog.tables.get(&oid).ok_or(Reason::NotCached)?;
    if !catalog.privileges.may_read(&session.role, oid) {
        return Err(Reason::Privilege);
    }
    Ok((Arc::clone(schema), None))
}
