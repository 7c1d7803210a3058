//! `tls-server-end-point` (RFC 5929): the hash of our certificate, to which SCRAM-SHA-256-PLUS binds.

use std::path::Path;

use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

/// Of the first certificate of a file; `None` where there is none, or its signature names no hash.
pub(super) fn of_file(path: &Path) -> Option<Vec<u8>> {
    let certificate = CertificateDer::pem_file_iter(path).ok()?.next()?.ok()?;
    of_certificate(&certificate)
}

/// The hash is that of the certificate's signature, and SHA-256 in place of weaker ones.
fn of_certificate(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate, _) = element(der)?;
    let (_, _, rest) = element(certificate)?;
    let (_, algorithm, _) = element(rest)?;
    let (tag, oid, _) = element(algorithm)?;
    let sha256 = |der| Some(Sha256::digest(der).to_vec());
    match (tag, oid) {
        // 1.2.840.113549.1.1: RSA with MD5, SHA-1, SHA-256, SHA-384, SHA-512.
        (6, [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4 | 5 | 11]) => sha256(der),
        (6, [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12]) => Some(Sha384::digest(der).to_vec()),
        (6, [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13]) => Some(Sha512::digest(der).to_vec()),
        // 1.2.840.10045.4: ECDSA with SHA-1, and .3 with SHA-256, SHA-384, SHA-512.
        (6, [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]) => sha256(der),
        (6, [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3]) => Some(Sha384::digest(der).to_vec()),
        (6, [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4]) => Some(Sha512::digest(der).to_vec()),
        _ => None,
    }
}

/// The first DER element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signatures_hash_is_taken() {
        for (algorithm, length) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(32)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(48)),
            (&rcgen::PKCS_ED25519, None),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let certificate =
                rcgen::CertificateParams::new(vec!["db".into()]).unwrap().self_signed(&key).unwrap();
            let der = certificate.der();
            assert_eq!(of_certificate(der).map(|hash| hash.len()), length);
            for end in 0..der.len() {
                assert_eq!(of_certificate(&der[..end]), None, "{end}");
            }
        }
    }
}
