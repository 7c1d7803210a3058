//! One copying session, on a thread of its own because decoding is work for a core.

use std::sync::{Arc, atomic::Ordering};

use parking_lot::Mutex;
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot, watch},
};

use super::{
    CopyConsumer, CopySink, SourceError,
    copy_plan::{Range, copy_statement, import_statement},
    copy_report::TableCopy,
    slot::login,
};
use crate::primary::{Connection, PrimaryError, ServerMessage, Target};

/// What a session is told to do, in this order.
pub(super) enum Command {
    /// Join the exported snapshot.
    Import { snapshot: String, done: oneshot::Sender<Result<(), SourceError>> },
    /// Copy until the work list is empty.
    Copy { work: Arc<Work>, done: mpsc::UnboundedSender<Result<(), SourceError>> },
}

/// What all sessions share while they copy.
pub(super) struct Work {
    pub(super) ranges: Mutex<std::collections::VecDeque<Range>>,
    pub(super) tables: Arc<Vec<TableCopy>>,
    pub(super) sink: Arc<dyn CopySink>,
    /// Turns true, or loses its sender, when all have to stop.
    pub(super) stop: watch::Receiver<bool>,
}

/// A session with its locks, waiting for commands. Ends when dropped.
pub(super) struct Worker {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) process_id: i32,
}

impl Worker {
    /// Opens a session, begins its transaction and takes the locks.
    pub(super) async fn start(
        number: usize,
        target: Target,
        begin: Arc<[String]>,
    ) -> Result<Worker, SourceError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(SourceError::Thread)?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let (ready, prepared) = oneshot::channel();
        std::thread::Builder::new()
            .name(format!("millpond-copy{number}"))
            .spawn(move || runtime.block_on(serve(target, begin, ready, inbox)))
            .map_err(SourceError::Thread)?;
        let process_id = prepared.await.unwrap_or_else(|_| Err(lost()))?;
        Ok(Worker { commands, process_id })
    }
}

/// The thread is gone without a word.
pub(super) fn lost() -> SourceError {
    SourceError::Thread(std::io::Error::other("a copying thread ended early"))
}

async fn serve(
    target: Target,
    begin: Arc<[String]>,
    ready: oneshot::Sender<Result<i32, SourceError>>,
    mut inbox: mpsc::UnboundedReceiver<Command>,
) {
    let mut connection = match prepare(&target, &begin).await {
        Ok(connection) => connection,
        Err(error) => {
            // Without a receiver nobody waits for the session any more.
            let _ = ready.send(Err(error));
            return;
        }
    };
    if ready.send(Ok(connection.process_id())).is_err() {
        return;
    }
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Import { snapshot, done } => {
                let imported = connection.simple_query(&import_statement(&snapshot)).await;
                let imported = imported.map(|_| ()).map_err(|error| match error.sqlstate() {
                    // invalid_parameter_value up to 15, undefined_object later: the snapshot's file
                    // is gone.
                    Some("22023" | "42704") => SourceError::SnapshotGone(error),
                    _ => SourceError::Primary(error),
                });
                let _ = done.send(imported);
            }
            Command::Copy { work, done } => {
                let copied = copy_all(&mut connection, &work).await;
                let _ = done.send(copied);
                return;
            }
        }
    }
}

async fn prepare(target: &Target, begin: &[String]) -> Result<Connection, SourceError> {
    let mut connection = login(target, &[("application_name", "millpond: copy")]).await?;
    for statement in begin {
        connection.simple_query(statement).await.map_err(|error| match &error {
            PrimaryError::Server(_) => SourceError::Lock(error),
            _ => SourceError::Primary(error),
        })?;
    }
    Ok(connection)
}

/// How long rows gather while fewer bytes than [`GATHERED`] come at once; short enough that the primary
/// never waits for room in the socket.
const GATHER: std::time::Duration = std::time::Duration::from_micros(200);
const GATHERED: u64 = 48 * 1024;

/// Takes ranges from the list until it is empty, then gives the locks back.
async fn copy_all(connection: &mut Connection, work: &Work) -> Result<(), SourceError> {
    let mut stop = work.stop.clone();
    loop {
        let Some(range) = work.ranges.lock().pop_front() else { break };
        let Some(table) = work.tables.get(range.table) else { continue };
        let sql = copy_statement(&table.schema, &range, work.sink.as_text());
        table.begin();
        let consumer = work.sink.open(&table.schema);
        copy_range(connection, &sql, consumer, table, &mut stop).await?;
        table.range_done();
    }
    connection.simple_query("commit").await?;
    // Terminate, so that the primary's log has nothing to say about us.
    connection.write(&[b'X', 0, 0, 0, 4]);
    connection.flush().await?;
    Ok(())
}

async fn copy_range(
    connection: &mut Connection,
    sql: &str,
    mut consumer: Box<dyn CopyConsumer>,
    table: &TableCopy,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), SourceError> {
    let failed = |source| SourceError::CopyPrimary { table: table.schema.display_name(), source };
    let refused = |message| SourceError::CopyRefused { table: table.schema.display_name(), message };
    connection.send_query(sql).await.map_err(failed)?;
    let (mut seen, mut sent, mut error) = (0, None, None);
    loop {
        let (mut rows, mut bytes, mut ready) = (0, 0, false);
        while let Some((tag, body)) = connection.peek().map_err(failed)? {
            match tag {
                b'd' => {
                    rows += consumer.data(body).map_err(refused)?;
                    bytes += body.len() as u64;
                }
                b'C' => sent = copy_count(body),
                b'E' => error = Some(ServerMessage::parse(body)),
                b'Z' => ready = true,
                // CopyOutResponse, CopyDone, notices, reloaded settings.
                b'H' | b'c' | b'N' | b'S' | b'A' => {}
                tag => {
                    let message = format!("message {:?} in a copy", char::from(tag));
                    return Err(failed(PrimaryError::Protocol(message)));
                }
            }
            connection.consume().map_err(failed)?;
        }
        seen += rows;
        table.rows.fetch_add(rows, Ordering::Relaxed);
        table.bytes.fetch_add(bytes, Ordering::Relaxed);
        if ready {
            break;
        }
        if bytes < GATHERED {
            // The thread has nothing else to do, and a read for each buffer of the primary's would take a
            // processor's time from it: on a small machine they share the processors.
            std::thread::sleep(GATHER);
        }
        tokio::select! {
            biased;
            // 1. Another session failed, or nobody waits for the copy.
            _ = stop.changed() => return Err(failed(PrimaryError::Closed { source: None })),
            // 2. More rows.
            filled = connection.fill() => filled.map_err(failed)?,
        }
    }
    if let Some(error) = error {
        return Err(failed(PrimaryError::Server(Box::new(error))));
    }
    let sent = sent.ok_or_else(|| failed(PrimaryError::Protocol("a copy without its row count".into())))?;
    if sent != seen {
        return Err(SourceError::CopyCount { table: table.schema.display_name(), sent, seen });
    }
    consumer.finish().map_err(refused)
}

/// The number in `COPY 42`.
fn copy_count(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    text.trim_end_matches('\0').strip_prefix("COPY ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_count_of_a_copy() {
        assert_eq!(copy_count(b"COPY 42\0"), Some(42));
        for bad in [&b"SELECT 1\0"[..], b"COPY \0", b"COPY -1\0", b"", b"\xff"] {
            assert_eq!(copy_count(bad), None);
        }
    }
}
