//! pgbench's own transaction: four tables change together, and every snapshot must show it so.

use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use millpond::{cli::demo::server::find_all, store::Store};
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

/// Looks at snapshot after snapshot while others write: the four sums must agree in each. Two readers
/// look at the store, two ask over the port, in one statement.
struct Readers {
    done: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    answers: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Readers {
    /// `columns` are the tables' columns to sum: branches, tellers, accounts, history.
    async fn start(
        mirror: &Mirror,
        (user, database): (&str, &str),
        columns: [(&str, &'static str); 4],
    ) -> Readers {
        let done = Arc::new(AtomicBool::new(false));
        let (looks, answers) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let sums: Vec<String> =
            columns.iter().map(|(table, column)| format!("(select sum({column}) from {table})")).collect();
        let sql = format!("select {}", sums.join(", "));
        let columns = columns.map(|(table, column)| (mirror.table(table).oid, column));
        let reader = |store: Arc<Store>| {
            let (done, looks) = (Arc::clone(&done), Arc::clone(&looks));
            tokio::task::spawn_blocking(move || {
                let mut last = Default::default();
                while !done.load(Ordering::Relaxed) {
                    let snapshot = store.snapshot();
                    assert!(snapshot.lsn() >= last, "a snapshot went back in time");
                    last = snapshot.lsn();
                    let sums = columns.map(|(oid, column)| sum(&snapshot.table(oid).expect("live"), column));
                    assert!(sums.iter().all(|s| *s == sums[0]), "the sums differ at {last}: {sums:?}");
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let mut tasks: Vec<_> = (0..2).map(|_| reader(Arc::clone(&mirror.daemon.store))).collect();
        for _ in 0..2 {
            let client = client::connect(&mirror.url(user, database)).await;
            let (done, answers, sql) = (Arc::clone(&done), Arc::clone(&answers), sql.clone());
            tasks.push(tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let row = client.query_one(&sql, &[]).await.expect("an answer");
                    let sums: [i64; 4] = std::array::from_fn(|i| row.get::<_, Option<i64>>(i).unwrap_or(0));
                    assert!(sums.iter().all(|s| *s == sums[0]), "the sums differ over the port: {sums:?}");
                    let route = client::value(&client, "show millpond.last_route").await;
                    assert!(!route.starts_with("primary"), "{route}");
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        Readers { done, looks, answers, tasks }
    }

    async fn finish(self) {
        self.done.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no violation");
        }
        let looks = self.looks.load(Ordering::Relaxed);
        let answers = self.answers.load(Ordering::Relaxed);
        println!("{looks} snapshots and {answers} answers over the port, 0 violations");
        assert!(looks > 5 && answers > 5, "the readers have looked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_snapshot_conserves_the_sums() {
    on_each_version(async |database| {
        let primary = database.connect().await;
        client::execute(&primary, SETUP).await;
        let mirror = Mirror::start(&database.url, "[\"public.*\"]").await;
        let columns = ["bbalance", "tbalance", "abalance", "delta"];
        let columns = std::array::from_fn(|i| (TABLES[i], columns[i]));
        let readers = Readers::start(&mirror, ("postgres", &database.name), columns).await;
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
        readers.finish().await;
        mirror.assert_equal(&primary, &TABLES).await;
        mirror.stop().await;
    })
    .await;
}

/// The same with pgbench itself where it is installed: `MILLPOND_TEST_PGBENCH=10,30` is scale 10 for
/// 30 seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pgbench_runs_against_the_primary() {
    let Some(pgbench) = find_pgbench() else {
        println!("pgbench is not installed; the test before this one runs its transaction");
        return;
    };
    let size = std::env::var("MILLPOND_TEST_PGBENCH").unwrap_or_else(|_| "1,4".into());
    let (scale, seconds) = size.split_once(',').expect("scale,seconds");
    on_each_version(async |database| {
        let run = |arguments: &[&str]| {
            let output =
                Command::new(&pgbench).args(arguments).arg(&database.url).output().expect("pgbench runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        tokio::task::block_in_place(|| run(&["-i", "-q", "-s", scale]));
        let primary = database.connect().await;
        client::execute(&primary, "alter table pgbench_history replica identity full").await;
        let mirror = Mirror::start(&database.url, "[\"public.*\"]").await;
        let readers = Readers::start(
            &mirror,
            ("postgres", &database.name),
            [
                ("pgbench_branches", "bbalance"),
                ("pgbench_tellers", "tbalance"),
                ("pgbench_accounts", "abalance"),
                ("pgbench_history", "delta"),
            ],
        )
        .await;
        let report = tokio::task::block_in_place(|| run(&["-n", "-c", "4", "-T", seconds]));
        println!("{report}");
        mirror.catch_up(&primary).await;
        readers.finish().await;
        let tables = ["pgbench_branches", "pgbench_tellers", "pgbench_accounts", "pgbench_history"];
        mirror.assert_equal(&primary, &tables).await;
        mirror.stop().await;
    })
    .await;
}

fn find_pgbench() -> Option<PathBuf> {
    let installed = find_all().into_iter().map(|installation| installation.bin_dir);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    installed.chain(on_path).map(|dir| dir.join("pgbench")).find(|file| file.is_file())
}
