//! SQL cursors over rows in memory: DECLARE, FETCH and MOVE.
//!
//! They live among the session's portals, as PostgreSQL's do, so that a name means one thing whoever
//! uses it. A cursor keeps the snapshot of its DECLARE, also when its transaction has since gone to the
//! primary. What needs the primary to know of it (WHERE CURRENT OF) is refused.

use std::sync::Arc;

use bytes::BytesMut;

use super::{
    client::{End, OUTPUT_HIGH},
    error::Problem,
    local::{Form, Rows, Sent},
    session::Session,
    statement::PortalState,
};
use crate::query::{ALL, Plan, Step};

/// Rows that are read at once when a cursor goes backward; they are held, to be sent in reverse.
const BACKWARD_ROWS: u64 = 1024;

/// A cursor and where it stands, as PostgreSQL's `PortalData` has it.
pub(super) struct SqlCursor {
    pub(super) plan: Arc<Plan>,
    /// BINARY, which counts in the simple protocol.
    pub(super) binary: bool,
    /// `None` after a failure.
    rows: Option<Box<Rows>>,
    scrolls: bool,
    /// Before the first row.
    at_start: bool,
    /// After the last row.
    at_end: bool,
    /// Rows up to the current one; all of them at the end.
    position: u64,
    /// Rows that were taken from `rows` since it was last rewound.
    taken: u64,
}

impl SqlCursor {
    pub(super) fn new(rows: Rows, binary: bool, scroll: Option<bool>) -> SqlCursor {
        let plan = Arc::clone(&rows.plan);
        SqlCursor {
            scrolls: scroll.unwrap_or_else(|| plan.scrolls()),
            plan,
            binary,
            rows: Some(Box::new(rows)),
            at_start: true,
            at_end: false,
            position: 0,
            taken: 0,
        }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at_end
    }
}

/// An error for the client, or the end of its connection.
pub(super) enum Failed {
    Problem(Problem),
    End(End),
}

impl From<End> for Failed {
    fn from(end: End) -> Failed {
        Failed::End(end)
    }
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Failed {
        Failed::Problem(problem)
    }
}

/// Where rows go: to the client, each column in text (false) or binary, or nowhere.
pub(super) type Sink = Option<Vec<bool>>;

impl Session {
    /// Moves a cursor, whose portal is of this name; how many rows that gave.
    pub(super) async fn step_cursor(&mut self, name: &[u8], step: Step, sink: Sink) -> Result<u64, Failed> {
        let gone = || Problem::NoCursor(String::from_utf8_lossy(name).into_owned());
        let portal = self.portals.get_mut(name).ok_or_else(gone)?;
        let PortalState::Cursor(_) = &portal.state else { return Err(gone().into()) };
        let PortalState::Cursor(mut cursor) = std::mem::replace(&mut portal.state, PortalState::Ran) else {
            return Err(gone().into());
        };
        let stepped = self.step(&mut cursor, step, sink).await;
        if let Some(portal) = self.portals.get_mut(name) {
            portal.state = PortalState::Cursor(cursor);
        }
        stepped
    }

    /// `DoPortalRunFetch`.
    async fn step(&mut self, cursor: &mut SqlCursor, step: Step, sink: Sink) -> Result<u64, Failed> {
        let (mut forward, mut count) = match step {
            Step::Forward(count) => (count >= 0, count.unsigned_abs()),
            Step::Backward(count) => (count < 0, count.unsigned_abs()),
            Step::Absolute(0) => {
                rewind(cursor)?;
                return self.run_cursor(cursor, true, 0, sink).await;
            }
            Step::Absolute(count) if count > 0 => {
                let count = count.unsigned_abs();
                if count - 1 <= cursor.position / 2 {
                    rewind(cursor)?;
                    if count > 1 {
                        self.run_cursor(cursor, true, count - 1, None).await?;
                    }
                } else {
                    let position = cursor.position + u64::from(cursor.at_end);
                    if count <= position {
                        self.run_cursor(cursor, false, position - count + 1, None).await?;
                    } else if count > position + 1 {
                        self.run_cursor(cursor, true, count - position - 1, None).await?;
                    }
                }
                return self.run_cursor(cursor, true, 1, sink).await;
            }
            Step::Absolute(count) => {
                self.run_cursor(cursor, true, u64::MAX, None).await?;
                if count < -1 {
                    self.run_cursor(cursor, false, count.unsigned_abs() - 1, None).await?;
                }
                return self.run_cursor(cursor, false, 1, sink).await;
            }
            Step::Relative(0) => (true, 0),
            Step::Relative(count) => {
                let (forward, count) = (count > 0, count.unsigned_abs());
                if count > 1 {
                    self.run_cursor(cursor, forward, count - 1, None).await?;
                }
                return self.run_cursor(cursor, forward, 1, sink).await;
            }
        };
        if count == ALL.unsigned_abs() {
            count = u64::MAX;
        }
        if count == 0 {
            let on_row = !cursor.at_start && !cursor.at_end;
            if sink.is_none() {
                return Ok(u64::from(on_row));
            }
            if on_row {
                // The current row again.
                self.run_cursor(cursor, false, 1, None).await?;
                (forward, count) = (true, 1);
            }
        }
        if !forward && count == u64::MAX && sink.is_none() {
            let passed = cursor.position.saturating_sub(u64::from(cursor.position > 0 && !cursor.at_end));
            rewind(cursor)?;
            return Ok(passed);
        }
        self.run_cursor(cursor, forward, count, sink).await
    }

    /// `PortalRunSelect`.
    async fn run_cursor(
        &mut self,
        cursor: &mut SqlCursor,
        forward: bool,
        count: u64,
        sink: Sink,
    ) -> Result<u64, Failed> {
        if forward {
            if cursor.at_end || count == 0 {
                return Ok(0);
            }
            let passed = self.go_forward(cursor, count, sink).await?;
            cursor.at_start &= passed == 0;
            cursor.at_end = passed < count;
            cursor.position += passed;
            return Ok(passed);
        }
        if !cursor.scrolls {
            return Err(Problem::ForwardOnly.into());
        }
        if cursor.at_start || count == 0 {
            return Ok(0);
        }
        let before = (cursor.position + u64::from(cursor.at_end)).saturating_sub(1);
        let passed = before.min(count);
        if let Some(binary) = sink {
            self.go_backward(cursor, before - passed, passed, binary).await?;
        }
        if passed > 0 && cursor.at_end {
            cursor.at_end = false;
            cursor.position += 1;
        }
        if passed < count {
            cursor.at_start = true;
            cursor.position = 0;
        } else {
            cursor.position -= passed;
        }
        Ok(passed)
    }

    /// The next `count` rows.
    async fn go_forward(&mut self, cursor: &mut SqlCursor, count: u64, sink: Sink) -> Result<u64, Failed> {
        let mut rows = self.rows_at(cursor, cursor.position).await?;
        let stop = self.stop();
        let Some(binary) = sink else {
            let (rows, skipped) = self.work(rows, move |rows| rows.skip(count, &stop)).await?;
            cursor.rows = Some(rows);
            let skipped = skipped?;
            cursor.taken += skipped;
            return Ok(skipped);
        };
        rows.set_form(Form::Data(binary));
        let (rows, sent) = self.send_rows(rows, count, None).await?;
        cursor.rows = rows;
        match sent {
            Sent::All(sent) | Sent::Suspended(sent) => {
                cursor.taken += sent;
                Ok(sent)
            }
            Sent::Failed(problem) => Err(problem.into()),
            Sent::Primary(reason) => Err(Problem::Internal(reason.to_string()).into()),
        }
    }

    /// `count` rows after the first `start`, the last of them first.
    async fn go_backward(
        &mut self,
        cursor: &mut SqlCursor,
        start: u64,
        count: u64,
        binary: Vec<bool>,
    ) -> Result<(), Failed> {
        let mut left = count;
        while left > 0 {
            let some = left.min(BACKWARD_ROWS);
            left -= some;
            let mut rows = self.rows_at(cursor, start + left).await?;
            rows.set_form(Form::Data(binary.clone()));
            let (rows, read) = self
                .work(rows, move |rows| {
                    let mut read: Vec<BytesMut> = Vec::new();
                    for _ in 0..some {
                        match rows.next_row() {
                            Ok(Some(row)) => read.push(row),
                            Ok(None) => break,
                            Err(error) => return Err(Problem::Internal(error.to_string())),
                        }
                    }
                    Ok(read)
                })
                .await?;
            cursor.rows = Some(rows);
            cursor.taken += some;
            for row in read?.into_iter().rev() {
                self.client.output.extend_from_slice(&row);
            }
            if self.client.output.len() >= OUTPUT_HIGH {
                self.client.flush().await?;
            }
        }
        Ok(())
    }

    /// The cursor's rows, of which the first `position` were taken.
    async fn rows_at(&mut self, cursor: &mut SqlCursor, position: u64) -> Result<Box<Rows>, Failed> {
        let lost = || Problem::Internal("the cursor was lost by an error".into());
        let mut rows = cursor.rows.take().ok_or_else(lost)?;
        if cursor.taken == position {
            return Ok(rows);
        }
        if cursor.taken > position {
            rows.rewind();
            cursor.taken = 0;
        }
        let (ahead, stop) = (position - cursor.taken, self.stop());
        let (rows, skipped) = self.work(rows, move |rows| rows.skip(ahead, &stop)).await?;
        cursor.taken = position;
        match skipped {
            Ok(_) => Ok(rows),
            Err(problem) => {
                cursor.rows = Some(rows);
                Err(problem.into())
            }
        }
    }
}

/// `DoPortalRewind`.
fn rewind(cursor: &mut SqlCursor) -> Result<(), Failed> {
    if cursor.at_start && !cursor.at_end {
        return Ok(());
    }
    if !cursor.scrolls {
        return Err(Problem::ForwardOnly.into());
    }
    (cursor.at_start, cursor.at_end, cursor.position) = (true, false, 0);
    Ok(())
}
