//! The select list.

use std::sync::Arc;

use sqlparser::ast::{self, Expr};

use super::{Aggregate, Binder, Output, expr::Typed};
use crate::{
    query::{Reason, plan::ColumnDescription, scalar::Scalar, value::Value},
    types::{AttNum, CollationOrder, TableOid, TypeKind},
};

/// `FigureColname` for what has no name of its own.
const NAMELESS: &str = "?column?";

/// The select list, bound.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) outputs: Vec<Output>,
    pub(super) columns: Vec<ColumnDescription>,
    pub(super) aggregates: Vec<Aggregate>,
}

impl Binder<'_> {
    pub(super) fn targets(&mut self, projection: &[ast::SelectItem]) -> Result<Targets, Reason> {
        let mut targets = Targets::default();
        for item in projection {
            match item {
                ast::SelectItem::Wildcard(options) => {
                    check_options(options)?;
                    self.star(&mut targets)?;
                }
                ast::SelectItem::QualifiedWildcard(
                    ast::SelectItemQualifiedWildcardKind::ObjectName(object),
                    options,
                ) => {
                    check_options(options)?;
                    let mut qualifier = Vec::new();
                    for part in &object.0 {
                        match part {
                            ast::ObjectNamePart::Identifier(ident) => qualifier.push(self.name(ident)?),
                            ast::ObjectNamePart::Function(_) => return Err(Reason::Unsupported),
                        }
                    }
                    if !self.table.is_meant_by(&qualifier) {
                        return Err(Reason::Column);
                    }
                    self.star(&mut targets)?;
                }
                ast::SelectItem::UnnamedExpr(expr) => self.target(expr, None, &mut targets)?,
                ast::SelectItem::ExprWithAlias { expr, alias } => {
                    // The expression's leaves first or last: they are sorted.
                    let alias = self.name(alias)?;
                    self.target(expr, Some(alias), &mut targets)?;
                }
                ast::SelectItem::ExprWithAliases { .. } | ast::SelectItem::QualifiedWildcard(..) => {
                    return Err(Reason::Unsupported);
                }
            }
        }
        let aggregates = targets.outputs.iter().filter(|o| matches!(o, Output::Aggregate(_))).count();
        if targets.outputs.is_empty() || (aggregates > 0 && aggregates < targets.outputs.len()) {
            return Err(Reason::Unsupported);
        }
        Ok(targets)
    }

    fn star(&mut self, targets: &mut Targets) -> Result<(), Reason> {
        if !self.table.schema.unmirrored.is_empty() || self.table.schema.columns.is_empty() {
            return Err(Reason::Column);
        }
        for position in 0..self.table.schema.columns.len() {
            self.push_column(position, None, targets)?;
        }
        Ok(())
    }

    fn target(&mut self, expr: &Expr, alias: Option<String>, targets: &mut Targets) -> Result<(), Reason> {
        match expr {
            Expr::Nested(inner) => return self.target(inner, alias, targets),
            Expr::Function(function) => return self.aggregate(function, alias, targets),
            Expr::Cast { .. } | Expr::TypedString(_) => return Err(Reason::Unsupported),
            _ => {}
        }
        let (value, scalar) = match self.scalar(expr)? {
            Typed::Column(position, _) => return self.push_column(position, alias, targets),
            Typed::Constant(value, scalar) => (value, scalar),
            // What stays unknown becomes text (`resolveTargetListUnknowns`).
            Typed::Unknown(text) => (Value::text(&text), Scalar::Text),
            Typed::Null => (Value::Null, Scalar::Text),
            Typed::Param(_) | Typed::Widened(..) => return Err(Reason::Unsupported),
        };
        let name = match alias {
            Some(alias) => alias,
            // Before 15 TRUE and FALSE were casts, named like their type.
            None if scalar == Scalar::Bool && self.server_version_num < 150_000 => {
                return Err(Reason::Unsupported);
            }
            None => NAMELESS.to_owned(),
        };
        targets.columns.push(ColumnDescription::computed(name, scalar.pg_type()));
        targets.outputs.push(Output::Constant(self.constant(value)));
        Ok(())
    }

    fn push_column(
        &mut self,
        position: usize,
        alias: Option<String>,
        targets: &mut Targets,
    ) -> Result<(), Reason> {
        let column = self.table.schema.columns.get(position).ok_or(Reason::Column)?;
        let is_virtual = self.table.virtual_table.is_some();
        // RowDescription shows a domain as its base type, with the typmod that it gives that
        // (`SendRowDescriptionMessage`).
        let ty = column.pg_type.base();
        let typmod = match column.pg_type.kind {
            TypeKind::Domain(_) => {
                *self.catalog.domain_typmods.get(&column.pg_type.oid).ok_or(Reason::Type)?
            }
            _ => column.typmod,
        };
        targets.columns.push(ColumnDescription {
            name: alias.unwrap_or_else(|| column.name.clone()),
            table_oid: if is_virtual { TableOid(0) } else { self.table.schema.oid },
            attnum: if is_virtual { AttNum(0) } else { column.attnum },
            type_oid: ty.oid,
            type_len: column.pg_type.len,
            typmod,
            pg_type: Arc::clone(&column.pg_type),
        });
        targets.outputs.push(Output::Column(position));
        Ok(())
    }

    fn aggregate(
        &mut self,
        function: &ast::Function,
        alias: Option<String>,
        targets: &mut Targets,
    ) -> Result<(), Reason> {
        let ast::Function {
            name,
            uses_odbc_syntax: false,
            parameters: ast::FunctionArguments::None,
            args:
                ast::FunctionArguments::List(ast::FunctionArgumentList {
                    duplicate_treatment: None,
                    args,
                    clauses,
                }),
            filter: None,
            null_treatment: None,
            over: None,
            within_group,
        } = function
        else {
            return Err(Reason::Function);
        };
        if !clauses.is_empty() || !within_group.is_empty() {
            return Err(Reason::Function);
        }
        let ([ast::ObjectNamePart::Identifier(ident)], [ast::FunctionArg::Unnamed(arg)]) =
            (&name.0[..], &args[..])
        else {
            return Err(Reason::Function);
        };
        let name = self.name(ident)?;
        let (aggregate, ty) = match (name.as_str(), arg) {
            ("count", ast::FunctionArgExpr::Wildcard) => (Aggregate::CountRows, Scalar::Int8),
            (_, ast::FunctionArgExpr::Expr(expr)) => {
                let Typed::Column(position, scalar) = self.scalar(expr)? else {
                    return Err(Reason::Function);
                };
                self.column_aggregate(&name, position, scalar)?
            }
            _ => return Err(Reason::Function),
        };
        targets.columns.push(ColumnDescription::computed(alias.unwrap_or(name), ty.pg_type()));
        targets.outputs.push(Output::Aggregate(targets.aggregates.len()));
        targets.aggregates.push(aggregate);
        Ok(())
    }

    /// The aggregates over one column, with their result types (`pg_aggregate.dat`).
    fn column_aggregate(
        &self,
        name: &str,
        position: usize,
        scalar: Option<Scalar>,
    ) -> Result<(Aggregate, Scalar), Reason> {
        if name == "count" {
            return Ok((Aggregate::Count(position), Scalar::Int8));
        }
        let scalar = scalar.ok_or(Reason::Type)?;
        match name {
            "min" | "max" => {
                let result = match &scalar {
                    // Not there, or not in all versions, or by way of another type.
                    Scalar::Bool | Scalar::Uuid | Scalar::Bytea | Scalar::Name => {
                        return Err(Reason::Function);
                    }
                    Scalar::Varchar => Scalar::Text,
                    same => same.clone(),
                };
                let column = self.table.schema.columns.get(position).ok_or(Reason::Column)?;
                if scalar.is_collatable() && column.collation.order != CollationOrder::Bytes {
                    return Err(Reason::Collation);
                }
                let aggregate = if name == "min" {
                    Aggregate::Min(position, scalar)
                } else {
                    Aggregate::Max(position, scalar)
                };
                Ok((aggregate, result))
            }
            "sum" => match scalar {
                Scalar::Int2 | Scalar::Int4 => Ok((Aggregate::SumToInt8(position), Scalar::Int8)),
                Scalar::Int8 | Scalar::Numeric => Ok((Aggregate::SumToNumeric(position), Scalar::Numeric)),
                // Floats depend on the order of rows.
                _ => Err(Reason::Function),
            },
            _ => Err(Reason::Function),
        }
    }
}

fn check_options(options: &ast::WildcardAdditionalOptions) -> Result<(), Reason> {
    match options {
        ast::WildcardAdditionalOptions {
            wildcard_token: _,
            opt_ilike: None,
            opt_exclude: None,
            opt_except: None,
            opt_replace: None,
            opt_rename: None,
            opt_alias: None,
        } => Ok(()),
        _ => Err(Reason::Unsupported),
    }
}
