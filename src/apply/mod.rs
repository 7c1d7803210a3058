//! Changes into the store, in commit order: the supervisor brings copies and the stream, the applier
//! is the one thread that writes.
//!
//! ```text
//! supervisor: connect -> preflight -> copy at the slot's snapshot -> stream ──events──> applier -> store
//!                ^                                                   │
//!                └──────────── back-off ──── connection lost ────────┘
//! ```

mod applier;
mod bootstrap;
mod catalog_sender;
mod catalog_watch;
mod fit;
mod initial_copy;
mod recopy;
mod supervisor;
mod table;
mod transaction;

pub use supervisor::{ApplyParts, Supervisor, SupervisorError};
