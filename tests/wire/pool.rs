//! Connections to the primary that sessions share: what keeps a session's own, and what nobody notices.

use tokio_postgres::{Client, NoTls};

use super::{
    Ports,
    raw::{self, RawClient},
    route,
};
use crate::support::{
    client::{execute, sqlstate, try_connect, value},
    postgres::{newest, on_each_version},
    wait::wait_until,
};

const CACHED: &str = "select name from cached where id = 1";
const PLAIN: &str = "select name from plain where id = 1";

fn bounded(method: &str, max: usize, wait: &str) -> String {
    format!(
        "[auth]\n{method}\n[limits]\nmax_upstream = {max}\nupstream_wait = \"{wait}\"\nmax_connections = 5000\n\
         [fallthrough]\nwrites = \"forward\"\n[freshness]\nwait_timeout = \"10s\""
    )
}

const TRUST: &str = "method = \"trust\"";
const RELAY: &str = "allow_trust = true";

/// Of clients of Millpond, at the primary.
async fn backends(ports: &Ports) -> usize {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() \
               and application_name = 'pooled'";
    value(&ports.primary, sql).await.parse().unwrap()
}

async fn pooled(ports: &Ports, user: &str) -> Client {
    try_pooled(ports, user).await.unwrap_or_else(|error| panic!("{error:?}"))
}

async fn try_pooled(ports: &Ports, user: &str) -> Result<Client, tokio_postgres::Error> {
    try_connect(&format!("{}?application_name=pooled", ports.url(user))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_given_back_only_without_a_trace() {
    on_each_version(async |database| {
        let ports = Ports::start(&database, &bounded(TRUST, 1, "50ms")).await;
        execute(
            &ports.primary,
            "create sequence s; create view v as select nextval('s') n;
             create function f() returns int language sql as 'select 1';
             create view pg_temp_like as select 1",
        )
        .await;
        // Each with what undoes it; without that it lasts.
        for (sql, kept, undo) in [
            (PLAIN, false, None),
            ("select count(*) from plain join cached using (id)", false, None),
            ("begin; select 1 from plain; commit", false, None),
            ("begin; set local timezone = 'UTC'; select 1; rollback", false, None),
            ("begin; declare c cursor for select * from plain; fetch 2 from c; commit", false, None),
            ("explain select * from plain", false, None),
            ("show timezone", false, None),
            ("select relname from pg_class limit 1", false, None),
            ("begin", true, Some("rollback")),
            ("set timezone = 'Asia/Tokyo'", true, Some("discard all")),
            ("create temp table x (a int)", true, Some("discard all")),
            ("prepare p as select 1", true, Some("discard all")),
            ("listen l", true, Some("discard all")),
            ("select pg_advisory_lock(1)", true, Some("discard all")),
            ("select nextval('s')", true, Some("discard all")),
            ("insert into plain values (1000, 'x')", true, Some("discard all")),
            ("begin; declare c cursor with hold for select 1; commit", true, Some("discard all")),
            ("set role pg_monitor", true, Some("discard all")),
            ("select set_config('timezone', 'UTC', false)", true, None),
            ("select n from v", true, None),
            ("select f()", true, None),
            ("do $$begin end$$", true, None),
            ("load 'pgoutput'", true, None),
            ("set app.tenant = '1'", true, None),
        ] {
            let holder = pooled(&ports, "postgres").await;
            execute(&holder, sql).await;
            let other = try_pooled(&ports, "postgres").await;
            assert_eq!(other.is_err(), kept, "{sql}");
            if let Err(error) = other {
                assert_eq!(error.code().map(|c| c.code()), Some("53300"), "{sql}: {error:?}");
            }
            if let Some(undo) = undo {
                execute(&holder, undo).await;
                drop(pooled(&ports, "postgres").await);
            } else if kept {
                execute(&holder, "discard all").await;
                assert!(try_pooled(&ports, "postgres").await.is_err(), "{sql}");
            }
            drop(holder);
            wait_until("the connection is free", async || try_pooled(&ports, "postgres").await.is_ok()).await;
        }
        ports.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_on_one_connection_are_sessions() {
    on_each_version(async |database| {
        let ports = Ports::start(&database, &bounded(TRUST, 1, "20s")).await;
        let role = format!("pooled_{}", database.name);
        execute(&ports.primary, &format!("create role {role} login; grant select on plain to {role}")).await;
        let (one, two, three) =
            (pooled(&ports, "postgres").await, pooled(&ports, "postgres").await, pooled(&ports, &role).await);
        let named = one.prepare("select name from plain where id = $1").await.unwrap();
        for i in 1..30 {
            assert_eq!(value(&three, "select current_user").await, role);
            let row = one.query_one(&named, &[&i]).await.unwrap();
            assert_eq!(row.get::<_, &str>(0), format!("name {i}"));
            assert_eq!(value(&two, "select current_user").await, "postgres");
            assert_eq!(value(&two, "select count(*) from pg_catalog.pg_prepared_statements").await, "0");
            assert_eq!(value(&two, CACHED).await, "name 1");
            assert_eq!(route(&two).await, "point");
            // A backend whose connection was closed is listed until it has ended.
            wait_until("there is one", async || backends(&ports).await <= 1).await;
        }
        // A transaction has it to itself.
        execute(&one, "begin").await;
        execute(&one, "select 1 from plain").await;
        let waiting = async { value(&two, PLAIN).await };
        let working = async {
            assert_eq!(one.query_one(&named, &[&7]).await.unwrap().get::<_, &str>(0), "name 7");
            execute(&one, "commit").await;
        };
        assert_eq!(tokio::join!(waiting, working).0, "name 1");
        // Memory needs none.
        execute(&one, "set timezone = 'UTC'").await;
        assert_eq!(value(&two, CACHED).await, "name 1");
        // What was written is seen, whoever wrote where.
        execute(&one, "update cached set name = 'written' where id = 1").await;
        assert_eq!(value(&one, CACHED).await, "written");
        drop((one, two, three));
        execute(&ports.primary, &format!("drop owned by {role}; drop role {role}")).await;
        ports.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_has_the_settings_of_its_time() {
    on_each_version(async |database| {
        let ports = Ports::start(&database, &bounded(RELAY, 2, "20s")).await;
        let role = format!("set_{}", database.name);
        execute(&ports.primary, &format!("create role {role} login; grant select on plain to {role}")).await;
        let alter = async |what: &str| execute(&ports.primary, &format!("alter role {role} {what}")).await;
        alter("set timezone = 'Asia/Tokyo'").await;
        alter("set app.tenant = 'one'").await;
        let old = pooled(&ports, &role).await;
        alter("set timezone = 'Europe/Vienna'").await;
        alter("reset app.tenant").await;
        let new = pooled(&ports, &role).await;
        for _ in 0..5 {
            assert_eq!(value(&old, "show timezone").await, "Asia/Tokyo");
            assert_eq!(value(&old, "select current_setting('app.tenant')").await, "one");
            assert_eq!(value(&new, "show timezone").await, "Europe/Vienna");
            assert_eq!(sqlstate(&new, "select current_setting('app.tenant')").await, "42704");
        }
        drop((old, new));
        execute(&ports.primary, &format!("drop owned by {role}; drop role {role}")).await;
        ports.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_are_logged_in_on_few_connections() {
    on_each_version(async |database| {
        let ports = Ports::start(&database, &bounded(RELAY, 8, "20s")).await;
        let mut clients = Vec::new();
        for _ in 0..200 {
            clients.push(pooled(&ports, "postgres").await);
        }
        assert!(backends(&ports).await <= 8);
        for client in &clients {
            assert_eq!(value(client, CACHED).await, "name 1");
            assert_eq!(route(client).await, "point");
        }
        // All at once.
        let asked = clients.iter().map(async |client| value(client, PLAIN).await);
        for answer in futures_util::future::join_all(asked).await {
            assert_eq!(answer, "name 1");
        }
        assert!(backends(&ports).await <= 8);
        // Those that are pinned keep theirs, and the others still have one.
        for client in &clients[..7] {
            execute(client, "set timezone = 'Asia/Tokyo'").await;
        }
        for client in &clients[7..] {
            assert_ne!(value(client, "show timezone").await, "Asia/Tokyo");
        }
        for client in &clients[..7] {
            assert_eq!(value(client, "show timezone").await, "Asia/Tokyo");
        }
        drop(clients);
        wait_until("all are closed", async || backends(&ports).await == 0).await;
        ports.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_connection_of_a_role_is_not_closed() {
    let database = newest().database().await;
    let ports = Ports::start(&database, &bounded(RELAY, 1, "50ms")).await;
    let client = pooled(&ports, "postgres").await;
    assert_eq!(value(&client, PLAIN).await, "name 1");
    let error = try_pooled(&ports, "postgres").await.map(drop).expect_err("no room");
    let error = error.as_db_error().expect("an error of the server");
    assert_eq!(error.code().code(), "53300");
    assert!(error.hint().is_some_and(|hint| hint.contains("verifier")), "{error:?}");
    assert_eq!(value(&client, PLAIN).await, "name 1");
    ports.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_request_finds_its_statement_only() {
    on_each_version(async |database| {
        let ports = Ports::start(&database, &bounded(TRUST, 1, "20s")).await;
        let (one, two) = (pooled(&ports, "postgres").await, pooled(&ports, "postgres").await);
        let (token, other) = (one.cancel_token(), two.cancel_token());
        let active = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active' \
                      and application_name = 'pooled' and datname = current_database()";
        for _ in 0..5 {
            assert_eq!(value(&two, PLAIN).await, "name 1");
            let sleeping = one.simple_query("select pg_sleep(600)");
            let canceling = async {
                wait_until("it sleeps", async || value(&ports.primary, active).await == "1").await;
                // Not this one's, though it had the same connection.
                other.cancel_query(NoTls).await.unwrap();
                assert_eq!(value(&ports.primary, active).await, "1");
                token.cancel_query(NoTls).await.unwrap();
            };
            let (slept, ()) = tokio::join!(sleeping, canceling);
            assert_eq!(slept.unwrap_err().code().map(|c| c.code()), Some("57014"));
            token.cancel_query(NoTls).await.unwrap();
            assert_eq!(value(&two, "select count(*) from plain, pg_sleep(0.01)").await, "100");
        }
        ports.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_vanish_poison_nothing() {
    on_each_version(async |database| {
        let ports = Ports::start(&database, &bounded(TRUST, 4, "20s")).await;
        let watcher = pooled(&ports, "postgres").await;
        let large = raw::query("select g, repeat('x', 1000) from generate_series(1, 20000) g");
        for i in 0..120usize {
            let mut client = RawClient::login(ports.port(), "postgres", &database.name).await;
            client.send(&large).await;
            client.read_exactly(i * i * 37 % 100_000).await;
            client.reset();
            if i % 10 == 0 {
                assert_eq!(value(&watcher, PLAIN).await, "name 1");
                assert_eq!(value(&watcher, "select count(*) from plain").await, "100");
            }
        }
        let working = "select count(*) from pg_stat_activity where datname = current_database() \
                       and query like '%repeat%' and state = 'active' and pid <> pg_backend_pid()";
        wait_until("nothing runs any longer", async || value(&ports.primary, working).await == "0").await;
        let clients = futures_util::future::join_all((0..8).map(|_| pooled(&ports, "postgres"))).await;
        for client in &clients {
            assert_eq!(value(client, "select count(*) from plain").await, "100");
        }
        ports.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_while_nobody_has_it_is_not_missed() {
    on_each_version(async |database| {
        let ports = Ports::start(&database, &bounded(TRUST, 2, "20s")).await;
        let mut clients = [
            pooled(&ports, "postgres").await,
            pooled(&ports, "postgres").await,
            pooled(&ports, "postgres").await,
        ];
        let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                    where application_name = 'pooled' and datname = current_database()";
        for _ in 0..5 {
            value(&ports.primary, kill).await;
            wait_until("they are gone", async || backends(&ports).await == 0).await;
            for client in &mut clients {
                assert_eq!(value(client, CACHED).await, "name 1");
                match client.simple_query(PLAIN).await {
                    Ok(_) => {}
                    // The statement was on its way when the end came.
                    Err(error) => {
                        assert_eq!(error.code().map(|c| c.code()), Some("08006"), "{error:?}");
                        *client = pooled(&ports, "postgres").await;
                    }
                }
                assert_eq!(value(client, PLAIN).await, "name 1");
            }
        }
        ports.stop().await;
    })
    .await;
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

/// Set in the process that the next test starts.
const ALONE: &str = "MILLPOND_TEST_ALONE";

/// Runs again in a process of its own, where nothing else takes memory, and measures there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_session_is_small() {
    if std::env::var_os(ALONE).is_none() {
        let test = std::env::current_exe().expect("this program");
        let name = "wire::pool::an_idle_session_is_small";
        let run = tokio::process::Command::new(test)
            .args(["--exact", "--nocapture", name])
            .env(ALONE, "1")
            .output();
        let run = run.await.expect("it runs");
        let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let database = newest().database().await;
    let ports = Ports::start(&database, &bounded(RELAY, 8, "20s")).await;
    let sessions = std::env::var("MILLPOND_TEST_SESSIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(400);
    let mut idle = Vec::with_capacity(sessions);
    let mut login = async |count: usize| {
        for _ in 0..count {
            let mut client = RawClient::login(ports.port(), "postgres", &database.name).await;
            assert_eq!(client.value(CACHED).await, "name 1");
            assert_eq!(client.value("select repeat(name, 1000) from plain where id = 1").await.len(), 6000);
            idle.push(client);
        }
    };
    // What is allocated once is not counted.
    login(50).await;
    let before = resident();
    login(sessions).await;
    let each = resident().saturating_sub(before) / sessions;
    println!("{each} bytes for each of {sessions} idle sessions, the test's own sockets included");
    assert!(each < 32 * 1024, "{each} bytes for each idle session");
    drop(idle);
    ports.stop().await;
}
