//! Serving: accepting in one place, dealing connections to threads of their own, logging clients in.

use std::{sync::Arc, thread, time::Duration};

use bytes::BytesMut;
use rand::Rng;
use tokio::{
    runtime,
    sync::mpsc::{self, error::TrySendError},
    task::{JoinSet, LocalSet},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at},
};

use super::{
    Shared, auth, backend,
    block::Block,
    client::{Client, End},
    error::{ListenError, Problem},
    facts::Facts,
    lease::{Former, Traces},
    lobby::{Entry, Lobby},
    opening::{self, Opening},
    port::{Listener, Socket},
    seats::{Seat, Seats},
    session::{Segment, Session},
    startup::{PROTOCOL_3_2, Startup},
    statement::Statements,
    stream::ClientStream,
    tls::Tls,
};
use crate::{
    config::{AuthMethod, Limits},
    lifecycle::{
        descriptors,
        shutdown::{Registration, ShutdownToken},
        tasks::Task,
    },
};

/// How long accepting pauses when the system is out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a trouble with accepting is logged.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Connections that wait for one serving thread; more wait in the kernel's queue, which costs us nothing.
const WAITING: usize = 64;
/// Most descriptors that clients may not have: for the replication, the admin port and files.
const RESERVED: u64 = 256;

/// How often unused connections to the primary are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// Serves until shutdown is requested and the sessions are gone: each is told at its next idle point,
/// and those that have none within `grace` are dropped.
///
/// # Errors
/// [`ListenError::Thread`] when the serving threads cannot be started, and when the runtime cannot take
/// the port over.
pub async fn serve(
    mut listener: Listener,
    shared: Arc<Shared>,
    shutdown: Registration,
    grace: Duration,
) -> Result<(), ListenError> {
    let tls = listener.tls.take().map(Arc::new);
    let sockets = listener.into_sockets().map_err(ListenError::Thread)?;
    let limits = &shared.config.limits;
    let descriptors = descriptors::raise_limit();
    let reserved = RESERVED.min(descriptors / 4);
    // Each login takes a descriptor more, for its connection to the primary: they must not use up what
    // is reserved.
    let logins = limits.max_logins.min(usize::try_from(reserved / 2).unwrap_or(usize::MAX)).max(1);
    let lobby = Lobby::new(limits.max_unauthenticated, limits.max_unauthenticated_per_address, logins);
    let seats = Seats::new(limits.max_connections, limits.max_connections_per_role);
    let mut threads = Vec::new();
    for i in 0..shared.config.listen.threads.max(1) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let server = Server {
            shared: Arc::clone(&shared),
            tls: tls.clone(),
            lobby: Arc::clone(&lobby),
            seats: Arc::clone(&seats),
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
    let mut dealer = Dealer {
        senders: threads.iter().map(|(sender, _)| sender.clone()).collect(),
        turn: 0,
        lobby,
        last_descriptor: descriptors.saturating_sub(reserved),
        pace: Pace::new(limits),
        told: None,
    };
    tokio::select! {
        () = shutdown.requested() => {}
        () = async {
            loop {
                dealer.next(sockets.accept().await).await;
            }
        } => {}
        () = sweep(&shared) => {}
    }
    drop((sockets, dealer));
    for (sender, thread) in threads {
        drop(sender);
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("a serving thread has panicked");
        }
    }
    Ok(())
}

/// A connection on its way to a serving thread.
#[derive(Debug)]
struct Accepted {
    socket: Socket,
    entry: Entry,
    since: Instant,
}

/// Deals connections to the serving threads, as fast as they take them.
#[derive(Debug)]
struct Dealer {
    senders: Vec<mpsc::Sender<Accepted>>,
    turn: usize,
    lobby: Arc<Lobby>,
    /// The highest descriptor that a client may have.
    last_descriptor: u64,
    pace: Pace,
    /// When the last trouble was logged.
    told: Option<Instant>,
}

impl Dealer {
    async fn next(&mut self, accepted: std::io::Result<Socket>) {
        match accepted {
            Ok(socket) if socket.descriptor() > self.last_descriptor => {
                self.refuse(socket, "there are too few file descriptors (ulimit -n)");
            }
            Ok(socket) => match self.lobby.enter(socket.address()) {
                Some(entry) => self.deal(Accepted { socket, entry, since: Instant::now() }).await,
                None => self.refuse(socket, "too many clients log in at once (limits.max_unauthenticated)"),
            },
            Err(error) => {
                self.tell(&format!("accepting a connection failed: {error}"));
                sleep(PAUSE).await;
            }
        }
        self.pace.step().await;
    }

    fn refuse(&mut self, socket: Socket, why: &str) {
        let mut last = BytesMut::new();
        backend::error_response(&mut last, &Problem::TooManyClients.report());
        socket.end(&last);
        self.tell(&format!("connections are refused: {why}"));
    }

    /// A stranger must not be able to fill the log.
    fn tell(&mut self, what: &str) {
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            tracing::warn!("{what}");
        }
    }

    /// To the next thread that has room, or to the next one once it has.
    async fn deal(&mut self, mut accepted: Accepted) {
        self.turn = self.turn.wrapping_add(1);
        let next = self.senders.iter().cycle().skip(self.turn % self.senders.len().max(1));
        for sender in next.take(self.senders.len()) {
            match sender.try_send(accepted) {
                Ok(()) => return,
                // A thread that is gone has panicked.
                Err(TrySendError::Full(back) | TrySendError::Closed(back)) => accepted = back,
            }
        }
        if let Some(sender) = self.senders.get(self.turn % self.senders.len().max(1)) {
            let _ = sender.send(accepted).await;
        }
    }
}

/// `limits.max_accepts_per_second`, with bursts of as many.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    /// How far ahead of the even pace we may be.
    burst: Duration,
    /// When the next would be due at the even pace.
    due: Instant,
}

impl Pace {
    fn new(limits: &Limits) -> Pace {
        let second = Duration::from_secs(1);
        let per_second = u32::try_from(limits.max_accepts_per_second).unwrap_or(u32::MAX).max(1);
        Pace { interval: second / per_second, burst: second, due: Instant::now() }
    }

    async fn step(&mut self) {
        let now = Instant::now();
        self.due = self.due.max(now) + self.interval;
        let ahead = self.due.duration_since(now);
        if ahead > self.burst {
            sleep(ahead - self.burst).await;
        }
    }
}

/// One serving thread.
#[derive(Clone)]
struct Server {
    shared: Arc<Shared>,
    tls: Option<Arc<Tls>>,
    lobby: Arc<Lobby>,
    seats: Arc<Seats>,
    shutdown: ShutdownToken,
    grace: Duration,
}

impl Server {
    async fn run(self, mut accepted: mpsc::Receiver<Accepted>) {
        let mut sessions = JoinSet::new();
        loop {
            tokio::select! {
                stream = accepted.recv() => match stream {
                    Some(stream) => {
                        let server = self.clone();
                        sessions.spawn_local(async move { server.connection(stream).await });
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
        let Accepted { socket, entry, since } = accepted;
        let Ok(stream) = socket.into_stream() else { return };
        let _counted = Counted::new(&self);
        let deadline = since + self.shared.config.limits.login_timeout;
        let session = tokio::select! {
            biased;
            // Others need its place.
            () = entry.guest.sent_away() => None,
            session = Box::pin(self.login(stream, &entry, deadline)) => session,
        };
        drop(entry);
        // Else it was too late, refused, or a cancel request. On the heap, so that connections that
        // never get here do not carry the session's size.
        if let Some((session, _seat)) = session {
            Box::pin(session.run(self.shutdown.clone())).await;
        }
    }

    /// From the first byte to ReadyForQuery.
    async fn login(
        &self,
        stream: ClientStream,
        entry: &Entry,
        deadline: Instant,
    ) -> Option<(Box<Session>, Seat)> {
        let opened = timeout_at(deadline, opening::open(stream, self.tls.as_deref())).await.ok()?;
        let (stream, opening) = match opened {
            Ok(opened) => opened,
            Err(refused) => {
                let report = refused.problem.as_ref().map(Problem::report);
                if let Some(stream) = refused.stream {
                    let mut client = Client::new(stream);
                    match (&refused.problem, &report) {
                        (Some(Problem::ProtocolVersion { major: 1..3, .. }), Some(report)) => {
                            backend::old_error_response(&mut client.output, report);
                            client.end(None).await;
                        }
                        _ => client.end(report.as_ref()).await,
                    }
                }
                return None;
            }
        };
        entry.guest.awaits(false);
        let startup = match opening {
            Opening::Cancel { pid, key } => {
                self.shared.cancels.cancel(&self.shared.target, pid, &key).await;
                // The client waits for the end, and takes an unordered one of TLS for a failure.
                Client::new(stream).end(None).await;
                return None;
            }
            Opening::Startup(startup) => startup,
        };
        let tls_required = self.shared.config.listen.tls.as_ref().is_some_and(|tls| tls.required);
        let unencrypted = tls_required && matches!(stream, ClientStream::Tcp(_));
        let mut client = Client::new(stream);
        client.guest = Some(Arc::clone(&entry.guest));
        let problem = if unencrypted {
            Problem::Unencrypted
        } else if self.seats.are_taken() {
            Problem::TooManyClients
        } else if self.shutdown.is_requested() {
            Problem::ShuttingDown
        } else {
            match Box::pin(timeout_at(deadline, self.session(&mut client, &startup, entry))).await {
                Ok(Ok((parts, seat))) => {
                    client.guest = None;
                    let started = Box::pin(timeout_at(deadline, self.start(client, parts))).await;
                    return Some((started.ok()??, seat));
                }
                Ok(Err(End::Closed)) => {
                    client.end(None).await;
                    return None;
                }
                Ok(Err(End::Fatal(problem))) => problem,
                Err(_) => Problem::LoginTimeout,
            }
        };
        client.end(Some(&problem.report())).await;
        None
    }

    async fn session(
        &self,
        client: &mut Client,
        startup: &Startup,
        entry: &Entry,
    ) -> Result<(Parts, Seat), End> {
        if startup.negotiate {
            let unknown: Vec<&[u8]> = startup.unknown.iter().map(|name| name.as_bytes()).collect();
            backend::negotiate_protocol_version(&mut client.output, startup.protocol, &unknown);
        }
        let _turn = match self.shared.config.auth.method {
            AuthMethod::Relay => self.lobby.login(&entry.guest).await,
            AuthMethod::Verifier | AuthMethod::Scram | AuthMethod::Trust => None,
        };
        let admitted = auth::admit(client, startup, &self.shared).await?;
        let seat = self.seats.take(&startup.user).map_err(End::Fatal)?;
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
        Ok((Parts { admitted, cancel, cached }, seat))
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
            block: Block::default(),
            owes_sync: false,
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

async fn sweep(shared: &Shared) {
    let mut every = interval(SWEEP);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        shared.upstreams.sweep();
    }
}

/// Counts a connection while it is open.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(server: &Server) -> Counted {
        server.shared.observer.opened();
        Counted(Arc::clone(&server.shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.observer.closed();
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a session has panicked: {error}");
    }
}
