//! From the exported snapshot to the stream: nothing lost, nothing twice.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use millpond::{
    source::{Copier, ReplicationConnection, SourceError, SourceErrorKind},
    telemetry::status::{Status, TableState},
    types::{Lsn, TypeKind},
};

use super::{Rows, admin, ids_before, int4, options, patient, primary_seconds, run, table, target};
use crate::{
    mirror::scaled,
    support::{postgres::on_each_version, wait::DEADLINE},
};

/// Under load from four writers, every committed id is in the snapshot or in the stream and not in both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_and_stream_meet() {
    on_each_version(async |database| {
        let url = &database.url;
        let rounds = scaled(4) as i64;
        let admin = admin(url).await;
        run(&admin, "create table meet (id int4 primary key)").await;
        run(&admin, "create publication meet for table meet").await;
        let (next, stop) = (Arc::new(AtomicI64::new(1)), Arc::new(AtomicBool::new(false)));
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let (url, next, stop) = (url.to_owned(), Arc::clone(&next), Arc::clone(&stop));
                tokio::spawn(async move {
                    let client = self::admin(&url).await;
                    let insert = client.prepare("insert into public.meet values ($1)").await.unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        let id = next.fetch_add(1, Ordering::Relaxed) as i32;
                        client.execute(&insert, &[&id]).await.unwrap();
                    }
                })
            })
            .collect();
        for round in 1..=rounds {
            let status = Arc::new(Status::default());
            let tables = vec![table(&admin, "meet", &[("id", TypeKind::Int4)]).await];
            let oid = tables[0].schema.oid;
            let mut copier = Copier::prepare(&target(url), tables, 2, DEADLINE).await.unwrap();
            let mut replication = ReplicationConnection::connect(&target(url)).await.unwrap();
            let slot = database.slot(&format!("meet_{round}"));
            let exported =
                replication.create_slot(&target(url), &slot, true, patient(&status)).await.unwrap();
            copier.import(&exported.snapshot_name).await.unwrap();
            let mut stream = replication.start(&slot, Lsn::ZERO, &options("meet")).await.unwrap();
            let rows = Rows::default();
            let all = Arc::clone(&rows.0);
            let totals = copier.run(Arc::new(rows), Arc::clone(&status)).await.unwrap();

            let committed = admin.query("select id from public.meet", &[]).await.unwrap();
            admin.execute("insert into public.meet values ($1)", &[&(-round as i32)]).await.unwrap();
            let streamed = ids_before(&mut stream, -round).await;
            let copied: Vec<i64> = all.lock().iter().map(|row| int4(&row[0])).collect();

            assert_eq!(totals.rows, copied.len() as u64);
            let table = status.table(oid).unwrap();
            assert_eq!((table.state, table.copied_rows), (TableState::CatchingUp, totals.rows));
            let seen: Vec<i64> = copied.iter().chain(&streamed).copied().collect();
            let distinct: HashSet<i64> = seen.iter().copied().collect();
            assert_eq!(seen.len(), distinct.len(), "an id is in the snapshot and in the stream");
            for row in committed {
                let id = i64::from(row.get::<_, i32>(0));
                assert!(
                    distinct.contains(&id),
                    "round {round}: {id} is neither in the snapshot nor in the stream"
                );
            }
        }
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
    })
    .await;
}

/// A snapshot is dead after the next command on its connection.
#[tokio::test]
async fn a_dead_snapshot_is_recognised() {
    on_each_version(async |database| {
        let url = &database.url;
        let admin = admin(url).await;
        run(&admin, "create table dead (id int4)").await;
        let tables = vec![table(&admin, "dead", &[("id", TypeKind::Int4)]).await];
        let mut copier = Copier::prepare(&target(url), tables, 1, DEADLINE).await.unwrap();
        let mut replication = ReplicationConnection::connect(&target(url)).await.unwrap();
        let status = Status::default();
        let slot = database.slot("dead");
        let exported = replication.create_slot(&target(url), &slot, true, patient(&status)).await.unwrap();
        assert_eq!(exported.slot, slot);
        let identity = replication.identify_system().await.unwrap();
        assert!(identity.xlog_pos >= exported.consistent_point && identity.timeline >= 1);
        let error = copier.import(&exported.snapshot_name).await.unwrap_err();
        assert!(matches!(error, SourceError::SnapshotGone(_)), "{error}");
        assert_eq!(error.kind(), SourceErrorKind::Bootstrap);
    })
    .await;
}

/// A `transaction_timeout` of the role (17 and later) ends neither the exported snapshot nor the copy.
#[tokio::test]
async fn a_transaction_timeout_ends_nothing() {
    on_each_version(async |database| {
        let url = &database.url;
        let admin = admin(url).await;
        run(&admin, "create table timed as select generate_series(1, 10) id").await;
        let hasty = match database.version_num {
            170_000.. => target(&format!("{url}?options=-c%20transaction_timeout=300ms")),
            _ => target(url),
        };
        let tables = vec![table(&admin, "timed", &[("id", TypeKind::Int4)]).await];
        let mut copier = Copier::prepare(&hasty, tables, 2, DEADLINE).await.unwrap();
        let mut replication = ReplicationConnection::connect(&hasty).await.unwrap();
        let status = Status::default();
        let exported = replication
            .create_slot(&target(url), &database.slot("timed"), true, patient(&status))
            .await
            .unwrap();
        // Twice the timeout.
        primary_seconds(&admin, 0.6).await;
        copier.import(&exported.snapshot_name).await.unwrap();
        let totals = copier.run(Arc::new(Rows::default()), Arc::default()).await.unwrap();
        assert_eq!(totals.rows, 10);
    })
    .await;
}
