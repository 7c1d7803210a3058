//! The types of system columns: `"char"`, `tid`, `pg_lsn`, `xid8`.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};

use super::{
    CodecError, Result,
    cursor::Cursor,
    integer::{parse_u64, write_u64},
};
use crate::types::Lsn;

pub(super) fn check_char(bytes: &[u8]) -> Result<()> {
    single_byte(bytes).map(|_| ())
}

fn single_byte(bytes: &[u8]) -> Result<u8> {
    match bytes {
        [byte] => Ok(*byte),
        _ => Err(CodecError::Malformed("one byte")),
    }
}

/// `charout` of servers from 16 on: nothing for a zero byte, `\ooo` for one that is not ASCII, which
/// servers before 16 write as it is.
pub(super) fn write_char(bytes: &[u8], out: &mut BytesMut) -> Result<()> {
    match single_byte(bytes)? {
        0 => {}
        byte @ 1..=0x7f => out.put_u8(byte),
        byte => {
            out.extend_from_slice(&[b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)])
        }
    }
    Ok(())
}

pub(super) fn read_char(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.push(match text {
        [] => 0,
        [byte] => *byte,
        [b'\\', high @ b'2'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7'] => {
            (high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0')
        }
        _ => return Err(CodecError::Malformed("one byte")),
    });
    Ok(())
}

fn tid_parts(bytes: &[u8]) -> Result<(u32, u16)> {
    let mut cursor = Cursor::new(bytes);
    let parts = (cursor.u32()?, cursor.u16()?);
    cursor.finish()?;
    Ok(parts)
}

pub(super) fn check_tid(bytes: &[u8]) -> Result<()> {
    tid_parts(bytes).map(|_| ())
}

/// `(block,offset)`
pub(super) fn write_tid(bytes: &[u8], out: &mut BytesMut) -> Result<()> {
    let (block, offset) = tid_parts(bytes)?;
    out.extend_from_slice(b"(");
    write_u64(u64::from(block), out);
    out.extend_from_slice(b",");
    write_u64(u64::from(offset), out);
    out.extend_from_slice(b")");
    Ok(())
}

pub(super) fn read_tid(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    const EXPECTED: CodecError = CodecError::Malformed("a block and an offset");
    let mut cursor = Cursor::new(text);
    cursor.expect(b'(', "an opening parenthesis")?;
    let block = u32::try_from(cursor.number()?).map_err(|_| EXPECTED)?;
    cursor.expect(b',', "a comma")?;
    let offset = u16::try_from(cursor.number()?).map_err(|_| EXPECTED)?;
    cursor.expect(b')', "a closing parenthesis")?;
    cursor.finish()?;
    out.put_u32(block);
    out.put_u16(offset);
    Ok(())
}

/// The unsigned 64 bits of a `pg_lsn` or `xid8`.
fn u64_part(bytes: &[u8]) -> Result<u64> {
    let mut cursor = Cursor::new(bytes);
    let value = cursor.u64()?;
    cursor.finish()?;
    Ok(value)
}

pub(super) fn check_u64(bytes: &[u8]) -> Result<()> {
    u64_part(bytes).map(|_| ())
}

pub(super) fn write_lsn(bytes: &[u8], out: &mut BytesMut) -> Result<()> {
    // Writing to a growing buffer cannot fail.
    let _ = write!(out, "{}", Lsn(u64_part(bytes)?));
    Ok(())
}

pub(super) fn read_lsn(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    const EXPECTED: CodecError = CodecError::Malformed("an LSN");
    let lsn: Lsn = std::str::from_utf8(text).map_err(|_| EXPECTED)?.parse().map_err(|_| EXPECTED)?;
    out.put_u64(lsn.0);
    Ok(())
}

pub(super) fn write_xid8(bytes: &[u8], out: &mut BytesMut) -> Result<()> {
    write_u64(u64_part(bytes)?, out);
    Ok(())
}

pub(super) fn read_xid8(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.put_u64(parse_u64(text)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_char_comes_back() {
        for byte in 0..=255u8 {
            let mut text = BytesMut::new();
            write_char(&[byte], &mut text).unwrap();
            let mut read = Vec::new();
            read_char(&text, &mut read).unwrap();
            assert_eq!(read, [byte]);
        }
        let mut text = BytesMut::new();
        write_char(&[0xC3], &mut text).unwrap();
        assert_eq!(&text[..], b"\\303");
        assert!(check_char(b"").is_err() && check_char(b"ab").is_err());
    }

    #[test]
    fn tid_and_lsn_come_back() {
        for text in ["(0,1)", "(4294967295,65535)"] {
            let (mut wire, mut out) = (Vec::new(), BytesMut::new());
            read_tid(text.as_bytes(), &mut wire).unwrap();
            write_tid(&wire, &mut out).unwrap();
            assert_eq!(&out[..], text.as_bytes());
        }
        for bad in ["", "(1)", "(1,65536)", "(4294967296,1)", "(1,1", "(1,1) "] {
            assert!(read_tid(bad.as_bytes(), &mut Vec::new()).is_err(), "{bad}");
        }
        let (mut wire, mut out) = (Vec::new(), BytesMut::new());
        read_lsn(b"16/B374D848", &mut wire).unwrap();
        write_lsn(&wire, &mut out).unwrap();
        assert_eq!(&out[..], b"16/B374D848");
    }
}
