//! Answers from memory: a snapshot that is fresh enough for the session, and rows into the client's
//! buffer.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::{
    backend,
    client::{End, OUTPUT_HIGH},
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
    /// Format of each column, true for binary.
    binary: Vec<bool>,
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
            if let Err(error) = write_row(&self.plan, &row, &self.binary, out) {
                out.truncate(start);
                return Err(error);
            }
            *sent += 1;
        }
        Ok(Filled::Limit)
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
        binary: Vec<bool>,
    ) -> Result<Rows, Reason> {
        let snapshot = match plan.table() {
            Some(_) => self.fresh_snapshot().await?,
            None => self.shared.store.snapshot(),
        };
        let open = {
            let (plan, bind, slot) = (Arc::clone(plan), bind.cloned(), Arc::clone(&self.cancel.slot));
            move || {
                let bind = bind.as_ref().map(Frame::bind).transpose().map_err(|_| Reason::Value)?;
                let (params, formats) = match &bind {
                    Some(bind) => (bind.params.as_slice(), bind.param_formats.as_slice()),
                    None => (&[][..], &[][..]),
                };
                let formats = super::frame::expand_formats(formats, params.len()).ok_or(Reason::Value)?;
                plan.open_unless(snapshot, params, &formats, &|| slot.is_canceled())
            }
        };
        let cursor = if plan.route() == Route::Scan {
            // A scan or a sort can take long: not on the thread that serves the others.
            let _permit = self.shared.scans.acquire().await.map_err(|_| Reason::Canceled)?;
            tokio::task::spawn_blocking(open).await.map_err(|_| Reason::Unsupported)??
        } else {
            open()?
        };
        Ok(Rows { plan: Arc::clone(plan), cursor, binary })
    }

    /// A snapshot that has everything that the session could have seen, waited for if need be.
    async fn fresh_snapshot(&mut self) -> Result<Snapshot, Reason> {
        let floor = self.facts.floor;
        let watermark = &self.shared.watermark;
        let timeout = self.shared.config.freshness.wait_timeout;
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
        loop {
            if self.cancel.slot.is_canceled() {
                return Ok((None, Sent::Failed(Problem::Canceled)));
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
