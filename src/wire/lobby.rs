//! Connections that have not logged in yet: how many there may be, and who has to leave for others.
//!
//! Anybody can open connections and say nothing. A fixed bound alone would let a thousand silent ones
//! shut everybody out until their deadline; so at the bound a newcomer takes the place of the one that
//! has kept us waiting longest. An honest client answers within a round trip and is never that one
//! unless a whole lobby arrives between its question and its answer.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How long a login that has a connection to the primary may wait for its client while others want one.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Lobby {
    max: usize,
    max_per_address: usize,
    /// Logins that have a connection to the primary.
    logins: Arc<Semaphore>,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    /// In the order of arrival.
    by_number: BTreeMap<u64, Arc<Guest>>,
    per_address: HashMap<Address, usize>,
}

/// Where a connection comes from; all of the Unix socket are one.
type Address = Option<IpAddr>;

/// One connection on its way in. It leaves the lobby when it is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    lobby: Arc<Lobby>,
    number: u64,
    pub(super) guest: Arc<Guest>,
}

#[derive(Debug)]
pub(super) struct Guest {
    address: Address,
    told: Notify,
    stage: Mutex<Stage>,
}

#[derive(Debug, Default)]
struct Stage {
    leaving: bool,
    /// Has a connection to the primary.
    at_primary: bool,
    /// Since when the client owes the next message; `None` while we or the primary are at it.
    awaited: Option<Instant>,
}

impl Lobby {
    pub(super) fn new(max: usize, max_per_address: usize, max_logins: usize) -> Arc<Lobby> {
        let logins = Arc::new(Semaphore::new(max_logins));
        Arc::new(Lobby { max, max_per_address, logins, guests: Mutex::default() })
    }

    /// Lets a connection in, at the cost of another where there is no room. `None` where there is none
    /// and no client owes us anything: then the newcomer has to wait or leave.
    pub(super) fn enter(self: &Arc<Lobby>, address: Address) -> Option<Entry> {
        let stage = Mutex::new(Stage { awaited: Some(Instant::now()), ..Stage::default() });
        let guest = Arc::new(Guest { address, told: Notify::new(), stage });
        let mut guests = self.guests.lock();
        let of_address = guests.per_address.get(&address).copied().unwrap_or_default();
        let room = if of_address >= self.max_per_address {
            guests.make_room(|guest| guest.address == address)
        } else {
            guests.by_number.len() < self.max || guests.make_room(|_| true)
        };
        if !room {
            return None;
        }
        guests.next += 1;
        let number = guests.next;
        guests.by_number.insert(number, Arc::clone(&guest));
        *guests.per_address.entry(address).or_default() += 1;
        Some(Entry { lobby: Arc::clone(self), number, guest })
    }

    /// A turn for a login on a connection to the primary. While there is none, logins whose clients
    /// keep the primary waiting end.
    pub(super) async fn login(&self, guest: &Guest) -> Option<OwnedSemaphorePermit> {
        guest.stage.lock().awaited = None;
        let mut turn = pin!(Arc::clone(&self.logins).acquire_owned());
        let permit = loop {
            match tokio::time::timeout(PATIENCE / 4, &mut turn).await {
                Ok(permit) => break permit.ok()?,
                Err(_) => self.end_idle_logins(),
            }
        };
        guest.stage.lock().at_primary = true;
        Some(permit)
    }

    fn end_idle_logins(&self) {
        for guest in self.guests.lock().by_number.values() {
            let stage = guest.stage.lock();
            let idle = stage.awaited.is_some_and(|since| since.elapsed() >= PATIENCE);
            if idle && stage.at_primary {
                drop(stage);
                guest.send_away();
            }
        }
    }
}

impl Guests {
    /// Sends the first away whose client owes us something. False when there is none.
    fn make_room(&mut self, of: impl Fn(&Guest) -> bool) -> bool {
        let waited_for = |guest: &Guest| guest.stage.lock().awaited.is_some();
        let found = self.by_number.iter().find(|(_, guest)| of(guest) && waited_for(guest));
        let Some((&number, guest)) = found else { return false };
        guest.send_away();
        self.remove(number);
        true
    }

    fn remove(&mut self, number: u64) {
        let Some(guest) = self.by_number.remove(&number) else { return };
        if let Some(count) = self.per_address.get_mut(&guest.address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&guest.address);
            }
        }
    }
}

impl Guest {
    /// The client owes the next message from here on, or has sent it.
    pub(super) fn awaits(&self, awaits: bool) {
        self.stage.lock().awaited = awaits.then(Instant::now);
    }

    /// Completes when the connection has to go.
    pub(super) async fn sent_away(&self) {
        while !self.stage.lock().leaving {
            self.told.notified().await;
        }
    }

    fn send_away(&self) {
        self.stage.lock().leaving = true;
        self.told.notify_one();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.lobby.guests.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn left(entry: &Entry) -> bool {
        entry.guest.sent_away().now_or_never().is_some()
    }

    #[test]
    fn the_longest_awaited_leaves_for_a_new_one() {
        let lobby = Lobby::new(3, 2, 1);
        let home = Some(IpAddr::from([127, 0, 0, 1]));
        let enter = |address| lobby.enter(address).expect("there is room");
        let (a, b, c) = (enter(home), enter(home), enter(home));
        assert_eq!([left(&a), left(&b), left(&c)], [true, false, false], "its address has its own bound");
        b.guest.awaits(false);
        let (d, e) = (enter(None), enter(None));
        assert_eq!([left(&b), left(&c), left(&d), left(&e)], [false, true, false, false]);
        [&d, &e].into_iter().for_each(|entry| entry.guest.awaits(false));
        assert!(lobby.enter(None).is_none(), "everybody is at work");
        drop((a, b, c, d, e));
        assert!(lobby.guests.lock().by_number.is_empty() && lobby.guests.lock().per_address.is_empty());
    }

    #[tokio::test]
    async fn who_keeps_the_primary_waiting_gives_up_its_turn() {
        let lobby = Lobby::new(9, 9, 1);
        let enter = || lobby.enter(None).expect("there is room");
        let (first, second) = (enter(), enter());
        let turn = lobby.login(&first.guest).await.expect("nobody has one");
        assert!(lobby.login(&second.guest).now_or_never().is_none(), "there is one");
        first.guest.stage.lock().awaited = Instant::now().checked_sub(PATIENCE);
        let (_, next) = tokio::join!(
            async {
                first.guest.sent_away().await;
                drop(turn);
            },
            lobby.login(&second.guest)
        );
        assert!(next.is_some() && !left(&second));
    }
}
