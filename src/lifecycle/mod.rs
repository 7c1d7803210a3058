//! Shutdown in a stated order and bounded, readiness as latches, the limit of descriptors, and the names of tasks.

pub mod descriptors;
pub mod readiness;
pub mod shutdown;
pub mod tasks;
