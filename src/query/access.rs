//! Which index, if any, finds the rows. The whole predicate is evaluated on every row found, so an
//! access path only has to find them all.

use super::{
    bind::{Bound, SortKey},
    numeric,
    predicate::{CompareOp, Operand, Predicate},
    scalar::{Comparator, Scalar},
    value::{Value, as_i64},
};
use crate::types::{IndexKind, IndexSchema, TableSchema};

/// More keys than this in an IN list (or in the product of several) are a scan.
const MAX_KEYS: usize = 10_000;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Access {
    Scan,
    /// Equality on the first columns of an index: alternatives for each.
    Keys {
        index: usize,
        parts: Vec<Vec<Operand>>,
        /// One key of a unique index.
        is_point: bool,
    },
    /// A range of an ordered index.
    Range {
        index: usize,
        prefix: Vec<Operand>,
        lower: Option<RangeEnd>,
        upper: Option<RangeEnd>,
        reverse: bool,
        /// The rows come in the order of ORDER BY.
        is_ordered: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RangeEnd {
    pub(crate) operand: Operand,
    pub(crate) inclusive: bool,
}

/// A value as a key of a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Key {
    Value(Value),
    /// No value of the column is equal to it.
    Nothing,
    /// Beyond the column's range: all its values are above, or below.
    BelowAll,
    AboveAll,
}

/// What the conjuncts of a predicate say of one column.
#[derive(Clone, Debug, Default)]
struct Facts {
    equal: Option<Vec<Operand>>,
    lower: Option<RangeEnd>,
    upper: Option<RangeEnd>,
}

/// Chooses the access path.
pub(crate) fn choose(bound: &Bound) -> Access {
    let schema = &*bound.schema;
    let facts = facts(&bound.predicate, schema);
    let mut best = (0, Access::Scan);
    for (position, index) in schema.indexes.iter().enumerate() {
        for candidate in [
            keys(position, index, &facts),
            range(position, index, &facts, &bound.order, bound.limit.is_some(), schema),
        ]
        .into_iter()
        .flatten()
        {
            if candidate.0 > best.0 {
                best = candidate;
            }
        }
    }
    best.1
}

/// The value as a key of a column of this type. Only for comparators that [`choose`] let pass.
pub(crate) fn to_key(column: &Scalar, value: &Value) -> Key {
    if value.is_null() {
        return Key::Nothing;
    }
    let datum = value.datum();
    match (column, as_i64(&datum)) {
        (Scalar::Int2, Some(int)) => narrow(int, i16::try_from(int).ok().map(Value::Int2)),
        (Scalar::Int4, Some(int)) => narrow(int, i32::try_from(int).ok().map(Value::Int4)),
        (Scalar::Int8, Some(int)) => Key::Value(Value::Int8(int)),
        (Scalar::Numeric, Some(int)) => {
            Key::Value(Value::Bytes(numeric::from_scaled(i128::from(int), 0).into()))
        }
        (Scalar::Float8, Some(int)) => Key::Value(Value::Float8(int as f64)),
        (Scalar::Float8, None) => match value {
            Value::Float4(v) => Key::Value(Value::Float8(f64::from(*v))),
            other => Key::Value(other.clone()),
        },
        (Scalar::Float4, int) => {
            let wide = match (value, int) {
                (Value::Float4(v), _) => f64::from(*v),
                (Value::Float8(v), _) => *v,
                (_, Some(int)) => int as f64,
                _ => return Key::Nothing,
            };
            let narrow = wide as f32;
            if f64::from(narrow) == wide || wide.is_nan() {
                Key::Value(Value::Float4(narrow))
            } else {
                Key::Nothing
            }
        }
        _ => Key::Value(value.clone()),
    }
}

fn narrow(int: i64, key: Option<Value>) -> Key {
    match key {
        Some(value) => Key::Value(value),
        None if int > 0 => Key::AboveAll,
        None => Key::BelowAll,
    }
}

fn facts(predicate: &Predicate, schema: &TableSchema) -> Vec<Facts> {
    let mut facts = vec![Facts::default(); schema.columns.len()];
    let scalar = |column: usize| schema.columns.get(column).and_then(|c| Scalar::of(&c.pg_type));
    for conjunct in predicate.conjuncts() {
        match conjunct {
            Predicate::Compare { left: Operand::Column(column), op, right, by }
                if !matches!(right, Operand::Column(_)) =>
            {
                let (Some(fact), Some(scalar)) = (facts.get_mut(*column), scalar(*column)) else { continue };
                if !by.is_plain_for(&scalar) {
                    continue;
                }
                // Rounding to float4 would move the end of a range.
                let ranges = scalar != Scalar::Float4 && !matches!(by, Comparator::Enum(_));
                let end = |inclusive| Some(RangeEnd { operand: *right, inclusive });
                match op {
                    CompareOp::Eq => {
                        fact.equal.get_or_insert_with(|| vec![*right]);
                    }
                    CompareOp::Gt | CompareOp::Ge if ranges => {
                        fact.lower = fact.lower.or(end(*op == CompareOp::Ge));
                    }
                    CompareOp::Lt | CompareOp::Le if ranges => {
                        fact.upper = fact.upper.or(end(*op == CompareOp::Le));
                    }
                    _ => {}
                }
            }
            Predicate::In { operand: Operand::Column(column), list, by, negated: false }
                if list.len() <= MAX_KEYS =>
            {
                let (Some(fact), Some(scalar)) = (facts.get_mut(*column), scalar(*column)) else { continue };
                if by.is_plain_for(&scalar) {
                    fact.equal.get_or_insert_with(|| list.clone());
                }
            }
            _ => {}
        }
    }
    facts
}

fn keys(position: usize, index: &IndexSchema, facts: &[Facts]) -> Option<(u32, Access)> {
    let mut parts: Vec<Vec<Operand>> =
        index.columns.iter().map_while(|c| facts.get(*c).and_then(|f| f.equal.clone())).collect();
    let is_whole = parts.len() == index.columns.len();
    match index.kind {
        IndexKind::Identity => return None,
        IndexKind::Hash if !is_whole => return None,
        IndexKind::Hash | IndexKind::Ordered => {}
    }
    let product = |parts: &[Vec<Operand>]| parts.iter().map(Vec::len).fold(1usize, usize::saturating_mul);
    while product(&parts) > MAX_KEYS {
        if index.kind == IndexKind::Hash {
            return None;
        }
        parts.pop();
    }
    if parts.is_empty() {
        return None;
    }
    let is_unique = index.unique && parts.len() == index.columns.len();
    let is_point = is_unique && product(&parts) == 1;
    let score = match (is_point, is_unique) {
        (true, _) => 1000,
        (false, true) => 900,
        // A hash finds equals faster than a tree.
        _ => 500 + 10 * parts.len() as u32 + u32::from(index.kind == IndexKind::Hash),
    };
    Some((score, Access::Keys { index: position, parts, is_point }))
}

fn range(
    position: usize,
    index: &IndexSchema,
    facts: &[Facts],
    order: &[SortKey],
    has_limit: bool,
    schema: &TableSchema,
) -> Option<(u32, Access)> {
    if index.kind != IndexKind::Ordered {
        return None;
    }
    let single = |column: usize| match facts.get(column)?.equal.as_deref()? {
        [operand] => Some(*operand),
        _ => None,
    };
    let prefix: Vec<Operand> = index.columns.iter().map_while(|c| single(*c)).collect();
    let next = index.columns.get(prefix.len()).and_then(|c| facts.get(*c));
    let (lower, upper) = next.map_or((None, None), |f| (f.lower, f.upper));
    let is_bounded = lower.is_some() || upper.is_some();

    // What is pinned to one value decides no order.
    let order: Vec<&SortKey> = order.iter().filter(|key| single(key.column).is_none()).collect();
    let direction = direction(&order, index.columns.get(prefix.len()..)?, schema);
    let is_ordered = direction.is_some() && has_limit;
    if prefix.is_empty() && !is_bounded && (!is_ordered || order.is_empty()) {
        return None;
    }
    let base = if prefix.is_empty() { 100 } else { 500 + 10 * prefix.len() as u32 };
    let score = base + 5 * u32::from(is_bounded) + 3 * u32::from(is_ordered && !order.is_empty());
    let reverse = is_ordered && direction == Some(true);
    Some((score, Access::Range { index: position, prefix, lower, upper, reverse, is_ordered }))
}

/// Whether an index on these columns, read forward (`false`) or in reverse (`true`), has this order.
fn direction(order: &[&SortKey], columns: &[usize], schema: &TableSchema) -> Option<bool> {
    let Some(first) = order.first() else { return Some(false) };
    let reverse = first.descending;
    if order.len() > columns.len() {
        return None;
    }
    let fits = order.iter().zip(columns).all(|(key, column)| {
        let not_null = schema.columns.get(*column).is_some_and(|c| c.not_null);
        key.column == *column && key.descending == reverse && (not_null || key.nulls_first == reverse)
    });
    fits.then_some(reverse)
}
