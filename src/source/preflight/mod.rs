//! Whether the primary offers what mirroring needs: one finding for each requirement, one remedy for
//! each that is missing.

mod evaluate;

use std::{fmt, sync::Arc};

use tokio_postgres::{Client, Error as PgError};

use self::evaluate::ServerFacts;
use super::{
    publication,
    schema::{self, SchemaError},
};
use crate::{config::Config, primary::PrimaryError, types::TableSchema};

/// What was found, in the order of the checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preflight {
    pub findings: Vec<Finding>,
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is the case.
    pub what: String,
    pub level: Level,
    /// The command or setting that mends it.
    pub remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    /// Works, and could be better.
    Warning,
    /// One table goes to the primary; the others are mirrored.
    Missing,
    /// Nothing can be mirrored.
    Fatal,
}

impl Finding {
    fn new(level: Level, what: impl Into<String>, remedy: Option<String>) -> Finding {
        Finding { what: what.into(), level, remedy }
    }

    pub fn ok(&self) -> bool {
        self.level <= Level::Warning
    }
}

impl Preflight {
    /// Whether nothing can be mirrored.
    pub fn is_fatal(&self) -> bool {
        self.findings.iter().any(|f| f.level == Level::Fatal)
    }

    /// Whether everything asked for can be mirrored: `millpond check` ends with 0.
    pub fn is_complete(&self) -> bool {
        self.findings.iter().all(Finding::ok)
    }
}

/// A line for each finding that is not plainly well, and a line with its remedy.
impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in self.findings.iter().filter(|finding| finding.level > Level::Ok) {
            writeln!(f, "{finding}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Missing => "missing",
            Level::Fatal => "error",
        };
        write!(f, "{level}: {}", self.what)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  remedy: {remedy}"),
            None => Ok(()),
        }
    }
}

/// Asks the primary, over an ordinary connection to the database that is to be mirrored, and changes
/// nothing there. A question that can't be asked is a fatal finding.
pub async fn check(client: &Client, config: &Config) -> Preflight {
    let mut preflight = Preflight::default();
    match read_facts(client, config).await {
        Ok(facts) => preflight.findings = evaluate::server(&facts, config),
        Err(error) => preflight.findings.push(unreadable("the server's settings", error)),
    }
    let name = config.replication.publication.as_str();
    match schema::load_with_refusals(client, &config.tables, Some(name)).await {
        Ok((catalog, refusals)) => {
            let mut tables: Vec<Arc<TableSchema>> = catalog.tables.values().cloned().collect();
            tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
            preflight.findings.extend(evaluate::tables(&tables, &refusals, &catalog.warnings));
            match publication::plan(client, name, &tables).await {
                Ok(plan) => preflight.findings.push(evaluate::publication(name, &plan)),
                Err(error) => preflight.findings.push(unreadable("the publication", error)),
            }
        }
        // The encoding is among the server's findings already.
        Err(SchemaError::Encoding { .. }) => {}
        Err(error) => {
            preflight.findings.push(Finding::new(Level::Fatal, error.to_string(), None));
        }
    }
    preflight
}

fn unreadable(what: &str, error: PgError) -> Finding {
    // tokio-postgres says no more than "db error".
    let error = PrimaryError::from(error);
    Finding::new(Level::Fatal, format!("{what} could not be read: {error}"), None)
}

async fn read_facts(client: &Client, config: &Config) -> Result<ServerFacts, PgError> {
    let slot = config.replication.slot.as_str();
    let row = client.query_one(include_str!("../../../sql/preflight.sql"), &[&slot]).await?;
    Ok(ServerFacts {
        version_num: row.try_get::<_, i32>("version_num")?.unsigned_abs(),
        version: row.try_get("version")?,
        role: row.try_get("role")?,
        in_recovery: row.try_get("in_recovery")?,
        wal_level: row.try_get("wal_level")?,
        max_slots: row.try_get("max_slots")?,
        used_slots: row.try_get("used_slots")?,
        max_senders: row.try_get("max_senders")?,
        used_senders: row.try_get("used_senders")?,
        may_replicate: row.try_get("may_replicate")?,
        output_plugins: row.try_get("output_plugins")?,
        slot_limit: row.try_get("slot_limit")?,
        encoding: row.try_get("encoding")?,
    })
}
