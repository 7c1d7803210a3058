//! What we send to clients, written straight into the output buffer.

use bytes::{BufMut, BytesMut};

use super::error::Report;
use crate::query::ColumnDescription;

/// Begins a message and fills its length in at the end. The body is what `write` appends.
pub(super) fn message(out: &mut BytesMut, tag: u8, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_u32(0);
    write(out);
    patch_length(out, start, out.len() - start);
}

/// Writes the length at `start`. What we write ourselves stays far below 2 GB: rows of the store are
/// bounded by the primary's own limit of 1 GB.
pub(super) fn patch_length(out: &mut BytesMut, start: usize, length: usize) {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(start..start + 4) {
        slot.copy_from_slice(&length.to_be_bytes());
    }
}

pub(super) fn put_string(out: &mut BytesMut, text: &[u8]) {
    out.put_slice(text);
    out.put_u8(0);
}

/// ReadyForQuery; `status` is 'I', 'T' or 'E'.
pub(super) fn ready_for_query(out: &mut BytesMut, status: u8) {
    out.put_slice(&[b'Z', 0, 0, 0, 5, status]);
}

pub(super) fn parse_complete(out: &mut BytesMut) {
    out.put_slice(b"1\0\0\0\x04");
}

pub(super) fn bind_complete(out: &mut BytesMut) {
    out.put_slice(b"2\0\0\0\x04");
}

pub(super) fn close_complete(out: &mut BytesMut) {
    out.put_slice(b"3\0\0\0\x04");
}

pub(super) fn portal_suspended(out: &mut BytesMut) {
    out.put_slice(b"s\0\0\0\x04");
}

pub(super) fn empty_query_response(out: &mut BytesMut) {
    out.put_slice(b"I\0\0\0\x04");
}

pub(super) fn no_data(out: &mut BytesMut) {
    out.put_slice(b"n\0\0\0\x04");
}

pub(super) fn command_complete(out: &mut BytesMut, tag: &str) {
    message(out, b'C', |out| put_string(out, tag.as_bytes()));
}

/// CommandComplete of a SELECT.
pub(super) fn select_complete(out: &mut BytesMut, rows: u64) {
    command_complete(out, &format!("SELECT {rows}"));
}

pub(super) fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    message(out, b'S', |out| {
        put_string(out, name.as_bytes());
        put_string(out, value.as_bytes());
    });
}

pub(super) fn backend_key_data(out: &mut BytesMut, pid: i32, key: &[u8]) {
    message(out, b'K', |out| {
        out.put_i32(pid);
        out.put_slice(key);
    });
}

pub(super) fn authentication(out: &mut BytesMut, code: i32, data: &[u8]) {
    message(out, b'R', |out| {
        out.put_i32(code);
        out.put_slice(data);
    });
}

/// NegotiateProtocolVersion: the newest minor that we speak and the options that we do not know.
pub(super) fn negotiate_protocol_version(out: &mut BytesMut, version: u32, unknown: &[&[u8]]) {
    message(out, b'v', |out| {
        out.put_u32(version);
        out.put_u32(u32::try_from(unknown.len()).unwrap_or(u32::MAX));
        unknown.iter().for_each(|name| put_string(out, name));
    });
}

/// ParameterDescription.
pub(super) fn parameter_description(out: &mut BytesMut, types: impl ExactSizeIterator<Item = u32>) {
    message(out, b't', |out| {
        out.put_u16(u16::try_from(types.len()).unwrap_or(u16::MAX));
        types.for_each(|oid| out.put_u32(oid));
    });
}

/// RowDescription; `binary` beyond its end means text.
pub(super) fn row_description(out: &mut BytesMut, columns: &[ColumnDescription], binary: &[bool]) {
    message(out, b'T', |out| {
        out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        for (i, column) in columns.iter().enumerate() {
            put_string(out, column.name.as_bytes());
            out.put_u32(column.table_oid.0);
            out.put_i16(column.attnum.0);
            out.put_u32(column.type_oid.0);
            out.put_i16(column.type_len);
            out.put_i32(column.typmod);
            out.put_i16(i16::from(binary.get(i).copied().unwrap_or(false)));
        }
    });
}

/// RowDescription of one column of type text, as SHOW has it.
pub(super) fn text_description(out: &mut BytesMut, name: &str, binary: bool) {
    message(out, b'T', |out| {
        out.put_u16(1);
        put_string(out, name.as_bytes());
        out.put_u32(0);
        out.put_i16(0);
        out.put_u32(25);
        out.put_i16(-1);
        out.put_i32(-1);
        out.put_i16(i16::from(binary));
    });
}

/// DataRow of one text.
pub(super) fn text_row(out: &mut BytesMut, text: &str) {
    message(out, b'D', |out| {
        out.put_u16(1);
        out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        out.put_slice(text.as_bytes());
    });
}

/// ErrorResponse (<https://www.postgresql.org/docs/current/protocol-error-fields.html>).
pub(super) fn error_response(out: &mut BytesMut, report: &Report) {
    message(out, b'E', |out| {
        let mut field = |code: u8, text: &str| {
            out.put_u8(code);
            // A NUL would end the field early.
            out.extend(text.bytes().filter(|&b| b != 0));
            out.put_u8(0);
        };
        let severity = if report.fatal { "FATAL" } else { "ERROR" };
        field(b'S', severity);
        field(b'V', severity);
        field(b'C', &report.sqlstate);
        field(b'M', &report.message);
        if let Some(detail) = &report.detail {
            field(b'D', detail);
        }
        if let Some(hint) = &report.hint {
            field(b'H', hint);
        }
        out.put_u8(0);
    });
}

/// An error for clients of protocols before 3.0, which know no fields (`send_message_to_frontend` in
/// `src/backend/utils/error/elog.c`).
pub(super) fn old_error_response(out: &mut BytesMut, report: &Report) {
    out.put_u8(b'E');
    put_string(out, format!("FATAL:  {}\n", report.message).as_bytes());
}

/// A copy of the primary's ErrorResponse frame with a hint, if it is for `sqlstate` and has none.
pub(super) fn with_hint(frame: &[u8], sqlstate: &str, hint: &str) -> Option<BytesMut> {
    let body = frame.get(5..)?;
    let fields: Vec<&[u8]> = body.split(|&b| b == 0).take_while(|f| !f.is_empty()).collect();
    let is = |field: &&[u8], code: u8| field.first() == Some(&code);
    let state = fields.iter().find(|f| is(f, b'C'))?;
    if state.get(1..) != Some(sqlstate.as_bytes()) || fields.iter().any(|f| is(f, b'H')) {
        return None;
    }
    let mut out = BytesMut::with_capacity(frame.len() + hint.len() + 2);
    message(&mut out, b'E', |out| {
        fields.iter().for_each(|field| put_string(out, field));
        out.put_u8(b'H');
        put_string(out, hint.as_bytes());
        out.put_u8(0);
    });
    Some(out)
}

#[cfg(test)]
mod tests {
    use postgres_protocol::message::backend::Message;

    use super::*;
    use crate::wire::error::Report;

    #[test]
    fn errors_are_read_by_a_client() {
        let mut out = BytesMut::new();
        error_response(&mut out, &Report::error("42601", "no\0t SQL").with_hint("write SQL"));
        let mut hinted = with_hint(&out, "42601", "unused");
        assert!(hinted.is_none(), "it has a hint");
        out.clear();
        error_response(&mut out, &Report::error("25006", "no"));
        assert!(with_hint(&out, "42601", "x").is_none(), "another state");
        hinted = with_hint(&out, "25006", "set it");
        assert_eq!(&hinted.unwrap()[..], b"E\0\0\0\x26SERROR\0VERROR\0C25006\0Mno\0Hset it\0\0");
        assert!(matches!(Message::parse(&mut out), Ok(Some(Message::ErrorResponse(_)))));
        assert!(with_hint(b"E\0\0", "25006", "x").is_none());
    }

    #[test]
    fn what_we_write_is_what_a_client_reads() {
        let mut out = BytesMut::new();
        parse_complete(&mut out);
        bind_complete(&mut out);
        text_description(&mut out, "x", false);
        text_row(&mut out, "abc");
        command_complete(&mut out, "SELECT 1");
        portal_suspended(&mut out);
        close_complete(&mut out);
        no_data(&mut out);
        empty_query_response(&mut out);
        parameter_description(&mut out, [23u32, 25].into_iter());
        parameter_status(&mut out, "a", "b");
        backend_key_data(&mut out, 7, &[1, 2, 3, 4]);
        ready_for_query(&mut out, b'I');
        let mut tags = Vec::new();
        while let Some(message) = Message::parse(&mut out).unwrap() {
            tags.push(match message {
                Message::ParseComplete => '1',
                Message::BindComplete => '2',
                Message::RowDescription(_) => 'T',
                Message::DataRow(_) => 'D',
                Message::CommandComplete(body) => {
                    assert_eq!(body.tag().unwrap(), "SELECT 1");
                    'C'
                }
                Message::PortalSuspended => 's',
                Message::CloseComplete => '3',
                Message::NoData => 'n',
                Message::EmptyQueryResponse => 'I',
                Message::ParameterDescription(_) => 't',
                Message::ParameterStatus(_) => 'S',
                Message::BackendKeyData(_) => 'K',
                Message::ReadyForQuery(body) => {
                    assert_eq!(body.status(), b'I');
                    'Z'
                }
                _ => '?',
            });
        }
        assert_eq!(tags.iter().collect::<String>(), "12TDCs3nItSKZ");
        assert!(out.is_empty());
    }
}
