//! The text form of every type.

use bytes::{BufMut, BytesMut};

use super::{
    CodecError, Result, array,
    binary::{self, JSONB_VERSION, jsonb_text},
    bits, bytea, composite, datetime, deeper, float,
    geometry::{self, Shape},
    integer, interval, money, network, numeric, range, system, tsquery, tsvector,
};
use crate::types::{Datum, PgType, TypeKind};

/// Whether the type's text determines its value, so that [`read_text`] gives what [`read_binary`]
/// would. An opaque type is stored as its text; a type made of one cannot be built.
///
/// [`read_binary`]: super::read_binary
pub fn reads_text(ty: &PgType) -> bool {
    match &ty.kind {
        TypeKind::Opaque => true,
        TypeKind::TsQuery => false,
        TypeKind::Domain(base) => reads_text(base),
        TypeKind::Array { element: part, .. } | TypeKind::Range(part) | TypeKind::Multirange(part) => {
            reads_part(part)
        }
        TypeKind::Composite(fields) => fields.iter().all(|field| reads_part(field)),
        _ => true,
    }
}

fn reads_part(ty: &PgType) -> bool {
    reads_text(ty) && !ty.is_opaque()
}

/// Appends the text of a value exactly as the type's output function prints it under the settings
/// that the [module](super) names; nothing for `Datum::Null`, which the caller frames. No output
/// function of ours depends on the type modifier: it is applied when a value is stored.
pub fn write_text(ty: &PgType, _typmod: i32, datum: &Datum<'_>, out: &mut BytesMut) -> Result<()> {
    write_at(ty, datum, out, 0)
}

/// Reads the wire form of a part of a value at `depth` and appends its text.
pub(super) fn write_field(ty: &PgType, bytes: &[u8], out: &mut BytesMut, depth: usize) -> Result<()> {
    let depth = deeper(depth)?;
    let datum = binary::read_field(ty, bytes, depth)?;
    write_at(ty, &datum, out, depth)
}

fn write_at(ty: &PgType, datum: &Datum<'_>, out: &mut BytesMut, depth: usize) -> Result<()> {
    match (&ty.kind, datum) {
        (_, Datum::Null) => {}
        (TypeKind::Domain(base), _) => return write_at(base, datum, out, deeper(depth)?),
        (TypeKind::Bool, Datum::Bool(value)) => out.put_u8(if *value { b't' } else { b'f' }),
        (TypeKind::Int2, Datum::Int2(value)) => integer::write_i64(i64::from(*value), out),
        (TypeKind::Int4, Datum::Int4(value)) => integer::write_i64(i64::from(*value), out),
        (TypeKind::Int8, Datum::Int8(value)) => integer::write_i64(*value, out),
        (TypeKind::Oid | TypeKind::Xid | TypeKind::Cid, Datum::Oid(value)) => {
            integer::write_u64(u64::from(*value), out);
        }
        (TypeKind::Float4, Datum::Float4(value)) => float::write_f32(*value, out),
        (TypeKind::Float8, Datum::Float8(value)) => float::write_f64(*value, out),
        (TypeKind::Money, Datum::Int8(value)) => money::write_text(*value, out),
        (TypeKind::Date, Datum::Int4(value)) => datetime::write_date(datetime::check_date(*value)?, out),
        (TypeKind::Time, Datum::Int8(value)) => datetime::write_time(datetime::check_time(*value)?, out),
        (TypeKind::Timestamp, Datum::Int8(value)) => {
            datetime::write_timestamp(datetime::check_timestamp(*value)?, false, out);
        }
        (TypeKind::TimestampTz, Datum::Int8(value)) => {
            datetime::write_timestamp(datetime::check_timestamp(*value)?, true, out);
        }
        (TypeKind::Uuid, Datum::Uuid(value)) => write_uuid(value, out),
        (_, Datum::Bytes(bytes)) => return write_bytes(ty, bytes, out, depth),
        _ => return Err(CodecError::Representation),
    }
    Ok(())
}

fn write_bytes(ty: &PgType, bytes: &[u8], out: &mut BytesMut, depth: usize) -> Result<()> {
    match &ty.kind {
        TypeKind::Text
        | TypeKind::BpChar
        | TypeKind::Json
        | TypeKind::Xml
        | TypeKind::Enum(_)
        | TypeKind::Opaque => out.extend_from_slice(bytes),
        TypeKind::Jsonb => out.extend_from_slice(jsonb_text(bytes)?),
        TypeKind::Bytea => bytea::write_text(bytes, out),
        TypeKind::Char => return system::write_char(bytes, out),
        TypeKind::Tid => return system::write_tid(bytes, out),
        TypeKind::PgLsn => return system::write_lsn(bytes, out),
        TypeKind::Xid8 => return system::write_xid8(bytes, out),
        TypeKind::Numeric => return numeric::write_text(bytes, out),
        TypeKind::TimeTz => return datetime::write_timetz(bytes, out),
        TypeKind::Interval => return interval::write_text(bytes, out),
        TypeKind::Inet => return network::write_text(bytes, false, out),
        TypeKind::Cidr => return network::write_text(bytes, true, out),
        TypeKind::MacAddr | TypeKind::MacAddr8 => network::write_mac(bytes, out),
        TypeKind::Bit | TypeKind::VarBit => return bits::write_text(bytes, out),
        TypeKind::Point => return geometry::write_text(Shape::Point, bytes, out),
        TypeKind::Line => return geometry::write_text(Shape::Line, bytes, out),
        TypeKind::Lseg => return geometry::write_text(Shape::Lseg, bytes, out),
        TypeKind::Box => return geometry::write_text(Shape::Box, bytes, out),
        TypeKind::Path => return geometry::write_text(Shape::Path, bytes, out),
        TypeKind::Polygon => return geometry::write_text(Shape::Polygon, bytes, out),
        TypeKind::Circle => return geometry::write_text(Shape::Circle, bytes, out),
        TypeKind::TsVector => return tsvector::write_text(bytes, out),
        TypeKind::TsQuery => return tsquery::write_text(bytes, out),
        TypeKind::Array { element, delimiter } => {
            return array::write_text(element, *delimiter, bytes, out, depth);
        }
        TypeKind::Range(subtype) => return range::write_text(subtype, bytes, out, depth),
        TypeKind::Multirange(subtype) => return range::write_multirange(subtype, bytes, out, depth),
        TypeKind::Composite(fields) => return composite::write_text(fields, bytes, out, depth),
        _ => return Err(CodecError::Representation),
    }
    Ok(())
}

/// Reads the server's own text. What has to be built goes into `scratch` (which is cleared then),
/// anything else borrows from `text`. Only what the output function can have written is accepted,
/// not all that the input function would take; text is not checked for its encoding.
pub fn read_text<'a>(ty: &PgType, text: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Datum<'a>> {
    read_at(ty, text, scratch, 0)
}

/// Reads the text of a part of a value at `depth` and appends the part's length and wire form.
pub(super) fn append_field(ty: &PgType, text: &[u8], out: &mut Vec<u8>, depth: usize) -> Result<()> {
    let mut scratch = Vec::new();
    let datum = read_at(ty, text, &mut scratch, deeper(depth)?)?;
    let at = out.len();
    out.put_i32(0);
    binary::put(ty, &datum, out)?;
    let len = out.len() - at - 4;
    range::set_i32(out, at, len)
}

fn read_at<'a>(ty: &PgType, text: &'a [u8], scratch: &'a mut Vec<u8>, depth: usize) -> Result<Datum<'a>> {
    match &ty.kind {
        TypeKind::Bool => match text {
            b"t" => Ok(Datum::Bool(true)),
            b"f" => Ok(Datum::Bool(false)),
            _ => Err(CodecError::Malformed("t or f")),
        },
        TypeKind::Int2 => integer::parse(text).map(Datum::Int2),
        TypeKind::Int4 => integer::parse(text).map(Datum::Int4),
        TypeKind::Int8 => integer::parse(text).map(Datum::Int8),
        TypeKind::Oid | TypeKind::Xid | TypeKind::Cid => integer::parse(text).map(Datum::Oid),
        TypeKind::Float4 => float::parse_f32(text).map(Datum::Float4),
        TypeKind::Float8 => float::parse_f64(text).map(Datum::Float8),
        TypeKind::Money => money::read_text(text).map(Datum::Int8),
        TypeKind::Date => datetime::read_date(text).map(Datum::Int4),
        TypeKind::Time => datetime::read_time(text).map(Datum::Int8),
        TypeKind::Timestamp => datetime::read_timestamp(text, false).map(Datum::Int8),
        TypeKind::TimestampTz => datetime::read_timestamp(text, true).map(Datum::Int8),
        TypeKind::Uuid => read_uuid(text).map(Datum::Uuid),
        TypeKind::Domain(base) => read_at(base, text, scratch, deeper(depth)?),
        TypeKind::Text
        | TypeKind::BpChar
        | TypeKind::Json
        | TypeKind::Xml
        | TypeKind::Enum(_)
        | TypeKind::Opaque => Ok(Datum::Bytes(text)),
        TypeKind::TsQuery => Err(CodecError::NoText),
        _ => {
            scratch.clear();
            build(ty, text, scratch, depth)?;
            Ok(Datum::Bytes(scratch))
        }
    }
}

/// Appends the wire form of the types whose text is not their stored form.
fn build(ty: &PgType, text: &[u8], out: &mut Vec<u8>, depth: usize) -> Result<()> {
    match &ty.kind {
        TypeKind::Jsonb => {
            out.push(JSONB_VERSION);
            out.extend_from_slice(text);
            Ok(())
        }
        TypeKind::Bytea => bytea::read_text(text, out),
        TypeKind::Char => system::read_char(text, out),
        TypeKind::Tid => system::read_tid(text, out),
        TypeKind::PgLsn => system::read_lsn(text, out),
        TypeKind::Xid8 => system::read_xid8(text, out),
        TypeKind::Numeric => numeric::read_text(text, out),
        TypeKind::TimeTz => datetime::read_timetz(text, out),
        TypeKind::Interval => interval::read_text(text, out),
        TypeKind::Inet => network::read_text(text, false, out),
        TypeKind::Cidr => network::read_text(text, true, out),
        TypeKind::MacAddr => network::read_mac(text, 6, out),
        TypeKind::MacAddr8 => network::read_mac(text, 8, out),
        TypeKind::Bit | TypeKind::VarBit => bits::read_text(text, out),
        TypeKind::Point => geometry::read_text(Shape::Point, text, out),
        TypeKind::Line => geometry::read_text(Shape::Line, text, out),
        TypeKind::Lseg => geometry::read_text(Shape::Lseg, text, out),
        TypeKind::Box => geometry::read_text(Shape::Box, text, out),
        TypeKind::Path => geometry::read_text(Shape::Path, text, out),
        TypeKind::Polygon => geometry::read_text(Shape::Polygon, text, out),
        TypeKind::Circle => geometry::read_text(Shape::Circle, text, out),
        TypeKind::TsVector => tsvector::read_text(text, out),
        TypeKind::Array { element, delimiter } => array::read_text(element, *delimiter, text, out, depth),
        TypeKind::Range(subtype) => range::read_text(subtype, text, out, depth),
        TypeKind::Multirange(subtype) => range::read_multirange(subtype, text, out, depth),
        TypeKind::Composite(fields) => composite::read_text(fields, text, out, depth),
        _ => Err(CodecError::NoText),
    }
}

/// Groups of 8, 4, 4, 4 and 12 digits.
fn write_uuid(uuid: &[u8; 16], out: &mut BytesMut) {
    for (index, pair) in uuid.chunks(2).enumerate() {
        if matches!(index, 2..=5) {
            out.put_u8(b'-');
        }
        bytea::write_hex(pair, out);
    }
}

fn read_uuid(text: &[u8]) -> Result<[u8; 16]> {
    const EXPECTED: CodecError = CodecError::Malformed("a UUID");
    let mut rest = text;
    let mut uuid = [0; 16];
    for (index, byte) in uuid.iter_mut().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            rest = rest.strip_prefix(b"-").ok_or(EXPECTED)?;
        }
        let (pair, after) = rest.split_at_checked(2).ok_or(EXPECTED)?;
        *byte = bytea::read_pair(pair)?;
        rest = after;
    }
    if rest.is_empty() { Ok(uuid) } else { Err(EXPECTED) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{codec::reads_binary, types::TypeOid};

    fn ty(kind: TypeKind) -> PgType {
        PgType { oid: TypeOid(1), name: String::new(), len: -1, kind }
    }

    #[test]
    fn uuids_are_written_and_read() {
        let text = b"00112233-4455-6677-8899-aabbccddeeff";
        let uuid = read_uuid(text).unwrap();
        let mut out = BytesMut::new();
        write_uuid(&uuid, &mut out);
        assert_eq!(&out[..], text);
        for bad in ["", "00112233445566778899aabbccddeeff", "00112233-4455-6677-8899-aabbccddeef", "{}"] {
            assert!(read_uuid(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn datums_of_other_types_are_refused() {
        let mut out = BytesMut::new();
        for (kind, datum) in [
            (TypeKind::Int4, Datum::Int8(1)),
            (TypeKind::Int4, Datum::Bytes(b"1")),
            (TypeKind::Text, Datum::Int4(1)),
            (TypeKind::Opaque, Datum::Bool(true)),
        ] {
            assert_eq!(write_text(&ty(kind), -1, &datum, &mut out), Err(CodecError::Representation));
        }
        assert_eq!(write_text(&ty(TypeKind::Int4), -1, &Datum::Null, &mut out), Ok(()));
        assert!(out.is_empty());
    }

    #[test]
    fn opaque_types_are_their_text() {
        let opaque = ty(TypeKind::Opaque);
        let mut scratch = Vec::new();
        assert_eq!(read_text(&opaque, b"x", &mut scratch), Ok(Datum::Bytes(b"x")));
        assert_eq!(binary::read_binary(&opaque, b"x"), Err(CodecError::NoBinary));
        let mut out = BytesMut::new();
        assert_eq!(binary::write_binary(&opaque, &Datum::Bytes(b"x"), &mut out), Err(CodecError::NoBinary));
        let array = ty(TypeKind::Array { element: Arc::new(opaque), delimiter: b',' });
        assert!(!reads_text(&array) && !reads_binary(&array));
    }

    #[test]
    fn nesting_has_a_limit() {
        let mut nested = ty(TypeKind::Int4);
        for _ in 0..100 {
            nested = ty(TypeKind::Composite(vec![Arc::new(nested)]));
        }
        let text = [vec![b'('; 101], vec![b')'; 101]].concat();
        let mut scratch = Vec::new();
        // Quotes are missing, so that the first level ends where the second begins.
        assert!(read_text(&nested, &text, &mut scratch).is_err());
        let mut wire = Vec::new();
        for _ in 0..100 {
            let mut outer = vec![0, 0, 0, 1, 0, 0, 0, 1];
            outer.put_i32(wire.len() as i32);
            outer.extend_from_slice(&wire);
            wire = outer;
        }
        assert_eq!(binary::read_binary(&nested, &wire), Err(CodecError::TooDeep));
    }
}
