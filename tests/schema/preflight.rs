//! The preflight: one line and one remedy for each thing that is missing.

use std::time::Duration;

use millpond::{
    cli::demo::server::ServerOptions,
    config::*,
    source::{
        preflight::{self, Level},
        publication, schema,
    },
};

use super::{Database, rule, tables_of, urls};
use crate::support::postgres::servers;

fn config(tables: Vec<TableRule>) -> Config {
    Config {
        primary: Primary {
            url: String::new(),
            password: None,
            passfile: None,
            start_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
        },
        listen: Listen {
            address: ([127, 0, 0, 1], 0).into(),
            unix_socket_dir: None,
            unix_socket_permissions: 0o777,
            tls: None,
            threads: 1,
        },
        tables,
        replication: Replication {
            mode: ReplicationMode::Auto,
            slot: "millpond_test".to_string(),
            publication: "p".to_string(),
            checkpoint_dir: None,
            copy_workers: 1,
            slot_timeout: Duration::from_secs(1),
            lock_timeout: Duration::from_secs(1),
            status_interval: Duration::from_secs(1),
            catalog_interval: Duration::from_secs(1),
            max_transaction_bytes: 1 << 20,
        },
        fallthrough: Fallthrough { reads: Forwarding::Forward, writes: Forwarding::Reject },
        freshness: Freshness { wait_timeout: Duration::from_secs(1) },
        memory: Memory { max_bytes: 1 << 20 },
        auth: Auth { method: AuthMethod::Relay, allow_trust: false, users: Vec::new() },
        limits: Limits {
            max_connections_per_role: None,
            max_unauthenticated: 1,
            max_unauthenticated_per_address: 1,
            max_logins: 1,
            max_accepts_per_second: 1,
            max_connections: 1,
            login_timeout: Duration::from_secs(1),
            max_message_bytes: 1 << 20,
            max_statements: 1,
            max_upstream: 1,
            upstream_wait: Duration::from_secs(1),
            upstream_idle: Duration::from_secs(1),
        },
        admin: Admin { listen: None },
        log: Log { filter: "info".to_string(), json: false },
        cache: Cache { enabled: true },
    }
}

#[tokio::test]
async fn preflight_names_what_is_missing() {
    for shared in servers() {
        // All its replication slots are taken up.
        let settings = vec![("max_replication_slots".to_owned(), "4".to_owned())];
        let server = shared.dedicated(ServerOptions { settings, use_template: true, ..Default::default() });
        let url = &server.url("postgres", "postgres");
        let db = Database::create(url, "encoding 'UTF8'").await;
        let us = format!("{}_us", db.name);
        db.run(&format!(
            "create role {us} login password 'secret';
         create table good (x int primary key);
         create table unread (x int primary key);
         create table no_key (x int);
         create table guarded (x int primary key);
         alter table guarded enable row level security;
         grant select on good, no_key, guarded to {us}"
        ))
        .await;
        // Everything well: for a superuser and good tables.
        let report = preflight::check(&db.client, &config(vec![rule(&["good", "unread"])])).await;
        assert!(report.is_complete() && !report.is_fatal(), "{report}");
        assert!(
            report
                .findings
                .iter()
                .any(|f| f.level == Level::Ok && f.what == "publication p can be brought into line")
        );

        // One line and one remedy for each thing that is missing.
        let client = db.connect_as(&us).await;
        let report = preflight::check(
            &client,
            &config(vec![rule(&["good", "unread", "no_key", "guarded", "nowhere"])]),
        )
        .await;
        assert!(report.is_fatal() && !report.is_complete());
        let missing: Vec<(Level, String, String)> = report
            .findings
            .iter()
            .filter(|f| !f.ok())
            .map(|f| (f.level, f.what.clone(), f.remedy.clone().unwrap_or_default()))
            .collect();
        let expected = [
        (Level::Fatal, format!("role {us} may not replicate"), format!("alter role {us} replication")),
        (Level::Missing, format!("public.guarded: row security hides rows from role {us}"), format!("alter role {us} bypassrls")),
        (Level::Missing, "public.no_key: no primary key".to_string(), "add a primary key, or alter table public.no_key replica identity full".to_string()),
        (Level::Missing, format!("public.unread: role {us} may not SELECT from it"), format!("grant select on table public.unread to {us}")),
        (Level::Missing, "table public.nowhere does not exist".to_string(), "correct the [[tables]] rules, or create what they name".to_string()),
        (
            Level::Fatal,
            "publication p does not exist, and we may not change that".to_string(),
            "let its owner run sql/setup.sql, or: create publication p for table only public.good with (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)".to_string(),
        ),
    ];
        assert_eq!(missing, expected);
        assert!(report.to_string().contains(&format!(
            "error: role {us} may not replicate\n  remedy: alter role {us} replication\n"
        )));

        // Mended as it says, by the very commands.
        for (_, _, remedy) in &missing {
            if let Some(sql) = remedy.strip_prefix("let its owner run sql/setup.sql, or: ") {
                db.run(sql).await;
            } else if let Some(sql) = remedy.strip_prefix("add a primary key, or ") {
                db.run(sql).await;
            } else if !remedy.starts_with("correct") {
                db.run(remedy).await;
            }
        }
        db.run("alter publication p add table unread, no_key, guarded").await;
        let report =
            preflight::check(&client, &config(vec![rule(&["good", "unread", "no_key", "guarded"])])).await;
        assert!(report.is_complete(), "{report}");

        // Slots: all in use by others, or one of them by us.
        let free: i64 = db
            .client
            .query_one(
                "select current_setting('max_replication_slots')::int8 - count(*) from pg_replication_slots",
                &[],
            )
            .await
            .expect("slots")
            .get(0);
        for i in 0..free {
            db.run(&format!("select pg_create_logical_replication_slot('{}_{i}', 'pgoutput')", db.name))
                .await;
        }
        let mut with_slot = config(vec![rule(&["good"])]);
        let report = preflight::check(&client, &with_slot).await;
        assert!(report.is_fatal() && report.to_string().contains("replication slots are in use"), "{report}");
        with_slot.replication.slot = format!("{}_0", db.name);
        assert!(!preflight::check(&client, &with_slot).await.is_fatal());
        db.run("select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()").await;
        drop(client);
        db.drop(&[&us]).await;

        let latin = Database::create(url, "encoding 'LATIN1' locale 'C'").await;
        let report = preflight::check(&latin.client, &config(vec![rule(&["*"])])).await;
        assert!(report.is_fatal() && report.to_string().contains("encoded in LATIN1"), "{report}");
        latin.drop(&[]).await;
    }
}

/// The script for administrators does what it promises.
#[tokio::test]
async fn the_setup_script_suffices() {
    for url in &urls() {
        let db = Database::create(url, "encoding 'UTF8'").await;
        db.run("create table a (x int primary key); create table b (x int primary key, y text)").await;
        let role = format!("{}_us", db.name);
        let script = include_str!("../../sql/setup.sql")
            .replace("<role>", &role)
            .replace("<password>", "secret")
            .replace("<publication>", "p")
            .replace("<tables>", "a, b");
        db.run(&script).await;
        let client = db.connect_as(&role).await;
        let report = preflight::check(&client, &config(vec![rule(&["*"])])).await;
        assert!(report.is_complete(), "{report}");
        let catalog = schema::load(&client, &[rule(&["*"])], Some("p")).await.expect("load");
        publication::ensure(&client, "p", &tables_of(&catalog).await).await.expect("it is enough");
        drop(client);
        db.drop(&[&role]).await;
    }
}
