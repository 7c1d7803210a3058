//! The leanest reader of a COPY that there can be: bytes are counted and thrown away.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use crate::Result;

const BUFFER_BYTES: usize = 256 << 10;
/// ReadyForQuery outside of a transaction: the last message of every answer.
const READY: &[u8] = b"Z\0\0\0\x05I";

/// Runs all statements on as many connections, and gives the number of rows that the primary sent.
pub(crate) fn run(port: u16, statements: &[String], connections: usize) -> Result<u64> {
    let next = AtomicUsize::new(0);
    let connection = || -> Result<u64> {
        let mut stream = login(port)?;
        let mut rows = 0;
        while let Some(statement) = statements.get(next.fetch_add(1, Ordering::Relaxed)) {
            rows += copy(&mut stream, statement)?;
        }
        Ok(rows)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(connection)).collect();
        threads.into_iter().try_fold(0, |rows, thread| {
            let copied = thread.join().map_err(|_| "a connection panicked")??;
            Ok(rows + copied)
        })
    })
}

fn login(port: u16) -> Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let mut message = BytesMut::new();
    frontend::startup_message([("user", "postgres"), ("database", "postgres")], &mut message)?;
    stream.write_all(&message)?;
    read_answer(&mut stream)?;
    Ok(stream)
}

fn copy(stream: &mut TcpStream, statement: &str) -> Result<u64> {
    let mut message = BytesMut::new();
    frontend::query(statement, &mut message)?;
    stream.write_all(&message)?;
    let tail = read_answer(stream)?;
    // CommandComplete stands in front of ReadyForQuery: `COPY 42`.
    let text = String::from_utf8_lossy(&tail);
    let count = text.rsplit_once("COPY ").and_then(|(_, rest)| rest.split('\0').next()?.parse().ok());
    count.ok_or_else(|| format!("the primary refused {statement}: {text}").into())
}

/// Reads to the end of an answer and gives its last bytes. Nothing is parsed: that ReadyForQuery stands
/// at the end of what was read by chance does not happen with the bench's rows.
fn read_answer(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut tail = Vec::new();
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err("the primary closed the connection".into());
        }
        let new = &buffer[read.saturating_sub(512)..read];
        tail.extend_from_slice(new);
        tail.drain(..tail.len().saturating_sub(512));
        if tail.ends_with(READY) {
            return Ok(tail);
        }
    }
}
