//! The types that we compute on, and how two of them compare.

use std::{
    cmp::Ordering,
    sync::{Arc, LazyLock},
};

use super::{
    numeric,
    value::{Value, as_i64},
};
use crate::types::{
    Datum, PgType, TypeKind, TypeOid,
    order::{compare_float, compare_numeric, strip_blanks},
};

/// A type of which values are compared, read from literals and taken as parameters. Everything else
/// can be returned only.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Text,
    Varchar,
    Name,
    BpChar,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Uuid,
    PgLsn,
    Enum(Arc<PgType>),
}

/// How values compare. Both sides have been brought to it by the binder.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Comparator {
    /// Integers of any width.
    Int,
    /// Floats, or a float and an integer: as `float8`.
    Float,
    /// Numerics, or a numeric and an integer.
    Numeric,
    /// One type whose representation compares directly: `bool`, `oid`, `uuid`, dates and times,
    /// and bytes (`bytea`, `pg_lsn`, text by identity or in the order of bytes).
    Plain,
    /// `char(n)`: without trailing blanks.
    BpChar,
    /// `char(n)` as `text` (its cast strips the blanks) against `text`, which keeps its own.
    BpCharAsText,
    /// Labels in their order.
    Enum(Arc<PgType>),
}

/// OIDs of built-in types (`pg_type.dat`).
pub(crate) mod oid {
    pub(crate) const BOOL: u32 = 16;
    pub(crate) const BYTEA: u32 = 17;
    pub(crate) const NAME: u32 = 19;
    pub(crate) const INT8: u32 = 20;
    pub(crate) const INT2: u32 = 21;
    pub(crate) const INT4: u32 = 23;
    pub(crate) const TEXT: u32 = 25;
    pub(crate) const OID: u32 = 26;
    pub(crate) const FLOAT4: u32 = 700;
    pub(crate) const FLOAT8: u32 = 701;
    pub(crate) const BPCHAR: u32 = 1042;
    pub(crate) const VARCHAR: u32 = 1043;
    pub(crate) const DATE: u32 = 1082;
    pub(crate) const TIME: u32 = 1083;
    pub(crate) const TIMESTAMP: u32 = 1114;
    pub(crate) const TIMESTAMPTZ: u32 = 1184;
    pub(crate) const NUMERIC: u32 = 1700;
    pub(crate) const UUID: u32 = 2950;
    pub(crate) const PG_LSN: u32 = 3220;
}

static BUILTIN: LazyLock<Vec<(Scalar, Arc<PgType>)>> = LazyLock::new(|| {
    let ty = |scalar, oid, name: &str, len, kind| {
        (scalar, Arc::new(PgType { oid: TypeOid(oid), name: name.to_owned(), len, kind }))
    };
    vec![
        ty(Scalar::Bool, oid::BOOL, "bool", 1, TypeKind::Bool),
        ty(Scalar::Bytea, oid::BYTEA, "bytea", -1, TypeKind::Bytea),
        ty(Scalar::Name, oid::NAME, "name", 64, TypeKind::Text),
        ty(Scalar::Int8, oid::INT8, "int8", 8, TypeKind::Int8),
        ty(Scalar::Int2, oid::INT2, "int2", 2, TypeKind::Int2),
        ty(Scalar::Int4, oid::INT4, "int4", 4, TypeKind::Int4),
        ty(Scalar::Text, oid::TEXT, "text", -1, TypeKind::Text),
        ty(Scalar::Oid, oid::OID, "oid", 4, TypeKind::Oid),
        ty(Scalar::Float4, oid::FLOAT4, "float4", 4, TypeKind::Float4),
        ty(Scalar::Float8, oid::FLOAT8, "float8", 8, TypeKind::Float8),
        ty(Scalar::BpChar, oid::BPCHAR, "bpchar", -1, TypeKind::BpChar),
        ty(Scalar::Varchar, oid::VARCHAR, "varchar", -1, TypeKind::Text),
        ty(Scalar::Date, oid::DATE, "date", 4, TypeKind::Date),
        ty(Scalar::Time, oid::TIME, "time", 8, TypeKind::Time),
        ty(Scalar::Timestamp, oid::TIMESTAMP, "timestamp", 8, TypeKind::Timestamp),
        ty(Scalar::TimestampTz, oid::TIMESTAMPTZ, "timestamptz", 8, TypeKind::TimestampTz),
        ty(Scalar::Numeric, oid::NUMERIC, "numeric", -1, TypeKind::Numeric),
        ty(Scalar::Uuid, oid::UUID, "uuid", 16, TypeKind::Uuid),
        ty(Scalar::PgLsn, oid::PG_LSN, "pg_lsn", 8, TypeKind::PgLsn),
    ]
});

impl Scalar {
    /// What a column of this type computes as: domains as their base type, as the parser does.
    /// Decided by OID, so that an extension's type never passes for a built-in one.
    pub(crate) fn of(ty: &Arc<PgType>) -> Option<Scalar> {
        match &ty.kind {
            // Operators are found for a domain over an enum in some places and not in others.
            TypeKind::Domain(base) => Scalar::of(base).filter(|s| !matches!(s, Scalar::Enum(_))),
            TypeKind::Enum(_) => Some(Scalar::Enum(Arc::clone(ty))),
            _ => BUILTIN.iter().find(|(_, b)| b.oid == ty.oid && b.kind == ty.kind).map(|(s, _)| s.clone()),
        }
    }

    /// A built-in type by its OID.
    pub(crate) fn of_oid(oid: TypeOid) -> Option<Scalar> {
        BUILTIN.iter().find(|(_, b)| b.oid == oid).map(|(s, _)| s.clone())
    }

    pub(crate) fn pg_type(&self) -> Arc<PgType> {
        match self {
            Scalar::Enum(ty) => Arc::clone(ty),
            _ => BUILTIN.iter().find(|(s, _)| s == self).map(|(_, t)| Arc::clone(t)).unwrap_or_else(|| {
                // Every other variant is in the list above.
                Arc::new(PgType { oid: TypeOid(0), name: String::new(), len: -1, kind: TypeKind::Opaque })
            }),
        }
    }

    pub(crate) fn is_int(&self) -> bool {
        matches!(self, Scalar::Int2 | Scalar::Int4 | Scalar::Int8)
    }

    /// Whether every integer of this type is one of the other.
    pub(crate) fn widens_to(&self, other: &Scalar) -> bool {
        matches!((self, other), (Scalar::Int2, Scalar::Int4 | Scalar::Int8) | (Scalar::Int4, Scalar::Int8))
    }

    pub(crate) fn is_float(&self) -> bool {
        matches!(self, Scalar::Float4 | Scalar::Float8)
    }

    pub(crate) fn is_collatable(&self) -> bool {
        matches!(self, Scalar::Text | Scalar::Varchar | Scalar::Name | Scalar::BpChar)
    }

    /// The comparator of one type with itself.
    pub(crate) fn comparator(&self) -> Comparator {
        match self {
            Scalar::Int2 | Scalar::Int4 | Scalar::Int8 => Comparator::Int,
            Scalar::Float4 | Scalar::Float8 => Comparator::Float,
            Scalar::Numeric => Comparator::Numeric,
            Scalar::BpChar => Comparator::BpChar,
            Scalar::Enum(ty) => Comparator::Enum(Arc::clone(ty)),
            _ => Comparator::Plain,
        }
    }
}

impl Comparator {
    /// Compares two values that are not NULL.
    pub(crate) fn compare(&self, a: &Datum<'_>, b: &Datum<'_>) -> Ordering {
        match self {
            Comparator::Int => as_i64(a).cmp(&as_i64(b)),
            Comparator::Float => compare_float(as_f64(a), as_f64(b)),
            Comparator::Numeric => {
                let (mut space_a, mut space_b) = ([0; 18], [0; 18]);
                compare_numeric(as_numeric(a, &mut space_a), as_numeric(b, &mut space_b))
            }
            Comparator::Plain => match (a, b) {
                (Datum::Bytes(a), Datum::Bytes(b)) => a.cmp(b),
                (Datum::Int4(a), Datum::Int4(b)) => a.cmp(b),
                (Datum::Int8(a), Datum::Int8(b)) => a.cmp(b),
                (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
                (Datum::Oid(a), Datum::Oid(b)) => a.cmp(b),
                (Datum::Uuid(a), Datum::Uuid(b)) => a.cmp(b),
                _ => Ordering::Equal,
            },
            Comparator::BpChar => strip_blanks(as_bytes(a)).cmp(strip_blanks(as_bytes(b))),
            Comparator::BpCharAsText => strip_blanks(as_bytes(a)).cmp(as_bytes(b)),
            Comparator::Enum(ty) => {
                if as_bytes(a) == as_bytes(b) {
                    return Ordering::Equal;
                }
                label_position(ty, as_bytes(a)).cmp(&label_position(ty, as_bytes(b)))
            }
        }
    }

    /// Whether `numeric` values must be kept from the order of this comparator's index keys.
    pub(crate) fn is_plain_for(&self, column: &Scalar) -> bool {
        match self {
            Comparator::Int => column.is_int(),
            Comparator::Float => column.is_float(),
            Comparator::Numeric => *column == Scalar::Numeric,
            Comparator::Plain | Comparator::BpChar | Comparator::Enum(_) => true,
            Comparator::BpCharAsText => false,
        }
    }
}

/// Brings an integer constant to `float8`, a numeric to its wire form and so on, where a comparator
/// needs the constant in another representation. `None` where PostgreSQL's conversion would fail.
pub(crate) fn convert_constant(value: &Value, by: &Comparator) -> Option<Value> {
    match (by, value) {
        (_, Value::Null) => Some(Value::Null),
        (Comparator::Float, Value::Bytes(bytes)) => numeric_to_f64(bytes).map(Value::Float8),
        (Comparator::Numeric, v) => Some(match as_i64(&v.datum()) {
            Some(int) => Value::Bytes(numeric::from_scaled(i128::from(int), 0).into()),
            None => v.clone(),
        }),
        (_, v) => Some(v.clone()),
    }
}

fn numeric_to_f64(bytes: &[u8]) -> Option<f64> {
    // As `numeric_float8`: through decimal text, correctly rounded.
    let (scaled, scale) = numeric::to_scaled(bytes)?;
    let value: f64 = format!("{scaled}e-{scale}").parse().ok()?;
    (value.is_finite() && ((value == 0.0) == (scaled == 0))).then_some(value)
}

fn as_f64(datum: &Datum<'_>) -> f64 {
    match datum {
        Datum::Float4(v) => f64::from(*v),
        Datum::Float8(v) => *v,
        other => as_i64(other).map_or(f64::NAN, |v| v as f64),
    }
}

fn as_bytes<'a>(datum: &Datum<'a>) -> &'a [u8] {
    match datum {
        Datum::Bytes(bytes) => bytes,
        _ => &[],
    }
}

fn as_numeric<'a>(datum: &Datum<'a>, space: &'a mut [u8; 18]) -> &'a [u8] {
    match as_i64(datum) {
        Some(int) => {
            let (bytes, len) = numeric::from_i64(int);
            *space = bytes;
            &space[..len]
        }
        None => as_bytes(datum),
    }
}

fn label_position(ty: &PgType, label: &[u8]) -> Option<usize> {
    match &ty.kind {
        TypeKind::Enum(labels) => labels.iter().position(|l| l.as_bytes() == label),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_and_types_compare_by_value() {
        let numeric = |text: &str| Value::Bytes(numeric::from_decimal(text).unwrap_or_default().into());
        for (by, a, b, expected) in [
            (Comparator::Int, Value::Int2(-1), Value::Int8(1 << 40), Ordering::Less),
            (Comparator::Numeric, Value::Int4(2), numeric("2.00"), Ordering::Equal),
            (
                Comparator::Numeric,
                Value::Int8(i64::MIN),
                numeric("-9223372036854775808.5"),
                Ordering::Greater,
            ),
            (Comparator::Float, Value::Float4(0.1), Value::Float8(0.1), Ordering::Greater),
            (Comparator::Float, Value::Float8(-0.0), Value::Int4(0), Ordering::Equal),
            (Comparator::Float, Value::Float8(f64::NAN), Value::Float8(f64::INFINITY), Ordering::Greater),
            (Comparator::BpChar, Value::text("a  "), Value::text("a"), Ordering::Equal),
            (Comparator::BpCharAsText, Value::text("a  "), Value::text("a "), Ordering::Less),
            (Comparator::Plain, Value::text("a "), Value::text("a"), Ordering::Greater),
        ] {
            assert_eq!(by.compare(&a.datum(), &b.datum()), expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn every_builtin_knows_itself() {
        for (scalar, ty) in BUILTIN.iter() {
            assert_eq!(Scalar::of(ty).as_ref(), Some(scalar));
            assert_eq!(Scalar::of_oid(ty.oid).as_ref(), Some(scalar));
            assert_eq!(scalar.pg_type(), *ty);
        }
    }
}
