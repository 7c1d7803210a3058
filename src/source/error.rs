//! What can end a copy or a stream, and what is to be done then.

use std::io;

use crate::primary::{ErrorKind, PrimaryError, ServerMessage};

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Primary(#[from] PrimaryError),
    /// A server that is no primary of ours, or answers what it must not.
    #[error("unexpected answer of the primary: {0}")]
    Protocol(String),
    /// The replication connection, and with it slot and snapshot, ended before the copy began.
    #[error("the exported snapshot is gone: {0}")]
    SnapshotGone(#[source] PrimaryError),
    /// Slot creation waits behind older transactions while others wait for the locks of our copy.
    #[error(
        "gave up waiting for the replication slot, because {waiting} sessions wait for our locks; {blockers}"
    )]
    SlotBlocked { blockers: String, waiting: usize },
    #[error("cannot lock the tables for their copy: {0}")]
    Lock(#[source] PrimaryError),
    #[error("copying {table}: {source}")]
    CopyPrimary {
        table: String,
        #[source]
        source: PrimaryError,
    },
    /// The consumer could not take the rows.
    #[error("copying {table}: {message}")]
    CopyRefused { table: String, message: String },
    #[error("copying {table}: the primary sent {sent} rows and {seen} came through")]
    CopyCount { table: String, sent: u64, seen: u64 },
    /// The primary warns in the middle of the stream: on 18 that is all it says when the publication is
    /// gone and rows are being skipped.
    #[error("the primary warns in the middle of the stream: {0}")]
    Notice(Box<ServerMessage>),
    #[error("the primary ended the stream: it shuts down")]
    Ended,
    /// The primary asks without pause for an acknowledgement that we cannot give: it shuts down.
    #[error("left the stream: the primary shuts down and cannot wait for what is not applied yet")]
    ShutdownStorm,
    #[error("the primary has not said anything for {seconds} s although it was asked")]
    Silent { seconds: u64 },
    #[error("changes were not taken from the stream for {seconds} s")]
    Stalled { seconds: u64 },
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceErrorKind {
    /// The connection is lost: connect again, with back-off. A permanent slot goes on where it was, a
    /// temporary one is gone with the connection.
    Reconnect,
    /// Slot, snapshot or catalogue are not what they were: begin again from the catalogue.
    Bootstrap,
    /// Nothing mends itself: somebody has to change something first. Try again slowly.
    Fatal,
}

impl SourceError {
    pub fn kind(&self) -> SourceErrorKind {
        match self {
            SourceError::Primary(e) | SourceError::Lock(e) | SourceError::CopyPrimary { source: e, .. } => {
                match e.kind() {
                    ErrorKind::Transient => SourceErrorKind::Reconnect,
                    ErrorKind::Fatal => SourceErrorKind::Fatal,
                    // A table that was renamed, a slot that was invalidated, a publication dropped.
                    ErrorKind::Request => SourceErrorKind::Bootstrap,
                }
            }
            SourceError::Ended
            | SourceError::ShutdownStorm
            | SourceError::Silent { .. }
            | SourceError::Stalled { .. } => SourceErrorKind::Reconnect,
            SourceError::Protocol(_)
            | SourceError::SnapshotGone(_)
            | SourceError::SlotBlocked { .. }
            | SourceError::CopyRefused { .. }
            | SourceError::CopyCount { .. }
            | SourceError::Notice(_) => SourceErrorKind::Bootstrap,
            SourceError::Thread(_) => SourceErrorKind::Fatal,
        }
    }
}
