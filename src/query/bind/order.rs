//! ORDER BY, LIMIT and OFFSET.

use sqlparser::ast::{self, Expr};

use super::{Binder, Output, expr::Typed, target::Targets};
use crate::{
    query::{
        Reason,
        predicate::Operand,
        scalar::{Comparator, Scalar},
    },
    types::CollationOrder,
};

/// One item of ORDER BY.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SortKey {
    pub(crate) column: usize,
    pub(crate) by: Comparator,
    pub(crate) descending: bool,
    pub(crate) nulls_first: bool,
}

impl Binder<'_> {
    pub(super) fn order_by(
        &mut self,
        order_by: Option<&ast::OrderBy>,
        targets: &Targets,
    ) -> Result<Vec<SortKey>, Reason> {
        let items = match order_by {
            None => return Ok(Vec::new()),
            Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(items), interpolate: None }) => items,
            Some(_) => return Err(Reason::Unsupported),
        };
        if !targets.aggregates.is_empty() {
            return Err(Reason::Unsupported);
        }
        let mut keys: Vec<SortKey> = Vec::with_capacity(items.len());
        for item in items {
            let ast::OrderByExpr { expr, options: ast::OrderByOptions { asc, nulls_first }, with_fill: None } =
                item
            else {
                return Err(Reason::Unsupported);
            };
            let descending = *asc == Some(false);
            let column = self.sort_column(expr, targets)?;
            let by = self.sort_comparator(column)?;
            // A column that is sorted on already decides nothing more.
            if keys.iter().all(|k| k.column != column) {
                keys.push(SortKey { column, by, descending, nulls_first: nulls_first.unwrap_or(descending) });
            }
        }
        Ok(keys)
    }

    pub(super) fn limit_clause(
        &mut self,
        clause: Option<&ast::LimitClause>,
    ) -> Result<(Option<Operand>, Option<Operand>), Reason> {
        let (limit, offset) = match clause {
            None => return Ok((None, None)),
            Some(ast::LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                (limit, offset)
            }
            Some(_) => return Err(Reason::Unsupported),
        };
        let offset = match offset {
            None => None,
            Some(ast::Offset { value, rows: ast::OffsetRows::None }) => self.row_count(value)?,
            Some(_) => return Err(Reason::Unsupported),
        };
        let limit = match limit {
            None => None,
            Some(value) => self.row_count(value)?,
        };
        Ok((limit, offset))
    }

    /// `findTargetlistEntrySQL92`: a bare name is an output column before it is one of the table, an
    /// integer is a position in the select list.
    fn sort_column(&mut self, expr: &Expr, targets: &Targets) -> Result<usize, Reason> {
        let of_output = |index: usize| match targets.outputs.get(index) {
            Some(Output::Column(column)) => Ok(*column),
            _ => Err(Reason::Unsupported),
        };
        match expr {
            Expr::Identifier(ident) => {
                let name = self.name(ident)?;
                let mut matches =
                    targets.columns.iter().enumerate().filter(|(_, c)| c.name == name).map(|(i, _)| i);
                if let Some(first) = matches.next() {
                    let column = of_output(first)?;
                    // Two different outputs of one name are ambiguous.
                    for other in matches {
                        if of_output(other)? != column {
                            return Err(Reason::Column);
                        }
                    }
                    return Ok(column);
                }
                match self.column(&[], &name)? {
                    Typed::Column(column, _) => Ok(column),
                    _ => Err(Reason::Unsupported),
                }
            }
            Expr::CompoundIdentifier(_) => match self.scalar(expr)? {
                Typed::Column(column, _) => Ok(column),
                _ => Err(Reason::Unsupported),
            },
            Expr::Value(value) if matches!(value.value, ast::Value::Number(..)) => match self.scalar(expr)? {
                Typed::Constant(super::Value::Int4(position), Scalar::Int4) => {
                    let position = usize::try_from(position).map_err(|_| Reason::Unsupported)?;
                    of_output(position.checked_sub(1).ok_or(Reason::Unsupported)?)
                }
                _ => Err(Reason::Unsupported),
            },
            Expr::Function(_) => Err(Reason::Function),
            _ => Err(Reason::Unsupported),
        }
    }

    fn sort_comparator(&self, column: usize) -> Result<Comparator, Reason> {
        let column = self.table.schema.columns.get(column).ok_or(Reason::Column)?;
        let scalar = Scalar::of(&column.pg_type).ok_or(Reason::Type)?;
        if scalar.is_collatable() && column.collation.order != CollationOrder::Bytes {
            return Err(Reason::Collation);
        }
        Ok(scalar.comparator())
    }

    /// The operand of LIMIT or OFFSET; `None` for NULL, which is none.
    fn row_count(&mut self, expr: &Expr) -> Result<Option<Operand>, Reason> {
        match self.scalar(expr)? {
            Typed::Null => Ok(None),
            Typed::Constant(value, scalar) if scalar.is_int() => {
                Ok(Some(Operand::Constant(self.constant(value))))
            }
            Typed::Param(index) => {
                self.coerce_unknown(Typed::Param(index), &Scalar::Int8)?;
                match self.scalar_of(&Typed::Param(index)) {
                    Some(scalar) if scalar.is_int() => Ok(Some(Operand::Param(index))),
                    _ => Err(Reason::Type),
                }
            }
            _ => Err(Reason::Unsupported),
        }
    }
}
