//! Running a plan at a snapshot.

use std::{
    collections::HashSet,
    ops::{Bound as End, ControlFlow},
    sync::Arc,
};

use super::{
    Reason,
    access::{self, Access, Key, RangeEnd},
    aggregate::Accumulator,
    bind::{Bound, Output, Subquery},
    plan::Plan,
    predicate::{Operand, Values},
    scalar::Scalar,
    sort::Sorter,
    value::{Value, as_i64},
    virtual_tables,
};
use crate::{
    store::{Chunk, Row, RowRef, Snapshot, TableView},
    types::{CommitVersion, Datum, Lsn, order},
};

/// How often a long step asks whether to stop, in rows.
const STOP_EVERY: u32 = 4096;
/// An index that finds more rows than this, and more than an eighth of the table, is left for a
/// scan, which streams.
const MANY_ROWS: usize = 20_000;

/// An answer being read: holds its snapshot.
pub struct Cursor {
    plan: Arc<Plan>,
    snapshot: Snapshot,
    params: Vec<Value>,
    state: State,
    offset: u64,
    limit: u64,
    skip: u64,
    left: u64,
}

enum State {
    Rows { rows: Vec<RowRef>, next: usize },
    Scan { chunks: Vec<Arc<Chunk>>, version: CommitVersion, chunk: usize, row: u32 },
    Aggregates { values: Vec<Value>, is_done: bool },
}

/// One row of an answer; its columns are those of [`Plan::columns`].
pub struct ResultRow<'a> {
    plan: &'a Plan,
    source: Source<'a>,
}

enum Source<'a> {
    Row(Row<'a>),
    Aggregates(&'a [Value]),
}

impl ResultRow<'_> {
    pub fn datum(&self, column: usize) -> Datum<'_> {
        match (self.plan.bound.outputs.get(column), &self.source) {
            (Some(Output::Column(c)), Source::Row(row)) => row.datum(*c),
            (Some(Output::Constant(i)), _) => {
                self.plan.bound.constants.get(*i).map_or(Datum::Null, Value::datum)
            }
            (Some(Output::Aggregate(i)), Source::Aggregates(values)) => {
                values.get(*i).map_or(Datum::Null, Value::datum)
            }
            _ => Datum::Null,
        }
    }
}

impl Cursor {
    /// The next row, or `None` at the end. Not an iterator: a row borrows from the cursor.
    #[expect(clippy::should_implement_trait, reason = "a row borrows from the cursor")]
    pub fn next(&mut self) -> Option<ResultRow<'_>> {
        while self.left > 0 {
            if !self.advance() {
                self.left = 0;
                return None;
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            self.left -= 1;
            return self.current();
        }
        None
    }

    /// Back to before the first row: the same rows come again, in the same order.
    pub fn rewind(&mut self) {
        (self.skip, self.left) = (self.offset, self.limit);
        match &mut self.state {
            State::Rows { next, .. } => *next = 0,
            State::Scan { chunk, row, .. } => (*chunk, *row) = (0, 0),
            State::Aggregates { is_done, .. } => *is_done = false,
        }
    }

    /// Everything committed at the primary up to here is in the answer.
    pub fn snapshot_lsn(&self) -> Lsn {
        self.snapshot.lsn()
    }

    /// Moves to the next row that the predicate lets pass.
    fn advance(&mut self) -> bool {
        match &mut self.state {
            State::Rows { rows, next } => {
                *next += 1;
                *next <= rows.len()
            }
            State::Aggregates { is_done, .. } => !std::mem::replace(is_done, true),
            State::Scan { chunks, version, chunk, row } => {
                let values = Values { constants: &self.plan.bound.constants, params: &self.params };
                while let Some(current) = chunks.get(*chunk) {
                    while *row < current.len() {
                        let found = current.row(*version, *row);
                        *row += 1;
                        if found.is_some_and(|r| self.plan.bound.predicate.eval(r, values) == Some(true)) {
                            return true;
                        }
                    }
                    *chunk += 1;
                    *row = 0;
                }
                false
            }
        }
    }

    fn current(&self) -> Option<ResultRow<'_>> {
        let source = match &self.state {
            State::Rows { rows, next } => Source::Row(rows.get(next.checked_sub(1)?)?.row()),
            State::Aggregates { values, .. } => Source::Aggregates(values),
            State::Scan { chunks, version, chunk, row } => {
                Source::Row(chunks.get(*chunk)?.row(*version, row.checked_sub(1)?)?)
            }
        };
        Some(ResultRow { plan: &self.plan, source })
    }
}

pub(super) fn open(
    plan: &Arc<Plan>,
    snapshot: Snapshot,
    params: Vec<Value>,
    stop: &dyn Fn() -> bool,
) -> Result<Cursor, Reason> {
    let bound = &plan.bound;
    if !bound.subqueries.is_empty() {
        let mut values = Vec::with_capacity(bound.subqueries.len());
        for Subquery { bound, access } in &bound.subqueries {
            let view = table(bound, &snapshot)?;
            let constants = Values { constants: &bound.constants, params: &params };
            let mut run = Run { bound, access, view: &view, values: constants, stop, seen: 0, failure: None };
            values.append(&mut run.aggregates()?);
        }
        let state = State::Aggregates { values, is_done: false };
        return Ok(Cursor {
            plan: Arc::clone(plan),
            snapshot,
            params,
            state,
            offset: 0,
            limit: 1,
            skip: 0,
            left: 1,
        });
    }
    let view = match bound.virtual_table {
        Some(table) => virtual_tables::view(table, &plan.status),
        None => table(bound, &snapshot)?,
    };
    let values = Values { constants: &bound.constants, params: &params };
    let limit = row_count(bound.limit, values)?.unwrap_or(u64::MAX);
    let offset = row_count(bound.offset, values)?.unwrap_or(0);
    let mut run = Run { bound, access: &plan.access, view: &view, values, stop, seen: 0, failure: None };
    let state = if !bound.aggregates.is_empty() {
        State::Aggregates { values: run.aggregates()?, is_done: false }
    } else if let Some(rows) = run.rows(limit.saturating_add(offset))? {
        State::Rows { rows, next: 0 }
    } else {
        State::Scan { chunks: view.chunks(), version: view.version(), chunk: 0, row: 0 }
    };
    Ok(Cursor { plan: Arc::clone(plan), snapshot, params, state, offset, limit, skip: offset, left: limit })
}

/// The table of a query, as the query was bound to it.
fn table(bound: &Bound, snapshot: &Snapshot) -> Result<TableView, Reason> {
    let view = snapshot.table(bound.schema.oid).ok_or(Reason::Loading)?;
    // It may have changed its shape since.
    if !Arc::ptr_eq(view.schema(), &bound.schema) && **view.schema() != *bound.schema {
        return Err(Reason::Loading);
    }
    Ok(view)
}

/// The value of LIMIT or OFFSET: NULL is none, negative is an error of the primary's.
fn row_count(operand: Option<Operand>, values: Values<'_>) -> Result<Option<u64>, Reason> {
    match operand.map(|o| values.get(o)) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let count = as_i64(&value.datum()).and_then(|v| u64::try_from(v).ok());
            count.map(Some).ok_or(Reason::Value)
        }
    }
}

/// The work of `open`.
struct Run<'a> {
    bound: &'a Bound,
    access: &'a Access,
    view: &'a TableView,
    values: Values<'a>,
    stop: &'a dyn Fn() -> bool,
    seen: u32,
    failure: Option<Reason>,
}

impl Run<'_> {
    fn aggregates(&mut self) -> Result<Vec<Value>, Reason> {
        let mut accumulators: Vec<Accumulator> = self.bound.aggregates.iter().map(Accumulator::new).collect();
        let mut add = |row: Row<'_>| accumulators.iter_mut().try_for_each(|a| a.add(row));
        let mut failure = None;
        let is_found = self.by_index(&mut |_, row| match add(row.row()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(reason) => {
                failure = Some(reason);
                ControlFlow::Break(())
            }
        })?;
        if let Some(reason) = failure {
            return Err(reason);
        }
        if !is_found {
            self.scan(|_, _, row| add(row))?;
        }
        accumulators.into_iter().map(Accumulator::finish).collect()
    }

    /// The rows, in order where one is asked for: at least the first `wanted`. `None` where a scan may
    /// stream them.
    fn rows(&mut self, wanted: u64) -> Result<Option<Vec<RowRef>>, Reason> {
        let (order, access) = (&self.bound.order, self.access);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let is_ordered = order.is_empty() || matches!(access, Access::Range { is_ordered: true, .. });
        // An index that yields its rows in order may be read as far as the limit; else a limit on
        // how much of the table it may be.
        let many = if is_ordered && wanted < usize::MAX {
            usize::MAX
        } else {
            MANY_ROWS.max(self.view.row_estimate() / 8)
        };
        if *access != Access::Scan {
            let mut rows = Vec::new();
            let mut is_too_much = false;
            if is_ordered && wanted == 0 {
                return Ok(Some(rows));
            }
            self.by_index(&mut |_, row| {
                rows.push(row);
                is_too_much = rows.len() > many;
                if is_too_much || (is_ordered && rows.len() >= wanted) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })?;
            if !is_too_much {
                if is_ordered {
                    return Ok(Some(rows));
                }
                let mut sorter = Sorter::new(order, Some(wanted));
                rows.into_iter().for_each(|row| sorter.push(row));
                return Ok(Some(sorter.finish()));
            }
        }
        if order.is_empty() {
            return Ok(None);
        }
        let mut sorter = Sorter::new(order, Some(wanted));
        self.scan(|chunk, row, _| {
            sorter.push(RowRef::new(Arc::clone(chunk), row));
            Ok(())
        })?;
        Ok(Some(sorter.finish()))
    }

    /// Visits every row that passes, chunk by chunk.
    fn scan(
        &mut self,
        mut visit: impl FnMut(&Arc<Chunk>, u32, Row<'_>) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        let version = self.view.version();
        for chunk in self.view.chunks() {
            for i in 0..chunk.len() {
                let Some(row) = chunk.row(version, i) else { continue };
                if self.is_stopped() {
                    return Err(Reason::Canceled);
                }
                if self.passes(row) {
                    visit(&chunk, i, row)?;
                }
            }
        }
        Ok(())
    }

    /// Visits the rows that pass by way of the plan's index; false where the plan has none.
    fn by_index(
        &mut self,
        visit: &mut dyn FnMut(&mut Self, RowRef) -> ControlFlow<()>,
    ) -> Result<bool, Reason> {
        match self.access {
            Access::Scan => return Ok(false),
            Access::Keys { index, parts, .. } => self.by_keys(*index, parts, visit),
            Access::Range { index, prefix, lower, upper, reverse, .. } => {
                self.by_range(*index, prefix, *lower, *upper, *reverse, visit);
            }
        }
        match self.failure.take() {
            Some(reason) => Err(reason),
            None => Ok(true),
        }
    }

    fn by_keys(
        &mut self,
        index: usize,
        parts: &[Vec<Operand>],
        visit: &mut dyn FnMut(&mut Self, RowRef) -> ControlFlow<()>,
    ) {
        let mut alternatives: Vec<Vec<Value>> = Vec::with_capacity(parts.len());
        for (part, operands) in parts.iter().enumerate() {
            let mut seen = HashSet::new();
            let mut keys = Vec::with_capacity(operands.len());
            for operand in operands {
                let Some(Key::Value(key)) = self.key(index, part, *operand) else { continue };
                // The same key twice would give its rows twice.
                let mut bytes = Vec::new();
                if let Some(column) = self.column(index, part) {
                    order::write_key(&column.pg_type, &key.datum(), &mut bytes);
                }
                if operands.len() == 1 || seen.insert(bytes) {
                    keys.push(key);
                }
            }
            if keys.is_empty() {
                return;
            }
            alternatives.push(keys);
        }
        // Counts through the product of the alternatives.
        let mut digits = vec![0usize; alternatives.len()];
        let view = self.view;
        loop {
            let key: Vec<Datum<'_>> = alternatives
                .iter()
                .zip(&digits)
                .map(|(keys, digit)| keys.get(*digit).map_or(Datum::Null, Value::datum))
                .collect();
            let mut is_over = false;
            view.lookup(index, &key, &mut |row| {
                let flow = self.visit(row, visit);
                is_over = flow.is_break();
                flow
            });
            if is_over {
                return;
            }
            let mut position = digits.len();
            loop {
                let Some(next) = position.checked_sub(1) else { return };
                position = next;
                digits[position] += 1;
                if digits[position] < alternatives[position].len() {
                    break;
                }
                digits[position] = 0;
            }
        }
    }

    fn by_range(
        &mut self,
        index: usize,
        prefix: &[Operand],
        lower: Option<RangeEnd>,
        upper: Option<RangeEnd>,
        reverse: bool,
        visit: &mut dyn FnMut(&mut Self, RowRef) -> ControlFlow<()>,
    ) {
        let mut keys = Vec::with_capacity(prefix.len());
        for (part, operand) in prefix.iter().enumerate() {
            match self.key(index, part, *operand) {
                Some(Key::Value(key)) => keys.push(key),
                _ => return,
            }
        }
        let end_key = |end: Option<RangeEnd>| -> Option<(Key, bool)> {
            let end = end?;
            Some((self.key(index, prefix.len(), end.operand)?, end.inclusive))
        };
        // An end beyond the column's range is none, or leaves nothing. One end stays in force so that
        // NULLs stay out; the predicate would drop them anyway.
        let (lower, upper) = (end_key(lower), end_key(upper));
        let lower = match &lower {
            None | Some((Key::BelowAll, _)) => End::Unbounded,
            Some((Key::Value(value), true)) => End::Included(value.datum()),
            Some((Key::Value(value), false)) => End::Excluded(value.datum()),
            Some((Key::Nothing | Key::AboveAll, _)) => return,
        };
        let upper = match &upper {
            None | Some((Key::AboveAll, _)) => End::Unbounded,
            Some((Key::Value(value), true)) => End::Included(value.datum()),
            Some((Key::Value(value), false)) => End::Excluded(value.datum()),
            Some((Key::Nothing | Key::BelowAll, _)) => return,
        };
        let prefix: Vec<Datum<'_>> = keys.iter().map(Value::datum).collect();
        let view = self.view;
        view.range(index, &prefix, lower, upper, reverse, &mut |row| self.visit(row, visit));
    }

    fn visit(
        &mut self,
        row: RowRef,
        visit: &mut dyn FnMut(&mut Self, RowRef) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.is_stopped() {
            self.failure = Some(Reason::Canceled);
            return ControlFlow::Break(());
        }
        if self.passes(row.row()) { visit(self, row) } else { ControlFlow::Continue(()) }
    }

    fn passes(&self, row: Row<'_>) -> bool {
        self.bound.predicate.eval(row, self.values) == Some(true)
    }

    fn is_stopped(&mut self) -> bool {
        self.seen = self.seen.wrapping_add(1);
        self.seen.is_multiple_of(STOP_EVERY) && (self.stop)()
    }

    fn column(&self, index: usize, part: usize) -> Option<&crate::types::ColumnSchema> {
        let schema = &self.bound.schema;
        schema.columns.get(*schema.indexes.get(index)?.columns.get(part)?)
    }

    fn key(&self, index: usize, part: usize, operand: Operand) -> Option<Key> {
        let scalar = Scalar::of(&self.column(index, part)?.pg_type)?;
        Some(access::to_key(&scalar, self.values.get(operand)))
    }
}
