//! What is not handed on to the primary: `fallthrough.writes` and `fallthrough.reads`.
//!
//! Under `writes = "reject"` sessions have `default_transaction_read_only = on` at the primary, which
//! refuses every write by itself, hidden in a function or not. What is refused here are writes that
//! show, and statements that would lift that default. It keeps applications from writing through a
//! read cache by mistake; what a role may write is for its grants at the primary to say.

use super::error::Problem;
use crate::{
    config::{Fallthrough, Forwarding},
    query::{Reason, Statement, StatementKind},
};

/// Whether a statement that is not answered from memory may go to the primary. `idle`: no transaction
/// is open there; in one, the primary refuses by itself, so that the transaction fails as well.
pub(super) fn check(
    fallthrough: &Fallthrough,
    statement: &Statement,
    reason: Reason,
    idle: bool,
) -> Result<(), Problem> {
    let kind = &statement.kind;
    if fallthrough.writes == Forwarding::Reject {
        if lifts_read_only(statement) {
            return Err(Problem::ReadWriteRejected);
        }
        if *kind == StatementKind::Write && idle {
            return Err(Problem::WriteRejected { verb: verb(&statement.text) });
        }
    }
    let reads = matches!(kind, StatementKind::Select | StatementKind::Read | StatementKind::Unknown);
    if fallthrough.reads == Forwarding::Reject && reads {
        return Err(Problem::ReadRejected(reason));
    }
    Ok(())
}

/// The statement's first word, as PostgreSQL's command tags have it.
fn verb(text: &str) -> String {
    let text = plain(text);
    let word = text.split(|c: char| !c.is_ascii_alphanumeric()).find(|w| !w.is_empty());
    match word {
        Some("select" | "with" | "table" | "values") | None => "a writing SELECT".into(),
        Some(word) => word.to_ascii_uppercase(),
    }
}

fn lifts_read_only(statement: &Statement) -> bool {
    // Most statements are done with a look for one word.
    let lower = statement.text.to_ascii_lowercase();
    if !lower.contains("read") {
        return false;
    }
    let text = plain(&lower);
    match statement.kind {
        StatementKind::Set | StatementKind::Transaction | StatementKind::Unknown => {
            text.contains("read_only") || text.contains("read write")
        }
        StatementKind::Write => text.contains("read_only") || text.contains("read write"),
        _ => text.contains("read_only") && text.contains("set_config"),
    }
}

/// In lower case, without comments, with single spaces.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("/*") {
            Some(rest.find("*/").map_or(rest.len(), |i| i + 2))
        } else if rest.starts_with("--") {
            Some(rest.find('\n').unwrap_or(rest.len()))
        } else if c.is_whitespace() {
            Some(c.len_utf8())
        } else {
            None
        };
        match skipped {
            Some(length) => {
                if !out.ends_with(' ') && !out.is_empty() {
                    out.push(' ');
                }
                rest = rest.get(length..).unwrap_or_default();
            }
            None => {
                out.push(c.to_ascii_lowercase());
                rest = rest.get(c.len_utf8()..).unwrap_or_default();
            }
        }
    }
    out
}

/// What a forwarded statement does to the prepared statements of its session by SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ByName {
    /// Nothing that we know of.
    Nothing,
    /// It may name any of them, so the primary must have them all first.
    Uses,
    /// The same, and some may be gone afterwards.
    Drops,
    /// This one is gone if it succeeds.
    DropsOne(String),
    /// All are gone if it succeeds.
    DropsAll,
}

pub(super) fn by_name(text: &str) -> ByName {
    let lower = text.to_ascii_lowercase();
    let words = ["deallocate", "discard", "execute", "prepare"];
    if !words.iter().any(|word| lower.contains(word)) {
        return ByName::Nothing;
    }
    let plain = plain(&lower);
    let plain = plain.trim_end_matches([';', ' ']);
    match plain {
        "discard all" | "deallocate all" | "deallocate prepare all" => ByName::DropsAll,
        _ if plain.contains("deallocate") || plain.contains("discard") => {
            dropped_name(text).map_or(ByName::Drops, ByName::DropsOne)
        }
        _ => ByName::Uses,
    }
}

/// The name in a plain `deallocate name`, as PostgreSQL folds it.
fn dropped_name(text: &str) -> Option<String> {
    let mut words = text.trim().trim_end_matches(';').split_whitespace();
    words.next().filter(|w| w.eq_ignore_ascii_case("deallocate"))?;
    let word = words.next().filter(|_| words.next().is_none())?;
    match word.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"').filter(|name| !name.contains('"')).map(str::to_owned),
        None => {
            let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            word.chars().all(name).then(|| word.to_ascii_lowercase())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(writes: Forwarding, reads: Forwarding, sql: &str, idle: bool) -> Result<(), Problem> {
        let (store, _writer) = crate::store::Store::new();
        let engine = crate::query::Engine::new(store, Default::default(), Default::default(), true);
        let statement = engine.parse(sql).remove(0);
        check(&Fallthrough { reads, writes }, &statement, Reason::NotCached, idle)
    }

    #[test]
    fn writes_are_refused_where_they_show() {
        use Forwarding::{Forward, Reject};
        for (sql, allowed) in [
            ("select 1", true),
            ("show transaction_read_only", true),
            ("select current_setting('transaction_read_only')", true),
            ("begin", true),
            ("begin read only", true),
            ("set application_name = 'reader'", true),
            ("insert into t values (1)", false),
            ("begin read write", false),
            ("begin READ -- x\n /* y */  WRITE", false),
            ("set default_transaction_read_only = off", false),
            ("select set_config('transaction_READ_only', 'off', false)", false),
            ("do $$begin set transaction read write; end$$", false),
        ] {
            assert_eq!(checked(Reject, Forward, sql, true).is_ok(), allowed, "{sql}");
            assert_eq!(checked(Forward, Forward, sql, true), Ok(()), "{sql}");
        }
        assert_eq!(checked(Reject, Forward, "insert into t values (1)", false), Ok(()));
        assert_eq!(
            checked(Reject, Forward, "insert into t values (1)", true),
            Err(Problem::WriteRejected { verb: "INSERT".into() })
        );
        assert_eq!(checked(Forward, Reject, "select 1", true), Err(Problem::ReadRejected(Reason::NotCached)));
        assert_eq!(checked(Forward, Reject, "begin", true), Ok(()));
    }

    #[test]
    fn statements_used_by_name_are_noticed() {
        for (sql, expected) in [
            ("select 1", ByName::Nothing),
            ("DISCARD ALL;", ByName::DropsAll),
            (" deallocate /* x */ all", ByName::DropsAll),
            ("DEALLOCATE S1;", ByName::DropsOne("s1".into())),
            ("deallocate \"_pg3_S\"", ByName::DropsOne("_pg3_S".into())),
            ("deallocate /* x */ s1", ByName::Drops),
            ("discard plans", ByName::Drops),
            ("execute s1(1)", ByName::Uses),
            ("select 1; deallocate all", ByName::Drops),
        ] {
            assert_eq!(by_name(sql), expected, "{sql}");
        }
    }
}
