//! The stream: kept alive, asked, and ended.

use millpond::{
    cli::demo::server::ServerOptions,
    source::{ReplicationConnection, SourceError, SourceErrorKind},
    telemetry::status::Status,
    types::Lsn,
};

use super::{admin, end_of, ids_before, options, patient, primary_seconds, run, target};
use crate::support::{
    postgres::{on_each_version, servers},
    wait::DEADLINE,
};

/// A reader that takes nothing for longer than `wal_sender_timeout` keeps its connection, with the queue
/// full, and then gets everything.
#[tokio::test]
async fn a_stuck_reader_is_not_cut_off() {
    for shared in servers() {
        let server = shared.dedicated(ServerOptions { use_template: true, ..Default::default() });
        let url = &server.url("postgres", "postgres");
        const ROWS: i64 = 700_000;
        let admin = admin(url).await;
        run(&admin, "create table stuck (id int4, filler text); create publication stuck for table stuck")
            .await;
        let impatient = target(&format!("{url}?options=-c%20wal_sender_timeout=1s"));
        let mut replication = ReplicationConnection::connect(&impatient).await.unwrap();
        let status = Status::default();
        replication.create_slot(&impatient, "stuck", true, patient(&status)).await.unwrap();
        let mut stream = replication.start("stuck", Lsn::ZERO, &options("stuck")).await.unwrap();
        run(
            &admin,
            &format!("insert into stuck select i, repeat('x', 50) from generate_series(1, {ROWS}) i"),
        )
        .await;
        run(&admin, "insert into stuck values (-1, '')").await;
        // Three times the timeout.
        primary_seconds(&admin, 3.0).await;
        assert_eq!(ids_before(&mut stream, -1).await, (1..=ROWS).collect::<Vec<_>>());
        drop(stream);
    }
}

/// An asked primary answers at once with its position, which an idle one does not volunteer.
#[tokio::test]
async fn an_idle_primary_answers_questions() {
    for shared in servers() {
        let server = shared.dedicated(ServerOptions { use_template: true, ..Default::default() });
        let url = &server.url("postgres", "postgres");
        let admin = admin(url).await;
        run(&admin, "create publication idle").await;
        let mut replication = ReplicationConnection::connect(&target(url)).await.unwrap();
        let status = Status::default();
        replication.create_slot(&target(url), "idle", true, patient(&status)).await.unwrap();
        let mut rare = options("idle");
        rare.status_interval = DEADLINE * 2;
        let stream = replication.start("idle", Lsn::ZERO, &rare).await.unwrap();
        let mut reader = stream.reader();
        for _ in 0..20 {
            run(&admin, "create table idle_table (id int4); drop table idle_table").await;
            let token: String =
                admin.query_one("select pg_current_wal_flush_lsn()::text", &[]).await.unwrap().get(0);
            let token: Lsn = token.parse().unwrap();
            let mut frames = Vec::new();
            while stream.progress().received() < token {
                stream.progress().ask();
                let next = tokio::time::timeout(DEADLINE, reader.next(&mut frames));
                assert!(next.await.expect("an answer"), "the stream ended");
            }
        }
        drop(stream);
    }
}

/// A publication that disappears ends the stream: by an error up to 17, by a warning from 18 on.
#[tokio::test]
async fn a_lost_publication_ends_the_stream() {
    on_each_version(async |database| {
        let url = &database.url;
        let admin = admin(url).await;
        run(&admin, "create table lost (id int4); create publication lost for table lost").await;
        let slot = database.slot("lost");
        let mut replication = ReplicationConnection::connect(&target(url)).await.unwrap();
        let status = Status::default();
        replication.create_slot(&target(url), &slot, true, patient(&status)).await.unwrap();
        let mut stream = replication.start(&slot, Lsn::ZERO, &options("lost")).await.unwrap();
        run(&admin, "insert into lost values (1)").await;
        assert_eq!(ids_before(&mut stream, 1).await, [0; 0]);
        run(&admin, "drop publication lost; insert into lost values (2)").await;
        let error = end_of(&mut stream).await;
        assert_eq!(matches!(error, SourceError::Notice(_)), database.version_num >= 180_000, "{error}");
        assert_eq!(error.kind(), SourceErrorKind::Bootstrap, "{error}");
    })
    .await;
}

/// A primary that shuts down is not held up: neither by a reader that acknowledges everything, nor by one
/// that has acknowledged something and is stuck.
#[tokio::test]
async fn a_fast_shutdown_is_not_held_up() {
    for shared in servers() {
        let mut server = shared.dedicated(ServerOptions { use_template: true, ..Default::default() });
        let url = &server.url("postgres", "postgres");
        for stuck in [false, true] {
            let admin = admin(url).await;
            run(&admin, "drop publication if exists shut; drop table if exists shut").await;
            run(&admin, "create table shut (id int4); create publication shut for table shut").await;
            let mut replication = ReplicationConnection::connect(&target(url)).await.unwrap();
            let status = Status::default();
            replication.create_slot(&target(url), "shut", true, patient(&status)).await.unwrap();
            let mut stream = replication.start("shut", Lsn::ZERO, &options("shut")).await.unwrap();
            let mut frames = Vec::new();
            let mut reader = stream.reader();
            run(&admin, "insert into shut values (1)").await;
            assert_eq!(ids_before(&mut stream, 1).await, [0; 0]);
            // Now there is a position acknowledged that soon will be too old.
            while stream.progress().flushed() == Lsn::ZERO {
                assert!(reader.next(&mut frames).await, "the stream ended");
                stream.progress().set_flushed(stream.progress().received());
            }
            run(&admin, "insert into shut select generate_series(2, 100)").await;
            drop(admin);
            let stopping = tokio::task::spawn_blocking(move || {
                server.stop_fast();
                server
            });
            let error = match stuck {
                true => {
                    server = stopping.await.unwrap();
                    end_of(&mut stream).await
                }
                false => loop {
                    frames.clear();
                    if reader.next(&mut frames).await {
                        stream.progress().set_flushed(stream.progress().received());
                    } else {
                        server = stopping.await.unwrap();
                        break stream.ended().await;
                    }
                },
            };
            match stuck {
                true => assert!(matches!(error, SourceError::ShutdownStorm), "{error}"),
                false => assert!(matches!(error, SourceError::Ended), "{error}"),
            }
            assert_eq!(error.kind(), SourceErrorKind::Reconnect);
            let log = server.log_tail();
            assert!(log.contains("database system is shut down"), "{log}");
            server.restart().expect("it starts again");
        }
    }
}
