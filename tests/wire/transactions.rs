//! Transactions that the primary hears of when it has to: the same answers, and how many came from
//! memory.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    Ports,
    differential::{compare, same_settings},
    raw::{RawClient, bind, close, describe, execute, message, parse, query, sync},
    route,
};
use crate::support::{
    client::{self, execute as run, sqlstate, value},
    postgres::{newest, on_each_version},
    wait::wait_until,
};

const BY_ID: &str = "select id, name, at, amount from cached where id = $1";
const ONE: &str = "select id, name from cached where id = 1";

/// Scripts in order on one session; after those that are named, `show millpond.last_route` must tell
/// of memory.
async fn compare_all(scripts: &[(&str, Vec<Vec<u8>>)], local: &[&str]) {
    on_each_version(async |database| {
        let ports = Ports::start_writing(&database).await;
        let (mut here, mut there) = ports.raw().await;
        same_settings(&mut here, &mut there).await;
        for (what, script) in scripts {
            compare(&mut here, &mut there, what, script).await;
            if local.contains(what) {
                let route = here.value("show millpond.last_route").await;
                assert!(!route.starts_with("primary"), "{what}: {route}");
            }
        }
        ports.stop().await;
    })
    .await;
}

fn q(sql: &str) -> Vec<Vec<u8>> {
    sql.split('|').map(query).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simple_protocol() {
    compare_all(
        &[
            ("read", q("begin|select id, name from cached where id = 1")),
            ("read again", q("select count(*) from cached")),
            ("commit", q("commit")),
            ("rollback", q("start transaction read only|select id from cached where id = 2|rollback")),
            ("words", q("begin work|end|begin transaction|abort|begin|rollback work|begin|commit transaction")),
            ("chained", q("begin|commit and chain|select id from cached where id = 1")),
            ("unchained", q("rollback and chain|commit and no chain")),
            ("nothing to end", q("commit|rollback|commit and chain|rollback and chain")),
            ("begun twice", q("begin|begin|begin isolation level serializable|rollback")),
            (
                "begun twice after a read",
                q("begin|select id from cached where id = 1|begin isolation level serializable|commit"),
            ),
            ("mode after a read", q("begin|select id from cached where id = 1|set transaction read only|commit")),
            (
                "isolation after a read",
                q("begin|select id from cached where id = 1|set transaction isolation level serializable|rollback"),
            ),
            (
                "isolation before a read",
                q("begin|set transaction isolation level repeatable read|select id from cached where id = 1|\
                   show transaction_isolation|commit"),
            ),
            ("empty", q("begin|| ;|commit")),
            (
                "own write",
                q("begin|select name from cached where id = 3|update cached set name = 'mine' where id = 3|\
                   select name from cached where id = 3|rollback|select name from cached where id = 3"),
            ),
            ("error there", q("begin|select 1/0|select id from cached where id = 1|select|commit|select 1")),
            ("read only", q("begin read only|select id from cached where id = 1|insert into bare values (1)|commit")),
            (
                "savepoints",
                q("begin|select id from cached where id = 1|savepoint a|insert into bare values (77, 'a')|\
                   select 1/0|rollback to a|select count(*) from bare where id = 77|\
                   select id from cached where id = 1|release a|release a|rollback"),
            ),
            ("two-phase", q("begin|select id from cached where id = 1|prepare transaction 'x'|rollback prepared 'x'")),
            ("not in a transaction", q("begin|vacuum bare|rollback|begin|commit prepared 'y'|rollback")),
            ("several", q("begin;select id from cached where id = 1|select id from cached where id = 2|commit;select 1")),
            ("settings", q("begin|set local search_path = other|select name from cached where id = 1|rollback")),
            ("syntax", q("begin x|begin isolation level|begin|commit x|rollback|start|begin read only read write|rollback")),
            ("after all", q("select id, name from cached where id = 1")),
            (
                "locks",
                q("begin|select id from cached where id = 1|lock table cached in share mode|\
                   select id from cached where id = 1|commit"),
            ),
            (
                "temporary tables",
                q("begin|select id from cached where id = 1|create temp table cached as select 7 as id on commit drop|\
                   select id + 0 from cached|commit|select id from cached where id = 7|\
                   create temp table mine (a int)|begin|insert into mine values (1)|select a + 0 from mine|rollback|\
                   select a + 0 from mine|drop table mine"),
            ),
            ("do", q("begin|select id from cached where id = 1|do $$ begin raise notice 'hi'; end $$|commit")),
            (
                "copy in",
                vec![
                    query("begin"),
                    query("select id from cached where id = 1"),
                    query("copy bare from stdin"),
                    message('d', b"1\tx\n"),
                    message('c', b""),
                    query("select count(*) from bare where id = 1"),
                    query("rollback"),
                ],
            ),
            ("function call", q("begin|select set_config('search_path', 'other', true)|select name from cached|rollback")),
            ("discard", q("begin|select id from cached where id = 1|discard all|rollback")),
            ("two-phase is off", q("prepare transaction 'x'|begin|prepare transaction 'x'|select 1")),
        ],
        &["read", "read again", "chained"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_protocol() {
    let ext =
        |sql: &str| vec![parse("", sql, &[]), bind("", "", &[], &[]), describe('P', ""), execute("", 0)];
    let all = |parts: &[Vec<Vec<u8>>]| parts.concat();
    let synced = || vec![sync()];
    let read = |id: &str| vec![bind("", "r", &[id], &[1]), describe('P', ""), execute("", 0)];
    compare_all(
        &[
            ("prepared", vec![parse("r", BY_ID, &[]), describe('S', "r"), sync()]),
            ("driver", all(&[ext("BEGIN"), read("1"), synced(), read("2"), synced()])),
            ("ended", all(&[ext("COMMIT"), synced()])),
            ("one pipeline", all(&[ext("BEGIN"), read("1"), read("2"), ext("COMMIT"), synced()])),
            (
                "written in a pipeline",
                all(&[ext("BEGIN"), read("1"), ext("insert into bare values (9, 'x')"), read("2"), synced()]),
            ),
            ("rolled back", all(&[ext("ROLLBACK"), synced()])),
            (
                "error in a pipeline",
                all(&[ext("BEGIN"), read("1"), vec![bind("", "nothing", &[], &[])], read("2"), synced()]),
            ),
            ("failed", all(&[read("1"), synced(), ext("select 1"), synced(), ext("COMMIT"), synced()])),
            (
                "named commands",
                vec![
                    parse("b", "begin", &[]),
                    describe('S', "b"),
                    parse("c", "commit", &[]),
                    bind("pb", "b", &[], &[]),
                    describe('P', "pb"),
                    execute("pb", 0),
                    execute("pb", 0),
                    sync(),
                    query("rollback"),
                    bind("", "b", &[], &[]),
                    execute("", 1),
                    bind("", "c", &[], &[]),
                    execute("", 0),
                    close('S', "c"),
                    sync(),
                ],
            ),
            (
                "bound before it began",
                vec![
                    bind("p1", "b", &[], &[]),
                    bind("p2", "r", &["1"], &[]),
                    execute("p1", 0),
                    execute("p2", 0),
                    parse("", "select name from plain where id = 1", &[]),
                    bind("p3", "", &[], &[]),
                    execute("p3", 0),
                    sync(),
                    query("commit"),
                ],
            ),
            (
                "portals live on",
                vec![
                    query("begin"),
                    parse("all", "select id from cached order by id", &[]),
                    bind("p", "all", &[], &[]),
                    execute("p", 3),
                    sync(),
                    execute("p", 2),
                    sync(),
                    bind("q", "all", &[], &[1]),
                    sync(),
                ],
            ),
            (
                "from memory",
                vec![
                    execute("p", 2),
                    describe('P', "p"),
                    bind("z", "all", &[], &[]),
                    execute("z", 0),
                    sync(),
                ],
            ),
            (
                "when the primary has it",
                vec![
                    query("insert into bare values (10, 'y')"),
                    execute("p", 2),
                    execute("q", 1),
                    sync(),
                    bind("p", "all", &[], &[]),
                    sync(),
                    query("rollback"),
                ],
            ),
            (
                "portals end",
                vec![execute("p", 1), sync(), query("begin"), execute("q", 1), sync(), query("rollback")],
            ),
            (
                "too many parameters",
                vec![parse("", "begin", &[]), bind("", "", &["1"], &[]), sync(), query("rollback")],
            ),
            ("typed", vec![parse("", "begin", &[23]), describe('S', ""), sync()]),
        ],
        &["driver", "one pipeline", "from memory"],
    )
    .await;
}

/// Drivers that begin a transaction before every read get their reads from memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_in_transactions_leave_the_primary_alone() {
    on_each_version(async |database| {
        let ports = Ports::start_writing(&database).await;
        let mut client = ports.client().await;
        value(&client, "select name from cached where id = 1").await;
        let backend: String = value(&client, "select pg_backend_pid()").await;
        value(&client, "select name from cached where id = 1").await;
        let state = format!("select query from pg_stat_activity where pid = {backend} and state = 'idle'");
        let before = value(&ports.primary, &state).await;
        for id in 1..20 {
            let transaction = client.transaction().await.unwrap();
            let row = transaction.query_one(BY_ID, &[&id]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), id);
            transaction.commit().await.unwrap();
        }
        assert_eq!(value(&ports.primary, &state).await, before, "it has seen nothing since");
        assert_eq!(route(&client).await, "point");

        // A read that the primary answers does not end it, a write does.
        run(&client, "begin").await;
        assert_eq!(value(&client, "select name from plain where id = 1").await, "name 1");
        assert_eq!(value(&client, "select name from cached where id = 1").await, "name 1");
        assert_eq!(route(&client).await, "point");
        run(&client, "savepoint a").await;
        assert_eq!(value(&client, "select name from cached where id = 1").await, "name 1");
        assert_eq!(route(&client).await, "point");
        run(&client, "update plain set name = 'x' where id = 1").await;
        assert_eq!(value(&client, "select name from cached where id = 1").await, "name 1");
        assert_eq!(route(&client).await, "primary:transaction");
        run(&client, "rollback to a").await;
        assert_eq!(value(&client, "select name from cached where id = 1").await, "name 1");
        assert_eq!(route(&client).await, "primary:transaction");
        run(&client, "commit").await;
        assert_eq!(value(&client, "select name from cached where id = 1").await, "name 1");
        assert_eq!(route(&client).await, "point");

        for begin in ["begin isolation level repeatable read", "begin isolation level serializable"] {
            run(&client, begin).await;
            assert_eq!(value(&client, "select name from cached where id = 1").await, "name 1");
            assert_eq!(route(&client).await, "primary:transaction");
            run(&client, "commit").await;
        }
        for pinning in ["set local work_mem = '1MB'", "select pg_advisory_xact_lock(1)"] {
            run(&client, &format!("begin; {pinning}")).await;
            assert_eq!(value(&client, "select name from cached where id = 1").await, "name 1");
            assert_eq!(route(&client).await, "primary:transaction", "{pinning}");
            run(&client, "commit").await;
        }
        ports.stop().await;
    })
    .await;
}

/// What another session commits in between is seen, and never taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_statement_sees_what_is_committed() {
    on_each_version(async |database| {
        let ports = Ports::start_writing(&database).await;
        let client = ports.client().await;
        run(&client, "begin").await;
        assert_eq!(value(&client, "select name from cached where id = 5").await, "name 5");
        run(&ports.primary, "update cached set name = 'new' where id = 5").await;
        wait_until("the commit is seen", async || {
            value(&client, "select name from cached where id = 5").await == "new"
        })
        .await;
        assert_eq!(route(&client).await, "point");
        // The primary shows it what it has by now; memory must not be behind that.
        for i in 0..50 {
            run(&ports.primary, &format!("update cached set name = 'v{i}' where id = 5; update plain set name = 'v{i}' where id = 5")).await;
            assert_eq!(value(&client, "select name from plain where id = 5").await, format!("v{i}"));
            assert_eq!(value(&client, "select name from cached where id = 5").await, format!("v{i}"));
        }
        run(&client, "commit").await;
        ports.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_writes_fail_their_transaction() {
    on_each_version(async |database| {
        let ports = Ports::start(&database, "").await;
        let client = ports.client().await;
        run(&client, "begin").await;
        assert_eq!(value(&client, "select name from cached where id = 1").await, "name 1");
        assert_eq!(sqlstate(&client, "insert into bare values (1, 'x')").await, "25006");
        assert_eq!(sqlstate(&client, "select 1").await, "25P02");
        run(&client, "rollback").await;
        assert_eq!(sqlstate(&client, "begin read write").await, "25006");
        assert_eq!(value(&client, "select name from cached where id = 1").await, "name 1");
        run(&client, "begin").await;
        assert_eq!(sqlstate(&client, "begin read write").await, "25006");
        assert_eq!(sqlstate(&client, "select name from cached where id = 1").await, "25P02");
        run(&client, "commit").await;
        assert_eq!(value(&client, "select count(*) from bare").await, "0");
        ports.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_limits_are_kept() {
    on_each_version(async |database| {
        let primary = database.connect().await;
        let large =
            "create table large as select g as id, 'name ' || g as name from generate_series(1, 300000) g";
        run(&primary, large).await;
        run(&primary, "alter table large add primary key (id)").await;
        let more = "[fallthrough]\nwrites = \"forward\"\n[[tables]]\nmatch = [\"large\"]";
        let ports = Ports::start(&database, more).await;
        ports.mirror.wait_live("large").await;
        let client = ports.client().await;
        let slow = "select count(*) from large where name <> 'x'";
        assert_eq!(value(&client, slow).await, "300000");
        assert_eq!(route(&client).await, "engine");
        run(&client, "set statement_timeout = '5ms'").await;
        assert_eq!(sqlstate(&client, slow).await, "57014");
        run(&client, "begin").await;
        assert_eq!(sqlstate(&client, slow).await, "57014");
        assert_eq!(sqlstate(&client, "select name from cached where id = 1").await, "25P02");
        run(&client, "rollback").await;
        run(&client, "reset statement_timeout").await;
        assert_eq!(value(&client, "select name from cached where id = 1").await, "name 1");
        let mut raw = RawClient::login(ports.port(), "postgres", &ports.database).await;
        raw.execute("set idle_in_transaction_session_timeout = '50ms'").await;
        raw.execute(ONE).await;
        raw.send(&query("begin")).await;
        let answers = raw.until_closed().await;
        assert_eq!(answers.last().map(|a| a.field('C')).as_deref(), Some("25P03"), "{answers:?}");
        ports.stop().await;
    })
    .await;
}

/// Statements at random, here and there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_at_random() {
    on_each_version(async |database| {
        let ports = Ports::start_writing(&database).await;
        let (mut here, mut there) = ports.raw().await;
        same_settings(&mut here, &mut there).await;
        // Both write to one table, and look at their own rows.
        here.execute("set application_name = 'here'").await;
        there.execute("set application_name = 'there'").await;
        let seed = 20_240_602;
        let mut random = StdRng::seed_from_u64(seed);
        let statements = [
            "begin",
            "begin",
            "start transaction read only",
            "begin isolation level repeatable read",
            "commit",
            "commit",
            "rollback",
            "commit and chain",
            "rollback and chain",
            "savepoint a",
            "savepoint b",
            "rollback to a",
            "release b",
            "select 1/0",
            "nonsense",
            ONE,
            ONE,
            "select count(*) from cached",
            "select name from plain where id = 1",
            "insert into bare values (1, current_setting('application_name'))",
            "select count(*) from bare where name = current_setting('application_name')",
            "declare c cursor for select id from cached order by id",
            "declare c no scroll cursor for select id, name from cached order by id",
            "declare d scroll cursor for select id from cached where id < 10 order by id",
            "declare d cursor for select id from plain order by id",
            "fetch 3 from c",
            "fetch 3 from d",
            "fetch backward 2 from d",
            "fetch last from d",
            "fetch relative 2 from d",
            "fetch absolute 4 from d",
            "move 2 in c",
            "move 2 in d",
            "close c",
            "close d",
            "close all",
            "copy (select id from cached where id < 4 order by id) to stdout",
            "set transaction isolation level serializable",
            "",
        ];
        for round in 0..200 {
            let mut script = Vec::new();
            for _ in 0..random.random_range(1..12) {
                let sql = statements[random.random_range(0..statements.len())];
                let extended = random.random_range(0..4) == 0;
                match extended {
                    true => {
                        script.extend([
                            parse("", sql, &[]),
                            bind("", "", &[], &[]),
                            describe('P', ""),
                            execute("", 0),
                        ]);
                        if random.random_bool(0.7) {
                            script.push(sync());
                        }
                    }
                    false => {
                        // A Query in the middle of an extended sequence is PostgreSQL's to sort out.
                        script.push(sync());
                        script.push(query(sql));
                    }
                }
            }
            script.push(sync());
            let shown: Vec<String> = script.iter().map(|m| m.escape_ascii().to_string()).collect();
            compare(&mut here, &mut there, &format!("round {round} of seed {seed}: {shown:#?}"), &script)
                .await;
        }
        ports.stop().await;
    })
    .await;
}

/// The primary is gone: transactions that only read memory go on, and others fail as they should.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_lost_in_between_is_not_missed() {
    let database = newest().database().await;
    let ports = Ports::start_writing(&database).await;
    let client = client::connect(&ports.url("postgres")).await;
    let backend = value(&client, "select pg_backend_pid()").await;
    value(&client, "select name from cached where id = 1").await;
    run(&client, "begin").await;
    run(&ports.primary, &format!("select pg_terminate_backend({backend})")).await;
    for _ in 0..5 {
        assert_eq!(value(&client, "select name from cached where id = 1").await, "name 1");
    }
    run(&client, "commit").await;
    ports.stop().await;
}
