//! One client's connection: its stream, what came in and what is to go out.

use std::{future::poll_fn, mem::MaybeUninit, pin::Pin, sync::Arc, task::ready, time::Duration};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::{
    backend,
    error::{Problem, Report},
    frame::Frame,
    lobby::Guest,
    stream::ClientStream,
};

/// What one read asks the kernel for, in bytes.
const READ: usize = 8 * 1024;
/// What an idle connection keeps for its next answers, in bytes.
const OUTPUT_IDLE: usize = 4 * 1024;
/// Output beyond this is sent before more is made.
pub(super) const OUTPUT_HIGH: usize = 64 * 1024;
/// How long a last message may take.
const FAREWELL: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Client {
    stream: ClientStream,
    pub(super) input: BytesMut,
    pub(super) output: BytesMut,
    /// Until it has logged in: told when we wait for the client.
    pub(super) guest: Option<Arc<Guest>>,
}

/// The client is gone, or is to be.
#[derive(Debug)]
pub(super) enum End {
    /// By its own wish, or by a broken connection.
    Closed,
    /// With an error that it is told.
    Fatal(Problem),
}

impl Client {
    pub(super) fn new(stream: ClientStream) -> Client {
        Client { stream, input: BytesMut::new(), output: BytesMut::new(), guest: None }
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    /// What SCRAM can bind a login to: the hash of the certificate that the client was shown.
    pub(super) fn end_point(&self) -> Option<&[u8]> {
        self.stream.end_point()
    }

    /// Waits for more input. Cancel safe. Memory grows with what has come: what waits for the beginning of a
    /// message has no buffer.
    pub(super) async fn fill(&mut self) -> Result<(), End> {
        if self.input.is_empty() {
            return self.fill_empty().await;
        }
        if self.input.capacity() - self.input.len() < READ / 2 {
            self.input.reserve(READ.max(self.input.len()));
        }
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) | Err(_) => Err(End::Closed),
            Ok(_) => Ok(()),
        }
    }

    /// Reads by way of the stack.
    async fn fill_empty(&mut self) -> Result<(), End> {
        poll_fn(|cx| {
            let mut bytes = [const { MaybeUninit::uninit() }; READ];
            let mut read = ReadBuf::uninit(&mut bytes);
            let polled = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read));
            self.input.extend_from_slice(read.filled());
            match polled.is_err() || read.filled().is_empty() {
                true => Err(End::Closed),
                false => Ok(()),
            }
            .into()
        })
        .await
    }

    /// Gives memory back that an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.output.is_empty() && self.output.capacity() > OUTPUT_IDLE {
            self.output = BytesMut::new();
        }
    }

    /// The next message of the login phase, of at most `max` bytes.
    pub(super) async fn frame(&mut self, max: u32) -> Result<Frame, End> {
        self.awaits(true);
        loop {
            let frame = Frame::take(&mut self.input, max);
            let frame = frame.map_err(|e| End::Fatal(Problem::Protocol(e.to_string())))?;
            match frame {
                Some(frame) => {
                    self.awaits(false);
                    return Ok(frame);
                }
                None => self.fill().await?,
            }
        }
    }

    fn awaits(&self, awaits: bool) {
        if let Some(guest) = &self.guest {
            guest.awaits(awaits);
        }
    }

    /// Sends everything that was written. Cancel safe.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        while self.output.has_remaining() {
            // Takes what was written off the buffer, so a cancelled flush goes on where it was.
            self.stream.write_buf(&mut self.output).await.map_err(|_| End::Closed)?;
        }
        self.stream.flush().await.map_err(|_| End::Closed)
    }

    /// Sends a last error and closes. Errors of the connection end it as well, and a client that does
    /// not read is not waited for.
    pub(super) async fn end(mut self, last: Option<&Report>) {
        if let Some(report) = last {
            backend::error_response(&mut self.output, report);
        }
        let farewell = async {
            if self.flush().await.is_ok() {
                let _ = self.stream.shutdown().await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}
