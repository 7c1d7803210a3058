//! A table of sessions, recorded at the primary and at Millpond: the bytes that come back are the same,
//! from the first message of the login to the last.
//!
//! What may differ, and is left out: the process id and key of BackendKeyData, the process id of a
//! notification, and of errors that Millpond found by itself the fields F, L and R (where in the
//! server's source an error was raised).

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::{
    Ports,
    raw::{Answer, RawClient, bind, close, describe, execute, flush, message, parse, query, startup, sync},
};
use crate::support::{client, mirror::Mirror, postgres::on_each_version};

/// For one session; only failing tests ever wait so long.
const DEADLINE: Duration = Duration::from_secs(20);

const MORE: &str = "
    create type mood as enum ('low', 'high');
    create domain positive as int check (value > 0);
    create table typed (
        id int primary key, a int2, b int8, c float4, d float8, e numeric(8, 3), f text, g varchar(10), h char(4), i bytea,
        j bool, k date, l time, m timestamp, n timestamptz, o interval, p uuid, q jsonb, r json, s int[], t text[], u inet,
        v mood, w positive, x bit(4), y int4range, z point
    );
    insert into typed values
        (1, 1, 2, 1.5, 2.5, 3.125, 'text', 'varchar', 'ab', '\\x00ff', true, '2024-02-29', '12:34:56.789',
         '2024-02-29 12:34:56', '2024-02-29 12:34:56+00', '1 mon 2 days 03:04:05', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
         '{\"a\": [1, null]}', '{\"b\" : 1.0}', '{1,NULL,3}', '{a,\"b c\",NULL}', '10.0.0.1', 'high', 5, '1010', '[1,5)', '(1,2)'),
        (3, -1, -2, 'nan', '-infinity', -0.001, '', '', '', '', false, 'infinity', '00:00', '-infinity', 'infinity', '-1 day',
         '00000000-0000-0000-0000-000000000000', 'null', '[]', '{}', '{}', '::1', 'low', 1, '0000', 'empty', '(0,0)');
    insert into typed (id) values (2);
    create table wide (id int primary key, body text);
    insert into wide select g, repeat(md5(g::text), 10000) from generate_series(1, 4) g;
    create table noted (id int);
    create function shout(what text) returns text language plpgsql as $$
    begin raise notice 'shouting %', what using hint = 'softly', detail = 'loud'; return upper(what); end $$;
    create function fails() returns int language plpgsql as $$
    begin raise exception 'it fails' using errcode = 'MP001', detail = 'd', hint = 'h', column = 'c', constraint = 'k',
        datatype = 't', table = 'r', schema = 's'; end $$;
    create function notify_insert() returns trigger language plpgsql as $$
    begin raise notice 'inserting %', new.id; return new; end $$;
    create trigger noted before insert on noted for each row execute function notify_insert();
    create procedure book(x int, inout y int) language plpgsql as 'begin y := x + 1; end';
    create role nobody;";

const POINT: &str = "select id, name, at, amount from cached where id = $1";
const TYPED: &str = "select * from typed where id = $1";
const PLAIN: &str = "select id, name from plain where id = $1";

struct Session {
    name: &'static str,
    script: Vec<Vec<u8>>,
    /// How the last statement that counts is answered here.
    route: Route,
}

#[derive(PartialEq)]
enum Route {
    Memory,
    Any,
}

/// A session whose last statement is answered from memory.
fn here(name: &'static str, script: impl IntoIterator<Item = Vec<u8>>) -> Session {
    Session { name, script: script.into_iter().collect(), route: Route::Memory }
}

fn any(name: &'static str, script: impl IntoIterator<Item = Vec<u8>>) -> Session {
    Session { name, script: script.into_iter().collect(), route: Route::Any }
}

/// Simple queries, each a message.
fn q<const N: usize>(texts: [&str; N]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| query(text)).collect()
}

/// One statement by the extended protocol, up to its Sync.
fn once(sql: &str, params: &[&str], formats: &[u16]) -> Vec<Vec<u8>> {
    vec![
        parse("", sql, &[]),
        describe('S', ""),
        bind("", "", params, formats),
        describe('P', ""),
        execute("", 0),
        sync(),
    ]
}

/// Bind with formats for the parameters, which may be NULL.
fn bind_all(
    portal: &str,
    statement: &str,
    params: &[Option<&[u8]>],
    formats: &[u16],
    results: &[u16],
) -> Vec<u8> {
    let mut body = BytesMut::new();
    for name in [portal, statement] {
        body.put_slice(name.as_bytes());
        body.put_u8(0);
    }
    body.put_u16(formats.len() as u16);
    formats.iter().for_each(|f| body.put_u16(*f));
    body.put_u16(params.len() as u16);
    for param in params {
        match param {
            Some(bytes) => {
                body.put_u32(bytes.len() as u32);
                body.put_slice(bytes);
            }
            None => body.put_i32(-1),
        }
    }
    body.put_u16(results.len() as u16);
    results.iter().for_each(|f| body.put_u16(*f));
    message('B', &body)
}

fn chain(parts: impl IntoIterator<Item = Vec<Vec<u8>>>) -> Vec<Vec<u8>> {
    parts.into_iter().flatten().collect()
}

fn sessions() -> Vec<Session> {
    let mut all = simple();
    all.extend(extended());
    all.extend(errors());
    all.extend(copies());
    all.extend(mixed());
    all
}

fn simple() -> Vec<Session> {
    vec![
        here("a row", q(["select id, name, at, amount from cached where id = 7"])),
        here("all columns of all types", q(["select * from typed where id = 1"])),
        here("all NULL", q(["select * from typed where id = 2"])),
        here("extremes and nothings", q(["select * from typed where id = 3"])),
        here("no row", q(["select id from cached where id = -1"])),
        here("no columns", q(["select from cached where id = 1", "select id from cached where id = 1"])),
        here("many rows", q(["select id, name from cached order by id"])),
        here("rows of 320 kB", q(["select id, body from wide order by id"])),
        here(
            "names of columns",
            q(["select id as \"A b\", name \"ü\", amount as amount from cached where id = 3"]),
        ),
        here("a column twice", q(["select id, id, name, id from cached where id = 3"])),
        here("counted", q(["select count(*) from cached"])),
        here("ordered and limited", q(["select id from cached order by id desc limit 3 offset 2"])),
        here("a list", q(["select id, name from cached where id in (5, 3, 4, 3) order by id"])),
        here("comments and spaces", q(["/* a */ select -- b\n id from cached where id = 1 ; "])),
        any(
            "several, all cached",
            q(["select id from cached where id = 1; select name from cached where id = 2"]),
        ),
        any(
            "several with writes",
            q(["insert into noted values (1); select id from cached where id = 1; delete from noted"]),
        ),
        any("several with an error", q(["select id from cached where id = 1; select 1 / 0; select 2"])),
        any("several with a syntax error", q(["select id from cached where id = 1; selekt"])),
        any(
            "several transactions",
            q(["begin; select 1; commit; begin; select id from cached where id = 1; rollback"]),
        ),
        any("several, one of them empty", q(["select 1;; ; select 2;"])),
        any("empty", q([""])),
        any("a semicolon", q([";"])),
        any("a comment", q(["-- nothing"])),
        any("spaces", q(["  \n\t "])),
        any("empty in a transaction", q(["begin", "", "commit"])),
        any("empty in a failed transaction", q(["begin", "select 1 / 0", "", "rollback"])),
        any(
            "a transaction",
            q([
                "begin",
                "select id from cached where id = 1",
                "update cached set name = 'x' where id = 1",
                "select name from cached where id = 1",
                "rollback",
                "select name from cached where id = 1",
            ]),
        ),
        any(
            "savepoints",
            q([
                "begin",
                "savepoint a",
                "select 1 / 0",
                "select 1",
                "rollback to a",
                "select id from cached where id = 1",
                "release a",
                "commit",
            ]),
        ),
        any(
            "transactions that warn",
            q([
                "commit",
                "rollback",
                "begin",
                "begin",
                "commit",
                "savepoint x",
                "begin read only",
                "insert into noted values (1)",
                "rollback and chain",
                "commit",
            ]),
        ),
        any(
            "isolation levels",
            q([
                "begin isolation level repeatable read",
                "select id from cached where id = 1",
                "commit",
                "begin isolation level serializable read only deferrable",
                "select id from cached where id = 1",
                "show transaction_isolation",
                "commit",
                "set default_transaction_isolation = 'serializable'",
                "select id from cached where id = 1",
            ]),
        ),
        any(
            "tags of commands",
            q([
                "begin",
                "insert into noted values (1), (2)",
                "update noted set id = 3",
                "delete from noted where id = 3",
                "create table made (a int)",
                "create table made_as as select * from cached where id < 4",
                "select * into made_into from cached where id < 3",
                "alter table made add b text",
                "create index on made (a)",
                "create view seen as select * from made",
                "comment on table made is 'x'",
                "grant select on made to nobody",
                "revoke select on made from nobody",
                "truncate made",
                "drop view seen",
                "drop table made",
                "create schema making",
                "drop schema making",
                "create sequence counting",
                "select nextval('counting')",
                "set local work_mem = '1MB'",
                "reset work_mem",
                "show work_mem",
                "lock table plain in share mode",
                "explain (costs off) select * from plain where id = 1",
                "analyze plain",
                "do $$ begin perform 1; end $$",
                "call book(1, 2)",
                "prepare p as select 1",
                "execute p",
                "deallocate p",
                "declare c cursor for select id from cached order by id",
                "fetch 2 from c",
                "move 2 from c",
                "close c",
                "listen a",
                "unlisten a",
                "notify a",
                "discard plans",
                "set constraints all deferred",
                "checkpoint",
                "values (1, 'a'), (2, null)",
                "table plain limit 2",
                "merge into noted using (values (1)) v(x) on noted.id = v.x when not matched then insert values (v.x)",
                "rollback",
            ]),
        ),
        any(
            "maintenance",
            q([
                "vacuum plain",
                "analyze plain",
                "begin",
                "vacuum plain",
                "rollback",
                "reindex table plain",
                "cluster plain",
            ]),
        ),
        any(
            "cursors that outlive their transaction",
            q([
                "begin",
                "declare c scroll cursor with hold for select id, name from cached order by id",
                "commit",
                "fetch 2 from c",
                "select id from cached where id = 1",
                "fetch backward 1 from c",
                "close c",
                "fetch 1 from c",
            ]),
        ),
        any(
            "settings are reported",
            q([
                "set timezone = 'Asia/Tokyo'",
                "select at from cached where id = 1",
                "set datestyle = 'german'",
                "select k, m, n from typed where id = 1",
                "set intervalstyle = 'iso_8601'",
                "select o from typed where id = 1",
                "set bytea_output = 'escape'",
                "select i from typed where id = 1",
                "set extra_float_digits = -5",
                "select d from typed where id = 1",
                "set application_name = 'sessions'",
                "set client_encoding = 'latin1'",
                "select name from cached where id = 1",
                "set standard_conforming_strings = off",
                "select id from cached where name = 'a\\'",
                "set search_path = other",
                "select * from cached",
                "reset all",
                "select at from cached where id = 1",
                "discard all",
            ]),
        ),
        any(
            "settings of a transaction",
            q([
                "begin",
                "set local timezone = 'Asia/Tokyo'",
                "select at from cached where id = 1",
                "rollback",
                "select at from cached where id = 1",
                "begin; set timezone = 'Asia/Tokyo'; select at from cached where id = 1; rollback",
                "select at from cached where id = 1",
                "select set_config('timezone', 'Asia/Tokyo', false)",
                "select at from cached where id = 1",
            ]),
        ),
        any(
            "roles",
            q([
                "set role nobody",
                "select id from cached where id = 1",
                "select current_user",
                "reset role",
                "select id from cached where id = 1",
                "set session authorization nobody",
                "select id from cached where id = 1",
                "reset session authorization",
            ]),
        ),
        any(
            "notifications",
            q([
                "listen a",
                "notify a, 'x'",
                "select id from cached where id = 1",
                "begin",
                "notify a, 'y'",
                "select id from cached where id = 1",
                "commit",
                "unlisten *",
                "notify a",
            ]),
        ),
        any(
            "notices",
            q([
                "select shout('x')",
                "insert into noted values (3)",
                "delete from noted",
                "drop table if exists nowhere",
                "set client_min_messages = error",
                "select shout('x')",
            ]),
        ),
        any(
            "temporary tables",
            q([
                "create temp table cached (id int, name text)",
                "insert into cached values (1, 'mine')",
                "select count(*), min(name) from cached",
                "drop table cached",
                "select name from cached where id = 1",
            ]),
        ),
        any(
            "a name elsewhere",
            q([
                "select * from other.cached",
                "select * from public.cached where id = 2",
                "select * from \"cached\" where id = 2",
            ]),
        ),
        any(
            "prepared by SQL",
            q([
                "prepare p(int) as select id, name from cached where id = $1",
                "execute p(3)",
                "execute p('x')",
                "execute p",
                "deallocate p",
                "execute p(3)",
                "deallocate all",
            ]),
        ),
        any(
            "what only the primary has",
            q([
                "select * from plain where id = 5",
                "select ctid, xmin::text is not null from cached where id = 1",
                "select cached from cached where id = 1",
                "select count(*) from pg_class where relname = 'cached'",
            ]),
        ),
        any(
            "locks",
            q([
                "select id from cached where id = 1 for update",
                "select pg_advisory_lock(1)",
                "select pg_advisory_unlock(1)",
                "select pg_advisory_unlock(1)",
            ]),
        ),
        any(
            "an explained read",
            q([
                "explain (costs off) select * from plain where id = 1",
                "explain (costs off, verbose) select * from plain",
            ]),
        ),
        any(
            "two phases",
            q([
                "prepare transaction 'x'",
                "commit prepared 'nothing'",
                "begin",
                "insert into noted values (1)",
                "rollback",
            ]),
        ),
    ]
}

fn extended() -> Vec<Session> {
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
                message('F', &[&1598u32.to_be_bytes()[..], &[0, 0, 0, 0, 0, 0]].concat()),
                message(
                    'F',
                    &[&1397u32.to_be_bytes()[..], &[0, 1, 0, 0, 0, 1, 0, 0, 0, 2, b'-', b'5', 0, 0]].concat(),
                ),
            ],
        ),
    ]
}

fn errors() -> Vec<Session> {
    let after = |first: Vec<Vec<u8>>| chain([first, once(POINT, &["1"], &[])]);
    vec![
        any(
            "of the parser",
            q(["selekt 1", "select id from", "select 'x", "select \"x", "select $1", "select 1 1", "/* x"]),
        ),
        any(
            "of names",
            q([
                "select nothing from cached",
                "select * from nowhere",
                "select cached.x from cached",
                "select nofunction(1)",
                "select id from cached c where cached.id = 1",
                "select name from cached, plain",
                "select * from no.where",
            ]),
        ),
        any(
            "of types",
            q([
                "select id from cached where id = 'x'",
                "select id from cached where name = 1",
                "select id from cached where id = true",
                "select id from cached where id = 99999999999999999999",
                "select id from cached where at = 'never'",
                "select id + name from cached",
                "select 'x'::mood",
                "select 0::positive",
                "select id from cached where id = '1.5'",
            ]),
        ),
        any(
            "of values",
            q([
                "select 1 / 0",
                "select 2147483647 + id from cached where id = 1",
                "select id / (id - 1) from cached where id = 1",
                "select fails()",
                "select 'x'::int",
                "select repeat('x', -1), chr(0)",
                "select 1 / (id - 3) from cached order by id",
            ]),
        ),
        any(
            "of constraints",
            q([
                "insert into plain values (1, 'x')",
                "insert into plain values (null, 'x')",
                "insert into typed (id, w) values (9, -1)",
                "insert into typed (id, g) values (9, repeat('x', 11))",
                "insert into typed (id, a) values (9, 99999)",
                "update cached set id = 2 where id = 1",
            ]),
        ),
        any(
            "of grouping",
            q([
                "select id, count(*) from cached",
                "select count(count(*)) from cached",
                "select id from cached group by name",
                "select id from cached where count(*) > 1",
                "select id from cached order by 2",
                "select id from cached limit 'x'",
                "select id from cached limit -1",
                "select id from cached offset -1",
            ]),
        ),
        any(
            "of rights",
            q([
                "set role nobody",
                "select * from cached",
                "select id from plain where id = 1",
                "insert into cached values (1)",
                "create table t (a int)",
                "create role x",
                "reset role",
                "select id from cached where id = 1",
            ]),
        ),
        any(
            "at Parse",
            chain([
                once("selekt", &[], &[]),
                once("select nothing from cached where id = $1", &["1"], &[]),
                once("select 1; select 2", &[], &[]),
                once("select $1 + $2", &["1", "2"], &[]),
                after(once("select $2::int", &["1", "2"], &[])),
            ]),
        ),
        any(
            "at Bind",
            chain([
                once(POINT, &["x"], &[]),
                once(POINT, &["99999999999"], &[]),
                once(POINT, &[], &[]),
                once(POINT, &["1", "2"], &[]),
                once(POINT, &["1"], &[0, 1]),
                once(POINT, &["1"], &[2]),
                after(once(POINT, &[""], &[])),
            ]),
        ),
        any(
            "at Bind, of text",
            after(vec![
                parse("", "select id from cached where name = $1", &[]),
                bind_all("", "", &[Some(b"\xff")], &[], &[]),
                sync(),
                bind_all("", "", &[Some(b"a\0b")], &[], &[]),
                sync(),
            ]),
        ),
        any(
            "at Bind, formats of parameters",
            after(vec![
                parse("", POINT, &[]),
                bind_all("", "", &[Some(b"1")], &[0, 0], &[]),
                sync(),
                bind_all("", "", &[Some(b"1")], &[7], &[]),
                sync(),
            ]),
        ),
        any(
            "at Execute",
            chain([
                once("select 1 / $1::int", &["0"], &[]),
                once("select 1 / (id - 3) from cached where id < $1 order by id", &["9"], &[]),
                after(once("select fails()", &[], &[])),
            ]),
        ),
        any(
            "names that are none",
            after(vec![
                bind("", "never", &[], &[]),
                execute("", 0),
                sync(),
                execute("never", 0),
                sync(),
                describe('S', "never"),
                sync(),
                describe('P', "never"),
                sync(),
                bind("", "", &["1"], &[]),
                sync(),
                describe('S', ""),
                sync(),
                execute("", 0),
                sync(),
            ]),
        ),
        any(
            "names that are taken",
            after(vec![
                parse("s", POINT, &[]),
                parse("s", POINT, &[]),
                sync(),
                parse("s", PLAIN, &[]),
                sync(),
                bind("p", "s", &["1"], &[]),
                bind("p", "s", &["2"], &[]),
                execute("p", 0),
                sync(),
                parse("t", PLAIN, &[]),
                parse("t", POINT, &[]),
                sync(),
            ]),
        ),
        any(
            "skipped to the Sync",
            after(vec![
                parse("", "selekt", &[]),
                bind("", "", &[], &[]),
                describe('P', ""),
                execute("", 0),
                parse("s", POINT, &[]),
                close('S', "s"),
                flush(),
                sync(),
                bind("", "s", &["1"], &[]),
                sync(),
            ]),
        ),
        any(
            "a query among what is skipped",
            after(vec![parse("", "selekt", &[]), query("select id from cached where id = 1"), sync()]),
        ),
        any(
            "malformed",
            after(vec![
                message('P', b"x"),
                sync(),
                message('B', b"\0\0"),
                sync(),
                message('E', b"\0"),
                sync(),
                message('D', b"X\0"),
                sync(),
                message('D', b"S"),
                sync(),
                message('C', b"X\0"),
                sync(),
                message('B', b"\0\0\xff\xff"),
                sync(),
            ]),
        ),
        any(
            "malformed counts",
            after(vec![
                parse("", POINT, &[]),
                message('B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
                sync(),
                message('B', b"\0\0\0\0\0\x01\0\0\0\x05ab\0\0"),
                sync(),
                message('E', b"\0\0\0\0\0\0"),
                sync(),
            ]),
        ),
        any(
            "a transaction that failed",
            chain([
                q(["begin"]),
                once("select 1 / 0", &[], &[]),
                once(POINT, &["1"], &[]),
                vec![parse("s", POINT, &[]), sync(), bind("", "nothing", &[], &[]), sync(), sync()],
                q(["select id from cached where id = 1", "", "commit"]),
                after(vec![]),
            ]),
        ),
        any(
            "a failed transaction in a pipeline",
            after(vec![
                parse("", "begin", &[]),
                bind("", "", &[], &[]),
                execute("", 0),
                parse("", "select 1 / 0", &[]),
                bind("", "", &[], &[]),
                execute("", 0),
                parse("", POINT, &[]),
                sync(),
                sync(),
                query("rollback"),
            ]),
        ),
        any(
            "prepared, and then its table changed",
            chain([
                q(["create table changing (a int, b text)", "insert into changing values (1, 'x')"]),
                vec![
                    parse("s", "select count(a), max(b) from changing", &[]),
                    describe('S', "s"),
                    parse("t", "select * from (select a, b from changing) x, (values (1)) y", &[]),
                    bind("", "t", &[], &[]),
                    execute("", 0),
                    sync(),
                ],
                q(["alter table changing alter b type varchar(7)"]),
                vec![
                    bind("", "s", &[], &[]),
                    execute("", 0),
                    sync(),
                    bind("", "t", &[], &[]),
                    execute("", 0),
                    sync(),
                ],
                q(["drop table changing"]),
                vec![bind("", "s", &[], &[]), execute("", 0), sync()],
            ]),
        ),
        any(
            "text that is not UTF-8",
            [message('Q', b"select '\xff'\0"), message('P', b"\0select '\xff\xfe'\0\0\0"), sync()],
        ),
        any("a query without an end", [message('Q', b"select 1")]),
        any("a query with two ends", [message('Q', b"select 1\0select 2\0")]),
        any(
            "statements that time out",
            q([
                "set statement_timeout = '50ms'",
                "select pg_sleep(5)",
                "select id from cached where id = 1",
                "set lock_timeout = '1s'",
                "reset statement_timeout",
                "select id from cached where id = 1",
            ]),
        ),
        any(
            "a read-only session",
            q([
                "set default_transaction_read_only = on",
                "insert into noted values (1)",
                "select id from cached where id = 1",
                "create temp table x (a int)",
                "select nextval('nowhere')",
                "set transaction read write",
            ]),
        ),
    ]
}

fn copies() -> Vec<Session> {
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

fn mixed() -> Vec<Session> {
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
                "select id, extra from cached where id = 1",
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
    ]
}

/// Logs in, sends a session whole, and takes everything that comes back up to a mark.
async fn record(port: u16, database: &str, script: &[Vec<u8>]) -> Vec<Answer> {
    let mut client = RawClient::open(port).await;
    client
        .send(&startup(
            196_608,
            &[("user", "postgres"), ("database", database), ("options", "-c timezone=UTC")],
        ))
        .await;
    let mut answers = client.until_ready(1).await;
    let mark = [sync(), query("rollback"), query("select 'the end'")].concat();
    client.send(&[script.concat(), mark].concat()).await;
    let reading = async {
        while let Some(answer) = client.next().await {
            let end = answer.tag == 'D' && answer.body.ends_with(b"the end");
            answers.push(answer);
            if end {
                break;
            }
        }
    };
    if tokio::time::timeout(DEADLINE, reading).await.is_err() {
        answers.push(Answer { tag: '!', body: b"nothing more comes".to_vec() });
    }
    answers
}

/// Without what may differ; `other` is what stands in the same place on the other side.
fn comparable(answer: &Answer, other: Option<&Answer>) -> Answer {
    let mut answer = answer.clone();
    match answer.tag {
        'K' => answer.body.iter_mut().for_each(|b| *b = 0),
        'A' => answer.body.iter_mut().take(4).for_each(|b| *b = 0),
        'E' if other.is_some_and(|o| o.tag == 'E' && o.field('R').is_empty()) => {
            let fields =
                answer.body.split(|b| *b == 0).filter(|f| !matches!(f.first(), Some(b'F' | b'L' | b'R')));
            answer.body = fields.collect::<Vec<_>>().join(&0);
        }
        _ => {}
    }
    answer
}

fn difference(ours: &[Answer], theirs: &[Answer]) -> Option<String> {
    for at in 0..ours.len().max(theirs.len()) {
        let (our, their) = (ours.get(at), theirs.get(at));
        if our.map(|a| comparable(a, None)) != their.map(|a| comparable(a, our)) {
            let show = |a: Option<&Answer>| a.map_or_else(|| "nothing".into(), |a| format!("{a:.400?}"));
            return Some(format!("message {at} is\n    {}\nand not\n    {}", show(our), show(their)));
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_have_the_same_bytes() {
    on_each_version(async |database| {
        let primary = database.connect().await;
        client::execute(&primary, super::SETUP).await;
        client::execute(&primary, MORE).await;
        let mirror = Mirror::begin(
            &database.url,
            "[\"cached\", \"typed\", \"wide\"]",
            "[fallthrough]\nwrites = \"forward\"\n[freshness]\nwait_timeout = \"10s\"",
        );
        for table in ["cached", "typed", "wide"] {
            mirror.wait_live(table).await;
        }
        let config: tokio_postgres::Config = database.url.parse().expect("a URL");
        let ports =
            Ports { mirror, primary, database: database.name.clone(), primary_url: database.url.clone() };
        let sessions = sessions();
        assert!(sessions.len() >= 100, "{}", sessions.len());
        let (mut failed, mut from_memory) = (Vec::new(), 0);
        for Session { name, script, route } in &sessions {
            let theirs = record(config.get_ports()[0], &database.name, script).await;
            ports.mirror.catch_up(&ports.primary).await;
            let ours = record(ports.port(), &database.name, script).await;
            if let Some(difference) = difference(&ours, &theirs) {
                failed.push(format!("{name}: {difference}"));
            }
            if *route == Route::Memory {
                let mut client = RawClient::login(ports.port(), "postgres", &database.name).await;
                client.execute("set timezone = 'UTC'").await;
                client.send(&script.concat()).await;
                client
                    .until_ready(script.iter().filter(|m| matches!(m.first(), Some(b'Q' | b'S'))).count())
                    .await;
                let route = client.value("show millpond.last_route").await;
                if route.starts_with("primary") {
                    failed.push(format!("{name}: answered by {route}"));
                }
                from_memory += 1;
            }
        }
        assert!(failed.is_empty(), "{} of {} differ:\n{}", failed.len(), sessions.len(), failed.join("\n"));
        assert!(from_memory >= 30, "{from_memory}");
        ports.stop().await;
    })
    .await;
}

/// The login itself, admitted and refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_have_the_same_bytes() {
    on_each_version(async |database| {
        let ports = Ports::start_writing(&database).await;
        let name = database.name.as_str();
        let user = ("user", "postgres");
        for parameters in [
            vec![user, ("database", name)],
            vec![user, ("database", name), ("application_name", "a b"), ("client_encoding", "utf8")],
            vec![
                user,
                ("database", name),
                ("client_encoding", "latin1"),
                ("DateStyle", "German"),
                ("TimeZone", "Asia/Tokyo"),
            ],
            vec![
                user,
                ("database", name),
                ("options", "-c statement_timeout=10s -c search_path=other\\,public"),
            ],
            vec![user, ("database", name), ("options", "-c nonsense=1")],
            vec![user, ("database", name), ("options", "--nonsense")],
            vec![user, ("database", name), ("nonsense", "1")],
            vec![user, ("database", name), ("extra_float_digits", "x")],
            vec![user, ("database", name), ("replication", "off")],
            vec![user, ("database", "nowhere")],
            vec![("user", "no such role"), ("database", name)],
            vec![("user", "postgres")],
        ] {
            let mut logins = Vec::new();
            for port in [ports.port(), ports.primary_port()] {
                let mut client = RawClient::open(port).await;
                client.send(&startup(196_608, &parameters)).await;
                logins.push(client.until_ready(1).await);
            }
            let difference = difference(&logins[0], &logins[1]);
            assert_eq!(difference, None, "{parameters:?}");
        }
        ports.stop().await;
    })
    .await;
}
