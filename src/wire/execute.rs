//! Execute: a portal's rows, all or in parts.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use super::{
    backend,
    client::End,
    command::Ran,
    error::Problem,
    frame::Frame,
    local::{Rows, Sent},
    session::{Mode, Session},
    statement::{Portal, PortalState},
    upstream::Expect,
};
use crate::query::Reason;

impl Session {
    pub(super) async fn on_execute(&mut self, frame: Frame) -> Result<(), End> {
        let Ok((name, limit)) = frame.execute() else { return self.malformed(frame).await };
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
            if self.turn_over(Reason::Unsupported, false).await? {
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
            PortalState::Command { command, .. } => {
                let command = Arc::clone(command);
                return self.execute_command(&frame, &name, command, limit).await;
            }
            PortalState::Ran => {
                let name = String::from_utf8_lossy(&name).into_owned();
                return self.fail(Problem::PortalRan(name));
            }
            PortalState::Cursor(_) => {
                return match self.execute_cursor(&name, limit).await? {
                    Ran::Failed(problem) => self.fail(problem),
                    Ran::Done | Ran::Primary(_) => Ok(()),
                };
            }
            PortalState::Done { .. } => {
                backend::select_complete(&mut self.client.output, 0);
                return Ok(());
            }
            PortalState::Bound(rows) | PortalState::Running(rows) => {
                let plan = Arc::clone(&rows.plan);
                let state = std::mem::replace(&mut portal.state, PortalState::Done { plan });
                // What was executed before has left already.
                let (rows, mark) = match state {
                    PortalState::Bound(rows) => (rows, Some(self.client.output.len())),
                    PortalState::Running(rows) => (rows, None),
                    _ => return Err(End::Closed),
                };
                if self.segment.mode == Mode::Local {
                    self.cancel.slot.begin_local();
                }
                (rows, mark)
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
    pub(super) async fn execute_upstream(&mut self, frame: &Frame, reason: Reason) -> Result<(), End> {
        let name = frame.execute().map(|(name, _)| Bytes::copy_from_slice(name)).unwrap_or_default();
        if let Some(portal) = self.portals.remove(&name) {
            if let Err(problem) = self.may_move(&portal.statement.0, reason) {
                return self.fail(problem);
            }
            // As if it had not been executed, so that it is given to the primary.
            let state = PortalState::Empty;
            self.portals.insert(name, Portal { state, ..portal });
        }
        if self.turn_over(reason, false).await? {
            self.forward(frame, Expect::Execute);
        }
        Ok(())
    }
}
