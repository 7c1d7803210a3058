//! The binary COPY format (documentation of COPY, "Binary Format"): a header, tuples, a trailer.

use super::DecodeError;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Reads a binary COPY stream, message by message: the server sends the header and each tuple in a
/// CopyData message of its own, or the header together with the first tuple.
#[derive(Debug, Default)]
pub struct CopyDecoder {
    header_read: bool,
    done: bool,
}

/// One tuple's fields, read one after the other.
#[derive(Debug)]
pub struct CopyTuple<'a> {
    rest: &'a [u8],
    /// Fields not read yet.
    fields: usize,
}

impl CopyDecoder {
    /// Takes the tuples of one CopyData payload in order. What `visit` leaves of a tuple is passed over.
    pub fn tuples<'a>(
        &mut self,
        payload: &'a [u8],
        mut visit: impl FnMut(&mut CopyTuple<'a>) -> Result<(), DecodeError>,
    ) -> Result<u64, DecodeError> {
        let mut rest = payload;
        if !self.header_read {
            let body = rest.strip_prefix(SIGNATURE);
            rest = body.ok_or(DecodeError::Short { what: "the COPY header", wanted: SIGNATURE.len() })?;
            take(&mut rest, 4)?;
            let extension = i32(&mut rest)?;
            take(&mut rest, usize::try_from(extension).unwrap_or(usize::MAX))?;
            self.header_read = true;
        }
        let mut rows = 0;
        while !rest.is_empty() {
            if self.done {
                return Err(DecodeError::Trailing { what: "the COPY stream", extra: rest.len() });
            }
            let (head, tail) =
                rest.split_first_chunk().ok_or(DecodeError::Short { what: "the COPY stream", wanted: 2 })?;
            rest = tail;
            let fields = i16::from_be_bytes(*head);
            if fields < 0 {
                self.done = true;
                continue;
            }
            let mut tuple = CopyTuple { rest, fields: fields as usize };
            visit(&mut tuple)?;
            while !tuple.is_empty() {
                tuple.field()?;
            }
            rest = tuple.rest;
            rows += 1;
        }
        Ok(rows)
    }

    /// Whether the trailer has been seen: without it the copy is not whole.
    pub fn is_done(&self) -> bool {
        self.done
    }
}

impl<'a> CopyTuple<'a> {
    /// How many fields are left.
    pub fn len(&self) -> usize {
        self.fields
    }

    pub fn is_empty(&self) -> bool {
        self.fields == 0
    }

    /// The next field, `None` for NULL; behind the last there are only NULLs.
    #[inline]
    pub fn field(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        if self.fields == 0 {
            return Ok(None);
        }
        self.fields -= 1;
        match usize::try_from(i32(&mut self.rest)?) {
            Ok(length) => take(&mut self.rest, length).map(Some),
            Err(_) => Ok(None),
        }
    }
}

#[inline]
fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], DecodeError> {
    match rest.split_at_checked(length) {
        Some((head, tail)) => {
            *rest = tail;
            Ok(head)
        }
        None => {
            Err(DecodeError::Short { what: "the COPY stream", wanted: length.saturating_sub(rest.len()) })
        }
    }
}

#[inline]
fn i32(rest: &mut &[u8]) -> Result<i32, DecodeError> {
    let (head, tail) =
        rest.split_first_chunk().ok_or(DecodeError::Short { what: "the COPY stream", wanted: 4 })?;
    *rest = tail;
    Ok(i32::from_be_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_tuples_and_trailer() {
        let mut stream = SIGNATURE.to_vec();
        stream.extend_from_slice(&[0; 8]);
        stream.extend_from_slice(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff");
        let mut decoder = CopyDecoder::default();
        let mut rows = Vec::new();
        let mut collect = |tuple: &mut CopyTuple<'_>| {
            let mut row = Vec::new();
            while !tuple.is_empty() {
                row.push(tuple.field()?.map(<[u8]>::to_vec));
            }
            rows.push(row);
            Ok(())
        };
        assert_eq!(decoder.tuples(&stream, &mut collect), Ok(1));
        assert_eq!(decoder.tuples(b"\0\x01\0\0\0\0", &mut collect), Ok(1));
        assert!(!decoder.is_done());
        assert_eq!(decoder.tuples(b"\xff\xff", &mut collect), Ok(0));
        assert!(decoder.is_done());
        assert_eq!(rows, vec![vec![Some(b"a".to_vec()), None], vec![Some(Vec::new())]]);
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let mut decoder = CopyDecoder { header_read: true, done: false };
        assert!(decoder.tuples(b"\0\x01\0\0\0\x05abc", |_| Ok(())).is_err());
        for cut in [&b"\0"[..], b"\0\x01", b"\0\x01\0\0\0", b"\0\x02\0\0\0\0"] {
            assert!(decoder.tuples(cut, |_| Ok(())).is_err(), "{cut:?}");
        }
        assert!(CopyDecoder::default().tuples(b"PGCOPY", |_| Ok(())).is_err());
    }
}
