//! TLS for clients: asked for and direct, with client certificates, bound to the login, read again; and
//! the Unix socket.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use millpond::{config::Config, daemon::Daemon, lifecycle::shutdown::Shutdown};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_postgres::{
    config::{ChannelBinding as Wanted, SslMode, SslNegotiation},
    tls::{ChannelBinding, TlsConnect, TlsStream},
};
use tokio_rustls::{
    TlsConnector, client,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        version::{TLS12, TLS13},
    },
};

use super::raw::{RawClient, startup};
use crate::support::{
    client::{execute, value},
    postgres::{Database, newest},
    wait::wait_until,
};

const ALPN: &[u8] = b"postgresql";

/// An authority with certificates in files.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("a certificate");
        fs::write(folder.path().join("ca.crt"), own.pem()).expect("a file");
        Authority { folder, issuer: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `<name>.crt` and `<name>.key`, in place of older ones.
    fn issue(&self, name: &str) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        fs::write(self.path(&format!("{name}.crt")), certificate.pem()).expect("a file");
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("a file");
    }

    fn listen(&self) -> String {
        let (cert, key) = (self.path("server.crt"), self.path("server.key"));
        format!("[listen.tls]\ncert = \"{}\"\nkey = \"{}\"\n", cert.display(), key.display())
    }
}

/// Millpond with a port of these settings.
struct Port {
    daemon: Daemon,
    shutdown: Shutdown,
    database: Database,
}

impl Port {
    async fn open(listen: &str, more: &str) -> Port {
        let database = newest().database().await;
        let primary = database.connect().await;
        execute(&primary, "create table cached (id int primary key); alter role postgres password 'sesame'")
            .await;
        execute(&primary, &include_str!("../../sql/verifier.sql").replace("<role>", "postgres")).await;
        let toml = format!(
            "[primary]\nurl = \"{}\"\n[admin]\nlisten = \"\"\n[[tables]]\nmatch = [\"cached\"]\n\
             [listen]\naddress = \"127.0.0.1:0\"\n{listen}\n{more}",
            database.url
        );
        let config = Config::from_toml(&toml).unwrap_or_else(|errors| panic!("{errors}\n{toml}"));
        let shutdown = Shutdown::new();
        let daemon = Daemon::start(config, shutdown.clone()).expect("the daemon starts");
        Port { daemon, shutdown, database }
    }

    fn number(&self) -> u16 {
        self.daemon.address().port()
    }

    /// A login with TLS as `tls` has it.
    async fn login(&self, tls: &Tls, direct: bool) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let stream = TcpStream::connect(("127.0.0.1", self.number())).await.expect("the port is open");
        let mut config = tokio_postgres::Config::new();
        config.user("postgres").password("sesame").dbname(&self.database.name).ssl_mode(SslMode::Require);
        if direct {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        if tls.end_point.is_some() {
            config.channel_binding(Wanted::Require);
        }
        let (client, connection) = config.connect_raw(stream, tls.clone()).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn stop(self) {
        self.shutdown.request("the test is done");
        self.daemon.finished().await.expect("a clean end");
    }
}

/// A client's side.
#[derive(Clone)]
struct Tls {
    config: Arc<ClientConfig>,
    /// What it binds its login to, if it does.
    end_point: Option<Vec<u8>>,
}

static SINCE_1_2: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static ONLY_1_2: [&SupportedProtocolVersion; 1] = [&TLS12];

impl Tls {
    fn new(ca: &Path, own: Option<(&Path, &Path)>, alpn: &[&[u8]]) -> Tls {
        Tls::with_versions(ca, own, alpn, &SINCE_1_2)
    }

    fn with_versions(
        ca: &Path,
        own: Option<(&Path, &Path)>,
        alpn: &[&[u8]],
        versions: &'static [&'static SupportedProtocolVersion],
    ) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("known versions")
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = vec![CertificateDer::from_pem_file(cert).expect("a certificate")];
                let key = PrivateKeyDer::from_pem_file(key).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("they fit")
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Tls { config: Arc::new(config), end_point: None }
    }

    fn bound_to(self, certificate: &Path) -> Tls {
        use sha2::{Digest, Sha256};
        let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
        Tls { end_point: Some(Sha256::digest(&certificate).to_vec()), ..self }
    }

    /// Direct TLS, without the protocol above it.
    async fn handshake(&self, port: u16) -> std::io::Result<client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }
}

struct Bound(client::TlsStream<TcpStream>, Option<Vec<u8>>);

impl TlsConnect<TcpStream> for Tls {
    type Stream = Bound;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Bound, std::io::Error>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move {
            let name = ServerName::try_from("localhost").expect("a name");
            let stream = TlsConnector::from(self.config).connect(name, stream).await?;
            Ok(Bound(stream, self.end_point))
        })
    }
}

impl TlsStream for Bound {
    fn channel_binding(&self) -> ChannelBinding {
        self.1.clone().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for Bound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Bound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_are_bound_to_our_certificate() {
    let authority = Authority::new();
    authority.issue("server");
    authority.issue("other");
    let tls = Tls::new(&authority.path("ca.crt"), None, &[ALPN]);
    let ours = tls.clone().bound_to(&authority.path("server.crt"));
    let others = tls.clone().bound_to(&authority.path("other.crt"));
    let scram = "[auth]\nmethod = \"scram\"\n[auth.users]\npostgres = \"sesame\"";
    let verifier = "[auth]\nmethod = \"verifier\"\nallow_trust = true";
    for (auth, direct) in [(scram, false), (scram, true), (verifier, false), (verifier, true)] {
        let port = Port::open(&authority.listen(), auth).await;
        let client = port.login(&ours, direct).await.unwrap();
        assert_eq!(value(&client, "select current_user").await, "postgres");
        let error = port.login(&others, direct).await.map(drop).unwrap_err();
        let error = error.as_db_error().expect("an error of the server");
        assert_eq!(
            (error.code().code(), error.message()),
            ("28000", "SCRAM channel binding check failed"),
            "somebody in between has another certificate"
        );
        // A client that cannot bind (NoTls in the library's terms: flag "n") is let in as well.
        assert!(port.login(&tls, direct).await.is_ok());
        port.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_tls_needs_its_protocol_name() {
    let authority = Authority::new();
    authority.issue("server");
    let port = Port::open(&authority.listen(), "[auth]\nallow_trust = true").await;
    let number = port.number();
    let ca = authority.path("ca.crt");
    let packet = startup(196_608, &[("user", "postgres"), ("database", &port.database.name)]);

    let mut named = Tls::new(&ca, None, &[b"http/1.1", ALPN]).handshake(number).await.unwrap();
    named.write_all(&packet).await.unwrap();
    assert_eq!(named.read_u8().await.unwrap(), b'R');
    // A request for encryption within encryption.
    let mut named = Tls::new(&ca, None, &[ALPN]).handshake(number).await.unwrap();
    named.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
    let mut answer = Vec::new();
    let _ = named.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"E") && String::from_utf8_lossy(&answer).contains("0A000"), "{answer:?}");

    // Without its name it ends: a browser could be made to speak to us.
    if let Ok(mut nameless) = Tls::new(&ca, None, &[]).handshake(number).await {
        let _ = nameless.write_all(&packet).await;
        let mut answer = Vec::new();
        let _ = nameless.read_to_end(&mut answer).await;
        assert_eq!(answer, b"");
    }
    assert!(Tls::new(&ca, None, &[b"http/1.1"]).handshake(number).await.is_err());
    // Asked for, it needs none, as older clients know none.
    assert!(port.login(&Tls::new(&ca, None, &[]), false).await.is_ok());

    // What was sent in clear behind the request is not taken for something sent within.
    let mut raw = RawClient::open(number).await;
    raw.send(&[&[0, 0, 0, 8, 4, 210, 22, 47][..], &packet].concat()).await;
    let answers = raw.until_closed().await;
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(
        (answers[0].field('C').as_str(), answers[0].field('M').as_str()),
        ("08P01", "received unencrypted data after SSL request")
    );
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_show_certificates() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    ["server", "client"].iter().for_each(|name| authority.issue(name));
    stranger.issue("client");
    let sockets = tempfile::tempdir().unwrap();
    let listen = format!(
        "unix_socket_dir = \"{}\"\n{}client_ca = \"{}\"\n",
        sockets.path().display(),
        authority.listen(),
        authority.path("ca.crt").display()
    );
    let port = Port::open(&listen, "[auth]\nallow_trust = true").await;
    let ca = authority.path("ca.crt");
    let shows =
        |who: &Authority| Tls::new(&ca, Some((&who.path("client.crt"), &who.path("client.key"))), &[ALPN]);
    let client = port.login(&shows(&authority), false).await.unwrap();
    assert_eq!(value(&client, "select current_user").await, "postgres");
    assert!(port.login(&shows(&stranger), false).await.is_err(), "signed by somebody else");
    assert!(port.login(&Tls::new(&ca, None, &[ALPN]), true).await.is_err(), "none at all");
    let mut plain = RawClient::open(port.number()).await;
    plain.send(&startup(196_608, &[("user", "postgres")])).await;
    let answers = plain.until_closed().await;
    assert_eq!(answers.first().map(|a| a.field('C')), Some("28000".into()), "{answers:?}");

    // The Unix socket has permissions instead.
    let path = sockets.path().join(format!(".s.PGSQL.{}", port.number()));
    let mut unix = UnixStream::connect(&path).await.unwrap();
    unix.write_all(&startup(196_608, &[("user", "postgres"), ("database", &port.database.name)]))
        .await
        .unwrap();
    assert_eq!(unix.read_u8().await.unwrap(), b'R');
    port.stop().await;
    assert!(!path.exists(), "the socket goes with its port");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_read_again() {
    let (before, after) = (Authority::new(), Authority::new());
    [&before, &after].iter().for_each(|authority| authority.issue("server"));
    let listen = format!("{}min_version = \"1.3\"\n", before.listen());
    let port = Port::open(&listen, "[auth]\nallow_trust = true").await;
    let old = Tls::new(&before.path("ca.crt"), None, &[ALPN]);
    let new = Tls::new(&after.path("ca.crt"), None, &[ALPN]);
    let session = port.login(&old, false).await.unwrap();
    assert!(port.login(&new, false).await.is_err());
    // A certificate without its key changes nothing.
    fs::copy(after.path("server.crt"), before.path("server.crt")).unwrap();
    for _ in 0..3 {
        assert!(port.login(&old, false).await.is_ok());
    }
    fs::copy(after.path("server.key"), before.path("server.key")).unwrap();
    wait_until("the new one is shown", async || port.login(&new, false).await.is_ok()).await;
    assert!(port.login(&old, false).await.is_err());
    assert_eq!(value(&session, "select 1").await, "1", "who is in stays in");

    let outdated = Tls::with_versions(&after.path("ca.crt"), None, &[ALPN], &ONLY_1_2);
    assert!(port.login(&outdated, false).await.is_err(), "min_version");
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_is_one_daemons() {
    let sockets = tempfile::tempdir().unwrap();
    let listen =
        format!("unix_socket_dir = \"{}\"\nunix_socket_permissions = \"0750\"", sockets.path().display());
    let port = Port::open(&listen, "[auth]\nallow_trust = true").await;
    let path = sockets.path().join(format!(".s.PGSQL.{}", port.number()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o750);

    // The same port on another address has the same name for its socket.
    let second = millpond::config::Listen {
        address: ([127, 0, 0, 2], port.number()).into(),
        unix_socket_dir: Some(sockets.path().to_owned()),
        unix_socket_permissions: 0o777,
        tls: None,
        threads: 1,
    };
    let error = millpond::wire::bind(&second).map(drop).unwrap_err();
    assert!(error.to_string().contains("listen.unix_socket_dir"), "{error}");
    assert!(UnixStream::connect(&path).await.is_ok(), "the first one's is untouched");
    port.stop().await;

    // What a killed one leaves is replaced, and what is no socket is not.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let bound = millpond::wire::bind(&second).unwrap();
    assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
    drop(bound);
    fs::write(&path, "precious").unwrap();
    assert!(millpond::wire::bind(&second).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}
