//! Which primary: hosts, role, database, password and encryption, from a connection string.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio_rustls::rustls::ClientConfig;

use super::{PrimaryError, ScramKeys, passfile::Passfile, settings, tls};
use crate::config;

/// Where the primary is and who we are there. Cheap enough to clone for each connection.
#[derive(Clone)]
pub struct Target {
    pub(super) hosts: Vec<Host>,
    pub(super) user: String,
    pub(super) database: String,
    password: Option<String>,
    /// In place of a password.
    pub(super) keys: Option<Arc<ScramKeys>>,
    /// For a client's login: the startup packet has the client's parameters and no others.
    pub(super) is_clients: bool,
    passfile: Arc<Passfile>,
    pub(super) ssl_mode: SslMode,
    /// Present unless encryption is off or every host is a socket.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) connect_timeout: Duration,
    pub(super) options: String,
    pub(super) application_name: Option<String>,
    /// Whether a server in recovery is passed over.
    pub(super) primary_only: bool,
    /// The host that answered last, tried first; shared by all clones.
    preferred: Arc<AtomicUsize>,
}

/// One server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// `address` is libpq's hostaddr: where to connect, while `name` is what a certificate must say.
    Tcp { name: String, address: Option<std::net::IpAddr>, port: u16 },
    /// The directory of the socket and the port that is part of its name.
    Unix { directory: PathBuf, port: u16 },
}

/// As in <https://www.postgresql.org/docs/current/libpq-ssl.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Target {
    /// Reads the configuration's connection string, password and passfile.
    ///
    /// # Errors
    /// [`PrimaryError::Url`] with a sentence that says what is wrong and what to do.
    pub fn parse(primary: &config::Primary) -> Result<Target, PrimaryError> {
        let mut p = Parameters::default();
        for (name, value) in settings::parse(&primary.url)? {
            p.set(&name, value)?;
        }
        let user = p.user.or_else(os_user).ok_or_else(|| {
            PrimaryError::Url("primary.url names no user: write postgres://user@host/database".into())
        })?;
        let hosts = hosts(p.host.as_deref(), p.hostaddr.as_deref(), p.port.as_deref())?;
        let ssl_mode = p.ssl_mode.unwrap_or(SslMode::Prefer);
        let encrypted = ssl_mode != SslMode::Disable && hosts.iter().any(|h| matches!(h, Host::Tcp { .. }));
        let tls = match encrypted {
            true => Some(tls::config(ssl_mode, p.ssl_root_cert, p.ssl_cert, p.ssl_key)?),
            false => None,
        };
        let password = primary.password.clone().or(p.password).or_else(|| env("PGPASSWORD"));
        let named = primary.passfile.clone().or(p.passfile).or_else(|| env("PGPASSFILE").map(PathBuf::from));
        let passfile = match (&password, named) {
            (Some(_), _) => Passfile::default(),
            (None, Some(path)) => Passfile::read(&path, true)?,
            (None, None) => match env("HOME") {
                Some(home) => Passfile::read(&Path::new(&home).join(".pgpass"), false)?,
                None => Passfile::default(),
            },
        };
        Ok(Target {
            primary_only: p.primary_only.unwrap_or(hosts.len() > 1),
            hosts,
            database: p.database.unwrap_or_else(|| user.clone()),
            user,
            password,
            keys: None,
            is_clients: false,
            passfile: Arc::new(passfile),
            ssl_mode,
            tls,
            connect_timeout: p.connect_timeout.unwrap_or(primary.connect_timeout),
            options: p.options.unwrap_or_default(),
            application_name: p.application_name,
            preferred: Arc::default(),
        })
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn database(&self) -> &str {
        &self.database
    }

    /// The same servers for a client whose keys are known.
    pub fn with_keys(&self, user: &str, keys: Arc<ScramKeys>, database: &str) -> Target {
        Target { keys: Some(keys), ..self.with_login(user, None, database) }
    }

    /// The same servers for a client, with its role and database. Without a password here, the
    /// passfile's.
    pub fn with_login(&self, user: &str, password: Option<&str>, database: &str) -> Target {
        Target {
            user: user.into(),
            password: password.map(str::to_owned),
            database: database.into(),
            is_clients: true,
            ..self.clone()
        }
    }

    /// The hosts, the one that answered last first.
    pub(super) fn hosts(&self) -> impl Iterator<Item = (usize, &Host)> {
        let first = self.preferred.load(Ordering::Relaxed);
        let (before, after) = self.hosts.split_at_checked(first).unwrap_or((&[], &self.hosts));
        let after = after.iter().enumerate().map(move |(i, host)| (i + first, host));
        after.chain(before.iter().enumerate())
    }

    /// Remembers the host that answered.
    pub(super) fn prefer(&self, index: usize) {
        self.preferred.store(index, Ordering::Relaxed);
    }

    pub(super) fn password(&self, host: &Host) -> Option<&str> {
        if let Some(password) = &self.password {
            return Some(password);
        }
        let (name, port) = match host {
            Host::Tcp { name, port, .. } => (name.as_str(), *port),
            Host::Unix { directory, port } if is_default_directory(directory) => ("localhost", *port),
            Host::Unix { directory, port } => (directory.to_str()?, *port),
        };
        self.passfile.password(name, port, &self.database, &self.user)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("hosts", &self.hosts)
            .field("user", &self.user)
            .field("database", &self.database)
            .field("ssl_mode", &self.ssl_mode)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Tcp { name, port, .. } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Host::Tcp { name, port, .. } => write!(f, "{name}:{port}"),
            Host::Unix { .. } => write!(f, "{}", self.socket().display()),
        }
    }
}

impl Host {
    /// The socket file of a Unix host; empty for others.
    pub(super) fn socket(&self) -> PathBuf {
        match self {
            Host::Unix { directory, port } => directory.join(format!(".s.PGSQL.{port}")),
            Host::Tcp { .. } => PathBuf::new(),
        }
    }
}

/// The parameters of a connection string that we know.
#[derive(Default)]
struct Parameters {
    user: Option<String>,
    password: Option<String>,
    passfile: Option<PathBuf>,
    host: Option<String>,
    hostaddr: Option<String>,
    port: Option<String>,
    database: Option<String>,
    options: Option<String>,
    application_name: Option<String>,
    ssl_mode: Option<SslMode>,
    ssl_root_cert: Option<PathBuf>,
    ssl_cert: Option<PathBuf>,
    ssl_key: Option<PathBuf>,
    connect_timeout: Option<Duration>,
    primary_only: Option<bool>,
}

impl Parameters {
    fn set(&mut self, name: &str, value: String) -> Result<(), PrimaryError> {
        let refuse = |allowed: &str| {
            Err(PrimaryError::Url(format!("primary.url has {name}={value}, but {name} must be {allowed}")))
        };
        match name {
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "passfile" => self.passfile = Some(value.into()),
            "host" => self.host = Some(value),
            "hostaddr" => self.hostaddr = Some(value),
            "port" => self.port = Some(value),
            "dbname" => self.database = Some(value),
            "options" => self.options = Some(value),
            "application_name" | "fallback_application_name" => self.application_name = Some(value),
            "sslrootcert" => self.ssl_root_cert = Some(value.into()),
            "sslcert" => self.ssl_cert = Some(value.into()),
            "sslkey" => self.ssl_key = Some(value.into()),
            "sslmode" => {
                self.ssl_mode = Some(match value.as_str() {
                    "disable" => SslMode::Disable,
                    "allow" => SslMode::Allow,
                    "prefer" => SslMode::Prefer,
                    "require" => SslMode::Require,
                    "verify-ca" => SslMode::VerifyCa,
                    "verify-full" => SslMode::VerifyFull,
                    _ => return refuse("disable, allow, prefer, require, verify-ca or verify-full"),
                });
            }
            "connect_timeout" => match value.parse::<i64>() {
                // As libpq: zero and less mean no limit, which we read as our own default.
                Ok(seconds) if seconds > 0 => {
                    self.connect_timeout = Some(Duration::from_secs(seconds as u64))
                }
                Ok(_) => {}
                Err(_) => return refuse("a number of seconds"),
            },
            "target_session_attrs" => {
                self.primary_only = Some(match value.as_str() {
                    "any" => false,
                    "primary" | "read-write" => true,
                    _ => return refuse("any, primary or read-write: a standby cannot be followed"),
                });
            }
            "client_encoding" if !matches!(&*value.to_lowercase(), "utf8" | "utf-8" | "auto") => {
                return refuse("UTF8");
            }
            "channel_binding" if value == "require" => {
                return refuse("prefer or disable: channel binding is not supported yet");
            }
            "gssencmode" if value == "require" => return refuse("prefer or disable"),
            "sslnegotiation" if value != "postgres" => return refuse("postgres"),
            "client_encoding"
            | "channel_binding"
            | "gssencmode"
            | "sslnegotiation"
            | "sslcompression"
            | "sslsni"
            | "krbsrvname"
            | "keepalives"
            | "keepalives_idle"
            | "keepalives_interval"
            | "keepalives_count"
            | "tcp_user_timeout"
            | "load_balance_hosts" => {}
            _ => {
                return Err(PrimaryError::Url(format!(
                    "primary.url has the parameter {name:?}, which is not supported: remove it"
                )));
            }
        }
        Ok(())
    }
}

fn hosts(
    names: Option<&str>,
    addresses: Option<&str>,
    ports: Option<&str>,
) -> Result<Vec<Host>, PrimaryError> {
    let split = |list: Option<&str>| -> Vec<String> {
        list.filter(|l| !l.is_empty()).map(|l| l.split(',').map(str::to_owned).collect()).unwrap_or_default()
    };
    let (names, addresses, ports) = (split(names), split(addresses), split(ports));
    let count = names.len().max(addresses.len()).max(1);
    let fits = |n: usize, lone: bool| n == count || n == 0 || (lone && n == 1);
    if !fits(names.len(), false) || !fits(addresses.len(), false) || !fits(ports.len(), true) {
        return Err(PrimaryError::Url(
            "primary.url must have as many ports and addresses as it has hosts, or one port for all".into(),
        ));
    }
    let port_of = |i: usize| -> Result<u16, PrimaryError> {
        let text = ports.get(if ports.len() == 1 { 0 } else { i }).map_or("", String::as_str);
        match text {
            "" => Ok(5432),
            text => text.trim().parse().ok().filter(|p| *p != 0).ok_or_else(|| {
                PrimaryError::Url(format!("primary.url has the port {text:?}: it must be 1 to 65535"))
            }),
        }
    };
    (0..count)
        .map(|i| {
            let port = port_of(i)?;
            let name = names.get(i).map_or("", String::as_str);
            let address: Option<std::net::IpAddr> = match addresses.get(i).map_or("", String::as_str) {
                "" => None,
                text => Some(text.parse().map_err(|_| {
                    PrimaryError::Url(format!("primary.url has hostaddr={text}: it must be an IP address"))
                })?),
            };
            Ok(match (name, address) {
                ("", None) => default_host(port),
                ("", Some(address)) => Host::Tcp { name: address.to_string(), address: Some(address), port },
                (path, None) if path.starts_with('/') => Host::Unix { directory: path.into(), port },
                (name, address) => Host::Tcp { name: name.into(), address, port },
            })
        })
        .collect()
}

const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

fn is_default_directory(directory: &Path) -> bool {
    SOCKET_DIRECTORIES.iter().any(|d| directory == Path::new(d))
}

/// No host: the local socket if there is one, as libpq, else this machine.
fn default_host(port: u16) -> Host {
    let sockets = SOCKET_DIRECTORIES.iter().map(|d| Host::Unix { directory: d.into(), port });
    sockets.into_iter().find(|host| host.socket().exists()).unwrap_or_else(|| Host::Tcp {
        name: "localhost".into(),
        address: None,
        port,
    })
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The name of the user that we run as.
fn os_user() -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata("/proc/self").ok().map(|m| m.uid().to_string());
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let listed = own.and_then(|own| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == own).then(|| name.to_owned())
        })
    });
    listed.or_else(|| env("USER"))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn primary(url: &str) -> config::Primary {
        config::Primary {
            url: url.into(),
            password: None,
            passfile: None,
            start_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
        }
    }

    fn parse(url: &str) -> Result<Target, PrimaryError> {
        Target::parse(&primary(url))
    }

    #[test]
    fn reads_hosts_role_and_database() {
        let t = parse("postgres://me:secret@h1,h2:5433/app?sslmode=disable&connect_timeout=3").unwrap();
        let tcp = |name: &str, port| Host::Tcp { name: name.into(), address: None, port };
        assert_eq!(t.hosts, [tcp("h1", 5432), tcp("h2", 5433)]);
        assert_eq!((t.user(), t.database(), t.connect_timeout.as_secs()), ("me", "app", 3));
        assert_eq!(t.password(&t.hosts[0]), Some("secret"));
        assert!(t.primary_only && t.tls.is_none());
        assert!(!format!("{t:?}").contains("secret"));
        t.prefer(1);
        assert_eq!(t.hosts().map(|(i, _)| i).collect::<Vec<_>>(), [1, 0]);

        let t = parse("host=/run/pg port=6000 user=me").unwrap();
        assert_eq!(t.hosts, [Host::Unix { directory: "/run/pg".into(), port: 6000 }]);
        assert_eq!(t.hosts[0].to_string(), "/run/pg/.s.PGSQL.6000");
        assert_eq!(t.database(), "me");
        assert!(!t.primary_only);
        let t = parse("postgres://me@ignored/?host=a,b&hostaddr=10.0.0.1,::1&port=7").unwrap();
        assert_eq!(t.hosts[1], Host::Tcp { name: "b".into(), address: "::1".parse().ok(), port: 7 });
        assert!(t.tls.is_some(), "prefer is the default");
    }

    #[test]
    fn the_configured_password_wins_over_the_url() {
        let mut config = primary("postgres://me:url@h/app?sslmode=disable");
        config.password = Some("configured".into());
        let t = Target::parse(&config).unwrap();
        assert_eq!(t.password(&t.hosts[0]), Some("configured"));
        let other = t.with_login("you", Some("yours"), "db");
        assert_eq!(
            (other.user(), other.password(&t.hosts[0]), other.database()),
            ("you", Some("yours"), "db")
        );
    }

    #[test]
    fn refuses_with_a_sentence_that_names_the_fault() {
        for (url, part) in [
            ("postgres://h/x?sslmode=maybe", "sslmode"),
            ("postgres://h/x?nonsense=1", "nonsense"),
            ("postgres://h:99999/x", "port"),
            ("postgres://h/x?connect_timeout=soon", "seconds"),
            ("postgres://a,b/x?port=1,2,3", "as many ports"),
            ("postgres://h/x?hostaddr=nowhere", "IP address"),
            ("postgres://h/x?sslmode=verify-full&sslrootcert=/does/not/exist", "sslrootcert"),
            ("postgres://h/x?channel_binding=require", "channel_binding"),
            ("postgres://h/x?target_session_attrs=standby", "standby"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }
}
