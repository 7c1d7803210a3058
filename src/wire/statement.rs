//! Prepared statements and portals of a session.

use std::{collections::HashMap, sync::Arc};

use bytes::{Bytes, BytesMut};

use super::{backend, cursors::SqlCursor, frame::Frame, local::Rows};
use crate::{
    query::{Plan, Reason, Statement},
    types::TypeOid,
};

/// A prepared statement, with the Parse message that made it: the primary gets that when it has to
/// answer a statement that it has not seen.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    /// Tells statements of one name apart.
    pub(super) id: u64,
    pub(super) frame: Frame,
    pub(super) what: What,
    /// The primary has it too. Of the unnamed one, the connection knows.
    pub(super) upstream: bool,
    /// ParameterDescription and RowDescription as the client was told them.
    pub(super) described: Option<Bytes>,
}

impl Prepared {
    /// ParameterDescription and RowDescription as they were when it was parsed; `None` where only the
    /// primary knows.
    pub(super) fn given(&self) -> Option<Bytes> {
        self.described.clone().or_else(|| match &self.what {
            What::Select(_, Some(planned)) => Some(plan_description(&planned.plan).freeze()),
            _ => None,
        })
    }
}

/// ParameterDescription and RowDescription of a plan, as Describe of its statement has them.
pub(super) fn plan_description(plan: &Plan) -> BytesMut {
    let mut out = BytesMut::new();
    backend::parameter_description(&mut out, plan.param_types().iter().map(|oid| oid.0));
    backend::row_description(&mut out, plan.columns(), &[]);
    out
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Empty,
    /// `show millpond.<name>`
    Show(String),
    /// A candidate for memory, with the last plan.
    Select(Arc<Select>, Option<Planned>),
    /// What may be answered here, depending on the transaction.
    Command(Arc<Select>),
    /// For the primary, always.
    Forward(Reason),
}

#[derive(Debug)]
pub(super) struct Select {
    pub(super) statement: Statement,
    pub(super) types: Vec<TypeOid>,
}

/// A plan and the facts that it was made under.
#[derive(Clone)]
pub(super) struct Planned {
    pub(super) plan: Arc<Plan>,
    pub(super) facts_version: u64,
}

impl std::fmt::Debug for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planned").field("facts_version", &self.facts_version).finish_non_exhaustive()
    }
}

/// A portal that lives here. Those of the primary are its own.
pub(super) struct Portal {
    /// The statement that it was made of: name and identity.
    pub(super) statement: (Bytes, u64),
    /// The Bind message, which holds the parameters.
    pub(super) bind: Frame,
    /// Result formats, true for binary.
    pub(super) binary: Vec<bool>,
    pub(super) state: PortalState,
}

pub(super) enum PortalState {
    Empty,
    Show {
        name: String,
        done: bool,
    },
    /// Opened, as PostgreSQL does at Bind, and not executed: the primary could still take it over.
    Bound(Box<Rows>),
    Running(Box<Rows>),
    Done {
        plan: Arc<Plan>,
    },
    /// Of a command, not executed. One on a cursor of ours cannot move.
    Command {
        command: Arc<Select>,
        on_cursor: bool,
    },
    /// A command was executed.
    Ran,
    /// Made by DECLARE.
    Cursor(Box<SqlCursor>),
}

impl Portal {
    /// Whether the primary can take it over when a later message of its segment is not for us.
    pub(super) fn is_movable(&self) -> bool {
        matches!(
            self.state,
            PortalState::Bound(_) | PortalState::Empty | PortalState::Command { on_cursor: false, .. }
        )
    }
}

/// By name; the unnamed one has the empty name.
#[derive(Debug, Default)]
pub(super) struct Statements {
    by_name: HashMap<Bytes, Prepared>,
    next_id: u64,
    /// The unnamed statement is gone for certain: a simple query drops it.
    pub(super) unnamed_gone: bool,
}

impl Statements {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Prepared> {
        self.by_name.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &[u8]) -> Option<&mut Prepared> {
        self.by_name.get_mut(name)
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Puts a new statement in place and gives its id and what had the name.
    pub(super) fn insert(&mut self, name: &[u8], frame: Frame, what: What) -> (u64, Option<Prepared>) {
        self.next_id += 1;
        if name.is_empty() {
            self.unnamed_gone = false;
        }
        let id = self.next_id;
        let prepared = Prepared { id, frame, what, upstream: false, described: None };
        (id, self.by_name.insert(Bytes::copy_from_slice(name), prepared))
    }

    /// Puts back what [`Statements::insert`] replaced.
    pub(super) fn restore(&mut self, name: Bytes, previous: Option<Prepared>) {
        match previous {
            Some(previous) => self.by_name.insert(name, previous),
            None => self.by_name.remove(&name),
        };
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Prepared> {
        self.by_name.remove(name)
    }

    pub(super) fn drop_unnamed(&mut self) {
        self.by_name.remove(&b""[..]);
        self.unnamed_gone = true;
    }

    /// SQL took them away, or may have: what the primary has counts from here on.
    pub(super) fn forget_all(&mut self) {
        self.by_name.clear();
    }

    /// The connection to the primary is a new one, which knows none.
    pub(super) fn forget_upstream(&mut self) {
        self.by_name.values_mut().for_each(|s| s.upstream = false);
    }

    /// Named statements that the primary has, and whether the client could know what they give.
    pub(super) fn upstream_names(&self) -> Vec<(Bytes, bool)> {
        let there = self.by_name.iter().filter(|(name, s)| !name.is_empty() && s.upstream);
        there.map(|(name, s)| (name.clone(), s.described.is_some())).collect()
    }

    /// The primary has it no longer; `described`: what it was when it was taken off.
    pub(super) fn taken_off(&mut self, name: &[u8], described: Option<Bytes>) {
        if let Some(prepared) = self.by_name.get_mut(name) {
            prepared.upstream = false;
            prepared.described = described.or_else(|| prepared.described.take());
        }
    }

    /// Named statements that the primary lacks.
    pub(super) fn local_names(&self) -> Vec<Bytes> {
        let local = self.by_name.iter().filter(|(name, s)| !name.is_empty() && !s.upstream);
        local.map(|(name, _)| name.clone()).collect()
    }
}
