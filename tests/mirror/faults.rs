//! The primary is lost, in several ways; afterwards nothing differs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use millpond::{cli::demo::server::ServerOptions, telemetry::status::ReplicationState};

use super::{scaled, seed, tpcb};
use crate::support::{client, mirror::Mirror, postgres::servers, wait::wait_until};

/// Writes until told to stop, whatever happens to the connection.
async fn write_on(url: String, stop: Arc<AtomicBool>, seed: u64) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(client) = client::try_connect(&url).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let mut turn = 0u64;
        while !stop.load(Ordering::Relaxed) {
            turn += 1;
            let value = seed.wrapping_mul(turn) % 1000;
            let sql = format!(
                "begin; update accounts set abalance = abalance + {value} where aid = {};
                 insert into history (delta) values ({value}); commit",
                1 + turn % 2000
            );
            if client.batch_execute(&sql).await.is_err() {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_immediate_stop_of_the_primary_leaves_no_difference() {
    for shared in servers() {
        let mut server = shared.dedicated(ServerOptions { use_template: true, ..Default::default() });
        let url = server.url("postgres", "postgres");
        client::execute(&client::connect(&url).await, tpcb::SETUP).await;
        let mirror = Mirror::start(&url, "[\"public.*\"]").await;
        let stop = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn(write_on(url.clone(), Arc::clone(&stop), seed()));
        for round in 0..scaled(3) {
            let rows = mirror.table("history").rows;
            wait_until("rows arrive", async || mirror.table("history").rows > rows).await;
            let reconnects = mirror.daemon.status.replication().reconnects;
            if round % 3 == 2 {
                server.stop_fast()
            } else {
                server.stop_immediate()
            }
            wait_until("the loss is noticed", async || {
                let replication = mirror.daemon.status.replication();
                replication.reconnects > reconnects || replication.state == ReplicationState::Disconnected
            })
            .await;
            // What was there is still served.
            let snapshot = mirror.daemon.store.snapshot();
            assert!(!mirror.rows_at(&snapshot, "accounts").is_empty());
            server.restart().expect("the primary starts again");
            wait_until("the stream runs again", async || {
                mirror.daemon.status.replication().state == ReplicationState::Streaming
            })
            .await;
        }
        stop.store(true, Ordering::Relaxed);
        writer.await.expect("the writer ends");
        let primary = client::connect(&url).await;
        mirror.assert_equal(&primary, &tpcb::TABLES).await;
        mirror.stop().await;
        let slots = "select count(*) from pg_replication_slots";
        wait_until("no slot is left", async || client::value(&primary, slots).await == "0").await;
    }
}

/// With a permanent slot the stream goes on where it was; what comes twice is passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permanent_slot_goes_on_without_a_new_copy() {
    for shared in servers() {
        let mut server = shared.dedicated(ServerOptions { use_template: true, ..Default::default() });
        let url = server.url("postgres", "postgres");
        client::execute(&client::connect(&url).await, tpcb::SETUP).await;
        let directory = tempfile::tempdir().expect("a folder");
        let more = format!("checkpoint_dir = {:?}", directory.path());
        let mirror = Mirror::begin(&url, "[\"public.*\"]", &more);
        mirror.daemon.ready().await;
        let copied = mirror.table("accounts").last_refresh;
        let stop = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn(write_on(url.clone(), Arc::clone(&stop), seed()));
        for round in 0..scaled(3) {
            let rows = mirror.table("history").rows;
            wait_until("rows arrive", async || mirror.table("history").rows > rows).await;
            if round % 2 == 0 {
                server.stop_immediate();
                server.restart().expect("the primary starts again");
            } else {
                let admin = client::connect(&url).await;
                client::execute(&admin, "select pg_terminate_backend(pid) from pg_stat_replication").await;
            }
        }
        stop.store(true, Ordering::Relaxed);
        writer.await.expect("the writer ends");
        let primary = client::connect(&url).await;
        mirror.assert_equal(&primary, &tpcb::TABLES).await;
        assert!(mirror.daemon.status.replication().reconnects > 0);
        assert_eq!(mirror.table("accounts").last_refresh, copied, "no new copy was needed");
        mirror.stop().await;
        let slots = "select count(*) from pg_replication_slots";
        wait_until("no slot is left", async || client::value(&primary, slots).await == "0").await;
    }
}

/// A slot that was dropped and made anew has a gap that nobody would tell us of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permanent_slot_that_was_made_anew_is_noticed() {
    for shared in servers() {
        let server = shared.dedicated(ServerOptions { use_template: true, ..Default::default() });
        let url = server.url("postgres", "postgres");
        let primary = client::connect(&url).await;
        client::execute(&primary, "create table t (id int primary key); insert into t values (1)").await;
        let directory = tempfile::tempdir().expect("a folder");
        let more = format!("checkpoint_dir = {:?}\nslot = \"mine\"", directory.path());
        let mirror = Mirror::begin(&url, "[\"public.*\"]", &more);
        mirror.daemon.ready().await;
        let copied = mirror.table("t").last_refresh;
        // Our connection is ended and the slot replaced before we are back: as one script, again and
        // again until the replacement came first.
        let replace =
            "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'mine';
            do $$ begin
                for i in 1 .. 1000 loop
                    begin
                        perform pg_drop_replication_slot('mine');
                        exit;
                    exception when object_in_use then perform pg_sleep(0.001);
                    end;
                end loop;
            end $$;
            insert into t select coalesce(max(id), 0) + 1 from t;
            select pg_create_logical_replication_slot('mine', 'pgoutput');";
        while mirror.table("t").last_refresh == copied {
            // An error: we were back first.
            let _ = primary.batch_execute(replace).await;
            wait_until("the stream runs", async || {
                mirror.daemon.status.replication().state == ReplicationState::Streaming
            })
            .await;
            mirror.assert_equal(&primary, &["t"]).await;
        }
        mirror.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_may_be_gone_in_the_middle_of_a_copy() {
    for shared in servers() {
        let mut server = shared.dedicated(ServerOptions { use_template: true, ..Default::default() });
        let url = server.url("postgres", "postgres");
        let primary = client::connect(&url).await;
        client::execute(
            &primary,
            "create table t (id int primary key, v text);
             insert into t select g, repeat('x', 200) from generate_series(1, 200000) g",
        )
        .await;
        drop(primary);
        let mirror = Mirror::begin(&url, "[\"public.*\"]", "");
        wait_until("the copy runs", async || mirror.daemon.status.tables().iter().any(|t| t.copied_rows > 0))
            .await;
        server.stop_immediate();
        server.restart().expect("the primary starts again");
        mirror.daemon.ready().await;
        let primary = client::connect(&url).await;
        client::execute(&primary, "delete from t where id > 100").await;
        mirror.assert_equal(&primary, &["t"]).await;
        mirror.stop().await;
        let slots = "select count(*) from pg_replication_slots";
        wait_until("no slot is left", async || client::value(&primary, slots).await == "0").await;
    }
}
