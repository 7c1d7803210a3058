//! The server's side of SCRAM-SHA-256 and -PLUS (RFC 5802, RFC 7677;
//! `src/backend/libpq/auth-scram.c`).

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

/// What stands for channel binding in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding<'a> {
    /// We cannot: the connection is not encrypted, or its certificate has no hash of its own.
    Impossible,
    /// We offered SCRAM-SHA-256-PLUS, and the client chose SCRAM-SHA-256.
    Offered,
    /// The client chose SCRAM-SHA-256-PLUS; the hash of our certificate.
    Chosen(&'a [u8]),
}

/// Why the exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The proof is not that of the password.
    Proof,
    /// A message that RFC 5802 does not allow.
    Malformed(&'static str),
    /// The client can bind and believes that we cannot: somebody between us took our offer away.
    Downgraded,
    /// The client is bound to another certificate than ours: it talks to somebody between us.
    Unbound,
}

/// One exchange after the client's first message.
pub(super) struct Exchange {
    verifier: Verifier,
    client_first_bare: String,
    server_first: String,
    nonce: String,
    /// What the final message must repeat: base64 of the GS2 header and the certificate's hash.
    binding: String,
    is_bound: bool,
}

impl Exchange {
    /// Takes the client's first message; [`Exchange::server_first`] answers it.
    pub(super) fn begin(
        verifier: Verifier,
        client_first: &[u8],
        binding: Binding<'_>,
    ) -> Result<Exchange, Failed> {
        let mut random = [0; 18];
        rand::rng().fill(&mut random);
        Exchange::with_nonce(verifier, client_first, binding, &STANDARD.encode(random))
    }

    fn with_nonce(
        verifier: Verifier,
        client_first: &[u8],
        binding: Binding<'_>,
        own_nonce: &str,
    ) -> Result<Exchange, Failed> {
        let malformed = Failed::Malformed;
        let text = std::str::from_utf8(client_first).map_err(|_| malformed("The message is not UTF-8."))?;
        let (flag, rest) = text.split_once(',').ok_or(malformed("The message ends too early."))?;
        let (identity, bare) = rest.split_once(',').ok_or(malformed("The message ends too early."))?;
        if !identity.is_empty() {
            return Err(malformed("The client uses an authorization identity."));
        }
        let mut bound = format!("{flag},,").into_bytes();
        match (flag, binding) {
            ("p=tls-server-end-point", Binding::Chosen(hash)) => bound.extend_from_slice(hash),
            ("y", Binding::Offered) => return Err(Failed::Downgraded),
            ("n" | "y", Binding::Impossible) | ("n", Binding::Offered) => {}
            _ => return Err(malformed("The channel-binding flag does not fit the mechanism.")),
        }
        // "n=" user, which is ignored for the startup packet's, then "r=" nonce, then extensions.
        let mut attributes = bare.split(',');
        let user = attributes.next().and_then(|a| a.strip_prefix("n="));
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r="));
        let (Some(_), Some(client_nonce)) = (user, nonce) else {
            return Err(malformed("The user or the nonce is missing."));
        };
        let printable = |c: u8| (0x21..=0x7e).contains(&c);
        if client_nonce.is_empty() || !client_nonce.bytes().all(printable) {
            return Err(malformed("The nonce has non-printable characters."));
        }
        let nonce = format!("{client_nonce}{own_nonce}");
        let server_first = format!("r={nonce},s={},i={}", verifier.salt, verifier.iterations);
        Ok(Exchange {
            verifier,
            client_first_bare: bare.to_owned(),
            server_first,
            nonce,
            binding: STANDARD.encode(bound),
            is_bound: matches!(binding, Binding::Chosen(_)),
        })
    }

    pub(super) fn server_first(&self) -> &str {
        &self.server_first
    }

    /// Checks the client's final message and gives our own proof, the server's final message, with the
    /// keys that a login elsewhere needs.
    pub(super) fn finish(&self, client_final: &[u8]) -> Result<(String, ScramKeys), Failed> {
        let malformed = Failed::Malformed;
        let text = std::str::from_utf8(client_final).map_err(|_| malformed("The message is not UTF-8."))?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(malformed("The proof is missing."))?;
        let (binding, nonce) = without_proof.split_once(',').ok_or(malformed("The nonce is missing."))?;
        if binding.strip_prefix("c=") != Some(&self.binding) {
            return Err(match self.is_bound {
                true => Failed::Unbound,
                false => malformed("The channel-binding attribute is not the first message's."),
            });
        }
        // Extensions could follow, and there are none that we know.
        if nonce.strip_prefix("r=") != Some(&self.nonce) {
            return Err(malformed("The nonce does not match."));
        }
        let proof = STANDARD.decode(proof).ok().and_then(|proof| <[u8; 32]>::try_from(proof).ok());
        let proof = proof.ok_or(malformed("The proof is malformed."))?;
        let message = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let signature = sign(&self.verifier.stored_key, message.as_bytes());
        let mut client_key = Zeroizing::new(proof);
        client_key.iter_mut().zip(signature).for_each(|(key, s)| *key ^= s);
        let digest: [u8; 32] = Sha256::digest(client_key.as_slice()).into();
        let difference = digest.iter().zip(&self.verifier.stored_key).fold(0, |d, (a, b)| d | (a ^ b));
        if difference != 0 {
            return Err(Failed::Proof);
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

    fn exchange(known: &str, given: &str, client: ChannelBinding, ours: Binding<'_>) -> Result<(), Failed> {
        let mut client = ScramSha256::new(given.as_bytes(), client);
        let server = Exchange::begin(Verifier::of_password(known).unwrap(), client.message(), ours)?;
        client.update(server.server_first().as_bytes()).unwrap();
        let (last, keys) = server.finish(client.message())?;
        let stored: [u8; 32] = Sha256::digest(keys.client_key.as_slice()).into();
        assert_eq!(stored, keys.stored_key);
        client.finish(last.as_bytes()).expect("the client believes us");
        Ok(())
    }

    #[test]
    fn the_password_is_proved_on_both_sides() {
        let plain = Binding::Impossible;
        assert_eq!(exchange("sesame", "sesame", ChannelBinding::unsupported(), plain), Ok(()));
        assert_eq!(exchange("sesame", "sesame", ChannelBinding::unrequested(), plain), Ok(()));
        assert_eq!(exchange("sesame", "Sesame", ChannelBinding::unsupported(), plain), Err(Failed::Proof));
        assert_eq!(exchange("sesame", "", ChannelBinding::unsupported(), plain), Err(Failed::Proof));
    }

    #[test]
    fn a_login_is_bound_to_our_certificate() {
        let hash = b"the hash of our certificate";
        let end_point = |hash: &[u8]| ChannelBinding::tls_server_end_point(hash.to_vec());
        let chosen = Binding::Chosen(hash);
        assert_eq!(exchange("sesame", "sesame", end_point(hash), chosen), Ok(()));
        assert_eq!(exchange("sesame", "other", end_point(hash), chosen), Err(Failed::Proof));
        assert_eq!(exchange("sesame", "sesame", end_point(b"another's"), chosen), Err(Failed::Unbound));
        // Who could bind, and was not offered it though we did, has somebody in between.
        let unrequested = ChannelBinding::unrequested();
        assert_eq!(exchange("sesame", "sesame", unrequested, Binding::Offered), Err(Failed::Downgraded));
        assert_eq!(exchange("sesame", "sesame", ChannelBinding::unsupported(), Binding::Offered), Ok(()));
        for (client, ours) in [
            (ChannelBinding::unsupported(), chosen),
            (ChannelBinding::unrequested(), chosen),
            (end_point(hash), Binding::Offered),
            (end_point(hash), Binding::Impossible),
        ] {
            assert!(matches!(exchange("x", "x", client, ours), Err(Failed::Malformed(_))));
        }
    }

    #[test]
    fn odd_messages_fail() {
        let verifier = Verifier::of_password("x").unwrap();
        for first in [
            &b""[..],
            b"n,,",
            b"n,,n=,r=",
            b"p=tls-server-end-point,,n=,r=abc",
            b"p=tls-unique,,n=,r=abc",
            b"n,a=x,n=,r=abc",
            b"n,,m=1,n=,r=abc",
            b"n,,r=abc,n=",
            b"n,,n=,r=a b",
            b"\xff,,n=,r=abc",
        ] {
            let begun = Exchange::begin(verifier.clone(), first, Binding::Impossible).map(|_| ());
            assert!(matches!(begun, Err(Failed::Malformed(_))), "{first:?}");
        }
        let server = Exchange::with_nonce(verifier, b"n,,n=,r=abc", Binding::Impossible, "def").unwrap();
        assert!(server.server_first().starts_with("r=abcdef,s="));
        let zeros = STANDARD.encode([0; 32]);
        for last in [
            String::new(),
            "c=biws,r=abcdef".into(),
            "c=biws,r=abcdef,p=".into(),
            format!("c=biws,r=abcdeg,p={zeros}"),
            format!("c=eSws,r=abcdef,p={zeros}"),
            format!("c=biws,r=abcdef,x=1,p={zeros}"),
            "c=biws,r=abcdef,p=!!!".into(),
        ] {
            assert!(matches!(server.finish(last.as_bytes()), Err(Failed::Malformed(_))), "{last}");
        }
        let wrong = format!("c=biws,r=abcdef,p={zeros}");
        assert_eq!(server.finish(wrong.as_bytes()).err(), Some(Failed::Proof));
    }
}
