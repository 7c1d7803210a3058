//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677; `src/backend/libpq/auth-scram.c`).

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use postgres_protocol::password::scram_sha_256;
use rand::Rng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::primary::ScramKeys;

/// What the server stores of a password, and what it needs to check a proof.
#[derive(Clone)]
pub(super) struct Verifier {
    iterations: u32,
    salt: String,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl Verifier {
    /// For a password in clear. Costs the key derivation: some milliseconds.
    pub(super) fn of_password(password: &str) -> Option<Verifier> {
        Verifier::parse(&scram_sha_256(password.as_bytes()))
    }

    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
    pub(super) fn parse(text: &str) -> Option<Verifier> {
        let (cost, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = cost.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text: &str| <[u8; 32]>::try_from(STANDARD.decode(text).ok()?).ok();
        Some(Verifier {
            iterations: iterations.parse().ok()?,
            salt: salt.to_owned(),
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    }
}

impl Verifier {
    /// One that no password fits.
    pub(super) fn mock(salt: &[u8]) -> Verifier {
        let mut keys = [[0; 32]; 2];
        keys.iter_mut().for_each(|key| rand::rng().fill(key));
        let [stored_key, server_key] = keys;
        Verifier { iterations: ITERATIONS, salt: STANDARD.encode(salt), stored_key, server_key }
    }
}

/// How many iterations PostgreSQL makes a verifier with, unless `scram_iterations` says otherwise.
const ITERATIONS: u32 = 4096;

/// What binds an exchange to the TLS connection that it is made on: a hash of our certificate
/// (`tls-server-end-point`, RFC 5929).
pub(super) type Binding<'a> = Option<&'a [u8]>;

/// The exchange failed, for whatever reason: clients are told no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

/// One exchange after the client's first message.
pub(super) struct Exchange {
    verifier: Verifier,
    client_first_bare: String,
    server_first: String,
    nonce: String,
    /// What the final message must repeat: base64 of the GS2 header and of what it binds to.
    binding: String,
}

impl Exchange {
    /// Takes the client's first message; [`Exchange::server_first`] answers it. `offered`: what we could bind
    /// to, and told the client so; `bound`: it chose SCRAM-SHA-256-PLUS.
    pub(super) fn begin(
        verifier: Verifier,
        client_first: &[u8],
        offered: Binding<'_>,
        bound: bool,
    ) -> Result<Exchange, Failed> {
        let mut random = [0; 18];
        rand::rng().fill(&mut random);
        Exchange::with_nonce(verifier, client_first, offered, bound, &STANDARD.encode(random))
    }

    fn with_nonce(
        verifier: Verifier,
        client_first: &[u8],
        offered: Binding<'_>,
        bound: bool,
        own_nonce: &str,
    ) -> Result<Exchange, Failed> {
        let text = std::str::from_utf8(client_first).map_err(|_| Failed)?;
        // "n": the client knows no channel binding. "y": it thinks that we offer none; somebody has
        // tampered with our offer where that is not so.
        let header = match (bound, offered) {
            (true, Some(_)) => "p=tls-server-end-point,,",
            (true, None) => return Err(Failed),
            (false, None) if text.starts_with('y') => "y,,",
            (false, _) => "n,,",
        };
        let bare = text.strip_prefix(header).ok_or(Failed)?;
        let mut bound_to = header.as_bytes().to_vec();
        bound_to.extend_from_slice(offered.filter(|_| bound).unwrap_or_default());
        // "n=" user, which is ignored for the startup packet's, then "r=" nonce, then extensions.
        let mut attributes = bare.split(',');
        let user = attributes.next().and_then(|a| a.strip_prefix("n="));
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r="));
        let (Some(_), Some(client_nonce)) = (user, nonce) else { return Err(Failed) };
        let printable = |c: u8| (0x21..=0x7e).contains(&c);
        if client_nonce.is_empty() || !client_nonce.bytes().all(printable) {
            return Err(Failed);
        }
        let nonce = format!("{client_nonce}{own_nonce}");
        let server_first = format!("r={nonce},s={},i={}", verifier.salt, verifier.iterations);
        Ok(Exchange {
            verifier,
            client_first_bare: bare.to_owned(),
            server_first,
            nonce,
            binding: STANDARD.encode(bound_to),
        })
    }

    pub(super) fn server_first(&self) -> &str {
        &self.server_first
    }

    /// Checks the client's final message and gives our own proof, the server's final message, with the
    /// keys that a login elsewhere needs.
    pub(super) fn finish(&self, client_final: &[u8]) -> Result<(String, ScramKeys), Failed> {
        let text = std::str::from_utf8(client_final).map_err(|_| Failed)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Failed)?;
        let expected = format!("c={},r={}", self.binding, self.nonce);
        // Extensions could follow, and there are none that we know.
        if without_proof != expected {
            return Err(Failed);
        }
        let proof = <[u8; 32]>::try_from(STANDARD.decode(proof).map_err(|_| Failed)?).map_err(|_| Failed)?;
        let message = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let signature = sign(&self.verifier.stored_key, message.as_bytes());
        let mut client_key = Zeroizing::new(proof);
        client_key.iter_mut().zip(signature).for_each(|(key, s)| *key ^= s);
        let digest: [u8; 32] = Sha256::digest(client_key.as_slice()).into();
        let difference = digest.iter().zip(&self.verifier.stored_key).fold(0, |d, (a, b)| d | (a ^ b));
        if difference != 0 {
            return Err(Failed);
        }
        let proof = format!("v={}", STANDARD.encode(sign(&self.verifier.server_key, message.as_bytes())));
        let Verifier { iterations, salt, stored_key, server_key } = self.verifier.clone();
        Ok((proof, ScramKeys { client_key, stored_key, server_key, salt, iterations }))
    }
}

fn sign(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    // HMAC takes keys of every length, so the error cannot come; an all-zero signature fits nothing.
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mut mac) => {
            mac.update(message);
            mac.finalize().into_bytes().into()
        }
        Err(_) => [0; 32],
    }
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

    use super::*;

    fn exchange(known: &str, given: &str, binding: ChannelBinding) -> Result<(), Failed> {
        let mut client = ScramSha256::new(given.as_bytes(), binding);
        let server = Exchange::begin(Verifier::of_password(known).unwrap(), client.message(), None, false)?;
        client.update(server.server_first().as_bytes()).unwrap();
        let (last, keys) = server.finish(client.message())?;
        let stored: [u8; 32] = Sha256::digest(keys.client_key.as_slice()).into();
        assert_eq!(stored, keys.stored_key);
        client.finish(last.as_bytes()).expect("the client believes us");
        Ok(())
    }

    #[test]
    fn the_password_is_proved_on_both_sides() {
        assert_eq!(exchange("sesame", "sesame", ChannelBinding::unsupported()), Ok(()));
        assert_eq!(exchange("sesame", "sesame", ChannelBinding::unrequested()), Ok(()));
        assert_eq!(exchange("sesame", "Sesame", ChannelBinding::unsupported()), Err(Failed));
        assert_eq!(exchange("sesame", "", ChannelBinding::unsupported()), Err(Failed));
    }

    #[test]
    fn odd_messages_fail() {
        let verifier = Verifier::of_password("x").unwrap();
        for first in [
            &b""[..],
            b"n,,",
            b"n,,n=,r=",
            b"p=tls-server-end-point,,n=,r=abc",
            b"n,a=x,n=,r=abc",
            b"n,,m=1,n=,r=abc",
            b"n,,r=abc,n=",
            b"n,,n=,r=a b",
            b"\xff,,n=,r=abc",
        ] {
            assert!(Exchange::begin(verifier.clone(), first, None, false).is_err(), "{first:?}");
        }
        let server = Exchange::with_nonce(verifier, b"n,,n=,r=abc", None, false, "def").unwrap();
        assert!(server.server_first().starts_with("r=abcdef,s="));
        let zeros = STANDARD.encode([0; 32]);
        for last in [
            String::new(),
            "c=biws,r=abcdef".into(),
            "c=biws,r=abcdef,p=".into(),
            format!("c=biws,r=abcdeg,p={zeros}"),
            format!("c=eSws,r=abcdef,p={zeros}"),
            format!("c=biws,r=abcdef,x=1,p={zeros}"),
            format!("c=biws,r=abcdef,p={zeros}"),
            "c=biws,r=abcdef,p=!!!".into(),
        ] {
            assert!(server.finish(last.as_bytes()).is_err(), "{last}");
        }
    }
}
