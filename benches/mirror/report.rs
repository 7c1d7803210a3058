//! The table that is printed and kept.

use std::{fmt::Write as _, fs, path::PathBuf};

use crate::{Result, changes::Cost};

pub(crate) struct Report {
    text: String,
    rows: Vec<[String; 4]>,
}

/// A plain copy, and ours as shares of its rate.
pub(crate) struct CopyRound {
    pub(crate) rows_per_s: f64,
    pub(crate) copied: f64,
    pub(crate) live: f64,
    pub(crate) plain_cpu_us: f64,
    pub(crate) cpu_us: f64,
}

impl Report {
    pub(crate) fn new(version: &str, scale: u32, rounds: usize) -> Report {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let text = format!(
            "# Mirroring pgbench's tables\n\n\
             {version}, scale {scale}, {rounds} rounds (medians), {cores} cores shared with the primary.\n\n"
        );
        Report { text, rows: Vec::new() }
    }

    pub(crate) fn copy(&mut self, rounds: &[CopyRound]) {
        let of = |value: fn(&CopyRound) -> f64| median(rounds.iter().map(value));
        let against = format!("plain COPY of {:.0} thousand rows/s", of(|r| r.rows_per_s) / 1e3);
        self.row("copy, rows/s", &against, of(|r| r.copied), ">= 0.8");
        self.row("copy until live, with indexes and slot, rows/s", &against, of(|r| r.live), "");
        let what = format!("copy, our CPU ({:.2} µs a row)", of(|r| r.cpu_us));
        let against = format!("plain reader's CPU of {:.2} µs a row", of(|r| r.plain_cpu_us));
        self.row(&what, &against, of(|r| r.cpu_us / r.plain_cpu_us), "");
    }

    pub(crate) fn memory(&mut self, rows: u64, disk: u64, counted: u64, resident: u64) {
        let against = format!("pg_total_relation_size, {:.0} bytes a row", disk as f64 / rows as f64);
        let share = |bytes: u64| bytes as f64 / disk as f64;
        self.row("memory of pgbench_accounts, as counted", &against, share(counted), "<= 1.0");
        self.row("growth of the resident set, with the copy's buffers", &against, share(resident), "");
    }

    pub(crate) fn apply(&mut self, name: &str, costs: &[Cost]) {
        let walsender = median(costs.iter().map(|c| c.walsender_us));
        let against = format!("walsender's CPU of {walsender:.2} µs a row");
        let mut thread = |thread: &str, cpu: fn(&Cost) -> f64, goal: &str| {
            let us = median(costs.iter().map(cpu));
            let ratio = median(costs.iter().map(|c| cpu(c) / c.walsender_us));
            self.row(&format!("{name}: {thread} ({us:.2} µs a row)"), &against, ratio, goal);
        };
        thread("all our threads", |c| c.apply_us + c.stream_us + c.supervisor_us, "< 3 µs");
        thread("of it apply", |c| c.apply_us, "");
        thread("of it stream", |c| c.stream_us, "");
    }

    /// Prints it and keeps it in `target/bench/mirror.md`.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.rows.insert(0, ["What", "Against", "Ratio", "Goal"].map(String::from));
        let mut widths = [0; 4];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        self.rows.insert(1, widths.map(|width| "-".repeat(width)));
        for row in &self.rows {
            for (cell, width) in row.iter().zip(widths) {
                write!(self.text, "| {cell:width$} ")?;
            }
            self.text.push_str("|\n");
        }
        println!("{}", self.text);
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let folder = target.join("bench");
        fs::create_dir_all(&folder)?;
        let path = folder.join("mirror.md");
        fs::write(&path, &self.text)?;
        println!("kept in {}", path.display());
        Ok(())
    }

    fn row(&mut self, what: &str, against: &str, ratio: f64, goal: &str) {
        self.rows.push([what.into(), against.into(), format!("{ratio:.2}"), goal.into()]);
    }
}

/// The middle of some numbers.
pub(crate) fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
