//! A reader over bytes that cannot run past their end: binary fields and pieces of text.

use super::{CodecError, Result};

const SHORT: CodecError = CodecError::Malformed("more bytes");
const LONG: CodecError = CodecError::Malformed("fewer bytes");

pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything must have been read.
    pub(super) fn finish(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(LONG) }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn i16(&mut self) -> Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn f64(&mut self) -> Result<f64> {
        self.array().map(f64::from_be_bytes)
    }

    /// A count that cannot be negative. It is not to be allocated by: what follows may be shorter.
    pub(super) fn count(&mut self) -> Result<usize> {
        usize::try_from(self.i32()?).map_err(|_| CodecError::Malformed("a count"))
    }

    /// A 32-bit length and that many bytes; -1 is NULL.
    pub(super) fn field(&mut self) -> Result<Option<&'a [u8]>> {
        match self.i32()? {
            -1 => Ok(None),
            len => {
                let len = usize::try_from(len).map_err(|_| CodecError::Malformed("a length"))?;
                self.take(len).map(Some)
            }
        }
    }

    /// A string that ends with a zero byte, without it.
    pub(super) fn c_string(&mut self) -> Result<&'a [u8]> {
        let len = self.rest.iter().position(|byte| *byte == 0).ok_or(SHORT)?;
        let taken = self.take(len)?;
        self.u8()?;
        Ok(taken)
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Skips `byte` if it is next.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Skips `prefix` if it is next.
    pub(super) fn eat_all(&mut self, prefix: &[u8]) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    pub(super) fn expect(&mut self, byte: u8, expected: &'static str) -> Result<()> {
        if self.eat(byte) { Ok(()) } else { Err(CodecError::Malformed(expected)) }
    }

    /// The bytes up to the first for which `stop` holds, or all.
    pub(super) fn until(&mut self, stop: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self.rest.iter().position(|byte| stop(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    /// One or more decimal digits, as their bytes.
    pub(super) fn digits(&mut self) -> Result<&'a [u8]> {
        let digits = self.until(|byte| !byte.is_ascii_digit());
        if digits.is_empty() { Err(CodecError::Malformed("a digit")) } else { Ok(digits) }
    }

    /// An unsigned decimal number.
    pub(super) fn number(&mut self) -> Result<u64> {
        super::integer::parse_u64(self.digits()?)
    }

    /// Exactly two decimal digits, at most 99.
    pub(super) fn two_digits(&mut self) -> Result<i64> {
        match self.take(2)? {
            [tens, ones] if tens.is_ascii_digit() && ones.is_ascii_digit() => {
                Ok(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
            }
            _ => Err(CodecError::Malformed("two digits")),
        }
    }
}
