//! A primary that is broken or means harm: the session ends or goes on, with no panic and no desync, and
//! other sessions do not notice.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use millpond::primary::{Connection, PrimaryError, Target};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use super::{
    SETUP,
    raw::{Answer, RawClient, message, query, startup},
};
use crate::support::{
    client::{self, value},
    mirror::Mirror,
    postgres::{Database, newest},
};

/// What the primary says to one client: at its login, and to its first query.
#[derive(Clone, Default)]
struct Script {
    login: Vec<u8>,
    answer: Vec<u8>,
}

/// Stands before a real primary, and speaks in its place to the role `victim`.
struct Impostor {
    port: u16,
    script: Arc<Mutex<Script>>,
    connections: Arc<AtomicUsize>,
}

impl Impostor {
    async fn before(primary: u16) -> Impostor {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (script, connections) = (Arc::<Mutex<Script>>::default(), Arc::<AtomicUsize>::default());
        let (scripts, counted) = (Arc::clone(&script), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let script = scripts.lock().expect("nobody panics with it").clone();
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut first = vec![0; 4];
                    client.read_exact(&mut first).await?;
                    let length = u32::from_be_bytes([first[0], first[1], first[2], first[3]]) as usize;
                    first.resize(length, 0);
                    client.read_exact(&mut first[4..]).await?;
                    if !first.windows(12).any(|part| part == b"user\0victim\0") {
                        let mut server = TcpStream::connect(("127.0.0.1", primary)).await?;
                        server.write_all(&first).await?;
                        copy_bidirectional(&mut client, &mut server).await?;
                        return std::io::Result::Ok(());
                    }
                    client.write_all(&script.login).await?;
                    let mut tag = [0];
                    client.read_exact(&mut tag).await?;
                    client.write_all(&script.answer).await?;
                    // Closed once the other side has had enough, or at once where there was nothing to say.
                    if !script.answer.is_empty() {
                        while client.read(&mut [0; 4096]).await? > 0 {}
                    }
                    Ok(())
                });
            }
        });
        Impostor { port, script, connections }
    }

    fn says(&self, login: Vec<u8>, answer: Vec<u8>) {
        *self.script.lock().expect("nobody panics with it") = Script { login, answer };
    }
}

fn ok() -> Vec<u8> {
    message('R', &0u32.to_be_bytes())
}

fn ready() -> Vec<u8> {
    message('Z', b"I")
}

fn welcome() -> Vec<u8> {
    let settings = [("server_version", "15.4"), ("client_encoding", "UTF8")];
    let settings = settings.map(|(name, value)| message('S', format!("{name}\0{value}\0").as_bytes()));
    [ok(), settings.concat(), message('K', b"\0\0\0\x07keys"), ready()].concat()
}

struct Betrayed {
    mirror: Mirror,
    database: Database,
    impostor: Impostor,
}

impl Betrayed {
    async fn start() -> Betrayed {
        let database = newest().database().await;
        client::execute(&database.connect().await, SETUP).await;
        let port = database.url.parse::<tokio_postgres::Config>().expect("a URL").get_ports()[0];
        let impostor = Impostor::before(port).await;
        let url =
            format!("postgres://postgres@127.0.0.1:{}/{}?sslmode=disable", impostor.port, database.name);
        let mirror = Mirror::begin(&url, "[\"cached\"]", "[limits]\nlogin_timeout = \"3s\"");
        mirror.wait_live("cached").await;
        Betrayed { mirror, database, impostor }
    }

    /// What the victim gets to its login and one query.
    async fn victim(&self, sql: &str) -> Vec<Answer> {
        let mut client = RawClient::open(self.mirror.daemon.address().port()).await;
        // Another database than the cached one: the session asks nothing of its own.
        client.send(&startup(196_608, &[("user", "victim"), ("database", "elsewhere")])).await;
        let mut answers = client.until_ready(1).await;
        if answers.last().is_some_and(|answer| answer.tag == 'Z') {
            client.send(&query(sql)).await;
            client.send(&message('X', b"")).await;
            client.finish_sending().await;
            answers.extend(client.until_closed().await);
        }
        answers
    }

    async fn others_are_served(&self) {
        let url = self.mirror.url("postgres", &self.database.name);
        let honest = client::connect(&url).await;
        assert_eq!(value(&honest, "select name from cached where id = 7").await, "name 7");
        assert_eq!(value(&honest, "select name from plain where id = 7").await, "name 7");
    }
}

fn sasl(code: u32, rest: &[u8]) -> Vec<u8> {
    message('R', &[&code.to_be_bytes()[..], rest].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_by_a_false_primary() {
    let betrayed = Betrayed::start().await;
    let huge = [&b"R"[..], &(1u32 << 30).to_be_bytes(), b"x"].concat();
    for login in [
        vec![],
        b"H".to_vec(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![0xff; 100],
        [&b"R"[..], &3u32.to_be_bytes()].concat(),
        huge,
        message('R', b""),
        message('R', b"\0\0"),
        message('R', &7u32.to_be_bytes()),
        message('R', &9u32.to_be_bytes()),
        message('R', &99u32.to_be_bytes()),
        sasl(10, b""),
        sasl(10, b"SCRAM-SHA-256"),
        sasl(11, b""),
        sasl(12, b"v="),
        // Words before the first question could be anybody's.
        [message('N', b"SNOTICE\0Mlies\0\0"), message('E', b"\0")].concat(),
        message('E', b""),
        message('E', b"Mno end"),
        message('E', b"SFATAL\0Mno code\0\0"),
        message('E', b"?\xff\0\0\0\0"),
        [ok(), message('K', b"\0"), message('K', b"")].concat(),
        [ok(), message('S', b"no end"), message('Z', b"")].concat(),
        [ok(), message('D', b"\0\x01")].concat(),
        [ok(), message('T', b"")].concat(),
        [ready(), ready()].concat(),
        message('?', b"what"),
        ok(),
    ] {
        betrayed.impostor.says(login.clone(), vec![]);
        let answers = betrayed.victim("select 1").await;
        let shown = login.escape_ascii().to_string();
        assert!(
            answers.iter().all(|a| !a.body.windows(4).any(|part| part == b"lies")),
            "{shown}: {answers:?}"
        );
        let last = answers.last().map(|answer| answer.tag);
        assert!(matches!(last, Some('E' | 'R' | 'S' | 'K' | 'Z') | None), "{shown}: {answers:?}");
    }
    betrayed.others_are_served().await;
    betrayed.mirror.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_a_false_primary() {
    let betrayed = Betrayed::start().await;
    let done = [message('C', b"SELECT 1\0"), ready()].concat();
    let row = message('T', b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0");
    let before = betrayed.impostor.connections.load(Ordering::Relaxed);
    // Whether what was said arrives as it was.
    for (passed, answer) in [
        (true, [row.clone(), message('D', b"\0\x01\0\0\0\x011"), done.clone()].concat()),
        // What is wrong within whole messages is the client's to judge.
        (true, [row.clone(), message('D', b"\x7f\xff"), done.clone()].concat()),
        (true, [row.clone(), message('D', b"\0\x01\xff\xff\xff\xf0"), done.clone()].concat()),
        (true, [message('D', b""), done.clone()].concat()),
        (true, [message('T', b"\xff\xff"), done.clone()].concat()),
        (true, [message('E', b"SERROR\0Mno code\0\0"), ready()].concat()),
        (true, [message('E', b""), ready()].concat()),
        (true, [message('E', b"C\0\xff\xfe"), ready()].concat()),
        (true, [message('~', b"what"), done.clone()].concat()),
        (true, [message('1', b""), message('2', b""), message('t', b""), done.clone()].concat()),
        (true, [message('S', b"x"), message('A', b""), message('N', b""), done.clone()].concat()),
        (true, [message('G', b"\0\0\0"), message('E', b"SERROR\0C57014\0\0"), ready()].concat()),
        (true, message('Z', b"")),
        (true, [ready(), ready(), done.clone()].concat()),
        (false, b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        (false, vec![0; 64]),
        (false, vec![0xff; 64]),
        (false, [&b"D"[..], &0u32.to_be_bytes(), b"abc"].concat()),
        (false, [&b"D"[..], &u32::MAX.to_be_bytes(), b"abc"].concat()),
        (false, message('E', b"SFATAL\0C57P01\0Mgone\0\0")),
        (false, vec![]),
    ] {
        betrayed.impostor.says(welcome(), answer.clone());
        let answers = betrayed.victim("select 1").await;
        let shown = answer.escape_ascii().to_string();
        let login =
            answers.iter().position(|a| a.tag == 'Z').unwrap_or_else(|| panic!("{shown}: {answers:?}"));
        let told: Vec<u8> = answers[login + 1..].iter().flat_map(|a| message(a.tag, &a.body)).collect();
        match passed {
            true => assert!(told.starts_with(&answer) || answer.starts_with(&told), "{shown}: {answers:?}"),
            false => assert!(answers[login + 1..].iter().all(|a| a.tag == 'E'), "{shown}: {answers:?}"),
        }
        assert!(passed || answers.len() <= login + 2, "{shown}: {answers:?}");
    }
    // A row of a gigabyte that never comes.
    let promise = [&b"D"[..], &(1u32 << 30).to_be_bytes(), b"abc"].concat();
    betrayed.impostor.says(welcome(), promise);
    let mut client = RawClient::open(betrayed.mirror.daemon.address().port()).await;
    client.send(&startup(196_608, &[("user", "victim"), ("database", "elsewhere")])).await;
    client.until_ready(1).await;
    client.send(&query("select 1")).await;
    betrayed.others_are_served().await;
    drop(client);
    let made = betrayed.impostor.connections.load(Ordering::Relaxed) - before;
    assert!(made < 120, "{made} connections to the primary for 23 clients");
    betrayed.mirror.stop().await;
}

async fn whatever_comes(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    let read = client.read(&mut bytes).await?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Asks for a login by SCRAM, answers the first message with what `first` makes of the client's nonce,
/// the second with `last`, and lets it in.
async fn false_scram(first: fn(&str) -> String, last: &'static [u8]) -> Result<Connection, PrimaryError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url =
        format!("postgres://app:sesame@{}/app?sslmode=disable", listener.local_addr().expect("an address"));
    let serve = async move {
        let (mut client, _) = listener.accept().await?;
        whatever_comes(&mut client).await?;
        client.write_all(&sasl(10, b"SCRAM-SHA-256\0\0")).await?;
        let sent = whatever_comes(&mut client).await?;
        let text = String::from_utf8_lossy(&sent).into_owned();
        let nonce = text.rsplit_once("r=").map(|(_, nonce)| nonce.to_owned()).unwrap_or_default();
        client.write_all(&sasl(11, first(&nonce).as_bytes())).await?;
        whatever_comes(&mut client).await?;
        client.write_all(&[sasl(12, last), welcome()].concat()).await?;
        while !whatever_comes(&mut client).await?.is_empty() {}
        std::io::Result::Ok(())
    };
    let target = Target::parse(&millpond::config::Primary {
        url,
        password: None,
        passfile: None,
        start_timeout: std::time::Duration::from_secs(10),
        connect_timeout: std::time::Duration::from_secs(10),
    })
    .expect("a URL");
    tokio::select! {
        login = Connection::login(&target, &[]) => login,
        served = serve => panic!("the server ended first: {served:?}"),
    }
}

/// Our own logins believe only a server that knows the password, and do no more work than is due.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_false_server_proves_nothing() {
    const SIGNED: &[u8] = b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let honest: fn(&str) -> String = |nonce| format!("r={nonce}more,s=c2FsdA==,i=4096");
    for (what, first, last) in [
        ("a wrong signature", honest, SIGNED),
        ("no signature", honest, &b""[..]),
        ("an error in its place", honest, b"e=other-error"),
        ("no base64", honest, b"v=!!!!"),
        ("its own nonce", |_| "r=mine,s=c2FsdA==,i=4096".into(), SIGNED),
        ("endless work", |nonce| format!("r={nonce}more,s=c2FsdA==,i=2147483647"), SIGNED),
        ("no work", |nonce| format!("r={nonce}more,s=c2FsdA==,i=0"), SIGNED),
        ("work that is no number", |nonce| format!("r={nonce}more,s=c2FsdA==,i=-1"), SIGNED),
        ("no salt", |nonce| format!("r={nonce}more,i=4096"), SIGNED),
        ("nothing", |_| String::new(), SIGNED),
        ("a long salt", |nonce| format!("r={nonce}more,s={},i=1", "AAAA".repeat(100_000)), SIGNED),
    ] {
        let error = false_scram(first, last).await.map(drop).expect_err(what);
        assert!(!error.to_string().is_empty(), "{what}");
    }
}
