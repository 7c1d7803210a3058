//! The client's transaction block, which is ours until a statement in it needs the primary.
//!
//! BEGIN of a READ COMMITTED transaction is answered here; SELECTs in it are answered from memory, each
//! at its own snapshot and none behind an earlier one. The first statement that is not for memory takes
//! the block to the primary: there the client's own BEGIN runs first. From then on the transaction is
//! the primary's, but as long as nothing in it has left a trace, later SELECTs may come from memory
//! again, once the session's facts, read within it, say that it has written nothing.

use std::time::Instant;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::{
    client::End,
    error::Problem,
    relay::lost_at_work,
    session::{Mode, Session},
    statement::PortalState,
    upstream::{Expect, SYNC, is_fatal, poison},
};
use crate::query::{Begin, Command, RouteSetting, Statement, StatementKind};

/// What is known of the client's transaction beyond the primary's status.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// The transaction that the primary has not heard of.
    pub(super) lazy: Option<Lazy>,
    /// Something ran in the primary's transaction after which memory is not asked before it ends.
    pub(super) pinned: bool,
    /// The primary may have cursors that outlive their transaction, whose names are taken.
    pub(super) holds: bool,
}

/// A transaction of which the primary knows nothing.
#[derive(Debug)]
pub(super) struct Lazy {
    /// The client's BEGIN.
    begin: String,
    /// In PostgreSQL it would have taken a snapshot, after which its mode cannot be changed.
    pub(super) queried: bool,
    /// After an error, up to the ROLLBACK.
    pub(super) failed: bool,
    pub(super) began: Instant,
}

impl Lazy {
    fn new(begin: String) -> Lazy {
        Lazy { begin, queried: false, failed: false, began: Instant::now() }
    }
}

impl Session {
    /// The status that ReadyForQuery tells.
    pub(super) fn status(&self) -> u8 {
        match &self.block.lazy {
            Some(Lazy { failed: true, .. }) => b'E',
            Some(_) => b'T',
            None => self.upstream_status(),
        }
    }

    /// The status of the primary's side.
    pub(super) fn upstream_status(&self) -> u8 {
        self.upstream.as_ref().map_or(b'I', |upstream| upstream.status)
    }

    /// Whether a table could be read from memory now, as far as transactions go.
    pub(super) fn may_read_here(&self) -> bool {
        let open = match &self.block.lazy {
            Some(lazy) => !lazy.failed,
            None => match self.upstream_status() {
                b'I' => true,
                b'T' => !self.block.pinned,
                _ => false,
            },
        };
        open && self.segment.mode == Mode::Local
    }

    /// Whether the transaction's statements each see what is committed when they begin, and it has
    /// written nothing. The facts must be current.
    pub(super) fn reads_committed(&mut self) -> bool {
        if let Some(lazy) = &mut self.block.lazy {
            lazy.queried = true;
            return true;
        }
        if self.upstream_status() == b'I' {
            let facts = self.facts.current.as_ref();
            return facts.is_some_and(|facts| facts.default_isolation == "read committed");
        }
        let transaction = &self.facts.transaction;
        let free = matches!(transaction.isolation.as_str(), "read committed" | "read uncommitted")
            && !transaction.written;
        self.block.pinned |= !free;
        free
    }

    /// Whether BEGIN can be answered here.
    pub(super) async fn may_begin(&mut self, begin: &Begin) -> Result<bool, Problem> {
        let between = self.block.lazy.is_none()
            && self.upstream_status() == b'I'
            && self.segment.mode == Mode::Local
            && self.cached
            && self.shared.config.cache.enabled;
        if !between || begin.reads_committed == Some(false) {
            return Ok(false);
        }
        self.refresh_facts().await?;
        Ok(self.facts.current.as_ref().is_some_and(|facts| {
            let default = matches!(facts.default_isolation.as_str(), "read committed" | "read uncommitted");
            facts.route != RouteSetting::Primary && (begin.reads_committed == Some(true) || default)
        }))
    }

    /// Begins a transaction here.
    pub(super) fn begin(&mut self, text: &str) {
        self.block.lazy = Some(Lazy::new(text.to_owned()));
    }

    /// When a transaction that is ours has to end if nothing comes, and what the client is told then. The
    /// primary sees to its own.
    pub(super) fn block_limit(&self) -> Option<(Instant, Problem)> {
        let lazy = self.block.lazy.as_ref()?;
        let timeouts = &self.facts.timeouts;
        let idle = timeouts.idle_in_transaction.and_then(|limit| Instant::now().checked_add(limit));
        let whole = timeouts.transaction.and_then(|limit| lazy.began.checked_add(limit));
        let idle = idle.map(|at| (at, Problem::IdleInTransaction));
        let whole = whole.map(|at| (at, Problem::TransactionTooLong));
        idle.into_iter().chain(whole).min_by_key(|(at, _)| *at)
    }

    /// Ends the transaction that is ours; the CommandComplete, or `None` where it is not.
    pub(super) fn end_block(&mut self, commit: bool, chain: bool) -> Option<&'static str> {
        let lazy = self.block.lazy.take()?;
        self.portals.clear();
        if chain {
            self.block.lazy = Some(Lazy::new(lazy.begin));
        }
        Some(if commit && !lazy.failed { "COMMIT" } else { "ROLLBACK" })
    }

    /// Has the primary catch up with a transaction that is ours. It must owe nothing. False when that
    /// failed, which the client has been told.
    pub(super) async fn hand_over_block(&mut self) -> Result<bool, End> {
        let Some(lazy) = self.block.lazy.take() else { return Ok(true) };
        let Some(upstream) = &mut self.upstream else { return Err(End::Closed) };
        let mut message = BytesMut::new();
        let mut answers = 1u32;
        frontend::query(&lazy.begin, &mut message).map_err(|_| End::Closed)?;
        if lazy.queried {
            // From its first query on a transaction's mode stays what it is.
            frontend::query("select", &mut message).map_err(|_| End::Closed)?;
            answers += 1;
        }
        if lazy.failed {
            message.extend_from_slice(&poison());
            message.extend_from_slice(SYNC);
            answers += 1;
        }
        upstream.unnamed = None;
        upstream.write(&message);
        upstream.write.flush().await.map_err(|error| lost_at_work(&error))?;
        let mut refused = None;
        while answers > 0 {
            let frame = upstream.read.read_frame().await.map_err(|error| lost_at_work(&error))?;
            let body = frame.get(5..).unwrap_or_default();
            match frame.first().copied().unwrap_or_default() {
                b'N' | b'A' | b'S' => self.client.output.extend_from_slice(&frame),
                b'E' if is_fatal(body) => {
                    self.client.output.extend_from_slice(&frame);
                    return Err(End::Closed);
                }
                b'E' => refused = refused.or(Some(frame)),
                b'Z' => {
                    upstream.status = body.first().copied().unwrap_or(b'E');
                    answers -= 1;
                }
                _ => {}
            }
        }
        let expected = if lazy.failed { b'E' } else { b'T' };
        if upstream.status == expected {
            return Ok(true);
        }
        // The client is in a transaction that the primary would not begin: it has failed.
        if upstream.status == b'I' {
            self.block.lazy = Some(Lazy { failed: true, ..lazy });
        }
        if let Some(frame) = refused {
            self.client.output.extend_from_slice(&frame);
        }
        Ok(false)
    }

    /// A transaction that cannot go on: the primary cannot be reached, or did not begin it.
    pub(super) fn fail_block(&mut self) {
        if let Some(lazy) = &mut self.block.lazy {
            lazy.failed = true;
        }
    }

    /// An error of ours while the primary is in a transaction and owes nothing: it fails there too.
    /// False where the primary is in none.
    pub(super) fn fail_upstream(&mut self, problem: &Problem, sync: bool) -> bool {
        if self.block.lazy.is_some() || self.upstream_status() != b'T' {
            return false;
        }
        let Some(upstream) = &mut self.upstream else { return false };
        upstream.write(&poison());
        self.expect.push_back(Expect::Poison(problem.clone()));
        if sync {
            upstream.write(SYNC);
            self.expect.push_back(Expect::Sync);
        }
        self.segment.mode = Mode::Upstream;
        true
    }

    /// Takes note of a statement that goes to the primary.
    pub(super) fn note_in_block(&mut self, statement: &Statement) {
        let text = statement.text.to_ascii_lowercase();
        self.block.holds |= text.contains("hold") || text.contains("execute");
        let word = text.split(|c: char| !c.is_ascii_alphabetic()).find(|w| !w.is_empty());
        let is_plain = match &statement.command {
            Some(Command::Begin(begin)) => begin.reads_committed != Some(false),
            // Where it ends, another may begin at once.
            Some(Command::Commit { .. } | Command::Rollback { .. }) => {
                self.portals.clear();
                true
            }
            Some(Command::Close(None)) => {
                self.portals.retain(|_, portal| !matches!(portal.state, PortalState::Cursor(_)));
                true
            }
            Some(_) => true,
            None => match statement.kind {
                // Functions can take locks and change settings.
                StatementKind::Select => !["set_config", "lock", "pg_"].iter().any(|w| text.contains(w)),
                StatementKind::Read => matches!(word, Some("show" | "explain" | "declare" | "copy")),
                _ => false,
            },
        };
        self.block.pinned |= !is_plain;
        // A text that is not understood may end the transaction and begin another.
        let ends = ["commit", "rollback", "abort", "end", "prepare"];
        if matches!(statement.kind, StatementKind::Unknown | StatementKind::Transaction)
            && statement.command.is_none()
            && text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| ends.contains(&word))
        {
            self.portals.clear();
        }
    }

    /// After an answer that ends with this status: outside of a transaction no portal lives on; in one,
    /// those that were opened here stay here, with the snapshot that they have.
    pub(super) fn settle_portals(&mut self) {
        match self.status() {
            b'I' => {
                self.portals.clear();
                self.block.pinned = false;
            }
            _ => self.portals.values_mut().for_each(|portal| {
                let state = std::mem::replace(&mut portal.state, PortalState::Empty);
                portal.state = match state {
                    PortalState::Bound(rows) => PortalState::Running(rows),
                    state => state,
                };
            }),
        }
    }
}
