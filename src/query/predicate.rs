//! The WHERE clause, compiled: evaluated on a row without allocation, in three-valued logic.

use std::cmp::Ordering;

use super::{scalar::Comparator, value::Value};
use crate::{store::Row, types::Datum};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Predicate {
    Constant(Option<bool>),
    /// A boolean column.
    Column(usize),
    Compare {
        left: Operand,
        op: CompareOp,
        right: Operand,
        by: Comparator,
    },
    /// IN, or NOT IN.
    In {
        operand: Operand,
        list: Vec<Operand>,
        by: Comparator,
        negated: bool,
    },
    /// IS DISTINCT FROM, or IS NOT DISTINCT FROM.
    Distinct {
        left: Operand,
        right: Operand,
        by: Comparator,
        negated: bool,
    },
    IsNull {
        operand: Operand,
        negated: bool,
    },
    /// IS [NOT] TRUE, FALSE, UNKNOWN.
    Is {
        inner: Box<Predicate>,
        value: Option<bool>,
        negated: bool,
    },
    Not(Box<Predicate>),
    And(Vec<Predicate>),
    Or(Vec<Predicate>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    Column(usize),
    Constant(usize),
    Param(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// The constants of a plan and the parameters of an execution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    pub(crate) constants: &'a [Value],
    pub(crate) params: &'a [Value],
}

impl<'a> Values<'a> {
    /// The value of a constant or parameter; NULL for a column, which has none without a row.
    pub(crate) fn get(&self, operand: Operand) -> &'a Value {
        const NULL: &Value = &Value::Null;
        match operand {
            Operand::Column(_) => NULL,
            Operand::Constant(i) => self.constants.get(i).unwrap_or(NULL),
            Operand::Param(i) => self.params.get(i).unwrap_or(NULL),
        }
    }

    fn datum<'b>(&self, operand: Operand, row: Row<'b>) -> Datum<'b>
    where
        'a: 'b,
    {
        match operand {
            Operand::Column(column) => row.datum(column),
            other => self.get(other).datum(),
        }
    }
}

impl CompareOp {
    pub(crate) fn holds(self, ordering: Ordering) -> bool {
        match self {
            CompareOp::Eq => ordering.is_eq(),
            CompareOp::Ne => ordering.is_ne(),
            CompareOp::Lt => ordering.is_lt(),
            CompareOp::Le => ordering.is_le(),
            CompareOp::Gt => ordering.is_gt(),
            CompareOp::Ge => ordering.is_ge(),
        }
    }

    /// The operator with its sides exchanged.
    pub(crate) fn commuted(self) -> CompareOp {
        match self {
            CompareOp::Lt => CompareOp::Gt,
            CompareOp::Le => CompareOp::Ge,
            CompareOp::Gt => CompareOp::Lt,
            CompareOp::Ge => CompareOp::Le,
            same => same,
        }
    }

    /// Whether the operator needs the order of the type, not just its equality.
    pub(crate) fn needs_order(self) -> bool {
        !matches!(self, CompareOp::Eq | CompareOp::Ne)
    }
}

impl Predicate {
    /// The value for a row; `None` is unknown.
    pub(crate) fn eval(&self, row: Row<'_>, values: Values<'_>) -> Option<bool> {
        match self {
            Predicate::Constant(value) => *value,
            Predicate::Column(column) => match row.datum(*column) {
                Datum::Bool(value) => Some(value),
                _ => None,
            },
            Predicate::Compare { left, op, right, by } => {
                let (a, b) = (values.datum(*left, row), values.datum(*right, row));
                if a.is_null() || b.is_null() {
                    return None;
                }
                Some(op.holds(by.compare(&a, &b)))
            }
            Predicate::In { operand, list, by, negated } => {
                let a = values.datum(*operand, row);
                if a.is_null() {
                    return None;
                }
                let mut unknown = false;
                for item in list {
                    let b = values.datum(*item, row);
                    if b.is_null() {
                        unknown = true;
                    } else if by.compare(&a, &b).is_eq() {
                        return Some(!negated);
                    }
                }
                if unknown { None } else { Some(*negated) }
            }
            Predicate::Distinct { left, right, by, negated } => {
                let (a, b) = (values.datum(*left, row), values.datum(*right, row));
                let distinct = match (a.is_null(), b.is_null()) {
                    (true, true) => false,
                    (false, false) => by.compare(&a, &b).is_ne(),
                    _ => true,
                };
                Some(distinct != *negated)
            }
            Predicate::IsNull { operand, negated } => Some(values.datum(*operand, row).is_null() != *negated),
            Predicate::Is { inner, value, negated } => Some((inner.eval(row, values) == *value) != *negated),
            Predicate::Not(inner) => inner.eval(row, values).map(|v| !v),
            Predicate::And(parts) => {
                let mut result = Some(true);
                for part in parts {
                    match part.eval(row, values) {
                        Some(false) => return Some(false),
                        None => result = None,
                        Some(true) => {}
                    }
                }
                result
            }
            Predicate::Or(parts) => {
                let mut result = Some(false);
                for part in parts {
                    match part.eval(row, values) {
                        Some(true) => return Some(true),
                        None => result = None,
                        Some(false) => {}
                    }
                }
                result
            }
        }
    }

    /// The parts that all must hold.
    pub(crate) fn conjuncts(&self) -> &[Predicate] {
        match self {
            Predicate::And(parts) => parts,
            other => std::slice::from_ref(other),
        }
    }
}
