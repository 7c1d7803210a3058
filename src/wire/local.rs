//! Answers from memory: a snapshot that is fresh enough for the session, and rows into the client's
//! buffer.

use std::{sync::Arc, time::Instant};

use bytes::{BufMut, BytesMut};

use super::{
    backend,
    cancel::Slot,
    client::{End, OUTPUT_HIGH},
    copy::CopyOut,
    error::Problem,
    frame::Frame,
    session::Session,
};
use crate::{
    codec::{CodecError, write_binary, write_text},
    query::{Cursor, Plan, Reason, ResultRow, Route},
    store::Snapshot,
};

/// An open result.
pub(super) struct Rows {
    pub(super) plan: Arc<Plan>,
    cursor: Cursor,
    form: Form,
}

/// How rows are written.
pub(super) enum Form {
    /// DataRow; the format of each column, true for binary.
    Data(Vec<bool>),
    Copy(CopyOut),
}

/// How many rows are skipped before anybody asks whether to stop.
const STOP_EVERY: u64 = 4096;

/// What ends a statement here before its time.
#[derive(Clone)]
pub(super) struct Stop {
    slot: Arc<Slot>,
    deadline: Option<Instant>,
}

impl Stop {
    /// Why it has to end, if it has to.
    pub(super) fn problem(&self) -> Option<Problem> {
        if self.slot.is_canceled() {
            return Some(Problem::Canceled);
        }
        self.deadline.filter(|deadline| Instant::now() >= *deadline).map(|_| Problem::TimedOut)
    }
}

/// Why filling stopped.
enum Filled {
    Buffer,
    Limit,
    End,
}

/// How sending ended.
pub(super) enum Sent {
    /// All rows, so many this time.
    All(u64),
    /// As many as were asked for; there may be more.
    Suspended(u64),
    /// Nothing was sent: the primary has to answer.
    Primary(Reason),
    Failed(Problem),
}

impl Rows {
    /// Appends rows until `out` holds [`OUTPUT_HIGH`] bytes, `limit` rows were written, or no more come.
    fn fill(&mut self, out: &mut BytesMut, limit: u64, sent: &mut u64) -> Result<Filled, CodecError> {
        while *sent < limit {
            if out.len() >= OUTPUT_HIGH {
                return Ok(Filled::Buffer);
            }
            let Some(row) = self.cursor.next() else { return Ok(Filled::End) };
            let start = out.len();
            let written = match &mut self.form {
                Form::Data(binary) => write_row(&self.plan, &row, binary, out),
                Form::Copy(copy) => copy.write_row(&self.plan, &row, out),
            };
            if let Err(error) = written {
                out.truncate(start);
                return Err(error);
            }
            *sent += 1;
        }
        Ok(Filled::Limit)
    }

    pub(super) fn set_form(&mut self, form: Form) {
        self.form = form;
    }

    pub(super) fn copy(&mut self) -> Option<&mut CopyOut> {
        match &mut self.form {
            Form::Copy(copy) => Some(copy),
            Form::Data(_) => None,
        }
    }

    /// Back to before the first row.
    pub(super) fn rewind(&mut self) {
        self.cursor.rewind();
    }

    /// Skips rows; how many there were.
    pub(super) fn skip(&mut self, count: u64, stop: &Stop) -> Result<u64, Problem> {
        let mut skipped = 0;
        while skipped < count && self.cursor.next().is_some() {
            skipped += 1;
            if skipped % STOP_EVERY == 0
                && let Some(problem) = stop.problem()
            {
                return Err(problem);
            }
        }
        Ok(skipped)
    }

    /// The next row as it is sent; `None` at the end.
    pub(super) fn next_row(&mut self) -> Result<Option<BytesMut>, CodecError> {
        let (mut row, mut sent) = (BytesMut::new(), 0);
        self.fill(&mut row, 1, &mut sent)?;
        Ok((sent > 0).then_some(row))
    }
}

fn write_row(
    plan: &Plan,
    row: &ResultRow<'_>,
    binary: &[bool],
    out: &mut BytesMut,
) -> Result<(), CodecError> {
    out.put_u8(b'D');
    let start = out.len();
    out.put_u32(0);
    let columns = plan.columns();
    out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
    for (i, column) in columns.iter().enumerate() {
        let datum = row.datum(i);
        if datum.is_null() {
            out.put_i32(-1);
            continue;
        }
        let length = out.len();
        out.put_u32(0);
        if binary.get(i).copied().unwrap_or(false) {
            write_binary(&column.pg_type, &datum, out)?;
        } else {
            write_text(&column.pg_type, column.typmod, &datum, out)?;
        }
        backend::patch_length(out, length, out.len() - length - 4);
    }
    backend::patch_length(out, start, out.len() - start);
    Ok(())
}

impl Session {
    /// Opens a plan at a snapshot that has everything the session could have seen. Parameters are
    /// those of the Bind message, none for a simple query.
    pub(super) async fn open_rows(
        &mut self,
        plan: &Arc<Plan>,
        bind: Option<&Frame>,
        form: Form,
    ) -> Result<Rows, Reason> {
        let snapshot = match plan.table() {
            Some(_) => self.fresh_snapshot().await?,
            None => self.shared.store.snapshot(),
        };
        let open = {
            let (plan, bind, stop) = (Arc::clone(plan), bind.cloned(), self.stop());
            move || {
                let bind = bind.as_ref().map(Frame::bind).transpose().map_err(|_| Reason::Value)?;
                let (params, formats) = match &bind {
                    Some(bind) => (bind.params.as_slice(), bind.param_formats.as_slice()),
                    None => (&[][..], &[][..]),
                };
                let formats = super::frame::expand_formats(formats, params.len()).ok_or(Reason::Value)?;
                plan.open_unless(snapshot, params, &formats, &|| stop.problem().is_some())
            }
        };
        let cursor = if plan.route() == Route::Scan {
            // A scan or a sort can take long: not on the thread that serves the others.
            let _permit = self.shared.scans.acquire().await.map_err(|_| Reason::Canceled)?;
            tokio::task::spawn_blocking(open).await.map_err(|_| Reason::Unsupported)??
        } else {
            open()?
        };
        Ok(Rows { plan: Arc::clone(plan), cursor, form })
    }

    /// A snapshot that has everything that the session could have seen, waited for if need be.
    async fn fresh_snapshot(&mut self) -> Result<Snapshot, Reason> {
        let floor = self.facts.floor;
        let watermark = &self.shared.watermark;
        let mut timeout = self.shared.config.freshness.wait_timeout;
        if let Some(left) = self.deadline().map(|d| d.saturating_duration_since(Instant::now())) {
            timeout = timeout.min(left);
        }
        if watermark.get() < floor && !watermark.wait_for(floor, timeout).await {
            return Err(Reason::Stale);
        }
        let snapshot = self.shared.store.snapshot();
        if snapshot.lsn() < floor {
            return Err(Reason::Stale);
        }
        self.facts.floor = snapshot.lsn();
        Ok(snapshot)
    }

    /// When the statement that began last is to end, by `statement_timeout`.
    fn deadline(&self) -> Option<Instant> {
        let timeout = self.facts.timeouts.statement?;
        self.segment.began.checked_add(timeout)
    }

    pub(super) fn stop(&self) -> Stop {
        Stop { slot: Arc::clone(&self.cancel.slot), deadline: self.deadline() }
    }

    /// What the client is told of a statement that was stopped before its first row.
    pub(super) fn stopped(&self) -> Problem {
        self.stop().problem().unwrap_or(Problem::Canceled)
    }

    /// Works on rows where that may take its time.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        mut rows: Box<Rows>,
        work: impl FnOnce(&mut Rows) -> T + Send + 'static,
    ) -> Result<(Box<Rows>, T), End> {
        if rows.plan.route() != Route::Scan {
            let done = work(&mut rows);
            return Ok((rows, done));
        }
        let permit = self.shared.scans.acquire().await;
        let working = tokio::task::spawn_blocking(move || {
            let done = work(&mut rows);
            (rows, done)
        });
        let worked = working.await;
        drop(permit);
        worked.map_err(|_| End::Fatal(Problem::Internal("a query failed inside Millpond".into())))
    }

    /// Sends rows, `limit` at most. `mark` is where the statement's answer began in the output: what the
    /// codec refuses is taken back and asked of the primary, as long as nothing has left. `None` when an
    /// earlier part of the answer has.
    pub(super) async fn send_rows(
        &mut self,
        mut rows: Box<Rows>,
        limit: u64,
        mark: Option<usize>,
    ) -> Result<(Option<Box<Rows>>, Sent), End> {
        let (mut sent, mut left) = (0, false);
        let stop = self.stop();
        loop {
            if let Some(problem) = stop.problem() {
                return Ok((None, Sent::Failed(problem)));
            }
            let filled = if rows.plan.route() == Route::Scan {
                let mut out = std::mem::take(&mut self.client.output);
                let permit = self.shared.scans.acquire().await;
                let filling = tokio::task::spawn_blocking(move || {
                    let filled = rows.fill(&mut out, limit, &mut sent);
                    (rows, out, sent, filled)
                });
                let done = filling.await;
                drop(permit);
                let failed = |_| End::Fatal(Problem::Internal("a query failed inside Millpond".into()));
                let filled;
                (rows, self.client.output, sent, filled) = done.map_err(failed)?;
                filled
            } else {
                rows.fill(&mut self.client.output, limit, &mut sent)
            };
            match filled {
                Ok(Filled::Buffer) => {
                    self.client.flush().await?;
                    left = true;
                }
                Ok(Filled::Limit) => return Ok((Some(rows), Sent::Suspended(sent))),
                Ok(Filled::End) => return Ok((Some(rows), Sent::All(sent))),
                Err(error) => {
                    let message = format!("a value in Millpond's memory cannot be written: {error}");
                    tracing::error!("{message}");
                    let Some(mark) = mark.filter(|_| !left) else {
                        return Ok((None, Sent::Failed(Problem::Internal(message))));
                    };
                    self.client.output.truncate(mark);
                    return Ok((None, Sent::Primary(Reason::Type)));
                }
            }
        }
    }
}
