//! The server's side of TLS: certificates and keys, read again when their files have changed.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

use super::{end_point::certificate_hash, error::ListenError};
use crate::config::{ListenTls, TlsVersion};

/// What direct TLS must name (<https://www.postgresql.org/docs/current/protocol-flow.html>).
pub(super) const ALPN: &[u8] = b"postgresql";

/// How often a handshake looks whether the files are others.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What handshakes are made with. Connections keep what theirs was made with.
#[derive(Debug)]
pub(super) struct Tls {
    files: ListenTls,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    identity: Arc<Identity>,
    stamps: Vec<Stamp>,
    looked: Instant,
}

/// A certificate in use.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) config: Arc<ServerConfig>,
    /// What SCRAM can bind a login to.
    pub(super) end_point: Option<Arc<[u8]>>,
}

/// Which file it is, and when it changed last; `None` for one that is not there.
type Stamp = Option<(u64, i64, i64)>;

impl Tls {
    /// # Errors
    /// [`ListenError::Tls`] with the file that cannot be used.
    pub(super) fn load(files: &ListenTls) -> Result<Tls, ListenError> {
        let stamps = stamps(files);
        let identity = Arc::new(identity(files)?);
        let current = Mutex::new(Current { identity, stamps, looked: Instant::now() });
        Ok(Tls { files: files.clone(), current })
    }

    /// For a new handshake. Files that cannot be used (a key that is not yet there for its new
    /// certificate) leave the old ones in use.
    pub(super) fn identity(&self) -> Arc<Identity> {
        let mut current = self.current.lock();
        if current.looked.elapsed() >= LOOK_EVERY {
            current.looked = Instant::now();
            let stamps = stamps(&self.files);
            if stamps != current.stamps {
                current.stamps = stamps;
                match identity(&self.files) {
                    Ok(identity) => {
                        current.identity = Arc::new(identity);
                        tracing::info!("the certificate of listen.tls was read again");
                    }
                    Err(error) => tracing::error!("{error}; the certificate before it stays in use"),
                }
            }
        }
        Arc::clone(&current.identity)
    }
}

fn paths(files: &ListenTls) -> impl Iterator<Item = &PathBuf> {
    [&files.cert, &files.key].into_iter().chain(&files.client_ca)
}

fn stamps(files: &ListenTls) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
    };
    paths(files).map(stamp).collect()
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> ListenError {
    ListenError::Tls(format!("{}: {reason}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ListenError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if all.is_empty() => Err(unusable(path, &"it holds no certificate")),
        Ok(all) => Ok(all),
        Err(error) => Err(unusable(path, &error)),
    }
}

static SINCE_1_2: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static SINCE_1_3: [&SupportedProtocolVersion; 1] = [&TLS13];

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        TlsVersion::V1_2 => &SINCE_1_2,
        TlsVersion::V1_3 => &SINCE_1_3,
    }
}

fn identity(files: &ListenTls) -> Result<Identity, ListenError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(files.min_version))
        .map_err(|error| ListenError::Tls(error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| unusable(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| unusable(path, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates(&files.cert)?;
    let end_point = chain.first().and_then(|own| certificate_hash(own)).map(Arc::from);
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unusable(&files.key, &error))?;
    let mut config = builder.with_single_cert(chain, key).map_err(|error| unusable(&files.cert, &error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Identity { config: Arc::new(config), end_point })
}
