//! The first packets of a connection: requests for encryption, a cancel request, or the startup
//! packet (`ProcessStartupPacket` in `src/backend/tcop/backend_startup.c`).
//!
//! Every read takes exactly what was announced, so that nothing sent in clear before a TLS handshake
//! can end up behind it (CVE-2021-23214).

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::{
    error::Problem,
    frame::Fields,
    stream::{ALPN, ClientStream},
};

/// `MAX_STARTUP_PACKET_LENGTH`
const MAX_PACKET: usize = 10_000;
/// `NAMEDATALEN` - 1
const MAX_NAME: usize = 63;
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
/// The newest protocol that we speak.
pub(super) const PROTOCOL_3_2: u32 = 196_610;
const PROTOCOL_3_0: u32 = 196_608;

/// What a connection turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Cancel { pid: i32, key: Vec<u8> },
    Startup(Startup),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Startup {
    pub(super) user: String,
    pub(super) database: String,
    /// As agreed: 3.0 to 3.2.
    pub(super) protocol: u32,
    /// Whether the client has to be told what was agreed.
    pub(super) negotiate: bool,
    /// `_pq_.*` options, none of which we know.
    pub(super) unknown: Vec<String>,
    /// Everything but user, database and protocol options.
    pub(super) parameters: Vec<(String, String)>,
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
    tls: Option<&Arc<ServerConfig>>,
) -> Result<(ClientStream, Opening), Refused> {
    if let (ClientStream::Tcp(tcp), Some(_)) = (&stream, tls) {
        let mut first = [0];
        let direct = matches!(tcp.peek(&mut first).await, Ok(1)) && first == [0x16];
        if direct {
            stream = encrypt(stream, tls, true).await?;
        }
    }
    let (mut ssl_asked, mut gss_asked) = (stream.is_encrypted(), false);
    loop {
        let Some((code, body)) = packet(&mut stream).await? else {
            let message = "invalid length of startup packet".to_owned();
            return Err(Refused::with(stream, Problem::Startup(message)));
        };
        match code {
            // At most one of each, in a loop (CVE-2026-6479).
            SSL_REQUEST if !ssl_asked => {
                ssl_asked = true;
                let offered = tls.is_some() && matches!(stream, ClientStream::Tcp(_));
                answer(&mut stream, if offered { b'S' } else { b'N' }).await?;
                if offered {
                    stream = encrypt(stream, tls, false).await?;
                    gss_asked = true;
                }
            }
            GSSENC_REQUEST if !gss_asked => {
                gss_asked = true;
                answer(&mut stream, b'N').await?;
            }
            CANCEL_REQUEST => {
                let mut fields = Fields(&body);
                let Ok(pid) = fields.i32() else { return Err(Refused::silently()) };
                if !(4..=256).contains(&fields.0.len()) {
                    return Err(Refused::silently());
                }
                let key = fields.0.to_vec();
                return Ok((stream, Opening::Cancel { pid, key }));
            }
            _ => {
                return match startup(code, &body) {
                    Ok(startup) => Ok((stream, Opening::Startup(startup))),
                    Err(problem) => Err(Refused::with(stream, problem)),
                };
            }
        }
    }
}

/// Code and body of the next packet; `None` for an impossible length.
async fn packet(stream: &mut ClientStream) -> Result<Option<(u32, Vec<u8>)>, Refused> {
    let closed = |_| Refused::silently();
    let length = stream.read_u32().await.map_err(closed)? as usize;
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

async fn encrypt(
    stream: ClientStream,
    tls: Option<&Arc<ServerConfig>>,
    direct: bool,
) -> Result<ClientStream, Refused> {
    let (ClientStream::Tcp(tcp), Some(config)) = (stream, tls) else { return Err(Refused::silently()) };
    let stream = TlsAcceptor::from(Arc::clone(config)).accept(tcp).await.map_err(|error| {
        tracing::debug!("a TLS handshake failed: {error}");
        Refused::silently()
    })?;
    // Without it a page of a browser could be made to talk to us (ALPACA).
    if direct && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(Refused::silently());
    }
    Ok(ClientStream::Tls(Box::new(stream)))
}

fn startup(code: u32, body: &[u8]) -> Result<Startup, Problem> {
    let (major, minor) = (code >> 16, code & 0xffff);
    if major != 3 {
        return Err(Problem::ProtocolVersion { major, minor });
    }
    let layout =
        || Problem::Startup("invalid startup packet layout: expected terminator as last byte".into());
    let text = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).map(str::to_owned);
        text.map_err(|_| Problem::Startup("invalid startup packet: it is not UTF-8".into()))
    };
    let mut fields = Fields(body);
    let (mut user, mut database) = (String::new(), String::new());
    let (mut unknown, mut parameters) = (Vec::new(), Vec::new());
    loop {
        let name = text(fields.string().map_err(|_| layout())?)?;
        if name.is_empty() {
            fields.end().map_err(|_| layout())?;
            break;
        }
        let value = text(fields.string().map_err(|_| layout())?)?;
        match name.as_str() {
            "user" => user = value,
            "database" => database = value,
            "replication" if is_off(&value) => {}
            "replication" => return Err(Problem::Replication),
            n if n.starts_with("_pq_.") => unknown.push(name),
            _ => parameters.push((name, value)),
        }
    }
    if user.is_empty() {
        return Err(Problem::Startup("no PostgreSQL user name specified in startup packet".into()));
    }
    if database.is_empty() {
        database.clone_from(&user);
    }
    if user.len() > MAX_NAME || database.len() > MAX_NAME {
        return Err(Problem::Startup("a name in the startup packet is longer than 63 bytes".into()));
    }
    let negotiate = code > PROTOCOL_3_2 || !unknown.is_empty();
    let protocol = code.clamp(PROTOCOL_3_0, PROTOCOL_3_2);
    Ok(Startup { user, database, protocol, negotiate, unknown, parameters })
}

fn is_off(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "false" | "off" | "no" | "0" | "f" | "n")
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use tokio::net::UnixStream;

    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = (body.len() as u32 + 8).to_be_bytes().to_vec();
        packet.extend_from_slice(&code.to_be_bytes());
        packet.extend_from_slice(body);
        packet
    }

    async fn opened(bytes: &[u8]) -> (Result<Opening, Option<Problem>>, Vec<u8>) {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let result = match open(ClientStream::Unix(server), None).await {
            Ok((_, opening)) => Ok(opening),
            Err(refused) => Err(refused.problem),
        };
        let mut answers = Vec::new();
        // A reset is an end as well.
        let _ = client.read_to_end(&mut answers).await;
        (result, answers)
    }

    #[tokio::test]
    async fn startup_packets_are_read() {
        let body = b"user\0app\0_pq_.grease\0x\0application_name\0psql\0replication\0off\0\0";
        let (opening, _) = opened(&packet(PROTOCOL_3_0 + 9999, body)).await;
        let Ok(Opening::Startup(startup)) = opening else { panic!("{opening:?}") };
        assert_eq!((startup.user.as_str(), startup.database.as_str()), ("app", "app"));
        assert_eq!((startup.protocol, startup.negotiate), (PROTOCOL_3_2, true));
        assert_eq!(startup.unknown, ["_pq_.grease"]);
        assert_eq!(startup.parameters, [("application_name".to_owned(), "psql".to_owned())]);

        let (opening, answers) = opened(
            &[
                packet(SSL_REQUEST, b""),
                packet(GSSENC_REQUEST, b""),
                packet(CANCEL_REQUEST, b"\0\0\0\x07abcd"),
            ]
            .concat(),
        )
        .await;
        assert_eq!(opening, Ok(Opening::Cancel { pid: 7, key: b"abcd".to_vec() }));
        assert_eq!(answers, b"NN");
    }

    #[tokio::test]
    async fn bad_packets_are_refused() {
        let bad: [(&[u8], &str); 8] = [
            (&[0, 0, 0, 7, 0, 3, 0, 0], "length"),
            (&[0xff; 8], "length"),
            (&[0, 0, 0x27, 0x11, 0, 3, 0, 0], "length"),
            (&packet(PROTOCOL_3_0, b"user\0a"), "terminator"),
            (&packet(PROTOCOL_3_0, b"user\0a\0\0x"), "terminator"),
            (&packet(PROTOCOL_3_0, b"user\0"), "terminator"),
            (&packet(PROTOCOL_3_0, b"\0"), "user name"),
            (&packet(PROTOCOL_3_0, b"user\0\xff\0\0"), "UTF-8"),
        ];
        for (bytes, part) in bad {
            let (opening, _) = opened(bytes).await;
            let Err(Some(Problem::Startup(message))) = opening else { panic!("{bytes:?}: {opening:?}") };
            assert!(message.contains(part), "{message}");
        }
        for (code, expected) in [
            (2 << 16, Problem::ProtocolVersion { major: 2, minor: 0 }),
            (4 << 16, Problem::ProtocolVersion { major: 4, minor: 0 }),
        ] {
            assert_eq!(opened(&packet(code, b"\0")).await.0, Err(Some(expected)));
        }
        let replication = packet(PROTOCOL_3_0, b"user\0a\0replication\0database\0\0");
        assert_eq!(opened(&replication).await.0, Err(Some(Problem::Replication)));
        let twice = [packet(SSL_REQUEST, b""), packet(SSL_REQUEST, b"")].concat();
        assert_eq!(opened(&twice).await.0, Err(Some(Problem::ProtocolVersion { major: 1234, minor: 5679 })));
        assert_eq!(opened(b"").await.0, Err(None));
        assert_eq!(opened(&packet(CANCEL_REQUEST, b"\0\0\0\x01abc")).await.0, Err(None));
    }

    #[tokio::test]
    async fn no_bytes_panic() {
        let mut random = StdRng::seed_from_u64(2);
        for _ in 0..2000 {
            let length = random.random_range(0..60);
            let body: Vec<u8> = (0..length)
                .map(|_| *b"user\0\0\0a_pq.\xff".get(random.random_range(0..13)).unwrap_or(&0))
                .collect();
            let code = if random.random_bool(0.8) { PROTOCOL_3_0 } else { random.random() };
            let (opening, _) = opened(&packet(code, &body)).await;
            if let Ok(Opening::Startup(startup)) = opening {
                assert!(!startup.user.is_empty());
            }
        }
    }
}
