//! Shutdown: components register by name, are told when to stop, and say that they have by dropping
//! what they hold. Whoever is late is named.

use std::{collections::BTreeMap, fmt, io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::timeout,
};
use tracing::{info, warn};

/// How long components get to finish what they are at.
pub const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// The program's one shutdown; clones are the same.
#[derive(Clone, Debug)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Why, once it is requested.
    requested: watch::Sender<Option<String>>,
    pending: Mutex<Pending>,
    /// Counts up whenever a component is done.
    done: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Pending {
    next: u64,
    names: BTreeMap<u64, String>,
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown::new()
    }
}

impl Shutdown {
    pub fn new() -> Shutdown {
        let inner = Inner {
            requested: watch::Sender::new(None),
            pending: Mutex::default(),
            done: watch::Sender::new(0),
        };
        Shutdown { inner: Arc::new(inner) }
    }

    /// Registers a component that the end of the program waits for.
    pub fn register(&self, name: impl Into<String>) -> Registration {
        let mut pending = self.inner.pending.lock();
        let id = pending.next;
        pending.next += 1;
        pending.names.insert(id, name.into());
        Registration { inner: Arc::clone(&self.inner), id, token: self.token() }
    }

    /// For those who want to know, but that nobody waits for.
    pub fn token(&self) -> ShutdownToken {
        ShutdownToken { requested: self.inner.requested.subscribe() }
    }

    /// Asks everyone to stop. The first reason stands; who asks logs it.
    pub fn request(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.inner.requested.send_if_modified(|requested| {
            let first = requested.is_none();
            if first {
                *requested = Some(reason);
            }
            first
        });
    }

    /// Why the program stops, `None` while it doesn't.
    pub fn reason(&self) -> Option<String> {
        self.inner.requested.borrow().clone()
    }

    /// The names of those who aren't done, in order of registration.
    pub fn pending(&self) -> Vec<String> {
        self.inner.pending.lock().names.values().cloned().collect()
    }

    /// Waits until all who registered are done.
    ///
    /// # Errors
    /// After the grace period, with those who are still pending.
    pub async fn completed(&self, grace: Duration) -> Result<(), ShutdownTimeout> {
        let mut done = self.inner.done.subscribe();
        let all = async {
            while !self.inner.pending.lock().names.is_empty() {
                // The sender lives as long as `self`.
                if done.changed().await.is_err() {
                    break;
                }
            }
        };
        timeout(grace, all).await.map_err(|_| {
            let error = ShutdownTimeout { grace, pending: self.pending() };
            warn!("{error}");
            error
        })
    }

    /// Requests shutdown at SIGTERM or SIGINT, whichever comes first, and calls `exit` at the second
    /// with the exit code that a shell gives to a program that a signal has ended (128 and its number).
    ///
    /// # Errors
    /// At once, where the signals can't be caught. The future is to be spawned; it ends after `exit`.
    pub fn on_signals(
        &self,
        exit: impl FnOnce(i32) + Send + 'static,
    ) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        Ok(async move {
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => ("SIGTERM", SignalKind::terminate()),
                    _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt()),
                }
            };
            let (first, _) = next().await;
            info!("{first}: shutting down");
            shutdown.request(first);
            let (second, kind) = next().await;
            warn!(pending = ?shutdown.pending(), "{second} again: exiting at once");
            exit(128 + kind.as_raw_value());
        })
    }
}

/// Held by a component while it runs; dropping it says that it is done.
#[derive(Debug)]
pub struct Registration {
    inner: Arc<Inner>,
    id: u64,
    token: ShutdownToken,
}

impl Registration {
    pub fn token(&self) -> ShutdownToken {
        self.token.clone()
    }

    /// Waits until shutdown is requested.
    pub async fn requested(&self) {
        self.token.requested().await;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.inner.pending.lock().names.remove(&self.id);
        self.inner.done.send_modify(|count| *count += 1);
    }
}

/// Tells when to stop. Works across runtimes and threads.
#[derive(Clone, Debug)]
pub struct ShutdownToken {
    requested: watch::Receiver<Option<String>>,
}

impl ShutdownToken {
    /// Waits until shutdown is requested; at once if it has been. Cancel-safe.
    pub async fn requested(&self) {
        let mut requested = self.requested.clone();
        // An error means that all of `Shutdown` is gone: nobody will run any longer.
        let _ = requested.wait_for(Option::is_some).await;
    }

    pub fn is_requested(&self) -> bool {
        self.requested.borrow().is_some()
    }
}

/// Someone did not stop in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ShutdownTimeout {
    pub grace: Duration,
    pub pending: Vec<String>,
}

impl fmt::Display for ShutdownTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "still pending {:?} after the request to stop: {}", self.grace, self.pending.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn waits_for_everyone_who_registered() {
        let shutdown = Shutdown::new();
        let (stopped, order) = (Arc::new(Mutex::new(Vec::new())), ["apply", "source"]);
        let tasks = order.map(|name| {
            let (registration, stopped) = (shutdown.register(name), Arc::clone(&stopped));
            tokio::spawn(async move {
                registration.requested().await;
                stopped.lock().push(name);
            })
        });
        assert_eq!(shutdown.pending(), order);
        assert!(!shutdown.token().is_requested());

        shutdown.request("test");
        shutdown.completed(GRACE_PERIOD).await.unwrap();

        let mut stopped = stopped.lock().clone();
        stopped.sort_unstable();
        assert_eq!(stopped, order);
        for task in tasks {
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn names_those_who_are_late() {
        let shutdown = Shutdown::new();
        let _stuck = shutdown.register("source");
        drop(shutdown.register("apply"));
        shutdown.request("test");
        let error = shutdown.completed(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(error.pending, ["source"]);
        assert!(error.to_string().contains("source"));
    }

    #[tokio::test]
    async fn the_first_reason_stands_and_late_tokens_know() {
        let shutdown = Shutdown::new();
        shutdown.request("first");
        shutdown.request("second");
        assert_eq!(shutdown.reason().as_deref(), Some("first"));
        shutdown.token().requested().await;
        shutdown.completed(Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn a_panicking_component_is_done_too() {
        let shutdown = Shutdown::new();
        let registration = shutdown.register("apply");
        let task = tokio::spawn(async move {
            let _registration = registration;
            panic!("expected by this test");
        });
        assert!(task.await.is_err());
        shutdown.completed(GRACE_PERIOD).await.unwrap();
    }

    #[tokio::test]
    async fn the_first_signal_asks_and_the_second_exits() {
        let shutdown = Shutdown::new();
        let (sender, exited) = oneshot::channel();
        let signals = shutdown.on_signals(move |code| sender.send(code).unwrap()).unwrap();
        let task = tokio::spawn(signals);
        let send = async |name: &str| {
            let pid = std::process::id().to_string();
            let status =
                tokio::process::Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid]).status();
            assert!(status.await.unwrap().success());
        };
        send("TERM").await;
        shutdown.token().requested().await;
        assert_eq!(shutdown.reason().as_deref(), Some("SIGTERM"));
        send("INT").await;
        assert_eq!(exited.await.unwrap(), 130);
        task.await.unwrap();
    }
}
