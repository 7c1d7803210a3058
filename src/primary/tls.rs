//! Encryption as libpq's sslmode means it, on rustls.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use super::{PrimaryError, target::SslMode};

/// Builds what all connections of a target share.
///
/// # Errors
/// [`PrimaryError::Url`] when a certificate or key file cannot be used.
pub(super) fn config(
    mode: SslMode,
    root_cert: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Arc<ClientConfig>, PrimaryError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Verifier { trust: trust(mode, root_cert)?, provider: Arc::clone(&provider) });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| PrimaryError::Url(format!("TLS cannot be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match (cert, key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates("sslcert", &cert)?;
            let key = PrivateKeyDer::from_pem_file(&key).map_err(|e| unusable("sslkey", &key, &e))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| unusable("sslcert", &cert, &e))?
        }
        _ => return Err(PrimaryError::Url("primary.url needs sslcert and sslkey together".into())),
    };
    Ok(Arc::new(config))
}

/// What the server's certificate must be.
#[derive(Debug)]
enum Trust {
    /// Anything: encryption without verification.
    Any,
    /// Signed by one of these, or one of these itself; with `name`, for the host that we asked for.
    Roots { roots: RootCertStore, pinned: Vec<CertificateDer<'static>>, name: bool },
}

/// As libpq: a root certificate file, named or in its default place, makes `require` verify as well.
fn trust(mode: SslMode, root_cert: Option<PathBuf>) -> Result<Trust, PrimaryError> {
    let system = root_cert.as_deref() == Some(Path::new("system"));
    if system && mode != SslMode::VerifyFull {
        return Err(PrimaryError::Url("sslrootcert=system needs sslmode=verify-full".into()));
    }
    let file = root_cert.filter(|_| !system).or_else(|| default_root_cert().filter(|_| !system));
    let name = match mode {
        SslMode::Disable | SslMode::Allow | SslMode::Prefer => return Ok(Trust::Any),
        SslMode::Require if file.is_none() => return Ok(Trust::Any),
        SslMode::Require | SslMode::VerifyCa => false,
        SslMode::VerifyFull => true,
    };
    let mut roots = RootCertStore::empty();
    let pinned = match &file {
        Some(path) => certificates("sslrootcert", path)?,
        None => Vec::new(),
    };
    match &file {
        Some(_) => roots.add_parsable_certificates(pinned.iter().cloned()),
        None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    };
    if roots.is_empty() && pinned.is_empty() {
        return Err(PrimaryError::Url(
            "no root certificates were found on this system: name a file with sslrootcert=".into(),
        ));
    }
    Ok(Trust::Roots { roots, pinned, name })
}

fn default_root_cert() -> Option<PathBuf> {
    let path = Path::new(&std::env::var_os("HOME")?).join(".postgresql/root.crt");
    path.exists().then_some(path)
}

fn certificates(parameter: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, PrimaryError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|error| unusable(parameter, path, &error))?;
    match all.is_empty() {
        true => Err(unusable(parameter, path, &"it holds no certificate")),
        false => Ok(all),
    }
}

fn unusable(parameter: &str, path: &Path, reason: &dyn std::fmt::Display) -> PrimaryError {
    PrimaryError::Url(format!("{parameter}={} cannot be used: {reason}", path.display()))
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::Roots { roots, pinned, name } = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let signed =
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms);
        match signed {
            Ok(()) => {}
            // Validity is checked before anything else, so a pinned certificate cannot outlive it.
            Err(error) if outdated(&error) => return Err(error),
            // A self-signed certificate that was named as the root, as OpenSSL accepts it: webpki
            // refuses a CA as a server's certificate.
            Err(_) if pinned.iter().any(|p| p == end_entity) => {}
            Err(error) => return Err(error),
        }
        if *name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn outdated(error: &Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(
        error,
        Error::InvalidCertificate(Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
    )
}
