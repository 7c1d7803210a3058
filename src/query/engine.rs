//! The planner's entrance: statements to plans, or to the reason why the primary answers.

use std::sync::Arc;

use super::{
    Reason, RouteSetting, SessionFacts, Statement, StatementKind, Trace, bind, plan::Plan, statement, trace,
};
use crate::{
    catalog::{Catalog, CatalogHandle},
    store::Store,
    telemetry::status::Status,
    types::{Lsn, TypeOid},
};

/// Shared by all sessions.
pub struct Engine {
    store: Arc<Store>,
    catalog: Arc<CatalogHandle>,
    status: Arc<Status>,
    enabled: bool,
}

/// Where a statement will be answered.
#[derive(Clone)]
pub enum Planned {
    Local(Arc<Plan>),
    Primary(Reason),
}

impl Engine {
    /// With `enabled` false everything but our own views goes to the primary.
    pub fn new(store: Arc<Store>, catalog: Arc<CatalogHandle>, status: Arc<Status>, enabled: bool) -> Engine {
        Engine { store, catalog, status, enabled }
    }

    /// Splits a simple-protocol string into statements. Never empty; one statement of kind
    /// [`StatementKind::Unknown`] where the string is not understood as a whole.
    ///
    /// Strings are read as under `standard_conforming_strings = on`: in a session without it, the
    /// whole text has to be forwarded.
    pub fn parse(&self, sql: &str) -> Vec<Statement> {
        statement::parse(sql)
    }

    /// What a statement may leave in its session at the primary. `cached`: the session is of the database
    /// that the catalogue is of.
    pub fn trace(&self, statement: &Statement, cached: bool) -> Trace {
        let catalog = cached.then(|| self.catalog.load());
        trace::of(statement, catalog.as_deref())
    }

    /// Binds one statement for this session. `param_types` as the client's Parse message gave them;
    /// 0 or absent leaves a type to us.
    pub fn plan(&self, statement: &Statement, param_types: &[TypeOid], session: &SessionFacts) -> Planned {
        match self.try_plan(statement, param_types, session) {
            Ok(plan) => Planned::Local(Arc::new(plan)),
            Err(reason) => Planned::Primary(reason),
        }
    }

    /// The version of the current catalogue; a plan of another one is void.
    pub fn catalog_version(&self) -> u64 {
        self.catalog.load().version
    }

    /// Changes of definition up to here are in the current catalogue.
    pub fn catalog_compared_at(&self) -> Lsn {
        self.catalog.compared_at()
    }

    fn try_plan(
        &self,
        statement: &Statement,
        param_types: &[TypeOid],
        session: &SessionFacts,
    ) -> Result<Plan, Reason> {
        match statement.kind {
            StatementKind::Select => {}
            StatementKind::Write => return Err(Reason::Write),
            _ => return Err(Reason::Unsupported),
        }
        let candidate = statement.candidate.as_ref().ok_or(Reason::Unsupported)?;
        if !session.standard_conforming_strings {
            return Err(Reason::Setting);
        }
        let catalog = self.catalog.load();
        let forbidden = self.forbidden(session, &catalog);
        let bound = bind::bind(candidate, param_types, &catalog, session, forbidden)?;
        let snapshot = self.store.snapshot();
        if bound.tables().into_iter().any(|table| snapshot.table(table.oid).is_none()) {
            return Err(Reason::Loading);
        }
        Ok(Plan::new(bound, param_types, &catalog, session, Arc::clone(&self.status)))
    }

    /// Why no mirrored table may be read in this session at all.
    fn forbidden(&self, session: &SessionFacts, catalog: &Catalog) -> Option<Reason> {
        // Operators, functions and types are resolved along the path: ours are pg_catalog's.
        let first = session.search_path.iter().find(|schema| !schema.starts_with("pg_temp"));
        if !self.enabled {
            Some(Reason::Disabled)
        } else if session.route == RouteSetting::Primary {
            Some(Reason::Bypass)
        } else if session.client_encoding != "UTF8"
            || session.transform_null_equals
            || first.is_none_or(|schema| schema != "pg_catalog")
        {
            Some(Reason::Setting)
        } else if catalog.overloaded {
            Some(Reason::Function)
        } else if session.default_isolation == "serializable" {
            Some(Reason::Transaction)
        } else {
            None
        }
    }
}
