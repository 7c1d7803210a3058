//! The extended protocol: each message is answered here, or turns its segment over to the primary.

use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};

use super::{
    backend,
    client::End,
    error::Problem,
    frame::{Bind, Fields, Frame, Object, expand_formats},
    local::Form,
    policy::{self, ByName},
    session::{DropsStatements, Mode, Segment, Session},
    statement::{Planned as Kept, Portal, PortalState, Select, What, plan_description},
    upstream::Expect,
};
use crate::{
    query::{Command, Plan, Planned, Reason, Statement, StatementKind},
    types::TypeOid,
};

/// What can be done with a prepared statement now.
enum Use {
    Empty,
    Show(String),
    Plan(Arc<Plan>),
    Command(Arc<Select>),
    Primary(Reason),
}

impl Session {
    pub(super) async fn on_parse(&mut self, frame: Frame) -> Result<(), End> {
        let Ok(parse) = frame.parse() else { return self.malformed(frame).await };
        let name = Bytes::copy_from_slice(parse.name);
        let known = self.statements.get(&name);
        let taken = !name.is_empty() && known.is_some();
        let limit = self.shared.config.limits.max_statements;
        if known.is_none() && self.statements.len() + self.portals.len() >= limit {
            return self.fail(Problem::TooManyStatements { limit });
        }
        let types: Vec<TypeOid> = parse.types.iter().map(|&oid| TypeOid(oid)).collect();
        let (lossy, readable) = match parse.text {
            Some(text) => (text.to_owned(), true),
            None => (String::from_utf8_lossy(frame.body()).into_owned(), false),
        };
        let mut statements = self.shared.engine.parse(&lossy);
        if statements.len() == 1
            && readable
            && let Some(statement) = statements.pop()
        {
            let what = match &statement.kind {
                StatementKind::Empty => What::Empty,
                StatementKind::ShowMillpond(shown) if is_shown(shown) => What::Show(shown.clone()),
                _ if statement.command.is_some() && self.keeps(&statement, &types).await => {
                    if statement.kind == StatementKind::Transaction
                        && let Err(problem) = self.may_forward(&statement, Reason::Transaction)
                    {
                        return self.fail(problem);
                    }
                    What::Command(Arc::new(Select { statement, types }))
                }
                _ => match self.plan(&statement, &types).await {
                    Ok(Planned::Local(plan)) => {
                        let kept = Kept { plan, facts_version: self.facts.version };
                        What::Select(Arc::new(Select { statement, types }), Some(kept))
                    }
                    Ok(Planned::Primary(reason)) => {
                        if let Err(problem) = self.may_forward(&statement, reason) {
                            return self.fail(problem);
                        }
                        let by_name = policy::by_name(&statement.text);
                        self.note_forwarded(&statement);
                        let what = match statement.kind {
                            StatementKind::Select => {
                                What::Select(Arc::new(Select { statement, types }), None)
                            }
                            _ => What::Forward(reason),
                        };
                        return self.parse_upstream(frame, name, what, reason, by_name).await;
                    }
                    Err(problem) => return self.fail(problem),
                },
            };
            let in_use = self.portals.values().any(|p| p.is_movable() && p.statement.0 == name);
            let here = match &what {
                What::Command(command) => {
                    let command = command.statement.command.as_ref();
                    let local = self.segment.mode == Mode::Local;
                    self.answers_views() || (local && command.is_some_and(|command| self.takes(command)))
                }
                _ => self.answers_views(),
            };
            if here && !in_use {
                if taken {
                    return self.fail(Problem::DuplicateStatement(text(&name)));
                }
                self.statements.insert(&name, frame, what);
                backend::parse_complete(&mut self.client.output);
                return Ok(());
            }
            return self.parse_upstream(frame, name, what, Reason::Transaction, ByName::Nothing).await;
        }
        // Several statements, or a text that we cannot read: the primary says what is wrong with it.
        for statement in &statements {
            if let Err(problem) = self.may_forward(statement, Reason::Unsupported) {
                return self.fail(problem);
            }
            self.note_forwarded(statement);
        }
        let what = What::Forward(Reason::Unsupported);
        self.parse_upstream(frame, name, what, Reason::Unsupported, ByName::Nothing).await
    }

    async fn parse_upstream(
        &mut self,
        frame: Frame,
        name: Bytes,
        what: What,
        reason: Reason,
        by_name: ByName,
    ) -> Result<(), End> {
        if !self.turn_over(reason, false).await? {
            return Ok(());
        }
        let names = match &by_name {
            ByName::Nothing => Vec::new(),
            ByName::DropsOne(name) => vec![Bytes::copy_from_slice(name.as_bytes())],
            ByName::Uses | ByName::Drops | ByName::DropsAll => self.statements.local_names(),
        };
        // A name that is taken here is to be taken there, so that the primary finds it so after all else
        // that may be wrong with the statement.
        let taken = (!name.is_empty()).then(|| name.clone());
        let names: Vec<Bytes> = names.into_iter().chain(taken).collect();
        if names.iter().any(|name| !self.primary_has(name)) {
            if !self.expect.is_empty() {
                self.hold(frame);
                return Ok(());
            }
            for name in names {
                if !self.give_statement(&name).await? {
                    return Ok(());
                }
            }
        }
        let drops = |one| Some(DropsStatements { one, certain: true });
        match by_name {
            ByName::Nothing | ByName::Uses => {}
            ByName::Drops | ByName::DropsAll => self.drops_statements = drops(None),
            ByName::DropsOne(name) => self.drops_statements = drops(Some(name.into_bytes().into())),
        }
        let (id, previous) = self.statements.insert(&name, frame.clone(), what);
        match self.statements.get_mut(&name) {
            Some(prepared) if !name.is_empty() => prepared.upstream = true,
            _ => {
                if let Some(upstream) = &mut self.upstream {
                    upstream.unnamed = Some(id);
                }
            }
        }
        self.forward(&frame, Expect::Parse { name, previous });
        Ok(())
    }

    pub(super) async fn on_bind(&mut self, frame: Frame) -> Result<(), End> {
        let Ok(bind) = frame.bind() else {
            // The primary looks for the statement as soon as it has read its name.
            let Ok(name) = frame.bound_statement().map(Bytes::copy_from_slice) else {
                return self.malformed(frame).await;
            };
            if self.is_gone(&name) {
                return self.fail(Problem::NoStatement(text(&name)));
            }
            if self.named_upstream(&frame, &name, Reason::Unsupported).await? {
                self.forward(&frame, Expect::Bind);
            }
            return Ok(());
        };
        let portal = Bytes::copy_from_slice(bind.portal);
        let name = Bytes::copy_from_slice(bind.statement);
        let taken = !portal.is_empty() && self.portals.contains_key(&portal);
        let limit = self.shared.config.limits.max_statements;
        if self.statements.len() + self.portals.len() >= limit.saturating_add(1) {
            return self.fail(Problem::TooManyStatements { limit });
        }
        if self.is_gone(&name) {
            return self.fail(Problem::NoStatement(text(&name)));
        }
        if let Some(command) = self.on_cursor(&name) {
            if !self.expect.is_empty() {
                self.hold(frame);
                return Ok(());
            }
            let columns = command.statement.command.as_ref().and_then(|c| self.fetched_plan(c));
            let columns = columns.map_or(0, |plan| plan.columns().len());
            let given = bind.result_formats.len();
            if columns > 0 && expand_formats(&bind.result_formats, columns).is_none() {
                return self.fail(Problem::Formats { given, columns });
            }
        }
        let reason = match self.usable(&name).await {
            Err(problem) => return self.fail(problem),
            // A name may be taken at the primary, too.
            Ok(Use::Plan(_))
                if !portal.is_empty() && self.block.lazy.is_none() && self.upstream_status() == b'T' =>
            {
                match self.may_move(&name, Reason::Transaction) {
                    Ok(()) => Reason::Transaction,
                    Err(problem) => return self.fail(problem),
                }
            }
            Ok(Use::Primary(reason)) => reason,
            Ok(used) => match self.bind_here(&frame, &bind, used).await {
                Ok(_) if taken => return self.fail(Problem::DuplicatePortal(text(&portal))),
                Ok((binary, state)) => {
                    let id = self.statements.get(&name).map_or(0, |s| s.id);
                    let made = Portal { statement: (name, id), bind: frame.clone(), binary, state };
                    self.portals.insert(portal, made);
                    backend::bind_complete(&mut self.client.output);
                    return Ok(());
                }
                Err(Reason::Canceled) => return self.fail(self.stopped()),
                Err(reason) => match self.may_move(&name, reason) {
                    Ok(()) => reason,
                    Err(problem) => return self.fail(problem),
                },
            },
        };
        if taken && self.is_ours(&portal) {
            return self.fail(Problem::DuplicatePortal(text(&portal)));
        }
        if portal.is_empty() {
            // The unnamed portal is replaced.
            self.portals.remove(&portal);
        }
        if !self.named_upstream(&frame, &name, reason).await? {
            return Ok(());
        }
        self.forward(&frame, Expect::Bind);
        Ok(())
    }

    /// Makes a portal here: its formats and state, or why the primary has to.
    async fn bind_here(
        &mut self,
        frame: &Frame,
        bind: &Bind<'_>,
        used: Use,
    ) -> Result<(Vec<bool>, PortalState), Reason> {
        // What does not fit is the primary's to word.
        let formats = |count| expand_formats(&bind.result_formats, count).ok_or(Reason::Unsupported);
        let takes_params = match &used {
            Use::Plan(_) => true,
            Use::Command(command) => matches!(command.statement.command, Some(Command::Declare(_))),
            _ => false,
        };
        if !takes_params && !bind.params.is_empty() {
            return Err(Reason::Unsupported);
        }
        match used {
            Use::Command(command) => {
                let what = command.statement.command.as_ref().ok_or(Reason::Unsupported)?;
                let on_cursor = self.is_on_cursor(what);
                let columns = self.fetched_plan(what).map_or(0, |plan| plan.columns().len());
                let binary = if columns > 0 { formats(columns)? } else { Vec::new() };
                Ok((binary, PortalState::Command { command, on_cursor }))
            }
            Use::Empty => Ok((formats(0)?, PortalState::Empty)),
            Use::Show(name) => Ok((formats(1)?, PortalState::Show { name, done: false })),
            Use::Primary(reason) => Err(reason),
            Use::Plan(plan) => {
                let binary = formats(plan.columns().len())?;
                let facts = self.facts.current.as_ref().ok_or(Reason::Setting)?;
                plan.check_formats(&binary, facts)?;
                self.segment.began = Instant::now();
                self.cancel.slot.begin_local();
                let opened = self.open_rows(&plan, Some(frame), Form::Data(binary.clone())).await;
                self.cancel.slot.end();
                Ok((binary, PortalState::Bound(Box::new(opened?))))
            }
        }
    }

    /// Whether a statement that was planned here may go to the primary.
    pub(super) fn may_move(&mut self, name: &[u8], reason: Reason) -> Result<(), Problem> {
        let select = match self.statements.get(name).map(|s| &s.what) {
            Some(What::Select(select, _) | What::Command(select)) => Arc::clone(select),
            _ => return Ok(()),
        };
        self.may_forward(&select.statement, reason)?;
        self.note_forwarded(&select.statement);
        Ok(())
    }

    pub(super) async fn on_describe(&mut self, frame: Frame) -> Result<(), End> {
        let Ok((object, name)) = frame.named() else { return self.malformed(frame).await };
        let name = Bytes::copy_from_slice(name);
        if object == Object::Portal {
            let Some(portal) = self.portals.get(&name) else {
                if !self.turn_over(Reason::Unsupported, false).await? {
                    return Ok(());
                }
                self.forward(&frame, Expect::DescribePortal);
                return Ok(());
            };
            if !self.expect.is_empty() {
                self.hold(frame);
                return Ok(());
            }
            let out = &mut self.client.output;
            match &portal.state {
                PortalState::Empty | PortalState::Ran => backend::no_data(out),
                PortalState::Cursor(cursor) => backend::row_description(out, cursor.plan.columns(), &[]),
                PortalState::Command { command, .. } => {
                    let binary = portal.binary.clone();
                    let command = command.statement.command.as_ref();
                    let plan = command.and_then(|command| self.fetched_plan(command));
                    let out = &mut self.client.output;
                    match plan {
                        Some(plan) => backend::row_description(out, plan.columns(), &binary),
                        None => backend::no_data(out),
                    }
                }
                PortalState::Show { name, .. } => {
                    let binary = portal.binary.first().copied().unwrap_or(false);
                    backend::text_description(out, &format!("millpond.{name}"), binary);
                }
                PortalState::Done { plan } => {
                    backend::row_description(out, plan.columns(), &portal.binary);
                }
                PortalState::Bound(rows) | PortalState::Running(rows) => {
                    backend::row_description(out, rows.plan.columns(), &portal.binary);
                }
            }
            return Ok(());
        }
        if self.is_gone(&name) {
            return self.fail(Problem::NoStatement(text(&name)));
        }
        if let Some(What::Command(command)) = self.statements.get(&name).map(|s| &s.what) {
            let command = Arc::clone(command);
            return self.describe_command(frame, name, command).await;
        }
        let mut told = BytesMut::new();
        let reason = match self.usable(&name).await {
            Err(problem) => return self.fail(problem),
            Ok(Use::Empty) => {
                backend::parameter_description(&mut told, [].into_iter());
                backend::no_data(&mut told);
                None
            }
            Ok(Use::Show(shown)) => {
                backend::parameter_description(&mut told, [].into_iter());
                backend::text_description(&mut told, &format!("millpond.{shown}"), false);
                None
            }
            Ok(Use::Plan(plan)) => {
                told = plan_description(&plan);
                None
            }
            Ok(Use::Command(_)) => Some(Reason::Unsupported),
            Ok(Use::Primary(reason)) => Some(reason),
        };
        let Some(reason) = reason else {
            self.client.output.extend_from_slice(&told);
            if let Some(prepared) = self.statements.get_mut(&name) {
                prepared.described = Some(told.freeze());
            }
            return Ok(());
        };
        if !self.named_upstream(&frame, &name, reason).await? {
            return Ok(());
        }
        let id = self.statements.get(&name).map_or(0, |s| s.id);
        self.forward(&frame, Expect::DescribeStatement { name, id, seen: BytesMut::new() });
        Ok(())
    }

    /// Whether a command may be kept here until it is bound: what PostgreSQL finds wrong with one at Parse,
    /// the primary has to say then.
    async fn keeps(&mut self, statement: &Statement, types: &[TypeOid]) -> bool {
        match &statement.command {
            Some(Command::Declare(declare)) => match &declare.select {
                Some(select) if self.answers_views() => {
                    matches!(self.plan(select, types).await, Ok(Planned::Local(_)))
                }
                _ => false,
            },
            _ => types.is_empty(),
        }
    }

    /// The command of a statement that names a cursor of ours.
    fn on_cursor(&self, name: &[u8]) -> Option<Arc<Select>> {
        match self.statements.get(name).map(|s| &s.what) {
            Some(What::Command(command)) => {
                let what = command.statement.command.as_ref()?;
                self.is_on_cursor(what).then(|| Arc::clone(command))
            }
            _ => None,
        }
    }

    /// Describe of a statement that is a command. What it would run on may change before it does, so
    /// nothing of it is remembered.
    async fn describe_command(&mut self, frame: Frame, name: Bytes, command: Arc<Select>) -> Result<(), End> {
        let what = command.statement.command.as_ref();
        let on_cursor = what.is_some_and(|what| self.is_on_cursor(what));
        if on_cursor && !self.expect.is_empty() {
            self.hold(frame);
            return Ok(());
        }
        let here = on_cursor || (self.answers_views() && what.is_some_and(|what| self.takes(what)));
        let params = match what {
            Some(Command::Declare(declare)) if here => match &declare.select {
                Some(select) => match self.plan(select, &command.types).await {
                    Ok(Planned::Local(plan)) => Some(plan.param_types().to_vec()),
                    _ => None,
                },
                None => None,
            },
            _ => here.then(Vec::new),
        };
        if let Some(params) = params {
            let plan = what.and_then(|what| self.fetched_plan(what));
            let out = &mut self.client.output;
            backend::parameter_description(out, params.iter().map(|oid| oid.0));
            match plan {
                Some(plan) => backend::row_description(out, plan.columns(), &[]),
                None => backend::no_data(out),
            }
            return Ok(());
        }
        if self.named_upstream(&frame, &name, Reason::Transaction).await? {
            let id = self.statements.get(&name).map_or(0, |s| s.id);
            self.forward(&frame, Expect::DescribeStatement { name, id, seen: BytesMut::new() });
        }
        Ok(())
    }

    pub(super) async fn on_close(&mut self, frame: Frame) -> Result<(), End> {
        let Ok((object, name)) = frame.named() else { return self.malformed(frame).await };
        let name = Bytes::copy_from_slice(name);
        let local = self.segment.mode == Mode::Local;
        if object == Object::Portal {
            let here = self.portals.contains_key(&name) || (local && name.is_empty());
            if here && !self.expect.is_empty() {
                self.hold(frame);
                return Ok(());
            }
            if here {
                self.portals.remove(&name);
                backend::close_complete(&mut self.client.output);
                return Ok(());
            }
        } else {
            let known = self.statements.get(&name);
            let in_use = self.portals.values().any(|p| p.is_movable() && p.statement.0 == name);
            let only_here = known.is_some() && (name.is_empty() || known.is_some_and(|s| !s.upstream));
            if local && !in_use && (only_here || self.is_gone(&name)) {
                match name.is_empty() {
                    true => self.statements.drop_unnamed(),
                    false => _ = self.statements.remove(&name),
                }
                backend::close_complete(&mut self.client.output);
                return Ok(());
            }
        }
        if !self.turn_over(Reason::Unsupported, false).await? {
            return Ok(());
        }
        let statement = match object {
            Object::Statement => self.statements.get(&name).map(|s| (name, s.id)),
            Object::Portal => None,
        };
        self.forward(&frame, Expect::Close { statement });
        Ok(())
    }

    pub(super) async fn on_flush(&mut self, frame: &Frame) -> Result<(), End> {
        if !frame.body().is_empty() {
            return self.malformed(frame.clone()).await;
        }
        if let (Some(upstream), Mode::Upstream) = (&mut self.upstream, self.segment.mode) {
            upstream.write(&frame.bytes);
        }
        self.client.flush().await
    }

    pub(super) async fn on_sync(&mut self, frame: &Frame) -> Result<(), End> {
        if std::mem::take(&mut self.owes_sync) && !self.turn_over(Reason::Transaction, false).await? {
            return Ok(());
        }
        // A Sync with a body is an error of the primary's, and a Sync all the same.
        if !frame.body().is_empty() && !self.turn_over(Reason::Unsupported, true).await? {
            return Ok(());
        }
        if self.segment.mode == Mode::Upstream {
            self.forward(frame, Expect::Sync);
            return Ok(());
        }
        // Here an implicit transaction ends, and its portals with it.
        self.settle_portals();
        self.segment = Segment::new();
        let status = self.status();
        backend::ready_for_query(&mut self.client.output, status);
        Ok(())
    }

    /// A body that cannot be read: the primary says what is wrong with it, as it reads it in parts and
    /// may find something else first. In another encoding than UTF-8 it may even be right.
    pub(super) async fn malformed(&mut self, frame: Frame) -> Result<(), End> {
        if self.turn_over(Reason::Unsupported, false).await? {
            let name = Fields(frame.body()).string().unwrap_or_default();
            let expect = match frame.tag() {
                b'P' if !name.is_empty() => {
                    Expect::Parse { name: Bytes::copy_from_slice(name), previous: None }
                }
                b'D' => Expect::DescribePortal,
                b'E' => Expect::Execute,
                b'C' => Expect::Close { statement: None },
                _ => Expect::Bind,
            };
            self.forward(&frame, expect);
        }
        Ok(())
    }

    /// Takes the segment to the primary for a message about a statement, which it gets if it lacks it.
    /// False when the message is not to be forwarded now.
    async fn named_upstream(&mut self, frame: &Frame, name: &[u8], reason: Reason) -> Result<bool, End> {
        if !self.turn_over(reason, false).await? {
            return Ok(false);
        }
        if !self.primary_has(name) && !self.expect.is_empty() {
            self.hold(frame.clone());
            return Ok(false);
        }
        self.give_statement(name).await
    }

    /// Whether a statement is known not to exist anywhere.
    fn is_gone(&self, name: &[u8]) -> bool {
        name.is_empty() && self.statements.unnamed_gone && self.statements.get(name).is_none()
    }

    /// What a statement can be used for now: its plan is made again if the catalogue or the session's
    /// settings are others, and goes to the primary if that changed what the client was told of it.
    async fn usable(&mut self, name: &[u8]) -> Result<Use, Problem> {
        if let Some(What::Command(command)) = self.statements.get(name).map(|s| &s.what) {
            let command = Arc::clone(command);
            if command.statement.command.as_ref().is_some_and(|what| self.takes(what)) {
                return Ok(Use::Command(command));
            }
            self.may_forward(&command.statement, Reason::Transaction)?;
            self.note_forwarded(&command.statement);
            return Ok(Use::Primary(Reason::Transaction));
        }
        if !self.answers_views() {
            match self.statements.get(name).map(|s| &s.what) {
                Some(What::Select(select, _)) => {
                    let select = Arc::clone(select);
                    self.note_in_block(&select.statement);
                }
                Some(What::Forward(_)) | None => self.block.pinned = true,
                Some(_) => {}
            }
            return Ok(Use::Primary(Reason::Transaction));
        }
        let (select, kept) = match self.statements.get(name).map(|s| &s.what) {
            None | Some(What::Command(_)) => {
                self.block.pinned = true;
                return Ok(Use::Primary(Reason::Unsupported));
            }
            Some(What::Empty) => return Ok(Use::Empty),
            Some(What::Show(shown)) => return Ok(Use::Show(shown.clone())),
            Some(What::Forward(reason)) => {
                self.block.pinned = true;
                return Ok(Use::Primary(*reason));
            }
            Some(What::Select(select, kept)) => (Arc::clone(select), kept.clone()),
        };
        let catalog_version = self.shared.engine.catalog_version();
        if let Some(kept) = kept
            && self.may_read_here()
            && !self.facts.dirty
            && kept.facts_version == self.facts.version
            && self.catalog_is_current()
            && kept.plan.catalog_version() == catalog_version
            && self.facts.catalog_version == catalog_version
            && self.reads_committed()
        {
            return Ok(Use::Plan(kept.plan));
        }
        let planned = self.plan(&select.statement, &select.types).await?;
        let facts_version = self.facts.version;
        if let Planned::Local(plan) = &planned
            && !self.gives_the_same(name, plan).await
        {
            // Where that is so at the primary too, it has the error for it.
            return Ok(Use::Primary(Reason::Loading));
        }
        let Some(prepared) = self.statements.get_mut(name) else {
            return Ok(Use::Primary(Reason::Unsupported));
        };
        match planned {
            Planned::Local(plan) => {
                prepared.what = What::Select(select, Some(Kept { plan: Arc::clone(&plan), facts_version }));
                Ok(Use::Plan(plan))
            }
            Planned::Primary(reason) => {
                self.may_forward(&select.statement, reason)?;
                self.note_forwarded(&select.statement);
                Ok(Use::Primary(reason))
            }
        }
    }

    /// Whether a plan gives what its statement gave when it was parsed: clients need not ask again, and
    /// for PostgreSQL a changed result is an error (`RevalidateCachedQuery`).
    async fn gives_the_same(&mut self, name: &[u8], plan: &Plan) -> bool {
        let there = self.primary_has(name);
        let Some(prepared) = self.statements.get_mut(name) else { return false };
        if let Some(given) = prepared.given() {
            return given == plan_description(plan);
        }
        // It was parsed at the primary, and only a portal of it was described, if anything.
        let Some(upstream) = self.upstream.as_mut().filter(|_| there) else { return true };
        match upstream.describe(name, &mut self.client.output).await {
            Ok(described) => {
                prepared.described = described;
                prepared.given().is_some_and(|given| given == plan_description(plan))
            }
            Err(error) => {
                self.lose(&error);
                false
            }
        }
    }
}

/// Names that [`Session::show`] answers.
fn is_shown(name: &str) -> bool {
    matches!(name, "lsn" | "last_route" | "version" | "route")
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
