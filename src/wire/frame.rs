//! What clients send: framing and the bodies of messages, total on any bytes.

use bytes::{Bytes, BytesMut};

/// Tag and length.
pub(super) const HEADER: usize = 5;

/// One message of a client, as it came: tag, length, body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
}

/// The framing itself is broken: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid message length")]
pub(super) struct BadLength;

/// The body is not what its tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid message format")]
pub(super) struct Malformed;

impl Frame {
    /// Takes the first message off `input` when all of it is here. `max` bounds the length field, so
    /// that memory grows with what was sent and never with what was promised.
    pub(super) fn take(input: &mut BytesMut, max: u32) -> Result<Option<Frame>, BadLength> {
        let Some(&[_, a, b, c, d]) = input.first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]);
        if length < 4 || length > max {
            return Err(BadLength);
        }
        let total = length as usize + 1;
        if input.len() < total {
            return Ok(None);
        }
        Ok(Some(Frame { bytes: input.split_to(total).freeze() }))
    }

    pub(super) fn tag(&self) -> u8 {
        self.bytes.first().copied().unwrap_or_default()
    }

    pub(super) fn body(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }

    /// The text of a Query message; `None` inside for one that is not UTF-8.
    pub(super) fn query(&self) -> Result<Option<&str>, Malformed> {
        let mut fields = Fields(self.body());
        let text = fields.string()?;
        fields.end()?;
        Ok(std::str::from_utf8(text).ok())
    }

    pub(super) fn parse(&self) -> Result<Parse<'_>, Malformed> {
        let mut fields = Fields(self.body());
        let name = fields.name()?;
        let text = fields.string()?;
        let count = fields.count()?;
        let mut types = Vec::new();
        for _ in 0..count {
            types.push(fields.u32()?);
        }
        fields.end()?;
        Ok(Parse { name, text: std::str::from_utf8(text).ok(), types })
    }

    pub(super) fn bind(&self) -> Result<Bind<'_>, Malformed> {
        let mut fields = Fields(self.body());
        let portal = fields.name()?;
        let statement = fields.name()?;
        let param_formats = fields.formats()?;
        let count = fields.count()?;
        let mut params = Vec::new();
        for _ in 0..count {
            params.push(match fields.i32()? {
                -1 => None,
                length => Some(fields.bytes(usize::try_from(length).map_err(|_| Malformed)?)?),
            });
        }
        let result_formats = fields.formats()?;
        fields.end()?;
        Ok(Bind { portal, statement, param_formats, params, result_formats })
    }

    /// The statement that a Bind names, also where the rest of it cannot be read.
    pub(super) fn bound_statement(&self) -> Result<&[u8], Malformed> {
        let mut fields = Fields(self.body());
        fields.name()?;
        fields.name()
    }

    /// Describe and Close: 'S' or 'P', and the name.
    pub(super) fn named(&self) -> Result<(Object, &[u8]), Malformed> {
        let mut fields = Fields(self.body());
        let object = match fields.bytes(1)? {
            b"S" => Object::Statement,
            b"P" => Object::Portal,
            _ => return Err(Malformed),
        };
        let name = fields.name()?;
        fields.end()?;
        Ok((object, name))
    }

    /// Execute: the portal, and how many rows at most; 0 for all.
    pub(super) fn execute(&self) -> Result<(&[u8], u64), Malformed> {
        let mut fields = Fields(self.body());
        let portal = fields.name()?;
        // PostgreSQL takes a negative count for "all" as well (FETCH_ALL in exec_execute_message).
        let rows = u64::try_from(fields.i32()?).unwrap_or(0);
        fields.end()?;
        Ok((portal, rows))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Statement,
    Portal,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parse<'a> {
    pub(super) name: &'a [u8],
    /// `None` when it is not UTF-8.
    pub(super) text: Option<&'a str>,
    pub(super) types: Vec<u32>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bind<'a> {
    pub(super) portal: &'a [u8],
    pub(super) statement: &'a [u8],
    pub(super) param_formats: Vec<i16>,
    pub(super) params: Vec<Option<&'a [u8]>>,
    pub(super) result_formats: Vec<i16>,
}

/// One format for each of `count` values, true for binary: none given means text, one is for all.
/// `None` when the number or a code fits nothing, which the primary words.
pub(super) fn expand_formats(formats: &[i16], count: usize) -> Option<Vec<bool>> {
    let binary = |code: &i16| match code {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    };
    match formats {
        [] => Some(vec![false; count]),
        [one] => Some(vec![binary(one)?; count]),
        all if all.len() == count => all.iter().map(binary).collect(),
        _ => None,
    }
}

/// Reads the parts of a body; every step can find its end.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    /// Up to a NUL, which is taken and not given.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.0.iter().position(|&b| b == 0).ok_or(Malformed)?;
        let text = self.bytes(end)?;
        self.bytes(1)?;
        Ok(text)
    }

    /// A name that we can keep: the primary refuses others, or reads them in the client's encoding.
    fn name(&mut self) -> Result<&'a [u8], Malformed> {
        let name = self.string()?;
        std::str::from_utf8(name).map(str::as_bytes).map_err(|_| Malformed)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = tail;
        Ok(*head)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    /// PostgreSQL reads these counts as unsigned since 8.0 for parameters (up to 65,535).
    fn count(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn formats(&mut self) -> Result<Vec<i16>, Malformed> {
        let count = self.count()?;
        let mut formats = Vec::new();
        for _ in 0..count {
            formats.push(self.i16()?);
        }
        Ok(formats)
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Frame {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        Frame { bytes: bytes.into() }
    }

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let mut sent = Vec::new();
        for (tag, body) in [(b'Q', &b"select 1\0"[..]), (b'S', b""), (b'd', &[7; 50_000])] {
            sent.extend_from_slice(&frame(tag, body).bytes);
        }
        for step in [1, 4, 5, 6, 8192, sent.len()] {
            let (mut input, mut seen) = (BytesMut::new(), Vec::new());
            for part in sent.chunks(step) {
                input.extend_from_slice(part);
                while let Some(frame) = Frame::take(&mut input, 1 << 20).unwrap() {
                    seen.push((frame.tag(), frame.body().len()));
                }
            }
            assert_eq!(seen, [(b'Q', 9), (b'S', 0), (b'd', 50_000)], "{step}");
        }
    }

    #[test]
    fn impossible_lengths_are_refused_before_a_byte_of_the_body() {
        for length in [0u32, 1, 3, 1001, 1 << 31, u32::MAX] {
            let mut input = BytesMut::from(&b"Q"[..]);
            input.extend_from_slice(&length.to_be_bytes());
            assert_eq!(Frame::take(&mut input, 1000), Err(BadLength), "{length}");
        }
        let mut input = BytesMut::from(&b"Q\0\0\x03\xe8"[..]);
        assert_eq!(Frame::take(&mut input, 1000), Ok(None));
    }

    #[test]
    fn bodies_are_read() {
        let parse = frame(b'P', b"s1\0select $1\0\0\x01\0\0\0\x17");
        assert_eq!(parse.parse(), Ok(Parse { name: b"s1", text: Some("select $1"), types: vec![23] }));
        let bind = frame(b'B', b"\0s1\0\0\x01\0\x01\0\x02\xff\xff\xff\xff\0\0\0\x01x\0\0");
        let bind = bind.bind().unwrap();
        assert_eq!((bind.portal, bind.statement), (&b""[..], &b"s1"[..]));
        assert_eq!(bind.params, [None, Some(&b"x"[..])]);
        assert_eq!((bind.param_formats, bind.result_formats), (vec![1], vec![]));
        assert_eq!(frame(b'E', b"p\0\0\0\0\x05").execute(), Ok((&b"p"[..], 5)));
        assert_eq!(frame(b'E', b"\0\xff\xff\xff\xff").execute(), Ok((&b""[..], 0)));
        assert_eq!(frame(b'D', b"Sx\0").named(), Ok((Object::Statement, &b"x"[..])));
        assert_eq!(frame(b'Q', b"select 1\0").query(), Ok(Some("select 1")));
        assert_eq!(frame(b'Q', b"\xff\0").query(), Ok(None));
    }

    #[test]
    fn bodies_that_do_not_fit_are_refused() {
        for body in [&b""[..], b"select 1", b"select 1\0x", b"a\0b\0"] {
            assert_eq!(frame(b'Q', body).query(), Err(Malformed));
        }
        for body in [&b"\0\0\xff\xff"[..], b"\0\0\0\x01\0\0\0", b"\0\0\0\0x", b"\0"] {
            assert_eq!(frame(b'P', body).parse(), Err(Malformed));
        }
        let negative = b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0";
        for body in [&negative[..], b"\0\0\x7f\xff\0\0", b"\0\0\0\0\0\x01\0\0\0\x09x\0\0"] {
            assert_eq!(frame(b'B', body).bind(), Err(Malformed));
        }
        assert_eq!(frame(b'D', b"Xx\0").named(), Err(Malformed));
        // Names that are not UTF-8.
        assert_eq!(frame(b'D', b"S\xff\0").named(), Err(Malformed));
        assert_eq!(frame(b'E', b"\xff\0\0\0\0\0").execute(), Err(Malformed));
        assert_eq!(frame(b'P', b"\xff\0select 1\0\0\0").parse(), Err(Malformed));
        assert_eq!(frame(b'B', b"p\0\xff\0\0\0\0\0\0\0").bind(), Err(Malformed));
    }

    #[test]
    fn formats_are_for_none_all_or_each() {
        assert_eq!(expand_formats(&[], 2), Some(vec![false, false]));
        assert_eq!(expand_formats(&[1], 2), Some(vec![true, true]));
        assert_eq!(expand_formats(&[0, 1], 2), Some(vec![false, true]));
        assert_eq!(expand_formats(&[0, 1], 3), None);
        assert_eq!(expand_formats(&[2], 1), None);
    }

    /// Any bytes end in a value or in an error.
    #[test]
    fn no_bytes_panic() {
        let mut random = StdRng::seed_from_u64(1);
        let mut read = 0u64;
        for _ in 0..200_000 {
            let length = random.random_range(0..40);
            // Small numbers, so that counts and lengths are near what is there.
            let small = random.random_bool(0.7);
            let body: Vec<u8> = (0..length)
                .map(|_| if small { random.random_range(0..3) } else { random.random() })
                .collect();
            let frame = frame(b'B', &body);
            read += u64::from(frame.bind().is_ok())
                + u64::from(frame.parse().is_ok())
                + u64::from(frame.execute().is_ok())
                + u64::from(frame.named().is_ok())
                + u64::from(frame.query().is_ok());
            let mut input = BytesMut::from(&body[..]);
            while let Ok(Some(_)) = Frame::take(&mut input, 64) {}
        }
        assert!(read > 0, "some of the bytes were messages");
    }
}
