//! What mirroring costs: the copy against a plain COPY, applying the stream in CPU time a row, memory
//! against the primary's disk.
//!
//! ```text
//! cargo bench --bench mirror              scale 50, five rounds
//! cargo bench --bench mirror -- --quick   scale 10, three rounds
//! ```
//!
//! Everything runs on this machine, the primary too, so only ratios of one run say something. They are
//! medians of alternating rounds; nothing is asserted. Options: `--scale N`, `--rounds N`,
//! `--postgres DIR` (the folder of `initdb` and `postgres`), `--only copy` or `--only apply` (for a
//! profiler).

mod accounts;
mod changes;
mod mirror;
mod plain_copy;
mod process;
mod report;

use std::{error::Error, path::PathBuf, time::Instant};

use millpond::cli::demo::server::{Server, ServerOptions};
use tokio_postgres::Client;

use mirror::Mirror;
use report::{CopyRound, Report};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Sessions that copy side by side, ours and the plain ones.
const COPY_WORKERS: usize = 2;

struct Options {
    scale: u32,
    rounds: usize,
    postgres: Option<PathBuf>,
    copy: bool,
    apply: bool,
}

fn main() -> Result<()> {
    let options = options()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(run(options))
}

fn options() -> Result<Options> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str, default: u32| value(name).map_or(Ok(default), |text| text.parse());
    let only = value("--only");
    Ok(Options {
        copy: only.as_deref() != Some("apply"),
        apply: only.as_deref() != Some("copy"),
        scale: number("--scale", if quick { 10 } else { 50 })?,
        rounds: number("--rounds", if quick { 3 } else { 5 })?.max(1) as usize,
        postgres: value("--postgres").map(PathBuf::from),
    })
}

async fn run(options: Options) -> Result<()> {
    let settings = [
        ("wal_level", "logical"),
        ("shared_buffers", "1GB"),
        ("max_wal_size", "8GB"),
        ("checkpoint_timeout", "1h"),
        ("autovacuum", "off"),
    ];
    let server = Server::start(ServerOptions {
        bin_dir: options.postgres.clone(),
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..ServerOptions::default()
    })?;
    let url = server.url("postgres", "postgres");
    let mut report = Report::new(server.version(), options.scale, options.rounds);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    eprintln!("loading {} accounts ...", accounts::rows(options.scale));
    accounts::load(&client, options.scale).await?;

    if options.copy {
        copy(&client, &server, &options, &mut report).await?;
    }
    if options.apply {
        apply(&client, &url, &options, &mut report).await?;
    }
    report.finish()
}

/// Alternates plain copies with ours.
async fn copy(client: &Client, server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    let url = server.url("postgres", "postgres");
    let ranges = accounts::ranges(client).await?;
    let rows: i64 = client.query_one("select count(*) from pgbench_accounts", &[]).await?.get(0);
    let disk: i64 = client.query_one("select pg_total_relation_size('pgbench_accounts')", &[]).await?.get(0);
    // Once for the primary's own buffers.
    plain_copy::run(server.port(), &ranges, COPY_WORKERS)?;
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        eprintln!("copying, round {} of {} ...", round + 1, options.rounds);
        let (start, cpu) = (Instant::now(), process::own_cpu()?);
        let copied = plain_copy::run(server.port(), &ranges, COPY_WORKERS)?;
        let plain_s = start.elapsed().as_secs_f64();
        let plain_cpu = process::own_cpu()? - cpu;
        let before = process::resident_bytes()?;
        let mirror = Mirror::start(&url, COPY_WORKERS)?;
        let times = mirror.wait_until_live()?;
        eprintln!(
            "  plain copy {plain_s:.2} s; ours: {:.2} s to begin, {:.2} s to copy, {:.2} s for indexes and stream",
            times.prepared_s,
            times.copied_s,
            times.live_s - times.prepared_s - times.copied_s
        );
        if round == 0 {
            let table = mirror.table("pgbench_accounts")?;
            let resident = process::resident_bytes()?.saturating_sub(before);
            report.memory(rows as u64, disk as u64, table.bytes, resident);
        }
        mirror.end()?;
        rounds.push(CopyRound {
            rows_per_s: copied as f64 / plain_s,
            copied: plain_s / times.copied_s,
            live: plain_s / times.live_s,
            plain_cpu_us: plain_cpu.as_secs_f64() * 1e6 / copied as f64,
            cpu_us: times.copied_cpu.as_secs_f64() * 1e6 / copied as f64,
        });
    }
    report.copy(&rounds);
    Ok(())
}

async fn apply(client: &Client, url: &str, options: &Options, report: &mut Report) -> Result<()> {
    eprintln!("applying changes ...");
    let mirror = Mirror::start(url, COPY_WORKERS)?;
    mirror.wait_until_live()?;
    for workload in changes::WORKLOADS {
        let mut costs = Vec::new();
        for _ in 0..options.rounds {
            costs.push(changes::measure(client, &mirror, workload, options.scale).await?);
        }
        report.apply(workload.name, &costs);
    }
    mirror.end()?;
    Ok(())
}
