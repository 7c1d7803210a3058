//! Ranges and multiranges.

use bytes::{BufMut, BytesMut};

use super::{
    CodecError, Result,
    binary::read_field,
    cursor::Cursor,
    quoting::{Style, Written, quote_from, read_part},
    text::{append_field, write_field},
};
use crate::types::PgType;

// Flags of `rangetypes.h`.
const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;

const EXPECTED: CodecError = CodecError::Malformed("a range");
const EXPECTED_MULTIRANGE: CodecError = CodecError::Malformed("a multirange");

struct Parts<'a> {
    flags: u8,
    lower: Option<&'a [u8]>,
    upper: Option<&'a [u8]>,
}

fn parts(bytes: &[u8]) -> Result<Parts<'_>> {
    let mut cursor = Cursor::new(bytes);
    let flags = cursor.u8()?;
    // The server gives an empty range no other flag, and an infinite bound is never inclusive.
    let both = |pair: u8| flags & pair == pair;
    if flags > 0x1f
        || flags & EMPTY != 0 && flags != EMPTY
        || both(LOWER_INCLUSIVE | LOWER_INFINITE)
        || both(UPPER_INCLUSIVE | UPPER_INFINITE)
    {
        return Err(EXPECTED);
    }
    let mut bound = |infinite: u8| {
        if flags & (EMPTY | infinite) != 0 { Ok(None) } else { cursor.field()?.ok_or(EXPECTED).map(Some) }
    };
    let (lower, upper) = (bound(LOWER_INFINITE)?, bound(UPPER_INFINITE)?);
    cursor.finish()?;
    Ok(Parts { flags, lower, upper })
}

pub(super) fn check(subtype: &PgType, bytes: &[u8], depth: usize) -> Result<()> {
    let parts = parts(bytes)?;
    for bound in [parts.lower, parts.upper].into_iter().flatten() {
        read_field(subtype, bound, depth)?;
    }
    Ok(())
}

/// `range_out`
pub(super) fn write_text(subtype: &PgType, bytes: &[u8], out: &mut BytesMut, depth: usize) -> Result<()> {
    let parts = parts(bytes)?;
    if parts.flags & EMPTY != 0 {
        out.extend_from_slice(b"empty");
        return Ok(());
    }
    out.extend_from_slice(if parts.flags & LOWER_INCLUSIVE != 0 { b"[" } else { b"(" });
    write_bound(subtype, parts.lower, out, depth)?;
    out.extend_from_slice(b",");
    write_bound(subtype, parts.upper, out, depth)?;
    out.extend_from_slice(if parts.flags & UPPER_INCLUSIVE != 0 { b"]" } else { b")" });
    Ok(())
}

fn write_bound(subtype: &PgType, bound: Option<&[u8]>, out: &mut BytesMut, depth: usize) -> Result<()> {
    if let Some(bound) = bound {
        let start = out.len();
        write_field(subtype, bound, out, depth)?;
        quote_from(start, Style::Range, out);
    }
    Ok(())
}

/// Appends the wire form.
pub(super) fn read_text(subtype: &PgType, text: &[u8], out: &mut Vec<u8>, depth: usize) -> Result<()> {
    let mut cursor = Cursor::new(text);
    read_one(subtype, &mut cursor, out, depth)?;
    cursor.finish()
}

fn read_one(subtype: &PgType, cursor: &mut Cursor<'_>, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    if cursor.eat_all(b"empty") {
        out.push(EMPTY);
        return Ok(());
    }
    let at = out.len();
    out.push(0);
    let mut flags = match cursor.u8()? {
        b'[' => LOWER_INCLUSIVE,
        b'(' => 0,
        _ => return Err(EXPECTED),
    };
    if !read_bound(subtype, cursor, out, depth)? {
        flags |= LOWER_INFINITE;
    }
    cursor.expect(b',', "a comma")?;
    if !read_bound(subtype, cursor, out, depth)? {
        flags |= UPPER_INFINITE;
    }
    match cursor.u8()? {
        b']' => flags |= UPPER_INCLUSIVE,
        b')' => {}
        _ => return Err(EXPECTED),
    }
    if let Some(slot) = out.get_mut(at) {
        *slot = flags;
    }
    parts(out.get(at..).unwrap_or_default()).map(|_| ())
}

/// Appends a bound and says whether there was one.
fn read_bound(subtype: &PgType, cursor: &mut Cursor<'_>, out: &mut Vec<u8>, depth: usize) -> Result<bool> {
    let mut part = Vec::new();
    let written = read_part(cursor, Style::Range, &mut part)?;
    if written == Written::Plain && part.is_empty() {
        return Ok(false);
    }
    append_field(subtype, &part, out, depth)?;
    Ok(true)
}

/// A multirange is a count, and each of its ranges with a length before it.
fn ranges(bytes: &[u8], mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut cursor = Cursor::new(bytes);
    for _ in 0..cursor.count()? {
        each(cursor.field()?.ok_or(EXPECTED_MULTIRANGE)?)?;
    }
    cursor.finish()
}

pub(super) fn check_multirange(subtype: &PgType, bytes: &[u8], depth: usize) -> Result<()> {
    ranges(bytes, |range| check(subtype, range, depth))
}

/// `multirange_out`
pub(super) fn write_multirange(
    subtype: &PgType,
    bytes: &[u8],
    out: &mut BytesMut,
    depth: usize,
) -> Result<()> {
    out.extend_from_slice(b"{");
    let mut first = true;
    ranges(bytes, |range| {
        if !first {
            out.extend_from_slice(b",");
        }
        first = false;
        write_text(subtype, range, out, depth)
    })?;
    out.extend_from_slice(b"}");
    Ok(())
}

/// Appends the wire form.
pub(super) fn read_multirange(subtype: &PgType, text: &[u8], out: &mut Vec<u8>, depth: usize) -> Result<()> {
    let mut cursor = Cursor::new(text);
    cursor.expect(b'{', "an opening brace")?;
    let at = out.len();
    out.put_i32(0);
    let mut count = 0i32;
    if !cursor.eat(b'}') {
        loop {
            let start = out.len();
            out.put_i32(0);
            read_one(subtype, &mut cursor, out, depth)?;
            let len = out.len() - start - 4;
            set_i32(out, start, len)?;
            count = count.checked_add(1).ok_or(EXPECTED_MULTIRANGE)?;
            if cursor.eat(b'}') {
                break;
            }
            cursor.expect(b',', "a comma")?;
        }
    }
    cursor.finish()?;
    set_i32(out, at, count as usize)
}

/// Fills in a count or length that was left out before.
pub(super) fn set_i32(out: &mut [u8], at: usize, value: usize) -> Result<()> {
    let value = i32::try_from(value).map_err(|_| CodecError::Malformed("fewer than 2 GB"))?;
    if let Some(slot) = out.get_mut(at..at + 4) {
        slot.copy_from_slice(&value.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{TypeKind, TypeOid};

    fn subtype(kind: TypeKind) -> PgType {
        PgType { oid: TypeOid(23), name: String::new(), len: 4, kind }
    }

    #[test]
    fn ranges_are_written_and_read() {
        let int4 = subtype(TypeKind::Int4);
        for text in ["empty", "[1,5)", "(,)", "(,5]", "[1,)", "(1,5)", "[-1,5]"] {
            let (mut wire, mut out) = (Vec::new(), BytesMut::new());
            assert_eq!(read_text(&int4, text.as_bytes(), &mut wire, 0), Ok(()), "{text}");
            assert_eq!(check(&int4, &wire, 0), Ok(()), "{text}");
            write_text(&int4, &wire, &mut out, 0).unwrap();
            assert_eq!(std::str::from_utf8(&out), Ok(text));
        }
        for bad in
            ["", "[", "[1", "[1,", "[1,2", "[,1)", "(1,]", "[1,2}", "[1,2)x", "empty ", "[a,b)", "[1,2,3)"]
        {
            assert!(read_text(&int4, bad.as_bytes(), &mut Vec::new(), 0).is_err(), "{bad}");
        }
        for bad in
            [&[][..], &[0], &[3], &[0x20], &[0x0a, 0, 0, 0, 0], &[0x18, 1], &[0x08, 0xff, 0xff, 0xff, 0xff]]
        {
            assert!(check(&int4, bad, 0).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn multiranges_are_written_and_read() {
        let text_type = subtype(TypeKind::Text);
        for text in ["{}", "{[a,b)}", "{(,\"\"],[\"(\",\"a,\"\"b\"),(z,)}"] {
            let (mut wire, mut out) = (Vec::new(), BytesMut::new());
            assert_eq!(read_multirange(&text_type, text.as_bytes(), &mut wire, 0), Ok(()), "{text}");
            assert_eq!(check_multirange(&text_type, &wire, 0), Ok(()), "{text}");
            write_multirange(&text_type, &wire, &mut out, 0).unwrap();
            assert_eq!(std::str::from_utf8(&out), Ok(text));
        }
        for bad in ["", "{", "{[a,b)", "{[a,b),}", "{[a,b)}x", "{,}"] {
            assert!(read_multirange(&text_type, bad.as_bytes(), &mut Vec::new(), 0).is_err(), "{bad}");
        }
    }
}
