//! Readiness: the program is ready while no latch is held, and can say who holds one and why.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    latches: Arc<Mutex<Latches>>,
}

#[derive(Debug, Default)]
struct Latches {
    next: u64,
    held: BTreeMap<u64, State>,
}

#[derive(Debug)]
struct State {
    name: String,
    /// `None` while it is released.
    reason: Option<String>,
}

impl Readiness {
    /// A latch, held from the start; `reason` says what is waited for.
    pub fn latch(&self, name: impl Into<String>, reason: impl Into<String>) -> Latch {
        let mut latches = self.latches.lock();
        let id = latches.next;
        latches.next += 1;
        latches.held.insert(id, State { name: name.into(), reason: Some(reason.into()) });
        Latch { readiness: self.clone(), id }
    }

    pub fn is_ready(&self) -> bool {
        self.latches.lock().held.values().all(|state| state.reason.is_none())
    }

    /// What is waited for, as `name: reason`, in order of the latches' making. Empty when ready.
    pub fn reasons(&self) -> Vec<String> {
        let latches = self.latches.lock();
        let held = latches.held.values();
        held.filter_map(|state| Some(format!("{}: {}", state.name, state.reason.as_ref()?))).collect()
    }
}

/// One component's say in the readiness of the program. Dropping it is the last word: ready.
#[derive(Debug)]
pub struct Latch {
    readiness: Readiness,
    id: u64,
}

impl Latch {
    /// Not ready, or not ready any longer.
    pub fn hold(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    /// Ready, as far as this component is concerned.
    pub fn release(&self) {
        self.set(None);
    }

    fn set(&self, reason: Option<String>) {
        if let Some(state) = self.readiness.latches.lock().held.get_mut(&self.id) {
            state.reason = reason;
        }
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.readiness.latches.lock().held.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_latch_is_released_or_dropped() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready());
        let port = readiness.latch("port", "not bound");
        let copy = readiness.latch("tables", "copying");
        assert_eq!(readiness.reasons(), ["port: not bound", "tables: copying"]);
        port.release();
        assert!(!readiness.is_ready());
        drop(copy);
        assert!(readiness.is_ready());
        assert!(readiness.reasons().is_empty());
    }

    #[test]
    fn a_latch_can_be_held_again() {
        let readiness = Readiness::default();
        let port = readiness.latch("port", "not bound");
        port.release();
        port.hold("closed");
        port.hold("closed for good");
        assert_eq!(readiness.reasons(), ["port: closed for good"]);
        drop(port);
        assert!(readiness.is_ready());
    }
}
