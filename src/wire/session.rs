//! One session after its login: the loop between the client and its connection to the primary.
//!
//! Answers must leave in the order of their questions. So a *segment* (the messages up to a Sync, or
//! one Query) is answered here from its start, or goes to the primary from the first message on that
//! needs it; and while the primary owes an answer, no message of the next segment is looked at.

use std::{collections::HashMap, sync::Arc, time::Instant};

use bytes::Bytes;

use super::{
    Shared,
    auth::Login,
    backend,
    block::Block,
    cancel::Registered,
    client::{Client, End, OUTPUT_HIGH},
    error::Problem,
    facts::Facts,
    frame::Frame,
    lease::{Former, Traces},
    pool::{Member, Offer},
    statement::{Portal, Statements},
    upstream::{Expect, Expectations, FLUSH, Upstream},
};
use crate::{
    lifecycle::shutdown::ShutdownToken,
    query::{Planned, Reason, Route, Statement, StatementKind, Trace},
    types::TypeOid,
};

pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Client,
    /// `None` after it was lost between statements.
    pub(super) upstream: Option<Upstream>,
    /// How to log in at the primary again, where that needs nothing of the client.
    pub(super) again: Option<Login>,
    pub(super) cancel: Registered,
    /// Whether the client asked for the database that is cached.
    pub(super) cached: bool,
    pub(super) facts: Facts,
    pub(super) statements: Statements,
    pub(super) portals: HashMap<Bytes, Portal>,
    pub(super) segment: Segment,
    pub(super) block: Block,
    pub(super) expect: Expectations,
    /// A message that waits until the primary owes nothing.
    pub(super) held: Option<Frame>,
    pub(super) last_route: Option<Route>,
    /// A Query came before the Sync of earlier messages: from PostgreSQL 18 on, the implicit transaction
    /// of both goes on to that Sync, which is the primary's then.
    pub(super) owes_sync: bool,
    /// What was left in the primary's session.
    pub(super) traces: Traces,
    /// With whom the connection can be shared; `None` where that could not be found out.
    pub(super) member: Option<Member>,
    /// The last connection that was given up.
    pub(super) former: Former,
    /// Prepared statements may be gone when the running statement is done.
    pub(super) drops_statements: Option<DropsStatements>,
}

/// Prepared statements that SQL drops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DropsStatements {
    /// All of them, or the one of this name.
    pub(super) one: Option<Bytes>,
    /// Whether they are gone at the end of the segment: it succeeded, or we cannot know.
    pub(super) certain: bool,
}

/// Where the current segment stands.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) mode: Mode,
    /// After an error, up to the Sync.
    pub(super) skipping: bool,
    /// The primary reads COPY data: the client's messages are for it.
    pub(super) copy_in: bool,
    /// CopyDone and CopyFail that were handed on before the primary asked for data.
    pub(super) copy_ends: u32,
    pub(super) began: Instant,
    pub(super) reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Local,
    Upstream,
}

impl Segment {
    pub(super) fn new() -> Segment {
        Segment {
            mode: Mode::Local,
            skipping: false,
            copy_in: false,
            copy_ends: 0,
            began: Instant::now(),
            reason: Reason::Unsupported,
        }
    }
}

/// What came first in the wait.
enum Event {
    Upstream(Result<(), crate::primary::PrimaryError>),
    Sent(Result<(), crate::primary::PrimaryError>),
    Client(Result<(), End>),
    Wanted,
    Shutdown,
    /// A transaction that only we know of has taken too long.
    Expired(Problem),
}

/// Waits until another session needs the connection; for ever where it is not offered.
async fn wanted(offer: Option<&Offer>) {
    match offer {
        Some(offer) => offer.wanted().await,
        None => std::future::pending().await,
    }
}

impl Session {
    /// Serves the client until it leaves, or has to.
    pub(super) async fn run(mut self: Box<Self>, shutdown: ShutdownToken) {
        let end = self.serve(&shutdown).await;
        let report = match end {
            Err(End::Fatal(problem)) => Some(problem.report()),
            Err(End::Closed) | Ok(()) => None,
        };
        self.release().await;
        self.client.end(report.as_ref()).await;
    }

    async fn serve(&mut self, shutdown: &ShutdownToken) -> Result<(), End> {
        loop {
            while self.takes_input() {
                let frame = match self.held.take() {
                    Some(frame) => frame,
                    None => {
                        match Frame::take(&mut self.client.input, self.shared.config.limits.max_message_bytes)
                        {
                            Ok(Some(frame)) => frame,
                            Ok(None) => break,
                            Err(error) => return Err(End::Fatal(Problem::Protocol(error.to_string()))),
                        }
                    }
                };
                self.on_client(frame).await?;
                if self.client.output.len() >= OUTPUT_HIGH {
                    self.client.flush().await?;
                }
            }
            if !self.client.output.is_empty() {
                self.client.flush().await?;
            }
            let idle = self.is_idle();
            if idle {
                self.rest();
            }
            // The client may send ahead, but not without bound.
            let room = self.takes_input() || self.client.input.len() < OUTPUT_HIGH;
            let limit = self.block_limit();
            let expired = async {
                match limit {
                    Some((at, problem)) => {
                        tokio::time::sleep_until(at.into()).await;
                        problem
                    }
                    None => std::future::pending().await,
                }
            };
            let client = &mut self.client;
            let event = match &mut self.upstream {
                Some(upstream) => {
                    let Upstream { read, write, offer, .. } = upstream;
                    let pending = write.pending();
                    tokio::select! {
                        biased;
                        // 1: what the primary says, also between statements.
                        read = read.fill_idle() => Event::Upstream(read),
                        // 2: what is on its way to it.
                        sent = write.flush(), if pending => Event::Sent(sent),
                        // 3: the client's next message.
                        read = client.fill(), if room => Event::Client(read),
                        // 4: another session, which needs the connection more.
                        () = wanted(offer.as_ref()), if idle => Event::Wanted,
                        // 5: shutdown, for those who wait for nothing.
                        () = shutdown.requested(), if idle => Event::Shutdown,
                        problem = expired => Event::Expired(problem),
                    }
                }
                None => tokio::select! {
                    biased;
                    read = client.fill() => Event::Client(read),
                    () = shutdown.requested(), if idle => Event::Shutdown,
                    problem = expired => Event::Expired(problem),
                },
            };
            match event {
                Event::Upstream(Ok(())) => self.on_upstream_input().await?,
                Event::Sent(Ok(())) => {
                    if let Some(upstream) = &mut self.upstream {
                        upstream.sent();
                    }
                }
                Event::Upstream(Err(error)) | Event::Sent(Err(error)) => self.on_lost(&error)?,
                Event::Client(read) => read?,
                Event::Wanted => self.give_up().await,
                Event::Shutdown => return Err(End::Fatal(Problem::ShuttingDown)),
                Event::Expired(problem) => return Err(End::Fatal(problem)),
            }
        }
    }

    /// Keeps no more than it needs while nothing is to be done.
    fn rest(&mut self) {
        self.offer();
        self.client.shrink();
        if let Some(upstream) = &mut self.upstream {
            upstream.write.shrink();
        }
    }

    /// Whether the client's next message may be looked at.
    fn takes_input(&self) -> bool {
        if self.held.is_some() {
            return self.expect.is_empty();
        }
        let room = self.upstream.as_ref().is_none_or(|u| !u.is_full());
        room && (self.segment.copy_in || !self.expect.iter().any(Expect::is_last))
    }

    /// Between statements and outside of transactions.
    fn is_idle(&self) -> bool {
        self.expect.is_empty() && self.segment.mode == Mode::Local && self.status() == b'I'
    }

    async fn on_client(&mut self, frame: Frame) -> Result<(), End> {
        let tag = frame.tag();
        match tag {
            b'X' => Err(End::Closed),
            b'd' | b'c' | b'f' => self.on_copy(frame),
            b'S' if self.segment.copy_in => Ok(()),
            b'S' => self.on_sync(&frame).await,
            b'H' if self.segment.copy_in => Ok(()),
            b'Q' | b'F' | b'P' | b'B' | b'D' | b'E' | b'C' | b'H' if self.segment.skipping => Ok(()),
            b'Q' => self.on_query(frame).await,
            b'F' => self.on_function_call(frame).await,
            b'H' => self.on_flush(&frame).await,
            b'P' => self.on_parse(frame).await,
            b'B' => self.on_bind(frame).await,
            b'D' => self.on_describe(frame).await,
            b'E' => self.on_execute(frame).await,
            b'C' => self.on_close(frame).await,
            _ => Err(End::Fatal(Problem::Protocol(format!("invalid frontend message type {tag}")))),
        }
    }

    fn on_copy(&mut self, frame: Frame) -> Result<(), End> {
        let Some(upstream) = self.upstream.as_mut().filter(|_| self.segment.mode == Mode::Upstream) else {
            // Left over from a COPY that failed: PostgreSQL ignores it as well.
            return Ok(());
        };
        if frame.tag() != b'd' {
            match self.segment.copy_in {
                true => self.segment.copy_in = false,
                false => self.segment.copy_ends += 1,
            }
        }
        upstream.write(&frame.bytes);
        Ok(())
    }

    /// FunctionCall: for the primary, which answers it like a Query.
    async fn on_function_call(&mut self, frame: Frame) -> Result<(), End> {
        self.leave(Trace::Lasting);
        self.block.pinned = true;
        if self.turn_over(Reason::Unsupported, true).await? {
            self.forward(&frame, Expect::Query);
        }
        Ok(())
    }

    /// Decides where a statement is answered. `Err` is for the client.
    pub(super) async fn plan(
        &mut self,
        statement: &Statement,
        types: &[TypeOid],
    ) -> Result<Planned, Problem> {
        if statement.kind != StatementKind::Select {
            return Ok(Planned::Primary(match statement.kind {
                StatementKind::Write => Reason::Write,
                StatementKind::Transaction => Reason::Transaction,
                _ => Reason::Unsupported,
            }));
        }
        if !self.cached {
            return Ok(Planned::Primary(Reason::NotCached));
        }
        let here = self.may_read_here();
        // A plain proxy asks nothing of its own.
        if here && self.shared.config.cache.enabled {
            self.refresh_facts().await?;
        }
        let Some(facts) = &self.facts.current else { return Ok(Planned::Primary(Reason::Setting)) };
        match self.shared.engine.plan(statement, types, facts) {
            // Our own views, which the primary does not have: also within its transactions.
            Planned::Local(plan) if plan.table().is_none() && self.answers_views() => {
                Ok(Planned::Local(plan))
            }
            _ if !here => Ok(Planned::Primary(Reason::Transaction)),
            Planned::Primary(reason) => Ok(Planned::Primary(reason)),
            _ if !self.catalog_is_current() => Ok(Planned::Primary(Reason::Loading)),
            // The snapshot of a transaction's first statement could not be shared with the primary.
            _ if !self.reads_committed() => Ok(Planned::Primary(Reason::Transaction)),
            planned => Ok(planned),
        }
    }

    /// Whether the catalogue has what the session itself has changed.
    pub(super) fn catalog_is_current(&self) -> bool {
        self.facts.catalog_floor <= self.shared.engine.catalog_compared_at()
    }

    /// Whether an answer of ours that needs no snapshot could be given now.
    pub(super) fn answers_views(&self) -> bool {
        self.segment.mode == Mode::Local && self.status() != b'E'
    }

    /// Reads the session's facts again if something was forwarded since, or the catalogue changed.
    pub(super) async fn refresh_facts(&mut self) -> Result<(), Problem> {
        let catalog_version = self.shared.engine.catalog_version();
        if !self.facts.dirty && self.facts.catalog_version == catalog_version {
            return Ok(());
        }
        if !self.facts.dirty
            && self.upstream.is_none()
            && self.traces.current() == Trace::None
            && let Some(shared) = self.member.as_ref().and_then(|member| member.facts(catalog_version))
        {
            self.facts.set(shared, catalog_version);
            return Ok(());
        }
        // The second attempt is on a new connection, where one can be had.
        for _ in 0..2 {
            self.need_upstream().await?;
            let Some(upstream) = &mut self.upstream else { break };
            let in_block = upstream.status == b'T';
            match self.facts.read(upstream, &mut self.client.output, catalog_version).await {
                Ok(()) if in_block && upstream.status != b'T' => {
                    let message = "the primary's transaction failed while its state was read";
                    return Err(Problem::Internal(message.into()));
                }
                Ok(()) => {
                    if let (Some(member), Some(facts)) = (&self.member, &self.facts.current)
                        && self.traces.current() == Trace::None
                    {
                        member.set_facts(catalog_version, facts);
                    }
                    return Ok(());
                }
                Err(error) => {
                    self.lose(&error);
                    if in_block {
                        break;
                    }
                }
            }
        }
        Err(Problem::PrimaryDown { fatal: true, message: "the connection to the primary was lost".into() })
    }

    /// Hands one message on.
    pub(super) fn forward(&mut self, frame: &Frame, expect: Expect) {
        if let Some(upstream) = &mut self.upstream {
            upstream.write(&frame.bytes);
            self.expect.push_back(expect);
        }
    }

    /// Keeps a message until the primary owes nothing, and has it send what it owes.
    pub(super) fn hold(&mut self, frame: Frame) {
        if let Some(upstream) = &mut self.upstream {
            upstream.write(FLUSH);
        }
        self.held = Some(frame);
    }

    /// An error of ours within the extended protocol: nothing more is done up to the Sync, and what the
    /// primary has done of this segment is undone there.
    pub(super) fn fail(&mut self, problem: Problem) -> Result<(), End> {
        let report = problem.report();
        if report.fatal {
            return Err(End::Fatal(problem));
        }
        match (&mut self.upstream, self.segment.mode) {
            (Some(upstream), Mode::Upstream) => {
                upstream.write(&super::upstream::poison());
                self.expect.push_back(Expect::Poison(problem));
            }
            _ => {
                if !self.fail_upstream(&problem, false) {
                    self.fail_block();
                    backend::error_response(&mut self.client.output, &report);
                    self.segment.skipping = true;
                }
            }
        }
        Ok(())
    }

    /// An error of ours in answer to a Query.
    pub(super) fn fail_query(&mut self, problem: Problem) -> Result<(), End> {
        let report = problem.report();
        if report.fatal {
            return Err(End::Fatal(problem));
        }
        if !self.fail_upstream(&problem, true) {
            self.fail_block();
            backend::error_response(&mut self.client.output, &report);
            self.ready_after_error();
        }
        Ok(())
    }

    /// The end of a Query that failed here.
    pub(super) fn ready_after_error(&mut self) {
        let status = self.status();
        backend::ready_for_query(&mut self.client.output, status);
        self.segment = Segment::new();
    }

    /// Notes how a statement was answered.
    pub(super) fn answered(&mut self, route: Route, rows: u64) {
        self.last_route = Some(route);
        self.shared.observer.answered(route, rows, self.segment.began.elapsed());
    }
}
