//! What the tests share: servers, clients and waiting.

pub(crate) mod client;
pub(crate) mod mirror;
pub(crate) mod postgres;
pub(crate) mod program;
pub(crate) mod wait;
