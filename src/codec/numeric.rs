//! `numeric`: base-10000 digits (`numeric_send`) and text.

use bytes::{BufMut, BytesMut};

use super::{CodecError, Result, cursor::Cursor};

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;
/// The display scale that `numeric_send` reports for infinities: bits of their header.
const INFINITY_SCALE: u16 = 0x20;
/// `NUMERIC_DSCALE_MAX`
const MAX_SCALE: usize = 0x3FFF;
/// Decimal digits before the point: weights are 16 bits.
const MAX_INTEGER_DIGITS: usize = 4 * 0x8000;

const EXPECTED: CodecError = CodecError::Malformed("a numeric");

struct Parts<'a> {
    weight: i32,
    sign: u16,
    scale: u16,
    /// Big-endian pairs.
    digits: &'a [u8],
}

fn parts(bytes: &[u8]) -> Result<Parts<'_>> {
    let mut cursor = Cursor::new(bytes);
    let count = usize::from(cursor.u16()?);
    let weight = i32::from(cursor.i16()?);
    let sign = cursor.u16()?;
    let scale = cursor.u16()?;
    let digits = cursor.take(count * 2)?;
    cursor.finish()?;
    Ok(Parts { weight, sign, scale, digits })
}

/// Checks what `numeric_recv` checks. Digits that the scale would hide are refused as well:
/// `numeric_recv` cuts them off, which a borrowed value cannot.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let parts = parts(bytes)?;
    match parts.sign {
        NAN | INFINITY | NEGATIVE_INFINITY if parts.digits.is_empty() => return Ok(()),
        0 | NEGATIVE if usize::from(parts.scale) <= MAX_SCALE => {}
        _ => return Err(EXPECTED),
    }
    // The place of a digit's last decimal, counted from the point; a digit straddles the scale if
    // its last places are beyond.
    let mut place = -4 * parts.weight;
    for pair in parts.digits.chunks_exact(2) {
        let digit = pair_value(pair);
        let hidden = place - i32::from(parts.scale);
        let unit = match hidden {
            ..=0 => 1,
            1 => 10,
            2 => 100,
            3 => 1000,
            _ => 10_000,
        };
        if digit > 9999 || !digit.is_multiple_of(unit) {
            return Err(EXPECTED);
        }
        place += 4;
    }
    Ok(())
}

/// `numeric_out`
pub(super) fn write_text(bytes: &[u8], out: &mut BytesMut) -> Result<()> {
    let parts = parts(bytes)?;
    match parts.sign {
        NAN => {
            out.extend_from_slice(b"NaN");
            return Ok(());
        }
        INFINITY => {
            out.extend_from_slice(b"Infinity");
            return Ok(());
        }
        NEGATIVE_INFINITY => {
            out.extend_from_slice(b"-Infinity");
            return Ok(());
        }
        NEGATIVE => out.extend_from_slice(b"-"),
        _ => {}
    }
    let mut digits = parts.digits.chunks_exact(2).map(pair_value);
    let start = out.len();
    for _ in 0..=parts.weight {
        let digit = decimals(digits.next().unwrap_or(0));
        let used = if out.len() > start {
            &digit[..]
        } else {
            let zeros = digit.iter().take_while(|d| **d == b'0').count();
            digit.get(zeros..).unwrap_or_default()
        };
        out.extend_from_slice(used);
    }
    if out.len() == start {
        out.extend_from_slice(b"0");
    }
    if parts.scale == 0 {
        return Ok(());
    }
    out.extend_from_slice(b".");
    let end = out.len() + usize::from(parts.scale);
    // A weight below -1 means digits that are zero and not there.
    let mut absent = (-1 - parts.weight).max(0);
    while out.len() < end {
        let digit = if absent > 0 {
            absent -= 1;
            0
        } else {
            digits.next().unwrap_or(0)
        };
        let digit = decimals(digit);
        out.extend_from_slice(digit.get(..end - out.len()).unwrap_or(&digit));
    }
    Ok(())
}

/// Appends the wire form of `[-]digits[.digits]`, `NaN` or an infinity.
pub(super) fn read_text(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    match text {
        b"NaN" => return write_special(NAN, 0, out),
        b"Infinity" => return write_special(INFINITY, INFINITY_SCALE, out),
        b"-Infinity" => return write_special(NEGATIVE_INFINITY, INFINITY_SCALE, out),
        _ => {}
    }
    let mut cursor = Cursor::new(text);
    let negative = cursor.eat(b'-');
    let integer = cursor.digits()?;
    let fraction = if cursor.eat(b'.') { cursor.digits()? } else { &[] };
    cursor.finish()?;
    let zeros = integer.iter().take_while(|d| **d == b'0').count();
    let integer = integer.get(zeros..).unwrap_or_default();
    if fraction.len() > MAX_SCALE || integer.len() > MAX_INTEGER_DIGITS {
        return Err(EXPECTED);
    }

    let header = out.len();
    out.put_bytes(0, 8);
    let mut weight = integer.len().div_ceil(4) as i32 - 1;
    let (head, groups) = integer.split_at_checked(integer.len() % 4).unwrap_or((&[], integer));
    let mut started = false;
    let mut push = |group: &[u8], width: u32, out: &mut Vec<u8>| {
        let value = group.iter().fold(0u16, |value, digit| value * 10 + u16::from(digit - b'0'));
        let value = value * 10u16.pow(width.saturating_sub(group.len() as u32));
        started |= value != 0;
        if started {
            out.put_u16(value);
        } else {
            weight -= 1;
        }
    };
    if !head.is_empty() {
        push(head, 0, out);
    }
    for group in groups.chunks(4).chain(fraction.chunks(4)) {
        push(group, 4, out);
    }
    while out.len() > header + 8 && out.ends_with(&[0, 0]) {
        out.truncate(out.len() - 2);
    }
    let count = (out.len() - header - 8) / 2;
    let zero = count == 0;
    let sign = if negative && !zero { NEGATIVE } else { 0 };
    let weight = if zero { 0 } else { weight as i16 };
    if let Some(header) = out.get_mut(header..header + 8) {
        let mut header = header;
        header.put_u16(count as u16);
        header.put_i16(weight);
        header.put_u16(sign);
        header.put_u16(fraction.len() as u16);
    }
    Ok(())
}

fn write_special(sign: u16, scale: u16, out: &mut Vec<u8>) -> Result<()> {
    out.put_u32(0);
    out.put_u16(sign);
    out.put_u16(scale);
    Ok(())
}

fn pair_value(pair: &[u8]) -> u16 {
    match pair {
        [high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}

/// The four decimals of a base-10000 digit.
fn decimals(digit: u16) -> [u8; 4] {
    [digit / 1000 % 10, digit / 100 % 10, digit / 10 % 10, digit % 10].map(|d| b'0' + d as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        read_text(text.as_bytes(), &mut out).unwrap();
        out
    }

    fn words(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_be_bytes()).collect()
    }

    #[test]
    fn text_becomes_the_wire_form() {
        for (text, expected) in [
            ("0", &[0, 0, 0, 0][..]),
            ("0.00", &[0, 0, 0, 2]),
            ("-0.0", &[0, 0, 0, 1]),
            ("1", &[1, 0, 0, 0, 1]),
            ("1.00", &[1, 0, 0, 2, 1]),
            ("10000", &[1, 1, 0, 0, 1]),
            ("-12345.678", &[3, 1, 0x4000, 3, 1, 2345, 6780]),
            ("0.0001", &[1, 0xffff, 0, 4, 1]),
            ("0.00001", &[1, 0xfffe, 0, 5, 1000]),
            ("100000000.1", &[4, 2, 0, 1, 1, 0, 0, 1000]),
            ("NaN", &[0, 0, 0xC000, 0]),
            ("Infinity", &[0, 0, 0xD000, 0x20]),
            ("-Infinity", &[0, 0, 0xF000, 0x20]),
        ] {
            assert_eq!(wire(text), words(expected), "{text}");
            assert_eq!(check(&wire(text)), Ok(()));
        }
    }

    #[test]
    fn every_scale_round_trips() {
        for text in [
            "0",
            "0.0",
            "0.000000000",
            "1",
            "-1",
            "9999",
            "10000",
            "123456789.987654321",
            "-0.1",
            "0.10",
            "0.0000000001",
            "100000000000000000000",
            "99999999999999999999.00000000000000000000",
            "-10000.0001",
            "0.00010000",
        ] {
            let mut out = BytesMut::new();
            write_text(&wire(text), &mut out).unwrap();
            assert_eq!(&out[..], text.as_bytes());
        }
        let long = format!("{}.{}", "9".repeat(131_072), "1".repeat(16_383));
        let mut out = BytesMut::new();
        write_text(&wire(&long), &mut out).unwrap();
        assert_eq!(&out[..], long.as_bytes());
    }

    #[test]
    fn bad_numerics_are_refused() {
        for bad in ["", "-", ".", "1.", ".1", "1e5", "+1", " 1", "1 ", "nan", "1,0", "--1"] {
            assert!(read_text(bad.as_bytes(), &mut Vec::new()).is_err(), "{bad}");
        }
        for bad in [
            &[0, 0, 0][..],
            &[1, 0, 0, 0],
            &[0, 0, 0, 0, 1],
            &[1, 0, 0, 0, 10_000],
            &[0, 0, 1, 0],
            &[0, 0, 0, 0x4000],
            &[1, 0, 0xC000, 0, 1],
            // Digits beyond the scale.
            &[2, 0, 0, 0, 1, 5000],
            &[2, 0, 0, 2, 1, 5550],
        ] {
            assert!(check(&words(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn zero_digits_of_clients_are_accepted() {
        let padded = words(&[3, 1, 0, 2, 0, 7, 0]);
        assert_eq!(check(&padded), Ok(()));
        let mut out = BytesMut::new();
        write_text(&padded, &mut out).unwrap();
        assert_eq!(&out[..], b"7.00");
    }
}
