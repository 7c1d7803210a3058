//! The configuration: file, environment and flags as written (`raw`), and [`Config`], validated,
//! which is all that the program uses.

mod load;
mod machine;
mod raw;
#[cfg(test)]
mod tests;
mod url;
mod value;

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

pub use load::{Flag, Sources};
pub use url::without_password;

/// The validated configuration. Every field has its default in `config/millpond.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub primary: Primary,
    pub listen: Listen,
    pub tables: Vec<TableRule>,
    pub replication: Replication,
    pub fallthrough: Fallthrough,
    pub freshness: Freshness,
    pub memory: Memory,
    pub auth: Auth,
    pub limits: Limits,
    pub admin: Admin,
    pub log: Log,
    pub cache: Cache,
}

/// `[primary]`
#[derive(Clone, PartialEq)]
pub struct Primary {
    /// `postgres://user@host:port/database?sslmode=..`, as libpq reads it.
    pub url: String,
    /// Overrides the URL's password; else PGPASSWORD, else the passfile.
    pub password: Option<String>,
    pub passfile: Option<PathBuf>,
    /// How long to try to reach the primary at start before giving up with exit code 69.
    pub start_timeout: Duration,
    pub connect_timeout: Duration,
}

impl fmt::Debug for Primary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Primary { url, password, passfile, start_timeout, connect_timeout } = self;
        f.debug_struct("Primary")
            .field("url", &without_password(url))
            .field("password", &password.as_ref().map(|_| "***"))
            .field("passfile", passfile)
            .field("start_timeout", start_timeout)
            .field("connect_timeout", connect_timeout)
            .finish()
    }
}

/// `[listen]`
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    pub address: SocketAddr,
    pub unix_socket_dir: Option<PathBuf>,
    /// Permissions of the socket's file, such as 0o770.
    pub unix_socket_permissions: u32,
    /// `[listen.tls]`
    pub tls: Option<ListenTls>,
    /// Serving threads; by default one for each core.
    pub threads: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ListenTls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Clients must show a certificate signed by one of these.
    pub client_ca: Option<PathBuf>,
    pub min_version: TlsVersion,
    /// TCP connections must be encrypted; always so with `client_ca`.
    pub required: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// `[[tables]]`: which tables, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRule {
    /// `schema.table` with `*` and `?`; a name without a schema means `public`.
    pub matches: Vec<String>,
    pub exclude: Vec<String>,
    /// `table.column` or `schema.table.column`: never leaves the primary.
    pub exclude_columns: Vec<String>,
    pub mode: TableMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableMode {
    Mirror,
}

/// `[replication]`
#[derive(Clone, Debug, PartialEq)]
pub struct Replication {
    pub mode: ReplicationMode,
    /// Slot name; by default `millpond`. Each running Millpond needs its own.
    pub slot: String,
    /// Publication name; created and owned by us unless it exists already.
    pub publication: String,
    /// Set: the slot is permanent and survives a lost connection. Unset: temporary.
    pub checkpoint_dir: Option<PathBuf>,
    /// Connections that copy side by side.
    pub copy_workers: usize,
    /// How long to wait for the slot behind older transactions before saying who holds it up.
    pub slot_timeout: Duration,
    /// Lock wait at the start of a copy: our lock must not queue in front of the application.
    pub lock_timeout: Duration,
    /// How often status is sent and asked for.
    pub status_interval: Duration,
    /// How often the catalogue is compared with ours.
    pub catalog_interval: Duration,
    /// Bytes that one open transaction may hold here; beyond it its tables are copied again.
    pub max_transaction_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationMode {
    Auto,
    Logical,
}

/// `[fallthrough]`
#[derive(Clone, Debug, PartialEq)]
pub struct Fallthrough {
    pub reads: Forwarding,
    pub writes: Forwarding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    Forward,
    Reject,
}

/// `[freshness]`
#[derive(Clone, Debug, PartialEq)]
pub struct Freshness {
    /// How long a read waits for the session's own last position before the primary answers it.
    pub wait_timeout: Duration,
}

/// `[memory]`
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    pub max_bytes: u64,
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    pub method: AuthMethod,
    /// Relay only: admit clients even where the primary would admit our address without a password.
    pub allow_trust: bool,
    /// `[auth.users]`, for `scram`: role -> password, which is also how we log in as that role.
    pub users: Vec<AuthUser>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// The primary admits or refuses each client; we hand the exchange on.
    Relay,
    /// SCRAM-SHA-256 against the verifiers that a function of `sql/verifier.sql` reads.
    Verifier,
    /// SCRAM-SHA-256 against `[auth.users]`.
    Scram,
    /// Every client is who it says it is.
    Trust,
}

#[derive(Clone, PartialEq)]
pub struct AuthUser {
    pub name: String,
    pub password: String,
}

impl fmt::Debug for AuthUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub max_connections: usize,
    /// `None` for no bound of its own.
    pub max_connections_per_role: Option<usize>,
    /// Connections that have not logged in; the longest silent one makes room for a new one.
    pub max_unauthenticated: usize,
    /// The same, of one address.
    pub max_unauthenticated_per_address: usize,
    /// Logins that the primary is at, each on a connection of its own.
    pub max_logins: usize,
    pub max_accepts_per_second: usize,
    /// From accept to ReadyForQuery.
    pub login_timeout: Duration,
    pub max_message_bytes: u32,
    /// Prepared statements and portals of one session.
    pub max_statements: usize,
    /// Connections to the primary that clients' sessions may hold in all; 0 for no bound.
    pub max_upstream: usize,
    /// How long a session waits for one of them.
    pub upstream_wait: Duration,
    /// After this long without use, a connection that can be opened again without the client is closed.
    pub upstream_idle: Duration,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// `None` when `admin.listen = ""`.
    pub listen: Option<SocketAddr>,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// A `tracing` filter, such as `info` or `millpond::source=debug`.
    pub filter: String,
    pub json: bool,
}

/// `[cache]`
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// `false`: a plain proxy.
    pub enabled: bool,
}

/// All that is wrong with a configuration, in the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    pub errors: Vec<KeyError>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errors.len() {
            1 => f.write_str("the configuration has an error:")?,
            count => write!(f, "the configuration has {count} errors:")?,
        }
        self.errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

/// What is wrong with one key, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// Such as `replication.slot` or `tables[0].match`; `--config` for the file as a whole.
    pub key: String,
    /// The file, variable or flag that set it.
    pub origin: Option<String>,
    pub problem: String,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(origin) = &self.origin {
            write!(f, " ({origin})")?;
        }
        write!(f, ": {}", self.problem)
    }
}
