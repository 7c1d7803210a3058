//! The extended protocol: each message is answered here, or turns its segment over to the primary.

use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};

use super::{
    backend,
    client::End,
    error::Problem,
    frame::{Frame, Object, expand_formats},
    local::{Rows, Sent},
    policy::{self, ByName},
    session::{DropsStatements, Mode, Segment, Session},
    statement::{Planned as Kept, Portal, PortalState, Select, What},
    upstream::Expect,
};
use crate::{
    query::{Plan, Planned, Reason, StatementKind},
    types::TypeOid,
};

/// What can be done with a prepared statement now.
enum Use {
    Empty,
    Show(String),
    Plan(Arc<Plan>),
    Primary(Reason),
}

impl Session {
    pub(super) async fn on_parse(&mut self, frame: Frame) -> Result<(), End> {
        let Ok(parse) = frame.parse() else { return self.malformed(frame) };
        let name = Bytes::copy_from_slice(parse.name);
        let known = self.statements.get(&name);
        // What the primary does not know as ours it could not refuse.
        if !name.is_empty() && known.is_some_and(|s| !s.upstream || self.segment.mode == Mode::Local) {
            return self.fail(Problem::DuplicateStatement(text(&name)));
        }
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
            if self.answers_views() && !in_use {
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
        if !self.to_upstream(reason, false).await? {
            return Ok(());
        }
        let names = match &by_name {
            ByName::Nothing => Vec::new(),
            ByName::DropsOne(name) => vec![Bytes::copy_from_slice(name.as_bytes())],
            ByName::Uses | ByName::Drops | ByName::DropsAll => self.statements.local_names(),
        };
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
        let Ok(bind) = frame.bind() else { return self.malformed(frame) };
        let portal = Bytes::copy_from_slice(bind.portal);
        let name = Bytes::copy_from_slice(bind.statement);
        if !portal.is_empty() && self.portals.contains_key(&portal) {
            return self.fail(Problem::DuplicatePortal(text(&portal)));
        }
        let limit = self.shared.config.limits.max_statements;
        if self.statements.len() + self.portals.len() >= limit.saturating_add(1) {
            return self.fail(Problem::TooManyStatements { limit });
        }
        if self.is_gone(&name) {
            return self.fail(Problem::NoStatement(text(&name)));
        }
        let reason = match self.usable(&name).await {
            Err(problem) => return self.fail(problem),
            Ok(Use::Primary(reason)) => reason,
            Ok(used) => {
                let id = self.statements.get(&name).map_or(0, |s| s.id);
                let state = match used {
                    Use::Empty => expand_formats(&bind.result_formats, 0).map(|f| (f, PortalState::Empty)),
                    Use::Show(name) => expand_formats(&bind.result_formats, 1)
                        .map(|formats| (formats, PortalState::Show { name, done: false })),
                    Use::Plan(plan) if bind.params.len() == plan.param_types().len() => {
                        expand_formats(&bind.result_formats, plan.columns().len())
                            .filter(|_| expand_formats(&bind.param_formats, bind.params.len()).is_some())
                            .map(|formats| (formats, PortalState::Bound(plan)))
                    }
                    Use::Plan(_) | Use::Primary(_) => None,
                };
                let checked = match &state {
                    Some((formats, PortalState::Bound(plan))) => match &self.facts.current {
                        Some(facts) => plan.check_formats(formats, facts).err(),
                        None => Some(Reason::Setting),
                    },
                    Some((_, PortalState::Empty)) if !bind.params.is_empty() => Some(Reason::Unsupported),
                    Some(_) => None,
                    None => Some(Reason::Unsupported),
                };
                match (state, checked) {
                    (Some((binary, state)), None) => {
                        let portal_of = Portal { statement: (name, id), bind: frame.clone(), binary, state };
                        self.portals.insert(portal, portal_of);
                        backend::bind_complete(&mut self.client.output);
                        return Ok(());
                    }
                    (_, reason) => reason.unwrap_or(Reason::Unsupported),
                }
            }
        };
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

    pub(super) async fn on_describe(&mut self, frame: Frame) -> Result<(), End> {
        let Ok((object, name)) = frame.named() else { return self.malformed(frame) };
        let name = Bytes::copy_from_slice(name);
        if object == Object::Portal {
            let Some(portal) = self.portals.get(&name) else {
                if !self.to_upstream(Reason::Unsupported, false).await? {
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
                PortalState::Empty => backend::no_data(out),
                PortalState::Show { name, .. } => {
                    let binary = portal.binary.first().copied().unwrap_or(false);
                    backend::text_description(out, &format!("millpond.{name}"), binary);
                }
                PortalState::Bound(plan) | PortalState::Done { plan } => {
                    backend::row_description(out, plan.columns(), &portal.binary);
                }
                PortalState::Running(rows) => {
                    backend::row_description(out, rows.plan.columns(), &portal.binary);
                }
            }
            return Ok(());
        }
        if self.is_gone(&name) {
            return self.fail(Problem::NoStatement(text(&name)));
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
                told = description(&plan);
                None
            }
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

    pub(super) async fn on_execute(&mut self, frame: Frame) -> Result<(), End> {
        let Ok((name, limit)) = frame.execute() else { return self.malformed(frame) };
        let (name, limit) = (Bytes::copy_from_slice(name), if limit == 0 { u64::MAX } else { limit });
        if self.segment.mode == Mode::Upstream {
            if !self.is_ours(&name) {
                self.forward(&frame, Expect::Execute);
                return Ok(());
            }
            if !self.expect.is_empty() {
                self.hold(frame);
                return Ok(());
            }
        } else {
            self.segment.began = Instant::now();
        }
        let Some(portal) = self.portals.get_mut(&name) else {
            if self.to_upstream(Reason::Unsupported, false).await? {
                self.forward(&frame, Expect::Execute);
            }
            return Ok(());
        };
        let (rows, mark) = match &mut portal.state {
            PortalState::Empty => {
                backend::empty_query_response(&mut self.client.output);
                return Ok(());
            }
            PortalState::Show { name, done } => {
                let shown = (!std::mem::replace(done, true)).then(|| name.clone());
                if let Some(shown) = shown {
                    match self.show(&shown).await {
                        Ok(value) => {
                            backend::text_row(&mut self.client.output, &value.unwrap_or_default());
                        }
                        Err(problem) => return self.fail(problem),
                    }
                }
                backend::command_complete(&mut self.client.output, "SHOW");
                return Ok(());
            }
            PortalState::Done { .. } => {
                backend::select_complete(&mut self.client.output, 0);
                return Ok(());
            }
            PortalState::Bound(plan) => {
                let (plan, bind, binary) = (Arc::clone(plan), portal.bind.clone(), portal.binary.clone());
                self.cancel.slot.begin_local();
                match self.open_rows(&plan, Some(&bind), binary).await {
                    Ok(rows) => (Box::new(rows), Some(self.client.output.len())),
                    Err(Reason::Canceled) => {
                        self.cancel.slot.end();
                        return self.fail(Problem::Canceled);
                    }
                    Err(reason) => return self.execute_upstream(&frame, reason).await,
                }
            }
            PortalState::Running(rows) => {
                let plan = Arc::clone(&rows.plan);
                let state = std::mem::replace(&mut portal.state, PortalState::Done { plan });
                let PortalState::Running(rows) = state else { return Err(End::Closed) };
                if self.segment.mode == Mode::Local {
                    self.cancel.slot.begin_local();
                }
                (rows, None)
            }
        };
        self.send_portal(&frame, &name, rows, limit, mark).await
    }

    async fn send_portal(
        &mut self,
        frame: &Frame,
        name: &[u8],
        rows: Box<Rows>,
        limit: u64,
        mark: Option<usize>,
    ) -> Result<(), End> {
        let plan = Arc::clone(&rows.plan);
        let (rows, sent) = self.send_rows(rows, limit, mark).await?;
        if self.segment.mode == Mode::Local {
            self.cancel.slot.end();
        }
        let state = match sent {
            Sent::All(count) => {
                backend::select_complete(&mut self.client.output, count);
                self.answered(plan.route(), count);
                PortalState::Done { plan }
            }
            Sent::Suspended(_) => {
                backend::portal_suspended(&mut self.client.output);
                rows.map_or(PortalState::Done { plan }, PortalState::Running)
            }
            Sent::Primary(reason) => return self.execute_upstream(frame, reason).await,
            Sent::Failed(problem) => return self.fail(problem),
        };
        if let Some(portal) = self.portals.get_mut(name) {
            portal.state = state;
        }
        Ok(())
    }

    /// Memory could not answer after all, and nothing was sent: the portal moves to the primary.
    async fn execute_upstream(&mut self, frame: &Frame, reason: Reason) -> Result<(), End> {
        let name = frame.execute().map(|(name, _)| Bytes::copy_from_slice(name)).unwrap_or_default();
        let statement = self.portals.get(&name).map(|p| p.statement.0.clone()).unwrap_or_default();
        let select = match self.statements.get(&statement).map(|s| &s.what) {
            Some(What::Select(select, _)) => Some(Arc::clone(select)),
            _ => None,
        };
        if let Some(select) = select {
            if let Err(problem) = self.may_forward(&select.statement, reason) {
                return self.fail(problem);
            }
            self.note_forwarded(&select.statement);
        }
        if self.to_upstream(reason, false).await? {
            self.forward(frame, Expect::Execute);
        }
        Ok(())
    }

    pub(super) async fn on_close(&mut self, frame: Frame) -> Result<(), End> {
        let Ok((object, name)) = frame.named() else { return self.malformed(frame) };
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
        if !self.to_upstream(Reason::Unsupported, false).await? {
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
        if let (Some(upstream), Mode::Upstream) = (&mut self.upstream, self.segment.mode) {
            upstream.write(&frame.bytes);
        }
        self.client.flush().await
    }

    pub(super) async fn on_sync(&mut self, frame: &Frame) -> Result<(), End> {
        if self.segment.mode == Mode::Upstream {
            self.forward(frame, Expect::Sync);
            return Ok(());
        }
        // The end of the implicit transaction, and of its portals.
        self.portals.clear();
        self.segment = Segment::new();
        let status = self.status();
        backend::ready_for_query(&mut self.client.output, status);
        Ok(())
    }

    /// A body that cannot be read: where the primary is at work already, it says so itself.
    fn malformed(&mut self, frame: Frame) -> Result<(), End> {
        match self.segment.mode {
            Mode::Local => self.fail(Problem::Malformed),
            Mode::Upstream => {
                // Never answered by anything but an error.
                self.forward(&frame, Expect::Poison(Problem::Malformed));
                Ok(())
            }
        }
    }

    /// Takes the segment to the primary for a message about a statement, which it gets if it lacks it.
    /// False when the message is not to be forwarded now.
    async fn named_upstream(&mut self, frame: &Frame, name: &[u8], reason: Reason) -> Result<bool, End> {
        if !self.to_upstream(reason, false).await? {
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
        if !self.answers_views() {
            return Ok(Use::Primary(Reason::Transaction));
        }
        let (select, kept) = match self.statements.get(name).map(|s| &s.what) {
            None => return Ok(Use::Primary(Reason::Unsupported)),
            Some(What::Empty) => return Ok(Use::Empty),
            Some(What::Show(shown)) => return Ok(Use::Show(shown.clone())),
            Some(What::Forward(reason)) => return Ok(Use::Primary(*reason)),
            Some(What::Select(select, kept)) => (Arc::clone(select), kept.clone()),
        };
        let catalog_version = self.shared.engine.catalog_version();
        if let Some(kept) = kept
            && self.status() == b'I'
            && !self.facts.dirty
            && kept.facts_version == self.facts.version
            && kept.plan.catalog_version() == catalog_version
            && self.facts.catalog_version == catalog_version
        {
            return Ok(Use::Plan(kept.plan));
        }
        let planned = self.plan(&select.statement, &select.types).await?;
        let facts_version = self.facts.version;
        let Some(prepared) = self.statements.get_mut(name) else {
            return Ok(Use::Primary(Reason::Unsupported));
        };
        let same = |plan: &Plan| prepared.described.as_ref().is_none_or(|told| *told == description(plan));
        match planned {
            Planned::Local(plan) if same(&plan) => {
                prepared.what = What::Select(select, Some(Kept { plan: Arc::clone(&plan), facts_version }));
                Ok(Use::Plan(plan))
            }
            Planned::Local(_) => Ok(Use::Primary(Reason::Loading)),
            Planned::Primary(reason) => {
                self.may_forward(&select.statement, reason)?;
                self.note_forwarded(&select.statement);
                Ok(Use::Primary(reason))
            }
        }
    }
}

/// ParameterDescription and RowDescription of a plan, as Describe of its statement has them.
fn description(plan: &Plan) -> BytesMut {
    let mut out = BytesMut::new();
    backend::parameter_description(&mut out, plan.param_types().iter().map(|oid| oid.0));
    backend::row_description(&mut out, plan.columns(), &[]);
    out
}

/// Names that [`Session::show`] answers.
fn is_shown(name: &str) -> bool {
    matches!(name, "lsn" | "last_route" | "version" | "route")
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
