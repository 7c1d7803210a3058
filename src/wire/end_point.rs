//! `tls-server-end-point` (RFC 5929, section 4.1): the hash of our certificate, to which SCRAM binds a
//! login (`be_tls_get_certificate_hash` in `src/backend/libpq/be-secure-openssl.c`).

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const EXPLICIT_0: u8 = 0xa0;

/// The hash of a certificate by the algorithm of its own signature; `None` where that has none of its
/// own (Ed25519), for which the RFC defines no binding.
pub(super) fn certificate_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    Some(match signature_hash(certificate)? {
        Hash::Sha224 => Sha224::digest(certificate).to_vec(),
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha224,
    /// Also in place of MD5 and SHA-1, as the RFC has it.
    Sha256,
    Sha384,
    Sha512,
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, parameters }, .. }`
fn signature_hash(certificate: &[u8]) -> Option<Hash> {
    let (whole, _) = element(certificate, SEQUENCE)?;
    let (_, rest) = element(whole, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    let (oid, parameters) = element(algorithm, OID)?;
    match oid {
        // PKCS #1, 1.2.840.113549.1.1.*
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last] => match last {
            4 | 5 | 11 => Some(Hash::Sha256),
            10 => pss_hash(parameters),
            12 => Some(Hash::Sha384),
            13 => Some(Hash::Sha512),
            14 => Some(Hash::Sha224),
            _ => None,
        },
        // ecdsa-with-SHA1, and ecdsa-with-SHA2, 1.2.840.10045.4.3.*
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => Some(Hash::Sha256),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last] => match last {
            1 => Some(Hash::Sha224),
            2 => Some(Hash::Sha256),
            3 => Some(Hash::Sha384),
            4 => Some(Hash::Sha512),
            _ => None,
        },
        _ => None,
    }
}

/// `RSASSA-PSS-params ::= SEQUENCE { hashAlgorithm [0] AlgorithmIdentifier DEFAULT sha1, .. }`
fn pss_hash(parameters: &[u8]) -> Option<Hash> {
    let (parameters, _) = element(parameters, SEQUENCE)?;
    let Some((explicit, _)) = element(parameters, EXPLICIT_0) else { return Some(Hash::Sha256) };
    let (algorithm, _) = element(explicit, SEQUENCE)?;
    match element(algorithm, OID)?.0 {
        // 2.16.840.1.101.3.4.2.*
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last] => match last {
            1 => Some(Hash::Sha256),
            2 => Some(Hash::Sha384),
            3 => Some(Hash::Sha512),
            4 => Some(Hash::Sha224),
            _ => None,
        },
        _ => None,
    }
}

/// The contents of the DER element at the front, if it has this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    use super::*;

    fn hash(algorithm: &'static SignatureAlgorithm) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new(["a".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.der().to_vec(), certificate_hash(certificate.der()).unwrap_or_default())
    }

    #[test]
    fn the_certificates_own_algorithm_counts() {
        let (der, hashed) = hash(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(hashed, Sha256::digest(&der).to_vec());
        let (der, hashed) = hash(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(hashed, Sha384::digest(&der).to_vec());
        assert_eq!(hash(&rcgen::PKCS_ED25519).1, b"");
    }

    #[test]
    fn other_algorithms_are_told_by_their_identifiers() {
        let certificate = |algorithm: &[u8]| {
            let inner = [&[SEQUENCE, 0, SEQUENCE, algorithm.len() as u8][..], algorithm].concat();
            [&[SEQUENCE, inner.len() as u8][..], &inner].concat()
        };
        let rsa = |last| [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last];
        assert_eq!(signature_hash(&certificate(&rsa(5))), Some(Hash::Sha256));
        assert_eq!(signature_hash(&certificate(&rsa(13))), Some(Hash::Sha512));
        assert_eq!(signature_hash(&certificate(&rsa(99))), None);
        let sha384 = [0x06, 9, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 2, 2];
        let parameters = [&[SEQUENCE, 15, EXPLICIT_0, 13, SEQUENCE, 11][..], &sha384].concat();
        assert_eq!(signature_hash(&certificate(&[&rsa(10)[..], &parameters].concat())), Some(Hash::Sha384));
        assert_eq!(
            signature_hash(&certificate(&[&rsa(10)[..], &[SEQUENCE, 0]].concat())),
            Some(Hash::Sha256)
        );
        for cut in [&b""[..], &[SEQUENCE], &[SEQUENCE, 0x85], &[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(certificate_hash(cut), None);
        }
    }
}
