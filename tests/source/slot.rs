//! Slots: who they wait for, and when they go.

use std::{sync::Arc, time::Duration};

use millpond::{
    cli::demo::server::ServerOptions,
    source::{Copier, ReplicationConnection, SlotWait, SourceError, SourceErrorKind},
    telemetry::status::Status,
    types::{Lsn, TypeKind},
};
use tokio_postgres::Client;

use super::{admin, options, patient, run, table, target};
use crate::support::{
    postgres::{on_each_version, servers},
    wait::{DEADLINE, wait_until},
};

async fn slots(admin: &Client, name: &str) -> i64 {
    let count = "select count(*) from pg_replication_slots where slot_name = $1";
    admin.query_one(count, &[&name]).await.unwrap().get(0)
}

/// Any error of its session takes a temporary slot along; a permanent one stays until it is dropped.
#[tokio::test]
async fn a_temporary_slot_goes_with_its_session() {
    on_each_version(async |database| {
        let url = &database.url;
        let (admin, status) = (admin(url).await, Status::default());
        let (temporary, permanent) = (database.slot("temporary"), database.slot("permanent"));
        let mut first = ReplicationConnection::connect(&target(url)).await.unwrap();
        first.create_slot(&target(url), &temporary, true, patient(&status)).await.unwrap();
        assert_eq!(slots(&admin, &temporary).await, 1);
        let error = first.start("no_such_slot", Lsn::ZERO, &options("none")).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Bootstrap, "{error}");
        wait_until("the slot is gone", async || slots(&admin, &temporary).await == 0).await;

        let mut second = ReplicationConnection::connect(&target(url)).await.unwrap();
        second.create_slot(&target(url), &permanent, false, patient(&status)).await.unwrap();
        drop(second);
        assert_eq!(slots(&admin, &permanent).await, 1);
        let mut third = ReplicationConnection::connect(&target(url)).await.unwrap();
        third.drop_slot(&permanent).await.unwrap();
        assert_eq!(slots(&admin, &permanent).await, 0);
    })
    .await;
}

/// A slot that waits for a transaction says for which; it gives up when others wait for our locks.
#[tokio::test]
async fn a_blocked_slot_names_who_blocks() {
    for shared in servers() {
        let server = shared.dedicated(ServerOptions { use_template: true, ..Default::default() });
        let url = &server.url("postgres", "postgres");
        let (admin, holder) = (admin(url).await, admin(url).await);
        run(&admin, "create table blocked (id int4)").await;
        run(&holder, "begin; select pg_current_xact_id()").await;
        let pid: i32 = holder.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);

        let status = Arc::new(Status::default());
        let create = |name: &'static str, lock_holders: Vec<i32>| {
            let (status, url) = (Arc::clone(&status), url.to_owned());
            tokio::spawn(async move {
                let mut replication = ReplicationConnection::connect(&target(&url)).await?;
                let wait = SlotWait {
                    timeout: Duration::from_millis(100),
                    lock_holders: &lock_holders,
                    status: &status,
                };
                replication.create_slot(&target(&url), name, true, wait).await
            })
        };
        let named = async || {
            let error = status.replication().last_error.unwrap_or_default();
            error.contains(&format!("pid {pid} "))
        };
        let creation = create("blocked_one", Vec::new());
        wait_until("the blocker is named", named).await;
        run(&holder, "commit").await;
        creation.await.unwrap().unwrap();
        assert_eq!(status.replication().last_error, None);

        run(&holder, "begin; select pg_current_xact_id()").await;
        let copied = table(&admin, "blocked", &[("id", TypeKind::Int4)]).await;
        let copier = Copier::prepare(&target(url), vec![copied], 1, DEADLINE).await.unwrap();
        let creation = create("blocked_two", copier.process_ids());
        wait_until("the blocker is named", named).await;
        let waiter =
            tokio::spawn(async move { admin.batch_execute("alter table public.blocked add x int4").await });
        let error = creation.await.unwrap().unwrap_err();
        assert!(matches!(error, SourceError::SlotBlocked { waiting: 1, .. }), "{error}");
        drop(copier);
        waiter.await.unwrap().unwrap();
        run(&holder, "commit").await;
        wait_until("the slot is gone", async || slots(&holder, "blocked_two").await == 0).await;
    }
}
