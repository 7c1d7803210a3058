//! Statements besides SELECT that a session can answer itself, read from their words: transactions,
//! cursors, COPY TO STDOUT.
//!
//! What is not understood to its last word is none of them, and the primary says what is wrong with it.

use super::{
    Statement, StatementKind, keywords,
    scan::{self, Scanned, Token, TokenKind},
    statement,
};

/// Its parts are decoded; names are folded and cut as PostgreSQL does.
#[derive(Clone, Debug)]
pub enum Command {
    Begin(Begin),
    /// COMMIT or END.
    Commit {
        chain: bool,
    },
    /// ROLLBACK or ABORT, of the whole transaction.
    Rollback {
        chain: bool,
    },
    /// SAVEPOINT, RELEASE, ROLLBACK TO.
    Savepoint,
    Declare(Box<Declare>),
    Fetch(Fetch),
    /// CLOSE; `None` for ALL.
    Close(Option<String>),
    Copy(Box<Copy>),
}

/// BEGIN or START TRANSACTION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Its CommandComplete.
    pub tag: &'static str,
    /// Whether it asks for an isolation level, and whether that is READ COMMITTED.
    pub reads_committed: Option<bool>,
}

/// DECLARE.
#[derive(Clone, Debug)]
pub struct Declare {
    pub cursor: String,
    pub binary: bool,
    /// SCROLL or NO SCROLL, where it says.
    pub scroll: Option<bool>,
    /// `None` for one that is the primary's in any case: WITH HOLD, or of something else than a SELECT.
    pub select: Option<Statement>,
}

/// FETCH or MOVE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub cursor: String,
    pub step: Step,
    /// MOVE: no row is sent.
    pub moves: bool,
}

/// Where a cursor goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Forward(i64),
    Backward(i64),
    Absolute(i64),
    Relative(i64),
}

/// As many rows as there are, as a count of [`Step::Forward`] and [`Step::Backward`].
pub const ALL: i64 = i64::MAX;

/// COPY .. TO STDOUT.
#[derive(Clone, Debug)]
pub struct Copy {
    /// The rows: what stands in parentheses, or all of the table's.
    pub select: Statement,
    /// A table was named.
    pub of_table: bool,
    pub options: CopyOptions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub delimiter: u8,
    pub null: String,
    pub header: bool,
    pub quote: u8,
    pub escape: u8,
    pub force_quote: ForceQuote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForceQuote {
    All,
    Columns(Vec<String>),
}

pub(super) fn parse(scanned: &Scanned<'_>) -> Option<Command> {
    let mut words = Words { text: scanned.text, tokens: &scanned.tokens };
    let first = words.word()?;
    let command = match first.as_str() {
        "begin" => begin("BEGIN", &mut words),
        "start" => match words.take("transaction") {
            true => modes("START TRANSACTION", &mut words),
            false => None,
        },
        "commit" | "end" => end(&mut words).map(|chain| Command::Commit { chain }),
        "abort" => end(&mut words).map(|chain| Command::Rollback { chain }),
        "rollback" => rollback(&mut words),
        "savepoint" => words.name().map(|_| Command::Savepoint),
        "release" => {
            words.take("savepoint");
            words.name().map(|_| Command::Savepoint)
        }
        "declare" => declare(&mut words),
        "fetch" => fetch(&mut words, false),
        "move" => fetch(&mut words, true),
        "close" => match words.tokens {
            [all] if all.is_word("all") => {
                words.tokens = &[];
                Some(Command::Close(None))
            }
            _ => words.name().map(|name| Command::Close(Some(name))),
        },
        "copy" => copy(&mut words),
        _ => None,
    }?;
    words.tokens.is_empty().then_some(command)
}

fn begin(tag: &'static str, words: &mut Words<'_, '_>) -> Option<Command> {
    let _ = words.take("work") || words.take("transaction");
    modes(tag, words)
}

/// `transaction_mode_list` of PostgreSQL's grammar, each mode once.
fn modes(tag: &'static str, words: &mut Words<'_, '_>) -> Option<Command> {
    let (mut reads_committed, mut access, mut deferrable) = (None, false, false);
    let mut is_first = true;
    while !words.tokens.is_empty() {
        if !is_first {
            words.take_kind(TokenKind::Comma);
        }
        is_first = false;
        let mode = words.word()?;
        match mode.as_str() {
            "isolation" if reads_committed.is_none() => {
                words.take("level").then_some(())?;
                reads_committed = Some(match words.word()?.as_str() {
                    "serializable" => false,
                    "repeatable" => words.take("read").then_some(false)?,
                    "read" => (words.take("committed") || words.take("uncommitted")).then_some(true)?,
                    _ => return None,
                });
            }
            "read" if !std::mem::replace(&mut access, true) => {
                (words.take("only") || words.take("write")).then_some(())?;
            }
            "not" if !std::mem::replace(&mut deferrable, true) => words.take("deferrable").then_some(())?,
            "deferrable" if !std::mem::replace(&mut deferrable, true) => {}
            _ => return None,
        }
    }
    Some(Command::Begin(Begin { tag, reads_committed }))
}

/// What follows COMMIT: whether another transaction follows.
fn end(words: &mut Words<'_, '_>) -> Option<bool> {
    let _ = words.take("work") || words.take("transaction");
    if !words.take("and") {
        return Some(false);
    }
    let chain = !words.take("no");
    words.take("chain").then_some(chain)
}

fn rollback(words: &mut Words<'_, '_>) -> Option<Command> {
    let chain = end(words)?;
    if !chain && words.take("to") {
        words.take("savepoint");
        return words.name().map(|_| Command::Savepoint);
    }
    Some(Command::Rollback { chain })
}

fn declare(words: &mut Words<'_, '_>) -> Option<Command> {
    let cursor = words.name()?;
    let (mut binary, mut scroll) = (false, None);
    loop {
        match words.word()?.as_str() {
            "binary" => binary = true,
            "insensitive" | "asensitive" => {}
            "no" if scroll.is_none() => scroll = words.take("scroll").then_some(Some(false))?,
            "scroll" if scroll.is_none() => scroll = Some(true),
            "cursor" => break,
            _ => return None,
        }
    }
    let with = words.take("with");
    if with || words.take("without") {
        words.take("hold").then_some(())?;
    }
    words.take("for").then_some(())?;
    let select = select(words.rest()?).filter(|_| !with);
    words.tokens = &[];
    Some(Command::Declare(Box::new(Declare { cursor, binary, scroll, select })))
}

/// `fetch_args` of PostgreSQL's grammar.
fn fetch(words: &mut Words<'_, '_>, moves: bool) -> Option<Command> {
    let fetched = |cursor, step| Some(Command::Fetch(Fetch { cursor, step, moves }));
    if words.tokens.len() == 1 {
        // A lone word of the list below is a name only where the grammar says so.
        let is_step = words.tokens.first().is_some_and(|t| STEPS.iter().any(|step| t.is_word(step)));
        return fetched(words.name().filter(|_| !is_step)?, Step::Forward(1));
    }
    let step = match words.signed()? {
        Some(count) => Step::Forward(count),
        None => {
            let word = words.tokens.first().filter(|t| t.kind == TokenKind::Word)?;
            let is_step = STEPS.iter().any(|step| word.is_word(step));
            let word = if is_step { words.word()? } else { String::new() };
            match word.as_str() {
                "next" => Step::Forward(1),
                "prior" => Step::Backward(1),
                "first" => Step::Absolute(1),
                "last" => Step::Absolute(-1),
                "absolute" => Step::Absolute(words.signed()??),
                "relative" => Step::Relative(words.signed()??),
                "forward" => Step::Forward(words.count()?),
                "backward" => Step::Backward(words.count()?),
                "all" => Step::Forward(ALL),
                _ => Step::Forward(1),
            }
        }
    };
    let _ = words.take("from") || words.take("in");
    fetched(words.name()?, step)
}

const STEPS: [&str; 9] =
    ["next", "prior", "first", "last", "absolute", "relative", "forward", "backward", "all"];

fn copy(words: &mut Words<'_, '_>) -> Option<Command> {
    let of_table = words.tokens.first()?.kind != TokenKind::Open;
    let text = match of_table {
        true => table(words)?,
        false => words.parenthesized()?.to_owned(),
    };
    words.take("to").then_some(())?;
    words.take("stdout").then_some(())?;
    let options = copy_options(words)?;
    let select = select(&text)?;
    Some(Command::Copy(Box::new(Copy { select, of_table, options })))
}

/// `name [(column, ..)]` as a SELECT of the same rows. A table's generated columns, which COPY leaves
/// out, are not mirrored, so that its star is not answered from memory.
fn table(words: &mut Words<'_, '_>) -> Option<String> {
    let mut name = words.quoted_name()?;
    if words.take_kind(TokenKind::Dot) {
        name = format!("{name}.{}", words.quoted_name()?);
    }
    let mut columns = Vec::new();
    if words.take_kind(TokenKind::Open) {
        columns = words.names()?;
    }
    let list = match columns.is_empty() {
        true => "*".to_owned(),
        false => columns.join(", "),
    };
    Some(format!("select {list} from {name}"))
}

fn copy_options(words: &mut Words<'_, '_>) -> Option<CopyOptions> {
    let mut given = Given::default();
    words.take("with");
    if words.take_kind(TokenKind::Open) {
        loop {
            given.listed(words)?;
            if words.take_kind(TokenKind::Close) {
                break;
            }
            words.take_kind(TokenKind::Comma).then_some(())?;
        }
    } else {
        while !words.tokens.is_empty() {
            given.spelled(words)?;
        }
    }
    given.options()
}

/// Options as they were given, each once.
#[derive(Default)]
struct Given {
    format: Option<CopyFormat>,
    delimiter: Option<String>,
    null: Option<String>,
    header: Option<bool>,
    quote: Option<String>,
    escape: Option<String>,
    force_quote: Option<ForceQuote>,
}

fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

impl Given {
    /// One of `WITH (FORMAT csv, ..)`.
    fn listed(&mut self, words: &mut Words<'_, '_>) -> Option<()> {
        match words.word()?.as_str() {
            "format" => {
                let format = match words.word_or_string()?.as_str() {
                    "text" => CopyFormat::Text,
                    "csv" => CopyFormat::Csv,
                    "binary" => CopyFormat::Binary,
                    _ => return None,
                };
                once(&mut self.format, format)
            }
            "delimiter" => once(&mut self.delimiter, words.string()?),
            "null" => once(&mut self.null, words.string()?),
            "quote" => once(&mut self.quote, words.string()?),
            "escape" => once(&mut self.escape, words.string()?),
            "header" => {
                let next = words.tokens.first()?.kind;
                let on = match next {
                    TokenKind::Comma | TokenKind::Close => true,
                    _ => match words.word_or_string()?.as_str() {
                        "true" | "on" => true,
                        "false" | "off" => false,
                        _ => return None,
                    },
                };
                once(&mut self.header, on)
            }
            "force_quote" => {
                let columns = match words.tokens.first()? {
                    star if star.kind == TokenKind::Operator && star.text == "*" => {
                        words.next();
                        ForceQuote::All
                    }
                    _ => {
                        words.take_kind(TokenKind::Open).then_some(())?;
                        ForceQuote::Columns(words.plain_names()?)
                    }
                };
                once(&mut self.force_quote, columns)
            }
            "encoding" => is_utf8(&words.string()?).then_some(()),
            _ => None,
        }
    }

    /// One in the manner of before 9.0: `CSV HEADER DELIMITER AS ';'`.
    fn spelled(&mut self, words: &mut Words<'_, '_>) -> Option<()> {
        let word = words.word()?;
        let string = |words: &mut Words<'_, '_>| {
            words.take("as");
            words.string()
        };
        match word.as_str() {
            "binary" => once(&mut self.format, CopyFormat::Binary),
            "csv" => once(&mut self.format, CopyFormat::Csv),
            "header" => once(&mut self.header, true),
            "delimiter" => once(&mut self.delimiter, string(words)?),
            "null" => once(&mut self.null, string(words)?),
            "quote" => once(&mut self.quote, string(words)?),
            "escape" => once(&mut self.escape, string(words)?),
            "encoding" => is_utf8(&words.string()?).then_some(()),
            "force" => {
                words.take("quote").then_some(())?;
                let columns = match words.tokens.first()? {
                    star if star.kind == TokenKind::Operator && star.text == "*" => {
                        words.next();
                        ForceQuote::All
                    }
                    _ => {
                        let mut names = vec![words.name()?];
                        while words.take_kind(TokenKind::Comma) {
                            names.push(words.name()?);
                        }
                        ForceQuote::Columns(names)
                    }
                };
                once(&mut self.force_quote, columns)
            }
            _ => None,
        }
    }

    /// What they amount to; `None` for what PostgreSQL refuses, and for what is too odd to be worth
    /// knowing (`ProcessCopyOptions`).
    fn options(self) -> Option<CopyOptions> {
        let format = self.format.unwrap_or(CopyFormat::Text);
        let is_csv = format == CopyFormat::Csv;
        let default_delimiter = if is_csv { "," } else { "\t" };
        let delimiter = one_byte(self.delimiter.as_deref().unwrap_or(default_delimiter))?;
        let quote = one_byte(self.quote.as_deref().unwrap_or("\""))?;
        let escape = self.escape.as_deref().map_or(Some(quote), one_byte)?;
        let null = self.null.clone().unwrap_or_else(|| if is_csv { "" } else { "\\N" }.to_owned());
        let header = self.header.unwrap_or(false);
        let for_csv = self.quote.is_some() || self.escape.is_some() || self.force_quote.is_some();
        let is_plain = |b: u8| {
            b == b'\t' || (b.is_ascii_graphic() && !b.is_ascii_alphanumeric() && b != b'\\' && b != b'.')
        };
        let odd = match format {
            CopyFormat::Binary => for_csv || header || self.delimiter.is_some() || self.null.is_some(),
            // A header in text is of 15 and later.
            CopyFormat::Text => for_csv || header,
            CopyFormat::Csv => quote == delimiter || null.as_bytes().contains(&quote),
        };
        let odd = odd
            || !is_plain(delimiter)
            || !(is_plain(quote) && is_plain(escape) || escape == b'\\' && is_plain(quote))
            || null.bytes().any(|b| b == delimiter || !(b == b' ' || b.is_ascii_graphic()));
        (!odd).then_some(CopyOptions {
            format,
            delimiter,
            null,
            header,
            quote,
            escape,
            force_quote: self.force_quote.unwrap_or(ForceQuote::Columns(Vec::new())),
        })
    }
}

fn one_byte(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [byte] => Some(*byte),
        _ => None,
    }
}

/// The only encoding that a session of ours can have while memory answers.
fn is_utf8(name: &str) -> bool {
    name.eq_ignore_ascii_case("utf8") || name.eq_ignore_ascii_case("utf-8")
}

/// The one statement that `text` is, if that is a SELECT.
fn select(text: &str) -> Option<Statement> {
    let scanned = scan::split(text)?;
    let [scanned] = scanned.as_slice() else { return None };
    let select = statement::of(scanned);
    (select.kind == StatementKind::Select).then_some(select)
}

/// What is left of a statement.
struct Words<'a, 't> {
    text: &'a str,
    tokens: &'t [Token<'a>],
}

impl<'a> Words<'a, '_> {
    fn next(&mut self) -> Option<Token<'a>> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(*first)
    }

    /// An unquoted word, in lower case.
    fn word(&mut self) -> Option<String> {
        let token = self.next()?;
        (token.kind == TokenKind::Word).then(|| token.text.to_ascii_lowercase())
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.tokens.first().is_some_and(|t| t.is_word(word));
        if found {
            self.next();
        }
        found
    }

    fn take_kind(&mut self, kind: TokenKind) -> bool {
        let found = self.tokens.first().is_some_and(|t| t.kind == kind);
        if found {
            self.next();
        }
        found
    }

    /// A name, as PostgreSQL keeps it.
    fn name(&mut self) -> Option<String> {
        let token = self.next()?;
        match token.kind {
            TokenKind::Word => Some(scan::fold(token.text)).filter(|name| !keywords::is_reserved(name)),
            TokenKind::QuotedName => {
                let mut name = unquote(token.text, '"');
                scan::truncate(&mut name);
                (!name.is_empty()).then_some(name)
            }
            _ => None,
        }
    }

    /// A name, as it can stand in a SELECT.
    fn quoted_name(&mut self) -> Option<String> {
        self.name().map(|name| format!("\"{}\"", name.replace('"', "\"\"")))
    }

    /// Names up to a closing parenthesis, each once.
    fn plain_names(&mut self) -> Option<Vec<String>> {
        let mut names = vec![self.name()?];
        while self.take_kind(TokenKind::Comma) {
            names.push(self.name()?);
        }
        self.take_kind(TokenKind::Close).then_some(())?;
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        (sorted.len() == names.len()).then_some(names)
    }

    fn names(&mut self) -> Option<Vec<String>> {
        let names = self.plain_names()?;
        Some(names.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect())
    }

    fn string(&mut self) -> Option<String> {
        let token = self.next()?;
        match token.kind {
            TokenKind::String => Some(unquote(token.text, '\'')),
            // The one escape that everybody writes.
            TokenKind::Other if token.text.eq_ignore_ascii_case("e'\\t'") => Some("\t".to_owned()),
            _ => None,
        }
    }

    fn word_or_string(&mut self) -> Option<String> {
        match self.tokens.first()?.kind {
            TokenKind::Word => self.word(),
            _ => self.string().map(|text| text.to_ascii_lowercase()),
        }
    }

    /// A signed integer of the grammar, if one stands here: of 32 bits, or the outer `None`.
    fn signed(&mut self) -> Option<Option<i64>> {
        let sign = self.tokens.first().filter(|t| t.kind == TokenKind::Operator && t.text == "-");
        let negative = sign.is_some();
        let Some(number) = self.tokens.get(usize::from(negative)).filter(|t| t.kind == TokenKind::Number)
        else {
            return Some(None);
        };
        let count = i64::from(number.text.parse::<i32>().ok()?);
        self.tokens = self.tokens.get(1 + usize::from(negative)..).unwrap_or_default();
        Some(Some(if negative { -count } else { count }))
    }

    /// What follows FORWARD and BACKWARD.
    fn count(&mut self) -> Option<i64> {
        Some(match self.signed()? {
            Some(count) => count,
            None if self.take("all") => ALL,
            None => 1,
        })
    }

    /// The text of what is left.
    fn rest(&self) -> Option<&'a str> {
        self.text.get(self.offset(self.tokens.first()?)..)
    }

    fn offset(&self, token: &Token<'a>) -> usize {
        token.text.as_ptr() as usize - self.text.as_ptr() as usize
    }

    /// The text between a parenthesis and the one that closes it.
    fn parenthesized(&mut self) -> Option<&'a str> {
        let start = self.offset(self.tokens.first()?) + 1;
        let mut depth = 0usize;
        loop {
            let token = self.next()?;
            match token.kind {
                TokenKind::Open => depth += 1,
                TokenKind::Close => depth = depth.checked_sub(1)?,
                _ => {}
            }
            if depth == 0 {
                return self.text.get(start..self.offset(&token));
            }
        }
    }
}

fn unquote(text: &str, quote: char) -> String {
    let body = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    let twice: String = [quote, quote].iter().collect();
    body.replace(&twice, &quote.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(sql: &str) -> Option<Command> {
        statement::parse(sql).remove(0).command
    }

    #[test]
    fn transactions() {
        let begin = |tag, reads_committed| Some(Begin { tag, reads_committed });
        for (sql, expected) in [
            ("begin", begin("BEGIN", None)),
            ("BEGIN work;", begin("BEGIN", None)),
            ("begin transaction read only", begin("BEGIN", None)),
            ("start transaction", begin("START TRANSACTION", None)),
            (
                "start transaction isolation level read committed, read write",
                begin("START TRANSACTION", Some(true)),
            ),
            ("begin isolation level read uncommitted not deferrable", begin("BEGIN", Some(true))),
            ("begin read only isolation level repeatable read", begin("BEGIN", Some(false))),
            ("begin isolation level serializable, deferrable", begin("BEGIN", Some(false))),
            ("begin isolation level", None),
            ("begin read", None),
            ("begin , read only", None),
            ("begin read only,", None),
            ("begin read only read write", None),
            ("begin x", None),
            ("start", None),
        ] {
            let found = match parsed(sql) {
                Some(Command::Begin(begin)) => Some(begin),
                _ => None,
            };
            assert_eq!(found, expected, "{sql}");
        }
        for (sql, expected) in [
            ("commit", "Commit { chain: false }"),
            ("end work", "Commit { chain: false }"),
            ("commit and chain", "Commit { chain: true }"),
            ("commit transaction and no chain", "Commit { chain: false }"),
            ("rollback", "Rollback { chain: false }"),
            ("abort and chain", "Rollback { chain: true }"),
            ("rollback to x", "Savepoint"),
            ("rollback work to savepoint x", "Savepoint"),
            ("savepoint x", "Savepoint"),
            ("release x", "Savepoint"),
            ("close all", "Close(None)"),
            ("close \"A b\"", "Close(Some(\"A b\"))"),
            ("close C", "Close(Some(\"c\"))"),
        ] {
            assert_eq!(parsed(sql).map(|c| format!("{c:?}")).as_deref(), Some(expected), "{sql}");
        }
        for sql in ["commit prepared 'x'", "rollback and", "commit x", "rollback to", "close", "close a b"] {
            assert!(parsed(sql).is_none(), "{sql}");
        }
    }

    #[test]
    fn cursors() {
        use Step::{Absolute, Backward, Forward, Relative};
        for (sql, expected) in [
            ("fetch c", Some(Forward(1))),
            ("fetch from c", Some(Forward(1))),
            ("fetch next c", Some(Forward(1))),
            ("fetch prior in c", Some(Backward(1))),
            ("fetch first from c", Some(Absolute(1))),
            ("fetch last from c", Some(Absolute(-1))),
            ("fetch absolute -3 from c", Some(Absolute(-3))),
            ("fetch relative 0 c", Some(Relative(0))),
            ("fetch 7 from c", Some(Forward(7))),
            ("fetch -7 c", Some(Forward(-7))),
            ("fetch all from c", Some(Forward(ALL))),
            ("fetch forward from c", Some(Forward(1))),
            ("fetch forward 5 c", Some(Forward(5))),
            ("fetch forward all c", Some(Forward(ALL))),
            ("fetch backward all in c", Some(Backward(ALL))),
            ("fetch backward -2 in c", Some(Backward(-2))),
            ("fetch backward c", Some(Backward(1))),
            ("fetch absolute c", None),
            ("fetch next 1 from c", None),
            ("fetch 99999999999 from c", None),
            ("fetch 1.5 from c", None),
            ("fetch", None),
            ("fetch next", None),
            ("fetch select", None),
            ("fetch from", None),
        ] {
            let found = match parsed(sql) {
                Some(Command::Fetch(Fetch { cursor, step, moves: false })) if cursor == "c" => Some(step),
                None => None,
                other => panic!("{sql}: {other:?}"),
            };
            assert_eq!(found, expected, "{sql}");
        }
        assert!(matches!(parsed("move 3 in c"), Some(Command::Fetch(Fetch { moves: true, .. }))));
        let declared = parsed("declare \"C\" binary no scroll cursor without hold for select a from t");
        let Some(Command::Declare(declared)) = declared else { panic!("{declared:?}") };
        assert_eq!((declared.cursor.as_str(), declared.binary, declared.scroll), ("C", true, Some(false)));
        assert_eq!(declared.select.map(|s| s.text).as_deref(), Some("select a from t"));
        for sql in [
            "declare c cursor with hold for select a from t",
            "declare c cursor for select a from t for update",
        ] {
            let Some(Command::Declare(declared)) = parsed(sql) else { panic!("{sql}") };
            assert!(declared.select.is_none(), "{sql}");
        }
        for sql in [
            "declare c for select a from t",
            "declare c no cursor for select a from t",
            "declare c cursor for",
        ] {
            assert!(parsed(sql).is_none(), "{sql}");
        }
    }

    fn copied(sql: &str) -> Option<Box<Copy>> {
        match parsed(sql) {
            Some(Command::Copy(copy)) => Some(copy),
            None => None,
            other => panic!("{sql}: {other:?}"),
        }
    }

    #[test]
    fn copies() {
        for (sql, select) in [
            ("copy t to stdout", "select * from \"t\""),
            ("copy S.\"T\" (A, \"b c\") to stdout", "select \"a\", \"b c\" from \"s\".\"T\""),
            ("copy (select a from t where (b) = 1) to stdout with csv", "select a from t where (b) = 1"),
        ] {
            assert_eq!(copied(sql).map(|c| c.select.text).as_deref(), Some(select), "{sql}");
        }
        for (sql, expected) in [
            ("copy t to stdout", "Text 9 \\N false"),
            ("copy t to stdout (format csv, header, delimiter ';', null 'NULL')", "Csv 59 NULL true"),
            ("copy t to stdout with csv header delimiter as '|' null ''", "Csv 124  true"),
            ("copy t to stdout (header false, delimiter e'\\t', encoding 'utf8')", "Text 9 \\N false"),
            ("copy t to stdout binary", "Binary 9 \\N false"),
        ] {
            let options = copied(sql).unwrap_or_else(|| panic!("{sql}")).options;
            let CopyOptions { format, delimiter, null, header, .. } = options;
            assert_eq!(format!("{format:?} {delimiter} {null} {header}"), expected, "{sql}");
        }
        let quoted = copied("copy t to stdout csv quote '''' escape '\\' force quote a, b").unwrap().options;
        assert_eq!((quoted.quote, quoted.escape), (b'\'', b'\\'));
        assert_eq!(quoted.force_quote, ForceQuote::Columns(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn copies_that_are_not_ours() {
        for sql in [
            "copy t to '/tmp/x'",
            "copy t to program 'x'",
            "copy t (a, a) to stdout",
            "copy t () to stdout",
            "copy t to stdout (format csv, format csv)",
            "copy t to stdout (delimiter 'ab')",
            "copy t to stdout (delimiter 'a')",
            "copy t to stdout (quote 'x')",
            "copy t to stdout (format csv, quote ',')",
            "copy t to stdout (header match)",
            "copy t to stdout (encoding 'latin1')",
            "copy t to stdout (freeze)",
            "copy t to stdout where a = 1",
            "copy (select 1; select 2) to stdout",
            "copy (select 1 to stdout",
            "copy (delete from t returning a) to stdout",
            "copy t to stdout (format binary, delimiter ',')",
        ] {
            assert!(copied(sql).is_none(), "{sql}");
        }
    }
}
