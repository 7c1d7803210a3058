//! A table of sessions, recorded at the primary and at Millpond: the bytes that come back are the same,
//! from the first message of the login to the last.
//!
//! What may differ, and is left out: the process id and key of BackendKeyData, the process id of a
//! notification, and of errors that Millpond found by itself the fields F, L and R (where in the
//! server's source an error was raised).

mod copies;
mod errors;
mod extended;
mod mixed;
mod simple;

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::{
    Ports,
    raw::{Answer, RawClient, bind, describe, execute, message, parse, query, startup, sync},
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
    let mut all = simple::sessions();
    all.extend(extended::sessions());
    all.extend(errors::sessions());
    all.extend(copies::sessions());
    all.extend(mixed::sessions());
    all
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
