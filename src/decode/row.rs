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
    fields: Vec<Field>,
}

/// A field of the tuples.
#[derive(Debug, Default)]
struct Field {
    /// Its column; `None` for one that is not mirrored.
    column: Option<usize>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Column {
    name: String,
    ty: Arc<PgType>,
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
            .map(|c| Column {
                name: c.name.clone(),
                ty: Arc::clone(&c.pg_type),
                copied_as_text: c.pg_type.is_opaque(),
            })
            .collect();
        let field = |field| Field {
            column: fields.iter().position(|of_column| *of_column == field),
            scratch: Vec::new(),
        };
        RowDecoder { columns, fields: (0..count).map(field).collect() }
    }

    /// A row from the stream. `unchanged` gives the old row's value of a column that was not sent. `row`
    /// gives its memory, not its content.
    pub fn row<'a>(
        &'a mut self,
        tuple: &'a Tuple,
        mut row: Vec<Datum<'a>>,
        unchanged: impl Fn(usize) -> Option<Datum<'a>>,
    ) -> Result<Vec<Datum<'a>>, DecodeError> {
        row.clear();
        row.resize(self.columns.len(), Datum::Null);
        self.values(tuple, &mut row, unchanged, Some)?;
        Ok(row)
    }

    /// Some columns of a tuple from the stream, in the order of `positions`: a key, in the memory of
    /// another.
    pub fn key<'a>(
        &'a mut self,
        tuple: &'a Tuple,
        positions: &[usize],
        mut key: Vec<Datum<'a>>,
    ) -> Result<Vec<Datum<'a>>, DecodeError> {
        key.clear();
        key.resize(positions.len(), Datum::Null);
        let place = |position| positions.iter().position(|p| *p == position);
        self.values(tuple, &mut key, |_| None, place)?;
        Ok(key)
    }

    /// Puts the values of columns where `place` says, until each place has one.
    fn values<'a>(
        &'a mut self,
        tuple: &'a Tuple,
        out: &mut [Datum<'a>],
        unchanged: impl Fn(usize) -> Option<Datum<'a>>,
        place: impl Fn(usize) -> Option<usize>,
    ) -> Result<(), DecodeError> {
        if tuple.len() != self.fields.len() {
            let (count, expected) = (tuple.len(), self.fields.len());
            return Err(DecodeError::Columns { what: "a tuple", count, expected });
        }
        let mut left = out.len();
        for (field, value) in self.fields.iter_mut().zip(tuple.values()) {
            if left == 0 {
                break;
            }
            let Some(position) = field.column else { continue };
            let out = place(position).and_then(|place| out.get_mut(place));
            let (Some(column), Some(out)) = (self.columns.get(position), out) else { continue };
            left -= 1;
            *out = match value {
                TupleValue::Null => Datum::Null,
                TupleValue::Unchanged => unchanged(position)
                    .ok_or_else(|| DecodeError::UnchangedWithoutOld { column: column.name.clone() })?,
                TupleValue::Text(text) => column.text(text, &mut field.scratch)?,
                TupleValue::Binary(bytes) => column.binary(bytes)?,
            };
        }
        Ok(())
    }

    /// Gives the values of a row from a binary COPY, column by column, to `visit`. After an error the
    /// row is incomplete.
    pub fn copied(
        &mut self,
        tuple: &mut CopyTuple<'_>,
        mut visit: impl FnMut(usize, Datum<'_>),
    ) -> Result<(), DecodeError> {
        if tuple.len() != self.fields.len() {
            let (count, expected) = (tuple.len(), self.fields.len());
            return Err(DecodeError::Columns { what: "a copied row", count, expected });
        }
        for (position, (column, field)) in self.columns.iter().zip(&mut self.fields).enumerate() {
            let datum = match tuple.field()? {
                None => Datum::Null,
                Some(text) if column.copied_as_text => column.text(text, &mut field.scratch)?,
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
