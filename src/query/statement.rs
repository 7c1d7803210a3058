//! Statements of a query string, and their kinds.

use sqlparser::{ast, dialect::PostgreSqlDialect, parser::Parser};

use super::{
    command::{self, Command},
    scan::{self, Leaf, Scanned, Token, TokenKind},
};

/// sqlparser's own bound on recursion.
const MAX_RECURSION: usize = 50;

/// One statement as the client sent it.
#[derive(Clone, Debug)]
pub struct Statement {
    pub text: String,
    pub kind: StatementKind,
    /// What a session may be able to answer itself, besides a SELECT.
    pub command: Option<Command>,
    pub(crate) candidate: Option<Box<Candidate>>,
}

/// A SELECT whose tokens are all plain.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) query: ast::Query,
    pub(crate) leaves: Vec<Leaf>,
}

/// What a statement is to a session. Only `Select` and `ShowMillpond` can be answered here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementKind {
    /// No statement: EmptyQueryResponse.
    Empty,
    /// A candidate for memory.
    Select,
    /// `show millpond.<name>`, the name in lower case.
    ShowMillpond(String),
    /// Another statement that cannot write by itself, or leaves that to what it runs (EXECUTE).
    Read,
    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT and their kin.
    Transaction,
    /// SET, RESET, DISCARD: what the session is has to be read again.
    Set,
    /// DML, DDL, COPY FROM, locking SELECT, CALL, DO.
    Write,
    /// Not understood as a whole: the primary says what it is.
    Unknown,
}

/// Splits a simple-protocol string. One `Unknown` statement where any part is not understood,
/// because PostgreSQL parses a string as a whole before it runs the first of its statements.
pub(crate) fn parse(sql: &str) -> Vec<Statement> {
    let whole = |kind| vec![Statement { text: sql.to_owned(), kind, command: None, candidate: None }];
    let Some(scanned) = scan::split(sql) else { return whole(StatementKind::Unknown) };
    if scanned.is_empty() {
        return whole(StatementKind::Empty);
    }
    let statements: Vec<Statement> = scanned.iter().map(of).collect();
    if statements.iter().any(|s| s.kind == StatementKind::Unknown) {
        return whole(StatementKind::Unknown);
    }
    statements
}

/// One statement of a string.
pub(super) fn of(scanned: &Scanned<'_>) -> Statement {
    let mut kind = classify(&scanned.tokens);
    let mut candidate = None;
    let is_select =
        scanned.tokens.iter().find(|t| t.kind != TokenKind::Open).is_some_and(|t| t.is_word("select"));
    if kind == StatementKind::Select && is_select && scanned.plain {
        match parse_query(scanned.text) {
            Some(query) => candidate = Some(Box::new(Candidate { query, leaves: scanned.leaves() })),
            None => kind = StatementKind::Unknown,
        }
    }
    let command = match kind {
        StatementKind::Transaction | StatementKind::Read => command::parse(scanned),
        _ => None,
    };
    Statement { text: scanned.text.to_owned(), kind, command, candidate }
}

fn parse_query(text: &str) -> Option<ast::Query> {
    let mut statements = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(MAX_RECURSION)
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_statements())
        .ok()?;
    match (statements.pop(), statements.is_empty()) {
        (Some(ast::Statement::Query(query)), true) => Some(*query),
        _ => None,
    }
}

/// By its words alone, so that no parser's blind spot can make a write look like a read.
fn classify(tokens: &[Token<'_>]) -> StatementKind {
    // Parentheses may stand before a SELECT.
    let tokens = &tokens[tokens.iter().take_while(|t| t.kind == TokenKind::Open).count()..];
    let Some(first) = tokens.first().filter(|t| t.kind == TokenKind::Word) else {
        return StatementKind::Unknown;
    };
    let second = |word: &str| tokens.get(1).is_some_and(|t| t.is_word(word));
    match first.text.to_ascii_lowercase().as_str() {
        "select" | "with" | "values" | "table" => {
            if writes(tokens) {
                StatementKind::Write
            } else {
                StatementKind::Select
            }
        }
        "insert" | "update" | "delete" | "merge" | "create" | "alter" | "drop" | "truncate" | "grant"
        | "revoke" | "comment" | "vacuum" | "analyze" | "analyse" | "cluster" | "reindex" | "refresh"
        | "import" | "security" | "reassign" | "call" | "do" => StatementKind::Write,
        "copy" => {
            let mut depth = 0usize;
            for token in tokens {
                match token.kind {
                    TokenKind::Open => depth += 1,
                    TokenKind::Close => depth = depth.saturating_sub(1),
                    _ if depth == 0 && token.is_word("to") && !writes(tokens) => return StatementKind::Read,
                    _ if depth == 0 && token.is_word("from") => return StatementKind::Write,
                    _ => {}
                }
            }
            StatementKind::Write
        }
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
            StatementKind::Transaction
        }
        "prepare" if second("transaction") => StatementKind::Transaction,
        "set" | "reset" | "discard" => StatementKind::Set,
        "show" => show_millpond(tokens).unwrap_or(StatementKind::Read),
        "explain" => {
            let runs = tokens.iter().any(|t| t.is_word("analyze") || t.is_word("analyse"));
            if runs && (writes(tokens) || tokens.iter().any(|t| t.is_word("create") || t.is_word("refresh")))
            {
                StatementKind::Write
            } else {
                StatementKind::Read
            }
        }
        "prepare" | "execute" | "deallocate" | "declare" | "fetch" | "move" | "close" | "listen"
        | "unlisten" | "notify" | "lock" | "checkpoint" | "load" => StatementKind::Read,
        _ => StatementKind::Unknown,
    }
}

/// Whether the words of a query show a data-modifying CTE, INTO or a row lock.
fn writes(tokens: &[Token<'_>]) -> bool {
    tokens.iter().enumerate().any(|(i, token)| {
        if token.kind != TokenKind::Word {
            return false;
        }
        let next = |word: &str| tokens.get(i + 1).is_some_and(|t| t.is_word(word));
        match token.text.to_ascii_lowercase().as_str() {
            "into" => true,
            "for" => next("update") || next("share") || next("no") || next("key"),
            "delete" => next("from"),
            "insert" | "merge" => next("into"),
            // `update t set`, possibly with ONLY, a schema and an alias between.
            "update" => tokens[i + 1..].iter().take(8).any(|t| t.is_word("set")),
            _ => false,
        }
    })
}

fn show_millpond(tokens: &[Token<'_>]) -> Option<StatementKind> {
    match tokens {
        [_, schema, dot, name]
            if schema.is_word("millpond") && dot.kind == TokenKind::Dot && name.kind == TokenKind::Word =>
        {
            Some(StatementKind::ShowMillpond(name.text.to_ascii_lowercase()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_words() {
        use StatementKind::{Empty, Read, Select, Set, Transaction, Unknown, Write};
        for (sql, expected) in [
            ("", Empty),
            (" ; ", Empty),
            ("select 1", Select),
            ("(select a from t)", Select),
            ("with x as (select 1) select * from x", Select),
            ("select substring(a for 2) from t", Select),
            ("select now() at time zone 'x'", Select),
            ("values (1)", Select),
            ("table t", Select),
            ("select a into b from t", Write),
            ("select a from t for update", Write),
            ("select a from t for no key update", Write),
            ("select a from t FOR /* c */ SHARE", Write),
            ("with x as (delete from t returning *) select * from x", Write),
            ("with x as (insert into t values (1) returning *) select * from x", Write),
            ("with x as (update only s.t as y set a = 1 returning *) select * from x", Write),
            ("insert into t values (1)", Write),
            ("create table t (a int)", Write),
            ("copy t from stdin", Write),
            ("copy t to stdout", Read),
            ("copy (select a from t) to stdout", Read),
            ("call p()", Write),
            ("do $$ begin end $$", Write),
            ("begin", Transaction),
            ("start transaction isolation level serializable", Transaction),
            ("prepare transaction 'x'", Transaction),
            ("prepare x as select 1", Read),
            ("execute x", Read),
            ("set search_path = a", Set),
            ("reset all", Set),
            ("discard all", Set),
            ("show timezone", Read),
            ("show millpond.lsn", StatementKind::ShowMillpond("lsn".into())),
            ("SHOW Millpond.Last_Route;", StatementKind::ShowMillpond("last_route".into())),
            ("explain select 1", Read),
            ("explain delete from t", Read),
            ("explain analyze delete from t", Write),
            ("explain (analyze, verbose) insert into t values (1)", Write),
            ("declare c cursor for select 1", Read),
            ("fetch 1 from c", Read),
            ("selekt 1", Unknown),
            ("select a b c from t", Unknown),
            ("select 'a", Unknown),
            ("1", Unknown),
        ] {
            let statements = parse(sql);
            let kinds: Vec<_> = statements.iter().map(|s| s.kind.clone()).collect();
            assert_eq!(kinds, [expected], "{sql}");
        }
    }

    #[test]
    fn a_string_is_split_or_forwarded_whole() {
        let texts = |sql| parse(sql).into_iter().map(|s| (s.text, s.kind)).collect::<Vec<_>>();
        assert_eq!(
            texts("begin; select a from t; commit;"),
            [
                ("begin".to_owned(), StatementKind::Transaction),
                ("select a from t".to_owned(), StatementKind::Select),
                ("commit".to_owned(), StatementKind::Transaction),
            ]
        );
        assert_eq!(
            texts("select a from t; selekt"),
            [("select a from t; selekt".to_owned(), StatementKind::Unknown)]
        );
    }

    #[test]
    fn hostile_texts_end_soon() {
        let deep = format!("select {}1{} from t", "(".repeat(100_000), ")".repeat(100_000));
        let chain = format!("select a from t where {} true", "a = 1 or ".repeat(50_000));
        let signs = format!("select {} 1 from t", "- ".repeat(50_000));
        let brackets = format!("select {}1", "[".repeat(100_000));
        for sql in [deep, chain, signs, brackets, "x".repeat(2 << 20), "\0".repeat(100), "(".repeat(1000)] {
            assert!(parse(&sql).iter().all(|s| s.candidate.is_none()));
        }
        let nested = format!(
            "select {}1{} from t where {}a{} = 1",
            "(".repeat(12),
            ")".repeat(12),
            "(".repeat(12),
            ")".repeat(12)
        );
        assert_eq!(parse(&nested).len(), 1);
        let nested = format!("select 1 from {}t{}", "(".repeat(12), ")".repeat(12));
        assert_eq!(parse(&nested).len(), 1);
    }
}
