//! Cursors over rows in memory: the same answers as the primary's own.

use super::{
    Ports,
    differential::{compare, same_settings},
    raw::{bind, close, describe, execute, parse, query, sync},
    route,
};
use crate::support::{
    client::{execute as run, sqlstate, value},
    postgres::on_each_version,
};

const TEN: &str = "select id, name from cached where id <= 10 order by id";

fn q(sql: &str) -> Vec<Vec<u8>> {
    sql.split('|').map(query).collect()
}

async fn compare_all(scripts: &[(&str, Vec<Vec<u8>>)]) {
    on_each_version(async |database| {
        let ports = Ports::start_writing(&database).await;
        let (mut here, mut there) = ports.raw().await;
        same_settings(&mut here, &mut there).await;
        for (what, script) in scripts {
            compare(&mut here, &mut there, what, script).await;
        }
        ports.stop().await;
    })
    .await;
}

/// All ways to move, with and without SCROLL, from everywhere: what is fetched, and what is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_from_everywhere() {
    let steps = [
        "next",
        "prior",
        "first",
        "last",
        "absolute 3",
        "absolute 1",
        "absolute 0",
        "absolute -2",
        "absolute 99",
        "absolute -99",
        "relative 2",
        "relative -2",
        "relative 0",
        "relative 1",
        "relative -1",
        "0",
        "1",
        "4",
        "-3",
        "all",
        "forward",
        "forward 0",
        "forward 3",
        "forward all",
        "forward -2",
        "backward",
        "backward 0",
        "backward 3",
        "backward all",
        "backward -2",
    ];
    on_each_version(async |database| {
        let ports = Ports::start_writing(&database).await;
        let (mut here, mut there) = ports.raw().await;
        same_settings(&mut here, &mut there).await;
        for scroll in ["scroll", "no scroll", ""] {
            for before in ["0", "1", "5", "10", "11", "-1"] {
                for step in steps {
                    for verb in ["fetch", "move"] {
                        let declare = format!("declare c {scroll} cursor for {TEN}");
                        let script: Vec<Vec<u8>> = [
                            "begin",
                            &declare,
                            &format!("fetch {before} from c"),
                            &format!("{verb} {step} from c"),
                            "fetch 2 from c",
                            "rollback",
                        ]
                        .iter()
                        .map(|sql| query(sql))
                        .collect();
                        let what = format!("{scroll} cursor, after {before}: {verb} {step}");
                        compare(&mut here, &mut there, &what, &script).await;
                    }
                }
            }
        }
        ports.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_ends() {
    compare_all(&[
        ("no transaction", q(&format!("declare c cursor for {TEN}"))),
        ("no cursor", q("begin|fetch 1 from c|rollback|begin|close c|rollback|begin|move 1 from c|rollback")),
        ("twice", q(&format!("begin|declare c cursor for {TEN}|declare c cursor for {TEN}|rollback"))),
        ("twice with another", q(&format!("begin|declare c cursor for {TEN}|declare c cursor for select 1|rollback"))),
        (
            "twice with hold",
            q(&format!("begin|declare c cursor for {TEN}|declare c cursor with hold for select 1|rollback")),
        ),
        ("closed", q(&format!("begin|declare c cursor for {TEN}|close c|fetch 1 from c|rollback"))),
        (
            "all closed",
            q(&format!("begin|declare c cursor for {TEN}|declare d cursor for {TEN}|close all|fetch 1 from d|rollback")),
        ),
        ("gone with it", q(&format!("begin|declare c cursor for {TEN}|commit|begin|fetch 1 from c|rollback"))),
        ("chained", q(&format!("begin|declare c cursor for {TEN}|commit and chain|fetch 1 from c|rollback"))),
        (
            "quoted",
            q(&format!("begin|declare \"C c\" cursor for {TEN}|fetch 2 from \"C c\"|fetch 2 from c|rollback")),
        ),
        ("folded", q(&format!("begin|declare CuR cursor for {TEN}|fetch 2 in cUr|close CUR|commit"))),
        (
            "goes on when the primary has the transaction",
            q(&format!(
                "begin|declare c cursor for {TEN}|fetch 2 from c|delete from cached where id < 8|fetch 2 from c|\
                 select count(*) from cached|declare c cursor for select 1|rollback"
            )),
        ),
        (
            "two sides",
            q(&format!(
                "begin|declare c cursor for {TEN}|fetch 2 from c|\
                 declare p scroll cursor for select id from plain order by id|fetch 2 from p|fetch 2 from c|\
                 fetch absolute 4 from p|move 2 in c|fetch from c|close c|fetch from c|rollback"
            )),
        ),
        (
            "over a savepoint",
            q(&format!(
                "begin|declare c cursor for {TEN}|fetch 2 from c|savepoint a|fetch 2 from c|\
                 declare d cursor for {TEN}|fetch 1 from d|select 1/0|fetch 1 from c|rollback to a|fetch 1 from c|\
                 fetch 1 from d|rollback"
            )),
        ),
        (
            "with hold",
            q(&format!(
                "begin|declare h cursor with hold for {TEN}|commit|fetch 2 from h|begin|fetch 2 from h|\
                 declare h cursor for {TEN}|rollback|close h|begin|declare h cursor for {TEN}|fetch 1 from h|close all|\
                 commit"
            )),
        ),
        ("aggregate", q("begin|declare c cursor for select count(*) from cached|fetch 2 from c|fetch 1 from c|commit")),
        (
            "aggregates go forward",
            q("begin|declare c cursor for select count(*) from cached|fetch 2 from c|fetch prior from c|rollback"),
        ),
        ("binary", q("begin|declare c binary cursor for select id, amount from cached order by id|fetch 3 from c|commit")),
        ("for update", q("begin|declare c cursor for select id from plain order by id for update|fetch 1 from c|\
            update plain set name = 'z' where current of c|rollback")),
        ("syntax", q("begin|fetch x y from c|rollback|begin|declare c cursor for nonsense|rollback")),
        ("no table", q("begin|declare c cursor for select * from nowhere|rollback")),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_protocol() {
    let ext = |sql: &str, formats: &[u16]| {
        vec![parse("", sql, &[]), bind("", "", &[], formats), describe('P', ""), execute("", 0)]
    };
    let declared = |sql: &str, params: &[&str]| {
        vec![parse("", sql, &[]), describe('S', ""), bind("", "", params, &[]), execute("", 0), sync()]
    };
    compare_all(&[
        // As psycopg's named cursors do.
        (
            "named cursor",
            [
                vec![query("begin")],
                declared(
                    "declare \"cur\" cursor for select id, name from cached where id < $1 order by id",
                    &["8"],
                ),
                vec![describe('P', "cur"), sync()],
                ext("fetch forward 3 from \"cur\"", &[1]),
                vec![sync()],
                ext("move 1 from \"cur\"", &[]),
                ext("fetch all from cur", &[0, 1]),
                vec![sync()],
                ext("close cur", &[]),
                vec![sync(), query("commit")],
            ]
            .concat(),
        ),
        (
            "executed as a portal",
            vec![
                query("begin"),
                query(&format!("declare c cursor for {TEN}")),
                execute("c", 3),
                describe('P', "c"),
                execute("c", 0),
                execute("c", 0),
                close('P', "c"),
                execute("c", 0),
                sync(),
                query("rollback"),
            ],
        ),
        (
            "prepared",
            vec![
                query("begin"),
                query(&format!("declare c cursor for {TEN}")),
                parse("f", "fetch 2 from c", &[]),
                describe('S', "f"),
                bind("", "f", &[], &[1]),
                execute("", 0),
                bind("", "f", &[], &[]),
                execute("", 0),
                sync(),
                query("commit"),
                bind("", "f", &[], &[]),
                execute("", 0),
                sync(),
            ],
        ),
        (
            "one pipeline with the primary",
            [
                vec![query("begin"), query(&format!("declare c cursor for {TEN}"))],
                ext("fetch 2 from c", &[]),
                ext("select name from plain where id = 4", &[]),
                ext("fetch 2 from c", &[]),
                vec![sync(), query("fetch 1 from c"), query("rollback")],
            ]
            .concat(),
        ),
        (
            "formats that do not fit",
            [
                vec![query("begin"), query(&format!("declare c cursor for {TEN}"))],
                ext("fetch 2 from c", &[0, 1, 0]),
                vec![sync(), query("fetch 1 from c"), query("rollback")],
            ]
            .concat(),
        ),
        (
            "a portal has the name",
            vec![
                query("begin"),
                parse("", TEN, &[]),
                bind("c", "", &[], &[]),
                sync(),
                query(&format!("declare c cursor for {TEN}")),
                query("rollback"),
            ],
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_come_from_memory() {
    on_each_version(async |database| {
        let ports = Ports::start_writing(&database).await;
        let client = ports.client().await;
        run(&client, "begin").await;
        run(&client, "declare c no scroll cursor for select id, name from cached order by id").await;
        run(&client, "fetch 3 from c").await;
        assert!(!route(&client).await.starts_with("primary"));
        // Another session's commit is not in it.
        run(&ports.primary, "update cached set name = 'later' where id = 4").await;
        ports.mirror.catch_up(&ports.primary).await;
        assert_eq!(value(&client, "select name from cached where id = 4").await, "later");
        run(&client, "delete from plain").await;
        assert_eq!(route(&client).await, "primary:write");
        let rows = client.simple_query("fetch 1 from c").await.unwrap();
        let row = rows.iter().find_map(|m| match m {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        assert_eq!(row.and_then(|row| row.get(1)), Some("name 4"));
        assert_eq!(sqlstate(&client, "update cached set name = '' where current of c").await, "0A000");
        assert_eq!(sqlstate(&client, "fetch 1 from c").await, "25P02");
        run(&client, "rollback").await;
        run(&client, &format!("set millpond.route = 'primary'; begin; declare c cursor for {TEN}")).await;
        run(&client, "fetch 1 from c").await;
        run(&client, "update cached set name = '' where current of c; rollback; reset millpond.route").await;
        ports.stop().await;
    })
    .await;
}
