//! What a statement may leave behind in the session that runs it: whether the next statement on that
//! connection, of another client of the same role, could notice.
//!
//! By allow-lists alone: of statements, of functions by name, of relations by kind. What is not on
//! them leaves a trace.

use std::ops::ControlFlow;

use sqlparser::{
    ast::{self, Visit, Visitor},
    dialect::PostgreSqlDialect,
    parser::Parser,
};

use super::{
    Statement, StatementKind,
    scan::{self, Token, TokenKind},
};
use crate::catalog::Catalog;

/// From nothing to everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trace {
    #[default]
    None,
    /// What DISCARD ALL takes away.
    Discardable,
    /// What nothing takes away for certain: code of others ran, a library was loaded, a setting of
    /// one's own exists.
    Lasting,
}

/// sqlparser's own bound on recursion.
const MAX_RECURSION: usize = 50;

/// `catalog`: of the session's database, where it is known.
pub(super) fn of(statement: &Statement, catalog: Option<&Catalog>) -> Trace {
    match statement.kind {
        StatementKind::Empty | StatementKind::ShowMillpond(_) => return Trace::None,
        StatementKind::Unknown => return Trace::Lasting,
        _ => {}
    }
    match scan::split(&statement.text).as_deref() {
        Some([scanned]) => of_tokens(&scanned.tokens, scanned.text, statement, catalog),
        Some([]) => Trace::None,
        _ => Trace::Lasting,
    }
}

fn of_tokens(tokens: &[Token<'_>], text: &str, statement: &Statement, catalog: Option<&Catalog>) -> Trace {
    let open = tokens.iter().take_while(|t| t.kind == TokenKind::Open).count();
    let words = tokens.get(open..).unwrap_or_default();
    let word = |i: usize| words.get(i).map(|t| t.text.to_ascii_lowercase()).unwrap_or_default();
    let has = |word: &str| tokens.iter().any(|t| t.is_word(word));
    let reads = || calls(tokens).max(relations(tokens, text, statement, catalog));
    match word(0).as_str() {
        "select" | "with" | "values" | "table" if statement.kind == StatementKind::Select => reads(),
        "select" | "with" | "values" | "table" => reads().max(Trace::Discardable),
        "show" => Trace::None,
        "explain" if has("analyze") || has("analyse") || has("execute") => reads().max(Trace::Discardable),
        "explain" => reads(),
        // Two-phase transactions belong to nobody; their words are rare enough to be careful.
        "begin" | "start" | "end" | "abort" | "savepoint" | "release" if !has("prepared") => Trace::None,
        "commit" | "rollback" if !has("prepared") => Trace::None,
        "set" => of_set(words),
        "declare" if has("hold") => reads().max(Trace::Discardable),
        // Cursors end with their transaction.
        "declare" => reads(),
        "fetch" | "move" | "close" => Trace::None,
        "copy" if statement.kind == StatementKind::Read && has("stdout") => reads(),
        "insert" | "update" | "delete" | "merge" | "copy" | "prepare" | "execute" | "truncate" => {
            calls(tokens).max(Trace::Discardable)
        }
        "commit" | "rollback" | "reset" | "discard" | "deallocate" | "listen" | "unlisten" | "notify"
        | "lock" | "vacuum" | "analyze" | "comment" | "grant" | "revoke" => Trace::Discardable,
        "create" | "drop" | "alter" => match word(1).as_str() {
            "table" | "temp" | "temporary" | "unlogged" | "index" | "sequence" | "schema" | "view" => {
                calls(tokens).max(Trace::Discardable)
            }
            _ => Trace::Lasting,
        },
        _ => Trace::Lasting,
    }
}

/// SET. One that ends with its transaction leaves nothing, but for roles, whose way back has had holes,
/// and for settings of one's own, which exist from then on (empty).
fn of_set(words: &[Token<'_>]) -> Trace {
    let is = |i: usize, word: &str| words.get(i).is_some_and(|t| t.is_word(word));
    let scope = usize::from(is(1, "local") || is(1, "session"));
    let own = words.get(scope + 2).is_some_and(|t| t.kind == TokenKind::Dot);
    let ours = is(scope + 1, "millpond");
    match () {
        () if own && !ours => Trace::Lasting,
        () if is(1, "transaction") => Trace::None,
        () if is(1, "local") && !own && !is(2, "role") && !is(2, "session") => Trace::None,
        () => Trace::Discardable,
    }
}

/// What the functions that a statement names may leave.
fn calls(tokens: &[Token<'_>]) -> Trace {
    let kind = |i: Option<usize>| i.and_then(|i| tokens.get(i)).map(|t| t.kind);
    let mut trace = Trace::None;
    for (i, token) in tokens.iter().enumerate() {
        if kind(Some(i + 1)) != Some(TokenKind::Open) {
            continue;
        }
        let qualified = kind(i.checked_sub(1)) == Some(TokenKind::Dot);
        let before = if qualified { i.checked_sub(3) } else { i.checked_sub(1) };
        let named = before.and_then(|i| tokens.get(i));
        // `insert into t (a, b)`, `create table t (...)`
        let is_table = named.is_some_and(|t| TABLE_FOLLOWS.iter().any(|word| t.is_word(word)));
        let name = match token.kind {
            TokenKind::Word => scan::fold(token.text),
            TokenKind::QuotedName => {
                token.text.get(1..token.text.len().saturating_sub(1)).unwrap_or_default().to_owned()
            }
            TokenKind::Other => return Trace::Lasting,
            _ => continue,
        };
        let builtin = i.checked_sub(2).and_then(|i| tokens.get(i)).is_some_and(|t| t.is_word("pg_catalog"));
        let of_call = match () {
            () if is_table => Trace::None,
            () if qualified && !builtin => Trace::Lasting,
            () if !qualified && token.kind == TokenKind::Word && KEYWORDS.contains(&name.as_str()) => {
                Trace::None
            }
            () if FUNCTIONS.contains(&name.as_str()) => Trace::None,
            () if DISCARDABLE_FUNCTIONS.contains(&name.as_str()) => Trace::Discardable,
            () => Trace::Lasting,
        };
        trace = trace.max(of_call);
    }
    trace
}

/// What the relations that a statement reads may leave: views and foreign tables run code that its
/// text does not show.
fn relations(tokens: &[Token<'_>], text: &str, statement: &Statement, catalog: Option<&Catalog>) -> Trace {
    let names_some = |t: &Token<'_>| t.is_word("from") || t.is_word("table") || t.is_word("copy");
    if !tokens.iter().any(names_some) {
        return Trace::None;
    }
    let mut names = Names::default();
    let visited = match &statement.candidate {
        Some(candidate) => candidate.query.visit(&mut names),
        None => match parse(text) {
            Some(parsed) => parsed.visit(&mut names),
            None => return Trace::Lasting,
        },
    };
    if visited.is_break() || catalog.is_some_and(|catalog| catalog.overloaded) {
        return Trace::Lasting;
    }
    let harmless = |(schema, name): &(Option<String>, String)| match schema.as_deref() {
        Some("pg_catalog" | "information_schema") => true,
        Some(schema) => catalog.is_some_and(|c| c.relation(schema, name).is_some_and(is_table)),
        None if names.local.contains(name) || FUNCTIONS.contains(&name.as_str()) => {
            catalog.is_none_or(|c| named(c, name).all(|(schema, r)| is_system(schema) || is_table(r)))
        }
        None => catalog.is_some_and(|c| {
            let mut all = named(c, name).peekable();
            all.peek().is_some() && all.all(|(schema, r)| is_system(schema) || is_table(r))
        }),
    };
    if names.seen.iter().all(harmless) { Trace::None } else { Trace::Lasting }
}

fn parse(text: &str) -> Option<Vec<ast::Statement>> {
    Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(MAX_RECURSION)
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_statements())
        .ok()
}

fn is_table(relation: crate::catalog::Relation) -> bool {
    matches!(relation.kind, b'r' | b'p' | b'm')
}

fn is_system(schema: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema")
}

fn named<'a>(
    catalog: &'a Catalog,
    name: &'a str,
) -> impl Iterator<Item = (&'a str, crate::catalog::Relation)> {
    catalog.relations.iter().filter_map(move |(schema, names)| Some((schema.as_str(), *names.get(name)?)))
}

/// The relations that a tree names, and the names that it gives itself.
#[derive(Default)]
struct Names {
    seen: Vec<(Option<String>, String)>,
    local: Vec<String>,
}

fn ident(ident: &ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => scan::fold(&ident.value),
    }
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.local.extend(ctes.map(|cte| ident(&cte.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ast::ObjectName) -> ControlFlow<()> {
        let mut parts = relation.0.iter().rev().map(|part| part.as_ident().map(ident));
        let (Some(Some(name)), schema, None) = (parts.next(), parts.next(), parts.next()) else {
            return ControlFlow::Break(());
        };
        match schema {
            Some(None) => return ControlFlow::Break(()),
            Some(Some(schema)) => self.seen.push((Some(schema), name)),
            None => self.seen.push((None, name)),
        }
        ControlFlow::Continue(())
    }
}

/// Words after which a name before a parenthesis is a table's.
const TABLE_FOLLOWS: [&str; 3] = ["into", "table", "references"];

/// Words of the grammar that stand before a parenthesis, types with modifiers among them.
#[rustfmt::skip]
const KEYWORDS: &[&str] = &[
    "all", "and", "any", "array", "as", "asc", "asymmetric", "between", "bit", "by", "case", "cast", "char",
    "character", "coalesce", "collate", "columns", "conflict", "copy", "cross", "cube", "dec", "decimal", "delete",
    "desc", "distinct", "do", "else", "end", "escape", "except", "exists", "explain", "extract", "filter", "first",
    "float", "for", "from", "full", "greatest", "group", "grouping", "having", "ilike", "in", "inner",
    "intersect", "interval", "is", "join", "lateral", "least", "left", "like", "limit", "materialized",
    "natural", "nchar", "next", "not", "null", "nullif", "numeric", "offset", "on", "only", "or", "order",
    "ordinality", "outer", "over", "overlay", "partition", "position", "precision", "range", "recursive", "returning",
    "right", "rollup", "row", "rows", "select", "set", "sets", "similar", "some", "substring", "symmetric", "table", "then",
    "time", "timestamp", "timestamptz", "to", "trim", "union", "unique", "using", "values", "varbit", "varchar", "varying",
    "when", "where", "window", "with", "within", "zone",
];

/// Functions of `pg_catalog` that change nothing in their session.
#[rustfmt::skip]
const FUNCTIONS: &[&str] = &[
    // Aggregates and windows.
    "array_agg", "avg", "bit_and", "bit_or", "bool_and", "bool_or", "corr", "count", "covar_pop", "covar_samp", "cume_dist",
    "dense_rank", "every", "first_value", "json_agg", "json_object_agg", "jsonb_agg", "jsonb_object_agg", "lag",
    "last_value", "lead", "max", "min", "mode", "nth_value", "ntile", "percent_rank", "percentile_cont",
    "percentile_disc", "rank", "regr_slope", "row_number", "stddev", "stddev_pop", "stddev_samp", "string_agg", "sum",
    "var_pop", "var_samp", "variance",
    // Text and bytes.
    "ascii", "bit_length", "btrim", "char_length", "character_length", "chr", "concat", "concat_ws", "convert_from",
    "convert_to", "decode", "encode", "format", "initcap", "left", "length", "lower", "lpad", "ltrim", "md5",
    "octet_length", "quote_ident", "quote_literal", "quote_nullable", "regexp_match", "regexp_matches",
    "regexp_replace", "regexp_split_to_array", "regexp_split_to_table", "repeat", "replace", "reverse", "right",
    "rpad", "rtrim", "sha224", "sha256", "sha384", "sha512", "split_part", "starts_with", "string_to_array",
    "string_to_table", "strpos", "substr", "to_hex", "translate", "upper",
    // Numbers. What `random` draws is nobody's, unless `setseed` was called.
    "abs", "ceil", "ceiling", "div", "exp", "factorial", "floor", "gcd", "lcm", "ln", "log", "log10", "mod", "pi",
    "power", "random", "round", "scale", "sign", "sqrt", "trunc", "width_bucket", "gen_random_uuid",
    // Dates and times.
    "age", "clock_timestamp", "date_bin", "date_part", "date_trunc", "isfinite", "justify_days", "justify_hours",
    "justify_interval", "make_date", "make_interval", "make_time", "make_timestamp", "make_timestamptz", "now",
    "pg_sleep", "statement_timestamp", "timeofday", "timezone", "to_char", "to_date", "to_number", "to_timestamp",
    "transaction_timestamp",
    // JSON and arrays.
    "array_append", "array_cat", "array_dims", "array_fill", "array_length", "array_lower", "array_ndims", "array_position",
    "array_positions", "array_prepend", "array_remove", "array_replace", "array_to_json", "array_to_string", "array_upper",
    "cardinality", "generate_series", "generate_subscripts", "json_array_elements", "json_array_elements_text",
    "json_array_length", "json_build_array", "json_build_object", "json_each", "json_each_text",
    "json_extract_path", "json_extract_path_text", "json_object_keys", "json_strip_nulls", "json_typeof",
    "jsonb_array_elements", "jsonb_array_elements_text", "jsonb_array_length", "jsonb_build_array",
    "jsonb_build_object", "jsonb_each", "jsonb_each_text", "jsonb_extract_path", "jsonb_extract_path_text",
    "jsonb_insert", "jsonb_object_keys", "jsonb_path_exists", "jsonb_path_query", "jsonb_path_query_array",
    "jsonb_path_query_first", "jsonb_pretty", "jsonb_set", "jsonb_strip_nulls", "jsonb_typeof", "row_to_json",
    "to_json", "to_jsonb", "unnest",
    // Of the session and the server, where they only read and give every session the same.
    "current_database", "current_schema", "current_schemas", "current_setting", "pg_current_wal_flush_lsn",
    "pg_current_wal_insert_lsn", "pg_current_wal_lsn", "pg_is_in_recovery", "pg_postmaster_start_time", "version",
    // What psql and drivers ask the catalogues.
    "aclexplode", "array_in", "col_description", "format_type", "has_any_column_privilege", "has_column_privilege",
    "has_database_privilege", "has_function_privilege", "has_schema_privilege", "has_sequence_privilege",
    "has_table_privilege", "has_type_privilege", "obj_description", "pg_char_to_encoding", "pg_collation_is_visible",
    "pg_database_size", "pg_encoding_to_char", "pg_function_is_visible", "pg_get_constraintdef", "pg_get_expr",
    "pg_get_function_arguments", "pg_get_function_identity_arguments", "pg_get_function_result",
    "pg_get_functiondef", "pg_get_indexdef", "pg_get_partition_constraintdef", "pg_get_partkeydef", "pg_get_ruledef",
    "pg_get_serial_sequence", "pg_get_triggerdef", "pg_get_userbyid", "pg_get_viewdef", "pg_has_role",
    "pg_index_column_has_property", "pg_indexes_size", "pg_opclass_is_visible", "pg_operator_is_visible",
    "pg_relation_is_publishable", "pg_relation_size", "pg_size_pretty", "pg_table_is_visible", "pg_table_size",
    "pg_total_relation_size", "pg_type_is_visible", "quote_ident", "shobj_description", "to_regclass", "to_regnamespace",
    "to_regproc", "to_regrole", "to_regtype",
];

/// Functions of `pg_catalog` whose traces DISCARD ALL takes away.
const DISCARDABLE_FUNCTIONS: &[&str] = &[
    "currval",
    "lastval",
    "nextval",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_advisory_unlock",
    "pg_advisory_unlock_all",
    "pg_advisory_unlock_shared",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_backend_pid",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared",
    "setval",
];

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{catalog::Relation, query::statement, types::TableOid};

    fn catalog() -> Catalog {
        let relation = |oid, kind| Relation { oid: TableOid(oid), kind };
        let of = |names: &[(&str, u32, u8)]| -> HashMap<String, Relation> {
            names.iter().map(|&(name, oid, kind)| (name.to_owned(), relation(oid, kind))).collect()
        };
        let relations = HashMap::from([
            ("public".to_owned(), of(&[("t", 1, b'r'), ("v", 2, b'v'), ("f", 3, b'f'), ("hidden", 4, b'r')])),
            ("other".to_owned(), of(&[("hidden", 5, b'v')])),
            ("pg_catalog".to_owned(), of(&[("pg_class", 6, b'r'), ("pg_settings", 7, b'v')])),
        ]);
        Catalog { relations, ..Catalog::default() }
    }

    #[test]
    fn only_what_is_known_leaves_no_trace() {
        use Trace::{Discardable, Lasting, None};
        let catalog = catalog();
        for (sql, expected) in [
            ("select 1", None),
            ("", None),
            ("values (1), (2)", None),
            ("select * from t where id in (1, 2) and lower(name) = any(array['x'])", None),
            ("select count(*) filter (where a > 1) over (partition by b) from public.t", None),
            ("select x.n from t as x (n) cross join lateral (select 1) y", Lasting),
            ("with c as (select * from t) select * from c", None),
            ("with v as (select * from t) select * from v", Lasting),
            ("select * from generate_series(1, 3)", None),
            ("table t", Lasting),
            ("table v", Lasting),
            ("select * from v", Lasting),
            ("select * from f", Lasting),
            ("select * from unknown", Lasting),
            ("select * from hidden", Lasting),
            ("select * from public.hidden", None),
            ("select * from \"T\"", Lasting),
            ("select a from pg_catalog.pg_settings", None),
            ("select relname from pg_class c where pg_catalog.pg_table_is_visible(c.oid)", None),
            ("select public.lower('x')", Lasting),
            ("select \"evil\"('x')", Lasting),
            ("select evil /* ( */ ('x')", Lasting),
            ("select U&\"evil\"('x')", Lasting),
            ("select * into x from t", Discardable),
            ("select * from t for update", Discardable),
            ("select nextval('s')", Discardable),
            ("select pg_backend_pid()", Discardable),
            ("select set_config('a', 'b', false)", Lasting),
            ("select setseed(0.5)", Lasting),
            ("select evil from t where exists (select dblink('x'))", Lasting),
            ("show all", None),
            ("explain select * from t", None),
            ("explain analyze select * from t", Discardable),
            ("explain (analyze) select evil()", Lasting),
            ("begin isolation level serializable", None),
            ("commit", None),
            ("savepoint a", None),
            ("rollback to a", None),
            ("commit prepared 'x'", Discardable),
            ("prepare transaction 'x'", Discardable),
            ("set timezone = 'UTC'", Discardable),
            ("set local timezone = 'UTC'", None),
            ("set local role x", Discardable),
            ("set local session authorization x", Discardable),
            ("set local app.tenant = '1'", Lasting),
            ("set app.tenant = '1'", Lasting),
            ("set session app.tenant = '1'", Lasting),
            ("set millpond.route = 'primary'", Discardable),
            ("set transaction read only", None),
            ("reset all", Discardable),
            ("discard all", Discardable),
            ("declare c cursor for select * from t", None),
            ("declare c cursor with hold for select * from t", Discardable),
            ("fetch 1 from c", None),
            ("copy t to stdout", None),
            ("copy (select * from v) to stdout", Lasting),
            ("copy t from stdin", Discardable),
            ("insert into t (a, b) values (1, 2)", Discardable),
            ("insert into t (a) select evil()", Lasting),
            ("create temp table x (a int)", Discardable),
            ("create extension dblink", Lasting),
            ("prepare p as select 1", Discardable),
            ("listen x", Discardable),
            ("do $$begin end$$", Lasting),
            ("call p()", Lasting),
            ("load 'x'", Lasting),
            ("selekt 1", Lasting),
            ("select 'open", Lasting),
        ] {
            let parsed = statement::parse(sql);
            let trace = parsed.iter().map(|s| of(s, Some(&catalog))).max().unwrap_or_default();
            assert_eq!(trace, expected, "{sql}");
        }
    }

    #[test]
    fn without_a_catalogue_tables_are_unknown() {
        for (sql, expected) in [
            ("select 1", Trace::None),
            ("select * from t", Trace::Lasting),
            ("select * from pg_catalog.pg_class", Trace::None),
            ("select * from generate_series(1, 3)", Trace::None),
        ] {
            assert_eq!(of(&statement::parse(sql)[0], None), expected, "{sql}");
        }
    }
}
