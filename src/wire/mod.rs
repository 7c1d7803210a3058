//! The PostgreSQL port: clients come in, are admitted by the primary, and get their answers from memory
//! where the engine can give them, from the primary everywhere else.
//!
//! ```text
//! port ─> listener ─> opening ─> auth ─> session ┬─> simple, extended ┬─> local             (memory)
//!                                                │                    └─> command ┬─> block (transactions)
//!                                                │                                ├─> cursors
//!                                                │                                └─> copy  (TO STDOUT)
//!                                                └─> relay ─> upstream   (the primary, as the client)
//! ```
//!
//! A transaction begins here, and at the primary when the first statement needs it: see `block`.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod auth;
mod backend;
mod block;
mod cancel;
mod client;
mod command;
mod copy;
mod cursors;
mod end_point;
mod error;
mod execute;
mod extended;
mod facts;
mod frame;
mod lease;
mod listener;
mod lobby;
mod local;
mod opening;
mod policy;
mod pool;
mod port;
mod relay;
mod scram;
mod seats;
mod session;
mod simple;
mod startup;
mod statement;
mod stream;
mod tls;
mod upstream;
mod verifiers;

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

pub use error::ListenError;
pub use listener::serve;
pub use port::{Listener, bind};

use crate::{
    config::Config,
    primary::Target,
    query::{Engine, Route},
    store::Store,
    telemetry::watermark::Watermark,
};

/// What all sessions share.
pub struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) store: Arc<Store>,
    pub(crate) target: Target,
    pub(crate) config: Arc<Config>,
    pub(crate) watermark: Arc<Watermark>,
    pub(crate) observer: Arc<dyn Observer>,
    /// Scans that run at once: they must leave the processor to replication and to look-ups.
    scans: Semaphore,
    cancels: Arc<cancel::Registry>,
    /// Of connections to the primary, in the clients' names.
    upstreams: Arc<pool::Pool>,
    verifiers: verifiers::Verifiers,
}

/// Told of what sessions do, for the metrics. Called on serving threads: it must not block.
pub trait Observer: Send + Sync {
    /// A statement was answered; `rows` counts those that came from memory.
    fn answered(&self, route: Route, rows: u64, elapsed: Duration);
    /// A connection was accepted.
    fn opened(&self);
    /// A connection has ended.
    fn closed(&self);
}

impl Shared {
    /// `target` names the cached database: clients of others are passed through whole.
    pub fn new(
        engine: Arc<Engine>,
        store: Arc<Store>,
        target: Target,
        config: Arc<Config>,
        watermark: Arc<Watermark>,
        observer: Arc<dyn Observer>,
    ) -> Arc<Shared> {
        let scans = Semaphore::new(config.listen.threads.max(1));
        let cancels = Arc::default();
        let upstreams = pool::Pool::new(&config.limits);
        let verifiers = verifiers::Verifiers::default();
        Arc::new(Shared {
            engine,
            store,
            target,
            config,
            watermark,
            observer,
            scans,
            cancels,
            upstreams,
            verifiers,
        })
    }
}
