//! `tsvector`: lexemes with positions and weights.

use bytes::{BufMut, BytesMut};

use super::{CodecError, Result, cursor::Cursor, integer::write_u64, range::set_i32};

/// `MAXNUMPOS`
const MAX_POSITIONS: u16 = 256;
/// `MAXENTRYPOS`
const END_OF_POSITIONS: u64 = 1 << 14;

const EXPECTED: CodecError = CodecError::Malformed("a tsvector");

/// Gives each lexeme and its positions: 14 bits under 2 bits of weight, big-endian.
fn lexemes<'a>(bytes: &'a [u8], mut each: impl FnMut(&'a [u8], &'a [u8]) -> Result<()>) -> Result<()> {
    let mut cursor = Cursor::new(bytes);
    for _ in 0..cursor.count()? {
        let lexeme = cursor.c_string()?;
        let count = cursor.u16()?;
        if count > MAX_POSITIONS {
            return Err(EXPECTED);
        }
        each(lexeme, cursor.take(usize::from(count) * 2)?)?;
    }
    cursor.finish()
}

pub(super) fn check(bytes: &[u8]) -> Result<()> {
    lexemes(bytes, |_, _| Ok(()))
}

/// `tsvectorout`
pub(super) fn write_text(bytes: &[u8], out: &mut BytesMut) -> Result<()> {
    let mut first = true;
    lexemes(bytes, |lexeme, positions| {
        if !first {
            out.extend_from_slice(b" ");
        }
        first = false;
        write_lexeme(lexeme, out);
        let mut before = b":";
        for position in positions.chunks_exact(2) {
            if let [high, low] = position {
                let entry = u16::from_be_bytes([*high, *low]);
                out.extend_from_slice(before);
                before = b",";
                write_u64(u64::from(entry & 0x3fff), out);
                out.extend_from_slice(match entry >> 14 {
                    3 => b"A",
                    2 => b"B",
                    1 => b"C",
                    _ => b"",
                });
            }
        }
        Ok(())
    })
}

/// A word in quotes, quotes and backslashes doubled.
pub(super) fn write_lexeme(lexeme: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(b"'");
    for byte in lexeme {
        if matches!(byte, b'\'' | b'\\') {
            out.extend_from_slice(&[*byte]);
        }
        out.extend_from_slice(&[*byte]);
    }
    out.extend_from_slice(b"'");
}

/// Appends the wire form. The server writes lexemes in the order in which it stores and sends them.
pub(super) fn read_text(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut cursor = Cursor::new(text);
    let at = out.len();
    out.put_i32(0);
    let mut count = 0;
    while !cursor.is_empty() {
        if count > 0 {
            cursor.expect(b' ', "a blank")?;
        }
        read_lexeme(&mut cursor, out)?;
        read_positions(&mut cursor, out)?;
        count += 1;
    }
    set_i32(out, at, count)
}

fn read_lexeme(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<()> {
    cursor.expect(b'\'', "a quote")?;
    loop {
        let piece = cursor.until(|byte| matches!(byte, b'\'' | b'\\'));
        if piece.contains(&0) {
            return Err(EXPECTED);
        }
        out.extend_from_slice(piece);
        let special = cursor.u8()?;
        if cursor.eat(special) {
            out.push(special);
        } else if special == b'\'' {
            out.push(0);
            return Ok(());
        } else {
            return Err(EXPECTED);
        }
    }
}

fn read_positions(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<()> {
    let at = out.len();
    out.put_u16(0);
    let mut count = 0u16;
    let mut more = cursor.eat(b':');
    while more {
        let position = cursor.number()?;
        let weight = match cursor.peek() {
            Some(b'A') => 3,
            Some(b'B') => 2,
            Some(b'C') => 1,
            _ => 0,
        };
        if weight > 0 {
            cursor.u8()?;
        }
        if position >= END_OF_POSITIONS || count == MAX_POSITIONS {
            return Err(EXPECTED);
        }
        out.put_u16(weight << 14 | position as u16);
        count += 1;
        more = cursor.eat(b',');
    }
    if let Some(slot) = out.get_mut(at..at + 2) {
        slot.copy_from_slice(&count.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tsvectors_are_written_and_read() {
        for text in ["", "'a'", "'a':1A,2B,3C,4 'b' 'c d':16383", "'it''s' '\\\\':5"] {
            let (mut wire, mut out) = (Vec::new(), BytesMut::new());
            assert_eq!(read_text(text.as_bytes(), &mut wire), Ok(()), "{text}");
            assert_eq!(check(&wire), Ok(()));
            write_text(&wire, &mut out).unwrap();
            assert_eq!(std::str::from_utf8(&out), Ok(text));
        }
        for bad in ["a", "'a", "'a' ", " 'a'", "'a':", "'a':1D", "'a':16384", "'a'  'b'", "'\\x'", "'a':1,"] {
            assert!(read_text(bad.as_bytes(), &mut Vec::new()).is_err(), "{bad}");
        }
    }
}
