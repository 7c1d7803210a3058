//! SCRAM-SHA-256 as a client that has the keys of a password and not the password: what a server can
//! prove to another one after its client has proved it here.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use rand::Rng;
use sha2::Sha256;
use zeroize::Zeroizing;

/// ClientKey with the verifier that it belongs to. As good as the password for a login, as long as that
/// is not set anew; gone from memory with its last owner.
pub struct ScramKeys {
    pub client_key: Zeroizing<[u8; 32]>,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
    /// In base64, as the verifier has it.
    pub salt: String,
    pub iterations: u32,
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramKeys").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// One exchange.
pub(super) struct Exchange<'a> {
    keys: &'a ScramKeys,
    nonce: String,
    server_signature: [u8; 32],
}

/// The header of a client without channel binding, and its base64.
const HEADER: &str = "n,,";
const HEADER_BASE64: &str = "biws";

impl<'a> Exchange<'a> {
    pub(super) fn new(keys: &'a ScramKeys) -> Exchange<'a> {
        let mut random = [0; 18];
        rand::rng().fill(&mut random);
        Exchange { keys, nonce: STANDARD.encode(random), server_signature: [0; 32] }
    }

    /// The role is the startup packet's.
    fn first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    pub(super) fn first(&self) -> String {
        format!("{HEADER}{}", self.first_bare())
    }

    /// Answers the server's first message. The error is for people.
    pub(super) fn last(&mut self, server_first: &[u8]) -> Result<String, &'static str> {
        let text = std::str::from_utf8(server_first).map_err(|_| "a SCRAM message is not UTF-8")?;
        let mut attributes = text.split(',');
        let mut next = |name: &str| attributes.next().and_then(|a| a.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(iterations)) = (next("r="), next("s="), next("i=")) else {
            return Err("a SCRAM message cannot be read");
        };
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err("a SCRAM nonce is not ours");
        }
        if salt != self.keys.salt || iterations.parse() != Ok(self.keys.iterations) {
            return Err("the password has changed since the login");
        }
        let without_proof = format!("c={HEADER_BASE64},r={nonce}");
        let message = format!("{},{text},{without_proof}", self.first_bare());
        self.server_signature = sign(&self.keys.server_key, message.as_bytes());
        let mut proof = sign(&self.keys.stored_key, message.as_bytes());
        proof.iter_mut().zip(self.keys.client_key.iter()).for_each(|(p, k)| *p ^= k);
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// Whether the server's last message proves that it has the verifier.
    pub(super) fn is_proved(&self, server_last: &[u8]) -> bool {
        let proof = server_last.strip_prefix(b"v=").and_then(|proof| STANDARD.decode(proof).ok());
        proof.is_some_and(|proof| {
            proof.len() == 32
                && proof.iter().zip(&self.server_signature).fold(0, |d, (a, b)| d | (a ^ b)) == 0
        })
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
    use super::*;

    fn keys() -> ScramKeys {
        ScramKeys {
            client_key: Zeroizing::new([1; 32]),
            stored_key: [2; 32],
            server_key: [3; 32],
            salt: "c2FsdA==".into(),
            iterations: 4096,
        }
    }

    #[test]
    fn only_the_server_of_the_verifier_is_answered() {
        let keys = keys();
        let mut exchange = Exchange::new(&keys);
        let nonce = exchange.nonce.clone();
        for wrong in [
            String::new(),
            format!("r={nonce},s=c2FsdA==,i=4096"),
            "r=other,s=c2FsdA==,i=4096".into(),
            format!("r={nonce}x,s=c2FsdB==,i=4096"),
            format!("r={nonce}x,s=c2FsdA==,i=4097"),
            format!("r={nonce}x,s=c2FsdA=="),
        ] {
            assert!(exchange.last(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let last = exchange.last(format!("r={nonce}x,s=c2FsdA==,i=4096").as_bytes()).unwrap();
        assert!(last.starts_with(&format!("c=biws,r={nonce}x,p=")));
        let right = format!("v={}", STANDARD.encode(exchange.server_signature));
        assert!(exchange.is_proved(right.as_bytes()));
        for wrong in [&b""[..], b"v=", b"e=other-error", b"v=AAAA"] {
            assert!(!exchange.is_proved(wrong));
        }
        assert!(!format!("{keys:?}").contains('1'));
    }
}
