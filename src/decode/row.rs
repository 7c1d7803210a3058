//! Tuples to rows of one table, in its schema's columns.

use std::sync::Arc;

use super::{CopyTuple, DecodeError, Relation, RelationColumn, ReplicaIdentityKind, Tuple, TupleValue};
use crate::{
    codec,
    types::{ColumnSchema, Datum, PgType, ReplicaIdentity, TableSchema},
};

/// Decodes the tuples of one relation; keeps the memory that values are rebuilt in.
#[derive(Debug)]
pub struct RowDecoder {
    columns: Vec<Column>,
    /// Fields that a tuple must have.
    fields: usize,
    scratch: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Column {
    name: String,
    ty: Arc<PgType>,
    /// Which field of the tuple.
    field: usize,
    /// COPY brings its text.
    copied_as_text: bool,
}

impl RowDecoder {
    /// For COPY, whose column list is the schema's. `as_text`: every value comes as its text, not only
    /// those without a binary form.
    pub fn for_copy(schema: &TableSchema, as_text: bool) -> RowDecoder {
        let fields = (0..schema.columns.len()).collect();
        let mut decoder = RowDecoder::new(schema, fields, schema.columns.len());
        for column in &mut decoder.columns {
            column.copied_as_text |= as_text;
        }
        decoder
    }

    /// For the stream, whose columns are named by a Relation message. `None` when the relation is
    /// not the one that the schema describes: the table has changed.
    pub fn for_relation(schema: &TableSchema, relation: &Relation) -> Option<RowDecoder> {
        let known = |c: &RelationColumn| {
            schema.column_position(&c.name).is_some() || schema.unmirrored.contains(&c.name)
        };
        let same_identity = match (&schema.identity, relation.identity) {
            (ReplicaIdentity::Full, ReplicaIdentityKind::Full) => true,
            (ReplicaIdentity::Key(key), ReplicaIdentityKind::Default | ReplicaIdentityKind::Index) => {
                let mut names: Vec<&str> =
                    key.iter().filter_map(|k| Some(schema.columns.get(*k)?.name.as_str())).collect();
                let mut flagged: Vec<&str> =
                    relation.columns.iter().filter(|c| c.key).map(|c| c.name.as_str()).collect();
                names.sort_unstable();
                flagged.sort_unstable();
                names == flagged
            }
            _ => false,
        };
        if !same_identity || !relation.columns.iter().all(known) {
            return None;
        }
        let field = |column: &ColumnSchema| {
            relation.columns.iter().position(|c| {
                c.name == column.name && c.type_oid == column.pg_type.oid && c.typmod == column.typmod
            })
        };
        let fields: Option<Vec<usize>> = schema.columns.iter().map(field).collect();
        let fields = fields?;
        Some(RowDecoder::new(schema, fields, relation.columns.len()))
    }

    fn new(schema: &TableSchema, fields: Vec<usize>, count: usize) -> RowDecoder {
        let columns: Vec<Column> = schema
            .columns
            .iter()
            .zip(fields)
            .map(|(c, field)| Column {
                name: c.name.clone(),
                ty: Arc::clone(&c.pg_type),
                field,
                copied_as_text: c.pg_type.is_opaque(),
            })
            .collect();
        let scratch = columns.iter().map(|_| Vec::new()).collect();
        RowDecoder { columns, fields: count, scratch }
    }

    /// A row from the stream. `unchanged` gives the old row's value of a column that was not sent.
    pub fn row<'a>(
        &'a mut self,
        tuple: &'a Tuple,
        unchanged: impl Fn(usize) -> Option<Datum<'a>>,
    ) -> Result<Vec<Datum<'a>>, DecodeError> {
        let positions = 0..self.columns.len();
        self.values(tuple, positions, unchanged)
    }

    /// Some columns of a tuple from the stream, in the order of `positions` (ascending): a key.
    pub fn key<'a>(
        &'a mut self,
        tuple: &'a Tuple,
        positions: &[usize],
    ) -> Result<Vec<Datum<'a>>, DecodeError> {
        self.values(tuple, positions.iter().copied(), |_| None)
    }

    fn values<'a>(
        &'a mut self,
        tuple: &'a Tuple,
        positions: impl Iterator<Item = usize>,
        unchanged: impl Fn(usize) -> Option<Datum<'a>>,
    ) -> Result<Vec<Datum<'a>>, DecodeError> {
        if tuple.values.len() != self.fields {
            let (count, expected) = (tuple.values.len(), self.fields);
            return Err(DecodeError::Columns { what: "a tuple", count, expected });
        }
        let mut scratch = self.scratch.iter_mut();
        let mut row = Vec::with_capacity(positions.size_hint().0);
        for position in positions {
            let (Some(column), Some(scratch)) = (self.columns.get(position), scratch.next()) else {
                return Err(DecodeError::Columns { what: "a key", count: position, expected: self.fields });
            };
            let datum = match tuple.values.get(column.field) {
                Some(TupleValue::Null) | None => Datum::Null,
                Some(TupleValue::Unchanged) => unchanged(position)
                    .ok_or_else(|| DecodeError::UnchangedWithoutOld { column: column.name.clone() })?,
                Some(TupleValue::Text(text)) => column.text(text, scratch)?,
                Some(TupleValue::Binary(bytes)) => column.binary(bytes)?,
            };
            row.push(datum);
        }
        Ok(row)
    }

    /// Gives the values of a row from a binary COPY, column by column, to `visit`. After an error the
    /// row is incomplete.
    pub fn copied(
        &mut self,
        tuple: &mut CopyTuple<'_>,
        mut visit: impl FnMut(usize, Datum<'_>),
    ) -> Result<(), DecodeError> {
        if tuple.len() != self.fields {
            let (count, expected) = (tuple.len(), self.fields);
            return Err(DecodeError::Columns { what: "a copied row", count, expected });
        }
        for (position, (column, scratch)) in self.columns.iter().zip(&mut self.scratch).enumerate() {
            let datum = match tuple.field()? {
                None => Datum::Null,
                Some(text) if column.copied_as_text => column.text(text, scratch)?,
                Some(bytes) => column.binary(bytes)?,
            };
            visit(position, datum);
        }
        Ok(())
    }
}

impl Column {
    fn text<'a>(&self, text: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Datum<'a>, DecodeError> {
        codec::read_text(&self.ty, text, scratch).map_err(|source| self.error(source))
    }

    fn binary<'a>(&self, bytes: &'a [u8]) -> Result<Datum<'a>, DecodeError> {
        codec::read_binary(&self.ty, bytes).map_err(|source| self.error(source))
    }

    fn error(&self, source: codec::CodecError) -> DecodeError {
        DecodeError::Value { column: self.name.clone(), source }
    }
}
