//! Clients of either port, and comparing what they get.

use std::hash::{DefaultHasher, Hash, Hasher};

use futures_util::StreamExt;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A row as the simple protocol gives it: text, `None` for NULL.
pub(crate) type TextRow = Vec<Option<String>>;

/// Connects, or fails with the URL. The connection ends with the client.
pub(crate) async fn connect(url: &str) -> Client {
    match try_connect(url).await {
        Ok(client) => client,
        Err(error) => panic!("cannot connect to {url}: {error:?}"),
    }
}

/// Connects where being refused is what is looked for.
pub(crate) async fn try_connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // The client sees the connection's error at its next call.
    tokio::spawn(connection);
    Ok(client)
}

/// Executes one or more statements whose rows don't matter.
pub(crate) async fn execute(client: &Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql).await {
        panic!("{sql}: {error:?}");
    }
}

/// All rows of a query, by the simple protocol.
pub(crate) async fn rows(client: &Client, sql: &str) -> Vec<TextRow> {
    let messages = match client.simple_query(sql).await {
        Ok(messages) => messages,
        Err(error) => panic!("{sql}: {error:?}"),
    };
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        })
        .collect()
}

/// The only value of a query with one row and one column; NULL fails.
pub(crate) async fn value(client: &Client, sql: &str) -> String {
    let rows = rows(client, sql).await;
    match rows.as_slice() {
        [row] => match row.as_slice() {
            [Some(value)] => value.clone(),
            _ => panic!("{sql}: not one value but {row:?}"),
        },
        _ => panic!("{sql}: not one row but {}", rows.len()),
    }
}

/// The SQLSTATE with which a statement fails.
pub(crate) async fn sqlstate(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(_) => panic!("{sql}: succeeded"),
        Err(error) => match error.code() {
            Some(code) => code.code().to_owned(),
            None => panic!("{sql}: no SQLSTATE in {error:?}"),
        },
    }
}

/// Fails unless a table's rows are the same over both connections, as a multiset; with the first
/// that differ.
pub(crate) async fn assert_same_table(actual: &Client, expected: &Client, table: &str) {
    let sql = format!("select * from {table}");
    assert_same(table, rows(actual, &sql).await, rows(expected, &sql).await);
}

/// Fails unless both are the same rows in any order.
pub(crate) fn assert_same(what: &str, actual: Vec<TextRow>, expected: Vec<TextRow>) {
    if let Some(difference) = difference(actual, expected) {
        panic!("{what} differs: {difference}");
    }
}

/// Fails unless a query's rows are the same over both connections, in the same order.
pub(crate) async fn assert_same_rows(actual: &Client, expected: &Client, sql: &str) {
    let (actual, expected) = (rows(actual, sql).await, rows(expected, sql).await);
    if let Some(at) = actual.iter().zip(&expected).position(|(actual, expected)| actual != expected) {
        panic!("{sql}: row {at} is {:?}, not {:?}", actual[at], expected[at]);
    }
    assert_eq!(actual.len(), expected.len(), "{sql}: number of rows");
}

/// Stands for a multiset of rows, so that large tables need not be held twice.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    rows: u64,
    sum: u128,
}

impl Digest {
    pub(crate) fn add(&mut self, row: &TextRow) {
        let hash = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            (salt, row).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash(1) << 64 | hash(2));
    }
}

/// The digest of a query's rows, which are not kept.
pub(crate) async fn digest(client: &Client, sql: &str) -> Digest {
    let mut digest = Digest::default();
    let messages = client.simple_query_raw(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    futures_util::pin_mut!(messages);
    while let Some(message) = messages.next().await {
        if let SimpleQueryMessage::Row(row) = message.unwrap_or_else(|error| panic!("{sql}: {error:?}")) {
            digest.add(&(0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
        }
    }
    digest
}

/// What only one of the two multisets has, at most five rows of each; `None` when they are equal.
fn difference(mut actual: Vec<TextRow>, mut expected: Vec<TextRow>) -> Option<String> {
    actual.sort_unstable();
    expected.sort_unstable();
    if actual == expected {
        return None;
    }
    let (mut surplus, mut missing) = (Vec::new(), Vec::new());
    let (mut left, mut right) = (actual.iter().peekable(), expected.iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (Some(a), Some(e)) if a == e => {
                left.next();
                right.next();
            }
            (Some(a), Some(e)) if a > e => missing.extend(right.next()),
            (Some(_), _) => surplus.extend(left.next()),
            (None, Some(_)) => missing.extend(right.next()),
            (None, None) => break,
        }
    }
    Some(format!(
        "{} rows for {}; {} too many, such as {:?}; {} missing, such as {:?}",
        actual.len(),
        expected.len(),
        surplus.len(),
        &surplus[..surplus.len().min(5)],
        missing.len(),
        &missing[..missing.len().min(5)],
    ))
}

#[test]
fn differences_are_counted_as_of_multisets() {
    let row = |text: &str| vec![Some(text.to_owned()), None];
    assert_eq!(difference(vec![row("b"), row("a")], vec![row("a"), row("b")]), None);
    assert_eq!(difference(Vec::new(), Vec::new()), None);
    let found = difference(vec![row("a"), row("a"), row("c")], vec![row("a"), row("b"), row("c")]);
    let found = found.expect("they differ");
    assert!(found.starts_with("3 rows for 3; 1 too many, such as [[Some(\"a\"), None]]"), "{found}");
    assert!(found.ends_with("1 missing, such as [[Some(\"b\"), None]]"), "{found}");
}
