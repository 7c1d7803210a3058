//! The primary's own verifiers of passwords, and what else it would admit or refuse a client for, read
//! on a connection of ours that nothing of a client reaches.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use rand::Rng;
use sha2::Sha256;
use tokio::sync::Mutex;
use tokio_postgres::Client;

use super::{error::Problem, scram::Verifier};
use crate::{
    primary::{self, PrimaryError, Target},
    types::Lsn,
};

const QUERY: &str = include_str!("../../sql/verifier_query.sql");

/// What the primary knows of a role that wants to log in.
pub(super) struct Known {
    /// `None`: no password of this role is right.
    pub(super) verifier: Option<Verifier>,
    /// What the primary would refuse after the password.
    pub(super) refusal: Option<Problem>,
    /// Whether only the primary can tell if there is room for one more connection.
    pub(super) limited: bool,
    /// As `sql/session_key.sql` has them.
    pub(super) definitions: String,
    /// The position up to which the log was flushed.
    pub(super) flushed: Lsn,
}

/// Where verifiers come from.
pub(super) struct Verifiers {
    /// Used by all logins at once; opened by the first.
    client: Mutex<Option<Arc<Client>>>,
    /// Of this process: with it, unknown roles get the same salt each time.
    secret: [u8; 32],
}

impl Default for Verifiers {
    fn default() -> Verifiers {
        let mut secret = [0; 32];
        rand::rng().fill(&mut secret);
        Verifiers { client: Mutex::default(), secret }
    }
}

impl Verifiers {
    /// Asks the primary; nothing is kept, so that what it refuses now is refused.
    pub(super) async fn look_up(
        &self,
        target: &Target,
        role: &str,
        database: &str,
    ) -> Result<Option<Known>, PrimaryError> {
        // A connection that was idle may be lost without our knowing.
        let mut last = PrimaryError::Closed { source: None };
        for _ in 0..2 {
            let client = self.client(target).await?;
            match client.query(QUERY, &[&role, &database]).await {
                Ok(rows) => return Ok(rows.first().and_then(|row| known(row, role, database))),
                Err(error) => {
                    let lost = client.is_closed();
                    last = error.into();
                    if !lost {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    async fn client(&self, target: &Target) -> Result<Arc<Client>, PrimaryError> {
        let mut open = self.client.lock().await;
        if let Some(client) = open.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(primary::client(target, "millpond verifier").await?);
        *open = Some(Arc::clone(&client));
        Ok(client)
    }

    /// A verifier that no password fits, the same for a name each time: whoever asks cannot tell that the
    /// role does not exist.
    pub(super) fn mock(&self, role: &str) -> Verifier {
        let mut salt = [0; 16];
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) {
            mac.update(role.as_bytes());
            salt.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(salt, byte)| *salt = byte);
        }
        Verifier::mock(&salt)
    }
}

fn known(row: &tokio_postgres::Row, role: &str, database: &str) -> Option<Known> {
    let text = |column: usize| row.try_get::<_, Option<String>>(column).ok().flatten();
    let refused =
        |sqlstate: &str, message: String| Problem::LoginRefused { sqlstate: sqlstate.into(), message };
    let refusal = text(1).map(|refusal| match refusal.as_str() {
        "nologin" => refused("28000", format!("role \"{role}\" is not permitted to log in")),
        "database" => refused("3D000", format!("database \"{database}\" does not exist")),
        "closed" => {
            refused("55000", format!("database \"{database}\" is not currently accepting connections"))
        }
        _ => refused("42501", format!("permission denied for database \"{database}\"")),
    });
    Some(Known {
        verifier: text(0).and_then(|verifier| Verifier::parse(&verifier)),
        refusal,
        limited: row.try_get(2).unwrap_or(true),
        definitions: text(3)?,
        flushed: text(4)?.parse().ok()?,
    })
}
