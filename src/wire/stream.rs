//! A client's bytes, whatever carries them.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::server::TlsStream;

#[derive(Debug)]
pub(super) enum ClientStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<Encrypted>),
}

#[derive(Debug)]
pub(super) struct Encrypted {
    pub(super) stream: TlsStream<TcpStream>,
    /// The hash of the certificate that this connection was shown.
    pub(super) end_point: Option<Arc<[u8]>>,
}

impl ClientStream {
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, ClientStream::Tls(_))
    }

    /// What SCRAM can bind a login to (`tls-server-end-point`).
    pub(super) fn end_point(&self) -> Option<&[u8]> {
        match self {
            ClientStream::Tls(encrypted) => encrypted.end_point.as_deref(),
            ClientStream::Tcp(_) | ClientStream::Unix(_) => None,
        }
    }

    /// Whether a byte is here that nobody asked for yet. It is not given back.
    pub(super) fn has_more(&self) -> bool {
        let mut byte = [0];
        let read = match self {
            ClientStream::Tcp(stream) => stream.try_read(&mut byte),
            ClientStream::Unix(stream) => stream.try_read(&mut byte),
            ClientStream::Tls(_) => return false,
        };
        matches!(read, Ok(1))
    }
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            ClientStream::Tcp($stream) => $call,
            ClientStream::Unix($stream) => $call,
            ClientStream::Tls(encrypted) => {
                let $stream = &mut encrypted.stream;
                $call
            }
        }
    };
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_shutdown(cx))
    }
}
