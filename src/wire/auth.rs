//! Who the client is, and its own connection to the primary, which is opened before it is let in: a
//! session exists here only where one exists there (a role that may not log in, an expired password,
//! a connection limit, `pg_hba.conf`).

use std::{collections::HashMap, sync::Arc};

use bytes::{Bytes, BytesMut};

use super::{
    Shared, backend,
    client::{Client, End},
    error::Problem,
    frame::{Fields, Frame},
    lease::settings_key,
    pool::{Key, Member, Slot},
    scram::{Binding, Exchange, Failed, Verifier},
    startup::Startup,
    upstream::Upstream,
};
use crate::{
    config::{AuthMethod, Forwarding},
    primary::{Connection, Message, PrimaryError, ScramKeys, ServerMessage, Target},
    types::Lsn,
};

/// PostgreSQL's limits (`PG_MAX_AUTH_TOKEN_LENGTH`, `PG_MAX_SASL_MESSAGE_LENGTH`), length included.
const MAX_PASSWORD: u32 = 65_535 + 4;
const MAX_SASL: u32 = 1024 + 4;
const SCRAM_SHA_256: &[u8] = b"SCRAM-SHA-256";
const SCRAM_SHA_256_PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";

/// What [`Connection::login`] keeps of the parameters that the primary reports.
const REPORTED: [&str; 15] = [
    "server_version",
    "server_encoding",
    "client_encoding",
    "application_name",
    "default_transaction_read_only",
    "in_hot_standby",
    "is_superuser",
    "session_authorization",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "integer_datetimes",
    "standard_conforming_strings",
    "search_path",
    "scram_iterations",
];

/// A client that is let in, with its connection to the primary.
pub(super) struct Admitted {
    /// `None`: it is opened when it is needed first.
    pub(super) upstream: Option<Upstream>,
    /// With whom it can be shared; `None`: with nobody.
    pub(super) member: Option<Member>,
    /// What the client was told of parameters where it has no connection.
    pub(super) told: HashMap<String, String>,
    /// How far the log was at the login, where that is known.
    pub(super) floor: Lsn,
    /// How to log in again; `None` where only the client knows its password.
    pub(super) again: Option<Login>,
}

/// A login in the client's name that needs nothing of the client.
#[derive(Clone, Debug)]
pub(super) struct Login {
    target: Target,
    parameters: Vec<(String, String)>,
    /// Whether the settings that came of the login tell it from others; else their definitions do, which
    /// were read before it.
    pub(super) effective: bool,
}

impl Login {
    pub(super) async fn open(&self) -> Result<Connection, PrimaryError> {
        let parameters: Vec<(&str, &str)> =
            self.parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        Connection::login(&self.target, &parameters).await
    }
}

/// Authenticates the client. Writes everything up to the parameters into its output; BackendKeyData
/// and ReadyForQuery are the session's.
pub(super) async fn admit(client: &mut Client, startup: &Startup, shared: &Shared) -> Result<Admitted, End> {
    let Shared { config, target, .. } = shared;
    let mut parameters = startup.parameters.clone();
    if config.fallthrough.writes == Forwarding::Reject {
        // A parameter of its own, because those are applied after `options`.
        parameters.retain(|(name, _)| !name.eq_ignore_ascii_case("default_transaction_read_only"));
        parameters.push(("default_transaction_read_only".into(), "on".into()));
    }
    let known = config.auth.users.iter().find(|user| user.name == startup.user);
    let password = known.map(|user| user.password.as_str());
    match config.auth.method {
        AuthMethod::Relay => return relay(client, startup, parameters, shared).await,
        AuthMethod::Verifier => return by_verifier(client, startup, parameters, shared).await,
        AuthMethod::Scram => scram(client, &startup.user, password).await?,
        AuthMethod::Trust => {}
    }
    let target = target.with_login(&startup.user, password, &startup.database);
    let login = Login { target, parameters, effective: true };
    let slot = room(shared, false).await?;
    let connection = login.open().await.map_err(|error| End::Fatal(refusal(&error)))?;
    backend::authentication(&mut client.output, 0, &[]);
    let (pid, key) = (connection.process_id(), connection.secret_key().clone());
    let mut upstream = Upstream::new(connection, pid, key, slot);
    report(client, &upstream.parameters);
    let member = join(&mut upstream, client, startup, login.parameters.clone(), shared, true).await;
    Ok(Admitted::with(upstream, member, Some(login)))
}

impl Admitted {
    fn with(upstream: Upstream, member: Option<Member>, again: Option<Login>) -> Admitted {
        Admitted { upstream: Some(upstream), member, told: HashMap::new(), floor: Lsn(0), again }
    }
}

/// Tells the client what the primary reported.
fn report(client: &mut Client, parameters: &HashMap<String, String>) {
    for name in REPORTED {
        if let Some(value) = parameters.get(name) {
            backend::parameter_status(&mut client.output, name, value);
        }
    }
}

/// Finds out with whom a connection can be shared.
async fn join(
    upstream: &mut Upstream,
    client: &mut Client,
    startup: &Startup,
    parameters: Vec<(String, String)>,
    shared: &Shared,
    opens: bool,
) -> Option<Member> {
    let settings = settings_key(upstream, true, &mut client.output).await.ok().flatten()?;
    let member = shared.upstreams.join(key(startup, parameters, settings), opens);
    upstream.slot.assign(&member);
    Some(member)
}

fn key(startup: &Startup, parameters: Vec<(String, String)>, settings: String) -> Key {
    Key { user: startup.user.clone(), database: startup.database.clone(), parameters, settings }
}

/// How often a login is tried while role and database get other settings.
const SETTLING: usize = 3;

/// By the primary's verifier, which the client proves to us; with what that shows we can log in at the
/// primary as the client.
async fn by_verifier(
    client: &mut Client,
    startup: &Startup,
    parameters: Vec<(String, String)>,
    shared: &Shared,
) -> Result<Admitted, End> {
    let target = &shared.target;
    let failed = || End::Fatal(Problem::Password { user: startup.user.clone() });
    let found = shared.verifiers.look_up(target, &startup.user, &startup.database).await;
    let found = found.map_err(|error| match error {
        PrimaryError::Server(message) => {
            tracing::error!("the function of sql/verifier.sql cannot be used: {message}");
            End::Fatal(Problem::NoVerifiers)
        }
        error => End::Fatal(refusal(&error)),
    })?;
    let verifier = found.as_ref().and_then(|known| known.verifier.clone());
    let is_mock = verifier.is_none();
    let verifier = verifier.unwrap_or_else(|| shared.verifiers.mock(&startup.user));
    let keys = exchange(client, &startup.user, verifier).await?;
    let Some(known) = found.filter(|_| !is_mock) else { return Err(failed()) };
    if let Some(refusal) = known.refusal {
        return Err(End::Fatal(refusal));
    }
    let target = target.with_keys(&startup.user, Arc::new(keys), &startup.database);
    let login = Login { target, parameters: parameters.clone(), effective: false };
    let mut definitions = known.definitions;
    for _ in 0..SETTLING {
        let member = shared.upstreams.join(key(startup, parameters.clone(), definitions.clone()), true);
        if !known.limited
            && let Some(told) = member.reported()
        {
            backend::authentication(&mut client.output, 0, &[]);
            report(client, &told);
            let floor = known.flushed;
            return Ok(Admitted { upstream: None, member: Some(member), told, floor, again: Some(login) });
        }
        let slot = room(shared, false).await?;
        let connection = login.open().await.map_err(|error| End::Fatal(refusal(&error)))?;
        let (pid, secret) = (connection.process_id(), connection.secret_key().clone());
        let mut upstream = Upstream::new(connection, pid, secret, slot);
        let settings = settings_key(&mut upstream, false, &mut client.output).await;
        match settings.ok().flatten() {
            Some(settings) if settings == definitions => {}
            Some(settings) => {
                definitions = settings;
                continue;
            }
            None => break,
        }
        backend::authentication(&mut client.output, 0, &[]);
        report(client, &upstream.parameters);
        // Where connections are limited in number this one is the session's, as it would be there.
        if known.limited {
            return Ok(Admitted::with(upstream, None, Some(login)));
        }
        upstream.slot.assign(&member);
        member.set_reported(&upstream.parameters);
        return Ok(Admitted::with(upstream, Some(member), Some(login)));
    }
    Err(End::Fatal(Problem::PrimaryDown { fatal: true, message: "the primary cannot be reached".into() }))
}

/// A place for a new connection to the primary.
async fn room(shared: &Shared, relay: bool) -> Result<Slot, End> {
    shared.upstreams.room().await.map_err(|_| End::Fatal(Problem::NoUpstream { relay, fatal: true }))
}

/// What a client may know of our failed login. Addresses and causes are for the log.
pub(super) fn refusal(error: &PrimaryError) -> Problem {
    tracing::warn!("a client's login at the primary failed: {error}");
    match error {
        PrimaryError::Auth { sqlstate, message } => {
            Problem::LoginRefused { sqlstate: sqlstate.clone(), message: message.clone() }
        }
        PrimaryError::Server(server) => {
            Problem::LoginRefused { sqlstate: server.sqlstate.clone(), message: server.message.clone() }
        }
        _ => Problem::PrimaryDown { fatal: true, message: "the primary cannot be reached".into() },
    }
}

/// Our own check of a password, bound to our certificate where the client can.
async fn scram(client: &mut Client, user: &str, password: Option<&str>) -> Result<(), End> {
    let failed = |failed| refused(user, failed);
    // Somebody unknown costs the same and fails at the same step.
    let known = password.is_some();
    let password = password.map_or_else(|| format!("{:x}", rand::random::<u128>()), str::to_owned);
    let verifier = tokio::task::spawn_blocking(move || Verifier::of_password(&password)).await;
    let verifier = verifier.ok().flatten().ok_or_else(|| failed(Failed::Proof))?;
    exchange(client, user, verifier).await?;
    match known {
        true => Ok(()),
        false => Err(failed(Failed::Proof)),
    }
}

/// What the client is told when its exchange has failed.
fn refused(user: &str, failed: Failed) -> End {
    End::Fatal(match failed {
        Failed::Proof => Problem::Password { user: user.into() },
        Failed::Malformed(detail) => Problem::Scram { detail },
        Failed::Downgraded => Problem::Downgraded,
        Failed::Unbound => Problem::Unbound,
    })
}

/// The SCRAM exchange with the client, bound to our certificate where the client can.
async fn exchange(client: &mut Client, user: &str, verifier: Verifier) -> Result<ScramKeys, End> {
    let failed = |failed| refused(user, failed);
    let end_point = client.end_point().map(<[u8]>::to_vec);
    backend::authentication(&mut client.output, 10, mechanisms(end_point.is_some()));
    client.flush().await?;
    let first = credential(client, MAX_SASL).await?;
    let mut fields = Fields(first.body());
    let malformed = |_| End::Fatal(Problem::Protocol("malformed SASL message".into()));
    let mechanism = fields.string().map_err(malformed)?;
    let length = fields.i32().map_err(malformed)?;
    let binding = match (mechanism, &end_point) {
        (SCRAM_SHA_256_PLUS, Some(hash)) => Some(Binding::Chosen(hash)),
        (SCRAM_SHA_256, Some(_)) => Some(Binding::Offered),
        (SCRAM_SHA_256, None) => Some(Binding::Impossible),
        _ => None,
    };
    let length_fits = usize::try_from(length).ok() == Some(fields.0.len());
    let Some(binding) = binding.filter(|_| length_fits) else {
        return Err(End::Fatal(Problem::Protocol("client selected an invalid SASL mechanism".into())));
    };
    let exchange = Exchange::begin(verifier, fields.0, binding).map_err(failed)?;
    backend::authentication(&mut client.output, 11, exchange.server_first().as_bytes());
    client.flush().await?;
    let last = credential(client, MAX_SASL).await?;
    let (proof, keys) = exchange.finish(last.body()).map_err(failed)?;
    backend::authentication(&mut client.output, 12, proof.as_bytes());
    Ok(keys)
}

/// What AuthenticationSASL offers.
fn mechanisms(can_bind: bool) -> &'static [u8] {
    match can_bind {
        true => b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
        false => b"SCRAM-SHA-256\0\0",
    }
}

/// A password or SASL message.
async fn credential(client: &mut Client, max: u32) -> Result<Frame, End> {
    let frame = client.frame(max).await?;
    match frame.tag() {
        b'p' => Ok(frame),
        b'X' => Err(End::Closed),
        tag => {
            let message = format!("expected password response, got message type {tag}");
            Err(End::Fatal(Problem::Protocol(message)))
        }
    }
}

/// Lets the primary admit the client: hands its questions and the client's answers on.
async fn relay(
    client: &mut Client,
    startup: &Startup,
    parameters: Vec<(String, String)>,
    shared: &Shared,
) -> Result<Admitted, End> {
    let Shared { config, target, .. } = shared;
    let slot = room(shared, true).await?;
    let lost = |error: PrimaryError| End::Fatal(refusal(&error));
    let mut connection = Connection::open(target).await.map_err(lost)?;
    connection.write(&startup_packet(startup, &parameters));
    connection.flush().await.map_err(lost)?;
    let (mut asked, mut admitted, mut bound) = (false, false, false);
    let (mut pid, mut key) = (0, Bytes::new());
    loop {
        let message = connection.read_message().await.map_err(lost)?;
        match message.tag {
            b'R' => {
                let mut fields = Fields(&message.body);
                let code = fields.i32().unwrap_or(-1);
                let answer_max = match code {
                    0 => {
                        if !asked && !config.auth.allow_trust {
                            return Err(End::Fatal(Problem::Trusted { user: startup.user.clone() }));
                        }
                        admitted = true;
                        None
                    }
                    // Whoever stands between us and the primary could ask for it.
                    3 if !connection.is_private() => {
                        return Err(End::Fatal(Problem::AuthMethod("unencrypted password")));
                    }
                    3 | 5 => Some(MAX_PASSWORD),
                    10 => {
                        bound = offers_binding(fields.0);
                        Some(MAX_SASL)
                    }
                    11 => Some(MAX_SASL),
                    12 => None,
                    7 | 8 => return Err(End::Fatal(Problem::AuthMethod("GSSAPI"))),
                    9 => return Err(End::Fatal(Problem::AuthMethod("SSPI"))),
                    _ => return Err(End::Fatal(Problem::AuthMethod("an unknown kind of"))),
                };
                match code {
                    10 => backend::authentication(&mut client.output, 10, &without_binding(fields.0)),
                    _ => pass_on(client, &message),
                }
                if let Some(max) = answer_max {
                    asked = true;
                    client.flush().await?;
                    let frame = credential(client, max).await?;
                    if code == 10 && bound && thinks_unbound(&frame) {
                        return Err(End::Fatal(Problem::ChannelBinding));
                    }
                    connection.write(&frame.bytes);
                    connection.flush().await.map_err(lost)?;
                }
            }
            b'K' => {
                let mut fields = Fields(&message.body);
                pid = fields.i32().unwrap_or_default();
                key = message.body.slice(message.body.len() - fields.0.len()..);
            }
            b'E' => {
                tracing::debug!("the primary refused a client: {}", ServerMessage::parse(&message.body));
                pass_on(client, &message);
                return Err(End::Closed);
            }
            b'Z' if admitted => {
                let mut upstream = Upstream::new(connection, pid, key, slot);
                let member = join(&mut upstream, client, startup, parameters, shared, false).await;
                return Ok(Admitted::with(upstream, member, None));
            }
            b'S' | b'N' if asked || admitted => {
                pass_on(client, &message);
                connection.note(&message).map_err(lost)?;
            }
            // Before any question anybody could have written it, if the connection is not encrypted.
            b'N' => {}
            // We asked for 3.0 without options; what the client asked for we negotiate ourselves.
            b'v' => {}
            tag => {
                return Err(lost(PrimaryError::Protocol(format!("message {:?} at login", char::from(tag)))));
            }
        }
    }
}

fn pass_on(client: &mut Client, message: &Message) {
    backend::message(&mut client.output, message.tag, |out| out.extend_from_slice(&message.body));
}

fn startup_packet(startup: &Startup, parameters: &[(String, String)]) -> BytesMut {
    let mut packet = BytesMut::new();
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(&196_608_u32.to_be_bytes());
    let own = [("user", startup.user.as_str()), ("database", startup.database.as_str())];
    let given = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in own.into_iter().chain(given) {
        backend::put_string(&mut packet, name.as_bytes());
        backend::put_string(&mut packet, value.as_bytes());
    }
    packet.extend_from_slice(&[0]);
    let length = packet.len();
    backend::patch_length(&mut packet, 0, length);
    packet
}

/// Whether the primary offers SCRAM-SHA-256-PLUS, which it does over TLS alone.
fn offers_binding(mechanisms: &[u8]) -> bool {
    mechanisms.split(|&b| b == 0).any(|m| m == b"SCRAM-SHA-256-PLUS")
}

/// The mechanisms that can be handed on. Channel binding cannot: the client would bind to our
/// certificate, and the primary expects its own.
fn without_binding(mechanisms: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(mechanisms.len());
    for name in mechanisms.split(|&b| b == 0).filter(|m| !m.is_empty() && !m.ends_with(b"-PLUS")) {
        kept.extend_from_slice(name);
        kept.push(0);
    }
    kept.push(0);
    kept
}

/// Whether a SASL initial response carries the GS2 flag "y": "I could bind, and you do not offer it".
/// A primary that did offer it takes that for an attack.
fn thinks_unbound(frame: &Frame) -> bool {
    let mut fields = Fields(frame.body());
    fields.string().is_ok() && fields.i32().is_ok() && fields.0.starts_with(b"y")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_binding_is_not_offered() {
        let offered = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        assert!(offers_binding(offered));
        assert_eq!(without_binding(offered), b"SCRAM-SHA-256\0\0");
        assert_eq!(without_binding(b""), b"\0");
        let mut bytes = BytesMut::new();
        backend::message(&mut bytes, b'p', |out| {
            out.extend_from_slice(b"SCRAM-SHA-256\0\0\0\0\x08y,,n=,r=");
        });
        assert!(thinks_unbound(&Frame { bytes: bytes.freeze() }));
        assert!(!thinks_unbound(&Frame { bytes: Bytes::from_static(b"p\0\0\0\x04") }));
    }

    #[test]
    fn the_startup_packet_is_the_clients() {
        let startup = Startup {
            user: "app".into(),
            database: "shop".into(),
            protocol: 196_610,
            negotiate: false,
            unknown: Vec::new(),
            parameters: Vec::new(),
        };
        let packet = startup_packet(&startup, &[("a".into(), "b".into())]);
        assert_eq!(&packet[..], b"\0\0\0\x24\0\x03\0\0user\0app\0database\0shop\0a\0b\0\0");
    }
}
