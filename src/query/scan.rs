//! PostgreSQL's lexer (`src/backend/parser/scan.l`), as far as to split a string into statements and
//! to know that another parser read the same tokens.
//!
//! The tree comes from sqlparser, whose lexer and grammar differ from PostgreSQL's in corners. So a
//! statement is answered from memory only if all its tokens are of the plain kinds below
//! ([`Scanned::plain`]), and if the binder, walking the tree, met exactly its [`Leaf`]s: then nothing
//! was dropped, and nothing was read as something else.

use super::keywords;

/// Longest text that is looked at (bytes).
const MAX_TEXT: usize = 1 << 20;
/// Deepest nesting of parentheses and CASEs; sqlparser's time grows steeply with it.
const MAX_DEPTH: usize = 12;
/// Most operators in one statement: a chain of them is a tree as deep as it is long.
const MAX_OPERATORS: usize = 400;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Word,
    QuotedName,
    String,
    Number,
    Param,
    Operator,
    Open,
    Close,
    Comma,
    Dot,
    Semicolon,
    /// Anything that is not one of the plain kinds: other string forms, brackets, junk.
    Other,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: TokenKind,
    pub(crate) text: &'a str,
}

impl Token<'_> {
    /// Whether this is the unquoted word (given in lower case).
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(word)
    }
}

/// A name, a literal or a parameter, decoded. Words of the grammar that we know are none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leaf {
    Name(String),
    String(String),
    Number(String),
    Param(String),
}

/// One statement of a string.
#[derive(Debug)]
pub(crate) struct Scanned<'a> {
    /// From the first to the last token.
    pub(crate) text: &'a str,
    pub(crate) tokens: Vec<Token<'a>>,
    /// Whether all tokens are of plain kinds and within the limits.
    pub(crate) plain: bool,
}

impl Scanned<'_> {
    /// The leaves, sorted.
    pub(crate) fn leaves(&self) -> Vec<Leaf> {
        let mut leaves: Vec<Leaf> = self.tokens.iter().filter_map(leaf).collect();
        leaves.sort_unstable();
        leaves
    }
}

/// Splits a string into its statements, empty ones left out. `None` where a token does not end, the
/// text is too long, or statements may contain semicolons (`BEGIN ATOMIC`).
pub(crate) fn split(sql: &str) -> Option<Vec<Scanned<'_>>> {
    if sql.len() > MAX_TEXT {
        return None;
    }
    let mut scanner = Scanner { sql, bytes: sql.as_bytes(), at: 0 };
    let mut statements = Vec::new();
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut depth = 0usize;
    while let Some(token) = scanner.next()? {
        match token.kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth = depth.saturating_sub(1),
            TokenKind::Word if token.is_word("atomic") => return None,
            // Within parentheses a semicolon belongs to a rule's action list.
            TokenKind::Semicolon if depth == 0 => {
                finish(sql, std::mem::take(&mut tokens), &mut statements);
                continue;
            }
            _ => {}
        }
        tokens.push(token);
    }
    finish(sql, tokens, &mut statements);
    Some(statements)
}

/// Folds an unquoted identifier: ASCII letters to lower case, cut to 63 bytes at a character
/// (`downcase_truncate_identifier`, for UTF-8 databases).
pub(crate) fn fold(name: &str) -> String {
    let mut folded = name.to_ascii_lowercase();
    truncate(&mut folded);
    folded
}

/// Cuts an identifier to NAMEDATALEN - 1 bytes at a character.
pub(crate) fn truncate(name: &mut String) {
    if name.len() > 63 {
        let mut end = 63;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
}

fn leaf(token: &Token<'_>) -> Option<Leaf> {
    let inner = |quote: &str| {
        let body = token.text.get(1..token.text.len().saturating_sub(1)).unwrap_or("");
        body.replace(&quote.repeat(2), quote)
    };
    match token.kind {
        TokenKind::Word => {
            let word = token.text.to_ascii_lowercase();
            (!keywords::is_silent(&word)).then_some(Leaf::Name(word))
        }
        TokenKind::QuotedName => Some(Leaf::Name(inner("\""))),
        TokenKind::String => Some(Leaf::String(inner("'"))),
        TokenKind::Number => Some(Leaf::Number(token.text.to_owned())),
        TokenKind::Param => Some(Leaf::Param(token.text.to_owned())),
        _ => None,
    }
}

fn finish<'a>(sql: &'a str, tokens: Vec<Token<'a>>, statements: &mut Vec<Scanned<'a>>) {
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return };
    let start = first.text.as_ptr() as usize - sql.as_ptr() as usize;
    let end = last.text.as_ptr() as usize - sql.as_ptr() as usize + last.text.len();
    let plain = is_plain(&tokens);
    statements.push(Scanned { text: sql.get(start..end).unwrap_or(sql), tokens, plain });
}

fn is_plain(tokens: &[Token<'_>]) -> bool {
    let (mut depth, mut deepest, mut operators) = (0usize, 0usize, 0usize);
    let mut cases = 0usize;
    for (i, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Other | TokenKind::Semicolon => return false,
            TokenKind::Word if token.is_word("case") => {
                cases += 1;
                deepest = deepest.max(depth + cases);
            }
            // Reserved, so it is no name.
            TokenKind::Word if token.is_word("end") => cases = cases.saturating_sub(1),
            TokenKind::Operator => {
                operators += 1;
                if !matches!(token.text, "=" | "<>" | "!=" | "<" | "<=" | ">" | ">=" | "-" | "*" | "::") {
                    return false;
                }
            }
            TokenKind::Word => {
                if !token.text.is_ascii() {
                    return false;
                }
                operators += usize::from(keywords::builds_depth(token.text));
            }
            // 'a' 'b' over two lines is one literal.
            TokenKind::String if tokens.get(i + 1).is_some_and(|t| t.kind == TokenKind::String) => {
                return false;
            }
            TokenKind::QuotedName if token.text.len() <= 2 => return false,
            TokenKind::Open => {
                depth += 1;
                deepest = deepest.max(depth + cases);
            }
            TokenKind::Close => match depth.checked_sub(1) {
                Some(d) => depth = d,
                None => return false,
            },
            _ => {}
        }
    }
    depth == 0 && deepest <= MAX_DEPTH && operators <= MAX_OPERATORS
}

struct Scanner<'a> {
    sql: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// The next token; `Some(None)` at the end, `None` where a token does not end.
    fn next(&mut self) -> Option<Option<Token<'a>>> {
        self.skip_blanks()?;
        let start = self.at;
        if start >= self.bytes.len() {
            return Some(None);
        }
        let kind = match self.peek(0) {
            b'\'' => {
                self.quoted(b'\'', false)?;
                TokenKind::String
            }
            b'"' => {
                self.quoted(b'"', false)?;
                TokenKind::QuotedName
            }
            b'$' => self.dollar()?,
            b'(' => self.one(TokenKind::Open),
            b')' => self.one(TokenKind::Close),
            b',' => self.one(TokenKind::Comma),
            b';' => self.one(TokenKind::Semicolon),
            b'.' if !self.peek(1).is_ascii_digit() => self.one(TokenKind::Dot),
            b'0'..=b'9' | b'.' => self.number(),
            b':' if self.peek(1) == b':' => {
                self.at += 2;
                TokenKind::Operator
            }
            b if is_name_start(b) => self.word()?,
            b if is_operator(b) => self.operator(),
            _ => self.one(TokenKind::Other),
        };
        // A stray byte of a multi-byte character never gets here: such bytes start names.
        Some(Some(Token { kind, text: self.sql.get(start..self.at)? }))
    }

    fn one(&mut self, kind: TokenKind) -> TokenKind {
        self.at += 1;
        kind
    }

    fn skip_blanks(&mut self) -> Option<()> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (b' ' | b'\t' | b'\n' | b'\r' | b'\x0c', _) => self.at += 1,
                (b'-', b'-') => {
                    while self.at < self.bytes.len() && !matches!(self.peek(0), b'\n' | b'\r') {
                        self.at += 1;
                    }
                }
                (b'/', b'*') => self.comment()?,
                _ => return Some(()),
            }
        }
    }

    /// Comments nest.
    fn comment(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Some(());
                    }
                }
                _ if self.at >= self.bytes.len() => return None,
                _ => self.at += 1,
            }
        }
    }

    fn quoted(&mut self, quote: u8, backslash: bool) -> Option<()> {
        self.at += 1;
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if byte == b'\\' && backslash {
                self.at += 1;
            } else if byte == quote {
                if self.peek(0) != quote {
                    return Some(());
                }
                self.at += 1;
            }
        }
    }

    /// `$1`, or a dollar-quoted string.
    fn dollar(&mut self) -> Option<TokenKind> {
        if self.peek(1).is_ascii_digit() {
            self.at += 1;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
            return Some(self.unless_junk(TokenKind::Param));
        }
        let rest = &self.bytes[self.at + 1..];
        let tag = rest.iter().position(|b| !is_name_start(*b) && !b.is_ascii_digit());
        match tag {
            Some(len) if rest.get(len) == Some(&b'$') => {
                let delimiter = self.sql.get(self.at..self.at + len + 2)?;
                let body = self.at + delimiter.len();
                self.at = body + self.sql.get(body..)?.find(delimiter)? + delimiter.len();
                Some(TokenKind::Other)
            }
            _ => Some(self.one(TokenKind::Other)),
        }
    }

    fn number(&mut self) -> TokenKind {
        let digits = |s: &mut Self| {
            while s.peek(0).is_ascii_digit() {
                s.at += 1;
            }
        };
        digits(self);
        if self.peek(0) == b'.' {
            self.at += 1;
            digits(self);
        }
        if matches!(self.peek(0), b'e' | b'E') {
            let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
            if self.peek(1 + sign).is_ascii_digit() {
                self.at += 1 + sign;
                digits(self);
            }
        }
        self.unless_junk(TokenKind::Number)
    }

    /// What follows a number or parameter directly makes it junk (or means something else in some
    /// version: `1_000`, `0x1F`, `1..2`).
    fn unless_junk(&mut self, kind: TokenKind) -> TokenKind {
        let next = self.peek(0);
        if is_name_start(next) || next == b'.' || next == b'$' { TokenKind::Other } else { kind }
    }

    fn word(&mut self) -> Option<TokenKind> {
        let start = self.at;
        while is_name_start(self.peek(0)) || self.peek(0).is_ascii_digit() || self.peek(0) == b'$' {
            self.at += 1;
        }
        let word = &self.bytes[start..self.at];
        match (word, self.peek(0), self.peek(1)) {
            (b"e" | b"E", b'\'', _) => self.quoted(b'\'', true)?,
            (b"u" | b"U", b'&', quote @ (b'\'' | b'"')) => {
                self.at += 1;
                self.quoted(quote, false)?;
            }
            // b'..', x'..', n'..', and anything else glued to a quote.
            (_, quote @ (b'\'' | b'"'), _) => self.quoted(quote, false)?,
            _ => return Some(TokenKind::Word),
        }
        Some(TokenKind::Other)
    }

    /// The longest run of operator characters, cut before a comment, and without trailing signs
    /// unless it has a character that standard operators lack.
    fn operator(&mut self) -> TokenKind {
        let start = self.at;
        while is_operator(self.peek(0))
            && !matches!((self.peek(0), self.peek(1)), (b'-', b'-') | (b'/', b'*'))
        {
            self.at += 1;
        }
        let unusual = self.bytes[start..self.at]
            .iter()
            .any(|b| matches!(b, b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%'));
        while self.at - start > 1 && !unusual && matches!(self.bytes[self.at - 1], b'+' | b'-') {
            self.at -= 1;
        }
        TokenKind::Operator
    }
}

fn is_name_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b >= 0x80
}

fn is_operator(b: u8) -> bool {
    matches!(
        b,
        b'~' | b'!'
            | b'@'
            | b'#'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
            | b'+'
            | b'-'
            | b'*'
            | b'/'
            | b'%'
            | b'<'
            | b'>'
            | b'='
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Option<Vec<&str>> {
        Some(split(sql)?.iter().map(|s| s.text).collect())
    }

    #[test]
    fn splits_where_postgres_splits() {
        for (sql, expected) in [
            ("", vec![]),
            (" ;; -- c\n /* a ; /* b */ ; */ ;", vec![]),
            ("select 1; select 2;", vec!["select 1", "select 2"]),
            ("select ';' ; select \";\"", vec!["select ';'", "select \";\""]),
            ("select 'it''s;'; x", vec!["select 'it''s;'", "x"]),
            (r"select e'\';' ; x", vec![r"select e'\';'", "x"]),
            (r"select '\' ; x", vec![r"select '\'", "x"]),
            ("select $$;$$; do $a$ ; $$ ; $a$", vec!["select $$;$$", "do $a$ ; $$ ; $a$"]),
            (
                "create rule r as on insert to t do (a; b); c",
                vec!["create rule r as on insert to t do (a; b)", "c"],
            ),
            ("select a$b$;$b$", vec!["select a$b$", "$b$"]),
            ("é;ü", vec!["é", "ü"]),
        ] {
            // A `$b$` that opens a string that never ends spoils the whole.
            let expected = if sql.contains("a$b$") { None } else { Some(expected) };
            assert_eq!(texts(sql), expected, "{sql}");
        }
        for bad in ["select 'a", "select \"a", "/* a", "$$ a", "create function f() begin atomic; end"] {
            assert!(split(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn only_plain_tokens_are_plain() {
        let plain = |sql: &str| split(sql).is_some_and(|s| s.iter().all(|s| s.plain));
        for sql in [
            "select a, \"B\", 1, .5, 1.5e-3, 'x' from s.t where a=-1 and b >= $1 or c<>2 and d!='é'",
            "select *from t where (a)in(1,2)and b is null",
            "select a::int8 from t limit $2 -- é",
        ] {
            assert!(plain(sql), "{sql}");
        }
        for sql in [
            "select 1_000",
            "select 0x1f",
            "select 1a",
            "select 1..2",
            "select $1a",
            "select e'x'",
            "select u&'x'",
            "select x'1f'",
            "select date'2020-01-01'",
            "select $$x$$",
            "select 'a'\n'b'",
            "select a[1]",
            "select a->b",
            "select a =- 1, a !=- 1",
            "select é",
            "select \"\"",
            "select (1",
            "select 1)",
            "select a := 1",
            "select a || b",
            "select @ 1",
            "((((((((((((((1))))))))))))))",
        ] {
            assert!(!plain(sql), "{sql}");
        }
        let cases = |n| format!("select {}1{}", "case when a then ".repeat(n), " end".repeat(n));
        assert!(plain(&cases(2)) && !plain(&cases(MAX_DEPTH + 1)) && !plain(&cases(10_000)));
        assert!(!plain(&format!("select {}", "case when a then ".repeat(50_000))));
        // At the bound it is parsed, and soon.
        assert_eq!(crate::query::statement::parse(&cases(MAX_DEPTH)).len(), 1);
        let chain = format!("select {}1", "1=".repeat(MAX_OPERATORS + 1));
        assert!(!plain(&chain));
    }

    #[test]
    fn leaves_are_decoded_and_sorted() {
        let statements =
            split("select B, 'x''y', $1 from \"T\"\"t\" where b = 1 and true").unwrap_or_default();
        let leaves = statements.first().map(Scanned::leaves);
        assert_eq!(
            leaves,
            Some(vec![
                Leaf::Name("T\"t".into()),
                Leaf::Name("b".into()),
                Leaf::Name("b".into()),
                Leaf::String("x'y".into()),
                Leaf::Number("1".into()),
                Leaf::Param("$1".into()),
            ])
        );
    }

    #[test]
    fn identifiers_fold_and_are_cut_at_63_bytes() {
        assert_eq!(fold("FooÉ"), "fooÉ");
        assert_eq!(fold(&"A".repeat(70)), "a".repeat(63));
        assert_eq!(fold(&"é".repeat(40)), "é".repeat(31));
    }
}
