//! A client that sends and sees the protocol's bytes.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::wait::DEADLINE;

pub(crate) struct RawClient {
    stream: TcpStream,
}

/// A message of the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) tag: char,
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.tag, self.body.escape_ascii())
    }
}

impl Answer {
    /// A field of an ErrorResponse.
    pub(crate) fn field(&self, code: char) -> String {
        let fields = self.body.split(|b| *b == 0);
        let mut found = fields.filter(|f| f.first() == Some(&(code as u8)));
        found.next().map(|f| String::from_utf8_lossy(&f[1..]).into_owned()).unwrap_or_default()
    }

    /// Without what says where in its source the server raised an error, and positions in the text.
    fn comparable(self) -> Answer {
        if self.tag == 'A' {
            // The process of the session that notified.
            return Answer { body: self.body[4..].to_vec(), ..self };
        }
        if self.tag != 'E' {
            return self;
        }
        let body = format!("{} {}", self.field('C'), self.field('M')).into_bytes();
        Answer { body, ..self }
    }
}

pub(crate) fn comparable(answers: Vec<Answer>) -> Vec<Answer> {
    answers.into_iter().map(Answer::comparable).collect()
}

impl RawClient {
    pub(crate) async fn open(port: u16) -> RawClient {
        RawClient { stream: TcpStream::connect(("127.0.0.1", port)).await.expect("the port is open") }
    }

    /// Logs in where no password is asked for.
    pub(crate) async fn login(port: u16, user: &str, database: &str) -> RawClient {
        let mut client = RawClient::open(port).await;
        client.send(&startup(196_608, &[("user", user), ("database", database)])).await;
        let answers = client.until_ready(1).await;
        assert!(answers.iter().all(|a| a.tag != 'E'), "{answers:?}");
        client
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // The server may have closed already, which the next read sees.
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next message; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        let read = async {
            let tag = self.stream.read_u8().await.ok()?;
            let length = self.stream.read_u32().await.ok()?;
            let mut body = vec![0; length as usize - 4];
            self.stream.read_exact(&mut body).await.ok()?;
            Some(Answer { tag: tag.into(), body })
        };
        within(read).await
    }

    /// Everything up to the `count`th ReadyForQuery, or the end of the connection.
    pub(crate) async fn until_ready(&mut self, count: usize) -> Vec<Answer> {
        let (mut answers, mut ready) = (Vec::new(), 0);
        while ready < count {
            let Some(answer) = self.next().await else { break };
            ready += usize::from(answer.tag == 'Z');
            answers.push(answer);
        }
        answers
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn until_closed(&mut self) -> Vec<Answer> {
        self.until_ready(usize::MAX).await
    }

    /// Reads so many bytes.
    pub(crate) async fn read_exactly(&mut self, bytes: usize) {
        let mut buffer = vec![0; bytes.max(1)];
        within(self.stream.read_exact(&mut buffer)).await.expect("so many bytes come");
    }

    pub(crate) async fn byte(&mut self) -> Option<u8> {
        within(async { self.stream.read_u8().await.ok() }).await
    }

    /// Ends the connection as a crash would: what is on its way is lost.
    pub(crate) fn reset(self) {
        let linger = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        linger.expect("a socket");
    }

    pub(crate) async fn finish_sending(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Takes up to so many bytes of whatever comes.
    pub(crate) async fn read_some(&mut self, most: usize) -> usize {
        let mut buffer = vec![0; most];
        within(self.stream.read(&mut buffer)).await.unwrap_or(0)
    }

    /// Sends a query whose answer is not looked at.
    pub(crate) async fn execute(&mut self, sql: &str) {
        self.send(&query(sql)).await;
        self.until_ready(1).await;
    }

    /// One value by the simple protocol.
    pub(crate) async fn value(&mut self, sql: &str) -> String {
        self.send(&query(sql)).await;
        let answers = self.until_ready(1).await;
        let row = answers.iter().find(|a| a.tag == 'D').unwrap_or_else(|| panic!("{sql}: {answers:?}"));
        String::from_utf8_lossy(&row.body[6..]).into_owned()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    let limit: Duration = DEADLINE;
    tokio::time::timeout(limit, future).await.expect("an answer in time")
}

pub(crate) fn startup(code: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u32(code);
    for (name, value) in parameters {
        string(&mut body, name);
        string(&mut body, value);
    }
    body.put_u8(0);
    let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend_from_slice(&body);
    packet
}

fn string(out: &mut BytesMut, text: &str) {
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}

pub(crate) fn message(tag: char, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag as u8];
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
    out
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message('Q', format!("{sql}\0").as_bytes())
}

pub(crate) fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = BytesMut::new();
    string(&mut body, name);
    string(&mut body, sql);
    body.put_u16(types.len() as u16);
    types.iter().for_each(|oid| body.put_u32(*oid));
    message('P', &body)
}

/// Parameters in text; `formats` for the results.
pub(crate) fn bind(portal: &str, statement: &str, params: &[&str], formats: &[u16]) -> Vec<u8> {
    let mut body = BytesMut::new();
    string(&mut body, portal);
    string(&mut body, statement);
    body.put_u16(0);
    body.put_u16(params.len() as u16);
    for param in params {
        body.put_u32(param.len() as u32);
        body.put_slice(param.as_bytes());
    }
    body.put_u16(formats.len() as u16);
    formats.iter().for_each(|format| body.put_u16(*format));
    message('B', &body)
}

pub(crate) fn describe(object: char, name: &str) -> Vec<u8> {
    message('D', format!("{object}{name}\0").as_bytes())
}

pub(crate) fn close(object: char, name: &str) -> Vec<u8> {
    message('C', format!("{object}{name}\0").as_bytes())
}

pub(crate) fn execute(portal: &str, rows: i32) -> Vec<u8> {
    let mut body = BytesMut::new();
    string(&mut body, portal);
    body.put_i32(rows);
    message('E', &body)
}

pub(crate) fn sync() -> Vec<u8> {
    message('S', b"")
}

pub(crate) fn flush() -> Vec<u8> {
    message('H', b"")
}
