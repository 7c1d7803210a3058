//! Sessions by the extended protocol, each step of which succeeds.

use super::{PLAIN, POINT, Session, TYPED, any, bind_all, chain, here, once, q};
use crate::wire::raw::{bind, close, describe, execute, flush, message, parse, query, sync};

pub(super) fn sessions() -> Vec<Session> {
    let named = |name, sql| vec![parse(name, sql, &[]), describe('S', name), sync()];
    let used = |name, params: &[&str], formats: &[u16]| {
        vec![bind("", name, params, formats), describe('P', ""), execute("", 0), sync()]
    };
    vec![
        here("once, text", once(POINT, &["7"], &[])),
        here("once, binary", once(POINT, &["7"], &[1])),
        here("once, of each column its own", once(POINT, &["7"], &[1, 0, 1, 0])),
        here("every type, text", once(TYPED, &["1"], &[])),
        here("every type, binary", once(TYPED, &["1"], &[1])),
        here("every type, NULL", once(TYPED, &["2"], &[1])),
        here("every type, extremes", chain([once(TYPED, &["3"], &[1]), once(TYPED, &["3"], &[0])])),
        here("no row", once(POINT, &["-7"], &[1])),
        here("large rows, binary", once("select id, body from wide where id > $1 order by id", &["1"], &[1])),
        here(
            "prepared, used twice",
            chain([named("s", POINT), used("s", &["3"], &[]), used("s", &["4"], &[1])]),
        ),
        here(
            "two prepared",
            chain([named("s", POINT), named("t", TYPED), used("t", &["1"], &[]), used("s", &["4"], &[1])]),
        ),
        here(
            "given types",
            [parse("", POINT, &[23]), describe('S', ""), bind("", "", &["5"], &[]), execute("", 0), sync()],
        ),
        here(
            "a wider type",
            [parse("", POINT, &[20]), describe('S', ""), bind("", "", &["5"], &[]), execute("", 0), sync()],
        ),
        any(
            "a text type",
            [parse("", POINT, &[25]), describe('S', ""), bind("", "", &["5"], &[]), execute("", 0), sync()],
        ),
        any(
            "an unknown type",
            [parse("", POINT, &[705]), describe('S', ""), bind("", "", &["5"], &[]), execute("", 0), sync()],
        ),
        any("a type that is none", [parse("", POINT, &[999_999]), describe('S', ""), sync()]),
        any(
            "too many types",
            [
                parse("", POINT, &[23, 25]),
                describe('S', ""),
                bind("", "", &["5", "x"], &[]),
                execute("", 0),
                sync(),
            ],
        ),
        here(
            "a binary parameter",
            [
                parse("", POINT, &[]),
                bind_all("", "", &[Some(&[0, 0, 0, 7])], &[1], &[1]),
                execute("", 0),
                sync(),
            ],
        ),
        any(
            "a binary parameter that is short",
            [parse("", POINT, &[]), bind_all("", "", &[Some(&[0, 7])], &[1], &[1]), execute("", 0), sync()],
        ),
        any(
            "a NULL parameter",
            [
                parse("", POINT, &[]),
                bind_all("", "", &[None], &[], &[]),
                describe('P', ""),
                execute("", 0),
                sync(),
            ],
        ),
        any(
            "parameters of both formats",
            [
                parse("", "select id, name from cached where id = $1 and name = $2", &[]),
                describe('S', ""),
                bind_all("", "", &[Some(&[0, 0, 0, 7]), Some(b"name 7")], &[1, 0], &[0, 1]),
                execute("", 0),
                sync(),
            ],
        ),
        here(
            "described before and after",
            [
                parse("s", POINT, &[]),
                describe('S', "s"),
                bind("p", "s", &["3"], &[1]),
                describe('P', "p"),
                execute("p", 0),
                describe('P', "p"),
                describe('S', "s"),
                sync(),
            ],
        ),
        here(
            "a portal in parts",
            [
                parse("", "select id from cached order by id", &[]),
                bind("p", "", &[], &[]),
                execute("p", 2),
                execute("p", 1),
                execute("p", 996),
                execute("p", 5),
                execute("p", 5),
                sync(),
            ],
        ),
        here(
            "a portal of exactly as many",
            [
                parse("", POINT, &[]),
                bind("", "", &["5"], &[]),
                execute("", 1),
                execute("", 1),
                execute("", 0),
                sync(),
            ],
        ),
        here("a negative limit", [parse("", POINT, &[]), bind("", "", &["5"], &[]), execute("", -1), sync()]),
        here(
            "two portals in turns",
            [
                parse("s", "select id, name from cached order by id limit 5", &[]),
                bind("p", "s", &[], &[]),
                bind("r", "s", &[], &[1]),
                execute("p", 2),
                execute("r", 2),
                execute("p", 2),
                execute("r", 0),
                execute("p", 0),
                close('P', "p"),
                execute("r", 0),
                sync(),
            ],
        ),
        any(
            "a portal after the Sync",
            [
                parse("", POINT, &[]),
                bind("p", "", &["5"], &[]),
                sync(),
                execute("p", 0),
                sync(),
                describe('P', "p"),
                sync(),
            ],
        ),
        any(
            "a portal across a Sync in a transaction",
            [
                query("begin"),
                parse("", "select id from cached order by id limit 4", &[]),
                bind("p", "", &[], &[]),
                execute("p", 2),
                sync(),
                execute("p", 2),
                execute("p", 2),
                sync(),
                query("commit"),
                execute("p", 1),
                sync(),
            ],
        ),
        here(
            "closed",
            [
                parse("s", POINT, &[]),
                bind("p", "s", &["3"], &[]),
                close('P', "p"),
                close('S', "s"),
                close('S', "never"),
                close('P', "never"),
                close('S', ""),
                sync(),
                parse("s", POINT, &[]),
                bind("", "s", &["3"], &[]),
                execute("", 0),
                sync(),
            ],
        ),
        here(
            "flushed at each step",
            [
                parse("", POINT, &[]),
                flush(),
                describe('S', ""),
                flush(),
                bind("", "", &["5"], &[]),
                flush(),
                execute("", 0),
                flush(),
                sync(),
            ],
        ),
        here(
            "the unnamed one replaced",
            chain([
                once(POINT, &["3"], &[]),
                once(TYPED, &["1"], &[]),
                vec![bind("", "", &["2"], &[]), execute("", 0), sync()],
            ]),
        ),
        any(
            "the unnamed one after a query",
            chain([once(POINT, &["3"], &[]), q(["select 1"]), used("", &["3"], &[])]),
        ),
        any("empty", chain([once("", &[], &[]), once(" ; ", &[], &[]), once("-- x", &[], &[])])),
        any(
            "no rows to describe",
            chain([
                once("insert into noted values ($1)", &["4"], &[]),
                once("delete from noted", &[], &[]),
                once("set work_mem = '1MB'", &[], &[]),
                once("begin", &[], &[]),
                once("commit", &[], &[]),
            ]),
        ),
        any(
            "returning",
            chain([
                once("insert into noted values ($1) returning id, id + 1 as next", &["4"], &[1]),
                once("delete from noted returning *", &[], &[1]),
            ]),
        ),
        any(
            "a statement of the primary",
            chain([
                once(PLAIN, &["3"], &[]),
                once(PLAIN, &["4"], &[1]),
                once("select $1::text, $2::int[], $3::jsonb", &["a", "{1,2}", "{}"], &[1]),
            ]),
        ),
        any(
            "a prepared one of the primary, in a transaction and out",
            chain([
                named("s", PLAIN),
                q(["begin"]),
                used("s", &["3"], &[]),
                q(["rollback"]),
                used("s", &["3"], &[1]),
                vec![close('S', "s"), sync()],
                used("s", &["3"], &[]),
            ]),
        ),
        any(
            "a prepared one, in a transaction and out",
            chain([
                named("s", POINT),
                used("s", &["3"], &[]),
                q(["begin"]),
                used("s", &["3"], &[]),
                q(["update cached set name = name where id = 3"]),
                used("s", &["3"], &[1]),
                q(["rollback"]),
                used("s", &["3"], &[]),
            ]),
        ),
        any(
            "a portal of a cursor",
            chain([
                q(["begin", "declare c cursor for select id, name from cached order by id"]),
                vec![execute("c", 3), sync()],
                q(["commit"]),
            ]),
        ),
        any(
            "transactions by the extended protocol",
            chain([
                once("begin", &[], &[]),
                once(POINT, &["1"], &[]),
                once("select 1 / 0", &[], &[]),
                once(POINT, &["1"], &[]),
                once("rollback", &[], &[]),
                once(POINT, &["1"], &[]),
            ]),
        ),
        any(
            "settings by the extended protocol",
            chain([
                once("set timezone = 'Asia/Tokyo'", &[], &[]),
                once(POINT, &["1"], &[]),
                once("select set_config('timezone', $1, false)", &["UTC"], &[]),
                once(POINT, &["1"], &[]),
            ]),
        ),
        any(
            "a notification between",
            chain([
                q(["listen a"]),
                once("select pg_notify('a', $1)", &["x"], &[]),
                once(POINT, &["1"], &[]),
            ]),
        ),
        any(
            "a procedure",
            chain([once("call book($1, $2)", &["1", "2"], &[]), once("select shout($1)", &["x"], &[])]),
        ),
        any(
            "statements in SQL and messages",
            chain([
                q(["prepare s as select id from cached where id = 5"]),
                vec![bind("", "s", &[], &[]), execute("", 0), sync(), close('S', "s"), sync()],
                q(["execute s"]),
                named("t", POINT),
                q(["execute t(4)", "deallocate t"]),
                used("t", &["4"], &[]),
            ]),
        ),
        here("Syncs alone", chain([vec![sync(), sync()], once(POINT, &["1"], &[]), vec![sync()]])),
        here(
            "a pipeline of 50",
            chain((0..50).map(|i| {
                vec![
                    parse("", POINT, &[]),
                    bind("", "", &[&i.to_string()], &[i % 2]),
                    describe('P', ""),
                    execute("", 0),
                    sync(),
                ]
            })),
        ),
        here(
            "a pipeline of 50 with one Sync",
            chain(
                (0..50)
                    .map(|i| {
                        vec![parse("", POINT, &[]), bind("", "", &[&i.to_string()], &[i % 2]), execute("", 0)]
                    })
                    .chain([vec![sync()]]),
            ),
        ),
        any(
            "a function call",
            [
                message('F', &[&1397u32.to_be_bytes()[..], &[0, 0, 0, 0, 0, 0]].concat()),
                message(
                    'F',
                    &[&1397u32.to_be_bytes()[..], &[0, 1, 0, 0, 0, 1, 0, 0, 0, 2, b'-', b'5', 0, 0]].concat(),
                ),
            ],
        ),
    ]
}
