//! Tables that change their shape, come and go, while others are followed.

use millpond::telemetry::status::{TableState, TableStatus};

use crate::support::{client, mirror::Mirror, postgres::on_each_version, wait::wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reshaped_table_is_copied_again_and_the_others_go_on() {
    on_each_version(async |database| {
        let primary = database.connect().await;
        client::execute(
            &primary,
            "create table t (id int primary key, v int); create table other (id int primary key, v int);
             insert into t select g, g from generate_series(1, 100) g; insert into other select * from t",
        )
        .await;
        let mirror = Mirror::start(&database.url, "[\"public.*\"]").await;
        let others_copy = mirror.table("other").last_refresh;
        for script in [
            "alter table t add column c text default 'x'; insert into t values (200, 200, 'y')",
            "alter table t drop column c; update t set v = v + 1 where id < 5",
            "alter table t alter column v type bigint using v * 100; delete from t where id = 7",
            "alter table t rename column v to w; update t set w = 0 where id = 8",
            "alter table t replica identity full; update t set w = 1 where id = 9; delete from t where id = 10",
            "alter table t add column v int; update t set v = id",
            "alter table t alter column w type bigint using w + 1",
        ] {
            println!("{script}");
            let copied = mirror.table("t").last_refresh;
            client::execute(&primary, script).await;
            wait_until("the table is copied again", async || {
                let t = mirror.table("t");
                t.state == TableState::Live && t.last_refresh != copied
            })
            .await;
            client::execute(&primary, "update other set v = v + 1").await;
            mirror.assert_equal(&primary, &["t", "other"]).await;
        }
        assert_eq!(mirror.table("other").last_refresh, others_copy, "the other was never copied again");
        mirror.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_come_and_go() {
    on_each_version(async |database| {
        let primary = database.connect().await;
        client::execute(&primary, "create table a (id int primary key); create table b (id int primary key)").await;
        let mirror = Mirror::start(&database.url, "[\"public.*\"]").await;
        client::execute(&primary, "create table c (id int primary key, v text); insert into c values (1, 'x')").await;
        mirror.wait_live("c").await;
        client::execute(&primary, "insert into c values (2, 'y'); update c set v = 'z' where id = 1").await;
        mirror.assert_equal(&primary, &["a", "b", "c"]).await;
        client::execute(&primary, "drop table b").await;
        wait_until("b is gone", async || {
            !mirror.daemon.status.tables().iter().any(|t| t.name == "b")
        })
        .await;
        client::execute(&primary, "drop table c; create table c (other text primary key); insert into c values ('new')")
            .await;
        let oid = client::value(&primary, "select 'c'::regclass::oid").await;
        wait_until("c is the new one", async || {
            let tables = mirror.daemon.status.tables();
            let is_new = |t: &&TableStatus| t.oid.to_string() == oid && t.state == TableState::Live;
            tables.iter().filter(|t| t.name == "c").count() == 1 && tables.iter().any(|t| is_new(&t))
        })
        .await;
        client::execute(&primary, "insert into c values ('more')").await;
        mirror.assert_equal(&primary, &["a", "c"]).await;
        // A type without a known binary form: the stream begins again in text.
        client::execute(&primary, "create table d (id int primary key, q tsquery, v int4[]); insert into d values (1, 'a & b', '{1,null}')").await;
        mirror.wait_live("d").await;
        client::execute(&primary, "update d set v = '[2:3]={5,6}'; insert into a values (1)").await;
        mirror.assert_equal(&primary, &["a", "c", "d"]).await;
        mirror.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_mirrored_says_why_and_harms_nobody() {
    on_each_version(async |database| {
        let primary = database.connect().await;
        client::execute(
            &primary,
            "create table good (id int primary key); create table no_key (id int); create unlogged table fast (id int primary key);
             create view v as select 1 as x; create table lazy (id int primary key deferrable)",
        )
        .await;
        let mirror = Mirror::start(&database.url, "[\"public.*\"]").await;
        for name in ["no_key", "fast", "lazy"] {
            let table = mirror.table(name);
            assert_eq!(table.state, TableState::Unsupported, "{table:?}");
            assert!(table.reason.is_some_and(|reason| !reason.is_empty()), "{name} says why");
        }
        // A published table without a usable identity would make these fail.
        client::execute(&primary, "insert into no_key values (1); update no_key set id = 2; delete from no_key").await;
        client::execute(&primary, "insert into lazy values (1); update lazy set id = 2; delete from lazy").await;
        client::execute(&primary, "insert into good values (1)").await;
        mirror.assert_equal(&primary, &["good"]).await;
        // Mended, it is picked up by itself.
        client::execute(&primary, "alter table no_key replica identity full; insert into no_key values (1), (1)").await;
        mirror.wait_live("no_key").await;
        mirror.assert_equal(&primary, &["good", "no_key"]).await;
        mirror.stop().await;
    })
    .await;
}
