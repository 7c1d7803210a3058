//! From facts to findings. Pure.

use std::sync::Arc;

use super::{Finding, Level};
use crate::{
    config::Config,
    source::{
        publication::Plan,
        schema::{Refusal, quote},
    },
    types::TableSchema,
};

/// A row of `sql/preflight.sql`.
#[derive(Clone, Debug)]
pub(super) struct ServerFacts {
    pub(super) version_num: u32,
    pub(super) version: String,
    pub(super) role: String,
    pub(super) in_recovery: bool,
    pub(super) wal_level: String,
    pub(super) max_slots: i32,
    /// Slots that are not ours.
    pub(super) used_slots: i32,
    pub(super) max_senders: i32,
    pub(super) used_senders: i32,
    pub(super) may_replicate: bool,
    /// `output_plugin_libraries`, where the server has it.
    pub(super) output_plugins: Option<String>,
    /// `max_slot_wal_keep_size`.
    pub(super) slot_limit: String,
    pub(super) encoding: String,
}

/// For each major version the first minor that may be used and the first that should be. Below the
/// former a table added to a publication can be lost for good (fixed 2025-05-08); below the latter a
/// slot's snapshot may miss a transaction (fixed 2026-11-12).
const MINORS: [(u32, u32, u32); 5] = [(14, 18, 25), (15, 13, 20), (16, 9, 16), (17, 5, 12), (18, 0, 7)];

pub(super) fn server(facts: &ServerFacts, config: &Config) -> Vec<Finding> {
    let mut findings = vec![version(facts)];
    let mut need = |ok: bool, what: String, remedy: &str| {
        let level = if ok { Level::Ok } else { Level::Fatal };
        findings.push(Finding::new(level, what, (!ok).then(|| remedy.to_string())));
    };
    need(
        !facts.in_recovery,
        match facts.in_recovery {
            true => "the server is a standby".to_string(),
            false => "the server is a primary".to_string(),
        },
        "point primary.url at the primary",
    );
    need(
        facts.encoding == "UTF8",
        format!("the database is encoded in {}", facts.encoding),
        "mirror a database created with encoding 'UTF8'",
    );
    need(
        facts.wal_level == "logical",
        format!("wal_level is {}", facts.wal_level),
        "alter system set wal_level = 'logical', and restart the server",
    );
    need(
        facts.used_slots < facts.max_slots,
        format!("{} of {} replication slots are in use", facts.used_slots, facts.max_slots),
        "drop unused slots (select pg_drop_replication_slot(..)), or raise max_replication_slots and restart the server",
    );
    need(
        facts.used_senders < facts.max_senders,
        format!("{} of {} WAL senders are in use", facts.used_senders, facts.max_senders),
        "raise max_wal_senders and restart the server",
    );
    let role = quote(&facts.role);
    need(
        facts.may_replicate,
        match facts.may_replicate {
            true => format!("role {role} may replicate"),
            false => format!("role {role} may not replicate"),
        },
        &format!("alter role {role} replication"),
    );
    if let Some(plugins) = &facts.output_plugins {
        let allowed = plugins
            .split(',')
            .map(|plugin| plugin.trim().trim_matches('"'))
            .any(|plugin| matches!(plugin, "pgoutput" | "$libdir/pgoutput"));
        need(
            allowed,
            format!("output_plugin_libraries is '{plugins}'"),
            "alter system set output_plugin_libraries = 'pgoutput, test_decoding', and reload the server",
        );
    }
    if config.replication.checkpoint_dir.is_some() && facts.slot_limit == "-1" {
        findings.push(Finding::new(
            Level::Warning,
            "the slot outlives this program, and nothing limits the WAL that it keeps",
            Some("alter system set max_slot_wal_keep_size = '10GB', and reload the server".to_string()),
        ));
    }
    findings
}

fn version(facts: &ServerFacts) -> Finding {
    let (major, minor) = (facts.version_num / 10_000, facts.version_num % 10_000);
    let is = format!("the server is PostgreSQL {}", facts.version);
    match MINORS.iter().find(|(m, ..)| *m == major) {
        None => Finding::new(Level::Fatal, is, Some("use PostgreSQL 14 to 18".to_string())),
        Some((_, floor, _)) if minor < *floor => Finding::new(
            Level::Fatal,
            format!("{is}, which can lose changes of tables added to a publication"),
            Some(format!("upgrade to {major}.{floor} or later")),
        ),
        Some((_, _, good)) if minor < *good => Finding::new(
            Level::Warning,
            format!("{is}, whose slots may miss a transaction in their first snapshot"),
            Some(format!("upgrade to {major}.{good} or later")),
        ),
        Some(_) => Finding::new(Level::Ok, is, None),
    }
}

pub(super) fn tables(
    mirrored: &[Arc<TableSchema>],
    refusals: &[Refusal],
    warnings: &[String],
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = mirrored
        .iter()
        .map(|t| Finding::new(Level::Ok, format!("table {} can be mirrored", t.display_name()), None))
        .collect();
    findings.extend(refusals.iter().map(|r| {
        Finding::new(Level::Missing, format!("{}.{}: {}", r.schema, r.name, r.what), r.remedy.clone())
    }));
    findings.extend(warnings.iter().map(|warning| {
        let remedy = "correct the [[tables]] rules, or create what they name".to_string();
        Finding::new(Level::Missing, warning.clone(), Some(remedy))
    }));
    findings
}

pub(super) fn publication(name: &str, plan: &Plan) -> Finding {
    let is = format!("publication {} ", quote(name));
    if plan.statements.is_empty() {
        return Finding::new(Level::Ok, is + "delivers every mirrored table", None);
    }
    if plan.permitted {
        return Finding::new(Level::Ok, is + "can be brought into line", None);
    }
    let remedy = format!("let its owner run sql/setup.sql, or: {}", plan.sql());
    Finding::new(Level::Fatal, is + &plan.problems.join(", ") + ", and we may not change that", Some(remedy))
}
