//! Where changes come from: the slot, the copy at its exported snapshot, and the stream after it.
//!
//! The hand-over rule. A transaction is in the slot's snapshot if its commit record begins before the
//! slot's consistent point, and in the stream otherwise: no gap, no overlap. It holds only in this order:
//!
//! 1. The publication exists and is committed.
//! 2. [`Copier::prepare`] locks all tables in the sessions that will copy them. Without it a table that
//!    is rewritten before its COPY has no rows in the snapshot and none in the stream.
//! 3. The catalogue is read (again) under those locks: what is copied now has that shape.
//! 4. [`ReplicationConnection::create_slot`] exports the snapshot. The connection stays untouched until
//! 5. [`Copier::import`] has put every session on it.
//! 6. [`Copier::run`] copies; [`ReplicationConnection::start`] may begin to stream meanwhile.
//!
//! A temporary slot is gone after any error of its session: then all of this is done again.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod copy_plan;
mod copy_report;
mod copy_worker;
mod error;
mod io_thread;
pub mod preflight;
mod progress;
pub mod publication;
mod queue;
pub mod schema;
mod slot;
mod snapshot;
mod stream;

pub use error::{SourceError, SourceErrorKind};
pub use progress::Progress;
pub use slot::{ExportedSnapshot, ReplicationConnection, SlotWait, SystemIdentity};
pub use snapshot::{Copier, CopyConsumer, CopySink, CopyTable, CopyTotals};
pub use stream::{Frame, Stream, StreamOptions, StreamReader};
