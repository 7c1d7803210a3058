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

/// One tuple's fields, `None` for NULL.
#[derive(Debug)]
pub struct CopyTuple<'a> {
    rest: &'a [u8],
    fields: usize,
}

impl CopyDecoder {
    /// Takes the tuples of one CopyData payload in order.
    pub fn tuples<'a>(
        &mut self,
        payload: &'a [u8],
        mut visit: impl FnMut(CopyTuple<'a>) -> Result<(), DecodeError>,
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
            let bytes = take(&mut rest, 2)?;
            let fields =
                i16::from_be_bytes([bytes.first().copied().unwrap_or(0), bytes.get(1).copied().unwrap_or(0)]);
            if fields < 0 {
                self.done = true;
                continue;
            }
            let start = rest;
            for _ in 0..fields {
                let length = i32(&mut rest)?;
                if length >= 0 {
                    take(&mut rest, length as usize)?;
                }
            }
            let used = start.len() - rest.len();
            visit(CopyTuple { rest: start.get(..used).unwrap_or(&[]), fields: fields as usize })?;
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
    pub fn len(&self) -> usize {
        self.fields
    }

    pub fn is_empty(&self) -> bool {
        self.fields == 0
    }
}

impl<'a> Iterator for CopyTuple<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        if self.rest.is_empty() {
            return None;
        }
        // The lengths were checked when the tuple was cut out.
        let length = i32(&mut self.rest).ok()?;
        if length < 0 {
            return Some(None);
        }
        Some(take(&mut self.rest, length as usize).ok())
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], DecodeError> {
    match (rest.get(..length), rest.get(length..)) {
        (Some(head), Some(tail)) => {
            *rest = tail;
            Ok(head)
        }
        _ => Err(DecodeError::Short { what: "the COPY stream", wanted: length.saturating_sub(rest.len()) }),
    }
}

fn i32(rest: &mut &[u8]) -> Result<i32, DecodeError> {
    let bytes = take(rest, 4)?;
    <[u8; 4]>::try_from(bytes)
        .map(i32::from_be_bytes)
        .map_err(|_| DecodeError::Short { what: "the COPY stream", wanted: 4 })
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
        let mut collect = |tuple: CopyTuple<'_>| {
            rows.push(tuple.map(|f| f.map(<[u8]>::to_vec)).collect::<Vec<_>>());
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
        assert!(CopyDecoder::default().tuples(b"PGCOPY", |_| Ok(())).is_err());
    }
}
