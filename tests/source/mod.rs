//! The source against a real primary: hand-over, copy, slots, stream.

mod copy;
mod hand_over;
mod slot;
mod stream;

use std::{sync::Arc, time::Duration};

use millpond::{
    config,
    primary::{Target, client},
    source::{CopyConsumer, CopySink, CopyTable, Frame, SlotWait, SourceError, Stream, StreamOptions},
    telemetry::status::Status,
    types::{
        AttNum, Collation, ColumnSchema, PgType, ReplicaIdentity, TableOid, TableSchema, TypeKind, TypeOid,
    },
};
use parking_lot::Mutex;
use tokio_postgres::Client;

use crate::support::wait::{DEADLINE, wait_until};

fn target(url: &str) -> Target {
    Target::parse(&config::Primary {
        url: url.into(),
        password: None,
        passfile: None,
        start_timeout: DEADLINE,
        connect_timeout: Duration::from_secs(10),
    })
    .unwrap()
}

async fn admin(url: &str) -> Client {
    client(&target(url), "test").await.unwrap()
}

/// Runs statements with the names of `public` in reach, which our own connections have not.
async fn run(client: &Client, sql: &str) {
    crate::support::client::execute(client, &format!("set search_path = public; {sql}")).await;
}

/// Returns when this time has passed by the primary's clock.
async fn primary_seconds(client: &Client, seconds: f64) {
    let now = "select extract(epoch from clock_timestamp())::float8";
    let now = async || client.query_one(now, &[]).await.unwrap().get::<_, f64>(0);
    let start = now().await;
    wait_until("the time has passed", async || now().await > start + seconds).await;
}

fn options(publication: &str) -> StreamOptions {
    StreamOptions {
        publication: publication.into(),
        binary: false,
        streaming: false,
        messages: true,
        status_interval: Duration::from_millis(200),
    }
}

fn patient(status: &Status) -> SlotWait<'_> {
    SlotWait { timeout: DEADLINE, lock_holders: &[], status }
}

/// A table of one int4 column, or with a second one whose type only the primary can write.
async fn table(client: &Client, name: &str, kinds: &[(&str, TypeKind)]) -> CopyTable {
    let row = client
        .query_one(
            "select oid, relpages::int8, pg_table_size(oid), relkind = 'p' from pg_class where relname = $1",
            &[&name],
        )
        .await
        .unwrap();
    let columns = kinds.iter().map(|(column, kind)| ColumnSchema {
        name: (*column).into(),
        attnum: AttNum(1),
        pg_type: Arc::new(PgType {
            oid: TypeOid(0),
            name: "t".into(),
            len: -1,
            kind: match kind {
                TypeKind::Opaque => TypeKind::Opaque,
                _ => TypeKind::Int4,
            },
        }),
        typmod: -1,
        not_null: false,
        collation: Collation::NONE,
    });
    let schema = TableSchema {
        oid: TableOid(row.get(0)),
        schema: "public".into(),
        name: name.into(),
        columns: columns.collect(),
        unmirrored: Vec::new(),
        identity: ReplicaIdentity::Full,
        indexes: Vec::new(),
        partitioned: row.get(3),
    };
    CopyTable {
        schema: Arc::new(schema),
        pages: row.get::<_, i64>(1) as u64,
        total_bytes: row.get::<_, i64>(2) as u64,
    }
}

/// The fields of a row, NULL as `None`.
type Row = Vec<Option<Vec<u8>>>;

/// Collects rows.
#[derive(Default)]
struct Rows(Arc<Mutex<Vec<Row>>>);

impl CopySink for Rows {
    fn open(&self, _: &Arc<TableSchema>) -> Box<dyn CopyConsumer> {
        Box::new(RowsOfRange { header: false, rows: Vec::new(), all: Arc::clone(&self.0) })
    }
}

struct RowsOfRange {
    header: bool,
    rows: Vec<Row>,
    all: Arc<Mutex<Vec<Row>>>,
}

impl CopyConsumer for RowsOfRange {
    fn data(&mut self, mut payload: &[u8]) -> Result<u64, String> {
        if !std::mem::replace(&mut self.header, true) {
            payload = payload.strip_prefix(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0").ok_or("no header")?;
        }
        let before = self.rows.len();
        while !payload.is_empty() {
            let (count, mut rest) = payload.split_first_chunk().unwrap();
            let mut row = Vec::new();
            for _ in 0..i16::from_be_bytes(*count) {
                let (length, tail) = rest.split_first_chunk().unwrap();
                let length = i32::from_be_bytes(*length);
                let (value, tail) = tail.split_at(length.max(0) as usize);
                row.push((length >= 0).then(|| value.to_vec()));
                rest = tail;
            }
            if i16::from_be_bytes(*count) >= 0 {
                self.rows.push(row);
            }
            payload = rest;
        }
        Ok((self.rows.len() - before) as u64)
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        self.all.lock().extend(self.rows);
        Ok(())
    }
}

fn int4(field: &Option<Vec<u8>>) -> i64 {
    i32::from_be_bytes(field.as_ref().unwrap().as_slice().try_into().unwrap()).into()
}

/// The first column of an Insert message, as text.
fn inserted(frame: &Frame) -> Option<i64> {
    let Frame::Change(message) = frame else { return None };
    let body = message.strip_prefix(b"I")?;
    // OID, 'N', number of columns, 't', length.
    let length = u32::from_be_bytes(body[8..12].try_into().unwrap()) as usize;
    Some(std::str::from_utf8(&body[12..12 + length]).unwrap().parse().unwrap())
}

/// Reads frames up to the insert of `marker`; gives every id before it.
async fn ids_before(stream: &mut Stream, marker: i64) -> Vec<i64> {
    let mut ids = Vec::new();
    let mut reader = stream.reader();
    let mut frames = Vec::new();
    loop {
        let more = tokio::time::timeout(DEADLINE, reader.next(&mut frames)).await.expect("the marker comes");
        assert!(more, "the stream ended: {}", stream.ended().await);
        for frame in frames.drain(..) {
            if let Frame::Keepalive { wal_end } = frame {
                stream.progress().set_flushed(wal_end);
            }
            match inserted(&frame) {
                Some(id) if id == marker => return ids,
                Some(id) => ids.push(id),
                None => {}
            }
        }
    }
}

/// What ended the stream.
async fn end_of(stream: &mut Stream) -> SourceError {
    let mut frames = Vec::new();
    let mut reader = stream.reader();
    while tokio::time::timeout(DEADLINE, reader.next(&mut frames)).await.expect("the stream ends") {
        frames.clear();
    }
    stream.ended().await
}
