//! What a session is: settings, roles, its own writes, cancelling, and what it may not do.

use tokio_postgres::NoTls;

use super::{
    Ports,
    raw::{self, RawClient},
    route,
};
use crate::support::{
    client::{self, execute, sqlstate, value},
    postgres::{newest, on_each_version},
    wait::wait_until,
};

const NAME: &str = "select name from cached where id = 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_see_the_sessions_own_writes() {
    on_each_version(async |database| {
        let ports = Ports::start_writing(&database).await;
        let client = ports.client().await;
        let mut local = 0;
        for i in 0..100 {
            execute(&client, &format!("update cached set name = 'v{i}' where id = 1")).await;
            assert_eq!(value(&client, NAME).await, format!("v{i}"));
            local += usize::from(route(&client).await == "point");
        }
        assert!(local > 90, "{local} of 100 reads came from memory");
        // Past what is flushed when it is acknowledged.
        execute(&client, "set synchronous_commit = off").await;
        for i in 0..5 {
            execute(&client, &format!("update cached set name = 'a{i}' where id = 1")).await;
            assert_eq!(value(&client, NAME).await, format!("a{i}"));
        }
        execute(&client, "reset synchronous_commit; begin; set local synchronous_commit = off").await;
        execute(&client, "update cached set name = 'local' where id = 1; commit").await;
        assert_eq!(value(&client, NAME).await, "local");
        ports.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_and_roles_are_followed() {
    on_each_version(async |database| {
        let ports = Ports::start_writing(&database).await;
        let role = format!("reader_{}", database.name);
        execute(&ports.primary, &format!("create role {role} login; grant usage on schema other to {role}"))
            .await;
        let client = ports.client().await;
        let there = client::connect(ports.primary_url()).await;
        assert_eq!(value(&client, NAME).await, "name 1");
        assert_eq!(route(&client).await, "point");

        let at = "select at from cached where id = 1";
        for zone in ["UTC", "Europe/Vienna", "Asia/Kathmandu"] {
            for client in [&client, &there] {
                execute(client, &format!("set timezone = '{zone}'")).await;
            }
            assert_eq!(value(&client, at).await, value(&there, at).await, "{zone}");
        }
        execute(&client, "begin; set local search_path = other").await;
        assert_eq!(value(&client, NAME).await, "other");
        execute(&client, "rollback").await;
        assert_eq!(value(&client, NAME).await, "name 1");
        execute(&client, "set search_path = other, public").await;
        assert_eq!(value(&client, NAME).await, "other");
        execute(&client, "select set_config('search_path', 'public', false)").await;
        assert_eq!(value(&client, NAME).await, "name 1");

        execute(&client, &format!("set role {role}")).await;
        assert_eq!(sqlstate(&client, NAME).await, "42501");
        execute(&client, "reset role").await;
        assert_eq!(value(&client, NAME).await, "name 1");
        execute(&client, "set millpond.route = 'primary'").await;
        assert_eq!(value(&client, NAME).await, "name 1");
        assert_eq!(route(&client).await, "primary:bypass");
        assert_eq!(value(&client, "show millpond.route").await, "primary");
        execute(&client, "set millpond.route = 'local'").await;
        assert_eq!(sqlstate(&client, "select name from plain where id = 1").await, "0A000");
        execute(&client, "reset millpond.route").await;
        execute(&client, "set default_transaction_isolation = 'repeatable read'").await;
        assert_eq!(value(&client, NAME).await, "name 1");
        assert_eq!(route(&client).await, "primary:transaction");
        execute(&client, "discard all").await;
        assert_eq!(value(&client, NAME).await, "name 1");
        assert_eq!(route(&client).await, "point");
        execute(&client, "create temp table cached as select 1 as id, 'temporary' as name").await;
        assert_eq!(value(&client, NAME).await, "temporary");
        execute(&client, "drop table pg_temp.cached").await;
        assert_eq!(value(&client, NAME).await, "name 1");
        execute(&ports.primary, &format!("drop owned by {role}; drop role {role}")).await;
        ports.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_rejected_unless_they_are_forwarded() {
    on_each_version(async |database| {
        let ports = Ports::start(&database, "").await;
        execute(
            &ports.primary,
            "create function sly() returns int language sql as 'delete from plain; select 1'",
        )
        .await;
        let client = ports.client().await;
        for sql in [
            "insert into plain values (0, 'x')",
            "delete from cached",
            "create table more (a int)",
            "begin read write",
            "set transaction_read_only = off",
            "set default_transaction_read_only to off",
            "select set_config('default_transaction_read_only', 'off', false)",
            "set session characteristics as transaction read write",
            "select sly()",
            "with gone as (delete from plain returning 1) select * from gone",
            "select 1; delete from plain",
        ] {
            let error = client.simple_query(sql).await.expect_err(sql);
            let error = error.as_db_error().expect("an error of the server");
            assert_eq!(error.code().code(), "25006", "{sql}: {error}");
            assert!(error.hint().is_some_and(|h| h.contains("fallthrough.writes")), "{sql}: {error:?}");
        }
        let error = client.execute("insert into plain values ($1, 'x')", &[&1]).await.unwrap_err();
        assert_eq!(error.code().map(|c| c.code()), Some("25006"));
        execute(&client, "begin").await;
        assert_eq!(sqlstate(&client, "delete from plain").await, "25006");
        assert_eq!(
            sqlstate(&client, "select 1").await,
            "25P02",
            "the transaction has failed, as at the primary"
        );
        execute(&client, "rollback").await;
        assert_eq!(value(&client, "select count(*) from plain").await, "100");
        assert_eq!(value(&client, NAME).await, "name 1");

        // A startup parameter does not lift it either.
        for options in ["-c default_transaction_read_only=off", ""] {
            let mut config: tokio_postgres::Config = ports.url("postgres").parse().unwrap();
            config.options(options);
            let (client, connection) = config.connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            assert_eq!(value(&client, "show default_transaction_read_only").await, "on");
        }
        ports.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_can_be_rejected() {
    let database = newest().database().await;
    let ports = Ports::start(&database, "[fallthrough]\nreads = \"reject\"").await;
    let client = ports.client().await;
    assert_eq!(value(&client, NAME).await, "name 1");
    assert_eq!(sqlstate(&client, "select name from plain where id = 1").await, "0A000");
    assert_eq!(value(&client, NAME).await, "name 1");
    ports.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_of_the_primary_is_cancelled_there() {
    on_each_version(async |database| {
        let ports = Ports::start_writing(&database).await;
        let client = ports.client().await;
        let token = client.cancel_token();
        let pid = value(&client, "select pg_backend_pid()").await;
        let sleeping = client.simple_query("select pg_sleep(600)");
        let canceling = async {
            let active = format!("select state from pg_stat_activity where pid = {pid}");
            wait_until("it sleeps", async || value(&ports.primary, &active).await == "active").await;
            token.cancel_query(NoTls).await.unwrap();
        };
        let (slept, ()) = tokio::join!(sleeping, canceling);
        assert_eq!(slept.unwrap_err().code().map(|c| c.code()), Some("57014"));
        // A request for what has ended does not hit the next statement.
        token.cancel_query(NoTls).await.unwrap();
        let answered = async || client.simple_query("select 1").await.is_ok();
        wait_until("the request has come and gone", answered).await;
        assert_eq!(value(&client, "select 1 from pg_sleep(0.01)").await, "1");
        assert_eq!(value(&client, NAME).await, "name 1");
        ports.stop().await;
    })
    .await;
}

/// Drivers tell their own notifications by the process id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_name_the_session() {
    let database = newest().database().await;
    let ports = Ports::start_writing(&database).await;
    let mut client = RawClient::open(ports.port()).await;
    client.send(&raw::startup(196_608, &[("user", "postgres"), ("database", &ports.database)])).await;
    let answers = client.until_ready(1).await;
    let key = answers.iter().find(|a| a.tag == 'K').expect("BackendKeyData");
    client.execute("listen x").await;
    execute(&ports.primary, "notify x, 'from elsewhere'").await;
    let elsewhere = client.next().await.expect("a notification");
    assert_eq!((elsewhere.tag, elsewhere.body.ends_with(b"x\0from elsewhere\0")), ('A', true));
    assert_ne!(elsewhere.body[..4], key.body[..4]);
    client.send(&raw::query("notify x")).await;
    let answers = client.until_ready(1).await;
    let own = answers.iter().find(|a| a.tag == 'A').expect("a notification");
    assert_eq!(own.body[..4], key.body[..4]);
    ports.stop().await;
}

/// A client that vanishes leaves nothing at work at the primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_gone_is_cancelled() {
    let database = newest().database().await;
    let ports = Ports::start_writing(&database).await;
    let mut client = RawClient::login(ports.port(), "postgres", &ports.database).await;
    client.send(&raw::query("/* vanishing */ select pg_sleep(600)")).await;
    let sessions =
        "select count(*) from pg_stat_activity where query like '/* vanishing%' and state = 'active'";
    wait_until("it sleeps", async || value(&ports.primary, sessions).await == "1").await;
    drop(client);
    wait_until("it was cancelled", async || value(&ports.primary, sessions).await == "0").await;
    ports.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_statements_outlive_ddl_as_at_the_primary() {
    let database = newest().database().await;
    let ports = Ports::start_writing(&database).await;
    let client = ports.client().await;
    let statement = client.prepare("select * from cached where id = $1").await.unwrap();
    assert_eq!(client.query_one(&statement, &[&1]).await.unwrap().len(), 4);
    execute(&client, "alter table cached add column more int default 7").await;
    let error = client.query_one(&statement, &[&1]).await.unwrap_err();
    let error = error.as_db_error().expect("an error of the server");
    assert_eq!((error.code().code(), error.message()), ("0A000", "cached plan must not change result type"));
    let fresh = client.prepare("select * from cached where id = $1").await.unwrap();
    assert_eq!(client.query_one(&fresh, &[&1]).await.unwrap().get::<_, i32>(4), 7);
    ports.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_answers_while_the_primary_is_down() {
    let mut server = newest().dedicated(Default::default());
    let database = crate::support::postgres::Database {
        name: "postgres".into(),
        url: server.url("postgres", "postgres"),
        version_num: server.version_num(),
    };
    let ports = Ports::start_writing(&database).await;
    let client = ports.client().await;
    assert_eq!(value(&client, NAME).await, "name 1");
    server.stop_fast();
    for _ in 0..3 {
        assert_eq!(value(&client, NAME).await, "name 1");
        assert_eq!(route(&client).await, "point");
        assert_eq!(sqlstate(&client, "select name from plain where id = 1").await, "08006");
    }
    server.restart().unwrap();
    // Only clients can log in: until one has, there is nothing to go on with.
    wait_until("the primary is back", async || client::try_connect(&ports.url("postgres")).await.is_ok())
        .await;
    let again = ports.client().await;
    for client in [&client, &again, &client] {
        assert_eq!(value(client, "select name from plain where id = 1").await, "name 1");
    }
    ports.stop().await;
}
