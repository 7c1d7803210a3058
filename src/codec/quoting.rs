//! Quoting of the parts of arrays, composites and ranges in text.

use bytes::BytesMut;

use super::{CodecError, Result, cursor::Cursor};

/// Whose rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `array_out`, with the element type's delimiter.
    Array(u8),
    /// `record_out`
    Composite,
    /// `range_out`
    Range,
}

/// How a part was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Plain,
    Quoted,
}

impl Style {
    /// A byte that puts its part in quotes.
    fn is_special(self, byte: u8) -> bool {
        match byte {
            b'"' | b'\\' | b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r' => true,
            b'{' | b'}' => matches!(self, Style::Array(_)),
            b'(' | b')' => !matches!(self, Style::Array(_)),
            b'[' | b']' => self == Style::Range,
            _ => {
                byte == match self {
                    Style::Array(delimiter) => delimiter,
                    Style::Composite | Style::Range => b',',
                }
            }
        }
    }

    fn needs_quotes(self, part: &[u8]) -> bool {
        part.is_empty()
            || part.iter().any(|byte| self.is_special(*byte))
            || matches!(self, Style::Array(_)) && is_null_word(part)
    }
}

/// What an array takes for NULL when it is not in quotes.
pub(super) fn is_null_word(part: &[u8]) -> bool {
    part.eq_ignore_ascii_case(b"NULL")
}

/// Puts what was appended from `start` on in quotes, if its text needs them.
pub(super) fn quote_from(start: usize, style: Style, out: &mut BytesMut) {
    let part = out.get(start..).unwrap_or_default();
    if !style.needs_quotes(part) {
        return;
    }
    let part = part.to_vec();
    out.truncate(start);
    out.reserve(part.len() + 2);
    out.extend_from_slice(b"\"");
    for byte in part {
        if matches!(byte, b'"' | b'\\') {
            // Arrays escape, the others double.
            out.extend_from_slice(&[if matches!(style, Style::Array(_)) { b'\\' } else { byte }]);
        }
        out.extend_from_slice(&[byte]);
    }
    out.extend_from_slice(b"\"");
}

/// Reads a part into `part`, up to what ends it.
pub(super) fn read_part(cursor: &mut Cursor<'_>, style: Style, part: &mut Vec<u8>) -> Result<Written> {
    part.clear();
    if !cursor.eat(b'"') {
        part.extend_from_slice(cursor.until(|byte| style.is_special(byte)));
        return Ok(Written::Plain);
    }
    loop {
        part.extend_from_slice(cursor.until(|byte| matches!(byte, b'"' | b'\\')));
        let doubles = !matches!(style, Style::Array(_));
        match (cursor.u8()?, cursor.peek()) {
            (b'\\', Some(_)) => part.push(cursor.u8()?),
            (b'"', Some(b'"')) if doubles => part.push(cursor.u8()?),
            (b'"', _) => return Ok(Written::Quoted),
            _ => return Err(CodecError::Malformed("a closing quote")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        for style in [Style::Array(b','), Style::Array(b';'), Style::Composite, Style::Range] {
            for part in
                ["", "a", "null", "NULL", "a b", "\"", "\\", "a\"b\\c", "{}", "()", "[]", ",", ";", "é\t"]
            {
                let mut out = BytesMut::from(&b"x"[..]);
                out.extend_from_slice(part.as_bytes());
                quote_from(1, style, &mut out);
                let mut cursor = Cursor::new(out.get(1..).unwrap());
                let mut read = Vec::new();
                let written = read_part(&mut cursor, style, &mut read).unwrap();
                assert!(cursor.is_empty());
                assert_eq!(read, part.as_bytes());
                assert_eq!(written == Written::Quoted, style.needs_quotes(part.as_bytes()));
            }
        }
    }

    #[test]
    fn styles_differ() {
        let quoted = |part: &str, style| {
            let mut out = BytesMut::from(part.as_bytes());
            quote_from(0, style, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(quoted("a\"b", Style::Array(b',')), "\"a\\\"b\"");
        assert_eq!(quoted("a\"b", Style::Composite), "\"a\"\"b\"");
        assert_eq!(quoted("NULL", Style::Array(b',')), "\"NULL\"");
        assert_eq!(quoted("NULL", Style::Composite), "NULL");
        assert_eq!(quoted("[", Style::Composite), "[");
        assert_eq!(quoted("[", Style::Range), "\"[\"");
        assert_eq!(quoted("a,b", Style::Array(b';')), "a,b");
    }
}
