//! Up to where in the primary's log everything is here, for those who wait for it.

use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::types::Lsn;

/// Set by `apply`, awaited by sessions, asked for by both.
#[derive(Debug)]
pub struct Watermark {
    current: watch::Sender<Lsn>,
    asked: Notify,
}

impl Default for Watermark {
    fn default() -> Watermark {
        Watermark { current: watch::Sender::new(Lsn::ZERO), asked: Notify::new() }
    }
}

impl Watermark {
    pub fn get(&self) -> Lsn {
        *self.current.borrow()
    }

    pub fn set(&self, lsn: Lsn) {
        self.current.send_if_modified(|current| {
            let changed = *current != lsn;
            *current = lsn;
            changed
        });
    }

    /// Waits until everything up to `lsn` is here, at most for `timeout`; says whether it is. While
    /// somebody waits, the primary is asked for its position.
    pub async fn wait_for(&self, lsn: Lsn, timeout: Duration) -> bool {
        if self.get() >= lsn {
            return true;
        }
        let mut watched = self.current.subscribe();
        let wait = async {
            // An answer can come from just before the position that we wait for: ask again, less and
            // less often.
            let mut pause = Duration::from_millis(2);
            loop {
                self.asked.notify_one();
                let reached = watched.wait_for(|current| *current >= lsn);
                if let Ok(reached) = tokio::time::timeout(pause, reached).await {
                    // An error means that the sender is gone, and we hold it.
                    return reached.is_ok();
                }
                pause *= 2;
            }
        };
        tokio::time::timeout(timeout, wait).await.unwrap_or(false)
    }

    /// Completes when somebody has begun to wait.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }
}
