//! pgbench's own transaction: four tables change together, and every snapshot must show it so.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use millpond::store::Store;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio_postgres::Client;

use super::{scaled, seed};
use crate::support::{
    client,
    mirror::{Mirror, sum},
    postgres::on_each_version,
};

const SCALE: i32 = 2;
const ACCOUNTS: i32 = 2_000;

pub(super) const SETUP: &str = "
    create table branches (bid int primary key, bbalance int not null, filler char(88));
    create table tellers (tid int primary key, bid int, tbalance int not null, filler char(84));
    create table accounts (aid int primary key, bid int, abalance int not null, filler char(84));
    create table history (tid int, bid int, aid int, delta int not null, mtime timestamp, filler char(22));
    alter table history replica identity full;
    insert into branches select g, 0, null from generate_series(1, 2) g;
    insert into tellers select g, 1 + g % 2, 0, '' from generate_series(1, 20) g;
    insert into accounts select g, 1 + g % 2, 0, '' from generate_series(1, 2000) g;";

pub(super) const TABLES: [&str; 4] = ["branches", "tellers", "accounts", "history"];

/// One client's transactions, TPC-B as pgbench runs it.
pub(super) async fn write(client: &Client, transactions: usize, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..transactions {
        let (aid, bid) = (rng.random_range(1..=ACCOUNTS), rng.random_range(1..=SCALE));
        let (tid, delta) = (rng.random_range(1..=10 * SCALE), rng.random_range(-5000..=5000));
        client::execute(
            client,
            &format!(
                "begin;
                 update accounts set abalance = abalance + {delta} where aid = {aid};
                 update tellers set tbalance = tbalance + {delta} where tid = {tid};
                 update branches set bbalance = bbalance + {delta} where bid = {bid};
                 insert into history (tid, bid, aid, delta, mtime)
                 values ({tid}, {bid}, {aid}, {delta}, current_timestamp);
                 commit"
            ),
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_snapshot_conserves_the_sums() {
    on_each_version(async |database| {
        let primary = database.connect().await;
        client::execute(&primary, SETUP).await;
        let mirror = Mirror::start(&database.url, "[\"public.*\"]").await;
        let oids = TABLES.map(|name| mirror.table(name).oid);
        let done = Arc::new(AtomicBool::new(false));
        let looks = Arc::new(AtomicU64::new(0));
        let reader = |store: Arc<Store>| {
            let (done, looks) = (Arc::clone(&done), Arc::clone(&looks));
            tokio::task::spawn_blocking(move || {
                let mut last = Default::default();
                while !done.load(Ordering::Relaxed) {
                    let snapshot = store.snapshot();
                    assert!(snapshot.lsn() >= last, "a snapshot went back in time");
                    last = snapshot.lsn();
                    let [branches, tellers, accounts, history] =
                        oids.map(|oid| snapshot.table(oid).expect("live"));
                    let expected = sum(&branches, "bbalance");
                    assert_eq!(sum(&tellers, "tbalance"), expected, "tellers at {last}");
                    assert_eq!(sum(&accounts, "abalance"), expected, "accounts at {last}");
                    assert_eq!(sum(&history, "delta"), expected, "history at {last}");
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let readers = [reader(Arc::clone(&mirror.daemon.store)), reader(Arc::clone(&mirror.daemon.store))];
        let seed = seed();
        let mut writers = Vec::new();
        for writer in 0..4 {
            let client = database.connect().await;
            writers.push(tokio::spawn(async move { write(&client, scaled(300), seed ^ writer).await }));
        }
        for writer in writers {
            writer.await.expect("the writer ends");
        }
        mirror.catch_up(&primary).await;
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.expect("no violation");
        }
        assert!(looks.load(Ordering::Relaxed) > 10, "the readers have looked");
        mirror.assert_equal(&primary, &TABLES).await;
        mirror.stop().await;
    })
    .await;
}
