//! What DDL means for tables that are mirrored already.

use std::collections::BTreeMap;

use millpond::{
    cli::demo::server::ServerOptions,
    source::schema::{self, TableChangeKind},
    types::TableOid,
};

use super::{Database, rule, table};
use crate::support::postgres::servers;

#[tokio::test]
async fn ddl_is_noticed() {
    use TableChangeKind::*;
    for shared in servers() {
        // On a server of its own: roles, which other tests create meanwhile, are in the fingerprint.
        let server = shared.dedicated(ServerOptions { use_template: true, ..Default::default() });
        let url = &server.url("postgres", "postgres");
        let db = Database::create(url, "encoding 'UTF8'").await;
        let reader = format!("{}_reader", db.name);
        db.run(
            &"create role <reader>;
         create schema other;
         create type mood as enum ('sad', 'glad');
         create type pair as (a int, b int);
         create table t (id int primary key, v int, w varchar(10), m mood, p pair);
         insert into t select i, i, 'w', 'sad', row(i, i)::pair from generate_series(1, 100) i;
         grant select on t to <reader>;
         create table parts (a int primary key, b int) partition by range (a);
         create table parts_1 partition of parts for values from (0) to (10);
         create table parts_2 (a int primary key, b int);
         insert into parts values (1, 1);
         create publication p for table only t, parts with (publish_via_partition_root = true)"
                .replace("<reader>", &reader),
        )
        .await;
        // The statement, whether the fingerprint must change (None: may), and what it means for t and
        // for parts.
        let cases: &[(&str, Option<bool>, TableChangeKind, TableChangeKind)] = &[
            ("select 1", Some(false), Unchanged, Unchanged),
            (
                "insert into t values (1000, 1); update t set v = v + 1; delete from t where id > 50",
                Some(false),
                Unchanged,
                Unchanged,
            ),
            ("analyze", Some(false), Unchanged, Unchanged),
            ("vacuum", Some(false), Unchanged, Unchanged),
            ("vacuum full t", Some(false), Unchanged, Unchanged),
            ("cluster t using t_pkey", None, Unchanged, Unchanged),
            ("reindex table t", Some(false), Unchanged, Unchanged),
            (
                "create temp table temporary (a int primary key); drop table temporary",
                Some(false),
                Unchanged,
                Unchanged,
            ),
            ("truncate t", Some(false), Unchanged, Unchanged),
            ("insert into t values (1, 1)", Some(false), Unchanged, Unchanged),
            ("alter table t add column x int", Some(true), Reshaped, Unchanged),
            ("alter table t rename column x to y", Some(true), Renamed, Unchanged),
            ("alter table t drop column y", Some(true), Reshaped, Unchanged),
            ("alter table t add column y int default 7", Some(true), Reshaped, Unchanged),
            ("alter table t drop column y, add column z int", Some(true), Reshaped, Unchanged),
            ("alter table t alter column v set default 5", Some(true), Unchanged, Unchanged),
            ("alter table t alter column v set statistics 50", Some(true), Unchanged, Unchanged),
            ("alter table t alter column v set not null", Some(true), Renamed, Unchanged),
            ("alter table t alter column v type int using v * 100", Some(true), Reshaped, Unchanged),
            ("alter table t alter column v type bigint", Some(true), Reshaped, Unchanged),
            ("alter table t alter column w type varchar(20)", Some(true), Reshaped, Unchanged),
            (
                "alter table t alter column w type varchar(20) collate \"POSIX\"",
                Some(true),
                Reshaped,
                Unchanged,
            ),
            ("create index t_v on t (v)", Some(true), Reindexed, Unchanged),
            ("alter index t_v rename to t_w", Some(true), Reindexed, Unchanged),
            ("drop index t_w", Some(true), Reindexed, Unchanged),
            ("alter type mood add value 'so-so' before 'glad'", Some(true), Renamed, Unchanged),
            ("alter type mood rename value 'sad' to 'blue'", Some(true), Reshaped, Unchanged),
            ("alter type pair add attribute c int", Some(true), Reshaped, Unchanged),
            ("alter type pair drop attribute c, add attribute c int", Some(true), Reshaped, Unchanged),
            ("alter type mood rename to humour", Some(true), Renamed, Unchanged),
            ("alter table t rename to u", Some(true), Renamed, Unchanged),
            ("alter table u set schema other", Some(true), Renamed, Unchanged),
            (
                "alter table other.u set schema public; alter table u rename to t",
                Some(true),
                Renamed,
                Unchanged,
            ),
            ("alter schema other rename to another", Some(true), Unchanged, Unchanged),
            ("alter table t replica identity full", Some(true), Reshaped, Unchanged),
            ("alter table t replica identity default", Some(true), Reshaped, Unchanged),
            ("alter table t enable row level security", Some(true), Unchanged, Unchanged),
            ("create policy p on t using (id > 1)", Some(true), Unchanged, Unchanged),
            (
                "alter table t disable row level security; drop policy p on t",
                Some(true),
                Unchanged,
                Unchanged,
            ),
            ("revoke select on t from <reader>", Some(true), Unchanged, Unchanged),
            ("alter role <reader> bypassrls", Some(true), Unchanged, Unchanged),
            ("grant pg_read_all_data to <reader>", Some(true), Unchanged, Unchanged),
            ("revoke pg_read_all_data from <reader>", Some(true), Unchanged, Unchanged),
            (
                "alter publication p drop table t; alter publication p add table t",
                Some(true),
                Reshaped,
                Unchanged,
            ),
            ("alter publication p set (publish = 'insert')", Some(true), Reshaped, Reshaped),
            (
                "drop publication p; create publication p for table only t, parts with (publish_via_partition_root = true)",
                Some(true),
                Reshaped,
                Reshaped,
            ),
            (
                "alter table parts attach partition parts_2 for values from (10) to (20)",
                Some(true),
                Unchanged,
                Reshaped,
            ),
            (
                "alter table parts detach partition parts_2; insert into parts_2 values (11, 1); alter table parts attach partition parts_2 for values from (10) to (20)",
                Some(true),
                Unchanged,
                Reshaped,
            ),
            ("alter table parts detach partition parts_2", Some(true), Unchanged, Reshaped),
            ("truncate parts_1", Some(true), Unchanged, Reshaped),
            ("alter table parts alter column b type int using b * 100", Some(true), Unchanged, Reshaped),
            ("alter table parts add column c int default 1", Some(true), Unchanged, Reshaped),
            ("drop table parts_1", Some(true), Unchanged, Reshaped),
            (
                "create table parts_3 partition of parts for values from (30) to (40)",
                Some(true),
                Unchanged,
                Reshaped,
            ),
            ("create table elsewhere (a int)", Some(true), Unchanged, Unchanged),
            ("create view seen as select 1 as a", Some(true), Unchanged, Unchanged),
        ];
        let rules = [rule(&["t", "u", "*.u", "parts"])];
        let load = async || schema::load(&db.client, &rules, Some("p")).await.expect("load");
        let mut old = load().await;
        let mut fingerprint = schema::fingerprint(&db.client).await.expect("fingerprint");
        let (t, parts) = (table(&old, "public.t").oid, table(&old, "public.parts").oid);
        for (sql, fingerprint_changes, of_t, of_parts) in cases {
            for statement in sql.split(';') {
                db.run(&statement.replace("<reader>", &reader)).await;
            }
            let new = load().await;
            let now = schema::fingerprint(&db.client).await.expect("fingerprint");
            let changes: BTreeMap<TableOid, TableChangeKind> =
                schema::changes(&old, &new).iter().map(|c| (c.table, c.kind)).collect();
            assert_eq!(
                (changes.len(), changes.get(&t), changes.get(&parts)),
                (2, Some(of_t), Some(of_parts)),
                "{sql}: {:?} {:?}",
                old.stamps.get(&t),
                new.stamps.get(&t)
            );
            match fingerprint_changes {
                Some(true) => assert_ne!(now, fingerprint, "{sql}"),
                Some(false) => assert_eq!(now, fingerprint, "{sql}"),
                None => {}
            }
            (old, fingerprint) = (new, now);
        }
        // The same name, another table.
        db.run("drop table t; create table t (id int primary key, v bigint)").await;
        let new = load().await;
        let again = new.relation("public", "t").map(|r| r.oid);
        let changes = schema::changes(&old, &new);
        let kind = |oid| changes.iter().find(|c| c.table == oid).map(|c| c.kind);
        assert_eq!(kind(t), Some(Dropped));
        assert_eq!(again.and_then(kind), Some(Added));
        db.drop(&[&reader]).await;
    }
}
