//! Comparison operators: which one PostgreSQL chooses for two types (`oper` in `parse_oper.c`,
//! `select_common_type` for IN lists), and whether we have it.

use super::{Binder, expr::Typed};
use crate::{
    query::{
        Reason,
        predicate::{CompareOp, Operand, Predicate},
        scalar::{Comparator, Scalar, convert_constant},
        value::Value,
    },
    types::CollationOrder,
};

impl Binder<'_> {
    pub(super) fn compare(&mut self, left: Typed, op: CompareOp, right: Typed) -> Result<Predicate, Reason> {
        let is_column = |t: &Typed| matches!(t, Typed::Column(..));
        let (left, op, right) = if is_column(&right) && !is_column(&left) {
            (right, op.commuted(), left)
        } else {
            (left, op, right)
        };
        let (left, right, by) = self.operands(left, right, op.needs_order())?;
        Ok(Predicate::Compare { left, op, right, by })
    }

    pub(super) fn distinct(&mut self, left: Typed, right: Typed, negated: bool) -> Result<Predicate, Reason> {
        let is_column = |t: &Typed| matches!(t, Typed::Column(..));
        let (left, right) =
            if is_column(&right) && !is_column(&left) { (right, left) } else { (left, right) };
        let (left, right, by) = self.operands(left, right, false)?;
        Ok(Predicate::Distinct { left, right, by, negated })
    }

    /// `x in (a)` is `x = a`; longer lists are an array of the common type of all (`transformAExprIn`).
    pub(super) fn in_list(
        &mut self,
        left: Typed,
        items: Vec<Typed>,
        negated: bool,
    ) -> Result<Predicate, Reason> {
        if items.iter().any(|i| matches!(i, Typed::Column(..))) {
            return Err(Reason::Unsupported);
        }
        let mut items = items;
        if items.len() == 1
            && let Some(item) = items.pop()
        {
            let op = if negated { CompareOp::Ne } else { CompareOp::Eq };
            return self.compare(left, op, item);
        }
        let scalar = self.scalar_of(&left).ok_or(Reason::Type)?;
        if !matches!(left, Typed::Column(..)) {
            return Err(Reason::Unsupported);
        }
        let mut common = scalar.clone();
        for item in &items {
            if let Some(known) = self.scalar_of(item) {
                common = common_type(common, known).ok_or(Reason::Type)?;
            }
        }
        let mut by = None;
        let mut list = Vec::with_capacity(items.len());
        let mut operand = None;
        for item in items {
            let item = self.coerce_unknown(item, &common)?;
            // Every item compares as the common type does.
            let item = match (item, &common) {
                (Typed::Constant(value, _), Scalar::Numeric) => {
                    let value = convert_constant(&value, &Comparator::Numeric).ok_or(Reason::Value)?;
                    Typed::Constant(value, Scalar::Numeric)
                }
                (item, _) => item,
            };
            let (column, item, one) = self.operands(left.clone(), item, false)?;
            if by.get_or_insert_with(|| one.clone()) != &one {
                return Err(Reason::Type);
            }
            operand = Some(column);
            list.push(item);
        }
        let (Some(by), Some(operand)) = (by, operand) else { return Err(Reason::Unsupported) };
        Ok(Predicate::In { operand, list, by, negated })
    }

    /// Resolves types, chooses the comparator and makes the operands.
    fn operands(
        &mut self,
        left: Typed,
        right: Typed,
        needs_order: bool,
    ) -> Result<(Operand, Operand, Comparator), Reason> {
        if matches!(left, Typed::Column(_, None)) || matches!(right, Typed::Column(_, None)) {
            return Err(Reason::Type);
        }
        let (left, right) = match (self.scalar_of(&left), self.scalar_of(&right)) {
            (Some(_), Some(_)) => (left, right),
            (Some(known), None) => {
                let right = self.coerce_unknown(right, &against_unknown(known))?;
                (left, right)
            }
            (None, Some(known)) => {
                let left = self.coerce_unknown(left, &against_unknown(known))?;
                (left, right)
            }
            (None, None) => return Err(Reason::Type),
        };
        let right = oid_constant(self.scalar_of(&left), right)?;
        let by = self.comparator(&left, &right)?;
        self.check_collation(&left, &right, needs_order)?;
        Ok((self.operand(left, &by)?, self.operand(right, &by)?, by))
    }

    fn operand(&mut self, typed: Typed, by: &Comparator) -> Result<Operand, Reason> {
        Ok(match typed {
            Typed::Column(column, _) => Operand::Column(column),
            Typed::Constant(value, _) => {
                let value = convert_constant(&value, by).ok_or(Reason::Value)?;
                Operand::Constant(self.constant(value))
            }
            Typed::Param(index) | Typed::Widened(index, _) => Operand::Param(index),
            Typed::Unknown(_) | Typed::Null => return Err(Reason::Type),
        })
    }

    fn comparator(&self, left: &Typed, right: &Typed) -> Result<Comparator, Reason> {
        let (a, b) = match (self.scalar_of(left), self.scalar_of(right)) {
            (Some(a), Some(b)) => (a, b),
            _ => return Err(Reason::Type),
        };
        let is_constant = |t: &Typed| matches!(t, Typed::Constant(..));
        let is_stringy = |s: &Scalar| matches!(s, Scalar::Text | Scalar::Varchar);
        Ok(match (&a, &b) {
            _ if a.is_int() && b.is_int() => Comparator::Int,
            _ if (a.is_int() || a.is_float()) && (b.is_int() || b.is_float()) => Comparator::Float,
            (Scalar::Numeric, other) | (other, Scalar::Numeric) if other.is_int() => Comparator::Numeric,
            // The numeric is cast to float8, which we do for constants.
            (_, Scalar::Numeric) if a.is_float() && is_constant(right) => Comparator::Float,
            (Scalar::Numeric, _) if b.is_float() && is_constant(left) => Comparator::Float,
            _ if is_stringy(&a) && is_stringy(&b) => Comparator::Plain,
            (Scalar::BpChar, Scalar::Text) if !matches!(right, Typed::Column(..)) => Comparator::BpCharAsText,
            _ if a == b => a.comparator(),
            _ => return Err(Reason::Type),
        })
    }

    /// Text compares under the collation of the columns; constants and parameters have the
    /// default one, which yields to a column's.
    fn check_collation(&self, left: &Typed, right: &Typed, needs_order: bool) -> Result<(), Reason> {
        if !self.scalar_of(left).is_some_and(|s| s.is_collatable()) {
            return Ok(());
        }
        let collation = |typed: &Typed| match typed {
            Typed::Column(column, _) => self.table.schema.columns.get(*column).map(|c| c.collation),
            _ => None,
        };
        let collation = match (collation(left), collation(right)) {
            (Some(a), Some(b)) if a != b => return Err(Reason::Collation),
            (a, b) => a.or(b).ok_or(Reason::Collation)?,
        };
        match collation.order {
            CollationOrder::Bytes => Ok(()),
            CollationOrder::Deterministic if !needs_order => Ok(()),
            _ => Err(Reason::Collation),
        }
    }
}

/// The type that an unknown literal or parameter gets beside a known one: the same, except where
/// only another type has the operators.
fn against_unknown(known: Scalar) -> Scalar {
    match known {
        Scalar::Varchar => Scalar::Text,
        same => same,
    }
}

/// `oid_column = 5`: the integer becomes an oid (a negative one would wrap).
fn oid_constant(left: Option<Scalar>, right: Typed) -> Result<Typed, Reason> {
    match (left, right) {
        (Some(Scalar::Oid), Typed::Constant(Value::Int4(value), Scalar::Int4)) => {
            let value = u32::try_from(value).map_err(|_| Reason::Value)?;
            Ok(Typed::Constant(Value::Oid(value), Scalar::Oid))
        }
        (_, right) => Ok(right),
    }
}

/// `select_common_type` for the pairs that we have.
fn common_type(a: Scalar, b: Scalar) -> Option<Scalar> {
    let width = |s: &Scalar| match s {
        Scalar::Int2 => 2,
        Scalar::Int4 => 4,
        _ => 8,
    };
    Some(match (&a, &b) {
        // Numeric literals in a list for `float4` are rounded to it first, unlike beside `=`.
        (Scalar::Float4, _) | (_, Scalar::Float4) => return None,
        _ if a == b => a,
        _ if a.is_int() && b.is_int() => {
            if width(&b) > width(&a) {
                b
            } else {
                a
            }
        }
        (Scalar::Numeric, _) if b.is_int() => a,
        (_, Scalar::Numeric) if a.is_int() => b,
        (Scalar::Float8, Scalar::Numeric) => a,
        (Scalar::Float8, _) if b.is_int() => a,
        (Scalar::Oid, Scalar::Int4) => a,
        _ => return None,
    })
}
