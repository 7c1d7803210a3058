//! The geometric types: coordinates are `float8`, written as such.

use bytes::{BufMut, BytesMut};

use super::{CodecError, Result, cursor::Cursor, float};

/// The shapes and how each frames its coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `(x,y)`
    Point,
    /// `{A,B,C}`
    Line,
    /// `[(x1,y1),(x2,y2)]`
    Lseg,
    /// `(x1,y1),(x2,y2)`, upper right corner first.
    Box,
    /// `[(x,y),..]` open, `((x,y),..)` closed; the wire form begins with a flag and a count.
    Path,
    /// `((x,y),..)`; the wire form begins with a count.
    Polygon,
    /// `<(x,y),r>`
    Circle,
}

const EXPECTED: CodecError = CodecError::Malformed("a geometric value");

/// What stands before and after the points in text, and how many points there are.
struct Frame {
    open: &'static [u8],
    close: &'static [u8],
    points: usize,
}

fn frame(shape: Shape, cursor: &mut Cursor<'_>) -> Result<Frame> {
    let frame = |open, close, points| Ok(Frame { open, close, points });
    match shape {
        Shape::Point | Shape::Circle | Shape::Line => frame(b"", b"", 1),
        Shape::Lseg => frame(b"[", b"]", 2),
        Shape::Box => frame(b"", b"", 2),
        Shape::Path => match cursor.u8()? {
            0 => frame(b"[", b"]", cursor.count()?),
            1 => frame(b"(", b")", cursor.count()?),
            _ => Err(EXPECTED),
        },
        Shape::Polygon => frame(b"(", b")", cursor.count()?),
    }
}

pub(super) fn check(shape: Shape, bytes: &[u8]) -> Result<()> {
    let mut cursor = Cursor::new(bytes);
    let points = frame(shape, &mut cursor)?.points;
    let extra = match shape {
        Shape::Point | Shape::Lseg | Shape::Box => 0,
        Shape::Line | Shape::Circle => 8,
        Shape::Path | Shape::Polygon if points > 0 => 0,
        Shape::Path | Shape::Polygon => return Err(EXPECTED),
    };
    if points.checked_mul(16).and_then(|len| len.checked_add(extra)) == Some(cursor.rest().len()) {
        Ok(())
    } else {
        Err(EXPECTED)
    }
}

pub(super) fn write_text(shape: Shape, bytes: &[u8], out: &mut BytesMut) -> Result<()> {
    let mut cursor = Cursor::new(bytes);
    match shape {
        Shape::Line => {
            for before in [b"{", b",", b","] {
                out.extend_from_slice(before);
                float::write_f64(cursor.f64()?, out);
            }
            out.extend_from_slice(b"}");
        }
        Shape::Circle => {
            out.extend_from_slice(b"<");
            write_point(&mut cursor, out)?;
            out.extend_from_slice(b",");
            float::write_f64(cursor.f64()?, out);
            out.extend_from_slice(b">");
        }
        _ => {
            let frame = frame(shape, &mut cursor)?;
            out.extend_from_slice(frame.open);
            for index in 0..frame.points {
                if index > 0 {
                    out.extend_from_slice(b",");
                }
                write_point(&mut cursor, out)?;
            }
            out.extend_from_slice(frame.close);
        }
    }
    cursor.finish()
}

fn write_point(cursor: &mut Cursor<'_>, out: &mut BytesMut) -> Result<()> {
    out.extend_from_slice(b"(");
    float::write_f64(cursor.f64()?, out);
    out.extend_from_slice(b",");
    float::write_f64(cursor.f64()?, out);
    out.extend_from_slice(b")");
    Ok(())
}

/// Appends the wire form.
pub(super) fn read_text(shape: Shape, text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut cursor = Cursor::new(text);
    match shape {
        Shape::Point => read_points(&mut cursor, 1, out)?,
        Shape::Box => read_points(&mut cursor, 2, out)?,
        Shape::Line => {
            for before in [b'{', b',', b','] {
                cursor.expect(before, "a line")?;
                read_number(&mut cursor, out)?;
            }
            cursor.expect(b'}', "a line")?;
        }
        Shape::Circle => {
            cursor.expect(b'<', "a circle")?;
            read_points(&mut cursor, 1, out)?;
            cursor.expect(b',', "a circle")?;
            read_number(&mut cursor, out)?;
            cursor.expect(b'>', "a circle")?;
        }
        Shape::Lseg => {
            cursor.expect(b'[', "a line segment")?;
            read_points(&mut cursor, 2, out)?;
            cursor.expect(b']', "a line segment")?;
        }
        Shape::Path | Shape::Polygon => {
            let closed = cursor.eat(b'(');
            if !closed {
                cursor.expect(b'[', "a bracket")?;
            }
            if shape == Shape::Path {
                out.push(u8::from(closed));
            } else if !closed {
                return Err(EXPECTED);
            }
            // Each point has one opening parenthesis, the frame's own is read.
            let points = cursor.rest().iter().filter(|byte| **byte == b'(').count();
            if points == 0 {
                return Err(EXPECTED);
            }
            out.put_i32(i32::try_from(points).map_err(|_| EXPECTED)?);
            read_points(&mut cursor, points, out)?;
            cursor.expect(if closed { b')' } else { b']' }, "a closing bracket")?;
        }
    }
    cursor.finish()
}

fn read_points(cursor: &mut Cursor<'_>, count: usize, out: &mut Vec<u8>) -> Result<()> {
    for index in 0..count {
        if index > 0 {
            cursor.expect(b',', "a comma")?;
        }
        cursor.expect(b'(', "a point")?;
        read_number(cursor, out)?;
        cursor.expect(b',', "a point")?;
        read_number(cursor, out)?;
        cursor.expect(b')', "a point")?;
    }
    Ok(())
}

fn read_number(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<()> {
    let text = cursor.until(|byte| matches!(byte, b',' | b')' | b'}' | b'>'));
    out.put_f64(float::parse_f64(text)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_written_and_read() {
        for (shape, text) in [
            (Shape::Point, "(1.5,-2)"),
            (Shape::Point, "(NaN,Infinity)"),
            (Shape::Line, "{1,-1,0}"),
            (Shape::Lseg, "[(0,0),(1,1e+20)]"),
            (Shape::Box, "(2,2),(1,1)"),
            (Shape::Path, "[(0,0)]"),
            (Shape::Path, "((0,0),(1,1),(2,0))"),
            (Shape::Polygon, "((0,0),(1,1),(2,0))"),
            (Shape::Circle, "<(1,2),3.25>"),
        ] {
            let (mut wire, mut out) = (Vec::new(), BytesMut::new());
            assert_eq!(read_text(shape, text.as_bytes(), &mut wire), Ok(()), "{text}");
            assert_eq!(check(shape, &wire), Ok(()), "{text}");
            write_text(shape, &wire, &mut out).unwrap();
            assert_eq!(std::str::from_utf8(&out), Ok(text));
        }
        for (shape, bad) in [
            (Shape::Point, "1,2"),
            (Shape::Point, "(1,2"),
            (Shape::Box, "(1,1)"),
            (Shape::Path, "()"),
            (Shape::Path, "((1,1)]"),
            (Shape::Polygon, "[(1,1)]"),
            (Shape::Circle, "<(1,2)>"),
        ] {
            assert!(read_text(shape, bad.as_bytes(), &mut Vec::new()).is_err(), "{bad}");
        }
        assert!(check(Shape::Polygon, &[0x7f, 0xff, 0xff, 0xff]).is_err());
    }
}
