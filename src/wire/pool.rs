//! The connections to the primary that sessions hold: how many there may be, and how one changes hands.
//!
//! A session keeps the connection that it has, which so remains the backend that its client knows, until
//! another session needs it. While it is idle and has left nothing there it *offers* it. Somebody who
//! finds no room has the least recently used offer asked for; what is given up is taken over by a session
//! of the same key, or closed to make room.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::upstream::Upstream;
use crate::{config::Limits, query::SessionFacts};

/// How long one login at the primary stands for others of its key: `pg_hba.conf`, which nothing else
/// shows, is asked at least so often.
const REPORTED_FOR: Duration = Duration::from_secs(5);

/// What two sessions must have in common to share a connection: then it is the same to both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) user: String,
    pub(super) database: String,
    /// Those of the startup packet that reach the primary.
    pub(super) parameters: Vec<(String, String)>,
    /// Stands for what the login took from role and database: `ALTER ROLE .. SET`, a role of the same
    /// name that is another.
    pub(super) settings: String,
}

#[derive(Debug)]
pub(super) struct Pool {
    /// `limits.max_upstream`
    max: usize,
    wait: Duration,
    idle: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Connections that exist or are being opened.
    open: usize,
    groups: HashMap<Arc<Key>, Group>,
    /// Connections without a session, the longest unused first. At most `open` of them.
    parked: VecDeque<Parked>,
    /// The least recently used first. At most one of each session.
    offers: BTreeMap<u64, Offered>,
    /// In the order of their coming. At most one of each session.
    waiters: VecDeque<Waiter>,
    /// To be dropped after the lock, which makes room.
    closing: Vec<Parked>,
    tick: u64,
}

/// What exists of one key.
#[derive(Debug, Default)]
struct Group {
    sessions: usize,
    connections: usize,
    /// Of the connections, those whose sessions hold something there.
    pinned: usize,
    /// Whether we can open another one, without the client.
    opens: bool,
    /// What every session of this key has that never changed anything, with the catalogue's version.
    facts: Option<(u64, SessionFacts)>,
    /// What the primary reported at the last login with this key, and when.
    reported: Option<(Instant, HashMap<String, String>)>,
}

impl Group {
    /// Whether one connection that is not pinned can be closed: never the last one that sessions of this
    /// key could still get.
    fn can_close(&self) -> bool {
        self.opens || self.sessions == 0 || self.connections.saturating_sub(self.pinned) > 1
    }
}

#[derive(Debug)]
struct Parked {
    upstream: Box<Upstream>,
    since: Instant,
}

#[derive(Debug)]
struct Offered {
    key: Arc<Key>,
    wanted: Arc<Notify>,
    since: Instant,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    /// `None`: a login, which brings its own.
    key: Option<Arc<Key>>,
    opens: bool,
    /// The backend that it had last.
    pid: i32,
    /// The offer that was asked for on its behalf.
    asked: Option<u64>,
    grant: oneshot::Sender<Grant>,
}

#[derive(Debug)]
enum Grant {
    Connection(Box<Upstream>),
    Room,
    Gone,
}

/// What [`Pool::take`] found.
#[derive(Debug)]
pub(super) enum Taken {
    Connection(Box<Upstream>),
    /// Room to open one.
    Room(Slot),
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// All are in use, for as long as one waits.
    Busy,
    /// There is none of this key any longer, and only a client could open one.
    Gone,
}

/// A place among the connections: whoever holds it has one, or is about to.
#[derive(Debug)]
pub(super) struct Slot {
    pool: Arc<Pool>,
    key: Option<Arc<Key>>,
    pinned: bool,
}

/// A session's place in its key's group.
#[derive(Debug)]
pub(super) struct Member {
    pool: Arc<Pool>,
    pub(super) key: Arc<Key>,
    pub(super) opens: bool,
}

/// A connection that its session would give up.
#[derive(Debug)]
pub(super) struct Offer {
    pool: Arc<Pool>,
    id: u64,
    since: Instant,
    wanted: Arc<Notify>,
}

impl Offer {
    /// Waits until somebody needs it.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.pool.change(|state| {
            if state.offers.remove(&self.id).is_none() {
                state.forget_asked(self.id);
            }
        });
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.change(|state| {
            state.open = state.open.saturating_sub(1);
            if let Some(key) = &self.key {
                state.group(key, |group| {
                    group.connections = group.connections.saturating_sub(1);
                    group.pinned = group.pinned.saturating_sub(usize::from(self.pinned));
                });
            }
        });
    }
}

impl Slot {
    /// Names the key of the connection, once it is known.
    pub(super) fn assign(&mut self, member: &Member) {
        if self.key.is_none() {
            self.pool.change(|state| {
                state.group(&member.key, |group| {
                    group.connections += 1;
                    group.pinned += usize::from(self.pinned);
                });
            });
            self.key = Some(Arc::clone(&member.key));
        }
    }

    /// Whether its session holds something there.
    pub(super) fn set_pinned(&mut self, pinned: bool) {
        if std::mem::replace(&mut self.pinned, pinned) == pinned {
            return;
        }
        let Some(key) = &self.key else { return };
        self.pool.change(|state| {
            state.group(key, |group| match pinned {
                true => group.pinned += 1,
                false => group.pinned = group.pinned.saturating_sub(1),
            });
        });
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.pool.change(|state| {
            state.group(&self.key, |group| group.sessions = group.sessions.saturating_sub(1));
            // Nobody can use what only a client could open.
            if !self.opens && state.groups.get(&self.key).is_none_or(|group| group.sessions == 0) {
                state.close_if(|parked, _| parked.upstream.slot.key.as_ref() == Some(&self.key));
            }
        });
    }
}

impl Member {
    /// What every session of this key has under that catalogue, if one has read it.
    pub(super) fn facts(&self, catalog_version: u64) -> Option<SessionFacts> {
        let state = self.pool.state.lock();
        let (version, facts) = state.groups.get(&self.key)?.facts.as_ref()?;
        (*version == catalog_version).then(|| facts.clone())
    }

    /// What the primary reports at a login with this key, where one was made a moment ago.
    pub(super) fn reported(&self) -> Option<HashMap<String, String>> {
        let state = self.pool.state.lock();
        let (at, parameters) = state.groups.get(&self.key)?.reported.as_ref()?;
        (at.elapsed() < REPORTED_FOR).then(|| parameters.clone())
    }

    pub(super) fn set_reported(&self, parameters: &HashMap<String, String>) {
        let mut state = self.pool.state.lock();
        if let Some(group) = state.groups.get_mut(&self.key) {
            group.reported = Some((Instant::now(), parameters.clone()));
        }
    }

    pub(super) fn set_facts(&self, catalog_version: u64, facts: &SessionFacts) {
        let mut state = self.pool.state.lock();
        if let Some(group) = state.groups.get_mut(&self.key) {
            group.facts = Some((catalog_version, facts.clone()));
        }
    }

    /// Offers the connection of an idle session that has left nothing there.
    pub(super) fn offer(&self) -> Offer {
        let (since, wanted) = (Instant::now(), Arc::new(Notify::new()));
        let mut id = 0;
        self.pool.change(|state| {
            state.tick += 1;
            id = state.tick;
            let offered = Offered { key: Arc::clone(&self.key), wanted: Arc::clone(&wanted), since };
            state.offers.insert(id, offered);
        });
        Offer { pool: Arc::clone(&self.pool), id, since, wanted }
    }
}

impl Pool {
    pub(super) fn new(limits: &Limits) -> Arc<Pool> {
        Arc::new(Pool {
            max: limits.max_upstream,
            wait: limits.upstream_wait,
            idle: limits.upstream_idle,
            state: Mutex::default(),
        })
    }

    /// A session of that key begins. `opens`: we can open connections for it by ourselves.
    pub(super) fn join(self: &Arc<Pool>, key: Key, opens: bool) -> Member {
        let mut state = self.state.lock();
        let key = match state.groups.get_key_value(&key) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(key),
        };
        let group = state.groups.entry(Arc::clone(&key)).or_default();
        group.sessions += 1;
        group.opens = opens;
        drop(state);
        Member { pool: Arc::clone(self), key, opens }
    }

    /// Room for a connection that a login is about to open.
    pub(super) async fn room(self: &Arc<Pool>) -> Result<Slot, Refused> {
        match self.wait(None, true, 0).await? {
            Taken::Room(slot) => Ok(slot),
            Taken::Connection(_) => Err(Refused::Busy),
        }
    }

    /// A connection for a session that has none: the backend `pid` if it is still there, else any of
    /// its key, else room for a new one.
    pub(super) async fn take(self: &Arc<Pool>, member: &Member, pid: i32) -> Result<Taken, Refused> {
        self.wait(Some(Arc::clone(&member.key)), member.opens, pid).await
    }

    async fn wait(self: &Arc<Pool>, key: Option<Arc<Key>>, opens: bool, pid: i32) -> Result<Taken, Refused> {
        let (grant, granted) = oneshot::channel();
        let mut id = 0;
        self.change(|state| {
            state.tick += 1;
            id = state.tick;
            state.waiters.push_back(Waiter { id, key, opens, pid, asked: None, grant });
        });
        let mut waiting = Waiting { pool: self, id, granted };
        let granted = match timeout(self.wait, &mut waiting.granted).await {
            Ok(granted) => granted.map_err(|_| Refused::Busy),
            Err(_) => waiting.granted.try_recv().map_err(|_| Refused::Busy),
        };
        match granted? {
            Grant::Connection(upstream) => Ok(Taken::Connection(upstream)),
            Grant::Room => Ok(Taken::Room(Slot { pool: Arc::clone(self), key: None, pinned: false })),
            Grant::Gone => Err(Refused::Gone),
        }
    }

    /// Whether a clean connection is of use without its session: it can be opened again at need, so that it
    /// may wait for that, or a session of its key has none.
    pub(super) fn wants(&self, upstream: &Upstream, opens: bool) -> bool {
        let state = self.state.lock();
        let group = upstream.slot.key.as_ref().and_then(|key| state.groups.get(key));
        group.is_some_and(|group| opens || group.sessions >= group.connections)
    }

    /// Takes a clean connection back. It is closed when nobody could use it: nobody waits, and it can
    /// be opened again at need or every session of its key has its own.
    pub(super) fn give(&self, mut upstream: Box<Upstream>) {
        let offer = upstream.offer.take();
        let Some(key) = upstream.slot.key.clone() else { return };
        // From here on nobody is told of it.
        upstream.status = b'I';
        let since = offer.as_ref().map_or_else(Instant::now, |offer| offer.since);
        let mut unused = Some(upstream);
        self.change(|state| {
            if let Some(offer) = &offer {
                state.offers.remove(&offer.id);
                state.forget_asked(offer.id);
            }
            let useful = state.groups.get(&key).is_some_and(|g| g.opens || g.sessions >= g.connections);
            if let Some(upstream) = unused.take_if(|_| useful) {
                state.parked.push_back(Parked { upstream, since });
            }
        });
    }

    /// Closes connections without a session that are lost or were not used for long, and asks for those
    /// that idle sessions keep and could open again.
    pub(super) fn sweep(&self) {
        self.change(|state| {
            state.close_if(|parked, groups| {
                let group = parked.upstream.slot.key.as_ref().and_then(|key| groups.get(key));
                let old = parked.since.elapsed() >= self.idle && group.is_none_or(|group| group.opens);
                old || parked.upstream.listen().is_err()
            });
            let State { groups, offers, .. } = state;
            offers.retain(|_, offered| {
                let opens = groups.get(&offered.key).is_some_and(|group| group.opens);
                let old = opens && offered.since.elapsed() >= self.idle;
                if old {
                    offered.wanted.notify_one();
                }
                !old
            });
        });
    }

    /// Changes the state and serves whoever that helps. What is to be closed is dropped after the lock,
    /// and makes room by that.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let closing = match state.waiters.is_empty() {
            true => std::mem::take(&mut state.closing),
            false => state.settle(self.max),
        };
        drop(state);
        drop(closing);
    }
}

/// Takes a waiter away with whoever waited, also when that is dropped, and gives back what it was granted
/// and did not take.
struct Waiting<'a> {
    pool: &'a Pool,
    id: u64,
    granted: oneshot::Receiver<Grant>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pool.change(|state| state.waiters.retain(|waiter| waiter.id != self.id));
        if let Ok(Grant::Room) = self.granted.try_recv() {
            self.pool.change(|state| state.open = state.open.saturating_sub(1));
        }
    }
}

impl State {
    fn group(&mut self, key: &Arc<Key>, change: impl FnOnce(&mut Group)) {
        let group = self.groups.entry(Arc::clone(key)).or_default();
        change(group);
        if group.sessions == 0 && group.connections == 0 {
            self.groups.remove(key);
        }
    }

    /// The offer that was asked for is not to be had any longer: another one may be asked for.
    fn forget_asked(&mut self, offer: u64) {
        if let Some(waiter) = self.waiters.iter_mut().find(|waiter| waiter.asked == Some(offer)) {
            waiter.asked = None;
        }
    }

    fn close(&mut self, mut parked: Parked) {
        // It does not count for its key from now on, before it is gone.
        if let Some(key) = parked.upstream.slot.key.take() {
            self.group(&key, |group| group.connections = group.connections.saturating_sub(1));
        }
        self.closing.push(parked);
    }

    fn close_if(&mut self, mut close: impl FnMut(&mut Parked, &HashMap<Arc<Key>, Group>) -> bool) {
        for mut parked in std::mem::take(&mut self.parked) {
            match close(&mut parked, &self.groups) {
                true => self.close(parked),
                false => self.parked.push_back(parked),
            }
        }
    }

    /// Serves the waiters in their order, as far as it goes, and has connections given up for the others.
    fn settle(&mut self, max: usize) -> Vec<Parked> {
        // Room that comes free with what is closed after this.
        let mut coming = self.closing.len();
        for mut waiter in std::mem::take(&mut self.waiters) {
            if waiter.grant.is_closed() {
                continue;
            }
            if let Some(at) = self.parked_for(&waiter) {
                let Some(parked) = self.parked.remove(at) else { continue };
                // Whoever has just stopped waiting gives it back.
                if let Err(Grant::Connection(upstream)) =
                    waiter.grant.send(Grant::Connection(parked.upstream))
                {
                    self.parked.push_back(Parked { upstream, since: parked.since });
                }
                continue;
            }
            if waiter.opens && (max == 0 || self.open < max) {
                self.open += usize::from(waiter.grant.send(Grant::Room).is_ok());
                continue;
            }
            let group = waiter.key.as_ref().and_then(|key| self.groups.get(key));
            if !waiter.opens && group.is_none_or(|group| group.connections == 0) {
                let _ = waiter.grant.send(Grant::Gone);
                continue;
            }
            if waiter.opens && coming > 0 {
                coming -= 1;
            } else if waiter.asked.is_none() {
                match self.closable().filter(|_| waiter.opens).and_then(|at| self.parked.remove(at)) {
                    Some(parked) => self.close(parked),
                    None => waiter.asked = self.ask(&waiter),
                }
            }
            self.waiters.push_back(waiter);
        }
        std::mem::take(&mut self.closing)
    }

    /// The waiter's own backend if it is here, else one of its key.
    fn parked_for(&self, waiter: &Waiter) -> Option<usize> {
        let key = waiter.key.as_ref()?;
        let same = |parked: &Parked| parked.upstream.slot.key.as_ref() == Some(key);
        let own = self.parked.iter().position(|p| same(p) && p.upstream.pid == waiter.pid);
        own.or_else(|| self.parked.iter().position(same))
    }

    /// The longest unused connection without a session that nobody would miss.
    fn closable(&self) -> Option<usize> {
        let group = |parked: &Parked| self.groups.get(parked.upstream.slot.key.as_ref()?);
        self.parked.iter().position(|parked| group(parked).is_none_or(Group::can_close))
    }

    /// Asks for the least recently used offer that helps.
    fn ask(&mut self, waiter: &Waiter) -> Option<u64> {
        let same = |offered: &Offered| Some(&offered.key) == waiter.key.as_ref();
        let others =
            |offered: &Offered| waiter.opens && self.groups.get(&offered.key).is_none_or(Group::can_close);
        let found = self.offers.iter().find(|(_, offered)| same(offered));
        let found = found.or_else(|| self.offers.iter().find(|(_, offered)| others(offered)));
        let id = *found?.0;
        self.offers.remove(&id)?.wanted.notify_one();
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    fn pool(max: usize, wait: Duration) -> Arc<Pool> {
        Arc::new(Pool { max, wait, idle: wait, state: Mutex::default() })
    }

    fn key(user: &str) -> Key {
        let (database, settings) = ("shop".into(), String::new());
        Key { user: user.into(), database, parameters: Vec::new(), settings }
    }

    async fn room(pool: &Arc<Pool>, member: &Member) -> Slot {
        match pool.take(member, 0).await {
            Ok(Taken::Room(mut slot)) => {
                slot.assign(member);
                slot
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn there_are_never_more_than_the_limit() {
        let pool = pool(2, SHORT);
        let member = pool.join(key("a"), true);
        let (first, _second) = (room(&pool, &member).await, room(&pool, &member).await);
        assert_eq!(pool.room().await.unwrap_err(), Refused::Busy);
        assert!(pool.state.lock().waiters.is_empty());
        drop(first);
        let third = pool.room().await.unwrap();
        assert_eq!(pool.state.lock().open, 2);
        // Granted, and dropped before it was taken.
        {
            let (grant, granted) = oneshot::channel();
            let waiting = Waiting { pool: &pool, id: 7, granted };
            pool.change(|state| {
                let waiter = Waiter { id: 7, key: None, opens: true, pid: 0, asked: None, grant };
                state.waiters.push_back(waiter);
            });
            drop(third);
            assert_eq!(pool.state.lock().open, 2);
            drop(waiting);
        }
        assert_eq!(pool.state.lock().open, 1);
    }

    #[tokio::test]
    async fn the_least_recently_used_offer_is_asked_for() {
        let pool = pool(2, Duration::from_secs(60));
        let (a, b) = (pool.join(key("a"), true), pool.join(key("b"), true));
        let (first, second) = (room(&pool, &a).await, room(&pool, &b).await);
        let (older, newer) = (a.offer(), b.offer());
        let waits = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.room().await.map(drop) }
        });
        older.wanted().await;
        drop(older);
        // That one has begun something; the other is asked for in its place.
        newer.wanted().await;
        drop((newer, second));
        waits.await.unwrap().unwrap();
        drop((first, a, b));
        assert!(pool.state.lock().groups.is_empty());
    }

    #[tokio::test]
    async fn what_only_clients_can_open_is_not_closed_to_the_last() {
        let pool = pool(1, SHORT);
        let member = pool.join(key("a"), false);
        let mut slot = pool.room().await.unwrap();
        slot.assign(&member);
        let offer = member.offer();
        assert_eq!(pool.room().await.unwrap_err(), Refused::Busy);
        assert!(pool.state.lock().offers.contains_key(&offer.id));
        // Its own kind can have it.
        assert_eq!(pool.take(&member, 0).await.unwrap_err(), Refused::Busy);
        offer.wanted().await;
        drop((offer, slot));
        assert_eq!(pool.take(&member, 0).await.unwrap_err(), Refused::Gone);
    }
}
