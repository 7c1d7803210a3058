//! Parameters as clients send them, to values.

use super::{Reason, literal, numeric, scalar::Scalar, value::Value};
use crate::types::TypeKind;

/// `MIN_TIMESTAMP` and `END_TIMESTAMP` (`datatype/timestamp.h`), in microseconds since 2000-01-01.
const TIMESTAMPS_US: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
/// `IS_VALID_DATE`, in days since 2000-01-01.
const DATES: std::ops::Range<i32> = -2_451_545..2_145_031_949;

/// Reads one parameter. What the type's receive or input function would refuse or change is for the
/// primary.
pub(crate) fn decode(
    scalar: &Scalar,
    bytes: Option<&[u8]>,
    binary: bool,
    utc: bool,
) -> Result<Value, Reason> {
    let Some(bytes) = bytes else { return Ok(Value::Null) };
    if binary {
        return decode_binary(scalar, bytes).ok_or(Reason::Value);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Reason::Value)?;
    literal::parse(scalar, text, utc)
}

fn decode_binary(scalar: &Scalar, bytes: &[u8]) -> Option<Value> {
    Some(match scalar {
        Scalar::Bool => match bytes {
            [byte] => Value::Bool(*byte != 0),
            _ => return None,
        },
        Scalar::Int2 => Value::Int2(i16::from_be_bytes(bytes.try_into().ok()?)),
        Scalar::Int4 => Value::Int4(i32::from_be_bytes(bytes.try_into().ok()?)),
        Scalar::Int8 => Value::Int8(i64::from_be_bytes(bytes.try_into().ok()?)),
        Scalar::Oid => Value::Oid(u32::from_be_bytes(bytes.try_into().ok()?)),
        Scalar::Float4 => Value::Float4(f32::from_be_bytes(bytes.try_into().ok()?)),
        Scalar::Float8 => Value::Float8(f64::from_be_bytes(bytes.try_into().ok()?)),
        Scalar::Numeric => Value::Bytes(Some(bytes).filter(|b| numeric::is_exact_wire_form(b))?.into()),
        Scalar::Text | Scalar::Varchar | Scalar::BpChar => Value::text(text(bytes)?),
        Scalar::Name => Value::text(Some(text(bytes)?).filter(|t| t.len() < 64)?),
        Scalar::Bytea => Value::Bytes(bytes.into()),
        Scalar::Date => {
            let days = i32::from_be_bytes(bytes.try_into().ok()?);
            let valid = DATES.contains(&days) || days == i32::MIN || days == i32::MAX;
            Value::Int4(Some(days).filter(|_| valid)?)
        }
        Scalar::Time => return None,
        Scalar::Timestamp | Scalar::TimestampTz => {
            let us = i64::from_be_bytes(bytes.try_into().ok()?);
            let valid = TIMESTAMPS_US.contains(&us) || us == i64::MIN || us == i64::MAX;
            Value::Int8(Some(us).filter(|_| valid)?)
        }
        Scalar::Uuid => Value::Uuid(bytes.try_into().ok()?),
        Scalar::PgLsn => Value::Bytes(Some(bytes).filter(|b| b.len() == 8)?.into()),
        Scalar::Enum(ty) => {
            let label = text(bytes)?;
            match &ty.kind {
                TypeKind::Enum(labels) if labels.iter().any(|l| l == label) => Value::text(label),
                _ => return None,
            }
        }
    })
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|t| !t.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_forms_are_checked() {
        for (scalar, bytes, expected) in [
            (Scalar::Int4, &[0, 0, 0, 7][..], Some(Value::Int4(7))),
            (Scalar::Int4, &[0, 7], None),
            (Scalar::Bool, &[2], Some(Value::Bool(true))),
            (Scalar::Text, b"a", Some(Value::text("a"))),
            (Scalar::Text, b"a\0", None),
            (Scalar::Text, &[0xff], None),
            (Scalar::Date, &[0x7f, 0xff, 0xff, 0xff], Some(Value::Int4(i32::MAX))),
            (Scalar::Date, &[0x7f, 0xff, 0xff, 0xfe], None),
            (Scalar::Timestamp, &[0x80, 0, 0, 0, 0, 0, 0, 1], None),
            (Scalar::Uuid, &[1], None),
            (Scalar::Numeric, &[0, 0], None),
        ] {
            assert_eq!(decode(&scalar, Some(bytes), true, false).ok(), expected, "{scalar:?} {bytes:?}");
        }
        assert_eq!(decode(&Scalar::Int4, None, true, false), Ok(Value::Null));
        assert_eq!(decode(&Scalar::Int4, Some(b"12"), false, false), Ok(Value::Int4(12)));
        assert_eq!(decode(&Scalar::Int4, Some(&[0xff]), false, false), Err(Reason::Value));
    }
}
