//! A throw-away PostgreSQL: initialised in a private folder, run on a free port, and gone without
//! a trace when dropped or when this process dies. For `millpond demo` and for the tests.

mod cluster;
mod download;
mod folder;
mod installation;
mod supervisor;

use std::{
    fs::{self, OpenOptions},
    io,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rand::Rng;

pub use download::download;
pub use installation::{Installation, find_all, find_newest};

use folder::Folder;
use supervisor::Supervisor;

/// How long `initdb` may take, and the server to become ready or to end.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Below the ports that systems deal out to outgoing connections, so that a port stays ours while
/// the server restarts.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
const PORT_ATTEMPTS: usize = 20;

/// How to start a [`Server`]. The default admits everyone on this machine, orders text by bytes
/// and doesn't wait for the disk.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The folder of `initdb` and `postgres`; `None`: [`find_newest`].
    pub bin_dir: Option<PathBuf>,
    /// Lines of `postgresql.conf`, after our own and so above them. Values are quoted here.
    pub settings: Vec<(String, String)>,
    pub auth: Auth,
    /// The locale of all databases, such as `C` or `C.UTF-8`.
    pub locale: String,
    pub fsync: bool,
    /// Copy a folder that was initialised earlier with the same options and kept in the temporary
    /// folder: faster, but all such servers have the same system identifier.
    pub use_template: bool,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            bin_dir: None,
            settings: Vec::new(),
            auth: Auth::Trust,
            locale: "C".to_owned(),
            fsync: false,
            use_template: false,
        }
    }
}

/// What `pg_hba.conf` asks of every connection.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Auth {
    Trust,
    /// `scram-sha-256`; the password is the superuser's.
    Scram {
        password: String,
    },
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Auth::Trust => "Trust",
            Auth::Scram { .. } => "Scram",
        })
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(
        "no PostgreSQL 14 to 18 was found on this machine: install one (`apt install postgresql`, \
         `dnf install postgresql-server`, `brew install postgresql@17`), or name the folder of its \
         `initdb` and `postgres` in MILLPOND_DEMO_PG_BIN"
    )]
    NotFound,
    #[error("{} holds no PostgreSQL 14 to 18: `initdb` and `postgres` are needed there", .0.display())]
    NotUsable(PathBuf),
    #[error(
        "no PostgreSQL 14 to 18 was found on this machine, and none could be downloaded: install one \
         (`apt install postgresql`, `dnf install postgresql-server`, `brew install postgresql@17`), or \
         name the folder of its `initdb` and `postgres` in MILLPOND_DEMO_PG_BIN"
    )]
    Download(#[source] postgresql_embedded::Error),
    #[error(
        "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody` to run \
         it as: start as another user"
    )]
    NoAccount,
    #[error("could not {what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error("initdb failed: {output}")]
    Initdb { output: String },
    #[error("PostgreSQL ended at its start ({status}): {log}")]
    Exited { status: ExitStatus, log: String },
    #[error("PostgreSQL was not ready after {} s: {log}", DEADLINE.as_secs())]
    NotReady { log: String },
}

impl ServerError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> ServerError {
        let what = what.into();
        move |source| ServerError::Io { what, source }
    }
}

/// A running server of its own. Dropped, it is stopped at once and its folder removed; a process
/// that dies without dropping it leaves that to its supervisor, a process of its own.
#[derive(Debug)]
pub struct Server {
    postmaster: Option<Child>,
    port: u16,
    installation: Installation,
    auth: Auth,
    // In this order: the supervisor removes the folder, then its lock may go.
    supervisor: Supervisor,
    folder: Folder,
}

impl Server {
    /// Initialises and starts a server, and returns when it admits connections. Blocks for about a
    /// second.
    pub fn start(options: ServerOptions) -> Result<Server, ServerError> {
        let installation = match &options.bin_dir {
            Some(dir) => Installation::at(dir).ok_or_else(|| ServerError::NotUsable(dir.clone()))?,
            None => find_newest()?,
        };
        let folder = Folder::create()?;
        let supervisor = Supervisor::start(folder.path())?;
        cluster::create(&installation, &options, &folder)?;
        let mut server =
            Server { postmaster: None, port: 0, installation, auth: options.auth, supervisor, folder };
        for attempt in 1.. {
            server.port = free_port()?;
            match server.launch() {
                // Somebody took the port between the look and the start.
                Err(ServerError::Exited { log, .. }) if attempt < PORT_ATTEMPTS && port_was_taken(&log) => {}
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        Ok(server)
    }

    /// `postgres://user@127.0.0.1:port/database`, with the password where the user is `postgres`
    /// and one is asked for.
    pub fn url(&self, user: &str, database: &str) -> String {
        let password = match &self.auth {
            Auth::Scram { password } if user == "postgres" => format!(":{}", url_encode(password)),
            _ => String::new(),
        };
        format!("postgres://{}{password}@127.0.0.1:{}/{}", url_encode(user), self.port, url_encode(database))
    }

    /// The port on 127.0.0.1; the same after a [`restart`](Server::restart).
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn bin_dir(&self) -> &Path {
        &self.installation.bin_dir
    }

    /// As `server_version_num`: 150020 for 15.20.
    pub fn version_num(&self) -> u32 {
        self.installation.version_num
    }

    /// As `postgres --version` prints it.
    pub fn version(&self) -> &str {
        &self.installation.version
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.data_dir()
    }

    /// Holds the Unix socket `.s.PGSQL.<port>`, unless the path is too long for one.
    pub fn socket_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Ends the server as a crash would (`SIGQUIT`): the next start recovers from the WAL.
    pub fn stop_immediate(&mut self) {
        self.stop("QUIT");
    }

    /// Ends the server in order (`SIGINT`): connections are closed, a checkpoint is written.
    /// PostgreSQL waits for its replication clients; after a minute it is ended as by a crash.
    pub fn stop_fast(&mut self) {
        self.stop("INT");
    }

    /// Stops in order where it still runs, and starts again on the same port.
    pub fn restart(&mut self) -> Result<(), ServerError> {
        self.stop_fast();
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.launch() {
                Err(ServerError::Exited { log, .. }) if port_was_taken(&log) && Instant::now() < deadline => {
                    thread::sleep(POLL_INTERVAL);
                }
                result => return result,
            }
        }
    }

    /// Replaces `pg_hba.conf` and has it read; effective for connections that begin from now on,
    /// give or take the moment that the signal needs.
    pub fn set_hba(&self, lines: &str) -> Result<(), ServerError> {
        fs::write(self.data_dir().join("pg_hba.conf"), lines)
            .map_err(ServerError::io("write pg_hba.conf"))?;
        if let Some(postmaster) = &self.postmaster {
            supervisor::signal("HUP", postmaster.id()).map_err(ServerError::io("signal PostgreSQL"))?;
        }
        Ok(())
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        log_since(&self.folder.log(), 0)
    }

    fn launch(&mut self) -> Result<(), ServerError> {
        let log_path = self.folder.log();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(ServerError::io("open PostgreSQL's log"))?;
        let log_start = log.metadata().map_or(0, |metadata| metadata.len());
        let log_too = log.try_clone().map_err(ServerError::io("open PostgreSQL's log"))?;
        // A crash leaves it behind, and it would be read as the new server's.
        let _ = fs::remove_file(self.folder.postmaster_pid());
        let mut postmaster = self
            .folder
            .command(&self.installation.bin_dir.join("postgres"))
            .arg("-D")
            .arg(self.folder.data_dir())
            .args(["-p", &self.port.to_string()])
            .stdout(log)
            .stderr(log_too)
            .spawn()
            .map_err(ServerError::io("start PostgreSQL"))?;
        let pid = postmaster.id();
        self.supervisor.guard(pid);
        let deadline = Instant::now() + DEADLINE;
        loop {
            match postmaster.try_wait() {
                Ok(Some(status)) => {
                    self.supervisor.release();
                    return Err(ServerError::Exited { status, log: log_since(&log_path, log_start) });
                }
                Ok(None) => {}
                Err(source) => {
                    return Err(ServerError::Io { what: "watch PostgreSQL".to_owned(), source });
                }
            }
            if is_ready(&self.folder.postmaster_pid(), pid) {
                self.postmaster = Some(postmaster);
                return Ok(());
            }
            if Instant::now() >= deadline {
                // Stopped by the caller's drop, or by the next launch.
                self.postmaster = Some(postmaster);
                self.stop_immediate();
                return Err(ServerError::NotReady { log: log_since(&log_path, log_start) });
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn stop(&mut self, signal: &str) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        for signal in [signal, "QUIT"] {
            if supervisor::signal(signal, postmaster.id()).is_ok() && wait_exit(&mut postmaster) {
                self.supervisor.release();
                return;
            }
        }
        // Neither signal helped; its children end by themselves when they see it gone.
        let _ = postmaster.kill();
        let _ = postmaster.wait();
        self.supervisor.release();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_immediate();
        self.supervisor.finish();
    }
}

/// As `pg_ctl start` knows it: the eighth line of `postmaster.pid`
/// (`src/include/utils/pidfile.h`), which no connection attempt in the log goes with.
fn is_ready(pid_file: &Path, pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(pid_file) else { return false };
    let mut lines = text.lines();
    lines.next().is_some_and(|line| line.trim() == pid.to_string())
        && lines.nth(6).is_some_and(|line| line.trim() == "ready")
}

/// Whether it ended (and was reaped) within the deadline.
fn wait_exit(child: &mut Child) -> bool {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => return true,
            Ok(None) if Instant::now() < deadline => thread::sleep(POLL_INTERVAL),
            Ok(None) | Err(_) => return false,
        }
    }
}

fn free_port() -> Result<u16, ServerError> {
    let mut rng = rand::rng();
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_ATTEMPTS {
        let port = rng.random_range(PORTS);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(ServerError::Io { what: "find a free port on 127.0.0.1".to_owned(), source: last })
}

/// PostgreSQL speaks English here, whatever the user's locale.
fn port_was_taken(log: &str) -> bool {
    log.contains("could not create any TCP/IP sockets")
        || log.contains("could not bind IPv4 address")
        || log.contains("Is another postmaster already running on port")
}

/// The last forty lines from `start` on.
fn log_since(path: &Path, start: u64) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let text = String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Percent-encodes what isn't unreserved (RFC 3986), as libpq decodes it.
fn url_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A program with no terminal and none of the user's `PG*` variables, in a process group of its
/// own: Ctrl-C at the terminal is for us alone, and we end it in order.
fn detached(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).process_group(0).env("LC_ALL", "C");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
}
