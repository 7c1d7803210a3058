//! The source against a real primary: hand-over, locks, pings, shutdown.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use millpond::{
    config,
    primary::{Connection, Target, client},
    source::{
        Copier, CopyConsumer, CopySink, CopyTable, Frame, ReplicationConnection, SlotWait, SourceError,
        SourceErrorKind, Stream, StreamOptions,
    },
    telemetry::status::{Status, TableState},
    types::{
        AttNum, Collation, ColumnSchema, Lsn, PgType, ReplicaIdentity, TableOid, TableSchema, TypeKind,
        TypeOid,
    },
};
use parking_lot::Mutex;
use tokio_postgres::Client;

/// No wait of these tests is longer.
const DEADLINE: Duration = Duration::from_secs(60);

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

/// Runs a statement with the names of `public` in reach.
async fn run(client: &Client, sql: &str) {
    client.batch_execute(&format!("set search_path = public; {sql}")).await.unwrap();
}

/// Asks until the answer is yes.
async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let started = Instant::now();
    while !ask().await {
        assert!(started.elapsed() < DEADLINE, "{what} did not happen");
        tokio::task::yield_now().await;
    }
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
    let mut frames = Vec::new();
    loop {
        tokio::time::timeout(DEADLINE, stream.next(&mut frames)).await.expect("the marker comes").unwrap();
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
    loop {
        match tokio::time::timeout(DEADLINE, stream.next(&mut frames)).await.expect("the stream ends") {
            Ok(()) => frames.clear(),
            Err(error) => return error,
        }
    }
}

/// Under load from four writers, every committed id is in the snapshot or in the stream and not in both.
pub(crate) async fn snapshot_and_stream_meet(url: &str) {
    const ROUNDS: i64 = 12;
    let admin = admin(url).await;
    run(&admin, "drop publication if exists meet").await;
    run(&admin, "drop table if exists meet; create table meet (id int4 primary key)").await;
    run(&admin, "create publication meet for table meet").await;
    let (next, stop) = (Arc::new(AtomicI64::new(1)), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (url, next, stop) = (url.to_owned(), Arc::clone(&next), Arc::clone(&stop));
            tokio::spawn(async move {
                let client = self::admin(&url).await;
                let insert = client.prepare("insert into public.meet values ($1)").await.unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let id = next.fetch_add(1, Ordering::Relaxed) as i32;
                    client.execute(&insert, &[&id]).await.unwrap();
                }
            })
        })
        .collect();
    for round in 1..=ROUNDS {
        let status = Arc::new(Status::default());
        let tables = vec![table(&admin, "meet", &[("id", TypeKind::Int4)]).await];
        let oid = tables[0].schema.oid;
        let mut copier = Copier::prepare(&target(url), tables, 2, DEADLINE).await.unwrap();
        let mut replication = ReplicationConnection::connect(&target(url)).await.unwrap();
        let slot = format!("meet_{round}");
        let exported = replication.create_slot(&target(url), &slot, true, patient(&status)).await.unwrap();
        copier.import(&exported.snapshot_name).await.unwrap();
        let mut stream = replication.start(&slot, Lsn::ZERO, &options("meet")).await.unwrap();
        let rows = Rows::default();
        let all = Arc::clone(&rows.0);
        let totals = copier.run(Arc::new(rows), Arc::clone(&status)).await.unwrap();

        let committed = admin.query("select id from public.meet", &[]).await.unwrap();
        admin.execute("insert into public.meet values ($1)", &[&(-round as i32)]).await.unwrap();
        let streamed = ids_before(&mut stream, -round).await;
        let copied: Vec<i64> = all.lock().iter().map(|row| int4(&row[0])).collect();

        assert_eq!(totals.rows, copied.len() as u64);
        let table = status.table(oid).unwrap();
        assert_eq!((table.state, table.copied_rows), (TableState::CatchingUp, totals.rows));
        let seen: Vec<i64> = copied.iter().chain(&streamed).copied().collect();
        let distinct: HashSet<i64> = seen.iter().copied().collect();
        assert_eq!(seen.len(), distinct.len(), "an id is in the snapshot and in the stream");
        for row in committed {
            let id = i64::from(row.get::<_, i32>(0));
            assert!(
                distinct.contains(&id),
                "round {round}: {id} is neither in the snapshot nor in the stream"
            );
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    run(&admin, "drop publication meet").await;
}

/// Ranges by ctid, partitioned roots, opaque columns and NULLs give the rows that the primary has.
pub(crate) async fn a_copy_has_every_row_once(url: &str) {
    let admin = admin(url).await;
    run(&admin, "drop table if exists wide, parts; drop type if exists pair").await;
    run(
        &admin,
        "create type pair as (a int4, b text); \
         create table wide (id int4, filler pair) with (fillfactor = 10); \
         insert into wide select i, case i % 3 when 0 then null when 1 then row(null, null)::pair \
         else row(i, 'é, \"')::pair end from generate_series(1, 200000) i; \
         create table parts (id int4) partition by range (id); \
         create table parts_a partition of parts for values from (0) to (100); \
         create table parts_b partition of parts default; \
         insert into parts select generate_series(1, 300); analyze wide, parts",
    )
    .await;
    let mut wide = table(&admin, "wide", &[("id", TypeKind::Int4), ("filler", TypeKind::Opaque)]).await;
    assert!(wide.pages > 8_192, "more than one range");
    // The primary's estimate is out of date: the last range has no end.
    wide.pages -= 100;
    let parts = table(&admin, "parts", &[("id", TypeKind::Int4)]).await;
    for copied in [wide, parts] {
        let name = copied.schema.name.clone();
        let columns = copied.schema.columns.len();
        let copier = Copier::prepare(&target(url), vec![copied], 3, DEADLINE).await.unwrap();
        let rows = Rows::default();
        let all = Arc::clone(&rows.0);
        copier.run(Arc::new(rows), Arc::default()).await.unwrap();
        let filler = if columns == 2 { "filler" } else { "null" };
        let expected =
            admin.query(&format!("select id, {filler}::text from public.{name}"), &[]).await.unwrap();
        let expected: BTreeSet<(i64, Option<String>)> =
            expected.iter().map(|r| (r.get::<_, i32>(0).into(), r.get(1))).collect();
        let all = all.lock();
        let text = |f: &Option<Vec<u8>>| f.as_ref().map(|b| String::from_utf8(b.clone()).unwrap());
        let found: BTreeSet<_> = all.iter().map(|r| (int4(&r[0]), r.get(1).and_then(text))).collect();
        assert_eq!(all.len(), expected.len(), "{name}");
        assert!(found == expected, "{name} differs");
    }
}

/// While the copy's locks are held a rewrite waits, and a lock that is held by others bounds our wait.
pub(crate) async fn locks_are_held_and_bounded(url: &str) {
    let (admin, other) = (admin(url).await, admin(url).await);
    run(&admin, "drop table if exists locked; create table locked (id int4)").await;
    let copied = table(&admin, "locked", &[("id", TypeKind::Int4)]).await;
    run(&other, "begin; lock table locked").await;
    let refused = Copier::prepare(&target(url), vec![copied.clone()], 2, Duration::from_millis(50)).await;
    let error = refused.map(drop).unwrap_err();
    assert!(matches!(&error, SourceError::Lock(e) if e.sqlstate() == Some("55P03")), "{error}");
    run(&other, "rollback").await;

    let copier = Copier::prepare(&target(url), vec![copied.clone()], 2, DEADLINE).await.unwrap();
    let blocked = other.batch_execute("set lock_timeout = '50ms'; truncate public.locked").await;
    assert_eq!(blocked.unwrap_err().code().unwrap().code(), "55P03");
    drop(copier);
    run(&other, "set lock_timeout = '60s'; truncate locked").await;

    run(&admin, "drop table locked").await;
    let error = Copier::prepare(&target(url), vec![copied], 1, DEADLINE).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Bootstrap, "{error}");
}

/// A consumer that refuses ends the copy, with the table's name.
pub(crate) async fn a_refused_row_ends_the_copy(url: &str) {
    struct Refuses;
    impl CopySink for Refuses {
        fn open(&self, _: &Arc<TableSchema>) -> Box<dyn CopyConsumer> {
            Box::new(Refuses)
        }
    }
    impl CopyConsumer for Refuses {
        fn data(&mut self, _: &[u8]) -> Result<u64, String> {
            Err("no room".into())
        }
        fn finish(self: Box<Self>) -> Result<(), String> {
            Ok(())
        }
    }
    let admin = admin(url).await;
    run(&admin, "drop table if exists refused; create table refused as select generate_series(1, 10) id")
        .await;
    let tables = vec![table(&admin, "refused", &[("id", TypeKind::Int4)]).await];
    let copier = Copier::prepare(&target(url), tables, 2, DEADLINE).await.unwrap();
    let error = copier.run(Arc::new(Refuses), Arc::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "copying public.refused: no room");
}

/// A snapshot is dead after the next command on its connection.
pub(crate) async fn a_dead_snapshot_is_recognised(url: &str) {
    let admin = admin(url).await;
    run(&admin, "drop table if exists dead; create table dead (id int4)").await;
    let tables = vec![table(&admin, "dead", &[("id", TypeKind::Int4)]).await];
    let mut copier = Copier::prepare(&target(url), tables, 1, DEADLINE).await.unwrap();
    let mut replication = ReplicationConnection::connect(&target(url)).await.unwrap();
    let status = Status::default();
    let exported = replication.create_slot(&target(url), "dead", true, patient(&status)).await.unwrap();
    assert_eq!(exported.slot, "dead");
    let identity = replication.identify_system().await.unwrap();
    assert!(identity.xlog_pos >= exported.consistent_point && identity.timeline >= 1);
    let error = copier.import(&exported.snapshot_name).await.unwrap_err();
    assert!(matches!(error, SourceError::SnapshotGone(_)), "{error}");
    assert_eq!(error.kind(), SourceErrorKind::Bootstrap);
}

/// A `transaction_timeout` of the role (17 and later) ends neither the exported snapshot nor the copy.
pub(crate) async fn a_transaction_timeout_ends_nothing(url: &str) {
    let admin = admin(url).await;
    run(&admin, "drop table if exists timed; create table timed as select generate_series(1, 10) id").await;
    let version: i32 =
        admin.query_one("select current_setting('server_version_num')::int4", &[]).await.unwrap().get(0);
    let separator = if url.contains('?') { '&' } else { '?' };
    let hasty = match version {
        170_000.. => target(&format!("{url}{separator}options=-c%20transaction_timeout=300ms")),
        _ => target(url),
    };
    let tables = vec![table(&admin, "timed", &[("id", TypeKind::Int4)]).await];
    let mut copier = Copier::prepare(&hasty, tables, 2, DEADLINE).await.unwrap();
    let mut replication = ReplicationConnection::connect(&hasty).await.unwrap();
    let status = Status::default();
    let exported = replication.create_slot(&target(url), "timed", true, patient(&status)).await.unwrap();
    // Twice the timeout after the export, by the primary's own clock.
    let exported_at: f64 =
        admin.query_one("select extract(epoch from clock_timestamp())::float8", &[]).await.unwrap().get(0);
    until("twice the timeout", || async {
        let age = "select extract(epoch from clock_timestamp())::float8 - $1";
        admin.query_one(age, &[&exported_at]).await.unwrap().get::<_, f64>(0) > 0.6
    })
    .await;
    copier.import(&exported.snapshot_name).await.unwrap();
    let totals = copier.run(Arc::new(Rows::default()), Arc::default()).await.unwrap();
    assert_eq!(totals.rows, 10);
}

async fn slots(admin: &Client, name: &str) -> i64 {
    let count = "select count(*) from pg_replication_slots where slot_name = $1";
    admin.query_one(count, &[&name]).await.unwrap().get(0)
}

/// Any error of its session takes a temporary slot along; a permanent one stays until it is dropped.
pub(crate) async fn a_temporary_slot_goes_with_its_session(url: &str) {
    let (admin, status) = (admin(url).await, Status::default());
    let mut first = ReplicationConnection::connect(&target(url)).await.unwrap();
    first.create_slot(&target(url), "temporary_one", true, patient(&status)).await.unwrap();
    assert_eq!(slots(&admin, "temporary_one").await, 1);
    let error = first.start("no_such_slot", Lsn::ZERO, &options("none")).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Bootstrap, "{error}");
    until("the slot's end", || async { slots(&admin, "temporary_one").await == 0 }).await;

    let mut second = ReplicationConnection::connect(&target(url)).await.unwrap();
    second.create_slot(&target(url), "permanent_one", false, patient(&status)).await.unwrap();
    drop(second);
    assert_eq!(slots(&admin, "permanent_one").await, 1);
    let mut third = ReplicationConnection::connect(&target(url)).await.unwrap();
    third.drop_slot("permanent_one").await.unwrap();
    assert_eq!(slots(&admin, "permanent_one").await, 0);
}

/// A slot that waits for a transaction says for which; it gives up when others wait for our locks.
pub(crate) async fn a_blocked_slot_names_who_blocks(url: &str) {
    let (admin, holder) = (admin(url).await, admin(url).await);
    run(&admin, "drop table if exists blocked; create table blocked (id int4)").await;
    run(&holder, "begin; select pg_current_xact_id()").await;
    let pid: i32 = holder.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);

    let status = Arc::new(Status::default());
    let create = |name: &'static str, lock_holders: Vec<i32>| {
        let (status, url) = (Arc::clone(&status), url.to_owned());
        tokio::spawn(async move {
            let mut replication = ReplicationConnection::connect(&target(&url)).await?;
            let wait = SlotWait {
                timeout: Duration::from_millis(100),
                lock_holders: &lock_holders,
                status: &status,
            };
            replication.create_slot(&target(&url), name, true, wait).await
        })
    };
    let named = || async {
        let error = status.replication().last_error.unwrap_or_default();
        error.contains(&format!("pid {pid} "))
    };
    let creation = create("blocked_one", Vec::new());
    until("the blocker's name", named).await;
    run(&holder, "commit").await;
    creation.await.unwrap().unwrap();
    assert_eq!(status.replication().last_error, None);

    run(&holder, "begin; select pg_current_xact_id()").await;
    let copied = table(&admin, "blocked", &[("id", TypeKind::Int4)]).await;
    let copier = Copier::prepare(&target(url), vec![copied], 1, DEADLINE).await.unwrap();
    let creation = create("blocked_two", copier.process_ids());
    until("the blocker's name", named).await;
    let waiter =
        tokio::spawn(async move { admin.batch_execute("alter table public.blocked add x int4").await });
    let error = creation.await.unwrap().unwrap_err();
    assert!(matches!(error, SourceError::SlotBlocked { waiting: 1, .. }), "{error}");
    drop(copier);
    waiter.await.unwrap().unwrap();
    run(&holder, "commit").await;
    until("the slot's end", || async { slots(&holder, "blocked_two").await == 0 }).await;
}

/// A reader that takes nothing for longer than `wal_sender_timeout` keeps its connection, with the queue
/// full, and then gets everything.
pub(crate) async fn a_stuck_reader_is_not_cut_off(url: &str) {
    const ROWS: i64 = 900_000;
    let admin = admin(url).await;
    run(&admin, "drop publication if exists stuck; drop table if exists stuck").await;
    run(&admin, "create table stuck (id int4, filler text); create publication stuck for table stuck").await;
    let separator = if url.contains('?') { '&' } else { '?' };
    let impatient = target(&format!("{url}{separator}options=-c%20wal_sender_timeout=2s"));
    let mut replication = ReplicationConnection::connect(&impatient).await.unwrap();
    let status = Status::default();
    replication.create_slot(&impatient, "stuck", true, patient(&status)).await.unwrap();
    let mut stream = replication.start("stuck", Lsn::ZERO, &options("stuck")).await.unwrap();
    run(&admin, &format!("insert into stuck select i, repeat('x', 50) from generate_series(1, {ROWS}) i"))
        .await;
    run(&admin, "insert into stuck values (-1, '')").await;
    // Three times the timeout, by the primary's own clock.
    let question = "select coalesce(max(extract(epoch from clock_timestamp() - backend_start)), 0)::float8 \
                    from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid \
                    where s.slot_name = 'stuck'";
    until("a long time", || async { admin.query_one(question, &[]).await.unwrap().get::<_, f64>(0) > 6.0 })
        .await;
    assert_eq!(ids_before(&mut stream, -1).await, (1..=ROWS).collect::<Vec<_>>());
    drop(stream);
    run(&admin, "drop publication stuck; drop table stuck").await;
}

/// An asked primary answers at once with its position, which an idle one does not volunteer.
pub(crate) async fn an_idle_primary_answers_questions(url: &str) {
    let admin = admin(url).await;
    run(&admin, "drop publication if exists idle; create publication idle").await;
    let mut replication = ReplicationConnection::connect(&target(url)).await.unwrap();
    let status = Status::default();
    replication.create_slot(&target(url), "idle", true, patient(&status)).await.unwrap();
    let mut rare = options("idle");
    rare.status_interval = DEADLINE * 2;
    let mut stream = replication.start("idle", Lsn::ZERO, &rare).await.unwrap();
    for _ in 0..20 {
        run(&admin, "create table idle_table (id int4); drop table idle_table").await;
        let token: String =
            admin.query_one("select pg_current_wal_flush_lsn()::text", &[]).await.unwrap().get(0);
        let token: Lsn = token.parse().unwrap();
        let mut frames = Vec::new();
        while stream.progress().received() < token {
            stream.progress().ask();
            tokio::time::timeout(DEADLINE, stream.next(&mut frames)).await.expect("an answer").unwrap();
        }
    }
    drop(stream);
    run(&admin, "drop publication idle").await;
}

/// A publication that disappears ends the stream: by an error up to 17, by a warning from 18 on.
pub(crate) async fn a_lost_publication_ends_the_stream(url: &str) {
    let admin = admin(url).await;
    run(&admin, "drop publication if exists lost; drop table if exists lost").await;
    run(&admin, "create table lost (id int4); create publication lost for table lost").await;
    let mut replication = ReplicationConnection::connect(&target(url)).await.unwrap();
    let status = Status::default();
    replication.create_slot(&target(url), "lost", true, patient(&status)).await.unwrap();
    let version = replication.server_version_num();
    let mut stream = replication.start("lost", Lsn::ZERO, &options("lost")).await.unwrap();
    run(&admin, "insert into lost values (1)").await;
    assert_eq!(ids_before(&mut stream, 1).await, [0; 0]);
    run(&admin, "drop publication lost; insert into lost values (2)").await;
    let error = end_of(&mut stream).await;
    assert_eq!(matches!(error, SourceError::Notice(_)), version >= 180_000, "{error}");
    assert_eq!(error.kind(), SourceErrorKind::Bootstrap, "{error}");
}

/// A primary that shuts down is not held up: neither by a reader that acknowledges everything, nor by one
/// that has acknowledged something and is stuck. `stop` is `pg_ctl stop -m fast`, `start` brings it back.
pub(crate) async fn a_fast_shutdown_is_not_held_up(url: &str, stop: fn(), start: fn()) {
    for stuck in [false, true] {
        let admin = admin(url).await;
        run(&admin, "drop publication if exists shut; drop table if exists shut").await;
        run(&admin, "create table shut (id int4); create publication shut for table shut").await;
        let mut replication = ReplicationConnection::connect(&target(url)).await.unwrap();
        let status = Status::default();
        replication.create_slot(&target(url), "shut", true, patient(&status)).await.unwrap();
        let mut stream = replication.start("shut", Lsn::ZERO, &options("shut")).await.unwrap();
        let mut frames = Vec::new();
        run(&admin, "insert into shut values (1)").await;
        assert_eq!(ids_before(&mut stream, 1).await, [0; 0]);
        // Now there is a position acknowledged that soon will be too old.
        while stream.progress().flushed() == Lsn::ZERO {
            stream.next(&mut frames).await.unwrap();
            stream.progress().set_flushed(stream.progress().received());
        }
        run(&admin, "insert into shut select generate_series(2, 100)").await;
        drop(admin);
        let stopping = tokio::task::spawn_blocking(stop);
        let error = match stuck {
            true => {
                stopping.await.unwrap();
                end_of(&mut stream).await
            }
            false => loop {
                frames.clear();
                match stream.next(&mut frames).await {
                    Ok(()) => stream.progress().set_flushed(stream.progress().received()),
                    Err(error) => {
                        stopping.await.unwrap();
                        break error;
                    }
                }
            },
        };
        match stuck {
            true => assert!(matches!(error, SourceError::ShutdownStorm), "{error}"),
            false => assert!(matches!(error, SourceError::Ended), "{error}"),
        }
        assert_eq!(error.kind(), SourceErrorKind::Reconnect);
        tokio::task::spawn_blocking(start).await.unwrap();
    }
}

/// Our own framing gives what the primary has, and a connection survives an error.
pub(crate) async fn simple_queries_give_text(url: &str) {
    let mut connection = Connection::login(&target(url), &[("DateStyle", "SQL, DMY")]).await.unwrap();
    let rows = connection.simple_query("select 1, null, 'é'; select date '2020-01-31'").await.unwrap();
    let text = |t: &str| Some(t.to_owned());
    assert_eq!(rows, [vec![text("1"), None, text("é")], vec![text("31/01/2020")]]);
    let error = connection.simple_query("select 1/0").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("22012"));
    assert_eq!(connection.simple_query("show datestyle").await.unwrap(), [[text("SQL, DMY")]]);
    assert_eq!(connection.parameter("DateStyle"), Some("SQL, DMY"));
    let long = connection.simple_query("select repeat('x', 3000000)").await.unwrap();
    assert_eq!(long[0][0].as_ref().map(String::len), Some(3_000_000));
}

/// A cancel request ends what its backend does.
pub(crate) async fn a_cancel_request_cancels(url: &str) {
    let mut connection = Connection::login(&target(url), &[]).await.unwrap();
    let (pid, key) = (connection.process_id(), connection.secret_key().clone());
    let admin = admin(url).await;
    let (result, ()) = tokio::join!(connection.simple_query("select pg_sleep(600)"), async {
        let state = "select coalesce(max(state), '') from pg_stat_activity where pid = $1 and query like '%pg_sleep%'";
        until("the query", || async {
            admin.query_one(state, &[&pid]).await.unwrap().get::<_, String>(0) == "active"
        })
        .await;
        millpond::primary::cancel(&target(url), pid, &key).await.unwrap();
    });
    assert_eq!(result.unwrap_err().sqlstate(), Some("57014"));
}
