//! `money` under an `lc_monetary` of C, POSIX or en_US: `-$1,234.56`.

use bytes::BytesMut;

use super::{
    CodecError, Result,
    integer::{parse_u64, write_two, write_u64},
};

const EXPECTED: CodecError = CodecError::Malformed("an amount such as -$1,234.56");

/// `cash_out`
pub(super) fn write_text(cents: i64, out: &mut BytesMut) {
    out.extend_from_slice(if cents < 0 { b"-$" } else { b"$" });
    let cents = cents.unsigned_abs();
    let start = out.len();
    write_u64(cents / 100, out);
    let digits = out.len() - start;
    let mut group = digits.saturating_sub(3);
    while group > 0 {
        out.extend_from_slice(b",");
        if let Some(tail) = out.get_mut(start + group..) {
            tail.rotate_right(1);
        }
        group = group.saturating_sub(3);
    }
    out.extend_from_slice(b".");
    write_two((cents % 100) as i64, out);
}

pub(super) fn read_text(text: &[u8]) -> Result<i64> {
    let (negative, amount) = match text.strip_prefix(b"-") {
        Some(amount) => (true, amount),
        None => (false, text),
    };
    let amount = amount.strip_prefix(b"$").ok_or(EXPECTED)?;
    let (whole, cents) = amount.split_at_checked(amount.len().saturating_sub(3)).ok_or(EXPECTED)?;
    let cents = parse_u64(cents.strip_prefix(b".").ok_or(EXPECTED)?)?;
    let mut groups = whole.split(|byte| *byte == b',');
    let mut value = match groups.next() {
        Some(first) if first.len() <= 3 => parse_u64(first)?,
        _ => return Err(EXPECTED),
    };
    for group in groups {
        if group.len() != 3 {
            return Err(EXPECTED);
        }
        value = value.checked_mul(1000).ok_or(EXPECTED)?.checked_add(parse_u64(group)?).ok_or(EXPECTED)?;
    }
    let value = value.checked_mul(100).and_then(|v| v.checked_add(cents)).ok_or(EXPECTED)?;
    if negative { 0i64.checked_sub_unsigned(value) } else { 0i64.checked_add_unsigned(value) }.ok_or(EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_and_read() {
        for (cents, expected) in [
            (0, "$0.00"),
            (5, "$0.05"),
            (-5, "-$0.05"),
            (99_999, "$999.99"),
            (100_000, "$1,000.00"),
            (123_456_789, "$1,234,567.89"),
            (i64::MAX, "$92,233,720,368,547,758.07"),
            (i64::MIN, "-$92,233,720,368,547,758.08"),
        ] {
            let mut out = BytesMut::new();
            write_text(cents, &mut out);
            assert_eq!(std::str::from_utf8(&out), Ok(expected));
            assert_eq!(read_text(expected.as_bytes()), Ok(cents));
        }
        for bad in [
            "",
            "$",
            "1.00",
            "$1",
            "$1.0",
            "$1000.00",
            "$1,00.00",
            "$,100.00",
            "$92,233,720,368,547,758.08",
            "($1.00)",
        ] {
            assert!(read_text(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
