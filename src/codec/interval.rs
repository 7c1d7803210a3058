//! `interval` in the `postgres` IntervalStyle: microseconds, days and months.

use bytes::{BufMut, BytesMut};

use super::{
    CodecError, Result,
    cursor::Cursor,
    datetime::{USECS_PER_HOUR, USECS_PER_MINUTE, USECS_PER_SEC, below_sixty, read_seconds, write_seconds},
    integer::{write_i64, write_padded, write_two},
};

const EXPECTED: CodecError = CodecError::Malformed("an interval in the postgres style");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interval {
    usecs: i64,
    days: i32,
    months: i32,
}

/// Servers from 17 on give the extremes of all three fields the name of infinity; before, a value
/// there is out of every operation's reach.
const INFINITY: Interval = Interval { usecs: i64::MAX, days: i32::MAX, months: i32::MAX };
const NEGATIVE_INFINITY: Interval = Interval { usecs: i64::MIN, days: i32::MIN, months: i32::MIN };

fn parts(bytes: &[u8]) -> Result<Interval> {
    let mut cursor = Cursor::new(bytes);
    let interval = Interval { usecs: cursor.i64()?, days: cursor.i32()?, months: cursor.i32()? };
    cursor.finish()?;
    Ok(interval)
}

pub(super) fn check(bytes: &[u8]) -> Result<()> {
    parts(bytes).map(|_| ())
}

/// `EncodeInterval` with `INTSTYLE_POSTGRES`.
pub(super) fn write_text(bytes: &[u8], out: &mut BytesMut) -> Result<()> {
    let interval = parts(bytes)?;
    if interval == INFINITY {
        out.extend_from_slice(b"infinity");
        return Ok(());
    }
    if interval == NEGATIVE_INFINITY {
        out.extend_from_slice(b"-infinity");
        return Ok(());
    }
    let mut is_zero = true;
    // A positive field has its sign written after a negative one.
    let mut is_before = false;
    for (value, unit) in
        [(interval.months / 12, " year"), (interval.months % 12, " mon"), (interval.days, " day")]
    {
        if value == 0 {
            continue;
        }
        if !is_zero {
            out.extend_from_slice(b" ");
        }
        if is_before && value > 0 {
            out.extend_from_slice(b"+");
        }
        write_i64(i64::from(value), out);
        out.extend_from_slice(unit.as_bytes());
        if value != 1 {
            out.extend_from_slice(b"s");
        }
        is_zero = false;
        is_before = value < 0;
    }
    if interval.usecs != 0 || is_zero {
        if !is_zero {
            out.extend_from_slice(b" ");
        }
        if interval.usecs < 0 {
            out.extend_from_slice(b"-");
        } else if is_before {
            out.extend_from_slice(b"+");
        }
        let usecs = interval.usecs.unsigned_abs();
        write_padded(usecs / USECS_PER_HOUR as u64, 2, out);
        out.extend_from_slice(b":");
        write_two((usecs / USECS_PER_MINUTE as u64 % 60) as i64, out);
        out.extend_from_slice(b":");
        write_seconds(usecs % USECS_PER_MINUTE as u64, out);
    }
    Ok(())
}

/// Appends the wire form.
pub(super) fn read_text(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let interval = match text {
        b"infinity" => INFINITY,
        b"-infinity" => NEGATIVE_INFINITY,
        _ => read_fields(text)?,
    };
    out.put_i64(interval.usecs);
    out.put_i32(interval.days);
    out.put_i32(interval.months);
    Ok(())
}

fn read_fields(text: &[u8]) -> Result<Interval> {
    let mut interval = Interval { usecs: 0, days: 0, months: 0 };
    // Fields come in this order, each at most once.
    let mut next_unit = 0;
    for word in text.split(|byte| *byte == b' ').collect::<Vec<_>>().chunks(2) {
        match word {
            [number, unit] => {
                let value = read_signed(number)?;
                let months = |months: i64| i32::try_from(months).map_err(|_| EXPECTED);
                let unit = match *unit {
                    b"year" | b"years" => 1,
                    b"mon" | b"mons" => 2,
                    b"day" | b"days" => 3,
                    _ => return Err(EXPECTED),
                };
                if unit <= next_unit {
                    return Err(EXPECTED);
                }
                next_unit = unit;
                match unit {
                    1 => interval.months = months(value.checked_mul(12).ok_or(EXPECTED)?)?,
                    2 => {
                        let sum = i64::from(interval.months).checked_add(value).ok_or(EXPECTED)?;
                        interval.months = months(sum)?;
                    }
                    _ => interval.days = i32::try_from(value).map_err(|_| EXPECTED)?,
                }
            }
            [clock] if next_unit < 4 => {
                interval.usecs = read_clock(clock)?;
                next_unit = 4;
            }
            _ => return Err(EXPECTED),
        }
    }
    Ok(interval)
}

fn read_signed(text: &[u8]) -> Result<i64> {
    super::integer::parse_i64(text.strip_prefix(b"+").unwrap_or(text))
}

/// `[+-]hours:minutes:seconds`, the sign for all three.
fn read_clock(text: &[u8]) -> Result<i64> {
    let mut cursor = Cursor::new(text);
    let negative = cursor.eat(b'-');
    if !negative {
        cursor.eat(b'+');
    }
    let hours = cursor.digits()?;
    if hours.len() < 2 {
        return Err(EXPECTED);
    }
    let hours = i128::from(super::integer::parse_u64(hours)?);
    cursor.expect(b':', "a colon")?;
    let minutes = i128::from(below_sixty(&mut cursor)?);
    cursor.expect(b':', "a colon")?;
    let usecs = i128::from(read_seconds(&mut cursor)?);
    cursor.finish()?;
    let minutes = hours * 60 + minutes;
    let usecs = minutes * i128::from(60 * USECS_PER_SEC) + usecs;
    i64::try_from(if negative { -usecs } else { usecs }).map_err(|_| EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(usecs: i64, days: i32, months: i32) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_i64(usecs);
        out.put_i32(days);
        out.put_i32(months);
        out
    }

    #[test]
    fn intervals_are_written_and_read() {
        for (usecs, days, months, expected) in [
            (0, 0, 0, "00:00:00"),
            (1, 0, 0, "00:00:00.000001"),
            (-1, 0, 0, "-00:00:00.000001"),
            (0, 1, 13, "1 year 1 mon 1 day"),
            (0, -1, -1, "-1 mons -1 days"),
            (3_600_000_000, -3, 14, "1 year 2 mons -3 days +01:00:00"),
            (0, 3, -14, "-1 years -2 mons +3 days"),
            (90_061_500_000, 0, 12, "1 year 25:01:01.5"),
            (i64::MIN, 0, 0, "-2562047788:00:54.775808"),
            (
                i64::MAX,
                i32::MIN,
                i32::MIN,
                "-178956970 years -8 mons -2147483648 days +2562047788:00:54.775807",
            ),
            (i64::MAX, i32::MAX, i32::MAX, "infinity"),
            (i64::MIN, i32::MIN, i32::MIN, "-infinity"),
        ] {
            let wire = wire(usecs, days, months);
            let mut out = BytesMut::new();
            write_text(&wire, &mut out).unwrap();
            assert_eq!(std::str::from_utf8(&out), Ok(expected));
            let mut read = Vec::new();
            assert_eq!(read_text(expected.as_bytes(), &mut read), Ok(()), "{expected}");
            assert_eq!(read, wire, "{expected}");
        }
    }

    #[test]
    fn other_styles_are_refused() {
        for bad in [
            "",
            " ",
            "1",
            "1 day ",
            "1 days 1 days",
            "1 day 1 year",
            "P1D",
            "@ 1 day",
            "1 day ago",
            "1:00:00",
            "01:00",
            "01:00:00 1 day",
            "2562047788:00:54.775808",
            "999999999999 years",
            "1 hour",
            "00:60:00",
        ] {
            assert!(read_text(bad.as_bytes(), &mut Vec::new()).is_err(), "{bad}");
        }
    }
}
