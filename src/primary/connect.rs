//! From a [`Target`] to a byte stream: TCP or a Unix socket, encrypted as sslmode asks.

use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};

use super::{Host, PrimaryError, SslMode, Target};

/// A connection's bytes, whatever carries them.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// How one attempt treats encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    None,
    IfOffered,
    Required,
}

impl Target {
    /// The attempts at one host, in order; the second only when the first was refused for being
    /// encrypted or for not being (libpq's `allow` and `prefer`).
    pub(super) fn attempts(&self, host: &Host) -> &'static [Encryption] {
        match (host, self.ssl_mode) {
            (Host::Unix { .. }, _) | (_, SslMode::Disable) => &[Encryption::None],
            (_, SslMode::Allow) => &[Encryption::None, Encryption::Required],
            (_, SslMode::Prefer) => &[Encryption::IfOffered, Encryption::None],
            (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => &[Encryption::Required],
        }
    }

    /// One attempt at one host, within the connect timeout.
    pub(super) async fn reach(&self, host: &Host, encryption: Encryption) -> Result<Stream, PrimaryError> {
        let attempt = async {
            match host {
                Host::Unix { .. } => match UnixStream::connect(host.socket()).await {
                    Ok(stream) => Ok(Stream::Unix(stream)),
                    Err(error) => Err(unreachable(host, error)),
                },
                Host::Tcp { name, address, port } => {
                    let stream = tcp(name, *address, *port).await.map_err(|e| unreachable(host, e))?;
                    self.encrypt(stream, host, name, encryption).await
                }
            }
        };
        timeout(self.connect_timeout, attempt).await.unwrap_or_else(|_| Err(self.timed_out(host)))
    }

    pub(super) fn timed_out(&self, host: &Host) -> PrimaryError {
        let seconds = self.connect_timeout.as_secs_f32();
        unreachable(host, io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {seconds} s")))
    }

    async fn encrypt(
        &self,
        mut stream: TcpStream,
        host: &Host,
        name: &str,
        encryption: Encryption,
    ) -> Result<Stream, PrimaryError> {
        let failed = |message: &dyn std::fmt::Display| PrimaryError::Tls {
            host: host.to_string(),
            message: message.to_string(),
        };
        let config = match (&self.tls, encryption) {
            (_, Encryption::None) => return Ok(Stream::Tcp(stream)),
            (Some(config), _) => Arc::clone(config),
            (None, _) => return Err(failed(&"it is not set up for this target")),
        };
        // SSLRequest: length 8, code 80877103.
        stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.map_err(|e| unreachable(host, e))?;
        // One byte and no more: whatever a man in the middle sends along in clear stays unread in the
        // socket, where the handshake fails on it (CVE-2021-23222).
        match stream.read_u8().await.map_err(|e| unreachable(host, e))? {
            b'S' => {}
            b'N' if encryption == Encryption::IfOffered => return Ok(Stream::Tcp(stream)),
            b'N' => {
                return Err(failed(&"the server does not offer TLS: set ssl = on there, or sslmode=prefer"));
            }
            // An error before TLS is anybody's text: it is not shown.
            _ => return Err(failed(&"the server did not answer the request for TLS")),
        }
        let server_name = match ServerName::try_from(name.to_owned()) {
            Ok(name) => name,
            // A name that no certificate can have; only modes that ask for none get past verification.
            Err(_) => {
                ServerName::IpAddress(stream.peer_addr().map_err(|e| unreachable(host, e))?.ip().into())
            }
        };
        match TlsConnector::from(config).connect(server_name, stream).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) => Err(failed(&error)),
        }
    }
}

fn unreachable(host: &Host, source: io::Error) -> PrimaryError {
    PrimaryError::Unreachable { host: host.to_string(), source }
}

/// Tries each address of the name in turn.
async fn tcp(name: &str, address: Option<std::net::IpAddr>, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match address {
        Some(address) => vec![SocketAddr::new(address, port)],
        None => tokio::net::lookup_host((name, port)).await?.collect(),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                let keepalive = TcpKeepalive::new()
                    .with_time(Duration::from_secs(30))
                    .with_interval(Duration::from_secs(10));
                SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Stream {
    /// Has the socket served by the current runtime: a second descriptor takes the place of the first,
    /// which is registered with the runtime that opened it.
    pub(super) fn rehome(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => *stream = rehomed(stream)?,
            Stream::Tls(stream) => {
                let stream = stream.get_mut().0;
                *stream = rehomed(stream)?;
            }
            Stream::Unix(stream) => {
                let second = stream.as_fd().try_clone_to_owned()?;
                *stream = UnixStream::from_std(second.into())?;
            }
        }
        Ok(())
    }
}

fn rehomed(stream: &TcpStream) -> io::Result<TcpStream> {
    // Both share one description, which does not block.
    TcpStream::from_std(stream.as_fd().try_clone_to_owned()?.into())
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Tls($stream) => $call,
            Stream::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
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
