//! Bytes that no client should send: the client is told or dropped, and the others do not notice.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    Ports,
    raw::{RawClient, message, query, startup},
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
