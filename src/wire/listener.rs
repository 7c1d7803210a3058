//! The port: opened early, accepting in one place, serving on threads of its own.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rand::Rng;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    runtime,
    sync::mpsc,
    task::{JoinSet, LocalSet},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::rustls::ServerConfig;

use super::{
    Shared, auth, backend,
    client::{Client, End},
    error::{ListenError, Problem},
    facts::Facts,
    lease::{Former, Traces},
    session::{Segment, Session},
    startup::{self, Opening, PROTOCOL_3_2, Startup},
    statement::Statements,
    stream::{ClientStream, tls_config},
};
use crate::{
    config::Listen,
    lifecycle::{
        shutdown::{Registration, ShutdownToken},
        tasks::Task,
    },
};

/// The open port.
#[derive(Debug)]
pub struct Listener {
    tcp: std::net::TcpListener,
    unix: Option<UnixPort>,
    tls: Option<Arc<ServerConfig>>,
}

/// The socket's file goes when the port is closed.
#[derive(Debug)]
struct UnixPort {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
}

impl Drop for UnixPort {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Opens the port, so that one that is taken shows before anything else is done. Connections wait in
/// the kernel until [`serve`] takes them.
///
/// # Errors
/// [`ListenError`], which names the setting.
pub fn bind(listen: &Listen) -> Result<Listener, ListenError> {
    let tls = listen.tls.as_ref().map(tls_config).transpose()?;
    let failed = |source| ListenError::Tcp { address: listen.address, source };
    let tcp = std::net::TcpListener::bind(listen.address).map_err(failed)?;
    tcp.set_nonblocking(true).map_err(failed)?;
    let port = tcp.local_addr().map_err(failed)?.port();
    let unix = match &listen.unix_socket_dir {
        None => None,
        Some(directory) => {
            let path = directory.join(format!(".s.PGSQL.{port}"));
            let listener =
                bind_unix(&path).map_err(|source| ListenError::Unix { path: path.clone(), source })?;
            Some(UnixPort { listener, path })
        }
    };
    Ok(Listener { tcp, unix, tls })
}

fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    // Left over by a process that was killed: nobody answers there.
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Listener {
    /// Where it listens; the port is the real one where the configuration asked for any.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// How long accepting pauses when the system is out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// How often unused connections to the primary are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// Serves until shutdown is requested and the sessions are gone: each is told at its next idle point,
/// and those that have none within `grace` are dropped.
///
/// # Errors
/// [`ListenError::Thread`] when the serving threads cannot be started, and when the runtime cannot take
/// the port over.
pub async fn serve(
    listener: Listener,
    shared: Arc<Shared>,
    shutdown: Registration,
    grace: Duration,
) -> Result<(), ListenError> {
    let Listener { tcp, unix: unix_port, tls } = listener;
    let tcp = TcpListener::from_std(tcp).map_err(ListenError::Thread)?;
    let unix = match &unix_port {
        Some(port) => {
            let listener = port.listener.try_clone().map_err(ListenError::Thread)?;
            Some(UnixListener::from_std(listener).map_err(ListenError::Thread)?)
        }
        None => None,
    };
    let open = Arc::new(AtomicUsize::new(0));
    let mut threads = Vec::new();
    for i in 0..shared.config.listen.threads.max(1) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let server = Server {
            shared: Arc::clone(&shared),
            tls: tls.clone(),
            open: Arc::clone(&open),
            shutdown: shutdown.token(),
            grace,
        };
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(ListenError::Thread)?;
        let thread = thread::Builder::new()
            .name(format!("{}-{i}", Task::Serve))
            .spawn(move || {
                let tasks = LocalSet::new();
                tasks.block_on(&runtime, server.run(receiver));
                // A scan that is still at it is nobody's any longer.
                runtime.shutdown_background();
            })
            .map_err(ListenError::Thread)?;
        threads.push((sender, thread));
    }
    let mut turn = 0;
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.requested() => break,
            accepted = tcp.accept() => accepted.and_then(|(stream, _)| Ok(Accepted::Tcp(stream.into_std()?))),
            accepted = accept_unix(unix.as_ref()) => accepted,
            _ = sweep.tick() => {
                shared.upstreams.sweep();
                continue;
            }
        };
        match accepted {
            Ok(stream) => {
                turn += 1;
                if let Some((sender, _)) = threads.get(turn % threads.len().max(1)) {
                    // A thread that is gone has panicked: the connection is closed with the stream.
                    let _ = sender.send(stream);
                }
            }
            Err(error) => {
                tracing::warn!("accepting a connection failed: {error}");
                sleep(PAUSE).await;
            }
        }
    }
    drop((tcp, unix, unix_port));
    for (sender, thread) in threads {
        drop(sender);
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("a serving thread has panicked");
        }
    }
    Ok(())
}

async fn accept_unix(unix: Option<&UnixListener>) -> io::Result<Accepted> {
    match unix {
        Some(unix) => Ok(Accepted::Unix(unix.accept().await?.0.into_std()?)),
        None => std::future::pending().await,
    }
}

/// A connection on its way to a serving thread.
#[derive(Debug)]
enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// One serving thread.
#[derive(Clone)]
struct Server {
    shared: Arc<Shared>,
    tls: Option<Arc<ServerConfig>>,
    /// Connections of all threads.
    open: Arc<AtomicUsize>,
    shutdown: ShutdownToken,
    grace: Duration,
}

impl Server {
    async fn run(self, mut accepted: mpsc::UnboundedReceiver<Accepted>) {
        let mut sessions = JoinSet::new();
        loop {
            tokio::select! {
                stream = accepted.recv() => match stream {
                    Some(stream) => {
                        let server = self.clone();
                        sessions.spawn_local(server.connection(stream));
                    }
                    None => break,
                },
                Some(ended) = sessions.join_next() => note(ended),
            }
        }
        let all = async {
            while let Some(ended) = sessions.join_next().await {
                note(ended);
            }
        };
        if timeout(self.grace, all).await.is_err() {
            tracing::warn!("{} sessions are dropped: they were at work until the end", sessions.len());
        }
    }

    async fn connection(self, accepted: Accepted) {
        let stream = match accepted {
            Accepted::Tcp(stream) => TcpStream::from_std(stream).and_then(|stream| {
                stream.set_nodelay(true)?;
                Ok(ClientStream::Tcp(stream))
            }),
            Accepted::Unix(stream) => UnixStream::from_std(stream).map(ClientStream::Unix),
        };
        let Ok(stream) = stream else { return };
        let counted = Counted::new(&self);
        let deadline = self.shared.config.limits.login_timeout;
        // On the heap, so that a session does not keep the room that its login took.
        let session = timeout(deadline, Box::pin(self.login(stream, counted.number))).await;
        // Too late, refused, or a cancel request.
        if let Ok(Some(session)) = session {
            session.run(self.shutdown.clone()).await;
        }
    }

    /// From the first byte to ReadyForQuery.
    async fn login(&self, stream: ClientStream, number: usize) -> Option<Box<Session>> {
        let (stream, opening) = match startup::open(stream, self.tls.as_ref()).await {
            Ok(opened) => opened,
            Err(refused) => {
                let report = refused.problem.map(|problem| problem.report());
                if let Some(stream) = refused.stream {
                    Client::new(stream).end(report.as_ref()).await;
                }
                return None;
            }
        };
        let startup = match opening {
            Opening::Cancel { pid, key } => {
                self.shared.cancels.cancel(&self.shared.target, pid, &key).await;
                return None;
            }
            Opening::Startup(startup) => startup,
        };
        let mut client = Client::new(stream);
        let problem = if number > self.shared.config.limits.max_connections {
            Problem::TooManyClients
        } else if self.shutdown.is_requested() {
            Problem::ShuttingDown
        } else {
            match self.session(&mut client, &startup).await {
                Ok(parts) => return self.start(client, parts).await,
                Err(End::Closed) => {
                    client.end(None).await;
                    return None;
                }
                Err(End::Fatal(problem)) => problem,
            }
        };
        client.end(Some(&problem.report())).await;
        None
    }

    async fn session(&self, client: &mut Client, startup: &Startup) -> Result<Parts, End> {
        if startup.negotiate {
            let unknown: Vec<&[u8]> = startup.unknown.iter().map(|name| name.as_bytes()).collect();
            backend::negotiate_protocol_version(&mut client.output, startup.protocol, &unknown);
        }
        let admitted = auth::admit(client, startup, &self.shared).await?;
        let key_length = if startup.protocol >= PROTOCOL_3_2 { 32 } else { 4 };
        // Where there is no process yet, a number that none can have (PID_MAX_LIMIT is 2^22).
        let pid = match &admitted.upstream {
            Some(upstream) => upstream.pid,
            None => rand::rng().random_range(1 << 30..=i32::MAX),
        };
        let cancel = self.shared.cancels.register(pid, key_length);
        backend::backend_key_data(&mut client.output, cancel.pid(), cancel.key());
        let cached = startup.database == self.shared.target.database();
        tracing::debug!(
            user = startup.user,
            database = startup.database,
            encrypted = client.is_encrypted(),
            "a client has logged in"
        );
        Ok(Parts { admitted, cancel, cached })
    }

    async fn start(&self, client: Client, parts: Parts) -> Option<Box<Session>> {
        let auth::Admitted { upstream, member, told, floor, again } = parts.admitted;
        // Nothing was forwarded yet; the facts are those of the key.
        let dirty = upstream.is_some();
        let mut session = Box::new(Session {
            shared: Arc::clone(&self.shared),
            client,
            upstream,
            again,
            cancel: parts.cancel,
            cached: parts.cached,
            facts: Facts { dirty, floor, ..Facts::default() },
            statements: Statements::default(),
            portals: std::collections::HashMap::new(),
            segment: Segment::new(),
            expect: std::collections::VecDeque::new(),
            held: None,
            last_route: None,
            traces: Traces::default(),
            member,
            former: Former::told(told),
            drops_statements: None,
        });
        // Read now, so that the session can answer from memory from its first statement on, whatever
        // becomes of the primary. Without them it forwards.
        if session.cached {
            let _ = session.refresh_facts().await;
        }
        let status = session.status();
        backend::ready_for_query(&mut session.client.output, status);
        session.client.flush().await.ok()?;
        Some(session)
    }
}

/// What a login gives to its session.
struct Parts {
    admitted: auth::Admitted,
    cancel: super::cancel::Registered,
    cached: bool,
}

/// Counts a connection while it is open.
struct Counted {
    open: Arc<AtomicUsize>,
    shared: Arc<Shared>,
    /// With all others, this one included.
    number: usize,
}

impl Counted {
    fn new(server: &Server) -> Counted {
        server.shared.observer.opened();
        let number = server.open.fetch_add(1, Ordering::Relaxed) + 1;
        Counted { open: Arc::clone(&server.open), shared: Arc::clone(&server.shared), number }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.shared.observer.closed();
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a session has panicked: {error}");
    }
}
