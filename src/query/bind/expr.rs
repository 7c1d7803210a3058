//! Conditions and the simple expressions in them.
//!
//! Operands without parentheses are accepted only where every precedence table agrees, so that the
//! tree we were given is the one that PostgreSQL's grammar builds.

use sqlparser::ast::{self, BinaryOperator, Expr};

use super::Binder;
use crate::query::{
    Reason, literal, numeric,
    predicate::{CompareOp, Operand, Predicate},
    scalar::Scalar,
    scan::Leaf,
    value::Value,
};

/// An expression with what is known of its type.
#[derive(Clone, Debug)]
pub(super) enum Typed {
    /// A column; without a scalar where we do not compute on its type.
    Column(usize, Option<Scalar>),
    Constant(Value, Scalar),
    /// A string literal whose type its context tells.
    Unknown(String),
    Null,
    Param(usize),
    /// An integer parameter as a wider integer.
    Widened(usize, Scalar),
}

impl Binder<'_> {
    pub(super) fn predicate(&mut self, expr: &Expr) -> Result<Predicate, Reason> {
        match expr {
            Expr::Nested(inner) => self.predicate(inner),
            Expr::BinaryOp { op: BinaryOperator::And, .. } => {
                Ok(Predicate::And(self.chain(expr, &BinaryOperator::And)?))
            }
            Expr::BinaryOp { op: BinaryOperator::Or, .. } => {
                Ok(Predicate::Or(self.chain(expr, &BinaryOperator::Or)?))
            }
            Expr::UnaryOp { op: ast::UnaryOperator::Not, expr } => {
                if is_logical(expr) {
                    return Err(Reason::Unsupported);
                }
                Ok(Predicate::Not(Box::new(self.predicate(expr)?)))
            }
            Expr::BinaryOp { left, op, right } => {
                let op = compare_op(op).ok_or(Reason::Unsupported)?;
                let (left, right) = (self.scalar(left)?, self.scalar(right)?);
                self.compare(left, op, right)
            }
            Expr::InList { expr, list, negated } => {
                let left = self.scalar(expr)?;
                let items = list.iter().map(|item| self.scalar(item)).collect::<Result<Vec<_>, _>>()?;
                self.in_list(left, items, *negated)
            }
            Expr::Between { expr, negated, low, high } => {
                let operand = self.scalar(expr)?;
                let (low, high) = (self.scalar(low)?, self.scalar(high)?);
                let (above, below) =
                    if *negated { (CompareOp::Lt, CompareOp::Gt) } else { (CompareOp::Ge, CompareOp::Le) };
                let parts =
                    vec![self.compare(operand.clone(), above, low)?, self.compare(operand, below, high)?];
                Ok(if *negated { Predicate::Or(parts) } else { Predicate::And(parts) })
            }
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                let negated = matches!(expr, Expr::IsNotDistinctFrom(..));
                let (left, right) = (self.scalar(left)?, self.scalar(right)?);
                self.distinct(left, right, negated)
            }
            Expr::IsNull(inner) => self.null_test(inner, false),
            Expr::IsNotNull(inner) => self.null_test(inner, true),
            Expr::IsTrue(inner) => self.boolean_test(inner, Some(true), false),
            Expr::IsNotTrue(inner) => self.boolean_test(inner, Some(true), true),
            Expr::IsFalse(inner) => self.boolean_test(inner, Some(false), false),
            Expr::IsNotFalse(inner) => self.boolean_test(inner, Some(false), true),
            Expr::IsUnknown(inner) => self.boolean_test(inner, None, false),
            Expr::IsNotUnknown(inner) => self.boolean_test(inner, None, true),
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) => match self.scalar(expr)? {
                Typed::Column(column, Some(Scalar::Bool)) => Ok(Predicate::Column(column)),
                Typed::Constant(Value::Bool(value), Scalar::Bool) => Ok(Predicate::Constant(Some(value))),
                Typed::Null => Ok(Predicate::Constant(None)),
                _ => Err(Reason::Type),
            },
            Expr::Function(_) => Err(Reason::Function),
            _ => Err(Reason::Unsupported),
        }
    }

    pub(super) fn scalar(&mut self, expr: &Expr) -> Result<Typed, Reason> {
        match expr {
            Expr::Nested(inner) => self.scalar(inner),
            Expr::Identifier(ident) => {
                let column = self.name(ident)?;
                self.column(&[], &column)
            }
            Expr::CompoundIdentifier(parts) => {
                let names = parts.iter().map(|p| self.name(p)).collect::<Result<Vec<_>, _>>()?;
                let (column, qualifier) = names.split_last().ok_or(Reason::Unsupported)?;
                self.column(qualifier, column)
            }
            Expr::Value(value) => self.literal(&value.value, false),
            Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => match &**expr {
                Expr::Value(value) if matches!(value.value, ast::Value::Number(..)) => {
                    self.literal(&value.value, true)
                }
                _ => Err(Reason::Unsupported),
            },
            Expr::Cast {
                kind: kind @ (ast::CastKind::Cast | ast::CastKind::DoubleColon),
                expr,
                data_type,
                array: false,
                format: None,
            } => {
                // `::` binds tighter than everything else that we accept here.
                let is_tight = matches!(**expr, Expr::Value(_) | Expr::Nested(_));
                if *kind == ast::CastKind::DoubleColon && !is_tight {
                    return Err(Reason::Unsupported);
                }
                let target = cast_target(data_type).ok_or(Reason::Type)?;
                let operand = self.scalar(expr)?;
                self.cast(operand, target)
            }
            Expr::TypedString(ast::TypedString { data_type, value, uses_odbc_syntax: false }) => {
                let target = cast_target(data_type).ok_or(Reason::Type)?;
                let operand = self.literal(&value.value, false)?;
                match operand {
                    Typed::Unknown(_) => self.cast(operand, target),
                    _ => Err(Reason::Unsupported),
                }
            }
            Expr::Function(_) => Err(Reason::Function),
            _ => Err(Reason::Unsupported),
        }
    }

    /// A column of the table by its name. Names that we do not know may be system columns, whole-row
    /// references or functions in attribute notation: the primary knows.
    pub(super) fn column(&self, qualifier: &[String], name: &str) -> Result<Typed, Reason> {
        if !qualifier.is_empty() && !self.table.is_meant_by(qualifier) {
            return Err(Reason::Column);
        }
        let position = self.table.schema.column_position(name).ok_or(Reason::Column)?;
        let column = self.table.schema.columns.get(position).ok_or(Reason::Column)?;
        Ok(Typed::Column(position, Scalar::of(&column.pg_type)))
    }

    /// Gives a string literal, NULL or parameter without a type this one; others stay as they are.
    pub(super) fn coerce_unknown(&mut self, typed: Typed, target: &Scalar) -> Result<Typed, Reason> {
        Ok(match typed {
            Typed::Unknown(text) => Typed::Constant(literal::parse(target, &text, self.utc)?, target.clone()),
            Typed::Null => Typed::Constant(Value::Null, target.clone()),
            Typed::Param(index) => {
                if let Some(slot @ None) = self.params.get_mut(index) {
                    *slot = Some(target.clone());
                }
                Typed::Param(index)
            }
            known => known,
        })
    }

    pub(super) fn scalar_of(&self, typed: &Typed) -> Option<Scalar> {
        match typed {
            Typed::Column(_, scalar) => scalar.clone(),
            Typed::Constant(_, scalar) => Some(scalar.clone()),
            Typed::Unknown(_) | Typed::Null => None,
            Typed::Param(index) => self.params.get(*index).cloned().flatten(),
            Typed::Widened(_, scalar) => Some(scalar.clone()),
        }
    }

    fn chain(&mut self, expr: &Expr, operator: &BinaryOperator) -> Result<Vec<Predicate>, Reason> {
        // Left-deep, however long: no recursion along it.
        let mut operands = Vec::new();
        let mut rest = expr;
        while let Expr::BinaryOp { left, op, right } = rest {
            if op != operator {
                break;
            }
            operands.push(&**right);
            rest = left;
        }
        operands.push(rest);
        let mut parts = Vec::with_capacity(operands.len());
        for operand in operands.into_iter().rev() {
            // AND binds tighter than OR, so this can only be a misreading.
            let is_or = matches!(operand, Expr::BinaryOp { op: BinaryOperator::Or, .. });
            if *operator == BinaryOperator::And && is_or {
                return Err(Reason::Unsupported);
            }
            match self.predicate(operand)? {
                // `a between 1 and 2 and b`: one list of conjuncts for the planner.
                Predicate::And(inner) if *operator == BinaryOperator::And => parts.extend(inner),
                part => parts.push(part),
            }
        }
        Ok(parts)
    }

    fn null_test(&mut self, expr: &Expr, negated: bool) -> Result<Predicate, Reason> {
        let operand = match self.scalar(expr)? {
            Typed::Column(column, _) => {
                // `row is null` looks into a composite value.
                let ty = self.table.schema.columns.get(column).map(|c| c.pg_type.base());
                if ty.is_none_or(|t| {
                    matches!(t.kind, crate::types::TypeKind::Composite(_) | crate::types::TypeKind::Opaque)
                }) {
                    return Err(Reason::Type);
                }
                Operand::Column(column)
            }
            Typed::Param(index) if self.scalar_of(&Typed::Param(index)).is_some() => Operand::Param(index),
            _ => return Err(Reason::Unsupported),
        };
        Ok(Predicate::IsNull { operand, negated })
    }

    fn boolean_test(&mut self, expr: &Expr, value: Option<bool>, negated: bool) -> Result<Predicate, Reason> {
        if !matches!(expr, Expr::Nested(_) | Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            return Err(Reason::Unsupported);
        }
        Ok(Predicate::Is { inner: Box::new(self.predicate(expr)?), value, negated })
    }

    fn literal(&mut self, value: &ast::Value, negative: bool) -> Result<Typed, Reason> {
        Ok(match value {
            ast::Value::Number(text, false) => {
                self.leaves.push(Leaf::Number(text.clone()));
                let (value, scalar) = number(text, negative).ok_or(Reason::Value)?;
                Typed::Constant(value, scalar)
            }
            ast::Value::SingleQuotedString(text) => {
                self.leaves.push(Leaf::String(text.clone()));
                Typed::Unknown(text.clone())
            }
            ast::Value::Boolean(value) => Typed::Constant(Value::Bool(*value), Scalar::Bool),
            ast::Value::Null => Typed::Null,
            ast::Value::Placeholder(text) => Typed::Param(self.param(text)?),
            _ => return Err(Reason::Unsupported),
        })
    }

    /// Casts without a run-time function that we would have to match: literals to a type, integers
    /// to integers and numeric, parameters to the type they then have.
    fn cast(&mut self, operand: Typed, target: Scalar) -> Result<Typed, Reason> {
        let known = self.scalar_of(&operand);
        match (operand, known) {
            (operand, None) if !matches!(operand, Typed::Column(..)) => self.coerce_unknown(operand, &target),
            (operand, Some(scalar)) if scalar == target && !matches!(operand, Typed::Column(..)) => {
                Ok(operand)
            }
            // The same integer, and only its value counts from here on: drivers declare the narrowest type
            // that holds a number and cast it to the column's.
            (Typed::Param(index) | Typed::Widened(index, _), Some(scalar)) if scalar.widens_to(&target) => {
                Ok(Typed::Widened(index, target))
            }
            (Typed::Constant(value, scalar), _) if scalar.is_int() => {
                let int = super::super::value::as_i64(&value.datum()).ok_or(Reason::Value)?;
                let value = match target {
                    Scalar::Int2 => int.try_into().map(Value::Int2).ok(),
                    Scalar::Int4 => int.try_into().map(Value::Int4).ok(),
                    Scalar::Int8 => Some(Value::Int8(int)),
                    Scalar::Numeric => Some(Value::Bytes(numeric::from_scaled(i128::from(int), 0).into())),
                    _ => return Err(Reason::Type),
                };
                Ok(Typed::Constant(value.ok_or(Reason::Value)?, target))
            }
            _ => Err(Reason::Type),
        }
    }
}

/// A number's type as `make_const` decides: `int4`, `int8` or `numeric`, after its sign is applied
/// (`doNegate`).
fn number(text: &str, negative: bool) -> Option<(Value, Scalar)> {
    let signed = if negative { format!("-{text}") } else { text.to_owned() };
    if text.bytes().all(|b| b.is_ascii_digit()) {
        if let Ok(value) = signed.parse::<i32>() {
            return Some((Value::Int4(value), Scalar::Int4));
        }
        if let Ok(value) = signed.parse::<i64>() {
            return Some((Value::Int8(value), Scalar::Int8));
        }
    }
    Some((Value::Bytes(numeric::from_decimal(&signed)?.into()), Scalar::Numeric))
}

fn is_logical(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. })
}

fn compare_op(op: &BinaryOperator) -> Option<CompareOp> {
    Some(match op {
        BinaryOperator::Eq => CompareOp::Eq,
        BinaryOperator::NotEq => CompareOp::Ne,
        BinaryOperator::Lt => CompareOp::Lt,
        BinaryOperator::LtEq => CompareOp::Le,
        BinaryOperator::Gt => CompareOp::Gt,
        BinaryOperator::GtEq => CompareOp::Ge,
        _ => return None,
    })
}

/// The types that casts may name, all without a typmod.
fn cast_target(data_type: &ast::DataType) -> Option<Scalar> {
    use ast::{DataType, ExactNumberInfo, TimezoneInfo};
    Some(match data_type {
        DataType::Int2(None) | DataType::SmallInt(None) => Scalar::Int2,
        DataType::Int4(None) | DataType::Int(None) | DataType::Integer(None) => Scalar::Int4,
        DataType::Int8(None) | DataType::BigInt(None) => Scalar::Int8,
        DataType::Numeric(ExactNumberInfo::None) => Scalar::Numeric,
        DataType::Text => Scalar::Text,
        DataType::Varchar(None) => Scalar::Varchar,
        DataType::Bool | DataType::Boolean => Scalar::Bool,
        DataType::Date => Scalar::Date,
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => Scalar::Timestamp,
        DataType::Timestamp(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => Scalar::TimestampTz,
        DataType::Uuid => Scalar::Uuid,
        _ => return None,
    })
}
