//! `bytea` with `bytea_output` hex.

use bytes::BytesMut;

use super::{CodecError, Result};

const EXPECTED: CodecError = CodecError::Malformed("hexadecimal digits after \\x");

pub(super) fn write_text(bytes: &[u8], out: &mut BytesMut) {
    out.reserve(2 + bytes.len() * 2);
    out.extend_from_slice(b"\\x");
    write_hex(bytes, out);
}

/// Two lower-case digits for each byte.
pub(super) fn write_hex(bytes: &[u8], out: &mut BytesMut) {
    for byte in bytes {
        out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

pub(super) fn read_text(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let digits = text.strip_prefix(b"\\x").ok_or(EXPECTED)?;
    out.reserve(digits.len() / 2);
    for pair in digits.chunks(2) {
        out.push(read_pair(pair)?);
    }
    Ok(())
}

pub(super) fn read_pair(pair: &[u8]) -> Result<u8> {
    match pair {
        [high, low] => Ok(value(*high)? << 4 | value(*low)?),
        _ => Err(EXPECTED),
    }
}

fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

fn value(digit: u8) -> Result<u8> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(EXPECTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_and_read() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [&[][..], &[0], &all] {
            let (mut out, mut read) = (BytesMut::new(), Vec::new());
            write_text(bytes, &mut out);
            read_text(&out, &mut read).unwrap();
            assert_eq!(read, bytes);
        }
        for bad in ["", "\\", "00", "\\x0", "\\xg0", "\\x 00"] {
            assert!(read_text(bad.as_bytes(), &mut Vec::new()).is_err(), "{bad}");
        }
    }
}
