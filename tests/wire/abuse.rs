//! Bytes that no client should send: the client is told or dropped, and the others do not notice.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    Ports,
    raw::{
        RawClient, bind, close, comparable, describe, execute, flush, message, parse, query, startup, sync,
    },
};
use crate::support::{client::value, postgres::newest};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_packets_end_their_own_connection_only() {
    let database = newest().database().await;
    let ports = Ports::start(&database, "[limits]\nmax_message_bytes = \"1MB\"").await;
    let watcher = ports.client().await;
    let user = [("user", "postgres"), ("database", database.name.as_str())];

    for packet in [
        &[0u8, 0, 0, 0][..],
        &[0xff; 64],
        &startup(196_608, &[]),
        &startup(4 << 16, &user),
        &startup(196_608, &[("user", "postgres"), ("replication", "database")]),
        &[0, 0, 0, 9, 0, 3, 0, 0, b'x'],
    ] {
        let mut client = RawClient::open(ports.port()).await;
        client.send(packet).await;
        let answers = client.until_closed().await;
        assert!(answers.iter().all(|a| a.tag == 'E' && a.field('S') == "FATAL"), "{packet:?}: {answers:?}");
        assert!(!answers.is_empty() || packet.len() < 4, "{packet:?}");
    }
    for bytes in [
        vec![b'Q', 0xff, 0xff, 0xff, 0xff],
        vec![b'Q', 0, 0, 0, 3],
        vec![b'Q', 0x7f, 0, 0, 0, b'x'],
        message('?', b""),
        message('p', b"password\0"),
    ] {
        let mut client = RawClient::login(ports.port(), "postgres", &database.name).await;
        client.send(&bytes).await;
        let answers = client.until_closed().await;
        assert_eq!(answers.len(), 1, "{bytes:?}: {answers:?}");
        assert_eq!((answers[0].tag, answers[0].field('C').as_str()), ('E', "08P01"), "{bytes:?}");
    }

    // Encryption is refused once, and asked for once.
    let mut client = RawClient::open(ports.port()).await;
    let ssl = [0, 0, 0, 8, 4, 210, 22, 47];
    client.send(&ssl).await;
    assert_eq!(client.byte().await, Some(b'N'));
    client.send(&ssl).await;
    assert_eq!(client.until_closed().await.len(), 1);

    let mut random = StdRng::seed_from_u64(3);
    for _ in 0..150 {
        let mut client = RawClient::login(ports.port(), "postgres", &database.name).await;
        let mut bytes = Vec::new();
        for _ in 0..random.random_range(1..8) {
            let tag = b"QPBDECSHFdcfX?"[random.random_range(0..14)];
            let body: Vec<u8> =
                (0..random.random_range(0..24)).map(|_| random.random_range(0..4u8) * 27).collect();
            bytes.extend(message(tag.into(), &body));
        }
        bytes.extend(message('S', b""));
        bytes.extend(message('S', b""));
        bytes.extend(message('X', b""));
        client.send(&bytes).await;
        let answers = client.until_closed().await;
        assert!(answers.iter().all(|a| a.tag != '?'), "{bytes:?}");
    }
    assert_eq!(value(&watcher, "select name from cached where id = 1").await, "name 1");
    let mut client = RawClient::login(ports.port(), "postgres", &database.name).await;
    client.send(&query(&"(".repeat(100_000))).await;
    let answers = client.until_ready(1).await;
    assert_eq!(answers.last().map(|a| a.tag), Some('Z'), "{answers:?}");
    ports.stop().await;
}

/// Every message of the protocol cut off at every byte, with counts and lengths that do not fit, and with
/// bytes that are no text: the answers are the primary's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_bodies_are_the_primarys_to_word() {
    let database = newest().database().await;
    let ports = Ports::start_writing(&database).await;
    let (mut here, mut there) = ports.raw().await;
    let by_id = "select name from cached where id = $1";
    let whole = [
        query("select name from cached where id = 1"),
        parse("s", by_id, &[23]),
        bind("p", "s", &["1"], &[1]),
        describe('S', "s"),
        describe('P', "p"),
        execute("p", 1),
        close('S', "s"),
        flush(),
        sync(),
        message('F', &[0, 0, 0x05, 0x1d, 0, 0, 0, 0, 0, 0]),
        message('d', b"data"),
        message('c', b""),
        message('f', b"why\0"),
    ];
    let mut bad: Vec<Vec<u8>> = Vec::new();
    for message in &whole {
        let (tag, body) = (char::from(message[0]), &message[5..]);
        bad.extend((0..body.len()).map(|end| super::raw::message(tag, &body[..end])));
        bad.push(super::raw::message(tag, &[body, b"x"].concat()));
        for at in 0..body.len() {
            for byte in [0, 0xff] {
                let mut changed = body.to_vec();
                changed[at] = byte;
                bad.push(super::raw::message(tag, &changed));
            }
        }
    }
    let (mut seen, mut different) = (0, Vec::new());
    for message in bad {
        let script = [
            query("deallocate all"),
            parse("s", by_id, &[23]),
            bind("p", "s", &["1"], &[]),
            message.clone(),
            sync(),
            sync(),
            query("select name from cached where id = 2"),
            message_end(),
        ]
        .concat();
        here.send(&script).await;
        there.send(&script).await;
        let expected = comparable(there.until_closed().await);
        let actual = comparable(here.until_closed().await);
        if actual != expected {
            different.push((message.escape_ascii().to_string(), actual, expected));
        }
        seen += 1;
        (here, there) = ports.raw().await;
    }
    assert!(
        different.is_empty(),
        "{} of {seen}: {:#?}",
        different.len(),
        &different[..different.len().min(20)]
    );
    assert!(seen > 300, "{seen}");
    ports.stop().await;
}

fn message_end() -> Vec<u8> {
    message('X', b"")
}

/// Settings in the startup packet, in each way of writing them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn startup_options_hold() {
    let database = newest().database().await;
    let ports = Ports::start(&database, "").await;
    for (options, setting) in [
        ("-c work_mem=3MB", "work_mem"),
        ("-cwork_mem=3MB -c application_name=x", "application_name"),
        ("--work_mem=5MB", "work_mem"),
        ("--work-mem=6MB", "work_mem"),
        ("-c search_path=other\\,public -c geqo=off", "search_path"),
        ("-c application_name=two\\ words\\\\", "application_name"),
        ("-c geqo=off", "geqo"),
        ("-c datestyle=German", "datestyle"),
    ] {
        let mut values = Vec::new();
        for port in [ports.port(), ports.primary_port()] {
            let mut client = RawClient::open(port).await;
            let user = [("user", "postgres"), ("database", &database.name), ("options", options)];
            client.send(&startup(196_608, &user)).await;
            let answers = client.until_ready(1).await;
            assert_eq!(answers.last().map(|a| a.tag), Some('Z'), "{options}: {answers:?}");
            let sql = format!("select current_setting('{setting}') || '/' || (select count(*) from cached)");
            values.push(client.value(&sql).await);
            values.push(client.value("select id from cached order by id limit 1").await);
        }
        assert_eq!(values[..2], values[2..], "{options}");
    }
    ports.stop().await;
}

/// A thousand messages in one pipeline, with errors in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_pipelines() {
    let database = newest().database().await;
    let ports = Ports::start_writing(&database).await;
    let (mut here, mut there) = ports.raw().await;
    for client in [&mut here, &mut there] {
        client.execute("set timezone = 'UTC'").await;
    }
    let mut random = StdRng::seed_from_u64(9);
    for round in 0..6 {
        let (mut script, mut ready) = (Vec::new(), 1);
        for _ in 0..1000 {
            let id = random.random_range(0..1100).to_string();
            script.extend(match random.random_range(0..12) {
                0 => parse("", "select name from cached where id = $1", &[]),
                1 => parse("", "select name from plain where id = $1", &[]),
                2 => parse("", "select 1 / ($1::int % 3)", &[]),
                3 => parse("", "selekt", &[]),
                4..7 => bind("", "", &[&id], &[]),
                7..9 => execute("", 0),
                9 => describe('P', ""),
                _ => {
                    ready += 1;
                    sync()
                }
            });
        }
        script.extend(sync());
        here.send(&script).await;
        there.send(&script).await;
        let expected = comparable(there.until_ready(ready).await);
        let actual = comparable(here.until_ready(ready).await);
        let differ = actual.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!(
            (differ, actual.len()),
            (None, expected.len()),
            "round {round}: {:?}",
            differ.map(|i| (&actual[i], &expected[i]))
        );
    }
    ports.stop().await;
}
