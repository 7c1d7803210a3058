//! From a syntax tree to what PostgreSQL would understand by it, or to the reason why we leave it.
//!
//! An allow-list: every struct of the tree is taken apart in full, so that a clause that we do not
//! know is an error here and never ignored. Parameters get their types in PostgreSQL's order of
//! analysis (`transformSelectStmt`): FROM, select list, WHERE, ORDER BY, OFFSET, LIMIT.

mod compare;
mod expr;
mod order;
mod table;
mod target;

use std::sync::Arc;

use sqlparser::ast;

use super::{
    Reason,
    access::{self, Access},
    keywords,
    plan::ColumnDescription,
    predicate::{Operand, Predicate},
    scalar::Scalar,
    scan::{self, Leaf},
    session::SessionFacts,
    statement::Candidate,
    value::Value,
    virtual_tables::VirtualTable,
};
use crate::{
    catalog::Catalog,
    types::{TableSchema, TypeOid},
};

pub(crate) use order::SortKey;

/// A statement that is understood.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) virtual_table: Option<VirtualTable>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) columns: Vec<ColumnDescription>,
    pub(crate) aggregates: Vec<Aggregate>,
    /// Of a SELECT without FROM: its values, in order of the columns.
    pub(crate) subqueries: Vec<Subquery>,
    pub(crate) predicate: Predicate,
    pub(crate) order: Vec<SortKey>,
    pub(crate) limit: Option<Operand>,
    pub(crate) offset: Option<Operand>,
    pub(crate) params: Vec<Scalar>,
    pub(crate) constants: Vec<Value>,
}

/// Where a result column comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Column(usize),
    Constant(usize),
    Aggregate(usize),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Aggregate {
    CountRows,
    Count(usize),
    /// The least value by the type's comparator.
    Min(usize, Scalar),
    Max(usize, Scalar),
    /// `sum(int2)` and `sum(int4)`: an `int8`.
    SumToInt8(usize),
    /// `sum(int8)` and `sum(numeric)`: a `numeric`.
    SumToNumeric(usize),
}

/// A subquery that stands for one value: an aggregate over one table.
#[derive(Debug)]
pub(crate) struct Subquery {
    pub(crate) bound: Bound,
    pub(crate) access: Access,
}

impl Bound {
    /// The tables that are read, our own views excepted.
    pub(crate) fn tables(&self) -> Vec<&Arc<TableSchema>> {
        let own = self.subqueries.is_empty() && self.virtual_table.is_none();
        let of_subqueries = self.subqueries.iter().map(|subquery| &subquery.bound.schema);
        of_subqueries.chain(own.then_some(&self.schema)).collect()
    }
}

/// What all queries of a statement are bound against.
struct Context<'a> {
    catalog: &'a Catalog,
    session: &'a SessionFacts,
    /// Why mirrored tables may not be read in this session at all; virtual tables may be.
    forbidden: Option<Reason>,
    /// Known types; `None` until the first use tells.
    params: Vec<Option<Scalar>>,
    leaves: Vec<Leaf>,
}

/// Binds a candidate. `forbidden` is why mirrored tables may not be read in this session at all;
/// virtual tables may be.
pub(crate) fn bind(
    candidate: &Candidate,
    param_types: &[TypeOid],
    catalog: &Catalog,
    session: &SessionFacts,
    forbidden: Option<Reason>,
) -> Result<Bound, Reason> {
    let mut context = Context {
        catalog,
        session,
        forbidden,
        params: param_types.iter().map(|oid| declared(*oid, catalog)).collect::<Result<_, _>>()?,
        leaves: Vec::with_capacity(candidate.leaves.len()),
    };
    let query = plain(&candidate.query)?;
    let mut bound = match query.from {
        [] => values(&query, &mut context)?,
        [from] => rows(&query, from, &mut context)?,
        _ => return Err(Reason::Unsupported),
    };
    bound.params = context.params.into_iter().collect::<Option<Vec<Scalar>>>().ok_or(Reason::Type)?;

    // The proof that nothing was dropped and nothing read as something else: see `scan`.
    context.leaves.sort_unstable();
    if context.leaves != candidate.leaves {
        return Err(Reason::Unsupported);
    }
    Ok(bound)
}

/// The clauses of a query that has no others.
struct Plain<'a> {
    projection: &'a [ast::SelectItem],
    from: &'a [ast::TableWithJoins],
    selection: Option<&'a ast::Expr>,
    order_by: Option<&'a ast::OrderBy>,
    limit: Option<&'a ast::LimitClause>,
}

fn plain(query: &ast::Query) -> Result<Plain<'_>, Reason> {
    let ast::Query {
        with: None,
        body,
        order_by,
        limit_clause,
        fetch: None,
        locks,
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators,
    } = query
    else {
        return Err(Reason::Unsupported);
    };
    let ast::SetExpr::Select(select) = &**body else { return Err(Reason::Unsupported) };
    let ast::Select {
        select_token: _,
        optimizer_hints,
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from,
        lateral_views,
        prewhere: None,
        selection,
        connect_by,
        group_by: ast::GroupByExpr::Expressions(grouping, grouping_modifiers),
        cluster_by,
        distribute_by,
        sort_by,
        having: None,
        named_window,
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: ast::SelectFlavor::Standard,
    } = &**select
    else {
        return Err(Reason::Unsupported);
    };
    let empty = locks.is_empty()
        && pipe_operators.is_empty()
        && optimizer_hints.is_empty()
        && lateral_views.is_empty()
        && connect_by.is_empty()
        && grouping.is_empty()
        && grouping_modifiers.is_empty()
        && cluster_by.is_empty()
        && distribute_by.is_empty()
        && sort_by.is_empty()
        && named_window.is_empty();
    match empty {
        true => Ok(Plain {
            projection,
            from,
            selection: selection.as_ref(),
            order_by: order_by.as_ref(),
            limit: limit_clause.as_ref(),
        }),
        false => Err(Reason::Unsupported),
    }
}

/// The rows of one table.
fn rows(query: &Plain<'_>, from: &ast::TableWithJoins, context: &mut Context<'_>) -> Result<Bound, Reason> {
    let Context { catalog, session, forbidden, params, leaves } = context;
    let table = table::bind(from, catalog, session, *forbidden, leaves)?;
    let mut binder = Binder {
        catalog,
        server_version_num: catalog.server_version_num,
        utc: session.is_utc(),
        params: std::mem::take(params),
        constants: Vec::new(),
        leaves: std::mem::take(leaves),
        table,
    };
    let targets = binder.targets(query.projection)?;
    let predicate = match query.selection {
        Some(condition) => binder.predicate(condition)?,
        None => Predicate::Constant(Some(true)),
    };
    let order = binder.order_by(query.order_by, &targets)?;
    let (limit, offset) = binder.limit_clause(query.limit)?;
    (*params, *leaves) = (binder.params, binder.leaves);
    Ok(Bound {
        schema: binder.table.schema,
        virtual_table: binder.table.virtual_table,
        outputs: targets.outputs,
        columns: targets.columns,
        aggregates: targets.aggregates,
        subqueries: Vec::new(),
        predicate,
        order,
        limit,
        offset,
        params: Vec::new(),
        constants: binder.constants,
    })
}

/// A SELECT without FROM: one row of subqueries, each of which gives exactly one value. All are read at
/// one snapshot.
fn values(query: &Plain<'_>, context: &mut Context<'_>) -> Result<Bound, Reason> {
    if query.selection.is_some() || query.order_by.is_some() || query.limit.is_some() {
        return Err(Reason::Unsupported);
    }
    let mut subqueries = Vec::with_capacity(query.projection.len());
    let mut columns = Vec::with_capacity(query.projection.len());
    for item in query.projection {
        let (mut expr, alias) = match item {
            ast::SelectItem::UnnamedExpr(expr) => (expr, None),
            ast::SelectItem::ExprWithAlias { expr, alias } => (expr, Some(name(alias, &mut context.leaves)?)),
            _ => return Err(Reason::Unsupported),
        };
        while let ast::Expr::Nested(inner) = expr {
            expr = inner;
        }
        let ast::Expr::Subquery(subquery) = expr else { return Err(Reason::Unsupported) };
        let subquery = plain(subquery)?;
        let [from] = subquery.from else { return Err(Reason::Unsupported) };
        let bound = rows(&subquery, from, context)?;
        // An aggregate gives one row, and the LIMIT that could take it away is not there.
        let is_one_row = bound.limit.is_none() && bound.offset.is_none();
        let ([Output::Aggregate(0)], [column], true) = (&bound.outputs[..], &bound.columns[..], is_one_row)
        else {
            return Err(Reason::Unsupported);
        };
        if bound.virtual_table.is_some() {
            return Err(Reason::Unsupported);
        }
        // The column is named like the subquery's own (`FigureColname`).
        let name = alias.unwrap_or_else(|| column.name.clone());
        columns.push(ColumnDescription::computed(name, Arc::clone(&column.pg_type)));
        subqueries.push(Subquery { access: access::choose(&bound), bound });
    }
    let schema = Arc::clone(&subqueries.first().ok_or(Reason::Unsupported)?.bound.schema);
    Ok(Bound {
        schema,
        virtual_table: None,
        outputs: (0..subqueries.len()).map(Output::Aggregate).collect(),
        columns,
        aggregates: Vec::new(),
        subqueries,
        predicate: Predicate::Constant(Some(true)),
        order: Vec::new(),
        limit: None,
        offset: None,
        params: Vec::new(),
        constants: Vec::new(),
    })
}

pub(super) struct Binder<'a> {
    catalog: &'a Catalog,
    server_version_num: u32,
    /// Whether the session's zone is at offset zero, for literals of timestamps without an offset.
    utc: bool,
    /// Known types; `None` until the first use tells.
    params: Vec<Option<Scalar>>,
    constants: Vec<Value>,
    leaves: Vec<Leaf>,
    table: table::Table,
}

impl Binder<'_> {
    /// The number of a parameter from zero; new ones are without a type.
    fn param(&mut self, placeholder: &str) -> Result<usize, Reason> {
        self.leaves.push(Leaf::Param(placeholder.to_owned()));
        let number: u16 =
            placeholder.strip_prefix('$').and_then(|n| n.parse().ok()).ok_or(Reason::Unsupported)?;
        let index = usize::from(number).checked_sub(1).ok_or(Reason::Unsupported)?;
        if self.params.len() <= index {
            self.params.resize(index + 1, None);
        }
        Ok(index)
    }

    fn constant(&mut self, value: Value) -> usize {
        self.constants.push(value);
        self.constants.len() - 1
    }

    fn name(&mut self, ident: &ast::Ident) -> Result<String, Reason> {
        name(ident, &mut self.leaves)
    }
}

/// An identifier as PostgreSQL reads it.
fn name(ident: &ast::Ident, leaves: &mut Vec<Leaf>) -> Result<String, Reason> {
    let ast::Ident { value, quote_style, span: _ } = ident;
    match quote_style {
        Some('"') => {
            leaves.push(Leaf::Name(value.clone()));
            let mut name = value.clone();
            scan::truncate(&mut name);
            Ok(name)
        }
        Some(_) => Err(Reason::Unsupported),
        None => {
            let word = value.to_ascii_lowercase();
            if keywords::is_reserved(&word) {
                return Err(Reason::Unsupported);
            }
            let folded = scan::fold(&word);
            if !keywords::is_silent(&word) {
                leaves.push(Leaf::Name(word));
            }
            Ok(folded)
        }
    }
}

/// A type that the client declared for a parameter: 0 leaves it to us.
fn declared(oid: TypeOid, catalog: &Catalog) -> Result<Option<Scalar>, Reason> {
    if oid.0 == 0 {
        return Ok(None);
    }
    // `unknown` is as good as nothing declared.
    const UNKNOWN: TypeOid = TypeOid(705);
    if oid == UNKNOWN {
        return Ok(None);
    }
    let enumeration = || {
        catalog
            .types
            .get(&oid)
            .and_then(Scalar::of)
            .filter(|s| matches!(s, Scalar::Enum(ty) if ty.oid == oid))
    };
    Scalar::of_oid(oid).or_else(enumeration).map(Some).ok_or(Reason::Type)
}
