//! Dates, times and timestamps in the ISO DateStyle and UTC, on PostgreSQL's own counts: days and
//! microseconds from 2000-01-01. The calendar is the proleptic Gregorian one, without a year 0.

use bytes::{BufMut, BytesMut};

use super::{
    CodecError, Result,
    cursor::Cursor,
    integer::{two_digits, write_two, write_u64},
};

pub(super) const USECS_PER_SEC: i64 = 1_000_000;
pub(super) const USECS_PER_MINUTE: i64 = 60 * USECS_PER_SEC;
pub(super) const USECS_PER_HOUR: i64 = 60 * USECS_PER_MINUTE;
const USECS_PER_DAY: i64 = 24 * USECS_PER_HOUR;
/// `MIN_TIMESTAMP` and `END_TIMESTAMP` of `datatype/timestamp.h`.
const TIMESTAMPS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
/// 4714-11-24 BC, where Julian days begin, to 5874897-12-31 (`IS_VALID_DATE`).
const DATES: std::ops::Range<i32> = -2_451_545..2_145_031_949;
/// `TZDISP_LIMIT`: displacements are less than 16 hours.
const MAX_OFFSET_SECS: i64 = 16 * 3600 - 1;

const EXPECTED_DATE: CodecError = CodecError::Malformed("an ISO date in range");
const EXPECTED_TIME: CodecError = CodecError::Malformed("a time in range");
const EXPECTED_TIMESTAMP: CodecError = CodecError::Malformed("an ISO timestamp in range");

pub(super) fn check_date(days: i32) -> Result<i32> {
    let valid = DATES.contains(&days) || days == i32::MIN || days == i32::MAX;
    if valid { Ok(days) } else { Err(EXPECTED_DATE) }
}

pub(super) fn check_time(usecs: i64) -> Result<i64> {
    if (0..=USECS_PER_DAY).contains(&usecs) { Ok(usecs) } else { Err(EXPECTED_TIME) }
}

pub(super) fn check_timestamp(usecs: i64) -> Result<i64> {
    let valid = TIMESTAMPS.contains(&usecs) || usecs == i64::MIN || usecs == i64::MAX;
    if valid { Ok(usecs) } else { Err(EXPECTED_TIMESTAMP) }
}

pub(super) fn write_date(days: i32, out: &mut BytesMut) {
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        _ => {
            let year = write_day(i64::from(days), out);
            write_era(year, out);
        }
    }
}

pub(super) fn write_time(usecs: i64, out: &mut BytesMut) {
    let [h1, h2] = two_digits((usecs / USECS_PER_HOUR) as u8);
    let [m1, m2] = two_digits((usecs / USECS_PER_MINUTE % 60) as u8);
    out.extend_from_slice(&[h1, h2, b':', m1, m2, b':']);
    write_seconds((usecs % USECS_PER_MINUTE) as u64, out);
}

pub(super) fn write_timestamp(usecs: i64, with_zone: bool, out: &mut BytesMut) {
    match usecs {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        _ => {
            let year = write_day(usecs.div_euclid(USECS_PER_DAY), out);
            out.extend_from_slice(b" ");
            write_time(usecs.rem_euclid(USECS_PER_DAY), out);
            if with_zone {
                out.extend_from_slice(b"+00");
            }
            write_era(year, out);
        }
    }
}

/// The parts of a `timetz`: microseconds, then seconds west of Greenwich.
fn timetz_parts(bytes: &[u8]) -> Result<(i64, i64)> {
    let mut cursor = Cursor::new(bytes);
    let usecs = check_time(cursor.i64()?)?;
    let west = i64::from(cursor.i32()?);
    cursor.finish()?;
    if west.abs() > MAX_OFFSET_SECS { Err(EXPECTED_TIME) } else { Ok((usecs, west)) }
}

pub(super) fn check_timetz(bytes: &[u8]) -> Result<()> {
    timetz_parts(bytes).map(|_| ())
}

pub(super) fn write_timetz(bytes: &[u8], out: &mut BytesMut) -> Result<()> {
    let (usecs, west) = timetz_parts(bytes)?;
    write_time(usecs, out);
    out.extend_from_slice(if west <= 0 { b"+" } else { b"-" });
    let offset = west.abs();
    write_two(offset / 3600, out);
    if offset % 3600 != 0 {
        out.extend_from_slice(b":");
        write_two(offset / 60 % 60, out);
    }
    if offset % 60 != 0 {
        out.extend_from_slice(b":");
        write_two(offset % 60, out);
    }
    Ok(())
}

/// Seconds below 60 with two digits, and a fraction without its trailing zeros (`AppendSeconds`).
pub(super) fn write_seconds(usecs: u64, out: &mut BytesMut) {
    const SECOND: u64 = USECS_PER_SEC as u64;
    let [s1, s2] = two_digits((usecs / SECOND % 60) as u8);
    let fraction = usecs % SECOND;
    let [f1, f2] = two_digits((fraction / 10_000) as u8);
    let [f3, f4] = two_digits((fraction / 100 % 100) as u8);
    let [f5, f6] = two_digits((fraction % 100) as u8);
    let written = [s1, s2, b'.', f1, f2, f3, f4, f5, f6];
    let zeros = written.iter().rev().take_while(|digit| **digit == b'0').count();
    let len = if fraction == 0 { 2 } else { written.len() - zeros };
    out.extend_from_slice(written.get(..len).unwrap_or(&written));
}

pub(super) fn read_date(text: &[u8]) -> Result<i32> {
    match text {
        b"infinity" => Ok(i32::MAX),
        b"-infinity" => Ok(i32::MIN),
        _ => {
            let mut cursor = Cursor::new(text);
            let date = read_day(&mut cursor)?;
            let days = i32::try_from(finish_day(date, &mut cursor)?).map_err(|_| EXPECTED_DATE)?;
            if DATES.contains(&days) { Ok(days) } else { Err(EXPECTED_DATE) }
        }
    }
}

pub(super) fn read_time(text: &[u8]) -> Result<i64> {
    let mut cursor = Cursor::new(text);
    let usecs = read_clock(&mut cursor)?;
    cursor.finish()?;
    Ok(usecs)
}

pub(super) fn read_timestamp(text: &[u8], with_zone: bool) -> Result<i64> {
    match text {
        b"infinity" => return Ok(i64::MAX),
        b"-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    let mut cursor = Cursor::new(text);
    let date = read_day(&mut cursor)?;
    cursor.expect(b' ', "a blank between date and time")?;
    let usecs = read_clock(&mut cursor)?;
    if usecs == USECS_PER_DAY || with_zone && !cursor.eat_all(b"+00") {
        return Err(EXPECTED_TIMESTAMP);
    }
    let days = finish_day(date, &mut cursor)?;
    let usecs =
        days.checked_mul(USECS_PER_DAY).and_then(|d| d.checked_add(usecs)).ok_or(EXPECTED_TIMESTAMP)?;
    if TIMESTAMPS.contains(&usecs) { Ok(usecs) } else { Err(EXPECTED_TIMESTAMP) }
}

/// Appends the wire form.
pub(super) fn read_timetz(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut cursor = Cursor::new(text);
    let usecs = read_clock(&mut cursor)?;
    let east = match cursor.u8()? {
        b'+' => true,
        b'-' => false,
        _ => return Err(EXPECTED_TIME),
    };
    let mut offset = cursor.two_digits()? * 3600;
    if cursor.eat(b':') {
        offset += below_sixty(&mut cursor)? * 60;
        if cursor.eat(b':') {
            offset += below_sixty(&mut cursor)?;
        }
    }
    cursor.finish()?;
    if offset > MAX_OFFSET_SECS {
        return Err(EXPECTED_TIME);
    }
    out.put_i64(usecs);
    out.put_i32(if east { -offset as i32 } else { offset as i32 });
    Ok(())
}

/// Seconds with up to six decimals, in microseconds; below 60.
pub(super) fn read_seconds(cursor: &mut Cursor<'_>) -> Result<i64> {
    let seconds = below_sixty(cursor)?;
    let mut usecs = seconds * USECS_PER_SEC;
    if cursor.eat(b'.') {
        let digits = cursor.digits()?;
        if digits.len() > 6 {
            return Err(EXPECTED_TIME);
        }
        let mut unit = USECS_PER_SEC;
        for digit in digits {
            unit /= 10;
            usecs += i64::from(digit - b'0') * unit;
        }
    }
    Ok(usecs)
}

pub(super) fn below_sixty(cursor: &mut Cursor<'_>) -> Result<i64> {
    let number = cursor.two_digits()?;
    if number < 60 { Ok(number) } else { Err(EXPECTED_TIME) }
}

fn read_clock(cursor: &mut Cursor<'_>) -> Result<i64> {
    let hours = cursor.two_digits()?;
    cursor.expect(b':', "a colon")?;
    let minutes = below_sixty(cursor)?;
    cursor.expect(b':', "a colon")?;
    check_time(hours * USECS_PER_HOUR + minutes * USECS_PER_MINUTE + read_seconds(cursor)?)
}

/// A year as written, a month and a day.
type WrittenDay = (i64, i64, i64);

fn read_day(cursor: &mut Cursor<'_>) -> Result<WrittenDay> {
    let digits = cursor.digits()?;
    // Years are written with four digits or more.
    if !(4..=7).contains(&digits.len()) {
        return Err(EXPECTED_DATE);
    }
    let year = super::integer::parse_i64(digits)?;
    cursor.expect(b'-', "a dash")?;
    let month = cursor.two_digits()?;
    cursor.expect(b'-', "a dash")?;
    let day = cursor.two_digits()?;
    Ok((year, month, day))
}

/// Reads the era, which comes after everything else, and counts days from 2000-01-01. No year 0 is
/// written.
fn finish_day((written, month, day): WrittenDay, cursor: &mut Cursor<'_>) -> Result<i64> {
    let year = if cursor.eat_all(b" BC") { 1 - written } else { written };
    cursor.finish()?;
    let days = days_from_civil(year, month, day);
    // A date that does not exist comes back as another.
    if written > 0 && (1..=12).contains(&month) && civil_from_days(days) == (year, month, day) {
        Ok(days)
    } else {
        Err(EXPECTED_DATE)
    }
}

/// Writes the day without its era, and gives the astronomical year (0 is 1 BC).
fn write_day(days: i64, out: &mut BytesMut) -> i64 {
    let (year, month, day) = civil_from_days(days);
    let written = if year > 0 { year } else { 1 - year };
    let [m1, m2] = two_digits(month as u8);
    let [d1, d2] = two_digits(day as u8);
    if written <= 9999 {
        let [y1, y2] = two_digits((written / 100) as u8);
        let [y3, y4] = two_digits((written % 100) as u8);
        out.extend_from_slice(&[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2]);
    } else {
        write_u64(written.unsigned_abs(), out);
        out.extend_from_slice(&[b'-', m1, m2, b'-', d1, d2]);
    }
    year
}

fn write_era(year: i64, out: &mut BytesMut) {
    if year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

/// Days from 0000-03-01 to 2000-01-01; years that begin in March end with the leap day.
const MARCH_EPOCH: i64 = 730_425;
const DAYS_PER_ERA: i64 = 146_097;

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + MARCH_EPOCH;
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - MARCH_EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn dates_are_written_and_read() {
        for (days, expected) in [
            (0, "2000-01-01"),
            (-1, "1999-12-31"),
            (59, "2000-02-29"),
            (DATES.start, "4714-11-24 BC"),
            (DATES.end - 1, "5874897-12-31"),
            (-730_119, "0001-01-01"),
            (-730_120, "0001-12-31 BC"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
        ] {
            assert_eq!(text(|out| write_date(days, out)), expected);
            assert_eq!(read_date(expected.as_bytes()), Ok(days));
        }
        for bad in [
            "",
            "2000-02-30",
            "2001-02-29",
            "2000-13-01",
            "2000-00-01",
            "2000-01-00",
            "0000-01-01",
            "0000-01-01 BC",
            "200-01-01",
            "2000-1-1",
            "2000-01-01 AD",
            "4714-11-23 BC",
            "5874898-01-01",
            " 2000-01-01",
            "99999999999999999999-01-01",
            "2000-01-01x",
        ] {
            assert!(read_date(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn timestamps_are_written_and_read() {
        for (usecs, expected) in [
            (0, "2000-01-01 00:00:00"),
            (-1, "1999-12-31 23:59:59.999999"),
            (1_500_000, "2000-01-01 00:00:01.5"),
            (TIMESTAMPS.start, "4714-11-24 00:00:00 BC"),
            (TIMESTAMPS.end - 1, "294276-12-31 23:59:59.999999"),
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
        ] {
            assert_eq!(text(|out| write_timestamp(usecs, false, out)), expected);
            assert_eq!(read_timestamp(expected.as_bytes(), false), Ok(usecs));
        }
        let expected = "4714-11-24 00:00:00+00 BC";
        assert_eq!(text(|out| write_timestamp(TIMESTAMPS.start, true, out)), expected);
        assert_eq!(read_timestamp(expected.as_bytes(), true), Ok(TIMESTAMPS.start));
        for bad in [
            "2000-01-01",
            "2000-01-01 24:00:00",
            "2000-01-01 00:00:60",
            "2000-01-01 00:00:00+00",
            "294277-01-01 00:00:00",
        ] {
            assert!(read_timestamp(bad.as_bytes(), false).is_err(), "{bad}");
        }
        assert!(read_timestamp(b"2000-01-01 00:00:00", true).is_err());
        assert!(read_timestamp(b"2000-01-01 00:00:00+02", true).is_err());
    }

    #[test]
    fn times_are_written_and_read() {
        for (usecs, expected) in [
            (0, "00:00:00"),
            (USECS_PER_DAY, "24:00:00"),
            (1, "00:00:00.000001"),
            (USECS_PER_DAY - 10, "23:59:59.99999"),
        ] {
            assert_eq!(text(|out| write_time(usecs, out)), expected);
            assert_eq!(read_time(expected.as_bytes()), Ok(usecs));
        }
        for bad in ["24:00:00.1", "25:00:00", "00:60:00", "00:00", "00:00:00.", "00:00:00.1234567"] {
            assert!(read_time(bad.as_bytes()).is_err(), "{bad}");
        }
        for expected in
            ["00:00:00+00", "24:00:00-15:59:59", "12:34:56.789+05:30", "01:02:03-08", "00:00:00+00:00:01"]
        {
            let mut wire = Vec::new();
            read_timetz(expected.as_bytes(), &mut wire).unwrap();
            assert_eq!(text(|out| write_timetz(&wire, out).unwrap()), expected);
        }
        assert!(read_timetz(b"00:00:00+16", &mut Vec::new()).is_err());
    }

    #[test]
    fn every_day_of_the_calendar_comes_back() {
        let mut previous = civil_from_days(-800_000);
        for days in -799_999..800_000 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
            assert!((year, month, day) > previous && (1..=31).contains(&day) && (1..=12).contains(&month));
            previous = (year, month, day);
        }
    }
}
