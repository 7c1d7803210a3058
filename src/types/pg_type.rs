//! PostgreSQL types as the codec, the store and the binder need to know them.

use std::sync::Arc;

use super::TypeOid;

/// One type of the primary, with the types it is made of.
#[derive(Debug, PartialEq)]
pub struct PgType {
    pub oid: TypeOid,
    /// Schema-less name, as in `pg_type.typname`.
    pub name: String,
    /// `pg_type.typlen`, sent in RowDescription: -1 variable, -2 C string.
    pub len: i16,
    pub kind: TypeKind,
}

/// What a type is to us. Everything but `Opaque` is stored in its binary wire form (or natively,
/// see [`Physical`]) and can be rendered as text and binary exactly as the primary does.
#[derive(Debug, PartialEq)]
pub enum TypeKind {
    Bool,
    /// `"char"`: one byte.
    Char,
    Int2,
    Int4,
    Int8,
    Oid,
    Xid,
    Cid,
    Xid8,
    Tid,
    PgLsn,
    Float4,
    Float8,
    Numeric,
    Money,
    /// `text`, `varchar`, `name`: bytes that are equal when they are identical (under a deterministic
    /// collation).
    Text,
    /// `char(n)`: trailing blanks do not count in comparisons.
    BpChar,
    Bytea,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    Json,
    Jsonb,
    Xml,
    /// `inet` or `cidr`.
    Inet,
    Cidr,
    MacAddr,
    MacAddr8,
    Bit,
    VarBit,
    Point,
    Line,
    Lseg,
    Box,
    Path,
    Polygon,
    Circle,
    TsVector,
    TsQuery,
    /// Labels in sort order.
    Enum(Vec<String>),
    Domain(Arc<PgType>),
    /// Element type and `pg_type.typdelim`. Not `oidvector`/`int2vector`, which are opaque.
    Array {
        element: Arc<PgType>,
        delimiter: u8,
    },
    Range(Arc<PgType>),
    /// The range's subtype (not the range type).
    Multirange(Arc<PgType>),
    /// Field types in order, dropped fields absent.
    Composite(Vec<Arc<PgType>>),
    /// Known by the server's text only: extension types, and everything we have no exact rendering
    /// for. Text results come from memory, binary results from the primary.
    Opaque,
}

/// How a value is laid out in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Physical {
    Bool,
    /// `int2`
    I16,
    /// `int4`, `date` (days since 2000-01-01)
    I32,
    /// `int8`, `time`, `timestamp`, `timestamptz` (microseconds), `money`
    I64,
    /// `oid`, `xid`, `cid`
    U32,
    F32,
    F64,
    /// `uuid`
    Fixed16,
    /// Everything else.
    Bytes,
}

/// A setting that changes how a type's text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    TimeZone,
    DateStyle,
    IntervalStyle,
    ExtraFloatDigits,
    ByteaOutput,
    LcMonetary,
}

impl PgType {
    pub fn physical(&self) -> Physical {
        match &self.kind {
            TypeKind::Bool => Physical::Bool,
            TypeKind::Int2 => Physical::I16,
            TypeKind::Int4 | TypeKind::Date => Physical::I32,
            TypeKind::Int8
            | TypeKind::Time
            | TypeKind::Timestamp
            | TypeKind::TimestampTz
            | TypeKind::Money => Physical::I64,
            TypeKind::Oid | TypeKind::Xid | TypeKind::Cid => Physical::U32,
            TypeKind::Float4 => Physical::F32,
            TypeKind::Float8 => Physical::F64,
            TypeKind::Uuid => Physical::Fixed16,
            TypeKind::Domain(base) => base.physical(),
            _ => Physical::Bytes,
        }
    }

    /// The type under any domains.
    pub fn base(&self) -> &PgType {
        match &self.kind {
            TypeKind::Domain(base) => base.base(),
            _ => self,
        }
    }

    /// Whether the binary form is known, here and in every part. Types for which this is false are
    /// [`TypeKind::Opaque`] as a whole; the catalogue makes them so.
    pub fn is_opaque(&self) -> bool {
        match &self.kind {
            TypeKind::Opaque => true,
            TypeKind::Domain(t)
            | TypeKind::Array { element: t, .. }
            | TypeKind::Range(t)
            | TypeKind::Multirange(t) => t.is_opaque(),
            TypeKind::Composite(fields) => fields.iter().any(|f| f.is_opaque()),
            _ => false,
        }
    }

    /// Calls `visit` for each setting that the text form of this type depends on (its parts
    /// included, repetitions possible).
    pub fn text_settings(&self, visit: &mut dyn FnMut(Setting)) {
        match &self.kind {
            TypeKind::Float4
            | TypeKind::Float8
            | TypeKind::Point
            | TypeKind::Line
            | TypeKind::Lseg
            | TypeKind::Box
            | TypeKind::Path
            | TypeKind::Polygon
            | TypeKind::Circle => visit(Setting::ExtraFloatDigits),
            TypeKind::Bytea => visit(Setting::ByteaOutput),
            TypeKind::Date | TypeKind::Timestamp => visit(Setting::DateStyle),
            TypeKind::TimestampTz => {
                visit(Setting::DateStyle);
                visit(Setting::TimeZone);
            }
            TypeKind::Interval => visit(Setting::IntervalStyle),
            TypeKind::Money => visit(Setting::LcMonetary),
            TypeKind::Domain(t)
            | TypeKind::Array { element: t, .. }
            | TypeKind::Range(t)
            | TypeKind::Multirange(t) => t.text_settings(visit),
            TypeKind::Composite(fields) => fields.iter().for_each(|f| f.text_settings(visit)),
            // We do not know what an extension's output function reads: all of them.
            TypeKind::Opaque => {
                for setting in [
                    Setting::TimeZone,
                    Setting::DateStyle,
                    Setting::IntervalStyle,
                    Setting::ExtraFloatDigits,
                    Setting::ByteaOutput,
                    Setting::LcMonetary,
                ] {
                    visit(setting);
                }
            }
            _ => {}
        }
    }
}
