//! Text to values: input functions of the types we compute on, restricted to forms that mean one
//! thing in every version and setting. Anything else is for the primary, which may refuse it.

use super::{Reason, numeric, scalar::Scalar, value::Value};
use crate::types::{Lsn, TypeKind};

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// Reads a literal or a text parameter as this type. `utc`: whether a time without an offset is at
/// offset zero.
pub(crate) fn parse(scalar: &Scalar, text: &str, utc: bool) -> Result<Value, Reason> {
    if text.contains('\0') {
        return Err(Reason::Value);
    }
    parse_known(scalar, text, utc).ok_or(Reason::Value)
}

fn parse_known(scalar: &Scalar, text: &str, utc: bool) -> Option<Value> {
    Some(match scalar {
        Scalar::Bool => Value::Bool(parse_bool(text)?),
        Scalar::Int2 => Value::Int2(parse_int(text)?.try_into().ok()?),
        Scalar::Int4 => Value::Int4(parse_int(text)?.try_into().ok()?),
        Scalar::Int8 => Value::Int8(parse_int(text)?.try_into().ok()?),
        // `oidin` also takes negative numbers, by wrapping.
        Scalar::Oid => Value::Oid(parse_int(text).filter(|v| *v >= 0)?.try_into().ok()?),
        Scalar::Float4 => Value::Float4(parse_float(text)?),
        Scalar::Float8 => Value::Float8(parse_float(text)?),
        Scalar::Numeric => Value::Bytes(numeric::from_decimal(blank_trimmed(text))?.into()),
        Scalar::Text | Scalar::Varchar | Scalar::BpChar => Value::text(text),
        // `namein` truncates silently.
        Scalar::Name => Value::text(Some(text).filter(|t| t.len() < 64)?),
        Scalar::Bytea => Value::Bytes(parse_hex(text.strip_prefix("\\x")?)?.into()),
        Scalar::Date => Value::Int4(parse_date(text)?),
        Scalar::Time => return None,
        Scalar::Timestamp => match parse_timestamp(text)? {
            (local, None) => Value::Int8(local),
            // An offset would be ignored.
            (_, Some(_)) => return None,
        },
        Scalar::TimestampTz => match parse_timestamp(text)? {
            (local, Some(offset)) => Value::Int8(local - offset),
            (local, None) if utc => Value::Int8(local),
            (_, None) => return None,
        },
        Scalar::Uuid => Value::Uuid(parse_uuid(text)?),
        Scalar::PgLsn => {
            let lsn: Lsn = text.parse().ok()?;
            Value::Bytes(lsn.0.to_be_bytes().into())
        }
        Scalar::Enum(ty) => match &ty.kind {
            TypeKind::Enum(labels) if labels.iter().any(|l| l == text) => Value::text(text),
            _ => return None,
        },
    })
}

fn blank_trimmed(text: &str) -> &str {
    text.trim_matches(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c'))
}

fn parse_int(text: &str) -> Option<i128> {
    let text = blank_trimmed(text);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || digits.len() > 30 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn parse_bool(text: &str) -> Option<bool> {
    match blank_trimmed(text).to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "on" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A finite decimal that neither overflows nor vanishes.
fn parse_float<F: std::str::FromStr + Into<f64> + Copy>(text: &str) -> Option<F> {
    let text = blank_trimmed(text);
    if !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
        return None;
    }
    let value: F = text.parse().ok()?;
    let wide: f64 = value.into();
    let mantissa = text.split(['e', 'E']).next().unwrap_or("");
    let is_zero = mantissa.bytes().all(|b| !matches!(b, b'1'..=b'9'));
    (wide.is_finite() && (wide == 0.0) == is_zero).then_some(value)
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some((hex_digit(pair[0])? << 4) | hex_digit(pair[1])?))
        .collect()
}

fn hex_digit(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).map(|d| d as u8)
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let dashes = [8, 13, 18, 23];
    if text.len() != 36 || !text.bytes().enumerate().all(|(i, b)| (b == b'-') == dashes.contains(&i)) {
        return None;
    }
    parse_hex(&text.replace('-', ""))?.try_into().ok()
}

/// `YYYY-MM-DD`, the same under every DateStyle. Days since 2000-01-01.
fn parse_date(text: &str) -> Option<i32> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = digits(text.get(0..4)?)?;
    let month = digits(text.get(5..7)?)?;
    let day = digits(text.get(8..10)?)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1 || day < 1 || day > length {
        return None;
    }
    // Days from civil, counted from 0000-03-01.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    // 2000-01-01 counted in the same way.
    i32::try_from(days - 730_425).ok()
}

/// `YYYY-MM-DD[( |T)HH:MM[:SS[.ffffff]]][offset]` as microseconds since 2000-01-01 and the offset in
/// microseconds east.
fn parse_timestamp(text: &str) -> Option<(i64, Option<i64>)> {
    let date = i64::from(parse_date(text.get(0..10)?)?);
    let rest = text.get(10..)?;
    if rest.is_empty() {
        return Some((date * DAY_US, None));
    }
    let rest = rest.strip_prefix([' ', 'T'])?;
    let zone = rest.find(['+', '-', 'Z']).unwrap_or(rest.len());
    let (time, zone) = (rest.get(..zone)?, rest.get(zone..)?);
    let (clock, fraction) = match time.split_once('.') {
        Some((clock, fraction)) if clock.len() == 8 => (clock, fraction_us(fraction)?),
        Some(_) => return None,
        None => (time, 0),
    };
    let bytes = clock.as_bytes();
    let seconds = match bytes.len() {
        5 if bytes[2] == b':' => 0,
        8 if bytes[2] == b':' && bytes[5] == b':' => digits(clock.get(6..8)?)?,
        _ => return None,
    };
    let (hours, minutes) = (digits(clock.get(0..2)?)?, digits(clock.get(3..5)?)?);
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let time_us = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction;
    Some((date * DAY_US + time_us, parse_offset(zone)?))
}

fn fraction_us(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 6 {
        return None;
    }
    Some(digits(text)? * 10i64.pow(6 - text.len() as u32))
}

/// `Z`, `+HH` or `+HH:MM`; the outer option is failure, the inner absence.
fn parse_offset(text: &str) -> Option<Option<i64>> {
    let (sign, body) = match text.as_bytes().first() {
        None => return Some(None),
        Some(b'Z') if text.len() == 1 => return Some(Some(0)),
        Some(b'+') => (1, &text[1..]),
        Some(b'-') => (-1, &text[1..]),
        Some(_) => return None,
    };
    let minutes = match body.len() {
        2 => 0,
        5 if body.as_bytes()[2] == b':' => digits(body.get(3..5)?)?,
        _ => return None,
    };
    let hours = digits(body.get(0..2)?)?;
    if hours > 14 || minutes > 59 {
        return None;
    }
    Some(Some(sign * (hours * 60 + minutes) * 60_000_000))
}

fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms_are_read_and_others_left() {
        use Scalar::{Bool, Bytea, Date, Float4, Float8, Int2, Int4, Oid, Timestamp, TimestampTz, Uuid};
        let hour = 3_600_000_000;
        for (scalar, text, expected) in [
            (Int4, " -5 ", Some(Value::Int4(-5))),
            (Int4, "+7", Some(Value::Int4(7))),
            (Int4, "2147483648", None),
            (Int2, "-32768", Some(Value::Int2(-32768))),
            (Int4, "0x10", None),
            (Int4, "1_0", None),
            (Int4, "", None),
            (Int4, "- 1", None),
            (Int4, "1.0", None),
            (Oid, "4294967295", Some(Value::Oid(u32::MAX))),
            (Oid, "-1", None),
            (Float8, "1.5e3", Some(Value::Float8(1500.0))),
            (Float8, "-0", Some(Value::Float8(-0.0))),
            (Float8, "1e400", None),
            (Float8, "1e-400", None),
            (Float8, "inf", None),
            (Float4, "1e39", None),
            (Float4, "0.1", Some(Value::Float4(0.1))),
            (Bool, "Yes", Some(Value::Bool(true))),
            (Bool, "tr", None),
            (Bytea, "\\x00fF", Some(Value::Bytes([0, 255].into()))),
            (Bytea, "\\x0", None),
            (Bytea, "abc", None),
            (Date, "2000-01-01", Some(Value::Int4(0))),
            (Date, "1999-12-31", Some(Value::Int4(-1))),
            (Date, "0001-01-01", Some(Value::Int4(-730_119))),
            (Date, "9999-12-31", Some(Value::Int4(2_921_939))),
            (Date, "2024-02-29", Some(Value::Int4(8825))),
            (Date, "2023-02-29", None),
            (Date, "0000-01-01", None),
            (Date, "today", None),
            (Date, "2024-1-1", None),
            (Date, "01/02/2024", None),
            (Timestamp, "2000-01-02", Some(Value::Int8(DAY_US))),
            (Timestamp, "2000-01-01 01:00:00.5", Some(Value::Int8(hour + 500_000))),
            (Timestamp, "1999-12-31 23:00", Some(Value::Int8(-hour))),
            (Timestamp, "2000-01-01 24:00:00", None),
            (Timestamp, "2000-01-01 00:00:60", None),
            (Timestamp, "2000-01-01 01:00:00Z", None),
            (TimestampTz, "2000-01-01T01:00:00Z", Some(Value::Int8(hour))),
            (TimestampTz, "2000-01-01 01:00:00+01", Some(Value::Int8(0))),
            (TimestampTz, "2000-01-01 01:00:00-05:30", Some(Value::Int8(hour * 13 / 2))),
            (TimestampTz, "2000-01-01 01:00:00 UTC", None),
            (TimestampTz, "now", None),
            (
                Uuid,
                "00000000-0000-0000-0000-0000000000Ff",
                Some(Value::Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255])),
            ),
            (Uuid, "{00000000-0000-0000-0000-0000000000ff}", None),
            (Scalar::Name, "n", Some(Value::text("n"))),
            (Scalar::PgLsn, "0/10", Some(Value::Bytes([0, 0, 0, 0, 0, 0, 0, 16].into()))),
            (Scalar::Text, "a\0b", None),
        ] {
            assert_eq!(parse(&scalar, text, false).ok(), expected, "{scalar:?} {text}");
        }
        assert_eq!(parse(&TimestampTz, "2000-01-01 01:00:00", true), Ok(Value::Int8(hour)));
        assert_eq!(parse(&TimestampTz, "2000-01-01 01:00:00", false), Err(Reason::Value));
        assert_eq!(parse(&Scalar::Name, &"n".repeat(64), false), Err(Reason::Value));
    }
}
