//! The replication connection up to the start of its stream: identity, slot, exported snapshot.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{SourceError, io_thread::IoThread};
use crate::{
    primary::{Connection, PrimaryError, Target, cancel, client},
    telemetry::status::Status,
    types::Lsn,
};

/// Text output as the codec expects it, names of `pg_catalog` only, and no timeout of the role's or
/// database's settings: the snapshot lives as long as this connection is left alone.
const OPTIONS: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("search_path", "pg_catalog"),
    ("row_security", "off"),
    ("jit", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
];

/// A connection in logical replication mode, on an IO thread of its own.
#[derive(Debug)]
pub struct ReplicationConnection {
    pub(super) connection: Connection,
    pub(super) io: IoThread,
    pub(super) version: u32,
    /// `wal_sender_timeout`, `None` when it is off.
    pub(super) sender_timeout: Option<Duration>,
}

/// The answer to IDENTIFY_SYSTEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    pub system_id: String,
    pub timeline: u32,
    pub xlog_pos: Lsn,
}

/// A slot and what is visible at its beginning: a transaction is in the snapshot if its commit record
/// begins before `consistent_point`, and in the stream otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedSnapshot {
    pub slot: String,
    pub consistent_point: Lsn,
    /// For `SET TRANSACTION SNAPSHOT`; dead after the next command on the replication connection.
    pub snapshot_name: String,
}

/// How often a slot creation that takes long is looked after: an application that waits for our locks is
/// held up for no longer than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a slot creation may wait behind older transactions, and who is kept waiting meanwhile.
#[derive(Debug)]
pub struct SlotWait<'a> {
    /// After this long, and again after each such time, the transactions in the way are named.
    pub timeout: Duration,
    /// The copy's backends ([`Copier::process_ids`](super::Copier::process_ids)): once somebody
    /// waits for their locks, the creation is given up within a second.
    pub lock_holders: &'a [i32],
    pub status: &'a Status,
}

impl ReplicationConnection {
    /// Logs in with `replication=database`.
    pub async fn connect(target: &Target) -> Result<ReplicationConnection, SourceError> {
        let io = IoThread::start("millpond-stream")?;
        let target = target.clone();
        let (connection, sender_timeout) = io
            .run(async move {
                let parameters = &[("replication", "database"), ("application_name", "millpond: stream")];
                let mut connection = login(&target, parameters).await?;
                let sender_timeout = sender_timeout(&mut connection).await?;
                Ok((connection, sender_timeout))
            })
            .await?;
        let version = connection.server_version_num()?;
        Ok(ReplicationConnection { connection, io, version, sender_timeout })
    }

    /// `server_version_num` of the primary.
    pub fn server_version_num(&self) -> u32 {
        self.version
    }

    pub async fn identify_system(&mut self) -> Result<SystemIdentity, SourceError> {
        let rows = self.connection.simple_query("IDENTIFY_SYSTEM").await?;
        match rows.first().map(Vec::as_slice) {
            Some([Some(system_id), Some(timeline), Some(position), ..]) => Ok(SystemIdentity {
                system_id: system_id.clone(),
                timeline: number(timeline)?,
                xlog_pos: lsn(position)?,
            }),
            _ => Err(SourceError::Protocol("no row from IDENTIFY_SYSTEM".into())),
        }
    }

    /// Creates a slot and exports its snapshot. From here on this connection must be left alone until
    /// the snapshot has been imported.
    ///
    /// The primary waits for all transactions with an xid, prepared ones included, without limit; see
    /// [`SlotWait`] for what we do meanwhile.
    ///
    /// # Errors
    /// [`SourceError::SlotBlocked`] when given up. After any error this connection is of no more use.
    pub async fn create_slot(
        &mut self,
        target: &Target,
        name: &str,
        temporary: bool,
        wait: SlotWait<'_>,
    ) -> Result<ExportedSnapshot, SourceError> {
        let kind = if temporary { " TEMPORARY" } else { "" };
        let snapshot = if self.version >= 150_000 { "(SNAPSHOT 'export')" } else { "EXPORT_SNAPSHOT" };
        let slot = quote_identifier(name);
        let sql = format!("CREATE_REPLICATION_SLOT {slot}{kind} LOGICAL pgoutput {snapshot}");
        let (process_id, secret_key) = (self.connection.process_id(), self.connection.secret_key().clone());

        let creation = self.connection.simple_query(&sql);
        tokio::pin!(creation);
        let begun = Instant::now();
        let look = wait.timeout.min(LOOK_EVERY);
        let mut looks = interval_at(begun + look, look.max(Duration::from_millis(100)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut report_at = begun + wait.timeout;
        let mut reported = None;
        let rows = loop {
            tokio::select! {
                biased;
                // 1. The slot is there.
                rows = &mut creation => break rows?,
                // 2. Look who is in the way, and whether we are in somebody's.
                _ = looks.tick() => {
                    let (blockers, waiting) = match blocking(target, process_id, wait.lock_holders).await {
                        Ok(found) => found,
                        Err(error) => (format!("who holds it up cannot be read: {error}"), 0),
                    };
                    if waiting > 0 {
                        // They may be what we wait for: nobody would ever end it. A backend that waits
                        // for a transaction does not see that we hang up.
                        cancel(target, process_id, &secret_key).await?;
                        return Err(SourceError::SlotBlocked { blockers, waiting });
                    }
                    if Instant::now() < report_at {
                        continue;
                    }
                    report_at = Instant::now() + wait.timeout;
                    let message = format!("the replication slot {name} waits for older transactions; {blockers}");
                    tracing::warn!("{message}");
                    wait.status.update_replication(|r| r.last_error = Some(message.clone()));
                    reported = Some(message);
                }
            }
        };
        if reported.is_some() {
            wait.status.update_replication(|r| {
                if r.last_error == reported {
                    r.last_error = None;
                }
            });
        }
        match rows.first().map(Vec::as_slice) {
            Some([Some(slot), Some(point), Some(snapshot), ..]) => Ok(ExportedSnapshot {
                slot: slot.clone(),
                consistent_point: lsn(point)?,
                snapshot_name: snapshot.clone(),
            }),
            _ => Err(SourceError::Protocol("no row from CREATE_REPLICATION_SLOT".into())),
        }
    }

    /// Drops a slot, waiting until nobody uses it.
    pub async fn drop_slot(&mut self, name: &str) -> Result<(), SourceError> {
        let sql = format!("DROP_REPLICATION_SLOT {} WAIT", quote_identifier(name));
        self.connection.simple_query(&sql).await?;
        Ok(())
    }
}

/// Logs in under [`OPTIONS`] and `parameters`.
pub(super) async fn login(target: &Target, parameters: &[(&str, &str)]) -> Result<Connection, PrimaryError> {
    let mut connection = Connection::login(target, &[OPTIONS, parameters].concat()).await?;
    // Unknown before 17, so it cannot stand among the others. It would end an exported snapshot.
    if connection.server_version_num()? >= 170_000 {
        connection.simple_query("set transaction_timeout = 0").await?;
    }
    Ok(connection)
}

/// What the primary cuts silent connections off by. A pooler may refuse the question.
async fn sender_timeout(connection: &mut Connection) -> Result<Option<Duration>, SourceError> {
    const DEFAULT: Duration = Duration::from_secs(60);
    let rows = match connection.simple_query("SHOW wal_sender_timeout").await {
        Ok(rows) => rows,
        Err(PrimaryError::Server(_)) => return Ok(Some(DEFAULT)),
        Err(error) => return Err(error.into()),
    };
    let text = rows.first().and_then(|row| row.first()).and_then(Option::as_deref).unwrap_or_default();
    let timeout = parse_interval(text).unwrap_or(DEFAULT);
    Ok((!timeout.is_zero()).then_some(timeout))
}

/// A time as SHOW writes it: `60s`, `1min`, `1500ms`, `0`.
fn parse_interval(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let unit_ms = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(unit_ms)?))
}

/// Who holds a slot creation up, as a sentence, and how many sessions wait for our locks.
async fn blocking(
    target: &Target,
    slot_process: i32,
    lock_holders: &[i32],
) -> Result<(String, usize), PrimaryError> {
    let client = client(target, "millpond: slot").await?;
    let sql = include_str!("../../sql/blocking_transactions.sql");
    let (mut named, mut waiting) = (Vec::new(), 0);
    for row in client.query(sql, &[&slot_process, &lock_holders]).await? {
        let text = |i: usize| row.try_get::<_, String>(i).unwrap_or_default();
        match text(0).as_str() {
            "waiting for us" => waiting += 1,
            "prepared transaction" => named.push(format!(
                "prepared transaction {:?} of {} since {} s: COMMIT PREPARED or ROLLBACK PREPARED it",
                text(1),
                text(2),
                row.try_get::<_, i64>(4)?
            )),
            _ => named.push(format!(
                "pid {} of {} ({}) since {} s: {}",
                text(1),
                text(2),
                text(3),
                row.try_get::<_, i64>(4)?,
                text(5)
            )),
        }
    }
    if named.is_empty() {
        named.push("none is in the way at this moment".into());
    }
    Ok((format!("in the way: {}", named.join("; ")), waiting))
}

pub(super) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn number(text: &str) -> Result<u32, SourceError> {
    text.parse().map_err(|_| SourceError::Protocol(format!("{text:?} is not a number")))
}

fn lsn(text: &str) -> Result<Lsn, SourceError> {
    text.parse().map_err(|e| SourceError::Protocol(format!("{text:?}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes() {
        assert_eq!(quote_identifier("a\"b.é"), "\"a\"\"b.é\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
    }

    #[test]
    fn reads_times_as_show_writes_them() {
        for (text, ms) in [("0", 0), ("1500ms", 1_500), ("3s", 3_000), ("1min", 60_000), ("2h", 7_200_000)] {
            assert_eq!(parse_interval(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse_interval("soon"), None);
        assert_eq!(parse_interval("5 weeks"), None);
    }
}
