//! `numeric` in its wire form: from decimal text and integers, and to scaled integers for sums.
//!
//! The form is that of `numeric_send`: digit count, weight, sign, display scale, then base-10000
//! digits, all big-endian 16 bits.

const NEGATIVE: u16 = 0x4000;
/// More digits than this go to the primary: PostgreSQL's own limit is far above, and nobody writes
/// such a literal by hand.
const MAX_TEXT_DIGITS: usize = 1000;
const MAX_EXPONENT: i32 = 200;

/// A decimal number as `numeric_in` reads it, without its special values and without anything that
/// only some versions accept (`0x`, underscores). No blanks around it.
pub(crate) fn from_decimal(text: &str) -> Option<Vec<u8>> {
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0
        || whole.len() + fraction.len() > MAX_TEXT_DIGITS
        || !is_digits(whole)
        || !is_digits(fraction)
    {
        return None;
    }
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
    // The decimal point stands after this many digits.
    let point = whole.len() as i32 + exponent;
    let scale = (fraction.len() as i32 - exponent).max(0);
    Some(encode(negative, &digits, point, scale as u16))
}

/// An integer with `scale` of its last digits behind the decimal point.
pub(crate) fn from_scaled(value: i128, scale: u16) -> Vec<u8> {
    let text = value.unsigned_abs().to_string();
    let digits: Vec<u8> = text.bytes().map(|b| b - b'0').collect();
    encode(value < 0, &digits, digits.len() as i32 - i32::from(scale), scale)
}

/// An `int8` as a numeric of scale 0, without allocation: the wire form and its length.
pub(crate) fn from_i64(value: i64) -> ([u8; 18], usize) {
    // Least significant group first.
    let mut groups = [0u16; 5];
    let mut rest = value.unsigned_abs();
    let mut count = 0;
    while rest > 0 {
        groups[count] = (rest % 10_000) as u16;
        rest /= 10_000;
        count += 1;
    }
    let zeros = groups[..count].iter().take_while(|g| **g == 0).count();
    let sent = count - zeros;
    let weight = count.saturating_sub(1) as u16;
    let header = [sent as u16, weight, if value < 0 { NEGATIVE } else { 0 }, 0];
    let mut out = [0u8; 18];
    for (i, word) in header.into_iter().chain(groups[zeros..count].iter().rev().copied()).enumerate() {
        out[i * 2..i * 2 + 2].copy_from_slice(&word.to_be_bytes());
    }
    (out, 8 + sent * 2)
}

/// The value as an integer with its display scale: exact, or `None` for NaN, the infinities and
/// what 128 bits cannot hold.
pub(crate) fn to_scaled(bytes: &[u8]) -> Option<(i128, u16)> {
    let mut words = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let (count, weight, sign, scale) = (words.next()?, words.next()? as i16, words.next()?, words.next()?);
    if sign != 0 && sign != NEGATIVE {
        return None;
    }
    let mut mantissa: i128 = 0;
    for digit in words {
        mantissa = mantissa.checked_mul(10_000)?.checked_add(i128::from(digit))?;
    }
    if mantissa == 0 {
        return Some((0, scale));
    }
    // The mantissa counts units of 10000^(weight - count + 1); we want units of 10^-scale.
    let shift = 4 * (i32::from(weight) - i32::from(count) + 1) + i32::from(scale);
    let power = 10i128.checked_pow(shift.unsigned_abs())?;
    if shift >= 0 {
        mantissa = mantissa.checked_mul(power)?;
    } else {
        if mantissa % power != 0 {
            return None;
        }
        mantissa /= power;
    }
    Some((if sign == NEGATIVE { -mantissa } else { mantissa }, scale))
}

/// Whether a client's bytes are a numeric that `numeric_recv` takes over unchanged in value.
pub(crate) fn is_exact_wire_form(bytes: &[u8]) -> bool {
    let word = |i: usize| -> Option<u16> {
        let pair = bytes.get(i * 2..i * 2 + 2)?;
        Some(u16::from_be_bytes([pair[0], pair[1]]))
    };
    let (Some(count), Some(weight), Some(sign), Some(scale)) = (word(0), word(1), word(2), word(3)) else {
        return false;
    };
    let weight = i32::from(weight as i16);
    if bytes.len() != 8 + usize::from(count) * 2 || (sign != 0 && sign != NEGATIVE) || scale > 0x3FFF {
        return false;
    }
    (0..usize::from(count)).all(|i| {
        let Some(digit) = word(4 + i) else { return false };
        // Digits beyond the display scale would be cut off (`trunc_var` in `numeric_recv`).
        let behind_point = 4 * (i as i32 - weight);
        let beyond = (behind_point - i32::from(scale)).clamp(0, 4);
        digit < 10_000 && digit % 10u16.pow(beyond as u32) == 0
    })
}

fn parse_exponent(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || digits.len() > 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: i32 = text.parse().ok()?;
    (value.abs() <= MAX_EXPONENT).then_some(value)
}

/// `digits` are decimal, the point stands before `digits[point]` (which may lie outside).
fn encode(negative: bool, digits: &[u8], point: i32, scale: u16) -> Vec<u8> {
    // Align to groups of four around the point.
    let lead = (4 - point.rem_euclid(4)) % 4;
    let mut groups: Vec<u16> = Vec::with_capacity(digits.len() / 4 + 2);
    let mut weight = (point + lead) / 4 - 1;
    let mut group = 0u16;
    let mut filled = lead;
    for &digit in digits {
        group = group * 10 + u16::from(digit);
        filled += 1;
        if filled == 4 {
            groups.push(group);
            (group, filled) = (0, 0);
        }
    }
    if filled > 0 {
        groups.push(group * 10u16.pow(4 - filled as u32));
    }
    let leading = groups.iter().take_while(|g| **g == 0).count();
    groups.drain(..leading);
    weight -= leading as i32;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let (weight, negative) = if groups.is_empty() { (0, false) } else { (weight, negative) };
    let mut out = Vec::with_capacity(8 + groups.len() * 2);
    out.extend_from_slice(&(groups.len() as u16).to_be_bytes());
    out.extend_from_slice(&(weight as i16).to_be_bytes());
    out.extend_from_slice(&(if negative { NEGATIVE } else { 0 }).to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
    for group in groups {
        out.extend_from_slice(&group.to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;
    use crate::types::order::compare_numeric;

    #[test]
    fn decimal_text_has_the_wire_form_of_the_server() {
        // As sent by PostgreSQL for `select $1::numeric` in binary.
        let cases: [(&str, &[u16]); 9] = [
            ("0", &[0, 0, 0, 0]),
            ("0.00", &[0, 0, 0, 2]),
            ("1", &[1, 0, 0, 0, 1]),
            ("-12345.678", &[3, 1, 0x4000, 3, 1, 2345, 6780]),
            ("0.0001", &[1, 0xFFFF, 0, 4, 1]),
            ("0.00001", &[1, 0xFFFE, 0, 5, 1000]),
            ("10000", &[1, 1, 0, 0, 1]),
            ("1e3", &[1, 0, 0, 0, 1000]),
            ("1.5e-3", &[1, 0xFFFF, 0, 4, 15]),
        ];
        for (text, words) in cases {
            let expected: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
            assert_eq!(from_decimal(text).as_deref(), Some(&expected[..]), "{text}");
        }
        for bad in ["", "-", ".", "1e", "1e+", "1_0", "0x1", "1 ", "NaN", "1e9999", "e5", "1.2.3"] {
            assert_eq!(from_decimal(bad), None, "{bad}");
        }
    }

    #[test]
    fn integers_and_sums_go_both_ways() {
        for value in [0, 1, -1, 9999, 10_000, -10_001, 123_456_789, i64::MAX, i64::MIN] {
            let (bytes, len) = from_i64(value);
            assert_eq!(&bytes[..len], from_scaled(i128::from(value), 0));
            assert_eq!(from_decimal(&value.to_string()).as_deref(), Some(&bytes[..len]));
            assert_eq!(to_scaled(&bytes[..len]), Some((i128::from(value), 0)));
        }
        for (value, scale) in [(150i128, 2u16), (-1, 5), (100_000, 3), (0, 4), (i128::from(u64::MAX), 20)] {
            let bytes = from_scaled(value, scale);
            assert_eq!(to_scaled(&bytes), Some((value, scale)));
            assert!(is_exact_wire_form(&bytes));
        }
        let (a, b) = (from_decimal("1.50").unwrap_or_default(), from_scaled(15, 1));
        assert_eq!(compare_numeric(&a, &b), Ordering::Equal);
    }

    #[test]
    fn a_client_s_digits_behind_its_scale_are_refused() {
        let wire = |words: &[u16]| -> Vec<u8> { words.iter().flat_map(|w| w.to_be_bytes()).collect() };
        assert!(is_exact_wire_form(&wire(&[2, 0, 0, 2, 1, 5000])));
        assert!(is_exact_wire_form(&wire(&[2, 0, 0, 1, 1, 5000])));
        assert!(!is_exact_wire_form(&wire(&[2, 0, 0, 0, 1, 5000])));
        assert!(!is_exact_wire_form(&wire(&[2, 0, 0, 1, 1, 5100])));
        assert!(!is_exact_wire_form(&wire(&[1, 0, 0, 0, 10_000])));
        assert!(!is_exact_wire_form(&wire(&[2, 0, 0, 0, 1])));
        assert!(!is_exact_wire_form(&wire(&[0, 0, 0xC000, 0])));
    }
}
