//! The way to the primary and back: taking a segment there, what it must know first, and its answers.

use bytes::{Bytes, BytesMut};

use super::{
    backend,
    client::{End, OUTPUT_HIGH},
    error::{Problem, WRITE_HINT},
    session::{DropsStatements, Mode, Segment, Session},
    upstream::{Expect, FLUSH, PARSE_COMPLETE, SYNC, describe_statement, is_fatal},
};
use crate::{
    config::Forwarding,
    primary::PrimaryError,
    query::{Reason, Route},
};

impl Session {
    /// Turns the segment over to the primary; false when that failed, which the client has been told.
    /// What the primary needs to know of portals that are bound here and not executed, it is told
    /// first; a Query has none, since it ends them.
    pub(super) async fn turn_over(&mut self, reason: Reason, query: bool) -> Result<bool, End> {
        if self.segment.mode == Mode::Upstream {
            return Ok(true);
        }
        if let Err(problem) = self.need_upstream().await {
            let problem = if self.status() == b'E' { Problem::Aborted } else { problem };
            match query {
                true => self.fail_query(problem)?,
                false => self.fail(problem)?,
            }
            return Ok(false);
        }
        let Some(upstream) = &self.upstream else { return Err(End::Closed) };
        self.cancel.slot.begin_upstream(upstream.pid, &upstream.key).await;
        if !self.hand_over_block().await? {
            self.cancel.slot.end();
            match query {
                true => self.ready_after_error(),
                false => self.segment.skipping = true,
            }
            return Ok(false);
        }
        self.segment.mode = Mode::Upstream;
        self.segment.reason = reason;
        let movable: Vec<Bytes> =
            self.portals.iter().filter(|(_, p)| p.is_movable()).map(|(name, _)| name.clone()).collect();
        for name in movable {
            let Some(portal) = self.portals.remove(&name) else { continue };
            let given = self.give_statement(&portal.statement.0).await?
                && self.give(&portal.bind.bytes, b'2').await?.is_some();
            if !given {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the primary has the statement of that name, as we have it. True for names that we do not
    /// know: then the primary's word counts.
    pub(super) fn primary_has(&self, name: &[u8]) -> bool {
        let Some(prepared) = self.statements.get(name) else { return true };
        match &self.upstream {
            Some(upstream) if name.is_empty() => upstream.unnamed == Some(prepared.id),
            _ => prepared.upstream,
        }
    }

    /// Gives the primary a statement that it lacks. It must owe nothing. False when that ended in an
    /// error, which the client has been sent.
    pub(super) async fn give_statement(&mut self, name: &[u8]) -> Result<bool, End> {
        if self.primary_has(name) {
            return Ok(true);
        }
        let Some(prepared) = self.statements.get(name) else { return Ok(true) };
        let (id, frame, given) = (prepared.id, prepared.frame.clone(), prepared.given());
        // What it gives now must be what it gave when the client's Parse was answered.
        let (message, last) = match &given {
            Some(_) => ([&frame.bytes[..], &describe_statement(name)].concat(), b'T'),
            None => (frame.bytes.to_vec(), b'1'),
        };
        let Some(answer) = self.give(&message, last).await? else { return Ok(false) };
        match self.statements.get_mut(name) {
            _ if name.is_empty() => {
                if let Some(upstream) = &mut self.upstream {
                    upstream.unnamed = Some(id);
                }
            }
            Some(prepared) => prepared.upstream = true,
            None => {}
        }
        if let Some(given) = given
            && answer.strip_prefix(PARSE_COMPLETE) != Some(&given[..])
        {
            self.fail(Problem::PlanChanged)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Gives the primary statements that a query may name, before that query's segment. What the
    /// primary refuses stays unknown to it.
    pub(super) async fn give_by_name(&mut self, names: Vec<Bytes>) -> Result<(), End> {
        let Some(upstream) = &mut self.upstream else { return Ok(()) };
        let mut given = Vec::new();
        for name in names {
            if let Some(prepared) = self.statements.get(&name).filter(|s| !s.upstream) {
                upstream.write(&prepared.frame.bytes);
                given.push(name);
            }
        }
        if given.is_empty() {
            return Ok(());
        }
        upstream.write(SYNC);
        upstream.write.flush().await.map_err(|error| lost_at_work(&error))?;
        let mut given = given.into_iter();
        loop {
            let frame = upstream.read.read_frame().await.map_err(|error| lost_at_work(&error))?;
            match frame.first().copied().unwrap_or_default() {
                b'N' | b'A' | b'S' => upstream.aside(&frame, &mut self.client.output),
                b'1' => {
                    let name = given.next().unwrap_or_default();
                    if let Some(prepared) = self.statements.get_mut(&name) {
                        prepared.upstream = true;
                    }
                }
                b'Z' => {
                    upstream.status = frame.get(5).copied().unwrap_or(b'E');
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    /// Sends one message on our own account and takes its answer, which ends with the tag `last` ('T'
    /// also means NoData). `None` when it was an error: the client has it, and the segment is skipped.
    async fn give(&mut self, message: &[u8], last: u8) -> Result<Option<Bytes>, End> {
        let Some(upstream) = &mut self.upstream else { return Err(End::Closed) };
        upstream.write(message);
        upstream.write(FLUSH);
        let mut answer = BytesMut::new();
        upstream.write.flush().await.map_err(|error| lost_at_work(&error))?;
        loop {
            let frame = upstream.read.read_frame().await.map_err(|error| lost_at_work(&error))?;
            match frame.first().copied().unwrap_or_default() {
                b'N' | b'A' | b'S' => upstream.aside(&frame, &mut self.client.output),
                b'E' => {
                    self.client.output.extend_from_slice(&frame);
                    if is_fatal(frame.get(5..).unwrap_or_default()) {
                        return Err(End::Closed);
                    }
                    self.segment.skipping = true;
                    return Ok(None);
                }
                tag => {
                    answer.extend_from_slice(&frame);
                    if tag == last || (tag == b'n' && last == b'T') {
                        return Ok(Some(answer.freeze()));
                    }
                }
            }
        }
    }

    /// Takes everything that has come from the primary.
    pub(super) async fn on_upstream_input(&mut self) -> Result<(), End> {
        loop {
            let Some(upstream) = &mut self.upstream else { return Ok(()) };
            match upstream.read.try_read_frame() {
                Ok(Some(frame)) => self.on_upstream(&frame)?,
                Ok(None) => return Ok(()),
                Err(error) => return self.on_lost(&error),
            }
            if self.client.output.len() >= OUTPUT_HIGH {
                self.client.flush().await?;
            }
        }
    }

    fn on_upstream(&mut self, frame: &Bytes) -> Result<(), End> {
        let body = frame.get(5..).unwrap_or_default();
        let tag = frame.first().copied().unwrap_or_default();
        match tag {
            b'Z' => {
                self.client.output.extend_from_slice(frame);
                self.on_ready(body.first().copied().unwrap_or(b'E'));
                return Ok(());
            }
            b'E' => return self.on_error(frame),
            b'G' | b'W' => match self.segment.copy_ends {
                0 => {
                    self.segment.copy_in = true;
                    // A Sync that the client sent ahead is read as part of the COPY, and ignored.
                    self.expect.retain(|expect| !matches!(expect, Expect::Sync));
                }
                _ => self.segment.copy_ends -= 1,
            },
            b'S' => {
                // What the session is has to be read again, also where nobody asked for it.
                self.facts.dirty = true;
                if let Some(upstream) = &mut self.upstream {
                    upstream.report(frame);
                }
            }
            b'C' => {
                self.segment.copy_in = false;
                if body == b"DISCARD ALL\0" {
                    self.traces.discarded();
                }
                if let Some(drops) = &mut self.drops_statements {
                    drops.certain = true;
                }
            }
            _ => {}
        }
        self.client.output.extend_from_slice(frame);
        self.settle(tag, frame);
        Ok(())
    }

    /// Ticks off what an answer belongs to.
    fn settle(&mut self, tag: u8, frame: &Bytes) {
        let done = match (tag, self.expect.front_mut()) {
            (b'1', Some(Expect::Parse { .. }))
            | (b'2', Some(Expect::Bind))
            | (b'3', Some(Expect::Close { .. }))
            | (b'T' | b'n', Some(Expect::DescribePortal))
            | (b'C' | b'I' | b's', Some(Expect::Execute)) => true,
            (b't', Some(Expect::DescribeStatement { seen, .. })) => {
                seen.extend_from_slice(frame);
                false
            }
            (b'T' | b'n', Some(Expect::DescribeStatement { seen, .. })) => {
                seen.extend_from_slice(frame);
                true
            }
            _ => false,
        };
        if !done {
            return;
        }
        match self.expect.pop_front() {
            Some(Expect::Close { statement: Some((name, id)) })
                if self.statements.get(&name).is_some_and(|s| s.id == id) =>
            {
                self.statements.remove(&name);
            }
            Some(Expect::DescribeStatement { name, id, seen }) => {
                if let Some(prepared) = self.statements.get_mut(&name).filter(|s| s.id == id) {
                    prepared.described = Some(seen.freeze());
                }
            }
            Some(Expect::Execute) if tag != b's' => {
                self.answered(Route::Primary(self.segment.reason), 0);
            }
            _ => {}
        }
    }

    /// The primary is done with a segment.
    fn on_ready(&mut self, status: u8) {
        if let Some(upstream) = &mut self.upstream {
            upstream.status = status;
        }
        while let Some(expect) = self.expect.pop_front() {
            if matches!(expect, Expect::Query) {
                self.answered(Route::Primary(self.segment.reason), 0);
            }
            if expect.is_last() {
                break;
            }
        }
        match self.drops_statements.take() {
            Some(DropsStatements { certain: true, one: Some(name) }) => {
                self.statements.remove(&name);
            }
            Some(DropsStatements { certain: true, one: None }) => self.statements.forget_all(),
            Some(DropsStatements { certain: false, .. }) | None => {}
        }
        self.facts.dirty = true;
        if self.expect.is_empty() {
            self.traces.settle();
            self.pin();
            self.cancel.slot.end();
            self.settle_portals();
            self.segment = Segment::new();
        }
    }

    /// An error of the primary: in the extended protocol it skips everything up to the Sync.
    fn on_error(&mut self, frame: &Bytes) -> Result<(), End> {
        self.segment.copy_in = false;
        match self.expect.front() {
            Some(Expect::Poison(problem)) => {
                backend::error_response(&mut self.client.output, &problem.report());
            }
            // Between statements the primary says why it closes; local answers go on.
            None if self.is_between_statements() => {
                tracing::debug!("the primary ended a session's connection");
                return Ok(());
            }
            _ => {
                let reject = self.shared.config.fallthrough.writes == Forwarding::Reject;
                match reject.then(|| backend::with_hint(frame, "25006", WRITE_HINT)).flatten() {
                    Some(hinted) => self.client.output.extend_from_slice(&hinted),
                    None => self.client.output.extend_from_slice(frame),
                }
            }
        }
        if is_fatal(frame.get(5..).unwrap_or_default()) {
            self.expect.clear();
            return Err(End::Closed);
        }
        if self.expect.front().is_none_or(Expect::is_last) {
            return Ok(());
        }
        self.skip_to_sync();
        Ok(())
    }

    fn is_between_statements(&self) -> bool {
        self.segment.mode == Mode::Local && self.upstream_status() == b'I'
    }

    /// Takes back what the primary will not do.
    fn skip_to_sync(&mut self) {
        let sync = self.expect.iter().position(|expect| matches!(expect, Expect::Sync));
        self.segment.skipping = sync.is_none();
        let rest = self.expect.split_off(sync.unwrap_or(self.expect.len()));
        let skipped = std::mem::replace(&mut self.expect, rest);
        for (i, expect) in skipped.into_iter().enumerate().rev() {
            let Expect::Parse { name, previous } = expect else { continue };
            if name.is_empty() {
                // Whether or not it reached the old one, the next use gives the primary the right one.
                if let Some(upstream) = &mut self.upstream {
                    upstream.unnamed = None;
                }
            }
            if name.is_empty() && i == 0 {
                // A Parse that fails has dropped the old one already (`exec_parse_message`).
                self.statements.drop_unnamed();
            } else {
                self.statements.restore(name, previous);
            }
        }
    }

    /// The connection to the primary is gone.
    pub(super) fn on_lost(&mut self, error: &PrimaryError) -> Result<(), End> {
        if self.is_between_statements() && self.expect.is_empty() {
            self.lose(error);
            return Ok(());
        }
        self.expect.clear();
        Err(lost_at_work(error))
    }

    /// Whether a portal is one that only we have: it was executed here in part.
    pub(super) fn is_ours(&self, portal: &[u8]) -> bool {
        let portal = self.portals.get(portal);
        portal.is_some_and(|p| !p.is_movable())
    }
}

pub(super) fn lost_at_work(error: &PrimaryError) -> End {
    tracing::info!("a session lost its connection to the primary: {error}");
    End::Fatal(Problem::PrimaryDown {
        fatal: true,
        message: "the connection to the primary was lost while it was at work".into(),
    })
}
