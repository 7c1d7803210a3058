//! Millpond: chosen tables of a PostgreSQL primary in memory, served on a PostgreSQL port, always
//! equal to the primary at one LSN.
//!
//! ```text
//! primary ──COPY (one exported snapshot)──┐
//!         ──pgoutput──> source ──> decode ──> apply ──> store ──> query ──> wire ──> client
//!                                               │                  ▲ │
//!                                               └────> catalog ────┘ └──> primary (fall through)
//! ```
//!
//! Modules stand bottom up; `tests/layers.rs` checks that each imports only those above it here.

pub mod admin;
pub mod apply;
pub mod catalog;
pub mod cli;
pub mod codec;
pub mod config;
pub mod daemon;
pub mod decode;
pub mod lifecycle;
pub mod primary;
pub mod query;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod types;
pub mod wire;
