//! count, min, max and sum over all rows, exactly or not at all.

use std::cmp::Ordering;

use super::{
    Reason,
    bind::Aggregate,
    numeric,
    scalar::Comparator,
    value::{Value, as_i64},
};
use crate::{store::Row, types::Datum};

/// The running state of one aggregate.
#[derive(Debug)]
pub(crate) enum Accumulator {
    Count { column: Option<usize>, rows: i64 },
    Extreme { column: usize, by: Comparator, wanted: Ordering, best: Value },
    SumToInt8 { column: usize, sum: Option<i128> },
    SumToNumeric { column: usize, sum: Option<(i128, u16)> },
}

impl Accumulator {
    pub(crate) fn new(aggregate: &Aggregate) -> Accumulator {
        let extreme = |column: usize, by: Comparator, wanted| Accumulator::Extreme {
            column,
            by,
            wanted,
            best: Value::Null,
        };
        match aggregate {
            Aggregate::CountRows => Accumulator::Count { column: None, rows: 0 },
            Aggregate::Count(column) => Accumulator::Count { column: Some(*column), rows: 0 },
            Aggregate::Min(column, scalar) => extreme(*column, scalar.comparator(), Ordering::Less),
            Aggregate::Max(column, scalar) => extreme(*column, scalar.comparator(), Ordering::Greater),
            Aggregate::SumToInt8(column) => Accumulator::SumToInt8 { column: *column, sum: None },
            Aggregate::SumToNumeric(column) => Accumulator::SumToNumeric { column: *column, sum: None },
        }
    }

    /// Takes a row in. An error where the result depends on more than the values (equal values that
    /// look different), or on values that we cannot add.
    pub(crate) fn add(&mut self, row: Row<'_>) -> Result<(), Reason> {
        match self {
            Accumulator::Count { column, rows } => {
                *rows += i64::from(column.is_none_or(|c| !row.datum(c).is_null()));
            }
            Accumulator::Extreme { column, by, wanted, best } => {
                let datum = row.datum(*column);
                if datum.is_null() {
                    return Ok(());
                }
                if best.is_null() {
                    *best = datum.into();
                    return Ok(());
                }
                let ordering = by.compare(&datum, &best.datum());
                if ordering == *wanted {
                    *best = datum.into();
                } else if ordering.is_eq() && !datum.identical(&best.datum()) {
                    // 1.0 and 1.00: which one wins depends on the order of rows at the primary.
                    return Err(Reason::Value);
                }
            }
            Accumulator::SumToInt8 { column, sum } => {
                if let Some(int) = as_i64(&row.datum(*column)) {
                    *sum = Some(sum.unwrap_or(0) + i128::from(int));
                }
            }
            Accumulator::SumToNumeric { column, sum } => {
                let (value, scale) = match row.datum(*column) {
                    Datum::Null => return Ok(()),
                    Datum::Bytes(bytes) => numeric::to_scaled(bytes).ok_or(Reason::Value)?,
                    other => (i128::from(as_i64(&other).ok_or(Reason::Value)?), 0),
                };
                let (total, total_scale) = sum.unwrap_or((0, 0));
                let common = scale.max(total_scale);
                let value = rescale(value, scale, common).ok_or(Reason::Value)?;
                let total = rescale(total, total_scale, common).ok_or(Reason::Value)?;
                *sum = Some((total.checked_add(value).ok_or(Reason::Value)?, common));
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Value, Reason> {
        Ok(match self {
            Accumulator::Count { rows, .. } => Value::Int8(rows),
            Accumulator::Extreme { best, .. } => best,
            Accumulator::SumToInt8 { sum: None, .. } | Accumulator::SumToNumeric { sum: None, .. } => {
                Value::Null
            }
            Accumulator::SumToInt8 { sum: Some(sum), .. } => {
                Value::Int8(i64::try_from(sum).map_err(|_| Reason::Value)?)
            }
            Accumulator::SumToNumeric { sum: Some((sum, scale)), .. } => {
                Value::Bytes(numeric::from_scaled(sum, scale).into())
            }
        })
    }
}

fn rescale(value: i128, from: u16, to: u16) -> Option<i128> {
    if value == 0 {
        return Some(0);
    }
    10i128.checked_pow(u32::from(to - from)).and_then(|power| value.checked_mul(power))
}
