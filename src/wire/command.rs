//! Statements besides SELECT that are answered here: of transactions and cursors, and COPY TO STDOUT.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    backend,
    client::End,
    copy::CopyOut,
    cursors::{Failed, SqlCursor},
    error::Problem,
    frame::Frame,
    local::{Form, Rows, Sent},
    session::{Mode, Session},
    statement::{Portal, PortalState, Select},
};
use crate::query::{Command, Copy, Declare, Fetch, Plan, Planned, Reason, Step};

/// How a command ended.
pub(super) enum Ran {
    /// Its answer is written, up to CommandComplete.
    Done,
    /// The primary has to answer.
    Primary(Reason),
    Failed(Problem),
}

impl Session {
    /// Whether a command is for us as things stand; running it may still find that it is not.
    pub(super) fn takes(&self, command: &Command) -> bool {
        let here = self.segment.mode == Mode::Local;
        let lazy = here && self.block.lazy.is_some();
        let open = lazy && self.status() == b'T';
        match command {
            Command::Begin(_) => here && self.status() == b'I',
            Command::Commit { .. } | Command::Rollback { .. } => lazy,
            Command::Savepoint => false,
            Command::Declare(declare) => {
                let taken = self.is_on_cursor(command);
                taken || (open && !self.block.holds && declare.select.is_some())
            }
            Command::Fetch(_) | Command::Close(Some(_)) => self.is_on_cursor(command),
            Command::Close(None) => open && !self.block.holds,
            Command::Copy(_) => self.cached && self.may_read_here(),
        }
    }

    /// Whether a command names a cursor of ours.
    pub(super) fn is_on_cursor(&self, command: &Command) -> bool {
        let name = match command {
            Command::Fetch(Fetch { cursor, .. }) | Command::Close(Some(cursor)) => cursor,
            Command::Declare(declare) => &declare.cursor,
            _ => return false,
        };
        self.status() == b'T' && self.cursor(name).is_some()
    }

    fn cursor(&self, name: &str) -> Option<&SqlCursor> {
        match self.portals.get(name.as_bytes()).map(|portal| &portal.state) {
            Some(PortalState::Cursor(cursor)) => Some(cursor),
            _ => None,
        }
    }

    /// What FETCH describes: the plan of its cursor.
    pub(super) fn fetched_plan(&self, command: &Command) -> Option<Arc<Plan>> {
        match command {
            Command::Fetch(Fetch { cursor, moves: false, .. }) => {
                self.cursor(cursor).map(|cursor| Arc::clone(&cursor.plan))
            }
            _ => None,
        }
    }

    /// A cursor of ours that a statement for the primary wants to change rows at.
    pub(super) fn current_of(&self, text: &str) -> Option<Problem> {
        let lower = text.to_ascii_lowercase();
        let at = lower.find("current")?;
        let mut words = lower.get(at..)?.split_whitespace().skip(1);
        let name = words.next().filter(|w| *w == "of").and_then(|_| words.next())?.trim_matches([';', '"']);
        let cursor = self.cursor(name).map(|_| name.to_owned())?;
        Some(Problem::CursorHere { cursor, what: "it is no place to change rows at" })
    }

    /// Runs a command. `bind`: the Bind message of the extended protocol, with the formats of its
    /// columns; without one the answer is that of a Query.
    pub(super) async fn run_command(
        &mut self,
        command: &Arc<Select>,
        bind: Option<(&Frame, &[bool])>,
    ) -> Result<Ran, End> {
        let Some(what) = command.statement.command.clone() else {
            return Ok(Ran::Primary(Reason::Unsupported));
        };
        if !self.takes(&what) {
            return Ok(Ran::Primary(Reason::Transaction));
        }
        let local = self.segment.mode == Mode::Local;
        if local {
            self.cancel.slot.begin_local();
        }
        let ran = self.run_here(command, &what, bind).await;
        if local {
            self.cancel.slot.end();
        }
        ran
    }

    async fn run_here(
        &mut self,
        command: &Arc<Select>,
        what: &Command,
        bind: Option<(&Frame, &[bool])>,
    ) -> Result<Ran, End> {
        let tag: &'static str = match what {
            Command::Begin(begin) => match self.may_begin(begin).await {
                Ok(true) => {
                    self.begin(&command.statement.text);
                    begin.tag
                }
                Ok(false) => return Ok(Ran::Primary(Reason::Transaction)),
                Err(problem) => return Ok(Ran::Failed(problem)),
            },
            Command::Commit { chain } | Command::Rollback { chain } => {
                let commit = matches!(what, Command::Commit { .. });
                match self.end_block(commit, *chain) {
                    Some(tag) => tag,
                    None => return Ok(Ran::Primary(Reason::Transaction)),
                }
            }
            Command::Close(Some(name)) => {
                self.portals.remove(name.as_bytes());
                "CLOSE CURSOR"
            }
            Command::Close(None) => {
                self.portals.retain(|_, portal| !matches!(portal.state, PortalState::Cursor(_)));
                "CLOSE CURSOR ALL"
            }
            Command::Declare(declare) => match self.declare(command, declare, bind.map(|b| b.0)).await {
                Ok(()) => "DECLARE CURSOR",
                Err(ran) => return Ok(ran),
            },
            Command::Fetch(fetch) => return self.fetch(fetch, bind.map(|b| b.1)).await,
            Command::Copy(copy) => return self.copy_out(copy).await,
            Command::Savepoint => return Ok(Ran::Primary(Reason::Transaction)),
        };
        backend::command_complete(&mut self.client.output, tag);
        Ok(Ran::Done)
    }

    async fn declare(
        &mut self,
        command: &Arc<Select>,
        declare: &Declare,
        bind: Option<&Frame>,
    ) -> Result<(), Ran> {
        let name = Bytes::copy_from_slice(declare.cursor.as_bytes());
        let limit = self.shared.config.limits.max_statements;
        if self.statements.len() + self.portals.len() >= limit.saturating_add(1) {
            return Err(Ran::Failed(Problem::TooManyStatements { limit }));
        }
        if self.portals.contains_key(&name) {
            return Err(Ran::Failed(Problem::DuplicatePortal(declare.cursor.clone())));
        }
        let select = declare.select.as_ref().ok_or(Ran::Primary(Reason::Unsupported))?;
        let plan = match self.plan(select, &command.types).await {
            Ok(Planned::Local(plan)) => plan,
            Ok(Planned::Primary(reason)) => return Err(Ran::Primary(reason)),
            Err(problem) => return Err(Ran::Failed(problem)),
        };
        let binary = vec![declare.binary; plan.columns().len()];
        let rows = self.open_command(&plan, bind, Form::Data(binary)).await?;
        let cursor = SqlCursor::new(rows, declare.binary, declare.scroll);
        let portal = Portal {
            statement: (Bytes::new(), 0),
            bind: bind.cloned().unwrap_or(Frame { bytes: Bytes::new() }),
            binary: Vec::new(),
            state: PortalState::Cursor(Box::new(cursor)),
        };
        self.portals.insert(name, portal);
        Ok(())
    }

    async fn open_command(
        &mut self,
        plan: &Arc<Plan>,
        bind: Option<&Frame>,
        form: Form,
    ) -> Result<Rows, Ran> {
        let binary = match &form {
            Form::Data(binary) => binary.clone(),
            Form::Copy(copy) => vec![copy.is_binary(); plan.columns().len()],
        };
        let facts = self.facts.current.as_ref().ok_or(Ran::Primary(Reason::Setting))?;
        plan.check_formats(&binary, facts).map_err(Ran::Primary)?;
        self.open_rows(plan, bind, form).await.map_err(|reason| match reason {
            Reason::Canceled => Ran::Failed(self.stopped()),
            reason => Ran::Primary(reason),
        })
    }

    /// Execute of a portal whose command was not run yet.
    pub(super) async fn execute_command(
        &mut self,
        frame: &Frame,
        name: &Bytes,
        command: Arc<Select>,
        limit: u64,
    ) -> Result<(), End> {
        let Some(portal) = self.portals.get(name) else { return Ok(()) };
        let (bind, binary) = (portal.bind.clone(), portal.binary.clone());
        if let Some(Command::Fetch(fetch)) = &command.statement.command
            && limit <= most(fetch.step)
        {
            let what = "FETCH is executed as a whole";
            return self.fail(Problem::CursorHere { cursor: fetch.cursor.clone(), what });
        }
        match self.run_command(&command, Some((&bind, &binary))).await? {
            Ran::Done => {
                if let Some(portal) = self.portals.get_mut(name)
                    && matches!(portal.state, PortalState::Command { .. })
                {
                    portal.state = PortalState::Ran;
                }
                Ok(())
            }
            Ran::Primary(reason) => self.execute_upstream(frame, reason).await,
            Ran::Failed(problem) => self.fail(problem),
        }
    }

    /// `formats` in the extended protocol.
    async fn fetch(&mut self, fetch: &Fetch, formats: Option<&[bool]>) -> Result<Ran, End> {
        let Some(cursor) = self.cursor(&fetch.cursor) else {
            return Ok(Ran::Failed(Problem::NoCursor(fetch.cursor.clone())));
        };
        let (plan, all) = (Arc::clone(&cursor.plan), cursor.binary);
        let binary = match formats {
            Some(formats) => formats.to_vec(),
            None => vec![all; plan.columns().len()],
        };
        if !fetch.moves
            && let Err(problem) = self.check_written(&fetch.cursor, &plan, &binary).await
        {
            return Ok(Ran::Failed(problem));
        }
        let sink = (!fetch.moves).then(|| binary.clone());
        let mark = self.client.output.len();
        if formats.is_none() && !fetch.moves {
            backend::row_description(&mut self.client.output, plan.columns(), &binary);
        }
        match self.step_cursor(fetch.cursor.as_bytes(), fetch.step, sink).await {
            Ok(count) => {
                let verb = if fetch.moves { "MOVE" } else { "FETCH" };
                backend::command_complete(&mut self.client.output, &format!("{verb} {count}"));
                self.answered(plan.route(), count);
                Ok(Ran::Done)
            }
            Err(Failed::Problem(problem)) => {
                if problem == Problem::ForwardOnly {
                    // PostgreSQL finds it before it describes the rows, and before there is any.
                    self.client.output.truncate(mark);
                }
                Ok(Ran::Failed(problem))
            }
            Err(Failed::End(end)) => Err(end),
        }
    }

    /// Values are written under the settings of now, and only here.
    async fn check_written(&mut self, cursor: &str, plan: &Plan, binary: &[bool]) -> Result<(), Problem> {
        let problem = |what| Problem::CursorHere { cursor: cursor.to_owned(), what };
        if self.segment.mode == Mode::Local {
            self.refresh_facts().await?;
        } else if self.facts.dirty || self.block.pinned {
            return Err(problem("a Sync has to come before it is read"));
        }
        match self.facts.current.as_ref().map(|facts| plan.check_formats(binary, facts)) {
            Some(Ok(())) => Ok(()),
            _ => Err(problem("its values cannot be written under the session's settings")),
        }
    }

    /// Execute of a cursor that DECLARE made.
    pub(super) async fn execute_cursor(&mut self, name: &[u8], limit: u64) -> Result<Ran, End> {
        let Some(PortalState::Cursor(cursor)) = self.portals.get(name).map(|portal| &portal.state) else {
            return Ok(Ran::Failed(Problem::NoPortal(String::from_utf8_lossy(name).into_owned())));
        };
        let plan = Arc::clone(&cursor.plan);
        let text = vec![false; plan.columns().len()];
        if let Err(problem) = self.check_written(&String::from_utf8_lossy(name), &plan, &text).await {
            return Ok(Ran::Failed(problem));
        }
        let count = i64::try_from(limit).unwrap_or(i64::MAX);
        match self.step_cursor(name, Step::Forward(count), Some(text)).await {
            Ok(count) => {
                let at_end = matches!(
                    self.portals.get(name).map(|p| &p.state),
                    Some(PortalState::Cursor(cursor)) if cursor.is_at_end()
                );
                match at_end {
                    true => backend::select_complete(&mut self.client.output, count),
                    false => backend::portal_suspended(&mut self.client.output),
                }
                self.answered(plan.route(), count);
                Ok(Ran::Done)
            }
            Err(Failed::Problem(problem)) => Ok(Ran::Failed(problem)),
            Err(Failed::End(end)) => Err(end),
        }
    }

    async fn copy_out(&mut self, copy: &Copy) -> Result<Ran, End> {
        let plan = match self.plan(&copy.select, &[]).await {
            Ok(Planned::Local(plan)) => plan,
            Ok(Planned::Primary(reason)) => return Ok(Ran::Primary(reason)),
            Err(problem) => return Ok(Ran::Failed(problem)),
        };
        if (copy.of_table && !plan.is_copyable()) || !plan.param_types().is_empty() {
            return Ok(Ran::Primary(Reason::Unsupported));
        }
        let Some(out) = CopyOut::new(&copy.options, &plan) else {
            return Ok(Ran::Primary(Reason::Unsupported));
        };
        let mark = self.client.output.len();
        out.begin(&plan, &mut self.client.output);
        let rows = match self.open_command(&plan, None, Form::Copy(out)).await {
            Ok(rows) => rows,
            Err(ran) => {
                self.client.output.truncate(mark);
                return Ok(ran);
            }
        };
        let (mut rows, sent) = self.send_rows(Box::new(rows), u64::MAX, Some(mark)).await?;
        match sent {
            Sent::All(count) | Sent::Suspended(count) => {
                if let Some(copy) = rows.as_mut().and_then(|rows| rows.copy()) {
                    copy.end(&mut self.client.output);
                }
                backend::command_complete(&mut self.client.output, &format!("COPY {count}"));
                self.answered(plan.route(), count);
                Ok(Ran::Done)
            }
            Sent::Primary(reason) => Ok(Ran::Primary(reason)),
            Sent::Failed(problem) => Ok(Ran::Failed(problem)),
        }
    }
}

/// The most rows that a step gives.
fn most(step: Step) -> u64 {
    match step {
        Step::Forward(count) | Step::Backward(count) => count.unsigned_abs().max(1),
        Step::Absolute(_) | Step::Relative(_) => 1,
    }
}
