//! `millpond demo`: a throw-away primary with live writes, and Millpond on it.

mod page;
pub mod server;
pub mod shop;
pub mod writer;

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    task::{JoinError, spawn_blocking},
};
use tokio_postgres::{Client, NoTls};

use page::Page;
use server::{Server, ServerError, ServerOptions};

/// How many ports are looked at, from the wanted one upwards.
const PORTS_TRIED: u16 = 100;

/// What the user may choose.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Where Millpond listens, or on the next free port after it.
    pub listen: SocketAddr,
    /// Where metrics are served, or on the next free port after it.
    pub admin: SocketAddr,
    /// The folder of `initdb` and `postgres`; `None`: the newest that is found, or else one that
    /// is downloaded.
    pub bin_dir: Option<PathBuf>,
    /// Transactions a second of the demo's application.
    pub rate: u32,
}

impl Default for DemoOptions {
    fn default() -> DemoOptions {
        DemoOptions {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 6543)),
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 9643)),
            bin_dir: None,
            rate: 50,
        }
    }
}

/// What the demo asks of the daemon that serves it.
#[derive(Debug)]
pub struct Service {
    /// The configuration, as a file would have it.
    pub config_toml: String,
    /// To be told when every table is live.
    pub ready: oneshot::Sender<()>,
    /// Becomes true when the daemon is to end in order.
    pub shutdown: watch::Receiver<bool>,
}

/// Why there was no demo, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("the demo's primary could not be started")]
    Server(#[from] ServerError),
    #[error("could not connect to the demo's primary")]
    Connect(#[source] tokio_postgres::Error),
    #[error("could not load the demo's shop")]
    Load(#[source] tokio_postgres::Error),
    #[error("no port is free at {0} or after it")]
    NoPort(SocketAddr, #[source] io::Error),
    #[error("could not listen for signals")]
    Signals(#[source] io::Error),
    #[error("Millpond ended")]
    Serve(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("a task of the demo was lost")]
    Task(#[from] JoinError),
}

/// Where everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Endpoints {
    millpond: SocketAddr,
    primary: SocketAddr,
    admin: SocketAddr,
}

/// Starts a primary, loads the shop, runs `serve` on it and prints what to try; until Ctrl-C,
/// SIGTERM, or the end of `serve`. Leaves neither a process nor a folder behind.
pub async fn run<F>(options: DemoOptions, serve: impl FnOnce(Service) -> F) -> Result<(), DemoError>
where
    F: Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>>,
{
    // Before the first process is started, so that there is no moment without them.
    let mut interrupted = signal(SignalKind::interrupt()).map_err(DemoError::Signals)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(DemoError::Signals)?;
    let stopped = async {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    };
    run_until(options, serve, stopped).await
}

/// [`run`] with another end than a signal.
pub async fn run_until<F>(
    options: DemoOptions,
    serve: impl FnOnce(Service) -> F,
    stopped: impl Future<Output = ()>,
) -> Result<(), DemoError>
where
    F: Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>>,
{
    tokio::pin!(stopped);
    println!("Starting a throw-away PostgreSQL and loading a small shop ...");
    let bin_dir = tokio::select! {
        bin_dir = find_or_download(options.bin_dir.clone()) => bin_dir?,
        () = &mut stopped => return Ok(()),
    };
    let server_options = ServerOptions { bin_dir: Some(bin_dir), ..ServerOptions::default() };
    // Not given up half way: it takes a second, and would leave what it has begun to somebody else.
    let server = spawn_blocking(move || Server::start(server_options)).await??;
    let result = tokio::select! {
        result = shop::load(&server) => match result {
            Ok(()) => serve_shop(&options, &server, serve, &mut stopped).await,
            Err(error) => Err(error),
        },
        () = &mut stopped => Ok(()),
    };
    spawn_blocking(move || drop(server)).await?;
    result
}

async fn serve_shop<F>(
    options: &DemoOptions,
    server: &Server,
    serve: impl FnOnce(Service) -> F,
    stopped: impl Future<Output = ()>,
) -> Result<(), DemoError>
where
    F: Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>>,
{
    tokio::pin!(stopped);
    let millpond = free_address(options.listen, &[])?;
    let admin = free_address(options.admin, &[millpond])?;
    let primary = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
    let endpoints = Endpoints { millpond, primary, admin };

    let (shutdown, shutdown_seen) = watch::channel(false);
    let (ready, is_ready) = oneshot::channel();
    let writer = tokio::spawn(writer::run(
        server.url(shop::OWNER, shop::DATABASE),
        options.rate,
        shutdown_seen.clone(),
    ));
    let service = Service {
        config_toml: config_toml(&server.url(shop::FOLLOWER, shop::DATABASE), millpond, admin),
        ready,
        shutdown: shutdown_seen,
    };
    let served = serve(service);
    tokio::pin!(served);
    let guide = async {
        if is_ready.await.is_ok() {
            print!("{}", Page { endpoints: &endpoints, version: server.version(), rate: options.rate });
        }
        std::future::pending::<()>().await;
    };
    let early_end = tokio::select! {
        result = &mut served => Some(result),
        () = &mut stopped => None,
        () = guide => None,
    };
    // The daemon first: it lets go of the slot while the primary still runs.
    shutdown.send_replace(true);
    let result = match early_end {
        Some(result) => result,
        None => served.await,
    };
    writer.await?;
    result.map_err(DemoError::Serve)
}

async fn find_or_download(bin_dir: Option<PathBuf>) -> Result<PathBuf, DemoError> {
    if let Some(dir) = bin_dir {
        return Ok(dir);
    }
    match spawn_blocking(server::find_newest).await? {
        Ok(newest) => Ok(newest.bin_dir),
        Err(ServerError::NotFound) => {
            println!("No PostgreSQL 14 to 18 is installed here: downloading one into the cache folder ...");
            Ok(server::download().await?.bin_dir)
        }
        Err(error) => Err(error.into()),
    }
}

/// What the demo's daemon is to do. The throw-away primary admits everyone on this machine, and
/// so does the daemon.
fn config_toml(primary_url: &str, listen: SocketAddr, admin: SocketAddr) -> String {
    format!(
        r#"[primary]
url = "{primary_url}"

[listen]
address = "{listen}"

[[tables]]
match = ["public.*"]

[fallthrough]
writes = "forward"

[auth]
method = "relay"
allow_trust = true

[admin]
listen = "{admin}"
"#
    )
}

/// The first address from `wanted` on where nobody listens.
fn free_address(wanted: SocketAddr, taken: &[SocketAddr]) -> Result<SocketAddr, DemoError> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in wanted.port()..=wanted.port().saturating_add(PORTS_TRIED) {
        let address = SocketAddr::new(wanted.ip(), port);
        if taken.contains(&address) {
            continue;
        }
        match TcpListener::bind(address).and_then(|listener| listener.local_addr()) {
            Ok(bound) => return Ok(bound),
            Err(error) => last = error,
        }
    }
    Err(DemoError::NoPort(wanted, last))
}

/// A connection whose task ends with the client.
async fn connect(url: &str) -> Result<Client, DemoError> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(DemoError::Connect)?;
    tokio::spawn(async move {
        // The client sees the same error at its next call.
        let _ = connection.await;
    });
    Ok(client)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::free_address;

    #[test]
    fn takes_the_next_port_where_one_is_in_use() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let used = listener.local_addr().expect("an address");
        let free = free_address(used, &[]).expect("a free port");
        assert!(free.port() > used.port());
        let next = free_address(used, &[free]).expect("another");
        assert!(next.port() > free.port());
    }
}
