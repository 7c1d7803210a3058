//! Clients that mean harm, by the thousand, against a program of its own: honest ones stay served,
//! memory stays flat, nothing panics.

use futures_util::future::join_all;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    SETUP,
    raw::{RawClient, bind, execute, message, parse, query, startup, sync},
};
use crate::support::{
    client::{self, value},
    postgres::{Database, newest},
    program::Program,
    wait::wait_until,
};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];
const MB: u64 = 1 << 20;

/// A primary, and Millpond before it as a program of its own.
struct Besieged {
    program: Program,
    primary: tokio_postgres::Client,
    database: Database,
}

impl Besieged {
    async fn start(more: &str, descriptors: Option<u32>) -> Besieged {
        let database = newest().database().await;
        let primary = database.connect().await;
        client::execute(&primary, SETUP).await;
        let program = Program::start(&database.url, more, descriptors).await;
        Besieged { program, primary, database }
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}", self.program.port, self.database.name)
    }

    async fn raw(&self) -> RawClient {
        RawClient::login(self.program.port, "postgres", &self.database.name).await
    }

    /// A newcomer gets in and gets its answers, from memory and from the primary.
    async fn serves(&self) {
        let honest = client::connect(&self.url()).await;
        assert_eq!(value(&honest, "select name from cached where id = 7").await, "name 7");
        assert_eq!(value(&honest, "select name from plain where id = 7").await, "name 7");
    }

    /// Sessions of Millpond's clients at the primary.
    async fn sessions(&self) -> u64 {
        let sql = "select count(*) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
                and application_name not like 'millpond%'";
        value(&self.primary, sql).await.parse().expect("a number")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sockets_shut_nobody_out() {
    let mut besieged =
        Besieged::start("[limits]\nmax_unauthenticated = 300\nmax_connections = 50", None).await;
    let old = client::connect(&besieged.url()).await;
    let before = besieged.program.resident_bytes();
    let mut silent = Vec::new();
    for round in 0..3000u32 {
        let mut socket = RawClient::open(besieged.program.port).await;
        match round % 4 {
            0 => {}
            1 => socket.send(&[0]).await,
            2 => socket.send(&SSL_REQUEST).await,
            // All of a startup packet but its end.
            _ => socket.send(&startup(196_608, &[("user", "postgres")])[..12]).await,
        }
        silent.push(socket);
        if round % 300 == 299 {
            besieged.serves().await;
        }
    }
    assert_eq!(value(&old, "select name from cached where id = 1").await, "name 1");
    assert!(besieged.program.descriptors() < 500, "the oldest made room: {}", besieged.program.descriptors());
    let grown = besieged.program.resident_bytes().saturating_sub(before);
    assert!(grown < 50 * MB, "{grown} bytes for silence");
    besieged.program.assert_sound();
}

/// One byte now and then keeps no place: what counts is when they came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_ones_end_at_their_deadline() {
    let mut besieged = Besieged::start("[limits]\nlogin_timeout = \"2s\"", None).await;
    let packet = startup(196_608, &[("user", "postgres"), ("database", &besieged.database.name)]);
    let mut slow = Vec::new();
    for _ in 0..50 {
        slow.push(RawClient::open(besieged.program.port).await);
    }
    // Far more bytes than fit into the time: the connections are gone before the packet is complete.
    let drip = async {
        for byte in packet {
            for socket in &mut slow {
                socket.send(&[byte]).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        join_all(slow.iter_mut().map(RawClient::until_closed)).await
    };
    let (answers, ()) = tokio::join!(drip, async {
        for _ in 0..5 {
            besieged.serves().await;
        }
    });
    assert!(answers.iter().flatten().all(|answer| answer.tag == 'E'), "nobody got in: {answers:?}");
    besieged.program.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promised_gigabytes_cost_nothing() {
    let mut besieged = Besieged::start("[limits]\nmax_connections = 300", None).await;
    besieged.serves().await;
    let before = besieged.program.resident_bytes();
    let mut open = Vec::new();
    for length in [0x4000_0000u32, 0x7fff_ffff, 0xffff_ffff, 10_005, 7, 0] {
        for _ in 0..100 {
            let mut socket = RawClient::open(besieged.program.port).await;
            socket.send(&[&length.to_be_bytes()[..], &196_608u32.to_be_bytes(), b"ab"].concat()).await;
            open.push(socket);
        }
    }
    // As much as a message may have at most, promised by many who are in.
    for i in 0..150 {
        let mut socket = besieged.raw().await;
        let length = 64 << 20u32;
        socket.send(&[&[b"QPBdE"[i % 5]], &u32::to_be_bytes(length)[..], b"0123456789"].concat()).await;
        open.push(socket);
    }
    besieged.serves().await;
    let grown = besieged.program.resident_bytes().saturating_sub(before);
    assert!(grown < 50 * MB, "{grown} bytes for promises");
    let mut greedy = besieged.raw().await;
    greedy.send(&[&b"Q"[..], &(1u32 << 30).to_be_bytes(), b"select"].concat()).await;
    let answers = greedy.until_closed().await;
    assert_eq!(answers.last().map(|a| a.field('C')), Some("08P01".into()), "{answers:?}");
    besieged.program.assert_sound();
}

/// What a stranger's first packet can be, here and at the primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_startup_packets() {
    let mut besieged = Besieged::start("", None).await;
    let there = besieged.database.url.parse::<tokio_postgres::Config>().expect("a URL").get_ports()[0];
    let body = |code: u32, body: &[u8]| {
        let length = body.len() as u32 + 8;
        [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    };
    let v3 = |rest: &[u8]| body(196_608, rest);
    let long = |n: usize| format!("user\0{}\0\0", "u".repeat(n)).into_bytes();
    // With "=", the answer is the primary's, code and text; else a FATAL error of ours, or silence.
    let packets: Vec<(&str, Vec<u8>)> = vec![
        ("", vec![]),
        ("", vec![0]),
        ("", vec![0, 0, 0]),
        ("", vec![0, 0, 0, 0]),
        ("", vec![0, 0, 0, 4]),
        ("", vec![0, 0, 0, 7, 0, 3, 0]),
        ("", vec![0xff; 4]),
        ("", vec![0xff; 400]),
        ("", vec![0x80, 0, 0, 0, 0, 3, 0, 0]),
        ("", vec![0, 0, 0x27, 0x15, 0, 3, 0, 0]),
        ("", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("", vec![0x16, 0, 0, 0, 0]),
        ("=", v3(b"")),
        ("=", v3(b"\0")),
        ("=", v3(b"\0\0")),
        ("=", v3(b"user")),
        ("=", v3(b"user\0")),
        ("=", v3(b"user\0postgres")),
        ("=", v3(b"user\0postgres\0")),
        ("=", v3(b"user\0postgres\0\0x")),
        ("=", v3(b"user\0postgres\0\0\0")),
        ("=", v3(b"user\0postgres\0database\0")),
        ("=", v3(b"user\0\0\0")),
        ("=", v3(b"database\0postgres\0\0")),
        ("=", v3(b"user\0postgres\0replication\0perhaps\0\0")),
        ("=", v3(b"user\0postgres\0replication\0\0\0")),
        ("=", v3(b"user\0postgres\0replication\0o\0\0")),
        ("=", v3(b"user\0postgres\0database\0nowhere\0\0")),
        ("=", v3(b"user\0nobody\0database\0postgres\0\0")),
        ("=", v3(b"user\0postgres\0no_such_setting\0x\0\0")),
        ("=", v3(b"user\0postgres\0work_mem\0much\0\0")),
        ("=", v3(b"user\0postgres\0client_encoding\0klingon\0\0")),
        ("=", v3(b"user\0postgres\0options\0-c work_mem\0\0")),
        ("=", v3(b"user\0postgres\0options\0-c work_mem=\\ much\0\0")),
        ("=", v3(b"user\0postgres\0options\0--work-mem=much\0\0")),
        ("=", v3(b"user\0postgres\0options\0--\0\0")),
        ("=", v3(b"user\0postgres\0options\0nonsense\0\0")),
        ("=", v3(b"user\0postgres\0options\0-z\0\0")),
        ("=", v3(b"user\0postgres\0options\0\\\0\0")),
        ("=", body(0, b"user\0postgres\0\0")),
        ("=", body(4 << 16, b"user\0postgres\0\0")),
        ("=", body(u32::MAX, b"")),
        ("=", body(80_877_105, b"")),
        ("", v3(b"user\0\xff\xfe\0\0")),
        ("", v3(&long(64))),
        ("", v3(&long(9000))),
        ("", body(80_877_102, b"")),
        ("", body(80_877_102, b"\0\0\0\x01")),
        ("", body(80_877_102, &[7; 300])),
        ("", v3(b"user\0postgres\0replication\0true\0\0")),
    ];
    assert!(packets.len() > 40);
    let ask = async |port: u16, packet: &[u8]| {
        let mut client = RawClient::open(port).await;
        client.send(packet).await;
        client.finish_sending().await;
        client.until_closed().await
    };
    for (compared, packet) in &packets {
        let here = ask(besieged.program.port, packet).await;
        let what = packet.escape_ascii().to_string();
        let error = here.iter().find(|answer| answer.tag == 'E');
        assert!(error.is_none_or(|e| e.field('S') == "FATAL"), "{what}: {here:?}");
        let admitted = here.iter().any(|answer| answer.tag == 'Z');
        assert!(!admitted || *compared == "=", "{what}: {here:?}");
        if *compared == "=" {
            let there = ask(there, packet).await;
            let fields = |answers: &[super::raw::Answer]| {
                let last = answers.iter().find(|answer| matches!(answer.tag, 'E' | 'Z'));
                last.map(|last| (last.tag, last.field('C'), last.field('M'), last.field('H')))
            };
            assert_eq!(fields(&here), fields(&there), "{what}");
        }
    }
    // Older protocols are told in their own words.
    for major in [1, 2] {
        let packet = body(major << 16, b"user\0postgres\0\0");
        let mut told = Vec::new();
        for port in [besieged.program.port, there] {
            let mut client = RawClient::open(port).await;
            client.send(&packet).await;
            let mut bytes = vec![];
            while let Some(byte) = client.byte().await {
                bytes.push(byte);
            }
            told.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        assert_eq!(told[0], told[1]);
    }
    besieged.serves().await;
    besieged.program.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_negotiation_ends() {
    let mut besieged = Besieged::start("", None).await;
    for _ in 0..200 {
        let mut client = RawClient::open(besieged.program.port).await;
        let mut answered = 0;
        for request in [SSL_REQUEST, GSSENC_REQUEST].iter().cycle().take(1000) {
            client.send(request).await;
            match client.byte().await {
                Some(b'N') => answered += 1,
                _ => break,
            }
        }
        assert_eq!(answered, 2, "each is answered once");
    }
    besieged.serves().await;
    besieged.program.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_floods_stop_nobody_else() {
    let mut besieged = Besieged::start("", None).await;
    let mut victim = RawClient::open(besieged.program.port).await;
    victim.send(&startup(196_610, &[("user", "postgres"), ("database", &besieged.database.name)])).await;
    let answers = victim.until_ready(1).await;
    let key = answers.iter().find(|a| a.tag == 'K').expect("BackendKeyData").body.clone();
    assert_eq!(key.len(), 4 + 32, "the long key of 3.2");
    victim.send(&query("/* long */ select pg_sleep(600)")).await;
    let active = "select count(*) from pg_stat_activity where query like '/* long%' and state = 'active'";
    wait_until("it runs", async || value(&besieged.primary, active).await == "1").await;
    let cancel = |key: &[u8]| {
        let length = key.len() as u32 + 8;
        [&length.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), key].concat()
    };
    let mut random = StdRng::seed_from_u64(5);
    let before = besieged.program.resident_bytes();
    for _ in 0..3000 {
        let mut wrong = key.clone();
        match random.random_range(0..4) {
            0 => wrong.truncate(random.random_range(4..36)),
            1 => wrong.extend(vec![7; random.random_range(1..300)]),
            2 => wrong[random.random_range(4..36)] ^= 1,
            _ => wrong[..4].copy_from_slice(&random.random::<[u8; 4]>()),
        }
        let mut client = RawClient::open(besieged.program.port).await;
        client.send(&cancel(&wrong)).await;
    }
    besieged.serves().await;
    assert_eq!(value(&besieged.primary, active).await, "1", "no wrong key stopped it");
    let grown = besieged.program.resident_bytes().saturating_sub(before);
    assert!(grown < 50 * MB, "{grown} bytes for cancel requests");

    // With the right key too, and then the session goes on.
    for _ in 0..500 {
        let mut client = RawClient::open(besieged.program.port).await;
        client.send(&cancel(&key)).await;
    }
    let answers = victim.until_ready(1).await;
    assert!(answers.iter().any(|a| a.tag == 'E' && a.field('C') == "57014"), "{answers:?}");
    wait_until("late requests hit nothing that comes after", async || {
        victim.send(&query("select 1")).await;
        victim.until_ready(1).await.iter().any(|a| a.tag == 'D')
    })
    .await;
    besieged.serves().await;
    besieged.program.assert_sound();
}

/// Connections that break off at any byte leave nothing behind, here or at the primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_in_the_middle_of_results() {
    let mut besieged = Besieged::start("[fallthrough]\nwrites = \"forward\"", None).await;
    // Each far longer than what is read of it.
    let from_memory = query("select id, name, at, amount from cached order by id").repeat(20);
    let many = "select g, repeat('x', 100) from generate_series(1, 20000) g";
    let queries = [
        from_memory,
        query(many),
        query(&format!("begin; lock table plain in row exclusive mode; {many}")),
        query(&format!("copy ({many}) to stdout")),
    ];
    let mut random = StdRng::seed_from_u64(6);
    besieged.serves().await;
    wait_until("only we are there", async || besieged.sessions().await == 0).await;
    let attack = async |random: &mut StdRng| {
        let mut client = besieged.raw().await;
        client.send(&queries[random.random_range(0..queries.len())]).await;
        let most = random.random_range(1..60_000);
        let mut left = if random.random_bool(0.2) { 0 } else { most };
        while left > 0 {
            let got = client.read_some(left).await;
            left -= got;
            if got == 0 || random.random_bool(0.3) {
                break;
            }
        }
        client.reset();
    };
    for _ in 0..100 {
        attack(&mut random).await;
    }
    let before = besieged.program.resident_bytes();
    for _ in 0..500 {
        attack(&mut random).await;
    }
    wait_until("their sessions at the primary have ended", async || besieged.sessions().await == 0).await;
    let grown = besieged.program.resident_bytes().saturating_sub(before);
    assert!(grown < 50 * MB, "{grown} bytes left behind");
    assert!(besieged.program.descriptors() < 200, "{}", besieged.program.descriptors());
    besieged.serves().await;
    besieged.program.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_of_huge_results() {
    let mut besieged = Besieged::start("", None).await;
    besieged.serves().await;
    let before = besieged.program.resident_bytes();
    let mut readers = Vec::new();
    for i in 0..30 {
        let mut client = besieged.raw().await;
        // 400 MB each, from the primary, or 200 times the table, from memory.
        match i % 2 {
            0 => client.send(&query("select repeat('x', 1000) from generate_series(1, 400000)")).await,
            _ => {
                let all = query("select id, name, at, amount from cached order by id");
                client.send(&all.repeat(200)).await;
            }
        }
        assert!(client.read_some(100).await > 0, "it begins");
        readers.push(client);
    }
    for _ in 0..5 {
        besieged.serves().await;
    }
    let grown = besieged.program.resident_bytes().saturating_sub(before);
    assert!(grown < 60 * MB, "{grown} bytes for 30 clients that do not read");
    drop(readers);
    wait_until("their sessions at the primary have ended", async || besieged.sessions().await == 0).await;
    besieged.program.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_without_end_are_refused() {
    let mut besieged = Besieged::start("[limits]\nmax_statements = 100", None).await;
    let mut client = besieged.raw().await;
    let before = besieged.program.resident_bytes();
    let mut refused = 0;
    for batch in 0..1000 {
        let mut script = Vec::new();
        for i in 0..100 {
            let name = format!("s{batch}_{i}");
            let sql = if i % 2 == 0 { "select id from cached where id = $1" } else { "select 1 as x" };
            script.extend(parse(&name, sql, &[]));
            script.extend(sync());
        }
        client.send(&script).await;
        let answers = client.until_ready(100).await;
        refused += answers.iter().filter(|a| a.tag == 'E' && a.field('C') == "53400").count();
    }
    assert_eq!(refused, 100_000 - 100);
    let grown = besieged.program.resident_bytes().saturating_sub(before);
    assert!(grown < 30 * MB, "{grown} bytes for statements that were refused");
    assert_eq!(client.value("select name from cached where id = 3").await, "name 3");
    // Portals count as well.
    let mut script = parse("", "select id from cached where id = $1", &[]);
    for i in 0..300 {
        script.extend(bind(&format!("p{i}"), "", &["1"], &[]));
    }
    script.extend(execute("p0", 0));
    script.extend(sync());
    client.send(&script).await;
    let answers = client.until_ready(1).await;
    assert!(answers.iter().any(|a| a.field('C') == "53400"), "{answers:?}");
    besieged.program.assert_sound();
}

/// Texts that would break a parser go to the primary unparsed, which words what is wrong with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_that_break_parsers() {
    let mut besieged = Besieged::start("[limits]\nmax_message_bytes = \"200MB\"", None).await;
    let there = besieged.database.url.parse::<tokio_postgres::Config>().expect("a URL").get_ports()[0];
    let mut there = RawClient::login(there, "postgres", &besieged.database.name).await;
    let mut here = besieged.raw().await;
    let deep = |n: usize| format!("select {}1{}", "(".repeat(n), ")".repeat(n));
    let many = (1..=65_536).map(|i| format!("${i}::int")).collect::<Vec<_>>().join(" + ");
    for sql in [
        deep(40),
        deep(1_000_000),
        "(".repeat(1_000_000),
        format!("select {}1", "- ".repeat(200_000)),
        format!("select 1 where {}true", "not ".repeat(200_000)),
        format!("select {}", "case when true then ".repeat(50_000)),
        format!("select '{}'", "x".repeat(3_000_000)),
        // The primary's own time grows with the square of it.
        format!("select 1 {}", "/*".repeat(2_000)),
        format!("select {many}"),
        format!("select 1 as \"{}\"", "n".repeat(1_000_000)),
        ";".repeat(1_000_000),
        "select 1;".repeat(20_000),
    ] {
        eprintln!("{}... of {} bytes", &sql[..60], sql.len());
        for script in [query(&sql), [parse("", &sql, &[]), sync()].concat()] {
            here.send(&script).await;
            there.send(&script).await;
            let answers = super::raw::comparable(here.until_ready(1).await);
            let expected = super::raw::comparable(there.until_ready(1).await);
            assert!(answers == expected, "{}...", &sql[..60]);
        }
    }
    let huge = format!("select length('{}')", "x".repeat(100 << 20));
    let (sent, ()) = tokio::join!(
        async {
            here.send(&query(&huge)).await;
            here.until_ready(1).await
        },
        besieged.serves()
    );
    assert!(sent.iter().any(|a| a.tag == 'D' && a.body.ends_with(b"104857600")), "100 MB of text pass");
    // Parameters beyond what the protocol can count.
    let mut body = b"\0\0\0\0\xff\xff".to_vec();
    body.extend([0xff; 4].repeat(65_535));
    body.extend([0, 0]);
    let script = [parse("", "select 1", &[]), message('B', &body), sync()].concat();
    here.send(&script).await;
    there.send(&script).await;
    let answers = super::raw::comparable(here.until_ready(1).await);
    assert_eq!(answers, super::raw::comparable(there.until_ready(1).await));
    besieged.serves().await;
    besieged.program.assert_sound();
}

/// Out of descriptors nobody new gets in; who is in stays served, and tables go on following.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptors_run_out() {
    let mut besieged = Besieged::start("", Some(90)).await;
    let honest = client::connect(&besieged.url()).await;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        let mut client = RawClient::open(besieged.program.port).await;
        client.send(&startup(196_608, &[("user", "postgres"), ("database", &besieged.database.name)])).await;
        crowd.push(client);
    }
    let told = join_all(crowd.iter_mut().map(|client| client.until_ready(1))).await;
    let refused = told.iter().flatten().filter(|a| a.tag == 'E' && a.field('C') == "53300").count();
    assert!(refused > 0, "{told:?}");
    for id in 1..=20 {
        let sql = format!("update cached set name = 'followed' where id = {id}");
        client::execute(&besieged.primary, &sql).await;
        let sql = format!("select name from cached where id = {id}");
        wait_until("the change is here", async || value(&honest, &sql).await == "followed").await;
    }
    let complaints = besieged.program.log().lines().filter(|line| line.contains("WARN")).count();
    assert!(complaints < 300, "the log is not filled: {complaints} lines");
    drop(crowd);
    wait_until("there is room again", async || client::try_connect(&besieged.url()).await.is_ok()).await;
    besieged.program.assert_sound();
}
