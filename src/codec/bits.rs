//! `bit` and `varbit`: a 32-bit count of bits, then bytes from the highest bit on.

use bytes::{BufMut, BytesMut};

use super::{CodecError, Result, cursor::Cursor};

const EXPECTED: CodecError = CodecError::Malformed("a bit string");

fn parts(bytes: &[u8]) -> Result<(usize, &[u8])> {
    let mut cursor = Cursor::new(bytes);
    let len = cursor.count()?;
    let bits = cursor.take(len.div_ceil(8))?;
    cursor.finish()?;
    Ok((len, bits))
}

/// The bits that fill the last byte must be zero; `bit_recv` clears them, which a borrowed value
/// cannot.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let (len, bits) = parts(bytes)?;
    let unused = 0xffu16 >> (len % 8);
    match bits.last() {
        Some(last) if len % 8 != 0 && u16::from(*last) & unused != 0 => Err(EXPECTED),
        _ => Ok(()),
    }
}

pub(super) fn write_text(bytes: &[u8], out: &mut BytesMut) -> Result<()> {
    let (len, bits) = parts(bytes)?;
    out.reserve(len);
    for (index, byte) in bits.iter().enumerate() {
        let used = (len - index * 8).min(8);
        for bit in 0..used {
            out.put_u8(b'0' + (byte >> (7 - bit) & 1));
        }
    }
    Ok(())
}

pub(super) fn read_text(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.put_i32(i32::try_from(text.len()).map_err(|_| EXPECTED)?);
    for digits in text.chunks(8) {
        let mut byte = 0;
        for (index, digit) in digits.iter().enumerate() {
            match digit {
                b'0' => {}
                b'1' => byte |= 0x80 >> index,
                _ => return Err(EXPECTED),
            }
        }
        out.push(byte);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_written_and_read() {
        for text in ["", "0", "1", "10110", "11111111", "000000001"] {
            let (mut wire, mut out) = (Vec::new(), BytesMut::new());
            read_text(text.as_bytes(), &mut wire).unwrap();
            assert_eq!(check(&wire), Ok(()));
            write_text(&wire, &mut out).unwrap();
            assert_eq!(&out[..], text.as_bytes());
        }
        assert!(read_text(b"012", &mut Vec::new()).is_err());
        for bad in
            [&[0, 0, 0, 1][..], &[0, 0, 0, 1, 0x40], &[0xff, 0xff, 0xff, 0xff], &[0, 0, 0, 8, 1, 1], &[0]]
        {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
