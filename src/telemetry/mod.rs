//! What is shown of the running program: status, metrics, logs.

pub mod status;
pub mod watermark;
