//! The same bytes to both ports, and the same bytes back.

use super::{
    Ports,
    raw::{RawClient, bind, close, comparable, describe, execute, flush, message, parse, query, sync},
};
use crate::support::postgres::{newest, on_each_version};

const BY_ID: &str = "select id, name, at, amount from cached where id = $1";
const ALL: &str = "select id, name from cached order by id";

/// Sends one script to both and compares everything up to its last ReadyForQuery.
pub(super) async fn compare(here: &mut RawClient, there: &mut RawClient, what: &str, script: &[Vec<u8>]) {
    let ready = script.iter().filter(|m| matches!(m.first(), Some(b'Q' | b'S' | b'F'))).count();
    let bytes = script.concat();
    here.send(&bytes).await;
    there.send(&bytes).await;
    let expected = comparable(there.until_ready(ready).await);
    let actual = comparable(here.until_ready(ready).await);
    assert_eq!(actual, expected, "{what}");
}

/// Under which memory can answer, and both answer alike.
pub(super) async fn same_settings(here: &mut RawClient, there: &mut RawClient) {
    here.execute("set timezone = 'UTC'").await;
    there.execute("set timezone = 'UTC'").await;
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simple_protocol() {
    let q = |sql: &str| vec![query(sql)];
    compare_all(
        &[
            ("point", q("select id, name, amount from cached where id = 7")),
            ("all", q("select id, name from cached order by id")),
            ("star", q("select * from plain where id = 3")),
            ("none", q("select id from cached where id = -1")),
            ("empty", q("")),
            ("empty statement", q(" ; ")),
            ("syntax", q("selekt 1")),
            ("no table", q("select * from nowhere")),
            ("no column", q("select nothing from cached")),
            ("division", q("select 1 / 0")),
            ("several", q("select id from cached where id = 1; select id from plain where id = 2")),
            ("several with an error", q("select id from cached where id = 1; select 1 / 0; select 3")),
            ("begin", q("begin")),
            ("within", q("select id from cached where id = 1")),
            ("failed", q("select 1 / 0")),
            ("after failure", q("select id from cached where id = 1")),
            ("rollback", q("rollback")),
            ("write", q("insert into bare values (5000, 'x') returning *")),
            ("delete", q("begin; delete from plain where id = 50; rollback")),
            ("copy out", q("copy (select id from plain order by id limit 3) to stdout")),
            ("copy in", vec![query("copy bare from stdin"), message('d', b"7001\tx\n"), message('c', b"")]),
            (
                "copy that fails",
                vec![query("copy bare from stdin"), message('d', b"nonsense\n"), message('c', b"")],
            ),
            ("copy that is given up", vec![query("copy bare from stdin"), message('f', b"no more\0")]),
            ("notice", q("do $$ begin raise notice 'hello'; end $$")),
            (
                "cursor",
                q("begin; declare c cursor for select id from cached order by id; fetch 3 from c; commit"),
            ),
            ("point again", q("select id, name, amount from cached where id = 7")),
        ],
        &["point", "all", "none"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_protocol() {
    let parsed = |sql: &str, params: &[&str], formats: &[u16]| {
        vec![parse("", sql, &[]), bind("", "", params, formats), describe('P', ""), execute("", 0), sync()]
    };
    compare_all(
        &[
            ("point text", parsed(BY_ID, &["7"], &[])),
            ("point binary", parsed(BY_ID, &["7"], &[1])),
            ("point mixed", parsed(BY_ID, &["7"], &[0, 1, 1, 1])),
            ("no row", parsed(BY_ID, &["70000"], &[])),
            ("bad parameter", parsed(BY_ID, &["seven"], &[])),
            ("out of range", parsed(BY_ID, &["99999999999"], &[])),
            ("too few parameters", parsed(BY_ID, &[], &[])),
            ("too many formats", parsed(BY_ID, &["7"], &[0, 1])),
            ("bad format", parsed(BY_ID, &["7"], &[3])),
            ("bad sql", parsed("selekt", &[], &[])),
            ("two statements", parsed("select 1; select 2", &[], &[])),
            ("empty", parsed("", &[], &[])),
            ("from the primary", parsed("select name from plain where id = $1", &["3"], &[])),
            (
                "described",
                vec![
                    parse("s1", BY_ID, &[]),
                    describe('S', "s1"),
                    parse("s2", BY_ID, &[20]),
                    describe('S', "s2"),
                    sync(),
                ],
            ),
            (
                "used later",
                vec![
                    bind("", "s1", &["9"], &[1]),
                    execute("", 0),
                    bind("p", "s1", &["10"], &[]),
                    execute("p", 0),
                    sync(),
                ],
            ),
            ("named twice", vec![parse("s1", BY_ID, &[]), sync()]),
            ("still there", vec![bind("", "s1", &["9"], &[]), execute("", 0), sync()]),
            ("in a transaction", vec![query("begin")]),
            ("used there", vec![bind("", "s1", &["9"], &[]), execute("", 0), sync()]),
            (
                "used there again",
                vec![bind("", "s1", &["11"], &[1]), describe('P', ""), execute("", 0), sync()],
            ),
            ("over", vec![query("commit")]),
            ("used after", vec![bind("", "s1", &["12"], &[]), execute("", 0), sync()]),
            ("closed", vec![close('S', "s1"), close('S', "s1"), close('P', "nothing"), sync()]),
            ("gone", vec![bind("", "s1", &["9"], &[]), execute("", 0), sync()]),
            ("unknown statement", vec![bind("", "nowhere", &[], &[]), execute("", 0), sync()]),
            ("unknown portal", vec![execute("nowhere", 0), sync()]),
            ("unknown described", vec![describe('S', "nowhere"), sync()]),
            ("nothing", vec![sync()]),
            ("nothing twice", vec![sync(), sync()]),
            (
                "portal in parts",
                vec![
                    parse("", ALL, &[]),
                    bind("p", "", &[], &[]),
                    execute("p", 3),
                    execute("p", 2),
                    describe('P', "p"),
                    execute("p", 0),
                    execute("p", 0),
                    close('P', "p"),
                    execute("p", 0),
                    sync(),
                ],
            ),
            (
                "exactly as many",
                vec![
                    parse("", BY_ID, &[]),
                    bind("", "", &["5"], &[]),
                    execute("", 1),
                    execute("", 1),
                    sync(),
                ],
            ),
            ("portals end with the Sync", vec![execute("p", 0), sync()]),
            (
                "two portals of a name",
                vec![parse("", BY_ID, &[]), bind("p", "", &["5"], &[]), bind("p", "", &["6"], &[]), sync()],
            ),
            (
                "flushed",
                vec![
                    parse("", BY_ID, &[]),
                    flush(),
                    bind("", "", &["5"], &[]),
                    flush(),
                    execute("", 0),
                    flush(),
                    sync(),
                ],
            ),
            (
                "a query drops the unnamed statement",
                vec![
                    parse("", BY_ID, &[]),
                    sync(),
                    query("select id from cached where id = 1"),
                    bind("", "", &["5"], &[]),
                    sync(),
                ],
            ),
            (
                "a query before the Sync",
                vec![
                    parse("", BY_ID, &[]),
                    bind("", "", &["5"], &[]),
                    query("select id from cached where id = 2"),
                    sync(),
                ],
            ),
            (
                "copy out",
                vec![parse("", "copy plain to stdout", &[]), bind("", "", &[], &[]), execute("", 0), sync()],
            ),
            (
                "copy in",
                vec![
                    parse("", "copy bare from stdin", &[]),
                    bind("", "", &[], &[]),
                    execute("", 0),
                    message('d', b"9001\tx\n"),
                    message('c', b""),
                    sync(),
                ],
            ),
        ],
        &[
            "point text",
            "point binary",
            "point mixed",
            "no row",
            "used later",
            "used after",
            "portal in parts",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_that_are_mixed() {
    let plain = "select name from plain where id = $1";
    compare_all(
        &[
            (
                "local, primary, local",
                vec![
                    parse("a", BY_ID, &[]),
                    bind("", "a", &["1"], &[]),
                    execute("", 0),
                    parse("b", plain, &[]),
                    bind("", "b", &["2"], &[]),
                    execute("", 0),
                    bind("", "a", &["3"], &[]),
                    describe('P', ""),
                    execute("", 0),
                    sync(),
                ],
            ),
            (
                "bound here, executed there",
                vec![
                    bind("p1", "a", &["1"], &[]),
                    bind("p2", "a", &["2"], &[1]),
                    bind("p3", "b", &["3"], &[]),
                    execute("p2", 0),
                    execute("p3", 0),
                    execute("p1", 0),
                    sync(),
                ],
            ),
            (
                "in parts across the change",
                vec![
                    parse("", ALL, &[]),
                    bind("p", "", &[], &[]),
                    execute("p", 3),
                    bind("q", "b", &["3"], &[]),
                    execute("q", 0),
                    execute("p", 4),
                    describe('P', "p"),
                    execute("q", 0),
                    close('P', "p"),
                    sync(),
                ],
            ),
            (
                "the unnamed one changes",
                vec![
                    parse("", BY_ID, &[]),
                    bind("p", "", &["1"], &[]),
                    parse("", plain, &[]),
                    bind("q", "", &["1"], &[]),
                    execute("p", 0),
                    execute("q", 0),
                    sync(),
                    bind("", "", &["2"], &[]),
                    execute("", 0),
                    sync(),
                ],
            ),
            (
                "an error here ends it",
                vec![
                    bind("", "a", &["1"], &[]),
                    execute("", 0),
                    bind("p", "a", &["1"], &[]),
                    bind("p", "a", &["1"], &[]),
                    bind("", "b", &["1"], &[]),
                    execute("", 0),
                    sync(),
                    bind("", "b", &["1"], &[]),
                    execute("", 0),
                    sync(),
                ],
            ),
            (
                "an error there ends it",
                vec![
                    parse("w", "insert into bare values ($1, 'w')", &[]),
                    bind("", "w", &["8001"], &[]),
                    execute("", 0),
                    parse("", "select 1 / 0", &[]),
                    bind("", "", &[], &[]),
                    execute("", 0),
                    bind("", "a", &["1"], &[]),
                    execute("", 0),
                    parse("c", BY_ID, &[]),
                    sync(),
                    query("select count(*) from bare where id = 8001"),
                    bind("", "c", &["1"], &[]),
                    sync(),
                    bind("", "w", &["8002"], &[]),
                    execute("", 0),
                    sync(),
                ],
            ),
            (
                "a name that is taken, behind a write",
                vec![
                    parse("d", BY_ID, &[]),
                    sync(),
                    bind("", "w", &["8003"], &[]),
                    execute("", 0),
                    parse("d", BY_ID, &[]),
                    bind("", "a", &["1"], &[]),
                    sync(),
                    query("select count(*) from bare where id = 8003"),
                ],
            ),
            (
                "statements of other names by SQL",
                vec![
                    parse("e", BY_ID, &[]),
                    sync(),
                    query("execute e (4)"),
                    query("deallocate e"),
                    bind("", "e", &["1"], &[]),
                    sync(),
                    bind("", "d", &["1"], &[]),
                    execute("", 0),
                    sync(),
                    query("deallocate all"),
                    bind("", "d", &["1"], &[]),
                    sync(),
                    parse("d", BY_ID, &[]),
                    bind("", "d", &["1"], &[]),
                    execute("", 0),
                    sync(),
                ],
            ),
            (
                "malformed",
                vec![
                    message('P', b"x"),
                    bind("", "d", &["1"], &[]),
                    sync(),
                    message('B', b"\0\0\xff\xff"),
                    sync(),
                ],
            ),
        ],
        &[],
    )
    .await;
}

/// Thousands of messages at random, with errors, here and there, in one order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelines_at_random() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    let database = newest().database().await;
    let ports = Ports::start_writing(&database).await;
    let (mut here, mut there) = ports.raw().await;
    here.execute("set timezone = 'UTC'").await;
    there.execute("set timezone = 'UTC'").await;
    let seed = 20_240_601;
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..150 {
        if round % 10 == 0 {
            here.execute("discard all").await;
            there.execute("discard all").await;
        }
        let mut script = Vec::new();
        let names = ["", "a", "b"];
        for _ in 0..random.random_range(1..40) {
            let name = names[random.random_range(0..3)];
            let portal = names[random.random_range(0..3)];
            let id = random.random_range(-1..120).to_string();
            script.push(match random.random_range(0..22) {
                0..3 => parse(name, BY_ID, &[]),
                3..5 => parse(name, "select name from plain where id = $1", &[]),
                5 => parse(name, "select 1 / $1::int", &[]),
                6 => parse(name, "nonsense $1", &[]),
                7..12 => bind(portal, name, &[&id], &[random.random_range(0..2)]),
                12..16 => execute(portal, random.random_range(0..2)),
                16 => describe('S', name),
                17 => describe('P', portal),
                18 => close('S', name),
                19 => close('P', portal),
                _ => sync(),
            });
        }
        script.push(sync());
        compare(&mut here, &mut there, &format!("round {round} of seed {seed}: {script:?}"), &script).await;
    }
    ports.stop().await;
}
