//! The first packets of a connection: requests for encryption, a cancel request, or the startup
//! packet.
//!
//! Every read takes exactly what was announced, so that nothing sent in clear before a TLS handshake
//! can end up behind it (CVE-2021-23214).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::{
    error::Problem,
    frame::Fields,
    startup::Startup,
    stream::{ClientStream, Encrypted},
    tls::{ALPN, Tls},
};

/// `MAX_STARTUP_PACKET_LENGTH`
const MAX_PACKET: usize = 10_000;
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
/// The first byte of a TLS handshake; a packet of ours that began so would have 369 MB.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a connection turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Cancel { pid: i32, key: Vec<u8> },
    Startup(Startup),
}

/// The connection ends here: with an error, or silently as PostgreSQL does it.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) stream: Option<ClientStream>,
    pub(super) problem: Option<Problem>,
}

impl Refused {
    fn silently() -> Refused {
        Refused { stream: None, problem: None }
    }

    fn with(stream: ClientStream, problem: Problem) -> Refused {
        Refused { stream: Some(stream), problem: Some(problem) }
    }
}

/// Reads up to and including the startup packet or cancel request; encrypts on the way if asked.
/// The caller bounds the time.
pub(super) async fn open(
    mut stream: ClientStream,
    tls: Option<&Tls>,
) -> Result<(ClientStream, Opening), Refused> {
    if let (ClientStream::Tcp(tcp), Some(tls)) = (&stream, tls) {
        let mut first = [0];
        if matches!(tcp.peek(&mut first).await, Ok(1)) && first == [TLS_HANDSHAKE] {
            stream = encrypt(stream, tls, true).await?;
        }
    }
    let (mut ssl_asked, mut gss_asked) = (stream.is_encrypted(), false);
    loop {
        let Some((code, body)) = packet(&mut stream).await? else {
            return Err(Refused::with(stream, Problem::Startup("invalid length of startup packet".into())));
        };
        match code {
            // At most one of each, in a loop (CVE-2026-6479).
            SSL_REQUEST if !ssl_asked => {
                ssl_asked = true;
                if stream.has_more() {
                    return Err(Refused::with(stream, Problem::UnencryptedData("SSL")));
                }
                match tls.filter(|_| matches!(stream, ClientStream::Tcp(_))) {
                    Some(tls) => {
                        answer(&mut stream, b'S').await?;
                        stream = encrypt(stream, tls, false).await?;
                        gss_asked = true;
                    }
                    None => answer(&mut stream, b'N').await?,
                }
            }
            GSSENC_REQUEST if !gss_asked => {
                gss_asked = true;
                if stream.has_more() {
                    return Err(Refused::with(stream, Problem::UnencryptedData("GSSAPI encryption")));
                }
                answer(&mut stream, b'N').await?;
            }
            CANCEL_REQUEST => return Ok((stream, cancel(&body).ok_or_else(Refused::silently)?)),
            _ => {
                return match Startup::read(code, &body) {
                    Ok(startup) => Ok((stream, Opening::Startup(startup))),
                    Err(problem) => Err(Refused::with(stream, problem)),
                };
            }
        }
    }
}

fn cancel(body: &[u8]) -> Option<Opening> {
    let mut fields = Fields(body);
    let pid = fields.i32().ok()?;
    (4..=256).contains(&fields.0.len()).then(|| Opening::Cancel { pid, key: fields.0.to_vec() })
}

/// Code and body of the next packet; `None` for an impossible length.
async fn packet(stream: &mut ClientStream) -> Result<Option<(u32, Vec<u8>)>, Refused> {
    let closed = |_| Refused::silently();
    let length = stream.read_u32().await.map_err(closed)?;
    if length.to_be_bytes().first() == Some(&TLS_HANDSHAKE) {
        // TLS where there is none: an answer in clear would only be garbage to it.
        return Err(Refused::silently());
    }
    let length = length as usize;
    if !(8..=MAX_PACKET).contains(&length) {
        return Ok(None);
    }
    let code = stream.read_u32().await.map_err(closed)?;
    let mut body = vec![0; length - 8];
    stream.read_exact(&mut body).await.map_err(closed)?;
    Ok(Some((code, body)))
}

async fn answer(stream: &mut ClientStream, byte: u8) -> Result<(), Refused> {
    let closed = |_| Refused::silently();
    stream.write_all(&[byte]).await.map_err(closed)?;
    stream.flush().await.map_err(closed)
}

async fn encrypt(stream: ClientStream, tls: &Tls, direct: bool) -> Result<ClientStream, Refused> {
    let ClientStream::Tcp(tcp) = stream else { return Err(Refused::silently()) };
    let identity = tls.identity();
    // Its own allocation, so that connections without TLS do not carry its size.
    let handshake = Box::pin(TlsAcceptor::from(identity.config.clone()).accept(tcp));
    let stream = handshake.await.map_err(|error| {
        tracing::debug!("a TLS handshake failed: {error}");
        Refused::silently()
    })?;
    // Without it a page of a browser could be made to talk to us (ALPACA).
    if direct && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(Refused::silently());
    }
    Ok(ClientStream::Tls(Box::new(Encrypted { stream, end_point: identity.end_point.clone() })))
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;
    use crate::wire::startup::PROTOCOL_3_0;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = (body.len() as u32 + 8).to_be_bytes().to_vec();
        packet.extend_from_slice(&code.to_be_bytes());
        packet.extend_from_slice(body);
        packet
    }

    /// Sends each packet, the next one once the one before it was answered with a byte.
    async fn opened(packets: &[&[u8]]) -> (Result<Opening, Option<Problem>>, Vec<u8>) {
        let (mut client, server) = UnixStream::pair().unwrap();
        let serve = async move {
            match open(ClientStream::Unix(server), None).await {
                Ok((_, opening)) => Ok(opening),
                Err(refused) => Err(refused.problem),
            }
        };
        let talk = async move {
            let mut answers = Vec::new();
            for (i, packet) in packets.iter().enumerate() {
                if client.write_all(packet).await.is_err() {
                    break;
                }
                if i + 1 < packets.len() {
                    match client.read_u8().await {
                        Ok(byte) => answers.push(byte),
                        Err(_) => break,
                    }
                }
            }
            // A reset is an end as well.
            let _ = client.shutdown().await;
            let _ = client.read_to_end(&mut answers).await;
            answers
        };
        tokio::join!(serve, talk)
    }

    #[tokio::test]
    async fn encryption_is_refused_once_each() {
        let (ssl, gss) = (packet(SSL_REQUEST, b""), packet(GSSENC_REQUEST, b""));
        let cancel = packet(CANCEL_REQUEST, b"\0\0\0\x07abcd");
        let expected = Ok(Opening::Cancel { pid: 7, key: b"abcd".to_vec() });
        assert_eq!(opened(&[&ssl, &gss, &cancel]).await, (expected, b"NN".to_vec()));
        let twice = |minor| Err(Some(Problem::ProtocolVersion { major: 1234, minor }));
        assert_eq!(opened(&[&ssl, &ssl]).await.0, twice(5679));
        assert_eq!(opened(&[&gss, &ssl, &gss, &ssl]).await, (twice(5680), b"NN".to_vec()));
    }

    #[tokio::test]
    async fn what_comes_before_encryption_is_refused() {
        let startup = packet(PROTOCOL_3_0, b"user\0a\0\0");
        for (code, name) in [(SSL_REQUEST, "SSL"), (GSSENC_REQUEST, "GSSAPI encryption")] {
            let both = [packet(code, b""), startup.clone()].concat();
            assert_eq!(opened(&[&both]).await.0, Err(Some(Problem::UnencryptedData(name))));
        }
    }

    #[tokio::test]
    async fn bad_packets_are_refused() {
        for bytes in [&[0, 0, 0, 7, 0, 3, 0, 0][..], &[0xff; 8], &[0, 0, 0x27, 0x11, 0, 3, 0, 0]] {
            let opening = opened(&[bytes]).await.0;
            assert!(
                matches!(&opening, Err(Some(Problem::Startup(m))) if m.contains("length")),
                "{opening:?}"
            );
        }
        for bytes in [
            &b""[..],
            &packet(CANCEL_REQUEST, b"\0\0\0\x01abc"),
            &packet(CANCEL_REQUEST, &[0; 261]),
            &packet(CANCEL_REQUEST, b""),
            &[TLS_HANDSHAKE, 3, 1, 0, 5, 1, 0, 0, 1, 0],
            &packet(PROTOCOL_3_0, b"user\0a\0\0")[..12],
        ] {
            assert_eq!(opened(&[bytes]).await.0, Err(None), "{bytes:?}");
        }
        let refused = opened(&[&packet(4 << 16, b"\0")]).await.0;
        assert_eq!(refused, Err(Some(Problem::ProtocolVersion { major: 4, minor: 0 })));
    }
}
