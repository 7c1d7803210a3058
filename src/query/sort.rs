//! ORDER BY over rows that were found: all of them, or the first few.

use std::cmp::Ordering;

use super::bind::SortKey;
use crate::store::{Row, RowRef};

/// Collects rows and keeps the first ones in order.
#[derive(Debug)]
pub(crate) struct Sorter<'a> {
    keys: &'a [SortKey],
    /// How many are wanted; `None` for all.
    wanted: Option<usize>,
    rows: Vec<Entry>,
}

struct Entry(RowRef);

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("row")
    }
}

impl<'a> Sorter<'a> {
    pub(crate) fn new(keys: &'a [SortKey], wanted: Option<usize>) -> Sorter<'a> {
        Sorter { keys, wanted, rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: RowRef) {
        self.rows.push(Entry(row));
        // Cutting back at twice the number wanted costs each row a constant.
        if let Some(wanted) = self.wanted
            && self.rows.len() >= wanted.saturating_mul(2).max(1024)
        {
            self.cut(wanted);
        }
    }

    pub(crate) fn finish(mut self) -> Vec<RowRef> {
        if let Some(wanted) = self.wanted {
            self.cut(wanted);
        }
        let keys = self.keys;
        self.rows.sort_by(|a, b| compare(keys, a.0.row(), b.0.row()));
        self.rows.into_iter().map(|e| e.0).collect()
    }

    fn cut(&mut self, wanted: usize) {
        if wanted > 0 && wanted < self.rows.len() {
            let keys = self.keys;
            self.rows.select_nth_unstable_by(wanted - 1, |a, b| compare(keys, a.0.row(), b.0.row()));
        }
        self.rows.truncate(wanted);
    }
}

fn compare(keys: &[SortKey], a: Row<'_>, b: Row<'_>) -> Ordering {
    for key in keys {
        let (a, b) = (a.datum(key.column), b.datum(key.column));
        let nulls_first = if key.nulls_first { Ordering::Less } else { Ordering::Greater };
        let ordering = match (a.is_null(), b.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) => nulls_first,
            (false, true) => nulls_first.reverse(),
            (false, false) if key.descending => key.by.compare(&b, &a),
            (false, false) => key.by.compare(&a, &b),
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
    Ordering::Equal
}
