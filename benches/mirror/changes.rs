//! Streams of changes, and what applying them costs.

use std::time::Duration;

use millpond::types::Lsn;
use tokio_postgres::Client;

use crate::{
    Result, accounts,
    mirror::Mirror,
    process::{process_cpu, thread_cpu},
};

/// A stream of changes to `pgbench_accounts`.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Rows of each transaction.
    batch: u64,
    rows: u64,
    /// For the aids `first` to `last`; inserted ones come after `base`.
    statement: &'static str,
}

/// Half a million rows a round in all, and back where it began.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "update, 100 rows a transaction",
        batch: 100,
        rows: 250_000,
        statement: "update pgbench_accounts set abalance = abalance + 1 where aid between first and last",
    },
    Workload {
        name: "insert, then delete, 100 rows a transaction",
        batch: 100,
        rows: 100_000,
        statement:
            "insert into pgbench_accounts select base + i, 1, 0, '' from generate_series(first, last) i;
                    commit;
                    delete from pgbench_accounts where aid between base + first and base + last",
    },
    Workload {
        name: "update, one row a transaction",
        batch: 1,
        rows: 50_000,
        statement: "update pgbench_accounts set abalance = abalance + 1 where aid = first",
    },
];

/// CPU time for one row.
pub(crate) struct Cost {
    pub(crate) apply_us: f64,
    pub(crate) stream_us: f64,
    /// Connections, copies and the catalogue.
    pub(crate) supervisor_us: f64,
    pub(crate) walsender_us: f64,
}

pub(crate) async fn measure(
    client: &Client,
    mirror: &Mirror,
    workload: &Workload,
    scale: u32,
) -> Result<Cost> {
    let base = accounts::rows(scale);
    let Workload { batch, rows, statement, .. } = workload;
    let sender = "select pid from pg_stat_replication";
    let sender: i32 = client.query_one(sender, &[]).await?.get(0);
    let now = || -> Result<[Duration; 4]> {
        Ok([
            thread_cpu("apply")?,
            thread_cpu("millpond-stream")?,
            thread_cpu("source")?,
            process_cpu(sender)?,
        ])
    };
    let before = now()?;
    let load = format!(
        "do $$
         declare first int; last int; base int := {base};
         begin
           for n in 0 .. {rows} / {batch} - 1 loop
             first := n * {batch} + 1;
             last := first + {batch} - 1;
             {statement};
             commit;
           end loop;
         end $$"
    );
    client.batch_execute(&load).await?;
    let lsn: String = client.query_one("select pg_current_wal_flush_lsn()::text", &[]).await?.get(0);
    mirror.wait_for(lsn.parse::<Lsn>().map_err(|_| "the primary's position cannot be read")?)?;
    let after = now()?;
    let changed = *rows as f64 * if statement.contains("delete") { 2.0 } else { 1.0 };
    let us = |thread: usize| (after[thread] - before[thread]).as_secs_f64() * 1e6 / changed;
    Ok(Cost { apply_us: us(0), stream_us: us(1), supervisor_us: us(2), walsender_us: us(3) })
}
