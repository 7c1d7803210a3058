//! Sessions with COPY, out and in.

use super::{POINT, Session, any, chain, once, q};
use crate::wire::raw::{bind, describe, execute, flush, message, parse, query, sync};

pub(super) fn sessions() -> Vec<Session> {
    let data = |text: &[u8]| message('d', text);
    let done = || message('c', b"");
    let extended = |sql| {
        vec![
            parse("", sql, &[]),
            describe('S', ""),
            bind("", "", &[], &[]),
            describe('P', ""),
            execute("", 0),
        ]
    };
    vec![
        any(
            "out",
            q([
                "copy plain to stdout",
                "copy (select id, name from cached where id < 4 order by id) to stdout with (format csv, header)",
                "copy (select id from cached where id < 0) to stdout",
            ]),
        ),
        any(
            "out of a cached table",
            q([
                "copy cached to stdout",
                "copy cached (id, name) to stdout (format csv)",
                "copy typed to stdout",
                "copy typed to stdout (format csv, null 'N', force_quote *)",
            ]),
        ),
        any(
            "out, binary",
            q([
                "copy (select id, name from cached where id < 4 order by id) to stdout (format binary)",
                "copy typed to stdout (format binary)",
            ]),
        ),
        any("out with an error within", q(["copy (select 1 / (id - 3) from cached order by id) to stdout"])),
        any(
            "out, refused",
            q([
                "copy nowhere to stdout",
                "copy cached (nothing) to stdout",
                "copy cached to stdout (format nonsense)",
                "copy (update cached set name = 'x') to stdout",
            ]),
        ),
        any(
            "in",
            [
                query("copy bare from stdin"),
                data(b"1\tx\n"),
                data(b"2\t"),
                data(b"y\n3\t\\N\n"),
                done(),
                query("delete from bare returning *"),
            ],
        ),
        any("in, nothing", [query("copy bare from stdin"), done()]),
        any(
            "in, csv",
            [
                query("copy bare from stdin with (format csv, header)"),
                data(b"id,name\n1,\"a \"\"q\"\"\"\n"),
                done(),
                query("delete from bare returning *"),
            ],
        ),
        any(
            "in, binary",
            [
                query("copy bare from stdin (format binary)"),
                data(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x04\0\0\0\x05\0\0\0\x01x\xff\xff"),
                done(),
                query("delete from bare returning *"),
            ],
        ),
        any(
            "in, bad data",
            [
                query("copy bare from stdin"),
                data(b"x\ty\n"),
                data(b"1\ty\n"),
                done(),
                query("select count(*) from bare"),
            ],
        ),
        any(
            "in, given up",
            [
                query("copy bare from stdin"),
                data(b"1\ty\n"),
                message('f', b"no more\0"),
                query("select count(*) from bare"),
            ],
        ),
        any(
            "in, with other messages",
            [
                query("copy bare from stdin"),
                data(b"1\ty\n"),
                flush(),
                sync(),
                done(),
                query("delete from bare"),
            ],
        ),
        any(
            "in, by a query in between",
            [
                query("copy bare from stdin"),
                data(b"1\ty\n"),
                query("select 1"),
                query("select count(*) from bare"),
            ],
        ),
        any(
            "in, several statements",
            [
                query(
                    "copy bare from stdin; select id from cached where id = 1; copy bare from stdin; delete from bare",
                ),
                data(b"1\tx\n"),
                done(),
                data(b"2\ty\n"),
                done(),
            ],
        ),
        any(
            "in, in a transaction",
            [
                query("begin"),
                query("copy bare from stdin"),
                data(b"1\tx\n"),
                done(),
                query("select count(*) from bare"),
                query("rollback"),
                query("select count(*) from bare"),
            ],
        ),
        any(
            "in, refused",
            q([
                "copy nowhere from stdin",
                "copy bare (nothing) from stdin",
                "set role nobody",
                "copy bare from stdin",
            ]),
        ),
        any(
            "out, extended",
            chain([
                extended("copy plain to stdout"),
                vec![sync()],
                extended("copy (select id from cached where id < 3 order by id) to stdout (format binary)"),
                vec![sync()],
            ]),
        ),
        any(
            "in, extended",
            chain([
                extended("copy bare from stdin"),
                vec![data(b"1\tx\n"), done(), sync()],
                q(["delete from bare returning *"]),
            ]),
        ),
        any(
            "in, extended, bad data",
            chain([
                extended("copy bare from stdin"),
                vec![data(b"x\n"), done(), sync()],
                once(POINT, &["1"], &[]),
            ]),
        ),
        any(
            "in, extended, given up",
            chain([
                extended("copy bare from stdin"),
                vec![message('f', b"\0"), sync()],
                once(POINT, &["1"], &[]),
            ]),
        ),
        any(
            "data where none is asked for",
            chain([
                vec![data(b"x"), done(), message('f', b"\0")],
                once(POINT, &["1"], &[]),
                q(["select id from cached where id = 1"]),
            ]),
        ),
    ]
}
