//! The program is killed without warning, again and again, under load.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    mirror::{scaled, seed},
    support::{client, postgres::on_each_version, wait::wait_until},
};

/// The program as a process of its own; killed when dropped.
struct Program {
    child: Child,
    url: String,
}

impl Program {
    fn start(primary: &str, database: &str) -> Program {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let child = Command::new(env!("CARGO_BIN_EXE_millpond"))
            .args(["serve", "--tables", "public.*", "--allow-trust", "--admin-listen", ""])
            .args(["--primary-url", primary, "--listen", &free.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        Program { child, url: format!("postgres://postgres@{free}/{database}") }
    }

    /// Whether all tables can be read from memory.
    async fn is_live(&self) -> bool {
        let Ok(client) = client::try_connect(&self.url).await else { return false };
        let sql = "select name from millpond.tables where state = 'live'";
        client.simple_query(sql).await.is_ok_and(|messages| messages.len() >= 2 + 2)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_nothing_and_leaves_no_slot() {
    on_each_version(async |database| {
        let primary = database.connect().await;
        client::execute(
            &primary,
            "create table pairs (id int primary key, a int not null, b int not null);
             create table log (id bigserial primary key, v text);
             insert into pairs select g, 0, 0 from generate_series(1, 1000) g",
        )
        .await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for writer in 0..2u64 {
            let (client, stop, seed) = (database.connect().await, Arc::clone(&stop), seed());
            writers.push(tokio::spawn(async move {
                let mut turn = seed ^ writer;
                while !stop.load(Ordering::Relaxed) {
                    turn = turn.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let (id, by) = (1 + (turn >> 33) % 1000, (turn >> 40) % 100);
                    let sql = format!(
                        "begin; update pairs set a = a + {by} where id = {id}; update pairs set b = b - {by} where id = {id};
                         insert into log (v) values ('{turn}'); commit"
                    );
                    // Two writers may meet on a row; nothing else can go wrong.
                    client::execute(&client, &sql).await;
                }
            }));
        }
        let mut program = Program::start(&database.url, &database.name);
        for _ in 0..scaled(3) {
            wait_until("the tables are live", async || program.is_live().await).await;
            let local = client::connect(&program.url).await;
            for _ in 0..20 {
                let torn = client::rows(&local, "select id, a, b from pairs where id > 0").await;
                let whole = |row: &client::TextRow| {
                    let number = |i: usize| row[i].as_ref().and_then(|n| n.parse::<i64>().ok()).expect("a number");
                    number(1) + number(2) == 0
                };
                assert!(torn.iter().all(whole), "a transaction was seen in part");
            }
            program = Program::start(&database.url, &database.name);
        }
        wait_until("the tables are live", async || program.is_live().await).await;
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.expect("the writer ends");
        }
        let end = client::value(&primary, "select pg_current_wal_flush_lsn() - '0/0'::pg_lsn").await;
        let local = client::connect(&program.url).await;
        wait_until("the stream has caught up", async || {
            let lsn = client::value(&local, "show millpond.lsn").await;
            let (high, low) = lsn.split_once('/').expect("an LSN");
            let part = |hex: &str| u64::from_str_radix(hex, 16).expect("hexadecimal");
            (part(high) << 32 | part(low)) >= end.parse().expect("a position")
        })
        .await;
        for table in ["pairs", "log"] {
            client::assert_same_table(&local, &primary, table).await;
            assert_eq!(client::value(&local, "show millpond.last_route").await, "engine", "{table}");
        }
        drop(program);
        let slots = format!("select count(*) from pg_replication_slots where database = '{}'", database.name);
        wait_until("no slot is left", async || client::value(&primary, &slots).await == "0").await;
    })
    .await;
}
