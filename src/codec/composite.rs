//! Composite values: a count, then each field's type, length and value.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::{
    CodecError, Result,
    binary::read_field,
    cursor::Cursor,
    quoting::{Style, Written, quote_from, read_part},
    text::{append_field, write_field},
};
use crate::types::PgType;

const EXPECTED: CodecError = CodecError::Malformed("a composite of the type's fields");

/// Gives each field's type and bytes.
fn fields<'a>(
    types: &[Arc<PgType>],
    bytes: &'a [u8],
    mut each: impl FnMut(&PgType, Option<&'a [u8]>) -> Result<()>,
) -> Result<()> {
    let mut cursor = Cursor::new(bytes);
    if cursor.count()? != types.len() {
        return Err(EXPECTED);
    }
    for ty in types {
        if cursor.u32()? != ty.oid.0 {
            return Err(EXPECTED);
        }
        each(ty, cursor.field()?)?;
    }
    cursor.finish()
}

pub(super) fn check(types: &[Arc<PgType>], bytes: &[u8], depth: usize) -> Result<()> {
    fields(types, bytes, |ty, field| match field {
        Some(field) => read_field(ty, field, depth).map(|_| ()),
        None => Ok(()),
    })
}

/// `record_out`
pub(super) fn write_text(
    types: &[Arc<PgType>],
    bytes: &[u8],
    out: &mut BytesMut,
    depth: usize,
) -> Result<()> {
    let mut before: &[u8] = b"(";
    fields(types, bytes, |ty, field| {
        out.extend_from_slice(before);
        before = b",";
        if let Some(field) = field {
            let start = out.len();
            write_field(ty, field, out, depth)?;
            quote_from(start, Style::Composite, out);
        }
        Ok(())
    })?;
    out.extend_from_slice(if types.is_empty() { b"()" } else { b")" });
    Ok(())
}

/// Appends the wire form.
pub(super) fn read_text(types: &[Arc<PgType>], text: &[u8], out: &mut Vec<u8>, depth: usize) -> Result<()> {
    let mut cursor = Cursor::new(text);
    cursor.expect(b'(', "an opening parenthesis")?;
    out.put_i32(i32::try_from(types.len()).map_err(|_| EXPECTED)?);
    let mut part = Vec::new();
    for (index, ty) in types.iter().enumerate() {
        if index > 0 {
            cursor.expect(b',', "a comma")?;
        }
        out.put_u32(ty.oid.0);
        let written = read_part(&mut cursor, Style::Composite, &mut part)?;
        if written == Written::Plain && part.is_empty() {
            out.put_i32(-1);
        } else {
            append_field(ty, &part, out, depth)?;
        }
    }
    cursor.expect(b')', "a closing parenthesis")?;
    cursor.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{TypeKind, TypeOid};

    fn types() -> Vec<Arc<PgType>> {
        [(23, TypeKind::Int4), (25, TypeKind::Text), (17, TypeKind::Bytea)]
            .into_iter()
            .map(|(oid, kind)| Arc::new(PgType { oid: TypeOid(oid), name: String::new(), len: -1, kind }))
            .collect()
    }

    #[test]
    fn composites_are_written_and_read() {
        for text in ["(1,a,\"\\\\x00\")", "(,,)", "(,\"\",)", "(-5,\"a b\",)", "(1,\"\"\"\",)", "(1,NULL,)"] {
            let (mut wire, mut out) = (Vec::new(), BytesMut::new());
            assert_eq!(read_text(&types(), text.as_bytes(), &mut wire, 0), Ok(()), "{text}");
            assert_eq!(check(&types(), &wire, 0), Ok(()), "{text}");
            write_text(&types(), &wire, &mut out, 0).unwrap();
            assert_eq!(std::str::from_utf8(&out), Ok(text));
        }
        let mut out = BytesMut::new();
        write_text(&[], &[0, 0, 0, 0], &mut out, 0).unwrap();
        assert_eq!(&out[..], b"()");
        for bad in ["", "(", "(1,a)", "(1,a,,)", "(1,a,", "(1,a,)x", "1,a,"] {
            assert!(read_text(&types(), bad.as_bytes(), &mut Vec::new(), 0).is_err(), "{bad}");
        }
    }
}
