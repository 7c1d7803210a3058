//! Reads fields from a message, never past its end.

use bytes::Bytes;

use super::DecodeError;

/// A position in one message's bytes. Slices share the message's memory.
#[derive(Debug)]
pub(super) struct Cursor {
    what: &'static str,
    bytes: Bytes,
}

impl Cursor {
    pub(super) fn new(what: &'static str, bytes: Bytes) -> Cursor {
        Cursor { what, bytes }
    }

    /// Names what is being read, for errors.
    pub(super) fn set_what(&mut self, what: &'static str) {
        self.what = what;
    }

    pub(super) fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if self.bytes.len() < length {
            return Err(DecodeError::Short { what: self.what, wanted: length - self.bytes.len() });
        }
        Ok(self.bytes.split_to(length))
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
        let length = self.bytes.iter().position(|b| *b == 0);
        let length = length.ok_or(DecodeError::Short { what: self.what, wanted: 1 })?;
        let text = self.take(length)?;
        self.take(1)?;
        String::from_utf8(text.into()).map_err(|_| DecodeError::Utf8 { what: self.what })
    }

    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing { what: self.what, extra: self.bytes.len() })
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(bytes.as_ref()).map_err(|_| DecodeError::Short { what: self.what, wanted: N })
    }
}
