//! Which version readers see, and which versions they still hold.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::types::{CommitVersion, Lsn};

/// What a snapshot taken now would see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Visible {
    pub(super) version: CommitVersion,
    /// Everything that the primary committed up to here is in the version.
    pub(super) lsn: Lsn,
}

#[derive(Debug, Default)]
pub(super) struct Tracker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    visible: Visible,
    /// Open snapshots of each version.
    readers: BTreeMap<CommitVersion, usize>,
}

impl Tracker {
    pub(super) fn visible(&self) -> Visible {
        self.state.lock().visible
    }

    /// Registers a reader of what is visible now.
    pub(super) fn open(&self) -> Visible {
        let mut state = self.state.lock();
        let visible = state.visible;
        *state.readers.entry(visible.version).or_default() += 1;
        visible
    }

    pub(super) fn close(&self, version: CommitVersion) {
        let mut state = self.state.lock();
        if let Some(count) = state.readers.get_mut(&version) {
            *count -= 1;
            if *count == 0 {
                state.readers.remove(&version);
            }
        }
    }

    /// Makes a version visible. Neither part goes back.
    pub(super) fn publish(&self, version: CommitVersion, lsn: Lsn) {
        let mut state = self.state.lock();
        debug_assert!(version >= state.visible.version, "versions go forward");
        state.visible.version = version;
        state.visible.lsn = state.visible.lsn.max(lsn);
    }

    /// Starts again at another place of the log: the tables were copied anew.
    pub(super) fn restart(&self, version: CommitVersion, lsn: Lsn) {
        let mut state = self.state.lock();
        state.visible = Visible { version, lsn };
    }

    /// The oldest version that anyone reads or may come to read.
    pub(super) fn oldest(&self) -> CommitVersion {
        let state = self.state.lock();
        state.readers.keys().next().copied().unwrap_or(state.visible.version)
    }
}
