//! Who may cancel what: a key for each session, and what the session is at.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::{Notify, Semaphore};

use crate::primary;

/// All sessions that can be cancelled, by the process id that their clients know.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// More than one where the primary has used a process id again, for another session than one that
    /// lost its connection.
    sessions: Mutex<HashMap<i32, Vec<Arc<Slot>>>>,
}

/// One session's entry.
#[derive(Debug)]
pub(super) struct Slot {
    key: Vec<u8>,
    running: Mutex<Running>,
    /// A request came for the statement that runs here.
    canceled: AtomicBool,
    settled: Notify,
}

#[derive(Debug, Default)]
struct Running {
    work: Work,
    /// A cancel request is on its way to the primary.
    in_flight: bool,
    /// Another came meanwhile, which may be for a statement that began after the first had landed.
    again: bool,
}

#[derive(Clone, Debug, Default)]
enum Work {
    #[default]
    Idle,
    Local,
    Upstream {
        pid: i32,
        key: Bytes,
    },
}

/// Takes the entry away with the session.
#[derive(Debug)]
pub(super) struct Registered {
    registry: Arc<Registry>,
    pid: i32,
    pub(super) slot: Arc<Slot>,
}

impl Registry {
    /// A new entry with a key of our own, of 4 bytes in protocol 3.0 and 32 in 3.2. The process id is
    /// that of the primary's backend, which `pg_backend_pid()` and notifications name as well.
    pub(super) fn register(self: &Arc<Self>, pid: i32, key_length: usize) -> Registered {
        let mut key = vec![0; key_length];
        rand::rng().fill(&mut key[..]);
        let slot = Arc::new(Slot {
            key,
            running: Mutex::default(),
            canceled: AtomicBool::new(false),
            settled: Notify::new(),
        });
        self.sessions.lock().entry(pid).or_default().push(Arc::clone(&slot));
        Registered { registry: Arc::clone(self), pid, slot }
    }

    /// Serves a CancelRequest: what runs here stops by a flag; what runs at the primary is cancelled
    /// there, and only while it runs. A wrong key does nothing, and nobody is ever told.
    pub(super) async fn cancel(&self, target: &primary::Target, pid: i32, key: &[u8]) {
        let named = self.sessions.lock().get(&pid).cloned().unwrap_or_default();
        let Some(slot) = named.into_iter().find(|slot| same(&slot.key, key)) else { return };
        slot.cancel_running(target).await;
    }
}

/// Counts a request as landed, also when its task is dropped.
struct Landed<'a>(&'a Slot);

impl Drop for Landed<'_> {
    fn drop(&mut self) {
        self.0.running.lock().in_flight = false;
        self.0.settled.notify_one();
    }
}

/// Cancel requests that are on their way to the primary at one time, of all sessions: each is a
/// connection to it, and it forks for each.
static CONNECTIONS: Semaphore = Semaphore::const_new(8);

impl Registered {
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.slot.key
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut sessions = self.registry.sessions.lock();
        if let Some(named) = sessions.get_mut(&self.pid) {
            named.retain(|slot| !Arc::ptr_eq(slot, &self.slot));
            if named.is_empty() {
                sessions.remove(&self.pid);
            }
        }
    }
}

impl Slot {
    /// A statement begins here.
    pub(super) fn begin_local(&self) {
        self.canceled.store(false, Ordering::Release);
        self.running.lock().work = Work::Local;
    }

    /// A statement is about to go to the primary. Waits until no request for an earlier one is on its
    /// way there, which could hit this one.
    pub(super) async fn begin_upstream(&self, pid: i32, key: &Bytes) {
        loop {
            {
                let mut running = self.running.lock();
                if !running.in_flight {
                    running.again = false;
                    running.work = Work::Upstream { pid, key: key.clone() };
                    return;
                }
            }
            self.settled.notified().await;
        }
    }

    /// Waits until no request is on its way to the primary. Nothing runs there, so that none follows.
    pub(super) async fn settled(&self) {
        while self.running.lock().in_flight {
            self.settled.notified().await;
        }
    }

    /// Stops whatever runs, wherever it does. However many requests come, one at a time goes to the
    /// primary for one session.
    pub(super) async fn cancel_running(&self, target: &primary::Target) {
        let mut first = true;
        loop {
            let (pid, key) = {
                let mut running = self.running.lock();
                match running.work.clone() {
                    Work::Idle => return,
                    Work::Local => {
                        self.canceled.store(true, Ordering::Release);
                        return;
                    }
                    Work::Upstream { .. } if running.in_flight => {
                        running.again = true;
                        return;
                    }
                    Work::Upstream { .. } if !first && !running.again => return,
                    Work::Upstream { pid, key } => {
                        running.in_flight = true;
                        running.again = false;
                        (pid, key)
                    }
                }
            };
            first = false;
            let _landed = Landed(self);
            let Ok(_turn) = CONNECTIONS.acquire().await else { return };
            if let Err(error) = primary::cancel(target, pid, &key).await {
                tracing::debug!("a cancel request did not reach the primary: {error}");
            }
        }
    }

    pub(super) fn end(&self) {
        self.running.lock().work = Work::Idle;
        self.canceled.store(false, Ordering::Release);
    }

    /// Whether the statement that runs here is to stop.
    pub(super) fn is_canceled(&self) -> bool {
        self.canceled.load(Ordering::Acquire)
    }
}

/// Compares in a time that depends on nothing but the lengths.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> primary::Target {
        primary::Target::parse(&crate::config::Primary {
            url: "postgres://nobody@127.0.0.1:1/none?sslmode=disable".into(),
            password: None,
            passfile: None,
            start_timeout: std::time::Duration::from_secs(1),
            connect_timeout: std::time::Duration::from_secs(1),
        })
        .unwrap()
    }

    #[tokio::test]
    async fn only_the_key_holder_stops_only_what_runs() {
        let registry = Arc::new(Registry::default());
        let target = nowhere();
        let session = registry.register(7, 32);
        let (pid, key) = (session.pid(), session.key().to_vec());
        registry.cancel(&target, pid, &key).await;
        session.slot.begin_local();
        assert!(!session.slot.is_canceled(), "nothing ran when the request came");
        let mut wrong = key.clone();
        wrong[31] ^= 1;
        registry.cancel(&target, pid, &wrong).await;
        registry.cancel(&target, pid, &key[..4]).await;
        registry.cancel(&target, pid.wrapping_add(1), &key).await;
        assert!(!session.slot.is_canceled());
        registry.cancel(&target, pid, &key).await;
        assert!(session.slot.is_canceled());
        session.slot.end();
        drop(session);
        assert!(registry.sessions.lock().is_empty());
    }

    #[tokio::test]
    async fn the_next_statement_waits_for_a_request_on_its_way() {
        let registry = Arc::new(Registry::default());
        let session = registry.register(7, 4);
        let key = Bytes::from_static(b"abcd");
        session.slot.begin_upstream(1, &key).await;
        session.slot.running.lock().in_flight = true;
        session.slot.end();
        let slot = Arc::clone(&session.slot);
        let next = tokio::spawn(async move { slot.begin_upstream(1, &Bytes::from_static(b"abcd")).await });
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        drop(Landed(&session.slot));
        next.await.unwrap();
    }
}
