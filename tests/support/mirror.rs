//! The daemon in this process, and what its store holds.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use millpond::{
    codec,
    config::Config,
    daemon::Daemon,
    lifecycle::shutdown::Shutdown,
    store::{Snapshot, TableView},
    telemetry::status::{TableState, TableStatus},
    types::{Datum, Lsn},
};
use tokio_postgres::Client;

use super::{
    client::{self, TextRow},
    wait::wait_until,
};

pub(crate) struct Mirror {
    pub(crate) daemon: Daemon,
    shutdown: Shutdown,
}

impl Mirror {
    /// Starts the daemon on a primary and waits until every table is live.
    pub(crate) async fn start(url: &str, tables: &str) -> Mirror {
        let mirror = Mirror::begin(url, tables, "");
        tokio::time::timeout(Duration::from_secs(120), mirror.daemon.ready())
            .await
            .unwrap_or_else(|_| panic!("not ready: {:?}", mirror.daemon.status.replication()));
        mirror
    }

    /// Starts the daemon without waiting. `tables` is a list in TOML, `more` further configuration.
    pub(crate) fn begin(url: &str, tables: &str, more: &str) -> Mirror {
        // A writer that waits for the locks of a copy and is waited for by its slot is let through after
        // `slot_timeout`, and the copy begins again: not so late in tests.
        let auth = if more.contains("[auth]") { "" } else { "[auth]\nallow_trust = true\n" };
        let toml = format!(
            "[primary]\nurl = \"{url}\"\n[listen]\naddress = \"127.0.0.1:0\"\n[admin]\nlisten = \"\"\n\
             {auth}[[tables]]\nmatch = {tables}\n\
             [replication]\nstatus_interval = \"100ms\"\ncatalog_interval = \"100ms\"\n\
             slot_timeout = \"1s\"\n{more}\n"
        );
        let config = Config::from_toml(&toml).unwrap_or_else(|errors| panic!("{errors}\n{toml}"));
        let shutdown = Shutdown::new();
        let daemon = Daemon::start(config, shutdown.clone()).expect("the daemon starts");
        Mirror { daemon, shutdown }
    }

    /// Where clients connect.
    pub(crate) fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@{}/{database}", self.daemon.address())
    }

    pub(crate) fn table(&self, name: &str) -> TableStatus {
        let tables = self.daemon.status.tables();
        tables.into_iter().find(|t| t.name == name).unwrap_or_else(|| panic!("{name} is not known"))
    }

    pub(crate) async fn wait_live(&self, name: &str) {
        wait_until(&format!("{name} is live"), async || {
            self.daemon.status.tables().iter().any(|t| t.name == name && t.state == TableState::Live)
        })
        .await;
    }

    /// Waits until everything that the primary has committed so far is here.
    pub(crate) async fn catch_up(&self, primary: &Client) {
        let lsn: Lsn =
            client::value(primary, "select pg_current_wal_flush_lsn()").await.parse().expect("an LSN");
        wait_until(&format!("{lsn} is reached"), async || self.daemon.store.lsn() >= lsn).await;
    }

    /// A table's rows at a snapshot, as text.
    pub(crate) fn rows_at(&self, snapshot: &Snapshot, name: &str) -> Vec<TextRow> {
        let view = snapshot
            .table(self.table(name).oid)
            .unwrap_or_else(|| panic!("{name} is not live: {:?}", self.table(name)));
        text_rows(&view)
    }

    /// Fails unless these tables hold exactly what the primary's do. Nobody may be writing.
    pub(crate) async fn assert_equal(&self, primary: &Client, tables: &[&str]) {
        for name in tables {
            self.wait_live(name).await;
        }
        self.catch_up(primary).await;
        let snapshot = self.daemon.store.snapshot();
        for name in tables {
            let sql = format!("select * from {name}");
            let view = snapshot.table(self.table(name).oid).expect("live");
            let mut ours = client::Digest::default();
            each_row(&view, |row| ours.add(&row));
            if client::digest(primary, &sql).await != ours {
                client::assert_same(name, text_rows(&view), client::rows(primary, &sql).await);
                panic!("{name} changed while it was compared");
            }
        }
    }

    /// Asks the daemon to stop, and waits until it has.
    pub(crate) async fn stop(self) {
        self.shutdown.request("the test is done");
        self.daemon.finished().await.expect("a clean end");
    }
}

/// What PostgreSQL would print of the rows.
pub(crate) fn text_rows(view: &TableView) -> Vec<TextRow> {
    let mut rows = Vec::new();
    each_row(view, |row| rows.push(row));
    rows
}

fn each_row(view: &TableView, mut visit: impl FnMut(TextRow)) {
    let columns = &view.schema().columns;
    for chunk in view.chunks() {
        for row in chunk.rows(view.version()) {
            let text = |(position, column): (usize, &millpond::types::ColumnSchema)| {
                let datum = row.datum(position);
                if datum.is_null() {
                    return None;
                }
                let mut out = BytesMut::new();
                codec::write_text(&column.pg_type, column.typmod, &datum, &mut out).expect("text");
                Some(String::from_utf8(out.to_vec()).expect("UTF-8"))
            };
            visit(columns.iter().enumerate().map(text).collect());
        }
    }
}

/// The sum of an integer column at a snapshot.
pub(crate) fn sum(view: &TableView, column: &str) -> i64 {
    let position = view.schema().column_position(column).expect("a column");
    let chunks: Vec<Arc<_>> = view.chunks();
    let value = |datum: Datum<'_>| match datum {
        Datum::Int4(v) => i64::from(v),
        Datum::Int8(v) => v,
        other => panic!("{other:?} cannot be summed"),
    };
    chunks
        .iter()
        .map(|chunk| chunk.rows(view.version()).map(|row| value(row.datum(position))).sum::<i64>())
        .sum()
}
