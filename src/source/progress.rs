//! How far one stream has come: three positions that only move forward, and a bell.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::types::Lsn;

/// Shared between a [`Stream`](super::Stream), which reports it to the primary, and its reader, which
/// moves it. Belongs to one connection: after a reconnect the positions of another slot count anew.
#[derive(Debug, Default)]
pub struct Progress {
    received: AtomicU64,
    applied: AtomicU64,
    flushed: AtomicU64,
    asked: Notify,
}

impl Progress {
    /// The furthest position that the primary has named on this connection.
    pub fn received(&self) -> Lsn {
        Lsn(self.received.load(Ordering::Acquire))
    }

    /// End of the last commit applied.
    pub fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::Acquire))
    }

    /// What is acknowledged: the primary may forget everything before it.
    pub fn flushed(&self) -> Lsn {
        Lsn(self.flushed.load(Ordering::Acquire))
    }

    pub fn set_applied(&self, lsn: Lsn) {
        self.applied.fetch_max(self.bounded(lsn).0, Ordering::AcqRel);
    }

    /// Allows an acknowledgement up to `lsn`: for a temporary slot the watermark, always, because a
    /// stale non-zero position holds up the primary's fast shutdown.
    pub fn set_flushed(&self, lsn: Lsn) {
        self.flushed.fetch_max(self.bounded(lsn).0, Ordering::AcqRel);
    }

    /// Somebody waits for a position: have the primary say where it is now. Any number of calls at once
    /// are one question.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Waits for [`Progress::ask`]. One waiter.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    pub(super) fn set_received(&self, lsn: Lsn) {
        self.received.fetch_max(lsn.0, Ordering::AcqRel);
    }

    /// The primary does not check what is acknowledged, not even against the end of its own log, so a
    /// position that never came must not get out.
    fn bounded(&self, lsn: Lsn) -> Lsn {
        let received = self.received();
        if lsn > received {
            tracing::error!("position {lsn} is ahead of what was received, {received}: held back");
            debug_assert!(lsn <= received, "{lsn} was never received, only {received}");
        }
        lsn.min(received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_only_move_forward() {
        let progress = Progress::default();
        progress.set_received(Lsn(100));
        progress.set_received(Lsn(50));
        progress.set_applied(Lsn(80));
        progress.set_applied(Lsn(70));
        progress.set_flushed(Lsn(100));
        progress.set_flushed(Lsn(90));
        assert_eq!(
            (progress.received(), progress.applied(), progress.flushed()),
            (Lsn(100), Lsn(80), Lsn(100))
        );
    }

    #[test]
    #[should_panic(expected = "never received")]
    fn what_was_never_received_is_not_acknowledged() {
        let progress = Progress::default();
        progress.set_received(Lsn(100));
        progress.set_flushed(Lsn(101));
    }

    #[tokio::test]
    async fn questions_at_once_are_one() {
        let progress = Progress::default();
        progress.ask();
        progress.ask();
        progress.asked().await;
        let again = progress.asked();
        tokio::pin!(again);
        assert!(futures_util::poll!(again.as_mut()).is_pending());
        progress.ask();
        again.await;
    }
}
