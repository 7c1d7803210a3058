//! The hand-over from copy to stream, under write load: nothing lost, nothing twice.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{scaled, seed, tpcb};
use crate::support::{client, mirror::Mirror, postgres::on_each_version, wait::wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bootstraps_under_load_lose_and_double_nothing() {
    on_each_version(async |database| {
        let primary = database.connect().await;
        client::execute(&primary, tpcb::SETUP).await;
        client::execute(&primary, "create table ids (id bigserial primary key, writer int)").await;
        let seed = seed();
        for round in 0..scaled(4) {
            let stop = Arc::new(AtomicBool::new(false));
            let mut writers = Vec::new();
            for writer in 0..3u64 {
                let (client, stop) = (database.connect().await, Arc::clone(&stop));
                writers.push(tokio::spawn(async move {
                    let mut batch = 0;
                    while !stop.load(Ordering::Relaxed) {
                        batch += 1;
                        tpcb::write(&client, 5, seed ^ (writer << 32) ^ (round as u64) ^ (batch << 40)).await;
                        client::execute(&client, &format!("insert into ids (writer) values ({writer})"))
                            .await;
                    }
                }));
            }
            let mirror = Mirror::start(&database.url, "[\"public.*\"]").await;
            let before = client::value(&primary, "select count(*) from ids").await;
            // Some of what is written must arrive by the stream.
            wait_until("more rows are written", async || {
                client::value(&primary, "select count(*) from ids").await != before
            })
            .await;
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                writer.await.expect("the writer ends");
            }
            mirror.assert_equal(&primary, &["ids"]).await;
            mirror.assert_equal(&primary, &tpcb::TABLES).await;
            mirror.stop().await;
        }
        let slots = format!("select count(*) from pg_replication_slots where database = '{}'", database.name);
        wait_until("no slot is left", async || client::value(&primary, &slots).await == "0").await;
    })
    .await;
}
