//! What can go wrong between us and the primary, and whether trying again can help.

use std::{fmt, io};

/// An error of the connection to the primary, or one that the primary itself reported.
#[derive(Debug, thiserror::Error)]
pub enum PrimaryError {
    /// The connection string, the passfile or a certificate file is wrong. Says what to do.
    #[error("{0}")]
    Url(String),
    #[error("cannot reach the primary at {host}: {source}")]
    Unreachable {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot encrypt the connection to the primary at {host}: {message}")]
    Tls { host: String, message: String },
    /// The primary did not let us in: a wrong password, no entry in pg_hba.conf, no such database.
    #[error("the primary refused the login: {message} ({sqlstate})")]
    Auth { sqlstate: String, message: String },
    /// An ErrorResponse.
    #[error("{0}")]
    Server(Box<ServerMessage>),
    /// The primary sent what the protocol does not allow here.
    #[error("unexpected answer of the primary: {0}")]
    Protocol(String),
    #[error("the primary closed the connection")]
    Closed {
        #[source]
        source: Option<io::Error>,
    },
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Unreachable, restarting, out of connections: the same request can succeed later.
    Transient,
    /// Credentials, rights, a missing database or a wrong configuration: somebody has to mend it.
    Fatal,
    /// The request itself was refused; the connection and the next request may be fine.
    Request,
}

impl PrimaryError {
    /// The retry policy's one `match`. Classes are those of
    /// <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
    pub fn kind(&self) -> ErrorKind {
        match self {
            PrimaryError::Url(_) | PrimaryError::Tls { .. } => ErrorKind::Fatal,
            PrimaryError::Unreachable { .. } | PrimaryError::Closed { .. } => ErrorKind::Transient,
            PrimaryError::Protocol(_) => ErrorKind::Request,
            PrimaryError::Auth { sqlstate, .. } => kind_of(sqlstate),
            PrimaryError::Server(message) => kind_of(&message.sqlstate),
        }
    }

    /// The SQLSTATE, when the primary gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            PrimaryError::Auth { sqlstate, .. } => Some(sqlstate),
            PrimaryError::Server(message) => Some(&message.sqlstate),
            _ => None,
        }
    }

    /// An ErrorResponse of the login phase: what concerns admission is [`PrimaryError::Auth`].
    pub(super) fn at_login(message: ServerMessage) -> PrimaryError {
        let refused = message.sqlstate.starts_with("28") || message.sqlstate == "3D000";
        if refused || message.sqlstate == "42501" {
            return PrimaryError::Auth { sqlstate: message.sqlstate, message: message.message };
        }
        PrimaryError::Server(Box::new(message))
    }

    pub(super) fn closed(source: io::Error) -> PrimaryError {
        PrimaryError::Closed { source: Some(source) }
    }
}

fn kind_of(sqlstate: &str) -> ErrorKind {
    match sqlstate {
        // admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections and its class.
        "57P01" | "57P02" | "57P03" => ErrorKind::Transient,
        s if s.starts_with("53") || s.starts_with("08") => ErrorKind::Transient,
        "3D000" | "42501" => ErrorKind::Fatal,
        s if s.starts_with("28") => ErrorKind::Fatal,
        _ => ErrorKind::Request,
    }
}

impl From<tokio_postgres::Error> for PrimaryError {
    fn from(error: tokio_postgres::Error) -> PrimaryError {
        if let Some(db) = error.as_db_error() {
            return PrimaryError::Server(Box::new(ServerMessage::from(db)));
        }
        let io = std::error::Error::source(&error).and_then(|s| s.downcast_ref::<io::Error>());
        match io {
            Some(io) => PrimaryError::closed(io::Error::new(io.kind(), io.to_string())),
            None if error.is_closed() => PrimaryError::Closed { source: None },
            None => PrimaryError::Protocol(describe(&error)),
        }
    }
}

/// What the primary said, or the causes of the error, in one line: the error itself says "db error" and no
/// more.
pub fn in_words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => ServerMessage::from(db).to_string(),
        None => describe(error),
    }
}

/// The error and its causes in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        line.push_str(": ");
        line.push_str(&source.to_string());
        cause = source.source();
    }
    line
}

/// The fields of an ErrorResponse or NoticeResponse that somebody reads. Fields that the primary
/// left out are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerMessage {
    pub severity: String,
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl ServerMessage {
    /// Reads the body of an 'E' or 'N' message. Total: unknown fields are skipped, missing ones stay
    /// empty, a cut-off end is taken as the end
    /// (<https://www.postgresql.org/docs/current/protocol-error-fields.html>).
    pub fn parse(body: &[u8]) -> ServerMessage {
        let mut parsed = ServerMessage::default();
        for field in body.split(|&b| b == 0) {
            let Some((&code, text)) = field.split_first() else { break };
            let text = || String::from_utf8_lossy(text).into_owned();
            match code {
                b'S' if parsed.severity.is_empty() => parsed.severity = text(),
                // Never translated, so preferred over 'S'.
                b'V' => parsed.severity = text(),
                b'C' => parsed.sqlstate = text(),
                b'M' => parsed.message = text(),
                b'D' => parsed.detail = Some(text()),
                b'H' => parsed.hint = Some(text()),
                _ => {}
            }
        }
        parsed
    }
}

impl From<&tokio_postgres::error::DbError> for ServerMessage {
    fn from(db: &tokio_postgres::error::DbError) -> ServerMessage {
        ServerMessage {
            severity: db.severity().to_owned(),
            sqlstate: db.code().code().to_owned(),
            message: db.message().to_owned(),
            detail: db.detail().map(str::to_owned),
            hint: db.hint().map(str::to_owned),
        }
    }
}

impl fmt::Display for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.severity.is_empty() { "ERROR" } else { &self.severity };
        write!(f, "{severity}: {}", self.message)?;
        if !self.sqlstate.is_empty() {
            write!(f, " ({})", self.sqlstate)?;
        }
        for (name, text) in [("detail", &self.detail), ("hint", &self.hint)] {
            if let Some(text) = text {
                write!(f, "; {name}: {text}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_and_tolerates_what_it_does_not_know() {
        let message = ServerMessage::parse(b"SFEHLER\0VERROR\0C42P01\0Mno such table\0?what\0Hlook\0\0");
        assert_eq!(message.severity, "ERROR");
        assert_eq!(message.sqlstate, "42P01");
        assert_eq!(message.message, "no such table");
        assert_eq!(message.hint.as_deref(), Some("look"));
        assert_eq!(message.to_string(), "ERROR: no such table (42P01); hint: look");
        assert_eq!(ServerMessage::parse(b""), ServerMessage::default());
        assert_eq!(ServerMessage::parse(b"Mcut off").message, "cut off");
        assert_eq!(ServerMessage::parse(&[0xff, 0xfe, 0]), ServerMessage::default());
    }

    #[test]
    fn knows_what_a_retry_can_help() {
        let server = |sqlstate: &str| {
            PrimaryError::Server(Box::new(ServerMessage { sqlstate: sqlstate.into(), ..Default::default() }))
        };
        for transient in ["57P01", "57P02", "57P03", "53300", "08006"] {
            assert_eq!(server(transient).kind(), ErrorKind::Transient, "{transient}");
        }
        for fatal in ["28P01", "28000", "3D000", "42501"] {
            assert_eq!(server(fatal).kind(), ErrorKind::Fatal, "{fatal}");
        }
        assert_eq!(server("42601").kind(), ErrorKind::Request);
        assert_eq!(server("").kind(), ErrorKind::Request);
        assert_eq!(PrimaryError::Closed { source: None }.kind(), ErrorKind::Transient);
    }
}
