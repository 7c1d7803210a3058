//! Sessions that are answered here and there in turns.

use super::{PLAIN, POINT, Session, any, chain, once, q};
use crate::wire::raw::{bind, close, describe, execute, parse, sync};

pub(super) fn sessions() -> Vec<Session> {
    let one = |sql: &str, param: &str| vec![parse("", sql, &[]), bind("", "", &[param], &[]), execute("", 0)];
    vec![
        any(
            "memory, primary, memory",
            chain([one(POINT, "1"), one(PLAIN, "1"), one(POINT, "2"), vec![sync()]]),
        ),
        any(
            "primary, memory, primary",
            chain([one(PLAIN, "1"), one(POINT, "1"), one(PLAIN, "2"), vec![sync()]]),
        ),
        any(
            "in turns, each with its Sync",
            chain((0..20).map(|i| chain([one(if i % 3 == 0 { PLAIN } else { POINT }, "5"), vec![sync()]]))),
        ),
        any(
            "queries and messages in turns",
            chain((0..10).map(|_| {
                chain([
                    q(["select id from cached where id = 4"]),
                    one(POINT, "3"),
                    vec![sync()],
                    q(["select id from plain where id = 4"]),
                    one(PLAIN, "3"),
                    vec![sync()],
                ])
            })),
        ),
        any(
            "a write and a read of it",
            chain([
                once("insert into cached values (5001, 'new') returning name", &[], &[]),
                once(POINT, &["5001"], &[]),
                q([
                    "select name from cached where id = 5001",
                    "delete from cached where id = 5001",
                    "select name from cached where id = 5001",
                ]),
                once(POINT, &["5001"], &[]),
            ]),
        ),
        any(
            "a write and a read in one segment",
            chain([
                vec![
                    parse("w", "update cached set name = name || '!' where id = $1", &[]),
                    parse("v", "update cached set name = 'name 9' where id = $1", &[]),
                    sync(),
                    bind("", "w", &["9"], &[]),
                    execute("", 0),
                ],
                one(POINT, "9"),
                vec![sync(), bind("", "v", &["9"], &[]), execute("", 0), sync()],
                one(POINT, "9"),
                vec![sync()],
            ]),
        ),
        any(
            "bound here, and then the primary",
            vec![
                parse("a", POINT, &[]),
                parse("b", PLAIN, &[]),
                sync(),
                bind("p", "a", &["1"], &[]),
                bind("r", "a", &["2"], &[1]),
                bind("s", "b", &["3"], &[]),
                describe('P', "p"),
                describe('P', "r"),
                execute("r", 0),
                execute("s", 0),
                execute("p", 0),
                sync(),
            ],
        ),
        any(
            "in parts across the primary",
            vec![
                parse("a", "select id from cached order by id", &[]),
                bind("p", "a", &[], &[]),
                execute("p", 2),
                parse("b", PLAIN, &[]),
                bind("r", "b", &["1"], &[]),
                execute("r", 0),
                execute("p", 2),
                close('P', "p"),
                sync(),
            ],
        ),
        any(
            "an error of the primary, then memory",
            chain([
                one("select 1 / $1::int", "0"),
                one(POINT, "1"),
                vec![sync()],
                one(POINT, "1"),
                vec![sync()],
            ]),
        ),
        any(
            "memory, then an error of the primary",
            chain([
                one(POINT, "1"),
                one("select 1 / $1::int", "0"),
                one(POINT, "2"),
                vec![sync()],
                one(POINT, "1"),
                vec![sync()],
            ]),
        ),
        any(
            "a write that is undone by an error of memory",
            chain([
                one("insert into bare values (77, $1)", "x"),
                vec![parse("d", POINT, &[]), parse("d", POINT, &[]), sync()],
                q(["select count(*) from bare where id = 77"]),
            ]),
        ),
        any(
            "a query that ends a segment",
            chain([
                one("insert into bare values (78, $1)", "x"),
                q(["select id from cached where id = 1"]),
                vec![sync()],
                q(["delete from bare where id = 78"]),
            ]),
        ),
        any(
            "a notice before an answer from memory",
            chain([
                one("select shout($1)", "x"),
                one(POINT, "1"),
                vec![sync()],
                one(POINT, "1"),
                vec![sync()],
            ]),
        ),
        any(
            "definitions change between",
            q([
                "create table cached_too (a int)",
                "select id from cached where id = 1",
                "alter table cached add extra int",
                "select id, extra + 0 as extra from cached where id = 1",
                "alter table cached drop extra",
                "select * from cached where id = 1",
                "drop table cached_too",
            ]),
        ),
        any(
            "statements under another path",
            chain([
                vec![
                    parse("s", "select * from cached order by id limit 1", &[]),
                    bind("", "s", &[], &[]),
                    execute("", 0),
                    sync(),
                ],
                q(["set search_path = other"]),
                vec![bind("", "s", &[], &[]), execute("", 0), sync()],
                q(["reset search_path"]),
                vec![bind("", "s", &[], &[]), execute("", 0), sync()],
            ]),
        ),
        any(
            "parsed in a transaction, used under another path",
            chain([
                q(["begin"]),
                vec![
                    parse("s", "select * from cached order by id limit 1", &[]),
                    bind("", "s", &[], &[]),
                    describe('P', ""),
                    execute("", 0),
                    sync(),
                ],
                q(["commit"]),
                vec![bind("", "s", &[], &[]), execute("", 0), sync()],
                q(["set search_path = other"]),
                vec![bind("", "s", &[], &[]), execute("", 0), sync()],
                q(["reset search_path"]),
                vec![bind("", "s", &[], &[]), execute("", 0), sync()],
            ]),
        ),
    ]
}
