//! Connections to the primary: where it is, how it is reached, and the framing of its protocol.
//!
//! [`Connection`] is our own client for what tokio-postgres does not do: replication, COPY without a
//! copy, and handing a client's frames on verbatim. [`client`] gives an ordinary connection.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod cancel;
mod client;
mod connect;
mod connection;
mod error;
mod login;
mod message;
mod passfile;
mod scram_keys;
mod settings;
mod target;
mod tls;

pub use cancel::cancel;
pub use client::client;
pub use connect::Stream;
pub use connection::{Connection, ReadHalf, WriteHalf, rehome};
pub use error::{ErrorKind, PrimaryError, ServerMessage, in_words};
pub use message::Message;
pub use scram_keys::ScramKeys;
pub use target::{Host, SslMode, Target};
