//! What is shown of the running program: status, metrics, logs.

pub mod logging;
pub mod metrics;
mod sharded;
pub mod status;
pub mod watermark;

pub use sharded::{Counter, Histogram};
