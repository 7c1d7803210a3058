//! What the engine must know of a session, read from its own connection to the primary.
//!
//! Everything that was forwarded may have changed it (a function can `set_config`), so after each
//! forwarded batch it is read again before the next answer from memory. The same query gives the
//! session's floor: memory answers only when it has everything that the session could have seen.

use std::time::Duration;

use super::upstream::Upstream;
use crate::{
    primary::PrimaryError,
    query::{RouteSetting, SessionFacts},
    types::Lsn,
};
use bytes::BytesMut;

const QUERY: &str = include_str!("../../sql/session_facts.sql");

/// A session's facts and its floor.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// `None` before the first reading, or when the primary refused it.
    pub(super) current: Option<SessionFacts>,
    /// Counts the changes of `current`; plans made under another are void.
    pub(super) version: u64,
    /// To be read again before the next use.
    pub(super) dirty: bool,
    /// The catalogue under which they were read: a new schema can change the effective search path.
    pub(super) catalog_version: u64,
    /// Memory must have everything up to here.
    pub(super) floor: Lsn,
    /// A statement was forwarded that may have changed definitions.
    pub(super) redefined: bool,
    /// The catalogue must have everything up to here.
    pub(super) catalog_floor: Lsn,
    /// The session has named `synchronous_commit`, perhaps for one transaction or in a function: its
    /// commits may be past what is flushed, whatever the setting is now.
    pub(super) asynchronous: bool,
    pub(super) transaction: Transaction,
    pub(super) timeouts: Timeouts,
}

/// The primary's transaction, if the facts were read in one.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// `transaction_isolation`.
    pub(super) isolation: String,
    /// It has an id: something was written, or a strong lock taken.
    pub(super) written: bool,
}

/// The session's limits on time; `None` for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeouts {
    pub(super) statement: Option<Duration>,
    pub(super) idle_in_transaction: Option<Duration>,
    /// 17 and later.
    pub(super) transaction: Option<Duration>,
}

impl Facts {
    /// Reads them. The primary must owe nothing, and not be in a failed transaction.
    pub(super) async fn read(
        &mut self,
        upstream: &mut Upstream,
        client: &mut BytesMut,
        catalog_version: u64,
    ) -> Result<(), PrimaryError> {
        let rows = upstream.query(QUERY, client).await?;
        let read = rows.and_then(parse);
        self.dirty = read.is_none();
        self.catalog_version = catalog_version;
        let facts = read.map(|read| {
            self.asynchronous |= read.asynchronous;
            // Only a position that is flushed is sure to come down the stream; the position of an
            // asynchronous commit comes when the WAL writer has flushed it.
            let seen = if self.asynchronous { read.inserted } else { read.flushed };
            self.floor = self.floor.max(seen);
            if std::mem::take(&mut self.redefined) {
                self.catalog_floor = self.floor;
            }
            self.transaction = read.transaction;
            self.timeouts = read.timeouts;
            read.session
        });
        self.put(facts);
        Ok(())
    }

    /// Takes the facts of another session that are the same as this one's.
    pub(super) fn set(&mut self, facts: SessionFacts, catalog_version: u64) {
        self.catalog_version = catalog_version;
        self.put(Some(facts));
    }

    fn put(&mut self, facts: Option<SessionFacts>) {
        if facts != self.current {
            self.current = facts;
            self.version += 1;
        }
    }
}

struct Read {
    session: SessionFacts,
    asynchronous: bool,
    flushed: Lsn,
    inserted: Lsn,
    transaction: Transaction,
    timeouts: Timeouts,
}

/// A setting in milliseconds as SHOW writes it: with the largest unit that divides it; 0 is none.
fn timeout(setting: &str) -> Option<Option<Duration>> {
    let digits = setting.len() - setting.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = setting.split_at_checked(digits)?;
    let unit_ms = match unit {
        "ms" | "" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let ms = number.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    Some((ms > 0).then(|| Duration::from_millis(ms)))
}

fn parse(rows: Vec<Vec<Option<String>>>) -> Option<Read> {
    let mut search_path = Vec::new();
    for row in &rows {
        search_path.push(row.last()?.clone()?);
    }
    let mut values = rows.into_iter().next()?.into_iter();
    let mut next = || values.next().flatten();
    let session = SessionFacts {
        role: next()?,
        search_path,
        time_zone: next()?,
        date_style: next()?,
        interval_style: next()?,
        extra_float_digits: next()?.parse().ok()?,
        bytea_output: next()?,
        lc_monetary: next()?,
        client_encoding: next()?,
        default_isolation: next()?,
        standard_conforming_strings: next()? == "on",
        transform_null_equals: next()? == "on",
        route: match next()?.to_ascii_lowercase().as_str() {
            "primary" => RouteSetting::Primary,
            "local" => RouteSetting::Local,
            _ => RouteSetting::Auto,
        },
    };
    // `local` waits for our primary's own disk, as every level above it does.
    let asynchronous = next()? == "off";
    let flushed = next()?.parse().ok()?;
    let inserted = next()?.parse().ok()?;
    let transaction = Transaction { isolation: next()?, written: next()? == "t" };
    let timeouts = Timeouts {
        statement: timeout(&next()?)?,
        idle_in_transaction: timeout(&next()?)?,
        transaction: timeout(&next()?)?,
    };
    let inserted = record_start(inserted);
    Some(Read { session, asynchronous, flushed, inserted, transaction, timeouts })
}

/// WAL pages (8,192 bytes) begin with a header of 24 bytes, or of 40 in a segment's first. The insert
/// position right behind one has nothing before it that anybody will ever send: the page's start is
/// where everything ends.
fn record_start(lsn: Lsn) -> Lsn {
    match lsn.0 % 8192 {
        offset @ (24 | 40) => Lsn(lsn.0 - offset),
        _ => lsn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(schema: &str) -> Vec<Option<String>> {
        "app,UTC,ISO,postgres,1,hex,C,UTF8,read committed,on,off,LOCAL,on,0/16B6C50,0/2000028,read committed,f,1min,0,1500ms"
            .replace("ISO", "ISO; MDY")
            .split(',')
            .chain([schema])
            .map(|value| Some(value.to_owned()))
            .collect()
    }

    #[test]
    fn one_row_for_each_schema() {
        let read = parse(vec![row("pg_catalog"), row("a b")]).unwrap();
        assert_eq!(read.session.search_path, ["pg_catalog", "a b"]);
        assert_eq!(read.session.route, RouteSetting::Local);
        assert_eq!((read.session.role.as_str(), read.session.extra_float_digits), ("app", 1));
        assert!(!read.asynchronous);
        assert_eq!((read.flushed, read.inserted), (Lsn(0x16B_6C50), Lsn(0x200_0000)));
        assert_eq!(read.transaction.isolation, "read committed");
        assert!(!read.transaction.written);
        let timeouts = Timeouts {
            statement: Some(Duration::from_secs(60)),
            idle_in_transaction: None,
            transaction: Some(Duration::from_millis(1500)),
        };
        assert_eq!(read.timeouts, timeouts);
        assert_eq!(timeout("2h"), Some(Some(Duration::from_secs(7200))));
        assert_eq!((timeout("x"), timeout("1 day"), timeout("")), (None, None, None));
        assert!(parse(Vec::new()).is_none());
        for cut in 0..20 {
            assert!(parse(vec![row("x").into_iter().take(cut).collect()]).is_none(), "{cut}");
        }
        let mut null = row("x");
        null[0] = None;
        assert!(parse(vec![null]).is_none());
    }
}
