//! The binary wire form of every type.

use bytes::{BufMut, BytesMut};

use super::{
    CodecError, Result, array, bits, composite, datetime, deeper,
    geometry::{self, Shape},
    interval, network, numeric, range, system, tsquery, tsvector,
};
use crate::types::{Datum, PgType, TypeKind};

/// Whether values of the type can be read from their binary form and written in it, exactly.
pub fn reads_binary(ty: &PgType) -> bool {
    !ty.is_opaque()
}

/// Appends the type's binary wire form (its send function); nothing for `Datum::Null`, which the
/// caller frames. A type with an opaque part has none: [`CodecError::NoBinary`].
pub fn write_binary(ty: &PgType, datum: &Datum<'_>, out: &mut BytesMut) -> Result<()> {
    put(ty, datum, out)
}

/// [`write_binary`] into any buffer.
pub(super) fn put(ty: &PgType, datum: &Datum<'_>, out: &mut impl BufMut) -> Result<()> {
    match datum {
        Datum::Null => {}
        Datum::Bool(value) => out.put_u8(u8::from(*value)),
        Datum::Int2(value) => out.put_i16(*value),
        Datum::Int4(value) => out.put_i32(*value),
        Datum::Int8(value) => out.put_i64(*value),
        Datum::Oid(value) => out.put_u32(*value),
        Datum::Float4(value) => out.put_u32(value.to_bits()),
        Datum::Float8(value) => out.put_u64(value.to_bits()),
        Datum::Uuid(value) => out.put_slice(value),
        Datum::Bytes(value) => {
            if ty.is_opaque() {
                return Err(CodecError::NoBinary);
            }
            out.put_slice(value);
        }
    }
    Ok(())
}

/// Reads the type's binary wire form. Lengths, counts and ranges are checked, so that writing the
/// value as text cannot fail later; text is not checked for its encoding.
pub fn read_binary<'a>(ty: &PgType, bytes: &'a [u8]) -> Result<Datum<'a>> {
    read_at(ty, bytes, 0)
}

/// Reads a part of a value at `depth`.
pub(super) fn read_field<'a>(ty: &PgType, bytes: &'a [u8], depth: usize) -> Result<Datum<'a>> {
    read_at(ty, bytes, deeper(depth)?)
}

fn read_at<'a>(ty: &PgType, bytes: &'a [u8], depth: usize) -> Result<Datum<'a>> {
    let checked = match &ty.kind {
        TypeKind::Bool => {
            return match bytes {
                [0] => Ok(Datum::Bool(false)),
                // `boolrecv` takes any other byte for true.
                [_] => Ok(Datum::Bool(true)),
                _ => Err(CodecError::Malformed("one byte")),
            };
        }
        TypeKind::Int2 => return fixed(bytes).map(|b| Datum::Int2(i16::from_be_bytes(b))),
        TypeKind::Int4 => return fixed(bytes).map(|b| Datum::Int4(i32::from_be_bytes(b))),
        TypeKind::Int8 | TypeKind::Money => return fixed(bytes).map(|b| Datum::Int8(i64::from_be_bytes(b))),
        TypeKind::Oid | TypeKind::Xid | TypeKind::Cid => {
            return fixed(bytes).map(|b| Datum::Oid(u32::from_be_bytes(b)));
        }
        TypeKind::Float4 => return fixed(bytes).map(|b| Datum::Float4(f32::from_be_bytes(b))),
        TypeKind::Float8 => return fixed(bytes).map(|b| Datum::Float8(f64::from_be_bytes(b))),
        TypeKind::Uuid => return fixed(bytes).map(Datum::Uuid),
        TypeKind::Date => return datetime::check_date(i32::from_be_bytes(fixed(bytes)?)).map(Datum::Int4),
        TypeKind::Time => return datetime::check_time(i64::from_be_bytes(fixed(bytes)?)).map(Datum::Int8),
        TypeKind::Timestamp | TypeKind::TimestampTz => {
            return datetime::check_timestamp(i64::from_be_bytes(fixed(bytes)?)).map(Datum::Int8);
        }
        TypeKind::Domain(base) => return read_at(base, bytes, deeper(depth)?),
        TypeKind::Opaque => return Err(CodecError::NoBinary),
        TypeKind::Text
        | TypeKind::BpChar
        | TypeKind::Bytea
        | TypeKind::Json
        | TypeKind::Xml
        | TypeKind::Enum(_) => Ok(()),
        TypeKind::Jsonb => jsonb_text(bytes).map(|_| ()),
        TypeKind::Char => system::check_char(bytes),
        TypeKind::Tid => system::check_tid(bytes),
        TypeKind::PgLsn | TypeKind::Xid8 => system::check_u64(bytes),
        TypeKind::Numeric => numeric::check(bytes),
        TypeKind::TimeTz => datetime::check_timetz(bytes),
        TypeKind::Interval => interval::check(bytes),
        TypeKind::Inet => network::check(bytes, false),
        TypeKind::Cidr => network::check(bytes, true),
        TypeKind::MacAddr => network::check_mac(bytes, 6),
        TypeKind::MacAddr8 => network::check_mac(bytes, 8),
        TypeKind::Bit | TypeKind::VarBit => bits::check(bytes),
        TypeKind::Point => geometry::check(Shape::Point, bytes),
        TypeKind::Line => geometry::check(Shape::Line, bytes),
        TypeKind::Lseg => geometry::check(Shape::Lseg, bytes),
        TypeKind::Box => geometry::check(Shape::Box, bytes),
        TypeKind::Path => geometry::check(Shape::Path, bytes),
        TypeKind::Polygon => geometry::check(Shape::Polygon, bytes),
        TypeKind::Circle => geometry::check(Shape::Circle, bytes),
        TypeKind::TsVector => tsvector::check(bytes),
        TypeKind::TsQuery => tsquery::check(bytes),
        TypeKind::Array { element, .. } => array::check(element, bytes, depth),
        TypeKind::Range(subtype) => range::check(subtype, bytes, depth),
        TypeKind::Multirange(subtype) => range::check_multirange(subtype, bytes, depth),
        TypeKind::Composite(fields) => composite::check(fields, bytes, depth),
    };
    checked.map(|()| Datum::Bytes(bytes))
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| CodecError::Malformed("the type's fixed length"))
}

/// The version that `jsonb_send` writes before the text.
pub(super) const JSONB_VERSION: u8 = 1;

pub(super) fn jsonb_text(bytes: &[u8]) -> Result<&[u8]> {
    match bytes {
        [JSONB_VERSION, text @ ..] => Ok(text),
        _ => Err(CodecError::Malformed("version 1 of jsonb")),
    }
}
