//! A session's own connection to the primary, and what is expected of it.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use postgres_protocol::message::frontend;

use super::{
    backend,
    error::Problem,
    frame::Fields,
    pool::{Offer, Slot},
};
use crate::primary::{Connection, PrimaryError, ReadHalf, WriteHalf, rehome};

/// What waits to be sent to the primary beyond this keeps the client's next message waiting, in bytes.
const PENDING_HIGH: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) read: ReadHalf,
    pub(super) write: WriteHalf,
    pub(super) slot: Slot,
    /// While its session would give it up.
    pub(super) offer: Option<Offer>,
    /// What the primary has reported on it.
    pub(super) parameters: HashMap<String, String>,
    pub(super) pid: i32,
    pub(super) key: Bytes,
    /// The last ReadyForQuery's: 'I', 'T' or 'E'.
    pub(super) status: u8,
    /// Which of our statements the primary's unnamed statement is.
    pub(super) unnamed: Option<u64>,
    /// Bytes written since everything was sent last.
    queued: usize,
}

/// What the primary still owes an answer to, in order.
#[derive(Debug)]
pub(super) enum Expect {
    /// `previous`: the statement that had the name.
    Parse {
        name: Bytes,
        previous: Option<super::statement::Prepared>,
    },
    Bind,
    Close {
        statement: Option<(Bytes, u64)>,
    },
    /// Of a statement, whose description is kept.
    DescribeStatement {
        name: Bytes,
        id: u64,
        seen: BytesMut,
    },
    DescribePortal,
    Execute,
    Sync,
    /// Query and FunctionCall: everything up to ReadyForQuery.
    Query,
    /// Sent to fail, so that the primary's transaction ends with the error that we found.
    Poison(Problem),
}

impl Expect {
    /// Answered by ReadyForQuery.
    pub(super) fn is_last(&self) -> bool {
        matches!(self, Expect::Sync | Expect::Query)
    }
}

pub(super) type Expectations = VecDeque<Expect>;

impl Upstream {
    pub(super) fn new(mut connection: Connection, pid: i32, key: Bytes, slot: Slot) -> Upstream {
        let parameters = connection.take_parameters();
        let (read, write) = connection.into_split();
        let (offer, unnamed) = (None, None);
        Upstream { read, write, slot, offer, parameters, pid, key, status: b'I', unnamed, queued: 0 }
    }

    /// Has the connection, which another thread may have served, served by this one. It owes nothing, and
    /// was not lost.
    pub(super) fn awaken(self) -> Result<Upstream, PrimaryError> {
        let (read, write) = rehome(self.read, self.write)?;
        let mut upstream = Upstream { read, write, unnamed: None, ..self };
        upstream.listen()?;
        Ok(upstream)
    }

    /// Takes what the primary has said to nobody: parameters that were configured anew, and its end.
    pub(super) fn listen(&mut self) -> Result<(), PrimaryError> {
        loop {
            while let Some(frame) = self.read.try_read_frame()? {
                match frame.first() {
                    Some(b'S') => self.report(&frame),
                    Some(b'N' | b'A') => {}
                    _ => return Err(PrimaryError::Closed { source: None }),
                }
            }
            match self.read.fill_idle().now_or_never() {
                Some(filled) => filled?,
                None => return Ok(()),
            }
        }
    }

    /// Hands on what can come at any time.
    pub(super) fn aside(&mut self, frame: &[u8], client: &mut BytesMut) {
        if frame.first() == Some(&b'S') {
            self.report(frame);
        }
        client.extend_from_slice(frame);
    }

    /// Looks whether the primary has closed the connection meanwhile. What else it said is read later.
    pub(super) fn look(&mut self) -> Result<(), PrimaryError> {
        while let Some(filled) = self.read.fill_idle().now_or_never() {
            filled?;
        }
        Ok(())
    }

    /// Notes a ParameterStatus.
    pub(super) fn report(&mut self, frame: &[u8]) {
        let mut fields = Fields(frame.get(5..).unwrap_or_default());
        if let (Ok(name), Ok(value)) = (fields.string(), fields.string()) {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            self.parameters.insert(text(name), text(value));
        }
    }

    /// Whether nothing is on its way to the primary.
    pub(super) fn is_quiet(&self) -> bool {
        !self.write.pending() && self.status == b'I'
    }

    /// Appends to what is to be sent.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.write.write(bytes);
        self.queued = self.queued.saturating_add(bytes.len());
    }

    /// Whether enough waits to be sent.
    pub(super) fn is_full(&self) -> bool {
        self.queued >= PENDING_HIGH
    }

    /// Everything was sent.
    pub(super) fn sent(&mut self) {
        self.queued = 0;
    }

    /// Runs a query between the client's statements: its rows as text, or `None` when the primary
    /// refused it. What else the primary says goes to the client.
    pub(super) async fn query(
        &mut self,
        sql: &str,
        client: &mut BytesMut,
    ) -> Result<Option<Vec<Vec<Option<String>>>>, PrimaryError> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message).map_err(|e| PrimaryError::Protocol(e.to_string()))?;
        self.write(&message);
        self.write.flush().await?;
        // A simple query drops the unnamed statement (`exec_simple_query`).
        self.unnamed = None;
        let mut rows = Some(Vec::new());
        loop {
            let frame = self.read.read_frame().await?;
            let body = frame.get(5..).unwrap_or_default();
            match frame.first() {
                Some(b'D') => match (&mut rows, text_row(body)) {
                    (Some(rows), Some(row)) => rows.push(row),
                    _ => rows = None,
                },
                Some(b'E') => {
                    if is_fatal(body) {
                        return Err(PrimaryError::Closed { source: None });
                    }
                    rows = None;
                }
                Some(b'N' | b'A' | b'S') => self.aside(&frame, client),
                Some(b'Z') => {
                    self.status = body.first().copied().unwrap_or(b'E');
                    return Ok(rows);
                }
                _ => {}
            }
        }
    }
}

impl Upstream {
    /// ParameterDescription and RowDescription or NoData of a statement, asked for between the client's
    /// segments; `None` when the primary refuses. What else it says goes to the client.
    pub(super) async fn describe(
        &mut self,
        statement: &[u8],
        client: &mut BytesMut,
    ) -> Result<Option<Bytes>, PrimaryError> {
        self.write(&describe_statement(statement));
        self.write(SYNC);
        self.write.flush().await?;
        let mut described = Some(BytesMut::new());
        loop {
            let frame = self.read.read_frame().await?;
            let body = frame.get(5..).unwrap_or_default();
            match frame.first() {
                Some(b't' | b'T' | b'n') => {
                    if let Some(described) = &mut described {
                        described.extend_from_slice(&frame);
                    }
                }
                Some(b'E') if is_fatal(body) => return Err(PrimaryError::Closed { source: None }),
                Some(b'E') => described = None,
                Some(b'N' | b'A' | b'S') => client.extend_from_slice(&frame),
                Some(b'Z') => {
                    self.status = body.first().copied().unwrap_or(b'E');
                    return Ok(described.map(BytesMut::freeze));
                }
                _ => {}
            }
        }
    }
}

/// Whether the body of an ErrorResponse says that the connection ends.
pub(super) fn is_fatal(body: &[u8]) -> bool {
    let severity = |code: u8| body.split(|&b| b == 0).find(|f| f.first() == Some(&code));
    // 'V' is never translated; servers before 9.6 have only 'S'.
    let text = severity(b'V').or_else(|| severity(b'S')).and_then(|f| f.get(1..));
    matches!(text, Some(b"FATAL" | b"PANIC"))
}

/// The values of a DataRow in text; `None` when it is cut off.
fn text_row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, rest) = body.split_first_chunk::<2>()?;
    let mut fields = Fields(rest);
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        row.push(match usize::try_from(fields.i32().ok()?) {
            Ok(length) => Some(String::from_utf8_lossy(fields.bytes(length).ok()?).into_owned()),
            Err(_) => None,
        });
    }
    Some(row)
}

/// The name under which no portal exists: executing it fails.
const NO_PORTAL: &[u8] = b"millpond: no such portal";

/// An Execute that fails.
pub(super) fn poison() -> BytesMut {
    let mut out = BytesMut::new();
    backend::message(&mut out, b'E', |out| {
        backend::put_string(out, NO_PORTAL);
        out.extend_from_slice(&[0; 4]);
    });
    out
}

/// Close of a statement.
pub(super) fn close_statement(name: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    backend::message(&mut out, b'C', |out| {
        out.extend_from_slice(b"S");
        backend::put_string(out, name);
    });
    out
}

/// Describe of a statement.
pub(super) fn describe_statement(name: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    backend::message(&mut out, b'D', |out| {
        out.extend_from_slice(b"S");
        backend::put_string(out, name);
    });
    out
}

pub(super) const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
pub(super) const FLUSH: &[u8] = b"H\0\0\0\x04";
pub(super) const SYNC: &[u8] = b"S\0\0\0\x04";
pub(super) const TERMINATE: &[u8] = b"X\0\0\0\x04";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_cut_off_are_none() {
        let good = b"\0\x02\xff\xff\xff\xff\0\0\0\x02ab";
        assert_eq!(text_row(good), Some(vec![None, Some("ab".into())]));
        for end in 0..good.len() {
            assert_eq!(text_row(&good[..end]), None, "{end}");
        }
    }

    #[test]
    fn the_end_of_a_connection_is_told() {
        assert!(is_fatal(b"SFATAL\0VFATAL\0C57P01\0Mbye\0\0"));
        assert!(is_fatal(b"SPANIK\0VPANIC\0\0"));
        assert!(!is_fatal(b"SERROR\0VERROR\0C42601\0MFATAL\0\0"));
        assert!(!is_fatal(b""));
    }
}
