//! The simple protocol: one Query, one statement or several.

use std::{sync::Arc, time::Instant};

use super::{
    backend,
    client::End,
    command::Ran,
    error::Problem,
    frame::Frame,
    local::{Form, Sent},
    policy::{self, ByName},
    session::{DropsStatements, Mode, Session},
    statement::Select,
    upstream::Expect,
};
use crate::query::{Plan, Planned, Reason, Route, RouteSetting, Statement, StatementKind};

impl Session {
    pub(super) async fn on_query(&mut self, frame: Frame) -> Result<(), End> {
        // What is not UTF-8 is for the primary as a whole.
        let (statements, readable) = match frame.query() {
            Ok(Some(text)) => (self.shared.engine.parse(text), true),
            Ok(None) | Err(_) => (self.shared.engine.parse(&String::from_utf8_lossy(frame.body())), false),
        };
        // A Query drops the unnamed statement and ends the portals of an implicit transaction.
        self.statements.drop_unnamed();
        if self.segment.mode == Mode::Upstream {
            // After messages that were not synced: one transaction with them.
            for statement in &statements {
                let checked =
                    policy::check(&self.shared.config.fallthrough, statement, Reason::Transaction, false);
                checked.map_err(End::Fatal)?;
            }
            self.owes_sync = true;
            return self.forward_query(&frame, &statements).await;
        }
        match self.status() {
            b'I' => self.portals.clear(),
            _ => _ = self.portals.remove(&b""[..]),
        }
        self.segment.began = Instant::now();
        let (true, [statement]) = (readable, statements.as_slice()) else {
            return self.check_and_forward(&frame, &statements, Reason::Unsupported).await;
        };
        match &statement.kind {
            StatementKind::Empty => {
                backend::empty_query_response(&mut self.client.output);
                let status = self.status();
                backend::ready_for_query(&mut self.client.output, status);
                return Ok(());
            }
            StatementKind::ShowMillpond(name) if self.status() != b'E' => match self.show(name).await {
                Ok(Some(value)) => {
                    let out = &mut self.client.output;
                    backend::text_description(out, &format!("millpond.{name}"), false);
                    backend::text_row(out, &value);
                    backend::command_complete(out, "SHOW");
                    let status = self.status();
                    backend::ready_for_query(&mut self.client.output, status);
                    return Ok(());
                }
                Ok(None) => {}
                Err(problem) => return self.fail_query(problem),
            },
            _ => {}
        }
        if statement.command.as_ref().is_some_and(|command| self.takes(command)) {
            return self.on_command(&frame, statement).await;
        }
        let reason = match self.plan(statement, &[]).await {
            Ok(Planned::Local(plan)) => match self.answer_query(&plan).await? {
                None => return Ok(()),
                Some(reason) => reason,
            },
            Ok(Planned::Primary(reason)) => reason,
            Err(problem) => return self.fail_query(problem),
        };
        self.check_and_forward(&frame, &statements, reason).await
    }

    /// Runs a command here, if it turns out to be for us.
    async fn on_command(&mut self, frame: &Frame, statement: &Statement) -> Result<(), End> {
        if let Err(problem) = policy::check(
            &self.shared.config.fallthrough,
            statement,
            Reason::Transaction,
            self.status() == b'I',
        ) && statement.kind == StatementKind::Transaction
        {
            return self.fail_query(problem);
        }
        let command = Arc::new(Select { statement: statement.clone(), types: Vec::new() });
        match self.run_command(&command, None).await? {
            Ran::Done => {
                let status = self.status();
                backend::ready_for_query(&mut self.client.output, status);
                if status == b'I' {
                    self.settle_portals();
                }
                Ok(())
            }
            Ran::Primary(reason) => {
                self.check_and_forward(frame, std::slice::from_ref(statement), reason).await
            }
            Ran::Failed(problem) => self.fail_query(problem),
        }
    }

    /// Answers from memory; the reason when the primary has to after all.
    async fn answer_query(&mut self, plan: &Arc<Plan>) -> Result<Option<Reason>, End> {
        let text = vec![false; plan.columns().len()];
        if let Some(Err(reason)) = self.facts.current.as_ref().map(|f| plan.check_formats(&text, f)) {
            return Ok(Some(reason));
        }
        self.cancel.slot.begin_local();
        let result = self.run_query(plan, text).await;
        self.cancel.slot.end();
        result
    }

    async fn run_query(&mut self, plan: &Arc<Plan>, text: Vec<bool>) -> Result<Option<Reason>, End> {
        let rows = match self.open_rows(plan, None, Form::Data(text)).await {
            Ok(rows) => rows,
            Err(Reason::Canceled) => {
                self.fail_query(self.stopped())?;
                return Ok(None);
            }
            Err(reason) => return Ok(Some(reason)),
        };
        let mark = self.client.output.len();
        backend::row_description(&mut self.client.output, plan.columns(), &[]);
        match self.send_rows(Box::new(rows), u64::MAX, Some(mark)).await?.1 {
            Sent::All(count) | Sent::Suspended(count) => {
                backend::select_complete(&mut self.client.output, count);
                let status = self.status();
                backend::ready_for_query(&mut self.client.output, status);
                self.answered(plan.route(), count);
            }
            Sent::Primary(reason) => return Ok(Some(reason)),
            Sent::Failed(problem) => self.fail_query(problem)?,
        }
        Ok(None)
    }

    async fn check_and_forward(
        &mut self,
        frame: &Frame,
        statements: &[Statement],
        reason: Reason,
    ) -> Result<(), End> {
        for statement in statements {
            if let Err(problem) = self.may_forward(statement, reason) {
                return self.fail_query(problem);
            }
        }
        if let Err(problem) = self.need_upstream().await {
            return self.fail_query(problem);
        }
        let text: String = statements.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join(";");
        let drops = |one: Option<&str>, certain| {
            Some(DropsStatements { one: one.map(|n| n.as_bytes().to_vec().into()), certain })
        };
        match policy::by_name(&text) {
            ByName::Nothing => {}
            ByName::DropsAll => self.drops_statements = drops(None, false),
            ByName::DropsOne(name) => {
                self.give_by_name(vec![name.as_bytes().to_vec().into()]).await?;
                self.drops_statements = drops(Some(&name), false);
            }
            ByName::Uses => self.give_by_name(self.statements.local_names()).await?,
            ByName::Drops => {
                self.give_by_name(self.statements.local_names()).await?;
                self.drops_statements = drops(None, true);
            }
        }
        if self.turn_over(reason, true).await? {
            self.forward_query(frame, statements).await?;
        }
        Ok(())
    }

    async fn forward_query(&mut self, frame: &Frame, statements: &[Statement]) -> Result<(), End> {
        statements.iter().for_each(|statement| self.note_forwarded(statement));
        if let Some(upstream) = &mut self.upstream {
            upstream.unnamed = None;
        }
        self.forward(frame, Expect::Query);
        Ok(())
    }

    /// Whether a statement may be answered by the primary.
    pub(super) fn may_forward(&self, statement: &Statement, reason: Reason) -> Result<(), Problem> {
        policy::check(&self.shared.config.fallthrough, statement, reason, self.status() == b'I')?;
        if let Some(problem) = self.current_of(&statement.text) {
            return Err(problem);
        }
        let route = self.facts.current.as_ref().map(|facts| facts.route);
        if statement.kind == StatementKind::Select && route == Some(RouteSetting::Local) {
            return Err(Problem::LocalOnly(reason));
        }
        Ok(())
    }

    /// Remembers what a forwarded statement may leave behind.
    pub(super) fn note_forwarded(&mut self, statement: &Statement) {
        self.note_in_block(statement);
        let lower = statement.text.to_ascii_lowercase();
        self.facts.asynchronous |= lower.contains("synchronous_commit");
        self.facts.redefined |= policy::may_redefine(statement);
        self.note_trace(statement);
    }

    /// The value of `show millpond.<name>`; `None` for a name that is the primary's to refuse.
    pub(super) async fn show(&mut self, name: &str) -> Result<Option<String>, Problem> {
        Ok(Some(match name {
            "lsn" => self.shared.store.snapshot().lsn().to_string(),
            "last_route" => self.last_route.as_ref().map_or_else(String::new, Route::to_string),
            "version" => env!("CARGO_PKG_VERSION").to_owned(),
            "route" => {
                if self.cached && self.may_read_here() {
                    self.refresh_facts().await?;
                }
                let route = self.facts.current.as_ref().map(|facts| facts.route);
                match route.unwrap_or_default() {
                    RouteSetting::Auto => "auto",
                    RouteSetting::Primary => "primary",
                    RouteSetting::Local => "local",
                }
                .to_owned()
            }
            _ => return Ok(None),
        }))
    }
}
