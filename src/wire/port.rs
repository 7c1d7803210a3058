//! The open port: a TCP socket, and a Unix socket beside it.

use std::{
    fs::{self, File, Permissions, TryLockError},
    io,
    net::{IpAddr, SocketAddr},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net as unix,
        },
    },
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::{error::ListenError, stream::ClientStream, tls::Tls};
use crate::config::Listen;

/// The open port.
#[derive(Debug)]
pub struct Listener {
    tcp: std::net::TcpListener,
    unix: Option<UnixPort>,
    pub(super) tls: Option<Tls>,
}

/// Opens the port, so that one that is taken shows before anything else is done. Connections wait in
/// the kernel until [`serve`](super::serve) takes them.
///
/// # Errors
/// [`ListenError`], which names the setting.
pub fn bind(listen: &Listen) -> Result<Listener, ListenError> {
    let tls = listen.tls.as_ref().map(Tls::load).transpose()?;
    let failed = |source| ListenError::Tcp { address: listen.address, source };
    let tcp = std::net::TcpListener::bind(listen.address).map_err(failed)?;
    tcp.set_nonblocking(true).map_err(failed)?;
    let port = tcp.local_addr().map_err(failed)?.port();
    let unix = match &listen.unix_socket_dir {
        None => None,
        Some(directory) => {
            let path = directory.join(format!(".s.PGSQL.{port}"));
            let bound = UnixPort::bind(&path, listen.unix_socket_permissions);
            Some(bound.map_err(|source| ListenError::Unix { path, source })?)
        }
    };
    Ok(Listener { tcp, unix, tls })
}

impl Listener {
    /// Where it listens; the port is the real one where the configuration asked for any.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Hands the sockets to the runtime that is running.
    pub(super) fn into_sockets(self) -> io::Result<Sockets> {
        let unix = match self.unix {
            Some(port) => Some((UnixListener::from_std(port.listener.try_clone()?)?, port)),
            None => None,
        };
        Ok(Sockets { tcp: TcpListener::from_std(self.tcp)?, unix })
    }
}

/// The socket's file goes when the port is closed.
#[derive(Debug)]
struct UnixPort {
    listener: unix::UnixListener,
    path: PathBuf,
    /// Held as long as the socket is ours.
    _lock: File,
}

impl UnixPort {
    fn bind(path: &Path, permissions: u32) -> io::Result<UnixPort> {
        let lock = lock(path)?;
        let is_socket = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
        // Left over by a process that was killed: nobody answers there.
        if is_socket && unix::UnixStream::connect(path).is_err() {
            fs::remove_file(path)?;
        }
        let listener = unix::UnixListener::bind(path)?;
        let port = UnixPort { listener, path: path.to_owned(), _lock: lock };
        fs::set_permissions(path, Permissions::from_mode(permissions))?;
        port.listener.set_nonblocking(true)?;
        Ok(port)
    }
}

/// Two programs that start at once must not both find the other's socket stale. The lock ends with its
/// process; the file stays, because removing it would let a third one lock another of its name.
fn lock(socket: &Path) -> io::Result<File> {
    let path = socket.with_added_extension("millpond");
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::AddrInUse.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl Drop for UnixPort {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The port within a runtime.
#[derive(Debug)]
pub(super) struct Sockets {
    tcp: TcpListener,
    unix: Option<(UnixListener, UnixPort)>,
}

impl Sockets {
    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        let unix = async {
            match &self.unix {
                Some((listener, _)) => Ok(Socket::Unix(listener.accept().await?.0.into_std()?)),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.tcp.accept() => {
                let (stream, address) = accepted?;
                Ok(Socket::Tcp(stream.into_std()?, address.ip()))
            }
            accepted = unix => accepted,
        }
    }
}

/// A connection on its way to a serving thread.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(std::net::TcpStream, IpAddr),
    Unix(unix::UnixStream),
}

impl Socket {
    /// The other end's; `None` for the Unix socket.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Socket::Tcp(_, address) => Some(address.to_canonical()),
            Socket::Unix(_) => None,
        }
    }

    /// The number of its descriptor, which is the lowest that was free.
    pub(super) fn descriptor(&self) -> u64 {
        let descriptor = match self {
            Socket::Tcp(stream, _) => stream.as_raw_fd(),
            Socket::Unix(stream) => stream.as_raw_fd(),
        };
        u64::try_from(descriptor).unwrap_or_default()
    }

    /// Within the runtime that serves it.
    pub(super) fn into_stream(self) -> io::Result<ClientStream> {
        match self {
            Socket::Tcp(stream, _) => {
                let stream = TcpStream::from_std(stream)?;
                stream.set_nodelay(true)?;
                Ok(ClientStream::Tcp(stream))
            }
            Socket::Unix(stream) => UnixStream::from_std(stream).map(ClientStream::Unix),
        }
    }

    /// Sends a few bytes if that is possible at once, and closes.
    pub(super) fn end(self, last: &[u8]) {
        use io::Write;
        // Nobody waits for a stranger.
        let _ = match self {
            Socket::Tcp(mut stream, _) => stream.write(last),
            Socket::Unix(mut stream) => stream.write(last),
        };
    }
}
