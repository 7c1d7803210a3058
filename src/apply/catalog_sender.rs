//! Catalogues on their way to the applier. What was sent last is remembered here, because what the
//! applier has put in place may be behind it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::{applier::Event, supervisor::SupervisorError};
use crate::catalog::Catalog;

#[derive(Debug)]
pub(super) struct CatalogSender {
    events: mpsc::Sender<Event>,
    last: ArcSwap<Catalog>,
}

impl CatalogSender {
    pub(super) fn new(events: mpsc::Sender<Event>) -> CatalogSender {
        CatalogSender { events, last: ArcSwap::default() }
    }

    /// For events of other kinds, which take effect in order with the catalogues.
    pub(super) fn events(&self) -> &mpsc::Sender<Event> {
        &self.events
    }

    /// The catalogue that the applier has, or will have once it has come to it.
    pub(super) fn last(&self) -> Arc<Catalog> {
        self.last.load_full()
    }

    /// A full copy brings its own.
    pub(super) fn bootstrapped(&self, catalog: &Catalog) {
        self.last.store(Arc::new(catalog.clone()));
    }

    /// Sends a catalogue, unless it says nothing new: each one voids all plans.
    pub(super) async fn send(&self, catalog: Catalog) -> Result<(), SupervisorError> {
        if *self.last.load_full() == catalog {
            return Ok(());
        }
        let catalog = Arc::new(catalog);
        self.last.store(Arc::clone(&catalog));
        super::recopy::send(&self.events, Event::Catalog(catalog)).await
    }
}
