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
    /// `output_plugin_libraries`, where the server has it and our role may see it.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{
        Admin, Auth, AuthMethod, Cache, Fallthrough, Forwarding, Freshness, Limits, Listen, Log, Memory,
        Primary, Replication, ReplicationMode,
    };

    fn facts() -> ServerFacts {
        ServerFacts {
            version_num: 180_007,
            version: "18.7".to_string(),
            role: "millpond".to_string(),
            in_recovery: false,
            wal_level: "logical".to_string(),
            max_slots: 10,
            used_slots: 9,
            max_senders: 10,
            used_senders: 9,
            may_replicate: true,
            output_plugins: Some("pgoutput, test_decoding".to_string()),
            slot_limit: "-1".to_string(),
            encoding: "UTF8".to_string(),
        }
    }

    fn config() -> Config {
        let second = Duration::from_secs(1);
        Config {
            primary: Primary {
                url: String::new(),
                password: None,
                passfile: None,
                start_timeout: second,
                connect_timeout: second,
            },
            listen: Listen {
                unix_socket_permissions: 0o777,
                address: ([127, 0, 0, 1], 0).into(),
                unix_socket_dir: None,
                tls: None,
                threads: 1,
            },
            tables: Vec::new(),
            replication: Replication {
                mode: ReplicationMode::Auto,
                slot: "s".to_string(),
                publication: "p".to_string(),
                checkpoint_dir: None,
                copy_workers: 1,
                slot_timeout: second,
                lock_timeout: second,
                status_interval: second,
                catalog_interval: second,
                max_transaction_bytes: 1,
            },
            fallthrough: Fallthrough { reads: Forwarding::Forward, writes: Forwarding::Reject },
            freshness: Freshness { wait_timeout: second },
            memory: Memory { max_bytes: 1 },
            auth: Auth { method: AuthMethod::Relay, allow_trust: false, users: Vec::new() },
            limits: Limits {
                max_connections_per_role: None,
                max_unauthenticated: 1,
                max_unauthenticated_per_address: 1,
                max_logins: 1,
                max_accepts_per_second: 1,
                max_connections: 1,
                login_timeout: second,
                max_message_bytes: 1,
                max_statements: 1,
                max_upstream: 1,
                upstream_wait: Duration::from_secs(1),
                upstream_idle: Duration::from_secs(1),
            },
            admin: Admin { listen: None },
            log: Log { filter: String::new(), json: false },
            cache: Cache { enabled: true },
        }
    }

    /// The one finding that is not plainly well.
    fn fault(change: impl FnOnce(&mut ServerFacts)) -> (Level, String, String) {
        let mut facts = facts();
        change(&mut facts);
        let mut faults: Vec<Finding> =
            server(&facts, &config()).into_iter().filter(|f| f.level > Level::Ok).collect();
        assert_eq!(faults.len(), 1, "{faults:?}");
        let fault = faults.remove(0);
        (fault.level, fault.what, fault.remedy.expect("a remedy"))
    }

    #[test]
    fn a_server_that_has_everything_has_no_fault() {
        assert!(server(&facts(), &config()).iter().all(|f| f.level == Level::Ok));
        let mut without = facts();
        without.output_plugins = None;
        assert!(server(&without, &config()).iter().all(|f| f.level == Level::Ok));
    }

    #[test]
    fn each_lack_is_one_fault_with_its_remedy() {
        type Change = fn(&mut ServerFacts);
        let cases: [(Change, &str, &str); 9] = [
            (|f| f.in_recovery = true, "the server is a standby", "primary.url"),
            (|f| f.encoding = "LATIN1".to_string(), "LATIN1", "UTF8"),
            (|f| f.wal_level = "replica".to_string(), "wal_level is replica", "set wal_level"),
            (|f| f.used_slots = 10, "10 of 10 replication slots", "max_replication_slots"),
            (|f| f.used_senders = 10, "10 of 10 WAL senders", "max_wal_senders"),
            (|f| f.may_replicate = false, "may not replicate", "alter role millpond replication"),
            (
                |f| f.output_plugins = Some(String::new()),
                "output_plugin_libraries is ''",
                "set output_plugin_libraries",
            ),
            (|f| f.version_num = 130_022, "PostgreSQL", "14 to 18"),
            (|f| f.version_num = 190_000, "PostgreSQL", "14 to 18"),
        ];
        for (change, what, remedy) in cases {
            let fault = fault(change);
            assert_eq!(fault.0, Level::Fatal);
            assert!(fault.1.contains(what) && fault.2.contains(remedy), "{fault:?}");
        }
    }

    #[test]
    fn minors_below_the_floor_are_refused_and_old_ones_warned_of() {
        for (floor, good) in [(140_018, 140_025), (150_013, 150_020), (160_009, 160_016), (170_005, 170_012)]
        {
            assert_eq!(fault(|f| f.version_num = floor - 1).0, Level::Fatal);
            assert_eq!(fault(|f| f.version_num = floor).0, Level::Warning);
            assert_eq!(fault(|f| f.version_num = good - 1).0, Level::Warning);
            let mut facts = facts();
            facts.version_num = good;
            assert_eq!(version(&facts).level, Level::Ok);
        }
        assert_eq!(fault(|f| f.version_num = 180_000).0, Level::Warning);
    }

    #[test]
    fn a_slot_without_a_limit_is_warned_of_when_it_outlives_us() {
        let mut config = config();
        config.replication.checkpoint_dir = Some("checkpoints".into());
        let warned = |facts: &ServerFacts| server(facts, &config).iter().any(|f| f.level == Level::Warning);
        assert!(warned(&facts()));
        let mut limited = facts();
        limited.slot_limit = "10GB".to_string();
        assert!(!warned(&limited));
    }

    #[test]
    fn a_publication_is_well_when_nothing_need_be_done_or_we_may_do_it() {
        let mut plan = Plan::default();
        assert_eq!(publication("p", &plan).level, Level::Ok);
        plan.problems.push("lacks table public.a".to_string());
        plan.statements.push("alter publication p add table only public.a".to_string());
        let finding = publication("p", &plan);
        assert_eq!(finding.level, Level::Fatal);
        assert_eq!(finding.what, "publication p lacks table public.a, and we may not change that");
        assert!(finding.remedy.is_some_and(|r| r.ends_with("add table only public.a")));
        plan.permitted = true;
        assert_eq!(publication("p", &plan).level, Level::Ok);
    }
}
