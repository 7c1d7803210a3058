//! Which relations and columns the `[[tables]]` rules choose.

use std::collections::BTreeMap;

use crate::{config::TableRule, types::TableOid};

/// A relation that rules are held against.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) oid: TableOid,
    pub(super) schema: String,
    pub(super) name: String,
    /// `pg_class.relkind`.
    pub(super) kind: u8,
}

/// What the rules choose.
#[derive(Debug, Default)]
pub(super) struct Selection<'r> {
    /// The chosen relations, each with the rules that chose it.
    pub(super) chosen: BTreeMap<TableOid, Vec<&'r TableRule>>,
    /// One sentence for each pattern that matches nothing.
    pub(super) warnings: Vec<String>,
}

/// Holds every relation against every rule. A relation is chosen when one rule matches it and does
/// not exclude it.
pub(super) fn select<'r>(rules: &'r [TableRule], candidates: &[Candidate]) -> Selection<'r> {
    let mut selection = Selection::default();
    for rule in rules {
        for pattern in &rule.matches {
            let parsed = Pattern::parse(pattern);
            let mut matched = false;
            for candidate in candidates.iter().filter(|c| parsed.matches(c)) {
                matched = true;
                if rule.exclude.iter().any(|e| Pattern::parse(e).matches(candidate)) {
                    continue;
                }
                let by = selection.chosen.entry(candidate.oid).or_default();
                if !by.iter().any(|r| std::ptr::eq(*r, rule)) {
                    by.push(rule);
                }
            }
            if !matched {
                selection.warnings.push(if parsed.is_literal() {
                    format!("table {}.{} does not exist", parsed.schema, parsed.name)
                } else {
                    format!("pattern {pattern:?} matches no table")
                });
            }
        }
    }
    selection
}

/// Whether `pattern` (`table.column` or `schema.table.column`) names this column. Without a schema
/// it means a table of that name in any schema: a secret is better excluded twice than not at all.
pub(super) fn excludes_column(pattern: &str, schema: &str, table: &str, column: &str) -> bool {
    let mut parts = pattern.rsplitn(3, '.');
    let (Some(c), Some(t)) = (parts.next(), parts.next()) else { return false };
    like(c, column) && like(t, table) && parts.next().is_none_or(|s| like(s, schema))
}

/// `schema.table` with `*` and `?`; a name without a schema means `public`.
struct Pattern<'p> {
    schema: &'p str,
    name: &'p str,
}

impl<'p> Pattern<'p> {
    fn parse(pattern: &'p str) -> Pattern<'p> {
        match pattern.split_once('.') {
            Some((schema, name)) => Pattern { schema, name },
            None => Pattern { schema: "public", name: pattern },
        }
    }

    fn is_literal(&self) -> bool {
        !has_wildcard(self.schema) && !has_wildcard(self.name)
    }

    /// Wildcards mean what a user keeps data in: no system schemas, no sequences, no indexes.
    fn matches(&self, candidate: &Candidate) -> bool {
        let kind = match candidate.kind {
            b'r' | b'p' | b'v' | b'm' | b'f' => true,
            b'S' => !has_wildcard(self.name),
            _ => false,
        };
        let system = candidate.schema.starts_with("pg_") || candidate.schema == "information_schema";
        kind && !(system && has_wildcard(self.schema))
            && like(self.schema, &candidate.schema)
            && like(self.name, &candidate.name)
    }
}

fn has_wildcard(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// `*` for any characters, `?` for one.
fn like(pattern: &str, text: &str) -> bool {
    let mut characters = pattern.chars();
    match characters.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = characters.as_str();
            text.char_indices().map(|(i, _)| i).chain([text.len()]).any(|i| like(rest, &text[i..]))
        }
        Some(wanted) => {
            let mut text = text.chars();
            text.next().is_some_and(|c| wanted == '?' || wanted == c)
                && like(characters.as_str(), text.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TableMode;

    fn rule(matches: &[&str], exclude: &[&str]) -> TableRule {
        TableRule {
            matches: matches.iter().map(|s| s.to_string()).collect(),
            exclude: exclude.iter().map(|s| s.to_string()).collect(),
            exclude_columns: Vec::new(),
            mode: TableMode::Mirror,
        }
    }

    fn candidates() -> Vec<Candidate> {
        [
            ("public", "users", b'r'),
            ("public", "user_log", b'r'),
            ("public", "ids", b'S'),
            ("public", "users_pkey", b'i'),
            ("app", "users", b'p'),
            ("pg_catalog", "pg_class", b'r'),
        ]
        .into_iter()
        .zip(1..)
        .map(|((schema, name, kind), oid)| Candidate {
            oid: TableOid(oid),
            schema: schema.into(),
            name: name.into(),
            kind,
        })
        .collect()
    }

    fn chosen(rules: &[TableRule]) -> Vec<u32> {
        select(rules, &candidates()).chosen.keys().map(|oid| oid.0).collect()
    }

    #[test]
    fn patterns_choose_and_exclude() {
        assert_eq!(chosen(&[rule(&["public.*"], &[])]), [1, 2]);
        assert_eq!(chosen(&[rule(&["users"], &[])]), [1]);
        assert_eq!(chosen(&[rule(&["*.users"], &[])]), [1, 5]);
        assert_eq!(chosen(&[rule(&["*.*"], &["*_log"])]), [1, 5]);
        assert_eq!(chosen(&[rule(&["public.user?"], &[]), rule(&["app.*"], &["app.u*"])]), [1]);
        assert_eq!(chosen(&[rule(&["pg_catalog.pg_class", "ids"], &[])]), [3, 6]);
    }

    #[test]
    fn patterns_without_a_match_are_named() {
        let rules = [rule(&["nowhere", "app.x*", "public.users"], &["users"])];
        let selection = select(&rules, &candidates());
        assert_eq!(
            selection.warnings,
            ["table public.nowhere does not exist", "pattern \"app.x*\" matches no table"]
        );
        assert!(selection.chosen.is_empty());
    }

    #[test]
    fn columns_are_excluded_in_any_schema_unless_one_is_named() {
        assert!(excludes_column("users.password", "app", "users", "password"));
        assert!(excludes_column("app.users.pass*", "app", "users", "password"));
        assert!(!excludes_column("public.users.password", "app", "users", "password"));
        assert!(!excludes_column("password", "app", "users", "password"));
        assert!(excludes_column("*.password", "app", "users", "password"));
    }

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a?c", "aéc", true),
            ("?", "", false),
            ("**x", "aax", true),
        ] {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
    }
}
