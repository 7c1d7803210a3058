//! An owned value: a constant of a plan, or a parameter.

use crate::types::Datum;

/// [`Datum`] with its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    Oid(u32),
    Float4(f32),
    Float8(f64),
    Uuid([u8; 16]),
    Bytes(Box<[u8]>),
}

impl Value {
    pub(crate) fn datum(&self) -> Datum<'_> {
        match self {
            Value::Null => Datum::Null,
            Value::Bool(v) => Datum::Bool(*v),
            Value::Int2(v) => Datum::Int2(*v),
            Value::Int4(v) => Datum::Int4(*v),
            Value::Int8(v) => Datum::Int8(*v),
            Value::Oid(v) => Datum::Oid(*v),
            Value::Float4(v) => Datum::Float4(*v),
            Value::Float8(v) => Datum::Float8(*v),
            Value::Uuid(v) => Datum::Uuid(*v),
            Value::Bytes(v) => Datum::Bytes(v),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    pub(crate) fn text(text: &str) -> Value {
        Value::Bytes(text.as_bytes().into())
    }
}

impl From<Datum<'_>> for Value {
    fn from(datum: Datum<'_>) -> Value {
        match datum {
            Datum::Null => Value::Null,
            Datum::Bool(v) => Value::Bool(v),
            Datum::Int2(v) => Value::Int2(v),
            Datum::Int4(v) => Value::Int4(v),
            Datum::Int8(v) => Value::Int8(v),
            Datum::Oid(v) => Value::Oid(v),
            Datum::Float4(v) => Value::Float4(v),
            Datum::Float8(v) => Value::Float8(v),
            Datum::Uuid(v) => Value::Uuid(v),
            Datum::Bytes(v) => Value::Bytes(v.into()),
        }
    }
}

/// Any of the integer types as 64 bits.
pub(crate) fn as_i64(datum: &Datum<'_>) -> Option<i64> {
    match datum {
        Datum::Int2(v) => Some(i64::from(*v)),
        Datum::Int4(v) => Some(i64::from(*v)),
        Datum::Int8(v) => Some(*v),
        _ => None,
    }
}
