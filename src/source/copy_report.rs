//! How far the copy is: counters, the status of each table, a progress bar or log lines.

use std::{
    io::IsTerminal,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    telemetry::status::{Status, TableState},
    types::TableSchema,
};

/// One table while it is copied: written by the workers, read by the report.
pub(super) struct TableCopy {
    pub(super) schema: Arc<TableSchema>,
    total_bytes: u64,
    pub(super) rows: AtomicU64,
    pub(super) bytes: AtomicU64,
    begun: AtomicBool,
    ranges_left: AtomicUsize,
}

impl TableCopy {
    pub(super) fn new(schema: Arc<TableSchema>, total_bytes: u64, ranges: usize) -> TableCopy {
        TableCopy {
            schema,
            total_bytes,
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            begun: AtomicBool::new(false),
            ranges_left: AtomicUsize::new(ranges),
        }
    }

    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    pub(super) fn range_done(&self) {
        self.ranges_left.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn is_done(&self) -> bool {
        self.ranges_left.load(Ordering::Acquire) == 0
    }

    fn is_active(&self) -> bool {
        self.begun.load(Ordering::Relaxed) && !self.is_done()
    }

    fn counts(&self) -> (u64, u64) {
        (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// Between two looks at the counters.
pub(super) const REFRESH: Duration = Duration::from_millis(200);
/// Between two log lines where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// Tables with a line of their own on the terminal.
const MAX_LINES: usize = 8;

/// Shows the copy where somebody looks: `millpond.tables`, and the terminal or the log.
pub(super) struct Report {
    tables: Arc<Vec<TableCopy>>,
    status: Arc<Status>,
    reported_done: Vec<bool>,
    started: Instant,
    logged: Instant,
    bars: Option<Bars>,
}

struct Bars {
    multi: MultiProgress,
    total: ProgressBar,
    /// The tables that are being copied.
    lines: Vec<(usize, ProgressBar)>,
}

impl Report {
    pub(super) fn new(tables: Arc<Vec<TableCopy>>, status: Arc<Status>) -> Report {
        for table in tables.iter() {
            status.update_table(table.schema.oid, |t| {
                t.schema = table.schema.schema.clone();
                t.name = table.schema.name.clone();
                t.state = TableState::Copying;
                t.reason = None;
                (t.copied_rows, t.copied_bytes, t.total_bytes) = (0, 0, table.total_bytes);
            });
        }
        let now = Instant::now();
        Report {
            reported_done: vec![false; tables.len()],
            bars: std::io::stderr().is_terminal().then(|| Bars::new(&tables)),
            tables,
            status,
            started: now,
            logged: now,
        }
    }

    /// Looks at the counters.
    pub(super) fn refresh(&mut self) {
        for (table, reported_done) in self.tables.iter().zip(&mut self.reported_done) {
            let done = table.is_done();
            if *reported_done || !(done || table.is_active()) {
                continue;
            }
            *reported_done = done;
            let (rows, bytes) = table.counts();
            self.status.update_table(table.schema.oid, |t| {
                (t.copied_rows, t.copied_bytes) = (rows, bytes);
                if done {
                    t.state = TableState::CatchingUp;
                }
            });
        }
        match &mut self.bars {
            Some(bars) => bars.refresh(&self.tables),
            None if self.logged.elapsed() >= LOG_EVERY => {
                self.logged = Instant::now();
                self.log();
            }
            None => {}
        }
    }

    /// After the last range: rows, bytes and time of everything.
    pub(super) fn finish(&mut self) -> (u64, u64, Duration) {
        self.refresh();
        if let Some(bars) = &self.bars {
            bars.total.finish_and_clear();
        }
        let (rows, bytes) = sum(&self.tables);
        let elapsed = self.started.elapsed();
        tracing::info!(tables = self.tables.len(), rows, bytes, "copied in {:.1} s", elapsed.as_secs_f64());
        (rows, bytes, elapsed)
    }

    fn log(&self) {
        let (rows, bytes) = sum(&self.tables);
        let total = total(&self.tables);
        let done = self.tables.iter().filter(|t| t.is_done()).count();
        let elapsed = self.started.elapsed().as_secs_f64();
        let left_s = match bytes {
            0 => 0.0,
            bytes => elapsed * total.saturating_sub(bytes) as f64 / bytes as f64,
        };
        tracing::info!(
            "copying: {done} of {} tables, {rows} rows, {} of about {} MB, about {left_s:.0} s left",
            self.tables.len(),
            bytes >> 20,
            total >> 20
        );
    }
}

impl Bars {
    fn new(tables: &[TableCopy]) -> Bars {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let bar = multi.add(ProgressBar::new(total(tables)).with_prefix("copying").with_style(style()));
        Bars { multi, total: bar, lines: Vec::new() }
    }

    fn refresh(&mut self, tables: &[TableCopy]) {
        let (rows, bytes) = sum(tables);
        show(&self.total, rows, bytes);
        self.lines.retain(|(table, bar)| {
            let done = tables.get(*table).is_none_or(TableCopy::is_done);
            if done {
                bar.finish_and_clear();
                self.multi.remove(bar);
            }
            !done
        });
        for (number, table) in tables.iter().enumerate().filter(|(_, t)| t.is_active()) {
            if !self.lines.iter().any(|(n, _)| *n == number) && self.lines.len() < MAX_LINES {
                let bar = ProgressBar::new(table.total_bytes).with_prefix(table.schema.display_name());
                self.lines.push((number, self.multi.add(bar.with_style(style()))));
            }
        }
        for (number, bar) in &self.lines {
            if let Some(table) = tables.get(*number) {
                let (rows, bytes) = table.counts();
                show(bar, rows, bytes);
            }
        }
    }
}

/// The primary's size is on disk, ours on the wire: it is only an estimate, so it grows when passed.
fn show(bar: &ProgressBar, rows: u64, bytes: u64) {
    if bar.length().is_some_and(|length| length < bytes) {
        bar.set_length(bytes);
    }
    bar.set_message(format!("{rows} rows"));
    bar.set_position(bytes);
}

fn style() -> ProgressStyle {
    let template = "{prefix:30!} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left, {msg}";
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn sum(tables: &[TableCopy]) -> (u64, u64) {
    tables.iter().map(TableCopy::counts).fold((0, 0), |(r, b), (rows, bytes)| (r + rows, b + bytes))
}

fn total(tables: &[TableCopy]) -> u64 {
    tables.iter().map(|t| t.total_bytes).sum()
}
