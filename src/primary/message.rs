//! The framing of the protocol: a tag, a length, a body.

use std::{mem::MaybeUninit, pin::Pin, task::ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::PrimaryError;

/// One message of the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    /// What follows the length.
    pub body: Bytes,
}

/// Tag and length.
const HEADER: usize = 5;
/// What one read asks the kernel for, in bytes.
const READ: usize = 64 * 1024;
/// What a read of a connection that waits takes at most, by way of the stack, in bytes.
const READ_IDLE: usize = 16 * 1024;
/// The longest message the primary can send: its own allocation limit (`MaxAllocSize`) and a header.
pub(super) const MAX_MESSAGE: usize = (1 << 30) + 64;

/// Bytes that came in and are not yet read as messages.
#[derive(Debug, Default)]
pub(super) struct Input {
    buffer: BytesMut,
}

impl Input {
    /// The first complete message without taking it: tag and body.
    pub(super) fn peek(&self) -> Result<Option<(u8, &[u8])>, PrimaryError> {
        let Some(length) = self.complete()? else { return Ok(None) };
        let tag = self.buffer.first().copied().unwrap_or_default();
        Ok(self.buffer.get(HEADER..length).map(|body| (tag, body)))
    }

    /// Drops the message that `peek` showed.
    pub(super) fn consume(&mut self) -> Result<(), PrimaryError> {
        if let Some(length) = self.complete()? {
            self.buffer.advance(length);
        }
        Ok(())
    }

    pub(super) fn message(&mut self) -> Result<Option<Message>, PrimaryError> {
        Ok(self.frame()?.map(|mut frame| {
            let tag = frame.first().copied().unwrap_or_default();
            frame.advance(HEADER);
            Message { tag, body: frame }
        }))
    }

    /// The first complete message as it came, header included.
    pub(super) fn frame(&mut self) -> Result<Option<Bytes>, PrimaryError> {
        Ok(self.complete()?.map(|length| self.buffer.split_to(length).freeze()))
    }

    /// Length with the tag of the first message, when all of it is here.
    fn complete(&self) -> Result<Option<usize>, PrimaryError> {
        let Some(&[_, a, b, c, d]) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(4..MAX_MESSAGE).contains(&length) {
            return Err(PrimaryError::Protocol(format!("a message of {length} bytes")));
        }
        Ok((self.buffer.len() > length).then_some(length + 1))
    }

    /// As [`Input::fill`], without memory of its own until something comes. Cancel safe.
    pub(super) async fn fill_idle(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<(), PrimaryError> {
        if !self.buffer.is_empty() {
            return self.fill(stream).await;
        }
        self.buffer = BytesMut::new();
        std::future::poll_fn(|cx| {
            let mut bytes = [const { MaybeUninit::uninit() }; READ_IDLE];
            let mut read = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut read)).map_err(PrimaryError::closed)?;
            self.buffer.extend_from_slice(read.filled());
            match read.filled().is_empty() {
                true => Err(PrimaryError::Closed { source: None }),
                false => Ok(()),
            }
            .into()
        })
        .await
    }

    /// Waits for more bytes. Cancel safe. Memory grows with what has come, never with what a length
    /// field promises.
    pub(super) async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<(), PrimaryError> {
        if self.buffer.capacity() - self.buffer.len() < READ / 4 {
            self.buffer.reserve(READ.max(self.buffer.len()));
        }
        match stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(PrimaryError::Closed { source: None }),
            Ok(_) => Ok(()),
            Err(error) => Err(PrimaryError::closed(error)),
        }
    }
}

/// Reads the parts of a message body; every step can find its end.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn i16(&mut self) -> Result<i16, PrimaryError> {
        let (head, tail) = self.0.split_first_chunk().ok_or_else(cut_off)?;
        self.0 = tail;
        Ok(i16::from_be_bytes(*head))
    }

    pub(super) fn i32(&mut self) -> Result<i32, PrimaryError> {
        let (head, tail) = self.0.split_first_chunk().ok_or_else(cut_off)?;
        self.0 = tail;
        Ok(i32::from_be_bytes(*head))
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], PrimaryError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or_else(cut_off)?;
        self.0 = tail;
        Ok(head)
    }

    /// A NUL-terminated string.
    pub(super) fn text(&mut self) -> Result<&'a str, PrimaryError> {
        let end = self.0.iter().position(|&b| b == 0).ok_or_else(cut_off)?;
        let text = self.bytes(end)?;
        self.bytes(1)?;
        std::str::from_utf8(text).map_err(|_| PrimaryError::Protocol("text that is not UTF-8".into()))
    }
}

fn cut_off() -> PrimaryError {
    PrimaryError::Protocol("a message that is cut off".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finds_messages_however_they_are_cut() {
        let mut bytes = Vec::new();
        for (tag, body) in [(b'A', &b"one"[..]), (b'B', b""), (b'C', &[7; 200_000])] {
            bytes.push(tag);
            bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
            bytes.extend_from_slice(body);
        }
        for step in [1, 3, 7, 65_536, bytes.len()] {
            let mut input = Input::default();
            let mut seen = Vec::new();
            for mut part in bytes.chunks(step) {
                input.fill(&mut part).await.unwrap();
                while let Some(message) = input.message().unwrap() {
                    seen.push((message.tag, message.body.len()));
                }
                // A slice hands out everything it has unless the buffer is short.
                while !part.is_empty() {
                    input.fill(&mut part).await.unwrap();
                    while let Some(message) = input.message().unwrap() {
                        seen.push((message.tag, message.body.len()));
                    }
                }
            }
            assert_eq!(seen, [(b'A', 3), (b'B', 0), (b'C', 200_000)]);
            assert!(input.buffer.is_empty());
        }
    }

    #[tokio::test]
    async fn a_promised_length_allocates_nothing() {
        let mut input = Input::default();
        input.fill(&mut &b"d\x3f\xff\xff\xff12345"[..]).await.unwrap();
        assert_eq!(input.peek().unwrap(), None);
        assert!(input.buffer.capacity() < 2 * READ);
        for bad in [&b"d\0\0\0\x03"[..], b"d\xff\xff\xff\xff"] {
            let mut input = Input::default();
            input.fill(&mut &bad[..]).await.unwrap();
            assert!(input.message().is_err());
        }
        assert!(matches!(input.fill(&mut &b""[..]).await, Err(PrimaryError::Closed { .. })));
    }
}
