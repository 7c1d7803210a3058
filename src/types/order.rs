//! PostgreSQL's order and equality of values, for the types where we know them exactly: comparison,
//! and keys whose byte order is that order.

use std::cmp::Ordering;

use super::{Collation, CollationOrder, Datum, PgType, TypeKind};

/// Whether equality of this type under this collation is known: two values are equal exactly when
/// [`compare`] says so.
pub fn is_comparable(ty: &PgType, collation: Collation) -> bool {
    match &ty.base().kind {
        TypeKind::Text | TypeKind::BpChar => {
            matches!(collation.order, CollationOrder::Bytes | CollationOrder::Deterministic)
        }
        _ => is_orderable(ty, collation),
    }
}

/// Whether the order of this type under this collation is known.
pub fn is_orderable(ty: &PgType, collation: Collation) -> bool {
    match &ty.base().kind {
        TypeKind::Bool
        | TypeKind::Int2
        | TypeKind::Int4
        | TypeKind::Int8
        | TypeKind::Oid
        | TypeKind::Float4
        | TypeKind::Float8
        | TypeKind::Numeric
        | TypeKind::Bytea
        | TypeKind::Date
        | TypeKind::Time
        | TypeKind::Timestamp
        | TypeKind::TimestampTz
        | TypeKind::Uuid => true,
        TypeKind::Text | TypeKind::BpChar => collation.order == CollationOrder::Bytes,
        _ => false,
    }
}

/// Compares two values of one type, NULLs last. Only meaningful where [`is_comparable`] (equality)
/// or [`is_orderable`] (order) holds; other types compare by their bytes.
pub fn compare(ty: &PgType, a: &Datum<'_>, b: &Datum<'_>) -> Ordering {
    match (a, b) {
        (Datum::Null, Datum::Null) => Ordering::Equal,
        (Datum::Null, _) => Ordering::Greater,
        (_, Datum::Null) => Ordering::Less,
        (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
        (Datum::Int2(a), Datum::Int2(b)) => a.cmp(b),
        (Datum::Int4(a), Datum::Int4(b)) => a.cmp(b),
        (Datum::Int8(a), Datum::Int8(b)) => a.cmp(b),
        (Datum::Oid(a), Datum::Oid(b)) => a.cmp(b),
        (Datum::Float4(a), Datum::Float4(b)) => compare_float(f64::from(*a), f64::from(*b)),
        (Datum::Float8(a), Datum::Float8(b)) => compare_float(*a, *b),
        (Datum::Uuid(a), Datum::Uuid(b)) => a.cmp(b),
        (Datum::Bytes(a), Datum::Bytes(b)) => match &ty.base().kind {
            TypeKind::Numeric => compare_numeric(a, b),
            TypeKind::BpChar => strip_blanks(a).cmp(strip_blanks(b)),
            _ => a.cmp(b),
        },
        // Two representations of one type cannot meet; keep the function total all the same.
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Appends a key whose byte order is [`compare`]'s order, self-delimiting so that keys of several
/// columns can be joined. NULL sorts last.
pub fn write_key(ty: &PgType, datum: &Datum<'_>, out: &mut Vec<u8>) {
    if datum.is_null() {
        out.push(2);
        return;
    }
    out.push(1);
    match datum {
        Datum::Null => {}
        Datum::Bool(v) => out.push(u8::from(*v)),
        Datum::Int2(v) => out.extend_from_slice(&((*v as u16) ^ 0x8000).to_be_bytes()),
        Datum::Int4(v) => out.extend_from_slice(&((*v as u32) ^ 0x8000_0000).to_be_bytes()),
        Datum::Int8(v) => out.extend_from_slice(&((*v as u64) ^ (1 << 63)).to_be_bytes()),
        Datum::Oid(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Float4(v) => out.extend_from_slice(&float_bits(f64::from(*v)).to_be_bytes()),
        Datum::Float8(v) => out.extend_from_slice(&float_bits(*v).to_be_bytes()),
        Datum::Uuid(v) => out.extend_from_slice(v),
        Datum::Bytes(bytes) => match &ty.base().kind {
            TypeKind::Numeric => write_numeric_key(bytes, out),
            TypeKind::BpChar => write_escaped(strip_blanks(bytes), out),
            _ => write_escaped(bytes, out),
        },
    }
}

/// Appends the identity of a value: equal bytes exactly when the values are
/// [`identical`](Datum::identical). For rows that the stream names by all their columns.
pub fn write_identity(datum: &Datum<'_>, out: &mut Vec<u8>) {
    if datum.is_null() {
        out.push(0);
        return;
    }
    out.push(1);
    match datum {
        Datum::Null => {}
        Datum::Bool(v) => out.push(u8::from(*v)),
        Datum::Int2(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Int4(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Int8(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Oid(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Float4(v) => out.extend_from_slice(&v.to_bits().to_be_bytes()),
        Datum::Float8(v) => out.extend_from_slice(&v.to_bits().to_be_bytes()),
        Datum::Uuid(v) => out.extend_from_slice(v),
        Datum::Bytes(bytes) => {
            out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

/// `char(n)` without its trailing blanks (`bpchartruelen` in `varchar.c`).
pub fn strip_blanks(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|b| *b != b' ').map_or(0, |i| i + 1);
    &bytes[..end]
}

/// PostgreSQL's float order: NaN equals itself and is greater than everything, -0 equals 0
/// (`float8_cmp_internal`).
pub fn compare_float(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

fn float_bits(v: f64) -> u64 {
    let v = if v.is_nan() {
        f64::NAN
    } else if v == 0.0 {
        0.0
    } else {
        v
    };
    let bits = v.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | (1 << 63) }
}

fn rank(d: &Datum<'_>) -> u8 {
    match d {
        Datum::Null => 0,
        Datum::Bool(_) => 1,
        Datum::Int2(_) => 2,
        Datum::Int4(_) => 3,
        Datum::Int8(_) => 4,
        Datum::Oid(_) => 5,
        Datum::Float4(_) => 6,
        Datum::Float8(_) => 7,
        Datum::Uuid(_) => 8,
        Datum::Bytes(_) => 9,
    }
}

/// 0x00 is escaped as 0x00 0xFF and the value ends with 0x00 0x00, which keeps byte order across
/// lengths.
fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for &b in bytes {
        out.push(b);
        if b == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// The wire form of a numeric (`numeric_send`): digit count, weight, sign, display scale, then
/// base-10000 digits, all 16 bits big-endian.
struct NumericParts<'a> {
    class: NumericClass,
    weight: i16,
    digits: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum NumericClass {
    NegativeInfinity,
    Negative,
    Zero,
    Positive,
    PositiveInfinity,
    NaN,
}

fn numeric_parts(bytes: &[u8]) -> NumericParts<'_> {
    let word = |i: usize| -> u16 {
        match bytes.get(i * 2..i * 2 + 2) {
            Some(pair) => u16::from_be_bytes([pair[0], pair[1]]),
            None => 0,
        }
    };
    let mut digits = bytes.get(8..).unwrap_or(&[]);
    let mut weight = word(1) as i16;
    // numeric_recv accepts leading and trailing zero digits; the server never sends them, but a
    // client's parameter may carry them, and they must not change the order.
    while digits.len() >= 2 && digits[0] == 0 && digits[1] == 0 {
        digits = &digits[2..];
        weight = weight.wrapping_sub(1);
    }
    while digits.len() >= 2 && digits[digits.len() - 1] == 0 && digits[digits.len() - 2] == 0 {
        digits = &digits[..digits.len() - 2];
    }
    let class = match word(2) {
        0xC000 => NumericClass::NaN,
        0xD000 => NumericClass::PositiveInfinity,
        0xF000 => NumericClass::NegativeInfinity,
        _ if digits.is_empty() => NumericClass::Zero,
        0x4000 => NumericClass::Negative,
        _ => NumericClass::Positive,
    };
    NumericParts { class, weight, digits }
}

/// Compares two numerics in wire form by value: the scale does not count (`cmp_numerics`).
pub fn compare_numeric(a: &[u8], b: &[u8]) -> Ordering {
    let (a, b) = (numeric_parts(a), numeric_parts(b));
    a.class.cmp(&b.class).then_with(|| {
        // Digits are big-endian pairs, so comparing bytes compares digits; a longer tail is larger
        // because trailing zeros are gone.
        let magnitude = a.weight.cmp(&b.weight).then_with(|| a.digits.cmp(b.digits));
        match a.class {
            NumericClass::Negative => magnitude.reverse(),
            NumericClass::Positive => magnitude,
            _ => Ordering::Equal,
        }
    })
}

fn write_numeric_key(bytes: &[u8], out: &mut Vec<u8>) {
    let parts = numeric_parts(bytes);
    out.push(parts.class as u8);
    let flip: u8 = match parts.class {
        NumericClass::Negative => 0xff,
        NumericClass::Positive => 0,
        _ => return,
    };
    let weight = ((parts.weight as u16) ^ 0x8000).to_be_bytes();
    out.extend(weight.iter().map(|b| b ^ flip));
    // A digit is at most 9999 = 0x270F, so a first byte of 0x00 for "end" is below any
    // continuation once each digit is shifted by one.
    for pair in parts.digits.chunks_exact(2) {
        let digit = u16::from_be_bytes([pair[0], pair[1]]) + 1;
        out.extend(digit.to_be_bytes().iter().map(|b| b ^ flip));
    }
    out.extend_from_slice(&[flip, flip]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TypeOid;

    fn ty(kind: TypeKind) -> PgType {
        PgType { oid: TypeOid(0), name: String::new(), len: -1, kind }
    }

    fn numeric(weight: i16, negative: bool, digits: &[u16], scale: u16) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&(digits.len() as u16).to_be_bytes());
        out.extend_from_slice(&weight.to_be_bytes());
        out.extend_from_slice(&(if negative { 0x4000u16 } else { 0 }).to_be_bytes());
        out.extend_from_slice(&scale.to_be_bytes());
        for d in digits {
            out.extend_from_slice(&d.to_be_bytes());
        }
        out
    }

    fn special(sign: u16) -> Vec<u8> {
        let mut out = vec![0, 0, 0, 0];
        out.extend_from_slice(&sign.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out
    }

    /// Every pair of an ascending list (with groups of equals) must order the same by comparison
    /// and by key.
    fn check_ascending(kind: TypeKind, groups: &[Vec<Datum<'_>>]) {
        let ty = ty(kind);
        for (i, group_a) in groups.iter().enumerate() {
            for (j, group_b) in groups.iter().enumerate() {
                for a in group_a {
                    for b in group_b {
                        let (mut key_a, mut key_b) = (Vec::new(), Vec::new());
                        write_key(&ty, a, &mut key_a);
                        write_key(&ty, b, &mut key_b);
                        assert_eq!(compare(&ty, a, b), i.cmp(&j), "{a:?} {b:?}");
                        assert_eq!(key_a.cmp(&key_b), i.cmp(&j), "{a:?} {b:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn numerics_order_by_value_whatever_their_scale() {
        let values = [
            vec![special(0xF000)],
            vec![numeric(1, true, &[1, 5], 0)],
            vec![numeric(0, true, &[1, 5000], 1)],
            vec![numeric(0, true, &[1], 0), numeric(0, true, &[1], 3)],
            vec![numeric(-1, true, &[1], 4)],
            vec![numeric(0, false, &[], 0), numeric(0, true, &[], 2), numeric(0, false, &[0], 0)],
            vec![numeric(-2, false, &[9999], 8)],
            vec![numeric(0, false, &[1], 0), numeric(0, false, &[1, 0], 2), numeric(1, false, &[0, 1], 2)],
            vec![numeric(0, false, &[1, 1], 4)],
            vec![numeric(0, false, &[2], 0)],
            vec![numeric(1, false, &[1], 0)],
            vec![special(0xD000)],
            vec![special(0xC000)],
        ];
        let groups: Vec<Vec<Datum<'_>>> =
            values.iter().map(|g| g.iter().map(|v| Datum::Bytes(v)).collect()).collect();
        check_ascending(TypeKind::Numeric, &groups);
    }

    #[test]
    fn floats_order_as_postgres_orders_them() {
        let groups: Vec<Vec<Datum<'_>>> = vec![
            vec![Datum::Float8(f64::NEG_INFINITY)],
            vec![Datum::Float8(-1.5)],
            vec![Datum::Float8(-f64::MIN_POSITIVE)],
            vec![Datum::Float8(0.0), Datum::Float8(-0.0)],
            vec![Datum::Float8(1e-300)],
            vec![Datum::Float8(f64::INFINITY)],
            vec![Datum::Float8(f64::NAN), Datum::Float8(-f64::NAN)],
            vec![Datum::Null],
        ];
        check_ascending(TypeKind::Float8, &groups);
    }

    #[test]
    fn text_orders_by_bytes_and_char_ignores_trailing_blanks() {
        let texts: Vec<Vec<Datum<'_>>> =
            [&b""[..], b"\0", b"\0a", b"a", b"a\0", b"a\0b", b"a ", b"ab", "é".as_bytes()]
                .into_iter()
                .map(|t| vec![Datum::Bytes(t)])
                .collect();
        check_ascending(TypeKind::Text, &texts);
        let chars = vec![
            vec![Datum::Bytes(b""), Datum::Bytes(b"   ")],
            vec![Datum::Bytes(b" a"), Datum::Bytes(b" a ")],
            vec![Datum::Bytes(b"a"), Datum::Bytes(b"a  ")],
            vec![Datum::Bytes(b"a b")],
        ];
        check_ascending(TypeKind::BpChar, &chars);
    }

    #[test]
    fn integers_order_by_value() {
        check_ascending(
            TypeKind::Int8,
            &[
                vec![Datum::Int8(i64::MIN)],
                vec![Datum::Int8(-1)],
                vec![Datum::Int8(0)],
                vec![Datum::Int8(i64::MAX)],
                vec![Datum::Null],
            ],
        );
    }
}
