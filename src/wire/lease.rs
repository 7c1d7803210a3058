//! A session's hold on its connection to the primary: taking one when it needs one, offering it while
//! nothing of the session is there, and giving it up.

use std::{collections::HashMap, time::Duration};

use bytes::BytesMut;

use super::{
    auth, backend,
    error::Problem,
    pool::{Refused, Slot, Taken},
    session::{Mode, Session},
    upstream::{SYNC, TERMINATE, Upstream, close_statement, describe_statement},
};
use crate::{
    primary::{Connection, PrimaryError},
    query::{Statement, Trace},
};

/// How long a session that lost its connection tries to find out whether the primary is back, and how
/// long one that gives its connection up waits for the primary's last words on it.
const PROBE: Duration = Duration::from_secs(2);

/// How many connections in a row may turn out to be lost before that is an error.
const ATTEMPTS: usize = 3;

const KEY_QUERY: &str = include_str!("../../sql/session_key.sql");

/// What a session may have left in its session at the primary.
#[derive(Debug, Default)]
pub(super) struct Traces {
    kept: Trace,
    /// Since a DISCARD ALL that has not been answered.
    after_discard: Option<Trace>,
}

impl Traces {
    pub(super) fn current(&self) -> Trace {
        self.kept.max(self.after_discard.unwrap_or_default())
    }

    fn note(&mut self, trace: Trace) {
        match &mut self.after_discard {
            Some(after) => *after = trace.max(*after),
            None => self.kept = trace.max(self.kept),
        }
    }

    /// DISCARD ALL has succeeded.
    pub(super) fn discarded(&mut self) {
        let Some(after) = self.after_discard.take() else { return };
        let lasting = if self.kept == Trace::Lasting { Trace::Lasting } else { Trace::None };
        self.kept = after.max(lasting);
    }

    /// Everything was answered, and no DISCARD ALL has succeeded.
    pub(super) fn settle(&mut self) {
        if let Some(after) = self.after_discard.take() {
            self.kept = self.kept.max(after).max(Trace::Discardable);
        }
    }
}

/// What is left of a connection with the session that gave it up.
#[derive(Debug, Default)]
pub(super) struct Former {
    pub(super) pid: i32,
    /// It was lost: the next one may be of a primary that is another by now.
    lost: bool,
    /// What the client was told of parameters.
    parameters: HashMap<String, String>,
}

impl Former {
    /// No connection yet: the client was told what another login of its key was.
    pub(super) fn told(parameters: HashMap<String, String>) -> Former {
        Former { pid: 0, lost: false, parameters }
    }
}

/// What a login took from role and database: the definitions, and with `effective` what came of them.
pub(super) async fn settings_key(
    upstream: &mut Upstream,
    effective: bool,
    client: &mut BytesMut,
) -> Result<Option<String>, PrimaryError> {
    let row = upstream.query(KEY_QUERY, client).await?.and_then(|rows| rows.into_iter().next());
    let mut values = row.unwrap_or_default().into_iter().flatten();
    let (definitions, came) = (values.next(), values.next());
    Ok(match effective {
        true => definitions.zip(came).map(|(definitions, came)| format!("{definitions} {came}")),
        false => definitions,
    })
}

impl Session {
    /// Sees to it that there is a connection to the primary, which is in use from now on. Another one
    /// takes the place of one that is gone only if the session held nothing there.
    pub(super) async fn need_upstream(&mut self) -> Result<(), Problem> {
        if let Some(upstream) = &mut self.upstream {
            match upstream.offer.take().map_or(Ok(()), |_| upstream.look()) {
                Ok(()) => return Ok(()),
                Err(error) => self.lose(&error),
            }
        }
        let clean = self.traces.current() == Trace::None;
        if !clean || self.member.is_none() {
            return Err(self.only_a_login().await);
        }
        for _ in 0..ATTEMPTS {
            let Some(member) = &self.member else { break };
            match self.shared.upstreams.take(member, self.former.pid).await {
                Ok(Taken::Connection(upstream)) => {
                    if let Ok(upstream) = upstream.awaken() {
                        self.adopt(upstream);
                        return Ok(());
                    }
                }
                Ok(Taken::Room(slot)) => {
                    let upstream = self.open(slot).await?;
                    self.adopt(upstream);
                    self.facts.dirty = true;
                    return Ok(());
                }
                Err(Refused::Busy) => return Err(Problem::NoUpstream { relay: !member.opens, fatal: false }),
                Err(Refused::Gone) => return Err(self.only_a_login().await),
            }
        }
        Err(down())
    }

    /// Opens a connection in the client's name.
    async fn open(&mut self, slot: Slot) -> Result<Upstream, Problem> {
        let (Some(login), Some(member)) = (&self.again, &self.member) else { return Err(down()) };
        let connection = login.open().await.map_err(|error| match auth::refusal(&error) {
            Problem::PrimaryDown { .. } => down(),
            refused => refused,
        })?;
        let (pid, key) = (connection.process_id(), connection.secret_key().clone());
        let mut upstream = Upstream::new(connection, pid, key, slot);
        let settings = settings_key(&mut upstream, login.effective, &mut self.client.output).await;
        match settings {
            Ok(Some(settings)) if settings == member.key.settings => {
                upstream.slot.assign(member);
                Ok(upstream)
            }
            Ok(_) => Err(Problem::PrimaryDown {
                fatal: true,
                message: "the settings of the role or the database have changed since the login, and only a new login can have them".into(),
            }),
            Err(_) => Err(down()),
        }
    }

    /// Why there is no connection, where only the client could open one.
    async fn only_a_login(&self) -> Problem {
        match tokio::time::timeout(PROBE, Connection::open(&self.shared.target)).await {
            Ok(Ok(_)) => Problem::PrimaryDown {
                fatal: true,
                message: "the connection to the primary was lost, and only a new login can replace it".into(),
            },
            Ok(Err(_)) | Err(_) => down(),
        }
    }

    /// Goes on with another connection. The client is told of parameters that are others by now.
    fn adopt(&mut self, upstream: Upstream) {
        for (name, value) in &upstream.parameters {
            if self.former.parameters.get(name).is_some_and(|told| told != value) {
                backend::parameter_status(&mut self.client.output, name, value);
                self.facts.dirty = true;
            }
        }
        self.facts.dirty |= std::mem::take(&mut self.former).lost;
        self.upstream = Some(upstream);
        self.statements.forget_upstream();
    }

    /// Goes on without a connection to the primary, until a statement needs one.
    pub(super) fn lose(&mut self, error: &PrimaryError) {
        tracing::info!("a session lost its connection to the primary: {error}");
        self.part();
        self.former.lost = true;
    }

    /// Takes the connection off the session.
    fn part(&mut self) -> Option<Upstream> {
        let mut upstream = self.upstream.take()?;
        let parameters = std::mem::take(&mut upstream.parameters);
        self.former = Former { pid: upstream.pid, lost: false, parameters: parameters.clone() };
        upstream.parameters = parameters;
        self.statements.forget_upstream();
        Some(upstream)
    }

    /// Notes what a forwarded statement may leave behind.
    pub(super) fn note_trace(&mut self, statement: &Statement) {
        let plain = |upstream: &Upstream| {
            let strings = upstream.parameters.get("standard_conforming_strings");
            strings.is_some_and(|value| value == "on")
        };
        let trace = match self.upstream.as_ref().is_none_or(plain) {
            true => self.shared.engine.trace(statement, self.cached && self.shared.config.cache.enabled),
            // The text may mean something else than it seems.
            false => Trace::Lasting,
        };
        let words = statement.text.split_whitespace();
        if words.map(str::to_ascii_lowercase).eq(["discard", "all"]) {
            self.traces.after_discard.get_or_insert_default();
        } else {
            self.leave(trace);
        }
    }

    /// Something is left in the primary's session from now on.
    pub(super) fn leave(&mut self, trace: Trace) {
        self.traces.note(trace);
        self.pin();
    }

    pub(super) fn pin(&mut self) {
        let pinned = self.traces.current() != Trace::None;
        if let Some(upstream) = &mut self.upstream {
            upstream.slot.set_pinned(pinned);
        }
    }

    /// Whether the connection could serve another session now, but for prepared statements.
    pub(super) fn is_clean(&self) -> bool {
        self.traces.current() == Trace::None
            && self.traces.after_discard.is_none()
            && self.expect.is_empty()
            && self.segment.mode == Mode::Local
            && self.upstream.as_ref().is_some_and(Upstream::is_quiet)
    }

    /// Offers the connection to others while it is not in use.
    pub(super) fn offer(&mut self) {
        let Some(member) = self.member.as_ref().filter(|_| self.is_clean()) else { return };
        if let Some(upstream) = self.upstream.as_mut().filter(|upstream| upstream.offer.is_none()) {
            upstream.offer = Some(member.offer());
        }
    }

    /// Gives the connection up to whoever asked for it.
    pub(super) async fn give_up(&mut self) {
        let reads_facts = self.cached && self.shared.config.cache.enabled && self.facts.dirty;
        let tidied = tokio::time::timeout(PROBE, async {
            if reads_facts {
                // What the session has seen is its floor, also without the connection.
                let version = self.shared.engine.catalog_version();
                let Some(upstream) = &mut self.upstream else { return Ok(()) };
                self.facts.read(upstream, &mut self.client.output, version).await?;
            }
            self.tidy().await
        });
        match tidied.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return self.lose(&error),
            Err(_) => return self.lose(&PrimaryError::Closed { source: None }),
        }
        if !self.is_clean() {
            if let Some(upstream) = &mut self.upstream {
                upstream.offer = None;
            }
            return;
        }
        if let Some(upstream) = self.part() {
            self.shared.upstreams.give(Box::new(upstream));
        }
    }

    /// Takes named prepared statements off the primary, where nobody else is to find them, and waits until
    /// no cancel request is on its way there. What of them the client could know is kept: they are prepared
    /// again, with the same result, when they are used next.
    async fn tidy(&mut self) -> Result<(), PrimaryError> {
        let Some(upstream) = &mut self.upstream else { return Ok(()) };
        let names = self.statements.upstream_names();
        if !names.is_empty() {
            for (name, described) in &names {
                if !described {
                    upstream.write(&describe_statement(name));
                }
                upstream.write(&close_statement(name));
            }
            upstream.write(SYNC);
            upstream.write.flush().await?;
            upstream.sent();
            let mut names = names.into_iter();
            let (mut seen, mut failed) = (BytesMut::new(), false);
            loop {
                let frame = upstream.read.read_frame().await?;
                match frame.first() {
                    Some(b't') => seen = BytesMut::from(&frame[..]),
                    Some(b'T' | b'n') => seen.extend_from_slice(&frame),
                    Some(b'3') => {
                        let Some((name, described)) = names.next() else { continue };
                        let told = std::mem::take(&mut seen).freeze();
                        self.statements.taken_off(&name, (!described).then_some(told));
                    }
                    Some(b'Z') => {
                        upstream.status = frame.get(5).copied().unwrap_or(b'E');
                        if failed {
                            self.leave(Trace::Discardable);
                        }
                        break;
                    }
                    // A table is gone that one of them reads: they stay where they are.
                    Some(b'E') => failed = true,
                    _ => upstream.aside(&frame, &mut self.client.output),
                }
            }
        }
        self.cancel.slot.settled().await;
        Ok(())
    }

    /// The session has ended: its connection serves others, or ends with it.
    pub(super) async fn release(&mut self) {
        let clean = self.is_clean();
        let opens = self.member.take().is_some_and(|member| member.opens);
        let Some(mut upstream) = self.upstream.take() else { return };
        let wanted = clean && self.shared.upstreams.wants(&upstream, opens);
        if wanted {
            self.upstream = Some(upstream);
            if matches!(tokio::time::timeout(PROBE, self.tidy()).await, Ok(Ok(())))
                && let Some(upstream) = self.upstream.take()
            {
                self.shared.upstreams.give(Box::new(upstream));
            }
            return;
        }
        let running = !self.expect.is_empty();
        let (target, slot) = (self.shared.target.clone(), self.cancel.slot.clone());
        tokio::task::spawn_local(async move {
            if running {
                // Nobody waits for it any longer.
                slot.cancel_running(&target).await;
            }
            // It counts until the primary has closed it.
            let _ = tokio::time::timeout(PROBE, async {
                upstream.write(TERMINATE);
                upstream.write.flush().await.ok()?;
                while upstream.read.read_frame().await.is_ok() {}
                Some(())
            })
            .await;
        });
    }
}

fn down() -> Problem {
    Problem::PrimaryDown { fatal: false, message: "the primary cannot be reached".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discard_all_takes_away_what_it_can() {
        let mut traces = Traces::default();
        traces.note(Trace::Discardable);
        traces.after_discard.get_or_insert_default();
        assert_eq!(traces.current(), Trace::Discardable);
        traces.discarded();
        assert_eq!(traces.current(), Trace::None);
        // What comes behind it in a pipeline stays.
        traces.after_discard.get_or_insert_default();
        traces.note(Trace::Discardable);
        traces.discarded();
        assert_eq!(traces.current(), Trace::Discardable);
        traces.note(Trace::Lasting);
        traces.after_discard.get_or_insert_default();
        traces.discarded();
        assert_eq!(traces.current(), Trace::Lasting);
        let mut failed = Traces::default();
        failed.after_discard.get_or_insert_default();
        failed.settle();
        assert_eq!(failed.current(), Trace::Discardable);
    }
}
