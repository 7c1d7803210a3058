//! `float4` and `float8` as text.

use bytes::BytesMut;

use super::{
    CodecError, Result, integer,
    ryu::{Decimal, Format, shortest},
};

const EXPECTED: CodecError = CodecError::Malformed("a floating-point number");

/// `float8out` with `extra_float_digits` of at least 1: `1e+15`, `1e-05`, `-0`, `NaN`, `-Infinity`.
pub(super) fn write_f64(value: f64, out: &mut BytesMut) {
    if write_special(value, out) {
        return;
    }
    let bits = value.to_bits();
    let format = Format { mantissa_bits: 52, bias: 1023 };
    let digits = shortest(format, bits & ((1 << 52) - 1), (bits >> 52 & 0x7ff) as u32);
    write_decimal(digits, 15, out);
}

/// `float4out`; the exponent form begins at 1e+06.
pub(super) fn write_f32(value: f32, out: &mut BytesMut) {
    if write_special(f64::from(value), out) {
        return;
    }
    let bits = value.to_bits();
    let format = Format { mantissa_bits: 23, bias: 127 };
    let digits = shortest(format, u64::from(bits & ((1 << 23) - 1)), bits >> 23 & 0xff);
    write_decimal(digits, 6, out);
}

pub(super) fn parse_f64(text: &[u8]) -> Result<f64> {
    match text {
        b"NaN" => Ok(f64::NAN),
        b"Infinity" => Ok(f64::INFINITY),
        b"-Infinity" => Ok(f64::NEG_INFINITY),
        _ => match numeral(text)?.parse() {
            Ok(value) if f64::is_finite(value) => Ok(value),
            _ => Err(EXPECTED),
        },
    }
}

pub(super) fn parse_f32(text: &[u8]) -> Result<f32> {
    match text {
        b"NaN" => Ok(f32::NAN),
        b"Infinity" => Ok(f32::INFINITY),
        b"-Infinity" => Ok(f32::NEG_INFINITY),
        // Not by way of f64: rounding twice can give another float.
        _ => match numeral(text)?.parse() {
            Ok(value) if f32::is_finite(value) => Ok(value),
            _ => Err(EXPECTED),
        },
    }
}

/// Rust also reads words (`inf`) and a plus sign; the server writes neither.
fn numeral(text: &[u8]) -> Result<&str> {
    let begins = matches!(text, [b'0'..=b'9', ..] | [b'-', b'0'..=b'9', ..]);
    if !begins || !text.iter().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'+' | b'-')) {
        return Err(EXPECTED);
    }
    std::str::from_utf8(text).map_err(|_| EXPECTED)
}

/// Writes the sign, and all of a value that has no digits of its own.
fn write_special(value: f64, out: &mut BytesMut) -> bool {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
        return true;
    }
    if value.is_sign_negative() {
        out.extend_from_slice(b"-");
    }
    if value.is_infinite() {
        out.extend_from_slice(b"Infinity");
        return true;
    }
    if value == 0.0 {
        out.extend_from_slice(b"0");
        return true;
    }
    false
}

/// `to_chars` of `d2s.c`: fixed notation while the exponent is in `-4..exponent_form_from`.
fn write_decimal(mut decimal: Decimal, exponent_form_from: i32, out: &mut BytesMut) {
    const ZEROS: &[u8] = &[b'0'; 24];
    let len = decimal.mantissa.checked_ilog10().unwrap_or(0) as i32 + 1;
    let exponent = decimal.exponent + len - 1;
    let zeros = |count: i32| ZEROS.get(..count.max(0) as usize).unwrap_or(ZEROS);
    if (-4..exponent_form_from).contains(&exponent) {
        let start = out.len();
        if exponent < 0 {
            out.extend_from_slice(b"0.");
            out.extend_from_slice(zeros(-exponent - 1));
            integer::write_u64(decimal.mantissa, out);
        } else {
            integer::write_u64(decimal.mantissa, out);
            if decimal.exponent < 0 {
                insert_point(start + exponent as usize + 1, out);
            } else {
                out.extend_from_slice(zeros(decimal.exponent));
            }
        }
        return;
    }
    // An integer printed exactly may end in zeros.
    while decimal.exponent == 0 && decimal.mantissa != 0 && decimal.mantissa.is_multiple_of(10) {
        decimal.mantissa /= 10;
    }
    let start = out.len();
    integer::write_u64(decimal.mantissa, out);
    if out.len() > start + 1 {
        insert_point(start + 1, out);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    integer::write_padded(u64::from(exponent.unsigned_abs()), 2, out);
}

fn insert_point(at: usize, out: &mut BytesMut) {
    out.extend_from_slice(b".");
    if let Some(tail) = out.get_mut(at..) {
        tail.rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f64_text(value: f64) -> String {
        let mut out = BytesMut::new();
        write_f64(value, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn f32_text(value: f32) -> String {
        let mut out = BytesMut::new();
        write_f32(value, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn float8_is_written_as_float8out_writes_it() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (100.0, "100"),
            (1e14, "100000000000000"),
            (123_456_789_012_345.0, "123456789012345"),
            (999_999_999_999_999.9, "999999999999999.9"),
            (1e15, "1e+15"),
            (9_007_199_254_740_990.0, "9.00719925474099e+15"),
            (9_007_199_254_740_991.0, "9.007199254740991e+15"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.25e-7, "1.25e-07"),
            // Interval bounds do not count: other printers say 1e+23 and 5e-324.
            (1e23, "9.999999999999999e+22"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (1e100, "1e+100"),
            (f64::NAN, "NaN"),
            (-f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            // Halfway between .2 and .3: to even.
            (4_503_599_627_370_497.0 / 4.0, "1.1258999068426242e+15"),
        ] {
            assert_eq!(f64_text(value), expected);
            let parsed = parse_f64(expected.as_bytes()).unwrap();
            assert!(parsed.to_bits() == value.to_bits() || value.is_nan() && parsed.is_nan());
        }
    }

    #[test]
    fn float4_is_written_as_float4out_writes_it() {
        for (value, expected) in [
            (0.1, "0.1"),
            (16_777_216.0, "1.6777216e+07"),
            (123_456.0, "123456"),
            (999_999.0, "999999"),
            (1e6, "1e+06"),
            (-0.0, "-0"),
            (1e-45, "1e-45"),
            (f32::MAX, "3.4028235e+38"),
        ] {
            assert_eq!(f32_text(value), expected);
            assert_eq!(parse_f32(expected.as_bytes()).unwrap().to_bits(), value.to_bits());
        }
    }

    #[test]
    fn what_the_server_never_writes_is_refused() {
        for bad in ["", "-", "+1", "inf", "nan", "infinity", " 1", "1 ", "1e", ".5", "1e999", "0x1p3", "--1"]
        {
            assert!(parse_f64(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse_f32(b"1e39").is_err());
    }
}
