//! Shutdown in a stated order and bounded, readiness as latches, and the names of tasks.

pub mod readiness;
pub mod shutdown;
pub mod tasks;
