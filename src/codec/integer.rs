//! Integers in decimal.

use bytes::BytesMut;

use super::{CodecError, Result};

const EXPECTED: CodecError = CodecError::Malformed("a decimal integer in range");

pub(super) fn write_u64(mut value: u64, out: &mut BytesMut) {
    let mut buffer = [0u8; 20];
    let mut start = buffer.len();
    for pair in buffer.rchunks_exact_mut(2) {
        pair.copy_from_slice(&two_digits((value % 100) as u8));
        start -= 2;
        value /= 100;
        if value == 0 {
            break;
        }
    }
    // The first pair of an odd number of digits begins with a zero.
    start += usize::from(buffer.get(start) == Some(&b'0'));
    out.extend_from_slice(buffer.get(start..).unwrap_or_default());
}

/// The digits of a number below 100.
pub(super) fn two_digits(value: u8) -> [u8; 2] {
    [b'0' + value / 10 % 10, b'0' + value % 10]
}

pub(super) fn write_i64(value: i64, out: &mut BytesMut) {
    if value < 0 {
        out.extend_from_slice(b"-");
    }
    write_u64(value.unsigned_abs(), out);
}

/// At least `width` digits, filled with zeros at the left.
pub(super) fn write_padded(value: u64, width: u32, out: &mut BytesMut) {
    let mut bound = 10u64.saturating_pow(width.saturating_sub(1));
    while bound > 1 && value < bound {
        out.extend_from_slice(b"0");
        bound /= 10;
    }
    write_u64(value, out);
}

/// Two digits; `value` is below 100.
pub(super) fn write_two(value: i64, out: &mut BytesMut) {
    out.extend_from_slice(&two_digits((value % 100) as u8));
}

pub(super) fn parse_u64(digits: &[u8]) -> Result<u64> {
    if digits.is_empty() {
        return Err(EXPECTED);
    }
    digits.iter().try_fold(0u64, |value, byte| {
        if !byte.is_ascii_digit() {
            return Err(EXPECTED);
        }
        value.checked_mul(10).and_then(|v| v.checked_add(u64::from(byte - b'0'))).ok_or(EXPECTED)
    })
}

/// `[-]digits`, as the output functions write it: no blanks, no plus sign.
pub(super) fn parse_i64(text: &[u8]) -> Result<i64> {
    match text.strip_prefix(b"-") {
        Some(digits) => 0i64.checked_sub_unsigned(parse_u64(digits)?).ok_or(EXPECTED),
        None => i64::try_from(parse_u64(text)?).map_err(|_| EXPECTED),
    }
}

/// [`parse_i64`] into a narrower type.
pub(super) fn parse<T: TryFrom<i64>>(text: &[u8]) -> Result<T> {
    T::try_from(parse_i64(text)?).map_err(|_| EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_and_read() {
        for value in [0, 1, -1, 9, 10, 99, 100, i64::MAX, i64::MIN, i64::MIN + 1] {
            let mut out = BytesMut::new();
            write_i64(value, &mut out);
            assert_eq!(&out[..], value.to_string().as_bytes());
            assert_eq!(parse_i64(&out), Ok(value));
        }
        for bad in ["", "-", "+1", " 1", "1 ", "1.0", "9223372036854775808", "-9223372036854775809", "0x1"] {
            assert!(parse_i64(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(parse::<i16>(b"-32768"), Ok(i16::MIN));
        assert!(parse::<i16>(b"32768").is_err());
    }

    #[test]
    fn padding_fills_with_zeros() {
        for (value, width, expected) in [
            (0, 4, "0000"),
            (7, 4, "0007"),
            (1234, 4, "1234"),
            (12345, 4, "12345"),
            (0, 1, "0"),
            (10, 6, "000010"),
        ] {
            let mut out = BytesMut::new();
            write_padded(value, width, &mut out);
            assert_eq!(&out[..], expected.as_bytes());
        }
    }
}
