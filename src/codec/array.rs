//! Arrays: dimensions and bounds, then elements with the last dimension fastest.

use bytes::{BufMut, BytesMut};

use super::{
    CodecError, Result,
    binary::read_field,
    cursor::Cursor,
    integer::{parse, write_i64},
    quoting::{Style, Written, is_null_word, quote_from, read_part},
    text::{append_field, write_field},
};
use crate::types::PgType;

/// `MAXDIM`
const MAX_DIMENSIONS: usize = 6;
/// `MaxArraySize`: `MaxAllocSize` over the size of a datum.
const MAX_ELEMENTS: usize = 0x3fff_ffff / 8;

const EXPECTED: CodecError = CodecError::Malformed("an array");

#[derive(Clone, Copy)]
struct Dimension {
    len: usize,
    lower: i32,
}

/// Reads the header. What it promises to follow may not be there.
fn header(element: &PgType, cursor: &mut Cursor<'_>) -> Result<(bool, Vec<Dimension>)> {
    let count = cursor.count()?;
    let has_nulls = match cursor.i32()? {
        0 => false,
        1 => true,
        _ => return Err(EXPECTED),
    };
    if count > MAX_DIMENSIONS || cursor.u32()? != element.oid.0 {
        return Err(EXPECTED);
    }
    let mut dimensions = Vec::with_capacity(count);
    for _ in 0..count {
        let dimension = Dimension { len: cursor.count()?, lower: cursor.i32()? };
        upper(dimension)?;
        dimensions.push(dimension);
    }
    Ok((has_nulls, dimensions))
}

/// The upper bound of a dimension, which must be a 32-bit number.
fn upper(dimension: Dimension) -> Result<i32> {
    let upper = i64::from(dimension.lower) + dimension.len as i64 - 1;
    // `ArrayCheckBounds` wants the bound after the last one to fit as well.
    if upper >= i64::from(i32::MAX) { Err(EXPECTED) } else { i32::try_from(upper).map_err(|_| EXPECTED) }
}

fn elements(dimensions: &[Dimension]) -> Result<usize> {
    if dimensions.is_empty() {
        return Ok(0);
    }
    let count = dimensions.iter().try_fold(1usize, |product, d| product.checked_mul(d.len));
    count.filter(|count| *count <= MAX_ELEMENTS).ok_or(EXPECTED)
}

pub(super) fn check(element: &PgType, bytes: &[u8], depth: usize) -> Result<()> {
    let mut cursor = Cursor::new(bytes);
    let (has_nulls, dimensions) = header(element, &mut cursor)?;
    for _ in 0..elements(&dimensions)? {
        match cursor.field()? {
            Some(field) => {
                read_field(element, field, depth)?;
            }
            None if has_nulls => {}
            None => return Err(EXPECTED),
        }
    }
    cursor.finish()
}

/// `array_out`
pub(super) fn write_text(
    element: &PgType,
    delimiter: u8,
    bytes: &[u8],
    out: &mut BytesMut,
    depth: usize,
) -> Result<()> {
    let mut cursor = Cursor::new(bytes);
    let (_, dimensions) = header(element, &mut cursor)?;
    let count = elements(&dimensions)?;
    if count == 0 {
        out.extend_from_slice(b"{}");
        return Ok(());
    }
    if dimensions.iter().any(|d| d.lower != 1) {
        for dimension in &dimensions {
            out.extend_from_slice(b"[");
            write_i64(i64::from(dimension.lower), out);
            out.extend_from_slice(b":");
            write_i64(i64::from(upper(*dimension)?), out);
            out.extend_from_slice(b"]");
        }
        out.extend_from_slice(b"=");
    }
    for index in 0..count {
        // Braces open before an element that is the first of its dimension, innermost last.
        let opening = boundary(index, &dimensions);
        if index > 0 {
            out.put_bytes(b'}', opening);
            out.put_u8(delimiter);
        }
        out.put_bytes(b'{', if index == 0 { dimensions.len() } else { opening });
        match cursor.field()? {
            Some(field) => {
                let start = out.len();
                write_field(element, field, out, depth)?;
                quote_from(start, Style::Array(delimiter), out);
            }
            None => out.extend_from_slice(b"NULL"),
        }
    }
    out.put_bytes(b'}', dimensions.len());
    cursor.finish()
}

/// How many of the innermost dimensions begin anew at the element of this index.
fn boundary(index: usize, dimensions: &[Dimension]) -> usize {
    let mut stride = 1usize;
    let outer = dimensions.iter().skip(1).rev();
    outer
        .take_while(|dimension| {
            stride = stride.saturating_mul(dimension.len.max(1));
            index.is_multiple_of(stride)
        })
        .count()
}

/// Appends the wire form.
pub(super) fn read_text(
    element: &PgType,
    delimiter: u8,
    text: &[u8],
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<()> {
    let mut cursor = Cursor::new(text);
    let bounds = read_bounds(&mut cursor)?;
    let mut parser = Parser {
        element,
        delimiter,
        depth,
        cursor,
        dimensions: [None; MAX_DIMENSIONS],
        leaf: None,
        has_nulls: false,
        part: Vec::new(),
        elements: Vec::new(),
    };
    if parser.cursor.eat_all(b"{}") {
        parser.leaf = Some(0);
    } else {
        parser.level(0)?;
    }
    parser.cursor.finish()?;

    let count = parser.leaf.unwrap_or(0);
    if !bounds.is_empty() && bounds.len() != count {
        return Err(EXPECTED);
    }
    out.put_i32(count as i32);
    out.put_i32(i32::from(parser.has_nulls));
    out.put_u32(element.oid.0);
    for (index, len) in parser.dimensions.iter().take(count).enumerate() {
        let len = len.unwrap_or(0);
        let (lower, upper_bound) = match bounds.get(index) {
            Some((lower, upper)) => (*lower, Some(*upper)),
            None => (1, None),
        };
        let computed = upper(Dimension { len, lower })?;
        if upper_bound.is_some_and(|bound| bound != computed) {
            return Err(EXPECTED);
        }
        out.put_i32(i32::try_from(len).map_err(|_| EXPECTED)?);
        out.put_i32(lower);
    }
    out.extend_from_slice(&parser.elements);
    Ok(())
}

/// `[lower:upper]..=`, or nothing.
fn read_bounds(cursor: &mut Cursor<'_>) -> Result<Vec<(i32, i32)>> {
    let mut bounds = Vec::new();
    while cursor.eat(b'[') {
        let lower = parse(cursor.until(|byte| byte == b':'))?;
        cursor.expect(b':', "a colon")?;
        let upper = parse(cursor.until(|byte| byte == b']'))?;
        cursor.expect(b']', "a closing bracket")?;
        bounds.push((lower, upper));
        if bounds.len() > MAX_DIMENSIONS {
            return Err(EXPECTED);
        }
    }
    if !bounds.is_empty() {
        cursor.expect(b'=', "an equals sign")?;
    }
    Ok(bounds)
}

struct Parser<'a> {
    element: &'a PgType,
    delimiter: u8,
    depth: usize,
    cursor: Cursor<'a>,
    /// Lengths, known when the first sub-array of the dimension has ended.
    dimensions: [Option<usize>; MAX_DIMENSIONS],
    /// How many braces stand around an element, known from the first.
    leaf: Option<usize>,
    has_nulls: bool,
    part: Vec<u8>,
    elements: Vec<u8>,
}

impl Parser<'_> {
    /// Reads one `{..}` that stands in `level` others.
    fn level(&mut self, level: usize) -> Result<()> {
        if level >= MAX_DIMENSIONS {
            return Err(EXPECTED);
        }
        self.cursor.expect(b'{', "an opening brace")?;
        let mut len = 0;
        loop {
            if self.cursor.peek() == Some(b'{') {
                self.level(level + 1)?;
            } else {
                if *self.leaf.get_or_insert(level + 1) != level + 1 {
                    return Err(EXPECTED);
                }
                self.item()?;
            }
            len += 1;
            if !self.cursor.eat(self.delimiter) {
                break;
            }
        }
        self.cursor.expect(b'}', "a closing brace")?;
        let known = self.dimensions.get_mut(level).ok_or(EXPECTED)?.get_or_insert(len);
        if *known == len { Ok(()) } else { Err(EXPECTED) }
    }

    fn item(&mut self) -> Result<()> {
        let written = read_part(&mut self.cursor, Style::Array(self.delimiter), &mut self.part)?;
        if written == Written::Plain && self.part.is_empty() {
            return Err(EXPECTED);
        }
        if written == Written::Plain && is_null_word(&self.part) {
            self.has_nulls = true;
            self.elements.put_i32(-1);
            return Ok(());
        }
        append_field(self.element, &self.part, &mut self.elements, self.depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{TypeKind, TypeOid};

    fn int4() -> PgType {
        PgType { oid: TypeOid(23), name: "int4".into(), len: 4, kind: TypeKind::Int4 }
    }

    fn round_trip(text: &str) -> Vec<u8> {
        let (mut wire, mut out) = (Vec::new(), BytesMut::new());
        assert_eq!(read_text(&int4(), b',', text.as_bytes(), &mut wire, 0), Ok(()), "{text}");
        assert_eq!(check(&int4(), &wire, 0), Ok(()), "{text}");
        write_text(&int4(), b',', &wire, &mut out, 0).unwrap();
        assert_eq!(std::str::from_utf8(&out), Ok(text));
        wire
    }

    #[test]
    fn arrays_are_written_and_read() {
        for text in [
            "{}",
            "{1}",
            "{1,NULL,3}",
            "{{1,2},{3,4}}",
            "{{{1,2,3}},{{4,5,NULL}}}",
            "{{{{{{7}}}}}}",
            "[0:1]={1,2}",
            "[-5:-5][2:3]={{1,2}}",
            "{{1},{2},{3}}",
            "{{{1},{2}},{{3},{4}},{{5},{6}}}",
        ] {
            round_trip(text);
        }
        let expected = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0, 9];
        assert_eq!(round_trip("[5:5]={9}"), expected);
    }

    #[test]
    fn bad_arrays_are_refused() {
        for bad in [
            "",
            "{",
            "}",
            "{1",
            "{1,}",
            "{,1}",
            "{1,{2}}",
            "{{1},2}",
            "{{1},{2,3}}",
            "{{}}",
            "{1}x",
            "[1:2]={1}",
            "[1:1]{1}",
            "[1:1][1:1]={1}",
            "[2147483646:2147483647]={1,2}",
            "{{{{{{{1}}}}}}}",
            "{\"1",
            "{a}",
        ] {
            assert!(read_text(&int4(), b',', bad.as_bytes(), &mut Vec::new(), 0).is_err(), "{bad}");
        }
        let wire = round_trip("{1,2}");
        for len in 0..wire.len() {
            assert!(check(&int4(), &wire[..len], 0).is_err());
        }
        // A huge count that nothing follows.
        let mut huge = wire.clone();
        huge[12..16].copy_from_slice(&[0, 0xff, 0xff, 0xff]);
        assert!(check(&int4(), &huge, 0).is_err());
    }
}
