//! Reads fields from a message, never past its end.

use bytes::Bytes;

use super::DecodeError;

/// A position in one message's bytes. Slices share the message's memory.
#[derive(Debug)]
pub(super) struct Cursor {
    what: &'static str,
    bytes: Bytes,
    at: usize,
}

impl Cursor {
    pub(super) fn new(what: &'static str, bytes: Bytes) -> Cursor {
        Cursor { what, bytes, at: 0 }
    }

    /// Names what is being read, for errors.
    pub(super) fn set_what(&mut self, what: &'static str) {
        self.what = what;
    }

    pub(super) fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let start = self.at;
        self.skip(length)?;
        Ok(self.bytes.slice(start..self.at))
    }

    /// Where the cursor stands, for [`Cursor::since`].
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Everything from an earlier position to here.
    pub(super) fn since(&self, position: usize) -> Bytes {
        self.bytes.slice(position.min(self.at)..self.at)
    }

    pub(super) fn skip(&mut self, length: usize) -> Result<(), DecodeError> {
        let left = self.bytes.len() - self.at;
        if left < length {
            return Err(DecodeError::Short { what: self.what, wanted: length - left });
        }
        self.at += length;
        Ok(())
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(super) fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A string up to its terminating zero byte.
    pub(super) fn string(&mut self) -> Result<String, DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|b| *b == 0);
        let length = length.ok_or(DecodeError::Short { what: self.what, wanted: 1 })?;
        let text = rest.get(..length).unwrap_or_default().to_vec();
        self.skip(length + 1)?;
        String::from_utf8(text).map_err(|_| DecodeError::Utf8 { what: self.what })
    }

    pub(super) fn finish(self) -> Result<(), DecodeError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { what: self.what, extra }),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let start = self.at;
        self.skip(N)?;
        let bytes = self.bytes.get(start..self.at).and_then(|bytes| bytes.first_chunk());
        bytes.copied().ok_or(DecodeError::Short { what: self.what, wanted: N })
    }
}
