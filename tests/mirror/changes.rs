//! Single kinds of change, each compared with the primary afterwards.

use crate::support::{client, mirror::Mirror, postgres::on_each_version};

/// Runs each script in turn on both and compares all tables after each.
async fn check(setup: &str, tables: &[&str], scripts: &[&str]) {
    on_each_version(async |database| {
        let primary = database.connect().await;
        client::execute(&primary, setup).await;
        let mirror = Mirror::start(&database.url, "[\"public.*\"]").await;
        mirror.assert_equal(&primary, tables).await;
        let copied: Vec<_> = tables.iter().map(|table| mirror.table(table).last_refresh).collect();
        for script in scripts {
            println!("{script}");
            client::execute(&primary, script).await;
            mirror.assert_equal(&primary, tables).await;
        }
        // A table that was quarantined would have been copied anew.
        let still: Vec<_> = tables.iter().map(|table| mirror.table(table).last_refresh).collect();
        assert_eq!(copied, still, "no table was copied again");
        assert_eq!(mirror.daemon.status.replication().reconnects, 0, "one stream brought it all");
        mirror.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_changes_of_one_row_in_one_transaction() {
    check(
        "create table t (id int primary key, v text); insert into t select g, g::text from generate_series(1, 9) g",
        &["t"],
        &[
            "begin; insert into t values (20, 'a'); update t set v = 'b' where id = 20; delete from t where id = 20; commit",
            "begin; delete from t where id = 1; insert into t values (1, 'again'); update t set v = 'twice' where id = 1; commit",
            "begin; update t set id = -1 where id = 1; update t set id = 1 where id = 2; update t set id = 2 where id = -1; commit",
            "begin; update t set id = id + 100; update t set v = v || '!' where id > 103; commit",
            "begin; savepoint a; insert into t values (50, 'gone'); rollback to a; insert into t values (51, 'stays'); commit",
            "begin; truncate t; insert into t values (1, 'after'); commit",
            "begin; insert into t values (2, 'before'); truncate t; rollback",
            "insert into t select g, repeat('x', g) from generate_series(100, 400) g; delete from t where id % 3 = 0",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_replica_identity() {
    check(
        "create table by_key (a int, b int, v text, primary key (b, a));
         create table by_index (a int not null unique, b int not null, v text);
         alter table by_index replica identity using index by_index_a_key;
         create table by_all (a int, v text, n numeric, f float8); alter table by_all replica identity full;
         create table by_all_keyed (id int primary key, v text); alter table by_all_keyed replica identity full;
         insert into by_all values (1, 'x', 1.0, '-0'), (1, 'x', 1.00, 0), (1, 'x', 1.0, '-0'), (null, null, 'NaN', 'NaN')",
        &["by_key", "by_index", "by_all", "by_all_keyed"],
        &[
            "insert into by_key select g, g, 'v' from generate_series(1, 20) g; update by_key set a = a + 1 where b > 10",
            "insert into by_index select g, g, 'v' from generate_series(1, 20) g; update by_index set v = 'w' where a = 3; update by_index set a = 77 where a = 4; delete from by_index where a = 5",
            "delete from by_all where ctid = (select min(ctid) from by_all where a = 1)",
            "update by_all set v = null where n = 'NaN'",
            "update by_all set n = 2.50 where ctid = (select max(ctid) from by_all where a = 1)",
            "delete from by_all where a is null; insert into by_all select 1, 'x', 1.0, '-0' from generate_series(1, 5)",
            "insert into by_all_keyed values (1, 'a'), (2, 'b'); update by_all_keyed set id = 3 where id = 1; delete from by_all_keyed where id = 2",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unchanged_toast_is_our_own_row() {
    check(
        "create table t (id int primary key, big text, small int); alter table t alter big set storage external;
         create table f (id int, big text, small int); alter table f alter big set storage external;
         alter table f replica identity full;
         insert into t select g, repeat(chr(64 + g), 9000 + g), g from generate_series(1, 5) g;
         insert into f select * from t",
        &["t", "f"],
        &[
            "update t set small = small + 1; update f set small = small + 1",
            "update t set id = id + 10; update f set id = id + 10",
            "begin; update t set small = 0; update t set big = repeat('z', 12000) where id = 11; update t set small = 1; commit",
            "insert into t values (99, repeat('q', 10000), 1); update t set small = 2 where id = 99; update f set big = null where id = 12; update f set small = 9",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_through_their_root() {
    check(
        "create table p (id int, region text, v int, primary key (id, region)) partition by list (region);
         create table p_a partition of p for values in ('a'); create table p_b partition of p for values in ('b');
         create table p_rest partition of p default;
         insert into p select g, case g % 3 when 0 then 'a' when 1 then 'b' else 'c' end, g from generate_series(1, 30) g",
        &["p"],
        &[
            "update p set v = v + 1",
            "update p set region = 'b' where region = 'a' and id < 10",
            "insert into p values (100, 'a', 1), (101, 'zzz', 2); delete from p where id % 5 = 0",
            "truncate p; insert into p values (1, 'a', 1)",
        ],
    )
    .await;
}

/// A small `logical_decoding_work_mem` makes every transaction of some size a streamed one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_streamed_while_they_run() {
    for shared in crate::support::postgres::servers() {
        let options = millpond::cli::demo::server::ServerOptions {
            settings: vec![("logical_decoding_work_mem".into(), "64kB".into())],
            use_template: true,
            ..Default::default()
        };
        let server = shared.dedicated(options);
        let url = server.url("postgres", "postgres");
        let (one, two) = (client::connect(&url).await, client::connect(&url).await);
        let setup =
            "create table t (id int primary key, v text); create table u (id int primary key, v text)";
        client::execute(&one, setup).await;
        let mirror = Mirror::start(&url, "[\"public.*\"]").await;
        let tables = ["t", "u"];
        // Two interleaved large transactions, with parts rolled back, and one that is rolled back whole.
        client::execute(
            &one,
            "begin; insert into t select g, repeat('a', 100) from generate_series(1, 5000) g",
        )
        .await;
        client::execute(
            &two,
            "begin; insert into u select g, repeat('b', 100) from generate_series(1, 5000) g",
        )
        .await;
        client::execute(&one, "savepoint s; update t set v = repeat('c', 100); rollback to s").await;
        client::execute(
            &two,
            "savepoint s; delete from u where id > 4000; savepoint s2; truncate u; rollback to s2",
        )
        .await;
        client::execute(
            &one,
            "savepoint s3; insert into t select g, 'kept' from generate_series(6000, 9000) g; release s3",
        )
        .await;
        client::execute(&two, "update u set v = 'x' where id < 100; commit").await;
        mirror.assert_equal(&two, &tables).await;
        client::execute(&one, "commit").await;
        mirror.assert_equal(&one, &tables).await;
        client::execute(&one, "begin; update t set v = repeat('d', 200); delete from u; rollback").await;
        mirror.assert_equal(&one, &tables).await;
        client::execute(&one, "begin; update t set v = 'e'; truncate u; insert into u select g, 'new' from generate_series(1, 3000) g; commit").await;
        mirror.assert_equal(&one, &tables).await;
        assert_eq!(mirror.daemon.status.replication().reconnects, 0);
        mirror.stop().await;
    }
}
