//! Startup packet and authentication.

use bytes::{Bytes, BytesMut};
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    },
    message::frontend,
};
use tokio::time::timeout;

use super::{
    Connection, Host, Message, PrimaryError, ScramKeys, ServerMessage, Stream, Target,
    connection::unexpected, message::Fields, scram_keys::Exchange,
};

impl Connection {
    /// Reaches the primary and logs in as the target's role; ends at ReadyForQuery.
    ///
    /// `parameters` go into the startup packet after the target's own and win over them; `options`
    /// is appended to the target's. With several hosts, one that is in recovery is passed over unless
    /// the connection string says `target_session_attrs=any`.
    ///
    /// # Errors
    /// That of the last host tried; [`PrimaryError::Auth`] at once, as every host would say it.
    pub async fn login(target: &Target, parameters: &[(&str, &str)]) -> Result<Connection, PrimaryError> {
        let mut last = None;
        for (index, host) in target.hosts() {
            match login_at(target, host, parameters).await {
                Ok(connection) if target.primary_only && connection.in_recovery() => {
                    last = Some(PrimaryError::Unreachable {
                        host: host.to_string(),
                        source: std::io::Error::other("it is a standby"),
                    });
                }
                Ok(connection) => {
                    target.prefer(index);
                    return Ok(connection);
                }
                Err(error @ PrimaryError::Auth { .. }) => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| PrimaryError::Url("primary.url names no host".into())))
    }

    fn in_recovery(&self) -> bool {
        self.parameter("in_hot_standby") == Some("on")
    }
}

async fn login_at(
    target: &Target,
    host: &Host,
    parameters: &[(&str, &str)],
) -> Result<Connection, PrimaryError> {
    let mut attempts = target.attempts(host).iter().peekable();
    loop {
        let Some(&encryption) = attempts.next() else { return Err(unexpected(0)) };
        let attempt = async {
            let mut connection = Connection::over(target.reach(host, encryption).await?);
            connection.startup(target, host, parameters).await?;
            Ok(connection)
        };
        match timeout(target.connect_timeout, attempt).await {
            Ok(Err(error)) if attempts.peek().is_some() && other_encryption_may_help(&error) => {}
            Ok(result) => return result,
            Err(_) => return Err(target.timed_out(host)),
        }
    }
}

/// libpq's `allow` and `prefer` try the other way when pg_hba.conf has no entry for this one.
pub(super) fn other_encryption_may_help(error: &PrimaryError) -> bool {
    match error {
        PrimaryError::Tls { .. } => true,
        PrimaryError::Auth { sqlstate, .. } => sqlstate == "28000",
        _ => false,
    }
}

impl Connection {
    async fn startup(
        &mut self,
        target: &Target,
        host: &Host,
        parameters: &[(&str, &str)],
    ) -> Result<(), PrimaryError> {
        let options = parameters.iter().find(|(name, _)| *name == "options").map_or("", |(_, o)| o);
        let options = format!("{} {options}", target.options);
        let mut all = vec![("user", target.user()), ("database", target.database())];
        if !target.is_clients {
            all.push(("client_encoding", "UTF8"));
            all.push(("application_name", target.application_name.as_deref().unwrap_or("millpond")));
        }
        if !options.trim().is_empty() {
            all.push(("options", options.trim()));
        }
        for &(name, value) in parameters.iter().filter(|(name, _)| *name != "options") {
            all.retain(|(n, _)| *n != name);
            all.push((name, value));
        }
        let mut packet = BytesMut::new();
        frontend::startup_message(all, &mut packet).map_err(|e| PrimaryError::Protocol(e.to_string()))?;
        self.write(&packet);
        self.flush().await?;
        self.authenticate(target, host).await?;
        loop {
            let message = self.read_message().await?;
            match message.tag {
                b'K' => {
                    let mut fields = Fields(&message.body);
                    self.process_id = fields.i32()?;
                    self.secret_key = Bytes::copy_from_slice(fields.0);
                }
                b'Z' => return Ok(()),
                b'E' => return Err(PrimaryError::at_login(ServerMessage::parse(&message.body))),
                _ => self.note(&message)?,
            }
        }
    }

    /// Answers the primary's requests up to AuthenticationOk.
    async fn authenticate(&mut self, target: &Target, host: &Host) -> Result<(), PrimaryError> {
        let password = || {
            target.password(host).ok_or_else(|| PrimaryError::Auth {
                sqlstate: "28P01".into(),
                message: format!(
                    "it asks {:?} for a password, and there is none in primary.url, primary.password, PGPASSWORD or the passfile",
                    target.user()
                ),
            })
        };
        loop {
            let (code, data) = self.authentication_request().await?;
            let mut answer = BytesMut::new();
            let written = match code {
                0 => return Ok(()),
                3 if matches!((&self.stream, host), (Stream::Tcp(_), h) if !is_local(h)) => {
                    return Err(PrimaryError::Auth {
                        sqlstate: "28000".into(),
                        message:
                            "it asks for the password in clear over a connection that is not encrypted: \
                                  set sslmode=require, or scram-sha-256 in its pg_hba.conf"
                                .into(),
                    });
                }
                3 => frontend::password_message(password()?.as_bytes(), &mut answer),
                5 => {
                    let salt = data.first_chunk::<4>().ok_or_else(|| unexpected(b'R'))?;
                    let hash = md5_hash(target.user().as_bytes(), password()?.as_bytes(), *salt);
                    frontend::password_message(hash.as_bytes(), &mut answer)
                }
                10 => {
                    match &target.keys {
                        Some(keys) => self.scram_with(&data, keys).await?,
                        None => self.scram(&data, password()?).await?,
                    }
                    continue;
                }
                code => {
                    let method = match code {
                        7 | 8 => "GSSAPI",
                        9 => "SSPI",
                        _ => "an unknown method",
                    };
                    return Err(PrimaryError::Auth {
                        sqlstate: "28000".into(),
                        message: format!(
                            "it asks for {method}, which is not supported: give {:?} a scram-sha-256 entry in its pg_hba.conf",
                            target.user()
                        ),
                    });
                }
            };
            written.map_err(|e| PrimaryError::Protocol(e.to_string()))?;
            self.write(&answer);
            self.flush().await?;
        }
    }

    /// SCRAM-SHA-256 with the keys of a password.
    async fn scram_with(&mut self, mechanisms: &[u8], keys: &ScramKeys) -> Result<(), PrimaryError> {
        let refused = |sqlstate: &str, message: &str| PrimaryError::Auth {
            sqlstate: sqlstate.into(),
            message: message.into(),
        };
        if !mechanisms.split(|&b| b == 0).any(|m| m == SCRAM_SHA_256.as_bytes()) {
            return Err(refused("28000", "it offers no SASL mechanism that is supported (SCRAM-SHA-256)"));
        }
        let mut exchange = Exchange::new(keys);
        let mut buffer = BytesMut::new();
        frontend::sasl_initial_response(SCRAM_SHA_256, exchange.first().as_bytes(), &mut buffer)
            .map_err(|e| PrimaryError::Protocol(e.to_string()))?;
        self.write(&buffer);
        self.flush().await?;
        let (11, data) = self.authentication_request().await? else { return Err(unexpected(b'R')) };
        let last = exchange.last(&data).map_err(|message| refused("28P01", message))?;
        buffer.clear();
        frontend::sasl_response(last.as_bytes(), &mut buffer)
            .map_err(|e| PrimaryError::Protocol(e.to_string()))?;
        self.write(&buffer);
        self.flush().await?;
        let (12, data) = self.authentication_request().await? else { return Err(unexpected(b'R')) };
        match exchange.is_proved(&data) {
            true => Ok(()),
            false => Err(refused("28000", "it could not prove that it knows the password")),
        }
    }

    /// SCRAM-SHA-256, the server's signature verified; the iteration count is bounded by the library.
    async fn scram(&mut self, mechanisms: &[u8], password: &str) -> Result<(), PrimaryError> {
        let refused = |message: String| PrimaryError::Auth { sqlstate: "28000".into(), message };
        if !mechanisms.split(|&b| b == 0).any(|m| m == SCRAM_SHA_256.as_bytes()) {
            return Err(refused("it offers no SASL mechanism that is supported (SCRAM-SHA-256)".into()));
        }
        // "n": without channel binding, whatever the server offers.
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let mut buffer = BytesMut::new();
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut buffer)
            .map_err(|e| PrimaryError::Protocol(e.to_string()))?;
        self.write(&buffer);
        self.flush().await?;
        let (11, data) = self.authentication_request().await? else { return Err(unexpected(b'R')) };
        scram.update(&data).map_err(|e| refused(e.to_string()))?;
        buffer.clear();
        frontend::sasl_response(scram.message(), &mut buffer)
            .map_err(|e| PrimaryError::Protocol(e.to_string()))?;
        self.write(&buffer);
        self.flush().await?;
        let (12, data) = self.authentication_request().await? else { return Err(unexpected(b'R')) };
        scram
            .finish(&data)
            .map_err(|e| refused(format!("it could not prove that it knows the password: {e}")))
    }

    /// The next 'R' message: its code and data.
    async fn authentication_request(&mut self) -> Result<(i32, Bytes), PrimaryError> {
        loop {
            let Message { tag, body } = self.read_message().await?;
            match tag {
                b'R' => {
                    let code = Fields(&body).i32()?;
                    return Ok((code, body.slice(4..)));
                }
                b'E' => return Err(PrimaryError::at_login(ServerMessage::parse(&body))),
                // NegotiateProtocolVersion: we asked for 3.0 and no options, so nothing is lost.
                b'v' => {}
                _ => self.note(&Message { tag, body })?,
            }
        }
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix { .. } => true,
        Host::Tcp { address: Some(address), .. } => address.is_loopback(),
        Host::Tcp { name, .. } => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
        }
    }
}
