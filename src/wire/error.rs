//! What clients are told when something is wrong: every case with its SQLSTATE, in one place.

use std::{borrow::Cow, io, net::SocketAddr, path::PathBuf};

use crate::query::Reason;

/// The port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {address}: {source} (listen.address)")]
    Tcp {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen on the socket {}: {source} (listen.unix_socket_dir)", path.display())]
    Unix {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("listen.tls cannot be used: {0}")]
    Tls(String),
    #[error("cannot start a serving thread: {0}")]
    Thread(#[source] io::Error),
}

/// The fields of an ErrorResponse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// The connection ends after it.
    pub(super) fatal: bool,
    pub(super) sqlstate: Cow<'static, str>,
    pub(super) message: String,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
}

impl Report {
    pub(super) fn error(sqlstate: &'static str, message: impl Into<String>) -> Report {
        Report { fatal: false, sqlstate: sqlstate.into(), message: message.into(), detail: None, hint: None }
    }

    pub(super) fn fatal(sqlstate: &'static str, message: impl Into<String>) -> Report {
        Report { fatal: true, ..Report::error(sqlstate, message) }
    }

    pub(super) fn with_hint(self, hint: impl Into<String>) -> Report {
        Report { hint: Some(hint.into()), ..self }
    }

    fn with_detail(self, detail: impl Into<String>) -> Report {
        Report { detail: Some(detail.into()), ..self }
    }
}

/// Everything that we refuse or that fails on our side. What the primary refuses is handed on as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    TooManyClients,
    ShuttingDown,
    /// A startup packet that cannot be read; the sentence says why.
    Startup(String),
    /// A message that cannot stand where it does, or framing that is broken.
    Protocol(String),
    ProtocolVersion {
        major: u32,
        minor: u32,
    },
    /// Sent in clear behind a request for encryption, which is named.
    UnencryptedData(&'static str),
    /// TCP without TLS under `listen.tls.required`.
    Unencrypted,
    NoUser,
    /// A startup packet in another encoding than UTF-8.
    Encoding {
        byte: u8,
    },
    /// A login took longer than `limits.login_timeout`.
    LoginTimeout,
    TooManyOfRole {
        role: String,
    },
    Replication,
    ReplicationValue {
        value: String,
    },
    /// The primary admits our address without asking for a credential.
    Trusted {
        user: String,
    },
    /// The primary asks for something that cannot be handed on.
    AuthMethod(&'static str),
    /// Both sides are encrypted, and the client insists that the primary offers no channel binding.
    ChannelBinding,
    Password {
        user: String,
    },
    /// A message of a SCRAM exchange that cannot stand there.
    Scram {
        detail: &'static str,
    },
    /// The client believes that we offered no channel binding, and we did.
    Downgraded,
    /// The client's channel binding is not to our certificate.
    Unbound,
    /// The primary cannot be reached, or closed our connection.
    PrimaryDown {
        fatal: bool,
        message: String,
    },
    /// The primary refused our login in the client's name (methods `scram` and `trust`).
    LoginRefused {
        sqlstate: String,
        message: String,
    },
    /// The function that reads verifiers is not there, or not for us.
    NoVerifiers,
    /// All connections to the primary are in use, for as long as `limits.upstream_wait` says.
    NoUpstream {
        /// Only clients can open some.
        relay: bool,
        fatal: bool,
    },
    WriteRejected {
        verb: String,
    },
    /// The statement would lift the read-only default under which we forward.
    ReadWriteRejected,
    ReadRejected(Reason),
    /// `millpond.route = local`.
    LocalOnly(Reason),
    Canceled,
    /// `statement_timeout`.
    TimedOut,
    /// `idle_in_transaction_session_timeout`, in a transaction that only we know of.
    IdleInTransaction,
    /// `transaction_timeout`, likewise.
    TransactionTooLong,
    /// The transaction has failed, and the primary cannot be asked to say so.
    Aborted,
    /// A cursor that is read from memory cannot do this.
    CursorHere {
        cursor: String,
        what: &'static str,
    },
    NoCursor(String),
    NoPortal(String),
    /// A cursor without SCROLL was asked to go back.
    ForwardOnly,
    /// A portal that was executed already and cannot be again.
    PortalRan(String),
    /// The result formats of a Bind do not fit.
    Formats {
        given: usize,
        columns: usize,
    },
    NoStatement(String),
    DuplicateStatement(String),
    DuplicatePortal(String),
    TooManyStatements {
        limit: usize,
    },
    PlanChanged,
    /// A value that we hold cannot be written; names the codec's error.
    Internal(String),
}

/// How to let writes through, as errors of read-only sessions name it.
pub(super) const WRITE_HINT: &str = "Send writes to the primary itself, or set fallthrough.writes = \"forward\" in \
     Millpond's configuration to have them handed on to it.";

impl Problem {
    /// Classes as in <https://www.postgresql.org/docs/current/errcodes-appendix.html>; texts as
    /// PostgreSQL has them where it has the same case.
    pub(super) fn report(&self) -> Report {
        match self {
            Problem::TooManyClients => Report::fatal("53300", "sorry, too many clients already"),
            Problem::ShuttingDown => {
                Report::fatal("57P01", "terminating connection due to administrator command")
            }
            Problem::Startup(message) | Problem::Protocol(message) => Report::fatal("08P01", message),
            Problem::ProtocolVersion { major, minor } => Report::fatal(
                "0A000",
                format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2"),
            ),
            Problem::UnencryptedData(request) => {
                Report::fatal("08P01", format!("received unencrypted data after {request} request")).with_detail(
                    "This could be either a client-software bug or evidence of an attempted \
                     man-in-the-middle attack.",
                )
            }
            Problem::Unencrypted => Report::fatal("28000", "the connection is not encrypted")
                .with_hint("Connect with sslmode=require; listen.tls in Millpond's configuration asks for it."),
            Problem::NoUser => {
                Report::fatal("28000", "no PostgreSQL user name specified in startup packet")
            }
            Problem::Encoding { byte } => Report::fatal(
                "22021",
                format!("invalid byte sequence for encoding \"UTF8\": 0x{byte:02x}"),
            ),
            Problem::LoginTimeout => {
                Report::fatal("57014", "canceling authentication due to timeout")
            }
            Problem::TooManyOfRole { role } => {
                Report::fatal("53300", format!("too many connections for role \"{role}\""))
            }
            Problem::ReplicationValue { value } => Report::fatal(
                "22023",
                format!("invalid value for parameter \"replication\": \"{value}\""),
            )
            .with_hint("Valid values are: \"false\", 0, \"true\", 1, \"database\"."),
            Problem::Replication => {
                Report::fatal("0A000", "Millpond does not hand on replication connections")
                    .with_hint("Connect to the primary itself.")
            }
            Problem::Trusted { user } => Report::fatal(
                "28000",
                format!("the primary admits \"{user}\" from Millpond's address without a password"),
            )
            .with_detail("Millpond lets the primary admit each client, and it asked this one for nothing.")
            .with_hint(
                "Have pg_hba.conf ask for scram-sha-256 from Millpond's address, or set auth.allow_trust = true.",
            ),
            Problem::AuthMethod(method) => Report::fatal(
                "28000",
                format!("the primary asks for {method} authentication, which Millpond cannot hand on"),
            )
            .with_hint("Have pg_hba.conf ask for scram-sha-256 from Millpond's address."),
            Problem::ChannelBinding => Report::fatal(
                "28000",
                "channel binding cannot be handed on between two encrypted connections",
            )
            .with_hint("Connect with channel_binding=disable, or set auth.method = \"verifier\"."),
            Problem::Password { user } => {
                Report::fatal("28P01", format!("password authentication failed for user \"{user}\""))
            }
            Problem::Scram { detail } => {
                Report::fatal("08P01", "malformed SCRAM message").with_detail(*detail)
            }
            Problem::Downgraded => Report::fatal("28000", "SCRAM channel binding negotiation error")
                .with_detail(
                    "The client supports SCRAM channel binding but thinks the server does not.  However, this \
                     server does support channel binding.",
                ),
            Problem::Unbound => Report::fatal("28000", "SCRAM channel binding check failed"),
            Problem::PrimaryDown { fatal, message } => Report {
                fatal: *fatal,
                ..Report::error("08006", message)
                    .with_hint("Tables in Millpond's memory can still be read; everything else needs the primary.")
            },
            Problem::LoginRefused { sqlstate, message } => {
                Report { sqlstate: sqlstate.clone().into(), ..Report::fatal("28000", message) }
            }
            Problem::NoVerifiers => {
                Report::fatal("28000", "Millpond cannot read the verifiers of passwords at the primary")
                    .with_hint("Run sql/verifier.sql there, in the cached database.")
            }
            Problem::NoUpstream { relay, fatal } => Report {
                fatal: *fatal,
                ..Report::error("53300", "all connections to the primary are in use").with_hint(match relay {
                    true => "Sessions that have changed their state keep theirs. Raise limits.max_upstream, or set \
                             auth.method = \"verifier\", with which Millpond can open connections by itself.",
                    false => "Sessions that have changed their state keep theirs. Raise limits.max_upstream.",
                })
            },
            Problem::WriteRejected { verb } => Report::error(
                "25006",
                format!("cannot execute {verb} here: Millpond forwards reads only"),
            )
            .with_hint(WRITE_HINT),
            Problem::ReadWriteRejected => {
                Report::error("25006", "cannot set transaction read-write mode: Millpond forwards reads only")
                    .with_hint(WRITE_HINT)
            }
            Problem::ReadRejected(reason) => Report::error(
                "0A000",
                format!("this statement cannot be answered from memory ({reason})"),
            )
            .with_hint("fallthrough.reads = \"reject\" in Millpond's configuration keeps it from the primary."),
            Problem::LocalOnly(reason) => Report::error(
                "0A000",
                format!("this statement cannot be answered from memory ({reason})"),
            )
            .with_hint("The session has millpond.route = 'local', which keeps it from the primary."),
            Problem::Canceled => Report::error("57014", "canceling statement due to user request"),
            Problem::TimedOut => Report::error("57014", "canceling statement due to statement timeout"),
            Problem::IdleInTransaction => {
                Report::fatal("25P03", "terminating connection due to idle-in-transaction timeout")
            }
            Problem::TransactionTooLong => {
                Report::fatal("25P04", "terminating connection due to transaction timeout")
            }
            Problem::Aborted => Report::error(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            ),
            Problem::CursorHere { cursor, what } => {
                Report::error("0A000", format!("cursor \"{cursor}\" is read from Millpond's memory: {what}"))
                    .with_hint("Set millpond.route = 'primary' before the transaction to have its cursors at the primary.")
            }
            Problem::NoCursor(name) => Report::error("34000", format!("cursor \"{name}\" does not exist")),
            Problem::NoPortal(name) => Report::error("34000", format!("portal \"{name}\" does not exist")),
            Problem::ForwardOnly => Report::error("55000", "cursor can only scan forward")
                .with_hint("Declare it with SCROLL option to enable backward scan."),
            Problem::PortalRan(name) => Report::error("55000", format!("portal \"{name}\" cannot be run")),
            Problem::Formats { given, columns } => Report::error(
                "08P01",
                format!("bind message has {given} result formats but query has {columns} columns"),
            ),
            Problem::NoStatement(name) if name.is_empty() => {
                Report::error("26000", "unnamed prepared statement does not exist")
            }
            Problem::NoStatement(name) => {
                Report::error("26000", format!("prepared statement \"{name}\" does not exist"))
            }
            Problem::DuplicateStatement(name) => {
                Report::error("42P05", format!("prepared statement \"{name}\" already exists"))
            }
            Problem::DuplicatePortal(name) => {
                Report::error("42P03", format!("cursor \"{name}\" already exists"))
            }
            Problem::TooManyStatements { limit } => Report::error(
                "53400",
                format!("a session can have {limit} prepared statements and portals"),
            )
            .with_hint("Close some, or raise limits.max_statements."),
            Problem::PlanChanged => Report::error("0A000", "cached plan must not change result type"),
            Problem::Internal(message) => Report::error("XX000", message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_write_says_what_to_do() {
        let report = Problem::WriteRejected { verb: "INSERT".into() }.report();
        assert_eq!((report.sqlstate.as_ref(), report.fatal), ("25006", false));
        assert!(report.hint.unwrap().contains("fallthrough.writes = \"forward\""));
        let report = Problem::Trusted { user: "app".into() }.report();
        assert!(report.fatal && report.hint.unwrap().contains("auth.allow_trust"));
    }
}
